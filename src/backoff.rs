//! Pauses between attempts: each is twice as long as the one before, and random between half of its length and all of it, so that many
//! callers that failed together do not retry together.

use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The longest possible pause before the second attempt.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// The pause after attempt number `tries`, counted from 1.
    #[must_use]
    pub fn pause(self, tries: u32, random: fn() -> [u8; 10]) -> Duration {
        let longest = (self.first * 2_u32.saturating_pow(tries.saturating_sub(1))).min(self.longest);
        longest / 2 + longest / 2 * u32::from(random()[0]) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_at_least_half() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let pauses = |random| [1, 2, 3, 4, 5, 60].map(|tries| backoff.pause(tries, random).as_millis());
        assert_eq!(pauses(|| [255; 10]), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pauses(|| [0; 10]), [50, 100, 200, 400, 500, 500]);
    }
}
