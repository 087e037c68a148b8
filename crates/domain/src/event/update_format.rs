//! The format of update events: their schema, and the words for the faults that only they can have.

use std::sync::OnceLock;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;

use crate::event::EventFormat;
use crate::ids::{AccountId, EcsName, Region};
use crate::text::shown;

/// The fields an event needs, for the second line of the message. A test checks that it agrees with the schema.
const NEEDED: &str = "\"ecs_cluster_name\", \"ecs_service_name\", and at least one of \"ecs_image_name\", \"images\", \
                      \"ecs_tag\", \"service\", \"restore\", \"continue\", \"stop\", \"force_new_deployment\": true";

/// What a text has to look like, in words, by the definition of the schema that has the pattern. A test checks that the two agree.
const EXPECTATIONS: &[(&str, &str)] = &[
    ("account_id", AccountId::EXPECTED),
    ("region", Region::EXPECTED),
    ("name", EcsName::EXPECTED),
    ("container_name", EcsName::EXPECTED),
    ("image", "an image reference of at most 255 characters before its digest"),
    ("tag_key", "letters, digits, spaces and _ . : / = + - @"),
    ("tag_value", "letters, digits, spaces and _ . : / = + - @"),
    ("change_id", "the change_id of a change of this service"),
    ("restore", "the change_id of a change of this service, or \"previous\""),
    ("task_definition", "family:revision, such as \"web:7\""),
    ("image_tag", "letters, digits and _ . -, at most 128 of them, the first a letter, digit or _"),
    ("parameter_name", "a parameter's name of at most 64 letters and digits, the first of them small"),
    ("time", "a time with its offset such as \"2026-11-28T09:30:00Z\""),
];

/// Events of the updater.
pub static FORMAT: EventFormat = EventFormat {
    schema: include_str!("../../../../schema/update-event.schema.json"),
    needed: NEEDED,
    expectations: EXPECTATIONS,
    words: own_words,
    hint: |place, name| if place.ends_with("/service") { parameter_hint(name) } else { "" },
    validator: OnceLock::new(),
};

/// The words for the faults that only an update event can have.
fn own_words(error: &ValidationError<'_>) -> Option<String> {
    match error.kind() {
        // The second line of the message lists the alternatives.
        ValidationErrorKind::AnyOf { .. } => Some("\"ecs_image_name\" is a required property".to_owned()),
        ValidationErrorKind::Not { .. } => {
            let value = shown(&**error.instance());
            Some(format!("{value} is not accepted: \"aws:\" in any case belongs to AWS"))
        }
        _ => None,
    }
}

/// A hint about what to use instead of something that is not a parameter of `service`, although UpdateService has it.
fn parameter_hint(name: &str) -> &'static str {
    match name {
        "taskDefinition" => ": it follows from \"ecs_image_name\" or \"images\"",
        "forceNewDeployment" => ": use \"force_new_deployment\"",
        "cluster" => ": use \"ecs_cluster_name\"",
        "service" => ": use \"ecs_service_name\"",
        "tags" => ": use \"ecs_tag\"",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jsonschema::Validator;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const RESPONSE_SCHEMA: &str = include_str!("../../../../schema/update-response.schema.json");

    /// Calls `visit` with every object of a document and its JSON pointer.
    fn visit_objects(path: &str, value: &Value, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
        if let Some(object) = value.as_object() {
            visit(path, object);
            for (name, value) in object {
                visit_objects(&format!("{path}/{name}"), value, visit);
            }
        }
    }

    #[test]
    fn schemas_are_valid_and_every_field_is_documented() {
        for text in [FORMAT.schema, RESPONSE_SCHEMA] {
            let schema: Value = serde_json::from_str(text).unwrap();
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
            jsonschema::meta::validate(&schema).unwrap();
            let mut documented = 0;
            visit_objects("", &schema, &mut |path, object| {
                let Some(fields) = object.get("properties").and_then(Value::as_object) else { return };
                // Conditions name fields again.
                if ["/if", "/then", "/else", "/anyOf", "/dependentSchemas", "/items"]
                    .iter()
                    .any(|part| path.contains(part))
                {
                    return;
                }
                for (name, field) in fields {
                    let documentation = field.get("$ref").and_then(Value::as_str).map_or(field, |target| {
                        if field.get("title").is_some() { field } else { schema.pointer(&target[1..]).unwrap() }
                    });
                    for keyword in ["title", "description"] {
                        assert!(documentation[keyword].as_str().is_some_and(|text| !text.is_empty()), "{path}/{name}");
                    }
                    documented += 1;
                }
            });
            assert!(documented > 20, "{documented}");
        }
    }

    #[test]
    fn words_and_schema_agree() {
        let schema: Value = serde_json::from_str(FORMAT.schema).unwrap();
        // Every pattern has a description in words.
        let mut with_pattern = BTreeSet::new();
        visit_objects("", &schema, &mut |path, object| {
            if object.contains_key("pattern") && !path.ends_with("/not") {
                with_pattern.insert(path.strip_prefix("/$defs/").unwrap().to_owned());
            }
        });
        let in_words: BTreeSet<_> = EXPECTATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(in_words, with_pattern);

        let list =
            |value: &Value| -> Vec<String> { value.as_array().unwrap().iter().map(|name| format!("{name}")).collect() };
        let actions: Vec<_> =
            schema["then"]["anyOf"].as_array().unwrap().iter().map(|one| list(&one["required"]).concat()).collect();
        let needed = format!(
            "{}, and at least one of {}: true",
            list(&schema["then"]["required"]).join(", "),
            actions.join(", ")
        );
        assert_eq!(NEEDED, needed);
    }

    /// Whether the schema's definition of this name accepts the text.
    fn schema_takes(definition: &str, text: &str) -> bool {
        thread_local! {
            static DEFINITIONS: BTreeMap<&'static str, Validator> = ["account_id", "region", "name"]
                .map(|name| {
                    let schema: Value = serde_json::from_str(FORMAT.schema).unwrap();
                    (name, jsonschema::draft202012::new(&schema["$defs"][name]).unwrap())
                })
                .into();
        }
        DEFINITIONS.with(|definitions| definitions[definition].is_valid(&json!(text)))
    }

    proptest! {
        #[test]
        fn schema_and_types_agree(
            account in "[0-9٣]{11,13}|.{0,3}",
            region in "[a-zE0-9.-]{0,14}|[a-z]{1,4}(-[a-z]{0,10}){0,4}-[0-9a]{0,2}",
            name in "[a-zA-Z0-9_-]{0,3}[ /ä\n.]?|[a-z]{253,257}",
        ) {
            prop_assert_eq!(AccountId::parse(&account).is_ok(), schema_takes("account_id", &account), "{:?}", account);
            prop_assert_eq!(Region::parse(&region).is_ok(), schema_takes("region", &region), "{:?}", region);
            prop_assert_eq!(EcsName::parse(&name).is_ok(), schema_takes("name", &name), "{:?}", name);
        }
    }
}
