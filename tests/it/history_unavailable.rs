//! Nothing is changed in a target account before its STARTED record is in the table. (That no mutating call comes
//! earlier is looked up in every test of this crate, at the moment the call arrives.)

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::dynamodb::HISTORY_TABLE;
use crate::harness::journal::{Fault, Service};
use crate::harness::{Site, World, ledger};

/// Nothing was changed, nothing was written, and the error says so.
async fn nothing_happens(world: &World) {
    let site = Site::target();
    let service = world.cloud().service(&site);
    let started = Instant::now();
    let outcome = world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}})).await;
    let message = outcome.error("HistoryUnavailable");
    assert!(message.starts_with("[ERROR][history_write] "), "{message}");
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new(), "{}", world.journal.summary());
    assert_eq!(world.cloud().service(&site), service);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 1);
    assert!(world.tables().scan(HISTORY_TABLE).is_empty());
    // That the event came is noted, where that can be.
    assert!(ledger::keys(world.tables()).iter().all(|key| key["change_id"] == ""));
    assert!(ledger::head(world.tables(), &site.key()).is_none());
}

#[tokio::test]
async fn a_read_of_the_head_that_is_refused_changes_nothing() {
    let world = World::new().await;
    let fault = Fault::refuse(400, "AccessDeniedException", "not authorized to perform: dynamodb:BatchGetItem");
    world.journal.from("BatchGetItem", 1, fault);
    nothing_happens(&world).await;
}

#[tokio::test]
async fn a_started_that_is_refused_changes_nothing_and_names_what_is_missing() {
    let world = World::new().await;
    let fault = Fault::refuse(400, "AccessDeniedException", "not authorized to perform: dynamodb:PartiQLInsert");
    world.journal.from("ExecuteTransaction", 1, fault);
    nothing_happens(&world).await;
    let log = world.logs().join("\n");
    assert!(log.contains("dynamodb:PartiQLInsert"), "{log}");
}

#[tokio::test]
async fn a_started_that_is_throttled_or_answered_with_500_changes_nothing() {
    let (throttled, failing) = (World::new().await, World::new().await);
    let code = "ProvisionedThroughputExceededException";
    throttled.journal.from("ExecuteTransaction", 1, Fault::refuse(400, code, "The level of configured throughput"));
    failing.journal.from("ExecuteTransaction", 1, Fault::refuse(500, "InternalServerError", "Internal server error"));
    tokio::join!(nothing_happens(&throttled), nothing_happens(&failing));
}

#[tokio::test]
async fn a_table_that_is_missing_changes_nothing() {
    let world = World::configured(&[("HISTORY_TABLE", "not-there")]).await;
    nothing_happens(&world).await;
    let world = World::configured(&[("STATE_TABLE", "not-there")]).await;
    nothing_happens(&world).await;
}

#[tokio::test]
async fn a_dynamodb_whose_connections_break_changes_nothing() {
    let (gone, breaking) = (World::new().await, World::new().await);
    gone.journal.service_from(Service::DynamoDb, 1, Fault::CutBefore);
    // It breaks between the read and STARTED.
    breaking.journal.service_from(Service::DynamoDb, 2, Fault::CutBefore);
    tokio::join!(nothing_happens(&gone), nothing_happens(&breaking));
    for world in [gone, breaking] {
        world.journal.mend();
        world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    }
}

#[tokio::test]
async fn a_dynamodb_that_nobody_listens_for_changes_nothing() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let world = World::configured(&[("AWS_ENDPOINT_URL_DYNAMODB", &closed)]).await;
    nothing_happens(&world).await;
}

#[tokio::test]
async fn a_dynamodb_that_never_answers_changes_nothing() {
    let (read, write) = (World::new().await, World::new().await);
    read.journal.from("BatchGetItem", 1, Fault::HangBefore);
    write.journal.from("ExecuteTransaction", 1, Fault::HangBefore);
    tokio::join!(nothing_happens(&read), nothing_happens(&write));
}

#[tokio::test]
async fn a_slow_dynamodb_is_waited_for() {
    let world = World::new().await;
    world.journal.from("ExecuteTransaction", 1, Fault::Delay(Duration::from_millis(1200)));
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let started = world.journal.of("ExecuteTransaction")[0].answered.unwrap().0;
    let first = world.journal.calls().into_iter().find(crate::harness::journal::Call::mutates_ecs).unwrap();
    assert!(first.at >= started, "{} came before STARTED was answered", first.action);
}

#[tokio::test]
async fn a_started_whose_answer_is_lost_is_neither_lost_nor_written_twice() {
    for fault in [Fault::CutAfter, Fault::act_then_500()] {
        let world = World::new().await;
        let site = Site::target();
        world.journal.on("ExecuteTransaction", 1, fault);
        world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
        assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
    }
}

#[tokio::test]
async fn a_started_that_cannot_be_seen_is_not_acted_on_and_its_key_goes_on_from_it() {
    let world = World::new().await;
    let site = Site::target();
    let event = site.event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    world.journal.on("ExecuteTransaction", 1, Fault::CutAfter);
    world.journal.service_from(Service::DynamoDb, 3, Fault::CutBefore);
    world.invoke(&event).await.error("HistoryUnavailable");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.kinds(&site), ["STARTED"]);
    world.journal.mend();
    ledger::expire_lease(world.tables(), &site.key());
    world.invoke(&event).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "APPLIED"]);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
}

/// Past the minutes in which DynamoDB knows the token of a transaction, or where a retry meets its own work: the answer
/// is a conflict with what this very change wrote.
#[tokio::test]
async fn a_started_that_meets_itself_goes_on() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("ExecuteTransaction", 1, Fault::CutAfter);
    let answer = json!({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [ConditionalCheckFailed, DuplicateItem, DuplicateItem]",
        "CancellationReasons": [{"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"},
            {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"},
            {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}]});
    world.journal.on("ExecuteTransaction", 2, Fault::Answer { status: 400, body: answer.to_string() });
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
}

#[tokio::test]
async fn a_transaction_that_meets_another_is_tried_again() {
    let world = World::new().await;
    let answer = json!({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [TransactionConflict, None, None]",
        "CancellationReasons": [{"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"},
            {"Code": "None"}, {"Code": "None"}]});
    for nth in [1, 3] {
        world.journal.on("ExecuteTransaction", nth, Fault::Answer { status: 400, body: answer.to_string() });
    }
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_result_that_cannot_be_written_says_that_the_service_was_changed_and_its_key_completes_it() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.from("ExecuteTransaction", 2, Fault::CutBefore);
    let event = site.event(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}, "idempotency_key": "k"}));
    // As long as there is time, it is tried.
    let short = world.invocation().deadline_in(Duration::from_secs(20));
    let outcome = world.invoke_with(&event, short).await;
    let message = outcome.error("HistoryUnavailable");
    assert!(message.contains("web:2"), "what the service runs now stands in the message: {message}");
    assert_eq!(world.kinds(&site), ["STARTED"]);
    let mutations = world.journal.mutating_ecs_calls();
    assert_eq!(mutations, ["RegisterTaskDefinition", "UpdateService", "TagResource", "UntagResource"]);
    let deployment = world.cloud().deployment(&site);

    world.journal.mend();
    world.journal.forget();
    ledger::expire_lease(world.tables(), &site.key());
    let outcome = world.invoke(&event).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["BEFORE"]["serviceImage"], "busybox", "BEFORE is that of STARTED");
    assert_eq!(body["AFTER"]["serviceImage"], "nginx");
    assert_eq!(body["deployment_id"], deployment, "the deployment that this change started");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new(), "all was done already");
    assert_eq!(world.kinds(&site), ["STARTED", "STARTED", "APPLIED"]);
    ledger::assert_free(world.tables(), &site.key());
}

#[tokio::test]
async fn a_result_whose_answer_is_lost_is_written_once() {
    for fault in [Fault::CutAfter, Fault::act_then_500()] {
        let world = World::new().await;
        let site = Site::target();
        world.journal.on("ExecuteTransaction", 2, fault);
        world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
        ledger::assert_free(world.tables(), &site.key());
    }
}
