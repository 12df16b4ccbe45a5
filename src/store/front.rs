//! Where a process begins to look for due jobs, so that it does not walk over what is dead.
//!
//! Every claim leaves a dead entry at the head of the index over due jobs. As long as some reader's snapshot is held anywhere
//! in the database, nothing may clear them away, and each claim from the beginning walks over all of them: a minute of that
//! made a claim more than twenty times as slow. So most looks begin where the last one found something, and leave those that
//! run alone.
//!
//! What belongs here: from where to look, and when to look at everything. What does not: the statement (`claims`). It is a
//! hint only: whatever was missed, because it was committed late, was given back by a statement that failed, or had its
//! lease end, is found by the next whole look.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// Between two whole looks of a process. A dead worker's jobs are found by one of them.
const EVERY: Duration = Duration::from_secs(1);

/// How much of the time whole looks may take, where they have become slow: one part of so many.
const PART: u32 = 20;

/// A job is stored a moment after the time that it is due from. No look begins closer behind the last one than this.
const SLACK: Duration = Duration::from_millis(500);

/// How the next claim looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// At everything that is due, and at every lease.
    Whole,
    /// At what is due from this time on.
    From(OffsetDateTime),
}

impl Look {
    /// The beginning; `None` is that of all times.
    pub(super) const fn begin(self) -> Option<OffsetDateTime> {
        match self {
            Self::Whole => None,
            Self::From(begin) => Some(begin),
        }
    }
}

/// What a claim found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The time by the database's clock.
    pub(super) now: OffsetDateTime,
    /// Since when the job that was due longest was due, if jobs were left behind: as many as asked for were found.
    pub(super) oldest_of_many: Option<OffsetDateTime>,
}

/// The memory of one process.
#[derive(Debug, Default)]
pub(super) struct Front(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    begin: Option<OffsetDateTime>,
    whole_at: Option<Instant>,
}

impl Front {
    /// How to look now. Whoever is told to look at everything does so for the others too.
    pub(super) fn next(&self, now: Instant) -> Look {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.begin, known.whole_at) {
            (Some(begin), Some(at)) if now < at => Look::From(begin),
            _ => {
                known.whole_at = Some(now + EVERY);
                Look::Whole
            }
        }
    }

    /// Where a look begins that does not look at everything.
    pub(super) fn begin(&self) -> Option<OffsetDateTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).begin
    }

    /// How long it is until everything is looked at again.
    pub(super) fn until_whole(&self, now: Instant) -> Duration {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.whole_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// What a look found that began and ended then; nothing moves where it found nothing.
    pub(super) fn note(&self, look: Look, began: Instant, ended: Instant, found: Option<Found>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found {
            known.begin = Some(found.oldest_of_many.unwrap_or(found.now) - SLACK);
        }
        if look == Look::Whole {
            known.whole_at = Some(ended + EVERY.max(ended.duration_since(began) * PART));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn found(seconds: i64, oldest: Option<i64>) -> Option<Found> {
        let at = |s: i64| THEN + time::Duration::seconds(s);
        Some(Found { now: at(seconds), oldest_of_many: oldest.map(at) })
    }

    #[test]
    fn everything_is_looked_at_first_and_then_each_second() {
        let (front, t) = (Front::default(), Instant::now());
        assert_eq!(front.next(t), Look::Whole);
        assert_eq!(front.next(t), Look::Whole, "nothing is known as long as the first look is under way");
        front.note(Look::Whole, t, t, found(100, None));
        assert_eq!(front.next(t), Look::From(THEN + time::Duration::milliseconds(99_500)));
        assert_eq!(front.until_whole(t), EVERY);
        assert_eq!(front.next(t + EVERY), Look::Whole);
        assert_ne!(front.next(t + EVERY), Look::Whole, "another one does it");
        assert_eq!(front.next(t + EVERY * 2), Look::Whole, "also where the other one failed");
    }

    #[test]
    fn a_look_begins_behind_the_oldest_of_those_that_were_found() {
        let (front, t) = (Front::default(), Instant::now());
        for (what, want) in [
            (found(100, Some(40)), 39_500),
            (found(101, Some(41)), 40_500),
            (None, 40_500),
            (found(102, None), 101_500),
            (found(103, Some(42)), 41_500),
        ] {
            front.note(Look::From(THEN), t, t, what);
            assert_eq!(front.begin(), Some(THEN + time::Duration::milliseconds(want)));
        }
    }

    #[test]
    fn slow_whole_looks_are_rare() {
        let (front, t) = (Front::default(), Instant::now());
        let ended = t + Duration::from_secs(3);
        front.note(Look::Whole, t, ended, found(1, None));
        assert_eq!(front.until_whole(ended), Duration::from_secs(60));
    }
}
