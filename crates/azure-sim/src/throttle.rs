//! Azure Resource Manager's throttling: token buckets per scope, principal and class of operation, and a larger one per scope
//! for all principals. By the simulator's clock. Key Vault's own limits are in `key_vault`; those of other providers are not
//! played.

pub(crate) mod key_vault;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::http::{Call, Failure};
use crate::throttle::key_vault::{KeyVaultLimits, VaultKey};

/// One kind of bucket: how much it holds and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bucket {
    /// Requests that can be made at once.
    pub burst: u32,
    /// Requests that are added per second of the simulator's clock.
    pub per_second: f64,
}

/// The limits in force. The defaults are Azure's published figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Throttling {
    /// Whether requests are counted at all.
    pub enabled: bool,
    /// GET and HEAD.
    pub reads: Bucket,
    /// PUT, PATCH and POST.
    pub writes: Bucket,
    /// DELETE.
    pub deletes: Bucket,
    /// How many times as large the bucket of a whole subscription is.
    pub global_factor: u32,
    /// What vaults take in 10 seconds.
    pub key_vault: KeyVaultLimits,
}

impl Default for Throttling {
    fn default() -> Self {
        Self {
            enabled: true,
            reads: Bucket { burst: 250, per_second: 25.0 },
            writes: Bucket { burst: 200, per_second: 10.0 },
            deletes: Bucket { burst: 200, per_second: 10.0 },
            global_factor: 15,
            key_vault: KeyVaultLimits::default(),
        }
    }
}

impl Throttling {
    /// No limit: nothing is counted and headers tell of full buckets.
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }

    fn bucket(&self, class: Class) -> Bucket {
        match class {
            Class::Reads => self.reads,
            Class::Writes => self.writes,
            Class::Deletes => self.deletes,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Reads,
    Writes,
    Deletes,
}

impl Class {
    pub fn of(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" => Self::Reads,
            "DELETE" => Self::Deletes,
            _ => Self::Writes,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Deletes => "deletes",
        }
    }
}

/// What is left after a request, for its headers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Remains {
    pub class: Class,
    /// Whether the bucket is the tenant's instead of the subscription's.
    pub tenant: bool,
    pub own: u32,
    pub global: u32,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    left: f64,
    at: OffsetDateTime,
}

impl Level {
    fn now(&self, bucket: Bucket, now: OffsetDateTime) -> f64 {
        let passed = (now - self.at).as_seconds_f64().max(0.0);
        (self.left + passed * bucket.per_second.max(0.0)).min(f64::from(bucket.burst))
    }
}

/// Whose bucket. Subscriptions that the simulator does not play have one together, so that their number is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Tenant,
    Subscription,
    OtherSubscriptions,
}

impl Scope {
    fn of(call: &Call, subscription: &str) -> Self {
        match call.segments.as_slice() {
            [head, id, ..] if head.eq_ignore_ascii_case("subscriptions") => {
                if id.eq_ignore_ascii_case(subscription) {
                    Self::Subscription
                } else {
                    Self::OtherSubscriptions
                }
            }
            _ => Self::Tenant,
        }
    }
}

/// Scope, principal (`None` for the global bucket), class.
type Key = (Scope, Option<String>, Class);

#[derive(Debug)]
struct State {
    limits: Throttling,
    levels: BTreeMap<Key, Level>,
    vaults: BTreeMap<VaultKey, Level>,
}

/// The buckets of this cloud. Principals come from verified tokens, so their number is bounded by the directory's.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<State>);

impl Throttle {
    pub fn new(limits: Throttling) -> Self {
        Self(Mutex::new(State { limits, levels: BTreeMap::new(), vaults: BTreeMap::new() }))
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn limits(&self) -> Throttling {
        self.with(|s| s.limits.clone())
    }

    /// Whether anything is counted.
    pub fn counts(&self) -> bool {
        self.with(|s| s.limits.enabled)
    }

    /// Sets limits; all buckets are full again.
    pub fn set(&self, limits: Throttling) {
        self.with(|s| *s = State { limits, levels: BTreeMap::new(), vaults: BTreeMap::new() });
    }

    /// Fills all buckets.
    pub fn refill(&self) {
        self.with(|s| {
            s.levels.clear();
            s.vaults.clear();
        });
    }

    /// Takes one request out of the caller's bucket and the global one, or refuses it with 429. A refused one takes nothing.
    pub fn admit(&self, call: &Call, subscription: &str, principal: &str) -> Result<(), Failure> {
        let scope = Scope::of(call, subscription);
        let class = Class::of(call.method.as_str());
        let (remains, wait) = self.with(|s| s.take(scope, principal, class, call.now));
        let _ = call.remains.set(remains);
        match wait {
            None => Ok(()),
            Some(seconds) => Err(refusal(remains, seconds)),
        }
    }
}

impl State {
    fn take(&mut self, scope: Scope, principal: &str, class: Class, now: OffsetDateTime) -> (Remains, Option<u64>) {
        let own = self.limits.bucket(class);
        let tenant = scope == Scope::Tenant;
        let factor = self.limits.global_factor;
        let global = Bucket { burst: own.burst.saturating_mul(factor), per_second: own.per_second * f64::from(factor) };
        if !self.limits.enabled {
            let left = |bucket: Bucket| bucket.burst.saturating_sub(1);
            return (Remains { class, tenant, own: left(own), global: left(global) }, None);
        }
        let keys = [((scope, Some(principal.to_owned()), class), own), ((scope, None, class), global)];
        let left: Vec<f64> = keys.iter().map(|(key, bucket)| self.level(key, *bucket, now)).collect();
        let wait = keys
            .iter()
            .zip(&left)
            .filter(|(_, left)| **left < 1.0)
            .map(|((_, bucket), left)| seconds_until(1.0 - left, bucket.per_second))
            .max();
        let taken = if wait.is_some() { 0.0 } else { 1.0 };
        let mut shown = [0, 0];
        for (i, (key, _)) in keys.into_iter().enumerate() {
            let after = left[i] - taken;
            shown[i] = whole(after);
            self.levels.insert(key, Level { left: after, at: now });
        }
        (Remains { class, tenant, own: shown[0], global: shown[1] }, wait)
    }

    /// The level now, after what has run in since it was last looked at.
    fn level(&self, key: &Key, bucket: Bucket, now: OffsetDateTime) -> f64 {
        let full = f64::from(bucket.burst);
        self.levels.get(key).map_or(full, |level| level.now(bucket, now))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits before the cast")]
fn whole(left: f64) -> u32 {
    left.floor().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Whole seconds until this much has run in, at least one and at most an hour.
fn seconds_until(missing: f64, per_second: f64) -> u64 {
    let seconds = missing / per_second;
    if seconds.is_finite() { u64::from(whole(seconds.ceil().clamp(1.0, 3600.0))) } else { 3600 }
}

/// Codes UNVERIFIED.
fn refusal(remains: Remains, seconds: u64) -> Failure {
    let (code, scope) =
        if remains.tenant { ("TooManyRequests", "tenant") } else { ("SubscriptionRequestsThrottled", "subscription") };
    Failure::new(
        429,
        code,
        format!(
            "Number of {} requests for the {scope} exceeded the limit. Please try again after '{seconds}' seconds.",
            remains.class.name()
        ),
    )
    .with("retry-after", seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    #[test]
    fn a_bucket_empties_fills_and_never_overflows() {
        let bucket = Bucket { burst: 3, per_second: 0.5 };
        let mut state = State {
            limits: Throttling { writes: bucket, ..Throttling::default() },
            levels: BTreeMap::new(),
            vaults: BTreeMap::new(),
        };
        let start = OffsetDateTime::UNIX_EPOCH;
        let mut take =
            |after: i64| state.take(Scope::Subscription, "p", Class::Writes, start + Duration::seconds(after));
        assert_eq!([0, 0, 0].map(|t| take(t).0.own), [2, 1, 0]);
        assert_eq!(take(0).1, Some(2));
        assert_eq!(take(1).1, Some(1));
        assert_eq!(take(2).1, None);
        assert_eq!(take(2).1, Some(2));
        assert_eq!(take(1000).0.own, 2);
        // A clock that was set back takes nothing away.
        assert_eq!(take(0).0.own, 1);
    }

    #[test]
    fn nonsense_limits_do_not_panic() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
            let bucket = Bucket { burst: 0, per_second };
            let mut state = State {
                limits: Throttling { reads: bucket, global_factor: u32::MAX, ..Throttling::default() },
                levels: BTreeMap::new(),
                vaults: BTreeMap::new(),
            };
            let (_, wait) = state.take(Scope::Tenant, "p", Class::Reads, OffsetDateTime::UNIX_EPOCH);
            assert!(wait.is_some_and(|s| (1..=3600).contains(&s)));
        }
    }
}
