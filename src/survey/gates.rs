//! The gates of a key store that exists, read from its firewall.

use super::report::{Gate, GateKind};
use crate::azure::vaults::{PublicAccess, Vault};

/// Every gate, open or not.
pub(super) fn of(vault: &Vault) -> Vec<Gate> {
    let acls = &vault.network;
    let (public, said) = match vault.public_access {
        PublicAccess::Enabled => (Some(true), "publicNetworkAccess is Enabled: the firewall's rules decide"),
        PublicAccess::Disabled => (Some(false), "publicNetworkAccess is Disabled: only private endpoints lead in"),
        PublicAccess::SecuredByPerimeter => (None, "a network security perimeter decides, the bypass does not count"),
    };
    let gate = |kind, open, detail: String| Gate { kind, open, detail };
    let listed = |count: usize, what: &str| match count {
        0 => (Some(false), format!("no {what} is allowed")),
        count => (None, format!("{count} {what}{} allowed", if count == 1 { " is" } else { "s are" })),
    };
    let (ips, ips_said) = listed(acls.ip_rules.len(), "network");
    let (subnets, subnets_said) = listed(acls.subnets.len(), "subnet");
    let default = if acls.default_allow { "Allow: whoever no rule names may connect" } else { "Deny" };
    let bypass = if acls.bypass_trusted { "AzureServices" } else { "None" };
    vec![
        gate(GateKind::PublicNetworkAccess, public, said.to_owned()),
        gate(GateKind::DefaultAction, Some(acls.default_allow), format!("defaultAction is {default}")),
        gate(
            GateKind::TrustedServices,
            match vault.public_access {
                PublicAccess::SecuredByPerimeter => None,
                _ => Some(acls.bypass_trusted),
            },
            format!("bypass is {bypass}"),
        ),
        gate(GateKind::IpRules, ips, ips_said),
        gate(GateKind::Subnets, subnets, subnets_said),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::vaults::{Activation, NetworkAcls, VaultSku};

    #[test]
    fn each_gate_says_whether_it_is_open() {
        let told = |vault: &Vault| -> Vec<Option<bool>> { of(vault).into_iter().map(|g| g.open).collect() };
        let mut vault = Vault {
            uri: "https://kv-1.vault.azure.net".into(),
            location: "westeurope".into(),
            tenant_id: uuid::Uuid::nil(),
            sku: VaultSku::Standard,
            rbac: true,
            soft_delete: true,
            purge_protection: true,
            retention_days: 90,
            network: NetworkAcls {
                default_allow: false,
                bypass_trusted: true,
                ip_rules: vec!["203.0.113.0/24".parse().expect("a network")],
                subnets: Vec::new(),
            },
            public_access: PublicAccess::Enabled,
            private_endpoints: 0,
            activation: Activation::Done,
            provisioning_state: None,
            tags: std::collections::BTreeMap::new(),
            request_id: None,
        };
        assert_eq!(told(&vault), [Some(true), Some(false), Some(true), None, Some(false)]);
        vault.public_access = PublicAccess::SecuredByPerimeter;
        assert_eq!(told(&vault)[..3], [None, Some(false), None]);
        vault.public_access = PublicAccess::Disabled;
        vault.network.bypass_trusted = false;
        assert_eq!(told(&vault)[..3], [Some(false), Some(false), Some(false)]);
    }
}
