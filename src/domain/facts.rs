//! What finished steps learned, typed, each fact written by one step kind.
//!
//! What belongs here: values that later steps need or that prove something to the caller. What does not: anything
//! secret, and anything that can be computed from the request.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::{ArmId, ClientId, KeyId, PrincipalId};

/// The facts of one job. A missing fact has not been learned yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// The target as it was found; written by `check-target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetFact>,
    /// The key store; written by `ensure-key-store`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_store: Option<KeyStoreFact>,
    /// The identity the target will use; written by `ensure-identity`, by `attach-identity` where the identity is the target's
    /// own, or by `configure-service` where only the write that sets the key makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityFact>,
    /// The service's own grant; written by `grant-own-access`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_grant: Option<GrantFact>,
    /// The identity's grant; written by `grant-identity-access`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_grant: Option<GrantFact>,
    /// The key; written by `ensure-key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyFact>,
    /// The proof; written by `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// The target as it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetFact {
    /// Whether it existed before the job.
    pub existed: bool,
    /// Its region, as Azure spells it; the requested one where it does not exist yet.
    pub location: String,
}

/// The key store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStoreFact {
    /// Base URI of its data plane, without a trailing slash.
    pub uri: String,
    /// Its region.
    pub location: String,
    /// The tenant that it trusts.
    pub tenant_id: Uuid,
    /// Whether this job created it: its name and its firewall's rules may then take a while to work everywhere.
    #[serde(default)]
    pub created: bool,
}

/// The identity that the target uses to reach its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityFact {
    /// The user-assigned identity's id; `None` for the target's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<ArmId>,
    /// Object id of its service principal: what role assignments name.
    pub principal_id: PrincipalId,
    /// Its client id: what some services want in their body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}

/// A role assignment that a grant step made or found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantFact {
    /// The assignment's id, as Azure answered it.
    pub assignment_id: String,
    /// The principal that holds the role.
    pub principal_id: PrincipalId,
    /// When this job saw the grant in place: the window of `accessTimeout` starts at the later of the two grants.
    #[serde(with = "time::serde::rfc3339")]
    pub seen_at: OffsetDateTime,
}

/// The key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyFact {
    /// Store, name and the version that was current when the job looked.
    pub id: KeyId,
    /// Whether this job created it.
    pub created: bool,
}

/// The read-back that proves a binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The target that was read back.
    pub target: String,
    /// The key version that the service reports as in use; where its type reports none, the reference that it reads back.
    pub key_id: String,
    /// Whether the service follows new versions of the key.
    pub follows_rotation: bool,
    /// The identity that the service uses: a user-assigned identity's id, `systemAssigned` or `platform`.
    pub identity: String,
    /// When the target was read back.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub verified_at: OffsetDateTime,
    /// Azure's request ids of the reads.
    pub azure_request_ids: Vec<String>,
}

impl Facts {
    /// Takes over what one step learned: the facts that it changed from `before` to `after`. Steps that run at the same
    /// time each start from the same facts and write different ones.
    pub fn absorb(&mut self, before: &Self, after: &Self) {
        macro_rules! take {
            ($($fact:ident),*) => { $(
                if before.$fact != after.$fact {
                    self.$fact.clone_from(&after.$fact);
                }
            )* };
        }
        take!(target, key_store, identity, own_grant, identity_grant, key, evidence);
    }

    /// When both grants were in place: the start of the window in which "forbidden" means "not yet".
    pub fn granted_at(&self) -> Option<OffsetDateTime> {
        [&self.own_grant, &self.identity_grant].into_iter().flatten().map(|g| g.seen_at).max()
    }
}
