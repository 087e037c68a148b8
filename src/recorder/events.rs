//! Processes an event: the ledger decides what it means and, if the ledger does not tell to whom the deployment belongs, ECS does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::call_error::CallError;
use domain::ecs::deployment::event::{DeploymentEvent, DeploymentEventKind};
use domain::ecs::deployment::listed::{is_rolling, said_of};
use domain::ecs::deployment::outcome::Outcome;
use domain::ecs::deployment::service_deployment::{Listing, ServiceDeployment};
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ecs::deployment::view::EcsView;
use domain::ids::ChangeId;
use domain::ledger::admission::LedgerState;
use domain::ledger::attribution::depends_on_what_was_replaced;
use domain::ledger::budget::{ExternalBudget, Last, Room};
use domain::ledger::deployment::{DeploymentItem, Undoes};
use domain::ledger::deployment_event::decision::{EventContext, EventDecision};
use domain::ledger::deployment_event::{asked_about, classify, needs_ledger};
use domain::ledger::kind::Kind;
use domain::ledger::started::{NewestRecords, StartedChange};
use domain::ledger::write::{LedgerError, Write};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Recorder, RecorderError, RecorderInvocation};
use crate::aws::deployment_watcher::DeploymentWatcher;
use crate::aws::ecs::{DescribeError, Ecs};
use crate::aws::ledger_store::Open;
use crate::aws::rate_limit::{AccountLimits, ApiBucket};
use crate::commit::{Bound, Decision, commit};
use crate::outcomes::{External, NEWEST_RECORDS, OutcomeToRecord, RecordResult, RecordedBy};
use crate::telemetry::MeasuredEnd;

/// The pauses before what an event depends on is read again: a result is mostly written within a second of its deployment. After these
/// pauses, the event has to be delivered again; Lambda retries it after one minute, and again after two more.
const PAUSES: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1200)];
/// How often a write is attempted if the ledger changes meanwhile or DynamoDB does not answer, and for how long at most.
const TRIES: u32 = 12;
const TIMEOUT: Duration = Duration::from_secs(30);
/// In this time before the end of the invocation, nothing is retried.
const RESERVE: chrono::Duration = chrono::Duration::seconds(5);
/// How long ECS is asked what a completed deployment runs, and the time before the end of the invocation that is left to record the end.
const ASKING: Duration = Duration::from_secs(8);
const RECORDING: chrono::Duration = chrono::Duration::seconds(35);
/// How far before and after an event to look for the service deployment of a deployment that the service does not show.
const BEFORE: chrono::Duration = chrono::Duration::days(1);
const BEHIND: chrono::Duration = chrono::Duration::minutes(1);
/// How long after its creation a service deployment may be missing from the list before it is taken as absent: ECS is eventually
/// consistent, and documents no bound. Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>.
const LISTED: chrono::Duration = chrono::Duration::seconds(10);

/// What is read before the meaning of an event is decided.
struct LedgerRead {
    position: LedgerState,
    item: Option<DeploymentItem>,
    open: Vec<DeploymentItem>,
    written: NewestRecords,
    /// What the account has used of today's budget, and the item as it was read.
    budget: (ExternalBudget, Option<ExternalBudget>),
    is_allowed: bool,
}

impl LedgerRead {
    /// The answers of ECS count only if ECS was asked about the deployment whose end the event may report now.
    fn known<'a>(&'a self, event: &DeploymentEvent, asked: Option<&'a EcsAnswers>) -> EventContext<'a> {
        let (head, item) = (self.position.head.as_ref(), self.item.as_ref());
        let known = EventContext { head, item, open: &self.open, written: &self.written, says: None };
        let about = asked_about(event, known).map(|item| item.id.as_str());
        EventContext { says: asked.filter(|asked| asked.about.as_deref() == about).map(|asked| &asked.says), ..known }
    }
}

/// What ECS was asked about, and its answers.
struct EcsAnswers {
    /// The item id of the deployment that ECS was asked about in addition to the event's own.
    about: Option<String>,
    says: EcsView,
}

/// The result of processing an event.
enum Done {
    /// The answer to the event.
    Answered(Value),
    /// The event reports this end of a deployment.
    Ended { deployment_id: String, ending: Box<Outcome>, is_final: bool, item: Option<Box<DeploymentItem>> },
    /// Something was noted, and the event may mean more now.
    Noted(Value),
    /// It was recorded that no change started the deployment.
    External(ChangeId),
    /// The deployment, which no change started, was counted: this is the count of its account today.
    Counted(u32),
    /// The event has to be processed again later.
    Later(String),
    /// ECS has to be asked this question.
    Ask(Question),
}

/// A question to ECS about an event.
struct Question {
    /// The deployment that is asked about in addition to the event's own.
    about: Option<Box<DeploymentItem>>,
    /// Whether the event's own deployment has been noted.
    is_noted: bool,
    /// The changes that may have started the event's own deployment.
    begun: Vec<StartedChange>,
}

impl Recorder {
    /// Does what an event requires for the ledger.
    pub(super) async fn record_event(
        &self,
        event: &DeploymentEvent,
        invocation: &RecorderInvocation,
    ) -> Result<Value, RecorderError> {
        let witness = RecordedBy { session: String::new(), request_id: invocation.request_id.clone() };
        let mut pauses = PAUSES.iter();
        let mut asked: Option<EcsAnswers> = None;
        let mut noted = None;
        loop {
            let done = self.step(event, asked.as_ref(), invocation, &witness).await;
            let done = match done {
                // The service changes more often than this invocation can wait for.
                Err(error @ LedgerError::Conflict(_)) => return Err(too_early(&error.to_string())),
                done => done.map_err(|error| RecorderError::unavailable(&error))?,
            };
            match done {
                Done::Answered(answer) => return Ok(noted.unwrap_or(answer)),
                Done::Ended { deployment_id, mut ending, is_final, item } => {
                    if let Some(item) = item {
                        self.name_what_runs(&item, &mut ending, invocation).await;
                    }
                    return self.ended(event, &deployment_id, &ending, is_final, &witness).await;
                }
                Done::Noted(answer) if event.happened == DeploymentEventKind::InProgress || noted.is_some() => {
                    return Ok(answer);
                }
                Done::Noted(answer) => noted = Some(answer),
                Done::External(change_id) => {
                    self.count(MeasuredEnd::Deployment(Kind::External));
                    return Ok(json!({"recorded": Kind::External, "change_id": change_id}));
                }
                Done::Counted(count) => {
                    self.count(MeasuredEnd::NotRecorded);
                    let account = event.service.account_id().as_str();
                    tracing::warn!(account, count, service = %event.service, "deployments that no change started are counted and not recorded");
                    return Ok(json!({"counted": count}));
                }
                Done::Ask(question) => {
                    // ECS was asked about another deployment: the set of open deployments has changed.
                    if asked.is_some() {
                        let why = || format!("the deployments of service {} move while ECS is asked", event.service);
                        let Some(pause) = pauses.next() else { return Err(too_early(&why())) };
                        tokio::time::sleep(*pause).await;
                    }
                    let says = self.says(event, &question, invocation).await;
                    asked = Some(EcsAnswers { about: question.about.map(|item| item.id), says });
                }
                Done::Later(why) => {
                    let Some(pause) = pauses.next() else { return Err(too_early(&why)) };
                    tokio::time::sleep(*pause).await;
                    // What ECS shows may be out of date, too.
                    asked = None;
                }
            }
        }
    }

    /// Decides what an event means, and writes what has to be written, according to a consistent state of the ledger.
    async fn step(
        &self,
        event: &DeploymentEvent,
        asked: Option<&EcsAnswers>,
        invocation: &RecorderInvocation,
        witness: &RecordedBy,
    ) -> Result<Done, LedgerError> {
        let left = (invocation.deadline - RESERVE - (self.clock)()).to_std().unwrap_or_default();
        let bound = Bound::new(TRIES, Instant::now() + left.min(TIMEOUT));
        let random = (self.random)();
        let read = async || self.read(event).await;
        let decide = |read: &LedgerRead| self.decide(event, read, asked, random, witness);
        commit(&self.outcomes.store, self.random, bound, None, read, decide).await
    }

    async fn read(&self, event: &DeploymentEvent) -> Result<LedgerRead, LedgerError> {
        let (store, service) = (&self.outcomes.store, &event.service);
        let (account, day) = (service.account_id(), (self.clock)().date_naive());
        let (position, item, used) = store.read_heard(service, &event.deployment_id, day).await?;
        let budget = (used.clone().unwrap_or_else(|| ExternalBudget::unused(account.clone(), day)), used);
        if !needs_ledger(event, position.head.as_ref(), item.as_ref()) {
            let (open, written) = (Vec::new(), NewestRecords::default());
            return Ok(LedgerRead { position, item, open, written, budget, is_allowed: true });
        }
        let is_allowed = self.is_allowed(account).await;
        let (open, records) =
            tokio::try_join!(store.open_deployments(Open::Of(service)), store.newest_records(service, NEWEST_RECORDS))?;
        Ok(LedgerRead { position, item, open, written: NewestRecords::of(&records), budget, is_allowed })
    }

    fn decide(
        &self,
        event: &DeploymentEvent,
        read: &LedgerRead,
        asked: Option<&EcsAnswers>,
        random: [u8; 10],
        witness: &RecordedBy,
    ) -> Result<Decision<Done>, LedgerError> {
        let now = (self.clock)();
        Ok(match classify(event, read.known(event, asked), now) {
            EventDecision::Nothing(why) => Decision::Done(Done::Answered(json!({"nothing": why}))),
            EventDecision::Refused(why) => {
                tracing::error!(service = %event.service, "refused: {why}");
                Decision::Done(Done::Answered(json!({"refused": why})))
            }
            EventDecision::Retry(why) => Decision::Done(Done::Later(why)),
            EventDecision::Ask => {
                let about = asked_about(event, read.known(event, None)).cloned();
                // A deployment that is already noted is known to belong to a change or to nobody.
                let begun = if read.item.is_none() { read.written.begun.clone() } else { Vec::new() };
                let question = Question { about: about.map(Box::new), is_noted: read.item.is_some(), begun };
                Decision::Done(Done::Ask(question))
            }
            EventDecision::Ended { deployment_id, ending, is_final } => {
                let is_new = |item: &&DeploymentItem| ending.kind == Kind::Completed && item.accepts(ending.kind);
                let item = read.item.as_ref().filter(is_new).cloned().map(Box::new);
                Decision::Done(Done::Ended { deployment_id, ending: Box::new(ending), is_final, item })
            }
            EventDecision::IsRollback { undone } => {
                let item = undone.as_ref().map(|item| item.id.clone());
                // If the end of the rollback is received first, ECS tells when the rollback began.
                let created_at = asked.and_then(|asked| asked.says.created_at).filter(|at| *at <= event.at);
                let since =
                    created_at.filter(|_| event.happened != DeploymentEventKind::InProgress).unwrap_or(event.at);
                let (write, undoes) = note_rollback(event, read, undone.map(|item| *item), since, random, now);
                let undone = item.map(|item| Write::Undone { item, by: event.deployment_id.clone() });
                Decision::Write(
                    [Some(write), undone].into_iter().flatten().collect(),
                    Done::Noted(json!({"rollback_of": undoes})),
                )
            }
            EventDecision::OrphanedChange(item) => {
                let noted = json!({"started_by": item.change_id});
                Decision::Write(vec![Write::Deployment { from: None, to: item }], Done::Noted(noted))
            }
            EventDecision::External(detail) => {
                let external = External {
                    service: &event.service,
                    service_arn: &event.service_arn,
                    deployment_id: &event.deployment_id,
                    at: event.at,
                    detail: &detail,
                    random,
                };
                let last = Last {
                    service: event.service.clone(),
                    service_arn: event.service_arn.clone(),
                    deployment_id: event.deployment_id.clone(),
                    at: event.at,
                };
                let (budget, from) = &read.budget;
                let room = budget.room(read.position.head.as_ref(), read.is_allowed, last);
                let used = |to: &ExternalBudget| Write::Budget { from: from.clone(), to: to.clone() };
                if let Room::Beyond(to) = &room {
                    let count = to.beyond.as_ref().map_or(0, |beyond| beyond.count);
                    let writes = vec![used(to), self.outcomes.external_counted(external)];
                    return Ok(Decision::Write(writes, Done::Counted(count)));
                }
                let (mut writes, change_id) = self.outcomes.external(external, &read.position, witness)?;
                if let Room::Within(to) = &room {
                    writes.push(used(to));
                }
                Decision::Write(writes, Done::External(change_id))
            }
        })
    }

    async fn ended(
        &self,
        event: &DeploymentEvent,
        deployment_id: &str,
        ending: &Outcome,
        is_final: bool,
        witness: &RecordedBy,
    ) -> Result<Value, RecorderError> {
        let (service, service_arn) = (&event.service, event.service_arn.as_str());
        let end = OutcomeToRecord { service, service_arn, deployment_id, ending, is_final, answer: None };
        match self.outcomes.record_outcome(end, witness).await.map_err(|error| RecorderError::unavailable(&error))? {
            RecordResult::Recorded { change_id } => {
                self.count(MeasuredEnd::Deployment(ending.kind));
                Ok(json!({"recorded": ending.kind, "change_id": change_id}))
            }
            RecordResult::Known(_) => Ok(json!({"nothing": "how the deployment ended is recorded"})),
            RecordResult::Unknown => Ok(json!({"nothing": "nothing is known any more of the deployment"})),
            RecordResult::Refused(why) => {
                tracing::error!(service = %event.service, "refused: {why}");
                Ok(json!({"refused": why}))
            }
        }
    }

    /// Adds to the end of a completed deployment which service deployment was its own, and the digests of the images that it runs: an event
    /// has neither. The end is recorded without them if ECS cannot be asked in time.
    async fn name_what_runs(&self, item: &DeploymentItem, ending: &mut Outcome, invocation: &RecorderInvocation) {
        let service = &item.service;
        let left = (invocation.deadline - RECORDING - (self.clock)()).to_std().unwrap_or_default();
        let asked = tokio::time::timeout(left.min(ASKING), async {
            let session = self.session(service, invocation).await?;
            let ecs = Ecs::new(&self.shared, service.region().as_str(), session);
            let limits = self.limits.of(service);
            let mut watcher = DeploymentWatcher::new(&ecs, &limits, service, TrackedDeployment::of(item));
            let known = watcher.service_deployment().await.map_err(|error| error.to_string())?;
            let images = watcher.running_images(known.as_ref(), None).await;
            Ok((known.map(|known| known.service_deployment_arn), images))
        });
        match asked.await.unwrap_or_else(|_| Err("no time was left".to_owned())) {
            Ok((service_deployment, running_images)) => {
                ending.detail.service_deployment = service_deployment;
                ending.detail.running_images = running_images;
            }
            Err(why) => tracing::warn!(service = %service, "which images run cannot be asked: {why}"),
        }
    }

    /// What ECS says about an event's deployment, and about the deployment whose end the event may report. Empty if ECS cannot be asked.
    async fn says(&self, event: &DeploymentEvent, question: &Question, invocation: &RecorderInvocation) -> EcsView {
        let service = &event.service;
        let session = match self.session(service, invocation).await {
            Ok(session) => session,
            Err(why) => {
                tracing::warn!(service = %service, "whose deployment {} is cannot be asked: {why}", event.deployment_id);
                return unasked();
            }
        };
        let ecs = Ecs::new(&self.shared, service.region().as_str(), session);
        let limits = self.limits.of(service);
        asked(&ecs, &limits, event, question).await.unwrap_or_else(|error| {
            tracing::warn!(service = %service, "whose deployment {} is cannot be told: {error}", event.deployment_id);
            unasked()
        })
    }
}

fn unasked() -> EcsView {
    EcsView { is_unasked: true, ..EcsView::default() }
}

pub(super) fn too_early(why: &str) -> RecorderError {
    RecorderError { kind: "TooEarly", message: format!("{why}. Nothing was recorded; the event has to come again") }
}

/// The write that notes the event's deployment as a rollback that began at `since`.
fn note_rollback(
    event: &DeploymentEvent,
    read: &LedgerRead,
    undone: Option<DeploymentItem>,
    since: DateTime<Utc>,
    random: [u8; 10],
    now: DateTime<Utc>,
) -> (Write, Option<String>) {
    let deployment_id = undone.as_ref().map(|item| item.deployment_id().to_owned());
    let change_id = undone.map_or_else(|| ChangeId::new(event.at, random), |item| item.change_id);
    let mut to = read.item.clone().unwrap_or_else(|| {
        let (arn, id) = (&event.service_arn, &event.deployment_id);
        let item = DeploymentItem::new(&event.service, arn, id, change_id, since, now);
        DeploymentItem { check_at: None, ..item }
    });
    // ECS reuses the same id for each rollback: nothing is known yet of the deployment that had the id first.
    if to.is_only_a_rollback() {
        to.started_at = since;
    }
    to.undoes = Some(Undoes { deployment_id: deployment_id.clone(), since });
    (Write::Deployment { from: read.item.clone().map(Box::new), to: Box::new(to) }, deployment_id)
}

async fn asked(
    ecs: &Ecs,
    limits: &AccountLimits,
    event: &DeploymentEvent,
    Question { about, is_noted, begun }: &Question,
) -> Result<EcsView, CallError> {
    limits.take(ApiBucket::ReadDeployments).await;
    let service = match ecs.describe_service(&event.service).await {
        Ok(service) => service,
        Err(DescribeError::Call(error)) => return Err(error),
        Err(_) => return Ok(EcsView::default()),
    };
    let mut says = match said_of(&service, &event.deployment_id) {
        Some(mut says) => {
            if !*is_noted && event.happened != DeploymentEventKind::InProgress && says.rolls_back.is_none() {
                let listing = listing_of(ecs, limits, event, &says).await?;
                says.rolls_back = match listing {
                    Listing::OfARollback => Some(true),
                    Listing::Own => Some(false),
                    Listing::OwnOrOfARollback | Listing::Neither | Listing::Nothing => None,
                };
            }
            says
        }
        None => by_service_deployment(ecs, limits, event).await?,
    };
    says.service_created_at = service.created_at();
    says.other_strategy = !is_rolling(&service);
    if begun.iter().any(|begun| depends_on_what_was_replaced(begun.changes.as_deref(), begun.before.as_ref(), &says))
        && let Some(service_deployment) = &says.service_deployment
    {
        limits.take(ApiBucket::ReadDeployments).await;
        if let Some(known) = ecs.describe_service_deployment(service_deployment).await.or_else(none_for_now)? {
            says.predecessor_runs = ecs.replaced_by(&known).await.or_else(none_for_now)?;
        }
    }
    if let Some(arn) = &says.task_definition {
        // If the task definition no longer exists, its images cannot be told.
        limits.take(ApiBucket::DescribeTaskDefinition).await;
        says.images = match ecs.describe_task_definition(arn).await {
            Ok(definition) => Some(definition.images()),
            Err(error) if may_tell_later(&error) => return Err(error),
            Err(_) => None,
        };
    }
    if let Some(about) =
        about.as_deref().filter(|_| event.happened != DeploymentEventKind::InProgress || event.rolls_back())
    {
        let known = service_deployment_of(ecs, limits, event, about).await?;
        // A rollback is that of the service's current service deployment. If that is another one, somebody else's deployment came between.
        let is_of_another = event.rolls_back()
            && known
                .as_ref()
                .zip(says.service_deployment.as_deref())
                .is_some_and(|(known, current)| known.service_deployment_arn != current);
        says.is_rolled_back =
            if is_of_another { Some(false) } else { known.as_ref().and_then(ServiceDeployment::is_rolled_back) };
        says.stands = known.as_ref().and_then(ServiceDeployment::stands);
    }
    Ok(says)
}

/// Whether ECS may answer if it is asked again: a missing permission can be granted, and the event is kept until then.
fn may_tell_later(error: &CallError) -> bool {
    error.retryable() || error.denied()
}

/// Returns nothing if asking again does not help.
fn none_for_now<T>(error: CallError) -> Result<Option<T>, CallError> {
    if may_tell_later(&error) { Err(error) } else { Ok(None) }
}

/// What is known of a deployment that the service no longer shows, from its service deployment: the one whose revision has its number.
async fn by_service_deployment(
    ecs: &Ecs,
    limits: &AccountLimits,
    event: &DeploymentEvent,
) -> Result<EcsView, CallError> {
    let (id, started_at) = (event.deployment_id.as_str(), DateTime::<Utc>::MIN_UTC);
    let followed = TrackedDeployment { id, before: None, started_at, service_deployment: None, undone_by: None };
    limits.take(ApiBucket::ReadDeployments).await;
    let listed = ecs.list_service_deployments(&event.service, (event.at - BEFORE, event.at + BEHIND)).await;
    let listed = listed.or_else(|error| if may_tell_later(&error) { Err(error) } else { Ok(Vec::new()) })?;
    let Some(listed) = followed.by_number(&listed) else { return Ok(EcsView::default()) };
    let Some(revision) = listed.revision() else { return Ok(EcsView::default()) };
    Ok(EcsView {
        created_at: listed.created_at(),
        task_definition: ecs.task_definition_of_revision(revision).await?,
        service_deployment: Some(listed.service_deployment_arn.clone()),
        rolls_back: Some(false),
        ..EcsView::default()
    })
}

/// Whether a deployment that has ended was a rollback itself, as the list of service deployments shows it: after its end, the deployment no
/// longer says so.
async fn listing_of(
    ecs: &Ecs,
    limits: &AccountLimits,
    event: &DeploymentEvent,
    says: &EcsView,
) -> Result<Listing, CallError> {
    let Some(created_at) = says.created_at else { return Ok(Listing::Nothing) };
    let id = event.deployment_id.as_str();
    let own = TrackedDeployment { id, before: None, started_at: created_at, service_deployment: None, undone_by: None };
    let look = async || {
        limits.take(ApiBucket::ReadDeployments).await;
        let listed = ecs.list_service_deployments(&event.service, (created_at - BEFORE, created_at + BEHIND)).await;
        let listed = listed.or_else(|error| if may_tell_later(&error) { Err(error) } else { Ok(Vec::new()) })?;
        Ok(if own.by_number(&listed).is_some() { Listing::Own } else { Listing::of(&listed, created_at) })
    };
    let listing = look().await?;
    // The list may not contain the deployment's own service deployment yet, and may not show yet that the one before it is rolled back.
    match (created_at + LISTED - event.at).to_std() {
        Ok(left) if matches!(listing, Listing::OfARollback | Listing::Neither) && !left.is_zero() => {
            tokio::time::sleep(left).await;
            look().await
        }
        _ => Ok(listing),
    }
}

/// The service deployment of a deployment that is noted.
async fn service_deployment_of(
    ecs: &Ecs,
    limits: &AccountLimits,
    event: &DeploymentEvent,
    about: &DeploymentItem,
) -> Result<Option<ServiceDeployment>, CallError> {
    DeploymentWatcher::new(ecs, limits, &event.service, TrackedDeployment::of(about)).service_deployment().await
}
