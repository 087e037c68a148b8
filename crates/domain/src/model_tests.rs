//! What this crate takes of AWS's model of ECS, as `tools/model/taken.json` has it: `make lint-model` compares it with the model itself.
//!
//! The file is never written by hand: `make model` writes it, from the code. Candidates come from the model of the pinned botocore
//! (`crates/aws-stub/src/shapes.json`); for each of them, the code is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Value, json};

use crate::ecs::deployment::model_tests::{TRIGGERS, has_progress, members_read, triggers, waits};
use crate::ecs::service::{IN_REVISION, PARAMETERS};
use crate::ecs::task_definition::{ONLY_IN_RESPONSES, TaskDefinition};
use crate::plan::model_tests::{defaulted, has_off_form};

const SHAPES: &str = include_str!("../../aws-stub/src/shapes.json");
const TAKEN: &str = "../../tools/model/taken.json";

/// The names by which a type reads its members.
pub(crate) fn members_of<T: for<'de> Deserialize<'de>>() -> BTreeSet<&'static str> {
    let mut members: &'static [&'static str] = &[];
    let refused = T::deserialize(Members(&mut members));
    assert!(refused.is_err() && !members.is_empty(), "a type with named members");
    members.iter().copied().collect()
}

/// Keeps the names that a type asks for, and gives it nothing.
struct Members<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Members<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no type with named members"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        members: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = members;
        Err(Error::custom("its members are all that is asked for"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// A shape of the model.
fn shape(name: &str) -> Value {
    let shapes: Value = serde_json::from_str(SHAPES).unwrap();
    shapes["ecs"]["shapes"][name].clone()
}

/// The values of an enumeration for which `is_taken` holds.
fn values(name: &str, is_taken: impl Fn(&str) -> bool) -> Vec<String> {
    let values: Vec<String> = serde_json::from_value(shape(name)["enum"].clone()).unwrap();
    values.into_iter().filter(|value| is_taken(value)).collect()
}

/// Whether a task definition for this architecture names a platform of images.
fn names_a_platform(architecture: &str) -> bool {
    let answer = json!({"taskDefinition": {"runtimePlatform": {"cpuArchitecture": architecture}}}).to_string();
    TaskDefinition::from_answer(answer.as_bytes()).unwrap().platform().is_some()
}

fn taken() -> Value {
    let mut members: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut take = |shape: &'static str, names: Vec<String>| members.entry(shape).or_default().extend(names);
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    take("UpdateServiceRequest", owned(&PARAMETERS));
    take("ServiceRevision", owned(&IN_REVISION));
    for (shape, names) in members_read() {
        take(shape, owned(&names.into_iter().collect::<Vec<_>>()));
    }
    let merged = shape("DeploymentConfiguration");
    let merged: Vec<&String> = merged["members"].as_object().unwrap().keys().collect();
    let with_off_form: Vec<String> =
        merged.iter().filter(|name| has_off_form(name)).map(|name| (*name).clone()).collect();
    take("DeploymentConfiguration", with_off_form);
    let mut paths: Vec<String> = PARAMETERS.iter().flat_map(|name| defaulted(name, name)).collect();
    paths.extend(merged.iter().flat_map(|name| defaulted(name, &format!("deploymentConfiguration.{name}"))));
    json!({
        "members": members,
        "defaults": paths.into_iter().collect::<BTreeSet<_>>(),
        "values": {
            "ServiceDeploymentStatus": values("ServiceDeploymentStatus", has_progress),
            TRIGGERS: values(TRIGGERS, triggers),
            "DeploymentLifecycleHookStatus": values("DeploymentLifecycleHookStatus", waits),
            "CPUArchitecture": values("CPUArchitecture", names_a_platform),
        },
        "only_in_responses": {"TaskDefinition": ONLY_IN_RESPONSES},
    })
}

#[test]
fn what_is_taken_of_the_model_of_ecs_is_what_lint_model_compares() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TAKEN);
    let taken = serde_json::to_string_pretty(&taken()).unwrap() + "\n";
    if std::env::var_os("UPDATE_MODEL").is_some() {
        std::fs::write(&path, &taken).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == taken,
        "the code takes something else than {TAKEN} says: run `make model`, then `make lint-model`"
    );
}

#[test]
fn nothing_is_taken_that_the_code_does_not_understand() {
    assert!(
        !has_progress("A_STATUS_OF_TOMORROW") && !triggers("A_STATUS_OF_TOMORROW") && !waits("A_STATUS_OF_TOMORROW")
    );
    assert!(!names_a_platform("A_PROCESSOR_OF_TOMORROW") && !has_off_form("aMemberOfTomorrow"));
    assert!(defaulted("aParameterOfTomorrow", "").is_empty());
}
