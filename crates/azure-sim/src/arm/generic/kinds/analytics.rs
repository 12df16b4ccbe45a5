//! Analytics: Databricks, Log Analytics and Microsoft Sentinel's onboarding.

use crate::arm::generic::hooks;
use crate::arm::generic::kind::{Identities, Kind, Naming, STATELESS};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Version};
use crate::entra::first_party::DATABRICKS;

pub(super) const KINDS: &[Kind] = &[
    // Three keys: of the managed services, read by Azure's own principal; of the managed disks, read by a disk encryption set
    // that the workspace makes and whose principal is granted afterwards; of the root file system, after a preparing write.
    // A PATCH carries tags only.
    Kind {
        naming: Naming::of(3, 64, "-_"),
        identities: Identities::NONE,
        patch_ignores: &["/properties", "/sku"],
        guard: hooks::databricks,
        cmk: &[
            Cmk {
                version: Version::Required,
                follows: Follows::Never,
                back: Back::No,
                ..Cmk::new(
                    On::Is("/properties/encryption/entities/managedServices/keySource", "Microsoft.Keyvault"),
                    KeyAt::Split {
                        vault: "/properties/encryption/entities/managedServices/keyVaultProperties/keyVaultUri",
                        name: "/properties/encryption/entities/managedServices/keyVaultProperties/keyName",
                        version: "/properties/encryption/entities/managedServices/keyVaultProperties/keyVersion",
                    },
                    Looks::FirstParty(DATABRICKS),
                )
            },
            Cmk {
                part: "managedDisk",
                version: Version::Required,
                follows: Follows::Flag("/properties/encryption/entities/managedDisk/rotationToLatestKeyVersionEnabled"),
                same_region: true,
                back: Back::No,
                grant_later: true,
                ..Cmk::new(
                    On::Is("/properties/encryption/entities/managedDisk/keySource", "Microsoft.Keyvault"),
                    KeyAt::Split {
                        vault: "/properties/encryption/entities/managedDisk/keyVaultProperties/keyVaultUri",
                        name: "/properties/encryption/entities/managedDisk/keyVaultProperties/keyName",
                        version: "/properties/encryption/entities/managedDisk/keyVaultProperties/keyVersion",
                    },
                    Looks::Made("/properties/managedDiskIdentity/principalId"),
                )
            },
            Cmk {
                part: "rootFileSystem",
                ..Cmk::new(
                    On::Is("/properties/parameters/encryption/value/keySource", "Microsoft.Keyvault"),
                    KeyAt::Split {
                        vault: "/properties/parameters/encryption/value/keyvaulturi",
                        name: "/properties/parameters/encryption/value/KeyName",
                        version: "/properties/parameters/encryption/value/keyversion",
                    },
                    Looks::Made("/properties/storageAccountIdentity/principalId"),
                )
            },
        ],
        ..Kind::tracked("Microsoft.Databricks/workspaces", "2018-04-01")
    },
    Kind { naming: Naming::of(4, 63, "-"), ..Kind::tracked("Microsoft.OperationalInsights/workspaces", "2015-11-01") },
    Kind {
        naming: Naming::only("default"),
        extends: Some("Microsoft.OperationalInsights/workspaces"),
        states: STATELESS,
        guard: hooks::onboarding,
        ..Kind::child("Microsoft.SecurityInsights/onboardingStates", "2021-03-01")
    },
];
