//! The deployment that is tracked: which service deployment is its own, and what its state is.

use std::cmp::Ordering;

use chrono::{DateTime, Duration, Utc};

use crate::ecs::deployment::listed::{Deployment, deployments, rollback_is_on};
use crate::ecs::deployment::outcome::{DELETED, DeploymentStatus, Outcome, OutcomeDetail, RollbackTarget, Superseder};
use crate::ecs::deployment::service_deployment::{ServiceDeployment, ServiceDeploymentSummary};
use crate::ecs::deployment::times::{ROUNDING, time};
use crate::ecs::service::Service;
use crate::ledger::kind::Kind;
use crate::text::rfc3339;

/// How long ECS may take to begin the rollback of a deployment that failed: its list shows the failure first. AWS names no bound, and there
/// is a report of one that was never rolled back (<https://github.com/aws/containers-roadmap/issues/1488>).
const ROLLBACK_BEGINS: Duration = Duration::minutes(10);
/// The same, if the service's list shows no other deployment that completed: "The rollback method requires a previous deployment in COMPLETED
/// state" (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-failure-detection.html>). One that completed and whose
/// tasks have all been replaced is no longer listed, so this alone proves nothing.
const ROLLBACK_BEGINS_UNSEEN: Duration = Duration::minutes(1);
/// What follows the reason of ECS in these two cases, in words that [`reason::known`](crate::ecs::reason::known) leaves.
const NOT_ROLLED_BACK: &str = "It was not rolled back by ECS";
const NOTHING_TO_GO_BACK_TO: &str = "It was not rolled back: there is no completed deployment to go back to";

/// The deployment that is tracked.
#[derive(Debug, Clone, Copy)]
pub struct TrackedDeployment<'a> {
    /// Its id, such as `ecs-svc/1234567890123456789`.
    pub id: &'a str,
    /// Id of the deployment that was `PRIMARY` before it. A rollback returns to it.
    pub before: Option<&'a str>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// ARN of the service deployment that ECS named when the deployment began. ECS does not promise that it is the deployment's own: it may
    /// be the one before.
    pub service_deployment: Option<&'a str>,
    /// Id of the deployment that is known to be its rollback: once that one has completed, nothing in the service's list says so any more.
    pub undone_by: Option<&'a str>,
}

impl TrackedDeployment<'_> {
    /// Which of a service's service deployments is its own: the one whose revision has its number, otherwise the one that ECS named when the
    /// deployment began. A service deployment that was created before the deployment cannot be its own. Times prove nothing more: several
    /// deployments may begin within seconds, so none is taken for being near.
    #[must_use]
    pub fn among<'a>(&self, list: &'a [ServiceDeploymentSummary]) -> Option<&'a ServiceDeploymentSummary> {
        let mut may_be = list.iter().filter(|listed| self.is_not_before(listed.created_at));
        self.by_number(list)
            .or_else(|| may_be.find(|listed| self.service_deployment == Some(listed.service_deployment_arn.as_str())))
    }

    /// ARN of the service deployment that a service names as its current one while the deployment is `PRIMARY`: its own, unless it was
    /// created before ([`TrackedDeployment::may_be`]).
    #[must_use]
    pub fn named_by<'a>(&self, service: &'a Service) -> Option<&'a str> {
        service.service_deployment().filter(|_| service.deployment_id() == Some(self.id))
    }

    /// ARN of the service revision that it runs, if the service shows that nothing else runs: it is the only deployment, and ECS names
    /// exactly one revision.
    #[must_use]
    pub fn revision_in<'a>(&self, service: &'a Service) -> Option<&'a str> {
        let is_alone = matches!(deployments(service).as_slice(), [only] if only.id == self.id);
        service.service_revision().filter(|_| is_alone)
    }

    /// Id of the deployment that rolls it back, as far as a service shows one now: it took over, and says of itself that it is a rollback, or
    /// the service deployment of this one says that it is being rolled back and is still the service's current one.
    #[must_use]
    pub fn rollback_in(&self, service: &Service, known: Option<&ServiceDeployment>) -> Option<String> {
        let primary = deployments(service).into_iter().find(|deployment| deployment.status == "PRIMARY")?;
        let is_rolled_back = known.is_some_and(|known| {
            known.is_rolled_back() == Some(true)
                && service.service_deployment() == Some(known.service_deployment_arn.as_str())
        });
        let is_rollback = primary.id != self.id && self.is_newer(&primary) && (primary.rolls_back() || is_rolled_back);
        is_rollback.then_some(primary.id)
    }

    /// The one whose revision has its number.
    #[must_use]
    pub fn by_number<'a>(&self, list: &'a [ServiceDeploymentSummary]) -> Option<&'a ServiceDeploymentSummary> {
        let mut may_be = list.iter().filter(|listed| self.is_not_before(listed.created_at));
        may_be.find(|listed| self.has_number(listed.revision()))
    }

    /// Whether a service deployment can be its own, judging by its time.
    #[must_use]
    pub fn may_be(&self, known: &ServiceDeployment) -> bool {
        self.is_not_before(known.created_at)
    }

    /// Whether a service deployment is its own by the number of its revision.
    #[must_use]
    pub fn is_of(&self, known: &ServiceDeployment) -> bool {
        self.may_be(known) && self.has_number(known.revision())
    }

    fn is_not_before(&self, created_at: Option<f64>) -> bool {
        created_at.and_then(time).is_none_or(|created| created + ROUNDING >= self.started_at)
    }

    fn has_number(&self, revision: Option<&str>) -> bool {
        revision.and_then(|arn| arn.rsplit('/').next()) == self.id.rsplit('/').next()
    }

    /// Whether the service contradicts a service deployment that has ended, by showing the deployment as under way. Then the service
    /// deployment is not the deployment's own. One whose revision has the deployment's number is its own, and so is one that ECS named and
    /// that was not created before: for these, the service's list is merely out of date.
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
    pub fn standing(
        &self,
        service: &Service,
        known: Option<&ServiceDeployment>,
        now: DateTime<Utc>,
    ) -> DeploymentStatus {
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
            None => self.by_service(own, primary, &deployments, rollback_is_on(service), now),
        }
    }

    /// Whether another deployment began while this one was being rolled back. It is not documented whether ECS then still reports how the
    /// rollback ended: the status may stay as it is. In that case the service names another service deployment as its current one, whereas
    /// a rollback has none of its own.
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

    /// Whether another deployment took over although this one's service deployment, as it was read, is still under way: it may have been
    /// read earlier than the service. Another `PRIMARY` deployment alone does not prove this: a rollback returns to an older deployment,
    /// which need not be the one right before and is created anew. A rollback has no service deployment of its own.
    #[must_use]
    pub fn is_replaced(&self, service: &Service, known: &ServiceDeployment) -> bool {
        let is_under_way = matches!(known.status.as_str(), "PENDING" | "IN_PROGRESS");
        let is_current = service.service_deployment().is_some_and(|arn| arn == known.service_deployment_arn);
        is_under_way && !is_current && self.superseded_by(service).is_some()
    }

    /// The state of a deployment whose service no longer exists; a service that has its name now is another one.
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

    /// The deployment that took over, as far as the service's list shows one: it was created later, and is not a rollback. It took over
    /// even if it is no longer `PRIMARY` because it was rolled back itself.
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
            // A list of service deployments does not say what was triggered, and the service's own does.
            "STOPPED" if known.is_triggered() || own.is_some_and(|own| own.rollout() == "FAILED") => {
                let reason = known.reason().or_else(|| own.and_then(|own| own.rollout_state_reason.clone()));
                ended(Kind::DeploymentFailed, OutcomeDetail { reason, ..OutcomeDetail::default() })
            }
            "STOPPED" => match self.superseder(all) {
                Some(by) => ended(Kind::Superseded, OutcomeDetail { superseded_by: Some(by), ..because() }),
                None => ended(Kind::Stopped, OutcomeDetail { happened_at: known.ended_at().map(rfc3339), ..because() }),
            },
            status => {
                let pauses = known.pauses();
                if !pauses.is_empty() {
                    return DeploymentStatus::AwaitingAction(pauses);
                }
                let stage = known.lifecycle_stage.as_deref().map(|stage| format!(" ({stage})")).unwrap_or_default();
                DeploymentStatus::Open(format!("{status}{stage}"))
            }
        }
    }

    /// The first deployment that came after this one and is not a rollback, unless ECS had already given this one up.
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
        other.id != self.id
            && Some(other.id.as_str()) != self.before
            && !other.rolls_back()
            && !self.is_undone_by(other)
    }

    fn is_undone_by(&self, other: &Deployment) -> bool {
        self.undone_by == Some(other.id.as_str())
    }

    /// Whether a deployment was created after this one: a read may be older than the last write.
    fn is_newer(&self, other: &Deployment) -> bool {
        other.created_at.and_then(time).is_some_and(|created| created > self.started_at)
    }

    /// The state if ECS has no service deployment for it: that is so for services from before October 2024, and for stand-ins for ECS.
    fn by_service(
        &self,
        own: Option<&Deployment>,
        primary: Option<&Deployment>,
        all: &[Deployment],
        rollback_is_on: bool,
        now: DateTime<Utc>,
    ) -> DeploymentStatus {
        let ended = |kind, detail| DeploymentStatus::Ended(Box::new(Outcome { kind, detail }));
        let because = |reason| OutcomeDetail { reason, ..OutcomeDetail::default() };
        let completed = |own: &Deployment| {
            let no_tasks_wanted = own.desired_count == Some(0);
            ended(Kind::Completed, OutcomeDetail { no_tasks_wanted, ..OutcomeDetail::default() })
        };
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
                "COMPLETED" => completed(own),
                "" if all.len() == 1 && own.is_steady() => completed(own),
                "FAILED" if own.has_no_rollback_candidate() => {
                    ended(Kind::RollbackFailed, because(own.rollout_state_reason.clone()))
                }
                "FAILED" if rollback_is_on => match not_rolled_back(own, all, now) {
                    Some(why) => {
                        let said = own.rollout_state_reason.as_deref().unwrap_or_default().trim();
                        let reason = format!("{said} {why}").trim_start().to_owned();
                        ended(Kind::DeploymentFailed, because(Some(reason)))
                    }
                    None => DeploymentStatus::Open("FAILED, and to be rolled back".to_owned()),
                },
                "FAILED" => ended(Kind::DeploymentFailed, because(own.rollout_state_reason.clone())),
                rollout => {
                    let count = |count: Option<i64>| count.unwrap_or_default();
                    let (running, desired) = (count(own.running_count), count(own.desired_count));
                    let rollout = Some(rollout).filter(|rollout| !rollout.is_empty()).unwrap_or("IN_PROGRESS");
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
                None if primary.rolls_back() || self.is_undone_by(primary) => rolled_back(own),
                // A rollback returns to the deployment from before, which is created anew.
                None if own.is_none() && self.is_newer(primary) => rolled_back(None),
                None => DeploymentStatus::Open(
                    "it is not among the service's deployments, or nothing took over from it".to_owned(),
                ),
            },
        }
    }
}

/// Why a deployment that failed, and was to be rolled back, is not any more; none while its rollback may still begin.
fn not_rolled_back(own: &Deployment, all: &[Deployment], now: DateTime<Utc>) -> Option<&'static str> {
    let failed_at = own.updated_at.or(own.created_at).and_then(time)?;
    let is_candidate = |other: &Deployment| other.id != own.id && other.rollout() == "COMPLETED";
    let (time, why) = if all.iter().any(is_candidate) {
        (ROLLBACK_BEGINS, NOT_ROLLED_BACK)
    } else {
        (ROLLBACK_BEGINS_UNSEEN, NOTHING_TO_GO_BACK_TO)
    };
    (now - failed_at > time).then_some(why)
}
