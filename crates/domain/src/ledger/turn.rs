//! Who has the next turn at a service, and what an event may do while others wait.

use chrono::{DateTime, Utc};

use crate::ledger::admission::{Admission, EventFacts, LedgerState};
use crate::ledger::head::{LEASE_GRACE, Lease};
use crate::ledger::queue::{Asker, KEPT, LASTS, MAX_WAITING, Queue, Waiting};

/// What was read about a service for an event: its position, and who waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Head and key.
    pub position: LedgerState,
    /// Who waits.
    pub queue: Queue,
}

impl Standing {
    /// What the event may do `now`: as [`LedgerState::admits`] says, except that a change that could begin has to wait while another
    /// caller has the next turn.
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

    /// Who has the next turn, if that is not the asker.
    #[must_use]
    pub fn before(&self, asker: &Asker<'_>, now: DateTime<Utc>) -> Option<&Waiting> {
        self.waiting(now).next().filter(|first| first.caller != asker.caller)
    }

    /// The callers that wait `now`, without those that have had their turn.
    ///
    /// The last change that began shows this: every caller that had been waiting before it, and that was ahead of its caller or is its
    /// caller, has had its turn or let it pass. If its caller was not waiting at all, nobody was waiting whose turn was still valid.
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

    /// The queue from now on, if it has to be written, after the asker was refused because of this lease.
    ///
    /// A caller does not wait for its own change, nor for a change whose caller the ledger does not name.
    #[must_use]
    pub fn refused(&self, asker: &Asker<'_>, lease: &Lease, now: DateTime<Utc>) -> Option<Queue> {
        let holder = self.position.head.as_ref()?.begun_by.as_ref()?;
        if !asker.may_wait || holder.caller == asker.caller || lease.key == asker.key {
            return None;
        }
        // Callers that have had their turn by now are left out; the others wait behind the change that holds the
        // service.
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
