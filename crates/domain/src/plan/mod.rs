//! Pure: what a request asks of a service as it is now.

pub mod continuation;
pub mod difference;
pub mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ecs::definition_difference::differences;
use crate::ecs::service::{PARAMETERS, RecordedState, Service, ServiceState, Snapshot, TagState};
use crate::ecs::tags::{self, MAX_TAGS, TagChange, TagDifference, TagMode};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::error::{Code, Failure, Fault};
use crate::event::request::{ImageChange, UpdateRequest};
use crate::ids::ChangeId;
use crate::ledger::hidden::{HiddenKey, in_words, revealed};
use crate::plan::difference::{Difference, DifferenceKind};

/// What would be done.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Nothing differs.
    Unchanged {
        /// Containers that the request is about, with the images it names.
        targets: BTreeMap<String, String>,
        /// What a person should know.
        notes: Vec<String>,
    },
    /// Something differs.
    Update(Box<Update>),
    /// The service cannot take this, and nothing was touched.
    Refused(Failure),
}

/// The steps of a change.
#[derive(Debug, Clone)]
pub struct Update {
    /// The container that the change is about: the first whose image changes.
    pub container: Option<String>,
    /// Containers that the request is about, with the images it names.
    pub targets: BTreeMap<String, String>,
    /// Containers whose image changes: from, to.
    pub images: BTreeMap<String, (String, String)>,
    /// The new revision to register, where the definition differs.
    pub register: Option<Registration>,
    /// The old revision to go back to.
    pub revision: Option<Arc<TaskDefinition>>,
    /// Parameters that differ, as given.
    pub parameters: Map<String, Value>,
    /// Start a new deployment even where ECS would start none.
    pub force_new_deployment: bool,
    /// The difference of the service's tags.
    pub tags: TagDifference,
    /// Tags go before `UpdateService`, so that the new tasks carry them.
    pub tags_first: bool,
    /// What the plan says to a person.
    pub changes: Vec<Difference>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// A new revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its family.
    pub family: String,
    /// Body for `RegisterTaskDefinition`.
    pub document: String,
}

/// What a restore puts back.
#[derive(Debug, Clone)]
pub struct RestoreNotes {
    /// The change whose before it is.
    pub change_id: ChangeId,
    /// The state before that change, from its record.
    pub before: RecordedState,
    /// The task definition from before that change, as AWS has it now.
    pub definition: OldDefinition,
    /// The key by which values that may be secret are compared, where the record has any.
    pub hidden: Option<HiddenKey>,
}

/// A task definition that a restore goes back to, as AWS has it now.
#[derive(Debug, Clone)]
pub enum OldDefinition {
    /// The service runs it, or ran none.
    InPlace,
    /// Services can be given it.
    Active(Arc<TaskDefinition>),
    /// It was deregistered: its copy can be registered.
    Inactive(Arc<TaskDefinition>),
    /// AWS no longer has it.
    Gone,
}

impl Update {
    /// Whether `UpdateService` is to be called.
    #[must_use]
    pub fn updates_service(&self) -> bool {
        self.register.is_some() || self.revision.is_some() || self.force_new_deployment || !self.parameters.is_empty()
    }

    /// Makes of what is now what would be. Which revision would run then, nobody knows before.
    pub fn apply_to(&self, state: &mut ServiceState) {
        for (container, (_, to)) in &self.images {
            state.images.insert(container.clone(), to.clone());
            if state.task_definition_name.as_ref() == Some(container) {
                state.service_image = Some(to.clone());
            }
        }
        if self.register.is_some() {
            state.task_definition_arn = None;
        }
        if let Some(revision) = &self.revision {
            state.task_definition_arn = Some(revision.arn.clone());
        }
        state.tags.retain(|tag| !self.tags.remove.contains(&tag.key) && !self.tags.set.contains_key(&tag.key));
        let set = self.tags.set.iter().map(|(key, value)| TagState { key: key.clone(), value: value.clone() });
        state.tags.extend(set);
        state.tags.sort_by(|one, other| one.key.cmp(&other.key));
    }
}

impl Difference {
    /// The same for people: of what may be secret, only whether it changes.
    #[must_use]
    pub fn told(&self) -> Self {
        let (from, to) = match self.what {
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

/// Repositories of the images that change, each once; where none does, that of the container the change is about.
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

/// Decides what `request` asks of the service in `snapshot`; `restore` is what its `restore` found.
#[must_use]
pub fn plan(request: &UpdateRequest, snapshot: &Snapshot, restore: Option<&RestoreNotes>) -> Plan {
    decide(request, snapshot, restore).unwrap_or_else(Plan::Refused)
}

/// What is wanted, from an event's fields or from a restored state.
#[derive(Default)]
struct Desired {
    targets: BTreeMap<String, String>,
    images: BTreeMap<String, (String, String)>,
    register: Option<Registration>,
    revision: Option<Arc<TaskDefinition>>,
    parameters: Map<String, Value>,
    tags: TagDifference,
    notes: Vec<String>,
}

fn decide(request: &UpdateRequest, snapshot: &Snapshot, restore: Option<&RestoreNotes>) -> Result<Plan, Failure> {
    check_expected(request, snapshot.task_definition.as_deref())?;
    let Desired { targets, images, register, revision, parameters, tags, mut notes } = match restore {
        Some(restore) => restored(request, snapshot, restore)?,
        None => requested(request, snapshot)?,
    };
    if register.is_none()
        && revision.is_none()
        && tags.is_empty()
        && parameters.is_empty()
        && !request.force_new_deployment
    {
        return Ok(Plan::Unchanged { targets, notes });
    }
    let mut force_new_deployment = request.force_new_deployment;
    if parameters.contains_key("capacityProviderStrategy") && !force_new_deployment {
        force_new_deployment = true;
        notes.push(
            "ECS takes a new capacityProviderStrategy only with forceNewDeployment: a new deployment starts".to_owned(),
        );
    }
    let tags_first = parameters
        .get("propagateTags")
        .and_then(Value::as_str)
        .map_or_else(|| snapshot.service.propagates_its_tags(), |wanted| wanted == "SERVICE");
    let is_copy = restore.is_some() && register.is_some();
    let to = revision.as_ref().map(|revision| Value::from(revision.arn.as_str()));
    let revised = to.or_else(|| is_copy.then_some(Value::Null));
    let mut changes = changes(&images, revised, &tags, &parameters, force_new_deployment, snapshot);
    if restore.is_some() {
        changes.extend(definition_changes(snapshot, revision.as_deref(), register.as_ref()));
    }
    Ok(Plan::Update(Box::new(Update {
        container: images.keys().next().or_else(|| targets.keys().next()).cloned(),
        targets,
        images,
        register,
        revision,
        parameters,
        force_new_deployment,
        tags,
        tags_first,
        changes,
        notes,
    })))
}

fn requested(request: &UpdateRequest, snapshot: &Snapshot) -> Result<Desired, Failure> {
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
    let tags = request.tags.as_ref().map(|change| tags::difference(&snapshot.service.tags, change));
    Ok(Desired {
        targets,
        images,
        register,
        parameters: differing_parameters(&request.parameters, snapshot),
        tags: checked(tags.unwrap_or_default(), request)?,
        ..Desired::default()
    })
}

/// How many of an image's platforms a message lists.
const TOLD_PLATFORMS: usize = 20;

/// Whether what was found of the images has what the tasks run on.
fn check_platforms(
    request: &UpdateRequest,
    images: &BTreeMap<String, (String, String)>,
    definition: Option<&TaskDefinition>,
) -> Result<(), Failure> {
    let Some((definition, platform)) = definition.and_then(|it| Some((it, it.platform()?))) else { return Ok(()) };
    let lacks = images.values().find_map(|(_, image)| {
        let platforms = request.platforms.get(image).filter(|platforms| !platforms.contains(&platform))?;
        Some((image, platforms))
    });
    let Some((image, platforms)) = lacks else { return Ok(()) };
    // An index may name tens of thousands.
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

fn differing_parameters(parameters: &Map<String, Value>, snapshot: &Snapshot) -> Map<String, Value> {
    let differs = |(name, wanted): &(&String, &Value)| !has_parameter(&snapshot.service, name, wanted);
    parameters.iter().filter(differs).map(|(name, wanted)| (name.clone(), wanted.clone())).collect()
}

fn registration(base: &TaskDefinition, images: &BTreeMap<String, (String, String)>) -> Result<Registration, Failure> {
    let images = images.iter().map(|(name, (_, to))| (name.clone(), to.clone())).collect();
    let document = base.with_images(&images).map_err(|error| {
        Failure::new(
            Code::TaskDefinitionRejected,
            format!("from {}: its containers cannot be read: {error}", base.family_and_revision()),
        )
    })?;
    Ok(Registration { family: base.family.clone(), document })
}

fn restored(request: &UpdateRequest, snapshot: &Snapshot, restore: &RestoreNotes) -> Result<Desired, Failure> {
    let mut wanted = Desired {
        notes: vec![format!("this puts back what was there before change {}", restore.change_id)],
        ..Desired::default()
    };
    restore_definition(&mut wanted, snapshot, restore)?;
    restore_parameters(&mut wanted, request, snapshot, restore);
    let has_definition = wanted.register.is_some() || wanted.revision.is_some();
    check_deployment_controller(request, snapshot, has_definition, &wanted.parameters)?;
    let tags = restore.before.state.tags.iter().filter(|tag| !tags::is_reserved(&tag.key));
    let tags = tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    wanted.tags = tags::difference(&snapshot.service.tags, &TagChange { mode: TagMode::Replace, tags });
    Ok(wanted)
}

/// The old revision where services can be given it, else its copy, else the old images in what runs now.
fn restore_definition(wanted: &mut Desired, snapshot: &Snapshot, restore: &RestoreNotes) -> Result<(), Failure> {
    let current = snapshot.task_definition.as_deref();
    let old = &restore.before.state;
    let name = old.task_definition_arn.as_deref().map_or("its task definition", family_and_revision);
    wanted.targets.clone_from(&old.images);
    match &restore.definition {
        OldDefinition::InPlace => {}
        OldDefinition::Active(definition) => wanted.revision = Some(Arc::clone(definition)),
        OldDefinition::Inactive(definition) => {
            let copy = registration(definition, &BTreeMap::new())?;
            if !current.is_some_and(|current| current.matches_registration(&copy.document)) {
                wanted.notes.push(format!("{name} was deregistered since: its copy is registered as a new revision"));
                wanted.register = Some(copy);
            }
        }
        OldDefinition::Gone => {
            wanted.notes.push(format!(
                "AWS no longer has {name}: the definition that runs now gets the old images, and whatever else differed \
                 between the two stays as it is now"
            ));
            if let Some(current) = current {
                wanted.targets.retain(|name, _| current.containers.iter().any(|it| it.name == *name));
                let images = differing_images(&wanted.targets, Some(current));
                if !images.is_empty() {
                    wanted.register = Some(registration(current, &images)?);
                }
            }
        }
    }
    if wanted.register.is_some() || wanted.revision.is_some() {
        wanted.images = differing_images(&wanted.targets, current);
    }
    Ok(())
}

/// Parameters as they were, to the letter; those that were not set are cleared, where `UpdateService` can.
fn restore_parameters(wanted: &mut Desired, request: &UpdateRequest, snapshot: &Snapshot, restore: &RestoreNotes) {
    // It would fight the autoscaler; and AWS never shows `monitoring`.
    for name in PARAMETERS.into_iter().filter(|name| !["desiredCount", "monitoring"].contains(name)) {
        let is = snapshot.service.parameter(name);
        let was = restore.before.service.get(name).filter(|was| !was.is_null());
        let known = was.map(|was| {
            let is = is.unwrap_or(&Value::Null);
            revealed(restore.hidden.as_ref(), &request.service_key, name, was, is)
        });
        let was = match &known {
            Some(None) => {
                wanted.notes.push(format!(
                    "{name} held values that may be secret, which records do not have, and has others now: it stays as it is. \
                     Set it with `service`"
                ));
                continue;
            }
            Some(was) => was.as_ref(),
            None => None,
        };
        let in_order = name == "placementStrategy";
        let same = |was: Option<&Value>| {
            covers(is, was.unwrap_or_default(), in_order) && covers(was, is.unwrap_or_default(), in_order)
        };
        if same(was) {
            continue;
        }
        match was.cloned().or_else(|| cleared(name)) {
            Some(was) if same(Some(&was)) => {}
            Some(was) => _ = wanted.parameters.insert(name.to_owned(), was),
            None => {
                wanted.notes.push(format!("{name} was not set before, and UpdateService cannot unset it: it stays"));
            }
        }
    }
    wanted.parameters.extend(differing_parameters(&request.parameters, snapshot));
}

/// What `UpdateService` takes for "not set". Source:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
fn cleared(parameter: &str) -> Option<Value> {
    match parameter {
        "loadBalancers"
        | "serviceRegistries"
        | "capacityProviderStrategy"
        | "placementConstraints"
        | "placementStrategy"
        | "volumeConfigurations"
        | "vpcLatticeConfigurations" => Some(Value::Array(Vec::new())),
        "enableExecuteCommand" | "enableECSManagedTags" => Some(false.into()),
        "healthCheckGracePeriodSeconds" => Some(0.into()),
        "propagateTags" => Some("NONE".into()),
        "serviceConnectConfiguration" => Some(serde_json::json!({"enabled": false})),
        _ => None,
    }
}

fn check_expected(request: &UpdateRequest, definition: Option<&TaskDefinition>) -> Result<(), Failure> {
    let Some(expected) = request.expected_task_definition.as_deref() else { return Ok(()) };
    let running = definition.map_or("no task definition", TaskDefinition::family_and_revision);
    if expected == running {
        return Ok(());
    }
    Err(Failure::new(
        Code::TaskDefinitionChanged,
        format!(
            "service {} runs {running}, not expected_task_definition {expected}. Nothing was changed. \
             Look at what changed it, then send the event with what runs now",
            request.service_key
        ),
    ))
}

/// What `UpdateService` takes for services that `CodeDeploy` or something else deploys.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
fn taken_under(controller: &str) -> Option<&'static [&'static str]> {
    match controller {
        "CODE_DEPLOY" => Some(&[
            "deploymentController",
            "desiredCount",
            "deploymentConfiguration",
            "healthCheckGracePeriodSeconds",
            "placementConstraints",
            "placementStrategy",
            "enableECSManagedTags",
            "propagateTags",
        ]),
        "EXTERNAL" => Some(&[
            "deploymentController",
            "desiredCount",
            "healthCheckGracePeriodSeconds",
            "placementConstraints",
            "placementStrategy",
            "enableECSManagedTags",
            "propagateTags",
        ]),
        _ => None,
    }
}

fn check_deployment_controller(
    request: &UpdateRequest,
    snapshot: &Snapshot,
    has_image: bool,
    parameters: &Map<String, Value>,
) -> Result<(), Failure> {
    let controller = snapshot.service.deployment_controller();
    let Some(taken) = taken_under(controller) else { return Ok(()) };
    let moves_to_ecs =
        parameters.get("deploymentController").and_then(|it| it.get("type")).and_then(Value::as_str) == Some("ECS");
    if moves_to_ecs {
        return Ok(());
    }
    let mut refused: Vec<&str> = Vec::new();
    if has_image {
        refused.push("an image");
    }
    if request.force_new_deployment {
        refused.push("force_new_deployment");
    }
    refused.extend(parameters.keys().map(String::as_str).filter(|name| !taken.contains(name)));
    if refused.is_empty() {
        return Ok(());
    }
    let instead = if controller == "CODE_DEPLOY" { "a CodeDeploy deployment" } else { "a new task set" };
    Err(Failure::new(
        Code::UnsupportedDeploymentController,
        format!(
            "service {} has the deployment controller {controller}, for which UpdateService does not take {}. \
             Nothing was changed. Use {instead} for that; what this door can change there: tags, {}",
            request.service_key,
            refused.join(", "),
            taken.join(", ")
        ),
    ))
}

/// Which container gets which image.
fn targets(request: &UpdateRequest, definition: Option<&TaskDefinition>) -> Result<BTreeMap<String, String>, Failure> {
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
                .filter(|name| !definition.containers.iter().any(|it| it.name == *name))
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
                    .filter(|it| crate::image::repository_of(&it.image) == image.repository())
                    .map(|it| it.name.as_str())
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

fn differing_images(
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

fn checked(difference: TagDifference, request: &UpdateRequest) -> Result<TagDifference, Failure> {
    if difference.result.len() > MAX_TAGS {
        return Err(Failure::new(
            Code::TagUpdateFailed,
            format!(
                "of service {}: with those it has there would be {}, and ECS allows {MAX_TAGS}. Nothing was changed. \
                 Merge fewer tags, or use tag_mode replace",
                request.service_key,
                difference.result.len()
            ),
        )
        .by(Fault::Caller));
    }
    Ok(difference)
}

/// Whether the service has these parameters of `UpdateService`.
#[must_use]
pub fn covers_parameters(service: &Service, parameters: &Map<String, Value>) -> bool {
    // AWS never shows `monitoring`: it cannot be held against what was asked.
    parameters.iter().all(|(name, wanted)| name == "monitoring" || has_parameter(service, name, wanted))
}

/// Whether two values of a parameter are the same to ECS.
#[must_use]
pub fn same_parameter(name: &str, one: &Value, other: &Value) -> bool {
    let in_order = name == "placementStrategy";
    covers(Some(one), other, in_order) && covers(Some(other), one, in_order)
}

/// Whether a value of a parameter has all that is wanted of it.
#[must_use]
pub fn covers_parameter(name: &str, has: &Value, wanted: &Value) -> bool {
    covers(Some(has), wanted, name == "placementStrategy")
}

fn has_parameter(service: &Service, name: &str, wanted: &Value) -> bool {
    covers(service.parameter(name), wanted, name == "placementStrategy")
}

/// Whether what the service has covers what is wanted: AWS fills in defaults, so every member wanted must be there and
/// equal, and more may be there. `null` wants nothing. A list wants exactly its entries, `in_order` only where the order
/// means something.
fn covers(has: Option<&Value>, wanted: &Value, in_order: bool) -> bool {
    match (has, wanted) {
        (_, Value::Null) => true,
        // AWS leaves out what is empty or off.
        (None | Some(Value::Null), wanted) => is_nothing(wanted),
        (Some(Value::Object(has)), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| covers(has.get(name), wanted, in_order))
        }
        (Some(Value::Array(has)), Value::Array(wanted)) if in_order => {
            has.len() == wanted.len() && has.iter().zip(wanted).all(|(has, wanted)| covers(Some(has), wanted, true))
        }
        (Some(Value::Array(has)), Value::Array(wanted)) => {
            let mut left: Vec<&Value> = has.iter().collect();
            has.len() == wanted.len()
                && wanted.iter().all(|wanted| {
                    let found = left.iter().position(|has| covers(Some(has), wanted, false));
                    found.map(|index| left.swap_remove(index)).is_some()
                })
        }
        (Some(Value::Number(has)), Value::Number(wanted)) => has == wanted || has.as_f64() == wanted.as_f64(),
        (Some(has), wanted) => has == wanted,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(is_nothing),
        _ => false,
    }
}

/// What comes with another revision beside its images.
fn definition_changes(
    snapshot: &Snapshot,
    revision: Option<&TaskDefinition>,
    register: Option<&Registration>,
) -> Vec<Difference> {
    let to = match (revision, register) {
        (Some(revision), _) => revision.document(),
        (None, Some(copy)) => serde_json::from_str(&copy.document).unwrap_or_default(),
        (None, None) => return Vec::new(),
    };
    let from = snapshot.task_definition.as_deref().map(TaskDefinition::document).unwrap_or_default();
    differences(&from, &to)
}

fn changes(
    images: &BTreeMap<String, (String, String)>,
    revised: Option<Value>,
    tags: &TagDifference,
    parameters: &Map<String, Value>,
    force_new_deployment: bool,
    snapshot: &Snapshot,
) -> Vec<Difference> {
    let tag = |key: &String| snapshot.service.tags.get(key).map_or(Value::Null, |value| value.as_str().into());
    let change = |what, path: &str, from, to| Difference { what, path: path.to_owned(), from, to };
    let images = images.iter().map(|(container, (from, to))| {
        change(DifferenceKind::Image, container, from.as_str().into(), to.as_str().into())
    });
    // Its whole content comes with it, which no list of images tells. Of a copy the number is not known before.
    let revision = revised.map(|to| {
        let from = snapshot.service.task_definition_arn().map_or(Value::Null, Value::from);
        change(DifferenceKind::Revision, "taskDefinition", from, to)
    });
    let set = tags.set.iter().map(|(key, value)| change(DifferenceKind::Tag, key, tag(key), value.as_str().into()));
    let removed = tags.remove.iter().map(|key| change(DifferenceKind::Tag, key, tag(key), Value::Null));
    let parameters = parameters.iter().map(|(name, wanted)| {
        let from = snapshot.service.parameter(name).cloned().unwrap_or_default();
        change(DifferenceKind::Parameter, name, from, wanted.clone())
    });
    let forced = force_new_deployment
        .then(|| change(DifferenceKind::Deployment, "forceNewDeployment", Value::Null, Value::Bool(true)));
    images.chain(revision).chain(set).chain(removed).chain(parameters).chain(forced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::request::{Defaults, parse_one as parse};
    use crate::ids::{AccountId, Region};
    use proptest::prelude::*;
    use serde_json::json;

    fn request(more: &Value) -> UpdateRequest {
        let mut event =
            json!({"account_id": "222222222222", "ecs_cluster_name": "ECSCluster", "ecs_service_name": "web"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let defaults = Defaults {
            account_id: Some(AccountId::parse("111111111111").unwrap()),
            region: Region::parse("eu-west-1").unwrap(),
            identity: crate::ids::Identity::Claimed,
        };
        parse(&event.to_string(), &defaults).unwrap()
    }

    fn snapshot(service: &Value, containers: &Value) -> Snapshot {
        let body = json!({"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7",
            "family": "web", "revision": 7, "containerDefinitions": containers}});
        let mut members = json!({"serviceArn": "arn:s", "status": "ACTIVE", "taskDefinition": "arn:td",
            "tags": [{"key": "old", "value": "1"}, {"key": "aws:x", "value": "y"}]});
        members.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
        Snapshot {
            service: Service::new(members.as_object().unwrap().clone(), None),
            task_definition: Some(Arc::new(TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap())),
        }
    }

    fn one() -> Value {
        json!([{"name": "web", "image": "busybox", "memory": 64}])
    }

    fn update(more: &Value, service: &Value, containers: &Value) -> Update {
        match plan(&request(more), &snapshot(service, containers), None) {
            Plan::Update(update) => *update,
            other => panic!("{other:?}"),
        }
    }

    fn refused(more: &Value, service: &Value, containers: &Value) -> Failure {
        match plan(&request(more), &snapshot(service, containers), None) {
            Plan::Refused(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    fn is_unchanged(more: &Value, service: &Value) -> bool {
        matches!(plan(&request(more), &snapshot(service, &one()), None), Plan::Unchanged { .. })
    }

    #[test]
    fn an_index_without_what_the_tasks_run_on_is_refused() {
        let body = |platform: Value| {
            json!({"taskDefinition": {"taskDefinitionArn": "arn:x:task-definition/web:7", "family": "web",
            "runtimePlatform": platform, "containerDefinitions": one()}})
        };
        let mut request = request(&json!({"ecs_image_name": "nginx:1", "check_image": true}));
        request.platforms = BTreeMap::from([("nginx:1".to_owned(), vec!["linux/amd64".to_owned()])]);
        for (platform, refused) in [
            (json!({"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}), true),
            (json!({"cpuArchitecture": "ARM64"}), true),
            (json!({"cpuArchitecture": "X86_64", "operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}), true),
            (json!({"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"}), false),
            (json!({}), false),
        ] {
            let mut snapshot = snapshot(&json!({}), &one());
            let definition = TaskDefinition::from_answer(body(platform.clone()).to_string().as_bytes()).unwrap();
            snapshot.task_definition = Some(Arc::new(definition));
            match plan(&request, &snapshot, None) {
                Plan::Refused(failure) => assert!(refused && failure.code == Code::ImageNotFound, "{failure}"),
                _ => assert!(!refused, "{platform}"),
            }
        }
        let mut snapshot = snapshot(&json!({}), &one());
        let definition = body(json!({"cpuArchitecture": "ARM64"})).to_string();
        snapshot.task_definition = Some(Arc::new(TaskDefinition::from_answer(definition.as_bytes()).unwrap()));
        let platforms = (0..50_000).map(|n| format!("linux/s{n:05}")).collect();
        request.platforms = BTreeMap::from([("nginx:1".to_owned(), platforms)]);
        let Plan::Refused(failure) = plan(&request, &snapshot, None) else { panic!("not refused") };
        assert!(failure.message.contains("linux/s00019 and 49980 more only"), "{:.2000}", failure.message);
    }

    #[test]
    fn the_image_goes_to_the_container_that_is_meant() {
        let several =
            json!([{"name": "log", "image": "fluent/fluent-bit:3"}, {"name": "web", "image": "registry:5000/web:1"}]);
        for (event, containers, container) in [
            (json!({"ecs_image_name": "nginx"}), one(), "web"),
            (json!({"ecs_image_name": "registry:5000/web:2"}), several.clone(), "web"),
            (json!({"ecs_image_name": "nginx", "container_name": "log"}), several.clone(), "log"),
            (json!({"images": {"log": "fluent/fluent-bit:3", "web": "nginx"}}), several.clone(), "web"),
        ] {
            let update = update(&event, &json!({}), &containers);
            assert_eq!(update.container.as_deref(), Some(container), "{event}");
            assert_eq!(update.images.len(), 1);
            let document: Value = serde_json::from_str(&update.register.unwrap().document).unwrap();
            let changed =
                document["containerDefinitions"].as_array().unwrap().iter().find(|it| it["name"] == container);
            assert_eq!(changed.unwrap()["image"], update.images[container].1);
        }
        let ambiguous = refused(&json!({"ecs_image_name": "nginx"}), &json!({}), &several);
        assert_eq!(ambiguous.code, Code::AmbiguousContainer);
        assert!(ambiguous.message.contains("log (fluent/fluent-bit:3), web (registry:5000/web:1)"), "{ambiguous}");
        let unknown = refused(&json!({"ecs_image_name": "nginx", "container_name": "app"}), &json!({}), &several);
        assert_eq!(unknown.code, Code::ContainerNotFound);
        assert!(unknown.message.contains("has no container app; its containers are log"), "{unknown}");
    }

    #[test]
    fn what_is_there_already_is_no_change() {
        assert!(is_unchanged(&json!({"ecs_image_name": "busybox"}), &json!({})));
        assert!(is_unchanged(&json!({"ecs_tag": {"old": "1"}}), &json!({})));
        assert!(is_unchanged(&json!({"ecs_tag": {}, "tag_mode": "merge"}), &json!({})));
        assert!(!is_unchanged(&json!({"ecs_tag": {}}), &json!({})));
        assert!(!is_unchanged(&json!({"ecs_image_name": "busybox", "force_new_deployment": true}), &json!({})));
    }

    #[test]
    fn parameters_are_held_against_what_the_service_has() {
        let has = json!({"desiredCount": 2, "enableExecuteCommand": false, "loadBalancers": [],
            "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100, "strategy": "ROLLING"},
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["a", "b"], "assignPublicIp": "DISABLED"}},
            "placementStrategy": [{"type": "spread", "field": "zone"}, {"type": "binpack", "field": "memory"}],
            "deployments": [{"status": "PRIMARY", "serviceConnectConfiguration": {"enabled": true, "namespace": "n"}}]});
        for same in [
            json!({"desiredCount": 2}),
            json!({"deploymentConfiguration": {"maximumPercent": 200.0}}),
            json!({"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": false, "rollback": false}}}),
            json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["b", "a"]}}}),
            json!({"serviceConnectConfiguration": {"enabled": true}}),
            json!({"loadBalancers": [], "serviceRegistries": [], "desiredCount": null}),
        ] {
            assert!(is_unchanged(&json!({"service": same}), &has), "{same}");
        }
        for other in [
            json!({"desiredCount": 3}),
            json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["a"]}}}),
            json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["a", "a"]}}}),
            json!({"placementStrategy": [{"type": "binpack", "field": "memory"}, {"type": "spread", "field": "zone"}]}),
            json!({"placementStrategy": []}),
            json!({"enableExecuteCommand": true}),
            json!({"volumeConfigurations": [{"name": "v"}]}),
        ] {
            assert!(!is_unchanged(&json!({"service": other}), &has), "{other}");
        }
        let update = update(&json!({"service": {"desiredCount": 2, "enableExecuteCommand": true}}), &has, &one());
        assert_eq!(Value::Object(update.parameters), json!({"enableExecuteCommand": true}));
    }

    #[test]
    fn another_capacity_provider_strategy_needs_a_new_deployment() {
        let event =
            json!({"service": {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}});
        let update = update(&event, &json!({}), &one());
        assert!(update.force_new_deployment);
        assert_eq!(update.notes.len(), 1);
        let has = json!({"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]});
        assert!(is_unchanged(&event, &has));
    }

    #[test]
    fn services_that_others_deploy_take_what_they_take() {
        let deploy = json!({"deploymentController": {"type": "CODE_DEPLOY"}});
        let external = json!({"deploymentController": {"type": "EXTERNAL"}});
        for (event, service, named) in [
            (json!({"ecs_image_name": "nginx"}), &deploy, "an image"),
            (json!({"ecs_image_name": "nginx"}), &external, "an image"),
            (json!({"force_new_deployment": true}), &deploy, "force_new_deployment"),
            (json!({"service": {"platformVersion": "1.4.0", "desiredCount": 1}}), &deploy, "platformVersion"),
            (json!({"service": {"deploymentConfiguration": {}}}), &external, "deploymentConfiguration"),
        ] {
            let failure = refused(&event, service, &one());
            assert_eq!(failure.code, Code::UnsupportedDeploymentController, "{event}");
            assert!(failure.message.contains(&format!("does not take {named}")), "{failure}");
        }
        for event in [
            json!({"ecs_tag": {"new": "1"}}),
            json!({"service": {"desiredCount": 1}}),
            json!({"ecs_image_name": "nginx", "service": {"deploymentController": {"type": "ECS"}}}),
        ] {
            update(&event, &deploy, &one());
        }
    }

    #[test]
    fn another_task_definition_than_expected_is_refused() {
        let event = |expected: &str| json!({"ecs_image_name": "nginx", "expected_task_definition": expected});
        assert_eq!(refused(&event("web:6"), &json!({}), &one()).code, Code::TaskDefinitionChanged);
        update(&event("web:7"), &json!({}), &one());
    }

    #[test]
    fn tags_go_first_where_new_tasks_shall_carry_them() {
        let event = json!({"ecs_tag": {"new": "1"}});
        assert!(!update(&event, &json!({}), &one()).tags_first);
        assert!(update(&event, &json!({"propagateTags": "SERVICE"}), &one()).tags_first);
        let propagates = json!({"ecs_tag": {"new": "1"}, "service": {"propagateTags": "SERVICE"}});
        assert!(update(&propagates, &json!({"propagateTags": "NONE"}), &one()).tags_first);
        assert!(!update(&event, &json!({}), &one()).updates_service());
    }

    #[test]
    fn a_merge_that_passes_fifty_tags_is_refused() {
        let tags: serde_json::Map<String, Value> = (0..50).map(|n| (format!("k{n}"), json!("v"))).collect();
        let failure = refused(&json!({"ecs_tag": tags, "tag_mode": "merge"}), &json!({}), &one());
        assert_eq!(failure.code, Code::TagUpdateFailed);
        update(&json!({"ecs_tag": tags}), &json!({}), &one());
    }

    #[test]
    fn a_plan_tells_what_would_be() {
        let event = json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}});
        let snapshot = snapshot(&json!({}), &one());
        let Plan::Update(update) = plan(&request(&event), &snapshot, None) else { panic!("a change") };
        let what: Vec<_> = update.changes.iter().map(|it| (it.what, it.path.as_str())).collect();
        assert_eq!(what, [(DifferenceKind::Image, "web"), (DifferenceKind::Tag, "new"), (DifferenceKind::Tag, "old")]);
        let mut after = snapshot.state(update.container.as_deref());
        update.apply_to(&mut after);
        assert_eq!(after.service_image.as_deref(), Some("nginx"));
        assert_eq!(after.images["web"], "nginx");
        let keys: Vec<_> = after.tags.iter().map(|tag| tag.key.as_str()).collect();
        assert_eq!(keys, ["aws:x", "new"]);
        assert_eq!(after.task_definition_arn, None);
    }

    fn definition(arn: &str, status: &str, image: &str) -> TaskDefinition {
        let body = json!({"taskDefinition": {"taskDefinitionArn": arn, "family": "web", "status": status, "cpu": "256",
            "containerDefinitions": [{"name": "web", "image": image}]}});
        TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap()
    }

    /// Plans to put back a state with `image` in `web:6`, one tag and these parameters.
    fn restoring(more: &Value, was: &Value, is: &Value, definition: OldDefinition) -> Plan {
        let mut before = snapshot(&json!({"tags": [{"key": "was", "value": "1"}]}), &one()).recorded(None);
        before.state.task_definition_arn = Some("arn:aws:ecs:eu-west-1:222222222222:task-definition/web:6".to_owned());
        before.state.images = BTreeMap::from([("web".to_owned(), "nginx:1".to_owned())]);
        before.service = was.as_object().unwrap().clone();
        let restore = RestoreNotes {
            change_id: ChangeId::new(chrono::DateTime::UNIX_EPOCH, [1; 10]),
            before,
            definition,
            hidden: None,
        };
        let mut event = json!({"restore": "previous"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan(&request(&event), &snapshot(is, &one()), Some(&restore))
    }

    fn restores(more: &Value, was: &Value, is: &Value, definition: OldDefinition) -> Update {
        match restoring(more, was, is, definition) {
            Plan::Update(update) => *update,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_restore_goes_back_to_the_old_revision_or_its_copy_or_its_images() {
        let none = json!({});
        let active =
            restores(&none, &none, &none, OldDefinition::Active(Arc::new(definition("web:6", "ACTIVE", "nginx:1"))));
        assert_eq!(active.revision.unwrap().arn, "web:6");
        assert!(active.register.is_none() && active.images["web"] == ("busybox".to_owned(), "nginx:1".to_owned()));

        let copied = restores(
            &none,
            &none,
            &none,
            OldDefinition::Inactive(Arc::new(definition("web:6", "INACTIVE", "nginx:1"))),
        );
        let document: Value = serde_json::from_str(&copied.register.unwrap().document).unwrap();
        assert_eq!(
            (&document["cpu"], &document["containerDefinitions"][0]["image"]),
            (&json!("256"), &json!("nginx:1"))
        );
        assert!(copied.notes.iter().any(|note| note.contains("web:6 was deregistered")), "{:?}", copied.notes);

        let gone = restores(&none, &none, &none, OldDefinition::Gone);
        let document: Value = serde_json::from_str(&gone.register.unwrap().document).unwrap();
        assert_eq!((document.get("cpu"), &document["containerDefinitions"][0]["image"]), (None, &json!("nginx:1")));
        assert!(gone.notes.iter().any(|note| note.contains("no longer has web:6")), "{:?}", gone.notes);

        let in_place = restores(&none, &none, &none, OldDefinition::InPlace);
        assert!(!in_place.updates_service() && in_place.tags.set.contains_key("was"));
        assert!(in_place.tags.remove.contains("old") && !in_place.tags.remove.contains("aws:x"));
    }

    #[test]
    fn a_restore_puts_parameters_back_to_the_letter_but_the_desired_count() {
        let was = json!({"desiredCount": 2, "loadBalancers": [], "enableExecuteCommand": false,
            "deploymentConfiguration": {"maximumPercent": 200}, "placementConstraints": [{"type": "distinctInstance"}]});
        let is = json!({"desiredCount": 9, "loadBalancers": [{"containerPort": 80}], "enableExecuteCommand": true,
            "deploymentConfiguration": {"maximumPercent": 200, "alarms": {"enable": true}}, "healthCheckGracePeriodSeconds": 30,
            "platformVersion": "1.4.0", "placementConstraints": [{"type": "distinctInstance"}]});
        let back = restores(&json!({}), &was, &is, OldDefinition::InPlace);
        assert_eq!(
            Value::Object(back.parameters),
            json!({"loadBalancers": [], "enableExecuteCommand": false, "deploymentConfiguration": {"maximumPercent": 200},
                   "healthCheckGracePeriodSeconds": 0})
        );
        assert!(
            back.notes.iter().any(|note| note.starts_with("platformVersion was not set before")),
            "{:?}",
            back.notes
        );
        let asked = restores(&json!({"service": {"desiredCount": 2}}), &was, &is, OldDefinition::InPlace);
        assert_eq!(asked.parameters["desiredCount"], 2);
    }

    #[test]
    fn what_is_as_it_was_is_not_restored_again() {
        let same = json!({"tags": [{"key": "was", "value": "1"}], "healthCheckGracePeriodSeconds": 0});
        let plan = restoring(&json!({}), &json!({}), &same, OldDefinition::InPlace);
        assert!(matches!(plan, Plan::Unchanged { .. }), "{plan:?}");
    }

    #[test]
    fn a_restore_under_code_deploy_names_what_it_cannot_take() {
        let deploy = json!({"deploymentController": {"type": "CODE_DEPLOY"}});
        let old = OldDefinition::Active(Arc::new(definition("web:6", "ACTIVE", "nginx:1")));
        let Plan::Refused(failure) = restoring(&json!({}), &deploy, &deploy, old) else { panic!("refused") };
        assert_eq!(failure.code, Code::UnsupportedDeploymentController);
        restores(&json!({}), &deploy, &deploy, OldDefinition::InPlace);
    }

    fn any_parameter() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..9).prop_map(Value::from),
            "[a-c]{1,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_set_is_covered_afterwards(value in any_parameter(), more in any_parameter()) {
            prop_assert!(covers(Some(&value), &value, false));
            prop_assert!(covers(Some(&value), &value, true));
            // AWS adds members of its own.
            if let Value::Object(mut has) = value.clone() {
                has.insert("added".to_owned(), more);
                prop_assert!(covers(Some(&Value::Object(has)), &value, false));
            }
        }
    }
}
