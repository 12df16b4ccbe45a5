//! What several tests need. A test's own builders stay with the test.

pub mod api;
pub mod cluster;
pub mod database;
pub mod late;
pub mod pages;
pub mod process;
pub mod proxy;
pub mod schemas;
pub mod service;
pub mod world;
