//! The classic health data service and bots. Name rules and the codes of refusals are UNVERIFIED where nothing else is said.

use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Version, When};
use crate::entra::first_party;

pub(super) const KINDS: &[Kind] = &[
    // The classic service keeps its data in Cosmos DB, whose own principal looks at the key. The model of its PATCH has no
    // key.
    Kind {
        naming: Naming::of(3, 24, "-").lower(),
        identities: Identities::SYSTEM,
        patch_ignores: &["/properties/cosmosDbConfiguration"],
        cmk: &[Cmk {
            version: Version::Forbidden,
            when: When::AtCreation,
            back: Back::No,
            ..Cmk::new(
                On::Present("/properties/cosmosDbConfiguration/keyVaultKeyUri"),
                KeyAt::Url("/properties/cosmosDbConfiguration/keyVaultKeyUri"),
                Looks::FirstParty(first_party::COSMOS),
            )
        }],
        ..Kind::tracked("Microsoft.HealthcareApis/services", "2019-09-16")
    },
    // Whether the key can be given up again and whether newer versions are followed are UNVERIFIED.
    Kind {
        naming: Naming::of(2, 64, "-_"),
        identities: Identities::SPACED,
        whole: &["/properties/keyVaultProperties"],
        cmk: &[Cmk {
            hsm: false,
            ..Cmk::new(
                On::Present("/properties/keyVaultProperties/keyName"),
                KeyAt::Split {
                    vault: "/properties/keyVaultProperties/keyVaultUri",
                    name: "/properties/keyVaultProperties/keyName",
                    version: "/properties/keyVaultProperties/keyVersion",
                },
                Looks::ArmId("/properties/keyVaultProperties/userIdentity"),
            )
        }],
        ..Kind::tracked("Microsoft.HealthBot/healthBots", "2020-12-08")
    },
    // It has no identity: a principal of Azure's own looks. What is said of its status, whether the key is followed and
    // whether it can be given up again are UNVERIFIED.
    Kind {
        naming: Naming::of(2, 64, "-_"),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Done }),
        patch: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        identities: Identities::NONE,
        global: true,
        cmk: &[Cmk {
            follows: Follows::Never,
            hsm: false,
            ..Cmk::new(
                On::True("/properties/isCmekEnabled"),
                KeyAt::Url("/properties/cmekKeyVaultUrl"),
                Looks::FirstParty(first_party::BOT_SERVICE),
            )
        }],
        ..Kind::tracked("Microsoft.BotService/botServices", "2018-07-12")
    },
];
