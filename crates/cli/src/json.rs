//! Values as JSON, for output.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{CommandFailure, Exit};

/// A value as JSON, with its members sorted.
///
/// # Errors
///
/// If it cannot be JSON. What this command writes always can.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Value, CommandFailure> {
    serde_json::to_value(value).map_err(|fault| CommandFailure::new(Exit::Failed, format!("this is no JSON: {fault}")))
}

/// Writes the fields of `value` over the members of an object that was read.
///
/// # Errors
///
/// The same as those of [`to_json`].
pub(crate) fn overlay(object: &mut Map<String, Value>, value: &impl Serialize) -> Result<(), CommandFailure> {
    if let Value::Object(fields) = to_json(value)? {
        object.extend(fields);
    }
    Ok(())
}
