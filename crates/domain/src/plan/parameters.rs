//! Parameters of `UpdateService`: whether a service has what is wanted of them.

use serde_json::{Map, Value};

use crate::ecs::service::{Service, Snapshot};

/// Whether the service has these parameters of `UpdateService`.
#[must_use]
pub fn covers_parameters(service: &Service, parameters: &Map<String, Value>) -> bool {
    // AWS never shows `monitoring`: it cannot be held against what was asked.
    parameters.iter().all(|(name, wanted)| name == "monitoring" || has_parameter(service, name, wanted))
}

/// Whether two values of a parameter are the same to ECS.
#[must_use]
pub fn same_parameter(name: &str, one: &Value, other: &Value) -> bool {
    let in_order = name == "placementStrategy";
    covers(Some(one), other, in_order) && covers(Some(other), one, in_order)
}

/// Whether a value of a parameter has all that is wanted of it.
#[must_use]
pub fn covers_parameter(name: &str, has: &Value, wanted: &Value) -> bool {
    covers(Some(has), wanted, name == "placementStrategy")
}

fn has_parameter(service: &Service, name: &str, wanted: &Value) -> bool {
    covers(service.parameter(name), wanted, name == "placementStrategy")
}

pub(super) fn differing_parameters(parameters: &Map<String, Value>, snapshot: &Snapshot) -> Map<String, Value> {
    let differs = |(name, wanted): &(&String, &Value)| !has_parameter(&snapshot.service, name, wanted);
    parameters.iter().filter(differs).map(|(name, wanted)| (name.clone(), wanted.clone())).collect()
}

/// Whether what the service has covers what is wanted: AWS fills in defaults, so every member wanted must be there and
/// equal, and more may be there. `null` wants nothing. A list wants exactly its entries, `in_order` only where the order
/// means something.
pub(super) fn covers(has: Option<&Value>, wanted: &Value, in_order: bool) -> bool {
    match (has, wanted) {
        (_, Value::Null) => true,
        // AWS leaves out what is empty or off.
        (None | Some(Value::Null), wanted) => is_nothing(wanted),
        (Some(Value::Object(has)), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| covers(has.get(name), wanted, in_order))
        }
        (Some(Value::Array(has)), Value::Array(wanted)) if in_order => {
            has.len() == wanted.len() && has.iter().zip(wanted).all(|(has, wanted)| covers(Some(has), wanted, true))
        }
        (Some(Value::Array(has)), Value::Array(wanted)) => {
            let mut left: Vec<&Value> = has.iter().collect();
            has.len() == wanted.len()
                && wanted.iter().all(|wanted| {
                    let found = left.iter().position(|has| covers(Some(has), wanted, false));
                    found.map(|index| left.swap_remove(index)).is_some()
                })
        }
        (Some(Value::Number(has)), Value::Number(wanted)) => has == wanted || has.as_f64() == wanted.as_f64(),
        (Some(has), wanted) => has == wanted,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(is_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_parameter() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..9).prop_map(Value::from),
            "[a-c]{1,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_set_is_covered_afterwards(value in any_parameter(), more in any_parameter()) {
            prop_assert!(covers(Some(&value), &value, false));
            prop_assert!(covers(Some(&value), &value, true));
            // AWS adds members of its own.
            if let Value::Object(mut has) = value.clone() {
                has.insert("added".to_owned(), more);
                prop_assert!(covers(Some(&Value::Object(has)), &value, false));
            }
        }
    }
}
