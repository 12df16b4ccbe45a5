//! What a survey tells.

use crate::domain::failure::Failure;

/// What a look at everything that a plan is about found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// One finding for each step, in the plan's order.
    pub steps: Vec<Finding>,
    /// Everything that would make the job fail as things are, each once.
    pub blockers: Vec<Failure>,
    /// What lies between the worker, the service and a key store that exists.
    pub gates: Vec<Gate>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// What was found for one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where it stands.
    pub state: FindingState,
    /// What was found, in words, where there is something to say.
    pub detail: Option<String>,
}

/// Where a step stands before the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingState {
    /// Already true: nothing would be changed.
    InPlace,
    /// The step would change something.
    WouldChange,
    /// The step would wait for something that is on its way.
    WouldWait,
    /// The step would fail.
    Blocked,
    /// It can only be looked at once an earlier step has changed something.
    Later,
    /// It could not be looked at.
    Unknown,
}

impl FindingState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::InPlace, Self::WouldChange, Self::WouldWait, Self::Blocked, Self::Later, Self::Unknown];

    /// The wire string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InPlace => "in-place",
            Self::WouldChange => "would-change",
            Self::WouldWait => "would-wait",
            Self::Blocked => "blocked",
            Self::Later => "later",
            Self::Unknown => "unknown",
        }
    }
}

/// Something in the network that has to let somebody through to the key store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Which.
    pub kind: GateKind,
    /// Whether it lets them through; `None`: it depends on where they come from.
    pub open: Option<bool>,
    /// What it is set to.
    pub detail: String,
}

/// The gates of a key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// `publicNetworkAccess`: for everybody who comes from a public address.
    PublicNetworkAccess,
    /// `networkAcls.defaultAction`: for addresses that no rule names.
    DefaultAction,
    /// `networkAcls.bypass`: for trusted Azure services.
    TrustedServices,
    /// `networkAcls.ipRules`.
    IpRules,
    /// `networkAcls.virtualNetworkRules`.
    Subnets,
}

impl GateKind {
    /// Every gate.
    pub const ALL: [Self; 5] =
        [Self::PublicNetworkAccess, Self::DefaultAction, Self::TrustedServices, Self::IpRules, Self::Subnets];

    /// The wire string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PublicNetworkAccess => "public-network-access",
            Self::DefaultAction => "default-action",
            Self::TrustedServices => "trusted-services",
            Self::IpRules => "ip-rules",
            Self::Subnets => "subnets",
        }
    }

    /// Who has to pass: the worker, the service, or both.
    pub const fn between(self) -> &'static str {
        match self {
            Self::TrustedServices => "service-and-key-store",
            Self::PublicNetworkAccess | Self::DefaultAction | Self::IpRules | Self::Subnets => "worker-and-key-store",
        }
    }
}
