//! Bodies from templates.
//!
//! What belongs here: the template language of the catalogue. A text may hold words in braces; `{identityMember}` and
//! `{tags}` stand for whole values. An object with the one member `$identity` or `$version` chooses by the kind of
//! identity or of reference, and the member that it is the value of is left out where nothing is said for the choice.
//! What does not: any service's body.

use serde_json::{Map, Value, json};

use super::{Binding, BoundIdentity, ServiceDescriptor, merged_identity};
use crate::domain::ids::ArmId;
use crate::domain::request::TargetCreate;

/// Every word that a template may use.
pub const WORDS: &[&str] = &[
    "storeUri",
    "storeId",
    "storeName",
    "keyName",
    "keyVersion",
    "keyUrl",
    "keyUrlVersioned",
    "currentVersion",
    "identityId",
    "clientId",
    "identityMember",
    "name",
    "location",
    "sku",
    "kind",
    "tags",
];

/// What the words of a template stand for.
pub struct Words<'a> {
    binding: &'a Binding,
    target: &'a ArmId,
    create: Option<(&'a TargetCreate, &'a ServiceDescriptor)>,
}

impl<'a> Words<'a> {
    /// For a target that exists.
    pub fn new(binding: &'a Binding, target: &'a ArmId) -> Self {
        Self { binding, target, create: None }
    }

    fn whole(&self, word: &str) -> Option<Value> {
        match word {
            "identityMember" => Some(self.binding.identity_member.clone()),
            "tags" => self.create.map(|(create, _)| json!(create.tags)),
            _ => None,
        }
    }

    fn text(&self, word: &str) -> Option<String> {
        let b = self.binding;
        let url = |version: Option<&str>| match version {
            Some(version) => format!("{}/keys/{}/{version}", b.store_uri, b.key_name),
            None => format!("{}/keys/{}", b.store_uri, b.key_name),
        };
        Some(match word {
            "storeUri" => b.store_uri.clone(),
            "storeId" => b.store_id.as_str().to_owned(),
            "storeName" => b.store_id.name().to_owned(),
            "keyName" => b.key_name.clone(),
            "keyVersion" => b.key_version.clone().unwrap_or_default(),
            "currentVersion" => b.current_version.clone(),
            "keyUrl" => url(b.key_version.as_deref()),
            "keyUrlVersioned" => url(Some(&b.current_version)),
            "identityId" => match &b.identity {
                BoundIdentity::UserAssigned { id, .. } => id.as_str().to_owned(),
                BoundIdentity::SystemAssigned | BoundIdentity::Platform => return None,
            },
            "clientId" => match &b.identity {
                BoundIdentity::UserAssigned { client_id, .. } => client_id.as_ref()?.0.to_string(),
                BoundIdentity::SystemAssigned | BoundIdentity::Platform => return None,
            },
            "name" => self.target.name().to_owned(),
            "location" => self.create?.0.location.clone(),
            "sku" => self.create.and_then(|(c, d)| c.sku.clone().or_else(|| d.create_defaults.sku.clone()))?,
            "kind" => self.create.and_then(|(c, d)| c.kind.clone().or_else(|| d.create_defaults.kind.clone()))?,
            _ => return None,
        })
    }

    fn choice(&self, by: &str) -> Option<&'static str> {
        match by {
            "$identity" => Some(match &self.binding.identity {
                BoundIdentity::UserAssigned { .. } => "userAssigned",
                BoundIdentity::SystemAssigned => "systemAssigned",
                BoundIdentity::Platform => "platform",
            }),
            "$version" => Some(if self.binding.key_version.is_some() { "pinned" } else { "latest" }),
            _ => None,
        }
    }

    /// The text with its words filled in; `None` where one of them stands for nothing here.
    pub fn fill(&self, text: &str) -> Option<String> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}')?;
            filled.push_str(before);
            filled.push_str(&self.text(word)?);
            rest = after;
        }
        filled.push_str(rest);
        Some(filled)
    }

    /// The value of a template; `None` where it is to be left out.
    pub fn render(&self, template: &Value) -> Option<Value> {
        match template {
            Value::String(text) => {
                let word = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
                word.and_then(|word| self.whole(word)).or_else(|| self.fill(text).map(Value::String))
            }
            Value::Array(items) => Some(items.iter().filter_map(|item| self.render(item)).collect()),
            Value::Object(members) => self.render_object(members),
            other => Some(other.clone()),
        }
    }

    fn render_object(&self, members: &Map<String, Value>) -> Option<Value> {
        if members.len() == 1
            && let Some((by, choices)) = members.iter().next()
            && let Some(choice) = self.choice(by)
        {
            return choices.get(choice).and_then(|chosen| self.render(chosen));
        }
        let rendered = members.iter().filter_map(|(name, value)| Some((self.fill(name)?, self.render(value)?)));
        Some(Value::Object(rendered.collect()))
    }
}

impl ServiceDescriptor {
    /// The body of a write that sets the key of a target that exists. `seen` is the target as it was read.
    pub fn write_body(&self, write: &super::Write, binding: &Binding, target: &ArmId, seen: &Value) -> Value {
        let rendered = Words::new(binding, target).render(&write.body).unwrap_or_default();
        match write.method {
            super::Method::MergePut => laid_over(self.sent_back(seen), rendered),
            super::Method::Patch | super::Method::Put => rendered,
        }
    }

    /// The body that attaches the identity to the resource that holds it. `holder` is that resource as it was read.
    pub fn attach_body(&self, identity: &BoundIdentity, target: &ArmId, holder: &Value) -> Value {
        let binding = self.keyless(identity, target, holder.get("identity"));
        let with = self.attach.with.as_ref().and_then(|with| Words::new(&binding, target).render(with));
        let member = match self.own_principal {
            None => json!({ "identity": binding.identity_member }),
            // The type has no such member.
            Some(_) => json!({}),
        };
        let body = laid_over(member, with.unwrap_or(json!({})));
        match self.attach.method {
            super::Method::MergePut => laid_over(self.sent_back(holder), body),
            super::Method::Patch | super::Method::Put => body,
        }
    }

    /// A binding for bodies with nothing of a key in them.
    fn keyless(&self, identity: &BoundIdentity, target: &ArmId, existing: Option<&Value>) -> Binding {
        Binding {
            identity: identity.clone(),
            identity_member: merged_identity(existing, identity, self),
            store_uri: String::new(),
            store_id: target.clone(),
            key_name: String::new(),
            key_version: None,
            current_version: String::new(),
        }
    }

    /// The body of the PUT that creates the target with its own identity and without the key; `None` where creating is one
    /// write.
    pub fn create_body_without_key(&self, target: &ArmId, create: &TargetCreate) -> Option<Value> {
        let offered = self.create.as_ref()?;
        let binding = self.keyless(&BoundIdentity::SystemAssigned, target, None);
        self.created(&binding, target, create, &offered.defaults, offered.without_key.as_ref()?)
    }

    /// The body of the PUT that creates the target with the key; `None` where creation is not offered.
    pub fn create_body(&self, binding: &Binding, target: &ArmId, create: &TargetCreate) -> Option<Value> {
        let offered = self.create.as_ref()?;
        self.created(binding, target, create, &offered.defaults, &offered.body)
    }

    /// The properties of a target that is created, as far as the request and the service's defaults say.
    pub fn create_properties(&self, target: &ArmId, create: &TargetCreate) -> Value {
        let binding = self.keyless(&BoundIdentity::Platform, target, None);
        let words = Words { binding: &binding, target, create: Some((create, self)) };
        let defaults = self.create.as_ref().and_then(|c| words.render(&c.defaults)).filter(Value::is_object);
        laid_over(defaults.unwrap_or_else(|| json!({})), Value::Object(create.properties.clone()))
    }

    fn created(
        &self,
        binding: &Binding,
        target: &ArmId,
        create: &TargetCreate,
        defaults: &Value,
        body: &Value,
    ) -> Option<Value> {
        let words = Words { binding, target, create: Some((create, self)) };
        let defaults = words.render(defaults).filter(Value::is_object).unwrap_or_else(|| json!({}));
        let properties = laid_over(defaults, Value::Object(create.properties.clone()));
        Some(laid_over(json!({ "properties": properties }), words.render(body)?))
    }
}

/// Objects merged member by member, everything else replaced.
pub fn laid_over(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Object(mut below), Value::Object(above)) => {
            for (name, value) in above {
                let merged = match below.remove(&name) {
                    Some(under) => laid_over(under, value),
                    None => value,
                };
                below.insert(name, merged);
            }
            Value::Object(below)
        }
        (_, above) => above,
    }
}
