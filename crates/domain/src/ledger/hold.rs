//! Pure: whether a push of an image would undo something that somebody did on purpose. A restored image stays until somebody changes the
//! image by hand, or a newer image is pushed under another tag. What somebody else deployed since the last push is not undone by a
//! repetition of that push: a registry that sends an event again, or a tag that is pushed again, does not express anybody's intention.

use std::collections::BTreeSet;

use serde_json::Value;

use super::past::{UNDONE_BY_ECS, text};
use super::record::RawRecord;
use crate::ecs::service::RecordedState;
use crate::ids::ChangeId;
use crate::image::{ImageReference, ResolvedImages, repository_of};

/// How many records are examined: a push has to be deployed while its plan is fresh. A restore that lies further back holds nothing.
const MAX_RECORDS: usize = 1_000;

/// Whether a push would undo something that somebody did on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// It would undo this restore.
    By(ChangeId),
    /// It repeats the last push, which this change deployed, and something else has been deployed since.
    Again(ChangeId),
    /// It would undo nothing.
    No,
}

/// Examines the changes of a service, beginning with the newest.
#[derive(Debug)]
pub struct Search<'a> {
    /// The image that was pushed, with its digest.
    image: &'a ImageReference,
    /// The tag under which it was pushed.
    tag: &'a str,
    /// The requester of the changes that deploy pushes.
    by: Option<&'a str>,
    /// Whether no restore holds it back; then the last push is searched for.
    is_free: bool,
    /// The last restore that set the images of this repository, and the images that it and the restores directly before it removed. Then
    /// the changes that had deployed those images are searched for, as they record the tags.
    restore: Option<(ChangeId, BTreeSet<String>)>,
    /// How many records were examined.
    seen: usize,
}

impl<'a> Search<'a> {
    /// A search for what holds `image` back from a service. It was pushed under `tag`, and `by` is the requester of the
    /// changes that deploy pushes.
    #[must_use]
    pub fn new(image: &'a ImageReference, tag: &'a str, by: Option<&'a str>) -> Self {
        Self { image, tag, by, is_free: false, restore: None, seen: 0 }
    }

    /// Examines the records of one more change, which is older than those before. Returns the answer once it is known.
    pub fn look(&mut self, records: &[RawRecord]) -> Option<Hold> {
        self.seen += records.len();
        let answer = if self.is_free {
            Some(Hold::No)
        } else {
            Images::read(records, self.image.repository()).and_then(|change| self.judge(change))
        };
        match answer {
            None => {}
            Some(Hold::No) => {
                self.is_free = true;
                if let Some(last) = self.last_push(records) {
                    return Some(last);
                }
            }
            held => return held,
        }
        (self.seen >= MAX_RECORDS).then_some(Hold::No)
    }

    /// The answer, if this change is the last push of the repository that the service received or already had: another push may be
    /// deployed. A push that failed, or that ECS rolled back, left nothing that somebody could have replaced.
    fn last_push(&self, records: &[RawRecord]) -> Option<Hold> {
        let by = self.by?;
        if kinds(records).any(|kind| UNDONE_BY_ECS.contains(&kind))
            || !kinds(records).any(|kind| ["APPLIED", "UNCHANGED"].contains(&kind))
            || !records.iter().any(|record| text(record, "requested_by") == Some(by))
        {
            return None;
        }
        let (asked, pinned) = pins(records).into_iter().find_map(|(asked, pinned)| {
            let asked =
                ImageReference::parse(&asked).ok().filter(|image| image.repository() == self.image.repository())?;
            Some((asked, ImageReference::parse(&pinned).ok()?))
        })?;
        let is_same = asked.tag() == Some(self.tag) && pinned.digest() == self.image.digest();
        let change_id = records.iter().find_map(|record| ChangeId::parse(text(record, "change_id")?).ok());
        Some(change_id.filter(|_| is_same).map_or(Hold::No, Hold::Again))
    }

    /// The answer, if this change, which set images of the repository, determines it.
    fn judge(&mut self, change: Images) -> Option<Hold> {
        let (by, taken) = match (self.restore.take(), change.restore) {
            (None, None) => return Some(Hold::No),
            // Of several restores in a row the newest one is named, and what each of them removed stays away.
            (restore, Some(restored)) => {
                let (by, mut taken) = restore.unwrap_or((restored, BTreeSet::new()));
                taken.extend(change.before.difference(&change.after).cloned());
                if taken.iter().any(|image| self.is_pushed(image)) {
                    return Some(Hold::By(by));
                }
                (by, taken)
            }
            // The change that deployed a removed image records its tag.
            (Some((by, mut taken)), None) => {
                let brought: BTreeSet<_> = change.after.difference(&change.before).collect();
                let is_its = |pinned: &String| brought.contains(pinned) && taken.contains(pinned);
                if change.pins.iter().any(|(asked, pinned)| is_its(pinned) && self.is_pushed(asked)) {
                    return Some(Hold::By(by));
                }
                taken.retain(|image| !brought.contains(image));
                (by, taken)
            }
        };
        // No removed image is left that could be pushed again.
        if taken.is_empty() {
            return Some(Hold::No);
        }
        self.restore = Some((by, taken));
        None
    }

    /// Whether this is the image that was pushed, or its tag.
    fn is_pushed(&self, image: &str) -> bool {
        ImageReference::parse(image).is_ok_and(|image| {
            image.repository() == self.image.repository()
                && (image.tag() == Some(self.tag) || image.digest().is_some() && image.digest() == self.image.digest())
        })
    }
}

/// What one change did to the images of a repository.
struct Images {
    /// The id of the change, if it is a restore.
    restore: Option<ChangeId>,
    before: BTreeSet<String>,
    after: BTreeSet<String>,
    pins: Vec<(String, String)>,
}

impl Images {
    /// `None` if the images stayed as they were, or ECS rolled them back.
    fn read(records: &[RawRecord], repository: &str) -> Option<Self> {
        if kinds(records).any(|kind| UNDONE_BY_ECS.contains(&kind)) {
            return None;
        }
        // With several attempts, compare the state before the first with the state after the last: one of them may have failed before it
        // changed anything.
        let seq = |record: &&RawRecord| record.get("seq").and_then(Value::as_u64);
        let mut records_by_seq: Vec<&RawRecord> = records.iter().collect();
        records_by_seq.sort_by_key(seq);
        let images = |record: &RawRecord, name| -> Option<Vec<String>> {
            let state: RecordedState = serde_json::from_str(text(record, name)?).ok()?;
            Some(state.state.images.into_values().collect())
        };
        let states = |record: &&RawRecord| Some((images(record, "before")?, images(record, "after")?));
        let (before, _) = records_by_seq.iter().find_map(states)?;
        let (_, after) = records_by_seq.iter().rev().find_map(states)?;
        let of = |images: Vec<String>| -> BTreeSet<String> {
            images.into_iter().filter(|image| repository_of(image) == repository).collect()
        };
        let (before, after) = (of(before), of(after));
        if before == after {
            return None;
        }
        let named = |name| records.iter().find_map(|record| text(record, name));
        let restore = named("restores").and(named("change_id")).and_then(|id| ChangeId::parse(id).ok());
        Some(Self { restore, before, after, pins: pins(records) })
    }
}

/// The kinds of a change's records.
fn kinds(records: &[RawRecord]) -> impl Iterator<Item = &str> {
    records.iter().filter_map(|record| text(record, "kind"))
}

/// The images that a change was asked for, each with the reference to which it was pinned.
fn pins(records: &[RawRecord]) -> Vec<(String, String)> {
    let pins = records.iter().find_map(|record| text(record, "resolved_images"));
    let pins: ResolvedImages = pins.and_then(|pins| serde_json::from_str(pins).ok()).unwrap_or_default();
    pins.0.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    const REPOSITORY: &str = "registry.example/app";

    fn id(n: i64) -> ChangeId {
        ChangeId::new(DateTime::from_timestamp(1_795_000_000 + n, 0).unwrap(), [1; 10])
    }

    fn image(n: u32) -> String {
        format!("{REPOSITORY}@sha256:{n:064x}")
    }

    fn state(image: &str) -> String {
        json!({"clusterArn": "c", "serviceArn": "s", "taskDefinitionName": "web", "taskDefinitionFamily": "web",
            "taskDefinitionArn": image, "serviceImage": image, "images": {"app": image, "proxy": "envoy:1"}, "serviceMemory": null,
            "tags": [], "updatedOn": null, "deploymentId": null, "service": {}})
        .to_string()
    }

    /// A change of the image, with further members of its records.
    fn change(n: i64, from: &str, to: &str, kinds: &[&str], more: &Value) -> Vec<RawRecord> {
        let record = |(seq, kind): (usize, &&str)| {
            let mut record = json!({"change_id": id(n), "seq": seq, "kind": kind});
            record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            if ["APPLIED", "FAILED", "UNCHANGED"].contains(kind) {
                record["before"] = state(from).into();
                record["after"] = state(if *kind == "FAILED" { from } else { to }).into();
            }
            record.as_object().unwrap().clone()
        };
        // In the order in which they are read: the newest comes first.
        kinds.iter().enumerate().map(record).rev().collect()
    }

    fn pushed(n: i64, from: u32, to: u32, tag: &str) -> Vec<RawRecord> {
        let pins = json!({format!("{REPOSITORY}:{tag}"): image(to)}).to_string();
        change(
            n,
            &image(from),
            &image(to),
            &["STARTED", "APPLIED"],
            &json!({"resolved_images": pins, "requested_by": "ecr-push"}),
        )
    }

    fn restored(n: i64, from: u32, to: u32, kinds: &[&str]) -> Vec<RawRecord> {
        change(n, &image(from), &image(to), kinds, &json!({"restores": id(n - 1)}))
    }

    const APPLIED: [&str; 2] = ["STARTED", "APPLIED"];

    /// The restore that holds a push back; `changes` begin with the newest.
    fn kept(changes: &[Vec<RawRecord>], pushed: u32, tag: &str) -> Option<ChangeId> {
        let image = ImageReference::parse(&image(pushed)).unwrap();
        match held(changes, &image, tag, Some("ecr-push")) {
            Hold::By(change_id) => Some(change_id),
            Hold::Again(change_id) => panic!("{change_id} again"),
            Hold::No => None,
        }
    }

    fn held(changes: &[Vec<RawRecord>], image: &ImageReference, tag: &str, by: Option<&str>) -> Hold {
        let mut search = Search::new(image, tag, by);
        changes.iter().find_map(|records| search.look(records)).unwrap_or(Hold::No)
    }

    #[test]
    fn the_last_push_again_undoes_nothing_that_came_behind_it() {
        let hotfix = || change(5, &image(2), &image(9), &APPLIED, &json!({"requested_by": "ann"}));
        let past_the_door = change(6, &image(9), &image(9), &["EXTERNAL"], &json!({}));
        let changes = [past_the_door, hotfix(), pushed(2, 1, 2, "stable"), pushed(1, 0, 1, "stable")];
        let of = |changes: &[Vec<RawRecord>], digest, tag| {
            let image = ImageReference::parse(&image(digest)).unwrap();
            held(changes, &image, tag, Some("ecr-push"))
        };
        assert_eq!(of(&changes, 2, "stable"), Hold::Again(id(2)));
        assert_eq!(of(&changes, 2, "release-2"), Hold::No, "under another tag it is a wish of its own");
        assert_eq!(of(&changes, 3, "stable"), Hold::No, "another image");
        assert_eq!(of(&changes, 1, "stable"), Hold::No, "an image from before: the tag went back");
        // A hotfix that also pins its image is not a push.
        let pins = json!({format!("{REPOSITORY}:stable"): image(2)}).to_string();
        let pinned = |by: &str, to: u32, kinds: &[&str]| {
            change(4, &image(1), &image(to), kinds, &json!({"requested_by": by, "resolved_images": pins}))
        };
        assert_eq!(of(&[hotfix(), pinned("ann", 2, &APPLIED)], 2, "stable"), Hold::No);
        let push = ImageReference::parse(&image(2)).unwrap();
        assert_eq!(held(&[hotfix(), pinned("ann", 2, &APPLIED)], &push, "stable", None), Hold::No);
        // A push of what the service already had counts as deployed; one that failed, or that ECS rolled back, does
        // not.
        assert_eq!(of(&[hotfix(), pinned("ecr-push", 1, &["UNCHANGED"])], 2, "stable"), Hold::Again(id(4)));
        for kinds in [
            &["STARTED", "FAILED"][..],
            &["STARTED", "APPLIED", "ROLLED_BACK"],
            &["STARTED", "ABANDONED"],
            &["STARTED"],
        ] {
            assert_eq!(of(&[pinned("ecr-push", 2, kinds)], 2, "stable"), Hold::No, "{kinds:?}: it is tried again");
            let behind = [hotfix(), pinned("ecr-push", 2, kinds), pushed(2, 1, 2, "stable")];
            assert_eq!(of(&behind, 2, "stable"), Hold::Again(id(2)), "{kinds:?}");
        }
        // A push to another repository.
        let other = ImageReference::parse(&image(2).replace("app", "other")).unwrap();
        assert_eq!(held(&changes, &other, "stable", Some("ecr-push")), Hold::No);
    }

    #[test]
    fn what_was_taken_back_does_not_come_again_by_its_digest_or_tag() {
        let changes = [restored(3, 2, 1, &APPLIED), pushed(2, 1, 2, "release-10"), pushed(1, 0, 1, "release-9")];
        assert_eq!(kept(&changes, 2, "release-10"), Some(id(3)), "the same push again");
        assert_eq!(kept(&changes, 2, "stable"), Some(id(3)), "the same image under another tag");
        assert_eq!(kept(&changes, 7, "release-10"), Some(id(3)), "another image under the same tag");
        assert_eq!(kept(&changes, 7, "release-11"), None, "a newer tag, pushed by name");
        assert_eq!(kept(&changes[1..], 7, "release-10"), None, "without a restore");
    }

    #[test]
    fn what_sets_no_image_lifts_no_hold_and_whoever_sets_one_does() {
        let changes = [
            change(9, &image(1), &image(1), &APPLIED, &json!({})),
            change(8, &image(1), &image(1), &["UNCHANGED"], &json!({})),
            change(7, &image(1), &image(1), &["STARTED", "FAILED"], &json!({})),
            // ECS rolled this change back.
            change(6, &image(1), &image(5), &["STARTED", "APPLIED", "ROLLED_BACK"], &json!({})),
            restored(3, 2, 1, &APPLIED),
            change(4, &image(2), &image(2), &APPLIED, &json!({})),
            pushed(2, 1, 2, "release-10"),
        ];
        assert_eq!(kept(&changes, 7, "release-10"), Some(id(3)));
        for (kinds, kept_by) in [
            (&["STARTED", "APPLIED"][..], None),
            (&["STARTED", "FAILED", "STARTED", "APPLIED"], None),
            // Its record does not say which image it deployed.
            (&["EXTERNAL"], Some(id(3))),
        ] {
            let mut later = vec![change(10, &image(1), &image(6), kinds, &json!({}))];
            later.extend(changes.clone());
            assert_eq!(kept(&later, 7, "release-10"), kept_by, "{kinds:?}");
        }
    }

    #[test]
    fn a_restore_that_took_two_attempts_and_restores_in_a_row_keep_what_they_took_back() {
        let twice = restored(3, 2, 1, &["STARTED", "FAILED", "STARTED", "APPLIED"]);
        let changes = [twice, pushed(2, 1, 2, "release-10"), pushed(1, 0, 1, "release-9")];
        assert_eq!(kept(&changes, 2, "release-10"), Some(id(3)));
        assert_eq!(kept(&changes, 7, "release-10"), Some(id(3)));
        let in_a_row = [
            restored(5, 8, 7, &APPLIED),
            restored(4, 9, 8, &APPLIED),
            pushed(3, 8, 9, "release-9"),
            pushed(2, 7, 8, "release-8"),
            pushed(1, 0, 7, "release-7"),
        ];
        for (digest, tag) in [(8, "x"), (9, "x"), (10, "release-8"), (10, "release-9")] {
            assert_eq!(kept(&in_a_row, digest, tag), Some(id(5)), "{digest} under {tag}");
        }
        assert_eq!(kept(&in_a_row, 10, "release-10"), None);
    }

    #[test]
    fn a_restore_that_lies_far_back_keeps_nothing_and_costs_little() {
        let mut changes: Vec<_> =
            (0..600).map(|n| change(2_000 - n, &image(1), &image(1), &APPLIED, &json!({}))).collect();
        changes.push(restored(3, 2, 1, &APPLIED));
        assert_eq!(kept(&changes, 2, "release-10"), None);
        let pushed = ImageReference::parse(&image(2)).unwrap();
        let mut search = Search::new(&pushed, "release-10", Some("ecr-push"));
        assert_eq!(changes.iter().position(|records| search.look(records).is_some()), Some(499));
        assert_eq!(kept(&changes[200..], 2, "release-10"), Some(id(3)));
    }

    #[test]
    fn a_restore_that_ecs_rolled_back_keeps_nothing() {
        let changes = [restored(3, 2, 1, &["STARTED", "APPLIED", "ROLLED_BACK"]), pushed(2, 1, 2, "release-10")];
        assert_eq!(kept(&changes, 7, "release-10"), None);
    }

    #[test]
    fn a_tag_that_was_deployed_without_its_digest_is_known_by_itself() {
        let changes = [change(
            3,
            &format!("{REPOSITORY}:release-10"),
            &format!("{REPOSITORY}:release-9"),
            &APPLIED,
            &json!({"restores": id(2)}),
        )];
        assert_eq!(kept(&changes, 7, "release-10"), Some(id(3)));
        assert_eq!(kept(&changes, 7, "release-11"), None);
        let other = ImageReference::parse(&image(7).replace("app", "other")).unwrap();
        assert_eq!(
            Search::new(&other, "release-10", None).look(&changes[0]),
            None,
            "of another repository nothing was restored"
        );
    }
}
