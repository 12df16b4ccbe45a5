//! Signing and checking of access tokens (JWT, RS256). One signing key per process: making one takes a noticeable time,
//! and simulators of one test run need not distrust each other.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// The key that signs tokens.
pub(crate) struct Signer {
    pair: KeyPair,
    kid: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What a good token says about its bearer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Claims {
    pub aud: String,
    pub iss: String,
    pub exp: i64,
    pub oid: String,
    pub appid: String,
    pub tid: String,
}

/// Why a token is no good.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BadToken {
    Malformed,
    Signature,
    Expired,
}

impl Signer {
    /// The process's signing key, made on first use.
    pub fn shared() -> std::io::Result<Arc<Self>> {
        static SIGNER: OnceLock<Arc<Signer>> = OnceLock::new();
        if let Some(signer) = SIGNER.get() {
            return Ok(signer.clone());
        }
        let pair = KeyPair::generate(KeySize::Rsa2048)
            .map_err(|_| std::io::Error::other("could not generate the token signing key"))?;
        let signer = Self::of(pair)?;
        Ok(SIGNER.get_or_init(|| Arc::new(signer)).clone())
    }

    /// The signer of an earlier run.
    pub fn from_pkcs8(der: &[u8]) -> std::io::Result<Self> {
        Self::of(KeyPair::from_pkcs8(der).map_err(std::io::Error::other)?)
    }

    /// The private key in PKCS#8 DER, for the state file.
    pub fn pkcs8(&self) -> std::io::Result<Vec<u8>> {
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&self.pair)
            .map_err(|_| std::io::Error::other("could not encode the token signing key"))?;
        Ok(der.as_ref().to_vec())
    }

    fn of(pair: KeyPair) -> std::io::Result<Self> {
        let spki =
            pair.public_key().as_der().map_err(|_| std::io::Error::other("could not encode the token signing key"))?;
        let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki.as_ref());
        let kid = B64.encode(&print.as_ref()[..20]);
        Ok(Self { pair, kid })
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid, "x5t": self.kid });
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("the buffer has the size of the modulus");
        format!("{text}.{}", B64.encode(signature))
    }

    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Claims, BadToken> {
        let (text, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (_, payload) = text.split_once('.').ok_or(BadToken::Malformed)?;
        let signature = B64.decode(signature).map_err(|_| BadToken::Malformed)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref())
            .verify(text.as_bytes(), &signature)
            .map_err(|_| BadToken::Signature)?;
        let payload = B64.decode(payload).map_err(|_| BadToken::Malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| BadToken::Malformed)?;
        if claims.exp <= now.unix_timestamp() {
            return Err(BadToken::Expired);
        }
        Ok(claims)
    }

    pub fn jwks(&self, issuer: &str) -> Value {
        let public = self.pair.public_key();
        json!({ "keys": [{
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": B64.encode(public.modulus().big_endian_without_leading_zero()),
            "e": B64.encode(public.exponent().big_endian_without_leading_zero()),
            "issuer": issuer,
        }] })
    }
}
