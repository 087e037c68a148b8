//! An update event as it is on the wire, for whoever sends one and for the updater, which reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::ecs::tags::TagMode;
use crate::event::request::RestoreMode;

/// The fields of an update event (`schema/update-event.schema.json`), all or some of them: an entry of many updates and a target of a
/// rollout omit the fields that are given for them elsewhere. A field that is omitted here is omitted on the wire.
///
/// ```
/// use domain::event::update_event::UpdateEvent;
///
/// let event = UpdateEvent { restore: Some("previous".to_owned()), dry_run: Some(true), ..UpdateEvent::default() };
/// assert_eq!(serde_json::to_string(&event)?, r#"{"restore":"previous","dry_run":true}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateEvent {
    /// The account the service lives in; if omitted, that of the updater.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The region the service lives in; if omitted, that of the updater.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_cluster_name: Option<String>,
    /// The name of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_service_name: Option<String>,
    /// The image that the service shall run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_image_name: Option<String>,
    /// The container that gets `ecs_image_name`; if omitted, the one that has an image of its repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Images of several containers: container to image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<BTreeMap<String, String>>,
    /// Tags of the service; if omitted, they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_tag: Option<BTreeMap<String, String>>,
    /// What becomes of tags that `ecs_tag` does not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_mode: Option<TagMode>,
    /// Further parameters of `UpdateService`, by the names of the ECS API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Map<String, Value>>,
    /// Start a new deployment even where nothing differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_new_deployment: Option<bool>,
    /// Undo this change, or the last one (`previous`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
    /// How much a restore puts back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_mode: Option<RestoreMode>,
    /// Continue the deployment of this change where it waits at a pause hook.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub continue_change: Option<String>,
    /// Stop the deployment of this change, and roll it back.
    #[serde(rename = "stop", skip_serializing_if = "Option::is_none")]
    pub stop_change: Option<String>,
    /// Pin the images to the digests that their registries have for them now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve_digest: Option<bool>,
    /// Make sure first that the registries have the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_image: Option<bool>,
    /// `family:revision` that the service must be running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_task_definition: Option<String>,
    /// Answer with the plan only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// How long to follow the deployment before answering, in seconds. JSON has one kind of number: `20.0` is the integer 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<Number>,
    /// An event with the same key receives the first answer again; if omitted, the Lambda request id is the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the event was first sent (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// The tag under which the event's images were pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_tag: Option<String>,
}

/// An event with many updates.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BatchEvent {
    /// What applies to every entry that does not set its own.
    #[serde(flatten)]
    pub shared: UpdateEvent,
    /// Answer with codes and ids only.
    pub summary_only: bool,
    /// The entries, of one service each.
    pub updates: Vec<UpdateEvent>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::update_format::FORMAT;

    /// An event that has each of these fields, even if the schema does not allow them together.
    fn every_field() -> Value {
        json!({
            "account_id": "222222222222", "region": "eu-west-1", "ecs_cluster_name": "prod", "ecs_service_name": "web",
            "ecs_image_name": "nginx:1", "container_name": "web", "images": {"web": "nginx:1"}, "ecs_tag": {"k": "v"},
            "tag_mode": "merge", "service": {"desiredCount": null}, "force_new_deployment": false, "restore": "previous", "restore_mode": "exact",
            "continue": "c", "stop": "c", "resolve_digest": true, "check_image": false, "expected_task_definition": "web:7", "dry_run": false,
            "wait_seconds": 20.0, "idempotency_key": "k", "requested_by": "ann", "reason": "release",
            "sent_at": "2026-11-22T09:30:00Z", "pushed_tag": "1",
        })
    }

    #[test]
    fn an_event_that_was_read_is_written_as_it_was() {
        for event in [every_field(), json!({}), json!({"wait_seconds": 20, "service": {}, "ecs_tag": {}})] {
            let read: UpdateEvent = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap().to_string(), event.to_string());
        }
        assert!(serde_json::from_value::<UpdateEvent>(json!({"image": "nginx"})).is_err());
    }

    #[test]
    fn the_type_has_the_fields_of_the_schema() {
        let schema: Value = serde_json::from_str(FORMAT.schema).unwrap();
        let mut fields = every_field();
        for of_many in ["updates", "summary_only"] {
            fields[of_many] = Value::Null;
        }
        let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&fields), names(&schema["properties"]));
    }

    #[test]
    fn shared_fields_stand_beside_the_entries() {
        let name = |name: &str| UpdateEvent { ecs_service_name: Some(name.to_owned()), ..UpdateEvent::default() };
        let shared = UpdateEvent { ecs_cluster_name: Some("prod".to_owned()), ..UpdateEvent::default() };
        let event = BatchEvent { shared, summary_only: true, updates: vec![name("a"), name("b")] };
        assert_eq!(
            serde_json::to_value(event).unwrap(),
            json!({"ecs_cluster_name": "prod", "summary_only": true,
                   "updates": [{"ecs_service_name": "a"}, {"ecs_service_name": "b"}]})
        );
    }
}
