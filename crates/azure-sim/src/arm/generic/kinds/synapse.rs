//! Synapse: a workspace, and the keys that it knows, one of which is the active one. Codes are UNVERIFIED.

use crate::arm::generic::hooks::synapse;
use crate::arm::generic::kind::{Answers, Follow, Identities, Kind, Naming, Removal, STATELESS};
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Shown, Version, When};

const IDENTITY: Looks = Looks::ArmId("/properties/encryption/cmk/kekIdentity/userAssignedIdentity");
const OF_WORKSPACE: Looks = Looks::Parent(&IDENTITY);
const ACTIVE: &str = "/properties/isActiveCMK";

pub(super) const KINDS: &[Kind] = &[
    // The key comes with the creation, without a version, and the service follows no rotation. A workspace whose identity
    // has no access yet waits for its key to be activated.
    Kind {
        naming: Naming::of(1, 50, "-").lower().global(),
        put: Some(Answers { new: 201, existing: 200, follow: Follow::Both }),
        patch: Some(Answers { new: 202, existing: 202, follow: Follow::Both }),
        delete: Some(Removal { existing: 202, follow: Follow::Both }),
        identities: Identities::ANY,
        sticky: &["/properties/encryption"],
        shows: synapse::shows_workspace,
        after: synapse::after_workspace,
        cmk: &[Cmk {
            version: Version::Forbidden,
            follows: Follows::Never,
            sizes: &[2048, 3072],
            same_region: true,
            when: When::AtCreation,
            back: Back::No,
            grant_later: true,
            shows: &[("/properties/encryption/cmk/status", Shown::Word("Consistent", "Consistent"))],
            ..Cmk::new(On::Present(synapse::KEY_URL), KeyAt::Url(synapse::KEY_URL), IDENTITY)
        }],
        ..Kind::tracked("Microsoft.Synapse/workspaces", "2020-12-01")
    },
    // Making a key the active one changes the workspace's. Here it is active with the answer, on Azure minutes later.
    Kind {
        naming: Naming::of(1, 90, "-_"),
        put: Some(Answers { new: 200, existing: 200, follow: Follow::Done }),
        states: STATELESS,
        defaults: &[(ACTIVE, "false")],
        guard: synapse::guard_key,
        after: synapse::after_key,
        cmk: &[Cmk {
            version: Version::Forbidden,
            follows: Follows::Never,
            sizes: &[2048, 3072],
            same_region: true,
            back: Back::No,
            ..Cmk::new(On::True(ACTIVE), KeyAt::Url("/properties/keyVaultUrl"), OF_WORKSPACE)
        }],
        ..Kind::child("Microsoft.Synapse/workspaces/keys", "2020-12-01")
    },
];
