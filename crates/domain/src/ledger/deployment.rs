//! Deployments: which change started one, and what is recorded of its end.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::ecs::deployment::pause::Pause;
use crate::ecs::deployment::times::ROUNDING;
use crate::ecs::deployment::tracked::TrackedDeployment;
use crate::ids::{AccountId, ChangeId, Region, ServiceKey};
use crate::ledger::kind::Kind;

/// How long it is known which change started a deployment.
const DEPLOYMENT_LIFETIME: Duration = Duration::days(30);
/// The time after which ECS is first asked for the state of a deployment whose end was not reported: most have ended by
/// then.
const FIRST_LOOK: Duration = Duration::minutes(10);
/// The longest time until ECS is asked again.
const LAST_LOOK: Duration = Duration::hours(6);

/// A deployment: which change started it, and what is recorded of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentItem {
    /// `deployment#{account}/{region}/{deployment id}`.
    pub id: String,
    /// The service.
    pub service: ServiceKey,
    /// ARN of the service: an outcome of another service is refused.
    pub service_arn: String,
    /// The change that started it. For an `EXTERNAL` deployment, and for a rollback of no known change, the id under which it was
    /// recorded, or would have been if it had not only been counted.
    pub change_id: ChangeId,
    /// Repositories under which the change is found.
    pub repositories: Vec<String>,
    /// Id of the deployment that was `PRIMARY` before.
    pub before: Option<String>,
    /// When ECS created it.
    pub started_at: DateTime<Utc>,
    /// ARN of its service deployment, if ECS returned it.
    pub service_deployment: Option<String>,
    /// Whether events report how it ends: those of blue/green deployments are not documented.
    pub by_events: bool,
    /// What it undoes, if it is a rollback's own deployment.
    pub undoes: Option<Undoes>,
    /// Id of the deployment that is its rollback, if that one was reported: no other deployment is.
    pub undone_by: Option<String>,
    /// The pause hooks that it has reached, as far as they were heard of.
    pub pauses: Vec<NotedPause>,
    /// The outcomes that are recorded, in their order.
    pub outcomes: Vec<Kind>,
    /// What follows them that only a later version of this project knows, as that version wrote it: an end after which nothing more is
    /// recorded.
    pub unread: Option<String>,
    /// When ECS is to be asked for its state; `None` if no further outcome is to be expected.
    pub check_at: Option<DateTime<Utc>>,
    /// When it no longer counts, in seconds since 1970.
    pub expires_at: i64,
}

/// What a rollback's own deployment undoes. ECS reuses the id of the deployment to which it rolls back, so the same id may have begun,
/// ended and been rolled back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undoes {
    /// Id of the deployment that it undoes; none where that one is not known.
    pub deployment_id: Option<String>,
    /// When the rollback began: what happened under its id before does not belong to the rollback.
    pub since: DateTime<Utc>,
}

/// What is noted of a pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedPause {
    /// The pause, as far as it was known when it was noted.
    pub pause: Pause,
    /// The id under which it is recorded; none where only its end was heard.
    pub record: Option<ChangeId>,
}

impl DeploymentItem {
    /// Id of a deployment's item.
    #[must_use]
    pub fn id(service: &ServiceKey, deployment_id: &str) -> String {
        Self::id_in(service.account_id(), service.region(), deployment_id)
    }

    /// The same, where the service is not known.
    #[must_use]
    pub fn id_in(account_id: &AccountId, region: &Region, deployment_id: &str) -> String {
        format!("deployment#{account_id}/{region}/{deployment_id}")
    }

    /// The item of a deployment that ECS created at `started_at`, about which nothing else is known but its change.
    #[must_use]
    pub fn new(
        service: &ServiceKey,
        service_arn: &str,
        deployment_id: &str,
        change_id: ChangeId,
        started_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id: Self::id(service, deployment_id),
            service: service.clone(),
            service_arn: service_arn.to_owned(),
            change_id,
            repositories: Vec::new(),
            before: None,
            started_at,
            service_deployment: None,
            by_events: true,
            undoes: None,
            undone_by: None,
            pauses: Vec::new(),
            outcomes: Vec::new(),
            unread: None,
            check_at: Some(now + FIRST_LOOK),
            expires_at: (now + DEPLOYMENT_LIFETIME).timestamp(),
        }
    }

    /// Id of the deployment.
    #[must_use]
    pub fn deployment_id(&self) -> &str {
        self.id.splitn(3, '/').nth(2).unwrap_or_default()
    }

    /// Whether no change started it.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.outcomes.contains(&Kind::External)
    }

    /// Whether nothing is known about it except that it is a rollback: which change started the deployment whose id it reuses is not
    /// noted.
    #[must_use]
    pub fn is_only_a_rollback(&self) -> bool {
        self.outcomes.is_empty() && self.undoes.as_ref().is_some_and(|undoes| self.started_at >= undoes.since)
    }

    /// Whether it is a rollback, and one with an id of its own: ECS created the deployment when the rollback began.
    #[must_use]
    pub fn is_a_rollback_created_at(&self, created_at: DateTime<Utc>) -> bool {
        self.undoes.as_ref().is_some_and(|undoes| created_at + ROUNDING >= undoes.since)
    }

    /// Whether an outcome may follow those that are recorded: each is recorded once, and nothing follows an end.
    #[must_use]
    pub fn accepts(&self, outcome: Kind) -> bool {
        if self.unread.is_some() {
            return false;
        }
        match self.outcomes.last() {
            None => true,
            Some(Kind::DeploymentFailed) => matches!(outcome, Kind::RolledBack | Kind::RollbackFailed),
            Some(_) => false,
        }
    }

    /// When to ask again about a deployment that is still open: the older it is, the later.
    #[must_use]
    pub fn next_check(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + ((now - self.started_at) / 4).clamp(FIRST_LOOK, LAST_LOOK)
    }
}

impl<'a> TrackedDeployment<'a> {
    /// The deployment that an item is about.
    #[must_use]
    pub fn of(item: &'a DeploymentItem) -> Self {
        Self {
            id: item.deployment_id(),
            before: item.before.as_deref(),
            started_at: item.started_at,
            service_deployment: item.service_deployment.as_deref(),
            undone_by: item.undone_by.as_deref(),
        }
    }
}
