//! One target account and region as an invocation sees it: its ECS through a session, no faster than its buckets allow,
//! and the task definitions that several services share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domain::call_error::CallError;
use domain::ecs::task_definition::TaskDefinition;
use domain::text::hex;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, OwnedMutexGuard};

use crate::aws::ecs::Ecs;
use crate::aws::rate_limit::{AccountLimits, ApiBucket};

/// What a change does its calls through.
#[derive(Debug, Clone)]
pub(super) struct AccountClients {
    pub ecs: Ecs,
    pub limits: Arc<AccountLimits>,
    pub definitions: Arc<Definitions>,
}

impl AccountClients {
    /// Describes a task definition by its ARN: once for all services of this invocation that run it.
    pub(super) async fn definition(&self, arn: &str) -> Result<Arc<TaskDefinition>, CallError> {
        let describe = async || self.describe(arn).await;
        shared(&self.definitions.described, arn, describe).await
    }

    /// Describes a task definition as it is now: by ARN, or the newest active revision of a family.
    pub(super) async fn describe(&self, arn_or_family: &str) -> Result<TaskDefinition, CallError> {
        self.limits.take(ApiBucket::DescribeTaskDefinition).await;
        self.ecs.describe_task_definition(arn_or_family).await
    }

    /// The revision that registering `document` makes, where another service's change of this invocation made it. Else the right to make it,
    /// once nobody else has it: who fails hands it on.
    pub(super) async fn claim(&self, family: &str, document: &str) -> Claim {
        let what = format!("{family} {}", hex(&Sha256::digest(document)));
        let registered = {
            let mut all = self.definitions.registered.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(what).or_default())
        };
        let registered = registered.lock_owned().await;
        match &*registered {
            Some(definition) => Claim::Registered(Arc::clone(definition)),
            None => Claim::Lead(Leader(registered)),
        }
    }
}

/// What became of a claim to a revision.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is registered.
    Registered(Arc<TaskDefinition>),
    /// Whoever claims it registers it.
    Lead(Leader),
}

/// The right to register a revision that others wait for. Dropped without one, the next of them has it.
#[derive(Debug)]
pub(super) struct Leader(OwnedMutexGuard<Option<Arc<TaskDefinition>>>);

impl Leader {
    /// It is registered: for all who wait.
    pub(super) fn registered(mut self, definition: &Arc<TaskDefinition>) {
        *self.0 = Some(Arc::clone(definition));
    }
}

type Registered = Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Arc<TaskDefinition>>>>>>;
type Shared = Mutex<HashMap<String, Arc<OnceCell<Arc<TaskDefinition>>>>>;

/// Task definitions of one account and region that were described and registered in this invocation.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    described: Shared,
    registered: Registered,
    may_already_be_registered: AtomicBool,
}

impl Definitions {
    /// The change, or another of its event, was tried before: what is about to be registered may be there already.
    pub(super) fn mark_retried(&self) {
        self.may_already_be_registered.store(true, Ordering::Relaxed);
    }

    /// Whether what is to be registered may be there already.
    pub(super) fn may_already_be_registered(&self) -> bool {
        self.may_already_be_registered.load(Ordering::Relaxed)
    }
}

/// Makes it once for all who want the same at the same time or later. Where it fails, the next one tries again: the
/// failure may be that of one session.
async fn shared<E>(
    shared: &Shared,
    what: &str,
    make: impl AsyncFnOnce() -> Result<TaskDefinition, E>,
) -> Result<Arc<TaskDefinition>, E> {
    let cell = Arc::clone(shared.lock().unwrap_or_else(PoisonError::into_inner).entry(what.to_owned()).or_default());
    cell.get_or_try_init(async || make().await.map(Arc::new)).await.cloned()
}
