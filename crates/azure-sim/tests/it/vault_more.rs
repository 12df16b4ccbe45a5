//! Vaults on ARM beyond their plain life: access policies one by one, pages, defaults, and the networks that their rules
//! and private endpoints name.

use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, Lab};

const OUTSIDER: &str = "66666666-6666-4666-8666-666666666666";
const NETWORK_CONTRIBUTOR: &str = "4d97b98b-1d4f-4787-a291-c67834d212e7";

pub fn network(lab: &Lab) -> String {
    format!("{}/providers/Microsoft.Network/virtualNetworks/vnet1", lab.group())
}

pub fn endpoint(lab: &Lab, name: &str) -> String {
    format!("{}/providers/Microsoft.Network/privateEndpoints/{name}", lab.group())
}

/// A network with a subnet that has Key Vault's endpoint, `near`, and one without, `far`.
pub async fn with_network(lab: &Lab) {
    let subnet = |name: &str, prefix: &str, services: Value| json!({ "name": name, "properties": { "addressPrefix": prefix, "serviceEndpoints": services } });
    let body = json!({ "location": "uksouth", "properties": {
        "addressSpace": { "addressPrefixes": ["10.1.0.0/16"] },
        "subnets": [
            subnet("near", "10.1.0.0/24", json!([{ "service": "Microsoft.KeyVault" }])),
            subnet("far", "10.1.1.0/24", json!([])),
        ],
    } });
    let made = lab.arm("PUT", &network(lab), Some(body.clone())).await.expect(201).body;
    assert_eq!(made["properties"]["subnets"][0]["id"], format!("{}/subnets/near", network(lab)));
    assert_eq!(made["properties"]["subnets"][0]["properties"]["serviceEndpoints"][0]["provisioningState"], "Succeeded");
    lab.arm("PUT", &network(lab), Some(body)).await.expect(200);
}

pub fn aim(lab: &Lab, list: &str, target: &str, group: &str) -> Value {
    json!({ "location": "uksouth", "properties": {
        "subnet": { "id": format!("{}/subnets/far", network(lab)) },
        list: [{ "name": "c1", "properties": {
            "privateLinkServiceId": target, "groupIds": [group], "requestMessage": "please" } }],
    } })
}

#[tokio::test]
async fn access_policies_are_added_replaced_and_removed_one_by_one() {
    let lab = Lab::start().await;
    lab.ground().await;
    let vault = lab.vault_id("kv1");
    let policy = |who: &str, keys: Value| {
        json!({ "properties": { "accessPolicies": [{
            "tenantId": lab.sim.tenant_id(), "objectId": who, "permissions": { "keys": keys } }] } })
    };
    let (me, other) = (lab.sim.object_id(), OUTSIDER);
    let at = |operation: &str| format!("{vault}/accessPolicies/{operation}");
    let shown = async || {
        let vault = lab.arm("GET", &vault, None).await.expect(200).body;
        let policies = vault["properties"]["accessPolicies"].as_array().expect("a list").clone();
        policies.iter().map(|p| p["permissions"]["keys"].clone()).collect::<Vec<_>>()
    };
    let added = lab.arm("PUT", &at("add"), Some(policy(me, json!(["get", "list"])))).await.expect(200).body;
    assert_eq!(added["type"], "Microsoft.KeyVault/vaults/accessPolicies");
    lab.arm("PUT", &at("add"), Some(policy(other, json!(["get"])))).await.expect(200);
    lab.arm("PUT", &at("add"), Some(policy(me, json!(["Get", "create"])))).await.expect(200);
    assert_eq!(shown().await, [json!(["get", "list", "create"]), json!(["get"])]);
    lab.arm("PUT", &at("replace"), Some(policy(me, json!(["wrapKey", "get"])))).await.expect(200);
    assert_eq!(shown().await, [json!(["wrapKey", "get"]), json!(["get"])]);
    lab.arm("PUT", &at("remove"), Some(policy(me, json!(["get"])))).await.expect(200);
    assert_eq!(shown().await, [json!(["wrapKey"]), json!(["get"])]);
    lab.arm("PUT", &at("remove"), Some(policy(other, json!(["GET"])))).await.expect(200);
    assert_eq!(shown().await, [json!(["wrapKey"])]);
    lab.arm("PUT", &at("fly"), Some(policy(me, json!(["get"])))).await.refused(400, "BadRequest");
    lab.arm("PUT", &at("add"), Some(json!({}))).await.refused(400, "InvalidRequestContent");
    let missing = format!("{}/accessPolicies/add", lab.vault_id("nope"));
    lab.arm("PUT", &missing, Some(policy(me, json!(["get"])))).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn lists_come_in_pages_and_every_row_once() {
    let lab = Lab::start().await;
    lab.ground().await;
    for n in 2..=5 {
        lab.arm("PUT", &lab.vault_id(&format!("kv{n}")), Some(lab.vault_body())).await.expect(201);
    }
    let all = format!("/subscriptions/{}/providers/Microsoft.KeyVault/vaults", lab.sim.subscription_id());
    let deleted = format!("/subscriptions/{}/providers/Microsoft.KeyVault/deletedVaults", lab.sim.subscription_id());
    let names = async |path: &str| {
        let mut names = Vec::new();
        let mut next = lab.arm_link(&format!("{path}?api-version=2026-02-01&$top=2"));
        loop {
            let page = lab.send("GET", &next, &lab.arm_token, None).await.expect(200).body;
            let rows = page["value"].as_array().expect("rows");
            assert!(rows.len() <= 2);
            names.extend(rows.iter().map(|r| r["name"].as_str().expect("a name").to_owned()));
            match page["nextLink"].as_str() {
                Some(link) => link.clone_into(&mut next),
                None => return names,
            }
        }
    };
    assert_eq!(names(&all).await, ["kv1", "kv2", "kv3", "kv4", "kv5"]);
    assert_eq!(names(&format!("{}/providers/Microsoft.KeyVault/vaults", lab.group())).await.len(), 5);
    for n in 1..=3 {
        lab.arm("DELETE", &lab.vault_id(&format!("kv{n}")), None).await.expect(200);
    }
    assert_eq!(names(&deleted).await, ["kv1", "kv2", "kv3"]);
    assert_eq!(names(&all).await, ["kv4", "kv5"]);
    for (wrong, code) in [
        ("$top=0", "InvalidTopQueryString"),
        ("$top=x", "InvalidTopQueryString"),
        ("$top=2&$skiptoken=x", "InvalidSkipToken"),
    ] {
        lab.arm("GET", &format!("{all}?api-version=2026-02-01&{wrong}"), None).await.refused(400, code);
    }
}

#[tokio::test]
async fn a_vault_echoes_what_was_sent_and_fills_in_the_rest() {
    let lab = Lab::start().await;
    lab.ground().await;
    let plain = json!({ "location": "UK South", "tags": { "a": "b" }, "properties": {
        "tenantId": lab.sim.tenant_id(), "sku": { "family": "A", "name": "standard" }, "accessPolicies": [] } });
    let path = |name: &str, version: &str| format!("{}?api-version={version}", lab.vault_id(name));
    let new = lab.arm("PUT", &path("kvnew", "2026-02-01"), Some(plain.clone())).await.expect(201).body;
    let p = &new["properties"];
    assert_eq!(new["location"], "uksouth");
    assert_eq!(new["tags"], json!({ "a": "b" }));
    assert_eq!(new["systemData"]["createdBy"], lab.sim.client_id());
    assert_eq!(p["sku"], json!({ "family": "A", "name": "standard" }));
    assert_eq!(p["vaultUri"], format!("https://kvnew.{}/", lab.sim.vault_suffix()));
    for (name, value) in [
        ("enableSoftDelete", json!(true)),
        ("softDeleteRetentionInDays", json!(90)),
        ("enableRbacAuthorization", json!(true)),
        ("enabledForDeployment", json!(false)),
        ("publicNetworkAccess", json!("Enabled")),
        ("provisioningState", json!("Succeeded")),
        ("enablePurgeProtection", Value::Null),
        ("networkAcls", Value::Null),
    ] {
        assert_eq!(p[name], value, "{name}");
    }
    let old = lab.arm("PUT", &path("kvold", "2023-07-01"), Some(plain.clone())).await.expect(201).body;
    assert_eq!(old["properties"]["enableRbacAuthorization"], false);
    let again = lab.arm("PUT", &path("kvold", "2026-02-01"), Some(plain)).await.expect(200).body;
    assert_eq!(again["properties"]["enableRbacAuthorization"], false, "a new api-version does not flip a vault");
    let check =
        format!("/subscriptions/{}/providers/Microsoft.KeyVault/checkNameAvailability", lab.sim.subscription_id());
    let ask = |name: &str| Some(json!({ "name": name, "type": "Microsoft.KeyVault/vaults" }));
    assert_eq!(lab.arm("POST", &check, ask("free-name")).await.expect(200).body, json!({ "nameAvailable": true }));
    assert_eq!(lab.arm("POST", &check, ask("KVOLD")).await.expect(200).body["reason"], "AlreadyExists");
    assert_eq!(lab.arm("POST", &check, ask("-")).await.expect(200).body["reason"], "AccountNameInvalid");
    lab.arm("POST", &check, Some(json!({ "name": "x", "type": "Microsoft.Sql/servers" })))
        .await
        .refused(400, "InvalidRequestContent");
}

#[tokio::test]
async fn network_rules_name_subnets_that_exist_and_have_the_endpoint() {
    let lab = Lab::start().await;
    lab.ground().await;
    with_network(&lab).await;
    let rule = |subnet: &str, lenient: bool| {
        let id = format!("{}/subnets/{subnet}", network(&lab));
        json!({ "properties": { "networkAcls": { "defaultAction": "Deny", "virtualNetworkRules": [
            { "id": id, "ignoreMissingVnetServiceEndpoint": lenient }] } } })
    };
    let vault = lab.vault_id("kv1");
    let far = lab.arm("PATCH", &vault, Some(rule("far", false))).await.refused(400, "VirtualNetworkNotValid");
    assert!(far.message().contains("Error Code: SubnetsHaveNoServiceEndpointsConfigured."), "{}", far.message());
    assert!(
        far.message().contains("Add Microsoft.KeyVault to subnet's ServiceEndpoints collection"),
        "{}",
        far.message()
    );
    lab.arm("PATCH", &vault, Some(rule("none", false))).await.refused(400, "VirtualNetworkNotValid");
    lab.arm("PATCH", &vault, Some(rule("far", true))).await.expect(200);
    let near = lab.arm("PATCH", &vault, Some(rule("near", false))).await.expect(200).body;
    let shown = &near["properties"]["networkAcls"]["virtualNetworkRules"][0]["id"];
    assert_eq!(*shown, format!("{}/subnets/near", network(&lab)).to_lowercase());

    // From the Internet the rule admits nobody; from the subnet it does.
    lab.grant(1, ADMINISTRATOR, lab.sim.object_id()).await.expect(201);
    lab.keys("GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByFirewall");
    assert!(lab.sim.stand_in(Some(&format!("{}/subnets/near", network(&lab)))));
    lab.keys("GET", "kv1", "/keys", None).await.expect(200);
    assert!(lab.sim.stand_in(Some(&format!("{}/subnets/far", network(&lab)))));
    lab.keys("GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByFirewall");
    assert!(!lab.sim.stand_in(Some("/nowhere")));

    // Who may write the vault but not join the subnet is told so.
    let (id, secret) = lab.sim.outsider();
    let (id, secret) = (id.to_owned(), secret.to_owned());
    let contributor = "f25e0fa2-a7c8-4377-a976-54943a77a395";
    lab.arm("PUT", &lab.grant_path(&vault, 7), Some(lab.grant_body(contributor, OUTSIDER))).await.expect(201);
    let token = lab.token_as(&id, &secret, "https://management.azure.com/.default").await;
    lab.arm_as(&token, "PATCH", &vault, Some(rule("near", false))).await.refused(403, "LinkedAuthorizationFailed");
}

#[tokio::test]
async fn a_private_endpoint_connects_and_opens_a_closed_vault_to_its_network() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    with_network(&lab).await;
    let vault = lab.vault_id("kv1");
    let off = json!({ "properties": { "publicNetworkAccess": "Disabled" } });
    lab.arm("PATCH", &vault, Some(off)).await.expect(200);
    let subnet = format!("{}/subnets/near", network(&lab));
    assert!(lab.sim.stand_in(Some(&subnet)));
    lab.keys("GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");

    let resources = lab.arm("GET", &format!("{vault}/privateLinkResources"), None).await.expect(200).body;
    assert_eq!(resources["value"][0]["properties"]["groupId"], "vault");
    assert_eq!(resources["value"][0]["properties"]["requiredZoneNames"], json!(["privatelink.vaultcore.azure.net"]));

    let pe = endpoint(&lab, "pe1");
    let wrong = aim(&lab, "privateLinkServiceConnections", &vault, "blob");
    lab.arm("PUT", &pe, Some(wrong)).await.refused(400, "PrivateLinkServiceGroupIdsNotValid");
    let nowhere = aim(&lab, "privateLinkServiceConnections", &lab.vault_id("nope"), "vault");
    lab.arm("PUT", &pe, Some(nowhere)).await.refused(400, "InvalidResourceReference");
    let body = aim(&lab, "privateLinkServiceConnections", &vault, "vault");
    let made = lab.arm("PUT", &pe, Some(body.clone())).await.expect(201).body;
    let state = |pe: &Value| {
        pe["properties"]["privateLinkServiceConnections"][0]["properties"]["privateLinkServiceConnectionState"]["status"]
            .clone()
    };
    assert_eq!(state(&made), "Approved", "the caller may approve at the vault");
    lab.arm("PUT", &pe, Some(body)).await.expect(200);
    let answer = lab.keys("GET", "kv1", "/keys", None).await.expect(200);
    let info = answer.headers["x-ms-keyvault-network-info"].to_str().expect("text");
    assert!(info.starts_with("conn_type=PrivateLink;"), "{info}");
    assert!(lab.sim.stand_in(None));
    lab.keys("GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");
    assert!(lab.sim.stand_in(Some(&subnet)));

    let connections = format!("{vault}/privateEndpointConnections");
    let list = lab.arm("GET", &connections, None).await.expect(200).body;
    let connection = list["value"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(list["value"][0]["properties"]["privateEndpoint"]["id"], pe.as_str());
    let shown = lab.arm("GET", &vault, None).await.expect(200).body;
    assert_eq!(shown["properties"]["privateEndpointConnections"][0]["id"], connection.as_str());
    let set = |status: &str| json!({ "properties": { "privateLinkServiceConnectionState": { "status": status, "description": "why" } } });
    let rejected = lab.arm("PUT", &connection, Some(set("Rejected"))).await.expect(200).body;
    assert_eq!(rejected["properties"]["privateLinkServiceConnectionState"]["description"], "why");
    lab.keys("GET", "kv1", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");
    assert_eq!(state(&lab.arm("GET", &pe, None).await.expect(200).body), "Rejected");
    lab.arm("PUT", &connection, Some(set("Maybe"))).await.refused(400, "InvalidRequestContent");
    lab.arm("PUT", &format!("{connections}/none"), Some(set("Approved"))).await.refused(404, "ResourceNotFound");

    let accepted = lab.arm("DELETE", &connection, None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    lab.arm("DELETE", &connection, None).await.expect(204);
    assert_eq!(state(&lab.arm("GET", &pe, None).await.expect(200).body), "Disconnected");
    let accepted = lab.arm("DELETE", &pe, None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    lab.arm("GET", &pe, None).await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn without_the_right_to_approve_a_connection_waits() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    with_network(&lab).await;
    let vault = lab.vault_id("kv1");
    lab.arm("PUT", &lab.grant_path(&lab.group(), 7), Some(lab.grant_body(NETWORK_CONTRIBUTOR, OUTSIDER)))
        .await
        .expect(201);
    let (id, secret) = lab.sim.outsider();
    let token = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    let pe = endpoint(&lab, "pe2");
    let auto = aim(&lab, "privateLinkServiceConnections", &vault, "vault");
    let refused = lab.arm_as(&token, "PUT", &pe, Some(auto)).await.refused(403, "LinkedAuthorizationFailed");
    assert!(refused.message().contains("rivateEndpointConnectionsApproval/action"), "{}", refused.message());
    let manual = aim(&lab, "manualPrivateLinkServiceConnections", &vault, "vault");
    let made = lab.arm_as(&token, "PUT", &pe, Some(manual)).await.expect(201).body;
    let row = &made["properties"]["manualPrivateLinkServiceConnections"][0]["properties"];
    assert_eq!(row["privateLinkServiceConnectionState"]["status"], "Pending");
    assert_eq!(row["privateLinkServiceConnectionState"]["description"], "please");
    let list = lab.arm("GET", &format!("{vault}/privateEndpointConnections"), None).await.expect(200).body;
    let connection = list["value"][0]["id"].as_str().expect("an id").to_owned();
    lab.arm_as(&token, "GET", &connection, None).await.refused(403, "AuthorizationFailed");
    let set = json!({ "properties": { "privateLinkServiceConnectionState": { "status": "Approved" } } });
    lab.arm("PUT", &connection, Some(set)).await.expect(200);
    let shown = lab.arm("GET", &pe, None).await.expect(200).body;
    let row = &shown["properties"]["manualPrivateLinkServiceConnections"][0]["properties"];
    assert_eq!(row["privateLinkServiceConnectionState"]["status"], "Approved");
}

#[tokio::test]
async fn networks_are_checked_listed_and_go_with_their_group() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    with_network(&lab).await;
    let subnet = |name: &str| format!("{}/subnets/{name}", network(&lab));
    let body = |prefix: &str| json!({ "properties": { "addressPrefix": prefix } });
    lab.arm("PUT", &subnet("third"), Some(body("10.1.2.0/24"))).await.expect(201);
    lab.arm("PUT", &subnet("wide"), Some(body("10.2.0.0/24"))).await.refused(400, "NetcfgInvalidSubnet");
    lab.arm("GET", &subnet("none"), None).await.refused(404, "NotFound");
    let bad = json!({ "location": "uksouth", "properties": { "addressSpace": { "addressPrefixes": ["10/8"] } } });
    lab.arm("PUT", &format!("{}2", network(&lab)), Some(bad)).await.refused(400, "InvalidAddressPrefixFormat");
    let pe = endpoint(&lab, "pe1");
    let target = aim(&lab, "privateLinkServiceConnections", &lab.vault_id("kv1"), "vault");
    lab.arm("PUT", &pe, Some(target)).await.expect(201);
    lab.arm("DELETE", &subnet("far"), None).await.refused(400, "InUseSubnetCannotBeDeleted");
    lab.arm("DELETE", &network(&lab), None).await.refused(400, "InUseSubnetCannotBeDeleted");
    let accepted = lab.arm("DELETE", &subnet("third"), None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let list = lab.arm("GET", &format!("{}/subnets", network(&lab)), None).await.expect(200).body;
    assert_eq!(list["value"].as_array().map(Vec::len), Some(2));
    let all = format!("/subscriptions/{}/providers/Microsoft.Network", lab.sim.subscription_id());
    for kind in ["virtualNetworks", "privateEndpoints"] {
        let list = lab.arm("GET", &format!("{all}/{kind}"), None).await.expect(200).body;
        assert_eq!(list["value"].as_array().map(Vec::len), Some(1), "{kind}");
    }
    lab.arm("GET", &format!("{}/providers/Microsoft.Network/loadBalancers/x", lab.group()), None)
        .await
        .refused(501, "NotPlayedBySimulator");
    let accepted = lab.arm("DELETE", &lab.group(), None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let list = lab.arm("GET", &format!("{all}/virtualNetworks"), None).await.expect(200).body;
    assert_eq!(list["value"], json!([]));
}

#[tokio::test]
async fn the_control_api_says_where_callers_stand() {
    let lab = Lab::start().await;
    lab.ground().await;
    with_network(&lab).await;
    let url = format!("{}/_sim/network", lab.sim.arm_url());
    let subnet = format!("{}/subnets/near", network(&lab));
    assert_eq!(lab.send("GET", &url, "", None).await.expect(200).body, json!({ "subnet": null }));
    let set = lab.send("PUT", &url, "", Some(&json!({ "subnet": subnet }))).await.expect(200).body;
    assert_eq!(set["subnet"], subnet.to_lowercase());
    lab.send("PUT", &url, "", Some(&json!({ "subnet": "/x" }))).await.refused(404, "NoSuchSubnet");
    lab.send("PUT", &url, "", Some(&json!({ "subnet": null }))).await.expect(200);
}
