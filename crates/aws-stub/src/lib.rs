//! Amazon ECS and AWS STS as models in memory, without a network and without a clock of their own: the one stub that
//! serves the process tests (`tests/it`, over HTTP) and the simulation (`crates/simulation`, in the process).
//!
//! It refuses what AWS refuses, if a test depends on it, and it keeps JSON as it was sent. Whoever uses it says what
//! time it is ([`Clock`]) and, if deployments should have a life ([`ecs::Cloud::live`]), what becomes of each of them.

// If a stub is asked for something that does not exist, it has been used wrongly, and should say so loudly.
#![allow(clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]
// Names of AWS's calls are used as words here, and callers that do not need the id of something they made may ignore
// it.
#![allow(clippy::doc_markdown, clippy::must_use_candidate)]

pub mod ecs;
pub mod exact_json;
pub mod policy;
pub mod shapes;
pub mod site;
pub mod sts;
mod versions;

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

pub use site::Site;

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// This is part of every secret value that passes the updater. It must never appear in a log, an error or a record.
pub const SECRET_MARKER: &str = "do-not-show-me";
/// The secret key of every session that the stub opens.
pub const SESSION_SECRET: &str = "do-not-show-me-assumed-secret";
/// The token of every session that the stub opens.
pub const SESSION_TOKEN: &str = "do-not-show-me-assumed-token";

/// Seconds since 1970 with milliseconds, in the form in which the API writes times.
#[must_use]
pub fn seconds(at: DateTime<Utc>) -> f64 {
    #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are exact for longer than there are computers
    let millis = at.timestamp_millis() as f64;
    millis / 1000.0
}

/// Locks the mutex, even after a panic elsewhere.
fn sync<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
