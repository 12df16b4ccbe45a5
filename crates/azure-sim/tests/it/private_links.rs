//! Private endpoints at managed HSMs and storage accounts: groups, connections on ARM, and what they open.

use serde_json::{Value, json};

use crate::blob_client::Account;
use crate::client::Lab;
use crate::vault_more::{aim, endpoint, network, with_network};

fn set(status: &str) -> Option<Value> {
    Some(json!({ "properties": { "privateLinkServiceConnectionState": { "status": status, "description": "why" } } }))
}

/// The id of the only connection of a resource.
async fn connection_of(lab: &Lab, target: &str) -> String {
    let list = lab.arm("GET", &format!("{target}/privateEndpointConnections"), None).await.expect(200).body;
    assert_eq!(list["value"].as_array().map(Vec::len), Some(1), "{list}");
    list["value"][0]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_managed_hsm_is_reached_over_an_approved_endpoint() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    with_network(&lab).await;
    let hsm = lab.hsm_id("hsm1");
    let off = json!({ "properties": { "publicNetworkAccess": "Disabled" } });
    let accepted = lab.arm("PATCH", &hsm, Some(off)).await;
    assert!([200, 202].contains(&accepted.status), "{}", accepted.body);
    lab.advance(5);
    assert!(lab.sim.stand_in(Some(&format!("{}/subnets/near", network(&lab)))));
    lab.hsm("GET", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");

    let resources = lab.arm("GET", &format!("{hsm}/privateLinkResources"), None).await.expect(200).body;
    assert_eq!(resources["value"][0]["properties"]["groupId"], "managedhsm");
    assert_eq!(resources["value"][0]["properties"]["requiredZoneNames"], json!(["privatelink.managedhsm.azure.net"]));
    let wrong = aim(&lab, "privateLinkServiceConnections", &hsm, "vault");
    lab.arm("PUT", &endpoint(&lab, "pe1"), Some(wrong)).await.refused(400, "PrivateLinkServiceGroupIdsNotValid");
    let right = aim(&lab, "privateLinkServiceConnections", &hsm, "managedhsm");
    lab.arm("PUT", &endpoint(&lab, "pe1"), Some(right)).await.expect(201);
    lab.hsm("GET", "/keys", None).await.expect(200);

    let connection = connection_of(&lab, &hsm).await;
    let shown = lab.arm("GET", &hsm, None).await.expect(200).body;
    assert_eq!(shown["properties"]["privateEndpointConnections"][0]["id"], connection.as_str());
    lab.arm("PUT", &connection, set("Rejected")).await.expect(200);
    lab.hsm("GET", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");
    lab.arm("PUT", &connection, set("Approved")).await.expect(200);
    lab.hsm("GET", "/keys", None).await.expect(200);
    let accepted = lab.arm("DELETE", &connection, None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    lab.arm("GET", &connection, None).await.refused(404, "ResourceNotFound");
    lab.hsm("GET", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");
}

#[tokio::test]
async fn a_storage_account_is_reached_over_an_endpoint_for_its_blobs() {
    let lab = Lab::start().await;
    lab.ground().await;
    with_network(&lab).await;
    let account = lab.account_id("stpriv1");
    let body = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let accepted = lab.arm("PUT", &account, Some(body)).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let blobs = Account::of(&lab, "stpriv1").await;
    blobs.send("PUT", "/con1?restype=container", &[], b"").await.expect(201);
    blobs.put("/con1/b1", b"bytes").await.expect(201);
    let off = json!({ "properties": { "publicNetworkAccess": "Disabled" } });
    lab.arm("PATCH", &account, Some(off)).await.expect(200);
    assert!(lab.sim.stand_in(Some(&format!("{}/subnets/near", network(&lab)))));
    blobs.get("/con1/b1").await.refused(403, "AuthorizationFailure");

    let resources = lab.arm("GET", &format!("{account}/privateLinkResources"), None).await.expect(200).body;
    let rows = resources["value"].as_array().expect("rows");
    let mut groups: Vec<&str> = rows.iter().filter_map(|r| r["properties"]["groupId"].as_str()).collect();
    groups.sort_unstable();
    assert_eq!(groups, ["blob", "dfs", "file", "queue", "table", "web"]);
    let put = async |name: &str, group: &str| {
        let body = aim(&lab, "privateLinkServiceConnections", &account, group);
        lab.arm("PUT", &endpoint(&lab, name), Some(body)).await
    };
    put("pe1", "vault").await.refused(400, "PrivateLinkServiceGroupIdsNotValid");
    put("pe1", "queue").await.expect(201);
    blobs.get("/con1/b1").await.refused(403, "AuthorizationFailure");
    let queue = connection_of(&lab, &account).await;
    lab.arm("DELETE", &queue, None).await.expect(200);
    lab.arm("DELETE", &queue, None).await.expect(204);
    put("pe2", "blob").await.expect(201);
    assert_eq!(blobs.get("/con1/b1").await.expect(200).bytes, b"bytes");

    let connection = connection_of(&lab, &account).await;
    let rejected = lab.arm("PUT", &connection, set("Rejected")).await.expect(200).body;
    let state = &rejected["properties"]["privateLinkServiceConnectionState"];
    assert_eq!((&state["status"], &state["actionRequired"]), (&json!("Rejected"), &json!("None")));
    assert!(state["actionsRequired"].is_null(), "storage spells it in the singular");
    blobs.get("/con1/b1").await.refused(403, "AuthorizationFailure");
    lab.arm("PUT", &connection, set("Approved")).await.expect(200);
    blobs.get("/con1/b1").await.expect(200);
    let shown = lab.arm("GET", &account, None).await.expect(200).body;
    assert_eq!(shown["properties"]["privateEndpointConnections"][0]["id"], connection.as_str());
    lab.arm("DELETE", &account, None).await.expect(200);
    let left = lab.arm("GET", &endpoint(&lab, "pe2"), None).await.expect(200).body;
    let row = &left["properties"]["privateLinkServiceConnections"][0]["properties"];
    assert_eq!(row["privateLinkServiceConnectionState"]["status"], "Disconnected");
}

#[tokio::test]
async fn an_accounts_rules_name_subnets_that_exist_and_have_the_endpoint() {
    let lab = Lab::start().await;
    lab.ground().await;
    with_network(&lab).await;
    let account = lab.account_id("strules1");
    let body = |subnet: &str| {
        json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" }, "properties": {
            "networkAcls": { "defaultAction": "Deny", "virtualNetworkRules": [
                { "id": format!("{}/subnets/{subnet}", network(&lab)), "action": "Allow" }] } } })
    };
    let refused = lab.arm("PUT", &account, Some(body("near"))).await.refused(400, "NetworkAclsValidationFailure");
    assert!(
        refused.message().contains("failure: SubnetsHaveNoServiceEndpointsConfigured:Subnets near of"),
        "{}",
        refused.message()
    );
    lab.arm("PUT", &account, Some(body("none"))).await.refused(400, "NetworkAclsValidationFailure");
    lab.arm("GET", &account, None).await.expect(404);
    let subnet = format!("{}/subnets/store", network(&lab));
    let made = json!({ "properties": { "addressPrefix": "10.1.3.0/24",
        "serviceEndpoints": [{ "service": "Microsoft.Storage" }] } });
    lab.arm("PUT", &subnet, Some(made)).await.expect(201);
    let accepted = lab.arm("PUT", &account, Some(body("store"))).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let blobs = Account::of(&lab, "strules1").await;
    blobs.send("PUT", "/con1?restype=container", &[], b"").await.refused(403, "AuthorizationFailure");
    assert!(lab.sim.stand_in(Some(&subnet)));
    blobs.send("PUT", "/con1?restype=container", &[], b"").await.expect(201);
    assert!(lab.sim.stand_in(Some(&format!("{}/subnets/near", network(&lab)))));
    blobs.get("/con1/b1").await.refused(403, "AuthorizationFailure");
}
