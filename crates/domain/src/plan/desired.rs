//! What an event's own fields ask of a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ecs::service::Snapshot;
use crate::ecs::tags::{self, MAX_TAGS, TagDifference};
use crate::ecs::task_definition::TaskDefinition;
use crate::error::{Code, Failure, Fault};
use crate::event::request::{ImageChange, UpdateRequest};
use crate::plan::controller::check_deployment_controller;
use crate::plan::difference::NotRestored;
use crate::plan::images::{check_platforms, differing_images, moved_tags, registration, targets};
use crate::plan::parameters::differing_parameters;
use crate::plan::update::Registration;

/// What is wanted, from an event's fields or from a restored state.
#[derive(Default)]
pub(super) struct Desired {
    pub(super) targets: BTreeMap<String, String>,
    pub(super) images: BTreeMap<String, (String, String)>,
    pub(super) register: Option<Registration>,
    pub(super) revision: Option<Arc<TaskDefinition>>,
    pub(super) parameters: Map<String, Value>,
    pub(super) tags: TagDifference,
    pub(super) notes: Vec<String>,
    pub(super) not_restored: Vec<NotRestored>,
}

impl Desired {
    /// Whether nothing differs.
    pub(super) fn is_nothing(&self) -> bool {
        self.register.is_none() && self.revision.is_none() && self.tags.is_empty() && self.parameters.is_empty()
    }
}

pub(super) fn requested(request: &UpdateRequest, snapshot: &Snapshot) -> Result<Desired, Failure> {
    let definition = snapshot.task_definition.as_deref();
    let has_image = !matches!(request.image, ImageChange::None);
    check_deployment_controller(request, snapshot, has_image, &request.parameters)?;
    let targets = targets(request, definition)?;
    let images = differing_images(&targets, definition);
    check_platforms(request, &images, definition)?;
    let register = match definition {
        Some(definition) if !images.is_empty() => Some(registration(definition, &images)?),
        _ => None,
    };
    let (parameters, mut notes) = differing_parameters(&request.parameters, snapshot);
    if images.is_empty() && !request.force_new_deployment {
        notes.extend(moved_tags(&targets));
    }
    let tags = request.tags.as_ref().map(|change| tags::difference(&snapshot.service.tags, change));
    Ok(Desired {
        targets,
        images,
        register,
        parameters,
        notes,
        tags: checked(tags.unwrap_or_default(), request, "Merge fewer tags, or use tag_mode replace")?,
        ..Desired::default()
    })
}

pub(super) fn checked(
    difference: TagDifference,
    request: &UpdateRequest,
    instead: &str,
) -> Result<TagDifference, Failure> {
    if difference.result.len() > MAX_TAGS {
        return Err(Failure::new(
            Code::TagUpdateFailed,
            format!(
                "of service {}: with those it has there would be {}, and ECS allows {MAX_TAGS}. Nothing was changed. \
                 {instead}",
                request.service_key,
                difference.result.len()
            ),
        )
        .by(Fault::Caller));
    }
    Ok(difference)
}
