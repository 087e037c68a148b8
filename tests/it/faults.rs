//! The fault matrix: each call of a change times each fault. What has to come out is said by the rules in `expected`; what
//! comes out is compared with them, cell by cell, and printed as the table of docs/RELIABILITY.md.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::harness::journal::{Fault, Service, Spoilt};
use crate::harness::lambda::Outcome;
use crate::harness::tls::Stranger;
use crate::harness::{REGION, Site, World, ledger};

/// A call of a change of image and tags.
#[derive(Debug, Clone, Copy)]
struct Call {
    name: &'static str,
    action: &'static str,
    /// What stands in the body of this call and of no other of the action.
    mark: &'static str,
    service: Service,
    part: Part,
    /// What a change ends in where this call fails.
    code: &'static str,
    /// How messages name it.
    operation: &'static str,
}

/// Which part of a change a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    /// Nothing is written yet.
    Reading,
    /// Nothing is changed before this is written.
    Begin,
    /// The target account is changed.
    Acting,
    /// All is done.
    Result,
}

const fn call(
    name: &'static str,
    (action, mark): (&'static str, &'static str),
    service: Service,
    part: Part,
    code: &'static str,
    operation: &'static str,
) -> Call {
    Call { name, action, mark, service, part, code, operation }
}

/// In their order.
const CALLS: [Call; 10] = {
    use Part::{Acting, Begin, Reading, Result};
    use Service::{DynamoDb, Ecs, Sts};
    const READ: &str = "ServiceReadFailed";
    const HISTORY: &str = "HistoryUnavailable";
    const TAGS: &str = "TagUpdateFailed";
    const WRITE: &str = "dynamodb:ExecuteTransaction";
    const REGISTER: &str = "RegisterTaskDefinition";
    const UPDATE: &str = "UpdateService";
    [
        call("BatchGetItem", ("BatchGetItem", ""), DynamoDb, Reading, HISTORY, "dynamodb:BatchGetItem"),
        call("AssumeRole", ("AssumeRole", ""), Sts, Reading, "AssumeRoleFailed", "sts:AssumeRole"),
        call("DescribeServices", ("DescribeServices", ""), Ecs, Reading, READ, "ecs:DescribeServices"),
        call(
            "DescribeTaskDefinition",
            ("DescribeTaskDefinition", ""),
            Ecs,
            Reading,
            READ,
            "ecs:DescribeTaskDefinition",
        ),
        call("ExecuteTransaction `STARTED`", ("ExecuteTransaction", "\"STARTED\""), DynamoDb, Begin, HISTORY, WRITE),
        call(REGISTER, (REGISTER, ""), Ecs, Acting, "TaskDefinitionRejected", "ecs:RegisterTaskDefinition"),
        call(UPDATE, (UPDATE, ""), Ecs, Acting, "ServiceUpdateFailed", "ecs:UpdateService"),
        call("TagResource", ("TagResource", ""), Ecs, Acting, TAGS, "ecs:TagResource"),
        call("UntagResource", ("UntagResource", ""), Ecs, Acting, TAGS, "ecs:UntagResource"),
        call("ExecuteTransaction `APPLIED`", ("ExecuteTransaction", "\"APPLIED\""), DynamoDb, Result, HISTORY, WRITE),
    ]
};

/// How often a fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Times {
    Once,
    Always,
}

/// What a fault means to whoever made the call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    /// Nothing is wrong, but slow.
    Slow,
    /// Nothing was done, and AWS may have room, or be reached, a moment later.
    Passing,
    /// AWS did not do it: the answer is a 5xx, or never comes.
    LostBefore,
    /// AWS did it: the answer is a 5xx, or never comes.
    LostAfter,
    /// No answer in the time that the call has.
    HangBefore,
    HangAfter,
    /// AWS did it, and what comes as its answer cannot be read.
    Unreadable,
    /// AWS did it; its answer is an object with nothing in it.
    Empty,
    /// Nothing was done, and it is not asked again.
    Cancelled,
    /// New credentials are needed: for ECS, the role is assumed anew once; otherwise the next invocation has them.
    Expired,
    /// Somebody has to do something first.
    Refused,
}

struct Trouble {
    name: &'static str,
    times: &'static [Times],
    meaning: Meaning,
    way: Way,
}

/// How trouble comes.
enum Way {
    /// To one call.
    Call(fn(Service) -> Fault),
    /// To all calls of a service, by another endpoint: that of the port that is given.
    Endpoint(Box<dyn Fn(SocketAddr) -> String>),
}

const BOTH: &[Times] = &[Times::Once, Times::Always];

fn trouble(name: &'static str, meaning: Meaning, fault: fn(Service) -> Fault) -> Trouble {
    let times: &[Times] = match meaning {
        Meaning::Slow => &[Times::Always],
        _ => BOTH,
    };
    Trouble { name, times, meaning, way: Way::Call(fault) }
}

fn endpoint(name: &'static str, url: impl Fn(SocketAddr) -> String + 'static) -> Trouble {
    Trouble { name, times: &[Times::Always], meaning: Meaning::Passing, way: Way::Endpoint(Box::new(url)) }
}

impl Trouble {
    /// Calls that can meet it: those that are the first of their service, where it is all of the service.
    fn comes_to(&self, call: &Call) -> bool {
        let is_first = ["BatchGetItem", "AssumeRole", "DescribeServices"].contains(&call.action);
        match self.meaning {
            Meaning::Cancelled => call.action == "ExecuteTransaction",
            _ => is_first || matches!(self.way, Way::Call(_)),
        }
    }
}

/// How long answers may be, and more.
const LONG: usize = 64 << 20;

fn troubles(stranger: SocketAddr) -> Vec<Trouble> {
    use Meaning::{
        Cancelled, Empty, Expired, HangAfter, HangBefore, LostAfter, LostBefore, Passing, Refused, Slow, Unreadable,
    };
    vec![
        trouble("answers after 1.2 s", Slow, |_| Fault::Delay(Duration::from_millis(1200))),
        trouble("cut before AWS acted", LostBefore, |_| Fault::CutBefore),
        trouble("cut after AWS acted", LostAfter, |_| Fault::CutAfter),
        trouble("no answer, AWS did not act", HangBefore, |_| Fault::HangBefore),
        trouble("no answer, AWS acted", HangAfter, |_| Fault::HangAfter),
        trouble("500, AWS did not act", LostBefore, |service| server_error(service, false)),
        trouble("500, AWS acted", LostAfter, |service| server_error(service, true)),
        trouble("503 with a page of HTML", LostBefore, |_| Fault::Answer {
            status: 503,
            body: "<html><body>Service Unavailable</body></html>".into(),
        }),
        trouble("throttled", Passing, throttled),
        trouble("transaction cancelled: throttled", Cancelled, |_| {
            Fault::Answer {
            status: 400,
            body: json!({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons [ThrottlingError, None, None]",
                "CancellationReasons": [{"Code": "ThrottlingError", "Message": "Throughput exceeds the current capacity"},
                    {"Code": "None"}, {"Code": "None"}]})
            .to_string(),
        }
        }),
        trouble("expired token", Expired, expired),
        trouble("access denied", Refused, denied),
        Trouble { times: &[Times::Always], ..trouble("connection refused", Passing, |_| Fault::Leave) },
        trouble("200, no JSON", Unreadable, |_| Fault::Spoil(Spoilt::Garbage)),
        trouble("200, half of the JSON", Unreadable, |_| Fault::Spoil(Spoilt::Half)),
        trouble("200, JSON of other types", Unreadable, |_| Fault::Spoil(Spoilt::OtherTypes)),
        trouble("200, `{}`", Empty, |_| Fault::Spoil(Spoilt::Empty)),
        trouble("200, shorter than its head says", LostAfter, |_| Fault::Spoil(Spoilt::Short)),
        trouble("200, 64 MB long", LostAfter, |_| Fault::Spoil(Spoilt::Long(LONG))),
        trouble("200, without an end", LostAfter, |_| Fault::Spoil(Spoilt::Endless)),
        endpoint("name that does not resolve", |_| "http://name.invalid".into()),
        endpoint("TLS: no TLS behind the port", |server| format!("https://{server}")),
        endpoint("TLS: a certificate that nobody vouches for", move |_| format!("https://{stranger}")),
    ]
}

fn server_error(service: Service, acts: bool) -> Fault {
    let (code, message) = match service {
        Service::Sts => ("InternalFailure", "The request processing has failed because of an unknown error."),
        Service::Ecs => ("ServerException", "Service Unavailable. Please try again later."),
        Service::DynamoDb => ("InternalServerError", "The request processing has failed because of an unknown error."),
    };
    let (code, message) = (code.to_owned(), message.to_owned());
    if acts {
        Fault::ActThenRefuse { status: 500, code, message }
    } else {
        Fault::Refuse { status: 500, code, message }
    }
}

fn throttled(service: Service) -> Fault {
    match service {
        Service::Sts => Fault::refuse(400, "Throttling", "Rate exceeded"),
        Service::Ecs => Fault::refuse(400, "ThrottlingException", "Rate exceeded"),
        Service::DynamoDb => Fault::refuse(
            400,
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded.",
        ),
    }
}

fn expired(service: Service) -> Fault {
    let message = "The security token included in the request is expired";
    match service {
        Service::Sts => Fault::refuse(403, "ExpiredToken", message),
        Service::Ecs | Service::DynamoDb => Fault::refuse(400, "ExpiredTokenException", message),
    }
}

fn denied(service: Service) -> Fault {
    let message = "User: arn:aws:sts::111111111111:assumed-role/x/y is not authorized to perform this action";
    match service {
        Service::Sts => Fault::refuse(403, "AccessDenied", message),
        Service::Ecs | Service::DynamoDb => Fault::refuse(400, "AccessDeniedException", message),
    }
}

/// How an event ends.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Applied,
    Failed { code: String, retryable: bool },
}

/// What has to come out.
#[allow(clippy::match_same_arms)] // each arm is a rule of its own
fn expected(call: &Call, trouble: &Trouble, times: Times) -> End {
    use Times::{Always, Once};
    let fails = |retryable| End::Failed { code: call.code.into(), retryable };
    // Their effect stays in AWS, where it can be looked at.
    let writes = call.part != Part::Reading;
    match (trouble.meaning, times) {
        // An answer that took so long says nothing of the clock.
        (Meaning::Slow, _) if call.action == "BatchGetItem" => fails(true),
        (Meaning::Slow, _) => End::Applied,
        // What is asked once more goes well then; what stays so, stays.
        (Meaning::Passing | Meaning::LostBefore | Meaning::LostAfter | Meaning::HangAfter, Once) => End::Applied,
        (Meaning::Passing | Meaning::LostBefore | Meaning::HangBefore, Always) => fails(true),
        (Meaning::HangBefore, Once) => End::Applied,
        // What cannot be answered can be read back; a read cannot.
        (Meaning::LostAfter | Meaning::HangAfter | Meaning::Unreadable, Always) if writes => End::Applied,
        (Meaning::LostAfter | Meaning::HangAfter | Meaning::Unreadable, Always) => fails(true),
        (Meaning::Unreadable, Once) if writes => End::Applied,
        (Meaning::Unreadable, Once) => fails(true),
        // Nothing more is promised of calls that only write.
        (Meaning::Empty, _) if writes => End::Applied,
        (Meaning::Empty, _) => fails(true),
        // What goes into the ledger is written by several attempts.
        (Meaning::Expired | Meaning::Cancelled, Once) if matches!(call.part, Part::Begin | Part::Result) => {
            End::Applied
        }
        // The role is assumed anew, once.
        (Meaning::Expired, Once) if call.service == Service::Ecs => End::Applied,
        (Meaning::Expired | Meaning::Cancelled, _) => fails(true),
        // The change is done: the same event completes its record.
        (Meaning::Refused, _) => fails(call.part == Part::Result),
    }
}

/// The service of one cell: each has an account of its own, so that cells share no family and no quota.
fn site(number: usize) -> Site {
    Site::new(&format!("2222222222{number:02}"), REGION, "ECSCluster", "ecs-dummy-service")
}

/// What can be seen of a service from outside.
struct Seen {
    service: Value,
    revisions: usize,
    deployments: usize,
    records: Vec<Value>,
}

fn look(world: &World, site: &Site) -> Seen {
    let service = world.cloud().service(site);
    Seen {
        revisions: world.cloud().revisions(site, "web").len(),
        deployments: service["deployments"].as_array().map_or(0, Vec::len),
        records: world.records(site),
        service,
    }
}

/// What is not as it has to be.
struct Faults {
    cell: String,
    found: Vec<String>,
}

impl Faults {
    fn check(&mut self, is_so: bool, what: impl FnOnce() -> String) {
        if !is_so {
            self.found.push(format!("{}: {}", self.cell, what()));
        }
    }

    #[allow(clippy::needless_pass_by_value)] // what is found is made where it is compared
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, found: T, wanted: T) {
        self.check(found == wanted, || format!("{name}: {found:?}, should be {wanted:?}"));
    }
}

fn end_of(world: &World, outcome: &Outcome, request_id: &str) -> End {
    match outcome {
        Outcome::Response(response) => {
            let status = response["body"]["status"].as_str().unwrap_or("no status");
            if status == "APPLIED" { End::Applied } else { End::Failed { code: status.into(), retryable: false } }
        }
        Outcome::Error { error_type, .. } => {
            let lines = world.logs();
            let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut told = lines.filter(|l| l["level"] == "ERROR" && l["request_id"] == request_id);
            let retryable = told.next().and_then(|line| line["retryable"].as_bool());
            End::Failed { code: error_type.clone(), retryable: retryable.expect("an error line with retryable") }
        }
        Outcome::Died => End::Failed { code: "died".into(), retryable: false },
    }
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Error { message, .. } => message,
        _ => "",
    }
}

/// Lambda's own time limit: short where calls that change something hang, since they take what they get.
fn deadline(call: &Call, trouble: &Trouble, times: Times) -> Duration {
    let hangs = matches!(trouble.meaning, Meaning::HangBefore | Meaning::HangAfter);
    // A result is tried as long as there is time.
    if hangs && call.part == Part::Acting || call.part == Part::Result && (hangs || times == Times::Always) {
        Duration::from_secs(12)
    } else {
        Duration::from_mins(1)
    }
}

/// One change that meets its trouble, and the same event again where the trouble is gone.
async fn cell(world: &World, number: usize, trouble: &Trouble, times: Times) -> (End, Vec<String>) {
    let call = &CALLS[number];
    let site = site(number);
    let mut faults = Faults { cell: format!("{}, {times:?}, {}", trouble.name, call.name), found: Vec::new() };
    let earlier = world.invoke(&site.event(json!({"ecs_image_name": "busybox:2"}))).await;
    earlier.status("APPLIED");
    let before = look(world, &site);
    world.journal.forget();

    let (variable, server) = match call.service {
        Service::Sts => ("AWS_ENDPOINT_URL_STS", &world.sts.server),
        Service::Ecs => ("AWS_ENDPOINT_URL_ECS", &world.ecs.server),
        Service::DynamoDb => ("AWS_ENDPOINT_URL_DYNAMODB", &world.dynamodb.server),
    };
    match &trouble.way {
        Way::Call(fault) => {
            let count = if times == Times::Once { 1 } else { usize::MAX };
            world.journal.about_times(call.action, call.mark, count, fault(call.service));
        }
        Way::Endpoint(url) => {
            world.set_variable(variable, &url(server.address));
            world.restart().await;
        }
    }
    let event = site.event(json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}, "idempotency_key": "k"}));
    let invocation = world.invocation().deadline_in(deadline(call, trouble, times));
    let ends_by = chrono::Utc::now() + invocation.deadline_in;
    let request_id = invocation.request_id.clone();
    let outcome = world.invoke_with(&event, invocation).await;
    let hits = world.mend().await;
    if matches!(trouble.way, Way::Endpoint(_)) {
        world.set_variable(variable, &server.url());
        world.restart().await;
    } else {
        faults.check(hits > 0, || "its fault never came".into());
    }
    let end = end_of(world, &outcome, &request_id);
    faults.same("end", &end, &expected(call, trouble, times));
    // A call whose answer is lost, and that was not seen to have acted, may still act: nobody else begins until then.
    let is_lost = matches!(trouble.meaning, Meaning::LostBefore | Meaning::HangBefore)
        // The first one is cut before nobody listens any more.
        || matches!(trouble.way, Way::Call(_)) && trouble.name == "connection refused";
    let kept = call.part == Part::Acting && is_lost;
    check_first(&mut faults, world, call, &site, &before, (&outcome, &end), (ends_by, kept));
    check_again(&mut faults, world, call, &site, &before, (&outcome, &end), (&event, kept)).await;
    if !faults.found.is_empty() {
        faults.found.push(format!("    {outcome:?}"));
    }
    (end, faults.found)
}

fn check_first(
    faults: &mut Faults,
    world: &World,
    call: &Call,
    site: &Site,
    before: &Seen,
    (outcome, end): (&Outcome, &End),
    (ends_by, kept): (chrono::DateTime<chrono::Utc>, bool),
) {
    let now = look(world, site);
    let records = &now.records[before.records.len().min(now.records.len())..];
    let kinds = ledger::kinds(records);
    let head = ledger::head(world.tables(), &site.key()).unwrap_or_default();
    let lease = head.get("lease_until").and_then(Value::as_str).unwrap_or_default();
    let message = message(outcome);
    let End::Failed { code, retryable } = end else {
        faults.same("records", kinds, vec!["STARTED".into(), "APPLIED".into()]);
        faults.same("lease is kept", !lease.is_empty(), kept);
        check_done(faults, &now, before, 1);
        return;
    };
    faults.check(message.contains(call.operation) || code != call.code, || "the failed call is not named".into());
    faults.check(message.contains(&site.account), || "the account is not named".into());
    match call.part {
        Part::Reading | Part::Begin => {
            faults.same("records", kinds, vec![]);
            faults.same("lease", lease, "");
            faults.same("calls that change something", world.journal.mutating_ecs_calls(), vec![]);
            faults.same("the service", &now.service, &before.service);
            faults.check(message.contains("Nothing was changed in the target account."), || "it is not said".into());
        }
        Part::Acting => {
            faults.same("records", kinds.clone(), vec!["STARTED".into(), "FAILED".into()]);
            faults.same("lease is kept", !lease.is_empty(), kept);
            faults.check(!kept || message.contains("no other change of this service begins before"), || {
                "until when is not said".into()
            });
            if kinds.len() == 2 {
                let error = ledger::part(&records[1], "error");
                faults.same("recorded code", &error["code"], &json!(code));
                faults.same("recorded retryable", &error["retryable"], &json!(retryable));
                faults.same("recorded message", &error["message"], &json!(message));
                let after = ledger::part(&records[1], "after");
                faults.same("recorded revision", &after["taskDefinitionArn"], &now.service["taskDefinition"]);
                faults.same("recorded tags", sorted(&after["tags"]), sorted(&now.service["tags"]));
            }
            let steps = ["RegisterTaskDefinition", "UpdateService", "TagResource", "UntagResource"];
            let done = steps.iter().position(|step| *step == call.action).unwrap_or_default();
            faults.same("new revisions", now.revisions - before.revisions, usize::from(done > 0));
            faults.same("new deployments", now.deployments - before.deployments, usize::from(done > 1));
            let named = message.contains(&format!("web:{}", now.revisions));
            faults.check(done == 0 || named, || "the new revision is not named".into());
        }
        Part::Result => {
            faults.same("records", kinds, vec!["STARTED".into()]);
            let latest = ends_by + chrono::Duration::seconds(6);
            let ends = chrono::DateTime::parse_from_rfc3339(lease).is_ok_and(|end| end < latest);
            faults.check(ends, || format!("the lease ends at {lease:?}"));
            let named = message.contains("WAS changed") && message.contains(&format!("web:{}", now.revisions));
            faults.check(named, || "that the service was changed is not said".into());
            check_done(faults, &now, before, 1);
        }
    }
}

fn sorted(tags: &Value) -> Vec<String> {
    let mut tags: Vec<String> = tags.as_array().into_iter().flatten().map(Value::to_string).collect();
    tags.sort();
    tags
}

/// The service is as the event wants it, by one change.
fn check_done(faults: &mut Faults, now: &Seen, before: &Seen, revisions: usize) {
    faults.same("new revisions", now.revisions - before.revisions, revisions);
    faults.same("new deployments", now.deployments - before.deployments, 1);
    let arn = now.service["taskDefinition"].as_str().unwrap_or_default();
    faults.check(arn.ends_with(&format!("/web:{}", now.revisions)), || format!("the service runs {arn}"));
    faults.same("tags", &now.service["tags"], &json!([{"key": "new", "value": "1"}]));
}

async fn check_again(
    faults: &mut Faults,
    world: &World,
    call: &Call,
    site: &Site,
    before: &Seen,
    (first, end): (&Outcome, &End),
    (event, kept): (&Value, bool),
) {
    let kinds = |seen: &Seen| ledger::kinds(&seen.records[before.records.len().min(seen.records.len())..]);
    let mut wanted = kinds(&look(world, site));
    if kept || wanted.last().is_some_and(|kind| kind == "STARTED") {
        ledger::expire_lease(world.tables(), &site.key());
    }
    world.journal.forget();
    let again = world.invoke(event).await;
    let now = look(world, site);
    let mutating = world.journal.mutating_ecs_calls();
    match end {
        End::Applied => {
            faults.check(matches!(&again, Outcome::Response(r) if r["body"]["replayed"] == true), || {
                format!("again: {again:?}")
            });
            faults.same("calls again", mutating, vec![]);
            check_done(faults, &now, before, 1);
        }
        End::Failed { retryable: false, .. } if call.part == Part::Acting => {
            faults.same("the same answer", &again, first);
            faults.same("calls again", mutating, vec![]);
        }
        End::Failed { .. } => {
            let applied = matches!(&again, Outcome::Response(r) if r["body"]["status"] == "APPLIED" && r["body"]["replayed"] == false);
            faults.check(applied, || format!("again: {again:?}"));
            if call.part == Part::Result {
                faults.same("calls again", mutating, vec![]);
            }
            wanted.extend(["STARTED".into(), "APPLIED".into()]);
            check_done(faults, &now, before, 1);
        }
    }
    faults.same("records in the end", kinds(&now), wanted);
    if !kept || !matches!(end, End::Applied) {
        let head = ledger::head(world.tables(), &site.key()).unwrap_or_default();
        faults.same("lease in the end", head.get("lease_until"), Some(&json!("")));
    }
}

/// Cells that are run one after the other in one world.
async fn run(cells: &[usize], trouble: &Trouble, times: Times) -> Vec<(usize, Option<End>, Vec<String>)> {
    let ran = AssertUnwindSafe(async {
        let world = World::with_environment(&[]).await;
        let mut ends = Vec::new();
        for number in cells {
            world.seed(&site(*number));
            let (end, faults) = cell(&world, *number, trouble, times).await;
            ends.push((*number, Some(end), faults));
        }
        let memory = world.process().peak_memory().unwrap_or_default() >> 20;
        if memory > 200 {
            ends.push((cells[0], None, vec![format!("{}: the updater took {memory} MB", trouble.name)]));
        }
        ends
    });
    ran.catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let what = format!("{}, {times:?}: {}", trouble.name, text.unwrap_or("a panic"));
        cells.iter().map(|number| (*number, None, vec![what.clone()])).collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_matrix() {
    let stranger = Stranger::start().await;
    let only = std::env::var("FAULTS").unwrap_or_default();
    let troubles: Vec<Trouble> =
        troubles(stranger.address).into_iter().filter(|trouble| trouble.name.contains(&only)).collect();
    let mut jobs = Vec::new();
    for (row, trouble) in troubles.iter().enumerate() {
        for times in trouble.times {
            let slow = deadline(&CALLS[9], trouble, *times) < Duration::from_mins(1);
            let size = if slow { 1 } else { CALLS.len() };
            let numbers = (0..CALLS.len()).filter(|number| trouble.comes_to(&CALLS[*number]));
            for cells in numbers.collect::<Vec<_>>().chunks(size) {
                jobs.push((slow, row, *times, cells.to_vec()));
            }
        }
    }
    let some = async |slow: bool, at_once: usize| {
        let jobs = jobs.iter().filter(|(is_slow, ..)| *is_slow == slow);
        futures_util::stream::iter(jobs)
            .map(async |(_, row, times, cells)| (*row, *times, run(cells, &troubles[*row], *times).await))
            .buffer_unordered(at_once)
            .collect::<Vec<_>>()
            .await
    };
    // They hardly do anything but wait.
    let (slow, others) = tokio::join!(some(true, 20), some(false, 10));
    let mut faults = Vec::new();
    let mut ends = BTreeMap::new();
    for (row, times, ended) in slow.into_iter().chain(others) {
        for (number, end, found) in ended {
            ends.extend(end.map(|end| ((row, times, number), end)));
            faults.extend(found);
        }
    }
    let text: String = faults.iter().map(|fault| fault.chars().take(900).collect::<String>() + "\n").collect();
    assert!(faults.is_empty(), "{} faults:\n{text}", faults.len());
    let table = table(&troubles, &ends);
    println!("{table}");
    if only.is_empty() {
        compare_with_document(&table);
    }
}

/// What came out, as Markdown.
fn table(troubles: &[Trouble], ends: &BTreeMap<(usize, Times, usize), End>) -> String {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let line = |cells: usize| row(&vec!["---".to_owned(); cells]);
    let mut text = row(&["call", "error", "records then", "changed then", "the same event again"].map(str::to_owned));
    text += &line(5);
    for call in &CALLS {
        let (records, changed, again) = match (call.part, call.action) {
            (Part::Reading | Part::Begin, _) => ("none", "nothing", "makes the change"),
            (Part::Result, _) => ("`STARTED`", "all of it", "writes `APPLIED`, changes nothing"),
            (_, "RegisterTaskDefinition") => ("`STARTED`, `FAILED`", "nothing", "makes the change"),
            (_, "UpdateService") => ("`STARTED`, `FAILED`", "a revision is registered", "uses that revision"),
            (_, "TagResource") => ("`STARTED`, `FAILED`", "the service runs the new image", "changes the tags"),
            _ => ("`STARTED`, `FAILED`", "so, and tags are added", "removes tags"),
        };
        let code = format!("`{}`", call.code);
        text += &row(&[call.name.to_owned(), code, records.to_owned(), changed.to_owned(), again.to_owned()]);
    }
    text += "\n";
    let mut names = vec!["fault".to_owned(), String::new()];
    names.extend(CALLS.iter().map(|call| call.name.to_owned()));
    text += &row(&names);
    text += &line(names.len());
    for (number, trouble) in troubles.iter().enumerate() {
        for times in trouble.times {
            let often = if *times == Times::Once { "once" } else { "always" };
            let mut cells = vec![trouble.name.to_owned(), often.to_owned()];
            cells.extend(CALLS.iter().enumerate().map(|(column, call)| match ends.get(&(number, *times, column)) {
                None => "–".to_owned(),
                Some(End::Applied) => "applied".to_owned(),
                Some(End::Failed { code, retryable }) => {
                    let other = if code == call.code { String::new() } else { format!(": `{code}`") };
                    format!("{}{other}", if *retryable { "again" } else { "stop" })
                }
            }));
            text += &row(&cells);
        }
    }
    text
}

/// The document has the table as it came out. `UPDATE_TABLES=1` writes it there.
fn compare_with_document(table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/RELIABILITY.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- fault-matrix -->\n", "<!-- /fault-matrix -->");
    let (before, rest) = document.split_once(begin).expect("the mark before the table");
    let (found, after) = rest.split_once(end).expect("the mark behind the table");
    if std::env::var("UPDATE_TABLES").is_ok_and(|value| value == "1") {
        std::fs::write(path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            found, table,
            "docs/RELIABILITY.md has another table: `UPDATE_TABLES=1 make reliability` writes this one"
        );
    }
}
