//! Events of ECS about pause hooks, as `EventBridge` delivers them.
//!
//! Shapes: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_hook_state_change_events.html>.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::ecs::deployment::event::service_of;
use crate::ecs::deployment::pause::Pause;
use crate::ids::ServiceKey;
use crate::text::{rfc3339, shown_text};

/// The `detail-type` of these events.
pub const HOOK_EVENT: &str = "ECS Hook State Change";

/// The longest id of a hook, and the longest ARN, that is taken: they are far shorter in truth.
const MAX_TEXT: usize = 512;

/// An `ECS Hook State Change` event about a pause hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEvent {
    /// The service.
    pub service: ServiceKey,
    /// Its ARN.
    pub service_arn: String,
    /// ARN of the service deployment that has reached the hook.
    pub service_deployment: String,
    /// The pause, as far as the event tells: not what ECS does when its time is over.
    pub pause: Pause,
    /// When it happened.
    pub at: DateTime<Utc>,
}

impl HookEvent {
    /// Reads an event; `None` if it says nothing about the beginning or the end of a pause.
    ///
    /// # Errors
    ///
    /// A sentence, if it is not such an event.
    pub fn parse(event: &Value) -> Result<Option<Self>, String> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/source") != "aws.ecs" || text("/detail-type") != HOOK_EVENT {
            return Err(format!(
                "source {} and detail-type {} are not those of an {HOOK_EVENT} event",
                shown_text(text("/source")),
                shown_text(text("/detail-type"))
            ));
        }
        // Hooks that call a Lambda function wait for nobody.
        if text("/detail/hookType") != "PAUSE" {
            return Ok(None);
        }
        let ended = match text("/detail/eventName") {
            "HOOK_AWAITING_ACTION" => None,
            end @ ("HOOK_SUCCEEDED" | "HOOK_FAILED" | "HOOK_TIMED_OUT") => Some(end.to_owned()),
            _ => return Ok(None),
        };
        let service_arn = text("/detail/serviceArn");
        let service = service_of(service_arn, text("/detail/clusterArn"))?;
        if service.account_id().as_str() != text("/account") || service.region().as_str() != text("/region") {
            return Err(format!(
                "the event of account {} and region {} is about {}",
                shown_text(text("/account")),
                shown_text(text("/region")),
                shown_text(service_arn)
            ));
        }
        let filled = |pointer: &str| match text(pointer) {
            "" => Err(format!("the event has no {pointer}")),
            long if long.len() > MAX_TEXT => Err(format!("{pointer} {} is too long", shown_text(long))),
            filled => Ok(filled.to_owned()),
        };
        let time = |pointer: &str| {
            let time = DateTime::parse_from_rfc3339(text(pointer)).ok();
            time.map(|time| time.with_timezone(&Utc))
        };
        let at = time("/detail/updatedAt").or_else(|| time("/time"));
        let at = at.ok_or("the event has neither /detail/updatedAt nor /time")?;
        let stage = Some(text("/detail/lifecycleStage")).filter(|stage| !stage.is_empty() && stage.len() <= MAX_TEXT);
        Ok(Some(Self {
            service_deployment: filled("/detail/serviceDeploymentArn")?,
            pause: Pause {
                hook_id: filled("/detail/hookId")?,
                stage: stage.map(str::to_owned),
                since: ended.is_none().then(|| rfc3339(at)),
                until: time("/detail/expiresAt").map(rfc3339),
                then: None,
                ended,
            },
            service,
            service_arn: service_arn.to_owned(),
            at,
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The example of the developer guide.
    fn event(name: &str) -> Value {
        let deployment =
            "arn:aws:ecs:us-west-2:123456789012:service-deployment/my-cluster/my-service/0EYSiB0qap8xf0N76FsbE";
        json!({
            "version": "0", "id": "3329f79b-3dca-07f8-b1c2-5fe99f0b5e87", "detail-type": "ECS Hook State Change",
            "source": "aws.ecs", "account": "123456789012", "time": "2026-03-05T15:54:41Z", "region": "us-west-2",
            "resources": [deployment],
            "detail": {
                "eventType": "INFO", "eventName": name, "hookId": "ecs-pause-e7tK9G_WRJqNF_EOMjztDXfKenlJuEUVjsNStf4WLKw",
                "hookType": "PAUSE", "expiresAt": "2026-03-05T16:04:41Z", "lifecycleStage": "POST_TEST_TRAFFIC_SHIFT",
                "clusterArn": "arn:aws:ecs:us-west-2:123456789012:cluster/my-cluster",
                "serviceArn": "arn:aws:ecs:us-west-2:123456789012:service/my-cluster/my-service",
                "serviceDeploymentArn": deployment, "updatedAt": "2026-03-05T15:54:41.618059641Z",
            },
        })
    }

    #[test]
    fn events_are_read() {
        let read = HookEvent::parse(&event("HOOK_AWAITING_ACTION")).unwrap().unwrap();
        assert_eq!(read.service.to_string(), "123456789012/us-west-2/my-cluster/my-service");
        let (pause, at) = (&read.pause, "2026-03-05T15:54:41.618Z");
        assert_eq!((pause.since.as_deref(), pause.until.as_deref()), (Some(at), Some("2026-03-05T16:04:41.000Z")));
        assert_eq!((pause.stage.as_deref(), &pause.ended), (Some("POST_TEST_TRAFFIC_SHIFT"), &None));
        for end in ["HOOK_SUCCEEDED", "HOOK_FAILED", "HOOK_TIMED_OUT"] {
            let read = HookEvent::parse(&event(end)).unwrap().unwrap();
            assert_eq!((read.pause.ended.as_deref(), read.pause.since), (Some(end), None));
        }
        assert_eq!(HookEvent::parse(&event("HOOK_IN_PROGRESS")).unwrap(), None);
        let mut of_lambda = event("HOOK_FAILED");
        of_lambda["detail"]["hookType"] = "AWS_LAMBDA".into();
        assert_eq!(HookEvent::parse(&of_lambda).unwrap(), None);
    }

    #[test]
    fn what_is_no_such_event_is_refused() {
        for (pointer, value) in [
            ("/source", json!("my.ecs")),
            ("/detail-type", json!("ECS Deployment State Change")),
            ("/account", json!("999988887777")),
            ("/detail/serviceArn", json!("arn:aws:ecs:us-west-2:123456789012:cluster/my-cluster")),
            ("/detail/serviceDeploymentArn", json!("")),
            ("/detail/hookId", json!("x".repeat(200_000))),
        ] {
            let mut event = event("HOOK_AWAITING_ACTION");
            *event.pointer_mut(pointer).unwrap() = value;
            let why = HookEvent::parse(&event).unwrap_err();
            assert!(why.len() < 1_000, "{pointer}: {why:.1000}");
        }
    }
}
