//! What is accepted, and what it becomes.

use serde_json::{Map, json};

use super::fault_tests::refused;
use super::parse_one as parse;
use super::*;
use crate::ecs::tags::TagMode;

pub(super) fn defaults() -> Defaults {
    Defaults {
        account_id: Some(AccountId::parse("111111111111").unwrap()),
        region: Region::parse("eu-west-1").unwrap(),
        identity: Identity::Claimed,
    }
}

/// A valid event with these fields added, or removed if they are null.
#[expect(clippy::needless_pass_by_value, reason = "callers write json!({…}) in place")]
pub(super) fn event(fields: Value) -> Value {
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

pub(super) fn accepted(fields: Value) -> UpdateRequest {
    let event = event(fields).to_string();
    parse(&event, &defaults()).unwrap_or_else(|failure| panic!("{event}: {}", failure.message))
}

fn image(image: &str) -> ImageReference {
    ImageReference::parse(image).unwrap()
}

pub(super) fn many(event: &Value) -> Result<Batch, Failure> {
    match super::parse(event.to_string().as_bytes(), &defaults())? {
        Event::Many(batch) => Ok(batch),
        Event::One(request) => panic!("{request:?}"),
    }
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
            left_alone: ["desiredCount".to_owned()].into(),
            force_new_deployment: true,
            restore: None,
            restore_mode: crate::event::request::RestoreMode::default(),
            action: None,
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

#[test]
fn fields_that_came_later_leave_the_hash_of_events_without_them_alone() {
    let hash = |fields: Value| accepted(fields).event_hash;
    assert_eq!(hash(json!({"resolve_digest": false, "check_image": false})), hash(json!({})));
    assert_ne!(hash(json!({"resolve_digest": true})), hash(json!({})));
    assert_ne!(hash(json!({"check_image": true})), hash(json!({"resolve_digest": true})));
    let restore = |mode: &str| {
        let event = json!({"account_id": "222222222222", "ecs_cluster_name": "c", "ecs_service_name": "s", "restore": "previous"});
        let mut event = event.as_object().unwrap().clone();
        event.extend((!mode.is_empty()).then(|| ("restore_mode".to_owned(), mode.into())));
        parse(&Value::Object(event).to_string(), &defaults()).unwrap().event_hash
    };
    assert_eq!(restore("undo"), restore(""));
    assert_ne!(restore("exact"), restore(""));
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

#[test]
fn the_schemas_examples_are_accepted() {
    let schema: Value = serde_json::from_str(FORMAT.schema).unwrap();
    for example in schema["examples"].as_array().unwrap() {
        super::parse(example.to_string().as_bytes(), &defaults()).unwrap();
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
    // The request is the same as if it had been sent alone: the same key gives the same answer either way.
    let alone = accepted(json!({"account_id": "222222222222", "ecs_image_name": "nginx:1", "reason": "release"}));
    assert_eq!(*first, alone);
}
