//! A small client for the tests: names under `.localhost` resolve to loopback, tokens by secret, JSON in and out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arm_schemas::Watch;
use azure_sim::{Exchange, Options, Propagation, Simulator};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// A simulator with a frozen clock in which everything is visible at once, unless a test says otherwise.
pub struct Lab {
    pub sim: Simulator,
    pub http: reqwest::Client,
    pub arm_token: String,
    /// Holds everything that ARM takes and answers against Azure's published types.
    pub schemas: Watch,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Code, with Key Vault's inner code behind a slash.
    pub fn code(&self) -> String {
        let code = self.body["error"]["code"].as_str().unwrap_or_default();
        match self.body["error"]["innererror"]["code"].as_str() {
            Some(inner) => format!("{code}/{inner}"),
            None => code.to_owned(),
        }
    }

    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.body);
        self
    }
}

struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        let answer = if name.as_str().ends_with("localhost") {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            Ok(Box::new(std::iter::once(address)) as Addrs)
        } else {
            Err(format!("no such host {}", name.as_str()).into())
        };
        Box::pin(std::future::ready(answer))
    }
}

pub fn http(ca_pem: &str) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes()).expect("the CA is a certificate");
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .dns_resolver(Arc::new(Loopback))
        .timeout(Duration::from_secs(60))
        .build()
        .expect("the client builds")
}

pub fn options() -> Options {
    // The clock of most tests stands still, and buckets do not fill while it does.
    let throttling = azure_sim::Throttling::off();
    Options { propagation: Propagation::instant(), fast_keys: true, throttling, ..Options::default() }
}

pub const ADMINISTRATOR: &str = "00482a5a-887f-4fb3-b363-3b7fe8e74483";
pub const ENCRYPTION_USER: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";

/// What a simulator is to show everything to, so that ARM's bodies are held against Azure's published types.
pub fn watched_by(schemas: &Watch) -> azure_sim::Observer {
    let eye = schemas.eye();
    Arc::new(move |e: &Exchange<'_>| {
        if e.surface == "arm" {
            eye.see(e.method, e.path, e.sent, e.status, e.answer);
        }
    })
}

impl Lab {
    pub async fn start() -> Self {
        Self::with(options()).await
    }

    pub async fn with(mut options: Options) -> Self {
        let schemas = Watch::new();
        options.observer = Some(watched_by(&schemas));
        let sim = Simulator::start(options).await.expect("the simulator starts");
        sim.clock().freeze();
        let http = http(sim.ca_pem());
        let mut lab = Self { sim, http, arm_token: String::new(), schemas };
        lab.arm_token = lab.token("https://management.azure.com/.default").await;
        lab
    }

    pub async fn token(&self, scope: &str) -> String {
        let (id, secret) = (self.sim.client_id().to_owned(), self.sim.client_secret().to_owned());
        self.token_as(&id, &secret, scope).await
    }

    pub async fn token_as(&self, id: &str, secret: &str, scope: &str) -> String {
        let answer = self.token_answer(self.sim.tenant_id(), id, secret, scope).await.expect(200);
        answer.body["access_token"].as_str().expect("there is a token").to_owned()
    }

    pub async fn token_answer(&self, tenant: &str, id: &str, secret: &str, scope: &str) -> Answer {
        let url = format!("{}/{tenant}/oauth2/v2.0/token", self.sim.login_url());
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", id)
            .append_pair("client_secret", secret)
            .append_pair("scope", scope)
            .finish();
        let request = self.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(form);
        read(request.send().await.expect("the login host answers")).await
    }

    pub async fn vault_token(&self) -> String {
        self.token(&format!("https://{}/.default", self.sim.vault_suffix())).await
    }

    pub async fn send(&self, method: &str, url: &str, token: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, url, token, body).await.expect("the simulator answers")
    }

    pub async fn try_send(
        &self,
        method: &str,
        url: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<Answer, reqwest::Error> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method, url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = read(request.send().await?).await;
        self.schemas.assert_clean();
        Ok(answer)
    }

    /// A call to ARM; `?api-version=` is added where the path has no query.
    pub async fn arm(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.arm_as(&self.arm_token, method, path, body).await
    }

    pub async fn arm_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let url = self.arm_link(path);
        self.send(method, &url, token, body.as_ref()).await
    }

    pub fn arm_link(&self, path: &str) -> String {
        let version = if path.contains('?') { "" } else { "?api-version=2026-02-01" };
        format!("{}{path}{version}", self.sim.arm_url())
    }

    pub async fn keys(&self, method: &str, vault: &str, path: &str, body: Option<Value>) -> Answer {
        let token = self.vault_token().await;
        self.keys_as(&token, method, vault, path, body).await
    }

    pub async fn keys_as(&self, token: &str, method: &str, vault: &str, path: &str, body: Option<Value>) -> Answer {
        let url = self.vault_link(vault, path);
        self.send(method, &url, token, body.as_ref()).await
    }

    pub fn vault_link(&self, vault: &str, path: &str) -> String {
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("https://{vault}.{}{path}{separator}api-version=7.4", self.sim.vault_suffix())
    }

    pub fn group(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/rg1", self.sim.subscription_id())
    }

    pub fn vault_id(&self, name: &str) -> String {
        format!("{}/providers/Microsoft.KeyVault/vaults/{name}", self.group())
    }

    pub fn identity_id(&self) -> String {
        format!("{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1", self.group())
    }

    pub fn account_id(&self, name: &str) -> String {
        format!("{}/providers/Microsoft.Storage/storageAccounts/{name}", self.group())
    }

    pub fn vault_body(&self) -> Value {
        json!({
            "location": "uksouth",
            "properties": {
                "tenantId": self.sim.tenant_id(),
                "sku": { "family": "A", "name": "standard" },
                "enableRbacAuthorization": true,
                "enablePurgeProtection": true,
                "accessPolicies": [],
                "networkAcls": {
                    "bypass": "AzureServices",
                    "defaultAction": "Deny",
                    "ipRules": [{ "value": "203.0.113.0/24" }],
                    "virtualNetworkRules": [],
                },
            },
        })
    }

    /// Group, identity and vault of the seed.
    pub async fn ground(&self) {
        self.arm("PUT", &self.group(), Some(json!({ "location": "uksouth" }))).await.expect(201);
        self.arm("PUT", &self.identity_id(), Some(json!({ "location": "uksouth" }))).await.expect(201);
        self.arm("PUT", &self.vault_id("kv1"), Some(self.vault_body())).await.expect(201);
    }

    pub async fn principal(&self) -> String {
        let identity = self.arm("GET", &self.identity_id(), None).await.expect(200);
        identity.body["properties"]["principalId"].as_str().expect("a principal id").to_owned()
    }

    pub fn grant_path(&self, scope: &str, number: u32) -> String {
        format!("{scope}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-{number:012}")
    }

    pub fn grant_body(&self, role: &str, principal: &str) -> Value {
        let role = format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            self.sim.subscription_id()
        );
        json!({ "properties": { "roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal" } })
    }

    pub async fn grant(&self, number: u32, role: &str, principal: &str) -> Answer {
        let path = self.grant_path(&self.vault_id("kv1"), number);
        self.arm("PUT", &path, Some(self.grant_body(role, principal))).await
    }

    /// Ground, both grants and an RSA key `k1`. Returns the key's identifier.
    pub async fn ground_with_key(&self) -> String {
        self.ground().await;
        self.grant(1, ADMINISTRATOR, self.sim.object_id()).await.expect(201);
        self.grant(2, ENCRYPTION_USER, &self.principal().await).await.expect(201);
        let body = json!({ "kty": "RSA", "key_size": 2048 });
        let key = self.keys("POST", "kv1", "/keys/k1/create", Some(body)).await.expect(200);
        key.body["key"]["kid"].as_str().expect("a kid").to_owned()
    }

    pub fn account_body(&self, version: &str) -> Value {
        let id = self.identity_id();
        json!({
            "location": "uksouth",
            "kind": "StorageV2",
            "sku": { "name": "Standard_LRS" },
            "identity": { "type": "UserAssigned", "userAssignedIdentities": { id.clone(): {} } },
            "properties": {
                "minimumTlsVersion": "TLS1_2",
                "allowBlobPublicAccess": false,
                "encryption": {
                    "keySource": "Microsoft.Keyvault",
                    "identity": { "userAssignedIdentity": id },
                    "keyvaultproperties": {
                        "keyname": "k1",
                        "keyversion": version,
                        "keyvaulturi": format!("https://kv1.{}", self.sim.vault_suffix()),
                    },
                },
            },
        })
    }

    /// Follows a 202 to its end, moving the clock past the operation.
    pub async fn finish(&self, accepted: &Answer) -> Answer {
        let location = accepted.headers["location"].to_str().expect("text").to_owned();
        assert!(location.starts_with(&self.sim.arm_url()), "{location}");
        self.send("GET", &location, &self.arm_token, None).await.expect(202);
        self.advance(3);
        self.send("GET", &location, &self.arm_token, None).await
    }

    pub fn advance(&self, seconds: u64) {
        self.sim.clock().advance(Duration::from_secs(seconds));
    }
}

pub async fn read(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap_or_default();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
    Answer { status, headers, body }
}
