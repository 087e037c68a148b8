//! Pause hooks: lifecycle hooks at which a deployment waits until somebody continues it, or until ECS acts by itself.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html>.

use std::fmt;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use crate::ecs::deployment::times::time;
use crate::text::{one_line, rfc3339, shown_text};

/// How many minutes a pause hook waits where it does not say so: "Default: 1440 (24 hours)".
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentLifecycleHookTimeoutConfiguration.html>.
const DEFAULT_MINUTES: i64 = 1440;

/// A pause hook that a deployment has reached. Members without a value are omitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Its id, which is another one each time a hook is reached.
    pub hook_id: String,
    /// The lifecycle stage at which the deployment waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Since when the deployment waits (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When ECS acts by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What ECS does then: `ROLLBACK` or `CONTINUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// How the pause ended, by the name of the event that reported it: `HOOK_SUCCEEDED` (it was continued), `HOOK_FAILED` (it was rolled
    /// back) or `HOOK_TIMED_OUT` (ECS did by itself what stands in `then`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

impl Pause {
    /// The same pause, with what another source tells of it in addition.
    #[must_use]
    pub fn and(self, other: Option<&Self>) -> Self {
        let Some(other) = other.filter(|other| other.hook_id == self.hook_id) else { return self };
        Self {
            stage: self.stage.or_else(|| other.stage.clone()),
            since: self.since.or_else(|| other.since.clone()),
            until: self.until.or_else(|| other.until.clone()),
            then: self.then.or_else(|| other.then.clone()),
            ..self
        }
    }
}

/// What the deployment waits for, for people.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it waits at pause hook {}", shown_text(&self.hook_id))?;
        if let Some(stage) = &self.stage {
            write!(f, " (stage {})", one_line(stage))?;
        }
        if let Some(since) = &self.since {
            write!(f, " since {since}")?;
        }
        f.write_str(" for somebody to continue it")?;
        let then = match self.then.as_deref() {
            Some("ROLLBACK") => "rolls it back",
            Some("CONTINUE") => "continues it",
            _ => "does what the hook says",
        };
        match &self.until {
            Some(until) => write!(f, "; at {until} ECS {then} by itself"),
            None => write!(f, "; once the hook's time is over, ECS {then} by itself"),
        }
    }
}

/// An entry of `lifecycleHookDetails`.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeploymentLifecycleHookDetail.html>.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HookDetail {
    hook_id: String,
    status: Option<String>,
    expires_at: Option<f64>,
    timeout_action: Option<String>,
}

/// The part of a service deployment's `deploymentConfiguration` that tells how long its pause hooks wait.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HookConfiguration {
    lifecycle_hooks: Option<Vec<ConfiguredHook>>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfiguredHook {
    target_type: Option<String>,
    lifecycle_stages: Option<Vec<String>>,
    timeout_configuration: Option<HookTimeout>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HookTimeout {
    timeout_in_minutes: Option<i64>,
}

impl HookDetail {
    /// Whether the deployment waits at it for somebody.
    pub(super) fn waits(&self) -> bool {
        self.status.as_deref() == Some("AWAITING_ACTION")
    }

    /// The pause at it, in the stage that the deployment has reached.
    pub(super) fn pause(&self, stage: Option<&str>, configuration: Option<&HookConfiguration>) -> Pause {
        let until: Option<DateTime<Utc>> = self.expires_at.and_then(time);
        let waits = configuration.and_then(|configuration| configuration.waits_at(stage));
        Pause {
            hook_id: self.hook_id.clone(),
            stage: stage.map(str::to_owned),
            // ECS says when the pause ends, and not when it began.
            since: until.zip(waits).and_then(|(until, waits)| until.checked_sub_signed(waits)).map(rfc3339),
            until: until.map(rfc3339),
            then: self.timeout_action.clone(),
            ended: None,
        }
    }
}

impl HookConfiguration {
    /// How long the pause hook of a stage waits; `None` if the stage does not have exactly one.
    fn waits_at(&self, stage: Option<&str>) -> Option<Duration> {
        let is_there = |hook: &&ConfiguredHook| {
            let stages = hook.lifecycle_stages.as_deref().unwrap_or_default();
            hook.target_type.as_deref() == Some("PAUSE") && stages.iter().any(|one| Some(one.as_str()) == stage)
        };
        let mut hooks = self.lifecycle_hooks.iter().flatten().filter(is_there);
        let (only, None) = (hooks.next()?, hooks.next()) else { return None };
        let minutes = only.timeout_configuration.as_ref().and_then(|timeout| timeout.timeout_in_minutes);
        Duration::try_minutes(minutes.unwrap_or(DEFAULT_MINUTES))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ecs::deployment::service_deployment::ServiceDeployment;

    fn deployment(status: &str, hooks: &Value) -> ServiceDeployment {
        serde_json::from_value(json!({
            "serviceDeploymentArn": "arn:sd", "status": status, "lifecycleStage": "POST_TEST_TRAFFIC_SHIFT",
            "lifecycleHookDetails": hooks,
            "deploymentConfiguration": {"strategy": "BLUE_GREEN", "lifecycleHooks": [
                {"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"],
                 "timeoutConfiguration": {"timeoutInMinutes": 10, "action": "ROLLBACK"}},
                {"hookTargetArn": "arn:lambda", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]},
            ]},
        }))
        .unwrap()
    }

    fn hook(status: &str) -> Value {
        json!({"hookId": "ecs-pause-1", "targetType": "PAUSE", "status": status, "expiresAt": 1_795_000_600.25,
               "timeoutAction": "ROLLBACK"})
    }

    #[test]
    fn a_pause_says_which_hook_since_when_until_when_and_what_then() {
        let waits =
            deployment("IN_PROGRESS", &json!([hook("AWAITING_ACTION"), {"hookId": "l", "status": "SUCCEEDED"}]));
        let expected = Pause {
            hook_id: "ecs-pause-1".to_owned(),
            stage: Some("POST_TEST_TRAFFIC_SHIFT".to_owned()),
            since: Some("2026-11-18T11:06:40.250Z".to_owned()),
            until: Some("2026-11-18T11:16:40.250Z".to_owned()),
            then: Some("ROLLBACK".to_owned()),
            ended: None,
        };
        assert_eq!(waits.pauses(), [expected]);
        let told = waits.pauses()[0].to_string();
        assert!(told.contains("since 2026-11-18T11:06:40.250Z") && told.contains("ECS rolls it back"), "{told}");
    }

    #[test]
    fn what_is_over_waits_for_nobody() {
        assert!(deployment("IN_PROGRESS", &json!([hook("SUCCEEDED")])).pauses().is_empty());
        assert!(deployment("IN_PROGRESS", &Value::Null).pauses().is_empty());
        assert!(deployment("ROLLBACK_IN_PROGRESS", &json!([hook("AWAITING_ACTION")])).pauses().is_empty());
    }

    #[test]
    fn since_when_is_not_made_up() {
        let mut two = deployment("IN_PROGRESS", &json!([hook("AWAITING_ACTION")]));
        let configured = two.deployment_configuration.as_mut().and_then(|it| it.lifecycle_hooks.as_mut()).unwrap();
        configured[1].target_type = Some("PAUSE".to_owned());
        assert_eq!(two.pauses()[0].since, None, "either of the two hooks may be the one");
        let bare = json!([{"hookId": "h", "status": "AWAITING_ACTION"}]);
        let told = deployment("PENDING", &bare).pauses()[0].to_string();
        assert!(told.contains("once the hook's time is over, ECS does what the hook says"), "{told}");
    }
}
