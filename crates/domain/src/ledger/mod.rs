//! Pure: the ledger of a service, what it holds, who may write to it next, and how it is read.
//!
//! * [`record`]: the immutable records, chained by hash.
//! * [`kind`]: what a record says.
//! * [`head`]: where a ledger ends, what began last, and the lease.
//! * [`idempotency`]: what became of an event, by its key.
//! * [`admission`]: what an event may do, given head and key.
//! * [`started`]: what records say of deployments that are not noted.
//! * [`budget`]: which deployments that no change started get a record of their own at once.
//! * [`clock`]: whether a clock may be trusted with leases.
//! * [`deployment`]: which change started a deployment, and what is recorded of its end.
//! * [`growth`]: whether ids and times of a ledger grow.
//! * [`hidden`]: values that may be secret, as records hold them.
//! * [`hold`]: whether a push would undo a restore.
//! * [`deployment_event`]: what an event about a deployment means for the ledger.
//! * [`queue`]: who was refused before, and has the next turn.
//! * [`rate`]: how many events one caller sends.
//! * [`query`]: what is asked of the history, which parts of the table answer it, and the tokens between pages.
//! * [`merge`]: what several parts of the table hold, in one order.
//! * [`change`]: the records of a change to what became of it.
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
pub mod previous;
pub mod query;
pub mod queue;
pub mod rate;
pub mod record;
pub mod started;
pub mod turn;
pub mod verify;
pub mod write;
