//! Invokes the two functions through the Lambda API, with the caller's own credentials.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::primitives::Blob;
use domain::call_error::{CallError, Effect};
use sdk_error::call_error;
use serde::Serialize;
use serde_json::Value;

use crate::arguments::SharedArgs;
use crate::aws::{config, no_credentials, refused_credentials, timeouts};
use crate::failure::{self, CommandFailure, Exit};
use crate::function::Function;
use crate::json::to_json;

/// The longest silence before an answer: a Lambda function runs for 15 minutes at most.
const READ_TIMEOUT: Duration = Duration::from_secs(15 * 60 + 10);
/// How often an event that may be repeated is sent at most.
const ATTEMPTS: u32 = 3;

/// Invokes the functions.
#[derive(Debug, Clone)]
pub(crate) struct Functions {
    client: Client,
    region: String,
    updater: String,
    history: String,
}

impl Functions {
    /// Reads the region, credentials and endpoint as every AWS tool does. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If no region is set.
    pub(crate) async fn new(shared: &SharedArgs) -> Result<Self, CommandFailure> {
        Self::beside(shared, "").await
    }

    /// The same, in the region of the ARN of another part of the hub, where it names one.
    ///
    /// # Errors
    ///
    /// If no region is set.
    pub(crate) async fn beside(shared: &SharedArgs, arn: &str) -> Result<Self, CommandFailure> {
        let (config, mut region) = config(shared, ATTEMPTS, timeouts(READ_TIMEOUT), "where the functions are").await?;
        let mut lambda = aws_sdk_lambda::config::Builder::from(&config);
        if let Some(other) = arn.split(':').nth(3).filter(|region| !region.is_empty()) {
            lambda = lambda.region(aws_config::Region::new(other.to_owned()));
            other.clone_into(&mut region);
        }
        // For this API only: the credentials may come from another one.
        if let Some(url) = &shared.endpoint_url {
            lambda = lambda.endpoint_url(url);
        }
        Ok(Self {
            client: Client::from_conf(lambda.build()),
            region,
            updater: shared.updater_function.clone(),
            history: shared.history_function.clone(),
        })
    }

    /// The region of the functions.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    fn name(&self, function: Function) -> &str {
        match function {
            Function::Updater => &self.updater,
            Function::History => &self.history,
        }
    }

    /// Sends `event` and waits for the answer, which has a status below 400 and is complete. `again` says whether it may arrive
    /// twice.
    ///
    /// # Errors
    ///
    /// If the function could not be invoked, if it failed, or if its answer reports a failure.
    pub(crate) async fn ask(
        &self,
        function: Function,
        event: &(impl Serialize + Sync),
        again: bool,
    ) -> Result<Value, CommandFailure> {
        let answer = self.invoke(function, to_json(event)?.to_string(), again).await?;
        let status = answer.get("statusCode").and_then(Value::as_u64).unwrap_or(200);
        if status < 400 {
            return Ok(answer);
        }
        let body = answer.get("body").unwrap_or(&Value::Null);
        let fault = body.get("error").unwrap_or(body);
        let text = |name: &str| fault.get(name).and_then(Value::as_str);
        let code = text("code").or_else(|| text("errorType")).unwrap_or("Refused");
        let message = text("message").or_else(|| text("errorMessage")).map_or_else(|| fault.to_string(), str::to_owned);
        Err(self.reported(function, code, &message))
    }

    /// Sends `event` as it is, and returns the answer as it is.
    ///
    /// # Errors
    ///
    /// If the function could not be invoked, or if it failed.
    pub(crate) async fn invoke(&self, function: Function, event: String, again: bool) -> Result<Value, CommandFailure> {
        let name = self.name(function);
        let mut once = aws_sdk_lambda::config::Builder::new();
        if !again {
            once = once.retry_config(RetryConfig::disabled());
        }
        let answer = self
            .client
            .invoke()
            .function_name(name)
            .payload(Blob::new(event))
            .customize()
            .config_override(once)
            .send()
            .await
            .map_err(|error| {
                if let Some(failure) = no_credentials(&error) {
                    return failure.at(self.place(function));
                }
                self.not_asked(function, again, &call_error("lambda:InvokeFunction", &error))
            })?;
        let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
        let payload: Value = match serde_json::from_slice(payload) {
            Ok(payload) => payload,
            Err(_) if answer.function_error().is_some() => Value::Null,
            Err(fault) => {
                return Err(CommandFailure::new(Exit::Failed, format!("{name} did not answer with JSON: {fault}"))
                    .at(self.place(function))
                    .advise("Is that the right function? See --updater-function and --history-function."));
            }
        };
        if answer.function_error().is_none() {
            return Ok(payload);
        }
        let text = |member: &str| payload.get(member).and_then(Value::as_str);
        let message = text("errorMessage").unwrap_or("the function failed without a message");
        // Lambda's own report of a timeout had no errorType in some runtimes.
        let timed_out = message.contains("Task timed out after");
        let code = text("errorType").unwrap_or(if timed_out { "Sandbox.Timedout" } else { "Unhandled" });
        Err(self.reported(function, code, message))
    }

    /// The failure that a function reported. The place of a failed change is its service, that of a failed query the
    /// function.
    fn reported(&self, function: Function, code: &str, message: &str) -> CommandFailure {
        let failure = failure::of_function(function, code, message);
        if function == Function::History { failure.at(self.place(function)) } else { failure }
    }

    fn place(&self, function: Function) -> String {
        format!("function {} in {}", self.name(function), self.region)
    }

    fn not_asked(&self, function: Function, again: bool, error: &CallError) -> CommandFailure {
        let name = self.name(function);
        let option = match function {
            Function::Updater => "--updater-function or ECS_UPDATER_FUNCTION",
            Function::History => "--history-function or ECS_UPDATER_HISTORY_FUNCTION",
        };
        let code = error.code.as_deref().unwrap_or_default();
        let request = error.request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
        let message = format!("{}{request}", error.message);
        let failure = |exit| {
            let failure = CommandFailure::new(exit, message.clone()).at(self.place(function));
            if code.is_empty() { failure } else { failure.code(code) }
        };
        if let Some(failure) = refused_credentials(code, &message) {
            return failure.at(self.place(function));
        }
        match code {
            "AccessDeniedException" => failure(Exit::NotAsked).advise(format!(
                "These credentials may not invoke {name}: ask the hub account's owner for lambda:InvokeFunction, or use \
                 other credentials (--profile)."
            )),
            "ResourceNotFoundException" => failure(Exit::NotAsked).advise(format!(
                "There is no such function in {} for these credentials' account. Name it ({option}), or the region \
                 (--region), or use the hub account's credentials (--profile).",
                self.region
            )),
            "RequestTooLargeException" | "InvalidRequestContentException" => {
                failure(Exit::Usage).advise("The event is not one that Lambda takes: at most 6 MB of JSON.")
            }
            "TooManyRequestsException" => {
                failure(Exit::Later).advise("Too many at once: nothing was done. Run the command again in a moment.")
            }
            _ => match error.effect {
                Effect::NotSent => failure(Exit::NotAsked)
                    .advise("The Lambda API was not reached; nothing was done. Look at the network, --region and --endpoint-url."),
                Effect::Throttled => failure(Exit::Later).advise("Nothing was done. Run the command again in a moment."),
                Effect::Refused => failure(Exit::NotAsked),
                Effect::Unknown if function == Function::History => {
                    failure(Exit::Later).advise("The answer is lost. Run the command again.")
                }
                Effect::Unknown if again => {
                    failure(Exit::Later).advise("The answer is lost. With the same key nothing is done twice.")
                }
                Effect::Unknown => failure(Exit::Later)
                    .advise("The answer is lost, and the event may have been carried out: look at `ecs-updater history`."),
            },
        }
    }
}
