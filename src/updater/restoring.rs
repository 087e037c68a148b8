//! Finds what a request restores, before its plan is made.

use std::collections::BTreeMap;

use domain::call_error::CallError;
use domain::ecs::service::{IN_REVISION, Snapshot};
use domain::error::Failure;
use domain::event::request::{RestoreMode, RestorePoint, UpdateRequest};
use domain::ids::ChangeId;
use domain::ledger::hidden::is_hidden;
use domain::ledger::hold::Hold;
use domain::ledger::previous::Previous;
use domain::ledger::record::Record;
use domain::ledger::write::LedgerError;
use domain::plan::restoration::{OldDefinition, Restoration};
use domain::plan::{self, Plan};

use super::target::AccountClients;
use super::{Updater, messages};
use crate::aws::ecs::DescribeError;

/// What a request restores.
pub(super) enum Restoring {
    /// Nothing: the request is not a restore.
    No,
    /// This change.
    Yes(Box<Restoration>),
    /// What the request refers to is already undone; the note says by what.
    Undone(String),
}

impl Restoring {
    /// The change that is undone.
    pub(super) fn change_id(&self) -> Option<&ChangeId> {
        match self {
            Self::Yes(restore) => Some(restore.change_id()),
            Self::No | Self::Undone(_) => None,
        }
    }

    /// The same for the task definition alone.
    pub(super) fn of_definition(self) -> Self {
        match self {
            Self::Yes(restore) => Self::Yes(Box::new(restore.of_definition())),
            other => other,
        }
    }

    /// The plan of a request with this restore.
    pub(super) fn plan(&self, request: &UpdateRequest, snapshot: &Snapshot) -> Plan {
        match self {
            Self::No => plan::plan(request, snapshot, None),
            Self::Yes(restore) => plan::plan(request, snapshot, Some(restore)),
            Self::Undone(note) => {
                Plan::Unchanged { targets: BTreeMap::new(), notes: vec![note.clone()], not_restored: Vec::new() }
            }
        }
    }
}

impl Updater {
    /// What the request's `restore` puts back. `first` is the first `STARTED` record of the request's change, if an earlier attempt at it
    /// began. The snapshot gets what has to be compared and only a service revision shows.
    pub(super) async fn restoring(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        snapshot: &mut Snapshot,
        first: Option<&Record>,
    ) -> Result<Restoring, Failure> {
        let Some(point) = &request.restore else { return Ok(Restoring::No) };
        let key = &request.service_key;
        let unavailable = |error: LedgerError| messages::history_unavailable(key, &error);
        let known = first.and_then(|first| first.restores.as_ref());
        let change_id = match (known, point) {
            (Some(change_id), _) | (None, RestorePoint::Change(change_id)) => change_id.clone(),
            (None, RestorePoint::Previous) => match self.store().previous(key, snapshot).await.map_err(unavailable)? {
                Some(Previous::Change(change_id)) => change_id,
                Some(Previous::Undone { change_id, by, before }) => {
                    return Ok(Restoring::Undone(messages::undone_already(&change_id, &by, before.as_ref())));
                }
                None => return Err(messages::nothing_to_restore(key, None)),
            },
        };
        let past = self.store().past(key, &change_id).await.map_err(unavailable)?;
        let past = past.ok_or_else(|| messages::nothing_to_restore(key, Some(&change_id)))?;
        // A later attempt looks only at what its first one set out to set, whoever else changed the service.
        let later = match first {
            None => self.store().later_than(key, &change_id).await.map_err(unavailable)?,
            Some(_) => Vec::new(),
        };
        let cannot = |why: String| messages::cannot_restore(key, &why);
        let changes = past.sets().map_err(cannot)?;
        let before = past
            .before
            .clone()
            .ok_or_else(|| cannot(format!("the records of change {change_id} do not say what was there before")))?;
        let mode = request.restore_mode;
        if mode == RestoreMode::Exact && before.is_shortened() {
            return Err(cannot(format!("the parameters before change {change_id} were too long to record")));
        }
        let is_hidden = before.service.values().chain(changes.iter().flat_map(|it| [&it.from, &it.to])).any(is_hidden);
        let hidden = if is_hidden { Some(self.hidden_key().await.map_err(unavailable)?.clone()) } else { None };
        let mut restoration = Restoration {
            past,
            changes,
            before,
            mode,
            definition: OldDefinition::InPlace,
            deployed: None,
            service_revision: None,
            hidden,
            later,
            only: first.and_then(Record::changes),
        };
        self.look_up(target, request, snapshot, &mut restoration).await?;
        Ok(Restoring::Yes(Box::new(restoration)))
    }

    /// Asks AWS for what the records do not hold.
    async fn look_up(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        snapshot: &mut Snapshot,
        restoration: &mut Restoration,
    ) -> Result<(), Failure> {
        let key = &request.service_key;
        let failed = |error| messages::describe_failed(key, &DescribeError::Call(error));
        let runs = snapshot.service.task_definition_arn().map(str::to_owned);
        // This is how ECS answers if it no longer has a revision.
        let is_gone = |error: &CallError| error.has_code(&["ClientException"]);
        if let Some(arn) = restoration.old_revision().filter(|arn| Some(*arn) != runs.as_deref()) {
            restoration.definition = match target.definition(arn).await {
                Ok(definition) if definition.is_active => OldDefinition::Active(definition),
                Ok(definition) => OldDefinition::Inactive(definition),
                Err(error) if is_gone(&error) => OldDefinition::Gone,
                Err(error) => return Err(failed(error)),
            };
        }
        if let Some(arn) = restoration.deployed_revision().filter(|arn| Some(*arn) != runs.as_deref()) {
            restoration.deployed = match target.definition(arn).await {
                Ok(definition) => Some(definition),
                Err(error) if is_gone(&error) => None,
                Err(error) => return Err(failed(error)),
            };
        }
        if let Some(arn) = snapshot.service.service_revision()
            && restoration.names(&IN_REVISION)
            && let Some(revision) = target.ecs.describe_service_revision(arn).await.map_err(failed)?
        {
            snapshot.service = snapshot.service.clone().with_revision(&revision);
        }
        if let Some(arn) = restoration.lacks_secrets(key, &snapshot.service) {
            restoration.service_revision = match target.ecs.describe_service_revision(arn).await {
                Ok(revision) => revision,
                // AWS keeps the revisions of a service until it is deleted, and those from before October 2024 not at all.
                Err(error) if !error.retryable() && !error.denied() => None,
                Err(error) => return Err(failed(error)),
            };
        }
        Ok(())
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
}
