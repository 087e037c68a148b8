//! What goes badly with a deployment, for people: how many of its tasks failed, and what its service says since it began.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::ecs::deployment::listed::deployments;
use crate::ecs::deployment::outcome::{LONGEST_EVENT, Outcome, OutcomeDetail};
use crate::ecs::deployment::times::{ROUNDING, time};
use crate::ecs::service::Service;
use crate::ledger::kind::Kind;
use crate::text::shortened;

/// How many events of a service are told: the newest.
const EVENTS: usize = 5;

/// What goes badly with a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// How many tasks of the deployment did not start, or did not become healthy: `failedTasks`
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Deployment.html>).
    pub failed_tasks: u64,
    /// The newest events of the service since the deployment began, the newest first, each text once.
    pub events: Vec<String>,
}

impl Trouble {
    /// What a service shows of the trouble of a deployment that began at `since`, in the words of ECS: [`Trouble::told`] before anybody is
    /// told.
    #[must_use]
    pub fn of(service: &Service, deployment_id: &str, since: DateTime<Utc>) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Event {
            created_at: f64,
            message: String,
        }
        let own = deployments(service).into_iter().find(|deployment| deployment.id == deployment_id);
        let listed = service.parameter("events").and_then(serde_json::Value::as_array).into_iter().flatten();
        let mut said: Vec<Event> = listed
            .filter_map(|event| serde_json::from_value(event.clone()).ok())
            .filter(|event: &Event| time(event.created_at).is_some_and(|at| at + ROUNDING >= since))
            .collect();
        said.sort_by(|one, other| other.created_at.total_cmp(&one.created_at));
        let mut events: Vec<String> = Vec::new();
        for event in said {
            if events.len() < EVENTS && !events.contains(&event.message) {
                events.push(event.message);
            }
        }
        let failed_tasks = own.and_then(|own| own.failed_tasks).unwrap_or_default();
        Self { failed_tasks: u64::try_from(failed_tasks).unwrap_or_default(), events }
    }

    /// The same, with `tell` applied to what ECS says, and long texts cut.
    #[must_use]
    pub fn told(self, tell: impl Fn(&str) -> String) -> Self {
        let events = self.events.iter().map(|event| shortened(&tell(event), LONGEST_EVENT)).collect();
        Self { events, ..self }
    }

    /// The outcome with what went badly, if the deployment did not last.
    #[must_use]
    pub fn added_to(self, outcome: Outcome) -> Outcome {
        if !matches!(outcome.kind, Kind::DeploymentFailed | Kind::RolledBack | Kind::RollbackFailed | Kind::Stopped) {
            return outcome;
        }
        let failed_tasks = Some(self.failed_tasks).filter(|failed| *failed > 0);
        Outcome { detail: OutcomeDetail { failed_tasks, events: self.events, ..outcome.detail }, ..outcome }
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        if self.failed_tasks > 0 {
            write!(f, "{} of its tasks failed", self.failed_tasks)?;
            gap = "; ";
        }
        if !self.events.is_empty() {
            write!(f, "{gap}the service says, newest first: {}", self.events.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ecs::reason;
    use crate::mask::Mask;

    const PLACE: &str =
        "(service web) was unable to place a task because no container instance met all of its requirements.";

    fn service(events: &Value) -> Service {
        let members = json!({"events": events, "deployments": [
            {"id": "ecs-svc/2", "status": "PRIMARY", "failedTasks": 3}, {"id": "ecs-svc/1", "status": "ACTIVE"}]});
        Service::new(members.as_object().unwrap().clone(), None).unwrap()
    }

    fn since() -> DateTime<Utc> {
        DateTime::from_timestamp(1000, 0).unwrap()
    }

    #[test]
    fn the_newest_events_since_the_deployment_began_are_told_once_each() {
        let event = |at: f64, message: &str| json!({"id": "e", "createdAt": at, "message": message});
        let events = json!([
            event(1003.0, "third"), event(1001.0, "first"), event(1002.0, "second"), event(1004.0, "third"),
            event(998.0, "from before"), {"message": "without a time"}
        ]);
        let trouble = Trouble::of(&service(&events), "ecs-svc/2", since());
        assert_eq!(
            trouble,
            Trouble { failed_tasks: 3, events: ["third", "second", "first"].map(str::to_owned).to_vec() }
        );
        assert_eq!(
            trouble.to_string(),
            "3 of its tasks failed; the service says, newest first: third | second | first"
        );
        let many: Value = (0..20).map(|n| event(1000.0 + f64::from(n), &n.to_string())).collect();
        assert_eq!(Trouble::of(&service(&many), "ecs-svc/1", since()).events, ["19", "18", "17", "16", "15"]);
        let none = Trouble::of(&service(&Value::Null), "ecs-svc/9", since());
        assert!(none.is_none() && none.to_string().is_empty());
    }

    #[test]
    fn values_are_hidden_in_them_as_in_reasons() {
        let definition =
            json!({"containerDefinitions": [{"environment": [{"name": "TOKEN", "value": "hunter2-hunter2"}]}]});
        let mask = Mask::default().and_of(&definition);
        let events =
            json!([{"createdAt": 1001.0, "message": PLACE}, {"createdAt": 1002.0, "message": "exec: hunter2-hunter2"}]);
        let trouble = Trouble::of(&service(&events), "ecs-svc/2", since());
        let told = trouble.clone().told(|event| reason::told(event, Some(&mask)));
        assert_eq!(told.events, ["exec: ***", PLACE]);
        let unread = trouble.told(|event| reason::told(event, None));
        assert!(!unread.to_string().contains("hunter2"), "{unread}");
        let long = Trouble { failed_tasks: 0, events: vec!["ä".repeat(1000)] }.told(str::to_owned);
        assert_eq!(long.events[0].chars().count(), LONGEST_EVENT + 1);
    }
}
