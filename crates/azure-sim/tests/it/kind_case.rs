//! How the types of the generic provider are shown to keep their key rules: one table row per type, two kinds of rows. No
//! tests of its own.

use serde_json::{Value, json};

use crate::client::{Answer, Lab};

/// A type that is put under a key, and back, at any time.
pub struct Case {
    pub kind: &'static str,
    pub name: &'static str,
    /// The body that makes the resource, without a key.
    pub plain: Value,
    /// The requests that put it under the key; with the key the last one.
    pub steps: Vec<(&'static str, Value)>,
    /// Where an answer names the key, and what stands there.
    pub shown: (&'static str, Value),
    /// What a state reads when all is well; no pointer for types that show none.
    pub state: (&'static str, &'static str),
    /// The request that goes back to platform keys, or what it is refused with.
    pub back: (&'static str, Value, Option<&'static str>),
}

/// A type that takes its key with the creation only.
pub struct Born {
    pub kind: &'static str,
    pub name: &'static str,
    /// Without a key.
    pub plain: Value,
    pub with_key: Value,
    /// Requests that would put a plain one under the key: the code of the refusal, or none where the request is taken and
    /// has no such effect.
    pub late: Vec<(&'static str, Value, Option<&'static str>)>,
    pub shown: (&'static str, Value),
    pub state: (&'static str, &'static str),
    /// A write of the key that one under it takes later.
    pub change: (&'static str, Value),
    /// A request to go back, with the code of the refusal.
    pub back: (&'static str, Value, &'static str),
}

const REFUSED: &str = "KeyVaultKeyDisabled";

/// Lets the operation behind an answer end.
pub async fn done(lab: &Lab, answer: &Answer) {
    if answer.headers.contains_key("azure-asyncoperation") {
        assert_eq!(lab.status_of(answer).await["status"], "Succeeded");
    } else {
        lab.advance(3);
    }
}

/// A write that is taken, seen to its end.
async fn write(lab: &Lab, method: &str, id: &str, body: &Value) {
    let answer = lab.arm(method, id, Some(body.clone())).await;
    assert!(answer.status < 300, "{method} {id}: {} {}", answer.status, answer.body);
    done(lab, &answer).await;
}

async fn refused(lab: &Lab, method: &str, id: &str, body: &Value, code: &str) {
    let answer = lab.arm(method, id, Some(body.clone())).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, code), "{method} {id}: {}", answer.body);
}

async fn shows(lab: &Lab, id: &str, shown: &(&str, Value), state: (&str, &str)) {
    let read = lab.arm("GET", id, None).await.expect(200).body;
    assert_eq!(read.pointer(shown.0), Some(&shown.1), "{read}");
    if !state.0.is_empty() {
        assert_eq!(read.pointer(state.0).and_then(Value::as_str), Some(state.1), "{read}");
    }
}

async fn shows_no(lab: &Lab, id: &str, shown: &(&str, Value)) {
    let read = lab.arm("GET", id, None).await.expect(200).body;
    assert_ne!(read.pointer(shown.0), Some(&shown.1), "{read}");
}

impl Case {
    /// Makes it without a key, puts it under one, shows that a disabled key is refused, and goes back.
    pub async fn plays(&self, lab: &Lab) {
        let id = lab.resource_id(self.kind, self.name);
        write(lab, "PUT", &id, &self.plain).await;
        shows_no(lab, &id, &self.shown).await;
        for (method, body) in &self.steps {
            write(lab, method, &id, body).await;
        }
        shows(lab, &id, &self.shown, self.state).await;
        lab.set_key("k1", false).await;
        let (method, body) = self.steps.last().expect("a step");
        refused(lab, method, &id, body, REFUSED).await;
        lab.set_key("k1", true).await;
        let (method, body, code) = &self.back;
        match code {
            Some(code) => {
                refused(lab, method, &id, body, code).await;
                shows(lab, &id, &self.shown, self.state).await;
            }
            None => {
                write(lab, method, &id, body).await;
                shows_no(lab, &id, &self.shown).await;
                // Nobody looks at the key any more.
                lab.set_key("k1", false).await;
                if self.has_identity() {
                    write(lab, "PATCH", &id, &json!({ "identity": lab.user_identity() })).await;
                } else {
                    write(lab, method, &id, body).await;
                }
                lab.set_key("k1", true).await;
            }
        }
        let gone = lab.arm("DELETE", &id, None).await;
        assert!([200, 202].contains(&gone.status), "{id}: {}", gone.body);
        lab.advance(3);
        lab.arm("GET", &id, None).await.expect(404);
    }

    fn has_identity(&self) -> bool {
        std::iter::once(&self.plain).chain(self.steps.iter().map(|s| &s.1)).any(|b| b.get("identity").is_some())
    }
}

impl Born {
    /// Shows that a plain one takes no key, makes one with the key, changes it, and shows what is refused.
    pub async fn plays(&self, lab: &Lab) {
        let plain = lab.resource_id(self.kind, &format!("{}x", self.name));
        write(lab, "PUT", &plain, &self.plain).await;
        for (method, body, code) in &self.late {
            match code {
                Some(code) => refused(lab, method, &plain, body, code).await,
                None => write(lab, method, &plain, body).await,
            }
            shows_no(lab, &plain, &self.shown).await;
        }
        let id = lab.resource_id(self.kind, self.name);
        lab.set_key("k1", false).await;
        refused(lab, "PUT", &id, &self.with_key, REFUSED).await;
        lab.arm("GET", &id, None).await.expect(404);
        lab.set_key("k1", true).await;
        write(lab, "PUT", &id, &self.with_key).await;
        shows(lab, &id, &self.shown, self.state).await;
        lab.set_key("k1", false).await;
        refused(lab, self.change.0, &id, &self.change.1, REFUSED).await;
        lab.set_key("k1", true).await;
        write(lab, self.change.0, &id, &self.change.1).await;
        refused(lab, self.back.0, &id, &self.back.1, self.back.2).await;
        shows(lab, &id, &self.shown, self.state).await;
    }
}

/// ARM's common form; the identity's type is spelled as the service spells it.
pub fn common(lab: &Lab, url: &str, identity_type: &str) -> Value {
    json!({ "customerManagedKeyEncryption": {
        "keyEncryptionKeyUrl": url,
        "keyEncryptionKeyIdentity": {
            "identityType": identity_type, "userAssignedIdentityResourceId": lab.identity_id() } } })
}

/// The URI of the vault with the key.
pub fn vault(lab: &Lab) -> String {
    format!("https://kv1.{}/", lab.sim.vault_suffix())
}

/// The object id of the service principal of one of Azure's own applications, as Microsoft Graph tells it.
pub async fn first_party(lab: &Lab, application: &str) -> String {
    let graph = format!("https://graph.{}", lab.sim.vault_suffix().trim_start_matches("vault."));
    let token = lab.token(&format!("{graph}/.default")).await;
    let url = format!("{graph}/v1.0/servicePrincipals?$filter=appId+eq+'{application}'");
    let found = lab.send("GET", &url, &token, None).await.expect(200).body;
    found["value"][0]["id"].as_str().expect("an object id").to_owned()
}
