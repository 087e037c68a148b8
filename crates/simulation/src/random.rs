//! Randomness: each purpose has a stream of its own, so that one more draw for one purpose changes nothing for another.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// The generator is splitmix64.
#[derive(Debug, Clone)]
pub struct Stream(u64);

impl Stream {
    /// The stream of a seed for one purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(purpose);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }

    /// A position in a list of this length.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// An element of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.place(list.len())]
    }

    /// A number from 0 to 1.
    #[allow(clippy::cast_precision_loss)] // 53 bits are what a double holds
    pub fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns true with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// Milliseconds between two bounds. Small values are as frequent as large ones (log-uniform).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounds are positive, and below an hour
    pub fn millis(&mut self, least: f64, most: f64) -> u64 {
        (least * (most / least).powf(self.share())) as u64
    }

    /// The same as a duration.
    pub fn pause(&mut self, least: f64, most: f64) -> Duration {
        Duration::from_millis(self.millis(least, most))
    }
}
