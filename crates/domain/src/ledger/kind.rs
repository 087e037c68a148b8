//! The kinds of records in the history.

#![expect(missing_docs, reason = "the constant function that strum writes has none")]

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The kind of a record: what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE", const_into_str)]
pub enum Kind {
    /// A change was about to begin: nothing was changed before this record was in the table.
    Started,
    /// AWS accepted the change.
    Applied,
    /// Nothing differed.
    Unchanged,
    /// A call of the change failed.
    Failed,
    /// The function ended before the change did.
    Abandoned,
    /// The service is steady with the deployment that the change started.
    Completed,
    /// The circuit breaker or an alarm made the deployment fail. A rollback may follow.
    DeploymentFailed,
    /// ECS rolled back to what ran before.
    RolledBack,
    /// ECS tried to roll back and failed.
    RollbackFailed,
    /// Somebody stopped the deployment.
    Stopped,
    /// Another deployment replaced it before it had ended.
    Superseded,
    /// A deployment that no change started.
    External,
    /// The deployment of a change waits at a pause hook for somebody to continue it.
    AwaitingAction,
    /// Such a pause is over.
    PauseEnded,
}

impl Kind {
    /// The kind as it is written in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether it says how an attempt at a change ended.
    #[must_use]
    pub fn is_result(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged | Self::Failed | Self::Abandoned)
    }
}
