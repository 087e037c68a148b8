//! Pure: what an event about a deployment means for the ledger of its service.
//!
//! A rollback is a deployment of its own, with events of its own. As far as is known, ECS takes up the id of the
//! deployment that it goes back to; where it does not, the id is new. Both are understood: what begins with the words of
//! a rollback undoes the newest deployment of the service that is open.

use chrono::{DateTime, Duration, Utc};

use super::deployment::DeploymentItem;
use super::head::Head;
use super::record::Kind;
use crate::names::ChangeId;
use crate::outcome::{DeploymentEvent, Detail, Ending, Happened, Target};
use crate::snapshot::rfc3339;

/// Events of before that are not listened to: what is known of deployments is kept for as long.
const OLDEST: Duration = Duration::days(29);
/// How far the clock of ECS may be from ours.
const CLOCKS: Duration = Duration::seconds(5);

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Nothing ever: it names another service than the deployment has.
    Refused(String),
    /// It has to come again: what it depends on is not written yet.
    TooEarly(String),
    /// A deployment ended so.
    Ended {
        /// Which one.
        deployment_id: String,
        /// How.
        ending: Ending,
        /// Whether nothing more is to come.
        is_final: bool,
    },
    /// The event's deployment is the rollback of another one, or of one that is not known: note it.
    RollsBack {
        /// The other one.
        undone: Option<Box<DeploymentItem>>,
    },
    /// A change began, did not end, and must have started this deployment: note it.
    OfOrphan {
        /// The change.
        change_id: ChangeId,
    },
    /// No change started it.
    External(Detail),
}

/// Decides what an event means. `item` is what is known of its deployment, `open` the open deployments of its service:
/// they are asked for only where `item` and the event need them ([`needs_open`]).
#[must_use]
pub fn hear(
    event: &DeploymentEvent,
    head: Option<&Head>,
    item: Option<&DeploymentItem>,
    open: &[DeploymentItem],
    now: DateTime<Utc>,
) -> Heard {
    if now - event.at > OLDEST {
        return Heard::Nothing("it is so old that nothing is known of its deployment");
    }
    if let Some(item) = item.filter(|item| item.service_arn != event.service_arn) {
        return Heard::Refused(format!(
            "deployment {} is one of service {}, and the event is about {}",
            event.deployment_id, item.service_arn, event.service_arn
        ));
    }
    if event.rolls_back() {
        let undone = newest(open.iter().filter(|other| other.deployment_id() != event.deployment_id));
        let noted = item.and_then(|item| item.undoes.as_ref()).map(|undoes| undoes.deployment_id.as_deref());
        let is_noted = noted == Some(undone.map(DeploymentItem::deployment_id));
        return match (item, undone) {
            (Some(_), _) if is_noted => Heard::Nothing("the rollback is known"),
            (Some(_), None) => Heard::Nothing("nothing that is open is rolled back"),
            (_, undone) => Heard::RollsBack { undone: undone.map(|it| Box::new(it.clone())) },
        };
    }
    match item {
        Some(item) => of_known(event, item),
        None => of_unknown(event, head, open, now),
    }
}

/// Whether the open deployments of the service matter.
#[must_use]
pub fn needs_open(event: &DeploymentEvent, item: Option<&DeploymentItem>) -> bool {
    event.rolls_back() || (item.is_none() && event.happened != Happened::InProgress)
}

fn of_known(event: &DeploymentEvent, item: &DeploymentItem) -> Heard {
    let happened_at = Some(rfc3339(event.at));
    match item.undoes.as_ref().map(|undoes| undoes.deployment_id.as_deref()) {
        Some(None) => return Heard::Nothing("it is the rollback of a deployment that is not known"),
        Some(Some(undone)) => {
            let detail = Detail { happened_at, reason: event.reason.clone(), ..Detail::default() };
            let ending = match event.happened {
                Happened::InProgress => return Heard::Nothing("the rollback is known"),
                Happened::Failed => Ending { kind: Kind::RollbackFailed, detail },
                Happened::Completed => {
                    let to = Target { deployment_id: Some(event.deployment_id.clone()), ..Target::default() };
                    Ending {
                        kind: Kind::RolledBack,
                        detail: Detail { rolled_back_to: Some(to), reason: None, ..detail },
                    }
                }
            };
            return Heard::Ended { deployment_id: undone.to_owned(), ending, is_final: true };
        }
        None => {}
    }
    if item.outcomes.contains(&Kind::External) {
        return Heard::Nothing("the deployment is known, and no change started it");
    }
    if !item.by_events {
        return Heard::Nothing("events do not tell how deployments of this strategy end: the sweep asks");
    }
    let ended = |kind, reason, is_final| Heard::Ended {
        deployment_id: event.deployment_id.clone(),
        ending: Ending { kind, detail: Detail { happened_at: happened_at.clone(), reason, ..Detail::default() } },
        is_final,
    };
    match event.happened {
        Happened::InProgress => Heard::Nothing("the deployment is known"),
        Happened::Completed => ended(Kind::Completed, None, true),
        // A rollback may follow.
        Happened::Failed => ended(Kind::DeploymentFailed, event.reason.clone(), false),
    }
}

fn of_unknown(event: &DeploymentEvent, head: Option<&Head>, open: &[DeploymentItem], now: DateTime<Utc>) -> Heard {
    if let Some(lease) = head.and_then(|head| head.lease.as_ref()) {
        if lease.until > now {
            return Heard::TooEarly(format!(
                "change {} of service {} has not ended: it may have started deployment {}",
                lease.change_id, event.service, event.deployment_id
            ));
        }
        let began = lease.change_id.time();
        if (began - CLOCKS..=lease.until).contains(&event.at) && event.happened == Happened::InProgress {
            return Heard::OfOrphan { change_id: lease.change_id.clone() };
        }
    }
    if let Some(other) = newest(open.iter().filter(|other| other.started_at <= event.at)) {
        return Heard::TooEarly(format!(
            "how deployment {} began was not heard yet: it may be the rollback of {}",
            event.deployment_id,
            other.deployment_id()
        ));
    }
    Heard::External(Detail { reason: event.reason.clone(), happened_at: Some(rfc3339(event.at)), ..Detail::default() })
}

/// The deployment of the newest change.
fn newest<'a>(open: impl Iterator<Item = &'a DeploymentItem>) -> Option<&'a DeploymentItem> {
    open.max_by(|a, b| a.change_id.cmp(&b.change_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::deployment::Undoes;
    use crate::ledger::head::Lease;
    use crate::ledger::record::{Attempt, Place, RecordKey};
    use crate::names::{AccountId, EcsName, Region, ServiceKey};

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

    fn event(id: &str, happened: Happened, reason: &str, second: i64) -> DeploymentEvent {
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
        let record = RecordKey::new(highest.clone(), Place::STARTED);
        let begun = Some(highest.clone());
        Head { seq: 1, hash: "h".to_owned(), record, highest, begun, running: None, lease }
    }

    const BACK: &str = "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/1.";

    #[test]
    fn a_known_deployment_ends_as_the_event_says() {
        let item = item("ecs-svc/2", 0);
        let heard = |happened| hear(&event("ecs-svc/2", happened, "why", 60), None, Some(&item), &[], at(61));
        assert!(matches!(heard(Happened::InProgress), Heard::Nothing(_)));
        let Heard::Ended { ending, is_final: true, .. } = heard(Happened::Completed) else { panic!() };
        assert_eq!((ending.kind, ending.detail.reason), (Kind::Completed, None));
        let Heard::Ended { ending, is_final: false, .. } = heard(Happened::Failed) else { panic!() };
        assert_eq!((ending.kind, ending.detail.reason.as_deref()), (Kind::DeploymentFailed, Some("why")));
        assert_eq!(ending.detail.happened_at, Some(rfc3339(at(60))));
    }

    #[test]
    fn an_event_of_another_service_is_refused() {
        let mut other = event("ecs-svc/2", Happened::Completed, "", 60);
        other.service_arn = "arn:another".to_owned();
        assert!(matches!(hear(&other, None, Some(&item("ecs-svc/2", 0)), &[], at(61)), Heard::Refused(_)));
    }

    #[test]
    fn a_rollback_undoes_the_newest_open_deployment_whatever_its_own_id() {
        let open = [item("ecs-svc/2", 10), item("ecs-svc/9", 0)];
        let begins = |id| event(id, Happened::InProgress, BACK, 60);
        for known in [None, Some(item("ecs-svc/1", -100))] {
            let heard = hear(&begins("ecs-svc/1"), None, known.as_ref(), &open, at(61));
            let Heard::RollsBack { undone: Some(undone) } = heard else { panic!("{heard:?}") };
            assert_eq!(undone.deployment_id(), "ecs-svc/2");
        }
        let mut rollback = item("ecs-svc/1", -100);
        rollback.undoes = Some(Undoes { deployment_id: Some("ecs-svc/2".to_owned()), since: at(60) });
        assert!(matches!(hear(&begins("ecs-svc/1"), None, Some(&rollback), &open, at(61)), Heard::Nothing(_)));
        for (happened, expected) in [(Happened::Completed, Kind::RolledBack), (Happened::Failed, Kind::RollbackFailed)]
        {
            let heard = hear(&event("ecs-svc/1", happened, "", 90), None, Some(&rollback), &[], at(91));
            let Heard::Ended { deployment_id, ending, is_final: true } = heard else { panic!("{heard:?}") };
            assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", expected));
        }
        // Of a deployment that is not ours: known from now on, and never EXTERNAL.
        assert_eq!(hear(&begins("ecs-svc/1"), None, None, &[], at(61)), Heard::RollsBack { undone: None });
        rollback.undoes = Some(Undoes { deployment_id: None, since: at(60) });
        let ends = event("ecs-svc/1", Happened::Completed, "", 90);
        assert!(matches!(hear(&ends, None, Some(&rollback), &[], at(91)), Heard::Nothing(_)));
    }

    #[test]
    fn what_no_change_started_is_external() {
        for happened in [Happened::InProgress, Happened::Completed, Happened::Failed] {
            let heard = hear(&event("ecs-svc/5", happened, "why", 60), Some(&head(None)), None, &[], at(61));
            let Heard::External(detail) = heard else { panic!("{heard:?}") };
            assert_eq!(detail.reason.as_deref(), Some("why"));
        }
        let mut known = item("ecs-svc/5", 0);
        known.outcomes = vec![Kind::External];
        let ends = event("ecs-svc/5", Happened::Completed, "", 60);
        assert!(matches!(hear(&ends, None, Some(&known), &[], at(61)), Heard::Nothing(_)));
    }

    #[test]
    fn what_a_change_may_have_started_waits_for_its_result() {
        let lease =
            |until| Lease { change_id: change(0), attempt: Attempt::FIRST, until: at(until), key: "key#1".to_owned() };
        let begins = event("ecs-svc/5", Happened::InProgress, "", 60);
        let heard = |until, now| hear(&begins, Some(&head(Some(lease(until)))), None, &[], at(now));
        assert!(matches!(heard(125, 61), Heard::TooEarly(_)));
        // Its function died: nobody else could have started it while the lease lasted.
        assert_eq!(heard(125, 126), Heard::OfOrphan { change_id: change(0) });
        assert!(matches!(heard(55, 126), Heard::External(_)));
    }

    #[test]
    fn an_end_whose_beginning_was_not_heard_may_be_that_of_a_rollback() {
        let ends = event("ecs-svc/3", Happened::Completed, "", 60);
        let heard = |began| hear(&ends, Some(&head(None)), None, &[item("ecs-svc/2", began)], at(61));
        assert!(matches!(heard(10), Heard::TooEarly(_)));
        assert!(matches!(heard(70), Heard::External(_)));
        assert!(needs_open(&ends, None) && !needs_open(&ends, Some(&item("ecs-svc/3", 0))));
        assert!(!needs_open(&event("ecs-svc/3", Happened::InProgress, "", 60), None));
    }

    #[test]
    fn other_strategies_and_old_replays_are_left_alone() {
        let mut blue_green = item("ecs-svc/2", 0);
        blue_green.by_events = false;
        let ends = event("ecs-svc/2", Happened::Completed, "", 60);
        assert!(matches!(hear(&ends, None, Some(&blue_green), &[], at(61)), Heard::Nothing(_)));
        let month_later = at(60) + Duration::days(30);
        assert!(matches!(hear(&ends, None, None, &[], month_later), Heard::Nothing(_)));
    }
}
