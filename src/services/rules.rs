//! What a service's descriptor does not allow, as faults of fields: checked before anything is stored.
//!
//! What belongs here: comparing a request with a descriptor. What does not: rules that need a look at Azure; those are
//! the steps'.

use super::{ServiceDescriptor, find, of_type};
use crate::domain::reader::{Faults, FieldError};
use crate::domain::request::{CmkRequest, IdentityKind, KeyType, TargetCreate};

/// The descriptor for the request's target and every rule of it that the request breaks. Without a descriptor the one
/// fault says so.
pub fn check(request: &CmkRequest) -> (Option<&'static ServiceDescriptor>, Vec<FieldError>) {
    let faults = Faults::default();
    let descriptor = service_of(request, &faults);
    if let Some(descriptor) = descriptor {
        check_against(request, descriptor, &faults);
    }
    (descriptor, faults.into_list())
}

/// The service that the request is about: the one that it names, or the only one of the target's type.
fn service_of(request: &CmkRequest, faults: &Faults) -> Option<&'static ServiceDescriptor> {
    let kind = request.target.resource_id.resource_type();
    let known = of_type(&request.target.resource_id);
    let slugs: Vec<&str> = known.iter().map(|d| d.slug.as_str()).collect();
    let slugs = slugs.join(", ");
    let refuse = |code: &'static str, detail: String| {
        faults.add("/target/service", code, detail);
        None
    };
    match (request.target.service.as_deref(), known.as_slice()) {
        (_, []) => {
            let detail = format!(
                "no service with customer-managed keys is known for the type {kind}; GET /v1/services lists them"
            );
            faults.add("/target/resourceId", "not-allowed", detail);
            None
        }
        (None, [only]) => Some(only),
        (None, _) => {
            refuse("required", format!("several services take a key for the type {kind}; name one of: {slugs}"))
        }
        (Some(named), _) => match known.iter().find(|d| d.slug == named) {
            Some(found) => Some(found),
            None if find(named).is_some() => {
                refuse("not-allowed", format!("{named} is not for the type {kind}, which has: {slugs}"))
            }
            None => refuse("invalid-value", format!("no service has this name; the type {kind} has: {slugs}")),
        },
    }
}

fn check_against(request: &CmkRequest, descriptor: &ServiceDescriptor, faults: &Faults) {
    let name = descriptor.display_name.as_str();
    let refuse = |pointer: &str, detail: String| faults.add(pointer, "not-allowed", detail);
    if !descriptor.is_name(request.target.resource_id.name()) {
        let rule = &descriptor.name_rule.words;
        faults.add("/target/resourceId", "invalid-value", format!("the name of an {name} has {rule}"));
    }
    check_creation(request, descriptor, &refuse);
    check_identity(request, descriptor, &refuse);
    check_key(request, descriptor, &refuse);
    check_store(request, descriptor, &refuse);
    if request.uses_managed_hsm() {
        if !descriptor.managed_hsm {
            refuse("/keyStore/resourceId", format!("an {name} does not take keys of a Managed HSM"));
        }
        if !request.key.key_type.is_hsm() {
            refuse("/key/type", "a Managed HSM holds hardware keys only, for instance RSA-HSM".to_owned());
        }
    }
    if let Some(create) = &request.key_store.create {
        if descriptor.needs_trusted_bypass && !create.network.bypass_trusted_services {
            let detail = format!("an {name} reaches its key as a trusted Microsoft service; the bypass must be on");
            refuse("/keyStore/create/network/bypassTrustedServices", detail);
        }
        let target = request.target.create.as_ref().map(|t| t.location.as_str());
        if descriptor.same_region && target.is_some_and(|t| t != create.location) {
            refuse("/keyStore/create/location", format!("an {name} takes keys of its own region only"));
        }
        if request.key.key_type.is_hsm() && create.sku == crate::domain::request::VaultSku::Standard {
            refuse("/keyStore/create/sku", "hardware keys need a premium vault".into());
        }
    }
}

/// What the service asks of its key store, where the request tells how that one is created, and of the names.
fn check_store(request: &CmkRequest, descriptor: &ServiceDescriptor, refuse: &dyn Fn(&str, String)) {
    let name = &descriptor.display_name;
    let (store, key) = (request.key_store.resource_id.name(), &request.key.name);
    if let Some(most) = descriptor.names_at_most.filter(|most| store.len() + key.len() > *most) {
        refuse(
            "/key/name",
            format!("the names of key store and key of an {name} have at most {most} characters together"),
        );
    }
    let Some(create) = &request.key_store.create else { return };
    if let Some(days) = descriptor.store_retention_days.filter(|days| create.soft_delete_retention_days < *days) {
        let detail = format!("an {name} takes keys of a key store that keeps what is deleted for {days} days");
        refuse("/keyStore/create/softDeleteRetentionDays", detail);
    }
    if descriptor.needs_private_endpoint {
        let detail = format!("an {name} reaches its key through a private endpoint; create the vault and that first");
        refuse("/keyStore/create", detail);
    }
    if descriptor.no_firewall.contains(&request.identity.kind) {
        let kind = identity_word(request.identity.kind);
        let detail = format!(
            "a {kind} identity of an {name} does not pass a key store's firewall, and a vault that is created here has \
             one; name a vault without"
        );
        refuse("/keyStore/create", detail);
    }
    if descriptor.comes_from_addresses && create.network.allowed_ips.is_empty() {
        let detail = format!(
            "an {name} is no trusted service of Key Vault: list the addresses that its resource provider has in the region"
        );
        refuse("/keyStore/create/network/allowedIps", detail);
    }
}

fn check_creation(request: &CmkRequest, descriptor: &ServiceDescriptor, refuse: &dyn Fn(&str, String)) {
    let name = &descriptor.display_name;
    match &request.target.create {
        None if !descriptor.changes_existing => {
            refuse("/target/create", format!("an {name} takes its key only when it is created"));
        }
        Some(_) if descriptor.identity_kinds_at_creation.is_empty() => {
            refuse("/target/create", format!("an {name} is not created here; create it first, then set its key"));
        }
        Some(create) => {
            check_required(request, descriptor, create, refuse);
            let secret = &descriptor.secret_members;
            for name in create.properties.iter().flat_map(|(name, value)| secrets(name, value, secret)) {
                let detail =
                    "a request is stored, so it holds no secrets; create the target with sign-in by Microsoft Entra \
                              ID, or first and without the key"
                        .to_owned();
                refuse(&format!("/target/create/properties/{name}"), detail);
            }
            for property in &descriptor.reserved_properties {
                if create.properties.contains_key(property) {
                    let detail = "this property is set by the service, from the rest of the request".to_owned();
                    refuse(&format!("/target/create/properties/{property}"), detail);
                }
            }
        }
        None => {}
    }
}

/// What the created target has to be, at the member of the request that says otherwise.
fn check_required(
    request: &CmkRequest,
    descriptor: &ServiceDescriptor,
    create: &TargetCreate,
    refuse: &dyn Fn(&str, String),
) {
    let defaults = descriptor.create_properties(&request.target.resource_id, create);
    let sku = create.sku.clone().or_else(|| descriptor.create_defaults.sku.clone());
    let body = serde_json::json!({ "sku": { "name": sku }, "properties": defaults });
    for rule in descriptor.requires.iter().filter(|rule| !rule.is_met(&body)) {
        let pointer = match rule.pointer.strip_prefix("/sku/") {
            Some(_) => "/target/create/sku".to_owned(),
            None => format!("/target/create{}", rule.pointer),
        };
        refuse(&pointer, format!("an {} {}", descriptor.display_name, rule.words));
    }
}

/// The members whose names say that they are secret, or that the service's file names as such, as paths.
fn secrets(name: &str, value: &serde_json::Value, named: &[String]) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let told = ["password", "secret", "sharedkey", "connectionstring", "account.key", "accountkey"];
    let is_secret = told.iter().any(|word| lower.contains(word)) || named.iter().any(|n| n.eq_ignore_ascii_case(name));
    if is_secret && !value.is_object() {
        return vec![name.to_owned()];
    }
    match value {
        serde_json::Value::Object(members) => {
            let inner = members.iter().flat_map(|(name, value)| secrets(name, value, named));
            inner.map(|path| format!("{name}/{path}")).collect()
        }
        serde_json::Value::Array(items) => {
            let inner = items.iter().enumerate().flat_map(|(n, item)| secrets(&n.to_string(), item, named));
            inner.map(|path| format!("{name}/{path}")).collect()
        }
        _ => Vec::new(),
    }
}

fn check_identity(request: &CmkRequest, descriptor: &ServiceDescriptor, refuse: &dyn Fn(&str, String)) {
    let creating = request.target.create.is_some();
    let allowed = descriptor.identity_kinds_for(creating);
    if !allowed.is_empty() && !allowed.contains(&request.identity.kind) {
        let when = if creating { "that is created" } else { "that exists" };
        let words: Vec<String> = allowed.iter().map(|k| identity_word(*k).to_owned()).collect();
        let detail = format!("an {} {when} takes: {}", descriptor.display_name, words.join(", "));
        refuse("/identity/kind", detail);
    }
}

fn check_key(request: &CmkRequest, descriptor: &ServiceDescriptor, refuse: &dyn Fn(&str, String)) {
    let (key, name) = (&request.key, &descriptor.display_name);
    // An HSM's RSA keys are always RSA-HSM; a service that takes its keys takes those.
    let by_hsm = request.uses_managed_hsm() && descriptor.managed_hsm && key.key_type == KeyType::RsaHsm;
    if !descriptor.key_types.contains(&key.key_type) && !by_hsm {
        let words: Vec<&str> = descriptor.key_types.iter().map(|t| t.as_str()).collect();
        refuse("/key/type", format!("an {name} takes: {}", words.join(", ")));
    } else if matches!(key.key_type, KeyType::Rsa | KeyType::RsaHsm) && !descriptor.key_sizes.contains(&key.size) {
        let words: Vec<String> = descriptor.key_sizes.iter().map(u16::to_string).collect();
        refuse("/key/size", format!("an {name} takes RSA keys of {} bits", words.join(", ")));
    }
    for operation in descriptor.key_operations.iter().filter(|op| !key.operations.contains(op)) {
        let detail = format!("an {name} uses its key to {} as well", operation.as_str());
        refuse("/key/operations", detail);
    }
    if !descriptor.key_versions.contains(&key.version) {
        let at = if key.version_id.is_some() { "/key/versionId" } else { "/key/version" };
        refuse(at, format!("an {name} does not take this kind of reference"));
    }
    if key.expires_after.is_some() && !descriptor.keys_may_expire {
        refuse("/key/expiresAfter", format!("an {name} takes keys without an expiration date only"));
    }
}

/// The wire form of an identity kind.
pub fn identity_word(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::UserAssigned => "userAssigned",
        IdentityKind::SystemAssigned => "systemAssigned",
        IdentityKind::Platform => "platform",
    }
}
