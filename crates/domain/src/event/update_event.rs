//! An update event as it is on the wire.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::ecs::tags::TagMode;

/// The fields of the schema.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are the event's own")]
pub(super) struct Entry {
    pub(super) account_id: Option<String>,
    pub(super) region: Option<String>,
    pub(super) ecs_cluster_name: String,
    pub(super) ecs_service_name: String,
    pub(super) ecs_image_name: Option<String>,
    pub(super) container_name: Option<String>,
    pub(super) images: Option<BTreeMap<String, String>>,
    pub(super) ecs_tag: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) tag_mode: TagMode,
    #[serde(default)]
    pub(super) service: Map<String, Value>,
    #[serde(default)]
    pub(super) force_new_deployment: bool,
    pub(super) restore: Option<String>,
    #[serde(default)]
    pub(super) resolve_digest: bool,
    #[serde(default)]
    pub(super) check_image: bool,
    pub(super) expected_task_definition: Option<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
    /// JSON has one kind of number: `20.0` is the integer 20.
    #[serde(default)]
    pub(super) wait_seconds: f64,
    pub(super) idempotency_key: Option<String>,
    pub(super) requested_by: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) sent_at: Option<String>,
    pub(super) pushed_tag: Option<String>,
}
