//! Pure: in what two task definitions differ, for people and for records.
//!
//! Images are reported as changes of their own. Of what may be a secret ([`may_be_secret`]), only the fact that it was added, changed or
//! removed is reported.

use serde_json::{Map, Value};

use crate::ecs::task_definition::comparable;
use crate::ledger::hidden::{as_words, in_words};
use crate::mask::may_be_secret;
use crate::plan::difference::{Difference, DifferenceKind};

/// Members of the task and of each container that differ: `cpu`, `containers.web.environment.PORT`.
#[must_use]
pub fn differences(from: &Value, to: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    let without = |value: &Value, names: &[&str]| -> Map<String, Value> {
        let mut members = value.as_object().cloned().unwrap_or_default();
        members.retain(|name, _| !names.contains(&name.as_str()));
        members
    };
    let task = |value: &Value| without(value, &["containerDefinitions"]);
    compare(&mut differences, "", &task(from), &task(to), may_be_secret);
    let (from, to) = (containers(from), containers(to));
    for name in names(&from, &to) {
        let path = format!("containers.{name}");
        let (Some(from), Some(to)) = (from.get(name), to.get(name)) else {
            let (from, to) = as_words(from.get(name).unwrap_or_default(), to.get(name).unwrap_or_default());
            differences.push(Difference { what: DifferenceKind::Definition, path, from, to });
            continue;
        };
        let container = |value: &Value| without(value, &["name", "image", "environment", "secrets"]);
        compare(&mut differences, &format!("{path}."), &container(from), &container(to), may_be_secret);
        for list in ["environment", "secrets"] {
            let path = format!("{path}.{list}.");
            compare(&mut differences, &path, &entries(from, list), &entries(to, list), |_| may_be_secret(list));
        }
    }
    differences
}

fn compare(
    differences: &mut Vec<Difference>,
    path: &str,
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    is_secret: impl Fn(&str) -> bool,
) {
    for name in names(from, to) {
        let (was, comes) = (from.get(name).unwrap_or_default(), to.get(name).unwrap_or_default());
        if comparable(was.clone()) != comparable(comes.clone()) {
            let (from, to) = if is_secret(name) { as_words(was, comes) } else { in_words(was, comes) };
            differences.push(Difference { what: DifferenceKind::Definition, path: format!("{path}{name}"), from, to });
        }
    }
}

/// The names in either of them, those of the first one first.
fn names<'a>(from: &'a Map<String, Value>, to: &'a Map<String, Value>) -> impl Iterator<Item = &'a String> {
    from.keys().chain(to.keys().filter(|name| !from.contains_key(*name)))
}

/// Entries with a name, such as variables of the environment: each with its value, or with the reference to where the value is stored.
fn entries(container: &Value, list: &str) -> Map<String, Value> {
    let entries = container.get(list).and_then(Value::as_array).into_iter().flatten();
    let value = |entry: &Value| entry.get("value").or_else(|| entry.get("valueFrom")).cloned().unwrap_or_default();
    entries.filter_map(|entry| Some((entry.get("name")?.as_str()?.to_owned(), value(entry)))).collect()
}

fn containers(definition: &Value) -> Map<String, Value> {
    let containers = definition.get("containerDefinitions").and_then(Value::as_array).into_iter().flatten();
    containers.filter_map(|container| Some((container.get("name")?.as_str()?.to_owned(), container.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(from: &Value, to: &Value) -> Vec<String> {
        differences(from, to)
            .iter()
            .map(|difference| format!("{}: {} -> {}", difference.path, difference.from, difference.to))
            .collect()
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
