//! Everything that the service sends to the simulator's ARM and gets from it, held against Azure's published types where their
//! schemas are present.

use std::sync::Arc;

use arm_schemas::Watch;
use azure_sim::{Exchange, Observer};

/// A watch that fails the test when dropped, and what the simulator is to show everything to.
pub fn watch() -> (Watch, Observer) {
    let watch = Watch::new();
    let eye = watch.eye();
    let observer = Arc::new(move |e: &Exchange<'_>| {
        if e.surface == "arm" {
            eye.see(e.method, e.path, e.sent, e.status, e.answer);
        }
    });
    (watch, observer)
}
