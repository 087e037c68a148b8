//! A value and its recent past: reads of ECS lag behind its writes.

use chrono::{DateTime, Duration, Utc};

/// How long former values are remembered.
const REMEMBERED: Duration = Duration::minutes(1);

/// A value that may be missing, with its past.
#[derive(Debug, Clone)]
pub(crate) struct Versions<T> {
    now: Option<T>,
    /// Former values, each with the time until which it was valid.
    past: Vec<(DateTime<Utc>, Option<T>)>,
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self { now: None, past: Vec::new() }
    }
}

impl<T> Versions<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.now.as_ref()
    }

    /// The value at `time`, as far as that is remembered.
    pub(crate) fn as_of(&self, time: DateTime<Utc>) -> Option<&T> {
        self.past.iter().find(|(until, _)| *until > time).map_or(self.now.as_ref(), |(_, value)| value.as_ref())
    }

    pub(crate) fn set(&mut self, at: DateTime<Utc>, value: Option<T>) {
        self.past.retain(|(until, _)| at - *until < REMEMBERED);
        let before = std::mem::replace(&mut self.now, value);
        self.past.push((at, before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_later() {
        let at = |second: i64| DateTime::from_timestamp(1000 + second, 0).unwrap_or_default();
        let mut value = Versions::default();
        value.set(at(0), Some("a"));
        value.set(at(10), Some("b"));
        assert_eq!((value.as_of(at(-1)), value.as_of(at(0)), value.as_of(at(9))), (None, Some(&"a"), Some(&"a")));
        assert_eq!((value.as_of(at(10)), value.get()), (Some(&"b"), Some(&"b")));
    }
}
