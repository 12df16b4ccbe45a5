//! Identifiers that Azure and the service hand around, parsed once and compared the way Azure compares them.
//!
//! What belongs here: parsing, normal forms, equality. What does not: anything that looks an identifier up.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A job's id: a UUIDv7, so ids sort by the time the job was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub Uuid);

impl JobId {
    /// A new id for a job accepted now.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a string is not an ARM resource id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmIdError {
    /// The string is longer than ARM accepts in a URL path.
    #[error("the resource id is longer than {MAX_ARM_ID} characters")]
    TooLong,
    /// The string does not follow `/subscriptions/{guid}/resourceGroups/{name}/providers/{namespace}/{type}/{name}…`.
    #[error("expected /subscriptions/{{guid}}/resourceGroups/{{group}}/providers/{{namespace}}/{{type}}/{{name}}: {0}")]
    Shape(&'static str),
}

const MAX_ARM_ID: usize = 2048;

/// An ARM resource id of something inside a resource group, at any depth of nesting.
///
/// Azure compares ids without regard to case and answers with mixed case; so do equality and hashing here, while the
/// text keeps the caller's spelling.
#[derive(Clone)]
pub struct ArmId {
    text: String,
    subscription: Uuid,
    resource_group: String,
    /// Namespace and type segments, for instance `Microsoft.Storage/storageAccounts`.
    resource_type: String,
    names: Vec<String>,
}

impl ArmId {
    /// Parses an id; a trailing slash is dropped, every other deviation is an error.
    pub fn parse(text: &str) -> Result<Self, ArmIdError> {
        if text.len() > MAX_ARM_ID {
            return Err(ArmIdError::TooLong);
        }
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        let rest = trimmed.strip_prefix('/').ok_or(ArmIdError::Shape("it must start with a slash"))?;
        let segments: Vec<&str> = rest.split('/').collect();
        if segments.iter().any(|s| !is_segment(s)) {
            return Err(ArmIdError::Shape("a segment is empty or holds a character that is not allowed"));
        }
        let [subs, sub, groups, group, providers, namespace, pairs @ ..] = segments.as_slice() else {
            return Err(ArmIdError::Shape("segments are missing"));
        };
        if !subs.eq_ignore_ascii_case("subscriptions") {
            return Err(ArmIdError::Shape("the first segment must be 'subscriptions'"));
        }
        if !groups.eq_ignore_ascii_case("resourceGroups") {
            return Err(ArmIdError::Shape("the third segment must be 'resourceGroups'"));
        }
        if !providers.eq_ignore_ascii_case("providers") {
            return Err(ArmIdError::Shape("the fifth segment must be 'providers'"));
        }
        let subscription = sub.parse().map_err(|_| ArmIdError::Shape("the subscription must be a GUID"))?;
        if group.len() > 90 || group.ends_with('.') {
            return Err(ArmIdError::Shape(
                "a resource group name has at most 90 characters and does not end with a dot",
            ));
        }
        if pairs.is_empty() || pairs.len() % 2 != 0 {
            return Err(ArmIdError::Shape("every type needs a name"));
        }
        let mut resource_type = (*namespace).to_owned();
        let mut names = Vec::new();
        for pair in pairs.chunks_exact(2) {
            resource_type.push('/');
            resource_type.push_str(pair[0]);
            names.push(pair[1].to_owned());
        }
        Ok(Self { text: trimmed.to_owned(), subscription, resource_group: (*group).to_owned(), resource_type, names })
    }

    /// Builds the id of a top-level resource from its parts; the parts must already be valid segments.
    pub fn build(subscription: Uuid, group: &str, resource_type: &str, name: &str) -> Result<Self, ArmIdError> {
        Self::parse(&format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/{resource_type}/{name}"))
    }

    /// The caller's spelling, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The form to compare, hash and index by: lower case.
    pub fn normal(&self) -> String {
        self.text.to_ascii_lowercase()
    }

    /// The subscription's id.
    pub fn subscription(&self) -> Uuid {
        self.subscription
    }

    /// The resource group's name, as spelled by the caller.
    pub fn resource_group(&self) -> &str {
        &self.resource_group
    }

    /// The id of the resource group that holds the resource, as a path.
    pub fn resource_group_path(&self) -> String {
        format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.resource_group)
    }

    /// Namespace and type, for instance `Microsoft.Storage/storageAccounts`, as spelled by the caller.
    pub fn resource_type(&self) -> &str {
        &self.resource_type
    }

    /// Whether the id's type is `resource_type`, without regard to case.
    pub fn is_type(&self, resource_type: &str) -> bool {
        self.resource_type.eq_ignore_ascii_case(resource_type)
    }

    /// The resource that this one lies in; `None` for one that lies in a resource group.
    pub fn parent(&self) -> Option<Self> {
        let (above, _) = self.text.rsplit_once('/')?;
        let (above, _) = above.rsplit_once('/')?;
        (self.names.len() > 1).then(|| Self::parse(above).ok()).flatten()
    }

    /// A resource that lies in this one; `below` is `/type/name`.
    pub fn child(&self, below: &str) -> Result<Self, ArmIdError> {
        Self::parse(&format!("{}{below}", self.text))
    }

    /// The last name: the resource's own.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }
}

fn is_segment(s: &str) -> bool {
    !s.is_empty()
        && s != "."
        && s != ".."
        && s.len() <= 260
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'(' | b')'))
}

impl PartialEq for ArmId {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

impl Eq for ArmId {}

impl std::hash::Hash for ArmId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.normal().hash(state);
    }
}

impl fmt::Display for ArmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ArmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArmId({})", self.text)
    }
}

impl Serialize for ArmId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ArmId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The object id of a service principal in the tenant's directory. Not an application (client) id: confusing the two is
/// the most common mistake with customer-managed keys, so they have different types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrincipalId(pub Uuid);

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The application (client) id of a managed identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub Uuid);

/// A key of a key store: base URI, name, and a version where one is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyId {
    /// The store's base URI without a trailing slash, for instance `https://kv1.vault.azure.net`.
    pub store_uri: String,
    /// The key's name.
    pub name: String,
    /// The version: 32 hexadecimal digits; `None` means the latest.
    pub version: Option<String>,
}

impl KeyId {
    /// Parses `https://{store}/keys/{name}[/{version}]`.
    pub fn parse(kid: &str) -> Option<Self> {
        let url = url::Url::parse(kid).ok()?;
        let mut segments = url.path_segments()?.filter(|s| !s.is_empty());
        if segments.next()? != "keys" {
            return None;
        }
        let name = segments.next()?.to_owned();
        let version = segments.next().map(str::to_owned);
        if segments.next().is_some() {
            return None;
        }
        Some(Self { store_uri: store_uri(&url)?, name, version })
    }

    /// The same key without a version.
    pub fn versionless(&self) -> String {
        format!("{}/keys/{}", self.store_uri, self.name)
    }

    /// The same key in this store, by Azure's rules: host without regard to case, key name likewise.
    pub fn same_key(&self, store_uri: &str, name: &str) -> bool {
        same_store_uri(&self.store_uri, store_uri) && self.name.eq_ignore_ascii_case(name)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.versionless())?;
        match &self.version {
            Some(version) => write!(f, "/{version}"),
            None => Ok(()),
        }
    }
}

fn store_uri(url: &url::Url) -> Option<String> {
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    })
}

/// Whether two store URIs name the same store: trailing slash, default port and case of the host do not matter.
pub fn same_store_uri(a: &str, b: &str) -> bool {
    match (url::Url::parse(a).ok().as_ref().and_then(store_uri), url::Url::parse(b).ok().as_ref().and_then(store_uri)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: &str = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg-a/providers/Microsoft.Storage/storageAccounts/st1";

    #[test]
    fn arm_ids_parse_and_compare_without_case() {
        let id = ArmId::parse(STORAGE).expect("a valid id");
        assert_eq!(id.name(), "st1");
        assert_eq!(id.resource_group(), "rg-a");
        assert!(id.is_type("microsoft.storage/STORAGEACCOUNTS"));
        assert_eq!(id, ArmId::parse(&format!("{}/", STORAGE.to_uppercase())).expect("case and slash are tolerated"));
        let child = ArmId::parse(&format!("{STORAGE}/encryptionScopes/s1")).expect("a child id");
        assert_eq!(child.resource_type(), "Microsoft.Storage/storageAccounts/encryptionScopes");
        assert_eq!(child.name(), "s1");
        assert_eq!((child.parent(), id.parent()), (Some(id.clone()), None));
        assert_eq!(id.child("/encryptionScopes/s1").ok(), Some(child));
    }

    #[test]
    fn wrong_arm_ids_are_refused() {
        for bad in [
            "",
            "/",
            "subscriptions/x",
            "/subscriptions/not-a-guid/resourceGroups/rg/providers/A.B/c/d",
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg",
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/A.B/c",
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/A.B/c/../d",
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/A.B/c/d?x=1",
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/A.B/c/d e",
            "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg./providers/A.B/c/d",
        ] {
            assert!(ArmId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn key_ids_parse_with_and_without_version() {
        let key = KeyId::parse("https://KV1.vault.localhost:8443/keys/k/0123").expect("a key id");
        assert_eq!(key.store_uri, "https://kv1.vault.localhost:8443");
        assert_eq!(key.version.as_deref(), Some("0123"));
        assert!(key.same_key("https://kv1.vault.localhost:8443/", "K"));
        assert_eq!(key.versionless(), "https://kv1.vault.localhost:8443/keys/k");
        assert!(KeyId::parse("https://kv1.vault.azure.net/secrets/k").is_none());
        assert!(same_store_uri("https://kv1.vault.azure.net:443/", "https://kv1.vault.azure.net"));
        assert!(!same_store_uri("https://kv1.vault.azure.net", "https://kv2.vault.azure.net"));
    }
}
