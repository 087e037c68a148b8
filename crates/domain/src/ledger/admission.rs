//! What may happen, given the head of a service and the key of an event: whether a change begins, continues, has its answer, has to wait,
//! or came too late. The order is that of the chain; times decide only for an event that says when it was sent (`sent_at`).

use chrono::{DateTime, Duration, Utc};

use super::head::{Head, Lease};
use super::idempotency::{KeyItem, Progress, Stage};
use super::queue::Waiting;
use crate::ids::ChangeId;

/// How long after an event was sent a change may have begun and still count as before it, if only the event's own time shows the order.
/// Two clocks that count as right differ by at most this much, apart from the whole second to which `Date`, and perhaps the sender, is cut.
const SENT_TOLERANCE: Duration = Duration::seconds(4);

/// Head and key as they were read together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// The service's head; none before its first record.
    pub head: Option<Head>,
    /// The event's key; none where it is new.
    pub key: Option<KeyItem>,
}

/// What is known about an event besides its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventFacts<'a> {
    /// Hash of what it asks for.
    pub hash: &'a str,
    /// When it was first sent, if it says so and is to be judged by that.
    pub sent_at: Option<DateTime<Utc>>,
}

/// What may happen, given a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// A change may begin. An attempt whose lease has ended is closed first if it has no result; if it has one, its
    /// lease is freed.
    Begin {
        /// The ended lease.
        orphan: Option<Lease>,
    },
    /// The key's change began and has no final answer: it continues.
    Continue(Progress),
    /// The key has a final answer: JSON of [`super::idempotency::StoredAnswer`].
    Answered(String),
    /// The key came with another event.
    KeyReused {
        /// The change of the key, if one began.
        change_id: Option<ChangeId>,
    },
    /// A lease is in force: that of another change, or of this key's own.
    Busy(Lease),
    /// A change could begin, but a caller that was refused before has the next turn.
    TurnOf(Waiting),
    /// Another change of the service began after this event, and going on would undo it.
    Overtaken {
        /// The change of this key, where one began.
        own: Option<ChangeId>,
        /// The change that began last.
        by: ChangeId,
    },
}

impl Admission {
    /// Whether what follows depends on the service, too.
    #[must_use]
    pub fn needs_the_service(&self) -> bool {
        matches!(self, Self::Begin { .. } | Self::Continue(_))
    }
}

impl LedgerState {
    /// The last change of the service that began.
    #[must_use]
    pub fn begun(&self) -> Option<&ChangeId> {
        self.head.as_ref()?.begun.as_ref()
    }

    /// The service's lease, ended or not.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.head.as_ref()?.lease.as_ref()
    }

    /// The event's key, if it is still valid: the table's own expiry comes up to days later.
    #[must_use]
    pub fn key(&self, now: DateTime<Utc>) -> Option<&KeyItem> {
        self.key.as_ref().filter(|key| key.counts(now))
    }

    /// What the event may do `now`.
    #[must_use]
    pub fn admits(&self, event: EventFacts<'_>, now: DateTime<Utc>) -> Admission {
        let key = self.key(now);
        let progress = key.and_then(KeyItem::progress);
        if let Some(key) = key.filter(|key| key.event_hash != event.hash) {
            return Admission::KeyReused { change_id: key.progress().map(|progress| progress.change_id.clone()) };
        }
        if let Some(answer) = progress.and_then(|progress| progress.answer.as_ref()) {
            return Admission::Answered(answer.clone());
        }
        let last = self.begun();
        // If the event's own time decides, it does so whatever lease is in force: a mark that is noted while the event waits would hide
        // that.
        let sent_at = event.sent_at.filter(|_| key.is_none()).map(|sent_at| sent_at.min(now));
        if let (Some(sent_at), Some(by)) = (sent_at, last)
            && by.time() > sent_at + SENT_TOLERANCE
        {
            return Admission::Overtaken { own: None, by: by.clone() };
        }
        if let Some(lease) = self.lease().filter(|lease| lease.holds(now)) {
            return Admission::Busy(lease.clone());
        }
        let is_overtaken = match key.map(|key| &key.stage) {
            Some(Stage::Begun(progress)) => last != Some(&progress.change_id),
            // The change that it was told to let go first does not count as one that came after it.
            Some(Stage::Seen { mark, first }) => {
                let let_go = first.as_deref().zip(self.head.as_ref());
                last != mark.as_ref() && !let_go.is_some_and(|(first, head)| head.let_go_first(first, mark.as_ref()))
            }
            None => false,
        };
        match (last, progress) {
            (Some(by), _) if is_overtaken => {
                Admission::Overtaken { own: progress.map(|progress| progress.change_id.clone()), by: by.clone() }
            }
            (_, Some(progress)) => Admission::Continue(progress.clone()),
            (_, None) => Admission::Begin { orphan: self.lease().cloned() },
        }
    }

    /// The time for a new change's id: ids of one service only grow.
    #[must_use]
    pub fn next_change_time(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.head.as_ref().map_or(now, |head| now.max(head.highest.time() + Duration::milliseconds(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::idempotency::StoredAnswer;
    use super::*;
    use crate::error::{Code, Failure};
    use crate::ledger::key::Attempt;
    use crate::ledger::key::RecordKey;
    use crate::ledger::key::RecordPlace;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn change(second: i64) -> ChangeId {
        ChangeId::new(at(second), [1; 10])
    }

    fn lease(change_id: &ChangeId, until: i64) -> Lease {
        Lease { change_id: change_id.clone(), attempt: Attempt::FIRST, until: at(until), key: "key#1".to_owned() }
    }

    fn head(begun: &ChangeId, lease: Option<Lease>) -> Head {
        let record = RecordKey::new(begun.clone(), RecordPlace::STARTED);
        let (highest, begun) = (begun.clone(), Some(begun.clone()));
        Head {
            seq: 3,
            hash: "h".to_owned(),
            record,
            highest,
            begun,
            begun_by: None,
            running: None,
            failed: false,
            lease,
        }
    }

    fn position(head: Option<Head>, key: Option<KeyItem>) -> LedgerState {
        LedgerState { head, key }
    }

    fn event(hash: &str) -> EventFacts<'_> {
        EventFacts { hash, sent_at: None }
    }

    fn key_of(change_id: &ChangeId) -> KeyItem {
        KeyItem::begun("key#1", "e", change_id.clone(), Attempt::FIRST, at(0))
    }

    #[test]
    fn a_new_service_admits_a_change() {
        assert_eq!(LedgerState::default().admits(event("e"), at(0)), Admission::Begin { orphan: None });
    }

    #[test]
    fn a_lease_keeps_others_out_until_it_has_been_over_for_five_seconds() {
        let holder = change(0);
        let held = position(Some(head(&holder, Some(lease(&holder, 60)))), None);
        assert_eq!(held.admits(event("e"), at(64)), Admission::Busy(lease(&holder, 60)));
        assert_eq!(held.admits(event("e"), at(65)), Admission::Begin { orphan: Some(lease(&holder, 60)) });
    }

    #[test]
    fn a_key_answers_once_it_is_answered_whatever_lease_stands() {
        let (own, other) = (change(0), change(5));
        let failure = Failure::new(Code::ServiceUpdateFailed, "no");
        let answered = key_of(&own).answered(&StoredAnswer::Failure(failure), at(1)).unwrap();
        let busy = position(Some(head(&other, Some(lease(&other, 60)))), Some(answered));
        assert!(matches!(busy.admits(event("e"), at(7)), Admission::Answered(_)));
        assert_eq!(busy.admits(event("other"), at(7)), Admission::KeyReused { change_id: Some(own) });
    }

    #[test]
    fn a_change_without_a_final_answer_goes_on_with_and_without_its_lease() {
        let own = change(0);
        let key = key_of(&own);
        let died = position(Some(head(&own, Some(lease(&own, 60)))), Some(key.clone()));
        assert!(matches!(died.admits(event("e"), at(64)), Admission::Busy(_)), "its own lease, too");
        let Admission::Continue(progress) = died.admits(event("e"), at(65)) else { panic!() };
        assert_eq!((progress.change_id, progress.acted), (own.clone(), true));

        let failed = position(Some(head(&own, None)), Some(key.failed(false, at(2))));
        let Admission::Continue(progress) = failed.admits(event("e"), at(3)) else { panic!() };
        assert!(!progress.acted, "each of its attempts is known to have done nothing");
    }

    #[test]
    fn a_change_that_another_one_followed_is_overtaken() {
        let (own, other) = (change(0), change(5));
        for lease in [None, Some(lease(&other, 10)), Some(lease(&own, 10))] {
            let overtaken = position(Some(head(&other, lease)), Some(key_of(&own))).admits(event("e"), at(61));
            assert_eq!(overtaken, Admission::Overtaken { own: Some(own.clone()), by: other.clone() });
        }
    }

    #[test]
    fn an_event_that_failed_before_it_began_is_overtaken_by_what_began_after() {
        let (first, second) = (change(0), change(5));
        let seen = |mark: Option<&ChangeId>| Some(KeyItem::seen("key#1", "e", mark.cloned(), at(1)));
        let now = at(61);
        let begin = Admission::Begin { orphan: None };
        assert_eq!(position(None, seen(None)).admits(event("e"), now), begin);
        assert_eq!(position(Some(head(&first, None)), seen(Some(&first))).admits(event("e"), now), begin);
        for mark in [None, Some(&first)] {
            let overtaken = position(Some(head(&second, None)), seen(mark)).admits(event("e"), now);
            assert_eq!(overtaken, Admission::Overtaken { own: None, by: second.clone() });
        }
        let reused = position(None, seen(None)).admits(event("another"), now);
        assert_eq!(reused, Admission::KeyReused { change_id: None });
    }

    #[test]
    fn ids_that_run_ahead_of_clocks_overtake_nobody() {
        // The order is that of the chain, not of times: the id of the first change is later than the event.
        let ahead = change(100);
        let seen = KeyItem::seen("key#1", "e", Some(ahead.clone()), at(1));
        let admitted = position(Some(head(&ahead, None)), Some(seen)).admits(event("e"), at(2));
        assert_eq!(admitted, Admission::Begin { orphan: None });
    }

    #[test]
    fn records_that_begin_nothing_overtake_nobody() {
        let own = change(0);
        let mut external = head(&own, None);
        external.highest = change(50);
        let admitted = position(Some(external), Some(key_of(&own))).admits(event("e"), at(61));
        assert!(matches!(admitted, Admission::Continue(_)), "{admitted:?}");
    }

    #[test]
    fn of_an_event_that_nobody_noted_its_own_time_tells() {
        let other = change(10);
        let there = position(Some(head(&other, None)), None);
        let sent = |second: i64, now: i64| there.admits(EventFacts { hash: "e", sent_at: Some(at(second)) }, at(now));
        let begin = Admission::Begin { orphan: None };
        assert_eq!(sent(5, 61), Admission::Overtaken { own: None, by: other.clone() });
        assert_eq!(sent(6, 61), begin, "within what clocks differ by");
        assert_eq!(sent(11, 61), begin);
        // A time in the future counts as now.
        assert_eq!(sent(1_000_000, 5), Admission::Overtaken { own: None, by: other.clone() });
        assert_eq!(there.admits(event("e"), at(61)), begin);
    }

    #[test]
    fn an_old_event_does_not_wait_for_the_change_that_overtook_it() {
        // If it were noted while it waits, with that change as its mark, it would undo that change afterwards.
        let other = change(10);
        let held = position(Some(head(&other, Some(lease(&other, 60)))), None);
        let sent = |second: i64| held.admits(EventFacts { hash: "e", sent_at: Some(at(second)) }, at(20));
        assert_eq!(sent(5), Admission::Overtaken { own: None, by: other.clone() });
        assert_eq!(sent(6), Admission::Busy(lease(&other, 60)), "the two meet");
        let seen = Some(KeyItem::seen("key#1", "e", Some(other.clone()), at(1)));
        let noted = position(held.head.clone(), seen);
        let again = noted.admits(EventFacts { hash: "e", sent_at: Some(at(5)) }, at(20));
        assert_eq!(again, Admission::Busy(lease(&other, 60)), "its note tells, and no time");
    }

    #[test]
    fn a_key_that_expired_is_as_if_it_were_not_there() {
        let expired = position(None, Some(key_of(&change(0)))).admits(event("other"), at(16 * 86_400));
        assert_eq!(expired, Admission::Begin { orphan: None });
    }

    #[test]
    fn change_ids_of_a_service_only_grow() {
        let position = position(Some(head(&change(10), None)), None);
        assert_eq!(position.next_change_time(at(5)), at(10) + Duration::milliseconds(1));
        assert_eq!(position.next_change_time(at(20)), at(20));
    }
}
