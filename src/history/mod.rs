//! The history function: answers who changed what, where and when. It can only read.

pub mod handler;
