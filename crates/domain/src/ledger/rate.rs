//! Pure: how many events one caller sends. Only callers that the API door vouches for are counted. API Gateway has limits for a method
//! and a stage; it has limits for a caller only by API keys, which are handed out by hand
//! (<https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html>).

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::text::hex;

/// The length of the window in which events are counted.
const WINDOW: TimeDelta = TimeDelta::minutes(1);
/// How long a count is kept after its minute.
const KEPT: TimeDelta = TimeDelta::hours(1);

/// How many events one caller sent in one minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// `rate#{digest of the alias and the caller's name}`.
    pub id: String,
    /// When the minute began.
    pub minute: DateTime<Utc>,
    /// How many events have come in it.
    pub count: u32,
}

impl Rate {
    /// Id of the item of a caller for whom an alias vouches. The two are separated by a character that neither can
    /// contain.
    #[must_use]
    pub fn id(alias: &str, requested_by: &str) -> String {
        format!("rate#{}", hex(&Sha256::digest(format!("{alias}\0{requested_by}"))))
    }

    /// The count including one more event `now`, if `limit` events are allowed per minute.
    ///
    /// # Errors
    ///
    /// The time at which the next event is allowed, if this one exceeds the limit.
    pub fn with_one_more(
        id: &str,
        before: Option<&Self>,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<Self, DateTime<Utc>> {
        let minute = now.duration_trunc(WINDOW).unwrap_or(now);
        // A clock that is behind does not begin a minute again that another environment's clock has already begun.
        let before = before.filter(|before| before.minute >= minute && before.minute < now + WINDOW);
        let (minute, count) = before.map_or((minute, 0), |before| (before.minute, before.count));
        if count >= limit {
            return Err(minute + WINDOW);
        }
        Ok(Self { id: id.to_owned(), minute, count: count + 1 })
    }

    /// When the item is no longer needed, in seconds since 1970.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        (self.minute + WINDOW + KEPT).timestamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_020 + second, 0).unwrap()
    }

    #[test]
    fn so_many_events_come_in_a_minute_and_the_next_minute_begins_anew() {
        let one_more = |before: Option<&Rate>, second| Rate::with_one_more("rate#x", before, at(second), 2);
        let first = one_more(None, 10).unwrap();
        assert_eq!((first.minute, first.count, first.expires_at()), (at(0), 1, at(3660).timestamp()));
        let second = one_more(Some(&first), 59).unwrap();
        assert_eq!(second.count, 2);
        assert_eq!(one_more(Some(&second), 59), Err(at(60)));
        let next = one_more(Some(&second), 60).unwrap();
        assert_eq!((next.minute, next.count), (at(60), 1));
        // A clock that is a little behind counts in the minute that has begun; one that was far ahead locks nobody out.
        assert_eq!(one_more(Some(&next), 58).unwrap().count, 2);
        let ahead = Rate { minute: at(3600), ..second };
        assert_eq!(one_more(Some(&ahead), 61).unwrap().count, 1);
    }

    #[test]
    fn callers_of_another_name_or_alias_are_counted_apart() {
        assert_ne!(Rate::id("api", "a"), Rate::id("api", "b"));
        assert_ne!(Rate::id("api", "a"), Rate::id("ap", "ia"));
    }
}
