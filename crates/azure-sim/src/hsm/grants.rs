//! Local role assignments as they are stored, and the decision: may this principal do this in the HSM now? The HTTP surface
//! is `role_assignments`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::hsm::model::Hsm;
use crate::hsm::roles;
use crate::propagation::{Due, reached};
use crate::rbac::assignments::at_or_above;

/// A role assignment that holds in one HSM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Lower-case GUID.
    pub name: String,
    /// `/`, `/keys` or `/keys/{name}`.
    pub scope: String,
    /// GUID of the role.
    pub role: String,
    pub principal: String,
    /// From when it is enforced.
    pub enforced_from: Due,
}

impl Grant {
    /// One for all of the HSM that the HSM makes itself; equal for equal arguments.
    pub fn standing(principal: &str, role: &str, from: Due) -> Self {
        let name = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("{role}|{principal}").as_bytes());
        Self {
            name: name.to_string(),
            scope: "/".to_owned(),
            role: role.to_owned(),
            principal: principal.to_lowercase(),
            enforced_from: from,
        }
    }

    pub fn render(&self) -> Value {
        json!({
            "id": format!(
                "{}/providers/Microsoft.Authorization/roleAssignments/{}",
                self.scope.trim_end_matches('/'), self.name
            ),
            "name": self.name,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "principalId": self.principal,
                "roleDefinitionId": roles::definition_id(&self.role),
                "scope": self.scope,
            },
        })
    }
}

impl Hsm {
    /// Whether a local role gives the principal the action, written without its prefix, at the scope now.
    pub fn allows(&self, principal: &str, action: &str, scope: &str, now: OffsetDateTime) -> bool {
        let removed = self.fading.iter().filter(|(until, _)| !reached(*until, now)).map(|(_, grant)| grant);
        self.grants
            .values()
            .chain(removed)
            .filter(|g| g.principal.eq_ignore_ascii_case(principal) && reached(g.enforced_from, now))
            .filter(|g| at_or_above(&g.scope, scope))
            .any(|g| {
                roles::built_in_holds(&g.role, action)
                    .or_else(|| self.roles.get(&g.role).map(|r| r.holds(action)))
                    .unwrap_or(false)
            })
    }
}
