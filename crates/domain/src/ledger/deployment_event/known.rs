//! Events about deployments that the ledger knows.

use chrono::{DateTime, Utc};

use crate::ecs::deployment::event::{DeploymentEvent, DeploymentEventKind};
use crate::ecs::deployment::outcome::{Outcome, OutcomeDetail};
use crate::ecs::deployment::view::DeploymentProgress;
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::deployment_event::decision::{EventContext, EventDecision};
use crate::ledger::deployment_event::order::{is_live, is_overtaken, is_replaced, may_have_replaced};
use crate::ledger::deployment_event::rollback::{not_told, rollback_ends};
use crate::ledger::kind::Kind;
use crate::text::rfc3339;

pub(super) fn of_known(
    event: &DeploymentEvent,
    item: &DeploymentItem,
    known: EventContext<'_>,
    now: DateTime<Utc>,
) -> EventDecision {
    if let Some(undoes) = &item.undoes {
        // What its id did before the rollback began is not the rollback's.
        let is_earlier = event.at < undoes.since;
        match &undoes.deployment_id {
            _ if event.happened == DeploymentEventKind::InProgress => {
                return EventDecision::Nothing("the deployment is known");
            }
            _ if is_earlier && item.is_only_a_rollback() => {
                return EventDecision::Nothing("it is from before the rollback that is known");
            }
            _ if is_earlier => {}
            None => return EventDecision::Nothing("it is the rollback of a deployment that is not known"),
            Some(_) if is_overtaken(event, undoes.since, known) => {
                return EventDecision::Nothing("another deployment took over from the rollback that is known");
            }
            Some(undone) => return rollback_ends(event, undone, known, now),
        }
    }
    if item.is_external() {
        return EventDecision::Nothing("the deployment is known, and no change started it");
    }
    if event.happened != DeploymentEventKind::InProgress && item.outcomes.is_empty() && is_replaced(event, item, known)
    {
        return EventDecision::Nothing(
            "another deployment had taken its place: it is the end of a rollback, and the sweep asks how it ended",
        );
    }
    // The event of its own end may still be on its way: this one may be the end of a rollback to it, from what a later
    // change started.
    if event.happened != DeploymentEventKind::InProgress
        && item.outcomes.is_empty()
        && let Some(begun) = may_have_replaced(event, item, known)
    {
        return if is_live(begun, known, now) {
            not_told(event, begun)
        } else {
            EventDecision::Nothing(
                "a later change may have taken its place, and did not say so: the sweep asks how it ended",
            )
        };
    }
    if !item.by_events {
        return EventDecision::Nothing("events do not tell how deployments of this strategy end: the sweep asks");
    }
    let ended = |kind, reason, is_final| EventDecision::Ended {
        deployment_id: event.deployment_id.clone(),
        ending: Outcome {
            kind,
            detail: OutcomeDetail { happened_at: Some(rfc3339(event.at)), reason, ..OutcomeDetail::default() },
        },
        is_final,
    };
    match event.happened {
        DeploymentEventKind::InProgress => EventDecision::Nothing("the deployment is known"),
        DeploymentEventKind::Completed => ended(Kind::Completed, None, true),
        // It may be the end of a rollback to it whose beginning was not reported, while the event of its own end is
        // still on its way.
        DeploymentEventKind::Failed if item.outcomes.is_empty() && known.says.is_none() => EventDecision::Ask,
        DeploymentEventKind::Failed
            if known.says.and_then(|says| says.stands) == Some(DeploymentProgress::Ended(Kind::Completed)) =>
        {
            EventDecision::Nothing(
                "ECS says that it completed: it is the end of a rollback to it, and the sweep asks how it ended",
            )
        }
        // A rollback may follow.
        DeploymentEventKind::Failed => ended(Kind::DeploymentFailed, event.reason.clone(), false),
    }
}
