//! Events of ECS about deployments, as `EventBridge` delivers them.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::ecs::deployment::listed::rolls_back;
use crate::ecs::reason;
use crate::ids::{AccountId, EcsName, Partition, Region, ServiceKey};
use crate::text::shown_text;

/// The longest id of a deployment: `ecs-svc/` and a number in truth, and far below what a key of DynamoDB may have.
const MAX_ID: usize = 255;

/// What an event says of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentEventKind {
    /// It began.
    InProgress,
    /// The service has reached a steady state with it.
    Completed,
    /// The circuit breaker gave it up. For services with alarms and without the circuit breaker, this event is not documented: "This event
    /// is sent for services with deployment circuit breaker logic turned on"
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>). The sweep finds out how their
    /// deployments end.
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
    pub happened: DeploymentEventKind,
    /// The reason in the words of ECS, without those that could be a value: see [`reason::known`].
    pub reason: Option<String>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// An event about a deployment, and whether it names the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeardEvent {
    /// It names the service.
    Placed(DeploymentEvent),
    /// It does not say in which cluster the service is.
    Unplaced(UnplacedEvent),
}

/// An event about a deployment of a service with a short ARN, which does not name the cluster: only the deployment's id, which is unique in
/// its account and region, tells which service is meant. Source for short ARNs:
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-arn-migration.html>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnplacedEvent {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
    /// Name of the service.
    pub service_name: EcsName,
    said: Said,
}

impl UnplacedEvent {
    /// Id of the deployment.
    #[must_use]
    pub fn deployment_id(&self) -> &str {
        &self.said.deployment_id
    }

    /// The same event about this service, if it can be the one that is meant.
    #[must_use]
    pub fn placed(self, service: &ServiceKey) -> Option<DeploymentEvent> {
        let is_meant = (service.account_id(), service.region(), service.service())
            == (&self.account_id, &self.region, self.service_name.as_str());
        is_meant.then(|| self.said.of(service.clone()))
    }
}

/// What an event says beside whose deployment it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    service_arn: String,
    deployment_id: String,
    happened: DeploymentEventKind,
    reason: Option<String>,
    at: DateTime<Utc>,
}

impl Said {
    fn of(self, service: ServiceKey) -> DeploymentEvent {
        let Self { service_arn, deployment_id, happened, reason, at } = self;
        DeploymentEvent { service, service_arn, deployment_id, happened, reason, at }
    }
}

impl HeardEvent {
    /// Reads an event; `None` if it says nothing about the beginning or the end of a deployment.
    ///
    /// # Errors
    ///
    /// A sentence, if it is not such an event.
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
        let named = named(service_arn, text("/detail/clusterArn"))?;
        if named.account_id.as_str() != text("/account") || named.region.as_str() != text("/region") {
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
        let said = Said {
            service_arn: service_arn.to_owned(),
            deployment_id: deployment_id.to_owned(),
            happened,
            // An event does not tell which values its reason may repeat.
            reason: Some(reason::known(text("/detail/reason"))).filter(|reason| !reason.is_empty()),
            at: at.with_timezone(&Utc),
        };
        let Named { account_id, region, cluster, service } = named;
        Ok(Some(match cluster {
            Some(cluster) => Self::Placed(said.of(ServiceKey::new(account_id, region, cluster, service))),
            None => Self::Unplaced(UnplacedEvent { account_id, region, service_name: service, said }),
        }))
    }
}

impl DeploymentEvent {
    /// Whether the deployment is itself a rollback.
    #[must_use]
    pub fn rolls_back(&self) -> bool {
        self.reason.as_deref().is_some_and(rolls_back)
    }
}

/// The service key of a service's ARN, or that it does not name the cluster.
pub(super) fn service_of(arn: &str, cluster_arn: &str) -> Result<ServiceKey, String> {
    let Named { account_id, region, cluster, service } = named(arn, cluster_arn)?;
    let cluster = cluster.ok_or_else(|| format!("{} does not name the cluster of its service", shown_text(arn)))?;
    Ok(ServiceKey::new(account_id, region, cluster, service))
}

/// What an ARN names.
struct Named {
    account_id: AccountId,
    region: Region,
    cluster: Option<EcsName>,
    service: EcsName,
}

/// What a service's ARN names. A short one does not name the cluster, which the event may name elsewhere.
fn named(arn: &str, cluster_arn: &str) -> Result<Named, String> {
    let wrong = || format!("{} is not the ARN of an ECS service", shown_text(arn));
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "ecs", region, account, resource] = parts.as_slice() else { return Err(wrong()) };
    Partition::parse(partition).map_err(|_| wrong())?;
    let names: Vec<&str> = resource.split('/').collect();
    let (cluster, service) = match names.as_slice() {
        ["service", cluster, service] => (Some(*cluster), *service),
        ["service", service] => (cluster_arn.rsplit('/').next().filter(|cluster| !cluster.is_empty()), *service),
        _ => return Err(wrong()),
    };
    let name = |name| EcsName::parse(name).map_err(|_| wrong());
    Ok(Named {
        account_id: AccountId::parse(account).map_err(|_| wrong())?,
        region: Region::parse(region).map_err(|_| wrong())?,
        cluster: cluster.map(name).transpose()?,
        service: name(service)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(event: &Value) -> DeploymentEvent {
        let Some(HeardEvent::Placed(event)) = HeardEvent::parse(event).unwrap() else { panic!() };
        event
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
        let read = parse(&event("SERVICE_DEPLOYMENT_COMPLETED", "done"));
        assert_eq!(read.service.to_string(), "111122223333/us-west-2/default/servicetest");
        assert_eq!((read.happened, read.deployment_id.as_str()), (DeploymentEventKind::Completed, "ecs-svc/123"));
        assert_eq!(read.at.to_rfc3339(), "2026-05-23T11:11:11.500+00:00");
        assert!(!read.rolls_back());
        let reason = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/99.";
        let read = parse(&event("SERVICE_DEPLOYMENT_IN_PROGRESS", reason));
        assert!(read.rolls_back());
        assert_eq!(HeardEvent::parse(&event("SERVICE_DEPLOYMENT_NEW", "")).unwrap(), None);
    }

    #[test]
    fn what_is_no_such_event_is_refused() {
        let with = |pointer: &str, value: Value| {
            let mut event = event("SERVICE_DEPLOYMENT_COMPLETED", "");
            *event.pointer_mut(pointer).unwrap() = value;
            HeardEvent::parse(&event)
        };
        for (pointer, value) in [
            ("/source", json!("my.ecs")),
            ("/detail-type", json!("ECS Service Action")),
            ("/account", json!("999988887777")),
            ("/region", json!("eu-west-1")),
            ("/resources", json!([])),
            ("/resources/0", json!("arn:aws:ecs:us-west-2:111122223333:cluster/default")),
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
    }

    #[test]
    fn the_deployment_tells_which_service_a_short_arn_means() {
        let mut short = event("SERVICE_DEPLOYMENT_COMPLETED", "");
        short["resources"][0] = "arn:aws:ecs:us-west-2:111122223333:service/servicetest".into();
        let Some(HeardEvent::Unplaced(unplaced)) = HeardEvent::parse(&short).unwrap() else { panic!() };
        assert_eq!(unplaced.deployment_id(), "ecs-svc/123");
        let service = |key: &str| ServiceKey::parse(key).unwrap();
        for other in ["999988887777/us-west-2/prod/servicetest", "111122223333/us-west-2/prod/another"] {
            assert_eq!(unplaced.clone().placed(&service(other)), None, "{other}");
        }
        let prod = service("111122223333/us-west-2/prod/servicetest");
        let placed = unplaced.placed(&prod).unwrap();
        assert_eq!((&placed.service, placed.happened), (&prod, DeploymentEventKind::Completed));
        assert_eq!(placed.service_arn, short["resources"][0]);
        short["detail"]["clusterArn"] = "arn:aws:ecs:us-west-2:111122223333:cluster/prod".into();
        assert_eq!(HeardEvent::parse(&short).unwrap(), Some(HeardEvent::Placed(placed)));
    }
}
