//! What differs between what is and what is wanted.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
}

/// One difference: for people, for answers, and for the record of what a change set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is about.
    pub what: DifferenceKind,
    /// Which: container, tag key or parameter.
    pub path: String,
    /// What it is now; null where it is not there.
    pub from: Value,
    /// What it would be; null where it goes.
    pub to: Value,
}
