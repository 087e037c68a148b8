//! Pure: in what two task definitions differ, for people and for records.
//!
//! Images have changes of their own. Of what may be a secret ([`may_be_secret`]) it is told that it was added, changed or removed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::ledger::hidden::in_words;
use crate::mask::may_be_secret;
use crate::plan::{Change, What};
use crate::task_definition::comparable;

/// Members of the task and of each container that differ: `cpu`, `containers.web.environment.PORT`.
#[must_use]
pub fn differences(from: &Value, to: &Value) -> Vec<Change> {
    let mut differences = Vec::new();
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (from, to) = (members(from), members(to));
    let is_other = |name: &str| name != "containerDefinitions";
    compare(&mut differences, "", &from, &to, is_other);
    let (from, to) = (containers(&from), containers(&to));
    for name in from.keys().chain(to.keys().filter(|name| !from.contains_key(*name))) {
        let path = format!("containers.{name}");
        match (from.get(name), to.get(name)) {
            (Some(from), Some(to)) => {
                let is_other = |member: &str| !["name", "image", "environment", "secrets"].contains(&member);
                compare(&mut differences, &format!("{path}."), from, to, is_other);
                for list in ["environment", "secrets"] {
                    let is_secret = may_be_secret(list);
                    by_name(&mut differences, &format!("{path}.{list}"), (from, to), list, is_secret);
                }
            }
            (is, _) => {
                let word = |is: bool, word: &str| if is { Value::from(word) } else { Value::Null };
                let (was, comes) = (word(is.is_some(), "removed"), word(is.is_none(), "added"));
                differences.push(Change { what: What::Definition, path, from: was, to: comes });
            }
        }
    }
    differences
}

fn compare(
    differences: &mut Vec<Change>,
    path: &str,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    is_wanted: impl Fn(&str) -> bool,
) {
    for name in from.keys().chain(to.keys().filter(|name| !from.contains_key(*name))).filter(|name| is_wanted(name)) {
        let (was, comes) = (from.get(name).unwrap_or(&Value::Null), to.get(name).unwrap_or(&Value::Null));
        if comparable(was.clone()) == comparable(comes.clone()) {
            continue;
        }
        let (from, to) = told(name, was, comes);
        differences.push(Change { what: What::Definition, path: format!("{path}{name}"), from, to });
    }
}

/// Entries with a name, such as variables of the environment.
fn by_name(
    differences: &mut Vec<Change>,
    path: &str,
    (from, to): (&Map<String, Value>, &Map<String, Value>),
    list: &str,
    is_secret: bool,
) {
    let entries = |container: &Map<String, Value>| -> BTreeMap<String, Value> {
        let entries = container.get(list).and_then(Value::as_array).into_iter().flatten();
        let value = |entry: &Value| entry.get("value").or_else(|| entry.get("valueFrom")).cloned();
        entries
            .filter_map(|entry| Some((entry.get("name")?.as_str()?.to_owned(), value(entry).unwrap_or_default())))
            .collect()
    };
    let (from, to) = (entries(from), entries(to));
    for name in from.keys().chain(to.keys().filter(|name| !from.contains_key(*name))) {
        let (was, comes) = (from.get(name).unwrap_or(&Value::Null), to.get(name).unwrap_or(&Value::Null));
        if was == comes {
            continue;
        }
        let (from, to) = if is_secret { told("environment", was, comes) } else { (was.clone(), comes.clone()) };
        differences.push(Change { what: What::Definition, path: format!("{path}.{name}"), from, to });
    }
}

/// Two values of a member as people are told them; of one that may be secret as a whole only what becomes of it.
fn told(name: &str, from: &Value, to: &Value) -> (Value, Value) {
    if !may_be_secret(name) {
        return in_words(from, to);
    }
    let word = |is: &Value, word: &str| if is.is_null() { Value::Null } else { word.into() };
    let (was, comes) = if from.is_null() {
        ("hidden", "added")
    } else if to.is_null() {
        ("removed", "hidden")
    } else {
        ("hidden", "changed")
    };
    (word(from, was), word(to, comes))
}

fn containers(definition: &Map<String, Value>) -> BTreeMap<String, Map<String, Value>> {
    let containers = definition.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
    containers
        .filter_map(|container| Some((container.get("name")?.as_str()?.to_owned(), container.as_object()?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(from: &Value, to: &Value) -> Vec<String> {
        differences(from, to).iter().map(|it| format!("{}: {} -> {}", it.path, it.from, it.to)).collect()
    }

    #[test]
    fn roles_sizes_and_networks_are_shown_and_values_are_not() {
        let from = json!({"family": "web", "cpu": "256", "taskRoleArn": "arn:old", "volumes": [], "containerDefinitions": [
            {"name": "web", "image": "nginx:1", "command": ["serve", "--token=one"], "memory": 64,
             "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
             "secrets": [{"name": "S", "valueFrom": "arn:one"}],
             "logConfiguration": {"logDriver": "splunk", "options": {"splunk-token": "one"}}},
            {"name": "log", "image": "fluent"}]});
        let to = json!({"family": "web", "cpu": "512", "taskRoleArn": "arn:new", "networkMode": "awsvpc", "volumes": [],
            "containerDefinitions": [
            {"name": "web", "image": "nginx:2", "command": ["serve", "--token=two"], "memory": 64,
             "environment": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
             "secrets": [{"name": "S", "valueFrom": "arn:two"}],
             "logConfiguration": {"logDriver": "splunk", "options": {"splunk-token": "two"}}},
            {"name": "proxy", "image": "envoy"}]});
        let expected = [
            r#"cpu: "256" -> "512""#,
            r#"taskRoleArn: "arn:old" -> "arn:new""#,
            r#"networkMode: null -> "awsvpc""#,
            r#"containers.log: "removed" -> null"#,
            r#"containers.web.command: "hidden" -> "changed""#,
            r#"containers.web.logConfiguration: {"logDriver":"splunk","options":{"splunk-token":"hidden"}} -> {"logDriver":"splunk","options":{"splunk-token":"changed"}}"#,
            r#"containers.web.environment.A: "removed" -> null"#,
            r#"containers.web.environment.B: "hidden" -> "changed""#,
            r#"containers.web.environment.C: null -> "added""#,
            r#"containers.web.secrets.S: "arn:one" -> "arn:two""#,
            r#"containers.proxy: null -> "added""#,
        ];
        assert_eq!(lines(&from, &to), expected);
        assert_eq!(lines(&from, &from), Vec::<String>::new());
        assert_eq!(lines(&Value::Null, &Value::Null), Vec::<String>::new());
    }
}
