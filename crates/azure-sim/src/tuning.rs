//! What can be changed while the simulator runs and is neither a lag, a limit nor a rule: how long operations take, how large
//! a page is. Starts as the options say; the control API changes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::Options;

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tuning {
    /// How long the simulated long-running operations take, in seconds.
    pub lro_seconds: f64,
    /// `Retry-After` on the answers to them, in seconds; null sends no header.
    pub lro_retry_after: Option<u64>,
    /// Items on one page of an ARM list, unless `$top` asks for fewer.
    pub page_size: usize,
    /// Role assignments that a subscription takes.
    pub role_assignment_limit: usize,
}

impl Tuning {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            lro_seconds: options.lro_duration.as_secs_f64(),
            lro_retry_after: options.lro_retry_after,
            page_size: options.page_size.max(1),
            role_assignment_limit: options.role_assignment_limit,
        }
    }

    /// How long an operation takes; a nonsensical number is no time.
    pub(crate) fn lro(&self) -> Duration {
        Duration::try_from_secs_f64(self.lro_seconds).unwrap_or_default()
    }
}
