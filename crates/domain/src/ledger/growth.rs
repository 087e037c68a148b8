//! Pure: the ids and times in a ledger only increase, as far as the clocks of its writers agree.
//!
//! A writer of a record reads the head first, and then the clock; the write requires that the head is still the same. Therefore the times
//! at which the records of a chain were written increase, and the times that the records contain differ from these by the errors of their
//! writers' clocks. A writer that begins a change has compared its clock ([`super::clock`]); the others have not: a result has to be
//! written whatever the clock says, and the recorder's clock is not compared with anything.
//!
//! The id of a change has the later of two times: that of its writing (for an `EXTERNAL`, that of its event), or a millisecond after the
//! highest id before it. So ids run ahead of clocks, but they exceed the latest time in the ledger by at most a millisecond for each
//! record. A further record of a change that is in the ledger already, an outcome or a later attempt, has the old id of that change.

use std::collections::HashSet;

use chrono::{DateTime, Duration};
use uuid::Uuid;

use super::clock;
use crate::ledger::key::RecordPlace;
use crate::text::rfc3339;

/// How far the clock of a writer that began a change may be off: it was compared, and may drift a little until it is read.
const COMPARED: Duration = Duration::milliseconds(clock::FARTHEST.num_milliseconds() + 500);
/// How far any other writer's clock may be off: by as much as AWS accepts from an honest sender. This bound is reasonable and not strict,
/// as the SDK corrects the time in its signatures. Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-signing.html>,
/// "a request must reach AWS within five minutes of the time stamp in the request".
const NOT_COMPARED: Duration = Duration::minutes(5);

/// The parts of a record that have to increase.
#[derive(Debug, Clone, Copy)]
pub struct GrowthStep {
    /// Its place in the chain.
    pub seq: u64,
    /// The bytes of its change's id.
    pub change_id: [u8; 16],
    /// Its place among the records of its change.
    pub place: RecordPlace,
    /// When it was written according to itself, in milliseconds since 1970; `None` if that is not a time.
    pub at: Option<i64>,
}

/// How far a chain has grown.
#[derive(Debug, Default)]
pub struct Growth {
    /// The highest id so far.
    highest: Option<[u8; 16]>,
    changes: HashSet<[u8; 16]>,
    /// The latest time that a record contains.
    latest: i64,
    /// The time before which nothing can have been written any more, and the record that shows it.
    floor: Option<(i64, GrowthStep)>,
}

impl Growth {
    /// Takes the next record of the chain. Returns what is wrong with it, if it does not increase.
    pub fn take(&mut self, step: GrowthStep) -> Option<String> {
        let Some(at) = step.at else { return Some("back-dated: its `at` is no time (RFC 3339)".to_owned()) };
        self.latest = self.latest.max(at);
        let off =
            if matches!(step.place, RecordPlace::Started(_)) { COMPARED } else { NOT_COMPARED }.num_milliseconds();
        if let Some((floor, before)) = self.floor
            && at.saturating_add(off) < floor
        {
            let (said, name) = (before.at.unwrap_or_default(), name(&before));
            return Some(format!(
                "back-dated: it says {}, and stands behind {name}, which says {}",
                time(at),
                time(said)
            ));
        }
        if self.floor.is_none_or(|(floor, _)| floor < at.saturating_sub(off)) {
            self.floor = Some((at.saturating_sub(off), step));
        }
        if !self.changes.insert(step.change_id) {
            return None;
        }
        let made = milliseconds(step.change_id);
        if let Some(highest) = self.highest
            && milliseconds(highest) >= made
        {
            let highest = Uuid::from_bytes(highest).hyphenated();
            return Some(format!("back-dated: its change is not later than {highest}, which stands before it"));
        }
        self.highest = Some(step.change_id);
        let furthest = self.latest.saturating_add(i64::try_from(step.seq).unwrap_or(i64::MAX));
        if made > furthest {
            let (made, latest) = (time(made), time(self.latest));
            return Some(format!(
                "post-dated: its change's id was made at {made}, and nothing until here after {latest}"
            ));
        }
        // A writer that begins a change reads the clock once, for its id and its record.
        (step.place == RecordPlace::STARTED && made < at).then(|| {
            let (made, at) = (time(made), time(at));
            format!("back-dated: its change's id was made at {made}, and it began at {at}")
        })
    }
}

/// The time in an id: its first 48 bits.
fn milliseconds(change_id: [u8; 16]) -> i64 {
    change_id.iter().take(6).fold(0, |time, byte| time << 8 | i64::from(*byte))
}

fn name(step: &GrowthStep) -> String {
    format!("{}#{}", Uuid::from_bytes(step.change_id).hyphenated(), step.place)
}

fn time(milliseconds: i64) -> String {
    DateTime::from_timestamp_millis(milliseconds).map_or_else(|| format!("{milliseconds} ms"), rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;
    use crate::ledger::key::Attempt;
    use proptest::prelude::*;

    const BASE: i64 = 1_795_000_000_123;

    fn id(at: i64) -> [u8; 16] {
        ChangeId::new(DateTime::from_timestamp_millis(BASE + at).unwrap(), [7; 10]).to_bytes()
    }

    /// The first fault in records that are each given by the time of their change's id, their place, and their own
    /// time.
    fn fault(records: &[(i64, RecordPlace, i64)]) -> Option<(u64, String)> {
        let mut growth = Growth::default();
        (1..).zip(records).find_map(|(seq, (change, place, at))| {
            let step = GrowthStep { seq, change_id: id(*change), place: *place, at: Some(BASE + at) };
            growth.take(step).map(|what| (seq, what))
        })
    }

    #[test]
    fn what_writers_write_grows() {
        let second = RecordPlace::Started(Attempt::new(2).unwrap());
        let ledgers: [&[_]; 6] = [
            // One change after the other, with an outcome of the first one that came late.
            &[
                (0, RecordPlace::STARTED, 0),
                (0, RecordPlace::RESULT, 2_000),
                (9_000, RecordPlace::STARTED, 9_000),
                (0, RecordPlace::Later(2), 9_500),
                (9_000, RecordPlace::RESULT, 10_000),
            ],
            // An attempt that came a day later, behind another change's EXTERNAL record.
            &[(0, RecordPlace::STARTED, 0), (5_000, RecordPlace::RESULT, 5_000), (0, second, 86_400_000)],
            // The clocks of writers that began a change are 6 s apart; the second one's id runs ahead of its clock.
            &[(6_000, RecordPlace::STARTED, 6_000), (6_001, RecordPlace::STARTED, 0)],
            // Two of one millisecond.
            &[(0, RecordPlace::RESULT, 0), (1, RecordPlace::RESULT, 0), (2, RecordPlace::RESULT, 0)],
            // An event of a month ago; a recorder whose clock is minutes ahead of another's.
            &[(-2_500_000_000, RecordPlace::RESULT, 300_000), (-2_499_999_999, RecordPlace::RESULT, -300_000)],
            // A result after a record of a recorder whose clock is ahead.
            &[(0, RecordPlace::STARTED, 0), (240_000, RecordPlace::RESULT, 240_000), (0, RecordPlace::RESULT, 2_000)],
        ];
        for ledger in ledgers {
            assert_eq!(fault(ledger), None, "{ledger:?}");
        }
    }

    #[test]
    fn what_was_put_behind_others_under_an_earlier_time_is_a_fault() {
        let day = 86_400_000;
        for (ledger, seq, said) in [
            // The time of the record is wrong, however far its id runs ahead; a writer that began a change has compared
            // the clock.
            (
                vec![(0, RecordPlace::STARTED, 0), (0, RecordPlace::RESULT, 1_000), (1, RecordPlace::STARTED, -7_001)],
                3,
                "back-dated",
            ),
            (vec![(0, RecordPlace::STARTED, 0), (1, RecordPlace::STARTED, -7_001)], 2, "back-dated"),
            (vec![(day, RecordPlace::STARTED, day), (day, RecordPlace::RESULT, 0)], 2, "back-dated"),
            (vec![(day, RecordPlace::STARTED, day), (day + 1, RecordPlace::RESULT, 0)], 2, "back-dated"),
            // The id is wrong: it is lower, or of the same millisecond.
            (vec![(day, RecordPlace::STARTED, day), (0, RecordPlace::STARTED, day)], 2, "back-dated"),
            (vec![(day, RecordPlace::STARTED, day), (0, RecordPlace::RESULT, day)], 2, "back-dated"),
            // Both are wrong, after a ledger that ended long before: this is found only if they do not fit each other.
            (
                vec![(0, RecordPlace::STARTED, 0), (day, RecordPlace::STARTED, 2 * day)],
                2,
                "back-dated: its change's id was made",
            ),
            (vec![(0, RecordPlace::STARTED, 0), (2 * day, RecordPlace::RESULT, day)], 2, "post-dated"),
            (vec![(day, RecordPlace::RESULT, 0)], 1, "post-dated"),
        ] {
            let (found, what) = fault(&ledger).unwrap_or_else(|| panic!("{ledger:?}"));
            assert!(found == seq && what.starts_with(said), "{ledger:?}: {found}, {what}");
        }
        let untimed = GrowthStep { seq: 1, change_id: id(0), place: RecordPlace::RESULT, at: None };
        assert!(Growth::default().take(untimed).unwrap().contains("no time"));
    }

    #[test]
    fn two_ids_of_one_millisecond_are_nobody_s_doing() {
        let mut growth = Growth::default();
        let step = |seq, random| {
            let at = DateTime::from_timestamp_millis(BASE).unwrap();
            GrowthStep {
                seq,
                change_id: ChangeId::new(at, [random; 10]).to_bytes(),
                place: RecordPlace::RESULT,
                at: Some(BASE),
            }
        };
        assert_eq!(growth.take(step(1, 1)), None);
        assert!(growth.take(step(2, 2)).unwrap().contains("not later"));
    }

    proptest! {
        /// Whoever writes, by whatever clock within the bounds: what the writers' own rules produce is never reported as broken.
        #[test]
        fn no_correct_ledger_is_called_broken(
            writers in prop::collection::vec((0_i64..200_000, 0_u8..4, -1.0_f64..=1.0, 0_i64..2_000_000_000, any::<u8>()), 1..60),
        ) {
            let (mut now, mut highest, mut changes, mut records) = (BASE, 0, Vec::new(), Vec::new());
            for (passed, who, off, age, which) in writers {
                now += passed;
                #[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
                let by = |most: i64| now + (off * f64::from(i32::try_from(most).unwrap())) as i64;
                let own = changes.get(usize::from(which) % changes.len().max(1)).copied();
                let (change, place, at): (i64, _, _) = match (who, own) {
                    (0, Some(change)) => (change, RecordPlace::RESULT, by(300_000)),
                    (1, Some(change)) => (change, RecordPlace::Later(2), by(300_000)),
                    (2, _) => ((by(300_000) - age).max(highest + 1), RecordPlace::RESULT, by(300_000)),
                    _ => (by(3_000).max(highest + 1), RecordPlace::STARTED, by(3_000)),
                };
                if change > highest {
                    highest = change;
                    changes.push(change);
                }
                records.push((change - BASE, place, at - BASE));
            }
            prop_assert_eq!(fault(&records), None, "{:?}", records);
        }
    }
}
