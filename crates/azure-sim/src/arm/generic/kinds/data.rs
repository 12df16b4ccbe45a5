//! Databases and analytics beside `databases` and `sql`. Names, operation paths and codes are UNVERIFIED where nothing is said.

use crate::arm::generic::hooks::data;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, PROVISIONING, Removal, STATELESS, States};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Shown, Version, When};

const BOTH: Answers = Answers { new: 201, existing: 202, follow: Follow::Both };
const ACCEPTED: Answers = Answers { new: 202, existing: 202, follow: Follow::Both };
const AT_ONCE: Answers = Answers { new: 200, existing: 200, follow: Follow::Done };

const SERVER_URL: &str = "/properties/dataEncryption/primaryKeyURI";
const SERVER_IDENTITY: &str = "/properties/dataEncryption/primaryUserAssignedIdentityId";
const GEO_URL: &str = "/properties/dataEncryption/geoBackupKeyURI";
const GEO_IDENTITY: &str = "/properties/dataEncryption/geoBackupUserAssignedIdentityId";
const COMMON: &str = "/properties/encryption/customerManagedKeyEncryption";
const DISKS: &str = "/properties/managedDiskCustomerKeyUri";
const BACKUPS: &str = "/properties/backupStorageCustomerKeyUri";
const OF_CLUSTER: Looks = Looks::Parent(&Looks::System);

/// What a factory has in it; only an empty one can be put under a key.
const ARTEFACTS: &[&str] = &[
    "Microsoft.DataFactory/factories/pipelines",
    "Microsoft.DataFactory/factories/linkedservices",
    "Microsoft.DataFactory/factories/dataflows",
    "Microsoft.DataFactory/factories/datasets",
];

const fn artefact(name: &'static str) -> Kind {
    Kind { put: Some(AT_ONCE), states: STATELESS, ..Kind::child(name, "2018-06-01") }
}

const fn disk_key(part: &'static str, at: &'static str) -> Cmk {
    Cmk {
        part,
        hsm: false,
        follows: Follows::Never,
        back: Back::No,
        ..Cmk::new(On::Present(at), KeyAt::Url(at), OF_CLUSTER)
    }
}

pub(super) const KINDS: &[Kind] = &[
    // The vault must keep deleted keys for 90 days, and the key must not expire; the key for geo-backups may be of another
    // region. That a versionless key is taken and followed, and the word Inaccessible (which the published states lack), are
    // UNVERIFIED.
    Kind {
        naming: Naming::of(3, 63, "-").lower().global(),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        states: States {
            pointer: "/properties/state",
            creating: "Starting",
            updating: "Updating",
            deleting: "Dropping",
            done: "Ready",
            failed: "Disabled",
        },
        tracking: ("azureAsyncOperation", "operationResults"),
        identities: Identities::USER,
        defaults: &[
            ("/properties/dataEncryption/type", "\"SystemManaged\""),
            ("/properties/replicationRole", "\"None\""),
            ("/properties/network/publicNetworkAccess", "\"Enabled\""),
        ],
        shows: data::mysql,
        cmk: &[
            Cmk {
                sizes: &[2048, 3072, 4096],
                needs_no_expiry: true,
                retention_days: Some(90),
                same_region: true,
                shows: &[("/properties/state", Shown::Lost("Inaccessible"))],
                clears: &[SERVER_URL, SERVER_IDENTITY, GEO_URL, GEO_IDENTITY],
                ..Cmk::new(
                    On::Is("/properties/dataEncryption/type", "AzureKeyVault"),
                    KeyAt::Url(SERVER_URL),
                    Looks::ArmId(SERVER_IDENTITY),
                )
            },
            Cmk {
                part: "geo",
                sizes: &[2048, 3072, 4096],
                needs_no_expiry: true,
                retention_days: Some(90),
                ..Cmk::new(On::Present(GEO_URL), KeyAt::Url(GEO_URL), Looks::ArmId(GEO_IDENTITY))
            },
        ],
        ..Kind::tracked("Microsoft.DBforMySQL/flexibleServers", "2021-05-01")
    },
    // With the creation only. That a PATCH changes the key later, and that a versioned one is taken, are UNVERIFIED.
    Kind {
        naming: Naming::of(3, 40, "-").lower().global(),
        put: Some(BOTH),
        patch: Some(ACCEPTED),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        states: States { creating: "InProgress", deleting: "Dropping", ..PROVISIONING },
        whole: &[COMMON],
        sticky: &["/properties/encryption", "/properties/administrator"],
        guard: data::user_identity_only,
        shows: data::mongo_cluster,
        cmk: &[Cmk {
            hsm: false,
            same_region: true,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(On::Present(data::COMMON_URL), KeyAt::Url(data::COMMON_URL), Looks::ArmId(data::COMMON_IDENTITY))
        }],
        ..Kind::tracked("Microsoft.DocumentDB/mongoClusters", "2024-07-01")
    },
    // The identity is the cluster's, the keys are the data center's.
    Kind {
        naming: Naming::of(1, 100, "-"),
        identities: Identities::SYSTEM,
        patch: Some(ACCEPTED),
        ..Kind::tracked("Microsoft.DocumentDB/cassandraClusters", "2021-10-15")
    },
    // The service goes over to no newer version by itself. Whether a versionless key is taken, whether one can be put on
    // later (here it can), and whether there is a way back (here there is none) are UNVERIFIED.
    Kind {
        naming: Naming::of(1, 100, "-"),
        put: Some(BOTH),
        patch: Some(ACCEPTED),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        sticky: &[DISKS, BACKUPS],
        cmk: &[disk_key("", DISKS), disk_key("backup", BACKUPS)],
        ..Kind::child("Microsoft.DocumentDB/cassandraClusters/dataCenters", "2021-10-15")
    },
    // A user-assigned identity only, and a version must be named. That HSM keys are refused is UNVERIFIED: the page of the
    // service speaks of Key Vault only.
    Kind {
        naming: Naming::of(1, 60, "-").global(),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Status }),
        patch: Some(Answers { new: 202, existing: 202, follow: Follow::Both }),
        identities: Identities::SPACED,
        tracking: ("operationsStatus", "operationResults"),
        whole: &[COMMON],
        guard: data::user_identity_only,
        shows: data::redis,
        cmk: &[Cmk {
            version: Version::Required,
            follows: Follows::Never,
            hsm: false,
            same_region: true,
            ..Cmk::new(On::Present(data::COMMON_URL), KeyAt::Url(data::COMMON_URL), Looks::ArmId(data::COMMON_IDENTITY))
        }],
        ..Kind::tracked("Microsoft.Cache/redisEnterprise", "2021-03-01")
    },
    // While it works `provisioningState` says Running, which is also what the good `state` is called.
    Kind {
        naming: Naming::of(4, 22, "").lower().global(),
        patch: Some(Answers { new: 202, existing: 202, follow: Follow::Both }),
        states: States { updating: "Running", ..PROVISIONING },
        identities: Identities::SPACED,
        whole: &["/properties/keyVaultProperties"],
        defaults: &[
            ("/properties/enableDiskEncryption", "false"),
            ("/properties/publicNetworkAccess", "\"Enabled\""),
            ("/properties/engineType", "\"V3\""),
        ],
        shows: data::kusto,
        cmk: &[Cmk {
            same_region: true,
            ..Cmk::new(
                On::Present("/properties/keyVaultProperties/keyName"),
                KeyAt::Split {
                    vault: "/properties/keyVaultProperties/keyVaultUri",
                    name: "/properties/keyVaultProperties/keyName",
                    version: "/properties/keyVaultProperties/keyVersion",
                },
                Looks::ArmId("/properties/keyVaultProperties/userIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.Kusto/clusters", "2019-01-21")
    },
    // One identity, and never in one update with the key; three empty strings take the key away. That anything else in
    // their place is without effect (and not refused) is UNVERIFIED, and so is that an update may not take the last
    // identity away from a cluster with a key.
    Kind {
        naming: Naming::of(4, 63, "-"),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Both }),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Both }),
        states: States { creating: "ProvisioningAccount", ..PROVISIONING },
        identities: Identities::ONE,
        sticky: &["/properties/keyVaultProperties"],
        guard: data::guard_log_cluster,
        defaults: &[
            ("/properties/billingType", "\"Cluster\""),
            ("/properties/associatedWorkspaces", "[]"),
            ("/sku/name", "\"CapacityReservation\""),
        ],
        busy: (400, "InvalidParameter"),
        cmk: &[Cmk {
            same_region: true,
            ..Cmk::new(
                On::Present(data::LOG_KEY),
                KeyAt::Split {
                    vault: "/properties/keyVaultProperties/keyVaultUri",
                    name: data::LOG_KEY,
                    version: "/properties/keyVaultProperties/keyVersion",
                },
                Looks::Own,
            )
        }],
        ..Kind::tracked("Microsoft.OperationalInsights/clusters", "2020-08-01")
    },
    // Everything is done with the answer; a PATCH knows identity and tags only. Whether a versionless key is followed is
    // told in two ways (here it is not: the page says to update the factory after each rotation), UNVERIFIED.
    Kind {
        naming: Naming::of(3, 63, "-").global(),
        etag: Some("eTag"),
        put: Some(AT_ONCE),
        patch: Some(AT_ONCE),
        delete: Some(Removal { existing: 200, follow: Follow::Done }),
        patch_ignores: &["/properties/encryption", "/properties/repoConfiguration", "/properties/globalParameters"],
        defaults: &[("/properties/version", "\"2018-06-01\""), ("/properties/publicNetworkAccess", "\"Enabled\"")],
        cmk: &[Cmk {
            sizes: &[2048],
            same_region: true,
            follows: Follows::Never,
            when: When::Empty(ARTEFACTS),
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/encryption/keyName"),
                KeyAt::Split {
                    vault: "/properties/encryption/vaultBaseUrl",
                    name: "/properties/encryption/keyName",
                    version: "/properties/encryption/keyVersion",
                },
                Looks::ArmId("/properties/encryption/identity/userAssignedIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.DataFactory/factories", "2018-06-01")
    },
    artefact(ARTEFACTS[0]),
    artefact(ARTEFACTS[1]),
    artefact(ARTEFACTS[2]),
    artefact(ARTEFACTS[3]),
];
