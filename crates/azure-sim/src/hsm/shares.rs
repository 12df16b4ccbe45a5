//! The file of a security domain: a random secret divided among the holders of the given RSA keys so that any `required` of
//! them can put it together (Shamir over GF(2^8)), each share in a compact JWE for its key, and data under the secret. The
//! layout follows the public clients; the data inside is the simulator's own and restores nothing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};

use crate::keyvault::crypto::CryptoFailed;

/// One holder of a share.
pub(crate) struct Recipient {
    key: OaepPublicEncryptingKey,
    /// SHA-256 of the certificate, by which the holder finds its share.
    print: String,
}

/// Why a JSON web key cannot receive a share.
#[derive(Debug, PartialEq)]
pub(crate) struct BadRecipient(pub &'static str);

impl Recipient {
    /// Reads the JSON web key; the certificate in it must be for that key.
    pub fn read(jwk: &Value) -> Result<Self, BadRecipient> {
        let bytes = |name: &str| jwk[name].as_str().and_then(|t| B64.decode(t.trim_end_matches('=')).ok());
        if !jwk["kty"].as_str().is_some_and(|kty| kty.eq_ignore_ascii_case("RSA")) {
            return Err(BadRecipient("kty must be 'RSA'"));
        }
        let (Some(n), Some(e)) = (bytes("n"), bytes("e")) else {
            return Err(BadRecipient("n and e must be base64url"));
        };
        let n: Vec<u8> = n.into_iter().skip_while(|b| *b == 0).collect();
        let certificate = jwk["x5c"][0]
            .as_str()
            .and_then(|t| STANDARD.decode(t).ok())
            .ok_or(BadRecipient("x5c must hold a certificate in base64"))?;
        if n.len() < 256 || !certificate.windows(n.len()).any(|w| w == n) {
            return Err(BadRecipient("the certificate in x5c must be for the RSA key, of at least 2048 bits"));
        }
        let public: PublicEncryptingKey =
            PublicKeyComponents { n, e }.try_into().map_err(|_| BadRecipient("n and e are no RSA key"))?;
        let key = OaepPublicEncryptingKey::new(public).map_err(|_| BadRecipient("the RSA key cannot encrypt"))?;
        let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate);
        Ok(Self { key, print: B64.encode(print) })
    }
}

/// The file's text.
pub(crate) fn security_domain(name: &str, recipients: &[Recipient], required: u8) -> Result<String, CryptoFailed> {
    let secret: [u8; 32] = rand::random();
    let mut shares = Vec::new();
    for (recipient, share) in recipients.iter().zip(split(&secret, recipients.len(), required)) {
        let content_key: [u8; 32] = rand::random();
        let mut wrapped = vec![0; recipient.key.ciphertext_size()];
        let wrapped = recipient
            .key
            .encrypt(&OAEP_SHA256_MGF1SHA256, &content_key, &mut wrapped, None)
            .map_err(|_| CryptoFailed)?
            .to_vec();
        let header = json!({ "alg": "RSA-OAEP-256", "enc": "A256GCM", "x5t#S256": recipient.print });
        shares.push(json!({ "x5t_256": recipient.print, "enc_key": jwe(&header, &wrapped, &content_key, &share)? }));
    }
    let text = format!("The security domain of the simulated managed HSM '{name}'. It restores nothing.");
    let header = json!({ "alg": "dir", "enc": "A256GCM", "kid": name });
    Ok(json!({
        "EncData": { "data": [{ "compact_jwe": jwe(&header, &[], &secret, text.as_bytes())?, "tag": "simulated" }], "kdf": "none" },
        "SharedKeys": { "enc_shares": shares, "key_algorithm": "shamir_share", "required": required },
        "version": 2,
    })
    .to_string())
}

fn jwe(header: &Value, wrapped: &[u8], key: &[u8; 32], plain: &[u8]) -> Result<String, CryptoFailed> {
    let header = B64.encode(header.to_string());
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CryptoFailed)?;
    let iv: [u8; 12] = rand::random();
    let mut data = plain.to_vec();
    let tag = LessSafeKey::new(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(header.as_bytes()), &mut data)
        .map_err(|_| CryptoFailed)?;
    let parts = [wrapped, &iv, &data, tag.as_ref()].map(|part| B64.encode(part));
    Ok(format!("{header}.{}", parts.join(".")))
}

/// Shares of the form `x, y…`: for each byte of the secret a polynomial of degree `required - 1` with that byte at zero.
fn split(secret: &[u8], count: usize, required: u8) -> Vec<Vec<u8>> {
    let polynomials: Vec<Vec<u8>> = secret
        .iter()
        .map(|byte| std::iter::once(*byte).chain((1..required).map(|_| rand::random())).collect())
        .collect();
    (1..=u8::MAX)
        .take(count)
        .map(|x| {
            let value = |p: &Vec<u8>| p.iter().rev().fold(0, |sum, c| times(sum, x) ^ c);
            std::iter::once(x).chain(polynomials.iter().map(value)).collect()
        })
        .collect()
}

/// The product in GF(2^8) with the polynomial of AES.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        let carry = a & 0x80 != 0;
        a <<= 1;
        if carry {
            a ^= 0x1b;
        }
        b >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inverse(a: u8) -> u8 {
        (1..=u8::MAX).find(|b| times(a, *b) == 1).expect("all but zero have one")
    }

    fn join(shares: &[&Vec<u8>]) -> Vec<u8> {
        (1..shares[0].len())
            .map(|i| {
                shares.iter().fold(0, |sum, share| {
                    let weight = shares
                        .iter()
                        .filter(|other| other[0] != share[0])
                        .fold(1, |w, other| times(w, times(other[0], inverse(other[0] ^ share[0]))));
                    sum ^ times(weight, share[i])
                })
            })
            .collect()
    }

    #[test]
    fn any_quorum_has_the_secret_and_fewer_do_not() {
        let secret: Vec<u8> = (0..32).collect();
        let shares = split(&secret, 5, 3);
        assert_eq!(shares.len(), 5);
        for quorum in [[0, 1, 2], [4, 2, 0], [1, 3, 4]] {
            assert_eq!(join(&quorum.map(|i| &shares[i])), secret, "{quorum:?}");
        }
        assert_ne!(join(&[&shares[0], &shares[1]]), secret);
    }
}
