//! The integration tests, in one binary.

mod azure;
mod postgres;
mod support;
