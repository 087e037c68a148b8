//! Pure: what Amazon ECS says of a service, its deployments and its task definitions.

pub mod definition_difference;
pub mod deployment;
pub mod reason;
pub mod service;
pub mod tags;
pub mod task_definition;
