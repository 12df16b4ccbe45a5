//! What a customer's key protects, and what becomes of it when the key goes: the blob service of an account, with real
//! bytes, by account key and by token.

use std::collections::BTreeMap;

use azure_sim::{Lag, Propagation};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::blob_client::Account;
use crate::client::{ENCRYPTION_USER, Lab, options};

/// A cloud in which services look at their keys every five seconds.
async fn lab() -> Lab {
    let mut options = options();
    options.propagation = Propagation { key_look: Lag::seconds(5.0), ..Propagation::instant() };
    options.token_lifetime = std::time::Duration::from_secs(90 * 24 * 3600);
    // Keys of their own, so that one cannot undo what another did.
    options.fast_keys = false;
    Lab::with(options).await
}

async fn create(lab: &Lab, name: &str, body: serde_json::Value) {
    let accepted = lab.arm("PUT", &lab.account_id(name), Some(body)).await.expect(202);
    lab.finish(&accepted).await.expect(200);
}

const BYTES: &[u8] = b"bytes of the customer";

/// The seed with an account under its key (any version) and one blob in it.
async fn seeded<'a>(lab: &'a Lab) -> Account<'a> {
    lab.ground_with_key().await;
    create(lab, "stcmk1", lab.account_body("")).await;
    let account = Account::of(lab, "stcmk1").await;
    account.send("PUT", "/box1?restype=container", &[], b"").await.expect(201);
    account.put("/box1/b1", BYTES).await.expect(201);
    account
}

/// The account is refused with this code after the service has looked, and not before; what holds no bytes goes on.
async fn goes_away(account: &Account<'_>, code: &str) {
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES, "the service has not looked yet");
    account.lab.advance(5);
    account.get("/box1/b1").await.refused(403, code);
    account.send("HEAD", "/box1/b1", &[], b"").await.refused(403, code);
    account.put("/box1/b2", b"new").await.refused(403, code);
    account.get("/box1?comp=list&include=metadata&restype=container").await.refused(403, code);
    let names = account.get("/box1?comp=list&restype=container").await.expect(200);
    assert!(names.text().contains("<Name>b1</Name>"), "{}", names.text());
    // Management goes on, and says which key it was.
    assert!(account.in_use().await["currentVersionedKeyIdentifier"].is_string());
}

async fn comes_back(account: &Account<'_>) {
    account.lab.advance(5);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
    account.put("/box1/b3", b"new").await.expect(201);
    account.send("DELETE", "/box1/b3", &[], b"").await.expect(202);
}

#[tokio::test]
async fn bytes_are_away_while_the_key_is_and_come_back_with_it() {
    let lab = lab().await;
    let account = seeded(&lab).await;
    let key = |enabled: bool| json!({ "attributes": { "enabled": enabled } });

    lab.keys("PATCH", "kv1", "/keys/k1", Some(key(false))).await.expect(200);
    goes_away(&account, "KeyVaultEncryptionKeyNotFound").await;
    lab.keys("PATCH", "kv1", "/keys/k1", Some(key(true))).await.expect(200);
    account.get("/box1/b1").await.refused(403, "KeyVaultEncryptionKeyNotFound");
    comes_back(&account).await;

    lab.keys("DELETE", "kv1", "/keys/k1", None).await.expect(200);
    goes_away(&account, "KeyVaultEncryptionKeyNotFound").await;
    lab.keys("POST", "kv1", "/deletedkeys/k1/recover", None).await.expect(200);
    comes_back(&account).await;

    lab.arm("DELETE", &lab.grant_path(&lab.vault_id("kv1"), 2), None).await.expect(200);
    goes_away(&account, "KeyVaultAccessTokenCannotBeAcquired").await;
    lab.grant(2, ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    comes_back(&account).await;

    let firewall =
        |bypass: &str| json!({ "properties": { "networkAcls": { "bypass": bypass, "defaultAction": "Deny" } } });
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(firewall("None"))).await.expect(200);
    goes_away(&account, "KeyVaultAccessTokenCannotBeAcquired").await;
    lab.arm("PATCH", &lab.vault_id("kv1"), Some(firewall("AzureServices"))).await.expect(200);
    comes_back(&account).await;

    lab.arm("DELETE", &lab.vault_id("kv1"), None).await.expect(200);
    goes_away(&account, "KeyVaultVaultNotFound").await;
    let mut recover = lab.vault_body();
    recover["properties"]["createMode"] = json!("recover");
    lab.arm("PUT", &lab.vault_id("kv1"), Some(recover)).await.expect(200);
    // A recovered vault has lost the grants on it.
    lab.grant(2, ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    comes_back(&account).await;

    lab.arm("DELETE", &lab.identity_id(), None).await.expect(200);
    goes_away(&account, "KeyVaultAccessTokenCannotBeAcquired").await;
    // A new identity of the same name is another principal, so it takes a new setting.
    lab.arm("PUT", &lab.identity_id(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    lab.grant(3, ENCRYPTION_USER, &lab.principal().await).await.expect(201);
    lab.advance(5);
    account.get("/box1/b1").await.refused(403, "KeyVaultAccessTokenCannotBeAcquired");
    let body = lab.account_body("");
    let again =
        json!({ "identity": body["identity"], "properties": { "encryption": body["properties"]["encryption"] } });
    lab.arm("PATCH", &lab.account_id("stcmk1"), Some(again)).await.expect(200);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
}

#[tokio::test]
async fn an_expired_key_still_gives_the_bytes_and_a_settled_cloud_has_looked() {
    let lab = lab().await;
    let account = seeded(&lab).await;
    let exp = lab.sim.clock().now().unix_timestamp() + 60;
    lab.keys("PATCH", "kv1", "/keys/k1", Some(json!({ "attributes": { "exp": exp } }))).await.expect(200);
    lab.advance(120);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
    account.put("/box1/b2", b"new").await.expect(201);
    let body = lab.account_body("");
    let encryption = json!({ "properties": { "encryption": body["properties"]["encryption"] } });
    let patched = lab.arm("PATCH", &lab.account_id("stcmk1"), Some(encryption)).await;
    patched.refused(400, "KeyVaultEncryptionKeyNotFound");
    lab.keys("PATCH", "kv1", "/keys/k1", Some(json!({ "attributes": { "enabled": false } }))).await.expect(200);
    account.get("/box1/b1").await.expect(200);
    lab.sim.settle();
    account.get("/box1/b1").await.refused(403, "KeyVaultEncryptionKeyNotFound");
}

#[tokio::test]
async fn a_rotation_is_followed_after_a_day_where_no_version_was_named() {
    let lab = lab().await;
    let account = seeded(&lab).await;
    let first = account.in_use().await;
    let version =
        first["currentVersionedKeyIdentifier"].as_str().and_then(|k| k.rsplit('/').next()).expect("a version");
    create(&lab, "stpin1", lab.account_body(version)).await;
    let pinned = Account::of(&lab, "stpin1").await;
    pinned.send("PUT", "/box1?restype=container", &[], b"").await.expect(201);
    pinned.put("/box1/b1", BYTES).await.expect(201);

    lab.advance(3600);
    let rotated = lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200).body["key"]["kid"].clone();
    lab.advance(22 * 3600);
    assert_eq!(account.in_use().await, first, "a day has not passed");
    lab.advance(3600);
    let second = account.in_use().await;
    assert_eq!(second["currentVersionedKeyIdentifier"], rotated);
    assert_ne!(second["lastKeyRotationTimestamp"], first["lastKeyRotationTimestamp"]);
    assert_eq!(pinned.in_use().await["currentVersionedKeyIdentifier"], first["currentVersionedKeyIdentifier"]);

    // What was written before is read after, also without the old version; the pinned account is lost with it.
    let old = format!("/keys/k1/{version}");
    lab.keys("PATCH", "kv1", &old, Some(json!({ "attributes": { "enabled": false } }))).await.expect(200);
    lab.advance(5);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
    account.put("/box1/b2", b"after").await.expect(201);
    pinned.get("/box1/b1").await.refused(403, "KeyVaultEncryptionKeyNotFound");
    lab.advance(30 * 24 * 3600);
    assert_eq!(pinned.in_use().await["currentVersionedKeyIdentifier"], first["currentVersionedKeyIdentifier"]);
    assert_eq!(account.get("/box1/b2").await.expect(200).bytes, b"after");
    lab.keys("PATCH", "kv1", &old, Some(json!({ "attributes": { "enabled": true } }))).await.expect(200);
    lab.advance(5);
    assert_eq!(pinned.get("/box1/b1").await.expect(200).bytes, BYTES);
}

#[tokio::test]
async fn bytes_stay_readable_from_platform_keys_to_a_customers_and_back() {
    let lab = lab().await;
    lab.ground_with_key().await;
    create(&lab, "stplain", json!({ "location": "uksouth", "kind": "StorageV2", "sku": { "name": "Standard_LRS" } }))
        .await;
    let account = Account::of(&lab, "stplain").await;
    account.send("PUT", "/box1?restype=container", &[], b"").await.expect(201);
    account.put("/box1/b1", BYTES).await.expect(201);
    let full = lab.account_body("");
    let on = json!({ "identity": full["identity"], "properties": { "encryption": full["properties"]["encryption"] } });
    let id = lab.account_id("stplain");
    lab.arm("PATCH", &id, Some(on.clone())).await.expect(200);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
    let off = json!({ "properties": { "encryption": { "keySource": "Microsoft.Storage" } } });
    // The way back needs the key; so does the way to another key.
    lab.keys("PATCH", "kv1", "/keys/k1", Some(json!({ "attributes": { "enabled": false } }))).await.expect(200);
    lab.advance(5);
    lab.arm("PATCH", &id, Some(off.clone())).await.refused(400, "KeyVaultEncryptionKeyNotFound");
    lab.arm("PATCH", &id, Some(on.clone())).await.refused(400, "KeyVaultEncryptionKeyNotFound");
    lab.arm("PATCH", &id, Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    lab.keys("POST", "kv1", "/keys/k2/create", Some(json!({ "kty": "RSA" }))).await.expect(200);
    let mut other = on;
    other["properties"]["encryption"]["keyvaultproperties"]["keyname"] = json!("k2");
    lab.arm("PATCH", &id, Some(other.clone())).await.refused(400, "KeyVaultEncryptionKeyNotFound");
    lab.keys("PATCH", "kv1", "/keys/k1", Some(json!({ "attributes": { "enabled": true } }))).await.expect(200);
    lab.advance(5);
    lab.arm("PATCH", &id, Some(other)).await.expect(200);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
    lab.arm("PATCH", &id, Some(off)).await.expect(200);
    lab.keys("DELETE", "kv1", "/keys/k2", None).await.expect(200);
    lab.advance(5);
    assert_eq!(account.get("/box1/b1").await.expect(200).bytes, BYTES);
}

#[tokio::test]
async fn containers_and_blobs_are_put_listed_read_in_parts_and_deleted() {
    let lab = lab().await;
    let account = seeded(&lab).await;
    account.send("PUT", "/box1?restype=container", &[], b"").await.refused(409, "ContainerAlreadyExists");
    account.send("PUT", "/Box1?restype=container", &[], b"").await.refused(400, "InvalidResourceName");
    account.put("/none/b", b"x").await.refused(404, "ContainerNotFound");
    account.get("/box1/none").await.refused(404, "BlobNotFound");
    account.send("HEAD", "/box1/none", &[], b"").await.refused(404, "BlobNotFound");
    let headers = [
        ("x-ms-blob-type", "BlockBlob"),
        ("content-type", "text/plain"),
        ("content-md5", "kB0Qu1WIdp6//PbQ5uImTg=="),
        ("x-ms-meta-owner", "me"),
    ];
    account.send("PUT", "/box1/dir/b%20%26", &headers, b"wrong").await.refused(400, "Md5Mismatch");
    let md5 = "XrY7u+Ae7tCTyyK7j1rNww==";
    let headers = [headers[0], headers[1], ("content-md5", md5), headers[3]];
    let put = account.send("PUT", "/box1/dir/b%20%26", &headers, b"hello world").await.expect(201);
    assert_eq!((put.header("content-md5"), put.header("x-ms-request-server-encrypted")), (md5, "true"));
    let got = account.get("/box1/dir/b%20%26").await.expect(200);
    assert_eq!(got.bytes, b"hello world");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-md5", md5),
        ("etag", put.header("etag")),
        ("x-ms-blob-type", "BlockBlob"),
        ("x-ms-meta-owner", "me"),
        ("x-ms-server-encrypted", "true"),
        ("x-ms-version", "2025-05-05"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    assert!(got.header("last-modified").ends_with(" GMT"));
    let head = account.send("HEAD", "/box1/dir/b%20%26", &[], b"").await.expect(200);
    assert_eq!((head.header("content-length"), head.bytes.len()), ("11", 0));
    let part = account.send("GET", "/box1/dir/b%20%26", &[("x-ms-range", "bytes=6-99")], b"").await.expect(206);
    assert_eq!((part.bytes.as_slice(), part.header("content-range")), (&b"world"[..], "bytes 6-10/11"));
    account.send("GET", "/box1/b1", &[("x-ms-range", "bytes=99-")], b"").await.refused(416, "InvalidRange");

    let etag = put.header("etag").to_owned();
    account.send("GET", "/box1/dir/b%20%26", &[("if-none-match", &etag)], b"").await.refused(304, "ConditionNotMet");
    account.send("GET", "/box1/dir/b%20%26", &[("if-match", "\"0x0\"")], b"").await.refused(412, "ConditionNotMet");
    let once = [("x-ms-blob-type", "BlockBlob"), ("if-none-match", "*")];
    account.send("PUT", "/box1/b1", &once, b"x").await.refused(409, "BlobAlreadyExists");
    account.send("PUT", "/box1/b1", &[], b"x").await.refused(400, "MissingRequiredHeader");
    account.send("PUT", "/box1/b1?comp=block&blockid=AA", &[], b"x").await.refused(501, "NotPlayedBySimulator");

    let list = account.get("/box1?comp=list&delimiter=/&restype=container").await.expect(200).text();
    assert!(
        list.contains("<Blob><Name>b1</Name>") && list.contains("<BlobPrefix><Name>dir/</Name></BlobPrefix>"),
        "{list}"
    );
    let list = account.get("/box1?comp=list&include=metadata&prefix=dir&restype=container").await.expect(200).text();
    assert!(list.contains("<Name>dir/b &amp;</Name>") && list.contains("<owner>me</owner>"), "{list}");
    assert!(list.contains(&format!("<Content-MD5>{md5}</Content-MD5>")), "{list}");
    let page = account.get("/box1?comp=list&maxresults=1&restype=container").await.expect(200).text();
    assert!(page.ends_with("<NextMarker>dir/b &amp;</NextMarker></EnumerationResults>"), "{page}");
    let containers = account.get("/?comp=list").await.expect(200).text();
    assert!(containers.contains("<Container><Name>box1</Name><Properties>"), "{containers}");

    account.send("DELETE", "/box1/b1", &[], b"").await.expect(202);
    account.get("/box1/b1").await.refused(404, "BlobNotFound");
    account.send("DELETE", "/box1?restype=container", &[], b"").await.expect(202);
    account.get("/box1?comp=list&restype=container").await.refused(404, "ContainerNotFound");
}

#[tokio::test]
async fn the_account_key_and_roles_open_the_service_and_nothing_else_does() {
    let lab = lab().await;
    let account = seeded(&lab).await;
    let bare = BTreeMap::new;
    let answer = account.request("GET", "/box1/b1", bare(), "", b"").await.refused(401, "NoAuthenticationInformation");
    assert!(answer.header("www-authenticate").contains("resource_id=https://storage.azure.com"));
    let forged = format!("SharedKey stcmk1:{}", STANDARD.encode([1; 32]));
    account.request("GET", "/box1/b1", bare(), &forged, b"").await.refused(403, "AuthenticationFailed");
    for nonsense in ["SharedKey stcmk1", "SharedKey :", "SharedKey stcmk1:%%%"] {
        account.request("GET", "/box1/b1", bare(), nonsense, b"").await.refused(403, "AuthenticationFailed");
    }
    account.request("GET", "/box1/b1", bare(), "Basic x", b"").await.refused(401, "InvalidAuthenticationInfo");
    let vault = lab.vault_token().await;
    account.with_token(&vault, "GET", "/box1/b1", &[]).await.refused(401, "InvalidAuthenticationInfo");

    // Owner of the subscription manages containers, but the bytes take a data role.
    let own = lab.token("https://storage.azure.com/.default").await;
    account.with_token(&own, "PUT", "/box2?restype=container", &[]).await.expect(201);
    account.with_token(&own, "GET", "/box1/b1", &[]).await.refused(403, "AuthorizationPermissionMismatch");
    let reader = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1";
    let contributor = "ba92f5b4-2d11-453d-a403-e96b0029c9fe";
    let grant = |number: u32, role: &str| {
        (lab.grant_path(&lab.account_id("stcmk1"), number), lab.grant_body(role, lab.sim.object_id()))
    };
    let (path, body) = grant(5, reader);
    lab.arm("PUT", &path, Some(body)).await.expect(201);
    let blob = [("x-ms-blob-type", "BlockBlob")];
    assert_eq!(account.with_token(&own, "GET", "/box1/b1", &[]).await.expect(200).bytes, BYTES);
    account.with_token(&own, "PUT", "/box1/t", &blob).await.refused(403, "AuthorizationPermissionMismatch");
    let (path, body) = grant(6, contributor);
    lab.arm("PUT", &path, Some(body)).await.expect(201);
    let scoped = lab.token(&format!("{}/.default", account.host())).await;
    account.with_token(&scoped, "PUT", "/box1/t", &blob).await.expect(201);
    assert_eq!(account.get("/box1/t").await.expect(200).bytes, b"by token");
    account.with_token(&own, "DELETE", "/box1/t", &[]).await.expect(202);

    let id = lab.account_id("stcmk1");
    let set = |name: &str, value: serde_json::Value| Some(json!({ "properties": { name: value } }));
    lab.arm("PATCH", &id, set("allowSharedKeyAccess", json!(false))).await.expect(200);
    account.get("/box1/b1").await.refused(403, "KeyBasedAuthenticationNotPermitted");
    account.with_token(&own, "GET", "/box1/b1", &[]).await.expect(200);
    lab.arm("PATCH", &id, set("publicNetworkAccess", json!("Disabled"))).await.expect(200);
    account.with_token(&own, "GET", "/box1/b1", &[]).await.refused(403, "AuthorizationFailure");
}

#[tokio::test]
async fn a_host_is_there_while_its_account_is_and_other_services_say_what_they_are_not() {
    let lab = lab().await;
    let account = seeded(&lab).await;
    let url = account.host();
    assert!(lab.http.get(url.replace("stcmk1", "stnone")).send().await.is_err());
    let queue = lab.http.get(url.replace(".blob.", ".queue.")).send().await.expect("an answer");
    assert_eq!(queue.status().as_u16(), 501);
    assert_eq!(queue.headers()["x-ms-error-code"], "NotPlayedBySimulator");
    let too_large = account.put("/box1/big", &vec![7; 4 * 1024 * 1024 + 1]).await;
    too_large.refused(413, "RequestEntityTooLarge");
    let most = vec![7; 4 * 1024 * 1024];
    account.put("/box1/big", &most).await.expect(201);
    assert_eq!(account.get("/box1/big").await.expect(200).bytes, most);
    lab.arm("DELETE", &lab.account_id("stcmk1"), None).await.expect(200);
    assert!(lab.http.get(&url).send().await.is_err());
    // A new account of the name has new keys and none of the old bytes.
    create(&lab, "stcmk1", lab.account_body("")).await;
    account.get("/box1/b1").await.refused(403, "AuthenticationFailed");
    Account::of(&lab, "stcmk1").await.get("/box1/b1").await.refused(404, "ContainerNotFound");
}
