//! Items of the state table, and what may happen given them.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::{ChangeFacts, Kind, Pointer, Record, hex};
use crate::error::Failure;
use crate::names::{ChangeId, ServiceKey};
use crate::response::Response;
use crate::snapshot::Recorded;

/// How long a lease may last after `STARTED`: Lambda retries an asynchronous event after one and two minutes, and a
/// retry must not meet the lease of its own dead predecessor.
const LONGEST_LEASE: Duration = Duration::seconds(120);
/// How long a lease outlives the invocation, so that its result can still be written under it.
const LEASE_GRACE: Duration = Duration::seconds(5);
/// How long an answer is kept: a Step Functions redrive may come after 14 days.
const KEY_LIFETIME: Duration = Duration::days(15);
/// How long it is known which change started a deployment.
const DEPLOYMENT_LIFETIME: Duration = Duration::days(30);
/// When ECS is asked for the first time how a deployment stands whose end nobody told: most have ended by then.
const FIRST_LOOK: Duration = Duration::minutes(10);
/// The longest time until it is asked again.
const LAST_LOOK: Duration = Duration::hours(6);
/// Longest answer kept, in bytes: an item holds 400 KB.
const LONGEST_ANSWER: usize = 380 * 1024;

/// The one mutable item per service: where its ledger ends, and who may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `seq` of the last record.
    pub seq: u64,
    /// `hash` of the last record.
    pub hash: String,
    /// Sort key of the last record.
    pub record: String,
    /// The last change.
    pub change_id: String,
    /// Who may change the service, where somebody may.
    pub lease: Option<Lease>,
}

/// The right to change one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The change that holds it.
    pub change_id: String,
    /// When it ends by itself.
    pub until: DateTime<Utc>,
    /// Id of its holder's idempotency key item, which gets an answer where the holder never gives one.
    pub key: String,
}

impl Head {
    /// Id of a service's head.
    #[must_use]
    pub fn id(service: &ServiceKey) -> String {
        format!("service#{service}")
    }

    /// The head of a ledger that ends in `record`.
    #[must_use]
    pub fn after(record: &Record, lease: Option<Lease>) -> Self {
        Self {
            seq: record.seq,
            hash: record.hash.clone(),
            record: record.record.clone(),
            change_id: record.change_id.clone(),
            lease,
        }
    }
}

/// The head behind a record: the lease `own` ends, another's stays (a resumption's of the same change too), and the last
/// change is the latest that began.
#[must_use]
pub fn next_head(record: &Record, head: Option<&Head>, own: Option<&Lease>) -> Head {
    let lease = head.and_then(|head| head.lease.clone()).filter(|lease| Some(lease) != own);
    let mut next = Head::after(record, lease);
    if let Some(head) = head.filter(|head| head.change_id > next.change_id) {
        next.change_id.clone_from(&head.change_id);
    }
    next
}

/// When the lease of a change ends that starts `now` in an invocation that ends at `deadline`.
#[must_use]
pub fn lease_until(now: DateTime<Utc>, deadline: DateTime<Utc>) -> DateTime<Utc> {
    deadline.min(now + LONGEST_LEASE) + LEASE_GRACE
}

/// The item of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyItem {
    /// `key#…`.
    pub id: String,
    /// The change that the key stands for.
    pub change_id: String,
    /// Hash of the event that came with it.
    pub event_hash: String,
    /// The answer, once there is one: JSON of [`Answer`].
    pub answer: Option<String>,
    /// When it no longer counts, in seconds since 1970. 0 where it was released.
    pub expires_at: i64,
}

impl KeyItem {
    /// Id of a key's item: hash of the key and the service key, with a character between that neither can hold.
    #[must_use]
    pub fn id(idempotency_key: &str, service: &ServiceKey) -> String {
        format!("key#{}", hex(&Sha256::digest(format!("{idempotency_key}\0{service}"))))
    }

    /// The key of a change that begins.
    #[must_use]
    pub fn new(id: &str, change_id: &ChangeId, event_hash: &str, now: DateTime<Utc>) -> Self {
        Self {
            id: id.to_owned(),
            change_id: change_id.to_string(),
            event_hash: event_hash.to_owned(),
            answer: None,
            expires_at: (now + KEY_LIFETIME).timestamp(),
        }
    }

    /// The key with its answer. A failure that may pass releases the key, so that the same event is tried anew.
    ///
    /// # Errors
    ///
    /// Where the answer has no JSON.
    pub fn answered(&self, answer: &Answer, now: DateTime<Utc>) -> serde_json::Result<Self> {
        let released = matches!(answer, Answer::Failure(failure) if failure.retryable);
        let mut text = serde_json::to_string(answer)?;
        if text.len() > LONGEST_ANSWER {
            text = serde_json::to_string(&Answer::TooLong)?;
        }
        Ok(Self {
            answer: Some(text),
            expires_at: if released { 0 } else { (now + KEY_LIFETIME).timestamp() },
            ..self.clone()
        })
    }

    fn counts(&self, now: DateTime<Utc>) -> bool {
        self.expires_at > now.timestamp()
    }
}

/// What a key answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The change went well.
    Response(Box<Response>),
    /// It did not.
    Failure(Failure),
    /// It ended, and its answer was too long to keep: the history has it.
    TooLong,
}

/// A deployment: which change started it, and what is recorded of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentItem {
    /// `deployment#{account}/{region}/{deployment id}`.
    pub id: String,
    /// The service key.
    pub service: String,
    /// ARN of the service: an outcome of another service is refused.
    pub service_arn: String,
    /// The change that started it.
    pub change_id: String,
    /// Repositories under which the change is found.
    pub repositories: Vec<String>,
    /// Id of the deployment that was `PRIMARY` before.
    pub before: Option<String>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// Whether events tell how it ends: those of blue/green deployments are not documented.
    pub by_events: bool,
    /// The deployment that this one undoes, being its rollback. Empty where nothing is known of that one.
    pub undoes: Option<String>,
    /// The outcomes that are recorded, in their order.
    pub outcomes: Vec<Kind>,
    /// When ECS is to be asked how it stands; none where nothing more is to come.
    pub look_at: Option<DateTime<Utc>>,
    /// When it no longer counts, in seconds since 1970.
    pub expires_at: i64,
}

impl DeploymentItem {
    /// Id of a deployment's item.
    #[must_use]
    pub fn id(service: &ServiceKey, deployment_id: &str) -> String {
        format!("deployment#{}/{}/{deployment_id}", service.account_id(), service.region())
    }

    /// The item of a deployment of which nothing is known but which change started it.
    #[must_use]
    pub fn new(
        service: &ServiceKey,
        service_arn: &str,
        deployment_id: &str,
        change_id: &str,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id: Self::id(service, deployment_id),
            service: service.to_string(),
            service_arn: service_arn.to_owned(),
            change_id: change_id.to_owned(),
            repositories: Vec::new(),
            before: None,
            started_at: now,
            by_events: true,
            undoes: None,
            outcomes: Vec::new(),
            look_at: Some(now + FIRST_LOOK),
            expires_at: (now + DEPLOYMENT_LIFETIME).timestamp(),
        }
    }

    /// The item of the deployment that a change started, by what its service was before and is after.
    #[must_use]
    pub fn started(facts: &ChangeFacts, before: &Recorded, after: &Recorded, now: DateTime<Utc>) -> Option<Self> {
        let deployment_id = started_deployment(before, after)?;
        let started_at = after.state.updated_on.as_deref().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        let strategy = after.service.get("deploymentConfiguration").and_then(|it| it.get("strategy")?.as_str());
        let arn = &after.state.service_arn;
        Some(Self {
            repositories: facts.repositories.clone(),
            before: before.deployment_id.clone(),
            started_at: started_at.map_or(now, |at| at.with_timezone(&Utc)),
            by_events: strategy.is_none_or(|strategy| strategy == "ROLLING"),
            ..Self::new(&facts.service, arn, deployment_id, facts.change_id.as_str(), now)
        })
    }

    /// Id of the deployment.
    #[must_use]
    pub fn deployment_id(&self) -> &str {
        self.id.splitn(3, '/').nth(2).unwrap_or_default()
    }

    /// Whether an outcome goes on from those that are recorded: each comes once, and behind an end comes nothing.
    #[must_use]
    pub fn accepts(&self, outcome: Kind) -> bool {
        match self.outcomes.last() {
            None => true,
            Some(Kind::DeploymentFailed) => matches!(outcome, Kind::RolledBack | Kind::RollbackFailed),
            Some(_) => false,
        }
    }

    /// When to ask again of a deployment that is still open: the older it is, the later.
    #[must_use]
    pub fn next_look(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + ((now - self.started_at) / 4).clamp(FIRST_LOOK, LAST_LOOK)
    }
}

/// The deployment that a change started: the `PRIMARY` one, where it is not the one from before.
#[must_use]
pub fn started_deployment<'a>(before: &Recorded, after: &'a Recorded) -> Option<&'a str> {
    after.deployment_id.as_deref().filter(|id| before.deployment_id.as_deref() != Some(*id))
}

/// One write of a transaction. `from` is what was read: the write demands that it is still so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Inserts a record; fails where there is one under its key.
    Record(Box<Record>),
    /// Inserts a pointer.
    Pointer(Pointer),
    /// Inserts or moves a head.
    Head {
        /// Its id.
        id: String,
        /// What was read.
        from: Option<Head>,
        /// What it becomes.
        to: Head,
    },
    /// Inserts or changes a key.
    Key {
        /// What was read.
        from: Option<KeyItem>,
        /// What it becomes.
        to: KeyItem,
    },
    /// Inserts or changes a deployment.
    Deployment {
        /// What was read.
        from: Option<Box<DeploymentItem>>,
        /// What it becomes.
        to: Box<DeploymentItem>,
    },
}

/// Head and key as they were read together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The service's head; none before its first record.
    pub head: Option<Head>,
    /// The event's key; none where it is new.
    pub key: Option<KeyItem>,
}

/// What may happen given a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// A change may begin. An orphan is a change whose lease ended before it did: it is closed first.
    Begin {
        /// The orphan's lease.
        orphan: Option<Lease>,
    },
    /// The key's change began and did not end; it goes on.
    Resume {
        /// Its ended lease.
        lease: Lease,
    },
    /// The key has an answer: JSON of [`Answer`].
    Answered(String),
    /// The key came with another event.
    KeyReused {
        /// The change it stands for.
        change_id: String,
    },
    /// Another change holds the lease.
    Busy(Lease),
    /// The key's change never ended and lost its place: going on would undo what came after.
    Overtaken {
        /// The change the key stands for.
        change_id: String,
    },
}

impl Admission {
    /// Whether what follows depends on the service, too.
    #[must_use]
    pub fn needs_the_service(&self) -> bool {
        matches!(self, Self::Begin { .. } | Self::Resume { .. })
    }
}

impl Position {
    /// What an event with `event_hash` may do `now`. Whether a key or lease still counts is judged by the times in it:
    /// the table's own expiry comes up to days later.
    #[must_use]
    pub fn admits(&self, event_hash: &str, now: DateTime<Utc>) -> Admission {
        let lease = self.head.as_ref().and_then(|head| head.lease.clone());
        if let Some(key) = self.key.as_ref().filter(|key| key.counts(now)) {
            if key.event_hash != event_hash {
                return Admission::KeyReused { change_id: key.change_id.clone() };
            }
            if let Some(answer) = &key.answer {
                return Admission::Answered(answer.clone());
            }
            return match lease {
                Some(lease) if lease.until > now => Admission::Busy(lease),
                Some(lease) if lease.change_id == key.change_id && self.ends_in(&key.change_id) => {
                    Admission::Resume { lease }
                }
                _ => Admission::Overtaken { change_id: key.change_id.clone() },
            };
        }
        match lease {
            Some(lease) if lease.until > now => Admission::Busy(lease),
            orphan => Admission::Begin { orphan },
        }
    }

    /// The writes that lead from this position, as it was read, to `next` with a new record and its pointers.
    #[must_use]
    pub fn writes_to(&self, next: &Self, service: &ServiceKey, record: Record, pointers: Vec<Pointer>) -> Vec<Write> {
        let head = next.head.clone().map(|to| Write::Head { id: Head::id(service), from: self.head.clone(), to });
        let key = next.key.clone().map(|to| Write::Key { from: self.key.clone(), to });
        let pointers = pointers.into_iter().map(Write::Pointer);
        head.into_iter().chain(key).chain([Write::Record(Box::new(record))]).chain(pointers).collect()
    }

    fn ends_in(&self, change_id: &str) -> bool {
        self.head.as_ref().is_some_and(|head| head.change_id == change_id)
    }

    /// The time for a new change's id: ids of one service only grow.
    #[must_use]
    pub fn next_change_time(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.head
            .as_ref()
            .and_then(|head| ChangeId::parse(&head.change_id).ok())
            .map_or(now, |last| now.max(last.time() + Duration::milliseconds(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
    }

    fn change(second: i64) -> ChangeId {
        ChangeId::new(at(second), [1; 10])
    }

    fn lease(change_id: &ChangeId, until: i64) -> Lease {
        Lease { change_id: change_id.to_string(), until: at(until), key: "key#1".to_owned() }
    }

    fn head(change_id: &ChangeId, lease: Option<Lease>) -> Head {
        Head { seq: 3, hash: "h".to_owned(), record: format!("{change_id}#0"), change_id: change_id.to_string(), lease }
    }

    fn position(head: Option<Head>, key: Option<KeyItem>) -> Position {
        Position { head, key }
    }

    #[test]
    fn a_new_service_admits_a_change() {
        assert_eq!(Position::default().admits("e", at(0)), Admission::Begin { orphan: None });
    }

    #[test]
    fn a_live_lease_keeps_others_out_and_an_ended_one_is_an_orphan() {
        let holder = change(0);
        let held = position(Some(head(&holder, Some(lease(&holder, 60)))), None);
        assert_eq!(held.admits("e", at(59)), Admission::Busy(lease(&holder, 60)));
        assert_eq!(held.admits("e", at(60)), Admission::Begin { orphan: Some(lease(&holder, 60)) });
    }

    #[test]
    fn a_key_answers_once_answered_and_resumes_before() {
        let own = change(0);
        let key = KeyItem::new("key#1", &own, "e", at(0));
        let running = position(Some(head(&own, Some(lease(&own, 60)))), Some(key.clone()));
        assert!(matches!(running.admits("e", at(59)), Admission::Busy(_)));
        assert!(matches!(running.admits("e", at(61)), Admission::Resume { .. }));
        assert!(matches!(running.admits("other", at(61)), Admission::KeyReused { .. }));

        let failure = Failure::new(Code::ServiceUpdateFailed, "no");
        let answered = key.answered(&Answer::Failure(failure.clone()), at(1)).unwrap();
        assert!(matches!(position(None, Some(answered)).admits("e", at(2)), Admission::Answered(_)));

        let released = key.answered(&Answer::Failure(failure.retryable(true)), at(1)).unwrap();
        assert_eq!(position(None, Some(released)).admits("other", at(2)), Admission::Begin { orphan: None });
        let expired = position(None, Some(key)).admits("other", at(16 * 86_400));
        assert_eq!(expired, Admission::Begin { orphan: None });
    }

    #[test]
    fn a_change_that_was_overtaken_is_not_resumed() {
        let own = change(0);
        let key = KeyItem::new("key#1", &own, "e", at(0));
        for head in [head(&change(5), None), head(&change(5), Some(lease(&own, 10))), head(&own, None)] {
            let overtaken = position(Some(head), Some(key.clone())).admits("e", at(61));
            assert!(matches!(overtaken, Admission::Overtaken { .. }), "{overtaken:?}");
        }
    }

    #[test]
    fn change_ids_of_a_service_only_grow() {
        let position = position(Some(head(&change(10), None)), None);
        assert_eq!(position.next_change_time(at(5)), at(10) + Duration::milliseconds(1));
        assert_eq!(position.next_change_time(at(20)), at(20));
    }

    #[test]
    fn a_lease_ends_soon_after_its_invocation_and_within_about_two_minutes() {
        assert_eq!(lease_until(at(0), at(30)), at(35));
        assert_eq!(lease_until(at(0), at(900)), at(125));
    }
}
