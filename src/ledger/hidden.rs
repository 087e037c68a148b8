//! Values that may be secret, as records hold them: a keyed hash tells equal from different, and nothing else.
//!
//! Who can become the updater can read the keys, and so guess short values.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

use super::record::hex;
use crate::canonical;
use crate::names::ServiceKey;

/// A key of the state table. A new one may be made at any time; the old ones stay, to compare.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenKey {
    /// Its name in hashes: `1` for the first.
    pub name: String,
    /// 32 random bytes.
    pub secret: [u8; 32],
}

impl fmt::Debug for HiddenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HiddenKey({})", self.name)
    }
}

impl HiddenKey {
    /// Id of the item of a key.
    #[must_use]
    pub fn id(name: &str) -> String {
        format!("secret#{name}")
    }

    /// `h{key}:` and 32 hex digits: the same value elsewhere looks different.
    ///
    /// # Errors
    ///
    /// Where the value has no canonical JSON.
    pub fn hash(&self, service: &ServiceKey, path: &str, value: &Value) -> serde_json::Result<String> {
        let text = format!("{service}\0{path}\0{}", canonical::to_string(value)?);
        // HMAC takes keys of any length: the default cannot come up.
        let mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).map(|mac| mac.chain_update(text).finalize().into_bytes());
        let digest = mac.unwrap_or_default();
        Ok(format!("h{}:{}", self.name, hex(digest.get(..16).unwrap_or_default())))
    }
}

/// Whether a member of a service parameter may hold a secret: what logs, drivers and hooks are told.
/// Source: free texts of `UpdateService`,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>.
fn may_be_secret(name: &str) -> bool {
    ["options", "driverOpts", "hookDetails"].contains(&name)
}

/// Whether a parameter holds something that may be secret.
#[must_use]
pub fn holds_secrets(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| may_be_secret(name) || holds_secrets(value)),
        Value::Array(items) => items.iter().any(holds_secrets),
        _ => false,
    }
}

/// The value with the keyed hash of each leaf that may be secret in its place. Without a key, a word stands there, which equals nothing.
///
/// # Errors
///
/// Where a value has no canonical JSON.
pub fn hidden(key: Option<&HiddenKey>, service: &ServiceKey, path: &str, value: &Value) -> serde_json::Result<Value> {
    hide(key, service, path, value, false)
}

fn hide(
    key: Option<&HiddenKey>,
    service: &ServiceKey,
    path: &str,
    value: &Value,
    is_secret: bool,
) -> serde_json::Result<Value> {
    match value {
        Value::Object(members) => {
            let hidden = members.iter().map(|(name, value)| {
                let value = hide(key, service, &format!("{path}.{name}"), value, is_secret || may_be_secret(name))?;
                Ok((name.clone(), value))
            });
            hidden.collect::<serde_json::Result<Map<_, _>>>().map(Value::Object)
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            let hidden = items.map(|(index, value)| hide(key, service, &format!("{path}[{index}]"), value, is_secret));
            hidden.collect::<serde_json::Result<Vec<_>>>().map(Value::Array)
        }
        Value::Null => Ok(Value::Null),
        value if is_secret => match key {
            Some(key) => key.hash(service, path, value).map(Value::from),
            None => Ok(Value::from("hidden")),
        },
        value => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str) -> HiddenKey {
        HiddenKey { name: name.to_owned(), secret: [7; 32] }
    }

    fn service(name: &str) -> ServiceKey {
        ServiceKey::parse(&format!("222222222222/eu-west-1/prod/{name}")).unwrap()
    }

    #[test]
    fn the_same_value_elsewhere_looks_different() {
        let hash =
            |service_name: &str, path: &str, value: &Value| key("1").hash(&service(service_name), path, value).unwrap();
        let one = hash("web", "a", &json!("token"));
        assert!(one.starts_with("h1:") && one.len() == 3 + 32, "{one}");
        assert_eq!(one, hash("web", "a", &json!("token")));
        for other in
            [hash("api", "a", &json!("token")), hash("web", "b", &json!("token")), hash("web", "a", &json!("Token"))]
        {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn only_what_may_be_secret_is_hidden() {
        let connect = json!({"enabled": true, "logConfiguration": {"logDriver": "splunk",
            "options": {"splunk-token": "do-not-show-me", "splunk-url": "https://x"},
            "secretOptions": [{"name": "a", "valueFrom": "arn:aws:ssm:x"}]}});
        assert!(holds_secrets(&connect) && !holds_secrets(&json!({"enabled": true})));
        let hidden = hidden(Some(&key("2")), &service("web"), "serviceConnectConfiguration", &connect).unwrap();
        assert!(!hidden.to_string().contains("do-not-show-me"), "{hidden}");
        assert_eq!(hidden["logConfiguration"]["logDriver"], "splunk");
        assert_eq!(hidden["logConfiguration"]["secretOptions"], connect["logConfiguration"]["secretOptions"]);
        let token = hidden["logConfiguration"]["options"]["splunk-token"].as_str().unwrap();
        assert!(token.starts_with("h2:"), "{token}");
    }
}
