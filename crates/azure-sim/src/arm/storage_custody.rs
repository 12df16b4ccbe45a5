//! Whose key a storage account's data key lies under: the service's own or a customer's, and the way between them.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::arm::Asked;
use crate::arm::storage_accounts::Account;
use crate::arm::storage_cmk::Source;
use crate::cmk::{self, DataKey, Hold, KeyUse, Refusal, Usable};
use crate::state::World;
use crate::storage::Storehouse;

/// Whose key the account's data key lies under after a write.
pub(crate) enum Custody {
    Unchanged,
    Customer(Box<Hold>),
    Service(Arc<DataKey>),
}

/// Where the account stands before the write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Present {
    /// There is no such account yet.
    New,
    /// Under the service's own key.
    Platform,
    /// Under a customer's key.
    Held,
}

/// Moves the data key to where the write wants it. An account has the same data key all its life, so that what it stores
/// stays readable. To go over to another key or back to the service's own the present key must be usable.
pub(crate) async fn prepare(
    asked: &Asked<'_>,
    account: &Account,
    found: Option<(Usable, KeyUse)>,
    now_is: Present,
) -> Result<Custody, Refusal> {
    let now = asked.call.now;
    let Some((found, key_use)) = found else {
        let back = now_is == Present::Held && account.encryption.source == Source::Platform;
        return Ok(if back {
            Custody::Service(cmk::open(asked.shared, &account.id).await?)
        } else {
            Custody::Unchanged
        });
    };
    let own = asked.shared.world(|w| w.storehouses.get(&account.name).and_then(Storehouse::data_key));
    let hold = match own {
        Some(data_key) if now_is != Present::New => Hold::with(&data_key, &found, key_use, now).await?,
        _ => cmk::prepare(asked.shared, &account.id, &found, key_use, now).await?,
    };
    Ok(Custody::Customer(Box::new(hold)))
}

/// Puts the data key where it was moved to; whether that changed the key in use.
pub(crate) fn settle(w: &mut World, account: &Account, custody: Custody, now: OffsetDateTime) -> bool {
    let Some(store) = w.storehouses.get_mut(&account.name) else {
        return false;
    };
    match custody {
        Custody::Unchanged => false,
        Custody::Customer(hold) => {
            store.give_up();
            let same = w.hold(&account.id).is_some_and(|h| h.kid == hold.kid);
            w.set_hold(&account.id, *hold, now);
            !same
        }
        Custody::Service(data_key) => {
            store.keep(&data_key);
            w.drop_hold(&account.id).is_some()
        }
    }
}
