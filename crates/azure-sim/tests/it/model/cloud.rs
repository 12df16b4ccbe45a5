//! The model: two vaults with two key names each, two callers, five roles, and seconds that pass. It says which status
//! and which code each operation gets.

use std::collections::BTreeMap;

/// Seconds until a grant is enforced, until a removed one is not, until a deleted or recovered key shows.
pub const GRANT: i64 = 5;
pub const REMOVAL: i64 = 4;
pub const KEY_DELETE: i64 = 3;
pub const KEY_RECOVER: i64 = 2;
/// Days that deleted things are kept.
pub const RETENTION_DAYS: i64 = 7;
const RETENTION: i64 = RETENTION_DAYS * 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// Owner of the subscription; no vault role to begin with.
    Owner,
    /// Nothing at all to begin with.
    Guest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Administrator,
    Officer,
    User,
    EncryptionUser,
    /// Key Vault Contributor: the management plane only.
    Contributor,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyOp {
    Create,
    Get,
    Wrap,
    Delete,
    GetDeleted,
    Recover,
    Purge,
}

#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// `protection`: what the body says of purge protection.
    PutVault {
        by: Caller,
        vault: usize,
        recover: bool,
        protection: Option<bool>,
    },
    DeleteVault {
        by: Caller,
        vault: usize,
    },
    GetDeletedVault {
        vault: usize,
    },
    PurgeVault {
        by: Caller,
        vault: usize,
    },
    Grant {
        vault: usize,
        to: Caller,
        role: Role,
        /// Under another name than the usual one.
        alias: bool,
    },
    Revoke {
        vault: usize,
        to: Caller,
        role: Role,
    },
    Key {
        by: Caller,
        vault: usize,
        key: usize,
        op: KeyOp,
    },
    Wait {
        seconds: i64,
    },
}

/// What an answer is compared by. Status 0: no host, no answer.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub status: u16,
    pub code: String,
}

fn seen(status: u16, code: &str) -> Seen {
    Seen { status, code: code.to_owned() }
}

#[derive(Clone, Debug)]
enum Key {
    Live { versions: usize, shown_from: i64 },
    Deleted { versions: usize, at: i64 },
}

#[derive(Clone, Debug, Default)]
struct Vault {
    protected: bool,
    deleted: Option<i64>,
    keys: BTreeMap<usize, Key>,
    /// When each grant was made.
    grants: BTreeMap<(Caller, Role), i64>,
    /// Removed grants: from when and until when they are enforced.
    fading: Vec<(Caller, Role, i64, i64)>,
}

impl Vault {
    fn enforced(&self, who: Caller, now: i64, fits: impl Fn(Role) -> bool) -> bool {
        self.grants.iter().any(|((c, r), made)| *c == who && fits(*r) && now >= made + GRANT)
            || self.fading.iter().any(|(c, r, from, until)| *c == who && fits(*r) && (*from..*until).contains(&now))
    }
}

/// The modelled cloud.
#[derive(Debug, Default)]
pub struct Cloud {
    now: i64,
    vaults: BTreeMap<usize, Vault>,
}

fn fits(role: Role, op: KeyOp) -> bool {
    match role {
        Role::Administrator | Role::Officer => true,
        Role::User | Role::EncryptionUser => matches!(op, KeyOp::Get | KeyOp::GetDeleted | KeyOp::Wrap),
        Role::Contributor => false,
    }
}

impl Cloud {
    /// What the operation gets. `None`: the model has no opinion, and the operation is to be left out.
    pub fn run(&mut self, op: Op) -> Option<Seen> {
        match op {
            Op::Wait { seconds } => {
                self.now += seconds;
                self.expire();
                None
            }
            Op::PutVault { by, vault, recover, protection } => self.put_vault(by, vault, recover, protection),
            Op::DeleteVault { by, vault } => Some(self.delete_vault(by, vault)),
            Op::GetDeletedVault { vault } => Some(match self.vaults.get(&vault) {
                Some(v) if v.deleted.is_some() => seen(200, ""),
                _ => seen(404, "DeletedVaultNotFound"),
            }),
            Op::PurgeVault { by, vault } => Some(self.purge_vault(by, vault)),
            Op::Grant { vault, to, role, alias } => self.grant(vault, to, role, alias),
            Op::Revoke { vault, to, role } => self.revoke(vault, to, role),
            Op::Key { by, vault, key, op } => self.key(by, vault, key, op),
        }
    }

    /// How many versions each live key of a live vault has.
    pub fn versions(&self) -> Vec<(usize, usize, usize)> {
        let live = self.vaults.iter().filter(|(_, v)| v.deleted.is_none());
        live.flat_map(|(vault, v)| {
            v.keys.iter().filter_map(|(key, k)| match k {
                Key::Live { versions, shown_from } if *shown_from <= self.now => Some((*vault, *key, *versions)),
                _ => None,
            })
        })
        .collect()
    }

    fn expire(&mut self) {
        let now = self.now;
        self.vaults.retain(|_, v| v.deleted.is_none_or(|at| now < at + RETENTION));
        for vault in self.vaults.values_mut() {
            vault.keys.retain(|_, k| !matches!(k, Key::Deleted { at, .. } if now >= *at + RETENTION));
            vault.fading.retain(|(_, _, _, until)| now < *until);
        }
    }

    fn manages(&self, who: Caller, vault: usize) -> bool {
        who == Caller::Owner
            || self
                .vaults
                .get(&vault)
                .is_some_and(|v| v.deleted.is_none() && v.enforced(who, self.now, |role| role == Role::Contributor))
    }

    fn put_vault(&mut self, by: Caller, vault: usize, recover: bool, protection: Option<bool>) -> Option<Seen> {
        if !self.manages(by, vault) {
            return Some(seen(403, "AuthorizationFailed"));
        }
        match self.vaults.get_mut(&vault) {
            Some(v) if v.deleted.is_some() => {
                if !recover {
                    return Some(seen(409, "ConflictError"));
                }
                if protection == Some(false) {
                    return Some(seen(400, "BadRequest"));
                }
                v.deleted = None;
                v.protected |= protection == Some(true);
                Some(seen(200, ""))
            }
            // What a recover of a living vault or of nothing gets is not published.
            _ if recover => None,
            _ if protection == Some(false) => Some(seen(400, "BadRequest")),
            Some(v) => {
                v.protected |= protection == Some(true);
                Some(seen(200, ""))
            }
            None => {
                self.vaults.insert(vault, Vault { protected: protection == Some(true), ..Vault::default() });
                Some(seen(201, ""))
            }
        }
    }

    fn delete_vault(&mut self, by: Caller, vault: usize) -> Seen {
        if !self.manages(by, vault) {
            return seen(403, "AuthorizationFailed");
        }
        match self.vaults.get_mut(&vault) {
            Some(v) if v.deleted.is_none() => {
                v.deleted = Some(self.now);
                // Grants at the vault go with it and do not come back.
                v.grants.clear();
                v.fading.clear();
                seen(200, "")
            }
            _ => seen(204, ""),
        }
    }

    fn purge_vault(&mut self, by: Caller, vault: usize) -> Seen {
        // Purging is asked of the subscription, where only the owner has rights.
        if by != Caller::Owner {
            return seen(403, "AuthorizationFailed");
        }
        match self.vaults.get(&vault) {
            Some(v) if v.deleted.is_some() && v.protected => seen(405, "MethodNotAllowed"),
            Some(v) if v.deleted.is_some() => {
                self.vaults.remove(&vault);
                seen(202, "")
            }
            _ => seen(404, "DeletedVaultNotFound"),
        }
    }

    fn grant(&mut self, vault: usize, to: Caller, role: Role, alias: bool) -> Option<Seen> {
        let now = self.now;
        let vault = self.vaults.get_mut(&vault).filter(|v| v.deleted.is_none())?;
        if vault.grants.contains_key(&(to, role)) {
            return Some(if alias { seen(409, "RoleAssignmentExists") } else { seen(200, "") });
        }
        if alias {
            // It would stand under the other name from now on; the runs keep to one name each.
            return None;
        }
        vault.grants.insert((to, role), now);
        Some(seen(201, ""))
    }

    fn revoke(&mut self, vault: usize, to: Caller, role: Role) -> Option<Seen> {
        let now = self.now;
        let vault = self.vaults.get_mut(&vault).filter(|v| v.deleted.is_none())?;
        let Some(made) = vault.grants.remove(&(to, role)) else {
            return Some(seen(204, ""));
        };
        vault.fading.push((to, role, made + GRANT, now + REMOVAL));
        Some(seen(200, ""))
    }

    fn key(&mut self, by: Caller, vault: usize, key: usize, op: KeyOp) -> Option<Seen> {
        let now = self.now;
        let Some(vault) = self.vaults.get_mut(&vault).filter(|v| v.deleted.is_none()) else {
            return Some(seen(0, ""));
        };
        if !vault.enforced(by, now, |role| fits(role, op)) {
            return Some(seen(403, "Forbidden/ForbiddenByRbac"));
        }
        let protected = vault.protected;
        let being_deleted = || Some(seen(409, "Conflict/ObjectIsBeingDeleted"));
        let missing = || Some(seen(404, "KeyNotFound"));
        match (op, vault.keys.get(&key).cloned()) {
            (KeyOp::Create, None) => {
                vault.keys.insert(key, Key::Live { versions: 1, shown_from: now });
                Some(seen(200, ""))
            }
            (KeyOp::Create, Some(Key::Live { shown_from, .. })) if now < shown_from => {
                Some(seen(409, "Conflict/ObjectIsBeingRecovered"))
            }
            (KeyOp::Create, Some(Key::Live { versions, shown_from })) => {
                vault.keys.insert(key, Key::Live { versions: versions + 1, shown_from });
                Some(seen(200, ""))
            }
            (KeyOp::Create, Some(Key::Deleted { at, .. })) if now < at + KEY_DELETE => being_deleted(),
            (KeyOp::Create, Some(Key::Deleted { .. })) => Some(seen(409, "Conflict/ObjectIsDeletedButRecoverable")),
            (KeyOp::Get | KeyOp::Wrap, Some(Key::Live { shown_from, .. })) if now >= shown_from => Some(seen(200, "")),
            (KeyOp::Get | KeyOp::Wrap, _) => missing(),
            // What deleting a key under recovery gets is not published.
            (KeyOp::Delete, Some(Key::Live { shown_from, .. })) if now < shown_from => None,
            (KeyOp::Delete, Some(Key::Live { versions, .. })) => {
                vault.keys.insert(key, Key::Deleted { versions, at: now });
                Some(seen(200, ""))
            }
            (KeyOp::Delete, _) => missing(),
            (KeyOp::GetDeleted, Some(Key::Deleted { at, .. })) if now >= at + KEY_DELETE => Some(seen(200, "")),
            (KeyOp::GetDeleted, _) => missing(),
            (KeyOp::Recover, Some(Key::Deleted { at, .. })) if now < at + KEY_DELETE => being_deleted(),
            (KeyOp::Recover, Some(Key::Deleted { versions, .. })) => {
                vault.keys.insert(key, Key::Live { versions, shown_from: now + KEY_RECOVER });
                Some(seen(200, ""))
            }
            (KeyOp::Purge, Some(Key::Deleted { .. })) if protected => Some(seen(403, "Forbidden")),
            (KeyOp::Purge, Some(Key::Deleted { at, .. })) if now < at + KEY_DELETE => being_deleted(),
            (KeyOp::Purge, Some(Key::Deleted { .. })) => {
                vault.keys.remove(&key);
                Some(seen(204, ""))
            }
            (KeyOp::Recover | KeyOp::Purge, _) => missing(),
        }
    }
}
