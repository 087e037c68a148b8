//! Whether this environment's clock may be trusted with leases: each answer of DynamoDB says what time it is there.
//!
//! `Date` has whole seconds, and the answer was made at some time between sending the request and receiving the answer. A clock that
//! passes differs from DynamoDB's by at most 3 s, so two environments that both pass differ by at most 6 s. Between the last call of one
//! lease and the first call of the next there is [`super::head::LEASE_GRACE`] twice, 10 s.

use chrono::{DateTime, Duration, Utc};

/// The longest round trip that measures anything.
const MAX_ROUND_TRIP: Duration = Duration::seconds(1);
/// How far the clock may be off.
const TOLERANCE: Duration = Duration::seconds(2);
/// `Date` is cut to whole seconds.
const PRECISION: Duration = Duration::seconds(1);
/// How far a clock that passes is from DynamoDB's at the most.
pub const FARTHEST: Duration = Duration::seconds(TOLERANCE.num_seconds() + PRECISION.num_seconds());

/// One request and its answer, by this environment's clock and by the answer's `Date`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// When this attempt at the request was sent.
    pub sent: DateTime<Utc>,
    /// When its answer was received.
    pub received: DateTime<Utc>,
    /// The `Date` of the answer.
    pub date: DateTime<Utc>,
}

/// What a round trip says about the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The clock agrees with DynamoDB's.
    Right,
    /// It does not agree: it is ahead by about this much, or behind if this is negative.
    Off(Duration),
    /// The answer took too long to measure anything.
    Unknown,
}

impl RoundTrip {
    /// Evaluates the round trip.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let Self { sent, received, date } = *self;
        // A clock that was set back in the meantime does not measure anything either.
        if received - sent > MAX_ROUND_TRIP || received < sent {
            return Reading::Unknown;
        }
        if sent < date - TOLERANCE || received > date + PRECISION + TOLERANCE {
            return Reading::Off(sent + (received - sent) / 2 - (date + PRECISION / 2));
        }
        Reading::Right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The round trip of an environment whose clock is off by `skew`. The request was sent at the true time
    /// `true_sent`, in milliseconds.
    fn trip(true_sent: i64, there: i64, back: i64, skew: i64) -> RoundTrip {
        let at = |milliseconds| DateTime::from_timestamp_millis(milliseconds).unwrap();
        let stamp = true_sent + there;
        RoundTrip {
            sent: at(true_sent + skew),
            received: at(stamp + back + skew),
            date: at(stamp - stamp.rem_euclid(1000)),
        }
    }

    #[test]
    fn answers_that_took_long_measure_nothing() {
        assert_eq!(trip(1_000_000, 600, 401, 0).reading(), Reading::Unknown);
        assert_eq!(trip(1_000_000, 600, 400, 0).reading(), Reading::Right);
        assert_eq!(trip(1_000_000, 10, -20, 0).reading(), Reading::Unknown);
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_its_sign() {
        let Reading::Off(ahead) = trip(1_000_000, 5, 5, 240_000).reading() else { panic!() };
        assert!((Duration::seconds(239)..Duration::seconds(241)).contains(&ahead), "{ahead}");
        let Reading::Off(behind) = trip(1_000_000, 5, 5, -10_000).reading() else { panic!() };
        assert!(behind < Duration::seconds(-9), "{behind}");
    }

    proptest! {
        #[test]
        fn a_right_clock_never_fails_and_a_wrong_one_never_passes(
            sent in 0_i64..1_000_000, there in 0_i64..=500, back in 0_i64..=500, skew in -20_000_i64..20_000,
        ) {
            let reading = trip(sent, there, back, skew).reading();
            if skew.abs() <= 1_000 {
                prop_assert_eq!(reading, Reading::Right);
            }
            if skew.abs() > 3_000 {
                prop_assert!(matches!(reading, Reading::Off(_)), "{:?}", reading);
            }
        }
    }
}
