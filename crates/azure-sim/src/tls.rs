//! The simulator's certificate authority and the server's certificate. The CA is kept in the state folder, so that a
//! client which trusts it once goes on to; the leaf is made anew at each start.

use std::io::{self, Error};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a listener needs, and what clients need to trust it.
pub(crate) struct Tls {
    pub config: Arc<ServerConfig>,
    pub ca_pem: String,
}

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";

fn wrong(what: &str) -> impl Fn(rcgen::Error) -> Error + '_ {
    move |e| Error::other(format!("{what}: {e}"))
}

/// Makes or reloads the CA, and signs a certificate for all host names under the suffix.
pub(crate) fn prepare(suffix: &str, state_dir: Option<&Path>) -> io::Result<Tls> {
    let (ca_pem, ca_key) = match state_dir.map(reload).transpose()?.flatten() {
        Some(kept) => kept,
        None => {
            let key = KeyPair::generate().map_err(wrong("CA key"))?;
            let pem = ca_params().self_signed(&key).map_err(wrong("CA certificate"))?.pem();
            if let Some(dir) = state_dir {
                crate::env_file::write_private(&dir.join(CA_KEY_FILE), &key.serialize_pem())?;
                std::fs::write(dir.join(CA_FILE), &pem)?;
            }
            (pem, key)
        }
    };
    let leaf_key = KeyPair::generate().map_err(wrong("server key"))?;
    let ca = ca_params();
    let leaf = leaf_params(suffix)?
        .signed_by(&leaf_key, &Issuer::from_params(&ca, &ca_key))
        .map_err(wrong("server certificate"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .map_err(Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), ca_pem })
}

/// The kept CA, if both of its files are there and readable.
fn reload(dir: &Path) -> io::Result<Option<(String, KeyPair)>> {
    let (cert, key) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    if !cert.exists() || !key.exists() {
        return Ok(None);
    }
    let pair = KeyPair::from_pem(&std::fs::read_to_string(key)?).map_err(|e| {
        Error::other(format!("{CA_KEY_FILE} is not a key; remove it and {CA_FILE} to get new ones: {e}"))
    })?;
    Ok(Some((std::fs::read_to_string(cert)?, pair)))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "azure-sim local CA");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2044, 1, 1);
    params
}

#[expect(clippy::disallowed_methods, reason = "TLS clients judge a certificate by real time, not by the simulated one")]
fn leaf_params(suffix: &str) -> io::Result<CertificateParams> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(suffix.to_owned());
    names.push(format!("*.{suffix}"));
    // OpenSSL takes no wildcard directly under a top-level name such as `localhost`, so these are spelled out.
    for host in ["management", "login", "graph", "portal"] {
        names.push(format!("{host}.{suffix}"));
    }
    for zone in ["vault", "managedhsm", "blob", "queue", "table", "file", "dfs", "web"] {
        names.push(format!("*.{zone}.{suffix}"));
    }
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names).map_err(wrong("host names"))?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "azure-sim");
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // Some clients refuse leaves that live longer than 825 days.
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(2);
    params.not_after = now + time::Duration::days(800);
    Ok(params)
}
