//! More than one subscription of the tenant, and one of another tenant.

use azure_sim::Options;
use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, ENCRYPTION_USER, Lab, options};

const SECOND: &str = "22222222-2222-4222-8222-22222222222A";
const FOREIGN: &str = "99999999-9999-4999-8999-999999999999";

async fn lab() -> Lab {
    Lab::with(several(options())).await
}

fn several(options: Options) -> Options {
    Options { more_subscriptions: vec![SECOND.into()], foreign_subscriptions: vec![FOREIGN.into()], ..options }
}

fn second(lab: &Lab, id: &str) -> String {
    id.replace(lab.sim.subscription_id(), SECOND)
}

fn ids(list: &Value, member: &str) -> Vec<String> {
    let items = list["value"].as_array().expect("a list");
    items.iter().map(|i| i[member].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn each_subscription_holds_its_own() {
    let lab = lab().await;
    let known = lab.arm("GET", "/subscriptions", None).await.expect(200);
    assert_eq!(ids(&known.body, "subscriptionId"), [lab.sim.subscription_id(), SECOND]);
    let one = lab.arm("GET", &format!("/subscriptions/{}", SECOND.to_lowercase()), None).await.expect(200);
    assert_eq!((&one.body["subscriptionId"], &one.body["tenantId"]), (&json!(SECOND), &json!(lab.sim.tenant_id())));

    let (group, vault) = (second(&lab, &lab.group()), second(&lab, &lab.vault_id("kv1")));
    lab.arm("PUT", &group, Some(json!({ "location": "uksouth" }))).await.expect(201);
    lab.arm("GET", &lab.group(), None).await.refused(404, "ResourceGroupNotFound");
    let made = lab.arm("PUT", &vault, Some(lab.vault_body())).await.expect(201);
    assert_eq!(made.body["id"], json!(vault));
    for (subscription, want) in [(lab.sim.subscription_id(), vec![]), (SECOND, vec![vault.clone()])] {
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.KeyVault/vaults");
        assert_eq!(ids(&lab.arm("GET", &path, None).await.expect(200).body, "id"), want);
        let path = format!("/subscriptions/{subscription}/resources");
        assert_eq!(ids(&lab.arm("GET", &path, None).await.expect(200).body, "id"), want);
    }
    // Names of vaults are Azure's, not a subscription's.
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    lab.arm("PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await.refused(409, "VaultAlreadyExists");
    // Deleted, it is among the deleted ones of its own subscription only.
    lab.arm("DELETE", &vault, None).await.expect(200);
    let deleted = |subscription: &str| {
        format!("/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/uksouth/deletedVaults/kv1")
    };
    lab.arm("GET", &deleted(lab.sim.subscription_id()), None).await.refused(404, "DeletedVaultNotFound");
    let found = lab.arm("GET", &deleted(SECOND), None).await.expect(200);
    assert_eq!(found.body["properties"]["vaultId"], json!(vault));
}

#[tokio::test]
async fn a_subscription_of_another_tenant_takes_no_token_of_this_one() {
    let lab = lab().await;
    for path in ["", "/resourceGroups/rg1", "/resourceGroups/rg1/providers/Microsoft.KeyVault/vaults/kv1"] {
        let answer = lab.arm("GET", &format!("/subscriptions/{FOREIGN}{path}"), None).await;
        answer.refused(401, "InvalidAuthenticationTokenTenant");
    }
    let nowhere = "/subscriptions/00000000-0000-4000-8000-000000000000";
    lab.arm("GET", nowhere, None).await.refused(404, "SubscriptionNotFound");
}

#[tokio::test]
async fn a_vault_can_trust_another_tenant() {
    let lab = lab().await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    lab.arm("PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await.expect(201);
    assert!(lab.sim.set_vault_tenant("KV1", FOREIGN) && !lab.sim.set_vault_tenant("kv2", FOREIGN));
    let vault = lab.arm("GET", &lab.vault_id("kv1"), None).await.expect(200);
    assert_eq!(vault.body["properties"]["tenantId"], FOREIGN);
}

#[tokio::test]
async fn each_subscription_has_a_limit_on_role_assignments_of_its_own() {
    // The operator's own is the first in each.
    let lab = Lab::with(several(Options { role_assignment_limit: 2, ..options() })).await;
    let groups = [lab.group(), second(&lab, &lab.group())];
    for (n, group) in (1..).step_by(2).zip(&groups) {
        let grant = async |n, role: &str| {
            let (path, body) = (lab.grant_path(group, n), lab.grant_body(role, "66666666-6666-4666-8666-666666666666"));
            lab.arm("PUT", &path, Some(body)).await
        };
        lab.arm("PUT", group, Some(json!({ "location": "uksouth" }))).await.expect(201);
        grant(n, ENCRYPTION_USER).await.expect(201);
        grant(n + 1, ADMINISTRATOR).await.refused(400, "RoleAssignmentLimitExceeded");
    }
}
