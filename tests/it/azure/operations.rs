//! Changes that Azure accepts and finishes later.

use std::collections::BTreeMap;
use std::time::Duration;

use azure_sim::{Action, Rule};
use cmk::azure::role_assignments::roles;
use cmk::azure::{AzureErrorKind, OperationState, identities, resources};
use cmk::domain::ids::ArmId;
use serde_json::{Value, json};

use super::{LOCATION, Stage, expect_kind, key_spec};

const STORAGE_API: &str = "2025-08-01";

/// A storage account that takes its key at creation.
async fn account_with_key(stage: &Stage) -> (ArmId, Value) {
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    let (arm, cx) = (&stage.azure.arm, &stage.cx);
    let identity_id = stage.id(identities::TYPE, "id-one");
    let identity = identities::create(arm, cx, &identity_id, LOCATION, &BTreeMap::new()).await.expect("created");
    stage.grant(identity.principal_id, roles::KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER).await.expect("granted");
    stage.grant_self().await;
    stage.azure.keys.create(cx, &uri, "k", &key_spec()).await.expect("created");
    let body = json!({
        "location": LOCATION, "kind": "StorageV2", "sku": {"name": "Standard_LRS"},
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity_id.as_str(): {}}},
        "properties": {"encryption": {
            "keySource": "Microsoft.Keyvault", "identity": {"userAssignedIdentity": identity_id},
            "keyvaultproperties": {"keyname": "k", "keyvaulturi": uri},
            "services": {"blob": {"enabled": true, "keyType": "Account"}, "file": {"enabled": true, "keyType": "Account"}},
        }},
    });
    (stage.id("Microsoft.Storage/storageAccounts", "stone1"), body)
}

#[tokio::test]
async fn an_accepted_change_is_followed_to_its_end() {
    let stage = Stage::start().await;
    stage.sim.clock().freeze();
    let (id, body) = account_with_key(&stage).await;
    let (arm, cx) = (&stage.azure.arm, &stage.cx);
    let accepted = resources::put(arm, cx, &id, STORAGE_API, &body, None).await.expect("accepted");
    assert_eq!((accepted.status, accepted.retry_after), (202, Some(Duration::from_secs(1))));
    let operation = accepted.operation.expect("an operation");
    let state = arm.poll(cx, &operation).await.expect("readable");
    assert_eq!(state, OperationState::Running { retry_after: Some(Duration::from_secs(1)) });
    stage.sim.clock().advance(Duration::from_secs(3));
    assert_eq!(arm.poll(cx, &operation).await, Ok(OperationState::Succeeded));
    let account = resources::get(arm, cx, &id, STORAGE_API).await.expect("answered").expect("there");
    let used = account.body.pointer("/properties/encryption/keyvaultproperties/currentVersionedKeyIdentifier");
    let key = stage.azure.keys.get(cx, &account_store(&body), "k", None).await.expect("answered").expect("there");
    assert_eq!(used.and_then(Value::as_str), Some(key.id.to_string().as_str()));
    let tagged = resources::patch(arm, cx, &id, STORAGE_API, &json!({"tags": {"a": "b"}})).await.expect("changed");
    assert_eq!(tagged.body["tags"]["a"], "b");
}

fn account_store(body: &Value) -> String {
    body["properties"]["encryption"]["keyvaultproperties"]["keyvaulturi"].as_str().expect("a URI").to_owned()
}

#[tokio::test]
async fn an_operation_that_fails_says_why() {
    let stage = Stage::start().await;
    let (id, body) = account_with_key(&stage).await;
    let (arm, cx) = (&stage.azure.arm, &stage.cx);
    let failure = Action::LroFail { code: "KeyVaultAuthenticationFailure".into(), message: "cannot reach".into() };
    stage.sim.faults().add(Rule::once("PUT", "*/storageAccounts/*", failure)).expect("a rule");
    let operation =
        resources::put(arm, cx, &id, STORAGE_API, &body, None).await.expect("accepted").operation.expect("one");
    stage.sim.clock().advance(Duration::from_secs(3));
    match arm.poll(cx, &operation).await {
        Ok(OperationState::Failed(error)) => assert_eq!(error.kind, AzureErrorKind::KeyVaultAccess, "{error:?}"),
        other => panic!("not failed: {other:?}"),
    }
}

#[tokio::test]
async fn a_service_without_access_to_its_key_is_not_our_own_refusal() {
    let stage = Stage::start().await;
    let (id, body) = account_with_key(&stage).await;
    let (arm, cx) = (&stage.azure.arm, &stage.cx);
    let other = stage.id(identities::TYPE, "id-two");
    identities::create(arm, cx, &other, LOCATION, &BTreeMap::new()).await.expect("created");
    let body = body.to_string().replace("id-one", "id-two").parse().expect("JSON");
    expect_kind(resources::put(arm, cx, &id, STORAGE_API, &body, None).await, AzureErrorKind::KeyVaultAccess);
}
