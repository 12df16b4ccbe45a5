//! The simulator as a client sees it: raw HTTP over TLS with the simulator's CA. One binary, one file per subject.

mod arm_common;
mod blob_client;
mod client;
mod control;
mod faults_more;
mod generic;
mod generic_cognitive;
mod generic_cosmos;
mod generic_kinds;
mod hsm;
mod hsm_refusals;
mod hsm_storage;
mod keys;
mod kinds_data;
mod locks;
mod model;
mod policies;
mod refusals;
mod robust;
mod roles;
mod seed_flow;
mod soft_delete;
mod throttling;
mod tokens;
mod truth;
mod visibility;
