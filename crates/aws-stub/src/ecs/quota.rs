//! How many calls ECS accepts.
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// How many calls of `action` ECS accepts at once in an account and region, and how many per second after that.
#[must_use]
pub fn quota(action: &str) -> (f64, f64) {
    match action {
        "RegisterTaskDefinition" => (20.0, 1.0),
        "UpdateService" => (50.0, 5.0),
        "TagResource" | "UntagResource" => (20.0, 10.0),
        _ => (50.0, 20.0),
    }
}

/// What is left of a quota, and when that was the case.
struct Bucket {
    tokens: f64,
    at: DateTime<Utc>,
}

/// What is left of all quotas, by account, region and action.
#[derive(Default)]
pub(super) struct Buckets(BTreeMap<(String, String, String), Bucket>);

impl Buckets {
    /// Accepts a call, if there is room for it.
    pub(super) fn take(&mut self, account: &str, region: &str, action: &str, now: DateTime<Utc>) -> bool {
        let (burst, per_second) = quota(action);
        // Both kinds of tag calls share one quota.
        let action = action.replace("Untag", "Tag");
        let key = (account.into(), region.into(), action);
        let bucket = self.0.entry(key).or_insert(Bucket { tokens: burst, at: now });
        let passed = (now - bucket.at).to_std().unwrap_or_default().as_secs_f64();
        bucket.tokens = (bucket.tokens + per_second * passed).min(burst);
        bucket.at = now;
        let has_room = bucket.tokens >= 1.0;
        bucket.tokens -= f64::from(u8::from(has_room));
        has_room
    }
}
