//! How a deployment ended.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ecs::deployment::pause::Pause;
use crate::ecs::deployment::service_deployment::{ServiceDeployment, told};
use crate::ledger::kind::Kind;
use crate::text::shortened;

/// How much of an event of a service is told, in characters.
pub const LONGEST_EVENT: usize = 300;

/// The reason for the end of a deployment whose service no longer exists.
pub const DELETED: &str = "the service was deleted";

/// What an outcome says beyond its kind. Members without a value are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeDetail {
    /// The reason in the words of ECS, without anything that may be a value ([`reason`](crate::ecs::reason)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of a deployment that did not last: how many of its tasks failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_tasks: Option<u64>,
    /// Of a deployment that did not last: the newest events of its service since it began, treated like `reason`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
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
    /// Of a completed deployment: the digest of the image that ran, by container, as far as ECS tells it ([`running_images`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub running_images: BTreeMap<String, String>,
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

    /// The same outcome, with `tell` applied to what ECS says: the reason that it gives, and events. Names of alarms stay.
    #[must_use]
    pub fn told(self, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> Self {
        let reason = self.detail.reason.map(|reason| told(&reason, known, &tell));
        let events = self.detail.events.iter().map(|event| shortened(&tell(event), LONGEST_EVENT)).collect();
        Self { detail: OutcomeDetail { reason, events, ..self.detail }, ..self }
    }

    /// When it happened, where that is known.
    #[must_use]
    pub fn happened_at(&self) -> Option<DateTime<Utc>> {
        let at = DateTime::parse_from_rfc3339(self.detail.happened_at.as_deref()?).ok();
        at.map(|at| at.with_timezone(&Utc))
    }
}

/// The digest of each container's image, as a service revision has it: "Amazon ECS resolves container image names and any image tags
/// specified in the task definition to container image digests", and starts all tasks with these
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerImage.html>). A container for which ECS resolves none is left
/// out: its image is looked up anew for each task.
#[must_use]
pub fn running_images(revision: &Map<String, Value>) -> BTreeMap<String, String> {
    let images = revision.get("containerImages").and_then(Value::as_array).into_iter().flatten();
    let digest = |image: &Value| {
        let text = |name: &str| image.get(name).and_then(Value::as_str);
        let digest = text("imageDigest").filter(|digest| digest.starts_with("sha256:"))?;
        Some((text("containerName")?.to_owned(), digest.to_owned()))
    };
    images.filter_map(digest).collect()
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
