//! How the service signs in to Azure.
//!
//! What belongs here: choosing among azure_identity's credentials and telling a refused sign-in from an outage. What
//! does not: reading the process's environment.

use secrecy::SecretString;
use uuid::Uuid;

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
        token_file: std::path::PathBuf,
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
