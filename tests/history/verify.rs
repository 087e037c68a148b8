//! Verification of what is in the tables, also while somebody writes there.

use chrono::Duration;
use domain::ids::ServiceKey;
use domain::ledger::head::Head;
use domain::ledger::record::RawRecord;
use domain::ledger::verify::chain::Verification;
use serde_json::Value;

use crate::made::{Made, Shape, head_item, now, raw, service as service_named, typed};
use crate::table::{HISTORY, STATE, World, delete, put};

async fn verified(world: &World, service: &ServiceKey) -> Verification {
    world.reader.verify(service).await.unwrap().0.expect("nobody is writing")
}

/// Two ledgers, and the records of the first one.
async fn world(records: usize) -> (World, Made, Vec<RawRecord>) {
    let world = World::new().await;
    let mut made = Made::new(5, 1, 2);
    made.fill(records, Duration::days(1));
    let service = made.services[0].to_string();
    let is_record = |item: &&RawRecord| item["service"] == service && item.contains_key("seq");
    let records = made.items.iter().filter(is_record).cloned().collect();
    made.store(&world);
    (world, made, records)
}

#[tokio::test]
async fn a_ledger_of_several_pages_is_right() {
    let world = World::new().await;
    let mut made = Made::new(5, 1, 1);
    for minute in 0..150 {
        made.change(0, now() + Duration::minutes(minute), Shape::Applied);
    }
    // Pages of DynamoDB end at a megabyte.
    let mut head = None;
    for item in made.items.iter_mut().filter(|item| item.contains_key("seq")) {
        item.insert("after".to_owned(), "x".repeat(20_000).into());
        let record = typed(item).linked(head.as_ref()).unwrap();
        head = Some(Head::behind(&record, head.as_ref(), None));
        *item = raw(&record);
    }
    made.heads[0] = head;
    made.store(&world);
    let (verification, cost) = world.reader.verify(&made.services[0]).await.unwrap();
    let count = made.heads[0].as_ref().unwrap().seq;
    assert_eq!(verification, Some(Verification { ok: true, verified: count, fault: None }));
    assert!(cost.calls > 5);
}

#[tokio::test]
async fn what_was_done_to_the_table_is_found() {
    let (world, made, records) = world(40).await;
    let service = &made.services[0];
    let right = verified(&world, service).await;
    assert_eq!((right.ok, right.verified), (true, made.heads[0].as_ref().unwrap().seq));
    // A service that was never changed has an empty ledger.
    let empty = verified(&world, &service_named(0, 9)).await;
    assert!(!empty.ok && empty.verified == 0 && empty.fault.unwrap().what.starts_with("empty"), "it proves nothing");

    let third = &records[2];
    let mut forged = third.clone();
    forged["requested_by"] = "somebody else".into();
    world.put(HISTORY, &[forged]);
    let fault = verified(&world, service).await.fault.unwrap();
    assert_eq!(
        (&Value::from(fault.record), fault.what.as_str()),
        (&third["record"], "changed: it does not fit its hash")
    );

    delete(&world.database, third);
    let found = verified(&world, service).await;
    assert_eq!((found.verified, Value::from(found.fault.unwrap().record)), (2, records[3]["record"].clone()));

    world.put(HISTORY, std::slice::from_ref(third));
    assert!(verified(&world, service).await.ok);
    let last = records.last().unwrap();
    delete(&world.database, last);
    let found = verified(&world, service).await;
    assert_eq!(Value::from(found.fault.unwrap().record), last["record"]);
}

#[tokio::test]
async fn a_writer_at_work_is_no_fault() {
    let (world, made, _) = world(40).await;
    let service = made.services[0].clone();
    let count = made.heads[0].as_ref().unwrap().seq;
    // One change while it is read: its records are there, and the head that was read does not know them.
    let mut calls = 0;
    let mut writer = made;
    writer.change(0, now() + Duration::seconds(1), Shape::Applied);
    let (items, head) = (std::mem::take(&mut writer.items), head_item(&service, writer.heads[0].as_ref().unwrap()));
    world.meanwhile(move |database| {
        calls += 1;
        if calls == 2 {
            put(database, HISTORY, &items);
            put(database, STATE, std::slice::from_ref(&head));
        }
    });
    let (verification, cost) = world.reader.verify(&service).await.unwrap();
    let written = writer.heads[0].as_ref().unwrap().seq;
    assert_eq!(verification, Some(Verification { ok: true, verified: written, fault: None }));
    assert!(written > count);
    assert_eq!(cost.calls, 4, "head, records, head, records");

    // Somebody who never stops: no answer rather than a wrong one.
    world.meanwhile(move |database| {
        writer.change(0, now() + Duration::seconds(2), Shape::Applied);
        put(database, HISTORY, &std::mem::take(&mut writer.items));
        put(database, STATE, &[head_item(&writer.services[0], writer.heads[0].as_ref().unwrap())]);
    });
    assert_eq!(world.reader.verify(&service).await.unwrap().0, None);
}
