//! Plans of whole events.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::ecs::service::Service;
use crate::event::parse::{Defaults, parse_one as parse};
use crate::ids::{AccountId, Region};
use crate::plan::difference::{Difference, DifferenceKind};

pub(in crate::plan) fn request(more: &Value) -> UpdateRequest {
    let mut event = json!({"account_id": "222222222222", "ecs_cluster_name": "ECSCluster", "ecs_service_name": "web"});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let defaults = Defaults {
        account_id: Some(AccountId::parse("111111111111").unwrap()),
        region: Region::parse("eu-west-1").unwrap(),
        identity: crate::ids::Identity::Claimed,
    };
    parse(&event.to_string(), &defaults).unwrap()
}

pub(in crate::plan) fn snapshot(service: &Value, containers: &Value) -> Snapshot {
    let body = json!({"taskDefinition": {"taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7",
        "family": "web", "revision": 7, "containerDefinitions": containers}});
    let mut members = json!({"serviceArn": "arn:s", "status": "ACTIVE", "taskDefinition": "arn:td",
        "tags": [{"key": "old", "value": "1"}, {"key": "aws:x", "value": "y"}]});
    members.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    Snapshot {
        service: Service::new(members.as_object().unwrap().clone(), None).unwrap(),
        task_definition: Some(Arc::new(TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap())),
    }
}

pub(in crate::plan) fn one() -> Value {
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
        let changed = document["containerDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|candidate| candidate["name"] == container);
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
        json!({"serviceConnectConfiguration": {"enabled": true, "namespace": "n"}}),
        json!({"healthCheckGracePeriodSeconds": 0, "propagateTags": "NONE", "availabilityZoneRebalancing": "DISABLED"}),
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

/// What is omitted from a parameter that `UpdateService` replaces is removed, or set to AWS's default.
#[test]
fn what_is_left_out_of_a_parameter_that_is_replaced_is_a_difference() {
    let balancer = json!({"targetGroupArn": "arn:t", "containerName": "web", "containerPort": 80});
    let mut advanced = balancer.clone();
    advanced["advancedConfiguration"] = json!({"alternateTargetGroupArn": "arn:u", "roleArn": "arn:r"});
    let volume = |more: Value| {
        let mut volume = json!({"roleArn": "arn:r", "sizeInGiB": 20});
        volume.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{"name": "data", "managedEBSVolume": volume}])
    };
    let connect = json!({"enabled": true, "namespace": "n", "services": [{"portName": "http"}]});
    let network = |public: &str| json!({"awsvpcConfiguration": {"subnets": ["a"], "assignPublicIp": public}});
    let groups = json!({"awsvpcConfiguration": {"subnets": ["a"], "securityGroups": ["g"]}});
    let bare = json!({"awsvpcConfiguration": {"subnets": ["a"]}});
    let provider = |more: &str| json!([{"capacityProvider": "P", "weight": 1, more: 1}]);
    for (name, has, asked) in [
        ("loadBalancers", json!([advanced]), json!([balancer])),
        ("serviceConnectConfiguration", connect, json!({"enabled": true, "namespace": "n"})),
        ("networkConfiguration", network("ENABLED"), bare.clone()),
        ("networkConfiguration", groups, bare.clone()),
        ("volumeConfigurations", volume(json!({"snapshotId": "snap-1"})), volume(json!({}))),
        ("volumeConfigurations", volume(json!({"filesystemType": "ext4"})), volume(json!({}))),
        ("capacityProviderStrategy", provider("base"), json!([{"capacityProvider": "P", "weight": 1}])),
    ] {
        let has = json!({name: has});
        let asked = json!({"service": {name: asked}});
        assert_eq!(Value::Object(update(&asked, &has, &one()).parameters), asked["service"], "{has}");
        assert!(is_unchanged(&json!({"service": has}), &has), "{has}");
    }
    for (name, has, asked) in [
        ("networkConfiguration", network("DISABLED"), bare),
        ("volumeConfigurations", volume(json!({"filesystemType": "xfs", "encrypted": false})), volume(json!({}))),
    ] {
        for (has, asked) in [(&has, &asked), (&asked, &has)] {
            assert!(is_unchanged(&json!({"service": {name: asked}}), &json!({name: has})), "{has} and {asked}");
        }
    }
}

#[test]
fn of_a_deployment_configuration_only_what_is_named_is_compared() {
    let has = json!({"deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100, "strategy": "ROLLING",
        "alarms": {"alarmNames": ["a"], "enable": true, "rollback": true},
        "deploymentCircuitBreaker": {"enable": true, "rollback": true, "resetOnHealthyTask": true,
            "thresholdConfiguration": {"type": "BOUNDED_PERCENT", "value": 50}}}});
    for same in [
        json!({"minimumHealthyPercent": 100}),
        json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}}),
        json!({"bakeTimeInMinutes": 0, "lifecycleHooks": [], "earlySuccessCriteria": {"enable": false}}),
        json!({"alarms": null, "strategy": "ROLLING"}),
    ] {
        assert!(is_unchanged(&json!({"service": {"deploymentConfiguration": same}}), &has), "{same}");
    }
    for other in [
        json!({"maximumPercent": 200, "minimumHealthyPercent": 50}),
        json!({"alarms": {"alarmNames": [], "enable": false, "rollback": false}}),
        json!({"alarms": {"alarmNames": ["a"], "enable": true}}),
        json!({"deploymentCircuitBreaker": {"enable": false, "rollback": false}}),
        json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true, "resetOnHealthyTask": false}}),
        json!({"strategy": "CANARY"}),
        json!({"unheardOf": 1}),
    ] {
        let asked = json!({"service": {"deploymentConfiguration": other}});
        assert_eq!(Value::Object(update(&asked, &has, &one()).parameters), asked["service"]);
    }
}

#[test]
fn what_cannot_be_compared_goes_out_with_a_note() {
    let monitoring = json!({"metricConfigurations": [{"metricNames": ["CPUUtilization"], "resolutionSeconds": 20}]});
    let connectors = json!([{"portName": "http"}]);
    let asked = json!({"monitoring": monitoring, "gatewayConnectors": connectors, "newInMay": {"apiKey": "s3cret"}});
    let blind = update(&json!({"service": asked}), &json!({"newInMay": {"apiKey": "s3cret"}}), &one());
    assert_eq!(json!(blind.parameters), asked);
    for (note, name) in [
        ("ECS does not show what the service has for gatewayConnectors: it goes out", "gatewayConnectors"),
        ("ECS does not show what the service has for monitoring: it goes out", "monitoring"),
        ("newInMay is no parameter of UpdateService that is known here: it goes out as it is given", "newInMay"),
    ] {
        assert!(blind.notes.iter().any(|it| it.starts_with(note)), "{name}: {:?}", blind.notes);
    }
    let told = json!(blind.changes.iter().map(Difference::told).collect::<Vec<_>>());
    assert!(!told.to_string().contains("s3cret") && told.to_string().contains("resolutionSeconds"), "{told}");

    let mut seen = snapshot(&json!({}), &one());
    seen.service = seen.service.with_revision(json!({"monitoring": monitoring}).as_object().unwrap());
    let asks = |service: Value| plan(&request(&json!({"service": service})), &seen, None);
    assert!(matches!(asks(json!({"monitoring": monitoring, "gatewayConnectors": []})), Plan::Unchanged { .. }));
    let Plan::Update(update) = asks(asked) else { panic!("a change") };
    assert_eq!(update.parameters.keys().collect::<Vec<_>>(), ["gatewayConnectors", "newInMay"]);
    assert_eq!(update.notes.len(), 1, "{:?}", update.notes);
    assert_eq!(seen.recorded(None).service, *json!({"monitoring": monitoring}).as_object().unwrap());
}

#[test]
fn another_capacity_provider_strategy_needs_a_new_deployment() {
    let event = json!({"service": {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}});
    let update = update(&event, &json!({}), &one());
    assert!(update.force_new_deployment);
    assert_eq!(update.notes.len(), 1);
    let has = json!({"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]});
    assert!(is_unchanged(&event, &has));
}

#[test]
fn a_service_that_drains_and_the_count_of_a_daemon_are_refused_before_anything() {
    let drains = json!({"status": "DRAINING"});
    for event in [
        json!({"ecs_image_name": "nginx"}),
        json!({"ecs_tag": {"new": "1"}}),
        json!({"dry_run": true, "force_new_deployment": true}),
    ] {
        assert_eq!(refused(&event, &drains, &one()).code, Code::ServiceNotActive, "{event}");
    }
    let daemon = json!({"schedulingStrategy": "DAEMON", "desiredCount": 1});
    let failure = refused(&json!({"service": {"desiredCount": 2}}), &daemon, &one());
    assert_eq!(failure.code, Code::JsonValidation);
    assert!(failure.message.contains("/service/desiredCount"), "{failure}");
    update(&json!({"ecs_image_name": "nginx"}), &daemon, &one());
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
fn an_express_service_is_refused_by_name_with_what_to_do_and_takes_tags() {
    let shown = json!({"taskDefinition": null, "deployments": [{"status": "PRIMARY", "id": "ecs-svc/1",
        "taskDefinition": "arn:aws:ecs:eu-west-1:222222222222:task-definition/express:1"}]});
    for service in [json!({"resourceManagementType": "ECS"}), shown] {
        for event in [
            json!({"ecs_image_name": "nginx"}),
            json!({"ecs_image_name": "nginx", "dry_run": true}),
            json!({"service": {"desiredCount": 2}}),
            json!({"force_new_deployment": true}),
        ] {
            let failure = refused(&event, &service, &one());
            assert_eq!(failure.code, Code::UnsupportedDeploymentController, "{event}: {failure}");
            let told = ["Express service", "UpdateExpressGatewayService", "Nothing was changed"];
            assert!(told.iter().all(|part| failure.message.contains(part)), "{failure}");
        }
        update(&json!({"ecs_tag": {"new": "1"}}), &service, &one());
    }
    update(&json!({"ecs_image_name": "nginx"}), &json!({"resourceManagementType": "CUSTOMER"}), &one());
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
fn tags_of_a_service_with_a_short_arn_are_refused_and_the_rest_is_not() {
    let short = json!({"serviceArn": "arn:aws:ecs:eu-west-1:222222222222:service/web"});
    for tags in [json!({"new": "1"}), json!({})] {
        let failure = refused(&json!({"ecs_image_name": "nginx", "ecs_tag": tags}), &short, &one());
        assert_eq!((failure.code, failure.fault), (Code::TagUpdateFailed, Fault::Caller));
        assert!(failure.message.contains("service/web is a short one"), "{failure}");
    }
    update(&json!({"ecs_image_name": "nginx"}), &short, &one());
    update(&json!({"ecs_image_name": "nginx", "ecs_tag": {"old": "1"}}), &short, &one());
    let long = json!({"serviceArn": "arn:aws:ecs:eu-west-1:222222222222:service/ECSCluster/web"});
    update(&json!({"ecs_tag": {"new": "1"}}), &long, &one());
}

#[test]
fn an_image_by_its_tag_that_is_there_already_is_noted() {
    let notes = |event: &Value, containers: &Value| match plan(&request(event), &snapshot(&json!({}), containers), None)
    {
        Plan::Unchanged { notes, .. } => notes,
        Plan::Update(update) => update.notes,
        Plan::Refused(failure) => panic!("{failure}"),
    };
    let latest = json!([{"name": "web", "image": "app:latest"}]);
    for event in [
        json!({"ecs_image_name": "app:latest"}),
        json!({"ecs_image_name": "app:latest", "ecs_tag": {"new": "1"}}),
        json!({"images": {"web": "app:latest"}, "check_image": true}),
    ] {
        let notes = notes(&event, &latest);
        assert!(notes[0].starts_with("the service has app:latest already") && notes.len() == 1, "{notes:?}");
    }
    let pinned = format!("app@sha256:{}", "0".repeat(64));
    for (event, has) in [
        (json!({"ecs_image_name": "app:latest", "force_new_deployment": true}), "app:latest"),
        (json!({"ecs_image_name": "app:8"}), "app:latest"),
        (json!({"ecs_image_name": pinned}), pinned.as_str()),
        (json!({"ecs_tag": {"new": "1"}}), "app:latest"),
    ] {
        let notes = notes(&event, &json!([{"name": "web", "image": has}]));
        assert_eq!(notes, Vec::<String>::new(), "{event}");
    }
}

#[test]
fn a_plan_tells_what_would_be() {
    let event = json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}});
    let snapshot = snapshot(&json!({}), &one());
    let Plan::Update(update) = plan(&request(&event), &snapshot, None) else { panic!("a change") };
    let what: Vec<_> = update.changes.iter().map(|change| (change.what, change.path.as_str())).collect();
    assert_eq!(what, [(DifferenceKind::Image, "web"), (DifferenceKind::Tag, "new"), (DifferenceKind::Tag, "old")]);
    let mut after = snapshot.state(update.container.as_deref());
    update.apply_to(&mut after);
    assert_eq!(after.service_image.as_deref(), Some("nginx"));
    assert_eq!(after.images["web"], "nginx");
    let keys: Vec<_> = after.tags.iter().map(|tag| tag.key.as_str()).collect();
    assert_eq!(keys, ["aws:x", "new"]);
    assert_eq!(after.task_definition_arn, None);
}
