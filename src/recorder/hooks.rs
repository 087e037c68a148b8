//! Processes an event about a pause hook: a deployment of a change waits for somebody, or no longer does.

use std::time::Duration;

use domain::ecs::deployment::hook_event::HookEvent;
use domain::ecs::deployment::pause::Pause;
use domain::ecs::deployment::service_deployment::ServiceDeployment;
use domain::ecs::deployment::tracked::TrackedDeployment;
use domain::ledger::deployment::DeploymentItem;
use domain::ledger::kind::Kind;
use domain::ledger::write::LedgerError;
use serde_json::{Value, json};

use super::events::too_early;
use super::{Recorder, RecorderError, RecorderInvocation};
use crate::aws::ecs::Ecs;
use crate::aws::ledger_store::Open;
use crate::aws::rate_limit::ApiBucket;
use crate::outcomes::{PauseHeard, PauseResult, RecordedBy};
use crate::telemetry::MeasuredEnd;

/// The pauses before the deployment of an event is looked for again: a result is mostly written within a second of its deployment.
const PAUSES: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(1200)];
/// How long after an event a change may still name the deployment that it is about: Lambda delivers the event again after one minute, and
/// after two more.
const YOUNG: chrono::Duration = chrono::Duration::seconds(150);

/// Whose deployment an event is about.
enum Owner {
    /// That of a change, as it is noted.
    Deployment(Box<DeploymentItem>),
    /// A change under way may name it soon.
    NotYet,
    /// Nobody's that is noted.
    Nobody,
}

impl Recorder {
    /// Records what an event tells of a pause.
    pub(super) async fn record_hook(
        &self,
        event: &HookEvent,
        invocation: &RecorderInvocation,
    ) -> Result<Value, RecorderError> {
        let unavailable = |error: LedgerError| RecorderError::unavailable(&error);
        let witness = RecordedBy { session: String::new(), request_id: invocation.request_id.clone() };
        let says = self.told_by_ecs(event, invocation).await;
        let mut pauses = PAUSES.iter();
        let item = loop {
            match self.owner(event, &says).await.map_err(unavailable)? {
                Owner::Deployment(item) => break item,
                Owner::Nobody => return Ok(json!({"nothing": "no change whose deployment is noted started it"})),
                Owner::NotYet => {
                    let why =
                        || format!("no change of service {} names {} yet", event.service, event.service_deployment);
                    let Some(pause) = pauses.next() else { return Err(too_early(&why())) };
                    tokio::time::sleep(*pause).await;
                }
            }
        };
        let told = says.as_ref().ok().and_then(Option::as_ref).map(ServiceDeployment::pauses).unwrap_or_default();
        let mut told = told.iter().filter(|pause| pause.hook_id == event.pause.hook_id);
        let heard = PauseHeard {
            service: &event.service,
            service_arn: &event.service_arn,
            deployment_id: item.deployment_id(),
            pause: &event.pause.clone().and(told.next()),
            at: event.at,
        };
        self.record_pause(heard, &witness).await.map_err(unavailable)
    }

    /// Records that a deployment waits, or no longer does.
    pub(super) async fn record_pause(&self, heard: PauseHeard<'_>, witness: &RecordedBy) -> Result<Value, LedgerError> {
        Ok(match self.outcomes.record_pause(heard, witness).await? {
            PauseResult::Recorded { kind, change_id } => {
                if kind == Kind::AwaitingAction {
                    self.count(MeasuredEnd::Deployment(kind));
                    let (service, hook) = (heard.service, heard.pause);
                    tracing::warn!(%service, deployment_id = heard.deployment_id, %change_id, "a deployment waits: {hook}");
                }
                json!({"recorded": kind, "change_id": change_id})
            }
            PauseResult::Noted => json!({"noted": "the pause was over before its beginning was heard"}),
            PauseResult::Nothing(why) => json!({"nothing": why}),
        })
    }

    /// Records at which pause hooks a deployment was seen to wait: their events may be lost. What cannot be recorded now is seen again.
    pub(super) async fn saw_pauses(&self, item: &DeploymentItem, pauses: &[Pause], witness: &RecordedBy) {
        let now = (self.clock)();
        for pause in pauses {
            let since = pause.since.as_deref().and_then(|since| since.parse().ok());
            let heard = PauseHeard {
                service: &item.service,
                service_arn: &item.service_arn,
                deployment_id: item.deployment_id(),
                pause,
                at: since.unwrap_or(now),
            };
            if let Err(error) = self.record_pause(heard, witness).await {
                tracing::warn!(service = %item.service, "that a deployment waits could not be recorded: {error}");
            }
        }
    }

    /// The service deployment of an event, if ECS has it; an error if ECS cannot be asked.
    async fn told_by_ecs(
        &self,
        event: &HookEvent,
        invocation: &RecorderInvocation,
    ) -> Result<Option<ServiceDeployment>, String> {
        let session = self.session(&event.service, invocation).await?;
        let ecs = Ecs::new(&self.shared, event.service.region().as_str(), session);
        self.limits.of(&event.service).take(ApiBucket::ReadDeployments).await;
        let known = ecs.describe_service_deployment(&event.service_deployment).await;
        known.map_err(|error| error.to_string()).inspect_err(|error| {
            tracing::warn!(service = %event.service, "what happens to a deployment that waits cannot be asked: {error}");
        })
    }

    /// Finds the deployment of an event among those that are noted: by the ARN that ECS named when it began, or by the number of its
    /// revision.
    async fn owner(
        &self,
        event: &HookEvent,
        says: &Result<Option<ServiceDeployment>, String>,
    ) -> Result<Owner, LedgerError> {
        let store = &self.outcomes.store;
        let open = store.open_deployments(Open::Of(&event.service)).await?;
        let is_named = |item: &&DeploymentItem| item.service_deployment.as_ref() == Some(&event.service_deployment);
        let known = says.as_ref().ok().and_then(Option::as_ref);
        let is_its = |item: &&DeploymentItem| {
            let followed = TrackedDeployment::of(item);
            known.is_some_and(|known| followed.is_of(known))
        };
        let mut found = open.iter().filter(is_named).chain(open.iter().filter(is_its));
        if let Some(item) = found.next() {
            return Ok(Owner::Deployment(Box::new(item.clone())));
        }
        let now = (self.clock)();
        let head = store.read_deployment(&event.service, None, None).await?.0.head;
        let may_be_named = head.is_some_and(|head| {
            let is_under_way = head.lease.is_some_and(|lease| lease.holds(now));
            is_under_way || head.begun.is_some_and(|begun| begun.time() + YOUNG > now)
        });
        Ok(if may_be_named && event.at + YOUNG > now { Owner::NotYet } else { Owner::Nobody })
    }
}
