//! The integration tests, in one binary.

mod architecture;
mod azure;
mod crash;
mod crash_points;
mod docs;
mod engine;
mod faults;
mod golden;
mod interruptions;
mod jobs_api;
mod kill;
mod ledger;
mod openapi;
mod postgres;
mod postgres_faults;
mod problems;
mod propagation;
mod readme;
mod replicas;
mod sse;
mod steps;
mod store;
mod support;
mod tracing;
mod upgrade;
mod wrong_requests;
