//! The custom role of docs/operations.md: with it and nothing more, both seed runs succeed, and none of its actions is
//! left over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use azure_sim::Filter;
use cmk::azure::{Azure, CredentialSettings};
use cmk::domain::job::JobState;
use cmk::engine::{Worker, WorkerSettings};
use cmk::services::{CRYPTO_OFFICER, CRYPTO_SERVICE_ENCRYPTION_USER};
use cmk::store::notify::NewsHub;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::pages::{self, hold, table};
use crate::support::world::{World, azure_settings};

/// The simulator's principal that starts with no right at all.
const OUTSIDER: &str = "66666666-6666-4666-8666-666666666666";

/// Every action, and why.
const REASONS: &[(&str, &str)] = &[
    ("Microsoft.Resources/subscriptions/read", "the tenant that a new vault is to trust"),
    ("Microsoft.Resources/subscriptions/resourceGroups/read", "whether the groups exist; the region of a group"),
    (
        "Microsoft.Resources/subscriptions/resourceGroups/write",
        "making a missing group, with `createResourceGroups`; leave it out if groups are made elsewhere",
    ),
    ("Microsoft.KeyVault/vaults/read", "looking at the vault before and after every change"),
    ("Microsoft.KeyVault/vaults/write", "creating it, recovering it, turning on purge protection"),
    ("Microsoft.KeyVault/locations/deletedVaults/read", "whether a deleted vault holds the name"),
    ("Microsoft.ManagedIdentity/userAssignedIdentities/read", "the identity's principal and client id"),
    ("Microsoft.ManagedIdentity/userAssignedIdentities/write", "creating it, with `identity.create`"),
    (
        "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
        "attaching it to the target; Azure asks for it when the target is written",
    ),
    ("Microsoft.Authorization/roleAssignments/read", "whether the grants are there"),
    (
        "Microsoft.Authorization/roleAssignments/write",
        "making the two grants on the vault; narrowed by the condition below",
    ),
    ("Microsoft.Storage/storageAccounts/read", "looking at the account, and the proof"),
    (
        "Microsoft.Storage/storageAccounts/write",
        "creating it with the key, or setting the key; the account's keys are never listed",
    ),
];

fn role() -> Value {
    serde_json::from_str(&pages::read("deploy/azure/custom-role.json")).expect("the role is JSON")
}

fn actions(role: &Value) -> BTreeSet<String> {
    let list = role["Actions"].as_array().expect("a list of actions");
    list.iter().map(|action| action.as_str().expect("an action is text").to_owned()).collect()
}

/// The action that Azure asks for; none for the address of a long-running operation.
fn action_of(method: &str, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let provider = parts.iter().rposition(|part| *part == "providers");
    let (namespace, rest) = match provider {
        Some(at) => (parts[at + 1], &parts[at + 2..]),
        None => ("Microsoft.Resources", &parts[..]),
    };
    let types: Vec<&str> = rest.iter().step_by(2).copied().collect();
    if types.last().is_some_and(|last| *last == "asyncoperations") {
        return None;
    }
    let verb = match method {
        "GET" => "read",
        "PUT" | "PATCH" => "write",
        other => panic!("the service sent {other} {path}"),
    };
    Some(format!("{namespace}/{}/{verb}", types.join("/")))
}

/// A worker of the world that signs in as the principal that holds the custom role only.
async fn confined(world: &World) -> Worker {
    let subscription = format!("/subscriptions/{}", world.sim.subscription_id());
    let (definition, role) = (Uuid::new_v4(), role());
    let authorization = format!("{subscription}/providers/Microsoft.Authorization");
    let permission = json!({ "actions": role["Actions"], "notActions": role["NotActions"], "dataActions": role["DataActions"], "notDataActions": role["NotDataActions"] });
    let body = json!({ "properties": {
        "roleName": role["Name"], "description": role["Description"], "type": "CustomRole",
        "permissions": [permission], "assignableScopes": [subscription],
    } });
    world.put(&format!("{authorization}/roleDefinitions/{definition}"), "2022-04-01", &body).await;
    let body = json!({ "properties": {
        "roleDefinitionId": format!("{authorization}/roleDefinitions/{definition}"),
        "principalId": OUTSIDER, "principalType": "ServicePrincipal",
    } });
    world.put(&format!("{authorization}/roleAssignments/{}", Uuid::new_v4()), "2022-04-01", &body).await;

    let mut settings = azure_settings(&world.sim);
    let (id, secret) = world.sim.outsider();
    settings.credential = CredentialSettings::ClientSecret {
        tenant_id: world.sim.tenant_id().to_owned(),
        client_id: id.to_owned(),
        secret: secret.to_owned().into(),
    };
    let azure = Arc::new(Azure::connect_with_clock(settings, world.clock.clone()).expect("the settings are complete"));
    Worker::new(world.store.clone(), azure, NewsHub::new(), WorkerSettings::named("confined"))
}

/// The actions that a whole job asks for.
async fn asked(existing: bool) -> BTreeSet<String> {
    let world = World::instant().await;
    let body = if existing {
        world.make_existing_account().await;
        world.seed_for_existing()
    } else {
        world.seed()
    };
    let worker = confined(&world).await;
    let id = world.submit(&body).await;
    let job = world.run_to_end(&worker, id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let filter = Filter { surface: Some("arm".into()), principal: Some(OUTSIDER.into()), ..Filter::default() };
    let mut actions = BTreeSet::new();
    for entry in world.sim.journal().find(&filter) {
        actions.extend(action_of(&entry.method, &entry.path));
        if entry.mutating && entry.path.contains("/Microsoft.Storage/storageAccounts/") {
            actions.insert("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action".to_owned());
        }
    }
    actions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_custom_role_is_enough_and_not_more() {
    let mut seen = asked(false).await;
    seen.extend(asked(true).await);
    assert_eq!(actions(&role()), seen, "deploy/azure/custom-role.json and what the two seed runs asked for");
}

#[test]
fn the_custom_role_has_the_form_that_az_takes() {
    let role = role();
    assert!(role["Name"].as_str().is_some_and(|name| !name.is_empty()) && role["IsCustom"] == json!(true));
    assert!(role["Description"].is_string());
    for member in ["NotActions", "DataActions", "NotDataActions"] {
        assert_eq!(role[member], json!([]), "{member}");
    }
    let scopes = role["AssignableScopes"].as_array().expect("scopes");
    assert!(scopes.iter().all(|scope| scope.as_str().is_some_and(|s| s.starts_with("/subscriptions/"))));
    let actions = actions(&role);
    assert!(actions.iter().all(|action| !action.contains('*') && !action.ends_with("/delete")), "{actions:?}");
}

#[test]
fn every_action_is_explained_and_the_condition_names_the_two_roles() {
    let explained: BTreeMap<&str, &str> = REASONS.iter().copied().collect();
    assert_eq!(explained.keys().map(|action| (*action).to_owned()).collect::<BTreeSet<_>>(), actions(&role()));
    let rows = REASONS.iter().map(|(action, why)| [format!("`{action}`"), (*why).to_owned()]);
    hold("docs/operations.md", "actions", &table(["action", "why"], rows));
    let page = pages::read("docs/operations.md");
    let condition = format!("{{{}, {}}}", CRYPTO_OFFICER.id, CRYPTO_SERVICE_ENCRYPTION_USER.id);
    assert!(page.contains(&condition), "the condition does not name {condition}");
}
