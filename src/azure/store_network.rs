//! The firewall of a key store, as vaults and Managed HSMs both spell it.
//!
//! What belongs here: reading it. What does not: judging it, which the steps do.

use ipnet::IpNet;
use serde::Deserialize;

/// A vault's `publicNetworkAccess`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicAccess {
    /// The firewall's rules decide.
    Enabled,
    /// Only private endpoints and, with the bypass, trusted services.
    Disabled,
    /// A network security perimeter decides; it overrides the bypass too.
    SecuredByPerimeter,
}

/// A vault's firewall. Absent in an answer means that everybody may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAcls {
    /// Whether an address that no rule names may connect.
    pub default_allow: bool,
    /// Whether trusted Azure services pass regardless of the rules (`bypass: AzureServices`).
    pub bypass_trusted: bool,
    /// Networks that may connect. Azure answers a single address as `/32`; compare as networks.
    pub ip_rules: Vec<IpNet>,
    /// Ids of subnets that may connect, as Azure spells them.
    pub subnets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct WireAcls {
    bypass: Option<String>,
    default_action: Option<String>,
    ip_rules: Vec<WireIpRule>,
    virtual_network_rules: Vec<WireSubnet>,
}

/// A private endpoint's connection, as the store lists it.
#[derive(Deserialize)]
pub(super) struct WireConnection {
    properties: Option<WireConnectionProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireConnectionProperties {
    private_link_service_connection_state: Option<WireConnectionState>,
}

#[derive(Deserialize)]
struct WireConnectionState {
    status: Option<String>,
}

/// How many connections the store's owner approved.
pub(super) fn approved(connections: Option<&[WireConnection]>) -> usize {
    let is_approved = |connection: &&WireConnection| {
        let state = connection.properties.as_ref().and_then(|p| p.private_link_service_connection_state.as_ref());
        state.and_then(|s| s.status.as_deref()).is_some_and(|s| s.eq_ignore_ascii_case("Approved"))
    };
    connections.unwrap_or_default().iter().filter(is_approved).count()
}

#[derive(Deserialize)]
struct WireIpRule {
    value: String,
}

#[derive(Deserialize)]
struct WireSubnet {
    id: String,
}

/// The firewall; absent means that everybody may connect.
pub(super) fn acls(acls: Option<WireAcls>) -> Result<NetworkAcls, String> {
    acls.map_or_else(
        || Ok(NetworkAcls { default_allow: true, bypass_trusted: true, ip_rules: Vec::new(), subnets: Vec::new() }),
        parse_acls,
    )
}

/// `publicNetworkAccess`; absent means that the firewall decides.
pub(super) fn public_access(text: Option<&str>) -> PublicAccess {
    match text {
        Some(text) if text.eq_ignore_ascii_case("Disabled") => PublicAccess::Disabled,
        Some(text) if text.eq_ignore_ascii_case("SecuredByPerimeter") => PublicAccess::SecuredByPerimeter,
        _ => PublicAccess::Enabled,
    }
}

/// Absent members have Azure's defaults: trusted services pass, everybody may connect.
fn parse_acls(acls: WireAcls) -> Result<NetworkAcls, String> {
    let unless = |text: Option<String>, word: &str| !text.is_some_and(|t| t.eq_ignore_ascii_case(word));
    let ip_rules = acls.ip_rules.iter().map(|rule| parse_network(&rule.value)).collect::<Result<_, _>>()?;
    Ok(NetworkAcls {
        default_allow: unless(acls.default_action, "Deny"),
        bypass_trusted: unless(acls.bypass, "None"),
        ip_rules,
        subnets: acls.virtual_network_rules.into_iter().map(|rule| rule.id).collect(),
    })
}

/// A network, or a single address, which Azure accepts and answers as `/32`.
fn parse_network(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("an IP rule that is no network: {text}"))
}
