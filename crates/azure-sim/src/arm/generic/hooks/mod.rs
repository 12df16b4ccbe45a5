//! What one type alone does: functions for `guard`, `shows`, `after`, `words` and actions. Those of a few lines are here.

pub(crate) mod cognitive;
pub(crate) mod cosmos;
pub(crate) mod sql;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::arm::generic::pointer;
use crate::arm::generic::resource::{Resource, View};
use crate::http::rfc3339;

/// An account key that opens nothing, stable for one life of a resource.
pub(crate) fn made_key(resource: &Resource, which: &str) -> String {
    let text = format!("{}#{which}#{}", resource.id.to_lowercase(), resource.created.unix_timestamp());
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, text.as_bytes()))
}

pub(crate) fn configuration_store(view: &View<'_>, out: &mut Value) {
    pointer::set(out, "/properties/endpoint", view.host("azconfig").into());
    pointer::set(out, "/properties/creationDate", rfc3339(view.resource.created).into());
    pointer::set(out, "/properties/privateEndpointConnections", json!([]));
}

pub(crate) fn postgres(view: &View<'_>, out: &mut Value) {
    let host = format!("{}.postgres.database.{}", view.resource.name, view.shared.addresses.suffix);
    pointer::set(out, "/properties/fullyQualifiedDomainName", host.into());
}
