//! Runs jobs: claims, turns, leases, drain.
//!
//! What belongs here: when a step runs and what becomes of its outcome. What does not: how a step is done (`steps`) and
//! how an outcome is stored (`store`).
//!
//! Who retries: requests of the API do not; steps wait for what is on its way and retry transient errors a bounded number
//! of times, through the database, so that a wait costs no worker; the worker's own loop never gives up.

pub mod crash;
pub mod lease;
pub mod ledger;
pub mod turn;
pub mod worker;

pub use lease::Held;
pub use ledger::Ledger;
pub use turn::{StandIn, StandInStep, TurnEnd};
pub use worker::{Worker, WorkerSettings};
