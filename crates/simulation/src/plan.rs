//! The decisions of a run, as data: what callers and others do and when, and everything that goes wrong.
//!
//! The plan of a seed says how often something goes wrong ([`Rates`]). What did go wrong is noted under the name of
//! what it happened to ([`Deviation`]). With `rates` left out and the deviations written down, the same run happens
//! again, whatever becomes of the way in which seeds are turned into plans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::random::Stream;
use crate::stories;

/// The decisions of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Latencies, ids and, with `rates`, deviations are drawn from it.
    pub seed: u64,
    /// The fraction of a millisecond that the base time has: a clock of whole milliseconds hides faults.
    pub nanoseconds: u32,
    /// The services.
    pub services: Vec<ServicePlan>,
    /// What callers and others do to them.
    pub acts: Vec<Act>,
    /// Actions and services that do not work for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<Outage>,
    /// How often something else goes wrong. Without it, only what `deviations` says goes wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// What goes wrong, by the name of what it happens to: `call c3.1 UpdateService 1`, `lag c3.1 DescribeServices 2`, `invocation c3.1`,
    /// `environment updater-2`, `event s0/e4`, `deployment s0/3`, `fate key-c3` for the deployment that this key starts, or `events key-c3`
    /// for the events about that deployment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deviations: BTreeMap<String, Deviation>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// Its account.
    pub account: String,
    /// Whether the circuit breaker rolls failed deployments back.
    pub rolls_back: bool,
}

/// Something that somebody does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// Its name.
    pub name: String,
    /// When, in milliseconds of the run.
    pub at: u64,
    /// What is done.
    #[serde(flatten)]
    pub what: What,
}

/// What somebody does. Services are given as positions in the plan's list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum What {
    /// Sends an update event.
    Change(Change),
    /// Deploys an image outside the updater.
    Deploy {
        /// Which service.
        service: usize,
        /// The image's tag.
        image: u32,
    },
    /// Sets a tag outside the updater.
    Tag {
        /// Which service.
        service: usize,
    },
    /// Stops the running deployment.
    Stop {
        /// Which service.
        service: usize,
    },
    /// Deletes a service, and creates it again under the same name.
    Delete {
        /// Which service.
        service: usize,
        /// How long it does not exist, in milliseconds.
        gone: u64,
    },
    /// The recorder's schedule.
    Sweep,
    /// Queries the history of a service.
    Ask {
        /// Which service.
        service: usize,
    },
    /// An image is pushed, and the trigger changes the service.
    Push {
        /// Which service.
        service: usize,
        /// The image's tag.
        image: u32,
    },
}

/// An update event, and who sends it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// The services. With more than one the event is a batch.
    pub services: Vec<usize>,
    /// The image's tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u32>,
    /// The value of the tag `n`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<u32>,
    /// `desiredCount`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// `force_new_deployment`.
    pub force: bool,
    /// `expected_task_definition`: what runs when the event is made.
    pub expect: bool,
    /// `restore`: `previous`, or the name of an act whose change is undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
    /// `wait_seconds`.
    pub wait: u32,
    /// `idempotency_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How it is sent.
    pub sent: Sent,
}

/// How an event is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// Once; the caller waits for the answer.
    #[default]
    Once,
    /// To Lambda's queue, which sends failed events again after one and after two minutes, under the same request id.
    Queued,
    /// Like boto3: the caller gives up after a minute and sends it again, under another request id.
    Impatient,
    /// To Lambda's queue, which delivers it twice under one request id, this many milliseconds apart.
    Doubled(u64),
}

/// An action or service that does not work for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// `dynamodb`, `ecs`, `sts`, or an action.
    pub of: String,
    /// From when, in milliseconds of the run.
    pub from: u64,
    /// Until when, in milliseconds of the run.
    pub until: u64,
    /// What happens to the calls.
    pub fault: Fault,
}

/// How often something goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// The share of calls that have a fault.
    pub fault: f64,
    /// The share of the faults of mutating calls that make the call act late.
    pub late: f64,
    /// The share of invocations that die.
    pub kill: f64,
    /// The share of invocations that freeze.
    pub freeze: f64,
    /// The largest skew of an ordinary environment, in milliseconds.
    pub skew: u64,
    /// The share of environments whose clock is wrong by seconds or minutes.
    pub lost_clocks: f64,
    /// The share of events that arrive twice.
    pub doubled: f64,
    /// The share of events that arrive late: after seconds to minutes.
    pub delayed: f64,
    /// The share of events that never arrive.
    pub lost: f64,
    /// The share of deployments that fail.
    pub failing: f64,
    /// The share of reads of ECS that lag behind.
    pub lagging: f64,
}

/// What goes wrong with one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    /// A call has a fault.
    Fault(Fault),
    /// A call is done this many milliseconds late.
    Late(u64),
    /// A read of ECS shows the state of this many milliseconds ago.
    Lag(u64),
    /// An environment's clock is ahead by this many milliseconds.
    Skew(i64),
    /// An invocation's environment dies.
    Kill(When),
    /// An invocation's environment freezes for this many milliseconds.
    Freeze(When, u64),
    /// An event of `EventBridge` arrives after this many milliseconds each time, or never if the list is empty.
    Arrivals(Vec<u64>),
    /// What becomes of a deployment.
    Fate(Fate),
}

/// A moment of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Right after its n-th call, which is under way then.
    Sent(u64),
    /// Before it is polled for the n-th time: at any point where it waits.
    Polled(u64),
    /// When its n-th call has failed, and it is about to pause before the next attempt.
    Failed(u64),
}

/// What becomes of a deployment that nobody interferes with, if it does not complete as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It fails. If the service's circuit breaker rolls back, ECS uses the id of the previous deployment again.
    FailsOldId,
    /// The same, and the rollback's deployment has a new id.
    FailsNewId,
    /// It fails, and so does its rollback.
    RollbackFails,
    /// It takes this many milliseconds.
    Takes(u64),
}

const ACCOUNTS: [&str; 3] = ["222222222222", "333333333333", "444444444444"];
/// Everything is sent within this time.
const SPAN: u64 = 420_000;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let mut draw = Stream::new(seed, "plan");
        let crowd = draw.chance(0.02);
        let count = if crowd { 26 } else { 3 + draw.place(2) };
        let services = (0..count).map(|n| ServicePlan {
            name: format!("s{n}"),
            account: if crowd { ACCOUNTS[0] } else { draw.pick(&ACCOUNTS) }.to_owned(),
            rolls_back: draw.chance(0.7),
        });
        let services: Vec<ServicePlan> = services.collect();
        // Most runs have most of their acts on one service, so that they interfere with each other.
        let focus = draw.chance(0.7).then(|| draw.place(count.min(3)));
        let mut acts = acts(seed, count, focus, crowd);
        let mut outages = outages(seed);
        let mut deviations = BTreeMap::new();
        hurt(seed, &acts, &mut outages, &mut deviations);
        if !crowd {
            let service = |draw: &mut Stream| focus.filter(|_| draw.chance(0.7)).unwrap_or_else(|| draw.place(count));
            let told = stories::tell(seed, SPAN - SPAN / 4, service);
            acts.extend(told.acts);
            outages.extend(told.outages);
            deviations.extend(told.deviations);
        }
        acts.sort_by_key(|act| act.at);
        Self {
            seed,
            nanoseconds: if draw.chance(0.3) { 0 } else { u32::try_from(draw.below(1_000_000)).unwrap_or_default() },
            services,
            acts,
            outages,
            rates: Some(rates(seed, crowd)),
            deviations,
        }
    }

    /// How many parts the plan has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.acts.len() + self.outages.len() + self.deviations.len() + self.services.len()
    }
}

fn acts(seed: u64, services: usize, focus: Option<usize>, crowd: bool) -> Vec<Act> {
    let mut draw = Stream::new(seed, "acts");
    let mut acts = Vec::new();
    let mut image = 1;
    if crowd {
        let change =
            Change { services: (0..services).collect(), image: Some(1), sent: Sent::Queued, ..Change::default() };
        acts.push(Act { name: "rollout".to_owned(), at: 1_000, what: What::Change(change) });
    }
    let changes = if crowd { 3 } else { 3 + draw.below(3) };
    let mut keys: Vec<Change> = Vec::new();
    for n in 0..changes {
        // Often this is at the same time as another act, so that the two interfere.
        let meets = acts.last().map(|act: &Act| act.at).filter(|_| draw.chance(0.3));
        let at = match meets {
            Some(at) => at + draw.millis(20.0, 4_000.0),
            None => draw.below(SPAN),
        };
        let service = focus.filter(|_| draw.chance(0.7)).unwrap_or_else(|| draw.place(services));
        image += 1;
        let name = format!("c{n}");
        // The same key is sent again, with the same event or with another one.
        if !keys.is_empty() && draw.chance(0.2) {
            let mut again = keys[draw.place(keys.len())].clone();
            if draw.chance(0.1) {
                again.image = Some(image);
            }
            again.sent = sent(&mut draw);
            acts.push(Act { name, at, what: What::Change(again) });
            continue;
        }
        let change = change(&mut draw, &acts, services, service, image, &name);
        // Before anything has changed there is nothing to restore.
        let at = if change.restore.is_some() { SPAN / 4 + at * 3 / 4 } else { at };
        if change.key.is_some() {
            keys.push(change.clone());
        }
        acts.push(Act { name, at, what: What::Change(change) });
    }
    let others = draw.below(3);
    for n in 0..others {
        let at = draw.below(SPAN);
        let service = focus.filter(|_| draw.chance(0.7)).unwrap_or_else(|| draw.place(services));
        image += 1;
        let what = match draw.below(10) {
            0..=5 => What::Deploy { service, image },
            6 => What::Tag { service },
            7 => What::Stop { service },
            8 => What::Delete { service, gone: draw.millis(2_000.0, 120_000.0) },
            _ => What::Push { service, image },
        };
        acts.push(Act { name: format!("o{n}"), at, what });
    }
    if draw.chance(0.5) {
        acts.push(Act { name: "sweep0".to_owned(), at: 300_000 * (1 + draw.below(2)), what: What::Sweep });
    }
    for n in 0..=draw.below(2) {
        let service = focus.filter(|_| draw.chance(0.5)).unwrap_or_else(|| draw.place(services));
        acts.push(Act { name: format!("ask{n}"), at: draw.below(SPAN), what: What::Ask { service } });
    }
    acts
}

fn change(draw: &mut Stream, acts: &[Act], services: usize, service: usize, image: u32, name: &str) -> Change {
    let mut change = Change { services: vec![service], sent: sent(draw), ..Change::default() };
    match draw.below(20) {
        0..=2 => change.restore = Some("previous".to_owned()),
        3 => {
            let earlier =
                acts.iter().rev().find(|act| matches!(&act.what, What::Change(change) if change.services == [service]));
            change.restore = Some(earlier.map_or_else(|| "previous".to_owned(), |act| act.name.clone()));
        }
        4..=5 => change.force = true,
        6 => change.tag = Some(image),
        7 => change.count = Some(1 + image % 4),
        8..=9 => {
            change.image = Some(image);
            change.expect = true;
        }
        10 => {
            change.image = Some(image);
            change.force = true;
        }
        _ => change.image = Some(image),
    }
    if change.restore.is_none() && draw.chance(0.5) {
        change.tag = Some(image);
    }
    if change.restore.is_none() && draw.chance(0.15) {
        let more = 1 + draw.place(services - 1);
        change.services = (0..=more).map(|n| (service + n) % services).collect();
        change.expect = false;
    }
    if draw.chance(0.2) {
        change.wait = u32::try_from(20 + draw.below(400)).unwrap_or_default();
    }
    if draw.chance(0.5) {
        change.key = Some(format!("key-{name}"));
    }
    change
}

fn sent(draw: &mut Stream) -> Sent {
    match draw.below(10) {
        0..=2 => Sent::Once,
        3..=6 => Sent::Queued,
        7 => Sent::Impatient,
        _ => Sent::Doubled(draw.millis(50.0, 400_000.0)),
    }
}

fn outages(seed: u64) -> Vec<Outage> {
    const OF: [&str; 10] = [
        "TagResource",
        "UpdateService",
        "RegisterTaskDefinition",
        "DescribeServices",
        "ExecuteTransaction",
        "AssumeRole",
        "TagResource",
        "dynamodb",
        "ecs",
        "BatchGetItem",
    ];
    const HOW: [Fault; 9] = [
        Fault::Passing,
        Fault::Refused,
        Fault::Refused,
        Fault::DoneAndRefused,
        Fault::CutAfter,
        Fault::LostAfter,
        Fault::Throttled,
        Fault::CutBefore,
        Fault::Denied,
    ];
    let mut draw = Stream::new(seed, "outages");
    let count = if draw.chance(0.5) { 1 + draw.below(3) } else { 0 };
    let outage = |_| {
        let from = draw.below(SPAN);
        let (of, mut fault) = (draw.pick(&OF), draw.pick(&HOW));
        if fault.impossible(of).is_some() {
            fault = Fault::CancelledThrottling;
        }
        Outage { of: of.to_owned(), from, until: from + draw.millis(1_000.0, 60_000.0), fault }
    };
    (0..count).map(outage).collect()
}

/// Adds faults where they do harm, rather than anywhere: uniform draws hardly ever find such places.
fn hurt(seed: u64, acts: &[Act], outages: &mut Vec<Outage>, deviations: &mut BTreeMap<String, Deviation>) {
    let mut draw = Stream::new(seed, "hurt");
    for Act { name, at, what } in acts {
        let What::Change(change) = what else { continue };
        let tags_fail = |draw: &mut Stream, from: u64, most: f64| Outage {
            of: "TagResource".to_owned(),
            from,
            until: from + draw.millis(5_000.0, most),
            fault: Fault::Refused,
        };
        // The last step of a restore fails, so that the restore is sent again.
        if change.restore.is_some() && change.sent != Sent::Once && draw.chance(0.25) {
            outages.push(tags_fail(&mut draw, *at, 50_000.0));
        }
        // The first of two invocations freezes until the second one has taken its place, and a little longer.
        if let Sent::Doubled(apart) = change.sent
            && apart > 126_000
            && draw.chance(0.6)
        {
            let freeze = apart + draw.millis(50.0, 3_000.0);
            deviations.insert(format!("invocation {name}.1"), Deviation::Freeze(When::Sent(4 + draw.below(6)), freeze));
        }
        // The invocation freezes between two attempts of a call until its lease has ended.
        if change.tag.is_some() && draw.chance(0.1) {
            outages.push(tags_fail(&mut draw, *at, 10_000.0));
            let freeze = draw.millis(126_000.0, 300_000.0);
            deviations.insert(format!("invocation {name}.1"), Deviation::Freeze(When::Failed(1), freeze));
        }
    }
}

/// Each run has some of the things that can go wrong, and not all of them ("swarm").
fn rates(seed: u64, crowd: bool) -> Rates {
    let mut draw = Stream::new(seed, "rates");
    let mut or = |probability, rate| if draw.chance(probability) { rate } else { 0.0 };
    if crowd {
        return Rates::default();
    }
    Rates {
        fault: or(0.6, 0.06),
        late: or(0.3, 0.5),
        kill: or(0.5, 0.2),
        freeze: or(0.4, 0.2),
        skew: if or(0.5, 1.0) > 0.0 { 2_000 } else { 0 },
        lost_clocks: or(0.12, 0.4),
        doubled: or(0.5, 0.3),
        delayed: or(0.5, 0.4),
        lost: or(0.2, 0.2),
        failing: or(0.5, 0.35),
        lagging: or(0.5, 0.4),
    }
}

impl Rates {
    /// Whether the thing with this name deviates, and how.
    pub(crate) fn draw(&self, seed: u64, of: Of<'_>, name: &str) -> Option<Deviation> {
        let mut draw = Stream::new(seed, name);
        match of {
            Of::Call { action } => {
                if !draw.chance(self.fault) {
                    return None;
                }
                if !crate::fault::is_read(action) && draw.chance(self.late) {
                    return Some(Deviation::Late(draw.millis(5_000.0, 25_000.0)));
                }
                let fault = draw.pick(&Fault::ALL);
                let fault = if fault == Fault::Late { Fault::LostAfter } else { fault };
                fault.impossible(action).is_none().then_some(Deviation::Fault(fault))
            }
            Of::Read => draw.chance(self.lagging).then(|| Deviation::Lag(draw.below(1_990))),
            Of::List => draw.chance(self.lagging).then(|| Deviation::Lag(draw.below(5_000))),
            Of::Environment => {
                if draw.chance(self.lost_clocks) {
                    let by = i64::try_from(draw.millis(4_000.0, 300_000.0)).unwrap_or_default();
                    return Some(Deviation::Skew(if draw.chance(0.5) { by } else { -by }));
                }
                let skew = i64::try_from(draw.below(2 * self.skew)).unwrap_or_default();
                let most = i64::try_from(self.skew).unwrap_or_default();
                (self.skew > 0).then_some(Deviation::Skew(skew - most))
            }
            Of::Invocation => {
                let (kill, freeze) = (draw.chance(self.kill), draw.chance(self.freeze));
                // Mostly this is at a call that was just sent rather than anywhere, since it does more harm there.
                let when =
                    if draw.chance(0.6) { When::Sent(1 + draw.below(12)) } else { When::Polled(1 + draw.below(40)) };
                // Half of the freezes last longer than a lease.
                let long = draw.chance(0.5);
                let freeze_for = if long { draw.millis(126_000.0, 400_000.0) } else { draw.millis(500.0, 126_000.0) };
                match (kill, freeze) {
                    (true, _) => Some(Deviation::Kill(when)),
                    (_, true) => Some(Deviation::Freeze(when, freeze_for)),
                    _ => None,
                }
            }
            Of::Event => {
                if draw.chance(self.lost) {
                    return Some(Deviation::Arrivals(Vec::new()));
                }
                let (late, twice) = (draw.chance(self.delayed), draw.chance(self.doubled));
                let after = |draw: &mut Stream| {
                    if late { draw.millis(1_000.0, 200_000.0) } else { draw.millis(100.0, 2_000.0) }
                };
                match (late, twice) {
                    (false, false) => None,
                    (_, false) => Some(Deviation::Arrivals(vec![after(&mut draw)])),
                    // The second copy often arrives after much else has happened.
                    (_, true) => Some(Deviation::Arrivals(vec![after(&mut draw), draw.millis(100.0, 200_000.0)])),
                }
            }
            Of::Deployment => {
                if draw.chance(self.failing) {
                    let fates = [Fate::FailsOldId, Fate::FailsNewId, Fate::FailsOldId, Fate::RollbackFails];
                    return Some(Deviation::Fate(draw.pick(&fates)));
                }
                draw.chance(0.1).then(|| Deviation::Fate(Fate::Takes(draw.millis(120_000.0, 500_000.0))))
            }
        }
    }
}

/// The kinds of things that a deviation can happen to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    /// A call.
    Call {
        /// Its action.
        action: &'a str,
    },
    /// A read of a service.
    Read,
    /// A list of service deployments.
    List,
    /// An environment.
    Environment,
    /// An invocation.
    Invocation,
    /// An event of `EventBridge`.
    Event,
    /// A deployment.
    Deployment,
}
