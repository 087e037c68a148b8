//! The crash matrix: the updater and the recorder killed before and after each of their calls; then what Lambda would do,
//! the same event once more; then the sweep.
//!
//! The calls are those of a run that nothing disturbs: a new call is a new row by itself. What such a run leaves behind is
//! what each cell has to leave behind, too. `make reliability` prints the tables. Without `SLOW_TESTS` only one update, two that
//! share a definition, and the recorder are tried.

mod recorder;
mod table;

use std::fmt::Write;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::ledger::change::fold;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use serde_json::{Map, Value, json};

use crate::harness::dynamodb::HISTORY_TABLE;
use crate::harness::journal::{Call, Fault};
use crate::harness::lambda::{Invocation, Outcome};
use crate::harness::{REGION, Site, TARGET, World, ledger, web_definition};

/// How long an invocation has here.
const DEADLINE: Duration = crate::harness::lambda::UPDATER_TIMEOUT;
/// By how much a lease may outlast the invocation, and how long it may last at most without that, in milliseconds.
const GRACE: i64 = 5_000;
const MAX_LEASE_MS: i64 = 120_000;

/// Whether the server had done what the call wanted when the process was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

const SIDES: [Side; 2] = [Side::Before, Side::After];

impl Side {
    fn fault(self) -> Fault {
        match self {
            Self::Before => Fault::HangBefore,
            Self::After => Fault::HangAfter,
        }
    }
}

/// One call of a run: the `nth` of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// Which of the events it belongs to, where there are several.
    event: usize,
    name: String,
    nth: usize,
    /// As the table has it.
    label: String,
}

/// What was found where the process was killed, or what was wrong with it.
#[derive(Debug)]
struct Cell {
    side: Side,
    text: Option<String>,
    fault: Option<String>,
}

/// A call as the tables name it: with the records that it writes, and with its service where there are several.
fn name(call: &Call, sites: &[Site]) -> String {
    let mut name = call.action.clone();
    if call.action == "ExecuteTransaction" {
        let _ = write!(name, " ({})", written(&call.json()));
    }
    let mut named = sites.iter().filter(|site| call.body.contains(&site.service));
    if let (true, Some(site), None) = (sites.len() > 1, named.next(), named.next()) {
        let _ = write!(name, " of {}", site.service);
    }
    name
}

/// The kinds of the records that a transaction inserts; where it inserts none, what it is about.
fn written(transaction: &Value) -> String {
    let (mut kinds, mut about) = (Vec::new(), "key");
    for statement in transaction["TransactStatements"].as_array().into_iter().flatten() {
        let text = statement["Statement"].as_str().unwrap_or_default();
        let parameters = statement["Parameters"].as_array().cloned().unwrap_or_default();
        let names = text.split('\'').skip(1).step_by(2);
        if text.contains(HISTORY_TABLE)
            && let Some(at) = names.clone().position(|name| name == "kind")
        {
            kinds.push(parameters[at]["S"].as_str().unwrap_or_default().to_owned());
        }
        for (prefix, what) in [("service#", "lease"), ("deployment#", "deployment"), ("turn#", "turn")] {
            if parameters.iter().any(|parameter| parameter["S"].as_str().is_some_and(|id| id.starts_with(prefix))) {
                about = what;
            }
        }
    }
    if kinds.is_empty() { about.to_owned() } else { kinds.join(", ") }
}

/// The calls of a run in the order of the wire. What runs side by side has an order here nevertheless.
fn steps(calls: &[Call], sites: &[Site], event: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for call in calls {
        let name = name(call, sites);
        let nth = steps.iter().filter(|step| step.name == name).count() + 1;
        let label = if nth == 1 { name.clone() } else { format!("{name}, {nth}") };
        steps.push(Step { event, name, nth, label });
    }
    if sites.len() > 1 {
        let kind = |step: &Step| step.name.split(" of ").next().unwrap_or_default().to_owned();
        let order: Vec<String> = steps.iter().map(kind).collect();
        steps.sort_by_key(|step| (order.iter().position(|other| *other == kind(step)), step.name.clone(), step.nth));
    }
    // Beside it runs the first read of the tables.
    steps.sort_by_key(|step| !step.name.starts_with("AssumeRole"));
    steps
}

/// What is done about a change that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Lambda sends the event again; then comes the sweep.
    Retry,
    /// The same, but the second one is killed at the same place.
    RetryKilledToo,
    /// Nobody sends it again: the sweep comes, then another change; and then the event after all.
    AnotherChange,
}

/// A change, and what there was before it.
#[derive(Clone)]
struct Change {
    title: &'static str,
    sites: Vec<Site>,
    event: Value,
    prepare: for<'a> fn(&'a World, &'a [Site]) -> BoxFuture<'a, ()>,
    /// Where an earlier invocation of the same change was killed already.
    killed_before: Option<(&'static str, Side)>,
    then: Then,
}

impl Change {
    fn new(title: &'static str, changes: Value) -> Self {
        Self {
            title,
            sites: vec![Site::target()],
            event: Site::target().event(changes),
            prepare: seeded,
            killed_before: None,
            then: Then::Retry,
        }
    }

    fn image_and_tags(title: &'static str) -> Self {
        Self::new(title, json!({"ecs_image_name": "nginx", "ecs_tag": {"new": "1"}}))
    }
}

/// What there was at a service before its change.
struct Start {
    records: usize,
    deployments: usize,
    service: Value,
    revisions: usize,
}

/// What is there at last. A run that was disturbed leaves the same behind as one that was not.
#[derive(Debug, Clone, PartialEq)]
struct End {
    /// Task definitions registered.
    revisions: Vec<String>,
    services: Vec<Value>,
    /// Records of the change, by service.
    kinds: Vec<Vec<String>>,
    /// Deployments started, by service.
    deployments: Vec<usize>,
    /// Without what differs from run to run.
    answers: Vec<Value>,
}

/// One change in a world of its own.
struct Run<'a> {
    change: &'a Change,
    world: World,
    invocation: Invocation,
    starts: Vec<Start>,
}

impl<'a> Run<'a> {
    async fn begin(change: &'a Change) -> Self {
        let world = World::with_environment(&[]).await;
        (change.prepare)(&world, &change.sites).await;
        let starts = change.sites.iter().map(|site| Start {
            records: world.records(site).len(),
            deployments: deployments(&world, site).len(),
            service: service(&world, site),
            revisions: world.cloud().revisions(site, "web").len(),
        });
        let starts = starts.collect();
        // No key: the request id, which Lambda's retries keep, is the key.
        let invocation = world.invocation().deadline_in(DEADLINE);
        let run = Self { change, world, invocation, starts };
        run.world.journal.forget();
        if let Some((name, side)) = change.killed_before {
            let step = Step { event: 0, name: name.into(), nth: 1, label: name.into() };
            assert_eq!(run.killed_at(&step, side).await, Outcome::Died, "{name} was called");
            run.lease_ends();
            run.world.restart().await;
            run.world.journal.forget();
        }
        run
    }

    fn sites(&self) -> impl Iterator<Item = (&Site, &Start)> {
        self.change.sites.iter().zip(&self.starts)
    }

    async fn send(&self) -> Outcome {
        self.world.invoke_with(&self.change.event, self.invocation.clone()).await
    }

    /// Sends the event and kills the process in that call. What runs beside it goes on until it is done or has to wait.
    async fn killed_at(&self, step: &Step, side: Side) -> Outcome {
        let world = &self.world;
        let silent = world.journal.silent();
        arm(world, step, side, &self.change.sites);
        let process = world.process();
        let running = world.invoke_on(&process, self.change.event.to_string().into_bytes(), self.invocation.clone());
        tokio::pin!(running);
        let outcome = tokio::select! {
            outcome = &mut running => outcome,
            () = world.journal.fell_silent(silent) => {
                if self.change.sites.len() > 1 {
                    world.journal.quiet(Duration::from_millis(400)).await;
                }
                tokio::join!(world.kill(), running).1
            }
        };
        world.journal.mend();
        outcome
    }

    /// Records of the change at one service, as an undisturbed run leaves them: without the `STARTED` of further attempts.
    fn records(&self, site: &Site, start: &Start) -> Vec<Value> {
        let mut records = self.all_records(site, start);
        records.retain(|record| record["kind"] != "STARTED" || record["attempt"].is_null());
        records
    }

    fn all_records(&self, site: &Site, start: &Start) -> Vec<Value> {
        self.world.records(site).split_off(start.records)
    }

    /// What has to be so at any time. `most`: what an undisturbed run leaves behind.
    fn check(&self, most: Option<&End>) {
        let world = &self.world;
        let violations = world.journal.take_violations();
        assert!(violations.is_empty(), "{violations:?}");
        let mut sessions = Vec::new();
        for (site, start) in self.sites() {
            let key = site.key();
            let faults = ledger::faults(world.tables(), &key);
            assert!(faults.is_empty(), "the chain of {key}: {faults:?}");
            let records = self.records(site, start);
            let kinds = ledger::kinds(&records);
            for kind in ["STARTED", "APPLIED", "COMPLETED"] {
                assert!(kinds.iter().filter(|other| *other == kind).count() <= 1, "{kinds:?}");
            }
            let all = self.all_records(site, start);
            sessions.extend(
                all.iter().filter(|record| record["kind"] == "STARTED").map(|record| record["session"].clone()),
            );
            assert_leased_or_free(world, site, &all);
            let started = deployments(world, site).len() - start.deployments;
            assert!(started <= 1, "{started} deployments were started at {key}");
            assert_deployments_known(world, site, start, &records);
            let revisions = world.cloud().revisions(site, "web").len() - start.revisions;
            assert!(revisions <= most.map_or(1, |most| most.revisions.len()), "{revisions} new revisions");
        }
        for call in world.journal.calls().iter().filter(|call| call.mutates_ecs()) {
            assert!(sessions.contains(&json!(call.session)), "no STARTED of the session that sent {}", call.action);
        }
    }

    /// The lease ends, as it would in time; until then nobody else can begin.
    fn lease_ends(&self) {
        for (site, _) in self.sites() {
            let head = ledger::head(self.world.tables(), &site.key());
            if head.is_some_and(|head| head["lease_change"] != "") {
                ledger::expire_lease(self.world.tables(), &site.key());
            }
        }
    }

    /// What stands in the ledger, and what is different at the service.
    fn found(&self) -> String {
        let texts = self.sites().map(|(site, start)| {
            let records = self.records(site, start);
            let kinds = ledger::kinds(&records);
            match kinds.as_slice() {
                [] => "nothing".to_owned(),
                [started] => {
                    assert_eq!(status(&self.all_records(site, start)), "UNRESOLVED", "as the history shows it");
                    let mut found = vec![started.clone()];
                    found.extend(self.done(site, start));
                    found.join(" + ")
                }
                [.., last] => {
                    assert_eq!(status(&self.all_records(site, start)), *last, "as the history shows it");
                    last.clone()
                }
            }
        });
        texts.collect::<Vec<_>>().join("; ")
    }

    fn done(&self, site: &Site, start: &Start) -> Vec<String> {
        let now = service(&self.world, site);
        let is_new = |name: &str| now[name] != start.service[name];
        let mut done = Vec::new();
        if self.world.cloud().revisions(site, "web").len() > start.revisions {
            done.push("revision");
        }
        if deployments(&self.world, site).len() > start.deployments {
            done.push("deployment");
        }
        if is_new("desiredCount") || is_new("enableExecuteCommand") {
            done.push("parameters");
        }
        let (had, has) = (tags(&start.service), tags(&now));
        if has.iter().any(|tag| !had.contains(tag)) {
            done.push("tag set");
        }
        if had.iter().any(|tag| !has.contains(tag)) {
            done.push("tag removed");
        }
        done.into_iter().map(str::to_owned).collect()
    }

    /// The answer is that of a change that went well, and names the change that is recorded.
    fn bodies(&self, outcome: &Outcome) -> Vec<Value> {
        let bodies = match outcome.body()["results"].as_array() {
            Some(results) => results.clone(),
            None => vec![outcome.body().clone()],
        };
        assert_eq!(bodies.len(), self.change.sites.len());
        for ((site, start), body) in self.sites().zip(&bodies) {
            assert!(["APPLIED", "COMPLETED"].map(Value::from).contains(&body["status"]), "{body}");
            let records = self.records(site, start);
            assert!(records.iter().all(|record| record["change_id"] == body["change_id"]), "{records:?} {body}");
            assert_eq!(records[0]["before"], records[1]["before"], "BEFORE is that of STARTED");
            if deployments(&self.world, site).len() > start.deployments {
                assert_eq!(body["deployment_id"], self.world.cloud().deployment(site));
            }
        }
        bodies
    }

    /// The sweep, twice: once when nothing is due, and once when the deployments have ended.
    async fn sweep(&self) {
        assert_eq!(sweep(&self.world).await["asked"], 0, "nothing is due");
        let mut due = 0;
        for (site, start) in self.sites() {
            let own = self.records(site, start).first().map(|record| record["change_id"].clone());
            for item in ledger::deployments(self.world.tables()) {
                if Some(&item["change_id"]) == own.as_ref() && item.contains_key("check_shard") {
                    let id = item["id"].as_str().unwrap().splitn(3, '/').nth(2).unwrap().to_owned();
                    self.world.cloud().tell(site, &id, "SUCCESSFUL", &json!({}));
                    ledger::make_due(self.world.tables(), &id);
                    due += 1;
                }
            }
        }
        if due > 0 {
            assert_eq!(sweep(&self.world).await["settled"], due);
            assert_eq!(sweep(&self.world).await["asked"], 0, "how it ended is recorded");
        }
    }

    fn end(&self, bodies: &[Value]) -> End {
        let world = &self.world;
        for (site, _) in self.sites() {
            ledger::assert_free(world.tables(), &site.key());
        }
        let revisions = self.sites().take(1).flat_map(|(site, start)| {
            world
                .cloud()
                .revisions(site, "web")
                .split_off(start.revisions)
                .into_iter()
                .map(|revision| revision.document)
        });
        End {
            revisions: revisions.collect(),
            services: self.sites().map(|(site, _)| service(world, site)).collect(),
            kinds: self.sites().map(|(site, start)| ledger::kinds(&self.records(site, start))).collect(),
            deployments: self.sites().map(|(site, start)| deployments(world, site).len() - start.deployments).collect(),
            answers: bodies.iter().map(without_chance).collect(),
        }
    }
}

/// The next such call meets its fault.
fn arm(world: &World, step: &Step, side: Side, sites: &[Site]) {
    let (wanted, sites) = (step.name.clone(), sites.to_vec());
    world.journal.on_which(move |call| name(call, &sites) == wanted, step.nth, side.fault());
}

/// Who has no result holds the lease, and no longer than its STARTED says; who has one does not.
fn assert_leased_or_free(world: &World, site: &Site, records: &[Value]) {
    let started = records.iter().rfind(|record| record["kind"] == "STARTED");
    let Some(started) = started.filter(|_| records.iter().all(|record| record["kind"] == "STARTED")) else {
        return ledger::assert_free(world.tables(), &site.key());
    };
    let head = ledger::head(world.tables(), &site.key()).expect("a head");
    assert_eq!(head["lease_change"], started["change_id"]);
    let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp_millis();
    let lasts = time(&started["lease_until"]) - time(&started["at"]);
    let deadline = i64::try_from(DEADLINE.as_millis()).unwrap();
    assert!(lasts > 0 && lasts <= deadline.min(MAX_LEASE_MS) + GRACE, "the lease lasts {lasts} ms");
    let left = time(&head["lease_until"]) - Utc::now().timestamp_millis();
    assert!(left <= deadline.min(MAX_LEASE_MS) + GRACE, "the lease has {left} ms left");
}

/// A change with a result that started a deployment has an item that names it, and no item names another.
fn assert_deployments_known(world: &World, site: &Site, start: &Start, records: &[Value]) {
    let items = ledger::deployments(world.tables());
    let own: Vec<_> = items.iter().filter(|item| item["service"] == site.key().as_str()).collect();
    let started = deployments(world, site).len() - start.deployments;
    let Some(change) = records.first().map(|record| &record["change_id"]) else { return };
    let named: Vec<_> = own.iter().filter(|item| item["change_id"] == *change).collect();
    let expected = if records.iter().any(|record| record["kind"] == "APPLIED") { started } else { 0 };
    assert_eq!(named.len(), expected, "{named:?}");
    let is_primary = |id: &str| id.ends_with(&world.cloud().deployment(site));
    assert!(named.iter().all(|item| item["id"].as_str().is_some_and(is_primary)), "{named:?}");
}

/// The service as DescribeServices shows it, without what no two deployments have in common.
fn service(world: &World, site: &Site) -> Value {
    let mut service = world.cloud().service(site);
    for deployment in service["deployments"].as_array_mut().into_iter().flatten() {
        *deployment = json!([deployment["status"], deployment["taskDefinition"]]);
    }
    service
}

fn deployments(world: &World, site: &Site) -> Vec<Value> {
    world.cloud().service(site)["deployments"].as_array().cloned().unwrap_or_default()
}

fn tags(service: &Value) -> Vec<Value> {
    service["tags"].as_array().cloned().unwrap_or_default()
}

/// What the history shows of a change when its lease is over.
fn status(records: &[Value]) -> String {
    let records: Vec<&Map<String, Value>> = records.iter().filter_map(Value::as_object).collect();
    fold(records, Utc::now() + chrono::Duration::hours(1)).expect("a change").status
}

/// An answer without ids and times.
fn without_chance(body: &Value) -> Value {
    let mut body = body.clone();
    for name in ["change_id", "deployment_id", "timestamp", "replayed", "restores", "notes", "outcome", "recorded"] {
        body.as_object_mut().expect("an object").remove(name);
    }
    for part in ["BEFORE", "AFTER"] {
        body[part]["updatedOn"] = Value::Null;
    }
    body
}

async fn sweep(world: &World) -> Value {
    world.tell(&json!({"sweep": {}})).await.response()["swept"].clone()
}

/// Says in one sentence what all cells have in common.
fn summary(end: &End) -> String {
    let count = |n: usize, what: &str| format!("{n} new {what}{}", if n == 1 { "" } else { "s" });
    let mut kinds: Vec<String> = end.kinds.iter().map(|kinds| kinds.join(", ")).collect();
    kinds.dedup();
    let each = if end.services.len() > 1 { " for each service" } else { "" };
    format!(
        "Undisturbed as in each cell: {}, {}; the records {}{each}, and no lease.",
        count(end.revisions.len(), "revision"),
        count(end.deployments.iter().sum(), "deployment"),
        kinds.join(" or ")
    )
}

/// A change that nothing disturbs: its calls, and what it leaves behind.
async fn undisturbed(change: &Change) -> (Vec<Step>, End) {
    let run = Run::begin(change).await;
    let outcome = run.send().await;
    let bodies = run.bodies(&outcome);
    let steps = steps(&run.world.journal.calls(), &change.sites, 0);
    run.check(None);
    run.sweep().await;
    run.check(None);
    (steps, run.end(&bodies))
}

/// The same calls twice: on a busy machine an answer can take so long that it says nothing of the clock, and is asked for again.
async fn usual(change: &Change) -> (Vec<Step>, End) {
    let calls = |steps: &[Step]| {
        let mut labels: Vec<String> = steps.iter().map(|step| step.label.clone()).collect();
        labels.sort();
        labels
    };
    let mut last = undisturbed(change).await;
    for _ in 0..5 {
        let again = undisturbed(change).await;
        if calls(&again.0) == calls(&last.0) {
            return last;
        }
        last = again;
    }
    panic!("no two runs in a row made the same calls");
}

/// One cell: killed, checked; sent again, checked; swept, checked; sent once more.
async fn cell(change: &Change, step: &Step, side: Side, expected: &End) -> String {
    let run = Run::begin(change).await;
    assert_eq!(run.killed_at(step, side).await, Outcome::Died, "the call came");
    run.check(Some(expected));
    let found = run.found();
    if change.then == Then::AnotherChange {
        return format!("{found}: {}", another_change(&run).await);
    }
    run.lease_ends();
    run.world.restart().await;
    let counts = || -> Vec<usize> { run.sites().map(|(site, start)| run.records(site, start).len()).collect() };
    let (mut how, mut before, mut outcome) = (Vec::new(), counts(), None);
    if change.then == Then::RetryKilledToo {
        let second = run.killed_at(step, side).await;
        run.check(Some(expected));
        if second == Outcome::Died {
            let again = run.found();
            how.push(if again == found { "killed again".to_owned() } else { format!("killed again, {again}") });
            run.lease_ends();
            run.world.restart().await;
            before = counts();
        } else {
            outcome = Some(second);
        }
    }
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => run.send().await,
    };
    run.check(Some(expected));
    let bodies = run.bodies(&outcome);
    let now = counts();
    let ways = bodies.iter().zip(before.iter().zip(&now)).map(|(body, (before, now))| {
        match (body["replayed"] == true, before) {
            (true, _) if before == now => "replayed",
            (true, _) => "replayed and waited for",
            (false, 0) => "begun",
            (false, _) => "completed",
        }
    });
    how.push(ways.collect::<Vec<_>>().join("; "));
    run.sweep().await;
    run.check(Some(expected));
    let end = run.end(&bodies);
    assert_eq!(end, *expected, "what it leaves behind is what an undisturbed change leaves behind");
    // Lambda sends an event up to three times.
    run.world.journal.forget();
    let third = run.send().await;
    assert!(run.bodies(&third).iter().all(|body| body["replayed"] == true), "{third:?}");
    assert_eq!(run.world.journal.mutating_ecs_calls(), Vec::<String>::new());
    run.check(Some(expected));
    format!("{found}: {}", how.join(": "))
}

/// Nobody sends the event again until another change has come.
async fn another_change(run: &Run<'_>) -> String {
    let (world, (site, start)) = (&run.world, run.sites().next().expect("a service"));
    assert_eq!(sweep(world).await["asked"], 0);
    run.check(None);
    run.lease_ends();
    world.restart().await;
    let had = ledger::kinds(&run.records(site, start));
    let open = had == ["STARTED"];
    let other = world.update(json!({"ecs_image_name": "httpd", "ecs_tag": {"other": "2"}})).await;
    let other = other.status("APPLIED").clone();
    let mut kinds = had.clone();
    kinds.extend(open.then(|| "ABANDONED".to_owned()));
    kinds.extend(["STARTED", "APPLIED"].map(str::to_owned));
    let records = run.records(site, start);
    assert_eq!(ledger::kinds(&records), kinds);
    if open {
        assert_eq!(records[1]["change_id"], records[0]["change_id"]);
        assert_eq!(records[1]["before"], records[0]["before"]);
        let now = ledger::part(&records[1], "after");
        assert_eq!(now["serviceImage"], other["BEFORE"]["serviceImage"], "what was found is recorded");
        assert_eq!(now["tags"], other["BEFORE"]["tags"]);
    }
    let after = service(world, site);
    // The event after all.
    world.journal.forget();
    let late = run.send().await;
    let how = if had.is_empty() {
        // Nothing was known of it: it is a change like any other.
        assert_eq!(late.status("APPLIED")["BEFORE"]["serviceImage"], "httpd");
        "begun after the other"
    } else if open {
        late.error("ServiceUpdateFailed");
        "closed by the other"
    } else {
        assert_eq!(late.status("APPLIED")["replayed"], true);
        "replayed"
    };
    if !had.is_empty() {
        assert_eq!(world.journal.mutating_ecs_calls(), Vec::<String>::new());
        assert_eq!(service(world, site), after, "the other change stands");
        assert_eq!(world.cloud().tags(site).into_keys().collect::<Vec<_>>(), ["other"]);
    }
    assert_eq!(sweep(world).await["asked"], 0);
    ledger::assert_free(world.tables(), &site.key());
    assert!(ledger::faults(world.tables(), &site.key()).is_empty());
    how.to_owned()
}

/// A panic of one cell is that cell's alone.
async fn caught(side: Side, cell: impl Future<Output = String>) -> Cell {
    let _one = table::AT_WORK.acquire().await.expect("it is never closed");
    let ended = AssertUnwindSafe(cell).catch_unwind().await;
    let fault = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it panicked").to_owned()
    };
    match ended {
        Ok(text) => Cell { side, text: Some(text), fault: None },
        Err(panic) => Cell { side, text: None, fault: Some(fault(panic)) },
    }
}

/// What would take more than two minutes with the rest.
fn is_left_out() -> bool {
    let left_out = std::env::var_os("SLOW_TESTS").is_none();
    if left_out {
        eprintln!("SLOW_TESTS is not set: left out; `make reliability` and .ci/run set it");
    }
    left_out
}

/// Each cell, six at a time.
async fn each<'a, F>(steps: &'a [Step], cell: impl Fn(&'a Step, Side) -> F) -> Vec<(Step, Cell)>
where
    F: Future<Output = String>,
{
    let places = steps.iter().flat_map(|step| SIDES.map(|side| (step, side)));
    let cells = places.map(|(step, side)| {
        let text = cell(step, side);
        async move { (step.clone(), caught(side, text).await) }
    });
    stream::iter(cells.collect::<Vec<_>>()).buffered(6).collect().await
}

async fn matrix(change: Change) {
    let (steps, expected) = usual(&change).await;
    let cells = each(&steps, |step, side| cell(&change, step, side, &expected)).await;
    let all = if change.then == Then::AnotherChange {
        "In each cell the other change is done as asked, and the late event undoes nothing that was recorded before it."
            .to_owned()
    } else {
        summary(&expected)
    };
    table::show(change.title, &steps, &cells, &all);
}

#[tokio::test]
async fn image_and_tags() {
    matrix(Change::image_and_tags("One update: image and tags")).await;
}

#[tokio::test]
async fn the_retry_is_killed_too() {
    if is_left_out() {
        return;
    }
    let change = Change::image_and_tags("The retry killed at the same place, then a third attempt");
    matrix(Change { then: Then::RetryKilledToo, ..change }).await;
}

#[tokio::test]
async fn the_retry_killed_at_each_of_its_own_calls() {
    if is_left_out() {
        return;
    }
    let change = Change::image_and_tags("Killed once after the registration, then the retry in each of its calls");
    matrix(Change { killed_before: Some(("RegisterTaskDefinition", Side::After)), ..change }).await;
}

#[tokio::test]
async fn no_retry_but_another_change() {
    if is_left_out() {
        return;
    }
    let change = Change::image_and_tags("No retry: the sweep, another change, then the event after all");
    matrix(Change { then: Then::AnotherChange, ..change }).await;
}

#[tokio::test]
async fn force_new_deployment() {
    if is_left_out() {
        return;
    }
    matrix(Change::new("force_new_deployment", json!({"force_new_deployment": true}))).await;
}

#[tokio::test]
async fn parameters_alone() {
    if is_left_out() {
        return;
    }
    let parameters = json!({"service": {"desiredCount": 3, "enableExecuteCommand": true}});
    matrix(Change::new("Parameters of the service alone", parameters)).await;
}

#[tokio::test]
async fn a_restore() {
    if is_left_out() {
        return;
    }
    let change = Change::new("A restore whose revision was deregistered", json!({"restore": "previous"}));
    matrix(Change { prepare: changed_and_deregistered, ..change }).await;
}

fn seeded<'a>(world: &'a World, sites: &'a [Site]) -> BoxFuture<'a, ()> {
    async move {
        for site in sites {
            world.seed(site);
        }
    }
    .boxed()
}

/// The service was changed, and the revision from before can no longer be given to it.
fn changed_and_deregistered<'a>(world: &'a World, sites: &'a [Site]) -> BoxFuture<'a, ()> {
    async move {
        let site = &sites[0];
        world.seed(site);
        let event = site.event(json!({"ecs_image_name": "nginx", "ecs_tag": {"a": "1"}}));
        world.invoke(&event).await.status("APPLIED");
        world.cloud().deregister(site, "web", 1);
    }
    .boxed()
}

/// Two services of one account that run one task definition.
fn sharing<'a>(world: &'a World, sites: &'a [Site]) -> BoxFuture<'a, ()> {
    async move {
        let arn = world.cloud().register(&sites[0], &web_definition("busybox").to_string(), json!([]));
        for site in sites {
            world.cloud().create_service(site, &arn, |_| {});
        }
    }
    .boxed()
}

#[tokio::test]
async fn two_services_that_share_a_definition() {
    let sites = ["one", "two"].map(|name| Site::new(TARGET, REGION, "prod", &format!("service-{name}"))).to_vec();
    let updates: Vec<Value> = sites.iter().map(|site| site.event(json!({}))).collect();
    matrix(Change {
        event: json!({"ecs_image_name": "nginx", "updates": updates}),
        sites,
        prepare: sharing,
        ..Change::new("`updates`: two services that share a task definition", json!({}))
    })
    .await;
}

#[tokio::test]
async fn while_it_waits() {
    if is_left_out() {
        return;
    }
    let wanted = json!({"ecs_image_name": "nginx", "wait_seconds": 30});
    matrix(Change {
        prepare: ends_at_once,
        ..Change::new("`wait_seconds`: the deployment is followed to its end", wanted)
    })
    .await;
}

/// Whoever looks at a deployment sees it ended.
fn ends_at_once<'a>(world: &'a World, sites: &'a [Site]) -> BoxFuture<'a, ()> {
    async move {
        seeded(world, sites).await;
        world.cloud().end_at_once();
    }
    .boxed()
}

/// The tables above put the end of the lease into the past. Here it comes by itself; before it does, the retry waits.
#[tokio::test]
async fn the_lease_of_a_killed_change_ends_by_itself_and_its_retry_completes_it() {
    let change = &Change::image_and_tags("");
    let places = [("ExecuteTransaction (STARTED)", Side::After), ("UpdateService", Side::After)];
    let cells = places.map(|(name, side)| async move {
        let mut run = Run::begin(change).await;
        run.invocation = run.invocation.clone().deadline_in(Duration::from_secs(6));
        let step = Step { event: 0, name: name.into(), nth: 1, label: name.into() };
        assert_eq!(run.killed_at(&step, side).await, Outcome::Died);
        run.check(None);
        run.world.restart().await;
        run.invocation = run.invocation.clone().deadline_in(DEADLINE);
        let early = run.send().await;
        assert!(early.error("ChangeInProgress").contains("is being changed by change"), "{early:?}");
        run.check(None);
        let head = ledger::head(run.world.tables(), &change.sites[0].key()).unwrap();
        let until = DateTime::parse_from_rfc3339(head["lease_until"].as_str().unwrap()).unwrap().to_utc();
        let left = (until - Utc::now()).to_std().unwrap_or_default();
        assert!(left < Duration::from_secs(11), "{left:?}");
        // Nobody takes a lease before it has been over for five seconds.
        tokio::time::sleep(left + Duration::from_millis(5050)).await;
        let outcome = run.send().await;
        assert_eq!(run.bodies(&outcome)[0]["replayed"], false);
        run.sweep().await;
        run.check(None);
        assert_eq!(run.end(&[]).kinds, [["STARTED", "APPLIED", "COMPLETED"]]);
    });
    futures_util::future::join_all(cells).await;
}
