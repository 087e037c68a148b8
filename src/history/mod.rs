//! The history function: who changed what, where and when. It reads, and can do nothing else.

pub mod handler;
