//! Many changes at once: they share sessions and reads, and no more of them run at a time than wanted.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::error::Failure;
use domain::event::batch;
use domain::event::parse::Batch;
use domain::event::request::UpdateRequest;
use domain::ids::Region;
use domain::ledger::turn::Standing;
use domain::response::{ManyResponse, Response, Results, ServiceOutcome};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::change::{ChangeError, Prefetched};
use super::image_lookup::Images;
use super::note::NOTE_TIMEOUT;
use super::permit::ConcurrencyPermit;
use super::snapshot::Described;
use super::target::{AccountClients, Definitions};
use super::{Invocation, Updater, asker, caller, event, key_id, wait};
use crate::aws::ecs::SERVICES_PER_CALL;
use crate::aws::sessions::Session;

/// How many sessions of one account work at a time. More would only wait for the same buckets, while their snapshots grow old.
const SESSIONS_PER_ACCOUNT: usize = 2;

/// The part of an invocation's time that is reserved for the answer, if something is left to note.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// How many services may be prepared without having begun: half as many again as may be at work. The next services are then ready when a
/// place becomes free, and there are not so many that what was read about them grows old and fills the memory. The services at work are
/// counted until their change has begun: the next services are prepared while these wait for ECS, and do not delay them.
fn ahead(max_concurrency: usize) -> usize {
    let at_once = max_concurrency.max(SERVICES_PER_CALL);
    at_once + at_once / 2
}

impl Updater {
    /// Does what `batch` asks for. `ended` is called for each update when it has ended.
    pub async fn update_many(
        &self,
        batch: &Batch,
        invocation: &Invocation,
        ended: &dyn Fn(&UpdateRequest, &ServiceOutcome),
    ) -> ManyResponse {
        let run = Run {
            updater: self,
            updates: &batch.updates,
            invocation,
            ended,
            images: Images::new(&self.registries),
            slots: Arc::new(Semaphore::new(self.config.max_concurrency)),
            ahead: Arc::new(Semaphore::new(ahead(self.config.max_concurrency))),
            results: RefCell::new(Results::new(batch.updates.len(), batch.summary_only)),
            slowest: Cell::default(),
            to_wait: RefCell::default(),
            more: Notify::new(),
        };
        let mut accounts: HashMap<&str, Rc<Account>> = HashMap::new();
        let mut running: FuturesUnordered<_> = batch::groups(&batch.updates)
            .into_iter()
            .map(|group| {
                let id = batch.updates[group[0]].service_key.account_id().as_str();
                let account = Rc::clone(accounts.entry(id).or_default());
                run.take_turn(group, account)
            })
            .collect();
        // From now on, an account's task definitions are kept as long as its groups.
        drop(accounts);
        let mut waiting = FuturesUnordered::new();
        loop {
            waiting.extend(run.to_wait.take().into_iter().map(|one| run.wait(one)));
            if running.is_empty() && waiting.is_empty() {
                break;
            }
            tokio::select! {
                // In a fixed order, so that what happens depends only on events and times.
                biased;
                _ = running.next(), if !running.is_empty() => {}
                _ = waiting.next(), if !waiting.is_empty() => {}
                () = run.more.notified() => {}
            }
        }
        drop((running, waiting));
        run.results.into_inner().into_response()
    }
}

/// One invocation with many updates.
struct Run<'a> {
    updater: &'a Updater,
    updates: &'a [UpdateRequest],
    invocation: &'a Invocation,
    ended: &'a dyn Fn(&UpdateRequest, &ServiceOutcome),
    images: Images<'a>,
    /// Permits for changes that are at work.
    slots: Arc<Semaphore>,
    /// Permits for services that are prepared and have not begun.
    ahead: Arc<Semaphore>,
    results: RefCell<Results>,
    /// How long the slowest change so far took.
    slowest: Cell<Duration>,
    /// Changes that are done and whose deployments have to be followed. They need no place, session or turn that others need.
    to_wait: RefCell<Vec<ToWait>>,
    /// Notified when there is one more of them.
    more: Notify,
}

/// A change that is done and whose deployment has to be followed.
struct ToWait {
    index: usize,
    response: Response,
    target: Result<AccountClients, Failure>,
}

/// What the groups of one account share.
struct Account {
    turns: Arc<Semaphore>,
    definitions: RefCell<HashMap<Region, Arc<Definitions>>>,
}

impl Default for Account {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(SESSIONS_PER_ACCOUNT)), definitions: RefCell::default() }
    }
}

impl Run<'_> {
    async fn take_turn(&self, group: Vec<usize>, account: Rc<Account>) {
        let _turn = Arc::clone(&account.turns).acquire_owned().await.ok();
        self.group(group, &account).await;
    }

    /// The updates of one session.
    async fn group(&self, group: Vec<usize>, account: &Account) {
        let mut ahead = self.prepare(group.len()).await;
        if !self.has_time() {
            for index in group {
                self.end(index, &ServiceOutcome::NotStarted);
            }
            return;
        }
        let updater = self.updater;
        let services: Vec<_> = group.iter().map(|index| &self.updates[*index].service_key).collect();
        let requested_by = self.updates[group[0]].requested_by.as_deref();
        let purpose = self.updates[group[0]].purpose();
        let changes: Vec<usize> = group.iter().copied().filter(|index| !self.updates[*index].dry_run).collect();
        let key_ids: Vec<_> = changes.iter().map(|index| key_id(&self.updates[*index], self.invocation)).collect();
        let wanted: Vec<_> = changes
            .iter()
            .map(|index| &self.updates[*index].service_key)
            .zip(key_ids.iter().map(String::as_str))
            .collect();
        let (session, positions) =
            tokio::join!(updater.open_session(&services, purpose, requested_by, self.invocation), async {
                if wanted.is_empty() { Vec::new() } else { updater.store().read_many(&wanted).await }
            });
        let session = match session {
            Err(refused) if refused.is_too_large && group.len() > 1 => {
                drop(ahead);
                let (first, second) = group.split_at(group.len() / 2);
                Box::pin(self.group(first.to_vec(), account)).await;
                return Box::pin(self.group(second.to_vec(), account)).await;
            }
            session => session.map_err(|refused| refused.failure),
        };
        let targets = self.targets(&group, &session, account);
        // If one of them began before, the definition that they share may already be registered, even if the others did not begin.
        if positions
            .iter()
            .flatten()
            .any(|read| read.value.position.key.as_ref().is_some_and(|key| key.progress().is_some()))
        {
            targets.values().flatten().for_each(|target| target.definitions.mark_retried());
        }
        let mut positions: HashMap<_, _> = changes.into_iter().zip(positions).collect();
        // If the head and the key alone decide, the service need not be described.
        let now = (updater.clock)();
        let is_open = |index: &usize| {
            positions.get(index).is_none_or(|position| {
                let request = &self.updates[*index];
                let key_id = key_id(request, self.invocation);
                let caller = caller(request, self.invocation, &key_id);
                let asker = asker(request, &caller, &key_id);
                let admits = |standing: &Standing| standing.admits(event(request), &asker, now);
                position.as_ref().is_ok_and(|read| admits(&read.value).needs_the_service())
            })
        };
        let open: Vec<usize> = group.iter().copied().filter(is_open).collect();
        let mut seen = self.look(&open, &targets).await;
        let entries = group.into_iter().filter_map(|index| {
            let target = targets.get(self.updates[index].service_key.region())?;
            let (position, seen) = (positions.remove(&index), seen.remove(&index));
            let opening = position.map(|position| Prefetched { position, seen: None });
            let ahead = ahead.as_mut().and_then(|permits| permits.split(1));
            Some(self.entry(index, target, opening, seen, ahead))
        });
        // Each future wakes only itself; `join_all` would poll all of them for every answer to one.
        let mut entries: FuturesUnordered<_> = entries.collect();
        drop(ahead);
        while entries.next().await.is_some() {}
    }

    /// Waits until this number of services may be prepared: all services of a group, or as many as are allowed at all.
    async fn prepare(&self, services: usize) -> Option<OwnedSemaphorePermit> {
        let most = ahead(self.updater.config.max_concurrency);
        let permits = u32::try_from(services.min(most)).ok()?;
        Arc::clone(&self.ahead).acquire_many_owned(permits).await.ok()
    }

    /// Clients for each region of the group, through its session.
    fn targets(
        &self,
        group: &[usize],
        session: &Result<Arc<Session>, Failure>,
        account: &Account,
    ) -> HashMap<Region, Result<AccountClients, Failure>> {
        let mut targets = HashMap::new();
        for key in group.iter().map(|index| &self.updates[*index].service_key) {
            targets.entry(key.region().clone()).or_insert_with(|| {
                let session = session.clone()?;
                let mut definitions = account.definitions.borrow_mut();
                let definitions = definitions.entry(key.region().clone()).or_default();
                Ok(self.updater.target(key, session, definitions))
            });
        }
        targets
    }

    /// Describes services; those of one cluster are described together. `indices` are sorted by region and cluster.
    async fn look(
        &self,
        indices: &[usize],
        targets: &HashMap<Region, Result<AccountClients, Failure>>,
    ) -> HashMap<usize, Described> {
        let place = |index: &usize| {
            let key = &self.updates[*index].service_key;
            (key.region(), key.cluster())
        };
        let calls = indices.chunk_by(|a, b| place(a) == place(b)).flat_map(|cluster| cluster.chunks(SERVICES_PER_CALL));
        let calls = calls.filter_map(|indices| {
            let target = targets.get(place(indices.first()?).0)?.as_ref().ok()?;
            let keys: Vec<_> = indices.iter().map(|index| &self.updates[*index].service_key).collect();
            Some(async move {
                let services = target.ecs.describe_services(&keys).await;
                let at = self.now();
                indices
                    .iter()
                    .copied()
                    .zip(services.into_iter().map(move |service| Described { service, at }))
                    .collect::<Vec<_>>()
            })
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    async fn entry(
        &self,
        index: usize,
        target: &Result<AccountClients, Failure>,
        opening: Option<Prefetched>,
        seen: Option<Described>,
        ahead: Option<OwnedSemaphorePermit>,
    ) {
        let permit = ConcurrencyPermit::of(&self.slots, ahead).await;
        let request = &self.updates[index];
        if !self.has_time() {
            if let Some(Prefetched { position: Ok(read), .. }) = &opening {
                self.note(request, &read.value).await;
            }
            return self.end(index, &ServiceOutcome::NotStarted);
        }
        let begun = self.now();
        let ended = match (opening, target) {
            (Some(opening), target) => {
                let opening = Prefetched { seen, ..opening };
                Box::pin(self.updater.change(request, self.invocation, target, &self.images, opening, &permit)).await
            }
            (None, Ok(target)) => {
                Box::pin(self.updater.dry_run(request, target, &self.images, seen)).await.map_err(ChangeError::Failed)
            }
            (None, Err(failure)) => Err(ChangeError::Failed(failure.clone())),
        };
        self.slowest.set(self.slowest.get().max((self.now() - begun).to_std().unwrap_or_default()));
        let ended = match ended {
            Ok(response) if wait::waits(request, &response) => {
                self.to_wait.borrow_mut().push(ToWait { index, response, target: target.clone() });
                return self.more.notify_one();
            }
            ended => ended,
        };
        self.end(
            index,
            &match ended {
                Ok(response) => ServiceOutcome::Answered(Box::new(response)),
                Err(ChangeError::Failed(failure) | ChangeError::Session(failure)) => ServiceOutcome::Failed(failure),
                Err(ChangeError::NotStarted(_)) => ServiceOutcome::NotStarted,
            },
        );
    }

    /// Notes an update that cannot begin for lack of time: if it is sent again, it does not undo what began meanwhile.
    async fn note(&self, request: &UpdateRequest, read: &Standing) {
        // The answer to the whole event must not be delayed too long by this note.
        if self.left() < NOTE_TIMEOUT + TO_ANSWER {
            return;
        }
        if let Err(error) = self.updater.note(request, self.invocation, read, &key_id(request, self.invocation)).await {
            tracing::warn!(service = %request.service_key, "an event that was not started could not be noted: {error}");
        }
    }

    async fn wait(&self, ToWait { index, response, target }: ToWait) {
        let response = self.updater.wait(&self.updates[index], self.invocation, &target, response).await;
        self.end(index, &ServiceOutcome::Answered(Box::new(response)));
    }

    fn end(&self, index: usize, outcome: &ServiceOutcome) {
        let request = &self.updates[index];
        (self.ended)(request, outcome);
        self.results.borrow_mut().set(index, &request.service_key, outcome);
    }

    fn now(&self) -> DateTime<Utc> {
        (self.updater.clock)()
    }

    fn left(&self) -> Duration {
        (self.invocation.deadline - self.now()).to_std().unwrap_or_default()
    }

    fn has_time(&self) -> bool {
        batch::fits(self.left(), self.slowest.get())
    }
}
