//! Changes that become visible late, each by its own lag and by the simulator's clock.

use azure_sim::{Lag, Propagation};
use serde_json::json;

use crate::client::{ADMINISTRATOR, Lab, options};

async fn lab_with(propagation: Propagation) -> Lab {
    let mut options = options();
    options.propagation = propagation;
    Lab::with(options).await
}

#[tokio::test]
async fn a_removed_grant_works_on_for_a_while() {
    let lab = lab_with(Propagation { grant_removal: Lag::seconds(60.0), ..Propagation::instant() }).await;
    lab.ground_with_key().await;
    lab.arm("DELETE", &lab.grant_path(&lab.vault_id("kv1"), 1), None).await.expect(200);
    lab.advance(59);
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    lab.advance(1);
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByRbac");
}

#[tokio::test]
async fn a_fresh_principal_is_unknown_unless_its_type_is_told() {
    let lab = lab_with(Propagation { principal: Lag::seconds(20.0), ..Propagation::instant() }).await;
    lab.ground().await;
    let principal = lab.principal().await;
    let path = lab.grant_path(&lab.vault_id("kv1"), 1);
    let mut body = lab.grant_body(ADMINISTRATOR, &principal);
    body["properties"].as_object_mut().expect("an object").remove("principalType");
    lab.arm("PUT", &path, Some(body.clone())).await.refused(400, "PrincipalNotFound");
    lab.advance(20);
    let made = lab.arm("PUT", &path, Some(body)).await.expect(201);
    assert_eq!(made.body["properties"]["principalType"], "ServicePrincipal");
}

#[tokio::test]
async fn a_firewall_change_reaches_the_data_plane_late_and_arm_at_once() {
    let lab = lab_with(Propagation { firewall: Lag::seconds(30.0), ..Propagation::instant() }).await;
    lab.ground_with_key().await;
    let deny = json!({ "properties": { "networkAcls": { "defaultAction": "Deny", "bypass": "AzureServices" } } });
    let shown = lab.arm("PATCH", &lab.vault_id("kv1"), Some(deny)).await.expect(200);
    assert_eq!(shown.body["properties"]["networkAcls"]["ipRules"], json!([]));
    lab.advance(29);
    lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200);
    lab.advance(1);
    lab.keys("GET", "kv1", "/keys/k1", None).await.refused(403, "Forbidden/ForbiddenByFirewall");
}

#[tokio::test]
async fn reads_and_names_lag_where_told() {
    let propagation = Propagation {
        grant_read: Lag::seconds(5.0),
        arm_read: Lag::seconds(3.0),
        dns: Lag::seconds(10.0),
        key_delete: Lag::seconds(4.0),
        ..Propagation::instant()
    };
    let lab = lab_with(propagation).await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    lab.arm("GET", &lab.group(), None).await.refused(404, "ResourceGroupNotFound");
    lab.advance(3);
    lab.arm("GET", &lab.group(), None).await.expect(200);
    let vault = lab.arm("PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await.expect(201);
    assert_eq!(vault.body["properties"]["provisioningState"], "RegisteringDns");
    lab.advance(3);
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    let path = lab.grant_path(&lab.vault_id("kv1"), 1);
    lab.arm("GET", &path, None).await.refused(404, "RoleAssignmentNotFound");
    let token = lab.vault_token().await;
    assert!(lab.try_send("GET", &lab.vault_link("kv1", "/keys"), &token, None).await.is_err());
    lab.advance(7);
    lab.arm("GET", &path, None).await.expect(200);
    lab.keys("POST", "kv1", "/keys/k1/create", Some(json!({ "kty": "EC" }))).await.expect(200);
    lab.keys("DELETE", "kv1", "/keys/k1", None).await.expect(200);
    lab.keys("GET", "kv1", "/deletedkeys/k1", None).await.refused(404, "KeyNotFound");
    let again = lab.keys("POST", "kv1", "/keys/k1/create", Some(json!({ "kty": "EC" }))).await;
    again.refused(409, "Conflict/ObjectIsBeingDeleted");
    lab.advance(4);
    lab.keys("GET", "kv1", "/deletedkeys/k1", None).await.expect(200);
}

#[tokio::test]
async fn never_is_never_until_it_is_settled() {
    let lab = lab_with(Propagation { grant: Lag::Never, ..Propagation::instant() }).await;
    lab.ground().await;
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    lab.advance(3000);
    lab.keys("GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByRbac");
    lab.sim.settle();
    lab.keys("GET", "kv1", "/keys", None).await.expect(200);
}
