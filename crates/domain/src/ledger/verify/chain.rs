//! The chain of one service: walked from its first record to its head.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger::growth::Growth;
use crate::ledger::head::Head;
use crate::ledger::key::RecordKey;
use crate::ledger::record::RawRecord;
use crate::ledger::verify::link::{Hash, Link, Pointer, Suspect, VerifiedKey, digest, fingerprint, hex, text, unhex};

/// How many records that do not fit their hash are kept whole. Only the first one is reported.
const MAX_SUSPECTS: usize = 1000;

/// How a verification ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether everything is as it was written.
    pub ok: bool,
    /// How many records (those with a `seq`; pointers are not counted) are correct, up to the first fault.
    pub verified: u64,
    /// The first fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<ChainFault>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFault {
    /// Sort key of the record that is wrong. For a missing record, that of the record after the gap, or at the end of
    /// the ledger that of the missing record itself. For an empty ledger, it is empty.
    pub record: String,
    /// What is wrong: begins with `changed`, `missing`, `added`, `reordered`, `renumbered`, `back-dated`, `post-dated`, `empty` or
    /// `head and tail disagree`.
    pub what: String,
}

impl ChainFault {
    pub(super) fn new(record: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { record: record.to_string(), what: what.into() }
    }
}

/// What is known about where the ledger ends.
#[derive(Debug, Clone, Copy)]
pub enum ChainEnd<'a> {
    /// Nothing: records missing at the end go unnoticed.
    Unknown,
    /// The service's head, or that it has none.
    Head(Option<&'a Head>),
    /// The service's head cannot be read: this attribute is not what this project writes.
    UnreadableHead(&'a str),
}

/// The ledger of one service, as far as its items were added. They may come in any order.
///
/// ```
/// use domain::ledger::record::{RawRecord, hash};
/// use domain::ledger::verify::chain::{Chain, ChainEnd};
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
    /// The index of the first suspect of each `seq`: if somebody added as many suspects as there are records, they must not all be
    /// searched at each record.
    suspect_at: BTreeMap<u64, usize>,
    /// The digest of the content of each suspect.
    suspect_digests: HashSet<Hash>,
    pointers: Vec<Pointer>,
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

    /// Verifies what was added.
    #[must_use]
    pub fn verify(&mut self, end: ChainEnd<'_>) -> Verification {
        self.sort();
        match self.check(end) {
            Ok(verified) => Verification { ok: true, verified, fault: None },
            Err((verified, fault)) => Verification { ok: false, verified, fault: Some(fault) },
        }
    }

    /// Verifies what was added, and that it contains everything that an older export of the same table had, to the letter. So the head at
    /// that time, which an export does not contain, is in the chain as it is now.
    #[must_use]
    pub fn verify_against(&mut self, older: &mut Self, end: ChainEnd<'_>) -> Verification {
        older.sort();
        let found = self.verify(end);
        match self.lost(older) {
            // The comparison with the older export says more than the chain does.
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

    /// The first item of an older export that is not here as it was there, and how many records are correct before it.
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

    /// Keys under which there are several items that differ.
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

    /// Walks along the chain: returns how many records are correct, or how many there are before the first fault.
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

    /// The fault if no record fits at `seq`, because of a suspect or because the record is missing; `None` if the
    /// ledger simply ends there.
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
        // A record that was rewritten with another seq fits its hash, and still names the record that it followed.
        if let Some(link) = behind.iter().find(|link| link.prev == before.map(|before| before.hash)) {
            return Some(ChainFault::new(link.key, renumbered(Some(link.seq), seq)));
        }
        Some(ChainFault::new(next.key, format!("missing: no record with seq {seq} stands before it")))
    }

    /// What is wrong with the only sound record of its `seq`, and how many records are correct before the fault.
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
            // A record that was rewritten fits its own hash, and everything after it still names the old one.
            Some(before) if is_named(link, behind, end) => (
                right - 1,
                ChainFault::new(before.key, "changed: it fits its own hash, and the record after it names another"),
            ),
            Some(_) => (right, ChainFault::new(link.key, "changed: it does not name the hash of the record before it")),
            None => (right, ChainFault::new(link.key, "changed: it names a record before it, and is the first")),
        })
    }

    /// What was done to a suspect. `is_extra` says that its place in the chain is not empty.
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
        // A renumbered record leaves a gap: after the record that it names, or before the record that names it.
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

    /// The fault if the ledger does not end as it should, and how many of its records are correct then.
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

pub(super) const CHANGED: &str = "changed: it does not fit its hash";

pub(super) const DIFFERS: &str = "changed: another item has the same key, and differs";

/// The one of several sound records for the place of `seq` that does not belong there: only the one that its neighbours
/// name does.
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
