//! Many updates in one event.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::journal::{Call, Fault, Service};
use crate::harness::{FUNCTION_ARN, HUB_ACCESS_KEY, OTHER_TARGET, REGION, Site, TARGET, World, ledger};

/// Services `s00`, `s01`, … of cluster `prod` in an account.
fn sites(account: &str, count: usize) -> Vec<Site> {
    (0..count).map(|n| Site::new(account, REGION, "prod", &format!("s{n:02}"))).collect()
}

async fn world_of(sites: &[Site]) -> World {
    let world = World::with_environment(&[]).await;
    seed(&world, sites);
    world
}

fn seed(world: &World, sites: &[Site]) {
    for site in sites {
        world.seed(site);
    }
}

/// An event that sets nginx on each of `sites`, `shared` beside it.
fn event(sites: &[Site], shared: Value) -> Value {
    let mut event = json!({"ecs_image_name": "nginx"});
    let Value::Object(shared) = shared else { panic!("shared fields are an object") };
    event.as_object_mut().unwrap().extend(shared);
    event["updates"] = sites.iter().map(|site| site.event(json!({}))).collect();
    event
}

fn results(body: &Value) -> &Vec<Value> {
    body["results"].as_array().unwrap()
}

#[track_caller]
fn assert_in_order(body: &Value, sites: &[Site]) {
    let keys: Vec<String> = results(body)
        .iter()
        .map(|result| {
            ["account_id", "region", "ecs_cluster_name", "ecs_service_name"]
                .map(|f| result[f].as_str().unwrap())
                .join("/")
        })
        .collect();
    assert_eq!(keys, sites.iter().map(Site::key).collect::<Vec<_>>());
}

fn codes(body: &Value) -> Vec<&str> {
    results(body).iter().map(|r| r["error"]["code"].as_str().or(r["status"].as_str()).unwrap()).collect()
}

/// The most calls of `action` that were under way at one moment.
fn most_at_once(calls: &[Call]) -> usize {
    let during =
        |at: Instant| calls.iter().filter(|c| c.at <= at && c.answered.is_none_or(|(end, _)| end > at)).count();
    calls.iter().map(|call| during(call.at)).max().unwrap_or(0)
}

#[tokio::test]
async fn every_update_has_its_result_in_the_order_asked() {
    let mut sites = sites(TARGET, 3);
    sites.insert(1, Site::new(OTHER_TARGET, REGION, "prod", "edge"));
    let world = world_of(&sites).await;
    sites.insert(2, Site::new(TARGET, REGION, "prod", "missing"));
    let outcome = world.invoke(&event(&sites, json!({"ecs_tag": {"release": "7"}}))).await;
    let body = outcome.many(207);
    assert_in_order(body, &sites);
    assert_eq!(body["summary"], json!({"applied": 4, "unchanged": 0, "failed": 1, "not_started": 0}));
    assert_eq!(codes(body), ["APPLIED", "APPLIED", "ServiceNotFound", "APPLIED", "APPLIED"]);
    let failed = &results(body)[2]["error"];
    let text = "[ERROR][ecs_service_read] ecs_service_name missing not found";
    assert!(failed["message"].as_str().unwrap().starts_with(text), "{failed}");
    assert_eq!(failed["retryable"], false);
    for (site, result) in sites.iter().zip(results(body)).filter(|(_, result)| result["status"] == "APPLIED") {
        assert_eq!(world.kinds(site), ["STARTED", "APPLIED"]);
        assert_eq!(
            (&result["BEFORE"]["serviceImage"], &result["AFTER"]["serviceImage"]),
            (&json!("busybox"), &json!("nginx"))
        );
        assert_eq!(world.cloud().tags(site)["release"], "7");
        ledger::assert_free(world.tables(), &site.key());
    }
    assert_eq!(world.kinds(&sites[2]), Vec::<String>::new());

    world.journal.forget();
    let outcome =
        world.invoke(&event(&[sites[0].clone(), sites[4].clone()], json!({"ecs_tag": {"release": "7"}}))).await;
    let body = outcome.many(200);
    assert_eq!(body["summary"], json!({"applied": 0, "unchanged": 2, "failed": 0, "not_started": 0}));
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn services_of_a_cluster_are_described_in_tens_and_a_shared_definition_once() {
    let sites = sites(TARGET, 33);
    let world = World::with_environment(&[]).await;
    let arn = world.cloud().register(&sites[0], &crate::harness::web_definition("busybox").to_string(), json!([]));
    for site in &sites {
        world.cloud().create_service(site, &arn, |_| {});
    }
    let outcome = world.invoke(&event(&sites, json!({}))).await;
    assert_eq!(outcome.many(200)["summary"]["applied"], 33);
    let sessions = world.sessions().len();
    let described: Vec<usize> = world
        .journal
        .of("DescribeServices")
        .iter()
        .map(|call| call.json()["services"].as_array().unwrap().len())
        .collect();
    assert_eq!(described.iter().sum::<usize>(), 33);
    assert!(described.iter().all(|n| *n <= 10) && described.len() <= 33_usize.div_ceil(10) + sessions, "{described:?}");
    assert_eq!(world.journal.of("DescribeTaskDefinition").len(), 1);
    assert_eq!(world.journal.of("RegisterTaskDefinition").len(), 1);
    let after: Vec<&Value> =
        results(outcome.many(200)).iter().map(|result| &result["AFTER"]["taskDefinitionArn"]).collect();
    assert!(after.iter().all(|arn| arn.as_str().unwrap().ends_with("task-definition/web:2")), "{after:?}");

    // Two that change it alike and one that does not.
    world.journal.forget();
    let mut event = event(&sites[..3], json!({"ecs_image_name": "nginx:2"}));
    event["updates"][1]["ecs_image_name"] = json!("nginx:3");
    assert_eq!(world.invoke(&event).await.many(200)["summary"]["applied"], 3);
    assert_eq!(world.journal.of("RegisterTaskDefinition").len(), 2);
    let image = |n: usize| world.cloud().revisions(&sites[0], "web")[n].image("web");
    let mut images = [image(2), image(3)];
    images.sort();
    assert_eq!(images, ["nginx:2", "nginx:3"]);
}

#[tokio::test]
async fn a_session_is_for_exactly_its_services_and_several_where_one_policy_would_not_hold_them() {
    let long: Vec<Site> =
        (0..20).map(|n| Site::new(TARGET, REGION, "prod", &format!("{}{n:02}", "s".repeat(100)))).collect();
    let world = world_of(&long).await;
    let outcome = world.invoke(&event(&long, json!({}))).await;
    assert_eq!(outcome.many(200)["summary"]["applied"], 20);
    let sessions = world.sessions();
    assert!((4..=10).contains(&sessions.len()), "{}", sessions.len());
    let mut named: Vec<String> = Vec::new();
    for session in &sessions {
        let text = session.policy_text.as_ref().unwrap();
        assert!(text.len() <= 2048);
        named.extend(long.iter().filter(|site| text.contains(&site.service)).map(Site::key));
    }
    named.sort();
    assert_eq!(named, long.iter().map(Site::key).collect::<Vec<_>>(), "each service in one session");
}

#[tokio::test]
async fn where_sts_finds_a_packed_policy_too_large_the_session_is_split() {
    let sites = sites(TARGET, 4);
    let world = world_of(&sites).await;
    let fault = || Fault::refuse(400, "PackedPolicyTooLarge", "Packed policy consumes 104% of allotted space");
    world.journal.on("AssumeRole", 1, fault());
    let outcome = world.invoke(&event(&sites, json!({}))).await;
    assert_eq!(outcome.many(200)["summary"]["applied"], 4);
    assert_eq!(world.sessions().len(), 2);

    // A single service cannot be split.
    world.journal.from("AssumeRole", 1, fault());
    let outcome = world.invoke(&event(&sites[..2], json!({"ecs_image_name": "nginx:2"}))).await;
    assert_eq!(codes(outcome.many(207)), ["AssumeRoleFailed", "AssumeRoleFailed"]);
}

#[tokio::test]
async fn each_requester_has_a_session_of_their_own() {
    let sites = sites(TARGET, 3);
    let world = world_of(&sites).await;
    let mut event = event(&sites, json!({"requested_by": "ann"}));
    event["updates"][1]["requested_by"] = json!("bob");
    let mut invocation = world.invocation();
    invocation.function_arn = format!("{FUNCTION_ARN}:api");
    assert_eq!(world.invoke_with(&event, invocation).await.many(200)["summary"]["applied"], 3);
    let mut identities: Vec<_> = world.sessions().into_iter().map(|session| session.source_identity.unwrap()).collect();
    identities.sort();
    assert_eq!(identities, ["ann", "bob"]);
}

#[tokio::test]
async fn what_one_account_or_region_lacks_leaves_the_others_alone() {
    let (no_role, throttled, closed) = ("444444444444", "555555555555", "666666666666");
    let mut sites = sites(TARGET, 2);
    for account in [no_role, throttled, closed] {
        sites.push(Site::new(account, REGION, "prod", "edge"));
    }
    sites.push(Site::new(TARGET, "af-south-1", "prod", "edge"));
    sites.push(Site::new(TARGET, "us-east-1", "prod", "edge"));
    let world = world_of(&sites).await;
    world.journal.about("AssumeRole", no_role, Fault::refuse(403, "AccessDenied", "not authorized: sts:AssumeRole"));
    world.journal.about("DescribeServices", throttled, Fault::refuse(400, "ThrottlingException", "Rate exceeded"));
    world.journal.about(
        "UpdateService",
        closed,
        Fault::refuse(400, "AccessDeniedException", "explicit deny in an SCP"),
    );
    world.cloud().disable(TARGET, "af-south-1");
    let outcome = world.invoke(&event(&sites, json!({}))).await;
    let body = outcome.many(207);
    assert_in_order(body, &sites);
    let expected = [
        "APPLIED",
        "APPLIED",
        "AssumeRoleFailed",
        "ServiceReadFailed",
        "ServiceUpdateFailed",
        "RegionNotEnabled",
        "APPLIED",
    ];
    assert_eq!(codes(body), expected);
    let retryable: Vec<&Value> = results(body)[2..6].iter().map(|result| &result["error"]["retryable"]).collect();
    assert_eq!(retryable, [false, true, false, false]);
    assert_eq!(world.kinds(&sites[4]), ["STARTED", "FAILED"]);
    assert!(results(body)[4]["change_id"].is_string(), "a change that began can be asked for: {body}");
    assert_eq!(world.kinds(&sites[3]), Vec::<String>::new());
    // Where one session serves two regions, it is assumed once.
    assert_eq!(world.sessions().iter().filter(|session| session.account == TARGET).count(), 1);
}

#[tokio::test]
async fn a_throttled_moment_is_waited_out() {
    let sites = sites(TARGET, 3);
    let world = world_of(&sites).await;
    for action in ["DescribeServices", "RegisterTaskDefinition", "UpdateService"] {
        world.journal.about_times(action, TARGET, 2, Fault::refuse(400, "ThrottlingException", "Rate exceeded"));
    }
    let outcome = world.invoke(&event(&sites, json!({}))).await;
    assert_eq!(outcome.many(200)["summary"]["applied"], 3);
    assert_eq!(world.cloud().revisions(&sites[0], "web").len(), 4, "three that are alike become one");
}

#[tokio::test]
async fn what_the_time_left_does_not_allow_is_not_started() {
    let sites = sites(TARGET, 8);
    let world = World::with_environment(&[("MAX_CONCURRENCY", "1")]).await;
    seed(&world, &sites);
    world.journal.from("UpdateService", 1, Fault::Delay(Duration::from_millis(1500)));
    let invocation = world.invocation().deadline_in(Duration::from_secs(14));
    let begun = Instant::now();
    let outcome = world.invoke_with(&event(&sites, json!({})), invocation).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let body = outcome.many(207);
    assert_in_order(body, &sites);
    let applied = codes(body).iter().filter(|code| **code == "APPLIED").count();
    assert!((2..=5).contains(&applied), "{:?}", codes(body));
    let summary = json!({"applied": applied, "unchanged": 0, "failed": 0, "not_started": 8 - applied});
    assert_eq!(body["summary"], summary);
    for (site, result) in sites.iter().zip(results(body)) {
        if result["status"] == "NOT_STARTED" {
            assert_eq!(world.kinds(site), Vec::<String>::new());
            assert_eq!(world.cloud().service(site)["deployments"].as_array().unwrap().len(), 1);
        } else {
            assert_eq!(world.kinds(site), ["STARTED", "APPLIED"]);
        }
    }

    // The same event again does the rest.
    world.journal.mend();
    let rest = 8 - applied;
    let outcome = world.invoke(&event(&sites, json!({}))).await;
    assert_eq!(
        outcome.many(200)["summary"],
        json!({"applied": rest, "unchanged": applied, "failed": 0, "not_started": 0})
    );
}

#[tokio::test]
async fn what_was_not_started_does_not_undo_what_came_after() {
    let sites = sites(TARGET, 5);
    let world = World::with_environment(&[("MAX_CONCURRENCY", "1")]).await;
    seed(&world, &sites);
    world.journal.from("UpdateService", 1, Fault::Delay(Duration::from_millis(1500)));
    let batch = event(&sites, json!({"idempotency_key": "batch"}));
    let invocation = world.invocation().deadline_in(Duration::from_secs(11));
    let outcome = world.invoke_with(&batch, invocation).await;
    let body = outcome.many(207);
    let late: Vec<usize> = (0..5).filter(|index| results(body)[*index]["status"] == "NOT_STARTED").collect();
    assert!(late.len() >= 2, "{:?}", codes(body));

    world.journal.mend();
    let hotfix = sites[late[0]].event(json!({"ecs_image_name": "nginx:hotfix"}));
    world.invoke(&hotfix).await.status("APPLIED");
    let outcome = world.invoke(&batch).await;
    let body = outcome.many(207);
    let told = codes(body);
    assert_eq!(told[late[0]], "ChangeOvertaken", "its head and key were read then: {told:?}");
    assert_eq!(told[late[1]], "APPLIED", "{told:?}");
}

#[tokio::test]
async fn no_more_changes_are_at_work_than_configured() {
    let sites: Vec<Site> =
        (0..9).map(|n| Site::new(&format!("{:012}", 700_000_000_000_u64 + n), REGION, "prod", "edge")).collect();
    let world = World::with_environment(&[("MAX_CONCURRENCY", "3")]).await;
    seed(&world, &sites);
    world.journal.from("UpdateService", 1, Fault::Delay(Duration::from_millis(300)));
    assert_eq!(world.invoke(&event(&sites, json!({}))).await.many(200)["summary"]["applied"], 9);
    assert_eq!(most_at_once(&world.journal.of("UpdateService")), 3);
}

#[tokio::test]
async fn the_whole_event_is_checked_before_the_first_call() {
    let sites = sites(TARGET, 2);
    let world = world_of(&sites).await;
    let mut twice = event(&sites, json!({}));
    twice["updates"][1] = twice["updates"][0].clone();
    let outcome = world.invoke(&twice).await;
    let message = outcome.error("JsonValidation");
    assert!(message.contains("/updates/0") && message.contains("/updates/1"), "{message}");

    let mut bad = event(&sites, json!({}));
    bad["updates"][1]["ecs_tag"] = json!({"aws:x": "1"});
    let outcome = world.invoke(&bad).await;
    let message = outcome.error("JsonValidation");
    assert!(message.contains("/updates/1/ecs_tag"), "{message}");

    let many: Vec<Site> = (0..501).map(|n| Site::new(TARGET, REGION, "prod", &format!("s{n}"))).collect();
    assert!(world.invoke(&event(&many, json!({}))).await.error("JsonValidation").contains("/updates"));
    assert!(world.invoke(&event(&[], json!({}))).await.error("JsonValidation").contains("/updates"));
    let mut image = event(&sites, json!({}));
    image["updates"][0]["ecs_image_name"] = json!("nginx:");
    assert!(world.invoke(&image).await.error("InvalidImage").contains("/updates/0"));
    assert_eq!(world.journal.calls().len(), 0);
}

#[tokio::test]
async fn the_same_event_again_gives_the_first_answers_again() {
    let sites = sites(TARGET, 12);
    let world = world_of(&sites).await;
    let event = event(&sites, json!({"idempotency_key": "release-7"}));
    let first = world.invoke(&event).await;
    let first = first.many(200);
    assert_eq!(first["summary"]["applied"], 12);
    world.journal.forget();
    let again = world.invoke(&event).await;
    let again = again.many(200);
    for (before, now) in results(first).iter().zip(results(again)) {
        assert_eq!(now["replayed"], true);
        assert_eq!(now["change_id"], before["change_id"]);
    }
    assert_eq!(world.journal.actions(Service::Ecs), Vec::<String>::new());
    assert!(sites.iter().all(|site| world.kinds(site) == ["STARTED", "APPLIED"]));
}

#[tokio::test]
async fn a_killed_batch_is_taken_up_where_it_was() {
    let sites = sites(TARGET, 6);
    let world = World::with_environment(&[("MAX_CONCURRENCY", "2")]).await;
    seed(&world, &sites);
    world.journal.on("UpdateService", 3, Fault::HangAfter);
    world.journal.on("UpdateService", 4, Fault::HangBefore);
    let event = event(&sites, json!({}));
    let id = "1a2b3c4d-0000-4000-8000-00000000cafe";
    world.kill_at(&event, world.invocation().request_id(id), "UpdateService", 4).await;
    world.journal.mend();
    world.restart().await;
    for site in &sites {
        if ledger::head(world.tables(), &site.key()).is_some_and(|head| head["lease_until"] != "") {
            ledger::expire_lease(world.tables(), &site.key());
        }
    }
    let outcome = world.invoke_with(&event, world.invocation().request_id(id)).await;
    let body = outcome.many(200);
    assert_eq!(body["summary"], json!({"applied": 6, "unchanged": 0, "failed": 0, "not_started": 0}));
    for site in &sites {
        let kinds = world.kinds(site);
        // Those that were killed went on in a second attempt.
        assert!(
            kinds == ["STARTED", "APPLIED"] || kinds == ["STARTED", "STARTED", "APPLIED"],
            "{} {kinds:?}",
            site.key()
        );
        ledger::assert_free(world.tables(), &site.key());
    }
    // Six that are alike became one, before the kill and after it.
    assert_eq!(world.cloud().revisions(&sites[0], "web").len(), 7);
}

#[tokio::test]
async fn two_at_once_on_the_same_services_change_each_service_one_at_a_time() {
    let sites = sites(TARGET, 8);
    let world = world_of(&sites).await;
    let other = world.another_process().await;
    world.journal.from("UpdateService", 1, Fault::Delay(Duration::from_millis(100)));
    let send = |image: &str| event(&sites, json!({"ecs_image_name": image})).to_string().into_bytes();
    let (one, two) = tokio::join!(
        world.invoke_bytes(send("nginx:1"), world.invocation()),
        world.invoke_on(&other, send("nginx:2"), world.invocation())
    );
    for (n, site) in sites.iter().enumerate() {
        let codes: Vec<&str> = [&one, &two].map(|outcome| codes(&outcome.response()["body"])[n]).into();
        let applied = codes.iter().filter(|code| **code == "APPLIED").count();
        assert!(applied >= 1 && codes.iter().all(|code| ["APPLIED", "ChangeInProgress"].contains(code)), "{codes:?}");
        assert_eq!(world.kinds(site), ["STARTED", "APPLIED"].repeat(applied));
    }
}

#[tokio::test]
async fn a_dry_run_of_many_touches_nothing_and_reads_no_table() {
    let mut sites = sites(TARGET, 3);
    let world = world_of(&sites).await;
    sites.push(Site::new(TARGET, REGION, "nowhere", "s"));
    let outcome = world.invoke(&event(&sites, json!({"dry_run": true}))).await;
    let body = outcome.many(207);
    assert_eq!(codes(body), ["PLANNED", "PLANNED", "PLANNED", "ClusterNotFound"]);
    assert_eq!(body["summary"], json!({"applied": 0, "unchanged": 0, "failed": 1, "not_started": 0, "planned": 3}));
    assert_eq!(results(body)[0]["changes"][0]["to"], "nginx");
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.journal.actions(Service::DynamoDb), Vec::<String>::new());
}

#[tokio::test]
async fn an_answer_that_would_be_too_large_is_shortened_to_codes_and_says_so() {
    let sites: Vec<Site> = (0..250).map(|n| Site::new(TARGET, REGION, "prod", &format!("s{n}"))).collect();
    let world = World::with_environment(&[]).await;
    let arn = world.cloud().register(&sites[0], &crate::harness::web_definition("busybox").to_string(), json!([]));
    let tags: Value =
        (0..50).map(|n| json!({"key": format!("{n:03}{}", "k".repeat(100)), "value": "v".repeat(256)})).collect();
    for site in &sites {
        world.cloud().create_service(site, &arn, |service| service["tags"] = tags.clone());
    }
    let outcome = world.invoke(&event(&sites, json!({"dry_run": true}))).await;
    let body = outcome.many(200);
    assert!(body["shortened"].as_str().unwrap().contains("6 MB"), "{}", body["shortened"]);
    assert_eq!(body["summary"]["planned"], 250);
    assert_in_order(body, &sites);
    assert!(results(body).iter().all(|result| result.get("BEFORE").is_none()));

    // Somewhat fewer fit, in full.
    let outcome = world.invoke(&event(&sites[..100], json!({"dry_run": true}))).await;
    let body = outcome.many(200);
    assert!(body.get("shortened").is_none() && results(body)[99]["BEFORE"]["tags"].as_array().unwrap().len() == 50);
}

#[tokio::test]
async fn a_summary_holds_codes_and_ids_only() {
    let mut sites = sites(TARGET, 2);
    let world = world_of(&sites).await;
    sites.push(Site::new(TARGET, REGION, "prod", "missing"));
    let outcome = world.invoke(&event(&sites, json!({"summary_only": true}))).await;
    let body = outcome.many(207);
    assert_in_order(body, &sites);
    let result = &results(body)[0];
    assert_eq!((result["status"].as_str(), result.get("BEFORE")), (Some("APPLIED"), None));
    assert!(result["change_id"].is_string() && result["deployment_id"].is_string(), "{result}");
    assert_eq!(results(body)[2]["error"], json!({"code": "ServiceNotFound", "retryable": false}));
    assert!(body.get("shortened").is_none(), "it was asked for");
}

#[tokio::test]
async fn a_session_that_would_expire_is_renewed() {
    let sites = sites(TARGET, 4);
    let world = World::with_environment(&[("MAX_CONCURRENCY", "1")]).await;
    seed(&world, &sites);
    // It is renewed a minute before its end.
    world.sts.sessions.live_for(Duration::from_secs(63));
    world.journal.from("UpdateService", 1, Fault::Delay(Duration::from_millis(1200)));
    let outcome = world.invoke(&event(&sites, json!({}))).await;
    assert_eq!(outcome.many(200)["summary"]["applied"], 4);
    let sessions = world.sessions();
    assert!((2..=4).contains(&sessions.len()), "{}", world.journal.summary());
    assert!(sessions.iter().all(|session| session.policy_text == sessions[0].policy_text), "none is wider");
}

#[tokio::test]
async fn every_end_is_logged_and_counted() {
    let mut sites = sites(TARGET, 2);
    let world = world_of(&sites).await;
    sites.push(Site::new(TARGET, REGION, "prod", "missing"));
    world.invoke(&event(&sites, json!({}))).await.many(207);
    let logs = world.logs().join("\n");
    for site in &sites {
        assert!(logs.contains(&site.key()), "{} is in no log line: {logs}", site.key());
    }
    let lines: Vec<Value> = logs.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let sum = |metric: &str| {
        lines.iter().filter(|line| line["_aws"].is_object()).filter_map(|line| line[metric].as_u64()).sum::<u64>()
    };
    assert_eq!((sum("Applied"), sum("Failed")), (2, 1), "{logs}");
    assert!(!logs.contains(HUB_ACCESS_KEY));
}
