//! From the text of an event to a checked JSON value: what all of this project's events have in common. All faults are reported at once,
//! each with its place in the event, in helpful words.

pub mod batch;
mod hash;
pub mod parse;
pub mod request;
pub mod update_event;
pub mod update_format;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Code, Failure, Fault};
use crate::text::{shown, shown_text};

/// The maximum length of an event in bytes: what Lambda itself accepts for a synchronous invocation ("Lambda quotas" in the AWS Lambda
/// developer guide).
pub const MAX_EVENT_BYTES: usize = 6 * 1024 * 1024;

/// The maximum number of values (names of members not counted) in an event. It is far more than any event needs; without a limit, an event
/// of six megabytes of faults would take a gigabyte to describe.
pub const MAX_VALUES: usize = 50_000;

/// How many faults a message lists. Any further faults are only counted.
pub const MAX_FAULTS: usize = 20;

/// A kind of event: its schema, and the words for what violates it.
pub struct EventFormat {
    /// JSON Schema 2020-12.
    pub schema: &'static str,
    /// What an event needs, for the second line of the message.
    pub needed: &'static str,
    /// What a text has to look like, in words, by the definition of the schema that has the pattern.
    pub expectations: &'static [(&'static str, &'static str)],
    /// The words for a fault that are specific to this kind of event; with `None`, the common words are used.
    pub words: fn(&ValidationError<'_>) -> Option<String>,
    /// A hint about what to use instead of an unknown field of this name in the object at this place.
    pub hint: fn(place: &str, name: &str) -> &'static str,
    /// The schema, compiled when it is first needed.
    pub validator: OnceLock<Result<Validator, String>>,
}

impl EventFormat {
    /// Compiles the schema: a function does this while it starts, so that no event has to wait for it.
    pub fn prepare(&self) {
        // If it does not compile, the answer to each event says so.
        let _ = self.compiled();
    }

    fn compiled(&self) -> &Result<Validator, String> {
        self.validator.get_or_init(|| compile(self.schema))
    }

    /// Reads an event and checks it.
    ///
    /// # Errors
    ///
    /// [`Code::JsonValidation`] with every fault of the event and its place.
    pub fn check(&self, event: &[u8]) -> Result<Value, Failure> {
        let of_event = |fault: String| self.refuse(&[format!("(event): {fault}")]);
        let event = str::from_utf8(event)
            .map_err(|error| of_event(format!("not UTF-8 text: a wrong byte at offset {}", error.valid_up_to())))?;
        let event = read(event).map_err(of_event)?;
        let faults = self.faults(&event, "")?;
        if faults.is_empty() { Ok(event) } else { Err(self.refuse(&faults)) }
    }

    /// The failure that lists all faults, in the words of the first version.
    #[must_use]
    pub fn refuse(&self, faults: &[String]) -> Failure {
        const START: &str = "[ERROR][json_validation]";
        let mut told = faults.iter().take(MAX_FAULTS).map(String::as_str).collect::<Vec<_>>().join("; ");
        if let Some(more) = faults.len().checked_sub(MAX_FAULTS).filter(|more| *more > 0) {
            _ = write!(told, "; and {more} more");
        }
        let message = format!("{START} wrong input event format: {told}\n{START} Needed: {}", self.needed);
        Failure { code: Code::JsonValidation, message, retryable: false, change_id: None, fault: Fault::Caller }
    }

    /// Everything that is wrong with an event, each fault once, sorted by its place. `prefix` is the JSON pointer of the event if it is
    /// part of another.
    ///
    /// # Errors
    ///
    /// If the schema does not compile.
    pub fn faults(&self, event: &Value, prefix: &str) -> Result<Vec<String>, Failure> {
        let validator = self
            .compiled()
            .as_ref()
            .map_err(|error| self.refuse(&[format!("the built-in schema does not compile: {error}")]))?;
        let mut faults = BTreeSet::new();
        for error in validator.iter_errors(event) {
            self.describe(&error, prefix, &mut faults);
        }
        find_nul(&FaultPlace::Event(prefix), event, &mut faults);
        Ok(faults.into_iter().collect())
    }

    /// Describes what the validator found in helpful words.
    fn describe(&self, error: &ValidationError<'_>, prefix: &str, faults: &mut BTreeSet<String>) {
        let path = &format!("{prefix}{}", error.instance_path().as_str());
        let here = &FaultPlace::Event(path);
        let rule = error.schema_path().as_str();
        let mut add = |at: &FaultPlace<'_>, fault: String| _ = faults.insert(format!("{}: {fault}", place(at)));
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected {
                    let hint = (self.hint)(path, name);
                    add(here, format!("unknown field {}{hint}", shown_text(name)));
                }
            }
            // A name that is refused as such, not for its form.
            ValidationErrorKind::PropertyNames { error: name }
                if name.schema_path().as_str().ends_with("/parameter_name/not") =>
            {
                let name = name.instance().as_str().unwrap_or_default();
                add(here, format!("unknown field {}{}", shown_text(name), (self.hint)(path, name)));
            }
            ValidationErrorKind::PropertyNames { error: name } => {
                add(&FaultPlace::Member(here, name.instance().as_str().unwrap_or_default()), self.refusal(name));
            }
            ValidationErrorKind::Required { property } if rule.contains(DEPENDENT) => {
                add(&FaultPlace::Member(here, dependent(rule)), format!("only together with {property}"));
            }
            ValidationErrorKind::FalseSchema => {
                add(here, format!("not together with \"{}\"", dependent(rule)));
            }
            _ => add(here, self.refusal(error)),
        }
    }

    /// What a value is, and what it should be.
    fn refusal(&self, error: &ValidationError<'_>) -> String {
        if let Some(words) = (self.words)(error) {
            return words;
        }
        let value = shown(&**error.instance());
        let definition = error.schema_path().as_str().strip_prefix("/$defs/").and_then(|rest| rest.split('/').next());
        let expected =
            self.expectations.iter().find(|(name, _)| Some(*name) == definition).map(|(_, expected)| *expected);
        let arn = error.instance().as_str().filter(|text| text.starts_with("arn:"));
        match (error.kind(), definition, expected, arn) {
            (ValidationErrorKind::Pattern { .. }, Some("name"), _, Some(arn)) => {
                format!("{value} is an ARN: use the name{}", named_by(arn))
            }
            (ValidationErrorKind::Pattern { .. }, Some("task_definition"), _, Some(arn)) => {
                format!("{value} is an ARN: use family:revision{}", named_by(arn))
            }
            (ValidationErrorKind::Pattern { .. }, _, Some(expected), _) => {
                format!("{value} is not accepted: expected {expected}")
            }
            (ValidationErrorKind::Type { .. }, _, Some(expected), _) => {
                format!("{}: expected {expected}", error.masked_with(value))
            }
            _ => error.masked_with(value).to_string(),
        }
    }
}

fn compile(schema: &str) -> Result<Validator, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    // This engine needs time linear in the text, whatever the text is.
    let options = jsonschema::draft202012::options().with_pattern_options(PatternOptions::regex());
    options.build(&schema).map_err(|error| error.to_string())
}

/// The part of a rule's place in the schema that shows that it depends on the presence of a field.
const DEPENDENT: &str = "/dependentSchemas/";

/// The field whose presence a rule of `dependentSchemas` is about.
fn dependent(rule: &str) -> &str {
    rule.split_once(DEPENDENT).and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

/// Reads JSON in which no object names a member twice.
///
/// # Errors
///
/// A sentence that says where it stops being such JSON.
pub fn read(event: &str) -> Result<Value, String> {
    if event.len() > MAX_EVENT_BYTES {
        return Err(format!("it has {} bytes, and at most {MAX_EVENT_BYTES} are accepted", event.len()));
    }
    // The parser names line and column. It gives up at a depth of 128, so that nothing after it recurses deeper.
    let mut parser = serde_json::Deserializer::from_str(event);
    Reader { room: &Cell::new(MAX_VALUES) }
        .deserialize(&mut parser)
        .and_then(|event| parser.end().map(|()| event))
        .map_err(|error| format!("not accepted as JSON: {error}"))
}

/// The name at the end of an ARN, if it can be recognized.
fn named_by(arn: &str) -> String {
    let is_name = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte))
    };
    arn.rsplit_once('/')
        .map(|(_, last)| last)
        .filter(is_name)
        .map_or(String::new(), |name| format!(", {}", shown_text(name)))
}

/// The position of a value. It is formatted only if something is wrong there: names may be megabytes long, with tens of thousands of values
/// under them.
enum FaultPlace<'a> {
    Event(&'a str),
    Member(&'a FaultPlace<'a>, &'a str),
    Item(&'a FaultPlace<'a>, usize),
}

impl fmt::Display for FaultPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(prefix) => f.write_str(prefix),
            Self::Item(list, index) => write!(f, "{list}/{index}"),
            Self::Member(object, name) => {
                write!(f, "{object}/")?;
                name.split_inclusive(['~', '/']).try_for_each(|part| match part.strip_suffix(['~', '/']) {
                    Some(before) => write!(f, "{before}{}", if part.ends_with('~') { "~0" } else { "~1" }),
                    None => f.write_str(part),
                })
            }
        }
    }
}

/// Finds NUL characters, which no field of any AWS API accepts and which end strings early in many tools.
fn find_nul(at: &FaultPlace<'_>, value: &Value, faults: &mut BTreeSet<String>) {
    let fault = |at: &FaultPlace<'_>, text: &str| format!("{}: {} holds a NUL character", place(at), shown_text(text));
    match value {
        Value::String(text) if text.contains('\0') => _ = faults.insert(fault(at, text)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                find_nul(&FaultPlace::Item(at, index), item, faults);
            }
        }
        Value::Object(members) => {
            for (name, item) in members {
                let at = FaultPlace::Member(at, name);
                if name.contains('\0') {
                    faults.insert(fault(&at, name));
                }
                find_nul(&at, item, faults);
            }
        }
        _ => {}
    }
}

/// A JSON pointer (RFC 6901) for people.
fn place(at: &FaultPlace<'_>) -> String {
    if matches!(at, FaultPlace::Event("")) { "(event)".to_owned() } else { shown(at) }
}

/// Reads a JSON value in which no object names a member twice.
///
/// `serde_json` would silently keep the last one, other parsers the first: such an event could mean one thing to whoever checked or logged
/// it on its way, and another to us.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// How many values may still follow.
    room: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.room.get().checked_sub(1);
        self.room.set(left.ok_or_else(|| de::Error::custom(format_args!("more than {MAX_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!("duplicate field {}", shown_text(&name))));
            }
            object.insert(name, members.next_value_seed(self)?);
        }
        Ok(object.into())
    }
}
