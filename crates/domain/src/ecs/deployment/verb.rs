//! What somebody may do to a deployment that is under way, and what that means for it as it stands.

use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::ecs::deployment::service_deployment::ServiceDeployment;
use crate::plan::difference::{Difference, DifferenceKind};

/// What an event asks of the deployment of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum DeploymentVerb {
    /// Continue it where it waits at a pause hook.
    Continue,
    /// Stop it, and roll it back.
    Stop,
}

/// What a verb means for a deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum Acting {
    /// One call for each of these.
    Calls(Vec<Difference>),
    /// Nothing is left to do, because of this.
    Nothing(String),
}

impl DeploymentVerb {
    /// The verb as events, records and answers have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// What it means for a service deployment as it stands. Which ones can be stopped, and what becomes of them:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stop-service-deployment.html>. All hooks at which a deployment waits are
    /// continued: "the deployment stays paused until all hooks at that stage are continued"
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/pause-lifecycle-hooks.html>).
    #[must_use]
    pub fn acting(self, known: &ServiceDeployment) -> Acting {
        let (arn, status) = (known.service_deployment_arn.as_str(), known.status.as_str());
        match (self, status) {
            (Self::Stop, "PENDING" | "IN_PROGRESS") => Acting::Calls(vec![Difference {
                what: DifferenceKind::Rollout,
                path: arn.to_owned(),
                from: status.into(),
                to: "ROLLBACK".into(),
            }]),
            (_, "STOP_REQUESTED" | "ROLLBACK_REQUESTED" | "ROLLBACK_IN_PROGRESS") => {
                Acting::Nothing(format!("{arn} is {status}: it is being stopped or rolled back already"))
            }
            (Self::Continue, "PENDING" | "IN_PROGRESS") => {
                let hooks = known.pauses().into_iter().map(|pause| Difference {
                    what: DifferenceKind::Hook,
                    path: pause.hook_id,
                    from: "AWAITING_ACTION".into(),
                    to: "CONTINUE".into(),
                });
                let hooks: Vec<Difference> = hooks.collect();
                if hooks.is_empty() {
                    return Acting::Nothing(format!("{arn} is {status}, and waits at no pause hook"));
                }
                Acting::Calls(hooks)
            }
            _ => Acting::Nothing(format!("{arn} has ended: it is {status}")),
        }
    }
}

/// Whether a call that a change set out to make is still to be made, by the service deployment as it stands.
#[must_use]
pub fn is_left(change: &Difference, known: &ServiceDeployment) -> bool {
    match change.what {
        DifferenceKind::Hook => known.pauses().iter().any(|pause| pause.hook_id == change.path),
        DifferenceKind::Rollout => {
            known.service_deployment_arn == change.path && matches!(known.status.as_str(), "PENDING" | "IN_PROGRESS")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(status: &str, hooks: &Value) -> ServiceDeployment {
        serde_json::from_value(
            json!({"serviceDeploymentArn": "arn:sd", "status": status, "lifecycleHookDetails": hooks}),
        )
        .unwrap()
    }

    fn waiting(ids: &[&str]) -> Value {
        ids.iter().map(|id| json!({"hookId": id, "status": "AWAITING_ACTION", "targetType": "PAUSE"})).collect()
    }

    #[test]
    fn only_what_is_under_way_is_stopped() {
        for status in ["PENDING", "IN_PROGRESS"] {
            let Acting::Calls(calls) = DeploymentVerb::Stop.acting(&deployment(status, &waiting(&["h"]))) else {
                panic!("{status}")
            };
            assert_eq!((calls.len(), calls[0].path.as_str(), &calls[0].from), (1, "arn:sd", &json!(status)));
            assert!(is_left(&calls[0], &deployment(status, &json!([]))));
            assert!(!is_left(&calls[0], &deployment("ROLLBACK_REQUESTED", &json!([]))));
        }
        for (status, why) in [
            ("ROLLBACK_IN_PROGRESS", "rolled back already"),
            ("STOP_REQUESTED", "rolled back already"),
            ("SUCCESSFUL", "has ended"),
            ("STOPPED", "has ended"),
            ("ROLLBACK_FAILED", "has ended"),
        ] {
            for verb in [DeploymentVerb::Stop, DeploymentVerb::Continue] {
                let acting = verb.acting(&deployment(status, &waiting(&["h"])));
                assert!(matches!(&acting, Acting::Nothing(told) if told.contains(why)), "{status}: {acting:?}");
            }
        }
    }

    #[test]
    fn every_hook_at_which_it_waits_is_continued_and_no_other() {
        let known = deployment("IN_PROGRESS", &waiting(&["h1", "h2"]));
        let Acting::Calls(calls) = DeploymentVerb::Continue.acting(&known) else { panic!("it waits") };
        assert_eq!(calls.iter().map(|call| call.path.as_str()).collect::<Vec<_>>(), ["h1", "h2"]);
        // It came to the next pause meanwhile, which nobody has asked to continue.
        let later = deployment("IN_PROGRESS", &waiting(&["h3"]));
        assert!(!calls.iter().any(|call| is_left(call, &later)));
        let acting = DeploymentVerb::Continue.acting(&deployment("IN_PROGRESS", &json!([])));
        assert!(matches!(acting, Acting::Nothing(told) if told.contains("waits at no pause hook")));
    }
}
