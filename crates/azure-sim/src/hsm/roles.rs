//! Local roles of managed HSMs: the built-in ones with the data actions that the service lists for them, and custom ones.
//! They have nothing in common with the roles of ARM but the word.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) const ADMINISTRATOR: &str = "a290e904-7015-4bba-90c8-60543313cdb4";

/// What every data action of a managed HSM starts with.
pub(crate) const PREFIX: &str = "Microsoft.KeyVault/managedHsm/";

/// A role definition that holds in one HSM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LocalRole {
    pub guid: String,
    pub name: String,
    pub description: String,
    pub custom: bool,
    /// Without the prefix, as asked for.
    pub permissions: Vec<LocalPermission>,
    pub assignable_scopes: Vec<String>,
}

/// One block of permissions. `actions` and `notActions` are kept and mean nothing here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LocalPermission {
    pub actions: Vec<String>,
    pub not_actions: Vec<String>,
    pub data_actions: Vec<String>,
    pub not_data_actions: Vec<String>,
}

const ROLE_MANAGEMENT: &[&str] = &[
    "roleAssignments/delete/action",
    "roleAssignments/read/action",
    "roleAssignments/write/action",
    "roleDefinitions/read/action",
    "roleDefinitions/write/action",
    "roleDefinitions/delete/action",
];

/// GUID, name without `Managed HSM `, further data actions, whether it manages roles too.
type Line = (&'static str, &'static str, &'static [&'static str], bool);

// Data actions as the service itself lists them (recorded traffic); Azure's article differs for the auditor.
const BUILT_IN: &[Line] = &[
    (
        ADMINISTRATOR,
        "Administrator",
        &[
            "securitydomain/download/action",
            "securitydomain/download/read",
            "securitydomain/upload/action",
            "securitydomain/upload/read",
            "securitydomain/transferkey/read",
            "backup/start/action",
            "restore/start/action",
            "backup/status/action",
            "restore/status/action",
        ],
        true,
    ),
    (
        "515eb02d-2335-4d2d-92f2-b1cbdf9c3778",
        "Crypto Officer",
        &[
            "keys/deletedKeys/read/action",
            "keys/deletedKeys/delete",
            "keys/deletedKeys/recover/action",
            "keys/export/action",
        ],
        true,
    ),
    (
        "21dbd100-6940-42c2-9190-5d6cb909625b",
        "Crypto User",
        &[
            "roleDefinitions/read/action",
            "roleAssignments/read/action",
            "keys/read/action",
            "keys/write/action",
            "keys/delete",
            "keys/create",
            "keys/rotate/action",
            "keys/import/action",
            "keys/release/action",
            "keys/backup/action",
            "keys/restore/action",
            "keys/encrypt/action",
            "keys/decrypt/action",
            "keys/wrap/action",
            "keys/unwrap/action",
            "keys/sign/action",
            "keys/verify/action",
            "keys/derive/action",
            "rng/action",
        ],
        false,
    ),
    ("4bd23610-cdcf-4971-bdee-bdc562cc28e4", "Policy Administrator", &[], true),
    (
        "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3",
        "Crypto Auditor",
        &[
            "roleAssignments/read/action",
            "roleDefinitions/read/action",
            "keys/read/action",
            "keys/deletedKeys/read/action",
        ],
        false,
    ),
    (
        "33413926-3206-4cdd-b39a-83574fe37a17",
        "Crypto Service Encryption User",
        &["keys/read/action", "keys/wrap/action", "keys/unwrap/action"],
        false,
    ),
    ("21dbd100-6940-42c2-9190-5d6cb909625c", "Crypto Service Release User", &["keys/release/action"], false),
    (
        "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8",
        "Backup",
        &["keys/backup/action", "backup/start/action", "backup/status/action"],
        false,
    ),
    (
        "6efe6056-5259-49d2-8b3d-d3d73544b20b",
        "Restore",
        &["keys/restore/action", "restore/start/action", "restore/status/action"],
        false,
    ),
];

fn from_line((guid, name, further, manages): &Line) -> LocalRole {
    let managing: &[&str] = if *manages { ROLE_MANAGEMENT } else { &[] };
    LocalRole {
        guid: (*guid).to_owned(),
        name: format!("Managed HSM {name}"),
        description: String::new(),
        custom: false,
        permissions: vec![LocalPermission {
            data_actions: managing.iter().chain(*further).map(|a| format!("{PREFIX}{a}")).collect(),
            ..LocalPermission::default()
        }],
        assignable_scopes: vec!["/".to_owned()],
    }
}

/// All built-in roles.
pub(crate) fn built_in() -> impl Iterator<Item = LocalRole> {
    BUILT_IN.iter().map(from_line)
}

/// The built-in role of this GUID.
pub(crate) fn built_in_of(guid: &str) -> Option<LocalRole> {
    BUILT_IN.iter().find(|(g, ..)| g.eq_ignore_ascii_case(guid)).map(from_line)
}

/// Whether the built-in role of this GUID holds the action, given without its prefix. `None`: there is no such role.
pub(crate) fn built_in_holds(guid: &str, action: &str) -> Option<bool> {
    let (_, _, further, manages) = BUILT_IN.iter().find(|(g, ..)| g.eq_ignore_ascii_case(guid))?;
    Some(further.contains(&action) || (*manages && ROLE_MANAGEMENT.contains(&action)))
}

/// The id by which the service names a role definition.
pub(crate) fn definition_id(guid: &str) -> String {
    format!("Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{guid}")
}

impl LocalRole {
    /// Whether the role holds the action, given without its prefix.
    pub fn holds(&self, action: &str) -> bool {
        let full = format!("{PREFIX}{action}");
        let any = |patterns: &[String]| patterns.iter().any(|p| crate::glob::matches(p, &full));
        self.permissions.iter().any(|p| any(&p.data_actions) && !any(&p.not_data_actions))
    }

    pub fn render(&self) -> Value {
        let permissions: Vec<Value> = self
            .permissions
            .iter()
            .map(|p| {
                json!({
                    "actions": p.actions,
                    "notActions": p.not_actions,
                    "dataActions": p.data_actions,
                    "notDataActions": p.not_data_actions,
                })
            })
            .collect();
        json!({
            "id": definition_id(&self.guid),
            "name": self.guid,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": self.name,
                "description": self.description,
                "type": if self.custom { "CustomRole" } else { "AKVBuiltInRole" },
                "assignableScopes": self.assignable_scopes,
                "permissions": permissions,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roles_divide_the_work() {
        for (role, action, expected) in [
            ("Administrator", "securitydomain/download/action", true),
            ("Administrator", "keys/create", false),
            ("Administrator", "keys/read/action", false),
            ("Crypto Officer", "keys/create", false),
            ("Crypto Officer", "keys/wrap/action", false),
            ("Crypto Officer", "keys/deletedKeys/delete", true),
            ("Crypto User", "keys/create", true),
            ("Crypto User", "keys/deletedKeys/recover/action", false),
            ("Crypto Service Encryption User", "keys/unwrap/action", true),
            ("Crypto Service Encryption User", "keys/encrypt/action", false),
            ("Crypto Auditor", "keys/read/action", true),
            ("Policy Administrator", "roleAssignments/write/action", true),
        ] {
            let name = format!("Managed HSM {role}");
            let role = built_in().find(|r| r.name == name).expect("the role is there");
            assert_eq!(role.holds(action), expected, "{name} {action}");
            assert_eq!(built_in_holds(&role.guid, action), Some(expected), "{name} {action}");
        }
    }
}
