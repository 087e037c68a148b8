//! Looks at a deployment once, or until it has ended.

use std::time::Duration;

use chrono::Duration as Span;
use domain::call_error::CallError;
use domain::ecs::deployment::listed::definitions_of;
use domain::ecs::deployment::outcome::{DeploymentStatus, Outcome, Superseder};
use domain::ecs::deployment::pause::Pause;
use domain::ecs::deployment::service_deployment::ServiceDeployment;
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ecs::reason;
use domain::ecs::service::Service;
use domain::ids::ServiceKey;
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
    /// What replaced the deployment, once that was seen: later, the replacement may itself be gone.
    superseder: Option<Superseder>,
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
            superseder: None,
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

    /// The current state of the deployment.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed. A deleted service is an answer, if it once existed.
    pub async fn look(&mut self) -> Result<DeploymentStatus, DescribeError> {
        let known = self.service_deployment().await?;
        self.limits.take(ApiBucket::ReadDeployments).await;
        let service = self.ecs.describe_service(self.key).await?;
        if service.status() == "INACTIVE" {
            return Err(DescribeError::ServiceNotFound);
        }
        if known.as_ref().is_some_and(|known| self.followed.is_contradicted(&service, known)) {
            self.forget();
        }
        self.superseder = self.superseder.take().or_else(|| self.followed.superseded_by(&service));
        if self.is_patient
            && known.as_ref().is_some_and(|known| self.followed.is_replaced(&service, known))
            && self.replaced.get_or_insert_with(Instant::now).elapsed() < STEADY
        {
            return Ok(DeploymentStatus::Open(
                "another deployment is there, and ECS does not say yet how this one ended".to_owned(),
            ));
        }
        let standing = self.followed.standing(&service, known.as_ref());
        let ending = match standing {
            DeploymentStatus::Ended(ending) => *ending,
            open @ (DeploymentStatus::Open(_) | DeploymentStatus::AwaitingAction(_)) => return Ok(open),
        };
        let ending = self.superseder.iter().fold(ending, Outcome::superseded);
        Ok(DeploymentStatus::Ended(Box::new(self.told(ending, &service, known.as_ref()).await)))
    }

    /// The end, with a reason that may be shown. The values that the reason may repeat are read only if it says more than the known texts
    /// of ECS.
    async fn told(&self, ending: Outcome, service: &Service, known: Option<&ServiceDeployment>) -> Outcome {
        let says_more = ending.detail.reason.as_deref().is_some_and(|reason| !reason::is_all_known(reason));
        let mask = if says_more { self.mask(service).await } else { None };
        ending.told(known, |reason| reason::told(reason, mask.as_ref()))
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

    /// The service deployment of the deployment, if ECS has it. It is read before the service, because what the service looks like later
    /// cannot be older than it.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed that may succeed later.
    pub async fn service_deployment(&mut self) -> Result<Option<ServiceDeployment>, CallError> {
        if let Some(known) = self.named().await? {
            return Ok(Some(known));
        }
        if self.service_deployment.is_none() {
            let at = self.followed.started_at;
            self.limits.take(ApiBucket::ReadDeployments).await;
            match self.ecs.list_service_deployments(self.key, (at - AROUND, at + AROUND)).await {
                Ok(list) => {
                    self.service_deployment =
                        self.followed.among(&list).map(|found| found.service_deployment_arn.clone());
                }
                // If ECS does not know the call, or the role may not make it, what the service shows has to be enough.
                Err(error) if !error.retryable() => {
                    tracing::debug!("service deployments cannot be listed: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        match &self.service_deployment {
            None => Ok(None),
            Some(arn) => self.described(arn).await,
        }
    }

    /// The service deployment that ECS named when the deployment began, if it can belong to the deployment.
    async fn named(&mut self) -> Result<Option<ServiceDeployment>, CallError> {
        let Some(arn) = self.followed.service_deployment.filter(|_| !self.is_named_wrong) else { return Ok(None) };
        let known = match self.described(arn).await {
            Ok(known) => known.filter(|known| self.followed.may_be(known)),
            Err(error) if !error.retryable() => None,
            Err(error) => return Err(error),
        };
        self.is_named_wrong = known.is_none();
        Ok(known)
    }

    async fn described(&self, arn: &str) -> Result<Option<ServiceDeployment>, CallError> {
        self.limits.take(ApiBucket::ReadDeployments).await;
        self.ecs.describe_service_deployment(arn).await
    }

    /// The service deployment that was found belongs to another deployment: the watcher has to look for it again.
    fn forget(&mut self) {
        self.is_named_wrong = true;
        self.service_deployment = None;
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
pub async fn follow(until: Instant, look: impl AsyncFnMut() -> Result<DeploymentStatus, DescribeError>) -> Waited {
    follow_at(PAUSE, until, look).await
}

async fn follow_at(
    (first, longest): (Duration, Duration),
    until: Instant,
    mut look: impl AsyncFnMut() -> Result<DeploymentStatus, DescribeError>,
) -> Waited {
    let mut pause = first;
    let mut seen = Waited::TimedOut("nobody looked at it yet".to_owned());
    loop {
        match tokio::time::timeout_at(until, look()).await {
            Ok(Ok(DeploymentStatus::Ended(ending))) => return Waited::Ended(ending),
            Ok(Ok(DeploymentStatus::Open(what))) => seen = Waited::TimedOut(what),
            // Whoever has to act may do so within the time that is left.
            Ok(Ok(DeploymentStatus::AwaitingAction(pauses))) => seen = Waited::AwaitingAction(pauses),
            Ok(Err(DescribeError::Call(error))) if error.retryable() => {
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
    use domain::ledger::kind::Kind;

    /// In these tests, a second takes five milliseconds.
    const SECOND: Duration = Duration::from_millis(5);

    fn completed() -> DeploymentStatus {
        DeploymentStatus::Ended(Box::new(Outcome { kind: Kind::Completed, detail: OutcomeDetail::default() }))
    }

    fn throttled() -> DescribeError {
        DescribeError::Call(CallError {
            operation: "ecs:DescribeServices",
            effect: Effect::Throttled,
            code: Some("ThrottlingException".to_owned()),
            message: "Rate exceeded".to_owned(),
            request_id: None,
        })
    }

    /// How the wait ended, after how many looks, and how many seconds it took.
    async fn followed(
        seconds: u32,
        mut answer: impl FnMut(Duration) -> Result<DeploymentStatus, DescribeError>,
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
        let (waited, looks, _) = followed(600, |_| Err(DescribeError::ServiceNotFound)).await;
        assert!(matches!(&waited, Waited::TimedOut(why) if why.contains("service not found")), "{waited:?}");
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
