//! Storage beside the storage account, backup, transfer, messaging.

use crate::arm::generic::kind::Kind;

pub(super) const KINDS: &[Kind] = &[];
