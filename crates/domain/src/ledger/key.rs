//! The key of a record: its change, and the record's place among those of the change.

use std::fmt;

use crate::ids::{ChangeId, serde_as_text};
use crate::text::shown_text;

/// The number of an attempt at a change, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u8);

impl Attempt {
    /// The attempt that begins the change.
    pub const FIRST: Self = Self(1);
    /// The last attempt: its failure is final.
    pub const LAST: Self = Self(20);

    /// The attempt with this number, if a change may have that many.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (Self::FIRST.0..=Self::LAST.0).contains(&number).then_some(Self(number))
    }

    /// The next attempt, if there may be one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether it is the one that begins the change.
    #[must_use]
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }

    fn parse(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().and_then(Self::new).filter(|attempt| attempt.to_string() == text);
        number.ok_or_else(|| format!("{text:?} is no number of an attempt"))
    }
}

impl Default for Attempt {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of a record among those of its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordPlace {
    /// `#0` and `#0-02` to `#0-20`: `STARTED` of an attempt.
    Started(Attempt),
    /// `#1` and `#1-02` to `#1-20`: the result of an attempt, or the only record where there is no `STARTED`.
    Result(Attempt),
    /// `#2` to `#9`: outcomes, and results whose place `ABANDONED` has taken.
    Later(u8),
}

impl RecordPlace {
    /// The place of the `STARTED` of the attempt that begins a change.
    pub const STARTED: Self = Self::Started(Attempt::FIRST);
    /// The place of the result of the attempt that begins a change, and of the only record where there is no `STARTED`.
    pub const RESULT: Self = Self::Result(Attempt::FIRST);

    /// The places after the results, in their order.
    pub fn later() -> impl Iterator<Item = Self> {
        (2..=9).map(Self::Later)
    }

    fn parse(text: &str) -> Option<Self> {
        let (n, attempt) = match text.split_once('-') {
            Some((n, attempt)) => (n, attempt.parse().ok().and_then(Attempt::new)?),
            None => (text, Attempt::FIRST),
        };
        Some(match n {
            "0" => Self::Started(attempt),
            "1" => Self::Result(attempt),
            later => Self::Later(later.parse().ok().filter(|n| (2..=9).contains(n))?),
        })
    }
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, attempt) = match self {
            Self::Started(attempt) => (0, *attempt),
            Self::Result(attempt) => (1, *attempt),
            Self::Later(n) => (*n, Attempt::FIRST),
        };
        if attempt.is_first() { write!(f, "{n}") } else { write!(f, "{n}-{:02}", attempt.0) }
    }
}

/// A sort key of the history table: `{change_id}#{place}` of a record, `{change_id}#{place}#{i}` of a pointer. Keys compare
/// as DynamoDB compares their texts: by bytes.
///
/// ```
/// use domain::ledger::key::RecordKey;
///
/// let mut keys = ["#1", "#0#1", "#0-02", "#2", "#0"].map(|place| format!("01935321-1234-7abc-89ef-0123456789ab{place}"));
/// keys.sort();
/// let read = keys.iter().map(|key| RecordKey::parse(key)).collect::<Result<Vec<_>, _>>()?;
/// // A record, its pointer, the next attempt's, the result, an outcome.
/// assert!(read.is_sorted() && keys[0].ends_with("#0") && keys[1].ends_with("#0#1") && keys[2].ends_with("#0-02"));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordKey {
    /// The change.
    pub change_id: ChangeId,
    /// Its place among the records of the change.
    pub place: RecordPlace,
    /// Which pointer of the record it is; none for the record itself.
    pub pointer: Option<u16>,
}

impl RecordKey {
    /// The key of a record.
    #[must_use]
    pub fn new(change_id: ChangeId, place: RecordPlace) -> Self {
        Self { change_id, place, pointer: None }
    }

    /// Reads a sort key as it is written, and in no other form.
    ///
    /// # Errors
    ///
    /// A sentence that says so, if the text is not the key of a record.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('#');
        let mut key = || {
            let change_id = ChangeId::parse(parts.next()?).ok()?;
            let place = RecordPlace::parse(parts.next()?)?;
            let pointer = parts.next().map(str::parse).transpose().ok()?;
            Some(Self { change_id, place, pointer }).filter(|key| key.to_string() == text)
        };
        key().ok_or_else(|| format!("{} is no key of a record", shown_text(text)))
    }
}

serde_as_text!(Attempt);
serde_as_text!(RecordKey);

impl Ord for RecordKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let digits = |key: &Self| key.pointer.map(|pointer| pointer.to_string());
        // `#` sorts before `-`, and both sort before every digit: a record comes before its pointers, and these come before the records
        // of the next attempt.
        self.change_id
            .cmp(&other.change_id)
            .then_with(|| self.place.cmp(&other.place))
            .then_with(|| digits(self).cmp(&digits(other)))
    }
}

impl PartialOrd for RecordKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.change_id, self.place)?;
        self.pointer.map_or(Ok(()), |pointer| write!(f, "#{pointer}"))
    }
}
