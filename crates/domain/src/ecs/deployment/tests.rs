use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::outcome::{DELETED, DeploymentStatus, OutcomeDetail, Superseder, running_images};
use super::service_deployment::{Listing, ServiceDeployment, ServiceDeploymentSummary};
use super::tracked::TrackedDeployment;
use crate::ecs::service::Service;
use crate::ids::ChangeId;
use crate::ledger::attribution::superseder_among;
use crate::ledger::kind::Kind;

const OWN: &str = "ecs-svc/2";

const OLD: &str = "ecs-svc/1";

const NEW: &str = "ecs-svc/3";

fn followed() -> TrackedDeployment<'static> {
    let started_at = DateTime::from_timestamp(1000, 0).unwrap();
    TrackedDeployment { id: OWN, before: Some(OLD), started_at, service_deployment: None, undone_by: None }
}

/// Soon after the deployments of these tests.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1050, 0).unwrap()
}

fn deployment(id: &str, status: &str, rollout: &str, created: i64) -> Value {
    json!({"id": id, "status": status, "rolloutState": rollout, "rolloutStateReason": format!("{id} is {rollout}"),
           "createdAt": created, "taskDefinition": format!("td:{id}"), "desiredCount": 2, "runningCount": 1})
}

fn service(deployments: &[Value]) -> Service {
    let Value::Object(members) = json!({"deployments": deployments}) else { panic!("an object") };
    Service::new(members, None).unwrap()
}

fn service_deployment(status: &str, more: &Value) -> ServiceDeployment {
    let mut value = json!({"serviceDeploymentArn": "arn:sd", "status": status});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn kind(standing: &DeploymentStatus) -> Option<Kind> {
    match standing {
        DeploymentStatus::Open(_) | DeploymentStatus::AwaitingAction(_) => None,
        DeploymentStatus::Ended(ending) => Some(ending.kind),
    }
}

fn detail(standing: DeploymentStatus) -> OutcomeDetail {
    match standing {
        DeploymentStatus::Open(what) => panic!("open: {what}"),
        DeploymentStatus::AwaitingAction(pauses) => panic!("waiting: {pauses:?}"),
        DeploymentStatus::Ended(ending) => ending.detail,
    }
}

#[test]
fn the_nine_statuses_of_a_service_deployment() {
    let alone = service(&[deployment(OWN, "PRIMARY", "COMPLETED", 1000)]);
    let (none, breaker) = (json!({}), json!({"deploymentCircuitBreaker": {"status": "TRIGGERED"}}));
    let alarm = json!({"alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["too-slow"]}});
    let monitored =
        json!({"deploymentCircuitBreaker": {"status": "MONITORING_COMPLETE"}, "alarms": {"status": "DISABLED"}});
    for (status, more, expected) in [
        ("PENDING", &none, None),
        ("IN_PROGRESS", &none, None),
        ("STOP_REQUESTED", &none, None),
        ("ROLLBACK_REQUESTED", &breaker, None),
        ("ROLLBACK_IN_PROGRESS", &alarm, None),
        ("SUCCESSFUL", &monitored, Some(Kind::Completed)),
        ("ROLLBACK_SUCCESSFUL", &breaker, Some(Kind::RolledBack)),
        ("ROLLBACK_FAILED", &breaker, Some(Kind::RollbackFailed)),
        ("STOPPED", &breaker, Some(Kind::DeploymentFailed)),
        ("STOPPED", &alarm, Some(Kind::DeploymentFailed)),
        ("STOPPED", &monitored, Some(Kind::Stopped)),
        ("A_NEW_ONE", &none, None),
    ] {
        let standing = followed().standing(&alone, Some(&service_deployment(status, more)), now());
        assert_eq!(kind(&standing), expected, "{status} {more}");
    }
}

#[test]
fn a_rollback_says_why_and_to_what() {
    let after = service(&[deployment(OLD, "PRIMARY", "COMPLETED", 1500)]);
    let known = service_deployment(
        "ROLLBACK_SUCCESSFUL",
        &json!({"statusReason": "as it is", "rollback": {"reason": "tasks failed to start", "serviceRevisionArn": "arn:r/1"},
                "alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["a", "b"]}}),
    );
    let detail = detail(followed().standing(&after, Some(&known), now()));
    assert_eq!(detail.reason.as_deref(), Some("tasks failed to start (alarms: a, b)"));
    let to = detail.rolled_back_to.unwrap();
    assert_eq!(to.service_revision.as_deref(), Some("arn:r/1"));
    assert_eq!(to.task_definition.as_deref(), Some("td:ecs-svc/1"));
    assert_eq!(to.deployment_id.as_deref(), Some(OLD));
    assert_eq!(detail.service_deployment.as_deref(), Some("arn:sd"));
}

#[test]
fn no_tasks_wanted_is_told_apart() {
    let mut own = deployment(OWN, "PRIMARY", "COMPLETED", 1000);
    for (desired, expected) in [(0, true), (2, false)] {
        own["desiredCount"] = desired.into();
        let known = service_deployment("SUCCESSFUL", &json!({}));
        assert_eq!(
            detail(followed().standing(&service(&[own.clone()]), Some(&known), now())).no_tasks_wanted,
            expected
        );
        assert_eq!(detail(followed().standing(&service(&[own.clone()]), None, now())).no_tasks_wanted, expected);
    }
}

#[test]
fn a_newer_deployment_supersedes_and_a_rollback_does_not() {
    let newer =
        service(&[deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100), deployment(OWN, "ACTIVE", "IN_PROGRESS", 1000)]);
    let none = json!({});
    for status in ["PENDING", "IN_PROGRESS", "STOPPED"] {
        let standing = followed().standing(&newer, Some(&service_deployment(status, &none)), now());
        assert_eq!(kind(&standing), Some(Kind::Superseded), "{status}");
        assert_eq!(detail(standing).superseded_by.unwrap().deployment_id, NEW);
    }
    // The service deployment was read earlier than the service: it was rolled back to an older deployment than the one before, which no
    // longer says anything of a rollback.
    let mut rolled_back = json!({"deployments": [deployment(NEW, "PRIMARY", "COMPLETED", 1100)]});
    for (current, expected) in [("arn:sd", None), ("arn:sd/3", Some(Kind::Superseded))] {
        rolled_back["currentServiceDeployment"] = current.into();
        let Value::Object(members) = rolled_back.clone() else { panic!("an object") };
        let standing = followed().standing(
            &Service::new(members, None).unwrap(),
            Some(&service_deployment("IN_PROGRESS", &none)),
            now(),
        );
        assert_eq!(kind(&standing), expected, "{current}");
    }
    // As long as it is being rolled back, nothing is known of the end.
    let standing = followed().standing(&newer, Some(&service_deployment("ROLLBACK_IN_PROGRESS", &none)), now());
    assert_eq!(kind(&standing), None);
    let mut back = deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100);
    back["rolloutStateReason"] = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".into();
    for rollback in [back, deployment(OLD, "PRIMARY", "IN_PROGRESS", 1100)] {
        let standing =
            followed().standing(&service(&[rollback]), Some(&service_deployment("IN_PROGRESS", &none)), now());
        assert_eq!(kind(&standing), None);
    }
    // An answer from before the deployment began says nothing.
    let stale = service(&[deployment("ecs-svc/0", "PRIMARY", "COMPLETED", 900)]);
    assert_eq!(kind(&followed().standing(&stale, Some(&service_deployment("PENDING", &none)), now())), None);
}

#[test]
fn without_a_service_deployment_the_services_list_decides() {
    let own = |rollout| deployment(OWN, "PRIMARY", rollout, 1000);
    let mut back = deployment(OLD, "PRIMARY", "IN_PROGRESS", 1100);
    back["rolloutStateReason"] = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".into();
    let cases = [
        (vec![own("IN_PROGRESS")], false, None),
        (vec![own("COMPLETED")], false, Some(Kind::Completed)),
        (vec![own("FAILED")], false, Some(Kind::DeploymentFailed)),
        (vec![own("FAILED")], true, None),
        (vec![back.clone(), deployment(OWN, "ACTIVE", "FAILED", 1000)], true, None),
        (vec![back], true, None),
        (vec![deployment(OLD, "PRIMARY", "COMPLETED", 1100)], true, Some(Kind::RolledBack)),
        (vec![deployment(OLD, "PRIMARY", "FAILED", 1100)], true, Some(Kind::RollbackFailed)),
        // The list was read before the deployment began, or the deployment disappeared without a trace: the state is not known.
        (vec![deployment(OLD, "PRIMARY", "COMPLETED", 900)], true, None),
        (vec![], true, None),
        (vec![deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100)], true, Some(Kind::Superseded)),
        (
            vec![deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100), deployment(OWN, "ACTIVE", "COMPLETED", 1000)],
            true,
            Some(Kind::Superseded),
        ),
        (
            vec![deployment(NEW, "PRIMARY", "COMPLETED", 1100), deployment(OWN, "ACTIVE", "FAILED", 1000)],
            true,
            Some(Kind::RolledBack),
        ),
        (
            vec![deployment(NEW, "PRIMARY", "COMPLETED", 1100), deployment(OWN, "ACTIVE", "FAILED", 1000)],
            false,
            Some(Kind::DeploymentFailed),
        ),
    ];
    for (deployments, rollback, expected) in cases {
        let Value::Object(members) = json!({"deployments": deployments, "deploymentConfiguration":
            {"deploymentCircuitBreaker": {"enable": true, "rollback": rollback}}})
        else {
            panic!("an object")
        };
        let standing = followed().standing(&Service::new(members, None).unwrap(), None, now());
        assert_eq!(kind(&standing), expected, "{deployments:?}");
    }
}

#[test]
fn what_took_over_did_so_even_where_it_was_rolled_back_itself() {
    // Row 18: the newer one failed, and ECS went back to the one from before.
    let back = deployment(OLD, "PRIMARY", "COMPLETED", 1200);
    let after = service(&[back.clone(), deployment(NEW, "ACTIVE", "FAILED", 1100)]);
    for known in [None, Some(service_deployment("STOPPED", &json!({})))] {
        let standing = followed().standing(&after, known.as_ref(), now());
        assert_eq!(kind(&standing), Some(Kind::Superseded), "{known:?}");
        assert_eq!(detail(standing).superseded_by.unwrap().deployment_id, NEW);
    }
    // It is no longer in the list: an earlier read and the records show it.
    let known = service_deployment("STOPPED", &json!({"stoppedAt": 1105.5}));
    let DeploymentStatus::Ended(ending) = followed().standing(&service(&[back]), Some(&known), now()) else {
        panic!("open")
    };
    assert_eq!((ending.kind, ending.happened_at()), (Kind::Stopped, DateTime::from_timestamp_millis(1_105_500)));
    let by = Superseder { deployment_id: NEW.to_owned(), ..Superseder::default() };
    assert_eq!(ending.superseded(&by).kind, Kind::Superseded);
    let change = |second| ChangeId::new(DateTime::from_timestamp(second, 0).unwrap(), [1; 10]);
    let record = |second, before: &str| {
        let record = json!({"change_id": change(second), "deployment_id": NEW, "before": json!({"deploymentId": before}).to_string(),
                            "after": json!({"taskDefinitionArn": "td:new"}).to_string()});
        vec![record.as_object().unwrap().clone()]
    };
    let stopped_at = DateTime::from_timestamp(1105, 0);
    let found = superseder_among(&record(1100, OWN), OWN, stopped_at).unwrap();
    assert_eq!((found.deployment_id.as_str(), found.task_definition.as_deref()), (NEW, Some("td:new")));
    assert_eq!(superseder_among(&record(1100, OLD), OWN, stopped_at), None);
    assert_eq!(superseder_among(&record(1200, OWN), OWN, stopped_at), None, "it was stopped before that began");
}

#[test]
fn a_deployment_of_a_service_that_was_deleted_was_stopped() {
    // (h): the service that has the name now was created later.
    let Value::Object(members) =
        json!({"createdAt": 1300.5, "deployments": [deployment(NEW, "PRIMARY", "COMPLETED", 1300)]})
    else {
        panic!("an object")
    };
    let anew = Service::new(members, None).unwrap();
    let none = json!({});
    for known in [None, Some("IN_PROGRESS"), Some("STOPPED")] {
        let known = known.map(|status| service_deployment(status, &none));
        let standing = followed().standing(&anew, known.as_ref(), now());
        assert_eq!(kind(&standing), Some(Kind::Stopped), "{known:?}");
        assert_eq!(detail(standing).reason.as_deref(), Some(DELETED));
    }
    // It had ended before.
    let standing = followed().standing(&anew, Some(&service_deployment("SUCCESSFUL", &none)), now());
    assert_eq!(kind(&standing), Some(Kind::Completed));
    let by = Superseder { deployment_id: NEW.to_owned(), ..Superseder::default() };
    let DeploymentStatus::Ended(ending) = followed().of_deleted(None) else { panic!("open") };
    assert_eq!(ending.superseded(&by).kind, Kind::Stopped, "another life's supersedes nothing");
}

#[test]
fn what_has_no_service_deployment_behind_one_that_was_rolled_back_is_the_rollback() {
    let listed = |created: f64, status: &str| -> ServiceDeploymentSummary {
        serde_json::from_value(json!({"serviceDeploymentArn": "sd", "createdAt": created, "status": status})).unwrap()
    };
    let created = DateTime::from_timestamp(1000, 0).unwrap();
    let rolled_back = || listed(900.0, "ROLLBACK_SUCCESSFUL");
    let says = |before: &[ServiceDeploymentSummary]| Listing::of(before, created);
    assert_eq!(says(&[listed(800.0, "SUCCESSFUL"), rolled_back()]), Listing::OfARollback);
    let later = listed(1100.0, "IN_PROGRESS");
    assert_eq!(says(&[rolled_back(), later]), Listing::OfARollback, "what came later says nothing");
    assert_eq!(says(&[rolled_back(), listed(999.5, "SUCCESSFUL")]), Listing::Own);
    assert_eq!(says(&[listed(999.5, "ROLLBACK_IN_PROGRESS")]), Listing::OwnOrOfARollback);
    assert_eq!(says(&[rolled_back(), listed(950.0, "IN_PROGRESS")]), Listing::Neither);
    assert_eq!(says(&[]), Listing::Nothing);
}

#[test]
fn nothing_that_was_created_before_a_deployment_is_its_service_deployment() {
    // (i): two changes two seconds apart, and the list is out of date.
    let listed = |created: f64| -> ServiceDeploymentSummary {
        serde_json::from_value(json!({"serviceDeploymentArn": "first", "createdAt": created})).unwrap()
    };
    let named = TrackedDeployment { service_deployment: Some("first"), ..followed() };
    assert_eq!(named.among(&[listed(998.0)]), None);
    assert!(named.among(&[listed(999.5)]).is_some(), "times may be cut to whole seconds");
    assert!(!followed().may_be(&service_deployment("SUCCESSFUL", &json!({"createdAt": 998.0}))));
    assert!(followed().may_be(&service_deployment("SUCCESSFUL", &json!({"createdAt": 1000.0}))));
}

#[test]
fn no_final_word_while_the_service_contradicts_it() {
    // (i)
    let under_way = service(&[deployment(OWN, "PRIMARY", "IN_PROGRESS", 1000)]);
    let earlier = json!({"createdAt": 999.5});
    for status in ["SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"] {
        let standing = followed().standing(&under_way, Some(&service_deployment(status, &earlier)), now());
        assert_eq!(kind(&standing), None, "{status}");
    }
    // The service deployment is certainly its own: by its number, or because ECS named it and it was not created before.
    let numbered = json!({"targetServiceRevision": {"arn": "arn:aws:ecs:r:1:service-revision/c/s/2"}});
    let standing = followed().standing(&under_way, Some(&service_deployment("SUCCESSFUL", &numbered)), now());
    assert_eq!(kind(&standing), Some(Kind::Completed));
    let named = TrackedDeployment { service_deployment: Some("arn:sd"), ..followed() };
    let known = service_deployment("SUCCESSFUL", &json!({"createdAt": 1000.0}));
    assert_eq!(kind(&named.standing(&under_way, Some(&known), now())), Some(Kind::Completed));
    assert_eq!(kind(&named.standing(&under_way, Some(&service_deployment("SUCCESSFUL", &earlier)), now())), None);
}

#[test]
fn a_service_deployment_is_found_by_number_or_by_name_and_never_by_time() {
    let listed = |arn: &str, revision: &str, created: f64| -> ServiceDeploymentSummary {
        serde_json::from_value(
            json!({"serviceDeploymentArn": arn, "targetServiceRevisionArn": revision, "createdAt": created}),
        )
        .unwrap()
    };
    let revision = |number: &str| format!("arn:aws:ecs:r:1:service-revision/c/s/{number}");
    let by_number = [listed("a", &revision("9"), 1000.0), listed("b", &revision("2"), 1020.0)];
    assert_eq!(followed().among(&by_number).unwrap().service_deployment_arn, "b");
    let others =
        [listed("a", &revision("7"), 990.0), listed("b", &revision("8"), 1000.0), listed("c", &revision("9"), 1001.0)];
    assert_eq!(followed().among(&others), None, "that it is near in time says nothing");
    let named = |arn| TrackedDeployment { service_deployment: Some(arn), ..followed() };
    assert_eq!(named("c").among(&others).unwrap().service_deployment_arn, "c");
    assert_eq!(named("a").among(&others), None, "it was there before");
}

#[test]
fn a_service_names_the_service_deployment_and_the_revision_of_its_own_deployment_only() {
    let of = |deployments: &[Value]| {
        let members = json!({"deployments": deployments, "currentServiceDeployment": "arn:sd",
            "currentServiceRevisions": [{"arn": "arn:r/2"}]});
        Service::new(members.as_object().unwrap().clone(), None).unwrap()
    };
    let (own, old) = (deployment(OWN, "PRIMARY", "COMPLETED", 1000), deployment(OLD, "ACTIVE", "COMPLETED", 900));
    let alone = of(std::slice::from_ref(&own));
    assert_eq!((followed().named_by(&alone), followed().revision_in(&alone)), (Some("arn:sd"), Some("arn:r/2")));
    let both = of(&[own.clone(), old.clone()]);
    assert_eq!((followed().named_by(&both), followed().revision_in(&both)), (Some("arn:sd"), None));
    let other = of(&[deployment(NEW, "PRIMARY", "COMPLETED", 1100)]);
    assert_eq!((followed().named_by(&other), followed().revision_in(&other)), (None, None));
}

#[test]
fn the_digests_that_run_are_those_of_the_revision() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let revision = json!({"serviceRevisionArn": "arn:r/2", "containerImages": [
        {"containerName": "web", "image": "nginx:1", "imageDigest": digest},
        {"containerName": "unresolved", "image": "other:1"}, {"containerName": "odd", "imageDigest": "latest"},
        {"imageDigest": digest}, "nonsense"]});
    let images = running_images(revision.as_object().unwrap());
    assert_eq!(images.into_iter().collect::<Vec<_>>(), [("web".to_owned(), digest)]);
    assert!(running_images(&serde_json::Map::new()).is_empty());
}

/// A service with a circuit breaker that rolls back.
fn guarded(deployments: &[Value]) -> Service {
    let members = json!({"deployments": deployments, "deploymentConfiguration":
        {"deploymentCircuitBreaker": {"enable": true, "rollback": true}}});
    Service::new(members.as_object().unwrap().clone(), None).unwrap()
}

#[test]
fn what_failed_with_nothing_to_go_back_to_ends_and_says_so() {
    const SAID: &str = "ECS deployment circuit breaker: tasks failed to start.";
    let at = |second| DateTime::from_timestamp(second, 0).unwrap();
    let mut own = deployment(OWN, "PRIMARY", "FAILED", 1000);
    own["updatedAt"] = 1100.into();
    own["rolloutStateReason"] = SAID.into();
    let first = guarded(std::slice::from_ref(&own));
    assert_eq!(kind(&followed().standing(&first, None, at(1160))), None, "it may still be rolled back");
    let ended = detail(followed().standing(&first, None, at(1161)));
    let reason = ended.reason.unwrap();
    assert_eq!(reason, format!("{SAID} It was not rolled back: there is no completed deployment to go back to"));
    assert_eq!(crate::ecs::reason::known(&reason), reason, "nothing of it is hidden");
    // Something is there to go back to, and ECS does not.
    let stuck = guarded(&[own.clone(), deployment(OLD, "ACTIVE", "COMPLETED", 900)]);
    assert_eq!(kind(&followed().standing(&stuck, None, at(1700))), None);
    let standing = followed().standing(&stuck, None, at(1701));
    assert_eq!(kind(&standing), Some(Kind::DeploymentFailed));
    let reason = detail(standing).reason.unwrap();
    assert_eq!(reason, format!("{SAID} It was not rolled back by ECS"));
    assert_eq!(crate::ecs::reason::known(&reason), reason);
    // ECS says it itself: in the service's list, and of the service deployment.
    let told = "No rollback candidate was found to run the rollback.";
    own["rolloutStateReason"] = told.into();
    let standing = followed().standing(&guarded(std::slice::from_ref(&own)), None, at(1101));
    assert_eq!((kind(&standing), detail(standing).reason.as_deref()), (Some(Kind::RollbackFailed), Some(told)));
    assert_eq!(crate::ecs::reason::known(told), told);
    let breaker = "Service deployment rolled back because the circuit breaker threshold was exceeded.";
    let known = service_deployment("ROLLBACK_FAILED", &json!({"statusReason": told, "rollback": {"reason": breaker}}));
    let standing = followed().standing(&first, Some(&known), at(1101));
    assert_eq!(kind(&standing), Some(Kind::RollbackFailed));
    assert_eq!(detail(standing).reason, Some(format!("{breaker} {told}")));
}

#[test]
fn without_a_rollout_state_one_deployment_that_runs_as_wanted_has_completed() {
    let own = |running: i64, desired: i64, pending: i64| {
        let mut own = deployment(OWN, "PRIMARY", "", 1000);
        own.as_object_mut().unwrap().retain(|name, _| !name.starts_with("rollout"));
        for (name, count) in [("runningCount", running), ("desiredCount", desired), ("pendingCount", pending)] {
            own[name] = count.into();
        }
        own
    };
    let old = deployment(OLD, "ACTIVE", "", 900);
    for (deployments, expected) in [
        (vec![own(2, 2, 0)], Some(Kind::Completed)),
        (vec![own(0, 0, 0)], Some(Kind::Completed)),
        (vec![own(2, 2, 1)], None),
        (vec![own(1, 2, 0)], None),
        (vec![own(2, 2, 0), old], None),
    ] {
        let standing = followed().standing(&service(&deployments), None, now());
        assert_eq!(kind(&standing), expected, "{deployments:?}: {standing:?}");
    }
    let mut uncounted = own(0, 0, 0);
    uncounted.as_object_mut().unwrap().retain(|name, _| !name.ends_with("Count"));
    assert_eq!(kind(&followed().standing(&service(&[uncounted]), None, now())), None);
}

#[test]
fn a_rollback_that_was_seen_is_one_when_it_has_completed() {
    let mut back = deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100);
    back["rolloutStateReason"] = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.".into();
    let during = guarded(&[back, deployment(OWN, "ACTIVE", "FAILED", 1000)]);
    assert_eq!(followed().rollback_in(&during, None).as_deref(), Some(NEW));
    let after = guarded(&[deployment(NEW, "PRIMARY", "COMPLETED", 1100)]);
    assert_eq!(followed().rollback_in(&after, None), None, "nothing says so any more");
    let seen = TrackedDeployment { undone_by: Some(NEW), ..followed() };
    assert_eq!(kind(&seen.standing(&after, None, now())), Some(Kind::RolledBack));
    assert_eq!(kind(&followed().standing(&after, None, now())), Some(Kind::Superseded));
    let later = guarded(&[deployment("ecs-svc/4", "PRIMARY", "COMPLETED", 1150)]);
    assert_eq!(kind(&seen.standing(&later, None, now())), Some(Kind::Superseded), "that is another one");
    // Its service deployment may say so before the list does.
    let known = service_deployment("ROLLBACK_IN_PROGRESS", &json!({}));
    let mut named = json!({"deployments": [deployment(NEW, "PRIMARY", "IN_PROGRESS", 1100)]});
    for (current, expected) in [("arn:sd", Some(NEW)), ("arn:sd/3", None)] {
        named["currentServiceDeployment"] = current.into();
        let service = Service::new(named.as_object().unwrap().clone(), None).unwrap();
        assert_eq!(followed().rollback_in(&service, Some(&known)).as_deref(), expected, "{current}");
    }
}

#[test]
fn what_only_a_list_says_of_a_service_deployment_is_enough() {
    let own = |rollout| service(&[deployment(OWN, "PRIMARY", rollout, 1000)]);
    for (status, rollout, expected) in [
        ("IN_PROGRESS", "IN_PROGRESS", None),
        ("SUCCESSFUL", "COMPLETED", Some(Kind::Completed)),
        ("ROLLBACK_SUCCESSFUL", "FAILED", Some(Kind::RolledBack)),
        ("ROLLBACK_FAILED", "FAILED", Some(Kind::RollbackFailed)),
        // The list does not say whether the circuit breaker stopped it.
        ("STOPPED", "FAILED", Some(Kind::DeploymentFailed)),
        ("STOPPED", "IN_PROGRESS", Some(Kind::Stopped)),
    ] {
        let listed: ServiceDeploymentSummary = serde_json::from_value(json!({"serviceDeploymentArn": "arn:sd",
            "status": status, "statusReason": "why", "createdAt": 1000.5, "finishedAt": 1100,
            "targetServiceRevisionArn": "arn:aws:ecs:r:1:service-revision/c/s/2"}))
        .unwrap();
        let standing = followed().standing(&own(rollout), Some(&listed.as_listed()), now());
        assert_eq!(kind(&standing), expected, "{status}");
        if let DeploymentStatus::Ended(ending) = standing {
            assert_eq!(ending.detail.service_deployment.as_deref(), Some("arn:sd"));
            assert_eq!(ending.detail.reason.is_some(), ending.kind != Kind::Completed, "{status}");
        }
    }
}
