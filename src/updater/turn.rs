//! The turn of a change: what it has to have before it takes the lease, so that nobody holds a service while it only waits.

use std::sync::Arc;
use std::time::Duration;

use domain::ecs::task_definition::TaskDefinition;
use domain::plan::update::Update;

use super::permit::ConcurrencyPermit;
use super::target::{AccountClients, Claim, Leader};
use crate::aws::rate_limit::ApiBucket;

/// The tokens that a change took. What moved before it began does not take them again.
#[derive(Debug, Default)]
pub(super) struct Turn {
    taken: Vec<ApiBucket>,
}

/// How a change gets its revision.
#[derive(Debug)]
pub(super) enum Revision {
    /// It needs no new one.
    None,
    /// Another service's change registered it.
    Shared(Arc<TaskDefinition>),
    /// It registers it itself, for all who want the same.
    Lead(Leader),
}

impl Turn {
    /// Waits until the change's turn has come: until the revision that it shares with others is registered, and the tokens of all its
    /// mutating calls are there; none where that takes longer than `longest`. Meanwhile another change has its place.
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

/// The mutating calls that a change makes where nothing fails.
fn calls(update: &Update, registers: bool) -> Vec<ApiBucket> {
    let tags = [!update.tags.set.is_empty(), !update.tags.remove.is_empty()].into_iter().filter(|call| *call);
    let calls = tags.map(|_| ApiBucket::TagResource);
    let registration = registers.then_some(ApiBucket::RegisterTaskDefinition);
    let update = update.updates_service().then_some(ApiBucket::UpdateService);
    calls.chain(registration).chain(update).collect()
}
