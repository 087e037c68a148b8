//! Pure: many updates at once: which of them share a session, in which order they are processed, and which of them fit into the time left.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::event::request::UpdateRequest;
use crate::ids::ServiceKey;
use crate::session_policy::{MAX_POLICY_CHARACTERS, SessionPurpose, session_policy};

/// The least and the most time that a change is assumed to need, however fast or slow those before it were.
const NEEDED: (Duration, Duration) = (Duration::from_secs(8), Duration::from_mins(1));

/// Indices of updates by what their sessions depend on: the requester, and the purpose.
type Sessions<'a> = BTreeMap<(Option<&'a str>, SessionPurpose), Vec<usize>>;

/// Groups updates by the session they share: those of one account, requester and purpose, as many as one session policy holds.
/// Accounts take turns, so that a large one does not keep the others waiting. Each group lists indices of `updates`.
#[must_use]
pub fn groups(updates: &[UpdateRequest]) -> Vec<Vec<usize>> {
    let mut by_account: BTreeMap<&str, Sessions<'_>> = BTreeMap::new();
    for (index, update) in updates.iter().enumerate() {
        let requesters = by_account.entry(update.service_key.account_id().as_str()).or_default();
        requesters.entry((update.requested_by.as_deref(), update.purpose())).or_default().push(index);
    }
    let mut turns: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
    for requesters in by_account.into_values() {
        let groups = requesters.into_values().flat_map(|mut indices| {
            // Services of one cluster are described together.
            indices.sort_by_key(|index| {
                let key = &updates[*index].service_key;
                (key.region(), key.cluster().to_owned())
            });
            by_policy(updates, &indices)
        });
        for (turn, group) in groups.enumerate() {
            turns.entry(turn).or_default().push(group);
        }
    }
    turns.into_values().flatten().collect()
}

/// Splits where the policy would exceed what STS accepts.
fn by_policy(updates: &[UpdateRequest], indices: &[usize]) -> Vec<Vec<usize>> {
    let purpose = indices.first().map_or(SessionPurpose::Change, |index| updates[*index].purpose());
    let fits = |group: &[usize]| {
        session_policy(&services(updates, group), purpose).is_ok_and(|policy| policy.len() <= MAX_POLICY_CHARACTERS)
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in indices {
        match groups.last_mut() {
            Some(group) => {
                group.push(*index);
                if !fits(group) {
                    group.pop();
                    groups.push(vec![*index]);
                }
            }
            None => groups.push(vec![*index]),
        }
    }
    groups
}

fn services<'a>(updates: &'a [UpdateRequest], group: &[usize]) -> Vec<&'a ServiceKey> {
    group.iter().map(|index| &updates[*index].service_key).collect()
}

/// Whether a change can begin with this much time left until the deadline, judging by how long the slowest one so far took.
#[must_use]
pub fn fits(left: Duration, slowest: Duration) -> bool {
    left >= (slowest + slowest / 2).clamp(NEEDED.0, NEEDED.1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::parse::{Defaults, parse_one};
    use crate::ids::{AccountId, Region};

    fn update(account: &str, region: &str, cluster: &str, service: &str, requested_by: &str) -> UpdateRequest {
        let event = json!({"account_id": account, "region": region, "ecs_cluster_name": cluster,
            "ecs_service_name": service, "ecs_image_name": "nginx", "requested_by": requested_by});
        let defaults = Defaults {
            account_id: AccountId::parse("111111111111").ok(),
            region: Region::parse("eu-west-1").unwrap(),
            identity: crate::ids::Identity::Claimed,
        };
        parse_one(&event.to_string(), &defaults).unwrap()
    }

    #[test]
    fn a_session_is_of_one_account_and_requester_and_accounts_take_turns() {
        let (a, b) = ("222222222222", "333333333333");
        let updates = [
            update(b, "eu-west-1", "c", "s1", "ann"),
            update(a, "us-east-1", "c", "s1", "ann"),
            update(a, "eu-west-1", "d", "s2", "bob"),
            update(a, "eu-west-1", "c", "s3", "ann"),
            update(a, "eu-west-1", "c", "s4", "ann"),
        ];
        assert_eq!(groups(&updates), [vec![3, 4, 1], vec![0], vec![2]]);
        assert!(groups(&[]).is_empty());
    }

    #[test]
    fn no_policy_is_wider_or_longer_than_sts_takes_and_nothing_is_lost() {
        let account = "222222222222";
        for length in [1, 20, 60, 255] {
            let updates: Vec<_> = (0..40)
                .map(|n| {
                    update(
                        account,
                        "eu-west-1",
                        &"c".repeat(length),
                        &format!("{}{n:02}", "s".repeat(length.min(253))),
                        "ann",
                    )
                })
                .collect();
            let groups = groups(&updates);
            for group in &groups {
                let policy = session_policy(&services(&updates, group), SessionPurpose::Change).unwrap();
                assert!(policy.len() <= MAX_POLICY_CHARACTERS, "{}", policy.len());
            }
            let mut all = groups.concat();
            all.sort_unstable();
            assert_eq!(all, (0..40).collect::<Vec<_>>());
            assert!(groups.iter().rev().skip(1).all(|group| group.len() > 1 || length == 255), "{groups:?}");
        }
    }

    #[test]
    fn what_a_change_takes_is_weighed_against_the_time_left() {
        let seconds = Duration::from_secs;
        assert!(fits(seconds(8), seconds(0)));
        assert!(!fits(seconds(7), seconds(0)));
        assert!(!fits(seconds(29), seconds(20)));
        assert!(fits(seconds(30), seconds(20)));
        assert!(fits(seconds(60), seconds(500)));
    }
}
