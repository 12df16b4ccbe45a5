//! Creating a key only where there is none of that name: what ARM's key resources do. Who may ask and how it is asked is
//! ARM's matter (`arm::vault_keys`); what a key is, is the data plane's.

use serde_json::{Map, Value};

use crate::http::Failure;
use crate::keyvault::Asked;
use crate::keyvault::holder::Holder;
use crate::keyvault::key_model::Rotation;
use crate::keyvault::key_policy;
use crate::keyvault::keys::{Wanted, add_version, make, room, wanted};
use crate::state::World;

/// Makes the key unless it is there. The body is in the form of the data plane's `create`. Nothing is written to a key that
/// exists, whatever the body asks for.
///
/// # Errors
/// What `create` on the data plane says of the body, of deny policies and of a name that is soft-deleted.
pub(crate) async fn ensure(
    asked: &Asked<'_>,
    name: &str,
    body: &Map<String, Value>,
    rotation: Option<Rotation>,
) -> Result<(), Failure> {
    let plan = |w: &World| -> Result<Option<Wanted>, Failure> {
        let holder = holder(asked, w)?;
        let wanted = wanted(holder, name, body)?;
        room(asked, holder, name)?;
        if holder.keys.contains_key(&name.to_lowercase()) {
            return Ok(None);
        }
        key_policy::require(w, holder, name, body, asked.call.now)?;
        Ok(Some(wanted))
    };
    let Some(first) = asked.shared.world(|w| plan(w))? else {
        return Ok(());
    };
    // The material is made between two looks at the world, so nothing waits on it; the second look decides.
    let material = make(asked.shared, &first.kind).await?;
    asked.shared.world(|w| {
        let Some(wanted) = plan(w)? else {
            return Ok(());
        };
        add_version(asked, w, name, material, wanted)?;
        if let Some(key) = w.holder_mut(&asked.at).and_then(|h| h.keys.get_mut(&name.to_lowercase())) {
            key.rotation = rotation;
        }
        Ok(())
    })
}

fn holder<'w>(asked: &Asked<'_>, w: &'w World) -> Result<&'w Holder, Failure> {
    w.holder(&asked.at).ok_or_else(Failure::no_such_host)
}
