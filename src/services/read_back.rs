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
    /// Other keys of the target that have to be the same one: URLs.
    #[serde(default)]
    pub also: Vec<String>,
    /// What the service itself says of its access to the key.
    #[serde(default)]
    pub verdict: Option<VerdictRule>,
    /// The state.
    #[serde(default)]
    pub state: StateRule,
}

/// Where a service says whether it can use the key, and what its words mean. Nothing there: it says nothing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerdictRule {
    /// Where.
    pub pointer: String,
    /// The words for a key that can be used; empty where every text is fine that holds none of `bad`.
    #[serde(default)]
    pub good: Vec<String>,
    /// What texts hold that say the key cannot be used; the empty one is in all of them.
    #[serde(default)]
    pub bad: Vec<String>,
    /// Words of a service that is still at work on it.
    #[serde(default)]
    pub under_way: Vec<String>,
}

/// What a service says of its access to the key, in its own words where that is not the best.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It can use it, or says nothing.
    #[default]
    Fine,
    /// It is at work.
    UnderWay(String),
    /// It cannot use it.
    Bad(String),
}

impl VerdictRule {
    fn of(&self, resource: &Value) -> Verdict {
        let Some(found) = resource.pointer(&self.pointer).and_then(Value::as_str) else { return Verdict::Fine };
        let among = |words: &[String]| words.iter().any(|w| w.eq_ignore_ascii_case(found));
        if among(&self.under_way) {
            return Verdict::UnderWay(found.to_owned());
        }
        let is_good = match self.good.is_empty() {
            true => !self.bad.iter().any(|w| found.to_ascii_lowercase().contains(&w.to_ascii_lowercase())),
            false => among(&self.good),
        };
        if is_good { Verdict::Fine } else { Verdict::Bad(found.to_owned()) }
    }
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
    /// Words for a resource that is broken, beside `Failed` and `Canceled`.
    #[serde(default)]
    pub broken: Vec<String>,
}

fn provisioning_state() -> String {
    "/properties/provisioningState".to_owned()
}

impl Default for StateRule {
    fn default() -> Self {
        Self { pointer: provisioning_state(), ready: Vec::new(), broken: Vec::new() }
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
    /// Whether another key of the target is another one.
    pub divided: bool,
    /// What the service says of its access to the key.
    pub verdict: Verdict,
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
    /// `Failed`, `Canceled`, or a word of the type for that.
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
            Some(s) if self.broken.iter().any(|w| w.eq_ignore_ascii_case(s)) => ResourceState::Broken,
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
            divided: !self.also.is_empty() && self.is_divided(resource),
            verdict: self.verdict.as_ref().map(|rule| rule.of(resource)).unwrap_or_default(),
            state: self.state.of(resource),
        }
    }

    fn is_divided(&self, resource: &Value) -> bool {
        let url = |at: &String| resource.pointer(at).and_then(Value::as_str).and_then(KeyId::parse);
        let first = self.key_url.as_ref().and_then(url);
        self.also.iter().any(|at| match (url(at), &first) {
            (Some(also), Some(first)) => !also.same_key(&first.store_uri, &first.name) || also.version != first.version,
            (also, first) => also.is_some() != first.is_some(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::find;
    use serde_json::json;

    const KEY: &str = "https://kv1.vault.azure.net/keys/k/0123456789abcdef0123456789abcdef";

    #[test]
    fn a_target_with_two_keys_has_them_both_or_is_divided() {
        let rule = &find("cassandra-data-center").expect("it is in the catalogue").read_back;
        let older = KEY.replace('0', "f");
        for (disk, backup, divided) in [
            (json!(KEY), json!(KEY), false),
            (json!(KEY), json!(KEY.replace("kv1", "KV1")), false),
            (json!(null), json!(null), false),
            (json!(KEY), json!(null), true),
            (json!(null), json!(KEY), true),
            (json!(KEY), json!(older), true),
            (json!(KEY), json!(KEY.replace("/k/", "/other/")), true),
        ] {
            let target = json!({ "properties":
                { "managedDiskCustomerKeyUri": disk, "backupStorageCustomerKeyUri": backup } });
            assert_eq!(rule.read(&target).divided, divided, "{target}");
        }
    }

    #[test]
    fn what_a_service_says_of_its_key_is_read_in_its_own_words() {
        let says = |slug: &str, pointer: &str, text: Option<&str>| {
            let rule = find(slug).and_then(|d| d.read_back.verdict.clone()).expect("it has one");
            assert_eq!(rule.pointer, pointer);
            let target = pointer.split('/').skip(1).collect::<Vec<_>>();
            rule.of(&target.iter().rev().fold(json!(text), |inner, name| json!({ *name: inner })))
        };
        let cosmos = |text| says("cosmosdb-account", "/properties/customerManagedKeyStatus", text);
        assert_eq!(cosmos(None), Verdict::Fine);
        assert_eq!(cosmos(Some("Access to the configured customer managed key confirmed.")), Verdict::Fine);
        assert!(matches!(cosmos(Some("Access to your account is currently revoked because of a")), Verdict::Bad(_)));
        let netapp = |text| says("netapp-account", "/properties/encryption/keyVaultProperties/status", text);
        assert_eq!(netapp(Some("InUse")), Verdict::Fine);
        assert_eq!(netapp(Some("Updating")), Verdict::UnderWay("Updating".into()));
        assert_eq!(netapp(Some("Error")), Verdict::Bad("Error".into()));
        let set = |text| says("disk-encryption-set", "/properties/autoKeyRotationError/code", text);
        assert_eq!((set(None), set(Some("AnyCode"))), (Verdict::Fine, Verdict::Bad("AnyCode".into())));
    }

    #[test]
    fn a_state_of_the_type_s_own_can_mean_that_it_is_broken() {
        let state = |slug: &str, word: &str| {
            let rule = &find(slug).expect("it is in the catalogue").read_back.state;
            let name = rule.pointer.rsplit('/').next().expect("a name");
            rule.of(&json!({ "properties": { name: word } }))
        };
        for (slug, word, want) in [
            ("postgresql-flexible-server", "Ready", ResourceState::Ready),
            ("postgresql-flexible-server", "Updating", ResourceState::Busy),
            ("postgresql-flexible-server", "inaccessible", ResourceState::Broken),
            ("mysql-flexible-server", "Disabled", ResourceState::Broken),
            ("automation-account", "Suspended", ResourceState::Broken),
            ("storage-encryption-scope", "Disabled", ResourceState::Broken),
            ("storage-account", "Disabled", ResourceState::Busy),
        ] {
            assert_eq!(state(slug, word), want, "{slug} {word}");
        }
    }
}
