//! Tags: the difference between the tags a service has and those it shall have. Pure.
//!
//! `schema/update-event.schema.json` says which keys and values are accepted at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// How many user tags an ECS resource may have; tags of AWS do not count ("Tag restrictions" in the Amazon ECS
/// developer guide).
pub const MAX_TAGS: usize = 50;

/// What has to be done to a service's tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagDifference {
    /// The tags to add, and those to give another value.
    pub set: BTreeMap<String, String>,
    /// The keys to remove.
    pub remove: BTreeSet<String>,
    /// The user tags afterwards. A merge may result in more than [`MAX_TAGS`], which AWS would refuse.
    pub result: BTreeMap<String, String>,
    /// Whether adding before removing would exceed [`MAX_TAGS`]. Otherwise tags are added first, so that a failure in between never leaves
    /// fewer tags than before.
    pub remove_first: bool,
}

impl TagDifference {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// What has to be done so that a service with the tags `current` has those of `change`.
///
/// Tags of AWS in `current` are left alone: never removed, never counted, and not in the result.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use domain::ecs::tags::{TagChange, TagMode, difference};
///
/// let tags = |tags: &[(&str, &str)]| -> BTreeMap<String, String> {
///     tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
/// };
/// let current = tags(&[("aws:cloudformation:stack-name", "s"), ("team", "a"), ("stage", "prod")]);
/// let replace = TagChange { mode: TagMode::Replace, tags: tags(&[("team", "b")]) };
/// let steps = difference(&current, &replace);
/// assert_eq!(steps.set, tags(&[("team", "b")]));
/// assert!(steps.remove.iter().eq(["stage"]));
/// ```
#[must_use]
pub fn difference(current: &BTreeMap<String, String>, change: &TagChange) -> TagDifference {
    let own: BTreeMap<_, _> =
        current.iter().filter(|(key, _)| !is_reserved(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut result = change.tags.clone();
    if change.mode == TagMode::Merge {
        for (key, value) in &own {
            result.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let set: BTreeMap<_, _> = result
        .iter()
        .filter(|(key, value)| own.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let remove: BTreeSet<_> = own.keys().filter(|key| !result.contains_key(*key)).cloned().collect();
    let remove_first = !remove.is_empty() && remove.len() + result.len() > MAX_TAGS;
    TagDifference { set, remove, result, remove_first }
}

/// Whether a tag key (or value) is one of AWS: it starts with `aws:`, in any case ("Tag restrictions" in the Amazon
/// ECS developer guide).
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    key.as_bytes().get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"aws:"))
}

/// What happens to tags that the event does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagMode {
    /// They are removed: afterwards the service has exactly the tags of the event.
    #[default]
    Replace,
    /// They stay.
    Merge,
}

/// The tags the event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    /// What happens to the other tags.
    pub mode: TagMode,
    /// Key to value; none of them is one of AWS.
    pub tags: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn numbered(keys: std::ops::Range<usize>) -> BTreeMap<String, String> {
        keys.map(|number| (format!("key-{number:03}"), "value".to_owned())).collect()
    }

    #[test]
    fn differences() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        /// Mode, current, asked for; set, remove, result.
        type Case<'a> = (TagMode, Pairs<'a>, Pairs<'a>, Pairs<'a>, &'a [&'a str], Pairs<'a>);
        let cases: &[Case] = &[
            (TagMode::Replace, &[], &[], &[], &[], &[]),
            (TagMode::Replace, &[("a", "1")], &[], &[], &["a"], &[]),
            (TagMode::Merge, &[("a", "1")], &[], &[], &[], &[("a", "1")]),
            (TagMode::Replace, &[("a", "1")], &[("a", "1")], &[], &[], &[("a", "1")]),
            (TagMode::Replace, &[("a", "1")], &[("a", "2")], &[("a", "2")], &[], &[("a", "2")]),
            (TagMode::Replace, &[("a", "1")], &[("A", "1")], &[("A", "1")], &["a"], &[("A", "1")]),
            (TagMode::Replace, &[("a", "1")], &[("b", "")], &[("b", "")], &["a"], &[("b", "")]),
            (TagMode::Merge, &[("a", "1")], &[("b", "")], &[("b", "")], &[], &[("a", "1"), ("b", "")]),
            (TagMode::Merge, &[("a", "1")], &[("a", "2")], &[("a", "2")], &[], &[("a", "2")]),
            (TagMode::Replace, &[("aws:ecs:clusterName", "c"), ("AWS:x", "y")], &[], &[], &[], &[]),
            (
                TagMode::Merge,
                &[("aWs:x", "y"), ("a", "1")],
                &[("b", "2")],
                &[("b", "2")],
                &[],
                &[("a", "1"), ("b", "2")],
            ),
        ];
        for (mode, current, asked, set, remove, result) in cases {
            let change = TagChange { mode: *mode, tags: tags(asked) };
            let difference = difference(&tags(current), &change);
            let expected = TagDifference {
                set: tags(set),
                remove: remove.iter().map(|key| (*key).to_owned()).collect(),
                result: tags(result),
                remove_first: false,
            };
            assert_eq!(difference, expected, "{mode:?} {current:?} {asked:?}");
            assert_eq!(difference.is_empty(), set.is_empty() && remove.is_empty());
        }
    }

    #[test]
    fn removal_goes_first_only_where_fifty_would_be_passed() {
        for (current, asked, remove_first) in [
            (0..25, 25..50, false),
            (0..25, 25..51, true),
            (0..50, 50..51, true),
            (0..50, 0..50, false),
            (0..50, 0..49, false),
            (0..50, 1..50, false),
            (0..50, 1..51, true),
        ] {
            let mut current = numbered(current);
            current.insert("aws:cloudformation:stack-name".to_owned(), "not counted".to_owned());
            let change = TagChange { mode: TagMode::Replace, tags: numbered(asked) };
            assert_eq!(difference(&current, &change).remove_first, remove_first, "{current:?} {change:?}");
        }
    }

    #[test]
    fn a_merge_over_the_limit_can_be_seen() {
        let change = TagChange { mode: TagMode::Merge, tags: numbered(50..51) };
        let difference = difference(&numbered(0..50), &change);
        assert_eq!(difference.result.len(), MAX_TAGS + 1);
        assert!(!difference.remove_first);
    }

    #[test]
    fn reserved_keys() {
        for key in ["aws:", "aws:x", "AWS:x", "aWs:ecs:clusterName"] {
            assert!(is_reserved(key), "{key:?}");
        }
        for key in ["", "aws", "aws-x", "awsx:", "xaws:", " aws:", "äws:", "a", "äöü"] {
            assert!(!is_reserved(key), "{key:?}");
        }
    }

    fn few_tags() -> impl Strategy<Value = BTreeMap<String, String>> {
        btree_map("(aws:|AWS:|)[a-c]", "[xy]?", 0..6)
    }

    proptest! {
        /// Applying the difference leads to its result, touches no tag of AWS, and leaves nothing to do.
        #[test]
        fn applied_it_gives_the_result(current in few_tags(), asked in few_tags(), merge: bool) {
            let asked: BTreeMap<_, _> = asked.into_iter().filter(|(key, _)| !is_reserved(key)).collect();
            let mode = if merge { TagMode::Merge } else { TagMode::Replace };
            let change = TagChange { mode, tags: asked.clone() };
            let todo = difference(&current, &change);

            let mut after = current.clone();
            for key in &todo.remove {
                prop_assert!(after.remove(key).is_some(), "removes {key}, which is not there");
            }
            after.extend(todo.set.clone());

            let of_aws = |tags: &BTreeMap<String, String>| -> BTreeMap<String, String> {
                tags.iter().filter(|(key, _)| is_reserved(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
            };
            prop_assert_eq!(of_aws(&after), of_aws(&current));
            let mut own = after.clone();
            own.retain(|key, _| !is_reserved(key));
            prop_assert_eq!(&own, &todo.result);
            for (key, value) in &asked {
                prop_assert_eq!(own.get(key), Some(value));
            }
            if !merge {
                prop_assert_eq!(own, asked);
            }
            prop_assert!(todo.set.iter().all(|(key, value)| current.get(key) != Some(value)), "sets what is there");
            prop_assert!(difference(&after, &change).is_empty());
        }
    }
}
