//! The simulator as a client sees it: raw HTTP over TLS with the simulator's CA. One binary, one file per subject.

mod arm_common;
mod client;
mod control;
mod keys;
mod locks;
mod refusals;
mod robust;
mod seed_flow;
mod soft_delete;
mod tokens;
mod visibility;
