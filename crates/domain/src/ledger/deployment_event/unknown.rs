//! Events about deployments of which nothing is noted: which change, if any, started each of them.

use chrono::{DateTime, Duration, Utc};

use crate::ecs::deployment::event::{DeploymentEvent, DeploymentEventKind};
use crate::ecs::deployment::outcome::OutcomeDetail;
use crate::ecs::deployment::times::ROUNDING;
use crate::ecs::deployment::view::EcsView;
use crate::ids::ChangeId;
use crate::ledger::attribution::{Runs, runs};
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::deployment_event::decision::{EventContext, EventDecision};
use crate::ledger::deployment_event::order::{CLOCKS, WAITED_OUT, is_live, is_of_its_life, latest, newest_before};
use crate::ledger::deployment_event::rollback::undone;
use crate::ledger::head::LATE_EFFECT;
use crate::ledger::started::StartedChange;
use crate::plan::difference::repositories;
use crate::text::rfc3339;

/// How long after its beginning a deployment may end, if nothing says when it began.
const MAX_ROLLOUT: Duration = Duration::days(1);

/// Nothing is noted about the deployment: a change started it without recording it, it is a rollback whose beginning was not reported, or
/// no change started it.
pub(super) fn of_unknown(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
    if known.written.named.iter().any(|named| named.deployment_id == event.deployment_id) {
        return EventDecision::Retry(format!("deployment {} was noted meanwhile", event.deployment_id));
    }
    if let Some(change_id) = unread_holder(event, known, now) {
        return not_ended(event, change_id);
    }
    let possible: Vec<&StartedChange> = known.written.begun.iter().filter(|begun| is_possible(event, begun)).collect();
    let older = older(event, known);
    if possible.is_empty() && older.is_none() {
        return external(event);
    }
    let Some(says) = known.says else { return EventDecision::Ask };
    // A rollback is not a change's own deployment, although it may run what a change wanted.
    if says.rolls_back != Some(true)
        && let Some(heard) = of_change(event, known, &possible, says, now)
    {
        return heard;
    }
    let is_of_its_life =
        |item: &&DeploymentItem| is_of_its_life(event, says, item.started_at, item.started_at + ROUNDING);
    match older.filter(is_of_its_life) {
        None if says.rolls_back == Some(true) => EventDecision::IsRollback { undone: None },
        None => external(event),
        // Somebody deployed during the rollback of `older`: that one's progress says nothing about this deployment. If the id is that of
        // an earlier deployment, the service deployment may be the earlier one's.
        Some(older)
            if says.rolls_back == Some(false) && says.created_at.is_some_and(|created| created > older.started_at) =>
        {
            external(event)
        }
        Some(older) if says.rolls_back == Some(true) || says.is_rolled_back == Some(true) => {
            let undone = undone(event, known).filter(|item| item.id == older.id);
            EventDecision::IsRollback { undone: undone.map(|item| Box::new(item.clone())) }
        }
        Some(_) if says.is_rolled_back == Some(false) => external(event),
        Some(older) if now - event.at < WAITED_OUT || says.is_unasked => EventDecision::Retry(format!(
            "how deployment {} began was not heard yet: it may be the rollback of {}",
            event.deployment_id,
            older.deployment_id()
        )),
        Some(_) => EventDecision::Nothing(
            "it may be the rollback of a deployment that is open: the sweep asks how that one ended",
        ),
    }
}

/// The change that holds the lease and of which no record was read: it may have started the deployment.
fn unread_holder<'a>(event: &DeploymentEvent, known: EventContext<'a>, now: DateTime<Utc>) -> Option<&'a ChangeId> {
    let lease = known.head?.lease.as_ref().filter(|lease| lease.until > now)?;
    let is_read = known.written.begun.iter().any(|begun| lease.is_of(&begun.change_id, begun.attempt));
    let began = lease.change_id.time();
    (!is_read && began <= event.at + CLOCKS && !known.written.has_result(lease)).then_some(&lease.change_id)
}

fn not_ended(event: &DeploymentEvent, change_id: &ChangeId) -> EventDecision {
    EventDecision::Retry(format!(
        "change {change_id} of service {} has not ended: it may have started deployment {}",
        event.service, event.deployment_id
    ))
}

fn external(event: &DeploymentEvent) -> EventDecision {
    EventDecision::External(OutcomeDetail {
        reason: event.reason.clone(),
        happened_at: Some(rfc3339(event.at)),
        ..OutcomeDetail::default()
    })
}

/// The open deployment of which the unknown deployment may be the rollback, if the event reports an end.
fn older<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    newest_before(event, known.open).filter(|_| event.happened != DeploymentEventKind::InProgress)
}

/// Whether an attempt may have started the deployment, judged by the times of both. A deployment that existed before
/// the attempt does not belong to it.
fn is_possible(event: &DeploymentEvent, begun: &StartedChange) -> bool {
    let until = match event.happened {
        DeploymentEventKind::InProgress => begun.until + LATE_EFFECT,
        DeploymentEventKind::Completed | DeploymentEventKind::Failed => DateTime::<Utc>::MAX_UTC,
    };
    begun.may_deploy()
        && begun.before_deployment() != Some(&event.deployment_id)
        && begun.began <= latest(event) + CLOCKS
        && event.at <= until
}

/// What to do if the deployment belongs, or may belong, to one of these attempts. It belongs to the change that wanted what it runs, and
/// that had begun when it was created.
fn of_change(
    event: &DeploymentEvent,
    known: EventContext<'_>,
    possible: &[&StartedChange],
    says: &EcsView,
    now: DateTime<Utc>,
) -> Option<EventDecision> {
    let fits = possible.iter().copied().filter(|begun| fits(event, begun, says));
    let judged: Vec<(&StartedChange, Runs)> =
        fits.map(|begun| (begun, runs(begun.changes.as_deref(), begun.before.as_ref(), says))).collect();
    let newest = |wanted| {
        let found = judged.iter().filter(|(_, runs)| *runs == wanted).map(|(begun, _)| *begun);
        found.max_by(|one, other| (&one.change_id, one.attempt).cmp(&(&other.change_id, other.attempt)))
    };
    match (newest(Runs::Wanted), newest(Runs::Unknown)) {
        (None, Some(begun)) if is_live(begun, known, now) => Some(not_ended(event, &begun.change_id)),
        // The change's own result says more. But a change may take longer than an event is retried, and another deployment may replace
        // this one before a record names it. So the last delivery notes it, and the result finds it noted.
        (Some(begun), _) if is_live(begun, known, now) && now - event.at < WAITED_OUT => {
            Some(not_ended(event, &begun.change_id))
        }
        (Some(begun), _) => Some(EventDecision::OrphanedChange(Box::new(of_orphan(event, begun, says, now)))),
        (None, Some(begun)) if now - event.at < WAITED_OUT || says.is_unasked => Some(EventDecision::Retry(format!(
            "deployment {} may be of change {}, and ECS does not tell yet what it runs",
            event.deployment_id, begun.change_id
        ))),
        (None, Some(_)) => Some(EventDecision::Nothing(
            "it may be of a change that did not say what it started, and ECS does not tell",
        )),
        (None, None) => None,
    }
}

/// Whether the deployment was created while the attempt could act.
fn fits(event: &DeploymentEvent, begun: &StartedChange, says: &EcsView) -> bool {
    is_of_its_life(event, says, begun.began, begun.until)
        && match says.created_at {
            Some(created) => begun.began - CLOCKS <= created && created <= begun.until + LATE_EFFECT,
            None => event.at - begun.began < MAX_ROLLOUT,
        }
}

/// The deployment as the change would have noted it.
fn of_orphan(event: &DeploymentEvent, begun: &StartedChange, says: &EcsView, now: DateTime<Utc>) -> DeploymentItem {
    let (arn, id) = (&event.service_arn, &event.deployment_id);
    let started_at = says.created_at.unwrap_or(event.at);
    let changes = begun.changes.as_deref().unwrap_or_default();
    DeploymentItem {
        repositories: begun.before.as_ref().map(|before| repositories(changes, before)).unwrap_or_default(),
        before: begun.before_deployment().map(str::to_owned),
        service_deployment: says.service_deployment.clone(),
        by_events: !says.other_strategy,
        ..DeploymentItem::new(&event.service, arn, id, begun.change_id.clone(), started_at, now)
    }
}
