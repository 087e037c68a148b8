//! From the text of an event to an [`UpdateRequest`]: it is checked against the schema first, then put into types that cannot hold a wrong
//! value. All faults are reported at once, each with its place in the event, before anything else happens.

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::ecs::deployment::verb::DeploymentVerb;
use crate::ecs::service::PARAMETERS;
use crate::ecs::tags::TagChange;
use crate::error::{Code, Failure};
use crate::event::hash::event_hash;
use crate::event::request::{DeploymentAction, ImageChange, ImageCheck, RestorePoint, UpdateRequest};
use crate::event::update_event::UpdateEvent;
use crate::event::update_format::FORMAT;
use crate::event::{MAX_EVENT_BYTES, MAX_FAULTS};
use crate::ids::{AccountId, ChangeId, EcsName, Identity, Region, ServiceKey, looks_verified};
use crate::image::{ImageReference, ResolvedImages};
use crate::text::{shown, shown_text};

/// Why an event that forces a deployment and waits for it needs a key. Source for this behaviour of clients:
/// <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-retries.html>.
const KEY_NEEDED: &str = "\"idempotency_key\" is a required property where \"force_new_deployment\" and \"wait_seconds\" come together: a client \
     whose read times out sends the event again as another request, and each would force a deployment of its own";

/// What applies if an event omits it, namely the function's own account and region; and what an event cannot say of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The function's own account, if it is known; otherwise an event has to name one.
    pub account_id: Option<AccountId>,
    /// The function's own region.
    pub region: Region,
    /// Whether `requested_by` is verified.
    pub identity: Identity,
}

/// What an event asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A change of one service.
    One(Box<UpdateRequest>),
    /// Changes of many services.
    Many(Batch),
}

/// Many updates, checked: no service is in it twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One for each entry of `updates`, in its order, with the shared fields filled in.
    pub updates: Vec<UpdateRequest>,
    /// Answer with codes and ids only.
    pub summary_only: bool,
}

/// Reads an event as Lambda hands it over.
///
/// ```
/// use domain::event::parse::{Defaults, Event, parse};
/// use domain::ids::{AccountId, Identity, Region};
///
/// let defaults = Defaults {
///     account_id: Some(AccountId::parse("222222222222")?),
///     region: Region::parse("eu-west-1")?,
///     identity: Identity::Claimed,
/// };
/// let event = br#"{"ecs_cluster_name": "prod", "ecs_service_name": "web", "ecs_image_name": "nginx:1.27"}"#;
/// let Event::One(request) = parse(event, &defaults)? else { panic!("it is about one service") };
/// assert_eq!(request.service_key.to_string(), "222222222222/eu-west-1/prod/web");
///
/// // All faults are reported at once, each with its place.
/// let refused = parse(br#"{"ecs_cluster_name": "prod", "dry_run": "yes"}"#, &defaults).unwrap_err();
/// assert!(refused.message.contains("/dry_run: \"yes\" is not of type \"boolean\""));
/// assert!(refused.message.contains("\"ecs_service_name\" is a required property"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Code::JsonValidation`] with every fault of the event and its place; for an event that has none, [`Code::InvalidImage`] with every
/// image that is not an image reference.
pub fn parse(event: &[u8], defaults: &Defaults) -> Result<Event, Failure> {
    let mut event = FORMAT.check(event)?;
    let Some(Value::Array(entries)) = event.as_object_mut().and_then(|event| event.remove("updates")) else {
        let request = Faults::default().into_result(request(event, &|field| format!("/{field}"), defaults))?;
        return Ok(Event::One(Box::new(request)));
    };
    let summary_only = event.as_object_mut().and_then(|event| event.remove("summary_only")) == Some(true.into());
    let updates = updates(&event, entries, defaults)?;
    Ok(Event::Many(Batch { updates, summary_only }))
}

/// Each entry with the shared fields that it does not set itself, checked as an event of its own.
fn updates(shared: &Value, entries: Vec<Value>, defaults: &Defaults) -> Result<Vec<UpdateRequest>, Failure> {
    // The shared fields, once they are copied into each entry, must not exceed the maximum length of an event.
    let bytes = shared.to_string().len() * entries.len();
    if bytes > MAX_EVENT_BYTES {
        return Err(FORMAT.refuse(&[format!(
            "/updates: the shared fields in each of {} entries would make {bytes} bytes, and at most {MAX_EVENT_BYTES} are accepted",
            entries.len()
        )]));
    }
    let mut faults = Faults::default();
    let mut updates: Vec<UpdateRequest> = Vec::with_capacity(entries.len());
    let mut seen = BTreeMap::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let (Value::Object(own), Value::Object(mut merged)) = (entry, shared.clone()) else { continue };
        let own_names: BTreeSet<String> = own.keys().cloned().collect();
        merged.extend(own);
        let merged = Value::Object(merged);
        let place = format!("/updates/{index}");
        let of_entry = FORMAT.faults(&merged, &place)?;
        if !of_entry.is_empty() {
            faults.schema.extend(of_entry);
            continue;
        }
        let field_place = |field: &str| {
            let name = field.split('/').next().unwrap_or_default();
            if own_names.contains(name) { format!("{place}/{field}") } else { format!("/{field}") }
        };
        match request(merged, &field_place, defaults) {
            Ok(request) => {
                if let Some(first) = seen.insert(request.service_key.clone(), index) {
                    let twice = format!("{place}: the same service as /updates/{first}: {}", request.service_key);
                    faults.schema.push(twice);
                }
                updates.push(request);
            }
            Err(more) => faults.add(more),
        }
    }
    faults.into_result(Ok(updates))
}

/// What is wrong with an event: according to schema and types, and in its image references.
#[derive(Debug, Default)]
struct Faults {
    schema: Vec<String>,
    images: Vec<String>,
}

impl Faults {
    fn schema(fault: impl Into<String>) -> Self {
        Self { schema: vec![fault.into()], images: Vec::new() }
    }

    /// Adds the faults of an entry; a fault of a shared field is reported once.
    fn add(&mut self, more: Self) {
        for (known, more) in [(&mut self.schema, more.schema), (&mut self.images, more.images)] {
            for fault in more {
                if !known.contains(&fault) {
                    known.push(fault);
                }
            }
        }
    }

    /// The failure that lists all faults, if there are any.
    fn into_result<T>(mut self, result: Result<T, Self>) -> Result<T, Failure> {
        let value = result.map_err(|more| self.add(more));
        match (value, self.schema.is_empty(), self.images.is_empty()) {
            (Ok(value), true, true) => Ok(value),
            (_, true, _) => {
                let more = self.images.len().saturating_sub(MAX_FAULTS);
                self.images.truncate(MAX_FAULTS);
                let more = if more > 0 { format!("; and {more} more") } else { String::new() };
                Err(Failure::new(Code::InvalidImage, self.images.join("; ") + &more))
            }
            _ => Err(FORMAT.refuse(&self.schema)),
        }
    }
}

/// The request of one event without `updates`. `place` says where in the event a field is.
fn request(event: Value, place: &dyn Fn(&str) -> String, defaults: &Defaults) -> Result<UpdateRequest, Faults> {
    // The schema has already checked all of this. Should the schema and the types ever differ, these errors show it.
    let entry = UpdateEvent::deserialize(&event).map_err(|error| Faults::schema(format!("(event): {error}")))?;
    let service_key = service_key(&entry, defaults).map_err(Faults::schema)?;
    let event_hash = event_hash(event, &service_key).map_err(|error| Faults::schema(format!("(event): {error}")))?;
    if let Some(fault) = entry.requested_by.as_deref().and_then(|name| unvouched(name, place, defaults)) {
        return Err(Faults::schema(fault));
    }
    let restore = entry.restore.as_deref().map(|restore| restore_point(restore, place)).transpose()?;
    let action = action(&entry, place)?;
    let sent_at = entry.sent_at.as_deref().map(|text| sent_at(text, place)).transpose()?;
    let force_new_deployment = entry.force_new_deployment.unwrap_or_default();
    let wait_seconds = entry.wait_seconds.as_ref().and_then(Number::as_f64).unwrap_or_default();
    if force_new_deployment && wait_seconds > 0.0 && entry.idempotency_key.is_none() {
        return Err(Faults::schema(format!("{}: {KEY_NEEDED}", shown(&place("idempotency_key")))));
    }
    let image = image_change(entry.ecs_image_name, entry.container_name, entry.images, place)
        .map_err(|images| Faults { schema: Vec::new(), images })?;
    let pins = match &entry.pushed_tag {
        None => ResolvedImages::default(),
        Some(tag) => {
            pushed(&image, tag).map_err(|fault| Faults::schema(format!("{}: {fault}", shown(&place("pushed_tag")))))?
        }
    };
    if let Some(fault) = entry.service.iter().flat_map(|it| it.keys()).find_map(|name| misspelt(name, place)) {
        return Err(Faults::schema(fault));
    }
    let (left_alone, parameters): (Map<_, _>, Map<_, _>) =
        entry.service.unwrap_or_default().into_iter().partition(|(_, value)| value.is_null());
    Ok(UpdateRequest {
        service_key,
        image,
        tags: entry.ecs_tag.map(|tags| TagChange { mode: entry.tag_mode.unwrap_or_default(), tags }),
        parameters,
        left_alone: left_alone.into_iter().map(|(name, _)| name).collect(),
        force_new_deployment,
        restore,
        action,
        restore_mode: entry.restore_mode.unwrap_or_default(),
        lookup: match (entry.resolve_digest.unwrap_or_default(), entry.check_image.unwrap_or_default()) {
            (true, _) => ImageCheck::Pin,
            (false, true) => ImageCheck::Check,
            (false, false) => ImageCheck::None,
        },
        pins,
        platforms: BTreeMap::new(),
        expected_task_definition: entry.expected_task_definition,
        dry_run: entry.dry_run.unwrap_or_default(),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an integer from 0 to 840 by the schema"
        )]
        wait_seconds: wait_seconds as u16,
        idempotency_key: entry.idempotency_key,
        requested_by: entry.requested_by,
        reason: entry.reason,
        sent_at,
        pushed_tag: entry.pushed_tag,
        event_hash,
    })
}

/// What is wrong with a name that differs from a parameter's only in case: ECS would ignore it.
fn misspelt(name: &str, place: &dyn Fn(&str) -> String) -> Option<String> {
    let meant = PARAMETERS.into_iter().find(|known| *known != name && known.eq_ignore_ascii_case(name))?;
    Some(format!("{}: unknown field {}: use \"{meant}\"", shown(&place("service")), shown_text(name)))
}

fn service_key(entry: &UpdateEvent, defaults: &Defaults) -> Result<ServiceKey, String> {
    let account_id = match (&entry.account_id, &defaults.account_id) {
        (Some(account_id), _) => AccountId::parse(account_id)?,
        (None, Some(own)) => own.clone(),
        (None, None) => {
            return Err("(event): \"account_id\" is a required property where the own account is not known".to_owned());
        }
    };
    let region = entry.region.as_deref().map_or(Ok(defaults.region.clone()), Region::parse)?;
    let name = |name: &str, value: &Option<String>| match value {
        Some(value) => EcsName::parse(value),
        None => Err(format!("(event): \"{name}\" is a required property")),
    };
    let cluster = name("ecs_cluster_name", &entry.ecs_cluster_name)?;
    let service = name("ecs_service_name", &entry.ecs_service_name)?;
    Ok(ServiceKey::new(account_id, region, cluster, service))
}

/// What is wrong with a name that looks verified, if it is not.
fn unvouched(name: &str, place: &dyn Fn(&str) -> String, defaults: &Defaults) -> Option<String> {
    let beginning = looks_verified(name).filter(|_| defaults.identity == Identity::Claimed)?;
    Some(format!(
        "{}: {} begins with \"{beginning}\", as names do that the API door vouches for, and nobody vouches for this one: give a plain name, \
         or send the event through the door, which says itself who asks",
        shown(&place("requested_by")),
        shown_text(name)
    ))
}

fn restore_point(restore: &str, place: &dyn Fn(&str) -> String) -> Result<RestorePoint, Faults> {
    if restore == "previous" {
        return Ok(RestorePoint::Previous);
    }
    ChangeId::parse(restore)
        .map(RestorePoint::Change)
        .map_err(|fault| Faults::schema(format!("{}: {fault}", shown(&place("restore")))))
}

fn action(entry: &UpdateEvent, place: &dyn Fn(&str) -> String) -> Result<Option<DeploymentAction>, Faults> {
    let (field, verb, change_id) = match (&entry.continue_change, &entry.stop_change) {
        (Some(change_id), _) => ("continue", DeploymentVerb::Continue, change_id),
        (None, Some(change_id)) => ("stop", DeploymentVerb::Stop, change_id),
        (None, None) => return Ok(None),
    };
    let of =
        ChangeId::parse(change_id).map_err(|fault| Faults::schema(format!("{}: {fault}", shown(&place(field)))))?;
    Ok(Some(DeploymentAction { verb, of }))
}

fn sent_at(text: &str, place: &dyn Fn(&str) -> String) -> Result<DateTime<Utc>, Faults> {
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc));
    let what = || format!("{}: {} is not a valid time", shown(&place("sent_at")), shown_text(text));
    time.map_err(|_| Faults::schema(what()))
}

/// What the tag of a push stood for: the digests that the event names.
fn pushed(image: &ImageChange, tag: &str) -> Result<ResolvedImages, &'static str> {
    let images = image.references();
    if images.is_empty() || images.iter().any(|image| image.digest().is_none()) {
        return Err("it goes with ecs_image_name or images, whose digests are what was pushed under it");
    }
    Ok(ResolvedImages(
        images.iter().map(|image| (format!("{}:{tag}", image.repository()), image.to_string())).collect(),
    ))
}

fn image_change(
    image: Option<String>,
    container: Option<String>,
    images: Option<BTreeMap<String, String>>,
    place: &dyn Fn(&str) -> String,
) -> Result<ImageChange, Vec<String>> {
    let parse = |field: &str, image: &str| {
        ImageReference::parse(image).map_err(|fault| format!("{}: {fault}", shown(&place(field))))
    };
    let mut faults = Vec::new();
    let mut change = ImageChange::None;
    if let Some(image) = image {
        match (parse("ecs_image_name", &image), container) {
            (Ok(image), None) => change = ImageChange::Auto(image),
            (Ok(image), Some(container)) => change = ImageChange::Containers(BTreeMap::from([(container, image)])),
            (Err(fault), _) => faults.push(fault),
        }
    } else if let Some(images) = images {
        let mut containers = BTreeMap::new();
        for (container, image) in images {
            match parse(&format!("images/{container}"), &image) {
                Ok(image) => _ = containers.insert(container, image),
                Err(fault) => faults.push(fault),
            }
        }
        change = ImageChange::Containers(containers);
    }
    if faults.is_empty() { Ok(change) } else { Err(faults) }
}

/// The request of an event for one service.
#[cfg(test)]
pub(crate) fn parse_one(event: &str, defaults: &Defaults) -> Result<UpdateRequest, Failure> {
    match parse(event.as_bytes(), defaults)? {
        Event::One(request) => Ok(*request),
        Event::Many(batch) => Err(FORMAT.refuse(&[format!("{batch:?}")])),
    }
}
