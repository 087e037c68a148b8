//! What a session may do in a target account: the permissions of the target role, narrowed to the services that it is for.

use serde_json::Value;

use crate::ids::ServiceKey;

/// What a session may do: the document of `policies/session.json`.
const SESSION_POLICY: &str = include_str!("../../../policies/session.json");

/// The maximum number of characters of an inline session policy.
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
pub const MAX_POLICY_CHARACTERS: usize = 2048;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionPurpose {
    /// To change services.
    Change,
    /// To continue or stop deployments of services.
    Deployments,
}

/// The statement of the session policy that is for deployments, and those that are for changes of services.
const OF_DEPLOYMENTS: &str = "DeploymentsOfThisService";
const OF_CHANGES: [&str; 2] = ["ThisServiceOnly", "ByItsOldArn"];

/// The session policy that allows mutating calls of its purpose on these services only, without needless white space.
///
/// # Errors
///
/// If `policies/session.json` is not valid JSON.
pub fn session_policy(services: &[&ServiceKey], purpose: SessionPurpose) -> serde_json::Result<String> {
    let mut document: Value = serde_json::from_str(SESSION_POLICY)?;
    if let Some(statements) = document.get_mut("Statement").and_then(Value::as_array_mut) {
        statements.retain(|statement| {
            let sid = statement.get("Sid").and_then(Value::as_str).unwrap_or_default();
            match purpose {
                SessionPurpose::Change => sid != OF_DEPLOYMENTS,
                SessionPurpose::Deployments => !OF_CHANGES.contains(&sid),
            }
        });
    }
    for_services(&mut document, services);
    Ok(document.to_string())
}

/// Replaces each text in a list that contains a token by one text for each service.
fn for_services(value: &mut Value, services: &[&ServiceKey]) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| for_services(member, services)),
        Value::Array(items) => {
            for mut item in std::mem::take(items) {
                let template = item.as_str().filter(|text| TOKENS.iter().any(|(token, _)| text.contains(token)));
                if let Some(template) = template {
                    // Services of one cluster share its ARN.
                    for filled in services.iter().map(|service| Value::from(filled(template, service))) {
                        if !items.contains(&filled) {
                            items.push(filled);
                        }
                    }
                } else {
                    for_services(&mut item, services);
                    items.push(item);
                }
            }
        }
        _ => {}
    }
}

/// A part of a service's name.
type Part = fn(&ServiceKey) -> &str;

/// The placeholders in the policy document for parts of a service's name.
const TOKENS: [(&str, Part); 3] = [
    ("__REGION__", |service| service.region().as_str()),
    ("__CLUSTER__", |service| service.cluster()),
    ("__SERVICE__", |service| service.service()),
];

/// A template with its tokens replaced in a single pass, so that a name that looks like a token is not replaced in turn.
fn filled(template: &str, service: &ServiceKey) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((at, token, value)) = TOKENS
        .iter()
        .filter_map(|(token, value)| Some((rest.find(token)?, token, value(service))))
        .min_by_key(|(at, ..)| *at)
    {
        let (before, behind) = rest.split_at(at);
        filled.push_str(before);
        filled.push_str(value);
        rest = behind.strip_prefix(token).unwrap_or_default();
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AccountId, EcsName, Region};

    #[test]
    fn a_name_that_looks_like_a_token_is_a_name() {
        let policy =
            session_policy(&[&key("eu-west-1", "prod-__SERVICE__", "__CLUSTER__")], SessionPurpose::Change).unwrap();
        assert!(policy.contains("service/prod-__SERVICE__/__CLUSTER__\""), "{policy}");
    }

    #[test]
    fn the_session_policy_fits_sts_with_the_longest_names() {
        let longest = "x".repeat(255);
        for purpose in [SessionPurpose::Change, SessionPurpose::Deployments] {
            let policy = session_policy(&[&key("ap-southeast-2", &longest, &longest)], purpose).unwrap();
            assert!(policy.len() <= MAX_POLICY_CHARACTERS, "{}", policy.len());
            assert!(!policy.contains("__"), "{policy}");
        }
    }

    fn key(region: &str, cluster: &str, service: &str) -> ServiceKey {
        let name = |name| EcsName::parse(name).unwrap();
        let account = AccountId::parse("222222222222").unwrap();
        ServiceKey::new(account, Region::parse(region).unwrap(), name(cluster), name(service))
    }

    #[test]
    fn a_session_is_for_changes_or_for_deployments() {
        let policy = |purpose| session_policy(&[&key("eu-west-1", "c", "s")], purpose).unwrap();
        let (changes, deployments) = (policy(SessionPurpose::Change), policy(SessionPurpose::Deployments));
        assert!(changes.contains("ecs:UpdateService"), "{changes}");
        for call in ["ecs:StopServiceDeployment", "ecs:ContinueServiceDeployment"] {
            assert!(!changes.contains(call) && deployments.contains(call), "{call}: {changes} {deployments}");
        }
        assert!(!deployments.contains("ecs:UntagResource"), "{deployments}");
        assert!(deployments.contains("service-deployment/c/s/*") && !deployments.contains("ecs:UpdateService"));
    }

    #[test]
    fn the_session_policy_names_exactly_its_services() {
        let (one, two) = (key("eu-west-1", "c", "s"), key("us-east-1", "d", "s"));
        let policy: Value =
            serde_json::from_str(&session_policy(&[&one, &two], SessionPurpose::Change).unwrap()).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let services = statements.iter().find(|statement| statement["Sid"] == "ThisServiceOnly").unwrap();
        assert_eq!(
            services["Resource"],
            serde_json::json!(["arn:*:ecs:eu-west-1:*:service/c/s", "arn:*:ecs:us-east-1:*:service/d/s"])
        );
        // An ARN without a cluster matches services of any cluster: the condition says which clusters are meant.
        let old = statements.iter().find(|statement| statement["Sid"] == "ByItsOldArn").unwrap();
        assert_eq!(
            old["Resource"],
            serde_json::json!(["arn:*:ecs:eu-west-1:*:service/s", "arn:*:ecs:us-east-1:*:service/s"])
        );
        assert_eq!(
            old["Condition"]["ArnLike"]["ecs:cluster"],
            serde_json::json!(["arn:*:ecs:eu-west-1:*:cluster/c", "arn:*:ecs:us-east-1:*:cluster/d"])
        );
        assert_eq!(statements.iter().filter(|statement| statement["Resource"] == "*").count(), 1);
    }
}
