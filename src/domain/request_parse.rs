//! From a caller's JSON body to a `CmkRequest`: shape, bounds, defaults, all faults at once.
//!
//! What belongs here: rules that hold for every Azure service. What does not: what single services allow, which
//! `services::rules` adds to the same list of faults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::duration::IsoDuration;
use super::ids::ArmId;
use super::job::JobKind;
use super::reader::{Faults, Field, FieldError, Object};
use super::request::{
    Acknowledgement, CmkRequest, IDENTITY_TYPE, Identity, IdentityCreate, IdentityKind, Key, KeyOperation, KeyStore,
    KeyStoreCreate, KeyType, KeyVersion, MANAGED_HSM_TYPE, Network, OnDeletedName, Rotation, SUBNET_TYPE, Target,
    TargetCreate, VAULT_TYPE, VaultSku,
};

const MAX_LABELS: usize = 20;
const MAX_TAGS: usize = 50;
const MAX_DEPTH: usize = 16;
const DEFAULT_ACCESS_TIMEOUT: &str = "PT20M";

/// Reads a body. The request is there as soon as target and key store could be read, with defaults in place of faulty
/// fields, so that a service's own rules can be checked in the same pass; it may be used only if no fault was found.
pub fn parse(body: &Value) -> (Option<CmkRequest>, Vec<FieldError>) {
    let faults = Faults::default();
    if depth(body) > MAX_DEPTH {
        faults.add("", "invalid-value", format!("expected at most {MAX_DEPTH} levels of nesting"));
        return (None, faults.into_list());
    }
    let request = read(&Field::root(body, &faults));
    (request, faults.into_list())
}

fn read(root: &Field) -> Option<CmkRequest> {
    let body = root.object(&[
        "kind",
        "target",
        "keyStore",
        "key",
        "identity",
        "createResourceGroups",
        "accessTimeout",
        "acknowledge",
        "labels",
    ])?;
    let kind = body.get("kind").and_then(|f| f.one_of(&[("provision", JobKind::Provision)])).unwrap_or_default();
    let target = body.require("target").and_then(|f| read_target(&f));
    let key_store = body.require("keyStore").and_then(|f| read_key_store(&f));
    let on_hsm = key_store.as_ref().is_some_and(|s| s.resource_id.is_type(MANAGED_HSM_TYPE));
    let target_name = target.as_ref().map_or("target", |t| t.resource_id.name());
    let key = read_key(body.get("key"), target_name, on_hsm);
    let identity = read_identity(body.get("identity"), target.as_ref());
    let create_resource_groups = body.get("createResourceGroups").and_then(|f| f.boolean()).unwrap_or(false);
    let access_timeout =
        body.get("accessTimeout").and_then(|f| read_access_timeout(&f)).unwrap_or_else(default_timeout);
    let acknowledge = body.get("acknowledge").map(|f| read_acknowledge(&f)).unwrap_or_default();
    let labels = body.get("labels").map(|f| read_pairs(&f, MAX_LABELS, 63, 255)).unwrap_or_default();
    Some(CmkRequest {
        kind,
        target: target?,
        key_store: key_store?,
        key,
        identity,
        create_resource_groups,
        access_timeout,
        acknowledge,
        labels,
    })
}

fn read_target(field: &Field) -> Option<Target> {
    let body = field.object(&["resourceId", "create"])?;
    let resource_id = body.require("resourceId").and_then(|f| read_arm_id(&f));
    let create = body.get("create").and_then(|f| read_target_create(&f));
    Some(Target { resource_id: resource_id?, create })
}

fn read_target_create(field: &Field) -> Option<TargetCreate> {
    let body = field.object(&["location", "sku", "kind", "tags", "properties"])?;
    let word = |name: &str| body.get(name).and_then(|f| f.text(64)).map(str::to_owned);
    Some(TargetCreate {
        location: read_location(&body, "location").unwrap_or_default(),
        sku: word("sku"),
        kind: word("kind"),
        tags: body.get("tags").map(|f| read_pairs(&f, MAX_TAGS, 512, 256)).unwrap_or_default(),
        properties: body.get("properties").and_then(|f| f.map().cloned()).unwrap_or_default(),
    })
}

fn read_key_store(field: &Field) -> Option<KeyStore> {
    let body = field.object(&["resourceId", "create", "onDeletedName"])?;
    let id_field = body.require("resourceId");
    let resource_id = id_field.as_ref().and_then(read_arm_id);
    if let (Some(field), Some(id)) = (&id_field, &resource_id) {
        if id.is_type(VAULT_TYPE) {
            check_name(
                field,
                id.name(),
                is_vault_name,
                "a vault name: 3 to 24 letters, digits and single hyphens, starting with a letter",
            );
        } else if id.is_type(MANAGED_HSM_TYPE) {
            check_name(
                field,
                id.name(),
                is_hsm_name,
                "a Managed HSM name: 3 to 24 letters and digits, starting with a letter",
            );
        } else {
            field.fault("invalid-value", format!("expected an id of type {VAULT_TYPE} or {MANAGED_HSM_TYPE}"));
        }
    }
    let create = body.get("create").and_then(|f| {
        if resource_id.as_ref().is_some_and(|id| id.is_type(MANAGED_HSM_TYPE)) {
            f.fault(
                "not-allowed",
                "a Managed HSM is never created here: activating it makes files that only its owner may hold",
            );
        }
        read_key_store_create(&f)
    });
    let words = [("fail", OnDeletedName::Fail), ("recover", OnDeletedName::Recover)];
    let on_deleted_name = body.get("onDeletedName").and_then(|f| f.one_of(&words)).unwrap_or_default();
    Some(KeyStore { resource_id: resource_id?, create, on_deleted_name })
}

fn read_key_store_create(field: &Field) -> Option<KeyStoreCreate> {
    let body = field.object(&["location", "sku", "softDeleteRetentionDays", "network", "tags"])?;
    let skus = [("standard", VaultSku::Standard), ("premium", VaultSku::Premium)];
    let days = body.get("softDeleteRetentionDays").and_then(|f| f.integer(7, 90)).unwrap_or(90);
    Some(KeyStoreCreate {
        location: read_location(&body, "location").unwrap_or_default(),
        sku: body.get("sku").and_then(|f| f.one_of(&skus)).unwrap_or_default(),
        soft_delete_retention_days: u8::try_from(days).unwrap_or(90),
        network: body.get("network").and_then(|f| read_network(&f)).unwrap_or_default(),
        tags: body.get("tags").map(|f| read_pairs(&f, 15, 512, 256)).unwrap_or_default(),
    })
}

fn read_network(field: &Field) -> Option<Network> {
    let body = field.object(&["allowedIps", "allowedSubnets", "bypassTrustedServices"])?;
    let ips = body.get("allowedIps").and_then(|f| f.items(1000)).unwrap_or_default();
    let subnets = body.get("allowedSubnets").and_then(|f| f.items(200)).unwrap_or_default();
    Some(Network {
        allowed_ips: ips.iter().filter_map(read_ip).collect(),
        allowed_subnets: subnets.iter().filter_map(read_subnet).collect(),
        bypass_trusted_services: body.get("bypassTrustedServices").and_then(|f| f.boolean()).unwrap_or(true),
    })
}

/// An address or range; Key Vault takes public IPv4 only and refuses private ranges.
fn read_ip(field: &Field) -> Option<ipnet::Ipv4Net> {
    let text = field.text(18)?;
    let net = match text.parse::<std::net::Ipv4Addr>() {
        Ok(address) => Some(ipnet::Ipv4Net::from(address)),
        Err(_) => text.parse().ok(),
    };
    match net {
        None => field.fault("invalid-value", "expected an IPv4 address or CIDR range, for instance 203.0.113.0/24"),
        Some(net) if net.addr() != net.network() => {
            field.fault("invalid-value", format!("host bits are set; did you mean {}?", net.trunc()));
        }
        Some(net) if net.network().is_private() || net.network().is_loopback() || net.network().is_link_local() => {
            field
                .fault("not-allowed", "Key Vault takes public addresses only; use allowedSubnets for private networks");
        }
        Some(net) => return Some(net),
    }
    None
}

fn read_subnet(field: &Field) -> Option<ArmId> {
    let id = read_arm_id(field)?;
    if !id.is_type(SUBNET_TYPE) {
        field.fault("invalid-value", format!("expected an id of type {SUBNET_TYPE}"));
        return None;
    }
    Some(id)
}

fn read_key(field: Option<Field>, target_name: &str, on_hsm: bool) -> Key {
    let default = default_key(target_name, on_hsm);
    let Some(body) =
        field.as_ref().and_then(|f| f.object(&["name", "type", "size", "operations", "version", "rotation"]))
    else {
        return default;
    };
    let key_type = body.get("type").and_then(|f| f.one_of(KeyType::WORDS)).unwrap_or(default.key_type);
    let versions = [("latest", KeyVersion::Latest), ("pinned", KeyVersion::Pinned)];
    Key {
        name: body.get("name").and_then(|f| read_key_name(&f)).unwrap_or(default.name),
        key_type,
        size: body.get("size").and_then(|f| read_key_size(&f)).unwrap_or(default.size),
        operations: body.get("operations").map_or(default.operations, |f| read_operations(&f)),
        version: body.get("version").and_then(|f| f.one_of(&versions)).unwrap_or_default(),
        rotation: body.get("rotation").and_then(|f| read_rotation(&f)),
    }
}

fn default_key(target_name: &str, on_hsm: bool) -> Key {
    let base: String = target_name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(123).collect();
    Key {
        name: format!("{base}-cmk"),
        key_type: if on_hsm { KeyType::RsaHsm } else { KeyType::Rsa },
        size: 4096,
        operations: KeyOperation::all(),
        version: KeyVersion::Latest,
        rotation: None,
    }
}

fn read_key_name(field: &Field) -> Option<String> {
    let name = field.text(127)?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        field.fault("invalid-value", "expected 1 to 127 letters, digits and hyphens");
        return None;
    }
    Some(name.to_owned())
}

fn read_key_size(field: &Field) -> Option<u16> {
    let size = field.integer(1, u64::from(u16::MAX))?;
    if !matches!(size, 2048 | 3072 | 4096) {
        field.fault("out-of-range", "expected 2048, 3072 or 4096");
        return None;
    }
    u16::try_from(size).ok()
}

fn read_operations(field: &Field) -> Vec<KeyOperation> {
    let mut operations: Vec<KeyOperation> =
        field.items(6).unwrap_or_default().iter().filter_map(|f| f.one_of(KeyOperation::WORDS)).collect();
    operations.sort_unstable();
    operations.dedup();
    for (needed, word) in [(KeyOperation::WrapKey, "wrapKey"), (KeyOperation::UnwrapKey, "unwrapKey")] {
        if field.value().is_array() && !operations.contains(&needed) {
            field.fault(
                "invalid-value",
                format!("{word} is missing: Azure services wrap and unwrap their data keys with it"),
            );
        }
    }
    operations
}

fn read_rotation(field: &Field) -> Option<Rotation> {
    let body = field.object(&["every"])?;
    let every_field = body.require("every")?;
    let every = read_duration(&every_field)?;
    if every.approximate().as_secs() < 7 * 86_400 || every.approximate().as_secs() > 10 * 366 * 86_400 {
        every_field.fault("out-of-range", "expected seven days to ten years, for instance P1Y");
        return None;
    }
    Some(Rotation { every })
}

fn read_identity(field: Option<Field>, target: Option<&Target>) -> Identity {
    let default = Identity {
        kind: IdentityKind::UserAssigned,
        resource_id: target.and_then(default_identity_id),
        create: Some(IdentityCreate::default()),
    };
    let Some(field) = field else { return default };
    let Some(body) = field.object(&["kind", "resourceId", "create"]) else { return default };
    let words = [
        ("userAssigned", IdentityKind::UserAssigned),
        ("systemAssigned", IdentityKind::SystemAssigned),
        ("platform", IdentityKind::Platform),
    ];
    let kind = body.get("kind").and_then(|f| f.one_of(&words)).unwrap_or_default();
    if kind != IdentityKind::UserAssigned {
        for name in ["resourceId", "create"] {
            if let Some(extra) = body.get(name) {
                extra.fault("not-allowed", "only a user-assigned identity has this field");
            }
        }
        return Identity { kind, resource_id: None, create: None };
    }
    let create = body.get("create").and_then(|f| {
        let body = f.object(&["location"])?;
        Some(IdentityCreate { location: body.get("location").and_then(|_| read_location(&body, "location")) })
    });
    let resource_id = match body.get("resourceId") {
        Some(f) => read_identity_id(&f),
        // A kind alone, or `create` alone, means the default identity.
        None => return Identity { create: create.or(default.create), ..default },
    };
    Identity { kind, resource_id, create }
}

fn read_identity_id(field: &Field) -> Option<ArmId> {
    let id = read_arm_id(field)?;
    if !id.is_type(IDENTITY_TYPE) {
        field.fault("invalid-value", format!("expected an id of type {IDENTITY_TYPE}"));
        return None;
    }
    check_name(
        field,
        id.name(),
        is_identity_name,
        "an identity name: 3 to 128 letters, digits, hyphens and underscores, starting with a letter or digit",
    );
    Some(id)
}

fn default_identity_id(target: &Target) -> Option<ArmId> {
    let id = &target.resource_id;
    let name: String = format!("id-{}", id.name()).chars().map(|c| if c == '.' { '-' } else { c }).take(128).collect();
    ArmId::build(id.subscription(), id.resource_group(), IDENTITY_TYPE, &name).ok()
}

fn read_access_timeout(field: &Field) -> Option<IsoDuration> {
    let timeout = read_duration(field)?;
    if timeout.has_calendar_units() || !(10..=86_400).contains(&timeout.approximate().as_secs()) {
        field.fault("out-of-range", "expected ten seconds to one day, for instance PT20M");
        return None;
    }
    Some(timeout)
}

fn default_timeout() -> IsoDuration {
    IsoDuration::parse(DEFAULT_ACCESS_TIMEOUT).unwrap_or_else(|| IsoDuration::from_secs(1200))
}

fn read_duration(field: &Field) -> Option<IsoDuration> {
    let parsed = IsoDuration::parse(field.text(41)?);
    if parsed.is_none() {
        field.fault("invalid-value", "expected an ISO 8601 duration, for instance PT20M or P1Y");
    }
    parsed
}

fn read_acknowledge(field: &Field) -> Vec<Acknowledgement> {
    let words = [("enable-purge-protection", Acknowledgement::EnablePurgeProtection)];
    field.items(8).unwrap_or_default().iter().filter_map(|f| f.one_of(&words)).collect()
}

fn read_pairs(field: &Field, max: usize, max_key: usize, max_value: usize) -> BTreeMap<String, String> {
    let Some(map) = field.map() else { return BTreeMap::new() };
    if map.len() > max {
        field.fault("too-many", format!("expected at most {max} entries"));
    }
    let mut pairs = BTreeMap::new();
    for (key, value) in map {
        let text = value.as_str();
        let fits = |s: &str, max: usize| s.chars().count() <= max && !s.chars().any(char::is_control);
        match text {
            Some(text) if !key.is_empty() && fits(key, max_key) && fits(text, max_value) => {
                pairs.insert(key.clone(), text.to_owned());
            }
            _ => field.fault(
                "invalid-value",
                format!("expected text of at most {max_value} characters under names of 1 to {max_key} characters"),
            ),
        }
    }
    pairs
}

fn read_arm_id(field: &Field) -> Option<ArmId> {
    match ArmId::parse(field.text(2048)?) {
        Ok(id) => Some(id),
        Err(error) => {
            field.fault("invalid-value", error.to_string());
            None
        }
    }
}

fn read_location(body: &Object, name: &str) -> Option<String> {
    let field = body.require(name)?;
    let text = field.text(64)?;
    // Azure takes "UK South" for "uksouth"; the short form is what it answers.
    let short: String = text.chars().filter(|c| *c != ' ').collect::<String>().to_ascii_lowercase();
    if short.is_empty() || !short.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        field.fault("invalid-value", "expected an Azure region, for instance uksouth");
        return None;
    }
    Some(short)
}

fn check_name(field: &Field, name: &str, is_valid: fn(&str) -> bool, expected: &str) {
    if !is_valid(name) {
        field.fault("invalid-value", format!("expected {expected}"));
    }
}

fn is_vault_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !name.contains("--")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_hsm_name(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_identity_name(name: &str) -> bool {
    (3..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
