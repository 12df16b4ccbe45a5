//! Azure SQL: a server, the keys that it knows, and the encryption protector that names the one in use.

use crate::arm::generic::hooks::sql;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, Removal, STATELESS, States};
use crate::arm::generic::rule::{Cmk, Follows, KeyAt, Looks, On, Version};

const ACCEPTED: Answers = Answers { new: 202, existing: 202, follow: Follow::Both };
const IDENTITY: Looks = Looks::ArmId("/properties/primaryUserAssignedIdentityId");
const OF_SERVER: Looks = Looks::Parent(&IDENTITY);

pub(super) const KINDS: &[Kind] = &[
    // A key named at creation makes the key and the protector below the server.
    Kind {
        naming: Naming::of(1, 63, "-").lower().global(),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        states: States { pointer: "/properties/state", done: "Ready", failed: "Disabled", ..STATELESS },
        tracking: ("serverAzureAsyncOperation", "serverOperationResults"),
        identities: Identities::ANY,
        sticky: &["/properties/keyId", "/properties/primaryUserAssignedIdentityId", "/properties/administratorLogin"],
        fixed: &["/properties/administratorLogin"],
        defaults: &[
            ("/kind", "\"v12.0\""),
            ("/properties/version", "\"12.0\""),
            ("/properties/minimalTlsVersion", "\"1.2\""),
            ("/properties/publicNetworkAccess", "\"Enabled\""),
            ("/properties/restrictOutboundNetworkAccess", "\"Disabled\""),
            ("/properties/privateEndpointConnections", "[]"),
        ],
        shows: sql::shows_server,
        after: sql::after_server,
        cmk: &[Cmk {
            part: "/encryptionProtector/current",
            version: Version::Required,
            sizes: &[2048, 3072],
            follows: Follows::Never,
            words: sql::words,
            ..Cmk::new(On::Present("/properties/keyId"), KeyAt::Url("/properties/keyId"), IDENTITY)
        }],
        ..Kind::tracked("Microsoft.Sql/servers", "2014-04-01")
    },
    // The name must be `{vault}_{key}_{version}`. Access is looked at when the key is added.
    Kind {
        naming: Naming::of(1, 400, "-_"),
        put: Some(ACCEPTED),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        states: STATELESS,
        standing: Some(("ServiceManaged", r#"{"properties":{"serverKeyType":"ServiceManaged"}}"#)),
        tracking: ("serverKeyAzureAsyncOperation", "serverKeyOperationResults"),
        guard: sql::guard_key,
        shows: sql::shows_key,
        cmk: &[Cmk {
            sizes: &[2048, 3072],
            follows: Follows::Never,
            words: sql::words,
            ..Cmk::new(On::Is("/properties/serverKeyType", "AzureKeyVault"), KeyAt::Url("/properties/uri"), OF_SERVER)
        }],
        ..Kind::child("Microsoft.Sql/servers/keys", "2015-05-01")
    },
    Kind {
        naming: Naming::only("current"),
        put: Some(ACCEPTED),
        delete: None,
        states: STATELESS,
        standing: Some((
            "current",
            r#"{"properties":{"serverKeyName":"ServiceManaged","serverKeyType":"ServiceManaged"}}"#,
        )),
        tracking: ("encryptionProtectorAzureAsyncOperation", "encryptionProtectorOperationResults"),
        guard: sql::guard_protector,
        shows: sql::shows_protector,
        after: sql::after_protector,
        cmk: &[Cmk {
            sizes: &[2048, 3072],
            follows: Follows::Flag("/properties/autoRotationEnabled"),
            words: sql::words,
            ..Cmk::new(On::Is("/properties/serverKeyType", "AzureKeyVault"), KeyAt::Found(sql::named_key), OF_SERVER)
        }],
        ..Kind::child("Microsoft.Sql/servers/encryptionProtector", "2015-05-01")
    },
];
