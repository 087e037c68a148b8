//! Pure: the ledger of a service: what it contains, who may write to it next, and how it is read.
//!
//! * [`record`]: the immutable records, chained by hash.
//! * [`kind`]: the kinds of records.
//! * [`head`]: where a ledger ends, which change began last, and the lease.
//! * [`idempotency`]: what became of an event, by its idempotency key.
//! * [`admission`]: what an event may do, given the head and the key.
//! * [`started`]: what records say about deployments that are not noted.
//! * [`budget`]: which of the deployments that no change started are recorded individually at once.
//! * [`clock`]: whether a clock may be trusted with leases.
//! * [`deployment`]: which change started a deployment, and what is recorded of its end.
//! * [`growth`]: whether the ids and times in a ledger increase.
//! * [`hidden`]: values that may be secret, as records hold them.
//! * [`hold`]: whether a push would undo a restore.
//! * [`deployment_event`]: what an event about a deployment means for the ledger.
//! * [`queue`]: which callers were refused before, and who has the next turn.
//! * [`rate`]: how many events one caller sends.
//! * [`query`]: a query of the history, the parts of the table that answer it, and the tokens between pages.
//! * [`merge`]: merges the contents of several parts of the table into one order.
//! * [`change`]: folds the records of a change into what became of it.
//! * [`past`]: what a change set and left, and how it ended, as it matters to a restore.
//! * [`pause`]: the pauses of a change's deployment.
//! * [`previous`]: which change `restore: previous` means.
//! * [`verify`]: whether a ledger is as it was written.
//! * [`write`](mod@write): what one transaction writes, and why it may fail.

pub mod admission;
pub mod attribution;
pub mod budget;
pub mod change;
pub mod clock;
pub mod deployment;
pub mod deployment_event;
pub mod growth;
pub mod head;
pub mod hidden;
pub mod history_query;
pub mod hold;
pub mod idempotency;
pub mod key;
pub mod kind;
pub mod merge;
pub mod past;
pub mod pause;
pub mod previous;
pub mod query;
pub mod queue;
pub mod rate;
pub mod record;
pub mod started;
pub mod turn;
pub mod verify;
pub mod write;
