//! AI services.

use crate::arm::generic::hooks::cognitive;
use crate::arm::generic::kind::{
    Action, Answers, Follow, Identities, Kind, Naming, PROVISIONING, Removal, Soft, States,
};
use crate::arm::generic::rule::{Cmk, KeyAt, Looks, On};

const BODY: Answers = Answers { new: 201, existing: 200, follow: Follow::State };

pub(super) const KINDS: &[Kind] = &[
    // protocol.md 8.3: 201 or 200 and the state in the body; a key out of reach makes the account `Failed`; deleted accounts
    // are kept for 48 hours (UNVERIFIED) with their names and subdomains.
    Kind {
        naming: Naming::of(2, 64, "-_."),
        put: Some(BODY),
        patch: Some(BODY),
        delete: Some(Removal { existing: 202, follow: Follow::Location }),
        states: States { creating: "Accepted", updating: "Accepted", ..PROVISIONING },
        identities: Identities::SPACED,
        defaults: &[
            ("/properties/publicNetworkAccess", "\"Enabled\""),
            ("/properties/privateEndpointConnections", "[]"),
            ("/properties/capabilities", "[]"),
            ("/properties/isMigrated", "false"),
        ],
        guard: cognitive::guard,
        shows: cognitive::shows,
        actions: &[Action { method: "POST", name: "listKeys", verb: "listKeys/action", answer: cognitive::keys }],
        soft: Some(Soft {
            listed: "deletedAccounts",
            hours: 48,
            restore: "/properties/restore",
            with_group: true,
            taken: (409, "FlagMustBeSetForRestore"),
        }),
        busy: (409, "RequestConflict"),
        cmk: &[Cmk {
            sizes: &[2048, 3072, 4096],
            same_region: true,
            same_vault: true,
            clears: &["/properties/encryption/keyVaultProperties"],
            words: cognitive::words,
            ..Cmk::new(
                On::Is("/properties/encryption/keySource", "Microsoft.KeyVault"),
                KeyAt::Split {
                    vault: "/properties/encryption/keyVaultProperties/keyVaultUri",
                    name: "/properties/encryption/keyVaultProperties/keyName",
                    version: "/properties/encryption/keyVaultProperties/keyVersion",
                },
                Looks::ClientId("/properties/encryption/keyVaultProperties/identityClientId"),
            )
        }],
        ..Kind::tracked("Microsoft.CognitiveServices/accounts", "2017-04-18")
    },
];
