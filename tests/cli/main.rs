//! The real command line against a stub of the Lambda API on loopback.

mod changes;
mod history;
mod stub;
mod trouble;
mod web;
