//! Times of ECS, and how far they can be trusted.

use chrono::{DateTime, Duration, Utc};

/// By how much the creation of a deployment, according to ECS, may precede the beginning of the change that started it: clocks differ.
pub const CLOCK_TOLERANCE: Duration = Duration::seconds(4);

/// By how much two times of ECS may be wrong, because one of them is truncated to whole seconds.
pub const ROUNDING: Duration = Duration::seconds(1);

pub(super) fn time(seconds: f64) -> Option<DateTime<Utc>> {
    #[allow(clippy::cast_possible_truncation)] // milliseconds since 1970 fit for the next 290 million years
    DateTime::from_timestamp_millis((seconds * 1000.0).round() as i64)
}
