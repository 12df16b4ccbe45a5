//! The key store of a request: its id, how to create it, its firewall.
//!
//! What belongs here: rules for vaults and Managed HSMs. What does not: the key in it (`key`).

use super::values::{check_name, read_arm_id, read_location, read_pairs};
use crate::domain::ids::ArmId;
use crate::domain::reader::Field;
use crate::domain::request::{
    KeyStore, KeyStoreCreate, MANAGED_HSM_TYPE, Network, OnDeletedName, SUBNET_TYPE, VAULT_TYPE, VaultSku,
};

pub(super) fn read_key_store(field: &Field) -> Option<KeyStore> {
    let body = field.object(&["resourceId", "create", "onDeletedName", "grantOwnAccess"])?;
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
    // A word that is not known may have meant anything, so no rule is held against its default.
    let on_deleted_name =
        body.get("onDeletedName").map_or(OnDeletedName::Fail, |f| f.one_of(&words).unwrap_or(OnDeletedName::Recover));
    let grant_own_access = body.get("grantOwnAccess").and_then(|f| f.boolean()).unwrap_or(true);
    Some(KeyStore { resource_id: resource_id?, create, on_deleted_name, grant_own_access })
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
