//! What one transaction writes, and why it may fail.

use std::fmt;

use chrono::{DateTime, Utc};

use super::budget::ExternalBudget;
use super::deployment::DeploymentItem;
use super::head::Head;
use super::hidden::HiddenKey;
use super::idempotency::KeyItem;
use super::queue::Queue;
use super::rate::Rate;
use super::record::{Pointer, Record};
use crate::call_error::{CallError, Effect};
use crate::ids::ServiceKey;

/// One write of a transaction. `from` is what was read: the write requires that it is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Inserts a record; fails if there is one under its key already.
    Record(Box<Record>),
    /// Inserts a pointer.
    Pointer(Pointer),
    /// Inserts or moves a head.
    Head {
        /// The service.
        service: ServiceKey,
        /// What was read.
        from: Option<Head>,
        /// What it becomes.
        to: Head,
    },
    /// Inserts or changes a key.
    Key {
        /// What was read.
        from: Option<KeyItem>,
        /// What it becomes.
        to: KeyItem,
    },
    /// Marks a key: the deployment of its change is followed until the given time. Fails if somebody else has marked it since it was
    /// read. Its answer is not written again, whoever changes that in the meantime.
    Waiter {
        /// What was read.
        key: KeyItem,
        /// Until when the deployment is followed.
        until: DateTime<Utc>,
    },
    /// Inserts or changes the queue of a service.
    Queue {
        /// The service.
        service: ServiceKey,
        /// The queue from now on, and the text that was read.
        to: Queue,
    },
    /// Inserts a key for what records hide; fails if there is one of that name already.
    Secret(HiddenKey),
    /// Inserts or changes a deployment.
    Deployment {
        /// What was read.
        from: Option<Box<DeploymentItem>>,
        /// What it becomes.
        to: Box<DeploymentItem>,
    },
    /// Notes which deployment is the rollback of another one. What else is known about that one may have changed in the
    /// meantime.
    Undone {
        /// Id of the item of the deployment that is rolled back.
        item: String,
        /// Id of the deployment that is its rollback.
        by: String,
    },
    /// Inserts or changes the count of the events that a caller sent in a minute.
    Rate {
        /// What was read.
        from: Option<Rate>,
        /// What it becomes.
        to: Rate,
    },
    /// Inserts or changes what an account has used of a day's budget.
    Budget {
        /// What was read.
        from: Option<ExternalBudget>,
        /// What it becomes.
        to: ExternalBudget,
    },
}

impl Write {
    /// A record with its pointers, and the head that moves to it.
    pub fn append(
        service: &ServiceKey,
        (record, pointers): (Record, Vec<Pointer>),
        from: Option<Head>,
        to: Head,
    ) -> impl Iterator<Item = Self> {
        let head = Self::Head { service: service.clone(), from, to };
        [head, Self::Record(Box::new(record))].into_iter().chain(pointers.into_iter().map(Self::Pointer))
    }
}

/// Why the ledger could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerError {
    /// A call failed. If its answer was lost, what it requested may have been done.
    Call(CallError),
    /// Something is no longer as it was read, and nothing was written.
    Conflict(String),
    /// An item in a table is not what this project writes, or what is to be written has no form that fits the table.
    Encoding(String),
    /// The time available for it is over.
    Time(String),
}

impl LedgerError {
    /// Whether the same may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Call(error) => error.retryable(),
            Self::Conflict(_) | Self::Time(_) => true,
            Self::Encoding(_) => false,
        }
    }

    /// Whether what was to be written may have been written all the same.
    #[must_use]
    pub fn may_have_been_done(&self) -> bool {
        match self {
            Self::Call(error) => error.effect == Effect::Unknown,
            Self::Time(_) => true,
            Self::Conflict(_) | Self::Encoding(_) => false,
        }
    }

    /// The error for data in the tables that is not what this project writes: a retry does not help.
    #[must_use]
    pub fn broken(what: impl fmt::Display) -> Self {
        Self::Encoding(format!("{what} is not as it was written: verify the service's history"))
    }
}

impl From<CallError> for LedgerError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// The error for a value that has no JSON.
impl From<serde_json::Error> for LedgerError {
    fn from(error: serde_json::Error) -> Self {
        Self::Encoding(format!("a record cannot be written as JSON: {error}"))
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Conflict(why) => write!(f, "another writer was faster each time ({why})"),
            Self::Encoding(what) | Self::Time(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for LedgerError {}
