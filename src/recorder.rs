//! The edge of the recorder function: ECS deployment events, and the sweep that asks where no event comes.

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;

use crate::aws;
use crate::config::RecorderConfig;
use crate::lambda::{self, EventText};
use crate::telemetry;

/// Reads the settings, and answers invocations until Lambda ends the process.
///
/// # Errors
///
/// A sentence, where a setting is missing or wrong or the runtime API cannot be reached.
pub async fn run() -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).ok();
    telemetry::start(variable("AWS_LAMBDA_LOG_LEVEL").as_deref());
    RecorderConfig::from_variables(variable)?;
    let shared = aws::shared_config().await;
    aws::own_region(&shared)?;
    let handler = service_fn(async |_: LambdaEvent<EventText>| {
        let (error_type, error_message) = ("Unknown".to_owned(), "the recorder does not know this event".to_owned());
        Err::<Value, _>(Diagnostic { error_type, error_message })
    });
    lambda::serve(handler).await
}
