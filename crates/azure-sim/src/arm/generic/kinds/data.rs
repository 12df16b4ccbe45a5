//! Databases and analytics beside `databases` and `sql`.

use crate::arm::generic::kind::Kind;

pub(super) const KINDS: &[Kind] = &[];
