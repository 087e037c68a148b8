//! The functions that the command line invokes.

use clap::ValueEnum;

/// A function of the hub account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Function {
    /// The one that changes services
    Updater,
    /// The one that answers about changes
    History,
}
