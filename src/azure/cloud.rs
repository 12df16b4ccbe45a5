//! Which Azure: the endpoints of a cloud, and which addresses belong to it.
//!
//! What belongs here: host names and the checks that decide whether a token may be sent somewhere. What does not:
//! anything that opens a connection.

use url::Url;

/// The endpoints of one cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// A name for logs.
    pub name: String,
    /// Base address of Azure Resource Manager.
    pub arm: Url,
    /// Base address of Microsoft Entra.
    pub authority_host: Url,
    /// The scope of tokens for Azure Resource Manager.
    pub arm_scope: String,
    /// Vaults are `{name}.{vault_suffix}`, which may end in a port.
    pub vault_suffix: String,
    /// Managed HSMs are `{name}.{hsm_suffix}`, which may end in a port.
    pub hsm_suffix: String,
    /// One more root certificate to trust, PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
}
