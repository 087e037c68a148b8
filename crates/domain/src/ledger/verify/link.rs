//! What is kept of an item: its place in the chain if it fits its hash, and all of it if it does not.

use std::fmt;

use chrono::DateTime;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::canonical_json;
use crate::ids::ChangeId;
use crate::ledger::growth::GrowthStep;
use crate::ledger::key::{Attempt, RecordKey, RecordPlace};
use crate::ledger::record::{RawRecord, hash};

pub(super) type Hash = [u8; 32];

/// A record that fits its hash.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) key: VerifiedKey,
    pub(super) hash: Hash,
    pub(super) prev: Option<Hash>,
    /// A fingerprint of its time to the letter, as its pointers have it.
    pub(super) at: u64,
    /// The same time in milliseconds since 1970; `None` if it is not a time.
    pub(super) time: Option<i64>,
}

impl Link {
    /// The link that a record makes, if it fits its hash.
    pub(super) fn new(key: &RecordKey, item: &RawRecord) -> Option<Self> {
        let claimed = text(item, "hash")?;
        let is_right = hash(&Value::Object(item.clone())).is_ok_and(|computed| computed == claimed)
            && text(item, "change_id") == Some(key.change_id.as_str());
        if !is_right {
            return None;
        }
        let prev = match text(item, "prev_hash")? {
            "" => None,
            prev => Some(unhex(prev)?),
        };
        Some(Self {
            seq: item.get("seq")?.as_u64()?,
            key: VerifiedKey::new(key),
            hash: unhex(claimed)?,
            prev,
            at: fingerprint(text(item, "at")),
            time: text(item, "at").and_then(|at| Some(DateTime::parse_from_rfc3339(at).ok()?.timestamp_millis())),
        })
    }

    pub(super) fn step(&self) -> GrowthStep {
        GrowthStep { seq: self.seq, change_id: self.key.change_id, place: self.key.place, at: self.time }
    }
}

/// A record's sort key in compact form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VerifiedKey {
    pub(super) change_id: [u8; 16],
    pub(super) place: RecordPlace,
}

impl VerifiedKey {
    pub(super) fn new(key: &RecordKey) -> Self {
        Self { change_id: key.change_id.to_bytes(), place: key.place }
    }
}

impl fmt::Display for VerifiedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", uuid::Uuid::from_bytes(self.change_id).hyphenated(), self.place)
    }
}

/// A record that does not fit its hash, or whose key is not that of a record.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) seq: Option<u64>,
    /// The digest of its content.
    pub(super) digest: Hash,
    pub(super) record: RawRecord,
}

impl Suspect {
    pub(super) fn place(&self) -> String {
        text(&self.record, "record").unwrap_or_default().to_owned()
    }

    pub(super) fn hash(&self) -> Option<Hash> {
        unhex(text(&self.record, "hash")?)
    }

    pub(super) fn fits_with(&self, name: &str, value: Value) -> bool {
        let mut record = self.record.clone();
        record.insert(name.to_owned(), value);
        let claimed = text(&self.record, "hash").map(str::to_owned);
        claimed.is_some() && hash(&Value::Object(record)).ok() == claimed
    }

    pub(super) fn was_written_as(&self, seq: u64) -> bool {
        self.fits_with("seq", seq.into())
    }

    /// The key with which it fits its hash, if that is not the key that it has.
    pub(super) fn key_it_was_written_under(&self) -> Option<RecordKey> {
        let change_id = ChangeId::parse(text(&self.record, "change_id")?).ok()?;
        let attempts = (1..=Attempt::LAST.number()).filter_map(Attempt::new);
        let own = attempts.flat_map(|attempt| [RecordPlace::Started(attempt), RecordPlace::Result(attempt)]);
        let keys = own.chain(RecordPlace::later()).map(|place| RecordKey::new(change_id.clone(), place));
        keys.filter(|key| key.to_string() != self.place()).find(|key| self.fits_with("record", key.to_string().into()))
    }
}

#[derive(Debug)]
pub(super) struct Pointer {
    pub(super) key: RecordKey,
    /// The digest of its content.
    pub(super) digest: Hash,
    pub(super) at: u64,
    pub(super) names_its_change: bool,
}

pub(super) fn text<'a>(record: &'a RawRecord, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

pub(super) fn fingerprint(text: Option<&str>) -> u64 {
    let hash = Sha256::digest(text.unwrap_or_default());
    hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// A digest that distinguishes an item from every other one, whatever it says about itself.
pub(super) fn digest(item: &RawRecord) -> Hash {
    let json = canonical_json::to_string(item).unwrap_or_else(|_| Value::Object(item.clone()).to_string());
    Sha256::digest(json).into()
}

pub(super) fn hex(hash: Hash) -> String {
    crate::text::hex(&hash)
}

/// Accepts lowercase hexadecimal only: each hash has exactly one spelling.
pub(super) fn unhex(text: &str) -> Option<Hash> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = digit(*pair.first()?)? << 4 | digit(*pair.last()?)?;
    }
    Some(hash)
}
