//! What symmetric keys can do: AES key wrap (RFC 3394), AES-GCM, AES-CBC with and without padding. Real cryptography by
//! aws-lc-rs; the key wrap is put together here from single blocks, as there is none for 192 bits.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use crate::keyvault::crypto::CryptoFailed;

/// An encrypted value with what decryption needs besides; empty parts do not belong to the algorithm.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub value: Vec<u8>,
    pub iv: Vec<u8>,
    pub tag: Vec<u8>,
    pub aad: Vec<u8>,
}

fn failed<E>(_: E) -> CryptoFailed {
    CryptoFailed
}

/// What is behind `A{bits}` in the algorithm's name, if the key has that many bits.
fn mode<'a>(key: &[u8], algorithm: &'a str) -> Result<&'a str, CryptoFailed> {
    algorithm.strip_prefix(&format!("A{}", key.len() * 8)).ok_or(CryptoFailed)
}

fn cipher(key: &[u8]) -> Result<UnboundCipherKey, CryptoFailed> {
    let algorithm: &'static Algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return Err(CryptoFailed),
    };
    UnboundCipherKey::new(algorithm, key).map_err(failed)
}

const BLOCK: u64 = 0xa6a6_a6a6_a6a6_a6a6;

/// Wraps at least two whole blocks of eight bytes.
pub(crate) fn wrap(key: &[u8], algorithm: &str, plain: &[u8]) -> Result<Vec<u8>, CryptoFailed> {
    if mode(key, algorithm)? != "KW" || plain.len() < 16 || !plain.len().is_multiple_of(8) {
        return Err(CryptoFailed);
    }
    let aes = EncryptingKey::ecb(cipher(key)?).map_err(failed)?;
    let mut check = BLOCK;
    let mut blocks: Vec<[u8; 8]> = plain.chunks_exact(8).filter_map(|c| c.try_into().ok()).collect();
    let mut step: u64 = 0;
    for _ in 0..6 {
        for block in &mut blocks {
            step += 1;
            let mut both = [0; 16];
            both[..8].copy_from_slice(&check.to_be_bytes());
            both[8..].copy_from_slice(block);
            aes.encrypt(&mut both).map_err(failed)?;
            let (head, tail) = halves(both);
            check = head ^ step;
            *block = tail;
        }
    }
    Ok(check.to_be_bytes().into_iter().chain(blocks.into_iter().flatten()).collect())
}

/// The inverse; fails for a value that this key did not wrap.
pub(crate) fn unwrap(key: &[u8], algorithm: &str, wrapped: &[u8]) -> Result<Vec<u8>, CryptoFailed> {
    if mode(key, algorithm)? != "KW" || wrapped.len() < 24 || !wrapped.len().is_multiple_of(8) {
        return Err(CryptoFailed);
    }
    let aes = DecryptingKey::ecb(cipher(key)?).map_err(failed)?;
    let mut all: Vec<[u8; 8]> = wrapped.chunks_exact(8).filter_map(|c| c.try_into().ok()).collect();
    let mut blocks = all.split_off(1);
    let mut check = u64::from_be_bytes(all[0]);
    let mut step = u64::try_from(blocks.len() * 6).map_err(failed)?;
    for _ in 0..6 {
        for block in blocks.iter_mut().rev() {
            let mut both = [0; 16];
            both[..8].copy_from_slice(&(check ^ step).to_be_bytes());
            both[8..].copy_from_slice(block);
            aes.decrypt(&mut both, DecryptionContext::None).map_err(failed)?;
            let (head, tail) = halves(both);
            check = head;
            *block = tail;
            step -= 1;
        }
    }
    if check != BLOCK {
        return Err(CryptoFailed);
    }
    Ok(blocks.into_iter().flatten().collect())
}

fn halves(both: [u8; 16]) -> (u64, [u8; 8]) {
    let (mut head, mut tail) = ([0; 8], [0; 8]);
    head.copy_from_slice(&both[..8]);
    tail.copy_from_slice(&both[8..]);
    (u64::from_be_bytes(head), tail)
}

fn gcm(key: &[u8]) -> Result<LessSafeKey, CryptoFailed> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return Err(CryptoFailed),
    };
    UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(failed)
}

/// `A…GCM` makes its own initialisation vector, `A…CBC` and `A…CBCPAD` take the caller's.
pub(crate) fn encrypt(
    key: &[u8],
    algorithm: &str,
    mut value: Vec<u8>,
    iv: Vec<u8>,
    aad: Vec<u8>,
) -> Result<Sealed, CryptoFailed> {
    match mode(key, algorithm)? {
        "GCM" if iv.is_empty() => {
            let iv: [u8; 12] = rand::random();
            let tag = gcm(key)?
                .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(&aad), &mut value)
                .map_err(failed)?;
            Ok(Sealed { value, iv: iv.to_vec(), tag: tag.as_ref().to_vec(), aad })
        }
        padding @ ("CBC" | "CBCPAD") if aad.is_empty() => {
            let fixed: [u8; 16] = iv.as_slice().try_into().map_err(failed)?;
            let context = EncryptionContext::Iv128(FixedLength::from(fixed));
            if padding == "CBCPAD" {
                let aes = PaddedBlockEncryptingKey::cbc_pkcs7(cipher(key)?).map_err(failed)?;
                aes.less_safe_encrypt(&mut value, context).map_err(failed)?;
            } else {
                let aes = EncryptingKey::cbc(cipher(key)?).map_err(failed)?;
                aes.less_safe_encrypt(&mut value, context).map_err(failed)?;
            }
            Ok(Sealed { value, iv, tag: Vec::new(), aad })
        }
        _ => Err(CryptoFailed),
    }
}

/// The inverse.
pub(crate) fn decrypt(
    key: &[u8],
    algorithm: &str,
    mut value: Vec<u8>,
    iv: &[u8],
    aad: &[u8],
    tag: &[u8],
) -> Result<Vec<u8>, CryptoFailed> {
    match mode(key, algorithm)? {
        "GCM" if tag.len() == 16 => {
            let nonce = Nonce::try_assume_unique_for_key(iv).map_err(failed)?;
            value.extend_from_slice(tag);
            gcm(key)?.open_in_place(nonce, Aad::from(aad), &mut value).map(|p| p.to_vec()).map_err(failed)
        }
        padding @ ("CBC" | "CBCPAD") => {
            let iv: [u8; 16] = iv.try_into().map_err(failed)?;
            let context = DecryptionContext::Iv128(FixedLength::from(iv));
            if padding == "CBCPAD" {
                let aes = PaddedBlockDecryptingKey::cbc_pkcs7(cipher(key)?).map_err(failed)?;
                aes.decrypt(&mut value, context).map(|p| p.to_vec()).map_err(failed)
            } else {
                let aes = DecryptingKey::cbc(cipher(key)?).map_err(failed)?;
                aes.decrypt(&mut value, context).map(|p| p.to_vec()).map_err(failed)
            }
        }
        _ => Err(CryptoFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn key_wrap_gives_the_vectors_of_rfc_3394() {
        let data = hex("00112233445566778899AABBCCDDEEFF");
        for (bits, wrapped) in [
            (128_u16, "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5"),
            (192, "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D"),
            (256, "64E8C3F9CE0F5BA263E9777905818A2A93C8191E7D6E8AE7"),
        ] {
            let key: Vec<u8> = (0_u8..).take(usize::from(bits / 8)).collect();
            let algorithm = format!("A{bits}KW");
            let mut got = wrap(&key, &algorithm, &data).expect("wraps");
            assert_eq!(got, hex(wrapped), "{algorithm}");
            assert_eq!(unwrap(&key, &algorithm, &got).as_deref(), Ok(&data[..]), "{algorithm}");
            got[5] ^= 1;
            assert_eq!(unwrap(&key, &algorithm, &got), Err(CryptoFailed), "{algorithm}");
        }
        for (algorithm, size) in [("A128KW", 16), ("A256KW", 8), ("A256KW", 17), ("RSA-OAEP", 16), ("", 16)] {
            assert_eq!(wrap(&[7; 32], algorithm, &vec![1; size]), Err(CryptoFailed), "{algorithm} {size}");
        }
    }

    #[test]
    fn encryption_round_trips_and_refuses_what_was_tampered_with() {
        for (algorithm, iv, aad) in [("A256GCM", vec![], b"header".to_vec()), ("A256CBCPAD", vec![3; 16], vec![])] {
            let sealed = encrypt(&[9; 32], algorithm, b"some bytes".to_vec(), iv, aad.clone()).expect("encrypts");
            let open = |value: Vec<u8>, aad: &[u8]| decrypt(&[9; 32], algorithm, value, &sealed.iv, aad, &sealed.tag);
            assert_eq!(open(sealed.value.clone(), &aad).as_deref(), Ok(&b"some bytes"[..]), "{algorithm}");
            assert_ne!(open(sealed.value.clone(), b"other").is_ok(), !aad.is_empty(), "{algorithm}");
        }
        assert!(encrypt(&[9; 32], "A256CBC", vec![1; 15], vec![3; 16], vec![]).is_err());
        assert!(encrypt(&[9; 16], "A256GCM", vec![1], vec![], vec![]).is_err());
    }
}
