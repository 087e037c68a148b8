//! One change, from request to response.
//!
//! ```text
//! session + position ─▶ snapshot ─▶ plan ─▶ turn ─▶ STARTED ─▶ apply ─▶ APPLIED or FAILED ─▶ wait
//! ```
//!
//! Everything that is decided is decided by pure code elsewhere ([`domain::plan`], [`domain::plan::continuation`], [`domain::ledger`]); this file
//! puts the steps in their order. `begin` and `proceed` hold how an attempt begins, `turn` what it waits for before, `apply` what touches
//! the target account, `lease` and `begun` what is written about it, `wait` what follows where the request waits for the end.

mod apply;
mod batch;
mod begin;
mod caller_rate;
mod close;
mod finish;
pub mod handler;
mod image_lookup;
mod lease;
mod messages;
mod permit;
mod proceed;
mod restoring;
mod target;
mod turn;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use apply::READ_BACK_PAUSES;
use aws_config::SdkConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use chrono::{DateTime, Utc};
use domain::config::{AllowedAccounts, Config};
use domain::ecs::service::{RecordedState, Service, Snapshot};
use domain::error::{Code, Failure};
use domain::event::request::UpdateRequest;
use domain::ids::{ChangeId, FunctionArn, Identity, ServiceKey, UNQUALIFIED, VERIFIED_ALIAS};
use domain::ledger::admission::{Admission, EventFacts, LedgerState};
use domain::ledger::clock::Reading;
use domain::ledger::head::{Head, Lease};
use domain::ledger::hidden::{HiddenKey, hidden, holds_secrets};
use domain::ledger::idempotency::{self, KeyItem};
use domain::ledger::key::{Attempt as Try, RecordKey, RecordPlace};
use domain::ledger::queue::{Asker, caller_id};
use domain::ledger::record::{ChangeContext, Record};
use domain::ledger::turn::Standing;
use domain::ledger::write::{LedgerError, Write};
use domain::plan::difference::Difference;
use domain::plan::{self, Plan};
use domain::response::{Response, Status};
use domain::session_policy::session_policy;
use domain::text::rfc3339;
use image_lookup::Images;
use permit::ConcurrencyPermit;
use restoring::Restoring;
use target::{AccountClients, Definitions};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;
use turn::Turn;

use crate::aws::documents::Setting;
use crate::aws::ecs::{DescribeError, Ecs};
use crate::aws::images::Registries;
use crate::aws::ledger_store::{LedgerStore, Measured};
use crate::aws::rate_limit::RateLimiters;
use crate::aws::sessions::{SessionRequest, Sessions, session_name, source_identity};
use crate::backoff::Backoff;
use crate::commit::{Bound, Decision, commit};
use crate::outcomes::OutcomeRecorder;

/// How often a change is planned anew where the head moved between reading and writing.
const ATTEMPTS: u32 = 5;
/// The pause before that.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
/// How often head and key are read until an answer came quickly enough to compare clocks.
const CLOCK_READINGS: u32 = 3;

/// How long the note of an event that failed may take: its caller waits for the failure.
const NOTE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is written in that time.
const NOTE_TRIES: u32 = 3;
/// How long it may take to note that the caller of an event waits: it gets the same answer without.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);

/// How old a description of a service may be when its change begins.
const FRESH: chrono::Duration = chrono::Duration::seconds(10);

/// What one invocation of the function brings.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda request id; an asynchronous retry repeats it.
    pub request_id: String,
    /// When Lambda ends the invocation.
    pub deadline: DateTime<Utc>,
    /// The function's ARN, as it was invoked.
    pub function: Option<FunctionArn>,
}

impl Invocation {
    /// Who invoked the function, as far as its alias tells: idempotency keys belong to their caller.
    fn caller(&self) -> String {
        let qualifier = self.function.as_ref().and_then(|function| function.qualifier.as_deref());
        idempotency::caller(qualifier.unwrap_or(UNQUALIFIED))
    }

    /// Whether somebody vouches for `requested_by`.
    pub(crate) fn identity(&self) -> Identity {
        if self.is_verified() { Identity::Verified } else { Identity::Claimed }
    }

    /// Whether the API door vouches for `requested_by`: it alone may invoke the function by this alias.
    pub(crate) fn is_verified(&self) -> bool {
        self.function.as_ref().and_then(|function| function.qualifier.as_deref()) == Some(VERIFIED_ALIAS)
    }
}

/// One request, and what it is worked on with.
#[derive(Clone, Copy)]
struct Work<'a> {
    request: &'a UpdateRequest,
    invocation: &'a Invocation,
    target: &'a AccountClients,
    permit: &'a ConcurrencyPermit,
    key_id: &'a str,
}

/// What became of the note of an event that failed before a change began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Note {
    /// It stands, or is not needed.
    Stands,
    /// Somebody else has written under the key since it was read.
    Moved,
}

/// What changes services. Time and randomness come from outside.
pub struct Updater {
    config: Config,
    shared: SdkConfig,
    sessions: Sessions,
    outcomes: OutcomeRecorder,
    registries: Registries,
    /// The only accounts that are changed, where there are such.
    allowed: Option<Setting<AllowedAccounts>>,
    limits: RateLimiters,
    /// The key of what is hidden in records, once a change needs it.
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

    /// Reads settings that are kept elsewhere, so that the first event does not wait for them. Where they cannot be read, the first
    /// event says so.
    pub async fn read_settings(&self) {
        if let Some(allowed) = &self.allowed {
            // A failure is logged where it happens.
            let _ = allowed.at((self.clock)()).await;
        }
    }

    /// Does what `request` asks.
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

    /// Does what `request`, no dry run, asks, from what was read for it on. What fails before a change begins is noted under its key, so that
    /// the same event, sent again, does not undo what began meanwhile.
    async fn change(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<AccountClients, Failure>,
        images: &Images<'_>,
        opening: Prefetched,
        permit: &ConcurrencyPermit,
    ) -> Result<Response, ChangeError> {
        let key_id = key_id(request, invocation);
        let Prefetched { position, mut seen } = opening;
        let mut read = position.map_err(|error| messages::history_unavailable(&request.service_key, &error))?;
        let mut turn = Turn::default();
        let found = read.value.position.head.clone();
        for tries in 1..=ATTEMPTS {
            let tried =
                self.step(request, invocation, target, images, &mut read, &mut seen, permit, &mut turn, &key_id);
            match Box::pin(tried).await {
                Ok(Attempt::Ended(response)) => return Ok(*response),
                Ok(Attempt::Moved(why, newer)) if tries == ATTEMPTS => {
                    let failure = if newer.is_none() && read.value.position.head == found {
                        messages::never_written(request, &why)
                    } else {
                        messages::always_moved(request, read.value.position.head.as_ref(), &why)
                    };
                    return Err(self.noted(failure.into(), request, invocation, &read.value, &key_id).await.0);
                }
                Ok(Attempt::Moved(_, Some(now))) => {
                    read.value = *now;
                    continue;
                }
                Ok(Attempt::Moved(_, None)) => tokio::time::sleep(PAUSE.pause(tries, self.random)).await,
                Ok(Attempt::Again) if tries == ATTEMPTS => {
                    let stop = ChangeError::NotStarted(messages::always_old(request));
                    return Err(self.noted(stop, request, invocation, &read.value, &key_id).await.0);
                }
                Ok(Attempt::Again) => {}
                // The same event is worked on elsewhere: what is refused here may be that one's own work.
                Err(stop) => match self.noted(stop, request, invocation, &read.value, &key_id).await {
                    (_, Note::Moved) if tries < ATTEMPTS => {}
                    (stop, _) => return Err(stop),
                },
            }
            let again = self.store().read(&request.service_key, &key_id).await;
            read = again.map_err(|error| messages::history_unavailable(&request.service_key, &error))?;
        }
        Err(messages::always_moved(request, read.value.position.head.as_ref(), "").into())
    }

    /// One try at a change, by what was read.
    #[expect(clippy::too_many_arguments, reason = "what a change is worked on with, and what its tries share")]
    async fn step(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<AccountClients, Failure>,
        images: &Images<'_>,
        read: &mut Measured<Standing>,
        seen: &mut Option<Described>,
        permit: &ConcurrencyPermit,
        turn: &mut Turn,
        key_id: &str,
    ) -> Result<Attempt, ChangeError> {
        let now = (self.clock)();
        let caller = caller(request, invocation, key_id);
        let asker = asker(request, &caller, key_id);
        let mut admission = read.value.admits(event(request), &asker, now);
        if let Admission::Overtaken { own, by } = &admission {
            let record = self.last_begun(&request.service_key, by).await;
            let sent_at = request.sent_at.filter(|_| read.value.position.key(now).is_none());
            let mark_retried = record.as_ref().zip(sent_at).is_some_and(|(record, sent_at)| {
                record.was_sent_before(&invocation.caller(), request.requested_by.as_deref(), sent_at)
            });
            if !mark_retried {
                let overtaken = messages::overtaken(request, own.as_ref(), by, record.as_ref(), sent_at);
                return Err(ChangeError::Failed(overtaken));
            }
            admission = read.value.admits(EventFacts { sent_at: None, ..event(request) }, &asker, now);
        }
        if let Admission::Busy(lease) = &admission {
            self.queue_up(request, read, &asker, lease, now).await;
        }
        if let Some(decided) = messages::without_touching(&admission, request, &read.value.position, now) {
            return decided.map(|response| Attempt::Ended(Box::new(response)));
        }
        // Only now: a stored answer needs no session, and no clock.
        let begun = |failure| messages::of_begun(failure, &admission);
        self.compare_clocks(request, read, key_id).await.map_err(begun)?;
        let target = target.as_ref().map_err(Clone::clone).map_err(begun)?;
        let found = match &admission {
            // Before the look at the service: that one grows old.
            Admission::Begin { .. } => Some(images.of(request).await?),
            _ => None,
        };
        let head = read.value.position.head.as_ref().filter(|_| matches!(admission, Admission::Begin { orphan: None }));
        let looked = self.look_behind(head, target, request, seen.take()).await.map_err(begun)?;
        let work = Work { request: found.as_ref().unwrap_or(request), invocation, target, permit, key_id };
        let position = &read.value.position;
        match &admission {
            Admission::Continue(progress) => Box::pin(self.proceed(work, looked, position, progress, turn)).await,
            Admission::Begin { orphan: Some(lease) } => match self.orphan(request, lease).await? {
                Some(orphan) => Ok(self.close_orphan(work, &looked.snapshot, position, lease, orphan).await?),
                // It has its result: only its lease was left.
                None => Box::pin(self.begin(work, looked, position, turn)).await,
            },
            _ => Box::pin(self.begin(work, looked, position, turn)).await,
        }
    }

    /// The record with which a change began, for people: where it cannot be read, its id has to do.
    async fn last_begun(&self, key: &ServiceKey, change_id: &ChangeId) -> Option<Record> {
        for place in [RecordPlace::STARTED, RecordPlace::RESULT] {
            let record = self.store().record(key, &RecordKey::new(change_id.clone(), place)).await;
            if let Some(record) = record.ok()? {
                return Some(record);
            }
        }
        None
    }

    /// Notes an event that failed before a change began; where that could not be, the failure says so.
    async fn noted(
        &self,
        stop: ChangeError,
        request: &UpdateRequest,
        invocation: &Invocation,
        read: &Standing,
        key_id: &str,
    ) -> (ChangeError, Note) {
        if matches!(stop, ChangeError::Failed(_)) {
            return (stop, Note::Stands);
        }
        match self.note(request, invocation, read, key_id).await {
            // What is refused may be the work of the same event elsewhere, which its key told nothing of when it was read.
            Ok(Note::Stands) if stop.is_final() && self.has_begun_since(request, read, key_id).await => {
                (stop, Note::Moved)
            }
            Ok(noted) => (stop, noted),
            // Its key is known by now, whatever it says: it is looked at again.
            Err(LedgerError::Conflict(_)) => (stop, Note::Moved),
            Err(error) => (stop.map(|failure| failure.and(messages::not_noted(&error))), Note::Stands),
        }
    }

    /// Whether a change of this key began after it was read. Where that cannot be read, it is as it was.
    async fn has_begun_since(&self, request: &UpdateRequest, read: &Standing, key_id: &str) -> bool {
        let progress = |position: &LedgerState| position.key.as_ref().and_then(KeyItem::progress).cloned();
        if read.position.key.is_none() || progress(&read.position).is_some() {
            return false;
        }
        let now = tokio::time::timeout(NOTE_TIMEOUT, self.store().read(&request.service_key, key_id)).await;
        now.is_ok_and(|now| now.is_ok_and(|now| progress(&now.value.position).is_some()))
    }

    /// Notes that an event came, with what had begun by then, unless its key knows of it, or its own time tells what came after it: a
    /// mark would forget that.
    async fn note(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        read: &Standing,
        key_id: &str,
    ) -> Result<Note, LedgerError> {
        let now = (self.clock)();
        let position = &read.position;
        let is_overtaken = matches!(position.admits(event(request), now), Admission::Overtaken { .. });
        if position.key(now).is_some() || is_overtaken {
            return Ok(Note::Stands);
        }
        // With what had begun when the event was first seen, however late it is written.
        let caller = caller(request, invocation, key_id);
        let first = read.before(&asker(request, &caller, key_id), now).map(|first| first.key.as_str());
        let to = KeyItem::seen(key_id, &request.event_hash, position.begun().cloned(), now).letting_go_first(first);
        let bound = Bound { tries: NOTE_TRIES, until: Instant::now() + NOTE_TIMEOUT };
        let read = async || self.store().read(&request.service_key, key_id).await.map(|read| read.value.position);
        let noted = commit(self.store(), self.random, bound, Some(position.clone()), read, |known: &LedgerState| {
            // The first one counts.
            if let Some(key) = known.key(now) {
                return Ok(Decision::Done(if *key == to { Note::Stands } else { Note::Moved }));
            }
            let write = Write::Key { from: known.key.clone(), to: to.clone() };
            Ok(Decision::Write(vec![write], Note::Stands))
        });
        let late = || Err(LedgerError::Time("DynamoDB did not answer in time".to_owned()));
        tokio::time::timeout(NOTE_TIMEOUT, noted).await.unwrap_or_else(|_| late())
    }

    /// Notes that whoever asks was refused for a lease, so that its turn comes next. Where that cannot be, it comes as before: the answer
    /// is the same, and a clock that is not known to be right notes nothing.
    async fn queue_up(
        &self,
        request: &UpdateRequest,
        read: &Measured<Standing>,
        asker: &Asker<'_>,
        lease: &Lease,
        now: DateTime<Utc>,
    ) {
        let service = &request.service_key;
        let queue = read.value.refused(asker, lease, now).filter(|_| read.clock == Reading::Right);
        let Some(to) = queue else { return };
        let writes = [Write::Queue { service: service.clone(), to }];
        match tokio::time::timeout(QUEUE_TIMEOUT, self.store().write(&writes)).await {
            Ok(Ok(())) => {}
            // Another one was noted at the same time: the next refusal notes this one.
            Ok(Err(LedgerError::Conflict(why))) => tracing::debug!(%service, "who waits was not noted: {why}"),
            Ok(Err(error)) => tracing::warn!(%service, "who waits for the service could not be noted: {error}"),
            Err(_) => tracing::warn!(%service, "who waits for the service could not be noted in time"),
        }
    }

    /// Whether this environment's clock may be trusted with a lease. Reads head and key again where no answer said so.
    async fn compare_clocks(
        &self,
        request: &UpdateRequest,
        read: &mut Measured<Standing>,
        key_id: &str,
    ) -> Result<(), Failure> {
        for _ in 1..CLOCK_READINGS {
            match read.clock {
                Reading::Right => return Ok(()),
                Reading::Off(by) => return Err(messages::clock_skewed(request, by)),
                Reading::Unknown => {}
            }
            // What is decided was decided by the position that was read first: STARTED demands that it is still so.
            let again = self.store().read(&request.service_key, key_id).await;
            read.clock = again.map_err(|error| messages::history_unavailable(&request.service_key, &error))?.clock;
        }
        match read.clock {
            Reading::Right => Ok(()),
            Reading::Off(by) => Err(messages::clock_skewed(request, by)),
            Reading::Unknown => Err(messages::clock_unknown(request)),
        }
    }

    /// A session for the service of `request` alone.
    async fn session(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
    ) -> Result<SharedCredentialsProvider, Failure> {
        let opened = self.open_session(&[&request.service_key], request.requested_by.as_deref(), invocation).await;
        opened.map_err(|refused| refused.failure)
    }

    /// A session that may change these services, all of one account.
    async fn open_session(
        &self,
        services: &[&ServiceKey],
        requested_by: Option<&str>,
        invocation: &Invocation,
    ) -> Result<SharedCredentialsProvider, SessionError> {
        let account = services.first().map_or("", |key| key.account_id().as_str());
        let partition = invocation.function.as_ref().map_or("aws", |function| function.partition.as_str());
        let role_arn = format!("arn:{partition}:iam::{account}:role/{}", self.config.target_role_name);
        if let Some(allowed) = &self.allowed {
            let allowed = allowed.at((self.clock)()).await;
            let allowed = allowed.map_err(|why| messages::allowed_accounts_unknown(&role_arn, account, &why))?;
            if !allowed.contains(account) {
                return Err(messages::account_not_allowed(&role_arn, account).into());
            }
        }
        let left = (invocation.deadline - (self.clock)()).to_std().unwrap_or_default();
        let session = SessionRequest {
            role_arn: role_arn.clone(),
            session_name: session_name(&invocation.request_id),
            source_identity: requested_by.filter(|_| invocation.is_verified()).and_then(source_identity),
            external_id: self.config.external_id.clone(),
            policy: Some(
                session_policy(services)
                    .map_err(|error| Failure::new(Code::AssumeRoleFailed, format!("{role_arn}: {error}")))?,
            ),
            needed_for: left,
        };
        let session = self.sessions.assume(session).await.map_err(|error| SessionError {
            failure: messages::assume_role_failed(&role_arn, account, &error),
            is_too_large: error.has_code(&["PackedPolicyTooLarge", "PackedPolicyTooLargeException"]),
        })?;
        Ok(SharedCredentialsProvider::new(session))
    }

    /// The account and region of a service through a session.
    fn target(
        &self,
        key: &ServiceKey,
        session: SharedCredentialsProvider,
        definitions: &Arc<Definitions>,
    ) -> AccountClients {
        AccountClients {
            ecs: Ecs::new(&self.shared, key.region().as_str(), session),
            limits: self.limits.of(key),
            definitions: Arc::clone(definitions),
        }
    }

    /// What the service is now; `seen` is what it was shortly before, as far as somebody looked.
    async fn look(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        seen: Option<Described>,
    ) -> Result<Looked, Failure> {
        let key = &request.service_key;
        let seen = if let Some(seen) = seen.filter(|seen| (self.clock)() - seen.at <= FRESH) {
            seen
        } else {
            let at = (self.clock)();
            Described { service: target.ecs.describe_service(key).await, at }
        };
        let service = seen.service.map_err(|error| messages::describe_failed(key, &error))?;
        if service.status() == "INACTIVE" {
            return Err(messages::describe_failed(key, &DescribeError::ServiceNotFound)
                .and("It was deleted: its status is INACTIVE."));
        }
        let task_definition = match service.task_definition_arn() {
            Some(arn) => Some(
                target
                    .definition(arn)
                    .await
                    .map_err(|error| messages::describe_failed(key, &DescribeError::Call(error)))?,
            ),
            None => None,
        };
        Ok(Looked { snapshot: Snapshot { service, task_definition }, at: seen.at })
    }

    /// The same, behind what the change before it deployed, as its ledger tells: ECS is eventually consistent, and a plan by an older
    /// description would bring back what that change replaced. Where ECS goes on showing something else, somebody else did that.
    async fn look_behind(
        &self,
        head: Option<&Head>,
        target: &AccountClients,
        request: &UpdateRequest,
        seen: Option<Described>,
    ) -> Result<Looked, Failure> {
        let mut looked = self.look(target, request, seen).await?;
        for pause in READ_BACK_PAUSES {
            let shown = looked.snapshot.service.task_definition_arn();
            if !head.is_some_and(|head| head.has_just_deployed_other_than(shown, looked.at)) {
                break;
            }
            tokio::time::sleep(pause).await;
            looked = self.look(target, request, None).await?;
        }
        Ok(looked)
    }

    /// The answer to a dry run.
    async fn dry_run(
        &self,
        request: &UpdateRequest,
        target: &AccountClients,
        images: &Images<'_>,
        seen: Option<Described>,
    ) -> Result<Response, Failure> {
        let request = &images.of(request).await?;
        let snapshot = self.look(target, request, seen).await?.snapshot;
        let restoring = self.restoring(target, request, &snapshot, None).await?;
        let mut planned = self.planned(request, &snapshot, &restoring)?;
        let body = &mut planned.body;
        if let Some(changes) = body.changes.as_mut().filter(|changes| !changes.is_empty()) {
            let only_images = changes.iter().all(|change| change.get("what").is_some_and(|what| what == "image"));
            if let Some(note) = self.keeps_restores(request, only_images).await? {
                changes.clear();
                body.after = body.before.clone();
                body.notes.push(note);
            }
        }
        Ok(planned)
    }

    fn planned(
        &self,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        restoring: &Restoring,
    ) -> Result<Response, Failure> {
        let (container, changes, notes, update) = match restoring.plan(request, snapshot) {
            Plan::Refused(failure) => return Err(failure),
            Plan::Unchanged { targets, notes } => (targets.into_keys().next(), Vec::new(), notes, None),
            Plan::Update(update) => {
                (update.container.clone(), update.changes.clone(), update.notes.clone(), Some(update))
            }
        };
        let before = snapshot.state(container.as_deref());
        let mut after = before.clone();
        if let Some(update) = &update {
            update.apply_to(&mut after);
        }
        let mut response =
            Response::new(&request.service_key, None, Status::Planned, rfc3339((self.clock)()), before, after);
        response.body.changes = Some(Difference::all_told(&changes));
        response.body.notes = notes;
        response.body.restores = restoring.change_id().map(ToString::to_string);
        response.body.resolved_images = request.pins.some().cloned();
        Ok(response)
    }

    /// The key of what is hidden in records, read or made once.
    async fn hidden_key(&self) -> Result<&HiddenKey, LedgerError> {
        self.hidden.get_or_try_init(|| self.store().hidden_key()).await
    }

    /// What records keep of a service, what may be secret as keyed hashes. Where the key cannot be read, a word stands there, which equals
    /// nothing.
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

    /// What an attempt at a change has in common in all its records.
    fn facts(
        work: Work<'_>,
        change_id: ChangeId,
        attempt: Try,
        changes: &[domain::plan::difference::Difference],
        before: &RecordedState,
    ) -> ChangeContext {
        let Work { request, invocation, .. } = work;
        ChangeContext {
            service: request.service_key.clone(),
            change_id,
            repositories: plan::repositories(changes, before),
            requested_by: request.requested_by.clone(),
            reason: request.reason.clone(),
            identity: invocation.identity(),
            caller: Some(invocation.caller()),
            attempt,
            session: session_name(&invocation.request_id),
            request_id: invocation.request_id.clone(),
            sent_at: request.sent_at,
            restores: None,
            pins: request.pins.clone(),
        }
    }
}

/// Why a change was not done.
enum ChangeError {
    /// It began and failed, or what stands under its key is that it failed.
    Failed(Failure),
    /// It failed before it began.
    Session(Failure),
    /// The time left did not allow to begin it.
    NotStarted(Failure),
}

impl ChangeError {
    /// Whether it is refused and would be refused again.
    fn is_final(&self) -> bool {
        matches!(self, Self::Session(failure) if !failure.retryable)
    }

    fn map(self, f: impl FnOnce(Failure) -> Failure) -> Self {
        match self {
            Self::Failed(failure) => Self::Failed(f(failure)),
            Self::Session(failure) => Self::Session(f(failure)),
            Self::NotStarted(failure) => Self::NotStarted(f(failure)),
        }
    }
}

/// A failure before the change began.
impl From<Failure> for ChangeError {
    fn from(failure: Failure) -> Self {
        Self::Session(failure)
    }
}

/// What was read before a change could begin.
struct Prefetched {
    /// Head, key and who waits; they arrived before the service was described.
    position: Result<Measured<Standing>, LedgerError>,
    /// The service, where it was described together with others.
    seen: Option<Described>,
}

/// A service as it was described at some time.
struct Described {
    service: Result<Service, DescribeError>,
    at: DateTime<Utc>,
}

/// A service as it is, and since when that is known.
struct Looked {
    snapshot: Snapshot,
    at: DateTime<Utc>,
}

/// A session that was not to be had.
struct SessionError {
    failure: Failure,
    /// Fewer services might do.
    is_too_large: bool,
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        Self { failure, is_too_large: false }
    }
}

/// What a request is besides its service.
fn event(request: &UpdateRequest) -> EventFacts<'_> {
    EventFacts { hash: &request.event_hash, sent_at: request.sent_at }
}

fn key_id(request: &UpdateRequest, invocation: &Invocation) -> String {
    let key = request.idempotency_key.as_deref().unwrap_or(&invocation.request_id);
    KeyItem::id(&invocation.caller(), key, &request.service_key)
}

/// Who asks: whom the event names, or else nobody but its key.
fn caller(request: &UpdateRequest, invocation: &Invocation, key_id: &str) -> String {
    let requested_by = request.requested_by.as_deref();
    let named = requested_by.map(|name| caller_id(&invocation.caller(), name, &request.service_key));
    named.unwrap_or_else(|| key_id.to_owned())
}

fn asker<'a>(request: &UpdateRequest, caller: &'a str, key: &'a str) -> Asker<'a> {
    // A key alone does not say that anybody comes again with it: turns of those who do not would leave services idle. And what a push
    // sends comes again after a minute, when its turn would be over.
    Asker { caller, key, may_wait: request.requested_by.is_some() && request.pushed_tag.is_none() }
}

/// How a try at a change ended.
enum Attempt {
    /// With an answer.
    Ended(Box<Response>),
    /// Somebody else wrote: what, and the position as it is now, where that was read.
    Moved(String, Option<Box<Standing>>),
    /// What was read has grown old while the change waited for its turn: read again.
    Again,
}
