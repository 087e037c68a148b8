//! Pure: which change `restore: previous` means. If two people press the same button, one change is undone, once.

use std::collections::BTreeMap;

use super::past::PastChange;
use super::record::RawRecord;
use crate::ecs::service::Snapshot;
use crate::ids::ChangeId;

/// What `previous` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Previous {
    /// This change is to be undone.
    Change(ChangeId),
    /// The change was undone already.
    Undone {
        /// The change.
        change_id: ChangeId,
        /// The restore that undid it.
        by: ChangeId,
        /// The change before it, which has to be named to be undone.
        before: Option<ChangeId>,
    },
}

/// Examines the changes of a service, beginning with the newest.
#[derive(Debug, Default)]
pub struct Search<'a> {
    /// The service as it is now, which shows what a change left whose records do not know.
    now: Option<&'a Snapshot>,
    /// Changes that were undone by a restore which is itself in force, with that restore.
    undone: BTreeMap<ChangeId, ChangeId>,
    /// The newest change that left something and the restore that undid it, if it is undone; then the change before it
    /// is searched for.
    found: Option<(ChangeId, ChangeId)>,
}

impl<'a> Search<'a> {
    /// A search for the change that was the last to leave something in the service, which is `now`.
    #[must_use]
    pub fn new(now: &'a Snapshot) -> Self {
        Self { now: Some(now), ..Self::default() }
    }

    /// Examines the records of one more change, which is older than those before. Returns the answer once it is known.
    pub fn look(&mut self, records: &[RawRecord]) -> Option<Previous> {
        let is_meant = |change: &PastChange| change.has_started && change.result.is_some() && !change.is_action;
        let change = PastChange::read(records).filter(is_meant)?;
        let left_something = change.left_something(self.now);
        if let Some((change_id, by)) = &self.found {
            let is_before = change.restores.is_none() && left_something;
            return is_before.then(|| Previous::Undone {
                change_id: change_id.clone(),
                by: by.clone(),
                before: Some(change.change_id),
            });
        }
        let meant = match change.restores {
            Some(restored) if change.ended_well() => {
                if !self.undone.contains_key(&change.change_id) {
                    self.undone.entry(restored).or_insert(change.change_id);
                }
                return None;
            }
            // What failed is tried again: it means the same change.
            Some(restored) => restored,
            None if left_something => change.change_id,
            None => return None,
        };
        match self.undone.get(&meant) {
            None => Some(Previous::Change(meant)),
            Some(by) => {
                self.found = Some((meant, by.clone()));
                None
            }
        }
    }

    /// The answer where there are no more changes.
    #[must_use]
    pub fn end(self) -> Option<Previous> {
        self.found.map(|(change_id, by)| Previous::Undone { change_id, by, before: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    fn id(n: i64) -> ChangeId {
        ChangeId::new(DateTime::from_timestamp(1_795_000_000 + n, 0).unwrap(), [1; 10])
    }

    fn state(definition: &str) -> String {
        json!({"clusterArn": "c", "serviceArn": "s", "taskDefinitionName": "web", "taskDefinitionFamily": "web",
            "taskDefinitionArn": definition, "serviceImage": "i", "images": {}, "serviceMemory": null, "tags": [],
            "updatedOn": null, "deploymentId": null, "service": {}})
        .to_string()
    }

    /// A change that took the service from one definition to another, with a result and further records.
    fn change(n: i64, restores: Option<i64>, from: &str, to: &str, kinds: &[&str]) -> Vec<RawRecord> {
        let record = |(seq, kind): (usize, &&str)| {
            let mut record = json!({"change_id": id(n), "seq": seq, "kind": kind});
            if let Some(restored) = restores {
                record["restores"] = json!(id(restored));
            }
            if *kind != "STARTED" {
                record["before"] = state(from).into();
                record["after"] = state(to).into();
            }
            record.as_object().unwrap().clone()
        };
        kinds.iter().enumerate().map(record).collect()
    }

    /// Searches `changes`, which begin with the newest.
    fn previous(changes: &[Vec<RawRecord>]) -> Option<Previous> {
        let mut search = Search::default();
        changes.iter().find_map(|records| search.look(records)).or_else(|| search.end())
    }

    const APPLIED: [&str; 2] = ["STARTED", "APPLIED"];

    #[test]
    fn it_is_the_newest_change_that_left_something() {
        let changes = [
            change(7, None, "c", "c", &["UNCHANGED"]),
            change(6, None, "c", "c", &["STARTED", "FAILED"]),
            change(5, None, "c", "d", &["EXTERNAL"]),
            change(4, None, "b", "c", &["STARTED", "FAILED"]),
            change(3, None, "a", "b", &APPLIED),
        ];
        assert_eq!(previous(&changes), Some(Previous::Change(id(4))));
        assert_eq!(previous(&changes[4..]), Some(Previous::Change(id(3))));
        assert_eq!(previous(&changes[..3]), None);
    }

    #[test]
    fn what_stopped_or_continued_a_deployment_is_not_meant() {
        let mut stopped = change(4, None, "b", "b", &APPLIED);
        stopped[0].insert("action".to_owned(), "stop".into());
        assert_eq!(previous(&[stopped, change(3, None, "a", "b", &APPLIED)]), Some(Previous::Change(id(3))));
    }

    #[test]
    fn what_was_undone_is_not_undone_again_and_the_change_before_is_named() {
        let changes = [
            change(5, Some(4), "c", "b", &["STARTED", "APPLIED", "COMPLETED"]),
            change(4, None, "b", "c", &APPLIED),
            change(3, None, "a", "b", &APPLIED),
        ];
        let undone = |before| Previous::Undone { change_id: id(4), by: id(5), before };
        assert_eq!(previous(&changes), Some(undone(Some(id(3)))));
        assert_eq!(previous(&changes[..2]), Some(undone(None)));
        // If a change came after the restore, that change is meant.
        let mut later = vec![change(6, None, "b", "d", &APPLIED)];
        later.extend(changes);
        assert_eq!(previous(&later), Some(Previous::Change(id(6))));
    }

    #[test]
    fn a_restore_that_did_not_end_well_is_tried_again() {
        for kinds in
            [&["STARTED", "FAILED"][..], &["STARTED", "APPLIED", "ROLLED_BACK"], &["STARTED", "APPLIED", "STOPPED"]]
        {
            let changes = [change(5, Some(4), "c", "b", kinds), change(4, None, "b", "c", &APPLIED)];
            assert_eq!(previous(&changes), Some(Previous::Change(id(4))), "{kinds:?}");
        }
    }

    #[test]
    fn a_redo_puts_its_change_in_force_again() {
        let changes = [
            change(6, Some(5), "b", "c", &APPLIED),
            change(5, Some(4), "c", "b", &APPLIED),
            change(4, None, "b", "c", &APPLIED),
        ];
        assert_eq!(previous(&changes), Some(Previous::Change(id(4))));
    }
}
