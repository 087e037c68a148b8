//! Event text to [`UpdateRequest`]: checked against the schema first, then put into types that cannot hold a wrong
//! value. Every fault is reported at once, with its place in the event, before anything else happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use chrono::{DateTime, Utc};
use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::canonical_json;
use crate::ecs::tags::{TagChange, TagMode};
use crate::error::{Code, Failure};
use crate::event::{EventFormat, MAX_EVENT_BYTES, MAX_FAULTS};
use crate::ids::{AccountId, ChangeId, EcsName, Identity, Region, ServiceKey, looks_verified};
use crate::image::{ImageReference, ResolvedImage, ResolvedImages};
use crate::text::{hex, shown, shown_text};

/// The fields an event needs, for the second line of the message. A test holds it to the schema.
const NEEDED: &str = "\"ecs_cluster_name\", \"ecs_service_name\", and at least one of \"ecs_image_name\", \"images\", \
                      \"ecs_tag\", \"service\", \"restore\", \"force_new_deployment\": true";

/// Why an event that forces a deployment and waits for it needs a key. Source of the clients' habit:
/// <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-retries.html>.
const KEY_NEEDED: &str = "\"idempotency_key\" is a required property where \"force_new_deployment\" and \"wait_seconds\" come together: a client \
     whose read times out sends the event again as another request, and each would force a deployment of its own";

/// What a text looks like, in words, by the definition of the schema that has the pattern. A test holds the two
/// together.
const EXPECTATIONS: &[(&str, &str)] = &[
    ("account_id", AccountId::EXPECTED),
    ("region", Region::EXPECTED),
    ("name", EcsName::EXPECTED),
    ("container_name", EcsName::EXPECTED),
    ("image", "an image reference of at most 255 characters before its digest"),
    ("tag_key", "letters, digits, spaces and _ . : / = + - @"),
    ("tag_value", "letters, digits, spaces and _ . : / = + - @"),
    ("restore", "the change_id of a change of this service, or \"previous\""),
    ("task_definition", "family:revision, such as \"web:7\""),
    ("image_tag", "letters, digits and _ . -, at most 128 of them, the first a letter, digit or _"),
    ("time", "a time with its offset such as \"2026-11-28T09:30:00Z\""),
];

/// Events of the updater.
pub static FORMAT: EventFormat = EventFormat {
    schema: include_str!("../../../../schema/update-event.schema.json"),
    needed: NEEDED,
    expectations: EXPECTATIONS,
    words: own_words,
    hint: |place, name| if place.ends_with("/service") { parameter_hint(name) } else { "" },
    validator: OnceLock::new(),
};

/// What an event leaves out, the function's own account and region, and what it cannot say of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The function's own account, where it is known; else an event has to name one.
    pub account_id: Option<AccountId>,
    /// The function's own region.
    pub region: Region,
    /// Whether somebody vouches for `requested_by`.
    pub identity: Identity,
}

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

/// Which change's before is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestorePoint {
    /// The last change that changed something.
    Previous,
    /// This change.
    Change(ChangeId),
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
    /// The parameters of `service` exactly as given, without those that are null at the top (which leave alone).
    pub parameters: Map<String, Value>,
    /// Start a new deployment even where nothing differs.
    pub force_new_deployment: bool,
    /// What to put back: the state from before a change.
    pub restore: Option<RestorePoint>,
    /// What is asked of the images' registries.
    pub lookup: ImageCheck,
    /// What the images were pinned to.
    pub pins: ResolvedImages,
    /// `os/architecture` of what is in an image for several platforms, by the image.
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
    /// The tag under which the images were pushed that the event brings; such an event undoes no restore.
    pub pushed_tag: Option<String>,
    /// What the event asks for: lowercase hexadecimal SHA-256 of its RFC 8785 JSON, with account, region and the schema's
    /// defaults filled in and without the idempotency key and how long to wait. So a key that comes again with another event is noticed.
    pub event_hash: String,
}

impl UpdateRequest {
    /// Takes what was found of the images, and pins them where the event asks for it. One that names a digest is pinned
    /// already.
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
/// # Errors
///
/// [`Code::JsonValidation`] with every fault of the event and its place; for an event that has none,
/// [`Code::InvalidImage`] with every image that is no image reference.
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
    // What each entry is then kept with must not grow beyond what an event may be.
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

/// What is wrong with an event: by schema and types, and image references.
#[derive(Debug, Default)]
struct Faults {
    schema: Vec<String>,
    images: Vec<String>,
}

impl Faults {
    fn schema(fault: impl Into<String>) -> Self {
        Self { schema: vec![fault.into()], images: Vec::new() }
    }

    /// Adds those of an entry; what stands in a shared field is said once.
    fn add(&mut self, more: Self) {
        for (known, more) in [(&mut self.schema, more.schema), (&mut self.images, more.images)] {
            for fault in more {
                if !known.contains(&fault) {
                    known.push(fault);
                }
            }
        }
    }

    /// The failure that tells them all, where there are any.
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

/// The request of one event without `updates`. `place` says where in the event a field stands.
fn request(event: Value, place: &dyn Fn(&str) -> String, defaults: &Defaults) -> Result<UpdateRequest, Faults> {
    // The schema has seen to all of this. Should it and the types ever differ, these are the errors to see.
    let entry = Entry::deserialize(&event).map_err(|error| Faults::schema(format!("(event): {error}")))?;
    let service_key = service_key(&entry, defaults).map_err(Faults::schema)?;
    let event_hash = event_hash(event, &service_key).map_err(|error| Faults::schema(format!("(event): {error}")))?;
    if let Some(fault) = entry.requested_by.as_deref().and_then(|name| unvouched(name, place, defaults)) {
        return Err(Faults::schema(fault));
    }
    let restore = entry.restore.as_deref().map(|restore| restore_point(restore, place)).transpose()?;
    let sent_at = entry.sent_at.as_deref().map(|text| sent_at(text, place)).transpose()?;
    if entry.force_new_deployment && entry.wait_seconds > 0.0 && entry.idempotency_key.is_none() {
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
    let mut parameters = entry.service;
    parameters.retain(|_, value| !value.is_null());
    Ok(UpdateRequest {
        service_key,
        image,
        tags: entry.ecs_tag.map(|tags| TagChange { mode: entry.tag_mode, tags }),
        parameters,
        force_new_deployment: entry.force_new_deployment,
        restore,
        lookup: match (entry.resolve_digest, entry.check_image) {
            (true, _) => ImageCheck::Pin,
            (false, true) => ImageCheck::Check,
            (false, false) => ImageCheck::None,
        },
        pins,
        platforms: BTreeMap::new(),
        expected_task_definition: entry.expected_task_definition,
        dry_run: entry.dry_run,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an integer from 0 to 840 by the schema"
        )]
        wait_seconds: entry.wait_seconds as u16,
        idempotency_key: entry.idempotency_key,
        requested_by: entry.requested_by,
        reason: entry.reason,
        sent_at,
        pushed_tag: entry.pushed_tag,
        event_hash,
    })
}

/// The fields of the schema.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are the event's own")]
struct Entry {
    account_id: Option<String>,
    region: Option<String>,
    ecs_cluster_name: String,
    ecs_service_name: String,
    ecs_image_name: Option<String>,
    container_name: Option<String>,
    images: Option<BTreeMap<String, String>>,
    ecs_tag: Option<BTreeMap<String, String>>,
    #[serde(default)]
    tag_mode: TagMode,
    #[serde(default)]
    service: Map<String, Value>,
    #[serde(default)]
    force_new_deployment: bool,
    restore: Option<String>,
    #[serde(default)]
    resolve_digest: bool,
    #[serde(default)]
    check_image: bool,
    expected_task_definition: Option<String>,
    #[serde(default)]
    dry_run: bool,
    /// JSON has one kind of number: `20.0` is the integer 20.
    #[serde(default)]
    wait_seconds: f64,
    idempotency_key: Option<String>,
    requested_by: Option<String>,
    reason: Option<String>,
    sent_at: Option<String>,
    pushed_tag: Option<String>,
}

fn service_key(entry: &Entry, defaults: &Defaults) -> Result<ServiceKey, String> {
    let account_id = match (&entry.account_id, &defaults.account_id) {
        (Some(account_id), _) => AccountId::parse(account_id)?,
        (None, Some(own)) => own.clone(),
        (None, None) => {
            return Err("(event): \"account_id\" is a required property where the own account is not known".to_owned());
        }
    };
    let region = entry.region.as_deref().map_or(Ok(defaults.region.clone()), Region::parse)?;
    let cluster = EcsName::parse(&entry.ecs_cluster_name)?;
    let service = EcsName::parse(&entry.ecs_service_name)?;
    Ok(ServiceKey::new(account_id, region, cluster, service))
}

/// What is wrong with a name that looks as if somebody vouched for it, where nobody does.
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

fn event_hash(event: Value, service_key: &ServiceKey) -> Result<String, String> {
    let Value::Object(mut event) = event else { return Err("it is no object".to_owned()) };
    event.insert("account_id".to_owned(), service_key.account_id().as_str().into());
    event.insert("region".to_owned(), service_key.region().as_str().into());
    event.remove("idempotency_key");
    // How long somebody waits for it changes nothing of what is asked for.
    event.remove("wait_seconds");
    // When it was sent first is not what it asks for.
    event.remove("sent_at");
    for (name, default) in
        [("tag_mode", "replace".into()), ("force_new_deployment", false.into()), ("dry_run", false.into())]
    {
        event.entry(name).or_insert(default);
    }
    // Fields that came later stand in the hash only where they ask for something: a key from before them still fits.
    for name in ["resolve_digest", "check_image"] {
        if event.get(name) == Some(&false.into()) {
            event.remove(name);
        }
    }
    let canonical = canonical_json::object(event.iter()).map_err(|error| error.to_string())?;
    Ok(hex(&Sha256::digest(canonical)))
}

/// The words for the faults that only an update event can have.
fn own_words(error: &ValidationError<'_>) -> Option<String> {
    match error.kind() {
        // The message's second line says what else would do.
        ValidationErrorKind::AnyOf { .. } => Some("\"ecs_image_name\" is a required property".to_owned()),
        ValidationErrorKind::Not { .. } => {
            let value = shown(&**error.instance());
            Some(format!("{value} is not accepted: \"aws:\" in any case belongs to AWS"))
        }
        _ => None,
    }
}

/// Where to turn with something that is no parameter of `service`, though UpdateService has it.
fn parameter_hint(name: &str) -> &'static str {
    match name {
        "taskDefinition" => ": it follows from \"ecs_image_name\" or \"images\"",
        "forceNewDeployment" => ": use \"force_new_deployment\"",
        "cluster" => ": use \"ecs_cluster_name\"",
        "service" => ": use \"ecs_service_name\"",
        "tags" => ": use \"ecs_tag\"",
        _ => "",
    }
}

/// The request of an event for one service.
#[cfg(test)]
pub(crate) fn parse_one(event: &str, defaults: &Defaults) -> Result<UpdateRequest, Failure> {
    match parse(event.as_bytes(), defaults)? {
        Event::One(request) => Ok(*request),
        Event::Many(batch) => Err(FORMAT.refuse(&[format!("{batch:?}")])),
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::Validator;
    use proptest::prelude::*;
    use serde_json::json;

    use super::{parse_one as parse, *};
    use crate::event::{MAX_VALUES, read};

    const EVENT_SCHEMA: &str = include_str!("../../../../schema/update-event.schema.json");
    const RESPONSE_SCHEMA: &str = include_str!("../../../../schema/update-response.schema.json");

    fn defaults() -> Defaults {
        Defaults {
            account_id: Some(AccountId::parse("111111111111").unwrap()),
            region: Region::parse("eu-west-1").unwrap(),
            identity: Identity::Claimed,
        }
    }

    /// A good event with these fields put in, or taken out where they are null.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!({…}) in place")]
    fn event(fields: Value) -> Value {
        let mut event = json!({"ecs_cluster_name": "c", "ecs_service_name": "s", "ecs_image_name": "nginx"});
        let object = event.as_object_mut().unwrap();
        for (name, value) in fields.as_object().unwrap().clone() {
            if value.is_null() {
                object.remove(&name);
            } else {
                object.insert(name, value);
            }
        }
        event
    }

    fn accepted(fields: Value) -> UpdateRequest {
        let event = event(fields).to_string();
        parse(&event, &defaults()).unwrap_or_else(|failure| panic!("{event}: {}", failure.message))
    }

    /// The faults, without the words around them.
    fn refused(event: &str) -> String {
        let failure = parse(event, &defaults()).map(|request| panic!("{event}: {request:?}")).unwrap_err();
        assert_eq!((failure.code, failure.retryable), (Code::JsonValidation, false), "{}", failure.message);
        let lines: Vec<_> = failure.message.lines().collect();
        assert_eq!(
            lines[1..],
            ["[ERROR][json_validation] Needed: \"ecs_cluster_name\", \"ecs_service_name\", and at least one of \
              \"ecs_image_name\", \"images\", \"ecs_tag\", \"service\", \"restore\", \"force_new_deployment\": true"]
        );
        lines[0].strip_prefix("[ERROR][json_validation] wrong input event format: ").unwrap().to_owned()
    }

    fn image(image: &str) -> ImageReference {
        ImageReference::parse(image).unwrap()
    }

    #[test]
    fn a_name_that_only_the_door_can_vouch_for_is_refused_where_it_does_not() {
        let vouched = Defaults { identity: Identity::Verified, ..defaults() };
        for (name, beginning) in [
            ("arn:aws:iam::1:user/ann", "arn:"),
            ("Cognito:1:ann", "cognito:"),
            ("iam:x", "iam:"),
            ("alias:x", "alias:"),
            ("oidc:x", "oidc:"),
        ] {
            let event = event(json!({"requested_by": name})).to_string();
            assert_eq!(
                refused(&event),
                format!(
                    "/requested_by: \"{name}\" begins with \"{beginning}\", as names do that the API door vouches for, and nobody vouches for \
                     this one: give a plain name, or send the event through the door, which says itself who asks"
                )
            );
            assert_eq!(parse(&event, &vouched).unwrap().requested_by.as_deref(), Some(name));
        }
        for name in ["ann", "ann@example.com", "release pipeline", "arnold", "DOMAIN\\ann", "job:7"] {
            assert_eq!(accepted(json!({"requested_by": name})).requested_by.as_deref(), Some(name));
        }
    }

    #[test]
    fn of_many_updates_each_name_is_looked_at_and_a_shared_one_is_told_once() {
        let faults = |event: Value| super::parse(event.to_string().as_bytes(), &defaults()).unwrap_err().message;
        let entries = json!([{"ecs_service_name": "a"}, {"ecs_service_name": "b", "requested_by": "arn:b"}, {"ecs_service_name": "c"}]);
        let shared =
            json!({"ecs_cluster_name": "c", "ecs_image_name": "nginx", "requested_by": "arn:a", "updates": entries});
        let told = faults(shared.clone());
        assert_eq!(
            (
                told.matches(" /requested_by: \"arn:a\"").count(),
                told.matches("/updates/1/requested_by: \"arn:b\"").count()
            ),
            (1, 1),
            "{told}"
        );
        let mut own = shared;
        own["requested_by"] = "ann".into();
        let told = faults(own);
        assert!(told.contains("format: /updates/1/requested_by: ") && !told.contains("arn:a"), "{told}");
    }

    #[test]
    fn an_integer_may_be_written_with_a_fraction_of_zero() {
        assert_eq!(accepted(json!({"wait_seconds": 20.0})).wait_seconds, 20);
        assert_eq!(accepted(json!({"wait_seconds": 8.4e2})).wait_seconds, 840);
        assert_eq!(accepted(json!({"wait_seconds": -0.0})).wait_seconds, 0);
    }

    #[test]
    fn the_first_versions_events() {
        let base = json!({
            "ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "ecs_image_name": "nginx",
            "ecs_tag": {"updated-tag-name": "updated-tag-value"}
        });
        let request = parse(&base.to_string(), &defaults()).unwrap();
        assert_eq!(request.service_key.to_string(), "111111111111/eu-west-1/ECSCluster/ecs-dummy-service");
        assert_eq!(request.image, ImageChange::Auto(image("nginx")));
        let tags = BTreeMap::from([("updated-tag-name".to_owned(), "updated-tag-value".to_owned())]);
        assert_eq!(request.tags, Some(TagChange { mode: TagMode::Replace, tags }));
        assert!(!request.dry_run && !request.force_new_deployment && request.parameters.is_empty());

        let mut wrong_image = base.clone();
        wrong_image["ecs_image_name"] = json!("@#®as_..p````");
        let failure = parse(&wrong_image.to_string(), &defaults()).unwrap_err();
        assert_eq!(failure.code, Code::InvalidImage);
        assert_eq!(
            failure.message,
            "[ERROR][ecs_service_update] new task_definition could not be created /ecs_image_name: \"@#®as_..p````\" \
             is not an image reference: the repository is missing"
        );

        let mut wrong_format = base.clone();
        wrong_format["ecs_image_name"] = json!({"image": "nginx"});
        assert_eq!(
            refused(&wrong_format.to_string()),
            "/ecs_image_name: {\"image\":\"nginx\"} is not of type \"string\": expected an image reference of at most \
             255 characters before its digest"
        );

        let missing_field =
            json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "MISSING": "x"});
        assert_eq!(
            refused(&missing_field.to_string()),
            "(event): \"ecs_image_name\" is a required property; (event): unknown field \"MISSING\""
        );
    }

    #[test]
    fn all_fields_arrive() {
        let request = accepted(json!({
            "account_id": "222222222222", "region": "us-gov-east-1", "container_name": "web",
            "ecs_image_name": "registry.example:5000/app:1.2", "ecs_tag": {}, "tag_mode": "merge",
            "service": {"desiredCount": null, "healthCheckGracePeriodSeconds": 0, "loadBalancers": [],
                        "networkConfiguration": {"awsvpcConfiguration": {"subnets": null, "x": 1.5e300}}},
            "resolve_digest": true, "check_image": true, "force_new_deployment": true, "expected_task_definition": "web:7", "dry_run": true,
            "wait_seconds": 840,
            "idempotency_key": "key", "requested_by": "me", "reason": "because"
        }));
        let event_hash = request.event_hash.clone();
        assert_eq!(
            request,
            UpdateRequest {
                service_key: ServiceKey::new(
                    AccountId::parse("222222222222").unwrap(),
                    Region::parse("us-gov-east-1").unwrap(),
                    EcsName::parse("c").unwrap(),
                    EcsName::parse("s").unwrap(),
                ),
                image: ImageChange::Containers(BTreeMap::from([(
                    "web".to_owned(),
                    image("registry.example:5000/app:1.2")
                )])),
                tags: Some(TagChange { mode: TagMode::Merge, tags: BTreeMap::new() }),
                parameters: json!({
                    "healthCheckGracePeriodSeconds": 0, "loadBalancers": [],
                    "networkConfiguration": {"awsvpcConfiguration": {"subnets": null, "x": 1.5e300}}
                })
                .as_object()
                .unwrap()
                .clone(),
                force_new_deployment: true,
                restore: None,
                lookup: ImageCheck::Pin,
                pins: ResolvedImages::default(),
                platforms: BTreeMap::new(),
                expected_task_definition: Some("web:7".to_owned()),
                dry_run: true,
                wait_seconds: 840,
                idempotency_key: Some("key".to_owned()),
                requested_by: Some("me".to_owned()),
                sent_at: None,
                pushed_tag: None,
                reason: Some("because".to_owned()),
                event_hash,
            }
        );
    }

    #[test]
    fn each_action_is_enough_alone() {
        for action in [
            json!({"ecs_image_name": "nginx"}),
            json!({"ecs_image_name": null, "images": {"web": "nginx", "log": "busybox"}}),
            json!({"ecs_image_name": null, "ecs_tag": {}}),
            json!({"ecs_image_name": null, "service": {"desiredCount": 0}}),
            json!({"ecs_image_name": null, "force_new_deployment": true}),
        ] {
            accepted(action);
        }
        let images = accepted(json!({"ecs_image_name": null, "images": {"web": "nginx", "log": "busybox"}})).image;
        let expected = [("log".to_owned(), image("busybox")), ("web".to_owned(), image("nginx"))];
        assert_eq!(images, ImageChange::Containers(BTreeMap::from(expected)));
        assert_eq!(accepted(json!({"ecs_image_name": null, "ecs_tag": {}})).image, ImageChange::None);
    }

    #[test]
    fn values_at_their_limits_are_accepted() {
        let tags: Map<_, _> = (0..50).map(|number| (format!("key-{number}"), json!(""))).collect();
        let containers: Map<_, _> = (0..10).map(|number| (format!("c{number}"), json!("nginx"))).collect();
        for fields in [
            json!({"ecs_tag": tags}),
            json!({"images": containers, "ecs_image_name": null}),
            json!({"ecs_cluster_name": "x".repeat(255), "ecs_service_name": "_".repeat(255)}),
            json!({"ecs_image_name": "x".repeat(255)}),
            json!({"ecs_image_name": format!("{}@sha256:{}", "x".repeat(255), "0".repeat(64))}),
            json!({"ecs_tag": {"k".repeat(128): "v".repeat(256), "ключ ключа_.:/=+-@": "値　値", "x-aws:": "²"}}),
            json!({"ecs_tag": {"𝐀".repeat(128): ""}}), // 128 characters, 512 bytes
            json!({"idempotency_key": "€".repeat(256), "requested_by": "€".repeat(256), "reason": "€".repeat(1024)}),
            json!({"expected_task_definition": format!("{}:1234567890", "f".repeat(255))}),
            json!({"account_id": "000000000000", "region": "eusc-de-east-1"}),
        ] {
            accepted(fields);
        }
    }

    fn assert_faults<const N: usize>(cases: [(Value, &str); N]) {
        for (fields, expected) in cases {
            let event = event(fields).to_string();
            assert_eq!(refused(&event), expected, "{event}");
        }
    }

    #[test]
    fn fields_that_came_later_leave_the_hash_of_events_without_them_alone() {
        let hash = |fields: Value| accepted(fields).event_hash;
        assert_eq!(hash(json!({"resolve_digest": false, "check_image": false})), hash(json!({})));
        assert_ne!(hash(json!({"resolve_digest": true})), hash(json!({})));
        assert_ne!(hash(json!({"check_image": true})), hash(json!({"resolve_digest": true})));
    }

    #[test]
    fn every_fault_has_its_place() {
        assert_faults([
            (json!({"ecs_cluster_name": null}), "(event): \"ecs_cluster_name\" is a required property"),
            (json!({"ecs_service_name": null}), "(event): \"ecs_service_name\" is a required property"),
            (json!({"ecs_image_name": null}), "(event): \"ecs_image_name\" is a required property"),
            (
                json!({"ecs_image_name": null, "force_new_deployment": false}),
                "(event): \"ecs_image_name\" is a required property",
            ),
            // Unknown fields, later ones among them.
            (json!({"ecs_image": "nginx"}), "(event): unknown field \"ecs_image\""),
            (
                json!({"restore": "last"}),
                "/ecs_image_name: not together with \"restore\"; /restore: \"last\" is not accepted: expected the change_id of a change of this service, or \"previous\"",
            ),
            (
                json!({"restore": 1}),
                "/ecs_image_name: not together with \"restore\"; /restore: 1 is not of type \"string\": expected the change_id of a change of this service, or \"previous\"",
            ),
            (
                json!({"restore": "previous", "ecs_tag": {}}),
                "/ecs_image_name: not together with \"restore\"; /ecs_tag: not together with \"restore\"",
            ),
            (json!({"wait_seconds": 841}), "/wait_seconds: 841 is greater than the maximum of 840"),
            (json!({"wait_seconds": -1}), "/wait_seconds: -1 is less than the minimum of 0"),
            (json!({"wait_seconds": 1.5}), "/wait_seconds: 1.5 is not of type \"integer\""),
            (json!({"resolve_digest": 1}), "/resolve_digest: 1 is not of type \"boolean\""),
            (json!({"summary_only": true}), "/summary_only: only together with \"updates\""),
            (json!({"a\n[ERROR]": 1}), "(event): unknown field \"a\\n[ERROR]\""),
            // Account and region.
            (
                json!({"account_id": "2222222222222"}),
                "/account_id: \"2222222222222\" is not accepted: expected 12 digits, as a string in quotes",
            ),
            (
                json!({"account_id": 222_222_222_222_u64}),
                "/account_id: 222222222222 is not of type \"string\": expected 12 digits, as a string in quotes",
            ),
            (
                json!({"account_id": "２２２２２２２２２２２２"}),
                "/account_id: \"２２２２２２２２２２２２\" is not accepted: expected 12 digits, as a string in quotes",
            ),
            (json!({"account_id": ""}), "/account_id: \"\" is not accepted: expected 12 digits, as a string in quotes"),
            (json!({"region": "EU"}), "/region: \"EU\" is not accepted: expected a region such as \"eu-west-1\""),
            (
                json!({"region": "eu-west-1.evil.example"}),
                "/region: \"eu-west-1.evil.example\" is not accepted: expected a region such as \"eu-west-1\"",
            ),
            // Names.
            (json!({"ecs_cluster_name": ""}), "/ecs_cluster_name: \"\" is shorter than 1 character"),
            (
                json!({"ecs_cluster_name": "a b"}),
                "/ecs_cluster_name: \"a b\" is not accepted: expected a name of 1 to 255 letters, digits, \"_\" \
                 and \"-\"",
            ),
            (
                json!({"ecs_cluster_name": "arn:aws:ecs:eu-west-1:222222222222:cluster/prod"}),
                "/ecs_cluster_name: \"arn:aws:ecs:eu-west-1:222222222222:cluster/prod\" is an ARN: use the name, \
                 \"prod\"",
            ),
            (
                json!({"ecs_service_name": "arn:aws:ecs:eu-west-1:222222222222:service/prod/edge"}),
                "/ecs_service_name: \"arn:aws:ecs:eu-west-1:222222222222:service/prod/edge\" is an ARN: use the name, \
                 \"edge\"",
            ),
            (json!({"ecs_service_name": "arn:aws:ecs"}), "/ecs_service_name: \"arn:aws:ecs\" is an ARN: use the name"),
        ]);
    }

    #[test]
    fn faults_of_images_and_tags() {
        assert_faults([
            // Images.
            (json!({"ecs_image_name": ""}), "/ecs_image_name: \"\" is shorter than 1 character"),
            (json!({"images": {"web": "nginx"}}), "/ecs_image_name: not together with \"images\""),
            (json!({"images": {}, "ecs_image_name": null}), "/images: {} has less than 1 property"),
            (
                json!({"images": {"a b": "nginx"}, "ecs_image_name": null}),
                "/images/a b: \"a b\" is not accepted: expected a name of 1 to 255 letters, digits, \"_\" \
                 and \"-\"",
            ),
            (
                json!({"images": {"web": 1}, "ecs_image_name": null}),
                "/images/web: 1 is not of type \"string\": expected an image reference of at most 255 characters \
                 before its digest",
            ),
            (json!({"images": {"web": ""}, "ecs_image_name": null}), "/images/web: \"\" is shorter than 1 character"),
            (json!({"container_name": ""}), "/container_name: \"\" is shorter than 1 character"),
            (
                json!({"container_name": "web", "ecs_image_name": null, "ecs_tag": {}}),
                "/container_name: only together with \"ecs_image_name\"",
            ),
            // Tags.
            (json!({"ecs_tag": []}), "/ecs_tag: [] is not of type \"object\""),
            (json!({"ecs_tag": {"": ""}}), "/ecs_tag/: \"\" is shorter than 1 character"),
            (
                json!({"ecs_tag": {"aWs:x": ""}}),
                "/ecs_tag/aWs:x: \"aWs:x\" is not accepted: \"aws:\" in any case belongs to AWS",
            ),
            (
                json!({"ecs_tag": {"AWS:": ""}}),
                "/ecs_tag/AWS:: \"AWS:\" is not accepted: \"aws:\" in any case belongs to AWS",
            ),
            (
                json!({"ecs_tag": {"x": "AWS:y"}}),
                "/ecs_tag/x: \"AWS:y\" is not accepted: \"aws:\" in any case belongs to AWS",
            ),
            (
                json!({"ecs_tag": {"a/b~": "#"}}),
                "/ecs_tag/a~1b~0: \"#\" is not accepted: expected letters, digits, spaces and _ . : / = + - @; \
                 /ecs_tag/a~1b~0: \"a/b~\" is not accepted: expected letters, digits, spaces and _ . : / = + - @",
            ),
            (
                json!({"ecs_tag": {"x": 1}}),
                "/ecs_tag/x: 1 is not of type \"string\": expected letters, digits, spaces and _ . : / = + - @",
            ),
            (
                json!({"ecs_tag": {"a\tb": ""}}),
                "/ecs_tag/a\\u{9}b: \"a\\tb\" is not accepted: expected letters, digits, spaces and _ . : / = + - @",
            ),
            (
                json!({"ecs_tag": {}, "tag_mode": "Merge"}),
                "/tag_mode: \"Merge\" is not one of \"replace\" or \"merge\"",
            ),
            (json!({"tag_mode": "merge"}), "/tag_mode: only together with \"ecs_tag\""),
        ]);
    }

    #[test]
    fn faults_of_parameters_and_the_rest() {
        assert_faults([
            // Further parameters.
            (json!({"service": {}}), "/service: {} has less than 1 property"),
            (json!({"service": [1]}), "/service: [1] is not of type \"object\""),
            (json!({"service": {"desiredcount": 1}}), "/service: unknown field \"desiredcount\""),
            (
                json!({"service": {"taskDefinition": "web:7"}}),
                "/service: unknown field \"taskDefinition\": it follows from \"ecs_image_name\" or \"images\"",
            ),
            (
                json!({"service": {"forceNewDeployment": true, "tags": null}}),
                "/service: unknown field \"forceNewDeployment\": use \"force_new_deployment\"; \
                 /service: unknown field \"tags\": use \"ecs_tag\"",
            ),
            // The rest.
            (json!({"dry_run": "true"}), "/dry_run: \"true\" is not of type \"boolean\""),
            (json!({"force_new_deployment": 1}), "/force_new_deployment: 1 is not of type \"boolean\""),
            (json!({"idempotency_key": ""}), "/idempotency_key: \"\" is shorter than 1 character"),
            (json!({"requested_by": ""}), "/requested_by: \"\" is shorter than 1 character"),
            (json!({"reason": ""}), "/reason: \"\" is shorter than 1 character"),
            (
                json!({"expected_task_definition": "web"}),
                "/expected_task_definition: \"web\" is not accepted: expected family:revision, such as \"web:7\"",
            ),
            (
                json!({"expected_task_definition": "web:0"}),
                "/expected_task_definition: \"web:0\" is not accepted: expected family:revision, such as \"web:7\"",
            ),
            (
                json!({"expected_task_definition": "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7"}),
                "/expected_task_definition: \"arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7\" is an ARN: \
                 use family:revision, \"web:7\"",
            ),
            // NUL, wherever it stands.
            (json!({"reason": "a\0b"}), "/reason: \"a\\0b\" holds a NUL character"),
            (
                json!({"service": {"desiredCount": [{"x\0": 1}]}}),
                "/service/desiredCount/0/x\\u{0}: \"x\\0\" holds a NUL character",
            ),
            (
                json!({"service": {"desiredCount": {"a": ["\0"]}}}),
                "/service/desiredCount/a/0: \"\\0\" holds a NUL character",
            ),
        ]);
    }

    #[test]
    fn long_values_are_shortened() {
        let tags: Map<_, _> = (0..51).map(|number| (format!("key-{number:02}"), json!(""))).collect();
        let containers: Map<_, _> = (0..11).map(|number| (format!("c{number}"), json!("nginx"))).collect();
        let x = |count| "x".repeat(count);
        let cases = [
            (json!({"ecs_service_name": x(256)}), "… is longer than 255 characters"),
            (
                json!({"ecs_image_name": x(256)}),
                "… is not accepted: expected an image reference of at most 255 characters before its digest",
            ),
            (json!({"images": containers, "ecs_image_name": null}), "… has more than 10 properties"),
            (json!({"ecs_tag": tags}), "… has more than 50 properties"),
            (json!({"ecs_tag": {x(129): ""}}), "… is longer than 128 characters"),
            (json!({"ecs_tag": {"x": x(257)}}), "… is longer than 256 characters"),
            (json!({"idempotency_key": x(257)}), "… is longer than 256 characters"),
            (json!({"requested_by": "🦀".repeat(257)}), "… is longer than 256 characters"),
            (json!({"reason": x(1025)}), "… is longer than 1024 characters"),
            (json!({"reason": x(1_000_000)}), "… is longer than 1024 characters"),
            (json!({"dry_run": {"x": [x(1_000_000)]}}), "… is not of type \"boolean\""),
            (json!({x(1_000_000): ""}), "…"),
        ];
        for (fields, end) in cases {
            let faults = refused(&event(fields).to_string());
            assert!(faults.ends_with(end), "{faults}");
            assert!(faults.chars().count() < 400, "{faults}");
        }
    }

    #[test]
    fn many_faults_are_counted() {
        let tags: Map<_, _> = (0..45).map(|number| (format!("key-{number:02}"), json!(number))).collect();
        let faults = refused(&event(json!({"ecs_tag": tags})).to_string());
        assert_eq!(faults.matches("is not of type").count(), 20, "{faults}");
        assert!(
            faults.starts_with("/ecs_tag/key-00: 0 is not of type") && faults.ends_with("; and 25 more"),
            "{faults}"
        );

        let tags: Map<_, _> = (0..20).map(|number| (format!("key-{number:02}"), json!(number))).collect();
        let faults = refused(&event(json!({"ecs_tag": tags})).to_string());
        assert!(faults.contains("/ecs_tag/key-19:") && !faults.contains("more"), "{faults}");
    }

    #[test]
    fn what_is_no_json_object() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let good = r#"{"ecs_cluster_name": "c", "ecs_service_name": "s", "ecs_image_name": "nginx"}"#;
        let cases = [
            (String::new(), "(event): not accepted as JSON: EOF while parsing a value at line 1 column 0"),
            ("nginx".to_owned(), "(event): not accepted as JSON: expected ident at line 1 column 2"),
            ("{\n\"a\": 'b'}".to_owned(), "(event): not accepted as JSON: expected value at line 2 column 6"),
            (format!("{good} x"), "(event): not accepted as JSON: trailing characters at line 1 column 79"),
            (format!("\u{feff}{good}"), "(event): not accepted as JSON: expected value at line 1 column 1"),
            (deep(200), "(event): not accepted as JSON: recursion limit exceeded at line 1 column 128"),
            (deep(1_000_000), "(event): not accepted as JSON: recursion limit exceeded at line 1 column 128"),
            (
                good.replace("nginx", r"\ud83e"),
                "(event): not accepted as JSON: unexpected end of hex escape at line 1 column 77",
            ),
            (
                good.replace("nginx", r"\ude00"),
                "(event): not accepted as JSON: lone leading surrogate in hex escape at line 1 column 76",
            ),
            (
                good.replace("nginx", "\0"),
                "(event): not accepted as JSON: control character (\\u0000-\\u001F) found while parsing a string \
                 at line 1 column 71",
            ),
            (
                good.replace("\"nginx\"", "1e999"),
                "(event): not accepted as JSON: number out of range at line 1 column 74",
            ),
            (
                r#"{"ecs_tag": {"env": "a", "\u0065nv": "b"}}"#.to_owned(),
                "(event): not accepted as JSON: duplicate field \"env\" at line 1 column 35",
            ),
            (
                format!("[{}0]", "0,".repeat(MAX_VALUES)),
                "(event): not accepted as JSON: more than 50000 values at line 1 column 99999",
            ),
            ("[]".to_owned(), "(event): [] is not of type \"object\""),
            ("null".to_owned(), "(event): null is not of type \"object\""),
            ("\"{}\"".to_owned(), "(event): \"{}\" is not of type \"object\""),
            (deep(100), "is not of type \"object\""),
            (" ".repeat(8_000_000), "(event): it has 8000000 bytes, and at most 6291456 are accepted"),
        ];
        for (event, expected) in cases {
            let faults = refused(&event);
            assert!(faults.ends_with(expected), "{faults}\n{expected}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8() {
        let failure = super::parse(b"{\"reason\": \"\xff\"}", &defaults()).unwrap_err();
        assert_eq!(failure.code, Code::JsonValidation);
        assert!(
            failure.message.contains("(event): not UTF-8 text: a wrong byte at offset 12\n"),
            "{}",
            failure.message
        );
        // A surrogate in UTF-8 clothes.
        assert!(super::parse(b"\"\xed\xa0\x80\"", &defaults()).unwrap_err().message.contains("not UTF-8"));
        assert!(super::parse(event(json!({})).to_string().as_bytes(), &defaults()).is_ok());
    }

    #[test]
    fn wrong_images_are_told_all_at_once() {
        let fields = json!({"ecs_image_name": null, "images": {"a": "nginx:", "b": "NGINX", "c": "nginx"}});
        let failure = parse(&event(fields).to_string(), &defaults()).unwrap_err();
        assert_eq!(failure.code, Code::InvalidImage);
        assert_eq!(
            failure.message,
            "[ERROR][ecs_service_update] new task_definition could not be created \
             /images/a: \"nginx:\" is not an image reference: the tag after \":\" is empty; \
             /images/b: \"NGINX\" is not an image reference: the repository must be in lowercase, and \"NGINX\" is not"
        );
        for wrong in ["nginx:", "NGINX", "a//b", ":5000/x", "nginx@sha256:abc", " ", "https://registry.example/x"] {
            let failure = parse(&event(json!({"ecs_image_name": wrong})).to_string(), &defaults()).unwrap_err();
            assert_eq!(failure.code, Code::InvalidImage, "{wrong:?}");
        }
        // What the schema refuses comes first.
        assert_eq!(
            refused(&event(json!({"ecs_image_name": "NGINX", "dry_run": 1})).to_string()),
            "/dry_run: 1 is not of type \"boolean\""
        );
    }

    #[test]
    fn the_own_account_and_region_fill_in() {
        let unknown = Defaults { account_id: None, ..defaults() };
        let own = accepted(json!({})).service_key;
        assert_eq!(own.to_string(), "111111111111/eu-west-1/c/s");
        let named = event(json!({"account_id": "222222222222"})).to_string();
        assert_eq!(parse(&named, &unknown).unwrap().service_key.to_string(), "222222222222/eu-west-1/c/s");
        let failure = parse(&event(json!({})).to_string(), &unknown).unwrap_err();
        assert!(failure.message.contains("\"account_id\" is a required property"), "{}", failure.message);
        assert_eq!(failure.code, Code::JsonValidation);
    }

    #[test]
    fn the_hash_is_that_of_what_is_asked_for() {
        let hash = |fields| accepted(fields).event_hash;
        // Of {"account_id":"111111111111","dry_run":false,"ecs_cluster_name":"c","ecs_image_name":"nginx",
        // "ecs_service_name":"s","force_new_deployment":false,"region":"eu-west-1","service":{"desiredCount":2},
        // "tag_mode":"replace"}, made by another program.
        let known = "16c216f90463a2f0d973695f6d0812754383090e1577ec8cfe04eb7ff924c1bb";
        let asked = json!({"service": {"desiredCount": 2}});
        assert_eq!(hash(asked.clone()), known);
        let written_otherwise = r#" {"service": {"desiredCount": 2.0}, "ecs_service_name": "s", "region": "eu-west-1",
            "idempotency_key": "k", "ecs_cluster_name": "\u0063", "ecs_image_name": "nginx",
            "account_id": "111111111111"} "#;
        assert_eq!(parse(written_otherwise, &defaults()).unwrap().event_hash, known);
        for other in [
            json!({"account_id": "222222222222"}),
            json!({"region": "us-east-1"}),
            json!({"ecs_image_name": "nginx:2"}),
            json!({"dry_run": true}),
            json!({"reason": "x"}),
            json!({"service": {"desiredCount": null}}),
            json!({"service": {"desiredCount": 3}}),
        ] {
            let mut fields = asked.clone();
            fields.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
            assert_ne!(hash(fields), known, "{other}");
        }
    }

    /// Calls `visit` with every object of a document and its JSON pointer.
    fn visit_objects(path: &str, value: &Value, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
        if let Some(object) = value.as_object() {
            visit(path, object);
            for (name, value) in object {
                visit_objects(&format!("{path}/{name}"), value, visit);
            }
        }
    }

    #[test]
    fn schemas_are_valid_and_every_field_is_documented() {
        for text in [EVENT_SCHEMA, RESPONSE_SCHEMA] {
            let schema: Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
            jsonschema::meta::validate(&schema).unwrap();
            let mut documented = 0;
            visit_objects("", &schema, &mut |path, object| {
                let Some(fields) = object.get("properties").and_then(Value::as_object) else { return };
                // Conditions name fields again.
                if ["/if", "/then", "/else", "/anyOf", "/dependentSchemas", "/items"]
                    .iter()
                    .any(|part| path.contains(part))
                {
                    return;
                }
                for (name, field) in fields {
                    let documentation = field.get("$ref").and_then(Value::as_str).map_or(field, |target| {
                        if field.get("title").is_some() { field } else { schema.pointer(&target[1..]).unwrap() }
                    });
                    for keyword in ["title", "description"] {
                        assert!(documentation[keyword].as_str().is_some_and(|text| !text.is_empty()), "{path}/{name}");
                    }
                    documented += 1;
                }
            });
            assert!(documented > 20, "{documented}");
        }
    }

    #[test]
    fn the_schemas_examples_are_accepted() {
        let schema: Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
        for example in schema["examples"].as_array().unwrap() {
            super::parse(example.to_string().as_bytes(), &defaults()).unwrap();
        }
    }

    fn many(event: &Value) -> Result<Batch, Failure> {
        match super::parse(event.to_string().as_bytes(), &defaults())? {
            Event::Many(batch) => Ok(batch),
            Event::One(request) => panic!("{request:?}"),
        }
    }

    #[test]
    fn shared_fields_do_not_make_more_of_an_event_than_it_may_be() {
        let event = |count: usize| {
            let updates: Vec<Value> = (0..count).map(|n| json!({"ecs_service_name": format!("s{n}")})).collect();
            json!({"ecs_cluster_name": "c", "ecs_image_name": "nginx", "updates": updates,
                   "service": {"networkConfiguration": {"x": "y".repeat(100_000)}}})
        };
        assert_eq!(many(&event(62)).unwrap().updates.len(), 62);
        let message = many(&event(63)).unwrap_err().message;
        assert!(message.contains("/updates: the shared fields in each of 63 entries would make 6"), "{message}");
    }

    #[test]
    fn a_shared_field_applies_to_every_entry_that_does_not_set_its_own() {
        let batch = many(&json!({
            "ecs_cluster_name": "c", "ecs_service_name": "s", "ecs_image_name": "nginx:1", "reason": "release",
            "summary_only": true,
            "updates": [{"account_id": "222222222222"},
                        {"region": "us-east-1", "ecs_image_name": "nginx:2", "idempotency_key": "k"}]
        }))
        .unwrap();
        assert!(batch.summary_only);
        let [first, second] = &batch.updates[..] else { panic!("{batch:?}") };
        assert_eq!(first.service_key.to_string(), "222222222222/eu-west-1/c/s");
        assert_eq!(second.service_key.to_string(), "111111111111/us-east-1/c/s");
        assert_eq!(first.image, ImageChange::Auto(image("nginx:1")));
        assert_eq!(second.image, ImageChange::Auto(image("nginx:2")));
        assert_eq!((first.reason.as_deref(), second.idempotency_key.as_deref()), (Some("release"), Some("k")));
        // As if it had been sent alone: the same key answers either way.
        let alone = accepted(json!({"account_id": "222222222222", "ecs_image_name": "nginx:1", "reason": "release"}));
        assert_eq!(*first, alone);
    }

    #[test]
    fn one_bad_entry_and_the_whole_event_is_refused_by_its_place() {
        let entry = |name: &str| json!({"ecs_service_name": name});
        let event = |updates: Value| json!({"ecs_cluster_name": "c", "ecs_image_name": "nginx", "updates": updates});
        for (event, faults) in [
            (event(json!([])), "/updates: [] has less than 1 item"),
            (event(Value::Null), "/updates: null is not of type \"array\""),
            (event(json!([entry("a"), {}])), "/updates/1: \"ecs_service_name\" is a required property"),
            (event(json!([entry("a"), 7])), "/updates/1: 7 is not of type \"object\""),
            (
                event(json!([entry("a"), entry("b"), entry("a")])),
                "/updates/2: the same service as /updates/0: 111111111111/eu-west-1/c/a",
            ),
            (
                event(
                    json!([entry("a"), {"ecs_service_name": "a", "account_id": "111111111111", "region": "eu-west-1"}]),
                ),
                "/updates/1: the same service as /updates/0: 111111111111/eu-west-1/c/a",
            ),
            (event(json!([{"ecs_service_name": "a", "updates": []}])), "/updates/0: unknown field \"updates\""),
            (
                event(json!([{"ecs_service_name": "a", "summary_only": true}])),
                "/updates/0: unknown field \"summary_only\"",
            ),
            (
                event(json!([entry("a"), {"ecs_service_name": "b", "images": {"web": "nginx"}}])),
                "/updates/1/ecs_image_name: not together with \"images\"",
            ),
            (
                event(json!([entry("arn:aws:ecs:eu-west-1:222222222222:service/c/s")])),
                "/updates/0/ecs_service_name: \"arn:aws:ecs:eu-west-1:222222222222:service/c/s\" is an ARN: use the name, \"s\"",
            ),
            (
                json!({"ecs_cluster_name": "c", "updates": [entry("a")]}),
                "/updates/0: \"ecs_image_name\" is a required property",
            ),
        ] {
            let failure = many(&event).unwrap_err();
            assert_eq!(failure.code, Code::JsonValidation);
            let told = failure
                .message
                .lines()
                .next()
                .unwrap()
                .replace("[ERROR][json_validation] wrong input event format: ", "");
            assert_eq!(told, faults, "{event}");
        }
        let too_many: Vec<_> = (0..501).map(|n| entry(&format!("s{n}"))).collect();
        let failure = many(&event(json!(too_many))).unwrap_err();
        assert!(failure.message.contains("/updates: ") && failure.message.contains("500"), "{failure}");
        assert!(failure.message.len() < 2000, "{failure}");
        let enough: Vec<_> = (0..500).map(|n| entry(&format!("s{n}"))).collect();
        assert_eq!(many(&event(json!(enough))).unwrap().updates.len(), 500);
    }

    #[test]
    fn wrong_images_of_many_are_told_once_where_they_stand() {
        let failure = many(&json!({
            "ecs_cluster_name": "c", "ecs_image_name": "UPPER",
            "updates": [{"ecs_service_name": "a"}, {"ecs_service_name": "b"},
                        {"ecs_service_name": "d", "ecs_image_name": "also:wrong:"}]
        }))
        .unwrap_err();
        assert_eq!(failure.code, Code::InvalidImage);
        assert_eq!(failure.message.matches("/ecs_image_name: ").count(), 2, "{failure}");
        assert!(failure.message.contains("created /ecs_image_name: \"UPPER\""), "{failure}");
        assert!(failure.message.contains("; /updates/2/ecs_image_name: \"also:wrong:\""), "{failure}");
    }

    #[test]
    fn words_and_schema_agree() {
        let schema: Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
        // Who meets a pattern gets it in words.
        let mut with_pattern = BTreeSet::new();
        visit_objects("", &schema, &mut |path, object| {
            if object.contains_key("pattern") && !path.ends_with("/not") {
                with_pattern.insert(path.strip_prefix("/$defs/").unwrap().to_owned());
            }
        });
        let in_words: BTreeSet<_> = EXPECTATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(in_words, with_pattern);

        let list =
            |value: &Value| -> Vec<String> { value.as_array().unwrap().iter().map(|name| format!("{name}")).collect() };
        let actions: Vec<_> =
            schema["then"]["anyOf"].as_array().unwrap().iter().map(|one| list(&one["required"]).concat()).collect();
        let needed = format!(
            "{}, and at least one of {}: true",
            list(&schema["then"]["required"]).join(", "),
            actions.join(", ")
        );
        assert_eq!(NEEDED, needed);
    }

    #[test]
    fn the_response_schema_tells_answers_apart() {
        let schema: Value = serde_json::from_str(RESPONSE_SCHEMA).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let state = json!({
            "clusterArn": "arn:aws:ecs:eu-west-1:222222222222:cluster/c",
            "serviceArn": "arn:aws:ecs:eu-west-1:222222222222:service/c/s",
            "taskDefinitionName": "web", "taskDefinitionFamily": "web",
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7",
            "serviceImage": "busybox", "images": {"web": "busybox"}, "serviceMemory": null,
            "tags": [{"key": "k", "value": ""}], "updatedOn": "2026-11-22T09:30:00.123Z"
        });
        let applied = json!({"statusCode": 200, "body": {
            "change_id": "01935321-1234-7abc-89ef-0123456789ab", "status": "APPLIED", "account_id": "222222222222",
            "region": "eu-west-1", "ecs_cluster_name": "c", "ecs_service_name": "s", "deployment_id": "ecs-svc/1",
            "timestamp": "2026-11-22T09:30:00.123Z", "replayed": false, "BEFORE": state, "AFTER": state
        }});
        let with = |path: &str, value: Value| {
            let mut answer = applied.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            answer.pointer_mut(parent).unwrap()[name] = value;
            answer
        };
        let without = |path: &str| {
            let mut answer = applied.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            answer.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            answer
        };
        let mut planned = with("/body/status", json!("PLANNED"));
        planned["body"].as_object_mut().unwrap().remove("change_id");
        let planned_without_changes = planned.clone();
        planned["body"]["changes"] = json!([{"what": "image", "path": "web", "from": "busybox", "to": "nginx"},
                                           {"what": "desiredCount", "from": null, "to": 2}]);
        planned["body"]["notes"] = json!(["needs a new deployment"]);
        planned["body"]["AFTER"]["taskDefinitionArn"] = json!(null);
        for good in [
            applied.clone(),
            planned.clone(),
            with("/body/status", json!("UNCHANGED")),
            with("/body/changes", json!([])),
            with("/body/changes", planned["body"]["changes"].clone()),
            with("/body/deployment_id", json!(null)),
            with("/body/BEFORE/serviceMemory", json!(64)),
            with("/body/BEFORE/updatedOn", json!(null)),
        ] {
            let faults: Vec<_> = validator.iter_errors(&good).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{good}: {faults:?}");
        }
        let fields = [
            "change_id",
            "status",
            "account_id",
            "region",
            "ecs_cluster_name",
            "ecs_service_name",
            "deployment_id",
            "timestamp",
            "replayed",
            "BEFORE",
            "AFTER",
        ];
        for field in fields {
            assert!(!validator.is_valid(&without(&format!("/body/{field}"))), "{field}");
        }
        for field in state.as_object().unwrap().keys() {
            assert!(!validator.is_valid(&without(&format!("/body/BEFORE/{field}"))), "{field}");
            assert!(!validator.is_valid(&without(&format!("/body/AFTER/{field}"))), "{field}");
        }
        for bad in [
            planned_without_changes,
            with("/body/changes", json!([{"what": "image", "path": "web"}])),
            with("/body/status", json!("DONE")),
            with("/body/timestamp", json!("2026-11-22T09:30:00Z")),
            with("/body/change_id", json!("01935321-1234-4abc-89ef-0123456789ab")),
            with("/body/unknown", json!(1)),
            with("/body/BEFORE/unknown", json!(1)),
            with("/body/BEFORE/tags", json!([{"Key": "k", "Value": ""}])),
            with("/body/BEFORE/updatedOn", json!(1_795_339_800)),
            with("/statusCode", json!("200")),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }

    /// Whether the schema's definition of this name takes the text.
    fn schema_takes(definition: &str, text: &str) -> bool {
        thread_local! {
            static DEFINITIONS: BTreeMap<&'static str, Validator> = ["account_id", "region", "name"]
                .map(|name| {
                    let schema: Value = serde_json::from_str(EVENT_SCHEMA).unwrap();
                    (name, jsonschema::draft202012::new(&schema["$defs"][name]).unwrap())
                })
                .into();
        }
        DEFINITIONS.with(|definitions| definitions[definition].is_valid(&json!(text)))
    }

    /// Any JSON, shallow, with texts that hurt.
    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<String>(), "(aws:|arn:|/|~|\u{0}|\u{1F980}|\n|[a-z]){0,120}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(text.clone(), inner, 0..8)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn schema_and_types_agree(
            account in "[0-9٣]{11,13}|.{0,3}",
            region in "[a-zE0-9.-]{0,14}|[a-z]{1,4}(-[a-z]{0,10}){0,4}-[0-9a]{0,2}",
            name in "[a-zA-Z0-9_-]{0,3}[ /ä\n.]?|[a-z]{253,257}",
        ) {
            prop_assert_eq!(AccountId::parse(&account).is_ok(), schema_takes("account_id", &account), "{:?}", account);
            prop_assert_eq!(Region::parse(&region).is_ok(), schema_takes("region", &region), "{:?}", region);
            prop_assert_eq!(EcsName::parse(&name).is_ok(), schema_takes("name", &name), "{:?}", name);
        }

        /// Whatever stands in a field: a request, or a short message of two lines.
        #[test]
        fn any_event_is_accepted_or_refused_clearly(
            field in prop::sample::select(vec![
                "account_id", "region", "ecs_cluster_name", "ecs_service_name", "ecs_image_name", "container_name",
                "images", "ecs_tag", "tag_mode", "service", "restore", "force_new_deployment", "expected_task_definition",
                "dry_run", "wait_seconds", "idempotency_key", "requested_by", "reason", "other",
            ]),
            value in any_json(),
        ) {
            let mut event = event(json!({}));
            event[field] = value;
            if let Err(failure) = parse(&event.to_string(), &defaults()) {
                let lines = if failure.code == Code::JsonValidation { 2 } else { 1 };
                let message = failure.message.replacen('\n', "", lines - 1);
                prop_assert!(!message.contains(char::is_control), "{:?}", message);
                prop_assert!(message.chars().count() < 50_000);
            }
        }

        #[test]
        fn no_text_panics(event in any_json(), garbage: Vec<u8>) {
            let _ = parse(&event.to_string(), &defaults());
            let _ = super::parse(&garbage, &defaults());
        }

        /// Reading keeps every value as `serde_json` does.
        #[test]
        fn reading_changes_nothing(event in any_json()) {
            let text = event.to_string();
            prop_assert_eq!(read(&text), Ok(serde_json::from_str::<Value>(&text).unwrap()));
        }
    }
}
