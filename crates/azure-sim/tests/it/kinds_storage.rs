//! The key rules of the types in `kinds/storage.rs`, as a client sees them.
