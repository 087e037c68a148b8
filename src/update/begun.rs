//! A change that has begun, and how its result gets into the ledger whatever else happens there.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::aws::CallError;
use crate::aws::ledger_store::WriteError;
use crate::error::Failure;
use crate::ledger::record::{ChangeFacts, Kind, Said};
use crate::ledger::state::{Answer, DeploymentItem, Head, KeyItem, Position, Write, next_head, started_deployment};
use crate::request::UpdateRequest;
use crate::response::{Response, Status};
use crate::snapshot::{Recorded, Snapshot, rfc3339};

use super::{Updater, messages};

/// How often a result is written where the head moves or DynamoDB does not answer.
const RESULT_ATTEMPTS: u32 = 6;
/// The pause between.
const RESULT_PAUSE: Duration = Duration::from_millis(300);
/// What is left of the invocation for its answer.
const RESERVE: Duration = Duration::from_secs(1);
/// The time that a result has where hardly any is left.
const SHORTEST_RESULT: Duration = Duration::from_secs(1);

/// A change whose `STARTED` record is in the table.
pub struct Begun {
    pub facts: ChangeFacts,
    pub before: Recorded,
    /// Head and key as this change wrote them.
    pub position: Position,
    /// When Lambda ends the invocation.
    pub deadline: DateTime<Utc>,
}

impl Updater {
    /// Records that AWS took the change, and answers it.
    pub(super) async fn applied(
        &self,
        request: &UpdateRequest,
        begun: Begun,
        after: &Snapshot,
        notes: Vec<String>,
    ) -> Result<Response, Failure> {
        let now = (self.clock)();
        let after = after.recorded(begun.before.state.task_definition_name.as_deref());
        let change_id = begun.facts.change_id.clone();
        let deployment_id = started_deployment(&begun.before, &after).map(str::to_owned);
        let mut response = Response::new(
            &request.service_key,
            Some(&change_id),
            Status::Applied,
            rfc3339(now),
            begun.before.state.clone(),
            after.state.clone(),
        );
        response.body.deployment_id = deployment_id;
        response.body.restores.clone_from(&begun.facts.restores);
        response.body.resolved_images = begun.facts.pins.some().cloned();
        response.body.notes = notes;
        let answer = Answer::Response(Box::new(response.clone()));
        match self.finish(&begun, Kind::Applied, &after, None, &answer).await {
            Ok(()) => Ok(response),
            Err(error) => Err(messages::result_not_recorded(&error, &after).of_change(&change_id)),
        }
    }

    /// Records that the change failed and how far it got, and gives the failure back.
    pub(super) async fn failed(&self, begun: Begun, after: &Snapshot, failure: Failure) -> Failure {
        let after = after.recorded(begun.before.state.task_definition_name.as_deref());
        let answer = Answer::Failure(failure.clone());
        let failure = failure.of_change(&begun.facts.change_id);
        match self.finish(&begun, Kind::Failed, &after, Some(&failure), &answer).await {
            Ok(()) => failure,
            Err(error) => failure.and(messages::failure_not_recorded(&error)),
        }
    }

    /// Writes the result, as long as there is time to say afterwards that it could not be written.
    async fn finish(
        &self,
        begun: &Begun,
        kind: Kind,
        after: &Recorded,
        error: Option<&Failure>,
        answer: &Answer,
    ) -> Result<(), CallError> {
        let written = self.write_result(begun, kind, after, error, answer);
        let written = tokio::time::timeout(self.time_for_result(begun), written).await;
        written.unwrap_or_else(|_| Err(CallError::late("dynamodb:ExecuteTransaction")))
    }

    fn time_for_result(&self, begun: &Begun) -> Duration {
        let left = (begun.deadline - (self.clock)()).to_std().unwrap_or_default();
        left.saturating_sub(RESERVE).max(SHORTEST_RESULT)
    }

    async fn write_result(
        &self,
        begun: &Begun,
        kind: Kind,
        after: &Recorded,
        error: Option<&Failure>,
        answer: &Answer,
    ) -> Result<(), CallError> {
        let facts = &begun.facts;
        let change_id = &facts.change_id;
        let mut position = begun.position.clone();
        let mut notes_deployment = true;
        let key_id = position.key.as_ref().map_or_else(String::new, |key| key.id.clone());
        // 1 is the result's place. Who finds it taken by ABANDONED, having come too late, is recorded behind it.
        let mut n = 1;
        let mut last = None;
        for attempt in 0..RESULT_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(RESULT_PAUSE * attempt).await;
                let own = format!("{change_id}#{n}");
                let reread = tokio::try_join!(
                    self.store().read(&facts.service, &key_id),
                    self.store().record(&facts.service, &own)
                );
                match reread {
                    // Our own, sent twice since its first answer was lost; a resumption writes its own.
                    Ok((_, Some(record))) if record.kind == kind && record.request_id == facts.request_id => {
                        return Ok(());
                    }
                    Ok((now, Some(_))) => {
                        position = now;
                        n += 1;
                    }
                    Ok((now, None)) => {
                        if matches!(last, Some(WriteError::Conflict(_))) && now == position {
                            // All is as it was read but one: somebody else noted the deployment.
                            notes_deployment = false;
                        }
                        position = now;
                    }
                    // What failed first says more.
                    Err(_) => continue,
                }
            }
            let now = (self.clock)();
            let said = Said {
                before: Some(&begun.before),
                after: Some(after),
                deployment_id: started_deployment(&begun.before, after),
                error,
                ..Said::default()
            };
            let unwritable = |error| CallError::unreadable("dynamodb:ExecuteTransaction", error);
            let (record, pointers) = facts.record(kind, n, now, &said, position.head.as_ref()).map_err(unwritable)?;
            let own_lease = begun.position.head.as_ref().and_then(|head| head.lease.as_ref());
            let head = next_head(&record, position.head.as_ref(), own_lease);
            let mut writes = vec![Write::Head { id: Head::id(&facts.service), from: position.head.clone(), to: head }];
            // Whoever closed or resumed this change meanwhile has the last word on its key, unless it went well: a late
            // failure must not let a retry undo what came after.
            let has_lease = position.head.as_ref().and_then(|head| head.lease.as_ref()) == own_lease;
            let is_ours = |key: &KeyItem| key.change_id == change_id.as_str() && (has_lease || kind == Kind::Applied);
            if let Some(key) = position.key.clone().filter(is_ours) {
                let to = key.answered(answer, now).map_err(unwritable)?;
                writes.push(Write::Key { from: Some(key), to });
            }
            writes.push(Write::Record(Box::new(record)));
            writes.extend(pointers.into_iter().map(Write::Pointer));
            if let Some(item) = DeploymentItem::started(facts, &begun.before, after, now).filter(|_| notes_deployment) {
                writes.push(Write::Deployment { from: None, to: Box::new(item) });
            }
            // Half of the time, so that a write whose answer does not come can be looked for.
            let written = tokio::time::timeout(self.time_for_result(begun) / 2, self.store().write(&writes)).await;
            match written.unwrap_or_else(|_| Err(WriteError::Call(CallError::late("dynamodb:ExecuteTransaction")))) {
                Ok(()) => return Ok(()),
                Err(WriteError::Call(error)) if !error.retryable() => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(WriteError::Call(error)) => error,
            Some(WriteError::Conflict(why)) => CallError::unreadable("dynamodb:ExecuteTransaction", why),
            None => CallError::unreadable("dynamodb:ExecuteTransaction", "not sent"),
        })
    }
}
