//! What a restore needs to know, and what its two modes share.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ecs::service::{RecordedState, Service};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::error::{Code, Failure};
use crate::event::request::{RestoreMode, UpdateRequest};
use crate::ids::{ChangeId, ServiceKey};
use crate::ledger::hidden::{HiddenKey, is_hidden, revealed};
use crate::ledger::past::PastChange;
use crate::plan::deployment_configuration::MERGED;
use crate::plan::difference::{Difference, DifferenceKind};

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

    /// The value of a parameter, or of a member of it, before it was hidden: as the service still has it, or as AWS still has it in the
    /// service revision from before the change.
    pub(super) fn known(&self, service: &ServiceKey, path: &str, was: &Value, is: Option<&Value>) -> Option<Value> {
        let key = self.hidden.as_ref();
        let by_service = revealed(key, service, path, was, is.unwrap_or(&Value::Null));
        by_service.or_else(|| {
            let mut of = self.service_revision.as_ref()?.get(path.split('.').next()?)?;
            for part in path.split('.').skip(1) {
                of = of.get(part)?;
            }
            revealed(key, service, path, was, of)
        })
    }

    /// `family:revision` from before the change.
    pub(super) fn before_revision(&self) -> &str {
        self.before.state.task_definition_arn.as_deref().map_or("its task definition", family_and_revision)
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
    /// Who set it; `None` if nobody else did.
    by: Option<String>,
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
        Self { what, path: path.to_owned(), now, by: Some(by) }
    }

    /// For what nobody else set, and whose value from before neither the records nor AWS have.
    pub(super) fn unknown(what: DifferenceKind, path: &str, why: String) -> Self {
        Self { what, path: path.to_owned(), now: why, by: None }
    }

    fn told(&self) -> String {
        let Self { path, now, by, .. } = self;
        let what = match self.what {
            DifferenceKind::Image => "image ",
            DifferenceKind::Tag => "tag ",
            DifferenceKind::Parameter => "parameter ",
            _ => "",
        };
        let by = by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        format!("{what}{}: {now}{by}", crate::text::one_line(path))
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

pub(super) fn unset(what: &str) -> String {
    format!("{what} was not set before, and UpdateService cannot unset it: it stays")
}

pub(super) fn left_by_controller(controller: &str) -> String {
    format!("UpdateService does not take it under the deployment controller {controller}")
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

/// What a note says of a deregistered revision.
pub(super) fn copied(old: &TaskDefinition) -> String {
    let name = old.family_and_revision();
    let document = old.document();
    let roles = ["taskRoleArn", "executionRoleArn"].iter().filter_map(|role| document.get(role)?.as_str());
    let roles: Vec<&str> = roles.collect();
    let roles = if roles.is_empty() {
        String::new()
    } else {
        format!(". AWS asks again whether the target role may pass {}", roles.join(" and "))
    };
    format!("{name} was deregistered since: its copy is registered as a new revision{roles}")
}

/// Whether a difference is about this member.
pub(super) fn is_about(change: &Difference, what: DifferenceKind, path: &str) -> bool {
    if change.what != what {
        return false;
    }
    match path.split_once('.') {
        Some((MERGED, member)) if what == DifferenceKind::Parameter => {
            let has = |value: &Value| value.get(member).is_some();
            change.path == MERGED && (has(&change.to) || change.to.is_null())
        }
        _ => change.path == path,
    }
}
