//! What a service asks of its target: of its name, and of its members.
//!
//! What belongs here: rules that a body or a name keeps or breaks by itself. What does not: where they are asked
//! (`rules` at intake, `check_target` in a job).

use serde::Deserialize;
use serde_json::Value;

use super::rules::identity_word;
use super::{BoundIdentity, ServiceDescriptor};

/// What a member of a target has to be. A member that is absent is as Azure's default has it, which fits, unless it has to be
/// present.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// Where it stands: below `/sku` or `/properties`.
    pub pointer: String,
    /// What it may be; empty where any value will do that is not in `not`. Texts are compared without regard to case.
    #[serde(default)]
    pub among: Vec<Value>,
    /// What it may not be.
    #[serde(default)]
    pub not: Vec<Value>,
    /// A member that makes up for it by being there.
    #[serde(default)]
    pub unless: Option<String>,
    /// Whether it has to be there.
    #[serde(default)]
    pub present: bool,
    /// The rule in words, as the end of a sentence that begins with the service.
    pub words: String,
}

impl Requirement {
    /// Whether the target, or the body that creates it, is as it has to be.
    pub fn is_met(&self, body: &Value) -> bool {
        if self.unless.as_ref().is_some_and(|at| body.pointer(at).is_some_and(|v| !v.is_null())) {
            return true;
        }
        let same = |wanted: &Value, found: &Value| match (wanted, found) {
            (Value::String(wanted), Value::String(found)) => wanted.eq_ignore_ascii_case(found),
            (wanted, found) => wanted == found,
        };
        match body.pointer(&self.pointer).filter(|v| !v.is_null()) {
            None => !self.present,
            Some(found) => {
                (self.among.is_empty() || self.among.iter().any(|w| same(w, found)))
                    && !self.not.iter().any(|w| same(w, found))
            }
        }
    }
}

/// How many identities a resource of the type may have at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identities {
    /// Any number, of both kinds.
    #[default]
    Many,
    /// Its own, and at most one user-assigned one.
    OneUserAssigned,
    /// One.
    One,
}

impl Identities {
    /// Whether the resource has an identity that leaves no place for this one. Nothing that is there is ever taken away.
    pub fn leave_no_place(self, holder: &Value, wanted: &BoundIdentity) -> bool {
        let member = holder.get("identity");
        let kind = member.and_then(|i| i.get("type")).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        let users = member.and_then(|i| i.get("userAssignedIdentities")).and_then(Value::as_object);
        let others = users.into_iter().flat_map(|map| map.keys()).any(|user| match wanted {
            BoundIdentity::UserAssigned { id, .. } => !user.eq_ignore_ascii_case(id.as_str()),
            BoundIdentity::SystemAssigned | BoundIdentity::Platform => true,
        });
        let own = kind.contains("systemassigned");
        match (self, wanted) {
            (Self::Many, _) | (_, BoundIdentity::Platform) => false,
            (Self::OneUserAssigned, BoundIdentity::UserAssigned { .. }) => others,
            (Self::OneUserAssigned, BoundIdentity::SystemAssigned) => false,
            (Self::One, BoundIdentity::UserAssigned { .. }) => others || own,
            (Self::One, BoundIdentity::SystemAssigned) => others,
        }
    }

    /// The rule in words, as the end of a sentence that begins with the service.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Many => "takes any number of identities",
            Self::OneUserAssigned => "takes one user-assigned identity at a time",
            Self::One => "takes one identity at a time",
        }
    }
}

/// What names are allowed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameRule {
    /// The fewest characters.
    pub min: usize,
    /// The most characters.
    pub max: usize,
    /// Whether upper-case letters are allowed, beside lower-case ones and digits.
    pub upper: bool,
    /// What else is allowed.
    pub also: String,
    /// What has to stand first.
    #[serde(default)]
    pub starts: NameStart,
    /// Whether a letter or a digit has to stand last.
    #[serde(default)]
    pub ends_plain: bool,
    /// Whether two characters of `also` may not follow each other.
    #[serde(default)]
    pub no_double: bool,
    /// The rule in words.
    pub words: String,
}

/// What has to stand first in a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameStart {
    /// Any character that is allowed at all.
    #[default]
    Any,
    /// A letter or a digit.
    Plain,
    /// A letter.
    Letter,
}

impl NameRule {
    /// Whether a name is allowed.
    pub fn admits(&self, name: &str) -> bool {
        let allowed = |c: char| {
            c.is_ascii_lowercase()
                || c.is_ascii_digit()
                || (self.upper && c.is_ascii_uppercase())
                || self.also.contains(c)
        };
        let starts = |c: char| match self.starts {
            NameStart::Any => true,
            NameStart::Plain => c.is_ascii_alphanumeric(),
            NameStart::Letter => c.is_ascii_alphabetic(),
        };
        let double = name.as_bytes().windows(2).any(|pair| pair.iter().all(|c| !c.is_ascii_alphanumeric()));
        (self.min..=self.max).contains(&name.len())
            && name.chars().all(allowed)
            && name.starts_with(starts)
            && (!self.ends_plain || name.ends_with(|c: char| c.is_ascii_alphanumeric()))
            && !(self.no_double && double)
    }
}

impl ServiceDescriptor {
    /// What it asks of target, key and key store beside what every service asks, in sentences.
    pub fn asks(&self) -> Vec<String> {
        let mut said: Vec<String> = self.requires.iter().map(|rule| format!("It {}.", rule.words)).collect();
        if self.identities != Identities::Many {
            said.push(format!("It {}; no other one is taken away from it.", self.identities.words()));
        }
        if !self.empty_of.is_empty() {
            said.push(format!("It takes its first key only while it holds none of: {}.", self.empty_of.join(", ")));
        }
        if !self.key_operations.is_empty() {
            let words: Vec<&str> = self.key_operations.iter().map(|op| op.as_str()).collect();
            said.push(format!("It uses its key for these too: {}.", words.join(", ")));
        }
        if !self.keys_may_expire {
            said.push("It takes no key that has a date on which it expires.".to_owned());
        }
        if let Some(most) = self.names_at_most {
            said.push(format!("The names of key store and key have at most {most} characters together."));
        }
        if let Some(days) = self.store_retention_days {
            said.push(format!("The key store has to keep what is deleted for {days} days."));
        }
        if self.needs_private_endpoint {
            said.push("The key store has to have a private endpoint.".to_owned());
        }
        if !self.no_firewall.is_empty() {
            let kinds: Vec<&str> = self.no_firewall.iter().map(|kind| identity_word(*kind)).collect();
            said.push(format!(
                "With an identity of these kinds the key store may have no firewall: {}.",
                kinds.join(", ")
            ));
        }
        if self.comes_from_addresses {
            said.push("A key store's firewall has to list the addresses that the service comes from.".to_owned());
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(value: Value) -> Requirement {
        serde_json::from_value(value).expect("a rule")
    }

    #[test]
    fn an_identity_that_is_there_may_leave_no_place_for_another() {
        use crate::domain::ids::ArmId;
        use uuid::Uuid;
        let id = |name: &str| {
            ArmId::build(Uuid::nil(), "rg", "Microsoft.ManagedIdentity/userAssignedIdentities", name).expect("an id")
        };
        let wanted = BoundIdentity::UserAssigned { id: id("a"), client_id: None };
        let users =
            |names: &[&str]| -> Value { names.iter().map(|n| (id(n).as_str().to_uppercase(), json!({}))).collect() };
        let holder = |kind: &str, names: &[&str]| json!({ "identity": { "type": kind, "userAssignedIdentities": users(names) } });
        let none = json!({});
        let (ours, theirs) = (holder("UserAssigned", &["a"]), holder("UserAssigned", &["b"]));
        let own = json!({ "identity": { "type": "SystemAssigned" } });
        let both = holder("SystemAssigned, UserAssigned", &["a"]);
        let table = [
            (Identities::One, &wanted, [(&none, false), (&ours, false), (&theirs, true), (&own, true), (&both, true)]),
            (
                Identities::One,
                &BoundIdentity::SystemAssigned,
                [(&none, false), (&ours, true), (&theirs, true), (&own, false), (&both, true)],
            ),
            (
                Identities::OneUserAssigned,
                &wanted,
                [(&none, false), (&ours, false), (&theirs, true), (&own, false), (&both, false)],
            ),
            (
                Identities::OneUserAssigned,
                &BoundIdentity::SystemAssigned,
                [(&none, false), (&ours, false), (&theirs, false), (&own, false), (&both, false)],
            ),
            (
                Identities::Many,
                &wanted,
                [(&none, false), (&ours, false), (&theirs, false), (&own, false), (&both, false)],
            ),
        ];
        for (rule, wanted, cases) in table {
            for (holder, want) in cases {
                assert_eq!(rule.leave_no_place(holder, wanted), want, "{rule:?} {wanted:?} {holder}");
            }
        }
    }

    #[test]
    fn a_member_is_one_of_these_or_none_of_those_or_made_up_for() {
        let sku = rule(
            json!({ "pointer": "/sku/name", "among": ["Premium"], "unless": "/properties/cluster", "words": "w" }),
        );
        let free = rule(json!({ "pointer": "/sku/name", "not": ["free"], "words": "w" }));
        let there = rule(json!({ "pointer": "/properties/a", "present": true, "words": "w" }));
        for (rule, body, met) in [
            (&sku, json!({ "sku": { "name": "premium" } }), true),
            (&sku, json!({ "sku": { "name": "Basic" } }), false),
            (&sku, json!({ "sku": { "name": "Basic" }, "properties": { "cluster": "id" } }), true),
            (&sku, json!({}), true),
            (&sku, json!({ "sku": { "name": null } }), true),
            (&free, json!({ "sku": { "name": "Free" } }), false),
            (&free, json!({ "sku": { "name": "basic" } }), true),
            (&there, json!({ "properties": { "a": null } }), false),
            (&there, json!({ "properties": { "a": [] } }), true),
        ] {
            assert_eq!(rule.is_met(&body), met, "{rule:?} {body}");
        }
    }
}
