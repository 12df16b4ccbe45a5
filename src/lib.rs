//! cmk

pub mod dev;
