//! Sessions in target accounts.

use std::sync::Arc;
use std::time::Duration;

use crate::aws::retry_partition;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as ProvidedCredentials;
use aws_sdk_sts::Client;
use aws_smithy_async::time::SharedTimeSource;
use domain::call_error::CallError;
use domain::mask::Mask;
use sdk_error::call_error;
use tokio::sync::Mutex;

/// The shortest and longest session that `AssumeRole` gives if the role allows no more, in seconds.
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
const DURATION_SECONDS: (u64, u64) = (900, 3600);

/// The parameters of a session to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// ARN of the role in the target account.
    pub role_arn: String,
    /// `RoleSessionName`: leads from the target's CloudTrail back to the record.
    pub session_name: String,
    /// `SourceIdentity`, if the caller is verified.
    pub source_identity: Option<String>,
    /// `ExternalId`, if one is configured.
    pub external_id: Option<String>,
    /// The inline session policy, if the session may do less than its role.
    pub policy: Option<String>,
    /// How long the session is needed.
    pub needed_for: Duration,
}

/// `ecsu-` and the Lambda request id, in the characters and length that STS accepts.
#[must_use]
pub fn session_name(request_id: &str) -> String {
    identity_characters(format!("ecsu-{request_id}").chars())
}

/// A requester in the form that `SourceIdentity` accepts; none if too little of it is left. For an assumed role, it is the name of the
/// session, which distinguishes the people who use one role, followed by the role; for anybody else, it is the end of the name.
#[must_use]
pub fn source_identity(requested_by: &str) -> Option<String> {
    let assumed = requested_by.split_once(":assumed-role/").and_then(|(_, name)| name.rsplit_once('/'));
    let reduced = if let Some((role, session)) = assumed {
        identity_characters(format!("{session},{role}").chars())
    } else {
        let beyond = requested_by.chars().count().saturating_sub(MAX_IDENTITY_CHARACTERS);
        identity_characters(requested_by.chars().skip(beyond))
    };
    (reduced.len() >= 2).then_some(reduced)
}

/// The most characters of a `SourceIdentity`, and of a `RoleSessionName`.
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.
const MAX_IDENTITY_CHARACTERS: usize = 64;

/// STS accepts 2 to 64 characters of `[\w+=,.@-]`.
fn identity_characters(text: impl Iterator<Item = char>) -> String {
    let taken = |c: char| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '-' };
    text.map(taken).take(MAX_IDENTITY_CHARACTERS).collect()
}

/// How long before its end a session is renewed: longer than a call may take, including retries.
const RENEWED_BEFORE_END: Duration = Duration::from_mins(1);

/// STS of the hub account, at its regional endpoint.
#[derive(Debug, Clone)]
pub struct Sessions {
    client: Client,
    time: SharedTimeSource,
}

impl Sessions {
    /// STS in the function's own region.
    #[must_use]
    pub fn new(shared: &SdkConfig) -> Self {
        let config = aws_sdk_sts::config::Builder::from(shared).retry_partition(retry_partition("sts"));
        Self { client: Client::from_conf(config.build()), time: shared.time_source().unwrap_or_default() }
    }

    /// Assumes a role. The returned session assumes it again when it is about to expire.
    ///
    /// # Errors
    ///
    /// Returns an error if STS refuses or cannot be reached.
    pub async fn assume(&self, session: SessionRequest) -> Result<Arc<Session>, CallError> {
        let credentials = self.credentials(&session).await?;
        let current = Mutex::new(Current { credentials, is_renewed: false });
        Ok(Arc::new(Session { sessions: self.clone(), request: session, current }))
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
                call_error(OPERATION, &error).without(&mask)
            })?;
        let credentials =
            answer.credentials.ok_or_else(|| CallError::unreadable(OPERATION, "it has no credentials"))?;
        // If an answer was cut off, the SDK returns the part that it has, and nothing for the rest.
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

/// A session in a target account, for the clients of all its regions. They ask it for credentials before every call.
#[derive(Debug)]
pub struct Session {
    sessions: Sessions,
    request: SessionRequest,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    credentials: Credentials,
    /// Whether the role was assumed anew because AWS called credentials expired whose end was not reached.
    is_renewed: bool,
}

impl Session {
    async fn current(&self) -> Result<Credentials, CallError> {
        let mut current = self.current.lock().await;
        if current.credentials.expiry().is_some_and(|end| end < self.sessions.time.now() + RENEWED_BEFORE_END) {
            current.credentials = self.sessions.credentials(&self.request).await?;
        }
        Ok(current.credentials.clone())
    }

    /// The access key that the next call uses, for [`Session::renew`].
    pub(super) async fn access_key(&self) -> String {
        self.current.lock().await.credentials.access_key_id().to_owned()
    }

    /// Assumes the role anew, because AWS called the credentials with this access key expired although their end was not reached. This is
    /// done once for a session, so that an AWS that calls everything expired is not asked without end. Returns whether the session has
    /// other credentials now.
    pub(super) async fn renew(&self, access_key: &str) -> bool {
        let mut current = self.current.lock().await;
        if current.credentials.access_key_id() != access_key {
            return true;
        }
        if std::mem::replace(&mut current.is_renewed, true) {
            return false;
        }
        match self.sessions.credentials(&self.request).await {
            Ok(credentials) => {
                current.credentials = credentials;
                true
            }
            Err(error) => {
                tracing::warn!("ECS called a session expired, and the role could not be assumed anew: {error}");
                false
            }
        }
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
        let path = format!("arn:aws:iam::1:user/{}/ann", "p".repeat(60));
        assert!(source_identity(&path).unwrap().ends_with("p-ann"));
    }

    #[test]
    fn two_users_of_one_permission_set_are_told_apart() {
        let role = "AWSReservedSSO_AdministratorAccess-for-everybody_0123456789abcdef";
        let user = |name: &str| source_identity(&format!("arn:aws:sts::111111111111:assumed-role/{role}/{name}"));
        assert_eq!(user("ann@example.com").unwrap(), format!("ann@example.com,{role}")[..64]);
        assert_ne!(user("ann@example.com"), user("bob@example.com"));
        // The longest session name leaves no room for the role.
        assert_eq!(user(&"n".repeat(64)), Some("n".repeat(64)));
    }
}
