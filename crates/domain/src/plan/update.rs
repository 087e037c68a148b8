//! The steps of a change: what is registered, set and tagged.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::ecs::service::{ServiceState, TagState};
use crate::ecs::tags::TagDifference;
use crate::ecs::task_definition::TaskDefinition;
use crate::plan::difference::{Difference, NotRestored};

/// The steps of a change.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// The container that the change is about: the first whose image changes.
    pub container: Option<String>,
    /// Containers that the request is about, with the images it names.
    pub targets: BTreeMap<String, String>,
    /// Containers whose image changes: from, to.
    pub images: BTreeMap<String, (String, String)>,
    /// The new revision to register, where the definition differs.
    pub register: Option<Registration>,
    /// The old revision to go back to.
    pub revision: Option<Arc<TaskDefinition>>,
    /// Parameters that differ, as given.
    pub parameters: Map<String, Value>,
    /// Start a new deployment even where ECS would start none.
    pub force_new_deployment: bool,
    /// The difference of the service's tags.
    pub tags: TagDifference,
    /// Tags are set before `UpdateService` is called, so that the new tasks carry them.
    pub tags_first: bool,
    /// What the plan says to a person.
    pub changes: Vec<Difference>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// What a restore leaves as it is.
    pub not_restored: Vec<NotRestored>,
}

/// A new revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its family.
    pub family: String,
    /// Body for `RegisterTaskDefinition`.
    pub document: String,
}

/// What to say where a family has revisions between the one that a service ran and the one that was made from it: somebody registered them,
/// and what they say is in neither.
#[must_use]
pub fn passed_over(ran: &TaskDefinition, registered: &TaskDefinition) -> Option<String> {
    let (first, last) = (ran.revision()? + 1, registered.revision()?.checked_sub(1)?);
    if ran.family != registered.family || first > last {
        return None;
    }
    let family = &ran.family;
    let (between, were) = if first == last {
        (format!("revision {family}:{first}"), "was")
    } else {
        (format!("revisions {family}:{first} to {family}:{last}"), "were")
    };
    let (ran, registered) = (ran.family_and_revision(), registered.family_and_revision());
    Some(format!(
        "{between} {were} registered before {registered}, which was made from {ran}, the one that the service ran: what they say is not in it. If \
         somebody else meant to deploy them, look at them"
    ))
}

impl Update {
    /// Whether `UpdateService` is to be called.
    #[must_use]
    pub fn updates_service(&self) -> bool {
        self.register.is_some() || self.revision.is_some() || self.force_new_deployment || !self.parameters.is_empty()
    }

    /// Turns the state now into the state that would result. Which revision would run then is not known in advance.
    pub fn apply_to(&self, state: &mut ServiceState) {
        for (container, (_, to)) in &self.images {
            state.images.insert(container.clone(), to.clone());
            if state.task_definition_name.as_ref() == Some(container) {
                state.service_image = Some(to.clone());
            }
        }
        if self.register.is_some() {
            state.task_definition_arn = None;
        }
        if let Some(revision) = &self.revision {
            state.task_definition_arn = Some(revision.arn.clone());
        }
        state.tags.retain(|tag| !self.tags.remove.contains(&tag.key) && !self.tags.set.contains_key(&tag.key));
        let set = self.tags.set.iter().map(|(key, value)| TagState { key: key.clone(), value: value.clone() });
        state.tags.extend(set);
        state.tags.sort_by(|one, other| one.key.cmp(&other.key));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn revisions_between_are_told() {
        let definition = |family: &str, revision: u64| {
            let arn = format!("arn:aws:ecs:eu-west-1:222222222222:task-definition/{family}:{revision}");
            let body =
                json!({"taskDefinition": {"taskDefinitionArn": arn, "family": family, "containerDefinitions": []}});
            TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap()
        };
        let told = |ran, registered| passed_over(&definition("web", ran), &definition("web", registered));
        assert_eq!(told(7, 8), None);
        assert_eq!(told(7, 7), None);
        assert_eq!(told(7, 3), None);
        assert!(
            told(7, 9).unwrap().starts_with("revision web:8 was registered before web:9, which was made from web:7")
        );
        assert!(told(7, 12).unwrap().starts_with("revisions web:8 to web:11 were"));
        assert_eq!(passed_over(&definition("web", 7), &definition("api", 12)), None);
    }
}
