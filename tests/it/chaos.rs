//! Many execution environments that change the same services at random and are killed at random.
//!
//! The long form takes a minute and a half: `cargo test --test it chaos -- --ignored --nocapture`. `CHAOS_SEED` repeats a run's
//! choices (not its timing).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::journal::{Call, request_id};
use crate::harness::lambda::{Outcome, Process, UPDATER_TIMEOUT};
use crate::harness::{REGION, Site, TARGET, World, ledger};

/// How long an invocation has here beside the shipped time: so short that leases end during the test.
const SHORT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a lease outlasts its invocation, and how long after that nobody takes it.
const GRACE: Duration = Duration::from_secs(10);
/// How much longer than its time a storm may take to become one.
const PATIENCE: Duration = Duration::from_mins(1);

/// Good enough to choose with, and the same for the same seed.
struct Chance(Cell<u64>);

impl Chance {
    /// A number below `limit`.
    fn below(&self, limit: u64) -> u64 {
        // xorshift64*
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_in(&self, chance: u64) -> bool {
        self.below(chance) == 0
    }

    fn of<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

struct Storm {
    world: World,
    sites: Vec<Site>,
    chance: Chance,
    deadline: Duration,
    until: Instant,
    /// Events that were sent before, to be sent again.
    sent: RefCell<Vec<Value>>,
    /// Service and change of every answer that said APPLIED for the first time.
    applied: RefCell<Vec<(String, String)>>,
    killed: Cell<usize>,
    answers: RefCell<BTreeMap<String, usize>>,
}

impl Storm {
    fn event(&self) -> Value {
        if self.chance.one_in(5) && !self.sent.borrow().is_empty() {
            return self.chance.of(&self.sent.borrow()).clone();
        }
        let image = format!("nginx:{}", self.chance.below(6));
        let mut event = match self.chance.below(4) {
            0 => json!({"ecs_image_name": image, "ecs_tag": {"release": image}}),
            1 => json!({"restore": "previous"}),
            2 => json!({"ecs_tag": {"round": self.chance.below(100).to_string()}, "tag_mode": "merge"}),
            _ => json!({"ecs_image_name": image}),
        };
        if self.chance.one_in(2) {
            event["idempotency_key"] = json!(request_id());
        }
        if self.chance.one_in(4) {
            let sites: BTreeSet<String> = (0..5).map(|_| self.chance.of(&self.sites).service.clone()).collect();
            event["account_id"] = json!(TARGET);
            event["ecs_cluster_name"] = json!("prod");
            event["updates"] = sites.into_iter().map(|site| json!({"ecs_service_name": site})).collect();
        } else {
            event = self.chance.of(&self.sites).event(event);
        }
        self.sent.borrow_mut().push(event.clone());
        event
    }

    /// Until the time is over, and on a busy machine until enough has happened in it.
    fn goes_on(&self) -> bool {
        let now = Instant::now();
        now < self.until || !self.was_one() && now < self.until + PATIENCE
    }

    fn was_one(&self) -> bool {
        self.killed.get() > 0 && self.applied.borrow().len() > 20
    }

    /// One execution environment: an event after the other, until it is killed; then another one in its place.
    async fn environment(&self) {
        let mut process = self.world.another_process().await;
        while self.goes_on() {
            let event = self.event();
            if !self.chance.one_in(8) {
                self.note(&self.send(&process, &event).await);
                continue;
            }
            let moment = Duration::from_millis(self.chance.below(120));
            let kill = async {
                tokio::time::sleep(moment).await;
                process.kill().await;
            };
            let (outcome, ()) = tokio::join!(self.send(&process, &event), kill);
            self.note(&outcome);
            self.killed.set(self.killed.get() + 1);
            process = self.world.another_process().await;
        }
        process.kill().await;
    }

    async fn send(&self, process: &Process, event: &Value) -> Outcome {
        let invocation = self.world.invocation().deadline_in(self.deadline);
        self.world.invoke_on(process, event.to_string().into_bytes(), invocation).await
    }

    fn note(&self, outcome: &Outcome) {
        let bodies = match outcome {
            Outcome::Died => vec![json!({"status": "DIED"})],
            Outcome::Error { error_type, .. } => vec![json!({"status": error_type})],
            Outcome::Response(response) => match response["body"]["results"].as_array() {
                Some(results) => results.clone(),
                None => vec![response["body"].clone()],
            },
        };
        for body in bodies {
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            let end = body["error"]["code"].as_str().map_or_else(|| text("status"), ToOwned::to_owned);
            *self.answers.borrow_mut().entry(end).or_default() += 1;
            if body["status"] == "APPLIED" && body["replayed"] != true {
                let names = ["account_id", "region", "ecs_cluster_name", "ecs_service_name"].map(text);
                self.applied.borrow_mut().push((names.join("/"), text("change_id")));
            }
        }
    }
}

/// Calls that changed one service, by service.
fn by_service(calls: Vec<Call>) -> BTreeMap<String, Vec<Call>> {
    let mut services: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for call in calls.into_iter().filter(Call::mutates_ecs) {
        let input = call.json();
        let service = input["service"].as_str().or(input["resourceArn"].as_str()).map(ToOwned::to_owned);
        // A registration is of no service.
        if let Some(service) = service {
            services.entry(service.rsplit('/').next().unwrap().to_owned()).or_default().push(call);
        }
    }
    services
}

/// Of two invocations on one service, the calls of one come before those of the other.
fn assert_no_overlap(calls: Vec<Call>) {
    for (service, calls) in by_service(calls) {
        let mut spans: BTreeMap<&str, (Instant, Instant)> = BTreeMap::new();
        for call in &calls {
            let end = call.answered.map_or(call.at, |(at, _)| at);
            let span = spans.entry(&call.session).or_insert((call.at, end));
            *span = (span.0.min(call.at), span.1.max(end));
        }
        let mut spans: Vec<_> = spans.into_iter().collect();
        spans.sort_by_key(|(_, span)| span.0);
        for pair in spans.windows(2) {
            let [(one, first), (other, second)] = pair else { continue };
            assert!(first.1 <= second.0, "{one} and {other} changed {service} at the same time");
        }
    }
}

async fn storm(processes: usize, services: usize, time: Duration, deadline: Duration) {
    let clock = chrono::Utc::now().timestamp_micros().unsigned_abs();
    let seed = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(clock);
    eprintln!("CHAOS_SEED={seed}");
    let world = World::without_process(&[]).await;
    let sites: Vec<Site> = (0..services).map(|n| Site::new(TARGET, REGION, "prod", &format!("s{n:02}"))).collect();
    for site in &sites {
        world.seed(site);
    }
    let storm = Storm {
        world,
        sites,
        chance: Chance(Cell::new(seed.max(1))),
        deadline,
        until: Instant::now() + time,
        sent: RefCell::default(),
        applied: RefCell::default(),
        killed: Cell::default(),
        answers: RefCell::default(),
    };
    join_all((0..processes).map(|_| storm.environment())).await;
    eprintln!("{} killed; answers: {:?}", storm.killed.get(), storm.answers.borrow());
    assert!(storm.was_one(), "it was a storm");
    let Storm { world, sites, applied, .. } = storm;
    let applied = applied.into_inner();

    // Nobody is at work any more: what is leased is left over, and ends by itself, two minutes after it began at the latest.
    if deadline == SHORT_DEADLINE {
        tokio::time::sleep(deadline + GRACE).await;
    }
    let latest = chrono::Utc::now() + chrono::Duration::seconds(125);
    let latest = latest.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    for site in &sites {
        let head = ledger::head(world.tables(), &site.key());
        let until = head.as_ref().and_then(|head| head["lease_until"].as_str()).unwrap_or_default().to_owned();
        assert!(until <= latest, "{} is still leased until {until}", site.key());
        if deadline != SHORT_DEADLINE && !until.is_empty() {
            ledger::expire_lease(world.tables(), &site.key());
        }
    }
    world.restart().await;
    for site in &sites {
        world.invoke(&site.event(json!({"ecs_image_name": "nginx:last"}))).await.status("APPLIED");
        ledger::assert_free(world.tables(), &site.key());
        assert!(ledger::faults(world.tables(), &site.key()).is_empty());
    }
    assert_no_overlap(world.journal.calls());
    let mut results: BTreeMap<(String, String), usize> = BTreeMap::new();
    for site in &sites {
        let records = world.records(site);
        for record in records.iter().filter(|record| record["kind"] == "APPLIED") {
            let change = record["change_id"].as_str().unwrap().to_owned();
            *results.entry((site.key(), change)).or_default() += 1;
        }
        let started = records.iter().filter(|record| record["kind"] == "STARTED");
        for started in started {
            // An attempt that was killed and gone on with has no result of its own; each has one at the most.
            let ends = |attempt: bool| {
                let is_its = |r: &&Value| r["change_id"] == started["change_id"] && r["kind"] != "STARTED";
                records.iter().filter(is_its).filter(|r| !attempt || r["attempt"] == started["attempt"]).count()
            };
            assert!(ends(false) >= 1 && ends(true) <= 1, "one result for {started}");
        }
    }
    for change in &applied {
        assert_eq!(results.get(change), Some(&1), "{change:?} was answered as APPLIED");
    }
}

#[tokio::test]
async fn killed_at_random_nothing_is_lost_and_nothing_overlaps() {
    Box::pin(storm(6, 5, Duration::from_secs(6), SHORT_DEADLINE)).await;
}

#[tokio::test]
async fn the_same_with_the_time_that_is_shipped() {
    Box::pin(storm(6, 40, Duration::from_secs(6), UPDATER_TIMEOUT)).await;
}

#[tokio::test]
#[ignore = "takes a minute and a half, and all processors"]
async fn fifty_environments_change_twenty_services_for_a_minute() {
    Box::pin(storm(50, 20, Duration::from_mins(1), SHORT_DEADLINE)).await;
    Box::pin(storm(50, 200, Duration::from_mins(1), UPDATER_TIMEOUT)).await;
}
