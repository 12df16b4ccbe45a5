//! Which Azure: the endpoints of a cloud, and which addresses belong to it.
//!
//! What belongs here: host names and the checks that decide whether a token may be sent somewhere. What does not:
//! anything that opens a connection.

use url::{Host, Url};

use super::error::{AzureError, AzureErrorKind};

/// The endpoints of one cloud.
#[derive(Clone, PartialEq, Eq)]
pub struct Cloud {
    /// A name for logs.
    pub name: String,
    /// Base address of Azure Resource Manager.
    pub arm: Url,
    /// Base address of Microsoft Entra.
    pub authority_host: Url,
    /// The scope of tokens for Azure Resource Manager.
    pub arm_scope: String,
    /// Base address of Microsoft Graph; `None` where a custom cloud names none.
    pub graph: Option<Url>,
    /// Vaults are `{name}.{vault_suffix}`, which may end in a port.
    pub vault_suffix: String,
    /// Managed HSMs are `{name}.{hsm_suffix}`, which may end in a port.
    pub hsm_suffix: String,
    /// One more root certificate to trust, PEM: for a proxy that inspects traffic, or a simulator.
    pub extra_ca_pem: Option<Vec<u8>>,
}

/// The endpoints of a cloud that is not built in, as a user writes them.
#[derive(Clone, Debug, Default)]
pub struct CustomCloud {
    /// A name for logs.
    pub name: String,
    /// Base address of Azure Resource Manager: https, no path.
    pub arm: String,
    /// Base address of Microsoft Entra: https, no path.
    pub authority_host: String,
    /// The scope of tokens for Azure Resource Manager; `None` means `{arm}/.default`.
    pub arm_scope: Option<String>,
    /// Base address of Microsoft Graph: https, no path. Needed for keys that an Azure service reads with its own principal.
    pub graph: Option<String>,
    /// What follows a vault's name in its host name: `vault.example.net` or `vault.localhost:8443`.
    pub vault_suffix: String,
    /// What follows a managed HSM's name in its host name.
    pub hsm_suffix: String,
    /// One more root certificate to trust, PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
}

/// Why endpoints make no cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// An address is not `https://host[:port]`.
    #[error("{setting} must be https://host or https://host:port, without a path: {value}")]
    Address {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// A suffix is not `host[:port]`.
    #[error("{setting} must be a host name of at least two labels, optionally with a port: {value}")]
    Suffix {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: String,
    },
}

impl Cloud {
    /// Azure's public cloud.
    pub fn public() -> Self {
        Self::built_in(
            "public",
            "https://management.azure.com",
            "https://login.microsoftonline.com",
            "https://graph.microsoft.com",
            ("vault.azure.net", "managedhsm.azure.net"),
        )
    }

    /// Azure Government. The login host is the SDK's; the other addresses are UNVERIFIED.
    pub fn us_government() -> Self {
        Self::built_in(
            "us-government",
            "https://management.usgovcloudapi.net",
            "https://login.microsoftonline.us",
            "https://graph.microsoft.us",
            ("vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net"),
        )
    }

    /// Azure in China. The login host is the SDK's; the other addresses are UNVERIFIED.
    pub fn china() -> Self {
        Self::built_in(
            "china",
            "https://management.chinacloudapi.cn",
            "https://login.chinacloudapi.cn",
            "https://microsoftgraph.chinacloudapi.cn",
            ("vault.azure.cn", "managedhsm.azure.cn"),
        )
    }

    /// Any other cloud.
    pub fn custom(custom: CustomCloud) -> Result<Self, CloudError> {
        let arm = origin("arm", &custom.arm)?;
        let authority_host = origin("authorityHost", &custom.authority_host)?;
        let arm_scope = custom.arm_scope.unwrap_or_else(|| scope_of(&arm));
        Ok(Self {
            name: custom.name,
            arm,
            authority_host,
            graph: custom.graph.map(|graph| origin("graph", &graph)).transpose()?,
            arm_scope,
            vault_suffix: suffix("vaultSuffix", &custom.vault_suffix)?,
            hsm_suffix: suffix("hsmSuffix", &custom.hsm_suffix)?,
            extra_ca_pem: custom.extra_ca_pem,
        })
    }

    fn built_in(name: &str, arm: &str, authority: &str, graph: &str, suffixes: (&str, &str)) -> Self {
        let parse = |address: &str| Url::parse(address).expect("the built-in addresses are valid");
        let arm = parse(arm);
        Self {
            name: name.to_owned(),
            arm_scope: scope_of(&arm),
            arm,
            authority_host: parse(authority),
            graph: Some(parse(graph)),
            vault_suffix: suffixes.0.to_owned(),
            hsm_suffix: suffixes.1.to_owned(),
            extra_ca_pem: None,
        }
    }

    /// The base URI of the vault `name`, without a trailing slash.
    pub fn vault_uri(&self, name: &str) -> String {
        format!("https://{}.{}", name.to_ascii_lowercase(), self.vault_suffix)
    }

    /// The base URI of the Managed HSM `name`, without a trailing slash.
    pub fn hsm_uri(&self, name: &str) -> String {
        format!("https://{}.{}", name.to_ascii_lowercase(), self.hsm_suffix)
    }

    /// The scope of tokens for Managed HSMs: all of a cloud share an audience. Source: Managed HSM's challenge.
    pub fn hsm_scope(&self) -> String {
        format!("https://{}/.default", self.hsm_suffix)
    }

    /// Checks that a key store's URI, as ARM answered or a job stored it, belongs to this cloud, and answers it without a
    /// trailing slash. Otherwise `UntrustedUrl`: a token must not be sent there.
    pub fn check_store_uri(&self, uri: &str) -> Result<String, AzureError> {
        let refuse = || untrusted(format!("{} is not a key store of the cloud {}", bounded(uri), self.name));
        let url = plain_https(uri).ok_or_else(refuse)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(refuse());
        }
        let authority = authority(&url).ok_or_else(refuse)?;
        for suffix in [&self.vault_suffix, &self.hsm_suffix] {
            let Some(name) = authority.strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.')) else {
                continue;
            };
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Ok(format!("https://{authority}"));
            }
        }
        Err(refuse())
    }

    /// Checks that an address, as ARM answered or a job stored it, is on the configured ARM host. Otherwise
    /// `UntrustedUrl`: a token must not be sent there.
    pub fn check_arm_url(&self, address: &str) -> Result<Url, AzureError> {
        let refuse = || untrusted(format!("{} is not on the ARM host of the cloud {}", bounded(address), self.name));
        let url = plain_https(address).ok_or_else(refuse)?;
        let same = url.host() == self.arm.host() && url.port_or_known_default() == self.arm.port_or_known_default();
        if same { Ok(url) } else { Err(refuse()) }
    }
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud")
            .field("name", &self.name)
            .field("arm", &self.arm.as_str())
            .field("authority_host", &self.authority_host.as_str())
            .field("vault_suffix", &self.vault_suffix)
            .field("hsm_suffix", &self.hsm_suffix)
            .field("extra_ca", &self.extra_ca_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// Whether two spellings name the same region: `West Europe` and `westeurope` do.
pub fn same_region(a: &str, b: &str) -> bool {
    fn normal(region: &str) -> impl Iterator<Item = char> {
        region.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase)
    }
    normal(a).eq(normal(b))
}

fn scope_of(arm: &Url) -> String {
    format!("{}/.default", arm.as_str().trim_end_matches('/'))
}

fn origin(setting: &'static str, value: &str) -> Result<Url, CloudError> {
    plain_https(value)
        .filter(|url| url.path() == "/" && url.query().is_none())
        .ok_or_else(|| CloudError::Address { setting, value: value.to_owned() })
}

fn suffix(setting: &'static str, value: &str) -> Result<String, CloudError> {
    plain_https(&format!("https://{value}/"))
        .filter(|url| url.path() == "/" && url.query().is_none())
        .filter(|url| matches!(url.host(), Some(Host::Domain(domain)) if domain.trim_matches('.').contains('.')))
        .and_then(|url| authority(&url))
        .filter(|authority| !authority.starts_with('.'))
        .ok_or_else(|| CloudError::Suffix { setting, value: value.to_owned() })
}

/// An https address without user, password and fragment.
fn plain_https(address: &str) -> Option<Url> {
    let url = Url::parse(address).ok()?;
    let plain = url.scheme() == "https"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    plain.then_some(url)
}

fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

fn untrusted(message: String) -> AzureError {
    AzureError::new(AzureErrorKind::UntrustedUrl, message)
}

/// An address cut down for a message; its query may hold what must not be shown.
fn bounded(address: &str) -> String {
    address.split('?').next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated() -> Cloud {
        Cloud::custom(CustomCloud {
            name: "sim".into(),
            arm: "https://management.localhost:8443".into(),
            authority_host: "https://login.localhost:8443/".into(),
            vault_suffix: "Vault.localhost:8443".into(),
            hsm_suffix: "managedhsm.localhost:8443".into(),
            ..CustomCloud::default()
        })
        .expect("valid endpoints")
    }

    #[test]
    fn endpoints_of_a_custom_cloud_are_checked() {
        let cloud = simulated();
        assert_eq!(cloud.arm_scope, "https://management.localhost:8443/.default");
        assert_eq!(cloud.vault_suffix, "vault.localhost:8443");
        let with = |change: fn(&mut CustomCloud)| {
            let mut custom = CustomCloud {
                arm: "https://a.example".into(),
                authority_host: "https://l.example".into(),
                vault_suffix: "vault.example".into(),
                hsm_suffix: "hsm.example".into(),
                ..CustomCloud::default()
            };
            change(&mut custom);
            Cloud::custom(custom)
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|c| c.arm = "http://a.example".into()).is_err());
        assert!(with(|c| c.arm = "https://a.example/path".into()).is_err());
        assert!(with(|c| c.authority_host = "https://user@l.example".into()).is_err());
        assert!(with(|c| c.vault_suffix = "net".into()).is_err());
        assert!(with(|c| c.vault_suffix = ".example.net".into()).is_err());
        assert!(with(|c| c.hsm_suffix = "hsm.example/x".into()).is_err());
        assert!(with(|c| c.hsm_suffix = String::new()).is_err());
    }

    #[test]
    fn a_token_goes_only_to_stores_of_the_cloud() {
        let public = Cloud::public();
        assert_eq!(public.vault_uri("KV-1"), "https://kv-1.vault.azure.net");
        assert_eq!(
            public.check_store_uri("https://KV1.vault.azure.net:443/").expect("ours"),
            "https://kv1.vault.azure.net"
        );
        assert!(public.check_store_uri("https://h1.managedhsm.azure.net").is_ok());
        for foreign in [
            "http://kv1.vault.azure.net",
            "https://kv1.vault.azure.net.evil.example",
            "https://kv1.evil-vault.azure.net",
            "https://evilvault.azure.net",
            "https://vault.azure.net",
            "https://a.b.vault.azure.net",
            "https://kv1.vault.azure.net:8443",
            "https://kv1.vault.azure.net/keys",
            "https://kv1.vault.azure.net?x=1",
            "https://user:pw@kv1.vault.azure.net",
            "https://evil.example#.vault.azure.net",
            "kv1.vault.azure.net",
        ] {
            let error = public.check_store_uri(foreign).expect_err(foreign);
            assert_eq!(error.kind, AzureErrorKind::UntrustedUrl, "{foreign}");
        }
        let sim = simulated();
        assert!(sim.check_store_uri("https://kv1.vault.localhost:8443/").is_ok());
        assert!(sim.check_store_uri("https://kv1.vault.localhost/").is_err());
    }

    #[test]
    fn a_token_goes_only_to_the_arm_host() {
        let public = Cloud::public();
        assert!(public.check_arm_url("https://management.azure.com/subscriptions/x?api-version=1&t=2").is_ok());
        for foreign in [
            "https://management.azure.com.evil.example/",
            "https://management.azure.com:444/",
            "http://management.azure.com/",
            "https://user@management.azure.com/",
            "/subscriptions/x",
        ] {
            let error = public.check_arm_url(foreign).expect_err(foreign);
            assert_eq!(error.kind, AzureErrorKind::UntrustedUrl, "{foreign}");
        }
        let error = public.check_arm_url("https://evil.example/?sig=abc").expect_err("foreign");
        assert!(!error.message.contains("abc"), "{error}");
    }

    #[test]
    fn regions_compare_without_case_and_spaces() {
        assert!(same_region("West Europe", "westeurope"));
        assert!(!same_region("westeurope", "northeurope"));
    }
}
