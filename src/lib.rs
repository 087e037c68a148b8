//! The one door through which the Amazon ECS services of an organization change.
//!
//! A change walks through the house in this order:
//!
//! ```text
//! event ─▶ request ─▶ session ─▶ snapshot ─▶ plan ─▶ STARTED ─▶ apply ─▶ APPLIED ─▶ response
//! ```
//!
//! | step | where | what |
//! |---|---|---|
//! | event to request | [`request`] ([`event`], [`names`], [`image`], [`tags`]) | schema, then types that cannot hold a wrong value |
//! | images | [`registry`], [`aws::images`] | checked and pinned, where the request asks for it |
//! | session | [`aws::sessions`] | the role in the target account, for exactly this service |
//! | snapshot | [`snapshot`], [`task_definition`] | what the service is now, with every member that AWS sent |
//! | plan | [`plan`] ([`definition_difference`]) | pure: what differs, or why it cannot be done |
//! | STARTED, APPLIED | [`ledger`], [`aws::ledger_store`] | records chained by hash ([`canonical`]), leases, idempotency keys |
//! | a change that is taken up again | [`continuation`] | pure: what is left of it, and what somebody else set meanwhile |
//! | each write to the ledger | [`commit`], [`backoff`] | read, decide, write; again where something moved |
//! | apply | [`update`] | register, update, tag; read back where an answer was lost |
//! | how it ended | [`outcome`], [`follow`], [`settle`], [`recorder`] ([`ledger::hear`]) | waited for, heard of, or asked about; recorded once |
//! | response | [`response`], [`error`], [`mask`] | what the caller gets, and never a value that may be secret |
//! | many at once | [`batch`], [`pace`] | sessions, calls shared, token buckets, the deadline |
//!
//! What was done is read back through another function, which can do nothing else: [`history`] ([`ledger::query`],
//! [`aws::history_reader`], [`ledger::merge`], [`ledger::fold`], [`ledger::verify`]).
//!
//! [`update`] tells the story in one screen, [`function`] and [`history`] are the edges towards [`lambda`], and [`aws`] holds the only files
//! that call AWS. Everything else is pure: time, ids and the network come in from outside.

pub mod aws;
pub mod backoff;
pub mod batch;
pub mod canonical;
pub mod commit;
pub mod config;
pub mod continuation;
pub mod definition_difference;
pub mod error;
pub mod event;
pub mod follow;
pub mod function;
pub mod history;
pub mod image;
pub mod kept;
pub mod lambda;
mod later;
pub mod ledger;
pub mod mask;
pub mod names;
pub mod outcome;
pub mod pace;
pub mod plan;
pub mod reason;
pub mod recorder;
pub mod registry;
pub mod request;
pub mod response;
pub mod restore;
pub mod settle;
pub mod snapshot;
pub mod tags;
pub mod task_definition;
pub mod telemetry;
pub mod trigger;
pub mod update;
