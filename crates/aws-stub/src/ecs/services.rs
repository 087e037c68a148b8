//! Services: what one looks like, and how UpdateService changes it.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::definitions::{revision, revision_arn};
use super::{Place, Refusal, in_cluster, includes_tags, refusal, short};
use crate::versions::Versions;
use crate::{Site, seconds};

/// A service like those that DescribeServices returns.
pub(super) fn new_service(site: &Site, task_definition: &str, deployment: &str, at: DateTime<Utc>) -> Value {
    let network = json!({"awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}});
    json!({
        "serviceArn": site.service_arn(),
        "serviceName": site.service,
        "clusterArn": format!("arn:aws:ecs:{}:{}:cluster/{}", site.region, site.account, site.cluster),
        "loadBalancers": [],
        "serviceRegistries": [],
        "status": "ACTIVE",
        "desiredCount": 2,
        "runningCount": 2,
        "pendingCount": 0,
        "launchType": "FARGATE",
        "platformVersion": "LATEST",
        "platformFamily": "Linux",
        "taskDefinition": task_definition,
        "deploymentConfiguration": {
            "deploymentCircuitBreaker": {"enable": false, "rollback": false},
            "maximumPercent": 200, "minimumHealthyPercent": 100,
            "strategy": "ROLLING", "bakeTimeInMinutes": 0,
        },
        "deployments": [new_deployment(deployment, task_definition, &network, at)],
        "roleArn": format!("arn:aws:iam::{}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS", site.account),
        "events": [{"id": "e-1", "createdAt": 1_763_700_000.123, "message": "(service x) has reached a steady state."}],
        "createdAt": 1_763_600_000.5,
        "placementConstraints": [],
        "placementStrategy": [],
        "networkConfiguration": network,
        "healthCheckGracePeriodSeconds": 0,
        "schedulingStrategy": "REPLICA",
        "deploymentController": {"type": "ECS"},
        "createdBy": format!("arn:aws:iam::{}:role/admin", site.account),
        "enableECSManagedTags": false,
        "propagateTags": "NONE",
        "enableExecuteCommand": false,
        "availabilityZoneRebalancing": "ENABLED",
        "tags": [],
    })
}

pub(super) fn new_deployment(id: &str, task_definition: &str, network: &Value, at: DateTime<Utc>) -> Value {
    json!({
        "id": id, "status": "PRIMARY", "taskDefinition": task_definition,
        "desiredCount": 2, "pendingCount": 0, "runningCount": 2, "failedTasks": 0,
        "createdAt": seconds(at), "updatedAt": seconds(at),
        "launchType": "FARGATE", "platformVersion": "1.4.0", "platformFamily": "Linux",
        "networkConfiguration": network,
        "rolloutState": "COMPLETED", "rolloutStateReason": format!("ECS deployment {id} completed."),
    })
}

/// Puts a new PRIMARY deployment before the others.
pub(super) fn put_first(service: &mut Value, new: Value) {
    let deployments = service["deployments"].as_array_mut().expect("deployments");
    for deployment in deployments.iter_mut() {
        deployment["status"] = "ACTIVE".into();
    }
    deployments.insert(0, new);
}

pub(super) fn object(service: Value) -> Map<String, Value> {
    match service {
        Value::Object(service) => service,
        other => panic!("a service is an object, not {other}"),
    }
}

/// DescribeServices, as of a point in time.
pub(super) fn describe(
    place: &Place,
    account: &str,
    region: &str,
    input: &Value,
    as_of: DateTime<Utc>,
) -> Result<Value, Refusal> {
    let cluster = in_cluster(place, input)?;
    let asked = input["services"].as_array().cloned().unwrap_or_default();
    if asked.is_empty() || asked.len() > 10 {
        return refusal("InvalidParameterException", "Services must have between 1 and 10 members.");
    }
    let with_tags = includes_tags(input);
    let (mut services, mut failures) = (Vec::new(), Vec::new());
    for name in asked {
        let name = short(&name);
        match place.services.get(&(cluster.clone(), name.clone())).and_then(|service| service.as_of(as_of)) {
            Some(service) => {
                let mut service = service.clone();
                if !with_tags {
                    service.remove("tags");
                }
                services.push(Value::Object(service));
            }
            None => failures.push(
                json!({"arn": format!("arn:aws:ecs:{region}:{account}:service/{cluster}/{name}"), "reason": "MISSING"}),
            ),
        }
    }
    Ok(json!({"services": services, "failures": failures}))
}

/// Parameters whose change starts a new deployment by itself.
const DEPLOYING: [&str; 7] = [
    "networkConfiguration",
    "platformVersion",
    "loadBalancers",
    "serviceRegistries",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
];

/// Parameters that DescribeServices shows in the deployment, not in the service.
const IN_DEPLOYMENT: [&str; 3] = ["serviceConnectConfiguration", "volumeConfigurations", "vpcLatticeConfigurations"];

/// Parameters that DescribeServices does not show at all, while DescribeServiceRevisions does.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceRevision.html>.
const IN_REVISION: [&str; 2] = ["monitoring", "gatewayConnectors"];

/// The service after the update, and whether the update starts a deployment.
pub(super) fn update_service(
    place: &mut Place,
    account: &str,
    region: &str,
    input: &Value,
    deployment_id: &str,
    at: DateTime<Utc>,
) -> Result<(Map<String, Value>, bool), Refusal> {
    let cluster = in_cluster(place, input)?;
    let name = short(&input["service"]);
    let wanted = match input["taskDefinition"].as_str() {
        None => None,
        Some(name) => match revision(place, name) {
            Some((family, revision)) if revision.active => Some(revision_arn(account, region, family, revision.number)),
            Some(_) => return refusal("ClientException", "TaskDefinition is inactive"),
            None => return refusal("ClientException", "TaskDefinition not found."),
        },
    };
    let Some(mut service) = place.services.get(&(cluster, name)).and_then(Versions::get).cloned() else {
        return refusal("ServiceNotFoundException", "Service not found.");
    };
    if service["status"] != "ACTIVE" {
        return refusal("ServiceNotActiveException", "Service was not ACTIVE.");
    }
    let mut given: Vec<(String, Value)> = input
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(n, v)| {
            !["cluster", "service", "taskDefinition", "forceNewDeployment"].contains(&n.as_str()) && !v.is_null()
        })
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    given.retain(|(name, _)| !place.overlooked.contains(name));
    for (name, value) in &mut given {
        if let Some(members) = value.as_object_mut() {
            members.retain(|member, _| !place.overlooked.contains(&format!("{name}.{member}")));
        }
    }
    let force = input["forceNewDeployment"] == true;
    check_controller(&service, &given, wanted.is_some() || force)?;
    if service["schedulingStrategy"] == "DAEMON" && given.iter().any(|(n, _)| n == "desiredCount") {
        return refusal(
            "InvalidParameterException",
            "The daemon scheduling strategy does not support a desired count for services. Remove the desired count value and try again",
        );
    }
    if given.iter().any(|(n, v)| n == "capacityProviderStrategy" && service.get(n) != Some(v)) && !force {
        return refusal(
            "InvalidParameterException",
            "When switching from launch type to capacity provider strategy on an existing service, or making a change to a capacity provider strategy on a service that is already using one, you must force a new deployment.",
        );
    }

    let mut deploys = force || wanted.as_ref().is_some_and(|arn| service["taskDefinition"] != arn.as_str());
    let old = service["deployments"][0].clone();
    let runs = service.get("currentServiceRevisions").and_then(|it| it[0]["arn"].as_str());
    let revision = runs.and_then(|arn| place.service_revisions.get_mut(arn));
    let (in_revision, given): (Vec<_>, Vec<_>) =
        given.into_iter().partition(|(name, _)| IN_REVISION.contains(&name.as_str()));
    if let Some(revision) = revision {
        for (name, value) in in_revision {
            revision[name] = value;
        }
    }
    for (name, value) in &given {
        let had = if IN_DEPLOYMENT.contains(&name.as_str()) { old.get(name) } else { service.get(name) };
        deploys |= DEPLOYING.contains(&name.as_str()) && had != Some(value);
        if !IN_DEPLOYMENT.contains(&name.as_str()) {
            let value = with_defaults(name, value, service.get(name));
            if name == "capacityProviderStrategy" {
                service.remove("launchType");
            }
            service.insert(name.clone(), value);
        }
    }
    if let Some(arn) = wanted {
        service.insert("taskDefinition".into(), arn.into());
    }
    if deploys {
        let mut new = new_deployment(deployment_id, "", &service["networkConfiguration"], at);
        new["taskDefinition"] = service["taskDefinition"].clone();
        new["rolloutState"] = "IN_PROGRESS".into();
        new["rolloutStateReason"] = format!("ECS deployment {deployment_id} in progress.").into();
        for name in IN_DEPLOYMENT {
            let value = given.iter().find(|(n, _)| n == name).map(|(_, v)| v).or_else(|| old.get(name));
            if let Some(value) = value {
                new[name] = value.clone();
            }
        }
        let mut changed = Value::Object(service);
        put_first(&mut changed, new);
        service = object(changed);
    } else if let Some(primary) = service["deployments"].get_mut(0) {
        primary["updatedAt"] = json!(seconds(at));
    }
    Ok((service, deploys))
}

fn check_controller(service: &Map<String, Value>, given: &[(String, Value)], deploys: bool) -> Result<(), Refusal> {
    let refused: &[&str] = match service["deploymentController"]["type"].as_str() {
        Some("CODE_DEPLOY") => &["networkConfiguration", "platformVersion", "loadBalancers"],
        Some("EXTERNAL") => &["networkConfiguration", "platformVersion", "loadBalancers", "deploymentConfiguration"],
        _ => return Ok(()),
    };
    if deploys || given.iter().any(|(n, _)| refused.contains(&n.as_str())) {
        return refusal(
            "InvalidParameterException",
            "Unable to update task definition on services with a CODE_DEPLOY deployment controller. Please use Code Deploy to trigger a new deployment.",
        );
    }
    Ok(())
}

/// What AWS makes of a parameter: `deploymentConfiguration` is merged (<https://github.com/aws/copilot-cli/pull/4565>,
/// <https://github.com/hashicorp/terraform-provider-aws/pull/47096>). Every other parameter is replaced, and filled with defaults.
fn with_defaults(name: &str, value: &Value, had: Option<&Value>) -> Value {
    let mut value = value.clone();
    match name {
        "networkConfiguration" => {
            let vpc = &mut value["awsvpcConfiguration"];
            if vpc.get("assignPublicIp").is_none() {
                vpc["assignPublicIp"] = "DISABLED".into();
            }
        }
        "deploymentConfiguration" => {
            let mut merged = had.cloned().unwrap_or_else(|| json!({}));
            for (name, value) in value.as_object().into_iter().flatten() {
                merged[name] = value.clone();
            }
            value = merged;
        }
        "capacityProviderStrategy" => {
            for item in value.as_array_mut().into_iter().flatten() {
                for name in ["weight", "base"] {
                    if item.get(name).is_none() {
                        item[name] = 0.into();
                    }
                }
            }
        }
        _ => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_configuration_is_merged_and_other_parameters_are_replaced() {
        let alarms = json!({"alarmNames": ["a"], "enable": true, "rollback": true});
        let had = json!({"maximumPercent": 200, "alarms": alarms});
        let merged = with_defaults("deploymentConfiguration", &json!({"maximumPercent": 150}), Some(&had));
        assert_eq!(merged, json!({"maximumPercent": 150, "alarms": alarms}));

        let had =
            json!({"awsvpcConfiguration": {"subnets": ["a"], "securityGroups": ["g"], "assignPublicIp": "ENABLED"}});
        let bare = json!({"awsvpcConfiguration": {"subnets": ["a"]}});
        let replaced = with_defaults("networkConfiguration", &bare, Some(&had));
        assert_eq!(replaced, json!({"awsvpcConfiguration": {"subnets": ["a"], "assignPublicIp": "DISABLED"}}));
    }
}
