//! Records the end of a deployment in the ledger, once, whoever observed it: the updater that waited, an event, or the sweep.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::ecs::deployment::outcome::{DELETED, Outcome, OutcomeDetail};
use domain::ecs::deployment::pause::Pause;
use domain::ids::{ChangeId, Identity, ServiceKey};
use domain::image::ResolvedImages;
use domain::ledger::admission::LedgerState;
use domain::ledger::attribution::superseder_among;
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::head::Head;
use domain::ledger::idempotency::StoredAnswer;
use domain::ledger::key::{Attempt, RecordKey, RecordPlace};
use domain::ledger::kind::Kind;
use domain::ledger::pause::{self, PauseStep};
use domain::ledger::record::{ChangeContext, RecordFields};
use domain::ledger::write::{LedgerError, Write};
use domain::text::rfc3339;
use tokio::time::Instant;

use crate::aws::ledger_store::LedgerStore;
use crate::commit::{Bound, Decision, commit};

/// How often the write is attempted if the ledger changes meanwhile or DynamoDB does not answer, and for how long at most.
const TRIES: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(30);
/// How many of a service's newest records are read to find out what happened last.
pub const NEWEST_RECORDS: i32 = 100;

/// Who observed the end, for the record.
#[derive(Debug, Clone, Default)]
pub struct RecordedBy {
    /// `RoleSessionName` in the target's `CloudTrail`; empty if an event reported the end.
    pub session: String,
    /// Lambda request id.
    pub request_id: String,
}

/// The result of recording an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordResult {
    /// The end was recorded by this call.
    Recorded {
        /// The change whose deployment ended.
        change_id: ChangeId,
    },
    /// Already recorded: either this end, or this other end, after which it comes too late.
    Known(Option<Kind>),
    /// The ledger has no item of the deployment.
    Unknown,
    /// The deployment belongs to another service.
    Refused(String),
}

/// An end to be recorded.
#[derive(Clone, Copy)]
pub struct OutcomeToRecord<'a> {
    /// The service.
    pub service: &'a ServiceKey,
    /// Its ARN.
    pub service_arn: &'a str,
    /// The deployment.
    pub deployment_id: &'a str,
    /// How it ended.
    pub ending: &'a Outcome,
    /// Whether no further end can follow.
    pub is_final: bool,
    /// The idempotency key whose stored answer becomes this end, and a function that returns the answer for the end that the ledger finally
    /// has: another writer may have recorded a different end first.
    pub answer: Option<(&'a str, &'a dyn Fn(Kind) -> StoredAnswer)>,
}

/// Records the ends of deployments.
#[derive(Debug, Clone)]
pub struct OutcomeRecorder {
    /// The tables.
    pub store: LedgerStore,
    /// The time.
    pub clock: fn() -> DateTime<Utc>,
    /// Randomness.
    pub random: fn() -> [u8; 10],
}

/// What is read before an end is recorded.
struct OutcomeState {
    position: LedgerState,
    item: Option<DeploymentItem>,
    /// Keys of the records of the deployment's change.
    records: Vec<RecordKey>,
    /// The repository by which the change is found, according to its own records.
    repository: Option<String>,
}

impl OutcomeRecorder {
    /// Records an end after the existing records of its change.
    ///
    /// # Errors
    ///
    /// Returns an error if it could not be written. The call may be repeated: the end is recorded once.
    pub async fn record_outcome(
        &self,
        end: OutcomeToRecord<'_>,
        witness: &RecordedBy,
    ) -> Result<RecordResult, LedgerError> {
        let bound = Bound::new(TRIES, Instant::now() + TIMEOUT);
        let read = async || self.known(end).await;
        commit(&self.store, self.random, bound, None, read, |known| self.decide(end, known, witness)).await
    }

    async fn known(&self, end: OutcomeToRecord<'_>) -> Result<OutcomeState, LedgerError> {
        let key_id = end.answer.map(|(id, _)| id);
        let (position, item) = self.store.read_deployment(end.service, Some(end.deployment_id), key_id).await?;
        let records = match &item {
            Some(item) if item.accepts(end.ending.kind) => self.store.records_of(end.service, &item.change_id).await?,
            _ => Vec::new(),
        };
        let key = |record: &domain::ledger::record::RawRecord| RecordKey::parse(record.get("record")?.as_str()?).ok();
        let image = records.iter().find_map(|record| record.get("image")?.as_str());
        let repository = image.and_then(|image| image.rsplit_once('#')).map(|(repository, _)| repository.to_owned());
        Ok(OutcomeState { position, item, records: records.iter().filter_map(key).collect(), repository })
    }

    fn decide(
        &self,
        end: OutcomeToRecord<'_>,
        known: &OutcomeState,
        witness: &RecordedBy,
    ) -> Result<Decision<RecordResult>, LedgerError> {
        let now = (self.clock)();
        let OutcomeState { position, item, records, repository } = known;
        let Some(item) = item else { return Ok(Decision::Done(RecordResult::Unknown)) };
        if item.service_arn != end.service_arn || item.service != *end.service {
            let what = format!("deployment {} is one of service {}", end.deployment_id, item.service_arn);
            return Ok(Decision::Done(RecordResult::Refused(what)));
        }
        let mut to = item.clone();
        to.check_at = if end.is_final { None } else { item.check_at.map(|_| item.next_check(now)) };
        if !item.accepts(end.ending.kind) {
            let recorded = item.outcomes.last().copied();
            let mut writes =
                Vec::from_iter(recorded.map(|kind| key_write(end, position, item, kind, now)).transpose()?.flatten());
            if end.is_final && item.check_at.is_some() {
                writes.push(Write::Deployment { from: Some(Box::new(item.clone())), to: Box::new(to) });
            }
            let settled = RecordResult::Known(recorded);
            return Ok(if writes.is_empty() { Decision::Done(settled) } else { Decision::Write(writes, settled) });
        }
        to.outcomes.push(end.ending.kind);
        let change_id = &item.change_id;
        let is_free = |place: &RecordPlace| !records.iter().any(|key| key.place == *place);
        let place = RecordPlace::later().find(is_free).ok_or_else(|| {
            LedgerError::Encoding(format!("change {change_id} of {} has no place for one more record", end.service))
        })?;
        // Under an image stands what became of a change, too: whoever asks by it is told the same.
        let repositories = Some(item.repositories.clone()).filter(|repositories| !repositories.is_empty());
        let repositories = repositories.unwrap_or_else(|| repository.iter().cloned().collect());
        let facts = ChangeContext { repositories, ..facts(end.service, change_id, witness) };
        let said = RecordFields {
            deployment_id: Some(end.deployment_id),
            outcome: Some(&end.ending.detail),
            ..RecordFields::default()
        };
        let written = facts.record(end.ending.kind, place, now, &said, position.head.as_ref())?;
        let head = Head::behind(&written.0, position.head.as_ref(), position.lease().cloned());
        let mut writes: Vec<Write> = Write::append(end.service, written, position.head.clone(), head).collect();
        writes.push(Write::Deployment { from: Some(Box::new(item.clone())), to: Box::new(to) });
        writes.extend(key_write(end, position, item, end.ending.kind, now)?);
        Ok(Decision::Write(writes, RecordResult::Recorded { change_id: change_id.clone() }))
    }

    /// The writes that record a deployment that no change started, after `position`.
    ///
    /// # Errors
    ///
    /// Returns an error if the record has no canonical JSON.
    pub fn external(
        &self,
        external: External<'_>,
        position: &LedgerState,
        witness: &RecordedBy,
    ) -> Result<(Vec<Write>, ChangeId), LedgerError> {
        let (mut writes, change_id) = self.external_record(external, position, witness)?;
        writes.push(self.external_item(external, change_id.clone()));
        Ok((writes, change_id))
    }

    /// The write that notes a deployment that no change started and that is only counted: each is counted once.
    #[must_use]
    pub fn external_counted(&self, external: External<'_>) -> Write {
        self.external_item(external, ChangeId::new(external.at.min((self.clock)()), external.random))
    }

    /// The writes that record a deployment that no change started and that is already noted, after `position`.
    ///
    /// # Errors
    ///
    /// Returns an error if the record has no canonical JSON.
    pub fn external_record(
        &self,
        external: External<'_>,
        position: &LedgerState,
        witness: &RecordedBy,
    ) -> Result<(Vec<Write>, ChangeId), LedgerError> {
        let now = (self.clock)();
        let External { service, deployment_id, at, detail, random, .. } = external;
        let change_id = ChangeId::new(position.next_change_time(at.min(now)), random);
        let facts = facts(service, &change_id, witness);
        let said =
            RecordFields { deployment_id: Some(deployment_id), outcome: Some(detail), ..RecordFields::default() };
        let place = RecordPlace::RESULT;
        let written = facts.record(Kind::External, place, now, &said, position.head.as_ref())?;
        let head = Head::behind(&written.0, position.head.as_ref(), position.lease().cloned());
        Ok((Write::append(service, written, position.head.clone(), head).collect(), change_id))
    }

    /// Records that a deployment waits at a pause hook, or that this is over, once for each hook.
    ///
    /// # Errors
    ///
    /// Returns an error if it could not be written. The call may be repeated.
    pub async fn record_pause(&self, heard: PauseHeard<'_>, witness: &RecordedBy) -> Result<PauseResult, LedgerError> {
        let bound = Bound::new(TRIES, Instant::now() + TIMEOUT);
        let random = (self.random)();
        let read = async || self.store.read_deployment(heard.service, Some(heard.deployment_id), None).await;
        commit(&self.store, self.random, bound, None, read, |known: &(LedgerState, Option<DeploymentItem>)| {
            self.decide_pause(heard, known, random, witness)
        })
        .await
    }

    fn decide_pause(
        &self,
        heard: PauseHeard<'_>,
        (position, item): &(LedgerState, Option<DeploymentItem>),
        random: [u8; 10],
        witness: &RecordedBy,
    ) -> Result<Decision<PauseResult>, LedgerError> {
        let now = (self.clock)();
        let Some(item) = item.as_ref().filter(|item| item.service_arn == heard.service_arn) else {
            return Ok(Decision::Done(PauseResult::Nothing("nothing is known any more of the deployment")));
        };
        let note = |pause: Pause, record: Option<ChangeId>| Write::Deployment {
            from: Some(Box::new(item.clone())),
            to: Box::new(pause::noted(item, pause, record)),
        };
        let (kind, place, change_id, pause) = match pause::step(item, heard.pause) {
            PauseStep::Nothing(why) => return Ok(Decision::Done(PauseResult::Nothing(why))),
            PauseStep::EndsUnheard => {
                return Ok(Decision::Write(vec![note(heard.pause.clone(), None)], PauseResult::Noted));
            }
            PauseStep::Begins => {
                let change_id = ChangeId::new(position.next_change_time(heard.at.min(now)), random);
                (Kind::AwaitingAction, RecordPlace::RESULT, change_id, heard.pause.clone())
            }
            PauseStep::Ends(change_id, pause) => (Kind::PauseEnded, RecordPlace::Later(2), change_id, pause),
        };
        let facts = ChangeContext { of: Some(item.change_id.clone()), ..facts(heard.service, &change_id, witness) };
        let detail = OutcomeDetail {
            pause: Some(pause.clone()),
            service_deployment: item.service_deployment.clone(),
            happened_at: Some(rfc3339(heard.at)),
            ..OutcomeDetail::default()
        };
        let said = RecordFields {
            deployment_id: Some(heard.deployment_id),
            outcome: Some(&detail),
            ..RecordFields::default()
        };
        let written = facts.record(kind, place, now, &said, position.head.as_ref())?;
        let next = Head::behind(&written.0, position.head.as_ref(), position.lease().cloned());
        let mut writes: Vec<Write> = Write::append(heard.service, written, position.head.clone(), next).collect();
        writes.push(note(pause, Some(change_id.clone())));
        Ok(Decision::Write(writes, PauseResult::Recorded { kind, change_id }))
    }

    fn external_item(&self, external: External<'_>, change_id: ChangeId) -> Write {
        let External { service, service_arn, deployment_id, at, .. } = external;
        let item = DeploymentItem::new(service, service_arn, deployment_id, change_id, at, (self.clock)());
        let item = DeploymentItem { outcomes: vec![Kind::External], check_at: None, ..item };
        Write::Deployment { from: None, to: Box::new(item) }
    }

    /// Finds out from the ledger what replaced a deployment. A deployment that was stopped after a change had replaced it was superseded,
    /// even if ECS no longer shows that change. Also finds out which change started the replacing deployment. If that cannot be read, the
    /// end is still valid without it.
    pub async fn name_superseder(&self, service: &ServiceKey, deployment_id: &str, ending: &mut Outcome) {
        if ending.kind == Kind::Stopped && ending.detail.reason.as_deref() != Some(DELETED) {
            match self.store.newest_records(service, NEWEST_RECORDS).await {
                Ok(records) => {
                    if let Some(by) = superseder_among(&records, deployment_id, ending.happened_at()) {
                        *ending = ending.clone().superseded(&by);
                    }
                }
                Err(error) => tracing::warn!("whether a change took over could not be read: {error}"),
            }
        }
        let Some(by) = &mut ending.detail.superseded_by else { return };
        match self.store.read_deployment(service, Some(&by.deployment_id), None).await {
            Ok((_, item)) => {
                let item = item.filter(|item| !item.is_external() && item.undoes.is_none());
                by.change_id = item.map(|item| item.change_id.to_string());
            }
            Err(error) => tracing::warn!("which change took over could not be read: {error}"),
        }
    }

    /// Writes; returns `false` if something changed since it was read.
    ///
    /// # Errors
    ///
    /// Returns an error if it could not be written.
    pub async fn note(&self, writes: &[Write]) -> Result<bool, LedgerError> {
        match self.store.write(writes).await {
            Ok(()) => Ok(true),
            Err(LedgerError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What was heard of a pause of a deployment.
#[derive(Debug, Clone, Copy)]
pub struct PauseHeard<'a> {
    /// The service.
    pub service: &'a ServiceKey,
    /// Its ARN.
    pub service_arn: &'a str,
    /// The deployment.
    pub deployment_id: &'a str,
    /// The pause, as far as it is known.
    pub pause: &'a Pause,
    /// When it began, or ended.
    pub at: DateTime<Utc>,
}

/// The result of recording a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseResult {
    /// It was recorded by this call.
    Recorded {
        /// `AWAITING_ACTION` or `PAUSE_ENDED`.
        kind: Kind,
        /// The id under which the pause is recorded.
        change_id: ChangeId,
    },
    /// The pause was over before anybody heard of it: that is noted, and nothing is recorded.
    Noted,
    /// There is nothing to record, because of this.
    Nothing(&'static str),
}

/// A deployment that no change started.
#[derive(Debug, Clone, Copy)]
pub struct External<'a> {
    /// The service.
    pub service: &'a ServiceKey,
    /// Its ARN.
    pub service_arn: &'a str,
    /// The deployment.
    pub deployment_id: &'a str,
    /// The time of the event that reports it.
    pub at: DateTime<Utc>,
    /// The details from the event.
    pub detail: &'a OutcomeDetail,
    /// Random bytes for the change id.
    pub random: [u8; 10],
}

/// The write that stores the final answer of the ledger under the key, if the key does not have it yet.
fn key_write(
    end: OutcomeToRecord<'_>,
    position: &LedgerState,
    item: &DeploymentItem,
    recorded: Kind,
    now: DateTime<Utc>,
) -> Result<Option<Write>, LedgerError> {
    let (Some((_, answer)), Some(key)) = (end.answer, &position.key) else { return Ok(None) };
    let Some(progress) = key.progress().filter(|progress| progress.change_id == item.change_id) else {
        return Ok(None);
    };
    let to = key.answered(&answer(recorded), now)?;
    let is_new = to.progress().and_then(|progress| progress.answer.as_ref()) != progress.answer.as_ref();
    Ok(is_new.then(|| Write::Key { from: Some(key.clone()), to }))
}

/// The facts that an observer records about a change. Who asked for it, and why, is in the change's own records.
fn facts(service: &ServiceKey, change_id: &ChangeId, witness: &RecordedBy) -> ChangeContext {
    ChangeContext {
        service: service.clone(),
        change_id: change_id.clone(),
        repositories: Vec::new(),
        requested_by: None,
        reason: None,
        identity: Identity::Claimed,
        caller: None,
        attempt: Attempt::FIRST,
        session: witness.session.clone(),
        request_id: witness.request_id.clone(),
        sent_at: None,
        restores: None,
        of: None,
        action: None,
        pins: ResolvedImages::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::error::{Code, Failure};
    use domain::ledger::idempotency::KeyItem;

    #[test]
    fn a_key_answers_what_stands_in_the_ledger() {
        // The waiter saw SUPERSEDED, but the recorder had already written COMPLETED.
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let change_id = ChangeId::new(now, [1; 10]);
        let key = KeyItem::begun("key#1", "e", change_id.clone(), Attempt::FIRST, now);
        let item = DeploymentItem::new(&service, "arn:s", "ecs-svc/2", change_id, now, now);
        let ending = Outcome { kind: Kind::Superseded, detail: OutcomeDetail::default() };
        let told = |kind: Kind| StoredAnswer::Failure(Failure::new(Code::ServiceUpdateFailed, kind.as_str()));
        let end = OutcomeToRecord {
            service: &service,
            service_arn: "arn:s",
            deployment_id: "ecs-svc/2",
            ending: &ending,
            is_final: true,
            answer: Some(("key#1", &told)),
        };
        let position = LedgerState { head: None, key: Some(key) };
        let write = key_write(end, &position, &item, Kind::Completed, now).unwrap();
        let Some(Write::Key { to, .. }) = &write else { panic!("{write:?}") };
        let answer = to.progress().unwrap().answer.as_deref().unwrap();
        assert!(answer.contains("COMPLETED") && !answer.contains("SUPERSEDED"), "{answer}");
        let again = LedgerState { head: None, key: Some(to.clone()) };
        assert_eq!(key_write(end, &again, &item, Kind::Completed, now), Ok(None), "it has that answer");
    }
}
