//! When to look again: pure arithmetic over class, attempt and elapsed time.
//!
//! What belongs here: delays and their bounds. What does not: the clock, randomness (a number in `0.0..1.0` is passed
//! in) and the decision whether to retry at all, which is the engine's.

use std::time::Duration;

/// How often a step may fail with a transient error before its job fails.
pub const MAX_ATTEMPTS: u32 = 10;

/// The longest a `Retry-After` header is believed.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// The longest Azure may take over one accepted change before the step gives up waiting.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

const RETRY_BASE: Duration = Duration::from_secs(1);
const RETRY_CAP: Duration = Duration::from_secs(120);

/// The delay before attempt `attempt + 1` after a transient error; `attempt` counts from 1.
///
/// Doubles from one second to two minutes, with jitter over the upper half; Azure's `Retry-After` is a lower bound.
pub fn retry_delay(attempt: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let exponent = attempt.saturating_sub(1).min(16);
    let full = RETRY_BASE.saturating_mul(1 << exponent).min(RETRY_CAP);
    let delay = full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
    delay.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// The delay before the next look at something that is on its way, `elapsed` after the wait began.
///
/// It grows with the time already waited, so that the wait ends within a few percent of the moment the thing arrives,
/// and the number of looks grows with the logarithm of the time.
pub fn probe_delay(elapsed: Duration, retry_after: Option<Duration>) -> Duration {
    let delay = elapsed.mul_f64(0.04).clamp(Duration::from_millis(500), Duration::from_secs(15));
    delay.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_delays_double_jitter_and_are_capped() {
        for (attempt, low, high) in
            [(1, 500, 1000), (2, 1000, 2000), (5, 8000, 16_000), (9, 60_000, 120_000), (u32::MAX, 60_000, 120_000)]
        {
            assert_eq!(retry_delay(attempt, None, 0.0), Duration::from_millis(low), "{attempt}");
            assert_eq!(retry_delay(attempt, None, 1.0), Duration::from_millis(high), "{attempt}");
        }
        assert_eq!(retry_delay(1, Some(Duration::from_secs(30)), 0.0), Duration::from_secs(30));
        assert_eq!(retry_delay(1, Some(Duration::from_secs(1_000_000)), 0.0), MAX_RETRY_AFTER);
    }

    /// When a wait for something that arrives after `arrives` ends, and how many looks it takes.
    fn wait_for(arrives: Duration) -> (Duration, u32) {
        let (mut elapsed, mut looks) = (Duration::ZERO, 1);
        while elapsed < arrives {
            elapsed += probe_delay(elapsed, None);
            looks += 1;
        }
        (elapsed, looks)
    }

    #[test]
    fn a_wait_ends_soon_after_the_thing_arrives() {
        for arrives in [0u64, 2, 5, 15, 45, 60, 130, 300, 600] {
            let arrives = Duration::from_secs(arrives);
            let (ended, _) = wait_for(arrives);
            let late = Duration::from_secs(1).max(arrives.mul_f64(0.05));
            assert!(ended - arrives <= late, "{arrives:?} ended at {ended:?}");
        }
    }

    #[test]
    fn looks_grow_with_the_logarithm_of_the_time_up_to_the_longest_delay() {
        // From 12.5 s, where a delay of 4 % exceeds half a second, to 375 s, where it reaches 15 s: doubling the time costs
        // ln 2 / ln 1.04 looks, which is 17.7.
        for seconds in [15, 30, 60, 120, 180] {
            let (once, twice) =
                (wait_for(Duration::from_secs(seconds)).1, wait_for(Duration::from_secs(2 * seconds)).1);
            assert!(twice - once <= 19, "{seconds} s: {once} looks, twice that: {twice}");
        }
        // Then one every 15 seconds.
        assert!(wait_for(Duration::from_secs(4200)).1 - wait_for(Duration::from_secs(600)).1 <= 241);
    }
}
