//! After a change: its deployment, followed to its end. Nothing is leased meanwhile.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::target::Target;
use super::{Invocation, Updater, key_id};
use crate::aws::sessions::session_name;
use crate::error::Failure;
use crate::follow::{Looker, Waited, follow};
use crate::ledger::idempotency::Answer;
use crate::ledger::record::Kind;
use crate::outcome::{Ending, Followed};
use crate::request::UpdateRequest;
use crate::response::{Response, Status};
use crate::settle::{End, Settled, Witness};
use crate::snapshot::rfc3339;

/// The time that is kept back before the invocation's end, to record an outcome and to answer.
const RESERVE: Duration = Duration::from_secs(6);

impl Updater {
    /// Follows the deployment that a change started, where the request waits for it, and answers how it ended.
    pub(super) async fn wait(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        target: &Result<Target, Failure>,
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
        let known = self.settler.store.read_deployment(&request.service_key, Some(&deployment_id), None).await;
        let item = known.ok().and_then(|(_, item)| item);
        let applied_at = DateTime::parse_from_rfc3339(&response.body.timestamp).map(|at| at.with_timezone(&Utc));
        let followed = Followed {
            id: &deployment_id,
            before: item.as_ref().and_then(|item| item.before.as_deref()),
            started_at: item.as_ref().map_or_else(|| applied_at.unwrap_or_else(|_| (self.clock)()), |it| it.started_at),
            service_deployment: item.as_ref().and_then(|item| item.service_deployment.as_deref()),
        };
        let left = (invocation.deadline - (self.clock)()).to_std().unwrap_or_default().saturating_sub(RESERVE);
        let until = Instant::now() + Duration::from_secs(request.wait_seconds.into()).min(left);
        let mut looker = Looker::new(&target.ecs, &target.buckets, &request.service_key, followed);
        match follow(until, async || looker.look().await).await {
            Waited::Ended(ending) => self.ended(request, invocation, response, *ending).await,
            Waited::TimedOut(what) => timed_out(response, &what),
        }
    }

    async fn ended(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
        mut response: Response,
        mut ending: Ending,
    ) -> Response {
        let deployment_id = response.body.deployment_id.clone().unwrap_or_default();
        self.settler.name_superseder(&request.service_key, &deployment_id, &mut ending).await;
        let body = &mut response.body;
        body.timestamp = rfc3339((self.clock)());
        body.outcome = Some(ending.detail.clone());
        if ending.detail.no_tasks_wanted {
            body.notes.push("no tasks are wanted: the service is steady without one having run".to_owned());
        }
        let first = response.clone();
        let told = |kind: Kind| {
            let mut first = first.clone();
            first.body.replayed = false;
            first.body.status = Status::of_outcome(kind);
            Answer::Response(Box::new(first))
        };
        let key_id = key_id(request, invocation);
        let end = End {
            service: &request.service_key,
            service_arn: &response.body.after.service_arn,
            deployment_id: response.body.deployment_id.as_deref().unwrap_or_default(),
            ending: &ending,
            is_final: true,
            answer: Some((&key_id, &told)),
        };
        let request_id = invocation.request_id.clone();
        let witness = Witness { session: session_name(&request_id), request_id };
        let settled = self.settler.settle(end, &witness).await;
        // Whoever recorded the end first has the last word: answer, key and ledger say the same.
        let kind = match &settled {
            Ok(Settled::Known(Some(recorded))) => *recorded,
            _ => ending.kind,
        };
        response.body.status = Status::of_outcome(kind);
        match settled {
            Ok(Settled::Recorded { .. }) => response.body.recorded = Some(ending.kind),
            Ok(Settled::Known(_) | Settled::Unknown) => {}
            Ok(Settled::Refused(why)) => tracing::error!(service = %request.service_key, "refused: {why}"),
            Err(error) => {
                let note = format!("how it ended could not be recorded yet: {error}. The recorder asks again");
                response.body.notes.push(note);
            }
        }
        response
    }
}

/// Whether there is a deployment to wait for, or to say that there is none.
pub(super) fn waits(request: &UpdateRequest, response: &Response) -> bool {
    request.wait_seconds > 0 && response.body.status == Status::Applied
}

fn timed_out(mut response: Response, what: &str) -> Response {
    response.body.status = Status::TimedOut;
    response.body.notes.push(format!(
        "the deployment did not end while it was waited for: {what}. It goes on: ask the history function, or send the \
         same event with the same idempotency key to wait again"
    ));
    response
}
