//! Every service: the files of `catalogue/`, read once.
//!
//! What belongs here: the list, a line each, and the tests that hold every file to the same rules. What does not: a word
//! about any one service.

use std::sync::LazyLock;

use super::ServiceDescriptor;

/// A file of the catalogue, which is part of the program.
macro_rules! files {
    ($($slug:literal),* $(,)?) => { &[$(($slug, include_str!(concat!("catalogue/", $slug, ".json")))),*] };
}

const FILES: &[(&str, &str)] = files![
    "storage-account",
    "storage-encryption-scope",
    "cosmosdb-account",
    "ai-services-account",
    "ai-services-encryption-scope",
    "sql-server-tde",
    "sql-managed-instance-tde",
    "sql-database-cmk",
    "disk-encryption-set",
    "postgresql-flexible-server",
    "mysql-flexible-server",
    "event-hubs-namespace",
    "service-bus-namespace",
    "container-registry",
    "machine-learning-workspace",
    "app-configuration-store",
    "data-factory",
    "automation-account",
    "batch-account",
    "data-explorer-cluster",
    "log-analytics-cluster",
    "databricks-managed-services",
    "databricks-managed-disks",
    "databricks-dbfs-root",
    "synapse-workspace",
    "recovery-services-vault",
    "backup-vault",
    "netapp-account",
    "managed-redis",
    "container-instances-group",
    "fhir-service",
    "dicom-service",
    "healthcare-api-service",
    "load-testing",
    "elastic-san-volume-group",
    "fluid-relay",
    "documentdb-mongo-cluster",
    "dev-center",
    "maps-account",
    "cassandra-data-center",
    "azure-vmware-private-cloud",
    "data-box-job",
    "device-update-account",
    "health-bot",
    "managed-lustre",
    "hpc-cache",
    "dell-powerscale",
    "discovery-workspace",
    "discovery-bookshelf",
    "manufacturing-data-service",
    "aks-kms-etcd",
    "ai-search-service",
    "bot-service",
    "hdinsight-cluster",
    "online-experimentation-workspace",
];

/// Every descriptor, in the catalogue's order.
pub static ALL: LazyLock<Vec<ServiceDescriptor>> = LazyLock::new(|| {
    let read = |(slug, text): &(&str, &str)| match serde_json::from_str::<ServiceDescriptor>(text) {
        Ok(descriptor) => descriptor,
        Err(error) => unreachable!("catalogue/{slug}.json is read by a test: {error}"),
    };
    FILES.iter().map(read).collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ArmId;
    use crate::domain::request::{IdentityKind, KeyVersion, TargetCreate};
    use crate::services::{Binding, BoundIdentity, IdentityOn, ReadIdentity, find, merged_identity, template};
    use serde_json::{Map, Value, json};
    use uuid::Uuid;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    fn id(resource_type: &str, name: &str) -> ArmId {
        ArmId::build(Uuid::nil(), "rg", resource_type, name).expect("an id")
    }

    /// A target of the descriptor's type, with every parent.
    fn target(d: &ServiceDescriptor) -> ArmId {
        let (namespace, types) = d.arm_type.split_once('/').expect("a namespace and a type");
        let path: Vec<String> = types.split('/').map(|t| format!("{t}/name1")).collect();
        ArmId::parse(&format!(
            "/subscriptions/{}/resourceGroups/rg/providers/{namespace}/{}",
            Uuid::nil(),
            path.join("/")
        ))
        .expect("an id")
    }

    fn create() -> TargetCreate {
        TargetCreate {
            location: "uksouth".into(),
            sku: None,
            kind: None,
            tags: Default::default(),
            properties: Map::new(),
        }
    }

    fn binding(d: &ServiceDescriptor, kind: IdentityKind, version: KeyVersion) -> Binding {
        let identity = match kind {
            IdentityKind::UserAssigned => BoundIdentity::UserAssigned {
                id: id("Microsoft.ManagedIdentity/userAssignedIdentities", "a"),
                client_id: Some(crate::domain::ids::ClientId(Uuid::from_u128(3))),
            },
            IdentityKind::SystemAssigned => BoundIdentity::SystemAssigned,
            IdentityKind::Platform => BoundIdentity::Platform,
        };
        Binding {
            store_uri: "https://kv1.vault.azure.net".into(),
            store_id: id("Microsoft.KeyVault/vaults", "kv1"),
            key_name: "k".into(),
            key_version: (version == KeyVersion::Pinned).then(|| VERSION.to_owned()),
            current_version: VERSION.into(),
            identity_member: merged_identity(None, &identity, d),
            identity,
        }
    }

    #[test]
    fn every_file_is_named_as_its_slug_and_slugs_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for ((file, _), d) in FILES.iter().zip(ALL.iter()) {
            assert_eq!(*file, d.slug);
            assert!(seen.insert(&d.slug), "{}", d.slug);
            assert!(d.slug.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", d.slug);
            assert!(find(&d.slug).is_some());
        }
        let held =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/services/catalogue")).expect("it is there");
        assert_eq!(held.count(), FILES.len(), "every file of the catalogue is in the list");
    }

    #[test]
    fn names_are_as_the_rule_says() {
        let allowed = |slug: &str, name: &str| find(slug).expect("it is in the catalogue").is_name(name);
        for (slug, good, bad) in [
            ("automation-account", "a-b-c1", ["1-b-c1", "a-b-c-", "a-b"]),
            ("container-instances-group", "a-b", ["a--b", "-ab", "aB"]),
            ("data-explorer-cluster", "abc1", ["1abc", "ab-c", "abc"]),
            ("netapp-account", "a_b-", ["_ab", "a.b", ""]),
        ] {
            assert!(allowed(slug, good), "{slug} {good}");
            for name in bad {
                assert!(!allowed(slug, name), "{slug} {name}");
            }
        }
    }

    #[test]
    fn every_file_says_a_whole_way_to_the_key() {
        for d in ALL.iter() {
            assert_eq!(d.changes_existing, !d.configure.is_empty(), "{}", d.slug);
            assert_eq!(d.changes_existing, !d.identity_kinds.is_empty(), "{}", d.slug);
            assert_eq!(d.create.is_some(), !d.identity_kinds_at_creation.is_empty(), "{}", d.slug);
            assert_own_identity_at_creation(d);
            assert!(d.changes_existing || d.create.is_some(), "{}", d.slug);
            assert!(!d.key_types.is_empty() && !d.key_sizes.is_empty() && !d.key_versions.is_empty(), "{}", d.slug);
            assert!(
                d.configure.split_last().is_none_or(|(_, made)| made.iter().all(|w| !w.at.is_empty())),
                "{}",
                d.slug
            );
        }
    }

    /// Azure's services wrap their data keys, which is RSA's work: of all entries in the facts none takes elliptic curves.
    /// The first that does brings the curve with it, which a request cannot name yet.
    #[test]
    fn no_service_takes_a_key_that_a_request_cannot_describe() {
        use crate::domain::request::KeyType;
        for d in ALL.iter() {
            let other: Vec<_> = d.key_types.iter().filter(|t| !matches!(t, KeyType::Rsa | KeyType::RsaHsm)).collect();
            assert!(other.is_empty(), "{}: {other:?}", d.slug);
        }
    }

    /// A target that is created with its own identity has a principal that nobody knows before: either the key comes in a
    /// second write, or the grant comes after the first. A target whose identity is its parent's has neither trouble.
    fn assert_own_identity_at_creation(d: &ServiceDescriptor) {
        let own = d.identity_kinds_at_creation.contains(&IdentityKind::SystemAssigned);
        let (two, before_grant) = match &d.create {
            Some(create) => (create.without_key.is_some(), create.before_grant),
            None => (false, false),
        };
        let here = d.identity_on == IdentityOn::Target;
        assert_eq!(own && here, two || before_grant, "{}", d.slug);
        assert!(!(two && before_grant), "{}", d.slug);
        if two {
            assert!(d.changes_existing && d.identity_kinds.contains(&IdentityKind::SystemAssigned), "{}", d.slug);
            let body = d.create_body_without_key(&target(d), &create()).expect("it is offered");
            assert!(body["tags"].is_object() && body["identity"]["type"] == "SystemAssigned", "{body}");
            assert!(!d.read_back.read(&body).customer_managed, "{body}");
        }
    }

    #[test]
    fn templates_use_words_that_exist() {
        fn texts<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::String(text) => found.push(text),
                Value::Array(items) => items.iter().for_each(|i| texts(i, found)),
                Value::Object(members) => members.iter().for_each(|(name, v)| {
                    found.push(name);
                    texts(v, found);
                }),
                _ => {}
            }
        }
        for d in ALL.iter() {
            let created = d.create.iter().flat_map(|c| [Some(&c.body), c.without_key.as_ref()]).flatten();
            let bodies = d.configure.iter().map(|w| &w.body).chain(created);
            let mut found = Vec::new();
            bodies.chain(d.attach.with.iter()).for_each(|body| texts(body, &mut found));
            found.extend(d.configure.iter().map(|w| w.at.as_str()));
            for text in found {
                for word in text.split('{').skip(1) {
                    let word = word.split('}').next().unwrap_or_default();
                    assert!(template::WORDS.contains(&word), "{}: {text}", d.slug);
                }
                let known = ["$identity", "$version"].contains(&text);
                assert!(known || !text.starts_with('$'), "{}: {text}", d.slug);
            }
        }
    }

    /// Bodies of the setting itself, so that what is sent can be read as what would be answered.
    #[test]
    fn what_is_configured_reads_back() {
        for d in ALL.iter() {
            for (creating, kinds) in [(false, &d.identity_kinds), (true, &d.identity_kinds_at_creation)] {
                // A second write sets the key as it does for a target that exists.
                let kinds = kinds.iter().filter(|k| !(creating && d.creates_in_two(**k)));
                for (kind, version) in kinds.flat_map(|k| d.key_versions.iter().map(move |v| (*k, *v))) {
                    let (binding, target) = (binding(d, kind, version), target(d));
                    let body = if creating {
                        d.create_body(&binding, &target, &create()).expect("creation is offered")
                    } else {
                        let last = d.configure.last().expect("a write");
                        d.write_body(last, &binding, &target, &json!({}))
                    };
                    // A protector's body names the key through the resource that an earlier write made.
                    if d.setting_at.is_some() {
                        continue;
                    }
                    let read = d.read_back.read(&body);
                    let case = format!("{} {kind:?} {version:?} creating={creating}: {read:?} {body}", d.slug);
                    assert!(read.customer_managed, "{case}");
                    assert_eq!(read.key_name.as_deref(), Some("k"), "{case}");
                    assert_eq!(read.pinned_version.is_some(), version == KeyVersion::Pinned, "{case}");
                    let store = read.store_uri.clone().expect("a store");
                    assert!(crate::domain::ids::same_store_uri(&store, &binding.store_uri), "{case}");
                    let fits = match (&read.identity, kind) {
                        (ReadIdentity::Attached, _) => true,
                        (ReadIdentity::Own, k) => k == IdentityKind::SystemAssigned,
                        (ReadIdentity::Platform, k) => k == IdentityKind::Platform,
                        (ReadIdentity::Resource(_) | ReadIdentity::Client(_), k) => k == IdentityKind::UserAssigned,
                    };
                    assert!(fits, "{case}");
                }
            }
        }
    }
}
