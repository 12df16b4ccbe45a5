//! Key material in the state file: PKCS#8 DER in base64, the bytes of AES keys. For `#[serde(with = "crate::keyvault::stored")]` on the shared
//! pointer; the cryptography itself is `crypto`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::keyvault::crypto::{Curve, Material};

/// The form in the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kty")]
enum Stored {
    #[serde(rename = "RSA")]
    Rsa { hsm: bool, pkcs8: String },
    #[serde(rename = "EC")]
    Ec { hsm: bool, curve: Curve, pkcs8: String },
    #[serde(rename = "oct-HSM")]
    Oct { k: String },
}

/// Writes the private key.
pub(crate) fn serialize<S: Serializer>(material: &Arc<Material>, to: S) -> Result<S::Ok, S::Error> {
    let pkcs8 = material.pkcs8().map_err(|_| S::Error::custom("a private key could not be encoded"))?;
    let pkcs8 = B64.encode(pkcs8);
    match material.as_ref() {
        Material::Rsa { hsm, .. } => Stored::Rsa { hsm: *hsm, pkcs8 },
        Material::Ec { hsm, curve, .. } => Stored::Ec { hsm: *hsm, curve: *curve, pkcs8 },
        Material::Oct { .. } => Stored::Oct { k: pkcs8 },
    }
    .serialize(to)
}

/// Reads a private key; anything that is no key of its kind is an error of the file.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Material>, D::Error> {
    let der = |text: &str| B64.decode(text).map_err(|_| D::Error::custom("a private key is not base64"));
    let material = match Stored::deserialize(from)? {
        Stored::Rsa { hsm, pkcs8 } => Material::rsa_from_pkcs8(&der(&pkcs8)?, hsm),
        Stored::Ec { hsm, curve, pkcs8 } => Material::ec_from_pkcs8(curve, &der(&pkcs8)?, hsm),
        Stored::Oct { k } => Ok(Material::Oct { key: der(&k)? }),
    };
    material.map(Arc::new).map_err(|_| D::Error::custom("a private key is not PKCS#8 of its kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Held {
        #[serde(with = "super")]
        material: Arc<Material>,
    }

    fn again(material: Material) -> (Arc<Material>, Arc<Material>) {
        let held = Held { material: Arc::new(material) };
        let text = serde_json::to_string(&held).expect("it is written");
        let back: Held = serde_json::from_str(&text).expect("it is read");
        (held.material, back.material)
    }

    #[test]
    fn what_a_key_encrypted_its_stored_form_decrypts() {
        let (before, after) = again(Material::rsa(2048, true).expect("generation works"));
        let cipher = before.encrypt("RSA-OAEP-256", b"data key").expect("fits");
        assert_eq!(after.decrypt("RSA-OAEP-256", &cipher).as_deref(), Ok(&b"data key"[..]));
        assert_eq!((after.kty(), after.size()), ("RSA-HSM", "2048".to_owned()));
    }

    #[test]
    fn every_curve_comes_back_and_verifies_what_was_signed() {
        for (curve, algorithm, size) in [
            (Curve::P256, "ES256", 32),
            (Curve::P384, "ES384", 48),
            (Curve::P521, "ES512", 64),
            (Curve::P256K, "ES256K", 32),
        ] {
            let (before, after) = again(Material::ec(curve, false).expect("generation works"));
            let hash = vec![7; size];
            let signature = before.sign(algorithm, &hash).expect("signs");
            assert_eq!(after.verify(algorithm, &hash, &signature), Ok(true), "{algorithm}");
            let signature = after.sign(algorithm, &hash).expect("signs");
            assert_eq!(before.verify(algorithm, &hash, &signature), Ok(true), "{algorithm}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in [
            r#"{"material":{"kty":"RSA","hsm":false,"pkcs8":"AAAA"}}"#,
            r#"{"material":{"kty":"RSA","hsm":false,"pkcs8":"*"}}"#,
            r#"{"material":{"kty":"EC","hsm":false,"curve":"P-256","pkcs8":"AAAA"}}"#,
        ] {
            assert!(serde_json::from_str::<Held>(text).is_err(), "{text}");
        }
    }
}
