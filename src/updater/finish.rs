//! A change that has begun, and how its result is written to the ledger whatever else happens there.

use std::cmp::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::ecs::service::{RecordedState, Snapshot};
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ledger::admission::LedgerState;
use domain::ledger::attribution::{self, may_deploy};
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::head::{Head, Lease};
use domain::ledger::idempotency::{Progress, StoredAnswer};
use domain::ledger::key::{Attempt, RecordKey, RecordPlace};
use domain::ledger::kind::Kind;
use domain::ledger::record::{ChangeContext, RawRecord, RecordFields};
use domain::ledger::write::{LedgerError, Write};
use domain::plan::difference::{Difference, NotRestored};
use domain::response::{Response, Status};
use domain::text::rfc3339;
use tokio::time::Instant;

use super::lease::HeldLease;
use super::{Updater, messages, wait};
use crate::commit::{Bound, Decision, commit};

/// The time of the invocation that is left for its answer.
const RESERVE: Duration = Duration::from_secs(1);
/// The time to write a result if hardly any is left.
const MIN_RESULT: Duration = Duration::from_secs(1);
/// The longest time to read what the change set out to do.
const MAX_READ: Duration = Duration::from_secs(5);

/// An attempt at a change whose `STARTED` record is in the table.
pub(super) struct RunningChange {
    pub facts: ChangeContext,
    /// The state before the change.
    pub before: RecordedState,
    /// What the change sets, as its first `STARTED` record states it; none if that record does not state it.
    pub changes: Option<Vec<Difference>>,
    /// What a restore leaves as it is.
    pub not_restored: Vec<NotRestored>,
    pub lease: HeldLease,
    /// When Lambda ends the invocation.
    pub deadline: DateTime<Utc>,
    /// Whether an earlier attempt may have changed something.
    pub acted_before: bool,
    /// Id of the deployment that the service had when this attempt was planned.
    pub found: Option<String>,
}

impl RunningChange {
    fn has_acted(&self) -> bool {
        self.acted_before || self.lease.has_acted()
    }

    /// Whether what the change sets starts a deployment. If not, the deployment that exists afterwards belongs to somebody else.
    fn may_deploy(&self) -> bool {
        self.changes.as_ref().is_none_or(|changes| changes.iter().any(may_deploy))
    }
}

/// How an attempt ended.
struct Ended<'a> {
    kind: Kind,
    after: &'a RecordedState,
    deployment: Option<DeploymentItem>,
    error: Option<&'a Failure>,
    /// The final answer of its key; none if the change may be tried again.
    answer: Option<StoredAnswer>,
    /// Until when this invocation follows the deployment, if it does.
    waiter_until: Option<DateTime<Utc>>,
}

/// What is read before a result is written.
#[derive(Default)]
struct ResultState {
    position: LedgerState,
    /// What is noted of the deployment that the change started.
    deployment: Noted,
    /// The records of its change.
    records: Vec<RawRecord>,
}

/// What is noted of a deployment.
#[derive(Default)]
enum Noted {
    #[default]
    Nothing,
    This(Box<DeploymentItem>),
    /// Something that this version cannot read. It is left as it is, and does not prevent the result from being recorded.
    Unreadable,
}

impl ResultState {
    fn at(&self, place: RecordPlace) -> Option<&RawRecord> {
        self.records.iter().find(|record| text(record, "record").and_then(place_of) == Some(place))
    }

    /// The answer that another attempt at the change stored under its key: a later attempt, or any attempt that succeeded.
    fn answer_of_another(&self, facts: &ChangeContext) -> Option<String> {
        let progress = self.position.key.as_ref()?.progress()?;
        let counts = progress.change_id == facts.change_id && (progress.attempt > facts.attempt || went_well(progress));
        progress.answer.clone().filter(|_| counts)
    }

    /// The result of an attempt, at whichever place it is recorded.
    fn result_of(&self, attempt: Attempt) -> Option<&RawRecord> {
        let own = self.at(RecordPlace::Result(attempt)).filter(|record| text(record, "kind") != Some("ABANDONED"));
        own.or_else(|| {
            self.records.iter().find(|record| {
                let of = text(record, "attempt").map_or(Some(1), |number| number.parse().ok()).and_then(Attempt::new);
                let is_result = matches!(text(record, "kind"), Some("APPLIED" | "FAILED" | "UNCHANGED"));
                let is_later = matches!(text(record, "record").and_then(place_of), Some(RecordPlace::Later(_)));
                is_result && is_later && of == Some(attempt)
            })
        })
    }
}

fn text<'a>(record: &'a RawRecord, name: &str) -> Option<&'a str> {
    record.get(name)?.as_str()
}

/// What a change set out to set, according to its first `STARTED` record.
fn changes_of(records: &[RawRecord]) -> Option<Vec<Difference>> {
    let started =
        records.iter().find(|record| text(record, "record").and_then(place_of) == Some(RecordPlace::STARTED))?;
    serde_json::from_str(text(started, "changes")?).ok()
}

fn place_of(key: &str) -> Option<RecordPlace> {
    RecordKey::parse(key).ok().map(|key| key.place)
}

impl Updater {
    /// Records that AWS accepted the change, and returns the answer. If nothing was left to do and no call may have done anything, the
    /// change is unchanged: what somebody else did is not reported as done by this change.
    pub(super) async fn applied(
        &self,
        request: &UpdateRequest,
        begun: RunningChange,
        after: &Snapshot,
        notes: Vec<String>,
    ) -> Result<Response, Failure> {
        let now = (self.clock)();
        let container = begun.before.state.task_definition_name.as_deref();
        let recorded = self.recorded(&begun.facts.service, after, container).await;
        let facts = &begun.facts;
        let (kind, status) =
            if begun.has_acted() { (Kind::Applied, Status::Applied) } else { (Kind::Unchanged, Status::Unchanged) };
        let deployment = if kind == Kind::Applied { self.started(&begun, after, now).await } else { None };
        let mut response = Response::new(
            &request.service_key,
            Some(&facts.change_id),
            status,
            rfc3339(now),
            begun.before.state.clone(),
            recorded.state.clone(),
        );
        let body = &mut response.body;
        body.deployment_id = deployment.as_ref().map(|item| item.deployment_id().to_owned());
        body.restores = facts.restores.as_ref().map(ToString::to_string);
        body.resolved_images = facts.pins.some().cloned();
        body.notes = notes;
        body.act(request.action.as_ref());
        body.not_restored.clone_from(&begun.not_restored);
        match (kind, &begun.changes) {
            // What somebody else did is not reported as done by this change.
            (Kind::Unchanged, _) => body.changes = Some(Vec::new()),
            (_, Some(changes)) => body.tell(changes),
            (_, None) => {}
        }
        body.notes.extend(begun.lease.kept_until().filter(|until| *until > now).map(messages::kept_until));
        let answer = Some(StoredAnswer::Response(Box::new(response.clone())));
        // Written together with the answer, so that it costs no separate call.
        let waiter_until = (request.wait_seconds > 0 && deployment.is_some())
            .then(|| wait::until(now, request.wait_seconds, begun.deadline));
        let ended = Ended { kind, after: &recorded, deployment, error: None, answer, waiter_until };
        match self.finish(&begun, &ended).await {
            Ok(None) => Ok(response),
            Ok(Some((answer, position))) => messages::replayed(&answer, request, &position),
            Err(error) => Err(messages::result_not_recorded(&error, &recorded).of_change(&facts.change_id)),
        }
    }

    /// Records that the change failed and how far it got. Returns the failure, or the answer that a later attempt at the change stored.
    pub(super) async fn failed(
        &self,
        request: &UpdateRequest,
        begun: RunningChange,
        after: &Snapshot,
        failure: Failure,
    ) -> Result<Response, Failure> {
        let now = (self.clock)();
        let container = begun.before.state.task_definition_name.as_deref();
        let recorded = self.recorded(&begun.facts.service, after, container).await;
        let facts = &begun.facts;
        let failure = match begun.lease.kept_until().filter(|until| *until > now) {
            Some(until) => failure.and(messages::kept_until(until)),
            None => failure,
        };
        let failure = if facts.attempt == Attempt::LAST { messages::last_attempt(failure) } else { failure };
        let answer = (!failure.retryable).then(|| StoredAnswer::Failure(failure.clone()));
        let failure = failure.of_change(&facts.change_id);
        let deployment = if begun.has_acted() { self.started(&begun, after, now).await } else { None };
        let ended = Ended {
            kind: Kind::Failed,
            after: &recorded,
            deployment,
            error: Some(&failure),
            answer,
            waiter_until: None,
        };
        match self.finish(&begun, &ended).await {
            Ok(None) => Err(failure),
            // One key has one answer.
            Ok(Some((answer, position))) => messages::replayed(&answer, request, &position),
            // No answer is stored under its key: the same event continues the change.
            Err(error) => Err(failure.and(messages::failure_not_recorded(&error)).retryable(true)),
        }
    }

    /// The deployment that the change started. The deployment that exists when an attempt resumes a change may belong to somebody else, or
    /// be the rollback of the change's own deployment: then it does not run what the change set out to run, and no result names it. If that
    /// cannot be read, no deployment is named: its events tell later.
    async fn started(&self, begun: &RunningChange, after: &Snapshot, now: DateTime<Utc>) -> Option<DeploymentItem> {
        let facts = &begun.facts;
        let started = attribution::started(facts, &begun.before, after, now).filter(|_| begun.may_deploy())?;
        if !begun.lease.may_have_acted_at(started.started_at) {
            return None;
        }
        if !begun.acted_before {
            return Some(started).filter(|started| begun.found.as_deref() != Some(started.deployment_id()));
        }
        let left = (begun.deadline - now).to_std().unwrap_or_default().saturating_sub(RESERVE) / 2;
        let read = async {
            tokio::try_join!(
                self.store().records_of(&facts.service, &facts.change_id),
                self.store().read_deployment(&facts.service, Some(started.deployment_id()), None),
            )
        };
        let (records, noted) = match tokio::time::timeout(left.clamp(MIN_RESULT, MAX_READ), read).await {
            Ok(Ok((records, (_, noted)))) => (records, noted),
            Ok(Err(error)) => {
                tracing::warn!(service = %facts.service, "whose deployment {} is could not be read: {error}", started.id);
                return None;
            }
            Err(_) => {
                tracing::warn!(service = %facts.service, "whose deployment {} is could not be read in time", started.id);
                return None;
            }
        };
        if noted.is_some_and(|noted| noted.is_a_rollback_created_at(started.started_at)) {
            return None;
        }
        // A change starts one deployment: if its records name one, no other deployment belongs to it.
        let mut named = records.iter().filter_map(|record| record.get("deployment_id")?.as_str());
        if named.any(|id| !id.is_empty() && id != started.deployment_id()) {
            return None;
        }
        let changes = changes_of(&records);
        attribution::is_its(changes.as_deref(), &begun.before, after, begun.lease.has_acted()).then_some(started)
    }

    /// Writes the result, as long as there is time to report afterwards that it could not be written. Returns the answer that a later
    /// attempt stored under the key, if one came first: one key has one answer.
    async fn finish(
        &self,
        begun: &RunningChange,
        ended: &Ended<'_>,
    ) -> Result<Option<(String, LedgerState)>, LedgerError> {
        let facts = &begun.facts;
        let first = ResultState { position: begun.lease.position(), ..ResultState::default() };
        let left = (begun.deadline - (self.clock)()).to_std().unwrap_or_default();
        let until = Instant::now() + left.saturating_sub(RESERVE).max(MIN_RESULT);
        let bound = Bound::new(u32::MAX, until);
        let key_id = first.position.key.as_ref().map(|key| key.id.clone());
        let deployment_id = ended.deployment.as_ref().map(DeploymentItem::deployment_id);
        let read = async || {
            let (noted, records) = tokio::join!(
                self.store().read_deployment(&facts.service, deployment_id, key_id.as_deref()),
                self.store().records_of(&facts.service, &facts.change_id)
            );
            let (position, deployment) = match noted {
                Ok((position, None)) => (position, Noted::Nothing),
                Ok((position, Some(item))) => (position, Noted::This(Box::new(item))),
                Err(LedgerError::Encoding(_)) => {
                    let read = self.store().read_deployment(&facts.service, None, key_id.as_deref());
                    (read.await?.0, Noted::Unreadable)
                }
                Err(error) => return Err(error),
            };
            Ok(ResultState { position, deployment, records: records? })
        };
        let told = |known: &ResultState| known.answer_of_another(facts).map(|answer| (answer, known.position.clone()));
        let decide = |known: &ResultState| {
            Ok(match self.result(begun, ended, known)? {
                Decision::Write(writes, ()) => Decision::Write(writes, told(known)),
                Decision::Done(()) => Decision::Done(told(known)),
            })
        };
        commit(self.store(), self.random, bound, Some(first), read, decide).await
    }

    /// What has to be written, given the contents of the tables.
    fn result(
        &self,
        begun: &RunningChange,
        ended: &Ended<'_>,
        known: &ResultState,
    ) -> Result<Decision<()>, LedgerError> {
        let now = (self.clock)();
        let facts = &begun.facts;
        let position = &known.position;
        let mine = |lease: &&Lease| begun.lease.is_mine(lease);
        let has_lease = position.lease().is_some_and(|lease| mine(&lease));
        // If a call may still act, the lease stays until it no longer can, and not longer; the next change removes it.
        let until = begun.lease.kept_until().filter(|until| *until > now);
        let kept = position.lease().filter(|lease| !mine(lease) || until.is_some()).map(|lease| {
            let until = until.filter(|_| mine(&lease)).unwrap_or(lease.until);
            Lease { until, ..lease.clone() }
        });
        if known.result_of(facts.attempt).is_some() {
            return Ok(free(begun, position, kept));
        }
        // Who finds its place taken by ABANDONED, having come too late, is recorded behind it.
        let own = RecordPlace::Result(facts.attempt);
        let place = std::iter::once(own).chain(RecordPlace::later()).find(|place| known.at(*place).is_none());
        let place = place.ok_or_else(|| {
            LedgerError::Encoding(format!("change {} has no place for one more record", facts.change_id))
        })?;
        let said = RecordFields {
            before: Some(&begun.before),
            after: Some(ended.after),
            deployment_id: ended.deployment.as_ref().map(DeploymentItem::deployment_id),
            error: ended.error,
            ..RecordFields::default()
        };
        let record = facts.record(ended.kind, place, now, &said, position.head.as_ref())?;
        let head = Head::behind(&record.0, position.head.as_ref(), kept);
        let mut writes: Vec<Write> = Write::append(&facts.service, record, position.head.clone(), head).collect();
        // An attempt that closed or resumed this change meanwhile decides the answer of its key, unless this attempt succeeded: such an
        // answer is the answer of the key from then on, whatever becomes of a later attempt.
        if let Some(key) = &position.key
            && let Some(progress) = key.progress()
            && progress.change_id == facts.change_id
            && match progress.attempt.cmp(&facts.attempt) {
                Ordering::Equal => (has_lease || ended.kind == Kind::Applied) && !went_well(progress),
                Ordering::Greater => ended.kind == Kind::Applied && progress.answer.is_none(),
                Ordering::Less => false,
            }
        {
            let to = match &ended.answer {
                Some(answer) => key.answered(answer, now)?.waited_for(ended.waiter_until),
                None => key.failed(begun.has_acted(), now),
            };
            writes.push(Write::Key { from: Some(key.clone()), to });
        }
        writes.extend(note_deployment(ended.deployment.as_ref(), &known.deployment));
        Ok(Decision::Write(writes, ()))
    }
}

/// Whether the key of the change has an answer that reports what was done.
fn went_well(progress: &Progress) -> bool {
    let answer = progress.answer.as_deref().and_then(|answer| serde_json::from_str(answer).ok());
    matches!(answer, Some(StoredAnswer::Response(_)))
}

/// The result is recorded: only the lease may be left.
fn free(begun: &RunningChange, position: &LedgerState, kept: Option<Lease>) -> Decision<()> {
    match &position.head {
        Some(head) if head.lease != kept => {
            let to = Head { lease: kept, ..head.clone() };
            let write = Write::Head { service: begun.facts.service.clone(), from: Some(head.clone()), to };
            Decision::Write(vec![write], ())
        }
        _ => Decision::Done(()),
    }
}

/// Notes the deployment that a change started, unless it is noted already. An observer that received its event before this change named it
/// took it for a deployment that no change started.
fn note_deployment(started: Option<&DeploymentItem>, noted: &Noted) -> Option<Write> {
    let started = started?;
    match noted {
        Noted::Nothing => Some(Write::Deployment { from: None, to: Box::new(started.clone()) }),
        Noted::This(noted) if noted.is_external() => {
            Some(Write::Deployment { from: Some(noted.clone()), to: Box::new(started.clone()) })
        }
        // The event of the rollback with this id was received first: the item now gets what the deployment did before, and keeps what the
        // rollback undoes.
        Noted::This(noted) if noted.is_only_a_rollback() => {
            let to = DeploymentItem { undoes: noted.undoes.clone(), ..started.clone() };
            Some(Write::Deployment { from: Some(noted.clone()), to: Box::new(to) })
        }
        Noted::This(_) | Noted::Unreadable => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::{ChangeId, ServiceKey};
    use domain::ledger::deployment::Undoes;

    #[test]
    fn a_deployment_whose_rollback_was_heard_of_first_is_noted_as_its_change_s() {
        let at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let item = |random, at| {
            let change_id = ChangeId::new(at, [random; 10]);
            DeploymentItem::new(&service, "arn:s", "ecs-svc/2", change_id, at, at)
        };
        let (started, since) = (item(1, at), at + chrono::Duration::seconds(90));
        let undoes = Some(Undoes { deployment_id: None, since });
        let heard = DeploymentItem { undoes: undoes.clone(), check_at: None, ..item(2, since) };
        let write = note_deployment(Some(&started), &Noted::This(Box::new(heard.clone())));
        let Some(Write::Deployment { from, to }) = write else { panic!("{write:?}") };
        assert_eq!(from.as_deref(), Some(&heard));
        assert_eq!((&to.change_id, &to.undoes, to.check_at), (&started.change_id, &undoes, started.check_at));
        // A deployment that was already noted as a change's stays as it is.
        let noted = DeploymentItem { undoes, ..item(1, at) };
        assert_eq!(note_deployment(Some(&started), &Noted::This(Box::new(noted))), None);
    }
}
