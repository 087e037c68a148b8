//! Events of Amazon ECR and mappings: whatever a push leads to, the updater takes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use domain::ecr_push::{Mapping, Message, Push, groups};
use domain::event::parse::parse;
use domain::registry::manifest::is_tag_of_artifact;
use serde_json::{Value, json};

const REPOSITORY: &str = "111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app";

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (groups, others) = groups(
        ["m-1", "m-2"].map(|id| Message { id: id.to_owned(), body: text.to_owned(), received: 1, group: None }),
        &Mapping::default(),
    );
    assert_eq!(groups.len() + usize::from(!others.is_empty()), 1, "a message is a push, or is none");
    for group in &groups {
        assert_eq!(group.iter().map(|delivery| delivery.message.as_str()).collect::<Vec<_>>(), ["m-1", "m-2"]);
        pushed(&group[0].push);
    }
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        mapped(text, &value);
    }
}

fn pushed(push: &Push) {
    let image = push.image().unwrap();
    assert_eq!(
        (image.repository(), image.tag(), image.digest()),
        (push.repository.as_str(), Some(push.tag.as_str()), None)
    );
    // A mapping of this very repository, if it is one of ECR.
    let mapping = json!([{"repository": push.repository, "tags": ["*"], "ecs_cluster_name": "c", "targets": [{"ecs_service_name": "s"}]}]);
    if let Ok(mapping) = Mapping::parse(&mapping.to_string(), &super::event::defaults()) {
        assert_eq!(mapping.is_about(push), !is_tag_of_artifact(&push.tag));
        // What SQS takes for the id of a group.
        let group = mapping.group(&push.repository);
        assert!((1..=128).contains(&group.len()) && group.chars().all(|each| each.is_ascii_graphic()), "{group}");
        taken(&mapping, push);
    }
}

fn mapped(text: &str, value: &Value) {
    let defaults = super::event::defaults();
    match Mapping::parse(text, &defaults) {
        Err(why) => assert!(!why.is_empty()),
        Ok(mapping) => {
            static PUSH: OnceLock<Push> = OnceLock::new();
            let push = PUSH.get_or_init(|| Push {
                id: "6d6a1f3e-0000-4000-8000-000000000001".to_owned(),
                repository: REPOSITORY.to_owned(),
                tag: "release-7".to_owned(),
                digest: format!("sha256:{}", "7".repeat(64)),
                at: None,
            });
            for rule in value.as_array().unwrap() {
                let repository = rule["repository"].as_str().unwrap().to_owned();
                let push = Push { repository, ..push.clone() };
                // With its tag it would be longer than an image may be: no push of it is read.
                if push.repository.chars().count() > 240 {
                    continue;
                }
                assert!(push.image().is_some(), "{} is no repository that can be pushed to", push.repository);
                taken(&mapping, &push);
            }
        }
    }
}

fn taken(mapping: &Mapping, push: &Push) {
    let events = mapping.changes(push, &BTreeMap::new()).events;
    assert_eq!(events.is_empty(), !mapping.is_about(push));
    for event in events {
        if let Err(failure) = parse(&serde_json::to_vec(&event).unwrap(), &super::event::defaults()) {
            panic!("{push:?}: {failure}");
        }
    }
}
