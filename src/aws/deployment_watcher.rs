//! Looks at a deployment once, or until it has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Duration as Span, Utc};
use domain::call_error::CallError;
use domain::ecs::deployment::listed::definitions_of;
use domain::ecs::deployment::outcome::{DELETED, DeploymentStatus, Outcome};
use domain::ecs::deployment::pause::Pause;
use domain::ecs::deployment::seen::Seen;
use domain::ecs::deployment::service_deployment::{ServiceDeployment, ServiceDeploymentSummary};
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ecs::deployment::trouble::Trouble;
use domain::ecs::reason;
use domain::ecs::service::Service;
use domain::ids::ServiceKey;
use domain::ledger::kind::Kind;
use domain::mask::Mask;
use tokio::time::Instant;

use crate::aws::ecs::{DescribeError, Ecs};
use crate::aws::rate_limit::{AccountLimits, ApiBucket};

/// First and longest pause between two looks. A deployment takes minutes.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How long the statements of ECS about a service and about its service deployments may contradict each other before only the service is
/// believed: reads lag behind, and AWS names no bound.
const STEADY: Duration = Duration::from_secs(10);
/// How far from the time of a deployment to look for its service deployment.
const AROUND: Span = Span::minutes(1);

/// Looks at one deployment.
#[derive(Debug)]
pub struct DeploymentWatcher<'a> {
    ecs: &'a Ecs,
    limits: &'a AccountLimits,
    key: &'a ServiceKey,
    followed: TrackedDeployment<'a>,
    /// ARN of the deployment's service deployment, once it is found.
    service_deployment: Option<String>,
    /// Whether the service deployment that ECS named when the deployment began is known to belong to another deployment.
    is_named_wrong: bool,
    /// A service deployment that the service named, and that belongs to another deployment.
    rejected: Option<String>,
    /// Whether the role may not describe service deployments: then their list has to be enough.
    is_list_only: bool,
    /// What earlier looks saw.
    seen: Seen,
    /// How many of the deployment's tasks were seen to have failed.
    failed_tasks: u64,
    /// The service as it was when the deployment was last seen not to have ended.
    open: Option<Service>,
    /// Whether the deployment is looked at repeatedly.
    is_patient: bool,
    /// Since when another deployment has been seen, although the service deployment, as it was read, is still in progress.
    replaced: Option<Instant>,
}

impl<'a> DeploymentWatcher<'a> {
    /// A watcher that has not looked yet.
    #[must_use]
    pub fn new(ecs: &'a Ecs, limits: &'a AccountLimits, key: &'a ServiceKey, followed: TrackedDeployment<'a>) -> Self {
        Self {
            ecs,
            limits,
            key,
            followed,
            service_deployment: None,
            is_named_wrong: false,
            rejected: None,
            is_list_only: false,
            seen: Seen::of(followed),
            failed_tasks: 0,
            open: None,
            is_patient: false,
            replaced: None,
        }
    }

    /// Makes the watcher suitable for repeated looks. What its service deployment says may be older than what the service says, and it may
    /// have completed in between. For this reason, ECS is given time to say how it ended.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// Id of the deployment that rolls this one back, as far as it was seen.
    #[must_use]
    pub fn undone_by(&self) -> Option<&str> {
        self.seen.undone_by()
    }

    /// The state of the deployment at `now`. A deleted service is an answer: it existed when the deployment began.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed.
    pub async fn look(&mut self, now: DateTime<Utc>) -> Result<DeploymentStatus, CallError> {
        let mut known = self.service_deployment().await?;
        let mut service = self.service().await?;
        // The service may name the service deployment that nothing else connects with the deployment.
        if known.is_none()
            && let Some(arn) = service.as_ref().and_then(|service| self.followed.named_by(service))
            && Some(arn) != self.rejected.as_deref()
            && (Some(arn) != self.followed.service_deployment || !self.is_named_wrong)
        {
            self.service_deployment = Some(arn.to_owned());
            known = self.service_deployment().await?;
            service = self.service().await?;
        }
        let Some(service) = service else {
            let DeploymentStatus::Ended(ending) = self.followed.of_deleted(known.as_ref()) else {
                return Ok(DeploymentStatus::Open(DELETED.to_owned()));
            };
            return Ok(DeploymentStatus::Ended(Box::new(ending.told(known.as_ref(), reason::known))));
        };
        if known.as_ref().is_some_and(|known| self.followed.is_contradicted(&service, known)) {
            self.forget();
        }
        self.seen.keep(self.followed, &service, known.as_ref());
        let seen = self.seen.clone();
        let followed = seen.about(self.followed);
        if self.is_patient
            && known.as_ref().is_some_and(|known| followed.is_replaced(&service, known))
            && self.replaced.get_or_insert_with(Instant::now).elapsed() < STEADY
        {
            return Ok(DeploymentStatus::Open(
                "another deployment is there, and ECS does not say yet how this one ended".to_owned(),
            ));
        }
        let standing = followed.standing(&service, known.as_ref(), now);
        let trouble = self.trouble_in(&service);
        let ending = match standing {
            DeploymentStatus::Ended(ending) => *ending,
            open @ (DeploymentStatus::Open(_) | DeploymentStatus::AwaitingAction(_)) => {
                self.open = Some(service);
                return Ok(open);
            }
        };
        let ending = trouble.added_to(seen.ended(ending));
        let mut ending = self.told(ending, &service, known.as_ref()).await;
        if ending.kind == Kind::Completed {
            ending.detail.running_images = self.running_images(known.as_ref(), Some(&service)).await;
        }
        Ok(DeploymentStatus::Ended(Box::new(ending)))
    }

    /// The service; `None` if it was deleted.
    async fn service(&self) -> Result<Option<Service>, CallError> {
        self.limits.take(ApiBucket::ReadDeployments).await;
        match self.ecs.describe_service(self.key).await {
            Ok(service) => Ok(Some(service).filter(|service| service.status() != "INACTIVE")),
            Err(DescribeError::Call(error)) => Err(error),
            Err(DescribeError::ServiceNotFound | DescribeError::ClusterNotFound) => Ok(None),
        }
    }

    /// The end, with a reason that may be shown.
    async fn told(&self, ending: Outcome, service: &Service, known: Option<&ServiceDeployment>) -> Outcome {
        let said = ending.detail.events.iter().chain(&ending.detail.reason);
        let mask = self.mask_of(said, service).await;
        ending.told(known, |said| reason::told(said, mask.as_ref()))
    }

    /// What went badly until now, as it may be shown, for a deployment that had not ended when it was looked at last.
    pub async fn trouble(&self) -> Trouble {
        let Some(service) = &self.open else { return Trouble::default() };
        let trouble = Trouble { failed_tasks: self.failed_tasks, ..self.trouble_of(service) };
        let mask = self.mask_of(trouble.events.iter(), service).await;
        trouble.told(|said| reason::told(said, mask.as_ref()))
    }

    fn trouble_of(&self, service: &Service) -> Trouble {
        Trouble::of(service, self.followed.id, self.followed.started_at)
    }

    /// What goes badly by what the service shows now. How many tasks failed is kept: the deployment may be gone at a later look.
    fn trouble_in(&mut self, service: &Service) -> Trouble {
        let trouble = self.trouble_of(service);
        self.failed_tasks = self.failed_tasks.max(trouble.failed_tasks);
        Trouble { failed_tasks: self.failed_tasks, ..trouble }
    }

    /// What is to be hidden in what ECS says. The values that it may repeat are read only if it says more than the known texts of ECS.
    async fn mask_of(&self, mut said: impl Iterator<Item = &String>, service: &Service) -> Option<Mask> {
        let says_more = said.any(|said| !reason::is_all_known(said));
        if says_more { self.mask(service).await } else { None }
    }

    /// What may be secret in the service and in the task definitions of its deployments; none if one of them cannot be read, or if the
    /// deployment is no longer among the service's deployments.
    async fn mask(&self, service: &Service) -> Option<Mask> {
        let mut mask = Mask::default().and_of(&service.document());
        for arn in definitions_of(service, self.followed.id)? {
            self.limits.take(ApiBucket::DescribeTaskDefinition).await;
            match self.ecs.describe_task_definition(&arn).await {
                Ok(definition) => mask = mask.and_of(&definition.document()),
                Err(error) => {
                    tracing::debug!("what a reason may repeat cannot be read: {error}");
                    return None;
                }
            }
        }
        let key = self.key;
        let names = [key.account_id().as_str(), key.region().as_str(), key.cluster(), key.service()];
        Some(names.into_iter().fold(mask, Mask::but))
    }

    /// The digests of the images that the deployment runs, by container, from the service revision that its service deployment deploys, or
    /// that the service shows as its only one. They are not needed to know the end: if they cannot be read, they are left out.
    pub async fn running_images(
        &self,
        known: Option<&ServiceDeployment>,
        service: Option<&Service>,
    ) -> BTreeMap<String, String> {
        let named = known.and_then(ServiceDeployment::revision);
        let shown = || service.and_then(|service| self.followed.revision_in(service));
        let Some(arn) = named.or_else(shown) else { return BTreeMap::new() };
        self.limits.take(ApiBucket::ReadDeployments).await;
        self.ecs.images_of_revision(arn).await.unwrap_or_else(|error| {
            tracing::warn!(service = %self.key, "which images run cannot be read: {error}");
            BTreeMap::new()
        })
    }

    /// The service deployment of the deployment, if ECS has it and connects the two. It is read before the service, because what the service
    /// looks like later cannot be older than it.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed that may succeed later.
    pub async fn service_deployment(&mut self) -> Result<Option<ServiceDeployment>, CallError> {
        if let Some(known) = self.named().await? {
            return Ok(Some(known));
        }
        if let Some(arn) = self.service_deployment.clone().filter(|_| !self.is_list_only) {
            let known = self.described(&arn).await?;
            if known.as_ref().is_some_and(|known| !self.followed.may_be(known)) {
                self.forget();
                return Ok(None);
            }
            if !self.is_list_only {
                return Ok(known);
            }
        }
        let Some(found) = self.listed().await? else { return Ok(None) };
        let known = if self.is_list_only { None } else { self.described(&found.service_deployment_arn).await? };
        Ok(if self.is_list_only { Some(found.as_listed()) } else { known })
    }

    /// The service deployment of the deployment as the service's list has it.
    async fn listed(&mut self) -> Result<Option<ServiceDeploymentSummary>, CallError> {
        let at = self.followed.started_at;
        self.limits.take(ApiBucket::ReadDeployments).await;
        let list = match self.ecs.list_service_deployments(self.key, (at - AROUND, at + AROUND)).await {
            Ok(list) => list,
            // If ECS does not know the call, or the role may not make it, what the service shows has to be enough.
            Err(error) if !error.retryable() => {
                tracing::debug!("service deployments cannot be listed: {error}");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let named = self.service_deployment.as_deref();
        let by_name =
            TrackedDeployment { service_deployment: named.or(self.followed.service_deployment), ..self.followed };
        let found = by_name.among(&list).cloned();
        if let Some(found) = &found {
            self.service_deployment = Some(found.service_deployment_arn.clone());
        }
        Ok(found)
    }

    /// The service deployment that ECS named when the deployment began, if it can belong to the deployment.
    async fn named(&mut self) -> Result<Option<ServiceDeployment>, CallError> {
        let named = self.followed.service_deployment.filter(|_| !self.is_named_wrong && !self.is_list_only);
        let Some(arn) = named else { return Ok(None) };
        let known = self.described(arn).await?;
        let known = known.filter(|known| self.followed.may_be(known));
        self.is_named_wrong = known.is_none() && !self.is_list_only;
        Ok(known)
    }

    /// Describes a service deployment; `None` if ECS does not have it, or if the role may not describe any.
    async fn described(&mut self, arn: &str) -> Result<Option<ServiceDeployment>, CallError> {
        self.limits.take(ApiBucket::ReadDeployments).await;
        match self.ecs.describe_service_deployment(arn).await {
            Ok(known) => Ok(known),
            Err(error) if error.retryable() => Err(error),
            Err(error) => {
                tracing::debug!("service deployments cannot be described: {error}");
                self.is_list_only = true;
                Ok(None)
            }
        }
    }

    /// The service deployment that was found belongs to another deployment: the watcher has to look for it again.
    fn forget(&mut self) {
        self.is_named_wrong = true;
        self.rejected = self.service_deployment.take();
    }
}

/// How the wait for a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// The deployment ended.
    Ended(Box<Outcome>),
    /// It did not end in time: what it was doing, or why that is not known.
    TimedOut(String),
    /// It did not end in time, and waits at these pause hooks for somebody to continue it.
    AwaitingAction(Vec<Pause>),
}

/// Looks repeatedly until the deployment has ended, or until the time `until`. Failures that may be temporary are retried.
pub async fn follow(until: Instant, look: impl AsyncFnMut() -> Result<DeploymentStatus, CallError>) -> Waited {
    follow_at(PAUSE, until, look).await
}

async fn follow_at(
    (first, longest): (Duration, Duration),
    until: Instant,
    mut look: impl AsyncFnMut() -> Result<DeploymentStatus, CallError>,
) -> Waited {
    let mut pause = first;
    let mut seen = Waited::TimedOut("nobody looked at it yet".to_owned());
    loop {
        match tokio::time::timeout_at(until, look()).await {
            Ok(Ok(DeploymentStatus::Ended(ending))) => return Waited::Ended(ending),
            Ok(Ok(DeploymentStatus::Open(what))) => seen = Waited::TimedOut(what),
            // Whoever has to act may do so within the time that is left.
            Ok(Ok(DeploymentStatus::AwaitingAction(pauses))) => seen = Waited::AwaitingAction(pauses),
            Ok(Err(error)) if error.retryable() => {
                tracing::warn!("a deployment could not be looked at, trying again: {error}");
                seen = Waited::TimedOut(format!("it could not be looked at: {error}"));
            }
            Ok(Err(error)) => return Waited::TimedOut(format!("it cannot be followed: {error}")),
            Err(_) => return seen,
        }
        let next = Instant::now() + pause;
        if next >= until {
            tokio::time::sleep_until(until).await;
            // One last look: it may have ended meanwhile. The time to answer is beyond `until`.
            return match tokio::time::timeout(first, look()).await {
                Ok(Ok(DeploymentStatus::Ended(ending))) => Waited::Ended(ending),
                Ok(Ok(DeploymentStatus::Open(what))) => Waited::TimedOut(what),
                Ok(Ok(DeploymentStatus::AwaitingAction(pauses))) => Waited::AwaitingAction(pauses),
                _ => seen,
            };
        }
        tokio::time::sleep_until(next).await;
        pause = (pause * 3 / 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::call_error::Effect;
    use domain::ecs::deployment::outcome::OutcomeDetail;

    /// In these tests, a second takes five milliseconds.
    const SECOND: Duration = Duration::from_millis(5);

    fn completed() -> DeploymentStatus {
        DeploymentStatus::Ended(Box::new(Outcome { kind: Kind::Completed, detail: OutcomeDetail::default() }))
    }

    fn refused(effect: Effect, code: &str, message: &str) -> CallError {
        CallError {
            operation: "ecs:DescribeServices",
            effect,
            code: Some(code.to_owned()),
            message: message.to_owned(),
            request_id: None,
        }
    }

    fn throttled() -> CallError {
        refused(Effect::Throttled, "ThrottlingException", "Rate exceeded")
    }

    /// How the wait ended, after how many looks, and how many seconds it took.
    async fn followed(
        seconds: u32,
        mut answer: impl FnMut(Duration) -> Result<DeploymentStatus, CallError>,
    ) -> (Waited, u32, u128) {
        let begun = Instant::now();
        let mut looks = 0;
        let pauses = (SECOND, SECOND * 15);
        let waited = follow_at(pauses, begun + SECOND * seconds, async || {
            looks += 1;
            answer(begun.elapsed())
        })
        .await;
        (waited, looks, begun.elapsed().as_millis() / SECOND.as_millis())
    }

    #[tokio::test]
    async fn throttling_for_a_minute_is_survived() {
        let (waited, looks, _) =
            followed(600, |elapsed| if elapsed < SECOND * 60 { Err(throttled()) } else { Ok(completed()) }).await;
        assert!(matches!(waited, Waited::Ended(_)), "{waited:?}");
        assert!((5..15).contains(&looks), "{looks}");
    }

    #[tokio::test]
    async fn it_looks_less_and_less_often_and_ends_in_time() {
        let (waited, looks, took) = followed(120, |_| Ok(DeploymentStatus::Open("IN_PROGRESS".to_owned()))).await;
        assert_eq!(waited, Waited::TimedOut("IN_PROGRESS".to_owned()));
        assert!((8..20).contains(&looks), "{looks}");
        assert!((120..160).contains(&took), "{took}");
    }

    #[tokio::test]
    async fn what_ended_between_two_looks_is_seen_at_the_end() {
        let (waited, ..) = followed(10, |elapsed| {
            if elapsed < SECOND * 10 { Ok(DeploymentStatus::Open(String::new())) } else { Ok(completed()) }
        })
        .await;
        assert!(matches!(waited, Waited::Ended(_)), "{waited:?}");
    }

    #[tokio::test]
    async fn what_will_not_pass_ends_the_waiting() {
        let (waited, looks, _) =
            followed(600, |_| Err(refused(Effect::Refused, "AccessDeniedException", "explicit deny"))).await;
        assert!(matches!(&waited, Waited::TimedOut(why) if why.contains("explicit deny")), "{waited:?}");
        assert_eq!(looks, 1);
        let (waited, ..) = followed(20, |_| Err(throttled())).await;
        assert!(matches!(&waited, Waited::TimedOut(why) if why.contains("ThrottlingException")), "{waited:?}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_outlast_the_waiting() {
        let begun = Instant::now();
        let waited = follow(begun + Duration::from_millis(50), async || {
            tokio::time::sleep(Duration::from_hours(1)).await;
            Ok(completed())
        })
        .await;
        assert!(matches!(waited, Waited::TimedOut(_)));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
