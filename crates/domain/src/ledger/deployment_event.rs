//! Pure: what an event about a deployment means for the ledger of its service.
//!
//! A rollback is a deployment of its own, with events of its own. As far as is known, ECS takes up the id of the
//! deployment that it goes back to; where it does not, the id is new. Both are understood: what begins with the words of
//! a rollback undoes the newest deployment of the service that is open and began before it.
//!
//! Events come late, twice, in any order, or not at all (`EventBridge` delivers at least once, and rarely not:
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-delivery-level.html>). So their own times are compared, and
//! where an event may be of a deployment that a change started without having said so, ECS is asked ([`EventDecision::Ask`]).

use chrono::{DateTime, Duration, Utc};

use super::deployment::DeploymentItem;
use super::head::Head;
use super::started::{NewestRecords, StartedChange};
use crate::ecs::deployment_status::{
    DeploymentEvent, DeploymentEventKind, DeploymentProgress, EcsView, Outcome, OutcomeDetail, ROUNDING, RollbackTarget,
};
use crate::ledger::attribution::{Runs, runs};
use crate::ledger::head::LATE_EFFECT;
use crate::ledger::kind::Kind;
use crate::plan::difference::repositories;
use crate::text::rfc3339;

/// Events of before that are not listened to: what is known of deployments is kept for as long.
const OLDEST: Duration = Duration::days(29);
/// How far the clock of ECS may be from ours.
const CLOCKS: Duration = Duration::seconds(5);
/// How old an event is when its last delivery has come: Lambda runs a failed asynchronous event again after one minute and after two
/// more. Source: <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>.
const WAITED_OUT: Duration = Duration::seconds(150);
/// How long the end of a deployment may come after its beginning, where nothing tells when that was.
const MAX_ROLLOUT: Duration = Duration::days(1);

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventDecision {
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// Nothing ever: it names another service than the deployment has.
    Refused(String),
    /// It has to come again: what it depends on is not written or not visible yet, and will be soon.
    Retry(String),
    /// What ECS says of the deployment decides: ask, and hear again.
    Ask,
    /// A deployment ended so.
    Ended {
        /// Which one.
        deployment_id: String,
        /// How.
        ending: Outcome,
        /// Whether nothing more is to come.
        is_final: bool,
    },
    /// The event's deployment is the rollback of another one, or of one that is not known: note it.
    IsRollback {
        /// The other one.
        undone: Option<Box<DeploymentItem>>,
    },
    /// A change began, did not say what it started, and started this deployment: note it.
    OrphanedChange(Box<DeploymentItem>),
    /// No change started it.
    External(OutcomeDetail),
}

/// What the ledger says. `open` and `written` are read only where the event needs them ([`needs_ledger`]).
#[derive(Debug, Clone, Copy)]
pub struct EventContext<'a> {
    /// The service's head.
    pub head: Option<&'a Head>,
    /// What is known of the event's deployment.
    pub item: Option<&'a DeploymentItem>,
    /// The open deployments of its service.
    pub open: &'a [DeploymentItem],
    /// What the newest records of the service say.
    pub written: &'a NewestRecords,
    /// What ECS says, once it was asked.
    pub says: Option<&'a EcsView>,
}

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

/// Whether the open deployments of the service and its newest records matter.
#[must_use]
pub fn needs_ledger(event: &DeploymentEvent, head: Option<&Head>, item: Option<&DeploymentItem>) -> bool {
    let Some(item) = item else { return true };
    // What nothing came behind, no change and nobody's deployment, had nothing that took its place, as far as the ledger knows.
    let is_behind = || head.is_some_and(|head| head.highest != item.change_id);
    let ends_more = || item.undoes.is_some() || !item.outcomes.is_empty() || is_behind();
    event.rolls_back() || (event.happened != DeploymentEventKind::InProgress && ends_more())
}

/// What began with the words of a rollback undoes the newest open deployment that began before.
fn rollback_begins(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
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
        // The id was taken up again, for another deployment: how that rollback ends is not how the one that is noted ended.
        (Some(_), None) if noted == Some(None) => EventDecision::Nothing("the rollback is known"),
        (Some(item), None) if noted.is_none() => match may_have_replaced(event, item, known) {
            Some(begun) if is_live(begun, known, now) => not_told(event, begun),
            _ => EventDecision::Nothing("nothing that is open is rolled back"),
        },
        // It may be of one that nobody told of yet: ECS says whether this one was rolled back.
        (_, Some(_)) if known.says.is_none() => EventDecision::Ask,
        (_, undone) => {
            let is_other = known.says.and_then(|says| says.is_rolled_back) == Some(false);
            EventDecision::IsRollback { undone: undone.filter(|_| !is_other).map(|it| Box::new(it.clone())) }
        }
    }
}

/// The deployment that a rollback of this time undoes: the newest open one that began before, unless the ledger knows of another one that
/// was started between. ECS rolls back what is `PRIMARY`, so an older one cannot be meant.
fn undone<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    let at = latest(event);
    let undone = newest_before(event, known.open)?;
    let is_between = |time: DateTime<Utc>| undone.started_at < time && time < at;
    let id = undone.deployment_id();
    let is_open = |id: &str| known.open.iter().any(|it| it.deployment_id() == id);
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

/// The latest time at which an event may have happened: times of events may be cut to whole seconds.
fn latest(event: &DeploymentEvent) -> DateTime<Utc> {
    if event.at.timestamp_subsec_millis() == 0 { event.at + Duration::milliseconds(999) } else { event.at }
}

/// Whether the event may tell the end of a rollback whose beginning was not heard: ECS takes up the id from before. That one had ended
/// before, whether that was heard or not, or another deployment had taken its place.
fn may_end_a_rollback(event: &DeploymentEvent, item: &DeploymentItem, known: EventContext<'_>) -> bool {
    let has_ended = !item.outcomes.is_empty() || is_replaced(event, item, known);
    event.happened != DeploymentEventKind::InProgress && item.undoes.is_none() && has_ended
}

/// Whether another deployment had begun behind the event's own when the event happened.
fn is_replaced(event: &DeploymentEvent, item: &DeploymentItem, known: EventContext<'_>) -> bool {
    began(event, known).any(|time| item.started_at < time && time + ROUNDING < event.at)
}

/// When other deployments than the event's began, as far as is known.
fn began<'a>(event: &'a DeploymentEvent, known: EventContext<'a>) -> impl Iterator<Item = DateTime<Utc>> + 'a {
    let open = known.open.iter().map(|it| (it.deployment_id(), it.started_at));
    // Records say when it was created at the earliest: of an open one more is known.
    let is_open = |id: &str| known.open.iter().any(|it| it.deployment_id() == id);
    let named = known.written.named.iter().filter(move |it| !is_open(&it.deployment_id));
    let named = named.map(|it| (it.deployment_id.as_str(), it.since));
    open.chain(named).filter(|(id, _)| *id != event.deployment_id).map(|(_, time)| time)
}

/// The deployment whose rollback an end is: it is open, and the event's deployment, which it had replaced, ended once more after it began.
fn undone_by_end<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    if event.happened == DeploymentEventKind::InProgress
        || !known.item.is_none_or(|item| may_end_a_rollback(event, item, known))
    {
        return None;
    }
    undone(event, known).filter(|it| it.before.as_deref() == Some(&event.deployment_id) && it.started_at < event.at)
}

/// How the rollback of a deployment ended. ECS takes up the same id for each rollback to it, so that the end may be of another rollback whose
/// beginning was not heard: where that one's deployment is open, what ECS says of it decides.
fn rollback_ends(event: &DeploymentEvent, undone: &str, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
    let is_open = known.open.iter().any(|it| it.deployment_id() == undone);
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

/// Whether another deployment began after a rollback and before this event: the rollback came to no end, and the event tells how a later
/// rollback ended whose beginning was not heard yet.
fn is_overtaken(event: &DeploymentEvent, since: DateTime<Utc>, known: EventContext<'_>) -> bool {
    began(event, known).any(|time| since < time && time < event.at)
}

/// The change that may have replaced the event's deployment before the event happened, and told nobody yet.
fn may_have_replaced<'a>(
    event: &DeploymentEvent,
    item: &DeploymentItem,
    known: EventContext<'a>,
) -> Option<&'a StartedChange> {
    let is_between = |begun: &StartedChange| item.started_at < begun.began && begun.began + ROUNDING < event.at;
    known.written.begun.iter().find(|begun| {
        begun.change_id != item.change_id
            && begun.may_deploy()
            && is_between(begun)
            && begun.left.as_deref() != Some(&event.deployment_id)
    })
}

fn not_told(event: &DeploymentEvent, begun: &StartedChange) -> EventDecision {
    EventDecision::Retry(format!(
        "change {} of service {} has not ended: what it started may have replaced deployment {}",
        begun.change_id, event.service, event.deployment_id
    ))
}

/// Whether the attempt still holds the service.
fn is_live(begun: &StartedChange, known: EventContext<'_>, now: DateTime<Utc>) -> bool {
    let lease = known.head.and_then(|head| head.lease.as_ref());
    lease.is_some_and(|lease| lease.is_of(&begun.change_id, begun.attempt) && lease.until > now)
}

fn of_known(
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
    // Its own end may be on its way still: this one may be of the rollback to it of what a later change started.
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
        // It may be the end of a rollback to it whose beginning was not heard, while its own end is on its way still.
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

/// Nothing is noted of the deployment: it is a change's that did not say so, a rollback whose beginning was not heard, or nobody's.
fn of_unknown(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
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
    // A rollback is no change's own deployment, though it may run what a change wanted.
    if !says.rolls_back
        && let Some(heard) = of_change(event, known, &possible, says, now)
    {
        return heard;
    }
    let is_of_its_life = |it: &&DeploymentItem| is_of_its_life(event, says, it.started_at, it.started_at + ROUNDING);
    match older.filter(is_of_its_life) {
        None if says.rolls_back => EventDecision::IsRollback { undone: None },
        None => external(event),
        Some(older) if says.rolls_back || says.is_rolled_back == Some(true) => {
            let undone = undone(event, known).filter(|it| it.id == older.id);
            EventDecision::IsRollback { undone: undone.map(|it| Box::new(it.clone())) }
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

/// The change whose lease stands and of which no record was read: it may have started the deployment.
fn unread_holder<'a>(
    event: &DeploymentEvent,
    known: EventContext<'a>,
    now: DateTime<Utc>,
) -> Option<&'a crate::ids::ChangeId> {
    let lease = known.head?.lease.as_ref().filter(|lease| lease.until > now)?;
    let is_read = known.written.begun.iter().any(|begun| lease.is_of(&begun.change_id, begun.attempt));
    let began = lease.change_id.time();
    (!is_read && began <= event.at + CLOCKS && !known.written.has_result(lease)).then_some(&lease.change_id)
}

fn not_ended(event: &DeploymentEvent, change_id: &crate::ids::ChangeId) -> EventDecision {
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

/// The open deployment whose rollback an end of an unknown one may be.
fn older<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    newest_before(event, known.open).filter(|_| event.happened != DeploymentEventKind::InProgress)
}

/// The deployment that ECS is asked about besides the event's own: the one whose end the event may tell. That is the event's own where it
/// failed and nothing is recorded of it.
#[must_use]
pub fn asked_about<'a>(event: &DeploymentEvent, known: EventContext<'a>) -> Option<&'a DeploymentItem> {
    let ends = event.happened != DeploymentEventKind::InProgress && !event.rolls_back();
    if let Some(item) = known.item.filter(|_| ends) {
        let noted = item.undoes.as_ref().filter(|undoes| undoes.since <= event.at);
        let undone = noted.and_then(|undoes| undoes.deployment_id.as_deref());
        if let Some(undone) = undone.and_then(|id| known.open.iter().find(|it| it.deployment_id() == id)) {
            return Some(undone);
        }
        let is_own = event.happened == DeploymentEventKind::Failed && item.outcomes.is_empty() && item.undoes.is_none();
        if is_own && !is_replaced(event, item, known) {
            return Some(item);
        }
    }
    newest_before(event, known.open)
}

/// The open deployment that an event may tell of besides its own: the newest of those that began before, unless another deployment is known to be
/// its rollback.
fn newest_before<'a>(event: &DeploymentEvent, open: &'a [DeploymentItem]) -> Option<&'a DeploymentItem> {
    let is_before = |it: &&DeploymentItem| it.deployment_id() != event.deployment_id && it.started_at < latest(event);
    let is_free = |it: &&DeploymentItem| it.undone_by.as_ref().is_none_or(|by| *by == event.deployment_id);
    newest(open.iter().filter(is_before)).filter(is_free)
}

/// Whether an attempt may have started the deployment, by the times of both: nothing that was there before it is its.
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

/// What is to be done where the deployment is, or may be, one of these attempts'. It is the change's that wanted what it runs, and that had
/// begun when it was created.
fn of_change(
    event: &DeploymentEvent,
    known: EventContext<'_>,
    possible: &[&StartedChange],
    says: &EcsView,
    now: DateTime<Utc>,
) -> Option<EventDecision> {
    let fits = possible.iter().copied().filter(|begun| fits(event, begun, says));
    let judged: Vec<(&StartedChange, Runs)> =
        fits.map(|it| (it, runs(it.changes.as_deref(), it.before.as_ref(), says))).collect();
    let newest = |wanted| {
        let found = judged.iter().filter(|(_, runs)| *runs == wanted).map(|(begun, _)| *begun);
        found.max_by(|one, other| (&one.change_id, one.attempt).cmp(&(&other.change_id, other.attempt)))
    };
    match (newest(Runs::Wanted), newest(Runs::Unknown)) {
        (None, Some(begun)) if is_live(begun, known, now) => Some(not_ended(event, &begun.change_id)),
        // Its own result says more. But a change may take longer than an event is delivered, and another deployment may take the place of this
        // one before anybody names it: with the last delivery it is noted, and the result finds it so.
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

/// Whether what went on from `began` to `until` belongs to the same life of the service as the event. A service can be deleted and made anew
/// under its name while events of its old life are on their way: when it was made says nothing against what both came before.
fn is_of_its_life(event: &DeploymentEvent, says: &EcsView, began: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    says.service_created_at.is_none_or(|made| if latest(event) < made { began < made } else { until >= made })
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

/// The deployment that began last.
fn newest<'a>(open: impl Iterator<Item = &'a DeploymentItem>) -> Option<&'a DeploymentItem> {
    open.max_by(|a, b| (a.started_at, &a.change_id).cmp(&(b.started_at, &b.change_id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::service::RecordedState;
    use crate::ids::{AccountId, ChangeId, EcsName, Region, ServiceKey};
    use crate::ledger::deployment::Undoes;
    use crate::ledger::head::Lease;
    use crate::ledger::key::Attempt;
    use crate::ledger::key::RecordKey;
    use crate::ledger::key::RecordPlace;
    use crate::plan::difference::Difference;
    use crate::plan::difference::DifferenceKind;
    use serde_json::json;

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
        Head { seq: 1, hash: "h".to_owned(), record, highest, begun, begun_by: None, running: None, lease }
    }

    /// As it was before what ECS is asked about and records say.
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

    /// Where ECS, asked about it, tells nothing.
    fn unasked(event: &DeploymentEvent, known: EventContext<'_>, now: DateTime<Utc>) -> EventDecision {
        match super::classify(event, known, now) {
            EventDecision::Ask => {
                super::classify(event, EventContext { says: Some(&EcsView::default()), ..known }, now)
            }
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

    /// An attempt that set out to bring this image, and says no more.
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
        // The one that it undid was settled before: nothing older is meant.
        let written = NewestRecords { named: vec![named("ecs-svc/2", 10)], ..NewestRecords::default() };
        let older = [item("ecs-svc/0", 0)];
        let known = EventContext { head: None, item: None, open: &older, written: &written, says: None };
        assert_eq!(super::classify(&begins, known, at(200)), EventDecision::IsRollback { undone: None });
        // Nor where somebody else's deployment, or one that is not told of yet, came between.
        let untold = super::tests::written(&[began(20, "nginx:2")]);
        let known = EventContext { written: &untold, ..known };
        assert_eq!(super::classify(&begins, known, at(200)), EventDecision::IsRollback { undone: None });
        let unacted =
            super::tests::written(&[StartedChange { left: Some("ecs-svc/0".to_owned()), ..began(20, "nginx:2") }]);
        let known = EventContext { written: &unacted, ..known };
        assert_eq!(
            super::classify(&begins, known, at(200)),
            EventDecision::Ask,
            "nobody may have told of what it undoes"
        );
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
        // Its own end was not heard yet; what a later change started and did not tell of is rolled back to it, and that fails.
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
        // Noted for the rollback alone, its id was nobody's before.
        let noted = DeploymentItem { started_at: at(60), outcomes: Vec::new(), ..back.clone() };
        let early = event("ecs-svc/1", DeploymentEventKind::Completed, "", -50);
        assert!(matches!(classify(&early, None, Some(&noted), &[], at(91)), EventDecision::Nothing(_)));
        // A late beginning of that rollback says nothing new.
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
        // What was PRIMARY before the change is not its, whatever it runs.
        let begins = event("ecs-svc/1", DeploymentEventKind::InProgress, "", 60);
        let known = EventContext { head: Some(&head), item: None, open: &[], written: &written, says: None };
        assert!(matches!(super::classify(&begins, known, at(61)), EventDecision::External(_)));
        // And what happened before it began is none of its.
        let early = event("ecs-svc/5", DeploymentEventKind::InProgress, "", -20);
        assert!(matches!(super::classify(&early, known, at(61)), EventDecision::External(_)));
    }

    #[test]
    fn a_restore_wants_one_revision() {
        let mut begun = began(0, "nginx:2");
        begun.changes.as_mut().unwrap().insert(
            0,
            Difference {
                what: DifferenceKind::Revision,
                path: "web".to_owned(),
                from: BEFORE.into(),
                to: WANTED.into(),
            },
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
        // (d) and (e): the lease is over, and was even closed.
        for head in [head(Some(lease(0))), head(None)] {
            let written = written(&[began(0, "nginx:2")]);
            for happened in
                [DeploymentEventKind::Completed, DeploymentEventKind::InProgress, DeploymentEventKind::Failed]
            {
                let ends = event("ecs-svc/5", happened, "", 110);
                let says = says(60, "nginx:2");
                let known =
                    EventContext { head: Some(&head), item: None, open: &[], written: &written, says: Some(&says) };
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
        // While its function may live, both wait.
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
        // Whose it is has to be known: else it waits on, and comes to the dead letters.
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
        // The change died; while its events waited for its lease to end, the service was deleted and made anew.
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
        // Where ECS does not tell any more what ran then, nobody is said to have done it.
        let gone = EcsView { service_created_at: Some(at(180)), ..EcsView::default() };
        let ends = event("ecs-svc/5", DeploymentEventKind::Completed, "", 75);
        assert!(matches!(heard(&ends, &[], &gone), EventDecision::Retry(_)));
        // What the new life brings is none of that change's, also where it runs the same.
        let new = event("ecs-svc/6", DeploymentEventKind::InProgress, "", 181);
        assert!(matches!(heard(&new, &[], &made(180, 180)), EventDecision::External(_)));
        // And an end of then may be of a rollback of then.
        let other = event("ecs-svc/4", DeploymentEventKind::Completed, "", 75);
        let open = [item("ecs-svc/7", 190), item("ecs-svc/2", 10)];
        assert_eq!(newest_before(&other, &open).map(DeploymentItem::deployment_id), Some("ecs-svc/2"));
        let back = EcsView { is_rolled_back: Some(true), images: says(0, "other").images, ..made(180, 70) };
        let heard = heard(&other, &open, &back);
        assert!(
            matches!(&heard, EventDecision::IsRollback { undone: Some(it) } if it.deployment_id() == "ecs-svc/2"),
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
        // Waiting helps no more: no dead letter, and the sweep settles the open one.
        assert!(matches!(heard(None, 60 + 180), EventDecision::Nothing(_)));
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
        // Somebody deployed by hand while it was rolled back: where that is heard by its end alone, it looks like the rollback.
        let by_hand = event("ecs-svc/8", DeploymentEventKind::Completed, "", 60);
        assert!(
            matches!(heard(&by_hand, &own), EventDecision::IsRollback { undone: Some(_) }),
            "no rollback was heard of"
        );
        own.undone_by = Some("ecs-svc/1".to_owned());
        assert!(matches!(heard(&by_hand, &own), EventDecision::External(_)));
        let begins = |id| event(id, DeploymentEventKind::InProgress, BACK, 60);
        assert!(matches!(heard(&begins("ecs-svc/1"), &own), EventDecision::IsRollback { undone: Some(_) }));
        assert!(
            matches!(heard(&begins("ecs-svc/8"), &own), EventDecision::IsRollback { undone: None }),
            "what came behind it"
        );
        // Nothing older is meant.
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
            for (happened, kind) in [
                (DeploymentEventKind::Completed, Kind::RolledBack),
                (DeploymentEventKind::Failed, Kind::RollbackFailed),
            ] {
                let ends = event("ecs-svc/1", happened, "", 60);
                assert!(needs_ledger(&ends, None, known));
                let heard = classify(&ends, None, known, std::slice::from_ref(&own), at(61));
                let EventDecision::Ended { deployment_id, ending, is_final: true } = heard else { panic!("{heard:?}") };
                assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", kind));
            }
        }
        // Its own end, late or twice, is not.
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
        let back = EcsView { rolls_back: true, ..own.clone() };
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

        // The failed end of a rollback to it, while its own end was not heard.
        let known = EventContext { item: Some(&own), open: &[], ..known };
        let failed = event("ecs-svc/2", DeploymentEventKind::Failed, "", 60);
        assert_eq!(super::classify(&failed, known, at(61)), EventDecision::Ask);
        assert_eq!(asked_about(&failed, known).map(DeploymentItem::deployment_id), Some("ecs-svc/2"));
        let heard = |stands| {
            let says = EcsView { stands, ..EcsView::default() };
            super::classify(&failed, EventContext { says: Some(&says), ..known }, at(61))
        };
        assert!(matches!(heard(Some(DeploymentProgress::Ended(Kind::Completed))), EventDecision::Nothing(_)));
        for stands in
            [None, Some(DeploymentProgress::UnderWay), Some(DeploymentProgress::Ended(Kind::DeploymentFailed))]
        {
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
        let EventDecision::Ended { ending, is_final: true, .. } = heard(DeploymentEventKind::Completed) else {
            panic!()
        };
        assert_eq!((ending.kind, ending.detail.reason), (Kind::Completed, None));
        let EventDecision::Ended { ending, is_final: false, .. } = heard(DeploymentEventKind::Failed) else { panic!() };
        assert_eq!((ending.kind, ending.detail.reason.as_deref()), (Kind::DeploymentFailed, Some("why")));
        assert_eq!(ending.detail.happened_at, Some(rfc3339(at(60))));
    }

    #[test]
    fn an_end_of_what_was_replaced_is_not_its_own() {
        // Its own end was not heard yet: the one that is heard is of the rollback to it.
        let old = item("ecs-svc/1", 0);
        let own = DeploymentItem { before: Some("ecs-svc/1".to_owned()), ..item("ecs-svc/2", 30) };
        let end = |happened, second| {
            classify(&event("ecs-svc/1", happened, "", second), None, Some(&old), std::slice::from_ref(&own), at(61))
        };
        let EventDecision::Ended { deployment_id, ending, .. } = end(DeploymentEventKind::Failed, 60) else { panic!() };
        assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", Kind::RollbackFailed));
        let EventDecision::Ended { deployment_id, ending, .. } = end(DeploymentEventKind::Completed, 20) else {
            panic!()
        };
        assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/1", Kind::Completed));
        let mut newer = head(None);
        newer.highest = change(30);
        assert!(needs_ledger(&event("ecs-svc/1", DeploymentEventKind::Failed, "", 60), Some(&newer), Some(&old)));
        newer.highest = old.change_id.clone();
        assert!(!needs_ledger(&event("ecs-svc/1", DeploymentEventKind::Failed, "", 60), Some(&newer), Some(&old)));
        // What replaced it was nobody's, or has ended: the sweep asks.
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
        assert!(matches!(
            classify(&begins("ecs-svc/1"), None, Some(&rollback), &open, at(61)),
            EventDecision::Nothing(_)
        ));
        for (happened, expected) in
            [(DeploymentEventKind::Completed, Kind::RolledBack), (DeploymentEventKind::Failed, Kind::RollbackFailed)]
        {
            let heard = classify(&event("ecs-svc/1", happened, "", 90), None, Some(&rollback), &[], at(91));
            let EventDecision::Ended { deployment_id, ending, is_final: true } = heard else { panic!("{heard:?}") };
            assert_eq!((deployment_id.as_str(), ending.kind), ("ecs-svc/2", expected));
        }
        // Of a deployment that is not ours: known from now on, and never EXTERNAL.
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
        // The id is taken up again, for a deployment that is not known: it does not undo the noted one any more.
        let again =
            event("ecs-svc/1", DeploymentEventKind::InProgress, "breaker: rolling back to deploymentId ecs-svc/1.", 50);
        assert_eq!(heard(&again, &[]), EventDecision::IsRollback { undone: None });
    }
}
