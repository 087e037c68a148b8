//! `service`: parameters of UpdateService, passed on as given and compared with what the service has.

use serde_json::{Value, json};

use crate::harness::exact_json::Exact;
use crate::harness::journal::Fault;
use crate::harness::{Site, World, ledger};

#[tokio::test]
async fn parameters_arrive_as_they_were_given_unknown_members_and_numbers_included() {
    let world = World::new().await;
    world.journal.newer(&["later"]);
    let given = r#"{"deploymentConfiguration":{"maximumPercent":150,"canaryConfiguration":{"canaryPercent":5.0,"later":1e5},
        "lifecycleHooks":[{"hookTargetArn":"","hookDetails":{"deep":[9007199254740993,null,[],{}]}}]},"desiredCount":3,
        "monitoring":{"later":0.1}}"#;
    let event = Site::target().event(json!({})).to_string();
    let event = format!(r#"{},"service":{given}}}"#, event.trim_end_matches('}'));
    world.invoke_bytes(event.into_bytes(), world.invocation()).await.status("APPLIED");
    let sent = Exact::parse(&world.journal.only("UpdateService").body);
    for (name, value) in Exact::parse(given).object() {
        let differences = value.differences(&sent.object()[name]);
        assert!(differences.is_empty(), "{name}: {differences:#?}");
    }
    assert_eq!(sent.object()["cluster"], Exact::String("ECSCluster".into()));
    for name in ["taskDefinition", "forceNewDeployment"] {
        assert!(!sent.object().contains_key(name), "{name} was not asked for");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), ["UpdateService"]);
}

#[tokio::test]
async fn parameters_that_the_service_covers_change_nothing() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["deployments"][0]["serviceConnectConfiguration"] =
            json!({"enabled": true, "namespace": "edge", "services": [{"portName": "http", "discoveryName": "web"}]});
        service["deployments"][0]["volumeConfigurations"] =
            json!([{"name": "data", "managedEBSVolume": {"roleArn": "arn:r", "sizeInGiB": 20, "encrypted": false}}]);
        service["capacityProviderStrategy"] = json!([{"capacityProvider": "FARGATE", "weight": 1, "base": 0}]);
        service.as_object_mut().unwrap().remove("launchType");
    });
    // AWS has filled in the rest.
    for parameters in [
        json!({"desiredCount": 2}),
        json!({"deploymentConfiguration": {"maximumPercent": 200}}),
        json!({"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": false}}}),
        json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-2", "subnet-1"], "securityGroups": ["sg-1"]}}}),
        json!({"serviceConnectConfiguration": {"enabled": true, "namespace": "edge",
            "services": [{"portName": "http", "discoveryName": "web"}]}}),
        json!({"volumeConfigurations": [{"name": "data", "managedEBSVolume": {"roleArn": "arn:r", "sizeInGiB": 20}}]}),
        json!({"capacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}]}),
        json!({"loadBalancers": [], "serviceRegistries": [], "placementConstraints": [], "placementStrategy": []}),
        json!({"platformVersion": "LATEST", "propagateTags": "NONE", "enableECSManagedTags": false}),
        json!({"enableExecuteCommand": false, "availabilityZoneRebalancing": "ENABLED"}),
        json!({"healthCheckGracePeriodSeconds": 0, "deploymentController": {"type": "ECS"}}),
        json!({"desiredCount": null, "loadBalancers": null, "networkConfiguration": null}),
    ] {
        world.update(json!({"service": parameters})).await.status("UNCHANGED");
    }
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn parameters_that_differ_in_one_member_are_sent() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["deployments"][0]["serviceConnectConfiguration"] = json!({"enabled": true, "namespace": "edge"});
        service["loadBalancers"] = json!([{"targetGroupArn": "arn:t", "containerName": "web", "containerPort": 80,
            "advancedConfiguration": {"alternateTargetGroupArn": "arn:u", "roleArn": "arn:r"}}]);
    });
    for (parameters, deploys) in [
        (json!({"deploymentConfiguration": {"maximumPercent": 150}}), false),
        (json!({"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": true, "rollback": true}}}), false),
        (
            json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}}),
            true,
        ),
        // What is left out goes: ECS replaces these whole.
        (json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}}), true),
        (json!({"serviceConnectConfiguration": {"enabled": true}}), true),
        (json!({"serviceConnectConfiguration": {"enabled": false}}), true),
        (json!({"loadBalancers": [{"targetGroupArn": "arn:t", "containerName": "web", "containerPort": 80}]}), true),
        (json!({"loadBalancers": []}), true),
        (json!({"placementStrategy": [{"type": "spread", "field": "host"}]}), false),
        (json!({"healthCheckGracePeriodSeconds": 30}), false),
        (json!({"enableExecuteCommand": true}), false),
        (json!({"platformVersion": "1.3.0"}), true),
    ] {
        world.journal.forget();
        let outcome = world.update(json!({"service": parameters})).await;
        let body = outcome.status("APPLIED");
        let sent = world.journal.only("UpdateService").json();
        for (name, value) in parameters.as_object().unwrap() {
            assert_eq!(&sent[name], value);
        }
        assert_eq!(body["deployment_id"].is_string(), deploys, "{parameters}: {body}");
        // The same once more is covered now.
        world.update(json!({"service": parameters})).await.status("UNCHANGED");
    }
}

#[tokio::test]
async fn an_empty_list_clears() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed_with(&site, |service| {
        service["serviceRegistries"] = json!([{"registryArn": "arn:aws:servicediscovery:r"}]);
    });
    world.update(json!({"service": {"serviceRegistries": [], "desiredCount": null}})).await.status("APPLIED");
    assert_eq!(world.cloud().service(&site)["serviceRegistries"], json!([]));
    assert_eq!(world.cloud().service(&site)["desiredCount"], 2, "null leaves alone");
}

#[tokio::test]
async fn what_aws_answered_stands_in_the_record_not_what_was_asked_for() {
    let world = World::new().await;
    let asked = json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-7"]}}});
    world.update(json!({"service": asked})).await.status("APPLIED");
    let after = ledger::part(&world.records(&Site::target())[1], "after").to_string();
    assert!(after.contains("subnet-7") && after.contains("assignPublicIp"), "{after}");
}

#[tokio::test]
async fn what_only_a_service_revision_shows_is_read_where_it_is_asked_for() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    world.seed(&site);
    let arn = site.arn("service-revision", Some("1"));
    let monitoring = |seconds: u8| json!({"metricConfigurations": [{"metricNames": ["CPUUtilization"], "resolutionSeconds": seconds}]});
    world.cloud().run_revision(&site, &arn, &json!({"monitoring": monitoring(60)}));
    world.update(json!({"service": {"monitoring": monitoring(60), "gatewayConnectors": []}})).await.status("UNCHANGED");
    let outcome = world.update(json!({"service": {"monitoring": monitoring(20)}})).await;
    let change = json!({"what": "parameter", "path": "monitoring", "from": monitoring(60), "to": monitoring(20)});
    assert_eq!(outcome.status("APPLIED")["changes"], json!([change]));
    world.update(json!({"service": {"monitoring": monitoring(20)}})).await.status("UNCHANGED");
    // Where it cannot be read, it is sent, and said so.
    world.journal.from("DescribeServiceRevisions", 1, Fault::refuse(400, "AccessDeniedException", "no"));
    let notes =
        world.update(json!({"service": {"monitoring": monitoring(20)}})).await.status("APPLIED")["notes"].to_string();
    assert!(notes.contains("ECS does not show what the service has for monitoring"), "{notes}");
    world.journal.forget();
    world.update(json!({"service": {"desiredCount": 2}})).await.status("UNCHANGED");
    assert!(world.journal.of("DescribeServiceRevisions").is_empty(), "nobody asks for it");
}

#[tokio::test]
async fn a_parameter_that_is_not_known_goes_out_with_a_note_and_is_told_to_nobody() {
    let world = World::new().await;
    world.journal.newer(&["newInMay"]);
    let site = Site::target();
    let asked = json!({"service": {"newInMay": {"apiKey": crate::harness::SECRET_MARKER}}});
    let body = world.update(asked.clone()).await.status("APPLIED").clone();
    assert_eq!(world.journal.only("UpdateService").json()["newInMay"], asked["service"]["newInMay"]);
    assert_eq!(body["changes"], json!([{"what": "parameter", "path": "newInMay", "from": null, "to": "added"}]));
    assert!(
        body["notes"].to_string().contains("newInMay is no parameter of UpdateService that is known here"),
        "{body}"
    );
    let told = format!("{body}{}{}", json!(world.records(&site)), world.logs().join("\n"));
    assert!(!told.contains(crate::harness::SECRET_MARKER), "{told}");
}

#[tokio::test]
async fn what_aws_took_and_does_not_answer_is_noted() {
    let world = World::new().await;
    let site = Site::target();
    world.cloud().overlook(&site, "deploymentConfiguration.lifecycleHooks");
    let hooks = json!([{"targetType": "PAUSE", "lifecycleStages": ["PRE_SCALE_UP"]}]);
    let asked = json!({"service": {"deploymentConfiguration": {"maximumPercent": 150, "lifecycleHooks": hooks}}});
    let notes = world.update(asked).await.status("APPLIED")["notes"].to_string();
    assert!(
        notes.contains("does not answer these as they were sent: deploymentConfiguration.lifecycleHooks."),
        "{notes}"
    );
}

#[tokio::test]
async fn another_capacity_provider_strategy_forces_a_new_deployment_and_the_plan_says_so() {
    let world = World::new().await;
    let changes = json!({"service": {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}});
    let mut dry = changes.clone();
    dry["dry_run"] = json!(true);
    let outcome = world.update(dry).await;
    let plan = outcome.status("PLANNED").to_string();
    assert!(plan.contains("forceNewDeployment") || plan.contains("new deployment"), "{plan}");
    let outcome = world.update(changes.clone()).await;
    assert!(outcome.status("APPLIED")["deployment_id"].is_string());
    assert_eq!(world.journal.only("UpdateService").json()["forceNewDeployment"], true);
    world.update(changes).await.status("UNCHANGED");
}

#[tokio::test]
async fn a_forced_deployment_starts_one_where_nothing_differs_and_registers_nothing() {
    let world = World::new().await;
    let site = Site::target();
    let first = world.cloud().deployment(&site);
    let outcome = world.update(json!({"force_new_deployment": true, "ecs_image_name": "busybox"})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["UpdateService"]);
    assert_eq!(world.journal.only("UpdateService").json()["forceNewDeployment"], true);
    assert_ne!(world.cloud().deployment(&site), first);
    assert_eq!(body["deployment_id"], world.cloud().deployment(&site));
    assert_eq!(world.cloud().revisions(&site, "web").len(), 1);
}

#[tokio::test]
async fn a_value_that_aws_refuses_is_told_with_the_revision_that_was_registered_for_it() {
    let world = World::new().await;
    let site = Site::target();
    let fault = Fault::refuse(400, "InvalidParameterException", "The maximumPercent is too small.");
    world.journal.from("UpdateService", 1, fault);
    let changes = json!({"ecs_image_name": "nginx", "service": {"deploymentConfiguration": {"maximumPercent": 1}}});
    let outcome = world.update(changes).await;
    let message = outcome.error("ServiceUpdateFailed");
    let text = "[ERROR][ecs_service_update] service could not be update with new task_definition ";
    assert!(message.starts_with(text), "{message}");
    let call = world.journal.only("UpdateService");
    for piece in ["InvalidParameterException", "The maximumPercent is too small.", call.request_id.as_str(), "web:2"] {
        assert!(message.contains(piece), "{piece:?} is not in {message}");
    }
    let records = world.records(&site);
    assert_eq!(ledger::kinds(&records), ["STARTED", "FAILED"]);
    let error = ledger::part(&records[1], "error").to_string();
    assert!(error.contains("ServiceUpdateFailed") && error.contains("web:2"), "how far it got: {error}");
    ledger::assert_free(world.tables(), &site.key());
}

#[tokio::test]
async fn what_is_no_parameter_of_update_service_is_refused_by_name() {
    let world = World::new().await;
    for name in ["taskDefinition", "cluster", "service", "forceNewDeployment", "launchType", "desiredcount", "tags"] {
        let mut parameters = json!({"desiredCount": 1});
        parameters[name] = json!("x");
        let outcome = world.update(json!({"service": parameters})).await;
        let message = outcome.error("JsonValidation");
        assert!(message.contains(name), "{name} is not named in {message}");
    }
    world.update(json!({"service": Value::Null})).await.error("JsonValidation");
    assert!(world.journal.calls().is_empty());
}
