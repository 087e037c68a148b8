//! The callers that were refused because another caller's change held the service, in the order in which they came: the first of them has
//! the next turn.
//!
//! The queue never admits anybody, it only keeps callers out for a while: the lease alone decides who may change a service. A turn ends
//! by itself, soon after its caller was last refused. Nobody clears it either: the head contains what has begun since and who began it,
//! which shows who has had a turn already.

use chrono::{DateTime, Duration, Utc};
use sha2::{Digest, Sha256};

use crate::ids::{ChangeId, ServiceKey};
use crate::text::hex;

/// How long a turn is valid after its caller was last refused.
pub const LASTS: Duration = Duration::seconds(30);
/// A turn that has more than this left is not written again, so that a caller that asks often causes few writes. A caller that asks again
/// within this time keeps its turn.
pub const KEPT: Duration = Duration::seconds(20);
/// How many callers wait at most: a caller that comes while this many wait is not added to the queue.
pub const MAX_WAITING: usize = 8;
/// How long the item is kept after its last turn.
const KEPT_ITEM: Duration = Duration::days(1);

/// Who asks for a change, as far as turns and the last change that began are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The caller: its [`caller_id`], or else the id of the event's key, which distinguishes it from all others.
    pub caller: &'a str,
    /// Id of the event's key.
    pub key: &'a str,
    /// Whether it has a name by which it is recognized when it asks again, and may ask again while its turn is valid.
    pub may_wait: bool,
}

/// A caller that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The caller: see [`Asker::caller`].
    pub caller: String,
    /// Id of the key of the event that was refused last.
    pub key: String,
    /// The change behind which it waits: the one that held the service when this was written.
    pub after: ChangeId,
    /// Until when its turn is valid, in whole milliseconds.
    pub until: DateTime<Utc>,
}

/// The callers that wait for one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// In the order in which they came.
    pub waiting: Vec<Waiting>,
    /// The text in the state table, if there is one. A write requires that it is unchanged.
    pub stored: Option<String>,
}

/// Id of a caller whose name the event gives. The parts are separated by a character that callers, names and service keys cannot contain.
#[must_use]
pub fn caller_id(alias: &str, requested_by: &str, service: &ServiceKey) -> String {
    format!("by#{}", hex(&Sha256::digest(format!("{alias}\0{requested_by}\0{service}"))))
}

impl Queue {
    /// Id of a service's item.
    #[must_use]
    pub fn id(service: &ServiceKey) -> String {
        format!("turn#{service}")
    }

    /// When the item is no longer needed, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        let last = self.waiting.iter().map(|waiting| waiting.until).max();
        last.map_or(0, |last| (last + KEPT_ITEM).timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{Head, milliseconds};
    use super::super::idempotency::KeyItem;
    use super::*;
    use crate::ledger::admission::Admission;
    use crate::ledger::admission::EventFacts;
    use crate::ledger::head::Lease;
    use crate::ledger::key::Attempt;
    use crate::ledger::key::RecordKey;
    use crate::ledger::key::RecordPlace;
    use crate::ledger::turn::Standing;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn change(second: i64) -> ChangeId {
        ChangeId::new(at(second), [1; 10])
    }

    fn asker(name: &'static str) -> Asker<'static> {
        Asker { caller: name, key: name, may_wait: true }
    }

    fn event() -> EventFacts<'static> {
        EventFacts { hash: "e", sent_at: None }
    }

    /// A service as the askers see it.
    #[derive(Default)]
    struct Service {
        standing: Standing,
    }

    impl Service {
        /// Asks with a key about which nothing is known.
        fn ask(&mut self, name: &'static str, second: i64) -> Admission {
            self.ask_with(None, &asker(name), second)
        }

        fn ask_with(&mut self, key: Option<&KeyItem>, asker: &Asker<'_>, second: i64) -> Admission {
            self.standing.position.key = key.cloned();
            let admission = self.standing.admits(event(), asker, at(second));
            if let Admission::Busy(lease) = &admission
                && let Some(to) = self.standing.refused(asker, lease, at(second))
            {
                self.standing.queue = Queue { stored: Some(format!("{to:?}")), ..to };
            }
            admission
        }

        fn begin(&mut self, name: &'static str, second: i64) {
            assert!(matches!(self.ask(name, second), Admission::Begin { .. }), "{name} at {second}");
            let change_id = change(second);
            let before = self.standing.position.head.clone();
            let lease = Lease {
                change_id: change_id.clone(),
                attempt: Attempt::FIRST,
                until: at(second + 120),
                key: name.to_owned(),
            };
            let head = Head {
                seq: 1,
                hash: String::new(),
                record: RecordKey::new(change_id.clone(), RecordPlace::STARTED),
                highest: change_id.clone(),
                begun: Some(change_id),
                begun_by: None,
                running: None,
                failed: false,
                lease: Some(lease),
            };
            self.standing.position.head = Some(head.begun_by(name, name, before.as_ref()));
        }

        fn end(&mut self) {
            self.standing.position.head.as_mut().unwrap().lease = None;
        }

        fn is_busy(&mut self, name: &'static str, second: i64) {
            assert!(matches!(self.ask(name, second), Admission::Busy(_)), "{name} at {second}");
        }

        fn is_turn_of(&mut self, first: &str, name: &'static str, second: i64) {
            let Admission::TurnOf(waiting) = self.ask(name, second) else { panic!("{name} at {second}") };
            assert_eq!(waiting.caller, first, "{name} at {second}");
        }

        fn waiting(&self, second: i64) -> Vec<&str> {
            self.standing.waiting(at(second)).map(|waiting| waiting.caller.as_str()).collect()
        }
    }

    #[test]
    fn whoever_was_refused_goes_next_and_whoever_goes_on_in_a_loop_waits_for_that_and_no_longer() {
        let mut service = Service::default();
        for round in 0..25 {
            let second = round * 10;
            service.begin("loop", second);
            service.is_busy("other", second + 1);
            service.end();
            service.is_turn_of("other", "loop", second + 2);
            service.begin("other", second + 3);
            service.end();
            // Nothing was written: the change that began shows that the caller has had its turn.
            assert_eq!(service.waiting(second + 4), [""; 0]);
        }
    }

    #[test]
    fn two_that_alternate_have_one_turn_each() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("b", 1);
        service.end();
        for round in 0..10 {
            let (next, last) = if round % 2 == 0 { ("b", "a") } else { ("a", "b") };
            let second = 2 + round * 3;
            service.is_turn_of(next, last, second);
            service.begin(next, second);
            service.is_busy(last, second + 1);
            service.end();
        }
    }

    #[test]
    fn three_have_their_turns_in_the_order_in_which_they_came() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("b", 1);
        service.is_busy("c", 2);
        service.end();
        service.is_turn_of("b", "a", 3);
        service.is_turn_of("b", "c", 3);
        service.begin("b", 4);
        // The first caller asks again before the third, and is behind it nevertheless.
        service.is_busy("a", 5);
        service.end();
        service.is_turn_of("c", "b", 6);
        service.is_turn_of("c", "a", 6);
        service.begin("c", 7);
        service.end();
        service.is_turn_of("a", "c", 8);
        service.begin("a", 9);
    }

    #[test]
    fn one_that_does_not_come_again_keeps_others_out_for_half_a_minute() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("dead", 1);
        service.is_busy("b", 10);
        service.end();
        for second in [11, 30] {
            service.is_turn_of("dead", "a", second);
            service.is_turn_of("dead", "b", second);
        }
        assert_eq!(service.waiting(30), ["dead", "b"], "a refusal for somebody's turn gives none, and lengthens none");
        service.is_turn_of("b", "a", 31);
        service.begin("b", 31);
        service.end();
        service.begin("a", 40);
        service.end();
        assert_eq!(service.waiting(40), [""; 0]);
    }

    #[test]
    fn who_asks_often_keeps_its_place_and_is_written_seldom() {
        let mut service = Service::default();
        service.begin("a", 0);
        let mut written = 0;
        for second in (0..120).step_by(5) {
            let before = service.standing.queue.clone();
            service.is_busy("b", second);
            service.is_busy("c", second);
            assert_eq!(service.waiting(second), ["b", "c"]);
            written += i32::from(service.standing.queue != before);
        }
        assert_eq!(written, 12, "every other time");
    }

    #[test]
    fn nobody_waits_for_its_own_change_nor_for_one_of_whom_the_head_does_not_tell() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("a", 1);
        let lease = service.standing.position.lease().unwrap().clone();
        let retry = Asker { caller: "another name", key: "a", may_wait: true };
        assert_eq!(service.standing.refused(&retry, &lease, at(1)), None, "the holder's own event");
        let unknown = Asker { may_wait: false, ..asker("b") };
        assert_eq!(service.standing.refused(&unknown, &lease, at(1)), None, "not known when it comes again");
        assert!(service.standing.refused(&asker("b"), &lease, at(1)).is_some());
        service.standing.position.head.as_mut().unwrap().begun_by = None;
        assert_eq!(service.standing.refused(&asker("b"), &lease, at(1)), None, "written by the version before");
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut service = Service::default();
        service.begin("holder", 0);
        let names: [&'static str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
        for name in names {
            service.is_busy(name, 1);
        }
        assert_eq!(service.waiting(1), names[..MAX_WAITING]);
    }

    #[test]
    fn clocks_that_differ_move_a_turn_by_that_and_one_that_is_wrong_locks_nobody_out() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("b", 5);
        service.end();
        // Written at 5 by a clock that is 5 s behind or ahead of the one by which it is judged.
        for (judged, skewed) in [(39, -5), (29, 5)] {
            let until = milliseconds(at(judged + 1));
            assert_eq!(at(5) + LASTS - Duration::seconds(skewed), until);
            service.standing.queue.waiting[0].until = until;
            service.is_turn_of("b", "a", judged);
            assert!(matches!(service.ask("a", judged + 1), Admission::Begin { .. }));
        }
        service.standing.queue.waiting[0].until = at(3600);
        assert!(matches!(service.ask("a", 6), Admission::Begin { .. }), "no turn lasts for so long");
    }

    #[test]
    fn what_goes_on_is_answered_or_came_too_late_waits_for_nobodys_turn() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("b", 1);
        service.end();
        let own = KeyItem::begun("a", "e", change(0), Attempt::FIRST, at(0)).failed(false, at(1));
        assert!(matches!(service.ask_with(Some(&own), &asker("a"), 2), Admission::Continue(_)));
        let old = KeyItem::seen("x", "e", None, at(0));
        assert!(matches!(service.ask_with(Some(&old), &asker("x"), 2), Admission::Overtaken { .. }));
    }

    #[test]
    fn whoever_was_told_to_let_another_go_first_is_not_overtaken_by_that_one() {
        let mut service = Service::default();
        service.begin("a", 0);
        service.is_busy("b", 1);
        service.end();
        let first = service.standing.before(&asker("a"), at(2)).map(|first| first.key.clone());
        assert_eq!(first.as_deref(), Some("b"));
        let begun = service.standing.position.begun().cloned();
        let told = KeyItem::seen("key", "e", begun.clone(), at(2)).letting_go_first(first.as_deref());
        let untold = KeyItem::seen("key", "e", begun, at(2));
        service.begin("b", 3);
        service.end();
        assert!(matches!(service.ask_with(Some(&told), &asker("a"), 4), Admission::Begin { .. }));
        assert!(matches!(service.ask_with(Some(&untold), &asker("a"), 4), Admission::Overtaken { .. }));
        service.begin("c", 5);
        service.end();
        assert!(matches!(service.ask_with(Some(&told), &asker("a"), 6), Admission::Overtaken { .. }));
    }

    #[test]
    fn callers_are_told_apart_by_alias_and_name_and_service() {
        let service = |name: &str| ServiceKey::parse(&format!("222222222222/eu-west-1/prod/{name}")).unwrap();
        let id = caller_id("alias:live", "ci", &service("web"));
        assert_eq!(id.len(), "by#".len() + 64);
        let others = [("alias:api", "ci", "web"), ("alias:live", "cd", "web"), ("alias:live", "ci", "api")];
        assert!(others.iter().all(|(alias, name, key)| caller_id(alias, name, &service(key)) != id));
    }
}
