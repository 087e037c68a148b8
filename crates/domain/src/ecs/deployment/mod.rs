//! Pure: how a deployment ended, according to what ECS reports of it: a service deployment, the service's list of deployments, or an event
//! of `EventBridge`.
//!
//! Shapes: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceDeployment.html> and
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_service_deployment_events.html>.

pub mod event;
pub mod hook_event;
pub mod listed;
#[cfg(test)]
pub(crate) mod model_tests;
pub mod outcome;
pub mod pause;
pub mod seen;
pub mod service_deployment;
#[cfg(test)]
mod tests;
pub mod times;
pub mod tracked;
pub mod trouble;
pub mod verb;
pub mod view;
