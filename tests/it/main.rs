//! The integration tests, in one binary.

mod architecture;
mod azure;
mod crash;
mod docs;
mod golden;
mod interruptions;
mod openapi;
mod postgres;
mod propagation;
mod readme;
mod steps;
mod support;
mod wrong_requests;
