//! What happened, in lines that a person can read, and their hash.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// How much of a run is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the run is judged, but not looked at.
    Nothing,
    /// The hash of all lines.
    Digest,
    /// All lines, and their hash.
    Lines,
}

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    keep: Keep,
    hash: Sha256,
    text: String,
    lines: u64,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self { keep, hash: Sha256::new(), text: String::new(), lines: 0 }
    }

    /// Whether lines are needed.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.keep != Keep::Nothing
    }

    /// Adds a line.
    pub fn line(&mut self, line: &str) {
        self.hash.update(line);
        self.hash.update("\n");
        self.lines += 1;
        if self.keep == Keep::Lines {
            self.text.push_str(line);
            self.text.push('\n');
        }
    }

    /// The hash of all lines so far.
    #[must_use]
    pub fn digest(&self) -> String {
        hex(&self.hash.clone().finalize()[..12])
    }

    /// All lines so far, if they are kept.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A short hash of a body. The members of JSON are put in order first, since the order of maps differs from process to
/// process.
#[must_use]
pub fn body_hash(body: &str) -> String {
    let canonical = serde_json::from_str::<Value>(body).map_or_else(|_| body.to_owned(), |value| value.to_string());
    hex(&Sha256::digest(canonical)[..5])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
