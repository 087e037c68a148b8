//! The history, read by the real reader and the real binary from dynoxide, a strict DynamoDB in this process.
//!
//! A server stands between, which counts calls and items and allows nothing but `Query` and `GetItem`. What is in the
//! tables comes from the code that writes records, and beside them grows a plain list of what must be found.

// A test says what it expects by panicking.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod function;
mod kinds;
mod made;
mod million;
mod paging;
mod records_v1;
mod table;
mod verify;
