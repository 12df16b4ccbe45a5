//! Who may ask the blob service what: the account's firewall, account keys, tokens of Entra with roles.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::arm::storage_accounts::Account;
use crate::entra::tokens::Claims;
use crate::http::{Call, Failure};
use crate::keyvault::holder::{Gate, Network};
use crate::rbac::check::{Plane, allowed_by};
use crate::state::{Shared, World};
use crate::storage::{Asked, shared_key};

/// Who asks.
#[derive(Debug)]
pub(crate) enum Caller {
    /// Whoever has one of the account keys may do everything.
    AccountKey,
    Principal(Box<Claims>),
}

/// What is needed for an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// Behind `Microsoft.Storage/storageAccounts/blobServices/containers/`.
    action: &'static str,
    /// Containers are matters of the management plane's actions, blobs of data actions.
    plane: Plane,
}

impl Need {
    pub const READ_CONTAINER: Self = Self { action: "read", plane: Plane::Management };
    pub const WRITE_CONTAINER: Self = Self { action: "write", plane: Plane::Management };
    pub const DELETE_CONTAINER: Self = Self { action: "delete", plane: Plane::Management };
    pub const READ: Self = Self { action: "blobs/read", plane: Plane::Data };
    pub const WRITE: Self = Self { action: "blobs/write", plane: Plane::Data };
    pub const DELETE: Self = Self { action: "blobs/delete", plane: Plane::Data };
}

/// Lets a request in, or says why not. What it may do is asked later, by `Asked::require`.
pub(crate) fn admit(shared: &Shared, call: &Call, account: &str) -> Result<Caller, Failure> {
    let refused = |code: &str| challenge(shared, 401, code);
    let (keys, shared_key_allowed) = shared.world(|w| {
        let account = w.accounts.get(account).ok_or_else(Failure::no_such_host)?;
        if !open_to(shared, w, call, account) {
            return Err(Failure::new(
                403,
                "AuthorizationFailure",
                "This request is not authorized to perform this operation.",
            ));
        }
        let store = w.storehouses.get(&account.name).ok_or_else(Failure::no_such_host)?;
        let keys = ["key1", "key2"].map(|name| store.account_key_bytes(name));
        Ok((keys, account.properties.get("allowSharedKeyAccess") != Some(&Value::Bool(false))))
    })?;
    if call.param("sig").is_some() {
        return Err(Failure::not_played("shared access signatures"));
    }
    let Some(header) = call.header("authorization") else {
        return Err(refused("NoAuthenticationInformation"));
    };
    let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
    match scheme.to_lowercase().as_str() {
        "sharedkey" => {
            if !shared_key_allowed {
                return Err(Failure::new(
                    403,
                    "KeyBasedAuthenticationNotPermitted",
                    "Key based authentication is not permitted on this storage account.",
                ));
            }
            let text = shared_key::text(call, account);
            let good = value.trim().split_once(':').is_some_and(|(name, signature)| {
                name == account
                    && STANDARD
                        .decode(signature)
                        .is_ok_and(|s| keys.iter().any(|key| shared_key::verifies(key, &text, &s)))
            });
            if good { Ok(Caller::AccountKey) } else { Err(bad_signature()) }
        }
        "bearer" => bearer(shared, call, account).ok_or_else(|| refused("InvalidAuthenticationInfo")),
        "sharedkeylite" => Err(Failure::not_played("SharedKeyLite")),
        _ => Err(refused("InvalidAuthenticationInfo")),
    }
}

/// A good token of this tenant, for all storage or for this account.
fn bearer(shared: &Shared, call: &Call, account: &str) -> Option<Caller> {
    let claims = shared.signer.verify(call.bearer()?, call.now).ok()?;
    let audience = claims.aud.trim_end_matches('/');
    let own = shared.addresses.url(&format!("{account}.blob"));
    let known = audience == "https://storage.azure.com" || audience == own;
    if !known || !claims.tid.eq_ignore_ascii_case(&shared.options.tenant_id) {
        return None;
    }
    let _ = call.principal.set(claims.oid.clone());
    Some(Caller::Principal(Box::new(claims)))
}

/// Whether the account's firewall lets the caller in: over a private endpoint, from a subnet or from its address.
fn open_to(shared: &Shared, w: &World, call: &Call, account: &Account) -> bool {
    let behind = shared.options.behind_gateway(call.peer);
    if behind && w.networks.privately(&account.id, "blob") {
        return true;
    }
    let text = |name: &str| account.properties.get(name).and_then(Value::as_str);
    let network = Network {
        acls: account.properties.get("networkAcls").cloned(),
        public_access: text("publicNetworkAccess").unwrap_or("Enabled").to_owned(),
    };
    let subnet = behind.then(|| w.networks.subnet_for("Microsoft.Storage")).flatten();
    network.admits(shared.options.address_of(call.peer), subnet) == Gate::Open
}

fn challenge(shared: &Shared, status: u16, code: &str) -> Failure {
    let authority = format!("{}/{}/oauth2/authorize", shared.addresses.url("login"), shared.options.tenant_id);
    Failure::new(
        status,
        code,
        "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
    )
    .with("www-authenticate", format!("Bearer authorization_uri={authority} resource_id=https://storage.azure.com"))
}

/// The text that a wrong signature was made from is not told, as it holds nothing that the caller does not know.
fn bad_signature() -> Failure {
    Failure::new(
        403,
        "AuthenticationFailed",
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.",
    )
}

impl Asked<'_> {
    /// Whether the caller may do this, in the container or, where that is empty, in the account.
    pub(crate) fn require(&self, w: &World, need: Need, container: &str) -> Result<(), Failure> {
        let Caller::Principal(claims) = &self.caller else {
            return Ok(());
        };
        let account = &self.account(w)?.id;
        let scope = if container.is_empty() {
            account.clone()
        } else {
            format!("{account}/blobServices/default/containers/{container}")
        };
        let action = format!("Microsoft.Storage/storageAccounts/blobServices/containers/{}", need.action);
        if allowed_by(w, &claims.oid, &action, &scope, need.plane, self.call.now).is_some() {
            return Ok(());
        }
        Err(Failure::new(
            403,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        ))
    }
}
