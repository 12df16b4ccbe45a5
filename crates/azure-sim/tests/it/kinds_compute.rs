//! The key rules of the types in `kinds/compute.rs`, as a client sees them.
