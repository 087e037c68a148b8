//! What the command line requests from AWS in addition to invoking the two functions (`lambda.rs`), with the caller's
//! own credentials.

pub(crate) mod discovery;
pub(crate) mod executions;

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::{TimeoutConfig, TimeoutConfigBuilder};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use domain::call_error::Effect;
use sdk_error::call_error;

use crate::arguments::SharedArgs;
use crate::failure::{CommandFailure, Exit};

/// The longest time that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence before an answer of an API that answers at once.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a call that may be repeated is sent at most.
const ATTEMPTS: u32 = 5;

/// The timeouts that every client has. `read` is the longest silence before an answer.
pub(crate) fn timeouts(read: Duration) -> TimeoutConfigBuilder {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(read)
}

/// Reads the region, credentials and endpoints as every AWS tool does. Nothing is sent yet.
///
/// # Errors
///
/// If no region is set: `needed` says what it is needed for.
pub(crate) async fn config(
    shared: &SharedArgs,
    attempts: u32,
    timeouts: TimeoutConfigBuilder,
    needed: &str,
) -> Result<(SdkConfig, String), CommandFailure> {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard().with_max_attempts(attempts))
        .timeout_config(timeouts.build());
    if let Some(profile) = &shared.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &shared.region {
        loader = loader.region(Region::new(region.clone()));
    }
    let config = loader.load().await;
    match config.region().map(Region::to_string) {
        Some(region) => Ok((config, region)),
        None => Err(CommandFailure::new(Exit::NotAsked, format!("no AWS region is set, so it is not known {needed}"))
            .advise("Give --region, set AWS_REGION, or set a region in the profile.")),
    }
}

/// The failure if the caller has no credentials, or if they could not be fetched.
pub(crate) fn no_credentials(error: &(dyn Error + 'static)) -> Option<CommandFailure> {
    let causes = || std::iter::successors(Some(error), |&error| error.source());
    causes().any(<dyn Error>::is::<CredentialsError>).then(|| {
        // The innermost cause says what happened. Those around it only say that something did.
        let message = causes().skip(1).last().map_or_else(|| error.to_string(), ToString::to_string);
        CommandFailure::new(Exit::NotAsked, format!("there are no AWS credentials: {message}"))
            .advise("Sign in (such as `aws sso login`), or set AWS_PROFILE, --profile or AWS_ACCESS_KEY_ID.")
    })
}

/// The failure if AWS does not accept the caller's credentials. `message` is the one from AWS.
pub(crate) fn refused_credentials(code: &str, message: &str) -> Option<CommandFailure> {
    let known = [
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    ];
    known.contains(&code).then(|| {
        CommandFailure::new(Exit::NotAsked, message).code(code).advise(
            "AWS does not take these credentials: sign in again (such as `aws sso login`), and look at --profile.",
        )
    })
}

/// The failure of a call that only reads, or that may be sent again. `operation` is the permission that it needs.
fn failed<E>(operation: &'static str, error: &SdkError<E, Response>) -> CommandFailure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(failure) = no_credentials(error) {
        return failure;
    }
    let error = call_error(operation, error);
    let code = error.code.as_deref().unwrap_or_default();
    let request = error.request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    let message = format!("{operation}: {}{request}", error.message);
    if let Some(failure) = refused_credentials(code, &message) {
        return failure;
    }
    let failure = |exit| {
        let failure = CommandFailure::new(exit, &message);
        if code.is_empty() { failure } else { failure.code(code) }
    };
    match error.effect {
        _ if code.starts_with("AccessDenied") => failure(Exit::NotAsked)
            .advise(format!("These credentials may not do that: they need {operation}, or use others (--profile).")),
        Effect::Refused => failure(Exit::Failed),
        Effect::NotSent => failure(Exit::NotAsked).advise("AWS was not reached. Look at the network, and at --region."),
        Effect::Throttled | Effect::Unknown => failure(Exit::Later).advise("Run the command again in a moment."),
    }
}
