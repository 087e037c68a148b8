//! Many services in one event, against ECS and STS that answer after 50 ms and keep AWS's quotas, and dynoxide for the tables.
//!
//! Prints a table: `make bench`, or `cargo bench --bench many -- CASE` for one case. The updater of the package (`BENCH_UPDATER`; else
//! one built as this is) runs as in Lambda, one process for each case; more than 500 services are sent as several events, one after the other.
//! Wall time is that of the invocations, each from its event to its answer, as Lambda bills it.
//!
//! The lower bound is what the quotas and the critical path leave. L is how long the stub took for a call of ECS, on its side of the
//! wire, and T for a transaction, both the mean of this run (50 ms and what the tables take); C is `MAX_CONCURRENCY`:
//!
//! * before the first change: AssumeRole and DescribeServices, 2 L for each event;
//! * work: each change holds one of C places for DescribeTaskDefinition, RegisterTaskDefinition, UpdateService and TagResource,
//!   L each, and two transactions, T each; C of them at a time take turns. What a definition shares is called once and waited for
//!   by all;
//! * quotas: the calls of one account beyond the burst, over the calls a second, and then what of the change is left.
//!
//! The bound is the first plus the larger of the other two. Stub, tables and updater share this machine's processors: measure
//! where nothing else runs.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]
#![allow(clippy::doc_markdown, clippy::format_collect, clippy::cast_precision_loss, dead_code, unused_imports)]

#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::time::Duration;

use serde_json::{Value, json};

use aws_stub::ecs::quota;
use harness::journal::{Call, Fault, Service};
use harness::{REGION, Site, World, web_definition};

/// How long AWS takes to answer.
const LATENCY: Duration = Duration::from_millis(50);
/// `MAX_CONCURRENCY`, its default.
const CONCURRENCY: f64 = 64.0;
/// What an event holds.
const EVENT: usize = 500;

struct Case {
    name: &'static str,
    services: usize,
    accounts: usize,
    /// Services that share a task definition.
    sharing: usize,
}

const CASES: [Case; 4] = [
    Case { name: "1,000 in 50", services: 1000, accounts: 50, sharing: 1 },
    Case { name: "200 in 200", services: 200, accounts: 200, sharing: 1 },
    Case { name: "200 in 1, 10 to a definition", services: 200, accounts: 1, sharing: 10 },
    Case { name: "200 in 1", services: 200, accounts: 1, sharing: 1 },
];

impl Case {
    fn site(&self, n: usize) -> Site {
        let account = format!("{:012}", 200_000_000_000 + n % self.accounts);
        Site::new(&account, REGION, "prod", &format!("s{n:04}"))
    }

    /// The number of the definition that the `n`th service runs, within its account.
    fn definition(&self, n: usize) -> usize {
        n / self.accounts / self.sharing
    }

    /// `latency` is L, `transaction` T.
    fn bound(&self, latency: f64, transaction: f64) -> f64 {
        let change = 4.0 * latency + 2.0 * transaction;
        let events: Vec<f64> =
            (0..self.services).step_by(EVENT).map(|n| (self.services - n).min(EVENT) as f64).collect();
        let work = events.iter().map(|services| (services / CONCURRENCY).ceil() * change).sum();
        let per_account = self.services.div_ceil(self.accounts) as f64;
        let definitions = (per_account / self.sharing as f64).ceil();
        let quotas = [
            ("DescribeTaskDefinition", definitions, change),
            ("RegisterTaskDefinition", definitions, 3.0 * latency + transaction),
            ("UpdateService", per_account, 2.0 * latency + transaction),
            ("TagResource", per_account, latency + transaction),
        ];
        let paced = quotas.into_iter().map(|(action, calls, rest)| {
            let (burst, per_second) = quota(action);
            (calls - burst).max(0.0) / per_second + rest
        });
        events.len() as f64 * 2.0 * latency + paced.fold(work, f64::max)
    }
}

/// How long calls took on the stub's side, in seconds: the mean.
fn mean<'a>(calls: impl Iterator<Item = &'a Call>) -> f64 {
    let times: Vec<f64> = calls.filter_map(|call| Some((call.answered?.0 - call.at).as_secs_f64())).collect();
    times.iter().sum::<f64>() / times.len() as f64
}

async fn run(case: &Case) -> bool {
    let world = World::with_environment(&[]).await;
    let sites: Vec<Site> = (0..case.services).map(|n| case.site(n)).collect();
    for (n, site) in sites.iter().enumerate() {
        let mut definition = web_definition("busybox");
        definition["family"] = json!(format!("f{:04}", case.definition(n)));
        let families = world.cloud().revisions(site, definition["family"].as_str().unwrap()).len();
        let arn = match families {
            0 => world.cloud().register(site, &definition.to_string(), json!([])),
            _ => format!("arn:aws:ecs:{REGION}:{}:task-definition/f{:04}:1", site.account, case.definition(n)),
        };
        world.cloud().create_service(site, &arn, |_| {});
    }
    world.cloud().throttle();
    world.journal.trust();
    world.journal.service_from(Service::Sts, 1, Fault::Delay(LATENCY));
    world.journal.service_from(Service::Ecs, 1, Fault::Delay(LATENCY));

    let mut applied = 0;
    for sites in sites.chunks(EVENT) {
        let updates: Value = sites.iter().map(|site| site.event(json!({}))).collect();
        let event = json!({"ecs_image_name": "nginx:1.27", "ecs_tag": {"release": "7"}, "updates": updates});
        let outcome = world.invoke_with(&event, world.invocation().deadline_in(Duration::from_mins(15))).await;
        applied += outcome.response()["body"]["summary"]["applied"].as_u64().unwrap_or_default();
    }
    let wall = world.process().worked().as_secs_f64();
    let peak = world.process().peak_memory().unwrap_or_default() as f64 / 1024.0 / 1024.0;
    let calls = world.journal.calls();
    let ecs = calls.iter().filter(|call| call.service == Service::Ecs);
    let latency = mean(ecs.clone());
    let transaction = mean(calls.iter().filter(|call| call.action == "ExecuteTransaction"));
    let ecs = ecs.count();
    let throttled = world.cloud().throttled();
    let bound = case.bound(latency, transaction);
    let ratio = wall / bound;
    let ok = ratio <= 1.15 && throttled * 1000 <= ecs && peak <= 96.0 && applied == case.services as u64;
    println!(
        "| {:<28} | {:>7.2} | {:>7.2} | {:>5.2} | {:>4} of {:<5} | {:>5.1} | {:>4} | {:<4} |",
        case.name,
        wall,
        bound,
        ratio,
        throttled,
        ecs,
        peak,
        applied,
        if ok { "yes" } else { "no" }
    );
    ok
}

fn main() {
    // The stubs' threads give way to the updater's process, which the main thread starts: on AWS they share no processor. That
    // of the tables does not.
    let give_way = || {
        let _ = rustix::process::nice(10);
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).on_thread_start(give_way).enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    println!("Limits: ratio 1.15, 1 throttled call in 1,000, 96 MiB.\n");
    println!("| services in accounts         |  wall s | bound s | ratio | throttled     |   MiB | done | kept |");
    println!("|------------------------------|---------|---------|-------|---------------|-------|------|------|");
    let mut ok = true;
    for case in CASES.iter().filter(|case| only.is_empty() || only.iter().any(|name| name == case.name)) {
        ok &= Box::pin(run(case)).await;
    }
    println!("\n{}", if ok { "All limits are kept." } else { "Not all limits are kept." });
}
