//! The one mutable item of a service: where its ledger ends, what began last, and who may change the service.

use chrono::{DateTime, Duration, Utc};

use crate::ids::{ChangeId, ServiceKey};
use crate::ledger::key::{Attempt, RecordKey};

/// How long a lease may last after its `STARTED`: Lambda retries an asynchronous event after one and two minutes, and a
/// retry must not meet the lease of its own dead predecessor.
const MAX_LEASE: Duration = Duration::seconds(120);
/// The last part of a lease, in which its holder sends nothing, and the time after its end in which nobody takes it. Clocks
/// of two environments that change anything differ by less than both together ([`super::clock`]).
pub const LEASE_GRACE: Duration = Duration::seconds(5);
/// How long after it was sent a call whose answer was lost may act at the most, as far as a lease can provide for it.
const LATEST_EFFECT: Duration = Duration::seconds(60);
/// How long after its attempt began a lease ends at the latest: one that was lengthened for a call of its last moment. The
/// grace stands for two clocks.
const LATEST_END: Duration =
    Duration::seconds(MAX_LEASE.num_seconds() + LATEST_EFFECT.num_seconds() + 2 * LEASE_GRACE.num_seconds());

/// Where the ledger of a service ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `seq` of the last record.
    pub seq: u64,
    /// `hash` of the last record.
    pub hash: String,
    /// Sort key of the last record.
    pub record: RecordKey,
    /// The highest id of a change in the ledger: ids of a service only grow.
    pub highest: ChangeId,
    /// The last change that began: one that has a `STARTED` or is `UNCHANGED`.
    pub begun: Option<ChangeId>,
    /// Who began it, where that is known.
    pub begun_by: Option<Box<Beginner>>,
    /// ARN of the task definition that is to run, as far as the last result or outcome shows.
    pub running: Option<String>,
    /// Whether the last result is of a change that failed, or whose function ended before it did: it may have registered a revision that
    /// nobody runs, and that the next change can use.
    pub failed: bool,
    /// The right to change the service, if somebody has it.
    pub lease: Option<Lease>,
}

/// Who began the last change that began. This shows whose turn is next ([`super::queue`]), and whether that change had the turn and so
/// did not overtake those who let it go first. Heads that were written by the version before this have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginner {
    /// The caller: see [`super::queue::Asker::caller`].
    pub caller: String,
    /// Id of the key of the event that began it.
    pub key: String,
    /// The change that had begun last before it.
    pub behind: Option<ChangeId>,
}

/// The right to change one service, until it ends by itself. It is identified by change and attempt, never by its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The change that holds it.
    pub change_id: ChangeId,
    /// The attempt at the change.
    pub attempt: Attempt,
    /// When it ends by itself, in whole milliseconds.
    pub until: DateTime<Utc>,
    /// Id of its holder's idempotency key item, which receives an answer if the holder never gives one.
    pub key: String,
}

impl Lease {
    /// Whether it is the lease of this attempt at the change.
    #[must_use]
    pub fn is_of(&self, change_id: &ChangeId, attempt: Attempt) -> bool {
        self.change_id == *change_id && self.attempt == attempt
    }

    /// Whether it keeps others out at a time of their clock, as its holder's clock may be behind.
    #[must_use]
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        self.until + LEASE_GRACE > now
    }

    /// Whether it ends later than any lease does. No retry waits that long, so the caller cannot repair this.
    #[must_use]
    pub fn outlasts(&self, now: DateTime<Utc>) -> bool {
        // The lease does not say when a later attempt began, but that was not after now.
        let began = if self.attempt == Attempt::FIRST { self.change_id.time().min(now) } else { now };
        self.until - began > LATEST_END
    }

    /// The same lease, long enough for the late effect of a call that was sent at `sent_at`.
    #[must_use]
    pub fn lengthened(&self, sent_at: DateTime<Utc>) -> Self {
        Self { until: self.until.max(latest_effect(sent_at)), ..self.clone() }
    }
}

/// Until when a call that was sent at `sent_at`, and whose answer was lost, may still act.
#[must_use]
pub fn latest_effect(sent_at: DateTime<Utc>) -> DateTime<Utc> {
    milliseconds(sent_at + LATEST_EFFECT)
}

impl Head {
    /// Id of a service's head.
    #[must_use]
    pub fn id(service: &ServiceKey) -> String {
        format!("service#{service}")
    }

    /// Whether this head is `own` as it was written, or came from it when others wrote behind it. A change and an attempt alone do not
    /// show that: two invocations with one key may begin the same attempt at the same time, and one of them did not write it.
    #[must_use]
    pub fn follows(&self, own: &Self) -> bool {
        self.lease.is_some() && self.lease == own.lease && (self.hash == own.hash || self.seq > own.seq)
    }

    /// The same head with the beginner of its last change, if that change began with it. A further attempt at a change leaves the
    /// beginner as it is.
    #[must_use]
    pub fn begun_by(self, caller: &str, key: &str, before: Option<&Self>) -> Self {
        let behind = before.and_then(|head| head.begun.clone());
        if self.begun == behind {
            return self;
        }
        let (caller, key) = (caller.to_owned(), key.to_owned());
        Self { begun_by: Some(Box::new(Beginner { caller, key, behind })), ..self }
    }

    /// Whether the last change began so shortly before `now` that ECS may not yet show everywhere what it deployed, and the service is
    /// shown with another task definition.
    #[must_use]
    pub fn has_just_deployed_other_than(&self, task_definition: Option<&str>, now: DateTime<Utc>) -> bool {
        let is_recent = self.begun.as_ref().is_some_and(|begun| now < begun.time() + LATEST_END);
        is_recent && self.running.as_deref().is_some_and(|running| Some(running) != task_definition)
    }

    /// Whether the last change that began is that of the event with key `first`, and began directly after `mark`.
    #[must_use]
    pub fn let_go_first(&self, first: &str, mark: Option<&ChangeId>) -> bool {
        self.begun_by.as_ref().is_some_and(|by| by.key == first && by.behind.as_ref() == mark)
    }
}

/// When a lease ends that is taken `now` in an invocation that ends at `deadline`.
#[must_use]
pub fn lease_until(now: DateTime<Utc>, deadline: DateTime<Utc>) -> DateTime<Utc> {
    milliseconds(deadline.min(now + MAX_LEASE) + LEASE_GRACE)
}

/// A time as it is written: what is compared with what was read must have the same precision.
#[must_use]
pub fn milliseconds(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap_or(at)
}

/// How long after a lease a call whose answer was lost may act: `Lease::lengthened` provides for as much.
pub const LATE_EFFECT: Duration = Duration::seconds(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::key::RecordPlace;

    fn at(millisecond: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_795_000_000_000 + millisecond).unwrap()
    }

    #[test]
    fn a_lease_ends_soon_after_its_invocation_and_within_about_two_minutes() {
        assert_eq!(lease_until(at(0), at(30_000)), at(35_000));
        assert_eq!(lease_until(at(0), at(900_000)), at(125_000));
    }

    #[test]
    fn a_lease_has_whole_milliseconds_as_it_is_written() {
        let between = at(7) + Duration::nanoseconds(123_456);
        assert_eq!(lease_until(between, at(900_000)), at(125_007));
        let lease = Lease {
            change_id: ChangeId::new(at(0), [1; 10]),
            attempt: Attempt::FIRST,
            until: at(125_000),
            key: String::new(),
        };
        assert_eq!(lease.lengthened(between).until, at(125_000), "long enough already");
        assert_eq!(lease.lengthened(at(100_000) + Duration::nanoseconds(1)).until, at(160_000));
    }

    #[test]
    fn no_lease_outlasts_what_the_longest_one_lasts() {
        let lease = |attempt, until| Lease {
            change_id: ChangeId::new(at(0), [1; 10]),
            attempt,
            until: at(until),
            key: String::new(),
        };
        let second = Attempt::FIRST.next().unwrap();
        // Taken for the longest time, and lengthened for a call of its last moment.
        let longest = lease(Attempt::FIRST, 125_000).lengthened(at(120_000));
        assert_eq!(longest.until, at(180_000));
        for now in [0, 100_000, 184_000] {
            assert!(!longest.outlasts(at(now)), "{now}");
            assert!(!lease(second, now + 180_000).outlasts(at(now)), "a later attempt, which began now: {now}");
        }
        let broken = 191_000;
        assert!(lease(Attempt::FIRST, broken).outlasts(at(0)) && lease(Attempt::FIRST, broken).outlasts(at(broken)));
        assert!(lease(second, broken).outlasts(at(0)));
    }

    #[test]
    fn what_a_change_just_deployed_is_waited_for_and_what_it_did_long_ago_is_not() {
        let change_id = ChangeId::new(at(0), [1; 10]);
        let head = |running: Option<&str>| Head {
            seq: 3,
            hash: "hash".to_owned(),
            record: RecordKey::new(change_id.clone(), RecordPlace::RESULT),
            highest: change_id.clone(),
            begun: Some(change_id.clone()),
            begun_by: None,
            running: running.map(str::to_owned),
            failed: false,
            lease: None,
        };
        let new = head(Some("web:2"));
        assert!(new.has_just_deployed_other_than(Some("web:1"), at(189_999)));
        assert!(new.has_just_deployed_other_than(None, at(1)));
        assert!(!new.has_just_deployed_other_than(Some("web:1"), at(190_000)));
        assert!(!new.has_just_deployed_other_than(Some("web:2"), at(1)));
        assert!(!head(None).has_just_deployed_other_than(Some("web:1"), at(1)), "nobody knows what is to run");
    }

    #[test]
    fn nobody_takes_a_lease_before_it_has_been_over_for_the_grace() {
        let change_id = ChangeId::new(at(0), [1; 10]);
        let lease = Lease { change_id, attempt: Attempt::FIRST, until: at(60_000), key: String::new() };
        assert!(lease.holds(at(64_999)));
        assert!(!lease.holds(at(65_000)));
    }
    #[test]
    fn an_attempt_that_somebody_else_began_is_not_ones_own() {
        let change_id = ChangeId::new(at(0), [1; 10]);
        let lease = |until| Lease { change_id: change_id.clone(), attempt: Attempt::FIRST, until, key: String::new() };
        let head = |seq, hash: &str, lease| Head {
            seq,
            hash: hash.to_owned(),
            record: RecordKey::new(change_id.clone(), RecordPlace::STARTED),
            highest: change_id.clone(),
            begun: Some(change_id.clone()),
            begun_by: None,
            running: None,
            failed: false,
            lease,
        };
        let own = head(3, "mine", Some(lease(at(9))));
        assert!(own.follows(&own));
        assert!(head(4, "an outcome", Some(lease(at(9)))).follows(&own));
        assert!(!head(3, "another's", Some(lease(at(9)))).follows(&own));
        assert!(!head(4, "an outcome", Some(lease(at(10)))).follows(&own));
        assert!(!head(4, "its result", None).follows(&own));
    }
}
