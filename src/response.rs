//! What the caller gets.

use serde::{Deserialize, Serialize};

use crate::names::{ChangeId, ServiceKey};
use crate::snapshot::State;

/// The answer to one update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// 200: what did not go well is a function error.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// What happened.
    pub body: Body,
}

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// A dry run.
    Planned,
    /// AWS took the change.
    Applied,
    /// Nothing differed.
    Unchanged,
}

/// What happened to one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Id of the change; none for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Target account.
    pub account_id: String,
    /// Target region.
    pub region: String,
    /// Cluster name.
    pub ecs_cluster_name: String,
    /// Service name.
    pub ecs_service_name: String,
    /// The deployment that the change started; null where it started none.
    pub deployment_id: Option<String>,
    /// When it ended (RFC 3339).
    pub timestamp: String,
    /// Whether this is the answer to an earlier event with the same idempotency key.
    pub replayed: bool,
    /// The change whose before was put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
    /// The differences that a dry run found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<serde_json::Value>>,
    /// What a person should know besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was there before.
    #[serde(rename = "BEFORE")]
    pub before: State,
    /// What is there now, as AWS answered.
    #[serde(rename = "AFTER")]
    pub after: State,
}

impl Response {
    /// An answer about `service`.
    #[must_use]
    pub fn new(
        service: &ServiceKey,
        change_id: Option<&ChangeId>,
        status: Status,
        timestamp: String,
        before: State,
        after: State,
    ) -> Self {
        Self {
            status_code: 200,
            body: Body {
                change_id: change_id.map(ToString::to_string),
                status,
                account_id: service.account_id().to_string(),
                region: service.region().to_string(),
                ecs_cluster_name: service.cluster().to_owned(),
                ecs_service_name: service.service().to_owned(),
                deployment_id: None,
                timestamp,
                replayed: false,
                restores: None,
                changes: None,
                notes: Vec::new(),
                before,
                after,
            },
        }
    }
}
