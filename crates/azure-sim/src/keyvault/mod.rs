//! The data plane for keys, of vaults and of managed HSMs: who is asking (401 and the challenge), from where (firewall), whether they may (RBAC or
//! access policies), and then the keys. The order of these checks is Azure's.

pub(crate) mod access;
pub(crate) mod aes;
pub(crate) mod backup;
pub(crate) mod crypto;
pub(crate) mod deleted;
pub(crate) mod ensure;
pub(crate) mod holder;
pub(crate) mod import;
pub(crate) mod jwk;
pub(crate) mod key_body;
pub(crate) mod key_model;
pub(crate) mod key_policy;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod operations;
pub(crate) mod pool;
pub(crate) mod rotation;
pub(crate) mod rotation_policy;
pub(crate) mod stored;

use crate::entra::tokens::Claims;
use crate::http::{Call, Failure, Outcome};
use crate::keyvault::holder::{At, Zone};
use crate::state::Shared;

/// A request to a holder of keys by a known caller.
pub(crate) struct Asked<'a> {
    pub shared: &'a Shared,
    pub call: &'a Call,
    pub caller: Claims,
    /// Whose keys are asked for.
    pub at: At,
}

/// Answers a request to the host of a vault or of a managed HSM.
pub(crate) async fn serve(shared: &Shared, call: &Call, at: &At) -> Outcome {
    access::host_exists(shared, call, at)?;
    let caller = access::authenticate(shared, call, at.zone)?;
    let asked = Asked { shared, call, caller, at: at.clone() };
    if at.zone == Zone::Hsm
        && let Some(outcome) = crate::hsm::serve(&asked).await
    {
        return outcome;
    }
    let names: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let lower: Vec<String> = names.iter().map(|s| s.to_lowercase()).collect();
    let parts: Vec<&str> = lower.iter().map(String::as_str).collect();
    let method = call.method.as_str();
    limits::admit(&asked, &parts)?;
    match (method, parts.as_slice()) {
        ("GET", ["keys"]) => keys::list(&asked),
        ("POST", ["keys", "restore"]) => backup::restore(&asked).await,
        ("GET", ["keys", _]) => keys::get(&asked, names[1], ""),
        ("PUT", ["keys", _]) => import::import(&asked, names[1]).await,
        ("PATCH", ["keys", _]) => keys::update(&asked, names[1], ""),
        ("DELETE", ["keys", _]) => deleted::delete(&asked, names[1]),
        ("POST", ["keys", _, "create"]) => keys::create(&asked, names[1]).await,
        ("GET", ["keys", _, "versions"]) => keys::versions(&asked, names[1]),
        ("POST", ["keys", _, "rotate"]) => keys::rotate(&asked, names[1]).await,
        ("POST", ["keys", _, "backup"]) => backup::backup(&asked, names[1]).await,
        ("GET", ["keys", _, "rotationpolicy"]) => rotation_policy::get(&asked, names[1]),
        ("PUT", ["keys", _, "rotationpolicy"]) => rotation_policy::put(&asked, names[1]),
        ("POST", ["keys", _, op]) => operations::run(&asked, names[1], "", op).await,
        ("GET", ["keys", _, _, "attestation"]) => Err(Failure::not_played("the attestation of a key")),
        ("GET", ["keys", _, _]) => keys::get(&asked, names[1], names[2]),
        ("PATCH", ["keys", _, _]) => keys::update(&asked, names[1], names[2]),
        ("POST", ["keys", _, _, op]) => operations::run(&asked, names[1], names[2], op).await,
        ("GET", ["deletedkeys"]) => deleted::list(&asked),
        ("GET", ["deletedkeys", _]) => deleted::get(&asked, names[1]),
        ("DELETE", ["deletedkeys", _]) => deleted::purge(&asked, names[1]),
        ("POST", ["deletedkeys", _, "recover"]) => deleted::recover(&asked, names[1]),
        ("GET", ["certificates", "contacts"]) if at.zone == Zone::Vault => {
            access::enter(&asked, "certificatecontacts/read", None, "get")?;
            Err(Failure::new(404, "ContactsNotFound", "Contacts are not set for this vault."))
        }
        ("GET", []) => Err(Failure::new(404, "NotFound", "There is nothing at the root of a vault.")),
        (_, ["keys" | "deletedkeys", ..]) => {
            Err(Failure::new(405, "MethodNotAllowed", format!("The method '{method}' is not allowed here.")))
        }
        (_, ["secrets" | "certificates" | "storage", ..]) if at.zone == Zone::Vault => {
            Err(Failure::not_played("secrets and certificates"))
        }
        _ => Err(Failure::new(404, "NotFound", "The path was not found.")),
    }
}
