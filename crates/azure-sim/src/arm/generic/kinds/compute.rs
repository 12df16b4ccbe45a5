//! Compute and containers: disk encryption sets and disks, container registries, Kubernetes clusters.

use crate::arm::generic::hooks;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Shown, Version, When};
use crate::cmk::Ops;

const KMS: &str = "/properties/securityProfile/azureKeyVaultKms";
const ACCEPTED: Answers = Answers { new: 202, existing: 202, follow: Follow::Both };

pub(super) const KINDS: &[Kind] = &[
    // The URL carries a version even where the flag makes the set follow the key. A set with a system-assigned identity is
    // there before its identity can have a grant.
    Kind {
        naming: Naming::of(1, 80, "-_."),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        identities: Identities::SPACED,
        defaults: &[
            ("/properties/encryptionType", "\"EncryptionAtRestWithCustomerKey\""),
            ("/properties/rotationToLatestKeyVersionEnabled", "false"),
            ("/properties/previousKeys", "[]"),
        ],
        cmk: &[Cmk {
            version: Version::Required,
            follows: Follows::Flag("/properties/rotationToLatestKeyVersionEnabled"),
            sizes: &[2048, 3072, 4096],
            same_region: true,
            back: Back::No,
            grant_later: true,
            shows: &[
                ("/properties/activeKey/keyUrl", Shown::Kid),
                ("/properties/lastKeyRotationTimestamp", Shown::Since),
            ],
            ..Cmk::new(
                On::Present("/properties/activeKey/keyUrl"),
                KeyAt::Url("/properties/activeKey/keyUrl"),
                Looks::Own,
            )
        }],
        ..Kind::tracked("Microsoft.Compute/diskEncryptionSets", "2019-07-01")
    },
    Kind {
        naming: Naming::of(1, 80, "-_."),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        identities: Identities::NONE,
        defaults: &[("/properties/encryption/type", "\"EncryptionAtRestWithPlatformKey\"")],
        guard: hooks::encryption_set,
        ..Kind::tracked("Microsoft.Compute/disks", "2016-04-30")
    },
    // The identity is named by its client id; a registry made without a key never gets one.
    Kind {
        naming: Naming::of(5, 50, "").global(),
        identities: Identities::SPACED,
        defaults: &[
            ("/properties/encryption/status", "\"disabled\""),
            ("/properties/publicNetworkAccess", "\"Enabled\""),
            ("/properties/adminUserEnabled", "false"),
        ],
        shows: hooks::registry,
        cmk: &[Cmk {
            hsm: false,
            when: When::AtCreation,
            back: Back::No,
            shows: &[
                ("/properties/encryption/keyVaultProperties/versionedKeyIdentifier", Shown::Kid),
                ("/properties/encryption/keyVaultProperties/lastKeyRotationTimestamp", Shown::Since),
            ],
            ..Cmk::new(
                On::Is("/properties/encryption/status", "enabled"),
                KeyAt::Url("/properties/encryption/keyVaultProperties/keyIdentifier"),
                Looks::ClientId("/properties/encryption/keyVaultProperties/identity"),
            )
        }],
        ..Kind::tracked("Microsoft.ContainerRegistry/registries", "2017-03-01")
    },
    // A PATCH carries tags only. Secrets are encrypted and decrypted with the key itself. That purge protection is only
    // recommended here is not played: it is asked for as everywhere.
    Kind {
        naming: Naming::of(1, 63, "-_"),
        identities: Identities::ONE,
        etag: Some("eTag"),
        patch_ignores: &["/properties", "/sku"],
        fixed: &["/properties/diskEncryptionSetID"],
        guard: hooks::encryption_set,
        cmk: &[Cmk {
            version: Version::Required,
            follows: Follows::Never,
            ops: Ops::Encrypt,
            hsm: false,
            ..Cmk::new(
                On::True("/properties/securityProfile/azureKeyVaultKms/enabled"),
                KeyAt::Url("/properties/securityProfile/azureKeyVaultKms/keyId"),
                Looks::Own,
            )
        }],
        whole: &[KMS],
        ..Kind::tracked("Microsoft.ContainerService/managedClusters", "2017-08-31")
    },
];
