use chrono::Duration;
use serde_json::json;

use super::*;
use crate::ecs::deployment::outcome::Outcome;
use crate::ecs::deployment::view::{DeploymentProgress, EcsView};
use crate::ecs::service::RecordedState;
use crate::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
use crate::ledger::deployment::Undoes;
use crate::ledger::head::Lease;
use crate::ledger::key::{Attempt, RecordKey, RecordPlace};
use crate::ledger::kind::Kind;
use crate::ledger::started::{NewestRecords, StartedChange};
use crate::plan::difference::{Difference, DifferenceKind};
use crate::text::rfc3339;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + second, 0).unwrap()
}

fn key() -> ServiceKey {
    let name = |name| EcsName::parse(name).unwrap();
    let account = AccountId::parse("222222222222").unwrap();
    ServiceKey::new(account, Region::parse("eu-west-1").unwrap(), name("c"), name("s"))
}

fn change(second: i64) -> ChangeId {
    ChangeId::new(at(second), [1; 10])
}

fn item(id: &str, began: i64) -> DeploymentItem {
    DeploymentItem::new(&key(), "arn:s", id, change(began), at(began), at(began))
}

fn event(id: &str, happened: DeploymentEventKind, reason: &str, second: i64) -> DeploymentEvent {
    DeploymentEvent {
        service: key(),
        service_arn: "arn:s".to_owned(),
        deployment_id: id.to_owned(),
        happened,
        reason: Some(reason.to_owned()),
        at: at(second),
    }
}

fn head(lease: Option<Lease>) -> Head {
    let highest = change(0);
    let record = RecordKey::new(highest.clone(), RecordPlace::STARTED);
    let begun = Some(highest.clone());
    Head { seq: 1, hash: "h".to_owned(), record, highest, begun, begun_by: None, running: None, failed: false, lease }
}

/// Classifies an event where ECS says nothing and no records were read.
fn classify(
    event: &DeploymentEvent,
    head: Option<&Head>,
    item: Option<&DeploymentItem>,
    open: &[DeploymentItem],
    now: DateTime<Utc>,
) -> EventDecision {
    let written = NewestRecords::default();
    unasked(event, EventContext { head, item, open, written: &written, says: None }, now)
}

/// Classifies an event where ECS is asked and says nothing.
fn unasked(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
    match super::classify(event, known, now) {
        EventDecision::Ask => super::classify(event, EventContext { says: Some(&EcsView::default()), ..known }, now),
        other => other,
    }
}

const BEFORE: &str = "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:7";

const WANTED: &str = "arn:aws:ecs:eu-west-1:222222222222:task-definition/web:8";

fn before() -> RecordedState {
    let images = json!({"web": "nginx:1", "log": "fluent"});
    serde_json::from_value(json!({
        "clusterArn": "", "serviceArn": "arn:s", "taskDefinitionName": "web", "taskDefinitionFamily": "web",
        "taskDefinitionArn": BEFORE, "serviceImage": "nginx:1", "images": images, "serviceMemory": null,
        "tags": [], "updatedOn": null, "deploymentId": "ecs-svc/1", "service": {},
    }))
    .unwrap()
}

fn image(to: &str) -> Difference {
    Difference { what: DifferenceKind::Image, path: "web".to_owned(), from: "nginx:1".into(), to: to.into() }
}

/// An attempt that was meant to deploy this image, and records nothing else.
fn began(second: i64, to: &str) -> StartedChange {
    StartedChange {
        change_id: change(second),
        attempt: Attempt::FIRST,
        began: at(second),
        until: at(second + 125),
        before: Some(before()),
        changes: Some(vec![image(to)]),
        left: None,
    }
}

fn says(created: i64, web: &str) -> EcsView {
    let images = [("web", web), ("log", "fluent")].map(|(name, image)| (name.to_owned(), image.to_owned()));
    EcsView {
        created_at: Some(at(created)),
        task_definition: Some(WANTED.to_owned()),
        images: Some(images.into()),
        service_deployment: Some("arn:sd".to_owned()),
        ..EcsView::default()
    }
}

fn written(begun: &[StartedChange]) -> NewestRecords {
    NewestRecords { begun: begun.to_vec(), ..NewestRecords::default() }
}

fn named(id: &str, since: i64) -> crate::ledger::started::Named {
    crate::ledger::started::Named { deployment_id: id.to_owned(), since: at(since) }
}

fn lease(second: i64) -> Lease {
    Lease { change_id: change(second), attempt: Attempt::FIRST, until: at(second + 125), key: String::new() }
}

#[test]
fn a_rollback_undoes_nothing_that_began_later() {
    // (a): dated before the newer change began, delivered after.
    let open = [item("ecs-svc/3", 70), item("ecs-svc/2", 10)];
    let begins = event("ecs-svc/1", DeploymentEventKind::InProgress, BACK, 60);
    let EventDecision::IsRollback { undone: Some(undone) } = classify(&begins, None, None, &open, at(200)) else {
        panic!()
    };
    assert_eq!(undone.deployment_id(), "ecs-svc/2");
    // The deployment that it undid was settled before, and no older one is meant.
    let written = NewestRecords { named: vec![named("ecs-svc/2", 10)], ..NewestRecords::default() };
    let older = [item("ecs-svc/0", 0)];
    let known = EventContext { head: None, item: None, open: &older, written: &written, says: None };
    assert_eq!(super::classify(&begins, known, at(200)), EventDecision::IsRollback { undone: None });
    // Neither is one meant if somebody else's deployment, or one that is not recorded yet, came between.
    let untold = super::tests::written(&[began(20, "nginx:2")]);
    let known = EventContext { written: &untold, ..known };
    assert_eq!(super::classify(&begins, known, at(200)), EventDecision::IsRollback { undone: None });
    let unacted =
        super::tests::written(&[StartedChange { left: Some("ecs-svc/0".to_owned()), ..began(20, "nginx:2") }]);
    let known = EventContext { written: &unacted, ..known };
    assert_eq!(super::classify(&begins, known, at(200)), EventDecision::Ask, "nobody may have told of what it undoes");
    let told = |is_rolled_back| {
        let says = EcsView { is_rolled_back, ..EcsView::default() };
        super::classify(&begins, EventContext { says: Some(&says), ..known }, at(200))
    };
    assert!(matches!(told(None), EventDecision::IsRollback { undone: Some(_) }));
    assert!(matches!(told(Some(true)), EventDecision::IsRollback { undone: Some(_) }));
    assert_eq!(told(Some(false)), EventDecision::IsRollback { undone: None });
}

#[test]
fn the_end_of_a_rollback_is_no_end_of_what_it_goes_back_to() {
    // Its own end was not reported yet. What a later change started without recording it is rolled back to it, and that fails.
    let own = item("ecs-svc/3", 10);
    let heard = |begun: StartedChange, happened, reason, second, now| {
        let head = head(Some(lease(50)));
        let written = written(&[begun]);
        let known = EventContext {
            head: Some(&head),
            item: Some(&own),
            open: std::slice::from_ref(&own),
            written: &written,
            says: None,
        };
        unasked(&event("ecs-svc/3", happened, reason, second), known, at(now))
    };
    for happened in [DeploymentEventKind::Failed, DeploymentEventKind::Completed] {
        assert!(
            matches!(heard(began(50, "nginx:2"), happened, "", 70, 71), EventDecision::Retry(_)),
            "{happened:?}: it holds the service"
        );
        assert!(
            matches!(heard(began(50, "nginx:2"), happened, "", 70, 400), EventDecision::Nothing(_)),
            "{happened:?}: it died"
        );
        assert!(
            matches!(heard(began(50, "nginx:2"), happened, "", 40, 71), EventDecision::Ended { .. }),
            "{happened:?}: it began later"
        );
        let unacted = StartedChange { left: Some("ecs-svc/3".to_owned()), ..began(50, "nginx:2") };
        assert!(
            matches!(heard(unacted, happened, "", 70, 71), EventDecision::Ended { .. }),
            "{happened:?}: it replaced nothing"
        );
    }
    let begins = |now| heard(began(50, "nginx:2"), DeploymentEventKind::InProgress, BACK, 70, now);
    assert!(matches!(begins(71), EventDecision::Retry(_)), "what is rolled back will be told of");
    assert!(matches!(begins(400), EventDecision::Nothing(_)));
}

#[test]
fn times_of_events_may_be_cut_to_whole_seconds() {
    let mut own = item("ecs-svc/2", 60);
    own.started_at = at(60) + Duration::milliseconds(400);
    let begins = event("ecs-svc/1", DeploymentEventKind::InProgress, BACK, 60);
    assert!(matches!(classify(&begins, None, None, &[own], at(61)), EventDecision::IsRollback { undone: Some(_) }));
}

#[test]
fn what_is_from_before_a_rollback_is_not_its_end() {
    // (b): a late duplicate of the end that the same id had before.
    let mut back = item("ecs-svc/1", -100);
    back.outcomes = vec![Kind::Completed];
    back.undoes = Some(Undoes { deployment_id: Some("ecs-svc/2".to_owned()), since: at(60) });
    let ends = |second| {
        classify(&event("ecs-svc/1", DeploymentEventKind::Completed, "", second), None, Some(&back), &[], at(91))
    };
    let EventDecision::Ended { deployment_id, .. } = ends(-50) else { panic!() };
    assert_eq!(deployment_id, "ecs-svc/1");
    let EventDecision::Ended { deployment_id, ending, .. } = ends(90) else { panic!() };
    assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", Kind::RolledBack));
    // Noted only for the rollback: its id belonged to no known deployment before.
    let noted = DeploymentItem { started_at: at(60), outcomes: Vec::new(), ..back.clone() };
    let early = event("ecs-svc/1", DeploymentEventKind::Completed, "", -50);
    assert!(matches!(classify(&early, None, Some(&noted), &[], at(91)), EventDecision::Nothing(_)));
    // A late event of the beginning of that rollback says nothing new.
    let begins = event("ecs-svc/1", DeploymentEventKind::InProgress, BACK, 60);
    let open = [item("ecs-svc/0", -200)];
    assert!(matches!(classify(&begins, None, Some(&back), &open, at(91)), EventDecision::Nothing(_)));
}

#[test]
fn what_somebody_deployed_by_hand_within_a_dead_changes_lease_is_external() {
    // (c)
    let head = head(Some(lease(0)));
    let written = written(&[began(0, "nginx:2")]);
    let begins = event("ecs-svc/5", DeploymentEventKind::InProgress, "by hand", 60);
    let judged = |says: Option<&EcsView>, now| {
        super::classify(
            &begins,
            EventContext { head: Some(&head), item: None, open: &[], written: &written, says },
            at(now),
        )
    };
    assert_eq!(judged(None, 61), EventDecision::Ask);
    for now in [61, 200] {
        assert!(matches!(judged(Some(&says(60, "httpd")), now), EventDecision::External(_)), "another image");
        assert!(matches!(judged(Some(&says(-20, "nginx:2")), now), EventDecision::External(_)), "created before");
    }
    let mut other_log = says(60, "nginx:2");
    other_log.images.as_mut().unwrap().insert("log".to_owned(), "other".to_owned());
    assert!(matches!(judged(Some(&other_log), 200), EventDecision::External(_)));
    assert!(matches!(judged(Some(&says(60, "nginx:2")), 61), EventDecision::Retry(_)), "its function may live");
    // What was PRIMARY before the change does not belong to it, whatever it runs.
    let begins = event("ecs-svc/1", DeploymentEventKind::InProgress, "", 60);
    let known = EventContext { head: Some(&head), item: None, open: &[], written: &written, says: None };
    assert!(matches!(super::classify(&begins, known, at(61)), EventDecision::External(_)));
    // Neither does what happened before the change began.
    let early = event("ecs-svc/5", DeploymentEventKind::InProgress, "", -20);
    assert!(matches!(super::classify(&early, known, at(61)), EventDecision::External(_)));
}

#[test]
fn a_restore_wants_one_revision() {
    let mut begun = began(0, "nginx:2");
    begun.changes.as_mut().unwrap().insert(
        0,
        Difference { what: DifferenceKind::Revision, path: "web".to_owned(), from: BEFORE.into(), to: WANTED.into() },
    );
    let written = written(&[begun]);
    let begins = event("ecs-svc/5", DeploymentEventKind::InProgress, "", 60);
    let heard = |says: &EcsView| {
        super::classify(
            &begins,
            EventContext { head: None, item: None, open: &[], written: &written, says: Some(says) },
            at(200),
        )
    };
    assert!(matches!(heard(&says(60, "nginx:2")), EventDecision::OrphanedChange(_)));
    let other = EcsView { task_definition: Some(WANTED.replace(":8", ":9")), ..says(60, "nginx:2") };
    assert!(matches!(heard(&other), EventDecision::External(_)));
}

#[test]
fn an_end_that_comes_before_its_beginning_is_of_its_change() {
    // (d) and (e): the lease has ended, or was even closed.
    for head in [head(Some(lease(0))), head(None)] {
        let written = written(&[began(0, "nginx:2")]);
        for happened in [DeploymentEventKind::Completed, DeploymentEventKind::InProgress, DeploymentEventKind::Failed] {
            let ends = event("ecs-svc/5", happened, "", 110);
            let says = says(60, "nginx:2");
            let known = EventContext { head: Some(&head), item: None, open: &[], written: &written, says: Some(&says) };
            let EventDecision::OrphanedChange(item) = super::classify(&ends, known, at(200)) else { panic!() };
            assert_eq!((item.change_id.clone(), item.started_at), (change(0), at(60)));
            assert_eq!(
                (item.before.as_deref(), item.service_deployment.as_deref()),
                (Some("ecs-svc/1"), Some("arn:sd"))
            );
            assert_eq!(item.repositories, ["nginx"], "(f): found under its image");
            assert!(item.check_at.is_some());
        }
    }
    // While the function of the change may still run, both wait.
    let (head, written) = (head(Some(lease(0))), written(&[began(0, "nginx:2")]));
    let ends = event("ecs-svc/5", DeploymentEventKind::Completed, "", 60);
    let says = says(50, "nginx:2");
    let known = EventContext { head: Some(&head), item: None, open: &[], written: &written, says: Some(&says) };
    assert!(matches!(super::classify(&ends, known, at(61)), EventDecision::Retry(_)));
}

#[test]
fn where_ecs_cannot_tell_nobody_is_said_to_have_done_it() {
    let written = written(&[began(0, "nginx:2")]);
    let begins = event("ecs-svc/5", DeploymentEventKind::InProgress, "", 60);
    let nothing = EcsView::default();
    let known = EventContext { head: None, item: None, open: &[], written: &written, says: Some(&nothing) };
    assert!(matches!(super::classify(&begins, known, at(100)), EventDecision::Retry(_)), "ECS may be behind");
    assert!(
        matches!(super::classify(&begins, known, at(60 + 180)), EventDecision::Nothing(_)),
        "it will not tell any more"
    );
    let gone = EcsView { images: None, ..says(60, "") };
    assert!(matches!(
        super::classify(&begins, EventContext { says: Some(&gone), ..known }, at(300)),
        EventDecision::Nothing(_)
    ));
}

#[test]
fn a_holder_of_whom_no_record_was_read_keeps_events_waiting() {
    let head = head(Some(lease(0)));
    let begins = event("ecs-svc/5", DeploymentEventKind::InProgress, "", 60);
    assert!(matches!(classify(&begins, Some(&head), None, &[], at(61)), EventDecision::Retry(_)));
    assert!(matches!(classify(&begins, Some(&head), None, &[], at(126)), EventDecision::External(_)));
}

#[test]
fn the_last_delivery_notes_what_a_change_started_that_has_not_ended() {
    let long = Lease { until: at(900), ..lease(0) };
    let (held, written) = (head(Some(long)), written(&[began(0, "nginx:2")]));
    let decided = |says: &EcsView, now| {
        let begins = event("ecs-svc/5", DeploymentEventKind::InProgress, "", 60);
        let known = EventContext { head: Some(&held), item: None, open: &[], written: &written, says: Some(says) };
        super::classify(&begins, known, at(now))
    };
    assert!(matches!(decided(&says(60, "nginx:2"), 60 + 60), EventDecision::Retry(_)), "its own result says more");
    let last = decided(&says(60, "nginx:2"), 60 + 180);
    assert!(matches!(&last, EventDecision::OrphanedChange(item) if item.change_id == change(0)), "{last:?}");
    // It has to be known to whom the deployment belongs: otherwise the event keeps waiting, and ends up with the dead
    // letters.
    let gone = EcsView { images: None, ..says(60, "") };
    assert!(matches!(decided(&gone, 60 + 180), EventDecision::Retry(_)));
}

#[test]
fn a_service_made_anew_has_nothing_to_do_with_its_old_life() {
    // (h)
    let open = [item("ecs-svc/2", 10)];
    let ends = event("ecs-svc/8", DeploymentEventKind::Completed, "", 500);
    let made = EcsView { service_created_at: Some(at(450)), ..says(450, "x") };
    let written = NewestRecords::default();
    let known = EventContext { head: None, item: None, open: &open, written: &written, says: None };
    assert_eq!(super::classify(&ends, known, at(501)), EventDecision::Ask);
    let heard = super::classify(&ends, EventContext { says: Some(&made), ..known }, at(501));
    assert!(matches!(heard, EventDecision::External(_)), "{heard:?}");
}

#[test]
fn events_of_a_service_s_old_life_that_come_in_its_new_one_are_of_the_old_one_s_change() {
    // The change died. While its events waited for its lease to end, the service was deleted and created again.
    let written = written(&[began(0, "nginx:2")]);
    let made = |made: i64, created| EcsView { service_created_at: Some(at(made)), ..says(created, "nginx:2") };
    let heard = |event: &DeploymentEvent, open: &[DeploymentItem], says: &EcsView| {
        let known = EventContext { head: None, item: None, open, written: &written, says: Some(says) };
        super::classify(event, known, at(200))
    };
    for happened in [DeploymentEventKind::InProgress, DeploymentEventKind::Completed, DeploymentEventKind::Failed] {
        let old = event("ecs-svc/5", happened, "", 75);
        let heard = heard(&old, &[], &made(180, 60));
        assert!(matches!(&heard, EventDecision::OrphanedChange(item) if item.change_id == change(0)), "{heard:?}");
    }
    // If ECS no longer says what ran then, the deployment is not attributed to anybody.
    let gone = EcsView { service_created_at: Some(at(180)), ..EcsView::default() };
    let ends = event("ecs-svc/5", DeploymentEventKind::Completed, "", 75);
    assert!(matches!(heard(&ends, &[], &gone), EventDecision::Retry(_)));
    // What is deployed in the new life does not belong to that change, even if it runs the same.
    let new = event("ecs-svc/6", DeploymentEventKind::InProgress, "", 181);
    assert!(matches!(heard(&new, &[], &made(180, 180)), EventDecision::External(_)));
    // And an end from the old life may be that of a rollback from the old life.
    let other = event("ecs-svc/4", DeploymentEventKind::Completed, "", 75);
    let open = [item("ecs-svc/7", 190), item("ecs-svc/2", 10)];
    assert_eq!(newest_before(&other, &open).map(DeploymentItem::deployment_id), Some("ecs-svc/2"));
    let back = EcsView { is_rolled_back: Some(true), images: says(0, "other").images, ..made(180, 70) };
    let heard = heard(&other, &open, &back);
    assert!(
        matches!(&heard, EventDecision::IsRollback { undone: Some(item) } if item.deployment_id() == "ecs-svc/2"),
        "{heard:?}"
    );
}

#[test]
fn the_end_of_an_unknown_deployment_is_a_rollback_or_nobodys_by_what_ecs_says_of_the_open_one() {
    let open = [item("ecs-svc/2", 10)];
    let ends = event("ecs-svc/8", DeploymentEventKind::Completed, "", 60);
    let written = NewestRecords::default();
    let heard = |is_rolled_back, now| {
        let says = EcsView { is_rolled_back, ..says(50, "x") };
        super::classify(
            &ends,
            EventContext { head: None, item: None, open: &open, written: &written, says: Some(&says) },
            at(now),
        )
    };
    assert!(matches!(heard(Some(true), 61), EventDecision::IsRollback { undone: Some(_) }));
    assert!(matches!(heard(Some(false), 61), EventDecision::External(_)));
    assert!(matches!(heard(None, 61), EventDecision::Retry(_)));
    // Waiting no longer helps: there is no dead letter, and the sweep settles the open one.
    assert!(matches!(heard(None, 60 + 180), EventDecision::Nothing(_)));
    // Somebody deployed while the open one was rolled back: ECS shows a service deployment of its own, and a rollback has none.
    let heard = |created| {
        let says = EcsView { is_rolled_back: Some(true), rolls_back: Some(false), ..says(created, "x") };
        let known = EventContext { head: None, item: None, open: &open, written: &written, says: Some(&says) };
        super::classify(&ends, known, at(61))
    };
    assert!(matches!(heard(50), EventDecision::External(_)));
    assert!(matches!(heard(5), EventDecision::IsRollback { undone: Some(_) }), "a rollback that has an earlier id");
}

#[test]
fn what_has_its_rollback_is_undone_by_no_other_deployment() {
    let mut own = item("ecs-svc/2", 10);
    own.outcomes = vec![Kind::DeploymentFailed];
    let written = NewestRecords::default();
    let says = EcsView { is_rolled_back: Some(true), ..says(50, "x") };
    let heard = |event: &DeploymentEvent, own: &DeploymentItem| {
        let open = std::slice::from_ref(own);
        super::classify(
            event,
            EventContext { head: None, item: None, open, written: &written, says: Some(&says) },
            at(61),
        )
    };
    // Somebody deployed by hand while it was rolled back: if only the end of that is reported, it looks like the rollback.
    let by_hand = event("ecs-svc/8", DeploymentEventKind::Completed, "", 60);
    assert!(matches!(heard(&by_hand, &own), EventDecision::IsRollback { undone: Some(_) }), "no rollback was heard of");
    own.undone_by = Some("ecs-svc/1".to_owned());
    assert!(matches!(heard(&by_hand, &own), EventDecision::External(_)));
    let begins = |id| event(id, DeploymentEventKind::InProgress, BACK, 60);
    assert!(matches!(heard(&begins("ecs-svc/1"), &own), EventDecision::IsRollback { undone: Some(_) }));
    assert!(
        matches!(heard(&begins("ecs-svc/8"), &own), EventDecision::IsRollback { undone: None }),
        "what came behind it"
    );
    // No older deployment is meant.
    let open = [own, item("ecs-svc/0", 0)];
    assert_eq!(newest_before(&by_hand, &open), None);
}

#[test]
fn the_id_from_before_that_ends_again_is_the_rollbacks_end() {
    let mut own = item("ecs-svc/2", 10);
    own.before = Some("ecs-svc/1".to_owned());
    let mut old = item("ecs-svc/1", -100);
    old.outcomes = vec![Kind::Completed];
    for known in [None, Some(&old)] {
        for (happened, kind) in
            [(DeploymentEventKind::Completed, Kind::RolledBack), (DeploymentEventKind::Failed, Kind::RollbackFailed)]
        {
            let ends = event("ecs-svc/1", happened, "", 60);
            assert!(needs_ledger(&ends, None, known));
            let heard = classify(&ends, None, known, std::slice::from_ref(&own), at(61));
            let EventDecision::Ended { deployment_id, ending, is_final: true } = heard else { panic!("{heard:?}") };
            assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", kind));
        }
    }
    // Its own end, delivered late or twice, is not the end of the rollback.
    let late = event("ecs-svc/1", DeploymentEventKind::Completed, "", -10);
    let heard = classify(&late, None, Some(&old), std::slice::from_ref(&own), at(61));
    assert!(matches!(heard, EventDecision::Ended { deployment_id, .. } if deployment_id == "ecs-svc/1"));
}

#[test]
fn a_rollback_is_no_changes_own_though_it_runs_what_the_change_wanted() {
    let written = written(&[began(50, "nginx:2")]);
    let known = EventContext { head: None, item: None, open: &[], written: &written, says: None };
    let ends = event("ecs-svc/9", DeploymentEventKind::Completed, "", 90);
    assert_eq!(super::classify(&ends, known, at(91)), EventDecision::Ask);
    let own = says(60, "nginx:2");
    let back = EcsView { rolls_back: Some(true), ..own.clone() };
    let heard = |says| super::classify(&ends, EventContext { says: Some(says), ..known }, at(400));
    assert!(matches!(heard(&own), EventDecision::OrphanedChange(_)));
    assert_eq!(heard(&back), EventDecision::IsRollback { undone: None });
}

#[test]
fn what_ecs_says_of_the_deployment_decides_whether_it_was_its_rollback_that_ended() {
    let own = item("ecs-svc/2", 10);
    let undoes = Some(Undoes { deployment_id: Some("ecs-svc/2".to_owned()), since: at(20) });
    let rollback = DeploymentItem { undoes, ..item("ecs-svc/1", -100) };
    let written = NewestRecords::default();
    let known = EventContext {
        head: None,
        item: Some(&rollback),
        open: std::slice::from_ref(&own),
        written: &written,
        says: None,
    };
    let failed = event("ecs-svc/1", DeploymentEventKind::Failed, "", 60);
    assert_eq!(super::classify(&failed, known, at(61)), EventDecision::Ask);
    assert_eq!(asked_about(&failed, known).map(DeploymentItem::deployment_id), Some("ecs-svc/2"));
    let heard = |stands, now| {
        let says = EcsView { stands: Some(stands), ..EcsView::default() };
        super::classify(&failed, EventContext { says: Some(&says), ..known }, at(now))
    };
    let ends = heard(DeploymentProgress::Ended(Kind::RollbackFailed), 61);
    assert!(
        matches!(ends, EventDecision::Ended { ending: Outcome { kind: Kind::RollbackFailed, .. }, .. }),
        "{ends:?}"
    );
    // It was rolled back before, and another rollback to the same id failed.
    assert!(matches!(heard(DeploymentProgress::Ended(Kind::RolledBack), 61), EventDecision::Nothing(_)));
    assert!(matches!(heard(DeploymentProgress::UnderWay, 61), EventDecision::Retry(_)));
    assert!(matches!(heard(DeploymentProgress::UnderWay, 60 + 150), EventDecision::Nothing(_)), "the sweep asks");

    // The failed end of a rollback to it, while its own end was not reported.
    let known = EventContext { item: Some(&own), open: &[], ..known };
    let failed = event("ecs-svc/2", DeploymentEventKind::Failed, "", 60);
    assert_eq!(super::classify(&failed, known, at(61)), EventDecision::Ask);
    assert_eq!(asked_about(&failed, known).map(DeploymentItem::deployment_id), Some("ecs-svc/2"));
    let heard = |stands| {
        let says = EcsView { stands, ..EcsView::default() };
        super::classify(&failed, EventContext { says: Some(&says), ..known }, at(61))
    };
    assert!(matches!(heard(Some(DeploymentProgress::Ended(Kind::Completed))), EventDecision::Nothing(_)));
    for stands in [None, Some(DeploymentProgress::UnderWay), Some(DeploymentProgress::Ended(Kind::DeploymentFailed))] {
        let ends = heard(stands);
        assert!(
            matches!(ends, EventDecision::Ended { ending: Outcome { kind: Kind::DeploymentFailed, .. }, .. }),
            "{ends:?}"
        );
    }
}

const BACK: &str = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.";

#[test]
fn a_known_deployment_ends_as_the_event_says() {
    let item = item("ecs-svc/2", 0);
    let heard = |happened| classify(&event("ecs-svc/2", happened, "why", 60), None, Some(&item), &[], at(61));
    assert!(matches!(heard(DeploymentEventKind::InProgress), EventDecision::Nothing(_)));
    let EventDecision::Ended { ending, is_final: true, .. } = heard(DeploymentEventKind::Completed) else { panic!() };
    assert_eq!((ending.kind, ending.detail.reason), (Kind::Completed, None));
    let EventDecision::Ended { ending, is_final: false, .. } = heard(DeploymentEventKind::Failed) else { panic!() };
    assert_eq!((ending.kind, ending.detail.reason.as_deref()), (Kind::DeploymentFailed, Some("why")));
    assert_eq!(ending.detail.happened_at, Some(rfc3339(at(60))));
}

#[test]
fn an_end_of_what_was_replaced_is_not_its_own() {
    // Its own end was not reported yet: the reported one is that of the rollback to it.
    let old = item("ecs-svc/1", 0);
    let own = DeploymentItem { before: Some("ecs-svc/1".to_owned()), ..item("ecs-svc/2", 30) };
    let end = |happened, second| {
        classify(&event("ecs-svc/1", happened, "", second), None, Some(&old), std::slice::from_ref(&own), at(61))
    };
    let EventDecision::Ended { deployment_id, ending, .. } = end(DeploymentEventKind::Failed, 60) else { panic!() };
    assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", Kind::RollbackFailed));
    let EventDecision::Ended { deployment_id, ending, .. } = end(DeploymentEventKind::Completed, 20) else { panic!() };
    assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/1", Kind::Completed));
    let mut newer = head(None);
    newer.highest = change(30);
    assert!(needs_ledger(&event("ecs-svc/1", DeploymentEventKind::Failed, "", 60), Some(&newer), Some(&old)));
    newer.highest = old.change_id.clone();
    assert!(!needs_ledger(&event("ecs-svc/1", DeploymentEventKind::Failed, "", 60), Some(&newer), Some(&old)));
    // What replaced it was started by no change, or has ended: the sweep asks.
    let named = crate::ledger::started::Named { deployment_id: "ecs-svc/9".to_owned(), since: at(30) };
    let written = NewestRecords { named: vec![named], ..NewestRecords::default() };
    let known = EventContext { head: None, item: Some(&old), open: &[], written: &written, says: None };
    assert!(matches!(
        super::classify(&event("ecs-svc/1", DeploymentEventKind::Failed, "", 60), known, at(61)),
        EventDecision::Nothing(_)
    ));
}

#[test]
fn an_event_of_another_service_is_refused() {
    let mut other = event("ecs-svc/2", DeploymentEventKind::Completed, "", 60);
    other.service_arn = "arn:another".to_owned();
    assert!(matches!(classify(&other, None, Some(&item("ecs-svc/2", 0)), &[], at(61)), EventDecision::Refused(_)));
}

#[test]
fn a_rollback_undoes_the_newest_open_deployment_whatever_its_own_id() {
    let open = [item("ecs-svc/2", 10), item("ecs-svc/9", 0)];
    let begins = |id| event(id, DeploymentEventKind::InProgress, BACK, 60);
    for known in [None, Some(item("ecs-svc/1", -100))] {
        let heard = classify(&begins("ecs-svc/1"), None, known.as_ref(), &open, at(61));
        let EventDecision::IsRollback { undone: Some(undone) } = heard else { panic!("{heard:?}") };
        assert_eq!(undone.deployment_id(), "ecs-svc/2");
    }
    let mut rollback = item("ecs-svc/1", -100);
    rollback.undoes = Some(Undoes { deployment_id: Some("ecs-svc/2".to_owned()), since: at(60) });
    assert!(matches!(classify(&begins("ecs-svc/1"), None, Some(&rollback), &open, at(61)), EventDecision::Nothing(_)));
    for (happened, expected) in
        [(DeploymentEventKind::Completed, Kind::RolledBack), (DeploymentEventKind::Failed, Kind::RollbackFailed)]
    {
        let heard = classify(&event("ecs-svc/1", happened, "", 90), None, Some(&rollback), &[], at(91));
        let EventDecision::Ended { deployment_id, ending, is_final: true } = heard else { panic!("{heard:?}") };
        assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", expected));
    }
    // The rollback of a deployment that no change started is known from now on, and is never EXTERNAL.
    assert_eq!(classify(&begins("ecs-svc/1"), None, None, &[], at(61)), EventDecision::IsRollback { undone: None });
    rollback.undoes = Some(Undoes { deployment_id: None, since: at(60) });
    let ends = event("ecs-svc/1", DeploymentEventKind::Completed, "", 90);
    assert!(matches!(classify(&ends, None, Some(&rollback), &[], at(91)), EventDecision::Nothing(_)));
}

#[test]
fn what_no_change_started_is_external() {
    for happened in [DeploymentEventKind::InProgress, DeploymentEventKind::Completed, DeploymentEventKind::Failed] {
        let heard = classify(&event("ecs-svc/5", happened, "why", 60), Some(&head(None)), None, &[], at(61));
        let EventDecision::External(detail) = heard else { panic!("{heard:?}") };
        assert_eq!(detail.reason.as_deref(), Some("why"));
    }
    let mut known = item("ecs-svc/5", 0);
    known.outcomes = vec![Kind::External];
    let ends = event("ecs-svc/5", DeploymentEventKind::Completed, "", 60);
    assert!(matches!(classify(&ends, None, Some(&known), &[], at(61)), EventDecision::Nothing(_)));
}

#[test]
fn other_strategies_and_old_replays_are_left_alone() {
    let mut blue_green = item("ecs-svc/2", 0);
    blue_green.by_events = false;
    let ends = event("ecs-svc/2", DeploymentEventKind::Completed, "", 60);
    assert!(matches!(classify(&ends, None, Some(&blue_green), &[], at(61)), EventDecision::Nothing(_)));
    let month_later = at(60) + Duration::days(30);
    assert!(matches!(classify(&ends, None, None, &[], month_later), EventDecision::Nothing(_)));
}

#[test]
fn a_rollback_that_another_deployment_overtook_has_no_end() {
    let undoes = Some(Undoes { deployment_id: Some("ecs-svc/2".to_owned()), since: at(20) });
    let rollback = DeploymentItem { undoes, ..item("ecs-svc/1", 20) };
    let written = NewestRecords::default();
    let heard = |event: &DeploymentEvent, open: &[DeploymentItem]| {
        let known = EventContext { head: None, item: Some(&rollback), open, written: &written, says: None };
        unasked(event, known, at(70))
    };
    let (undone, later) = (item("ecs-svc/2", 10), item("ecs-svc/3", 30));
    let end = event("ecs-svc/1", DeploymentEventKind::Completed, "completed", 60);
    assert!(matches!(heard(&end, std::slice::from_ref(&undone)), EventDecision::Ended { is_final: true, .. }));
    assert!(matches!(heard(&end, &[undone, later]), EventDecision::Nothing(_)));
    // The id is reused for the rollback of a deployment that is not known: it no longer undoes the noted one.
    let again =
        event("ecs-svc/1", DeploymentEventKind::InProgress, "breaker: rolling back to deploymentId ecs-svc/1.", 50);
    assert_eq!(heard(&again, &[]), EventDecision::IsRollback { undone: None });
}
