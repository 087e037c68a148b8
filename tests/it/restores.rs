//! Going back.

use serde_json::{Value, json};

use crate::harness::dynamodb::STATE_TABLE;
use crate::harness::journal::{Fault, Service};
use crate::harness::ledger;
use crate::harness::{SECRET_MARKER, Site, TARGET, World, web_definition};

fn arn(site: &Site, revision: usize) -> String {
    format!("arn:aws:ecs:{}:{}:task-definition/web:{revision}", site.region, site.account)
}

async fn change(world: &World, changes: Value) -> String {
    world.update(changes).await.status("APPLIED")["change_id"].as_str().unwrap().to_owned()
}

/// What a restore puts back: definition, tags, one parameter.
fn state(world: &World, site: &Site) -> (Value, Vec<(String, String)>, Value) {
    let service = world.cloud().service(site);
    let tags = world.cloud().tags(site).into_iter().collect();
    (service["taskDefinition"].clone(), tags, service["enableExecuteCommand"].clone())
}

/// What the history function answers of a change.
fn told(world: &World, site: &Site, change_id: &Value) -> Value {
    let records: Vec<_> = world.records(site).into_iter().filter(|record| record["change_id"] == *change_id).collect();
    let records = records.iter().filter_map(Value::as_object).collect();
    json!(domain::ledger::change::fold(records, chrono::Utc::now()))
}

#[tokio::test]
async fn updates_are_undone_one_by_one_and_the_restore_of_a_restore_is_a_redo() {
    let world = World::new().await;
    let site = Site::target();
    let start = state(&world, &site);
    let parameters = json!({"enableExecuteCommand": true, "desiredCount": 5});
    let first =
        change(&world, json!({"ecs_image_name": "nginx:1", "ecs_tag": {"a": "1"}, "service": parameters})).await;
    let between = state(&world, &site);
    change(&world, json!({"ecs_image_name": "nginx:2", "ecs_tag": {"b": "2"}})).await;
    let last = state(&world, &site);
    assert!(start != between && between != last);

    let outcome = world.update(json!({"restore": "previous"})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(state(&world, &site), between);
    assert_eq!(body["AFTER"]["taskDefinitionArn"], arn(&site, 2));
    assert!(body["notes"][0].as_str().unwrap().contains("and nothing else"), "{body}");

    // Who presses the same button undoes one thing once, and is told what to name.
    let again = world.update(json!({"restore": "previous"})).await;
    let note = again.status("UNCHANGED")["notes"][0].as_str().unwrap().to_owned();
    let restore = body["change_id"].as_str().unwrap();
    assert!(note.contains(restore) && note.contains(&first), "{note}");
    assert_eq!(state(&world, &site), between);
    world.update(json!({"restore": restore})).await.status("APPLIED");
    assert_eq!(state(&world, &site), last, "a redo");

    // What the first one set is no longer there.
    let refused = world.update(json!({"restore": first})).await;
    let message = refused.error("RestoreConflict");
    assert!(message.contains("image web: it is nginx:2") && message.contains("Nothing was changed"), "{message}");
    assert_eq!(state(&world, &site), last);
    let exact = json!({"restore": first, "restore_mode": "exact"});
    let outcome = world.update(exact.clone()).await;
    assert_eq!(outcome.status("APPLIED")["restores"], first.as_str());
    assert_eq!(state(&world, &site), start);
    assert_eq!(world.cloud().service(&site)["desiredCount"], 5, "the autoscaler's");
    assert_eq!(world.cloud().revisions(&site, "web").len(), 3, "no revision was registered for going back");

    let records = world.records(&site);
    assert_eq!(records.last().unwrap()["restores"], first.as_str());
    world.update(exact).await.status("UNCHANGED");
    let asked = json!({"restore": first, "service": {"desiredCount": 2}});
    world.update(asked).await.status("APPLIED");
    assert_eq!(world.cloud().service(&site)["desiredCount"], 2);
    assert!(ledger::faults(world.tables(), &site.key()).is_empty());
}

#[tokio::test]
async fn a_deregistered_revision_comes_back_as_its_copy() {
    let world = World::new().await;
    let site = Site::target();
    change(&world, json!({"ecs_image_name": "nginx"})).await;
    world.cloud().deregister(&site, "web", 1);
    let outcome = world.update(json!({"restore": "previous"})).await;
    let body = outcome.status("APPLIED");
    assert_eq!(body["AFTER"]["taskDefinitionArn"], arn(&site, 3));
    assert!(body["notes"].to_string().contains("web:1 was deregistered since"), "{body}");
    let revisions = world.cloud().revisions(&site, "web");
    assert_eq!(revisions[2].image("web"), "busybox");
    world.update(json!({"restore": body["change_id"].clone()})).await.status("APPLIED");
    assert_eq!(world.cloud().service(&site)["taskDefinition"], arn(&site, 2));
}

/// UpdateService merges: the old value alone would leave them on.
#[tokio::test]
async fn alarms_and_hooks_that_were_not_there_are_off_after_a_restore() {
    let world = World::new().await;
    let site = Site::target();
    let before = world.cloud().service(&site)["deploymentConfiguration"].clone();
    let hooks = json!([{"hookTargetArn": "arn:aws:lambda:eu-west-1:222222222222:function:hook", "lifecycleStages": ["PRE_SCALE_UP"]}]);
    let set = json!({"alarms": {"alarmNames": ["bad"], "enable": true, "rollback": true}, "lifecycleHooks": hooks});
    change(&world, json!({"service": {"deploymentConfiguration": set}})).await;
    let body = world.update(json!({"restore": "previous"})).await.status("APPLIED").clone();
    assert!(!body["notes"].to_string().contains("does not answer"), "{body}");
    let mut off = before;
    off["alarms"] = json!({"alarmNames": [], "enable": false, "rollback": false});
    off["lifecycleHooks"] = json!([]);
    assert_eq!(world.cloud().service(&site)["deploymentConfiguration"], off);
    // Off, and never set, are the same.
    world.update(json!({"restore": body["restores"]})).await.status("UNCHANGED");
}

#[tokio::test]
async fn a_plan_to_restore_touches_nothing_and_says_what_would_be() {
    let world = World::new().await;
    let site = Site::target();
    change(&world, json!({"ecs_image_name": "nginx"})).await;
    let (kinds, before) = (world.kinds(&site), state(&world, &site));
    let outcome = world.update(json!({"restore": "previous", "dry_run": true})).await;
    let body = outcome.status("PLANNED");
    assert_eq!(body["changes"][0], json!({"what": "image", "path": "web", "from": "nginx", "to": "busybox"}));
    assert_eq!(body["AFTER"]["taskDefinitionArn"], arn(&site, 1));
    assert_eq!((world.kinds(&site), state(&world, &site)), (kinds, before));
}

/// The images are the same, and the role is another one: "nothing differs" would be a lie.
#[tokio::test]
async fn a_plan_to_restore_says_what_comes_with_the_revision() {
    let world = World::new().await;
    let site = Site::target();
    change(&world, json!({"ecs_tag": {"a": "1"}})).await;
    let mut by_hand = web_definition("busybox");
    by_hand["taskRoleArn"] = json!("arn:aws:iam::222222222222:role/other");
    let token = json!({"name": "TOKEN", "value": SECRET_MARKER});
    by_hand["containerDefinitions"][0]["environment"].as_array_mut().unwrap().push(token);
    world.cloud().register(&site, &by_hand.to_string(), json!([]));
    world.cloud().edit(&site, |service| service["taskDefinition"] = arn(&site, 2).into());
    let restore = json!({"restore": "previous", "restore_mode": "exact"});
    let mut planned = restore.clone();
    planned["dry_run"] = json!(true);
    let planned = world.update(planned).await.status("PLANNED")["changes"].clone();
    let of = |what: &str| {
        planned.as_array().unwrap().iter().filter(|change| change["what"] == what).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("revision")[0]["to"], arn(&site, 1));
    let role = json!({"what": "definition", "path": "taskRoleArn", "from": by_hand["taskRoleArn"], "to": null});
    let token =
        json!({"what": "definition", "path": "containers.web.environment.TOKEN", "from": "removed", "to": null});
    assert_eq!(of("definition"), [role.clone(), token.clone()]);
    let applied = world.update(restore).await.status("APPLIED").clone();
    assert_eq!(applied["changes"], planned, "the answer says what the plan said");
    let started = world.records(&site).into_iter().rfind(|record| record["kind"] == "STARTED").unwrap();
    let recorded: Value = serde_json::from_str(started["changes"].as_str().unwrap()).unwrap();
    let recorded = recorded.as_array().unwrap();
    assert!(recorded.contains(&role) && recorded.contains(&token), "{recorded:?}");
    assert_eq!(told(&world, &site, &applied["change_id"])["changes"], planned, "and so does the history");
}

#[tokio::test]
async fn a_restore_that_was_cut_off_goes_on_with_the_same_change() {
    let world = World::new().await;
    let site = Site::target();
    let start = state(&world, &site);
    change(&world, json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}})).await;
    let event = site.event(json!({"restore": "previous", "idempotency_key": "back"}));
    // Faults count from when they are set, calls from the start.
    world.journal.on("TagResource", 1, Fault::HangAfter);
    world.kill_at(&event, world.invocation(), "TagResource", 2).await;
    ledger::expire_lease(world.tables(), &site.key());
    world.restart().await;
    let outcome = world.invoke(&event).await;
    let changes = &outcome.status("APPLIED")["changes"];
    let of = |what: &str| changes.as_array().unwrap().iter().filter(|change| change["what"] == what).count();
    assert_eq!((of("image"), of("revision"), of("tag")), (1, 1, 2), "from its first BEFORE: {changes}");
    assert_eq!(state(&world, &site), start);
    assert_eq!(world.cloud().revisions(&site, "web").len(), 2);
    assert_eq!(world.invoke(&event).await.status("APPLIED")["changes"], *changes, "again, by its key");
    let nothing = world.invoke(&site.event(json!({"ecs_image_name": "busybox"}))).await;
    let nothing = nothing.status("UNCHANGED");
    assert_eq!(nothing["changes"], json!([]));
    assert_eq!(told(&world, &site, &nothing["change_id"])["changes"], json!([]));
}

#[tokio::test]
async fn what_is_not_in_the_services_history_is_not_restored() {
    let world = World::new().await;
    let other = Site::new(TARGET, "eu-west-1", "ECSCluster", "another");
    world.seed_definition(&other, &web_definition("busybox").to_string(), json!([]), |_| {});
    let outcome = world.update(json!({"restore": "previous"})).await;
    let message = outcome.error("JsonValidation");
    assert!(message.contains("its history has no change that changed something"), "{message}");
    let of_other = world.invoke(&other.event(json!({"ecs_image_name": "nginx"}))).await;
    let of_other = of_other.status("APPLIED")["change_id"].clone();
    let outcome = world.update(json!({"restore": of_other})).await;
    let message = outcome.error("JsonValidation");
    assert!(message.contains("its history has no change"), "{message}");
    assert!(world.records(&Site::target()).is_empty());
}

/// Service Connect with a secret among the options of its log.
fn connect(namespace: &str, token: &str) -> Value {
    let token = format!("{SECRET_MARKER}-{token}");
    let log =
        json!({"logDriver": "splunk", "options": {"splunk-token": token, "splunk-url": "https://splunk.example"}});
    json!({"enabled": true, "namespace": namespace, "logConfiguration": log})
}

fn set_connect(world: &World, connect: Value) {
    world.cloud().edit(&Site::target(), |service| service["deployments"][0]["serviceConnectConfiguration"] = connect);
}

/// A world whose service was changed when it had one namespace and token, and has others now.
async fn changed_service_connect(namespace: &str, token: &str) -> World {
    let world = World::with_environment(&[]).await;
    world.seed_with(&Site::target(), |service| {
        service["deployments"][0]["serviceConnectConfiguration"] = connect("before", "token");
    });
    change(&world, json!({"ecs_image_name": "nginx"})).await;
    let records = json!(world.records(&Site::target())).to_string();
    assert!(records.contains("h1:"), "it is hidden: {records}");
    set_connect(&world, connect(namespace, token));
    world.journal.forget();
    world
}

/// What a restore sends of Service Connect; no call to ECS, and no answer, holds what records have in the place of a secret.
async fn restored_service_connect(world: &World) -> (Value, Value) {
    let outcome = world.update(json!({"restore": "previous", "restore_mode": "exact"})).await;
    let body = outcome.status("APPLIED").clone();
    for call in world.journal.calls().iter().filter(|call| call.service == Service::Ecs) {
        assert!(!call.body.contains("h1:"), "{}", call.body);
    }
    let sent = world.journal.of("UpdateService")[0].json();
    assert_eq!(sent["taskDefinition"], arn(&Site::target(), 1), "the rest of it is restored");
    (sent["serviceConnectConfiguration"].clone(), body["notes"].clone())
}

/// Records do not hold it, and AWS no longer does: nothing is made up, and nothing is changed.
async fn assert_refused(world: &World) {
    let outcome = world.update(json!({"restore": "previous", "restore_mode": "exact"})).await;
    let message = outcome.error("RestoreConflict");
    let named = "parameter serviceConnectConfiguration: records do not hold values that may be secret";
    assert!(message.contains(named) && !message.contains(SECRET_MARKER), "{message}");
    assert_eq!(world.journal.of("UpdateService").len(), 0);
    // What the change did not set is nothing that an undo looks at.
    world.update(json!({"restore": "previous"})).await.status("APPLIED");
    assert_eq!(world.journal.of("UpdateService")[0].json().get("serviceConnectConfiguration"), None);
}

#[tokio::test]
async fn a_secret_that_is_the_same_still_is_put_back_with_what_stands_around_it() {
    let world = changed_service_connect("after", "token").await;
    let (sent, notes) = restored_service_connect(&world).await;
    assert_eq!(sent, connect("before", "token"), "with the token itself");
    assert!(!notes.to_string().contains("secret"), "{notes}");
}

#[tokio::test]
async fn a_secret_that_is_another_one_and_that_aws_has_not_is_a_conflict() {
    let world = changed_service_connect("after", "another").await;
    assert_refused(&world).await;
}

#[tokio::test]
async fn where_the_key_of_hidden_values_is_gone_no_secret_is_put_back() {
    let world = changed_service_connect("after", "token").await;
    world.tables().delete(STATE_TABLE, &json!({"id": {"S": "secret#1"}}));
    world.restart().await;
    assert_refused(&world).await;
}

/// What others changed since is theirs.
#[tokio::test]
async fn an_undo_of_an_image_leaves_others_security_groups_and_tags() {
    let world = World::new().await;
    let site = Site::target();
    let network = |group: &str| json!({"awsvpcConfiguration": {"subnets": ["a"], "securityGroups": [group], "assignPublicIp": "DISABLED"}});
    world.cloud().edit(&site, |service| service["networkConfiguration"] = network("open"));
    let first = change(&world, json!({"ecs_image_name": "nginx"})).await;
    world.cloud().edit(&site, |service| {
        service["networkConfiguration"] = network("closed");
        service["tags"].as_array_mut().unwrap().push(json!({"key": "owner", "value": "terraform"}));
    });
    let mut planned = json!({"restore": "previous", "dry_run": true});
    let plan = world.update(planned.clone()).await.status("PLANNED").clone();
    world.journal.forget();
    let body = world.update(json!({"restore": "previous"})).await.status("APPLIED").clone();
    assert_eq!(body["changes"], plan["changes"], "the plan says all that the restore does");
    assert_eq!((&body["notes"], &body["AFTER"]["images"]), (&plan["notes"], &plan["AFTER"]["images"]));
    let sent = world.journal.of("UpdateService")[0].json();
    assert_eq!((sent["taskDefinition"].clone(), sent.get("networkConfiguration")), (arn(&site, 1).into(), None));
    assert_eq!(world.journal.of("UntagResource").len() + world.journal.of("TagResource").len(), 0);
    assert_eq!(world.cloud().service(&site)["networkConfiguration"], network("closed"));
    assert_eq!(world.cloud().tags(&site)["owner"], "terraform");
    assert!(body["notes"].to_string().contains("stay as they are: tag owner, networkConfiguration"), "{body}");
    // Everything, and it says so before.
    let redo = json!({"restore": body["change_id"]});
    world.update(redo).await.status("APPLIED");
    planned["restore_mode"] = json!("exact");
    planned["restore"] = json!(first);
    let plan = world.update(planned).await.status("PLANNED").clone();
    let paths: Vec<&str> =
        plan["changes"].as_array().unwrap().iter().filter_map(|change| change["path"].as_str()).collect();
    assert!(paths.contains(&"networkConfiguration") && paths.contains(&"owner"), "{plan}");
}

#[tokio::test]
async fn a_change_past_the_door_is_not_undone_and_is_told() {
    let world = World::new().await;
    let site = Site::target();
    change(&world, json!({"ecs_image_name": "nginx:1"})).await;
    world.cloud().register(&site, &web_definition("nginx:hotfix").to_string(), json!([]));
    world.cloud().edit(&site, |service| service["taskDefinition"] = arn(&site, 3).into());
    let records = world.records(&site).len();
    world.journal.forget();
    for more in [json!({}), json!({"dry_run": true})] {
        let mut event = json!({"restore": "previous"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outcome = world.update(event).await;
        let message = outcome.error("RestoreConflict");
        for word in ["image web: it is nginx:hotfix", "past the door, as far as the ledger knows", "restore_mode exact"]
        {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
    assert_eq!(world.records(&site).len(), records);
    assert_eq!(world.journal.of("UpdateService").len() + world.journal.of("RegisterTaskDefinition").len(), 0);
    assert_eq!(world.cloud().service(&site)["taskDefinition"], arn(&site, 3));
}

/// The way back that the command line prints after `--set desiredCount=0`.
#[tokio::test]
async fn a_count_that_a_change_set_by_name_goes_back_unless_an_autoscaler_moved_it() {
    let world = World::new().await;
    let site = Site::target();
    let count = || world.cloud().service(&site)["desiredCount"].clone();
    let before = count();
    let off = change(&world, json!({"service": {"desiredCount": 0}})).await;
    let body = world.update(json!({"restore": off})).await.status("APPLIED").clone();
    assert_eq!(body["changes"], json!([{"what": "parameter", "path": "desiredCount", "from": 0, "to": before}]));
    assert_eq!(count(), before);
    let up = change(&world, json!({"service": {"desiredCount": 8}})).await;
    world.cloud().edit(&site, |service| service["desiredCount"] = json!(11));
    let body = world.update(json!({"restore": up})).await.status("UNCHANGED").clone();
    assert!(body["notes"].to_string().contains("desiredCount is 11 now"), "{body}");
    assert_eq!(count(), 11);
}

#[tokio::test]
async fn a_service_that_was_made_anew_is_another_one() {
    let world = World::new().await;
    let site = Site::target();
    change(&world, json!({"ecs_image_name": "nginx"})).await;
    let later = json!(aws_stub::seconds(chrono::Utc::now()) + 6.0);
    world.cloud().edit(&site, |service| service["createdAt"] = later);
    for mode in ["undo", "exact"] {
        let outcome = world.update(json!({"restore": "previous", "restore_mode": mode})).await;
        let message = outcome.error("RestoreConflict");
        assert!(message.contains("of another service with this name"), "{message}");
    }
    assert_eq!(world.cloud().service(&site)["taskDefinition"], arn(&site, 2));
}

#[tokio::test]
async fn what_cannot_go_back_is_in_the_answer_the_record_and_the_summary() {
    let world = World::new().await;
    let site = Site::target();
    let canary = json!({"deploymentConfiguration": {"canaryConfiguration": {"canaryPercent": 1.0}}});
    change(&world, json!({"ecs_image_name": "nginx", "service": canary})).await;
    let path = "deploymentConfiguration.canaryConfiguration";
    let why = format!("{path} was not set before, and UpdateService cannot unset it: it stays");
    let left = json!([{"what": "parameter", "path": path, "why": why}]);
    let planned = world.update(json!({"restore": "previous", "dry_run": true})).await;
    assert_eq!(planned.status("PLANNED")["not_restored"], left);
    let event = site.event(json!({"restore": "previous", "idempotency_key": "back"}));
    let body = world.invoke(&event).await.status("APPLIED").clone();
    assert_eq!(body["not_restored"], left);
    assert_eq!(world.invoke(&event).await.status("APPLIED")["not_restored"], left, "again, by its key");
    assert_eq!(told(&world, &site, &body["change_id"])["not_restored"], left);
    let many = json!({"summary_only": true, "updates": [site.event(json!({"restore": body["restores"]}))]});
    let answer = world.invoke(&many).await;
    let body = answer.body();
    assert_eq!(body["summary"]["not_restored"], 1);
    assert_eq!((&body["results"][0]["status"], &body["results"][0]["not_restored"]), (&json!("UNCHANGED"), &left));
    assert!(ledger::faults(world.tables(), &site.key()).is_empty());
}

/// Another revision runs than the one that the change deployed: the image is set in that.
#[tokio::test]
async fn what_a_later_change_added_stays_where_the_image_goes_back() {
    let world = World::new().await;
    let site = Site::target();
    change(&world, json!({"ecs_image_name": "nginx"})).await;
    let mut by_hand = web_definition("nginx");
    by_hand["cpu"] = json!("512");
    world.cloud().register(&site, &by_hand.to_string(), json!([]));
    world.cloud().edit(&site, |service| service["taskDefinition"] = arn(&site, 3).into());
    let body = world.update(json!({"restore": "previous"})).await.status("APPLIED").clone();
    assert_eq!(body["AFTER"]["taskDefinitionArn"], arn(&site, 4));
    let revision = &world.cloud().revisions(&site, "web")[3];
    assert_eq!((revision.image("web").as_str(), &revision.json()["cpu"]), ("busybox", &json!("512")));
}
