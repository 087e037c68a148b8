//! The calls that act on the target account: register, update, tag. Each call is sent once, or again if it is known that it did nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::call_error::{CallError, Effect};
use domain::ecs::deployment::listed::said_of_primary;
use domain::ecs::deployment::times::CLOCK_TOLERANCE;
use domain::ecs::service::{Service, Snapshot, is_known};
use domain::ecs::task_definition::TaskDefinition;
use domain::error::{Code, Failure};
use domain::ids::ServiceKey;
use domain::ledger::head::LEASE_GRACE;
use domain::mask::Mask;
use domain::plan::parameters::{covers_parameters, has_parameters, took_parameters};
use domain::plan::update::{Registration, Update};
use serde_json::{Map, Value, json};

use super::lease::HeldLease;
use super::messages;
use super::target::AccountClients;
use super::turn::Revision;
use crate::aws::ecs::{DescribeError, MutationTime};
use crate::aws::rate_limit::ApiBucket;
use crate::backoff::Backoff;

/// How often a call is sent that was throttled or never arrived.
const SEND_ATTEMPTS: u32 = 8;
/// How often a call is sent if its effect had to be read back.
const UNKNOWN_ATTEMPTS: u32 = 3;
/// Longest and shortest time for one mutating call.
const CALL_TIMEOUT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));
/// How many revisions before a family's newest are searched for one whose registration was not answered.
const LOOKED_BACK: u64 = 3;
/// The pause before a call is sent again.
const PAUSE: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(5) };
/// The pauses before each read back: "The Amazon ECS API follows an eventual consistency model", without a bound, so that one immediate
/// read proves nothing.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>.
pub(super) const READ_BACK_PAUSES: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(800), Duration::from_secs(1)];

/// The time for mutating calls: until the end of the invocation, or until the last part of the lease, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    end: DateTime<Utc>,
}

impl Budget {
    /// The time until `deadline`, or until [`LEASE_GRACE`] before `lease_until`.
    pub(super) fn new(deadline: DateTime<Utc>, lease_until: DateTime<Utc>) -> Self {
        Self { end: deadline.min(lease_until - LEASE_GRACE) }
    }

    /// The timeout of a mutating call that starts at `now`: a third of the time left, within bounds, so that a lost answer can be read
    /// back.
    ///
    /// # Errors
    ///
    /// The time left, if it is less than the timeout: a call that may outlive its lease must not start.
    pub(super) fn for_mutation(self, now: DateTime<Utc>) -> Result<MutationTime, Duration> {
        let left = (self.end - now).to_std().unwrap_or_default();
        let timeout = (left / 3).clamp(CALL_TIMEOUT.1, CALL_TIMEOUT.0);
        if left < timeout { Err(left) } else { Ok(MutationTime { timeout, latest_start: self.end - timeout }) }
    }

    /// How long a mutating call can wait for its turn, from `now`.
    pub(super) fn last_start(self, now: DateTime<Utc>) -> Duration {
        (self.end - now).to_std().unwrap_or_default().saturating_sub(CALL_TIMEOUT.1)
    }
}

/// The steps of one change.
pub(super) struct Applying<'a> {
    pub target: &'a AccountClients,
    pub key: &'a ServiceKey,
    pub update: &'a Update,
    pub budget: Budget,
    pub lease: &'a HeldLease,
    /// Whether the last change of the service failed: what is about to be registered may already exist.
    pub may_be_registered: bool,
    pub clock: fn() -> DateTime<Utc>,
    pub random: fn() -> [u8; 10],
}

type Tags = BTreeMap<String, String>;

/// What a read shows after an answer was lost.
pub(super) struct ReadBack<T> {
    done: T,
    /// Whether the read shows that this call itself acted.
    is_ours: bool,
}

impl<T> ReadBack<T> {
    pub(super) fn ours(done: T) -> Self {
        Self { done, is_ours: true }
    }
}

/// A step that failed, and whether its effect is known.
pub(super) struct Stopped {
    pub failure: Failure,
    pub is_known: bool,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self { failure, is_known: true }
    }
}

impl Applying<'_> {
    /// Does what the plan says, with the revision from its turn. `done` is what an earlier attempt at the same change did.
    pub(super) async fn run(
        &self,
        revision: Revision,
        after: &mut Snapshot,
        mut done: Vec<String>,
    ) -> Result<(), Failure> {
        let ended = self.steps(revision, after, &mut done).await;
        ended.map_err(|stopped| stopped.failure.and(messages::done_so_far(&done, stopped.is_known)))
    }

    async fn steps(&self, revision: Revision, after: &mut Snapshot, done: &mut Vec<String>) -> Result<(), Stopped> {
        let update = self.update;
        let is_new = matches!(revision, Revision::Lead(_));
        let definition = match (&update.register, revision) {
            (_, Revision::Shared(definition)) => Some(definition),
            (Some(Registration { family, document }), Revision::Lead(leader)) => {
                let definition = Arc::new(self.register(document, family, after).await?);
                leader.registered(&definition);
                done.push(format!("task definition {} was registered", definition.family_and_revision()));
                Some(definition)
            }
            _ => update.revision.clone(),
        };
        if update.tags_first {
            self.change_tags(after, done).await?;
        }
        if update.updates_service() {
            let before = after.service.clone();
            after.service = self.update_service(definition.as_deref(), is_new, after).await?;
            after.task_definition = self.running(definition, after).await;
            done.push(messages::service_updated(after, &before));
        }
        if !update.tags_first {
            self.change_tags(after, done).await?;
        }
        Ok(())
    }

    /// The task definition that the service runs after its update. If the update set no revision, the service may have been read while ECS
    /// lagged behind, and the answer may name another revision than was read: no definition is better than a wrong one.
    async fn running(&self, set: Option<Arc<TaskDefinition>>, after: &Snapshot) -> Option<Arc<TaskDefinition>> {
        let arn = after.service.task_definition_arn();
        let is_its = |definition: &Arc<TaskDefinition>| arn.is_none_or(|arn| arn == definition.arn);
        match set.or_else(|| after.task_definition.clone().filter(is_its)) {
            Some(known) => Some(known),
            None => self.target.definition(arn?).await.ok(),
        }
    }

    async fn register(&self, document: &str, family: &str, now: &Snapshot) -> Result<TaskDefinition, Stopped> {
        let what = format!("of family {family} for service {}", self.key);
        let rejected = |error: &CallError| messages::rejected(Code::TaskDefinitionRejected, &what, error);
        let mask = || self.mask(now);
        if (self.may_be_registered || self.target.definitions.may_already_be_registered())
            && let Some(definition) =
                self.newest(family, document).await.map_err(|error| rejected(&error.without(&mask())))?
        {
            return Ok(definition);
        }
        let once = async |time| self.target.ecs.register_task_definition(document, time).await;
        let is_of_family =
            |ran: &&TaskDefinition| ran.family_and_revision().rsplit_once(':').is_some_and(|(of, _)| of == family);
        let ran = now.task_definition.as_deref().filter(is_of_family);
        let back = async || {
            let registered = self.registered_since(ran, family, document).await.map_err(DescribeError::Call)?;
            Ok(registered.map(ReadBack::ours))
        };
        self.send(ApiBucket::RegisterTaskDefinition, Code::TaskDefinitionRejected, &rejected, mask, once, back).await
    }

    /// What no error of a call may show: values that may be secret in the definition and the service as they were read, and in what is set.
    pub(super) fn mask(&self, now: &Snapshot) -> Mask {
        let definition = now.task_definition.as_deref().map(TaskDefinition::document);
        let restored = self.update.revision.as_deref().map(TaskDefinition::document);
        let registered =
            self.update.register.as_ref().and_then(|registration| serde_json::from_str(&registration.document).ok());
        let set = Value::Object(self.update.parameters.clone());
        // In a parameter that is not known here, every value may be secret, as in an environment.
        let unknown = self.update.parameters.iter().filter(|(name, _)| !is_known(name)).map(|(_, value)| value);
        let unknown = json!({"environment": unknown.collect::<Vec<_>>()});
        let documents = [definition, restored, registered, Some(set), Some(unknown), Some(now.service.document())];
        let mask = documents.iter().flatten().fold(Mask::default(), Mask::and_of);
        let key = self.key;
        let images = self.update.images.values().flat_map(|(from, to)| [from.as_str(), to.as_str()]);
        let shown =
            [key.account_id().as_str(), key.region().as_str(), key.cluster(), key.service()].into_iter().chain(images);
        shown.fold(mask, Mask::but)
    }

    /// The revision of this name, or the newest of this family; none if there is no active one.
    async fn described(&self, name: &str) -> Result<Option<TaskDefinition>, CallError> {
        match self.target.describe(name).await {
            Ok(definition) => Ok(Some(definition)),
            // This is how ECS answers if there is no active revision.
            Err(error) if error.has_code(&["ClientException"]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The family's newest revision, if it already is what `document` would create.
    async fn newest(&self, family: &str, document: &str) -> Result<Option<TaskDefinition>, CallError> {
        Ok(self.described(family).await?.filter(|newest| newest.matches_registration(document)))
    }

    /// The revision that a call registered whose answer was lost: the family's newest, or one shortly before it where somebody else has
    /// registered more since. It is newer than what the service ran.
    async fn registered_since(
        &self,
        ran: Option<&TaskDefinition>,
        family: &str,
        document: &str,
    ) -> Result<Option<TaskDefinition>, CallError> {
        let Some(newest) = self.described(family).await? else { return Ok(None) };
        let last = newest.revision().unwrap_or_default();
        if newest.matches_registration(document) {
            return Ok(Some(newest));
        }
        let first =
            ran.and_then(TaskDefinition::revision).unwrap_or(last).max(last.saturating_sub(LOOKED_BACK + 1)) + 1;
        for revision in (first..last).rev() {
            let earlier = self.described(&format!("{family}:{revision}")).await?;
            if earlier.as_ref().is_some_and(|earlier| earlier.matches_registration(document)) {
                return Ok(earlier);
            }
        }
        Ok(None)
    }

    async fn update_service(
        &self,
        definition: Option<&TaskDefinition>,
        is_new: bool,
        now: &Snapshot,
    ) -> Result<Service, Stopped> {
        let before = &now.service;
        let body = self.update_body(definition);
        let what = definition.map_or_else(
            || format!("for service {}", self.key),
            |definition| format!("{} for service {}", definition.family_and_revision(), self.key),
        );
        let rejected = |error: &CallError| messages::rejected(Code::ServiceUpdateFailed, &what, error);
        let first_sent = Cell::new(None);
        let once = async |time| {
            first_sent.set(first_sent.get().or(Some((self.clock)())));
            let sent = self.target.ecs.update_service(&body, before.tags.clone(), time).await;
            // A revision that was registered a moment ago may not be known everywhere yet.
            sent.map_err(|error| if is_new { error.of_a_new_revision() } else { error })
        };
        let back = async || {
            let mut service = self.target.ecs.describe_service(self.key).await?;
            // A read that lags behind may show what the change before this one deployed.
            let another = service.deployment_id().filter(|id| before.deployment_id() != Some(*id));
            if let Some(id) = another
                && self.lease.is_of_an_earlier_change(id, service.deployed_at()).await
            {
                return Ok(None);
            }
            let mut is_ours = self.is_updated(&service, definition, before);
            let may_be_forced =
                first_sent.get().is_some_and(|sent| self.may_be_forced_since(&service, definition, before, sent));
            // A rollback by ECS may run what this call sets.
            let may_be_a_rollback =
                is_ours && self.deploys(definition) && service.deployment_id() != before.deployment_id();
            if may_be_forced || may_be_a_rollback {
                self.target.ecs.look_at_primary(&mut service).await?;
                let says = said_of_primary(&service);
                is_ours = (is_ours || says.runs_what_ran_before()) && says.rolls_back != Some(true);
            }
            Ok(match is_ours {
                true => Some(ReadBack::ours(Ok(service))),
                // A read that lags behind shows a deployment that is older than the one before the call.
                false if self.deploys(definition) && service.deployed_at() > before.deployed_at() => {
                    let running = service.task_definition_arn().unwrap_or("no task definition of its own").to_owned();
                    Some(ReadBack { done: Err(running), is_ours: false })
                }
                false => None,
            })
        };
        let once = async |time| once(time).await.map(Ok);
        let updated = self
            .send(ApiBucket::UpdateService, Code::ServiceUpdateFailed, &rejected, || self.mask(now), once, back)
            .await?;
        // It is not known whether this call acted before the other deployment: what was deployed after it stays.
        updated.map_err(|running| {
            let failure = messages::changed_meanwhile(self.key, &[format!("it runs {running}")]);
            Stopped { failure, is_known: false }
        })
    }

    /// Whether the call starts a deployment.
    fn deploys(&self, definition: Option<&TaskDefinition>) -> bool {
        definition.is_some() || self.update.force_new_deployment
    }

    fn update_body(&self, definition: Option<&TaskDefinition>) -> String {
        let mut body: Map<String, Value> = self.update.parameters.clone();
        body.insert("cluster".to_owned(), self.key.cluster().into());
        body.insert("service".to_owned(), self.key.service().into());
        if let Some(definition) = definition {
            body.insert("taskDefinition".to_owned(), definition.arn.as_str().into());
        }
        if self.update.force_new_deployment {
            body.insert("forceNewDeployment".to_owned(), true.into());
        }
        Value::Object(body).to_string()
    }

    /// Whether `UpdateService` acted, according to what the service looks like now.
    fn is_updated(&self, now: &Service, definition: Option<&TaskDefinition>, before: &Service) -> bool {
        // For a parameter that is not shown now, it cannot be told whether it was set.
        let shown = self.update.parameters.iter().filter(|(name, _)| now.shows(name));
        let parameters = &shown.map(|(name, value)| (name.clone(), value.clone())).collect();
        // If the service looked the same before, that proves nothing; and it does no harm to send the same parameters twice.
        if definition.is_none() && !self.update.force_new_deployment && has_parameters(before, parameters) {
            return false;
        }
        let wanted =
            definition.map_or_else(|| before.task_definition_arn(), |definition| Some(definition.arn.as_str()));
        // If the call starts no deployment, it does not matter what runs.
        (now.task_definition_arn() == wanted || !self.deploys(definition))
            && took_parameters(now, parameters, before)
            && (!self.update.force_new_deployment || now.deployment_id() != before.deployment_id())
    }

    /// Whether a deployment that was created since `sent` may be the forced one. The forced deployment deploys what the service runs at
    /// that time, which somebody else may have set since the service was described. A deployment is the forced one if it runs the same as
    /// the one that it replaced, and is not its rollback.
    fn may_be_forced_since(
        &self,
        now: &Service,
        definition: Option<&TaskDefinition>,
        before: &Service,
        sent: DateTime<Utc>,
    ) -> bool {
        definition.is_none()
            && self.update.force_new_deployment
            && covers_parameters(now, &self.update.parameters)
            && now.deployment_id() != before.deployment_id()
            && now.deployed_at().is_some_and(|created| created >= sent - CLOCK_TOLERANCE)
    }

    async fn change_tags(&self, after: &mut Snapshot, done: &mut Vec<String>) -> Result<(), Stopped> {
        if self.update.tags.remove_first {
            self.untag(after, done).await?;
            self.tag(after, done).await
        } else {
            self.tag(after, done).await?;
            self.untag(after, done).await
        }
    }

    async fn tag(&self, after: &mut Snapshot, done: &mut Vec<String>) -> Result<(), Stopped> {
        let set = &self.update.tags.set;
        if set.is_empty() {
            return Ok(());
        }
        let arn = after.service.arn().to_owned();
        let mut tags = after.service.tags.clone();
        tags.extend(set.clone());
        let once = async |time| self.target.ecs.tag(&arn, set, time).await.map(|()| tags.clone());
        let is_done = |tags: &Tags| set.iter().all(|(key, value)| tags.get(key) == Some(value));
        after.service.tags = self.send_tags(after, once, is_done).await?;
        done.push(format!("tags {} were set", messages::listed(set.keys())));
        Ok(())
    }

    async fn untag(&self, after: &mut Snapshot, done: &mut Vec<String>) -> Result<(), Stopped> {
        let remove = &self.update.tags.remove;
        if remove.is_empty() {
            return Ok(());
        }
        let arn = after.service.arn().to_owned();
        let mut tags = after.service.tags.clone();
        tags.retain(|key, _| !remove.contains(key));
        let once = async |time| self.target.ecs.untag(&arn, remove.iter().cloned(), time).await.map(|()| tags.clone());
        let is_done = |tags: &Tags| !remove.iter().any(|key| tags.contains_key(key));
        after.service.tags = self.send_tags(after, once, is_done).await?;
        done.push(format!("tags {} were removed", messages::listed(remove)));
        Ok(())
    }

    /// The tags after a call that changed them.
    async fn send_tags(
        &self,
        now: &Snapshot,
        once: impl AsyncFn(MutationTime) -> Result<Tags, CallError>,
        is_done: impl Fn(&Tags) -> bool,
    ) -> Result<Tags, Stopped> {
        let failed = |error: &CallError| messages::tags_failed(self.key, error);
        let back = async || {
            let service = self.target.ecs.describe_service(self.key).await?;
            Ok(Some(service.tags).filter(&is_done).map(ReadBack::ours))
        };
        self.send(ApiBucket::TagResource, Code::TagUpdateFailed, &failed, || self.mask(now), once, back).await
    }

    /// Sends the call until it is done, is refused, or has been sent often enough. Each attempt is one request, for which the budget is
    /// checked. If the answer is lost, the effect is read back before the call is sent again.
    pub(super) async fn send<T>(
        &self,
        call: ApiBucket,
        code: Code,
        failed: &impl Fn(&CallError) -> Failure,
        mask: impl Fn() -> Mask,
        once: impl AsyncFn(MutationTime) -> Result<T, CallError>,
        back: impl AsyncFn() -> Result<Option<ReadBack<T>>, DescribeError>,
    ) -> Result<T, Stopped> {
        let (mut sent, mut unknown) = (0, 0);
        loop {
            let now = (self.clock)();
            let time = self.budget.for_mutation(now).map_err(|left| messages::no_time(code, left))?;
            let error = match once(time).await {
                Ok(done) => {
                    self.lease.mark_acted(now);
                    return Ok(done);
                }
                Err(error) => error.without(&mask()),
            };
            sent += 1;
            if error.effect == Effect::Unknown {
                unknown += 1;
                self.lease.mark_acted(now);
                // First of all: nobody else may begin while it can still act.
                self.lease.lengthen(now).await;
                if let Some(ReadBack { done, is_ours }) = self.read_back(&error, failed, &mask, &back).await? {
                    // Where somebody else has deployed, this call may still act.
                    if is_ours {
                        self.lease.settle(now);
                    }
                    return Ok(done);
                }
            }
            if error.effect == Effect::Refused || sent == SEND_ATTEMPTS || unknown == UNKNOWN_ATTEMPTS {
                return Err(failed(&error).into());
            }
            let pause = PAUSE.pause(sent, self.random);
            // Waiting for a call that could not start afterwards would only use up the time to record the failure.
            if self.budget.for_mutation((self.clock)() + pause).is_err() {
                return Err(failed(&error).into());
            }
            tokio::time::sleep(pause).await;
            let until = self.budget.last_start((self.clock)());
            let token = tokio::time::timeout(until, self.target.limits.take(call)).await;
            token.map_err(|_| messages::no_time(code, CALL_TIMEOUT.1))?;
        }
    }

    /// The effect of a call whose answer was lost; none if the call was not done, as far as several reads show.
    async fn read_back<T>(
        &self,
        error: &CallError,
        failed: &impl Fn(&CallError) -> Failure,
        mask: &impl Fn() -> Mask,
        back: &impl AsyncFn() -> Result<Option<ReadBack<T>>, DescribeError>,
    ) -> Result<Option<ReadBack<T>>, Stopped> {
        let (mut unread, mut other) = (None, None);
        for pause in READ_BACK_PAUSES {
            tokio::time::sleep(pause).await;
            match back().await {
                Ok(Some(done)) if done.is_ours => return Ok(Some(done)),
                // What somebody else deployed may have been there before the call: this read lags behind, and the next one decides.
                Ok(seen) => (unread, other) = (None, seen),
                Err(DescribeError::Call(reading)) => unread = Some(reading.without(&mask())),
                Err(gone) => return Err(failed(error).and(format!("Reading it back: {gone}.")).into()),
            }
        }
        match unread {
            None => Ok(other),
            Some(_) if other.is_some() => Ok(other),
            Some(reading) => {
                let failure = messages::unknown_effect(failed(error), &reading);
                Err(Stopped { failure, is_known: false })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ledger::head::{latest_effect, lease_until};

    #[test]
    fn no_mutating_call_starts_with_less_time_than_its_timeout() {
        let now = DateTime::UNIX_EPOCH;
        let seconds = chrono::Duration::seconds;
        let timeout = |deadline: i64, lease: i64| {
            let budget = Budget::new(now + seconds(deadline), now + seconds(lease));
            budget.for_mutation(now).map(|time| (time.timeout, time.latest_start - now))
        };
        let of = |timeout, latest| Ok((Duration::from_secs(timeout), seconds(latest)));
        assert_eq!(timeout(300, 3600), of(10, 290));
        assert_eq!(timeout(15, 3600), of(5, 10));
        assert_eq!(timeout(3, 3600), of(3, 0));
        assert_eq!(timeout(2, 3600), Err(Duration::from_secs(2)));
        assert_eq!(timeout(-2, 3600), Err(Duration::ZERO));
        // In the last five seconds of a lease, its holder sends nothing and nobody else takes it.
        assert_eq!(timeout(3600, 8), of(3, 0));
        assert_eq!(timeout(3600, 7), Err(Duration::from_secs(2)));
    }

    #[test]
    fn waves_try_again_for_longer_than_a_lease_keeps_others_out() {
        let (began, seconds) = (DateTime::UNIX_EPOCH, chrono::Duration::seconds);
        let deadline = began + seconds(900);
        let until = lease_until(began, deadline);
        let budget = Budget::new(deadline, until);
        let last = (0..900).map(|second| began + seconds(second)).rfind(|at| budget.for_mutation(*at).is_ok()).unwrap();
        let kept_out = [until, latest_effect(last)].map(|until| (until + LEASE_GRACE - began).num_seconds());
        assert_eq!(kept_out, [130, 182]);
        let batch = include_str!("../../infrastructure/step-functions/change-batch.asl.json");
        for told in ["130 seconds after its attempt began", "182 where the answer", "465 in all"] {
            assert!(batch.contains(told), "{told}");
        }
        assert!(batch.contains("{% 15 * $power(2, $attempt - 1) %}") && batch.contains("$attempt >= 6"));
        let pauses: Vec<i64> = (1..6).map(|attempt| 15 << (attempt - 1)).collect();
        assert_eq!(pauses, [15, 30, 60, 120, 240]);
        assert_eq!(pauses.iter().sum::<i64>(), 465);
        assert!(kept_out.into_iter().all(|kept_out| kept_out < 465));
    }
}
