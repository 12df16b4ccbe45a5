//! The words of the product as types, and the decisions that need nothing but them.
//!
//! What belongs here: identifiers, the validated request, job and step states with their legal transitions, facts,
//! failures, retry arithmetic. What does not: I/O, async, SQL, HTTP, Azure clients, and any import from the rest of
//! the crate.

pub mod codes;
pub mod duration;
pub mod facts;
pub mod failure;
pub mod ids;
pub mod job;
pub mod json;
pub mod reader;
pub mod request;
pub mod request_parse;
pub mod retry;
