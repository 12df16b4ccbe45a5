//! JSON by pointers whose names are compared without regard to case, and ARM's way of merging a PATCH. Pure.

use serde_json::{Map, Value};

fn child<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => {
            map.get(name).or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v))
        }
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// What stands at the pointer; `null` counts as nothing.
pub(crate) fn get<'v>(value: &'v Value, pointer: &str) -> Option<&'v Value> {
    pointer.split('/').skip(1).try_fold(value, child).filter(|v| !v.is_null())
}

/// The text at the pointer, if there is one and it is not empty.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    get(value, pointer)?.as_str().filter(|s| !s.is_empty())
}

/// Whether the pointer's member was sent at all, be it as `null`.
pub(crate) fn sent(value: &Value, pointer: &str) -> bool {
    !pointer.is_empty() && pointer.split('/').skip(1).try_fold(value, child).is_some()
}

/// Puts a value there, making the objects on the way; something else than an object on the way is replaced.
pub(crate) fn set(value: &mut Value, pointer: &str, new: Value) {
    let mut at = value;
    for name in pointer.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        let name = map.keys().find(|k| k.eq_ignore_ascii_case(name)).cloned().unwrap_or_else(|| name.to_owned());
        at = map.entry(name).or_insert(Value::Null);
    }
    *at = new;
}

/// Takes away what stands there.
pub(crate) fn remove(value: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let mut at = value;
    for step in parent.split('/').skip(1) {
        let Value::Object(map) = at else { return None };
        let key = map.keys().find(|k| k.eq_ignore_ascii_case(step)).cloned()?;
        at = map.get_mut(&key)?;
    }
    let Value::Object(map) = at else { return None };
    let key = map.keys().find(|k| k.eq_ignore_ascii_case(name)).cloned()?;
    map.shift_remove(&key)
}

/// RFC 7396: objects are merged, `null` removes, all else replaces. At the pointers in `whole` objects replace too.
pub(crate) fn merge(into: &mut Value, patch: &Value, whole: &[&str]) {
    merge_at(into, patch, whole, "");
}

fn merge_at(into: &mut Value, patch: &Value, whole: &[&str], at: &str) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() || (!at.is_empty() && whole.iter().any(|w| w.eq_ignore_ascii_case(at))) {
        *into = Value::Object(Map::new());
    }
    let Value::Object(into) = into else { return };
    for (name, value) in patch {
        let key = into.keys().find(|k| k.eq_ignore_ascii_case(name)).cloned().unwrap_or_else(|| name.clone());
        if value.is_null() {
            into.shift_remove(&key);
        } else {
            merge_at(into.entry(key).or_insert(Value::Null), value, whole, &format!("{at}/{name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pointers_take_any_case_and_make_their_way() {
        let mut value = json!({ "Properties": { "list": [{ "a": 1 }], "none": null } });
        assert_eq!(get(&value, "/properties/LIST/0/a"), Some(&json!(1)));
        assert_eq!(get(&value, "/properties/none"), None);
        assert!(sent(&value, "/properties/none") && !sent(&value, "/properties/other"));
        set(&mut value, "/properties/x/y", json!("z"));
        assert_eq!(text(&value, "/properties/x/y"), Some("z"));
        assert_eq!(remove(&mut value, "/PROPERTIES/x"), Some(json!({ "y": "z" })));
        assert_eq!(get(&value, "/properties/x"), None);
        assert_eq!(remove(&mut value, "/properties/list/0/a/b"), None);
    }

    #[test]
    fn a_patch_merges_removes_and_empties() {
        let mut value = json!({ "p": { "a": 1, "b": { "c": 2, "d": 3 }, "key": { "url": "u", "id": "i" } } });
        merge(&mut value, &json!({ "p": { "A": null, "b": { "c": 5 }, "list": [1], "key": {} } }), &["/p/key"]);
        assert_eq!(value, json!({ "p": { "b": { "c": 5, "d": 3 }, "key": {}, "list": [1] } }));
        merge(&mut value, &json!({ "p": 7 }), &[]);
        assert_eq!(value, json!({ "p": 7 }));
    }
}
