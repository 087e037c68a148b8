//! Idempotency keys: what became of the event of a key, so that the same event sent again receives the same answer, continues its change,
//! or learns that another change came after it.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Failure;
use crate::ids::{ChangeId, ServiceKey};
use crate::ledger::key::Attempt;
use crate::response::Response;
use crate::text::hex;

/// How long a key is valid after its last write: a Step Functions redrive may come after 14 days.
const KEY_LIFETIME: Duration = Duration::days(15);
/// Longest answer kept, in bytes: an item holds 400 KB.
const MAX_ANSWER: usize = 380 * 1024;

/// The item of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyItem {
    /// `key#…`.
    pub id: String,
    /// Hash of the event that came with it.
    pub event_hash: String,
    /// What became of it.
    pub stage: Stage,
    /// When it is no longer valid, in seconds since 1970.
    pub expires_at: i64,
}

/// What became of a key's event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The event was received, and failed before a change began.
    Seen {
        /// The last change of the service that had begun by then.
        mark: Option<ChangeId>,
        /// Id of the key of the event that had the next turn then, if that was another one: its change may begin before this one's.
        first: Option<String>,
    },
    /// Its change began.
    Begun(Progress),
}

/// How far the change of a key got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The change.
    pub change_id: ChangeId,
    /// The last attempt that began.
    pub attempt: Attempt,
    /// Whether a call of one of its attempts may have changed something. This is so as long as an attempt has no
    /// result.
    pub acted: bool,
    /// The answer, once it is final: JSON of [`StoredAnswer`].
    pub answer: Option<String>,
    /// Until when, at the latest, an invocation follows the change's deployment: only one does so at a time.
    pub waiter_until: Option<DateTime<Utc>>,
}

/// The caller that invoked the updater by this alias, in the form that idempotency keys use.
#[must_use]
pub fn caller(alias: &str) -> String {
    format!("alias:{alias}")
}

impl KeyItem {
    /// Id of a key's item: the hash of caller, key and service key, separated by a character that callers and service keys cannot
    /// contain.
    #[must_use]
    pub fn id(caller: &str, idempotency_key: &str, service: &ServiceKey) -> String {
        format!("key#{}", hex(&Sha256::digest(format!("{caller}\0{idempotency_key}\0{service}"))))
    }

    /// The key of an event that failed before a change began. `mark` is the last change that had begun.
    #[must_use]
    pub fn seen(id: &str, event_hash: &str, mark: Option<ChangeId>, now: DateTime<Utc>) -> Self {
        Self::at(id, event_hash, Stage::Seen { mark, first: None }, now)
    }

    /// The same key, for an event that came while the event of another key had the next turn.
    #[must_use]
    pub fn letting_go_first(mut self, key: Option<&str>) -> Self {
        if let Stage::Seen { first, .. } = &mut self.stage {
            *first = key.map(str::to_owned);
        }
        self
    }

    /// The key of a change when an attempt at it begins.
    #[must_use]
    pub fn begun(id: &str, event_hash: &str, change_id: ChangeId, attempt: Attempt, now: DateTime<Utc>) -> Self {
        Self::at(
            id,
            event_hash,
            Stage::Begun(Progress { change_id, attempt, acted: true, answer: None, waiter_until: None }),
            now,
        )
    }

    fn at(id: &str, event_hash: &str, stage: Stage, now: DateTime<Utc>) -> Self {
        let expires_at = (now + KEY_LIFETIME).timestamp();
        Self { id: id.to_owned(), event_hash: event_hash.to_owned(), stage, expires_at }
    }

    /// How far its change got, where one began.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        match &self.stage {
            Stage::Seen { .. } => None,
            Stage::Begun(progress) => Some(progress),
        }
    }

    /// The key with a final answer of its change.
    ///
    /// # Errors
    ///
    /// Where the answer has no JSON.
    pub fn answered(&self, answer: &StoredAnswer, now: DateTime<Utc>) -> serde_json::Result<Self> {
        let mut text = serde_json::to_string(answer)?;
        if text.len() > MAX_ANSWER {
            text = serde_json::to_string(&StoredAnswer::TooLong)?;
        }
        Ok(self.with(now, |progress| progress.answer = Some(text)))
    }

    /// The key of a change whose deployment the invocation that writes this follows until the given time.
    #[must_use]
    pub fn waited_for(mut self, until: Option<DateTime<Utc>>) -> Self {
        if let Stage::Begun(progress) = &mut self.stage {
            progress.waiter_until = until;
        }
        self
    }

    /// Until when an invocation follows the change's deployment, if one does so `now`. An invocation that has died in the meantime counts
    /// until then, and no longer.
    #[must_use]
    pub fn waiter(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.progress()?.waiter_until.filter(|until| *until > now)
    }

    /// The key of a change whose attempt failed and may be retried. `acted` says whether any attempt may have changed something.
    #[must_use]
    pub fn failed(&self, acted: bool, now: DateTime<Utc>) -> Self {
        self.with(now, |progress| progress.acted = acted)
    }

    fn with(&self, now: DateTime<Utc>, change: impl FnOnce(&mut Progress)) -> Self {
        let mut key = Self { expires_at: (now + KEY_LIFETIME).timestamp(), ..self.clone() };
        if let Stage::Begun(progress) = &mut key.stage {
            change(progress);
        }
        key
    }

    /// Whether it is still valid. The table's own expiry comes up to days later.
    #[must_use]
    pub fn counts(&self, now: DateTime<Utc>) -> bool {
        self.expires_at > now.timestamp()
    }
}

/// The final answer of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredAnswer {
    /// The change succeeded.
    Response(Box<Response>),
    /// The change failed for good.
    Failure(Failure),
    /// The change ended, and its answer was too long to keep: the history has it.
    TooLong,
}
