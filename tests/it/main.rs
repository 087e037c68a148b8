//! Black-box tests of the real `updater` binary, over the protocols it speaks: the Lambda Runtime API on one side,
//! STS, ECS and DynamoDB on the other, all on loopback.
//!
//! Every test gets a world of its own (`harness::World`), and at its end, whatever it was about, the world checks:
//! no mutating ECS call came before its STARTED record, every ledger's chain is whole and ends where its head says,
//! no secret stands in a log, an answer or a table, and every answer fits its schema.

// A test says what it expects by panicking.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]
// AWS's calls are named all over; what a test shows is formatted where it is needed, not where it is fast.
#![allow(clippy::doc_markdown, clippy::format_collect)]

mod answers;
mod batch;
mod caller_rate;
mod calls;
mod chaos;
mod containers;
mod crash_matrix;
mod crashes;
mod faults;
mod first_version_events;
// benches/many.rs uses it too, and more of it.
#[allow(dead_code)]
mod harness;
mod harness_self_test;
mod history_unavailable;
mod idempotency;
mod images;
mod late_results;
mod leases;
mod lost_answers;
mod many;
mod outcomes;
mod parameters;
mod pauses;
mod protocol;
mod real_registry;
mod recorder;
mod refused_events;
mod restores;
mod secrets;
mod service_kinds;
mod sessions;
mod settings;
mod tags;
mod task_definitions;
mod telemetry;
mod trigger;
mod waits;
