//! `cmk`: an HTTP control plane that puts Azure services under customer-managed keys, and proves it.
//!
//! The modules in reading order; each may import only from those above it, as `tests/it/architecture.rs` holds.

pub mod clock;
pub mod domain;

pub mod azure;
