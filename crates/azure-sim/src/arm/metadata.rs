//! The cloud metadata document: what a client needs to know of this cloud to reach all of it.

use serde_json::{Value, json};

use crate::http::{Call, Reply};
use crate::state::Shared;

/// One object for newer api-versions, an array of clouds for `2019-05-01` and `2020-06-01`, as az and Terraform expect.
pub(crate) fn endpoints(shared: &Shared, call: &Call) -> Reply {
    let names = &shared.addresses;
    let arm = call.origin.clone();
    let cloud = json!({
        "name": "AzureSim",
        "portal": names.url("portal"),
        "authentication": {
            "loginEndpoint": names.url("login"),
            "audiences": [arm, "https://management.core.windows.net/", "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "graphAudience": names.url("graph"),
        "graph": names.url("graph"),
        "microsoftGraphResourceId": names.url("graph"),
        "resourceManager": arm,
        "suffixes": {
            "keyVaultDns": names.authority("vault"),
            "mhsmDns": names.authority("managedhsm"),
            // Storage endpoints are named `{account}.blob.{suffix}`.
            "storage": if names.port == 443 { names.suffix.clone() } else { format!("{}:{}", names.suffix, names.port) },
        },
    });
    match call.param("api-version") {
        Some("2019-05-01" | "2020-06-01") => Reply::ok(Value::Array(vec![cloud])),
        _ => Reply::ok(cloud),
    }
}
