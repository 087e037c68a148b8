//! The order in which things happened: compares the times of an event, of deployments and of changes.

use chrono::{DateTime, Duration, Utc};

use crate::ecs::deployment::event::DeploymentEvent;
use crate::ecs::deployment::times::ROUNDING;
use crate::ecs::deployment::view::EcsView;
use crate::ledger::deployment::DeploymentItem;
use crate::ledger::deployment_event::decision::EventContext;
use crate::ledger::started::StartedChange;

/// How far the clock of ECS may differ from ours.
pub(super) const CLOCKS: Duration = Duration::seconds(5);

/// How old an event is at its last delivery: Lambda retries a failed asynchronous event after one minute and again after two more.
/// Source: <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>.
pub(super) const WAITED_OUT: Duration = Duration::seconds(150);

/// The latest time at which an event may have happened: times of events may be cut to whole seconds.
pub(super) fn latest(event: &DeploymentEvent) -> DateTime<Utc> {
    if event.at.timestamp_subsec_millis() == 0 { event.at + Duration::milliseconds(999) } else { event.at }
}

/// The deployment that began last.
pub(super) fn newest<'a>(open: impl Iterator<Item = &'a DeploymentItem>) -> Option<&'a DeploymentItem> {
    open.max_by(|a, b| (a.started_at, &a.change_id).cmp(&(b.started_at, &b.change_id)))
}

/// The open deployment, other than the event's own, about which an event may report: the newest of those that began before, unless
/// another deployment is known to be its rollback.
pub(super) fn newest_before<'a>(event: &DeploymentEvent, open: &'a [DeploymentItem]) -> Option<&'a DeploymentItem> {
    let is_before =
        |item: &&DeploymentItem| item.deployment_id() != event.deployment_id && item.started_at < latest(event);
    let is_free = |item: &&DeploymentItem| item.undone_by.as_ref().is_none_or(|by| *by == event.deployment_id);
    newest(open.iter().filter(is_before)).filter(is_free)
}

/// When deployments other than the event's began, as far as is known.
fn began<'a>(event: &'a DeploymentEvent, known: EventContext<'a>) -> impl Iterator<Item = DateTime<Utc>> + 'a {
    let open = known.open.iter().map(|item| (item.deployment_id(), item.started_at));
    // Records give only the earliest time at which a deployment can have been created; more is known about an open one.
    let is_open = |id: &str| known.open.iter().any(|item| item.deployment_id() == id);
    let named = known.written.named.iter().filter(move |deployment| !is_open(&deployment.deployment_id));
    let named = named.map(|deployment| (deployment.deployment_id.as_str(), deployment.since));
    open.chain(named).filter(|(id, _)| *id != event.deployment_id).map(|(_, time)| time)
}

/// Whether another deployment had begun after the event's own by the time the event happened.
pub(super) fn is_replaced(event: &DeploymentEvent, item: &DeploymentItem, known: EventContext<'_>) -> bool {
    began(event, known).any(|time| item.started_at < time && time + ROUNDING < event.at)
}

/// Whether another deployment began after a rollback and before this event. Then the rollback never ended, and the event reports the end
/// of a later rollback whose beginning has not been reported yet.
pub(super) fn is_overtaken(event: &DeploymentEvent, since: DateTime<Utc>, known: EventContext<'_>) -> bool {
    began(event, known).any(|time| since < time && time < event.at)
}

/// The change that may have replaced the event's deployment before the event happened, and has not recorded that yet.
pub(super) fn may_have_replaced<'a>(
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

/// Whether the attempt still holds the lease of the service.
pub(super) fn is_live(begun: &StartedChange, known: EventContext<'_>, now: DateTime<Utc>) -> bool {
    let lease = known.head.and_then(|head| head.lease.as_ref());
    lease.is_some_and(|lease| lease.is_of(&begun.change_id, begun.attempt) && lease.until > now)
}

/// Whether what happened from `began` to `until` belongs to the same life of the service as the event. A service can be deleted and
/// created again under its name while events of its old life are still on their way. If both came before it was created, the time of its
/// creation does not separate them.
pub(super) fn is_of_its_life(
    event: &DeploymentEvent,
    says: &EcsView,
    began: DateTime<Utc>,
    until: DateTime<Utc>,
) -> bool {
    says.service_created_at.is_none_or(|made| if latest(event) < made { began < made } else { until >= made })
}
