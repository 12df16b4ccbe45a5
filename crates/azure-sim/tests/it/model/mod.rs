//! An independent small model of soft delete, purge protection and the visibility of grants, and the runs that compare
//! it with the simulator. `cloud` is the model, written from Azure's rules and sharing nothing with the simulator;
//! `runs` sends the same operations to both. Not here: what a key does, networks, services.

mod cloud;
mod runs;
