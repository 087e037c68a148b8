//! The trigger function: what is pushed to Amazon ECR is sent to the updater.

pub mod handler;
