//! The turn of a change: what it must have before it takes the lease, so that nobody holds a service while only waiting.

use std::sync::Arc;
use std::time::Duration;

use domain::ecs::task_definition::TaskDefinition;
use domain::plan::update::Update;

use super::permit::ConcurrencyPermit;
use super::target::{AccountClients, Claim, Leader};
use crate::aws::rate_limit::ApiBucket;

/// The tokens that a change took. If the ledger changed before the change began, it does not take them again.
#[derive(Debug, Default)]
pub(super) struct Turn {
    taken: Vec<ApiBucket>,
}

/// How a change gets its revision.
#[derive(Debug)]
pub(super) enum Revision {
    /// The change needs no new revision.
    None,
    /// The change of another service registered it.
    Shared(Arc<TaskDefinition>),
    /// The change registers it itself, for all that want the same revision.
    Lead(Leader),
}

impl Turn {
    /// Waits for the turn of the change: until the revision that it shares with others is registered, and the tokens for all its mutating
    /// calls are available; none if that takes longer than `longest`. Meanwhile another change uses its place.
    pub(super) async fn take(
        &mut self,
        target: &AccountClients,
        permit: &ConcurrencyPermit,
        update: &Update,
        longest: Duration,
    ) -> Option<Revision> {
        let waited = permit.release_while_waiting(async {
            let revision = match &update.register {
                None => Revision::None,
                Some(registration) => match target.claim(&registration.family, &registration.document).await {
                    Claim::Registered(definition) => Revision::Shared(definition),
                    Claim::Lead(leader) => Revision::Lead(leader),
                },
            };
            let mut missing = calls(update, matches!(revision, Revision::Lead(_)));
            for taken in &self.taken {
                if let Some(at) = missing.iter().position(|call| call == taken) {
                    missing.swap_remove(at);
                }
            }
            for call in missing {
                target.limits.take(call).await;
                self.taken.push(call);
            }
            revision
        });
        tokio::time::timeout(longest, waited).await.ok()
    }
}

/// The mutating calls that a change makes if nothing fails.
fn calls(update: &Update, registers: bool) -> Vec<ApiBucket> {
    let tags = [!update.tags.set.is_empty(), !update.tags.remove.is_empty()].into_iter().filter(|call| *call);
    let calls = tags.map(|_| ApiBucket::TagResource);
    let registration = registers.then_some(ApiBucket::RegisterTaskDefinition);
    let update = update.updates_service().then_some(ApiBucket::UpdateService);
    calls.chain(registration).chain(update).collect()
}
