//! Pure: what an event about a deployment means for the ledger of its service.
//!
//! A rollback is a deployment of its own, with its own events. As far as is known, ECS reuses the id of the deployment to which it rolls
//! back; if it does not, the id is new. Both cases are handled: a deployment whose event has the wording of a rollback undoes the newest
//! open deployment of the service that began before it.
//!
//! Events arrive late, twice, in any order, or not at all (`EventBridge` delivers at least once, and in rare cases not at all:
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-delivery-level.html>). Therefore the times in the events are
//! compared, and if an event may belong to a deployment that a change started without recording it, ECS is asked
//! ([`EventDecision::Ask`]).

pub mod decision;
mod known;
mod order;
mod rollback;
#[cfg(test)]
mod tests;
mod unknown;

use chrono::{DateTime, Duration, Utc};

use crate::ecs::deployment::event::{DeploymentEvent, DeploymentEventKind};
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::deployment_event::decision::{EventContext, EventDecision};
use crate::ledger::deployment_event::known::of_known;
use crate::ledger::deployment_event::order::{is_replaced, newest_before};
use crate::ledger::deployment_event::rollback::{rollback_begins, rollback_ends, undone_by_end};
use crate::ledger::deployment_event::unknown::of_unknown;
use crate::ledger::head::Head;

/// Events that are older than this are ignored: what is known about deployments is kept for as long.
const OLDEST: Duration = Duration::days(29);

/// Decides what an event means.
#[must_use]
pub fn classify(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
    let item = known.item;
    if now - event.at > OLDEST {
        return EventDecision::Nothing("it is so old that nothing is known of its deployment");
    }
    if let Some(item) = item.filter(|item| item.service_arn != event.service_arn) {
        return EventDecision::Refused(format!(
            "deployment {} is one of service {}, and the event is about {}",
            event.deployment_id, item.service_arn, event.service_arn
        ));
    }
    if event.rolls_back() {
        return rollback_begins(event, known, now);
    }
    if let Some(undone) = undone_by_end(event, known) {
        return rollback_ends(event, undone.deployment_id(), known, now);
    }
    match item {
        Some(item) => of_known(event, item, known, now),
        None => of_unknown(event, known, now),
    }
}

/// Whether the decision depends on the open deployments of the service and its newest records.
#[must_use]
pub fn needs_ledger(event: &DeploymentEvent, head: Option<&Head>, item: Option<&DeploymentItem>) -> bool {
    let Some(item) = item else { return true };
    // A deployment that nothing followed, neither a change nor a deployment that no change started, was not replaced as far as the ledger
    // knows.
    let is_behind = || head.is_some_and(|head| head.highest != item.change_id);
    let ends_more = || item.undoes.is_some() || !item.outcomes.is_empty() || is_behind();
    event.rolls_back() || (event.happened != DeploymentEventKind::InProgress && ends_more())
}

/// The deployment about which ECS is asked besides the event's own: the one whose end the event may report. That is the event's own
/// deployment if it failed and nothing is recorded about it.
#[must_use]
pub fn asked_about<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    let ends = event.happened != DeploymentEventKind::InProgress && !event.rolls_back();
    if let Some(item) = known.item.filter(|_| ends) {
        let noted = item.undoes.as_ref().filter(|undoes| undoes.since <= event.at);
        let undone = noted.and_then(|undoes| undoes.deployment_id.as_deref());
        if let Some(undone) = undone.and_then(|id| known.open.iter().find(|item| item.deployment_id() == id)) {
            return Some(undone);
        }
        let is_own = event.happened == DeploymentEventKind::Failed && item.outcomes.is_empty() && item.undoes.is_none();
        if is_own && !is_replaced(event, item, known) {
            return Some(item);
        }
    }
    newest_before(event, known.open)
}
