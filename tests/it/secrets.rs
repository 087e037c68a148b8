//! No secret comes out: markers stand in everything that is secret, AWS repeats in its errors what it was sent, and every
//! world looks for the marker in logs, standard error, answers and both tables at its end.

use serde_json::{Value, json};

use crate::harness::journal::Fault;
use crate::harness::lambda::Outcome;
use crate::harness::{SECRET_MARKER, Site, World, ledger, web_definition};

/// A secret of three bytes, and one that is a common word.
const SHORT: &str = "q7Z";
const WORD: &str = "standard";
const EXTERNAL_ID: &str = "do-not-show-me-external-id";

/// A task definition with a marker wherever a secret may stand.
fn definition() -> Value {
    let mut definition = web_definition("busybox");
    let members = json!({
        "environment": [
            {"name": "PASSWORD", "value": secret("environment")},
            {"name": "QUOTED", "value": format!("\"{}\"\n\u{fc}", secret("quoted"))},
            {"name": "SHORT", "value": SHORT},
            {"name": "WORD", "value": WORD},
        ],
        "command": ["server", format!("--password={}", secret("command"))],
        "entryPoint": ["sh", "-c", secret("entry-point")],
        "healthCheck": {"command": ["CMD-SHELL", format!("curl -u {}", secret("health"))]},
        "dockerLabels": {"token": secret("label")},
        "logConfiguration": {"logDriver": "splunk", "options": {"splunk-token": secret("log-option")}},
        "firelensConfiguration": {"type": "fluentbit", "options": {"token": secret("firelens")}},
        "secrets": [{"name": "KEY", "valueFrom": "arn:aws:secretsmanager:eu-west-1:222222222222:secret:key"}],
        "repositoryCredentials": {"credentialsParameter": "arn:aws:secretsmanager:eu-west-1:222222222222:secret:registry"},
    });
    let Value::Object(members) = members else { panic!("an object") };
    definition["containerDefinitions"][0].as_object_mut().unwrap().extend(members);
    definition["volumes"] =
        json!([{"name": "v", "dockerVolumeConfiguration": {"driverOpts": {"o": secret("volume")}}}]);
    definition
}

/// A world in which everything is logged that can be.
async fn world() -> World {
    let environment = [("AWS_LAMBDA_LOG_LEVEL", "trace"), ("RUST_LOG", "trace"), ("EXTERNAL_ID", EXTERNAL_ID)];
    let world = World::with_environment(&environment).await;
    world.seed_definition(&Site::target(), &definition().to_string(), json!([]), |service| {
        service["deployments"][0]["serviceConnectConfiguration"] = connect("service-connect");
        let hook = json!({"hookTargetArn": "arn:aws:lambda:eu-west-1:222222222222:function:hook", "lifecycleStages": [],
            "hookDetails": {"token": secret("hook")}});
        service["deploymentConfiguration"]["lifecycleHooks"] = json!([hook]);
    });
    world
}

fn secret(place: &str) -> String {
    format!("{SECRET_MARKER}-{place}")
}

/// Service Connect with a secret among the options of its log.
fn connect(place: &str) -> Value {
    let log = json!({"logDriver": "splunk", "options": {"splunk-token": secret(place), "splunk-url": "https://splunk.example"}});
    json!({"enabled": true, "logConfiguration": log})
}

const CALLS: [(&str, &str); 8] = [
    ("AssumeRole", "AssumeRoleFailed"),
    ("BatchGetItem", "HistoryUnavailable"),
    ("DescribeServices", "ServiceReadFailed"),
    ("DescribeTaskDefinition", "ServiceReadFailed"),
    ("ExecuteTransaction", "HistoryUnavailable"),
    ("RegisterTaskDefinition", "TaskDefinitionRejected"),
    ("UpdateService", "ServiceUpdateFailed"),
    ("TagResource", "TagUpdateFailed"),
];

/// A change of image and tags: unlike the one before it.
fn change(n: usize) -> Value {
    json!({"ecs_image_name": format!("nginx:{n}"), "ecs_tag": {"release": n.to_string()}})
}

#[tokio::test]
async fn the_markers_pass_the_updater_and_do_not_come_out() {
    let world = world().await;
    world.update(change(1)).await.status("APPLIED");
    world.update(json!({"dry_run": true, "ecs_image_name": "httpd"})).await.status("PLANNED");
    world.update(json!({"restore": "previous"})).await.status("APPLIED");
    // Else nothing would be proved.
    let sent = world.journal.of("RegisterTaskDefinition")[0].body.clone();
    for place in
        ["environment", "quoted", "command", "entry-point", "health", "label", "log-option", "firelens", "volume"]
    {
        assert!(sent.contains(&format!("{SECRET_MARKER}-{place}")), "{place} is not in {sent}");
    }
    assert!(world.journal.of("AssumeRole")[0].body.contains(EXTERNAL_ID));
}

/// A task definition with a text in every member for which the service model of ECS (botocore 1.43.106) has one that is no enumeration,
/// but those that records have anyhow: family, names, images, roles, CPU, memory and tags.
const FREE_TEXTS: &str = include_str!("free_texts.json");

/// What of it a plan to restore shows: addresses, names and settings, in which no credential has a place. All else is hidden.
const SHOWN: [&str; 47] = [
    "containerDefinitions-repositoryCredentials-credentialsParameter",
    "containerDefinitions-links",
    "containerDefinitions-portMappings-name",
    "containerDefinitions-portMappings-containerPortRange",
    "containerDefinitions-environmentFiles-value",
    "containerDefinitions-mountPoints-sourceVolume",
    "containerDefinitions-mountPoints-containerPath",
    "containerDefinitions-volumesFrom-sourceContainer",
    "containerDefinitions-linuxParameters-capabilities-add",
    "containerDefinitions-linuxParameters-capabilities-drop",
    "containerDefinitions-linuxParameters-devices-hostPath",
    "containerDefinitions-linuxParameters-devices-containerPath",
    "containerDefinitions-linuxParameters-tmpfs-containerPath",
    "containerDefinitions-linuxParameters-tmpfs-mountOptions",
    "containerDefinitions-secrets-valueFrom",
    "containerDefinitions-dependsOn-containerName",
    "containerDefinitions-hostname",
    "containerDefinitions-user",
    "containerDefinitions-workingDirectory",
    "containerDefinitions-dnsServers",
    "containerDefinitions-dnsSearchDomains",
    "containerDefinitions-extraHosts-hostname",
    "containerDefinitions-extraHosts-ipAddress",
    "containerDefinitions-dockerSecurityOptions",
    "containerDefinitions-logConfiguration-secretOptions-name",
    "containerDefinitions-logConfiguration-secretOptions-valueFrom",
    "containerDefinitions-systemControls-namespace",
    "containerDefinitions-systemControls-value",
    "containerDefinitions-resourceRequirements-value",
    "containerDefinitions-credentialSpecs",
    "volumes-name",
    "volumes-host-sourcePath",
    "volumes-dockerVolumeConfiguration-driver",
    "volumes-efsVolumeConfiguration-fileSystemId",
    "volumes-efsVolumeConfiguration-rootDirectory",
    "volumes-efsVolumeConfiguration-authorizationConfig-accessPointId",
    "volumes-s3filesVolumeConfiguration-fileSystemArn",
    "volumes-s3filesVolumeConfiguration-rootDirectory",
    "volumes-s3filesVolumeConfiguration-accessPointArn",
    "volumes-fsxWindowsFileServerVolumeConfiguration-fileSystemId",
    "volumes-fsxWindowsFileServerVolumeConfiguration-rootDirectory",
    "volumes-fsxWindowsFileServerVolumeConfiguration-authorizationConfig-credentialsParameter",
    "volumes-fsxWindowsFileServerVolumeConfiguration-authorizationConfig-domain",
    "placementConstraints-expression",
    "proxyConfiguration-containerName",
    "inferenceAccelerators-deviceName",
    "inferenceAccelerators-deviceType",
];

#[tokio::test]
async fn a_plan_shows_addresses_and_names_of_a_task_definition_and_no_other_free_text() {
    let environment = [("AWS_LAMBDA_LOG_LEVEL", "trace"), ("RUST_LOG", "trace")];
    let (world, site) = (World::with_environment(&environment).await, Site::target());
    let definition = |which: &str| FREE_TEXTS.replace("MARKER", &format!("text {which}"));
    world.seed_definition(&site, &definition("before"), json!([]), |_| {});
    world.update(change(1)).await.status("APPLIED");
    let sent = world.journal.of("RegisterTaskDefinition")[0].body.clone();
    assert_eq!(sent.matches("text before ").count(), FREE_TEXTS.matches("MARKER").count());
    // In somebody else's revision each of them differs.
    let by_hand = world.cloud().register(&site, &definition("by hand"), json!([]));
    world.cloud().edit(&site, |service| service["taskDefinition"] = by_hand.into());
    let planned = world.update(json!({"restore": "previous", "dry_run": true})).await;
    let planned = planned.status("PLANNED").to_string();
    world.update(change(2)).await.status("APPLIED");
    world.update(json!({"restore": "previous"})).await.status("APPLIED");
    let kept = format!("{}{}", json!(world.records(&site)), world.logs().join("\n"));
    let texts = FREE_TEXTS.split("MARKER ").skip(1).filter_map(|text| text.split('"').next());
    let (mut shown, mut hidden) = (Vec::new(), 0);
    for text in texts {
        let is_told =
            |told: &str| ["before", "by hand"].iter().any(|which| told.contains(&format!("text {which} {text}")));
        if is_told(&planned) {
            shown.push(text);
        } else {
            hidden += 1;
            assert!(!is_told(&kept), "{text} stands in a record or a log line, and in no plan");
        }
    }
    assert_eq!(shown, SHOWN, "and {hidden} are hidden");
}

#[tokio::test]
async fn what_an_event_sets_of_service_connect_does_not_come_out() {
    let world = world().await;
    let event = |place: &str, more: Value| {
        let mut event = json!({"service": {"serviceConnectConfiguration": connect(place)}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let planned = world.update(event("set", json!({"dry_run": true}))).await;
    let shown = planned.status("PLANNED")["changes"].to_string();
    assert!(shown.contains("serviceConnectConfiguration") && shown.contains("\"changed\""), "{shown}");
    let applied = world.update(event("set", json!({}))).await.status("APPLIED").clone();
    assert_eq!(applied["changes"].to_string(), shown);
    let records = world.records(&Site::target());
    let recorded = records[0]["changes"].as_str().unwrap();
    assert!(recorded.contains("\"h1:"), "{recorded}");
    let told =
        ecs_updater::ledger::fold::fold(records.iter().filter_map(Value::as_object).collect(), chrono::Utc::now());
    assert_eq!(json!(told.unwrap().changes), applied["changes"], "no hash says anything to a person");
    assert!(world.journal.of("UpdateService")[0].body.contains(&secret("set")));
    world.journal.on("UpdateService", 1, Fault::Echo { status: 400, code: "InvalidParameterException".into() });
    let outcome = world.update(event("refused", json!({}))).await;
    assert!(outcome.error("ServiceUpdateFailed").contains("***"));
    world.update(json!({"restore": "previous", "dry_run": true})).await.status("PLANNED");
}

#[tokio::test]
async fn a_short_secret_and_a_common_word_are_not_repeated() {
    let world = world().await;
    for action in ["RegisterTaskDefinition", "UpdateService", "TagResource"] {
        for repeated in [format!("\"{SHORT}\" is {WORD}"), format!("token={SHORT}; mode={WORD}")] {
            let body = json!({"__type": "ClientException", "message": repeated}).to_string();
            world.journal.on(action, 1, Fault::Answer { status: 400, body });
            let outcome = world.update(change(world.journal.calls().len())).await;
            let Outcome::Error { message, .. } = outcome else { panic!("{outcome:?}") };
            assert!(!message.contains(SHORT) && !message.contains(WORD), "{message}");
            assert!(message.contains("***") || message.contains("request id"), "{message}");
            let records = world.records(&Site::target());
            assert!(!json!(records).to_string().contains(SHORT), "{records:?}");
            assert!(world.journal.mend() > 0);
        }
    }
}

#[tokio::test]
async fn an_error_that_repeats_the_request_is_told_without_its_secrets() {
    let world = world().await;
    for (n, (action, code)) in CALLS.into_iter().enumerate() {
        for status in [400, 500] {
            world.journal.from(action, 1, Fault::Echo { status, code: "InvalidSignatureException".into() });
            let outcome = world.update(change(n)).await;
            // Before its result can be recorded, a change has ended all the same.
            let message = outcome.error(code);
            assert!(message.contains("x-amz-security-token:***"), "{message}");
            assert!(world.journal.mend() > 0);
            // A call that may still act keeps the service for a while.
            let site = Site::target();
            if ledger::head(world.tables(), &site.key()).is_some_and(|head| head["lease_until"] != "") {
                ledger::expire_lease(world.tables(), &site.key());
            }
        }
    }
    // What is no secret is told, so that a person finds what to mend.
    world.journal.on("RegisterTaskDefinition", 1, Fault::Echo { status: 400, code: "ClientException".into() });
    let outcome = world.update(change(100)).await;
    let message = outcome.error("TaskDefinitionRejected");
    for shown in ["secret:registry", "nginx:100", "PASSWORD", "***"] {
        assert!(message.contains(shown), "{shown} is not in {message}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_shown() {
    let world = world().await;
    let secret = format!("{SECRET_MARKER}-answer");
    let xml =
        format!("<AssumeRoleResponse><Credentials><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{secret}");
    let bodies = [
        xml,
        format!("{{\"{secret}"),
        json!({"services": secret, "service": secret, "taskDefinition": secret, "Responses": secret}).to_string(),
        json!({"services": [{"serviceName": {"x": secret}}], "service": {"serviceArn": [secret], "status": {"x": secret}},
               "taskDefinition": {"containerDefinitions": secret, "family": [secret]}, "Responses": [secret]})
        .to_string(),
        json!({"taskDefinition": {"containerDefinitions": [{"name": "web", "memory": secret}]}}).to_string(),
    ];
    let mut read = 0;
    for (n, (action, _)) in CALLS.into_iter().enumerate() {
        for (m, body) in bodies.iter().enumerate() {
            // That a transaction went well is believed where DynamoDB says so.
            for status in if action == "ExecuteTransaction" { &[400][..] } else { &[200, 400] } {
                let status = *status;
                world.journal.on(action, 1, Fault::Answer { status, body: body.clone() });
                let outcome = world.update(change(n * 100 + m * 10 + status as usize)).await;
                read += usize::from(matches!(outcome, Outcome::Error { .. }));
                world.journal.mend();
            }
        }
    }
    assert!(read > 20, "only {read} of these answers were noticed");
}
