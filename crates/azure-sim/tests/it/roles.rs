//! Role assignments and definitions as clients read them: filters, spellings, pages, conflicts, limits, the roles' table.

use azure_sim::Options;
use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, Answer, ENCRYPTION_USER, Lab, options};

const OUTSIDER: &str = "66666666-6666-4666-8666-666666666666";

fn grants(scope: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleAssignments")
}

fn definitions(scope: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/roleDefinitions")
}

fn subscription(lab: &Lab) -> String {
    format!("/subscriptions/{}", lab.sim.subscription_id())
}

fn scopes_of(list: &Answer) -> Vec<String> {
    let items = list.body["value"].as_array().expect("a list");
    let mut scopes: Vec<String> =
        items.iter().map(|i| i["properties"]["scope"].as_str().expect("a scope").to_owned()).collect();
    scopes.sort();
    scopes
}

async fn put(lab: &Lab, scope: &str, number: u32, role: &str, principal: &str) -> Answer {
    lab.arm("PUT", &lab.grant_path(scope, number), Some(lab.grant_body(role, principal))).await
}

#[tokio::test]
async fn lists_are_narrowed_by_scope_and_principal() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (all, group, vault) = (subscription(&lab), lab.group(), lab.vault_id("kv1"));
    for (n, scope) in [&all, &group, &vault].into_iter().enumerate() {
        put(&lab, scope, u32::try_from(n).expect("small"), ENCRYPTION_USER, OUTSIDER).await.expect(201);
    }
    let owner = all.clone();
    let list = async |scope: &str, filter: &str| {
        let path = format!("{}?api-version=2022-04-01{filter}", grants(scope));
        scopes_of(&lab.arm("GET", &path, None).await.expect(200))
    };
    assert_eq!(list(&group, "").await, [owner.clone(), all.clone(), group.clone(), vault.clone()]);
    assert_eq!(list(&group, "&$filter=atScope()").await, [owner.clone(), all.clone(), group.clone()]);
    assert_eq!(
        list(&vault.to_lowercase(), "&%24filter=atScope%28%29").await,
        [owner, all.clone(), group.clone(), vault.clone()]
    );
    let three = [all.clone(), group.clone(), vault];
    for filter in [
        format!("&$filter=principalId eq '{OUTSIDER}'"),
        format!("&$filter=principalId+eq+'{}'", OUTSIDER.to_uppercase()),
        format!("&$filter=principalId%20eq%20%27{OUTSIDER}%27"),
        format!("&$filter=assignedTo('{OUTSIDER}')"),
    ] {
        assert_eq!(list(&group, &filter).await, three, "{filter}");
    }
    for filter in [
        format!("&$filter=atScope() and assignedTo('{OUTSIDER}')"),
        format!("&$filter=atScope()+and+principalId+eq+'{OUTSIDER}'"),
        format!("&$filter=principalId eq '{OUTSIDER}' and atScope()"),
    ] {
        assert_eq!(list(&group, &filter).await, [all.clone(), group.clone()], "{filter}");
    }
    for filter in ["principalId ne 'x'", "roleName eq 'x'", "atScope", "atScope() or atScope()", "assignedTo()", "'"] {
        let path = format!("{}?api-version=2022-04-01&$filter={filter}", grants(&group));
        lab.arm("GET", &path, None).await.refused(400, "UnsupportedQuery");
    }
}

#[tokio::test]
async fn assignments_are_paged() {
    let lab = Lab::with(Options { page_size: 2, ..options() }).await;
    lab.ground().await;
    for (n, role) in [ADMINISTRATOR, ENCRYPTION_USER].into_iter().enumerate() {
        put(&lab, &lab.group(), u32::try_from(n).expect("small"), role, OUTSIDER).await.expect(201);
    }
    let first = lab.arm("GET", &grants(&lab.group()), None).await.expect(200);
    assert_eq!(first.body["value"].as_array().map(Vec::len), Some(2));
    let link = first.body["nextLink"].as_str().expect("a link");
    let second = lab.send("GET", link, &lab.arm_token, None).await.expect(200);
    assert_eq!(second.body["value"].as_array().map(Vec::len), Some(1));
    assert!(second.body.get("nextLink").is_none());
}

#[tokio::test]
async fn an_assignment_is_answered_in_full_whatever_was_sent() {
    let lab = Lab::start().await;
    lab.ground().await;
    let path = lab.grant_path(&lab.vault_id("kv1").to_lowercase(), 1);
    // Terraform sends no type; the role may come as a bare or tenant-wide id.
    let body = json!({ "properties": { "principalId": lab.sim.object_id(), "description": "",
        "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{ENCRYPTION_USER}") } });
    let made = lab.arm("PUT", &path, Some(body.clone())).await.expect(201);
    let shown = &made.body["properties"];
    assert_eq!(shown["principalType"], "ServicePrincipal");
    assert_eq!(shown["scope"], lab.vault_id("kv1").as_str());
    assert_eq!(shown["description"], "");
    assert_eq!(shown["roleDefinitionId"], format!("{}/{ENCRYPTION_USER}", definitions(&subscription(&lab))));
    for null in ["condition", "conditionVersion", "delegatedManagedIdentityResourceId"] {
        assert_eq!(shown.get(null), Some(&Value::Null), "{null}");
    }
    assert_eq!(made.body["id"], lab.grant_path(&lab.vault_id("kv1"), 1).as_str());
    assert_eq!(made.body["type"], "Microsoft.Authorization/roleAssignments");
    // The same again is 200; description and condition may change.
    lab.arm("PUT", &path, Some(body.clone())).await.expect(200);
    lab.advance(5);
    let mut other = body.clone();
    other["properties"]["description"] = "why".into();
    other["properties"]["condition"] = "true".into();
    other["properties"]["conditionVersion"] = "2.0".into();
    let changed = lab.arm("PUT", &path, Some(other)).await.expect(200);
    let now = &changed.body["properties"];
    assert_eq!(
        (&now["description"], &now["condition"], &now["conditionVersion"]),
        (&json!("why"), &json!("true"), &json!("2.0"))
    );
    assert!(now["createdOn"] == shown["createdOn"] && now["updatedOn"] != shown["updatedOn"]);
    // Another name for the same is a conflict that tells of the first.
    let twin =
        lab.arm("PUT", &lab.grant_path(&lab.vault_id("kv1"), 2), Some(body)).await.refused(409, "RoleAssignmentExists");
    assert_eq!(
        twin.message(),
        "The role assignment already exists. The ID of the existing role assignment is 00000000000040008000000000000001."
    );
    let gone = lab.arm("DELETE", &path, None).await.expect(200);
    assert_eq!(gone.body["id"], made.body["id"]);
    lab.arm("DELETE", &path, None).await.expect(204);
    lab.arm("GET", &path, None).await.refused(404, "RoleAssignmentNotFound");
}

#[tokio::test]
async fn the_limit_can_be_set() {
    // The operator's own is the first.
    let lab = Lab::with(Options { role_assignment_limit: 2, ..options() }).await;
    lab.ground().await;
    put(&lab, &lab.group(), 1, ENCRYPTION_USER, OUTSIDER).await.expect(201);
    put(&lab, &lab.group(), 2, ADMINISTRATOR, OUTSIDER).await.refused(400, "RoleAssignmentLimitExceeded");
    put(&lab, &lab.group(), 1, ENCRYPTION_USER, OUTSIDER).await.expect(200);
}

#[tokio::test]
async fn roles_are_found_by_name_and_by_guid() {
    let lab = Lab::start().await;
    lab.ground().await;
    let vault = lab.vault_id("kv1");
    let data =
        |names: &[&str]| -> Vec<String> { names.iter().map(|n| format!("Microsoft.KeyVault/vaults/{n}")).collect() };
    for (name, guid, actions) in [
        ("Key Vault Administrator", ADMINISTRATOR, data(&["*"])),
        ("Key Vault Reader", "21090545-7ca7-4776-b22c-e363652d74d2", data(&["*/read", "secrets/readMetadata/action"])),
        (
            "Key Vault Crypto Officer",
            "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
            data(&["keys/*", "keyrotationpolicies/*"]),
        ),
        (
            "Key Vault Crypto User",
            "12338af0-0e69-4776-bea7-57ae8d297424",
            data(&[
                "keys/read",
                "keys/update/action",
                "keys/backup/action",
                "keys/encrypt/action",
                "keys/decrypt/action",
                "keys/wrap/action",
                "keys/unwrap/action",
                "keys/sign/action",
                "keys/verify/action",
            ]),
        ),
        (
            "Key Vault Crypto Service Encryption User",
            ENCRYPTION_USER,
            data(&["keys/read", "keys/wrap/action", "keys/unwrap/action"]),
        ),
        (
            "Key Vault Crypto Service Release User",
            "08bbd89e-9f13-488c-ac41-acfcb10c90ab",
            data(&["keys/release/action"]),
        ),
        ("Key Vault Secrets Officer", "b86a8fe4-44ce-4948-aee5-eccb2c155cd7", data(&["secrets/*"])),
        (
            "Key Vault Secrets User",
            "4633458b-17de-408a-b874-0445c86b69e6",
            data(&["secrets/getSecret/action", "secrets/readMetadata/action"]),
        ),
        ("Key Vault Contributor", "f25e0fa2-a7c8-4377-a976-54943a77a395", vec![]),
        ("Key Vault Data Access Administrator", "8b54135c-b56d-4d72-a534-26097cfdc8d8", vec![]),
        ("Key Vault Purge Operator", "a68e7c17-0ab2-4c09-9a58-125dae29748c", vec![]),
        ("Managed HSM contributor", "18500a29-7fe2-46b2-a342-b16a415e101d", vec![]),
    ] {
        let plus = name.replace(' ', "+");
        for filter in [format!("roleName eq '{name}'"), format!("roleName+eq+'{plus}'")] {
            let path = format!("{}?api-version=2022-05-01-preview&$filter={filter}", definitions(&vault));
            let list = lab.arm("GET", &path, None).await.expect(200);
            let items = list.body["value"].as_array().expect("a list");
            assert_eq!(items.len(), 1, "{name}");
            assert_eq!(items[0]["id"], format!("{}/{guid}", definitions(&subscription(&lab))));
            let properties = &items[0]["properties"];
            assert_eq!((&properties["type"], &properties["assignableScopes"]), (&json!("BuiltInRole"), &json!(["/"])));
            assert_eq!(properties["permissions"][0]["dataActions"], json!(actions), "{name}");
        }
        for scope in [String::new(), subscription(&lab), vault.clone()] {
            let shown =
                lab.arm("GET", &format!("{}/{}", definitions(&scope), guid.to_uppercase()), None).await.expect(200);
            assert_eq!((&shown.body["name"], &shown.body["properties"]["roleName"]), (&json!(guid), &json!(name)));
        }
    }
    let none = format!("{}?api-version=2022-04-01&$filter=roleName eq 'Nobody'", definitions(&vault));
    assert_eq!(lab.arm("GET", &none, None).await.expect(200).body["value"], json!([]));
    let custom =
        format!("{}?api-version=2022-04-01&$filter=type eq 'CustomRole' and atScopeAndBelow()", definitions(&vault));
    assert_eq!(lab.arm("GET", &custom, None).await.expect(200).body["value"], json!([]));
    let wrong = format!("{}?api-version=2022-04-01&$filter=colour eq 'red'", definitions(&vault));
    lab.arm("GET", &wrong, None).await.refused(400, "UnsupportedQuery");
}

#[tokio::test]
async fn the_purge_operator_purges_and_the_data_access_administrator_grants() {
    let lab = Lab::start().await;
    lab.ground().await;
    let (id, secret) = lab.sim.outsider();
    let token = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    let mut open = lab.vault_body();
    open["properties"]["enablePurgeProtection"] = Value::Null;
    lab.arm("PUT", &lab.vault_id("kv2"), Some(open)).await.expect(201);
    let grant = lab.grant_path(&lab.vault_id("kv1"), 9);
    let body = lab.grant_body(ENCRYPTION_USER, lab.sim.object_id());
    lab.arm_as(&token, "PUT", &grant, Some(body.clone())).await.refused(403, "AuthorizationFailed");
    put(&lab, &lab.group(), 1, "8b54135c-b56d-4d72-a534-26097cfdc8d8", OUTSIDER).await.expect(201);
    lab.arm_as(&token, "PUT", &grant, Some(body)).await.expect(201);
    lab.arm("DELETE", &lab.vault_id("kv2"), None).await.expect(200);
    let purge =
        format!("{}/providers/Microsoft.KeyVault/locations/uksouth/deletedVaults/kv2/purge", subscription(&lab));
    lab.arm_as(&token, "POST", &purge, None).await.refused(403, "AuthorizationFailed");
    put(&lab, &subscription(&lab), 2, "a68e7c17-0ab2-4c09-9a58-125dae29748c", OUTSIDER).await.expect(201);
    lab.arm_as(&token, "POST", &purge, None).await.expect(202);
}
