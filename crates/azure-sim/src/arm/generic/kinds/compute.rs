//! Machines, disks, containers, clusters.

use crate::arm::generic::kind::Kind;

pub(super) const KINDS: &[Kind] = &[];
