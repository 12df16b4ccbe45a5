//! The key rules of the types in `kinds/data.rs`, as a client sees them.
