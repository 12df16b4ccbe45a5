//! Watching a whole test: every request and answer goes by, and the test fails at its end where one did not hold. What a request
//! looks like is told by the caller, so this knows no simulator.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::{Side, Target, faults, target};

/// Collects faults, and panics with them when dropped, unless the test fails anyway.
#[derive(Debug, Default)]
pub struct Watch(Eye);

/// What looks at the exchanges of one [`Watch`]; cheap to clone, for a closure.
#[derive(Clone, Debug, Default)]
pub struct Eye(Arc<Mutex<Vec<String>>>);

impl Watch {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The eye of this watch.
    #[must_use]
    pub fn eye(&self) -> Eye {
        self.0.clone()
    }

    /// # Panics
    /// When something that went by did not hold.
    #[track_caller]
    pub fn assert_clean(&self) {
        let faults = std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(faults.is_empty(), "against Azure's published types:\n{}", faults.join("\n"));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_clean();
        }
    }
}

impl Eye {
    /// Looks at a request to ARM and its answer. Refusals are of no interest: they have a shape of their own.
    pub fn see(&self, method: &str, path: &str, sent: Option<&Value>, status: u16, answer: Option<&Value>) {
        if !(200..300).contains(&status) {
            return;
        }
        let target = target(path);
        let mut found = Vec::new();
        let side = match method {
            "PUT" => Some(Side::Write),
            "PATCH" => Some(Side::Update),
            _ => None,
        };
        if let (Some(Target::One(resource_type)), Some(side), Some(sent)) = (&target, side, sent) {
            found.extend(faults(resource_type, side, sent).into_iter().map(|f| format!("sent {f}")));
        }
        // The answer to an action is no resource.
        if let Some(answer) = answer.filter(|_| method != "POST") {
            found.extend(answer_faults(target, answer));
        }
        let told = found.into_iter().map(|fault| format!("{method} {path}: {fault}"));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
    }
}

fn answer_faults(target: Option<Target>, answer: &Value) -> Vec<String> {
    match target {
        Some(Target::One(resource_type)) => answered(&resource_type, "", answer),
        Some(Target::Many(resource_type)) => {
            let Some(items) = answer["value"].as_array() else {
                return if crate::known(&resource_type) {
                    vec!["a list without 'value'".to_owned()]
                } else {
                    Vec::new()
                };
            };
            items.iter().enumerate().flat_map(|(at, i)| answered(&resource_type, &format!("/value/{at}"), i)).collect()
        }
        // The end of a long-running operation may be the resource.
        None => match (&answer["id"], &answer["type"]) {
            (Value::String(_), Value::String(resource_type)) => answered(resource_type, "", answer),
            _ => Vec::new(),
        },
    }
}

fn answered(resource_type: &str, place: &str, resource: &Value) -> Vec<String> {
    faults(resource_type, Side::Read, resource).into_iter().map(|f| format!("answered {place} {f}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MAPS: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Maps/accounts";

    #[test]
    fn what_goes_by_is_looked_at() {
        if !crate::known("Microsoft.Maps/accounts") {
            return;
        }
        let bad = json!({ "nope": 1 });
        let list = json!({ "value": [{ "nope": 1 }] });
        let done = json!({ "id": "x", "type": "Microsoft.Maps/accounts", "nope": 1 });
        let one = format!("{MAPS}/a");
        for (method, path, sent, status, answer, faulty) in [
            ("PUT", one.as_str(), Some(&bad), 201, None, true),
            ("PUT", one.as_str(), Some(&bad), 400, Some(&bad), false),
            ("GET", one.as_str(), None, 200, Some(&bad), true),
            ("POST", one.as_str(), Some(&bad), 200, Some(&bad), false),
            ("GET", MAPS, None, 200, Some(&list), true),
            ("GET", MAPS, None, 200, Some(&bad), true),
            ("GET", "/subscriptions/s/operationresults/o", None, 200, Some(&done), true),
            ("GET", "/subscriptions/s/operationresults/o", None, 200, Some(&bad), false),
        ] {
            let watch = Watch::new();
            watch.eye().see(method, path, sent, status, answer);
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch.assert_clean()));
            assert_eq!(seen.is_err(), faulty, "{method} {path} {status}");
        }
    }
}
