//! Who waits at one bucket, and whose turn is next.
//!
//! What belongs here: seats, turns, order. What does not: how long a turn takes to come (`bucket`).
//!
//! A seat is a job's slot at its worker, so there are few: who finds none comes back later through the database and
//! leaves its slot to somebody else. Turns go round between the lanes (subscriptions); within a lane the oldest job is
//! first, so that jobs are finished in their order instead of all at the end. Looks at something that is on its way
//! get every fourth turn at most while there is work, and at least that.

use std::time::Duration;

use uuid::Uuid;

/// Seats of one lane for calls that are work.
const WORK_SEATS: usize = 8;
/// Seats of one lane for looks.
const LOOK_SEATS: usize = 4;
/// Seats in all.
const SEATS: usize = 64;
/// Turns of work before a look has one.
const WORK_BEFORE_LOOK: u32 = 3;
/// The furthest that those without a seat are spread over time.
const SPREAD: Duration = Duration::from_secs(60);

/// A call that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub id: u64,
    pub lane: Uuid,
    /// Ids of jobs are in the order of their creation.
    pub job: Uuid,
    pub looks: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<Waiter>,
    last_lane: Uuid,
    work_in_a_row: u32,
    spread_until: Duration,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn has(&self, id: u64) -> bool {
        self.waiting.iter().any(|w| w.id == id)
    }

    /// Takes a seat. Where none is free, an older job has the seat of the youngest of its kind in its lane.
    pub fn enter(&mut self, waiter: Waiter) -> bool {
        let rivals = || self.waiting.iter().filter(|w| w.lane == waiter.lane && w.looks == waiter.looks);
        let seats = if waiter.looks { LOOK_SEATS } else { WORK_SEATS };
        if rivals().count() < seats && self.waiting.len() < SEATS {
            self.waiting.push(waiter);
            return true;
        }
        let youngest = rivals().max_by_key(|w| (w.job, w.id)).filter(|w| w.job > waiter.job).map(|w| w.id);
        let Some(seat) = youngest.and_then(|id| self.waiting.iter_mut().find(|w| w.id == id)) else { return false };
        *seat = waiter;
        true
    }

    /// Whose turn it is.
    pub fn next(&self) -> Option<u64> {
        let any = |looks: bool| self.waiting.iter().any(move |w| w.looks == looks);
        let looks = any(true) && (!any(false) || self.work_in_a_row >= WORK_BEFORE_LOOK);
        let of_kind = || self.waiting.iter().filter(|w| w.looks == looks);
        let lane = of_kind().map(|w| (w.lane <= self.last_lane, w.lane)).min()?.1;
        of_kind().filter(|w| w.lane == lane).min_by_key(|w| (w.job, w.id)).map(|w| w.id)
    }

    /// The waiter's turn came.
    pub fn served(&mut self, id: u64) {
        if let Some(at) = self.waiting.iter().position(|w| w.id == id) {
            let waiter = self.waiting.swap_remove(at);
            self.last_lane = waiter.lane;
            self.work_in_a_row = if waiter.looks { 0 } else { self.work_in_a_row.saturating_add(1) };
        }
    }

    /// The waiter went away.
    pub fn leave(&mut self, id: u64) {
        self.waiting.retain(|w| w.id != id);
    }

    /// When somebody without a seat is to come back: one after the other behind `wait`, two turns apart, so that they
    /// do not all come at once; the seats keep the bucket busy meanwhile.
    pub fn come_back(&mut self, now: Duration, wait: Duration, spacing: Duration) -> Duration {
        let first = now.saturating_add(wait);
        let slot = self.spread_until.max(first).saturating_add(spacing.saturating_mul(2));
        self.spread_until = slot.min(first.saturating_add(SPREAD));
        self.spread_until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(id: u64, lane: u128, job: u128, looks: bool) -> Waiter {
        Waiter { id, lane: Uuid::from_u128(lane), job: Uuid::from_u128(job), looks }
    }

    fn drain(queue: &mut Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.next().inspect(|id| queue.served(*id))).collect()
    }

    #[test]
    fn within_a_lane_the_oldest_job_is_first_and_lanes_take_turns() {
        let mut queue = Queue::default();
        // Lane 1 fills its seats before lane 2 comes.
        for (id, lane, job) in [(1, 1, 30), (2, 1, 10), (3, 1, 20), (4, 1, 10), (5, 2, 99), (6, 2, 98)] {
            assert!(queue.enter(waiter(id, lane, job, false)));
        }
        assert_eq!(drain(&mut queue), [2, 6, 4, 5, 3, 1]);
    }

    #[test]
    fn looks_have_every_fourth_turn_and_all_that_work_leaves() {
        let mut queue = Queue::default();
        for id in 0..6 {
            assert!(queue.enter(waiter(id, 1, u128::from(id) + 10, false)));
        }
        for id in 100..104 {
            assert!(queue.enter(waiter(id, 1, u128::from(id) - 100, true)));
        }
        assert_eq!(drain(&mut queue), [0, 1, 2, 100, 3, 4, 5, 101, 102, 103]);
    }

    #[test]
    fn seats_are_few_and_an_older_job_has_the_youngests() {
        let mut queue = Queue::default();
        for id in 0..8 {
            assert!(queue.enter(waiter(id, 1, u128::from(id) * 10 + 10, false)));
        }
        assert!(!queue.enter(waiter(20, 1, 500, false)), "no seat for a younger job");
        assert!(queue.enter(waiter(21, 1, 15, false)), "an older one has the youngest's");
        assert!(!queue.has(7) && queue.has(21) && queue.len() == 8);
        assert!(queue.enter(waiter(22, 2, 900, false)), "another lane has its own");
        assert!(queue.enter(waiter(23, 1, 900, true)), "looks have their own");
        for lane in 3..200 {
            for id in 0..20 {
                queue.enter(waiter(lane * 100 + id, u128::from(lane), u128::from(id), false));
            }
        }
        assert!(queue.len() <= SEATS);
    }

    #[test]
    fn who_has_no_seat_comes_back_one_after_the_other_within_a_minute() {
        let mut queue = Queue::default();
        let (now, wait, spacing) = (Duration::from_secs(5), Duration::from_secs(2), Duration::from_millis(100));
        let mut delay = || queue.come_back(now, wait, spacing).as_millis();
        assert_eq!([delay(), delay(), delay()], [2200, 2400, 2600]);
        for _ in 0..1000 {
            assert!(delay() <= 62_000);
        }
        // Later the spread begins anew.
        assert_eq!(queue.come_back(Duration::from_secs(500), wait, spacing).as_millis(), 2200);
    }
}
