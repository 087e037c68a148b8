//! Which container gets which image.

use serde_json::{Value, json};

use crate::harness::{Site, World, web_definition};

const TEXT: &str = "[ERROR][ecs_service_update] new task_definition could not be created ";

/// A service whose definition has these containers: name, image.
async fn world_of(containers: &[(&str, &str)]) -> World {
    let world = World::with_environment(&[]).await;
    let mut definition = web_definition("x");
    let template = definition["containerDefinitions"][0].clone();
    let containers: Value = containers
        .iter()
        .map(|(name, image)| {
            let mut container = template.clone();
            (container["name"], container["image"]) = (json!(name), json!(image));
            container
        })
        .collect();
    definition["containerDefinitions"] = containers;
    world.seed_definition(&Site::target(), &definition.to_string(), json!([]), |_| {});
    world
}

#[tokio::test]
async fn the_only_container_gets_the_image_whatever_its_repository() {
    let world = world_of(&[("app", "registry.example:5000/team/app:1")]).await;
    let outcome = world.update(json!({"ecs_image_name": "nginx"})).await;
    assert_eq!(outcome.status("APPLIED")["AFTER"]["images"], json!({"app": "nginx"}));
}

#[tokio::test]
async fn of_several_containers_the_only_one_of_the_same_repository_gets_the_image() {
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let now = format!("registry.example:5000/team/web:1@{digest}");
    let world = world_of(&[("log", "registry.example/team/web:1"), ("web", &now), ("proxy", "team/web")]).await;
    let outcome = world.update(json!({"ecs_image_name": "registry.example:5000/team/web:2"})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["AFTER"]["taskDefinitionName"], "web", "the container that changed");
    assert_eq!(body["BEFORE"]["serviceImage"], json!(now));
    assert_eq!(
        body["AFTER"]["images"],
        json!({"log": "registry.example/team/web:1", "web": "registry.example:5000/team/web:2", "proxy": "team/web"})
    );
}

#[tokio::test]
async fn where_no_or_several_containers_have_the_repository_the_error_lists_them_all() {
    for image in ["nginx:2", "team/web:2"] {
        let world = world_of(&[("web", "team/web:1"), ("canary", "team/web:1"), ("log", "fluent:1")]).await;
        let outcome = world.update(json!({"ecs_image_name": image})).await;
        let message = outcome.error("AmbiguousContainer");
        assert!(message.starts_with(TEXT), "{message}");
        for container in ["web", "canary", "log"] {
            assert!(message.contains(container), "{container} is not in {message}");
        }
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
        assert!(world.records(&Site::target()).is_empty(), "what fails before STARTED is not recorded");
    }
}

#[tokio::test]
async fn a_named_container_gets_the_image() {
    let world = world_of(&[("web", "team/web:1"), ("log", "team/web:1")]).await;
    let outcome = world.update(json!({"ecs_image_name": "team/web:2", "container_name": "log"})).await;
    assert_eq!(outcome.status("APPLIED")["AFTER"]["images"], json!({"web": "team/web:1", "log": "team/web:2"}));
}

#[tokio::test]
async fn a_container_that_is_not_there_is_told_with_those_that_are() {
    for changes in [
        json!({"ecs_image_name": "team/web:2", "container_name": "worker"}),
        json!({"images": {"web": "team/web:2", "worker": "team/web:2"}}),
        // The only container does not stand in for another name.
        json!({"images": {"worker": "team/web:2"}}),
    ] {
        let world = world_of(&[("web", "team/web:1"), ("log", "fluent:1")]).await;
        let outcome = world.update(changes).await;
        let message = outcome.error("ContainerNotFound");
        assert!(message.starts_with(TEXT), "{message}");
        for name in ["worker", "web", "log"] {
            assert!(message.contains(name), "{name} is not in {message}");
        }
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn several_images_go_into_one_revision() {
    let world = world_of(&[("web", "team/web:1"), ("log", "fluent:1"), ("proxy", "envoy:1")]).await;
    let outcome = world.update(json!({"images": {"proxy": "envoy:2", "web": "team/web:2", "log": "fluent:1"}})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["AFTER"]["images"], json!({"web": "team/web:2", "log": "fluent:1", "proxy": "envoy:2"}));
    assert_eq!(world.cloud().revisions(&Site::target(), "web").len(), 2);
    assert_eq!(world.journal.of("UpdateService").len(), 1);
}

#[tokio::test]
async fn images_that_all_stand_already_change_nothing() {
    let world = world_of(&[("web", "team/web:1"), ("log", "fluent:1")]).await;
    world.update(json!({"images": {"web": "team/web:1", "log": "fluent:1"}})).await.status("UNCHANGED");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}
