//! The session in a target account, restricted to exactly the services that it is for.

use std::sync::Arc;

use domain::error::{Code, Failure};
use domain::event::request::UpdateRequest;
use domain::ids::ServiceKey;
use domain::session_policy::{SessionPurpose, session_policy};

use super::target::{AccountClients, Definitions};
use super::{Invocation, Updater, messages};
use crate::aws::ecs::Ecs;
use crate::aws::sessions::{Session, SessionRequest, session_name, source_identity};

impl Updater {
    /// A session that is restricted to the service of `request`.
    pub(super) async fn session(
        &self,
        request: &UpdateRequest,
        invocation: &Invocation,
    ) -> Result<Arc<Session>, Failure> {
        let (services, purpose) = ([&request.service_key], request.purpose());
        let opened = self.open_session(&services, purpose, request.requested_by.as_deref(), invocation).await;
        opened.map_err(|refused| refused.failure)
    }

    /// A session that may change these services, or act on their deployments. All of them are in one account.
    pub(super) async fn open_session(
        &self,
        services: &[&ServiceKey],
        purpose: SessionPurpose,
        requested_by: Option<&str>,
        invocation: &Invocation,
    ) -> Result<Arc<Session>, SessionError> {
        let account = services.first().map_or("", |key| key.account_id().as_str());
        let partition = invocation.function.as_ref().map_or("aws", |function| function.partition.as_str());
        let role_arn = format!("arn:{partition}:iam::{account}:role/{}", self.config.target_role_name);
        if let Some(allowed) = &self.allowed {
            let allowed = allowed.at((self.clock)()).await;
            let allowed = allowed.map_err(|why| messages::allowed_accounts_unknown(&role_arn, account, &why))?;
            if !allowed.contains(account) {
                return Err(messages::account_not_allowed(&role_arn, account).into());
            }
        }
        let left = (invocation.deadline - (self.clock)()).to_std().unwrap_or_default();
        let session = SessionRequest {
            role_arn: role_arn.clone(),
            session_name: session_name(&invocation.request_id),
            source_identity: requested_by.filter(|_| invocation.is_verified()).and_then(source_identity),
            external_id: self.config.external_id.clone(),
            policy: Some(
                session_policy(services, purpose)
                    .map_err(|error| Failure::new(Code::AssumeRoleFailed, format!("{role_arn}: {error}")))?,
            ),
            needed_for: left,
        };
        self.sessions.assume(session).await.map_err(|error| SessionError {
            failure: messages::assume_role_failed(&role_arn, account, &error),
            is_too_large: error.has_code(&["PackedPolicyTooLarge", "PackedPolicyTooLargeException"]),
        })
    }

    /// Clients for the account and region of a service, through a session.
    pub(super) fn target(
        &self,
        key: &ServiceKey,
        session: Arc<Session>,
        definitions: &Arc<Definitions>,
    ) -> AccountClients {
        AccountClients {
            ecs: Ecs::new(&self.shared, key.region().as_str(), session),
            limits: self.limits.of(key),
            definitions: Arc::clone(definitions),
        }
    }
}

/// Why a session could not be opened.
pub(super) struct SessionError {
    pub(super) failure: Failure,
    /// Whether a session for fewer services might be possible.
    pub(super) is_too_large: bool,
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> Self {
        Self { failure, is_too_large: false }
    }
}
