//! The whole of ecs-updater in one process, on one thread, under virtual time and a seed: updater, recorder, sweep,
//! trigger, history and verify as they are, with an AWS in memory in which everything goes wrong that can.
//!
//! | step | where |
//! |---|---|
//! | a seed becomes decisions | [`plan`] (`stories`, [`random`], [`fault`]) |
//! | decisions become a run | [`run`] ([`world`], [`callers`], [`lambda`], [`environment`]) |
//! | calls go out, AWS acts | [`network`], [`aws`], [`tables`], [`eventbridge`] |
//! | what happened is judged | [`invariants`], by [`truth`] |
//! | the result is reported | [`trace`], [`gist`], [`counts`], [`report`] |
//! | a plan that broke something is made small | [`shrink`] |
//!
//! Time is tokio's paused clock: it jumps from one timer to the next. At each step it is known whose code runs
//! ([`environment`]), so that every environment has a clock of its own although the product's clock is a plain `fn()`.

pub mod aws;
pub mod callers;
pub mod counts;
pub mod environment;
pub mod eventbridge;
pub mod fault;
pub mod gist;
pub mod invariants;
pub mod lambda;
pub mod network;
pub mod plan;
pub mod random;
pub mod report;
pub mod run;
pub mod shrink;
mod stories;
pub mod tables;
pub mod trace;
pub mod truth;
pub mod world;
