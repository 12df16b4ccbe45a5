//! The simulator as a client sees it: raw HTTP over TLS with the simulator's CA. One binary, one file per subject.

mod arm_common;
mod client;
mod control;
mod faults_more;
mod keys;
mod locks;
mod policies;
mod refusals;
mod robust;
mod roles;
mod seed_flow;
mod soft_delete;
mod throttling;
mod tokens;
mod visibility;
