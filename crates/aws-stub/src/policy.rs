//! A session policy, evaluated as IAM evaluates it: what no statement allows is denied, and a Deny takes precedence.
//! Only what a session policy of the updater can contain is known here; anything else fails loudly.

use serde_json::Value;

/// The action that somebody wants to perform.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The IAM action.
    pub action: &'a str,
    /// ARN of the resource that the action concerns.
    pub resource: &'a str,
    /// Condition keys of the request, in lower case.
    pub context: Vec<(&'a str, String)>,
}

/// Whether the policy allows it.
#[must_use]
pub fn allows(policy: &Value, question: &Question<'_>) -> bool {
    let mut allowed = false;
    for statement in list(&policy["Statement"]) {
        if !applies(statement, question) {
            continue;
        }
        match statement["Effect"].as_str() {
            Some("Allow") => allowed = true,
            Some("Deny") => return false,
            other => panic!("Effect {other:?}"),
        }
    }
    allowed
}

fn applies(statement: &Value, question: &Question<'_>) -> bool {
    let object = statement.as_object().expect("a statement is an object");
    for name in object.keys() {
        let known = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"];
        assert!(known.contains(&name.as_str()), "statement member {name} is not one of a session policy");
    }
    let action = |patterns| any(patterns, question.action, true);
    let resource = |patterns| any(patterns, question.resource, false);
    (match (object.get("Action"), object.get("NotAction")) {
        (Some(patterns), None) => action(patterns),
        (None, Some(patterns)) => !action(patterns),
        _ => panic!("either Action or NotAction: {statement}"),
    }) && (match (object.get("Resource"), object.get("NotResource")) {
        (Some(patterns), None) => resource(patterns),
        (None, Some(patterns)) => !resource(patterns),
        _ => panic!("either Resource or NotResource: {statement}"),
    }) && object.get("Condition").is_none_or(|conditions| holds(conditions, question))
}

fn holds(conditions: &Value, question: &Question<'_>) -> bool {
    conditions.as_object().expect("conditions").iter().all(|(operator, keys)| {
        keys.as_object().expect("condition keys").iter().all(|(key, wanted)| {
            let key = key.to_ascii_lowercase();
            let actual = question.context.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
            let (operator, if_exists) =
                operator.strip_suffix("IfExists").map_or((operator.as_str(), false), |o| (o, true));
            match (operator, actual) {
                (_, None) if if_exists => true,
                ("StringEquals" | "StringLike" | "ArnEquals" | "ArnLike", Some(actual)) => any(wanted, actual, false),
                ("StringNotEquals" | "StringNotLike" | "ArnNotEquals" | "ArnNotLike", actual) => {
                    actual.is_none_or(|actual| !any(wanted, actual, false))
                }
                ("StringEquals" | "StringLike" | "ArnEquals" | "ArnLike", None) => false,
                (other, _) => panic!("teach the stub the condition operator {other} ({key})"),
            }
        })
    })
}

fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    }
}

fn any(patterns: &Value, text: &str, ignore_case: bool) -> bool {
    list(patterns).into_iter().any(|pattern| {
        let pattern = pattern.as_str().expect("a pattern is a string");
        if ignore_case {
            like(pattern.to_ascii_lowercase().as_bytes(), text.to_ascii_lowercase().as_bytes())
        } else {
            like(pattern.as_bytes(), text.as_bytes())
        }
    })
}

/// `*` matches any run of characters, `?` any single one.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => like(&pattern[1..], text) || (!text.is_empty() && like(pattern, &text[1..])),
        (Some(b'?'), Some(_)) => like(&pattern[1..], &text[1..]),
        (Some(p), Some(t)) if p == t => like(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[test]
fn a_deny_wins_and_silence_denies() {
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["ecs:Describe*", "ecs:UpdateService"], "Resource": "*"},
        {"Effect": "Deny", "Action": "ecs:UpdateService", "NotResource": "arn:*:ecs:*:*:service/a/b"},
    ]});
    let ask = |action, resource| allows(&policy, &Question { action, resource, context: vec![] });
    assert!(ask("ecs:DescribeServices", "x"));
    assert!(ask("ecs:UpdateService", "arn:aws:ecs:eu-west-1:1:service/a/b"));
    assert!(!ask("ecs:UpdateService", "arn:aws:ecs:eu-west-1:1:service/a/bc"));
    assert!(!ask("ecs:TagResource", "x"));
}
