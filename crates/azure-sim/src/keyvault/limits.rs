//! Which of Key Vault's limits a request is counted on, and how much it weighs there. The limits are `throttle::key_vault`.

use crate::http::Failure;
use crate::keyvault::crypto::Material;
use crate::keyvault::holder::{Holder, Zone};
use crate::keyvault::{Asked, key_body};
use crate::throttle::key_vault::Load;

/// Counts a request of a known caller, or refuses it with 429. `parts` is the path in lower case. Those that the checks
/// behind refuse are counted too.
pub(crate) fn admit(asked: &Asked<'_>, parts: &[&str]) -> Result<(), Failure> {
    // The limits of managed HSMs are of another kind.
    if asked.at.zone != Zone::Vault || !asked.shared.throttle.counts() {
        return Ok(());
    }
    let load = match (asked.call.method.as_str(), parts) {
        ("POST", ["keys", _, "create"]) | ("PUT", ["keys", _]) => asks_for(asked),
        (_, ["keys", name, rest @ ..]) => {
            let version = rest.first().copied().unwrap_or_default();
            let creates = matches!(rest, ["rotate"] | [.., "release"]);
            asked.shared.world(|w| w.holder(&asked.at).map_or(PLAIN, |holder| of_key(holder, name, version, creates)))
        }
        _ => PLAIN,
    };
    asked.shared.throttle.admit_to_vault(&asked.at.name, load, asked.call.now)
}

/// Of what has to do with no key in particular.
const PLAIN: Load = Load { creates: false, hsm: false, weight: 1 };

/// A creation or an import, by its body; one that cannot be read counts as a software key's.
fn asks_for(asked: &Asked<'_>) -> Load {
    let body = key_body::object(asked.call, false).unwrap_or_default();
    let kty = body.get("kty").or_else(|| body.get("key").and_then(|key| key.get("kty")));
    let hsm = kty.and_then(|kty| kty.as_str()).is_some_and(|kty| kty.ends_with("-HSM"))
        || ["Hsm", "hsm"].iter().any(|name| body.get(*name).is_some_and(|hsm| *hsm == true));
    Load { creates: true, hsm, weight: 1 }
}

fn of_key(holder: &Holder, name: &str, version: &str, creates: bool) -> Load {
    let Some(key) = holder.keys.get(name) else { return Load { creates, ..PLAIN } };
    let found = key.version(version).unwrap_or_else(|| key.latest());
    let (hsm, weight) = match &*found.material {
        Material::Rsa { bits: 4096, hsm, .. } => (*hsm, 8),
        Material::Rsa { bits: 3072, hsm, .. } => (*hsm, 4),
        Material::Rsa { hsm, .. } | Material::Ec { hsm, .. } => (*hsm, 1),
        Material::Oct { .. } => (true, 1),
    };
    Load { creates, hsm, weight: if creates { 1 } else { weight } }
}
