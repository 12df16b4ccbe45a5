//! How the service signs in to Azure.
//!
//! What belongs here: choosing among azure_identity's credentials. What does not: what a failed sign-in means
//! (`sign_in`), and reading the process's environment, except through the look-up that is passed in.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::http::ClientOptions;
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::AzureSetupError;
use super::chain::{Chain, MANAGED_IDENTITY};
use super::cloud::Cloud;
use super::error;
use super::sign_in::{TokenAnswers, failure, wrap};

/// How to sign in.
#[derive(Clone, Debug)]
pub enum CredentialSettings {
    /// The managed identity of the machine; `client_id` picks one of several.
    ManagedIdentity {
        /// The application id of a user-assigned identity.
        client_id: Option<Uuid>,
    },
    /// A Kubernetes service account's token, exchanged at Entra.
    WorkloadIdentity {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Where the token is kept up to date.
        token_file: PathBuf,
    },
    /// An application's secret.
    ClientSecret {
        /// The directory.
        tenant_id: String,
        /// The application.
        client_id: String,
        /// The secret.
        secret: SecretString,
    },
    /// Whoever is signed in to the Azure CLI: for development.
    AzureCli,
    /// Each in turn; the first that works is kept.
    Chain(Vec<CredentialSettings>),
}

impl CredentialSettings {
    /// The usual chain: workload identity and client secret if their variables are set (Azure's own names), then managed
    /// identity, then the Azure CLI. `variable` looks a variable of the environment up.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let (tenant, client) = (set("AZURE_TENANT_ID"), set("AZURE_CLIENT_ID"));
        let mut chain = Vec::new();
        if let (Some(tenant_id), Some(client_id)) = (&tenant, &client) {
            let (tenant_id, client_id) = (tenant_id.clone(), client_id.clone());
            if let Some(token_file) = set("AZURE_FEDERATED_TOKEN_FILE") {
                chain.push(Self::WorkloadIdentity {
                    tenant_id: tenant_id.clone(),
                    client_id: client_id.clone(),
                    token_file: token_file.into(),
                });
            }
            if let Some(secret) = set("AZURE_CLIENT_SECRET") {
                chain.push(Self::ClientSecret { tenant_id, client_id, secret: secret.into() });
            }
        }
        chain.push(Self::ManagedIdentity { client_id: client.and_then(|id| id.parse().ok()) });
        chain.push(Self::AzureCli);
        Self::Chain(chain)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::ManagedIdentity { .. } => MANAGED_IDENTITY,
            Self::WorkloadIdentity { .. } => "workload identity",
            Self::ClientSecret { .. } => "client secret",
            Self::AzureCli => "Azure CLI",
            Self::Chain(_) => "chain",
        }
    }
}

/// Builds the credential. `options` hold transport and tracing; every error of the result is an [`AzureError`](super::error::AzureError) inside.
pub(super) fn build(
    settings: &CredentialSettings,
    cloud: &Cloud,
    mut options: ClientOptions,
) -> Result<Arc<dyn TokenCredential>, AzureSetupError> {
    let mut authority = CustomConfiguration::default();
    authority.authority_host = cloud.authority_host.as_str().trim_end_matches('/').to_owned();
    options.cloud = Some(Arc::new(authority.into()));
    options.per_try_policies.insert(0, Arc::new(TokenAnswers));
    make(settings, &options)
}

fn make(settings: &CredentialSettings, options: &ClientOptions) -> Result<Arc<dyn TokenCredential>, AzureSetupError> {
    let client_options = options.clone();
    let inner: azure_core::Result<Arc<dyn TokenCredential>> = match settings {
        CredentialSettings::ManagedIdentity { client_id } => {
            let user_assigned_id = client_id.map(|id| UserAssignedId::ClientId(id.to_string()));
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            ManagedIdentityCredential::new(Some(options)).map(|c| c as _)
        }
        CredentialSettings::WorkloadIdentity { tenant_id, client_id, token_file } => {
            let credential_options = ClientAssertionCredentialOptions { client_options };
            let options = WorkloadIdentityCredentialOptions {
                credential_options,
                client_id: Some(client_id.clone()),
                tenant_id: Some(tenant_id.clone()),
                token_file_path: Some(token_file.clone()),
            };
            WorkloadIdentityCredential::new(Some(options)).map(|c| c as _)
        }
        CredentialSettings::ClientSecret { tenant_id, client_id, secret } => {
            let secret = Secret::new(secret.expose_secret().to_owned());
            let options = ClientSecretCredentialOptions { client_options };
            ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options)).map(|c| c as _)
        }
        CredentialSettings::AzureCli => AzureCliCredential::new(None).map(|c| c as _),
        CredentialSettings::Chain(members) => {
            if members.is_empty() {
                return Err(AzureSetupError::Setting("the chain of credentials is empty".to_owned()));
            }
            let made = members.iter().map(|member| Ok((member.name(), make(member, options)?)));
            let members = made.collect::<Result<Vec<_>, AzureSetupError>>()?;
            Ok(Arc::new(Chain::new(members)) as _)
        }
    };
    let inner = inner.map_err(|e| AzureSetupError::Setting(format!("{}: {}", settings.name(), error::chain(&e))))?;
    Ok(Arc::new(Classified { inner }))
}

/// Turns every error of a credential into an [`AzureError`](super::error::AzureError) inside azure_core's.
#[derive(Debug)]
struct Classified {
    inner: Arc<dyn TokenCredential>,
}

#[async_trait]
impl TokenCredential for Classified {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.inner.get_token(scopes, options).await.map_err(|error| wrap(failure(&error)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::classify::Origin;
    use super::super::error::{AzureError, AzureErrorKind};
    use super::super::testing::{FakeAzure, Reply};
    use super::*;

    #[test]
    fn the_environment_decides_on_the_chain() {
        let names = |variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            match CredentialSettings::from_environment(variable) {
                CredentialSettings::Chain(members) => members.iter().map(|m| m.name()).collect::<Vec<_>>(),
                other => vec![other.name()],
            }
        };
        assert_eq!(names(&[]), ["managed identity", "Azure CLI"]);
        let ids = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
        let with = |extra: &[(&'static str, &'static str)]| names(&[&ids[..], extra].concat());
        assert_eq!(with(&[("AZURE_CLIENT_SECRET", "")]), ["managed identity", "Azure CLI"]);
        assert_eq!(with(&[("AZURE_CLIENT_SECRET", "s")]), ["client secret", "managed identity", "Azure CLI"]);
        assert_eq!(
            with(&[("AZURE_CLIENT_SECRET", "s"), ("AZURE_FEDERATED_TOKEN_FILE", "/f")]),
            ["workload identity", "client secret", "managed identity", "Azure CLI"]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = CredentialSettings::ClientSecret {
            tenant_id: "t".into(),
            client_id: "c".into(),
            secret: "very-secret".into(),
        };
        assert!(!format!("{settings:?}").contains("very-secret"));
        let credential = make(&settings, &ClientOptions::default()).expect("valid settings");
        assert!(!format!("{credential:?}").contains("very-secret"));
    }

    fn client_secret(fake: &FakeAzure) -> Arc<dyn TokenCredential> {
        let settings = CredentialSettings::ClientSecret {
            tenant_id: "contoso.example".into(),
            client_id: "c".into(),
            secret: "very-secret".into(),
        };
        build(&settings, &Cloud::public(), fake.options()).expect("valid settings")
    }

    async fn sign_in(credential: &dyn TokenCredential) -> Result<String, AzureError> {
        let token = credential.get_token(&["https://management.azure.com/.default"], None).await;
        token.map(|t| t.token.secret().to_owned()).map_err(|e| AzureError::from_sdk(Origin::Arm, &e))
    }

    #[tokio::test]
    async fn a_token_is_fetched_once() {
        let token = json!({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "t"});
        let fake = FakeAzure::new([Reply::json(200, token)]);
        let credential = client_secret(&fake);
        assert_eq!(sign_in(&*credential).await, Ok("t".to_owned()));
        assert_eq!(sign_in(&*credential).await, Ok("t".to_owned()));
        let sent = fake.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].url, "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token");
    }

    #[tokio::test]
    async fn a_refusal_is_told_from_an_outage_and_nothing_is_repeated() {
        use AzureErrorKind::{Authentication, NotSent, Throttled, Transient};
        let refusal = json!({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid.\r\nTrace ID: 1",
            "error_codes": [7000215]});
        for (reply, kind, code) in [
            (Reply::json(401, refusal), Authentication, Some("AADSTS7000215")),
            (Reply::text(503, "<html>").with("retry-after", "3"), Transient, None),
            (Reply::text(429, "").with("retry-after", "3"), Throttled, None),
            (Reply::refused(), NotSent, None),
            (Reply::cut(), NotSent, None),
        ] {
            let fake = FakeAzure::new([reply]);
            let error = sign_in(&*client_secret(&fake)).await.expect_err("no token");
            assert_eq!((error.kind, error.code.as_deref()), (kind, code), "{error}");
            assert!(!format!("{error:?}").contains("very-secret"));
            assert_eq!(fake.sent().len(), 1);
        }
    }

    #[tokio::test]
    async fn the_metadata_service_is_asked_once_too() {
        for (status, kind) in [
            (404, AzureErrorKind::Transient),
            (410, AzureErrorKind::Transient),
            (500, AzureErrorKind::Transient),
            (400, AzureErrorKind::Authentication),
        ] {
            let fake = FakeAzure::new([Reply::json(status, json!({"error": "x"}))]);
            let settings = CredentialSettings::ManagedIdentity { client_id: Some(Uuid::nil()) };
            let credential = build(&settings, &Cloud::public(), fake.options()).expect("valid settings");
            assert_eq!(sign_in(&*credential).await.expect_err("no token").kind, kind, "{status}");
            let sent = fake.sent();
            assert_eq!(sent.len(), 1, "{status}");
            assert!(sent[0].url.starts_with("http://169.254.169.254/") && sent[0].header("metadata") == Some("true"));
        }
    }
}
