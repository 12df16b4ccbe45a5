//! The integration tests, in one binary.

mod architecture;
mod azure;
mod crash;
mod faults;
mod golden;
mod interruptions;
mod kill;
mod openapi;
mod postgres;
mod propagation;
mod steps;
mod support;
