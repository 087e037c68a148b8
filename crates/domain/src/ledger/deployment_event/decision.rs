//! What the ledger says when an event about a deployment arrives, and what to do about the event.

use crate::ecs::deployment::outcome::{Outcome, OutcomeDetail};
use crate::ecs::deployment::view::EcsView;
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::head::Head;
use crate::ledger::started::NewestRecords;

/// What to do about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventDecision {
    /// Do nothing, for this reason.
    Nothing(&'static str),
    /// Refuse the event for good: it names another service than that of the deployment.
    Refused(String),
    /// The event has to be delivered again: what it depends on is not written or not visible yet, and will be soon.
    Retry(String),
    /// What ECS says about the deployment is decisive: ask ECS, then decide again.
    Ask,
    /// A deployment ended.
    Ended {
        /// The id of the deployment.
        deployment_id: String,
        /// How it ended.
        ending: Outcome,
        /// Whether no further outcome is to be expected.
        is_final: bool,
    },
    /// The event's deployment is the rollback of another one, which may not be known: note that.
    IsRollback {
        /// The deployment that it undoes, if that is known.
        undone: Option<Box<DeploymentItem>>,
    },
    /// A change began, did not record what it started, and started this deployment: note that.
    OrphanedChange(Box<DeploymentItem>),
    /// No change started the deployment.
    External(OutcomeDetail),
}

/// What the ledger says. `open` and `written` are read only if the event needs them
/// ([`needs_ledger`](crate::ledger::deployment_event::needs_ledger)).
#[derive(Debug, Clone, Copy)]
pub struct EventContext<'a> {
    /// The service's head.
    pub head: Option<&'a Head>,
    /// What is known about the event's deployment.
    pub item: Option<&'a DeploymentItem>,
    /// The open deployments of its service.
    pub open: &'a [DeploymentItem],
    /// What the newest records of the service say about deployments.
    pub written: &'a NewestRecords,
    /// What ECS says, once it has been asked.
    pub says: Option<&'a EcsView>,
}
