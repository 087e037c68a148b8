//! Invokes the updater, as a caller that changes services with it.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use domain::event::update_event::BatchEvent;
use sdk_error::call_error;
use serde_json::Value;

/// How long an invocation of Lambda may last at most. Source:
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html>.
const MAX_INVOCATION: Duration = Duration::from_mins(15);

/// The updater, invoked by name or ARN.
#[derive(Debug)]
pub struct UpdaterClient {
    client: aws_sdk_lambda::Client,
    /// Name or ARN of the updater, with its alias.
    function: String,
}

impl UpdaterClient {
    /// Sends each event in one attempt only: a second attempt, while the first one is being processed, would find the service held, and the
    /// queue delivers the message again anyway. The updater may take as long as a function may; a caller that waits for it ends sooner.
    #[must_use]
    pub fn new(shared: &SdkConfig, function: String) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(super::CONNECT_TIMEOUT)
            .read_timeout(MAX_INVOCATION)
            .operation_attempt_timeout(MAX_INVOCATION)
            .operation_timeout(MAX_INVOCATION)
            .build();
        let config = aws_sdk_lambda::config::Builder::from(shared)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .build();
        Self { client: aws_sdk_lambda::Client::from_conf(config), function }
    }

    /// What the updater answers to an event.
    ///
    /// # Errors
    ///
    /// Returns a sentence if the updater could not be invoked or answered with a function error.
    pub async fn invoke(&self, event: &BatchEvent) -> Result<Value, String> {
        const OPERATION: &str = "lambda:InvokeFunction";
        let event = serde_json::to_value(event).map_err(|error| error.to_string())?;
        let payload = Blob::new(event.to_string());
        let sent = self.client.invoke().function_name(&self.function).payload(payload).send().await;
        let answer = sent.map_err(|error| call_error(OPERATION, &error).to_string())?;
        let body = answer.payload().map(Blob::as_ref).unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        if answer.function_error().is_some() {
            let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
            return Err(format!("the updater refused: {}: {}", text("errorType"), text("errorMessage")));
        }
        Ok(body)
    }
}
