//! How the service signs in to Azure.
//!
//! What belongs here: choosing among azure_identity's credentials and telling a refused sign-in from an outage. What
//! does not: reading the process's environment, except through the look-up that is passed in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::ClientOptions;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::AzureSetupError;
use super::classify::Origin;
use super::cloud::Cloud;
use super::error::{self, AzureError, AzureErrorKind};

/// How long the managed identity of a chain may take before the next member is tried: off Azure the metadata service's
/// address swallows connections. The transport's own time-out bounds the other members.
const METADATA_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

const MANAGED_IDENTITY: &str = "managed identity";

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

/// Builds the credential. `options` hold transport and tracing; every error of the result is an [`AzureError`] inside.
pub(super) fn build(
    settings: &CredentialSettings,
    cloud: &Cloud,
    mut options: ClientOptions,
) -> Result<Arc<dyn TokenCredential>, AzureSetupError> {
    let mut authority = CustomConfiguration::default();
    authority.authority_host = cloud.authority_host.as_str().trim_end_matches('/').to_owned();
    options.cloud = Some(Arc::new(authority.into()));
    options.per_try_policies.insert(0, Arc::new(OutagePolicy));
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
            Ok(Arc::new(Chain { members, chosen: AtomicUsize::new(NONE_CHOSEN) }) as _)
        }
    };
    let inner = inner.map_err(|e| AzureSetupError::Setting(format!("{}: {}", settings.name(), error::chain(&e))))?;
    Ok(Arc::new(Classified { inner }))
}

/// Turns every error of a credential into an [`AzureError`] inside azure_core's.
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
        self.inner.get_token(scopes, options).await.map_err(|error| wrap(sign_in_error(&error)))
    }
}

fn wrap(error: AzureError) -> azure_core::Error {
    azure_core::Error::with_error(ErrorKind::Credential, error, "signing in to Azure failed")
}

/// What a failed sign-in is: the outage that the policy saw, else a refusal with Entra's number (`AADSTS…`) as its code.
fn sign_in_error(error: &azure_core::Error) -> AzureError {
    if let Some(found) = error::find(error) {
        return found.clone();
    }
    let mut refusal = AzureError::new(AzureErrorKind::Authentication, error::chain(error));
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    for cause in causes.filter_map(|cause| cause.downcast_ref::<azure_core::Error>()) {
        if let ErrorKind::HttpResponse { status, error_code, raw_response } = cause.kind() {
            refusal.status = Some((*status).into());
            refusal.code = error_code.as_ref().map(|number| format!("AADSTS{number}"));
            refusal.request_id = raw_response.as_ref().and_then(|raw| error::request_id(raw.headers()));
        }
    }
    refusal
}

/// Sees outages of the token endpoints before azure_identity does: it would lose the status of an answer that is not
/// JSON, and its IMDS client would repeat the request for 72 seconds inside one call.
#[derive(Debug)]
struct OutagePolicy;

#[async_trait]
impl Policy for OutagePolicy {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let from_metadata_service = request.url().scheme() == "http";
        let (first, rest) = next.split_first().expect("the transport is always the last policy");
        let outage = match first.send(context, request, rest).await {
            Ok(response) => {
                let status = u16::from(response.status());
                // IMDS answers 404 and 410 while it is updated or an identity has just been assigned.
                let passing =
                    matches!(status, 408 | 429 | 500..=599) || (from_metadata_service && matches!(status, 404 | 410));
                if !passing {
                    return Ok(response);
                }
                let kind = if status == 429 { AzureErrorKind::Throttled } else { AzureErrorKind::Transient };
                AzureError {
                    status: Some(status),
                    ..AzureError::new(kind, format!("signing in: HTTP status {status}"))
                }
                .with_request_id(error::request_id(response.headers()))
                .with_retry_after(error::retry_after(response.headers()))
            }
            // Whatever became of the token request, the call it was for has not been sent.
            Err(error) => {
                let mut outage = AzureError::from_sdk(Origin::Arm, &error);
                if outage.kind == AzureErrorKind::UnknownOutcome {
                    outage.kind = AzureErrorKind::NotSent;
                }
                outage
            }
        };
        // Not `Io` and not `HttpResponse`: those would be repeated by the IMDS client.
        Err(azure_core::Error::with_error(ErrorKind::Other, outage, "the token endpoint is not available"))
    }
}

const NONE_CHOSEN: usize = usize::MAX;

/// Tries each member until one works, and keeps to that one.
#[derive(Debug)]
struct Chain {
    members: Vec<(&'static str, Arc<dyn TokenCredential>)>,
    chosen: AtomicUsize,
}

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if let Some((_, member)) = self.members.get(self.chosen.load(Ordering::Relaxed)) {
            return member.get_token(scopes, options).await;
        }
        let mut failures = Vec::new();
        for (at, (name, member)) in self.members.iter().enumerate() {
            let attempt = member.get_token(scopes, options.clone());
            let tried = if *name == MANAGED_IDENTITY {
                let silent = |_| wrap(AzureError::new(AzureErrorKind::NotSent, "no answer in time"));
                tokio::time::timeout(METADATA_PROBE_TIMEOUT, attempt).await.map_err(silent).flatten()
            } else {
                attempt.await
            };
            match tried {
                Ok(token) => {
                    tracing::info!(credential = name, "signed in to Azure");
                    self.chosen.store(at, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(error) => failures.push((*name, sign_in_error(&error))),
            }
        }
        Err(wrap(combine(failures)))
    }
}

/// One error for a chain in which nothing worked: the first member's, unless that is the managed identity of a machine
/// that has none.
fn combine(failures: Vec<(&'static str, AzureError)>) -> AzureError {
    let message: Vec<String> = failures.iter().map(|(name, error)| format!("{name}: {}", error.message)).collect();
    let message = super::body::clean(&format!("no credential works: {}", message.join("; ")));
    let off_azure =
        |(name, error): &(&str, AzureError)| *name == MANAGED_IDENTITY && error.kind == AzureErrorKind::NotSent;
    let decisive = failures.iter().find(|failure| !off_azure(failure)).or(failures.first());
    match decisive {
        Some((_, error)) => AzureError { message, ..error.clone() },
        None => AzureError::new(AzureErrorKind::Authentication, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fake {
        calls: Arc<AtomicUsize>,
        answer: Result<&'static str, AzureErrorKind>,
    }

    #[async_trait]
    impl TokenCredential for Fake {
        async fn get_token(
            &self,
            _scopes: &[&str],
            _options: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            match self.answer {
                Ok(token) => Ok(AccessToken::new(token.to_owned(), azure_core::time::OffsetDateTime::UNIX_EPOCH)),
                Err(kind) => Err(wrap(AzureError::new(kind, "no"))),
            }
        }
    }

    type Answer = Result<&'static str, AzureErrorKind>;

    fn chain(answers: &[(&'static str, Answer)]) -> (Chain, Vec<Arc<AtomicUsize>>) {
        let calls: Vec<_> = answers.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let members = answers
            .iter()
            .zip(&calls)
            .map(|((name, answer), calls)| (*name, Arc::new(Fake { calls: calls.clone(), answer: *answer }) as _))
            .collect();
        (Chain { members, chosen: AtomicUsize::new(NONE_CHOSEN) }, calls)
    }

    #[tokio::test]
    async fn a_chain_keeps_to_the_first_member_that_works() {
        let (chain, calls) = chain(&[
            ("workload identity", Err(AzureErrorKind::Authentication)),
            ("client secret", Ok("t")),
            ("Azure CLI", Ok("u")),
        ]);
        for _ in 0..3 {
            assert_eq!(chain.get_token(&["s"], None).await.expect("a token").token.secret(), "t");
        }
        assert_eq!(calls.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<_>>(), [1, 3, 0]);
    }

    #[tokio::test]
    async fn a_chain_without_success_fails_as_the_member_that_was_meant() {
        use AzureErrorKind::{Authentication, NotSent, Transient};
        for (answers, kind) in [
            (vec![(MANAGED_IDENTITY, Err(NotSent)), ("Azure CLI", Err(Authentication))], Authentication),
            (vec![(MANAGED_IDENTITY, Err(Transient)), ("Azure CLI", Err(Authentication))], Transient),
            (
                vec![
                    ("client secret", Err(NotSent)),
                    (MANAGED_IDENTITY, Err(NotSent)),
                    ("Azure CLI", Err(Authentication)),
                ],
                NotSent,
            ),
            (vec![(MANAGED_IDENTITY, Err(NotSent))], NotSent),
        ] {
            let (chain, _) = chain(&answers);
            let error = chain.get_token(&["s"], None).await.expect_err("nothing works");
            assert_eq!(sign_in_error(&error).kind, kind, "{answers:?}");
        }
    }

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
}
