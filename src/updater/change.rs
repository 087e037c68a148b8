//! A change from what was read for it to its answer: tried again where the ledger moved between.

use std::time::Duration;

use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ids::{ChangeId, ServiceKey};
use domain::ledger::admission::{Admission, EventFacts};
use domain::ledger::clock::Reading;
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

/// How often a change is planned anew where the head moved between reading and writing.
const ATTEMPTS: u32 = 5;

/// The pause before that.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };

/// How often head and key are read until an answer came quickly enough to compare clocks.
const CLOCK_READINGS: u32 = 3;

impl Updater {
    /// Does what `request`, no dry run, asks, from what was read for it on. What fails before a change begins is noted under its key, so that
    /// the same event, sent again, does not undo what began meanwhile.
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
        for tries in 1..=ATTEMPTS {
            let tried =
                self.step(request, invocation, target, images, &mut read, &mut seen, permit, &mut turn, &key_id);
            match Box::pin(tried).await {
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
                Ok(Attempt::Again) => {}
                // The same event is worked on elsewhere: what is refused here may be that one's own work.
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

    /// One try at a change, by what was read.
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
        if let Admission::Busy(lease) = &admission {
            self.queue_up(request, read, &asker, lease, now).await;
        }
        if let Some(decided) = messages::without_touching(&admission, request, &read.value.position, now) {
            return decided.map(|response| Attempt::Ended(Box::new(response)));
        }
        // Only now: a stored answer needs no session, and no clock.
        let begun = |failure| messages::of_begun(failure, &admission);
        self.compare_clocks(request, read, key_id).await.map_err(begun)?;
        let target = target.as_ref().map_err(Clone::clone).map_err(begun)?;
        let found = match &admission {
            // Before the look at the service: that one grows old.
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
                // It has its result: only its lease was left.
                None => Box::pin(self.begin(work, looked, position, turn)).await,
            },
            _ => Box::pin(self.begin(work, looked, position, turn)).await,
        }
    }

    /// The record with which a change began, for people: where it cannot be read, its id has to do.
    pub(super) async fn last_begun(&self, key: &ServiceKey, change_id: &ChangeId) -> Option<Record> {
        for place in [RecordPlace::STARTED, RecordPlace::RESULT] {
            let record = self.store().record(key, &RecordKey::new(change_id.clone(), place)).await;
            if let Some(record) = record.ok()? {
                return Some(record);
            }
        }
        None
    }

    /// Whether this environment's clock may be trusted with a lease. Reads head and key again where no answer said so.
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
            // What is decided was decided by the position that was read first: STARTED demands that it is still so.
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
    /// It began and failed, or what stands under its key is that it failed.
    Failed(Failure),
    /// It failed before it began.
    Session(Failure),
    /// The time left did not allow to begin it.
    NotStarted(Failure),
}

impl ChangeError {
    /// Whether it is refused and would be refused again.
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
    /// Head, key and who waits; they arrived before the service was described.
    pub(super) position: Result<Measured<Standing>, LedgerError>,
    /// The service, where it was described together with others.
    pub(super) seen: Option<Described>,
}

/// How a try at a change ended.
pub(super) enum Attempt {
    /// With an answer.
    Ended(Box<Response>),
    /// Somebody else wrote: what, and the position as it is now, where that was read.
    Moved(String, Option<Box<Standing>>),
    /// What was read has grown old while the change waited for its turn: read again.
    Again,
}
