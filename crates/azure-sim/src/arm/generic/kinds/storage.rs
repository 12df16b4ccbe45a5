//! Storage besides the storage accounts themselves: encryption scopes, Elastic SAN, NetApp Files.

use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, STATELESS};
use crate::arm::generic::rule::{Cmk, KeyAt, Looks, On, Shown};
use crate::cmk::Ops;

const OF_ACCOUNT: Looks = Looks::ArmId("/properties/encryption/identity/userAssignedIdentity");

pub(super) const KINDS: &[Kind] = &[
    // A scope has no identity: the account's looks. It can be disabled, never deleted.
    Kind {
        naming: Naming::of(3, 63, "-").lower(),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        delete: None,
        states: STATELESS,
        defaults: &[("/properties/source", "\"Microsoft.Storage\""), ("/properties/state", "\"Enabled\"")],
        fixed: &["/properties/requireInfrastructureEncryption"],
        cmk: &[Cmk {
            sizes: &[2048, 3072, 4096],
            clears: &["/properties/keyVaultProperties"],
            shows: &[
                ("/properties/keyVaultProperties/currentVersionedKeyIdentifier", Shown::Kid),
                ("/properties/keyVaultProperties/lastKeyRotationTimestamp", Shown::Since),
            ],
            ..Cmk::new(
                On::Is("/properties/source", "Microsoft.KeyVault"),
                KeyAt::Url("/properties/keyVaultProperties/keyUri"),
                Looks::Parent(&OF_ACCOUNT),
            )
        }],
        ..Kind::child("Microsoft.Storage/storageAccounts/encryptionScopes", "2019-06-01")
    },
    Kind {
        naming: Naming::of(3, 24, "-_").lower(),
        identities: Identities::NONE,
        ..Kind::tracked("Microsoft.ElasticSan/elasticSans", "2023-01-01")
    },
    Kind {
        naming: Naming::of(3, 63, "-_").lower(),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Status }),
        patch: Some(Answers { new: 202, existing: 202, follow: Follow::Both }),
        identities: Identities::ONE,
        defaults: &[("/properties/encryption", "\"EncryptionAtRestWithPlatformKey\"")],
        cmk: &[Cmk {
            clears: &["/properties/encryptionProperties"],
            shows: &[
                ("/properties/encryptionProperties/keyVaultProperties/currentVersionedKeyIdentifier", Shown::Kid),
                ("/properties/encryptionProperties/keyVaultProperties/lastKeyRotationTimestamp", Shown::Since),
                (
                    "/properties/encryptionProperties/keyVaultProperties/currentVersionedKeyExpirationTimestamp",
                    Shown::Expires,
                ),
            ],
            ..Cmk::new(
                On::Is("/properties/encryption", "EncryptionAtRestWithCustomerManagedKey"),
                KeyAt::Split {
                    vault: "/properties/encryptionProperties/keyVaultProperties/keyVaultUri",
                    name: "/properties/encryptionProperties/keyVaultProperties/keyName",
                    version: "/properties/encryptionProperties/keyVaultProperties/keyVersion",
                },
                Looks::ArmId("/properties/encryptionProperties/identity/userAssignedIdentity"),
            )
        }],
        ..Kind::child("Microsoft.ElasticSan/elasticSans/volumegroups", "2023-01-01")
    },
    // Encrypts and decrypts, and has no member for a version.
    Kind {
        naming: Naming::of(1, 128, "-_"),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Status }),
        patch: Some(Answers { new: 202, existing: 202, follow: Follow::Both }),
        identities: Identities::ANY,
        cmk: &[Cmk {
            ops: Ops::Encrypt,
            clears: &["/properties/encryption/keyVaultProperties", "/properties/encryption/identity"],
            shows: &[
                ("/properties/encryption/keyVaultProperties/status", Shown::Word("InUse", "Error")),
                ("/properties/encryption/identity/principalId", Shown::Principal),
            ],
            ..Cmk::new(
                On::Is("/properties/encryption/keySource", "Microsoft.KeyVault"),
                KeyAt::Split {
                    vault: "/properties/encryption/keyVaultProperties/keyVaultUri",
                    name: "/properties/encryption/keyVaultProperties/keyName",
                    version: "",
                },
                Looks::ArmId("/properties/encryption/identity/userAssignedIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.NetApp/netAppAccounts", "2017-08-15")
    },
];
