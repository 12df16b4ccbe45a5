//! SQL Managed Instance with its keys and protector, and databases with a key of their own. Logical servers are in `sql`.

use crate::arm::generic::hooks::sql;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, PROVISIONING, Removal, STATELESS, States};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Shown, Version};

const ACCEPTED: Answers = Answers { new: 202, existing: 202, follow: Follow::Both };
const GONE: Option<Removal> = Some(Removal { existing: 202, follow: Follow::Both });
const IDENTITY: Looks = Looks::ArmId("/properties/primaryUserAssignedIdentityId");
const OF_INSTANCE: Looks = Looks::Parent(&IDENTITY);
const DATABASE_KEY: &str = "/properties/encryptionProtector";

pub(super) const KINDS: &[Kind] = &[
    // A key named at creation makes the key and the protector below the instance, as for a logical server (UNVERIFIED).
    // Sizes of RSA keys, words and paths are those of the logical server.
    Kind {
        naming: Naming::of(1, 63, "-").lower().global(),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        delete: GONE,
        states: States { creating: "InProgress", updating: "InProgress", deleting: "InProgress", ..PROVISIONING },
        tracking: ("managedInstanceAzureAsyncOperation", "managedInstanceOperationResults"),
        sticky: &["/properties/keyId", "/properties/primaryUserAssignedIdentityId", "/properties/administratorLogin"],
        fixed: &["/properties/administratorLogin"],
        defaults: &[
            ("/properties/state", "\"Ready\""),
            ("/properties/licenseType", "\"LicenseIncluded\""),
            ("/properties/minimalTlsVersion", "\"1.2\""),
        ],
        after: sql::after_server,
        cmk: &[Cmk {
            part: "/encryptionProtector/current",
            version: Version::Required,
            sizes: &[2048, 3072],
            follows: Follows::Never,
            words: sql::words,
            ..Cmk::new(On::Present("/properties/keyId"), KeyAt::Url("/properties/keyId"), IDENTITY)
        }],
        ..Kind::tracked("Microsoft.Sql/managedInstances", "2015-05-01")
    },
    Kind {
        naming: Naming::of(1, 400, "-_"),
        put: Some(ACCEPTED),
        delete: GONE,
        states: STATELESS,
        standing: Some(("ServiceManaged", r#"{"properties":{"serverKeyType":"ServiceManaged"}}"#)),
        tracking: ("managedInstanceKeyAzureAsyncOperation", "managedInstanceKeyOperationResults"),
        guard: sql::guard_key,
        shows: sql::shows_instance_key,
        cmk: &[Cmk {
            version: Version::Required,
            sizes: &[2048, 3072],
            follows: Follows::Never,
            words: sql::words,
            ..Cmk::new(On::Is("/properties/serverKeyType", "AzureKeyVault"), KeyAt::Url("/properties/uri"), OF_INSTANCE)
        }],
        ..Kind::child("Microsoft.Sql/managedInstances/keys", "2017-10-01")
    },
    // Unlike that of a logical server it does not show the version of the key.
    Kind {
        naming: Naming::only("current"),
        put: Some(ACCEPTED),
        delete: None,
        states: STATELESS,
        standing: Some((
            "current",
            r#"{"properties":{"serverKeyName":"ServiceManaged","serverKeyType":"ServiceManaged"}}"#,
        )),
        tracking: (
            "managedInstanceEncryptionProtectorAzureAsyncOperation",
            "managedInstanceEncryptionProtectorOperationResults",
        ),
        guard: sql::guard_protector,
        shows: sql::shows_instance_protector,
        after: sql::after_protector,
        cmk: &[Cmk {
            sizes: &[2048, 3072],
            follows: Follows::Flag("/properties/autoRotationEnabled"),
            words: sql::words,
            ..Cmk::new(On::Is("/properties/serverKeyType", "AzureKeyVault"), KeyAt::Found(sql::named_key), OF_INSTANCE)
        }],
        ..Kind::child("Microsoft.Sql/managedInstances/encryptionProtector", "2017-10-01")
    },
    // A key of its own, looked at as an identity of its own. The way back is a POST to `encryptionProtector/current/revert`
    // (UNVERIFIED), which is not played; that a PATCH cannot take the key away is UNVERIFIED too.
    Kind {
        naming: Naming::of(1, 128, "-_. "),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        delete: GONE,
        placed: true,
        identities: Identities::USER,
        states: States {
            pointer: "/properties/status",
            creating: "Creating",
            updating: "Online",
            deleting: "Offline",
            done: "Online",
            failed: "Disabled",
        },
        tracking: ("databaseAzureAsyncOperation", "databaseOperationResults"),
        sticky: &[DATABASE_KEY, "/properties/encryptionProtectorAutoRotation", "/sku"],
        defaults: &[
            ("/sku", r#"{"name":"GP_Gen5","tier":"GeneralPurpose","family":"Gen5","capacity":2}"#),
            ("/properties/collation", "\"SQL_Latin1_General_CP1_CI_AS\""),
        ],
        shows: sql::shows_database,
        cmk: &[Cmk {
            version: Version::Required,
            sizes: &[2048, 3072],
            follows: Follows::Flag("/properties/encryptionProtectorAutoRotation"),
            back: Back::No,
            shows: &[(DATABASE_KEY, Shown::Kid), ("/properties/status", Shown::Lost("Inaccessible"))],
            words: sql::words,
            ..Cmk::new(On::Present(DATABASE_KEY), KeyAt::Url(DATABASE_KEY), Looks::Own)
        }],
        ..Kind::child("Microsoft.Sql/servers/databases", "2014-04-01")
    },
];
