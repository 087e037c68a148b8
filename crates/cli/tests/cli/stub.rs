//! A Lambda API that answers what a test says, and the command line run against it.

use std::path::Path as FilePath;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use domain::text::is_unseen;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

/// What the stub answers to one invocation.
pub(crate) enum Reply {
    /// The function's answer.
    Payload(Value),
    /// A function error: type and message.
    FunctionError(&'static str, String),
    /// An error of the Lambda API: HTTP status, code and message.
    Refused(u16, &'static str, &'static str),
    /// Something that is no JSON.
    Text(&'static str),
}

/// 200 with this body.
pub(crate) fn ok(body: &Value) -> Reply {
    Reply::Payload(json!({"statusCode": 200, "body": body}))
}

type Script = dyn Fn(&str, &Value) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<(String, Value)>>,
}

/// The stub; it ends with the test's runtime.
pub(crate) struct Stub {
    shared: Arc<Shared>,
    url: String,
    home: tempfile::TempDir,
}

impl Stub {
    /// A stub that answers by `script`, which gets the function's name and the event.
    pub(crate) async fn start(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), seen: Mutex::default() });
        let router = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url, home: tempfile::tempdir().unwrap() }
    }

    /// The command line, which knows of no Lambda but this one.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(arguments, self.home.path(), "AWS_ENDPOINT_URL_LAMBDA", &self.url)
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().await.unwrap())
    }

    /// Runs it to its end with this standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        Ran::of_input(self.command(arguments), input).await
    }

    /// Functions and events that came in.
    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only event that came in, and the function it came to.
    pub(crate) fn only(&self) -> (String, Value) {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

async fn invoke(State(shared): State<Arc<Shared>>, Path(name): Path<String>, body: Bytes) -> Response {
    let event: Value = serde_json::from_slice(&body).unwrap();
    let reply = (shared.script)(&name, &event);
    if name == "ecs-updater-history" {
        is_query(&event);
    }
    shared.seen.lock().unwrap().push((name, event));
    match reply {
        Reply::Payload(payload) => payload.to_string().into_response(),
        Reply::Text(text) => text.into_response(),
        Reply::FunctionError(kind, message) => {
            let payload = json!({"errorType": kind, "errorMessage": message});
            ([("x-amz-function-error", "Unhandled")], payload.to_string()).into_response()
        }
        Reply::Refused(status, code, message) => {
            let body = json!({"Message": message}).to_string();
            (StatusCode::from_u16(status).unwrap(), [("x-amzn-errortype", code)], body).into_response()
        }
    }
}

/// Fails where the history function would refuse the query: the two are built apart.
fn is_query(event: &Value) {
    let schema = serde_json::from_str(include_str!("../../../../schema/history-query.schema.json")).unwrap();
    if let Err(fault) = jsonschema::validate(&schema, event) {
        panic!("{event}: {fault}");
    }
}

/// The command line, with nothing of the machine's environment but what is set here. `endpoint` is the variable that names
/// the stub to it.
pub(crate) fn command(arguments: &[&str], home: &FilePath, endpoint: &str, url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecs-updater"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("USER", "ann")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(endpoint, url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `command` to its end with this standard input.
    pub(crate) async fn of_input(mut command: Command, input: &[u8]) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).await.unwrap();
        Self::of(child.wait_with_output().await.unwrap())
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|fault| panic!("{fault}: {self:?}"))
    }

    /// Fails where a line is wider than a usual terminal or holds what a terminal would obey.
    pub(crate) fn is_legible(&self) {
        for line in self.out.lines().chain(self.err.lines()) {
            assert!(line.chars().count() <= 80, "wider than 80: {line}");
        }
        self.is_harmless();
    }

    /// Fails where it holds what a terminal would obey.
    pub(crate) fn is_harmless(&self) {
        for text in [&self.out, &self.err] {
            assert!(!text.chars().any(|character| is_unseen(character) && character != '\n'), "{text:?}");
        }
    }
}

pub(crate) const CHANGE: &str = "019aa6b0-5e0f-7cc3-9d52-1f2a3b4c5d6e";

/// A state as records keep it.
pub(crate) fn state(image: &str, revision: u32, count: u32) -> Value {
    json!({"clusterArn": "arn:aws:ecs:eu-west-1:222222222222:cluster/prod",
        "serviceArn": "arn:aws:ecs:eu-west-1:222222222222:service/prod/web", "taskDefinitionName": "web",
        "taskDefinitionFamily": "web", "serviceImage": image, "images": {"web": image}, "serviceMemory": 64,
        "taskDefinitionArn": format!("arn:aws:ecs:eu-west-1:222222222222:task-definition/web:{revision}"),
        "tags": [{"key": "release", "value": revision.to_string()}], "updatedOn": "2026-11-22T09:30:00.123Z",
        "deploymentId": "ecs-svc/1", "service": {"desiredCount": count}})
}

/// A change of the service `web`, with members that take the place of the usual ones.
pub(crate) fn change(members: &Value) -> Value {
    let mut change = json!({"change_id": CHANGE, "status": "COMPLETED", "account_id": "222222222222",
        "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web",
        "started_at": "2026-11-22T09:30:00.123Z", "applied_at": "2026-11-22T09:30:02.123Z",
        "ended_at": "2026-11-22T09:33:02.123Z", "requested_by": "release pipeline", "reason": "release 7",
        "identity": "claimed", "deployment_id": "ecs-svc/1", "error": null,
        "before": state("registry.example:5000/edge/web:6", 6, 2),
        "after": state("registry.example:5000/edge/web:7", 7, 4),
        "session": "ecsu-1", "request_id": "1", "restores": null});
    for (name, value) in members.as_object().unwrap() {
        change[name] = value.clone();
    }
    change
}

/// A page of changes.
pub(crate) fn page(changes: &[Value], next_token: Option<&str>) -> Reply {
    ok(&json!({"changes": changes, "next_token": next_token}))
}

/// The answer of the updater.
pub(crate) fn updated(members: &Value) -> Reply {
    let mut body = json!({"change_id": CHANGE, "status": "APPLIED", "account_id": "222222222222", "region": "eu-west-1",
        "ecs_cluster_name": "prod", "ecs_service_name": "web", "deployment_id": "ecs-svc/1234567890123456789",
        "timestamp": "2026-11-22T09:30:00.123Z", "replayed": false,
        "BEFORE": state("registry.example:5000/edge/web:6", 6, 2), "AFTER": state("registry.example:5000/edge/web:7", 7, 2)});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    ok(&body)
}

/// Text that would take over a terminal or a page.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>\u{1b}[2J\u{9b}31m\u{7}\u{202e}gpj\u{3164}\" onload=\"x";
