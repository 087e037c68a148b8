//! The entry point of the recorder function: it receives the ECS deployment and hook events of all accounts, and the sweep, which asks about
//! deployments for which no event was received. Each failure is logged here, once.

mod counts;
mod events;
mod hooks;

use std::collections::HashMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use chrono::{DateTime, Utc};
use domain::config::{AllowedAccounts, RecorderConfig};
use domain::ecs::deployment::event::{HeardEvent, UnplacedEvent};
use domain::ecs::deployment::hook_event::{HOOK_EVENT, HookEvent};
use domain::ecs::deployment::outcome::DeploymentStatus;
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ids::{AccountId, FunctionArn, ServiceKey};
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::record::SHARDS;
use domain::ledger::write::{LedgerError, Write};
use futures_util::stream::{self, StreamExt};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::aws;
use crate::aws::deployment_watcher::DeploymentWatcher;
use crate::aws::documents::Setting;
use crate::aws::ecs::Ecs;
use crate::aws::ledger_store::{LedgerStore, Open};
use crate::aws::rate_limit::RateLimiters;
use crate::aws::sessions::{Session, SessionRequest, Sessions, session_name};
use crate::outcomes::{OutcomeRecorder, OutcomeToRecord, RecordResult, RecordedBy};
use crate::runtime::{self, EventText};
use crate::telemetry::{self, MeasuredEnd, Metrics};

/// How many deployments one sweep takes from one part of the index.
const DUE_AT_A_TIME: usize = 200;
/// How many deployments are asked about at the same time.
const ASKED_AT_A_TIME: usize = 16;
/// In this time before the end of the invocation, no further deployment is asked about.
const RESERVE: chrono::Duration = chrono::Duration::seconds(20);

/// Reads the settings, and answers invocations until Lambda ends the process.
///
/// # Errors
///
/// Returns a sentence if a setting is missing or wrong, or the runtime API cannot be reached.
pub async fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    telemetry::start(variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let config = RecorderConfig::from_variables(variable)?;
    let shared = aws::config(variable);
    aws::own_region(&shared)?;
    let recorder = &Recorder::new(config, shared, Utc::now, runtime::random, telemetry::print);
    runtime::serve(service_fn(async |event: LambdaEvent<EventText>| {
        let context = &event.context;
        let deadline = i64::try_from(context.deadline).ok().and_then(DateTime::from_timestamp_millis);
        let invocation = RecorderInvocation {
            request_id: context.request_id.clone(),
            deadline: deadline.unwrap_or(DateTime::<Utc>::MAX_UTC),
            partition: FunctionArn::parse(&context.invoked_function_arn)
                .map_or_else(|| "aws".to_owned(), |arn| arn.partition.as_str().to_owned()),
        };
        recorder.answer(event.payload.bytes(), &invocation).await.map_err(Diagnostic::from)
    }))
    .await
}

/// Why an event has to be delivered again, or cannot be understood. Lambda retries it twice, and then sends it to the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderError {
    kind: &'static str,
    message: String,
}

impl RecorderError {
    fn unavailable(error: &LedgerError) -> Self {
        Self { kind: "HistoryUnavailable", message: format!("the history could not be read or written: {error}") }
    }
}

impl From<RecorderError> for Diagnostic {
    fn from(failure: RecorderError) -> Self {
        Self { error_type: failure.kind.to_owned(), error_message: failure.message }
    }
}

/// The data of one invocation.
#[derive(Debug, Clone)]
pub struct RecorderInvocation {
    /// Lambda request id.
    pub request_id: String,
    /// When Lambda ends the invocation.
    pub deadline: DateTime<Utc>,
    /// The partition of the function's ARN.
    pub partition: String,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SweepSummary {
    /// Deployments asked about.
    pub asked: u32,
    /// Those that had ended.
    pub settled: u32,
    /// Those that are still going on.
    pub open: u32,
    /// Those that could not be asked about, or not recorded.
    pub failed: u32,
    /// Those that were left to the next sweep for lack of time.
    pub left: u32,
    /// Counts of deployments that no change started and that were not recorded; each count was now reported in a record.
    pub told: u32,
}

/// The result of checking one deployment in a sweep.
enum CheckResult {
    Recorded,
    Open,
    Failed,
    Left,
}

/// Records how deployments end. The time and random bytes are passed in.
pub struct Recorder {
    config: RecorderConfig,
    shared: SdkConfig,
    sessions: Sessions,
    outcomes: OutcomeRecorder,
    /// The only accounts that may be changed, if they are restricted.
    allowed: Option<Setting<AllowedAccounts>>,
    limits: RateLimiters,
    clock: fn() -> DateTime<Utc>,
    random: fn() -> [u8; 10],
    metrics: Metrics,
}

impl Recorder {
    /// A recorder with these settings.
    #[must_use]
    pub fn new(
        config: RecorderConfig,
        shared: SdkConfig,
        clock: fn() -> DateTime<Utc>,
        random: fn() -> [u8; 10],
        metrics: Metrics,
    ) -> Self {
        let sessions = Sessions::new(&shared);
        let outcomes = OutcomeRecorder { store: LedgerStore::new(&shared, &config.tables, random), clock, random };
        let allowed = config.allowed_accounts.clone();
        let allowed =
            allowed.map(|given| Setting::naming(given, &shared, "ALLOWED_ACCOUNTS", domain::config::accounts));
        Self { config, shared, sessions, outcomes, allowed, limits: RateLimiters::default(), clock, random, metrics }
    }

    /// Answers one event. The answer says what was done, for a person who invokes the function by hand.
    ///
    /// # Errors
    ///
    /// Returns an error if the event has to be delivered again, or cannot be understood.
    pub async fn answer(&self, event: &[u8], invocation: &RecorderInvocation) -> Result<Value, RecorderError> {
        let request_id = invocation.request_id.as_str();
        let answered = self.understood(event, invocation).await;
        match &answered {
            Ok(done) => tracing::info!(request_id, %done, "event taken"),
            Err(RecorderError { kind, message }) => tracing::error!(request_id, code = kind, "{message}"),
        }
        answered
    }

    async fn understood(&self, event: &[u8], invocation: &RecorderInvocation) -> Result<Value, RecorderError> {
        let unknown = |what: String| RecorderError { kind: "EventNotUnderstood", message: what };
        let event: Value =
            serde_json::from_slice(event).map_err(|error| unknown(format!("the event is no JSON: {error}")))?;
        if event.get("sweep").is_some() {
            let swept = self.sweep(invocation).await.map_err(|error| RecorderError::unavailable(&error))?;
            self.count(MeasuredEnd::Swept);
            return Ok(json!({"swept": swept}));
        }
        if event.get("detail-type").and_then(Value::as_str) == Some(HOOK_EVENT) {
            return match HookEvent::parse(&event).map_err(unknown)? {
                None => Ok(json!({"nothing": "the event says nothing of a deployment that waits"})),
                Some(event) => self.record_hook(&event, invocation).await,
            };
        }
        match HeardEvent::parse(&event).map_err(unknown)? {
            None => Ok(json!({"nothing": "the event says nothing of how a deployment ended"})),
            Some(HeardEvent::Placed(event)) => self.record_event(&event, invocation).await,
            Some(HeardEvent::Unplaced(event)) => self.record_unplaced(event, invocation).await,
        }
    }

    /// Does what an event requires that does not name the cluster of its service: the item of its deployment does, if a change started it.
    /// Otherwise nothing is recorded: a ledger belongs to a service of a cluster, and the sweep asks about what changes started.
    async fn record_unplaced(
        &self,
        event: UnplacedEvent,
        invocation: &RecorderInvocation,
    ) -> Result<Value, RecorderError> {
        let id = DeploymentItem::id_in(&event.account_id, &event.region, event.deployment_id());
        let item = self.outcomes.store.read_deployment_item(&id).await;
        let item = item.map_err(|error| RecorderError::unavailable(&error))?;
        match item.and_then(|item| event.placed(&item.service)) {
            Some(event) => self.record_event(&event, invocation).await,
            None => Ok(json!({"nothing": format!(
                "the ARN of the service does not name its cluster, and no change is known that started {id}"
            )})),
        }
    }

    /// Asks ECS about the open deployments that are due.
    async fn sweep(&self, invocation: &RecorderInvocation) -> Result<SweepSummary, LedgerError> {
        let by = (self.clock)();
        let store = &self.outcomes.store;
        let mut due = Vec::new();
        for shard in 0..SHARDS {
            due.extend(store.open_deployments(Open::Due { shard, by, limit: DUE_AT_A_TIME }).await?);
        }
        let accounts = Accounts::default();
        let asked = stream::iter(due.iter().map(|item| self.check(item, &accounts, invocation)));
        let mut asked = asked.buffer_unordered(ASKED_AT_A_TIME);
        let mut swept = SweepSummary::default();
        while let Some(one) = asked.next().await {
            let count = match one {
                CheckResult::Recorded => &mut swept.settled,
                CheckResult::Open => &mut swept.open,
                CheckResult::Failed => &mut swept.failed,
                CheckResult::Left => &mut swept.left,
            };
            *count += 1;
        }
        swept.asked = swept.settled + swept.open + swept.failed;
        swept.told = self.tell_counts(by, invocation).await?;
        Ok(swept)
    }

    async fn check(&self, item: &DeploymentItem, accounts: &Accounts, invocation: &RecorderInvocation) -> CheckResult {
        if (self.clock)() + RESERVE > invocation.deadline {
            return CheckResult::Left;
        }
        let failed = |what: &dyn std::fmt::Display| {
            let deployment_id = item.deployment_id();
            tracing::error!(service = %item.service, deployment_id, "a deployment that is open for long could not be settled: {what}");
            self.count(MeasuredEnd::NotAsked);
        };
        let witness =
            RecordedBy { session: session_name(&invocation.request_id), request_id: invocation.request_id.clone() };
        let (standing, undone_by) = match self.look(item, accounts, invocation).await {
            Ok(seen) => seen,
            Err(what) => {
                failed(&what);
                self.reschedule(item, None).await;
                return CheckResult::Failed;
            }
        };
        let mut ending = match standing {
            DeploymentStatus::Open(_) => {
                self.reschedule(item, undone_by).await;
                return CheckResult::Open;
            }
            DeploymentStatus::AwaitingAction(pauses) => {
                self.reschedule(item, undone_by).await;
                self.saw_pauses(item, &pauses, &witness).await;
                return CheckResult::Open;
            }
            DeploymentStatus::Ended(ending) => ending,
        };
        let service = &item.service;
        self.outcomes.name_superseder(service, item.deployment_id(), &mut ending).await;
        let end = OutcomeToRecord {
            service,
            service_arn: &item.service_arn,
            deployment_id: item.deployment_id(),
            ending: &ending,
            is_final: true,
            answer: None,
        };
        match self.outcomes.record_outcome(end, &witness).await {
            Ok(settled) => {
                if matches!(settled, RecordResult::Recorded { .. }) {
                    self.count(MeasuredEnd::Deployment(ending.kind));
                }
                CheckResult::Recorded
            }
            Err(error) => {
                failed(&error);
                CheckResult::Failed
            }
        }
    }

    /// The state of an open deployment, according to the target account, and the id of its rollback, if one was seen.
    async fn look(
        &self,
        item: &DeploymentItem,
        accounts: &Accounts,
        invocation: &RecorderInvocation,
    ) -> Result<(DeploymentStatus, Option<String>), String> {
        let service = &item.service;
        let session = accounts.session(service.account_id(), async || self.session(service, invocation).await).await?;
        let ecs = Ecs::new(&self.shared, service.region().as_str(), session);
        let limits = self.limits.of(service);
        let followed = TrackedDeployment::of(item);
        let mut watcher = DeploymentWatcher::new(&ecs, &limits, service, followed);
        let standing = watcher.look((self.clock)()).await.map_err(|error| error.to_string())?;
        Ok((standing, watcher.undone_by().map(str::to_owned)))
    }

    async fn session(&self, service: &ServiceKey, invocation: &RecorderInvocation) -> Result<Arc<Session>, String> {
        let (partition, account) = (&invocation.partition, service.account_id());
        let role_arn = format!("arn:{partition}:iam::{account}:role/{}", self.config.reader_role_name);
        let left = (invocation.deadline - (self.clock)()).to_std().unwrap_or_default();
        let session = SessionRequest {
            role_arn: role_arn.clone(),
            session_name: session_name(&invocation.request_id),
            source_identity: None,
            external_id: self.config.external_id.clone(),
            policy: None,
            needed_for: left,
        };
        let session = self.sessions.assume(session).await;
        session.map_err(|error| {
            format!("role {role_arn} could not be assumed: {error}. Deploy the reader role in that account for this function")
        })
    }

    /// Postpones a deployment to a later sweep, which then knows its rollback, if one was seen.
    async fn reschedule(&self, item: &DeploymentItem, undone_by: Option<String>) {
        let check_at = Some(item.next_check((self.clock)()));
        let undone_by = item.undone_by.clone().or(undone_by);
        let to = DeploymentItem { check_at, undone_by, ..item.clone() };
        let write = Write::Deployment { from: Some(Box::new(item.clone())), to: Box::new(to) };
        // If that fails, the next sweep asks again.
        if let Err(error) = self.outcomes.note(&[write]).await {
            tracing::warn!(service = %item.service, "a deployment could not be put off: {error}");
        }
    }

    fn count(&self, ended: MeasuredEnd) {
        (self.metrics)(&telemetry::metric_line(&self.config.metrics_namespace, ended, (self.clock)()));
    }
}

type Opened = OnceCell<Result<Arc<Session>, String>>;

/// One session for each account, during one sweep.
#[derive(Default)]
struct Accounts(Mutex<HashMap<AccountId, Arc<Opened>>>);

impl Accounts {
    async fn session(
        &self,
        account: &AccountId,
        open: impl AsyncFn() -> Result<Arc<Session>, String>,
    ) -> Result<Arc<Session>, String> {
        let cell = Arc::clone(self.0.lock().await.entry(account.clone()).or_default());
        cell.get_or_init(async || open().await).await.clone()
    }
}
