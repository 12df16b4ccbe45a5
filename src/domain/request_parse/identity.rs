//! The identity of a request.
//!
//! What belongs here: its kind, its id, and the default one. What does not: what it is granted.

use super::values::{check_name, read_arm_id, read_location};
use crate::domain::ids::ArmId;
use crate::domain::reader::Field;
use crate::domain::request::{IDENTITY_TYPE, Identity, IdentityCreate, IdentityKind, Target};

pub(super) fn read_identity(field: Option<Field>, target: Option<&Target>) -> Identity {
    let default = Identity {
        kind: IdentityKind::UserAssigned,
        resource_id: target.and_then(default_identity_id),
        create: Some(IdentityCreate::default()),
    };
    let Some(field) = field else { return default };
    let Some(body) = field.object(&["kind", "resourceId", "create"]) else { return default };
    let words = [
        ("userAssigned", IdentityKind::UserAssigned),
        ("systemAssigned", IdentityKind::SystemAssigned),
        ("platform", IdentityKind::Platform),
    ];
    let kind = body.get("kind").and_then(|f| f.one_of(&words)).unwrap_or_default();
    if kind != IdentityKind::UserAssigned {
        for name in ["resourceId", "create"] {
            if let Some(extra) = body.get(name) {
                extra.fault("not-allowed", "only a user-assigned identity has this field");
            }
        }
        return Identity { kind, resource_id: None, create: None };
    }
    let create = body.get("create").and_then(|f| {
        let body = f.object(&["location"])?;
        Some(IdentityCreate { location: body.get("location").and_then(|_| read_location(&body, "location")) })
    });
    let resource_id = match body.get("resourceId") {
        Some(f) => read_identity_id(&f),
        // A kind alone, or `create` alone, means the default identity.
        None => return Identity { create: create.or(default.create), ..default },
    };
    Identity { kind, resource_id, create }
}

fn read_identity_id(field: &Field) -> Option<ArmId> {
    let id = read_arm_id(field)?;
    if !id.is_type(IDENTITY_TYPE) {
        field.fault("invalid-value", format!("expected an id of type {IDENTITY_TYPE}"));
        return None;
    }
    check_name(
        field,
        id.name(),
        is_identity_name,
        "an identity name: 3 to 128 letters, digits, hyphens and underscores, starting with a letter or digit",
    );
    Some(id)
}

fn default_identity_id(target: &Target) -> Option<ArmId> {
    let id = &target.resource_id;
    let name: String = format!("id-{}", id.name()).chars().map(|c| if c == '.' { '-' } else { c }).take(128).collect();
    ArmId::build(id.subscription(), id.resource_group(), IDENTITY_TYPE, &name).ok()
}

fn is_identity_name(name: &str) -> bool {
    (3..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
