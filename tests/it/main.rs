//! Tests of whole parts against the simulator.

mod interruptions;
mod steps;
