//! What stands in the log: JSON lines that lead to the change, one line per failure, and metrics.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::journal::Fault;
use crate::harness::{Site, TARGET, World, ledger};

/// Every line of the log is a JSON object.
fn lines(world: &World) -> Vec<Value> {
    let logs = world.logs();
    logs.iter()
        .map(|line| match serde_json::from_str::<Value>(line) {
            Ok(value) if value.is_object() => value,
            _ => panic!("no JSON object: {line}"),
        })
        .collect()
}

fn metrics(world: &World) -> Vec<Value> {
    lines(world).into_iter().filter(|line| line.get("_aws").is_some()).collect()
}

fn errors(world: &World) -> Vec<Value> {
    lines(world).into_iter().filter(|line| line["level"] == "ERROR").collect()
}

/// Whether `value` stands in `line` under any name.
fn holds(line: &Value, value: &str) -> bool {
    line.as_object().unwrap().values().any(|v| v == value)
}

#[tokio::test]
async fn a_change_is_logged_with_change_request_account_and_service() {
    let world = World::new().await;
    let invocation = world.invocation();
    let request = invocation.request_id.clone();
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "requested_by": "ann"}));
    let outcome = world.invoke_with(&event, invocation).await;
    let change = outcome.status("APPLIED")["change_id"].as_str().unwrap().to_owned();
    let lines = lines(&world);
    let line = lines.iter().find(|l| l["change_id"] == change.as_str()).unwrap_or_else(|| panic!("{lines:#?}"));
    for value in [request.as_str(), TARGET, Site::target().key().as_str()] {
        assert!(holds(line, value), "{value} is not in {line}");
    }
    assert_eq!((&line["requested_by"], &line["identity"]), (&json!("ann"), &json!("claimed")));
    assert!(errors(&world).is_empty());
}

#[tokio::test]
async fn each_failure_is_one_error_line_with_its_whole_message() {
    let world = World::new().await;
    let site = Site::target();
    let mut expected = Vec::new();
    for (event, fault, code) in [
        (json!({"nonsense": 1}), None, "JsonValidation"),
        (site.event(json!({"ecs_image_name": "NGINX"})), None, "InvalidImage"),
        (Site { cluster: "x".into(), ..site.clone() }.event(json!({"ecs_image_name": "a"})), None, "ClusterNotFound"),
        (site.event(json!({"ecs_image_name": "a"})), Some("AssumeRole"), "AssumeRoleFailed"),
        (site.event(json!({"ecs_image_name": "a"})), Some("DescribeServices"), "ServiceReadFailed"),
        (site.event(json!({"ecs_image_name": "a"})), Some("BatchGetItem"), "HistoryUnavailable"),
        (site.event(json!({"ecs_image_name": "a"})), Some("RegisterTaskDefinition"), "TaskDefinitionRejected"),
        (site.event(json!({"ecs_image_name": "a"})), Some("UpdateService"), "ServiceUpdateFailed"),
        (site.event(json!({"ecs_tag": {"a": "1"}})), Some("TagResource"), "TagUpdateFailed"),
    ] {
        if let Some(action) = fault {
            world.journal.on(action, 1, Fault::refuse(400, "AccessDeniedException", "not authorized"));
        }
        let outcome = world.invoke(&event).await;
        expected.push((code, outcome.error(code).to_owned()));
        world.journal.mend();
    }
    let errors = errors(&world);
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (line, (code, message)) in errors.iter().zip(&expected) {
        assert!(holds(line, code), "{code} is not in {line}");
        assert!(holds(line, message), "{message:?} is not in {line}");
        assert!(line["request_id"].is_string() || line["requestId"].is_string(), "{line}");
    }
    // The change that had begun is named, and is the record's.
    let failed = &world.records(&site)[1];
    assert!(holds(&errors[6], failed["change_id"].as_str().unwrap()), "{}", errors[6]);
    assert!(holds(&errors[6], &site.key()) && holds(&errors[6], TARGET), "{}", errors[6]);
}

#[tokio::test]
async fn changes_are_counted_as_embedded_metrics() {
    let world = World::new().await;
    let event = Site::target().event(json!({"ecs_image_name": "nginx", "idempotency_key": "k"}));
    world.invoke(&event).await.status("APPLIED");
    world.update(json!({"ecs_image_name": "nginx"})).await.status("UNCHANGED");
    world.update(json!({"ecs_image_name": "NGINX"})).await.error("InvalidImage");
    world.update(json!({"dry_run": true, "ecs_image_name": "httpd"})).await.status("PLANNED");
    assert_eq!(world.invoke(&event).await.body()["replayed"], true);

    let metrics = metrics(&world);
    let mut counted = Vec::new();
    for line in &metrics {
        assert!(line["_aws"]["Timestamp"].as_i64().is_some_and(|t| t > 1_700_000_000_000), "{line}");
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "EcsUpdater");
            for set in directive["Dimensions"].as_array().unwrap() {
                for name in set.as_array().unwrap() {
                    assert!(line[name.as_str().unwrap()].is_string(), "a dimension has a value: {line}");
                }
            }
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                assert_eq!(line[name], 1, "{line}");
                counted.push(name.to_lowercase());
            }
        }
    }
    assert_eq!(counted, ["applied", "unchanged", "failed"], "a plan and a replay are no change");
    let failed = &metrics[2];
    // Once: each set of dimensions is a metric of its own.
    assert_eq!(failed["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["code", "fault"]]));
    assert!(holds(failed, "InvalidImage"), "{failed}");
}

/// Alarms page operators for their faults only, and for what ended without an answer.
#[tokio::test]
async fn a_failure_is_counted_as_its_callers_or_as_the_operators() {
    let world = World::new().await;
    let site = Site::target();
    let image = json!({"ecs_image_name": "nginx"});
    let refused = |code: &str, message: &str| Some(Fault::refuse(400, code, message));
    let mut expected = Vec::new();
    for (members, action, fault, code, whose) in [
        (json!({"nonsense": 1}), "", None, "JsonValidation", "caller"),
        (json!({"ecs_image_name": "NGINX"}), "", None, "InvalidImage", "caller"),
        (image.clone(), "AssumeRole", refused("AccessDenied", "no"), "AssumeRoleFailed", "operator"),
        (image.clone(), "DescribeServices", refused("AccessDeniedException", "no"), "ServiceReadFailed", "operator"),
        (
            image.clone(),
            "RegisterTaskDefinition",
            refused("ClientException", "No such value"),
            "TaskDefinitionRejected",
            "caller",
        ),
        (
            image.clone(),
            "RegisterTaskDefinition",
            refused("ClientException", "User is not authorized to perform: iam:PassRole"),
            "TaskDefinitionRejected",
            "operator",
        ),
        (image.clone(), "UpdateService", refused("InvalidParameterException", "no"), "ServiceUpdateFailed", "caller"),
        (image.clone(), "UpdateService", refused("AccessDeniedException", "no"), "ServiceUpdateFailed", "operator"),
        (
            json!({"ecs_tag": {"a": "1"}}),
            "TagResource",
            refused("InvalidParameterException", "no"),
            "TagUpdateFailed",
            "caller",
        ),
    ] {
        if let Some(fault) = fault {
            world.journal.on(action, 1, fault);
        }
        world.invoke(&site.event(members)).await.error(code);
        world.journal.mend();
        expected.push((code.to_owned(), whose.to_owned()));
    }
    let counted: Vec<(String, String)> = metrics(&world)
        .iter()
        .filter(|line| line.get("Failed").is_some())
        .map(|line| (line["code"].as_str().unwrap().to_owned(), line["fault"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(counted, expected);
}

/// A lease that lasts is nobody's to wait for: another change for a while is its caller's matter, longer than any can is the operator's.
#[tokio::test]
async fn a_change_in_progress_that_lasts_is_the_operators() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("RegisterTaskDefinition", 1, Fault::HangBefore);
    world
        .kill_at(&site.event(json!({"ecs_image_name": "nginx"})), world.invocation(), "RegisterTaskDefinition", 1)
        .await;
    world.restart().await;
    for minutes in [2, 30] {
        ledger::expire_lease_at(world.tables(), &site.key(), chrono::Utc::now() + chrono::Duration::minutes(minutes));
        world.update(json!({"ecs_image_name": "httpd"})).await.error("ChangeInProgress");
    }
    assert_eq!(faults(&world), ["caller", "operator"]);
}

#[tokio::test]
async fn a_ledger_that_moves_is_the_callers_and_one_that_is_not_written_the_operators() {
    let site = Site::target();
    let moves = World::new().await;
    moves.journal.from("DescribeServices", 1, Fault::Delay(Duration::from_millis(150)));
    let other = async {
        for attempt in 1..=5 {
            moves.journal.reached("DescribeServices", attempt).await;
            ledger::append_external(moves.tables(), &site);
        }
    };
    let (outcome, ()) = tokio::join!(moves.update(json!({"ecs_image_name": "nginx"})), other);
    outcome.error("ChangeInProgress");
    assert_eq!(faults(&moves), ["caller"]);

    let stands = World::new().await;
    let conflict = json!({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [TransactionConflict, None]",
        "CancellationReasons": [{"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}, {"Code": "None"}]});
    stands.journal.from("ExecuteTransaction", 1, Fault::Answer { status: 400, body: conflict.to_string() });
    let outcome = stands.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("ChangeInProgress");
    assert!(message.contains("nobody else wrote to it") && message.contains("TransactionConflict"), "{message}");
    assert_eq!(faults(&stands), ["operator"]);
}

/// Whose fault each counted `ChangeInProgress` was.
fn faults(world: &World) -> Vec<String> {
    let counted = metrics(world).into_iter().filter(|line| line["code"] == "ChangeInProgress");
    counted.map(|line| line["fault"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_namespace_of_the_metrics_is_a_setting() {
    let world = World::configured(&[("METRICS_NAMESPACE", "Platform/Door")]).await;
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_eq!(metrics(&world)[0]["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Platform/Door");
}

/// The marker stands in every secret value; each world looks for it everywhere at its end.
#[tokio::test]
async fn no_secret_is_shown_even_where_everything_fails_and_everything_is_logged() {
    let world = World::configured(&[("AWS_LAMBDA_LOG_LEVEL", "debug"), ("RUST_LOG", "trace")]).await;
    let denied = || Fault::refuse(400, "AccessDeniedException", "not authorized");
    for (action, fault) in [
        ("AssumeRole", denied()),
        ("DescribeServices", denied()),
        ("DescribeTaskDefinition", denied()),
        ("RegisterTaskDefinition", denied()),
        ("RegisterTaskDefinition", Fault::CutAfter),
        ("UpdateService", denied()),
        ("UpdateService", Fault::CutAfter),
        ("TagResource", denied()),
    ] {
        world.journal.on(action, 1, fault);
        world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}})).await;
        world.journal.mend();
        world.update(json!({"ecs_image_name": "busybox", "ecs_tag": {}})).await;
    }
    let text = world.logs().join("\n");
    assert!(text.contains("AssumeRoleFailed") && text.contains("TagUpdateFailed"), "{text}");
}
