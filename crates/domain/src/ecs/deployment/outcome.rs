//! How a deployment ended.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ecs::deployment::pause::Pause;
use crate::ecs::deployment::service_deployment::{ServiceDeployment, told};
use crate::ledger::kind::Kind;

/// The reason for the end of a deployment whose service no longer exists.
pub const DELETED: &str = "the service was deleted";

/// What an outcome says beyond its kind. Members without a value are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeDetail {
    /// The reason in the words of ECS, without anything that may be a value ([`reason`](crate::ecs::reason)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a rollback went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<RollbackTarget>,
    /// The deployment that took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Superseder>,
    /// Whether the service wants no tasks, so that its deployment completed without one having run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_tasks_wanted: bool,
    /// ARN of the service deployment that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_deployment: Option<String>,
    /// When it happened, according to the event that reported it or to ECS (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at: Option<String>,
    /// How many more deployments of its account on that day were not started by a change and have no record of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u32>,
    /// The pause hook that the deployment has reached, in the records of a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// What a rollback went back to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackTarget {
    /// ARN of the service revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_revision: Option<String>,
    /// ARN of the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// Id of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
}

/// The deployment that took over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseder {
    /// Its id.
    pub deployment_id: String,
    /// The change that started it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// ARN of the task definition it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `COMPLETED`, `DEPLOYMENT_FAILED`, `ROLLED_BACK`, `ROLLBACK_FAILED`, `STOPPED` or `SUPERSEDED`.
    pub kind: Kind,
    /// What else is known.
    pub detail: OutcomeDetail,
}

impl Outcome {
    /// The same outcome, given the deployment that is known to have taken over: a deployment that was stopped was superseded by it.
    #[must_use]
    pub fn superseded(self, by: &Superseder) -> Self {
        if self.kind != Kind::Stopped || self.detail.reason.as_deref() == Some(DELETED) {
            return self;
        }
        Self {
            kind: Kind::Superseded,
            detail: OutcomeDetail { superseded_by: Some(by.clone()), happened_at: None, ..self.detail },
        }
    }

    /// The same outcome, with `tell` applied to the reason that ECS gives. Names of alarms stay.
    #[must_use]
    pub fn told(self, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> Self {
        let reason = self.detail.reason.map(|reason| told(&reason, known, tell));
        Self { detail: OutcomeDetail { reason, ..self.detail }, ..self }
    }

    /// When it happened, where that is known.
    #[must_use]
    pub fn happened_at(&self) -> Option<DateTime<Utc>> {
        let at = DateTime::parse_from_rfc3339(self.detail.happened_at.as_deref()?).ok();
        at.map(|at| at.with_timezone(&Utc))
    }
}

/// The state of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentStatus {
    /// It has not ended; the text says for people what it is doing.
    Open(String),
    /// It has not ended, and waits at these pause hooks for somebody to continue it; there is at least one.
    AwaitingAction(Vec<Pause>),
    /// It has ended, and nothing more will come.
    Ended(Box<Outcome>),
}
