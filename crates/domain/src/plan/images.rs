//! Which container gets which image, and the new revision that follows from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::ecs::task_definition::TaskDefinition;
use crate::error::{Code, Failure, Fault};
use crate::event::request::{ImageChange, UpdateRequest};
use crate::plan::update::Registration;

/// Which container gets which image.
pub(super) fn targets(
    request: &UpdateRequest,
    definition: Option<&TaskDefinition>,
) -> Result<BTreeMap<String, String>, Failure> {
    let without_definition = || {
        Failure::new(
            Code::TaskDefinitionRejected,
            format!("for service {}: it runs no task definition of its own. Nothing was changed", request.service_key),
        )
        .by(Fault::Caller)
    };
    match &request.image {
        ImageChange::None => Ok(BTreeMap::new()),
        ImageChange::Containers(images) => {
            let definition = definition.ok_or_else(without_definition)?;
            let unknown: Vec<&str> = images
                .keys()
                .map(String::as_str)
                .filter(|name| !definition.containers.iter().any(|container| container.name == *name))
                .collect();
            if unknown.is_empty() {
                return Ok(images.iter().map(|(name, image)| (name.clone(), image.as_str().to_owned())).collect());
            }
            Err(Failure::new(
                Code::ContainerNotFound,
                format!(
                    "from {}: it has no container {}; its containers are {}. Nothing was changed",
                    definition.family_and_revision(),
                    unknown.join(", "),
                    listed(definition)
                ),
            ))
        }
        ImageChange::Auto(image) => {
            let definition = definition.ok_or_else(without_definition)?;
            let same_repository: Vec<&str> = match definition.containers.as_slice() {
                [only] => vec![only.name.as_str()],
                several => several
                    .iter()
                    .filter(|container| crate::image::repository_of(&container.image) == image.repository())
                    .map(|container| container.name.as_str())
                    .collect(),
            };
            if let [name] = same_repository.as_slice() {
                return Ok(BTreeMap::from([((*name).to_owned(), image.as_str().to_owned())]));
            }
            Err(Failure::new(
                Code::AmbiguousContainer,
                format!(
                    "from {}: which container gets {image}? {} of its {} containers have an image of {}: {}. \
                     Nothing was changed. Name one with container_name, or several with images",
                    definition.family_and_revision(),
                    same_repository.len(),
                    definition.containers.len(),
                    image.repository(),
                    listed(definition)
                ),
            ))
        }
    }
}

fn listed(definition: &TaskDefinition) -> String {
    let listed: Vec<String> =
        definition.containers.iter().map(|container| format!("{} ({})", container.name, container.image)).collect();
    listed.join(", ")
}

pub(super) fn differing_images(
    targets: &BTreeMap<String, String>,
    definition: Option<&TaskDefinition>,
) -> BTreeMap<String, (String, String)> {
    let now = definition.map(TaskDefinition::images).unwrap_or_default();
    targets
        .iter()
        .filter_map(|(name, to)| {
            let from = now.get(name).cloned().unwrap_or_default();
            (from != *to).then(|| (name.clone(), (from, to.clone())))
        })
        .collect()
}

/// What to say where the service has the images that are wanted: under their tags there may be other bytes by now, and ECS starts no
/// deployment for them. "You can use this option to start a new deployment with no service definition changes. For example, you can update a
/// service's tasks to use a newer Docker image with the same image/tag combination": `forceNewDeployment` in
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
pub(super) fn moved_tags(targets: &BTreeMap<String, String>) -> Option<String> {
    let by_tag: BTreeSet<&str> = targets.values().map(String::as_str).filter(|image| !image.contains('@')).collect();
    let images = by_tag.into_iter().collect::<Vec<_>>().join(", ");
    (!images.is_empty()).then(|| {
        format!(
            "the service has {images} already, and no deployment starts for it, even where the tag has moved: to deploy what the tag has now, send \
             resolve_digest, or force_new_deployment"
        )
    })
}

/// How many of an image's platforms a message lists.
const TOLD_PLATFORMS: usize = 20;

/// Checks that the images that were found include the platform that the tasks run on.
pub(super) fn check_platforms(
    request: &UpdateRequest,
    images: &BTreeMap<String, (String, String)>,
    definition: Option<&TaskDefinition>,
) -> Result<(), Failure> {
    let Some((definition, platform)) = definition.and_then(|definition| Some((definition, definition.platform()?)))
    else {
        return Ok(());
    };
    let lacks = images.values().find_map(|(_, image)| {
        let platforms = request.platforms.get(image).filter(|platforms| !platforms.contains(&platform))?;
        Some((image, platforms))
    });
    let Some((image, platforms)) = lacks else { return Ok(()) };
    // An index may name tens of thousands of platforms.
    let told = platforms.iter().take(TOLD_PLATFORMS).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = platforms.len().saturating_sub(TOLD_PLATFORMS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Failure::new(
        Code::ImageNotFound,
        format!(
            "from {}: it runs on {platform}, and {image} has images for {told}{more} only. Nothing was changed",
            definition.family_and_revision(),
        ),
    ))
}

pub(super) fn registration(
    base: &TaskDefinition,
    images: &BTreeMap<String, (String, String)>,
) -> Result<Registration, Failure> {
    let images = images.iter().map(|(name, (_, to))| (name.clone(), to.clone())).collect();
    let document = base.with_images(&images).map_err(|error| {
        Failure::new(
            Code::TaskDefinitionRejected,
            format!("from {}: its containers cannot be read: {error}", base.family_and_revision()),
        )
    })?;
    Ok(Registration { family: base.family.clone(), document })
}
