//! What is refused, and in which words.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::parse_one as parse;
use super::tests::{accepted, defaults, event, many};
use super::*;
use crate::event::{MAX_VALUES, read};

/// The faults, without the words around them.
pub(super) fn refused(event: &str) -> String {
    let failure = parse(event, &defaults()).map(|request| panic!("{event}: {request:?}")).unwrap_err();
    assert_eq!((failure.code, failure.retryable), (Code::JsonValidation, false), "{}", failure.message);
    let lines: Vec<_> = failure.message.lines().collect();
    assert_eq!(
        lines[1..],
        ["[ERROR][json_validation] Needed: \"ecs_cluster_name\", \"ecs_service_name\", and at least one of \
          \"ecs_image_name\", \"images\", \"ecs_tag\", \"service\", \"restore\", \"continue\", \"stop\", \
          \"force_new_deployment\": true"]
    );
    lines[0].strip_prefix("[ERROR][json_validation] wrong input event format: ").unwrap().to_owned()
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
        (told.matches(" /requested_by: \"arn:a\"").count(), told.matches("/updates/1/requested_by: \"arn:b\"").count()),
        (1, 1),
        "{told}"
    );
    let mut own = shared;
    own["requested_by"] = "ann".into();
    let told = faults(own);
    assert!(told.contains("format: /updates/1/requested_by: ") && !told.contains("arn:a"), "{told}");
}

fn assert_faults<const N: usize>(cases: [(Value, &str); N]) {
    for (fields, expected) in cases {
        let event = event(fields).to_string();
        assert_eq!(refused(&event), expected, "{event}");
    }
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
        (json!({"restore_mode": "exact"}), "/restore_mode: only together with \"restore\""),
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
        (json!({"ecs_tag": {}, "tag_mode": "Merge"}), "/tag_mode: \"Merge\" is not one of \"replace\" or \"merge\""),
        (json!({"tag_mode": "merge"}), "/tag_mode: only together with \"ecs_tag\""),
    ]);
}

#[test]
fn faults_of_parameters_and_the_rest() {
    assert_faults([
        // Further parameters.
        (json!({"service": {}}), "/service: {} has less than 1 property"),
        (json!({"service": [1]}), "/service: [1] is not of type \"object\""),
        (json!({"service": {"desiredcount": 1}}), "/service: unknown field \"desiredcount\": use \"desiredCount\""),
        (
            json!({"service": {"desired count": 1}}),
            "/service/desired count: \"desired count\" is not accepted: expected a parameter's name of at most 64 letters and digits, \
             the first of them small",
        ),
        (json!({"service": {"launchType": "EC2"}}), "/service: unknown field \"launchType\""),
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
        // NUL characters, wherever they occur.
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
    assert!(faults.starts_with("/ecs_tag/key-00: 0 is not of type") && faults.ends_with("; and 25 more"), "{faults}");

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
        (good.replace("\"nginx\"", "1e999"), "(event): not accepted as JSON: number out of range at line 1 column 74"),
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
    assert!(failure.message.contains("(event): not UTF-8 text: a wrong byte at offset 12\n"), "{}", failure.message);
    // A surrogate that is encoded as UTF-8.
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
    // What the schema refuses is reported first.
    assert_eq!(
        refused(&event(json!({"ecs_image_name": "NGINX", "dry_run": 1})).to_string()),
        "/dry_run: 1 is not of type \"boolean\""
    );
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
            event(json!([entry("a"), {"ecs_service_name": "a", "account_id": "111111111111", "region": "eu-west-1"}])),
            "/updates/1: the same service as /updates/0: 111111111111/eu-west-1/c/a",
        ),
        (event(json!([{"ecs_service_name": "a", "updates": []}])), "/updates/0: unknown field \"updates\""),
        (event(json!([{"ecs_service_name": "a", "summary_only": true}])), "/updates/0: unknown field \"summary_only\""),
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
        let told =
            failure.message.lines().next().unwrap().replace("[ERROR][json_validation] wrong input event format: ", "");
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

/// Any JSON, shallow, with problematic texts.
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
            prop::collection::btree_map(text.clone(), inner, 0..8).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

/// The names of all fields of an update, and one name that is not a field.
fn fields() -> Vec<String> {
    let schema: Value = serde_json::from_str(FORMAT.schema).unwrap();
    let entry = schema.pointer("/properties/updates/items/properties").unwrap();
    entry.as_object().unwrap().keys().cloned().chain(["other".to_owned()]).collect()
}

proptest! {
    /// Whatever a field contains, the result is a request, or a short message of two lines.
    #[test]
    fn any_event_is_accepted_or_refused_clearly(
        field in prop::sample::select(fields()),
        value in any_json(),
    ) {
        let mut event = event(json!({}));
        event[&field] = value;
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
