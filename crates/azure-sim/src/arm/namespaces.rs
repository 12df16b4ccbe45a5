//! Which namespaces and resource types this cloud has, with the api-versions published for each: what the provider list
//! shows, what can be registered and which versions a type takes. Another provider adds its types in `build`, nowhere
//! else. What a type does is its provider's.

use std::sync::LazyLock;

/// A resource provider.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Canonical spelling; Terraform compares it with regard to case.
    pub name: String,
    pub types: Vec<Type>,
}

/// A resource type.
#[derive(Debug)]
pub(crate) struct Type {
    /// With parents, without namespace: `vaults`, `storageAccounts/blobServices`.
    pub name: String,
    /// Newest first; the last one is the first ever published.
    pub versions: Vec<String>,
}

/// A namespace and its types with their versions, newest first.
type Line = (&'static str, &'static [(&'static [&'static str], &'static [&'static str])]);

const KEY_VAULT: &[&str] = &[
    "2026-05-15",
    "2026-02-01",
    "2025-05-01",
    "2024-12-01-preview",
    "2024-11-01",
    "2024-04-01-preview",
    "2023-07-01",
    "2023-02-01",
    "2022-11-01",
    "2022-07-01",
    "2022-02-01-preview",
    "2021-11-01-preview",
    "2021-10-01",
    "2021-06-01-preview",
    "2021-04-01-preview",
    "2020-04-01-preview",
    "2019-09-01",
    "2018-02-14",
    "2018-02-14-preview",
    "2016-10-01",
    "2015-06-01",
];
/// Managed HSMs came with `2020-04-01-preview`.
const HSM: &[&str] = KEY_VAULT.split_at(16).0;
/// Keys on ARM came with `2019-09-01`; those of managed HSMs with `2023-02-01` (UNVERIFIED).
const ARM_KEYS: &[&str] = KEY_VAULT.split_at(17).0;
const HSM_KEYS: &[&str] = KEY_VAULT.split_at(8).0;
const STORAGE: &[&str] = &[
    "2026-09-01",
    "2026-04-01",
    "2025-08-01",
    "2025-06-01",
    "2025-01-01",
    "2024-01-01",
    "2023-05-01",
    "2023-04-01",
    "2023-01-01",
    "2022-09-01",
    "2022-05-01",
    "2021-09-01",
    "2021-08-01",
    "2021-06-01",
    "2021-04-01",
    "2021-02-01",
    "2021-01-01",
    "2020-08-01-preview",
    "2019-06-01",
    "2019-04-01",
    "2018-11-01",
    "2018-07-01",
    "2018-02-01",
    "2017-10-01",
    "2017-06-01",
    "2016-12-01",
    "2016-05-01",
    "2016-01-01",
    "2015-06-15",
    "2015-05-01-preview",
];
/// A selection; private endpoints came later than networks, which no client minds.
const NETWORK: &[&str] = &[
    "2025-01-01",
    "2024-10-01",
    "2024-07-01",
    "2024-05-01",
    "2024-03-01",
    "2024-01-01",
    "2023-11-01",
    "2023-09-01",
    "2023-06-01",
    "2023-04-01",
    "2023-02-01",
    "2022-11-01",
    "2022-07-01",
    "2022-01-01",
    "2021-08-01",
    "2021-05-01",
    "2021-02-01",
    "2020-11-01",
    "2020-05-01",
    "2019-11-01",
    "2018-11-01",
    "2017-10-01",
    "2016-12-01",
    "2015-06-15",
    "2015-05-01-preview",
];
const IDENTITY: &[&str] = &[
    "2025-05-31-preview",
    "2025-01-31-preview",
    "2024-11-30",
    "2023-07-31-preview",
    "2023-01-31",
    "2022-01-31-preview",
    "2021-09-30-preview",
    "2018-11-30",
    "2015-08-31-preview",
];
const ROLES: &[&str] = &[
    "2022-05-01-preview",
    "2022-04-01",
    "2020-10-01-preview",
    "2020-04-01-preview",
    "2018-09-01-preview",
    "2018-07-01",
    "2018-01-01-preview",
    "2017-10-01-preview",
    "2015-07-01",
    "2015-06-01",
    "2014-07-01-preview",
    "2014-04-01-preview",
];
const LOCKS: &[&str] = &["2020-05-01", "2017-04-01", "2016-09-01", "2015-06-01", "2015-05-01-preview", "2015-01-01"];
const POLICY: &[&str] = &[
    "2025-03-01",
    "2025-01-01",
    "2024-05-01",
    "2024-04-01",
    "2023-04-01",
    "2022-06-01",
    "2021-06-01",
    "2020-09-01",
    "2020-03-01",
    "2019-09-01",
    "2019-06-01",
    "2019-01-01",
    "2018-05-01",
    "2018-03-01",
    "2017-06-01-preview",
    "2016-12-01",
    "2016-04-01",
    "2015-11-01",
    "2015-10-01-preview",
];
const RESOURCES: &[&str] = &[
    "2025-04-01",
    "2025-03-01",
    "2024-11-01",
    "2024-07-01",
    "2024-03-01",
    "2023-07-01",
    "2022-12-01",
    "2022-09-01",
    "2021-04-01",
    "2021-01-01",
    "2020-06-01",
    "2019-10-01",
    "2019-05-01",
    "2018-05-01",
    "2018-02-01",
    "2017-05-10",
    "2016-09-01",
    "2016-06-01",
    "2015-11-01",
    "2015-01-01",
    "2014-04-01-preview",
];

/// What the hand-written providers play.
const CORE: &[Line] = &[
    (
        "Microsoft.Authorization",
        &[
            (&["roleAssignments", "roleDefinitions"], ROLES),
            (&["locks"], LOCKS),
            (&["policyDefinitions", "policyAssignments"], POLICY),
        ],
    ),
    (
        "Microsoft.KeyVault",
        &[
            (&["vaults", "deletedVaults", "checkNameAvailability", "locations", "locations/deletedVaults"], KEY_VAULT),
            (&["managedHSMs", "deletedManagedHSMs", "checkMhsmNameAvailability", "locations/deletedManagedHSMs"], HSM),
            (&["vaults/accessPolicies"], KEY_VAULT),
            (&["vaults/keys", "vaults/keys/versions"], ARM_KEYS),
            (&["managedHSMs/keys", "managedHSMs/keys/versions"], HSM_KEYS),
        ],
    ),
    ("Microsoft.Network", &[(&["virtualNetworks", "virtualNetworks/subnets", "privateEndpoints"], NETWORK)]),
    ("Microsoft.ManagedIdentity", &[(&["userAssignedIdentities"], IDENTITY)]),
    (
        "Microsoft.PolicyInsights",
        &[(&["checkPolicyRestrictions"], &["2024-10-01", "2023-03-01", "2022-03-01", "2020-07-01"])],
    ),
    (
        "Microsoft.Resources",
        &[(&["resourceGroups", "subscriptions", "subscriptions/resourceGroups", "resources"], RESOURCES)],
    ),
    (
        "Microsoft.Storage",
        &[(
            &[
                "storageAccounts",
                "storageAccounts/blobServices",
                "storageAccounts/fileServices",
                "checkNameAvailability",
            ],
            STORAGE,
        )],
    ),
];

static ALL: LazyLock<Vec<Namespace>> = LazyLock::new(build);

fn build() -> Vec<Namespace> {
    let mut all = Vec::new();
    for (namespace, groups) in CORE {
        for (types, versions) in *groups {
            for kind in *types {
                add(&mut all, namespace, kind, versions.iter().copied());
            }
        }
    }
    for (namespace, kind, mut versions) in crate::arm::generic::types() {
        // The newest comes first, and is the only one where the type has but one.
        versions.sort_by(|a, b| b.cmp(a));
        let count = if versions[0] == versions[1] { 1 } else { 2 };
        add(&mut all, namespace, kind, versions.into_iter().take(count));
    }
    all
}

/// Adds one type, and its namespace when it is new; a type that is there already stays as it is. Versions newest first.
pub(crate) fn add<'a>(
    all: &mut Vec<Namespace>,
    namespace: &str,
    kind: &str,
    versions: impl IntoIterator<Item = &'a str>,
) {
    let at = match all.iter().position(|n| n.name.eq_ignore_ascii_case(namespace)) {
        Some(at) => at,
        None => {
            all.push(Namespace { name: namespace.to_owned(), types: Vec::new() });
            all.len() - 1
        }
    };
    let types = &mut all[at].types;
    if !types.iter().any(|t| t.name.eq_ignore_ascii_case(kind)) {
        types.push(Type { name: kind.to_owned(), versions: versions.into_iter().map(str::to_owned).collect() });
    }
}

/// All namespaces.
pub(crate) fn all() -> &'static [Namespace] {
    &ALL
}

/// A namespace by its name, in any case.
pub(crate) fn find(name: &str) -> Option<&'static Namespace> {
    all().iter().find(|n| n.name.eq_ignore_ascii_case(name))
}

/// A type by namespace and name, in any case.
pub(crate) fn kind(namespace: &str, kind: &str) -> Option<(&'static Namespace, &'static Type)> {
    let namespace = find(namespace)?;
    let found = namespace.types.iter().find(|t| t.name.eq_ignore_ascii_case(kind))?;
    Some((namespace, found))
}

impl Namespace {
    /// Namespaces that every subscription has: they cannot be unregistered.
    pub fn free(&self) -> bool {
        ["Microsoft.Authorization", "Microsoft.Resources"].contains(&self.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_versions_newest_first() {
        for namespace in all() {
            for kind in &namespace.types {
                assert!(!kind.versions.is_empty(), "{} {}", namespace.name, kind.name);
                assert!(
                    kind.versions.is_sorted_by(|a, b| a.get(..10) >= b.get(..10)),
                    "{} {}",
                    namespace.name,
                    kind.name
                );
            }
        }
    }

    #[test]
    fn types_are_added_once() {
        let mut all = build();
        add(&mut all, "microsoft.storage", "STORAGEACCOUNTS", ["2099-01-01"]);
        add(&mut all, "Microsoft.New", "things", ["2025-01-01"]);
        let storage = all.iter().find(|n| n.name == "Microsoft.Storage").expect("it is there");
        assert_eq!(storage.types.iter().filter(|t| t.name == "storageAccounts").count(), 1);
        assert!(all.iter().any(|n| n.name == "Microsoft.New"));
    }
}
