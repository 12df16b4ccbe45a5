//! Application platform types: Maps, App Configuration.

use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, Removal, Soft};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Version};

const COMMON_URL: &str = "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyUrl";
const COMMON_IDENTITY: &str =
    "/properties/encryption/customerManagedKeyEncryption/keyEncryptionKeyIdentity/userAssignedIdentityResourceId";

const STORE_URL: &str = "/properties/encryption/keyVaultProperties/keyIdentifier";

pub(super) const KINDS: &[Kind] = &[
    // Follows ARM's common form of customer-managed keys. Whether it can be switched off again is UNVERIFIED.
    Kind {
        naming: Naming::of(1, 98, "-_."),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Done }),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        delete: Some(Removal { existing: 200, follow: Follow::Done }),
        identities: Identities::SPACED,
        whole: &["/properties/encryption/customerManagedKeyEncryption"],
        defaults: &[("/properties/disableLocalAuth", "false"), ("/kind", "\"Gen2\"")],
        cmk: &[Cmk {
            back: Back::Yes,
            version: Version::Any,
            ..Cmk::new(On::Present(COMMON_URL), KeyAt::Url(COMMON_URL), Looks::ArmId(COMMON_IDENTITY))
        }],
        ..Kind::tracked("Microsoft.Maps/accounts", "2021-02-01")
    },
    // The key is on as soon as its URL is there; an empty `keyVaultProperties` takes it away again. That a versionless
    // key is followed by the service is UNVERIFIED.
    Kind {
        naming: Naming::of(5, 50, "-").global(),
        identities: Identities::SPACED,
        whole: &["/properties/encryption/keyVaultProperties"],
        defaults: &[
            ("/properties/disableLocalAuth", "false"),
            ("/properties/enablePurgeProtection", "false"),
            ("/properties/softDeleteRetentionInDays", "7"),
        ],
        soft: Some(Soft {
            listed: "deletedConfigurationStores",
            hours: 7 * 24,
            restore: "/properties/createMode",
            with_group: false,
            taken: (409, "NameUnavailable"),
        }),
        shows: crate::arm::generic::hooks::configuration_store,
        cmk: &[Cmk {
            hsm: false,
            follows: Follows::Versionless,
            ..Cmk::new(
                On::Present(STORE_URL),
                KeyAt::Url(STORE_URL),
                Looks::ClientId("/properties/encryption/keyVaultProperties/identityClientId"),
            )
        }],
        ..Kind::tracked("Microsoft.AppConfiguration/configurationStores", "2019-10-01")
    },
];
