//! Tags of services.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Refusal, refusal};

const MAX_TAGS: usize = 50;

/// Tags as the API lists them.
pub fn tag_list<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    tags.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// The tags of such a list, by key.
#[must_use]
pub fn tag_map(tags: &Value) -> BTreeMap<String, String> {
    let text = |tag: &Value, name: &str| tag[name].as_str().unwrap_or_default().to_owned();
    tags.as_array().into_iter().flatten().map(|tag| (text(tag, "key"), text(tag, "value"))).collect()
}

/// Whether a key or value is reserved for AWS.
pub(super) fn reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

/// Tags of a service with a short ARN, without its cluster, are refused. Source: <https://github.com/boto/boto3/issues/2473>.
/// With the long ARN in its place, AWS migrates the service if the account's settings permit it; here they do not.
pub(super) fn check_long_arn(arn: &str) -> Result<(), Refusal> {
    match arn.split_once(":service/") {
        Some((_, names)) if !names.contains('/') => {
            refusal("InvalidParameterException", "Long arn format must be used for tagging operations")
        }
        _ => Ok(()),
    }
}

pub(super) fn tag_resource(service: &mut Map<String, Value>, input: &Value) -> Result<(), Refusal> {
    let mut tags = tag_map(&service["tags"]);
    let given = tag_map(&input["tags"]);
    if given.is_empty() || input["tags"].as_array().map(Vec::len) != Some(given.len()) {
        return refusal("InvalidParameterException", "Tags can not be empty or hold a key twice.");
    }
    if given.iter().any(|(k, v)| reserved(k) || reserved(v)) {
        return refusal("InvalidParameterException", "aws: prefixed tag key names are not allowed for external use.");
    }
    tags.extend(given);
    if tags.keys().filter(|k| !reserved(k)).count() > MAX_TAGS {
        return refusal("InvalidParameterException", "The number of tags on the resource cannot be more than 50.");
    }
    service.insert("tags".into(), tag_list(tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
    Ok(())
}

pub(super) fn untag_resource(service: &mut Map<String, Value>, input: &Value) -> Result<(), Refusal> {
    let keys: Vec<String> =
        input["tagKeys"].as_array().into_iter().flatten().filter_map(|k| k.as_str().map(Into::into)).collect();
    if keys.is_empty() {
        return refusal("InvalidParameterException", "Tag keys can not be empty.");
    }
    if keys.iter().any(|k| reserved(k)) {
        return refusal("InvalidParameterException", "aws: prefixed tag key names are not allowed for external use.");
    }
    let mut tags = tag_map(&service["tags"]);
    tags.retain(|k, _| !keys.contains(k));
    service.insert("tags".into(), tag_list(tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
    Ok(())
}
