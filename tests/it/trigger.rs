//! The real `trigger` binary in front of the real updater: pushes of images change the services that are mapped, and no
//! others.

use std::collections::BTreeMap;
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

const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/111111111111/pushes.fifo";

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

/// A push at that time of day.
fn push_at(id: &str, tag: &str, digest: &str, time: &str) -> Value {
    changed(push(id, tag, digest), |event| event["time"] = format!("2026-11-22T{time}Z").into())
}

/// The same message with another event.
fn changed(mut message: Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut event: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
    change(&mut event);
    message["body"] = event.to_string().into();
    message
}

/// The same message, delivered for the nth time.
fn delivered(mut message: Value, times: u32) -> Value {
    message["attributes"] = json!({"ApproximateReceiveCount": times.to_string(), "MessageGroupId": "team/app"});
    message
}

/// The same message, as the rule of the templates puts it into the queue.
fn arrived(mut message: Value) -> Value {
    message["attributes"] = json!({"ApproximateReceiveCount": "1", "MessageGroupId": "pushes"});
    message
}

/// An image under a tag.
struct Image {
    digest: String,
    /// When it was pushed, as ECR writes it.
    pushed_at: f64,
    manifest: String,
    artifact: &'static str,
}

/// What Amazon ECR has.
#[derive(Clone, Default)]
struct Shelf {
    /// What every tag is that is not named below.
    now: Arc<Mutex<String>>,
    images: Arc<Mutex<BTreeMap<String, Image>>>,
}

impl Shelf {
    /// Where every tag is this image.
    fn of(digest: String) -> Self {
        Self { now: Arc::new(Mutex::new(digest)), ..Self::default() }
    }

    fn put(&self, tag: &str, digest: &str, time: &str) {
        self.put_what(tag, digest, time, manifest("one"), "application/vnd.oci.image.config.v1+json");
    }

    fn put_what(&self, tag: &str, digest: &str, time: &str, manifest: String, artifact: &'static str) {
        let at = chrono::DateTime::parse_from_rfc3339(&format!("2026-11-22T{time}Z")).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a time of our days")]
        let pushed_at = at.timestamp_millis() as f64 / 1_000.0;
        sync(&self.images).insert(tag.to_owned(), Image { digest: digest.to_owned(), pushed_at, manifest, artifact });
    }

    fn get(&self, asked: &Value) -> Value {
        let tag = asked["imageIds"][0]["imageTag"].as_str().unwrap();
        let images = sync(&self.images);
        let (digest, manifest) = match images.get(tag) {
            Some(image) => (image.digest.clone(), image.manifest.clone()),
            None => (sync(&self.now).clone(), manifest("one")),
        };
        let id = json!({"imageTag": tag, "imageDigest": digest});
        json!({"images": [{"imageId": id, "imageManifest": manifest}], "failures": []})
    }

    /// One image on each page.
    fn describe(&self, asked: &Value) -> Value {
        assert_eq!((&asked["filter"]["tagStatus"], &asked["maxResults"]), (&json!("TAGGED"), &json!(1_000)));
        let page: usize = asked["nextToken"].as_str().map_or(0, |token| token.parse().unwrap());
        let images = sync(&self.images);
        let details = images.iter().skip(page).take(1).map(|(tag, image)| {
            json!({"imageDigest": image.digest, "imageTags": [tag], "imagePushedAt": image.pushed_at, "artifactMediaType": image.artifact})
        });
        let mut answer = json!({"imageDetails": details.collect::<Vec<_>>()});
        if page + 1 < images.len() {
            answer["nextToken"] = (page + 1).to_string().into();
        }
        answer
    }
}

/// Amazon ECR, with that on its shelf.
async fn ecr(shelf: Shelf) -> Registry {
    Registry::start(move |request: &Request| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&asked["registryId"], &asked["repositoryName"]), (&json!(HUB), &json!("team/app")));
        let answer = match request.header("x-amz-target").unwrap().rsplit('.').next().unwrap() {
            "BatchGetImage" => shelf.get(&asked),
            "DescribeImages" => shelf.describe(&asked),
            other => panic!("{other}"),
        };
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

/// The queue: what was sent to it, each as the request has it.
#[derive(Clone, Default)]
struct Queue {
    sent: Arc<Mutex<Vec<Value>>>,
    /// Whether it refuses.
    refuses: Arc<Mutex<bool>>,
}

/// Amazon SQS, with that queue.
async fn sqs(queue: Queue) -> Server {
    Server::start(handler(move |request: Request| {
        let queue = queue.clone();
        async move {
            assert_eq!(request.header("x-amz-target").unwrap(), "AmazonSQS.SendMessage");
            if *sync(&queue.refuses) {
                let refused = json!({"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "not allowed"});
                return Reply::Answer(Answer::new(403, "application/x-amz-json-1.0", refused.to_string()));
            }
            sync(&queue.sent).push(serde_json::from_slice(&request.body).unwrap());
            Reply::Answer(Answer::new(200, "application/x-amz-json-1.0", json!({"MessageId": "m"}).to_string()))
        }
    }))
    .await
}

struct Trigger {
    process: Process,
    calls: Calls,
    queue: Queue,
    /// Events that reached the updater.
    sent: Vec<Value>,
    _servers: (Registry, Server, Server),
}

impl Trigger {
    async fn start(shelf: &Shelf) -> Self {
        let targets = json!([{"account_id": TARGET}, {"account_id": OTHER_TARGET}]);
        Self::mapped(shelf, json!([{"tags": ["release-*"], "targets": targets}])).await
    }

    /// With these rules, of the one repository and services of one name.
    async fn mapped(shelf: &Shelf, mut mapping: Value) -> Self {
        let queue = Queue::default();
        let (ecr, (lambda, calls), sqs) = (ecr(shelf.clone()).await, lambda().await, sqs(queue.clone()).await);
        for rule in mapping.as_array_mut().unwrap() {
            rule["repository"] = REPOSITORY.into();
            rule["ecs_cluster_name"] = "ECSCluster".into();
            rule["ecs_service_name"] = "ecs-dummy-service".into();
        }
        let environment = [
            ("AWS_LAMBDA_FUNCTION_NAME", "trigger".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "ASIATRIGGER".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_ENDPOINT_URL_ECR", ecr.url()),
            ("AWS_ENDPOINT_URL_LAMBDA", lambda.url()),
            ("AWS_ENDPOINT_URL_SQS", sqs.url()),
            ("UPDATER_FUNCTION", UPDATER.to_owned()),
            ("TRIGGER_QUEUE", QUEUE.to_owned()),
            ("TRIGGER_MAPPING", mapping.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        let process = Process::spawn_binary(env!("CARGO_BIN_EXE_trigger"), &environment).await;
        Self { process, calls, queue, sent: Vec::new(), _servers: (ecr, lambda, sqs) }
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
    again.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
}

fn image(world: &World, site: &Site) -> String {
    let service = world.cloud().service(site);
    world.cloud().revision(site, service["taskDefinition"].as_str().unwrap()).unwrap().image("web")
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
    let mut trigger = Trigger::start(&Shelf::of(digest(7))).await;
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
async fn what_arrives_is_passed_on_to_the_group_of_its_repository_and_acted_on_there() {
    let (world, ..) = world().await;
    let mut trigger = Trigger::start(&Shelf::of(digest(7))).await;
    let message = push("1", "release-7", &digest(7));
    let nothing = [push("2", "latest", &digest(7)), json!({"messageId": "m-3", "body": "{"})];
    let arrivals: Vec<Value> = nothing.into_iter().chain([message.clone()]).map(arrived).collect();
    assert!(trigger.receives(&world, &arrivals).await.is_empty());
    assert!(trigger.sent.is_empty(), "as long as something is at work, nothing else would arrive");
    let passed_on = sync(&trigger.queue.sent).clone();
    // By its body alone the queue would take it for the one that arrived, and keep neither.
    let expected = json!({"QueueUrl": QUEUE, "MessageBody": message["body"], "MessageGroupId": REPOSITORY,
        "MessageDeduplicationId": "passed-on-m-1"});
    assert_eq!(passed_on, [expected], "what no rule is about ends there");

    assert!(trigger.receives(&world, &[delivered(message, 1)]).await.is_empty());
    assert_eq!(trigger.sent.len(), 1);
    assert_eq!(image(&world, &Site::target()), format!("{REPOSITORY}@{}", digest(7)));
    assert_eq!(sync(&trigger.queue.sent).len(), 1);
}

#[tokio::test]
async fn what_cannot_be_passed_on_is_tried_again_and_comes_again_in_its_order() {
    let (world, ..) = world().await;
    let mut trigger = Trigger::start(&Shelf::of(digest(7))).await;
    *sync(&trigger.queue.refuses) = true;
    let arrivals: Vec<Value> =
        ["1", "2"].map(|id| arrived(push(id, &format!("release-{id}"), &digest(7)))).into_iter().collect();
    // With no time left to try it again.
    let late = invocation().deadline_in(Duration::from_secs(14));
    assert_eq!(again(&trigger.process.invoke(records(&arrivals), late).await), ["m-1", "m-2"]);
    assert!(sync(&trigger.queue.sent).is_empty());
    // As soon as it may, in the same invocation: until it is over nothing else arrives.
    let refuses = trigger.queue.refuses.clone();
    let soon = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        *sync(&refuses) = false;
    };
    let (again, ()) = tokio::join!(trigger.receives(&world, &arrivals), soon);
    assert!(again.is_empty());
    let ids: Vec<Value> = sync(&trigger.queue.sent).iter().map(|sent| sent["MessageDeduplicationId"].clone()).collect();
    assert_eq!(ids, ["passed-on-m-1", "passed-on-m-2"]);
}

#[tokio::test]
async fn a_hundred_pushes_in_a_second_end_with_the_newest() {
    let (world, other, _) = world().await;
    let shelf = Shelf::default();
    let mut trigger = Trigger::start(&shelf).await;
    // In batches of ten, mixed up; the tag has moved to the last one before the first batch is read.
    let mut pushes: Vec<Value> =
        (0..100_u32).map(|n| push(&n.to_string(), "release-7", &digest(n * 37 % 100))).collect();
    pushes.push(push("other-tag", "latest", &digest(7)));
    sync(&shelf.now).clone_from(&digest(99));
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
    let mut trigger = Trigger::start(&Shelf::of(digest(7))).await;
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
    let mut trigger = Trigger::start(&Shelf::of(digest(7))).await;
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
    let shelf = Shelf::default();
    let mut trigger = Trigger::start(&shelf).await;
    // Under tags of their own, and long ago: the change of the first begins after the second was pushed.
    for n in [7, 8] {
        sync(&shelf.now).clone_from(&digest(n));
        let message = push(&n.to_string(), &format!("release-{n}"), &digest(n));
        assert!(trigger.receives(&world, &[message]).await.is_empty());
    }
    assert_eq!(trigger.sent[0]["sent_at"], "2026-11-22T09:30:00.000Z");
    for site in [Site::target(), other.clone()] {
        assert_eq!(image(&world, &site), format!("{REPOSITORY}@{}", digest(8)));
    }
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    sync(&shelf.now).clone_from(&digest(9));
    for _ in 0..2 {
        let message = push("9", "release-9", &digest(9));
        assert!(trigger.receives(&world, &[message]).await.is_empty(), "delivering it again changes nothing");
    }
    assert_eq!(image(&world, &Site::target()), "nginx:hotfix");
    assert_eq!(image(&world, &other), format!("{REPOSITORY}@{}", digest(9)));
}

#[tokio::test]
async fn a_push_undoes_no_restore() {
    let (world, other, _) = world().await;
    let shelf = Shelf::default();
    let mut trigger = Trigger::start(&shelf).await;
    // Each later than what came before it, as events of today are.
    let now = chrono::Utc::now();
    let push_now = |id: &str, tag: &str, n: u32| {
        changed(push(id, tag, &digest(n)), |event| {
            event["time"] = (now + chrono::Duration::minutes(5)).to_rfc3339().into();
        })
    };
    for n in [7, 8] {
        sync(&shelf.now).clone_from(&digest(n));
        assert!(trigger.receives(&world, &[push_now(&format!("e-{n}"), &format!("release-{n}"), n)]).await.is_empty());
    }
    let of = |n: u32| format!("{REPOSITORY}@{}", digest(n));
    let restored = world.update(json!({"restore": "previous"})).await;
    restored.status("APPLIED");
    assert_eq!(image(&world, &Site::target()), of(7));
    // The same again, the same image under another tag, another image under the same tag.
    for (id, tag, n) in [("e-8-2", "release-8", 8), ("e-8-3", "release-8-rc", 8), ("e-9", "release-8", 9)] {
        sync(&shelf.now).clone_from(&digest(n));
        let again = trigger.receives(&world, &[push_now(id, tag, n)]).await;
        assert!(again.is_empty(), "{id}: delivering it again changes nothing");
        assert_eq!(image(&world, &Site::target()), of(7), "{id}");
        assert_eq!(image(&world, &other), of(n), "{id}: there nothing was restored");
    }
    let event = json!({"ecs_image_name": of(9), "pushed_tag": "release-8"});
    for dry_run in [true, false] {
        let mut event = event.clone();
        event["dry_run"] = dry_run.into();
        let refused = world.update(event).await;
        let text = refused.error("ChangeOvertaken");
        let id = restored.body()["change_id"].as_str().unwrap().to_owned();
        assert!(text.contains(&format!("restore {id}")) && text.contains("Nothing was changed"), "{text}");
    }
    // Pushed by the name of another tag, or asked for by somebody.
    sync(&shelf.now).clone_from(&digest(10));
    assert!(trigger.receives(&world, &[push_now("e-10", "release-10", 10)]).await.is_empty());
    assert_eq!(image(&world, &Site::target()), of(10));
    world.update(json!({"restore": "previous"})).await.status("APPLIED");
    assert_eq!(image(&world, &Site::target()), of(7));
    world.update(json!({"ecs_image_name": of(10)})).await.status("APPLIED");
    sync(&shelf.now).clone_from(&digest(11));
    assert!(trigger.receives(&world, &[push_now("e-11", "release-10", 11)]).await.is_empty());
    assert_eq!(image(&world, &Site::target()), of(11), "the hold was lifted");
}

#[tokio::test]
async fn the_last_push_again_undoes_no_hotfix() {
    let (world, other, _) = world().await;
    let shelf = Shelf::default();
    let mut trigger = Trigger::start(&shelf).await;
    let now = chrono::Utc::now();
    // Each later than what came before it, as events of today are.
    let push_now = |id: &str, tag: &str, n: u32| {
        changed(push(id, tag, &digest(n)), |event| {
            event["time"] = (now + chrono::Duration::minutes(5)).to_rfc3339().into();
        })
    };
    let of = |n: u32| format!("{REPOSITORY}@{}", digest(n));
    sync(&shelf.now).clone_from(&digest(7));
    assert!(trigger.receives(&world, &[push_now("e-7", "release-7", 7)]).await.is_empty());
    world.update(json!({"ecs_image_name": "nginx:hotfix", "requested_by": "ann"})).await.status("APPLIED");
    // Another event, of the same image under the same tag: a pipeline that was run again.
    for id in ["e-7-2", "e-7-3"] {
        assert!(trigger.receives(&world, &[push_now(id, "release-7", 7)]).await.is_empty());
        assert_eq!(image(&world, &Site::target()), "nginx:hotfix");
        assert_eq!(image(&world, &other), of(7));
        assert_eq!(world.records(&Site::target()).last().unwrap()["kind"], "UNCHANGED");
    }
    let event =
        json!({"ecs_image_name": of(7), "pushed_tag": "release-7", "requested_by": "ecr-push", "dry_run": true});
    let planned = world.update(event.clone()).await;
    let planned = planned.status("PLANNED");
    assert_eq!((&planned["changes"], &planned["AFTER"]), (&json!([]), &planned["BEFORE"]));
    assert!(planned["notes"][0].as_str().unwrap().contains("pushed again, it undoes nothing"), "{planned}");
    // What says more than the image is no mere push again.
    let mut more = event;
    more["ecs_tag"] = json!({"a": "1"});
    assert_ne!(world.update(more).await.status("PLANNED")["changes"], json!([]));
    // The same image under a tag of its own is a wish, and so is another image.
    sync(&shelf.now).clone_from(&digest(7));
    assert!(trigger.receives(&world, &[push_now("e-7-4", "release-7b", 7)]).await.is_empty());
    assert_eq!(image(&world, &Site::target()), of(7));
    world.update(json!({"ecs_image_name": "nginx:hotfix"})).await.status("APPLIED");
    sync(&shelf.now).clone_from(&digest(8));
    assert!(trigger.receives(&world, &[push_now("e-8", "release-7b", 8)]).await.is_empty());
    assert_eq!(image(&world, &Site::target()), of(8));
}

#[tokio::test]
async fn the_image_that_was_pushed_last_wins_whatever_its_tag_is_called() {
    let (world, other, _) = world().await;
    let shelf = Shelf::default();
    shelf.put("release-9", &digest(9), "09:30:00");
    shelf.put("release-10", &digest(10), "09:31:00");
    let older = push_at("e-9", "release-9", &digest(9), "09:30:00");
    let newer = push_at("e-10", "release-10", &digest(10), "09:31:00");
    // However they come: together in either order, or the older one again long after the newer one.
    for messages in [&[older.clone(), newer.clone()][..], &[newer, older.clone()], &[older]] {
        let mut trigger = Trigger::start(&shelf).await;
        assert!(trigger.receives(&world, messages).await.is_empty());
        assert!(trigger.sent.iter().all(|event| event["ecs_image_name"] == format!("{REPOSITORY}@{}", digest(10))));
        for site in [Site::target(), other.clone()] {
            assert_eq!(image(&world, &site), format!("{REPOSITORY}@{}", digest(10)));
            assert_eq!(world.kinds(&site), ["STARTED", "APPLIED"], "one change");
        }
    }
}

#[tokio::test]
async fn of_one_second_the_order_of_the_queue_decides_and_what_stands_behind_a_failure_waits() {
    let (world, other, _) = world().await;
    let shelf = Shelf::default();
    for n in [9, 10] {
        shelf.put(&format!("release-{n}"), &digest(n), "09:30:00");
    }
    let mut trigger = Trigger::start(&shelf).await;
    let messages = [push("9", "release-9", &digest(9)), push("10", "release-10", &digest(10))];
    let fails = || crate::harness::journal::Fault::refuse(400, "ThrottlingException", "Rate exceeded");
    world.journal.about("UpdateService", OTHER_TARGET, fails());
    // The second one would be undone by the first one, which comes again.
    assert_eq!(trigger.receives(&world, &messages).await, ["m-9", "m-10"]);
    assert_eq!(trigger.sent.len(), 1);
    assert_eq!(image(&world, &Site::target()), format!("{REPOSITORY}@{}", digest(9)));
    // The last time the first one fails it becomes a dead letter, and holds up nothing.
    let [first, second] = messages;
    let again = trigger.receives(&world, &[delivered(first, 3), delivered(second.clone(), 2)]).await;
    assert_eq!(again, ["m-9", "m-10"], "both were tried");
    assert_eq!(trigger.sent.len(), 3);
    world.journal.mend();
    assert!(trigger.receives(&world, &[delivered(second, 3)]).await.is_empty());
    for site in [Site::target(), other] {
        assert_eq!(image(&world, &site), format!("{REPOSITORY}@{}", digest(10)));
    }
}

#[tokio::test]
async fn what_fails_for_one_rule_keeps_no_other_from_its_services() {
    let (world, other, _) = world().await;
    let rule = |account: &str| json!({"tags": ["release-*"], "targets": [{"account_id": account}]});
    let mut trigger = Trigger::mapped(&Shelf::of(digest(7)), json!([rule(OTHER_TARGET), rule(TARGET)])).await;
    world.journal.about(
        "UpdateService",
        OTHER_TARGET,
        crate::harness::journal::Fault::refuse(400, "ThrottlingException", "Rate exceeded"),
    );
    assert_eq!(trigger.receives(&world, &[push("1", "release-7", &digest(7))]).await, ["m-1"]);
    assert_eq!(image(&world, &Site::target()), format!("{REPOSITORY}@{}", digest(7)));
    assert_eq!(world.kinds(&other), ["STARTED", "FAILED"]);
    assert_eq!(world.kinds(&Site::target()), ["STARTED", "APPLIED"]);
}

#[tokio::test]
async fn what_is_no_image_starts_nothing() {
    let (world, ..) = world().await;
    let shelf = Shelf::default();
    let config = |kind: &str, layer: &str| {
        json!({"schemaVersion": 2, "config": {"mediaType": kind}, "layers": [{"mediaType": layer}]}).to_string()
    };
    let image_config = "application/vnd.oci.image.config.v1+json";
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let signature = config(image_config, "application/vnd.dev.cosign.simplesigning.v1+json");
    let chart = config(helm, "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let signature_tag = format!("sha256-{:064x}.sig", 7);
    shelf.put("release-7", &digest(7), "09:30:00");
    shelf.put_what(&signature_tag, &digest(8), "09:31:00", signature.clone(), image_config);
    shelf.put_what("signed", &digest(9), "09:29:00", signature, image_config);
    shelf.put_what("chart-7", &digest(10), "09:31:00", chart, helm);
    let targets = json!([{"account_id": TARGET}]);
    let mut trigger = Trigger::mapped(&shelf, json!([{"tags": ["*"], "targets": targets}])).await;
    let chart = push("4", "chart-7", &digest(10));
    let told = changed(chart.clone(), |event| event["detail"]["artifact-media-type"] = helm.into());
    let others = [push("2", &signature_tag, &digest(8)), push("3", "signed", &digest(9)), chart, told];
    assert!(trigger.receives(&world, &others).await.is_empty());
    assert!(trigger.sent.is_empty(), "{:?}", trigger.sent);
    // And none of them is a newer image than one.
    assert!(trigger.receives(&world, &[push("1", "release-7", &digest(7))]).await.is_empty());
    assert_eq!(image(&world, &Site::target()), format!("{REPOSITORY}@{}", digest(7)));
}

#[tokio::test]
async fn a_replicated_image_is_brought_where_it_came_to() {
    let (world, ..) = world().await;
    let mut trigger = Trigger::start(&Shelf::of(digest(7))).await;
    let message = changed(push("1", "release-7", &digest(7)), |event| {
        event["detail-type"] = "ECR Replication Action".into();
        event["detail"]["action-type"] = "REPLICATE".into();
        event["detail"]["source-account"] = "999999999999".into();
        event["detail"]["source-region"] = "us-east-1".into();
    });
    assert!(trigger.receives(&world, &[message]).await.is_empty());
    assert_eq!(image(&world, &Site::target()), format!("{REPOSITORY}@{}", digest(7)));
}
