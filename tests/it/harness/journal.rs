//! What was called, in order, and what is to go wrong.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;

use super::http::{Answer, Reply};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Sts,
    Ecs,
    DynamoDb,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub at: Instant,
    pub answered: Option<(Instant, u16)>,
    pub service: Service,
    pub action: String,
    /// The account whose credentials signed the call.
    pub account: String,
    pub region: String,
    /// The name of the session whose credentials signed the call; empty for the function's own.
    pub session: String,
    /// The body as it was sent.
    pub body: String,
    /// The request id of the answer.
    pub request_id: String,
}

impl Call {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{} sent no JSON ({e}): {}", self.action, self.body))
    }

    pub(crate) fn mutates_ecs(&self) -> bool {
        self.service == Service::Ecs && !self.action.starts_with("Describe") && !self.action.starts_with("List")
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// An error answer; the server does not act.
    Refuse { status: u16, code: String, message: String },
    /// The server acts, then answers with an error.
    ActThenRefuse { status: u16, code: String, message: String },
    /// This answer, as it is; the server does not act.
    Answer { status: u16, body: String },
    /// An error answer whose message repeats the request with its session token, as AWS does where a signature does not
    /// match; the server does not act.
    Echo { status: u16, code: String },
    /// The connection ends before the server acts.
    CutBefore,
    /// The server acts, then the connection ends without a byte of an answer.
    CutAfter,
    /// The server waits, acts and answers.
    Delay(Duration),
    /// The server waits until it is told to go on, acts and answers.
    Hold(Arc<Notify>),
    /// No answer ever comes, and the server does not act.
    HangBefore,
    /// The server acts; no answer ever comes.
    HangAfter,
    /// The connection ends before the server acts, and from then on nobody listens.
    Leave,
    /// The server acts, and its answer is spoilt on the way.
    Spoil(Spoilt),
}

/// What becomes of a good answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spoilt {
    /// Text that is neither JSON nor XML.
    Garbage,
    /// The first half, which says that it is all.
    Half,
    /// The first half of what its head promised; then the connection ends.
    Short,
    /// Right as JSON or XML, and of other types than were promised.
    OtherTypes,
    /// Right as JSON or XML, and nothing in it.
    Empty,
    /// Right, and so many bytes long.
    Long(usize),
    /// Blanks without an end.
    Endless,
}

impl Spoilt {
    fn reply(self, mut answer: Answer) -> Reply {
        let is_xml = answer.body.starts_with(b"<");
        match self {
            Self::Garbage => answer.body = b"}{ this is neither JSON <nor XML".to_vec(),
            Self::Half => answer.body.truncate(answer.body.len() / 2),
            Self::OtherTypes if is_xml => answer.body = b"<html><body>Welcome</body></html>".to_vec(),
            Self::OtherTypes => answer.body = other_types(&answer.body),
            Self::Empty if is_xml => {
                answer.body =
                    b"<AssumeRoleResponse><AssumeRoleResult></AssumeRoleResult></AssumeRoleResponse>".to_vec();
            }
            Self::Empty => answer.body = b"{}".to_vec(),
            Self::Short => return Reply::Short(answer),
            Self::Long(length) => return Reply::Long(answer, length),
            Self::Endless => {
                answer.body = vec![b' '; 1 << 16];
                return Reply::Endless(answer);
            }
        }
        Reply::Answer(answer)
    }
}

/// The same members, each of them a number; a list, where there were none.
fn other_types(body: &[u8]) -> Vec<u8> {
    let members: serde_json::Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let members: serde_json::Map<String, Value> = members.into_iter().map(|(name, _)| (name, 7.into())).collect();
    if members.is_empty() { b"[7]".to_vec() } else { Value::Object(members).to_string().into_bytes() }
}

impl Fault {
    pub(crate) fn refuse(status: u16, code: &str, message: &str) -> Self {
        Self::Refuse { status, code: code.into(), message: message.into() }
    }

    pub(crate) fn act_then_500() -> Self {
        Self::ActThenRefuse {
            status: 500,
            code: "ServerException".into(),
            message: "Service Unavailable. Please try again later.".into(),
        }
    }

    pub(crate) fn server_error() -> Self {
        Self::refuse(500, "ServerException", "Service Unavailable. Please try again later.")
    }
}

enum Target {
    Action(String),
    /// Calls of an action by an account, or whose body holds a text.
    About(String, String),
    Service(Service),
    Where(Which),
}

/// Which calls are meant.
type Which = Box<dyn Fn(&Call) -> bool + Send>;

struct Rule {
    target: Target,
    /// Calls still to let through.
    skip: usize,
    /// Calls still to spoil.
    times: usize,
    fault: Fault,
    hits: usize,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    rules: Vec<Rule>,
    violations: Vec<String>,
    trusts: bool,
    /// Members and values that AWS's models do not have, and tests send.
    newer: Vec<String>,
    /// Calls that will never be answered.
    silent: usize,
    date: Date,
}

/// What time it is at DynamoDB, as its answers say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Date {
    /// The same as here.
    #[default]
    Right,
    /// So many seconds ahead of here.
    Ahead(i64),
    /// They do not say.
    Missing,
}

/// Shared by the three servers, so that the order across them is kept.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Journal {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on answers of DynamoDB say another time than it is.
    pub(crate) fn set_date(&self, date: Date) {
        self.lock().date = date;
    }

    pub(crate) fn date(&self) -> Date {
        self.lock().date
    }

    /// The `nth` call of `action` from now on, counted from 1, meets `fault`.
    pub(crate) fn on(&self, action: &str, nth: usize, fault: Fault) {
        self.rule(Target::Action(action.into()), nth, 1, fault);
    }

    /// The `nth` call of `action` from now on and all that follow meet `fault`.
    pub(crate) fn from(&self, action: &str, nth: usize, fault: Fault) {
        self.rule(Target::Action(action.into()), nth, usize::MAX, fault);
    }

    /// Every call of `action` by the account `what`, or whose body holds the text `what`, meets `fault`.
    pub(crate) fn about(&self, action: &str, what: &str, fault: Fault) {
        self.about_times(action, what, usize::MAX, fault);
    }

    /// The same for the first `times` of these calls.
    pub(crate) fn about_times(&self, action: &str, what: &str, times: usize, fault: Fault) {
        self.rule(Target::About(action.into(), what.into()), 1, times, fault);
    }

    /// From now on it is not looked at every call whether it is signed, and at mutating ones whether their change is
    /// recorded: a measurement would measure that.
    pub(crate) fn trust(&self) {
        self.lock().trusts = true;
    }

    pub(crate) fn trusts(&self) -> bool {
        self.lock().trusts
    }

    /// Every call of `service` from its `nth` on meets `fault`.
    pub(crate) fn service_from(&self, service: Service, nth: usize, fault: Fault) {
        self.rule(Target::Service(service), nth, usize::MAX, fault);
    }

    /// The `nth` call from now on that is `which` meets `fault`.
    pub(crate) fn on_which(&self, which: impl Fn(&Call) -> bool + Send + 'static, nth: usize, fault: Fault) {
        self.rule(Target::Where(Box::new(which)), nth, 1, fault);
    }

    fn rule(&self, target: Target, nth: usize, times: usize, fault: Fault) {
        self.lock().rules.push(Rule { target, skip: nth - 1, times, fault, hits: 0 });
    }

    /// Takes back all faults, and says how many calls they spoiled.
    pub(crate) fn mend(&self) -> usize {
        self.lock().rules.drain(..).map(|rule| rule.hits).sum()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    pub(crate) fn forget(&self) {
        self.lock().calls.clear();
    }

    /// Names of the calls to `service`, in order.
    pub(crate) fn actions(&self, service: Service) -> Vec<String> {
        self.lock().calls.iter().filter(|c| c.service == service).map(|c| c.action.clone()).collect()
    }

    pub(crate) fn of(&self, action: &str) -> Vec<Call> {
        self.lock().calls.iter().filter(|c| c.action == action).cloned().collect()
    }

    pub(crate) fn only(&self, action: &str) -> Call {
        let mut calls = self.of(action);
        assert_eq!(calls.len(), 1, "calls of {action}; all calls:\n{}", self.summary());
        calls.remove(0)
    }

    pub(crate) fn mutating_ecs_calls(&self) -> Vec<String> {
        self.lock().calls.iter().filter(|c| c.mutates_ecs()).map(|c| c.action.clone()).collect()
    }

    pub(crate) fn summary(&self) -> String {
        let state = self.lock();
        let first = state.calls.first().map(|c| c.at);
        state
            .calls
            .iter()
            .map(|c| {
                let at = c.at.duration_since(first.unwrap_or(c.at)).as_millis();
                let answer = match c.answered {
                    Some((when, status)) => format!("{status} after {} ms", when.duration_since(c.at).as_millis()),
                    None => "no answer".into(),
                };
                let body: String = c.body.chars().take(400).collect();
                format!("{at:>6} ms {:?} {} ({}, {}) {answer}: {body}\n", c.service, c.action, c.account, c.region)
            })
            .collect()
    }

    /// Waits until `action` was called `count` times since the journal was last forgotten.
    pub(crate) async fn reached(&self, action: &str, count: usize) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if self.of(action).len() >= count {
                    return;
                }
                changed.await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok();
        assert!(came, "call {count} of {action} never came; calls:\n{}", self.summary());
    }

    /// How many calls so far will never be answered.
    pub(crate) fn silent(&self) -> usize {
        self.lock().silent
    }

    /// Waits until there are more of them than `before`. Where the server was to act first, it has acted by then.
    pub(crate) async fn fell_silent(&self, before: usize) {
        loop {
            let changed = self.changed.notified();
            if self.silent() > before {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nothing was called for so long.
    pub(crate) async fn quiet(&self, pause: Duration) {
        let calls = || self.lock().calls.len();
        let mut before = calls();
        loop {
            tokio::time::sleep(pause).await;
            let now = calls();
            if now == before {
                return;
            }
            before = now;
        }
    }

    async fn fall_silent(&self) -> Answer {
        self.lock().silent += 1;
        self.changed.notify_waiters();
        std::future::pending().await
    }

    pub(crate) fn violation(&self, what: String) {
        self.lock().violations.push(what);
    }

    /// From now on AWS knows members whose names begin so, which its models do not have yet: requests may have them.
    pub(crate) fn newer(&self, members: &[&str]) {
        self.lock().newer.extend(members.iter().map(|member| format!("/{member}")));
    }

    /// Enters what is wrong with a request by AWS's models.
    pub(crate) fn check_request(&self, faults: impl FnOnce() -> Vec<String>) {
        if self.trusts() {
            return;
        }
        let mut state = self.lock();
        let mut found = faults();
        found.retain(|fault| !state.newer.iter().any(|member| fault.contains(member.as_str())));
        state.violations.extend(found);
    }

    /// What was done against the rules that hold in every test. Taken, they count no more.
    pub(crate) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().violations)
    }

    fn begin(&self, call: Call) -> (usize, Option<Fault>) {
        let mut state = self.lock();
        let mut found = None;
        for rule in &mut state.rules {
            let meant = match &rule.target {
                Target::Action(action) => *action == call.action,
                Target::About(action, what) => {
                    *action == call.action && (*what == call.account || call.body.contains(what))
                }
                Target::Service(service) => *service == call.service,
                Target::Where(which) => which(&call),
            };
            if !meant {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && found.is_none() {
                rule.times -= usize::from(rule.times != usize::MAX);
                rule.hits += 1;
                found = Some(rule.fault.clone());
            }
        }
        state.calls.push(call);
        let index = state.calls.len() - 1;
        drop(state);
        self.changed.notify_waiters();
        (index, found)
    }

    fn end(&self, at: Instant, index: usize, status: u16) {
        let mut state = self.lock();
        // The journal may have been forgotten meanwhile.
        if let Some(call) = state.calls.get_mut(index).filter(|c| c.at == at) {
            call.answered = Some((Instant::now(), status));
        }
    }

    /// Enters one call, and acts on it as the script says: `act` is what the server does when nothing is wrong,
    /// `refuse` writes an error answer in the server's protocol.
    pub(crate) async fn serve<A, F, R>(&self, call: Call, act: A, refuse: R) -> Reply
    where
        A: FnOnce() -> F,
        F: Future<Output = Answer>,
        R: Fn(u16, &str, &str) -> Answer,
    {
        let at = call.at;
        let echo = echo(&call);
        let (index, fault) = self.begin(call);
        let answer = match fault {
            None => act().await,
            Some(Fault::Refuse { status, code, message }) => refuse(status, &code, &message),
            Some(Fault::ActThenRefuse { status, code, message }) => {
                act().await;
                refuse(status, &code, &message)
            }
            Some(Fault::Answer { status, body }) => {
                let mut answer = refuse(status, "", "");
                answer.body = body.into_bytes();
                answer
            }
            Some(Fault::Echo { status, code }) => refuse(status, &code, &echo),
            Some(Fault::CutBefore) => return Reply::Cut,
            Some(Fault::Leave) => return Reply::Leave,
            Some(Fault::CutAfter) => {
                act().await;
                return Reply::Cut;
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                act().await
            }
            Some(Fault::Hold(told)) => {
                told.notified().await;
                act().await
            }
            Some(Fault::HangBefore) => self.fall_silent().await,
            Some(Fault::HangAfter) => {
                act().await;
                self.fall_silent().await
            }
            Some(Fault::Spoil(spoilt)) => {
                let answer = act().await;
                self.end(at, index, answer.status);
                return spoilt.reply(answer);
            }
        };
        self.end(at, index, answer.status);
        Reply::Answer(answer)
    }
}

/// The words of a signature that does not match, which show what was signed.
fn echo(call: &Call) -> String {
    let token = if call.session.is_empty() { super::OWN_TOKEN } else { super::SESSION_TOKEN };
    format!(
        "The request signature we calculated does not match. The Canonical String for this request should have been\n\
         'POST\n/\n\ncontent-type:application/x-amz-json-1.1\nx-amz-security-token:{token}\n\nhost;x-amz-security-token'\n\
         and its body {}",
        call.body
    )
}

/// A request id like those of AWS, never the same twice.
pub(crate) fn request_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("aaaaaaaa-bbbb-4ccc-8ddd-{:012}", NEXT.fetch_add(1, Ordering::Relaxed))
}
