//! Pure: the ledger of a service, what it holds and who may write to it next.
//!
//! * [`record`]: the immutable records, chained by hash.
//! * [`state`]: the head, the lease, idempotency keys, and what may happen given them.

pub mod record;
pub mod state;
