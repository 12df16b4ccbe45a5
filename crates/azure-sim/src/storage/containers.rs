//! Containers: create, look at, delete. They hold no secret bytes, so all of this goes on while the account's key is away.

use std::collections::BTreeMap;

use crate::http::{Failure, Outcome, Reply};
use crate::state::World;
use crate::storage::Asked;
use crate::storage::auth::Need;
use crate::storage::headers::{http_date, metadata};
use crate::storage::store::{Container, Storehouse};

/// 3 to 63 lower-case letters, digits and single dashes between them, or one of the names with a dollar.
fn good_name(name: &str) -> bool {
    let parts = || name.split('-');
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!(name, "$root" | "$logs" | "$web")
        || ((3..=63).contains(&name.len()) && parts().all(|p| !p.is_empty() && p.bytes().all(good)))
}

fn no_container() -> Failure {
    Failure::new(404, "ContainerNotFound", "The specified container does not exist.")
}

/// The container, or 404.
pub(crate) fn of<'s>(store: &'s Storehouse, name: &str) -> Result<&'s Container, Failure> {
    store.containers.get(name).ok_or_else(no_container)
}

/// The same, to change it.
pub(crate) fn of_mut<'s>(store: &'s mut Storehouse, name: &str) -> Result<&'s mut Container, Failure> {
    store.containers.get_mut(name).ok_or_else(no_container)
}

/// An entity tag that nothing else has.
pub(crate) fn fresh_etag(w: &mut World) -> String {
    format!("\"0x8DE{:012X}\"", w.number())
}

pub(crate) fn create(asked: &Asked<'_>, name: &str) -> Outcome {
    let metadata = metadata(asked.call)?;
    asked.shared.world(|w| {
        asked.require(w, Need::WRITE_CONTAINER, name)?;
        if !good_name(name) {
            return Err(Failure::new(
                400,
                "InvalidResourceName",
                "The specified resource name contains invalid characters.",
            ));
        }
        let etag = fresh_etag(w);
        let store = asked.store_mut(w)?;
        if store.containers.contains_key(name) {
            return Err(Failure::new(409, "ContainerAlreadyExists", "The specified container already exists."));
        }
        store.room_for_container()?;
        let modified = asked.call.now;
        let container = Container { etag: etag.clone(), modified, metadata, blobs: BTreeMap::new() };
        store.containers.insert(name.to_owned(), container);
        asked.call.touch();
        Ok(Reply::empty(201).with("etag", etag).with("last-modified", http_date(modified)))
    })
}

pub(crate) fn properties(asked: &Asked<'_>, name: &str) -> Outcome {
    asked.shared.world(|w| {
        asked.require(w, Need::READ_CONTAINER, name)?;
        let container = of(asked.store(w)?, name)?;
        let mut reply = Reply::empty(200)
            .with("etag", container.etag.clone())
            .with("last-modified", http_date(container.modified))
            .with("x-ms-lease-status", "unlocked")
            .with("x-ms-lease-state", "available")
            .with("x-ms-has-immutability-policy", "false")
            .with("x-ms-has-legal-hold", "false");
        reply.named = container.metadata.iter().map(|(n, v)| (format!("x-ms-meta-{n}"), v.clone())).collect();
        Ok(reply)
    })
}

pub(crate) fn delete(asked: &Asked<'_>, name: &str) -> Outcome {
    asked.shared.world(|w| {
        asked.require(w, Need::DELETE_CONTAINER, name)?;
        let store = asked.store_mut(w)?;
        of(store, name)?;
        store.containers.remove(name);
        asked.call.touch();
        Ok(Reply::empty(202))
    })
}

#[cfg(test)]
mod tests {
    use super::good_name;

    #[test]
    fn names() {
        for (name, good) in [
            ("abc", true),
            ("a-b-0", true),
            ("$root", true),
            ("ab", false),
            ("a--b", false),
            ("-ab", false),
            ("ab-", false),
            ("Abc", false),
            ("a_b", false),
        ] {
            assert_eq!(good_name(name), good, "{name}");
        }
        assert!(!good_name(&"a".repeat(64)));
    }
}
