//! The answer that the caller receives.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strum::{EnumIter, IntoStaticStr};

use crate::ecs::deployment::outcome::OutcomeDetail;
use crate::ecs::deployment::pause::Pause;
use crate::ecs::service::ServiceState;
use crate::error::Failure;
use crate::event::request::DeploymentAction;
use crate::ids::{ChangeId, ServiceKey};
use crate::image::ResolvedImages;
use crate::ledger::kind::Kind;
use crate::plan::difference::{Difference, NotRestored};
use crate::tolerant::tolerant_words;

/// The answer to one update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// 200: a failure is reported as a function error instead.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// What happened.
    pub body: Body,
}

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// A dry run.
    Planned,
    /// AWS accepted the change.
    Applied,
    /// Nothing differed.
    Unchanged,
    /// Its deployment completed while the updater waited for it.
    Completed,
    /// Its deployment failed.
    DeploymentFailed,
    /// ECS rolled back to what ran before.
    RolledBack,
    /// ECS tried to roll back, and could not.
    RollbackFailed,
    /// Somebody stopped its deployment.
    Stopped,
    /// Another deployment took over.
    Superseded,
    /// Its deployment did not end while the updater waited for it.
    TimedOut,
    /// Its deployment waits at a pause hook for somebody to continue it.
    AwaitingAction,
    /// A status that only a later version knows, from an answer that it stored.
    Later(&'static str),
}

tolerant_words!(Status);

impl Status {
    /// The status of a change whose deployment ended with this outcome.
    #[must_use]
    pub fn of_outcome(kind: Kind) -> Self {
        match kind {
            Kind::Completed => Self::Completed,
            Kind::DeploymentFailed => Self::DeploymentFailed,
            Kind::RolledBack => Self::RolledBack,
            Kind::RollbackFailed => Self::RollbackFailed,
            Kind::Stopped => Self::Stopped,
            Kind::Superseded => Self::Superseded,
            Kind::AwaitingAction => Self::AwaitingAction,
            Kind::PauseEnded
            | Kind::Started
            | Kind::Applied
            | Kind::Unchanged
            | Kind::Failed
            | Kind::Abandoned
            | Kind::External => Self::Applied,
        }
    }
}

/// What happened to one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Id of the change; none for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Target account.
    pub account_id: String,
    /// Target region.
    pub region: String,
    /// Cluster name.
    pub ecs_cluster_name: String,
    /// Service name.
    pub ecs_service_name: String,
    /// The deployment that the change started; null where it started none.
    pub deployment_id: Option<String>,
    /// When it ended (RFC 3339).
    pub timestamp: String,
    /// Whether this is the answer to an earlier event with the same idempotency key.
    pub replayed: bool,
    /// The change that was undone: the state from before it was put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<String>,
    /// The change whose deployment was continued or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// What was done to the deployment of that change: `continue` or `stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The images asked for, each with the digest it was pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_images: Option<ResolvedImages>,
    /// Each difference that a dry run found, or that the change set. `None` if that is not known, or too long for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<serde_json::Value>>,
    /// What else a person should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What a restore left as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_restored: Vec<NotRestored>,
    /// How its deployment ended, if the updater waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeDetail>,
    /// The pause hooks at which its deployment waits for somebody to continue it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaiting: Vec<Pause>,
    /// The outcome that was recorded with this answer; for the metrics.
    #[serde(skip)]
    pub recorded: Option<Kind>,
    /// The state before the change.
    #[serde(rename = "BEFORE")]
    pub before: ServiceState,
    /// The state now, as AWS answered it.
    #[serde(rename = "AFTER")]
    pub after: ServiceState,
    /// Members that a later version stored in addition.
    #[serde(flatten)]
    pub later: serde_json::Map<String, serde_json::Value>,
}

impl Response {
    /// An answer about `service`.
    #[must_use]
    pub fn new(
        service: &ServiceKey,
        change_id: Option<&ChangeId>,
        status: Status,
        timestamp: String,
        before: ServiceState,
        after: ServiceState,
    ) -> Self {
        Self {
            status_code: 200,
            body: Body {
                change_id: change_id.map(ToString::to_string),
                status,
                account_id: service.account_id().to_string(),
                region: service.region().to_string(),
                ecs_cluster_name: service.cluster().to_owned(),
                ecs_service_name: service.service().to_owned(),
                deployment_id: None,
                timestamp,
                replayed: false,
                restores: None,
                of: None,
                action: None,
                resolved_images: None,
                changes: None,
                notes: Vec::new(),
                not_restored: Vec::new(),
                outcome: None,
                awaiting: Vec::new(),
                recorded: None,
                before,
                after,
                later: serde_json::Map::new(),
            },
        }
    }
}

/// The longest list of differences in the answer to a change, in bytes. Answers are kept in items of 400 KB.
const MAX_CHANGES: usize = 64 * 1024;

impl Body {
    /// Adds what was asked of the deployment of another change.
    pub fn act(&mut self, action: Option<&DeploymentAction>) {
        self.of = action.map(|action| action.of.to_string());
        self.action = action.map(|action| action.verb.as_str().to_owned());
    }

    /// Adds the differences that the change set, if they fit.
    pub fn tell(&mut self, changes: &[Difference]) {
        let told: Vec<serde_json::Value> = Difference::all_told(changes);
        let bytes: usize = told.iter().map(|change| change.to_string().len() + 1).sum();
        if bytes > MAX_CHANGES {
            self.notes.push(format!("its differences are left out: they would be {bytes} bytes. A plan has them"));
        } else {
            self.changes = Some(told);
        }
    }
}

/// The maximum number of bytes of the results of many updates: Lambda allows 6 MB (6,291,556 bytes) in all.
/// Source: "Lambda quotas" in the AWS Lambda developer guide.
const MAX_RESULTS_BYTES: usize = 6_000_000;

/// The answer to an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum EventAnswer {
    /// The answer to one update.
    One(Box<Response>),
    /// The answer to many updates.
    Many(ManyResponse),
}

/// How one of many updates ended.
#[derive(Debug)]
pub enum ServiceOutcome {
    /// It was answered as it would have been answered alone.
    Answered(Box<Response>),
    /// It failed.
    Failed(Failure),
    /// It was not started, because too little time was left.
    NotStarted,
}

/// The answer to many updates.
#[derive(Debug, Serialize)]
pub struct ManyResponse {
    /// 200: all updates succeeded; 207: some did not.
    #[serde(rename = "statusCode")]
    pub status_code: u16,
    /// What happened.
    pub body: ManyBody,
}

/// What happened to many services.
#[derive(Debug, Serialize)]
pub struct ManyBody {
    /// The number of updates by how they ended.
    pub summary: Summary,
    /// Why the results hold codes and ids only, though more was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortened: Option<&'static str>,
    /// The result of each update, in the order in which they were requested.
    pub results: Vec<Box<RawValue>>,
}

/// The number of updates by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// AWS accepted the change, and its deployment completed if the updater waited for it.
    pub applied: u32,
    /// Nothing differed.
    pub unchanged: u32,
    /// The update failed, or its deployment ended in another way than completed while the updater waited for it.
    pub failed: u32,
    /// Not started for lack of time.
    pub not_started: u32,
    /// Dry runs.
    #[serde(skip_serializing_if = "is_zero")]
    pub planned: u32,
    /// Deployments that did not end while the updater waited for them, those that wait for a person included.
    #[serde(skip_serializing_if = "is_zero")]
    pub timed_out: u32,
    /// Restores, each counted above as well, that left something as it is.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_restored: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A result that is not a [`Body`], or the codes and ids of one.
#[derive(Serialize)]
struct Short<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    change_id: Option<&'a str>,
    status: &'a str,
    account_id: &'a str,
    region: &'a str,
    ecs_cluster_name: &'a str,
    ecs_service_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    not_restored: &'a [NotRestored],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ShortError<'a>>,
}

#[derive(Serialize)]
struct ShortError<'a> {
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    retryable: bool,
}

/// Collects the results of many updates as they arrive: as JSON text, so that nothing else is kept of a change that ended.
#[derive(Debug)]
pub struct Results {
    summary: Summary,
    short: Vec<Option<Box<RawValue>>>,
    /// `None` if the results hold codes and ids only.
    full: Option<Vec<Option<Box<RawValue>>>>,
    bytes: usize,
    shortened: Option<&'static str>,
}

impl Results {
    /// Room for `count` results.
    #[must_use]
    pub fn new(count: usize, summary_only: bool) -> Self {
        let none = || (0..count).map(|_| None).collect();
        let full = (!summary_only).then(none);
        Self { summary: Summary::default(), short: none(), full, bytes: 0, shortened: None }
    }

    /// Stores the result of the update at `index`.
    pub fn set(&mut self, index: usize, service: &ServiceKey, outcome: &ServiceOutcome) {
        let summary = &mut self.summary;
        let status = match outcome {
            ServiceOutcome::Answered(response) => {
                let count = match response.body.status {
                    Status::Planned => &mut summary.planned,
                    Status::Applied | Status::Completed => &mut summary.applied,
                    Status::Unchanged => &mut summary.unchanged,
                    Status::TimedOut | Status::AwaitingAction => &mut summary.timed_out,
                    Status::DeploymentFailed
                    | Status::RolledBack
                    | Status::RollbackFailed
                    | Status::Stopped
                    | Status::Superseded
                    | Status::Later(_) => &mut summary.failed,
                };
                (count, response.body.status.as_str())
            }
            ServiceOutcome::Failed(_) => (&mut summary.failed, "FAILED"),
            ServiceOutcome::NotStarted => (&mut summary.not_started, "NOT_STARTED"),
        };
        *status.0 += 1;
        if let ServiceOutcome::Answered(response) = outcome
            && !response.body.not_restored.is_empty()
        {
            summary.not_restored += 1;
        }
        let mut short = Short {
            change_id: None,
            status: status.1,
            account_id: service.account_id().as_str(),
            region: service.region().as_str(),
            ecs_cluster_name: service.cluster(),
            ecs_service_name: service.service(),
            deployment_id: None,
            replayed: None,
            not_restored: &[],
            error: None,
        };
        let full = match outcome {
            ServiceOutcome::Answered(response) => {
                short.change_id = response.body.change_id.as_deref();
                short.deployment_id = response.body.deployment_id.as_deref();
                short.not_restored = &response.body.not_restored;
                short.replayed = response.body.replayed.then_some(true);
                raw(&response.body)
            }
            ServiceOutcome::Failed(Failure { code, message, retryable, change_id, .. }) => {
                short.change_id = change_id.as_deref();
                let error = |message| Some(ShortError { code: code.as_str(), message, retryable: *retryable });
                short.error = error(Some(message.as_str()));
                let full = raw(&short);
                short.error = error(None);
                full
            }
            ServiceOutcome::NotStarted => raw(&short),
        };
        self.short[index] = raw(&short);
        self.bytes += full.as_ref().map_or(0, |full| full.get().len() + 1);
        if self.bytes > MAX_RESULTS_BYTES && self.full.take().is_some() {
            self.shortened = Some(
                "the results together would have passed the 6 MB that Lambda carries: they hold codes and ids only. \
                 Ask the history function for more",
            );
        }
        if let Some(kept) = &mut self.full {
            kept[index] = full;
        }
    }

    /// The answer, when all results are in.
    #[must_use]
    pub fn into_response(self) -> ManyResponse {
        let Summary { failed, not_started, timed_out, .. } = self.summary;
        ManyResponse {
            status_code: if failed + not_started + timed_out == 0 { 200 } else { 207 },
            body: ManyBody {
                summary: self.summary,
                shortened: self.shortened,
                results: self.full.unwrap_or(self.short).into_iter().flatten().collect(),
            },
        }
    }
}

fn raw(value: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::difference::DifferenceKind;
    use serde_json::{Value, json};

    const RESPONSE_SCHEMA: &str = include_str!("../../../schema/update-response.schema.json");

    #[test]
    fn differences_that_are_too_long_are_left_out_and_said_so() {
        let service = ServiceKey::parse("222222222222/eu-west-1/prod/web").unwrap();
        let state = || -> ServiceState {
            let members = json!({"clusterArn": "", "serviceArn": "", "taskDefinitionName": null, "taskDefinitionFamily": null,
                "taskDefinitionArn": null, "serviceImage": null, "images": {}, "serviceMemory": null, "tags": [], "updatedOn": null});
            serde_json::from_value(members).unwrap()
        };
        let mut response = Response::new(&service, None, Status::Applied, String::new(), state(), state());
        let of = |text: &str| Difference {
            what: DifferenceKind::Tag,
            path: "a".to_owned(),
            from: json!(null),
            to: json!(text),
        };
        response.body.tell(&[of("1")]);
        assert_eq!(response.body.changes, Some(vec![json!({"what": "tag", "path": "a", "from": null, "to": "1"})]));
        assert!(response.body.notes.is_empty());
        response.body.changes = None;
        response.body.tell(&[of(&"x".repeat(MAX_CHANGES))]);
        assert_eq!(response.body.changes, None);
        assert!(response.body.notes[0].contains("differences are left out"), "{:?}", response.body.notes);
    }

    #[test]
    fn the_response_schema_tells_answers_apart() {
        let schema: Value = serde_json::from_str(RESPONSE_SCHEMA).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let state = json!({
            "clusterArn": "arn:aws:ecs:eu-west-1:222222222222:cluster/c",
            "serviceArn": "arn:aws:ecs:eu-west-1:222222222222:service/c/s",
            "taskDefinitionName": "web", "taskDefinitionFamily": "web",
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7",
            "serviceImage": "busybox", "images": {"web": "busybox"}, "serviceMemory": null,
            "tags": [{"key": "k", "value": ""}], "updatedOn": "2026-11-22T09:30:00.123Z"
        });
        let applied = json!({"statusCode": 200, "body": {
            "change_id": "01935321-1234-7abc-89ef-0123456789ab", "status": "APPLIED", "account_id": "222222222222",
            "region": "eu-west-1", "ecs_cluster_name": "c", "ecs_service_name": "s", "deployment_id": "ecs-svc/1",
            "timestamp": "2026-11-22T09:30:00.123Z", "replayed": false, "BEFORE": state, "AFTER": state
        }});
        let with = |path: &str, value: Value| {
            let mut answer = applied.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            answer.pointer_mut(parent).unwrap()[name] = value;
            answer
        };
        let without = |path: &str| {
            let mut answer = applied.clone();
            let (parent, name) = path.rsplit_once('/').unwrap();
            answer.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
            answer
        };
        let mut planned = with("/body/status", json!("PLANNED"));
        planned["body"].as_object_mut().unwrap().remove("change_id");
        let planned_without_changes = planned.clone();
        planned["body"]["changes"] = json!([{"what": "image", "path": "web", "from": "busybox", "to": "nginx"},
                                           {"what": "desiredCount", "from": null, "to": 2}]);
        planned["body"]["notes"] = json!(["needs a new deployment"]);
        planned["body"]["AFTER"]["taskDefinitionArn"] = json!(null);
        for good in [
            applied.clone(),
            planned.clone(),
            with("/body/status", json!("UNCHANGED")),
            with("/body/changes", json!([])),
            with("/body/changes", planned["body"]["changes"].clone()),
            with("/body/deployment_id", json!(null)),
            with("/body/BEFORE/serviceMemory", json!(64)),
            with("/body/BEFORE/updatedOn", json!(null)),
        ] {
            let faults: Vec<_> = validator.iter_errors(&good).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{good}: {faults:?}");
        }
        let fields = [
            "change_id",
            "status",
            "account_id",
            "region",
            "ecs_cluster_name",
            "ecs_service_name",
            "deployment_id",
            "timestamp",
            "replayed",
            "BEFORE",
            "AFTER",
        ];
        for field in fields {
            assert!(!validator.is_valid(&without(&format!("/body/{field}"))), "{field}");
        }
        for field in state.as_object().unwrap().keys() {
            assert!(!validator.is_valid(&without(&format!("/body/BEFORE/{field}"))), "{field}");
            assert!(!validator.is_valid(&without(&format!("/body/AFTER/{field}"))), "{field}");
        }
        for bad in [
            planned_without_changes,
            with("/body/changes", json!([{"what": "image", "path": "web"}])),
            with("/body/status", json!("DONE")),
            with("/body/timestamp", json!("2026-11-22T09:30:00Z")),
            with("/body/change_id", json!("01935321-1234-4abc-89ef-0123456789ab")),
            with("/body/unknown", json!(1)),
            with("/body/BEFORE/unknown", json!(1)),
            with("/body/BEFORE/tags", json!([{"Key": "k", "Value": ""}])),
            with("/body/BEFORE/updatedOn", json!(1_795_339_800)),
            with("/statusCode", json!("200")),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }
}
