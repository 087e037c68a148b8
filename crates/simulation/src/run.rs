//! One run: a phase in which things go wrong, and one in which nothing does and everything has to come to its end.

use std::rc::Rc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_stub::Site;
use serde_json::json;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use crate::callers;
use crate::counts::Counts;
use crate::environment::Time;
use crate::eventbridge;
use crate::invariants;
use crate::lambda::Ended;
use crate::network::Network;
use crate::plan::Plan;
use crate::random::Stream;
use crate::trace::Keep;
use crate::truth::Told;
use crate::world::{World, image};

/// In this time, events and retries that are still under way come to their end.
const SETTLE: Duration = Duration::from_mins(15);
/// The time from the last fault to the first sweep of the quiet phase, and between sweeps. It is longer than the time until a deployment is
/// first queried.
const QUIET: Duration = Duration::from_mins(25);
/// How often a plain change is attempted once nothing goes wrong any more.
const TRIES: u32 = 4;
/// How many keys are sent again at the end.
const SENT_AGAIN: usize = 3;
/// The image of the plain change.
const LAST_IMAGE: u32 = 999_999;

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The decisions: the plan, with everything that went wrong in it by name.
    pub plan: Plan,
    /// What violated an invariant, in order.
    pub violations: Vec<String>,
    /// The hash of the trace, if it was kept.
    pub digest: String,
    /// The trace, if it was kept.
    pub text: String,
    /// How much happened.
    pub counts: Counts,
}

impl Report {
    /// The invariants that did not hold, each of them once.
    #[must_use]
    pub fn broken(&self) -> Vec<&str> {
        let mut broken: Vec<&str> =
            self.violations.iter().filter_map(|violation| violation.split(':').next()).collect();
        broken.sort_unstable();
        broken.dedup();
        broken
    }
}

/// Runs a plan.
///
/// # Panics
///
/// If no runtime can be created.
#[must_use]
#[allow(clippy::expect_used)]
pub fn run(plan: &Plan, keep: Keep) -> Report {
    // This is all the randomness of the SDK: the jitter of its retries, ids of invocations, tokens of transactions.
    fastrand::seed(Stream::new(plan.seed, "sdk").number());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without input and output");
    let logs = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(|| Log)
        .finish();
    let report = tracing::subscriber::with_default(logs, || {
        LocalSet::new().block_on(&runtime, async {
            let world = World::enter(plan.clone(), shared, keep);
            phases(&world).await;
            conclude(&world)
        })
    });
    drop(runtime);
    World::leave();
    report
}

/// Receives the log lines of the product, which are searched for secrets.
struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        crate::world::world().say(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The configuration that the product's AWS clients share: its own settings, with the network and the time of the
/// simulation.
fn shared(region: &str) -> SdkConfig {
    let region = region.to_owned();
    let variables = move |name: &str| (name == "AWS_REGION").then(|| region.clone());
    let credentials =
        Credentials::new("ASIAHUB", "do-not-show-me-own", Some("do-not-show-me-token".into()), None, "hub");
    ecs_updater::aws::config(variables)
        .into_builder()
        .http_client(Network)
        .time_source(Time)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

async fn phases(world: &Rc<World>) {
    eventbridge::pump(world, None, false);
    let acts = world.plan.acts.iter().map(|act| spawn_local(callers::perform(Rc::clone(world), act.clone())));
    let acts: Vec<_> = acts.collect();
    for act in acts {
        if let Err(error) = act.await {
            world.violated("nothing panics", &error);
        }
    }
    sleep(SETTLE).await;
    world.note("world", &"nothing goes wrong any more");
    world.is_quiet.set(true);
    world.pool.clear();
    sleep(QUIET).await;
    callers::sweep(world, "quiet-sweep").await;
    invariants::at_rest(world);
    world.tables.a_later_version_writes();
    again(world).await;
    for site in world.touched_sites() {
        probe(world, &site).await;
    }
    sleep(QUIET).await;
    callers::sweep(world, "last-sweep").await;
    invariants::at_the_end(world).await;
}

/// Sends again some keys that were given a final answer.
async fn again(world: &Rc<World>) {
    let told: Vec<Told> =
        world.truth.borrow().told.iter().rev().filter(|told| is_final(world, told)).cloned().collect();
    let mut sent = Vec::new();
    for first in told {
        let Some((request_id, event)) = world.sent.borrow().get(&first.invocation).cloned() else { continue };
        if sent.contains(&first.intent) || event.get("updates").is_some() || sent.len() == SENT_AGAIN {
            continue;
        }
        sent.push(first.intent.clone());
        let invocation = format!("{}.again", first.invocation);
        callers::send(world, &invocation, &request_id, &event).await;
        let again = world.truth.borrow().told.last().filter(|told| told.invocation == invocation).cloned();
        if let Some(again) = again {
            invariants::the_same_key_gets_the_same_answer(world, &first, &again);
        }
    }
}

/// Whether an answer is kept under its key: it is the answer to a change that began, and that ended well or failed for
/// good.
fn is_final(world: &World, told: &Told) -> bool {
    let truth = world.truth.borrow();
    let began = truth.began.iter().any(|change| change.intent.as_ref() == Some(&told.intent));
    let is_kept = match told.code.as_deref() {
        None => told.body["status"] != "TIMED_OUT",
        Some(code) => invariants::FINAL.contains(&code) && !told.is_retryable,
    };
    began && is_kept
}

/// Makes a plain change on behalf of somebody else.
async fn probe(world: &Rc<World>, site: &Site) {
    if world.cloud.find(site).is_none_or(|service| service["status"] != "ACTIVE") {
        return;
    }
    let event = site.event(json!({"ecs_image_name": image(site, LAST_IMAGE)}));
    for attempt in 1..=TRIES {
        let name = format!("probe-{}.{attempt}", site.service);
        let ended = callers::send(world, &name, &name, &event).await;
        let is_done = matches!(ended, Ended::Answered(_));
        if is_done || attempt == TRIES {
            return invariants::a_plain_change_succeeds(world, site, &ended);
        }
        sleep(Duration::from_secs(200)).await;
    }
}

fn conclude(world: &World) -> Report {
    let mut counts = world.counts.borrow().clone();
    counts.runs = 1;
    counts.services = world.plan.services.len() as u64;
    counts.seconds = world.elapsed().as_secs();
    let mut plan = world.plan.clone();
    plan.rates = None;
    plan.deviations = world.met.borrow().clone();
    let trace = world.trace.borrow();
    Report {
        plan,
        violations: world.violations.borrow().clone(),
        digest: trace.digest(),
        text: trace.text().to_owned(),
        counts,
    }
}
