//! The harness itself: the stubs, asked by the AWS SDKs. A stub that answers wrongly proves nothing about the updater.

use std::time::Duration;

use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::types::ServiceField;
use serde_json::json;

use crate::harness::journal::{Fault, Service};
use crate::harness::{HUB_ACCESS_KEY, HUB_SECRET, REGION, SECRET_MARKER, Site, TARGET, World, web_definition};

async fn assume(world: &World, policy: Option<&str>) -> Credentials {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(world.sts.server.url())
        .credentials_provider(Credentials::new(HUB_ACCESS_KEY, HUB_SECRET, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    let answer = aws_sdk_sts::Client::from_conf(config)
        .assume_role()
        .role_arn(format!("arn:aws:iam::{TARGET}:role/ecs-updater/ecs-updater-target"))
        .role_session_name("ecsu-1")
        .set_policy(policy.map(Into::into))
        .external_id("a&b")
        .send()
        .await
        .unwrap();
    let credentials = answer.credentials.unwrap();
    assert!(credentials.secret_access_key.contains(SECRET_MARKER));
    Credentials::new(
        credentials.access_key_id,
        credentials.secret_access_key,
        Some(credentials.session_token),
        None,
        "test",
    )
}

async fn ecs(world: &World) -> aws_sdk_ecs::Client {
    let credentials = assume(world, None).await;
    aws_sdk_ecs::Client::from_conf(
        aws_sdk_ecs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(world.ecs.server.url())
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .build(),
    )
}

#[tokio::test]
async fn sts_gives_sessions_that_ecs_knows() {
    let world = World::without_process(&[]).await;
    world.seed(&Site::target());
    let ecs = ecs(&world).await;
    let described =
        ecs.describe_services().cluster("ECSCluster").services("ecs-dummy-service").services("x").send().await.unwrap();
    assert_eq!(described.services()[0].service_arn(), Some(Site::target().service_arn().as_str()));
    assert!(described.services()[0].tags().is_empty(), "tags only where they are asked for");
    assert_eq!(described.failures()[0].reason(), Some("MISSING"));
    let tagged = ecs
        .describe_services()
        .cluster("ECSCluster")
        .services("ecs-dummy-service")
        .include(ServiceField::Tags)
        .send()
        .await
        .unwrap();
    assert_eq!(tagged.services()[0].tags()[0].key(), Some("old-custom-tag-name"));
    let error = ecs.describe_services().cluster("ProductionFAKE").services("x").send().await.unwrap_err();
    assert_eq!(error.code(), Some("ClusterNotFoundException"));
    assert_eq!(world.sessions()[0].external_id.as_deref(), Some("a&b"));
    assert_eq!(world.sessions()[0].name, "ecsu-1");
}

#[tokio::test]
async fn a_task_definition_is_read_back_with_the_members_of_answers() {
    let world = World::without_process(&[]).await;
    let ecs = ecs(&world).await;
    world.cloud().register(&Site::target(), &web_definition("busybox").to_string(), json!([]));
    world.cloud().register(&Site::target(), &web_definition("nginx").to_string(), json!([]));
    let newest = ecs.describe_task_definition().task_definition("web").send().await.unwrap();
    let newest = newest.task_definition().unwrap();
    assert_eq!((newest.revision(), newest.container_definitions()[0].image()), (2, Some("nginx")));
    world.cloud().deregister(&Site::target(), "web", 2);
    let newest = ecs.describe_task_definition().task_definition("web").send().await.unwrap();
    assert_eq!(newest.task_definition().unwrap().revision(), 1);
    let inactive = ecs.describe_task_definition().task_definition("web:2").send().await.unwrap();
    assert!(inactive.task_definition().unwrap().deregistered_at().is_some());
    let error = ecs.describe_task_definition().task_definition("web:7").send().await.unwrap_err();
    assert_eq!(error.code(), Some("ClientException"));
}

#[tokio::test]
async fn faults_come_where_the_script_says() {
    let world = World::without_process(&[]).await;
    let ecs = ecs(&world).await;
    world.cloud().register(&Site::target(), &web_definition("busybox").to_string(), json!([]));
    let describe = || ecs.describe_task_definition().task_definition("web").send();
    world.journal.on("DescribeTaskDefinition", 2, Fault::refuse(400, "ThrottlingException", "Rate exceeded"));
    describe().await.unwrap();
    assert_eq!(describe().await.unwrap_err().code(), Some("ThrottlingException"));
    describe().await.unwrap();
    world.journal.on("DescribeTaskDefinition", 1, Fault::CutBefore);
    assert!(describe().await.unwrap_err().as_service_error().is_none(), "no answer");
    world.journal.from("DescribeTaskDefinition", 1, Fault::HangBefore);
    let hung = tokio::time::timeout(Duration::from_millis(200), describe()).await;
    assert!(hung.is_err(), "it hangs");
    assert_eq!(world.journal.mend(), 3);
    describe().await.unwrap();
    assert_eq!(world.journal.actions(Service::Ecs).len(), 6);
}

#[tokio::test]
async fn the_session_policy_narrows_what_ecs_lets_through() {
    let world = World::without_process(&[]).await;
    world.seed(&Site::target());
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ecs:Describe*", "Resource": "*"}]});
    let credentials = assume(&world, Some(&policy.to_string())).await;
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(world.ecs.server.url())
        .credentials_provider(credentials)
        .build();
    let ecs = aws_sdk_ecs::Client::from_conf(config);
    ecs.describe_services().cluster("ECSCluster").services("ecs-dummy-service").send().await.unwrap();
    // A key that AssumeRole never gave.
    let error = ecs
        .describe_services()
        .services("x")
        .customize()
        .config_override(
            aws_sdk_ecs::Config::builder().credentials_provider(Credentials::new("ASIA", "s", None, None, "test")),
        )
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("UnrecognizedClientException"));
}

#[tokio::test]
async fn a_request_signed_with_another_secret_is_noticed() {
    let world = World::without_process(&[]).await;
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(world.dynamodb.server.url())
        .credentials_provider(Credentials::new(HUB_ACCESS_KEY, "another", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .build();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    let _ = client.execute_statement().statement("SELECT * FROM \"x\"").send().await;
    let violations = world.journal.take_violations();
    assert!(violations[0].contains("signature"), "{violations:?}");
    assert!(violations[1].contains("ExecuteStatement"), "{violations:?}");
}

#[tokio::test]
async fn a_request_that_aws_does_not_take_is_noticed_though_the_stub_answers() {
    let world = World::without_process(&[]).await;
    world.seed(&Site::target());
    let ecs = ecs(&world).await;
    let body = json!({"cluster": "ECSCluster", "services": "ecs-dummy-service", "includes": ["TAGS"]}).to_string();
    let _ = ecs
        .describe_services()
        .services("x")
        .customize()
        .mutate_request(move |request| {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = body.clone().into();
        })
        .send()
        .await;
    let violations = world.journal.take_violations();
    assert_eq!(
        violations,
        ["ecs DescribeServices/includes is no member that AWS knows", "ecs DescribeServices/services is no list"]
    );
}
