//! Canonical JSON ([RFC 8785](https://www.rfc-editor.org/rfc/rfc8785)): the text over which the ledger's hashes are computed.

use serde::Serialize;
use serde_json::Value;

/// Up to this value, JavaScript represents every integer exactly, and it is written as its digits (RFC 8785, 3.2.2.3).
const LARGEST_INTEGER: u64 = 1 << 53;

/// The canonical JSON of `value`: members sorted by name, numbers as JavaScript writes them, no white space.
///
/// ```
/// use domain::canonical_json;
/// use serde_json::json;
///
/// let value = json!({"b": 20.0, "a": [1e21, "é"]});
/// assert_eq!(canonical_json::to_string(&value)?, r#"{"a":[1e+21,"é"],"b":20}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
///
/// If it cannot be written as JSON, such as a map whose keys are not texts.
pub fn to_string(value: &impl Serialize) -> serde_json::Result<String> {
    let value = serde_json::to_value(value)?;
    text(&value, is_written_so(&value))
}

/// The canonical JSON of an object with these members.
///
/// # Errors
///
/// No case is known: everything that a [`Value`] can hold has canonical JSON.
pub fn object<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>) -> serde_json::Result<String> {
    let members: std::collections::BTreeMap<_, _> = members.collect();
    text(&members, members.iter().all(|(name, value)| is_member_written_so(name, value)))
}

/// `serde_json_canonicalizer` is correct for every value, but allocates for each piece of text that it writes: that was an eighth of the
/// updater's work in an event with many services. `serde_json` is correct for nearly everything that the ledger holds.
fn text(value: &impl Serialize, is_written_so: bool) -> serde_json::Result<String> {
    if is_written_so { serde_json::to_string(value) } else { serde_json_canonicalizer::to_string(value) }
}

/// Whether `serde_json` writes `value` as RFC 8785 does: strings and escapes are the same in both; numbers are the same if they are
/// integers; RFC 8785 orders members by UTF-16 code units, which equals the order by bytes if the names are ASCII.
fn is_written_so(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            magnitude.is_some_and(|magnitude| magnitude <= LARGEST_INTEGER)
        }
        Value::Array(items) => items.iter().all(is_written_so),
        Value::Object(members) => {
            members.keys().is_sorted() && members.iter().all(|(name, value)| is_member_written_so(name, value))
        }
    }
}

fn is_member_written_so(name: &str, value: &Value) -> bool {
    name.is_ascii() && is_written_so(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn library(value: &Value) -> String {
        serde_json_canonicalizer::to_string(value).unwrap()
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_the_library() {
        let by_utf_16 = json!({"\u{e000}": 1, "\u{10000}": 2});
        for (value, expected) in [
            (json!(1.0), "1"),
            (json!(1e21), "1e+21"),
            (json!(-0.0), "0"),
            (json!((1_u64 << 53) + 1), "9007199254740992"),
            (json!(u64::MAX), "18446744073709552000"),
            (json!(i64::MIN), "-9223372036854776000"),
            (by_utf_16, "{\"\u{10000}\":2,\"\u{e000}\":1}"),
        ] {
            assert_eq!(to_string(&value).unwrap(), expected);
            assert_eq!(to_string(&json!([{"a": value}])).unwrap(), format!("[{{\"a\":{expected}}}]"));
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let edge = prop_oneof![Just(1_u64 << 53), Just((1 << 53) + 1), Just((1 << 53) - 1), Just(u64::MAX)];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            edge.prop_map(Value::from),
            (0_u64..2000).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x7f]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let name = prop_oneof!["[\\x00-\\x7f]{0,6}", any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..6)
                    .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_the_library_s_text_for_every_value(value in any_json()) {
            prop_assert_eq!(to_string(&value).unwrap(), library(&value));
            if let Value::Object(members) = &value {
                prop_assert_eq!(object(members.iter()).unwrap(), library(&value));
            }
        }
    }
}
