//! A vault's rules for virtual networks, held against the networks that there are: the subnet exists, the caller may join
//! it, and it has the service's endpoint or the rule says that this does not matter.

use serde_json::{Map, Value};

use crate::arm::Asked;
use crate::arm::network::subnets;
use crate::http::Failure;
use crate::rbac::check;
use crate::state::World;

const SERVICE: &str = "Microsoft.KeyVault";

/// Refuses rules that name subnets which cannot be named. `properties` are the body's; `id` is the vault's or HSM's.
pub(crate) fn check(asked: &Asked<'_>, w: &World, properties: &Map<String, Value>, id: &str) -> Result<(), Failure> {
    let rules = properties.get("networkAcls").and_then(|a| a["virtualNetworkRules"].as_array());
    for rule in rules.into_iter().flatten() {
        let subnet = rule["id"].as_str().unwrap_or_default();
        let lenient = rule["ignoreMissingVnetServiceEndpoint"].as_bool().unwrap_or(false);
        let Some((network, name)) = subnets::split(subnet) else {
            continue;
        };
        let Some(found) = subnets::find(&w.networks, subnet) else {
            // UNVERIFIED inner code of the network provider.
            return Err(invalid("NotFound", &format!("Subnets {name} of virtual network {network} were not found.")));
        };
        let join = "Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action";
        check::require_linked(w, &asked.caller, "Microsoft.KeyVault/vaults/write", id, join, subnet, asked.call.now)?;
        if !lenient && !found.has_endpoint(SERVICE) {
            return Err(invalid(
                "SubnetsHaveNoServiceEndpointsConfigured",
                &format!(
                    "Subnets {name} of virtual network {network} do not have ServiceEndpoints for {SERVICE} resources configured. Add {SERVICE} to subnet's ServiceEndpoints collection before trying to ACL {SERVICE} resources to these subnets.."
                ),
            ));
        }
    }
    Ok(())
}

/// The text in which Key Vault passes on what the network provider said, as public Terraform logs show it.
fn invalid(code: &str, text: &str) -> Failure {
    Failure::new(
        400,
        "VirtualNetworkNotValid",
        format!(
            "Operation on Virtual Network could not be performed. StatusCode: 400 (BadRequest). Error Code: {code}. Error Message: {text}"
        ),
    )
}
