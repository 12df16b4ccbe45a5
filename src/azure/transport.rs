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
    if extra_ca_pem.is_some() && certificates.is_empty() {
        return Err(AzureSetupError::Setting("the extra CA's file holds no certificate".to_owned()));
    }
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
    use azure_core::http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_not_taken_for_one() {
        let built = build(Some(b"\n"), Timeouts::default());
        assert!(matches!(built, Err(AzureSetupError::Setting(text)) if text.contains("no certificate")));
    }

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

    /// Answers one connection with `answer` and closes it.
    async fn serve_once(answer: &'static [u8]) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = [0u8; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer).await;
        });
        Url::parse(&format!("http://127.0.0.1:{port}/")).expect("an address")
    }

    fn client(max_answer: usize) -> BoundedClient {
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client");
        BoundedClient { remote: client.clone(), local: client, max_answer }
    }

    async fn get(url: Url, max_answer: usize) -> azure_core::Result<(u16, usize)> {
        let response = client(max_answer).execute_request(&Request::new(url, Method::Get)).await?;
        let raw = response.try_into_raw_response().await?;
        Ok((raw.status().into(), raw.body().len()))
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_bound() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
        assert_eq!(get(serve_once(answer).await, 10).await.expect("within the bound"), (200, 10));
        let error = get(serve_once(answer).await, 9).await.expect_err("beyond the bound");
        assert_eq!(error.kind(), &ErrorKind::DataConversion);
    }

    #[tokio::test]
    async fn a_cut_answer_is_told_from_no_connection() {
        let error = get(serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123").await, 99).await;
        assert_eq!(error.expect_err("cut").kind(), &ErrorKind::Io);
        assert_eq!(get(serve_once(b"").await, 99).await.expect_err("cut").kind(), &ErrorKind::Io);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let nobody = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("an address");
        assert_eq!(get(nobody, 99).await.expect_err("refused").kind(), &ErrorKind::Connection);
        let unknown = Url::parse("http://kv1.vault.invalid/").expect("an address");
        assert_eq!(get(unknown, 99).await.expect_err("no such name").kind(), &ErrorKind::Connection);
    }

    #[tokio::test]
    async fn redirects_are_not_followed() {
        let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(get(serve_once(answer).await, 99).await.expect("answered").0, 302);
    }
}
