//! What differs between what is and what is wanted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ecs::service::{RecordedState, is_known};
use crate::ledger::hidden::{as_words, in_words};

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// The image of a container.
    Image,
    /// The registered revision that runs.
    Revision,
    /// A member of the task definition that comes with another revision.
    Definition,
    /// A tag of the service.
    Tag,
    /// A parameter of `UpdateService`.
    Parameter,
    /// A new deployment where nothing else asks for one.
    Deployment,
    /// A deployment under way, by the ARN of its service deployment.
    Rollout,
    /// A pause hook at which a deployment waits, by its id.
    Hook,
}

/// One difference: for people, for answers, and for the record of what a change set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is about.
    pub what: DifferenceKind,
    /// Which: container, tag key or parameter.
    pub path: String,
    /// What it is now; null if it does not exist.
    pub from: Value,
    /// What it would be; null if it is removed.
    pub to: Value,
}

/// Something that a restore leaves as it is, although the change that it undoes set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRestored {
    /// What it is about.
    pub what: DifferenceKind,
    /// Which: container, tag key or parameter.
    pub path: String,
    /// Why it stays.
    pub why: String,
}

impl Difference {
    /// The same for people: for what may be secret, only whether it changes.
    #[must_use]
    pub fn told(&self) -> Self {
        let (from, to) = match self.what {
            DifferenceKind::Parameter if !is_known(&self.path) => as_words(&self.from, &self.to),
            DifferenceKind::Parameter => in_words(&self.from, &self.to),
            _ => (self.from.clone(), self.to.clone()),
        };
        Self { from, to, ..self.clone() }
    }

    /// Differences as answers have them.
    #[must_use]
    pub fn all_told(changes: &[Self]) -> Vec<Value> {
        changes.iter().map(Self::told).filter_map(|change| serde_json::to_value(change).ok()).collect()
    }
}

/// Repositories of the images that change, each once; if none changes, that of the container the change is about.
#[must_use]
pub fn repositories(changes: &[Difference], before: &RecordedState) -> Vec<String> {
    let mut repositories: Vec<String> = Vec::new();
    let images =
        changes.iter().filter(|change| change.what == DifferenceKind::Image).filter_map(|change| change.to.as_str());
    for repository in images.map(crate::image::repository_of) {
        if !repository.is_empty() && !repositories.iter().any(|known| known == repository) {
            repositories.push(repository.to_owned());
        }
    }
    if repositories.is_empty()
        && let Some(image) = before.state.service_image.as_deref().filter(|image| !image.is_empty())
    {
        repositories.push(crate::image::repository_of(image).to_owned());
    }
    repositories
}
