//! A query for the history function as it is on the wire, for its callers and for the function, which reads it.

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// The order of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// From the latest change backwards.
    #[default]
    NewestFirst,
    /// From the first change on.
    OldestFirst,
}

/// The fields of a query (`schema/history-query.schema.json`). What is left out here is left out on the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// The account whose changes are asked for, or that of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The region of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The name of its cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_cluster_name: Option<String>,
    /// The name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_service_name: Option<String>,
    /// The repository of an image, without tag and digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// One change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// The idempotency key that the event of a change had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Only changes that began then or later: a date or a time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only changes that began before; a date includes that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only changes with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Only changes that this requester asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Only changes for whose requester somebody vouches (`verified`), or nobody does (`claimed`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Whether deployments that no change started are included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<bool>,
    /// The most changes in one answer. JSON has one kind of number: `20.0` is the integer 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Number>,
    /// The order, by the time in the change ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The `next_token` of the answer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    /// Check the chain of the service's records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ledger::query::FORMAT;

    #[test]
    fn the_type_has_the_fields_of_the_schema_and_writes_them_as_they_were() {
        let query = json!({
            "account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web",
            "image": "nginx", "change_id": "c", "idempotency_key": "k", "from": "2026-11-22", "to": "2026-11-23",
            "status": "APPLIED", "requested_by": "ann", "identity": "claimed", "external": false, "limit": 20.0,
            "order": "oldest_first", "next_token": "t", "verify": false,
        });
        let read: HistoryQuery = serde_json::from_value(query.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap().to_string(), query.to_string());
        let schema: Value = serde_json::from_str(FORMAT.schema).unwrap();
        let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&query), names(&schema["properties"]));
    }
}
