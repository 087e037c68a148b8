//! Services of every kind: Fargate, daemons, deleted ones, and those that something else deploys.

use serde_json::{Value, json};

use crate::harness::{Site, World, ledger, web_definition};

const UPDATE: &str = "[ERROR][ecs_service_update] ";

#[tokio::test]
async fn a_container_without_memory_has_null_for_its_memory() {
    let world = World::with_environment(&[]).await;
    let mut definition = web_definition("busybox");
    definition["containerDefinitions"][0].as_object_mut().unwrap().remove("memory");
    world.seed_definition(&Site::target(), &definition.to_string(), json!([]), |_| {});
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["BEFORE"]["serviceMemory"], Value::Null);
    assert_eq!(body["AFTER"]["serviceMemory"], Value::Null);
    assert!(body["AFTER"].as_object().unwrap().contains_key("serviceMemory"));
    let sent = world.journal.only("RegisterTaskDefinition").json();
    assert!(sent["containerDefinitions"][0].get("memory").is_none(), "none is made up: {sent}");
}

#[tokio::test]
async fn a_daemon_service_takes_an_image_without_a_desired_count() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| service["schedulingStrategy"] = json!("DAEMON"));
    world.update(json!({"ecs_image_name": "nginx"})).await.status("APPLIED");
    assert!(world.journal.only("UpdateService").json().get("desiredCount").is_none());
}

#[tokio::test]
async fn a_service_without_tags_has_an_empty_list_of_them() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service.as_object_mut().unwrap().remove("tags");
    });
    let outcome = world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {}})).await;
    let body = outcome.status("APPLIED");
    assert_eq!((&body["BEFORE"]["tags"], &body["AFTER"]["tags"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn an_inactive_service_is_not_found() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["status"] = json!("INACTIVE");
        service["deployments"] = json!([]);
    });
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    let message = outcome.error("ServiceNotFound");
    assert!(message.starts_with("[ERROR][ecs_service_read] ecs_service_name ecs-dummy-service not found"), "{message}");
    assert!(world.records(&Site::target()).is_empty());
}

#[tokio::test]
async fn a_service_that_drains_gets_neither_a_record_nor_a_revision() {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| service["status"] = json!("DRAINING"));
    for more in [json!({"dry_run": true}), json!({})] {
        let mut event = json!({"ecs_image_name": "nginx"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outcome = world.update(event).await;
        let message = outcome.error("ServiceNotActive");
        assert!(message.starts_with("[ERROR][ecs_service_read] service 222222222222/"), "{message}");
    }
    assert!(world.records(&Site::target()).is_empty());
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn tags_of_a_service_with_a_short_arn_are_refused_before_anything_and_an_image_is_not() {
    let world = World::with_environment(&[]).await;
    let site = Site::target();
    let short = site.service_arn().replace(&format!("/{}/", site.cluster), "/");
    world.seed_with(&site, |service| {
        service["serviceArn"] = json!(short);
        service["tags"] = json!([]);
    });
    for more in [json!({"dry_run": true}), json!({})] {
        let mut event = json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outcome = world.update(event).await;
        let message = outcome.error("TagUpdateFailed");
        assert!(message.contains(&short) && message.contains("Nothing was changed"), "{message}");
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    }
    assert!(world.records(&site).is_empty());
    world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {}})).await.status("APPLIED");
    assert_eq!(world.journal.mutating_ecs_calls(), ["RegisterTaskDefinition", "UpdateService"]);
}

#[tokio::test]
async fn a_missing_cluster_and_a_missing_service_are_told_apart() {
    let world = World::new().await;
    let elsewhere = Site { cluster: "ProductionFAKE".into(), ..Site::target() };
    let outcome = world.invoke(&elsewhere.event(json!({"ecs_image_name": "nginx"}))).await;
    let message = outcome.error("ClusterNotFound");
    assert!(message.starts_with("[ERROR][ecs_service_read] ecs_cluster_name ProductionFAKE not found"), "{message}");
    let elsewhere = Site { service: "ecs-dummy-serviceFAKE".into(), ..Site::target() };
    let outcome = world.invoke(&elsewhere.event(json!({"ecs_image_name": "nginx"}))).await;
    let message = outcome.error("ServiceNotFound");
    assert!(
        message.starts_with("[ERROR][ecs_service_read] ecs_service_name ecs-dummy-serviceFAKE not found"),
        "{message}"
    );
    assert!(ledger::keys(world.tables()).iter().all(|key| key["change_id"] == ""), "no change began");
}

/// As AWS describes a service under CodeDeploy: task sets, no deployments.
fn code_deploy(service: &mut Value) {
    service["deploymentController"] = json!({"type": "CODE_DEPLOY"});
    service["deployments"] = json!([]);
    service["taskSets"] = json!([{"id": "ecs-svc/9", "status": "PRIMARY", "taskDefinition": service["taskDefinition"],
        "createdAt": 1_763_700_000.5, "updatedAt": 1_763_700_000.5, "stabilityStatus": "STEADY_STATE"}]);
}

/// The same for a service whose task sets come from outside: it has no task definition of its own.
fn external(service: &mut Value) {
    code_deploy(service);
    service["deploymentController"] = json!({"type": "EXTERNAL"});
    service.as_object_mut().unwrap().remove("taskDefinition");
}

#[tokio::test]
async fn a_service_under_code_deploy_or_external_refuses_an_image_before_anything_is_registered() {
    for (controller, edit) in [("CODE_DEPLOY", code_deploy as fn(&mut Value)), ("EXTERNAL", external)] {
        let world = World::with_environment(&[]).await;
        world.seed_with(&Site::target(), edit);
        let outcome = world.update(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}})).await;
        let message = outcome.error("UnsupportedDeploymentController");
        assert!(message.starts_with(UPDATE) && message.contains(controller), "{message}");
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
        assert!(world.records(&Site::target()).is_empty());
    }
}

#[tokio::test]
async fn a_service_under_code_deploy_or_external_names_the_parameters_it_cannot_take() {
    for (controller, edit) in [("CODE_DEPLOY", code_deploy as fn(&mut Value)), ("EXTERNAL", external)] {
        let world = World::with_environment(&[]).await;
        world.seed_with(&Site::target(), edit);
        for changes in [
            json!({"service": {"platformVersion": "1.3.0", "desiredCount": 3}}),
            json!({"service": {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-9"]}}}}),
            json!({"service": {"loadBalancers": [{"targetGroupArn": "arn:t", "containerName": "web", "containerPort": 80}]}}),
        ] {
            let outcome = world.update(changes.clone()).await;
            let message = outcome.error("UnsupportedDeploymentController");
            let named = changes["service"].as_object().unwrap().keys().find(|k| *k != "desiredCount").unwrap();
            assert!(message.contains(controller) && message.contains(named.as_str()), "{message}");
        }
        world.update(json!({"force_new_deployment": true})).await.error("UnsupportedDeploymentController");
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_service_under_code_deploy_or_external_takes_tags_and_a_desired_count() {
    for edit in [code_deploy as fn(&mut Value), external] {
        let world = World::with_environment(&[]).await;
        let site = Site::target();
        world.seed_with(&site, edit);
        let outcome = world.update(json!({"ecs_tag": {"a": "1"}, "service": {"desiredCount": 3}})).await;
        let body = outcome.status("APPLIED");
        assert_eq!(body["AFTER"]["tags"], json!([{"key": "a", "value": "1"}]));
        assert_eq!(body["deployment_id"], Value::Null);
        assert_eq!(world.cloud().service(&site)["desiredCount"], 3);
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
    }
}

#[tokio::test]
async fn a_change_is_refused_where_the_service_runs_another_definition_than_expected() {
    let world = World::new().await;
    let changes = json!({"ecs_image_name": "nginx", "expected_task_definition": "web:2"});
    let outcome = world.update(changes).await;
    let message = outcome.error("TaskDefinitionChanged");
    assert!(message.starts_with(UPDATE) && message.contains("web:1") && message.contains("web:2"), "{message}");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert!(world.records(&Site::target()).is_empty());
    let changes = json!({"ecs_image_name": "nginx", "expected_task_definition": "web:1"});
    world.update(changes).await.status("APPLIED");
    // It holds for every kind of change.
    let changes = json!({"ecs_tag": {"a": "1"}, "expected_task_definition": "web:1"});
    world.update(changes).await.error("TaskDefinitionChanged");
}
