//! Key material and what it can do: real RSA and elliptic-curve cryptography by aws-lc-rs. Nothing here knows of vaults
//! or permissions.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, KeyPair, ParsedPublicKey, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A key pair.
pub(crate) enum Material {
    Rsa {
        bits: u32,
        oaep: OaepPrivateDecryptingKey,
        oaep_public: OaepPublicEncryptingKey,
        pkcs1: Pkcs1PrivateDecryptingKey,
        pkcs1_public: Pkcs1PublicEncryptingKey,
        /// Boxed, as it is much larger than the rest.
        signing: Box<RsaKeyPair>,
        hsm: bool,
    },
    Ec {
        curve: Curve,
        pair: Box<EcdsaKeyPair>,
        hsm: bool,
    },
    /// A symmetric key, which only managed HSMs hold.
    Oct {
        key: Vec<u8>,
    },
}

/// The curves of Key Vault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Curve {
    #[serde(rename = "P-256")]
    P256,
    #[serde(rename = "P-384")]
    P384,
    #[serde(rename = "P-521")]
    P521,
    #[serde(rename = "P-256K")]
    P256K,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Material({}, {})", self.kty(), self.size())
    }
}

/// A cryptographic operation did not work out: wrong size, wrong ciphertext, wrong algorithm for the key.
#[derive(Debug, PartialEq)]
pub(crate) struct CryptoFailed;

fn failed<E>(_: E) -> CryptoFailed {
    CryptoFailed
}

impl Curve {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            "P-256K" => Some(Self::P256K),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::P256K => "P-256K",
        }
    }

    fn signing(self) -> &'static sig::EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &sig::ECDSA_P521_SHA512_FIXED_SIGNING,
            Self::P256K => &sig::ECDSA_P256K1_SHA256_FIXED_SIGNING,
        }
    }

    fn verifying(self) -> &'static dyn sig::VerificationAlgorithm {
        match self {
            Self::P256 => &sig::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &sig::ECDSA_P384_SHA384_FIXED,
            Self::P521 => &sig::ECDSA_P521_SHA512_FIXED,
            Self::P256K => &sig::ECDSA_P256K1_SHA256_FIXED,
        }
    }

    fn algorithm(self) -> (&'static str, &'static digest::Algorithm) {
        match self {
            Self::P256 => ("ES256", &digest::SHA256),
            Self::P384 => ("ES384", &digest::SHA384),
            Self::P521 => ("ES512", &digest::SHA512),
            Self::P256K => ("ES256K", &digest::SHA256),
        }
    }
}

impl Material {
    /// Generates an RSA key pair; takes up to seconds for 4096 bits, so never on an async thread.
    pub fn rsa(bits: u32, hsm: bool) -> Result<Self, CryptoFailed> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(CryptoFailed),
        };
        let private = PrivateDecryptingKey::generate(size).map_err(failed)?;
        Self::from_private(private, hsm)
    }

    /// An RSA key pair from its PKCS#8 form.
    pub fn rsa_from_pkcs8(der: &[u8], hsm: bool) -> Result<Self, CryptoFailed> {
        Self::from_private(PrivateDecryptingKey::from_pkcs8(der).map_err(failed)?, hsm)
    }

    fn from_private(private: PrivateDecryptingKey, hsm: bool) -> Result<Self, CryptoFailed> {
        let public = private.public_key();
        let bits = u32::try_from(private.key_size_bits()).map_err(failed)?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&private).map_err(failed)?;
        Ok(Self::Rsa {
            bits,
            signing: Box::new(RsaKeyPair::from_pkcs8(pkcs8.as_ref()).map_err(failed)?),
            oaep: OaepPrivateDecryptingKey::new(private.clone()).map_err(failed)?,
            oaep_public: OaepPublicEncryptingKey::new(public.clone()).map_err(failed)?,
            pkcs1: Pkcs1PrivateDecryptingKey::new(private).map_err(failed)?,
            pkcs1_public: Pkcs1PublicEncryptingKey::new(public).map_err(failed)?,
            hsm,
        })
    }

    pub fn ec(curve: Curve, hsm: bool) -> Result<Self, CryptoFailed> {
        Ok(Self::Ec { curve, pair: Box::new(EcdsaKeyPair::generate(curve.signing()).map_err(failed)?), hsm })
    }

    /// An elliptic-curve key pair from its PKCS#8 form.
    pub fn ec_from_pkcs8(curve: Curve, der: &[u8], hsm: bool) -> Result<Self, CryptoFailed> {
        Ok(Self::Ec { curve, pair: Box::new(EcdsaKeyPair::from_pkcs8(curve.signing(), der).map_err(failed)?), hsm })
    }

    /// The same from the private scalar and the uncompressed public point, which have to belong together.
    pub fn ec_from_parts(curve: Curve, d: &[u8], point: &[u8], hsm: bool) -> Result<Self, CryptoFailed> {
        let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), d, point).map_err(failed)?;
        Ok(Self::Ec { curve, pair: Box::new(pair), hsm })
    }

    /// The private key in PKCS#8 DER; the bare bytes of an AES key.
    pub fn pkcs8(&self) -> Result<Vec<u8>, CryptoFailed> {
        match self {
            Self::Rsa { signing, .. } => {
                let der = AsDer::<Pkcs8V1Der<'_>>::as_der(signing.as_ref()).map_err(failed)?;
                Ok(der.as_ref().to_vec())
            }
            Self::Ec { pair, .. } => Ok(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()),
            Self::Oct { key } => Ok(key.clone()),
        }
    }

    /// Generates an AES key of 128, 192 or 256 bits.
    pub fn oct(bits: u32) -> Result<Self, CryptoFailed> {
        let mut key = vec![0; usize::try_from(bits / 8).unwrap_or_default()];
        aws_lc_rs::rand::fill(&mut key).map_err(failed)?;
        Ok(Self::Oct { key })
    }

    pub fn kty(&self) -> &'static str {
        match self {
            Self::Rsa { hsm: false, .. } => "RSA",
            Self::Rsa { hsm: true, .. } => "RSA-HSM",
            Self::Ec { hsm: false, .. } => "EC",
            Self::Ec { hsm: true, .. } => "EC-HSM",
            Self::Oct { .. } => "oct-HSM",
        }
    }

    pub fn is_rsa(&self) -> bool {
        matches!(self, Self::Rsa { .. })
    }

    /// Bits for RSA and AES, the curve's name for EC.
    pub fn size(&self) -> String {
        match self {
            Self::Rsa { bits, .. } => bits.to_string(),
            Self::Ec { curve, .. } => curve.name().to_owned(),
            Self::Oct { key } => (key.len() * 8).to_string(),
        }
    }

    /// Adds the public members of the JSON web key.
    pub fn public_members(&self, key: &mut Map<String, Value>) {
        match self {
            Self::Rsa { signing, .. } => {
                let public = signing.public_key();
                let mut put = |name: &str, bytes: &[u8]| key.insert(name.into(), B64.encode(bytes).into());
                put("n", public.modulus().big_endian_without_leading_zero());
                put("e", public.exponent().big_endian_without_leading_zero());
            }
            Self::Ec { curve, pair, .. } => {
                // An uncompressed point: 0x04, x, y.
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                key.insert("crv".into(), curve.name().into());
                key.insert("x".into(), B64.encode(x).into());
                key.insert("y".into(), B64.encode(y).into());
            }
            // A symmetric key shows nothing of itself.
            Self::Oct { .. } => {}
        }
    }

    /// Encrypts or wraps: for RSA the same thing. What symmetric keys do is `aes`.
    pub fn encrypt(&self, algorithm: &str, plain: &[u8]) -> Result<Vec<u8>, CryptoFailed> {
        let Self::Rsa { oaep_public, pkcs1_public, .. } = self else {
            return Err(CryptoFailed);
        };
        if algorithm == "RSA1_5" {
            let mut out = vec![0; pkcs1_public.ciphertext_size()];
            return Ok(pkcs1_public.encrypt(plain, &mut out).map_err(failed)?.to_vec());
        }
        let mut out = vec![0; oaep_public.ciphertext_size()];
        oaep_public.encrypt(oaep(algorithm)?, plain, &mut out, None).map(|c| c.to_vec()).map_err(failed)
    }

    /// Decrypts or unwraps.
    pub fn decrypt(&self, algorithm: &str, cipher: &[u8]) -> Result<Vec<u8>, CryptoFailed> {
        let Self::Rsa { oaep: private, pkcs1, .. } = self else {
            return Err(CryptoFailed);
        };
        if algorithm == "RSA1_5" {
            let mut out = vec![0; pkcs1.min_output_size()];
            return Ok(pkcs1.decrypt(cipher, &mut out).map_err(failed)?.to_vec());
        }
        let mut out = vec![0; private.min_output_size()];
        private.decrypt(oaep(algorithm)?, cipher, &mut out, None).map(|p| p.to_vec()).map_err(failed)
    }

    /// Signs a digest that the caller made.
    pub fn sign(&self, algorithm: &str, hash: &[u8]) -> Result<Vec<u8>, CryptoFailed> {
        match self {
            Self::Rsa { signing, .. } => {
                let (encoding, _, algorithm) = rsa_signature(algorithm)?;
                let hash = Digest::import_less_safe(hash, algorithm).map_err(failed)?;
                let mut out = vec![0; signing.public_modulus_len()];
                signing.sign_digest(encoding, &hash, &mut out).map_err(failed)?;
                Ok(out)
            }
            Self::Ec { curve, pair, .. } => {
                let hash = curve_digest(*curve, algorithm, hash)?;
                Ok(pair.sign_digest(&hash).map_err(failed)?.as_ref().to_vec())
            }
            Self::Oct { .. } => Err(CryptoFailed),
        }
    }

    /// Whether the signature is this key's over the digest. A digest of the wrong size is an error, not a "no".
    pub fn verify(&self, algorithm: &str, hash: &[u8], signature: &[u8]) -> Result<bool, CryptoFailed> {
        let (public, hash) = match self {
            Self::Rsa { signing, .. } => {
                let (_, verifying, algorithm) = rsa_signature(algorithm)?;
                let hash = Digest::import_less_safe(hash, algorithm).map_err(failed)?;
                let public = signing.public_key();
                (ParsedPublicKey::new(verifying, public.as_ref()).map_err(failed)?, hash)
            }
            Self::Ec { curve, pair, .. } => {
                let hash = curve_digest(*curve, algorithm, hash)?;
                let public = pair.public_key();
                (ParsedPublicKey::new(curve.verifying(), public.as_ref()).map_err(failed)?, hash)
            }
            Self::Oct { .. } => return Err(CryptoFailed),
        };
        Ok(public.verify_digest_sig(&hash, signature).is_ok())
    }
}

fn oaep(algorithm: &str) -> Result<&'static OaepAlgorithm, CryptoFailed> {
    match algorithm {
        "RSA-OAEP" => Ok(&OAEP_SHA1_MGF1SHA1),
        "RSA-OAEP-256" => Ok(&OAEP_SHA256_MGF1SHA256),
        _ => Err(CryptoFailed),
    }
}

fn curve_digest(curve: Curve, algorithm: &str, hash: &[u8]) -> Result<Digest, CryptoFailed> {
    let (name, digest) = curve.algorithm();
    if name != algorithm {
        return Err(CryptoFailed);
    }
    Digest::import_less_safe(hash, digest).map_err(failed)
}

type RsaSignature = (&'static dyn RsaEncoding, &'static dyn sig::VerificationAlgorithm, &'static digest::Algorithm);

fn rsa_signature(algorithm: &str) -> Result<RsaSignature, CryptoFailed> {
    Ok(match algorithm {
        "RS256" => (&sig::RSA_PKCS1_SHA256, &sig::RSA_PKCS1_2048_8192_SHA256, &digest::SHA256),
        "RS384" => (&sig::RSA_PKCS1_SHA384, &sig::RSA_PKCS1_2048_8192_SHA384, &digest::SHA384),
        "RS512" => (&sig::RSA_PKCS1_SHA512, &sig::RSA_PKCS1_2048_8192_SHA512, &digest::SHA512),
        "PS256" => (&sig::RSA_PSS_SHA256, &sig::RSA_PSS_2048_8192_SHA256, &digest::SHA256),
        "PS384" => (&sig::RSA_PSS_SHA384, &sig::RSA_PSS_2048_8192_SHA384, &digest::SHA384),
        "PS512" => (&sig::RSA_PSS_SHA512, &sig::RSA_PSS_2048_8192_SHA512, &digest::SHA512),
        _ => return Err(CryptoFailed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_round_trips_and_refuses_what_does_not_fit() {
        let key = Material::rsa(2048, false).expect("generation works");
        for algorithm in ["RSA-OAEP", "RSA-OAEP-256", "RSA1_5"] {
            let cipher = key.encrypt(algorithm, b"data key").expect("fits");
            assert_eq!(key.decrypt(algorithm, &cipher).as_deref(), Ok(&b"data key"[..]), "{algorithm}");
        }
        assert_eq!(key.encrypt("RSA-OAEP-256", &[0; 300]), Err(CryptoFailed));
        assert_eq!(key.encrypt("A256KW", b"x"), Err(CryptoFailed));
        assert_eq!(key.decrypt("RSA-OAEP", &[1; 256]), Err(CryptoFailed));
    }

    #[test]
    fn signatures_verify_and_tampered_ones_do_not() {
        let rsa = Material::rsa(2048, false).expect("generation works");
        let ec = Material::ec(Curve::P384, false).expect("generation works");
        for (key, algorithm, hash) in
            [(&rsa, "RS256", vec![7; 32]), (&rsa, "PS512", vec![7; 64]), (&ec, "ES384", vec![7; 48])]
        {
            let mut signature = key.sign(algorithm, &hash).expect("signs");
            assert_eq!(key.verify(algorithm, &hash, &signature), Ok(true), "{algorithm}");
            signature[3] ^= 1;
            assert_eq!(key.verify(algorithm, &hash, &signature), Ok(false), "{algorithm}");
            assert!(key.sign(algorithm, &hash[1..]).is_err());
        }
    }
}
