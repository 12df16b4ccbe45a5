//! What a rule can ask of a resource: its name, type, tags and, through aliases, any property. An alias is the type's name, a
//! slash and a path; the path is looked for below `properties` first and at the top next, without regard to case.

use serde_json::{Value, json};

use crate::arm::namespaces;
use crate::arm::target::Target;

/// A resource as a policy sees it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub id: String,
    pub name: String,
    kind: String,
    full_name: String,
    resource: Value,
    api_version: String,
    data_plane: bool,
}

impl Subject {
    /// A resource of ARM: the body that it would have.
    pub fn of(target: &Target, resource: Value, api_version: &str) -> Self {
        let kind = namespaces::kind(&target.namespace, &target.kind)
            .map_or_else(|| target.full_kind(), |(n, t)| format!("{}/{}", n.name, t.name));
        let names: Vec<&str> =
            target.id.rsplit("/providers/").next().unwrap_or_default().split('/').skip(2).step_by(2).collect();
        let full_name = if target.is_group() { target.name.clone() } else { names.join("/") };
        Self {
            id: target.id.clone(),
            name: target.name.clone(),
            kind,
            full_name,
            resource,
            api_version: api_version.to_owned(),
            data_plane: false,
        }
    }

    /// A key of a vault, under the names of the mode `Microsoft.KeyVault.Data`.
    pub fn key(vault_id: &str, name: &str, properties: Value) -> Self {
        Self {
            id: vault_id.to_owned(),
            name: name.to_owned(),
            kind: "Microsoft.KeyVault.Data/vaults/keys".to_owned(),
            full_name: name.to_owned(),
            resource: json!({ "properties": properties }),
            api_version: String::new(),
            data_plane: true,
        }
    }

    /// Whether definitions of this mode look at it. `Indexed` looks at types with location and tags only.
    pub fn in_mode(&self, mode: &str) -> bool {
        if self.data_plane {
            return mode.eq_ignore_ascii_case("Microsoft.KeyVault.Data");
        }
        let kind = self.kind.to_lowercase();
        if kind.starts_with("microsoft.authorization/policy") || kind.starts_with("microsoft.authorization/locks") {
            return false;
        }
        match mode.to_lowercase().as_str() {
            "all" => true,
            "indexed" => !kind.starts_with("microsoft.resources/") && !kind.starts_with("microsoft.authorization/"),
            _ => false,
        }
    }

    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// The path that an answer names for a field.
    pub fn path<'f>(&self, field: &'f str) -> &'f str {
        self.alias(field).unwrap_or(field)
    }

    /// The field's values: none where it is absent, several where `[*]` stands in an alias.
    pub fn values(&self, field: &str) -> Vec<Value> {
        let lower = field.to_lowercase();
        let own = |text: &str| vec![Value::from(text)];
        match lower.as_str() {
            "name" => own(&self.name),
            "fullname" => own(&self.full_name),
            "type" => own(&self.kind),
            "id" => own(&self.id),
            "kind" | "location" | "tags" | "identity.type" => self.at(field),
            _ if lower.starts_with("tags.") => self.tag(&field[5..]),
            _ if lower.starts_with("tags[") => self.tag(field[5..].trim_end_matches(']').trim_matches('\'')),
            _ => match self.alias(field) {
                Some(path) => {
                    let below = self.at(&format!("properties.{path}"));
                    if below.is_empty() { self.at(path) } else { below }
                }
                None => Vec::new(),
            },
        }
    }

    fn tag(&self, name: &str) -> Vec<Value> {
        let tags = member(&self.resource, "tags").and_then(Value::as_object).into_iter().flatten();
        tags.into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()).collect()
    }

    /// The path of an alias of this subject's own type.
    fn alias<'f>(&self, field: &'f str) -> Option<&'f str> {
        let head = field.get(..self.kind.len())?;
        head.eq_ignore_ascii_case(&self.kind).then(|| field[self.kind.len()..].strip_prefix('/')).flatten()
    }

    fn at(&self, path: &str) -> Vec<Value> {
        let mut found = vec![&self.resource];
        for step in path.split('.') {
            let (name, each) = step.strip_suffix("[*]").map_or((step, false), |name| (name, true));
            found = found.into_iter().filter_map(|v| member(v, name)).collect();
            if each {
                found = found.into_iter().filter_map(Value::as_array).flatten().collect();
            }
        }
        found.into_iter().filter(|v| !v.is_null()).cloned().collect()
    }
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.as_object()?.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
}

/// Whether a field has a form that can be looked up at all.
pub(crate) fn known(field: &str) -> bool {
    let lower = field.to_lowercase();
    ["name", "fullname", "type", "id", "kind", "location", "tags", "identity.type"].contains(&lower.as_str())
        || lower.strip_prefix("tags.").is_some_and(|t| !t.is_empty())
        || (lower.starts_with("tags[") && lower.ends_with(']'))
        || (field.split('/').count() >= 3 && field.split('/').all(|p| !p.is_empty()) && !field.contains(['(', ' ']))
}
