//! Which change a deployment belongs to: what a change started, or left behind without recording it, and how what a deployment runs
//! compares with what a change wanted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::ecs::deployment::listed::{is_rolling, said_of, said_of_primary};
use crate::ecs::deployment::outcome::Superseder;
use crate::ecs::deployment::times::CLOCK_TOLERANCE;
use crate::ecs::deployment::view::EcsView;
use crate::ecs::service::{RecordedState, Snapshot};
use crate::ecs::task_definition::{TaskDefinition, family_and_revision};
use crate::ids::ChangeId;
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::head::LATE_EFFECT;
use crate::ledger::record::{ChangeContext, RawRecord};
use crate::plan::difference::{Difference, DifferenceKind};

/// The deployment that a change started: the `PRIMARY` one, if it is not the one from before, was not created before the change began,
/// and runs what the change left the service with. Any other deployment was started by somebody else.
#[must_use]
pub fn started(
    facts: &ChangeContext,
    before: &RecordedState,
    after: &Snapshot,
    now: DateTime<Utc>,
) -> Option<DeploymentItem> {
    let Snapshot { service, task_definition } = after;
    let id = service.deployment_id().filter(|id| before.deployment_id.as_deref() != Some(*id))?;
    let created_at = service.deployed_at().unwrap_or(now);
    if created_at < facts.change_id.time() - CLOCK_TOLERANCE {
        return None;
    }
    if said_of(service, id).is_some_and(|says| says.rolls_back == Some(true)) {
        return None;
    }
    let runs = service.deployed_task_definition();
    if let (Some(runs), Some(wanted)) = (runs, task_definition)
        && runs != wanted.arn
    {
        return None;
    }
    Some(DeploymentItem {
        repositories: facts.repositories.clone(),
        before: before.deployment_id.clone(),
        service_deployment: service.service_deployment().map(str::to_owned),
        by_events: is_rolling(service),
        ..DeploymentItem::new(&facts.service, service.arn(), id, facts.change_id.clone(), created_at, now)
    })
}

/// Whether a deployment runs what a change wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// It does.
    Wanted,
    /// It runs something else.
    Other,
    /// Neither the record nor ECS says it.
    Unknown,
}

/// Whether a deployment runs what a change was meant to run. That is the revision that it put back; or its images beside those that it
/// left alone, in a new revision of the same family; or, if it set neither, the revision from before, or else what the service ran by
/// then: such a change deploys whatever is there, which somebody else may have set since the change began.
#[must_use]
pub fn runs(changes: Option<&[Difference]>, before: Option<&RecordedState>, says: &EcsView) -> Runs {
    let (Some(changes), Some(before), Some(arn)) = (changes, before, &says.task_definition) else {
        return Runs::Unknown;
    };
    let judged = |is_wanted| if is_wanted { Runs::Wanted } else { Runs::Other };
    let of = |what| changes.iter().filter(move |change| change.what == what);
    let revision = of(DifferenceKind::Revision).next();
    if let Some(to) = revision.and_then(|change| change.to.as_str()) {
        return judged(to == arn);
    }
    let from = before.state.task_definition_arn.as_ref();
    if revision.is_none() && of(DifferenceKind::Image).next().is_none() {
        return judged(from == Some(arn) || says.runs_what_ran_before());
    }
    let Some(has) = &says.images else { return Runs::Unknown };
    let images = of(DifferenceKind::Image).map(|change| (&change.path, change.to.as_str()));
    let mut wanted: BTreeMap<&String, Option<&str>> = images.collect();
    if revision.is_none() {
        for (container, image) in &before.state.images {
            wanted.entry(container).or_insert(Some(image));
        }
    }
    let has_all = wanted.iter().all(|(container, image)| has.get(*container).map(String::as_str) == *image);
    let is_new = from.is_some_and(|from| from != arn && family_of(from) == family_of(arn));
    judged(has_all && is_new)
}

/// Whether a change that sets no revision may have started a deployment of another revision than the one it began with: what that
/// deployment replaced shows it.
#[must_use]
pub fn depends_on_what_was_replaced(
    changes: Option<&[Difference]>,
    before: Option<&RecordedState>,
    says: &EcsView,
) -> bool {
    let (Some(changes), Some(before)) = (changes, before) else { return false };
    let sets_revision = |change: &Difference| matches!(change.what, DifferenceKind::Image | DifferenceKind::Revision);
    changes.iter().any(may_deploy)
        && !changes.iter().any(sets_revision)
        && says.predecessor_runs.is_none()
        && says.task_definition.is_some()
        && says.task_definition != before.state.task_definition_arn
}

/// Whether a deployment that was there when a change was continued can be the one that the change started: the change deploys, and what
/// is there runs what it was meant to run. A change that sets neither images nor a revision deploys whatever is there, if this attempt
/// acted.
#[must_use]
pub fn is_its(changes: Option<&[Difference]>, before: &RecordedState, after: &Snapshot, acts: bool) -> bool {
    if changes.is_some_and(|changes| !changes.iter().any(may_deploy)) {
        return false;
    }
    let is_chosen = |change: &Difference| matches!(change.what, DifferenceKind::Image | DifferenceKind::Revision);
    let is_free = changes.is_some_and(|changes| !changes.iter().any(is_chosen));
    let says = said_of_primary(&after.service);
    let says = EcsView { images: after.task_definition.as_deref().map(TaskDefinition::images), ..says };
    (is_free && acts) || runs(changes, Some(before), &says) != Runs::Other
}

fn family_of(arn: &str) -> Option<&str> {
    family_and_revision(arn).rsplit_once(':').map(|(family, _)| family)
}

/// The deployment that a change left behind without recording it: as [`started`], and it runs what the change wanted, and was created
/// while the change could act.
#[must_use]
pub fn left(
    facts: &ChangeContext,
    changes: Option<&[Difference]>,
    before: &RecordedState,
    now: &Snapshot,
    until: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Option<DeploymentItem> {
    if changes.is_some_and(|changes| !changes.iter().any(may_deploy)) {
        return None;
    }
    let item = started(facts, before, now, at)?;
    let images = now.task_definition.as_deref().map(TaskDefinition::images);
    let says = EcsView { images, ..said_of(&now.service, item.deployment_id())? };
    let is_its = item.started_at <= until + LATE_EFFECT && runs(changes, Some(before), &says) == Runs::Wanted;
    is_its.then_some(item)
}

/// The change that had replaced a deployment before that was stopped, according to the service's records: ECS no longer shows which
/// deployment replaced it once the replacement was rolled back itself.
#[must_use]
pub fn superseder_among(
    records: &[RawRecord],
    deployment_id: &str,
    stopped_at: Option<DateTime<Utc>>,
) -> Option<Superseder> {
    let text = |record: &RawRecord, name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
    let json = |record: &RawRecord, name: &str| serde_json::from_str::<Value>(&text(record, name)?).ok();
    let followed = |record: &&RawRecord| {
        let before = json(record, "before");
        let is_after = before.as_ref().and_then(|state| state.get("deploymentId")?.as_str()) == Some(deployment_id);
        let began = text(record, "change_id").and_then(|id| ChangeId::parse(&id).ok()).map(|id| id.time());
        let is_cause = stopped_at.zip(began).is_none_or(|(stopped, began)| began <= stopped + CLOCK_TOLERANCE);
        is_after && is_cause && text(record, "deployment_id").is_some_and(|id| id != deployment_id)
    };
    let record = records.iter().find(followed)?;
    let after = json(record, "after");
    Some(Superseder {
        deployment_id: text(record, "deployment_id")?,
        change_id: text(record, "change_id"),
        task_definition: after.and_then(|state| Some(state.get("taskDefinitionArn")?.as_str()?.to_owned())),
    })
}

/// Parameters that start no deployment. Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>, "This
/// parameter doesn't trigger a new service deployment".
const START_NONE: [&str; 11] = [
    "desiredCount",
    "deploymentConfiguration",
    "availabilityZoneRebalancing",
    "capacityProviderStrategy",
    "deploymentController",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "healthCheckGracePeriodSeconds",
    "placementConstraints",
    "placementStrategy",
    "propagateTags",
];

/// Whether one member of a change starts a deployment.
#[must_use]
pub fn may_deploy(change: &Difference) -> bool {
    match change.what {
        DifferenceKind::Tag | DifferenceKind::Rollout | DifferenceKind::Hook => false,
        DifferenceKind::Parameter => !START_NONE.contains(&change.path.as_str()),
        DifferenceKind::Image | DifferenceKind::Revision | DifferenceKind::Definition | DifferenceKind::Deployment => {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::service::Service;
    use serde_json::json;

    fn snapshot(deployments: &Value) -> Snapshot {
        let running = &deployments[0]["taskDefinition"];
        let members = json!({"serviceArn": "arn:s", "clusterArn": "arn:c", "status": "ACTIVE", "taskDefinition": running,
            "deployments": deployments});
        let body = json!({"taskDefinition": {"taskDefinitionArn": running, "family": "web", "revision": 1,
            "containerDefinitions": [{"name": "web", "image": "nginx"}]}});
        let definition = TaskDefinition::from_answer(body.to_string().as_bytes()).unwrap();
        let service = Service::new(members.as_object().unwrap().clone(), None).unwrap();
        Snapshot { service, task_definition: Some(definition.into()) }
    }

    fn deployment(id: &str, status: &str, revision: &str, created_at: i64) -> Value {
        json!({"id": id, "status": status, "taskDefinition": revision, "createdAt": created_at})
    }

    #[test]
    fn a_forced_deployment_of_what_somebody_else_set_meanwhile_is_the_changes_own() {
        let before = snapshot(&json!([deployment("ecs-svc/1", "PRIMARY", "web:1", 10)])).recorded(None);
        let forced = [Difference {
            what: DifferenceKind::Deployment,
            path: "forceNewDeployment".to_owned(),
            from: Value::Null,
            to: true.into(),
        }];
        let judged = |deployments: Value, id: &str| {
            runs(Some(&forced), Some(&before), &said_of(&snapshot(&deployments).service, id).unwrap())
        };
        let foreign = deployment("ecs-svc/2", "PRIMARY", "web:2", 20);
        assert_eq!(judged(json!([foreign, deployment("ecs-svc/1", "ACTIVE", "web:1", 10)]), "ecs-svc/2"), Runs::Other);
        let both = json!([
            deployment("ecs-svc/3", "PRIMARY", "web:2", 30),
            deployment("ecs-svc/2", "ACTIVE", "web:2", 20),
            deployment("ecs-svc/1", "ACTIVE", "web:1", 10)
        ]);
        assert_eq!(judged(both.clone(), "ecs-svc/2"), Runs::Other, "who set another revision is somebody else");
        assert_eq!(judged(both.clone(), "ecs-svc/3"), Runs::Wanted);
        // An attempt that continues the change takes it for done.
        assert!(is_its(Some(&forced), &before, &snapshot(&both), false));
        // Once nothing is left of what it replaced, only its service deployment shows what that was.
        let mut alone = snapshot(&json!([deployment("ecs-svc/3", "PRIMARY", "web:2", 30)]));
        let says = said_of(&alone.service, "ecs-svc/3").unwrap();
        assert_eq!(runs(Some(&forced), Some(&before), &says), Runs::Other);
        assert!(depends_on_what_was_replaced(Some(&forced), Some(&before), &says));
        alone.service.replaced = Some("web:2".to_owned());
        assert!(is_its(Some(&forced), &before, &alone, false));
        alone.service.replaced = Some("web:1".to_owned());
        assert!(!is_its(Some(&forced), &before, &alone, false));
    }
}
