//! The only files that call AWS. They act and report; what to do about the result is decided elsewhere.

mod body_limit;
pub mod deployment_watcher;
pub mod documents;
pub mod ecs;
pub mod history_reader;
pub mod images;
mod ledger_items;
pub mod ledger_store;
mod organization;
pub mod push_queue;
pub mod rate_limit;
pub mod registry_client;
pub mod sessions;
mod statements;
mod stopwatch;
pub mod updater_client;

use std::fmt;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls;
use aws_smithy_runtime::client::retries::{RetryPartition, TokenBucket};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use body_limit::BodyLimited;

/// The longest time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time for one attempt of a call that the SDK may retry.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for such a call, including its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

/// What every client shares: region, credentials and endpoints from the environment variables that Lambda sets and that every AWS tool
/// knows, one HTTP client, standard retries, and timeouts. No other source is searched: files, metadata services and roles by web identity
/// do not exist where a function runs, and searching for them would cost start time and package size.
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
        // Each attempt has a time limit, which includes the transfer of its body.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_endpoint_url(get("AWS_ENDPOINT_URL"));
    config.set_use_fips(is_set("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(is_set("AWS_USE_DUALSTACK_ENDPOINT"));
    config.service_config(OfService(get)).build()
}

/// Settings of individual services, such as `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
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
    SharedHttpClient::new(BodyLimited::new(client))
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

/// A client's own store of retries, which limits what an outage costs and fills up again with time. The SDK's default store only fills up
/// with each call that succeeds, so that after an outage a single refusal would fail a change.
/// Source: <https://docs.aws.amazon.com/sdk-for-rust/latest/dg/retries.html>.
pub(crate) fn retry_partition(name: &'static str) -> RetryPartition {
    /// Tokens a second: a retry costs 5, so that the store of 500 is full again after 50 seconds.
    const REFILL: f32 = 10.0;
    RetryPartition::custom(name).token_bucket(TokenBucket::builder().refill_rate(REFILL).build()).build()
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// The region in which the function runs.
///
/// # Errors
///
/// Returns an error if no region is set.
pub fn own_region(config: &SdkConfig) -> Result<String, String> {
    config
        .region()
        .map(Region::to_string)
        .ok_or_else(|| "environment variable AWS_REGION is not set: it names the function's own region".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
