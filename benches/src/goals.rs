//! The goals P1 to P17: which number against which, and how much of it.
//!
//! What belongs here: the table of goals and how it is printed. What does not: measuring.

use crate::results::{Results, median};

/// What a ratio has to be.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

impl Bound {
    fn holds(self, ratio: f64) -> bool {
        match self {
            AtLeast(least) => ratio >= least,
            AtMost(most) => ratio <= most,
        }
    }

    fn words(self) -> String {
        match self {
            AtLeast(least) => format!(">= {least}"),
            AtMost(most) => format!("<= {most}"),
        }
    }
}

/// What a number is divided by.
#[derive(Clone, Copy)]
enum Anchor {
    /// Nothing: the number counts as it is.
    Itself,
    /// Another number of the same repeat.
    Other(&'static str),
    /// The least of some, those that are there.
    Least(&'static [&'static str]),
}

use Anchor::{Itself, Least, Other};

/// One comparison of a goal.
struct Line {
    goal: &'static str,
    ours: &'static str,
    anchor: Anchor,
    must: Option<Bound>,
    want: Option<Bound>,
}

const fn line(
    goal: &'static str,
    ours: &'static str,
    anchor: Anchor,
    must: Option<Bound>,
    want: Option<Bound>,
) -> Line {
    Line { goal, ours, anchor, must, want }
}

const BEST_P50: Anchor = Least(&[
    "graphile_worker_rs latency_ack_to_start_p50",
    "apalis_postgres latency_ack_to_start_p50",
    "underway latency_ack_to_start_p50",
]);
const BEST_P99: Anchor = Least(&[
    "graphile_worker_rs latency_ack_to_start_p99",
    "apalis_postgres latency_ack_to_start_p99",
    "underway latency_ack_to_start_p99",
]);

/// Every goal; its first line is the one whose ratio stands for it. The waits of 300 and 600 s read n/a unless the long ones
/// are asked for, and decide nothing then; so do ten million jobs. A few claims are under way at any moment, so that a
/// dozen overdue ones are no backlog.
const LINES: &[Line] = &[
    line("P1", "ours post_c64", Other("http cte_c64"), Some(AtLeast(0.6)), Some(AtLeast(0.8))),
    line("P1", "ours post_c64_errors", Itself, Some(AtMost(0.0)), Some(AtMost(0.0))),
    line("P1", "ours post_c64", Other("pgbench b_cte_c16"), None, None),
    line("P2", "ours post_c64_p99", Other("http cte_c64_p99"), Some(AtMost(2.5)), Some(AtMost(1.5))),
    line("P3", "ours refused_c64", Other("http null_c64"), Some(AtLeast(0.4)), Some(AtLeast(0.6))),
    line("P3", "ours replay_c64", Other("http null_c64"), Some(AtLeast(0.4)), Some(AtLeast(0.6))),
    line("P3", "ours replay_c64_errors", Itself, Some(AtMost(0.0)), Some(AtMost(0.0))),
    line("P4", "ours drain_16", Other("graphile_worker_rs drain_16"), Some(AtLeast(1.0)), None),
    line("P4", "ours drain_16", Other("apalis_postgres drain_16"), Some(AtLeast(2.0)), None),
    line("P4", "ours drain_16", Other("pgbench c_batch1_backlog10000"), None, Some(AtLeast(0.6))),
    line("P5", "ours drain_batched", Other("apalis_postgres drain_tuned_16"), Some(AtLeast(2.0)), None),
    line("P5", "ours drain_batched", Other("graphile_worker_rs drain_tuned_16"), None, Some(AtLeast(0.35))),
    line("P6", "ours pickup_two_p50", BEST_P50, Some(AtMost(1.0)), None),
    line("P6", "ours pickup_two_p99", BEST_P99, Some(AtMost(1.5)), None),
    line("P6", "ours pickup_one_p50", BEST_P50, Some(AtMost(1.0)), Some(AtMost(0.5))),
    line("P6", "ours pickup_one_p99", BEST_P99, Some(AtMost(1.5)), None),
    line("P7", "ours pickup_deaf_max", Itself, Some(AtMost(1100.0)), Some(AtMost(1100.0))),
    line("P8", "ours claim1_due1m_ms", Other("ours claim1_due10k_ms"), Some(AtMost(1.35)), Some(AtMost(1.15))),
    line("P8", "ours claim50_due1m_ms", Other("ours claim50_due10k_ms"), Some(AtMost(1.35)), Some(AtMost(1.15))),
    line("P9", "ours claim1_ended1m_ms", Other("ours claim1_due10k_ms"), Some(AtMost(1.25)), Some(AtMost(1.1))),
    line("P9", "ours claim50_ended1m_ms", Other("ours claim50_due10k_ms"), Some(AtMost(1.25)), Some(AtMost(1.1))),
    line("P9", "ours claim1_parked100k_ms", Other("ours claim1_due10k_ms"), Some(AtMost(1.25)), Some(AtMost(1.1))),
    line("P9", "ours claim50_parked100k_ms", Other("ours claim50_due10k_ms"), Some(AtMost(1.25)), Some(AtMost(1.1))),
    line("P10", "ours snapshot_held", Other("ours snapshot_before"), Some(AtLeast(0.45)), Some(AtLeast(0.7))),
    line("P10", "ours snapshot_after", Other("ours snapshot_before"), Some(AtLeast(0.9)), Some(AtLeast(0.9))),
    line(
        "P10",
        "ours steady_claim_held_ms",
        Other("ours steady_claim_before_ms"),
        Some(AtMost(3.0)),
        Some(AtMost(1.5)),
    ),
    line("P10", "ours steady_overdue_held", Itself, Some(AtMost(12.0)), Some(AtMost(12.0))),
    line("P11", "ours post_told", Other("ours post_untold"), Some(AtLeast(0.9)), Some(AtLeast(0.97))),
    line("P12", "ours rss_idle_both", Itself, Some(AtMost(48.0)), Some(AtMost(32.0))),
    line("P12", "ours rss_serve_peak", Itself, Some(AtMost(128.0)), Some(AtMost(80.0))),
    line("P13", "ours cold_start_to_first_step", Itself, Some(AtMost(250.0)), Some(AtMost(100.0))),
    line("P13", "ours cold_start_empty_database", Itself, Some(AtMost(2000.0)), Some(AtMost(1000.0))),
    line("P14", "ours takeover_last_of_16_s", Itself, Some(AtMost(12.0)), None),
    line("P14", "ours takeover_old_writes_accepted", Itself, Some(AtMost(0.0)), Some(AtMost(0.0))),
    line("P15", "ours overhead_per_step_ms", Itself, Some(AtMost(50.0)), Some(AtMost(15.0))),
    line("P15", "ours overhead_percent", Itself, Some(AtMost(5.0)), None),
    line("P15", "ours overhead_posted_per_step_ms", Itself, Some(AtMost(50.0)), Some(AtMost(15.0))),
    line("P15", "ours overhead_posted_percent", Itself, Some(AtMost(5.0)), None),
    line("P16", "ours wait_2s_over", Itself, Some(AtMost(2.0)), Some(AtMost(1.0))),
    line("P16", "ours wait_15s_over", Itself, Some(AtMost(2.0)), Some(AtMost(1.0))),
    line("P16", "ours wait_60s_over", Itself, Some(AtMost(6.0)), Some(AtMost(3.0))),
    line("P16-long", "ours wait_300s_over", Itself, Some(AtMost(30.0)), Some(AtMost(15.0))),
    line("P16-long", "ours wait_600s_over", Itself, Some(AtMost(60.0)), Some(AtMost(30.0))),
    line("P17", "ours claim1_beside20k_ratio", Itself, Some(AtLeast(0.9)), Some(AtLeast(0.97))),
    line("P17", "ours cpu_percent_waiting20k", Itself, None, Some(AtMost(1.0))),
    line("P17", "ours wait_60s_looks", Other("ours wait_60s_looks_allowed"), Some(AtMost(1.0)), Some(AtMost(1.0))),
    line("list", "ours list50_of_1m_p99", Itself, Some(AtMost(25.0)), Some(AtMost(25.0))),
    line("list-long", "ours list50_of_10m_p99", Itself, Some(AtMost(25.0)), Some(AtMost(25.0))),
    line("streams", "ours streams_10k_mib", Itself, Some(AtMost(200.0)), Some(AtMost(200.0))),
];

impl Line {
    /// The middle one of the repeats' ratios; both sides of each are of the same repeat.
    fn ratio(&self, results: &Results) -> Option<f64> {
        let repeats = results.repeats(self.ours);
        median(repeats.into_iter().filter_map(|repeat| self.ratio_in(results, repeat)).collect())
    }

    fn ratio_in(&self, results: &Results, repeat: usize) -> Option<f64> {
        let ours = results.of(self.ours, repeat)?;
        match self.anchor {
            Itself => Some(ours),
            Other(anchor) => Some(ours / results.of(anchor, repeat)?),
            Least(anchors) => {
                let least = anchors.iter().filter_map(|anchor| results.of(anchor, repeat)).reduce(f64::min)?;
                Some(ours / least)
            }
        }
    }

    fn anchor_words(&self) -> String {
        match self.anchor {
            Itself => "as it is".into(),
            Other(anchor) => anchor.into(),
            Least(anchors) => format!("best peer {}", anchors[0].split(' ').next_back().unwrap_or_default()),
        }
    }
}

/// Prints every comparison, then one line a goal.
pub fn print(results: &Results) {
    println!("\n{:<8}{:<36}{:<42}{:>9}  {:<10}{:<10}", "goal", "ours", "over", "ratio", "must", "want");
    for line in LINES {
        let ratio = line.ratio(results).map_or("n/a".into(), |ratio| format!("{ratio:.2}"));
        let words = |bound: Option<Bound>| bound.map(Bound::words).unwrap_or_default();
        let (anchor, must, want) = (line.anchor_words(), words(line.must), words(line.want));
        println!("{:<8}{:<36}{anchor:<42}{ratio:>9}  {must:<10}{want:<10}", line.goal, line.ours);
    }
    println!();
    let mut goals: Vec<&str> = LINES.iter().map(|line| line.goal).collect();
    goals.dedup();
    for goal in goals {
        let lines: Vec<&Line> = LINES.iter().filter(|line| line.goal == goal).collect();
        let ratio = lines[0].ratio(results).map_or("n/a".to_owned(), |ratio| format!("{ratio:.2}"));
        let verdict = |bound: fn(&Line) -> Option<Bound>| {
            let judged: Vec<Option<bool>> = lines
                .iter()
                .filter_map(|line| Some((line, bound(line)?)))
                .map(|(line, bound)| line.ratio(results).map(|ratio| bound.holds(ratio)))
                .collect();
            match () {
                () if judged.contains(&Some(false)) => "miss",
                () if judged.is_empty() || judged.contains(&None) => "n/a",
                () => "pass",
            }
        };
        println!("{goal} ratio={ratio} must={} want={}", verdict(|l| l.must), verdict(|l| l.want));
    }
}
