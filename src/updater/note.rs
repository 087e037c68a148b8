//! What is noted of an event that was refused, so that the same event is recognized if it is sent again.

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

/// How long the note of a failed event may take: its caller waits for the failure.
pub(super) const NOTE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the write is attempted in that time.
const NOTE_TRIES: u32 = 3;

/// How long it may take to note that the caller of an event waits: the caller gets the same answer without the note.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

impl Updater {
    /// Notes an event that failed before a change began. If it could not be noted, the failure says so.
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
            // The refusal may be caused by the same event, processed elsewhere, of which its key showed nothing when it was read.
            Ok(Note::Stands)
                if stop.is_final()
                    && read.position.key.is_some()
                    && self.has_begun_since(request, read, key_id).await =>
            {
                (stop, Note::Moved)
            }
            Ok(noted) => (stop, noted),
            // By now, the key exists, whatever it says: it is read again.
            Err(LedgerError::Conflict(_)) => (stop, Note::Moved),
            // The same holds if nothing could be noted: the note would have shown it.
            Err(_) if stop.is_final() && self.has_begun_since(request, read, key_id).await => (stop, Note::Moved),
            Err(error) => (stop.map(|failure| failure.and(messages::not_noted(&error))), Note::Stands),
        }
    }

    /// Whether a change of this key began after the key was read. If that cannot be read, the answer is no.
    pub(super) async fn has_begun_since(&self, request: &UpdateRequest, read: &Standing, key_id: &str) -> bool {
        let progress = |position: &LedgerState| position.key.as_ref().and_then(KeyItem::progress).cloned();
        if progress(&read.position).is_some() {
            return false;
        }
        let now = tokio::time::timeout(NOTE_TIMEOUT, self.store().read(&request.service_key, key_id)).await;
        now.is_ok_and(|now| now.is_ok_and(|now| progress(&now.value.position).is_some()))
    }

    /// Notes that an event was received, together with the change that had begun by then; unless its key already knows the event, or the
    /// event's own time shows which change came after it, because a mark would lose that.
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
        // Together with the change that had begun when the event was first seen, however late the note is written.
        let caller = caller(request, invocation, key_id);
        let first = read.before(&asker(request, &caller, key_id), now).map(|first| first.key.as_str());
        let to = KeyItem::seen(key_id, &request.event_hash, position.begun().cloned(), now).letting_go_first(first);
        let bound = Bound::new(NOTE_TRIES, Instant::now() + NOTE_TIMEOUT);
        let read = async || self.store().read(&request.service_key, key_id).await.map(|read| read.value.position);
        let noted = commit(self.store(), self.random, bound, Some(position.clone()), read, |known: &LedgerState| {
            // The first note counts.
            if let Some(key) = known.key(now) {
                return Ok(Decision::Done(if *key == to { Note::Stands } else { Note::Moved }));
            }
            let write = Write::Key { from: known.key.clone(), to: to.clone() };
            Ok(Decision::Write(vec![write], Note::Stands))
        });
        let late = || Err(LedgerError::Time("DynamoDB did not answer in time".to_owned()));
        tokio::time::timeout(NOTE_TIMEOUT, noted).await.unwrap_or_else(|_| late())
    }

    /// Notes that the caller was refused because of a lease, so that the caller gets the next turn. If it cannot be noted, the caller
    /// competes as before: the answer is the same. An environment whose clock is not known to be right notes nothing.
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
            // Another caller was noted at the same time: the next refusal notes this one.
            Ok(Err(LedgerError::Conflict(why))) => tracing::debug!(%service, "who waits was not noted: {why}"),
            Ok(Err(error)) => tracing::warn!(%service, "who waits for the service could not be noted: {error}"),
            Err(_) => tracing::warn!(%service, "who waits for the service could not be noted in time"),
        }
    }
}

/// What became of the note of an event that failed before a change began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// The note is written, or is not needed.
    Stands,
    /// Somebody else has written to the key since it was read.
    Moved,
}
