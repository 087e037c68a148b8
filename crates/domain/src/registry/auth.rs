//! Authentication at a registry: credentials, and the challenge of a registry that requires a token.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DOCKER_HUB, DOCKER_HUB_TOKENS};

/// Name and password for a registry, in the form of the secrets that ECS accepts for private registries.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// A further host to which they may be sent, because the registry's tokens come from there.
    pub token_host: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// Whether `host` may be sent the credentials for `registry`.
    #[must_use]
    pub fn are_for(&self, registry: &str, host: &str) -> bool {
        host == registry
            || self.token_host.as_deref() == Some(host)
            || (registry == DOCKER_HUB && host == DOCKER_HUB_TOKENS)
    }
}

/// How a registry requires a request to be authenticated. Source: RFC 9110, section 11.6.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// With name and password.
    Basic,
    /// With a token from `realm`.
    Bearer {
        /// URL that issues tokens.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; `None` if it requires something that is not supported.
    #[must_use]
    pub fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        let mut parameters = scheme.eq_ignore_ascii_case("bearer").then(|| parameters(rest))?;
        Some(Self::Bearer { realm: parameters.remove("realm")?, service: parameters.remove("service") })
    }
}

/// `name=value` and `name="value"`, joined by commas.
fn parameters(mut text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    while let Some((name, rest)) = text.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let value;
        if let Some(quoted) = rest.strip_prefix('"') {
            let Some((inside, after)) = quoted.split_once('"') else { break };
            (value, text) = (inside, after);
        } else {
            (value, text) = rest.split_once(',').unwrap_or((rest, ""));
        }
        parameters.entry(name).or_insert_with(|| value.trim().to_owned());
    }
    parameters
}
