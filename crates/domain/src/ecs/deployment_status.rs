//! Pure: how a deployment ended, by what ECS tells of it: a service deployment, the service's list of deployments, or
//! an event of `EventBridge`.
//!
//! Shapes: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html> and
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ecs::reason;
use crate::ecs::service::Service;
use crate::ids::{AccountId, EcsName, Partition, Region, ServiceKey};
use crate::ledger::kind::Kind;
use crate::text::{one_line, rfc3339, shown_text};

/// Why a deployment ended whose service is gone.
pub const DELETED: &str = "the service was deleted";

/// The longest id of a deployment: `ecs-svc/` and a number in truth, and far below what a key of DynamoDB may have.
const MAX_ID: usize = 255;

/// By how much ECS may say that a deployment was created before the change that started it began: clocks differ.
pub const CLOCK_TOLERANCE: Duration = Duration::seconds(4);

/// How far apart the times of a deployment and of its service deployment may be, where nothing else joins them.
const SAME_TIME_TOLERANCE: Duration = Duration::seconds(30);

/// By how much two times of ECS may be wrong, one of them being cut to whole seconds.
pub const ROUNDING: Duration = Duration::seconds(1);

/// What an outcome says beyond its kind. Members without a value are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeDetail {
    /// Why, in the words of ECS, without what may be a value ([`reason`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a rollback went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<RollbackTarget>,
    /// The deployment that took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Superseder>,
    /// Whether the service wants no tasks, so that its deployment completed without one having run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_tasks_wanted: bool,
    /// ARN of the service deployment that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_deployment: Option<String>,
    /// When it happened, by the event that told of it or by ECS (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at: Option<String>,
    /// How many more deployments of its account no change started that day that have no record of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u32>,
}

/// What a rollback went back to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackTarget {
    /// ARN of the service revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_revision: Option<String>,
    /// ARN of the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// Id of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
}

/// The deployment that took over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseder {
    /// Its id.
    pub deployment_id: String,
    /// The change that started it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// ARN of the task definition it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `COMPLETED`, `DEPLOYMENT_FAILED`, `ROLLED_BACK`, `ROLLBACK_FAILED`, `STOPPED` or `SUPERSEDED`.
    pub kind: Kind,
    /// What else is known.
    pub detail: OutcomeDetail,
}

impl Outcome {
    /// The same end, where something is known to have taken over: what was stopped was superseded.
    #[must_use]
    pub fn superseded(self, by: &Superseder) -> Self {
        if self.kind != Kind::Stopped || self.detail.reason.as_deref() == Some(DELETED) {
            return self;
        }
        Self {
            kind: Kind::Superseded,
            detail: OutcomeDetail { superseded_by: Some(by.clone()), happened_at: None, ..self.detail },
        }
    }

    /// The same end, with `tell` applied to what ECS says of why. Names of alarms stay.
    #[must_use]
    pub fn told(self, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> Self {
        let reason = self.detail.reason.map(|reason| told(&reason, known, tell));
        Self { detail: OutcomeDetail { reason, ..self.detail }, ..self }
    }

    /// When it happened, where that is known.
    #[must_use]
    pub fn happened_at(&self) -> Option<DateTime<Utc>> {
        let at = DateTime::parse_from_rfc3339(self.detail.happened_at.as_deref()?).ok();
        at.map(|at| at.with_timezone(&Utc))
    }
}

/// Where a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeploymentStatus {
    /// It has not ended; what it is doing, for people.
    Open(String),
    /// It has ended, and nothing more will come.
    Ended(Box<Outcome>),
}

/// A service deployment, as far as its outcome needs it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDeployment {
    /// Its ARN.
    pub service_deployment_arn: String,
    /// ARN of its service.
    pub service_arn: String,
    /// One of nine.
    pub status: String,
    /// Why it is in that status.
    pub status_reason: Option<String>,
    /// What a blue/green, linear or canary deployment is at.
    pub lifecycle_stage: Option<String>,
    created_at: Option<f64>,
    stopped_at: Option<f64>,
    finished_at: Option<f64>,
    target_service_revision: Option<Revision>,
    source_service_revisions: Option<Vec<Revision>>,
    rollback: Option<Rollback>,
    deployment_circuit_breaker: Option<Monitor>,
    alarms: Option<Monitor>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Revision {
    arn: Option<String>,
    requested_task_count: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rollback {
    reason: Option<String>,
    service_revision_arn: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Monitor {
    status: Option<String>,
    triggered_alarm_names: Vec<String>,
}

/// A line of `ListServiceDeployments`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDeploymentSummary {
    /// Its ARN.
    pub service_deployment_arn: String,
    /// One of nine.
    pub status: String,
    /// Why it is in that status.
    pub status_reason: Option<String>,
    /// Seconds since 1970.
    pub created_at: Option<f64>,
    target_service_revision_arn: Option<String>,
}

impl ServiceDeploymentSummary {
    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        self.created_at.and_then(time)
    }

    /// ARN of the service revision that it deploys.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.target_service_revision_arn.as_deref()
    }

    /// Whether it ended, or is about to, without what it deployed.
    #[must_use]
    pub fn ended_badly(&self) -> bool {
        let statuses = [
            "STOPPED",
            "STOP_REQUESTED",
            "ROLLBACK_REQUESTED",
            "ROLLBACK_IN_PROGRESS",
            "ROLLBACK_SUCCESSFUL",
            "ROLLBACK_FAILED",
        ];
        statuses.contains(&self.status.as_str())
    }
}

/// A deployment that did not last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// Its id, or the ARN of its service deployment.
    pub deployment: String,
    /// Why, in the words of ECS.
    pub reason: Option<String>,
    /// ARN of the task definition that it deployed.
    pub task_definition: Option<String>,
}

impl RolledBack {
    /// By what ECS tells of its service deployment.
    #[must_use]
    pub fn of(listed: &ServiceDeploymentSummary, known: Option<&ServiceDeployment>, task_definition: String) -> Self {
        let reason = known.and_then(ServiceDeployment::reason).or_else(|| listed.status_reason.clone());
        Self {
            deployment: listed.service_deployment_arn.clone(),
            reason: reason.or_else(|| Some(listed.status.clone())),
            task_definition: Some(task_definition),
        }
    }

    /// The same, with `tell` applied to what ECS says of why. Names of alarms stay.
    #[must_use]
    pub fn told(self, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> Self {
        Self { reason: self.reason.map(|reason| told(&reason, known, tell)), ..self }
    }
}

/// The deployments of a service, as far as they still stand in its list, that were created since then and did not last.
#[must_use]
pub fn ended_since(service: &Service, since: DateTime<Utc>) -> Vec<RolledBack> {
    let deployments = deployments(service);
    let is_rolled_back = deployments.iter().any(|deployment| deployment.status == "PRIMARY" && deployment.rolls_back());
    let ended = deployments.into_iter().filter(|deployment| {
        let is_later = deployment.created_at.and_then(time).is_some_and(|created| created >= since - CLOCK_TOLERANCE);
        is_later && deployment.status != "PRIMARY" && (deployment.rollout() == "FAILED" || is_rolled_back)
    });
    let told = |deployment: Deployment| RolledBack {
        deployment: deployment.id,
        reason: deployment.rollout_state_reason,
        task_definition: deployment.task_definition,
    };
    ended.map(told).collect()
}

/// What a service says of one of its deployments; `None` where it does not have it any more.
#[must_use]
pub fn said_of(service: &Service, deployment_id: &str) -> Option<EcsView> {
    let deployments = deployments(service);
    let own = deployments.iter().find(|deployment| deployment.id == deployment_id)?;
    let earlier =
        deployments.iter().filter(|deployment| deployment.id != own.id && deployment.created_at < own.created_at);
    let predecessor =
        earlier.max_by(|one, other| one.created_at.unwrap_or(0.0).total_cmp(&other.created_at.unwrap_or(0.0)));
    let is_primary = own.status == "PRIMARY";
    Some(EcsView {
        created_at: own.created_at.and_then(time),
        predecessor_runs: predecessor
            .and_then(|deployment| deployment.task_definition.clone())
            .or_else(|| service.replaced.clone().filter(|_| is_primary)),
        service_deployment: service.service_deployment().filter(|_| is_primary).map(str::to_owned),
        rolls_back: own.rolls_back() || (is_primary && service.is_a_rollback),
        task_definition: own.task_definition.clone(),
        ..EcsView::default()
    })
}

/// What a list of service deployments says of one that was created at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It has a service deployment of its own: it is no rollback.
    Own,
    /// It has none, and the last one before it was rolled back, or is being: it is that rollback.
    OfARollback,
    /// It has none, and the last one before it was not rolled back, as far as this list shows.
    Neither,
    /// None is listed: such a service has no rollbacks that could be told so.
    Nothing,
}

impl Listing {
    /// What `listed` says of the deployment that was created at `created_at`.
    #[must_use]
    pub fn of(listed: &[ServiceDeploymentSummary], created_at: DateTime<Utc>) -> Self {
        let before = listed
            .iter()
            .filter_map(|summary| Some((summary.created_at()?, summary)))
            .filter(|(at, _)| *at <= created_at + ROUNDING);
        match before.max_by_key(|(at, _)| *at) {
            Some((at, _)) if at + CLOCK_TOLERANCE >= created_at => Self::Own,
            Some((_, summary)) if summary.status.starts_with("ROLLBACK_") => Self::OfARollback,
            Some(_) => Self::Neither,
            None => Self::Nothing,
        }
    }
}

/// ARNs of the task definitions that a service's deployments run, where `deployment_id` is one of them: then what a reason for its end may repeat
/// stands in them and in the service. None where it is not there any more.
#[must_use]
pub fn definitions_of(service: &Service, deployment_id: &str) -> Option<BTreeSet<String>> {
    let deployments = deployments(service);
    let own = deployments.iter().find(|deployment| deployment.id == deployment_id)?;
    own.task_definition.as_ref()?;
    Some(deployments.into_iter().filter_map(|deployment| deployment.task_definition).collect())
}

/// Whether events tell how deployments of a service end. Of blue/green, linear and canary ones that is not documented.
#[must_use]
pub fn is_rolling(service: &Service) -> bool {
    let strategy =
        service.parameter("deploymentConfiguration").and_then(|configuration| configuration.get("strategy")?.as_str());
    strategy.is_none_or(|strategy| strategy == "ROLLING")
}

fn deployments(service: &Service) -> Vec<Deployment> {
    let list = service.parameter("deployments").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect())
        .unwrap_or_default()
}

/// One entry of `deployments` of `DescribeServices`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Deployment {
    id: String,
    status: String,
    task_definition: Option<String>,
    desired_count: Option<i64>,
    running_count: Option<i64>,
    created_at: Option<f64>,
    rollout_state: Option<String>,
    rollout_state_reason: Option<String>,
}

impl Deployment {
    fn rolls_back(&self) -> bool {
        self.rollout_state_reason.as_deref().is_some_and(rolls_back)
    }

    fn rollout(&self) -> &str {
        self.rollout_state.as_deref().unwrap_or_default()
    }
}

/// ECS says so of a rollback's own deployment, after the name of what found the failure.
fn rolls_back(reason: &str) -> bool {
    reason.contains("rolling back to")
}

/// The deployment that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct TrackedDeployment<'a> {
    /// Its id, such as `ecs-svc/1234567890123456789`.
    pub id: &'a str,
    /// Id of the deployment that was `PRIMARY` before it. A rollback takes it up again.
    pub before: Option<&'a str>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// ARN of the service deployment that ECS named when it began. ECS does not promise that it is its own: it may be the one before.
    pub service_deployment: Option<&'a str>,
}

impl TrackedDeployment<'_> {
    /// Which of a service's deployments it is: the one whose revision has its number, else the nearest in time. ECS
    /// documents no way from the one to the other. None that was created before the deployment can be its own.
    #[must_use]
    pub fn among<'a>(&self, list: &'a [ServiceDeploymentSummary]) -> Option<&'a ServiceDeploymentSummary> {
        let may_be = list.iter().filter(|listed| self.is_not_before(listed.created_at));
        let distance = |listed: &&ServiceDeploymentSummary| {
            let created = listed.created_at.and_then(time)?;
            Some((created - self.started_at).abs()).filter(|apart| *apart <= SAME_TIME_TOLERANCE)
        };
        self.by_number(list).or_else(|| may_be.filter(|summary| distance(summary).is_some()).min_by_key(distance))
    }

    /// The one whose revision has its number.
    #[must_use]
    pub fn by_number<'a>(&self, list: &'a [ServiceDeploymentSummary]) -> Option<&'a ServiceDeploymentSummary> {
        let mut may_be = list.iter().filter(|listed| self.is_not_before(listed.created_at));
        may_be.find(|listed| self.has_number(listed.revision()))
    }

    /// Whether a service deployment can be its own by its time.
    #[must_use]
    pub fn may_be(&self, known: &ServiceDeployment) -> bool {
        self.is_not_before(known.created_at)
    }

    fn is_not_before(&self, created_at: Option<f64>) -> bool {
        created_at.and_then(time).is_none_or(|created| created + ROUNDING >= self.started_at)
    }

    fn has_number(&self, revision: Option<&str>) -> bool {
        revision.and_then(|arn| arn.rsplit('/').next()) == self.id.rsplit('/').next()
    }

    /// Whether the service contradicts what a service deployment says: by that one all is over, and the service shows the deployment under
    /// way. Then it is not the deployment's own. One whose revision has the deployment's number is; and so is one that ECS named and that
    /// was not created before: of these, the service's list is only behind.
    #[must_use]
    pub fn is_contradicted(&self, service: &Service, known: &ServiceDeployment) -> bool {
        let is_over =
            matches!(known.status.as_str(), "SUCCESSFUL" | "STOPPED" | "ROLLBACK_SUCCESSFUL" | "ROLLBACK_FAILED");
        let own = deployments(service).into_iter().find(|deployment| deployment.id == self.id);
        let Some(own) = own.filter(|own| own.status == "PRIMARY" && own.rollout() == "IN_PROGRESS") else {
            return false;
        };
        let has_number =
            self.has_number(known.target_service_revision.as_ref().and_then(|revision| revision.arn.as_deref()));
        let is_named = self.service_deployment == Some(&known.service_deployment_arn)
            && own.created_at.zip(known.created_at).is_some_and(|(own, known)| known >= own);
        is_over && !has_number && !is_named
    }

    /// Where it stands, by its service deployment where that is known, and by the service. A reason is as ECS gives it, with what it repeats:
    /// [`Outcome::told`] before anybody is told.
    #[must_use]
    pub fn standing(&self, service: &Service, known: Option<&ServiceDeployment>) -> DeploymentStatus {
        if service.created_at().is_some_and(|made| made > self.started_at + ROUNDING) {
            return self.of_deleted(known);
        }
        let deployments = deployments(service);
        let primary = deployments.iter().find(|deployment| deployment.status == "PRIMARY");
        let own = deployments.iter().find(|deployment| deployment.id == self.id);
        match known {
            Some(known) if self.is_contradicted(service, known) => {
                DeploymentStatus::Open(format!("IN_PROGRESS, and {} is {}", known.service_deployment_arn, known.status))
            }
            Some(known) if self.is_rollback_superseded(service, known, primary) => {
                let service_deployment = Some(known.service_deployment_arn.clone());
                let detail = OutcomeDetail { reason: known.reason(), service_deployment, ..OutcomeDetail::default() };
                DeploymentStatus::Ended(Box::new(Outcome { kind: Kind::DeploymentFailed, detail }))
            }
            Some(known) if self.is_replaced(service, known) => {
                let superseded_by = self.superseder(&deployments);
                let service_deployment = Some(known.service_deployment_arn.clone()).filter(|arn| !arn.is_empty());
                let detail = OutcomeDetail { superseded_by, service_deployment, ..OutcomeDetail::default() };
                DeploymentStatus::Ended(Box::new(Outcome { kind: Kind::Superseded, detail }))
            }
            Some(known) => self.by_service_deployment(known, own, primary, &deployments),
            None => self.by_service(own, primary, &deployments, rollback_is_on(service)),
        }
    }

    /// Whether another deployment began while this one was rolled back. Whether ECS then still says how the rollback ended is not
    /// documented: the status may stay as it is. The service names another service deployment as its current one then, whereas a rollback
    /// has none of its own.
    fn is_rollback_superseded(
        &self,
        service: &Service,
        known: &ServiceDeployment,
        primary: Option<&Deployment>,
    ) -> bool {
        let is_rolling_back = matches!(known.status.as_str(), "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS");
        let is_current = |arn: &str| arn == known.service_deployment_arn;
        is_rolling_back
            && service.service_deployment().is_some_and(|arn| !is_current(arn))
            && primary.is_some_and(|deployment| {
                deployment.id != self.id && self.is_newer(deployment) && !deployment.rolls_back()
            })
    }

    /// Whether another deployment took over though this one's service deployment is still under way by what was read: that may be older than
    /// what was read of the service. Another `PRIMARY` alone does not say so: a rollback takes up an older deployment, which need not be
    /// the one right before, and that is created anew. A rollback has no service deployment of its own.
    #[must_use]
    pub fn is_replaced(&self, service: &Service, known: &ServiceDeployment) -> bool {
        let is_under_way = matches!(known.status.as_str(), "PENDING" | "IN_PROGRESS");
        let is_current = service.service_deployment().is_some_and(|arn| arn == known.service_deployment_arn);
        is_under_way && !is_current && self.superseded_by(service).is_some()
    }

    /// Where a deployment stands whose service is not there any more; what has its name now is another one.
    #[must_use]
    pub fn of_deleted(&self, known: Option<&ServiceDeployment>) -> DeploymentStatus {
        let ended = known
            .filter(|known| known.status != "STOPPED" || known.is_triggered())
            .map(|known| self.by_service_deployment(known, None, None, &[]));
        if let Some(DeploymentStatus::Ended(ending)) = ended {
            return DeploymentStatus::Ended(ending);
        }
        let detail = OutcomeDetail { reason: Some(DELETED.to_owned()), ..OutcomeDetail::default() };
        DeploymentStatus::Ended(Box::new(Outcome { kind: Kind::Stopped, detail }))
    }

    /// The deployment that took over, as far as the service's list shows one: it was created later, and is no rollback. It did so even
    /// where it is not `PRIMARY` any more, having been rolled back itself.
    #[must_use]
    pub fn superseded_by(&self, service: &Service) -> Option<Superseder> {
        self.superseder(&deployments(service))
    }

    fn by_service_deployment(
        &self,
        known: &ServiceDeployment,
        own: Option<&Deployment>,
        primary: Option<&Deployment>,
        all: &[Deployment],
    ) -> DeploymentStatus {
        let ended = |kind, detail: OutcomeDetail| {
            let service_deployment = Some(known.service_deployment_arn.clone()).filter(|arn| !arn.is_empty());
            DeploymentStatus::Ended(Box::new(Outcome { kind, detail: OutcomeDetail { service_deployment, ..detail } }))
        };
        let because = || OutcomeDetail { reason: known.reason(), ..OutcomeDetail::default() };
        match known.status.as_str() {
            "SUCCESSFUL" => {
                let wanted = known.target_service_revision.as_ref().and_then(|revision| revision.requested_task_count);
                let wanted = own.and_then(|own| own.desired_count).or(wanted);
                ended(Kind::Completed, OutcomeDetail { no_tasks_wanted: wanted == Some(0), ..OutcomeDetail::default() })
            }
            "ROLLBACK_SUCCESSFUL" => {
                let there = primary.filter(|deployment| deployment.id != self.id);
                let revision = known.rollback.as_ref().and_then(|rollback| rollback.service_revision_arn.clone());
                let to =
                    RollbackTarget { service_revision: revision, ..there.map(RollbackTarget::of).unwrap_or_default() };
                ended(Kind::RolledBack, OutcomeDetail { rolled_back_to: Some(to), ..because() })
            }
            "ROLLBACK_FAILED" => ended(Kind::RollbackFailed, because()),
            "STOPPED" if known.is_triggered() => ended(Kind::DeploymentFailed, because()),
            "STOPPED" => match self.superseder(all) {
                Some(by) => ended(Kind::Superseded, OutcomeDetail { superseded_by: Some(by), ..because() }),
                None => ended(Kind::Stopped, OutcomeDetail { happened_at: known.ended_at().map(rfc3339), ..because() }),
            },
            status => {
                let stage = known.lifecycle_stage.as_deref().map(|stage| format!(" ({stage})")).unwrap_or_default();
                DeploymentStatus::Open(format!("{status}{stage}"))
            }
        }
    }

    /// The first deployment that came after this one and is no rollback, unless ECS had given this one up before.
    fn superseder(&self, all: &[Deployment]) -> Option<Superseder> {
        let took_over = all.iter().filter(|deployment| self.is_newer(deployment) && self.may_supersede(deployment));
        let first =
            took_over.min_by(|one, other| one.created_at.partial_cmp(&other.created_at).unwrap_or(Ordering::Equal))?;
        Some(Superseder {
            deployment_id: first.id.clone(),
            change_id: None,
            task_definition: first.task_definition.clone(),
        })
    }

    fn may_supersede(&self, other: &Deployment) -> bool {
        other.id != self.id && Some(other.id.as_str()) != self.before && !other.rolls_back()
    }

    /// Whether a deployment was created after this one: what is read may be older than what was written.
    fn is_newer(&self, other: &Deployment) -> bool {
        other.created_at.and_then(time).is_some_and(|created| created > self.started_at)
    }

    /// Where ECS has no service deployment of it: services of before October 2024, and stand-ins for ECS.
    fn by_service(
        &self,
        own: Option<&Deployment>,
        primary: Option<&Deployment>,
        all: &[Deployment],
        rollback_is_on: bool,
    ) -> DeploymentStatus {
        let ended = |kind, detail| DeploymentStatus::Ended(Box::new(Outcome { kind, detail }));
        let Some(primary) = primary else { return DeploymentStatus::Open("the service has no deployment".to_owned()) };
        let rolled_back = |failed: Option<&Deployment>| {
            let reason = failed.and_then(|deployment| deployment.rollout_state_reason.clone());
            match primary.rollout() {
                "COMPLETED" => ended(
                    Kind::RolledBack,
                    OutcomeDetail {
                        reason,
                        rolled_back_to: Some(RollbackTarget::of(primary)),
                        ..OutcomeDetail::default()
                    },
                ),
                "FAILED" => {
                    let reason = primary.rollout_state_reason.clone().or(reason);
                    ended(Kind::RollbackFailed, OutcomeDetail { reason, ..OutcomeDetail::default() })
                }
                _ => DeploymentStatus::Open(format!("rolling back to {}", primary.id)),
            }
        };
        let superseded =
            |by| ended(Kind::Superseded, OutcomeDetail { superseded_by: Some(by), ..OutcomeDetail::default() });
        match own {
            Some(own) if own.id == primary.id => match own.rollout() {
                "COMPLETED" => {
                    let no_tasks_wanted = own.desired_count == Some(0);
                    ended(Kind::Completed, OutcomeDetail { no_tasks_wanted, ..OutcomeDetail::default() })
                }
                "FAILED" if rollback_is_on => DeploymentStatus::Open("FAILED, and to be rolled back".to_owned()),
                "FAILED" => {
                    let reason = own.rollout_state_reason.clone();
                    ended(Kind::DeploymentFailed, OutcomeDetail { reason, ..OutcomeDetail::default() })
                }
                rollout => {
                    let count = |count: Option<i64>| count.unwrap_or_default();
                    let (running, desired) = (count(own.running_count), count(own.desired_count));
                    DeploymentStatus::Open(format!("{rollout}, {running} of {desired} tasks run"))
                }
            },
            Some(own) if own.rollout() == "FAILED" && rollback_is_on => rolled_back(Some(own)),
            Some(own) if own.rollout() == "FAILED" => {
                let reason = own.rollout_state_reason.clone();
                ended(Kind::DeploymentFailed, OutcomeDetail { reason, ..OutcomeDetail::default() })
            }
            _ => match self.superseder(all) {
                Some(by) => superseded(by),
                None if primary.rolls_back() => rolled_back(own),
                // A rollback takes up the deployment from before, newly created.
                None if own.is_none() && self.is_newer(primary) => rolled_back(None),
                None => DeploymentStatus::Open(
                    "it is not among the service's deployments, or nothing took over from it".to_owned(),
                ),
            },
        }
    }
}

impl RollbackTarget {
    fn of(deployment: &Deployment) -> Self {
        Self {
            service_revision: None,
            task_definition: deployment.task_definition.clone(),
            deployment_id: Some(deployment.id.clone()),
        }
    }
}

impl ServiceDeployment {
    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        self.created_at.and_then(time)
    }

    /// ARN of the service revision that it deploys.
    #[must_use]
    pub fn revision(&self) -> Option<&str> {
        self.target_service_revision.as_ref()?.arn.as_deref()
    }

    /// ARN of the service revision that it replaces, where it is one only.
    #[must_use]
    pub fn source_revision(&self) -> Option<&str> {
        match self.source_service_revisions.as_deref().unwrap_or_default() {
            [only] => only.arn.as_deref(),
            _ => None,
        }
    }

    /// Whether what it deployed was, or is being taken back; `None` where it may still come to that.
    #[must_use]
    pub fn is_rolled_back(&self) -> Option<bool> {
        match self.status.as_str() {
            "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" | "ROLLBACK_SUCCESSFUL" | "ROLLBACK_FAILED" => Some(true),
            "SUCCESSFUL" | "STOPPED" => Some(false),
            _ => None,
        }
    }

    /// Where it stands; `None` where its status is not known.
    #[must_use]
    pub fn stands(&self) -> Option<DeploymentProgress> {
        Some(match self.status.as_str() {
            "PENDING" | "IN_PROGRESS" | "STOP_REQUESTED" | "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" => {
                DeploymentProgress::UnderWay
            }
            "SUCCESSFUL" => DeploymentProgress::Ended(Kind::Completed),
            "ROLLBACK_SUCCESSFUL" => DeploymentProgress::Ended(Kind::RolledBack),
            "ROLLBACK_FAILED" => DeploymentProgress::Ended(Kind::RollbackFailed),
            "STOPPED" => {
                DeploymentProgress::Ended(if self.is_triggered() { Kind::DeploymentFailed } else { Kind::Stopped })
            }
            _ => return None,
        })
    }

    fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.stopped_at.or(self.finished_at).and_then(time)
    }

    /// Whether the circuit breaker or an alarm found it failing.
    fn is_triggered(&self) -> bool {
        let triggered = |monitor: &Option<Monitor>| {
            monitor.as_ref().and_then(|monitor| monitor.status.as_deref()) == Some("TRIGGERED")
        };
        triggered(&self.deployment_circuit_breaker) || triggered(&self.alarms)
    }

    fn reason(&self) -> Option<String> {
        let rollback = self.rollback.as_ref().and_then(|rollback| rollback.reason.clone());
        let reason = rollback.or_else(|| self.status_reason.clone()).filter(|reason| !reason.is_empty());
        with_alarms(reason, &self.alarms())
    }

    /// Names of the alarms that rang.
    fn alarms(&self) -> String {
        self.alarms.as_ref().map(|alarms| alarms.triggered_alarm_names.join(", ")).unwrap_or_default()
    }
}

fn with_alarms(reason: Option<String>, alarms: &str) -> Option<String> {
    match (reason, alarms.is_empty()) {
        (reason, true) => reason,
        (None, false) => Some(format!("alarms: {alarms}")),
        (Some(reason), false) if reason.contains(alarms) => Some(reason),
        (Some(reason), false) => Some(format!("{reason} (alarms: {alarms})")),
    }
}

/// A reason with `tell` applied to it, but for the names of alarms behind it.
fn told(reason: &str, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> String {
    let alarms = known.map(ServiceDeployment::alarms).unwrap_or_default();
    let behind = format!(" (alarms: {alarms})");
    let said = if alarms.is_empty() {
        Some(reason)
    } else if reason == format!("alarms: {alarms}") {
        None
    } else {
        Some(reason.strip_suffix(&behind).unwrap_or(reason))
    };
    with_alarms(said.map(tell), &one_line(&alarms)).unwrap_or_default()
}

fn rollback_is_on(service: &Service) -> bool {
    let configuration = service.parameter("deploymentConfiguration");
    ["deploymentCircuitBreaker", "alarms"].iter().any(|monitor| {
        let is = |name: &str| {
            configuration
                .and_then(|configuration| configuration.get(monitor)?.get(name))
                .and_then(Value::as_bool)
                .unwrap_or_default()
        };
        is("enable") && is("rollback")
    })
}

fn time(seconds: f64) -> Option<DateTime<Utc>> {
    #[allow(clippy::cast_possible_truncation)] // milliseconds since 1970 fit for the next 290 million years
    DateTime::from_timestamp_millis((seconds * 1000.0).round() as i64)
}

/// What an event says of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentEventKind {
    /// It began.
    InProgress,
    /// The service is steady with it.
    Completed,
    /// The circuit breaker gave it up. Of services with alarms and without the circuit breaker this event is not documented:
    /// "This event is sent for services with deployment circuit breaker logic turned on"
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>). How theirs end, the sweep
    /// finds out.
    Failed,
}

/// An `ECS Deployment State Difference` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentEvent {
    /// The service.
    pub service: ServiceKey,
    /// Its ARN.
    pub service_arn: String,
    /// The deployment.
    pub deployment_id: String,
    /// What happened.
    pub happened: DeploymentEventKind,
    /// Why, in the words of ECS, as far as they can hold no value: see [`reason::known`].
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

impl DeploymentEvent {
    /// Reads an event; `None` where it is about something that says nothing of how a deployment ended.
    ///
    /// # Errors
    ///
    /// A sentence, where it is no such event.
    pub fn parse(event: &Value) -> Result<Option<Self>, String> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/source") != "aws.ecs" || text("/detail-type") != "ECS Deployment State Change" {
            return Err(format!(
                "source {} and detail-type {} are not those of an ECS Deployment State Change event",
                shown_text(text("/source")),
                shown_text(text("/detail-type"))
            ));
        }
        let happened = match text("/detail/eventName") {
            "SERVICE_DEPLOYMENT_IN_PROGRESS" => DeploymentEventKind::InProgress,
            "SERVICE_DEPLOYMENT_COMPLETED" => DeploymentEventKind::Completed,
            "SERVICE_DEPLOYMENT_FAILED" => DeploymentEventKind::Failed,
            _ => return Ok(None),
        };
        let service_arn = text("/resources/0");
        let service = service_of(service_arn, text("/detail/clusterArn"))?;
        if service.account_id().as_str() != text("/account") || service.region().as_str() != text("/region") {
            return Err(format!(
                "the event of account {} and region {} is about {}",
                shown_text(text("/account")),
                shown_text(text("/region")),
                shown_text(service_arn)
            ));
        }
        let deployment_id = text("/detail/deploymentId");
        if deployment_id.is_empty() {
            return Err("the event has no /detail/deploymentId".to_owned());
        }
        if deployment_id.len() > MAX_ID {
            return Err(format!("/detail/deploymentId {} is no id of a deployment", shown_text(deployment_id)));
        }
        let at = [text("/detail/updatedAt"), text("/time")]
            .iter()
            .find_map(|time| DateTime::parse_from_rfc3339(time).ok())
            .ok_or("the event has neither /detail/updatedAt nor /time")?;
        Ok(Some(Self {
            service,
            service_arn: service_arn.to_owned(),
            deployment_id: deployment_id.to_owned(),
            happened,
            // Which values it may repeat, an event does not tell.
            reason: Some(reason::known(text("/detail/reason"))).filter(|reason| !reason.is_empty()),
            at: at.with_timezone(&Utc),
        }))
    }

    /// Whether the deployment is a rollback's own.
    #[must_use]
    pub fn rolls_back(&self) -> bool {
        self.reason.as_deref().is_some_and(rolls_back)
    }
}

/// The service key of a service's ARN. ARNs of the old form do not name the cluster.
fn service_of(arn: &str, cluster_arn: &str) -> Result<ServiceKey, String> {
    let wrong = || format!("{} is not the ARN of an ECS service whose cluster is known", shown_text(arn));
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "ecs", region, account, resource] = parts.as_slice() else { return Err(wrong()) };
    Partition::parse(partition).map_err(|_| wrong())?;
    let names: Vec<&str> = resource.split('/').collect();
    let (cluster, service) = match names.as_slice() {
        ["service", cluster, service] => (*cluster, *service),
        ["service", service] => (cluster_arn.rsplit('/').next().unwrap_or_default(), *service),
        _ => return Err(wrong()),
    };
    let name = |name| EcsName::parse(name).map_err(|_| wrong());
    Ok(ServiceKey::new(
        AccountId::parse(account).map_err(|_| wrong())?,
        Region::parse(region).map_err(|_| wrong())?,
        name(cluster)?,
        name(service)?,
    ))
}

/// What ECS says of an event's deployment, as far as it can tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EcsView {
    /// When the service was made.
    pub service_created_at: Option<DateTime<Utc>>,
    /// When the deployment was created.
    pub created_at: Option<DateTime<Utc>>,
    /// ARN of the task definition that it deploys.
    pub task_definition: Option<String>,
    /// ARN of the task definition of the deployment that it replaced, as far as that is known.
    pub predecessor_runs: Option<String>,
    /// The images of the one that it deploys, by container.
    pub images: Option<BTreeMap<String, String>>,
    /// ARN of its service deployment.
    pub service_deployment: Option<String>,
    /// Whether deployments of the service are of another strategy than `ROLLING`.
    pub other_strategy: bool,
    /// Whether the deployment says of itself that it takes another one back.
    pub rolls_back: bool,
    /// Whether the deployment that ECS was asked about besides ([`asked_about`](crate::ledger::deployment_event::asked_about)) was, or is being rolled back. What was asked of another one
    /// says nothing.
    pub is_rolled_back: Option<bool>,
    /// Where that one stands.
    pub stands: Option<DeploymentProgress>,
    /// Whether ECS could not be asked: what it would say may decide later.
    pub is_unasked: bool,
}

impl EcsView {
    /// Whether the deployment runs what the one before it ran. Whoever sets another revision deploys something else.
    #[must_use]
    pub fn runs_what_ran_before(&self) -> bool {
        self.task_definition.is_some() && self.task_definition == self.predecessor_runs
    }
}

/// Where a deployment stands, by its service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentProgress {
    /// It, or its rollback, has not ended.
    UnderWay,
    /// It ended so.
    Ended(Kind),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;
    use crate::ledger::attribution::superseder_among;
    use serde_json::json;

    const OWN: &str = "ecs-svc/2";
    const OLD: &str = "ecs-svc/1";
    const NEW: &str = "ecs-svc/3";

    fn followed() -> TrackedDeployment<'static> {
        let started_at = DateTime::from_timestamp(1000, 0).unwrap();
        TrackedDeployment { id: OWN, before: Some(OLD), started_at, service_deployment: None }
    }

    fn deployment(id: &str, status: &str, rollout: &str, created: i64) -> Value {
        json!({"id": id, "status": status, "rolloutState": rollout, "rolloutStateReason": format!("{id} is {rollout}"),
               "createdAt": created, "taskDefinition": format!("td:{id}"), "desiredCount": 2, "runningCount": 1})
    }

    fn service(deployments: &[Value]) -> Service {
        let Value::Object(members) = json!({"deployments": deployments}) else { panic!("an object") };
        Service::new(members, None)
    }

    fn service_deployment(status: &str, more: &Value) -> ServiceDeployment {
        let mut value = json!({"serviceDeploymentArn": "arn:sd", "status": status});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn kind(standing: &DeploymentStatus) -> Option<Kind> {
        match standing {
            DeploymentStatus::Open(_) => None,
            DeploymentStatus::Ended(ending) => Some(ending.kind),
        }
    }

    fn detail(standing: DeploymentStatus) -> OutcomeDetail {
        match standing {
            DeploymentStatus::Open(what) => panic!("open: {what}"),
            DeploymentStatus::Ended(ending) => ending.detail,
        }
    }

    #[test]
    fn the_nine_statuses_of_a_service_deployment() {
        let alone = service(&[deployment(OWN, "PRIMARY", "COMPLETED", 1000)]);
        let (none, breaker) = (json!({}), json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}}));
        let alarm = json!({"alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["too-slow"]}});
        let monitored =
            json!({"deploymentCircuitBreaker": {"status": "MONITORING_COMPLETE"}, "alarms": {"status": "DISABLED"}});
        for (status, more, expected) in [
            ("PENDING", &none, None),
            ("IN_PROGRESS", &none, None),
            ("STOP_REQUESTED", &none, None),
            ("ROLLBACK_REQUESTED", &breaker, None),
            ("ROLLBACK_IN_PROGRESS", &alarm, None),
            ("SUCCESSFUL", &monitored, Some(Kind::Completed)),
            ("ROLLBACK_SUCCESSFUL", &breaker, Some(Kind::RolledBack)),
            ("ROLLBACK_FAILED", &breaker, Some(Kind::RollbackFailed)),
            ("STOPPED", &breaker, Some(Kind::DeploymentFailed)),
            ("STOPPED", &alarm, Some(Kind::DeploymentFailed)),
            ("STOPPED", &monitored, Some(Kind::Stopped)),
            ("A_NEW_ONE", &none, None),
        ] {
            let standing = followed().standing(&alone, Some(&service_deployment(status, more)));
            assert_eq!(kind(&standing), expected, "{status} {more}");
        }
    }

    #[test]
    fn a_rollback_says_why_and_to_what() {
        let after = service(&[deployment(OLD, "PRIMARY", "COMPLETED", 1500)]);
        let known = service_deployment(
            "ROLLBACK_SUCCESSFUL",
            &json!({"statusReason": "as it is", "rollback": {"reason": "tasks failed to start", "serviceRevisionArn": "arn:r/1"},
                    "alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["a", "b"]}}),
        );
        let detail = detail(followed().standing(&after, Some(&known)));
        assert_eq!(detail.reason.as_deref(), Some("tasks failed to start (alarms: a, b)"));
        let to = detail.rolled_back_to.unwrap();
        assert_eq!(to.service_revision.as_deref(), Some("arn:r/1"));
        assert_eq!(to.task_definition.as_deref(), Some("td:ecs-svc/1"));
        assert_eq!(to.deployment_id.as_deref(), Some(OLD));
        assert_eq!(detail.service_deployment.as_deref(), Some("arn:sd"));
    }

    #[test]
    fn no_tasks_wanted_is_told_apart() {
        let mut own = deployment(OWN, "PRIMARY", "COMPLETED", 1000);
        for (desired, expected) in [(0, true), (2, false)] {
            own["desiredCount"] = desired.into();
            let known = service_deployment("SUCCESSFUL", &json!({}));
            assert_eq!(detail(followed().standing(&service(&[own.clone()]), Some(&known))).no_tasks_wanted, expected);
            assert_eq!(detail(followed().standing(&service(&[own.clone()]), None)).no_tasks_wanted, expected);
        }
    }

    #[test]
    fn a_newer_deployment_supersedes_and_a_rollback_does_not() {
        let newer =
            service(&[deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100), deployment(OWN, "ACTIVE", "IN_PROGRESS", 1000)]);
        let none = json!({});
        for status in ["PENDING", "IN_PROGRESS", "STOPPED"] {
            let standing = followed().standing(&newer, Some(&service_deployment(status, &none)));
            assert_eq!(kind(&standing), Some(Kind::Superseded), "{status}");
            assert_eq!(detail(standing).superseded_by.unwrap().deployment_id, NEW);
        }
        // What was read of the service deployment is older than what was read of the service: it was rolled back to an older deployment
        // than the one before, which says nothing of a rollback any more.
        let mut rolled_back = json!({"deployments": [deployment(NEW, "PRIMARY", "COMPLETED", 1100)]});
        for (current, expected) in [("arn:sd", None), ("arn:sd/3", Some(Kind::Superseded))] {
            rolled_back["currentServiceDeployment"] = current.into();
            let Value::Object(members) = rolled_back.clone() else { panic!("an object") };
            let standing =
                followed().standing(&Service::new(members, None), Some(&service_deployment("IN_PROGRESS", &none)));
            assert_eq!(kind(&standing), expected, "{current}");
        }
        // As long as it is being rolled back, nothing is known of the end.
        let standing = followed().standing(&newer, Some(&service_deployment("ROLLBACK_IN_PROGRESS", &none)));
        assert_eq!(kind(&standing), None);
        let mut back = deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100);
        back["rolloutStateReason"] = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".into();
        for rollback in [back, deployment(OLD, "PRIMARY", "IN_PROGRESS", 1100)] {
            let standing = followed().standing(&service(&[rollback]), Some(&service_deployment("IN_PROGRESS", &none)));
            assert_eq!(kind(&standing), None);
        }
        // An answer from before the deployment began says nothing.
        let stale = service(&[deployment("ecs-svc/0", "PRIMARY", "COMPLETED", 900)]);
        assert_eq!(kind(&followed().standing(&stale, Some(&service_deployment("PENDING", &none)))), None);
    }

    #[test]
    fn without_a_service_deployment_the_services_list_decides() {
        let own = |rollout| deployment(OWN, "PRIMARY", rollout, 1000);
        let mut back = deployment(OLD, "PRIMARY", "IN_PROGRESS", 1100);
        back["rolloutStateReason"] = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".into();
        let cases = [
            (vec![own("IN_PROGRESS")], false, None),
            (vec![own("COMPLETED")], false, Some(Kind::Completed)),
            (vec![own("FAILED")], false, Some(Kind::DeploymentFailed)),
            (vec![own("FAILED")], true, None),
            (vec![back.clone(), deployment(OWN, "ACTIVE", "FAILED", 1000)], true, None),
            (vec![back], true, None),
            (vec![deployment(OLD, "PRIMARY", "COMPLETED", 1100)], true, Some(Kind::RolledBack)),
            (vec![deployment(OLD, "PRIMARY", "FAILED", 1100)], true, Some(Kind::RollbackFailed)),
            // Read from before the deployment began, or gone without a trace: not known.
            (vec![deployment(OLD, "PRIMARY", "COMPLETED", 900)], true, None),
            (vec![], true, None),
            (vec![deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100)], true, Some(Kind::Superseded)),
            (
                vec![deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100), deployment(OWN, "ACTIVE", "COMPLETED", 1000)],
                true,
                Some(Kind::Superseded),
            ),
            (
                vec![deployment(NEW, "PRIMARY", "COMPLETED", 1100), deployment(OWN, "ACTIVE", "FAILED", 1000)],
                true,
                Some(Kind::RolledBack),
            ),
            (
                vec![deployment(NEW, "PRIMARY", "COMPLETED", 1100), deployment(OWN, "ACTIVE", "FAILED", 1000)],
                false,
                Some(Kind::DeploymentFailed),
            ),
        ];
        for (deployments, rollback, expected) in cases {
            let Value::Object(members) = json!({"deployments": deployments, "deploymentConfiguration":
                {"deploymentCircuitBreaker": {"enable": true, "rollback": rollback}}})
            else {
                panic!("an object")
            };
            let standing = followed().standing(&Service::new(members, None), None);
            assert_eq!(kind(&standing), expected, "{deployments:?}");
        }
    }

    #[test]
    fn what_took_over_did_so_even_where_it_was_rolled_back_itself() {
        // Row 18: the newer one failed, and ECS went back to the one from before.
        let back = deployment(OLD, "PRIMARY", "COMPLETED", 1200);
        let after = service(&[back.clone(), deployment(NEW, "ACTIVE", "FAILED", 1100)]);
        for known in [None, Some(service_deployment("STOPPED", &json!({})))] {
            let standing = followed().standing(&after, known.as_ref());
            assert_eq!(kind(&standing), Some(Kind::Superseded), "{known:?}");
            assert_eq!(detail(standing).superseded_by.unwrap().deployment_id, NEW);
        }
        // It is not in the list any more: what a look before saw, and records, tell.
        let known = service_deployment("STOPPED", &json!({"stoppedAt": 1105.5}));
        let DeploymentStatus::Ended(ending) = followed().standing(&service(&[back]), Some(&known)) else {
            panic!("open")
        };
        assert_eq!((ending.kind, ending.happened_at()), (Kind::Stopped, DateTime::from_timestamp_millis(1_105_500)));
        let by = Superseder { deployment_id: NEW.to_owned(), ..Superseder::default() };
        assert_eq!(ending.superseded(&by).kind, Kind::Superseded);
        let change = |second| ChangeId::new(DateTime::from_timestamp(second, 0).unwrap(), [1; 10]);
        let record = |second, before: &str| {
            let record = json!({"change_id": change(second), "deployment_id": NEW, "before": json!({"deploymentId": before}).to_string(),
                                "after": json!({"taskDefinitionArn": "td:new"}).to_string()});
            vec![record.as_object().unwrap().clone()]
        };
        let stopped_at = DateTime::from_timestamp(1105, 0);
        let found = superseder_among(&record(1100, OWN), OWN, stopped_at).unwrap();
        assert_eq!((found.deployment_id.as_str(), found.task_definition.as_deref()), (NEW, Some("td:new")));
        assert_eq!(superseder_among(&record(1100, OLD), OWN, stopped_at), None);
        assert_eq!(superseder_among(&record(1200, OWN), OWN, stopped_at), None, "it was stopped before that began");
    }

    #[test]
    fn a_deployment_of_a_service_that_was_deleted_was_stopped() {
        // (h): what has the name now was made later.
        let Value::Object(members) =
            json!({"createdAt": 1300.5, "deployments": [deployment(NEW, "PRIMARY", "COMPLETED", 1300)]})
        else {
            panic!("an object")
        };
        let anew = Service::new(members, None);
        let none = json!({});
        for known in [None, Some("IN_PROGRESS"), Some("STOPPED")] {
            let known = known.map(|status| service_deployment(status, &none));
            let standing = followed().standing(&anew, known.as_ref());
            assert_eq!(kind(&standing), Some(Kind::Stopped), "{known:?}");
            assert_eq!(detail(standing).reason.as_deref(), Some(DELETED));
        }
        // It had ended before.
        let standing = followed().standing(&anew, Some(&service_deployment("SUCCESSFUL", &none)));
        assert_eq!(kind(&standing), Some(Kind::Completed));
        let by = Superseder { deployment_id: NEW.to_owned(), ..Superseder::default() };
        let DeploymentStatus::Ended(ending) = followed().of_deleted(None) else { panic!("open") };
        assert_eq!(ending.superseded(&by).kind, Kind::Stopped, "another life's supersedes nothing");
    }

    #[test]
    fn what_has_no_service_deployment_behind_one_that_was_rolled_back_is_the_rollback() {
        let listed = |created: f64, status: &str| -> ServiceDeploymentSummary {
            serde_json::from_value(json!({"serviceDeploymentArn": "sd", "createdAt": created, "status": status}))
                .unwrap()
        };
        let created = DateTime::from_timestamp(1000, 0).unwrap();
        let rolled_back = || listed(900.0, "ROLLBACK_SUCCESSFUL");
        let says = |before: &[ServiceDeploymentSummary]| Listing::of(before, created);
        assert_eq!(says(&[listed(800.0, "SUCCESSFUL"), rolled_back()]), Listing::OfARollback);
        let later = listed(1100.0, "IN_PROGRESS");
        assert_eq!(says(&[rolled_back(), later]), Listing::OfARollback, "what came later says nothing");
        assert_eq!(says(&[rolled_back(), listed(999.5, "SUCCESSFUL")]), Listing::Own);
        assert_eq!(says(&[rolled_back(), listed(950.0, "IN_PROGRESS")]), Listing::Neither);
        assert_eq!(says(&[]), Listing::Nothing);
    }

    #[test]
    fn nothing_that_was_created_before_a_deployment_is_its_service_deployment() {
        // (i): two changes two seconds apart, and the list is behind.
        let listed = |created: f64| -> ServiceDeploymentSummary {
            serde_json::from_value(json!({"serviceDeploymentArn": "first", "createdAt": created})).unwrap()
        };
        assert_eq!(followed().among(&[listed(998.0)]), None);
        assert!(followed().among(&[listed(999.5)]).is_some(), "times may be cut to whole seconds");
        assert!(!followed().may_be(&service_deployment("SUCCESSFUL", &json!({"createdAt": 998.0}))));
        assert!(followed().may_be(&service_deployment("SUCCESSFUL", &json!({"createdAt": 1000.0}))));
    }

    #[test]
    fn no_final_word_while_the_service_contradicts_it() {
        // (i)
        let under_way = service(&[deployment(OWN, "PRIMARY", "IN_PROGRESS", 1000)]);
        let earlier = json!({"createdAt": 999.5});
        for status in ["SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"] {
            let standing = followed().standing(&under_way, Some(&service_deployment(status, &earlier)));
            assert_eq!(kind(&standing), None, "{status}");
        }
        // That it is its own is certain: by the number, or named by ECS and not created before.
        let numbered = json!({"targetServiceRevision": {"arn": "arn:aws:ecs:r:1:service-revision/c/s/2"}});
        let standing = followed().standing(&under_way, Some(&service_deployment("SUCCESSFUL", &numbered)));
        assert_eq!(kind(&standing), Some(Kind::Completed));
        let named = TrackedDeployment { service_deployment: Some("arn:sd"), ..followed() };
        let known = service_deployment("SUCCESSFUL", &json!({"createdAt": 1000.0}));
        assert_eq!(kind(&named.standing(&under_way, Some(&known))), Some(Kind::Completed));
        assert_eq!(kind(&named.standing(&under_way, Some(&service_deployment("SUCCESSFUL", &earlier)))), None);
    }

    #[test]
    fn a_service_deployment_is_found_by_number_else_by_time() {
        let listed = |arn: &str, revision: &str, created: f64| -> ServiceDeploymentSummary {
            serde_json::from_value(
                json!({"serviceDeploymentArn": arn, "targetServiceRevisionArn": revision, "createdAt": created}),
            )
            .unwrap()
        };
        let revision = |number: &str| format!("arn:aws:ecs:r:1:service-revision/c/s/{number}");
        let by_number = [listed("a", &revision("9"), 1000.0), listed("b", &revision("2"), 1020.0)];
        assert_eq!(followed().among(&by_number).unwrap().service_deployment_arn, "b");
        let by_time = [
            listed("a", &revision("7"), 990.0),
            listed("b", &revision("8"), 1001.5),
            listed("c", &revision("9"), 1031.0),
        ];
        assert_eq!(followed().among(&by_time).unwrap().service_deployment_arn, "b");
        assert_eq!(followed().among(&by_time[2..]), None);
    }

    fn event(name: &str, reason: &str) -> Value {
        json!({
            "version": "0", "id": "ddca6449-b258-46c0-8653-e0e3a6EXAMPLE", "detail-type": "ECS Deployment State Change",
            "source": "aws.ecs", "account": "111122223333", "time": "2026-05-23T12:31:14Z", "region": "us-west-2",
            "resources": ["arn:aws:ecs:us-west-2:111122223333:service/default/servicetest"],
            "detail": {"eventType": "INFO", "eventName": name, "deploymentId": "ecs-svc/123",
                       "updatedAt": "2026-05-23T11:11:11.5Z", "reason": reason},
        })
    }

    #[test]
    fn events_are_read() {
        let read = DeploymentEvent::parse(&event("SERVICE_DEPLOYMENT_COMPLETED", "done")).unwrap().unwrap();
        assert_eq!(read.service.to_string(), "111122223333/us-west-2/default/servicetest");
        assert_eq!((read.happened, read.deployment_id.as_str()), (DeploymentEventKind::Completed, "ecs-svc/123"));
        assert_eq!(read.at.to_rfc3339(), "2026-05-23T11:11:11.500+00:00");
        assert!(!read.rolls_back());
        let reason = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/99.";
        let read = DeploymentEvent::parse(&event("SERVICE_DEPLOYMENT_IN_PROGRESS", reason)).unwrap().unwrap();
        assert!(read.rolls_back());
        assert_eq!(DeploymentEvent::parse(&event("SERVICE_DEPLOYMENT_NEW", "")).unwrap(), None);
    }

    #[test]
    fn what_is_no_such_event_is_refused() {
        let with = |pointer: &str, value: Value| {
            let mut event = event("SERVICE_DEPLOYMENT_COMPLETED", "");
            *event.pointer_mut(pointer).unwrap() = value;
            DeploymentEvent::parse(&event)
        };
        for (pointer, value) in [
            ("/source", json!("my.ecs")),
            ("/detail-type", json!("ECS Service Action")),
            ("/account", json!("999988887777")),
            ("/region", json!("eu-west-1")),
            ("/resources", json!([])),
            ("/resources/0", json!("arn:aws:ecs:us-west-2:111122223333:cluster/default")),
            ("/resources/0", json!("arn:aws:ecs:us-west-2:111122223333:service/servicetest")),
            ("/resources/0", json!("urn:aws:ecs:us-west-2:111122223333:service/default/servicetest")),
            ("/resources/0", json!("arn:a b:ecs:us-west-2:111122223333:service/default/servicetest")),
            ("/source", json!("x".repeat(200_000))),
            ("/account", json!("x".repeat(200_000))),
            ("/resources/0", json!("x".repeat(200_000))),
            ("/detail/deploymentId", json!("")),
            ("/detail/deploymentId", json!("x".repeat(3_000))),
        ] {
            let why = with(pointer, value.clone()).unwrap_err();
            assert!(why.len() < 1_000, "{pointer} {value:.100}: {why:.1000}");
        }
        let mut short = event("SERVICE_DEPLOYMENT_COMPLETED", "");
        short["resources"][0] = "arn:aws:ecs:us-west-2:111122223333:service/servicetest".into();
        short["detail"]["clusterArn"] = "arn:aws:ecs:us-west-2:111122223333:cluster/prod".into();
        let read = DeploymentEvent::parse(&short).unwrap().unwrap();
        assert_eq!(read.service.to_string(), "111122223333/us-west-2/prod/servicetest");
    }
}
