//! What must be true whatever strangers send. Each function takes any bytes and panics where its property is broken.
//!
//! The fuzzers of `fuzz/` call them, and so does `make test`, on every input that was ever kept.

pub(crate) mod deployment_event;
pub(crate) mod event;
pub(crate) mod image_reference;
pub(crate) mod large;
pub(crate) mod ledger_record;
pub(crate) mod page_token;
pub(crate) mod push;
pub(crate) mod query;
pub(crate) mod registry;
pub(crate) mod task_definition;

use domain::text::is_unseen;

/// A property over bytes.
pub(crate) type Check = fn(&[u8]);

/// Each target of `fuzz/fuzz_targets`, with its property.
pub(crate) const TARGETS: [(&str, Check); 10] = [
    ("event", event::check),
    ("query", query::check),
    ("image_reference", image_reference::check),
    ("task_definition", task_definition::check),
    ("deployment_event", deployment_event::check),
    ("ledger_record", ledger_record::check),
    ("page_token", page_token::check),
    ("registry", registry::check),
    ("push", push::check),
    ("large", large::check),
];

/// A text for people: of bounded length, and without what would forge lines of a log.
fn check_message(message: &str, lines: usize, longest: usize) {
    assert!(message.chars().count() <= longest, "{} characters: {message:.300}", message.chars().count());
    assert!(message.split('\n').count() <= lines, "more than {lines} lines: {message:?}");
    assert!(!message.contains(|c| is_unseen(c) && c != '\n'), "characters that nobody sees: {message:?}");
}
