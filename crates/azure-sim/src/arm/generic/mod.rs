//! The generic provider: every ARM type that is not played by a module of its own is an entry of a table (`kinds`), and one
//! engine answers them all. What may be written to a type is described in `types/*.json` (`arm::published`); how it
//! behaves is its `Kind`; how it takes a customer's key is one `Cmk` per key.
//!
//! **To add a type**: put its description into `types/` (without one any body is taken), and an entry into the file of
//! `kinds/` that fits, in its `KINDS`. Start from `Kind::tracked` (top level) or `Kind::child`, and name what differs:
//!
//! ```text
//! Kind {
//!     naming: Naming::of(1, 98, "-"),
//!     identities: Identities::SPACED,
//!     whole: &["/properties/encryption/customerManagedKeyEncryption"],   // `{}` there goes back to platform keys
//!     cmk: &[Cmk {
//!         version: Version::Required,
//!         follows: Follows::Never,
//!         ..Cmk::new(On::Present(URL), KeyAt::Url(URL), Looks::ArmId(IDENTITY))
//!     }],
//!     ..Kind::tracked("Microsoft.Maps/accounts", "2023-06-01")
//! }
//! ```
//!
//! Give it a row in a test of `tests/it/kinds_*.rs` (`kind_case` has the two usual ones), and let `just golden` write it into
//! `TYPES.md`, which lists every type with its tests.
//!
//! A parent that matters to nobody is an entry without keys. What one type alone does is a function in `hooks/`, put into
//! `guard` (refuses or changes a write), `shows` (read-only members) or `after` (changes other resources). A service's own
//! words for what is wrong with a key are `Cmk::words`; what it does not say itself is said by `errors::common`.
//! Requests below a type that the table does not have are answered 501.

mod body;
mod errors;
mod hooks;
mod keys;
mod kind;
mod kinds;
mod pointer;
mod read;
mod remove;
pub(crate) mod resource;
mod route;
mod rule;
pub(crate) mod soft;
#[cfg(test)]
mod table;
mod track;
mod write;

use serde_json::Value;
use time::OffsetDateTime;

use crate::arm::Asked;
use crate::arm::no_method;
use crate::http::{Failure, Outcome, Reply};
use crate::state::{Shared, World};

pub(crate) use remove::{gone, remove_under};
pub(crate) use soft::expire;

use route::Route;

/// Answers a request below a group; `segments` start with the namespace. `None`: the table has nothing of it.
pub(crate) async fn serve(asked: &Asked<'_>, group: &str, segments: &[&str]) -> Option<Outcome> {
    let call = asked.call;
    Some(match route::route(asked, group, segments)? {
        Route::Collection(kind, scope) => read::list(asked, kind, &scope),
        Route::Action(target, action) => read::act(asked, &target, action),
        Route::NotPlayed(what) => Err(Failure::not_played(&what)),
        Route::Resource(target) => match call.method.as_str() {
            "GET" | "HEAD" => {
                write::take_late(asked, &target).await;
                read::get(asked, &target)
            }
            "PUT" | "PATCH" => write::write(asked, &target).await,
            "DELETE" => remove::delete(asked, &target),
            _ => Err(no_method(call)),
        },
    })
}

/// Answers a request to a provider of the subscription: lists, soft-deleted resources. `rest` is behind the namespace.
pub(crate) fn in_subscription(asked: &Asked<'_>, namespace: &str, rest: &[&str]) -> Option<Outcome> {
    if let [types] = rest
        && let Some(kind) = kinds::find(&format!("{namespace}/{types}"))
    {
        return Some(read::list(asked, kind, &format!("/subscriptions/{}", asked.subscription)));
    }
    soft::serve(asked, namespace, rest)
}

/// Answers a request to a provider of the tenant: `/providers/{namespace}/…`.
pub(crate) fn in_tenant(asked: &Asked<'_>, rest: &[&str]) -> Option<Outcome> {
    match rest {
        [namespace, what, name]
            if namespace.eq_ignore_ascii_case("Microsoft.DocumentDB")
                && what.eq_ignore_ascii_case("databaseAccountNames") =>
        {
            if !matches!(asked.call.method.as_str(), "HEAD" | "GET") {
                return Some(Err(no_method(asked.call)));
            }
            // Answered for the whole tenant: a taken name is 200, a free one 404, both without a body.
            let taken = asked.shared.world(|w| {
                w.resources
                    .values()
                    .any(|r| r.kind == "Microsoft.DocumentDB/databaseAccounts" && r.name.eq_ignore_ascii_case(name))
            });
            Some(Ok(Reply::empty(if taken { 200 } else { 404 })))
        }
        _ => None,
    }
}

/// Whether the table has types of this namespace.
pub(crate) fn plays(namespace: &str) -> bool {
    kinds::all().any(|k| k.namespace().eq_ignore_ascii_case(namespace))
}

/// Namespace, type and its first and newest api-version, for the list of providers.
pub(crate) fn types() -> impl Iterator<Item = (&'static str, &'static str, [&'static str; 2])> {
    kinds::all().map(|kind| {
        let published = crate::arm::published::published(&kind.name.to_lowercase());
        (kind.namespace(), kind.types(), [published.map_or(kind.since, |p| p.api_version), kind.since])
    })
}

/// The resources that generic lists show: those with a region of their own.
pub(crate) fn rows(w: &World, now: OffsetDateTime) -> impl Iterator<Item = &resource::Resource> {
    w.resources.values().filter(move |r| r.visible(now) && r.kind().is_some_and(|k| k.placed))
}

/// The resource of this lower-case id as answers show it.
pub(crate) fn shown(w: &World, shared: &Shared, id: &str, now: OffsetDateTime) -> Option<Value> {
    w.resources.get(id).map(|r| r.render(w, shared, now))
}
