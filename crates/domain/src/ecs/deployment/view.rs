//! What ECS says of a deployment that an event is about.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::ledger::kind::Kind;

/// What ECS says of an event's deployment, as far as it can tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EcsView {
    /// When the service was made.
    pub service_created_at: Option<DateTime<Utc>>,
    /// When the deployment was created.
    pub created_at: Option<DateTime<Utc>>,
    /// ARN of the task definition that it deploys.
    pub task_definition: Option<String>,
    /// ARN of the task definition of the deployment that it replaced, as far as that is known.
    pub predecessor_runs: Option<String>,
    /// The images of the one that it deploys, by container.
    pub images: Option<BTreeMap<String, String>>,
    /// ARN of its service deployment.
    pub service_deployment: Option<String>,
    /// Whether deployments of the service are of another strategy than `ROLLING`.
    pub other_strategy: bool,
    /// Whether the deployment says of itself that it takes another one back.
    pub rolls_back: bool,
    /// Whether the deployment that ECS was asked about besides ([`asked_about`](crate::ledger::deployment_event::asked_about)) was, or is being rolled back. What was asked of another one
    /// says nothing.
    pub is_rolled_back: Option<bool>,
    /// Where that one stands.
    pub stands: Option<DeploymentProgress>,
    /// Whether ECS could not be asked: what it would say may decide later.
    pub is_unasked: bool,
}

impl EcsView {
    /// Whether the deployment runs what the one before it ran. Whoever sets another revision deploys something else.
    #[must_use]
    pub fn runs_what_ran_before(&self) -> bool {
        self.task_definition.is_some() && self.task_definition == self.predecessor_runs
    }
}

/// Where a deployment stands, by its service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentProgress {
    /// It, or its rollback, has not ended.
    UnderWay,
    /// It ended so.
    Ended(Kind),
}
