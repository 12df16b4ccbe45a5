//! What a service keeps of a key that it has taken: which one, on what terms, the wrapped data key, and whether it could
//! still use it when it last looked. Providers render their read-back fields from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use tokio::sync::OnceCell;

use crate::cmk::check::{Usable, home};
use crate::cmk::data_key::DataKey;
use crate::cmk::key_use::{KeyUse, Refusal};
use crate::keyvault::crypto::Material;
use crate::propagation::Due;
use crate::rbac::assignments::at_or_above;
use crate::state::{Shared, World};

/// How often a service asks for a newer version of a key that it was given without one.
pub(crate) const DAILY: Duration = Duration::hours(24);

/// A customer's key in use by one resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub key_use: KeyUse,
    /// Identifier of the key version in use.
    pub kid: String,
    /// Its version.
    pub version: String,
    /// When that version expires.
    pub expires: Option<i64>,
    /// When this version was taken into use.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Set while the service has no access to the key: why, and since when.
    pub refused: Option<Refused>,
    /// When the service looks at the key again; `None` is never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_look: Due,
    /// When it next asks for a newer version, where it was given none. Stays due until it could ask.
    #[serde(with = "time::serde::rfc3339")]
    pub next_daily: OffsetDateTime,
    /// The data key under the key version `wrapped_under`.
    wrapped: Vec<u8>,
    /// Lags behind `version` for the moment between a daily look and the rewrapping that it asks for.
    wrapped_under: String,
    /// A rewrapping that is decided and not done yet.
    rewrap: Option<Rewrap>,
    /// The data key unwrapped, from its first use until the next look, which must unwrap it anew.
    #[serde(skip)]
    opened: Arc<OnceCell<Arc<DataKey>>>,
    #[serde(skip)]
    opened_at: Due,
}

/// A lost access.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub why: Refusal,
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// The keys with which a daily look found that the data key can be moved, at the time of that look.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rewrap {
    #[serde(with = "crate::keyvault::stored")]
    from: Arc<Material>,
    #[serde(with = "crate::keyvault::stored")]
    to: Arc<Material>,
}

impl Hold {
    /// Takes a key: wraps a fresh data key with the key's own material.
    ///
    /// # Errors
    /// `WrongKey` when the material does not wrap and unwrap.
    pub async fn take(found: &Usable, key_use: KeyUse, now: OffsetDateTime) -> Result<Self, Refusal> {
        Self::with(&Arc::new(DataKey::fresh()), found, key_use, now).await
    }

    /// Takes a key for a data key that is in use already.
    ///
    /// # Errors
    /// As `take`.
    pub async fn with(
        data_key: &Arc<DataKey>,
        found: &Usable,
        key_use: KeyUse,
        now: OffsetDateTime,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            key_use,
            kid: found.kid.clone(),
            version: found.version.clone(),
            expires: found.expires,
            since: now,
            refused: None,
            next_look: Some(now),
            next_daily: now.saturating_add(DAILY),
            wrapped: data_key.wrap(found.material.clone()).await?,
            wrapped_under: found.version.clone(),
            rewrap: None,
            opened: Arc::default(),
            opened_at: None,
        })
    }

    /// Notes what a look at the key came to. The data key is forgotten either way: after a success it must be unwrapped
    /// anew, after a refusal it cannot be.
    pub(super) fn note(&mut self, outcome: Result<(), Refusal>, now: OffsetDateTime) {
        match outcome {
            Ok(()) => self.refused = None,
            Err(why) => {
                let since = self.refused.map_or(now, |r| r.since);
                self.refused = Some(Refused { why, since });
            }
        }
        // Several looks at one moment of a clock that stands still are one.
        if self.refused.is_some() || self.opened_at != Some(now) {
            self.opened = Arc::default();
            self.opened_at = Some(now);
        }
    }

    /// Goes over to a newer version, for which both versions were found usable. The rewrapping itself is left to
    /// `open`, outside of the world's lock; it is done with these keys, whatever becomes of them until then.
    pub(super) fn follow(&mut self, current: &Usable, newer: &Usable, now: OffsetDateTime) {
        let from = match self.rewrap.take() {
            Some(undone) => undone.from,
            None => current.material.clone(),
        };
        self.rewrap = Some(Rewrap { from, to: newer.material.clone() });
        self.kid.clone_from(&newer.kid);
        self.version.clone_from(&newer.version);
        self.expires = newer.expires;
        self.since = now;
        self.opened = Arc::default();
    }

    /// Whether a rewrapping waits to be done.
    pub(super) fn wants_rewrapping(&self) -> bool {
        self.rewrap.is_some()
    }

    /// The form of the data key that the service stores.
    #[cfg(test)]
    pub(super) fn wrapped(&self) -> (&str, &[u8]) {
        (&self.wrapped_under, &self.wrapped)
    }
}

impl World {
    /// The key in use by a resource under a customer's key. The id's case does not matter.
    pub fn hold(&self, id: &str) -> Option<&Hold> {
        self.holds.get(&id.to_lowercase())
    }

    /// Puts a resource under a customer's key, or changes its key; from now on the service looks at it by the clock.
    pub fn set_hold(&mut self, id: &str, mut hold: Hold, now: OffsetDateTime) {
        hold.next_look = self.due(|p| &p.key_look, now);
        self.holds.insert(id.to_lowercase(), hold);
    }

    /// Takes a resource from under its customer's key.
    pub fn drop_hold(&mut self, id: &str) -> Option<Hold> {
        self.holds.remove(&id.to_lowercase())
    }

    /// Forgets the keys of all resources at or under a scope that is being deleted.
    pub fn drop_holds_under(&mut self, scope: &str) {
        self.holds.retain(|id, _| !at_or_above(scope, id));
    }
}

/// The hold with which a resource goes on after `check` found a key: the one it has where the key stays the same, else
/// one with the same data key under the other key, and for a resource that has none a new one.
///
/// # Errors
/// `WrongKey` as `Hold::take`; the present refusal when the data key cannot be got out from under the present key.
pub(crate) async fn prepare(
    shared: &Shared,
    id: &str,
    found: &Usable,
    key_use: KeyUse,
    now: OffsetDateTime,
) -> Result<Hold, Refusal> {
    match shared.world(|w| w.hold(id).cloned()) {
        None => Hold::take(found, key_use, now).await,
        Some(mut same) if same.kid == found.kid => {
            same.key_use = key_use;
            same.expires = found.expires;
            same.note(Ok(()), now);
            Ok(same)
        }
        Some(_) => Hold::with(&open(shared, id).await?, found, key_use, now).await,
    }
}

/// What one opening of a data key works on, read under the lock.
enum Opening {
    /// It was opened since the last look.
    Done(Arc<DataKey>),
    Todo {
        /// Shared by all who open at the same time, so that it is unwrapped once.
        cell: Arc<OnceCell<Arc<DataKey>>>,
        material: Arc<Material>,
        wrapped: Vec<u8>,
        rewrap: Option<Rewrap>,
    },
}

/// The data key of a resource, unwrapped with the customer's key unless that was done since the last look. A rewrapping
/// that waits is done on the way.
///
/// # Errors
/// The refusal that the last look met; `WrongKey` when the key does not unwrap; `KeyMissing` without a hold.
pub(crate) async fn open(shared: &Shared, id: &str) -> Result<Arc<DataKey>, Refusal> {
    let opening = shared.world(|w| {
        let hold = w.hold(id).ok_or(Refusal::KeyMissing)?;
        if let Some(refused) = hold.refused {
            return Err(refused.why);
        }
        if let (Some(key), None) = (hold.opened.get(), &hold.rewrap) {
            return Ok(Opening::Done(key.clone()));
        }
        let material = match &hold.rewrap {
            Some(rewrap) => rewrap.from.clone(),
            None => {
                let home = home(w, &shared.addresses, &hold.key_use)?;
                home.version(&hold.key_use.key, &hold.wrapped_under)?.1.material.clone()
            }
        };
        let (wrapped, rewrap) = (hold.wrapped.clone(), hold.rewrap.clone());
        Ok(Opening::Todo { cell: hold.opened.clone(), material, wrapped, rewrap })
    })?;
    let (cell, material, wrapped, rewrap) = match opening {
        Opening::Done(key) => return Ok(key),
        Opening::Todo { cell, material, wrapped, rewrap } => (cell, material, wrapped, rewrap),
    };
    let data_key = cell.get_or_try_init(|| DataKey::unwrap(material, wrapped.clone())).await?.clone();
    if let Some(rewrap) = rewrap {
        let moved = data_key.wrap(rewrap.to.clone()).await?;
        shared.world(|w| {
            let Some(hold) = w.holds.get_mut(&id.to_lowercase()) else { return };
            let mine = hold.rewrap.as_ref().is_some_and(|r| Arc::ptr_eq(&r.to, &rewrap.to));
            if mine && hold.wrapped == wrapped {
                hold.wrapped = moved;
                hold.wrapped_under.clone_from(&hold.version);
                hold.rewrap = None;
            }
        });
    }
    Ok(data_key)
}
