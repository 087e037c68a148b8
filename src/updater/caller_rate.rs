//! Counts how many events a caller of the API sends.

use std::time::Duration;

use domain::error::Failure;
use domain::ids::VERIFIED_ALIAS;
use domain::ledger::rate::Rate;
use domain::ledger::write::{LedgerError, Write};
use tokio::time::Instant;

use super::{Invocation, Updater, messages};
use crate::commit::{Bound, Decision, commit};

/// How often the count of an event is attempted while other events of its caller are counted at the same time, and for how long at most.
const COUNT: (u32, Duration) = (8, Duration::from_secs(5));

impl Updater {
    /// Counts an event that was received through the API, before anything is done for it. If it cannot be counted, the event is processed
    /// nevertheless: what it asks for needs the same table.
    ///
    /// # Errors
    ///
    /// [`domain::error::Code::CallerThrottled`], if more events of its caller were received in this minute than are allowed.
    pub async fn count(&self, requested_by: Option<&str>, invocation: &Invocation) -> Result<(), Failure> {
        let (Some(limit), Some(caller)) =
            (self.config.caller_events.filter(|_| invocation.is_verified()), requested_by)
        else {
            return Ok(());
        };
        let id = &Rate::id(VERIFIED_ALIAS, caller);
        let bound = Bound::new(COUNT.0, Instant::now() + COUNT.1);
        let read = async || self.store().read_rate(id).await;
        let counted = commit(self.store(), self.random, bound, None, read, |before: &Option<Rate>| {
            Ok(match Rate::with_one_more(id, before.as_ref(), (self.clock)(), limit) {
                Ok(to) => Decision::Write(vec![Write::Rate { from: before.clone(), to }], Ok(())),
                Err(next) => Decision::Done(Err(next)),
            })
        });
        match counted.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(next)) => Err(messages::caller_throttled(caller, limit, next)),
            // If so many events are sent at once that this one cannot be counted, they are too many.
            Err(LedgerError::Conflict(_)) => {
                Err(messages::caller_throttled(caller, limit, (self.clock)() + messages::COME_AGAIN))
            }
            Err(error) => {
                tracing::warn!("an event of {caller} was not counted: {error}");
                Ok(())
            }
        }
    }
}
