//! What one account stores: containers, sealed blobs, and the key of the service's own that stands in while no customer's
//! key does. Bounded in number and bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::cmk::DataKey;
use crate::http::Failure;

/// Containers per account; the simulator's own limit, as are the next two.
const MOST_CONTAINERS: usize = 1_000;
/// Blobs per account.
const MOST_BLOBS: usize = 10_000;
/// Bytes per account, metadata included.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// One account's data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Storehouse {
    service_key: ServiceKey,
    /// The data key under the service's own key; `None` while it is under a customer's.
    #[serde(with = "base64_option")]
    platform: Option<Vec<u8>>,
    /// By name.
    pub containers: BTreeMap<String, Container>,
}

/// The service's own key of one account. It wraps the data key under platform management and makes the account keys.
#[derive(Clone, Serialize, Deserialize)]
struct ServiceKey(#[serde(with = "base64_bytes")] Vec<u8>);

impl std::fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceKey")
    }
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Container {
    pub etag: String,
    #[serde(with = "time::serde::rfc3339")]
    pub modified: OffsetDateTime,
    pub metadata: BTreeMap<String, String>,
    /// By name.
    pub blobs: BTreeMap<String, Blob>,
}

/// A block blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Blob {
    /// Nonce, ciphertext and tag under the account's data key.
    #[serde(with = "base64_bytes")]
    pub sealed: Bytes,
    /// Bytes before sealing.
    pub length: usize,
    /// In base64.
    pub md5: String,
    pub etag: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub modified: OffsetDateTime,
    /// Content type, encoding, language, disposition and cache control, by header name, where given.
    pub described: BTreeMap<String, String>,
    pub metadata: BTreeMap<String, String>,
}

/// What the service's own key is bound to when it wraps the data key.
const WRAPPING: &[u8] = b"data-key";

impl Storehouse {
    /// For an account whose data key is, or is going to be, under a customer's key.
    pub fn new() -> Self {
        let service_key = ServiceKey(DataKey::fresh().bytes().to_vec());
        Self { service_key, platform: None, containers: BTreeMap::new() }
    }

    /// For an account under the service's own key.
    pub fn on_platform() -> Self {
        let mut store = Self::new();
        store.keep(&DataKey::fresh());
        store
    }

    fn wrapping(&self) -> DataKey {
        DataKey::of(&self.service_key.0).expect("the service's key has 32 bytes")
    }

    /// Puts the data key under the service's own key.
    pub fn keep(&mut self, data_key: &DataKey) {
        self.platform = Some(self.wrapping().seal(WRAPPING, data_key.bytes()));
    }

    /// Forgets the data key: from now on the customer's key alone gives it.
    pub fn give_up(&mut self) {
        self.platform = None;
    }

    /// The data key, while the service itself keeps it.
    pub fn data_key(&self) -> Option<Arc<DataKey>> {
        let plain = zeroize::Zeroizing::new(self.wrapping().unseal(WRAPPING, self.platform.as_ref()?)?);
        DataKey::of(&plain).map(Arc::new)
    }

    /// One of the account keys, `key1` or `key2`, in base64 as `listKeys` gives it. Stable while the account lives.
    pub fn account_key(&self, name: &str) -> String {
        STANDARD.encode(self.account_key_bytes(name))
    }

    /// The same in bytes.
    pub fn account_key_bytes(&self, name: &str) -> Vec<u8> {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA512, &self.service_key.0);
        aws_lc_rs::hmac::sign(&key, name.as_bytes()).as_ref().to_vec()
    }

    /// Whether a further container fits.
    pub fn room_for_container(&self) -> Result<(), Failure> {
        if self.containers.len() < MOST_CONTAINERS { Ok(()) } else { Err(full("containers")) }
    }

    /// Whether a blob fits, in place of the one that it replaces.
    pub fn room_for_blob(&self, blob: &Blob, replaced: Option<&Blob>) -> Result<(), Failure> {
        let all = || self.containers.values().flat_map(|c| c.blobs.values());
        let (count, bytes) = all().fold((0, 0), |(n, b), blob| (n + 1, b + blob.weight()));
        if replaced.is_none() && count >= MOST_BLOBS {
            return Err(full("blobs"));
        }
        if bytes - replaced.map_or(0, Blob::weight) + blob.weight() > MOST_BYTES {
            return Err(full("bytes"));
        }
        Ok(())
    }
}

impl Blob {
    fn weight(&self) -> usize {
        let texts = self.described.iter().chain(&self.metadata);
        self.sealed.len() + texts.map(|(n, v)| n.len() + v.len()).sum::<usize>()
    }
}

/// The simulator's limit, with a code that no Azure service has.
fn full(what: &str) -> Failure {
    Failure::new(507, "SimulatorLimitReached", format!("The simulated account holds no more {what}."))
}

mod base64_bytes {
    use super::{Engine, STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: From<Vec<u8>>>(from: D) -> Result<T, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map(T::from).map_err(D::Error::custom)
    }
}

mod base64_option {
    use super::{Engine, STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|b| STANDARD.encode(b)).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(from)?.map(|t| STANDARD.decode(t).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_leaves_and_comes_back_and_is_never_written_in_clear() {
        let mut store = Storehouse::on_platform();
        let key = store.data_key().expect("the service keeps it");
        let text = serde_json::to_string(&store).expect("it is written");
        assert!(!text.contains(&STANDARD.encode(key.bytes())));
        let back: Storehouse = serde_json::from_str(&text).expect("and read");
        assert_eq!(back.data_key().expect("it is there").bytes(), key.bytes());
        assert_eq!(
            (back.account_key("key1"), back.account_key("key2") == back.account_key("key1")),
            (store.account_key("key1"), false)
        );
        store.give_up();
        assert!(store.data_key().is_none());
        store.keep(&key);
        assert_eq!(store.data_key().expect("it came back").bytes(), key.bytes());
        assert!(!format!("{store:?}").contains(&format!("{:?}", store.service_key.0)));
    }

    #[test]
    fn an_account_takes_only_so_much() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let blob = |size: usize| Blob {
            sealed: Bytes::from(vec![0; size]),
            length: size,
            md5: String::new(),
            etag: String::new(),
            created: now,
            modified: now,
            described: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        let mut store = Storehouse::new();
        let half = blob(MOST_BYTES / 2);
        let blobs = BTreeMap::from([("a".to_owned(), half.clone()), ("b".to_owned(), half.clone())]);
        let container = Container { etag: String::new(), modified: now, metadata: BTreeMap::new(), blobs };
        store.containers.insert("c".to_owned(), container);
        assert!(store.room_for_blob(&blob(1), None).is_err());
        assert!(store.room_for_blob(&blob(MOST_BYTES / 2), Some(&half)).is_ok());
        assert!(store.room_for_blob(&blob(MOST_BYTES / 2 + 1), Some(&half)).is_err());
        for n in 1..MOST_CONTAINERS {
            let container =
                Container { etag: String::new(), modified: now, metadata: BTreeMap::new(), blobs: BTreeMap::new() };
            assert!(store.room_for_container().is_ok());
            store.containers.insert(format!("c{n}"), container);
        }
        assert!(store.room_for_container().is_err());
    }
}
