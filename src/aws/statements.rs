//! `PartiQL` statements, whose values are parameters.

use std::fmt::Write as _;

use aws_sdk_dynamodb::types::AttributeValue;

/// The attributes of an item by name.
pub(super) type Attributes = Vec<(&'static str, AttributeValue)>;

pub(super) fn insert(
    table: &str,
    attributes: impl IntoIterator<Item = (impl AsRef<str>, AttributeValue)>,
) -> (String, Vec<AttributeValue>) {
    let (names, values): (Vec<String>, Vec<AttributeValue>) =
        attributes.into_iter().map(|(name, value)| (format!("'{}': ?", name.as_ref()), value)).unzip();
    (format!("INSERT INTO \"{table}\" VALUE {{{}}}", names.join(", ")), values)
}

pub(super) fn update(table: &str, id: &str, set: Attributes, conditions: Attributes) -> (String, Vec<AttributeValue>) {
    update_and_remove(table, id, set, &[], conditions)
}

/// Names are quoted, because `hash` and others are reserved words.
pub(super) fn update_and_remove(
    table: &str,
    id: &str,
    set: Attributes,
    remove: &[&str],
    conditions: Attributes,
) -> (String, Vec<AttributeValue>) {
    let mut text = format!("UPDATE \"{table}\"");
    let mut values = Vec::with_capacity(set.len() + conditions.len() + 1);
    for (name, value) in set {
        let _ = write!(text, " SET \"{name}\" = ?");
        values.push(value);
    }
    for name in remove {
        let _ = write!(text, " REMOVE \"{name}\"");
    }
    text.push_str(" WHERE \"id\" = ?");
    values.push(AttributeValue::S(id.to_owned()));
    for (name, value) in conditions {
        let _ = write!(text, " AND \"{name}\" = ?");
        values.push(value);
    }
    (text, values)
}

pub(super) fn with_id(id: &str, mut attributes: Attributes) -> Attributes {
    attributes.insert(0, ("id", AttributeValue::S(id.to_owned())));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_their_attributes_and_hold_no_values() {
        let (text, values) = insert("state", vec![("id", AttributeValue::S("'; DROP".to_owned()))]);
        assert_eq!(text, r#"INSERT INTO "state" VALUE {'id': ?}"#);
        assert_eq!(values.len(), 1);
        let set = vec![("seq", AttributeValue::N("2".to_owned()))];
        let (text, values) = update("state", "i", set, vec![("hash", AttributeValue::S("h".to_owned()))]);
        assert_eq!(text, r#"UPDATE "state" SET "seq" = ? WHERE "id" = ? AND "hash" = ?"#);
        assert_eq!(values.len(), 3);
    }
}
