//! What was measured: by name, in each repeat.
//!
//! What belongs here: noting numbers and the load they were taken under. What does not: goals.

use std::collections::BTreeMap;
use std::process::Command;

use crate::cluster::Cluster;

/// Numbers by name and repeat.
#[derive(Default)]
pub struct Results {
    repeat: usize,
    values: BTreeMap<String, Vec<(usize, f64)>>,
    loads: Vec<f64>,
}

impl Results {
    /// What follows belongs to this repeat.
    pub fn begin(&mut self, repeat: usize) {
        self.repeat = repeat;
    }

    /// Notes a number.
    pub fn note(&mut self, name: &str, value: f64) {
        let load = load();
        eprintln!("{:>3} {name:<44} {value:>12.2}   load {load:.1}", self.repeat + 1);
        self.loads.push(load);
        self.values.entry(name.to_owned()).or_default().push((self.repeat, value));
    }

    /// Notes the lines `RESULT<tab>subject<tab>metric<tab>value<tab>unit` of a program, as "subject metric".
    pub fn collect(&mut self, printed: &str) {
        for line in printed.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            if let ["RESULT", subject, metric, value, _unit] = columns[..]
                && let Ok(value) = value.parse()
            {
                self.note(&format!("{subject} {metric}"), value);
            }
        }
    }

    /// A number of one repeat.
    pub fn of(&self, name: &str, repeat: usize) -> Option<f64> {
        let all = self.values.get(name)?;
        median(all.iter().filter(|(of, _)| *of == repeat).map(|(_, value)| *value).collect())
    }

    /// The middle one of all repeats.
    pub fn median(&self, name: &str) -> Option<f64> {
        median(self.values.get(name)?.iter().map(|(_, value)| *value).collect())
    }

    /// The repeats in which a number was taken.
    pub fn repeats(&self, name: &str) -> Vec<usize> {
        let mut repeats: Vec<usize> = self.values.get(name).into_iter().flatten().map(|(repeat, _)| *repeat).collect();
        repeats.dedup();
        repeats
    }

    /// Prints the machine and how the database is set.
    pub async fn machine(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let cores = std::thread::available_parallelism()?;
        let rust =
            Command::new("rustc").arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        println!("{cores} cores, load {:.1}, {}", load(), rust.unwrap_or_default().trim());
        let mut settings = Vec::new();
        for name in
            ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size"]
        {
            settings.push(format!("{name}={}", cluster.setting(name).await?));
        }
        println!("postgres: {}", settings.join(" "));
        Ok(())
    }

    /// Prints everything: best and worst beside the middle one.
    pub fn print(&self) {
        println!("\n{:<46}{:>12}{:>12}{:>12}  n", "measured", "least", "median", "most");
        for (name, values) in &self.values {
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), (_, v)| (l.min(*v), m.max(*v)));
            let middle = self.median(name).unwrap_or_default();
            println!("{name:<46}{least:>12.2}{middle:>12.2}{most:>12.2}  {}", values.len());
        }
        let (least, most) = self.loads.iter().fold((f64::MAX, 0.0f64), |(l, m), v| (l.min(*v), m.max(*v)));
        println!("load average while it ran: {least:.1} to {most:.1}");
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Median, 99th percentile and longest of some times, in milliseconds, as three numbers.
pub fn note_times(results: &mut Results, name: &str, times: &[std::time::Duration]) {
    for (suffix, value) in percentiles(times) {
        results.note(&format!("{name}_{suffix}"), value);
    }
}

/// Median, 99th percentile and longest, in milliseconds.
pub fn percentiles(times: &[std::time::Duration]) -> Vec<(&'static str, f64)> {
    let mut sorted: Vec<f64> = times.iter().map(|t| t.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let index = (sorted.len() as f64 * quantile).ceil() as usize;
        sorted.get(index.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    };
    vec![("p50", at(0.5)), ("p99", at(0.99)), ("max", at(1.0))]
}

/// The load average of the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}
