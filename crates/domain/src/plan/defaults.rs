//! The default that AWS uses for a member of `UpdateService` that is not given, if AWS documents it. What is not listed here is compared as
//! it is: if a default is not known for sure, a value counts as different, and is sent.

use serde_json::{Value, json};

/// The value of a parameter, or of a member of `deploymentConfiguration`, with AWS's defaults in it.
pub(super) fn filled(name: &str, value: &Value) -> Value {
    let mut value = value.clone();
    for (path, default) in defaults(name) {
        let path: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        fill(&mut value, &path, &default);
    }
    value
}

fn fill(value: &mut Value, path: &[&str], default: &Value) {
    match (value, path) {
        (value @ Value::Null, []) => *value = default.clone(),
        (Value::Array(items), path) => items.iter_mut().for_each(|item| fill(item, path, default)),
        (Value::Object(members), [last]) => fill(members.entry(*last).or_insert(Value::Null), &[], default),
        (Value::Object(members), [first, rest @ ..]) => {
            if let Some(value) = members.get_mut(*first) {
                fill(value, rest, default);
            }
        }
        _ => {}
    }
}

/// Members with the value that AWS uses if they are not given; an empty path is the parameter itself. If no other source is named, the
/// quoted sentence is that of the member's own page in <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
pub(super) fn defaults(name: &str) -> Vec<(&'static str, Value)> {
    match name {
        // "If you don't specify a health check grace period value, the default value of 0 is used."
        "healthCheckGracePeriodSeconds" => vec![("", json!(0))],
        // "If no value is specified, the tags aren't propagated."
        "propagateTags" => vec![("", json!("NONE"))],
        // "If the service never had an AvailabilityZoneRebalancing value set, Amazon ECS treats this as DISABLED."
        "availabilityZoneRebalancing" => vec![("", json!("DISABLED"))],
        // "If no deployment controller is specified, the default value of ECS is used."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateService.html>.
        "deploymentController" => vec![("", json!({"type": "ECS"}))],
        // "When you use create-service or update-service, the default is DISABLED."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html>.
        "networkConfiguration" => vec![("awsvpcConfiguration.assignPublicIp", json!("DISABLED"))],
        // "If no weight value is specified, the default value of 0 is used"; "If no value is specified, the default value of 0 is used."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html>.
        "capacityProviderStrategy" => vec![("weight", json!(0)), ("base", json!(0))],
        // "If no value is specified, the xfs filesystem type is used by default."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceManagedEBSVolumeConfiguration.html>.
        // "If no value is specified, the tags aren't propagated."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_EBSTagSpecification.html>.
        "volumeConfigurations" => vec![
            ("managedEBSVolume.filesystemType", json!("xfs")),
            ("managedEBSVolume.tagSpecifications.propagateTags", json!("NONE")),
        ],
        // "By default, this parameter is DISABLED."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceConnectAccessLogConfiguration.html>.
        "serviceConnectConfiguration" => {
            vec![("accessLogConfiguration.includeQueryParameters", json!("DISABLED"))]
        }
        // "The default value is 300 seconds."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_GatewayConnectorDeregistrationDelay.html>.
        "gatewayConnectors" => vec![("deregistrationDelay.timeoutSeconds", json!(300))],
        // Members of deploymentConfiguration. "The default is true", "The default is BOUNDED_PERCENT", "The default is 50".
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentCircuitBreaker.html>.
        "deploymentCircuitBreaker" => vec![
            ("resetOnHealthyTask", json!(true)),
            ("thresholdConfiguration", json!({})),
            ("thresholdConfiguration.type", json!("BOUNDED_PERCENT")),
            ("thresholdConfiguration.value", json!(50)),
        ],
        // "If not specified, the default value is AWS_LAMBDA", "Default: 1440 (24 hours)", "Default: ROLLBACK".
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentLifecycleHook.html>.
        "lifecycleHooks" => vec![
            ("targetType", json!("AWS_LAMBDA")),
            ("timeoutConfiguration", json!({})),
            ("timeoutConfiguration.timeoutInMinutes", json!(1440)),
            ("timeoutConfiguration.action", json!("ROLLBACK")),
        ],
        // "The default value is 10.0", "The default value is 6".
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LinearConfiguration.html>.
        "linearConfiguration" => vec![("stepPercent", json!(10.0)), ("stepBakeTimeInMinutes", json!(6))],
        // "The default value is 5.0", "The default value is 10".
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CanaryConfiguration.html>.
        "canaryConfiguration" => vec![("canaryPercent", json!(5.0)), ("canaryBakeTimeInMinutes", json!(10))],
        _ => Vec::new(),
    }
}
