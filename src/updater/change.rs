//! A change, from what was read for it to its answer: it is tried again if the ledger changed in between.

use std::time::Duration;

use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ids::{ChangeId, ServiceKey};
use domain::ledger::admission::{Admission, EventFacts};
use domain::ledger::clock::Reading;
use domain::ledger::head::Head;
use domain::ledger::idempotency::KeyItem;
use domain::ledger::key::{RecordKey, RecordPlace};
use domain::ledger::record::Record;
use domain::ledger::turn::Standing;
use domain::ledger::write::LedgerError;
use domain::response::Response;

use super::image_lookup::Images;
use super::note::Note;
use super::permit::ConcurrencyPermit;
use super::snapshot::Described;
use super::target::AccountClients;
use super::turn::Turn;
use super::{Invocation, Updater, Work, asker, caller, event, key_id, messages};
use crate::aws::ledger_store::Measured;
use crate::backoff::Backoff;

/// How often a change is planned again if the head changed between reading and writing.
const ATTEMPTS: u32 = 5;

/// The pause before that.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// How often the head and the key are read until an answer arrives quickly enough to compare the clocks.
const CLOCK_READINGS: u32 = 3;

impl Updater {
    /// Does what `request`, which is not a dry run, asks for, starting from what was read for it. A failure before the change begins is
    /// noted under the key of the event, so that the same event, if it is sent again, does not undo what began meanwhile.
    pub(super) async fn change(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<AccountClients, Failure>,
        images: &Images<'_>,
        opening: Prefetched,
        permit: &ConcurrencyPermit,
    ) -> Result<Response, ChangeError> {
        let key_id = key_id(request, invocation);
        let Prefetched { position, mut seen } = opening;
        let mut read = position.map_err(|error| messages::history_unavailable(&request.service_key, &error))?;
        let mut turn = Turn::default();
        let found = read.value.position.head.clone();
        // What this invocation's own start writes, if its answer is lost. No call was sent behind it.
        let mut lost: Option<Box<Head>> = None;
        for tries in 1..=ATTEMPTS {
            let tried = self.step(
                request,
                invocation,
                target,
                images,
                &mut read,
                &mut seen,
                permit,
                &mut turn,
                &key_id,
                lost.as_deref(),
            );
            let tried = match Box::pin(tried).await {
                Ok(Attempt::Lost(head, failure)) => {
                    lost = Some(head);
                    Err(failure.into())
                }
                tried => tried,
            };
            match tried {
                Ok(Attempt::Ended(response)) => return Ok(*response),
                Ok(Attempt::Moved(why, newer)) if tries == ATTEMPTS => {
                    let failure = if newer.is_none() && read.value.position.head == found {
                        messages::never_written(request, &why)
                    } else {
                        messages::always_moved(request, read.value.position.head.as_ref(), &why)
                    };
                    return Err(self.noted(failure.into(), request, invocation, &read.value, &key_id).await.0);
                }
                Ok(Attempt::Moved(_, Some(now))) => {
                    read.value = *now;
                    continue;
                }
                Ok(Attempt::Moved(_, None)) => tokio::time::sleep(PAUSE.pause(tries, self.random)).await,
                Ok(Attempt::Again) if tries == ATTEMPTS => {
                    let stop = ChangeError::NotStarted(messages::always_old(request));
                    return Err(self.noted(stop, request, invocation, &read.value, &key_id).await.0);
                }
                Ok(Attempt::Again | Attempt::Lost(..)) => {}
                // The same event may be processed elsewhere: the refusal here may be caused by its own work there.
                Err(stop) => match self.noted(stop, request, invocation, &read.value, &key_id).await {
                    (_, Note::Moved) if tries < ATTEMPTS => {}
                    (stop, _) => return Err(stop),
                },
            }
            let again = self.store().read(&request.service_key, &key_id).await;
            read = again.map_err(|error| messages::history_unavailable(&request.service_key, &error))?;
        }
        Err(messages::always_moved(request, read.value.position.head.as_ref(), "").into())
    }

    /// One try at a change, according to what was read.
    #[expect(clippy::too_many_arguments, reason = "what a change is worked on with, and what its tries share")]
    pub(super) async fn step(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<AccountClients, Failure>,
        images: &Images<'_>,
        read: &mut Measured<Standing>,
        seen: &mut Option<Described>,
        permit: &ConcurrencyPermit,
        turn: &mut Turn,
        key_id: &str,
        lost: Option<&Head>,
    ) -> Result<Attempt, ChangeError> {
        let now = (self.clock)();
        let caller = caller(request, invocation, key_id);
        let asker = asker(request, &caller, key_id);
        let mut admission = read.value.admits(event(request), &asker, now);
        if let Admission::Overtaken { own, by } = &admission {
            let record = self.last_begun(&request.service_key, by).await;
            let sent_at = request.sent_at.filter(|_| read.value.position.key(now).is_none());
            let mark_retried = record.as_ref().zip(sent_at).is_some_and(|(record, sent_at)| {
                record.was_sent_before(&invocation.caller(), request.requested_by.as_deref(), sent_at)
            });
            if !mark_retried {
                let overtaken = messages::overtaken(request, own.as_ref(), by, record.as_ref(), sent_at);
                return Err(ChangeError::Failed(overtaken));
            }
            admission = read.value.admits(EventFacts { sent_at: None, ..event(request) }, &asker, now);
        }
        // The change began after all: this is its next attempt, as if its function had died.
        let position = &read.value.position;
        let is_its_own = matches!(admission, Admission::Busy(_))
            && lost.zip(position.head.as_ref()).is_some_and(|(lost, head)| head.follows(lost));
        if let Some(progress) = position.key.as_ref().and_then(KeyItem::progress).filter(|_| is_its_own) {
            admission = Admission::Continue(progress.clone());
        }
        if let Admission::Busy(lease) = &admission {
            self.queue_up(request, read, &asker, lease, now).await;
        }
        if let Some(decided) = messages::without_touching(&admission, request, &read.value.position, now) {
            return decided.map(|response| Attempt::Ended(Box::new(response)));
        }
        // Checked only now, because a stored answer needs neither a session nor a clock.
        let begun = |failure| messages::of_begun(failure, &admission);
        self.compare_clocks(request, read, key_id).await.map_err(begun)?;
        let target = target.as_ref().map_err(Clone::clone).map_err(begun)?;
        let found = match &admission {
            // Before the service is described, because that description grows old.
            Admission::Begin { .. } => Some(images.of(request).await?),
            _ => None,
        };
        let head = read.value.position.head.as_ref().filter(|_| matches!(admission, Admission::Begin { orphan: None }));
        let looked = self.look_behind(head, target, request, seen.take()).await.map_err(begun)?;
        let work = Work { request: found.as_ref().unwrap_or(request), invocation, target, permit, key_id };
        let position = &read.value.position;
        match &admission {
            Admission::Continue(progress) => Box::pin(self.proceed(work, looked, position, progress, turn)).await,
            Admission::Begin { orphan: Some(lease) } => match self.orphan(request, lease).await? {
                Some(orphan) => Ok(self.close_orphan(work, &looked.snapshot, position, lease, orphan).await?),
                // The change has its result: only its lease was left behind.
                None => Box::pin(self.begin(work, looked, position, turn)).await,
            },
            _ => Box::pin(self.begin(work, looked, position, turn)).await,
        }
    }

    /// The record with which a change began, for a message to people: if it cannot be read, the id of the change has to be enough.
    pub(super) async fn last_begun(&self, key: &ServiceKey, change_id: &ChangeId) -> Option<Record> {
        for place in [RecordPlace::STARTED, RecordPlace::RESULT] {
            let record = self.store().record(key, &RecordKey::new(change_id.clone(), place)).await;
            if let Some(record) = record.ok()? {
                return Some(record);
            }
        }
        None
    }

    /// Whether this environment's clock may be trusted with a lease. Reads the head and the key again if no answer has told yet.
    pub(super) async fn compare_clocks(
        &self,
        request: &UpdateRequest,
        read: &mut Measured<Standing>,
        key_id: &str,
    ) -> Result<(), Failure> {
        for _ in 1..CLOCK_READINGS {
            match read.clock {
                Reading::Right => return Ok(()),
                Reading::Off(by) => return Err(messages::clock_skewed(request, by)),
                Reading::Unknown => {}
            }
            // Everything was decided from the position that was read first: the write of STARTED requires that it is still the same.
            let again = self.store().read(&request.service_key, key_id).await;
            read.clock = again.map_err(|error| messages::history_unavailable(&request.service_key, &error))?.clock;
        }
        match read.clock {
            Reading::Right => Ok(()),
            Reading::Off(by) => Err(messages::clock_skewed(request, by)),
            Reading::Unknown => Err(messages::clock_unknown(request)),
        }
    }
}

/// Why a change was not done.
pub(super) enum ChangeError {
    /// The change began and failed, or its key states that it failed.
    Failed(Failure),
    /// The change failed before it began.
    Session(Failure),
    /// The change could not begin in the time left.
    NotStarted(Failure),
}

impl ChangeError {
    /// Whether the change was refused, and would be refused again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Session(failure) if !failure.retryable)
    }

    pub(super) fn map(self, f: impl FnOnce(Failure) -> Failure) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(f(failure)),
            Self::Session(failure) => Self::Session(f(failure)),
            Self::NotStarted(failure) => Self::NotStarted(f(failure)),
        }
    }
}

/// A failure before the change began.
impl From<Failure> for ChangeError {
    fn from(failure: Failure) -> Self {
        Self::Session(failure)
    }
}

/// What was read before a change could begin.
pub(super) struct Prefetched {
    /// The head, the key and the waiting callers; they were received before the service was described.
    pub(super) position: Result<Measured<Standing>, LedgerError>,
    /// The service, if it was described together with others.
    pub(super) seen: Option<Described>,
}

/// How a try at a change ended.
pub(super) enum Attempt {
    /// It ended with an answer.
    Ended(Box<Response>),
    /// Somebody else wrote to the ledger: what was found, and the new position if that was read.
    Moved(String, Option<Box<Standing>>),
    /// What was read has grown old while the change waited for its turn: read it again.
    Again,
    /// Whether the change began is not known: the head that its start writes, and the failure to report if nothing shows it.
    Lost(Box<Head>, Failure),
}
