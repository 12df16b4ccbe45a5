//! What a read of a target says about its key.
//!
//! What belongs here: the rules by which a file of the catalogue says where to look, and what is found there. What does
//! not: judging it; that is the steps' work.
//!
//! The body that is read is the target's. Where the setting or the identity's holder is another resource, its body stands
//! in the target's as `$setting` or `$holder`, so that one pointer can lead anywhere.

use serde::Deserialize;
use serde_json::Value;

use crate::domain::ids::KeyId;

/// Where a target says what about its key: JSON pointers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReadBackRule {
    /// What says that the key is the customer's. Absent: the presence of a key's name does.
    #[serde(default)]
    pub enabled: Option<Told>,
    /// The key's URL, for types that have one. With a version it is pinned, unless `follows` says otherwise.
    #[serde(default)]
    pub key_url: Option<String>,
    /// The key store's URI, for types that name the parts.
    #[serde(default)]
    pub store_uri: Option<String>,
    /// The key's name.
    #[serde(default)]
    pub key_name: Option<String>,
    /// The pinned version; empty or absent where the latest is followed.
    #[serde(default)]
    pub key_version: Option<String>,
    /// What says that newer versions are followed although a version is named.
    #[serde(default)]
    pub follows: Option<Told>,
    /// The version that is in use, as a URL or by itself. Absent: the type does not report it.
    #[serde(default)]
    pub key_in_use: Option<String>,
    /// The identity that is used for the key. Absent: whichever is attached.
    #[serde(default)]
    pub identity: Option<IdentityRule>,
    /// The state.
    #[serde(default)]
    pub state: StateRule,
}

/// A member with a certain value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Where.
    pub pointer: String,
    /// The value; texts are compared without regard to case.
    pub is: Value,
}

impl Told {
    fn holds(&self, resource: &Value) -> bool {
        match (resource.pointer(&self.pointer), &self.is) {
            (Some(Value::String(found)), Value::String(wanted)) => found.eq_ignore_ascii_case(wanted),
            (found, wanted) => found == Some(wanted),
        }
    }
}

/// Where the identity for the key is named, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityRule {
    /// Where.
    pub pointer: String,
    /// How.
    pub form: IdentityForm,
    /// What it means that nothing is named: that the target's own is used, or Azure's own principal.
    #[serde(default)]
    pub absent: Absent,
}

/// What a target uses that names no identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absent {
    /// Its own identity.
    #[default]
    Own,
    /// The Azure service's own principal.
    Platform,
}

/// How an identity is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityForm {
    /// The user-assigned identity's ARM id; nothing for the target's own.
    ResourceId,
    /// The user-assigned identity's client id; nothing for the target's own.
    ClientId,
    /// `UserAssignedIdentity=` and the ARM id, `SystemAssignedIdentity`, or `FirstPartyIdentity`.
    Prefixed,
}

/// Where the state is named, and what its words mean. Source: ARM async operations, terminal states; types have words of
/// their own beside those.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRule {
    /// Where.
    #[serde(default = "provisioning_state")]
    pub pointer: String,
    /// Words for a resource that is ready, beside `Succeeded`.
    #[serde(default)]
    pub ready: Vec<String>,
}

fn provisioning_state() -> String {
    "/properties/provisioningState".to_owned()
}

impl Default for StateRule {
    fn default() -> Self {
        Self { pointer: provisioning_state(), ready: Vec::new() }
    }
}

/// What a read of a target says about its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// Whether the target uses a customer-managed key at all.
    pub customer_managed: bool,
    /// Base URI of the key store it names.
    pub store_uri: Option<String>,
    /// The key's name.
    pub key_name: Option<String>,
    /// The version it pins; `None` where it follows the latest.
    pub pinned_version: Option<String>,
    /// The full key id, with version, that it reports as in use.
    pub key_in_use: Option<String>,
    /// The identity that it uses for the key.
    pub identity: ReadIdentity,
    /// Whether the resource is ready, being changed, or broken.
    pub state: ResourceState,
}

/// The identity that a target says it uses for its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReadIdentity {
    /// The type does not say: whichever is attached.
    #[default]
    Attached,
    /// The target's own.
    Own,
    /// The Azure service's own principal.
    Platform,
    /// A user-assigned one, by its ARM id.
    Resource(String),
    /// A user-assigned one, by its client id.
    Client(String),
}

/// A resource's provisioning state, reduced to what matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceState {
    /// `Succeeded`, or no state at all.
    #[default]
    Ready,
    /// Any state that is not terminal.
    Busy,
    /// `Failed` or `Canceled`.
    Broken,
}

impl StateRule {
    /// The state of a resource.
    pub fn of(&self, resource: &Value) -> ResourceState {
        let among = |words: &[&str], found: &str| words.iter().any(|w| w.eq_ignore_ascii_case(found));
        match resource.pointer(&self.pointer).and_then(Value::as_str) {
            None => ResourceState::Ready,
            Some(s) if among(&["Succeeded"], s) => ResourceState::Ready,
            Some(s) if self.ready.iter().any(|w| w.eq_ignore_ascii_case(s)) => ResourceState::Ready,
            Some(s) if among(&["Failed", "Canceled", "Cancelled"], s) => ResourceState::Broken,
            Some(_) => ResourceState::Busy,
        }
    }
}

impl ReadBackRule {
    /// What the target says.
    pub fn read(&self, resource: &Value) -> ReadBack {
        let text = |pointer: &Option<String>| -> Option<String> {
            let found = resource.pointer(pointer.as_deref()?)?.as_str()?;
            (!found.is_empty()).then(|| found.to_owned())
        };
        let by_url = text(&self.key_url).as_deref().and_then(KeyId::parse);
        let store_uri = text(&self.store_uri).or_else(|| by_url.as_ref().map(|k| k.store_uri.clone()));
        let key_name = text(&self.key_name).or_else(|| by_url.as_ref().map(|k| k.name.clone()));
        let version = text(&self.key_version).or_else(|| by_url.and_then(|k| k.version));
        let follows = self.follows.as_ref().is_some_and(|told| told.holds(resource));
        let in_use = text(&self.key_in_use).and_then(|found| match (KeyId::parse(&found), &store_uri, &key_name) {
            (Some(kid), ..) => Some(kid.to_string()),
            // Some types report the version by itself.
            (None, Some(store), Some(name)) if !found.contains('/') => {
                Some(format!("{}/keys/{name}/{found}", store.trim_end_matches('/')))
            }
            _ => None,
        });
        ReadBack {
            customer_managed: self.enabled.as_ref().map_or(key_name.is_some(), |told| told.holds(resource)),
            store_uri,
            key_name,
            pinned_version: version.filter(|_| !follows),
            key_in_use: in_use,
            identity: self.identity(resource),
            state: self.state.of(resource),
        }
    }

    fn identity(&self, resource: &Value) -> ReadIdentity {
        let Some(rule) = &self.identity else { return ReadIdentity::Attached };
        let found = resource.pointer(&rule.pointer).and_then(Value::as_str).unwrap_or_default();
        match (rule.form, found) {
            (IdentityForm::ResourceId | IdentityForm::ClientId, "") if rule.absent == Absent::Platform => {
                ReadIdentity::Platform
            }
            (IdentityForm::ResourceId | IdentityForm::ClientId, "") => ReadIdentity::Own,
            (IdentityForm::ResourceId, id) => ReadIdentity::Resource(id.to_owned()),
            (IdentityForm::ClientId, id) => ReadIdentity::Client(id.to_owned()),
            (IdentityForm::Prefixed, text) => match text.split_once('=') {
                Some((_, id)) => ReadIdentity::Resource(id.to_owned()),
                None if text.eq_ignore_ascii_case("SystemAssignedIdentity") => ReadIdentity::Own,
                None => ReadIdentity::Platform,
            },
        }
    }
}
