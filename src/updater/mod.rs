//! One change, from request to response.
//!
//! ```text
//! session + position ─▶ snapshot ─▶ plan ─▶ turn ─▶ STARTED ─▶ apply ─▶ APPLIED or FAILED ─▶ wait
//! ```
//!
//! All decisions are made by pure code elsewhere ([`domain::plan`], [`domain::plan::continuation`], [`domain::ledger`]); this file puts the
//! steps in their order. `begin` and `proceed` contain how an attempt begins, `turn` what it waits for before that, `apply` the calls to
//! the target account, `lease` and `finish` what is written about them, and `wait` what follows if the request waits for the end. `acting`
//! contains the steps of a change that continues or stops the deployment of another one.

mod acting;
mod apply;
mod batch;
mod begin;
mod caller_rate;
mod change;
mod close;
mod dry_run;
mod finish;
pub mod handler;
mod image_lookup;
mod lease;
mod messages;
mod note;
mod permit;
mod proceed;
mod restoring;
mod session;
mod snapshot;
mod target;
mod turn;
mod wait;

use std::sync::Arc;

use aws_config::SdkConfig;
use change::{ChangeError, Prefetched};
use chrono::{DateTime, Utc};
use domain::config::{AllowedAccounts, Config};
use domain::ecs::service::{RecordedState, Snapshot};
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ids::{ChangeId, FunctionArn, Identity, ServiceKey, UNQUALIFIED, VERIFIED_ALIAS};
use domain::ledger::admission::EventFacts;
use domain::ledger::hidden::{HiddenKey, hidden, holds_secrets};
use domain::ledger::idempotency::{self, KeyItem};
use domain::ledger::key::Attempt as Try;
use domain::ledger::queue::{Asker, caller_id};
use domain::ledger::record::ChangeContext;
use domain::ledger::write::LedgerError;
use domain::plan::difference::{Difference, repositories};
use domain::response::Response;
use image_lookup::Images;
use permit::ConcurrencyPermit;
use target::AccountClients;
use tokio::sync::{OnceCell, Semaphore};

use crate::aws::documents::Setting;
use crate::aws::images::Registries;
use crate::aws::ledger_store::LedgerStore;
use crate::aws::rate_limit::RateLimiters;
use crate::aws::sessions::{Sessions, session_name};
use crate::outcomes::OutcomeRecorder;

/// The data of one invocation of the function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda request id; an asynchronous retry repeats it.
    pub request_id: String,
    /// When Lambda ends the invocation.
    pub deadline: DateTime<Utc>,
    /// The ARN by which the function was invoked.
    pub function: Option<FunctionArn>,
}

impl Invocation {
    /// Who invoked the function, as far as its alias shows: each idempotency key belongs to its caller.
    fn caller(&self) -> String {
        let qualifier = self.function.as_ref().and_then(|function| function.qualifier.as_deref());
        idempotency::caller(qualifier.unwrap_or(UNQUALIFIED))
    }

    /// Whether the value of `requested_by` is verified.
    pub(crate) fn identity(&self) -> Identity {
        if self.is_verified() { Identity::Verified } else { Identity::Claimed }
    }

    /// Whether the API vouches for `requested_by`: only the API may invoke the function by this alias.
    pub(crate) fn is_verified(&self) -> bool {
        self.function.as_ref().and_then(|function| function.qualifier.as_deref()) == Some(VERIFIED_ALIAS)
    }
}

/// One request, and what is needed to work on it.
#[derive(Clone, Copy)]
struct Work<'a> {
    request: &'a UpdateRequest,
    invocation: &'a Invocation,
    target: &'a AccountClients,
    permit: &'a ConcurrencyPermit,
    key_id: &'a str,
}

/// Changes services. The time and random bytes are passed in.
pub struct Updater {
    config: Config,
    shared: SdkConfig,
    sessions: Sessions,
    outcomes: OutcomeRecorder,
    registries: Registries,
    /// The only accounts that are changed, if they are restricted.
    allowed: Option<Setting<AllowedAccounts>>,
    limits: RateLimiters,
    /// The key of the hidden values in records, once a change needs it.
    hidden: OnceCell<HiddenKey>,
    clock: fn() -> DateTime<Utc>,
    random: fn() -> [u8; 10],
}

impl Updater {
    /// An updater with these settings.
    #[must_use]
    pub fn new(config: Config, shared: SdkConfig, clock: fn() -> DateTime<Utc>, random: fn() -> [u8; 10]) -> Self {
        let sessions = Sessions::new(&shared);
        let outcomes = OutcomeRecorder { store: LedgerStore::new(&shared, &config.tables, random), clock, random };
        let registries = Registries::new(&shared, config.registries.clone());
        let allowed = config.allowed_accounts.clone();
        let allowed =
            allowed.map(|given| Setting::naming(given, &shared, "ALLOWED_ACCOUNTS", domain::config::accounts));
        let (limits, hidden) = (RateLimiters::default(), OnceCell::new());
        Self { config, shared, sessions, outcomes, registries, allowed, limits, hidden, clock, random }
    }

    /// Reads settings that are kept elsewhere, so that the first event does not wait for them. If they cannot be read, the first event
    /// reports it.
    pub async fn read_settings(&self) {
        if let Some(allowed) = &self.allowed {
            // A failure is logged where it occurs.
            let _ = allowed.at((self.clock)()).await;
        }
    }

    /// Does what `request` asks for.
    ///
    /// # Errors
    ///
    /// What failed, where, why, what was and was not changed, and what to do.
    pub async fn update(&self, request: &UpdateRequest, invocation: &Invocation) -> Result<Response, Failure> {
        let permit = ConcurrencyPermit::of(&Arc::new(Semaphore::new(1)), None).await;
        let images = Images::new(&self.registries);
        let key = &request.service_key;
        if request.dry_run {
            let session = self.session(request, invocation).await;
            let target = session.map(|session| self.target(key, session, &Arc::default()))?;
            return self.dry_run(request, &target, &images, None).await;
        }
        let key_id = key_id(request, invocation);
        let (session, position) = tokio::join!(self.session(request, invocation), self.store().read(key, &key_id));
        let target = session.map(|session| self.target(key, session, &Arc::default()));
        let opening = Prefetched { position, seen: None };
        let response =
            self.change(request, invocation, &target, &images, opening, &permit).await.map_err(|stop| match stop {
                ChangeError::Failed(failure) | ChangeError::Session(failure) | ChangeError::NotStarted(failure) => {
                    failure
                }
            })?;
        Ok(Box::pin(self.wait(request, invocation, &target, response)).await)
    }

    fn store(&self) -> &LedgerStore {
        &self.outcomes.store
    }

    /// The key of the hidden values in records, read or created once.
    async fn hidden_key(&self) -> Result<&HiddenKey, LedgerError> {
        self.hidden.get_or_try_init(|| self.store().hidden_key()).await
    }

    /// What records keep of a service, with values that may be secret as keyed hashes. If the key cannot be read, the record contains a
    /// word in place of each such value, which equals nothing.
    async fn recorded(&self, service: &ServiceKey, snapshot: &Snapshot, container: Option<&str>) -> RecordedState {
        let mut recorded = snapshot.recorded(container);
        if !recorded.service.values().any(holds_secrets) {
            return recorded;
        }
        let key = self.hidden_key().await.inspect_err(|error| {
            tracing::warn!(service = %service, "the key of hidden values could not be read: {error}");
        });
        for (name, value) in &mut recorded.service {
            *value = hidden(key.as_ref().ok().copied(), service, name, value).unwrap_or_default();
        }
        recorded
    }

    /// The facts that all records of an attempt at a change share.
    fn facts(
        work: Work<'_>,
        change_id: ChangeId,
        attempt: Try,
        changes: &[Difference],
        before: &RecordedState,
    ) -> ChangeContext {
        let Work { request, invocation, .. } = work;
        ChangeContext {
            service: request.service_key.clone(),
            change_id,
            repositories: repositories(changes, before),
            requested_by: request.requested_by.clone(),
            reason: request.reason.clone(),
            identity: invocation.identity(),
            caller: Some(invocation.caller()),
            attempt,
            session: session_name(&invocation.request_id),
            request_id: invocation.request_id.clone(),
            sent_at: request.sent_at,
            restores: None,
            of: request.action.as_ref().map(|action| action.of.clone()),
            action: request.action.as_ref().map(|action| action.verb),
            pins: request.pins.clone(),
        }
    }
}

/// What identifies a request besides its service.
fn event(request: &UpdateRequest) -> EventFacts<'_> {
    EventFacts { hash: &request.event_hash, sent_at: request.sent_at }
}

fn key_id(request: &UpdateRequest, invocation: &Invocation) -> String {
    let key = request.idempotency_key.as_deref().unwrap_or(&invocation.request_id);
    KeyItem::id(&invocation.caller(), key, &request.service_key)
}

/// The caller: the requester that the event names, or else only the event's key.
fn caller(request: &UpdateRequest, invocation: &Invocation, key_id: &str) -> String {
    let requested_by = request.requested_by.as_deref();
    let named = requested_by.map(|name| caller_id(&invocation.caller(), name, &request.service_key));
    named.unwrap_or_else(|| key_id.to_owned())
}

fn asker<'a>(request: &UpdateRequest, caller: &'a str, key: &'a str) -> Asker<'a> {
    // A key alone does not show that anybody will retry with it: turns of callers that never return would leave services idle. And an event
    // that a push sends is retried after a minute, when its turn would be over.
    Asker { caller, key, may_wait: request.requested_by.is_some() && request.pushed_tag.is_none() }
}
