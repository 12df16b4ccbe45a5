//! The simulator's own descriptions of what a caller may write, and their application to a body: unknown members,
//! missing ones, wrong types and wrong enum values are refused as ARM does; read-only members are dropped; names get
//! their canonical casing. The descriptions of Azure's published types are read in `published`.

use serde_json::{Map, Value};

use crate::http::Failure;

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Shape {
    Text,
    /// Text of at least and at most so many characters.
    Length(usize, usize),
    Bool,
    Int,
    /// Any number: the published types do not tell integers from others.
    Number,
    Guid,
    /// One of these, compared without regard to case, kept in this spelling.
    OneOf(&'static [&'static str]),
    /// One of these in this spelling, or any other text: Azure declares most of its enumerations open.
    Open(&'static [&'static str]),
    /// An object with exactly these members.
    Object(&'static [Member]),
    /// An object whose members depend on the value of one of them.
    Tagged(&'static Tagged),
    /// An object with any names.
    Dictionary(&'static Shape),
    List(&'static Shape),
    /// Whatever it is, it is taken and kept: members that play no part in the simulation.
    Any,
    /// Callers may send back what they read; it is ignored.
    ReadOnly,
}

/// One member of an object.
#[derive(Debug)]
pub(crate) struct Member {
    pub name: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// Taken but never shown, as passwords and modes of creation are.
    pub hidden: bool,
}

/// A union told apart by the member `by`, which is required and is not among the members listed.
#[derive(Debug)]
pub(crate) struct Tagged {
    pub by: &'static str,
    pub common: &'static [Member],
    pub cases: &'static [(&'static str, &'static [Member])],
}

/// An optional member.
pub(crate) const fn may(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, required: false, hidden: false }
}

/// A required member.
pub(crate) const fn must(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, required: true, hidden: false }
}

/// Whether required members must be there: in a PUT, not in a PATCH.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    Whole,
    Partial,
}

/// The body in canonical form, or ARM's refusal.
pub(crate) fn accept(
    members: &'static [Member],
    body: Map<String, Value>,
    mode: Mode,
) -> Result<Map<String, Value>, Failure> {
    object(&[members], body, mode, "")
}

/// `groups` together are the members that the object may have.
fn object(
    groups: &[&'static [Member]],
    body: Map<String, Value>,
    mode: Mode,
    path: &str,
) -> Result<Map<String, Value>, Failure> {
    let mut out = Map::new();
    for (name, value) in body {
        let at = join(path, &name);
        let Some(member) = find(groups, &name) else {
            return Err(Failure::bad_content(format!(
                "The request content was invalid and could not be deserialized: 'Could not find member '{name}' on object of type 'ResourceDefinition'. Path '{at}'.'."
            ))
            .target(at));
        };
        if matches!(member.shape, Shape::ReadOnly) {
            continue;
        }
        if value.is_null() {
            // ARM reads an explicit null as absent; a PATCH uses it to remove, which the provider sees.
            if mode == Mode::Partial || !member.required {
                out.insert(member.name.to_owned(), Value::Null);
            }
            continue;
        }
        out.insert(member.name.to_owned(), fit(&member.shape, value, mode, &at)?);
    }
    if mode == Mode::Whole {
        out.retain(|_, v| !v.is_null());
        let mut members = groups.iter().copied().flatten();
        if let Some(missing) = members.find(|m| m.required && !out.contains_key(m.name)) {
            return Err(is_missing(join(path, missing.name)));
        }
    }
    Ok(out)
}

/// The member of that name in any casing.
pub(crate) fn find(groups: &[&'static [Member]], name: &str) -> Option<&'static Member> {
    groups.iter().copied().flatten().find(|m| m.name.eq_ignore_ascii_case(name))
}

fn is_missing(at: String) -> Failure {
    let (code, message) = if at == "location" {
        ("LocationRequired", "The location property is required for this definition.".to_owned())
    } else {
        ("InvalidRequestContent", format!("The request content was invalid: required member '{at}' was not provided."))
    };
    Failure::new(400, code, message).target(at)
}

fn tagged(union: &'static Tagged, mut map: Map<String, Value>, mode: Mode, at: &str) -> Result<Value, Failure> {
    let sent = map.keys().find(|k| k.eq_ignore_ascii_case(union.by)).cloned().and_then(|k| map.shift_remove(&k));
    let mut out = Map::new();
    let mut groups = vec![union.common];
    match sent {
        Some(Value::String(tag)) => {
            let Some((name, members)) = union.cases.iter().find(|(name, _)| name.eq_ignore_ascii_case(&tag)) else {
                let names: Vec<&str> = union.cases.iter().map(|(name, _)| *name).collect();
                return wrong(&join(at, union.by), &format!("one of {}", names.join(", ")));
            };
            out.insert(union.by.to_owned(), Value::String((*name).to_owned()));
            groups.push(members);
        }
        None | Some(Value::Null) if mode == Mode::Whole => return Err(is_missing(join(at, union.by))),
        // A PATCH need not say again which case it is of.
        None | Some(Value::Null) => groups.extend(union.cases.iter().map(|(_, members)| *members)),
        Some(_) => return wrong(&join(at, union.by), "a string"),
    }
    out.extend(object(&groups, map, mode, at)?);
    Ok(Value::Object(out))
}

fn wrong<T>(at: &str, expected: &str) -> Result<T, Failure> {
    Err(Failure::bad_content(format!(
        "The request content was invalid and could not be deserialized: 'Error converting value at path '{at}': expected {expected}.'."
    ))
    .target(at))
}

fn fit(shape: &'static Shape, value: Value, mode: Mode, at: &str) -> Result<Value, Failure> {
    match (shape, value) {
        (Shape::Any, value) => Ok(value),
        (Shape::Text, value @ Value::String(_)) => Ok(value),
        (Shape::Text | Shape::OneOf(_) | Shape::Open(_) | Shape::Length(..), value) => text(shape, value, at),
        (Shape::Bool, value @ Value::Bool(_)) => Ok(value),
        (Shape::Bool, _) => wrong(at, "a boolean"),
        (Shape::Int, Value::Number(n)) if n.is_i64() => Ok(Value::Number(n)),
        (Shape::Int, _) => wrong(at, "an integer"),
        (Shape::Number, value @ Value::Number(_)) => Ok(value),
        (Shape::Number, _) => wrong(at, "a number"),
        (Shape::Guid, Value::String(s)) if s.len() == 36 && uuid::Uuid::try_parse(&s).is_ok() => {
            Ok(Value::String(s.to_lowercase()))
        }
        (Shape::Guid, _) => wrong(at, "a GUID"),
        (Shape::Object(members), Value::Object(map)) => Ok(Value::Object(object(&[members], map, mode, at)?)),
        (Shape::Tagged(union), Value::Object(map)) => tagged(union, map, mode, at),
        (
            Shape::Object(_) | Shape::Tagged(_) | Shape::Dictionary(_),
            Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null,
        ) => wrong(at, "an object"),
        (Shape::Dictionary(inner), Value::Object(map)) => map
            .into_iter()
            .map(|(k, v)| {
                let at = join(at, &k);
                // A null removes the entry in a PATCH; the provider sees it.
                let v = if v.is_null() { v } else { fit(inner, v, mode, &at)? };
                Ok((k, v))
            })
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object),
        (Shape::List(inner), Value::Array(items)) => items
            .into_iter()
            .enumerate()
            // The items of a list are always whole: a PATCH replaces lists as one.
            .map(|(i, v)| fit(inner, v, Mode::Whole, &format!("{at}[{i}]")))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        (Shape::List(_), _) => wrong(at, "an array"),
        (Shape::ReadOnly, _) => Ok(Value::Null),
    }
}

fn text(shape: &'static Shape, value: Value, at: &str) -> Result<Value, Failure> {
    let Value::String(s) = value else {
        return wrong(at, "a string");
    };
    let known = |values: &[&'static str]| values.iter().find(|v| v.eq_ignore_ascii_case(&s)).map(|v| (*v).to_owned());
    match shape {
        Shape::OneOf(values) => match known(values) {
            Some(value) => Ok(Value::String(value)),
            None => wrong(at, &format!("one of {}", values.join(", "))),
        },
        Shape::Open(values) => Ok(Value::String(known(values).unwrap_or(s))),
        Shape::Length(min, max) if !(*min..=*max).contains(&s.chars().count()) => {
            wrong(at, &format!("a string of {min} to {max} characters"))
        }
        _ => Ok(Value::String(s)),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Tags: any names, string values.
pub(crate) const TAGS: Shape = Shape::Dictionary(&Shape::Text);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const THING: &[Member] = &[
        must("location", Shape::Text),
        may("tags", TAGS),
        may("id", Shape::ReadOnly),
        may(
            "properties",
            Shape::Object(&[
                must("kind", Shape::OneOf(&["Hot", "Cold"])),
                may("count", Shape::Int),
                may("rules", Shape::List(&Shape::Object(&[must("value", Shape::Text)]))),
            ]),
        ),
    ];

    fn run(body: Value, mode: Mode) -> Result<Value, String> {
        let Value::Object(map) = body else {
            return Err("not an object".into());
        };
        accept(THING, map, mode).map(Value::Object).map_err(|f| f.target.clone().unwrap_or_default())
    }

    #[test]
    fn canonical_names_and_values_without_what_is_read_only() {
        let got =
            run(json!({"Location": "x", "id": "ignored", "properties": {"KIND": "hot", "count": null}}), Mode::Whole);
        assert_eq!(got, Ok(json!({"location": "x", "properties": {"kind": "Hot"}})));
    }

    #[test]
    fn refusals_name_the_member() {
        for (body, mode, target) in [
            (json!({}), Mode::Whole, "location"),
            (json!({"location": "x", "nope": 1}), Mode::Whole, "nope"),
            (json!({"location": 5}), Mode::Whole, "location"),
            (json!({"properties": {"kind": "Warm"}}), Mode::Partial, "properties.kind"),
            (json!({"properties": {"rules": [{"value": "a"}, {}]}}), Mode::Partial, "properties.rules[1].value"),
            (json!({"properties": {"count": 1.5}}), Mode::Partial, "properties.count"),
            (json!({"tags": {"a": 1}}), Mode::Partial, "tags.a"),
            (json!({"tags": []}), Mode::Partial, "tags"),
        ] {
            assert_eq!(run(body.clone(), mode), Err(target.to_owned()), "{body}");
        }
        assert_eq!(run(json!({}), Mode::Partial), Ok(json!({})));
    }
}
