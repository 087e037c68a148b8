//! `verify`: whether somebody has tampered with the history.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use domain::ledger::history_query::HistoryQuery;
use flate2::bufread::MultiGzDecoder;
use serde_json::{Value, json};

use super::export::{self, Verified};
use super::{ask_history, query_of};
use crate::answers::{NO_RECORDS, Verdict, read};
use crate::failure::{CommandFailure, Exit};
use crate::lambda::Functions;
use crate::screen::Screen;
use crate::service::Service;

/// Queries the history function about one service.
pub(super) async fn online(
    functions: &Functions,
    screen: &Screen,
    service: Option<&Service>,
) -> Result<Exit, CommandFailure> {
    // The argument group of clap requires one.
    let service = service.ok_or_else(|| CommandFailure::new(Exit::Usage, "no service was named"))?;
    let query = HistoryQuery { verify: Some(true), ..query_of(service, functions)? };
    let key = crate::answers::service_key([
        &query.account_id,
        &query.region,
        &query.ecs_cluster_name,
        &query.ecs_service_name,
    ]);
    let body = ask_history(functions, &query).await?;
    let verdict: Verdict = read(&body);
    let Some(ok) = verdict.ok else {
        return Err(CommandFailure::new(Exit::Failed, "the answer does not say whether the chain is whole")
            .at(key)
            .advise("Is that the right function? See --history-function."));
    };
    if verdict.is_empty() {
        return Err(CommandFailure::new(Exit::Failed, NO_RECORDS).at(key));
    }
    if screen.is_json() {
        Screen::json(&body, true)?;
    } else {
        show(screen, &key, ok, &verdict)?;
    }
    Ok(if ok { Exit::Done } else { Exit::Broken })
}

/// Checks files of a DynamoDB export on this machine, and that what an older export had is still in it.
pub(super) fn offline(screen: &Screen, files: &[PathBuf], older: &[PathBuf]) -> Result<Exit, CommandFailure> {
    if files.iter().chain(older).filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(CommandFailure::new(Exit::Usage, "standard input (-) can be read once only"));
    }
    let older = if older.is_empty() { None } else { Some(export::read(whole(older)?, "--against")?) };
    let verified = export::verify(export::read(whole(files)?, "--export")?, older);
    let broken: Vec<&str> =
        verified.iter().filter(|ledger| !ledger.is_whole()).map(|ledger| ledger.service.as_str()).collect();
    if screen.is_json() {
        let services: Vec<Value> = verified.iter().map(as_json).collect();
        Screen::json(&json!({"ok": broken.is_empty(), "services": services}), true)?;
    } else {
        for ledger in &verified {
            show(screen, &ledger.service, ledger.is_whole(), &ledger.verdict)?;
        }
        screen.say(
            "\nAn export has no heads: records missing at the end of a ledger go unnoticed here, unless an older export has \
             them (--against).\n",
        )?;
        screen.say(&verdict(&broken, verified.len()))?;
    }
    Ok(if broken.is_empty() { Exit::Done } else { Exit::Broken })
}

/// A sentence about all ledgers.
fn verdict(broken: &[&str], all: usize) -> String {
    let ledgers = if all == 1 { "ledger" } else { "ledgers" };
    match broken {
        [] if all == 1 => "The ledger is whole.".to_owned(),
        [] => format!("All {all} ledgers are whole."),
        [one] => format!("BROKEN: 1 of {all} {ledgers}, {one}"),
        [first, ..] => format!("BROKEN: {} of {all} {ledgers}, {first} the first of them", broken.len()),
    }
}

/// All files, one after the other.
fn whole(files: &[PathBuf]) -> Result<impl BufRead, CommandFailure> {
    let mut whole: Box<dyn Read> = Box::new(std::io::empty());
    for file in files {
        // A last line without a line break must not run into the first line of the next file.
        whole = Box::new(whole.chain(open(file)?).chain(&b"\n"[..]));
    }
    Ok(BufReader::new(whole))
}

fn show(screen: &Screen, service: &str, ok: bool, verdict: &Verdict) -> Result<(), CommandFailure> {
    screen.headline(if ok { "INTACT" } else { "BROKEN" }, service)?;
    let records = |count: u64| format!("{count} {}", if count == 1 { "record" } else { "records" });
    let fault = verdict.fault.clone().unwrap_or_default();
    screen.facts(&[
        ("verified", Some(records(verdict.verified))),
        ("record", fault.record),
        ("what", fault.what.or_else(|| (!ok).then(|| "the function did not say".to_owned()))),
    ])
}

fn as_json(ledger: &Verified) -> Value {
    let fault = ledger.verdict.fault.as_ref().map(|fault| json!({"record": fault.record, "what": fault.what}));
    json!({"service": ledger.service, "ok": ledger.verdict.ok, "verified": ledger.verdict.verified, "fault": fault})
}

/// The file as it is, or unpacked if it is compressed with gzip.
fn open(path: &Path) -> Result<Box<dyn Read>, CommandFailure> {
    let fault = |fault| {
        CommandFailure::new(Exit::Usage, format!("{} cannot be read: {fault}", path.display()))
            .advise("Give the data files of a DynamoDB export, or - for standard input.")
    };
    let file: Box<dyn Read> =
        if path.as_os_str() == "-" { Box::new(std::io::stdin()) } else { Box::new(File::open(path).map_err(fault)?) };
    let mut file = BufReader::new(file);
    let is_gzip = file.fill_buf().map_err(fault)?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}
