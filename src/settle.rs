//! The end of a deployment, into the ledger, once, whoever saw it: the updater that waited, an event, or the sweep.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::aws::CallError;
use crate::aws::ledger_store::{LedgerStore, WriteError};
use crate::ledger::record::{ChangeFacts, Kind, Said};
use crate::ledger::state::{Answer, DeploymentItem, Head, Position, Write, next_head};
use crate::names::{ChangeId, ServiceKey};
use crate::outcome::{Detail, Ending};
use crate::registry::Pins;

/// How often it is written where the ledger moves or DynamoDB does not answer.
const ATTEMPTS: u32 = 8;
/// The pause between.
const PAUSE: Duration = Duration::from_millis(200);
/// The first and the last place of an outcome among the records of its change: 1 is the result's.
const PLACES: (u8, u8) = (2, 9);

const WRITE: &str = "dynamodb:ExecuteTransaction";

/// Who saw it, for the record.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    /// `RoleSessionName` in the target's `CloudTrail`; empty where it was told by an event.
    pub session: String,
    /// Lambda request id.
    pub request_id: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is recorded now.
    Recorded {
        /// The change it ends.
        change_id: String,
    },
    /// It, or what it would come too late for, was recorded before.
    Known,
    /// Nothing is known of the deployment.
    Unknown,
    /// The deployment is another service's.
    Refused(String),
}

/// An end to be recorded.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The service.
    pub service: &'a ServiceKey,
    /// Its ARN.
    pub service_arn: &'a str,
    /// The deployment.
    pub deployment_id: &'a str,
    /// How it ended.
    pub ending: &'a Ending,
    /// Whether nothing more is to come.
    pub is_final: bool,
    /// The answer from now on of an idempotency key.
    pub answer: Option<(&'a str, &'a Answer)>,
}

/// The one who writes ends of deployments.
#[derive(Debug, Clone)]
pub struct Settler {
    /// The tables.
    pub store: LedgerStore,
    /// The time.
    pub clock: fn() -> DateTime<Utc>,
}

impl Settler {
    /// Records an end behind what is recorded of its change.
    ///
    /// # Errors
    ///
    /// Where it could not be written. It may be tried again: it is recorded once.
    pub async fn settle(&self, end: End<'_>, witness: &Witness) -> Result<Settled, CallError> {
        let key_id = end.answer.map_or("key#", |(id, _)| id);
        let read = async || self.store.read_deployment(end.service, end.deployment_id, key_id).await;
        let (mut position, mut item) = read().await?;
        // How many places were found taken: a result that came late stands where the first outcome would.
        let mut taken = 0;
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
                match read().await {
                    Ok(now) => {
                        let is_taken =
                            matches!(&last, Some(WriteError::Conflict(why)) if why.contains("DuplicateItem"));
                        taken += u8::from(is_taken && now == (position.clone(), item.clone()));
                        (position, item) = now;
                    }
                    Err(error) => {
                        last = Some(WriteError::Call(error));
                        continue;
                    }
                }
            }
            let Some(known) = &item else { return Ok(Settled::Unknown) };
            if known.service_arn != end.service_arn || known.service != end.service.to_string() {
                let what = format!("deployment {} is one of service {}", end.deployment_id, known.service_arn);
                return Ok(Settled::Refused(what));
            }
            let (writes, settled) = self.writes(end, &position, known, taken, witness)?;
            if writes.is_empty() {
                return Ok(settled);
            }
            match self.store.write(&writes).await {
                Ok(()) => return Ok(settled),
                Err(WriteError::Call(error)) if !error.retryable() => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(failed(last))
    }

    fn writes(
        &self,
        end: End<'_>,
        position: &Position,
        item: &DeploymentItem,
        taken: u8,
        witness: &Witness,
    ) -> Result<(Vec<Write>, Settled), CallError> {
        let now = (self.clock)();
        let unwritable = |error| CallError::broken(WRITE, error);
        let mut writes = Vec::new();
        if let (Some((_, answer)), Some(key)) = (end.answer, &position.key)
            && key.change_id == item.change_id
        {
            let to = key.answered(answer, now).map_err(unwritable)?;
            writes.push(Write::Key { from: Some(key.clone()), to });
        }
        let mut to = item.clone();
        to.look_at = if end.is_final { None } else { item.look_at.map(|_| item.next_look(now)) };
        if !item.accepts(end.ending.kind) {
            if end.is_final && item.look_at.is_some() {
                writes.push(Write::Deployment { from: Some(Box::new(item.clone())), to: Box::new(to) });
            }
            return Ok((writes, Settled::Known));
        }
        to.outcomes.push(end.ending.kind);
        let recorded = u8::try_from(item.outcomes.len()).unwrap_or(u8::MAX);
        let n = PLACES.0.saturating_add(recorded).saturating_add(taken);
        if n > PLACES.1 {
            return Err(CallError::broken(
                WRITE,
                format!("the records of change {}: they are full, so it", item.change_id),
            ));
        }
        let change_id = ChangeId::parse(&item.change_id)
            .map_err(|_| CallError::broken(WRITE, format!("change_id of deployment {}", end.deployment_id)))?;
        let facts = ChangeFacts { repositories: item.repositories.clone(), ..facts(end.service, change_id, witness) };
        let said =
            Said { deployment_id: Some(end.deployment_id), outcome: Some(&end.ending.detail), ..Said::default() };
        let (record, pointers) =
            facts.record(end.ending.kind, n, now, &said, position.head.as_ref()).map_err(unwritable)?;
        let head = next_head(&record, position.head.as_ref(), None);
        writes.push(Write::Head { id: Head::id(end.service), from: position.head.clone(), to: head });
        writes.push(Write::Deployment { from: Some(Box::new(item.clone())), to: Box::new(to) });
        writes.push(Write::Record(Box::new(record)));
        writes.extend(pointers.into_iter().map(Write::Pointer));
        Ok((writes, Settled::Recorded { change_id: item.change_id.clone() }))
    }

    /// Records a deployment that no change started, as it stands behind `position`; `None` where something moved.
    ///
    /// # Errors
    ///
    /// Where it could not be written.
    pub async fn external(
        &self,
        external: External<'_>,
        position: &Position,
        witness: &Witness,
    ) -> Result<Option<ChangeId>, CallError> {
        let now = (self.clock)();
        let External { service, service_arn, deployment_id, at, detail, random } = external;
        let change_id = ChangeId::new(position.next_change_time(at.min(now)), random);
        let facts = facts(service, change_id.clone(), witness);
        let said = Said { deployment_id: Some(deployment_id), outcome: Some(detail), ..Said::default() };
        let unwritable = |error| CallError::broken(WRITE, error);
        let (record, _) = facts.record(Kind::External, 1, now, &said, position.head.as_ref()).map_err(unwritable)?;
        let item = DeploymentItem {
            outcomes: vec![Kind::External],
            look_at: None,
            started_at: at,
            ..DeploymentItem::new(service, service_arn, deployment_id, change_id.as_str(), now)
        };
        let head = next_head(&record, position.head.as_ref(), None);
        let writes = [
            Write::Head { id: Head::id(service), from: position.head.clone(), to: head },
            Write::Deployment { from: None, to: Box::new(item) },
            Write::Record(Box::new(record)),
        ];
        Ok(self.note(&writes).await?.then_some(change_id))
    }

    /// Fills in which change started the deployment that took over, where one did. Without it the end stands as well.
    pub async fn name_superseder(&self, service: &ServiceKey, detail: &mut Detail) {
        let Some(by) = &mut detail.superseded_by else { return };
        match self.store.read_deployment(service, &by.deployment_id, "key#").await {
            Ok((_, item)) => {
                let item = item.filter(|item| !item.outcomes.contains(&Kind::External) && item.undoes.is_none());
                by.change_id = item.map(|item| item.change_id);
            }
            Err(error) => tracing::warn!("which change took over could not be read: {error}"),
        }
    }

    /// Writes; `false` where something moved.
    ///
    /// # Errors
    ///
    /// Where it could not be written.
    pub async fn note(&self, writes: &[Write]) -> Result<bool, CallError> {
        match self.store.write(writes).await {
            Ok(()) => Ok(true),
            Err(WriteError::Conflict(_)) => Ok(false),
            Err(WriteError::Call(error)) => Err(error),
        }
    }
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
    /// When it was heard of, by the event.
    pub at: DateTime<Utc>,
    /// What the event says.
    pub detail: &'a Detail,
    /// For the id.
    pub random: [u8; 10],
}

/// What a witness writes of a change: who asked for it, and why, stand in the change's own records.
fn facts(service: &ServiceKey, change_id: ChangeId, witness: &Witness) -> ChangeFacts {
    ChangeFacts {
        service: service.clone(),
        change_id,
        repositories: Vec::new(),
        requested_by: None,
        reason: None,
        identity: "claimed".to_owned(),
        session: witness.session.clone(),
        request_id: witness.request_id.clone(),
        restores: None,
        pins: Pins::default(),
    }
}

fn failed(last: Option<WriteError>) -> CallError {
    match last {
        Some(WriteError::Call(error)) => error,
        Some(WriteError::Conflict(why)) => CallError::unreadable(WRITE, why),
        None => CallError::unreadable(WRITE, "not sent"),
    }
}
