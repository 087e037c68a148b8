//! Pure: values that no message may show, and messages without them.
//!
//! AWS repeats in its errors what it was sent. So each value of a definition, a service or an event that may be secret ([`may_be_secret`])
//! is searched for in each message and hidden.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

/// Replaces what a message must not show.
pub const HIDDEN: &str = "***";
/// A value of at least this many bytes is hidden wherever it occurs. A shorter one occurs in many words that have nothing to do with it.
const LONG_BYTES: usize = 4;

/// Whether a member of a task definition or of a parameter of `UpdateService` may hold a secret, in itself or in anything nested in it: the
/// environment, command lines, labels, options of logs, drivers, proxies and hooks, the value of a header that marks test traffic, and the
/// policy of a trusted execution, which repeats how containers are configured ("which containers are allowed to run and the runtime
/// configuration that is cryptographically attested", says the service model). References to secrets are not secrets.
///
/// Sources: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateService.html>,
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ServiceConnectTestTrafficHeaderMatchRules.html>.
#[must_use]
pub fn may_be_secret(member: &str) -> bool {
    [
        "environment",
        "command",
        "entryPoint",
        "dockerLabels",
        "labels",
        "options",
        "driverOpts",
        "properties",
        "hookDetails",
        "exact",
        "attestationPolicy",
    ]
    .contains(&member)
}

/// Values that no message may show.
#[derive(Clone, Default)]
pub struct Mask {
    /// The longest come first, so that no pieces of a value remain.
    values: BTreeSet<(Reverse<usize>, String)>,
    shown: Vec<String>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} values)", self.values.len())
    }
}

impl Mask {
    /// Adds a value to hide.
    #[must_use]
    pub fn and(mut self, value: &str) -> Self {
        self.add(value);
        self
    }

    /// Adds the values of a document that may be secret.
    #[must_use]
    pub fn and_of(mut self, document: &Value) -> Self {
        self.collect(document, false);
        self
    }

    /// Marks a text, such as a name or an image, as not secret, whatever it contains.
    #[must_use]
    pub fn but(mut self, shown: impl Into<String>) -> Self {
        self.shown.push(shown.into());
        self
    }

    fn add(&mut self, value: &str) {
        // Also in the form that the value has in a JSON body.
        let json = Value::from(value).to_string();
        for text in [value, json.get(1..json.len() - 1).unwrap_or_default()] {
            if !text.trim().is_empty() {
                self.values.insert((Reverse(text.len()), text.to_owned()));
            }
        }
    }

    fn collect(&mut self, value: &Value, is_secret: bool) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, is_secret)),
            Value::Object(members) => {
                for (name, value) in members {
                    // The names of an environment's variables are not secret.
                    let is_name = name == "name" && members.contains_key("value");
                    self.collect(value, (is_secret || may_be_secret(name)) && !is_name);
                }
            }
            Value::String(text) if is_secret => self.add(text),
            Value::Number(number) if is_secret => self.add(&number.to_string()),
            _ => {}
        }
    }

    /// The message with each value replaced by [`HIDDEN`]. `None` if it cannot be shown at all: it contains the text of a short value next
    /// to punctuation other than quotes, so that nobody can tell whether it is the value.
    #[must_use]
    pub fn hide(&self, message: &str) -> Option<String> {
        let mut hidden = message.to_owned();
        let is_long = |entry: &&(Reverse<usize>, String)| entry.1.len() >= LONG_BYTES;
        for (_, value) in self.values.iter().filter(is_long) {
            hidden = hidden.replace(value, HIDDEN);
        }
        for (_, value) in self.values.iter().filter(|entry| !is_long(entry)) {
            hidden = self.without_short(&hidden, value)?;
        }
        Some(hidden)
    }

    fn without_short(&self, message: &str, value: &str) -> Option<String> {
        let open = self.open(message);
        let mut hidden = String::new();
        let mut rest = 0;
        for (at, _) in message.match_indices(value) {
            let found = at..at + value.len();
            if open.iter().any(|shown| shown.start <= found.start && found.end <= shown.end) {
                continue;
            }
            let (before, behind) =
                (message.get(..found.start)?.chars().next_back(), message.get(found.end..)?.chars().next());
            // A part of a longer word is not the value.
            if [before, behind].iter().flatten().any(|c| c.is_alphanumeric() || *c == '_') {
                continue;
            }
            let is_end = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || "\"'`\\".contains(c));
            if !(is_end(before) && is_end(behind)) {
                return None;
            }
            hidden.push_str(message.get(rest..found.start)?);
            hidden.push_str(HIDDEN);
            rest = found.end;
        }
        hidden.push_str(message.get(rest..)?);
        Some(hidden)
    }

    /// The positions of texts that are not secret: ARNs, and texts that were marked as not secret.
    fn open(&self, message: &str) -> Vec<Range<usize>> {
        let texts = self.shown.iter().filter(|text| !text.is_empty());
        let texts = texts.flat_map(|text| message.match_indices(text.as_str()).map(|(at, text)| at..at + text.len()));
        let ends = |c: char| c.is_whitespace() || "\"'`,;()[]{}".contains(c);
        let arns = message.match_indices("arn:aws").map(|(at, _)| {
            let length = message.get(at..).and_then(|rest| rest.find(ends));
            at..length.map_or(message.len(), |length| at + length)
        });
        texts.chain(arns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mask(values: &[&str]) -> Mask {
        values.iter().fold(Mask::default(), |mask, value| mask.and(value))
    }

    #[test]
    fn values_that_may_be_secret_are_known() {
        let document = json!({"family": "family", "containerDefinitions": [{
            "name": "container", "image": "registry/image",
            "environment": [{"name": "PASSWORD", "value": "environment"}, {"name": "SHORT", "value": "sh"}],
            "command": ["server", "--password=command"], "healthCheck": {"command": ["CMD-SHELL", "health"], "retries": 3},
            "logConfiguration": {"logDriver": "splunk", "options": {"splunk-token": "option"},
                                 "secretOptions": [{"name": "splunk-token", "valueFrom": "arn:reference"}]},
            "secrets": [{"name": "SECRET", "valueFrom": "arn:reference"}],
        }], "deploymentConfiguration": {"lifecycleHooks": [{"hookDetails": {"token": "hook", "number": 12345}}]}});
        let values = Mask::default().and_of(&document).values;
        let values: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
        let expected =
            ["--password=command", "environment", "CMD-SHELL", "health", "option", "server", "12345", "hook", "sh"];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_value_is_hidden_as_it_is_and_as_json_has_it() {
        let hidden = mask(&["a \"b", ""]).hide("a \"b and a \\\"b and c");
        assert_eq!(hidden.as_deref(), Some("*** and *** and c"));
        assert_eq!(mask(&["true", "true-secret"]).hide("is true-secret true").as_deref(), Some("is *** ***"));
    }

    #[test]
    fn a_short_value_is_hidden_where_it_stands_alone() {
        let mask = mask(&["abc"]);
        for shown in ["\"***\" is no number", "*** is", "of '***'", "{\\\"t\\\": \\\"***\\\"}"] {
            assert_eq!(mask.hide(&shown.replace(HIDDEN, "abc")).as_deref(), Some(shown));
        }
        for part in ["abcd", "xabc=1"] {
            assert_eq!(mask.hide(part).as_deref(), Some(part));
        }
        for hidden in ["token=abc", "(abc)"] {
            assert_eq!(mask.hide(hidden), None, "{hidden}");
        }
    }

    #[test]
    fn a_short_value_in_a_name_is_no_secret() {
        let mask = mask(&["1"]).but("nginx:1.27");
        let message = "arn:aws:ecs:eu-west-1:111111111111:service/c/s1 cannot run nginx:1.27";
        assert_eq!(mask.hide(message).as_deref(), Some(message));
        assert_eq!(mask.hide("1 error").as_deref(), Some("*** error"));
        assert_eq!(mask.hide("in eu-west-1"), None);
    }
}
