//! Databases: Cosmos DB, PostgreSQL. Azure SQL is in `sql`.

use crate::arm::generic::hooks::cosmos;
use crate::arm::generic::kind::{Action, Answers, Follow, Identities, Kind, Naming, PROVISIONING, Removal, States};
use crate::arm::generic::rule::{Back, Cmk, KeyAt, Looks, On, Shown, Version, When};

const BOTH: Answers = Answers { new: 200, existing: 200, follow: Follow::Both };
const ACCEPTED: Answers = Answers { new: 202, existing: 202, follow: Follow::Both };

const SERVER_URL: &str = "/properties/dataEncryption/primaryKeyURI";
const SERVER_IDENTITY: &str = "/properties/dataEncryption/primaryUserAssignedIdentityId";

pub(super) const KINDS: &[Kind] = &[
    // protocol.md 8.2: writes are answered with 200 only, errors are flat, identity and default identity go apart, a key
    // is never given up again.
    Kind {
        naming: Naming::of(3, 44, "-").lower().global(),
        put: Some(BOTH),
        patch: Some(BOTH),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        states: States { creating: "Creating", ..PROVISIONING },
        tracking: ("operationsStatus", "operationResults"),
        identities: Identities::ANY,
        sticky: &["/properties/keyVaultKeyUri", "/properties/defaultIdentity"],
        defaults: cosmos::DEFAULTS,
        guard: cosmos::guard,
        shows: cosmos::shows,
        actions: &[
            Action { method: "POST", name: "listKeys", verb: "listKeys/action", answer: cosmos::keys },
            Action {
                method: "POST",
                name: "readonlykeys",
                verb: "readonlykeys/action",
                answer: cosmos::read_only_keys,
            },
            Action {
                method: "POST",
                name: "listConnectionStrings",
                verb: "listConnectionStrings/action",
                answer: cosmos::connection_strings,
            },
        ],
        // Status and code UNVERIFIED.
        busy: (412, "PreconditionFailed"),
        flat_errors: true,
        cmk: &[Cmk {
            version: Version::Forbidden,
            back: Back::No,
            identity_apart: true,
            shows: &[
                ("/properties/keyVaultKeyUriVersion", Shown::Version),
                (cosmos::STATUS, Shown::Text(cosmos::status)),
            ],
            words: cosmos::words,
            ..Cmk::new(On::Present(cosmos::KEY), KeyAt::Url(cosmos::KEY), Looks::Cosmos(cosmos::DEFAULT_IDENTITY))
        }],
        ..Kind::tracked("Microsoft.DocumentDB/databaseAccounts", "2015-04-08")
    },
    // The kind of encryption is chosen at creation; a PATCH can name another key or identity. Losing the key shows in the
    // state. Words for a key that cannot be used are UNVERIFIED.
    Kind {
        naming: Naming::of(3, 63, "-").lower().global(),
        put: Some(ACCEPTED),
        patch: Some(ACCEPTED),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        states: States {
            pointer: "/properties/state",
            creating: "Provisioning",
            updating: "Updating",
            deleting: "Dropping",
            done: "Ready",
            failed: "Disabled",
        },
        tracking: ("azureAsyncOperation", "operationResults"),
        defaults: &[
            ("/properties/dataEncryption/type", "\"SystemManaged\""),
            ("/properties/network/publicNetworkAccess", "\"Enabled\""),
            ("/properties/replicationRole", "\"Primary\""),
        ],
        shows: crate::arm::generic::hooks::postgres,
        cmk: &[Cmk {
            sizes: &[2048, 3072, 4096],
            when: When::AtCreation,
            back: Back::No,
            shows: &[
                ("/properties/dataEncryption/primaryEncryptionKeyStatus", Shown::Word("Valid", "Invalid")),
                ("/properties/state", Shown::Lost("Inaccessible")),
            ],
            ..Cmk::new(
                On::Is("/properties/dataEncryption/type", "AzureKeyVault"),
                KeyAt::Url(SERVER_URL),
                Looks::ArmId(SERVER_IDENTITY),
            )
        }],
        ..Kind::tracked("Microsoft.DBforPostgreSQL/flexibleServers", "2021-06-01")
    },
];
