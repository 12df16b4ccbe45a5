//! Values that the tests of the step kinds share.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use crate::azure::{AzureError, AzureErrorKind};
use crate::domain::facts::{Facts, GrantFact, IdentityFact, KeyFact, KeyStoreFact, TargetFact};
use crate::domain::failure::Failure;
use crate::domain::ids::{ArmId, ClientId, KeyId, PrincipalId};
use crate::services::{ReadBack, ReadIdentity, ResourceState, Verdict};
use crate::steps::Decision;

pub(super) const NOW: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
pub(super) const VERSION: &str = "0123456789abcdef0123456789abcdef";
pub(super) const STORE_URI: &str = "https://kv-1.vault.azure.net";

pub(super) fn id(resource_type: &str, name: &str) -> ArmId {
    ArmId::build(Uuid::from_u128(1), "rg-1", resource_type, name).expect("the parts are valid segments")
}

pub(super) fn store() -> ArmId {
    id("Microsoft.KeyVault/vaults", "kv-1")
}

pub(super) fn target() -> ArmId {
    id("Microsoft.Storage/storageAccounts", "st1")
}

pub(super) fn identity() -> ArmId {
    id("Microsoft.ManagedIdentity/userAssignedIdentities", "id-1")
}

pub(super) fn principal() -> PrincipalId {
    PrincipalId(Uuid::from_u128(2))
}

/// Everything that the steps before `verify` learn.
pub(super) fn facts() -> Facts {
    let grant = |n: &str| GrantFact { assignment_id: n.to_owned(), principal_id: principal(), seen_at: NOW };
    Facts {
        target: Some(TargetFact { existed: true, location: "uksouth".into() }),
        key_store: Some(KeyStoreFact {
            uri: STORE_URI.into(),
            location: "uksouth".into(),
            tenant_id: Uuid::nil(),
            created: false,
        }),
        identity: Some(IdentityFact {
            resource_id: Some(identity()),
            principal_id: principal(),
            client_id: Some(ClientId(Uuid::from_u128(3))),
        }),
        own_grant: Some(grant("own")),
        identity_grant: Some(grant("identity")),
        key: Some(KeyFact { id: key_id(), created: true }),
        evidence: None,
    }
}

pub(super) fn key_id() -> KeyId {
    KeyId { store_uri: STORE_URI.into(), name: "k".into(), version: Some(VERSION.into()) }
}

/// What a target reads back that follows the latest version with the user-assigned identity.
pub(super) fn read_back() -> ReadBack {
    ReadBack {
        customer_managed: true,
        store_uri: Some(STORE_URI.into()),
        key_name: Some("k".into()),
        pinned_version: None,
        key_in_use: Some(key_id().to_string()),
        identity: ReadIdentity::Resource(identity().as_str().to_owned()),
        divided: false,
        verdict: Verdict::Fine,
        state: ResourceState::Ready,
    }
}

/// A storage account as ARM answers it. `key` is the key's name, absent for Microsoft-managed keys.
pub(super) fn account(state: &str, key: Option<&str>) -> Value {
    let mut account = json!({ "location": "UK South", "properties": { "provisioningState": state } });
    if let Some(key) = key {
        account["identity"] = json!({"type": "UserAssigned", "userAssignedIdentities": {identity().as_str(): {}}});
        account["properties"]["encryption"] = json!({
            "keySource": "Microsoft.Keyvault",
            "identity": { "userAssignedIdentity": identity().as_str() },
            "keyvaultproperties": {
                "keyvaulturi": format!("{STORE_URI}/"),
                "keyname": key,
                "keyversion": "",
                "currentVersionedKeyIdentifier": format!("{STORE_URI}/keys/{key}/{VERSION}"),
            },
        });
    }
    account
}

pub(super) fn error(kind: AzureErrorKind) -> AzureError {
    AzureError {
        kind,
        status: None,
        code: None,
        inner_code: None,
        message: String::new(),
        request_id: None,
        retry_after: None,
    }
}

/// A decision in a form that tables can hold: its name, or the code of a refusal, or the reason of a wait.
pub(super) fn told<A>(decision: Decision<A>) -> String {
    match decision {
        Decision::Satisfied => "satisfied".to_owned(),
        Decision::Act(_) => "act".to_owned(),
        Decision::Wait(reason) => {
            assert!(super::WAIT_CODES.contains(&reason.code.as_str()), "{reason:?}");
            format!("wait {}", reason.code)
        }
        Decision::Refuse(Failure { code, .. }) => format!("refuse {code}"),
    }
}
