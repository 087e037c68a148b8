//! Things that go wrong together: acts close to each other, and faults at the very call where they do harm, with times and kinds drawn. By
//! chance alone such things hardly ever coincide, and a run that waits for them takes long.

use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::plan::{Act, Change, Deviation, Fate, Outage, Sent, What, When};
use crate::random::Stream;

/// All stories.
const STORIES: [fn(&mut Teller); 17] = [
    Teller::half_done,
    Teller::half_done_and_its_retries_die,
    Teller::restored_by_halves,
    Teller::dies_and_somebody_deploys,
    Teller::refused_for_good,
    Teller::its_beginning_is_not_answered,
    Teller::rolled_back_and_the_next_one_comes,
    Teller::stopped_while_two_wait,
    Teller::deleted_under_way,
    Teller::two_close_together,
    Teller::forced_and_looked_at_late,
    Teller::refused_for_what_passes,
    Teller::no_room,
    Teller::its_result_is_not_taken,
    Teller::acts_late_and_the_next_one_comes,
    Teller::thaws_beside_its_successor,
    Teller::clocks_are_ahead,
];

/// What stories consist of.
#[derive(Default)]
pub(crate) struct Told {
    /// The acts.
    pub acts: Vec<Act>,
    /// Actions and services that do not work for a while.
    pub outages: Vec<Outage>,
    /// What else goes wrong.
    pub deviations: BTreeMap<String, Deviation>,
}

/// Tells some stories that begin within this time, each about one service.
pub(crate) fn tell(seed: u64, span: u64, service: impl Fn(&mut Stream) -> usize) -> Told {
    let mut draw = Stream::new(seed, "stories");
    let mut told = Told::default();
    for number in 0..=draw.below(3) {
        let story = draw.pick(&STORIES);
        let (service, at) = (service(&mut draw), draw.below(span));
        let mut teller = Teller { number, service, at, draw, told };
        story(&mut teller);
        Teller { draw, told, .. } = teller;
    }
    told
}

struct Teller {
    number: u64,
    service: usize,
    at: u64,
    draw: Stream,
    told: Told,
}

impl Teller {
    /// Adds an act that happens this many milliseconds after the beginning of the story. Returns the name of the act.
    fn act(&mut self, after: u64, what: What) -> String {
        let name =
            format!("t{}{}", self.number, char::from(b'a' + u8::try_from(self.told.acts.len() % 26).unwrap_or(0)));
        self.told.acts.push(Act { name: name.clone(), at: self.at + after, what });
        name
    }

    /// Adds a change of the story's service, under a key of its own.
    fn change(&mut self, after: u64, change: Change) -> String {
        let name = self.act(after, What::Tag { service: self.service });
        let change = Change { services: vec![self.service], key: Some(format!("key-{name}")), ..change };
        if let Some(act) = self.told.acts.last_mut() {
            act.what = What::Change(change);
        }
        name
    }

    /// An image that nobody else sets.
    fn image(&self) -> u32 {
        let acts = u32::try_from(self.told.acts.len()).unwrap_or_default();
        1_000 + acts
    }

    /// A change of image and tag that is sent again if it fails.
    fn plain(&mut self) -> Change {
        let image = Some(self.image());
        Change { image, tag: image, sent: self.comes_again(), ..Change::default() }
    }

    fn comes_again(&mut self) -> Sent {
        match self.draw.below(4) {
            0 => Sent::Doubled(self.draw.millis(50.0, 200_000.0)),
            _ => Sent::Queued,
        }
    }

    fn deploy(&mut self, after: u64) {
        let (service, image) = (self.service, self.image());
        self.act(after, What::Deploy { service, image });
    }

    /// A number of milliseconds. Small values are as frequent as large ones.
    fn millis(&mut self, least: f64, most: f64) -> u64 {
        self.draw.millis(least, most)
    }

    fn deviate(&mut self, name: String, deviation: Deviation) {
        self.told.deviations.insert(name, deviation);
    }

    /// The n-th call of an action that the first invocation of an act makes meets one of the faults.
    fn fault(&mut self, act: &str, action: &str, nth: u32, faults: &[Fault]) {
        let fault = self.draw.pick(faults);
        self.deviate(format!("call {act}.1 {action} {nth}"), Deviation::Fault(fault));
    }

    fn outage(&mut self, of: &str, fault: Fault, lasts: u64) {
        let outage = Outage { of: of.to_owned(), from: self.at, until: self.at + lasts, fault };
        self.told.outages.push(outage);
    }

    /// In half of the cases, the events about what a change deploys and about its rollback are late. Otherwise events
    /// are late as the rates say.
    fn events_are_late(&mut self, act: &str) {
        if self.draw.chance(0.5) {
            let late = self.millis(20_000.0, 200_000.0);
            self.deviate(format!("events key-{act}"), Deviation::Arrivals(vec![late]));
        }
    }

    /// Only the tags of the change are not set yet when it fails.
    fn half_done(&mut self) {
        let how = self.draw.below(3);
        let change = Change { force: how == 1, expect: how == 2, ..self.plain() };
        self.change(0, change);
        let lasts = self.millis(12_000.0, 50_000.0);
        self.outage("TagResource", Fault::Refused, lasts);
    }

    fn half_done_and_its_retries_die(&mut self) {
        let plain = self.plain();
        let name = self.change(0, Change { sent: Sent::Queued, ..plain });
        let lasts = self.millis(12_000.0, 50_000.0);
        self.outage("TagResource", Fault::Refused, lasts);
        for attempt in 2..=3 {
            let call = 6 + self.draw.below(5);
            self.deviate(format!("invocation {name}.{attempt}"), Deviation::Kill(When::Sent(call)));
        }
    }

    /// The tags of a restore are put back, or removed, only in a later attempt.
    fn restored_by_halves(&mut self) {
        let (first, second) = (self.plain(), self.millis(20_000.0, 60_000.0));
        self.change(0, Change { sent: Sent::Once, ..first });
        let restore = Change { restore: Some("previous".to_owned()), sent: self.comes_again(), ..Change::default() };
        let name = self.change(second, restore);
        for action in ["TagResource", "UntagResource"] {
            for nth in 1..=3 {
                self.fault(&name, action, nth, &[Fault::Refused]);
            }
        }
    }

    /// Somebody else deploys before or after the change itself does, and the change, which died, is continued.
    fn dies_and_somebody_deploys(&mut self) {
        let plain = self.plain();
        let name = self.change(0, plain);
        let call = 4 + self.draw.below(6);
        self.deviate(format!("invocation {name}.1"), Deviation::Kill(When::Sent(call)));
        let after = self.millis(3_000.0, 170_000.0);
        self.deploy(after);
        self.events_are_late(&name);
    }

    /// A call is refused for good, and the transaction of its result conflicts with another write, or there is no room
    /// for it.
    fn refused_for_good(&mut self) {
        let plain = self.plain();
        let name = self.change(0, plain);
        let action = self.draw.pick(&["UpdateService", "TagResource"]);
        self.fault(&name, action, 1, &[Fault::Denied]);
        self.fault(&name, "ExecuteTransaction", 2, &[Fault::Conflict, Fault::Conflict, Fault::CancelledThrottling]);
    }

    /// The transaction that begins the change is not answered, and neither are its repetitions by the SDK.
    fn its_beginning_is_not_answered(&mut self) {
        let plain = self.plain();
        let name = self.change(0, plain);
        for nth in 1..=3 {
            self.fault(&name, "ExecuteTransaction", nth, &[Fault::CutAfter, Fault::DoneAndRefused]);
        }
    }

    /// A deployment is rolled back and another one may follow; the events of both arrive at any time.
    fn rolled_back_and_the_next_one_comes(&mut self) {
        let first = self.plain();
        self.change(0, first);
        let after = self.millis(10_000.0, 60_000.0);
        let second = self.plain();
        let name = self.change(after, second);
        let fates = [Fate::FailsOldId, Fate::FailsNewId, Fate::RollbackFails, Fate::RollbackFails];
        let fate = self.draw.pick(&fates);
        self.deviate(format!("fate key-{name}"), Deviation::Fate(fate));
        self.events_are_late(&name);
        if self.draw.chance(0.7) {
            let next = self.plain();
            let after = after + self.millis(20_000.0, 130_000.0);
            self.change(after, next);
        }
    }

    /// One invocation sees that the deployment was stopped, the other one sees which deployment took over.
    fn stopped_while_two_wait(&mut self) {
        let plain = self.plain();
        let wait = u32::try_from(150 + self.draw.below(200)).unwrap_or_default();
        let name = self.change(0, Change { wait, sent: Sent::Impatient, ..plain });
        let takes = self.millis(200_000.0, 500_000.0);
        self.deviate(format!("fate key-{name}"), Deviation::Fate(Fate::Takes(takes)));
        // The second invocation has just begun to look, and so looks more often.
        let stop = self.millis(62_500.0, 72_000.0);
        self.act(stop, What::Stop { service: self.service });
        let after = stop + self.millis(2_000.0, 10_000.0);
        self.deploy(after);
    }

    fn deleted_under_way(&mut self) {
        let plain = self.plain();
        let name = self.change(0, plain);
        let takes = self.millis(60_000.0, 500_000.0);
        self.deviate(format!("fate key-{name}"), Deviation::Fate(Fate::Takes(takes)));
        let (after, gone) = (self.millis(4_000.0, 60_000.0), self.millis(2_000.0, 120_000.0));
        self.act(after, What::Delete { service: self.service, gone });
    }

    /// Lists of the service's deployments may lag behind.
    fn two_close_together(&mut self) {
        let plain = self.plain();
        self.change(0, Change { tag: None, sent: Sent::Once, ..plain });
        let after = self.millis(3_000.0, 20_000.0);
        let plain = self.plain();
        let wait = u32::try_from(20 + self.draw.below(200)).unwrap_or_default();
        self.change(after, Change { tag: None, wait, ..plain });
    }

    fn forced_and_looked_at_late(&mut self) {
        let plain = self.plain();
        let image = plain.image.filter(|_| self.draw.chance(0.3));
        let name = self.change(0, Change { image, force: true, ..plain });
        self.fault(&name, "UpdateService", 1, &[Fault::CutAfter, Fault::DoneAndRefused, Fault::Truncated]);
        let lag = self.millis(300.0, 1_990.0);
        self.deviate(format!("lag {name}.1 DescribeServices 2"), Deviation::Lag(lag));
    }

    fn refused_for_what_passes(&mut self) {
        let plain = self.plain();
        self.change(0, plain);
        let lasts = self.millis(5_000.0, 100_000.0);
        self.outage("UpdateService", Fault::Passing, lasts);
    }

    fn no_room(&mut self) {
        let plain = self.plain();
        let name = self.change(0, plain);
        if self.draw.chance(0.5) {
            self.fault(&name, "BatchGetItem", 1, &[Fault::Unprocessed]);
        }
        let nth = 1 + u32::try_from(self.draw.below(2)).unwrap_or_default();
        let faults = [Fault::CancelledThrottling, Fault::CancelledThroughput, Fault::Conflict];
        self.fault(&name, "ExecuteTransaction", nth, &faults);
    }

    fn its_result_is_not_taken(&mut self) {
        let plain = self.plain();
        self.change(0, plain);
        let (from, lasts) = (self.at + self.millis(2_000.0, 6_000.0), self.millis(8_000.0, 60_000.0));
        let fault = self.draw.pick(&[Fault::CancelledThrottling, Fault::Refused, Fault::LostBefore]);
        let of = "ExecuteTransaction".to_owned();
        self.told.outages.push(Outage { of, from, until: from + lasts, fault });
    }

    /// The same event arrives twice: the first invocation freezes until its successor is at work.
    fn thaws_beside_its_successor(&mut self) {
        let plain = self.plain();
        let apart = 131_000 + self.draw.below(120_000);
        let name = self.change(0, Change { sent: Sent::Doubled(apart), ..plain });
        let call = 5 + self.draw.below(4);
        let freeze = apart + self.draw.below(4_000);
        self.deviate(format!("invocation {name}.1"), Deviation::Freeze(When::Sent(call), freeze));
    }

    /// The clocks of the first environments are ahead by minutes, and somebody queries the history.
    fn clocks_are_ahead(&mut self) {
        for environment in 1..=3 {
            let ahead = i64::try_from(self.millis(60_000.0, 300_000.0)).unwrap_or_default();
            self.deviate(format!("environment updater-{environment}"), Deviation::Skew(ahead));
        }
        let first = self.plain();
        self.change(0, first);
        let next = self.plain();
        let after = self.millis(300.0, 4_000.0);
        self.change(after, next);
        let ask = self.millis(6_000.0, 60_000.0);
        self.act(ask, What::Ask { service: self.service });
    }

    fn acts_late_and_the_next_one_comes(&mut self) {
        let plain = self.plain();
        let name = self.change(0, plain);
        let action = self.draw.pick(&["UpdateService", "UpdateService", "TagResource", "RegisterTaskDefinition"]);
        let late = self.millis(10_000.0, 30_000.0);
        self.deviate(format!("call {name}.1 {action} 1"), Deviation::Late(late));
        let next = self.plain();
        let after = self.millis(10_000.0, 40_000.0);
        self.change(after, next);
    }
}
