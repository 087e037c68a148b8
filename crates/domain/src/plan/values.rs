//! Values as ECS sees them: whether two are the same, and whether one shows another.

use serde_json::Value;

/// Whether two values are the same: AWS omits what is empty or off, and the order of a list means something only where `in_order` says so.
pub(super) fn equal(one: &Value, other: &Value, in_order: bool) -> bool {
    match (one, other) {
        (Value::Object(members), Value::Object(others)) => {
            let other = |name: &String| others.get(name).unwrap_or(&Value::Null);
            members.iter().all(|(name, value)| equal(value, other(name), in_order))
                && others.iter().all(|(name, value)| members.contains_key(name) || is_nothing(value))
        }
        (Value::Array(items), Value::Array(others)) if in_order => {
            items.len() == others.len() && items.iter().zip(others).all(|(one, other)| equal(one, other, true))
        }
        (Value::Array(items), Value::Array(others)) => {
            let mut left: Vec<&Value> = others.iter().collect();
            items.len() == others.len()
                && items.iter().all(|item| {
                    let found = left.iter().position(|other| equal(item, other, false));
                    found.map(|index| left.swap_remove(index)).is_some()
                })
        }
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (one, other) => one == other || (is_nothing(one) && is_nothing(other)),
    }
}

/// Whether what the service has shows what is wanted: every member that is wanted must be there and equal, and there may be more. `null`
/// wants nothing. A list wants exactly its entries, in their order only if `in_order` says that the order means something.
pub(super) fn covers(has: Option<&Value>, wanted: &Value, in_order: bool) -> bool {
    match (has, wanted) {
        (_, Value::Null) => true,
        // AWS omits what is empty or off.
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
            prop_assert!(equal(&value, &value, false) && equal(&value, &value, true));
            prop_assert_eq!(equal(&value, &more, false), equal(&more, &value, false));
            // AWS adds members of its own.
            if let Value::Object(mut has) = value.clone() {
                has.insert("added".to_owned(), more);
                prop_assert!(covers(Some(&Value::Object(has)), &value, false));
            }
        }
    }
}
