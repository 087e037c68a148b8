//! What puts a service back into the state from before a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::ecs::service::{IN_REVISION, PARAMETERS, RecordedState, Snapshot};
use crate::ecs::tags::{self, TagChange, TagMode};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::error::Failure;
use crate::event::request::UpdateRequest;
use crate::ids::ChangeId;
use crate::ledger::hidden::{HiddenKey, revealed};
use crate::plan::controller::{check_deployment_controller, takes};
use crate::plan::deployment_configuration::{MERGED, put_back};
use crate::plan::desired::Desired;
use crate::plan::images::{differing_images, registration};
use crate::plan::parameters::{differing_parameters, same_parameter};

/// What a restore puts back.
#[derive(Debug, Clone)]
pub struct RestoreNotes {
    /// The change that is undone: what is put back is the state from before it.
    pub change_id: ChangeId,
    /// The state before that change, from its record.
    pub before: RecordedState,
    /// The task definition from before that change, as AWS has it now.
    pub definition: OldDefinition,
    /// The key by which values that may be secret are compared, where the record has any.
    pub hidden: Option<HiddenKey>,
}

/// A task definition that a restore goes back to, as AWS has it now.
#[derive(Debug, Clone)]
pub enum OldDefinition {
    /// The service runs it, or ran none.
    InPlace,
    /// Services can be given it.
    Active(Arc<TaskDefinition>),
    /// It was deregistered: its copy can be registered.
    Inactive(Arc<TaskDefinition>),
    /// AWS no longer has it.
    Gone,
}

pub(super) fn restored(
    request: &UpdateRequest,
    snapshot: &Snapshot,
    restore: &RestoreNotes,
) -> Result<Desired, Failure> {
    let mut wanted = Desired {
        notes: vec![format!("this puts back what was there before change {}", restore.change_id)],
        ..Desired::default()
    };
    restore_definition(&mut wanted, snapshot, restore)?;
    restore_parameters(&mut wanted, request, snapshot, restore);
    let has_definition = wanted.register.is_some() || wanted.revision.is_some();
    check_deployment_controller(request, snapshot, has_definition, &wanted.parameters)?;
    let tags = restore.before.state.tags.iter().filter(|tag| !tags::is_reserved(&tag.key));
    let tags = tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect();
    wanted.tags = tags::difference(&snapshot.service.tags, &TagChange { mode: TagMode::Replace, tags });
    Ok(wanted)
}

/// Puts back the old revision if services can be given it, otherwise its copy, otherwise the old images in the definition that runs now.
fn restore_definition(wanted: &mut Desired, snapshot: &Snapshot, restore: &RestoreNotes) -> Result<(), Failure> {
    let current = snapshot.task_definition.as_deref();
    let old = &restore.before.state;
    let name = old.task_definition_arn.as_deref().map_or("its task definition", family_and_revision);
    wanted.targets.clone_from(&old.images);
    match &restore.definition {
        OldDefinition::InPlace => {}
        OldDefinition::Active(definition) => wanted.revision = Some(Arc::clone(definition)),
        OldDefinition::Inactive(definition) => {
            let copy = registration(definition, &BTreeMap::new())?;
            if !current.is_some_and(|current| current.matches_registration(&copy.document)) {
                wanted.notes.push(format!("{name} was deregistered since: its copy is registered as a new revision"));
                wanted.register = Some(copy);
            }
        }
        OldDefinition::Gone => {
            wanted.notes.push(format!(
                "AWS no longer has {name}: the definition that runs now gets the old images, and whatever else differed \
                 between the two stays as it is now"
            ));
            if let Some(current) = current {
                wanted.targets.retain(|name, _| current.containers.iter().any(|container| container.name == *name));
                let images = differing_images(&wanted.targets, Some(current));
                if !images.is_empty() {
                    wanted.register = Some(registration(current, &images)?);
                }
            }
        }
    }
    if wanted.register.is_some() || wanted.revision.is_some() {
        wanted.images = differing_images(&wanted.targets, current);
    }
    Ok(())
}

fn unset(what: &str) -> String {
    format!("{what} was not set before, and UpdateService cannot unset it: it stays")
}

/// Puts back parameters exactly as they were; those that were not set are cleared, if `UpdateService` can do that. What AWS has filled in
/// since then is not a difference.
fn restore_parameters(wanted: &mut Desired, request: &UpdateRequest, snapshot: &Snapshot, restore: &RestoreNotes) {
    // CodeDeploy swaps target groups with each deployment: what a controller sets itself is no reason to refuse the rest of a restore.
    let type_of = |controller: &Value| controller.get("type").and_then(Value::as_str).map(str::to_owned);
    let before = restore.before.service.get("deploymentController").and_then(type_of);
    let controller = match before.as_deref() {
        Some("ECS") => "ECS",
        _ => snapshot.service.deployment_controller(),
    };
    // Restoring `desiredCount` would conflict with the autoscaler; and what only a service revision shows is read only if the event names
    // it.
    for name in PARAMETERS.into_iter().filter(|name| *name != "desiredCount" && !IN_REVISION.contains(name)) {
        let is = snapshot.service.parameter(name);
        let was = restore.before.service.get(name).filter(|was| !was.is_null());
        let known = was.map(|was| {
            let is = is.unwrap_or(&Value::Null);
            revealed(restore.hidden.as_ref(), &request.service_key, name, was, is)
        });
        let was = match &known {
            Some(None) if request.left_alone.contains(name) => None,
            Some(None) => {
                wanted.notes.push(format!(
                    "{name} held values that may be secret, which records do not have, and has others now: it stays as it is. \
                     Set it with `service`"
                ));
                continue;
            }
            Some(was) => was.as_ref(),
            None => None,
        };
        if same_parameter(name, is, was) {
            continue;
        }
        if !takes(controller, name) {
            wanted.notes.push(format!(
                "{name} differs and stays as it is: UpdateService does not take it under the deployment controller {controller}"
            ));
            continue;
        }
        if request.left_alone.contains(name) {
            wanted.notes.push(format!("{name} differs and stays as it is: the event gives null for it"));
            continue;
        }
        if name == MERGED {
            let (back, stays) = put_back(was, is);
            wanted.parameters.extend(back.map(|back| (name.to_owned(), back)));
            wanted.notes.extend(stays.iter().map(|member| unset(&format!("{name}.{member}"))));
            continue;
        }
        match was.cloned().or_else(|| cleared(name)) {
            Some(was) if same_parameter(name, is, Some(&was)) => {}
            Some(was) => _ = wanted.parameters.insert(name.to_owned(), was),
            None => wanted.notes.push(unset(name)),
        }
    }
    let (asked, notes) = differing_parameters(&request.parameters, snapshot);
    wanted.parameters.extend(asked);
    wanted.notes.extend(notes);
}

/// The value that means "not set" to `UpdateService`. Source:
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
fn cleared(parameter: &str) -> Option<Value> {
    match parameter {
        "loadBalancers"
        | "serviceRegistries"
        | "capacityProviderStrategy"
        | "placementConstraints"
        | "placementStrategy"
        | "volumeConfigurations"
        | "vpcLatticeConfigurations" => Some(Value::Array(Vec::new())),
        "enableExecuteCommand" | "enableECSManagedTags" => Some(false.into()),
        "healthCheckGracePeriodSeconds" => Some(0.into()),
        "propagateTags" => Some("NONE".into()),
        // "If the service never had an AvailabilityZoneRebalancing value set, Amazon ECS treats this as DISABLED."
        "availabilityZoneRebalancing" => Some("DISABLED".into()),
        "serviceConnectConfiguration" => Some(serde_json::json!({"enabled": false})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Code;
    use crate::plan::tests::{one, request, snapshot};
    use crate::plan::update::Update;
    use crate::plan::{Plan, plan};

    fn definition(arn: &str, status: &str, image: &str) -> TaskDefinition {
        let body = json!({"taskDefinition": {"taskDefinitionArn": arn, "family": "web", "status": status, "cpu": "256",
            "containerDefinitions": [{"name": "web", "image": image}]}});
        TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap()
    }

    /// Plans to put back a state with `nginx:1` in `web:6`, one tag and these parameters.
    fn restoring(more: &Value, was: &Value, is: &Value, definition: OldDefinition) -> Plan {
        let mut before = snapshot(&json!({"tags": [{"key": "was", "value": "1"}]}), &one()).recorded(None);
        before.state.task_definition_arn = Some("arn:aws:ecs:eu-west-1:222222222222:task-definition/web:6".to_owned());
        before.state.images = BTreeMap::from([("web".to_owned(), "nginx:1".to_owned())]);
        before.service = was.as_object().unwrap().clone();
        let restore = RestoreNotes {
            change_id: ChangeId::new(chrono::DateTime::UNIX_EPOCH, [1; 10]),
            before,
            definition,
            hidden: None,
        };
        let mut event = json!({"restore": "previous"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan(&request(&event), &snapshot(is, &one()), Some(&restore))
    }

    fn restores(more: &Value, was: &Value, is: &Value, definition: OldDefinition) -> Update {
        match restoring(more, was, is, definition) {
            Plan::Update(update) => *update,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_restore_goes_back_to_the_old_revision_or_its_copy_or_its_images() {
        let none = json!({});
        let active =
            restores(&none, &none, &none, OldDefinition::Active(Arc::new(definition("web:6", "ACTIVE", "nginx:1"))));
        assert_eq!(active.revision.unwrap().arn, "web:6");
        assert!(active.register.is_none() && active.images["web"] == ("busybox".to_owned(), "nginx:1".to_owned()));

        let copied = restores(
            &none,
            &none,
            &none,
            OldDefinition::Inactive(Arc::new(definition("web:6", "INACTIVE", "nginx:1"))),
        );
        let document: Value = serde_json::from_str(&copied.register.unwrap().document).unwrap();
        assert_eq!(
            (&document["cpu"], &document["containerDefinitions"][0]["image"]),
            (&json!("256"), &json!("nginx:1"))
        );
        assert!(copied.notes.iter().any(|note| note.contains("web:6 was deregistered")), "{:?}", copied.notes);

        let gone = restores(&none, &none, &none, OldDefinition::Gone);
        let document: Value = serde_json::from_str(&gone.register.unwrap().document).unwrap();
        assert_eq!((document.get("cpu"), &document["containerDefinitions"][0]["image"]), (None, &json!("nginx:1")));
        assert!(gone.notes.iter().any(|note| note.contains("no longer has web:6")), "{:?}", gone.notes);

        let in_place = restores(&none, &none, &none, OldDefinition::InPlace);
        assert!(!in_place.updates_service() && in_place.tags.set.contains_key("was"));
        assert!(in_place.tags.remove.contains("old") && !in_place.tags.remove.contains("aws:x"));
    }

    #[test]
    fn a_restore_puts_parameters_back_to_the_letter_but_the_desired_count() {
        let was = json!({"desiredCount": 2, "loadBalancers": [], "enableExecuteCommand": false,
            "deploymentConfiguration": {"maximumPercent": 200}, "placementConstraints": [{"type": "distinctInstance"}]});
        let is = json!({"desiredCount": 9, "loadBalancers": [{"containerPort": 80}], "enableExecuteCommand": true,
            "deploymentConfiguration": {"maximumPercent": 200, "alarms": {"alarmNames": ["a"], "enable": true, "rollback": true}},
            "healthCheckGracePeriodSeconds": 30,
            "platformVersion": "1.4.0", "placementConstraints": [{"type": "distinctInstance"}]});
        let back = restores(&json!({}), &was, &is, OldDefinition::InPlace);
        assert_eq!(
            Value::Object(back.parameters),
            json!({"loadBalancers": [], "enableExecuteCommand": false, "healthCheckGracePeriodSeconds": 0,
                   "deploymentConfiguration": {"maximumPercent": 200,
                       "alarms": {"alarmNames": [], "enable": false, "rollback": false}}})
        );
        assert!(
            back.notes.iter().any(|note| note.starts_with("platformVersion was not set before")),
            "{:?}",
            back.notes
        );
        let asked = restores(&json!({"service": {"desiredCount": 2}}), &was, &is, OldDefinition::InPlace);
        assert_eq!(asked.parameters["desiredCount"], 2);
    }

    #[test]
    fn a_member_of_the_deployment_configuration_that_was_not_there_is_switched_off() {
        let was = json!({"deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100,
            "deploymentCircuitBreaker": {"enable": true, "rollback": true}}});
        let with = |members: Value| {
            let mut is = was.clone();
            is["deploymentConfiguration"].as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            is
        };
        let threshold = json!({"type": "BOUNDED_PERCENT", "value": 50});
        let breaker = |reset: bool| {
            json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true, "resetOnHealthyTask": reset,
                "thresholdConfiguration": threshold}})
        };
        for (set, off) in [
            (
                json!({"alarms": {"alarmNames": ["a"], "enable": true, "rollback": true}}),
                json!({"alarms": {"alarmNames": [], "enable": false, "rollback": false}}),
            ),
            (json!({"lifecycleHooks": [{"targetType": "PAUSE"}]}), json!({"lifecycleHooks": []})),
            (
                json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5}),
                json!({"strategy": "ROLLING", "bakeTimeInMinutes": 0}),
            ),
            (
                json!({"earlySuccessCriteria": {"enable": true, "healthyPercent": 100}}),
                json!({"earlySuccessCriteria": {"enable": false}}),
            ),
            (json!({"maximumPercent": 150}), json!({})),
            (breaker(false), breaker(true)),
        ] {
            let back = restores(&json!({}), &was, &with(set), OldDefinition::InPlace);
            assert_eq!(json!(back.parameters), with(off));
        }
        let breaker = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}});
        let back =
            restores(&json!({}), &json!({}), &json!({"deploymentConfiguration": breaker}), OldDefinition::InPlace);
        let off = json!({"deploymentCircuitBreaker": {"enable": false, "rollback": false}});
        assert_eq!(json!(back.parameters), json!({"deploymentConfiguration": off}));

        let canary = with(json!({"canaryConfiguration": {"canaryPercent": 1.0}}));
        let stays = restores(&json!({}), &was, &canary, OldDefinition::InPlace);
        assert!(stays.parameters.is_empty());
        let note = "deploymentConfiguration.canaryConfiguration was not set before, and UpdateService cannot unset it: it stays";
        assert!(stays.notes.iter().any(|it| it == note), "{:?}", stays.notes);
    }

    #[test]
    fn what_aws_filled_in_since_is_no_difference() {
        let was = json!({"deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100,
            "deploymentCircuitBreaker": {"enable": false, "rollback": false}}});
        let mut is = was.clone();
        is["tags"] = json!([{"key": "was", "value": "1"}]);
        is["availabilityZoneRebalancing"] = json!("DISABLED");
        let members = json!({"strategy": "ROLLING", "bakeTimeInMinutes": 0, "lifecycleHooks": [],
            "alarms": {"alarmNames": [], "enable": false, "rollback": false},
            "deploymentCircuitBreaker": {"enable": false, "rollback": false, "resetOnHealthyTask": true,
                "thresholdConfiguration": {"type": "BOUNDED_PERCENT", "value": 50}}});
        is["deploymentConfiguration"].as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let plan = restoring(&json!({}), &was, &is, OldDefinition::InPlace);
        assert!(matches!(plan, Plan::Unchanged { .. }), "{plan:?}");
    }

    #[test]
    fn rebalancing_that_was_never_set_is_disabled() {
        let is = json!({"availabilityZoneRebalancing": "ENABLED"});
        let back = restores(&json!({}), &json!({}), &is, OldDefinition::InPlace);
        assert_eq!(json!(back.parameters), json!({"availabilityZoneRebalancing": "DISABLED"}));
    }

    #[test]
    fn null_takes_a_parameter_out_of_a_restore() {
        let was = json!({"enableExecuteCommand": false, "loadBalancers": [], "propagateTags": "NONE"});
        let is =
            json!({"enableExecuteCommand": true, "loadBalancers": [{"containerPort": 80}], "propagateTags": "NONE"});
        let event = json!({"service": {"loadBalancers": null, "propagateTags": null}});
        let back = restores(&event, &was, &is, OldDefinition::InPlace);
        assert_eq!(json!(back.parameters), json!({"enableExecuteCommand": false}));
        let notes: Vec<_> = back.notes.iter().filter(|note| note.contains("null")).collect();
        assert_eq!(notes, ["loadBalancers differs and stays as it is: the event gives null for it"]);
    }

    #[test]
    fn what_is_as_it_was_is_not_restored_again() {
        let same = json!({"tags": [{"key": "was", "value": "1"}], "healthCheckGracePeriodSeconds": 0});
        let plan = restoring(&json!({}), &json!({}), &same, OldDefinition::InPlace);
        assert!(matches!(plan, Plan::Unchanged { .. }), "{plan:?}");
    }

    #[test]
    fn a_restore_under_code_deploy_names_what_it_cannot_take() {
        let deploy = json!({"deploymentController": {"type": "CODE_DEPLOY"}});
        let old = OldDefinition::Active(Arc::new(definition("web:6", "ACTIVE", "nginx:1")));
        let Plan::Refused(failure) = restoring(&json!({}), &deploy, &deploy, old) else { panic!("refused") };
        assert_eq!(failure.code, Code::UnsupportedDeploymentController);
        restores(&json!({}), &deploy, &deploy, OldDefinition::InPlace);
    }

    #[test]
    fn what_code_deploy_sets_itself_is_left_and_told_and_the_rest_restored() {
        let with = |more: Value| {
            let mut service = json!({"deploymentController": {"type": "CODE_DEPLOY"}});
            service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            service
        };
        let was = with(json!({"loadBalancers": [{"targetGroupArn": "arn:blue"}], "healthCheckGracePeriodSeconds": 5}));
        let is = with(json!({"loadBalancers": [{"targetGroupArn": "arn:green"}], "healthCheckGracePeriodSeconds": 9,
            "availabilityZoneRebalancing": "ENABLED"}));
        let back = restores(&json!({}), &was, &is, OldDefinition::InPlace);
        assert_eq!(json!(back.parameters), json!({"healthCheckGracePeriodSeconds": 5}));
        for name in ["loadBalancers", "availabilityZoneRebalancing"] {
            assert!(
                back.notes.iter().any(|note| note.starts_with(&format!("{name} differs and stays"))),
                "{:?}",
                back.notes
            );
        }
    }
}
