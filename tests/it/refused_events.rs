//! Input that gets a clear error and changes nothing: not one call of any kind is made for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::lambda::Outcome;

fn sample(changes: Value) -> Value {
    let mut event =
        json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service", "ecs_image_name": "nginx"});
    let Value::Object(changes) = changes else { panic!("an object") };
    for (name, value) in changes {
        event[name] = value;
    }
    event
}

/// The event is refused with one of `codes`, in words that name `piece`, and nothing is called.
async fn refused(world: &World, event: &[u8], codes: &[&str], piece: &str) {
    let outcome = world.invoke_bytes(event.to_vec(), world.invocation()).await;
    let shown = String::from_utf8_lossy(&event[..event.len().min(300)]).into_owned();
    let Outcome::Error { error_type, message } = &outcome else { panic!("{shown} was taken: {outcome:?}") };
    assert!(codes.contains(&error_type.as_str()), "{shown}: {error_type}: {message}");
    let text = match error_type.as_str() {
        "JsonValidation" => "[ERROR][json_validation] wrong input event format: ",
        _ => "[ERROR][ecs_service_update] new task_definition could not be created ",
    };
    assert!(message.starts_with(text), "{shown}: {message}");
    assert_eq!(error_type == "JsonValidation", message.contains("\n[ERROR][json_validation] Needed: "), "{message}");
    assert!(message.contains(piece), "{shown}: {piece:?} is not named in {message}");
    assert!(world.journal.calls().is_empty(), "{shown}:\n{}", world.journal.summary());
}

async fn all_refused(events: impl IntoIterator<Item = (Value, &'static str)>) {
    let world = World::new().await;
    for (changes, piece) in events {
        refused(&world, sample(changes).to_string().as_bytes(), &["JsonValidation"], piece).await;
    }
}

#[tokio::test]
async fn what_is_no_json_or_no_object() {
    let world = World::new().await;
    let depth = format!("{}{}", r#"{"service":"#.repeat(10_000), "}".repeat(10_000));
    let lists = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let names = r#"{"ecs_cluster_name":"ECSCluster","ecs_service_name":"s","#;
    let surrogate = format!(r#"{names}"ecs_image_name":"nginx\ud800"}}"#);
    let swapped = format!(r#"{names}"ecs_image_name":"nginx","reason":"\udc00\ud800"}}"#);
    let twice = format!(r#"{names}"ecs_image_name":"nginx","ecs_image_name":"busybox"}}"#);
    for event in [
        "",
        " ",
        "{",
        "nginx",
        "[]",
        "null",
        "true",
        "1",
        "\"text\"",
        "{}{}",
        "{'a': 1}",
        "NaN",
        "\u{feff}{}",
        depth.as_str(),
        lists.as_str(),
        surrogate.as_str(),
        swapped.as_str(),
        twice.as_str(),
    ] {
        refused(&world, event.as_bytes(), &["JsonValidation"], "").await;
    }
    let latin = [b"{\"ecs_cluster_name\":\"".as_slice(), &[0xfc, 0xff], b"\"}"].concat();
    refused(&world, &latin, &["JsonValidation"], "").await;
    // And the function still works.
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
}

#[tokio::test]
async fn an_event_of_eight_megabytes_is_refused_quickly() {
    let world = World::new().await;
    let long = "x".repeat(8 * 1024 * 1024);
    let many: Vec<String> = (0..400_000).map(|n| format!(r#""unknown-field-{n:06}":0"#)).collect();
    for event in [
        sample(json!({"reason": long})).to_string(),
        sample(json!({"ecs_image_name": long})).to_string(),
        format!("{{{}}}", many.join(",")),
        format!("[{}0]", "0,".repeat(4 * 1024 * 1024)),
    ] {
        let started = Instant::now();
        refused(&world, event.as_bytes(), &["JsonValidation", "InvalidImage"], "").await;
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn wrong_types() {
    let fields = [
        "account_id",
        "region",
        "ecs_cluster_name",
        "ecs_service_name",
        "ecs_image_name",
        "container_name",
        "images",
        "ecs_tag",
        "tag_mode",
        "service",
        "force_new_deployment",
        "expected_task_definition",
        "dry_run",
        "idempotency_key",
        "requested_by",
        "reason",
    ];
    let objects = ["images", "ecs_tag", "service"];
    let booleans = ["force_new_deployment", "dry_run"];
    let mut events = Vec::new();
    for field in fields {
        let mut wrong = vec![json!(1), json!(null), json!([]), json!(["x"])];
        if !objects.contains(&field) {
            wrong.push(json!({}));
        }
        wrong.push(if booleans.contains(&field) { json!("true") } else { json!(true) });
        if objects.contains(&field) {
            wrong.push(json!("x"));
        }
        for value in wrong {
            events.push((json!({field: value}), field));
        }
    }
    for value in [json!(1), json!(null), json!({}), json!(["v"])] {
        events.push((json!({"ecs_tag": {"the-key": value}}), "the-key"));
    }
    all_refused(events).await;
}

#[tokio::test]
async fn unknown_fields_by_name() {
    // Those of later issues are unknown until then.
    let events =
        ["ecs_images_name", "ECS_IMAGE_NAME", "wait_seconds", "", "tags"].map(|name| (json!({name: "x"}), name));
    all_refused(events).await;
}

#[tokio::test]
async fn accounts_regions_and_names_that_are_none() {
    let mut events = Vec::new();
    for account in
        ["", "1", "22222222222", "2222222222222", "22222222222a", " 222222222222", "٢٢٢٢٢٢٢٢٢٢٢٢", "222222222222\n"]
    {
        events.push((json!({"account_id": account}), "account_id"));
    }
    for region in [
        "",
        "eu",
        "eu-west",
        "EU-WEST-1",
        "eu_west_1",
        "eu-west-1/../..",
        "eu-west-1.evil.example",
        "eu-west-1\n",
        "localhost",
    ] {
        events.push((json!({"region": region}), "region"));
    }
    for name in ["", " ", "a b", "a/b", "a.b", "*", "ü", "a\u{0}", "a\n", "service*", &"x".repeat(256)] {
        events.push((json!({"ecs_cluster_name": name}), "ecs_cluster_name"));
        events.push((json!({"ecs_service_name": name}), "ecs_service_name"));
    }
    for name in ["", "a b", "a\u{0}", &"x".repeat(256)] {
        events.push((json!({"container_name": name}), "container_name"));
    }
    for expected in [
        "",
        "web",
        "web:",
        "web:0",
        "web:x",
        "web:1:2",
        "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:1",
        "web:99999999999",
    ] {
        events.push((json!({"expected_task_definition": expected}), "expected_task_definition"));
    }
    all_refused(events).await;
}

#[tokio::test]
async fn an_arn_in_place_of_a_name_is_told_to_be_the_name() {
    let world = World::new().await;
    for (field, arn) in [
        ("ecs_cluster_name", "arn:aws:ecs:eu-west-1:222222222222:cluster/ECSCluster"),
        ("ecs_service_name", "arn:aws:ecs:eu-west-1:222222222222:service/ECSCluster/ecs-dummy-service"),
    ] {
        let outcome = world.invoke(&sample(json!({field: arn}))).await;
        let message = outcome.error("JsonValidation");
        assert!(message.contains(field) && message.contains("ARN") && message.contains("name"), "{message}");
        assert!(world.journal.calls().is_empty());
    }
}

#[tokio::test]
async fn images_that_are_none() {
    let world = World::new().await;
    let hex = "0123456789abcdef".repeat(4);
    let long = |length: usize| format!("registry.example/{}", "x".repeat(length - "registry.example/".len()));
    let mut images: Vec<String> = [
        "",
        " ",
        "nginx:",
        "NGINX",
        "nginx:latest ",
        " nginx",
        "ngi nx",
        "nginx:a b",
        "nginx:-x",
        "nginx:.x",
        "/nginx",
        "nginx/",
        "a//b",
        "-nginx",
        "nginx-",
        "a..b",
        "a___b",
        "registry.example:/nginx",
        "registry.example:port/nginx",
        "https://registry.example/nginx",
        "nginx@",
        "nginx@sha256:",
        "nginx@md5:abc",
        "nginx\u{0}",
        "nginx\n",
        "nginx:ü",
        "@#®as_..p````",
        "nginx:1:2",
        "user:password@registry.example/nginx",
    ]
    .map(Into::into)
    .into();
    images.push(format!("nginx:{}", "t".repeat(129)));
    images.push(format!("nginx@sha256:{}", &hex[1..]));
    images.push(format!("nginx@sha256:{hex}0"));
    images.push(format!("nginx@sha256:{}", hex.to_uppercase()));
    images.push(format!("nginx@sha256:{hex}@sha256:{hex}"));
    images.push(long(256));
    images.push(format!("{}@sha256:{hex}", long(256)));
    for image in &images {
        for event in [sample(json!({"ecs_image_name": image})), {
            let mut event = sample(json!({"images": {"web": image}}));
            event.as_object_mut().unwrap().remove("ecs_image_name");
            event
        }] {
            refused(&world, event.to_string().as_bytes(), &["InvalidImage", "JsonValidation"], "").await;
        }
    }
}

#[tokio::test]
async fn images_that_look_odd_and_are_fine_are_taken() {
    let world = World::new().await;
    let hex = "0123456789abcdef".repeat(4);
    let long = format!("registry.example/{}", "x".repeat(255 - "registry.example/".len()));
    for image in [
        "localhost:5000/a:1",
        "registry.example:5000/team/web",
        "registry.example:5000/team/web:1.27-alpine_3",
        "222222222222.dkr.ecr.eu-west-1.amazonaws.com/team/web:LATEST",
        "a/b/c/d__e/f--g:x",
        &format!("nginx@sha256:{hex}"),
        &format!("registry.example:5000/nginx:1@sha256:{hex}"),
        &long,
        &format!("{long}@sha256:{hex}"),
    ] {
        let outcome = world.update(json!({"dry_run": true, "ecs_image_name": image})).await;
        assert_eq!(outcome.status("PLANNED")["AFTER"]["serviceImage"], image);
    }
}

#[tokio::test]
async fn tags_that_aws_would_refuse() {
    let mut events = Vec::new();
    let many: Value = Value::Object((0..51).map(|n| (format!("tag-{n}"), json!("v"))).collect());
    events.push((json!({"ecs_tag": many}), "ecs_tag"));
    for key in [
        "aws:x",
        "AWS:x",
        "Aws:x",
        "aWs:cloudformation:stack-name",
        "",
        "a;b",
        "a\u{0}",
        "a\n",
        "a,b",
        "a\tb",
        &"x".repeat(129),
    ] {
        events.push((json!({"ecs_tag": {key: "v"}}), "ecs_tag"));
    }
    for value in ["aws:x", "AWS:x", "a;b", "v\u{0}", "v\n", "<v>", &"x".repeat(257)] {
        events.push((json!({"ecs_tag": {"key": value}}), "key"));
    }
    for mode in ["", "REPLACE", "append"] {
        events.push((json!({"ecs_tag": {"a": "1"}, "tag_mode": mode}), "tag_mode"));
    }
    all_refused(events).await;
}

#[tokio::test]
async fn tags_at_the_limits_are_taken() {
    let world = World::new().await;
    let (key, value) = ("k".repeat(128), "ü_.:/=+-@ ".repeat(25) + "123456");
    let mut tags: Value = Value::Object((0..48).map(|n| (format!("tag-{n}"), json!(""))).collect());
    tags[&key] = json!(value);
    tags["größe/ключ 键"] = json!("awsome");
    world.update(json!({"ecs_tag": tags})).await.status("APPLIED");
    assert_eq!(world.cloud().tags(&crate::harness::Site::target())[&key], value);
    assert_eq!(world.cloud().tags(&crate::harness::Site::target()).len(), 50);
}

#[tokio::test]
async fn texts_that_are_empty_too_long_or_hold_nul() {
    let mut events = Vec::new();
    for (field, longest) in [("requested_by", 256), ("reason", 1024), ("idempotency_key", 256)] {
        events.push((json!({field: ""}), field));
        events.push((json!({field: "ü".repeat(longest + 1)}), field));
        events.push((json!({field: "a\u{0}b"}), field));
    }
    all_refused(events).await;
}

/// Through the API door they stand in records as they are: `a_caller_that_the_api_door_vouches_for_is_the_source_identity`.
#[tokio::test]
async fn names_that_only_the_api_door_can_vouch_for() {
    let names =
        ["arn:aws:iam::111111111111:user/ann", "cognito:1-2:ann", "iam:ann", "alias:ann", "oidc:ann", " Arn:aws:ann"];
    all_refused(names.map(|name| (json!({"requested_by": name}), "requested_by")).to_vec()).await;
}

#[tokio::test]
async fn fields_that_do_not_go_together_or_ask_for_nothing() {
    let world = World::new().await;
    let base = json!({"ecs_cluster_name": "ECSCluster", "ecs_service_name": "ecs-dummy-service"});
    for (changes, piece) in [
        (json!({}), "\"ecs_image_name\" is a required property"),
        (json!({"dry_run": true}), "\"ecs_image_name\" is a required property"),
        (json!({"reason": "none"}), "\"ecs_image_name\" is a required property"),
        (json!({"tag_mode": "merge"}), "\"ecs_image_name\" is a required property"),
        (json!({"ecs_image_name": "nginx", "images": {"web": "nginx"}}), "images"),
        (json!({"images": {}}), "images"),
    ] {
        let mut event = base.clone();
        event.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        refused(&world, event.to_string().as_bytes(), &["JsonValidation"], piece).await;
    }
    for missing in ["ecs_cluster_name", "ecs_service_name"] {
        let mut event = sample(json!({}));
        event.as_object_mut().unwrap().remove(missing);
        let piece = format!("\"{missing}\" is a required property");
        refused(&world, event.to_string().as_bytes(), &["JsonValidation"], &piece).await;
    }
}

#[tokio::test]
async fn every_fault_is_told_with_its_place() {
    let world = World::new().await;
    let event = json!({"account_id": "1", "region": 7, "ecs_service_name": "a b", "ecs_tag": {"aws:x": "1", "k": 2},
                       "service": {"launchType": 1}, "surprise": true});
    let outcome = world.invoke(&event).await;
    let message = outcome.error("JsonValidation").lines().next().unwrap().to_owned();
    for place in
        ["account_id", "region", "ecs_cluster_name", "ecs_service_name", "aws:x", "k", "launchType", "surprise"]
    {
        assert!(message.contains(place), "{place} is not in {message}");
    }
}
