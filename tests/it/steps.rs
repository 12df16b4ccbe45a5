//! Whole plans against the simulator: what they make, what they refuse, how long they wait and what they leave alone.

pub mod world;

use std::time::Duration;

use azure_sim::{Filter, Lag, Propagation, Rule, faults};
use cmk::domain::codes::Code;
use serde_json::{Value, json};

use world::World;

/// Everything is created.
pub fn new_account(world: &World) -> Value {
    json!({
        "target": {"resourceId": world.account(), "create": {"location": "uksouth"}},
        "keyStore": {"resourceId": world.vault(), "create": {"location": "uksouth",
            "network": {"allowedIps": ["203.0.113.0/24"]}}},
        "key": {"name": "k", "rotation": {"every": "P1Y"}},
        "identity": {"kind": "userAssigned", "resourceId": world.identity(), "create": {}},
        "createResourceGroups": true,
    })
}

/// The account exists, the rest is created.
fn existing_account(world: &World) -> Value {
    let mut request = new_account(world);
    request["target"] = json!({ "resourceId": world.account() });
    request
}

/// The account and the vault exist.
fn existing_vault(world: &World) -> Value {
    let mut request = existing_account(world);
    request["keyStore"] = json!({ "resourceId": world.vault() });
    request
}

#[tokio::test]
async fn a_new_account_is_created_with_its_key_and_a_second_run_changes_nothing() {
    let world = World::new(Propagation::default()).await;
    let ran = world.run(&new_account(&world)).await.must_succeed();
    assert_eq!(
        ran.changed,
        [
            "ensure-resource-groups",
            "ensure-key-store",
            "ensure-identity",
            "grant-own-access",
            "grant-identity-access",
            "ensure-key",
            "configure-service"
        ]
    );
    let account = world.read_account().await;
    let key = &account["properties"]["encryption"]["keyvaultproperties"];
    assert_eq!(key["keyname"], "k");
    assert_eq!(key["keyversion"].as_str().unwrap_or_default(), "");
    let evidence = ran.facts.evidence.clone().expect("verify leaves evidence");
    assert_eq!(Some(evidence.key_id.as_str()), key["currentVersionedKeyIdentifier"].as_str());
    assert!(evidence.follows_rotation && evidence.identity.eq_ignore_ascii_case(&world.identity()));
    assert_eq!(evidence.azure_request_ids.len(), 3, "{evidence:?}");
    assert!(ran.facts.target.as_ref().is_some_and(|t| !t.existed));
    assert!(ran.facts.key_store.as_ref().is_some_and(|s| s.created));
    assert!(ran.facts.key.as_ref().is_some_and(|k| k.created));
    let vault = world.read_vault().await["properties"].clone();
    assert_eq!(vault["networkAcls"]["defaultAction"], "Deny");
    assert_eq!((&vault["enablePurgeProtection"], &vault["enableRbacAuthorization"]), (&json!(true), &json!(true)));

    let before = world.sim.journal().last_seq();
    let again = world.run(&new_account(&world)).await.must_succeed();
    assert_eq!(again.changed, Vec::<String>::new());
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
    assert!(again.facts.key.is_some_and(|k| !k.created), "the second job made no key");
    assert_eq!(again.facts.evidence.map(|e| e.key_id), Some(evidence.key_id));
}

#[tokio::test]
async fn an_existing_account_is_changed_in_place_and_keeps_its_identities() {
    let world = World::instant().await;
    world.make_group().await;
    world.make_account().await;
    let body = json!({"identity": {"type": "SystemAssigned"}});
    assert_eq!(world.arm("PATCH", &world.account(), "2026-04-01", body).await.0, 200);

    let ran = world.run(&existing_account(&world)).await.must_succeed();
    assert!(ran.changed.contains(&"attach-identity".to_owned()));
    assert!(ran.facts.target.is_some_and(|t| t.existed));
    let account = world.read_account().await;
    assert!(account["identity"]["type"].as_str().is_some_and(|t| t.contains("SystemAssigned")), "{account}");
    let users = account["identity"]["userAssignedIdentities"].as_object().expect("a map");
    assert_eq!(users.len(), 1, "{users:?}");

    let before = world.sim.journal().last_seq();
    assert_eq!(world.run(&existing_account(&world)).await.must_succeed().changed, Vec::<String>::new());
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
}

#[tokio::test]
async fn the_accounts_own_identity_can_be_used_for_the_key_and_pinned_too() {
    let world = World::new(Propagation::default()).await;
    world.make_group().await;
    world.make_account().await;
    let mut request = existing_account(&world);
    request["identity"] = json!({"kind": "systemAssigned"});
    request["key"]["version"] = json!("pinned");
    let ran = world.run(&request).await.must_succeed();
    let evidence = ran.facts.evidence.expect("verify leaves evidence");
    assert_eq!((evidence.identity.as_str(), evidence.follows_rotation), ("systemAssigned", false));
    let account = world.read_account().await;
    let principal = ran.facts.identity.expect("the identity was learned").principal_id.to_string();
    assert_eq!(account["identity"]["principalId"], json!(principal));
    let before = world.sim.journal().last_seq();
    assert_eq!(world.run(&request).await.must_succeed().changed, Vec::<String>::new());
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
}

#[tokio::test]
async fn changing_from_pinned_to_latest_and_back_is_a_change_in_place() {
    let world = World::instant().await;
    world.run(&new_account(&world)).await.must_succeed();
    let mut pinned = new_account(&world);
    pinned["key"]["version"] = json!("pinned");
    for (request, follows) in [(&pinned, false), (&new_account(&world), true)] {
        let ran = world.run(request).await.must_succeed();
        assert_eq!(ran.changed, ["configure-service"]);
        assert_eq!(ran.facts.evidence.map(|e| e.follows_rotation), Some(follows));
    }
    assert_eq!(world.keys_created(), 1);
}

#[tokio::test]
async fn a_target_must_exist_or_not_as_the_request_says() {
    let world = World::instant().await;
    world.make_group().await;
    let ran = world.run(&existing_account(&world)).await;
    ran.must_fail("check-target", Code::TargetNotFound);
    world.make_account().await;
    let before = world.sim.journal().last_seq();
    world.run(&new_account(&world)).await.must_fail("check-target", Code::TargetExists);
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_missing_and_may_not_be_created_is_told() {
    let world = World::instant().await;
    let mut request = new_account(&world);
    request["createResourceGroups"] = json!(false);
    world.run(&request).await.must_fail("ensure-resource-groups", Code::ResourceGroupNotFound);
    world.make_group().await;
    world.make_account().await;
    world.run(&existing_vault(&world)).await.must_fail("ensure-key-store", Code::KeyStoreNotFound);
    let mut request = existing_account(&world);
    request["identity"] = json!({"kind": "userAssigned", "resourceId": world.identity()});
    world.run(&request).await.must_fail("ensure-identity", Code::IdentityNotFound);
}

#[tokio::test]
async fn purge_protection_of_an_existing_vault_is_turned_on_only_when_acknowledged() {
    let world = World::instant().await;
    world.make_group().await;
    world.make_account().await;
    world.make_vault(json!({})).await;
    let before = world.sim.journal().last_seq();
    let mut request = existing_vault(&world);
    world.run(&request).await.must_fail("ensure-key-store", Code::KeyStoreUnprotected);
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
    request["acknowledge"] = json!(["enable-purge-protection"]);
    let ran = world.run(&request).await.must_succeed();
    assert!(ran.changed.contains(&"ensure-key-store".to_owned()));
    assert!(ran.facts.key_store.is_some_and(|s| !s.created));
    assert_eq!(world.read_vault().await["properties"]["enablePurgeProtection"], true);
}

#[tokio::test]
async fn a_vault_with_access_policies_or_a_closed_firewall_is_refused_before_any_change() {
    for (properties, code) in [
        (json!({"enableRbacAuthorization": false, "enablePurgeProtection": true}), Code::KeyStoreAccessPolicies),
        (json!({"networkAcls": {"bypass": "None", "defaultAction": "Deny"}}), Code::KeyStoreClosed),
    ] {
        let world = World::instant().await;
        world.make_group().await;
        world.make_account().await;
        world.make_vault(properties).await;
        let before = world.sim.journal().last_seq();
        let mut request = existing_vault(&world);
        request["acknowledge"] = json!(["enable-purge-protection"]);
        world.run(&request).await.must_fail("ensure-key-store", code);
        assert_eq!(world.mutations_after(before), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_deleted_vault_fails_the_job_or_is_brought_back_as_asked() {
    let world = World::instant().await;
    world.run(&new_account(&world)).await.must_succeed();
    assert_eq!(world.arm("DELETE", &world.account(), "2026-04-01", Value::Null).await.0, 200);
    assert_eq!(world.arm("DELETE", &world.vault(), "2026-02-01", Value::Null).await.0, 200);
    let mut request = new_account(&world);
    let before = world.sim.journal().last_seq();
    world.run(&request).await.must_fail("ensure-key-store", Code::KeyStoreSoftDeleted);
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
    request["keyStore"]["onDeletedName"] = json!("recover");
    let ran = world.run(&request).await.must_succeed();
    assert!(ran.changed.contains(&"grant-identity-access".to_owned()), "grants do not come back: {:?}", ran.changed);
    assert!(!ran.changed.contains(&"ensure-key".to_owned()), "the key does: {:?}", ran.changed);
    assert_eq!(world.keys_created(), 1);
}

#[tokio::test]
async fn a_deleted_vault_that_may_not_be_looked_for_is_found_by_its_refusal() {
    let world = World::instant().await;
    world.run(&new_account(&world)).await.must_succeed();
    world.arm("DELETE", &world.account(), "2026-04-01", Value::Null).await;
    world.arm("DELETE", &world.vault(), "2026-02-01", Value::Null).await;
    let forbidden = faults::status(403, "AuthorizationFailed");
    world.sim.faults().add(Rule::always("GET", "*/deletedVaults/kv-1", forbidden));
    let mut request = new_account(&world);
    world.run(&request).await.must_fail("ensure-key-store", Code::KeyStoreSoftDeleted);
    request["keyStore"]["onDeletedName"] = json!("recover");
    world.run(&request).await.must_succeed();
}

#[tokio::test]
async fn a_key_that_exists_is_used_if_it_fits_and_never_gets_a_second_version() {
    for (size, fits) in [(4096, true), (2048, false)] {
        let world = World::instant().await;
        world.make_group().await;
        world.make_account().await;
        world.make_vault(json!({"enablePurgeProtection": true})).await;
        let role = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603";
        let definition = format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            world.sim.subscription_id()
        );
        let path =
            format!("{}/providers/Microsoft.Authorization/roleAssignments/{}", world.vault(), uuid::Uuid::now_v7());
        let body = json!({"properties": {"roleDefinitionId": definition, "principalId": world.sim.object_id(),
            "principalType": "ServicePrincipal"}});
        world.put(&path, "2022-04-01", body).await;
        let url = format!("https://kv-1.{}/keys/k/create?api-version=7.4", world.sim.vault_suffix());
        let body = json!({"kty": "RSA", "key_size": size});
        let (status, answer) = world.call("POST", &url, "https://vault.azure.net", body).await;
        assert_eq!(status, 200, "{answer}");

        let ran = world.run(&existing_vault(&world)).await;
        if fits {
            let ran = ran.must_succeed();
            assert!(ran.facts.key.is_some_and(|k| !k.created));
            assert!(!ran.changed.contains(&"grant-own-access".to_owned()), "an equal grant is adopted");
            assert_eq!(ran.facts.evidence.map(|e| e.key_id), answer["key"]["kid"].as_str().map(str::to_owned));
        } else {
            ran.must_fail("ensure-key", Code::KeyMismatch);
        }
        assert_eq!(world.keys_created(), 1);
    }
}

#[tokio::test]
async fn a_wait_for_access_ends_soon_after_access_arrives() {
    for seconds in [0, 5, 45, 130] {
        let lag = Duration::from_secs(seconds);
        let grant = if seconds == 0 { Lag::None } else { Lag::seconds(lag.as_secs_f64()) };
        let world = World::new(Propagation { grant, ..Propagation::instant() }).await;
        let ran = world.run(&new_account(&world)).await.must_succeed();
        assert_eq!(ran.waited_for("await-key-store-access", "access-propagation"), seconds > 0, "{seconds}");
        // Beside the lag: the operation that creates the account, and five percent for each of two waits.
        let most = lag.mul_f64(1.1) + Duration::from_secs(8);
        assert!(ran.took >= lag && ran.took <= most, "{seconds}: {:?} {:?}", ran.took, ran.waits);
        assert!(ran.waits.len() < 120, "{seconds}: {} looks", ran.waits.len());
    }
}

#[tokio::test]
async fn access_that_never_arrives_ends_in_its_own_failure_at_the_timeout() {
    let world = World::new(Propagation { grant: Lag::Never, ..Propagation::instant() }).await;
    let mut request = new_account(&world);
    request["accessTimeout"] = json!("PT5M");
    let ran = world.run(&request).await;
    ran.must_fail("await-key-store-access", Code::AccessTimeout);
    assert!(ran.took >= Duration::from_secs(300) && ran.took < Duration::from_secs(305), "{:?}", ran.took);
    let failure = ran.failed.map(|(_, failure)| failure).expect("it failed");
    assert!(failure.message.contains("kv-1"), "{failure}");
    assert_eq!(failure.azure.and_then(|a| a.status), Some(403));
}

#[tokio::test]
async fn a_store_whose_firewall_keeps_the_worker_out_is_told_soon_enough() {
    // The job's own vault: its rules may take a while. Somebody else's: they will not change.
    let world = World::instant().await;
    let mut request = new_account(&world);
    request["keyStore"]["create"]["network"]["allowedIps"] = json!(["198.51.100.0/24"]);
    let ran = world.run(&request).await;
    ran.must_fail("await-key-store-access", Code::KeyStoreUnreachable);
    assert!(ran.took >= Duration::from_secs(300) && ran.took < Duration::from_secs(310), "{:?}", ran.took);

    let world = World::instant().await;
    world.make_group().await;
    world.make_account().await;
    let acls = json!({"bypass": "AzureServices", "defaultAction": "Deny"});
    world.make_vault(json!({"enablePurgeProtection": true, "networkAcls": acls})).await;
    let ran = world.run(&existing_vault(&world)).await;
    ran.must_fail("await-key-store-access", Code::KeyStoreUnreachable);
    assert!(ran.took >= Duration::from_secs(60) && ran.took < Duration::from_secs(65), "{:?}", ran.took);
}

#[tokio::test]
async fn everything_that_azure_shows_late_is_waited_for() {
    let late = Propagation {
        grant: Lag::seconds(20.0),
        grant_read: Lag::seconds(10.0),
        principal: Lag::seconds(30.0),
        firewall: Lag::seconds(40.0),
        dns: Lag::seconds(15.0),
        arm_read: Lag::seconds(12.0),
        ..Propagation::instant()
    };
    let world = World::new(late).await;
    let ran = world.run(&new_account(&world)).await.must_succeed();
    assert_eq!(world.keys_created(), 1, "{:?}", ran.waits);
    let before = world.sim.journal().last_seq();
    assert_eq!(world.run(&new_account(&world)).await.must_succeed().changed, Vec::<String>::new());
    assert_eq!(world.mutations_after(before), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_whose_creation_was_cut_off_is_found_again_and_not_made_twice() {
    let world = World::instant().await;
    world.sim.faults().add(Rule::once("POST", "/keys/k/create", faults::Action::CutAfter));
    let ran = world.run(&new_account(&world)).await.must_succeed();
    assert!(ran.waited_for("ensure-key", "retry"), "{:?}", ran.waits);
    assert_eq!(world.keys_created(), 1);
    assert!(ran.facts.key.is_some_and(|k| k.created), "its tag names the job");
}

#[tokio::test]
async fn an_operation_that_fails_because_of_the_key_is_started_again_and_others_are_not() {
    let world = World::instant().await;
    let lro_fail = |code: &str| faults::Action::LroFail { code: code.to_owned(), message: "refused".into() };
    world.sim.faults().add(Rule::once("PUT", "*/storageAccounts/*", lro_fail("KeyVaultAuthenticationFailure")));
    let ran = world.run(&new_account(&world)).await.must_succeed();
    assert!(ran.waited_for("configure-service", "access-propagation"), "{:?}", ran.waits);

    let world = World::instant().await;
    world.sim.faults().add(Rule::once("PUT", "*/storageAccounts/*", lro_fail("SkuNotAvailable")));
    let ran = world.run(&new_account(&world)).await;
    ran.must_fail("configure-service", Code::OperationFailed);
    let puts = world.sim.journal().count(&Filter::on("PUT", "*/storageAccounts/*"));
    assert_eq!(puts, 1, "a failed operation is not repeated blindly");
    assert_eq!(ran.failed.and_then(|(_, f)| f.azure?.code).as_deref(), Some("SkuNotAvailable"));
}

#[tokio::test]
async fn a_job_that_is_tried_again_after_its_target_was_created_goes_on() {
    let world = World::instant().await;
    let ran = world.run(&new_account(&world)).await.must_succeed();
    // The same facts again: what a job knows whose worker died before the end was recorded.
    let again = world.run_from(&new_account(&world), ran.facts).await.must_succeed();
    assert_eq!(again.changed, Vec::<String>::new());
    assert!(again.facts.target.is_some_and(|t| !t.existed), "the job still knows that it created the target");
}
