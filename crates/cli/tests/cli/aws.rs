//! A stub of AWS Organizations, STS, ECS and Step Functions that answers what a test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_stub::shapes;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::stub::{Ran, command};

/// What the stub answers: a result, or an error's code and message.
pub(crate) type Reply = Result<Value, (&'static str, &'static str)>;

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// Such as `ListClusters`.
    pub operation: String,
    /// Its input.
    pub input: Value,
    /// The account that a reader's session is in; empty for the caller.
    pub account: String,
    /// The region it was signed for.
    pub region: String,
}

impl Call {
    /// A member of the input, as text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.input[name].as_str().unwrap_or_default()
    }
}

type Script = dyn Fn(&Call) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Call>>,
}

/// The stub; it ends with the test's runtime.
pub(crate) struct Aws {
    shared: Arc<Shared>,
    url: String,
    home: tempfile::TempDir,
}

impl Aws {
    /// A stub that answers by `script`. `AssumeRole` answers by itself where `script` gives null.
    pub(crate) async fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), seen: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url, home: tempfile::tempdir().unwrap() }
    }

    /// The command line, which knows of no AWS but this one.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        command(arguments, self.home.path(), "AWS_ENDPOINT_URL", &self.url)
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().await.unwrap())
    }

    /// Runs it to its end with this standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &Value) -> Ran {
        Ran::of_input(self.command(arguments), input.to_string().as_bytes()).await
    }

    /// The calls that came in.
    pub(crate) fn seen(&self) -> Vec<Call> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Those of one operation.
    pub(crate) fn calls(&self, operation: &str) -> Vec<Call> {
        self.seen().into_iter().filter(|call| call.operation == operation).collect()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Credential=KEY/DATE/REGION/SERVICE/aws4_request
    let scope: Vec<&str> = header("authorization").split_once("Credential=").unwrap().1.split('/').collect();
    let target = header("x-amz-target").rsplit('.').next().unwrap();
    let (operation, input) = match target {
        "" => {
            let form = form(&body);
            (form["Action"].as_str().unwrap().to_owned(), form)
        }
        target => (target.to_owned(), serde_json::from_slice(&body).unwrap()),
    };
    let faults = match scope[3] {
        "ecs" => shapes::faults("ecs", &operation, &input),
        "sts" => shapes::faults_of_form("sts", &aws_stub::sts::form(&body)),
        _ => Vec::new(),
    };
    assert_eq!(faults, Vec::<String>::new(), "by AWS's own models");
    let account = scope[0].strip_prefix("ASIA").unwrap_or_default().to_owned();
    let call = Call { operation, input, account, region: scope[2].to_owned() };
    let reply = (shared.script)(&call);
    shared.seen.lock().unwrap().push(call.clone());
    match reply {
        Ok(Value::Null) if call.operation == "AssumeRole" => session(call.text("RoleArn")).into_response(),
        Ok(result) => ([("content-type", "application/x-amz-json-1.1")], result.to_string()).into_response(),
        Err((code, message)) if call.operation == "AssumeRole" => {
            let body = format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            );
            (StatusCode::FORBIDDEN, body).into_response()
        }
        Err((code, message)) => {
            let status = if code == "InternalFailure" { 500 } else { 400 };
            let body = json!({"__type": code, "message": message}).to_string();
            (StatusCode::from_u16(status).unwrap(), [("content-type", "application/x-amz-json-1.1")], body)
                .into_response()
        }
    }
}

/// A session whose key names its account.
fn session(role: &str) -> String {
    let account = role.split(':').nth(4).unwrap();
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>ASIA{account}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>2036-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

/// The fields of a form, as an object.
fn form(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body).replace("%3A", ":").replace("%2F", "/").replace('+', " ");
    Value::Object(
        text.split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
    )
}

/// One page of `items` under `member`, two at a time: the token is where it begins.
pub(crate) fn page(member: &str, items: &[Value], call: &Call, token: &str) -> Value {
    let all = items.len();
    let from: usize = call.input.get(token).and_then(Value::as_str).map_or(0, |from| from.parse().unwrap());
    let to = (from + 2).min(all);
    let mut answer = Map::from_iter([(member.to_owned(), items[from..to].to_vec().into())]);
    if to < all {
        answer.insert(token.to_owned(), to.to_string().into());
    }
    answer.into()
}

/// Services as tests write them: `account/region/cluster/service`, with `!` before a service that is being deleted and
/// its tags behind `?`, such as `222222222222/eu-west-1/prod/web?team=edge`.
#[derive(Clone, Default)]
pub(crate) struct Ecs(BTreeMap<Place, Vec<Kept>>);

/// Account and region.
type Place = (String, String);
/// Cluster, ARN, and the service as ECS describes it.
type Kept = (String, String, Value);

impl Ecs {
    pub(crate) fn new(services: &[&str]) -> Self {
        let mut ecs = Self::default();
        for text in services {
            let (text, tags) = text.split_once('?').unwrap_or((text, ""));
            let parts: Vec<&str> = text.split('/').collect();
            let tags: Vec<Value> = tags
                .split_terminator('&')
                .map(|tag| tag.split_once('=').unwrap())
                .map(|(key, value)| json!({"key": key, "value": value}))
                .collect();
            let status = if parts[3].starts_with('!') { "DRAINING" } else { "ACTIVE" };
            let name = parts[3].trim_start_matches('!');
            let arn = format!("arn:aws:ecs:{}:{}:service/{}/{name}", parts[1], parts[0], parts[2]);
            let service = json!({"serviceArn": arn, "serviceName": name, "status": status, "tags": tags});
            let place = (parts[0].to_owned(), parts[1].to_owned());
            ecs.0.entry(place).or_default().push((parts[2].to_owned(), arn, service));
        }
        ecs
    }

    /// What ECS answers; null to what it does not know.
    pub(crate) fn answer(&self, call: &Call) -> Value {
        let empty = Vec::new();
        let here = self.0.get(&(call.account.clone(), call.region.clone())).unwrap_or(&empty);
        let cluster = call.text("cluster").rsplit('/').next().unwrap();
        match call.operation.as_str() {
            "ListClusters" => {
                let mut names: Vec<&str> = here.iter().map(|(cluster, ..)| cluster.as_str()).collect();
                names.dedup();
                let arn = |name| format!("arn:aws:ecs:{}:{}:cluster/{name}", call.region, call.account).into();
                page("clusterArns", &names.into_iter().map(arn).collect::<Vec<_>>(), call, "nextToken")
            }
            "ListServices" => {
                let arns: Vec<Value> =
                    here.iter().filter(|(of, ..)| of == cluster).map(|(_, arn, _)| arn.as_str().into()).collect();
                page("serviceArns", &arns, call, "nextToken")
            }
            "DescribeServices" => {
                let asked = call.input["services"].as_array().unwrap();
                assert!(asked.len() <= 10 && call.input["include"] == json!(["TAGS"]), "{call:?}");
                let found: Vec<&Value> = here
                    .iter()
                    .filter(|(_, arn, _)| asked.contains(&json!(arn)))
                    .map(|(.., service)| service)
                    .collect();
                json!({"services": found, "failures": []})
            }
            _ => Value::Null,
        }
    }
}
