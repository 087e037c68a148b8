//! The one way to write to the ledger while others write to it: read, decide, write. This is repeated if something changed since it was
//! read, and if it is not known whether a write succeeded.
//!
//! The deciding function sees what was read, and recognizes its own write by the key of its record, which nobody else writes.

use std::time::Duration;

use domain::ledger::write::{LedgerError, Write};
use tokio::time::Instant;

use crate::aws::ledger_store::LedgerStore;
use crate::backoff::Backoff;

/// The pause before the next attempt reads and decides again.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(40), longest: Duration::from_secs(5) };
/// The shortest timeout of a write, even if less time is left.
const MIN_WRITE: Duration = Duration::from_secs(1);
/// The shortest timeout of the read that checks what may have been written: the answer still has to be returned after it.
const MIN_LOOK: Duration = Duration::from_millis(500);

/// What has to be done, given what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<T> {
    /// Do these writes, all or none; then the commit is done.
    Write(Vec<Write>, T),
    /// There is nothing to write, or nothing any more.
    Done(T),
}

/// How long the commit is attempted.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// The largest number of attempts.
    pub tries: u32,
    /// The time at which the attempts end, if it comes first.
    pub until: Instant,
    /// How long to look for a write of which it is not known whether it succeeded. One read is done after `until` in any case, because the
    /// function may have been frozen while it waited for the answer.
    pub looks_until: Instant,
}

impl Bound {
    /// At most this number of attempts, until this time.
    #[must_use]
    pub fn new(tries: u32, until: Instant) -> Self {
        Self { tries, until, looks_until: until }
    }
}

/// Writes what `decide` returns. `first` is what was already read before, if anything was.
///
/// # Errors
///
/// The last failure if the bound is reached; or a failure that cannot be retried at once.
pub async fn commit<S, T>(
    store: &LedgerStore,
    random: fn() -> [u8; 10],
    bound: Bound,
    first: Option<S>,
    read: impl AsyncFn() -> Result<S, LedgerError>,
    decide: impl Fn(&S) -> Result<Decision<T>, LedgerError>,
) -> Result<T, LedgerError> {
    let mut known = first;
    let mut tries = 0;
    // A failure of the write says more than a failure of the read after it.
    let mut unwritten = None;
    // A later refusal may be due to an earlier write whose answer was lost.
    let mut may_be_written = false;
    loop {
        tries += 1;
        let error = match Box::pin(step(store, bound.until, known.take(), &read, &decide)).await {
            Ok(done) => return Ok(done),
            Err(Failed::ToWrite(error)) => {
                may_be_written |= error.may_have_been_done();
                unwritten = Some(error.clone());
                error
            }
            // What may have been written is looked for as long as there is time, even if one read is refused.
            Err(Failed::ToRead(error @ LedgerError::Encoding(_))) => error,
            Err(Failed::ToRead(error)) => unwritten.clone().unwrap_or(error),
        };
        let pause = PAUSE.pause(tries, random);
        if !error.retryable() || tries >= bound.tries || Instant::now() + pause >= bound.until {
            return if may_be_written {
                if !error.may_have_been_done() {
                    tokio::time::sleep(pause.min(MIN_LOOK)).await;
                }
                Box::pin(look(bound.looks_until, random, error, &read, &decide)).await
            } else {
                Err(error)
            };
        }
        tokio::time::sleep(pause).await;
    }
}

/// Looks for a write of which it is not known whether it succeeded, and writes nothing more. Returns `error` if the write did not succeed,
/// or if that cannot be read in time.
async fn look<S, T>(
    until: Instant,
    random: fn() -> [u8; 10],
    error: LedgerError,
    read: &impl AsyncFn() -> Result<S, LedgerError>,
    decide: &impl Fn(&S) -> Result<Decision<T>, LedgerError>,
) -> Result<T, LedgerError> {
    let mut looks = 0;
    loop {
        looks += 1;
        match within("dynamodb:BatchGetItem", until.max(Instant::now() + MIN_LOOK), read()).await {
            Ok(state) => {
                return match decide(&state)? {
                    Decision::Done(done) => Ok(done),
                    Decision::Write(..) => Err(error),
                };
            }
            Err(unread) => {
                let pause = PAUSE.pause(looks, random);
                if !unread.retryable() || Instant::now() + pause >= until {
                    return Err(error);
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn step<S, T>(
    store: &LedgerStore,
    until: Instant,
    known: Option<S>,
    read: &impl AsyncFn() -> Result<S, LedgerError>,
    decide: &impl Fn(&S) -> Result<Decision<T>, LedgerError>,
) -> Result<T, Failed> {
    let state = match known {
        Some(state) => state,
        None => within("dynamodb:BatchGetItem", at_least(until), read()).await.map_err(Failed::ToRead)?,
    };
    match decide(&state).map_err(Failed::ToRead)? {
        Decision::Done(done) => Ok(done),
        Decision::Write(writes, done) => {
            // Half of the time, so that enough is left to look for a write whose answer is not received.
            let half = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
            let written = within("dynamodb:ExecuteTransaction", at_least(half), store.write(&writes)).await;
            written.map(|()| done).map_err(Failed::ToWrite)
        }
    }
}

/// Which part of an attempt failed.
enum Failed {
    ToRead(LedgerError),
    ToWrite(LedgerError),
}

fn at_least(until: Instant) -> Instant {
    until.max(Instant::now() + MIN_WRITE)
}

async fn within<T>(
    operation: &str,
    until: Instant,
    what: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    let late = || LedgerError::Time(format!("{operation}: no answer came in the time of this invocation"));
    tokio::time::timeout_at(until, what).await.unwrap_or_else(|_| Err(late()))
}
