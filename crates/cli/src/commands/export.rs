//! The one place where the command line uses the library's verifier.

use std::io::BufRead;

use domain::ledger::verify::chain::Verification;
use domain::ledger::verify::export::Export;

use crate::answers::{ChainFault, Verdict};
use crate::failure::{CommandFailure, Exit};

const ADVICE: &str = "Give the data files of an export of the history table in DynamoDB JSON: data/*.json.gz";

/// What was found about one service.
#[derive(Debug)]
pub(super) struct Verified {
    /// Its key.
    pub service: String,
    /// What was found.
    pub verdict: Verdict,
}

impl Verified {
    /// Whether its ledger is unchanged since it was written.
    pub(super) fn is_whole(&self) -> bool {
        self.verdict.ok == Some(true)
    }
}

/// Reads an export: JSON lines of DynamoDB items. `option` is the option that named its files.
pub(super) fn read(export: impl BufRead, option: &str) -> Result<Export, CommandFailure> {
    let export = Export::read(export).map_err(|fault| {
        CommandFailure::new(Exit::Failed, format!("the export of {option} cannot be read: {fault}")).advise(ADVICE)
    })?;
    if export.is_empty() {
        return Err(
            CommandFailure::new(Exit::Failed, format!("there is no record of a history in {option}")).advise(ADVICE)
        );
    }
    Ok(export)
}

/// Checks every ledger in an export, and that it still has what an older export had. Broken ledgers come first, so that none is overlooked
/// among whole ones.
pub(super) fn verify(export: Export, older: Option<Export>) -> Vec<Verified> {
    let found = match older {
        Some(older) => export.verify_against(older),
        None => export.verify(),
    };
    let verdict = |verification: Verification| Verdict {
        ok: Some(verification.ok),
        verified: verification.verified,
        fault: verification.fault.map(|fault| ChainFault { record: Some(fault.record), what: Some(fault.what) }),
    };
    let mut verified: Vec<Verified> =
        found.into_iter().map(|(service, verification)| Verified { service, verdict: verdict(verification) }).collect();
    verified.sort_by_key(Verified::is_whole);
    verified
}
