//! The bucket's arithmetic as tables, and its learning against a server that counts as Azure does.

use std::time::Duration;

use super::bucket::{Bucket, Figures, Next, Told};

const FIGURES: Figures = Figures { burst: 250.0, per_second: 25.0, told: true };
const UNTOLD: Figures = Figures { burst: 4.0, per_second: 2.0, told: false };

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn left(remaining: u32) -> Told {
    Told { remaining: Some(remaining), ..Told::default() }
}

fn refused(remaining: Option<u32>, seconds: u64) -> Told {
    Told { remaining, throttled: true, retry_after: Some(Duration::from_secs(seconds)), ..Told::default() }
}

/// The wait for a call's turn, in whole milliseconds.
fn wait(bucket: &mut Bucket, now: Duration) -> Option<u128> {
    match bucket.next(now, 0) {
        Next::Now => Some(0),
        Next::After(wait) => Some(wait.as_millis()),
        Next::OnAnswer => None,
    }
}

#[test]
fn a_bucket_without_counts_empties_fills_and_never_overflows() {
    let mut bucket = Bucket::new(UNTOLD, ms(0));
    for _ in 0..4 {
        assert_eq!(wait(&mut bucket, ms(0)), Some(0));
        let call = bucket.send(ms(0));
        bucket.answered(call, ms(0), Told::default());
    }
    // Two a second; two ahead are two more to wait for.
    assert_eq!(wait(&mut bucket, ms(0)), Some(500));
    assert_eq!(bucket.next(ms(0), 2), Next::After(ms(1500) + Duration::from_micros(1)));
    assert_eq!(wait(&mut bucket, ms(200)), Some(300));
    assert_eq!(wait(&mut bucket, ms(501)), Some(0));
    for _ in 0..4 {
        assert_eq!(wait(&mut bucket, ms(100_000)), Some(0));
        bucket.send(ms(100_000));
    }
    assert_eq!(wait(&mut bucket, ms(100_000)), Some(500));
    // A clock that went back takes and gives nothing.
    assert_eq!(wait(&mut bucket, ms(99_000)), Some(500));
}

#[test]
fn until_something_is_known_only_few_calls_are_on_the_wire() {
    let mut bucket = Bucket::new(FIGURES, ms(0));
    let calls: Vec<u64> =
        std::iter::from_fn(|| (bucket.next(ms(0), 0) == Next::Now).then(|| bucket.send(ms(0)))).collect();
    assert_eq!((calls.len(), wait(&mut bucket, ms(5000))), (4, None));
    // The count rules: of 23 that are left, less three that it may not know of, a quarter may be on the wire.
    bucket.answered(calls[0], ms(20), left(23));
    let more = std::iter::from_fn(|| (bucket.next(ms(20), 0) == Next::Now).then(|| bucket.send(ms(20)))).count();
    assert_eq!((more, bucket.next(ms(20), 0)), (3, Next::OnAnswer));
    // A call that was cut does not block for ever, and long silence is as if nothing was known.
    let mut bucket = Bucket::new(FIGURES, ms(0));
    for _ in 0..4 {
        bucket.send(ms(0));
    }
    bucket.lost();
    assert_eq!(wait(&mut bucket, ms(1)), Some(0));
}

#[test]
fn counts_raise_and_lower_and_an_old_one_changes_nothing() {
    let mut bucket = Bucket::new(FIGURES, ms(0));
    let (first, second) = (bucket.send(ms(0)), bucket.send(ms(0)));
    bucket.answered(second, ms(10), left(1));
    assert!(wait(&mut bucket, ms(10)).is_some_and(|wait| wait > 0), "one is left, for the others");
    bucket.answered(first, ms(10), left(200));
    assert!(wait(&mut bucket, ms(10)).is_some_and(|wait| wait > 0), "the older count is out of date");
    let third = bucket.send(ms(10));
    bucket.answered(third, ms(20), left(9000));
    assert_eq!(wait(&mut bucket, ms(20)), Some(0), "Azure gives more than it publishes");
}

#[test]
fn a_refusal_closes_for_retry_after_and_cuts_the_pace_once() {
    let mut bucket = Bucket::new(UNTOLD, ms(0));
    let calls = [0, 0, 0].map(|_| bucket.send(ms(0)));
    let cuts = calls.map(|call| bucket.answered(call, ms(10), refused(None, 5)));
    assert_eq!(cuts, [true, false, false], "all three were sent before the first refusal");
    assert!((bucket.pace() - 1.4).abs() < 1e-9);
    assert_eq!(wait(&mut bucket, ms(10)), Some(5000));
    assert_eq!(wait(&mut bucket, ms(5010)), Some(0));
    let next = bucket.send(ms(5010));
    assert_eq!(wait(&mut bucket, ms(5010)).map(|wait| wait > 400), Some(true), "one call, then the pace");
    assert!(bucket.answered(next, ms(5020), refused(None, 1)), "a later refusal cuts again");
    // It recovers in about a minute, and not beyond what is published.
    assert!(bucket.pace() < 1.2);
    bucket.next(ms(80_000), 0);
    assert!((bucket.pace() - 2.0).abs() < 1e-9);
}

#[test]
fn however_often_it_is_refused_it_goes_on() {
    for figures in [FIGURES, UNTOLD, Figures { burst: 1.0, per_second: 0.1, told: true }] {
        let (mut bucket, mut now) = (Bucket::new(figures, ms(0)), ms(0));
        for _ in 0..1000 {
            match bucket.next(now, 0) {
                Next::After(wait) => now += wait,
                Next::Now | Next::OnAnswer => {}
            }
            let call = bucket.send(now);
            bucket.answered(call, now, refused(Some(0), 0));
        }
        let slowest = figures.per_second * 0.02;
        assert!(bucket.pace() >= slowest * 0.999, "{figures:?}");
        match bucket.next(now, 0) {
            Next::After(wait) => assert!(wait.as_secs_f64() <= 2.0 / slowest, "{wait:?}"),
            other => assert_eq!(other, Next::Now),
        }
    }
}

#[test]
fn unavailable_stops_a_bucket_for_moments_only() {
    let mut bucket = Bucket::new(FIGURES, ms(0));
    let call = bucket.send(ms(0));
    let told = Told { unavailable: true, retry_after: Some(Duration::from_secs(300)), ..left(200) };
    assert!(!bucket.answered(call, ms(0), told));
    assert_eq!(wait(&mut bucket, ms(0)), Some(2000));
    assert_eq!(wait(&mut bucket, ms(2000)), Some(0));
}

/// A limit as Azure keeps it.
struct Server {
    burst: f64,
    per_second: f64,
    level: f64,
    at: f64,
    answered: u32,
    refused: u32,
}

impl Server {
    fn answer(&mut self, now: f64, hidden: bool) -> Told {
        self.level = (self.level + (now - self.at) * self.per_second).min(self.burst);
        self.at = now;
        if self.level < 1.0 {
            self.refused += 1;
            let retry_after = Some(Duration::from_secs(((1.0 - self.level) / self.per_second).ceil() as u64));
            return Told { remaining: Some(0), throttled: true, retry_after, ..Told::default() };
        }
        self.level -= 1.0;
        self.answered += 1;
        Told { remaining: (!hidden).then_some(self.level as u32), ..Told::default() }
    }
}

/// One scenario: processes that always have something to send share one limit for a while.
struct Run {
    figures: Figures,
    burst: f64,
    per_second: f64,
    processes: usize,
    latency: u64,
    seconds: u64,
}

impl Run {
    /// The part of what the limit allows that was used, and the part of calls that were refused.
    fn play(&self) -> (f64, f64) {
        const SLOTS: usize = 32;
        let mut server = Server {
            burst: self.burst,
            per_second: self.per_second,
            level: self.burst,
            at: 0.0,
            answered: 0,
            refused: 0,
        };
        let mut buckets: Vec<Bucket> = (0..self.processes).map(|_| Bucket::new(self.figures, ms(0))).collect();
        // What is on the wire: process, call, when Azure counts it, when its answer is there, the answer.
        let mut wire: Vec<(usize, u64, u64, u64, Option<Told>)> = Vec::new();
        for now in 0..self.seconds * 1000 {
            for (_, _, counted, _, told) in &mut wire {
                if *counted == now {
                    *told = Some(server.answer(now as f64 / 1000.0, !self.figures.told));
                }
            }
            for (process, call, .., told) in wire.extract_if(.., |(.., back, _)| *back == now) {
                buckets[process].answered(call, ms(now), told.expect("it was counted on its way"));
            }
            for turn in 0..self.processes {
                let process = (turn + now as usize) % self.processes;
                let on_wire = wire.iter().filter(|(of, ..)| *of == process).count();
                if on_wire < SLOTS && buckets[process].next(ms(now), 0) == Next::Now {
                    let call = buckets[process].send(ms(now));
                    // Latencies differ, so answers overtake each other.
                    let latency = self.latency + call % 7 * self.latency / 4;
                    wire.push((process, call, now + latency / 2 + 1, now + latency + 1, None));
                }
            }
        }
        let allowed = self.burst + self.per_second * self.seconds as f64;
        let all = f64::from(server.answered + server.refused);
        (f64::from(server.answered) / allowed, f64::from(server.refused) / all)
    }
}

#[test]
fn a_limit_is_used_up_and_hardly_exceeded_whatever_it_is_and_whoever_shares_it() {
    let reads = (250.0, 25.0);
    let writes = Figures { burst: 200.0, per_second: 10.0, told: true };
    for (name, figures, (burst, per_second), processes, latency, seconds, most_refused) in [
        ("as published", FIGURES, reads, 1, 20, 120, 0.01),
        ("as published, slow answers", FIGURES, reads, 1, 200, 120, 0.01),
        ("writes as published, slow answers", writes, (200.0, 10.0), 1, 400, 120, 0.01),
        ("three processes", FIGURES, reads, 3, 50, 120, 0.01),
        ("eight processes", FIGURES, reads, 8, 50, 120, 0.06),
        ("lower than published", FIGURES, (20.0, 10.0), 1, 5, 60, 0.01),
        ("lower than published, two processes", FIGURES, (20.0, 10.0), 2, 20, 120, 0.01),
        ("much lower than published", FIGURES, (20.0, 2.0), 1, 20, 200, 0.01),
        ("higher than published", FIGURES, (1000.0, 150.0), 1, 20, 60, 0.01),
    ] {
        let run = Run { figures, burst, per_second, processes, latency, seconds };
        let (used, refused) = run.play();
        println!("{name}: {:.1} % of the limit used, {:.2} % of calls refused", used * 100.0, refused * 100.0);
        assert!(used >= 0.95, "{name}: only {used:.3} of the limit was used");
        assert!(refused < most_refused, "{name}: {refused:.4} of the calls were refused");
    }
}

#[test]
fn where_nothing_is_told_refusals_slow_down_to_what_there_is() {
    let run = Run {
        figures: Figures { burst: 20.0, per_second: 8.0, told: false },
        burst: 10.0,
        per_second: 2.0,
        processes: 1,
        latency: 20,
        seconds: 600,
    };
    let (used, refused) = run.play();
    println!("no counts: {:.1} % of the limit used, {:.2} % of calls refused", used * 100.0, refused * 100.0);
    assert!(used >= 0.6, "{used:.3}");
    assert!(refused < 0.2, "{refused:.4}");
}
