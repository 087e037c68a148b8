//! As many updates as an event holds, of which some fail in every way there is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::journal::{Fault, Service};
use crate::harness::{REGION, Site, World, ledger, web_definition};

const WITHOUT_ROLE: &str = "888888888888";
const CLOSED_REGION: &str = "af-south-1";

/// One way to fail: its code, what is wrong at the service's place, and what becomes of its ledger.
struct Way {
    code: &'static str,
    name: &'static str,
    kinds: &'static [&'static str],
}

/// Ten of them. Those that STARTED have a result.
const WAYS: [Way; 10] = [
    Way { code: "ClusterNotFound", name: "cluster", kinds: &[] },
    Way { code: "ServiceNotFound", name: "service", kinds: &[] },
    Way { code: "AssumeRoleFailed", name: "role", kinds: &[] },
    Way { code: "RegionNotEnabled", name: "region", kinds: &[] },
    Way { code: "ContainerNotFound", name: "container", kinds: &[] },
    Way { code: "UnsupportedDeploymentController", name: "controller", kinds: &[] },
    Way { code: "TaskDefinitionChanged", name: "expected", kinds: &[] },
    Way { code: "TaskDefinitionRejected", name: "rejected", kinds: &["STARTED", "FAILED"] },
    Way { code: "ServiceUpdateFailed", name: "refused", kinds: &["STARTED", "FAILED"] },
    Way { code: "TagUpdateFailed", name: "tagless", kinds: &["STARTED", "FAILED"] },
];

fn account(n: usize) -> String {
    format!("{:012}", 200_000_000_000 + n)
}

/// The place of the `n`th service that fails this way.
fn failing(way: &Way, n: usize) -> Site {
    let name = format!("{}-{n}", way.name);
    match way.name {
        "cluster" => Site::new(&account(n), REGION, "nowhere", &name),
        "role" => Site::new(WITHOUT_ROLE, REGION, "prod", &name),
        "region" => Site::new(&account(n), CLOSED_REGION, "prod", &name),
        _ => Site::new(&account(n), REGION, "prod", &name),
    }
}

fn seed(world: &World, site: &Site, way: Option<&Way>) {
    let mut definition = web_definition("busybox");
    definition["family"] = json!(site.service);
    let controller = |service: &mut Value| {
        if way.is_some_and(|way| way.name == "controller") {
            service["deploymentController"] = json!({"type": "CODE_DEPLOY"});
        }
    };
    if !way.is_some_and(|way| way.name == "service" || way.name == "cluster") {
        world.seed_definition(site, &definition.to_string(), json!([]), controller);
    }
}

/// 500 updates, every fifth of which fails, and what each of them is to end with.
fn updates(world: &World) -> (Vec<Value>, Vec<(Site, &'static str)>) {
    let mut updates = Vec::new();
    let mut expected = Vec::new();
    for n in 0..500 {
        let fails = (n % 5 == 0).then(|| (&WAYS[n / 5 % WAYS.len()], n / 5 / WAYS.len()));
        let site = match fails {
            Some((way, index)) => failing(way, index),
            None => Site::new(&account(n % 25), REGION, "prod", &format!("s{n}")),
        };
        seed(world, &site, fails.map(|(way, _)| way));
        let own = match fails.map(|(way, _)| way.name) {
            Some("container") => json!({"container_name": "no-such-container"}),
            Some("expected") => json!({"expected_task_definition": format!("{}:7", site.service)}),
            Some("tagless") => json!({"ecs_tag": {"release": "7"}}),
            _ => json!({}),
        };
        updates.push(site.event(own));
        expected.push((site, fails.map_or("APPLIED", |(way, _)| way.code)));
    }
    (updates, expected)
}

fn ends(body: &Value) -> Vec<&str> {
    let ends = body["results"].as_array().unwrap().iter();
    ends.map(|r| r["error"]["code"].as_str().or(r["status"].as_str()).unwrap()).collect()
}

#[tokio::test]
async fn of_five_hundred_a_hundred_fail_in_ten_ways_and_twice_is_once() {
    // No more at a time than these tables can take on a machine that is busy with other things too.
    let world = World::with_environment(&[("MAX_CONCURRENCY", "16")]).await;
    let (updates, expected) = updates(&world);
    let refuse = |code: &str| Fault::refuse(400, code, "not today");
    world.journal.about("AssumeRole", WITHOUT_ROLE, Fault::refuse(403, "AccessDenied", "sts:AssumeRole"));
    world.journal.about("RegisterTaskDefinition", "\"rejected-", refuse("ClientException"));
    world.journal.about("UpdateService", "\"refused-", refuse("InvalidParameterException"));
    world.journal.about("TagResource", "/tagless-", refuse("InvalidParameterException"));
    for n in 0..25 {
        world.cloud().disable(&account(n), CLOSED_REGION);
    }
    let event = json!({"ecs_image_name": "nginx:1.27", "idempotency_key": "release-7", "updates": updates});
    let invocation = || world.invocation().deadline_in(Duration::from_mins(5));

    let outcome = world.invoke_with(&event, invocation()).await;
    let body = outcome.many(207);
    assert_eq!(body["summary"], json!({"applied": 400, "unchanged": 0, "failed": 100, "not_started": 0}));
    assert_eq!(ends(body), expected.iter().map(|(_, end)| *end).collect::<Vec<_>>());
    let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
    for end in ends(body) {
        *by_code.entry(end).or_default() += 1;
    }
    assert!(WAYS.iter().all(|way| by_code[way.code] == 10), "{by_code:?}");
    let first: Vec<Vec<Value>> = expected.iter().map(|(site, _)| world.records(site)).collect();
    for (records, (site, end)) in first.iter().zip(&expected) {
        let kinds = WAYS.iter().find(|way| way.code == *end).map_or(&["STARTED", "APPLIED"][..], |way| way.kinds);
        assert_eq!(ledger::kinds(records), kinds, "{}", site.key());
        ledger::assert_free(world.tables(), &site.key());
    }

    world.journal.forget();
    let again = world.invoke_with(&event, invocation()).await;
    let again = again.many(207);
    assert_eq!(again["summary"], body["summary"]);
    assert_eq!(ends(again), ends(body));
    assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
    assert_eq!(world.journal.of("ExecuteTransaction").len(), 0, "nothing is written");
    let second: Vec<Vec<Value>> = expected.iter().map(|(site, _)| world.records(site)).collect();
    assert!(first == second, "a record came or went");
    let applied = again["results"].as_array().unwrap().iter().filter(|result| result["status"] == "APPLIED");
    assert!(applied.clone().count() == 400 && applied.clone().all(|result| result["replayed"] == true));
    // One session for each account, its policy permitting, and none for what needs no look.
    assert!(world.journal.actions(Service::Sts).len() <= 60, "{}", world.journal.actions(Service::Sts).len());
}
