//! What this module reads of ECS's answers, for [`crate::model_tests`].

use std::collections::BTreeSet;

use serde_json::json;

use crate::ecs::deployment::pause::HookDetail;
use crate::ecs::deployment::service_deployment::{
    Monitor, Revision, Rollback, ServiceDeployment, ServiceDeploymentSummary,
};
use crate::model_tests::members_of;

/// The enumeration by which ECS says that a circuit breaker or an alarm found a deployment failing.
pub(crate) const TRIGGERS: &str = "ServiceDeploymentRollbackMonitorsStatus";

/// The shapes that are read, with the names of the members that are read of each.
pub(crate) fn members_read() -> Vec<(&'static str, BTreeSet<&'static str>)> {
    vec![
        ("ServiceDeployment", members_of::<ServiceDeployment>()),
        ("ServiceDeploymentBrief", members_of::<ServiceDeploymentSummary>()),
        ("ServiceRevisionSummary", members_of::<Revision>()),
        ("Rollback", members_of::<Rollback>()),
        ("DeploymentLifecycleHookDetail", members_of::<HookDetail>()),
        // The circuit breaker is read like the alarms; names of alarms are theirs alone.
        ("ServiceDeploymentAlarms", members_of::<Monitor>()),
        ("ServiceDeploymentCircuitBreaker", BTreeSet::from(["status"])),
    ]
}

fn service_deployment(status: &str, monitor: &str) -> ServiceDeployment {
    serde_json::from_value(json!({"status": status, "deploymentCircuitBreaker": {"status": monitor}})).unwrap()
}

/// Whether a status of a service deployment says how far it is.
pub(crate) fn has_progress(status: &str) -> bool {
    service_deployment(status, "").stands().is_some()
}

/// Whether a hook with this status waits for somebody.
pub(crate) fn waits(status: &str) -> bool {
    serde_json::from_value::<HookDetail>(json!({"status": status})).unwrap().waits()
}

/// Whether this status of its circuit breaker says that a deployment failed.
pub(crate) fn triggers(status: &str) -> bool {
    service_deployment("STOPPED", status).is_triggered()
}
