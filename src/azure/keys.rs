//! Keys of a vault or managed HSM, on Microsoft's own `azure_security_keyvault_keys`.
//!
//! What belongs here: one function per call of the data plane that the steps need. What does not: vaults themselves
//! (`vaults`), and any cryptography with keys. The client's check that a store's challenge names the store's own domain
//! stays on; [`Cloud::check_store_uri`] comes before it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::headers::Headers;
use azure_core::http::{ClientMethodOptions, ClientOptions, Response};
use azure_security_keyvault_keys::models::{
    CreateKeyParameters, KeyClientCreateKeyOptions, KeyClientGetDeletedKeyOptions, KeyClientGetKeyOptions,
    KeyClientGetKeyRotationPolicyOptions, KeyClientUpdateKeyRotationPolicyOptions, KeyRotationPolicy,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use serde::de::DeserializeOwned;

use super::arm::within;
use super::classify::Origin;
use super::cloud::Cloud;
use super::context::CallContext;
use super::error::{self, AzureError, AzureErrorKind};
pub use super::key_models::{DeletedKey, KeyInfo, KeyOperation, KeySpec, KeyType, RotationPolicy};
use super::limits::{Ask, Key, Limits, Work, told};

/// The most clients that are kept; the one not used for longest goes first. A client holds no connection of its own.
const MAX_CLIENTS: usize = 128;

/// The clients of all stores in use: one per store, kept, because a client's first call is spent on the challenge.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    cloud: Cloud,
    credential: Arc<dyn TokenCredential>,
    options: ClientOptions,
    call_timeout: Duration,
    limits: Arc<Limits>,
    /// By store URI, the most recently used last.
    clients: Mutex<Vec<(String, Arc<KeyClient>)>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("vault_suffix", &self.inner.cloud.vault_suffix).finish_non_exhaustive()
    }
}

impl Keys {
    pub(super) fn new(
        cloud: Cloud,
        credential: Arc<dyn TokenCredential>,
        options: ClientOptions,
        call_timeout: Duration,
        limits: Arc<Limits>,
    ) -> Self {
        Self { inner: Arc::new(Inner { cloud, credential, options, call_timeout, limits, clients: Mutex::default() }) }
    }

    /// Reads a key: the given version or the latest.
    pub async fn get(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<Option<KeyInfo>, AzureError> {
        let client = self.client(store_uri, &[Some(name), version])?;
        let options =
            KeyClientGetKeyOptions { key_version: version.map(str::to_owned), method_options: method_options(cx) };
        let ask = other(cx, store_uri);
        self.look(ask, client.get_key(name, Some(options)), read_key).await
    }

    /// Looks for a deleted key of this name.
    pub async fn get_deleted(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
    ) -> Result<Option<DeletedKey>, AzureError> {
        let client = self.client(store_uri, &[Some(name)])?;
        let options = KeyClientGetDeletedKeyOptions { method_options: method_options(cx) };
        let ask = other(cx, store_uri);
        self.look(ask, client.get_deleted_key(name, Some(options)), |key, _| {
            Ok(DeletedKey { recovery_id: key.recovery_id, scheduled_purge: key.scheduled_purge_date })
        })
        .await
    }

    /// Creates a key. On an existing name this makes a new version: look first. `SoftDeleted` if a deleted key holds the
    /// name.
    pub async fn create(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
        spec: &KeySpec,
    ) -> Result<KeyInfo, AzureError> {
        let client = self.client(store_uri, &[Some(name)])?;
        let parameters: CreateKeyParameters = spec.to_sdk();
        let options = KeyClientCreateKeyOptions { method_options: method_options(cx) };
        let body = parameters.try_into().map_err(|e| AzureError::from_sdk(Origin::Store, &e))?;
        let in_hsm = matches!(spec.kty, KeyType::RsaHsm | KeyType::EcHsm);
        let work = if in_hsm { Work::CreateInHsm } else { Work::Create };
        let ask = cx.ask(Key::Store(store_uri.trim_end_matches('/').to_lowercase(), work));
        self.call(ask, client.create_key(name, body, Some(options)), read_key).await
    }

    /// Reads a key's rotation policy; `None` if the key or its policy does not exist.
    pub async fn rotation_policy(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
    ) -> Result<Option<RotationPolicy>, AzureError> {
        let client = self.client(store_uri, &[Some(name)])?;
        let options = KeyClientGetKeyRotationPolicyOptions { method_options: method_options(cx) };
        let ask = other(cx, store_uri);
        let call = client.get_key_rotation_policy(name, Some(options));
        self.look(ask, call, |policy, _| Ok(RotationPolicy::from_sdk(policy))).await
    }

    /// Replaces a key's rotation policy.
    pub async fn set_rotation_policy(
        &self,
        cx: &CallContext,
        store_uri: &str,
        name: &str,
        policy: &RotationPolicy,
    ) -> Result<RotationPolicy, AzureError> {
        let client = self.client(store_uri, &[Some(name)])?;
        let policy: KeyRotationPolicy = policy.to_sdk();
        let options = KeyClientUpdateKeyRotationPolicyOptions { method_options: method_options(cx) };
        let body = policy.try_into().map_err(|e| AzureError::from_sdk(Origin::Store, &e))?;
        let call = client.update_key_rotation_policy(name, body, Some(options));
        self.call(other(cx, store_uri), call, |policy, _| Ok(RotationPolicy::from_sdk(policy))).await
    }

    /// The store's client. The store must be one of the cloud's and the names must be such as Azure allows: the SDK puts
    /// them into the path as they are.
    fn client(&self, store_uri: &str, names: &[Option<&str>]) -> Result<Arc<KeyClient>, AzureError> {
        let uri = self.inner.cloud.check_store_uri(store_uri)?;
        if let Some(name) = names.iter().flatten().find(|name| !is_name(name)) {
            return Err(AzureError::new(AzureErrorKind::Rejected, format!("not a key's name or version: {name}")));
        }
        let mut clients = self.inner.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match clients.iter().position(|(known, _)| *known == uri) {
            Some(at) => clients.remove(at),
            None => {
                let options =
                    KeyClientOptions { client_options: self.inner.options.clone(), ..KeyClientOptions::default() };
                let client = KeyClient::new(&uri, self.inner.credential.clone(), Some(options))
                    .map_err(|e| AzureError::from_sdk(Origin::Store, &e))?;
                (uri, Arc::new(client))
            }
        };
        let client = entry.1.clone();
        clients.push(entry);
        if clients.len() > MAX_CLIENTS {
            clients.remove(0);
        }
        Ok(client)
    }

    /// One call: its token, then the call, sign-in and challenge included, within the call time-out.
    async fn call<M: DeserializeOwned, T>(
        &self,
        ask: Ask,
        call: impl Future<Output = azure_core::Result<Response<M>>>,
        read: impl FnOnce(M, Option<String>) -> Result<T, String>,
    ) -> Result<T, AzureError> {
        let ticket = self.inner.limits.admit(ask).await?;
        let answered =
            within(self.inner.call_timeout, call).await?.map_err(|e| AzureError::from_sdk(Origin::Store, &e));
        // An answer without status did not come from the store; the call may not have reached it.
        match &answered {
            Ok(response) => ticket.answered(told(response.status().into(), None, None)),
            Err(AzureError { status: Some(status), retry_after, .. }) => {
                ticket.answered(told(*status, None, *retry_after));
            }
            Err(_) => drop(ticket),
        }
        let (status, headers, body) = answered?.deconstruct();
        body.json::<M>().map_err(|e| error::chain(&e)).and_then(|model| read(model, request_id(&headers))).map_err(
            |e| {
                AzureError { status: Some(status.into()), ..AzureError::new(AzureErrorKind::Unexpected, e) }
                    .with_request_id(request_id(&headers))
            },
        )
    }

    async fn look<M: DeserializeOwned, T>(
        &self,
        ask: Ask,
        call: impl Future<Output = azure_core::Result<Response<M>>>,
        read: impl FnOnce(M, Option<String>) -> Result<T, String>,
    ) -> Result<Option<T>, AzureError> {
        match self.call(ask, call, read).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == AzureErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn read_key(key: azure_security_keyvault_keys::models::Key, request_id: Option<String>) -> Result<KeyInfo, String> {
    KeyInfo::from_sdk(key, request_id).ok_or_else(|| "a key without id, version or type".to_owned())
}

fn request_id(headers: &Headers) -> Option<String> {
    error::request_id(headers)
}

/// How calls ask that create nothing.
fn other(cx: &CallContext, store_uri: &str) -> Ask {
    cx.ask(Key::Store(store_uri.trim_end_matches('/').to_lowercase(), Work::Other))
}

fn method_options(cx: &CallContext) -> ClientMethodOptions<'static> {
    ClientMethodOptions { context: cx.for_one_call() }
}

fn is_name(name: &str) -> bool {
    (1..=127).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{FakeAzure, Reply, cx};
    use super::*;

    fn keys() -> Keys {
        FakeAzure::new([]).keys()
    }

    #[test]
    fn one_client_per_store_and_a_bounded_number_of_them() {
        let keys = keys();
        let first = keys.client("https://kv-0.vault.azure.net", &[]).expect("a client");
        let again = keys.client("https://KV-0.vault.azure.net/", &[]).expect("a client");
        assert!(Arc::ptr_eq(&first, &again));
        for i in 1..=MAX_CLIENTS {
            keys.client(&format!("https://kv-{i}.vault.azure.net"), &[]).expect("a client");
        }
        assert_eq!(keys.inner.clients.lock().expect("not poisoned").len(), MAX_CLIENTS);
        let anew = keys.client("https://kv-0.vault.azure.net", &[]).expect("a client");
        assert!(!Arc::ptr_eq(&first, &anew));
    }

    #[test]
    fn foreign_stores_and_names_that_escape_the_path_are_refused() {
        let keys = keys();
        let kind = |uri, name| keys.client(uri, &[Some(name)]).map(|_| ()).map_err(|e| e.kind);
        assert_eq!(kind("https://kv.evil.example", "k"), Err(AzureErrorKind::UntrustedUrl));
        for name in ["", "../secrets/s", "k?x=1", "k/1", "k%2f"] {
            assert_eq!(kind("https://kv.vault.azure.net", name), Err(AzureErrorKind::Rejected), "{name}");
        }
        assert_eq!(kind("https://kv.vault.azure.net", "key-1"), Ok(()));
    }

    const STORE: &str = "https://kv1.vault.azure.net";
    const CHALLENGE: &str =
        r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#;

    fn key() -> Reply {
        let kid = format!("{STORE}/keys/k/0123456789abcdef0123456789abcdef");
        Reply::json(
            200,
            json!({"key": {"kid": kid, "kty": "RSA", "n": "AQ", "e": "AQAB", "key_ops": ["wrapKey"]},
            "attributes": {"enabled": true}}),
        )
        .with("x-ms-request-id", "r-1")
    }

    fn spec() -> KeySpec {
        KeySpec {
            kty: KeyType::Rsa,
            size_bits: Some(2048),
            curve: None,
            operations: vec![KeyOperation::WrapKey],
            expires: None,
            not_before: None,
            tags: Default::default(),
        }
    }

    #[tokio::test]
    async fn only_the_first_call_to_a_store_is_challenged() {
        let challenge = Reply::empty(401).with("www-authenticate", CHALLENGE);
        let fake = FakeAzure::new([challenge, key(), key()]);
        let keys = fake.keys();
        let created = keys.create(&cx(), STORE, "k", &spec()).await.expect("created");
        assert_eq!((created.id.name.as_str(), created.request_id.as_deref()), ("k", Some("r-1")));
        keys.get(&cx(), STORE, "k", None).await.expect("read").expect("found");
        let sent = fake.sent();
        let seen: Vec<_> = sent.iter().map(|s| (s.method.as_str(), s.header("authorization"))).collect();
        assert_eq!(seen, [("POST", None), ("POST", Some("Bearer fake-token")), ("GET", Some("Bearer fake-token"))]);
        assert_eq!(sent[0].body, "");
        assert_eq!(sent[1].body, r#"{"key_ops":["wrapKey"],"key_size":2048,"kty":"RSA"}"#);
        assert_eq!(sent[0].header("x-ms-client-request-id"), sent[1].header("x-ms-client-request-id"));
    }

    #[tokio::test]
    async fn a_challenge_for_a_foreign_domain_gets_no_token() {
        let foreign = CHALLENGE.replace("https://vault.azure.net", "https://evil.example");
        let fake = FakeAzure::new([Reply::empty(401).with("www-authenticate", &foreign)]);
        let error = fake.keys().get(&cx(), STORE, "k", None).await.expect_err("refused");
        assert_eq!((error.kind, fake.sent().len()), (AzureErrorKind::UntrustedUrl, 1));
    }

    #[tokio::test]
    async fn refusals_of_a_store_keep_their_kind() {
        use AzureErrorKind::{Forbidden, NotSent, SoftDeleted, Throttled, Unexpected, UnknownOutcome};
        let refused = |status, code: &str, inner: &str| {
            Reply::json(status, json!({"error": {"code": code, "message": "m", "innererror": {"code": inner}}}))
        };
        for (reply, kind) in [
            (refused(403, "Forbidden", "ForbiddenByRbac"), Forbidden),
            (refused(409, "Conflict", "ObjectIsDeletedButRecoverable"), SoftDeleted),
            (refused(429, "Throttled", "x"), Throttled),
            (Reply::json(200, json!({"key": {}})), Unexpected),
            (Reply::text(200, "<html>"), Unexpected),
            (Reply::refused(), NotSent),
            (Reply::cut(), UnknownOutcome),
        ] {
            let fake = FakeAzure::new([Reply::empty(401).with("www-authenticate", CHALLENGE), reply]);
            let error = fake.keys().create(&cx(), STORE, "k", &spec()).await.expect_err("an error");
            assert_eq!((error.kind, fake.sent().len()), (kind, 2), "{error}");
        }
        let absent = FakeAzure::new([refused(404, "KeyNotFound", "x")]);
        assert_eq!(absent.keys().get(&cx(), STORE, "k", None).await, Ok(None));
    }
}
