//! What hangs under a storage account on ARM: its keys, the services' settings, and the check of names.

use serde_json::{Value, json};

use crate::arm::shape::{Member, Mode, Shape, accept, may, must};
use crate::arm::storage_accounts::{Account, good_name};
use crate::arm::{Asked, no_method};
use crate::http::{Outcome, Reply, rfc3339};
use crate::rbac::check;
use crate::state::World;

/// The two account keys, which open the blob service. Stable while the account lives.
pub(crate) fn keys(w: &World, account: &Account) -> Value {
    let key = |n: &str| {
        let value = w.storehouses.get(&account.name).map(|store| store.account_key(n)).unwrap_or_default();
        json!({ "creationTime": rfc3339(account.created), "keyName": n, "value": value, "permissions": "FULL" })
    };
    json!({ "keys": [key("key1"), key("key2")] })
}

/// The settings of the blob service.
pub(crate) fn blob_service(account: &Account) -> Value {
    json!({
        "sku": { "name": account.sku, "tier": account.sku.split('_').next() },
        "id": format!("{}/blobServices/default", account.id),
        "name": "default",
        "type": "Microsoft.Storage/storageAccounts/blobServices",
        "properties": { "cors": { "corsRules": [] }, "deleteRetentionPolicy": { "allowPermanentDelete": false, "enabled": false } },
    })
}

/// The settings of the file service.
pub(crate) fn file_service(account: &Account) -> Value {
    json!({
        "sku": { "name": account.sku, "tier": account.sku.split('_').next() },
        "id": format!("{}/fileServices/default", account.id),
        "name": "default",
        "type": "Microsoft.Storage/storageAccounts/fileServices",
        "properties": { "cors": { "corsRules": [] }, "shareDeleteRetentionPolicy": { "enabled": true, "days": 7 } },
    })
}

const NAME_BODY: &[Member] = &[must("name", Shape::Text), may("type", Shape::Text)];

/// Whether a name for an account is free.
pub(crate) fn check_name(asked: &Asked<'_>) -> Outcome {
    if !asked.call.is("POST") {
        return Err(no_method(asked.call));
    }
    let body = accept(NAME_BODY, asked.call.object()?, Mode::Whole)?;
    let name = body["name"].as_str().unwrap_or_default();
    let scope = format!("/subscriptions/{}", asked.subscription);
    asked.shared.world(|w| {
        check::require(w, &asked.caller, "Microsoft.Storage/checknameavailability/read", &scope, asked.call.now)?;
        let (reason, message) = if !good_name(name) {
            ("AccountNameInvalid", format!("{name} is not a valid storage account name."))
        } else if w.accounts.contains_key(name) {
            ("AlreadyExists", format!("The storage account named {name} is already taken."))
        } else {
            return Ok(Reply::ok(json!({ "nameAvailable": true })));
        };
        Ok(Reply::ok(json!({ "nameAvailable": false, "reason": reason, "message": message })))
    })
}
