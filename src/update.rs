//! One change, from request to response.
//!
//! ```text
//! session + position ─▶ snapshot ─▶ plan ─▶ STARTED ─▶ apply ─▶ APPLIED or FAILED ─▶ wait
//! ```
//!
//! Everything that is decided is decided by pure code elsewhere ([`crate::plan`], [`crate::ledger`]); this file puts
//! the steps in their order. `apply` holds what touches the target account, `begun` what is written about it, `wait` what
//! follows where the request waits for the end.

mod apply;
mod begun;
mod images;
mod many;
mod messages;
mod slot;
mod target;
mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use crate::aws::CallError;
use crate::aws::ecs::{DescribeError, Ecs};
use crate::aws::images::Registries;
use crate::aws::ledger_store::{LedgerStore, WriteError};
use crate::aws::sessions::{SessionRequest, Sessions, session_name, session_policy, source_identity};
use crate::config::Config;
use crate::error::{Code, Failure};
use crate::ledger::record::{ChangeFacts, Kind, Said};
use crate::ledger::state::{Admission, Answer, Head, KeyItem, Lease, Position, Write, lease_until};
use crate::names::{ChangeId, FunctionArn, ServiceKey};
use crate::pace::{Call, Pace};
use crate::plan::{self, OldDefinition, Plan, Restore};
use crate::request::{RestorePoint, UpdateRequest};
use crate::response::{Response, Status};
use crate::restore::Past;
use crate::settle::Settler;
use crate::snapshot::{Recorded, Service, Snapshot, rfc3339};
use apply::Budget;
use begun::Begun;
use images::Images;
use slot::Slot;
use target::{Definitions, Target};

/// How often a change is planned anew where the head moved between reading and writing.
const ATTEMPTS: u32 = 5;

/// How old a description of a service may be when its change is planned.
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
    /// Whether the API door vouches for `requested_by`: it alone may invoke the function by this alias.
    fn is_verified(&self) -> bool {
        self.function.as_ref().and_then(|function| function.qualifier.as_deref()) == Some(VERIFIED_ALIAS)
    }
}

/// The function's alias whose only caller is the API door.
const VERIFIED_ALIAS: &str = "api";

/// One request, and what it is worked on with.
#[derive(Clone, Copy)]
struct Work<'a> {
    request: &'a UpdateRequest,
    invocation: &'a Invocation,
    target: &'a Target,
    slot: &'a Slot,
}

/// What changes services. Time and randomness come from outside.
pub struct Updater {
    config: Config,
    shared: SdkConfig,
    sessions: Sessions,
    settler: Settler,
    registries: Registries,
    pace: Pace,
    clock: fn() -> DateTime<Utc>,
    random: fn() -> [u8; 10],
}

impl Updater {
    /// An updater with these settings.
    #[must_use]
    pub fn new(config: Config, shared: SdkConfig, clock: fn() -> DateTime<Utc>, random: fn() -> [u8; 10]) -> Self {
        let sessions = Sessions::new(&shared);
        let settler = Settler { store: LedgerStore::new(&shared, &config.tables), clock };
        let registries = Registries::new(&shared, config.registries.clone());
        Self { config, shared, sessions, settler, registries, pace: Pace::default(), clock, random }
    }

    /// Does what `request` asks.
    ///
    /// # Errors
    ///
    /// What failed, where, why, what was and was not changed, and what to do.
    pub async fn update(&self, request: &UpdateRequest, invocation: &Invocation) -> Result<Response, Failure> {
        let slot = Slot::of(&Arc::new(Semaphore::new(1)), None).await;
        let images = Images::new(&self.registries);
        let key = &request.service_key;
        if request.dry_run {
            let session = self.session(request, invocation).await;
            let target = session.map(|session| self.target(key, session, &Arc::default()))?;
            return self.foretell(request, &target, &images, None).await;
        }
        let key_id = key_id(request, invocation);
        let (session, position) = tokio::join!(self.session(request, invocation), self.store().read(key, &key_id));
        let target = session.map(|session| self.target(key, session, &Arc::default()));
        let opening = Opening { position, seen: None };
        let response =
            self.change(request, invocation, &target, &images, opening, &slot).await.map_err(|stop| match stop {
                Stop::Failed(failure) | Stop::NotStarted(failure) => failure,
            })?;
        Ok(Box::pin(self.wait(request, invocation, &target, response)).await)
    }

    fn store(&self) -> &LedgerStore {
        &self.settler.store
    }

    /// Does what `request`, no dry run, asks, from what was read for it on.
    async fn change(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<Target, Failure>,
        images: &Images<'_>,
        opening: Opening,
        slot: &Slot,
    ) -> Result<Response, Stop> {
        let key_id = key_id(request, invocation);
        let Opening { position, mut seen } = opening;
        let mut position = position.map_err(|error| messages::history_unavailable(&request.service_key, &error))?;
        let mut busy = None;
        for _ in 0..ATTEMPTS {
            let now = (self.clock)();
            let admission = position.admits(&request.event_hash, now);
            if let Some(decided) = messages::without_touching(&admission, request, &position) {
                return decided.map_err(Stop::Failed);
            }
            // Only now: a stored answer needs no session.
            let begun = |failure| messages::of_begun(failure, &admission);
            let target = target.as_ref().map_err(Clone::clone).map_err(begun)?;
            let found = match &admission {
                // Before the look at the service: that one grows old.
                Admission::Begin { orphan: None } => Some(images.of(request).await?),
                _ => None,
            };
            let snapshot = self.snapshot(target, request, seen.take()).await.map_err(begun)?;
            let work = Work { request: found.as_ref().unwrap_or(request), invocation, target, slot };
            let attempt = match &admission {
                Admission::Resume { lease } => Box::pin(self.resume(work, snapshot, &position, lease.clone())).await?,
                Admission::Begin { orphan: Some(lease) } => {
                    self.close_orphan(request, invocation, &snapshot, &position, lease).await?
                }
                _ => Box::pin(self.begin(work, snapshot, &position, &key_id)).await?,
            };
            match attempt {
                Attempt::Ended(response) => return Ok(*response),
                Attempt::Moved(why) => busy = Some(why),
            }
            position = self
                .store()
                .read(&request.service_key, &key_id)
                .await
                .map_err(|error| messages::history_unavailable(&request.service_key, &error))?;
        }
        Err(messages::always_moved(request, position.head.as_ref(), busy.as_deref()).into())
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
    ) -> Result<SharedCredentialsProvider, Refused> {
        let account = services.first().map_or("", |key| key.account_id().as_str());
        let partition = invocation.function.as_ref().map_or("aws", |function| function.partition.as_str());
        let role_arn = format!("arn:{partition}:iam::{account}:role/{}", self.config.target_role_name);
        if self.config.allowed_accounts.as_ref().is_some_and(|allowed| !allowed.contains(account)) {
            return Err(messages::account_not_allowed(&role_arn, account).into());
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
        let session = self.sessions.assume(session).await.map_err(|error| Refused {
            failure: messages::assume_role_failed(&role_arn, account, &error),
            is_too_large: error.has_code(&["PackedPolicyTooLarge", "PackedPolicyTooLargeException"]),
        })?;
        Ok(SharedCredentialsProvider::new(session))
    }

    /// The account and region of a service through a session.
    fn target(&self, key: &ServiceKey, session: SharedCredentialsProvider, definitions: &Arc<Definitions>) -> Target {
        Target {
            ecs: Ecs::new(&self.shared, key.region().as_str(), session),
            buckets: self.pace.of(key),
            definitions: Arc::clone(definitions),
        }
    }

    /// What the service is now; `seen` is what it was shortly before, as far as somebody looked.
    async fn snapshot(
        &self,
        target: &Target,
        request: &UpdateRequest,
        seen: Option<Seen>,
    ) -> Result<Snapshot, Failure> {
        let key = &request.service_key;
        let service = match seen.filter(|seen| (self.clock)() - seen.at <= FRESH) {
            Some(seen) => seen.service,
            None => target.ecs.describe_service(key).await,
        };
        let service = service.map_err(|error| messages::describe_failed(key, &error))?;
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
        Ok(Snapshot { service, task_definition })
    }

    /// What the request's `restore` puts back; `known` is the change that its `STARTED` record names.
    async fn restore(
        &self,
        target: &Target,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        known: Option<&str>,
    ) -> Result<Option<Restore>, Failure> {
        let Some(point) = &request.restore else { return Ok(None) };
        let key = &request.service_key;
        let change_id = match (known, point) {
            (Some(change_id), _) => Some(change_id),
            (None, RestorePoint::Change(change_id)) => Some(change_id.as_str()),
            (None, RestorePoint::Previous) => None,
        };
        let past = match change_id {
            Some(change_id) => self.past(key, change_id).await,
            None => self.store().previous(key).await,
        };
        let past = past.map_err(|error| messages::history_unavailable(key, &error))?;
        let past = past.ok_or_else(|| messages::nothing_to_restore(key, change_id))?;
        let change_id = past.change_id.clone();
        let before = past.into_before().map_err(|why| messages::cannot_restore(key, &why))?;
        let definition = match before.state.task_definition_arn.as_deref() {
            Some(arn) if snapshot.service.task_definition_arn() != Some(arn) => {
                match target.definition(arn).await {
                    Ok(definition) if definition.is_active => OldDefinition::Active(definition),
                    Ok(definition) => OldDefinition::Inactive(definition),
                    // So ECS answers where it no longer has a revision.
                    Err(error) if error.has_code(&["ClientException"]) => OldDefinition::Gone,
                    Err(error) => return Err(messages::describe_failed(key, &DescribeError::Call(error))),
                }
            }
            _ => OldDefinition::InPlace,
        };
        Ok(Some(Restore { change_id, before, definition }))
    }

    /// The result of a change, or what stands of it where it has none.
    async fn past(&self, key: &ServiceKey, change_id: &str) -> Result<Option<Past>, CallError> {
        for n in ["1", "0"] {
            if let Some(record) = self.store().record_json(key, &format!("{change_id}#{n}")).await? {
                return Ok(Past::read(&record));
            }
        }
        Ok(None)
    }

    /// The answer to a dry run.
    async fn foretell(
        &self,
        request: &UpdateRequest,
        target: &Target,
        images: &Images<'_>,
        seen: Option<Seen>,
    ) -> Result<Response, Failure> {
        let request = &images.of(request).await?;
        let snapshot = self.snapshot(target, request, seen).await?;
        let restore = self.restore(target, request, &snapshot, None).await?;
        self.planned(request, &snapshot, restore.as_ref())
    }

    fn planned(
        &self,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        restore: Option<&Restore>,
    ) -> Result<Response, Failure> {
        let (container, changes, notes, update) = match plan::plan(request, snapshot, restore) {
            Plan::Refused(failure) => return Err(failure),
            Plan::Unchanged { targets } => (targets.into_keys().next(), Vec::new(), Vec::new(), None),
            Plan::Update(update) => {
                (update.container.clone(), update.changes.clone(), update.notes.clone(), Some(update))
            }
        };
        let before = snapshot.state(container.as_deref());
        let mut after = before.clone();
        if let Some(update) = &update {
            update.foretell(&mut after);
        }
        let mut response =
            Response::new(&request.service_key, None, Status::Planned, rfc3339((self.clock)()), before, after);
        response.body.changes = Some(changes.iter().filter_map(|change| serde_json::to_value(change).ok()).collect());
        response.body.notes = notes;
        response.body.restores = restore.map(|restore| restore.change_id.clone());
        response.body.resolved_images = request.pins.some().cloned();
        Ok(response)
    }

    async fn begin(
        &self,
        work: Work<'_>,
        snapshot: Snapshot,
        position: &Position,
        key_id: &str,
    ) -> Result<Attempt, Stop> {
        let Work { request, invocation, target, .. } = work;
        let restore = self.restore(target, request, &snapshot, None).await?;
        let restores = restore.as_ref().map(|restore| restore.change_id.clone());
        let update = match plan::plan(request, &snapshot, restore.as_ref()) {
            Plan::Refused(failure) => return Err(failure.into()),
            Plan::Unchanged { targets } => {
                let facts = |change_id, state: &Recorded| ChangeFacts {
                    restores,
                    ..facts(request, invocation, change_id, &targets, state)
                };
                return Ok(self.unchanged(request, &snapshot, &targets, position, key_id, facts).await?);
            }
            Plan::Update(update) => update,
        };
        let now = (self.clock)();
        let until = lease_until(now, invocation.deadline);
        let budget = Budget::new(invocation.deadline, until);
        let waits = update.register.is_some().then(|| target.buckets.expected_wait(Call::RegisterTaskDefinition));
        budget.for_mutation(now + waits.unwrap_or_default()).map_err(|left| {
            Stop::NotStarted(
                messages::no_time(Code::ServiceUpdateFailed, left).and("Nothing was changed in the target account."),
            )
        })?;
        let change_id = ChangeId::new(position.next_change_time(now), (self.random)());
        let before = snapshot.recorded(update.container.as_deref());
        let facts = ChangeFacts { restores, ..facts(request, invocation, change_id.clone(), &update.targets, &before) };
        let said = Said { before: Some(&before), lease_until: Some(until), ..Said::default() };
        let (record, pointers) =
            facts.record(Kind::Started, 0, now, &said, position.head.as_ref()).map_err(messages::unwritable)?;
        let lease = Lease { change_id: change_id.to_string(), until, key: key_id.to_owned() };
        let head = Head::after(&record, Some(lease));
        let key = KeyItem::new(key_id, &change_id, &request.event_hash, now);
        let written = Position { head: Some(head), key: Some(key) };
        let writes = position.writes_to(&written, &request.service_key, record, pointers);
        if let Some(why) = self.write_or_moved(request, &writes, &written).await? {
            return Ok(Attempt::Moved(why));
        }
        // The key was here before, and its failure let it be tried anew: a revision of then may be there already.
        let again = position.key.as_ref().is_some_and(|key| key.event_hash == request.event_hash);
        let begun = Begun { facts, before, position: written, deadline: invocation.deadline };
        if again {
            target.definitions.came_before();
        }
        let response = Box::pin(self.carry_out(work, snapshot, *update, begun, budget, Vec::new())).await?;
        Ok(Attempt::Ended(Box::new(response)))
    }

    /// Takes up a change of this key that began and did not end: `BEFORE` is that of its `STARTED`, and what it already
    /// did is not done again.
    async fn resume(
        &self,
        work: Work<'_>,
        snapshot: Snapshot,
        position: &Position,
        lease: Lease,
    ) -> Result<Attempt, Failure> {
        let Work { request, invocation, target, .. } = work;
        let unreadable = |what: String| messages::cannot_resume(&lease.change_id, &what);
        let change_id = ChangeId::parse(&lease.change_id).map_err(unreadable)?;
        let started = self
            .store()
            .record(&request.service_key, &format!("{change_id}#0"))
            .await
            .map_err(|error| messages::history_unavailable(&request.service_key, &error))?
            .ok_or_else(|| unreadable("its STARTED record is missing".to_owned()))?;
        let before = started.before().ok_or_else(|| unreadable("its STARTED record has no before".to_owned()))?;

        let request = &Images::as_begun(request, &started.pins());
        let work = Work { request, ..work };

        let now = (self.clock)();
        let until = lease_until(now, invocation.deadline);
        let budget = Budget::new(invocation.deadline, until);
        budget
            .for_mutation(now)
            .map_err(|left| messages::no_time(Code::ServiceUpdateFailed, left).and("Its change stays open."))?;
        let Some(head) = position.head.clone() else { return Ok(Attempt::Moved("the head is gone".to_owned())) };
        let taken = Head { lease: Some(Lease { until, ..lease }), ..head.clone() };
        let writes = [Write::Head { id: Head::id(&request.service_key), from: Some(head), to: taken.clone() }];
        let position = Position { head: Some(taken), key: position.key.clone() };
        if let Some(why) = self.write_or_moved(request, &writes, &position).await? {
            return Ok(Attempt::Moved(why));
        }

        // What the STARTED change was asked to check holds for what it saw, not for what it may have done since.
        let mut again = request.clone();
        again.expected_task_definition = None;
        again.force_new_deployment &= before.deployment_id.as_deref() == snapshot.service.deployment_id();
        let restore = self.restore(target, request, &snapshot, started.restores.as_deref()).await?;
        let plan = plan::plan(&again, &snapshot, restore.as_ref());
        let no_targets = BTreeMap::new();
        let targets = match &plan {
            Plan::Unchanged { targets } => targets,
            Plan::Update(update) => &update.targets,
            Plan::Refused(_) => &no_targets,
        };
        let earlier = messages::done_earlier(&before, &snapshot);
        let facts =
            ChangeFacts { restores: started.restores, ..facts(request, invocation, change_id, targets, &before) };
        let begun = Begun { facts, before, position, deadline: invocation.deadline };
        let response = match plan {
            Plan::Update(update) => {
                target.definitions.came_before();
                Box::pin(self.carry_out(work, snapshot, *update, begun, budget, earlier)).await?
            }
            Plan::Unchanged { .. } => self.applied(request, begun, &snapshot, Vec::new()).await?,
            Plan::Refused(failure) => {
                let failure = failure.and(messages::done_so_far(&earlier, true));
                return Err(self.failed(begun, &snapshot, failure).await);
            }
        };
        Ok(Attempt::Ended(Box::new(response)))
    }

    /// Does what is planned, and records how it ended. `earlier`: what an earlier invocation of the same change did.
    async fn carry_out(
        &self,
        work: Work<'_>,
        snapshot: Snapshot,
        update: plan::Update,
        begun: Begun,
        budget: Budget,
        earlier: Vec<String>,
    ) -> Result<Response, Failure> {
        let Work { request, target, slot, .. } = work;
        slot.under_way();
        let mut after = snapshot;
        let applying = apply::Applying {
            target,
            slot,
            key: &request.service_key,
            update: &update,
            budget,
            clock: self.clock,
            random: self.random,
        };
        match applying.run(&mut after, earlier).await {
            Ok(()) => self.applied(request, begun, &after, update.notes).await,
            Err(failure) => Err(self.failed(begun, &after, failure).await),
        }
    }

    async fn unchanged(
        &self,
        request: &UpdateRequest,
        snapshot: &Snapshot,
        targets: &BTreeMap<String, String>,
        position: &Position,
        key_id: &str,
        facts: impl FnOnce(ChangeId, &Recorded) -> ChangeFacts,
    ) -> Result<Attempt, Failure> {
        let now = (self.clock)();
        let change_id = ChangeId::new(position.next_change_time(now), (self.random)());
        let container = targets.keys().next().map(String::as_str);
        let state = snapshot.recorded(container);
        let facts = facts(change_id.clone(), &state);
        let said = Said { before: Some(&state), after: Some(&state), ..Said::default() };
        let (record, pointers) =
            facts.record(Kind::Unchanged, 1, now, &said, position.head.as_ref()).map_err(messages::unwritable)?;
        let mut response = Response::new(
            &request.service_key,
            Some(&change_id),
            Status::Unchanged,
            rfc3339(now),
            state.state.clone(),
            state.state.clone(),
        );
        response.body.restores = facts.restores;
        response.body.resolved_images = facts.pins.some().cloned();
        let head = Head::after(&record, None);
        let key = KeyItem::new(key_id, &change_id, &request.event_hash, now)
            .answered(&Answer::Response(Box::new(response.clone())), now)
            .map_err(messages::unwritable)?;
        let written = Position { head: Some(head), key: Some(key) };
        let writes = position.writes_to(&written, &request.service_key, record, pointers);
        Ok(match self.write_or_moved(request, &writes, &written).await? {
            Some(why) => Attempt::Moved(why),
            None => Attempt::Ended(Box::new(response)),
        })
    }

    /// Closes a change whose lease ended before it did: what the service looks like now stands in its place, and its
    /// key answers so.
    async fn close_orphan(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        snapshot: &Snapshot,
        position: &Position,
        lease: &Lease,
    ) -> Result<Attempt, Failure> {
        let now = (self.clock)();
        let unavailable = |error| messages::history_unavailable(&request.service_key, &error);
        let orphan_key = self.store().read(&request.service_key, &lease.key).await.map_err(unavailable)?.key;
        let started = format!("{}#0", lease.change_id);
        let started = self.store().record(&request.service_key, &started).await.map_err(unavailable)?;
        let change_id =
            ChangeId::parse(&lease.change_id).map_err(|what| messages::cannot_resume(&lease.change_id, &what))?;
        let before = started.as_ref().and_then(crate::ledger::record::Record::before);
        let container = before.as_ref().and_then(|before| before.state.task_definition_name.clone());
        let after = snapshot.recorded(container.as_deref());
        let failure = messages::abandoned(request, lease, &after);
        let facts = ChangeFacts {
            requested_by: started.as_ref().and_then(|started| started.requested_by.clone()),
            reason: started.as_ref().and_then(|started| started.reason.clone()),
            restores: started.as_ref().and_then(|started| started.restores.clone()),
            pins: started.as_ref().map(crate::ledger::record::Record::pins).unwrap_or_default(),
            identity: started.map_or_else(|| "claimed".to_owned(), |started| started.identity),
            ..facts(request, invocation, change_id, &BTreeMap::new(), &after)
        };
        let said = Said { before: before.as_ref(), after: Some(&after), error: Some(&failure), ..Said::default() };
        let (record, _) =
            facts.record(Kind::Abandoned, 1, now, &said, position.head.as_ref()).map_err(messages::unwritable)?;
        let head = Head::after(&record, None);
        let mut writes = vec![
            Write::Head { id: Head::id(&request.service_key), from: position.head.clone(), to: head.clone() },
            Write::Record(Box::new(record)),
        ];
        if let Some(key) = orphan_key.filter(|key| key.change_id == lease.change_id) {
            let to = key.answered(&Answer::Failure(failure), now).map_err(messages::unwritable)?;
            writes.push(Write::Key { from: Some(key), to });
        }
        let written = Position { head: Some(head), key: None };
        let moved = self.write_or_moved(request, &writes, &written).await?;
        Ok(Attempt::Moved(moved.unwrap_or_else(|| "an abandoned change was closed".to_owned())))
    }

    /// Writes, and answers why it could not where something moved. Where it is not known whether the write went
    /// through, the head tells.
    async fn write_or_moved(
        &self,
        request: &UpdateRequest,
        writes: &[Write],
        written: &Position,
    ) -> Result<Option<String>, Failure> {
        let error = match self.store().write(writes).await {
            Ok(()) => return Ok(None),
            Err(error) => error,
        };
        let key_id = written.key.as_ref().map_or("key#", |key| key.id.as_str());
        match &error {
            WriteError::Call(call) if !call.retryable() => {
                Err(messages::history_unavailable(&request.service_key, call))
            }
            WriteError::Call(call) => match self.store().read(&request.service_key, key_id).await {
                Ok(now) if now.head == written.head => Ok(None),
                _ => Err(messages::history_unavailable(&request.service_key, call)),
            },
            WriteError::Conflict(why) => match self.store().read(&request.service_key, key_id).await {
                // Our own write, sent twice since its first answer was lost.
                Ok(now) if now.head == written.head => Ok(None),
                _ => Ok(Some(why.clone())),
            },
        }
    }
}

/// Why a change was not done.
enum Stop {
    /// It failed.
    Failed(Failure),
    /// The time left did not allow to begin it.
    NotStarted(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What was read before a change could begin.
struct Opening {
    /// Head and key; they arrived before the service was described.
    position: Result<Position, CallError>,
    /// The service, where it was described together with others.
    seen: Option<Seen>,
}

/// A service as it was described at some time.
struct Seen {
    service: Result<Service, DescribeError>,
    at: DateTime<Utc>,
}

/// A session that was not to be had.
struct Refused {
    failure: Failure,
    /// Fewer services might do.
    is_too_large: bool,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure, is_too_large: false }
    }
}

fn key_id(request: &UpdateRequest, invocation: &Invocation) -> String {
    KeyItem::id(request.idempotency_key.as_deref().unwrap_or(&invocation.request_id), &request.service_key)
}

/// How an attempt ended.
enum Attempt {
    /// With an answer.
    Ended(Box<Response>),
    /// Something moved: read again. Says what.
    Moved(String),
}

fn facts(
    request: &UpdateRequest,
    invocation: &Invocation,
    change_id: ChangeId,
    targets: &BTreeMap<String, String>,
    before: &Recorded,
) -> ChangeFacts {
    ChangeFacts {
        service: request.service_key.clone(),
        change_id,
        repositories: repositories(targets, before),
        requested_by: request.requested_by.clone(),
        reason: request.reason.clone(),
        identity: if invocation.is_verified() { "verified" } else { "claimed" }.to_owned(),
        session: session_name(&invocation.request_id),
        request_id: invocation.request_id.clone(),
        restores: None,
        pins: request.pins.clone(),
    }
}

/// Repositories of the images that change, each once; where none does, that of the container the change is about.
fn repositories(targets: &BTreeMap<String, String>, before: &Recorded) -> Vec<String> {
    let mut repositories: Vec<String> = Vec::new();
    let changed = targets.iter().filter(|(name, image)| before.state.images.get(*name) != Some(*image));
    for repository in changed.map(|(_, image)| crate::image::repository_of(image)) {
        if !repository.is_empty() && !repositories.iter().any(|known| known == repository) {
            repositories.push(repository.to_owned());
        }
    }
    if repositories.is_empty()
        && let Some(image) = before.state.service_image.as_deref().filter(|image| !image.is_empty())
    {
        repositories.push(crate::image::repository_of(image).to_owned());
    }
    repositories
}
