//! A resource of any type of the table as it is stored, and as answers show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::arm::generic::kind::Kind;
use crate::arm::generic::rule::{Cmk, Shown};
use crate::arm::generic::{keys, kinds, pointer};
use crate::arm::identity_block::IdentityBlock;
use crate::cmk::Hold;
use crate::http::rfc3339;
use crate::propagation::{Due, reached};
use crate::state::{Shared, World};

/// A resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resource {
    pub id: String,
    pub name: String,
    /// The type in canonical casing; the key into the table.
    pub kind: String,
    /// Canonical region; that of the parent for types without one of their own.
    pub location: String,
    pub tags: Map<String, Value>,
    pub identity: IdentityBlock,
    /// All other members of the body: `sku`, `kind`, `properties`…
    pub body: Value,
    /// Object ids of principals that the service made for itself, by the pointer at which answers show them.
    pub made: BTreeMap<String, String>,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    pub created_by: String,
    #[serde(with = "time::serde::rfc3339")]
    pub modified: OffsetDateTime,
    pub modified_by: String,
    pub course: Course,
}

/// What is going on with a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Course {
    pub stage: Stage,
    /// When it ends; `None` is never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub ends: Due,
    /// Whether it ends badly.
    pub fails: bool,
    /// Whether reads show nothing of the resource before the end.
    pub hidden: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    Creating,
    Updating,
    Deleting,
}

impl Course {
    /// A work that is done.
    pub fn done(now: OffsetDateTime) -> Self {
        Self { stage: Stage::Creating, ends: Some(now), fails: false, hidden: false }
    }

    pub fn running(&self, now: OffsetDateTime) -> bool {
        !reached(self.ends, now)
    }

    pub fn failed(&self, now: OffsetDateTime) -> bool {
        self.fails && reached(self.ends, now)
    }

    pub fn visible(&self, now: OffsetDateTime) -> bool {
        !self.hidden || (reached(self.ends, now) && !self.fails)
    }
}

/// A resource under the eyes of who asks.
pub(crate) struct View<'a> {
    pub world: &'a World,
    pub shared: &'a Shared,
    pub now: OffsetDateTime,
    pub resource: &'a Resource,
    pub kind: &'static Kind,
}

impl View<'_> {
    /// `https://{name}.{zone}.{suffix}[:port]`.
    pub fn host(&self, zone: &str) -> String {
        self.shared.addresses.url(&format!("{}.{zone}", self.resource.name.to_lowercase()))
    }
}

impl Resource {
    /// The entry of the table; `None` only for a stored resource of a type that a newer table does not have any more.
    pub fn kind(&self) -> Option<&'static Kind> {
        kinds::find(&self.kind)
    }

    pub fn visible(&self, now: OffsetDateTime) -> bool {
        self.course.visible(now)
    }

    /// Whether two are the same but for when and by whom they were written.
    pub fn same_content(&self, other: &Self) -> bool {
        self.tags == other.tags && self.identity == other.identity && self.body == other.body
    }

    /// What stands for the content as it is: the same for the same content, other than in Azure.
    pub fn etag(&self) -> String {
        let users: Vec<&String> = self.identity.user.keys().collect();
        let content = json!([self.id.to_lowercase(), self.tags, users, self.identity.system.is_some(), self.body]);
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.to_string().as_bytes());
        let short: String = hash.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("\"{short}\"")
    }

    /// As answers show it.
    pub fn render(&self, world: &World, shared: &Shared, now: OffsetDateTime) -> Value {
        let Some(kind) = self.kind() else { return Value::Null };
        let mut out = json!({ "id": self.id, "name": self.name, "type": kind.name });
        if kind.placed {
            out["location"] = self.location.clone().into();
            out["tags"] = Value::Object(self.tags.clone());
        }
        if let Some(mut identity) = self.identity.render(world, &shared.options.tenant_id) {
            if let (Some(both), Some("SystemAssigned,UserAssigned")) = (kind.identities.both, identity["type"].as_str())
            {
                identity["type"] = both.into();
            }
            out["identity"] = identity;
        }
        if let (Value::Object(out), Value::Object(body)) = (&mut out, &self.body) {
            match crate::arm::published::published(&kind.name.to_lowercase()) {
                Some(published) => out.extend(published.shown(body)),
                None => out.extend(body.clone()),
            }
        }
        for (at, json) in kind.defaults {
            if pointer::get(&out, at).is_none()
                && let Ok(value) = serde_json::from_str(json)
            {
                pointer::set(&mut out, at, value);
            }
        }
        for (at, principal) in &self.made {
            pointer::set(&mut out, at, principal.clone().into());
        }
        if let Some(member) = kind.etag {
            out[member] = self.etag().into();
        }
        self.show_state(kind, &mut out, now);
        for rule in kind.cmk.iter().filter(|r| keys::is_on(r, &self.body)) {
            if let Some(hold) = world.hold(&keys::hold_id(&self.id, rule)) {
                show_key(rule, hold, &mut out);
            }
        }
        let published = crate::arm::published::published(&kind.name.to_lowercase());
        if published.is_none_or(|p| p.members.iter().any(|m| m.name == "systemData")) {
            out["systemData"] = json!({
                "createdBy": self.created_by, "createdByType": "Application", "createdAt": rfc3339(self.created),
                "lastModifiedBy": self.modified_by, "lastModifiedByType": "Application",
                "lastModifiedAt": rfc3339(self.modified),
            });
        }
        (kind.shows)(&View { world, shared, now, resource: self, kind }, &mut out);
        match (published, out) {
            (Some(published), Value::Object(out)) => Value::Object(published.shown(&out)),
            (_, out) => out,
        }
    }

    fn show_state(&self, kind: &Kind, out: &mut Value, now: OffsetDateTime) {
        if kind.states.pointer.is_empty() {
            return;
        }
        pointer::set(out, kind.states.pointer, self.state(kind, now).into());
    }

    /// The word for what is going on.
    pub fn state(&self, kind: &Kind, now: OffsetDateTime) -> &'static str {
        match (self.course.running(now), self.course.fails, self.course.stage) {
            (true, _, Stage::Creating) => kind.states.creating,
            (true, _, Stage::Updating) => kind.states.updating,
            (true, _, Stage::Deleting) => kind.states.deleting,
            (false, true, _) => kind.states.failed,
            (false, false, _) => kind.states.done,
        }
    }
}

fn show_key(rule: &Cmk, hold: &Hold, out: &mut Value) {
    let lost = hold.refused.map(|r| r.why);
    for (at, shown) in rule.shows {
        let value = match shown {
            Shown::Kid => hold.kid.clone(),
            Shown::Version => hold.version.clone(),
            Shown::Since => rfc3339(hold.since),
            Shown::Expires => rfc3339(
                hold.expires
                    .and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok())
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH),
            ),
            Shown::Word(good, bad) => (*if lost.is_none() { good } else { bad }).to_owned(),
            Shown::Lost(word) if lost.is_some() => (*word).to_owned(),
            Shown::Lost(_) => continue,
            Shown::Text(text) => text(lost).to_owned(),
            Shown::Principal => hold.key_use.principal.clone(),
        };
        pointer::set(out, at, value.into());
    }
}
