//! The first attempt at a change: its plan, its turn, and its `STARTED` record.

use chrono::{DateTime, Utc};
use domain::ecs::service::Snapshot;
use domain::error::{Code, Failure};
use domain::ids::ChangeId;
use domain::ledger::admission::LedgerState;
use domain::ledger::head::{Head, Lease, lease_until};
use domain::ledger::hidden::{hidden, parameter_holds_secrets};
use domain::ledger::idempotency::{KeyItem, StoredAnswer};
use domain::ledger::key::{Attempt as Try, RecordPlace};
use domain::ledger::kind::Kind;
use domain::ledger::record::{ChangeContext, Pointer, Record, RecordFields};
use domain::ledger::turn::Standing;
use domain::ledger::write::{LedgerError, Write};
use domain::plan::Plan;
use domain::plan::difference::{Difference, DifferenceKind, NotRestored};
use domain::plan::parameters::told_of_answer;
use domain::plan::update::{Update, passed_over};
use domain::response::{Response, Status};
use domain::text::rfc3339;
use tokio::time::{Duration, Instant};

use super::apply::{self, Budget};
use super::change::{Attempt, ChangeError};
use super::finish::RunningChange;
use super::lease::HeldLease;
use super::snapshot::{FRESH, Looked};
use super::turn::{Revision, Turn};
use super::{Updater, Work, caller, messages};
use crate::aws::rate_limit::ApiBucket;
use crate::commit::{Bound, Decision, commit};

/// How often the start of an attempt is written if nothing else changed, and for how long at most.
const START: (u32, Duration) = (6, Duration::from_secs(15));
/// How long to look for the start if its answer is lost. Giving up earlier would leave a lease behind that keeps everybody out until it
/// ends; looking longer would keep a caller waiting who has to be told about the outage of DynamoDB.
const START_LOOKS: Duration = Duration::from_secs(20);
/// The time that is then left of the invocation, for the answer.
const RESERVE: Duration = Duration::from_secs(5);

/// Why something that was planned is planned again.
const MOVED: &str = "its ledger moved";

/// What an attempt writes when it begins.
pub(super) struct Start {
    /// Its `STARTED` record, with its pointers.
    pub record: (Record, Vec<Pointer>),
    /// Its lease.
    pub lease: Lease,
    /// Its key.
    pub key: KeyItem,
    /// Who asks for the change.
    pub caller: String,
}

impl Start {
    /// The start of an attempt at a change, whose lease ends by itself at `until`.
    pub(super) fn new(
        work: Work<'_>,
        record: (Record, Vec<Pointer>),
        change_id: &ChangeId,
        attempt: Try,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        let Work { request, invocation, key_id, .. } = work;
        Self {
            record,
            lease: Lease { change_id: change_id.clone(), attempt, until, key: key_id.to_owned() },
            key: KeyItem::begun(key_id, &request.event_hash, change_id.clone(), attempt, now),
            caller: caller(request, invocation, key_id),
        }
    }
}

/// What an answer says of a change that had nothing to do.
#[derive(Default)]
pub(super) struct Told {
    pub restores: Option<ChangeId>,
    pub notes: Vec<String>,
    pub not_restored: Vec<NotRestored>,
}

impl Updater {
    pub(super) async fn begin(
        &self,
        work: Work<'_>,
        looked: Looked,
        position: &LedgerState,
        turn: &mut Turn,
    ) -> Result<Attempt, ChangeError> {
        let Work { request, invocation, target, .. } = work;
        if let Some(action) = &request.action {
            return self.begin_action(work, looked, position, action).await;
        }
        let Looked { mut snapshot, at } = looked;
        let restoring = self.restoring(target, request, &mut snapshot, None).await?;
        let restores = restoring.change_id().cloned();
        let update = match restoring.plan(request, &snapshot) {
            Plan::Refused(failure) => return Err(failure.into()),
            Plan::Unchanged { targets, notes, not_restored } => {
                let container = targets.keys().next().map(String::as_str);
                let told = Told { restores, notes, not_restored };
                return self.unchanged(work, &snapshot, container, told, position).await;
            }
            Plan::Update(update) => update,
        };
        let only_images = update.changes.iter().all(|change| change.what == DifferenceKind::Image);
        if let Some(note) = self.keeps_restores(request, only_images).await? {
            let told = Told { restores, notes: vec![note], not_restored: Vec::new() };
            return self.unchanged(work, &snapshot, update.container.as_deref(), told, position).await;
        }
        let revision = self.turn(work, &update, turn).await?;
        let now = (self.clock)();
        if now - at > FRESH {
            return Ok(Attempt::Again);
        }
        let until = lease_until(now, invocation.deadline);
        let budget = Budget::new(invocation.deadline, until);
        budget.for_mutation(now).map_err(not_started)?;
        let change_id = ChangeId::new(position.next_change_time(now), (self.random)());
        let before = self.recorded(&request.service_key, &snapshot, update.container.as_deref()).await;
        let changes = self.recorded_changes(work, &update.changes).await?;
        let facts = ChangeContext { restores, ..Self::facts(work, change_id.clone(), Try::FIRST, &changes, &before) };
        let said = RecordFields {
            changes: Some(&changes),
            before: Some(&before),
            lease_until: Some(until),
            not_restored: &update.not_restored,
            ..RecordFields::default()
        };
        let place = RecordPlace::STARTED;
        let record = facts.record(Kind::Started, place, now, &said, position.head.as_ref());
        let record = record.map_err(|error| messages::history_unavailable(&request.service_key, &error.into()))?;
        let start = Start::new(work, record, &change_id, Try::FIRST, until, now);
        let lease = match self.start(work, position, start).await {
            Ok(lease) => lease,
            Err(moved) => return Ok(moved),
        };
        let deadline = invocation.deadline;
        let found = before.deployment_id.clone();
        let (changes, not_restored) = (Some(changes), update.not_restored.clone());
        let begun = RunningChange { facts, before, changes, not_restored, lease, deadline, acted_before: false, found };
        let response = Box::pin(self.carry_out(work, snapshot, *update, revision, begun, budget, Vec::new())).await;
        Ok(Attempt::Ended(Box::new(response.map_err(ChangeError::Failed)?)))
    }

    /// Waits for the turn of a change.
    pub(super) async fn turn(&self, work: Work<'_>, update: &Update, turn: &mut Turn) -> Result<Revision, ChangeError> {
        let Work { invocation, target, permit, .. } = work;
        let now = (self.clock)();
        let budget = Budget::new(invocation.deadline, lease_until(now, invocation.deadline));
        // If the queue is longer than the time left, the place is better given to others.
        let waits = update.register.is_some().then(|| target.limits.expected_wait(ApiBucket::RegisterTaskDefinition));
        let waits = chrono::Duration::from_std(waits.unwrap_or_default()).unwrap_or_default();
        let whole = Budget::new(invocation.deadline, DateTime::<Utc>::MAX_UTC);
        whole.for_mutation(now + waits).map_err(not_started)?;
        let longest = whole.last_start(now);
        let taken = turn.take(target, permit, update, longest).await;
        let left = budget.for_mutation((self.clock)()).err().unwrap_or_default();
        taken.ok_or_else(|| not_started(left))
    }

    /// The changes as a record states them: with hidden values as keyed hashes.
    async fn recorded_changes(&self, work: Work<'_>, changes: &[Difference]) -> Result<Vec<Difference>, Failure> {
        let is_secret = |change: &Difference| {
            let holds_secrets = |value| parameter_holds_secrets(&change.path, value);
            change.what == DifferenceKind::Parameter && (holds_secrets(&change.from) || holds_secrets(&change.to))
        };
        if !changes.iter().any(is_secret) {
            return Ok(changes.to_vec());
        }
        let service = &work.request.service_key;
        let unavailable = |error: LedgerError| messages::history_unavailable(service, &error);
        let key = self.hidden_key().await.map_err(unavailable)?;
        let hide = |change: &Difference| -> serde_json::Result<Difference> {
            let hide = |value| hidden(Some(key), service, &change.path, value);
            Ok(Difference { from: hide(&change.from)?, to: hide(&change.to)?, ..change.clone() })
        };
        let hidden = changes.iter().map(|change| if is_secret(change) { hide(change) } else { Ok(change.clone()) });
        hidden.collect::<serde_json::Result<_>>().map_err(|error| unavailable(error.into()))
    }

    /// Takes the lease, notes the key and inserts the `STARTED` record, all or nothing. If something changed since it was read, returns
    /// what. If the answer is lost, the head shows whether it was done; if the head cannot be read either, that is not known.
    pub(super) async fn start(
        &self,
        work: Work<'_>,
        position: &LedgerState,
        start: Start,
    ) -> Result<HeldLease, Attempt> {
        let service = &work.request.service_key;
        let Start { record, lease, key, caller } = start;
        let before = position.head.as_ref();
        let head = Head::behind(&record.0, before, Some(lease.clone())).begun_by(&caller, &key.id, before);
        let written = LedgerState { head: Some(head.clone()), key: Some(key.clone()) };
        let mut writes: Vec<Write> = Write::append(service, record, position.head.clone(), head.clone()).collect();
        writes.push(Write::Key { from: position.key.clone(), to: key });
        let bound = Bound::new(START.0, Instant::now() + START.1);
        let left = (work.invocation.deadline - (self.clock)()).to_std().unwrap_or_default().saturating_sub(RESERVE);
        let bound = Bound { looks_until: Instant::now() + START_LOOKS.min(left), ..bound };
        let read = async || self.store().read(service, work.key_id).await.map(|read| read.value);
        let first = Standing { position: position.clone(), ..Standing::default() };
        let begun = commit(self.store(), self.random, bound, Some(first), read, |now: &Standing| {
            let is_mine = now.position.head.as_ref().is_some_and(|now| now.follows(&head));
            Ok(if is_mine {
                Decision::Done(Ok(now.position.clone()))
            } else if now.position == *position {
                Decision::Write(writes.clone(), Ok(written.clone()))
            } else {
                Decision::Done(Err(now.clone()))
            })
        });
        match begun.await {
            Ok(Ok(position)) => {
                let (store, random) = (self.store().clone(), self.random);
                Ok(HeldLease::new(service.clone(), lease, position, store, random))
            }
            Ok(Err(now)) => Err(Attempt::Moved(MOVED.to_owned(), Some(Box::new(now)))),
            Err(LedgerError::Conflict(why)) => Err(Attempt::Moved(why, None)),
            Err(error) => Err(Attempt::Lost(Box::new(head), messages::start_unknown(service, &lease, &error))),
        }
    }

    /// Does what is planned, and records how it ended. `earlier` is what an earlier attempt at the same change did.
    #[expect(clippy::too_many_arguments, reason = "a change, its plan, what its turn brought, and what came before")]
    pub(super) async fn carry_out(
        &self,
        work: Work<'_>,
        snapshot: Snapshot,
        update: Update,
        revision: Revision,
        begun: RunningChange,
        budget: Budget,
        earlier: Vec<String>,
    ) -> Result<Response, Failure> {
        let Work { request, target, permit, .. } = work;
        permit.under_way();
        // A restore means to go back, past whatever was registered since.
        let made_from =
            snapshot.task_definition.clone().filter(|_| update.register.is_some() && begun.facts.restores.is_none());
        let may_be_registered = begun.lease.position().head.is_some_and(|head| head.failed);
        let mut after = snapshot;
        let applying = apply::Applying {
            target,
            key: &request.service_key,
            update: &update,
            budget,
            lease: &begun.lease,
            may_be_registered,
            clock: self.clock,
            random: self.random,
        };
        match applying.run(revision, &mut after, earlier).await {
            Ok(()) => {
                let told = told_of_answer(&after.service, &update.parameters);
                let between = made_from.as_deref().zip(after.task_definition.as_deref());
                let between = between.and_then(|(ran, runs)| passed_over(ran, runs));
                let notes = update.notes.into_iter().chain(told).chain(between).collect();
                self.applied(request, begun, &after, notes).await
            }
            Err(failure) => self.failed(request, begun, &after, failure).await,
        }
    }

    pub(super) async fn unchanged(
        &self,
        work: Work<'_>,
        snapshot: &Snapshot,
        container: Option<&str>,
        told: Told,
        position: &LedgerState,
    ) -> Result<Attempt, ChangeError> {
        let service = &work.request.service_key;
        let unavailable = |error: LedgerError| ChangeError::from(messages::history_unavailable(service, &error));
        let now = (self.clock)();
        let change_id = ChangeId::new(position.next_change_time(now), (self.random)());
        let state = self.recorded(service, snapshot, container).await;
        let Told { restores, notes, not_restored } = told;
        let facts = ChangeContext { restores, ..Self::facts(work, change_id.clone(), Try::FIRST, &[], &state) };
        let said = RecordFields {
            before: Some(&state),
            after: Some(&state),
            not_restored: &not_restored,
            ..RecordFields::default()
        };
        let place = RecordPlace::RESULT;
        let record = facts.record(Kind::Unchanged, place, now, &said, position.head.as_ref());
        let record = record.map_err(|error| unavailable(error.into()))?;
        let mut response = Response::new(
            service,
            Some(&change_id),
            Status::Unchanged,
            rfc3339(now),
            state.state.clone(),
            state.state.clone(),
        );
        response.body.restores = facts.restores.as_ref().map(ToString::to_string);
        response.body.resolved_images = facts.pins.some().cloned();
        response.body.changes = Some(Vec::new());
        response.body.notes = notes;
        response.body.act(work.request.action.as_ref());
        response.body.not_restored = not_restored;
        let caller = caller(work.request, work.invocation, work.key_id);
        let earlier = position.head.as_ref();
        let head = Head::behind(&record.0, earlier, None).begun_by(&caller, work.key_id, earlier);
        let key = KeyItem::begun(work.key_id, &work.request.event_hash, change_id.clone(), Try::FIRST, now)
            .answered(&StoredAnswer::Response(Box::new(response.clone())), now)
            .map_err(|error| unavailable(error.into()))?;
        let mut writes: Vec<Write> = Write::append(service, record, position.head.clone(), head).collect();
        writes.push(Write::Key { from: position.key.clone(), to: key });
        let bound = Bound::new(START.0, Instant::now() + START.1);
        let read = async || self.store().read(service, work.key_id).await.map(|read| read.value);
        let first = Standing { position: position.clone(), ..Standing::default() };
        let recorded = commit(self.store(), self.random, bound, Some(first), read, |now: &Standing| {
            let its = now.position.key.as_ref().and_then(KeyItem::progress).map(|progress| &progress.change_id);
            Ok(if its == Some(&change_id) {
                Decision::Done(Ok(()))
            } else if now.position == *position {
                Decision::Write(writes.clone(), Ok(()))
            } else {
                Decision::Done(Err(now.clone()))
            })
        });
        match recorded.await {
            Ok(Ok(())) => Ok(Attempt::Ended(Box::new(response))),
            Ok(Err(now)) => Ok(Attempt::Moved(MOVED.to_owned(), Some(Box::new(now)))),
            Err(LedgerError::Conflict(why)) => Ok(Attempt::Moved(why, None)),
            Err(error) => Err(unavailable(error)),
        }
    }
}

pub(super) fn not_started(left: std::time::Duration) -> ChangeError {
    let failure = messages::no_time(Code::ServiceUpdateFailed, left).and("Nothing was changed in the target account.");
    ChangeError::NotStarted(failure)
}
