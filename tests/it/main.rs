//! Tests of whole parts against the simulator.

mod steps;
