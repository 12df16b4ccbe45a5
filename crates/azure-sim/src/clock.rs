//! The simulator's one clock. Everything that has to do with time asks it: token expiry, long-running operations,
//! propagation, soft-delete dates and the journal. Real time by default; it can be frozen, moved and scaled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// A shared handle on the simulator's clock. Clones move the same hands.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Hands>>);

#[derive(Debug)]
struct Hands {
    shown: OffsetDateTime,
    read_at: Instant,
    scale: f64,
    frozen: bool,
}

impl Hands {
    fn now(&self) -> OffsetDateTime {
        if self.frozen {
            return self.shown;
        }
        let passed = self.read_at.elapsed().as_secs_f64() * self.scale;
        self.shown.saturating_add(Duration::saturating_seconds_f64(passed))
    }

    /// Makes the present moment the new base, so that a change of scale or state does not jump.
    fn rebase(&mut self) {
        self.shown = self.now();
        self.read_at = Instant::now();
    }
}

/// What the clock is doing, as the control API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ClockState {
    /// The simulator's present time.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// Whether time stands still until it is moved.
    pub frozen: bool,
    /// Simulated seconds per real second.
    pub scale: f64,
}

/// What a state file keeps of a clock. While the simulator is down, a running clock goes on as real time does and a
/// frozen one stands.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct Kept {
    /// How far it was ahead of real time.
    ahead_millis: i64,
    /// Where a frozen clock stood.
    frozen_at: Option<OffsetDateTime>,
    scale: f64,
}

impl Clock {
    /// What is to be kept over a restart.
    #[expect(clippy::disallowed_methods, reason = "the distance to real time is what is kept")]
    pub(crate) fn kept(&self) -> Kept {
        let real = OffsetDateTime::now_utc();
        self.with(|h| Kept {
            ahead_millis: if h.frozen { 0 } else { (h.now() - real).whole_milliseconds().try_into().unwrap_or(0) },
            frozen_at: h.frozen.then_some(h.shown),
            scale: h.scale,
        })
    }

    /// Goes on where a kept clock stood.
    pub(crate) fn restore(&self, kept: &Kept) {
        self.set_scale(kept.scale);
        match kept.frozen_at {
            Some(at) => {
                self.freeze();
                self.set(at);
            }
            None => self.set(self.now().saturating_add(Duration::milliseconds(kept.ahead_millis))),
        }
    }

    /// A clock that shows real time.
    #[expect(clippy::disallowed_methods, reason = "this is the simulator's clock; everything else asks it")]
    pub(crate) fn real() -> Self {
        Self(Arc::new(Mutex::new(Hands {
            shown: OffsetDateTime::now_utc(),
            read_at: Instant::now(),
            scale: 1.0,
            frozen: false,
        })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Hands) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The simulator's present time, in UTC.
    pub fn now(&self) -> OffsetDateTime {
        self.with(|h| h.now())
    }

    /// Moves the clock forward; it goes on running, or stands still, as before.
    pub fn advance(&self, by: std::time::Duration) {
        self.with(|h| {
            h.rebase();
            h.shown = h.shown.saturating_add(Duration::saturating_seconds_f64(by.as_secs_f64()));
        });
    }

    /// Sets the clock. Going back is allowed; what has happened stays happened.
    pub fn set(&self, to: OffsetDateTime) {
        self.with(|h| {
            h.rebase();
            h.shown = to;
        });
    }

    /// Stops the clock where it is.
    pub fn freeze(&self) {
        self.with(|h| {
            h.rebase();
            h.frozen = true;
        });
    }

    /// Lets a frozen clock run again from where it stands.
    pub fn resume(&self) {
        self.with(|h| {
            h.rebase();
            h.frozen = false;
        });
    }

    /// Simulated seconds per real second, at least 0 and at most 1,000,000; other values (NaN too) are clamped.
    pub fn set_scale(&self, scale: f64) {
        self.with(|h| {
            h.rebase();
            h.scale = if scale.is_finite() { scale.clamp(0.0, 1_000_000.0) } else { 1.0 };
        });
    }

    /// What the clock is doing.
    pub fn state(&self) -> ClockState {
        self.with(|h| ClockState { now: h.now(), frozen: h.frozen, scale: h.scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_moved() {
        let clock = Clock::real();
        clock.freeze();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(std::time::Duration::from_secs(90));
        assert_eq!(clock.now() - before, Duration::seconds(90));
    }

    #[test]
    fn hostile_values_do_not_panic() {
        let clock = Clock::real();
        clock.set_scale(f64::NAN);
        clock.set_scale(f64::INFINITY);
        clock.advance(std::time::Duration::MAX);
        clock.advance(std::time::Duration::MAX);
        assert!(clock.now().year() >= 2026);
    }
}
