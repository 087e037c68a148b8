//! Nothing of a task definition is lost on its way from DescribeTaskDefinition to RegisterTaskDefinition.

use std::collections::BTreeMap;

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use serde_json::{Value, json};

use crate::harness::ecs::{RESPONSE_MEMBERS, tag_list};
use crate::harness::exact_json::{Exact, object_text, raw_members};
use crate::harness::http::{Answer, Reply, Server, handler};
use crate::harness::journal::Fault;
use crate::harness::{REGION, Site, World, web_definition};

/// Every member of the ECS API model at once, and in every object members that no SDK knows.
const EVERY_MEMBER: &str = include_str!("../fixtures/every-member.json");

/// The document with another image in one container.
fn with_image(document: &str, container: &str, image: &str) -> Exact {
    let mut exact = Exact::parse(document);
    let Exact::Object(members) = &mut exact else { panic!("an object") };
    let Some(Exact::List(containers)) = members.get_mut("containerDefinitions") else { panic!("containers") };
    for definition in containers {
        let Exact::Object(members) = definition else { panic!("a container is an object") };
        if members["name"] == Exact::String(container.into()) {
            members.insert("image".into(), Exact::String(image.into()));
        }
    }
    exact
}

/// What was registered, compared with what should have been; `tags` apart.
#[track_caller]
fn assert_registered(world: &World, expected: &Exact) {
    let sent = Exact::parse(&world.journal.only("RegisterTaskDefinition").body);
    let differences = expected.differences(&sent.without(&["tags"]));
    assert!(differences.is_empty(), "{differences:#?}");
}

#[tokio::test]
async fn a_definition_with_every_member_and_unknown_ones_at_every_depth_arrives_equal_but_for_the_image() {
    let world = World::with_environment(&[]).await;
    world.journal.newer(&["unknownMember", "zz-new", "strategyOfTomorrow"]);
    let site = Site::target();
    let tags = tag_list([("cost", "7"), ("empty", "")]);
    world.seed_definition(&site, EVERY_MEMBER, tags, |_| {});
    let changes = json!({"container_name": "web", "ecs_image_name": "registry.example:5000/team/web:1.27"});
    world.update(changes).await.status("APPLIED");
    assert_registered(&world, &with_image(EVERY_MEMBER, "web", "registry.example:5000/team/web:1.27"));

    // And once more from the revision that was registered.
    world.journal.forget();
    let changes = json!({"images": {"sidecar": "registry.example:5000/team/sidecar:2"}});
    world.update(changes).await.status("APPLIED");
    let sent = world.journal.only("RegisterTaskDefinition").json();
    for name in RESPONSE_MEMBERS {
        assert!(sent.get(name).is_none(), "{name} is a member of answers");
    }
    assert_eq!(sent["tags"], tag_list([("cost", "7"), ("empty", "")]));
    assert_eq!(world.cloud().revisions(&site, "every-member").len(), 3);
}

/// Holds the fixture to the API model of the SDK: an SDK with a new member makes this fail, and the fixture grow.
#[tokio::test]
async fn the_fixture_has_every_member_that_the_sdk_knows() {
    let mut document: Vec<(String, String)> =
        raw_members(EVERY_MEMBER).into_iter().map(|(name, value)| (name, value.get().to_owned())).collect();
    for (name, value) in [
        ("taskDefinitionArn", r#""arn:aws:ecs:eu-west-1:222222222222:task-definition/every-member:1""#),
        ("revision", "1"),
        ("status", r#""INACTIVE""#),
        ("requiresAttributes", r#"[{"name":"n","value":"v","targetType":"container-instance","targetId":"t"}]"#),
        ("compatibilities", r#"["EC2"]"#),
        ("registeredAt", "1763700000.5"),
        ("registeredBy", r#""arn:aws:iam::222222222222:role/admin""#),
        ("deregisteredAt", "1763700001"),
        ("deleteRequestedAt", "1763700002"),
    ] {
        document.push((name.into(), value.into()));
    }
    let document = object_text(document.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let answer = format!(r#"{{"taskDefinition":{document}}}"#);
    let server = Server::start(handler(move |_| {
        let answer = answer.clone();
        async move { Reply::Answer(Answer::new(200, "application/x-amz-json-1.1", answer)) }
    }))
    .await;
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(server.url())
        .credentials_provider(Credentials::new("a", "s", None, None, "test"))
        .build();
    let described = aws_sdk_ecs::Client::from_conf(config).describe_task_definition().task_definition("x").send().await;
    let mut typed = described.unwrap().task_definition.unwrap();
    // The first of each is complete; the second ones hold empty values.
    typed.container_definitions.as_mut().unwrap().truncate(1);
    typed.volumes.as_mut().unwrap().truncate(1);
    let shown = format!("{typed:#?}");
    let missing: Vec<&str> = shown.lines().filter(|line| line.contains(": None")).collect();
    assert!(missing.is_empty(), "members that the fixture does not have: {missing:#?}");
    assert!(!shown.contains("Unknown"), "values that the SDK does not know: {shown}");
}

#[tokio::test]
async fn empty_strings_and_lists_and_large_or_odd_numbers_stay_as_they_are() {
    let world = World::with_environment(&[]).await;
    world.journal.newer(&["later"]);
    let document = r#"{"family":"web","containerDefinitions":[{"name":"web","image":"a:1","command":[],"entryPoint":[""],
        "environment":[{"name":"E","value":""}],"dockerLabels":{},"memory":0,"later":9007199254740993}],
        "volumes":[],"cpu":"","later":[1.0,1e5,-0.0,18446744073709551615,1e-7,[],{},"",null,"\u0001\ud83d\ude80"]}"#;
    world.seed_definition(&Site::target(), document, json!([]), |_| {});
    world.update(json!({"ecs_image_name": "a:2"})).await.status("APPLIED");
    assert_registered(&world, &with_image(document, "web", "a:2"));
}

#[tokio::test]
async fn tags_of_the_definition_are_carried_over_but_those_of_aws() {
    let world = World::with_environment(&[]).await;
    let tags = tag_list([("team", "edge"), ("aws:cloudformation:stack-name", "s"), ("AWS:x", "y"), ("empty", "")]);
    world.seed_definition(&Site::target(), &web_definition("busybox").to_string(), tags, |_| {});
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    let sent = world.journal.only("RegisterTaskDefinition").json();
    let mut tags = sent["tags"].as_array().unwrap().clone();
    tags.sort_by_key(|tag| tag["key"].to_string());
    assert_eq!(Value::from(tags), tag_list([("empty", ""), ("team", "edge")]));
    assert_eq!(world.journal.only("DescribeTaskDefinition").json()["include"], json!(["TAGS"]));
}

#[tokio::test]
async fn a_definition_without_tags_of_its_own_is_registered_without_tags() {
    for tags in [json!([]), tag_list([("aws:cloudformation:stack-name", "s")])] {
        let world = World::with_environment(&[]).await;
        world.seed_definition(&Site::target(), &web_definition("busybox").to_string(), tags, |_| {});
        world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
        let sent = world.journal.only("RegisterTaskDefinition").json();
        assert!(sent.get("tags").is_none(), "AWS refuses an empty list: {sent}");
    }
}

#[tokio::test]
async fn the_base_is_the_revision_the_service_runs_not_the_newest_of_its_family() {
    let world = World::new().await;
    let site = Site::target();
    let mut newer = web_definition("busybox");
    newer["containerDefinitions"][0]["command"] = json!(["rm", "-rf", "/"]);
    world.cloud().register(&site, &newer.to_string(), json!([]));
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let body = outcome.status("APPLIED");
    assert!(body["BEFORE"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:1"));
    assert!(body["AFTER"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:3"));
    let note = body["notes"][0].as_str().unwrap();
    assert!(note.starts_with("revision web:2 was registered before web:3, which was made from web:1"), "{note}");
    assert_registered(&world, &with_image(&web_definition("busybox").to_string(), "web", "nginx"));
}

#[tokio::test]
async fn a_revision_that_a_failed_change_left_is_used_by_the_next_one() {
    let world = World::new().await;
    let site = Site::target();
    world.journal.on("UpdateService", 1, Fault::refuse(400, "InvalidParameterException", "No."));
    world.update(json!({"ecs_image_name": "nginx"})).await.error("ServiceUpdateFailed");
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
    // By another key: it is another change.
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let body = outcome.status("APPLIED");
    assert!(body["AFTER"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:2"), "{body}");
    assert_eq!(body["notes"], Value::Null);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
    // A plain change behind a good one costs no call for this.
    world.journal.forget();
    world.update(json!({"ecs_image_name": "nginx:2"})).await.status("APPLIED");
    world.journal.only("DescribeTaskDefinition");
    assert_eq!(world.cloud().revisions(&site, "web").len(), 3);
    // What a failed change left is not used where something else is wanted.
    world.journal.on("UpdateService", 1, Fault::refuse(400, "InvalidParameterException", "No."));
    world.update(json!({"ecs_image_name": "nginx:3"})).await.error("ServiceUpdateFailed");
    let outcome = world.update(json!({"ecs_image_name": "nginx:4"})).await;
    let body = outcome.status("APPLIED");
    assert!(body["AFTER"]["taskDefinitionArn"].as_str().unwrap().ends_with("/web:5"), "{body}");
    assert!(body["notes"][0].as_str().unwrap().starts_with("revision web:4 was registered before web:5"), "{body}");
}

#[tokio::test]
async fn a_tag_that_is_there_already_is_unchanged_with_a_note() {
    let world = World::new().await;
    for more in [json!({"dry_run": true}), json!({})] {
        let mut event = json!({"ecs_image_name": "busybox"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outcome = world.update(event).await;
        let note = outcome.response()["body"]["notes"][0].as_str().unwrap();
        assert!(note.contains("busybox already") && note.contains("force_new_deployment"), "{note}");
    }
    assert_eq!(world.kinds(&Site::target()), ["UNCHANGED"]);
}

#[tokio::test]
async fn a_deregistered_base_is_registered_anew_without_its_marks() {
    let world = World::new().await;
    world.cloud().deregister(&Site::target(), "web", 1);
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert_registered(&world, &with_image(&web_definition("busybox").to_string(), "web", "nginx"));
}

#[tokio::test]
async fn a_definition_that_ecs_refuses_is_told_with_code_text_and_request_id_and_tried_once() {
    let world = World::new().await;
    let site = Site::target();
    let fault = Fault::refuse(400, "ClientException", "Invalid 'cpu' setting for task.");
    world.journal.from("RegisterTaskDefinition", 1, fault);
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("TaskDefinitionRejected");
    let call = world.journal.only("RegisterTaskDefinition");
    assert!(message.starts_with("[ERROR][ecs_service_update] new task_definition could not be created "), "{message}");
    for piece in ["ClientException", "Invalid 'cpu' setting for task.", call.request_id.as_str()] {
        assert!(message.contains(piece), "{piece:?} is not in {message}");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), ["RegisterTaskDefinition"]);
    assert_eq!(world.kinds(&site), ["STARTED", "FAILED"]);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 1);
    crate::harness::ledger::assert_free(world.tables(), &site.key());
}

/// `ECS_UPDATER_CORPUS=/path/task-definitions.json cargo test --test it corpus -- --ignored`: a list of
/// `{"source", "document"}`, each document the input of RegisterTaskDefinition.
#[tokio::test]
#[ignore = "needs a corpus of task definitions that is no part of this project"]
async fn every_definition_of_a_corpus_arrives_equal_but_for_the_image() {
    let path = std::env::var("ECS_UPDATER_CORPUS").expect("ECS_UPDATER_CORPUS names the corpus");
    let corpus = std::fs::read_to_string(path).expect("the corpus can be read");
    let corpus: Vec<BTreeMap<String, Box<serde_json::value::RawValue>>> = serde_json::from_str(&corpus).unwrap();
    let mut unnamed = 0;
    let world = World::with_environment(&[]).await;
    for (number, entry) in corpus.iter().enumerate() {
        let document = entry["document"].get();
        let site = Site::new("222222222222", REGION, "corpus", &format!("service-{number}"));
        let parsed: Value = serde_json::from_str(document).unwrap();
        let Some(container) = parsed["containerDefinitions"][0]["name"].as_str().filter(|name| !name.is_empty()) else {
            unnamed += 1;
            continue;
        };
        let tags = parsed.get("tags").cloned().unwrap_or_else(|| json!([]));
        let members = raw_members(document);
        let mut members: Vec<(&str, &str)> = members.iter().map(|(n, v)| (n.as_str(), v.get())).collect();
        members.retain(|(name, _)| *name != "tags");
        if parsed.get("family").is_none() {
            members.push(("family", r#""without-a-name""#));
        }
        let untagged = object_text(members);
        world.seed_definition(&site, &untagged, tags.clone(), |_| {});
        world.journal.forget();
        let event = site.event(json!({"container_name": container, "ecs_image_name": "registry.example/other:9"}));
        let outcome = world.invoke(&event).await;
        assert_eq!(
            outcome.status("APPLIED")["AFTER"]["serviceImage"],
            "registry.example/other:9",
            "{}",
            entry["source"]
        );
        assert_registered(&world, &with_image(&untagged, container, "registry.example/other:9"));
        let sent = world.journal.only("RegisterTaskDefinition").json();
        assert_eq!(sent.get("tags").cloned().unwrap_or_else(|| json!([])), tags, "{}", entry["source"]);
    }
    assert!(unnamed * 10 < corpus.len(), "{unnamed} of {} name no container: AWS describes none such", corpus.len());
}
