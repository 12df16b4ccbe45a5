//! Follows a type's rules for its keys: is the key on, which one is it, who looks at it, may it be changed so. Nothing is
//! written here; `write` does that.

use std::borrow::Cow;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::arm::generic::pointer;
use crate::arm::generic::resource::Resource;
use crate::arm::generic::rule::{Back, Cmk, Follows, KeyAt, Looks, On, Trouble, Version, When};
use crate::arm::identity_block::IdentityBlock;
use crate::cmk::{self, KeyUse, Refusal, Usable};
use crate::options::Addresses;
use crate::rbac::assignments::at_or_above;
use crate::state::World;

/// Whether the body puts the key on.
pub(crate) fn is_on(rule: &Cmk, body: &Value) -> bool {
    match rule.on {
        On::Is(at, value) => pointer::text(body, at).is_some_and(|v| v.eq_ignore_ascii_case(value)),
        On::Present(at) => pointer::text(body, at).is_some(),
        On::True(at) => pointer::get(body, at) == Some(&Value::Bool(true)),
    }
}

/// Under which id the hold on a resource's key is kept.
pub(crate) fn hold_id(id: &str, rule: &Cmk) -> String {
    match rule.part {
        "" => id.to_owned(),
        child if child.starts_with('/') => format!("{id}{child}"),
        part => format!("{id}#{part}"),
    }
}

/// What a write does about one key.
#[derive(Debug)]
pub(crate) enum Step {
    /// The key is as it was, or stays off.
    Leave,
    /// This key is taken.
    Take(Box<(KeyUse, Usable)>),
    /// The key goes.
    Drop,
    /// The write is good although the key cannot be used yet.
    Later,
}

/// What a write of `next` over `have` does about one key. `touched` is whether the write has anything to do with it.
pub(crate) fn step(
    w: &World,
    addresses: &Addresses,
    rule: &Cmk,
    have: Option<&Resource>,
    next: &Resource,
    touched: bool,
    now: OffsetDateTime,
) -> Result<Step, Trouble> {
    let was = have.is_some_and(|h| is_on(rule, &h.body));
    if !is_on(rule, &next.body) {
        return match (was, rule.back) {
            (false, _) => Ok(Step::Leave),
            (true, Back::Yes) => Ok(Step::Drop),
            (true, Back::No) => Err(Trouble::NoWayBack),
        };
    }
    if !touched && was {
        return Ok(Step::Leave);
    }
    if !was && have.is_some() {
        match rule.when {
            When::Anytime => {}
            When::AtCreation => return Err(Trouble::TooLate),
            When::Empty(types) => {
                let inside = |r: &&Resource| at_or_above(&next.id, &r.id);
                if w.resources.values().filter(inside).any(|r| types.contains(&r.kind.as_str())) {
                    return Err(Trouble::NotEmpty);
                }
            }
        }
    }
    let named = named(w, addresses, rule, next)?;
    if rule.same_vault
        && let Some(hold) = w.hold(&hold_id(&next.id, rule))
        && !same_origin(&hold.key_use.vault_uri, &named.vault_uri)
    {
        return Err(Trouble::OtherVault);
    }
    let asked = key_use(w, rule, next, named);
    let found = asked.and_then(|mut asked| {
        let found = cmk::check(w, addresses, &asked, now).map_err(Trouble::Key)?;
        if matches!(rule.follows, Follows::Never) {
            asked.version.clone_from(&found.version);
        }
        Ok((asked, found))
    });
    match found {
        Ok(found) => Ok(Step::Take(Box::new(found))),
        Err(Trouble::Nobody | Trouble::Key(Refusal::NoAccess | Refusal::IdentityGone)) if rule.grant_later => {
            Ok(Step::Later)
        }
        Err(trouble) => Err(trouble),
    }
}

fn same_origin(one: &str, other: &str) -> bool {
    let origin = |uri: &str| url::Url::parse(uri).ok().map(|u| u.origin());
    origin(one) == origin(other)
}

/// A key as a body names it.
#[derive(Debug, PartialEq)]
struct Named {
    vault_uri: String,
    key: String,
    version: String,
}

fn named(w: &World, addresses: &Addresses, rule: &Cmk, resource: &Resource) -> Result<Named, Trouble> {
    let body = &resource.body;
    let must = |at: &'static str| pointer::text(body, at).map(str::to_owned).ok_or(Trouble::Missing(at));
    let may = |at: &str| pointer::text(body, at).unwrap_or_default().to_owned();
    let named = match rule.key {
        KeyAt::Split { vault, name, version } => {
            Named { vault_uri: must(vault)?, key: must(name)?, version: may(version) }
        }
        KeyAt::ByVaultId { vault, name, version } => {
            let id = must(vault)?;
            let label = id.rsplit('/').next().unwrap_or_default().to_lowercase();
            let found = w.vaults.get(&label).filter(|v| v.id.eq_ignore_ascii_case(&id));
            let vault = found.ok_or(Trouble::Key(Refusal::VaultMissing))?;
            Named { vault_uri: vault.uri(addresses), key: must(name)?, version: may(version) }
        }
        KeyAt::Url(at) => split(&must(at)?)?,
        KeyAt::Found(find) => split(&find(w, resource).ok_or(Trouble::Key(Refusal::KeyMissing))?)?,
    };
    match (rule.version, named.version.is_empty()) {
        (Version::Required, true) => return Err(Trouble::VersionMissing),
        (Version::Forbidden, false) => return Err(Trouble::VersionNamed),
        _ => {}
    }
    if rule.longest.is_some_and(|most| label(&named.vault_uri).len() + named.key.len() > most) {
        return Err(Trouble::TooLong);
    }
    Ok(named)
}

fn label(uri: &str) -> &str {
    let host = uri.split("://").last().unwrap_or_default().trim_start_matches('/');
    host.split(['.', '/', ':']).next().unwrap_or_default()
}

/// `https://{vault}/keys/{name}[/{version}]`.
fn split(text: &str) -> Result<Named, Trouble> {
    let bad = Trouble::Key(Refusal::BadUri);
    let url = url::Url::parse(text).map_err(|_| bad)?;
    let mut parts = url.path_segments().ok_or(bad)?;
    if parts.next() != Some("keys") || url.query().is_some() || url.fragment().is_some() {
        return Err(bad);
    }
    let key = parts.next().filter(|k| !k.is_empty()).ok_or(bad)?.to_owned();
    let version = parts.next().unwrap_or_default().to_owned();
    if parts.next().is_some() {
        return Err(bad);
    }
    let mut vault = url.clone();
    vault.set_path("/");
    Ok(Named { vault_uri: vault.into(), key, version })
}

fn key_use(w: &World, rule: &Cmk, resource: &Resource, named: Named) -> Result<KeyUse, Trouble> {
    let principal = principal(w, &rule.looks, resource).ok_or(Trouble::Nobody)?;
    let follows = match rule.follows {
        Follows::Flag(at) => pointer::get(&resource.body, at) == Some(&Value::Bool(true)),
        Follows::Versionless | Follows::Never => false,
    };
    let version = if follows { String::new() } else { named.version };
    Ok(KeyUse {
        ops: rule.ops,
        hsm: rule.hsm,
        sizes: Cow::Borrowed(rule.sizes),
        needs_no_expiry: rule.needs_no_expiry,
        region: rule.same_region.then(|| resource.location.clone()),
        retention_days: rule.retention_days,
        comes_from: Cow::Borrowed(rule.comes_from),
        ..KeyUse::new(principal, named.vault_uri, named.key, version)
    })
}

/// The object id of who looks at the key; `None` when the resource has no such identity.
pub(crate) fn principal(w: &World, looks: &Looks, resource: &Resource) -> Option<String> {
    let made = |at: &str| resource.made.get(at).cloned();
    match looks {
        Looks::Made(at) => made(at),
        Looks::Parent(looks) => {
            let (parent, _) = resource.id.rsplit_once('/')?.0.rsplit_once('/')?;
            if let Some(parent) = w.resources.get(&parent.to_lowercase()) {
                return principal(w, looks, parent);
            }
            let account = w.accounts.values().find(|a| a.id.eq_ignore_ascii_case(parent))?;
            let body = json!({ "properties": { "encryption": { "identity": {
                "userAssignedIdentity": account.encryption.identity } } } });
            of_identity(w, looks, &account.identity, &body)
        }
        Looks::ParentByClient(at) => {
            let (parent, _) = resource.id.rsplit_once('/')?.0.rsplit_once('/')?;
            let parent = w.resources.get(&parent.to_lowercase())?;
            match pointer::text(&resource.body, at) {
                Some(_) => of_identity(w, &Looks::ClientId(at), &parent.identity, &resource.body),
                None => principal(w, &Looks::Own, parent),
            }
        }
        looks => of_identity(w, looks, &resource.identity, &resource.body),
    }
}

fn of_identity(w: &World, looks: &Looks, identity: &IdentityBlock, body: &Value) -> Option<String> {
    let attached = |id: &str| {
        let key = id.to_lowercase();
        identity.user.get(&key).and_then(|_| w.identities.get(&key)).map(|i| i.principal_id.clone())
    };
    match looks {
        Looks::ArmId(at) => match pointer::text(body, at) {
            Some(id) => attached(id),
            None => identity.system.clone(),
        },
        Looks::ArmIdElse(at, app) => match pointer::text(body, at) {
            Some(id) => attached(id),
            None => crate::entra::first_party::object_id(w, app),
        },
        Looks::NamedById(at) => {
            w.identities.get(&pointer::text(body, at)?.to_lowercase()).map(|i| i.principal_id.clone())
        }
        Looks::NamedByClient(at) => {
            let client = pointer::text(body, at)?;
            w.identities.values().find(|i| i.client_id.eq_ignore_ascii_case(client)).map(|i| i.principal_id.clone())
        }
        Looks::ClientId(at) => match pointer::text(body, at) {
            Some(client) => identity
                .user
                .keys()
                .filter_map(|key| w.identities.get(key))
                .find(|i| i.client_id.eq_ignore_ascii_case(client))
                .map(|i| i.principal_id.clone()),
            None => identity.system.clone(),
        },
        Looks::Cosmos(at) => {
            let text = pointer::text(body, at)?;
            // Another tenant's application may follow behind `&FederatedClientId=`.
            let (who, _) = text.split_once('&').unwrap_or((text, ""));
            match who.split_once('=') {
                Some((kind, id)) if kind.eq_ignore_ascii_case("UserAssignedIdentity") => attached(id),
                None if who.eq_ignore_ascii_case("SystemAssignedIdentity") => identity.system.clone(),
                None if who.eq_ignore_ascii_case("FirstPartyIdentity") => {
                    crate::entra::first_party::object_id(w, crate::entra::first_party::COSMOS)
                }
                _ => None,
            }
        }
        Looks::Own => match identity.user.keys().next() {
            Some(id) => attached(id),
            None => identity.system.clone(),
        },
        Looks::System => identity.system.clone(),
        Looks::FirstParty(app) => crate::entra::first_party::object_id(w, app),
        Looks::Parent(_) | Looks::ParentByClient(_) | Looks::Made(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_urls() {
        let named = |vault: &str, key: &str, version: &str| {
            Ok(Named { vault_uri: vault.into(), key: key.into(), version: version.into() })
        };
        assert_eq!(split("https://v.vault.localhost:8443/keys/k"), named("https://v.vault.localhost:8443/", "k", ""));
        assert_eq!(split("https://v.vault.test/keys/k/0a"), named("https://v.vault.test/", "k", "0a"));
        assert_eq!(split("https://v.vault.test/keys/k/"), named("https://v.vault.test/", "k", ""));
        for bad in ["", "k", "https://v.vault.test/", "https://v/secrets/k", "https://v/keys/", "https://v/keys/k/1/2"]
        {
            assert_eq!(split(bad), Err(Trouble::Key(Refusal::BadUri)), "{bad}");
        }
        assert_eq!(label("https://kv-1.vault.localhost:8443/"), "kv-1");
    }
}
