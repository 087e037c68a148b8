//! Pure: how a deployment ended, by what ECS tells of it: a service deployment, the service's list of deployments, or
//! an event of `EventBridge`.
//!
//! Shapes: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html> and
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger::deployment::DeploymentItem;
use crate::ledger::record::{ChangeFacts, Kind};
use crate::names::{AccountId, EcsName, Partition, Region, ServiceKey, shown_text};
use crate::snapshot::{Recorded, Service, Snapshot};

/// By how much ECS may say that a deployment was created before the change that started it began: clocks differ.
const CLOCKS: Duration = Duration::seconds(4);

/// How far apart the times of a deployment and of its service deployment may be, where nothing else joins them.
const SAME: Duration = Duration::seconds(30);

/// What an outcome says beyond its kind. Members without a value are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// Why, in the words of ECS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a rollback went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<Target>,
    /// The deployment that took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<Superseder>,
    /// Whether the service wants no tasks, so that its deployment completed without one having run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_tasks_wanted: bool,
    /// ARN of the service deployment that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_deployment: Option<String>,
    /// When it happened, by the event that told of it (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at: Option<String>,
}

/// What a rollback went back to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
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
pub struct Ending {
    /// `COMPLETED`, `DEPLOYMENT_FAILED`, `ROLLED_BACK`, `ROLLBACK_FAILED`, `STOPPED` or `SUPERSEDED`.
    pub kind: Kind,
    /// What else is known.
    pub detail: Detail,
}

/// Where a deployment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended; what it is doing, for people.
    Open(String),
    /// It has ended, and nothing more will come.
    Ended(Box<Ending>),
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
    target_service_revision: Option<Revision>,
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
pub struct Listed {
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

impl Listed {
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
    pub fn of(listed: &Listed, known: Option<&ServiceDeployment>, task_definition: String) -> Self {
        let reason = known.and_then(ServiceDeployment::reason).or_else(|| listed.status_reason.clone());
        Self {
            deployment: listed.service_deployment_arn.clone(),
            reason: reason.or_else(|| Some(listed.status.clone())),
            task_definition: Some(task_definition),
        }
    }
}

/// The deployments of a service, as far as they still stand in its list, that were created since then and did not last.
#[must_use]
pub fn ended_since(service: &Service, since: DateTime<Utc>) -> Vec<RolledBack> {
    let deployments = deployments(service);
    let is_rolled_back = deployments.iter().any(|it| it.status == "PRIMARY" && it.rolls_back());
    let ended = deployments.into_iter().filter(|it| {
        let is_later = it.created_at.and_then(time).is_some_and(|created| created >= since - CLOCKS);
        is_later && it.status != "PRIMARY" && (it.rollout() == "FAILED" || is_rolled_back)
    });
    let told = |it: Deployment| RolledBack {
        deployment: it.id,
        reason: it.rollout_state_reason,
        task_definition: it.task_definition,
    };
    ended.map(told).collect()
}

/// The deployment that a change started: the `PRIMARY` one, where it is not the one from before, was not created before the change began,
/// and runs what the change left the service with. Of any other, somebody else is the author.
#[must_use]
pub fn started(facts: &ChangeFacts, before: &Recorded, after: &Snapshot, now: DateTime<Utc>) -> Option<DeploymentItem> {
    let Snapshot { service, task_definition } = after;
    let id = service.deployment_id().filter(|id| before.deployment_id.as_deref() != Some(*id))?;
    let created_at = service.deployed_at().unwrap_or(now);
    if created_at < facts.change_id.time() - CLOCKS {
        return None;
    }
    let runs = service.deployed_task_definition();
    if let (Some(runs), Some(wanted)) = (runs, task_definition)
        && runs != wanted.arn
    {
        return None;
    }
    let strategy = service.parameter("deploymentConfiguration").and_then(|it| it.get("strategy")?.as_str());
    Some(DeploymentItem {
        repositories: facts.repositories.clone(),
        before: before.deployment_id.clone(),
        service_deployment: service.service_deployment().map(str::to_owned),
        by_events: strategy.is_none_or(|strategy| strategy == "ROLLING"),
        ..DeploymentItem::new(&facts.service, service.arn(), id, facts.change_id.clone(), created_at, now)
    })
}

fn deployments(service: &Service) -> Vec<Deployment> {
    let list = service.parameter("deployments").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(|it| serde_json::from_value(it.clone()).ok()).collect()).unwrap_or_default()
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
pub struct Followed<'a> {
    /// Its id, such as `ecs-svc/1234567890123456789`.
    pub id: &'a str,
    /// Id of the deployment that was `PRIMARY` before it. A rollback takes it up again.
    pub before: Option<&'a str>,
    /// When it was started.
    pub started_at: DateTime<Utc>,
}

impl Followed<'_> {
    /// Which of a service's deployments it is: the one whose revision has its number, else the nearest in time. ECS
    /// documents no way from the one to the other.
    #[must_use]
    pub fn among<'a>(&self, list: &'a [Listed]) -> Option<&'a Listed> {
        let number = self.id.rsplit('/').next();
        let by_number = list.iter().find(|listed| {
            let revision = listed.target_service_revision_arn.as_deref();
            revision.and_then(|arn| arn.rsplit('/').next()) == number
        });
        let distance = |listed: &&Listed| {
            let created = listed.created_at.and_then(time)?;
            Some((created - self.started_at).abs()).filter(|apart| *apart <= SAME)
        };
        by_number.or_else(|| list.iter().filter(|it| distance(it).is_some()).min_by_key(distance))
    }

    /// Where it stands, by its service deployment where that is known, and by the service.
    #[must_use]
    pub fn standing(&self, service: &Service, known: Option<&ServiceDeployment>) -> Standing {
        let deployments = deployments(service);
        let primary = deployments.iter().find(|it| it.status == "PRIMARY");
        let own = deployments.iter().find(|it| it.id == self.id);
        match known {
            Some(known) => self.by_service_deployment(known, own, primary),
            None => self.by_service(own, primary, rollback_is_on(service)),
        }
    }

    fn by_service_deployment(
        &self,
        known: &ServiceDeployment,
        own: Option<&Deployment>,
        primary: Option<&Deployment>,
    ) -> Standing {
        let ended = |kind, detail: Detail| {
            let service_deployment = Some(known.service_deployment_arn.clone()).filter(|arn| !arn.is_empty());
            Standing::Ended(Box::new(Ending { kind, detail: Detail { service_deployment, ..detail } }))
        };
        let because = || Detail { reason: known.reason(), ..Detail::default() };
        match known.status.as_str() {
            "SUCCESSFUL" => {
                let wanted = known.target_service_revision.as_ref().and_then(|it| it.requested_task_count);
                let wanted = own.and_then(|own| own.desired_count).or(wanted);
                ended(Kind::Completed, Detail { no_tasks_wanted: wanted == Some(0), ..Detail::default() })
            }
            "ROLLBACK_SUCCESSFUL" => {
                let there = primary.filter(|it| it.id != self.id);
                let revision = known.rollback.as_ref().and_then(|it| it.service_revision_arn.clone());
                let to = Target { service_revision: revision, ..there.map(Target::of).unwrap_or_default() };
                ended(Kind::RolledBack, Detail { rolled_back_to: Some(to), ..because() })
            }
            "ROLLBACK_FAILED" => ended(Kind::RollbackFailed, because()),
            "STOPPED" if known.is_triggered() => ended(Kind::DeploymentFailed, because()),
            "STOPPED" => match self.superseder(primary) {
                Some(by) => ended(Kind::Superseded, Detail { superseded_by: Some(by), ..because() }),
                None => ended(Kind::Stopped, because()),
            },
            "PENDING" | "IN_PROGRESS" if self.superseder(primary).is_some() => {
                ended(Kind::Superseded, Detail { superseded_by: self.superseder(primary), ..Detail::default() })
            }
            status => {
                let stage = known.lifecycle_stage.as_deref().map(|stage| format!(" ({stage})")).unwrap_or_default();
                Standing::Open(format!("{status}{stage}"))
            }
        }
    }

    /// The `PRIMARY` deployment, where it came after this one and is no rollback.
    fn superseder(&self, primary: Option<&Deployment>) -> Option<Superseder> {
        let primary =
            primary.filter(|it| it.id != self.id && Some(it.id.as_str()) != self.before && !it.rolls_back())?;
        self.is_newer(primary).then(|| Superseder {
            deployment_id: primary.id.clone(),
            change_id: None,
            task_definition: primary.task_definition.clone(),
        })
    }

    /// Whether a deployment was created after this one: what is read may be older than what was written.
    fn is_newer(&self, other: &Deployment) -> bool {
        other.created_at.and_then(time).is_some_and(|created| created > self.started_at)
    }

    /// Where ECS has no service deployment of it: services of before October 2024, and stand-ins for ECS.
    fn by_service(&self, own: Option<&Deployment>, primary: Option<&Deployment>, rollback_is_on: bool) -> Standing {
        let ended = |kind, detail| Standing::Ended(Box::new(Ending { kind, detail }));
        let Some(primary) = primary else { return Standing::Open("the service has no deployment".to_owned()) };
        let rolled_back = |failed: Option<&Deployment>| {
            let reason = failed.and_then(|it| it.rollout_state_reason.clone());
            match primary.rollout() {
                "COMPLETED" => ended(
                    Kind::RolledBack,
                    Detail { reason, rolled_back_to: Some(Target::of(primary)), ..Detail::default() },
                ),
                "FAILED" => {
                    let reason = primary.rollout_state_reason.clone().or(reason);
                    ended(Kind::RollbackFailed, Detail { reason, ..Detail::default() })
                }
                _ => Standing::Open(format!("rolling back to {}", primary.id)),
            }
        };
        let superseded = || {
            let by = Superseder {
                deployment_id: primary.id.clone(),
                change_id: None,
                task_definition: primary.task_definition.clone(),
            };
            ended(Kind::Superseded, Detail { superseded_by: Some(by), ..Detail::default() })
        };
        match own {
            Some(own) if own.id == primary.id => match own.rollout() {
                "COMPLETED" => {
                    let no_tasks_wanted = own.desired_count == Some(0);
                    ended(Kind::Completed, Detail { no_tasks_wanted, ..Detail::default() })
                }
                "FAILED" if rollback_is_on => Standing::Open("FAILED, and to be rolled back".to_owned()),
                "FAILED" => {
                    let reason = own.rollout_state_reason.clone();
                    ended(Kind::DeploymentFailed, Detail { reason, ..Detail::default() })
                }
                rollout => {
                    let count = |count: Option<i64>| count.unwrap_or_default();
                    let (running, desired) = (count(own.running_count), count(own.desired_count));
                    Standing::Open(format!("{rollout}, {running} of {desired} tasks run"))
                }
            },
            Some(own) if own.rollout() == "FAILED" && rollback_is_on => rolled_back(Some(own)),
            Some(own) if own.rollout() == "FAILED" => {
                let reason = own.rollout_state_reason.clone();
                ended(Kind::DeploymentFailed, Detail { reason, ..Detail::default() })
            }
            _ if primary.rolls_back() => rolled_back(own),
            None if !self.is_newer(primary) => Standing::Open("it is not among the service's deployments".to_owned()),
            // A rollback takes up the deployment from before, newly created.
            None if Some(primary.id.as_str()) == self.before => rolled_back(None),
            _ => superseded(),
        }
    }
}

impl Target {
    fn of(deployment: &Deployment) -> Self {
        Self {
            service_revision: None,
            task_definition: deployment.task_definition.clone(),
            deployment_id: Some(deployment.id.clone()),
        }
    }
}

impl ServiceDeployment {
    /// Whether the circuit breaker or an alarm found it failing.
    fn is_triggered(&self) -> bool {
        let triggered = |it: &Option<Monitor>| it.as_ref().and_then(|it| it.status.as_deref()) == Some("TRIGGERED");
        triggered(&self.deployment_circuit_breaker) || triggered(&self.alarms)
    }

    fn reason(&self) -> Option<String> {
        let rollback = self.rollback.as_ref().and_then(|it| it.reason.clone());
        let reason = rollback.or_else(|| self.status_reason.clone()).filter(|reason| !reason.is_empty());
        let alarms = self.alarms.as_ref().map(|it| it.triggered_alarm_names.join(", ")).unwrap_or_default();
        match (reason, alarms.is_empty()) {
            (reason, true) => reason,
            (None, false) => Some(format!("alarms: {alarms}")),
            (Some(reason), false) if reason.contains(&alarms) => Some(reason),
            (Some(reason), false) => Some(format!("{reason} (alarms: {alarms})")),
        }
    }
}

fn rollback_is_on(service: &Service) -> bool {
    let configuration = service.parameter("deploymentConfiguration");
    ["deploymentCircuitBreaker", "alarms"].iter().any(|monitor| {
        let is = |name: &str| {
            configuration.and_then(|it| it.get(monitor)?.get(name)).and_then(Value::as_bool).unwrap_or_default()
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
pub enum Happened {
    /// It began.
    InProgress,
    /// The service is steady with it.
    Completed,
    /// The circuit breaker gave it up.
    Failed,
}

/// An `ECS Deployment State Change` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentEvent {
    /// The service.
    pub service: ServiceKey,
    /// Its ARN.
    pub service_arn: String,
    /// The deployment.
    pub deployment_id: String,
    /// What happened.
    pub happened: Happened,
    /// Why, in the words of ECS.
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
            "SERVICE_DEPLOYMENT_IN_PROGRESS" => Happened::InProgress,
            "SERVICE_DEPLOYMENT_COMPLETED" => Happened::Completed,
            "SERVICE_DEPLOYMENT_FAILED" => Happened::Failed,
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
        let at = [text("/detail/updatedAt"), text("/time")]
            .iter()
            .find_map(|time| DateTime::parse_from_rfc3339(time).ok())
            .ok_or("the event has neither /detail/updatedAt nor /time")?;
        Ok(Some(Self {
            service,
            service_arn: service_arn.to_owned(),
            deployment_id: deployment_id.to_owned(),
            happened,
            reason: Some(text("/detail/reason").to_owned()).filter(|reason| !reason.is_empty()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWN: &str = "ecs-svc/2";
    const OLD: &str = "ecs-svc/1";
    const NEW: &str = "ecs-svc/3";

    fn followed() -> Followed<'static> {
        Followed { id: OWN, before: Some(OLD), started_at: DateTime::from_timestamp(1000, 0).unwrap() }
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

    fn kind(standing: &Standing) -> Option<Kind> {
        match standing {
            Standing::Open(_) => None,
            Standing::Ended(ending) => Some(ending.kind),
        }
    }

    fn detail(standing: Standing) -> Detail {
        match standing {
            Standing::Open(what) => panic!("open: {what}"),
            Standing::Ended(ending) => ending.detail,
        }
    }

    #[test]
    fn the_nine_statuses_of_a_service_deployment() {
        let alone = service(&[deployment(OWN, "PRIMARY", "IN_PROGRESS", 1000)]);
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
    fn a_service_deployment_is_found_by_number_else_by_time() {
        let listed = |arn: &str, revision: &str, created: f64| -> Listed {
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
        assert_eq!((read.happened, read.deployment_id.as_str()), (Happened::Completed, "ecs-svc/123"));
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
