//! Settings: from flags and the environment, checked together, secrets kept out of sight.
//!
//! What belongs here: what can be set, defaults, and every fault of it in one report. What does not: using a setting.
//! Secrets come from the environment or from files, never from a flag, where other users of the machine could read them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use uuid::Uuid;

use crate::api::ApiSettings;
use crate::azure::cloud::CustomCloud;
use crate::azure::{AzureSettings, Cloud, CredentialSettings, Timeouts};
use crate::engine::WorkerSettings;

/// Flags of every command that uses the database.
#[derive(Clone, Debug, clap::Args)]
pub struct DatabaseArgs {
    /// Connections to the database at most.
    #[arg(long, env = "CMK_DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub database_connections: u32,
}

/// Flags of the API.
#[derive(Clone, Debug, clap::Args)]
pub struct ApiArgs {
    /// Where the API listens.
    #[arg(long, env = "CMK_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Listen on an address that others can reach, although callers are not authenticated yet.
    #[arg(long, env = "CMK_INSECURE_NO_AUTH")]
    pub insecure_no_auth: bool,
    /// Let plans look at Azure: what is in place, what would be changed, and everything that would stop the job. The API
    /// signs in as a worker does; reading is all it needs.
    #[arg(long, env = "CMK_LOOK_AT_AZURE")]
    pub look_at_azure: bool,
    /// Event streams that may be open at the same time; more are answered 429. Each takes a file descriptor and about 17 KiB.
    #[arg(long, env = "CMK_MAX_STREAMS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_streams: u32,
}

/// Flags of a worker.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// The worker's name, unique among the workers of a database. Default: host name, process id and a random part.
    #[arg(long, env = "CMK_WORKER_NAME")]
    pub worker_name: Option<String>,
    /// Jobs that are worked on at the same time.
    #[arg(long, env = "CMK_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,
    /// Seconds that a claim on a job lasts without a sign of life: a dead worker's jobs are taken over after this time.
    /// With more than 12, that takes longer than the promised 15 seconds.
    #[arg(long, env = "CMK_LEASE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=120))]
    pub lease_seconds: u64,
}

/// Flags that say which Azure, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct AzureArgs {
    /// Which Azure.
    #[arg(long, env = "CMK_CLOUD", value_enum, default_value_t = CloudName::Public)]
    pub cloud: CloudName,
    /// Address of Azure Resource Manager in a custom cloud: https, host and port.
    #[arg(long, env = "CMK_ARM_ENDPOINT")]
    pub arm_endpoint: Option<String>,
    /// Address of Microsoft Entra in a custom cloud: https, host and port.
    #[arg(long, env = "CMK_LOGIN_ENDPOINT")]
    pub login_endpoint: Option<String>,
    /// What follows a vault's name in a custom cloud, for instance vault.localhost:8443.
    #[arg(long, env = "CMK_VAULT_SUFFIX")]
    pub vault_suffix: Option<String>,
    /// What follows a Managed HSM's name in a custom cloud, for instance managedhsm.localhost:8443.
    #[arg(long, env = "CMK_HSM_SUFFIX")]
    pub hsm_suffix: Option<String>,
    /// Address of Microsoft Graph in a custom cloud: https, host and port. Needed for an Azure service's own principal.
    #[arg(long, env = "CMK_GRAPH_ENDPOINT")]
    pub graph_endpoint: Option<String>,
    /// A PEM file with one more root certificate to trust: a custom cloud's, or an inspecting proxy's.
    #[arg(long, env = "CMK_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// How to sign in. `auto` tries workload identity, client secret, managed identity and the Azure CLI, in this order.
    #[arg(long, env = "CMK_CREDENTIAL", value_enum, default_value_t = CredentialName::Auto)]
    pub credential: CredentialName,
    /// Seconds that one call to Azure may take.
    #[arg(long, env = "CMK_AZURE_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=120))]
    pub azure_timeout: u64,
}

/// The clouds that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CloudName {
    /// Azure's public cloud.
    Public,
    /// Azure Government.
    UsGovernment,
    /// Azure in China.
    China,
    /// The endpoints given by the other settings: a simulator, or a cloud that is not built in.
    Custom,
}

/// The ways to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CredentialName {
    /// Whatever the environment offers.
    Auto,
    /// The managed identity of the machine; `AZURE_CLIENT_ID` names a user-assigned one.
    ManagedIdentity,
    /// Kubernetes workload identity: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`.
    WorkloadIdentity,
    /// `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET` or `AZURE_CLIENT_SECRET_FILE`.
    ClientSecret,
    /// Whoever signed in with `az login`.
    AzureCli,
}

/// Every fault of the settings, one a line.
#[derive(Debug, thiserror::Error)]
#[error("some settings are missing or wrong:{}", .0.iter().map(|fault| format!("\n  - {fault}")).collect::<String>())]
pub struct ConfigError(pub Vec<String>);

/// Reads the environment; tests pass their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The process's environment; empty counts as unset.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The database's address, from `DATABASE_URL` or the file that `DATABASE_URL_FILE` names.
pub fn database_url(environment: Environment<'_>) -> Result<SecretString, ConfigError> {
    match secret(environment, "DATABASE_URL") {
        Ok(Some(url)) => Ok(url),
        Ok(None) => Err(ConfigError(vec!["DATABASE_URL or DATABASE_URL_FILE must be set".into()])),
        Err(fault) => Err(ConfigError(vec![fault])),
    }
}

impl ApiArgs {
    /// Refuses an address that others can reach: callers are not authenticated yet.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || self.insecure_no_auth {
            return Ok(());
        }
        Err(ConfigError(vec![format!(
            "callers are not authenticated, so the API listens on loopback only, not on {}; --insecure-no-auth overrides this",
            self.listen
        )]))
    }

    /// The API's bounds.
    pub fn settings(&self) -> ApiSettings {
        let max_streams = usize::try_from(self.max_streams).unwrap_or(usize::MAX);
        ApiSettings { max_streams, ..ApiSettings::default() }
    }
}

impl WorkerArgs {
    /// The worker's settings.
    pub fn settings(&self) -> WorkerSettings {
        let name = self.worker_name.clone().unwrap_or_else(|| {
            let host = environment("HOSTNAME").unwrap_or_else(|| "worker".into());
            format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>())
        });
        let settings = WorkerSettings { concurrency: self.concurrency, ..WorkerSettings::named(name) };
        settings.with_lease(Duration::from_secs(self.lease_seconds))
    }
}

impl AzureArgs {
    /// The clouds' endpoints and the credential, or every fault at once.
    pub fn settings(&self, environment: Environment<'_>) -> Result<AzureSettings, ConfigError> {
        let mut faults = Vec::new();
        let cloud = self.cloud(&mut faults);
        let credential = self.credential(environment, &mut faults);
        let timeouts = Timeouts { call: Duration::from_secs(self.azure_timeout), ..Timeouts::default() };
        match (cloud, credential) {
            (Some(cloud), Some(credential)) if faults.is_empty() => Ok(AzureSettings { cloud, credential, timeouts }),
            _ => Err(ConfigError(faults)),
        }
    }

    fn cloud(&self, faults: &mut Vec<String>) -> Option<Cloud> {
        let extra_ca_pem = self.ca_file.as_deref().and_then(|path| match std::fs::read(path) {
            Ok(pem) => Some(pem),
            Err(error) => {
                faults.push(format!("CMK_CA_FILE: {} cannot be read: {error}", path.display()));
                None
            }
        });
        let built_in = match self.cloud {
            CloudName::Public => Cloud::public(),
            CloudName::UsGovernment => Cloud::us_government(),
            CloudName::China => Cloud::china(),
            CloudName::Custom => return self.custom_cloud(extra_ca_pem, faults),
        };
        Some(Cloud { extra_ca_pem, ..built_in })
    }

    fn custom_cloud(&self, extra_ca_pem: Option<Vec<u8>>, faults: &mut Vec<String>) -> Option<Cloud> {
        let mut need = |name: &str, value: &Option<String>| {
            if value.is_none() {
                faults.push(format!("{name} must be set for a custom cloud"));
            }
            value.clone()
        };
        let arm = need("CMK_ARM_ENDPOINT", &self.arm_endpoint);
        let login = need("CMK_LOGIN_ENDPOINT", &self.login_endpoint);
        let vault = need("CMK_VAULT_SUFFIX", &self.vault_suffix);
        let hsm = need("CMK_HSM_SUFFIX", &self.hsm_suffix);
        let custom = CustomCloud {
            name: "custom".into(),
            arm: arm?,
            authority_host: login?,
            arm_scope: None,
            vault_suffix: vault?,
            hsm_suffix: hsm?,
            graph: self.graph_endpoint.clone(),
            extra_ca_pem,
        };
        Cloud::custom(custom).map_err(|error| faults.push(error.to_string())).ok()
    }

    fn credential(&self, environment: Environment<'_>, faults: &mut Vec<String>) -> Option<CredentialSettings> {
        let mut need = |name: &str| {
            let value = environment(name);
            if value.is_none() {
                faults.push(format!("{name} must be set for this way to sign in"));
            }
            value
        };
        match self.credential {
            CredentialName::Auto => match secret(environment, "AZURE_CLIENT_SECRET") {
                Ok(_) => Some(CredentialSettings::from_environment(|name| from_file_too(environment, name))),
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            },
            CredentialName::AzureCli => Some(CredentialSettings::AzureCli),
            CredentialName::ManagedIdentity => {
                let client_id = environment("AZURE_CLIENT_ID").map(|id| id.parse::<Uuid>()).transpose();
                let client_id = client_id.map_err(|_| faults.push("AZURE_CLIENT_ID must be a GUID".into())).ok()?;
                Some(CredentialSettings::ManagedIdentity { client_id })
            }
            CredentialName::WorkloadIdentity => {
                let (tenant, client) = (need("AZURE_TENANT_ID"), need("AZURE_CLIENT_ID"));
                let token_file = need("AZURE_FEDERATED_TOKEN_FILE")?.into();
                Some(CredentialSettings::WorkloadIdentity { tenant_id: tenant?, client_id: client?, token_file })
            }
            CredentialName::ClientSecret => {
                let (tenant, client) = (need("AZURE_TENANT_ID"), need("AZURE_CLIENT_ID"));
                let secret = match secret(environment, "AZURE_CLIENT_SECRET") {
                    Ok(Some(secret)) => secret,
                    Ok(None) => {
                        faults.push("AZURE_CLIENT_SECRET or AZURE_CLIENT_SECRET_FILE must be set".into());
                        return None;
                    }
                    Err(fault) => {
                        faults.push(fault);
                        return None;
                    }
                };
                Some(CredentialSettings::ClientSecret { tenant_id: tenant?, client_id: client?, secret })
            }
        }
    }
}

/// A secret from `NAME`, or from the file that `NAME_FILE` names.
fn secret(environment: Environment<'_>, name: &str) -> Result<Option<SecretString>, String> {
    if let Some(value) = environment(name) {
        return Ok(Some(value.into()));
    }
    let file = format!("{name}_FILE");
    let Some(path) = environment(&file) else { return Ok(None) };
    read_secret(Path::new(&path)).map(Some).map_err(|error| format!("{file}: {path} cannot be read: {error}"))
}

fn read_secret(path: &Path) -> std::io::Result<SecretString> {
    Ok(std::fs::read_to_string(path)?.trim_end_matches(['\n', '\r']).into())
}

fn from_file_too(environment: Environment<'_>, name: &str) -> Option<String> {
    if let Some(value) = environment(name) {
        return Some(value);
    }
    let path = environment(&format!("{name}_FILE"))?;
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        azure: AzureArgs,
        #[command(flatten)]
        api: ApiArgs,
    }

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from(std::iter::once("cmk").chain(args.iter().copied())).expect("these flags are known")
    }

    #[test]
    fn every_fault_is_reported_at_once_and_no_secret_shows() {
        let cli = parse(&["--cloud", "custom", "--credential", "client-secret"]);
        let error = cli.azure.settings(&|_| None).expect_err("nothing is set");
        for name in [
            "CMK_ARM_ENDPOINT",
            "CMK_LOGIN_ENDPOINT",
            "CMK_VAULT_SUFFIX",
            "CMK_HSM_SUFFIX",
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
        ] {
            assert!(error.to_string().contains(name), "{name} in {error}");
        }
        let cli = parse(&["--credential", "client-secret"]);
        let settings = cli.azure.settings(&|name| Some(format!("value-of-{name}"))).expect("everything is set");
        assert!(!format!("{settings:?}").contains("value-of-AZURE_CLIENT_SECRET"));
    }

    #[test]
    fn only_loopback_is_served_without_authentication() {
        for (args, fine) in [
            (&["--listen", "127.0.0.1:0"][..], true),
            (&["--listen", "[::1]:0"], true),
            (&["--listen", "0.0.0.0:0"], false),
            (&["--listen", "10.0.0.1:80"], false),
            (&["--listen", "0.0.0.0:0", "--insecure-no-auth"], true),
        ] {
            assert_eq!(parse(args).api.check().is_ok(), fine, "{args:?}");
        }
    }
}
