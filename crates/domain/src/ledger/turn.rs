//! Who has the next turn at a service: what an event may do, beside those who wait.

use chrono::{DateTime, Utc};

use crate::ledger::admission::{Admission, EventFacts, LedgerState};
use crate::ledger::head::{LEASE_GRACE, Lease};
use crate::ledger::queue::{Asker, KEPT, LASTS, MAX_WAITING, Queue, Waiting};

/// What was read of a service for an event: its position, and who waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Head and key.
    pub position: LedgerState,
    /// Who waits.
    pub queue: Queue,
}

impl Standing {
    /// What the event may do `now`: as [`LedgerState::admits`] says, but what would begin waits while another has the next turn.
    #[must_use]
    pub fn admits(&self, event: EventFacts<'_>, asker: &Asker<'_>, now: DateTime<Utc>) -> Admission {
        match self.position.admits(event, now) {
            Admission::Begin { orphan } => match self.before(asker, now) {
                Some(first) => Admission::TurnOf(first.clone()),
                None => Admission::Begin { orphan },
            },
            other => other,
        }
    }

    /// Who has the next turn, where that is not the one who asks.
    #[must_use]
    pub fn before(&self, asker: &Asker<'_>, now: DateTime<Utc>) -> Option<&Waiting> {
        self.waiting(now).next().filter(|first| first.caller != asker.caller)
    }

    /// Those who wait `now`, without those who had their turn.
    ///
    /// The last change that began tells: all who had waited before it, and stood before its caller or were its caller, had their turn or let
    /// it pass. Where its caller did not wait at all, nobody did whose turn still stood.
    pub(super) fn waiting(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Waiting> {
        let begun = self.position.begun();
        let waited = move |waiting: &Waiting| begun.is_some_and(|begun| *begun > waiting.after);
        let by = self.position.head.as_ref().and_then(|head| head.begun_by.as_ref());
        let own =
            by.and_then(|by| self.queue.waiting.iter().position(|waiter| waiter.caller == by.caller && waited(waiter)));
        let had = own.map_or(self.queue.waiting.len(), |own| own + 1);
        let stands = move |waiting: &Waiting| now < waiting.until && waiting.until <= now + LASTS + LEASE_GRACE * 2;
        let left = self.queue.waiting.iter().enumerate().filter(move |(at, waiter)| *at >= had || !waited(waiter));
        left.map(|(_, waiting)| waiting).filter(move |waiting| stands(waiting))
    }

    /// Who waits from now on, where that is to be written: the one who asks is refused for this lease.
    ///
    /// Nobody waits for himself, nor for whom the ledger does not tell.
    #[must_use]
    pub fn refused(&self, asker: &Asker<'_>, lease: &Lease, now: DateTime<Utc>) -> Option<Queue> {
        let holder = self.position.head.as_ref()?.begun_by.as_ref()?;
        if !asker.may_wait || holder.caller == asker.caller || lease.key == asker.key {
            return None;
        }
        // Whoever had his turn by now is left out: the others wait behind the change that holds the service.
        let behind = |waiting: &Waiting| Waiting { after: lease.change_id.clone(), ..waiting.clone() };
        let mut waiting: Vec<Waiting> = self.waiting(now).map(behind).collect();
        let own = Waiting {
            caller: asker.caller.to_owned(),
            key: asker.key.to_owned(),
            after: lease.change_id.clone(),
            until: super::head::milliseconds(now + LASTS),
        };
        let is_full = waiting.len() >= MAX_WAITING;
        match waiting.iter_mut().find(|waiting| waiting.caller == asker.caller) {
            Some(known) if known.until - now > KEPT => return None,
            Some(known) => *known = own,
            None if is_full => return None,
            None => waiting.push(own),
        }
        Some(Queue { waiting, stored: self.queue.stored.clone() })
    }
}
