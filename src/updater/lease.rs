//! The lease of a running change, and how it is lengthened if a call may still act.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::ecs::deployment::times::ROUNDING;
use domain::ids::ServiceKey;
use domain::ledger::admission::LedgerState;
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::head::{Head, Lease, latest_effect};
use domain::ledger::write::Write;
use tokio::time::Instant;

use crate::aws::ledger_store::LedgerStore;
use crate::commit::{Bound, Decision, commit};

/// How long the lengthening of a lease is attempted: the read back waits for it.
const BOUND: (u32, Duration) = (5, Duration::from_secs(10));

/// A lease that this invocation holds, and the position that contains it, as this change wrote it last.
#[derive(Debug)]
pub(super) struct HeldLease {
    service: ServiceKey,
    lease: Lease,
    store: LedgerStore,
    random: fn() -> [u8; 10],
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    position: LedgerState,
    /// When the last call was sent that changed something or may have changed something.
    acted: Option<DateTime<Utc>>,
    /// When calls were sent whose answer was lost and whose effect was not seen.
    unsettled: Vec<DateTime<Utc>>,
}

impl HeldLease {
    pub(super) fn new(
        service: ServiceKey,
        lease: Lease,
        position: LedgerState,
        store: LedgerStore,
        random: fn() -> [u8; 10],
    ) -> Self {
        let state = Mutex::new(State { position, acted: None, unsettled: Vec::new() });
        Self { service, lease, store, random, state }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The head and the key as this change wrote them last.
    pub(super) fn position(&self) -> LedgerState {
        self.with(|state| state.position.clone())
    }

    /// Whether a lease is this one.
    pub(super) fn is_mine(&self, lease: &Lease) -> bool {
        lease.is_of(&self.lease.change_id, self.lease.attempt)
    }

    /// Whether the ledger has noted a deployment for a change before this one. A rollback that has its id was created later. If that
    /// cannot be read, the answer is no.
    pub(super) async fn is_of_an_earlier_change(&self, deployment_id: &str, created_at: Option<DateTime<Utc>>) -> bool {
        let is_its = |noted: DeploymentItem| {
            noted.change_id < self.lease.change_id && created_at.is_some_and(|at| at <= noted.started_at + ROUNDING)
        };
        let noted = self.store.read_deployment(&self.service, Some(deployment_id), None).await;
        noted.is_ok_and(|(_, noted)| noted.is_some_and(is_its))
    }

    /// A call that was sent at `sent_at` has changed something, or may have.
    pub(super) fn mark_acted(&self, sent_at: DateTime<Utc>) {
        self.with(|state| state.acted = Some(sent_at));
    }

    /// Whether a call may have changed something.
    pub(super) fn has_acted(&self) -> bool {
        self.with(|state| state.acted.is_some())
    }

    /// Whether a call of this change may have done what was done at this time: an environment that was frozen sees the state much later.
    pub(super) fn may_have_acted_at(&self, at: DateTime<Utc>) -> bool {
        self.with(|state| state.acted).is_none_or(|sent_at| at <= latest_effect(sent_at))
    }

    /// Until when nobody else may begin, because a call may still act; none if each call is known to have acted or not.
    pub(super) fn kept_until(&self) -> Option<DateTime<Utc>> {
        self.with(|state| state.unsettled.iter().max().copied()).map(latest_effect)
    }

    /// The answer of a call that was sent at `sent_at` is lost: nobody else may begin until the call can no longer act. If the lease is
    /// already lost, or cannot be lengthened, the change continues to its result: it sends its calls within the old lease.
    pub(super) async fn lengthen(&self, sent_at: DateTime<Utc>) {
        self.with(|state| state.unsettled.push(sent_at));
        let bound = Bound::new(BOUND.0, Instant::now() + BOUND.1);
        let read = async || Ok(self.store.read_deployment(&self.service, None, None).await?.0.head);
        let first = self.position().head;
        let lengthened = commit(&self.store, self.random, bound, Some(first), read, |head: &Option<Head>| {
            let mine =
                head.as_ref().and_then(|head| Some((head, head.lease.as_ref().filter(|lease| self.is_mine(lease))?)));
            let Some((head, lease)) = mine else { return Ok(Decision::Done(None)) };
            let longer = Head { lease: Some(lease.lengthened(sent_at)), ..head.clone() };
            if longer == *head {
                return Ok(Decision::Done(Some(longer)));
            }
            let write = Write::Head { service: self.service.clone(), from: Some(head.clone()), to: longer.clone() };
            Ok(Decision::Write(vec![write], Some(longer)))
        });
        match lengthened.await {
            Ok(Some(head)) => self.with(|state| state.position.head = Some(head)),
            Ok(None) => {
                tracing::warn!(service = %self.service, "the lease of a call whose answer was lost is lost, too");
            }
            Err(error) => tracing::warn!(service = %self.service, "a lease could not be lengthened: {error}"),
        }
    }

    /// The call that was sent at `sent_at` is known to have acted.
    pub(super) fn settle(&self, sent_at: DateTime<Utc>) {
        self.with(|state| state.unsettled.retain(|other| *other != sent_at));
    }
}
