//! What the ledger says when an event about a deployment comes, and what is to be done about the event.

use crate::ecs::deployment::outcome::{Outcome, OutcomeDetail};
use crate::ecs::deployment::view::EcsView;
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::head::Head;
use crate::ledger::started::NewestRecords;

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventDecision {
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Nothing ever: it names another service than the deployment has.
    Refused(String),
    /// It has to come again: what it depends on is not written or not visible yet, and will be soon.
    Retry(String),
    /// What ECS says of the deployment decides: ask, and hear again.
    Ask,
    /// A deployment ended so.
    Ended {
        /// Which one.
        deployment_id: String,
        /// How.
        ending: Outcome,
        /// Whether nothing more is to come.
        is_final: bool,
    },
    /// The event's deployment is the rollback of another one, or of one that is not known: note it.
    IsRollback {
        /// The other one.
        undone: Option<Box<DeploymentItem>>,
    },
    /// A change began, did not say what it started, and started this deployment: note it.
    OrphanedChange(Box<DeploymentItem>),
    /// No change started it.
    External(OutcomeDetail),
}

/// What the ledger says. `open` and `written` are read only where the event needs them ([`needs_ledger`](crate::ledger::deployment_event::needs_ledger)).
#[derive(Debug, Clone, Copy)]
pub struct EventContext<'a> {
    /// The service's head.
    pub head: Option<&'a Head>,
    /// What is known of the event's deployment.
    pub item: Option<&'a DeploymentItem>,
    /// The open deployments of its service.
    pub open: &'a [DeploymentItem],
    /// What the newest records of the service say.
    pub written: &'a NewestRecords,
    /// What ECS says, once it was asked.
    pub says: Option<&'a EcsView>,
}
