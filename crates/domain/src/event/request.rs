//! What is asked for, in types that cannot hold a wrong value.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ecs::deployment::verb::DeploymentVerb;
use crate::ecs::tags::TagChange;
use crate::ids::{ChangeId, ServiceKey};
use crate::image::{ImageReference, ResolvedImage, ResolvedImages};
use crate::session_policy::SessionPurpose;

/// Which images the event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageChange {
    /// None: the images stay.
    None,
    /// `ecs_image_name` without `container_name`: the container is found by the service's task definition.
    Auto(ImageReference),
    /// Container to image: `images`, or `ecs_image_name` with `container_name`.
    Containers(BTreeMap<String, ImageReference>),
}

/// What is asked of the registries before anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageCheck {
    /// Nothing.
    None,
    /// Whether they have the images.
    Check,
    /// The digests that they have for the images now, to pin them.
    Pin,
}

impl ImageChange {
    /// The images, each once.
    #[must_use]
    pub fn references(&self) -> BTreeSet<&ImageReference> {
        match self {
            Self::None => BTreeSet::new(),
            Self::Auto(image) => BTreeSet::from([image]),
            Self::Containers(images) => images.values().collect(),
        }
    }
}

/// How much a restore puts back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestoreMode {
    /// What the change set, and nothing else.
    #[default]
    Undo,
    /// The whole state from before the change, but for the desired count.
    Exact,
}

/// Which change is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestorePoint {
    /// The last change that changed something.
    Previous,
    /// This change.
    Change(ChangeId),
}

/// What is asked of the deployment of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentAction {
    /// What is to be done to it.
    pub verb: DeploymentVerb,
    /// The change whose deployment it is.
    pub of: ChangeId,
}

/// One requested update of one service, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateRequest {
    /// Which service, with account and region filled in.
    pub service_key: ServiceKey,
    /// The images to set.
    pub image: ImageChange,
    /// The tags to set; `None` leaves them alone.
    pub tags: Option<TagChange>,
    /// The parameters of `service` exactly as given, without those that are null at the top level (which are left alone).
    pub parameters: Map<String, Value>,
    /// The parameters that `service` gives as null: a restore leaves them as they are.
    pub left_alone: BTreeSet<String>,
    /// Start a new deployment even where nothing differs.
    pub force_new_deployment: bool,
    /// Which change to undo.
    pub restore: Option<RestorePoint>,
    /// How much of it is put back.
    pub restore_mode: RestoreMode,
    /// What to do to the deployment of a change; then nothing else is asked for.
    pub action: Option<DeploymentAction>,
    /// What is asked of the images' registries.
    pub lookup: ImageCheck,
    /// What the images were pinned to.
    pub pins: ResolvedImages,
    /// The platforms (`os/architecture`) that an image for several platforms contains, by the image.
    pub platforms: BTreeMap<String, Vec<String>>,
    /// `family:revision` that the service must be running.
    pub expected_task_definition: Option<String>,
    /// Answer with the plan only.
    pub dry_run: bool,
    /// How long to follow the deployment before answering, in seconds.
    pub wait_seconds: u16,
    /// The caller's key; without one the Lambda request id takes its place.
    pub idempotency_key: Option<String>,
    /// Who asks.
    pub requested_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When the event was first sent, where it says so.
    pub sent_at: Option<DateTime<Utc>>,
    /// The tag under which the event's images were pushed; such an event does not undo a restore.
    pub pushed_tag: Option<String>,
    /// What the event asks for: lowercase hexadecimal SHA-256 of its RFC 8785 JSON, with account, region and the schema's defaults filled
    /// in and without the idempotency key, `sent_at` and how long to wait. So a key that is used again with another event is noticed.
    pub event_hash: String,
}

impl UpdateRequest {
    /// What its session is for.
    #[must_use]
    pub fn purpose(&self) -> SessionPurpose {
        if self.action.is_some() { SessionPurpose::Deployments } else { SessionPurpose::Change }
    }

    /// Stores what was found of the images, and pins them if the event asks for it. An image that names a digest is pinned already.
    pub fn found(&mut self, found: &HashMap<ImageReference, ResolvedImage>) {
        let images: Vec<&mut ImageReference> = match &mut self.image {
            ImageChange::None => Vec::new(),
            ImageChange::Auto(image) => vec![image],
            ImageChange::Containers(images) => images.values_mut().collect(),
        };
        for image in images {
            let Some(found) = found.get(image) else { continue };
            if self.lookup == ImageCheck::Pin && image.digest().is_none() {
                self.pins.0.insert(image.to_string(), found.pinned.to_string());
                image.clone_from(&found.pinned);
            }
            if !found.platforms.is_empty() {
                self.platforms.insert(image.to_string(), found.platforms.clone());
            }
        }
    }
}
