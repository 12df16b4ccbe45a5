//! The integration tests, in one binary.

mod architecture;
mod crash;
mod golden;
mod openapi;
mod postgres;
mod propagation;
mod steps;
mod support;
mod wrong_requests;
