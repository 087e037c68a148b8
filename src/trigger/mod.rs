//! The trigger function: sends the images that are pushed to Amazon ECR to the updater.

pub mod handler;
