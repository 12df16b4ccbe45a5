//! The rules for virtual networks of vaults and storage accounts, held against the networks that there are: the subnet
//! exists, the caller may join it, and it has the service's endpoint or the rule says that this does not matter. Each
//! service passes on in its own words what the network provider said.

use serde_json::{Map, Value};

use crate::arm::Asked;
use crate::arm::network::subnets;
use crate::http::Failure;
use crate::rbac::check;
use crate::state::World;

/// Whose rules are checked.
pub(crate) struct Service {
    /// The endpoint that a subnet must have: `Microsoft.KeyVault`.
    endpoint: &'static str,
    /// What the caller is about to do, for the refusal of who may not join.
    write: &'static str,
    /// The refusal, from the network provider's code and text.
    says: fn(&str, &str) -> Failure,
}

pub(crate) const VAULTS: Service =
    Service { endpoint: "Microsoft.KeyVault", write: "Microsoft.KeyVault/vaults/write", says: vault_says };

pub(crate) const ACCOUNTS: Service =
    Service { endpoint: "Microsoft.Storage", write: "Microsoft.Storage/storageAccounts/write", says: account_says };

/// Refuses rules that name subnets which cannot be named. `properties` are the body's; `id` is the resource's.
pub(crate) fn check(
    asked: &Asked<'_>,
    w: &World,
    service: &Service,
    properties: &Map<String, Value>,
    id: &str,
) -> Result<(), Failure> {
    let rules = properties.get("networkAcls").and_then(|a| a["virtualNetworkRules"].as_array());
    let endpoint = service.endpoint;
    for rule in rules.into_iter().flatten() {
        let subnet = rule["id"].as_str().unwrap_or_default();
        let lenient = rule["ignoreMissingVnetServiceEndpoint"].as_bool().unwrap_or(false);
        let Some((network, name)) = subnets::split(subnet) else {
            continue;
        };
        let Some(found) = subnets::find(&w.networks, subnet) else {
            // UNVERIFIED inner code of the network provider.
            let text = format!("Subnets {name} of virtual network {network} were not found.");
            return Err((service.says)("NotFound", &text));
        };
        let join = "Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action";
        check::require_linked(w, &asked.caller, service.write, id, join, subnet, asked.call.now)?;
        if !lenient && !found.has_endpoint(endpoint) {
            let text = format!(
                "Subnets {name} of virtual network {network} do not have ServiceEndpoints for {endpoint} resources configured. Add {endpoint} to subnet's ServiceEndpoints collection before trying to ACL {endpoint} resources to these subnets.."
            );
            return Err((service.says)("SubnetsHaveNoServiceEndpointsConfigured", &text));
        }
    }
    Ok(())
}

/// As public Terraform logs show it.
fn vault_says(code: &str, text: &str) -> Failure {
    Failure::new(
        400,
        "VirtualNetworkNotValid",
        format!(
            "Operation on Virtual Network could not be performed. StatusCode: 400 (BadRequest). Error Code: {code}. Error Message: {text}"
        ),
    )
}

/// As public logs of several clients show it. There the creation was accepted first and its operation failed; here it is
/// refused at once.
fn account_says(code: &str, text: &str) -> Failure {
    Failure::new(400, "NetworkAclsValidationFailure", format!("Validation of network acls failure: {code}:{text}"))
}
