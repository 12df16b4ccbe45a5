//! What is made reads back as it was made: groups, identities, vaults, grants and keys.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use azure_sim::journal::Filter;
use azure_sim::{Lag, Propagation};
use cmk::azure::keys::{KeyType, RotationPolicy};
use cmk::azure::role_assignments::{self, PrincipalType, roles};
use cmk::azure::vaults::{self, NetworkAcls, VaultSku};
use cmk::azure::{AzureErrorKind, identities, resource_groups};
use cmk::domain::ids::ArmId;
use serde_json::json;
use uuid::Uuid;

use super::{LOCATION, Stage, expect_kind, key_spec};

#[tokio::test]
async fn the_service_knows_itself_and_its_tenant() {
    let stage = Stage::start().await;
    let own = stage.azure.own_principal(&stage.cx).await.expect("a token");
    assert_eq!(own.id.to_string(), stage.sim.object_id());
    assert_eq!(own.principal_type, PrincipalType::ServicePrincipal);
    let tenant = stage.azure.tenant(&stage.cx, stage.subscription()).await.expect("a tenant");
    assert_eq!(tenant.to_string(), stage.sim.tenant_id());
    expect_kind(stage.azure.tenant(&stage.cx, Uuid::nil()).await, AzureErrorKind::Rejected);
}

#[tokio::test]
async fn groups_identities_and_vaults_are_read_as_they_were_made() {
    let stage = Stage::start().await;
    let (arm, cx) = (&stage.azure.arm, &stage.cx);
    let group = resource_groups::get(arm, cx, stage.subscription(), "rg").await.expect("answered").expect("there");
    assert_eq!(group.provisioning_state.as_deref(), Some("Succeeded"));
    assert_eq!(resource_groups::get(arm, cx, stage.subscription(), "none").await, Ok(None));

    let id = stage.id(identities::TYPE, "id-one");
    assert_eq!(identities::get(arm, cx, &id).await, Ok(None));
    let identity = identities::create(arm, cx, &id, LOCATION, &BTreeMap::new()).await.expect("created");
    assert_ne!(identity.principal_id.0, identity.client_id.0);
    assert_eq!(identities::get(arm, cx, &id).await, Ok(Some(identity)));

    assert_eq!(vaults::get(arm, cx, &stage.vault_id()).await, Ok(None));
    let network = NetworkAcls {
        default_allow: false,
        bypass_trusted: true,
        ip_rules: vec!["203.0.113.7/32".parse().expect("a network")],
        subnets: Vec::new(),
    };
    stage.create_vault(Some(network.clone()), true).await.expect("created");
    let vault = vaults::get(arm, cx, &stage.vault_id()).await.expect("answered").expect("there");
    assert_eq!(vault.uri, format!("https://kv-one.{}", stage.sim.vault_suffix()));
    assert!(vault.rbac && vault.soft_delete && vault.purge_protection);
    assert_eq!((vault.retention_days, vault.network), (7, network));
    // A resource in a group that does not exist is absent, too.
    let elsewhere = ArmId::build(stage.subscription(), "none", vaults::TYPE, "kv").expect("a valid id");
    assert_eq!(vaults::get(arm, cx, &elsewhere).await, Ok(None));
}

#[tokio::test]
async fn a_key_can_be_made_when_the_grant_has_arrived() {
    let stage = Stage::with(Propagation { grant: Lag::seconds(60.0), ..Propagation::instant() }).await;
    stage.sim.clock().freeze();
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    stage.grant_self().await;
    let (keys, cx) = (&stage.azure.keys, &stage.cx);
    let early = expect_kind(keys.get(cx, &uri, "k", None).await, AzureErrorKind::Forbidden);
    assert_eq!((early.status, early.inner_code.as_deref()), (Some(403), Some("ForbiddenByRbac")));
    assert!(early.request_id.is_some());

    stage.sim.clock().advance(Duration::from_secs(61));
    assert_eq!(keys.get(cx, &uri, "k", None).await, Ok(None));
    let made = keys.create(cx, &uri, "k", &key_spec()).await.expect("created");
    assert_eq!((made.size_bits, &made.kty, made.enabled), (Some(2048), &KeyType::Rsa, true));
    assert_eq!((&made.operations, &made.tags), (&key_spec().operations, &key_spec().tags));
    let latest = keys.get(cx, &uri, "K", None).await.expect("answered").expect("there");
    assert_eq!(latest.id.version, made.id.version);
    assert!(made.id.same_key(&uri, "k"));
    let by_version = keys.get(cx, &uri, "k", made.id.version.as_deref()).await.expect("answered").expect("there");
    assert_eq!(by_version.id, made.id);

    let policy = RotationPolicy {
        rotate_after_create: Some("P90D".into()),
        notify_before_expiry: Some("P30D".into()),
        expire_after: Some("P1Y".into()),
        ..RotationPolicy::default()
    };
    keys.set_rotation_policy(cx, &uri, "k", &policy).await.expect("set");
    assert_eq!(keys.rotation_policy(cx, &uri, "k").await, Ok(Some(policy)));
    assert_eq!(keys.rotation_policy(cx, &uri, "none").await, Ok(None));
}

#[tokio::test]
async fn all_calls_of_a_job_are_correlated_and_a_store_is_challenged_once() {
    let stage = Stage::start().await;
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    stage.grant_self().await;
    for _ in 0..3 {
        stage.azure.keys.get(&stage.cx, &uri, "k", None).await.expect("answered");
    }
    let entries = stage.sim.journal().entries();
    let correlated = entries.iter().filter(|e| e.surface != "login");
    let foreign: Vec<_> = correlated.filter(|e| e.correlation_id != stage.cx.correlation_id.to_string()).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let ids: Vec<_> =
        entries.iter().filter(|e| e.surface == "arm").filter_map(|e| e.client_request_id.clone()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    let challenges = Filter { surface: Some("vault".into()), status: Some(401), ..Filter::default() };
    assert_eq!(stage.sim.journal().count(&challenges), 1);
    // One token for ARM, one for the vault.
    assert_eq!(stage.sim.journal().count(&Filter { surface: Some("login".into()), ..Filter::default() }), 2);
}

#[tokio::test]
async fn a_grant_is_made_once_whatever_its_name() {
    let stage = Stage::start().await;
    stage.create_vault(None, true).await.expect("created");
    let (arm, cx, scope) = (&stage.azure.arm, &stage.cx, stage.vault_id());
    let own = stage.azure.own_principal(cx).await.expect("a token").id;
    let role = roles::KEY_VAULT_CRYPTO_OFFICER;
    let first = stage.grant(own, role).await.expect("granted");
    assert_eq!(stage.grant(own, role).await, Ok(first.clone()));
    let name = role_assignments::assignment_name(&scope, own, role);
    let read = role_assignments::get(arm, cx, &scope, name).await;
    assert_eq!(read, Ok(Some(first.clone())));

    // The service owns the subscription: that assignment is in force here as well.
    let listed = role_assignments::list_for_principal(arm, cx, &scope, own).await.expect("a list");
    assert!(listed.contains(&first) && listed.len() == 2, "{listed:?}");

    // Somebody grants another role by hand, under a name of their own.
    let by_hand = roles::KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER;
    let path = format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{}", Uuid::new_v4());
    let body = json!({"properties": {"principalId": own, "principalType": "ServicePrincipal", "roleDefinitionId":
        format!("/providers/Microsoft.Authorization/roleDefinitions/{by_hand}")}});
    arm.put(cx, &path, role_assignments::API_VERSION, &body).await.expect("granted");
    expect_kind(stage.grant(own, by_hand).await, AzureErrorKind::RoleAssignmentExists);
    let listed = role_assignments::list_for_principal(arm, cx, &scope, own).await.expect("a list");
    assert_eq!(listed.iter().filter(|a| a.role == by_hand).count(), 1);
}

#[tokio::test]
async fn deleted_names_are_found_and_recovered() {
    let stage = Stage::start().await;
    let (arm, cx, id) = (&stage.azure.arm, &stage.cx, stage.vault_id());
    let vault = stage.create_vault(None, true).await.expect("created");
    stage.grant_self().await;
    let keys = &stage.azure.keys;
    keys.create(cx, &vault.uri, "k", &key_spec()).await.expect("created");
    assert_eq!(keys.get_deleted(cx, &vault.uri, "k").await, Ok(None));
    stage.delete("kv-one.vault.localhost", "/keys/k?api-version=7.4", "https://vault.azure.net").await;
    assert!(keys.get_deleted(cx, &vault.uri, "k").await.is_ok_and(|found| found.is_some()));
    expect_kind(keys.create(cx, &vault.uri, "k", &key_spec()).await, AzureErrorKind::SoftDeleted);

    let deleted = || vaults::get_deleted(arm, cx, stage.subscription(), "West Europe", "kv-one");
    assert_eq!(deleted().await, Ok(None));
    let path = format!("{id}?api-version={}", vaults::API_VERSION);
    stage.delete("management.localhost", &path, "https://management.azure.com").await;
    assert_eq!(vaults::get(arm, cx, &id).await, Ok(None));
    let held = deleted().await.expect("answered").expect("kept");
    assert!(held.purge_protection && held.scheduled_purge.is_some());
    assert_eq!(ArmId::parse(&held.vault_id), Ok(id.clone()));
    expect_kind(stage.create_vault(None, true).await, AzureErrorKind::SoftDeleted);
    let back = vaults::recover(arm, cx, &id, LOCATION, vault.tenant_id).await.expect("recovered");
    assert_eq!((back.uri, back.purge_protection, back.retention_days), (vault.uri, true, 7));
}

#[tokio::test]
async fn purge_protection_can_be_turned_on() {
    let stage = Stage::start().await;
    let (arm, cx, id) = (&stage.azure.arm, &stage.cx, stage.vault_id());
    let body = json!({"location": LOCATION, "properties": {"tenantId": stage.sim.tenant_id(),
        "sku": {"family": "A", "name": "premium"}}});
    arm.put(cx, id.as_str(), vaults::API_VERSION, &body).await.expect("created");
    let bare = vaults::get(arm, cx, &id).await.expect("answered").expect("there");
    assert_eq!((bare.purge_protection, bare.sku), (false, VaultSku::Premium));
    assert!(vaults::enable_purge_protection(arm, cx, &id).await.is_ok_and(|vault| vault.purge_protection));
}
