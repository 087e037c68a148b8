//! Pure: whether the ledger of a service is as it was written, and where it is not.
//!
//! Of a record that fits its hash only its place in the chain is kept, so that a long ledger takes little memory. One
//! that does not fit is kept whole: what was done to it is told by trying what would make it fit again.
//!
//! An item that is the same to the letter is the same item: files of an export may overlap, and exports of several days may lie in
//! one folder. Two items that have one key and differ are a fault, since a table has one of them.
//!
//! A chain that fits may still lie about when it was written: [`crate::ledger::growth`] tells.

pub mod chain;
pub mod export;
mod link;
#[cfg(test)]
mod tests;
