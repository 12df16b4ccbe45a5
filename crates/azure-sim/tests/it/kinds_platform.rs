//! The key rules of the types in `kinds/platform.rs`, as a client sees them.
