//! cmk
