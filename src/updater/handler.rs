//! The entry point of the updater function: one invocation, from the event text to the answer. Each failure is logged here, once.

use chrono::{DateTime, Utc};
use domain::config::Config;
use domain::error::{Code, Failure};
use domain::event::parse::{Defaults, Event, parse};
use domain::event::request::UpdateRequest;
use domain::event::update_format;
use domain::ids::{FunctionArn, Region, ServiceKey};
use domain::response::{EventAnswer, Response, ServiceOutcome, Status};
use lambda_runtime::{Context, LambdaEvent, service_fn};

use crate::aws;
use crate::runtime::{self, DOOR_WAITS, EventText};
use crate::telemetry::{self, MeasuredEnd, Metrics};
use crate::updater::{Invocation, Updater};

/// Reads the settings, and answers invocations until Lambda ends the process.
///
/// # Errors
///
/// Returns a sentence if a setting is missing or wrong, or the runtime API cannot be reached.
pub async fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    telemetry::start(variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    let config = Config::from_variables(variable)?;
    let shared = aws::config(variable);
    let region = aws::own_region(&shared)?;
    let region = Region::parse(&region).map_err(|error| format!("environment variable AWS_REGION: {error}"))?;
    let namespace = config.metrics_namespace.clone();
    let updater = Updater::new(config, shared, Utc::now, runtime::random);
    updater.read_settings().await;

    update_format::FORMAT.prepare();
    let function = Function::new(updater, region, namespace, Utc::now, telemetry::print);
    let function = &function;
    runtime::serve(service_fn(async |event: LambdaEvent<EventText>| {
        let invocation = invocation(&event.context);
        Box::pin(function.answer(event.payload.bytes(), &invocation)).await.map_err(runtime::diagnostic)
    }))
    .await
}

/// Answers events: the whole function except the runtime.
pub struct Function {
    updater: Updater,
    region: Region,
    namespace: String,
    clock: fn() -> DateTime<Utc>,
    metrics: Metrics,
}

impl Function {
    /// A function in `region` whose metrics go to `metrics`, under `namespace`.
    #[must_use]
    pub fn new(
        updater: Updater,
        region: Region,
        namespace: String,
        clock: fn() -> DateTime<Utc>,
        metrics: Metrics,
    ) -> Self {
        Self { updater, region, namespace, clock, metrics }
    }

    /// Answers one event, given as it was received.
    ///
    /// # Errors
    ///
    /// What failed, if the event asked for one update or could not be understood.
    pub async fn answer(&self, event: &[u8], invocation: &Invocation) -> Result<EventAnswer, Failure> {
        let defaults = Defaults {
            account_id: invocation.function.as_ref().map(|function| function.account_id.clone()),
            region: self.region.clone(),
            identity: invocation.identity(),
        };
        let tell = |request: Option<&UpdateRequest>, answer: Result<&Response, &Failure>| {
            log(answer, request, invocation);
            let outcome = answer.ok().and_then(|response| response.body.recorded).map(MeasuredEnd::Deployment);
            for ended in ended(answer).into_iter().chain(outcome) {
                (self.metrics)(&telemetry::metric_line(&self.namespace, ended, (self.clock)()));
            }
        };
        match parse(event, &defaults) {
            Ok(Event::One(request)) => {
                if let Err(failure) = self.updater.count(request.requested_by.as_deref(), invocation).await {
                    tell(Some(&request), Err(&failure));
                    return Err(failure);
                }
                let waits = request.dry_run && invocation.is_verified();
                let update = Box::pin(self.updater.update(&request, invocation));
                let answer = in_time(waits, update).await.and_then(|answer| answer);
                tell(Some(&request), answer.as_ref());
                answer.map(|response| EventAnswer::One(Box::new(response)))
            }
            Ok(Event::Many(batch)) => {
                let requested_by = batch.updates.first().and_then(|update| update.requested_by.as_deref());
                if let Err(failure) = self.updater.count(requested_by, invocation).await {
                    tell(None, Err(&failure));
                    return Err(failure);
                }
                let ended = |request: &UpdateRequest, outcome: &ServiceOutcome| match outcome {
                    ServiceOutcome::Answered(response) => tell(Some(request), Ok(response)),
                    ServiceOutcome::Failed(failure) => tell(Some(request), Err(failure)),
                    ServiceOutcome::NotStarted => log_not_started(request, invocation),
                };
                let waits = batch.updates.iter().all(|update| update.dry_run) && invocation.is_verified();
                let answer = in_time(waits, self.updater.update_many(&batch, invocation, &ended)).await;
                answer.inspect_err(|failure| tell(None, Err(failure))).map(EventAnswer::Many)
            }
            Err(failure) => {
                tell(None, Err(&failure));
                Err(failure)
            }
        }
    }
}

/// The result of `plan`; if the API waits for it, within the time that the API waits. A plan changes nothing and may be stopped at any
/// point.
async fn in_time<T>(waits: bool, plan: impl Future<Output = T>) -> Result<T, Failure> {
    if !waits {
        return Ok(plan.await);
    }
    tokio::time::timeout(DOOR_WAITS, plan).await.map_err(|_| {
        let why = format!("the plan was not made within {} seconds. Nothing was changed.", DOOR_WAITS.as_secs());
        Failure::new(Code::ServiceReadFailed, why).and("Ask again, or for fewer services at once.").retryable(true)
    })
}

fn invocation(context: &Context) -> Invocation {
    let deadline = i64::try_from(context.deadline).ok().and_then(DateTime::from_timestamp_millis);
    Invocation {
        request_id: context.request_id.clone(),
        deadline: deadline.unwrap_or(DateTime::<Utc>::MAX_UTC),
        function: FunctionArn::parse(&context.invoked_function_arn),
    }
}

fn log(answer: Result<&Response, &Failure>, request: Option<&UpdateRequest>, invocation: &Invocation) {
    let key = request.map(|request| &request.service_key);
    let account = key.map_or("", |key| key.account_id().as_str());
    let service = key.map(ServiceKey::to_string).unwrap_or_default();
    let requested_by = request.and_then(|request| request.requested_by.as_deref()).unwrap_or_default();
    let identity =
        request.filter(|request| request.requested_by.is_some()).map_or("", |_| invocation.identity().as_str());
    let request_id = invocation.request_id.as_str();
    match answer {
        Ok(Response { body, .. }) => tracing::info!(
            request_id,
            account,
            service,
            requested_by,
            identity,
            change_id = body.change_id.as_deref().unwrap_or_default(),
            status = body.status.as_str(),
            replayed = body.replayed,
            deployment_id = body.deployment_id.as_deref().unwrap_or_default(),
            "update ended"
        ),
        Err(Failure { code, message, retryable, change_id, .. }) => tracing::error!(
            request_id,
            account,
            service,
            requested_by,
            identity,
            change_id = change_id.as_deref().unwrap_or_default(),
            code = code.as_str(),
            retryable,
            "{message}"
        ),
    }
}

fn log_not_started(request: &UpdateRequest, invocation: &Invocation) {
    tracing::warn!(
        request_id = invocation.request_id.as_str(),
        account = request.service_key.account_id().as_str(),
        service = %request.service_key,
        status = "NOT_STARTED",
        "update not started: the time left did not allow it"
    );
}

/// What is counted: each failure, and each change when it is answered for the first time.
fn ended(answer: Result<&Response, &Failure>) -> Option<MeasuredEnd> {
    match answer {
        Err(failure) => Some(MeasuredEnd::Failed(failure.code, failure.fault)),
        Ok(response) if response.body.replayed => None,
        Ok(response) => match response.body.status {
            Status::Planned => None,
            Status::Unchanged => Some(MeasuredEnd::Unchanged),
            // However the change's deployment ended: that is counted separately.
            _ => Some(MeasuredEnd::Applied),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_plan_that_the_door_waits_for_ends_before_it_gives_up() {
        let begun = tokio::time::Instant::now();
        let failure = in_time(true, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(begun.elapsed(), DOOR_WAITS);
        assert!(failure.code == Code::ServiceReadFailed && failure.retryable, "{failure}");
        assert!(failure.message.contains("within 27 seconds. Nothing was changed. Ask again"), "{failure}");
        // Everything that the API does not wait for continues.
        let later = tokio::time::sleep(DOOR_WAITS * 2);
        assert!(in_time(false, later).await.is_ok());
    }
}
