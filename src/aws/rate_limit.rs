//! Sends calls as fast as ECS allows, and no faster: there is one token bucket for each kind of call in each account and region, shared by
//! everything that this process does there. Calls of other callers show as throttling, which is retried at a lower level.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::ids::ServiceKey;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// A kind of call that has a bucket of its own at ECS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiBucket {
    /// Reading task definitions.
    DescribeTaskDefinition,
    /// Registering new revisions.
    RegisterTaskDefinition,
    /// Updating services.
    UpdateService,
    /// Setting and removing tags.
    TagResource,
    /// Looking at deployments that are followed: a part of the rate that ECS allows for reading services, to leave the rest to others.
    ReadDeployments,
}

impl ApiBucket {
    /// How many calls ECS accepts at once, and how many per second after that.
    /// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>.
    const fn quota(self) -> (NonZeroU32, NonZeroU32) {
        const fn n(number: u32) -> NonZeroU32 {
            match NonZeroU32::new(number) {
                Some(number) => number,
                None => NonZeroU32::MIN,
            }
        }
        match self {
            Self::DescribeTaskDefinition => (n(50), n(20)),
            Self::RegisterTaskDefinition => (n(20), n(1)),
            Self::UpdateService => (n(50), n(5)),
            Self::TagResource | Self::ReadDeployments => (n(20), n(10)),
        }
    }
}

/// The buckets of all accounts and regions.
#[derive(Debug, Default)]
pub struct RateLimiters {
    places: Mutex<HashMap<String, Arc<AccountLimits>>>,
}

impl RateLimiters {
    /// The buckets of the account and region of a service.
    #[must_use]
    pub fn of(&self, service: &ServiceKey) -> Arc<AccountLimits> {
        let place = format!("{}/{}", service.account_id(), service.region());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(place).or_default())
    }
}

/// The buckets of one account and region.
#[derive(Debug)]
pub struct AccountLimits {
    describe_task_definition: Bucket,
    register_task_definition: Bucket,
    update_service: Bucket,
    tag_resource: Bucket,
    read_deployments: Bucket,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            describe_task_definition: Bucket::new(ApiBucket::DescribeTaskDefinition),
            register_task_definition: Bucket::new(ApiBucket::RegisterTaskDefinition),
            update_service: Bucket::new(ApiBucket::UpdateService),
            tag_resource: Bucket::new(ApiBucket::TagResource),
            read_deployments: Bucket::new(ApiBucket::ReadDeployments),
        }
    }
}

impl AccountLimits {
    fn bucket(&self, call: ApiBucket) -> &Bucket {
        match call {
            ApiBucket::DescribeTaskDefinition => &self.describe_task_definition,
            ApiBucket::RegisterTaskDefinition => &self.register_task_definition,
            ApiBucket::UpdateService => &self.update_service,
            ApiBucket::TagResource => &self.tag_resource,
            ApiBucket::ReadDeployments => &self.read_deployments,
        }
    }

    /// Takes a token, if one is available and nobody waits for it.
    #[must_use]
    pub fn try_take(&self, call: ApiBucket) -> bool {
        let bucket = self.bucket(call);
        bucket.queue.try_lock().is_ok_and(|_turn| bucket.limiter.check().is_ok())
    }

    /// Takes a token as soon as one is available: first come, first served.
    pub async fn take(&self, call: ApiBucket) {
        let bucket = self.bucket(call);
        let _waiting = Waiting::new(&bucket.waiting);
        let _turn = bucket.queue.lock().await;
        while let Err(not_until) = bucket.limiter.check() {
            tokio::time::sleep(not_until.wait_time_from(TokioClock.now())).await;
        }
    }

    /// How long one would wait for a token, judged by how many callers already wait for one.
    #[must_use]
    pub fn expected_wait(&self, call: ApiBucket) -> Duration {
        let waiting = u32::try_from(self.bucket(call).waiting.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        Duration::from_secs(1) * waiting / call.quota().1.get()
    }
}

/// Tokio's clock: the callers that wait for a token sleep by it, and tests may pause it.
#[derive(Debug, Clone, Copy, Default)]
struct TokioClock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At(Instant);

impl Clock for TokioClock {
    type Instant = At;

    fn now(&self) -> At {
        At(Instant::now())
    }
}

impl std::ops::Add<Nanos> for At {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0 + Duration::from(other))
    }
}

impl Reference for At {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

#[derive(Debug)]
struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<At>>,
    queue: tokio::sync::Mutex<()>,
    waiting: AtomicUsize,
}

impl Bucket {
    /// A bucket that holds less than the quota, by the amount that arrives in half a second: calls may arrive closer to each other by this
    /// much than they were sent, without being throttled.
    fn new(call: ApiBucket) -> Self {
        let (burst, per_second) = call.quota();
        let spare = per_second.get().div_ceil(2);
        let burst = NonZeroU32::new(burst.get().saturating_sub(spare)).unwrap_or(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::direct_with_clock(Quota::per_second(per_second).allow_burst(burst), TokioClock),
            queue: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::default(),
        }
    }
}

/// One caller that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let buckets = AccountLimits::default();
        let start = Instant::now();
        for _ in 0..15 {
            buckets.take(ApiBucket::TagResource).await;
        }
        assert!(start.elapsed() < Duration::from_millis(90), "{:?}", start.elapsed());
        assert!(!buckets.try_take(ApiBucket::TagResource));
        for _ in 0..5 {
            buckets.take(ApiBucket::TagResource).await;
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(450)..Duration::from_millis(900)).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_counted_and_kinds_do_not_wait_for_each_other() {
        let buckets = AccountLimits::default();
        while buckets.try_take(ApiBucket::RegisterTaskDefinition) {}
        assert_eq!(buckets.expected_wait(ApiBucket::RegisterTaskDefinition), Duration::ZERO);
        {
            let mut waiting = std::pin::pin!(buckets.take(ApiBucket::RegisterTaskDefinition));
            let soon = tokio::time::timeout(Duration::from_millis(10), &mut waiting).await;
            assert!(soon.is_err());
            assert_eq!(buckets.expected_wait(ApiBucket::RegisterTaskDefinition), Duration::from_secs(1));
        }
        assert_eq!(buckets.expected_wait(ApiBucket::RegisterTaskDefinition), Duration::ZERO);
        assert!(buckets.try_take(ApiBucket::UpdateService));
    }
}
