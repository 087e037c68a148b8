//! No secret comes out: markers stand in everything that is secret, AWS repeats in its errors what it was sent, and every
//! world looks for the marker in logs, standard error, answers and both tables at its end.

use serde_json::{Value, json};

use crate::harness::dynamodb::STATE_TABLE;
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

/// The calls of a change, and how it ends where one is refused.
const CALLS: [(&str, &str); 9] = [
    ("AssumeRole", "AssumeRoleFailed"),
    ("BatchGetItem", "HistoryUnavailable"),
    ("DescribeServices", "ServiceReadFailed"),
    ("DescribeTaskDefinition", "ServiceReadFailed"),
    ("ExecuteTransaction", "HistoryUnavailable"),
    ("RegisterTaskDefinition", "TaskDefinitionRejected"),
    ("UpdateService", "ServiceUpdateFailed"),
    ("TagResource", "TagUpdateFailed"),
    ("UntagResource", "TagUpdateFailed"),
];

/// The calls of who waits, restores, goes on, hears of a deployment or sweeps.
const READS: [&str; 9] = [
    "AssumeRole",
    "BatchGetItem",
    "DescribeServices",
    "DescribeServiceDeployments",
    "DescribeServiceRevisions",
    "DescribeTaskDefinition",
    "ExecuteTransaction",
    "ListServiceDeployments",
    "Query",
];

/// A change of image and tags: unlike the one before it, whose tag it removes.
fn change(n: usize) -> Value {
    json!({"ecs_image_name": format!("nginx:{n}"), "ecs_tag": {format!("release-{n}"): "1"}})
}

/// No log line has the secrets that are too short, or too common, for the marker.
#[track_caller]
fn assert_logs_are_clean(world: &World) {
    for line in world.logs() {
        assert!(!line.contains(SHORT) && !line.contains(WORD), "{line}");
    }
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

/// A task definition with a text in every member for which the service model of ECS (`tools/model`) has one that is no enumeration,
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
    let exact = json!({"restore": "previous", "restore_mode": "exact"});
    let mut planned = exact.clone();
    planned["dry_run"] = json!(true);
    let planned = world.update(planned).await;
    let planned = planned.status("PLANNED").to_string();
    world.update(change(2)).await.status("APPLIED");
    world.update(exact).await.status("APPLIED");
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
    let told = domain::ledger::change::fold(records.iter().filter_map(Value::as_object).collect(), chrono::Utc::now());
    assert_eq!(json!(told.unwrap().changes), applied["changes"], "no hash says anything to a person");
    assert!(world.journal.of("UpdateService")[0].body.contains(&secret("set")));
    world.journal.on("UpdateService", 1, Fault::Echo { status: 400, code: "InvalidParameterException".into() });
    let outcome = world.update(event("refused", json!({}))).await;
    assert!(outcome.error("ServiceUpdateFailed").contains("***"));
    let undo = world.update(json!({"restore": "previous", "dry_run": true})).await;
    assert!(undo.error("RestoreConflict").contains("parameter serviceConnectConfiguration"), "{undo:?}");
}

#[tokio::test]
async fn a_short_secret_and_a_common_word_are_not_repeated() {
    let world = world().await;
    for action in ["RegisterTaskDefinition", "UpdateService", "TagResource", "UntagResource"] {
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
    assert_logs_are_clean(&world);
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

/// Whatever reads deployments and tables: a change that goes on, one that waits, a restore, events, the sweep.
async fn read_everything(world: &World, own: &str, begun: &Value) {
    let site = Site::target();
    let event = |name, id: &str| crate::recorder::event(&site, name, id, SENTENCE);
    world.update(begun.clone()).await;
    world.update(json!({"restore": "previous", "dry_run": true})).await;
    world.tell(&event(crate::recorder::FAILED, "ecs-svc/98")).await;
    // Once it is settled nobody asks about it any more.
    if ledger::deployments(world.tables()).iter().any(|item| item.contains_key("check_shard")) {
        ledger::make_due(world.tables(), own);
    }
    world.tell(&json!({"sweep": {}})).await;
}

#[tokio::test]
async fn a_read_whose_error_repeats_the_request_is_told_without_its_secrets() {
    futures_util::future::join_all(READS.map(repeats_nothing)).await;
}

async fn repeats_nothing(action: &str) {
    let site = Site::target();
    let world = world().await;
    // A change that has to go on, and whose deployment ECS says was rolled back; another one that nothing is known of here.
    let mut begun = change(1);
    begun["idempotency_key"] = "k".into();
    begun["wait_seconds"] = 1.into();
    world.journal.on(
        "TagResource",
        1,
        Fault::refuse(400, "InvalidParameterException", "Unable to assume role and validate"),
    );
    world.update(begun.clone()).await.error("TagUpdateFailed");
    let own = world.cloud().deployment(&site);
    world.cloud().tell(&site, &own, "ROLLBACK_FAILED", &json!({"statusReason": repeating()}));
    world.cloud().tell(&site, "ecs-svc/98", "IN_PROGRESS", &json!({}));
    world.cloud().edit(&site, |service| {
        let old = service["deployments"][1].clone();
        service["taskDefinition"] = old["taskDefinition"].clone();
        service["deployments"] = json!([old]);
        service["deployments"][0]["status"] = "PRIMARY".into();
    });
    let code = "InvalidSignatureException".into();
    world.journal.from(action, 1, Fault::Echo { status: 400, code });
    read_everything(&world, &own, &begun).await;
    assert!(world.journal.mend() > 0, "{action} was not called:\n{}", world.journal.summary());
    let secret = secret("read");
    let body = json!({"services": secret, "serviceDeployments": [secret], "serviceRevisions": {"x": secret}, "taskDefinition": secret,
            "Items": [secret], "Responses": secret});
    // That a transaction went well is believed where DynamoDB says so.
    if action != "ExecuteTransaction" {
        world.journal.from(action, 1, Fault::Answer { status: 200, body: body.to_string() });
    }
    read_everything(&world, &own, &begun).await;
    world.journal.mend();
    assert_logs_are_clean(&world);
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

/// What ECS may say of a container that does not start: it repeats the command line and the environment.
fn repeating() -> String {
    let (command, environment) = (secret("command"), secret("environment"));
    format!(
        "CannotStartContainerError: exec: \"--password={command}\" with {environment} and '{SHORT}':\n[ERROR] exec format"
    )
}

const SENTENCE: &str = "ECS deployment circuit breaker: tasks failed to start.";
/// The same where the values are known, and where they are not.
const MASKED: &str = "CannotStartContainerError: exec: \"***\" with *** and '***': [ERROR] exec format";
const CUT: &str = "CannotStartContainerError: *** with *** and ***";

/// A change of a world whose deployment is there. Gives its id.
async fn changed(world: &World) -> String {
    let outcome = world.update(change(1)).await;
    outcome.status("APPLIED")["deployment_id"].as_str().unwrap().to_owned()
}

/// The reason in the newest record. SHORT is in no record, whatever they say.
fn recorded_reason(world: &World) -> Value {
    let records = world.records(&Site::target());
    assert!(!json!(records).to_string().contains(SHORT), "{records:?}");
    ledger::part(records.last().unwrap(), "outcome")["reason"].clone()
}

#[tokio::test]
async fn a_reason_that_repeats_values_is_recorded_and_answered_without_them() {
    let site = Site::target();
    let breaker = json!({"status": "TRIGGERED"});
    let alarms = json!({"status": "TRIGGERED", "triggeredAlarmNames": ["errors of web", "tasks"]});
    let told = |reason: &str| json!({"statusReason": reason, "deploymentCircuitBreaker": breaker});
    for (status, more, expected) in [
        ("STOPPED", told(&repeating()), MASKED.to_owned()),
        ("STOPPED", told(SENTENCE), SENTENCE.to_owned()),
        ("ROLLBACK_SUCCESSFUL", json!({"rollback": {"reason": repeating()}}), MASKED.to_owned()),
        (
            "ROLLBACK_FAILED",
            json!({"statusReason": repeating(), "alarms": alarms}),
            format!("{MASKED} (alarms: errors of web, tasks)"),
        ),
    ] {
        let world = world().await;
        let own = changed(&world).await;
        world.cloud().tell(&site, &own, status, &more);
        ledger::make_due(world.tables(), &own);
        world.tell(&json!({"sweep": {}})).await.response();
        assert_eq!(recorded_reason(&world), expected, "{status}");
        let records = world.records(&site);
        assert_eq!(records.len(), 3, "{records:?}");
    }
}

#[tokio::test]
async fn who_waits_is_answered_a_reason_without_values() {
    let site = Site::target();
    for (is_read, expected) in [(true, MASKED), (false, CUT)] {
        let world = world().await;
        let mut event = change(1);
        event["wait_seconds"] = 20.into();
        let before = world.cloud().deployment(&site);
        let (outcome, ()) = tokio::join!(world.update(event), async {
            while world.cloud().deployment(&site) == before {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            if !is_read {
                let refused = Fault::refuse(400, "AccessDeniedException", "not authorized");
                world.journal.from("DescribeTaskDefinition", 1, refused);
            }
            world.cloud().edit(&site, |service| {
                service["deployments"][0]["rolloutState"] = "FAILED".into();
                service["deployments"][0]["rolloutStateReason"] = repeating().into();
            });
        });
        let body = outcome.status("DEPLOYMENT_FAILED");
        assert_eq!(body["outcome"]["reason"], expected);
        assert_eq!(recorded_reason(&world), expected);
    }
}

#[tokio::test]
async fn an_event_of_ecs_is_told_in_words_of_ecs_only() {
    let (world, site) = (world().await, Site::target());
    let own = changed(&world).await;
    let event = |name, id: &str, reason: &str| crate::recorder::event(&site, name, id, reason);
    world.tell(&event(crate::recorder::FAILED, &own, &repeating())).await.response();
    assert_eq!(recorded_reason(&world), CUT);
    world.tell(&event(crate::recorder::IN_PROGRESS, "ecs-svc/77", &repeating())).await.response();
    assert_eq!((world.kinds(&site).last().unwrap().as_str(), recorded_reason(&world)), ("EXTERNAL", json!(CUT)));
    let free = secret("free");
    for (path, text) in [("/detail/eventName", &free), ("/id", &free), ("/detail/eventType", &free)] {
        let mut event = event(crate::recorder::COMPLETED, "ecs-svc/78", SENTENCE);
        *event.pointer_mut(path).unwrap() = text.as_str().into();
        event["detail"]["more"] = text.as_str().into();
        world.tell(&event).await;
    }
    assert_logs_are_clean(&world);
}

#[tokio::test]
async fn a_change_that_goes_on_says_without_values_why_its_deployment_did_not_last() {
    let (world, site) = (world().await, Site::target());
    let mut event = change(1);
    event["idempotency_key"] = "k".into();
    world.journal.on(
        "TagResource",
        1,
        Fault::refuse(400, "InvalidParameterException", "Unable to assume role and validate"),
    );
    world.update(event.clone()).await.error("TagUpdateFailed");
    let own = world.cloud().deployment(&site);
    world.cloud().edit(&site, |service| {
        service["taskDefinition"] = service["deployments"][1]["taskDefinition"].clone();
        service["deployments"][0]["status"] = json!("ACTIVE");
        service["deployments"][0]["rolloutState"] = json!("FAILED");
        service["deployments"][0]["rolloutStateReason"] = repeating().into();
        service["deployments"][1]["status"] = json!("PRIMARY");
    });
    let outcome = world.update(event).await;
    let message = outcome.error("ServiceUpdateFailed");
    assert!(message.contains(&own) && message.contains(MASKED), "{message}");
    assert!(!json!(world.records(&site)).to_string().contains(SHORT));
    assert_logs_are_clean(&world);
}

/// A service with a text in every member for which the service model of ECS has one that is no enumeration: the parameters of `UpdateService`, and
/// what else `DescribeServices` shows. But for ids, ARNs and states that ECS makes, by which a service is known. `tests/policies` compares it
/// with the model.
const FREE_SERVICE: &str = include_str!("free_service.json");

/// Where `DescribeServices` shows a parameter in the deployment.
const IN_DEPLOYMENT: [&str; 3] = ["serviceConnectConfiguration", "volumeConfigurations", "vpcLatticeConfigurations"];

/// What of it plans and records show, each with what it is: somebody has looked at it. They say what a service is connected with, and hold no
/// credential. All else is hidden. Of tags: "Do not store personally identifiable information (PII) or other confidential or sensitive information in
/// tags" (<https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-resourcegroups-group-tag.html>).
const SHOWN_OF_SERVICE: [(&str, &str); 46] = [
    ("capacityProviderStrategy-capacityProvider", "an ARN, id or name that AWS gives"),
    ("deploymentConfiguration-alarms-alarmNames", "a name"),
    ("deploymentConfiguration-lifecycleHooks-hookTargetArn", "an ARN, id or name that AWS gives"),
    ("deploymentConfiguration-lifecycleHooks-roleArn", "an ARN, id or name that AWS gives"),
    ("networkConfiguration-awsvpcConfiguration-subnets", "an ARN, id or name that AWS gives"),
    ("networkConfiguration-awsvpcConfiguration-securityGroups", "an ARN, id or name that AWS gives"),
    ("placementConstraints-expression", "a setting"),
    ("placementStrategy-field", "a setting"),
    ("platformVersion", "a setting"),
    ("loadBalancers-targetGroupArn", "an ARN, id or name that AWS gives"),
    ("loadBalancers-loadBalancerName", "a name"),
    ("loadBalancers-containerName", "a name"),
    ("loadBalancers-advancedConfiguration-alternateTargetGroupArn", "an ARN, id or name that AWS gives"),
    ("loadBalancers-advancedConfiguration-productionListenerRule", "an ARN, id or name that AWS gives"),
    ("loadBalancers-advancedConfiguration-testListenerRule", "an ARN, id or name that AWS gives"),
    ("loadBalancers-advancedConfiguration-roleArn", "an ARN, id or name that AWS gives"),
    ("serviceRegistries-registryArn", "an ARN, id or name that AWS gives"),
    ("serviceRegistries-containerName", "a name"),
    ("serviceConnectConfiguration-namespace", "a name"),
    ("serviceConnectConfiguration-services-portName", "a name"),
    ("serviceConnectConfiguration-services-discoveryName", "a name"),
    ("serviceConnectConfiguration-services-clientAliases-dnsName", "a name"),
    ("serviceConnectConfiguration-services-clientAliases-testTrafficRules-header-name", "a name"),
    (
        "serviceConnectConfiguration-services-tls-issuerCertificateAuthority-awsPcaAuthorityArn",
        "an ARN, id or name that AWS gives",
    ),
    ("serviceConnectConfiguration-services-tls-kmsKey", "an ARN, id or name that AWS gives"),
    ("serviceConnectConfiguration-services-tls-roleArn", "an ARN, id or name that AWS gives"),
    ("serviceConnectConfiguration-logConfiguration-secretOptions-name", "a name"),
    (
        "serviceConnectConfiguration-logConfiguration-secretOptions-valueFrom",
        "an ARN or id, or the reference to a secret",
    ),
    ("volumeConfigurations-name", "a name"),
    ("volumeConfigurations-managedEBSVolume-kmsKeyId", "an ARN, id or name that AWS gives"),
    ("volumeConfigurations-managedEBSVolume-volumeType", "a setting"),
    ("volumeConfigurations-managedEBSVolume-snapshotId", "an ARN, id or name that AWS gives"),
    (
        "volumeConfigurations-managedEBSVolume-tagSpecifications-tags-key",
        "a tag: AWS says that tags are no place for secrets",
    ),
    (
        "volumeConfigurations-managedEBSVolume-tagSpecifications-tags-value",
        "a tag: AWS says that tags are no place for secrets",
    ),
    ("volumeConfigurations-managedEBSVolume-roleArn", "an ARN, id or name that AWS gives"),
    ("vpcLatticeConfigurations-roleArn", "an ARN, id or name that AWS gives"),
    ("vpcLatticeConfigurations-targetGroupArn", "an ARN, id or name that AWS gives"),
    ("vpcLatticeConfigurations-portName", "a name"),
    ("vpcLatticeConfigurations-advancedConfiguration-alternateTargetGroupArn", "an ARN, id or name that AWS gives"),
    ("vpcLatticeConfigurations-advancedConfiguration-productionListenerRule", "an ARN, id or name that AWS gives"),
    ("vpcLatticeConfigurations-advancedConfiguration-testListenerRule", "an ARN, id or name that AWS gives"),
    ("monitoring-metricConfigurations-metricNames", "a name"),
    ("gatewayConnectors-portName", "a name"),
    ("gatewayConnectors-healthCheck-healthCheckPath", "a setting"),
    ("gatewayConnectors-healthCheck-matcher-httpCode", "a setting"),
    ("gatewayConnectors-healthCheck-matcher-grpcCode", "a setting"),
];

fn free_service(which: &str) -> Value {
    serde_json::from_str(&FREE_SERVICE.replace("MARKER", &format!("text {which}"))).unwrap()
}

/// Puts texts into all members of a service.
fn fill(service: &mut Value, texts: &Value) {
    for (name, value) in texts["parameters"].as_object().unwrap() {
        let place = if IN_DEPLOYMENT.contains(&name.as_str()) { &mut service["deployments"][0] } else { &mut *service };
        place[name] = value.clone();
    }
    for (name, value) in texts["service"].as_object().unwrap() {
        if name == "deployments" {
            let deployment = service["deployments"][0].as_object_mut().unwrap();
            deployment.extend(value[0].as_object().unwrap().clone());
        } else {
            service[name] = value.clone();
        }
    }
}

#[tokio::test]
async fn plans_and_records_show_names_and_settings_of_a_service_and_no_other_free_text() {
    let environment = [("AWS_LAMBDA_LOG_LEVEL", "trace"), ("RUST_LOG", "trace")];
    let (world, site) = (World::with_environment(&environment).await, Site::target());
    world.seed_with(&site, |service| fill(service, &free_service("before")));
    world.update(change(1)).await.status("APPLIED");
    // By somebody else's hand each of them differs, and an event sets each.
    world.cloud().edit(&site, |service| fill(service, &free_service("by hand")));
    let mut answers = vec![world.update(json!({"restore": "previous", "dry_run": true})).await];
    let set = json!({"service": free_service("set")["parameters"], "force_new_deployment": true});
    let mut planned = set.clone();
    planned["dry_run"] = true.into();
    answers.push(world.update(planned).await);
    for outcome in &answers {
        outcome.status("PLANNED");
    }
    world.journal.on("UpdateService", 1, Fault::Echo { status: 400, code: "InvalidParameterException".into() });
    let refused = world.update(set.clone()).await;
    let refused = refused.error("ServiceUpdateFailed").to_owned();
    assert!(world.journal.mend() > 0);
    world.update(set).await.status("APPLIED");
    // Records hold no secrets, and this AWS has none from before.
    let out = json!({"deploymentConfiguration": null, "serviceConnectConfiguration": null});
    let restore = json!({"restore": "previous", "force_new_deployment": true, "service": out});
    answers.push(world.update(restore).await);
    answers[2].status("APPLIED");
    let calls = world.journal.of("UpdateService");
    let parameters = serde_json::to_string(&free_service("set")["parameters"]).unwrap();
    assert_eq!(calls[1].body.matches("text set ").count(), parameters.matches("text set ").count());
    let own = world.cloud().deployment(&site);
    world.tell(&crate::recorder::event(&site, crate::recorder::FAILED, &own, SENTENCE)).await.response();
    ledger::make_due(world.tables(), &own);
    world.tell(&json!({"sweep": {}})).await.response();

    let logs = world.logs().join("\n");
    let all =
        format!("{answers:?}{refused}{logs}{}{}", json!(world.records(&site)), json!(world.tables().scan(STATE_TABLE)));
    let texts = FREE_SERVICE.split("MARKER ").skip(1).filter_map(|text| text.split('"').next());
    let is_told =
        |text: &&str| ["before", "by hand", "set"].iter().any(|which| all.contains(&format!("text {which} {text}")));
    let (shown, hidden): (Vec<&str>, Vec<&str>) = texts.partition(is_told);
    assert_eq!(shown, SHOWN_OF_SERVICE.map(|(text, _)| text), "and hidden are {hidden:#?}");
}
