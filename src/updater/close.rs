//! Closes a change whose function ended before the change did: the next change does it.

use domain::ecs::service::Snapshot;
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ids::Identity;
use domain::ledger::admission::LedgerState;
use domain::ledger::attribution::left;
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::head::{Head, Lease};
use domain::ledger::idempotency::StoredAnswer;
use domain::ledger::key::{RecordKey, RecordPlace};
use domain::ledger::kind::Kind;
use domain::ledger::record::{ChangeContext, Record, RecordFields};
use domain::ledger::write::Write;

use super::change::Attempt;
use super::{Updater, Work, messages};

/// What is recorded of a change that has to be closed.
pub(super) struct Orphan {
    /// Its first `STARTED`.
    started: Option<Record>,
}

impl Updater {
    /// The change of a lease that has ended, if its attempt has no result. If the attempt has one, only the lease was left behind.
    pub(super) async fn orphan(&self, request: &UpdateRequest, lease: &Lease) -> Result<Option<Orphan>, Failure> {
        let key = &request.service_key;
        let unavailable = |error| messages::history_unavailable(key, &error);
        let result = RecordKey::new(lease.change_id.clone(), RecordPlace::Result(lease.attempt));
        let started = RecordKey::new(lease.change_id.clone(), RecordPlace::STARTED);
        if self.store().record_json(key, &result).await.map_err(unavailable)?.is_some() {
            return Ok(None);
        }
        let started = self.store().record(key, &started).await.map_err(unavailable)?;
        Ok(Some(Orphan { started }))
    }

    /// Closes a change whose lease ended before the change did: the result that is recorded is what the service looks like now, and its key
    /// answers accordingly.
    pub(super) async fn close_orphan(
        &self,
        work: Work<'_>,
        snapshot: &Snapshot,
        position: &LedgerState,
        lease: &Lease,
        Orphan { started }: Orphan,
    ) -> Result<Attempt, Failure> {
        let key = &work.request.service_key;
        let now = (self.clock)();
        let unavailable = |error| messages::history_unavailable(key, &error);
        let orphan_key = self.store().read(key, &lease.key).await.map_err(unavailable)?.value.position.key;
        let before = started.as_ref().and_then(Record::before);
        let container = before.as_ref().and_then(|before| before.state.task_definition_name.clone());
        let after = self.recorded(key, snapshot, container.as_deref()).await;
        let changes = started.as_ref().and_then(Record::changes);
        let set = changes.as_deref();
        let failure = messages::abandoned(work.request, lease, &after);
        let facts = Self::facts(
            work,
            lease.change_id.clone(),
            lease.attempt,
            set.unwrap_or_default(),
            before.as_ref().unwrap_or(&after),
        );
        // Each member is named, so that a member that is added later is not silently taken from the request that closes the change.
        let ChangeContext {
            service,
            change_id,
            repositories,
            attempt,
            session,
            request_id,
            restores,
            of,
            action,
            pins,
            ..
        } = facts;
        // Without a record it is not known who sent the change: it was not the one that closes it.
        let begun = started.as_ref();
        let facts = ChangeContext {
            requested_by: begun.and_then(|begun| begun.requested_by.clone()),
            reason: begun.and_then(|begun| begun.reason.clone()),
            restores: begun.map_or(restores, |begun| begun.restores.clone()),
            of: begun.map_or(of, |begun| begun.of.clone()),
            action: begun.map_or(action, |begun| begun.action),
            pins: begun.map_or(pins, Record::pins),
            identity: begun.map_or(Identity::Claimed, |begun| begun.identity),
            caller: begun.and_then(|begun| begun.caller.clone()),
            sent_at: begun.and_then(Record::sent_at),
            service,
            change_id,
            repositories,
            attempt,
            session,
            request_id,
        };
        // What the change deployed belongs to it, whoever closes it.
        let mut snapshot = snapshot.clone();
        if let Err(error) = Self::look_at_primary(work.target, &mut snapshot.service, set, before.as_ref()).await {
            tracing::warn!(service = %key, "what was deployed while change {} could act cannot be told: {error}", lease.change_id);
        }
        let left = before.as_ref().and_then(|before| left(&facts, set, before, &snapshot, lease.until, now));
        let noted = match &left {
            Some(left) => {
                self.store().read_deployment(key, Some(left.deployment_id()), None).await.map_err(unavailable)?.1
            }
            None => None,
        };
        let left = left.filter(|left| noted.as_ref().is_none_or(|noted| noted.change_id == left.change_id));
        let said = RecordFields {
            before: before.as_ref(),
            after: Some(&after),
            deployment_id: left.as_ref().map(DeploymentItem::deployment_id),
            error: Some(&failure),
            ..RecordFields::default()
        };
        let place = RecordPlace::Result(lease.attempt);
        let unwritable = |error: serde_json::Error| messages::history_unavailable(key, &error.into());
        let (record, _) =
            facts.record(Kind::Abandoned, place, now, &said, position.head.as_ref()).map_err(unwritable)?;
        let head = Head::behind(&record, position.head.as_ref(), None);
        let mut writes: Vec<Write> = Write::append(key, (record, Vec::new()), position.head.clone(), head).collect();
        let is_its = |progress: &domain::ledger::idempotency::Progress| {
            progress.change_id == lease.change_id && progress.answer.is_none()
        };
        if let Some(orphan_key) = orphan_key.filter(|key| key.progress().is_some_and(is_its)) {
            let to = orphan_key.answered(&StoredAnswer::Failure(failure), now).map_err(unwritable)?;
            writes.push(Write::Key { from: Some(orphan_key), to });
        }
        if let Some(left) = left.as_ref().filter(|_| noted.is_none()) {
            writes.push(Write::Deployment { from: None, to: Box::new(left.clone()) });
        }
        match self.outcomes.note(&writes).await {
            Ok(true) => Ok(Attempt::Moved("an abandoned change was closed".to_owned(), None)),
            Ok(false) => Ok(Attempt::Moved("another writer was faster to close an abandoned change".to_owned(), None)),
            // The next read shows whether it was written.
            Err(error) if error.retryable() => Ok(Attempt::Moved(error.to_string(), None)),
            Err(error) => Err(unavailable(error)),
        }
    }
}
