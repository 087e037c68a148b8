//! The edge: the only files that call AWS. They act and report; what to do about it is decided elsewhere.

mod bounded;
pub mod documents;
pub mod ecs;
pub mod history_reader;
pub mod images;
pub mod ledger_store;
mod organization;
pub mod sessions;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use bounded::Bounded;

use crate::mask::{HIDDEN, Mask};
use crate::names::one_line;

/// Longest time to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time for one attempt of a call that the SDK may repeat.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for such a call with its repetitions.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

/// What every client shares: region, credentials and endpoints by the environment variables that Lambda sets and every AWS
/// tool knows, one HTTP client, standard retries, and timeouts. Nothing is looked for elsewhere: files, metadata services
/// and roles by web identity are not where a function runs, and a search for them costs its start and its package.
#[must_use]
pub fn config(get: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> SdkConfig {
    let get = move |name: &str| get(name).filter(|value| !value.is_empty());
    let is_set = |name: &str| get(name).map(|value| value.eq_ignore_ascii_case("true"));
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .region(get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).map(Region::new))
        .http_client(http_client())
        .retry_config(retries())
        .timeout_config(timeouts())
        // Each attempt has a time limit, its body's transfer included.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(get("AWS_ENDPOINT_URL"));
    config.set_use_fips(is_set("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(is_set("AWS_USE_DUALSTACK_ENDPOINT"));
    config.service_config(OfService(get)).build()
}

/// Settings of single services, such as `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
/// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>.
struct OfService<F>(F);

impl<F> fmt::Debug for OfService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfService")
    }
}

impl<F: Fn(&str) -> Option<String> + Send + Sync> LoadServiceConfig for OfService<F> {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        self.0(&format!("{}_{service}", key.env()))
    }
}

fn http_client() -> SharedHttpClient {
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https();
    SharedHttpClient::new(Bounded::new(client))
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// The region the function runs in.
///
/// # Errors
///
/// Where none is set.
pub fn own_region(config: &SdkConfig) -> Result<String, String> {
    config
        .region()
        .map(Region::to_string)
        .ok_or_else(|| "environment variable AWS_REGION is not set: it names the function's own region".to_owned())
}

/// What a failed call may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// AWS refused it: nothing was done, and the same call would be refused again.
    Refused,
    /// AWS had no room for it: nothing was done.
    Throttled,
    /// It never reached AWS: nothing was done.
    NotSent,
    /// The answer is lost, cannot be read, or is a 5xx: it may have been done.
    Unknown,
}

/// Refusals of ECS that pass by themselves, with the codes that they come with (none: whatever code). The texts are parts that no
/// final refusal has.
const PASSING: [(&[&str], &str); 6] = [
    // Registrations of one family at the same time: seconds.
    // <https://github.com/hashicorp/terraform-provider-aws/issues/9777>
    (&[], "Too many concurrent attempts to create a new revision"),
    // Until the tasks of an older deployment have stopped: minutes, and up to 48 hours where they are protected.
    // <https://github.com/aws/containers-roadmap/issues/2836> (one source, which does not name the code)
    (&[], "active deployments exist"),
    // Until a listener refers to the target group: Terraform tries again for minutes.
    // <https://github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/1868>
    (&["InvalidParameterException"], "does not have an associated load balancer"),
    // A role that is new: IAM is eventually consistent. <https://github.com/hashicorp/terraform/pull/14708>
    (&["InvalidParameterException"], "Unable to assume role and validate"),
    // The first use of ECS in an account: ECS makes the role. <https://github.com/awslabs/fargatecli/issues/35>
    (&["InvalidParameterException"], "Unable to assume the service linked role"),
    // A role or a policy that is new. <https://github.com/terraform-aws-modules/terraform-aws-ecs/issues/414>
    (&["AccessDeniedException"], "iam:PassRole"),
];

/// A request that was not sent: what it is part of has no time left.
#[derive(Debug)]
pub(crate) struct TooLateToSend;

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

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The IAM action, such as `ecs:UpdateService`.
    pub operation: &'static str,
    /// What the call may have done.
    pub effect: Effect,
    /// AWS error code, where AWS answered with one.
    pub code: Option<String>,
    /// AWS's message, or what happened to the connection.
    pub message: String,
    /// AWS request id, where AWS answered.
    pub request_id: Option<String>,
}

impl CallError {
    /// What became of `operation`.
    pub fn new<E>(operation: &'static str, error: &SdkError<E, Response>) -> Self
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
            // An answer that cannot be read is none of these, a refusal's neither: without its code nobody knows what it refuses, and
            // whether that passes.
            SdkError::ServiceError(_)
                if code.is_some() && status.is_some_and(|status| (400..500).contains(&status)) =>
            {
                Effect::Refused
            }
            _ => Effect::Unknown,
        };
        Self {
            operation,
            effect,
            code,
            message,
            request_id: error.raw_response().and_then(request_id).map(str::to_owned),
        }
    }

    /// An answer that is not what the API promises.
    #[must_use]
    pub fn unreadable(operation: &'static str, what: impl fmt::Display) -> Self {
        Self {
            operation,
            effect: Effect::Unknown,
            code: None,
            message: format!("the answer cannot be read: {what}"),
            request_id: None,
        }
    }

    /// The same error without what the mask hides, which AWS may have repeated.
    #[must_use]
    pub fn without(mut self, mask: &Mask) -> Self {
        self.message = mask.hide(&self.message).unwrap_or_else(|| {
            "its message may repeat a value that is not shown: look for its request id in CloudTrail".to_owned()
        });
        self
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.effect != Effect::Refused || self.has_code(&["ExpiredTokenException", "ExpiredToken"]) || self.passes()
    }

    /// Whether whoever sent it has no right to.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.effect == Effect::Refused && self.code.as_deref().is_some_and(|code| code.contains("AccessDenied"))
    }

    /// Whether ECS refused the call for something that passes by itself: nothing was done, and the same call may be taken later.
    /// Texts that are not known are final.
    #[must_use]
    pub fn passes(&self) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        let is_of = |codes: &[&str]| codes.is_empty() || codes.contains(&code);
        self.effect == Effect::Refused
            && PASSING.iter().any(|(codes, text)| is_of(codes) && self.message.contains(text))
    }

    /// The same error of a call that named a revision that was registered a moment ago: that ECS does not know it yet passes in
    /// seconds. Source: <https://github.com/remind101/empire/issues/353>.
    #[must_use]
    pub fn of_a_new_revision(mut self) -> Self {
        if self.effect == Effect::Refused && self.message.contains("TaskDefinition not found") {
            self.effect = Effect::Throttled;
        }
        self
    }

    /// Whether AWS answered with one of these codes.
    #[must_use]
    pub fn has_code(&self, codes: &[&str]) -> bool {
        self.code.as_deref().is_some_and(|code| codes.contains(&code))
    }
}

impl Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.operation)?;
        if let Some(code) = &self.code {
            write!(f, "{}: ", one_line(code))?;
        }
        // What AWS repeats of a caller's text must not look like lines of ours.
        f.write_str(&one_line(&self.message))?;
        if let Some(request_id) = &self.request_id {
            write!(f, " (request id {request_id})")?;
        }
        Ok(())
    }
}

fn request_id(response: &Response) -> Option<&str> {
    response.headers().get("x-amzn-requestid").or_else(|| response.headers().get("x-amz-request-id"))
}

/// A message without the session token: where a signature does not match, AWS answers with the headers that it was sent.
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

/// An error with everything that led to it, each text once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
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

/// Throttling, and ECS's way of saying it for revisions of one family, which the SDK does not know as such.
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

/// Whether the connection was never made, so that the request cannot have arrived.
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
    fn a_service_is_found_by_its_own_endpoint_first() {
        fn both(name: &str) -> Option<String> {
            name.starts_with("AWS_ENDPOINT_URL").then(|| format!("http://{}", name.to_lowercase()))
        }
        let of_service = |config: &SdkConfig, service: &str| {
            let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
            config.service_config().unwrap().load_config(key.build().unwrap())
        };
        let own = |name: &str| Some(format!("http://aws_endpoint_url_{name}"));
        assert_eq!(of_service(&config(both), "DynamoDB"), own("dynamodb"));
        assert_eq!(of_service(&config(both), "Secrets Manager"), own("secrets_manager"));
        let general = config(|name| both(name).filter(|_| name == "AWS_ENDPOINT_URL"));
        assert_eq!(of_service(&general, "DynamoDB"), None);
        assert_eq!(general.endpoint_url(), Some("http://aws_endpoint_url"));
        let empty = config(|_| Some(String::new()));
        assert_eq!((empty.endpoint_url(), of_service(&empty, "ECS")), (None, None));
        assert!(own_region(&config(|_| None)).is_err());
        assert_eq!(own_region(&config(|name| Some(name.to_lowercase()))), Ok("aws_region".to_owned()));
    }

    #[test]
    fn kinds_of_endpoints_are_chosen_as_by_other_tools() {
        let with = |value: &'static str| config(move |name| name.starts_with("AWS_USE_").then(|| value.to_owned()));
        assert_eq!((with("true").use_fips(), with("TRUE").use_dual_stack()), (Some(true), Some(true)));
        assert_eq!((with("false").use_fips(), with("").use_dual_stack()), (Some(false), None));
    }

    #[test]
    fn a_session_token_that_aws_repeats_is_not_shown() {
        let message = "should have been 'POST\nx-amz-security-token:IQoJb3/+=\nx' and x-amz-security-token:b";
        let shown = "should have been 'POST\nx-amz-security-token:***\nx' and x-amz-security-token:***";
        assert_eq!(without_token(message), shown);
        assert_eq!(without_token("nothing"), "nothing");
    }

    #[test]
    fn a_message_has_code_text_and_request_id() {
        let error = CallError {
            operation: "ecs:UpdateService",
            effect: Effect::Refused,
            code: Some("AccessDeniedException".to_owned()),
            message: "no\n[ERROR] forged".to_owned(),
            request_id: Some("r-1".to_owned()),
        };
        let text = "ecs:UpdateService: AccessDeniedException: no [ERROR] forged (request id r-1)";
        assert_eq!(error.to_string(), text);
        assert!(!error.retryable());
    }
}
