//! Keys that come from outside and go elsewhere: import, backup and restore, pages of lists.

use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use crate::client::{ADMINISTRATOR, Lab};
use crate::hsm::{USER, local_grant_path};

/// The integers of a PKCS#8 RSA key as members of a JSON web key.
fn rsa_jwk(size: KeySize) -> Value {
    let key = PrivateDecryptingKey::generate(size).expect("a key");
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).expect("encodes");
    // Every level's content is walked through, so that the integers come in their order: two versions, then n, e, d, p, …
    let mut integers = Vec::new();
    let mut rest = der.as_ref();
    while let [tag, length, after @ ..] = rest {
        let (length, after) = match length {
            0x82 => (usize::from(after[0]) << 8 | usize::from(after[1]), &after[2..]),
            0x81 => (usize::from(after[0]), &after[1..]),
            short => (usize::from(*short), after),
        };
        rest = match tag {
            0x30 | 0x04 => after,
            _ => {
                if *tag == 2 {
                    integers.push(after[..length].to_vec());
                }
                &after[length..]
            }
        };
    }
    let mut jwk = json!({ "kty": "RSA" });
    for (name, bytes) in ["n", "e", "d", "p", "q", "dp", "dq", "qi"].into_iter().zip(&integers[2..]) {
        let significant = if bytes[0] == 0 { &bytes[1..] } else { bytes };
        jwk[name] = B64.encode(significant).into();
    }
    jwk
}

fn ec_jwk() -> (EcdsaKeyPair, Value) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let private: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().expect("encodes");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
    let jwk = json!({
        "kty": "EC", "crv": "P-384", "x": B64.encode(x), "y": B64.encode(y), "d": B64.encode(private.as_ref()),
    });
    (pair, jwk)
}

fn with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut changed = jwk.clone();
    changed[name] = value;
    changed
}

impl Lab {
    /// Another vault, with the operator as its keys' administrator.
    async fn vault_at(&self, number: u32, name: &str, location: &str, sku: &str) {
        let mut body = self.vault_body();
        body["location"] = location.into();
        body["properties"]["sku"]["name"] = sku.into();
        self.arm("PUT", &self.vault_id(name), Some(body)).await.expect(201);
        let path = self.grant_path(&self.vault_id(name), number);
        self.arm("PUT", &path, Some(self.grant_body(ADMINISTRATOR, self.sim.object_id()))).await.expect(201);
    }

    async fn backup(&self, vault: &str, name: &str) -> Value {
        self.keys("POST", vault, &format!("/keys/{name}/backup"), None).await.expect(200).body
    }
}

#[tokio::test]
async fn an_imported_key_is_the_callers_own_and_shows_nothing_private() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let jwk = with(&rsa_jwk(KeySize::Rsa2048), "key_ops", json!(["wrapKey", "unwrapKey"]));
    let body = json!({ "key": jwk, "Hsm": false, "attributes": { "enabled": true }, "tags": { "from": "here" } });
    let first = lab.keys("PUT", "kv1", "/keys/own", Some(body.clone())).await.expect(200).body;
    assert_eq!(
        (&first["key"]["n"], &first["key"]["kty"], &first["tags"]["from"]),
        (&jwk["n"], &json!("RSA"), &json!("here"))
    );
    assert_eq!(first["key"]["key_ops"], json!(["wrapKey", "unwrapKey"]));
    for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        assert_eq!(first["key"][private], Value::Null, "{private}");
    }
    let wrap = json!({ "alg": "RSA-OAEP-256", "value": "c2VjcmV0" });
    let wrapped = lab.keys("POST", "kv1", "/keys/own/wrapkey", Some(wrap)).await.expect(200).body;
    // The same name again is a new version, and so is an import over a key that was created.
    let second = lab.keys("PUT", "kv1", "/keys/own", Some(body.clone())).await.expect(200).body;
    assert_ne!(first["key"]["kid"], second["key"]["kid"]);
    let unwrap = json!({ "alg": "RSA-OAEP-256", "value": wrapped["value"] });
    let open = lab.keys("POST", "kv1", "/keys/own/unwrapkey", Some(unwrap)).await.expect(200).body;
    assert_eq!(open["value"], "c2VjcmV0", "the material is the same");
    lab.keys("PUT", "kv1", "/keys/k1", Some(body.clone())).await.expect(200);
    // A soft-deleted name is taken.
    lab.keys("DELETE", "kv1", "/keys/own", None).await.expect(200);
    let refused = lab.keys("PUT", "kv1", "/keys/own", Some(body)).await;
    refused.refused(409, "Conflict/ObjectIsDeletedButRecoverable");

    let (pair, jwk) = ec_jwk();
    lab.keys("PUT", "kv1", "/keys/curve", Some(json!({ "key": jwk }))).await.expect(200);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, b"text");
    let sign = json!({ "alg": "ES384", "value": B64.encode(digest.as_ref()) });
    let signed = lab.keys("POST", "kv1", "/keys/curve/sign", Some(sign)).await.expect(200).body;
    let signature = B64.decode(signed["value"].as_str().expect("text")).expect("base64url");
    let public = aws_lc_rs::signature::UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, pair.public_key().as_ref());
    public.verify(b"text", &signature).expect("is the key's");
}

#[tokio::test]
async fn what_is_no_key_of_its_type_is_not_imported() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let rsa = rsa_jwk(KeySize::Rsa2048);
    let other = rsa_jwk(KeySize::Rsa2048);
    let (_, ec) = ec_jwk();
    let (_, other_ec) = ec_jwk();
    let mut rows = vec![
        json!({}),
        json!({ "key": [] }),
        json!({ "key": {} }),
        json!({ "key": { "kty": "RSA" } }),
        json!({ "key": { "kty": "OKP" } }),
        json!({ "key": rsa, "colour": "red" }),
        json!({ "key": rsa, "Hsm": "yes" }),
        json!({ "key": rsa, "Hsm": true }),
        json!({ "key": with(&rsa, "kty", json!("RSA-HSM")) }),
        json!({ "key": with(&rsa, "colour", json!("red")) }),
        json!({ "key": with(&rsa, "key_ops", json!(["fly"])) }),
        json!({ "key": with(&rsa, "n", json!("*")) }),
        json!({ "key": with(&rsa, "n", json!(B64.encode(vec![7; 600]))) }),
        json!({ "key": with(&rsa, "n", json!(B64.encode(vec![0xff; 128]))) }),
        json!({ "key": with(&rsa, "e", json!("AA")) }),
        json!({ "key": { "kty": "oct", "k": B64.encode([7; 32]) } }),
        json!({ "key": with(&ec, "crv", json!("P-256")) }),
        json!({ "key": with(&ec, "crv", json!("P-1")) }),
        json!({ "key": with(&ec, "crv", Value::Null) }),
        json!({ "key": with(&ec, "d", other_ec["d"].clone()) }),
        json!({ "key": with(&ec, "y", other_ec["y"].clone()) }),
        json!({ "key": rsa, "attributes": { "nbf": 9, "exp": 5 } }),
        json!({ "key": rsa, "tags": { "a": 1 } }),
    ];
    for name in ["n", "d", "p", "q", "dp", "dq", "qi"] {
        rows.push(json!({ "key": with(&rsa, name, other[name].clone()) }));
        rows.push(json!({ "key": with(&rsa, name, Value::Null) }));
    }
    for body in rows {
        let answer = lab.keys("PUT", "kv1", "/keys/own", Some(body.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "BadParameter"), "{body} {}", answer.body);
    }
    lab.keys("GET", "kv1", "/keys/own", None).await.refused(404, "KeyNotFound");
    lab.keys("PUT", "kv1", "/keys/o_n", Some(json!({ "key": rsa }))).await.refused(400, "BadParameter");
    for body in [
        json!({ "key": { "kty": "RSA-HSM", "key_hsm": "YQ" } }),
        json!({ "key": rsa, "release_policy": { "data": "e30" } }),
    ] {
        lab.keys("PUT", "kv1", "/keys/own", Some(body)).await.refused(501, "NotPlayedBySimulator");
    }
    let (id, secret) = lab.sim.outsider();
    let outsider = lab.token_as(id, secret, &format!("https://{}/.default", lab.sim.vault_suffix())).await;
    for (method, path) in [("PUT", "/keys/own"), ("POST", "/keys/k1/backup"), ("POST", "/keys/restore")] {
        lab.keys_as(&outsider, method, "kv1", path, Some(json!({}))).await.refused(403, "Forbidden/ForbiddenByRbac");
    }
}

#[tokio::test]
async fn hsm_keys_are_imported_where_there_are_hsms() {
    let lab = Lab::start().await;
    lab.ground().await;
    lab.vault_at(3, "kv2", "uksouth", "premium").await;
    let rsa = rsa_jwk(KeySize::Rsa2048);
    let made = lab.keys("PUT", "kv2", "/keys/k1", Some(json!({ "key": rsa, "Hsm": true }))).await.expect(200).body;
    assert_eq!(made["key"]["kty"], "RSA-HSM");

    lab.working(lab.hsm_body()).await;
    lab.hsm("PUT", "/keys/k1", Some(json!({ "key": rsa }))).await.refused(400, "BadParameter");
    let hsm_key = with(&rsa, "kty", json!("RSA-HSM"));
    let made = lab.hsm("PUT", "/keys/k1", Some(json!({ "key": hsm_key, "Hsm": true }))).await.expect(200).body;
    assert_eq!(made["key"]["kty"], "RSA-HSM");
    let oct = |bytes: usize| json!({ "key": { "kty": "oct-HSM", "k": B64.encode(vec![7; bytes]) } });
    lab.hsm("PUT", "/keys/k2", Some(oct(17))).await.refused(400, "BadParameter");
    let made = lab.hsm("PUT", "/keys/k2", Some(oct(16))).await.expect(200).body;
    assert_eq!((&made["key"]["kty"], &made["key"]["k"]), (&json!("oct-HSM"), &Value::Null));
    // The same bytes under another name open what was wrapped.
    let wrap = json!({ "alg": "A128KW", "value": B64.encode([1; 16]) });
    let wrapped = lab.hsm("POST", "/keys/k2/wrapkey", Some(wrap)).await.expect(200).body;
    let unwrap = json!({ "alg": "A128KW", "value": wrapped["value"] });
    let again = oct(16);
    lab.hsm("PUT", "/keys/k3", Some(again)).await.expect(200);
    lab.hsm("POST", "/keys/k3/unwrapkey", Some(unwrap)).await.expect(200);
}

#[tokio::test]
async fn a_backup_brings_all_versions_back_within_the_geography_only() {
    let lab = Lab::start().await;
    let kid = lab.ground_with_key().await;
    let old = kid.rsplit('/').next().expect("a version");
    let wrap = json!({ "alg": "RSA-OAEP-256", "value": "c2VjcmV0" });
    let wrapped = lab.keys("POST", "kv1", &format!("/keys/k1/{old}/wrapkey"), Some(wrap)).await.expect(200).body;
    lab.keys("PATCH", "kv1", "/keys/k1", Some(json!({ "tags": { "a": "b" } }))).await.expect(200);
    let policy = json!({ "lifetimeActions": [{ "trigger": { "timeAfterCreate": "P30D" }, "action": { "type": "Rotate" } }], "attributes": { "expiryTime": "P90D" } });
    lab.keys("PUT", "kv1", "/keys/k1/rotationpolicy", Some(policy)).await.expect(200);
    lab.keys("POST", "kv1", "/keys/k1/rotate", None).await.expect(200);
    let before = lab.keys("GET", "kv1", "/keys/k1", None).await.expect(200).body;
    let backup = lab.backup("kv1", "k1").await;
    lab.keys("POST", "kv1", "/keys/none/backup", None).await.refused(404, "KeyNotFound");

    // Where the name is taken, or was and is kept, nothing is overwritten.
    lab.keys("POST", "kv1", "/keys/restore", Some(backup.clone())).await.refused(409, "Conflict");
    lab.keys("DELETE", "kv1", "/keys/k1", None).await.expect(200);
    let deleted = lab.keys("POST", "kv1", "/keys/restore", Some(backup.clone())).await;
    deleted.refused(409, "Conflict/ObjectIsDeletedButRecoverable");

    lab.vault_at(3, "kv2", "ukwest", "standard").await;
    lab.vault_at(4, "kv3", "westeurope", "standard").await;
    lab.keys("POST", "kv3", "/keys/restore", Some(backup.clone())).await.refused(400, "BadParameter");
    let restored = lab.keys("POST", "kv2", "/keys/restore", Some(backup.clone())).await.expect(200).body;
    let kid = |body: &Value| body["key"]["kid"].as_str().expect("a kid").to_owned();
    assert_eq!(kid(&restored), kid(&before).replace("//kv1.", "//kv2."));
    assert_eq!((&restored["tags"], &restored["attributes"]["exp"]), (&before["tags"], &before["attributes"]["exp"]));
    let versions = lab.keys("GET", "kv2", "/keys/k1/versions", None).await.expect(200).body;
    assert_eq!(versions["value"].as_array().map(Vec::len), Some(2));
    let policy = lab.keys("GET", "kv2", "/keys/k1/rotationpolicy", None).await.expect(200).body;
    assert_eq!(policy["attributes"]["expiryTime"], "P90D");
    let unwrap = json!({ "alg": "RSA-OAEP-256", "value": wrapped["value"] });
    let open = lab.keys("POST", "kv2", &format!("/keys/k1/{old}/unwrapkey"), Some(unwrap)).await.expect(200).body;
    assert_eq!(open["value"], "c2VjcmV0", "what the old version wrapped, its restored self opens");
}

#[tokio::test]
async fn a_changed_backup_is_refused() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    let backup = lab.backup("kv1", "k1").await;
    lab.vault_at(3, "kv2", "uksouth", "standard").await;
    let value = B64.decode(backup["value"].as_str().expect("text")).expect("base64url");
    assert!(!value.windows(5).any(|w| w == b"pkcs8"), "it is encrypted");
    for at in [0, 10, 20, value.len() / 2, value.len() - 1] {
        let mut spoiled = value.clone();
        spoiled[at] ^= 1;
        let body = json!({ "value": B64.encode(spoiled) });
        lab.keys("POST", "kv2", "/keys/restore", Some(body)).await.refused(400, "BadParameter");
    }
    let short = json!({ "value": B64.encode(&value[..value.len() - 1]) });
    for body in [short, json!({}), json!({ "value": "" }), json!({ "value": "***" }), json!({ "value": 7 }), json!([])]
    {
        lab.keys("POST", "kv2", "/keys/restore", Some(body)).await.refused(400, "BadParameter");
    }
    lab.keys("GET", "kv2", "/keys/k1", None).await.refused(404, "KeyNotFound");
    // Another cloud has another key for its backups.
    let other = Lab::start().await;
    other.ground().await;
    other.grant(1, ADMINISTRATOR, other.sim.object_id()).await.expect(201);
    other.keys("POST", "kv1", "/keys/restore", Some(backup)).await.refused(400, "BadParameter");
}

#[tokio::test]
async fn a_managed_hsms_backup_stays_in_its_security_domain() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    lab.working(lab.hsm_body()).await;
    lab.hsm("POST", "/keys/h1/create", Some(json!({ "kty": "oct-HSM" }))).await.expect(200);
    let backup = lab.hsm("POST", "/keys/h1/backup", None).await.expect(200).body;
    let of_vault = lab.backup("kv1", "k1").await;
    lab.hsm("POST", "/keys/restore", Some(of_vault)).await.refused(400, "BadParameter");
    lab.keys("POST", "kv1", "/keys/restore", Some(backup.clone())).await.refused(400, "BadParameter");
    lab.hsm("POST", "/keys/restore", Some(backup.clone())).await.refused(409, "Conflict");

    let accepted = lab.arm("PUT", &lab.hsm_id("hsm2"), Some(lab.hsm_body())).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    assert!(lab.sim.activate_hsm("hsm2"));
    let token = lab.token(&format!("https://{}/.default", lab.sim.hsm_suffix())).await;
    let grant = json!({ "properties": {
        "roleDefinitionId": format!("Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{USER}"),
        "principalId": lab.sim.object_id(),
    } });
    let there = |path: &str| lab.hsm_link("hsm2", path);
    lab.send("PUT", &there(&local_grant_path("/", 2)), &token, Some(&grant)).await.expect(201);
    let refused = lab.send("POST", &there("/keys/restore"), &token, Some(&backup)).await.refused(400, "BadParameter");
    assert!(refused.message().contains("security domain"), "{}", refused.message());
}

#[tokio::test]
async fn lists_come_in_pages_that_add_up() {
    let lab = Lab::start().await;
    lab.ground_with_key().await;
    for name in ["a", "b", "c", "d"] {
        lab.keys("POST", "kv1", &format!("/keys/{name}/create"), Some(json!({ "kty": "EC" }))).await.expect(200);
    }
    for _ in 0..4 {
        lab.keys("POST", "kv1", "/keys/a/create", Some(json!({ "kty": "EC" }))).await.expect(200);
    }
    lab.vault_at(3, "kv2", "uksouth", "standard").await;
    for name in ["a", "b", "c", "d", "e"] {
        lab.keys("POST", "kv2", &format!("/keys/{name}/create"), Some(json!({ "kty": "EC" }))).await.expect(200);
        lab.keys("DELETE", "kv2", &format!("/keys/{name}"), None).await.expect(200);
    }
    let token = lab.vault_token().await;
    for (vault, path) in [("kv1", "/keys"), ("kv1", "/keys/a/versions"), ("kv2", "/deletedkeys")] {
        let mut kids = Vec::new();
        let mut sizes = Vec::new();
        let mut link = Some(lab.vault_link(vault, &format!("{path}?maxresults=2")));
        while let Some(url) = link {
            assert!(sizes.is_empty() || url.contains("skiptoken"), "{url}");
            let page = lab.send("GET", &url, &token, None).await.expect(200).body;
            let rows = page["value"].as_array().expect("a list");
            sizes.push(rows.len());
            kids.extend(rows.iter().map(|row| row["kid"].as_str().expect("a kid").to_owned()));
            link = page["nextLink"].as_str().map(str::to_owned);
        }
        assert_eq!(sizes, [2, 2, 1], "{path}");
        kids.dedup();
        assert_eq!(kids.len(), 5, "{path} {kids:?}");
        for wrong in ["maxresults=0", "maxresults=26", "maxresults=x", "$skiptoken=x"] {
            lab.keys("GET", vault, &format!("{path}?{wrong}"), None).await.refused(400, "BadParameter");
        }
        let beyond = lab.keys("GET", vault, &format!("{path}?$skiptoken=99"), None).await.expect(200).body;
        assert_eq!(beyond, json!({ "value": [], "nextLink": null }));
    }
    lab.keys("POST", "kv1", "/keys/k1/release", Some(json!({}))).await.refused(501, "NotPlayedBySimulator");
    let shown = lab.keys("GET", "kv1", "/keys/k1/00000000000000000000000000000000/attestation", None).await;
    shown.refused(501, "NotPlayedBySimulator");
}
