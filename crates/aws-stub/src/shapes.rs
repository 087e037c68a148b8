//! What AWS takes in a request, by its own models: `shapes.json`, which `make model` writes from the pinned botocore (`tools/model/shapes.py`).
//!
//! A stub overlooks what it does not know, and so does ECS at times; a test must not. So every request of a test is checked: members that the
//! model does not have, values of another kind, words that are not in an enumeration, and required members that are missing.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static MODELS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("shapes.json")).expect("shapes.json is JSON"));

/// What is wrong with a request: one line for each fault, with its place and without its value. `service` is `ecs`, `dynamodb` or `sts`.
#[must_use]
pub fn faults(service: &str, operation: &str, input: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    match input_shape(service, operation) {
        Some(shape) => Check { service, faults: &mut faults }.value(shape, input, ""),
        None => faults.push(" is no call that tools/model/shapes.py names".to_owned()),
    }
    faults.into_iter().map(|fault| format!("{service} {operation}{fault}")).collect()
}

/// The same for a request in AWS JSON.
#[must_use]
pub fn faults_of_body(service: &str, operation: &str, body: &[u8]) -> Vec<String> {
    match serde_json::from_slice(body) {
        Ok(input) => faults(service, operation, &input),
        Err(error) => vec![format!("{service} {operation}: its body is no JSON: {error}")],
    }
}

/// The same for a request of the query protocol: fields of a form, such as `Tags.member.1.Key`.
#[must_use]
pub fn faults_of_form(service: &str, form: &[(String, String)]) -> Vec<String> {
    let mut input = Map::new();
    let mut operation = "";
    for (name, value) in form {
        match name.as_str() {
            "Action" => operation = value,
            "Version" => {}
            name => put(&mut input, name, value),
        }
    }
    let input = Value::Object(input);
    let input = input_shape(service, operation).map_or(input.clone(), |shape| from_form(service, shape, &input));
    faults(service, operation, &input)
}

fn input_shape(service: &str, operation: &str) -> Option<&'static str> {
    MODELS[service]["operations"][operation].as_str()
}

fn shape(service: &str, name: &str) -> &'static Value {
    &MODELS[service]["shapes"][name]
}

struct Check<'a> {
    service: &'a str,
    faults: &'a mut Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, kind: &str, value: &Value, place: &str) {
        let is_right = match kind {
            "string" | "blob" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" | "long" => value.is_i64(),
            // Times are seconds since 1970 in AWS JSON.
            "double" | "float" | "timestamp" => value.is_number(),
            "document" => true,
            name => return self.shape(shape(self.service, name), value, place),
        };
        if !is_right {
            self.faults.push(format!("{place} is no {kind}"));
        }
    }

    fn shape(&mut self, shape: &Value, value: &Value, place: &str) {
        let text = |part: &Value| part.as_str().unwrap_or_default().to_owned();
        if let Some(members) = shape["members"].as_object() {
            let Some(given) = value.as_object() else { return self.faults.push(format!("{place} is no object")) };
            // A member that is null is none: AWS's own clients send it where nothing was given.
            for (name, value) in given.iter().filter(|(_, value)| !value.is_null()) {
                let place = format!("{place}/{name}");
                match members.get(name) {
                    Some(kind) => self.value(&text(kind), value, &place),
                    None => self.faults.push(format!("{place} is no member that AWS knows")),
                }
            }
            let required = shape["required"].as_array().into_iter().flatten().map(text);
            let missing = required.filter(|name| given.get(name).is_none_or(Value::is_null));
            self.faults.extend(missing.map(|name| format!("{place} has no {name}")));
        } else if let Some(values) = shape["enum"].as_array() {
            if !values.contains(value) {
                self.faults
                    .push(format!("{place} is none of {}", values.iter().map(text).collect::<Vec<_>>().join(", ")));
            }
        } else if !shape["list"].is_null() {
            let Some(items) = value.as_array() else { return self.faults.push(format!("{place} is no list")) };
            for (index, item) in items.iter().enumerate() {
                self.value(&text(&shape["list"]), item, &format!("{place}/{index}"));
            }
        } else {
            let Some(entries) = value.as_object() else { return self.faults.push(format!("{place} is no map")) };
            for (key, value) in entries {
                self.value(&text(&shape["map"][1]), value, &format!("{place}/{key}"));
            }
        }
    }
}

fn put(tree: &mut Map<String, Value>, name: &str, value: &str) {
    match name.split_once('.') {
        None => _ = tree.insert(name.to_owned(), value.into()),
        Some((first, rest)) => {
            let inner = tree.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Fields of a form as the same request would have them in JSON; what is not as it should be stays, and is a fault.
fn from_form(service: &str, kind: &str, tree: &Value) -> Value {
    let shape = shape(service, kind);
    match (kind, tree) {
        ("integer" | "long", Value::String(text)) => text.parse::<i64>().map_or_else(|_| tree.clone(), Value::from),
        ("boolean", Value::String(text)) => text.parse::<bool>().map_or_else(|_| tree.clone(), Value::from),
        (_, Value::Object(members)) if shape["members"].is_object() => {
            let member = |(name, value): (&String, &Value)| {
                let kind = shape["members"][name].as_str().unwrap_or("string");
                (name.clone(), from_form(service, kind, value))
            };
            members.iter().map(member).collect()
        }
        (_, Value::Object(members)) if !shape["list"].is_null() => {
            let items = members.get("member").and_then(Value::as_object).into_iter().flatten();
            items.map(|(_, item)| from_form(service, shape["list"].as_str().unwrap_or("string"), item)).collect()
        }
        _ => tree.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_as_aws_takes_it_has_no_fault() {
        let deployment = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": false}, "bakeTimeInMinutes": 5,
            "linearConfiguration": {"stepPercent": 12.5},
            "lifecycleHooks": [{"hookTargetArn": "arn", "lifecycleStages": ["PRE_SCALE_UP"], "hookDetails": {"any": [1, null]}}]});
        let update = json!({"service": "web", "cluster": "c", "desiredCount": 2, "platformVersion": null,
            "deploymentConfiguration": deployment, "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}});
        assert_eq!(faults("ecs", "UpdateService", &update), Vec::<String>::new());
        let query = json!({"TableName": "t", "KeyConditionExpression": "a = :a", "ExpressionAttributeValues": {":a": {"S": "1"}}});
        assert_eq!(faults("dynamodb", "Query", &query), Vec::<String>::new());
        let form = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn&RoleSessionName=name&DurationSeconds=900\
                    &Tags.member.1.Key=a&Tags.member.1.Value=b&TransitiveTagKeys.member.1=a";
        assert_eq!(faults_of_form("sts", &crate::sts::form(form.as_bytes())), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_fault_is_found_with_its_place() {
        let update = json!({"serviceName": "web", "desiredCount": "2", "propagateTags": "ALL", "loadBalancers": {},
            "deploymentConfiguration": {"alarms": {"alarmNames": ["a", 1], "enable": true}, "maximumPercent": 2.5},
            "enableExecuteCommand": 1, "monitoring": [], "service": null});
        let mut found = faults("ecs", "UpdateService", &update);
        found.sort();
        let expected = [
            "ecs UpdateService has no service",
            "ecs UpdateService/deploymentConfiguration/alarms has no rollback",
            "ecs UpdateService/deploymentConfiguration/alarms/alarmNames/1 is no string",
            "ecs UpdateService/deploymentConfiguration/maximumPercent is no integer",
            "ecs UpdateService/desiredCount is no integer",
            "ecs UpdateService/enableExecuteCommand is no boolean",
            "ecs UpdateService/loadBalancers is no list",
            "ecs UpdateService/monitoring is no object",
            "ecs UpdateService/propagateTags is none of TASK_DEFINITION, SERVICE, NONE",
            "ecs UpdateService/serviceName is no member that AWS knows",
        ];
        assert_eq!(found, expected);
        assert_eq!(
            faults_of_body("ecs", "UpdateService", b"{"),
            ["ecs UpdateService: its body is no JSON: EOF while parsing an object at line 1 column 1"]
        );
        assert_eq!(
            faults("ecs", "DeleteService", &json!({})),
            ["ecs DeleteService is no call that tools/model/shapes.py names"]
        );
        let form = "Action=AssumeRole&RoleArn=arn&DurationSeconds=soon&Tags.member.1.Key=a&Colour=red";
        let mut found = faults_of_form("sts", &crate::sts::form(form.as_bytes()));
        found.sort();
        let expected = [
            "sts AssumeRole has no RoleSessionName",
            "sts AssumeRole/Colour is no member that AWS knows",
            "sts AssumeRole/DurationSeconds is no integer",
            "sts AssumeRole/Tags/0 has no Value",
        ];
        assert_eq!(found, expected);
        assert!(
            faults("dynamodb", "GetItem", &json!({"TableName": "t", "Key": {"a": {"T": "1"}}}))[0]
                .ends_with("/Key/a/T is no member that AWS knows")
        );
    }
}
