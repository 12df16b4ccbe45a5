//! The key rules of the types in `kinds/tools.rs`, as a client sees them.

use serde_json::{Value, json};

use crate::client::Lab;
use crate::kind_case::{Born, Case, common, done, vault};

const AI: &str = "Microsoft.CognitiveServices/accounts";
const SCOPES: &str = "Microsoft.CognitiveServices/accounts/ai1/encryptionScopes";
const LEARNING: &str = "Microsoft.MachineLearningServices/workspaces";
const SEARCH: &str = "Microsoft.Search/searchServices";
const AUTOMATION: &str = "Microsoft.Automation/automationAccounts";
const LOAD: &str = "Microsoft.LoadTestService/loadTests";
const FLUID: &str = "Microsoft.FluidRelay/fluidRelayServers";
const CENTER: &str = "Microsoft.DevCenter/devcenters";
const EXPERIMENTS: &str = "Microsoft.OnlineExperimentation/workspaces";
const DEVICES: &str = "Microsoft.DeviceUpdate/accounts";
const FACTORY: &str = "Microsoft.ManufacturingPlatform/manufacturingDataServices";
const WORKSPACE: &str = "Microsoft.Discovery/workspaces";
const SHELF: &str = "Microsoft.Discovery/bookshelves";

const SUCCEEDED: (&str, &str) = ("/properties/provisioningState", "Succeeded");
const TOO_LATE: Option<&str> = Some("EncryptionNotSupportedOnExistingResource");
const NO_WAY_BACK: &str = "EncryptionCannotBeDisabled";
const COMMON_URL: &str = "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl";

/// A body with the identity and these properties.
fn body(lab: &Lab, properties: Value) -> Value {
    json!({ "location": "uksouth", "identity": lab.user_identity(), "properties": properties })
}

fn joined(one: &Value, other: &Value) -> Value {
    let mut both = one.as_object().expect("an object").clone();
    both.extend(other.as_object().expect("an object").clone());
    both.into()
}

fn learning(lab: &Lab, kid: &str) -> Born {
    let plain = json!({ "primaryUserAssignedIdentity": lab.identity_id(), "storageAccount": lab.account_id("stml1"),
        "keyVault": lab.vault_id("kvml1"),
        "applicationInsights": lab.resource_id("Microsoft.Insights/components", "ai1") });
    let keys = json!({ "keyVaultArmId": lab.vault_id("kv1"), "keyIdentifier": kid });
    let on = json!({ "enableServiceSideCMKEncryption": true, "encryption": { "status": "Enabled",
        "identity": { "userAssignedIdentity": lab.identity_id() }, "keyVaultProperties": keys } });
    let change = json!({ "properties": { "encryption": { "status": "Enabled", "keyVaultProperties": keys } } });
    Born {
        kind: LEARNING,
        name: "learning1",
        with_key: body(lab, joined(&plain, &on)),
        plain: body(lab, plain),
        late: vec![("PATCH", change.clone(), TOO_LATE)],
        shown: ("/properties/encryption/keyVaultProperties/keyIdentifier", json!(kid)),
        state: SUCCEEDED,
        change: ("PATCH", change),
        back: ("PATCH", json!({ "properties": { "encryption": { "status": "Disabled" } } }), NO_WAY_BACK),
    }
}

fn load_test(lab: &Lab, kid: &str) -> Born {
    let on = json!({ "encryption": { "keyUrl": kid,
        "identity": { "type": "UserAssigned", "resourceId": lab.identity_id() } } });
    Born {
        kind: LOAD,
        name: "load1",
        plain: body(lab, json!({})),
        with_key: body(lab, on.clone()),
        late: vec![("PATCH", json!({ "properties": on }), TOO_LATE)],
        shown: ("/properties/encryption/keyUrl", json!(kid)),
        state: SUCCEEDED,
        change: ("PATCH", json!({ "properties": on })),
        back: ("PUT", body(lab, json!({})), NO_WAY_BACK),
    }
}

fn fluid(lab: &Lab) -> Born {
    let on = json!({ "encryption": common(lab, &lab.key_url("k1"), "UserAssigned") });
    Born {
        kind: FLUID,
        name: "fluid1",
        plain: body(lab, json!({})),
        with_key: body(lab, on.clone()),
        late: vec![("PATCH", json!({ "properties": on }), TOO_LATE)],
        shown: (COMMON_URL, json!(lab.key_url("k1"))),
        state: SUCCEEDED,
        change: ("PATCH", json!({ "properties": on })),
        back: ("PUT", body(lab, json!({})), NO_WAY_BACK),
    }
}

fn devices(lab: &Lab) -> Born {
    let plain = json!({ "sku": "Standard" });
    let on = json!({ "encryption": {
        "keyVaultKeyUri": lab.key_url("k1"), "userAssignedIdentity": lab.identity_id() } });
    let with_key = body(lab, joined(&plain, &on));
    Born {
        kind: DEVICES,
        name: "devices1",
        plain: body(lab, plain.clone()),
        late: vec![
            ("PUT", with_key.clone(), TOO_LATE),
            ("PATCH", json!({ "properties": on, "tags": { "a": "b" } }), None),
        ],
        shown: ("/properties/encryption/keyVaultKeyUri", json!(lab.key_url("k1"))),
        state: SUCCEEDED,
        change: ("PUT", with_key.clone()),
        back: ("PUT", body(lab, plain), NO_WAY_BACK),
        with_key,
    }
}

#[tokio::test]
async fn workspaces_tests_relays_and_device_updates_are_made_with_their_key() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    for case in [learning(&lab, &kid), load_test(&lab, &kid), fluid(&lab), devices(&lab)] {
        case.plays(&lab).await;
    }
    let mut versionless = load_test(&lab, &kid).with_key;
    versionless["properties"]["encryption"]["keyUrl"] = lab.key_url("k1").into();
    lab.arm("PUT", &lab.resource_id(LOAD, "load2"), Some(versionless)).await.refused(400, "InvalidKeyVersion");
    let mut elsewhere = fluid(&lab).with_key;
    elsewhere["location"] = "ukwest".into();
    lab.arm("PUT", &lab.resource_id(FLUID, "fluid2"), Some(elsewhere)).await.refused(400, "KeyVaultRegionMismatch");
}

#[tokio::test]
async fn a_learning_workspace_stays_in_its_vault() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let id = lab.resource_id(LEARNING, "learning1");
    done(&lab, &lab.arm("PUT", &id, Some(learning(&lab, &kid).with_key)).await.expect(201)).await;
    let moved = kid.replace("kv1", "kv2");
    let change = json!({ "properties": { "encryption": { "status": "Enabled", "keyVaultProperties": {
        "keyVaultArmId": lab.vault_id("kv2"), "keyIdentifier": moved } } } });
    lab.arm("PATCH", &id, Some(change)).await.refused(400, "InvalidKeyVault");
}

fn automation(lab: &Lab, version: &str) -> Case {
    let encryption = |encryption: Value| json!({ "properties": { "encryption": encryption } });
    Case {
        kind: AUTOMATION,
        name: "automation1",
        plain: json!({ "location": "uksouth", "properties": { "sku": { "name": "Basic" } } }),
        steps: vec![
            ("PATCH", json!({ "identity": lab.user_identity() })),
            (
                "PATCH",
                encryption(json!({ "keySource": "Microsoft.Keyvault",
                    "identity": { "userAssignedIdentity": lab.identity_id() },
                    "keyVaultProperties": { "keyvaultUri": vault(lab), "keyName": "k1", "keyVersion": version } })),
            ),
        ],
        shown: ("/properties/encryption/keyVaultProperties/keyVersion", json!(version)),
        state: ("/properties/state", "Ok"),
        back: ("PATCH", encryption(json!({ "keySource": "Microsoft.Automation" })), None),
    }
}

fn center(lab: &Lab) -> Case {
    let on = json!({ "encryption": common(lab, &lab.key_url("k1"), "userAssignedIdentity") });
    Case {
        kind: CENTER,
        name: "center1",
        plain: json!({ "location": "uksouth", "properties": {} }),
        steps: vec![("PATCH", json!({ "identity": lab.user_identity(), "properties": on }))],
        shown: (COMMON_URL, json!(lab.key_url("k1"))),
        state: SUCCEEDED,
        back: ("PATCH", json!({ "properties": { "encryption": { "customerManagedKeyEncryption": {} } } }), None),
    }
}

fn experiments(lab: &Lab) -> Case {
    let encryption = json!({ "encryption": common(lab, &lab.key_url("k1"), "UserAssignedIdentity") });
    Case {
        kind: EXPERIMENTS,
        name: "experiments1",
        plain: json!({ "location": "uksouth", "sku": { "name": "S0" }, "properties": {
            "appConfigurationResourceId": lab.resource_id("Microsoft.AppConfiguration/configurationStores", "settings1"),
            "logAnalyticsWorkspaceResourceId": lab.resource_id("Microsoft.OperationalInsights/workspaces", "logs1"),
            "logsExporterStorageAccountResourceId": lab.account_id("stlogs1") } }),
        steps: vec![("PATCH", json!({ "identity": lab.user_identity(), "properties": encryption }))],
        shown: (COMMON_URL, json!(lab.key_url("k1"))),
        state: SUCCEEDED,
        back: ("PATCH", json!({ "properties": { "encryption": { "customerManagedKeyEncryption": {} } } }), None),
    }
}

fn manufacturing(lab: &Lab, kid: &str) -> Case {
    let plain = json!({ "aadApplicationId": "55555555-5555-4555-8555-555555555555" });
    let on = json!({ "cmkProfile": { "keyUri": kid } });
    Case {
        kind: FACTORY,
        name: "factory1",
        plain: body(lab, plain.clone()),
        steps: vec![("PUT", body(lab, joined(&plain, &on)))],
        shown: ("/properties/cmkProfile/keyUri", json!(kid)),
        state: SUCCEEDED,
        back: ("PUT", body(lab, plain), None),
    }
}

/// The two types of Discovery: the identity is named in the properties.
async fn discoveries(lab: &Lab) -> [Case; 2] {
    let case = |kind, name, plain: Value, key: Value| {
        let whole = |properties: &Value| json!({ "location": "uksouth", "properties": properties });
        let on = json!({ "customerManagedKeys": "Enabled", "keyVaultProperties": key });
        Case {
            kind,
            name,
            plain: whole(&plain),
            steps: vec![("PUT", whole(&joined(&plain, &on)))],
            shown: ("/properties/keyVaultProperties/keyName", json!("k1")),
            state: SUCCEEDED,
            back: ("PUT", whole(&plain), None),
        }
    };
    let key = json!({ "keyVaultUri": vault(lab), "keyName": "k1" });
    let client = json!({ "identityClientId": lab.client_id_of_identity().await });
    let workspace = json!({ "workspaceIdentity": { "id": lab.identity_id() } });
    let shelf = json!({ "workloadIdentities": { lab.identity_id(): {} } });
    [case(WORKSPACE, "discovery1", workspace, key.clone()), case(SHELF, "shelf1", shelf, joined(&key, &client))]
}

#[tokio::test]
async fn accounts_centers_and_data_services_take_keys() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let version = kid.rsplit('/').next().expect("a version");
    for case in [automation(&lab, version), center(&lab), experiments(&lab), manufacturing(&lab, &kid)] {
        case.plays(&lab).await;
    }
    for case in discoveries(&lab).await {
        case.plays(&lab).await;
    }
}

#[tokio::test]
async fn a_scope_of_an_ai_account_names_an_identity_of_the_account() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let version = kid.rsplit('/').next().expect("a version");
    let client = lab.client_id_of_identity().await;
    let account = json!({ "location": "uksouth", "kind": "AIServices", "sku": { "name": "S0" },
        "identity": lab.user_identity(), "properties": { "customSubDomainName": "ai-one" } });
    lab.arm("PUT", &lab.resource_id(AI, "ai1"), Some(account)).await.expect(201);
    lab.advance(3);
    let on = |client: &str| {
        json!({ "properties": { "keySource": "Microsoft.KeyVault", "state": "Enabled", "keyVaultProperties": {
            "keyVaultUri": vault(&lab), "keyName": "k1", "keyVersion": version, "identityClientId": client } } })
    };
    let off = json!({ "properties": { "keySource": "Microsoft.CognitiveServices", "state": "Enabled" } });
    let stranger = on("55555555-5555-4555-8555-555555555555");
    lab.arm("PUT", &lab.resource_id(SCOPES, "scope1"), Some(stranger)).await.refused(400, "InvalidEncryptionIdentity");
    let case = Case {
        kind: SCOPES,
        name: "scope1",
        plain: off.clone(),
        steps: vec![("PUT", on(&client))],
        shown: ("/properties/keySource", json!("Microsoft.KeyVault")),
        state: SUCCEEDED,
        back: ("PUT", off, None),
    };
    case.plays(&lab).await;
}

#[tokio::test]
async fn a_search_service_has_a_policy_switch_on_arm_and_no_key() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let id = lab.resource_id(SEARCH, "search1");
    let plain = json!({ "location": "uksouth", "sku": { "name": "basic" } });
    done(&lab, &lab.arm("PUT", &id, Some(plain)).await.expect(201)).await;
    let switch = |word: &str| json!({ "properties": { "encryptionWithCmk": { "enforcement": word } } });
    let mut on = switch("Enabled");
    on["identity"] = json!({ "type": "SystemAssigned" });
    lab.arm("PATCH", &id, Some(on)).await.expect(200);
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionWithCmk"]["enforcement"], "Enabled");
    assert_eq!(read["properties"]["provisioningState"], "succeeded");
    assert!(read["identity"]["principalId"].is_string());
    // Stable versions know no key of the service.
    let key =
        json!({ "properties": { "encryptionWithCmk": { "serviceLevelEncryptionKey": { "keyVaultKeyName": "k1" } } } });
    lab.arm("PATCH", &id, Some(key)).await.refused(400, "InvalidRequestContent");
    lab.set_key("k1", false).await;
    lab.arm("PATCH", &id, Some(switch("Disabled"))).await.expect(200);
    let read = lab.arm("GET", &id, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionWithCmk"]["enforcement"], "Disabled");
    lab.arm("PATCH", &id, Some(switch("Maybe"))).await.refused(400, "InvalidRequestContent");
}

#[tokio::test]
async fn a_search_service_takes_a_key_for_everything_by_a_later_version() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let id = lab.resource_id(SEARCH, "search1");
    let plain = json!({ "location": "uksouth", "sku": { "name": "basic" }, "identity": lab.user_identity() });
    done(&lab, &lab.arm("PUT", &id, Some(plain)).await.expect(201)).await;
    let later = format!("{id}?api-version=2026-03-01-preview");
    let version = kid.rsplit('/').next().expect("a version");
    let vault = format!("https://kv1.{}", lab.sim.vault_suffix());
    let key = json!({ "properties": { "encryptionWithCmk": { "serviceLevelEncryptionKey": {
        "keyVaultUri": vault, "keyVaultKeyName": "k1", "keyVaultKeyVersion": version,
        "identity": {
            "@odata.type": "#Microsoft.Azure.Search.DataUserAssignedIdentity", "userAssignedIdentity": lab.identity_id(),
        },
    } } } });
    lab.set_key("k1", false).await;
    let refused = lab.arm("PATCH", &later, Some(key.clone())).await;
    assert_eq!(refused.status / 100, 4, "{}", refused.body);
    lab.set_key("k1", true).await;
    lab.arm("PATCH", &later, Some(key)).await.expect(200);
    let read = lab.arm("GET", &later, None).await.expect(200).body;
    assert_eq!(read["properties"]["encryptionWithCmk"]["serviceLevelEncryptionKey"]["keyVaultKeyName"], "k1");
}
