//! Key Vault's limits per 10 seconds: for each vault and for all vaults of the subscription, apart for creations and other
//! requests, for software and HSM keys. A 3072-bit RSA key weighs four times and a 4096-bit one eight times as much as a
//! 2048-bit one or an elliptic-curve key. Managed HSMs have other limits, which are not played.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::http::Failure;
use crate::throttle::{Bucket, Level, State, Throttle, seconds_until};

/// How many requests a vault takes in 10 seconds of the simulator's clock. The defaults are Azure's published figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyVaultLimits {
    /// Creations, imports and rotations of software keys.
    pub creates: u32,
    /// The same of HSM keys.
    pub hsm_creates: u32,
    /// All other requests, in those for a 2048-bit software key.
    pub others: u32,
    /// All other requests for HSM keys, in those for a 2048-bit one.
    pub hsm_others: u32,
    /// How many times as much all vaults of a subscription take together.
    pub subscription_factor: u32,
}

impl Default for KeyVaultLimits {
    fn default() -> Self {
        Self { creates: 20, hsm_creates: 10, others: 4000, hsm_others: 2000, subscription_factor: 5 }
    }
}

/// What a request to a vault weighs, and on which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    pub creates: bool,
    pub hsm: bool,
    pub weight: u32,
}

/// Vault (`None` for all of the subscription), creation or not, HSM or not.
pub(super) type VaultKey = (Option<String>, bool, bool);

/// Levels beyond this number are looked through for those that have filled up again.
const MANY: usize = 10_000;

impl KeyVaultLimits {
    fn bucket(&self, load: Load, factor: u32) -> Bucket {
        let burst = match (load.creates, load.hsm) {
            (true, false) => self.creates,
            (true, true) => self.hsm_creates,
            (false, false) => self.others,
            (false, true) => self.hsm_others,
        };
        let burst = burst.saturating_mul(factor);
        Bucket { burst, per_second: f64::from(burst) / 10.0 }
    }
}

impl Throttle {
    /// Takes the request out of the vault's limit and the subscription's, or refuses it. A refused one takes nothing.
    pub fn admit_to_vault(&self, vault: &str, load: Load, now: OffsetDateTime) -> Result<(), Failure> {
        match self.with(|s| s.take_of_vault(vault, load, now)) {
            None => Ok(()),
            // That the header comes is UNVERIFIED: some answers of Azure's are without it. So is the word for the
            // subscription's limit.
            Some((seconds, own)) => {
                let reason = if own { "VaultRequestTypeLimitReached" } else { "SubscriptionRequestTypeLimitReached" };
                let text =
                    format!("Request was not processed because too many requests were received. Reason: {reason}");
                Err(Failure::new(429, "Throttled", text).with("retry-after", seconds.to_string()))
            }
        }
    }
}

impl State {
    /// Seconds to wait and whether it is for the vault itself; `None` when the request was let through.
    fn take_of_vault(&mut self, vault: &str, load: Load, now: OffsetDateTime) -> Option<(u64, bool)> {
        if !self.limits.enabled {
            return None;
        }
        let limits = self.limits.key_vault.clone();
        let scopes = [(Some(vault.to_owned()), 1), (None, limits.subscription_factor)];
        let mut after = Vec::new();
        for (scope, factor) in scopes {
            let bucket = limits.bucket(load, factor);
            let key = (scope, load.creates, load.hsm);
            let left = self.vaults.get(&key).map_or(f64::from(bucket.burst), |level| level.now(bucket, now));
            let missing = f64::from(load.weight) - left;
            if missing > 0.0 {
                return Some((seconds_until(missing, bucket.per_second), key.0.is_some()));
            }
            after.push((key, Level { left: -missing, at: now }));
        }
        if self.vaults.len() > MANY {
            // Whatever was taken longer than 10 seconds ago has run in again.
            self.vaults.retain(|_, level| (now - level.at).abs() < time::Duration::seconds(10));
        }
        self.vaults.extend(after);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use time::Duration;

    use super::*;
    use crate::throttle::Throttling;

    #[test]
    fn weights_sum_and_a_refusal_takes_nothing() {
        let mut state = State { limits: Throttling::default(), levels: BTreeMap::new(), vaults: BTreeMap::new() };
        let start = OffsetDateTime::UNIX_EPOCH;
        let mut take = |vault: &str, weight, after| {
            let load = Load { creates: false, hsm: true, weight };
            state.take_of_vault(vault, load, start + Duration::seconds(after))
        };
        assert!((0..249).all(|_| take("v", 8, 0).is_none()));
        assert!((0..8).all(|_| take("v", 1, 0).is_none()));
        assert_eq!(take("v", 8, 0), Some((1, true)));
        assert_eq!(take("v", 1, 0), Some((1, true)));
        assert!((0..25).all(|_| take("v", 8, 1).is_none()), "a tenth of it comes back in a second");
        assert_eq!(take("v", 1, 1), Some((1, true)));
        for vault in ["a", "b", "c"] {
            assert!((0..250).all(|_| take(vault, 8, 1).is_none()), "each vault has its own");
        }
        assert!((0..250).all(|_| take("d", 8, 1).is_none()), "the subscription's has filled by 1000, so far");
        assert!((0..100).all(|_| take("e", 8, 1).is_none()));
        assert_eq!(take("e", 8, 1), Some((1, false)), "five times a vault's for all");
    }

    #[test]
    fn a_limit_of_nothing_refuses_and_does_not_panic() {
        let none = KeyVaultLimits { creates: 0, subscription_factor: u32::MAX, ..KeyVaultLimits::default() };
        let limits = Throttling { key_vault: none, ..Throttling::default() };
        let mut state = State { limits, levels: BTreeMap::new(), vaults: BTreeMap::new() };
        let load = Load { creates: true, hsm: false, weight: 1 };
        assert_eq!(state.take_of_vault("v", load, OffsetDateTime::UNIX_EPOCH), Some((3600, true)));
    }
}
