//! Values that several parts of a request have in common.
//!
//! What belongs here: ids, regions, durations, tags. What does not: what they are for.

use std::collections::BTreeMap;

use crate::domain::duration::IsoDuration;
use crate::domain::ids::ArmId;
use crate::domain::reader::{Field, Object};

pub(super) fn read_duration(field: &Field) -> Option<IsoDuration> {
    let parsed = IsoDuration::parse(field.text(41)?);
    if parsed.is_none() {
        field.fault("invalid-value", "expected an ISO 8601 duration, for instance PT20M or P1Y");
    }
    parsed
}

pub(super) fn read_pairs(field: &Field, max: usize, max_key: usize, max_value: usize) -> BTreeMap<String, String> {
    let Some(map) = field.map() else { return BTreeMap::new() };
    if map.len() > max {
        field.fault("too-many", format!("expected at most {max} entries"));
    }
    let mut pairs = BTreeMap::new();
    for (key, value) in map {
        let text = value.as_str();
        let fits = |s: &str, max: usize| s.chars().count() <= max && !s.chars().any(char::is_control);
        match text {
            Some(text) if !key.is_empty() && fits(key, max_key) && fits(text, max_value) => {
                pairs.insert(key.clone(), text.to_owned());
            }
            _ => field.fault(
                "invalid-value",
                format!("expected text of at most {max_value} characters under names of 1 to {max_key} characters"),
            ),
        }
    }
    pairs
}

pub(super) fn read_arm_id(field: &Field) -> Option<ArmId> {
    match ArmId::parse(field.text(2048)?) {
        Ok(id) => Some(id),
        Err(error) => {
            field.fault("invalid-value", error.to_string());
            None
        }
    }
}

pub(super) fn read_location(body: &Object, name: &str) -> Option<String> {
    let field = body.require(name)?;
    let text = field.text(64)?;
    // Azure takes "UK South" for "uksouth"; the short form is what it answers.
    let short: String = text.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_lowercase();
    if short.is_empty() || !short.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        field.fault("invalid-value", "expected an Azure region, for instance uksouth");
        return None;
    }
    Some(short)
}

pub(super) fn check_name(field: &Field, name: &str, is_valid: fn(&str) -> bool, expected: &str) {
    if !is_valid(name) {
        field.fault("invalid-value", format!("expected {expected}"));
    }
}
