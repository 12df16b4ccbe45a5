//! The one HTTP client under all of azure_core's clients.
//!
//! What belongs here: TLS trust, time-outs, name resolution, redirects and bounds. What does not: retries, which only
//! the engine does, authentication and tracing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{AsyncRawResponse, HttpClient, Request, Transport};
use futures::{StreamExt, stream};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::{Host, Url};

use super::{AzureSetupError, Timeouts};

/// The longest answer that is read: list pages and resources are far below it.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

const POOL_IDLE: Duration = Duration::from_secs(60);

/// Builds the transport that every client of this module sends through.
pub(super) fn build(extra_ca_pem: Option<&[u8]>, timeouts: Timeouts) -> Result<Transport, AzureSetupError> {
    let certificates = match extra_ca_pem {
        Some(pem) => reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|e| AzureSetupError::Setting(format!("the extra CA is not a PEM certificate: {e}")))?,
        None => Vec::new(),
    };
    let builder = || {
        reqwest::Client::builder()
            .use_rustls_tls()
            .tls_certs_merge(certificates.clone())
            .redirect(Policy::none())
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.call)
            .pool_idle_timeout(POOL_IDLE)
            .dns_resolver(Arc::new(LocalhostResolver))
    };
    let failed = |e: reqwest::Error| AzureSetupError::Setting(format!("the HTTP client cannot be made: {e}"));
    let remote = builder().build().map_err(failed)?;
    let local = builder().no_proxy().build().map_err(failed)?;
    Ok(Transport::new(Arc::new(BoundedClient { remote, local, max_answer: MAX_ANSWER_BYTES })))
}

/// Bounds every answer, and keeps calls to this machine and to its instance metadata service away from proxies.
#[derive(Debug)]
struct BoundedClient {
    remote: reqwest::Client,
    local: reqwest::Client,
    max_answer: usize,
}

#[async_trait]
impl HttpClient for BoundedClient {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let client = if is_local(request.url()) { &self.local } else { &self.remote };
        let (status, headers, body) = client.execute_request(request).await?.deconstruct();
        let max = self.max_answer;
        let bounded = stream::unfold((body, 0usize, false), move |(mut body, seen, ended)| async move {
            if ended {
                return None;
            }
            let chunk = body.next().await?;
            let seen = seen + chunk.as_ref().map_or(0, |bytes| bytes.len());
            if seen > max {
                let error = Error::with_message(ErrorKind::DataConversion, format!("the answer exceeds {max} bytes"));
                return Some((Err(error), (body, seen, true)));
            }
            Some((chunk, (body, seen, false)))
        });
        Ok(AsyncRawResponse::new(status, headers, Box::pin(bounded)))
    }
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => is_localhost(domain),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_localhost(domain: &str) -> bool {
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    domain == "localhost" || domain.ends_with(".localhost")
}

/// Answers names under `localhost` with loopback itself (RFC 6761, which not every libc follows) and asks the system for
/// the rest.
#[derive(Debug)]
struct LocalhostResolver;

impl Resolve for LocalhostResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if is_localhost(name.as_str()) {
                let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
                return Ok(Box::new(std::iter::once(loopback)) as Addrs);
            }
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_and_its_metadata_service_are_local() {
        for (address, local) in [
            ("https://kv1.vault.localhost:8443/", true),
            ("https://LOCALHOST./", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]/", true),
            ("http://169.254.169.254/metadata", true),
            ("https://notlocalhost/", false),
            ("https://localhost.example/", false),
            ("https://management.azure.com/", false),
        ] {
            assert_eq!(is_local(&Url::parse(address).expect("an address")), local, "{address}");
        }
    }

    #[tokio::test]
    async fn names_under_localhost_resolve_without_the_system() {
        let name: Name = "kv1.vault.localhost".parse().expect("a name");
        let addresses: Vec<_> = LocalhostResolver.resolve(name).await.expect("resolved").collect();
        assert_eq!(addresses, [SocketAddr::from(([127, 0, 0, 1], 0))]);
    }

    #[test]
    fn a_wrong_ca_is_a_setup_error() {
        let pem = b"-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n";
        assert!(build(Some(pem), Timeouts::default()).is_err());
        assert!(build(None, Timeouts::default()).is_ok());
    }
}
