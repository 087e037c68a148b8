//! What all functions of this project share in their relation to the Lambda runtime.

use std::fmt::Debug;
use std::time::Duration;

use domain::error::Failure;
use lambda_runtime::tower::Service;
use lambda_runtime::tower::util::MapRequestLayer;
use lambda_runtime::{Diagnostic, LambdaEvent, LambdaInvocation, Runtime};
use serde::{Deserialize, Serialize};

/// How long the API waits for a plan or the answer to a query, less the time to transport the answer. API Gateway stops waiting after 29
/// seconds and then answers that the change continues.
pub const DOOR_WAITS: Duration = Duration::from_secs(27);

/// The event as it was received. The runtime would answer an event that is not JSON with a message of its own. For this reason, the body is
/// passed to the schema check as a JSON string that contains its text.
#[derive(Debug, Serialize, Deserialize)]
pub enum EventText {
    /// UTF-8, as JSON requires.
    Text(String),
    /// Anything else.
    NotUtf8(Vec<u8>),
}

impl EventText {
    fn new(body: &[u8]) -> Self {
        match str::from_utf8(body) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::NotUtf8(body.to_vec()),
        }
    }

    /// The event's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::NotUtf8(bytes) => bytes,
        }
    }
}

/// Answers invocations until Lambda ends the process.
///
/// # Errors
///
/// Returns a sentence if the runtime API cannot be reached.
pub async fn serve<H, A>(handler: H) -> Result<(), String>
where
    H: Service<LambdaEvent<EventText>, Response = A>,
    H::Future: Future<Output = Result<A, H::Error>>,
    H::Error: Into<Diagnostic> + Debug,
    A: Serialize,
{
    let as_text = MapRequestLayer::new(|mut invocation: LambdaInvocation| {
        let event = EventText::new(&invocation.body);
        invocation.body = serde_json::to_vec(&event).unwrap_or_default().into();
        invocation
    });
    Box::pin(Runtime::new(handler).layer(as_text).run())
        .await
        .map_err(|error| format!("the Lambda runtime ended: {error}"))
}

/// A failure as Lambda's function error; its code becomes the error type.
#[must_use]
pub fn diagnostic(failure: Failure) -> Diagnostic {
    Diagnostic { error_type: failure.code.as_str().to_owned(), error_message: failure.message }
}

/// Random bytes for change ids. If the kernel has none, only the time distinguishes the ids.
#[must_use]
pub fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::warn!("the kernel gives no random bytes: change ids carry their time only");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use domain::error::Code;

    use super::*;

    #[test]
    fn a_failure_becomes_a_lambda_function_error() {
        let diagnostic = diagnostic(Failure::new(Code::ServiceNotFound, "web not found"));
        assert_eq!(diagnostic.error_type, "ServiceNotFound");
        assert_eq!(diagnostic.error_message, "[ERROR][ecs_service_read] ecs_service_name web not found");
    }
}
