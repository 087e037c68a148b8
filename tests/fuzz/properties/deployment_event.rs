//! What EventBridge and ECS tell of a deployment.

use chrono::{DateTime, Utc};
use ecs_updater::ledger::hear::{Heard, hear, needs_open};
use ecs_updater::ledger::record::Kind;
use ecs_updater::ledger::state::{DeploymentItem, Head, Lease};
use ecs_updater::names::{ChangeId, Partition};
use ecs_updater::outcome::{DeploymentEvent, Detail, Followed, Happened, Listed, ServiceDeployment, Standing};
use ecs_updater::snapshot::{Service, rfc3339};
use serde_json::Value;

const LONGEST_MESSAGE: usize = 2_000;
const ENDINGS: [Kind; 6] =
    [Kind::Completed, Kind::DeploymentFailed, Kind::RolledBack, Kind::RollbackFailed, Kind::Stopped, Kind::Superseded];

pub fn check(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    match DeploymentEvent::parse(&value) {
        Err(why) => super::check_message(&why, 1, LONGEST_MESSAGE),
        Ok(None) => {}
        Ok(Some(event)) => heard(&value, &event),
    }
    followed(&value);
}

/// What is taken from an event stands in it, and leads to one thing to do.
fn heard(value: &Value, event: &DeploymentEvent) {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(
        (event.service_arn.as_str(), event.deployment_id.as_str()),
        (text("/resources/0"), text("/detail/deploymentId"))
    );
    assert_eq!(
        (event.service.account_id().as_str(), event.service.region().as_str()),
        (text("/account"), text("/region"))
    );
    let parts: Vec<&str> = event.service_arn.split([':', '/']).collect();
    assert!(
        parts[0] == "arn" && Partition::parse(parts[1]).is_ok() && parts[2] == "ecs" && parts[5] == "service",
        "{parts:?}"
    );
    assert_eq!((parts[3], parts[4]), (text("/region"), text("/account")));
    assert_eq!(parts.last(), Some(&event.service.service()));
    assert!(event.service_arn.len() <= 700, "{}", event.service_arn);
    assert!(DateTime::parse_from_rfc3339(&rfc3339(event.at)).is_ok(), "{:?}", event.at);

    let now = event.at + chrono::Duration::seconds(30);
    let change = ChangeId::new(event.at, [7; 10]);
    let mut known = DeploymentItem::new(&event.service, &event.service_arn, &event.deployment_id, change.as_str(), now);
    assert_eq!(known.deployment_id(), event.deployment_id);
    known.started_at = event.at;
    let mut other = DeploymentItem::new(&event.service, &event.service_arn, "ecs-svc/other", change.as_str(), now);
    other.started_at = event.at;
    let mut undoing = known.clone();
    undoing.undoes = Some("ecs-svc/undone".to_owned());
    let mut stranger = known.clone();
    stranger.service_arn.push('x');
    let head = |until: DateTime<Utc>| Head {
        seq: 1,
        hash: String::new(),
        record: format!("{change}#0"),
        change_id: change.to_string(),
        lease: Some(Lease { change_id: change.to_string(), until, key: String::new() }),
    };
    let heads = [None, Some(head(now + chrono::Duration::seconds(1))), Some(head(event.at))];
    for item in [None, Some(&known), Some(&undoing), Some(&stranger)] {
        for head in &heads {
            for open in [&[][..], std::slice::from_ref(&other)] {
                sensible(event, item, &hear(event, head.as_ref(), item, open, now));
            }
        }
        let _ = needs_open(event, item);
    }
    let late = hear(event, None, None, &[], event.at + chrono::Duration::days(30));
    assert!(matches!(late, Heard::Nothing(_)), "{late:?}");
}

fn sensible(event: &DeploymentEvent, item: Option<&DeploymentItem>, heard: &Heard) {
    if item.is_some_and(|item| item.service_arn != event.service_arn) {
        assert!(matches!(heard, Heard::Refused(_)), "{heard:?}");
        return;
    }
    match heard {
        Heard::Refused(why) => panic!("{why}"),
        Heard::External(_) => assert!(item.is_none(), "{heard:?}"),
        Heard::Ended { ending, is_final, .. } => {
            assert!(item.is_some() && event.happened != Happened::InProgress, "{heard:?}");
            assert_eq!(*is_final, ending.kind != Kind::DeploymentFailed);
            comes_back(&ending.detail);
        }
        Heard::OfOrphan { .. } => assert!(event.happened == Happened::InProgress && item.is_none(), "{heard:?}"),
        Heard::RollsBack { .. } => assert!(event.rolls_back()),
        Heard::Nothing(_) | Heard::TooEarly(_) => {}
    }
}

/// The same document as what ECS answers of a service and its deployments.
fn followed(value: &Value) {
    let Value::Object(members) = value else { return };
    let service = Service::new(members.clone(), None);
    let _ = (service.updated_at(), service.task_definition_arn(), service.deployment_controller(), service.status());
    let ids: Vec<String> = match members.get("deployments").and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(|it| it.get("id")?.as_str().map(str::to_owned)).take(4).collect(),
        None => vec!["ecs-svc/1".to_owned()],
    };
    let known: Option<ServiceDeployment> =
        members.get("serviceDeployment").and_then(|it| serde_json::from_value(it.clone()).ok());
    let listed: Vec<Listed> =
        members.get("serviceDeployments").and_then(|it| serde_json::from_value(it.clone()).ok()).unwrap_or_default();
    let started_at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    for id in &ids {
        let followed = Followed { id, before: ids.first().map(String::as_str), started_at };
        if let Some(found) = followed.among(&listed) {
            assert!(listed.contains(found));
        }
        for known in [None, known.as_ref()] {
            if let Standing::Ended(ending) = followed.standing(&service, known) {
                assert!(ENDINGS.contains(&ending.kind), "{ending:?}");
                comes_back(&ending.detail);
            }
        }
    }
}

/// A record keeps it as JSON.
fn comes_back(detail: &Detail) {
    let text = serde_json_canonicalizer::to_string(detail).unwrap();
    assert_eq!(serde_json::from_str::<Detail>(&text).unwrap(), *detail);
}
