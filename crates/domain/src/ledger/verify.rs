//! Pure: whether the ledger of a service is as it was written, and where it is not.
//!
//! Of a record that fits its hash only its place in the chain is kept, so that a long ledger takes little memory. One
//! that does not fit is kept whole: what was done to it is told by trying what would make it fit again.
//!
//! An item that is the same to the letter is the same item: files of an export may overlap, and exports of several days may lie in
//! one folder. Two items that have one key and differ are a fault, since a table has one of them.
//!
//! A chain that fits may still lie about when it was written: [`super::growth`] tells.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io::BufRead;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::growth::{Growth, GrowthStep};
use super::head::Head;
use super::record::{RawRecord, hash, number};
use crate::ids::ChangeId;
use crate::ledger::key::{Attempt, RecordKey, RecordPlace};
use crate::text::shown_text;
use crate::{canonical_json, event};

/// How many records that do not fit their hash are kept whole. Only the first one is told.
const MAX_SUSPECTS: usize = 1000;

/// How a verification ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether everything is as it was written.
    pub ok: bool,
    /// How many records (those with a `seq`; pointers are not counted) are right, up to the first fault.
    pub verified: u64,
    /// The first fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<ChainFault>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFault {
    /// Sort key of the record that is wrong. Of one that is missing: of the record behind the gap; at the end of the
    /// ledger the missing one's own. Of an empty ledger: empty.
    pub record: String,
    /// What is wrong: begins with `changed`, `missing`, `added`, `reordered`, `renumbered`, `back-dated`, `post-dated`, `empty` or `head and
    /// tail disagree`.
    pub what: String,
}

impl ChainFault {
    fn new(record: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { record: record.to_string(), what: what.into() }
    }
}

/// What is known of where the ledger ends.
#[derive(Debug, Clone, Copy)]
pub enum ChainEnd<'a> {
    /// Nothing: records missing at the end go unnoticed.
    Unknown,
    /// The service's head, or that it has none.
    Head(Option<&'a Head>),
    /// The service's head cannot be read: the attribute that is not what this project writes.
    UnreadableHead(&'a str),
}

/// The ledger of one service, as far as its items were added. They may come in any order.
///
/// ```
/// use domain::ledger::record::{RawRecord, hash};
/// use domain::ledger::verify::{Chain, ChainEnd};
/// use serde_json::{Value, json};
///
/// let mut record = json!({
///     "service": "222222222222/eu-west-1/prod/web", "record": "01935321-1234-7abc-89ef-0123456789ab#1", "seq": 1,
///     "change_id": "01935321-1234-7abc-89ef-0123456789ab", "at": "2024-11-22T09:30:00.000Z", "kind": "UNCHANGED",
///     "requested_by": "ann", "prev_hash": "",
/// });
/// record["hash"] = hash(&record)?.into();
/// let verdict = |record: &Value| {
///     let mut chain = Chain::default();
///     chain.add(record.as_object().cloned().unwrap_or_default());
///     chain.verify(ChainEnd::Unknown)
/// };
/// assert!(verdict(&record).ok);
///
/// record["requested_by"] = "bob".into();
/// let broken = verdict(&record);
/// assert_eq!(broken.fault.map(|fault| fault.what).as_deref(), Some("changed: it does not fit its hash"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Chain {
    links: Vec<Link>,
    suspects: Vec<Suspect>,
    /// Where the first suspect of each `seq` stands: who added as many as there are records must not be looked for among
    /// all of them at each record.
    suspect_at: BTreeMap<u64, usize>,
    /// The content of each suspect.
    suspect_digests: HashSet<Hash>,
    pointers: Vec<Pointer>,
}

type Hash = [u8; 32];

/// A record that fits its hash.
#[derive(Debug, Clone)]
struct Link {
    seq: u64,
    key: VerifiedKey,
    hash: Hash,
    prev: Option<Hash>,
    /// Its time to the letter, as its pointers have it.
    at: u64,
    /// The same in milliseconds since 1970; none where it is no time.
    time: Option<i64>,
}

/// A record's sort key in little space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct VerifiedKey {
    change_id: [u8; 16],
    place: RecordPlace,
}

impl VerifiedKey {
    fn new(key: &RecordKey) -> Self {
        Self { change_id: key.change_id.to_bytes(), place: key.place }
    }
}

impl fmt::Display for VerifiedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", uuid::Uuid::from_bytes(self.change_id).hyphenated(), self.place)
    }
}

/// A record that does not fit its hash, or stands under a key of no record.
#[derive(Debug)]
struct Suspect {
    seq: Option<u64>,
    /// Its content.
    digest: Hash,
    record: RawRecord,
}

#[derive(Debug)]
struct Pointer {
    key: RecordKey,
    /// Its content.
    digest: Hash,
    at: u64,
    names_its_change: bool,
}

impl Chain {
    /// Adds an item of the service's partition.
    pub fn add(&mut self, item: RawRecord) {
        let key = text(&item, "record").and_then(|text| RecordKey::parse(text).ok());
        let seq = item.get("seq").and_then(Value::as_u64);
        match key {
            Some(key) if key.pointer.is_some() && !item.contains_key("seq") && !item.contains_key("hash") => {
                let names_its_change = text(&item, "change_id") == Some(key.change_id.as_str());
                let (digest, at) = (digest(&item), fingerprint(text(&item, "at")));
                self.pointers.push(Pointer { key, digest, at, names_its_change });
            }
            Some(key) if key.pointer.is_none() => match (seq, Link::new(&key, &item)) {
                (Some(_), Some(link)) => self.links.push(link),
                _ => self.suspect(seq, item),
            },
            _ => self.suspect(seq, item),
        }
    }

    fn suspect(&mut self, seq: Option<u64>, mut record: RawRecord) {
        let digest = digest(&record);
        if !self.suspect_digests.insert(digest) {
            return;
        }
        if self.suspects.len() >= MAX_SUSPECTS {
            record.retain(|name, _| name == "record");
        }
        if let Some(seq) = seq {
            self.suspect_at.entry(seq).or_insert(self.suspects.len());
        }
        self.suspects.push(Suspect { seq, digest, record });
    }

    /// The first suspect that says it has this `seq`.
    fn suspect_of(&self, seq: u64) -> Option<&Suspect> {
        self.suspects.get(*self.suspect_at.get(&seq)?)
    }

    /// Judges what was added.
    #[must_use]
    pub fn verify(&mut self, end: ChainEnd<'_>) -> Verification {
        self.sort();
        match self.check(end) {
            Ok(verified) => Verification { ok: true, verified, fault: None },
            Err((verified, fault)) => Verification { ok: false, verified, fault: Some(fault) },
        }
    }

    /// Judges what was added, and whether everything that an older export of the same table had stands in it, to the letter. So the
    /// head of then, which an export does not have, is in the chain of now.
    #[must_use]
    pub fn verify_against(&mut self, older: &mut Self, end: ChainEnd<'_>) -> Verification {
        older.sort();
        let found = self.verify(end);
        match self.lost(older) {
            // What it is compared with says more than the chain does.
            Some((verified, fault)) if found.ok || verified <= found.verified => {
                Verification { ok: false, verified, fault: Some(fault) }
            }
            _ => found,
        }
    }

    /// Brings the records into the order of the chain, each of them once.
    fn sort(&mut self) {
        self.links.sort_unstable_by_key(|link| (link.seq, link.key, link.hash));
        // What has the same hash has the same content.
        self.links.dedup_by_key(|link| link.hash);
        self.pointers.sort_by(|one, other| (&one.key, one.digest).cmp(&(&other.key, other.digest)));
        self.pointers.dedup_by_key(|pointer| pointer.digest);
    }

    fn is_empty(&self) -> bool {
        self.links.is_empty() && self.suspects.is_empty() && self.pointers.is_empty()
    }

    /// The first item of an older export that does not stand here as it stood there, and how many records are right before it.
    fn lost(&self, older: &Self) -> Option<(u64, ChainFault)> {
        let stands = |link: &&Link| {
            let from = self.links.partition_point(|own| own.seq < link.seq);
            self.links.iter().skip(from).take_while(|own| own.seq == link.seq).any(|own| own.hash == link.hash)
        };
        let fault = |place: String| {
            let is_there = self.links.iter().any(|own| own.key.to_string() == place)
                || self.suspects.iter().any(|own| own.place() == place)
                || self.pointers.iter().any(|own| own.key.to_string() == place);
            let what = if is_there {
                "changed: it is not what the older export has under its key"
            } else {
                "missing: it stands in the older export"
            };
            ChainFault::new(place, what)
        };
        let link = older.links.iter().find(|link| !stands(link));
        let link = link.map(|link| (link.seq.saturating_sub(1), link.key.to_string()));
        let is_known = |suspect: &Suspect| self.suspect_digests.contains(&suspect.digest);
        let suspect = older.suspects.iter().find(|suspect| !is_known(suspect)).map(|suspect| (0, suspect.place()));
        let records = self.links.len().try_into().unwrap_or(u64::MAX);
        let own: HashSet<Hash> = self.pointers.iter().map(|pointer| pointer.digest).collect();
        let pointer = older.pointers.iter().find(|pointer| !own.contains(&pointer.digest));
        let pointer = pointer.map(|pointer| (records, pointer.key.to_string()));
        let first = [link, suspect, pointer].into_iter().flatten().min_by_key(|(right, _)| *right);
        first.map(|(right, place)| (right.min(records), fault(place)))
    }

    /// Keys under which several items stand that differ.
    fn disputed(&self) -> BTreeSet<VerifiedKey> {
        let mut keys: Vec<VerifiedKey> = self.links.iter().map(|link| link.key).collect();
        keys.extend(
            self.suspects
                .iter()
                .filter_map(|suspect| Some(VerifiedKey::new(&RecordKey::parse(&suspect.place()).ok()?))),
        );
        keys.sort_unstable();
        keys.windows(2).filter(|pair| pair.first() == pair.last()).filter_map(|pair| pair.first().copied()).collect()
    }

    /// Walks along the chain: how many records are right, or how many are before the first fault.
    fn check(&self, end: ChainEnd<'_>) -> Result<u64, (u64, ChainFault)> {
        if self.is_empty() && !matches!(end, ChainEnd::Head(Some(_)) | ChainEnd::UnreadableHead(_)) {
            return Err((0, ChainFault::new("", "empty: there is no record of this service, which proves nothing")));
        }
        let (disputed, mut growth) = (self.disputed(), Growth::default());
        let mut rest = self.links.as_slice();
        let mut before: Option<&Link> = None;
        let mut verified = 0;
        loop {
            let seq = verified + 1;
            let here = rest.iter().take_while(|link| link.seq <= seq).count();
            let (here, behind) = rest.split_at(here);
            if let Some(link) = here.iter().find(|link| disputed.contains(&link.key)) {
                return Err((verified, ChainFault::new(link.key, DIFFERS)));
            }
            let fault = match here {
                [] => self.nobody_at(seq, before, behind).map(|fault| (verified, fault)),
                [link] if link.seq == seq => self.fault_at(before, link, behind, end).or_else(|| {
                    let what = growth.take(link.step())?;
                    Some((verified, ChainFault::new(link.key, what)))
                }),
                several => Some((verified, intruder(seq, before, several, behind, end))),
            };
            if let Some(fault) = fault {
                return Err(fault);
            }
            let Some(link) = here.first() else { break };
            (before, rest, verified) = (Some(link), behind, seq);
        }
        match (self.end_fault(end), self.pointer_fault()) {
            (Some(fault), _) => Err(fault),
            (None, Some(fault)) => Err((verified, fault)),
            (None, None) => Ok(verified),
        }
    }

    /// No record fits at `seq`: because of a suspect, or since it is missing. None where the ledger just ends.
    fn nobody_at(&self, seq: u64, before: Option<&Link>, behind: &[Link]) -> Option<ChainFault> {
        let moved = self.suspects.iter().find(|suspect| suspect.seq != Some(seq) && suspect.was_written_as(seq));
        if let Some(suspect) = moved {
            return Some(ChainFault::new(suspect.place(), renumbered(suspect.seq, seq)));
        }
        if let Some(suspect) = self.suspect_of(seq) {
            return Some(self.judge(suspect, false));
        }
        let Some(next) = behind.first() else {
            return self.suspects.first().map(|suspect| self.judge(suspect, true));
        };
        // Written anew with another seq, it fits its hash, and still names the record it followed.
        if let Some(link) = behind.iter().find(|link| link.prev == before.map(|before| before.hash)) {
            return Some(ChainFault::new(link.key, renumbered(Some(link.seq), seq)));
        }
        Some(ChainFault::new(next.key, format!("missing: no record with seq {seq} stands before it")))
    }

    /// What is wrong with the only sound record of its `seq`, and how many records are right before that.
    fn fault_at(
        &self,
        before: Option<&Link>,
        link: &Link,
        behind: &[Link],
        end: ChainEnd<'_>,
    ) -> Option<(u64, ChainFault)> {
        let right = link.seq - 1;
        if link.prev == before.map(|before| before.hash) {
            return self.suspect_of(link.seq).map(|suspect| (right, self.judge(suspect, true)));
        }
        Some(match before {
            // Written anew, it fits its own hash, and everything behind it still names the old one.
            Some(before) if is_named(link, behind, end) => (
                right - 1,
                ChainFault::new(before.key, "changed: it fits its own hash, and the record after it names another"),
            ),
            Some(_) => (right, ChainFault::new(link.key, "changed: it does not name the hash of the record before it")),
            None => (right, ChainFault::new(link.key, "changed: it names a record before it, and is the first")),
        })
    }

    /// What was done to a suspect. `is_extra`: its place in the chain is not empty.
    fn judge(&self, suspect: &Suspect, is_extra: bool) -> ChainFault {
        let place = suspect.place();
        let fault = |what| ChainFault::new(&place, what);
        if RecordKey::parse(&place).is_ok_and(|key| key.pointer.is_none()) && suspect.seq.is_none() {
            return fault("changed: it has no seq".to_owned());
        }
        if let Some(original) = suspect.key_it_was_written_under() {
            let is_there = self.links.iter().any(|link| link.key == VerifiedKey::new(&original));
            let what = if is_there { "added: it is a copy of" } else { "reordered: it was written as" };
            return fault(format!("{what} {original}"));
        }
        // Who was renumbered leaves a gap: behind the record it names, or before the record that names it.
        let own = suspect.hash();
        let prev = text(&suspect.record, "prev_hash").and_then(unhex);
        let seqs = self.links.iter().filter_map(|link| {
            if own == Some(link.hash) || prev == Some(link.hash) {
                Some(link.seq + 1)
            } else if own.is_some() && link.prev == own {
                link.seq.checked_sub(1)
            } else {
                None
            }
        });
        if let Some(seq) = seqs.filter(|seq| suspect.seq != Some(*seq)).find(|seq| suspect.was_written_as(*seq)) {
            return fault(renumbered(suspect.seq, seq));
        }
        let what = if is_extra { "added: it does not fit its hash, and no place in the chain is its" } else { CHANGED };
        fault(what.to_owned())
    }

    /// Where the ledger does not end as it should, and how many of its records are right then.
    fn end_fault(&self, end: ChainEnd<'_>) -> Option<(u64, ChainFault)> {
        const DISAGREE: &str = "head and tail disagree";
        let last = self.links.last();
        let count = last.map_or(0, |last| last.seq);
        let head = match end {
            ChainEnd::Unknown => return None,
            ChainEnd::Head(head) => head,
            ChainEnd::UnreadableHead(attribute) => {
                let place = last.map(|last| last.key.to_string()).unwrap_or_default();
                let what = format!("{DISAGREE}: {attribute} of the head is not what was written");
                return Some((count, ChainFault::new(place, what)));
            }
        };
        match (head, last) {
            (None, None) => None,
            (None, Some(last)) => Some((count, ChainFault::new(last.key, format!("{DISAGREE}: there is no head")))),
            (Some(head), Some(last)) if head.seq < count => {
                let first = self.links.iter().find(|link| link.seq > head.seq).unwrap_or(last);
                let what = format!("added: the head names seq {} as the last", head.seq);
                Some((head.seq, ChainFault::new(first.key, what)))
            }
            (Some(head), Some(last)) if head.seq == count => {
                let is_same = hex(last.hash) == head.hash && last.key.to_string() == head.record.to_string();
                let what = format!("{DISAGREE}: the head names another record with this seq as the last");
                (!is_same).then(|| (count - 1, ChainFault::new(last.key, what)))
            }
            (Some(head), _) => {
                let what = format!("missing: the head names it as the last record, with seq {}", head.seq);
                Some((count, ChainFault::new(&head.record, what)))
            }
        }
    }

    fn pointer_fault(&self) -> Option<ChainFault> {
        if self.pointers.is_empty() {
            return None;
        }
        let differ = self
            .pointers
            .windows(2)
            .find(|pair| pair.first().map(|pointer| &pointer.key) == pair.last().map(|pointer| &pointer.key));
        if let Some(pointer) = differ.and_then(<[Pointer]>::first) {
            return Some(ChainFault::new(&pointer.key, DIFFERS));
        }
        let records: BTreeMap<VerifiedKey, u64> = self.links.iter().map(|link| (link.key, link.at)).collect();
        self.pointers.iter().find_map(|pointer| {
            let what = match records.get(&VerifiedKey::new(&pointer.key)) {
                None => "added: it is a pointer to a record that does not exist",
                Some(_) if !pointer.names_its_change => "changed: it is a pointer, and names another change",
                Some(at) if *at != pointer.at => "changed: it is a pointer, and has another time than its record",
                Some(_) => return None,
            };
            Some(ChainFault::new(&pointer.key, what))
        })
    }
}

const CHANGED: &str = "changed: it does not fit its hash";
const DIFFERS: &str = "changed: another item has the same key, and differs";

impl Link {
    /// The link that a record makes, where it fits its hash.
    fn new(key: &RecordKey, item: &RawRecord) -> Option<Self> {
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

    fn step(&self) -> GrowthStep {
        GrowthStep { seq: self.seq, change_id: self.key.change_id, place: self.key.place, at: self.time }
    }
}

impl Suspect {
    fn place(&self) -> String {
        text(&self.record, "record").unwrap_or_default().to_owned()
    }

    fn hash(&self) -> Option<Hash> {
        unhex(text(&self.record, "hash")?)
    }

    fn fits_with(&self, name: &str, value: Value) -> bool {
        let mut record = self.record.clone();
        record.insert(name.to_owned(), value);
        let claimed = text(&self.record, "hash").map(str::to_owned);
        claimed.is_some() && hash(&Value::Object(record)).ok() == claimed
    }

    fn was_written_as(&self, seq: u64) -> bool {
        self.fits_with("seq", seq.into())
    }

    /// The key that makes it fit its hash, where it is not the one it stands under.
    fn key_it_was_written_under(&self) -> Option<RecordKey> {
        let change_id = ChangeId::parse(text(&self.record, "change_id")?).ok()?;
        let attempts = (1..=Attempt::LAST.number()).filter_map(Attempt::new);
        let own = attempts.flat_map(|attempt| [RecordPlace::Started(attempt), RecordPlace::Result(attempt)]);
        let keys = own.chain(RecordPlace::later()).map(|place| RecordKey::new(change_id.clone(), place));
        keys.filter(|key| key.to_string() != self.place()).find(|key| self.fits_with("record", key.to_string().into()))
    }
}

/// Which of several sound records for the place of `seq` does not belong: all but the one that its neighbours name.
fn intruder(seq: u64, before: Option<&Link>, several: &[Link], behind: &[Link], end: ChainEnd<'_>) -> ChainFault {
    let follows = |link: &&Link| link.prev == before.map(|before| before.hash);
    let candidates = || several.iter().filter(|link| link.seq == seq);
    let owner = candidates()
        .find(|link| follows(link) && is_named(link, behind, end))
        .or_else(|| candidates().find(|link| is_named(link, behind, end)))
        .or_else(|| candidates().find(follows))
        .map(|owner| owner.key);
    let key = several.iter().map(|link| link.key).rfind(|key| Some(*key) != owner);
    let what = format!("added: it is not the record with seq {seq}");
    ChainFault::new(key.map(|key| key.to_string()).unwrap_or_default(), what)
}

/// Whether what comes after a record names it: the next record, or the head.
fn is_named(link: &Link, behind: &[Link], end: ChainEnd<'_>) -> bool {
    match (behind.first(), end) {
        (Some(next), _) => next.seq == link.seq + 1 && next.prev == Some(link.hash),
        (None, ChainEnd::Head(Some(head))) => head.hash == hex(link.hash),
        (None, _) => false,
    }
}

fn renumbered(from: Option<u64>, to: u64) -> String {
    let says = from.map_or_else(|| "says no seq".to_owned(), |seq| format!("says seq {seq}"));
    format!("renumbered: it {says}, and was written as {to}")
}

fn text<'a>(record: &'a RawRecord, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

fn fingerprint(text: Option<&str>) -> u64 {
    let hash = Sha256::digest(text.unwrap_or_default());
    hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// What tells an item from every other one, whatever it says of itself.
fn digest(item: &RawRecord) -> Hash {
    let json = canonical_json::to_string(item).unwrap_or_else(|_| Value::Object(item.clone()).to_string());
    Sha256::digest(json).into()
}

fn hex(hash: Hash) -> String {
    crate::text::hex(&hash)
}

/// Lowercase hexadecimal only: what reads the same has to be the same.
fn unhex(text: &str) -> Option<Hash> {
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

/// Why an export cannot be read.
#[derive(Debug)]
pub struct ExportError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ExportError {}

/// The ledgers of a full export of the history table to S3 (`DYNAMODB_JSON`, unpacked): one item a line,
/// `{"Item": {"service": {"S": "…"}, …}}`, in any order, and as often as it likes. An export has no heads: what is missing at a
/// ledger's end goes unnoticed, and so does a ledger that is missing as a whole, unless an older export has them.
#[derive(Debug, Default)]
pub struct Export {
    chains: BTreeMap<String, Chain>,
}

impl Export {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// The first line that cannot be read or is no item of a history table.
    pub fn read(export: impl BufRead) -> Result<Self, ExportError> {
        let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
        for (line, content) in (1..).zip(export.lines()) {
            let content = content.map_err(|error| ExportError { line, what: error.to_string() })?;
            if content.trim().is_empty() {
                continue;
            }
            let item = exported(&content).map_err(|what| ExportError { line, what })?;
            let service = text(&item, "service").ok_or_else(|| ExportError { line, what: NO_ITEM.to_owned() })?;
            chains.entry(service.to_owned()).or_default().add(item);
        }
        Ok(Self { chains })
    }

    /// Whether there is no item in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Verifies each of its ledgers.
    #[must_use]
    pub fn verify(mut self) -> BTreeMap<String, Verification> {
        self.chains.iter_mut().map(|(service, chain)| (service.clone(), chain.verify(ChainEnd::Unknown))).collect()
    }

    /// Verifies each of its ledgers, and that everything stands in them that an older export had.
    #[must_use]
    pub fn verify_against(mut self, older: Self) -> BTreeMap<String, Verification> {
        let mut older = older.chains;
        let services: BTreeSet<String> = self.chains.keys().chain(older.keys()).cloned().collect();
        let judge = |service: String| {
            let chain = self.chains.entry(service.clone()).or_default();
            let found = match older.get_mut(&service) {
                Some(older) => chain.verify_against(older, ChainEnd::Unknown),
                None => chain.verify(ChainEnd::Unknown),
            };
            (service, found)
        };
        services.into_iter().map(judge).collect()
    }
}

/// Verifies each ledger of an export.
///
/// # Errors
///
/// As [`Export::read`].
pub fn verify_export(export: impl BufRead) -> Result<BTreeMap<String, Verification>, ExportError> {
    Ok(Export::read(export)?.verify())
}

const NO_ITEM: &str = "it is no item of a history table in DynamoDB JSON: {\"Item\": {\"service\": {\"S\": \"…\"}, …}}";

fn exported(line: &str) -> Result<RawRecord, String> {
    match event::read(line)? {
        Value::Object(mut line) if line.len() == 1 => match line.remove("Item") {
            Some(Value::Object(item)) => {
                Ok(item.iter().map(|(name, value)| (name.clone(), attribute(value))).collect())
            }
            _ => Err(NO_ITEM.to_owned()),
        },
        other => Err(format!("{NO_ITEM}, but {}", shown_text(&other.to_string()))),
    }
}

/// The JSON that an attribute stands for. One of another type becomes what no record holds.
fn attribute(value: &Value) -> Value {
    let tagged = value.as_object().filter(|tagged| tagged.len() == 1).and_then(|tagged| tagged.iter().next());
    match tagged {
        Some((tag, Value::String(text))) if tag == "S" => text.as_str().into(),
        Some((tag, Value::String(text))) if tag == "N" => number(text),
        _ => json!({"attribute": value}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
    use crate::ledger::kind::Kind;
    use crate::ledger::record::{ChangeContext, Pointer as PointerItem, Record, RecordFields};
    use chrono::{DateTime, Duration, Utc};
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn time(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_795_000_000_123).unwrap() + Duration::seconds(second)
    }

    fn facts(second: i64) -> ChangeContext {
        ChangeContext {
            service: ServiceKey::new(
                AccountId::parse("222222222222").unwrap(),
                Region::parse("eu-west-1").unwrap(),
                EcsName::parse("prod").unwrap(),
                EcsName::parse("edge").unwrap(),
            ),
            change_id: ChangeId::new(time(second), [7; 10]),
            repositories: vec!["nginx".to_owned(), "fluent".to_owned()],
            requested_by: Some("ann".to_owned()),
            reason: None,
            identity: crate::ids::Identity::Claimed,
            caller: None,
            attempt: Attempt::FIRST,
            session: "ecsu-1".to_owned(),
            request_id: "1".to_owned(),
            sent_at: None,
            restores: None,
            pins: crate::image::ResolvedImages::default(),
        }
    }

    /// The ledger of some changes, as the function writes it, outcomes that come late included; records by `seq`.
    fn ledger() -> (Vec<RawRecord>, Vec<RawRecord>, Head) {
        let (mut records, mut pointers, mut head): (Vec<Record>, Vec<PointerItem>, Option<Head>) = Default::default();
        let mut write = |second, n, kind| {
            let said = RecordFields::default();
            let at = time(second + i64::from(n));
            let place = match n {
                0 => RecordPlace::STARTED,
                1 => RecordPlace::RESULT,
                n => RecordPlace::Later(n),
            };
            let (record, beside) = facts(second).record(kind, place, at, &said, head.as_ref()).unwrap();
            head = Some(Head::behind(&record, head.as_ref(), None));
            records.push(record);
            pointers.extend(beside);
        };
        for change in [0, 10, 20] {
            write(change, 0, Kind::Started);
            write(change, 1, Kind::Applied);
        }
        write(30, 1, Kind::Unchanged);
        write(40, 0, Kind::Started);
        write(50, 0, Kind::Started);
        // The outcome of an earlier change.
        write(0, 2, Kind::Applied);
        write(50, 1, Kind::Failed);
        (raw(&records), raw(&pointers), head.unwrap())
    }

    fn raw(items: &[impl Serialize]) -> Vec<RawRecord> {
        items.iter().map(|item| serde_json::to_value(item).unwrap().as_object().unwrap().clone()).collect()
    }

    fn judged(items: impl IntoIterator<Item = RawRecord>, end: ChainEnd<'_>) -> Verification {
        let mut chain = Chain::default();
        items.into_iter().for_each(|item| chain.add(item));
        chain.verify(end)
    }

    fn key(record: &RawRecord) -> String {
        text(record, "record").unwrap().to_owned()
    }

    fn rehash(record: &mut RawRecord) {
        let hash = hash(&Value::Object(record.clone())).unwrap();
        record.insert("hash".to_owned(), hash.into());
    }

    /// Another text, number or type, but never the same.
    fn spoil(value: &Value, at: usize) -> Value {
        let Some(text) = value.as_str() else { return json!(value.as_u64().unwrap() + 1 + at as u64 % 20) };
        match at % 4 {
            0 if !text.is_empty() => {
                let mut bytes = text.as_bytes().to_vec();
                let byte = at / 4 % bytes.len();
                bytes[byte] = if bytes[byte] == b'x' { b'y' } else { b'x' };
                String::from_utf8_lossy(&bytes).into_owned().into()
            }
            1 if !text.is_empty() => text[1..].into(),
            2 => number("7.0"),
            _ => format!("{text} ").into(),
        }
    }

    #[derive(Debug, Clone)]
    enum Edit {
        Change(Index, Index, usize),
        ChangeAndRehash(Index),
        Drop(Index),
        Insert(Index, bool),
        Swap(Index, Index, bool),
        Renumber(Index, u64, bool),
        Pointer(Index, bool, usize),
    }

    fn edits() -> impl Strategy<Value = Edit> {
        let index = any::<Index>;
        prop_oneof![
            4 => (index(), index(), 0_usize..4000).prop_map(|(at, name, how)| Edit::Change(at, name, how)),
            1 => index().prop_map(Edit::ChangeAndRehash),
            1 => index().prop_map(Edit::Drop),
            1 => (index(), any::<bool>()).prop_map(|(at, forged)| Edit::Insert(at, forged)),
            1 => (index(), index(), any::<bool>()).prop_map(|(one, other, keys)| Edit::Swap(one, other, keys)),
            1 => (index(), 0_u64..30, any::<bool>()).prop_map(|(at, to, forged)| Edit::Renumber(at, to, forged)),
            1 => (index(), any::<bool>(), 0_usize..4000).prop_map(|(at, name, how)| Edit::Pointer(at, name, how)),
        ]
    }

    /// Makes an edit; which places the fault may be at, and what it may begin with. None where nothing was edited.
    fn apply(
        edit: &Edit,
        records: &mut Vec<RawRecord>,
        pointers: &mut [RawRecord],
    ) -> Option<(Vec<String>, &'static [&'static str])> {
        let len = records.len();
        match edit {
            Edit::Change(at, name, how) => {
                let record = &mut records[at.index(len)];
                let names: Vec<_> = record.keys().cloned().collect();
                let name = &names[name.index(names.len())];
                record[name] = spoil(&record[name], *how);
                let place = text(record, "record").unwrap_or_default().to_owned();
                Some((vec![place], &["changed", "reordered", "renumbered", "added"]))
            }
            Edit::ChangeAndRehash(at) => {
                let record = &mut records[at.index(len)];
                record.insert("reason".to_owned(), "another".into());
                rehash(record);
                Some((vec![key(record)], &["changed", "head and tail disagree"]))
            }
            Edit::Drop(at) => {
                let at = at.index(len);
                let dropped = records.remove(at);
                Some((vec![key(records.get(at).unwrap_or(&dropped))], &["missing"]))
            }
            Edit::Insert(at, forged) => {
                let mut copy = records[at.index(len)].clone();
                let id = ChangeId::new(time(999), [1; 10]);
                copy["record"] = format!("{id}#0").into();
                if *forged {
                    copy["change_id"] = id.as_str().into();
                    rehash(&mut copy);
                }
                records.push(copy);
                Some((vec![format!("{id}#0")], &["added"]))
            }
            Edit::Swap(one, other, keys) => {
                let (one, other) = (one.index(len), other.index(len));
                let name = if *keys { "record" } else { "seq" };
                let places = vec![key(&records[one]), key(&records[other])];
                let value = records[one][name].clone();
                records[one][name] = records[other][name].clone();
                records[other][name] = value;
                let words: &[_] = if *keys { &["reordered"] } else { &["renumbered"] };
                (one != other).then_some((places, words))
            }
            Edit::Renumber(at, to, forged) => {
                let record = &mut records[at.index(len)];
                let is_same = record["seq"] == json!(to);
                record["seq"] = json!(to);
                if *forged {
                    rehash(record);
                }
                let words: &[_] = if *forged { &["renumbered", "added", "changed"] } else { &["renumbered"] };
                (!is_same).then(|| (vec![key(record)], words))
            }
            Edit::Pointer(at, name, how) => {
                let pointer = &mut pointers[at.index(len).min(pointers.len() - 1)];
                let name = if *name { "at" } else { "change_id" };
                pointer[name] = spoil(&pointer[name], *how);
                Some((vec![key(pointer)], &["changed"]))
            }
        }
    }

    #[test]
    fn ten_thousand_edits_are_found_at_their_place() {
        let (records, pointers, head) = ledger();
        let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(edit in edits(), backwards: bool)| {
            let (mut records, mut pointers) = (records.clone(), pointers.clone());
            let Some((places, words)) = apply(&edit, &mut records, &mut pointers) else { return Ok(()) };
            let mut items: Vec<_> = records.into_iter().chain(pointers).collect();
            if backwards {
                items.reverse();
            }
            let found = judged(items, ChainEnd::Head(Some(&head)));
            let Some(fault) = found.fault else { return Err(TestCaseError::fail("not found")) };
            prop_assert!(!found.ok && found.verified < 12, "{:?}", fault);
            prop_assert!(places.contains(&fault.record), "{:?} is not at {:?}", fault, places);
            prop_assert!(words.iter().any(|word| fault.what.starts_with(word)), "{:?}", fault);
        });
    }

    #[test]
    fn a_ledger_as_it_was_written_is_right() {
        let (records, pointers, head) = ledger();
        let right = Verification { ok: true, verified: 11, fault: None };
        for end in [ChainEnd::Head(Some(&head)), ChainEnd::Unknown] {
            assert_eq!(judged(records.iter().chain(&pointers).cloned(), end), right);
            assert_eq!(judged(pointers.iter().chain(records.iter().rev()).cloned(), end), right);
        }
        assert_eq!(serde_json::to_value(right).unwrap(), json!({"ok": true, "verified": 11}));
    }

    #[test]
    fn no_records_prove_nothing() {
        for end in [ChainEnd::Head(None), ChainEnd::Unknown] {
            let found = judged([], end);
            assert!(!found.ok && found.verified == 0 && found.fault.unwrap().what.starts_with("empty"));
        }
        assert!(verify_export(&b"\n"[..]).unwrap().is_empty());
    }

    #[test]
    fn the_same_item_twice_is_one_item() {
        let (records, pointers, head) = ledger();
        let twice = || records.iter().chain(&pointers).chain(records[3..].iter().rev()).chain(&pointers);
        assert_eq!(judged(twice().cloned(), ChainEnd::Head(Some(&head))).verified, 11);
        assert!(judged(twice().cloned(), ChainEnd::Head(Some(&head))).ok);
        // One that does not fit its hash is told once, as ever.
        let mut edited = records.clone();
        edited[4]["session"] = "another".into();
        let found = judged(edited.iter().chain(&edited).cloned(), ChainEnd::Head(Some(&head)));
        assert_eq!((found.verified, found.fault), (4, Some(ChainFault::new(key(&records[4]), CHANGED))));
    }

    #[test]
    fn two_items_of_one_key_that_differ_are_a_fault() {
        let (records, pointers, head) = ledger();
        let whole = || records.iter().chain(&pointers).cloned();
        for (at, name, is_rehashed) in
            [(4, "reason", false), (4, "reason", true), (4, "seq", true), (10, "reason", true), (0, "hash", false)]
        {
            let mut other = records[at].clone();
            other.insert(name.to_owned(), if name == "seq" { 9.into() } else { "another".into() });
            if is_rehashed {
                rehash(&mut other);
            }
            for items in
                [whole().chain([other.clone()]).collect::<Vec<_>>(), [other].into_iter().chain(whole()).collect()]
            {
                for end in [ChainEnd::Head(Some(&head)), ChainEnd::Unknown] {
                    let found = judged(items.clone(), end);
                    let right = u64::try_from(at).unwrap();
                    let fault = Some(ChainFault::new(key(&records[at]), DIFFERS));
                    assert_eq!((found.ok, found.verified, found.fault), (false, right, fault), "{at} {name}");
                }
            }
        }
        let mut other = pointers[1].clone();
        other["image"] = "another#1".into();
        let found = judged(whole().chain([other]), ChainEnd::Unknown);
        assert_eq!((found.verified, found.fault), (11, Some(ChainFault::new(key(&pointers[1]), DIFFERS))));
    }

    /// Writes the chain anew from `edit` on, with fitting hashes, as whoever may write may.
    fn rewritten(records: &[RawRecord], edit: impl Fn(usize, &mut RawRecord)) -> Vec<RawRecord> {
        let mut prev = String::new();
        let write = |(at, record): (usize, &RawRecord)| {
            let mut record = record.clone();
            edit(at, &mut record);
            record["prev_hash"] = std::mem::take(&mut prev).into();
            rehash(&mut record);
            text(&record, "hash").unwrap().clone_into(&mut prev);
            record
        };
        records.iter().enumerate().map(write).collect()
    }

    #[test]
    fn a_back_dated_record_is_a_fault_however_well_its_hash_fits() {
        let (records, ..) = ledger();
        assert_eq!(rewritten(&records, |_, _| {}), records);
        let dated = |which: usize, second: i64| {
            let at = crate::text::rfc3339(time(second));
            judged(
                rewritten(&records, |at_, record| {
                    if at_ == which {
                        record["at"] = at.clone().into();
                    }
                }),
                ChainEnd::Unknown,
            )
        };
        for (which, second) in [(8, 40 - 8), (5, -86_400), (9, -86_400)] {
            let found = dated(which, second);
            let fault = found.fault.unwrap_or_else(|| panic!("{which} {second}"));
            assert_eq!((found.verified, fault.record), (u64::try_from(which).unwrap(), key(&records[which])));
            assert!(fault.what.starts_with("back-dated"), "{}", fault.what);
        }
        // Within what the clocks of those may differ by who write without having compared them.
        assert!(dated(9, 40 - 60).ok);
        // A change of before, put behind the others.
        let earlier = ChangeId::new(time(35), [9; 10]);
        let found = judged(
            rewritten(&records, |at, record| {
                if at == 8 {
                    record["change_id"] = earlier.as_str().into();
                    record["record"] = format!("{earlier}#0").into();
                }
            }),
            ChainEnd::Unknown,
        );
        assert!(found.fault.unwrap().what.starts_with("back-dated: its change is not later"), "an id of before");
    }

    #[test]
    fn what_an_older_export_had_has_to_stand_to_the_letter() {
        let (records, pointers, _) = ledger();
        let against = |newer: Vec<RawRecord>, older: Vec<RawRecord>| {
            let chain = |items: Vec<RawRecord>| {
                let mut chain = Chain::default();
                for item in items {
                    chain.add(item);
                }
                chain
            };
            chain(newer).verify_against(&mut chain(older), ChainEnd::Unknown)
        };
        let all = || records.iter().chain(&pointers).cloned().collect::<Vec<_>>();
        let older = || records[..6].iter().chain(&pointers[..3]).cloned().collect::<Vec<_>>();
        assert_eq!(against(all(), older()), Verification { ok: true, verified: 11, fault: None });
        assert!(against(all(), all()).ok && against(all(), Vec::new()).ok);

        // Rewritten as a whole: its own chain is whole.
        let forged = rewritten(&records, |at, record| {
            if at == 4 {
                record["requested_by"] = "bob".into();
            }
        });
        assert!(judged(forged.clone(), ChainEnd::Unknown).ok);
        let found = against(forged.iter().chain(&pointers).cloned().collect(), older());
        let fault = ChainFault::new(key(&records[4]), "changed: it is not what the older export has under its key");
        assert_eq!((found.verified, found.fault), (4, Some(fault)));

        // Cut off at its end: no export has a head.
        let cut: Vec<_> = records[..4].iter().chain(&pointers[..2]).cloned().collect();
        assert!(judged(cut.clone(), ChainEnd::Unknown).ok);
        let found = against(cut, older());
        let missing = |place| Some(ChainFault::new(place, "missing: it stands in the older export"));
        assert_eq!((found.verified, found.fault), (4, missing(key(&records[4]))));
        assert_eq!(against(Vec::new(), older()).fault, missing(key(&records[0])));

        // A pointer that is gone, or leads elsewhere.
        let found = against(records.iter().chain(&pointers[1..]).cloned().collect(), older());
        assert_eq!((found.verified, found.fault), (11, missing(key(&pointers[0]))));
        let mut led = all();
        led.iter_mut().find(|item| key(item) == key(&pointers[0])).unwrap()["image"] = "elsewhere#1".into();
        assert!(judged(led.clone(), ChainEnd::Unknown).ok, "its own chain does not tell");
        assert_eq!(against(led, older()).fault.unwrap().record, key(&pointers[0]));

        // What was wrong then and was set right since was touched twice.
        let mut wrong = older();
        wrong[2]["session"] = "another".into();
        assert_eq!(against(all(), wrong).fault.unwrap().record, key(&records[2]));
    }

    #[test]
    fn the_first_fault_is_told_with_what_is_right_before_it() {
        let (mut records, pointers, head) = ledger();
        records[7]["session"] = "another".into();
        records.remove(3);
        let found = judged(records.iter().chain(&pointers).cloned(), ChainEnd::Head(Some(&head)));
        let fault = ChainFault::new(key(&records[3]), "missing: no record with seq 4 stands before it");
        assert_eq!(found, Verification { ok: false, verified: 3, fault: Some(fault) });
    }

    #[test]
    fn head_and_tail() {
        fn fault(records: &[RawRecord], head: Option<&Head>) -> String {
            judged(records.to_vec(), ChainEnd::Head(head)).fault.unwrap().what
        }
        let (records, _, head) = ledger();
        assert!(fault(&records, None).starts_with("head and tail disagree"));
        assert!(fault(&[], Some(&head)).starts_with("missing"));
        assert!(fault(&records[..9], Some(&head)).starts_with("missing"));
        let earlier = Head { seq: 9, ..head.clone() };
        assert!(fault(&records, Some(&earlier)).starts_with("added"));
        for other in [
            Head { hash: "0".repeat(64), ..head.clone() },
            Head { record: RecordKey::parse(&key(&records[0])).unwrap(), ..head.clone() },
        ] {
            assert!(fault(&records, Some(&other)).starts_with("head and tail disagree"));
        }
    }

    #[test]
    fn a_pointer_without_its_record() {
        let (records, mut pointers, head) = ledger();
        pointers[0]["record"] = format!("{}#9#1", ChangeId::new(time(0), [7; 10])).into();
        let found = judged(records.into_iter().chain(pointers.clone()), ChainEnd::Head(Some(&head)));
        assert_eq!(found.fault.map(|fault| fault.record), Some(key(&pointers[0])));
    }

    fn line(item: &RawRecord) -> String {
        let item: RawRecord = item
            .iter()
            .map(|(name, value)| {
                let tagged = value.as_str().map_or_else(|| json!({"N": value.to_string()}), |text| json!({"S": text}));
                (name.clone(), tagged)
            })
            .collect();
        json!({"Item": item}).to_string()
    }

    #[test]
    fn an_export_of_several_services_in_any_order() {
        let (mut records, pointers, _) = ledger();
        let mut lines: Vec<_> = records.iter().chain(&pointers).rev().map(line).collect();
        for record in &mut records {
            record["service"] = "another".into();
        }
        lines.insert(3, line(&records[0]));
        let found = verify_export((lines.join("\n") + "\n\n").as_bytes()).unwrap();
        assert!(found["222222222222/eu-west-1/prod/edge"].ok);
        assert_eq!(found["another"].fault.as_ref().map(|fault| fault.what.as_str()), Some(CHANGED));
        for wrong in ["{", "[]", "{}", "{\"Item\": {}}", "{\"Item\": {\"service\": \"s\"}}", "\u{fffd}"] {
            let error = verify_export(format!("{}\n{wrong}\n", lines[0]).as_bytes()).unwrap_err();
            assert_eq!(error.line, 2, "{error}");
        }
        // A text does not become a number, nor a number another spelling of it.
        let number = lines[0].replace("\"N\":\"", "\"N\":\"0");
        assert!(!verify_export(number.as_bytes()).unwrap()["222222222222/eu-west-1/prod/edge"].ok);
    }

    proptest! {
        #[test]
        fn no_items_panic(items in prop::collection::vec(any::<(u8, u8, u64)>(), 0..20)) {
            let (records, pointers, head) = ledger();
            let all: Vec<_> = records.into_iter().chain(pointers).collect();
            let items = items.into_iter().map(|(which, how, seq)| {
                let mut item = all[usize::from(which) % all.len()].clone();
                match how % 4 {
                    0 => _ = item.insert("seq".to_owned(), seq.into()),
                    1 => _ = item.remove("record"),
                    2 => _ = item.remove("seq"),
                    _ => {}
                }
                if how > 128 {
                    rehash(&mut item);
                }
                item
            });
            let _ = judged(items, ChainEnd::Head(Some(&head)));
        }
    }
}
