//! The properties, as `make test` has them too.

#[path = "../../tests/fuzz/properties/mod.rs"]
mod properties;

pub use properties::*;
