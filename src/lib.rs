//! The Lambda functions of `ecs-updater`, the one way to change the Amazon ECS services of an organization.
//!
//! | function | folder | what |
//! |---|---|---|
//! | updater | [`updater`] | changes services, one or many per event |
//! | history | [`history`] | answers who changed what, where and when; it can only read |
//! | recorder | [`recorder`] | records how deployments end, and the deployments that the updater did not start |
//! | trigger | [`trigger`] | sends the images that are pushed to Amazon ECR to the updater |
//!
//! Each function has a `handler`, which turns the event into the answer. [`aws`] contains the only files that call AWS. [`runtime`] and
//! [`telemetry`] contain what all functions share, [`commit`] the one way to write to the ledger, and [`outcomes`] the one way to record
//! how a deployment ended. All decisions are made in [`domain`], a crate that can neither call AWS nor wait: the functions depend on it,
//! and it never depends on them.
//!
//! A change passes through these steps in order:
//!
//! ```text
//! event ─▶ request ─▶ session ─▶ snapshot ─▶ plan ─▶ STARTED ─▶ apply ─▶ APPLIED ─▶ response
//! ```
//!
//! | step | where | what |
//! |---|---|---|
//! | event to request | [`domain::event`], [`domain::ids`], [`domain::image`] | schema, then types that cannot hold a wrong value |
//! | images | [`domain::registry`], [`aws::images`] | checked and pinned, if the request asks for it |
//! | session | [`aws::sessions`], [`domain::session_policy`] | the role in the target account, restricted to exactly this service |
//! | snapshot | [`domain::ecs`] | the current state of the service, with every member that AWS sent |
//! | plan | [`domain::plan`] | what differs, or why it cannot be done; for a change that is resumed, what is left to do |
//! | STARTED, APPLIED | [`domain::ledger`], [`aws::ledger_store`] | records chained by hash, leases, idempotency keys |
//! | apply | [`updater`] | register, update, tag; read back if an answer was lost |
//! | how it ended | [`domain::ecs::deployment`], [`aws::deployment_watcher`], [`outcomes`], [`recorder`] | waited for, received, or asked about; recorded once |
//! | response | [`domain::response`], [`domain::error`], [`domain::mask`] | what the caller gets, and never a value that may be secret |
//! | many at once | [`domain::event::batch`], [`aws::rate_limit`] | sessions, shared calls, token buckets, the deadline |

pub mod aws;
pub mod backoff;
pub mod commit;
pub mod history;
pub mod outcomes;
pub mod recorder;
pub mod runtime;
pub mod telemetry;
pub mod trigger;
pub mod updater;
