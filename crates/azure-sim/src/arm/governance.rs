//! What ARM itself keeps in the subscription beside the resources: registrations, locks, policies and the times of resources.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::arm::locks::Locks;
use crate::arm::registration::{self, Registrations};
use crate::arm::resources::AllTimes;
use crate::policy::Policies;
use crate::rbac::assignments::at_or_above;

/// Everything of ARM's own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Governance {
    pub registrations: Registrations,
    pub locks: Locks,
    pub policies: Policies,
    pub times: AllTimes,
}

impl Governance {
    pub fn new(unregistered: &[String], now: OffsetDateTime) -> Self {
        Self { registrations: registration::initial(unregistered, now), ..Self::default() }
    }

    /// Everything that is on its way has arrived.
    pub fn settle(&mut self, now: OffsetDateTime) {
        self.registrations.values_mut().for_each(|r| r.settle(now));
        self.policies.settle(now);
    }

    /// Forgets all that hung on a scope that is gone.
    pub fn scope_gone(&mut self, scope: &str) {
        self.locks.retain(|_, l| !at_or_above(scope, &l.scope));
        self.policies.scope_gone(scope);
        self.times.retain(|id, _| !at_or_above(scope, id));
    }
}
