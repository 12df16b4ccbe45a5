//! Machine learning, search, health, bots, tools.

use crate::arm::generic::kind::Kind;

pub(super) const KINDS: &[Kind] = &[];
