//! The real binary, over the Lambda runtime protocol.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ecs_updater::history::handler as history;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::made::{Made, Shape, now, of_service};
use crate::table::{HISTORY, STATE, World};

const RESPONSE_SCHEMA: &str = include_str!("../../schema/history-response.schema.json");

type Answers = mpsc::UnboundedReceiver<(String, Value)>;
type Lambda = (Arc<Mutex<VecDeque<String>>>, mpsc::UnboundedSender<(String, Value)>);

/// A runtime API that hands out these events. What comes back is `response` or `error`, and the body.
async fn lambda(events: &[String]) -> (String, Answers) {
    let (sender, answers) = mpsc::unbounded_channel();
    let state: Lambda = (Arc::new(Mutex::new(events.iter().cloned().collect())), sender);
    let app = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{how}", post(ended))
        .with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, answers)
}

async fn next(State((events, _)): State<Lambda>) -> Response {
    let event = events.lock().unwrap().pop_front();
    let Some(event) = event else { return std::future::pending().await };
    let headers = [
        ("lambda-runtime-aws-request-id", "request-1"),
        ("lambda-runtime-deadline-ms", "9999999999999"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:111111111111:function:history"),
    ];
    let headers = headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    (HeaderMap::from_iter(headers), event).into_response()
}

async fn ended(
    State((_, answers)): State<Lambda>,
    Path((_, how)): Path<(String, String)>,
    body: String,
) -> &'static str {
    answers.send((how, serde_json::from_str(&body).unwrap())).unwrap();
    "{}"
}

fn binary(runtime: &str, table: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_history"));
    command
        .env_clear()
        .envs([("AWS_LAMBDA_RUNTIME_API", runtime), ("AWS_LAMBDA_FUNCTION_NAME", "history")])
        .envs([("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"), ("AWS_LAMBDA_FUNCTION_VERSION", "1")])
        .envs([("HISTORY_TABLE", HISTORY), ("STATE_TABLE", STATE), ("AWS_REGION", "eu-west-1")])
        .envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_SESSION_TOKEN", "token")])
        .env("AWS_ENDPOINT_URL_DYNAMODB", table)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Sends the events; their answers, and the lines logged.
async fn invoke(world: &World, events: &[String]) -> (Vec<(String, Value)>, Vec<Value>) {
    let (runtime, mut received) = lambda(events).await;
    let mut function = binary(&runtime, &world.endpoint).spawn().unwrap();
    let mut answers = Vec::new();
    for _ in events {
        let answer = tokio::time::timeout(Duration::from_mins(1), received.recv());
        answers.push(answer.await.expect("an answer in a minute").unwrap());
    }
    function.start_kill().unwrap();
    let mut log = String::new();
    function.stdout.take().unwrap().read_to_string(&mut log).await.unwrap();
    function.wait().await.unwrap();
    (answers, log.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[tokio::test]
async fn queries_are_answered_and_logged() {
    let world = World::new().await;
    let mut made = Made::new(3, 2, 4);
    made.fill(100, chrono::Duration::days(3));
    let change = made.change(0, now(), Shape::Failed);
    made.store(&world);
    let mut verify = of_service(&made.services[0]);
    verify["verify"] = true.into();
    let mut lost = of_service(&made.services[1]);
    lost["verify"] = true.into();
    let tail = made.heads[1].as_ref().unwrap().record.clone();
    let gone = json!({"service": made.services[1].to_string(), "record": tail}).as_object().unwrap().clone();
    crate::table::delete(&world.database, &gone);
    let events = [
        json!({"change_id": change.change_id}).to_string(),
        verify.to_string(),
        lost.to_string(),
        "{\"limit\": 0}".to_owned(),
        "not JSON".to_owned(),
    ];
    let (answers, log) = invoke(&world, &events).await;

    let schema: Value = serde_json::from_str(RESPONSE_SCHEMA).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let schema = jsonschema::validator_for(&schema).unwrap();
    for (how, answer) in &answers[..3] {
        assert_eq!(how, "response");
        assert!(schema.is_valid(answer), "{answer}");
        let typed: history::HistoryResponse = serde_json::from_value(answer.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), *answer);
    }
    let page = &answers[0].1["body"];
    assert_eq!(page["changes"][0]["status"], "FAILED");
    assert_eq!(page["changes"][0]["error"]["message"].as_str().map(|text| text.starts_with("[ERROR]")), Some(true));
    assert_eq!(page["next_token"], Value::Null);
    assert_eq!(answers[1].1["body"], json!({"ok": true, "verified": made.heads[0].as_ref().unwrap().seq}));
    assert_eq!(answers[2].1["body"]["fault"]["record"], tail.to_string());
    for (how, answer) in &answers[3..] {
        assert_eq!((how.as_str(), &answer["errorType"]), ("error", &json!("JsonValidation")));
        let message = answer["errorMessage"].as_str().unwrap();
        assert!(message.starts_with("[ERROR][json_validation] wrong input event format: "), "{message}");
        assert!(message.contains("\n[ERROR][json_validation] Needed: one of {\"account_id\""), "{message}");
    }

    let (metrics, log) = apart(log);
    assert_eq!(log.len(), events.len(), "one line each: {log:#?}");
    let asked = format!("change {}", change.change_id);
    assert_eq!(
        (&log[0]["asked"], &log[0]["calls"], &log[0]["request_id"]),
        (&json!(asked), &json!(8), &json!("request-1"))
    );
    let levels: Vec<_> = log.iter().map(|line| line["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["INFO", "INFO", "ERROR", "ERROR", "ERROR"]);
    assert_eq!(log[3]["code"], "JsonValidation");
    // A wrong question is its asker's fault.
    assert_eq!(metrics.len(), 2, "one for each of two errors: {metrics:#?}");
    assert_eq!(
        (&metrics[0]["QuestionFailed"], &metrics[0]["code"], &metrics[0]["fault"]),
        (&json!(1), &json!("JsonValidation"), &json!("caller"))
    );
}

/// The metrics, and the other lines.
fn apart(log: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    log.into_iter().partition(|line| line.get("_aws").is_some())
}

#[tokio::test]
async fn a_table_that_cannot_be_read() {
    let world = World::new().await;
    world.fail(&[(400, "com.amazonaws.dynamodb.v20120810#AccessDeniedException"); 20]);
    let event = json!({"account_id": "222222222222"}).to_string();
    let (answers, log) = invoke(&world, &[event]).await;
    let (how, answer) = &answers[0];
    assert_eq!((how.as_str(), &answer["errorType"]), ("error", &json!("HistoryUnavailable")));
    let message =
        "[ERROR][history_write] the history could not be read: dynamodb:Query: AccessDeniedException: so it goes";
    assert_eq!(answer["errorMessage"], message);
    let (metrics, log) = apart(log);
    assert_eq!((log.len(), &log[0]["retryable"]), (1, &json!(false)));
    assert_eq!((&metrics[0]["QuestionFailed"], &metrics[0]["fault"]), (&json!(1), &json!("operator")));
}

#[tokio::test]
async fn a_missing_setting_is_named_at_start() {
    for name in ["HISTORY_TABLE", "STATE_TABLE", "AWS_REGION"] {
        let output = binary("127.0.0.1:9", "http://127.0.0.1:9").env_remove(name).output().await.unwrap();
        assert!(!output.status.success());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("history: ") && error.contains(name), "{error}");
    }
}

#[test]
fn the_binary_holds_neither_ecs_nor_sts() {
    let holds = |binary: &str, text: &str| {
        let bytes = std::fs::read(binary).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    // What ECS and STS calls are made of on the wire, and an input type. "AssumeRole" alone stands in every binary:
    // among the features that any SDK names in its user agent.
    let of_others = ["AmazonEC2ContainerServiceV20141113", "2011-06-15", "AssumeRoleInput"];
    let (history, updater) = (env!("CARGO_BIN_EXE_history"), env!("CARGO_BIN_EXE_updater"));
    for text in of_others {
        assert!(!holds(history, text), "the history function holds {text}");
        assert!(holds(updater, text), "not even the updater holds {text}: this test looks for nothing");
    }
    for action in ["Scan", "PutItem", "UpdateItem", "DeleteItem", "ExecuteStatement", "ExecuteTransaction"] {
        assert!(!holds(history, &format!("DynamoDB_20120810.{action}")), "the history function can call {action}");
    }
    for action in ["Query", "GetItem"] {
        assert!(holds(history, &format!("DynamoDB_20120810.{action}")), "{action}");
    }
}

/// API Gateway gives up after 29 seconds: who asks through it has to hear that nothing could be read in time.
#[tokio::test]
async fn what_takes_longer_than_the_door_waits_says_so_before_it_gives_up() {
    let by_key = {
        let mut query = of_service(&Made::new(1, 1, 1).services[0]);
        query["idempotency_key"] = "k".into();
        query
    };
    // Eight days of the organization, one after the other; the three callers whose key it may be. A call that is not answered within five
    // seconds is sent again.
    let each: fn(u32) -> Duration = |_| Duration::from_secs(4);
    let second: fn(u32) -> Duration = |call| Duration::from_millis(if call % 2 == 0 { 4_500 } else { 6_000 });
    let ask = async |query: Value, slow| {
        let world = World::new().await;
        world.slow(slow);
        let begun = Instant::now();
        let (answers, _) = invoke(&world, &[query.to_string()]).await;
        let took = begun.elapsed();
        assert!((Duration::from_secs(27)..Duration::from_secs(29)).contains(&took), "{query}: {took:?}");
        let (how, answer) = &answers[0];
        assert_eq!((how.as_str(), &answer["errorType"]), ("error", &json!("HistoryUnavailable")), "{query}: {answer}");
        let message = answer["errorMessage"].as_str().unwrap();
        assert!(message.contains("the history could not be read within 27 seconds"), "{message}");
    };
    tokio::join!(ask(json!({}), each), ask(by_key, second));
}
