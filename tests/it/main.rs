//! The integration tests, in one binary.

mod azure;
mod interruptions;
mod postgres;
mod steps;
mod support;
