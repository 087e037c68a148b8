//! The answers of the functions, read with tolerance: this command line talks to functions older and newer than itself,
//! so any member may be missing, and a member of an unexpected type counts as missing.

use std::collections::BTreeMap;

use domain::ledger::kind::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::text::short;

/// Reads a value, and takes the default if it cannot be read.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default())
}

/// Reads a whole answer. What cannot be read in it counts as missing, so nothing in it can be wrong.
pub(crate) fn read<T: DeserializeOwned + Default>(answer: &Value) -> T {
    serde_json::from_value(answer.clone()).unwrap_or_default()
}

/// The body of an update's answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Updated {
    /// Id of the change.
    #[serde(deserialize_with = "lenient")]
    pub change_id: Option<String>,
    /// How it ended.
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    /// Target account.
    #[serde(deserialize_with = "lenient")]
    pub account_id: Option<String>,
    /// Target region.
    #[serde(deserialize_with = "lenient")]
    pub region: Option<String>,
    /// Cluster name.
    #[serde(deserialize_with = "lenient")]
    pub ecs_cluster_name: Option<String>,
    /// Service name.
    #[serde(deserialize_with = "lenient")]
    pub ecs_service_name: Option<String>,
    /// The deployment that it started.
    #[serde(deserialize_with = "lenient")]
    pub deployment_id: Option<String>,
    /// When it ended.
    #[serde(deserialize_with = "lenient")]
    pub timestamp: Option<String>,
    /// Whether an earlier answer was returned again.
    #[serde(deserialize_with = "lenient")]
    pub replayed: bool,
    /// What a dry run found, or what the change set; none in answers from before these were reported.
    #[serde(deserialize_with = "lenient")]
    pub changes: Option<Vec<PlannedChange>>,
    /// How its deployment ended.
    #[serde(deserialize_with = "lenient")]
    pub outcome: Option<ServiceAnswer>,
    /// The change whose deployment was continued or stopped.
    #[serde(deserialize_with = "lenient")]
    pub of: Option<String>,
    /// The images that were asked for by tag, each with the digest to which it was pinned.
    #[serde(deserialize_with = "lenient")]
    pub resolved_images: Option<BTreeMap<String, String>>,
    /// What else a person should know.
    #[serde(deserialize_with = "lenient")]
    pub notes: Vec<String>,
    /// What a restore left as it is.
    #[serde(deserialize_with = "lenient")]
    pub not_restored: Vec<NotRestored>,
    /// What was there before.
    #[serde(rename = "BEFORE", deserialize_with = "lenient")]
    pub before: Option<StateView>,
    /// What is there now.
    #[serde(rename = "AFTER", deserialize_with = "lenient")]
    pub after: Option<StateView>,
}

/// One difference that a dry run found, or that a change set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PlannedChange {
    /// `image`, `revision`, `definition`, `tag`, `parameter` or `deployment`.
    #[serde(deserialize_with = "lenient")]
    pub what: String,
    /// Container, tag key or parameter.
    #[serde(deserialize_with = "lenient")]
    pub path: String,
    /// The present value; null if there is none.
    pub from: Value,
    /// The value that it would get; null if it would be removed.
    pub to: Value,
}

/// Something that a restore left as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NotRestored {
    /// Container, tag key or parameter.
    #[serde(deserialize_with = "lenient")]
    pub path: String,
    /// Why it stays.
    #[serde(deserialize_with = "lenient")]
    pub why: String,
}

impl NotRestored {
    /// What it is and why it stays, in one line.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", self.path, self.why)
    }
}

/// One page of changes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HistoryPage {
    /// The changes, in the order that was requested.
    #[serde(deserialize_with = "lenient")]
    pub changes: Vec<HistoryChange>,
    /// Where the next page begins.
    #[serde(deserialize_with = "lenient")]
    pub next_token: Option<String>,
}

/// One change as the history function folds it from its records.
#[allow(clippy::struct_field_names)] // the names of the answer
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct HistoryChange {
    /// Its id.
    #[serde(deserialize_with = "lenient")]
    pub change_id: Option<String>,
    /// How it ended, or its present status.
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    /// Target account.
    #[serde(deserialize_with = "lenient")]
    pub account_id: Option<String>,
    /// Target region.
    #[serde(deserialize_with = "lenient")]
    pub region: Option<String>,
    /// Cluster name.
    #[serde(deserialize_with = "lenient")]
    pub ecs_cluster_name: Option<String>,
    /// Service name.
    #[serde(deserialize_with = "lenient")]
    pub ecs_service_name: Option<String>,
    /// When it began.
    #[serde(deserialize_with = "lenient")]
    pub started_at: Option<String>,
    /// When ECS had accepted it.
    #[serde(deserialize_with = "lenient")]
    pub applied_at: Option<String>,
    /// When its deployment had ended.
    #[serde(deserialize_with = "lenient")]
    pub ended_at: Option<String>,
    /// Who asked for it.
    #[serde(deserialize_with = "lenient")]
    pub requested_by: Option<String>,
    /// Why it was requested.
    #[serde(deserialize_with = "lenient")]
    pub reason: Option<String>,
    /// `verified` or `claimed`; none in answers from before this was reported.
    #[serde(deserialize_with = "lenient")]
    pub identity: Option<String>,
    /// The deployment that it started.
    #[serde(deserialize_with = "lenient")]
    pub deployment_id: Option<String>,
    /// Why it failed.
    #[serde(deserialize_with = "lenient")]
    pub error: Option<VerifyFault>,
    /// How its deployment ended.
    #[serde(deserialize_with = "lenient")]
    pub outcome: Option<ServiceAnswer>,
    /// What it was meant to set, as far as its record says.
    #[serde(deserialize_with = "lenient")]
    pub changes: Option<Vec<PlannedChange>>,
    /// What was there before.
    #[serde(deserialize_with = "lenient")]
    pub before: Option<StateView>,
    /// What was there after.
    #[serde(deserialize_with = "lenient")]
    pub after: Option<StateView>,
    /// The session name in the target account's CloudTrail.
    #[serde(deserialize_with = "lenient")]
    pub session: Option<String>,
    /// The Lambda request.
    #[serde(deserialize_with = "lenient")]
    pub request_id: Option<String>,
    /// The change whose deployment it continued or stopped, or whose deployment waits.
    #[serde(deserialize_with = "lenient")]
    pub of: Option<String>,
    /// What it did to that deployment.
    #[serde(deserialize_with = "lenient")]
    pub action: Option<String>,
    /// The change that it undid.
    #[serde(deserialize_with = "lenient")]
    pub restores: Option<String>,
    /// What it left as it is, if it is a restore.
    #[serde(deserialize_with = "lenient")]
    pub not_restored: Vec<NotRestored>,
    /// The images that were requested, each with the digest that it was pinned to.
    #[serde(deserialize_with = "lenient")]
    pub resolved_images: Option<BTreeMap<String, String>>,
}

/// How a deployment ended, in addition to its status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceAnswer {
    /// The reason, in the words of ECS.
    #[serde(deserialize_with = "lenient")]
    pub reason: Option<String>,
    /// The deployment that a rollback returned to.
    #[serde(deserialize_with = "lenient")]
    pub rolled_back_to: Option<Deployment>,
    /// The deployment that superseded it.
    #[serde(deserialize_with = "lenient")]
    pub superseded_by: Option<Deployment>,
    /// Whether no tasks are wanted.
    #[serde(deserialize_with = "lenient")]
    pub no_tasks_wanted: bool,
    /// The pause hook at which it waits, or waited.
    #[serde(deserialize_with = "lenient")]
    pub pause: Option<PauseView>,
    /// How many of its tasks failed.
    #[serde(deserialize_with = "lenient")]
    pub failed_tasks: Option<u64>,
    /// What the service said, newest first.
    #[serde(deserialize_with = "lenient")]
    pub events: Vec<String>,
    /// The digests of the images that run, by container.
    #[serde(deserialize_with = "lenient")]
    pub running_images: BTreeMap<String, String>,
}

/// A pause of a deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PauseView {
    /// Id of the hook.
    #[serde(deserialize_with = "lenient")]
    pub hook_id: Option<String>,
    /// The lifecycle stage.
    #[serde(deserialize_with = "lenient")]
    pub stage: Option<String>,
    /// When ECS acts by itself.
    #[serde(deserialize_with = "lenient")]
    pub until: Option<String>,
    /// What it does then.
    #[serde(deserialize_with = "lenient")]
    pub then: Option<String>,
    /// How the pause ended.
    #[serde(deserialize_with = "lenient")]
    pub ended: Option<String>,
}

impl PauseView {
    /// The pause on one line.
    fn line(&self) -> String {
        let parts = [
            self.hook_id.clone(),
            self.stage.clone(),
            self.ended.clone(),
            self.until.as_deref().filter(|_| self.ended.is_none()).map(|until| {
                let then = self.then.as_deref().unwrap_or("what the hook says");
                format!("until {until}, then {then}")
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A deployment, as far as it is known.
#[allow(clippy::struct_field_names)] // the names of the answer
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    /// Its id.
    #[serde(deserialize_with = "lenient")]
    pub deployment_id: Option<String>,
    /// The change that started it.
    #[serde(deserialize_with = "lenient")]
    pub change_id: Option<String>,
    /// ARN of the task definition.
    #[serde(deserialize_with = "lenient")]
    pub task_definition: Option<String>,
    /// ARN of the service revision.
    #[serde(deserialize_with = "lenient")]
    pub service_revision: Option<String>,
}

impl Deployment {
    /// What is known of it, in one line.
    fn line(&self) -> String {
        let last = |arn: &Option<String>| arn.as_deref().map(|arn| arn.rsplit('/').next().unwrap_or(arn).to_owned());
        let revision = last(&self.service_revision).map(|number| format!("service revision {number}"));
        let deployment = self.deployment_id.as_ref().map(|id| format!("deployment {id}"));
        let change = self.change_id.as_ref().map(|id| format!("change {id}"));
        let parts: Vec<String> =
            [last(&self.task_definition), deployment, change, revision].into_iter().flatten().collect();
        if parts.is_empty() { "what is not known".to_owned() } else { parts.join(", ") }
    }
}

impl ServiceAnswer {
    /// The facts to show about it, each with its name.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let no_tasks = self.no_tasks_wanted.then(|| "none are wanted".to_owned());
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let running = self.running_images.iter().map(|(container, digest)| format!("{container}: {digest}"));
        let facts = [
            ("rolled back to", self.rolled_back_to.as_ref().map(Deployment::line)),
            ("superseded by", self.superseded_by.as_ref().map(Deployment::line)),
            ("tasks", no_tasks),
            ("pause hook", self.pause.as_ref().map(PauseView::line)),
            ("why it ended", self.reason.clone()),
            ("failed tasks", self.failed_tasks.map(|failed| failed.to_string())),
            ("the service said", some(self.events.join(" | "))),
            ("running images", some(running.collect::<Vec<_>>().join(", "))),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A failure, as the records store it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct VerifyFault {
    /// What kind it is.
    #[serde(deserialize_with = "lenient")]
    pub code: Option<String>,
    /// Its whole text.
    #[serde(deserialize_with = "lenient")]
    pub message: Option<String>,
}

/// A service before or after a change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct StateView {
    /// ARN of the revision that it ran.
    #[serde(deserialize_with = "lenient")]
    pub task_definition_arn: Option<String>,
    /// Name of the container that the change is about.
    #[serde(deserialize_with = "lenient")]
    pub task_definition_name: Option<String>,
    /// Its image.
    #[serde(deserialize_with = "lenient")]
    pub service_image: Option<String>,
    /// Its memory limit in MiB.
    #[serde(deserialize_with = "lenient")]
    pub service_memory: Option<i64>,
    /// Images of all containers.
    #[serde(deserialize_with = "lenient")]
    pub images: BTreeMap<String, String>,
    /// The service's tags.
    #[serde(deserialize_with = "lenient")]
    pub tags: Vec<Tag>,
    /// When its `PRIMARY` deployment was last updated.
    #[serde(deserialize_with = "lenient")]
    pub updated_on: Option<String>,
    /// Id of that deployment.
    #[serde(deserialize_with = "lenient")]
    pub deployment_id: Option<String>,
    /// Parameters of `UpdateService`.
    #[serde(deserialize_with = "lenient")]
    pub service: Map<String, Value>,
}

/// One tag.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tag {
    /// Its key.
    #[serde(deserialize_with = "lenient")]
    pub key: String,
    /// Its value.
    #[serde(deserialize_with = "lenient")]
    pub value: String,
}

impl StateView {
    /// `family:revision`.
    pub(crate) fn revision(&self) -> Option<&str> {
        self.task_definition_arn.as_deref().map(|arn| arn.rsplit('/').next().unwrap_or(arn))
    }

    /// The images by container, or the single image of the first version if there is nothing else.
    pub(crate) fn all_images(&self) -> BTreeMap<&str, &str> {
        let mut images: BTreeMap<_, _> =
            self.images.iter().map(|(name, image)| (name.as_str(), image.as_str())).collect();
        if let (true, Some(image)) = (images.is_empty(), &self.service_image) {
            images.insert(self.task_definition_name.as_deref().unwrap_or_default(), image);
        }
        images
    }
}

/// `{account}/{region}/{cluster}/{service}`, as far as it is known.
pub(crate) fn service_key(parts: [&Option<String>; 4]) -> String {
    parts.map(|part| part.as_deref().unwrap_or("?")).join("/")
}

impl Updated {
    /// Which service it was.
    pub(crate) fn service(&self) -> String {
        service_key([&self.account_id, &self.region, &self.ecs_cluster_name, &self.ecs_service_name])
    }
}

impl HistoryChange {
    /// `verified` or `claimed`. If the answer does not say, it counts as claimed.
    pub(crate) fn identity(&self) -> &str {
        self.identity.as_deref().unwrap_or("claimed")
    }

    /// Who requested it, cut to `most` characters, after the word that says whether somebody vouches for it. The word comes before the
    /// name, so that no name can pretend to be vouched for.
    pub(crate) fn requester(&self, most: usize) -> Option<String> {
        let who = self.requested_by.as_deref()?;
        Some(format!("[{}] {}", short(self.identity(), 16), short(who, most)))
    }

    /// The images as they were requested, if they were pinned to their digests.
    pub(crate) fn asked_for(&self) -> Option<String> {
        let asked = self.resolved_images.as_ref()?.keys().map(String::as_str);
        Some(asked.collect::<Vec<_>>().join(", ")).filter(|asked| !asked.is_empty())
    }

    /// Which service it was.
    pub(crate) fn service(&self) -> String {
        service_key([&self.account_id, &self.region, &self.ecs_cluster_name, &self.ecs_service_name])
    }

    /// When it began, or else the first time that is known of it.
    pub(crate) fn when(&self) -> Option<&str> {
        [&self.started_at, &self.applied_at, &self.ended_at].into_iter().find_map(|at| at.as_deref())
    }

    /// Whether no further status is to be expected.
    pub(crate) fn has_ended(&self) -> bool {
        match self.status.as_deref() {
            Some("STARTED" | "UNRESOLVED") | None => false,
            // Tags and many parameters start no deployment.
            Some("APPLIED") => self.deployment_id.is_none(),
            Some(_) => true,
        }
    }
}

/// How a status is to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// On its way.
    Open,
    /// Somebody should look.
    Bad,
    /// Nothing to say about it.
    Quiet,
}

/// How to judge `status`, which is that of a change, of a rollout or of a part of a rollout. A status that only a later version knows is
/// one that somebody should look at.
pub(crate) fn tone(status: &str) -> Tone {
    if let Ok(kind) = status.parse::<Kind>() {
        return match kind {
            Kind::Applied | Kind::Completed => Tone::Good,
            Kind::Started | Kind::External | Kind::Superseded | Kind::AwaitingAction => Tone::Open,
            Kind::Unchanged | Kind::PauseEnded => Tone::Quiet,
            Kind::Failed
            | Kind::Abandoned
            | Kind::DeploymentFailed
            | Kind::RolledBack
            | Kind::RollbackFailed
            | Kind::Stopped => Tone::Bad,
        };
    }
    match status {
        "SUCCEEDED" | "PASSED" => Tone::Good,
        "PLANNED" | "TIMED_OUT" | "RUNNING" => Tone::Open,
        "NOT_STARTED" => Tone::Quiet,
        _ => Tone::Bad,
    }
}

/// The two values that say whether somebody vouches for who requested a change.
pub(crate) const IDENTITIES: [&str; 2] = ["verified", "claimed"];

/// How a rollout ended.
#[allow(clippy::struct_field_names)] // the names of the answer
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Rollout {
    /// `SUCCEEDED` or `STOPPED`.
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    /// Its name.
    #[serde(deserialize_with = "lenient")]
    pub rollout_id: Option<String>,
    /// Why it stopped.
    #[serde(deserialize_with = "lenient")]
    pub reason: Option<String>,
    /// How many services were changed.
    #[serde(deserialize_with = "lenient")]
    pub changed: Option<u64>,
    /// How many failed.
    #[serde(deserialize_with = "lenient")]
    pub failed: Option<u64>,
    /// Its waves.
    #[serde(deserialize_with = "lenient")]
    pub waves: Vec<RolloutWave>,
    /// The bucket that holds everything that is known about the rollout.
    #[serde(deserialize_with = "lenient")]
    pub bucket: Option<String>,
    /// The key of the summary in that bucket.
    #[serde(deserialize_with = "lenient")]
    pub key: Option<String>,
    /// What was left out because it would have been too long.
    #[serde(deserialize_with = "lenient")]
    pub shortened: Option<String>,
    /// The event that puts everything back, if it is short.
    #[serde(deserialize_with = "lenient")]
    pub restore: Option<WayBack>,
    /// The keys of objects that are such events, in the order in which they are to be sent.
    #[serde(deserialize_with = "lenient")]
    pub restore_keys: Vec<String>,
}

/// An update event that puts services back.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WayBack {
    /// The services.
    #[serde(deserialize_with = "lenient")]
    pub updates: Vec<RolloutTarget>,
}

/// How a wave ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RolloutWave {
    /// Its number, from 1.
    #[serde(deserialize_with = "lenient")]
    pub wave: Option<u64>,
    /// `PASSED`, `STOPPED`, `INTERRUPTED`, `NOT_STARTED`.
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    /// Some of the services that failed.
    #[serde(deserialize_with = "lenient")]
    pub failures: Vec<RolloutTarget>,
}

/// A service of a rollout.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RolloutTarget {
    /// Its account.
    #[serde(deserialize_with = "lenient")]
    pub account_id: Option<String>,
    /// Its region.
    #[serde(deserialize_with = "lenient")]
    pub region: Option<String>,
    /// Its cluster.
    #[serde(deserialize_with = "lenient")]
    pub ecs_cluster_name: Option<String>,
    /// Its name.
    #[serde(deserialize_with = "lenient")]
    pub ecs_service_name: Option<String>,
    /// How it ended.
    #[serde(deserialize_with = "lenient")]
    pub status: Option<String>,
    /// Why it failed.
    #[serde(deserialize_with = "lenient")]
    pub code: Option<String>,
    /// Its change.
    #[serde(deserialize_with = "lenient")]
    pub change_id: Option<String>,
}

impl RolloutTarget {
    /// The service, as far as it is named.
    pub(crate) fn service(&self) -> String {
        let parts = [&self.account_id, &self.region, &self.ecs_cluster_name, &self.ecs_service_name];
        let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
        parts.map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

/// What is said about a chain without records.
pub(crate) const NO_RECORDS: &str = "no records of this service: check the name";

/// What `verify` found in one ledger.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    /// Whether the chain and its head agree; none if that is unknown.
    #[serde(deserialize_with = "lenient")]
    pub ok: Option<bool>,
    /// How many records were checked.
    #[serde(deserialize_with = "lenient")]
    pub verified: u64,
    /// What is wrong.
    #[serde(deserialize_with = "lenient")]
    pub fault: Option<ChainFault>,
}

impl Verdict {
    /// Whether there are no records. Then nothing is proved, whatever an older function says.
    pub(crate) fn is_empty(&self) -> bool {
        let what = self.fault.as_ref().and_then(|fault| fault.what.as_deref());
        self.verified == 0 && (self.ok == Some(true) || what.is_some_and(|what| what.starts_with("empty")))
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChainFault {
    /// At which record.
    #[serde(deserialize_with = "lenient")]
    pub record: Option<String>,
    /// What is wrong there.
    #[serde(deserialize_with = "lenient")]
    pub what: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_of_older_and_newer_functions_are_read() {
        let page: HistoryPage =
            read(&json!({"changes": [{}, {"change_id": 7, "status": "NEW", "before": null, "after": {"images": [],
            "serviceImage": "nginx", "taskDefinitionArn": "arn:aws:ecs:r:a:task-definition/web:8"}, "later": {}}]}));
        assert_eq!(page.changes.len(), 2);
        let change = &page.changes[1];
        assert_eq!((change.change_id.as_deref(), change.status.as_deref()), (None, Some("NEW")));
        let after = change.after.as_ref().unwrap();
        assert_eq!(after.all_images().values().copied().collect::<Vec<_>>(), ["nginx"]);
        assert_eq!(after.revision(), Some("web:8"));
        assert_eq!(change.service(), "?/?/?/?");
        assert!(read::<Verdict>(&json!("nonsense")).ok.is_none());
    }

    #[test]
    fn what_started_a_deployment_has_not_ended_before_it() {
        let change = |status: &str, deployment: Option<&str>| HistoryChange {
            status: Some(status.to_owned()),
            deployment_id: deployment.map(str::to_owned),
            ..HistoryChange::default()
        };
        assert!(!change("APPLIED", Some("ecs-svc/1")).has_ended());
        assert!(change("APPLIED", None).has_ended());
        assert!(!change("STARTED", None).has_ended());
        assert!(change("ROLLED_BACK", Some("ecs-svc/1")).has_ended());
    }
}
