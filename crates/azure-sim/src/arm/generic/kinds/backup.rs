//! Backup, transfer of disks, caches and file systems of others. Name rules and the codes of refusals are UNVERIFIED where
//! nothing else is said.

use crate::arm::generic::hooks;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, Removal, STATELESS};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Version};

const DONE: Answers = Answers { new: 200, existing: 200, follow: Follow::Done };

const SIZES: &[u32] = &[2048, 3072, 4096];

const LUSTRE_URL: &str = "/properties/encryptionSettings/keyEncryptionKey/keyUrl";
const BOX_URL: &str = "/properties/details/keyEncryptionKey/kekUrl";
const TRANSFER_URL: &str = "/properties/encryptionKey/kekUrl";
const RECOVERY_URL: &str = "/properties/encryption/keyVaultProperties/keyUri";
const BACKUP_URL: &str = "/properties/securitySettings/encryptionSettings/keyVaultProperties/keyUri";

pub(super) const KINDS: &[Kind] = &[
    // Whether a version must be named and whether it is followed are UNVERIFIED.
    Kind {
        naming: Naming::of(2, 80, "-_"),
        identities: Identities::USER,
        cmk: &[Cmk {
            follows: Follows::Never,
            hsm: false,
            back: Back::No,
            ..Cmk::new(On::Present(LUSTRE_URL), KeyAt::Url(LUSTRE_URL), Looks::Own)
        }],
        ..Kind::tracked("Microsoft.StorageCache/amlFilesystems", "2023-05-01")
    },
    // Being retired; all but the shape is UNVERIFIED.
    Kind {
        naming: Naming::of(2, 80, "-_"),
        identities: Identities::SPACED,
        cmk: &[Cmk {
            follows: Follows::Flag("/properties/encryptionSettings/rotationToLatestKeyVersionEnabled"),
            hsm: false,
            ..Cmk::new(On::Present(LUSTRE_URL), KeyAt::Url(LUSTRE_URL), Looks::Own)
        }],
        ..Kind::tracked("Microsoft.StorageCache/caches", "2020-10-01")
    },
    // Types only; what it does with a key is UNVERIFIED.
    Kind {
        identities: Identities::ANY,
        cmk: &[Cmk {
            version: Version::Required,
            follows: Follows::Never,
            ..Cmk::new(
                On::Is("/properties/encryption/encryptionType", "Customer-managed keys (CMK)"),
                KeyAt::Url("/properties/encryption/keyUrl"),
                Looks::ArmId("/properties/encryption/encryptionIdentityProperties/identityResourceId"),
            )
        }],
        ..Kind::tracked("Dell.Storage/filesystems", "2025-03-21")
    },
    // Only the key that unlocks the device is protected. Answer styles are UNVERIFIED.
    Kind {
        naming: Naming::of(3, 24, "-_"),
        states: STATELESS,
        put: Some(DONE),
        patch: Some(DONE),
        identities: Identities::ONE,
        cmk: &[Cmk {
            follows: Follows::Never,
            sizes: SIZES,
            hsm: false,
            ..Cmk::new(
                On::Is("/properties/details/keyEncryptionKey/kekType", "CustomerManaged"),
                KeyAt::Url(BOX_URL),
                Looks::ArmId("/properties/details/keyEncryptionKey/identityProperties/userAssigned/resourceId"),
            )
        }],
        ..Kind::tracked("Microsoft.DataBox/jobs", "2018-01-01")
    },
    // Protects the BitLocker keys. The published type lets nobody set the identity, so the service makes one, which is
    // granted after the key is named: UNVERIFIED.
    Kind {
        naming: Naming::of(2, 64, "-_"),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Done }),
        patch: Some(DONE),
        delete: Some(Removal { existing: 200, follow: Follow::Done }),
        identities: Identities::NONE,
        cmk: &[Cmk {
            follows: Follows::Never,
            hsm: false,
            grant_later: true,
            ..Cmk::new(
                On::Is("/properties/encryptionKey/kekType", "CustomerManaged"),
                KeyAt::Url(TRANSFER_URL),
                Looks::Made("/identity/principalId"),
            )
        }],
        ..Kind::tracked("Microsoft.ImportExport/jobs", "2020-08-01")
    },
    // That nothing may ever have been protected in the vault is not checked: what would be in it is not played.
    Kind {
        naming: Naming::of(2, 50, "-"),
        identities: Identities::SPACED,
        sticky: &["/properties/encryption"],
        guard: hooks::guard_recovery_vault,
        cmk: &[Cmk {
            sizes: &[2048],
            same_region: true,
            back: Back::No,
            ..Cmk::new(
                On::Present(RECOVERY_URL),
                KeyAt::Url(RECOVERY_URL),
                Looks::ArmId("/properties/encryption/kekIdentity/userAssignedIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.RecoveryServices/vaults", "2016-06-01")
    },
    Kind {
        naming: Naming::of(2, 50, "-"),
        identities: Identities::ANY,
        sticky: &["/properties/securitySettings"],
        cmk: &[Cmk {
            sizes: SIZES,
            back: Back::No,
            ..Cmk::new(
                On::Is("/properties/securitySettings/encryptionSettings/state", "Enabled"),
                KeyAt::Url(BACKUP_URL),
                Looks::ArmId("/properties/securitySettings/encryptionSettings/kekIdentity/identityId"),
            )
        }],
        ..Kind::tracked("Microsoft.DataProtection/backupVaults", "2021-07-01")
    },
];
