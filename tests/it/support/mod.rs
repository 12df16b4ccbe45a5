//! What several tests need. A test's own builders stay with the test.

pub mod database;
pub mod process;
pub mod world;
