//! The real command line against a stub of the Lambda API on loopback.

#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by panicking; clippy.toml knows their helpers not

mod aws;
mod changes;
mod export;
mod history;
mod rollout;
mod stub;
mod targets;
mod trouble;
mod web;
