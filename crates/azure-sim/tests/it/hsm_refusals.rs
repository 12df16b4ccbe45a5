//! What managed HSMs refuse, on ARM and on their data plane, and the scopes of local roles.

use serde_json::{Value, json};

use crate::client::Lab;
use crate::hsm::{ADMINISTRATOR, AUDITOR, ENCRYPTION_USER, USER, local_grant_path};

fn with(mut body: Value, path: &str, value: Value) -> Value {
    *body.pointer_mut(path).expect("the member is there") = value;
    body
}

fn plus(mut body: Value, name: &str, value: Value) -> Value {
    body["properties"][name] = value;
    body
}

#[tokio::test]
async fn bodies_that_make_no_hsm() {
    let lab = Lab::start().await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let good = lab.hsm_body();
    let rules: Vec<Value> = (0..11).map(|i| json!({ "value": format!("198.51.100.{i}") })).collect();
    for (name, body, code) in [
        ("hsm1", with(good.clone(), "/properties/initialAdminObjectIds", json!([])), "BadRequest"),
        ("hsm1", with(good.clone(), "/properties/softDeleteRetentionInDays", json!(6)), "BadRequest"),
        ("hsm1", with(good.clone(), "/properties/softDeleteRetentionInDays", json!(91)), "BadRequest"),
        ("hsm1", with(good.clone(), "/sku/family", json!("C")), "BadRequest"),
        ("hsm1", with(good.clone(), "/sku/name", json!("Huge_B9")), "InvalidRequestContent"),
        ("hsm1", with(good.clone(), "/location", json!("moon")), "LocationNotAvailableForResourceType"),
        ("hsm1", plus(good.clone(), "enableSoftDelete", json!(false)), "BadRequest"),
        ("hsm1", plus(good.clone(), "enableRbacAuthorization", json!(true)), "InvalidRequestContent"),
        ("hsm1", plus(good.clone(), "networkAcls", json!({ "ipRules": rules })), "BadRequest"),
        ("hsm1", plus(good.clone(), "networkAcls", json!({ "ipRules": [{ "value": "10.0.0.1" }] })), "BadRequest"),
        ("hsm1", plus(good.clone(), "networkAcls", json!({ "ipRules": [{ "value": "2001:db8::1" }] })), "BadRequest"),
        ("hsm1", plus(good.clone(), "networkAcls", json!({ "virtualNetworkRules": [{ "id": "/x" }] })), "BadRequest"),
        ("hsm-1", good.clone(), "ManagedHsmNameNotValid"),
        ("1hsm", good.clone(), "ManagedHsmNameNotValid"),
        ("hs", good.clone(), "ManagedHsmNameNotValid"),
    ] {
        let answer = lab.arm("PUT", &lab.hsm_id(name), Some(body.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{name} {body}: {}", answer.body);
    }
    let recover = plus(good, "createMode", json!("recover"));
    lab.arm("PUT", &lab.hsm_id("hsm1"), Some(recover)).await.refused(404, "DeletedManagedHsmNotFound");
    assert_eq!(lab.sim.normalized()["managedHsms"], json!({}));
}

#[tokio::test]
async fn what_an_hsm_has_once_it_keeps() {
    let lab = Lab::start().await;
    lab.provisioned(lab.hsm_body()).await;
    let id = lab.hsm_id("hsm1");
    for patch in [
        json!({ "properties": { "enablePurgeProtection": false } }),
        json!({ "properties": { "softDeleteRetentionInDays": 8 } }),
        json!({ "sku": { "family": "B", "name": "Custom_B32" } }),
    ] {
        lab.arm("PATCH", &id, Some(patch)).await.refused(400, "BadRequest");
    }
    let moved = with(lab.hsm_body(), "/location", json!("ukwest"));
    lab.arm("PUT", &id, Some(moved)).await.refused(409, "InvalidResourceLocation");
    let same = lab.arm("PUT", &id, Some(lab.hsm_body())).await.expect(200);
    assert_eq!(same.body["properties"]["enablePurgeProtection"], true);
    let (outsider, secret) = lab.sim.outsider();
    let foreign = lab.token_as(outsider, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&foreign, "GET", &id, None).await.refused(403, "AuthorizationFailed");
    lab.arm_as(&foreign, "DELETE", &id, None).await.refused(403, "AuthorizationFailed");
    assert_eq!(
        lab.arm("GET", &format!("{id}/privateEndpointConnections"), None).await.expect(200).body["value"],
        json!([])
    );
    lab.arm("GET", &format!("{id}/keys"), None).await.refused(400, "HsmNotActivated");
    lab.arm("GET", &format!("{id}/backups"), None).await.refused(501, "NotPlayedBySimulator");
    let elsewhere = id.replace("rg1", "rg2");
    lab.arm("PUT", &elsewhere, Some(lab.hsm_body())).await.refused(404, "ResourceGroupNotFound");
    let body = json!({ "location": "uksouth" });
    lab.arm("PUT", &lab.group().replace("rg1", "rg2"), Some(body)).await.expect(201);
    lab.arm("PUT", &elsewhere, Some(lab.hsm_body())).await.refused(409, "ManagedHsmAlreadyExists");
}

#[tokio::test]
async fn the_firewall_stands_before_the_roles() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    let acls = |address: &str| json!({ "properties": { "networkAcls": { "defaultAction": "Deny", "bypass": "None", "ipRules": [{ "value": address }] } } });
    lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(acls("198.51.100.1"))).await.expect(200);
    lab.hsm("GET", "/keys", None).await.refused(403, "Forbidden/ForbiddenByFirewall");
    let open = lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(acls("203.0.113.10"))).await.expect(200);
    assert_eq!(open.body["properties"]["networkAcls"]["ipRules"][0]["value"], "203.0.113.10/32");
    lab.hsm("GET", "/keys", None).await.expect(200);
    let closed = json!({ "properties": { "publicNetworkAccess": "Disabled" } });
    lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(closed)).await.expect(200);
    lab.hsm("GET", "/keys", None).await.refused(403, "Forbidden/ForbiddenByConnection");
}

#[tokio::test]
async fn keys_of_wrong_kinds_and_security_domains_of_wrong_holders() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    for body in [
        json!({ "kty": "RSA" }),
        json!({ "kty": "EC" }),
        json!({ "kty": "oct" }),
        json!({ "kty": "oct-HSM", "key_size": 512 }),
        json!({ "kty": "RSA-HSM", "key_size": 1024 }),
        json!({ "kty": "oct-HSM", "key_ops": ["sign"] }),
    ] {
        let answer = lab.hsm("POST", "/keys/k1/create", Some(body.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "BadParameter"), "{body}");
    }
    lab.hsm("GET", "/keys/k1", None).await.refused(404, "KeyNotFound");
    lab.hsm("POST", "/rng", Some(json!({ "count": 129 }))).await.refused(400, "BadParameter");
    for body in [
        json!({}),
        json!({ "certificates": [{}, {}], "required": 2 }),
        json!({ "certificates": [{}, {}, {}], "required": 4 }),
        json!({ "certificates": [{}, {}, {}], "required": 1 }),
        json!({ "certificates": [{ "kty": "EC" }, {}, {}], "required": 2 }),
    ] {
        lab.hsm("POST", "/securitydomain/download", Some(body)).await.refused(400, "BadParameter");
    }
    lab.hsm("POST", "/securitydomain/upload", Some(json!({}))).await.refused(501, "NotPlayedBySimulator");
    lab.hsm("POST", "/backup", Some(json!({}))).await.refused(501, "NotPlayedBySimulator");
    lab.hsm("GET", "/secrets", None).await.refused(404, "NotFound");
    // A rotation in an HSM comes 28 days after creation at the earliest.
    lab.hsm("POST", "/keys/k1/create", Some(json!({ "kty": "RSA-HSM" }))).await.expect(200);
    let policy = |days: &str| json!({ "lifetimeActions": [{ "trigger": { "timeAfterCreate": days }, "action": { "type": "Rotate" } }] });
    lab.hsm("PUT", "/keys/k1/rotationpolicy", Some(policy("P27D"))).await.refused(400, "BadParameter");
    lab.hsm("PUT", "/keys/k1/rotationpolicy", Some(policy("P28D"))).await.expect(200);
}

#[tokio::test]
async fn an_hsm_keeps_a_hundred_versions_of_a_key() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    let create = json!({ "kty": "oct-HSM", "key_size": 128 });
    let token = lab.token("https://managedhsm.azure.net/.default").await;
    for _ in 0..100 {
        lab.hsm_as(&token, "POST", "/keys/k1/create", Some(create.clone())).await.expect(200);
    }
    lab.hsm_as(&token, "POST", "/keys/k1/create", Some(create)).await.refused(400, "BadParameter");
}

#[tokio::test]
async fn local_assignments_have_scopes_lists_and_conflicts() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    let me = lab.sim.object_id().to_owned();
    let other = "77777777-0000-4000-8000-000000000001";
    let made = lab.local_grant(5, "/keys/k1", ENCRYPTION_USER, other).await.expect(201).body;
    assert_eq!(made["id"], local_grant_path("/keys/k1", 5).replacen('/', "", 1));
    assert_eq!(made["properties"]["scope"], "/keys/k1");
    let role = made["properties"]["roleDefinitionId"].as_str().expect("text");
    assert!(role.starts_with("Microsoft.KeyVault/providers/") && role.ends_with(ENCRYPTION_USER), "{role}");
    lab.local_grant(5, "/keys/k1", ENCRYPTION_USER, other).await.refused(409, "RoleAssignmentAlreadyExists");
    lab.local_grant(6, "/keys/k1", ENCRYPTION_USER, other).await.refused(409, "RoleAssignmentAlreadyExists");
    lab.local_grant(7, "/keys/k1", "99999999-0000-4000-8000-000000000001", other)
        .await
        .refused(404, "RoleDefinitionNotFound");
    lab.local_grant(7, "/secrets", USER, other).await.refused(400, "BadParameter");
    lab.local_grant(7, "/", USER, "nobody").await.refused(400, "BadParameter");
    let list = async |path: &str| {
        let path = format!("{path}/providers/Microsoft.Authorization/roleAssignments");
        lab.hsm("GET", &path, None).await.expect(200).body["value"].as_array().expect("a list").len()
    };
    // The administrator of the activation and the user of the test are at `/`.
    assert_eq!((list("//").await, list("/keys").await, list("/keys/k1").await), (2, 0, 1));
    let mine = format!("/providers/Microsoft.Authorization/roleAssignments?$filter=principalId%20eq%20'{me}'");
    let mine = lab.hsm("GET", &mine, None).await.expect(200);
    assert_eq!(mine.body["value"].as_array().map(Vec::len), Some(2));
    let above = "/keys/k1/providers/Microsoft.Authorization/roleAssignments?$filter=atScope()";
    assert_eq!(lab.hsm("GET", above, None).await.expect(200).body["value"].as_array().map(Vec::len), Some(3));
    lab.hsm("GET", &local_grant_path("/keys", 5), None).await.refused(404, "RoleAssignmentNotFound");
    lab.hsm("GET", &local_grant_path("/keys/k1", 5), None).await.expect(200);
    lab.hsm("DELETE", &local_grant_path("/keys/k1", 5), None).await.expect(200);
    let gone = lab.hsm("DELETE", &local_grant_path("/keys/k1", 5), None).await.refused(404, "RoleAssignmentNotFound");
    assert!(gone.message().starts_with("Requested role assignment not found (Activity ID: "), "{}", gone.message());
}

#[tokio::test]
async fn roles_reach_as_far_as_their_scope_and_custom_ones_as_told() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    for name in ["k1", "k2"] {
        lab.hsm("POST", &format!("/keys/{name}/create"), Some(json!({ "kty": "RSA-HSM" }))).await.expect(200);
    }
    let (id, secret) = lab.sim.outsider();
    let token = lab.token_as(id, secret, "https://managedhsm.azure.net/.default").await;
    let outsider = azure_sim::Options::default().outsider_object_id;
    lab.local_grant(5, "/keys/k1", AUDITOR, &outsider).await.expect(201);
    lab.hsm_as(&token, "GET", "/keys/k1", None).await.expect(200);
    lab.hsm_as(&token, "GET", "/keys/k2", None).await.refused(403, "AccessDenied");
    lab.hsm_as(&token, "GET", "/keys", None).await.refused(403, "AccessDenied");
    let grant = json!({ "properties": { "roleDefinitionId": ADMINISTRATOR, "principalId": outsider } });
    lab.hsm_as(&token, "PUT", &local_grant_path("/", 9), Some(grant)).await.refused(403, "AccessDenied");

    let guid = "88888888-0000-4000-8000-000000000001";
    let path = format!("///providers/Microsoft.Authorization/roleDefinitions/{guid}");
    let role = |action: &str| {
        json!({ "properties": { "roleName": "Lister", "type": "CustomRole", "assignableScopes": ["/"],
            "permissions": [{ "dataActions": [action] }] } })
    };
    lab.hsm("PUT", &path, Some(role("Microsoft.KeyVault/vaults/keys/read"))).await.refused(400, "BadParameter");
    let made = lab.hsm("PUT", &path, Some(role("Microsoft.KeyVault/managedHsm/keys/read/action"))).await.expect(201);
    assert_eq!(made.body["properties"]["type"], "CustomRole");
    lab.local_grant(6, "/keys", guid, &outsider).await.expect(201);
    lab.hsm_as(&token, "GET", "/keys", None).await.expect(200);
    lab.hsm("DELETE", &path, None).await.refused(409, "RoleDefinitionHasAssignments");
    lab.hsm("DELETE", &local_grant_path("/keys", 6), None).await.expect(200);
    lab.hsm("DELETE", &path, None).await.expect(200);
    lab.hsm("GET", &path, None).await.refused(404, "RoleDefinitionNotFound");
    let all = lab.hsm("GET", "///providers/Microsoft.Authorization/roleDefinitions", None).await.expect(200);
    let names: Vec<&str> = all.body["value"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|r| r["properties"]["roleName"].as_str())
        .collect();
    assert_eq!(names.len(), 9);
    assert!(names.contains(&"Managed HSM Crypto Service Encryption User"), "{names:?}");
    let built_in = format!("///providers/Microsoft.Authorization/roleDefinitions/{ADMINISTRATOR}");
    lab.hsm("DELETE", &built_in, None).await.refused(403, "RoleDefinitionNotWritable");
}
