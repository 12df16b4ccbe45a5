//! Reading a JSON body field by field, so that every fault is found in one pass and named by a JSON pointer.
//!
//! What belongs here: taking members out of objects, type checks, unknown members. What does not: what the members
//! mean, which is `request_parse`.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// One fault of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where: an RFC 6901 JSON pointer into the body; empty for the body itself.
    #[schema(example = "/key/size")]
    pub pointer: String,
    /// What kind of fault: `required`, `unknown-field`, `wrong-type`, `invalid-value`, `out-of-range`, `too-long`,
    /// `too-many`, `not-allowed` or `conflict`.
    #[schema(example = "out-of-range")]
    pub code: String,
    /// What is expected instead.
    #[schema(example = "expected 2048, 3072 or 4096")]
    pub detail: String,
}

/// The kinds of fault, for the golden list of wire strings.
pub const FIELD_ERROR_CODES: &[&str] = &[
    "required",
    "unknown-field",
    "wrong-type",
    "invalid-value",
    "out-of-range",
    "too-long",
    "too-many",
    "not-allowed",
    "conflict",
];

/// More faults than this are counted but not listed: an answer stays small whatever the body was.
const MAX_ERRORS: usize = 100;

/// Collects faults. Shared by all readers of one body.
#[derive(Debug, Default)]
pub struct Faults(RefCell<Vec<FieldError>>);

impl Faults {
    /// Adds a fault.
    pub fn add(&self, pointer: &str, code: &'static str, detail: impl Into<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < MAX_ERRORS {
            list.push(FieldError { pointer: pointer.to_owned(), code: code.to_owned(), detail: detail.into() });
        }
    }

    /// All faults found.
    pub fn into_list(self) -> Vec<FieldError> {
        self.0.into_inner()
    }
}

/// A JSON value at a pointer.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    value: &'a Value,
    pointer: String,
    faults: &'a Faults,
}

impl<'a> Field<'a> {
    /// The whole body.
    pub fn root(value: &'a Value, faults: &'a Faults) -> Self {
        Self { value, pointer: String::new(), faults }
    }

    /// The raw value.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// The pointer.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Reports a fault of this field.
    pub fn fault(&self, code: &'static str, detail: impl Into<String>) {
        self.faults.add(&self.pointer, code, detail);
    }

    /// This field as an object with these members and no others.
    pub fn object(&self, members: &'static [&'static str]) -> Option<Object<'a>> {
        let map = self.typed(Value::as_object, "an object")?;
        for name in map.keys().filter(|name| !members.contains(&name.as_str())) {
            self.faults.add(
                &join(&self.pointer, name),
                "unknown-field",
                format!("expected one of: {}", members.join(", ")),
            );
        }
        Some(Object { map, pointer: self.pointer.clone(), faults: self.faults })
    }

    /// This field as an object with any members.
    pub fn map(&self) -> Option<&'a Map<String, Value>> {
        self.typed(Value::as_object, "an object")
    }

    /// This field as text of at most `max` characters.
    pub fn text(&self, max: usize) -> Option<&'a str> {
        let text = self.typed(Value::as_str, "a string")?;
        if text.chars().count() > max {
            self.fault("too-long", format!("expected at most {max} characters"));
            return None;
        }
        if text.chars().any(char::is_control) {
            self.fault("invalid-value", "expected text without control characters");
            return None;
        }
        Some(text)
    }

    /// This field as true or false.
    pub fn boolean(&self) -> Option<bool> {
        self.typed(Value::as_bool, "true or false")
    }

    /// This field as a whole number within bounds.
    pub fn integer(&self, min: u64, max: u64) -> Option<u64> {
        let number = self.typed(Value::as_u64, "a whole number")?;
        if !(min..=max).contains(&number) {
            self.fault("out-of-range", format!("expected {min} to {max}"));
            return None;
        }
        Some(number)
    }

    /// This field as a list of at most `max` items.
    pub fn items(&self, max: usize) -> Option<Vec<Field<'a>>> {
        let list = self.typed(Value::as_array, "a list")?;
        if list.len() > max {
            self.fault("too-many", format!("expected at most {max} items"));
            return None;
        }
        let item = |(index, value)| Field { value, pointer: format!("{}/{index}", self.pointer), faults: self.faults };
        Some(list.iter().enumerate().map(item).collect())
    }

    /// This field as one of a closed set of words.
    pub fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.typed(Value::as_str, "a string")?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault("invalid-value", format!("expected one of: {}", known.join(", ")));
        }
        found
    }

    fn typed<T>(&self, get: impl Fn(&'a Value) -> Option<T>, expected: &str) -> Option<T> {
        let found = get(self.value);
        if found.is_none() {
            self.fault("wrong-type", format!("expected {expected}"));
        }
        found
    }
}

/// A JSON object whose members were checked against a closed list.
#[derive(Debug)]
pub struct Object<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    faults: &'a Faults,
}

impl<'a> Object<'a> {
    /// A member; `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        let value = self.map.get(name).filter(|v| !v.is_null())?;
        Some(Field { value, pointer: join(&self.pointer, name), faults: self.faults })
    }

    /// A member that must be there.
    pub fn require(&self, name: &str) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            self.faults.add(&join(&self.pointer, name), "required", "this field is required");
        }
        field
    }
}

fn join(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fault_is_found_with_its_pointer() {
        let body = json!({"a": 1, "b/c": true, "n": 7, "t": "x\u{0}", "l": [1, 2, 3], "w": "no", "nothing": null});
        let faults = Faults::default();
        let object =
            Field::root(&body, &faults).object(&["a", "n", "t", "l", "w", "nothing", "must"]).expect("an object");
        assert_eq!(object.get("a").and_then(|f| f.text(5)), None);
        assert_eq!(object.get("n").and_then(|f| f.integer(0, 5)), None);
        assert_eq!(object.get("t").and_then(|f| f.text(5)), None);
        assert!(object.get("l").and_then(|f| f.items(2)).is_none());
        assert_eq!(object.get("w").and_then(|f| f.one_of(&[("yes", 1)])), None);
        assert!(object.get("nothing").is_none());
        assert!(object.require("must").is_none());
        let found: Vec<(String, String)> = faults.into_list().into_iter().map(|f| (f.pointer, f.code)).collect();
        let want = [
            ("/b~1c", "unknown-field"),
            ("/a", "wrong-type"),
            ("/n", "out-of-range"),
            ("/t", "invalid-value"),
            ("/l", "too-many"),
            ("/w", "invalid-value"),
            ("/must", "required"),
        ];
        assert_eq!(found, want.map(|(p, c)| (p.to_owned(), c.to_owned())));
    }

    #[test]
    fn the_list_of_faults_is_bounded() {
        let body: Value = (0..1000).map(|n| (format!("x{n}"), json!(1))).collect::<Map<_, _>>().into();
        let faults = Faults::default();
        assert!(Field::root(&body, &faults).object(&[]).is_some());
        assert_eq!(faults.into_list().len(), MAX_ERRORS);
    }
}
