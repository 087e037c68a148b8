//! Exports of the history table: the ledgers of all services.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;

use serde_json::{Value, json};

use crate::event;
use crate::ledger::record::{RawRecord, number};
use crate::ledger::verify::chain::{Chain, ChainEnd, Verification};
use crate::ledger::verify::link::text;
use crate::text::shown_text;

/// Why an export cannot be read.
#[derive(Debug)]
pub struct ExportError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ExportError {}

/// The ledgers of a full export of the history table to S3 (`DYNAMODB_JSON`, unpacked): one item per line,
/// `{"Item": {"service": {"S": "…"}, …}}`, in any order, and each any number of times. An export has no heads: what is missing at a
/// ledger's end goes unnoticed, and so does a ledger that is missing as a whole, unless an older export has them.
#[derive(Debug, Default)]
pub struct Export {
    chains: BTreeMap<String, Chain>,
}

impl Export {
    /// Reads an export.
    ///
    /// # Errors
    ///
    /// The first line that cannot be read or is not an item of a history table.
    pub fn read(export: impl BufRead) -> Result<Self, ExportError> {
        let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
        for (line, content) in (1..).zip(export.lines()) {
            let content = content.map_err(|error| ExportError { line, what: error.to_string() })?;
            if content.trim().is_empty() {
                continue;
            }
            let item = exported(&content).map_err(|what| ExportError { line, what })?;
            let service = text(&item, "service").ok_or_else(|| ExportError { line, what: NO_ITEM.to_owned() })?;
            chains.entry(service.to_owned()).or_default().add(item);
        }
        Ok(Self { chains })
    }

    /// Whether there is no item in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// Verifies each of its ledgers.
    #[must_use]
    pub fn verify(mut self) -> BTreeMap<String, Verification> {
        self.chains.iter_mut().map(|(service, chain)| (service.clone(), chain.verify(ChainEnd::Unknown))).collect()
    }

    /// Verifies each of its ledgers, and that they contain everything that an older export had.
    #[must_use]
    pub fn verify_against(mut self, older: Self) -> BTreeMap<String, Verification> {
        let mut older = older.chains;
        let services: BTreeSet<String> = self.chains.keys().chain(older.keys()).cloned().collect();
        let judge = |service: String| {
            let chain = self.chains.entry(service.clone()).or_default();
            let found = match older.get_mut(&service) {
                Some(older) => chain.verify_against(older, ChainEnd::Unknown),
                None => chain.verify(ChainEnd::Unknown),
            };
            (service, found)
        };
        services.into_iter().map(judge).collect()
    }
}

/// Verifies each ledger of an export.
///
/// # Errors
///
/// As [`Export::read`].
pub fn verify_export(export: impl BufRead) -> Result<BTreeMap<String, Verification>, ExportError> {
    Ok(Export::read(export)?.verify())
}

const NO_ITEM: &str = "it is no item of a history table in DynamoDB JSON: {\"Item\": {\"service\": {\"S\": \"…\"}, …}}";

fn exported(line: &str) -> Result<RawRecord, String> {
    match event::read(line)? {
        Value::Object(mut line) if line.len() == 1 => match line.remove("Item") {
            Some(Value::Object(item)) => {
                Ok(item.iter().map(|(name, value)| (name.clone(), attribute(value))).collect())
            }
            _ => Err(NO_ITEM.to_owned()),
        },
        other => Err(format!("{NO_ITEM}, but {}", shown_text(&other.to_string()))),
    }
}

/// The JSON value of an attribute. An attribute of another type becomes a value that no record holds.
fn attribute(value: &Value) -> Value {
    let tagged = value.as_object().filter(|tagged| tagged.len() == 1).and_then(|tagged| tagged.iter().next());
    match tagged {
        Some((tag, Value::String(text))) if tag == "S" => text.as_str().into(),
        Some((tag, Value::String(text))) if tag == "N" => number(text),
        _ => json!({"attribute": value}),
    }
}
