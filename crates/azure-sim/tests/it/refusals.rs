//! Wrong requests and the words in which Azure refuses them. No refusal changes anything.

use azure_sim::Filter;
use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, ENCRYPTION_USER, Lab};

fn merge(mut base: Value, path: &str, value: Value) -> Value {
    let mut at = &mut base;
    for name in path.split('.') {
        at = &mut at[name];
    }
    *at = value;
    base
}

#[tokio::test]
async fn arm_refuses_wrong_requests() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let before = lab.sim.journal().last_seq();
    let (group, vault, identity) = (lab.group(), lab.vault_id("kv1"), lab.identity_id());
    let (other, account) = (lab.vault_id("kv2"), lab.account_id("stx1"));
    let body = lab.vault_body();
    let location = json!({ "location": "uksouth" });
    let prop = |name: &str, value: Value| Some(merge(body.clone(), &format!("properties.{name}"), value));
    let acl = |value: &str| {
        let rules = json!({ "defaultAction": "Deny", "ipRules": [{ "value": value }] });
        Some(merge(body.clone(), "properties.networkAcls", rules))
    };
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let account_with = |path: &str, value: Value| Some(merge(plain.clone(), path, value));
    let missing = format!("/subscriptions/{}/resourceGroups/none", lab.sim.subscription_id());
    let stranger = "/subscriptions/99999999-0000-4000-8000-000000000000/resourceGroups/rg1";
    let table: Vec<(&str, String, Option<Value>, u16, &str)> = vec![
        ("PUT", format!("{group}?x=1"), Some(location.clone()), 400, "MissingApiVersionParameter"),
        ("PUT", format!("{group}?api-version=latest"), Some(location.clone()), 400, "InvalidApiVersionParameter"),
        ("PUT", group.clone(), Some(json!({ "location": "mars" })), 400, "LocationNotAvailableForResourceType"),
        ("PUT", group.clone(), Some(json!({ "location": "ukwest" })), 409, "InvalidResourceGroupLocation"),
        ("PUT", group.clone(), Some(json!({})), 400, "LocationRequired"),
        ("PUT", group.clone(), Some(json!({ "location": "uksouth", "colour": "red" })), 400, "InvalidRequestContent"),
        ("PUT", group.clone(), Some(json!([])), 400, "InvalidRequestContent"),
        ("PUT", group.clone(), None, 400, "InvalidRequestContent"),
        ("POST", group.clone(), None, 405, "MethodNotAllowed"),
        ("GET", missing.clone(), None, 404, "ResourceGroupNotFound"),
        ("GET", stranger.to_owned(), None, 404, "SubscriptionNotFound"),
        (
            "PUT",
            format!("{missing}/providers/Microsoft.KeyVault/vaults/kv9"),
            Some(body.clone()),
            404,
            "ResourceGroupNotFound",
        ),
        ("GET", format!("{group}/providers/Microsoft.KeyVault/wells/x"), None, 404, "InvalidResourceType"),
        ("GET", format!("{group}/providers/Contoso.Things/x/y"), None, 404, "InvalidResourceNamespace"),
        ("GET", format!("{group}/providers/Microsoft.Web/sites/y"), None, 501, "NotPlayedBySimulator"),
        ("GET", other.clone(), None, 404, "ResourceNotFound"),
        ("PUT", vault.clone(), prop("enablePurgeProtection", json!(false)), 400, "BadRequest"),
        ("PUT", other.clone(), prop("enablePurgeProtection", json!(false)), 400, "BadRequest"),
        ("PATCH", vault.clone(), Some(json!({ "properties": { "enablePurgeProtection": false } })), 400, "BadRequest"),
        ("PUT", vault.clone(), prop("softDeleteRetentionInDays", json!(30)), 400, "BadRequest"),
        ("PUT", other.clone(), prop("softDeleteRetentionInDays", json!(6)), 400, "BadRequest"),
        ("PUT", other.clone(), prop("enableSoftDelete", json!(false)), 400, "BadRequest"),
        ("PUT", other.clone(), prop("tenantId", json!("99999999-0000-4000-8000-000000000000")), 400, "BadRequest"),
        ("PUT", other.clone(), prop("sku", json!({ "family": "A", "name": "gold" })), 400, "InvalidRequestContent"),
        ("PUT", other.clone(), prop("purgeProtection", json!(true)), 400, "InvalidRequestContent"),
        ("PUT", other.clone(), prop("createMode", json!("recover")), 404, "DeletedVaultNotFound"),
        ("PUT", other.clone(), acl("10.0.0.0/8"), 400, "BadRequest"),
        ("PUT", other.clone(), acl("2001:db8::/32"), 400, "BadRequest"),
        ("PUT", vault.clone(), Some(merge(body.clone(), "location", json!("ukwest"))), 409, "InvalidResourceLocation"),
        ("PUT", lab.vault_id("k"), Some(body.clone()), 400, "VaultNameNotValid"),
        ("PUT", identity.clone(), Some(json!({ "location": "ukwest" })), 409, "InvalidResourceLocation"),
        ("PUT", account.clone(), account_with("kind", json!("BlobStorage5")), 400, "InvalidRequestContent"),
        (
            "PUT",
            account.clone(),
            account_with("properties", json!({ "minimumTlsVersion": "1.2" })),
            400,
            "InvalidRequestContent",
        ),
        ("PUT", lab.account_id("Upper"), Some(plain.clone()), 400, "AccountNameInvalid"),
        ("PATCH", account.clone(), Some(json!({ "tags": {} })), 404, "ResourceNotFound"),
        (
            "PUT",
            account.clone(),
            account_with("identity", json!({ "type": "UserAssigned" })),
            400,
            "InvalidIdentityRequest",
        ),
        (
            "PUT",
            account.clone(),
            account_with("identity", json!({ "type": "UserAssigned", "userAssignedIdentities": { "x": {} } })),
            400,
            "LinkedInvalidPropertyId",
        ),
        (
            "PUT",
            account.clone(),
            account_with(
                "identity",
                json!({ "type": "UserAssigned", "userAssignedIdentities": { identity.clone(): {}, format!("{identity}x"): {} } }),
            ),
            400,
            "InvalidIdentityRequest",
        ),
        (
            "PUT",
            account,
            account_with(
                "identity",
                json!({ "type": "UserAssigned", "userAssignedIdentities": { format!("{identity}x"): {} } }),
            ),
            400,
            "FailedIdentityOperation",
        ),
    ];
    for (method, path, body, status, code) in table {
        let answer = lab.arm(method, &path, body.clone()).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{method} {path} {body:?}: {}",
            answer.body
        );
    }
    let changed = Filter { changed: Some(true), after: Some(before), ..Filter::default() };
    assert_eq!(lab.sim.journal().count(&changed), 0);
}

#[tokio::test]
async fn role_assignments_conflict_as_in_azure() {
    let lab = Lab::start().await;
    lab.ground().await;
    let me = lab.sim.object_id().to_owned();
    let vault = lab.vault_id("kv1");
    lab.grant(1, ADMINISTRATOR, &me).await.expect(201);
    lab.grant(1, ADMINISTRATOR, &me).await.expect(200);
    lab.grant(2, ADMINISTRATOR, &me).await.refused(409, "RoleAssignmentExists");
    lab.grant(1, ENCRYPTION_USER, &me).await.refused(409, "RoleAssignmentUpdateNotPermitted");
    let unknown = "99999999-0000-4000-8000-000000000000";
    lab.grant(3, unknown, &me).await.refused(404, "RoleDefinitionDoesNotExist");
    let mut body = lab.grant_body(ENCRYPTION_USER, &me);
    let path = lab.grant_path(&vault, 4);
    body["properties"]["principalId"] = json!("x");
    lab.arm("PUT", &path, Some(body.clone())).await.refused(400, "InvalidPrincipalId");
    body["properties"]["principalId"] = json!(unknown);
    body["properties"].as_object_mut().expect("an object").remove("principalType");
    lab.arm("PUT", &path, Some(body.clone())).await.refused(400, "PrincipalNotFound");
    body["properties"]["principalId"] = json!(me);
    body["properties"]["principalType"] = json!("User");
    lab.arm("PUT", &path, Some(body.clone())).await.refused(400, "UnmatchedPrincipalType");
    let bad_name = format!("{vault}/providers/Microsoft.Authorization/roleAssignments/nope");
    lab.arm("PUT", &bad_name, Some(body)).await.refused(400, "InvalidRoleAssignmentId");
    lab.arm("GET", &path, None).await.refused(404, "RoleAssignmentNotFound");
    let nowhere = lab.grant_path(&lab.vault_id("nope"), 5);
    lab.arm("PUT", &nowhere, Some(lab.grant_body(ADMINISTRATOR, &me))).await.refused(404, "ResourceNotFound");

    let list = |filter: &str| {
        format!("{vault}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01&$filter={filter}")
    };
    let mine = lab.arm("GET", &list(&format!("principalId%20eq%20'{me}'")), None).await.expect(200);
    assert_eq!(mine.body["value"].as_array().map(Vec::len), Some(2), "Owner above, Administrator here");
    let above = lab.arm("GET", &list("atScope()"), None).await.expect(200);
    assert_eq!(above.body["value"].as_array().map(Vec::len), Some(2));
    lab.arm("GET", &list("colour%20eq%20'red'"), None).await.refused(400, "UnsupportedQuery");
    let roles = format!(
        "{vault}/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-05-01-preview&$filter=roleName+eq+'Key+Vault+Administrator'"
    );
    let role = lab.arm("GET", &roles, None).await.expect(200);
    assert_eq!(role.body["value"].as_array().map(Vec::len), Some(1));
    assert_eq!(role.body["value"][0]["name"], ADMINISTRATOR);
    let deleted = lab.grant_path(&vault, 1);
    lab.arm("DELETE", &deleted, None).await.expect(200);
    lab.arm("DELETE", &deleted, None).await.expect(204);
}

#[tokio::test]
async fn the_outsider_gets_nothing() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let (id, secret) = lab.sim.outsider();
    let (id, secret) = (id.to_owned(), secret.to_owned());
    let arm = lab.token_as(&id, &secret, "https://management.azure.com/.default").await;
    let vault = lab.token_as(&id, &secret, "https://vault.azure.net/.default").await;
    for (method, path) in [
        ("GET", lab.group()),
        ("PUT", lab.group()),
        ("DELETE", lab.group()),
        ("GET", lab.vault_id("kv1")),
        ("PUT", lab.vault_id("kv9")),
        ("PUT", lab.account_id("stx1")),
        ("PUT", lab.grant_path(&lab.vault_id("kv1"), 9)),
        ("DELETE", lab.identity_id()),
    ] {
        let answer = lab.arm_as(&arm, method, &path, Some(json!({}))).await.refused(403, "AuthorizationFailed");
        assert!(answer.message().contains(&format!("The client '{id}' with object id")), "{}", answer.message());
    }
    let subscriptions = lab.arm_as(&arm, "GET", "/subscriptions", None).await.expect(200);
    assert_eq!(subscriptions.body["value"], json!([]));
    for (method, path) in [
        ("GET", "/keys"),
        ("GET", "/keys/none"),
        ("GET", "/keys/k1/"),
        ("POST", "/keys/k1/create"),
        ("DELETE", "/keys/k1"),
        ("POST", "/keys/k1/wrapkey"),
        ("PUT", "/keys/k1/rotationpolicy"),
        ("POST", "/deletedkeys/k1/recover"),
    ] {
        let answer = lab.keys_as(&vault, method, "kv1", path, Some(json!({}))).await;
        answer.refused(403, "Forbidden/ForbiddenByRbac");
    }
    let answer = lab.keys_as(&vault, "POST", "kv1", "/keys/k1/create", Some(json!({}))).await;
    let text = answer.message().to_owned();
    assert!(text.contains("Action: 'Microsoft.KeyVault/vaults/keys/create/action'\r\n"), "{text}");
    assert!(text.contains("Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: kv1;location=uksouth\r\n"), "{text}");
}

#[tokio::test]
async fn an_identity_is_attached_only_by_who_may_assign_it() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (id, secret) = lab.sim.outsider();
    let (id, secret) = (id.to_owned(), secret.to_owned());
    let contributor = "17d1049b-9a84-46fb-8f53-869881c3d3ab";
    let outsider = "66666666-6666-4666-8666-666666666666";
    let path = lab.grant_path(&lab.group(), 7);
    lab.arm("PUT", &path, Some(lab.grant_body(contributor, outsider))).await.expect(201);
    let arm = lab.token_as(&id, &secret, "https://management.azure.com/.default").await;
    let body = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" },
        "identity": { "type": "UserAssigned", "userAssignedIdentities": { lab.identity_id(): {} } } });
    let account = lab.account_id("stx1");
    lab.arm_as(&arm, "PUT", &account, Some(body.clone())).await.refused(403, "LinkedAuthorizationFailed");
    let operator = "f1a07417-d97a-45cb-824c-7a7467783830";
    let path = lab.grant_path(&lab.identity_id(), 8);
    lab.arm("PUT", &path, Some(lab.grant_body(operator, outsider))).await.expect(201);
    lab.arm_as(&arm, "PUT", &account, Some(body)).await.expect(202);
}

#[tokio::test]
async fn a_custom_role_gives_what_it_lists_and_not_what_it_takes_away() {
    let lab = Lab::start().await;
    lab.ground().await;
    let guid = "77777777-7777-4777-8777-777777777777";
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    let path = format!("{subscription}/providers/Microsoft.Authorization/roleDefinitions/{guid}");
    let role = json!({ "properties": { "roleName": "Vault Looker", "assignableScopes": [subscription], "permissions": [{
        "actions": ["Microsoft.KeyVault/*/read", "Microsoft.KeyVault/vaults/write"],
        "notActions": ["Microsoft.KeyVault/vaults/write"] }] } });
    lab.arm("PUT", &path, Some(role)).await.expect(201);
    let outsider = "66666666-6666-4666-8666-666666666666";
    lab.arm("PUT", &lab.grant_path(&lab.group(), 7), Some(lab.grant_body(guid, outsider))).await.expect(201);
    let (id, secret) = lab.sim.outsider();
    let arm = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&arm, "GET", &lab.vault_id("kv1"), None).await.expect(200);
    let write = lab.arm_as(&arm, "PUT", &lab.vault_id("kv1"), Some(lab.vault_body())).await;
    write.refused(403, "AuthorizationFailed");
    lab.arm("DELETE", &path, None).await.refused(409, "RoleDefinitionHasAssignments");
    let built_in = format!("{subscription}/providers/Microsoft.Authorization/roleDefinitions/{ADMINISTRATOR}");
    lab.arm("DELETE", &built_in, None).await.refused(403, "RoleDefinitionNotWritable");
}
