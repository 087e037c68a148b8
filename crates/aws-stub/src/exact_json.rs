//! JSON that is compared without any loss: numbers by their exact decimal value, duplicate names refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON value, exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exact {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// Digits without leading or trailing zeros, and the power of ten by which they are multiplied.
    Number {
        /// Whether it is below zero.
        negative: bool,
        /// Its digits.
        digits: String,
        /// The power of ten.
        exponent: i64,
    },
    /// A string.
    String(String),
    /// An array.
    List(Vec<Exact>),
    /// An object.
    Object(BTreeMap<String, Exact>),
}

impl Exact {
    /// Reads a text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        match text.as_bytes().first() {
            Some(b'{') => {
                let mut members = BTreeMap::new();
                for (name, raw) in raw_members(text) {
                    let before = members.insert(name.clone(), Self::parse(raw.get()));
                    assert!(before.is_none(), "the name {name:?} stands twice in one object");
                }
                Self::Object(members)
            }
            Some(b'[') => {
                let list: Vec<Box<RawValue>> = serde_json::from_str(text).expect("a JSON array");
                Self::List(list.iter().map(|raw| Self::parse(raw.get())).collect())
            }
            Some(b'"') => Self::String(serde_json::from_str(text).expect("a JSON string")),
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(text).expect("true or false")),
            Some(b'n') => Self::Null,
            _ => number(text),
        }
    }

    /// The members of an object.
    #[must_use]
    pub fn object(&self) -> &BTreeMap<String, Exact> {
        match self {
            Self::Object(members) => members,
            other => panic!("expected an object, got {other:?}"),
        }
    }

    /// The object without some of its members.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut members = self.object().clone();
        members.retain(|name, _| !names.contains(&name.as_str()));
        Self::Object(members)
    }

    /// Where and how `self` and `other` differ, as lines; empty if they are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare("$", self, other, &mut found);
        found
    }
}

/// The members of an object in their order, each with its value as it was written.
#[must_use]
pub fn raw_members(text: &str) -> Vec<(String, Box<RawValue>)> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, Box<RawValue>)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(text).deserialize_map(Members).expect("a JSON object")
}

/// The text of an object, written from its members.
pub fn object_text<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name))).collect();
    format!("{{{}}}", members.join(","))
}

fn number(text: &str) -> Exact {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let exponent: i64 = exponent.parse().unwrap_or_else(|_| panic!("not JSON: {text:?}"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    assert!(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), "not JSON: {text:?}");
    let mut exponent = exponent - i64::try_from(fraction.len()).expect("a short fraction");
    let trimmed = digits.trim_end_matches('0');
    exponent += i64::try_from(digits.len() - trimmed.len()).expect("a short number");
    let digits = trimmed.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Exact::Number { negative: false, digits, exponent: 0 };
    }
    Exact::Number { negative, digits, exponent }
}

fn compare(path: &str, one: &Exact, other: &Exact, found: &mut Vec<String>) {
    match (one, other) {
        (Exact::Object(a), Exact::Object(b)) => {
            for (name, value) in a {
                match b.get(name) {
                    Some(other) => compare(&format!("{path}.{name}"), value, other, found),
                    None => found.push(format!("{path}.{name} is missing, it was {value:?}")),
                }
            }
            for (name, value) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                found.push(format!("{path}.{name} was added: {value:?}"));
            }
        }
        (Exact::List(a), Exact::List(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), x, y, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path} was {a:?} and is {b:?}")),
    }
}

#[test]
fn numbers_are_equal_by_value_and_by_nothing_less() {
    assert_eq!(Exact::parse("1e5"), Exact::parse("100000.0"));
    assert_eq!(Exact::parse("-0.50"), Exact::parse("-5e-1"));
    assert_eq!(Exact::parse("0"), Exact::parse("-0.0"));
    assert_ne!(Exact::parse("9007199254740993"), Exact::parse("9007199254740992"));
    assert_ne!(Exact::parse("[1]"), Exact::parse("[1,1]"));
    let one = Exact::parse(r#"{"a":{"b":[1,{"c":""}]}}"#);
    assert_eq!(one.differences(&Exact::parse(r#"{"a":{"b":[1,{"c":"x","d":null}]}}"#)).len(), 2);
    assert!(one.differences(&one.clone()).is_empty());
}
