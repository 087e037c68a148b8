//! A change that continues or stops the deployment of another change: it has records, a lease and a key like any other, and sets nothing of
//! the service. How the deployment ends is recorded for the change that started it.

use chrono::{DateTime, Utc};
use domain::ecs::deployment::listed::said_of;
use domain::ecs::deployment::service_deployment::ServiceDeployment;
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ecs::deployment::verb::{Acting, DeploymentVerb, is_left};
use domain::ecs::service::{RecordedState, Service, Snapshot};
use domain::error::{Code, Failure};
use domain::event::request::{DeploymentAction, UpdateRequest};
use domain::ids::ChangeId;
use domain::ledger::admission::LedgerState;
use domain::ledger::head::lease_until;
use domain::ledger::key::{Attempt as Try, RecordPlace};
use domain::ledger::kind::Kind;
use domain::ledger::record::{RawRecord, RecordFields};
use domain::plan::difference::{Difference, DifferenceKind};
use domain::plan::update::Update;
use domain::response::{Response, Status};
use domain::text::rfc3339;

use super::apply::{Applying, Budget, ReadBack};
use super::begin::{Start, Told, not_started};
use super::change::{Attempt, ChangeError};
use super::finish::RunningChange;
use super::snapshot::{FRESH, Looked};
use super::target::AccountClients;
use super::{Updater, Work, messages};
use crate::aws::ecs::DescribeError;
use crate::aws::rate_limit::ApiBucket;

/// The outcomes after which a deployment is over. `DEPLOYMENT_FAILED` may be followed by a rollback, of which ECS is asked.
const OVER: [&str; 5] = ["COMPLETED", "ROLLED_BACK", "ROLLBACK_FAILED", "STOPPED", "SUPERSEDED"];

/// What an earlier attempt at the same change recorded.
pub(super) struct Began<'a> {
    pub change_id: &'a ChangeId,
    pub attempt: Try,
    pub before: RecordedState,
    pub changes: Vec<Difference>,
    /// Whether one of its calls may have acted.
    pub acted: bool,
}

/// The deployment of a change.
enum Found {
    /// As ECS describes it.
    Deployment(Box<ServiceDeployment>),
    /// There is none that anything can be done to, because of this.
    Nothing(String),
}

impl Updater {
    /// The first attempt at a change that continues or stops a deployment.
    pub(super) async fn begin_action(
        &self,
        work: Work<'_>,
        looked: Looked,
        position: &LedgerState,
        action: &DeploymentAction,
    ) -> Result<Attempt, ChangeError> {
        let Work { request, invocation, target, .. } = work;
        let Looked { snapshot, at } = looked;
        let (arn, changes) = match self.acting(target, request, &snapshot.service, action).await? {
            Ok(calls) => calls,
            Err(why) => {
                return self
                    .unchanged(work, &snapshot, None, Told { notes: vec![why], ..Told::default() }, position)
                    .await;
            }
        };
        self.take_tokens(work, changes.len()).await?;
        let now = (self.clock)();
        if now - at > FRESH {
            return Ok(Attempt::Again);
        }
        let until = lease_until(now, invocation.deadline);
        let budget = Budget::new(invocation.deadline, until);
        budget.for_mutation(now).map_err(not_started)?;
        let change_id = ChangeId::new(position.next_change_time(now), (self.random)());
        let before = self.recorded(&request.service_key, &snapshot, None).await;
        let facts = Self::facts(work, change_id.clone(), Try::FIRST, &changes, &before);
        let said = RecordFields {
            changes: Some(&changes),
            before: Some(&before),
            lease_until: Some(until),
            ..RecordFields::default()
        };
        let record = facts.record(Kind::Started, RecordPlace::STARTED, now, &said, position.head.as_ref());
        let record = record.map_err(|error| messages::history_unavailable(&request.service_key, &error.into()))?;
        let start = Start::new(work, record, &change_id, Try::FIRST, until, now);
        let lease = match self.start(work, position, start).await {
            Ok(lease) => lease,
            Err(moved) => return Ok(moved),
        };
        let deadline = invocation.deadline;
        let left = changes.clone();
        let found = snapshot.service.deployment_id().map(str::to_owned);
        let begun = RunningChange {
            facts,
            before,
            changes: Some(changes),
            lease,
            deadline,
            acted_before: false,
            found,
            not_restored: Vec::new(),
        };
        let response = Box::pin(self.act(work, action, &arn, left, begun, &snapshot, budget)).await;
        Ok(Attempt::Ended(Box::new(response.map_err(ChangeError::Failed)?)))
    }

    /// A further attempt: it makes the calls that its first one set out to make and that are still to be made, and no others. A hook that
    /// the deployment has reached since is not continued.
    pub(super) async fn proceed_action(
        &self,
        work: Work<'_>,
        snapshot: Snapshot,
        at: DateTime<Utc>,
        position: &LedgerState,
        action: &DeploymentAction,
        earlier: Began<'_>,
    ) -> Result<Attempt, ChangeError> {
        let Work { request, invocation, target, .. } = work;
        let Began { change_id, attempt, before, changes, acted } = earlier;
        let found =
            self.deployment_of(target, request, &snapshot.service, action).await.map_err(ChangeError::Failed)?;
        let (arn, left) = match &found {
            Found::Deployment(known) => {
                let left = changes.iter().filter(|change| is_left(change, known));
                (known.service_deployment_arn.clone(), left.cloned().collect())
            }
            Found::Nothing(_) => (String::new(), Vec::new()),
        };
        self.take_tokens(work, left.len()).await?;
        let now = (self.clock)();
        if now - at > FRESH {
            return Ok(Attempt::Again);
        }
        let until = lease_until(now, invocation.deadline);
        let budget = Budget::new(invocation.deadline, until);
        budget.for_mutation(now).map_err(|left| {
            let failure = messages::no_time(Code::ServiceUpdateFailed, left).and("Its change stays open.");
            ChangeError::NotStarted(failure)
        })?;
        let facts = Self::facts(work, change_id.clone(), attempt, &changes, &before);
        let said = RecordFields { lease_until: Some(until), ..RecordFields::default() };
        let record = facts.record(Kind::Started, RecordPlace::Started(attempt), now, &said, position.head.as_ref());
        let record = record
            .map_err(|error| messages::history_unavailable(&request.service_key, &error.into()))
            .map_err(ChangeError::Failed)?;
        let start = Start::new(work, record, change_id, attempt, until, now);
        let lease = match self.start(work, position, start).await {
            Ok(lease) => lease,
            Err(Attempt::Lost(_, failure)) => return Err(ChangeError::Failed(failure)),
            Err(moved) => return Ok(moved),
        };
        let deadline = invocation.deadline;
        let found = snapshot.service.deployment_id().map(str::to_owned);
        let begun = RunningChange {
            facts,
            before,
            changes: Some(changes),
            lease,
            deadline,
            acted_before: acted,
            found,
            not_restored: Vec::new(),
        };
        let response = Box::pin(self.act(work, action, &arn, left, begun, &snapshot, budget)).await;
        Ok(Attempt::Ended(Box::new(response.map_err(ChangeError::Failed)?)))
    }

    /// What would be done.
    pub(super) async fn planned_action(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        action: &DeploymentAction,
    ) -> Result<Response, Failure> {
        let (changes, notes) = match self.acting(target, request, &snapshot.service, action).await? {
            Ok((_, changes)) => (changes, Vec::new()),
            Err(why) => (Vec::new(), vec![why]),
        };
        let (now, state) = (rfc3339((self.clock)()), snapshot.state(None));
        let mut response = Response::new(&request.service_key, None, Status::Planned, now, state.clone(), state);
        response.body.changes = Some(Difference::all_told(&changes));
        response.body.notes = notes;
        response.body.act(Some(action));
        Ok(response)
    }

    /// The service deployment and the calls to make for it; or why there is nothing to do.
    async fn acting(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        service: &Service,
        action: &DeploymentAction,
    ) -> Result<Result<(String, Vec<Difference>), String>, Failure> {
        Ok(match self.deployment_of(target, request, service, action).await? {
            Found::Nothing(why) => Err(why),
            Found::Deployment(known) => match action.verb.acting(&known) {
                Acting::Calls(changes) => Ok((known.service_deployment_arn, changes)),
                Acting::Nothing(why) => Err(format!("{why}. Nothing was sent")),
            },
        })
    }

    /// The deployment of the change that an action names, by the ARN that the ledger has of it, or that the service names for it now. It is
    /// never found by its time.
    async fn deployment_of(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        service: &Service,
        DeploymentAction { verb, of }: &DeploymentAction,
    ) -> Result<Found, Failure> {
        let key = &request.service_key;
        let unavailable = |error| messages::history_unavailable(key, &error);
        let records = self.store().records_of(key, of).await.map_err(unavailable)?;
        if records.is_empty() {
            return Err(messages::no_such_change(key, verb.as_str(), of));
        }
        let nothing = |why: String| Ok(Found::Nothing(format!("{why}. Nothing was sent")));
        let Some(id) = records.iter().rev().find_map(|record| text(record, "deployment_id")) else {
            return nothing(format!("change {of} started no deployment, as far as its records say"));
        };
        let over = records.iter().find_map(|record| text(record, "kind").filter(|kind| OVER.contains(kind)));
        if let Some(kind) = over {
            return nothing(format!("deployment {id} of change {of} has ended: {kind}"));
        }
        let item = self.store().read_deployment(key, Some(id), None).await.map_err(unavailable)?.1;
        let Some(item) = item.filter(|item| item.change_id == *of && item.service_arn == service.arn()) else {
            return nothing(format!("nothing is known any more of deployment {id} of change {of}"));
        };
        let followed = TrackedDeployment::of(&item);
        let shown = said_of(service, id).and_then(|says| says.service_deployment);
        for arn in item.service_deployment.iter().chain(&shown) {
            target.limits.take(ApiBucket::ReadDeployments).await;
            let known = target.ecs.describe_service_deployment(arn).await;
            let known = known.map_err(|error| messages::describe_failed(key, &DescribeError::Call(error)))?;
            if let Some(known) = known.filter(|known| followed.may_be(known) && known.service_arn == item.service_arn) {
                return Ok(Found::Deployment(Box::new(known)));
            }
        }
        Err(messages::deployment_not_named(key, verb.as_str(), of, id))
    }

    /// Waits for the tokens of the calls. Meanwhile another change uses the place of this one.
    async fn take_tokens(&self, work: Work<'_>, calls: usize) -> Result<(), ChangeError> {
        let Work { invocation, target, permit, .. } = work;
        let longest = Budget::new(invocation.deadline, DateTime::<Utc>::MAX_UTC).last_start((self.clock)());
        let taken = permit.release_while_waiting(async {
            for _ in 0..calls {
                target.limits.take(ApiBucket::UpdateService).await;
            }
        });
        tokio::time::timeout(longest, taken).await.map_err(|_| not_started(longest))
    }

    /// Makes the calls, and records how that ended.
    #[expect(clippy::too_many_arguments, reason = "a change, what it acts on, and the calls that are left of it")]
    async fn act(
        &self,
        work: Work<'_>,
        action: &DeploymentAction,
        arn: &str,
        left: Vec<Difference>,
        begun: RunningChange,
        snapshot: &Snapshot,
        budget: Budget,
    ) -> Result<Response, Failure> {
        let Work { request, target, permit, .. } = work;
        permit.under_way();
        let key = &request.service_key;
        let none = Update::default();
        let (clock, random) = (self.clock, self.random);
        let applying = Applying {
            target,
            key,
            update: &none,
            budget,
            lease: &begun.lease,
            clock,
            random,
            may_be_registered: false,
        };
        let what = format!("{} of deployment {arn} of change {} of service {key}", action.verb.as_str(), action.of);
        let rejected = |error: &_| messages::rejected(Code::ServiceUpdateFailed, &what, error);
        let mut done = Vec::new();
        for change in left {
            let once = async |time| match change.what {
                DifferenceKind::Hook => target.ecs.continue_service_deployment(arn, &change.path, time).await,
                _ => target.ecs.stop_service_deployment(arn, time).await,
            };
            // Whoever else did the same did what was asked: these calls can be made any number of times.
            let back = async || {
                let known = target.ecs.describe_service_deployment(arn).await?;
                Ok(known.filter(|known| !is_left(&change, known)).map(|_| ReadBack::ours(())))
            };
            let mask = || applying.mask(snapshot);
            let sent = applying.send(ApiBucket::UpdateService, Code::ServiceUpdateFailed, &rejected, mask, once, back);
            match sent.await {
                Ok(()) => done.push(messages::acted(&change, arn)),
                Err(stopped) => {
                    let failure = stopped.failure.and(messages::done_so_far(&done, stopped.is_known));
                    return self.failed(request, begun, snapshot, failure).await;
                }
            }
        }
        let mut notes = done;
        match action.verb {
            _ if notes.is_empty() => {
                notes.push(format!("nothing was left to do for the deployment of change {}", action.of));
            }
            DeploymentVerb::Stop => notes.push(format!("how it ends is recorded for change {}, as ever", action.of)),
            DeploymentVerb::Continue => {
                notes.push(format!(
                    "it may come to another pause hook; how it ends is recorded for change {}",
                    action.of
                ));
            }
        }
        self.applied(request, begun, snapshot, notes).await
    }
}

/// A text of a record.
fn text<'a>(record: &'a RawRecord, name: &str) -> Option<&'a str> {
    record.get(name)?.as_str().filter(|text| !text.is_empty())
}
