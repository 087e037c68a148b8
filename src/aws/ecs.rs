//! ECS calls in one target account and region, using the JSON that is sent over the network.
//!
//! The SDK signs and sends the requests, with timeouts and retries. Bodies are sent and returned unchanged, so that no member is lost
//! because a type does not know it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::{Builder, Config, IdentityCache};
use aws_sdk_ecs::operation::describe_services::DescribeServicesError;
use aws_sdk_ecs::types::{
    CreatedAt, DeploymentLifecycleHookAction, ServiceField, StopServiceDeploymentStopType, Tag, TaskDefinitionField,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use chrono::{DateTime, Utc};
use domain::call_error::{CallError, EXPIRED};
use domain::ecs::deployment::listed::said_of_primary;
use domain::ecs::deployment::outcome::running_images;
use domain::ecs::deployment::service_deployment::{ServiceDeployment, ServiceDeploymentSummary};
use domain::ecs::service::Service;
use domain::ecs::task_definition::TaskDefinition;
use domain::ids::ServiceKey;
use domain::text::shown_text;
use sdk_error::{TooLateToSend, call_error};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::aws::CONNECT_TIMEOUT;
use crate::aws::sessions::Session;

/// Keeps the body of an answer as it was received.
#[derive(Debug, Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Intercept for Capture {
    fn name(&self) -> &'static str {
        "Capture"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(body) = context.response().body().bytes() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body.to_vec();
        }
        Ok(())
    }
}

impl Capture {
    fn body<T, E>(&self, operation: &'static str, sent: Result<T, SdkError<E, Response>>) -> Result<Vec<u8>, CallError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        sent.map_err(|error| call_error(operation, &error))?;
        Ok(std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The time that is available to one mutating call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MutationTime {
    /// How long it may take.
    pub timeout: Duration,
    /// After this time, the call must not be sent.
    pub latest_start: DateTime<Utc>,
}

/// Checks the clock once more just before a request is written: the process may have been frozen between the decision to send it and this
/// moment.
#[derive(Debug)]
struct NotAfter(DateTime<Utc>);

impl Intercept for NotAfter {
    fn name(&self) -> &'static str {
        "NotAfter"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let now: DateTime<Utc> = components.time_source().unwrap_or_default().now().into();
        if now > self.0 { Err(Box::new(TooLateToSend)) } else { Ok(()) }
    }
}

/// Sets the body of a request before it is signed.
fn set_body(request: &mut HttpRequest, body: &str) {
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}

/// Why a service could not be described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescribeError {
    /// The cluster does not exist.
    ClusterNotFound,
    /// The cluster has no such service.
    ServiceNotFound,
    /// The call failed.
    Call(CallError),
}

impl From<CallError> for DescribeError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// How many services one call describes.
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>.
pub const SERVICES_PER_CALL: usize = 10;

const DESCRIBE_SERVICES: &str = "ecs:DescribeServices";

/// The answer of `DescribeServices`.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    services: Vec<Map<String, Value>>,
    #[serde(default)]
    failures: Vec<DescribeFailure>,
}

#[derive(Deserialize)]
struct DescribeFailure {
    #[serde(default)]
    arn: String,
    #[serde(default)]
    reason: String,
}

impl Described {
    /// The service of this name, or why it is missing.
    fn service(&self, name: &str) -> Result<Service, DescribeError> {
        let is_named = |service: &&Map<String, Value>| service.get("serviceName").and_then(Value::as_str) == Some(name);
        if let Some(service) = self.services.iter().find(is_named) {
            let read = Service::new(service.clone(), None);
            return Ok(read.map_err(|what| CallError::unreadable(DESCRIBE_SERVICES, what))?);
        }
        match self.failures.iter().find(|failure| failure.arn.rsplit('/').next() == Some(name)) {
            Some(failure) if failure.reason == "MISSING" => Err(DescribeError::ServiceNotFound),
            Some(failure) => {
                let what = format!("failure {}", shown_text(&failure.reason));
                Err(CallError::unreadable(DESCRIBE_SERVICES, what).into())
            }
            None => {
                let what = "the service is neither among those found nor among those missing";
                Err(CallError::unreadable(DESCRIBE_SERVICES, what).into())
            }
        }
    }
}

/// ECS in one target account and region.
#[derive(Debug, Clone)]
pub struct Ecs {
    client: Client,
    session: Arc<Session>,
}

/// Returns nothing if asking again does not help.
fn none_for_good<T>(error: CallError) -> Result<Option<T>, CallError> {
    if error.retryable() { Err(error) } else { Ok(None) }
}

impl Ecs {
    /// ECS in `region` with a session in the target account.
    #[must_use]
    pub fn new(shared: &SdkConfig, region: &str, session: Arc<Session>) -> Self {
        let provider: Arc<dyn ProvideCredentials> = Arc::<Session>::clone(&session);
        let config = Builder::from(shared)
            .region(Region::new(region.to_owned()))
            // The session keeps its credentials; the SDK's cache would keep the credentials of every invocation, one set per client.
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::from(provider));
        Self { client: Client::from_conf(config.build()), session }
    }

    /// Sends a call. If ECS calls the session expired although its end is not reached, the role is assumed anew and the call is sent once
    /// more: ECS has refused it, so that it did nothing.
    async fn send<T, E: ProvideErrorMetadata>(
        &self,
        call: impl AsyncFn() -> Result<T, SdkError<E, Response>>,
    ) -> Result<T, SdkError<E, Response>> {
        let access_key = self.session.access_key().await;
        let sent = call().await;
        let is_expired = |error: &SdkError<E, Response>| {
            error.as_service_error().and_then(ProvideErrorMetadata::code).is_some_and(|code| EXPIRED.contains(&code))
        };
        if sent.as_ref().is_err_and(is_expired) && self.session.renew(&access_key).await { call().await } else { sent }
    }

    /// Describes one service with its tags.
    ///
    /// # Errors
    ///
    /// Returns an error if the cluster or the service does not exist, or the call failed.
    pub async fn describe_service(&self, key: &ServiceKey) -> Result<Service, DescribeError> {
        self.describe_services(&[key]).await.pop().unwrap_or(Err(DescribeError::ServiceNotFound))
    }

    /// Describes services of one cluster with their tags, at most [`SERVICES_PER_CALL`]. The results are in the same order, one for each
    /// service.
    pub async fn describe_services(&self, keys: &[&ServiceKey]) -> Vec<Result<Service, DescribeError>> {
        match self.described(keys).await {
            Ok(answer) => keys.iter().map(|key| answer.service(key.service())).collect(),
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn described(&self, keys: &[&ServiceKey]) -> Result<Described, DescribeError> {
        let capture = Capture::default();
        let sent = self
            .send(async || {
                self.client
                    .describe_services()
                    .set_cluster(keys.first().map(|key| key.cluster().to_owned()))
                    .set_services(Some(keys.iter().map(|key| key.service().to_owned()).collect()))
                    .include(ServiceField::Tags)
                    .customize()
                    .interceptor(capture.clone())
                    .send()
                    .await
            })
            .await;
        if let Err(error) = &sent
            && error.as_service_error().is_some_and(DescribeServicesError::is_cluster_not_found_exception)
        {
            return Err(DescribeError::ClusterNotFound);
        }
        let body = capture.body(DESCRIBE_SERVICES, sent)?;
        Ok(serde_json::from_slice(&body).map_err(|error| CallError::unreadable(DESCRIBE_SERVICES, error))?)
    }

    /// Lists the service deployments of a service that were created between two times, newest first, as AWS answers. It reads one page,
    /// which holds more than a service has in minutes.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn list_service_deployments(
        &self,
        key: &ServiceKey,
        between: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<ServiceDeploymentSummary>, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            #[serde(default)]
            service_deployments: Vec<ServiceDeploymentSummary>,
        }
        const OPERATION: &str = "ecs:ListServiceDeployments";
        let time = |at: DateTime<Utc>| aws_smithy_types::DateTime::from_millis(at.timestamp_millis());
        let created = CreatedAt::builder().after(time(between.0)).before(time(between.1)).build();
        let capture = Capture::default();
        let sent = self
            .send(async || {
                self.client
                    .list_service_deployments()
                    .cluster(key.cluster())
                    .service(key.service())
                    .created_at(created.clone())
                    .customize()
                    .interceptor(capture.clone())
                    .send()
                    .await
            })
            .await;
        let body = capture.body(OPERATION, sent)?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| CallError::unreadable(OPERATION, error))?;
        Ok(answer.service_deployments)
    }

    /// Describes one service deployment by its ARN; `None` if ECS does not have it.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn describe_service_deployment(&self, arn: &str) -> Result<Option<ServiceDeployment>, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            #[serde(default)]
            service_deployments: Vec<ServiceDeployment>,
        }
        const OPERATION: &str = "ecs:DescribeServiceDeployments";
        let capture = Capture::default();
        let sent = self
            .send(async || {
                self.client
                    .describe_service_deployments()
                    .service_deployment_arns(arn)
                    .customize()
                    .interceptor(capture.clone())
                    .send()
                    .await
            })
            .await;
        let body = capture.body(OPERATION, sent)?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| CallError::unreadable(OPERATION, error))?;
        Ok(answer.service_deployments.into_iter().find(|deployment| deployment.service_deployment_arn == arn))
    }

    /// ARN of the task definition of a service revision; none if ECS does not tell it.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn task_definition_of_revision(&self, arn: &str) -> Result<Option<String>, CallError> {
        let revision = self.describe_service_revision(arn).await?;
        Ok(revision.and_then(|revision| revision.get("taskDefinition")?.as_str().map(str::to_owned)))
    }

    /// The digests of the images of a service revision, by container; none if ECS does not have it.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn images_of_revision(&self, arn: &str) -> Result<BTreeMap<String, String>, CallError> {
        let revision = self.describe_service_revision(arn).await?;
        Ok(revision.as_ref().map(running_images).unwrap_or_default())
    }

    /// ARN of the task definition that a service deployment replaces; none if ECS does not tell it.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn replaced_by(&self, service_deployment: &ServiceDeployment) -> Result<Option<String>, CallError> {
        match service_deployment.source_revision() {
            Some(revision) => self.task_definition_of_revision(revision).await,
            None => Ok(None),
        }
    }

    /// Reads from the service deployment of a service's `PRIMARY` deployment what that deployment replaced, if the service no longer tells,
    /// and whether it is a rollback ([`Service::replaced`], [`Service::is_a_rollback`]). If ECS may not be asked, or does not know, both
    /// stay unknown.
    ///
    /// # Errors
    ///
    /// Returns an error if a call failed that may succeed later.
    pub async fn look_at_primary(&self, service: &mut Service) -> Result<(), CallError> {
        let Some(arn) = service.service_deployment() else { return Ok(()) };
        let Some(known) = self.describe_service_deployment(arn).await.or_else(none_for_good)? else { return Ok(()) };
        service.is_a_rollback = known.is_rolled_back() == Some(true);
        if said_of_primary(service).predecessor_runs.is_none() {
            service.replaced = self.replaced_by(&known).await.or_else(none_for_good)?;
        }
        Ok(())
    }

    /// Describes a service revision by its ARN; `None` if ECS does not have it.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn describe_service_revision(&self, arn: &str) -> Result<Option<Map<String, Value>>, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            #[serde(default)]
            service_revisions: Vec<Map<String, Value>>,
        }
        const OPERATION: &str = "ecs:DescribeServiceRevisions";
        let capture = Capture::default();
        let sent = self
            .send(async || {
                self.client
                    .describe_service_revisions()
                    .service_revision_arns(arn)
                    .customize()
                    .interceptor(capture.clone())
                    .send()
                    .await
            })
            .await;
        let body = capture.body(OPERATION, sent)?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| CallError::unreadable(OPERATION, error))?;
        let is_asked = |it: &Map<String, Value>| it.get("serviceRevisionArn").and_then(Value::as_str) == Some(arn);
        Ok(answer.service_revisions.into_iter().find(is_asked))
    }

    /// Describes a task definition with its tags: by ARN, or the newest active revision of a family.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn describe_task_definition(&self, arn_or_family: &str) -> Result<TaskDefinition, CallError> {
        const OPERATION: &str = "ecs:DescribeTaskDefinition";
        let capture = Capture::default();
        let sent = self
            .send(async || {
                self.client
                    .describe_task_definition()
                    .task_definition(arn_or_family)
                    .include(TaskDefinitionField::Tags)
                    .customize()
                    .interceptor(capture.clone())
                    .send()
                    .await
            })
            .await;
        let body = capture.body(OPERATION, sent)?;
        TaskDefinition::from_answer(&body).map_err(|error| CallError::unreadable(OPERATION, error))
    }

    /// Registers `document` as a new revision, in one attempt, because ECS has no client token for this call.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed; [`CallError::effect`] says what it may have done.
    pub async fn register_task_definition(
        &self,
        document: &str,
        time: MutationTime,
    ) -> Result<TaskDefinition, CallError> {
        const OPERATION: &str = "ecs:RegisterTaskDefinition";
        let capture = Capture::default();
        let sent = self
            .send(async || {
                let body = document.to_owned();
                self.client
                    .register_task_definition()
                    .customize()
                    .config_override(one_attempt(time))
                    .interceptor(capture.clone())
                    .mutate_request(move |request| set_body(request, &body))
                    .send()
                    .await
            })
            .await;
        let body = capture.body(OPERATION, sent)?;
        TaskDefinition::from_answer(&body).map_err(|error| CallError::unreadable(OPERATION, error))
    }

    /// Updates the service, in one attempt, because ECS has no client token for this call. `tags` are the tags of the service, because the
    /// answer contains none.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed; [`CallError::effect`] says what it may have done.
    pub async fn update_service(
        &self,
        body: &str,
        tags: BTreeMap<String, String>,
        time: MutationTime,
    ) -> Result<Service, CallError> {
        const OPERATION: &str = "ecs:UpdateService";
        #[derive(Deserialize)]
        struct Answer {
            service: Map<String, Value>,
        }
        let capture = Capture::default();
        let sent = self
            .send(async || {
                let body = body.to_owned();
                self.client
                    .update_service()
                    .customize()
                    .config_override(one_attempt(time))
                    .interceptor(capture.clone())
                    .mutate_request(move |request| set_body(request, &body))
                    .send()
                    .await
            })
            .await;
        let body = capture.body(OPERATION, sent)?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| CallError::unreadable(OPERATION, error))?;
        Service::new(answer.service, Some(tags)).map_err(|what| CallError::unreadable(OPERATION, what))
    }

    /// Adds tags or changes their values, in one attempt, because a second one may be sent after another change has begun.
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn tag(
        &self,
        service_arn: &str,
        tags: &BTreeMap<String, String>,
        time: MutationTime,
    ) -> Result<(), CallError> {
        let tags: Vec<Tag> = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let sent = self.send(async || {
            self.client
                .tag_resource()
                .resource_arn(service_arn)
                .set_tags(Some(tags.clone()))
                .customize()
                .config_override(one_attempt(time))
                .send()
                .await
        });
        sent.await.map(drop).map_err(|error| call_error("ecs:TagResource", &error))
    }

    /// Stops a service deployment and rolls it back, in one attempt, like [`Ecs::tag`].
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn stop_service_deployment(&self, arn: &str, time: MutationTime) -> Result<(), CallError> {
        let sent = self.send(async || {
            self.client
                .stop_service_deployment()
                .service_deployment_arn(arn)
                .stop_type(StopServiceDeploymentStopType::Rollback)
                .customize()
                .config_override(one_attempt(time))
                .send()
                .await
        });
        sent.await.map(drop).map_err(|error| call_error("ecs:StopServiceDeployment", &error))
    }

    /// Continues a service deployment that waits at a pause hook, in one attempt, like [`Ecs::tag`].
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn continue_service_deployment(
        &self,
        arn: &str,
        hook_id: &str,
        time: MutationTime,
    ) -> Result<(), CallError> {
        let sent = self.send(async || {
            self.client
                .continue_service_deployment()
                .service_deployment_arn(arn)
                .hook_id(hook_id)
                .action(DeploymentLifecycleHookAction::Continue)
                .customize()
                .config_override(one_attempt(time))
                .send()
                .await
        });
        sent.await.map(drop).map_err(|error| call_error("ecs:ContinueServiceDeployment", &error))
    }

    /// Removes tags, in one attempt, like [`Ecs::tag`].
    ///
    /// # Errors
    ///
    /// Returns an error if the call failed.
    pub async fn untag(
        &self,
        service_arn: &str,
        keys: impl IntoIterator<Item = String>,
        time: MutationTime,
    ) -> Result<(), CallError> {
        let keys: Vec<String> = keys.into_iter().collect();
        let sent = self.send(async || {
            self.client
                .untag_resource()
                .resource_arn(service_arn)
                .set_tag_keys(Some(keys.clone()))
                .customize()
                .config_override(one_attempt(time))
                .send()
                .await
        });
        sent.await.map(drop).map_err(|error| call_error("ecs:UntagResource", &error))
    }
}

impl fmt::Display for DescribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterNotFound => f.write_str("cluster not found"),
            Self::ServiceNotFound => f.write_str("service not found"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

fn one_attempt(time: MutationTime) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(time.timeout)
        .operation_attempt_timeout(time.timeout)
        .operation_timeout(time.timeout)
        .build();
    Config::builder()
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        .interceptor(NotAfter(time.latest_start))
}
