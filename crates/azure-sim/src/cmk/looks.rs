//! Looking again: every service under a customer's key asks by the simulated clock whether it may still use it, and once
//! a day whether there is a newer version. Looks are decided with what the world says, under its lock, when time has
//! passed; what needs cryptography is done by whoever opens data next, or by the `keeper`.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::cmk::check::{Usable, check, recheck};
use crate::cmk::hold::{DAILY, Hold};
use crate::cmk::key_use::{KeyUse, Refusal};
use crate::options::Addresses;
use crate::propagation::reached;
use crate::state::{Shared, World};

/// What one service found when it looked.
struct Seen {
    current: Result<Usable, Refusal>,
    /// A newer version that it goes over to.
    newer: Option<Usable>,
    /// Whether it has asked for one.
    asked: bool,
}

/// Lets every service look whose time has come. However much time has passed since, each looks once: it acts on the world
/// as it is now, so further looks at the same moment would see the same. Whether there is new
/// rewrapping for the keeper.
pub(crate) fn look_at_all(w: &mut World, addresses: &Addresses, now: OffsetDateTime) -> bool {
    let due: Vec<String> =
        w.holds.iter().filter(|(_, hold)| reached(hold.next_look, now)).map(|(id, _)| id.clone()).collect();
    let mut rewrapping = false;
    for id in due {
        let Some(seen) = w.holds.get(&id).map(|hold| look(w, addresses, hold, now)) else { continue };
        let next = w.due(|p| &p.key_look, now);
        let Some(hold) = w.holds.get_mut(&id) else { continue };
        let regained = hold.refused.is_some() && seen.current.is_ok();
        hold.next_look = next;
        hold.note(seen.current.as_ref().map(|_| ()).map_err(|why| *why), now);
        if seen.asked {
            hold.next_daily = now.saturating_add(DAILY);
        }
        if let (Ok(current), Some(newer)) = (&seen.current, &seen.newer) {
            hold.follow(current, newer, now);
            rewrapping = true;
        }
        rewrapping |= regained && hold.wants_rewrapping();
    }
    rewrapping
}

fn look(w: &World, addresses: &Addresses, hold: &Hold, now: OffsetDateTime) -> Seen {
    let current = recheck(w, addresses, &hold.key_use, &hold.version, now);
    let asked = current.is_ok() && hold.key_use.version.is_empty() && hold.next_daily <= now;
    // A latest version that cannot be used is passed over: the one in use stays.
    let newer = asked
        .then(|| check(w, addresses, &KeyUse { version: String::new(), ..hold.key_use.clone() }, now).ok())
        .flatten()
        .filter(|latest| latest.version != hold.version);
    Seen { current, newer, asked }
}

/// Does the rewrapping that daily looks have asked for, until told to stop.
pub(crate) async fn keeper(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.rewrap.notified() => {}
        }
        let waiting: Vec<String> = shared
            .world(|w| w.holds.iter().filter(|(_, hold)| hold.wants_rewrapping()).map(|(id, _)| id.clone()).collect());
        for id in waiting {
            if stop.is_cancelled() {
                return;
            }
            if let Err(why) = crate::cmk::open(&shared, &id).await {
                tracing::debug!(?why, id, "a data key could not be rewrapped yet");
            }
        }
    }
}
