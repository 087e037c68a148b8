//! What is noted of an event that was refused, so that the same event, sent again, is known.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::event::request::UpdateRequest;
use domain::ledger::admission::{Admission, LedgerState};
use domain::ledger::clock::Reading;
use domain::ledger::head::Lease;
use domain::ledger::idempotency::KeyItem;
use domain::ledger::queue::Asker;
use domain::ledger::turn::Standing;
use domain::ledger::write::{LedgerError, Write};
use tokio::time::Instant;

use super::change::ChangeError;
use super::{Invocation, Updater, asker, caller, event, messages};
use crate::aws::ledger_store::Measured;
use crate::commit::{Bound, Decision, commit};

/// How long the note of an event that failed may take: its caller waits for the failure.
pub(super) const NOTE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often it is written in that time.
const NOTE_TRIES: u32 = 3;

/// How long it may take to note that the caller of an event waits: it gets the same answer without.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

impl Updater {
    /// Notes an event that failed before a change began; where that could not be, the failure says so.
    pub(super) async fn noted(
        &self,
        stop: ChangeError,
        request: &UpdateRequest,
        invocation: &Invocation,
        read: &Standing,
        key_id: &str,
    ) -> (ChangeError, Note) {
        if matches!(stop, ChangeError::Failed(_)) {
            return (stop, Note::Stands);
        }
        match self.note(request, invocation, read, key_id).await {
            // What is refused may be the work of the same event elsewhere, which its key told nothing of when it was read.
            Ok(Note::Stands)
                if stop.is_final()
                    && read.position.key.is_some()
                    && self.has_begun_since(request, read, key_id).await =>
            {
                (stop, Note::Moved)
            }
            Ok(noted) => (stop, noted),
            // Its key is known by now, whatever it says: it is looked at again.
            Err(LedgerError::Conflict(_)) => (stop, Note::Moved),
            // The same where nothing could be noted, which would have told.
            Err(_) if stop.is_final() && self.has_begun_since(request, read, key_id).await => (stop, Note::Moved),
            Err(error) => (stop.map(|failure| failure.and(messages::not_noted(&error))), Note::Stands),
        }
    }

    /// Whether a change of this key began after it was read. Where that cannot be read, it is as it was.
    pub(super) async fn has_begun_since(&self, request: &UpdateRequest, read: &Standing, key_id: &str) -> bool {
        let progress = |position: &LedgerState| position.key.as_ref().and_then(KeyItem::progress).cloned();
        if progress(&read.position).is_some() {
            return false;
        }
        let now = tokio::time::timeout(NOTE_TIMEOUT, self.store().read(&request.service_key, key_id)).await;
        now.is_ok_and(|now| now.is_ok_and(|now| progress(&now.value.position).is_some()))
    }

    /// Notes that an event came, with what had begun by then, unless its key knows of it, or its own time tells what came after it: a
    /// mark would forget that.
    pub(super) async fn note(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        read: &Standing,
        key_id: &str,
    ) -> Result<Note, LedgerError> {
        let now = (self.clock)();
        let position = &read.position;
        let is_overtaken = matches!(position.admits(event(request), now), Admission::Overtaken { .. });
        if position.key(now).is_some() || is_overtaken {
            return Ok(Note::Stands);
        }
        // With what had begun when the event was first seen, however late it is written.
        let caller = caller(request, invocation, key_id);
        let first = read.before(&asker(request, &caller, key_id), now).map(|first| first.key.as_str());
        let to = KeyItem::seen(key_id, &request.event_hash, position.begun().cloned(), now).letting_go_first(first);
        let bound = Bound::new(NOTE_TRIES, Instant::now() + NOTE_TIMEOUT);
        let read = async || self.store().read(&request.service_key, key_id).await.map(|read| read.value.position);
        let noted = commit(self.store(), self.random, bound, Some(position.clone()), read, |known: &LedgerState| {
            // The first one counts.
            if let Some(key) = known.key(now) {
                return Ok(Decision::Done(if *key == to { Note::Stands } else { Note::Moved }));
            }
            let write = Write::Key { from: known.key.clone(), to: to.clone() };
            Ok(Decision::Write(vec![write], Note::Stands))
        });
        let late = || Err(LedgerError::Time("DynamoDB did not answer in time".to_owned()));
        tokio::time::timeout(NOTE_TIMEOUT, noted).await.unwrap_or_else(|_| late())
    }

    /// Notes that whoever asks was refused for a lease, so that its turn comes next. Where that cannot be, it comes as before: the answer
    /// is the same, and a clock that is not known to be right notes nothing.
    pub(super) async fn queue_up(
        &self,
        request: &UpdateRequest,
        read: &Measured<Standing>,
        asker: &Asker<'_>,
        lease: &Lease,
        now: DateTime<Utc>,
    ) {
        let service = &request.service_key;
        let queue = read.value.refused(asker, lease, now).filter(|_| read.clock == Reading::Right);
        let Some(to) = queue else { return };
        let writes = [Write::Queue { service: service.clone(), to }];
        match tokio::time::timeout(QUEUE_TIMEOUT, self.store().write(&writes)).await {
            Ok(Ok(())) => {}
            // Another one was noted at the same time: the next refusal notes this one.
            Ok(Err(LedgerError::Conflict(why))) => tracing::debug!(%service, "who waits was not noted: {why}"),
            Ok(Err(error)) => tracing::warn!(%service, "who waits for the service could not be noted: {error}"),
            Err(_) => tracing::warn!(%service, "who waits for the service could not be noted in time"),
        }
    }
}

/// What became of the note of an event that failed before a change began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// It stands, or is not needed.
    Stands,
    /// Somebody else has written under the key since it was read.
    Moved,
}
