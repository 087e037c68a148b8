//! `deploymentConfiguration`, the one parameter that `UpdateService` merges: a member that is not named stays as it is. "The ECS
//! UpdateService API is stateful, meaning that if a field is not present […], it will be ignored in the update." Source:
//! <https://github.com/aws/aws-cdk/pull/25346>, where AWS's own tool encountered it, as did <https://github.com/aws/copilot-cli/pull/4565>.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::plan::defaults::filled;
use crate::plan::values::equal;

/// The parameter's name.
pub(super) const MERGED: &str = "deploymentConfiguration";

/// The form of a member that is switched off, which also applies if the member was never set.
pub(super) fn off_form(member: &str) -> Option<Value> {
    match member {
        // "To remove an existing deployment circuit breaker, specify an empty object", which Go sends with both required members false.
        // Source: `resourceServiceUpdate` in <https://github.com/hashicorp/terraform-provider-aws/blob/main/internal/service/ecs/service.go>.
        "deploymentCircuitBreaker" => Some(json!({"enable": false, "rollback": false})),
        // "All three are required field, and UpdateService won't pick up any changes if they are not explicitly specified."
        // Source: <https://github.com/aws/copilot-cli/pull/4565>.
        "alarms" => Some(json!({"alarmNames": [], "enable": false, "rollback": false})),
        // "ECS requires an explicit empty lifecycle hook list to clear existing hooks."
        // Source: <https://github.com/hashicorp/terraform-provider-aws/pull/47096>.
        "lifecycleHooks" => Some(json!([])),
        // "Set DeploymentConfiguration.Strategy to ROLLING when empty", "Set BakeTimeInMinutes to 0 when nil", as AWS answers for services
        // that never had them. Source: <https://github.com/kayac/ecspresso/pull/861>.
        "strategy" => Some("ROLLING".into()),
        "bakeTimeInMinutes" => Some(0.into()),
        // "When set to false, the deployment uses the default behavior […]. The default value is false."
        // Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentConfiguration.html>.
        "earlySuccessCriteria" => Some(json!({"enable": false})),
        // Both percentages always have a value; which one is the default depends on the scheduler. `linearConfiguration` and
        // `canaryConfiguration` are "only valid when the deployment strategy is" theirs. AWS documents no form that removes any of them.
        _ => None,
    }
}

/// Whether two values of a member are the same to ECS; a member that is missing is switched off.
pub(super) fn same_member(member: &str, one: Option<&Value>, other: Option<&Value>) -> bool {
    equal(&whole(member, one), &whole(member, other), false)
}

fn whole(member: &str, value: Option<&Value>) -> Value {
    let given = value.filter(|value| !value.is_null()).cloned();
    filled(member, &given.or_else(|| off_form(member)).unwrap_or_default())
}

/// Whether each member that `wanted` names is the same to ECS in `has` and in `other`.
pub(super) fn same_named(has: Option<&Value>, other: Option<&Value>, wanted: &Map<String, Value>) -> bool {
    let member = |of: Option<&Value>, name: &str| of.and_then(|of| of.get(name)).cloned();
    wanted
        .iter()
        .filter(|(_, wanted)| !wanted.is_null())
        .all(|(name, _)| same_member(name, member(has, name).as_ref(), member(other, name).as_ref()))
}

/// All members of two values.
pub(super) fn members<'a>(one: Option<&'a Value>, other: Option<&'a Value>) -> BTreeSet<&'a str> {
    [one, other].into_iter().flatten().filter_map(Value::as_object).flat_map(Map::keys).map(String::as_str).collect()
}

/// What is sent to `UpdateService`, if anything, to turn the value `is` back into the value `was`, and the members that it cannot put back.
pub(super) fn put_back(was: Option<&Value>, is: Option<&Value>) -> (Option<Value>, Vec<String>) {
    let (mut sent, mut differs, mut stays) = (Map::new(), false, Vec::new());
    for name in members(was, is) {
        let [was, is] = [was, is].map(|of| of.and_then(|of| of.get(name)).filter(|value| !value.is_null()));
        let same = same_member(name, was, is);
        match put_back_member(name, was, is).filter(|_| was.is_some() || !same) {
            Some(value) => _ = sent.insert(name.to_owned(), value),
            None if !same => stays.push(name.to_owned()),
            None => {}
        }
        differs |= !same && sent.contains_key(name);
    }
    (differs.then_some(Value::Object(sent)), stays)
}

/// What is sent to `UpdateService` to turn the value `is` of a member back into the value `was`; `None` if nothing does.
pub(super) fn put_back_member(name: &str, was: Option<&Value>, is: Option<&Value>) -> Option<Value> {
    was.map(|was| explicit(name, was, is)).or_else(|| off_form(name))
}

/// A member as it was, with AWS's default for what has been set in it since: it is not documented whether ECS also merges within members.
fn explicit(name: &str, was: &Value, is: Option<&Value>) -> Value {
    let mut value = was.clone();
    if let (Some(members), Some(is), Value::Object(filled)) =
        (value.as_object_mut(), is.and_then(Value::as_object), filled(name, was))
    {
        members.extend(filled.into_iter().filter(|(name, _)| is.contains_key(name)));
    }
    value
}
