//! Managed HSMs: from creation over the ceremony of activation to keys that work, local roles, and soft delete.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::RsaKeyPair;
use azure_sim::{Lag, Propagation};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};

use crate::client::{Answer, Lab, options};

pub const ADMINISTRATOR: &str = "a290e904-7015-4bba-90c8-60543313cdb4";
pub const OFFICER: &str = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778";
pub const USER: &str = "21dbd100-6940-42c2-9190-5d6cb909625b";
pub const AUDITOR: &str = "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3";
pub const ENCRYPTION_USER: &str = "33413926-3206-4cdd-b39a-83574fe37a17";

impl Lab {
    pub fn hsm_id(&self, name: &str) -> String {
        format!("{}/providers/Microsoft.KeyVault/managedHSMs/{name}", self.group())
    }

    pub fn hsm_body(&self) -> Value {
        json!({
            "location": "uksouth",
            "sku": { "family": "B", "name": "Standard_B1" },
            "properties": {
                "tenantId": self.sim.tenant_id(),
                "initialAdminObjectIds": [self.sim.object_id()],
                "enablePurgeProtection": true,
                "softDeleteRetentionInDays": 7,
            },
        })
    }

    pub fn hsm_link(&self, name: &str, path: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("https://{name}.{}{path}{separator}api-version=7.4", self.sim.hsm_suffix())
    }

    /// A call to the data plane of the HSM `hsm1` as the operator.
    pub async fn hsm(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let token = self.token(&format!("https://{}/.default", self.sim.hsm_suffix())).await;
        self.hsm_as(&token, method, path, body).await
    }

    pub async fn hsm_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(method, &self.hsm_link("hsm1", path), token, body.as_ref()).await
    }

    /// The group and the HSM `hsm1`, provisioned.
    pub async fn provisioned(&self, body: Value) {
        self.arm("PUT", &self.group(), Some(json!({ "location": "uksouth" }))).await;
        let accepted = self.arm("PUT", &self.hsm_id("hsm1"), Some(body)).await.expect(202);
        self.finish(&accepted).await.expect(200);
    }

    /// The same, activated by the control API, with the operator as Crypto User.
    pub async fn working(&self, body: Value) {
        self.provisioned(body).await;
        assert!(self.sim.activate_hsm("hsm1"));
        self.local_grant(1, "/", USER, self.sim.object_id()).await.expect(201);
    }

    pub async fn local_grant(&self, number: u32, scope: &str, role: &str, principal: &str) -> Answer {
        let body = json!({ "properties": {
            "roleDefinitionId": format!("Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{role}"),
            "principalId": principal,
        } });
        self.hsm("PUT", &local_grant_path(scope, number), Some(body)).await
    }
}

/// The clients put the scope behind one slash, which gives three for `/`.
pub fn local_grant_path(scope: &str, number: u32) -> String {
    format!("/{scope}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-9000-{number:012}")
}

/// Somebody who will hold a share: the key, and its web key with a certificate that contains its modulus.
fn holder() -> (OaepPrivateDecryptingKey, Value) {
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key");
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&private).expect("encodes");
    let pair = RsaKeyPair::from_pkcs8(der.as_ref()).expect("the same key");
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
    let jwk = json!({
        "kty": "RSA",
        "key_ops": ["verify", "encrypt", "wrapKey"],
        "alg": "RSA-OAEP-256",
        "n": B64.encode(public.modulus().big_endian_without_leading_zero()),
        "e": B64.encode(public.exponent().big_endian_without_leading_zero()),
        // The service looks for the key in the certificate and checks nothing else of it.
        "x5c": [STANDARD.encode(public.as_ref())],
    });
    (OaepPrivateDecryptingKey::new(private).expect("can decrypt"), jwk)
}

/// The plain text of a compact JWE by RSA-OAEP-256 and A256GCM.
fn open(key: &OaepPrivateDecryptingKey, jwe: &str) -> Vec<u8> {
    let parts: Vec<&str> = jwe.split('.').collect();
    let part = |i: usize| B64.decode(parts[i]).expect("base64url");
    let mut out = vec![0; key.min_output_size()];
    let content_key = key.decrypt(&OAEP_SHA256_MGF1SHA256, &part(1), &mut out, None).expect("is for this key").to_vec();
    let mut data = [part(3), part(4)].concat();
    let nonce = Nonce::try_assume_unique_for_key(&part(2)).expect("12 bytes");
    let aead = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &content_key).expect("32 bytes"));
    aead.open_in_place(nonce, Aad::from(parts[0].as_bytes()), &mut data).expect("is whole").to_vec()
}

#[tokio::test]
async fn an_hsm_is_provisioned_then_activated_by_its_security_domain_then_holds_keys() {
    let lab = Lab::start().await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let accepted = lab.arm("PUT", &lab.hsm_id("hsm1"), Some(lab.hsm_body())).await.expect(202);
    let status = accepted.headers["azure-asyncoperation"].to_str().expect("text").to_owned();
    lab.sim.settle();
    let running = lab.send("GET", &status, &lab.arm_token, None).await.expect(200);
    assert_eq!(running.body["status"], "InProgress");
    let shown = lab.arm("GET", &lab.hsm_id("hsm1"), None).await.expect(200);
    assert_eq!(shown.body["properties"]["provisioningState"], "Provisioning");
    let token = lab.token(&format!("https://{}/.default", lab.sim.hsm_suffix())).await;
    assert!(lab.try_send("GET", &lab.hsm_link("hsm1", "/keys"), &token, None).await.is_err(), "no host before");
    let done = lab.finish(&accepted).await.expect(200);
    let properties = &done.body["properties"];
    assert_eq!(properties["hsmUri"], format!("https://hsm1.{}/", lab.sim.hsm_suffix()));
    assert_eq!(properties["provisioningState"], "Succeeded");
    assert_eq!(properties["statusMessage"], "The Managed HSM is provisioned and ready to use.");
    assert_eq!(properties["securityDomainProperties"]["activationStatus"], "NotActivated");
    assert_eq!(lab.send("GET", &status, &lab.arm_token, None).await.expect(200).body["status"], "Succeeded");

    let create = json!({ "kty": "RSA-HSM", "key_size": 2048 });
    lab.hsm("POST", "/keys/k1/create", Some(create.clone())).await.refused(403, "Forbidden");
    lab.local_grant(1, "/", USER, lab.sim.object_id()).await.refused(403, "Forbidden");

    let holders: Vec<_> = (0..3).map(|_| holder()).collect();
    let certificates: Vec<Value> = holders.iter().map(|(_, jwk)| jwk.clone()).collect();
    let body = json!({ "certificates": certificates, "required": 2 });
    let (outsider, secret) = lab.sim.outsider();
    let foreign = lab.token_as(outsider, secret, "https://managedhsm.azure.net/.default").await;
    lab.hsm_as(&foreign, "POST", "/securitydomain/download", Some(body.clone())).await.refused(403, "AccessDenied");
    let download = lab.hsm("POST", "/securitydomain/download", Some(body)).await.expect(202);
    let file: Value = serde_json::from_str(download.body["value"].as_str().expect("text")).expect("JSON in text");
    assert_eq!(file["SharedKeys"]["required"], 2);
    let mut shares = Vec::new();
    for ((key, _), share) in holders.iter().zip(file["SharedKeys"]["enc_shares"].as_array().expect("a list")) {
        shares.push(open(key, share["enc_key"].as_str().expect("a JWE")));
    }
    assert!(shares.iter().all(|s| s.len() == 33) && shares[0] != shares[1], "each holder has a share of its own");

    let pending = "/securitydomain/download/pending";
    assert_eq!(lab.hsm("GET", pending, None).await.expect(200).body["status"], "InProgress");
    lab.hsm("POST", "/keys/k1/create", Some(create.clone())).await.refused(403, "Forbidden");
    lab.advance(3);
    assert_eq!(lab.hsm("GET", pending, None).await.expect(200).body["status"], "Success");
    let shown = lab.arm("GET", &lab.hsm_id("hsm1"), None).await.expect(200);
    assert_eq!(shown.body["properties"]["securityDomainProperties"]["activationStatus"], "Active");

    // Its administrator may give roles and not touch keys; who has Owner in ARM has nothing here.
    let denied = lab.hsm("POST", "/keys/k1/create", Some(create.clone())).await.refused(403, "AccessDenied");
    let text = "Not authorized to access Microsoft.KeyVault/managedHsm/keys/create on /keys/k1 (Activity ID: ";
    assert!(denied.message().starts_with(text), "{}", denied.message());
    assert!(denied.body["error"].get("innererror").is_none());
    lab.local_grant(1, "/", USER, lab.sim.object_id()).await.expect(201);
    let key = lab.hsm("POST", "/keys/k1/create", Some(create)).await.expect(200).body;
    let kid = key["key"]["kid"].as_str().expect("a kid");
    assert!(kid.starts_with(&format!("https://hsm1.{}/keys/k1/", lab.sim.hsm_suffix())), "{kid}");
    assert_eq!(
        (&key["key"]["kty"], &key["attributes"]["recoveryLevel"]),
        (&json!("RSA-HSM"), &json!("CustomizedRecoverable"))
    );
    let secret = B64.encode([7; 32]);
    let wrap = json!({ "alg": "RSA-OAEP-256", "value": secret });
    let wrapped = lab.hsm("POST", "/keys/k1/wrapkey", Some(wrap)).await.expect(200).body;
    let unwrap = json!({ "alg": "RSA-OAEP-256", "value": wrapped["value"] });
    let plain = lab.hsm("POST", "/keys/k1/unwrapkey", Some(unwrap)).await.expect(200).body;
    assert_eq!((&plain["value"], &plain["kid"]), (&json!(secret), &json!(kid)));
}

#[tokio::test]
async fn symmetric_keys_wrap_and_encrypt_and_show_nothing_of_themselves() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    let create = json!({ "kty": "oct-HSM", "key_size": 256 });
    let key = lab.hsm("POST", "/keys/aes/create", Some(create)).await.expect(200).body;
    assert_eq!(key["key"]["kty"], "oct-HSM");
    assert_eq!(key["key"]["key_ops"], json!(["encrypt", "decrypt", "wrapKey", "unwrapKey"]));
    assert!(key["key"].get("k").is_none());
    let value = B64.encode([5; 32]);
    let wrap = json!({ "alg": "A256KW", "value": value });
    let wrapped = lab.hsm("POST", "/keys/aes/wrapkey", Some(wrap)).await.expect(200).body["value"].clone();
    assert_eq!(B64.decode(wrapped.as_str().expect("text")).expect("base64url").len(), 40);
    let unwrap = json!({ "alg": "A256KW", "value": wrapped });
    assert_eq!(lab.hsm("POST", "/keys/aes/unwrapkey", Some(unwrap)).await.expect(200).body["value"], value);
    let aad = B64.encode("header");
    let seal = json!({ "alg": "A256GCM", "value": value, "aad": aad });
    let sealed = lab.hsm("POST", "/keys/aes/encrypt", Some(seal)).await.expect(200).body;
    let mut back =
        json!({ "alg": "A256GCM", "value": sealed["value"], "iv": sealed["iv"], "tag": sealed["tag"], "aad": aad });
    let opened = lab.hsm("POST", "/keys/aes/decrypt", Some(back.clone())).await.expect(200);
    assert_eq!(opened.body["value"], value);
    back["aad"] = B64.encode("other").into();
    lab.hsm("POST", "/keys/aes/decrypt", Some(back)).await.refused(400, "BadParameter");
    let again = lab.hsm("POST", "/keys/aes/rotate", None).await.expect(200).body;
    assert_ne!(again["key"]["kid"], key["key"]["kid"]);
    let random = lab.hsm("POST", "/rng", Some(json!({ "count": 16 }))).await.expect(200).body;
    assert_eq!(B64.decode(random["value"].as_str().expect("text")).expect("base64url").len(), 16);
}

#[tokio::test]
async fn deleted_keys_come_back_or_go_for_good_by_those_who_may() {
    let lab = Lab::start().await;
    let mut body = lab.hsm_body();
    body["properties"]["enablePurgeProtection"] = json!(false);
    lab.working(body).await;
    let create = json!({ "kty": "EC-HSM" });
    lab.hsm("POST", "/keys/k1/create", Some(create.clone())).await.expect(200);
    let deleted = lab.hsm("DELETE", "/keys/k1", None).await.expect(200).body;
    assert_eq!(deleted["recoveryId"], format!("https://hsm1.{}/deletedkeys/k1", lab.sim.hsm_suffix()));
    lab.hsm("POST", "/keys/k1/create", Some(create)).await.refused(409, "Conflict/ObjectIsDeletedButRecoverable");
    lab.hsm("GET", "/deletedkeys/k1", None).await.refused(403, "AccessDenied");
    lab.hsm("POST", "/deletedkeys/k1/recover", None).await.refused(403, "AccessDenied");
    lab.local_grant(2, "/keys", OFFICER, lab.sim.object_id()).await.expect(201);
    lab.hsm("GET", "/deletedkeys/k1", None).await.expect(200);
    lab.hsm("POST", "/deletedkeys/k1/recover", None).await.expect(200);
    lab.hsm("GET", "/keys/k1", None).await.expect(200);
    lab.hsm("DELETE", "/keys/k1", None).await.expect(200);
    lab.hsm("DELETE", "/deletedkeys/k1", None).await.expect(204);
    lab.hsm("GET", "/deletedkeys/k1", None).await.refused(404, "KeyNotFound");
    // Purge protection, once on, holds the next one.
    let on = json!({ "properties": { "enablePurgeProtection": true } });
    lab.arm("PATCH", &lab.hsm_id("hsm1"), Some(on)).await.expect(200);
    lab.hsm("POST", "/keys/k2/create", Some(json!({ "kty": "EC-HSM" }))).await.expect(200);
    lab.hsm("DELETE", "/keys/k2", None).await.expect(200);
    lab.hsm("DELETE", "/deletedkeys/k2", None).await.refused(403, "Forbidden");
}

#[tokio::test]
async fn a_deleted_hsm_comes_back_active_with_its_keys_and_local_roles() {
    let lab = Lab::start().await;
    lab.working(lab.hsm_body()).await;
    lab.hsm("POST", "/keys/k1/create", Some(json!({ "kty": "EC-HSM" }))).await.expect(200);
    let id = lab.hsm_id("hsm1");
    let accepted = lab.arm("DELETE", &id, None).await.expect(202);
    let shown = lab.arm("GET", &id, None).await.expect(200);
    assert_eq!(shown.body["properties"]["provisioningState"], "Deleting");
    lab.finish(&accepted).await.expect(200);
    lab.arm("GET", &id, None).await.refused(404, "ResourceNotFound");
    lab.arm("DELETE", &id, None).await.expect(204);
    let token = lab.token("https://managedhsm.azure.net/.default").await;
    assert!(lab.try_send("GET", &lab.hsm_link("hsm1", "/keys"), &token, None).await.is_err(), "its host is gone");
    let provider = format!("/subscriptions/{}/providers/Microsoft.KeyVault", lab.sim.subscription_id());
    let list = lab.arm("GET", &format!("{provider}/deletedManagedHSMs"), None).await.expect(200);
    assert_eq!(list.body["value"][0]["properties"]["mhsmId"], id.as_str());
    let deleted = format!("{provider}/locations/uksouth/deletedManagedHSMs/hsm1");
    lab.arm("GET", &deleted, None).await.expect(200);
    lab.arm("POST", &format!("{deleted}/purge"), None).await.refused(405, "MethodNotAllowed");
    let name = json!({ "name": "HSM1" });
    let check = lab.arm("POST", &format!("{provider}/checkMhsmNameAvailability"), Some(name)).await.expect(200);
    assert_eq!((&check.body["nameAvailable"], &check.body["reason"]), (&json!(false), &json!("AlreadyExists")));
    lab.arm("PUT", &id, Some(lab.hsm_body())).await.refused(409, "ConflictError");
    let mut recover = lab.hsm_body();
    recover["properties"]["createMode"] = json!("recover");
    let accepted = lab.arm("PUT", &id, Some(recover)).await.expect(202);
    let back = lab.finish(&accepted).await.expect(200);
    assert_eq!(back.body["properties"]["securityDomainProperties"]["activationStatus"], "Active");
    lab.hsm("GET", "/keys/k1", None).await.expect(200);
}

#[tokio::test]
async fn without_protection_an_hsm_is_purged_and_a_group_takes_its_hsms_along() {
    let lab = Lab::start().await;
    let mut body = lab.hsm_body();
    body["properties"]["enablePurgeProtection"] = json!(false);
    lab.provisioned(body.clone()).await;
    let listed = lab.arm("GET", &format!("{}/resources", lab.group()), None).await.expect(200);
    assert_eq!(listed.body["value"][0]["type"], "Microsoft.KeyVault/managedHSMs");
    let accepted = lab.arm("DELETE", &lab.group(), None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    let state = lab.sim.normalized();
    assert_eq!(state["managedHsms"], json!({}));
    assert!(state["deletedManagedHsms"]["hsm1"].is_object());
    let deleted = format!(
        "/subscriptions/{}/providers/Microsoft.KeyVault/locations/uksouth/deletedManagedHSMs/hsm1",
        lab.sim.subscription_id()
    );
    let accepted = lab.arm("POST", &format!("{deleted}/purge"), None).await.expect(202);
    lab.finish(&accepted).await.expect(200);
    lab.arm("GET", &deleted, None).await.refused(404, "DeletedManagedHsmNotFound");
    // The name is free, and the new HSM knows nothing of the old one.
    lab.provisioned(body).await;
    let shown = lab.arm("GET", &lab.hsm_id("hsm1"), None).await.expect(200);
    assert_eq!(shown.body["properties"]["securityDomainProperties"]["activationStatus"], "NotActivated");
    let url = format!("{}/_sim/hsms/hsm1/activate", lab.sim.arm_url());
    let active = lab.send("POST", &url, "", None).await.expect(200);
    assert_eq!(active.body["properties"]["securityDomainProperties"]["activationStatus"], "Active");
}

#[tokio::test]
async fn a_caller_without_token_is_told_where_to_get_one_and_nothing_else() {
    let lab = Lab::start().await;
    lab.provisioned(lab.hsm_body()).await;
    let answer = lab.hsm_as("", "GET", "/keys", None).await.expect(401);
    assert_eq!(answer.body, Value::Null);
    assert_eq!(
        answer.headers["www-authenticate"].to_str().expect("text"),
        format!(
            "Bearer authorization=\"{}/{}\", resource=\"https://{}\"",
            lab.sim.login_url(),
            lab.sim.tenant_id(),
            lab.sim.hsm_suffix()
        )
    );
    assert_eq!(answer.headers["content-security-policy"], "default-src 'self'");
    let vault = lab.vault_token().await;
    lab.hsm_as(&vault, "GET", "/keys", None).await.expect(401);
}

#[tokio::test]
async fn local_grants_arrive_and_leave_by_their_own_lag() {
    let mut options = options();
    options.propagation = Propagation { hsm_grant: Lag::seconds(10.0), ..Propagation::instant() };
    let lab = Lab::with(options).await;
    lab.provisioned(lab.hsm_body()).await;
    assert!(lab.sim.activate_hsm("hsm1"));
    lab.local_grant(1, "/keys", AUDITOR, lab.sim.object_id()).await.expect(201);
    lab.hsm("GET", "/keys", None).await.refused(403, "AccessDenied");
    lab.advance(10);
    lab.hsm("GET", "/keys", None).await.expect(200);
    lab.hsm("DELETE", &local_grant_path("/keys", 1), None).await.expect(200);
    lab.hsm("GET", &local_grant_path("/keys", 1), None).await.refused(404, "RoleAssignmentNotFound");
    lab.advance(9);
    lab.hsm("GET", "/keys", None).await.expect(200);
    lab.advance(1);
    lab.hsm("GET", "/keys", None).await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn a_creation_that_fails_leaves_nothing_and_one_that_never_ends_is_never_there() {
    use azure_sim::{Action, Rule};
    let lab = Lab::start().await;
    lab.arm("PUT", &lab.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
    let failure = Action::LroFail { code: "CapacityError".into(), message: "Pool creation is disabled.".into() };
    lab.sim.faults().add(Rule::once("PUT", "*/managedHSMs/*", failure));
    let mut body = lab.hsm_body();
    body["identity"] = json!({ "type": "SystemAssigned" });
    let accepted = lab.arm("PUT", &lab.hsm_id("hsm1"), Some(body.clone())).await.expect(202);
    lab.finish(&accepted).await.refused(409, "CapacityError");
    lab.arm("GET", &lab.hsm_id("hsm1"), None).await.refused(404, "ResourceNotFound");
    lab.sim.faults().add(Rule::once("PUT", "*/managedHSMs/*", Action::LroNeverEnds));
    lab.arm("PUT", &lab.hsm_id("hsm1"), Some(body.clone())).await.expect(202);
    lab.advance(3000);
    let shown = lab.arm("GET", &lab.hsm_id("hsm1"), None).await.expect(200);
    assert_eq!(shown.body["properties"]["provisioningState"], "Provisioning");
    assert!(shown.body["identity"]["principalId"].is_string());
    lab.arm("PUT", &lab.hsm_id("hsm1"), Some(body)).await.refused(409, "ConflictError");
    assert!(!lab.sim.activate_hsm("hsm1"), "what is not provisioned cannot be activated");
}
