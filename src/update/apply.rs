//! What touches the target account: register, update, tag. Each step leaves `after` as AWS answered it, so that a
//! failure can tell how far the change got.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::messages;
use super::slot::Slot;
use super::target::Target;
use crate::aws::ecs::DescribeError;
use crate::aws::{CallError, Effect};
use crate::error::{Code, Failure};
use crate::names::ServiceKey;
use crate::pace::Call;
use crate::plan::{Registration, Update, covers_parameters};
use crate::snapshot::{Service, Snapshot};
use crate::task_definition::TaskDefinition;

/// How often a call is sent that was throttled or never arrived.
const SEND_ATTEMPTS: u32 = 8;
/// How often a call is sent whose effect had to be read back.
const UNKNOWN_ATTEMPTS: u32 = 3;
/// Longest and shortest time for one mutating call.
const CALL_TIMEOUT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));
/// First and longest pause before a call is sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The time that mutating calls have: to the invocation's end or to the lease's, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    end: DateTime<Utc>,
}

impl Budget {
    /// The time to `deadline` or to `lease_until`.
    pub fn new(deadline: DateTime<Utc>, lease_until: DateTime<Utc>) -> Self {
        Self { end: deadline.min(lease_until) }
    }

    /// The timeout of a mutating call that starts `now`: a third of the time left, so that a lost answer can be read
    /// back, within bounds.
    ///
    /// # Errors
    ///
    /// The time left, where it is less than the timeout: a call that may outlive its lease must not start.
    pub fn for_mutation(self, now: DateTime<Utc>) -> Result<Duration, Duration> {
        let left = (self.end - now).to_std().unwrap_or_default();
        let timeout = (left / 3).clamp(CALL_TIMEOUT.1, CALL_TIMEOUT.0);
        if left < timeout { Err(left) } else { Ok(timeout) }
    }

    /// How long from `now` a mutating call can wait for its turn.
    pub fn last_start(self, now: DateTime<Utc>) -> Duration {
        (self.end - now).to_std().unwrap_or_default().saturating_sub(CALL_TIMEOUT.1)
    }
}

/// The steps of one change.
pub struct Applying<'a> {
    pub target: &'a Target,
    pub slot: &'a Slot,
    pub key: &'a ServiceKey,
    pub update: &'a Update,
    pub budget: Budget,
    pub clock: fn() -> DateTime<Utc>,
    pub random: fn() -> [u8; 10],
}

type Tags = BTreeMap<String, String>;

/// What became of a call that was sent once.
enum Sent<T> {
    Done(T),
    Again(CallError),
}

/// A step that failed, and whether it is known that it did nothing.
struct Stopped {
    failure: Failure,
    is_known: bool,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self { failure, is_known: true }
    }
}

impl Stopped {
    fn unknown(failure: Failure, reading: &CallError) -> Self {
        Self { failure: messages::unknown_effect(failure, reading), is_known: false }
    }
}

impl Applying<'_> {
    /// Does what the plan says. `done`: what an earlier invocation of the same change did.
    pub async fn run(&self, after: &mut Snapshot, mut done: Vec<String>) -> Result<(), Failure> {
        let ended = self.steps(after, &mut done).await;
        ended.map_err(|stopped| stopped.failure.and(messages::done_so_far(&done, stopped.is_known)))
    }

    async fn steps(&self, after: &mut Snapshot, done: &mut Vec<String>) -> Result<(), Stopped> {
        let update = self.update;
        let definition = match &update.register {
            Some(Registration { family, document }) => {
                let register = async || self.register(document, family).await;
                let definition = self.target.registered(family, document, register).await?;
                done.push(format!("task definition {} was registered", definition.family_and_revision()));
                Some(definition)
            }
            None => update.revision.clone(),
        };
        if update.tags_first {
            self.change_tags(after, done).await?;
        }
        if update.updates_service() {
            let before = after.service.clone();
            after.service = self.update_service(definition.as_deref(), &before).await?;
            if let Some(definition) = definition {
                after.task_definition = Some(definition);
            }
            done.push(messages::service_updated(after, &before));
        }
        if !update.tags_first {
            self.change_tags(after, done).await?;
        }
        Ok(())
    }

    async fn register(&self, document: &str, family: &str) -> Result<TaskDefinition, Stopped> {
        let what = format!("of family {family} for service {}", self.key);
        let rejected = |error: &CallError| messages::rejected(Code::TaskDefinitionRejected, &what, error);
        if self.target.definitions.may_be_there()
            && let Some(definition) = self.newest(family, document).await.map_err(|error| rejected(&error))?
        {
            return Ok(definition);
        }
        self.send(Call::RegisterTaskDefinition, Code::TaskDefinitionRejected, &rejected, async |timeout| {
            match self.target.ecs.register_task_definition(document, timeout).await {
                Ok(definition) => Ok(Sent::Done(definition)),
                Err(error) if error.effect == Effect::Unknown => {
                    tokio::time::sleep(pause(0, self.random)).await;
                    match self.newest(family, document).await {
                        Ok(Some(definition)) => Ok(Sent::Done(definition)),
                        Ok(None) => Ok(Sent::Again(error)),
                        Err(reading) => Err(Stopped::unknown(rejected(&error), &reading)),
                    }
                }
                Err(error) => Ok(Sent::Again(error)),
            }
        })
        .await
    }

    /// The family's newest revision, where it already is what `document` would make.
    async fn newest(&self, family: &str, document: &str) -> Result<Option<TaskDefinition>, CallError> {
        match self.target.describe(family).await {
            Ok(newest) => Ok(Some(newest).filter(|newest| newest.is_what_would_be_registered(document))),
            // So ECS answers where a family has no active revision.
            Err(error) if error.has_code(&["ClientException"]) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn update_service(&self, definition: Option<&TaskDefinition>, before: &Service) -> Result<Service, Stopped> {
        let body = self.update_body(definition);
        let what = definition.map_or_else(
            || format!("for service {}", self.key),
            |definition| format!("{} for service {}", definition.family_and_revision(), self.key),
        );
        let rejected = |error: &CallError| messages::rejected(Code::ServiceUpdateFailed, &what, error);
        self.send(Call::UpdateService, Code::ServiceUpdateFailed, &rejected, async |timeout| {
            match self.target.ecs.update_service(&body, before.tags.clone(), timeout).await {
                Ok(service) => Ok(Sent::Done(service)),
                Err(error) if error.effect == Effect::Unknown => {
                    tokio::time::sleep(pause(0, self.random)).await;
                    match self.target.ecs.describe_service(self.key).await {
                        Ok(service) if self.is_updated(&service, definition, before) => Ok(Sent::Done(service)),
                        Ok(_) => Ok(Sent::Again(error)),
                        Err(DescribeError::Call(reading)) => Err(Stopped::unknown(rejected(&error), &reading)),
                        Err(gone) => Err(rejected(&error).and(format!("Reading it back: {gone}.")).into()),
                    }
                }
                Err(error) => Ok(Sent::Again(error)),
            }
        })
        .await
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

    /// Whether `UpdateService` was done, by what the service looks like now.
    fn is_updated(&self, now: &Service, definition: Option<&TaskDefinition>, before: &Service) -> bool {
        let parameters = &self.update.parameters;
        // Where the service looked so before, it does not tell; and sending the same parameters twice does no harm.
        if definition.is_none() && !self.update.force_new_deployment && covers_parameters(before, parameters) {
            return false;
        }
        definition.is_none_or(|definition| now.task_definition_arn() == Some(definition.arn.as_str()))
            && covers_parameters(now, parameters)
            && (!self.update.force_new_deployment || now.deployment_id() != before.deployment_id())
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
        let timeout = self.turn(Call::TagResource, Code::TagUpdateFailed).await?;
        match self.target.ecs.tag(after.service.arn(), set, timeout).await {
            Ok(()) => after.service.tags.extend(set.clone()),
            Err(error) => {
                let is_done = |tags: &Tags| set.iter().all(|(key, value)| tags.get(key) == Some(value));
                self.read_tags_back(after, &error, is_done).await?;
            }
        }
        done.push(format!("tags {} were set", messages::listed(set.keys())));
        Ok(())
    }

    async fn untag(&self, after: &mut Snapshot, done: &mut Vec<String>) -> Result<(), Stopped> {
        let remove = &self.update.tags.remove;
        if remove.is_empty() {
            return Ok(());
        }
        let timeout = self.turn(Call::TagResource, Code::TagUpdateFailed).await?;
        match self.target.ecs.untag(after.service.arn(), remove.iter().cloned(), timeout).await {
            Ok(()) => after.service.tags.retain(|key, _| !remove.contains(key)),
            Err(error) => {
                let is_done = |tags: &Tags| !remove.iter().any(|key| tags.contains_key(key));
                self.read_tags_back(after, &error, is_done).await?;
            }
        }
        done.push(format!("tags {} were removed", messages::listed(remove)));
        Ok(())
    }

    /// What became of a call for tags that failed: where its effect is not known, the service tells.
    async fn read_tags_back(
        &self,
        after: &mut Snapshot,
        error: &CallError,
        is_done: impl Fn(&Tags) -> bool,
    ) -> Result<(), Stopped> {
        let failed = messages::tags_failed(self.key, error);
        if error.effect != Effect::Unknown {
            return Err(failed.into());
        }
        match self.target.ecs.describe_service(self.key).await {
            Ok(service) => {
                after.service.tags = service.tags;
                if is_done(&after.service.tags) { Ok(()) } else { Err(failed.into()) }
            }
            Err(DescribeError::Call(reading)) => Err(Stopped::unknown(failed, &reading)),
            Err(gone) => Err(failed.and(format!("Reading it back: {gone}.")).into()),
        }
    }

    /// Waits until ECS has room for the call, and gives its timeout.
    async fn turn(&self, call: Call, code: Code) -> Result<Duration, Failure> {
        let no_time = |left| messages::no_time(code, left);
        if !self.target.buckets.try_take(call) {
            let until = self.budget.last_start((self.clock)());
            let token = self.slot.set_aside(self.target.buckets.take(call));
            tokio::time::timeout(until, token).await.map_err(|_| no_time(CALL_TIMEOUT.1))?;
        }
        self.budget.for_mutation((self.clock)()).map_err(no_time)
    }

    /// Sends until it is done, refused, or has been sent often enough. `once` reads back where the effect of its call
    /// is unknown, so that what it wants again was not done.
    async fn send<T>(
        &self,
        call: Call,
        code: Code,
        rejected: &impl Fn(&CallError) -> Failure,
        once: impl AsyncFn(Duration) -> Result<Sent<T>, Stopped>,
    ) -> Result<T, Stopped> {
        let mut unknown = 0;
        let mut sent = 0;
        loop {
            let timeout = self.turn(call, code).await?;
            let error = match once(timeout).await? {
                Sent::Done(answer) => return Ok(answer),
                Sent::Again(error) => error,
            };
            sent += 1;
            unknown += u32::from(error.effect == Effect::Unknown);
            if error.effect == Effect::Refused || sent == SEND_ATTEMPTS || unknown == UNKNOWN_ATTEMPTS {
                return Err(rejected(&error).into());
            }
            let pause = pause(sent, self.random);
            // Waiting for a call that could not start then would only take the time to record the failure.
            if self.budget.for_mutation((self.clock)() + pause).is_err() {
                return Err(rejected(&error).into());
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// How long to wait before a call is sent again: twice as long each time, at random between half and all of it, so that
/// many that were throttled together come back apart.
fn pause(sent: u32, random: fn() -> [u8; 10]) -> Duration {
    let longest = (PAUSE.0 * 2_u32.saturating_pow(sent)).min(PAUSE.1);
    let share = random()[0];
    longest / 2 + longest / 2 * u32::from(share) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mutating_call_starts_with_less_time_than_its_timeout() {
        let now = DateTime::UNIX_EPOCH;
        let left =
            |seconds: i64| Budget::new(now + chrono::Duration::seconds(seconds), now + chrono::Duration::hours(1));
        assert_eq!(left(300).for_mutation(now), Ok(Duration::from_secs(10)));
        assert_eq!(left(15).for_mutation(now), Ok(Duration::from_secs(5)));
        assert_eq!(left(3).for_mutation(now), Ok(Duration::from_secs(3)));
        assert_eq!(left(2).for_mutation(now), Err(Duration::from_secs(2)));
        assert_eq!(left(-2).for_mutation(now), Err(Duration::ZERO));
        let lease_ends_first = Budget::new(now + chrono::Duration::hours(1), now + chrono::Duration::seconds(1));
        assert_eq!(lease_ends_first.for_mutation(now), Err(Duration::from_secs(1)));
    }
}
