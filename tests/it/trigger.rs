//! The real `trigger` binary in front of the real updater: pushes of images change the services that are mapped, and no
//! others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::harness::http::{Answer, Reply, Request, Server, handler};
use crate::harness::lambda::{Invocation, Outcome, Process};
use crate::harness::registry::{Registry, manifest};
use crate::harness::{HUB, OTHER_TARGET, REGION, Site, TARGET, World, sync};

const REPOSITORY: &str = "111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app";
const UPDATER: &str = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater:live";

fn digest(n: u32) -> String {
    format!("sha256:{n:064x}")
}

fn push(id: &str, tag: &str, digest: &str) -> Value {
    let event = json!({"version": "0", "id": id, "detail-type": "ECR Image Action", "source": "aws.ecr", "account": HUB,
        "time": "2026-11-22T09:30:00Z", "region": REGION, "resources": [],
        "detail": {"result": "SUCCESS", "repository-name": "team/app", "image-digest": digest, "action-type": "PUSH",
            "image-tag": tag}});
    json!({"messageId": format!("m-{id}"), "body": event.to_string()})
}

/// Amazon ECR, where the tags of `team/app` have this digest.
async fn ecr(now: Arc<Mutex<String>>) -> Registry {
    Registry::start(move |request: &Request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&asked["registryId"], &asked["repositoryName"]), (&json!(HUB), &json!("team/app")));
        let id = json!({"imageTag": asked["imageIds"][0]["imageTag"], "imageDigest": *sync(&now)});
        let answer = json!({"images": [{"imageId": id, "imageManifest": manifest("one")}], "failures": []});
        Reply::Answer(Answer::new(200, "application/x-amz-json-1.1", answer.to_string()))
    })
    .await
}

type Calls = mpsc::UnboundedReceiver<(Value, oneshot::Sender<Outcome>)>;

/// The Lambda API: what is sent to the updater comes out of the channel.
async fn lambda() -> (Server, Calls) {
    let (calls, received) = mpsc::unbounded_channel();
    let server = Server::start(handler(move |request: Request| {
        let calls = calls.clone();
        async move {
            let path = request.path.replace("%3A", ":");
            assert_eq!(path, format!("/2015-03-31/functions/{UPDATER}/invocations"));
            assert_eq!(request.header("x-amz-invocation-type").unwrap_or("RequestResponse"), "RequestResponse");
            let (answer, outcome) = oneshot::channel();
            calls.send((serde_json::from_slice(&request.body).unwrap(), answer)).unwrap();
            Reply::Answer(match outcome.await.unwrap() {
                Outcome::Response(response) => Answer::new(200, "application/json", response.to_string()),
                Outcome::Error { error_type, message } => {
                    let failure = json!({"errorType": error_type, "errorMessage": message});
                    Answer::new(200, "application/json", failure.to_string())
                        .header("x-amz-function-error", "Unhandled")
                }
                Outcome::Died => return Reply::Cut,
            })
        }
    }))
    .await;
    (server, received)
}

struct Trigger {
    process: Process,
    calls: Calls,
    /// Events that reached the updater.
    sent: Vec<Value>,
    _servers: (Registry, Server),
}

impl Trigger {
    async fn start(now: &Arc<Mutex<String>>) -> Self {
        let (ecr, (lambda, calls)) = (ecr(Arc::clone(now)).await, lambda().await);
        let mapping = json!([{"repository": REPOSITORY, "tags": ["release-*"], "ecs_cluster_name": "ECSCluster",
            "ecs_service_name": "ecs-dummy-service", "targets": [{"account_id": TARGET}, {"account_id": OTHER_TARGET}]}]);
        let environment = [
            ("AWS_LAMBDA_FUNCTION_NAME", "trigger".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "ASIATRIGGER".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_ENDPOINT_URL_ECR", ecr.url()),
            ("AWS_ENDPOINT_URL_LAMBDA", lambda.url()),
            ("UPDATER_FUNCTION", UPDATER.to_owned()),
            ("TRIGGER_MAPPING", mapping.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let process = Process::spawn_binary(env!("CARGO_BIN_EXE_trigger"), &environment).await;
        Self { process, calls, sent: Vec::new(), _servers: (ecr, lambda) }
    }

    /// Ids of the messages that it wants again.
    async fn receives(&mut self, world: &World, messages: &[Value]) -> Vec<String> {
        let mut running = Box::pin(self.process.invoke(records(messages), invocation()));
        let answer = loop {
            tokio::select! {
                outcome = &mut running => break outcome,
                Some((event, answer)) = self.calls.recv() => {
                    let _ = answer.send(world.invoke(&event).await);
                    self.sent.push(event);
                }
            }
        };
        again(&answer)
    }
}

fn records(messages: &[Value]) -> Vec<u8> {
    json!({"Records": messages}).to_string().into_bytes()
}

fn invocation() -> Invocation {
    Invocation::new("arn:aws:lambda:eu-west-1:111111111111:function:trigger")
}

fn again(answer: &Outcome) -> Vec<String> {
    let Outcome::Response(answer) = answer else { panic!("{answer:?}") };
    let again = answer["batchItemFailures"].as_array().unwrap();
    again.iter().map(|it| it["itemIdentifier"].as_str().unwrap().to_owned()).collect()
}

fn image(world: &World, site: &Site) -> String {
    world.cloud().revisions(site, "web").last().unwrap().image("web")
}

async fn world() -> (World, Site, Site) {
    let world = World::new().await;
    let other = Site::new(OTHER_TARGET, REGION, "ECSCluster", "ecs-dummy-service");
    let bystander = Site::new(TARGET, REGION, "ECSCluster", "bystander");
    world.seed(&other);
    world.cloud().create_service(&bystander, "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:1", |_| {});
    (world, other, bystander)
}

#[tokio::test]
async fn a_push_changes_the_mapped_services_in_two_accounts_and_nothing_else() {
    let (world, other, bystander) = world().await;
    let mut trigger = Trigger::start(&Arc::new(Mutex::new(digest(7)))).await;
    assert!(trigger.receives(&world, &[push("1", "latest", &digest(7))]).await.is_empty());
    assert!(trigger.sent.is_empty(), "the tag is not mapped");
    assert!(trigger.receives(&world, &[push("2", "release-7", &digest(7))]).await.is_empty());
    for site in [Site::target(), other] {
        assert_eq!(image(&world, &site), format!("{REPOSITORY}@{}", digest(7)));
        let records = world.records(&site);
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"]);
        assert_eq!(records[1]["requested_by"], "ecr-push");
        assert_eq!(records[1]["reason"], format!("push of {REPOSITORY}:release-7 (event 2)"));
    }
    assert!(world.records(&bystander).is_empty());
    assert_eq!(trigger.sent.len(), 1);
    // EventBridge and SQS deliver at least once.
    assert!(trigger.receives(&world, &[push("2", "release-7", &digest(7))]).await.is_empty());
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn a_hundred_pushes_in_a_second_end_with_the_newest() {
    let (world, other, _) = world().await;
    let now = Arc::new(Mutex::new(String::new()));
    let mut trigger = Trigger::start(&now).await;
    // In batches of ten, mixed up; the tag has moved to the last one before the first batch is read.
    let mut pushes: Vec<Value> =
        (0..100_u32).map(|n| push(&n.to_string(), "release-7", &digest(n * 37 % 100))).collect();
    pushes.push(push("other-tag", "latest", &digest(7)));
    sync(&now).clone_from(&digest(99));
    for batch in pushes.chunks(10) {
        assert!(trigger.receives(&world, batch).await.is_empty());
    }
    for site in [Site::target(), other] {
        assert_eq!(image(&world, &site), format!("{REPOSITORY}@{}", digest(99)));
        assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"], "one change, not a hundred");
    }
}

#[tokio::test]
async fn what_did_not_go_well_is_delivered_again() {
    let (world, other, _) = world().await;
    let mut trigger = Trigger::start(&Arc::new(Mutex::new(digest(7)))).await;
    world.journal.about(
        "UpdateService",
        OTHER_TARGET,
        crate::harness::journal::Fault::refuse(400, "ThrottlingException", "Rate exceeded"),
    );
    let message = push("1", "release-7", &digest(7));
    assert_eq!(trigger.receives(&world, std::slice::from_ref(&message)).await, ["m-1"]);
    world.journal.mend();
    assert!(trigger.receives(&world, &[message]).await.is_empty());
    assert_eq!(image(&world, &other), format!("{REPOSITORY}@{}", digest(7)));
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"], "the other one was not done twice");
}

#[tokio::test]
async fn an_updater_that_takes_longer_than_the_trigger_has_is_asked_again() {
    let (world, ..) = world().await;
    let mut trigger = Trigger::start(&Arc::new(Mutex::new(digest(7)))).await;
    let message = push("1", "release-7", &digest(7));
    // A function that Lambda ends says nothing: all of its messages would come again.
    let within = invocation().deadline_in(Duration::from_secs(11));
    let mut running = Box::pin(trigger.process.invoke(records(std::slice::from_ref(&message)), within));
    let (event, answer) = tokio::select! {
        ended = &mut running => panic!("{ended:?}"),
        call = trigger.calls.recv() => call.unwrap(),
    };
    assert_eq!(again(&running.await), ["m-1"]);
    // It went on, and is done by then.
    let _ = answer.send(world.invoke(&event).await);
    assert!(trigger.receives(&world, std::slice::from_ref(&message)).await.is_empty());
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);

    // With no time left, nothing is begun.
    let late = invocation().deadline_in(Duration::from_secs(9));
    let ended = trigger.process.invoke(records(&[push("2", "release-7", &digest(7))]), late).await;
    assert_eq!(again(&ended), ["m-2"]);
    assert!(trigger.calls.try_recv().is_err());
}

#[tokio::test]
async fn pushes_come_in_their_order_and_undo_nobodys_later_change() {
    let (world, other, _) = world().await;
    let now = Arc::new(Mutex::new(String::new()));
    let mut trigger = Trigger::start(&now).await;
    // Under tags of their own, and long ago: the change of the first begins after the second was pushed.
    for n in [7, 8] {
        sync(&now).clone_from(&digest(n));
        let message = push(&n.to_string(), &format!("release-{n}"), &digest(n));
        assert!(trigger.receives(&world, &[message]).await.is_empty());
    }
    assert_eq!(trigger.sent[0]["sent_at"], "2026-11-22T09:30:00.000Z");
    for site in [Site::target(), other.clone()] {
        assert_eq!(image(&world, &site), format!("{REPOSITORY}@{}", digest(8)));
    }
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    sync(&now).clone_from(&digest(9));
    for _ in 0..2 {
        let message = push("9", "release-9", &digest(9));
        assert_eq!(trigger.receives(&world, &[message]).await, ["m-9"]);
    }
    assert_eq!(image(&world, &Site::target()), "nginx:hotfix");
    assert_eq!(image(&world, &other), format!("{REPOSITORY}@{}", digest(9)));
}
