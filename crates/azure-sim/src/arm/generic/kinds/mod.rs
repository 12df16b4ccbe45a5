//! The table of types, one file per area. How to add one is told in `super`.

mod ai;
mod analytics;
mod apps;
mod backup;
mod clusters;
mod compute;
mod data;
mod databases;
mod health;
mod instances;
mod messaging;
mod platform;
mod sql;
mod storage;
mod synapse;
mod tools;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::arm::generic::kind::Kind;

const TABLES: &[&[Kind]] = &[
    ai::KINDS,
    analytics::KINDS,
    apps::KINDS,
    backup::KINDS,
    clusters::KINDS,
    compute::KINDS,
    data::KINDS,
    databases::KINDS,
    health::KINDS,
    instances::KINDS,
    messaging::KINDS,
    platform::KINDS,
    sql::KINDS,
    storage::KINDS,
    synapse::KINDS,
    tools::KINDS,
];

/// Types of other modules that have children here.
static HAND_WRITTEN: &[Kind] = &[Kind::tracked("Microsoft.Storage/storageAccounts", "2015-05-01")];

static BY_NAME: LazyLock<BTreeMap<String, &'static Kind>> =
    LazyLock::new(|| all().map(|kind| (kind.name.to_lowercase(), kind)).collect());

/// All types of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Kind> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// The entry of a type, in any case.
pub(crate) fn find(name: &str) -> Option<&'static Kind> {
    BY_NAME.get(&name.to_lowercase()).copied()
}

/// A type that another module plays and that has children here.
pub(crate) fn hand_written(name: &str) -> Option<&'static Kind> {
    HAND_WRITTEN.iter().find(|kind| kind.name.eq_ignore_ascii_case(name))
}

pub(crate) fn is_hand_written(kind: &'static Kind) -> bool {
    hand_written(kind.name).is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut names = BTreeSet::new();
        for kind in all() {
            let name = kind.name;
            assert!(names.insert(name.to_lowercase()), "{name} is there twice");
            assert!(kind.types().len() > 1 && name.contains('.'), "{name}");
            assert!(kind.since.len() == 10, "{name}: {}", kind.since);
            if let Some(parent) = kind.parent() {
                assert!(find(parent).or_else(|| hand_written(parent)).is_some(), "{name} has no parent in the table");
            }
            if let Some(on) = kind.extends {
                assert!(find(on).is_some(), "{name} extends nothing of the table");
            }
            let parts: BTreeSet<&str> = kind.cmk.iter().map(|rule| rule.part).collect();
            assert_eq!(parts.len(), kind.cmk.len(), "{name} has two keys of one name");
            let pointers = kind.cmk.iter().flat_map(|r| r.pointers().into_iter().chain(r.shows.iter().map(|s| s.0)));
            for at in pointers.chain(kind.defaults.iter().map(|d| d.0)).chain(kind.whole.iter().copied()) {
                assert!(at.starts_with('/'), "{name}: {at}");
            }
            let texts = kind.defaults.iter().map(|d| d.1).chain(kind.standing.iter().map(|s| s.1));
            for json in texts {
                assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{name}: {json}");
            }
            let published = crate::arm::published::published(&name.to_lowercase());
            if let Some(published) = published {
                assert_eq!(published.resource_type, name, "casing");
                assert!(kind.since <= published.api_version, "{name}");
            }
        }
    }
}
