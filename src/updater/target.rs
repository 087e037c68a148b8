//! One target account and region from the point of view of an invocation: its ECS through a session, called no faster than its buckets
//! allow, and the task definitions that several services share.

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

/// What a change uses for its calls.
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

    /// The revision that registering `document` creates, if the change of another service in this invocation has registered it. Otherwise
    /// the right to register it, once nobody else holds that right: a holder that fails passes it on.
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

/// The result of a claim to a revision.
#[derive(Debug)]
pub(super) enum Claim {
    /// The revision is registered.
    Registered(Arc<TaskDefinition>),
    /// The claimant has to register it.
    Lead(Leader),
}

/// The right to register a revision that others wait for. If it is dropped without a registration, the next waiting claimant gets it.
#[derive(Debug)]
pub(super) struct Leader(OwnedMutexGuard<Option<Arc<TaskDefinition>>>);

impl Leader {
    /// The revision is registered: passes it to all that wait.
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
    /// The change, or another change of its event, was tried before: what is about to be registered may already exist.
    pub(super) fn mark_retried(&self) {
        self.may_already_be_registered.store(true, Ordering::Relaxed);
    }

    /// Whether what is to be registered may already exist.
    pub(super) fn may_already_be_registered(&self) -> bool {
        self.may_already_be_registered.load(Ordering::Relaxed)
    }
}

/// Makes a value once for all that want the same value at the same time or later. If it fails, the next caller tries again: the failure may
/// belong to one session only.
async fn shared<E>(
    shared: &Shared,
    what: &str,
    make: impl AsyncFnOnce() -> Result<TaskDefinition, E>,
) -> Result<Arc<TaskDefinition>, E> {
    let cell = Arc::clone(shared.lock().unwrap_or_else(PoisonError::into_inner).entry(what.to_owned()).or_default());
    cell.get_or_try_init(async || make().await.map(Arc::new)).await.cloned()
}
