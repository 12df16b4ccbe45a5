//! From the JSON of a description to shapes. Nothing here knows which types there are.

use serde_json::{Map, Value};

use super::Published;
use crate::arm::shape::{Member, Shape, Tagged};

type Fault = String;

/// Reads one description.
pub(super) fn described(source: &str) -> Result<Published, Fault> {
    let described: Value = serde_json::from_str(source).map_err(|e| e.to_string())?;
    let text = |name: &str| described[name].as_str().map(keep).ok_or_else(|| format!("no {name}"));
    let Shape::Object(body) = shape(&described["body"])? else {
        return Err("the body is not an object".to_owned());
    };
    Ok(Published { resource_type: text("type")?, api_version: text("apiVersion")?, members: body })
}

/// Descriptions live as long as the process; there is a fixed number of them and each is read once.
fn keep(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn keep_all<T>(items: Vec<T>) -> &'static [T] {
    Box::leak(items.into_boxed_slice())
}

fn members(described: &Value) -> Result<&'static [Member], Fault> {
    let described = described.as_object().ok_or_else(|| format!("not members: {described}"))?;
    let all = described.iter().map(|(marked, inner)| {
        let name = marked.trim_end_matches(['!', '^', '>']);
        let marks = &marked[name.len()..];
        let shape = if marks.contains('^') { Shape::ReadOnly } else { shape(inner)? };
        Ok(Member { name: keep(name), shape, required: marks.contains('!'), hidden: marks.contains('>') })
    });
    Ok(keep_all(all.collect::<Result<Vec<_>, Fault>>()?))
}

fn shape(described: &Value) -> Result<Shape, Fault> {
    let unknown = || format!("not a shape: {described}");
    let parts = match described {
        Value::String(name) => return plain(name).ok_or_else(unknown),
        Value::Object(parts) => parts,
        _ => return Err(unknown()),
    };
    let Some((kind, inner)) = parts.iter().next() else {
        return Err(unknown());
    };
    Ok(match kind.as_str() {
        "object" => Shape::Object(members(inner)?),
        "map" => Shape::Dictionary(Box::leak(Box::new(shape(inner)?))),
        "list" => Shape::List(Box::leak(Box::new(shape(inner)?))),
        "enum" => enumeration(parts).ok_or_else(unknown)?,
        "string" => {
            let bound = |at: usize| inner[at].as_u64().and_then(|n| usize::try_from(n).ok());
            Shape::Length(bound(0).unwrap_or(0), bound(1).unwrap_or(usize::MAX))
        }
        "tagged" => {
            let cases = inner["cases"].as_object().ok_or_else(unknown)?;
            let cases = cases.iter().map(|(name, case)| Ok((keep(name), members(case)?)));
            Shape::Tagged(Box::leak(Box::new(Tagged {
                by: inner["by"].as_str().map(keep).ok_or_else(unknown)?,
                common: members(&inner["common"])?,
                cases: keep_all(cases.collect::<Result<Vec<_>, Fault>>()?),
            })))
        }
        _ => return Err(unknown()),
    })
}

fn plain(name: &str) -> Option<Shape> {
    Some(match name {
        "string" => Shape::Text,
        "boolean" => Shape::Bool,
        "number" => Shape::Number,
        "guid" => Shape::Guid,
        "any" => Shape::Any,
        _ => return None,
    })
}

fn enumeration(parts: &Map<String, Value>) -> Option<Shape> {
    let values = parts["enum"].as_array()?.iter().map(|v| v.as_str().map(keep)).collect::<Option<Vec<_>>>()?;
    let values = keep_all(values);
    Some(if parts.get("open") == Some(&Value::Bool(true)) { Shape::Open(values) } else { Shape::OneOf(values) })
}
