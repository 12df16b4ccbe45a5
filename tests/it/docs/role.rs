//! The custom role of docs/operations.md: with it and nothing more, both seed runs succeed, and none of its actions is
//! left over. `services` runs every way of every service with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use azure_sim::Filter;
use cmk::azure::{Azure, CredentialSettings};
use cmk::domain::job::JobState;
use cmk::engine::{Worker, WorkerSettings};
use cmk::plan::plan;
use cmk::services::{
    ALL, CRYPTO_OFFICER, CRYPTO_SERVICE_ENCRYPTION_USER, CRYPTO_USER, IdentityOn, ServiceDescriptor, of_hsm, rules,
};
use cmk::store::notify::NewsHub;
use cmk::survey::Surveyor;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::pages::{self, hold, table};
use crate::support::world::{World, azure_settings, parse};

/// The simulator's principal that starts with no right at all.
pub const OUTSIDER: &str = "66666666-6666-4666-8666-666666666666";

/// Every action, and why.
const REASONS: &[(&str, &str)] = &[
    ("Microsoft.Resources/subscriptions/read", "the tenant that a new vault is to trust"),
    ("Microsoft.Resources/subscriptions/resourceGroups/read", "whether the groups exist; the region of a group"),
    ("Microsoft.Resources/subscriptions/providers/read", "for plans: whether the namespaces are registered"),
    ("Microsoft.Authorization/locks/read", "for plans: locks against writing"),
    (
        "Microsoft.PolicyInsights/checkPolicyRestrictions/read",
        "for plans: which policies would deny the vault or the target",
    ),
    (
        "Microsoft.Resources/subscriptions/resourceGroups/write",
        "making a missing group, with `createResourceGroups`; leave it out if groups are made elsewhere",
    ),
    ("Microsoft.KeyVault/vaults/read", "looking at the vault before and after every change"),
    ("Microsoft.KeyVault/vaults/write", "creating it, recovering it, turning on purge protection"),
    ("Microsoft.KeyVault/managedHSMs/read", "looking at a Managed HSM; its local roles and keys are not Azure RBAC's"),
    ("Microsoft.KeyVault/managedHSMs/write", "turning on purge protection of a Managed HSM, where it is acknowledged"),
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

/// The actions on the services of the catalogue: looking and writing, at the target, at what it lies in where that holds the
/// identity, and below it where the key is set there.
fn of_services() -> BTreeSet<String> {
    let mut types: BTreeSet<String> = BTreeSet::new();
    for service in ALL.iter() {
        types.insert(service.arm_type.clone());
        if service.identity_on == IdentityOn::Parent {
            types.extend(service.arm_type.rsplit_once('/').map(|(parent, _)| parent.to_owned()));
        }
        for below in service.configure.iter().map(|w| w.at.as_str()).filter(|at| !at.is_empty()) {
            let kind = below.split('/').nth(1).expect("a type and a name");
            types.insert(format!("{}/{kind}", service.arm_type));
        }
    }
    let mut actions: BTreeSet<String> =
        types.iter().flat_map(|t| [format!("{t}/read"), format!("{t}/write")]).collect();
    // What has to be empty is looked into, and nothing there is written.
    for service in ALL.iter() {
        actions.extend(service.empty_of.iter().map(|below| format!("{}/{below}/read", service.arm_type)));
    }
    actions
}

/// Everything that the role has to hold.
fn wanted() -> BTreeSet<String> {
    REASONS.iter().map(|(action, _)| (*action).to_owned()).chain(of_services()).collect()
}

/// Holds what jobs of the whole matrix asked for against the role: nothing is missing, and nothing of a service is unused.
pub fn check_asked(asked: &BTreeSet<String>) {
    let have = actions(&role());
    let missing: Vec<_> = asked.difference(&have).collect();
    assert!(missing.is_empty(), "deploy/azure/custom-role.json lacks {missing:?}");
    let services = of_services();
    let unused: Vec<_> = services.difference(asked).collect();
    assert!(unused.is_empty(), "deploy/azure/custom-role.json has what no job asked for: {unused:?}");
}

fn role() -> Value {
    serde_json::from_str(&pages::read("deploy/azure/custom-role.json")).expect("the role is JSON")
}

fn actions(role: &Value) -> BTreeSet<String> {
    let list = role["Actions"].as_array().expect("a list of actions");
    list.iter().map(|action| action.as_str().expect("an action is text").to_owned()).collect()
}

/// The action that Azure asks for; none for the address of a long-running operation.
pub fn action_of(method: &str, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let provider = parts.iter().rposition(|part| *part == "providers");
    let (namespace, rest) = match provider {
        Some(at) => (parts[at + 1], &parts[at + 2..]),
        None => ("Microsoft.Resources", &parts[..]),
    };
    let types: Vec<&str> = rest.iter().step_by(2).copied().collect();
    // A namespace alone is the subscription's registration for it.
    if provider.is_some() && rest.is_empty() {
        return Some("Microsoft.Resources/subscriptions/providers/read".to_owned());
    }
    if types.last().is_some_and(|last| last.to_ascii_lowercase().contains("operation")) {
        return None;
    }
    let verb = match method {
        "GET" => "read",
        // A question with a body.
        "POST" if types.last() == Some(&"checkPolicyRestrictions") => "read",
        "PUT" | "PATCH" => "write",
        other => panic!("the service sent {other} {path}"),
    };
    Some(format!("{namespace}/{}/{verb}", types.join("/")))
}

/// Clients that sign in as the principal that holds the custom role only.
pub async fn confined(world: &World) -> Arc<Azure> {
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
    Arc::new(Azure::connect_with_clock(settings, world.clock.clone()).expect("the settings are complete"))
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
    let azure = confined(&world).await;
    let request = parse(&body);
    let (descriptor, _) = rules::check(&request);
    let plan = plan(&request, descriptor.expect("a service takes it"));
    let surveyor = Surveyor::new(Arc::clone(&azure), world.clock.clone());
    let survey = surveyor.survey(&request, &plan).await.expect("it is the only one");
    assert_eq!((&survey.blockers[..], &survey.unread[..]), (&[][..], &[][..]), "the role is enough to look");
    let worker = Worker::new(world.store.clone(), azure, NewsHub::new(), WorkerSettings::named("confined"));
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
    let reasons: BTreeSet<_> = REASONS.iter().map(|(action, _)| (*action).to_owned()).collect();
    let fixed: BTreeSet<_> = reasons.iter().filter(|a| !a.contains("managedHSMs")).cloned().collect();
    assert_eq!(fixed, seen, "the fixed part of deploy/azure/custom-role.json and what the two seed runs asked for");
}

#[test]
fn the_custom_role_is_the_fixed_part_and_the_catalogue() {
    let mut role = role();
    if actions(&role) != wanted() && pages::updating() {
        role["Actions"] = wanted().into_iter().collect();
        let text = serde_json::to_string_pretty(&role).expect("a role is JSON") + "\n";
        pages::rewrite("deploy/azure/custom-role.json", |_| text);
    }
    assert_eq!(actions(&role), wanted(), "UPDATE_GOLDEN=1 rewrites deploy/azure/custom-role.json");
}

#[test]
fn the_page_of_permissions_is_the_catalogue() {
    let row = |d: &ServiceDescriptor| {
        let roles = if d.managed_hsm {
            format!("{}; {}", d.vault_role.name, of_hsm(&d.vault_role).name)
        } else {
            d.vault_role.name.to_string()
        };
        let below = d.empty_of.iter().map(|kind| format!(", `{}/{kind}/read`", d.arm_type));
        let actions = format!("`{0}/read`, `{0}/write`{1}", d.arm_type, below.collect::<String>());
        [format!("`{}`", d.slug), actions, roles]
    };
    let head = ["service", "the worker's actions", "its identity's role on the vault; on a Managed HSM"];
    hold("docs/azure-permissions.md", "services", &table(head, ALL.iter().map(row)));
    let rows = REASONS.iter().map(|(action, why)| [format!("`{action}`"), (*why).to_owned()]);
    hold("docs/azure-permissions.md", "actions", &table(["action", "why"], rows));
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
    assert!(explained.keys().all(|action| actions(&role()).contains(*action)));
    let rows = REASONS.iter().map(|(action, why)| [format!("`{action}`"), (*why).to_owned()]);
    hold("docs/operations.md", "actions", &table(["action", "why"], rows));
    let page = pages::read("docs/operations.md");
    let condition = format!("{{{}, {}, {}}}", CRYPTO_OFFICER.id, CRYPTO_SERVICE_ENCRYPTION_USER.id, CRYPTO_USER.id);
    assert!(page.contains(&condition), "the condition does not name {condition}");
}
