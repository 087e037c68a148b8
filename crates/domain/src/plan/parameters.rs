//! Parameters of `UpdateService`: whether a service has what is wanted of them.
//!
//! `deploymentConfiguration` is merged, every other parameter is replaced as a whole: what is not named in it is removed, or set to AWS's
//! default. So each parameter is compared as ECS would apply it, and if that is not known for sure, it counts as different. AWS documents
//! that omitting a member of a replaced parameter resets it, for Service Connect ("If you update the serviceConnectConfiguration of your
//! service and don't include containerConfigurations, the proxy container settings return to their defaults") and for placements ("it will
//! override the existing placement strategy"). Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.

use serde_json::{Map, Value};

use crate::ecs::service::{Service, Snapshot, is_known};
use crate::plan::defaults::filled;
use crate::plan::deployment_configuration::{self, MERGED, same_member, same_named};
use crate::plan::values::{covers, equal};

/// Whether the service has these parameters of `UpdateService`, so that sending them would change nothing.
#[must_use]
pub fn has_parameters(service: &Service, parameters: &Map<String, Value>) -> bool {
    // What the service does not show cannot be compared with what was asked for.
    parameters.iter().all(|(name, wanted)| !service.shows(name) || has_parameter(name, service.parameter(name), wanted))
}

/// Whether the service shows each of these parameters as it was sent, and either differs from before or has nothing left to do. AWS may
/// have added more to it.
#[must_use]
pub fn took_parameters(service: &Service, parameters: &Map<String, Value>, before: &Service) -> bool {
    parameters.iter().all(|(name, wanted)| {
        let (has, had) = (service.parameter(name), before.parameter(name));
        !service.shows(name)
            || has_parameter(name, has, wanted)
            || (covers(has, wanted, is_in_order(name)) && !same_parameter(name, has, had))
    })
}

/// Whether the service shows all that is named in these parameters. AWS may have added more to it.
#[must_use]
pub fn covers_parameters(service: &Service, parameters: &Map<String, Value>) -> bool {
    parameters
        .iter()
        .all(|(name, wanted)| !service.shows(name) || covers_parameter(name, service.parameter(name), wanted))
}

/// What a person should know about AWS's answer to these parameters: which of them it does not show as they were sent.
#[must_use]
pub fn told_of_answer(answered: &Service, sent: &Map<String, Value>) -> Option<String> {
    let differs = |(name, wanted): &(&String, &Value)| {
        answered.shows(name) && !covers_parameter(name, answered.parameter(name), wanted)
    };
    let named = |(name, wanted): (&String, &Value)| match wanted {
        Value::Object(members) if name == MERGED => {
            let members = members_not_shown(answered.parameter(name), members);
            members.map(|member| format!("{name}.{member}")).collect()
        }
        _ => vec![name.clone()],
    };
    let told: Vec<String> = sent.iter().filter(differs).flat_map(named).collect();
    (!told.is_empty()).then(|| {
        format!(
            "ECS took the update, and does not answer these as they were sent: {}. Look at the service before you rely on them",
            told.join(", ")
        )
    })
}

/// Whether what a service has for a parameter shows all that is named in `wanted`.
#[must_use]
pub fn covers_parameter(name: &str, has: Option<&Value>, wanted: &Value) -> bool {
    match wanted {
        Value::Object(members) if name == MERGED => members_not_shown(has, members).next().is_none(),
        wanted => has_parameter(name, has, wanted) || covers(has, wanted, is_in_order(name)),
    }
}

/// The members of `deploymentConfiguration` in `wanted` that a service does not show.
fn members_not_shown<'a>(has: Option<&'a Value>, wanted: &'a Map<String, Value>) -> impl Iterator<Item = &'a String> {
    let is_shown = move |member: &str, wanted: &Value| {
        let has = has.and_then(|has| has.get(member));
        same_member(member, has, Some(wanted)) || covers(has, wanted, false)
    };
    wanted.iter().filter(move |(member, wanted)| !is_shown(member, wanted)).map(|(member, _)| member)
}

/// Whether two values of a parameter are the same to ECS.
#[must_use]
pub fn same_parameter(name: &str, one: Option<&Value>, other: Option<&Value>) -> bool {
    if name == MERGED {
        let member = |of: Option<&Value>, name: &str| of.and_then(|of| of.get(name)).cloned();
        return deployment_configuration::members(one, other)
            .into_iter()
            .all(|name| same_member(name, member(one, name).as_ref(), member(other, name).as_ref()));
    }
    let whole = |value: Option<&Value>| filled(name, value.unwrap_or(&Value::Null));
    equal(&whole(one), &whole(other), is_in_order(name))
}

/// Whether what a service has for a parameter is what `wanted` would make of it.
#[must_use]
pub fn has_parameter(name: &str, has: Option<&Value>, wanted: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::Object(members) if name == MERGED => same_named(has, Some(wanted), members),
        wanted => same_parameter(name, has, Some(wanted)),
    }
}

/// Whether a parameter still is what it was, as far as `wanted` would touch it.
#[must_use]
pub fn is_untouched(name: &str, has: Option<&Value>, had: Option<&Value>, wanted: &Value) -> bool {
    match wanted {
        Value::Object(members) if name == MERGED => same_named(has, had, members),
        _ => same_parameter(name, has, had),
    }
}

fn is_in_order(name: &str) -> bool {
    name == "placementStrategy"
}

/// Those of these parameters that the service does not have, or that cannot be compared; and what a person should know about the latter.
pub(super) fn differing_parameters(
    parameters: &Map<String, Value>,
    snapshot: &Snapshot,
) -> (Map<String, Value>, Vec<String>) {
    let service = &snapshot.service;
    let differs = |(name, wanted): &(&String, &Value)| {
        !service.shows(name) || !has_parameter(name, service.parameter(name), wanted)
    };
    let differing: Map<_, _> =
        parameters.iter().filter(differs).map(|(name, wanted)| (name.clone(), wanted.clone())).collect();
    let notes = differing.keys().filter(|name| !service.shows(name)).map(|name| {
        if is_known(name) {
            format!("ECS does not show what the service has for {name}: it goes out, whether it differs or not")
        } else {
            format!(
                "{name} is no parameter of UpdateService that is known here: it goes out as it is given, and cannot be compared with what \
                 the service has. ECS overlooks what it does not know"
            )
        }
    });
    let notes = notes.collect();
    (differing, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_does_not_answer_as_it_was_sent_is_told() {
        let answered = |value: Value| Service::new(value.as_object().unwrap().clone(), None).unwrap();
        let hooks = serde_json::json!([{"hookTargetArn": "arn:h"}]);
        let service = answered(serde_json::json!({"desiredCount": 2,
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["a"], "assignPublicIp": "DISABLED", "new": 1}},
            "deploymentConfiguration": {"maximumPercent": 200, "lifecycleHooks": hooks}}));
        let told = |sent: Value| told_of_answer(&service, sent.as_object().unwrap());
        let network = serde_json::json!({"awsvpcConfiguration": {"subnets": ["a"]}});
        let taken = serde_json::json!({"maximumPercent": 200, "alarms": {"alarmNames": [], "enable": false, "rollback": false}});
        assert_eq!(told(serde_json::json!({"networkConfiguration": network, "deploymentConfiguration": taken})), None);
        let left = serde_json::json!({"maximumPercent": 200, "lifecycleHooks": []});
        let note = told(serde_json::json!({"deploymentConfiguration": left, "desiredCount": 3})).unwrap();
        assert!(note.contains(": deploymentConfiguration.lifecycleHooks, desiredCount."), "{note}");
    }
}
