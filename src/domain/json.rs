//! JSON read strictly, and written canonically.
//!
//! What belongs here: what holds for every JSON text. What does not: the shape of requests (`request_parse`).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads one JSON value. A member that comes twice is an error, because readers disagree about which one counts. The
/// error says where reading stopped.
pub fn read_strict(bytes: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(value)) => Ok(value),
        // The text has the form "what at line 1 column 2".
        Err(error) => Err(error.to_string()),
    }
}

/// The value as text with the members of every object in the order of their names: equal values, equal texts.
pub fn canonical(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                return Err(A::Error::custom(format_args!("the member \"{shown}\" is there twice")));
            }
            let Strict(value) = members.next_value()?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_text() {
        let a = read_strict(br#" {"b": [{"y": 1, "x": 2.5}], "a": null} "#).expect("JSON");
        let b = read_strict(br#"{"a":null,"b":[{"x":2.5,"y":1}]}"#).expect("JSON");
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":null,"b":[{"x":2.5,"y":1}]}"#);
        let other = read_strict(br#"{"a":null,"b":[{"x":2.5,"y":"1"}]}"#).expect("JSON");
        assert_ne!(canonical(&a), canonical(&other));
    }

    #[test]
    fn what_is_read_strictly_is_what_serde_reads() {
        for text in
            [r#"{"a":[1,-2,3.5,true,false,null,"x\u00e9\n"],"b":{}}"#, "1", "\"x\"", "[]", "18446744073709551615"]
        {
            assert_eq!(read_strict(text.as_bytes()).ok(), serde_json::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn broken_texts_are_refused_with_their_place() {
        let deep = "[".repeat(500);
        for (text, part) in [
            ("", "line 1 column 0"),
            ("{", "line 1 column 1"),
            ("{\n  \"a\": }", "line 2 column 8"),
            ("{} {}", "trailing"),
            (r#"{"a":1,"b":{"x":1,"x":2}}"#, "\"x\" is there twice at line 1"),
            ("nul", "line 1"),
            ("{'a':1}", "line 1 column 2"),
            ("1e999", "out of range"),
            (r#""\ud800""#, "line 1"),
            (deep.as_str(), "recursion limit"),
        ] {
            let error = read_strict(text.as_bytes()).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read_strict(b"\"\xff\"").is_err());
        assert!(read_strict(b"\xef\xbb\xbf{}").is_err());
    }
}
