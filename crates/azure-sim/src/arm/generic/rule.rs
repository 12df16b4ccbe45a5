//! The rule of one customer-managed key of an ARM type: when it is on, where the body names the key, as whom the service
//! looks at it, what it asks of it, what may be changed later, what answers show of it, and in which words it refuses.
//! Data; `keys` follows it.

use std::net::IpAddr;

use crate::arm::generic::resource::Resource;
use crate::cmk::{Ops, Refusal};
use crate::state::World;

/// One customer-managed key of a type.
#[derive(Debug)]
pub(crate) struct Cmk {
    /// Tells the keys of a type with several apart; empty for the only or the first. The hold on the key is under the
    /// resource's id, with `#` and this behind it where it is not empty; one that starts with a slash is the way to a
    /// child, under whose id the hold is.
    pub part: &'static str,
    pub on: On,
    pub key: KeyAt,
    pub version: Version,
    pub follows: Follows,
    pub looks: Looks,
    pub ops: Ops,
    /// Bits that the service takes; empty takes all.
    pub sizes: &'static [u32],
    /// Whether keys of a Managed HSM are taken.
    pub hsm: bool,
    pub needs_no_expiry: bool,
    /// Least retention of the vault in days.
    pub retention_days: Option<i64>,
    pub same_region: bool,
    /// Addresses of a service that the vault's firewall does not count among the trusted ones.
    pub comes_from: &'static [IpAddr],
    /// Whether the vault or HSM can be another one later.
    pub same_vault: bool,
    /// Most characters of vault name and key name together.
    pub longest: Option<usize>,
    pub when: When,
    pub back: Back,
    /// Whether the write is taken although the key cannot be used: the grant comes after it.
    pub grant_later: bool,
    /// Whether a PATCH of the identities alone leaves the key unlooked at.
    pub identity_apart: bool,
    /// What answers show, at which pointer.
    pub shows: &'static [(&'static str, Shown)],
    /// Pointers that go from the body when the key is off.
    pub clears: &'static [&'static str],
    /// The service's words; `None` leaves it to `errors::common`.
    pub words: fn(&Trouble) -> Option<Said>,
}

/// When the key is on.
#[derive(Debug)]
pub(crate) enum On {
    /// The text at the pointer is this one, in any case.
    Is(&'static str, &'static str),
    /// There is a text at the pointer, and it is not empty.
    Present(&'static str),
    /// The member is `true`.
    True(&'static str),
}

/// Where the key is named.
#[derive(Debug)]
pub(crate) enum KeyAt {
    /// Vault URI, key name, and the version, where the type has one (else empty).
    Split { vault: &'static str, name: &'static str, version: &'static str },
    /// The same for the type that names the vault by its ARM id.
    ByVaultId { vault: &'static str, name: &'static str, version: &'static str },
    /// The URL of a key, with or without its version.
    Url(&'static str),
    /// Somewhere else than in the body.
    Found(fn(&World, &Resource) -> Option<String>),
}

/// Whether the key's version must be named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Version {
    Any,
    Required,
    Forbidden,
}

/// Whether the service goes over to a newer version by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Follows {
    /// When no version is named.
    Versionless,
    /// When the member is `true`, whatever version is named.
    Flag(&'static str),
    /// Never: what is the latest at the write stays in use.
    Never,
}

/// As whom the service looks at the key.
#[derive(Debug)]
pub(crate) enum Looks {
    /// The user-assigned identity whose ARM id stands there; nothing there: the system-assigned one.
    ArmId(&'static str),
    /// The user-assigned identity whose client id stands there; nothing there: the system-assigned one.
    ClientId(&'static str),
    /// The identity whose ARM id stands there; nothing there: this application's service principal of Azure's own.
    ArmIdElse(&'static str, &'static str),
    /// The identity whose ARM id stands there; the resource has no identities of its own.
    NamedById(&'static str),
    /// The identity whose client id stands there; the resource has no identities of its own.
    NamedByClient(&'static str),
    /// Cosmos DB's string; nothing there: nobody.
    Cosmos(&'static str),
    /// The identity that the resource has: its only user-assigned one, else its system-assigned one.
    Own,
    System,
    /// Azure's own service principal of this application.
    FirstParty(&'static str),
    /// As the parent would, by this rule.
    Parent(&'static Looks),
    /// The identity of the parent whose client id stands there, in the child; nothing there: the parent's own.
    ParentByClient(&'static str),
    /// A principal that the service makes for itself and shows at the pointer.
    Made(&'static str),
}

/// When the key may be put on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Anytime,
    /// With the creation only; later the key can be changed, not added.
    AtCreation,
    /// While nothing of these child types is in it.
    Empty(&'static [&'static str]),
}

/// Whether the resource can go back to platform keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Back {
    Yes,
    No,
}

/// What an answer shows of the key in use.
#[derive(Debug)]
pub(crate) enum Shown {
    /// Identifier with version.
    Kid,
    Version,
    /// When this version was taken into use.
    Since,
    /// When it expires; the epoch stands for never.
    Expires,
    /// One word while the key can be used, another while it cannot.
    Word(&'static str, &'static str),
    /// Only while the key cannot be used; else the member stays as it is.
    Lost(&'static str),
    /// By the reason for which it cannot be used.
    Text(fn(Option<Refusal>) -> &'static str),
    /// The principal that looks at the key.
    Principal,
}

/// What is wrong with a write as far as the key goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// The key cannot be used.
    Key(Refusal),
    /// It is on, and this member is missing.
    Missing(&'static str),
    VersionMissing,
    VersionNamed,
    /// Nobody to look at the key: the resource has no such identity.
    Nobody,
    /// The key cannot be put on after the creation.
    TooLate,
    /// The key can be put on while the resource is empty only.
    NotEmpty,
    /// There is no way back to platform keys.
    NoWayBack,
    /// The key has to stay in its vault.
    OtherVault,
    /// Vault name and key name are too long together.
    TooLong,
}

/// How a service says it.
#[derive(Debug)]
pub(crate) struct Said {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// Whether the write is accepted and its operation fails, rather than refused at once.
    pub later: bool,
}

impl Said {
    pub fn now(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), later: false }
    }

    pub fn later(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { later: true, ..Self::now(status, code, message) }
    }
}

fn no_words(_: &Trouble) -> Option<Said> {
    None
}

impl Cmk {
    /// The usual rule: wrap and unwrap, any size, vault or HSM, versionless keys are followed, on at any time and off
    /// again, refused at once in the common words.
    pub const fn new(on: On, key: KeyAt, looks: Looks) -> Self {
        Self {
            part: "",
            on,
            key,
            version: Version::Any,
            follows: Follows::Versionless,
            looks,
            ops: Ops::Wrap,
            sizes: &[],
            hsm: true,
            needs_no_expiry: false,
            retention_days: None,
            same_region: false,
            comes_from: &[],
            same_vault: false,
            longest: None,
            when: When::Anytime,
            back: Back::Yes,
            grant_later: false,
            identity_apart: false,
            shows: &[],
            clears: &[],
            words: no_words,
        }
    }

    /// Pointers of the body by which the key is set; a PATCH with none of them leaves the key alone.
    pub fn pointers(&self) -> Vec<&'static str> {
        let mut all = match self.on {
            On::Is(at, _) | On::Present(at) | On::True(at) => vec![at],
        };
        match self.key {
            KeyAt::Split { vault, name, version } | KeyAt::ByVaultId { vault, name, version } => {
                all.extend([vault, name, version]);
            }
            KeyAt::Url(at) => all.push(at),
            KeyAt::Found(_) => {}
        }
        if let Looks::ArmId(at)
        | Looks::ArmIdElse(at, _)
        | Looks::ClientId(at)
        | Looks::Cosmos(at)
        | Looks::NamedById(at)
        | Looks::NamedByClient(at)
        | Looks::ParentByClient(at) = self.looks
        {
            all.push(at);
        }
        if let Follows::Flag(at) = self.follows {
            all.push(at);
        }
        all.retain(|at| !at.is_empty());
        all
    }
}
