//! Role assignments as they are stored: who, what, where, and from when each view of the cloud knows of it. The HTTP
//! surface is `arm::role_assignments`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::http::rfc3339;
use crate::propagation::{Due, reached};
use crate::rbac::roles::definition_id;

/// A role assignment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub id: String,
    pub name: String,
    /// Canonical scope, without trailing slash; `/` for the root.
    pub scope: String,
    pub role: String,
    pub principal: String,
    pub principal_type: String,
    pub description: Option<String>,
    pub condition: Option<String>,
    pub condition_version: Option<String>,
    pub delegated: Option<String>,
    pub created: OffsetDateTime,
    pub updated: OffsetDateTime,
    pub created_by: String,
    /// When enforcement, on both planes, takes it into account.
    pub enforced_from: Due,
    /// When management-plane reads show it.
    pub readable_from: Due,
}

impl Assignment {
    /// One that has always been there.
    pub fn standing(scope: &str, role: &str, principal: &str, now: OffsetDateTime) -> Self {
        let name = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("{scope}|{role}|{principal}").as_bytes())
            .to_string();
        Self {
            id: format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"),
            name,
            scope: scope.to_owned(),
            role: role.to_owned(),
            principal: principal.to_lowercase(),
            principal_type: "ServicePrincipal".to_owned(),
            description: None,
            condition: None,
            condition_version: None,
            delegated: None,
            created: now,
            updated: now,
            created_by: principal.to_lowercase(),
            enforced_from: Some(OffsetDateTime::UNIX_EPOCH),
            readable_from: Some(OffsetDateTime::UNIX_EPOCH),
        }
    }

    /// Whether the assignment's scope is the given id or above it.
    pub fn covers(&self, id: &str) -> bool {
        at_or_above(&self.scope, id)
    }

    pub fn enforced(&self, now: OffsetDateTime) -> bool {
        reached(self.enforced_from, now)
    }

    pub fn readable(&self, now: OffsetDateTime) -> bool {
        reached(self.readable_from, now)
    }

    pub fn render(&self, subscription: &str) -> Value {
        json!({
            "properties": {
                "roleDefinitionId": definition_id(subscription, &self.role),
                "principalId": self.principal,
                "principalType": self.principal_type,
                "scope": self.scope,
                "condition": self.condition,
                "conditionVersion": self.condition_version,
                "createdOn": rfc3339(self.created),
                "updatedOn": rfc3339(self.updated),
                "createdBy": self.created_by,
                "updatedBy": self.created_by,
                "delegatedManagedIdentityResourceId": self.delegated,
                "description": self.description,
            },
            "id": self.id,
            "type": "Microsoft.Authorization/roleAssignments",
            "name": self.name,
        })
    }
}

/// Whether `scope` is `id` or an ancestor of it, segment by segment and without regard to case.
pub(crate) fn at_or_above(scope: &str, id: &str) -> bool {
    let scope = scope.trim_end_matches('/');
    let Some(head) = id.get(..scope.len()) else {
        return false;
    };
    head.eq_ignore_ascii_case(scope) && (id.len() == scope.len() || id.as_bytes()[scope.len()] == b'/')
}

#[cfg(test)]
mod tests {
    use super::at_or_above;

    #[test]
    fn scopes_compare_by_segment_and_without_case() {
        for (scope, id, expected) in [
            ("/", "/subscriptions/s", true),
            ("/subscriptions/s", "/subscriptions/S/resourceGroups/rg", true),
            ("/subscriptions/s/resourceGroups/rg", "/subscriptions/s/resourceGroups/rg2", false),
            ("/subscriptions/s/resourceGroups/rg", "/subscriptions/s", false),
            ("/subscriptions/s", "/subscriptions/é", false),
        ] {
            assert_eq!(at_or_above(scope, id), expected, "{scope} over {id}");
        }
    }
}
