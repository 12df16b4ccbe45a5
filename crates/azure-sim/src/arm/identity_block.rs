//! The `identity` member of resources: reading it from a body, the right to assign an identity, and its shape in answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::arm::Asked;
use crate::arm::identities;
use crate::arm::shape::{Member, Shape, may};
use crate::http::Failure;
use crate::rbac::check;
use crate::state::World;

/// Which identities a resource has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdentityBlock {
    /// Object id of the system-assigned principal, while it is on.
    pub system: Option<String>,
    /// User-assigned identities: lower-case id to the id as answers spell it.
    pub user: BTreeMap<String, String>,
}

/// What a body may say about identities.
pub(crate) const SHAPE: &[Member] = &[
    may(
        "type",
        Shape::OneOf(&[
            "None",
            "SystemAssigned",
            "UserAssigned",
            "SystemAssigned,UserAssigned",
            "SystemAssigned, UserAssigned",
        ]),
    ),
    may("userAssignedIdentities", Shape::Dictionary(&Shape::Any)),
    may("principalId", Shape::ReadOnly),
    may("tenantId", Shape::ReadOnly),
];

/// The identities that a body asks for, before anything is done about them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub system: bool,
    pub user: BTreeMap<String, String>,
}

/// Reads the block. In a PATCH the map is merged into what is there and `null` takes an entry away; in a PUT it is whole.
pub(crate) fn wanted(
    body: &Map<String, Value>,
    have: &IdentityBlock,
    partial: bool,
) -> Result<Option<Wanted>, Failure> {
    let Some(block) = body.get("identity").and_then(Value::as_object) else {
        return Ok(None);
    };
    let kind = match block.get("type").and_then(Value::as_str) {
        Some(kind) => kind.to_owned(),
        None if partial => have.kind().to_owned(),
        None => {
            return Err(Failure::bad_content(
                "The request content was invalid: required member 'identity.type' was not provided.",
            )
            .target("identity.type"));
        }
    };
    let mut user = if partial { have.user.clone() } else { BTreeMap::new() };
    for (id, value) in block.get("userAssignedIdentities").and_then(Value::as_object).into_iter().flatten() {
        if value.is_null() {
            user.remove(&id.to_lowercase());
        } else {
            user.insert(id.to_lowercase(), id.clone());
        }
    }
    let takes_user = kind.contains("UserAssigned");
    if takes_user && user.is_empty() {
        return Err(Failure::new(
            400,
            "InvalidIdentityRequest",
            "The identity type 'UserAssigned' needs at least one entry in 'userAssignedIdentities'.",
        ));
    }
    if !takes_user {
        user.clear();
    }
    Ok(Some(Wanted { system: kind.contains("SystemAssigned"), user }))
}

/// Whether all wanted identities exist and the caller may assign those that are new. Ids get their canonical spelling.
pub(crate) fn assignable(
    asked: &Asked<'_>,
    world: &World,
    wanted: &mut Wanted,
    have: &IdentityBlock,
    action: &str,
    scope: &str,
) -> Result<(), Failure> {
    for (key, spelled) in &mut wanted.user {
        let shaped = key.starts_with("/subscriptions/")
            && key.contains(&format!("/providers/{}/", identities::KIND).to_lowercase());
        if !shaped {
            return Err(Failure::new(
                400,
                "LinkedInvalidPropertyId",
                format!(
                    "Property id '{spelled}' at path 'identity.userAssignedIdentities' is invalid. Expect fully qualified resource Id that start with '/subscriptions/{{subscriptionId}}' or '/providers/{{resourceProviderNamespace}}/'."
                ),
            ));
        }
        let fresh = !have.user.contains_key(key);
        if fresh {
            check::require_linked(
                world,
                &asked.caller,
                action,
                scope,
                "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
                spelled,
                asked.call.now,
            )?;
        }
        match world.identities.get(key) {
            Some(identity) => spelled.clone_from(&identity.id),
            None if fresh => {
                return Err(Failure::new(
                    400,
                    "FailedIdentityOperation",
                    format!(
                        "Identity operation for resource '{scope}' failed with error 'Failed to perform resource identity operation. Status: 'BadRequest'. Response: 'Resource {spelled} was not found.'."
                    ),
                ));
            }
            None => {}
        }
    }
    Ok(())
}

impl IdentityBlock {
    pub fn kind(&self) -> &'static str {
        match (self.system.is_some(), !self.user.is_empty()) {
            (false, false) => "None",
            (true, false) => "SystemAssigned",
            (false, true) => "UserAssigned",
            (true, true) => "SystemAssigned,UserAssigned",
        }
    }

    /// Makes the block as wanted; a new system-assigned principal is made, a given-up one goes.
    pub fn apply(&mut self, world: &mut World, wanted: Wanted, id: &str, name: &str, now: time::OffsetDateTime) {
        match (&self.system, wanted.system) {
            (None, true) => self.system = Some(identities::fresh_principal(world, id, name, now).0),
            (Some(oid), false) => {
                world.principals.remove(oid);
                self.system = None;
            }
            _ => {}
        }
        self.user = wanted.user;
    }

    /// The block as answers show it; absent when there is no identity.
    pub fn render(&self, world: &World, tenant: &str) -> Option<Value> {
        if self.kind() == "None" {
            return None;
        }
        let mut block = json!({ "type": self.kind() });
        let Value::Object(map) = &mut block else {
            return None;
        };
        if let Some(oid) = &self.system {
            map.insert("principalId".into(), oid.clone().into());
            map.insert("tenantId".into(), tenant.into());
        }
        if !self.user.is_empty() {
            let users: Map<String, Value> = self
                .user
                .iter()
                .map(|(key, id)| {
                    let ids = world.identities.get(key).map_or_else(
                        || json!({}),
                        |i| json!({ "principalId": i.principal_id, "clientId": i.client_id }),
                    );
                    (id.clone(), ids)
                })
                .collect();
            map.insert("userAssignedIdentities".into(), Value::Object(users));
        }
        Some(block)
    }
}
