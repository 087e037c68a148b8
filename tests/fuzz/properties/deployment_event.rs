//! What EventBridge and ECS tell of a deployment.

use chrono::{DateTime, Utc};
use domain::ecs::deployment::event::{DeploymentEvent, DeploymentEventKind, HeardEvent};
use domain::ecs::deployment::hook_event::HookEvent;
use domain::ecs::deployment::outcome::{DeploymentStatus, OutcomeDetail};
use domain::ecs::deployment::service_deployment::{ServiceDeployment, ServiceDeploymentSummary};
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ecs::deployment::view::DeploymentProgress;
use domain::ecs::deployment::view::EcsView;
use domain::ecs::reason::is_all_known;
use domain::ecs::service::Service;
use domain::ids::{ChangeId, EcsName, Partition, ServiceKey};
use domain::ledger::deployment::{DeploymentItem, Undoes};
use domain::ledger::deployment_event::decision::{EventContext, EventDecision};
use domain::ledger::deployment_event::{classify, needs_ledger};
use domain::ledger::head::{Head, Lease};
use domain::ledger::key::Attempt;
use domain::ledger::key::RecordKey;
use domain::ledger::key::RecordPlace;
use domain::ledger::kind::Kind;
use domain::ledger::pause::{PauseStep, noted, step};
use domain::ledger::started::{NewestRecords, StartedChange};
use domain::mask::HIDDEN;
use domain::text::rfc3339;
use serde_json::Value;

const MAX_MESSAGE: usize = 2_000;
const ENDINGS: [Kind; 6] =
    [Kind::Completed, Kind::DeploymentFailed, Kind::RolledBack, Kind::RollbackFailed, Kind::Stopped, Kind::Superseded];

pub(crate) fn check(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    match HeardEvent::parse(&value) {
        Err(why) => super::check_message(&why, 1, MAX_MESSAGE),
        Ok(None) => {}
        Ok(Some(HeardEvent::Placed(event))) => heard(&value, &event),
        Ok(Some(HeardEvent::Unplaced(event))) => {
            let name = |name: &str| EcsName::parse(name).unwrap();
            let (account, region) = (event.account_id.clone(), event.region.clone());
            let service = |named| ServiceKey::new(account.clone(), region.clone(), name("c"), named);
            assert_eq!(event.clone().placed(&service(name("another-service-that-nobody-named"))), None);
            let meant = service(event.service_name.clone());
            heard(&value, &event.placed(&meant).unwrap());
        }
    }
    match HookEvent::parse(&value) {
        Err(why) => super::check_message(&why, 1, MAX_MESSAGE),
        Ok(None) => {}
        Ok(Some(event)) => paused(&value, &event),
    }
    followed(&value);
}

/// What is taken from an event about a hook stands in it, and what is noted of it is noted once.
fn paused(value: &Value, event: &HookEvent) {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    assert_eq!(
        (event.pause.hook_id.as_str(), event.service_deployment.as_str()),
        (text("/detail/hookId"), text("/detail/serviceDeploymentArn"))
    );
    assert_eq!(event.service.account_id().as_str(), text("/account"));
    assert!(event.service_arn.len() <= 700 && event.pause.to_string().len() < MAX_MESSAGE, "{event:?}");
    let item = DeploymentItem::new(
        &event.service,
        &event.service_arn,
        "ecs-svc/1",
        ChangeId::new(event.at, [7; 10]),
        event.at,
        event.at,
    );
    assert!(!matches!(step(&item, &event.pause), PauseStep::Nothing(_)));
    let noted = noted(&item, event.pause.clone(), None);
    assert!(matches!(step(&noted, &event.pause), PauseStep::Nothing(_)), "twice");
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
    let told = event.reason.as_deref().unwrap_or_default();
    assert!(is_all_known(&told.replace(HIDDEN, "")), "a value can stand in {told:?}");
    assert!(event.service_arn.len() <= 700, "{}", event.service_arn);
    assert!(DateTime::parse_from_rfc3339(&rfc3339(event.at)).is_ok(), "{:?}", event.at);

    let now = event.at + chrono::Duration::seconds(30);
    let change = ChangeId::new(event.at, [7; 10]);
    let item = |id: &str| DeploymentItem::new(&event.service, &event.service_arn, id, change.clone(), event.at, now);
    let known = item(&event.deployment_id);
    assert_eq!(known.deployment_id(), event.deployment_id);
    let mut other = item("ecs-svc/other");
    other.started_at = event.at - chrono::Duration::seconds(10);
    let mut undoing = known.clone();
    undoing.undoes = Some(Undoes { deployment_id: Some("ecs-svc/undone".to_owned()), since: event.at });
    let mut stranger = known.clone();
    stranger.service_arn.push('x');
    let head = |until: DateTime<Utc>| Head {
        seq: 1,
        hash: String::new(),
        record: RecordKey::new(change.clone(), RecordPlace::Started(Attempt::FIRST)),
        highest: change.clone(),
        begun: Some(change.clone()),
        begun_by: None,
        running: None,
        failed: false,
        lease: Some(Lease { change_id: change.clone(), attempt: Attempt::FIRST, until, key: String::new() }),
    };
    let begun = StartedChange {
        change_id: change.clone(),
        attempt: Attempt::FIRST,
        began: event.at,
        until: now,
        before: None,
        changes: None,
        left: None,
    };
    let writings = [NewestRecords::default(), NewestRecords { begun: vec![begun], ..NewestRecords::default() }];
    let stands = |stands| Some(EcsView { stands: Some(stands), ..EcsView::default() });
    let says = [
        None,
        Some(EcsView::default()),
        Some(EcsView { created_at: Some(event.at), ..EcsView::default() }),
        stands(DeploymentProgress::UnderWay),
        stands(DeploymentProgress::Ended(Kind::Completed)),
    ];
    let heads = [None, Some(head(now + chrono::Duration::seconds(1))), Some(head(event.at))];
    for item in [None, Some(&known), Some(&undoing), Some(&stranger)] {
        for (head, written) in heads.iter().flat_map(|head| writings.iter().map(move |written| (head, written))) {
            for (open, says) in [&[][..], std::slice::from_ref(&other)]
                .iter()
                .flat_map(|open| says.iter().map(move |says| (*open, says)))
            {
                let known = EventContext { head: head.as_ref(), item, open, written, says: says.as_ref() };
                let judged = classify(event, known, now);
                assert!(judged != EventDecision::Ask || says.is_none(), "it was asked");
                sensible(event, item, &judged);
            }
        }
        let _ = needs_ledger(event, None, item);
    }
    let nothing = EventContext { head: None, item: None, open: &[], written: &writings[0], says: None };
    let late = classify(event, nothing, event.at + chrono::Duration::days(30));
    assert!(matches!(late, EventDecision::Nothing(_)), "{late:?}");
}

fn sensible(event: &DeploymentEvent, item: Option<&DeploymentItem>, heard: &EventDecision) {
    if item.is_some_and(|item| item.service_arn != event.service_arn) {
        assert!(matches!(heard, EventDecision::Refused(_)), "{heard:?}");
        return;
    }
    match heard {
        EventDecision::Refused(why) => panic!("{why}"),
        EventDecision::External(_) => assert!(item.is_none(), "{heard:?}"),
        EventDecision::Ask => {
            let ends = event.happened != DeploymentEventKind::InProgress;
            assert!(item.is_none() || event.rolls_back() || ends, "{heard:?}");
        }
        EventDecision::Ended { ending, is_final, .. } => {
            assert!(item.is_some() && event.happened != DeploymentEventKind::InProgress, "{heard:?}");
            assert_eq!(*is_final, ending.kind != Kind::DeploymentFailed);
            comes_back(&ending.detail);
        }
        EventDecision::OrphanedChange(noted) => {
            assert!(item.is_none() && noted.deployment_id() == event.deployment_id, "{heard:?}");
        }
        EventDecision::IsRollback { .. } => assert!(event.rolls_back() || item.is_none()),
        EventDecision::Nothing(_) | EventDecision::Retry(_) => {}
    }
}

/// The same document as what ECS answers of a service and its deployments.
fn followed(value: &Value) {
    let Value::Object(members) = value else { return };
    let Ok(service) = Service::new(members.clone(), None) else { return };
    let _ = (service.updated_at(), service.task_definition_arn(), service.deployment_controller(), service.status());
    let ids: Vec<String> = match members.get("deployments").and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(|entry| entry.get("id")?.as_str().map(str::to_owned)).take(4).collect(),
        None => vec!["ecs-svc/1".to_owned()],
    };
    let known: Option<ServiceDeployment> =
        members.get("serviceDeployment").and_then(|value| serde_json::from_value(value.clone()).ok());
    let listed: Vec<ServiceDeploymentSummary> = members
        .get("serviceDeployments")
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default();
    let started_at = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
    for id in &ids {
        let before = ids.first().map(String::as_str);
        let followed = TrackedDeployment { id, before, started_at, service_deployment: None, undone_by: None };
        if let Some(found) = followed.among(&listed) {
            assert!(listed.contains(found));
        }
        for known in [None, known.as_ref()] {
            if let DeploymentStatus::Ended(ending) = followed.standing(&service, known, started_at) {
                assert!(ENDINGS.contains(&ending.kind), "{ending:?}");
                comes_back(&ending.detail);
            }
        }
    }
}

/// A record keeps it as JSON.
fn comes_back(detail: &OutcomeDetail) {
    let text = serde_json_canonicalizer::to_string(detail).unwrap();
    assert_eq!(serde_json::from_str::<OutcomeDetail>(&text).unwrap(), *detail);
}
