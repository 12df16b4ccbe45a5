//! Management locks.

use serde_json::{Value, json};

use crate::client::{Answer, ENCRYPTION_USER, Lab};

fn lock_path(scope: &str, name: &str) -> String {
    format!("{scope}/providers/Microsoft.Authorization/locks/{name}")
}

fn body(level: &str) -> Option<Value> {
    Some(json!({ "properties": { "level": level, "notes": "hands off" } }))
}

async fn lock(lab: &Lab, scope: &str, level: &str) -> Answer {
    lab.arm("PUT", &lock_path(scope, "l1"), body(level)).await
}

async fn unlock(lab: &Lab, scope: &str) {
    lab.arm("DELETE", &lock_path(scope, "l1"), None).await.expect(200);
}

#[tokio::test]
async fn a_lock_is_written_read_listed_and_removed() {
    let lab = Lab::start().await;
    lab.ground().await;
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    for scope in [&subscription, &lab.group(), &lab.vault_id("kv1")] {
        let made = lock(&lab, scope, "cannotdelete").await.expect(201);
        assert_eq!(made.body["properties"]["level"], "CanNotDelete");
        assert_eq!(made.body["id"], lock_path(scope, "l1").as_str());
        lock(&lab, scope, "CanNotDelete").await.expect(200);
        let read = lab.arm("GET", &lock_path(&scope.to_uppercase(), "L1"), None).await.expect(200);
        assert_eq!(read.body, made.body);
    }
    let list = async |scope: &str, filter: &str| {
        let path = format!("{scope}/providers/Microsoft.Authorization/locks?api-version=2020-05-01{filter}");
        lab.arm("GET", &path, None).await.expect(200).body["value"].as_array().map(Vec::len)
    };
    assert_eq!(list(&lab.group(), "").await, Some(3));
    assert_eq!(list(&lab.group(), "&$filter=atScope()").await, Some(2));
    assert_eq!(list(&subscription, "&$filter=atScope()").await, Some(1));
    unlock(&lab, &subscription).await;
    lab.arm("GET", &lock_path(&subscription, "l1"), None).await.refused(404, "LockNotFound");
    lab.arm("DELETE", &lock_path(&subscription, "l1"), None).await.expect(204);
    lab.arm("PUT", &lock_path(&lab.group(), "l2"), body("Tight")).await.refused(400, "InvalidRequestContent");
    lock(&lab, &format!("{subscription}/resourceGroups/none"), "ReadOnly").await.refused(404, "ResourceGroupNotFound");
    lock(&lab, &lab.vault_id("none"), "ReadOnly").await.refused(404, "ResourceNotFound");
}

#[tokio::test]
async fn cannot_delete_holds_what_is_locked_above_and_below() {
    let lab = Lab::start().await;
    lab.ground().await;
    lab.grant(1, ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    let (group, vault) = (lab.group(), lab.vault_id("kv1"));
    let subscription = format!("/subscriptions/{}", lab.sim.subscription_id());
    let before = lab.sim.normalized();
    for scope in [&subscription, &group, &vault] {
        lock(&lab, scope, "CanNotDelete").await.expect(201);
        let refused = lab.arm("DELETE", &vault, None).await.refused(409, "ScopeLocked");
        assert_eq!(
            refused.message(),
            format!(
                "The scope '{vault}' cannot perform delete operation because following scope(s) are locked: '{scope}'. Please remove the lock and try again."
            )
        );
        // A lock on what is in a group holds the group.
        lab.arm("DELETE", &group, None).await.refused(409, "ScopeLocked");
        lab.arm("DELETE", &lab.grant_path(&vault, 1), None).await.refused(409, "ScopeLocked");
        lab.arm("PATCH", &vault, Some(json!({ "tags": {} }))).await.expect(200);
        unlock(&lab, scope).await;
    }
    assert_eq!(lab.sim.normalized(), before);
    lock(&lab, &vault, "CanNotDelete").await.expect(201);
    lab.arm("DELETE", &lab.identity_id(), None).await.expect(200);
    unlock(&lab, &vault).await;
    lab.arm("DELETE", &vault, None).await.expect(200);
}

#[tokio::test]
async fn read_only_holds_every_write_and_every_post() {
    let lab = Lab::start().await;
    lab.ground().await;
    let plain = json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } });
    let accepted = lab.arm("PUT", &lab.account_id("st1"), Some(plain.clone())).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let group = lab.group();
    lock(&lab, &group, "ReadOnly").await.expect(201);
    let account = lab.account_id("st1");
    for (method, path, body) in [
        ("PUT", group.clone(), json!({ "location": "uksouth" })),
        ("PATCH", group.clone(), json!({ "tags": {} })),
        ("DELETE", group.clone(), Value::Null),
        ("PUT", account.clone(), plain.clone()),
        ("PUT", lab.account_id("st2"), plain),
        ("PATCH", account.clone(), json!({ "tags": {} })),
        ("DELETE", account.clone(), Value::Null),
        ("POST", format!("{account}/listKeys"), Value::Null),
        ("PUT", lab.vault_id("kv1"), lab.vault_body()),
        ("PUT", lab.grant_path(&group, 1), lab.grant_body(ENCRYPTION_USER, lab.sim.object_id())),
    ] {
        let refused = lab.arm(method, &path, Some(body)).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "ScopeLocked"), "{method} {path}");
    }
    lab.arm("GET", &account, None).await.expect(200);
    let asked =
        format!("/subscriptions/{}/providers/Microsoft.Storage/checkNameAvailability", lab.sim.subscription_id());
    let body = json!({ "name": "st9", "type": "Microsoft.Storage/storageAccounts" });
    lab.arm("POST", &asked, Some(body)).await.expect(200);
    unlock(&lab, &group).await;
    lab.arm("POST", &format!("{account}/listKeys"), None).await.expect(200);
}

#[tokio::test]
async fn who_has_no_right_is_told_that_first() {
    let lab = Lab::start().await;
    lab.ground().await;
    lock(&lab, &lab.group(), "ReadOnly").await.expect(201);
    let (id, secret) = lab.sim.outsider();
    let token = lab.token_as(id, secret, "https://management.azure.com/.default").await;
    lab.arm_as(&token, "DELETE", &lab.vault_id("kv1"), None).await.refused(403, "AuthorizationFailed");
    lab.arm_as(&token, "DELETE", &lock_path(&lab.group(), "l1"), None).await.refused(403, "AuthorizationFailed");
    // A contributor may change the group but not take the lock off.
    unlock(&lab, &lab.group()).await;
    let contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c";
    let outsider = "66666666-6666-4666-8666-666666666666";
    lab.arm("PUT", &lab.grant_path(&lab.group(), 1), Some(lab.grant_body(contributor, outsider))).await.expect(201);
    lock(&lab, &lab.group(), "CanNotDelete").await.expect(201);
    lab.arm_as(&token, "DELETE", &lab.vault_id("kv1"), None).await.refused(409, "ScopeLocked");
    lab.arm_as(&token, "DELETE", &lock_path(&lab.group(), "l1"), None).await.refused(403, "AuthorizationFailed");
}

#[tokio::test]
async fn locks_go_with_their_group() {
    let lab = Lab::start().await;
    lab.ground().await;
    lock(&lab, &lab.group(), "NotSpecified").await.expect(201);
    lab.arm("DELETE", &lab.group(), None).await.expect(202);
    lab.advance(3);
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    lab.arm("GET", &lock_path(&lab.group(), "l1"), None).await.refused(404, "LockNotFound");
}
