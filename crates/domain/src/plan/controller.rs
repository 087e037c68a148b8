//! What can be changed of services that `CodeDeploy` or something else deploys.

use serde_json::{Map, Value};

use crate::ecs::service::Snapshot;
use crate::error::{Code, Failure};
use crate::event::request::UpdateRequest;

/// What `UpdateService` accepts for services that `CodeDeploy` or something else deploys.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
fn taken_under(controller: &str) -> Option<&'static [&'static str]> {
    match controller {
        "CODE_DEPLOY" => Some(&[
            "deploymentController",
            "desiredCount",
            "deploymentConfiguration",
            "healthCheckGracePeriodSeconds",
            "placementConstraints",
            "placementStrategy",
            "enableECSManagedTags",
            "propagateTags",
        ]),
        "EXTERNAL" => Some(&[
            "deploymentController",
            "desiredCount",
            "healthCheckGracePeriodSeconds",
            "placementConstraints",
            "placementStrategy",
            "enableECSManagedTags",
            "propagateTags",
        ]),
        _ => None,
    }
}

/// Whether `UpdateService` accepts a parameter under this deployment controller.
pub(super) fn takes(controller: &str, parameter: &str) -> bool {
    taken_under(controller).is_none_or(|taken| taken.contains(&parameter))
}

pub(super) fn check_deployment_controller(
    request: &UpdateRequest,
    snapshot: &Snapshot,
    has_image: bool,
    parameters: &Map<String, Value>,
) -> Result<(), Failure> {
    let controller = snapshot.service.deployment_controller();
    let Some(taken) = taken_under(controller) else { return Ok(()) };
    let moves_to_ecs =
        parameters.get("deploymentController").and_then(|controller| controller.get("type")).and_then(Value::as_str)
            == Some("ECS");
    if moves_to_ecs {
        return Ok(());
    }
    let mut refused: Vec<&str> = Vec::new();
    if has_image {
        refused.push("an image");
    }
    if request.force_new_deployment {
        refused.push("force_new_deployment");
    }
    refused.extend(parameters.keys().map(String::as_str).filter(|name| !taken.contains(name)));
    if refused.is_empty() {
        return Ok(());
    }
    let instead = if controller == "CODE_DEPLOY" { "a CodeDeploy deployment" } else { "a new task set" };
    Err(Failure::new(
        Code::UnsupportedDeploymentController,
        format!(
            "service {} has the deployment controller {controller}, for which UpdateService does not take {}. \
             Nothing was changed. Use {instead} for that; what this door can change there: tags, {}",
            request.service_key,
            refused.join(", "),
            taken.join(", ")
        ),
    ))
}
