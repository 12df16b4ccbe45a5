//! A service's own data key: AES-256-GCM over what it stores, itself kept only wrapped under the customer's key. The
//! wrapping is real RSA, so it runs off the async threads and never under the world's lock.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::cmk::key_use::Refusal;
use crate::keyvault::crypto::Material;

/// An unwrapped data key. In memory only: wiped when dropped, never written, never shown.
pub(crate) struct DataKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

/// How services wrap; that the algorithm is the same for all of them is the simulator's choice (UNVERIFIED).
const ALGORITHM: &str = "RSA-OAEP-256";

impl DataKey {
    /// A fresh one of the operating system's randomness.
    pub fn fresh() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// One of known bytes; `None` unless there are 32.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Encrypts: nonce, ciphertext, tag. `bound` is authenticated with it and must be given again to open.
    pub fn seal(&self, bound: &[u8], plain: &[u8]) -> Vec<u8> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, self.bytes()).expect("the key has 32 bytes");
        let mut text = plain.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(bound), &mut text)
            .expect("what the simulator stores is far below the limit of AES-GCM");
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut text);
        sealed
    }

    /// Decrypts; `None` for anything that this key did not seal with the same `bound`.
    pub fn unseal(&self, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, self.bytes()).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let length = key.open_in_place(nonce, Aad::from(bound), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    /// Wraps this key under the customer's and unwraps it again, as services do before they rely on a key.
    pub async fn wrap(self: &Arc<Self>, material: Arc<Material>) -> Result<Vec<u8>, Refusal> {
        let key = self.clone();
        off_thread(move || {
            let wrapped = material.encrypt(ALGORITHM, key.bytes()).ok()?;
            let again = Zeroizing::new(material.decrypt(ALGORITHM, &wrapped).ok()?);
            (again.as_slice() == key.bytes()).then_some(wrapped)
        })
        .await
    }

    /// Gets a key out of its wrapped form.
    pub async fn unwrap(material: Arc<Material>, wrapped: Vec<u8>) -> Result<Arc<Self>, Refusal> {
        off_thread(move || {
            let plain = Zeroizing::new(material.decrypt(ALGORITHM, &wrapped).ok()?);
            Self::of(&plain).map(Arc::new)
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Option<T> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.ok().flatten().ok_or(Refusal::WrongKey)
}
