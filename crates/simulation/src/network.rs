//! The network between the product's AWS clients and AWS. A call that is under way does not depend on its sender any
//! more: it arrives, whatever becomes of the sender.

use std::rc::Rc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::aws;
use crate::counts::Counts;
use crate::environment;
use crate::fault::{Fault, PASSING, is_read};
use crate::gist::gist;
use crate::invariants;
use crate::plan::{Deviation, Of};
use crate::random::Stream;
use crate::trace::body_hash;
use crate::world::{World, world};

/// After this time the caller of a mutating call has given it up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An HTTP client that sends into the simulated world.
#[derive(Debug, Clone)]
pub struct Network;

impl HttpClient for Network {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A call on its way.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its number in the run.
    pub number: u64,
    /// The invocation that sent it.
    pub invocation: String,
    /// `dynamodb`, `ecs`, `sts`, `ecr` or `lambda`.
    pub service: &'static str,
    /// The action.
    pub action: String,
    /// The access key that signed it.
    pub key: String,
    /// The body.
    pub body: String,
    /// The path. In the Lambda API it contains the function's name.
    pub path: String,
    /// The same as `invocation`, with the action and the number of this call among the invocation's calls of that
    /// action.
    pub name: String,
}

/// An answer with status and body, or what happened to the connection.
type Answered = Result<(u16, String), &'static str>;

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let world = world();
        let call = read(&world, &request);
        let trip = Trip::of(&world, &call);
        if let Some(sender) = environment::current() {
            sender.calls.set(sender.calls.get() + 1);
        }
        Counts::one(&mut world.counts.borrow_mut().calls, &call.action);
        if world.trace.borrow().is_kept() {
            let fault = trip.shown();
            let (gist, hash) = (gist(&call), body_hash(&call.body));
            world.note(&call.invocation, &format_args!("> {}{gist} {hash}{fault}", call.action));
        }
        let kind = if call.service == "sts" { "text/xml" } else { "application/x-amz-json-1.1" };
        let number = call.number;
        let asked = invariants::Asked::of(&call);
        invariants::at_sending(&world, &call, trip.is_done(), trip.is_late);
        let (give, take) = oneshot::channel();
        spawn_local(serve(world, call, trip, give));
        HttpConnectorFuture::new(async move {
            let answer = take.await;
            if let Some(sender) = environment::current().filter(|_| !matches!(&answer, Ok(Ok((200, _))))) {
                sender.failures.set(sender.failures.get() + 1);
            }
            if let Ok(Ok((status, body))) = &answer {
                asked.answered(*status, body);
            }
            match answer {
                Ok(Ok((status, body))) => response(status, body, kind, number),
                Ok(Err(what)) => Err(ConnectorError::io(what.into())),
                // No answer ever comes: the client's own time limit ends the call.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// What happens to a call on its way.
#[derive(Debug, Clone, Copy)]
struct Trip {
    fault: Option<Fault>,
    there: Duration,
    back: Duration,
    is_late: bool,
    lag: Duration,
}

impl Trip {
    fn of(world: &World, call: &Call) -> Self {
        let (service, action) = (call.service, call.action.as_str());
        let mut draw = Stream::new(world.plan.seed, &call.name);
        let (least, most) = match service {
            "dynamodb" => (2.0, 30.0),
            "sts" => (20.0, 200.0),
            _ => (30.0, 600.0),
        };
        let (mut there, mut back) = (draw.pause(least, most), draw.pause(least, most));
        let mut late = Duration::ZERO;
        let mut fault = world.outage(service, action);
        if fault.is_none() {
            match world.deviation(Of::Call { action }, &format!("call {}", call.name)) {
                Some(Deviation::Fault(drawn)) => fault = Some(drawn),
                Some(Deviation::Late(millis)) => {
                    fault = Some(Fault::Late);
                    late = Duration::from_millis(millis);
                }
                _ => {}
            }
        }
        if fault == Some(Fault::Slow) {
            (there, back) = (there * 10, back * 10);
        }
        let of = match action {
            "DescribeServices" => Some(Of::Read),
            "ListServiceDeployments" | "DescribeServiceDeployments" => Some(Of::List),
            _ => None,
        };
        let lag = match of.and_then(|of| world.deviation(of, &format!("lag {}", call.name))) {
            Some(Deviation::Lag(millis)) => Duration::from_millis(millis),
            _ => Duration::ZERO,
        };
        there += late;
        if let Some(fault) = fault {
            Counts::one(&mut world.counts.borrow_mut().faults, &format!("{action} {}", fault.name()));
            if service == "dynamodb" {
                world
                    .purposes
                    .borrow_mut()
                    .entry(call.invocation.clone())
                    .and_modify(|purpose| purpose.hampered_by.push(fault));
            }
            for held in world.truth.borrow_mut().held.values_mut().filter(|held| held.by == call.invocation) {
                held.faults += 1;
            }
        }
        Self { fault, there, back, is_late: there >= PATIENCE && !is_read(action), lag }
    }

    /// Whether what the call asks for is done.
    fn is_done(self) -> bool {
        self.fault.is_none_or(Fault::is_done)
    }

    fn shown(&self) -> String {
        self.fault.map(|fault| format!(" ({})", fault.name())).unwrap_or_default()
    }
}

/// The way of a call: to AWS, through its execution, and back.
async fn serve(world: Rc<World>, call: Call, trip: Trip, give: oneshot::Sender<Answered>) {
    let Trip { fault, there, back, is_late, lag } = trip;
    sleep(there).await;
    if fault == Some(Fault::LostBefore) {
        // The sender of the answer is kept, so that the caller waits.
        return std::future::pending().await;
    }
    let refused = |code: &str, message: &str| Ok((400, json!({"__type": code, "message": message}).to_string()));
    let answer: Answered = match fault {
        None => Ok(aws::act(&world, &call, lag, is_late).await),
        Some(Fault::CutBefore) => Err("the connection broke before the request was sent"),
        Some(Fault::Refused) => Ok(server_error(call.service)),
        Some(Fault::Throttled) => match call.service {
            "sts" => Ok((400, aws_stub::sts::error("r", "Throttling", "Rate exceeded"))),
            _ => refused("ThrottlingException", "Rate exceeded"),
        },
        Some(Fault::Denied) => match call.service {
            "sts" => Ok((403, aws_stub::sts::error("r", "AccessDenied", "not authorized to perform: sts:AssumeRole"))),
            _ => refused("AccessDeniedException", "User is not authorized to perform this action"),
        },
        Some(Fault::Passing) => refused("InvalidParameterException", PASSING),
        Some(Fault::Conflict) => Ok(cancelled("TransactionConflict")),
        Some(Fault::CancelledThrottling) => Ok(cancelled("ThrottlingError")),
        Some(Fault::CancelledThroughput) => Ok(cancelled("ProvisionedThroughputExceeded")),
        Some(Fault::Unprocessed) => {
            let input: Value = serde_json::from_str(&call.body).unwrap_or_default();
            Ok((200, json!({"Responses": {}, "UnprocessedKeys": input["RequestItems"]}).to_string()))
        }
        Some(done) => {
            let answer = aws::act(&world, &call, lag, is_late).await;
            match done {
                Fault::DoneAndRefused => Ok(server_error(call.service)),
                Fault::CutAfter => Err("the connection broke before the answer came"),
                Fault::LostAfter => return std::future::pending().await,
                Fault::Truncated => Ok((answer.0, half(&answer.1))),
                _ => Ok(answer),
            }
        }
    };
    sleep(back).await;
    let _ = give.send(answer);
}

/// The first half of a body. Its members are put in order first, since otherwise the half would differ from process to
/// process.
fn half(body: &str) -> String {
    let canonical = serde_json::from_str::<Value>(body).map_or_else(|_| body.to_owned(), |value| value.to_string());
    canonical.chars().take(canonical.len() / 2).collect()
}

fn server_error(service: &str) -> (u16, String) {
    match service {
        "sts" => (500, aws_stub::sts::error("r", "InternalFailure", "try again")),
        "dynamodb" => (500, json!({"__type": "InternalServerError", "message": "try again"}).to_string()),
        _ => (500, json!({"__type": "ServerException", "message": "try again"}).to_string()),
    }
}

fn cancelled(code: &str) -> (u16, String) {
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{code}]"),
        "CancellationReasons": [{"Code": code, "Message": "try again"}, {"Code": "None"}],
    });
    (400, body.to_string())
}

fn read(world: &World, request: &HttpRequest) -> Call {
    let header = |name: &str| request.headers().get(name).unwrap_or_default().to_owned();
    let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
    let target = header("x-amz-target");
    let authorization = header("authorization");
    let key = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    let (service, action) = match target.split_once('.') {
        Some((api, action)) if api.starts_with("DynamoDB") => ("dynamodb", action),
        Some((api, action)) if api.contains("ContainerRegistry") => ("ecr", action),
        Some((_, action)) => ("ecs", action),
        None if request.uri().contains("/functions/") => ("lambda", "Invoke"),
        None => ("sts", "AssumeRole"),
    };
    let invocation =
        environment::current().map_or_else(|| "nobody".to_owned(), |current| current.invocation.borrow().clone());
    let nth = world.next(&format!("{invocation} {action}"));
    Call {
        number: world.next("calls"),
        name: format!("{invocation} {action} {nth}"),
        invocation,
        service,
        action: action.to_owned(),
        key: key.to_owned(),
        body,
        path: request.uri().to_owned(),
    }
}

fn response(status: u16, body: String, kind: &'static str, number: u64) -> Result<HttpResponse, ConnectorError> {
    let status = StatusCode::try_from(status).map_err(|error| ConnectorError::user(error.into()))?;
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    let headers = response.headers_mut();
    headers.insert("content-type", kind);
    headers.insert("x-amzn-requestid", format!("{number:08x}-0000-4000-8000-000000000000"));
    // The true time in whole seconds, as the protocol defines it.
    headers.insert("date", crate::world::true_time().format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    Ok(response)
}
