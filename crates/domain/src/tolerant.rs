//! Words that only a later version of this project knows: if a stored answer contains one, it has to be returned unchanged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The maximum number of such words that are kept: versions differ by a few.
const MAX_WORDS: usize = 64;
/// Replaces all further words.
const UNKNOWN: &str = "UNKNOWN";

static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Keeps the word as long as the process lives, so that types that hold it stay as small as a number.
pub(crate) fn word(text: &str) -> &'static str {
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(word) = words.get(text) {
        return word;
    }
    if words.len() >= MAX_WORDS {
        return UNKNOWN;
    }
    let word: &'static str = text.to_owned().leak();
    words.insert(word);
    word
}

/// Reads and writes an enumeration by its `as_str`, one of `all`, and any other word as `Later`.
macro_rules! tolerant_words {
    ($name:ident) => {
        impl $name {
            /// The words of this version.
            pub fn all() -> impl Iterator<Item = Self> {
                <Self as strum::IntoEnumIterator>::iter().filter(|word| !matches!(word, Self::Later(_)))
            }

            /// The word as it appears in answers, records, logs and metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::Later(word) => word,
                    known => known.into(),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let known = Self::all().find(|known| known.as_str() == text);
                Ok(known.unwrap_or_else(|| Self::Later(crate::tolerant::word(&text))))
            }
        }
    };
}
pub(crate) use tolerant_words;
