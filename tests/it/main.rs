//! The integration tests, in one binary.

mod architecture;
mod azure;
mod crash;
mod docs;
mod engine;
mod faults;
mod golden;
mod interruptions;
mod jobs_api;
mod kill;
mod lease_races;
mod ledger;
mod model;
mod openapi;
mod postgres;
mod problems;
mod propagation;
mod readme;
mod sse;
mod steps;
mod store;
mod support;
mod tracing;
mod upgrade;
mod wrong_requests;
