//! Sessions in target accounts.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as ProvidedCredentials;
use aws_sdk_sts::Client;
use aws_smithy_async::time::SharedTimeSource;
use serde_json::Value;
use tokio::sync::Mutex;

use super::CallError;
use crate::mask::Mask;
use crate::names::ServiceKey;

/// What a session may do: the document of `policies/session.json`.
const SESSION_POLICY: &str = include_str!("../../policies/session.json");

/// Shortest and longest session that `AssumeRole` gives without more being allowed by the role, in seconds.
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
const DURATION_SECONDS: (u64, u64) = (900, 3600);

/// A session to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// ARN of the role in the target account.
    pub role_arn: String,
    /// `RoleSessionName`: leads from the target's CloudTrail back to the record.
    pub session_name: String,
    /// `SourceIdentity`, where the caller is vouched for.
    pub source_identity: Option<String>,
    /// `ExternalId`, where one is configured.
    pub external_id: Option<String>,
    /// Inline session policy, where the session may do less than its role.
    pub policy: Option<String>,
    /// How long the session is needed.
    pub needed_for: Duration,
}

/// `ecsu-` and the Lambda request id, in the characters and length that STS takes.
#[must_use]
pub fn session_name(request_id: &str) -> String {
    identity_characters(&format!("ecsu-{request_id}"))
}

/// A requester as `SourceIdentity` takes it; none where too little is left of it.
#[must_use]
pub fn source_identity(requested_by: &str) -> Option<String> {
    let reduced = identity_characters(requested_by);
    (reduced.len() >= 2).then_some(reduced)
}

/// STS takes 2 to 64 of `[\w+=,.@-]`.
fn identity_characters(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '-' }).take(64).collect()
}

/// The most characters of an inline session policy.
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
pub const MAX_POLICY_CHARACTERS: usize = 2048;

/// How long before its end a session is renewed: longer than a call may take, retries included.
const RENEWED_BEFORE_END: Duration = Duration::from_mins(1);

/// The session policy that allows mutating service calls on these services only, without needless white space.
///
/// # Errors
///
/// Where `policies/session.json` is no JSON.
pub fn session_policy(services: &[&ServiceKey]) -> serde_json::Result<String> {
    let mut document: Value = serde_json::from_str(SESSION_POLICY)?;
    let statements = document.get_mut("Statement").and_then(Value::as_array_mut).into_iter().flatten();
    for resources in statements.filter_map(|statement| statement.get_mut("Resource")?.as_array_mut()) {
        let templates = std::mem::take(resources);
        for key in services {
            resources.extend(templates.iter().filter_map(Value::as_str).map(|template| {
                let resource = template
                    .replace("__REGION__", key.region().as_str())
                    .replace("__CLUSTER__", key.cluster())
                    .replace("__SERVICE__", key.service());
                Value::from(resource)
            }));
        }
    }
    Ok(document.to_string())
}

/// The hub's STS, at its regional endpoint.
#[derive(Debug, Clone)]
pub struct Sessions {
    client: Client,
    time: SharedTimeSource,
}

impl Sessions {
    /// STS in the function's own region.
    #[must_use]
    pub fn new(shared: &SdkConfig) -> Self {
        Self { client: Client::new(shared), time: shared.time_source().unwrap_or_default() }
    }

    /// Assumes a role. What comes back assumes it again when the session is about to expire.
    ///
    /// # Errors
    ///
    /// Where STS refuses or cannot be reached.
    pub async fn assume(&self, session: SessionRequest) -> Result<Session, CallError> {
        let first = self.credentials(&session).await?;
        Ok(Session { sessions: self.clone(), request: session, current: Mutex::new(first) })
    }

    async fn credentials(&self, session: &SessionRequest) -> Result<Credentials, CallError> {
        const OPERATION: &str = "sts:AssumeRole";
        let seconds = session.needed_for.as_secs().clamp(DURATION_SECONDS.0, DURATION_SECONDS.1);
        let answer = self
            .client
            .assume_role()
            .role_arn(&session.role_arn)
            .role_session_name(&session.session_name)
            .set_source_identity(session.source_identity.clone())
            .set_external_id(session.external_id.clone())
            .set_policy(session.policy.clone())
            .duration_seconds(i32::try_from(seconds).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| {
                let mask = session.external_id.iter().fold(Mask::default(), |mask, id| mask.and(id));
                CallError::new(OPERATION, &error).without(&mask)
            })?;
        let credentials =
            answer.credentials.ok_or_else(|| CallError::unreadable(OPERATION, "it has no credentials"))?;
        // Of an answer that was cut off the SDK gives what it has, and nothing for the rest.
        let texts = [&credentials.access_key_id, &credentials.secret_access_key, &credentials.session_token];
        if texts.iter().any(|text| text.is_empty()) || credentials.expiration.secs() <= 0 {
            return Err(CallError::unreadable(OPERATION, "its credentials are not complete"));
        }
        Ok(Credentials::new(
            credentials.access_key_id,
            credentials.secret_access_key,
            Some(credentials.session_token),
            std::time::SystemTime::try_from(credentials.expiration).ok(),
            "AssumeRole",
        ))
    }
}

/// A session in a target account, for the clients of all its regions. They ask it before every call.
#[derive(Debug)]
pub struct Session {
    sessions: Sessions,
    request: SessionRequest,
    current: Mutex<Credentials>,
}

impl Session {
    async fn current(&self) -> Result<Credentials, CallError> {
        let mut current = self.current.lock().await;
        if current.expiry().is_some_and(|end| end < self.sessions.time.now() + RENEWED_BEFORE_END) {
            *current = self.sessions.credentials(&self.request).await?;
        }
        Ok(current.clone())
    }
}

impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        ProvidedCredentials::new(async { self.current().await.map_err(CredentialsError::provider_error) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_sts_takes() {
        assert_eq!(session_name("8f5a"), "ecsu-8f5a");
        assert_eq!(session_name("a b/ü"), "ecsu-a-b--");
        assert_eq!(session_name(&"x".repeat(100)).len(), 64);
        assert_eq!(
            source_identity("arn:aws:iam::1:user/ann@example"),
            Some("arn-aws-iam--1-user-ann@example".to_owned())
        );
        assert_eq!(source_identity("a"), None);
    }

    #[test]
    fn the_session_policy_fits_sts_with_the_longest_names() {
        let longest = "x".repeat(255);
        let policy = session_policy(&[&key("ap-southeast-2", &longest, &longest)]).unwrap();
        assert!(policy.len() <= MAX_POLICY_CHARACTERS, "{}", policy.len());
        assert!(!policy.contains("__"), "{policy}");
    }

    fn key(region: &str, cluster: &str, service: &str) -> ServiceKey {
        use crate::names::{AccountId, EcsName, Region};
        let name = |name| EcsName::parse(name).unwrap();
        let account = AccountId::parse("222222222222").unwrap();
        ServiceKey::new(account, Region::parse(region).unwrap(), name(cluster), name(service))
    }

    #[test]
    fn the_session_policy_names_exactly_its_services() {
        let (one, two) = (key("eu-west-1", "c", "s"), key("us-east-1", "d", "s"));
        let policy: Value = serde_json::from_str(&session_policy(&[&one, &two]).unwrap()).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let services = statements.iter().find(|statement| statement["Sid"] == "ThisServiceOnly").unwrap();
        assert_eq!(
            services["Resource"],
            serde_json::json!([
                "arn:*:ecs:eu-west-1:*:service/c/s",
                "arn:*:ecs:eu-west-1:*:service/s",
                "arn:*:ecs:us-east-1:*:service/d/s",
                "arn:*:ecs:us-east-1:*:service/s"
            ])
        );
        assert_eq!(statements.iter().filter(|statement| statement["Resource"] == "*").count(), 1);
    }
}
