//! Fault rules: which requests go wrong, and how. A rule looks at method, host and path only, so it works on every
//! surface alike. Carrying the fault out is the pipeline's work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::glob;

/// One rule. A request that matches counts as seen; after `skip` of them the rule fires, at most `times` times.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Name of the rule; a new rule replaces one of the same name. Empty: one is made up.
    #[serde(default)]
    pub id: String,
    /// The method, without regard to case; absent matches all.
    #[serde(default)]
    pub method: Option<String>,
    /// A pattern for the host without port, `*` for any run of characters.
    #[serde(default)]
    pub host: Option<String>,
    /// A pattern for the path without query.
    #[serde(default)]
    pub path: Option<String>,
    /// How many matching requests go through before the rule fires.
    #[serde(default)]
    pub skip: u32,
    /// How often the rule fires; absent means for ever.
    #[serde(default)]
    pub times: Option<u32>,
    /// What happens.
    pub action: Action,
    /// Matching requests so far.
    #[serde(default)]
    pub seen: u32,
    /// How often it has fired.
    #[serde(default)]
    pub fired: u32,
}

/// What a rule does to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Action {
    /// Answer an error.
    Status {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// Azure's error code.
        code: String,
        /// The message.
        #[serde(default)]
        message: String,
        /// `Retry-After` in seconds; absent sends none.
        #[serde(default)]
        retry_after: Option<u64>,
        /// More headers of the answer.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Do the work first, then answer the error.
        #[serde(default)]
        after_effect: bool,
    },
    /// Wait before the request is looked at, in real time, at most ten minutes.
    Delay {
        /// Milliseconds.
        millis: u64,
    },
    /// Close the connection; nothing was done.
    CutBefore,
    /// Do the work, then close the connection without an answer.
    CutAfter,
    /// The long-running operation that this request starts ends in failure.
    LroFail {
        /// The error code that the operation ends with.
        code: String,
        /// Its message.
        #[serde(default)]
        message: String,
    },
    /// The long-running operation that this request starts never ends.
    LroNeverEnds,
}

impl Rule {
    /// A rule that fires once, on the first request that matches.
    pub fn once(method: &str, path: &str, action: Action) -> Self {
        Self::always(method, path, action).times(1)
    }

    /// A rule that fires on every request that matches.
    pub fn always(method: &str, path: &str, action: Action) -> Self {
        Self {
            id: String::new(),
            method: (method != "*").then(|| method.to_owned()),
            host: None,
            path: Some(path.to_owned()),
            skip: 0,
            times: None,
            action,
            seen: 0,
            fired: 0,
        }
    }

    /// Fires at most this often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets this many matching requests through first.
    #[must_use]
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Only on hosts that match the pattern.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    fn matches(&self, method: &str, host: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(method))
            && self.host.as_ref().is_none_or(|h| glob::matches(h, host))
            && self.path.as_ref().is_none_or(|p| glob::matches(p, path))
    }

    fn fires(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        let due = self.seen > self.skip && self.times.is_none_or(|t| self.fired < t);
        if due {
            self.fired += 1;
        }
        due
    }
}

/// Simplest error action: a status with a code.
pub fn status(status: u16, code: &str) -> Action {
    Action::Status {
        status,
        code: code.to_owned(),
        message: String::new(),
        retry_after: None,
        headers: BTreeMap::new(),
        after_effect: false,
    }
}

/// A 429 with `Retry-After`.
pub fn throttled(retry_after: u64) -> Action {
    Action::Status {
        status: 429,
        code: "TooManyRequests".to_owned(),
        message: "The request is being throttled.".to_owned(),
        retry_after: Some(retry_after),
        headers: BTreeMap::new(),
        after_effect: false,
    }
}

/// What the rules decided about one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub delay_millis: u64,
    pub rule: Option<(String, Action)>,
}

/// A shared handle on the fault rules.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

/// More rules than this are refused.
const MOST_RULES: usize = 1000;

impl Faults {
    fn with<T>(&self, f: impl FnOnce(&mut Vec<Rule>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a rule, or replaces the one of the same id, and returns its id. Rules are asked in the order added; the first
    /// that fires decides, except that delays add up. `None` when there are too many rules.
    pub fn add(&self, mut rule: Rule) -> Option<String> {
        self.with(|rules| {
            if rule.id.is_empty() {
                rule.id = uuid::Uuid::new_v4().to_string();
            }
            let id = rule.id.clone();
            if let Some(old) = rules.iter_mut().find(|r| r.id == id) {
                *old = rule;
            } else if rules.len() < MOST_RULES {
                rules.push(rule);
            } else {
                return None;
            }
            Some(id)
        })
    }

    /// All rules with their counts.
    pub fn list(&self) -> Vec<Rule> {
        self.with(|rules| rules.clone())
    }

    /// Removes one rule; false when there was none.
    pub fn remove(&self, id: &str) -> bool {
        self.with(|rules| {
            let before = rules.len();
            rules.retain(|r| r.id != id);
            rules.len() != before
        })
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.with(Vec::clear);
    }

    /// How often the rule has fired; 0 for an unknown one.
    pub fn fired(&self, id: &str) -> u32 {
        self.with(|rules| rules.iter().find(|r| r.id == id).map_or(0, |r| r.fired))
    }

    pub(crate) fn decide(&self, method: &str, host: &str, path: &str) -> Verdict {
        self.with(|rules| {
            let mut verdict = Verdict::default();
            for rule in rules.iter_mut() {
                if !rule.matches(method, host, path) || !rule.fires() {
                    continue;
                }
                if let Action::Delay { millis } = rule.action {
                    verdict.delay_millis = verdict.delay_millis.saturating_add(millis);
                } else {
                    verdict.rule = Some((rule.id.clone(), rule.action.clone()));
                    break;
                }
            }
            verdict.delay_millis = verdict.delay_millis.min(600_000);
            verdict
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_then_times_then_nothing() {
        let faults = Faults::default();
        let id =
            faults.add(Rule::always("PUT", "*/vaults/*", status(500, "X")).skip(1).times(2)).expect("there is room");
        let fired: Vec<bool> = (0..5).map(|_| faults.decide("put", "h", "/a/Vaults/b").rule.is_some()).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert_eq!(faults.fired(&id), 2);
        assert!(faults.decide("GET", "h", "/a/vaults/b").rule.is_none());
    }

    #[test]
    fn delays_add_up_and_do_not_hide_the_next_rule() {
        let faults = Faults::default();
        faults.add(Rule::always("*", "*", Action::Delay { millis: 5 }));
        faults.add(Rule::always("*", "*", Action::Delay { millis: 6 }));
        faults.add(Rule::always("*", "*", Action::CutBefore).host("login.*"));
        let verdict = faults.decide("GET", "login.localhost", "/x");
        assert_eq!(verdict.delay_millis, 11);
        assert!(matches!(verdict.rule, Some((_, Action::CutBefore))));
    }
}
