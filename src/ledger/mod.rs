//! Pure: the ledger of a service, what it holds, who may write to it next, and how it is read.
//!
//! * [`record`]: the immutable records, chained by hash.
//! * [`state`]: the head, the lease, idempotency keys, and what may happen given them.
//! * [`hear`]: what an event about a deployment means for it.
//! * [`query`]: what is asked of the history, which parts of the table answer it, and the tokens between pages.
//! * [`merge`]: what several parts of the table hold, in one order.
//! * [`fold`]: the records of a change to what became of it.
//! * [`verify`]: whether a ledger is as it was written.

pub mod fold;
pub mod hear;
pub mod merge;
pub mod query;
pub mod record;
pub mod state;
pub mod verify;
