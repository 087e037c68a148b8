//! How records contain values that may be secret: a keyed hash shows whether two values are equal, and nothing else.
//!
//! Whoever can act as the updater can read the keys, and can therefore guess short values.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::canonical_json;
use crate::ecs::service::is_known;
use crate::ids::ServiceKey;
use crate::mask::may_be_secret;
use crate::text::hex;

/// A key in the state table. A new one may be created at any time; the old ones are kept for comparison.
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

    /// `h{key}:` and 32 hex digits. The same value in another service or at another path has a different hash.
    ///
    /// # Errors
    ///
    /// Where the value has no canonical JSON.
    pub fn hash(&self, service: &ServiceKey, path: &str, value: &Value) -> serde_json::Result<String> {
        let text = format!("{service}\0{path}\0{}", canonical_json::to_string(value)?);
        // HMAC accepts keys of any length, so the default is never used.
        let mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).map(|mac| mac.chain_update(text).finalize().into_bytes());
        let digest = mac.unwrap_or_default();
        Ok(format!("h{}:{}", self.name, hex(digest.get(..16).unwrap_or_default())))
    }
}

/// Replaces a value about which nothing is revealed.
const UNKNOWN: &str = "hidden";

/// Whether a parameter holds something that may be secret.
#[must_use]
pub fn holds_secrets(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| may_be_secret(name) || holds_secrets(value)),
        Value::Array(items) => items.iter().any(holds_secrets),
        _ => false,
    }
}

/// Whether the value given for a parameter holds something that may be secret. Everything may be secret in a parameter that is not known
/// here.
#[must_use]
pub fn parameter_holds_secrets(name: &str, value: &Value) -> bool {
    holds_secrets(value) || (!is_known(name) && !value.is_null())
}

/// The value of a parameter in which each leaf that may be secret is replaced by its keyed hash. Without a key, it is replaced by a word
/// that matches no value.
///
/// # Errors
///
/// Where a value has no canonical JSON.
pub fn hidden(key: Option<&HiddenKey>, service: &ServiceKey, path: &str, value: &Value) -> serde_json::Result<Value> {
    hide(key, service, path, value, !is_known(path))
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
            None => Ok(Value::from(UNKNOWN)),
        },
        value => Ok(value.clone()),
    }
}

/// Whether some part of a value that may be secret has the form that [`hidden`] writes.
#[must_use]
pub fn is_hidden(value: &Value) -> bool {
    has_hidden(value, false)
}

fn has_hidden(value: &Value, is_secret: bool) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(name, value)| has_hidden(value, is_secret || may_be_secret(name)))
        }
        Value::Array(items) => items.iter().any(|item| has_hidden(item, is_secret)),
        Value::String(text) => is_secret && (text == UNKNOWN || is_hash(text)),
        _ => false,
    }
}

fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix('h').and_then(|rest| rest.split_once(':'));
    digits.is_some_and(|(name, hash)| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_digit())
            && hash.len() == 32
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The value as it was before it was hidden, if each hidden leaf in it matches what `is` has in the same place; otherwise `None`.
#[must_use]
pub fn revealed(key: Option<&HiddenKey>, service: &ServiceKey, path: &str, was: &Value, is: &Value) -> Option<Value> {
    reveal(key, service, path, was, is, false)
}

fn reveal(
    key: Option<&HiddenKey>,
    service: &ServiceKey,
    path: &str,
    was: &Value,
    is: &Value,
    is_secret: bool,
) -> Option<Value> {
    match was {
        Value::Object(members) => {
            let revealed = members.iter().map(|(name, was)| {
                let is = is.get(name).unwrap_or(&Value::Null);
                let was = reveal(key, service, &format!("{path}.{name}"), was, is, is_secret || may_be_secret(name))?;
                Some((name.clone(), was))
            });
            revealed.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Value::Array(items) => {
            let revealed = items.iter().enumerate().map(|(index, was)| {
                let is = is.get(index).unwrap_or(&Value::Null);
                reveal(key, service, &format!("{path}[{index}]"), was, is, is_secret)
            });
            revealed.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        was if has_hidden(was, is_secret) => {
            let hash = key?.hash(service, path, is).ok()?;
            (was.as_str() == Some(&hash)).then(|| is.clone())
        }
        was => Some(was.clone()),
    }
}

/// Two values of a parameter as they are shown to people: each leaf that may be secret is replaced by a word. It says only that the value
/// is there or was removed, and on the new side whether it was added or differs.
#[must_use]
pub fn in_words(from: &Value, to: &Value) -> (Value, Value) {
    (words(from, to, false, false), words(to, from, false, true))
}

fn words(value: &Value, other: &Value, is_secret: bool, is_new: bool) -> Value {
    let missing = &Value::Null;
    match value {
        Value::Object(members) => {
            let worded = members.iter().map(|(name, value)| {
                let other = other.get(name).unwrap_or(missing);
                (name.clone(), words(value, other, is_secret || may_be_secret(name), is_new))
            });
            Value::Object(worded.collect())
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.map(|(index, value)| words(value, other.get(index).unwrap_or(missing), is_secret, is_new)).collect()
        }
        Value::Null => Value::Null,
        value if is_secret => word(value, other, is_new),
        value => value.clone(),
    }
}

/// The word for a value that may be secret as a whole; null if there is no value.
fn word(value: &Value, other: &Value, is_new: bool) -> Value {
    match (is_new, other) {
        _ if value.is_null() => return Value::Null,
        (_, other) if other == value => UNKNOWN,
        (true, Value::Null) => "added",
        (true, _) => "changed",
        (false, Value::Null) => "removed",
        (false, _) => UNKNOWN,
    }
    .into()
}

/// Two values that may be secret as a whole, as they are shown to people.
#[must_use]
pub fn as_words(from: &Value, to: &Value) -> (Value, Value) {
    (word(from, to, false), word(to, from, true))
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
        assert!(is_hidden(&hidden) && !is_hidden(&connect));
        let back = |is: &Value| revealed(Some(&key("2")), &service("web"), "serviceConnectConfiguration", &hidden, is);
        assert_eq!(back(&connect), Some(connect.clone()));
        let mut other = connect.clone();
        other["enabled"] = json!(false);
        assert_eq!(back(&other), Some(connect.clone()), "what is not hidden is known");
        other["logConfiguration"]["options"]["splunk-token"] = json!("another");
        assert_eq!(back(&other), None);
        assert_eq!(back(&json!({})), None);
        // Only in a place that may be secret: elsewhere, a text that looks like a hash is an ordinary text.
        let named = json!({"namespace": "hidden", "discoveryName": format!("h1:{}", "0".repeat(32))});
        assert!(!is_hidden(&named));
        assert_eq!(revealed(None, &service("web"), "serviceConnectConfiguration", &named, &json!({})), Some(named));
    }

    #[test]
    fn people_are_told_whether_a_secret_is_another_one() {
        let options = |options: Value| json!({"logDriver": "splunk", "options": options});
        let from = options(json!({"same": "1", "other": "2", "gone": "3"}));
        let to = options(json!({"same": "1", "other": "9", "new": "4"}));
        let told = in_words(&from, &to);
        assert_eq!(told.0, options(json!({"same": "hidden", "other": "hidden", "gone": "removed"})));
        assert_eq!(told.1, options(json!({"same": "hidden", "other": "changed", "new": "added"})));
        assert_eq!(in_words(&Value::Null, &json!({"a": 1})), (Value::Null, json!({"a": 1})));
    }
}
