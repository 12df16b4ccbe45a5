//! How one Azure service takes a customer-managed key, as data.
//!
//! What belongs here: the words that a file of the catalogue may use, and what they mean. What does not: a word about
//! any one service; those are the files in `catalogue/`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::demands::{Identities, NameRule, Requirement};
use super::read_back::ReadBackRule;
use super::roles::{self, Role};
use crate::domain::ids::{ArmId, PrincipalId};
use crate::domain::request::{IdentityKind, KeyOperation, KeyType, KeyVersion};

/// How one Azure service takes a customer-managed key. Read from a file of the catalogue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceDescriptor {
    /// The service's name in the API; never renamed.
    pub slug: String,
    /// The service's name in Azure's words.
    pub display_name: String,
    /// The ARM type of the target.
    pub arm_type: String,
    /// The api-version used for it.
    pub api_version: String,
    /// Identity kinds for a target that exists.
    pub identity_kinds: Vec<IdentityKind>,
    /// Identity kinds for a target that is created with its key in the first PUT; empty where creation is not offered.
    pub identity_kinds_at_creation: Vec<IdentityKind>,
    /// Whether a target that exists can be changed in place.
    pub changes_existing: bool,
    /// Key types the service takes.
    pub key_types: Vec<KeyType>,
    /// RSA sizes the service takes, in bits.
    pub key_sizes: Vec<u16>,
    /// Whether it takes a reference without a version, with one, or both.
    pub key_versions: Vec<KeyVersion>,
    /// Whether a reference without a version makes it go over to newer versions by itself.
    #[serde(default = "yes")]
    pub follows_versions: bool,
    /// Whether it takes keys that have an expiration date.
    #[serde(default = "yes")]
    pub keys_may_expire: bool,
    /// Whether the key may live in a Managed HSM.
    pub managed_hsm: bool,
    /// Whether key store and target must be in one region.
    pub same_region: bool,
    /// Whether the service reaches a firewalled vault as a trusted Microsoft service, so that the bypass must be on.
    pub needs_trusted_bypass: bool,
    /// Whether the setting can be taken back to a Microsoft-managed key.
    pub reversible: bool,
    /// The role its identity needs on a Key Vault.
    #[serde(deserialize_with = "roles::by_name")]
    pub vault_role: Role,
    /// What names are allowed.
    pub name_rule: NameRule,
    /// What a target has to be beside its type.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// Types below a target that exists of which there may be none when it gets its first key of a customer's.
    #[serde(default)]
    pub empty_of: Vec<String>,
    /// What the key has to be usable for, beside wrapping and unwrapping.
    #[serde(default)]
    pub key_operations: Vec<KeyOperation>,
    /// The most characters that the names of key store and key may have together.
    #[serde(default)]
    pub names_at_most: Option<usize>,
    /// The least days for which the key store has to keep what is deleted.
    #[serde(default)]
    pub store_retention_days: Option<u8>,
    /// Whether the key store has to have a private endpoint.
    #[serde(default)]
    pub needs_private_endpoint: bool,
    /// Kinds of identity that do not pass the firewall of a key store, not even as a trusted service.
    #[serde(default)]
    pub no_firewall: Vec<IdentityKind>,
    /// Whether the service comes to the key store from addresses of its own that the firewall has to list.
    #[serde(default)]
    pub comes_from_addresses: bool,
    /// Names of members of `properties` that hold secrets, beside those whose names say so.
    #[serde(default)]
    pub secret_members: Vec<String>,
    /// SKU and kind of a created target where the request names none.
    #[serde(default)]
    pub create_defaults: CreateDefaults,
    /// Members of `properties` that a request may not set, because the service sets them or because they are secret.
    #[serde(default)]
    pub reserved_properties: Vec<String>,
    /// Facts that Azure's documentation leaves open, in words.
    #[serde(default)]
    pub unverified: Vec<String>,
    /// What a caller should know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Which resource holds the identity that reads the key.
    #[serde(default)]
    pub identity_on: IdentityOn,
    /// The application whose principal reads the key, for identities of the kind `platform`.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// The principal that reads the key where the identity is the target's own; absent where it is that of `identity`.
    #[serde(default)]
    pub own_principal: Option<OwnPrincipal>,
    /// How the type spells an identity of both kinds: most take `SystemAssigned,UserAssigned`, some want a space in it.
    #[serde(default)]
    pub combined_identity: CombinedIdentity,
    /// Whether the type takes user-assigned identities without its own beside them.
    #[serde(default = "yes")]
    pub user_assigned_alone: bool,
    /// How many identities the holder may have at a time.
    #[serde(default)]
    pub identities: Identities,
    /// How the identity is attached to a target that exists.
    #[serde(default)]
    pub attach: Attach,
    /// The writes that set the key of a target that exists, in order; the last one is the setting.
    #[serde(default)]
    pub configure: Vec<Write>,
    /// The PUT that creates the target with the key.
    #[serde(default)]
    pub create: Option<Create>,
    /// Where a setting that is a resource of its own lies below the target, for instance `/encryptionProtector/current`.
    #[serde(default)]
    pub setting_at: Option<String>,
    /// Where the target says its etag, for types that take `If-Match`: a PUT that is merged with what was read then replaces
    /// that and nothing newer. Types that take it in the body have it among `putMembers`.
    #[serde(default)]
    pub etag: Option<String>,
    /// Members that may be sent back in a PUT that is merged with what was read.
    #[serde(default)]
    pub put_members: PutMembers,
    /// What a read of the target says about its key.
    pub read_back: ReadBackRule,
}

const fn yes() -> bool {
    true
}

/// What a created target is where the request does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateDefaults {
    /// The SKU's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// One of Azure's own applications.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Platform {
    /// Its name in the directory.
    pub name: String,
    /// Its application id.
    pub app_id: Uuid,
    /// Its application id in Azure Government, where that is another one.
    #[serde(default)]
    pub app_id_us_government: Option<Uuid>,
}

/// Which resource holds the identity that reads the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityOn {
    /// The target.
    #[default]
    Target,
    /// The resource that the target lies in.
    Parent,
    /// None: the body names a user-assigned identity, and nothing is attached.
    Named,
}

/// The principal of an identity that a type makes for itself, and says somewhere else than in `identity`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnPrincipal {
    /// Where it is told. Nothing stands there before it is made.
    pub at: String,
    /// The write that makes it.
    pub made_by: MadeBy,
}

/// The write that makes a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MadeBy {
    /// The one of `attach`.
    Attach,
    /// The one that sets the key, so that nothing can be granted before it.
    Key,
}

/// When the principal that is to read the key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Before the target is touched.
    Before,
    /// Once the identity is attached.
    Attached,
    /// Once the target names the key.
    Keyed,
}

/// How a type spells an identity of both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CombinedIdentity {
    /// Without a space.
    #[default]
    #[serde(rename = "SystemAssigned,UserAssigned")]
    Tight,
    /// With one.
    #[serde(rename = "SystemAssigned, UserAssigned")]
    Spaced,
}

impl CombinedIdentity {
    /// Azure's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tight => "SystemAssigned,UserAssigned",
            Self::Spaced => "SystemAssigned, UserAssigned",
        }
    }
}

/// How the identity is attached to a target that exists.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attach {
    /// `patch`, or `merge-put` where a PATCH cannot carry an identity.
    #[serde(default)]
    pub method: Method,
    /// What goes with the identity in the same body, as a template.
    #[serde(default)]
    pub with: Option<Value>,
    /// Where the target names the user-assigned identity that it uses by default, when `with` sets that.
    #[serde(default)]
    pub primary: Option<String>,
}

/// How something is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The members that change.
    #[default]
    Patch,
    /// The whole body.
    Put,
    /// The whole body: what was read, with the members that change.
    MergePut,
}

/// One write on the way to the key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// How.
    pub method: Method,
    /// Below the target, as a template; empty for the target itself. Every write but the last makes a resource there,
    /// unless it exists.
    #[serde(default)]
    pub at: String,
    /// The body, as a template.
    pub body: Value,
}

/// The PUT that creates the target with the key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Create {
    /// Properties that the request may set otherwise, as a template.
    #[serde(default)]
    pub defaults: Value,
    /// The body, as a template; its `properties` are laid over those of the request.
    pub body: Value,
    /// The body of a target that is created with its own identity and without the key, as such a template; `configure`
    /// sets the key once the identity may use it, so that creating takes two writes. It needs a place for tags, by which a
    /// later look knows that this job made the target.
    #[serde(default)]
    pub without_key: Option<Value>,
    /// Whether a target that is created with its own identity names the key in its first PUT, although nothing is granted
    /// yet.
    #[serde(default)]
    pub before_grant: bool,
}

/// Members that may be sent back in a PUT: the writable ones of the ARM type, to one level below `properties`, and what is
/// read-only below them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutMembers {
    /// At the top.
    #[serde(default)]
    pub top: Vec<String>,
    /// Within `properties`.
    #[serde(default)]
    pub properties: Vec<String>,
    /// Read-only members within those, as pointers; `*` is every item of a list or member of a map.
    #[serde(default)]
    pub without: Vec<String>,
}

impl ServiceDescriptor {
    /// Whether a target's name is allowed.
    pub fn is_name(&self, name: &str) -> bool {
        self.name_rule.admits(name)
    }

    /// When the principal that is to read the key is known, on this way.
    pub fn principal_known(&self, kind: IdentityKind, creating: bool) -> Known {
        let with_the_key = match &self.create {
            Some(create) if creating => create.before_grant,
            _ => self.own_principal.as_ref().is_some_and(|own| own.made_by == MadeBy::Key),
        };
        match kind {
            IdentityKind::UserAssigned | IdentityKind::Platform => Known::Before,
            IdentityKind::SystemAssigned if with_the_key => Known::Keyed,
            IdentityKind::SystemAssigned => Known::Attached,
        }
    }

    /// Whether a target of this identity kind is created first and gets its key in a second write.
    pub fn creates_in_two(&self, kind: IdentityKind) -> bool {
        kind == IdentityKind::SystemAssigned && self.create.as_ref().is_some_and(|c| c.without_key.is_some())
    }

    /// The principal of the holder's own identity, once it is told.
    pub fn principal_of(&self, holder: &Value) -> Option<PrincipalId> {
        let at = self.own_principal.as_ref().map_or("/identity/principalId", |own| own.at.as_str());
        holder.pointer(at)?.as_str()?.parse().ok().map(PrincipalId)
    }

    /// The resource that holds the identity.
    pub fn identity_holder(&self, target: &ArmId) -> Option<ArmId> {
        match self.identity_on {
            IdentityOn::Target | IdentityOn::Named => Some(target.clone()),
            IdentityOn::Parent => target.parent(),
        }
    }

    /// Whether an answer about the target is all that a look at it would see.
    pub fn answers_whole(&self) -> bool {
        self.setting_at.is_none() && self.identity_on != IdentityOn::Parent
    }

    /// How many writes set the key of a target that exists; one that is created takes one.
    pub fn writes(&self) -> u32 {
        u32::try_from(self.configure.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The identity kinds for this request's way.
    pub fn identity_kinds_for(&self, creating: bool) -> &[IdentityKind] {
        if creating { &self.identity_kinds_at_creation } else { &self.identity_kinds }
    }

    /// Whether the one write that sets the key of a target that exists names its identities too.
    pub fn key_brings_identity(&self) -> bool {
        let [write] = &self.configure[..] else { return false };
        let identity = write.body.get("identity").and_then(Value::as_str);
        self.identity_on == IdentityOn::Target && write.at.is_empty() && identity == Some("{identityMember}")
    }

    /// The etag of a resource that was read, where a write by this method is to replace that and nothing newer.
    pub fn if_match(&self, method: Method, resource: &Value) -> Option<String> {
        let pointer = self.etag.as_deref().filter(|_| method == Method::MergePut)?;
        resource.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    }

    /// What may be sent back of a resource that was read.
    pub fn sent_back(&self, resource: &Value) -> Value {
        let keep = |value: &Value, names: &[String]| -> Map<String, Value> {
            let members = value.as_object().into_iter().flatten();
            members
                .filter(|(name, v)| names.contains(name) && !v.is_null())
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect()
        };
        let mut body = keep(resource, &self.put_members.top);
        if let Some(properties) = resource.get("properties") {
            body.insert("properties".into(), keep(properties, &self.put_members.properties).into());
        }
        let mut body = body.into();
        for pointer in &self.put_members.without {
            let path: Vec<&str> = pointer.split('/').skip(1).collect();
            remove(&mut body, &path);
        }
        body
    }
}

/// Takes out what stands at a path, if something does.
fn remove(value: &mut Value, path: &[&str]) {
    match (path, value) {
        ([last], Value::Object(members)) => {
            members.remove(*last);
        }
        (["*", rest @ ..], Value::Object(members)) => members.values_mut().for_each(|v| remove(v, rest)),
        (["*", rest @ ..], Value::Array(items)) => items.iter_mut().for_each(|v| remove(v, rest)),
        ([name, rest @ ..], Value::Object(members)) => {
            if let Some(value) = members.get_mut(*name) {
                remove(value, rest);
            }
        }
        _ => {}
    }
}
