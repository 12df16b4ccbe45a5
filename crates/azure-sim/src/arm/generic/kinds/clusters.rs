//! Batch, Hadoop clusters, container groups. Name rules and the codes of refusals are UNVERIFIED where nothing else is said.

use std::net::{IpAddr, Ipv4Addr};

use crate::arm::generic::hooks;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Version, When};
use crate::entra::first_party;

const DONE: Answers = Answers { new: 200, existing: 200, follow: Follow::Done };
const BOTH: Answers = Answers { new: 200, existing: 200, follow: Follow::Both };

/// Sizes that a page of the service names.
const SIZES: &[u32] = &[2048, 3072, 4096];

/// From which HDInsight's management reaches what is behind a firewall, by the page on its addresses for all regions. Azure
/// asks for those of the region too (UNVERIFIED for vaults); here one of these is enough.
const HADOOP: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(168, 61, 49, 99)),
    IpAddr::V4(Ipv4Addr::new(23, 99, 5, 239)),
    IpAddr::V4(Ipv4Addr::new(168, 61, 48, 131)),
    IpAddr::V4(Ipv4Addr::new(138, 91, 141, 162)),
];

const BATCH_URL: &str = "/properties/encryption/keyVaultProperties/keyIdentifier";

pub(super) const KINDS: &[Kind] = &[
    // PATCH changes tags only; the version is pinned. Without a named identity the service's own principal looks.
    Kind {
        naming: Naming::of(1, 63, "-").lower(),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::State }),
        patch: Some(DONE),
        patch_ignores: &["/properties", "/identity"],
        identities: Identities::SPACED,
        cmk: &[Cmk {
            version: Version::Required,
            follows: Follows::Never,
            hsm: false,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/encryptionProperties/keyName"),
                KeyAt::Split {
                    vault: "/properties/encryptionProperties/vaultBaseUrl",
                    name: "/properties/encryptionProperties/keyName",
                    version: "/properties/encryptionProperties/keyVersion",
                },
                Looks::ArmIdElse("/properties/encryptionProperties/identity", first_party::CONTAINER_INSTANCE),
            )
        }],
        ..Kind::tracked("Microsoft.ContainerInstance/containerGroups", "2018-10-01")
    },
    // Whichever identity the account has looks at the key.
    Kind {
        naming: Naming::of(3, 24, "").lower(),
        put: Some(BOTH),
        patch: Some(DONE),
        identities: Identities::ONE,
        defaults: &[("/properties/encryption/keySource", "\"Microsoft.Batch\"")],
        cmk: &[Cmk {
            sizes: SIZES,
            hsm: false,
            clears: &["/properties/encryption/keyVaultProperties"],
            ..Cmk::new(
                On::Is("/properties/encryption/keySource", "Microsoft.KeyVault"),
                KeyAt::Url(BATCH_URL),
                Looks::Own,
            )
        }],
        ..Kind::tracked("Microsoft.Batch/batchAccounts", "2020-05-01")
    },
    // Turning to another key is an action of its own, which is not played. It is no trusted service of Key Vault's.
    Kind {
        naming: Naming::of(3, 59, "-").global(),
        put: Some(BOTH),
        patch: Some(DONE),
        patch_ignores: &["/properties", "/identity"],
        identities: Identities::SPACED,
        guard: hooks::hadoop,
        cmk: &[Cmk {
            follows: Follows::Never,
            comes_from: HADOOP,
            hsm: false,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/diskEncryptionProperties/keyName"),
                KeyAt::Split {
                    vault: "/properties/diskEncryptionProperties/vaultUri",
                    name: "/properties/diskEncryptionProperties/keyName",
                    version: "/properties/diskEncryptionProperties/keyVersion",
                },
                Looks::ArmId("/properties/diskEncryptionProperties/msiResourceId"),
            )
        }],
        ..Kind::tracked("Microsoft.HDInsight/clusters", "2018-06-01")
    },
];
