//! Which registries may be asked, and how.

use std::collections::{BTreeMap, BTreeSet};

/// What is configured about registries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `REGISTRY_CREDENTIALS`: host, with its port where it has one, to the ARN of a secret.
    pub credentials: BTreeMap<String, String>,
    /// `REGISTRY_ALLOW_HTTP`: hosts, with their port where they have one, that are asked over http.
    pub allow_http: BTreeSet<String>,
    /// `REGISTRY_ALLOW_PRIVATE`: host names or addresses, without port, that may be in a private network.
    pub allow_private: BTreeSet<String>,
}
