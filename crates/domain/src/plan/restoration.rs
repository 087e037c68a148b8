//! What puts a service back: only what one change set (`undo`), or the whole state from before it (`exact`).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Map, Value};

use crate::ecs::service::{IN_REVISION, PARAMETERS, RecordedState, Service, Snapshot};
use crate::ecs::tags::{self, TagChange, TagMode};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::error::{Code, Failure};
use crate::event::request::{RestoreMode, UpdateRequest};
use crate::ids::{ChangeId, ServiceKey};
use crate::ledger::hidden::{HiddenKey, is_hidden};
use crate::ledger::past::PastChange;
use crate::plan::controller::{check_deployment_controller, takes};
use crate::plan::deployment_configuration::{MERGED, put_back};
use crate::plan::desired::{Desired, checked};
use crate::plan::difference::{Difference, DifferenceKind, NotRestored};
use crate::plan::images::{differing_images, registration};
use crate::plan::parameters::{differing_parameters, same_parameter};
use crate::plan::undo::{copied, is_about, undone, why_nothing};

/// How much later than a change a service may seem to have been created and still be the one that was changed: the two times are by clocks
/// that may differ by this much.
const SKEW: Duration = Duration::seconds(4);

/// How many conflicts a message lists.
const TOLD_CONFLICTS: usize = 20;

/// What a restore needs to know of the change that is undone, and of what AWS still has of the state before it.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// What the records say of the change.
    pub past: PastChange,
    /// What the change set.
    pub changes: Vec<Difference>,
    /// The state before it, from its record.
    pub before: RecordedState,
    /// Whether only what it set goes back, or the whole state before it.
    pub mode: RestoreMode,
    /// The task definition from before the change, as AWS has it now.
    pub definition: OldDefinition,
    /// The task definition that the change deployed, if another one runs now, the change set more than images of it, and AWS has it.
    pub deployed: Option<Arc<TaskDefinition>>,
    /// The service revision from before the change, if values that records do not hold have to come from it, and AWS has it.
    pub service_revision: Option<Map<String, Value>>,
    /// The key by which values that may be secret are compared, where a record has any.
    pub hidden: Option<HiddenKey>,
    /// The changes of the service after it, the newest first, as far as they were read.
    pub later: Vec<PastChange>,
    /// What the restore itself set out to set, if an earlier attempt at it began: nothing else is looked at then.
    pub only: Option<Vec<Difference>>,
}

/// A task definition that a restore goes back to, as AWS has it now.
#[derive(Debug, Clone)]
pub enum OldDefinition {
    /// The service runs it, or ran none.
    InPlace,
    /// Services can be given it.
    Active(Arc<TaskDefinition>),
    /// It was deregistered: its copy can be registered.
    Inactive(Arc<TaskDefinition>),
    /// AWS no longer has it.
    Gone,
}

impl Restoration {
    /// The change that is undone.
    #[must_use]
    pub fn change_id(&self) -> &ChangeId {
        &self.past.change_id
    }

    /// The same for the task definition alone.
    #[must_use]
    pub fn of_definition(mut self) -> Self {
        let only = self.only.take().unwrap_or_else(|| self.changes.clone());
        self.only = Some(only.into_iter().filter(is_of_definition).collect());
        self
    }

    /// The revision from before the change, if anything of the task definition may go back.
    #[must_use]
    pub fn old_revision(&self) -> Option<&str> {
        let is_needed = self.mode == RestoreMode::Exact || !self.definition_members().is_empty();
        self.before.state.task_definition_arn.as_deref().filter(|_| is_needed)
    }

    /// The revision that the change deployed, if more than images of it has to be compared with what runs.
    #[must_use]
    pub fn deployed_revision(&self) -> Option<&str> {
        let members = self.definition_members();
        let is_needed =
            matches!(self.definition, OldDefinition::Active(_) | OldDefinition::Inactive(_) | OldDefinition::Gone)
                && members.iter().any(|change| change.what == DifferenceKind::Definition);
        self.past.deployed().filter(|_| is_needed)
    }

    /// Whether the change set one of these parameters.
    #[must_use]
    pub fn names(&self, parameters: &[&str]) -> bool {
        let is_one = |change: &Difference| {
            change.what == DifferenceKind::Parameter && parameters.contains(&change.path.as_str())
        };
        self.changes.iter().any(is_one)
    }

    /// The service revision to ask for values that records do not hold and that the service has no longer.
    #[must_use]
    pub fn lacks_secrets(&self, key: &ServiceKey, service: &Service) -> Option<&str> {
        let lacks =
            |name: &str, was: &Value| is_hidden(was) && self.known(key, name, was, service.parameter(name)).is_none();
        let is_lacking = match self.mode {
            RestoreMode::Undo => self
                .changes
                .iter()
                .filter(|change| change.what == DifferenceKind::Parameter)
                .any(|change| lacks(&change.path, &change.from)),
            RestoreMode::Exact => self.before.service.iter().any(|(name, was)| lacks(name, was)),
        };
        self.before.service_revision.as_deref().filter(|_| is_lacking)
    }

    /// Whether a member is looked at.
    pub(super) fn includes(&self, change: &Difference) -> bool {
        self.only.as_ref().is_none_or(|only| {
            only.iter().any(|one| {
                if is_of_definition(change) { is_of_definition(one) } else { is_about(one, change.what, &change.path) }
            })
        })
    }

    /// What the change set of the task definition, if it is looked at.
    pub(super) fn definition_members(&self) -> Vec<&Difference> {
        self.changes.iter().filter(|change| is_of_definition(change) && self.includes(change)).collect()
    }
}

fn is_of_definition(change: &Difference) -> bool {
    matches!(change.what, DifferenceKind::Image | DifferenceKind::Revision | DifferenceKind::Definition)
}

/// What is neither as before the change nor as the change set it.
pub(super) struct Conflict {
    what: DifferenceKind,
    path: String,
    /// What it is now.
    now: String,
    /// Who set it.
    by: String,
}

impl Conflict {
    pub(super) fn new(what: DifferenceKind, path: &str, now: String, later: &[PastChange]) -> Self {
        let is_its = |later: &&PastChange| {
            let sets = later.sets().unwrap_or_default();
            sets.iter().any(|change| is_about(change, what, path))
                && (later.result.as_deref() == Some("EXTERNAL") || later.left_something(None))
        };
        let by = match later.iter().find(is_its) {
            Some(later) if later.undone_by_ecs.is_none() => format!("last set by {}", later.told()),
            _ => "set past the door, as far as the ledger knows".to_owned(),
        };
        Self { what, path: path.to_owned(), now, by }
    }

    fn told(&self) -> String {
        let Self { path, now, by, .. } = self;
        let what = match self.what {
            DifferenceKind::Image => "image ",
            DifferenceKind::Tag => "tag ",
            DifferenceKind::Parameter => "parameter ",
            _ => "",
        };
        format!("{what}{}: {now} ({by})", crate::text::one_line(path))
    }
}

/// The refusal that names what is no longer there.
pub(super) fn conflicting(request: &UpdateRequest, restore: &Restoration, conflicts: &[Conflict]) -> Failure {
    let told: Vec<String> = conflicts.iter().take(TOLD_CONFLICTS).map(Conflict::told).collect();
    let more = conflicts.len().saturating_sub(told.len());
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let instead = match restore.mode {
        RestoreMode::Undo => {
            "Restore the later change first, by its id; take a parameter out with null for it in `service`; or, where the whole state from \
             before the change is wanted, later changes and those of others included, send restore_mode exact (with dry_run first: it lists \
             them)"
        }
        RestoreMode::Exact => "Set what is wanted with an update",
    };
    Failure::new(
        Code::RestoreConflict,
        format!(
            "service {}: change {} cannot be undone as it stands: {}{more}. Nothing was changed. {instead}",
            request.service_key,
            restore.change_id(),
            told.join("; ")
        ),
    )
}

/// A service that was created after the change is another one, whatever its name.
fn check_same_service(request: &UpdateRequest, snapshot: &Snapshot, restore: &Restoration) -> Result<(), Failure> {
    let (created, changed): (Option<DateTime<Utc>>, _) = (snapshot.service.created_at(), restore.change_id().time());
    let Some(created) = created.filter(|created| *created > changed + SKEW) else { return Ok(()) };
    Err(Failure::new(
        Code::RestoreConflict,
        format!(
            "service {}: it was created at {}, after change {}, which was of another service with this name. Nothing was changed. Set what is \
             wanted with an update",
            request.service_key,
            crate::text::rfc3339(created),
            restore.change_id()
        ),
    ))
}

pub(super) fn restored(
    request: &UpdateRequest,
    snapshot: &Snapshot,
    restore: &Restoration,
) -> Result<Desired, Failure> {
    check_same_service(request, snapshot, restore)?;
    let mut wanted = match restore.mode {
        RestoreMode::Undo => undone(request, snapshot, restore)?,
        RestoreMode::Exact => exact(request, snapshot, restore)?,
    };
    if wanted.is_nothing() {
        let why = why_nothing(restore);
        match wanted.notes.first_mut() {
            Some(first) => *first = why,
            None => wanted.notes.push(why),
        }
    }
    let (asked, notes) = differing_parameters(&request.parameters, snapshot);
    // What goes back is what the controller takes; what the event asks for besides that is judged.
    check_deployment_controller(request, snapshot, false, &asked)?;
    wanted.parameters.extend(asked);
    wanted.notes.extend(notes);
    Ok(wanted)
}

/// The whole state from before the change, but for the desired count.
fn exact(request: &UpdateRequest, snapshot: &Snapshot, restore: &Restoration) -> Result<Desired, Failure> {
    let mut wanted = Desired {
        notes: vec![format!("this puts back what was there before change {}", restore.change_id())],
        ..Desired::default()
    };
    let mut conflicts = Vec::new();
    let parameters = restore.before.service.get("deploymentController");
    let type_of = |controller: &Value| controller.get("type").and_then(Value::as_str).map(str::to_owned);
    let controller = match parameters.and_then(type_of).as_deref() {
        Some("ECS") => "ECS",
        _ => snapshot.service.deployment_controller(),
    };
    restore_definition(&mut wanted, &mut conflicts, snapshot, restore, controller)?;
    restore_parameters(&mut wanted, &mut conflicts, request, snapshot, restore, controller);
    if !conflicts.is_empty() {
        return Err(conflicting(request, restore, &conflicts));
    }
    let tags = restore.before.state.tags.iter().filter(|tag| !tags::is_reserved(&tag.key));
    let tags = tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    let mut difference = tags::difference(&snapshot.service.tags, &TagChange { mode: TagMode::Replace, tags });
    let included = |key: &String| {
        let (what, path, from, to) = (DifferenceKind::Tag, key.clone(), Value::Null, Value::Null);
        restore.includes(&Difference { what, path, from, to })
    };
    difference.set.retain(|key, _| included(key));
    difference.remove.retain(|key| included(key));
    wanted.tags = checked(difference, request, "Remove some first")?;
    Ok(wanted)
}

/// Puts back the old revision if services can be given it, otherwise its copy.
fn restore_definition(
    wanted: &mut Desired,
    conflicts: &mut Vec<Conflict>,
    snapshot: &Snapshot,
    restore: &Restoration,
    controller: &str,
) -> Result<(), Failure> {
    let what = DifferenceKind::Revision;
    let path = "taskDefinition";
    let (from, to) = (Value::Null, Value::Null);
    if !restore.includes(&Difference { what, path: path.to_owned(), from, to }) {
        return Ok(());
    }
    let current = snapshot.task_definition.as_deref();
    let old = &restore.before.state;
    let name = old.task_definition_arn.as_deref().map_or("its task definition", family_and_revision);
    wanted.targets.clone_from(&old.images);
    let copy = match &restore.definition {
        OldDefinition::Active(definition) | OldDefinition::Inactive(definition) => {
            Some(registration(definition, &BTreeMap::new())?)
        }
        OldDefinition::InPlace | OldDefinition::Gone => None,
    };
    let is_its_copy =
        |current: &TaskDefinition| copy.as_ref().is_some_and(|copy| current.matches_registration(&copy.document));
    if matches!(restore.definition, OldDefinition::InPlace) || current.is_some_and(is_its_copy) {
        return Ok(());
    }
    if !takes(controller, path) {
        let why = left_by_controller(controller);
        wanted.not_restored.push(NotRestored { what, path: path.to_owned(), why });
        return Ok(());
    }
    match (&restore.definition, copy) {
        (OldDefinition::Active(definition), _) => wanted.revision = Some(Arc::clone(definition)),
        (OldDefinition::Inactive(definition), copy) => {
            wanted.notes.push(copied(definition));
            wanted.register = copy;
        }
        _ => {
            // Its images are all that the records have of it. They are enough only where the change set nothing else of what runs.
            let members = restore.definition_members();
            let runs_its_revision = current.is_some_and(|it| restore.past.deployed() == Some(it.arn.as_str()));
            let sets_images = members.iter().all(|change| change.what == DifferenceKind::Image);
            let Some(current) = current.filter(|_| runs_its_revision && sets_images) else {
                let now = format!("AWS no longer has {name}, and records keep only the images of it");
                conflicts.push(Conflict::new(what, path, now, &restore.later));
                return Ok(());
            };
            wanted.notes.push(format!("AWS no longer has {name}: the definition that runs now gets the old images"));
            wanted.register = Some(registration(current, &differing_images(&wanted.targets, Some(current)))?);
        }
    }
    wanted.images = differing_images(&wanted.targets, current);
    Ok(())
}

pub(super) fn unset(what: &str) -> String {
    format!("{what} was not set before, and UpdateService cannot unset it: it stays")
}

pub(super) fn left_by_controller(controller: &str) -> String {
    format!("UpdateService does not take it under the deployment controller {controller}")
}

/// Puts back parameters exactly as they were; those that were not set are cleared, if `UpdateService` can do that. What AWS has filled in
/// since then is not a difference.
fn restore_parameters(
    wanted: &mut Desired,
    conflicts: &mut Vec<Conflict>,
    request: &UpdateRequest,
    snapshot: &Snapshot,
    restore: &Restoration,
    controller: &str,
) {
    // Restoring `desiredCount` would conflict with the autoscaler; and what only a service revision shows is read only if the event names
    // it.
    for name in PARAMETERS.into_iter().filter(|name| *name != "desiredCount" && !IN_REVISION.contains(name)) {
        let what = DifferenceKind::Parameter;
        let (path, from, to) = (name.to_owned(), Value::Null, Value::Null);
        if request.parameters.contains_key(name) || !restore.includes(&Difference { what, path, from, to }) {
            continue;
        }
        let mut leaves = |path: &str, why: String| {
            wanted.not_restored.push(NotRestored { what, path: path.to_owned(), why });
        };
        let is = snapshot.service.parameter(name);
        let recorded = restore.before.service.get(name).filter(|was| !was.is_null());
        let known = recorded.map(|was| restore.known(&request.service_key, name, was, is));
        let was = match &known {
            Some(None) if request.left_alone.contains(name) || !takes(controller, name) => recorded,
            Some(None) => {
                let now = "records do not hold values that may be secret, and AWS no longer has what it was";
                conflicts.push(Conflict::new(what, name, now.to_owned(), &restore.later));
                continue;
            }
            Some(was) => was.as_ref(),
            None => None,
        };
        if same_parameter(name, is, was) {
            continue;
        }
        if !takes(controller, name) {
            leaves(name, left_by_controller(controller));
            continue;
        }
        if request.left_alone.contains(name) {
            leaves(name, "the event gives null for it".to_owned());
            continue;
        }
        if name == MERGED {
            let (back, stays) = put_back(was, is);
            wanted.parameters.extend(back.map(|back| (name.to_owned(), back)));
            for member in stays {
                let path = format!("{name}.{member}");
                wanted.not_restored.push(NotRestored { what, why: unset(&path), path });
            }
            continue;
        }
        match was.cloned().or_else(|| cleared(name)) {
            Some(was) if same_parameter(name, is, Some(&was)) => {}
            Some(was) => _ = wanted.parameters.insert(name.to_owned(), was),
            None => leaves(name, unset(name)),
        }
    }
}

/// The value that means "not set" to `UpdateService`. Source:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
pub(super) fn cleared(parameter: &str) -> Option<Value> {
    match parameter {
        "loadBalancers"
        | "serviceRegistries"
        | "capacityProviderStrategy"
        | "placementConstraints"
        | "placementStrategy"
        | "volumeConfigurations"
        | "vpcLatticeConfigurations" => Some(Value::Array(Vec::new())),
        "enableExecuteCommand" | "enableECSManagedTags" => Some(false.into()),
        "healthCheckGracePeriodSeconds" => Some(0.into()),
        "propagateTags" => Some("NONE".into()),
        // "If the service never had an AvailabilityZoneRebalancing value set, Amazon ECS treats this as DISABLED."
        "availabilityZoneRebalancing" => Some("DISABLED".into()),
        "serviceConnectConfiguration" => Some(serde_json::json!({"enabled": false})),
        _ => None,
    }
}
