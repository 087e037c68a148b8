//! The Lambda functions of `ecs-updater`: the one door through which the Amazon ECS services of an organization change.
//!
//! | function | folder | what |
//! |---|---|---|
//! | updater | [`updater`] | changes services, one or many in an event |
//! | history | [`history`] | answers who changed what, where and when; it reads, and can do nothing else |
//! | recorder | [`recorder`] | records how deployments end, and what happens past the door |
//! | trigger | [`trigger`] | sends what is pushed to Amazon ECR to the updater |
//!
//! Each has a `handler`: from the event to the answer. [`aws`] holds the only files that call AWS, [`runtime`] and [`telemetry`] what all
//! functions share, [`commit`] the one way to write to the ledger, [`outcomes`] the one to record how a deployment ended. What is decided
//! is decided in [`domain`], a crate that can neither call nor wait: arrows go from here to there, and never back.
//!
//! A change walks through the house in this order:
//!
//! ```text
//! event ─▶ request ─▶ session ─▶ snapshot ─▶ plan ─▶ STARTED ─▶ apply ─▶ APPLIED ─▶ response
//! ```
//!
//! | step | where | what |
//! |---|---|---|
//! | event to request | [`domain::event`], [`domain::ids`], [`domain::image`] | schema, then types that cannot hold a wrong value |
//! | images | [`domain::registry`], [`aws::images`] | checked and pinned, where the request asks for it |
//! | session | [`aws::sessions`], [`domain::session_policy`] | the role in the target account, for exactly this service |
//! | snapshot | [`domain::ecs`] | what the service is now, with every member that AWS sent |
//! | plan | [`domain::plan`] | what differs, or why it cannot be done; what is left of a change that is taken up again |
//! | STARTED, APPLIED | [`domain::ledger`], [`aws::ledger_store`] | records chained by hash, leases, idempotency keys |
//! | apply | [`updater`] | register, update, tag; read back where an answer was lost |
//! | how it ended | [`domain::ecs::deployment`], [`aws::deployment_watcher`], [`outcomes`], [`recorder`] | waited for, heard of, or asked about; recorded once |
//! | response | [`domain::response`], [`domain::error`], [`domain::mask`] | what the caller gets, and never a value that may be secret |
//! | many at once | [`domain::event::batch`], [`aws::rate_limit`] | sessions, calls shared, token buckets, the deadline |

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
