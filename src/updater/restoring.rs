//! Finds what a request restores, before its plan is made.

use std::collections::BTreeMap;

use domain::ecs::service::Snapshot;
use domain::error::Failure;
use domain::event::request::{RestorePoint, UpdateRequest};
use domain::ids::{ChangeId, ServiceKey};
use domain::ledger::hidden::is_hidden;
use domain::ledger::hold::Hold;
use domain::ledger::key::{RecordKey, RecordPlace};
use domain::ledger::previous::Previous;
use domain::ledger::write::LedgerError;
use domain::plan::restoration::{OldDefinition, RestoreNotes};
use domain::plan::restore::RestoreSource;
use domain::plan::{self, Plan};

use super::target::AccountClients;
use super::{Updater, messages};
use crate::aws::ecs::DescribeError;

/// What a request restores.
pub(super) enum Restoring {
    /// Nothing: the request is not a restore.
    No,
    /// The state before this change.
    Yes(Box<RestoreNotes>),
    /// What the request refers to is already undone; the note says by what.
    Undone(String),
}

impl Restoring {
    /// The change whose state before it is put back.
    pub(super) fn change_id(&self) -> Option<&ChangeId> {
        match self {
            Self::Yes(restore) => Some(&restore.change_id),
            Self::No | Self::Undone(_) => None,
        }
    }

    /// The plan of a request with this restore.
    pub(super) fn plan(&self, request: &UpdateRequest, snapshot: &Snapshot) -> Plan {
        match self {
            Self::No => plan::plan(request, snapshot, None),
            Self::Yes(restore) => plan::plan(request, snapshot, Some(restore)),
            Self::Undone(note) => Plan::Unchanged { targets: BTreeMap::new(), notes: vec![note.clone()] },
        }
    }
}

impl Updater {
    /// What the request's `restore` puts back. `known` is the change that the request's `STARTED` record names.
    pub(super) async fn restoring(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        known: Option<&ChangeId>,
    ) -> Result<Restoring, Failure> {
        let Some(point) = &request.restore else { return Ok(Restoring::No) };
        let key = &request.service_key;
        let unavailable = |error: LedgerError| messages::history_unavailable(key, &error);
        let change_id = match (known, point) {
            (Some(change_id), _) | (None, RestorePoint::Change(change_id)) => change_id.clone(),
            (None, RestorePoint::Previous) => match self.store().previous(key).await.map_err(unavailable)? {
                Some(Previous::Change(change_id)) => change_id,
                Some(Previous::Undone { change_id, by, before }) => {
                    return Ok(Restoring::Undone(messages::undone_already(&change_id, &by, before.as_ref())));
                }
                None => return Err(messages::nothing_to_restore(key, None)),
            },
        };
        let past = self.past(key, &change_id).await.map_err(unavailable)?;
        let past = past.ok_or_else(|| messages::nothing_to_restore(key, Some(&change_id)))?;
        let before = past.into_before().map_err(|why| messages::cannot_restore(key, &why))?;
        let definition = match before.state.task_definition_arn.as_deref() {
            Some(arn) if snapshot.service.task_definition_arn() != Some(arn) => {
                match target.definition(arn).await {
                    Ok(definition) if definition.is_active => OldDefinition::Active(definition),
                    Ok(definition) => OldDefinition::Inactive(definition),
                    // This is how ECS answers if it no longer has a revision.
                    Err(error) if error.has_code(&["ClientException"]) => OldDefinition::Gone,
                    Err(error) => return Err(messages::describe_failed(key, &DescribeError::Call(error))),
                }
            }
            _ => OldDefinition::InPlace,
        };
        let hidden = if before.service.values().any(is_hidden) {
            Some(self.hidden_key().await.map_err(unavailable)?.clone())
        } else {
            None
        };
        Ok(Restoring::Yes(Box::new(RestoreNotes { change_id, before, definition, hidden })))
    }

    /// Refuses a push that would undo a restore. Returns a note if the push repeats the last one, sets only images (`only_images`), and
    /// something else was deployed since: then there is nothing to do.
    pub(super) async fn keeps_restores(
        &self,
        request: &UpdateRequest,
        only_images: bool,
    ) -> Result<Option<String>, Failure> {
        let Some(tag) = &request.pushed_tag else { return Ok(None) };
        let key = &request.service_key;
        let (mut again, mut images) = (Vec::new(), 0);
        for image in request.image.references() {
            images += 1;
            let hold = self.store().hold(key, image, tag, request.requested_by.as_deref()).await;
            match hold.map_err(|error| messages::history_unavailable(key, &error))? {
                Hold::By(by) => {
                    let record = self.last_begun(key, &by).await;
                    return Err(messages::held(key, image, tag, &by, record.as_ref()));
                }
                Hold::Again(by) => again.push(messages::pushed_again(image, tag, &by)),
                Hold::No => {}
            }
        }
        Ok(again.pop().filter(|_| only_images && again.len() + 1 == images))
    }

    /// The record on which a restore of a change is based: its first `STARTED`, or the only record of a change that has none.
    async fn past(&self, key: &ServiceKey, change_id: &ChangeId) -> Result<Option<RestoreSource>, LedgerError> {
        for place in [RecordPlace::STARTED, RecordPlace::RESULT] {
            let record = RecordKey::new(change_id.clone(), place);
            if let Some(record) = self.store().record_json(key, &record).await? {
                return Ok(RestoreSource::read(&record));
            }
        }
        Ok(None)
    }
}
