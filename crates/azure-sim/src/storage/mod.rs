//! The data plane of storage accounts: a small blob service, so that one can see what a customer's key protects. Bytes
//! are kept encrypted under the account's data key, which is kept wrapped under the customer's key, or under one of the
//! service's own. How an account is made and put under a key is `arm::storage_accounts`.

mod auth;
mod blobs;
mod conditions;
mod containers;
mod headers;
mod listing;
mod shared_key;
mod store;
mod xml;

use std::sync::Arc;

use crate::arm::storage_accounts::Account;
use crate::cmk::{self, DataKey, Refusal};
use crate::http::{Call, Failure, Outcome, decode};
use crate::state::{Shared, World};

pub(crate) use headers::common as common_headers;
pub(crate) use store::Storehouse;
pub(crate) use xml::error as error_body;

/// Which account and which of its services a host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Lower-case name of the account.
    pub account: String,
    /// `blob`, `queue`, `table`, `file`, `dfs` or `web`.
    pub service: &'static str,
}

/// The DNS zones of storage accounts.
pub(crate) const SERVICES: &[&str] = &["blob", "queue", "table", "file", "dfs", "web"];

/// A request to the blob service, let in.
pub(crate) struct Asked<'a> {
    pub shared: &'a Shared,
    pub call: &'a Call,
    pub account: &'a str,
    pub caller: auth::Caller,
}

/// Whether the host of the account resolves: it does while the account exists.
pub(crate) fn exists(w: &World, endpoint: &Endpoint, now: time::OffsetDateTime) -> bool {
    w.accounts.get(&endpoint.account).is_some_and(|a| a.ready(now))
}

/// Answers a request to a storage host.
pub(crate) async fn serve(shared: &Shared, call: &Call, endpoint: &Endpoint) -> Outcome {
    if !shared.world(|w| exists(w, endpoint, call.now)) {
        return Err(Failure::no_such_host());
    }
    if endpoint.service != "blob" {
        return Err(Failure::not_played(&format!("the {} service of storage accounts", endpoint.service)));
    }
    let caller = auth::admit(shared, call, &endpoint.account)?;
    let asked = Asked { shared, call, account: &endpoint.account, caller };
    let path = call.path.strip_prefix('/').unwrap_or(&call.path);
    let (container, blob) = path.split_once('/').unwrap_or((path, ""));
    let (container, blob) = (decode(container), decode(blob));
    let of_container = call.param("restype").is_some_and(|r| r.eq_ignore_ascii_case("container"));
    let comp = call.param("comp").unwrap_or_default().to_lowercase();
    match (call.method.as_str(), container.as_str(), blob.as_str(), comp.as_str()) {
        ("GET", "", "", "list") => listing::containers(&asked),
        (_, "", "", _) => Err(Failure::not_played("this operation on the blob service")),
        ("PUT", _, "", "") if of_container => containers::create(&asked, &container),
        ("GET" | "HEAD", _, "", "") if of_container => containers::properties(&asked, &container),
        ("DELETE", _, "", "") if of_container => containers::delete(&asked, &container),
        ("GET", _, "", "list") if of_container => listing::blobs(&asked, &container).await,
        (_, _, "", _) if of_container => Err(Failure::not_played("this operation on containers")),
        // A name without a slash is a blob in the root container.
        (_, _, "", _) => Err(Failure::not_played("the root container")),
        ("PUT", _, _, "") => blobs::put(&asked, &container, &blob).await,
        ("GET" | "HEAD", _, _, "") => blobs::get(&asked, &container, &blob).await,
        ("DELETE", _, _, "") => blobs::delete(&asked, &container, &blob),
        _ => Err(Failure::not_played("this operation on blobs")),
    }
}

impl Asked<'_> {
    /// The account; it may have gone since the request was let in.
    fn account<'w>(&self, w: &'w World) -> Result<&'w Account, Failure> {
        w.accounts.get(self.account).ok_or_else(Failure::no_such_host)
    }

    fn store<'w>(&self, w: &'w World) -> Result<&'w Storehouse, Failure> {
        w.storehouses.get(self.account).ok_or_else(Failure::no_such_host)
    }

    fn store_mut<'w>(&self, w: &'w mut World) -> Result<&'w mut Storehouse, Failure> {
        w.storehouses.get_mut(self.account).ok_or_else(Failure::no_such_host)
    }

    /// The account's data key, from under whichever key it lies.
    async fn data_key(&self) -> Result<Arc<DataKey>, Failure> {
        let (id, own) = self.shared.world(|w| {
            let store = self.store(w)?;
            Ok::<_, Failure>((self.account(w)?.id.clone(), store.data_key()))
        })?;
        match own {
            Some(key) => Ok(key),
            None => cmk::open(self.shared, &id).await.map_err(revoked),
        }
    }
}

/// What the data plane says while the account's key is away: one of three codes, all of them 403. Which reason gets which
/// code is UNVERIFIED beyond what their names say.
fn revoked(why: Refusal) -> Failure {
    let (code, message) = match why {
        Refusal::BadUri | Refusal::VaultMissing | Refusal::HsmNotTaken => {
            ("KeyVaultVaultNotFound", "The key vault is not found.")
        }
        Refusal::Firewall | Refusal::IdentityGone | Refusal::NoAccess => (
            "KeyVaultAccessTokenCannotBeAcquired",
            "The access token for the key vault cannot be acquired, or the key vault refuses it.",
        ),
        Refusal::KeyMissing
        | Refusal::KeyDisabled
        | Refusal::KeyNotYetValid
        | Refusal::KeyExpired
        | Refusal::HasExpiry
        | Refusal::WrongKey
        | Refusal::WrongSize
        | Refusal::NotProtected
        | Refusal::ShortRetention
        | Refusal::OtherRegion => {
            ("KeyVaultEncryptionKeyNotFound", "The key vault key is not found to unwrap the encryption key.")
        }
    };
    Failure::new(403, code, message)
}
