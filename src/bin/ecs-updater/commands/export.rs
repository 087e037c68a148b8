//! The one place where the command line meets the library's verifier.

use std::io::BufRead;

use ecs_updater::ledger::verify::verify_export;

use crate::answers::{ChainFault, Verdict};
use crate::failure::{Exit, Failure};

/// What was found about one service.
#[derive(Debug)]
pub struct Verified {
    /// Its key.
    pub service: String,
    /// What was found.
    pub verdict: Verdict,
}

/// Checks every ledger in an export: JSON lines of DynamoDB items.
pub fn verify(export: impl BufRead) -> Result<Vec<Verified>, Failure> {
    let found = verify_export(export).map_err(|fault| {
        Failure::new(Exit::Failed, format!("the export cannot be read: {fault}"))
            .advise("Give the data files of an export of the history table in DynamoDB JSON: data/*.json.gz")
    })?;
    let verdict = |it: ecs_updater::ledger::verify::Verification| Verdict {
        ok: Some(it.ok),
        verified: it.verified,
        fault: it.fault.map(|fault| ChainFault { record: Some(fault.record), what: Some(fault.what) }),
    };
    Ok(found.into_iter().map(|(service, it)| Verified { service, verdict: verdict(it) }).collect())
}
