//! What is left of a role's rights under an inline session policy.

use serde_json::Value;

use super::{Refusal, refusal};
use crate::policy::{self, Question};
use crate::sts::Session;

/// What is asked for beside a description that includes tags. AWS's documentation does not say whether it is: `ReadTags` of
/// `target-role.json` in docs/IAM.md. Here it always is, which is the stricter way.
const LIST_TAGS: &str = "ecs:ListTagsForResource";

/// Whether the session is allowed to make the call.
pub(super) fn authorize(session: &Session, region: &str, action: &str, input: &Value) -> Result<(), Refusal> {
    let Some(policy) = &session.policy else { return Ok(()) };
    let text = |name: &str| input[name].as_str().unwrap_or_default();
    let cluster = text("cluster").rsplit('/').next().unwrap_or_default();
    let service_arn = |name: &str| {
        if name.starts_with("arn:") {
            name.to_owned()
        } else {
            format!("arn:aws:ecs:{region}:{}:service/{cluster}/{name}", session.account)
        }
    };
    let cluster_arn = format!("arn:aws:ecs:{region}:{}:cluster/{cluster}", session.account);
    let with_tags = input["include"].as_array().is_some_and(|included| included.contains(&Value::from("TAGS")));
    let mut questions = Vec::new();
    let name = format!("ecs:{action}");
    match action {
        "DescribeServices" => {
            for service in input["services"].as_array().into_iter().flatten() {
                let resource = service_arn(service.as_str().unwrap_or_default());
                if with_tags {
                    questions.push((LIST_TAGS.into(), resource.clone(), vec![]));
                }
                questions.push((name.clone(), resource, vec![("ecs:cluster", cluster_arn.clone())]));
            }
        }
        "DescribeTaskDefinition" => {
            if with_tags {
                let definition = text("taskDefinition").rsplit('/').next().unwrap_or_default();
                let arn = format!("arn:aws:ecs:{region}:{}:task-definition/{definition}", session.account);
                questions.push((LIST_TAGS.into(), arn, vec![]));
            }
            questions.push((name, "*".into(), vec![]));
        }
        "UpdateService" => questions.push((name, service_arn(text("service")), vec![("ecs:cluster", cluster_arn)])),
        "TagResource" | "UntagResource" => questions.push((name, text("resourceArn").to_owned(), vec![])),
        "RegisterTaskDefinition" => {
            let family = format!("arn:aws:ecs:{region}:{}:task-definition/{}:*", session.account, text("family"));
            if input["tags"].as_array().is_some_and(|t| !t.is_empty()) {
                let created = vec![("ecs:createaction", "RegisterTaskDefinition".to_owned())];
                questions.push(("ecs:TagResource".into(), family.clone(), created));
            }
            questions.push((name, family, vec![]));
            for role in ["taskRoleArn", "executionRoleArn"].map(&text).into_iter().filter(|r| r.starts_with("arn:")) {
                let passed = vec![("iam:passedtoservice", "ecs-tasks.amazonaws.com".to_owned())];
                questions.push(("iam:PassRole".into(), role.to_owned(), passed));
            }
        }
        // AWS asks for the deployment and for its service.
        // Source: "Actions, resources, and condition keys for Amazon Elastic Container Service", resource types.
        "StopServiceDeployment" | "ContinueServiceDeployment" => {
            let arn = text("serviceDeploymentArn");
            let service = arn.rsplit_once('/').map(|(names, _)| names.replace(":service-deployment/", ":service/"));
            questions.push((name.clone(), service.unwrap_or_default(), vec![]));
            questions.push((name, arn.to_owned(), vec![]));
        }
        _ => questions.push((name, "*".into(), vec![])),
    }
    for (action, resource, context) in questions {
        if !policy::allows(policy, &Question { action: &action, resource: &resource, context }) {
            let who = format!("arn:aws:sts::{}:assumed-role/ecs-updater-target/{}", session.account, session.name);
            return refusal(
                "AccessDeniedException",
                format!(
                    "User: {who} is not authorized to perform: {action} on resource: {resource} because no session policy allows the {action} action"
                ),
            );
        }
    }
    Ok(())
}
