//! After a change: follows its deployment to its end. No lease is held meanwhile.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::ecs::deployment::outcome::{DeploymentStatus, Outcome};
use domain::ecs::deployment::pause::Pause;
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ledger::admission::LedgerState;
use domain::ledger::idempotency::StoredAnswer;
use domain::ledger::kind::Kind;
use domain::ledger::write::{LedgerError, Write};
use domain::response::{Response, Status};
use domain::text::rfc3339;
use tokio::time::Instant;

use super::target::AccountClients;
use super::{Invocation, Updater, key_id};
use crate::aws::deployment_watcher::{DeploymentWatcher, Waited, follow};
use crate::aws::sessions::session_name;
use crate::commit::{Bound, Decision, commit};
use crate::outcomes::{OutcomeToRecord, RecordResult, RecordedBy};

/// The time that is reserved before the end of the invocation, to record an outcome and to answer.
const RESERVE: Duration = Duration::from_secs(6);
/// How long an invocation looks at the deployment if it does not wait because another invocation does.
const LOOK: Duration = Duration::from_secs(5);
/// How long it takes at most to read what must not be shown of what went badly, from the reserve for the answer.
const TROUBLE: Duration = Duration::from_secs(2);
/// How often this invocation tries to write to the state table that it waits, and for how long at most.
const MARK: (u32, Duration) = (3, Duration::from_secs(5));

/// When the deployment was created, as far as the answer tells, for the case that the state table does not: ECS's own time of the last
/// update. The time of the answer is later, and from another clock, so that the service deployment would be taken for that of an earlier
/// deployment.
fn updated_at(response: &Response) -> Option<DateTime<Utc>> {
    let body = &response.body;
    let mut times = [body.after.updated_on.as_deref(), Some(body.timestamp.as_str())].into_iter().flatten();
    times.find_map(|at| DateTime::parse_from_rfc3339(at).ok()).map(|at| at.with_timezone(&Utc))
}

impl Updater {
    /// Follows the deployment that a change started, if the request waits for it, and answers how it ended.
    pub(super) async fn wait(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<AccountClients, Failure>,
        mut response: Response,
    ) -> Response {
        if !waits(request, &response) {
            return response;
        }
        let Some(deployment_id) = response.body.deployment_id.clone() else {
            response.body.notes.push("no deployment was started: there was nothing to wait for".to_owned());
            return response;
        };
        let target = match target {
            Ok(target) => target,
            Err(failure) => return timed_out(response, &format!("it cannot be followed: {}", failure.message)),
        };
        let key_id = key_id(request, invocation);
        let known = self.store().read_deployment(&request.service_key, Some(&deployment_id), Some(&key_id)).await;
        let (position, item) = known.unwrap_or_default();
        let followed = TrackedDeployment {
            id: &deployment_id,
            before: item.as_ref().and_then(|item| item.before.as_deref()),
            started_at: item.as_ref().map(|item| item.started_at).or(updated_at(&response)).unwrap_or_else(self.clock),
            service_deployment: item.as_ref().and_then(|item| item.service_deployment.as_deref()),
            undone_by: item.as_ref().and_then(|item| item.undone_by.as_deref()),
        };
        let now = (self.clock)();
        let end = until(now, request.wait_seconds, invocation.deadline);
        let mut looker = DeploymentWatcher::new(&target.ecs, &target.limits, &request.service_key, followed).patient();
        // The invocation that made the change stored with its answer that it waits.
        if response.body.replayed
            && let Some(other) = self.other_waiter(request, &key_id, position, mark(end, (self.random)()), end).await
        {
            let left = (end - (self.clock)()).to_std().unwrap_or_default();
            let what = match tokio::time::timeout(LOOK.min(left), looker.look((self.clock)())).await {
                Ok(Ok(DeploymentStatus::Ended(ending))) => {
                    return self.ended(request, invocation, response, *ending).await;
                }
                Ok(Ok(DeploymentStatus::Open(what))) => with_trouble(what, &looker).await,
                Ok(Ok(DeploymentStatus::AwaitingAction(pauses))) => {
                    return awaiting_action(response, pauses, Some(other));
                }
                Ok(Err(error)) => format!("it could not be looked at: {error}"),
                Err(_) => "it could not be looked at in time".to_owned(),
            };
            return waited_for_already(response, other, &what);
        }
        let left = (end - (self.clock)()).to_std().unwrap_or_default();
        match follow(Instant::now() + left, async || looker.look((self.clock)()).await).await {
            Waited::Ended(ending) => self.ended(request, invocation, response, *ending).await,
            Waited::AwaitingAction(pauses) => awaiting_action(response, pauses, None),
            Waited::TimedOut(what) => {
                if (self.clock)() + LOOK < end {
                    self.waits_no_longer(request, &key_id).await;
                }
                timed_out(response, &with_trouble(what, &looker).await)
            }
        }
    }

    /// This invocation stops following the deployment before its time is over: a caller that sends the event again can wait at once. If
    /// that cannot be written, the caller is told that another invocation waits, until the time is over.
    async fn waits_no_longer(&self, request: &UpdateRequest, key_id: &str) {
        let bound = Bound::new(MARK.0, Instant::now() + MARK.1);
        let read = async || self.store().read(&request.service_key, key_id).await.map(|read| read.value.position);
        let unmarked = commit(self.store(), self.random, bound, None, read, |position: &LedgerState| {
            let now = (self.clock)();
            let key = position.key(now).filter(|key| key.waiter(now).is_some());
            let Some(key) = key else { return Ok(Decision::Done(())) };
            Ok(Decision::Write(vec![Write::Waiter { key: key.clone(), until: now }], ()))
        });
        if let Err(error) = unmarked.await {
            tracing::warn!(service = %request.service_key, "that nobody waits any more could not be noted: {error}");
        }
    }

    /// Until when another invocation already follows the deployment of this key's change; none if this invocation follows it from now on,
    /// which its `mark` states. If that cannot be read or written, two invocations follow it, which costs calls and nothing else.
    async fn other_waiter(
        &self,
        request: &UpdateRequest,
        key_id: &str,
        position: LedgerState,
        mark: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let bound = Bound::new(MARK.0, Instant::now() + MARK.1);
        let read = async || self.store().read(&request.service_key, key_id).await.map(|read| read.value.position);
        let marked = commit(self.store(), self.random, bound, Some(position), read, |position: &LedgerState| {
            let now = (self.clock)();
            let key = position.key(now).filter(|key| key.progress().is_some());
            let Some(key) = key else { return Ok(Decision::Done(None)) };
            Ok(match key.waiter(now) {
                // Its own mark, for which the answer was lost.
                Some(until) if rfc3339(until) == rfc3339(mark) => Decision::Done(None),
                Some(until) => Decision::Done(Some(until)),
                None => Decision::Write(vec![Write::Waiter { key: key.clone(), until: mark }], None),
            })
        });
        // This must not use any of the time that is reserved for the answer.
        let left = (end - (self.clock)()).to_std().unwrap_or_default();
        let late = || Err(LedgerError::Time("no time was left".to_owned()));
        tokio::time::timeout(left, marked).await.unwrap_or_else(|_| late()).unwrap_or_else(|error| {
            tracing::warn!(service = %request.service_key, "that somebody waits could not be noted: {error}");
            None
        })
    }

    async fn ended(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        mut response: Response,
        mut ending: Outcome,
    ) -> Response {
        let deployment_id = response.body.deployment_id.clone().unwrap_or_default();
        self.outcomes.name_superseder(&request.service_key, &deployment_id, &mut ending).await;
        let body = &mut response.body;
        body.timestamp = rfc3339((self.clock)());
        body.outcome = Some(ending.detail.clone());
        if ending.detail.no_tasks_wanted {
            body.notes.push("no tasks are wanted: the service is steady without one having run".to_owned());
        }
        if ending.kind == Kind::Completed && ending.detail.service_deployment.is_none() {
            body.notes.push(format!(
                "ECS connects no service deployment with deployment {deployment_id}: how it ended follows from the service's own list of \
                 deployments{}",
                if ending.detail.running_images.is_empty() { ", and which digests run is not known" } else { "" }
            ));
        }
        let first = response.clone();
        let told = |kind: Kind| {
            let mut first = first.clone();
            first.body.replayed = false;
            first.body.status = Status::of_outcome(kind);
            StoredAnswer::Response(Box::new(first))
        };
        let key_id = key_id(request, invocation);
        let end = OutcomeToRecord {
            service: &request.service_key,
            service_arn: &response.body.after.service_arn,
            deployment_id: response.body.deployment_id.as_deref().unwrap_or_default(),
            ending: &ending,
            is_final: true,
            answer: Some((&key_id, &told)),
        };
        let request_id = invocation.request_id.clone();
        let witness = RecordedBy { session: session_name(&request_id), request_id };
        let settled = self.outcomes.record_outcome(end, &witness).await;
        // Whoever recorded the end first has the last word: answer, key and ledger say the same.
        let kind = match &settled {
            Ok(RecordResult::Known(Some(recorded))) => *recorded,
            _ => ending.kind,
        };
        response.body.status = Status::of_outcome(kind);
        match settled {
            Ok(RecordResult::Recorded { .. }) => response.body.recorded = Some(ending.kind),
            Ok(RecordResult::Known(_) | RecordResult::Unknown) => {}
            Ok(RecordResult::Refused(why)) => tracing::error!(service = %request.service_key, "refused: {why}"),
            Err(error) => {
                let note = format!("how it ended could not be recorded yet: {error}. The recorder asks again");
                response.body.notes.push(note);
            }
        }
        response
    }
}

/// The time until which an invocation that waits until `end` states that it waits. It is up to a second earlier, at random, because the
/// invocation recognizes its own mark by it, and others may begin to wait within the same millisecond.
fn mark(end: DateTime<Utc>, random: [u8; 10]) -> DateTime<Utc> {
    end - chrono::Duration::milliseconds(i64::from(u16::from_be_bytes([random[0], random[1]]) % 1000))
}

/// Whether there is a deployment to wait for, or the answer has to say that there is none.
pub(super) fn waits(request: &UpdateRequest, response: &Response) -> bool {
    request.wait_seconds > 0 && response.body.status == Status::Applied
}

/// Until when an invocation that begins to wait at `now` waits at the latest: an invocation that died meanwhile does not prevent others
/// from waiting after this time.
pub(super) fn until(now: DateTime<Utc>, wait_seconds: u16, deadline: DateTime<Utc>) -> DateTime<Utc> {
    (now + chrono::Duration::seconds(wait_seconds.into())).min(deadline - RESERVE)
}

/// What a deployment is doing, and what went badly, as far as that can be read in time.
async fn with_trouble(what: String, looker: &DeploymentWatcher<'_>) -> String {
    let trouble = tokio::time::timeout(TROUBLE, looker.trouble()).await.unwrap_or_default();
    if trouble.is_none() { what } else { format!("{what}; {trouble}") }
}

fn waited_for_already(mut response: Response, until: DateTime<Utc>, what: &str) -> Response {
    response.body.status = Status::TimedOut;
    response.body.notes.push(format!(
        "another invocation waits for this deployment already, until {} at the latest, and one at a time does: {what}. It goes on: ask the \
         history function, or send the same event with the same idempotency key after that time to wait again",
        rfc3339(until)
    ));
    response
}

/// The deployment waits for a person. `other` is until when another invocation follows it.
fn awaiting_action(mut response: Response, pauses: Vec<Pause>, other: Option<DateTime<Utc>>) -> Response {
    let body = &mut response.body;
    body.status = Status::AwaitingAction;
    let waits = pauses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let change_id = body.change_id.as_deref().unwrap_or_default();
    body.notes.push(format!(
        "the deployment did not end while it was waited for: {waits}. To continue it, send \"continue\": \"{change_id}\"; to roll it \
         back, \"stop\": \"{change_id}\""
    ));
    body.notes.extend(other.map(|until| {
        let until = rfc3339(until);
        format!(
            "another invocation waits for this deployment already, until {until} at the latest, and one at a time does"
        )
    }));
    body.awaiting = pauses;
    response
}

fn timed_out(mut response: Response, what: &str) -> Response {
    response.body.status = Status::TimedOut;
    response.body.notes.push(format!(
        "the deployment did not end while it was waited for: {what}. It goes on: ask the history function, or send the \
         same event with the same idempotency key to wait again"
    ));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_wait_until_the_same_time_have_marks_of_their_own() {
        let end = DateTime::from_timestamp(1_000, 0).unwrap();
        let marks = [0_u8, 1, 2, 250].map(|byte| mark(end, [byte; 10]));
        assert!(marks.iter().all(|mark| *mark <= end && *mark > end - chrono::Duration::seconds(1)), "{marks:?}");
        assert_ne!(rfc3339(marks[0]), rfc3339(marks[1]));
        assert_ne!(rfc3339(marks[1]), rfc3339(marks[2]));
    }
}
