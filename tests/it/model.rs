//! The state machine of job × lease × cancel × retry: a model in plain code, explored whole, and the SQL held to it.
//!
//! What belongs here: the model (`machine`), what must always be so and the exploration (`explore`), and the comparison
//! with the store (`sql`). What does not: what steps do to Azure.
//!
//! Explored by an enumeration of our own instead of the crate `stateright`: it cannot say "from every state an end can
//! still be reached", which is what no stuck job means; it tells states apart by a hash of 64 bits; and it brings an HTTP
//! server. A breadth-first search over states that are kept whole is a screen of code.

mod explore;
mod machine;
mod sql;
