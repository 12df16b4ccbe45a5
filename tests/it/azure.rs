//! The Azure clients against the simulator: over TLS, with real tokens, challenges, grants that arrive late and faults.

use std::collections::BTreeMap;
use std::time::Duration;

use azure_sim::faults::{status, throttled};
use azure_sim::journal::Filter;
use azure_sim::{Action, Lag, Options, Propagation, Rule, Simulator};
use cmk::azure::keys::{KeyOperation, KeySpec, KeyType, RotationPolicy};
use cmk::azure::role_assignments::{self, PrincipalType, roles};
use cmk::azure::vaults::{self, NetworkAcls, Vault, VaultSku, VaultSpec};
use cmk::azure::{
    Azure, AzureError, AzureErrorKind, AzureSettings, CallContext, Cloud, CredentialSettings, CustomCloud, Operation,
    OperationState, Timeouts, identities, resource_groups, resources,
};
use cmk::domain::ids::{ArmId, PrincipalId};
use serde_json::{Value, json};
use uuid::Uuid;

const LOCATION: &str = "westeurope";
const STORAGE_API: &str = "2025-08-01";

/// A simulated cloud with one resource group, and the service's client.
struct Stage {
    sim: Simulator,
    azure: Azure,
    cx: CallContext,
}

fn connect(sim: &Simulator, id: &str, secret: &str, timeouts: Timeouts, ca: bool) -> Azure {
    let cloud = Cloud::custom(CustomCloud {
        name: "simulated".into(),
        arm: sim.arm_url(),
        authority_host: sim.login_url(),
        arm_scope: None,
        vault_suffix: sim.vault_suffix(),
        hsm_suffix: sim.hsm_suffix(),
        extra_ca_pem: ca.then(|| sim.ca_pem().as_bytes().to_vec()),
    })
    .expect("the simulator's addresses are valid");
    let credential = CredentialSettings::ClientSecret {
        tenant_id: sim.tenant_id().into(),
        client_id: id.into(),
        secret: secret.into(),
    };
    Azure::connect(AzureSettings { cloud, credential, timeouts }).expect("valid settings")
}

impl Stage {
    async fn start() -> Self {
        Self::with(Propagation::instant()).await
    }

    async fn with(propagation: Propagation) -> Self {
        let options = Options { fast_keys: true, propagation, ..Options::default() };
        let sim = Simulator::start(options).await.expect("the simulator starts");
        let azure = connect(&sim, sim.client_id(), sim.client_secret(), Timeouts::default(), true);
        let stage = Self { sim, azure, cx: CallContext::new(Uuid::new_v4()) };
        stage.create_group("rg").await.expect("a resource group");
        stage
    }

    fn outsider(&self) -> Azure {
        let (id, secret) = self.sim.outsider();
        connect(&self.sim, id, secret, Timeouts::default(), true)
    }

    fn subscription(&self) -> Uuid {
        self.sim.subscription_id().parse().expect("a GUID")
    }

    fn id(&self, resource_type: &str, name: &str) -> ArmId {
        ArmId::build(self.subscription(), "rg", resource_type, name).expect("a valid id")
    }

    fn vault_id(&self) -> ArmId {
        self.id(vaults::TYPE, "kv-one")
    }

    async fn create_group(&self, name: &str) -> Result<resource_groups::ResourceGroup, AzureError> {
        let tags = BTreeMap::from([("made-by".to_owned(), "cmk".to_owned())]);
        resource_groups::create(&self.azure.arm, &self.cx, self.subscription(), name, LOCATION, &tags).await
    }

    async fn create_vault(&self, network: Option<NetworkAcls>, public_access: bool) -> Result<Vault, AzureError> {
        let spec = VaultSpec {
            location: LOCATION.into(),
            tenant_id: self.sim.tenant_id().parse().expect("a GUID"),
            sku: VaultSku::Standard,
            retention_days: 7,
            network,
            public_access,
            tags: BTreeMap::new(),
        };
        vaults::create(&self.azure.arm, &self.cx, &self.vault_id(), &spec).await
    }

    async fn grant(&self, principal: PrincipalId, role: Uuid) -> Result<role_assignments::RoleAssignment, AzureError> {
        let (arm, kind) = (&self.azure.arm, PrincipalType::ServicePrincipal);
        role_assignments::create(arm, &self.cx, &self.vault_id(), principal, kind, role, "made by a test").await
    }

    async fn grant_self(&self) {
        let own = self.azure.own_principal(&self.cx).await.expect("a token");
        self.grant(own.id, roles::KEY_VAULT_CRYPTO_OFFICER).await.expect("granted");
    }

    /// A call that this module has no function for, as the service's principal.
    async fn delete(&self, host: &str, path: &str, audience: &str) {
        let token = self.sim.token_for(self.sim.object_id(), audience).expect("a token");
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(self.sim.ca_pem().as_bytes()).expect("a certificate")])
            .resolve(host, self.sim.address())
            .no_proxy()
            .build()
            .expect("a client");
        let url = format!("https://{host}:{}{path}", self.sim.address().port());
        let answer = client.delete(url).bearer_auth(token).send().await.expect("answered");
        assert!(answer.status().is_success(), "{} {path}", answer.status());
    }
}

fn key_spec() -> KeySpec {
    KeySpec {
        kty: KeyType::Rsa,
        size_bits: Some(2048),
        curve: None,
        operations: vec![KeyOperation::WrapKey, KeyOperation::UnwrapKey],
        expires: None,
        not_before: None,
        tags: BTreeMap::from([("cmk-job".to_owned(), "j-1".to_owned())]),
    }
}

#[track_caller]
fn expect_kind<T: std::fmt::Debug>(result: Result<T, AzureError>, kind: AzureErrorKind) -> AzureError {
    let error = result.expect_err("an error");
    assert_eq!(error.kind, kind, "{error:?}");
    error
}

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
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len(), "{ids:?}");
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
    let accepted = resources::put(arm, cx, &id, STORAGE_API, &body).await.expect("accepted");
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
    let operation = resources::put(arm, cx, &id, STORAGE_API, &body).await.expect("accepted").operation.expect("one");
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
    expect_kind(resources::put(arm, cx, &id, STORAGE_API, &body).await, AzureErrorKind::KeyVaultAccess);
}

#[tokio::test]
async fn refusals_keep_their_kind() {
    let stage = Stage::start().await;
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    let outsider = stage.outsider();
    let refused = vaults::get(&outsider.arm, &stage.cx, &stage.vault_id()).await;
    let error = expect_kind(refused, AzureErrorKind::Forbidden);
    assert_eq!(error.code.as_deref(), Some("AuthorizationFailed"));
    expect_kind(outsider.keys.get(&stage.cx, &uri, "k", None).await, AzureErrorKind::Forbidden);

    let wrong = connect(&stage.sim, stage.sim.client_id(), "not-the-secret", Timeouts::default(), true);
    let error = expect_kind(wrong.own_principal(&stage.cx).await, AzureErrorKind::Authentication);
    assert_eq!(error.code.as_deref(), Some("AADSTS7000215"), "{error:?}");
    assert!(!format!("{error:?}").contains("not-the-secret"));
    expect_kind(vaults::get(&wrong.arm, &stage.cx, &stage.vault_id()).await, AzureErrorKind::Authentication);
    expect_kind(wrong.keys.get(&stage.cx, &uri, "k", None).await, AzureErrorKind::Authentication);
}

#[tokio::test]
async fn a_closed_vault_says_how_it_is_closed() {
    let stage = Stage::start().await;
    let closed = NetworkAcls { default_allow: false, bypass_trusted: true, ip_rules: Vec::new(), subnets: Vec::new() };
    let uri = stage.create_vault(Some(closed), true).await.expect("created").uri;
    stage.grant_self().await;
    expect_kind(stage.azure.keys.get(&stage.cx, &uri, "k", None).await, AzureErrorKind::FirewallClosed);
    let private = json!({"properties": {"publicNetworkAccess": "Disabled"}});
    let id = stage.vault_id();
    stage.azure.arm.patch(&stage.cx, id.as_str(), vaults::API_VERSION, &private).await.expect("changed");
    let error = stage.azure.keys.get(&stage.cx, &uri, "k", None).await;
    expect_kind(error, AzureErrorKind::ConnectionRefusedByNetwork);
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

#[tokio::test]
async fn faults_of_the_cloud_are_told_apart_and_nothing_is_repeated() {
    let stage = Stage::start().await;
    let faults = stage.sim.faults();
    for (action, kind, retry_after, happened) in [
        (throttled(17), AzureErrorKind::Throttled, Some(Duration::from_secs(17)), false),
        (throttled(99_999), AzureErrorKind::Throttled, Some(Duration::from_secs(600)), false),
        (status(500, "InternalServerError"), AzureErrorKind::Transient, None, false),
        (status(409, "AnotherOperationInProgress"), AzureErrorKind::Busy, None, false),
        (status(403, "RequestDisallowedByPolicy"), AzureErrorKind::PolicyDenied, None, false),
        (Action::CutBefore, AzureErrorKind::UnknownOutcome, None, false),
        (Action::CutAfter, AzureErrorKind::UnknownOutcome, None, true),
    ] {
        let name = format!("rg-{}", Uuid::new_v4());
        let rule = faults.add(Rule::always("PUT", &format!("*/{name}"), action.clone())).expect("a rule");
        let error = expect_kind(stage.create_group(&name).await, kind);
        assert_eq!(error.retry_after, retry_after, "{action:?}");
        assert_eq!(faults.fired(&rule), 1, "{action:?}");
        let group = resource_groups::get(&stage.azure.arm, &stage.cx, stage.subscription(), &name).await;
        assert_eq!(group.expect("answered").is_some(), happened, "{action:?}");
    }
}

#[tokio::test]
async fn a_throttled_or_cut_store_is_told_apart() {
    let stage = Stage::start().await;
    let uri = stage.create_vault(None, true).await.expect("created").uri;
    stage.grant_self().await;
    let (keys, cx) = (&stage.azure.keys, &stage.cx);
    keys.get(cx, &uri, "k", None).await.expect("answered");
    let rule = |action| stage.sim.faults().add(Rule::once("POST", "/keys/k/create", action)).expect("a rule");
    rule(throttled(5));
    let error = expect_kind(keys.create(cx, &uri, "k", &key_spec()).await, AzureErrorKind::Throttled);
    assert_eq!(error.retry_after, Some(Duration::from_secs(5)));
    rule(Action::CutAfter);
    expect_kind(keys.create(cx, &uri, "k", &key_spec()).await, AzureErrorKind::UnknownOutcome);
    assert!(keys.get(cx, &uri, "k", None).await.is_ok_and(|key| key.is_some()));
    // The Key Vault's name does not resolve yet, or any more.
    let absent = format!("https://kv-none.{}", stage.sim.vault_suffix());
    expect_kind(keys.get(cx, &absent, "k", None).await, AzureErrorKind::NotSent);
}

#[tokio::test]
async fn a_slow_answer_ends_within_the_call_time_out() {
    let stage = Stage::start().await;
    let timeouts = Timeouts { call: Duration::from_millis(700), ..Timeouts::default() };
    let hasty = connect(&stage.sim, stage.sim.client_id(), stage.sim.client_secret(), timeouts, true);
    hasty.own_principal(&stage.cx).await.expect("a token");
    let delay = Action::Delay { millis: 20_000 };
    stage.sim.faults().add(Rule::always("GET", "*/resourcegroups/rg", delay)).expect("a rule");
    let slow = resource_groups::get(&hasty.arm, &stage.cx, stage.subscription(), "rg").await;
    expect_kind(slow, AzureErrorKind::UnknownOutcome);
}

#[tokio::test]
async fn an_outage_of_the_login_host_is_transient() {
    let stage = Stage::start().await;
    stage.sim.faults().add(Rule::once("POST", "*/token", status(503, "temporarily_unavailable"))).expect("a rule");
    let fresh = connect(&stage.sim, stage.sim.client_id(), stage.sim.client_secret(), Timeouts::default(), true);
    let error = resource_groups::get(&fresh.arm, &stage.cx, stage.subscription(), "rg").await;
    assert!(expect_kind(error, AzureErrorKind::Transient).is_transient());
    assert!(resource_groups::get(&fresh.arm, &stage.cx, stage.subscription(), "rg").await.is_ok());
}

#[tokio::test]
async fn no_token_leaves_the_cloud() {
    let stage = Stage::start().await;
    let before = stage.sim.journal().last_seq();
    let port = stage.sim.address().port();
    for url in [format!("https://login.localhost:{port}/o"), "https://evil.example/o".into(), "nonsense".into()] {
        let polled = stage.azure.arm.poll(&stage.cx, &Operation { url }).await;
        expect_kind(polled, AzureErrorKind::UntrustedUrl);
    }
    let foreign = format!("https://kv-one.evil.localhost:{port}");
    expect_kind(stage.azure.keys.get(&stage.cx, &foreign, "k", None).await, AzureErrorKind::UntrustedUrl);
    assert_eq!(stage.sim.journal().last_seq(), before);

    // Without the simulator's certificate authority nothing is said at all, not even a secret.
    let distrustful = connect(&stage.sim, stage.sim.client_id(), stage.sim.client_secret(), Timeouts::default(), false);
    expect_kind(distrustful.own_principal(&stage.cx).await, AzureErrorKind::NotSent);
    assert_eq!(stage.sim.journal().last_seq(), before);
}
