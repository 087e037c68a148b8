//! Express services, which ECS manages: `UpdateService` is not for them.

use crate::ecs::service::Service;
use crate::error::{Code, Failure};
use crate::event::request::UpdateRequest;

/// Whether ECS manages the service: `resourceManagementType` says so ("Identifies whether an ECS Service is an Express Service managed by
/// ECS, or managed by the customer",
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Service.html>), or the service has no task definition of its own while
/// its `PRIMARY` deployment has one, as real answers show Express services.
pub(super) fn is_express(service: &Service) -> bool {
    service.is_managed_by_ecs()
        || (service.deployment_controller() == "ECS"
            && service.task_definition_arn().is_none()
            && service.deployed_task_definition().is_some())
}

/// Refuses what goes through `UpdateService`. Tags do not.
pub(super) fn check_express(request: &UpdateRequest, service: &Service, updates: bool) -> Result<(), Failure> {
    if !updates || !is_express(service) {
        return Ok(());
    }
    Err(Failure::new(
        Code::UnsupportedDeploymentController,
        format!(
            "service {} is an Express service, which ECS manages: its image and its parameters are changed by UpdateExpressGatewayService, \
             which this door does not call. Nothing was changed. Use `aws ecs update-express-gateway-service` or the console for that; what \
             this door can change there: tags",
            request.service_key
        ),
    ))
}
