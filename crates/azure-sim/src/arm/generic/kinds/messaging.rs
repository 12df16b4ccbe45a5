//! Event Hubs and Service Bus.

use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming};
use crate::arm::generic::rule::{Back, Cmk, KeyAt, Looks, On, When};

const BODY: Answers = Answers { new: 201, existing: 200, follow: Follow::State };

/// One of the up to three keys, of which each names its identity.
macro_rules! item {
    ($part:literal, $number:literal, $on:expr, $children:expr) => {
        Cmk {
            part: $part,
            when: When::Empty($children),
            back: Back::No,
            ..Cmk::new(
                $on,
                KeyAt::Split {
                    vault: concat!("/properties/encryption/keyVaultProperties/", $number, "/keyVaultUri"),
                    name: concat!("/properties/encryption/keyVaultProperties/", $number, "/keyName"),
                    version: concat!("/properties/encryption/keyVaultProperties/", $number, "/keyVersion"),
                },
                Looks::ArmId(concat!(
                    "/properties/encryption/keyVaultProperties/",
                    $number,
                    "/identity/userAssignedIdentity"
                )),
            )
        }
    };
}

/// The keys of a namespace, which must be empty when the first is put on. There is no way back for the first; the others
/// may go.
macro_rules! keys {
    ($children:expr) => {
        &[
            item!("", "0", On::Is("/properties/encryption/keySource", "Microsoft.KeyVault"), $children),
            Cmk {
                when: When::Anytime,
                back: Back::Yes,
                ..item!("1", "1", On::Present("/properties/encryption/keyVaultProperties/1/keyName"), &[])
            },
            Cmk {
                when: When::Anytime,
                back: Back::Yes,
                ..item!("2", "2", On::Present("/properties/encryption/keyVaultProperties/2/keyName"), &[])
            },
        ]
    };
}

const NAMES: Naming = Naming::of(6, 50, "-").global();

pub(super) const KINDS: &[Kind] = &[
    Kind {
        naming: NAMES,
        put: Some(BODY),
        patch: Some(BODY),
        identities: Identities::SPACED,
        sticky: &["/properties/encryption"],
        cmk: keys!(&["Microsoft.EventHub/namespaces/eventhubs"]),
        ..Kind::tracked("Microsoft.EventHub/namespaces", "2015-08-01")
    },
    Kind { naming: Naming::of(1, 256, "-_."), ..Kind::child("Microsoft.EventHub/namespaces/eventhubs", "2015-08-01") },
    Kind {
        naming: NAMES,
        put: Some(BODY),
        patch: Some(BODY),
        identities: Identities::SPACED,
        sticky: &["/properties/encryption"],
        cmk: keys!(&["Microsoft.ServiceBus/namespaces/queues", "Microsoft.ServiceBus/namespaces/topics"]),
        ..Kind::tracked("Microsoft.ServiceBus/namespaces", "2015-08-01")
    },
    Kind { naming: Naming::of(1, 260, "-_."), ..Kind::child("Microsoft.ServiceBus/namespaces/queues", "2015-08-01") },
    Kind { naming: Naming::of(1, 260, "-_."), ..Kind::child("Microsoft.ServiceBus/namespaces/topics", "2015-08-01") },
];
