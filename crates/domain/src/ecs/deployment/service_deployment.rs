//! Service deployments: what ECS reports of the progress of a deployment.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::ecs::deployment::pause::{HookConfiguration, HookDetail, Pause};
use crate::ecs::deployment::times::{CLOCK_TOLERANCE, ROUNDING, time};
use crate::ecs::deployment::view::DeploymentProgress;
use crate::ledger::kind::Kind;
use crate::text::one_line;

/// A service deployment, as far as its outcome needs it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDeployment {
    /// Its ARN.
    pub service_deployment_arn: String,
    /// ARN of its service.
    pub service_arn: String,
    /// One of the nine statuses.
    pub status: String,
    /// Why it is in that status.
    pub status_reason: Option<String>,
    /// The stage that a blue/green, linear or canary deployment has reached.
    pub lifecycle_stage: Option<String>,
    pub(super) lifecycle_hook_details: Option<Vec<HookDetail>>,
    pub(super) deployment_configuration: Option<HookConfiguration>,
    pub(super) created_at: Option<f64>,
    stopped_at: Option<f64>,
    finished_at: Option<f64>,
    pub(super) target_service_revision: Option<Revision>,
    source_service_revisions: Option<Vec<Revision>>,
    pub(super) rollback: Option<Rollback>,
    deployment_circuit_breaker: Option<Monitor>,
    alarms: Option<Monitor>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Revision {
    pub(super) arn: Option<String>,
    pub(super) requested_task_count: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rollback {
    reason: Option<String>,
    pub(super) service_revision_arn: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Monitor {
    status: Option<String>,
    triggered_alarm_names: Vec<String>,
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

    /// ARN of the service revision that it replaces, if there is exactly one.
    #[must_use]
    pub fn source_revision(&self) -> Option<&str> {
        match self.source_service_revisions.as_deref().unwrap_or_default() {
            [only] => only.arn.as_deref(),
            _ => None,
        }
    }

    /// The pause hooks at which the deployment waits for somebody; empty if it is over, or waits for nobody.
    #[must_use]
    pub fn pauses(&self) -> Vec<Pause> {
        if !matches!(self.status.as_str(), "PENDING" | "IN_PROGRESS") {
            return Vec::new();
        }
        let (stage, configuration) = (self.lifecycle_stage.as_deref(), self.deployment_configuration.as_ref());
        let waiting = self.lifecycle_hook_details.iter().flatten().filter(|hook| hook.waits());
        waiting.map(|hook| hook.pause(stage, configuration)).collect()
    }

    /// Whether what it deployed was rolled back, or is being rolled back; `None` if that may still happen.
    #[must_use]
    pub fn is_rolled_back(&self) -> Option<bool> {
        match self.status.as_str() {
            "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS" | "ROLLBACK_SUCCESSFUL" | "ROLLBACK_FAILED" => Some(true),
            "SUCCESSFUL" | "STOPPED" => Some(false),
            _ => None,
        }
    }

    /// Its progress; `None` if its status is not known.
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

    pub(super) fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.stopped_at.or(self.finished_at).and_then(time)
    }

    /// Whether the circuit breaker or an alarm found it failing.
    pub(super) fn is_triggered(&self) -> bool {
        let triggered = |monitor: &Option<Monitor>| {
            monitor.as_ref().and_then(|monitor| monitor.status.as_deref()) == Some("TRIGGERED")
        };
        triggered(&self.deployment_circuit_breaker) || triggered(&self.alarms)
    }

    /// Why it ended as it did. Where its rollback failed, ECS says in two places why it was rolled back, and why that failed.
    pub(super) fn reason(&self) -> Option<String> {
        let said = |reason: Option<&String>| reason.filter(|reason| !reason.is_empty()).cloned();
        let rollback = said(self.rollback.as_ref().and_then(|rollback| rollback.reason.as_ref()));
        let reason = match (rollback, said(self.status_reason.as_ref())) {
            (Some(rollback), Some(status)) if self.status == "ROLLBACK_FAILED" && rollback != status => {
                Some(format!("{rollback} {status}"))
            }
            (rollback, status) => rollback.or(status),
        };
        with_alarms(reason, &self.alarms())
    }

    /// Names of the alarms that were triggered.
    fn alarms(&self) -> String {
        self.alarms.as_ref().map(|alarms| alarms.triggered_alarm_names.join(", ")).unwrap_or_default()
    }
}

/// An entry of the answer to `ListServiceDeployments`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDeploymentSummary {
    /// Its ARN.
    pub service_deployment_arn: String,
    /// One of the nine statuses.
    pub status: String,
    /// Why it is in that status.
    pub status_reason: Option<String>,
    /// Seconds since 1970.
    pub created_at: Option<f64>,
    finished_at: Option<f64>,
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

    /// The service deployment as far as the list describes it, for a role that may list service deployments and not describe them.
    #[must_use]
    pub fn as_listed(&self) -> ServiceDeployment {
        let revision = Revision { arn: self.target_service_revision_arn.clone(), requested_task_count: None };
        ServiceDeployment {
            service_deployment_arn: self.service_deployment_arn.clone(),
            status: self.status.clone(),
            status_reason: self.status_reason.clone(),
            created_at: self.created_at,
            stopped_at: self.finished_at,
            target_service_revision: Some(revision),
            ..ServiceDeployment::default()
        }
    }

    /// Whether it ended, or is about to end, without what it deployed staying in place.
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

/// What a list of service deployments says of a deployment that was created at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It has a service deployment of its own: it is not a rollback.
    Own,
    /// The last service deployment was created with it, and was rolled back, or is being rolled back: it is that one's own, or its rollback.
    OwnOrOfARollback,
    /// It has none, and the last service deployment before it was rolled back, or is being rolled back: it is that rollback.
    OfARollback,
    /// It has none, and the last service deployment before it was not rolled back, as far as this list shows.
    Neither,
    /// No service deployment is listed: rollbacks of such a service cannot be recognized in this way.
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
            Some((at, summary)) => {
                match (at + CLOCK_TOLERANCE >= created_at, summary.status.starts_with("ROLLBACK_")) {
                    (true, false) => Self::Own,
                    (true, true) => Self::OwnOrOfARollback,
                    (false, true) => Self::OfARollback,
                    (false, false) => Self::Neither,
                }
            }
            None => Self::Nothing,
        }
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

/// A reason with `tell` applied to it, except for the names of alarms at its end.
pub(super) fn told(reason: &str, known: Option<&ServiceDeployment>, tell: impl Fn(&str) -> String) -> String {
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
