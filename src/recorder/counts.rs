//! Reports how many deployments were counted and not recorded, when their day is over: one record for each account.

use chrono::{DateTime, Utc};
use domain::ecs::deployment::outcome::OutcomeDetail;
use domain::ids::AccountId;
use domain::ledger::admission::LedgerState;
use domain::ledger::budget::{Beyond, ExternalBudget};
use domain::ledger::kind::Kind;
use domain::ledger::write::{LedgerError, Write};
use domain::text::rfc3339;
use tokio::time::{Duration, Instant};

use super::{RESERVE, Recorder, RecorderInvocation};
use crate::commit::{Bound, Decision, commit};
use crate::outcomes::{External, RecordedBy};
use crate::telemetry::MeasuredEnd;

/// How many counts one sweep reports.
const AT_A_TIME: i32 = 50;
/// How often the write of one count is attempted if the ledger changes meanwhile or DynamoDB does not answer, and for how long at most.
const TRIES: u32 = 5;
const TIMEOUT: Duration = Duration::from_secs(10);

impl Recorder {
    /// Whether an account may be changed. If that cannot be read, no account's deployments are omitted because of it: deployments that the
    /// updater does not know of still count against the budget.
    pub(super) async fn is_allowed(&self, account: &AccountId) -> bool {
        let Some(allowed) = &self.allowed else { return true };
        // A failure is logged where it occurs.
        allowed.at((self.clock)()).await.map_or(true, |allowed| allowed.contains(account.as_str()))
    }

    /// Reports the counts that are due, and returns how many.
    pub(super) async fn tell_counts(
        &self,
        by: DateTime<Utc>,
        invocation: &RecorderInvocation,
    ) -> Result<u32, LedgerError> {
        let mut told = 0;
        for budget in self.outcomes.store.budgets_to_tell(by, AT_A_TIME).await? {
            if (self.clock)() + RESERVE > invocation.deadline {
                break;
            }
            match self.tell_count(&budget, invocation).await {
                Ok(false) => {}
                Ok(true) => {
                    told += 1;
                    self.count(MeasuredEnd::Deployment(Kind::External));
                }
                // The next sweep retries.
                Err(error) => {
                    let (account, day) = (budget.account.as_str(), budget.day.to_string());
                    tracing::error!(account, day, "how many deployments were not recorded could not be told: {error}");
                    self.count(MeasuredEnd::NotAsked);
                }
            }
        }
        Ok(told)
    }

    /// Writes the record with a count, once, as a record of the last deployment that was counted.
    async fn tell_count(&self, due: &ExternalBudget, invocation: &RecorderInvocation) -> Result<bool, LedgerError> {
        let Some(Beyond { last, .. }) = &due.beyond else { return Ok(false) };
        let witness = RecordedBy { session: String::new(), request_id: invocation.request_id.clone() };
        let bound = Bound::new(TRIES, Instant::now() + TIMEOUT);
        let random = (self.random)();
        let store = &self.outcomes.store;
        let read = async || store.read_budget(&last.service, due.day).await;
        let decide = |(position, budget): &(LedgerState, Option<ExternalBudget>)| {
            // A count that was reported was removed from the item. If more deployments were counted meanwhile, the next sweep reports all
            // of them.
            let Some(budget) = budget.as_ref().filter(|budget| budget.beyond == due.beyond) else {
                return Ok(Decision::Done(false));
            };
            let more = due.beyond.as_ref().map(Beyond::more).filter(|more| *more > 0);
            let detail = OutcomeDetail { happened_at: Some(rfc3339(last.at)), more, ..OutcomeDetail::default() };
            let external = External {
                service: &last.service,
                service_arn: &last.service_arn,
                deployment_id: &last.deployment_id,
                at: last.at,
                detail: &detail,
                random,
            };
            let (mut writes, _) = self.outcomes.external_record(external, position, &witness)?;
            writes.push(Write::Budget { from: Some(budget.clone()), to: budget.told() });
            Ok(Decision::Write(writes, true))
        };
        commit(store, self.random, bound, None, read, decide).await
    }
}
