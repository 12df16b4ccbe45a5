//! The simulator as a client sees it: raw HTTP over TLS with the simulator's CA. One binary, one file per subject.

mod blob_client;
mod client;
mod control;
mod generic;
mod generic_cognitive;
mod generic_cosmos;
mod generic_kinds;
mod hsm;
mod hsm_refusals;
mod hsm_storage;
mod keys;
mod kinds_data;
mod model;
mod refusals;
mod robust;
mod seed_flow;
mod soft_delete;
mod tokens;
mod truth;
mod visibility;
