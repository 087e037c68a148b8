//! Turns an error of an AWS SDK into a [`CallError`]: what became of the request says what the call may have done.

use std::error::Error;
use std::fmt;

use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use domain::call_error::{CallError, Effect};
use domain::mask::HIDDEN;

/// The error of a call of `operation`.
pub fn call_error<E>(operation: &'static str, error: &SdkError<E, Response>) -> CallError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (code, message) = match error.as_service_error() {
        Some(service) => {
            (service.code().map(str::to_owned), service.message().map_or_else(|| chain(service), str::to_owned))
        }
        None => (None, chain(error)),
    };
    let message = without_token(&message);
    let status = error.raw_response().map(|response| response.status().as_u16());
    let effect = match error {
        SdkError::ConstructionFailure(_) => Effect::NotSent,
        _ if was_too_late(error) => Effect::NotSent,
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) if never_connected(error) => Effect::NotSent,
        SdkError::ServiceError(_) if is_throttling(code.as_deref(), &message, status) => Effect::Throttled,
        // An answer that cannot be read belongs to none of these, nor does an unreadable refusal: without its code it is unknown what it
        // refuses and whether that is temporary.
        SdkError::ServiceError(_) if code.is_some() && status.is_some_and(|status| (400..500).contains(&status)) => {
            Effect::Refused
        }
        _ => Effect::Unknown,
    };
    CallError {
        operation,
        effect,
        code,
        message,
        request_id: error.raw_response().and_then(request_id).map(str::to_owned),
    }
}

/// The error of a request that was not sent, since the work that it is part of has no time left.
#[derive(Debug)]
pub struct TooLateToSend;

impl fmt::Display for TooLateToSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was not sent, since the time that it has was over")
    }
}

impl Error for TooLateToSend {}

fn was_too_late(error: &(dyn Error + 'static)) -> bool {
    let mut error = Some(error);
    std::iter::from_fn(|| {
        let this = error?;
        error = this.source();
        Some(this)
    })
    .any(<dyn Error>::is::<TooLateToSend>)
}

fn request_id(response: &Response) -> Option<&str> {
    response.headers().get("x-amzn-requestid").or_else(|| response.headers().get("x-amz-request-id"))
}

/// The message without the session token: if a signature does not match, AWS answers with the headers that it received.
fn without_token(message: &str) -> String {
    const HEADER: &str = "x-amz-security-token:";
    let mut parts = message.split(HEADER);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || "'\"\\".contains(c)).unwrap_or(part.len());
        text.push_str(HEADER);
        text.push_str(HIDDEN);
        text.push_str(&part[end..]);
    }
    text
}

/// An error with all its causes, each text once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// Throttling, including the way in which ECS reports it for revisions of one family, which the SDK does not recognize.
fn is_throttling(code: Option<&str>, message: &str, status: Option<u16>) -> bool {
    status == Some(429)
        || code.is_some_and(|code| {
            matches!(
                code,
                "Throttling"
                    | "ThrottlingException"
                    | "ThrottledException"
                    | "RequestThrottled"
                    | "RequestThrottledException"
                    | "RequestLimitExceeded"
                    | "TooManyRequestsException"
                    | "ProvisionedThroughputExceededException"
                    | "SlowDown"
                    | "PriorRequestNotComplete"
            )
        })
        || message.contains("Too many concurrent attempts to create a new revision")
}

/// Whether the connection was never established, so that the request cannot have arrived.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<ResolveDnsError>() {
            return true;
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
            return matches!(io.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable);
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_known_by_code_status_or_text() {
        assert!(is_throttling(Some("ThrottlingException"), "Rate exceeded", Some(400)));
        assert!(is_throttling(None, "", Some(429)));
        let text = "Too many concurrent attempts to create a new revision of the specified family.";
        assert!(is_throttling(Some("ClientException"), text, Some(400)));
        assert!(!is_throttling(Some("ClientException"), "Invalid image", Some(400)));
    }

    #[test]
    fn a_session_token_that_aws_repeats_is_not_shown() {
        let message = "should have been 'POST\nx-amz-security-token:IQoJb3/+=\nx' and x-amz-security-token:b";
        let shown = "should have been 'POST\nx-amz-security-token:***\nx' and x-amz-security-token:***";
        assert_eq!(without_token(message), shown);
        assert_eq!(without_token("nothing"), "nothing");
    }
}
