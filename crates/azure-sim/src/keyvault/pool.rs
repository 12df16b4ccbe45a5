//! RSA keys made ahead of need. A 4096-bit pair takes a second or more, so one of each common size is kept ready for the
//! whole process; with `fast_keys` one pair per size is handed out again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::keyvault::crypto::{CryptoFailed, Material};

static READY: Mutex<BTreeMap<u32, Vec<Arc<Material>>>> = Mutex::new(BTreeMap::new());
static FIXED: Mutex<BTreeMap<(u32, bool), Arc<Material>>> = Mutex::new(BTreeMap::new());

/// Spare pairs per size.
const SPARE: usize = 2;

fn with_ready<T>(f: impl FnOnce(&mut BTreeMap<u32, Vec<Arc<Material>>>) -> T) -> T {
    f(&mut READY.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Starts making a spare of the size in the background, unless there are enough.
pub(crate) fn refill(bits: u32) {
    if with_ready(|r| r.get(&bits).map_or(0, Vec::len)) >= SPARE {
        return;
    }
    tokio::task::spawn_blocking(move || {
        if let Ok(material) = Material::rsa(bits, false) {
            with_ready(|r| {
                let spares = r.entry(bits).or_default();
                if spares.len() < SPARE {
                    spares.push(Arc::new(material));
                }
            });
        }
    });
}

/// An RSA pair of the size: a spare, the fixed one, or a new one.
pub(crate) async fn rsa(bits: u32, hsm: bool, fast: bool) -> Result<Arc<Material>, CryptoFailed> {
    if fast {
        return tokio::task::spawn_blocking(move || fixed(bits, hsm)).await.map_err(|_| CryptoFailed)?;
    }
    if !hsm && let Some(spare) = with_ready(|r| r.get_mut(&bits).and_then(Vec::pop)) {
        refill(bits);
        return Ok(spare);
    }
    tokio::task::spawn_blocking(move || Material::rsa(bits, hsm).map(Arc::new)).await.map_err(|_| CryptoFailed)?
}

/// The one pair of this size; the lock is held while it is made, so that it is made once.
fn fixed(bits: u32, hsm: bool) -> Result<Arc<Material>, CryptoFailed> {
    let mut all = FIXED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(material) = all.get(&(bits, hsm)) {
        return Ok(material.clone());
    }
    let material = Arc::new(Material::rsa(bits, hsm)?);
    all.insert((bits, hsm), material.clone());
    Ok(material)
}
