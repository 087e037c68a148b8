//! What ECS says of a deployment that an event is about.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::ledger::kind::Kind;

/// What ECS says of an event's deployment, as far as it can tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EcsView {
    /// When the service was created.
    pub service_created_at: Option<DateTime<Utc>>,
    /// When the deployment was created.
    pub created_at: Option<DateTime<Utc>>,
    /// ARN of the task definition that it deploys.
    pub task_definition: Option<String>,
    /// ARN of the task definition of the deployment that it replaced, as far as that is known.
    pub predecessor_runs: Option<String>,
    /// The images of the task definition that it deploys, by container.
    pub images: Option<BTreeMap<String, String>>,
    /// ARN of its service deployment.
    pub service_deployment: Option<String>,
    /// Whether deployments of the service have another strategy than `ROLLING`.
    pub other_strategy: bool,
    /// Whether it rolls another one back, as far as that is known: it says so itself, or it has no service deployment of its own.
    pub rolls_back: Option<bool>,
    /// Whether the other deployment that ECS was asked about ([`asked_about`](crate::ledger::deployment_event::asked_about)) was rolled
    /// back, or is being rolled back. An answer about a different one says nothing.
    pub is_rolled_back: Option<bool>,
    /// The progress of that other deployment.
    pub stands: Option<DeploymentProgress>,
    /// Whether ECS could not be asked: its answer may decide later.
    pub is_unasked: bool,
}

impl EcsView {
    /// Whether the deployment runs what the one before it ran. A change that sets another revision deploys something else.
    #[must_use]
    pub fn runs_what_ran_before(&self) -> bool {
        self.task_definition.is_some() && self.task_definition == self.predecessor_runs
    }
}

/// The progress of a deployment, according to its service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentProgress {
    /// It, or its rollback, has not ended.
    UnderWay,
    /// It ended with this outcome.
    Ended(Kind),
}
