//! Talks to Azure and is ignorant of jobs.
//!
//! What belongs here: one function per call of Azure, its answer typed, its error classified. What does not: waiting,
//! retrying, deciding, and any knowledge of steps. Reading order: `cloud`, `transport`, `credential`, `error`,
//! `context`, `limits`, `arm`, then one module per thing in Azure.

mod answer;
pub mod arm;
mod body;
mod chain;
mod classify;
pub mod cloud;
pub mod context;
pub mod credential;
pub mod directory;
pub mod error;
pub mod identities;
mod key_models;
pub mod keys;
mod limits;
pub mod locks;
pub mod managed_hsms;
mod operation;
pub mod policies;
pub mod registrations;
pub mod resource_groups;
pub mod resources;
pub mod role_assignments;
mod sign_in;
mod store_network;
pub mod subscriptions;
#[cfg(test)]
mod testing;
mod transport;
pub mod vaults;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use azure_core::credentials::{TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientMethodOptions, ClientOptions, RetryOptions};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

pub use arm::{Absence, Answer, Arm, Lookup, Operation, OperationState};
pub use cloud::{Cloud, CustomCloud, same_region};
pub use context::CallContext;
pub use credential::CredentialSettings;
pub use error::{AzureError, AzureErrorKind};
pub use keys::Keys;

use crate::clock::Clock;
use crate::domain::ids::PrincipalId;
use classify::Origin;
use directory::Directory;
use limits::Limits;
use managed_hsms::LocalRoles;
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
    /// Azure Resource Manager.
    pub arm: Arm,
    /// Keys of vaults.
    pub keys: Keys,
    /// The tenant's directory.
    pub directory: Directory,
    /// Local roles of Managed HSMs.
    pub local_roles: LocalRoles,
    credential: Arc<dyn TokenCredential>,
    call_timeout: Duration,
    own_principal: Arc<OnceLock<OwnPrincipal>>,
}

/// Who the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPrincipal {
    /// Object id: what role assignments name.
    pub id: PrincipalId,
    /// What kind of principal.
    pub principal_type: PrincipalType,
    /// The tenant that it signed in to. Azure takes its token in subscriptions of this tenant only.
    pub tenant_id: Uuid,
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
        Self::connect_with_clock(settings, Clock::System)
    }

    /// Makes the clients, with the clock by which Azure's limits fill. Where a test moves it, no call waits: it ends in
    /// [`AzureErrorKind::RateLimited`] instead, and its step waits.
    pub fn connect_with_clock(settings: AzureSettings, clock: Clock) -> Result<Self, AzureSetupError> {
        let AzureSettings { cloud, credential, timeouts } = settings;
        let options = ClientOptions {
            transport: Some(transport::build(cloud.extra_ca_pem.as_deref(), timeouts)?),
            retry: RetryOptions::none(),
            per_try_policies: vec![Arc::new(context::CallPolicy)],
            ..ClientOptions::default()
        };
        let credential = credential::build(&credential, &cloud, options.clone())?;
        let limits = Limits::new(clock);
        let keys = Keys::new(cloud.clone(), credential.clone(), options.clone(), timeouts.call, limits.clone());
        let local_roles =
            LocalRoles::new(cloud.clone(), credential.clone(), options.clone(), timeouts.call, limits.clone());
        let directory =
            Directory::new(cloud.clone(), credential.clone(), options.clone(), timeouts.call, limits.clone());
        let arm = Arm::new(cloud, credential.clone(), options, timeouts.call, limits);
        Ok(Self {
            arm,
            keys,
            directory,
            local_roles,
            credential,
            call_timeout: timeouts.call,
            own_principal: Arc::default(),
        })
    }

    /// The cloud.
    pub fn cloud(&self) -> &Cloud {
        self.arm.cloud()
    }

    /// Who the service is, from its own token for Azure Resource Manager. Asked once and then remembered.
    pub async fn own_principal(&self, cx: &CallContext) -> Result<OwnPrincipal, AzureError> {
        if let Some(known) = self.own_principal.get() {
            return Ok(*known);
        }
        let method_options = ClientMethodOptions { context: cx.for_one_call() };
        let scopes = [self.cloud().arm_scope.as_str()];
        let asked = self.credential.get_token(&scopes, Some(TokenRequestOptions { method_options }));
        let token = arm::within(self.call_timeout, asked).await?.map_err(|e| AzureError::from_sdk(Origin::Arm, &e))?;
        let principal = read_principal(token.token.secret()).ok_or_else(|| {
            AzureError::new(AzureErrorKind::Unexpected, "the token for Azure Resource Manager names no principal")
        })?;
        Ok(*self.own_principal.get_or_init(|| principal))
    }

    /// The tenant of a subscription.
    pub async fn tenant(&self, cx: &CallContext, subscription: Uuid) -> Result<Uuid, AzureError> {
        subscriptions::tenant(&self.arm, cx, subscription).await
    }
}

/// The principal of an access token. The signature is not checked: the token came from Entra over TLS, and Azure checks
/// it at every call.
fn read_principal(token: &str) -> Option<OwnPrincipal> {
    #[derive(serde::Deserialize)]
    struct Claims {
        oid: Uuid,
        tid: Uuid,
        /// Delegated scopes: only in tokens of people.
        scp: Option<String>,
    }
    let payload = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let principal_type = if claims.scp.is_some() { PrincipalType::User } else { PrincipalType::ServicePrincipal };
    Some(OwnPrincipal { id: PrincipalId(claims.oid), principal_type, tenant_id: claims.tid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_principal_is_read_from_the_token() {
        let oid = "aaaaaaaa-2222-3333-4444-555555555555";
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let tid = "bbbbbbbb-2222-3333-4444-555555555555";
        let app = format!(r#"{{"oid":"{oid}","tid":"{tid}","idtyp":"app"}}"#);
        let app = read_principal(&token(&app)).expect("an app");
        assert_eq!((app.id.to_string().as_str(), app.principal_type), (oid, PrincipalType::ServicePrincipal));
        assert_eq!(app.tenant_id.to_string(), tid);
        let person = format!(r#"{{"oid":"{oid}","tid":"{tid}","scp":"user_impersonation"}}"#);
        let person = read_principal(&token(&person));
        assert_eq!(person.expect("a person").principal_type, PrincipalType::User);
        let homeless = token(&format!(r#"{{"oid":"{oid}"}}"#));
        for broken in ["", "a.b.c", "opaque", &token("{}"), &token(r#"{"oid":"x"}"#), &homeless] {
            assert_eq!(read_principal(broken), None, "{broken}");
        }
    }

    #[test]
    fn wrong_settings_are_told_before_anything_is_sent() {
        let settings = |credential| AzureSettings { cloud: Cloud::public(), credential, timeouts: Timeouts::default() };
        let secret = |tenant: &str| CredentialSettings::ClientSecret {
            tenant_id: tenant.into(),
            client_id: "c".into(),
            secret: "s".into(),
        };
        assert!(Azure::connect(settings(secret("contoso.example"))).is_ok());
        assert!(Azure::connect(settings(secret("no/tenant"))).is_err());
        assert!(Azure::connect(settings(CredentialSettings::Chain(Vec::new()))).is_err());
    }
}
