//! Fault rules: which requests go wrong, and how. A rule looks at what every surface has alike: method, host, path, query and
//! the object id in the bearer token. Carrying the fault out is the pipeline's work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::glob;
use crate::http::Call;

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
    /// A pattern for the query as sent, without the question mark.
    #[serde(default)]
    pub query: Option<String>,
    /// A pattern for the value of `api-version`.
    #[serde(default)]
    pub api_version: Option<String>,
    /// The caller's object id or application id, as its bearer token says (the token is not verified for this).
    #[serde(default)]
    pub principal: Option<String>,
    /// How likely the rule is to fire when it could, from 0 to 1, by the seeded chance; absent means always.
    #[serde(default)]
    pub probability: Option<f64>,
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
    /// Do the work, then send the answer's body little by little over this time, in real time, at most ten minutes.
    SlowBody {
        /// Milliseconds until the last byte.
        millis: u64,
    },
    /// Do the work, announce the whole answer, and close the connection in the middle of its body.
    TruncatedBody,
    /// Do the work, then answer a body that is cut in half but otherwise in order: not JSON any more.
    MalformedJson,
    /// Do the work, then send the answer under another content type.
    WrongContentType {
        /// The content type to send.
        content_type: String,
    },
    /// The long-running operation that this request starts ends in failure.
    LroFail {
        /// The error code that the operation ends with.
        code: String,
        /// Its message.
        #[serde(default)]
        message: String,
    },
    /// The same, after this long.
    LroFailAfter {
        /// Seconds of the simulator's clock.
        seconds: f64,
        /// The error code that the operation ends with.
        code: String,
        /// Its message.
        #[serde(default)]
        message: String,
    },
    /// The long-running operation that this request starts takes this long.
    LroTakes {
        /// Seconds of the simulator's clock.
        seconds: f64,
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
            query: None,
            api_version: None,
            principal: None,
            probability: None,
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

    fn matches(&self, seen: &Seen<'_>) -> bool {
        let like = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|p| glob::matches(p, text));
        self.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(seen.method))
            && like(&self.host, seen.host)
            && like(&self.path, seen.path)
            && like(&self.query, seen.query)
            && self.api_version.as_ref().is_none_or(|v| seen.api_version.is_some_and(|have| glob::matches(v, have)))
            && self.principal.as_ref().is_none_or(|p| {
                seen.bearer.and_then(callers).is_some_and(|ids| ids.iter().any(|i| i.eq_ignore_ascii_case(p)))
            })
    }

    fn fires(&mut self, chance: &mut StdRng) -> bool {
        self.seen = self.seen.saturating_add(1);
        let due = self.seen > self.skip
            && self.times.is_none_or(|t| self.fired < t)
            && self.probability.is_none_or(|p| chance.random::<f64>() < p);
        if due {
            self.fired += 1;
        }
        due
    }
}

/// What rules look at in a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen<'a> {
    pub method: &'a str,
    pub host: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub api_version: Option<&'a str>,
    pub bearer: Option<&'a str>,
}

impl<'a> Seen<'a> {
    pub fn of(call: &'a Call) -> Self {
        Self {
            method: call.method.as_str(),
            host: &call.host,
            path: &call.path,
            query: &call.raw_query,
            api_version: call.param("api-version"),
            bearer: call.bearer(),
        }
    }
}

/// Object id and application id in a token, unverified.
fn callers(token: &str) -> Option<Vec<String>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    Some(["oid", "appid", "azp"].iter().filter_map(|c| claims[*c].as_str().map(str::to_owned)).collect())
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
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    chance: StdRng,
}

impl Default for Faults {
    fn default() -> Self {
        Self::seeded(1)
    }
}

/// More rules than this are refused.
const MOST_RULES: usize = 1000;

impl Faults {
    /// No rules, and chance of its own.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { rules: Vec::new(), chance: StdRng::seed_from_u64(seed) })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<Rule>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).rules)
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

    pub(crate) fn decide(&self, request: Seen<'_>) -> Verdict {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { rules, chance } = &mut *state;
        let mut verdict = Verdict::default();
        for rule in rules.iter_mut() {
            if !rule.matches(&request) || !rule.fires(chance) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'a>(method: &'a str, host: &'a str, path: &'a str) -> Seen<'a> {
        Seen { method, host, path, ..Seen::default() }
    }

    #[test]
    fn chance_is_seeded_and_near_its_probability() {
        let run = |seed: u64| -> Vec<bool> {
            let faults = Faults::seeded(seed);
            faults.add(Rule { probability: Some(0.3), ..Rule::always("*", "*", Action::CutBefore) });
            (0..1000).map(|_| faults.decide(seen("GET", "h", "/")).rule.is_some()).collect()
        };
        assert_eq!(run(5), run(5));
        let fired = run(5).into_iter().filter(|f| *f).count();
        assert!((240..360).contains(&fired), "{fired}");
    }

    #[test]
    fn skip_then_times_then_nothing() {
        let faults = Faults::default();
        let id =
            faults.add(Rule::always("PUT", "*/vaults/*", status(500, "X")).skip(1).times(2)).expect("there is room");
        let fired: Vec<bool> = (0..5).map(|_| faults.decide(seen("put", "h", "/a/Vaults/b")).rule.is_some()).collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert_eq!(faults.fired(&id), 2);
        assert!(faults.decide(seen("GET", "h", "/a/vaults/b")).rule.is_none());
    }

    #[test]
    fn delays_add_up_and_do_not_hide_the_next_rule() {
        let faults = Faults::default();
        faults.add(Rule::always("*", "*", Action::Delay { millis: 5 }));
        faults.add(Rule::always("*", "*", Action::Delay { millis: 6 }));
        faults.add(Rule::always("*", "*", Action::CutBefore).host("login.*"));
        let verdict = faults.decide(seen("GET", "login.localhost", "/x"));
        assert_eq!(verdict.delay_millis, 11);
        assert!(matches!(verdict.rule, Some((_, Action::CutBefore))));
    }
}
