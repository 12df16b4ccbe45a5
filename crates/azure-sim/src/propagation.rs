//! How late a change becomes visible. Azure is eventually consistent; each kind of lag has its own distribution, sampled
//! once per change when the change is made, from the simulator's seeded randomness. Who asks "is it visible yet" lives
//! with the thing that is late, not here.

use rand::RngExt;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// One distribution of a delay, in seconds of the simulator's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Lag {
    /// Visible at once.
    #[default]
    None,
    /// Always the same delay.
    Fixed {
        /// The delay in seconds.
        seconds: f64,
    },
    /// Any delay between two bounds, equally likely.
    Uniform {
        /// Shortest delay in seconds.
        min: f64,
        /// Longest delay in seconds.
        max: f64,
    },
    /// A heavy tail: half of the delays are under the median, a few are many times as long.
    LogNormal {
        /// The median in seconds.
        median: f64,
        /// The spread; 1.0 puts one delay in fifty above eight medians.
        sigma: f64,
        /// Nothing takes longer than this many seconds.
        max: f64,
    },
    /// Never becomes visible.
    Never,
}

/// When something becomes true: a time, or `None` for never.
pub(crate) type Due = Option<OffsetDateTime>;

/// Whether a due time has come.
pub(crate) fn reached(due: Due, now: OffsetDateTime) -> bool {
    due.is_some_and(|at| at <= now)
}

impl Lag {
    /// A fixed delay.
    pub fn seconds(seconds: f64) -> Self {
        Self::Fixed { seconds }
    }

    /// Samples the delay of one change made now.
    pub(crate) fn due(&self, now: OffsetDateTime, chance: &mut StdRng) -> Due {
        let seconds = match self {
            Self::None => 0.0,
            Self::Fixed { seconds } => *seconds,
            Self::Uniform { min, max } => min + (max - min) * chance.random::<f64>(),
            Self::LogNormal { median, sigma, max } => {
                // Box and Muller; 1 - u keeps the logarithm away from zero.
                let (u, v) = (1.0 - chance.random::<f64>(), chance.random::<f64>());
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                (median * (sigma * normal).exp()).min(*max)
            }
            Self::Never => return None,
        };
        Some(now.saturating_add(Duration::saturating_seconds_f64(seconds.max(0.0))))
    }
}

/// All the lags of the simulated cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Propagation {
    /// A new role assignment, until it is enforced on either plane.
    pub grant: Lag,
    /// A removed role assignment, until it is no longer enforced.
    pub grant_removal: Lag,
    /// A new role assignment, until a management-plane read shows it.
    pub grant_read: Lag,
    /// A new local role assignment of a managed HSM, until it is enforced, and a removed one, until it no longer is.
    pub hsm_grant: Lag,
    /// A new principal, until the directory that role assignments ask knows it.
    pub principal: Lag,
    /// A change of a vault's network rules, until the data plane follows it.
    pub firewall: Lag,
    /// A new or recovered vault, until its host name answers. Before that the connection is refused, as with NXDOMAIN.
    pub dns: Lag,
    /// A new resource, until ARM reads show it.
    pub arm_read: Lag,
    /// A deleted key, until `deletedkeys/{name}` shows it.
    pub key_delete: Lag,
    /// A recovered key, until `keys/{name}` shows it.
    pub key_recover: Lag,
    /// A provider's `register` or `unregister`, until the namespace is in that state.
    pub registration: Lag,
    /// A policy assignment, until it is evaluated.
    pub policy: Lag,
    /// Between two looks of a service at its customer-managed key. Azure documents minutes to hours; the default is
    /// shorter, so that one can wait for it.
    pub key_look: Lag,
}

impl Default for Propagation {
    /// Lively but short: grants arrive after 2 to 8 seconds, principals and firewall changes after 1 to 4,
    /// services look at their keys every 3 to 6.
    fn default() -> Self {
        Self {
            grant: Lag::Uniform { min: 2.0, max: 8.0 },
            grant_removal: Lag::Uniform { min: 2.0, max: 8.0 },
            grant_read: Lag::Uniform { min: 0.0, max: 1.0 },
            hsm_grant: Lag::Uniform { min: 0.5, max: 2.0 },
            principal: Lag::Uniform { min: 1.0, max: 4.0 },
            firewall: Lag::Uniform { min: 1.0, max: 4.0 },
            dns: Lag::None,
            arm_read: Lag::None,
            key_delete: Lag::None,
            key_recover: Lag::None,
            registration: Lag::Uniform { min: 2.0, max: 6.0 },
            policy: Lag::Uniform { min: 1.0, max: 3.0 },
            key_look: Lag::Uniform { min: 3.0, max: 6.0 },
        }
    }
}

impl Propagation {
    /// As slow as Azure is documented and reported to be, with heavy tails: grants take minutes and up to ten, policies up to
    /// half an hour. Medians and spreads are the simulator's reading of those reports (UNVERIFIED), the longest times are
    /// Azure's own words where it gives any.
    pub fn azure() -> Self {
        let tail = |median: f64, sigma: f64, max: f64| Lag::LogNormal { median, sigma, max };
        Self {
            grant: tail(90.0, 0.9, 600.0),
            grant_removal: tail(90.0, 0.9, 600.0),
            grant_read: tail(2.0, 0.8, 30.0),
            principal: tail(15.0, 0.8, 300.0),
            firewall: tail(20.0, 0.9, 300.0),
            dns: tail(10.0, 0.7, 120.0),
            arm_read: tail(1.0, 0.8, 30.0),
            key_delete: tail(8.0, 0.4, 20.0),
            key_recover: tail(11.0, 0.3, 20.0),
            registration: tail(30.0, 0.6, 300.0),
            hsm_grant: tail(5.0, 0.8, 60.0),
            policy: tail(300.0, 0.7, 1800.0),
            key_look: tail(1800.0, 0.7, 86_400.0),
        }
    }

    /// One of `azure`, `short` (the default) and `instant`.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "azure" => Some(Self::azure()),
            "short" => Some(Self::default()),
            "instant" => Some(Self::instant()),
            _ => None,
        }
    }

    /// A cloud in which everything is visible at once.
    pub fn instant() -> Self {
        Self {
            grant: Lag::None,
            grant_removal: Lag::None,
            grant_read: Lag::None,
            hsm_grant: Lag::None,
            principal: Lag::None,
            firewall: Lag::None,
            dns: Lag::None,
            arm_read: Lag::None,
            key_delete: Lag::None,
            key_recover: Lag::None,
            registration: Lag::None,
            policy: Lag::None,
            key_look: Lag::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn samples(lag: &Lag) -> Vec<f64> {
        let mut chance = StdRng::seed_from_u64(7);
        let now = OffsetDateTime::UNIX_EPOCH;
        (0..2000).filter_map(|_| lag.due(now, &mut chance)).map(|at| (at - now).as_seconds_f64()).collect()
    }

    #[test]
    fn uniform_stays_between_its_bounds() {
        let all = samples(&Lag::Uniform { min: 2.0, max: 8.0 });
        assert!(all.iter().all(|s| (2.0..=8.0).contains(s)));
        assert!(all.iter().any(|s| *s < 3.0) && all.iter().any(|s| *s > 7.0));
    }

    #[test]
    fn log_normal_has_its_median_its_tail_and_its_cap() {
        let mut all = samples(&Lag::LogNormal { median: 10.0, sigma: 1.0, max: 120.0 });
        all.sort_by(f64::total_cmp);
        assert!((8.0..12.0).contains(&all[1000]), "median {}", all[1000]);
        assert!(all[1980] > 50.0 && all.iter().all(|s| *s <= 120.0));
    }

    #[test]
    fn never_is_never_and_nonsense_does_not_panic() {
        assert!(samples(&Lag::Never).is_empty());
        for seconds in [f64::NAN, f64::INFINITY, -5.0] {
            assert_eq!(samples(&Lag::Fixed { seconds }).len(), 2000);
        }
    }
}
