//! Deployments as a service's own list shows them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::ecs::deployment::outcome::RollbackTarget;
use crate::ecs::deployment::service_deployment::{ServiceDeployment, ServiceDeploymentSummary, told};
use crate::ecs::deployment::times::{CLOCK_TOLERANCE, time};
use crate::ecs::deployment::view::EcsView;
use crate::ecs::service::Service;

/// One entry of `deployments` of `DescribeServices`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) status: String,
    pub(super) task_definition: Option<String>,
    pub(super) desired_count: Option<i64>,
    pub(super) running_count: Option<i64>,
    pub(super) pending_count: Option<i64>,
    pub(super) failed_tasks: Option<i64>,
    pub(super) created_at: Option<f64>,
    pub(super) updated_at: Option<f64>,
    pub(super) rollout_state: Option<String>,
    pub(super) rollout_state_reason: Option<String>,
}

impl Deployment {
    pub(super) fn rolls_back(&self) -> bool {
        self.rollout_state_reason.as_deref().is_some_and(rolls_back)
    }

    pub(super) fn rollout(&self) -> &str {
        self.rollout_state.as_deref().unwrap_or_default()
    }

    /// Whether exactly the tasks that are wanted run, and none is about to. ECS gives this in place of a rollout state for a service behind a
    /// Classic Load Balancer: "The rolloutState of a service is only returned for services that use the rolling update (ECS) deployment type
    /// that aren't behind a Classic Load Balancer" (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>).
    pub(super) fn is_steady(&self) -> bool {
        self.desired_count.is_some() && self.running_count == self.desired_count && self.pending_count == Some(0)
    }

    /// Whether ECS said that it had nothing to roll it back to.
    pub(super) fn has_no_rollback_candidate(&self) -> bool {
        self.rollout_state_reason.as_deref().is_some_and(|reason| reason.contains(NO_ROLLBACK_CANDIDATE))
    }
}

/// ECS says this where a deployment failed, is to be rolled back, and there is nothing to go back to: the service has no deployment that
/// completed. Of a service deployment it is the reason for `ROLLBACK_FAILED`. Sources: the example of a failure in
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/action-logs-troubleshooting.html>, and the error that a test of
/// <https://github.com/hashicorp/terraform-provider-aws> expects of AWS (`internal/service/ecs/service_test.go`).
const NO_ROLLBACK_CANDIDATE: &str = "No rollback candidate";

/// ECS says this of a deployment that is itself a rollback, after the name of what detected the failure.
pub(super) fn rolls_back(reason: &str) -> bool {
    reason.contains("rolling back to")
}

pub(super) fn deployments(service: &Service) -> Vec<Deployment> {
    let list = service.parameter("deployments").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect())
        .unwrap_or_default()
}

pub(super) fn rollback_is_on(service: &Service) -> bool {
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

impl RollbackTarget {
    pub(super) fn of(deployment: &Deployment) -> Self {
        Self {
            service_revision: None,
            task_definition: deployment.task_definition.clone(),
            deployment_id: Some(deployment.id.clone()),
        }
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
    /// From what ECS reports of its service deployment.
    #[must_use]
    pub fn of(listed: &ServiceDeploymentSummary, known: Option<&ServiceDeployment>, task_definition: String) -> Self {
        let reason = known.and_then(ServiceDeployment::reason).or_else(|| listed.status_reason.clone());
        Self {
            deployment: listed.service_deployment_arn.clone(),
            reason: reason.or_else(|| Some(listed.status.clone())),
            task_definition: Some(task_definition),
        }
    }

    /// The same, with `tell` applied to the reason that ECS gives. Names of alarms stay.
    #[must_use]
    pub fn told(self, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> Self {
        Self { reason: self.reason.map(|reason| told(&reason, known, tell)), ..self }
    }
}

/// The deployments of a service that were created since then and did not last, as far as its list still shows them.
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

/// What a service says of one of its deployments; `None` if its list no longer has it.
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
        rolls_back: (own.rolls_back() || (is_primary && service.is_a_rollback)).then_some(true),
        task_definition: own.task_definition.clone(),
        ..EcsView::default()
    })
}

/// What a service says of its `PRIMARY` deployment; nothing if it has none.
#[must_use]
pub fn said_of_primary(service: &Service) -> EcsView {
    service.deployment_id().and_then(|id| said_of(service, id)).unwrap_or_default()
}

/// ARNs of the task definitions that a service's deployments run, if `deployment_id` is one of these deployments: then the definitions and
/// the service contain everything that a reason for its end may repeat. `None` if it is no longer listed.
#[must_use]
pub fn definitions_of(service: &Service, deployment_id: &str) -> Option<BTreeSet<String>> {
    let deployments = deployments(service);
    let own = deployments.iter().find(|deployment| deployment.id == deployment_id)?;
    own.task_definition.as_ref()?;
    Some(deployments.into_iter().filter_map(|deployment| deployment.task_definition).collect())
}

/// Whether events report how deployments of a service end. For blue/green, linear and canary deployments, that is not documented.
#[must_use]
pub fn is_rolling(service: &Service) -> bool {
    let strategy =
        service.parameter("deploymentConfiguration").and_then(|configuration| configuration.get("strategy")?.as_str());
    strategy.is_none_or(|strategy| strategy == "ROLLING")
}
