//! Update events: text to requests, or to a refusal that a person can read.

use std::collections::BTreeSet;

use domain::error::{Code, Failure};
use domain::event::parse::{self, Defaults, Event};
use domain::event::request::{ImageChange, UpdateRequest};
use domain::ids::Identity;
use domain::ids::{AccountId, Region};
use serde_json::{Map, Value};

/// Twenty faults of a few hundred characters, and what is needed.
const MAX_MESSAGE: usize = 30_000;

pub(crate) fn defaults() -> Defaults {
    Defaults {
        account_id: Some(AccountId::parse("111111111111").unwrap()),
        region: Region::parse("eu-west-1").unwrap(),
        identity: Identity::Claimed,
    }
}

fn parse(event: &str) -> Result<Event, Failure> {
    parse::parse(event.as_bytes(), &defaults())
}

pub(crate) fn check(data: &[u8]) {
    match parse::parse(data, &defaults()) {
        Err(failure) => refused(data, &failure),
        Ok(event) => accepted(data, &event),
    }
}

fn refused(data: &[u8], failure: &Failure) {
    let lines = match failure.code {
        Code::JsonValidation => 2,
        Code::InvalidImage => 1,
        code => panic!("{code}: {failure}"),
    };
    super::check_message(&failure.message, lines, MAX_MESSAGE);
    assert!(!failure.retryable, "{failure}");
    // The types behind the schema take whatever the schema takes: their words are not for callers.
    let told = failure.message.split_once("wrong input event format: (event): ").map_or("", |(_, told)| told);
    for words in ["invalid type", "invalid value", "missing field", "unknown variant", "duplicate field"] {
        assert!(!told.starts_with(words), "the schema takes what the types do not: {failure}");
    }
    assert_eq!(parse::parse(data, &defaults()).as_ref(), Err(failure), "refused otherwise the second time");
    let diagnostic = ecs_updater::runtime::diagnostic(failure.clone());
    assert_eq!((diagnostic.error_type.as_str(), &diagnostic.error_message), (failure.code.as_str(), &failure.message));
}

fn accepted(data: &[u8], event: &Event) {
    let value: Value = serde_json::from_slice(data).unwrap();
    assert_eq!(parse(&value.to_string()).as_ref(), Ok(event), "its JSON written anew is another event");
    let canonical = serde_json_canonicalizer::to_string(&value).unwrap();
    let again = parse(&canonical).unwrap();
    let (requests, again) = (requests(event), requests(&again));
    assert_eq!(requests.len(), again.len());
    for (request, again) in requests.iter().zip(&again) {
        // RFC 8785 writes 1.0 as 1: the same value, and another text.
        let same_numbers = UpdateRequest { parameters: request.parameters.clone(), ..(**again).clone() };
        assert_eq!(**request, same_numbers, "its canonical JSON is another event");
    }
    for request in &requests {
        sound(request);
    }
    if let Event::Many(batch) = event {
        alone(&value, &batch.updates);
    }
    hash(&value, &requests);
}

fn requests(event: &Event) -> Vec<&UpdateRequest> {
    match event {
        Event::One(request) => vec![request],
        Event::Many(batch) => batch.updates.iter().collect(),
    }
}

/// What a request holds is what a request can hold.
fn sound(request: &UpdateRequest) {
    assert!(request.parameters.values().all(|value| !value.is_null()), "{request:?}");
    assert!(request.wait_seconds <= 840 && request.pins.0.is_empty() && request.platforms.is_empty());
    assert!(request.restore.is_none() || (request.image == ImageChange::None && request.tags.is_none()));
    assert_eq!(request.event_hash.len(), 64);
    let tags = request.tags.iter().flat_map(|change| &change.tags);
    for (key, value) in tags {
        let is_of_aws = |text: &str| text.to_ascii_lowercase().starts_with("aws:");
        assert!(!is_of_aws(key) && !is_of_aws(value), "{key}: {value}");
        assert!(!key.is_empty() && key.chars().count() <= 128 && value.chars().count() <= 256, "{key}: {value}");
    }
    if let ImageChange::Containers(images) = &request.image {
        assert!((1..=10).contains(&images.len()));
    }
}

/// Each entry is the request that it would be alone, with the shared fields.
fn alone(event: &Value, updates: &[UpdateRequest]) {
    let entries = event["updates"].as_array().unwrap();
    assert_eq!(entries.len(), updates.len());
    let services: BTreeSet<_> = updates.iter().map(|request| &request.service_key).collect();
    assert_eq!(services.len(), updates.len(), "a service is in it twice");
    let mut shared: Map<String, Value> = event.as_object().unwrap().clone();
    shared.remove("updates");
    shared.remove("summary_only");
    for (entry, request) in entries.iter().zip(updates).take(8) {
        let mut own = shared.clone();
        own.extend(entry.as_object().unwrap().clone());
        match parse(&Value::Object(own).to_string()) {
            Ok(Event::One(own)) => assert_eq!(&*own, request),
            other => panic!("{other:?}"),
        }
    }
}

/// The hash is that of what is asked for: not of the key, and of every reason.
fn hash(event: &Value, requests: &[&UpdateRequest]) {
    let with = |name: &str, text: &str| {
        let mut event = event.clone();
        for entry in event.get_mut("updates").and_then(Value::as_array_mut).into_iter().flatten() {
            entry.as_object_mut().unwrap().remove(name);
        }
        event[name] = text.into();
        // Where every entry gets it, an event of much that is shared may become too long.
        parse(&event.to_string()).ok()
    };
    let another_key = with("idempotency_key", "another key");
    for (request, other) in requests.iter().zip(another_key.iter().flat_map(self::requests)) {
        assert_eq!(request.event_hash, other.event_hash);
    }
    let another_reason = with("reason", "another reason, which no event has");
    for (request, other) in requests.iter().zip(another_reason.iter().flat_map(self::requests)) {
        assert!(request.event_hash != other.event_hash || request.reason == other.reason);
    }
}
