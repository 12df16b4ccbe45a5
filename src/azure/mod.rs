//! Talks to Azure and is ignorant of jobs.
//!
//! What belongs here: one function per call of Azure, its answer typed, its error classified. What does not: waiting,
//! retrying, deciding, and any knowledge of steps. Reading order: `cloud`, `transport`, `credential`, `error`,
//! `context`, `arm`, then one module per thing in Azure.

pub mod arm;
pub mod cloud;
pub mod context;
pub mod credential;
pub mod error;
pub mod identities;
pub mod keys;
pub mod resource_groups;
pub mod resources;
pub mod role_assignments;
pub mod subscriptions;
pub mod vaults;

use std::time::Duration;

use uuid::Uuid;

pub use arm::{Answer, Arm, Operation, OperationState};
pub use cloud::Cloud;
pub use context::CallContext;
pub use credential::CredentialSettings;
pub use error::{AzureError, AzureErrorKind};
pub use keys::Keys;

use crate::domain::ids::PrincipalId;
use role_assignments::PrincipalType;

/// How to reach Azure.
#[derive(Clone, Debug)]
pub struct AzureSettings {
    /// Which Azure.
    pub cloud: Cloud,
    /// How to sign in.
    pub credential: CredentialSettings,
    /// How long calls may take.
    pub timeouts: Timeouts,
}

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// For one call in all.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), call: Duration::from_secs(30) }
    }
}

/// Everything needed to talk to one cloud as one principal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Azure {
    /// The cloud.
    pub cloud: Cloud,
    /// Azure Resource Manager.
    pub arm: Arm,
    /// Keys of vaults.
    pub keys: Keys,
}

/// Who the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPrincipal {
    /// Object id: what role assignments name.
    pub id: PrincipalId,
    /// What kind of principal.
    pub principal_type: PrincipalType,
}

/// Why the clients could not be made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum AzureSetupError {
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
}

impl Azure {
    /// Makes the clients. Sends nothing.
    pub fn connect(settings: AzureSettings) -> Result<Self, AzureSetupError> {
        todo!()
    }

    /// Who the service is, from its own token for Azure Resource Manager.
    pub async fn own_principal(&self, cx: &CallContext) -> Result<OwnPrincipal, AzureError> {
        todo!()
    }

    /// The tenant of a subscription.
    pub async fn tenant(&self, cx: &CallContext, subscription: Uuid) -> Result<Uuid, AzureError> {
        subscriptions::tenant(&self.arm, cx, subscription).await
    }
}

/// Whether two spellings name the same region: `West Europe` and `westeurope` do.
pub fn same_region(a: &str, b: &str) -> bool {
    let normal = |s: &str| s.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect::<String>();
    normal(a) == normal(b)
}
