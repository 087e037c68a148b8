//! The state of a service, read as late as its change needs it.

use chrono::{DateTime, Utc};
use domain::call_error::CallError;
use domain::ecs::deployment::listed::said_of_primary;
use domain::ecs::service::{IN_REVISION, RecordedState, Service, Snapshot};
use domain::error::Failure;
use domain::event::request::UpdateRequest;
use domain::ledger::attribution::depends_on_what_was_replaced;
use domain::ledger::head::Head;
use domain::plan::difference::Difference;

use super::apply::READ_BACK_PAUSES;
use super::target::AccountClients;
use super::{Updater, messages};
use crate::aws::ecs::DescribeError;

/// How old a description of a service may be when its change begins.
pub(super) const FRESH: chrono::Duration = chrono::Duration::seconds(10);

impl Updater {
    /// The current state of the service. `seen` is its state shortly before, if it was already described.
    pub(super) async fn look(
        &self,
        target: &AccountClients,
        request: &UpdateRequest,
        seen: Option<Described>,
    ) -> Result<Looked, Failure> {
        let key = &request.service_key;
        let seen = if let Some(seen) = seen.filter(|seen| (self.clock)() - seen.at <= FRESH) {
            seen
        } else {
            let at = (self.clock)();
            Described { service: target.ecs.describe_service(key).await, at }
        };
        let service = seen.service.map_err(|error| messages::describe_failed(key, &error))?;
        if service.status() == "INACTIVE" {
            return Err(messages::describe_failed(key, &DescribeError::ServiceNotFound)
                .and("It was deleted: its status is INACTIVE."));
        }
        let service = Self::with_revision(target, request, service).await;
        let task_definition = match service.task_definition_arn() {
            Some(arn) => Some(
                target
                    .definition(arn)
                    .await
                    .map_err(|error| messages::describe_failed(key, &DescribeError::Call(error)))?,
            ),
            None => None,
        };
        Ok(Looked { snapshot: Snapshot { service, task_definition }, at: seen.at })
    }

    /// Asks what the service's deployment replaced and whether it is a rollback, if the change may have started it: a rollback may run what
    /// the change was meant to run.
    pub(super) async fn look_at_primary(
        target: &AccountClients,
        service: &mut Service,
        changes: Option<&[Difference]>,
        before: Option<&RecordedState>,
    ) -> Result<(), CallError> {
        let says = said_of_primary(service);
        let is_new = before.is_some_and(|before| before.deployment_id.as_deref() != service.deployment_id());
        if is_new || depends_on_what_was_replaced(changes, before, &says) {
            target.ecs.look_at_primary(service).await?;
        }
        Ok(())
    }

    /// The service with the parameters that only its revision shows, if the event names one of them. If ECS does not tell, the plan says
    /// so.
    async fn with_revision(target: &AccountClients, request: &UpdateRequest, service: Service) -> Service {
        let is_named = IN_REVISION.iter().any(|name| request.parameters.contains_key(*name));
        let Some(arn) = service.service_revision().filter(|_| is_named) else { return service };
        match target.ecs.describe_service_revision(arn).await {
            Ok(Some(revision)) => service.with_revision(&revision),
            Ok(None) => service,
            Err(error) => {
                tracing::warn!(service = %request.service_key, "its revision could not be described: {error}");
                service
            }
        }
    }

    /// Like `look`, but waits until ECS shows what the previous change deployed according to the ledger: ECS is eventually consistent, and
    /// a plan from an older description would bring back what that change replaced. If ECS keeps showing something else, somebody else
    /// deployed that.
    pub(super) async fn look_behind(
        &self,
        head: Option<&Head>,
        target: &AccountClients,
        request: &UpdateRequest,
        seen: Option<Described>,
    ) -> Result<Looked, Failure> {
        let mut looked = self.look(target, request, seen).await?;
        for pause in READ_BACK_PAUSES {
            let shown = looked.snapshot.service.task_definition_arn();
            if !head.is_some_and(|head| head.has_just_deployed_other_than(shown, looked.at)) {
                break;
            }
            tokio::time::sleep(pause).await;
            looked = self.look(target, request, None).await?;
        }
        Ok(looked)
    }
}

/// A service as it was described at a certain time.
pub(super) struct Described {
    pub(super) service: Result<Service, DescribeError>,
    pub(super) at: DateTime<Utc>,
}

/// The state of a service, and the time from which it is known.
pub(super) struct Looked {
    pub(super) snapshot: Snapshot,
    pub(super) at: DateTime<Utc>,
}
