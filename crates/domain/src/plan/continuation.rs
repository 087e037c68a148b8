//! Pure: what is left to do of a change that began in an earlier attempt. The change is continued as it was intended, member by member, and
//! nothing is overwritten that somebody else has set in the meantime.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::ecs::deployment::listed::said_of_primary;
use crate::ecs::service::{RecordedState, Snapshot};
use crate::ecs::task_definition::TaskDefinition;
use crate::error::Failure;
use crate::plan::Plan;
use crate::plan::difference::{Difference, DifferenceKind};
use crate::plan::parameters::{covers_parameter, has_parameter, is_untouched};
use crate::plan::update::Update;

/// Whether a member of a change is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    /// As before the change.
    Before,
    /// As the change wants it.
    Wanted,
    /// Somebody else set it.
    Foreign,
}

/// What is left to do.
#[derive(Debug, Clone)]
pub enum Remaining {
    /// Nothing.
    Nothing,
    /// This update.
    Update(Box<Update>),
    /// Somebody else has set these members in the meantime: each text says what the member is now.
    Foreign(Vec<String>),
    /// It is not known: what the change was to set was too long to record, and the service is not as wanted.
    NotRecorded,
    /// The service can no longer accept the change.
    Refused(Failure),
}

/// A change that is resumed, as its first `STARTED` record describes it, and the service as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Resumed<'a> {
    /// What it was to set; `None` if its record does not say.
    pub changes: Option<&'a [Difference]>,
    /// Whether its record does not say because it was too long.
    pub is_shortened: bool,
    /// The state before it.
    pub before: &'a RecordedState,
    /// The service now.
    pub snapshot: &'a Snapshot,
    /// What would be done if the change were started again from the state before it: the revision that it wants.
    pub wanted: Option<&'a Update>,
}

impl Resumed<'_> {
    /// Whether the change wants another revision, or another deployment, than the service had before, and the service still has the one
    /// from before.
    #[must_use]
    pub fn deploys_again(&self) -> bool {
        let members = self.changes.unwrap_or_default().iter().filter(|change| {
            matches!(
                change.what,
                DifferenceKind::Image
                    | DifferenceKind::Revision
                    | DifferenceKind::Definition
                    | DifferenceKind::Deployment
            )
        });
        members.clone().count() > 0 && members.map(|change| self.member(change)).all(|member| member == Member::Before)
    }

    /// Whether a task definition is what the change wants to run.
    #[must_use]
    pub fn wants(&self, definition: &TaskDefinition) -> bool {
        match self.wanted {
            Some(Update { revision: Some(revision), .. }) => definition.arn == revision.arn,
            Some(Update { register: Some(registration), .. }) => {
                definition.family == registration.family && definition.matches_registration(&registration.document)
            }
            // Either a deployment of what ran before, or a revision that is no longer available, of which only the images are known.
            _ => {
                let images =
                    self.changes.unwrap_or_default().iter().filter(|change| change.what == DifferenceKind::Image);
                let mut images = images.peekable();
                if images.peek().is_none() {
                    return self.before.state.task_definition_arn.as_ref() == Some(&definition.arn);
                }
                let has = definition.images();
                images.all(|change| has.get(&change.path).map(String::as_str) == change.to.as_str())
            }
        }
    }

    /// What is left of `plan`, which is made for the service as it is now. `hide` turns a parameter's value into its form in records.
    #[must_use]
    pub fn remaining(&self, plan: Plan, hide: &dyn Fn(&str, &Value) -> Value) -> Remaining {
        let changes = self.changes.unwrap_or_default();
        let state = |change: &Difference| match change.what {
            DifferenceKind::Parameter => self.parameter(change, hide),
            _ => self.member(change),
        };
        let foreign = changes.iter().filter(|change| state(change) == Member::Foreign).map(|change| self.told(change));
        let foreign: BTreeSet<String> = foreign.collect();
        if !foreign.is_empty() {
            return Remaining::Foreign(foreign.into_iter().collect());
        }
        let mut update = match plan {
            Plan::Update(update) => update,
            Plan::Unchanged { .. } => return Remaining::Nothing,
            Plan::Refused(failure) => return Remaining::Refused(failure),
        };
        // What is left could overwrite what somebody else has set, or force a deployment a second time.
        if self.is_shortened {
            return Remaining::NotRecorded;
        }
        // Records from before attempts were introduced do not say what was to be set.
        if self.changes.is_none() {
            return Remaining::Update(update);
        }
        let is_left = |what: DifferenceKind, path: &str| {
            changes.iter().any(|change| change.what == what && change.path == path && state(change) == Member::Before)
        };
        if !self.deploys_again() {
            (update.register, update.revision) = (None, None);
            update.images.clear();
        }
        update.force_new_deployment &= is_left(DifferenceKind::Deployment, "forceNewDeployment");
        update.parameters.retain(|name, _| is_left(DifferenceKind::Parameter, name));
        update.tags.set.retain(|key, _| is_left(DifferenceKind::Tag, key));
        update.tags.remove.retain(|key| is_left(DifferenceKind::Tag, key));
        if update.updates_service() || !update.tags.is_empty() { Remaining::Update(update) } else { Remaining::Nothing }
    }

    fn member(&self, change: &Difference) -> Member {
        match change.what {
            DifferenceKind::Image | DifferenceKind::Revision | DifferenceKind::Definition => self.definition(),
            DifferenceKind::Tag => {
                let has =
                    self.snapshot.service.tags.get(&change.path).map_or(Value::Null, |value| value.as_str().into());
                one_of(&has, &change.from, &change.to)
            }
            DifferenceKind::Deployment => {
                let service = &self.snapshot.service;
                let has_new = self.before.deployment_id.as_deref() != service.deployment_id();
                let is_rolled_back = said_of_primary(service).rolls_back == Some(true);
                match (has_new, self.definition()) {
                    (false, _) => Member::Before,
                    // Its own deployment, or a later one, was rolled back: the deployments that have ended since then show which.
                    (true, Member::Before | Member::Wanted) if is_rolled_back => Member::Before,
                    (true, Member::Foreign) if !self.has_deployed_what_was_there() => Member::Foreign,
                    (true, _) => Member::Wanted,
                }
            }
            DifferenceKind::Parameter => self.parameter(change, &|_, value| value.clone()),
            // What is done to a deployment under way is judged by the deployment, and never comes here.
            DifferenceKind::Rollout | DifferenceKind::Hook => Member::Before,
        }
    }

    /// Whether the change sets no revision, and the service has a deployment of what it already ran at that time, which somebody else had
    /// set.
    fn has_deployed_what_was_there(&self) -> bool {
        let sets_a_revision = self.changes.unwrap_or_default().iter().any(|change| {
            matches!(change.what, DifferenceKind::Image | DifferenceKind::Revision | DifferenceKind::Definition)
        });
        !sets_a_revision && said_of_primary(&self.snapshot.service).runs_what_ran_before()
    }

    fn definition(&self) -> Member {
        let running = self.snapshot.task_definition.as_deref();
        if running.is_some_and(|running| self.wants(running)) {
            Member::Wanted
        } else if running.map(|running| running.arn.as_str()) == self.before.state.task_definition_arn.as_deref() {
            Member::Before
        } else {
            Member::Foreign
        }
    }

    fn parameter(&self, change: &Difference, hide: &dyn Fn(&str, &Value) -> Value) -> Member {
        let name = change.path.as_str();
        if !self.snapshot.service.shows(name) {
            return Member::Before;
        }
        let has = self.snapshot.service.parameter(name).map(|value| hide(name, value));
        let has = has.as_ref();
        if has_parameter(name, has, &change.to) {
            Member::Wanted
        } else if is_untouched(name, has, Some(&change.from), &change.to) {
            Member::Before
        } else if covers_parameter(name, has, &change.to) {
            // It was set, and AWS has added more to it.
            Member::Wanted
        } else {
            Member::Foreign
        }
    }

    /// A member as it is now, for people.
    fn told(&self, change: &Difference) -> String {
        let name = match change.what {
            DifferenceKind::Image
            | DifferenceKind::Revision
            | DifferenceKind::Definition
            | DifferenceKind::Deployment
            | DifferenceKind::Rollout
            | DifferenceKind::Hook => {
                let running = self.snapshot.service.task_definition_arn().unwrap_or("no task definition of its own");
                return format!("it runs {running}");
            }
            DifferenceKind::Tag => format!("tag {}", change.path),
            DifferenceKind::Parameter => return format!("parameter {} has another value", change.path),
        };
        let has = self.snapshot.service.tags.get(&change.path);
        has.map_or_else(|| format!("{name} is gone"), |value| format!("{name} is {value:?}"))
    }
}

fn one_of(has: &Value, from: &Value, to: &Value) -> Member {
    if has == to {
        Member::Wanted
    } else if has == from {
        Member::Before
    } else {
        Member::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::service::Service;
    use crate::event::parse::{Defaults, Event, parse};
    use serde_json::json;

    fn snapshot(count: i64) -> Snapshot {
        let members = json!({"serviceArn": "arn:s", "clusterArn": "arn:c", "status": "ACTIVE", "desiredCount": count});
        let service = Service::new(members.as_object().unwrap().clone(), None).unwrap();
        Snapshot { service, task_definition: None }
    }

    fn plan(snapshot: &Snapshot) -> Plan {
        planned(snapshot, &json!({"service": {"desiredCount": 3}}))
    }

    fn planned(snapshot: &Snapshot, change: &Value) -> Plan {
        let mut event = json!({"account_id": "222222222222", "ecs_cluster_name": "prod", "ecs_service_name": "web"});
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let defaults = Defaults {
            account_id: None,
            region: crate::ids::Region::parse("eu-west-1").unwrap(),
            identity: crate::ids::Identity::Claimed,
        };
        let Ok(Event::One(request)) = parse(event.to_string().as_bytes(), &defaults) else { panic!("one") };
        crate::plan::plan(&request, snapshot, None)
    }

    /// As `UpdateService` would apply it: merged, or replaced whole.
    #[test]
    fn a_parameter_is_done_where_it_is_as_ecs_would_make_it() {
        let balancer = json!([{"targetGroupArn": "arn:t", "containerPort": 80}]);
        let mut advanced = balancer.clone();
        advanced[0]["advancedConfiguration"] = json!({"roleArn": "arn:r"});
        let mut more = balancer.clone();
        more[0]["later"] = json!(1);
        let with = |percent: u8, hooks: Value| json!({"maximumPercent": percent, "lifecycleHooks": hooks});
        let hooks = json!([{"hookTargetArn": "arn:h"}]);
        let set = json!({"lifecycleHooks": hooks});
        let deployment = "deploymentConfiguration";
        for (path, from, to, has, member) in [
            ("loadBalancers", &advanced, &balancer, &advanced, Member::Before),
            ("loadBalancers", &advanced, &balancer, &balancer, Member::Wanted),
            ("loadBalancers", &advanced, &balancer, &more, Member::Wanted),
            ("loadBalancers", &advanced, &balancer, &json!([]), Member::Foreign),
            // Other members do not matter.
            (deployment, &with(200, json!([])), &set, &with(150, json!([])), Member::Before),
            (deployment, &with(200, json!([])), &set, &with(150, hooks.clone()), Member::Wanted),
            (deployment, &with(200, json!([])), &set, &with(200, json!([{"hookTargetArn": "arn:i"}])), Member::Foreign),
        ] {
            let snapshot = Snapshot {
                service: Service::new(json!({path: has}).as_object().unwrap().clone(), None).unwrap(),
                task_definition: None,
            };
            let before = snapshot.recorded(None);
            let resumed =
                Resumed { changes: None, is_shortened: false, before: &before, snapshot: &snapshot, wanted: None };
            let (what, path) = (DifferenceKind::Parameter, path.to_owned());
            let change = Difference { what, path, from: from.clone(), to: to.clone() };
            assert_eq!(resumed.member(&change), member, "{has}");
        }
    }

    #[test]
    fn what_was_too_long_to_record_is_not_gone_on_with_blindly() {
        let before = snapshot(1).recorded(None);
        let remaining = |is_shortened, now: i64| {
            let snapshot = &snapshot(now);
            let resumed = Resumed { changes: None, is_shortened, before: &before, snapshot, wanted: None };
            resumed.remaining(plan(snapshot), &|_, value| value.clone())
        };
        assert!(matches!(remaining(true, 1), Remaining::NotRecorded));
        assert!(matches!(remaining(true, 2), Remaining::NotRecorded));
        assert!(matches!(remaining(true, 3), Remaining::Nothing), "all of it is done");
        // Records from before attempts were introduced do not say.
        assert!(matches!(remaining(false, 1), Remaining::Update(_)));
    }

    #[test]
    fn a_deployment_is_not_forced_twice_where_somebody_else_set_another_revision_before_the_first() {
        let service = |deployments: Value| {
            let members = json!({"serviceArn": "arn:s", "clusterArn": "arn:c", "status": "ACTIVE",
                "taskDefinition": deployments[0]["taskDefinition"], "deployments": deployments});
            let body = json!({"taskDefinition": {"taskDefinitionArn": members["taskDefinition"], "family": "web",
                "revision": 1, "containerDefinitions": [{"name": "web", "image": "nginx"}]}});
            let definition = TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap();
            let service = Service::new(members.as_object().unwrap().clone(), None).unwrap();
            Snapshot { service, task_definition: Some(definition.into()) }
        };
        let one = |id: &str, revision: &str, created_at: i64| {
            json!({"id": id, "status": if id == "3" { "PRIMARY" } else { "ACTIVE" }, "taskDefinition": revision,
                "createdAt": created_at})
        };
        let before = service(json!([{"id": "1", "status": "PRIMARY", "taskDefinition": "web:1", "createdAt": 10}]));
        let before = before.recorded(None);
        let forced = [Difference {
            what: DifferenceKind::Deployment,
            path: "forceNewDeployment".to_owned(),
            from: Value::Null,
            to: true.into(),
        }];
        let remaining = |now: &Snapshot| {
            let resumed =
                Resumed { changes: Some(&forced), is_shortened: false, before: &before, snapshot: now, wanted: None };
            resumed.remaining(planned(now, &json!({"force_new_deployment": true})), &|_, value| value.clone())
        };
        let forced_later = service(json!([one("3", "web:2", 30), one("2", "web:2", 20), one("1", "web:1", 10)]));
        assert!(matches!(remaining(&forced_later), Remaining::Nothing));
        let only_set = service(json!([one("3", "web:2", 30), one("1", "web:1", 10)]));
        assert!(matches!(remaining(&only_set), Remaining::Foreign(_)));
    }
}
