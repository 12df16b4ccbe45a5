//! Management locks (`Microsoft.Authorization/locks`, api-version [`API_VERSION`]): only reading them.
//!
//! What belongs here: which locks hold at a scope. What does not: what a lock forbids, which the survey says.

use serde::Deserialize;

use super::arm::Arm;
use super::context::CallContext;
use super::error::AzureError;

/// The API version spoken here.
pub const API_VERSION: &str = "2020-05-01";

/// A lock that forbids writing. One that only forbids deleting is in nobody's way here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyLock {
    /// Its name.
    pub name: String,
    /// Where it was made; all below inherits it.
    pub scope: String,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    name: String,
    properties: WireProperties,
}

#[derive(Deserialize)]
struct WireProperties {
    level: String,
}

/// The locks against writing that hold at a scope: its own and those it inherits. None where the scope does not exist.
/// The list also names locks of what lies below (UNVERIFIED for resources), which do not hold here.
pub async fn read_only(arm: &Arm, cx: &CallContext, scope: &str) -> Result<Vec<ReadOnlyLock>, AzureError> {
    let path = format!("{scope}/providers/Microsoft.Authorization/locks");
    let listed = match arm.list(cx, &path, API_VERSION, &[]).await {
        Err(error) if error.status == Some(404) => return Ok(Vec::new()),
        listed => listed?,
    };
    let locks = listed.into_iter().filter_map(|lock| serde_json::from_value::<Wire>(lock).ok());
    let holding = locks.filter(|lock| lock.properties.level.eq_ignore_ascii_case("ReadOnly")).filter_map(|lock| {
        let at = lock.id.to_ascii_lowercase().rfind("/providers/microsoft.authorization/locks/")?;
        let above = lock.id.get(..at)?;
        is_at_or_above(above, scope).then(|| ReadOnlyLock { name: lock.name, scope: above.to_owned() })
    });
    Ok(holding.collect())
}

fn is_at_or_above(above: &str, scope: &str) -> bool {
    let (above, scope) = (above.to_ascii_lowercase(), scope.to_ascii_lowercase());
    scope.strip_prefix(&above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holds_at_its_scope_and_below_it() {
        let group = "/subscriptions/S/resourceGroups/rg";
        let table = [
            ("/subscriptions/s", true),
            ("/subscriptions/s/resourcegroups/RG", true),
            ("/subscriptions/s/resourcegroups/r", false),
            ("/subscriptions/s/resourcegroups/rg/providers/a/b/c", false),
        ];
        for (above, want) in table {
            assert_eq!(is_at_or_above(above, group), want, "{above}");
        }
    }
}
