//! One token bucket as Azure keeps it, seen from outside: how long until a call may be sent, and what answers teach.
//!
//! What belongs here: pure arithmetic on times that are passed in. What does not: who waits (`queue`), which call takes
//! from which bucket (`key`), and waiting itself.
//!
//! Azure's own count, where answers tell it, is the truth; between two answers this process adds what should have run
//! in. The pace of that is measured from the counts themselves, **net of what others took**: with several workers on
//! one limit each measures what is left for it, without talking to the others. A cushion of unspent tokens absorbs
//! that all of them may see the same last one. Where nothing is told (Key Vault), the pace is halved-by-steps on each
//! 429 and recovers linearly.

use std::time::Duration;

/// Published limits of one bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::azure) struct Figures {
    /// Calls that can be sent at once.
    pub burst: f64,
    /// Calls that run in per second.
    pub per_second: f64,
    /// Whether answers tell what is left.
    pub told: bool,
}

/// What an answer says about the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::azure) struct Told {
    /// What is left, by the answer's headers.
    pub remaining: Option<u32>,
    /// Whether the call was refused for too many calls (429).
    pub throttled: bool,
    /// Whether the answer was 503.
    pub unavailable: bool,
    /// How long Azure asks to wait.
    pub retry_after: Option<Duration>,
}

/// When the next call may be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    Now,
    After(Duration),
    /// Too little is known: not before a call on the wire is answered.
    OnAnswer,
}

/// Calls on the wire while nothing recent is known: another process may have emptied the bucket.
const COLD: u32 = 4;
/// Of this many that are left one may be on the wire.
const WIRE: f64 = 4.0;
/// After so long without an answer nothing recent is known.
const STALE: Duration = Duration::from_secs(30);
/// What a refusal leaves of the pace.
const CUT: f64 = 0.7;
/// The slowest pace, as a part of the published one.
const SLOWEST: f64 = 0.02;
/// The same for a measured one: while others use up their burst, nothing seems to run in.
const SLOWEST_MEASURED: f64 = 0.1;
/// The fastest measured pace that is believed, as a multiple of the published one.
const FASTEST: f64 = 50.0;
/// The time in which a pace recovers from nothing to the published one.
const RECOVERY: f64 = 60.0;
/// The time in which two thirds of the caution go.
const CAUTION: f64 = 120.0;
/// The largest cushion, as a multiple of the least.
const MOST_CAUTION: f64 = 32.0;
/// The pause after a refusal without `Retry-After`.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that a 503 stops a bucket: in Azure Resource Manager it speaks for one provider, the bucket is for all.
const UNAVAILABLE: Duration = Duration::from_secs(2);
/// Between two measurements of the pace at least and at most.
const MEASURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A count to measure the pace from.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Duration,
    call: u64,
    remaining: f64,
    throttled: u64,
}

#[derive(Debug)]
pub(super) struct Bucket {
    figures: Figures,
    /// What is left at `at`, less the calls whose answers have not told of them. Below zero when more were sent.
    level: f64,
    at: Duration,
    /// Calls per second that run in for this process.
    pace: f64,
    measured: bool,
    /// The most that it held as far as is known.
    most: f64,
    /// Calls sent so far; a call's number is the count with it.
    sent: u64,
    /// The latest call whose answer told what is left.
    newest: u64,
    on_the_wire: u32,
    answered_at: Option<Duration>,
    closed_until: Duration,
    /// Refusals of calls up to this one have slowed the pace already.
    cut_at: u64,
    throttled: u64,
    /// A call was refused although something was left: another limit is below this one, so counts only lower the level.
    doubted: bool,
    /// By how much the cushion is larger than where nobody shares.
    caution: f64,
    /// Calls up to this one have added to the caution already.
    warned_at: u64,
    mark: Option<Mark>,
}

impl Bucket {
    pub fn new(figures: Figures, now: Duration) -> Self {
        Self {
            level: figures.burst,
            at: now,
            // Unmeasured, half the published pace: more would be guessing on credit.
            pace: if figures.told { figures.per_second / 2.0 } else { figures.per_second },
            measured: !figures.told,
            most: figures.burst,
            sent: 0,
            newest: 0,
            on_the_wire: 0,
            answered_at: None,
            closed_until: Duration::ZERO,
            cut_at: 0,
            throttled: 0,
            doubted: false,
            caution: 1.0,
            warned_at: 0,
            mark: None,
            figures,
        }
    }

    /// When a call may be sent that has `ahead` others before it.
    pub fn next(&mut self, now: Duration, ahead: usize) -> Next {
        self.fill(now);
        let closed = self.closed_until.saturating_sub(now);
        let ahead = f64::from(u32::try_from(ahead).unwrap_or(u32::MAX));
        let missing = 1.0 + ahead + self.cushion() - self.level;
        if missing > 0.0 {
            let run_in = Duration::try_from_secs_f64(missing / self.pace).unwrap_or(Duration::MAX);
            // One microsecond more, so that rounding cannot make the call come too early for ever.
            return Next::After(closed.saturating_add(run_in).saturating_add(Duration::from_micros(1)));
        }
        if !closed.is_zero() {
            return Next::After(closed);
        }
        if self.has_wire(now) { Next::Now } else { Next::OnAnswer }
    }

    /// Counts a call that is sent now; returns its number.
    pub fn send(&mut self, now: Duration) -> u64 {
        self.fill(now);
        self.level -= 1.0;
        self.sent += 1;
        self.on_the_wire += 1;
        self.sent
    }

    /// A call will not be answered: it was cut, or never sent. It may have been counted.
    pub fn lost(&mut self) {
        self.on_the_wire = self.on_the_wire.saturating_sub(1);
    }

    /// Learns from the answer to a call. Returns whether the pace was cut.
    pub fn answered(&mut self, call: u64, now: Duration, told: Told) -> bool {
        self.fill(now);
        self.lost();
        self.answered_at = Some(now);
        if let Some(remaining) = told.remaining.filter(|_| call > self.newest) {
            self.count(call, now, f64::from(remaining));
        }
        if told.unavailable
            && let Some(pause) = told.retry_after
        {
            self.close(now, pause.min(UNAVAILABLE));
        }
        told.throttled && self.refused(call, now, told)
    }

    /// How far apart calls run in.
    pub fn spacing(&self) -> Duration {
        Duration::try_from_secs_f64(1.0 / self.pace).unwrap_or(Duration::MAX)
    }

    /// Calls per second that this process counts on.
    pub fn pace(&self) -> f64 {
        self.pace
    }

    /// Whether a call is waiting for its answer.
    pub fn is_busy(&self) -> bool {
        self.on_the_wire > 0
    }

    /// Whether it is no other than a new one would be, where no call came for a while: what Azure told is not forgotten, and a
    /// pause that was asked for is kept.
    pub fn is_as_new(&self, now: Duration) -> bool {
        !self.figures.told && !self.is_busy() && self.closed_until <= now
    }

    /// Whether one more call may be on the wire: a part of what is left may, so that those who see the same count do not
    /// all take it. Where answers are slow this leaves more unspent, and that is what keeps enough calls on the wire.
    fn has_wire(&self, now: Duration) -> bool {
        if !self.figures.told {
            return true;
        }
        if self.answered_at.is_none_or(|at| now.saturating_sub(at) > STALE) {
            return self.on_the_wire < COLD;
        }
        let on_the_wire = f64::from(self.on_the_wire);
        let left = self.level + on_the_wire;
        on_the_wire < (left / (WIRE * self.caution.sqrt())).max(1.0)
    }

    /// Tokens that are left for others who saw the same count: a twentieth, doubled by each refusal up to a half, and
    /// never so many that nothing can be sent. It costs them once; what runs in on top is used.
    fn cushion(&self) -> f64 {
        if !self.figures.told {
            return 0.0;
        }
        let least = (self.most / 20.0).clamp(1.0, 20.0);
        (least * self.caution).min(self.most / 2.0).max(least).min(self.most - 1.0).max(0.0).floor()
    }

    /// Lets run in what is due. While the bucket is closed nothing does.
    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        self.at = now;
        self.caution = (self.caution * (-passed / CAUTION).exp()).max(1.0);
        self.level = (self.level + passed * self.pace).min(self.most.max(self.level));
        if (self.doubted || !self.figures.told) && self.pace < self.figures.per_second {
            self.pace = (self.pace + passed * self.figures.per_second / RECOVERY).min(self.figures.per_second);
            self.doubted &= self.pace < self.figures.per_second;
        }
    }

    /// Azure's own count, told by the newest call so far.
    fn count(&mut self, call: u64, now: Duration, remaining: f64) {
        let held = remaining + 1.0;
        self.most = if self.newest == 0 { held } else { self.most.max(held) };
        self.newest = call;
        self.measure(call, now, remaining);
        // Others ate into the cushion: a larger one, before somebody is refused.
        if remaining < self.cushion() / 2.0 && call > self.warned_at {
            self.warned_at = self.sent;
            self.caution = (self.caution * 1.5).min(MOST_CAUTION);
        }
        // Calls sent after this one may or may not be in the count; taken as if they are not.
        let after = f64::from(u32::try_from(self.sent - call).unwrap_or(u32::MAX));
        let left = remaining - after;
        if left < self.level || !self.doubted {
            self.level = left;
        }
    }

    /// What ran in since the mark: the difference of the counts and what this process took between them.
    fn measure(&mut self, call: u64, now: Duration, remaining: f64) {
        let here = Mark { at: now, call, remaining, throttled: self.throttled };
        let Some(mark) = self.mark else {
            self.mark = Some(here);
            return;
        };
        let passed = now.saturating_sub(mark.at);
        if passed < MEASURE.0 {
            return;
        }
        self.mark = Some(here);
        // A bucket that is nearly full may have overflowed meanwhile.
        if passed > MEASURE.1 || remaining.max(mark.remaining) > self.most * 0.75 {
            return;
        }
        let taken = (call - mark.call).saturating_sub(self.throttled - mark.throttled);
        let ran_in = remaining - mark.remaining + f64::from(u32::try_from(taken).unwrap_or(u32::MAX));
        let seen = ran_in / passed.as_secs_f64();
        let pace = if self.measured { 0.6 * self.pace + 0.4 * seen } else { seen };
        self.measured = true;
        if !self.doubted {
            let published = self.figures.per_second;
            self.pace = pace.clamp(published * SLOWEST_MEASURED, published * FASTEST);
        }
    }

    fn refused(&mut self, call: u64, now: Duration, told: Told) -> bool {
        self.throttled += 1;
        self.doubted |= self.figures.told && told.remaining.is_none_or(|left| left > 0);
        let cut = call > self.cut_at;
        if cut {
            // Calls that were on the wire meanwhile tell of the same trouble.
            self.cut_at = self.sent;
            self.caution = (self.caution * 2.0).min(MOST_CAUTION);
            let from = if self.doubted { self.pace.min(self.figures.per_second) } else { self.pace };
            self.pace = (from * CUT).max(self.figures.per_second * SLOWEST);
        }
        self.close(now, told.retry_after.unwrap_or(PAUSE));
        // Azure promises one call after the pause and no more.
        self.level = 1.0 + self.cushion();
        self.at = self.at.max(self.closed_until);
        cut
    }

    fn close(&mut self, now: Duration, pause: Duration) {
        self.closed_until = self.closed_until.max(now.saturating_add(pause));
    }
}
