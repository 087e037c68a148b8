//! A page costs the same wherever it is, and reads little more than it returns: counted in a large table.

use std::time::Instant;

use chrono::Duration;
use domain::ids::ChangeId;
use domain::ledger::query::{Page, PageCursor};
use dynoxide::Database;
use ecs_updater::aws::history_reader::Cost;
use serde_json::{Value, json};

use crate::made::{Expected, Made, now, of_service};
use crate::table::{World, parsed};

/// Made in parts, so that not everything is in memory twice.
const PART: usize = 50_000;

async fn measure(records: usize, services: usize) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(folder.path().join("history.db").to_str().unwrap()).unwrap();
    database.enable_bulk_loading().unwrap();
    let world = World::over(database).await;
    let started = Instant::now();
    let mut made = Made::new(11, 40, services);
    let span = Duration::days(30);
    for part in 0..records.div_ceil(PART) {
        let parts = i32::try_from(records.div_ceil(PART)).unwrap();
        let (from, until) = (i32::try_from(part).unwrap(), i32::try_from(part + 1).unwrap());
        made.fill_between(PART.min(records), now() - span + span / parts * from, now() - span + span / parts * until);
        made.store(&world);
    }
    println!("{records} records of {} changes made in {:?}", made.changes.len(), started.elapsed());
    println!("| query | limit | page | changes | calls | items |\n|---|---|---|---|---|---|");
    let service = made.services[1].clone();
    let account = service.account_id().clone();
    let under =
        |image: &'static str| move |change: &Expected| change.repositories.iter().any(|repository| repository == image);
    // How many items a change may take: two or three records, read twice with their pointers where a pointer led there.
    let of_service = (of_service(&service), 3, made.expected(|change| change.service == service));
    let of_account = json!({"account_id": account.as_str()});
    let of_account = (of_account, 3, made.expected(|change| *change.service.account_id() == account));
    let app = json!({"image": "registry.example:5000/app-3"});
    let of_image = (app, 3, made.expected(under("registry.example:5000/app-3")));
    let of_pointers = (json!({"image": "fluent"}), 8, made.expected(under("fluent")));
    let of_all = (json!({}), 3, made.expected(|_| true));
    for (name, (query, factor, found)) in [
        ("service", of_service),
        ("account", of_account),
        ("image", of_image),
        ("image, by pointers", of_pointers),
        ("organization", of_all),
    ] {
        for limit in [1, 20, 100] {
            let mut query = query.clone();
            query["limit"] = limit.into();
            let first = shown(name, limit, "first", &query, &world).await;
            // As after all the pages before.
            let newest_first: Vec<_> = found.iter().rev().collect();
            let page = newest_first.len().saturating_sub(limit).max(1);
            let before = PageCursor::Change(ChangeId::parse(&newest_first[page - 1].0).unwrap());
            query["next_token"] = parsed(&query, now()).token(&before).into();
            let last = shown(name, limit, "last", &query, &world).await;
            for ((page, _), from) in [(&first, 0), (&last, page)] {
                let expected = newest_first[from..].iter().take(limit);
                // Short where a change takes a call of its own.
                let expected = expected.take(if name == "image, by pointers" { page.changes.len() } else { limit });
                assert!(page.changes.iter().map(|change| &change.change_id).eq(expected.map(|(id, _)| id)), "{name}");
                assert!(page.changes.len() > limit.min(newest_first.len() - from) / 2, "{name}");
            }
            for (_, cost) in [first, last] {
                // What is returned, and in each of up to eight shards a look ahead.
                let most = limit * factor + 8 * 5;
                assert!(cost.items <= most, "{name}: {} items for {limit} changes", cost.items);
            }
        }
    }
    let newest = made.changes.last().unwrap().change_id.clone();
    let oldest = made.changes.first().unwrap().change_id.clone();
    for (name, id) in [("the newest change", newest), ("the oldest change", oldest)] {
        let (page, cost) = shown(name, 1, "only", &json!({"change_id": id}), &world).await;
        assert_eq!((page.changes.len(), cost.calls), (1, 8));
        assert!(cost.items <= 12);
    }
    let started = Instant::now();
    let (verification, cost) = world.reader.verify(&service).await.unwrap();
    let verification = verification.unwrap();
    println!("| verify ({} records) | | | | {} | {} |", verification.verified, cost.calls, cost.items);
    println!("verified in {:?}", started.elapsed());
    assert!(verification.ok);
    assert!(cost.calls <= 2 + u32::try_from(cost.items / 500).unwrap());
}

async fn shown(name: &str, limit: usize, which: &str, query: &Value, world: &World) -> (Page, Cost) {
    let (page, cost) = world.page(query, now()).await;
    println!("| {name} | {limit} | {which} | {} | {} | {} |", page.changes.len(), cost.calls, cost.items);
    (page, cost)
}

#[tokio::test]
async fn twenty_thousand_records() {
    measure(20_000, 300).await;
}

/// `cargo test --test history million -- --ignored --nocapture`
#[tokio::test]
#[ignore = "takes a quarter of an hour, a gigabyte of memory and several of disk"]
async fn a_million_records() {
    measure(1_000_000, 3_000).await;
}
