//! Learning, search, automation, testing, tools. Name rules and the codes of refusals are UNVERIFIED where nothing else is
//! said.

use crate::arm::generic::hooks;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, States};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Version, When};

const DONE: Answers = Answers { new: 201, existing: 200, follow: Follow::Done };

/// ARM's common form of a customer-managed key.
const COMMON_URL: &str = "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl";
const COMMON_IDENTITY: &str =
    "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyIdentity/userAssignedIdentityResourceId";

const WORKSPACE_URL: &str = "/properties/encryption/keyVaultProperties/keyIdentifier";

const VAULT_URI: &str = "/properties/keyVaultProperties/keyVaultUri";
const KEY_NAME: &str = "/properties/keyVaultProperties/keyName";
const KEY_VERSION: &str = "/properties/keyVaultProperties/keyVersion";

const SEARCH_KEY: &str = "/properties/encryptionWithCmk/serviceLevelEncryptionKey/keyVaultKeyName";

pub(super) const KINDS: &[Kind] = &[
    // Whether a scope's key can be versionless and is followed is UNVERIFIED, and so are the way back
    // and who looks when no identity is named.
    Kind {
        naming: Naming::of(1, 64, "-_"),
        states: crate::arm::generic::kind::PROVISIONING,
        defaults: &[("/properties/keySource", "\"Microsoft.CognitiveServices\""), ("/properties/state", "\"Enabled\"")],
        cmk: &[Cmk {
            follows: Follows::Never,
            sizes: &[2048],
            same_region: true,
            clears: &["/properties/keyVaultProperties"],
            ..Cmk::new(
                On::Is("/properties/keySource", "Microsoft.KeyVault"),
                KeyAt::Split { vault: VAULT_URI, name: KEY_NAME, version: KEY_VERSION },
                Looks::ParentByClient("/properties/keyVaultProperties/identityClientId"),
            )
        }],
        ..Kind::child("Microsoft.CognitiveServices/accounts/encryptionScopes", "2023-10-01")
    },
    // Later another key of the same vault can be named. The classic form, in which Cosmos DB's principal looks too, is
    // not played.
    Kind {
        naming: Naming::of(3, 33, "-_"),
        identities: Identities::ANY,
        sticky: &["/properties/encryption"],
        cmk: &[Cmk {
            follows: Follows::Never,
            hsm: false,
            same_vault: true,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Is("/properties/encryption/status", "Enabled"),
                KeyAt::Url(WORKSPACE_URL),
                Looks::ArmId("/properties/encryption/identity/userAssignedIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.MachineLearningServices/workspaces", "2019-11-01")
    },
    // Stable versions have a policy switch only; the key of the whole service came with 2026-03-01-preview. Which sizes it
    // takes, whether it is followed and whether it can be given up again are UNVERIFIED. Keys of single objects are named in
    // the data plane, which is not played.
    Kind {
        naming: Naming::of(2, 60, "-").lower().global(),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        states: States {
            creating: "provisioning",
            updating: "provisioning",
            deleting: "provisioning",
            done: "succeeded",
            failed: "failed",
            ..crate::arm::generic::kind::PROVISIONING
        },
        identities: Identities::SPACED,
        cmk: &[Cmk {
            follows: Follows::Never,
            ..Cmk::new(
                On::Present(SEARCH_KEY),
                KeyAt::Split {
                    vault: "/properties/encryptionWithCmk/serviceLevelEncryptionKey/keyVaultUri",
                    name: SEARCH_KEY,
                    version: "/properties/encryptionWithCmk/serviceLevelEncryptionKey/keyVaultKeyVersion",
                },
                Looks::ArmId("/properties/encryptionWithCmk/serviceLevelEncryptionKey/identity/userAssignedIdentity"),
            )
        }],
        guard: hooks::search,
        whole: &["/properties/encryptionWithCmk/serviceLevelEncryptionKey/identity"],
        ..Kind::tracked("Microsoft.Search/searchServices", "2015-08-19")
    },
    // The version in use stays until the account is updated.
    Kind {
        naming: Naming::of(6, 50, "-"),
        put: Some(DONE),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        states: States {
            pointer: "/properties/state",
            done: "Ok",
            failed: "Unavailable",
            ..crate::arm::generic::kind::PROVISIONING
        },
        identities: Identities::SPACED,
        defaults: &[("/properties/encryption/keySource", "\"Microsoft.Automation\"")],
        cmk: &[Cmk {
            follows: Follows::Never,
            hsm: false,
            clears: &["/properties/encryption/keyVaultProperties", "/properties/encryption/identity"],
            ..Cmk::new(
                On::Is("/properties/encryption/keySource", "Microsoft.Keyvault"),
                KeyAt::Split {
                    vault: "/properties/encryption/keyVaultProperties/keyvaultUri",
                    name: "/properties/encryption/keyVaultProperties/keyName",
                    version: "/properties/encryption/keyVaultProperties/keyVersion",
                },
                Looks::ArmId("/properties/encryption/identity/userAssignedIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.Automation/automationAccounts", "2020-01-13")
    },
    Kind {
        naming: Naming::of(1, 64, "-_"),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Both }),
        identities: Identities::ANY,
        cmk: &[Cmk {
            version: Version::Required,
            follows: Follows::Never,
            hsm: false,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/encryption/keyUrl"),
                KeyAt::Url("/properties/encryption/keyUrl"),
                Looks::ArmId("/properties/encryption/identity/resourceId"),
            )
        }],
        ..Kind::tracked("Microsoft.LoadTestService/loadTests", "2022-04-15")
    },
    Kind {
        naming: Naming::of(1, 50, "-_"),
        put: Some(DONE),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        identities: Identities::SPACED,
        cmk: &[Cmk {
            same_region: true,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(On::Present(COMMON_URL), KeyAt::Url(COMMON_URL), Looks::ArmId(COMMON_IDENTITY))
        }],
        ..Kind::tracked("Microsoft.FluidRelay/fluidRelayServers", "2022-02-15")
    },
    // Whether newer versions are followed is UNVERIFIED.
    Kind {
        naming: Naming::of(3, 26, "-"),
        identities: Identities::SPACED,
        whole: &["/properties/encryption/customerManagedKeyEncryption"],
        cmk: &[Cmk::new(On::Present(COMMON_URL), KeyAt::Url(COMMON_URL), Looks::ArmId(COMMON_IDENTITY))],
        ..Kind::tracked("Microsoft.DevCenter/devcenters", "2022-08-01")
    },
    // What it does with its key is UNVERIFIED: only its types are known, of previews.
    Kind {
        naming: Naming::of(3, 55, "-"),
        identities: Identities::ANY,
        defaults: &[("/properties/publicNetworkAccess", "\"Enabled\"")],
        whole: &["/properties/encryption/customerManagedKeyEncryption"],
        cmk: &[Cmk::new(On::Present(COMMON_URL), KeyAt::Url(COMMON_URL), Looks::ArmId(COMMON_IDENTITY))],
        ..Kind::tracked("Microsoft.OnlineExperimentation/workspaces", "2025-05-31")
    },
    Kind {
        naming: Naming::of(3, 24, "-"),
        identities: Identities::ANY,
        patch_ignores: &["/properties"],
        cmk: &[Cmk {
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/encryption/keyVaultKeyUri"),
                KeyAt::Url("/properties/encryption/keyVaultKeyUri"),
                Looks::ArmId("/properties/encryption/userAssignedIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.DeviceUpdate/accounts", "2020-03-01")
    },
    // A service of which only the types are known: what it does with its key is UNVERIFIED.
    Kind {
        identities: Identities::ANY,
        cmk: &[Cmk {
            follows: Follows::Never,
            ..Cmk::new(
                On::Present("/properties/cmkProfile/keyUri"),
                KeyAt::Url("/properties/cmkProfile/keyUri"),
                Looks::Own,
            )
        }],
        ..Kind::tracked("Microsoft.ManufacturingPlatform/manufacturingDataServices", "2025-03-01")
    },
    // Discovery: the workspace names its identity by ARM id, the bookshelf by client id. All else is UNVERIFIED.
    Kind {
        identities: Identities::NONE,
        cmk: &[Cmk::new(
            On::Is("/properties/customerManagedKeys", "Enabled"),
            KeyAt::Split { vault: VAULT_URI, name: KEY_NAME, version: KEY_VERSION },
            Looks::NamedById("/properties/workspaceIdentity/id"),
        )],
        ..Kind::tracked("Microsoft.Discovery/workspaces", "2025-07-01")
    },
    Kind {
        identities: Identities::NONE,
        cmk: &[Cmk::new(
            On::Is("/properties/customerManagedKeys", "Enabled"),
            KeyAt::Split { vault: VAULT_URI, name: KEY_NAME, version: KEY_VERSION },
            Looks::NamedByClient("/properties/keyVaultProperties/identityClientId"),
        )],
        ..Kind::tracked("Microsoft.Discovery/bookshelves", "2025-07-01")
    },
];
