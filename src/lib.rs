//! `cmk`: an HTTP control plane that puts Azure services under customer-managed keys, and proves it.
//!
//! The modules in reading order; what each may import is held by `tests/it/architecture.rs`.

pub mod clock;
pub mod telemetry;

pub mod domain;

pub mod azure;
pub mod services;

pub mod steps;

pub mod plan;

pub mod survey;

pub mod store;

pub mod engine;

pub mod api;

pub mod config;

pub mod app;

pub mod dev;
