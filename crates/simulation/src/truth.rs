//! What really happened, from the side of AWS: which invocation sent what when, what was done, which deployment that
//! started, and what became of it. The product is judged by this and not by what it says.

use std::collections::BTreeMap;

use aws_stub::Site;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// What one caller wants for one service: an idempotency key, or a request id if there is no key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intent {
    /// The key, or the request id.
    pub key: String,
    /// The service.
    pub site: Site,
}

/// A call that changed something at ECS, or that ECS refused.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// When it was done.
    pub at: DateTime<Utc>,
    /// When it was sent.
    pub sent: DateTime<Utc>,
    /// The invocation that sent it.
    pub invocation: String,
    /// The intent behind it; none if it was sent outside the updater.
    pub intent: Option<Intent>,
    /// The service. For a registration it is the service with that family.
    pub site: Site,
    /// The action.
    pub action: String,
    /// Whether it was done.
    pub is_done: bool,
    /// Whether it was done so late that its caller had given up.
    pub is_late: bool,
    /// The deployment that it started.
    pub started: Option<String>,
    /// The image that was set for the service, or that was registered.
    pub image: Option<String>,
    /// When the invocation had last read the service before the call.
    pub looked: Option<DateTime<Utc>>,
}

/// What became of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It has not ended.
    Open,
    /// It completed.
    Completed,
    /// It failed, and was not rolled back.
    Failed,
    /// It failed, and is being rolled back.
    RollingBack,
    /// It failed and was rolled back.
    RolledBack,
    /// It failed, and so did the rollback.
    RollbackFailed,
    /// Another one took its place.
    Superseded,
    /// Another one took its place while it was rolled back.
    SupersededRollingBack,
    /// Somebody stopped it.
    Stopped,
    /// Somebody deleted its service. A service that is created under that name later does not supersede anything.
    Deleted,
}

impl End {
    /// Whether ECS went back from it, or is going back.
    #[must_use]
    pub fn is_taken_back(&self) -> bool {
        matches!(self, Self::RollingBack | Self::RolledBack | Self::RollbackFailed)
    }

    /// The outcomes that may be reported for it.
    #[must_use]
    pub fn outcomes(&self) -> &'static [&'static str] {
        match self {
            Self::Open => &[],
            Self::Completed => &["COMPLETED"],
            Self::Failed | Self::RollingBack => &["DEPLOYMENT_FAILED"],
            Self::RolledBack => &["DEPLOYMENT_FAILED", "ROLLED_BACK"],
            Self::RollbackFailed => &["DEPLOYMENT_FAILED", "ROLLBACK_FAILED"],
            Self::Superseded => &["SUPERSEDED", "STOPPED"],
            Self::SupersededRollingBack => &["DEPLOYMENT_FAILED", "SUPERSEDED", "STOPPED"],
            Self::Stopped => &["STOPPED", "SUPERSEDED", "DEPLOYMENT_FAILED"],
            Self::Deleted => &["STOPPED", "DEPLOYMENT_FAILED"],
        }
    }
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The service.
    pub site: Site,
    /// The intent that started it; none if it was started outside the updater.
    pub by: Option<Intent>,
    /// Whether the call that started it was done so late that its caller had given up.
    pub is_late: bool,
    /// When it began.
    pub began: DateTime<Utc>,
    /// What became of it.
    pub end: End,
    /// When that was first certain.
    pub ended: Option<DateTime<Utc>>,
    /// Whether any event that names it has reached the recorder and was accepted.
    pub is_heard: bool,
}

impl Deployment {
    /// Notes what became of it.
    pub fn is(&mut self, end: End, at: DateTime<Utc>) {
        self.end = end;
        self.ended.get_or_insert(at);
    }
}

/// A lease, and who took it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The invocation.
    pub by: String,
    /// The change.
    pub change_id: String,
    /// What distinguishes it from other leases.
    pub identity: String,
    /// Its end, as it was last written.
    pub until: DateTime<Utc>,
    /// When it was taken.
    pub since: DateTime<Utc>,
    /// Whether its holder has since made a call to ECS that changes something.
    pub is_used: bool,
    /// Faults that its holder's calls have met since. Waiting because of them is not idle.
    pub faults: u64,
}

/// A change began: its STARTED was written.
#[derive(Debug, Clone)]
pub struct Began {
    /// When it began.
    pub at: DateTime<Utc>,
    /// The change.
    pub change_id: String,
    /// The service.
    pub site: Site,
    /// The invocation that began it.
    pub invocation: String,
    /// The intent behind it.
    pub intent: Option<Intent>,
}

/// What an invocation of the updater answered for one service.
#[derive(Debug, Clone)]
pub struct Told {
    /// When it answered.
    pub at: DateTime<Utc>,
    /// The invocation.
    pub invocation: String,
    /// The intent that was answered.
    pub intent: Intent,
    /// The body of the answer, or of the failure.
    pub body: Value,
    /// The code of the error; none if all went well.
    pub code: Option<String>,
    /// Whether the failure says that it may be temporary.
    pub is_retryable: bool,
}

/// A mutating call that is under way.
#[derive(Debug, Clone)]
pub struct UnderWay {
    /// The invocation that sent it.
    pub invocation: String,
    /// The service.
    pub site: Site,
    /// The action.
    pub action: String,
    /// Whether it was delayed so long that its caller gave up.
    pub is_late: bool,
    /// When it was sent.
    pub sent: DateTime<Utc>,
    /// When its sender's lease was to end at the time of sending.
    pub lease_until: Option<DateTime<Utc>>,
}

/// Everything that really happened.
#[derive(Debug, Default)]
pub struct Truth {
    /// Calls that changed something, in their order.
    pub mutations: Vec<Mutation>,
    /// Deployments by id.
    pub deployments: BTreeMap<String, Deployment>,
    /// The rollbacks' own deployments, and the deployments that they undo.
    pub rollbacks: BTreeMap<String, String>,
    /// Who holds which service, by service key.
    pub held: BTreeMap<String, Held>,
    /// Changes that began, in their order.
    pub began: Vec<Began>,
    /// The answers that callers received, in order.
    pub told: Vec<Told>,
    /// When the first event of an intent reached a function, whatever became of it there.
    pub came: BTreeMap<Intent, DateTime<Utc>>,
    /// When an intent was first seen, as far as the product had an opportunity to note it.
    pub first_seen: BTreeMap<Intent, DateTime<Utc>>,
    /// Mutating calls that are under way.
    pub under_way: BTreeMap<u64, UnderWay>,
    /// Services that were deleted, and when.
    pub deleted: BTreeMap<Site, Vec<DateTime<Utc>>>,
}

impl Truth {
    /// The intent behind a change.
    #[must_use]
    pub fn intent_of(&self, change_id: &str) -> Option<&Intent> {
        self.began.iter().find(|change| change.change_id == change_id)?.intent.as_ref()
    }

    /// Whether a service was deleted after a time.
    #[must_use]
    pub fn is_gone(&self, site: &Site, at: DateTime<Utc>) -> bool {
        self.deleted.get(site).is_some_and(|times| times.iter().any(|deleted| *deleted > at))
    }

    /// Notes that an intent was seen at a time. Only the first time counts.
    pub fn seen(&mut self, intent: &Intent, at: DateTime<Utc>) {
        self.first_seen.entry(intent.clone()).or_insert(at);
    }
}
