//! Rollbacks: which deployment one undoes, and how it ended.

use chrono::{DateTime, Utc};

use crate::ecs::deployment::event::{DeploymentEvent, DeploymentEventKind};
use crate::ecs::deployment::outcome::{Outcome, OutcomeDetail, RollbackTarget};
use crate::ecs::deployment::view::DeploymentProgress;
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::deployment_event::decision::{EventContext, EventDecision};
use crate::ledger::deployment_event::order::{
    WAITED_OUT, is_live, is_replaced, latest, may_have_replaced, newest_before,
};
use crate::ledger::kind::Kind;
use crate::ledger::started::StartedChange;
use crate::text::rfc3339;

/// A deployment whose event has the wording of a rollback undoes the newest open deployment that began before it.
pub(super) fn rollback_begins(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
    let undone = undone(event, known);
    let noted = known.item.and_then(|item| item.undoes.as_ref());
    if noted.is_some_and(|noted| noted.since >= event.at) {
        return EventDecision::Nothing("the rollback is known");
    }
    let noted = noted.map(|noted| noted.deployment_id.as_deref());
    match (known.item, undone) {
        (Some(_), undone) if noted == Some(undone.map(DeploymentItem::deployment_id)) => {
            EventDecision::Nothing("the rollback is known")
        }
        // The id was reused for the rollback of another deployment: the end of that rollback is not the end of the one that is noted.
        (Some(_), None) if noted == Some(None) => EventDecision::Nothing("the rollback is known"),
        (Some(item), None) if noted.is_none() => match may_have_replaced(event, item, known) {
            Some(begun) if is_live(begun, known, now) => not_told(event, begun),
            _ => EventDecision::Nothing("nothing that is open is rolled back"),
        },
        // It may be the rollback of a deployment that has not been recorded yet: ECS says whether this one was rolled
        // back.
        (_, Some(_)) if known.says.is_none() => EventDecision::Ask,
        (_, undone) => {
            let is_other = known.says.and_then(|says| says.is_rolled_back) == Some(false);
            EventDecision::IsRollback { undone: undone.filter(|_| !is_other).map(|item| Box::new(item.clone())) }
        }
    }
}

/// The deployment that a rollback of this time undoes: the newest open one that began before, unless the ledger knows of another one that
/// was started between. ECS rolls back what is `PRIMARY`, so an older one cannot be meant.
pub(super) fn undone<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    let at = latest(event);
    let undone = newest_before(event, known.open)?;
    let is_between = |time: DateTime<Utc>| undone.started_at < time && time < at;
    let id = undone.deployment_id();
    let is_open = |id: &str| known.open.iter().any(|item| item.deployment_id() == id);
    let other = known.written.named.iter().any(|named| {
        let is_another = named.deployment_id != id && named.deployment_id != event.deployment_id;
        is_another && !is_open(&named.deployment_id) && is_between(named.since)
    });
    let untold = known
        .written
        .begun
        .iter()
        .any(|begun| begun.may_deploy() && is_between(begun.began) && begun.left.as_deref() != Some(id));
    (!other && !untold).then_some(undone)
}

/// Whether the event may report the end of a rollback whose beginning was not reported, as ECS reuses the id from before. The deployment
/// with that id had already ended, whether or not that was reported, or another deployment had replaced it.
fn may_end_a_rollback(event: &DeploymentEvent, item: &DeploymentItem, known: EventContext<'_>) -> bool {
    let has_ended = !item.outcomes.is_empty() || is_replaced(event, item, known);
    event.happened != DeploymentEventKind::InProgress && item.undoes.is_none() && has_ended
}

/// The deployment whose rollback the event ends: it is open, and the event's deployment, which it had replaced, ended again after it
/// began.
pub(super) fn undone_by_end<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    if event.happened == DeploymentEventKind::InProgress
        || !known.item.is_none_or(|item| may_end_a_rollback(event, item, known))
    {
        return None;
    }
    undone(event, known)
        .filter(|item| item.before.as_deref() == Some(&event.deployment_id) && item.started_at < event.at)
}

/// How the rollback of a deployment ended. ECS reuses the same id for each rollback to it, so the end may belong to another rollback
/// whose beginning was not reported: if the deployment is open, what ECS says about it is decisive.
pub(super) fn rollback_ends(
    event: &DeploymentEvent,
    undone: &str,
    known: EventContext<'_>,
    now: DateTime<Utc>,
) -> EventDecision {
    let is_open = known.open.iter().any(|item| item.deployment_id() == undone);
    if is_open && known.says.is_none() {
        return EventDecision::Ask;
    }
    let told = if event.happened == DeploymentEventKind::Failed { Kind::RollbackFailed } else { Kind::RolledBack };
    match known.says.and_then(|says| says.stands) {
        Some(DeploymentProgress::UnderWay) if now - event.at < WAITED_OUT => {
            return EventDecision::Retry(format!(
                "ECS does not show yet that the rollback of deployment {undone} has ended"
            ));
        }
        Some(stands) if stands != DeploymentProgress::Ended(told) => {
            return EventDecision::Nothing(
                "ECS says something else of the deployment that is open: it is the end of another rollback, and the sweep asks",
            );
        }
        _ => {}
    }
    let detail = OutcomeDetail { happened_at: Some(rfc3339(event.at)), ..OutcomeDetail::default() };
    let ending = if told == Kind::RollbackFailed {
        Outcome { kind: told, detail: OutcomeDetail { reason: event.reason.clone(), ..detail } }
    } else {
        let to = RollbackTarget { deployment_id: Some(event.deployment_id.clone()), ..RollbackTarget::default() };
        Outcome { kind: told, detail: OutcomeDetail { rolled_back_to: Some(to), ..detail } }
    };
    EventDecision::Ended { deployment_id: undone.to_owned(), ending, is_final: true }
}

pub(super) fn not_told(event: &DeploymentEvent, begun: &StartedChange) -> EventDecision {
    EventDecision::Retry(format!(
        "change {} of service {} has not ended: what it started may have replaced deployment {}",
        begun.change_id, event.service, event.deployment_id
    ))
}
