//! Platforms: Azure VMware Solution, Logic Apps environments, health data services.

use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Shown, Version, When};

const BODY: Answers = Answers { new: 201, existing: 200, follow: Follow::State };
const HEALTH_URL: &str = "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl";

/// FHIR and DICOM: the service's single identity looks, the version is named, a PATCH carries identity and tags only.
macro_rules! health {
    ($name:literal) => {
        Kind {
            naming: Naming::of(3, 24, "-"),
            placed: true,
            put: Some(Answers { new: 201, existing: 200, follow: Follow::Status }),
            patch: Some(Answers { new: 202, existing: 202, follow: Follow::Both }),
            identities: Identities::ONE,
            etag: Some("etag"),
            patch_ignores: &["/properties"],
            cmk: &[Cmk {
                version: Version::Required,
                follows: Follows::Never,
                sizes: &[2048, 3072],
                same_region: true,
                longest: Some(94),
                ..Cmk::new(On::Present(HEALTH_URL), KeyAt::Url(HEALTH_URL), Looks::Own)
            }],
            ..Kind::child($name, "2021-11-01")
        }
    };
}

pub(super) const KINDS: &[Kind] = &[
    // A system-assigned identity only; the answer tells whether the key is in reach.
    Kind {
        put: Some(BODY),
        patch: Some(BODY),
        identities: Identities::SYSTEM,
        cmk: &[Cmk {
            sizes: &[2048, 3072, 4096],
            same_region: true,
            shows: &[
                ("/properties/encryption/keyVaultProperties/keyState", Shown::Word("Connected", "AccessDenied")),
                ("/properties/encryption/keyVaultProperties/autoDetectedKeyVersion", Shown::Version),
            ],
            ..Cmk::new(
                On::Is("/properties/encryption/status", "Enabled"),
                KeyAt::Split {
                    vault: "/properties/encryption/keyVaultProperties/keyVaultUrl",
                    name: "/properties/encryption/keyVaultProperties/keyName",
                    version: "/properties/encryption/keyVaultProperties/keyVersion",
                },
                Looks::System,
            )
        }],
        ..Kind::tracked("Microsoft.AVS/privateClouds", "2020-03-20")
    },
    // Retired; the vault is named by its ARM id.
    Kind {
        identities: Identities::USER,
        cmk: &[Cmk {
            hsm: false,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/encryptionConfiguration/encryptionKeyReference/keyName"),
                KeyAt::ByVaultId {
                    vault: "/properties/encryptionConfiguration/encryptionKeyReference/keyVault/id",
                    name: "/properties/encryptionConfiguration/encryptionKeyReference/keyName",
                    version: "/properties/encryptionConfiguration/encryptionKeyReference/keyVersion",
                },
                Looks::Own,
            )
        }],
        ..Kind::tracked("Microsoft.Logic/integrationServiceEnvironments", "2019-05-01")
    },
    Kind { naming: Naming::of(3, 24, ""), ..Kind::tracked("Microsoft.HealthcareApis/workspaces", "2021-11-01") },
    health!("Microsoft.HealthcareApis/workspaces/fhirservices"),
    health!("Microsoft.HealthcareApis/workspaces/dicomservices"),
];
