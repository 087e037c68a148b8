//! What `ecs-updater` decides: values in, decisions out.
//!
//! Nothing here calls AWS, waits, draws random numbers or asks for the time: `Cargo.toml` names neither an AWS SDK nor `tokio`. Everything
//! that comes from outside, such as `now`, ids and the answers of AWS, is passed in.

pub mod call_error;
pub mod canonical_json;
pub mod config;
pub mod ecr_push;
pub mod ecs;
pub mod error;
pub mod event;
pub mod ids;
pub mod image;
pub mod ledger;
pub mod mask;
#[cfg(test)]
mod model_tests;
pub mod plan;
pub mod registry;
pub mod response;
pub mod session_policy;
pub mod setting_source;
pub mod text;
mod tolerant;
