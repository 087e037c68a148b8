//! Pure: whether the ledger of a service is as it was written, and where it is not.
//!
//! For a record that fits its hash, only its place in the chain is kept, so that a long ledger takes little memory. One
//! that does not fit is kept whole: what was done to it is found by trying what would make it fit again.
//!
//! Items that are identical to the letter are the same item: files of an export may overlap, and exports of several days may lie in one
//! folder. Two items that have the same key and differ are a fault, since a table has only one of them.
//!
//! A chain that fits may still give wrong times of writing: [`crate::ledger::growth`] detects that.

pub mod chain;
pub mod export;
mod link;
#[cfg(test)]
mod tests;
