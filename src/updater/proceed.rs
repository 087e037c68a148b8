//! A further attempt at a change that began in an earlier one: it continues that change with what is left of it.

use std::sync::Arc;

use domain::ecs::deployment::listed::RolledBack;
use domain::ecs::reason;
use domain::ecs::service::{RecordedState, Snapshot};
use domain::ecs::task_definition::TaskDefinition;
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ledger::admission::LedgerState;
use domain::ledger::head::lease_until;
use domain::ledger::hidden::{hidden, holds_secrets, parameter_holds_secrets};
use domain::ledger::idempotency::Progress;
use domain::ledger::key::{RecordKey, RecordPlace};
use domain::ledger::kind::Kind;
use domain::ledger::record::{ChangeContext, Record, RecordFields};
use domain::mask::Mask;
use domain::plan::Plan;
use domain::plan::continuation::{Remaining, Resumed};
use domain::plan::difference::{Difference, DifferenceKind};
use domain::plan::update::Update;

use super::acting::Began;
use super::apply::Budget;
use super::begin::Start;
use super::change::{Attempt, ChangeError};
use super::finish::RunningChange;
use super::image_lookup::Images;
use super::restoring::Restoring;
use super::snapshot::{FRESH, Looked};
use super::target::AccountClients;
use super::turn::{Revision, Turn};
use super::{Updater, Work, messages};
use crate::aws::ecs::DescribeError;

/// What the first attempt at a change recorded.
struct First {
    record: Record,
    before: RecordedState,
}

impl Updater {
    /// Resumes a change of this key that has no final answer: `BEFORE` is taken from its first `STARTED` record, and what the change
    /// already did is not done again.
    pub(super) async fn proceed(
        &self,
        work: Work<'_>,
        looked: Looked,
        position: &LedgerState,
        progress: &Progress,
        turn: &mut Turn,
    ) -> Result<Attempt, ChangeError> {
        let Work { invocation, target, .. } = work;
        let service = &work.request.service_key;
        let Looked { mut snapshot, at } = looked;
        let change_id = &progress.change_id;
        let Some(attempt) = progress.attempt.next() else {
            return self.give_up(work, &snapshot, position, change_id).await;
        };
        let first = self.first(work, change_id).await.map_err(ChangeError::Failed)?;
        if let Some(action) = &work.request.action {
            let changes = first.record.changes().unwrap_or_default();
            let began = Began { change_id, attempt, before: first.before, changes, acted: progress.acted };
            return self.proceed_action(work, snapshot, at, position, action, began).await;
        }
        let request = &Images::as_begun(work.request, &first.record.pins());
        let work = Work { request, ..work };
        target.definitions.mark_retried();
        if progress.acted {
            let changes = first.record.changes();
            Self::look_at_primary(target, &mut snapshot.service, changes.as_deref(), Some(&first.before))
                .await
                .map_err(|error| messages::describe_failed(service, &DescribeError::Call(error)))
                .map_err(ChangeError::Failed)?;
        }

        let plan = self.planned_again(target, request, &snapshot, &first).await.map_err(ChangeError::Failed)?;
        let next = self.remaining(work, &snapshot, &first, plan, progress.acted).await.map_err(ChangeError::Failed)?;
        let revision = match &next {
            Next::Update(update) => self.turn(work, update, turn).await?,
            _ => Revision::None,
        };
        let now = (self.clock)();
        if now - at > FRESH {
            return Ok(Attempt::Again);
        }
        let until = lease_until(now, invocation.deadline);
        let budget = Budget::new(invocation.deadline, until);
        budget
            .for_mutation(now)
            .map_err(|left| {
                messages::no_time(domain::error::Code::ServiceUpdateFailed, left).and("Its change stays open.")
            })
            .map_err(ChangeError::NotStarted)?;
        let changes = first.record.changes();
        let facts = ChangeContext {
            restores: first.record.restores.clone(),
            ..Self::facts(work, change_id.clone(), attempt, changes.as_deref().unwrap_or_default(), &first.before)
        };
        let said = RecordFields { lease_until: Some(until), ..RecordFields::default() };
        let place = RecordPlace::Started(attempt);
        let record = facts.record(Kind::Started, place, now, &said, position.head.as_ref());
        let record = record
            .map_err(|error| messages::history_unavailable(service, &error.into()))
            .map_err(ChangeError::Failed)?;
        let start = Start::new(work, record, change_id, attempt, until, now);
        let lease = match self.start(work, position, start).await {
            Ok(lease) => lease,
            Err(Attempt::Lost(_, failure)) => return Err(ChangeError::Failed(failure)),
            Err(moved) => return Ok(moved),
        };
        let container = first.before.state.task_definition_name.as_deref();
        let recorded = self.recorded(service, &snapshot, container).await;
        let earlier = messages::done_earlier(&first.before, &recorded);
        let (before, deadline, not_restored) = (first.before, invocation.deadline, first.record.not_restored());
        let found = snapshot.service.deployment_id().map(str::to_owned);
        let acted_before = progress.acted;
        let begun = RunningChange { facts, before, changes, not_restored, lease, deadline, acted_before, found };
        let ended = match next {
            Next::Update(update) => {
                Box::pin(self.carry_out(work, snapshot, *update, revision, begun, budget, earlier)).await
            }
            Next::Nothing => self.applied(request, begun, &snapshot, Vec::new()).await,
            Next::Failed(failure) => {
                let failure = failure.and(messages::done_so_far(&earlier, true));
                self.failed(request, begun, &snapshot, failure).await
            }
        };
        Ok(Attempt::Ended(Box::new(ended.map_err(ChangeError::Failed)?)))
    }

    /// The last attempt that a change may have ended before the change did: the change is closed, and its key answers accordingly.
    async fn give_up(
        &self,
        work: Work<'_>,
        snapshot: &Snapshot,
        position: &LedgerState,
        change_id: &domain::ids::ChangeId,
    ) -> Result<Attempt, ChangeError> {
        if let Some(lease) = position.lease()
            && let Some(orphan) = self.orphan(work.request, lease).await?
        {
            return Ok(self.close_orphan(work, snapshot, position, lease, orphan).await?);
        }
        Err(ChangeError::Failed(messages::too_many_attempts(change_id)))
    }

    async fn first(&self, work: Work<'_>, change_id: &domain::ids::ChangeId) -> Result<First, Failure> {
        let service = &work.request.service_key;
        let unreadable = |what: &str| messages::cannot_resume(change_id, what);
        let key = RecordKey::new(change_id.clone(), RecordPlace::STARTED);
        let record = self.store().record(service, &key).await;
        let record = record.map_err(|error| messages::history_unavailable(service, &error))?;
        let record = record.ok_or_else(|| unreadable("its STARTED record is missing"))?;
        let before = record.before().ok_or_else(|| unreadable("its STARTED record has no before"))?;
        Ok(First { record, before })
    }

    /// The plan of the change for the service as it is now, and the plan for the service as it was before: the revision of the second plan
    /// is the one that the change wants.
    async fn planned_again(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        first: &First,
    ) -> Result<Plans, Failure> {
        // What the change was asked to check held when it began.
        let mut again = request.clone();
        again.expected_task_definition = None;
        // A restore that found nothing to undo names no change, and has nothing to continue.
        let mut seen = snapshot.clone();
        let restoring = match first.record.restores {
            Some(_) => self.restoring(target, &again, &mut seen, Some(&first.record)).await?,
            None => Restoring::No,
        };
        let now = restoring.plan(&again, &seen);
        let ran = first.before.state.task_definition_arn.as_deref();
        let base = match ran {
            Some(arn) if snapshot.service.task_definition_arn() != Some(arn) => match target.definition(arn).await {
                Ok(definition) => Some(definition),
                Err(error) if error.has_code(&["ClientException"]) => None,
                Err(error) => {
                    return Err(messages::describe_failed(&request.service_key, &DescribeError::Call(error)));
                }
            },
            _ => snapshot.task_definition.clone(),
        };
        let wanted = match base {
            Some(base) => self.wanted(target, &again, snapshot, base, first).await?,
            None => None,
        };
        Ok(Plans { now, wanted })
    }

    async fn wanted(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        base: Arc<TaskDefinition>,
        first: &First,
    ) -> Result<Option<Box<Update>>, Failure> {
        let service = snapshot.service.running(&base.arn);
        let mut before = Snapshot { service, task_definition: Some(base) };
        let restoring = match first.record.restores {
            // What is already put back of the rest does not matter for what shall run.
            Some(_) => self.restoring(target, request, &mut before, Some(&first.record)).await?.of_definition(),
            None => Restoring::No,
        };
        Ok(match restoring.plan(request, &before) {
            Plan::Update(update) => Some(update),
            Plan::Unchanged { .. } | Plan::Refused(_) => None,
        })
    }

    async fn remaining(
        &self,
        work: Work<'_>,
        snapshot: &Snapshot,
        first: &First,
        Plans { now, wanted }: Plans,
        may_have_acted: bool,
    ) -> Result<Next, Failure> {
        let Work { request, target, .. } = work;
        let service = &request.service_key;
        let changes = first.record.changes();
        let resumed = Resumed {
            changes: changes.as_deref(),
            is_shortened: first.record.is_shortened(),
            before: &first.before,
            snapshot,
            wanted: wanted.as_deref(),
        };
        let may_be_secret = |change: &Difference| match change.what {
            DifferenceKind::Parameter => [&change.to, &change.from].map(|it| parameter_holds_secrets(&change.path, it)),
            _ => [&change.to, &change.from].map(holds_secrets),
        };
        let is_hidden = changes.iter().flatten().any(|change| may_be_secret(change).contains(&true));
        let key = if is_hidden {
            let key = self.hidden_key().await;
            Some(key.map_err(|error| messages::history_unavailable(service, &error))?)
        } else {
            None
        };
        let hide = |name: &str, value: &serde_json::Value| {
            hidden(key, service, name, value).unwrap_or(serde_json::Value::Null)
        };
        Ok(match resumed.remaining(now, &hide) {
            Remaining::Foreign(members) => Next::Failed(messages::changed_meanwhile(service, &members)),
            Remaining::NotRecorded => Next::Failed(messages::not_recorded(service)),
            Remaining::Refused(failure) => Next::Failed(failure),
            Remaining::Nothing => Next::Nothing,
            Remaining::Update(update) if may_have_acted && resumed.deploys_again() => {
                let since = first.record.change_id.time();
                match self.rolled_back(target, service, snapshot, &resumed, since).await? {
                    Some(ended) => Next::Failed(messages::rolled_back_before(service, &ended)),
                    None => Next::Update(update),
                }
            }
            Remaining::Update(update) => Next::Update(update),
        })
    }

    /// A deployment of what the change wants that was ended by ECS, or by somebody, after the change began.
    async fn rolled_back(
        &self,
        target: &AccountClients,
        service: &domain::ids::ServiceKey,
        snapshot: &Snapshot,
        resumed: &Resumed<'_>,
        since: chrono::DateTime<chrono::Utc>,
    ) -> Result<Option<RolledBack>, Failure> {
        let failed = |error| messages::describe_failed(service, &DescribeError::Call(error));
        for ended in domain::ecs::deployment::listed::ended_since(&snapshot.service, since) {
            let Some(arn) = &ended.task_definition else { continue };
            let definition = target.definition(arn).await.map_err(failed)?;
            if resumed.wants(&definition) {
                let mask = mask(snapshot, &definition);
                return Ok(Some(ended.told(None, |reason| reason::told(reason, Some(&mask)))));
            }
        }
        let between = (since - chrono::Duration::seconds(5), (self.clock)() + chrono::Duration::minutes(1));
        let listed = match target.ecs.list_service_deployments(service, between).await {
            Ok(listed) => listed,
            // The target role's template grants this permission. Without an answer, it is not known whether ECS rolled back what this
            // attempt would deploy again.
            Err(error) if error.denied() => return Err(failed(error).retryable(true)),
            // If ECS does not know the call, what the service shows has to be enough.
            Err(error) if !error.retryable() => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // It has to be known what each deployment that ended badly had deployed: it could be this change's own deployment.
        for listed in listed.iter().filter(|listed| listed.ended_badly()) {
            let Some(revision) = listed.revision() else { continue };
            let arn = target.ecs.task_definition_of_revision(revision).await.map_err(failed)?;
            let Some(arn) = arn else { continue };
            let definition = target.definition(&arn).await.map_err(failed)?;
            if !resumed.wants(&definition) {
                continue;
            }
            let known = target.ecs.describe_service_deployment(&listed.service_deployment_arn).await.ok().flatten();
            let mask = mask(snapshot, &definition);
            let ended = RolledBack::of(listed, known.as_ref(), arn);
            return Ok(Some(ended.told(known.as_ref(), |reason| reason::told(reason, Some(&mask)))));
        }
        Ok(None)
    }
}

/// What no reason of ECS may show: values that may be secret in the service and what it runs, and in what was deployed.
fn mask(now: &Snapshot, deployed: &TaskDefinition) -> Mask {
    let runs = now.task_definition.as_deref().map(TaskDefinition::document);
    let documents = [runs, Some(deployed.document()), Some(now.service.document())];
    documents.iter().flatten().fold(Mask::default(), Mask::and_of)
}

struct Plans {
    now: Plan,
    wanted: Option<Box<Update>>,
}

/// What a continuation does.
enum Next {
    Update(Box<Update>),
    Nothing,
    Failed(Failure),
}
