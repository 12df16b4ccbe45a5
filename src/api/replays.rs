//! First answers that may be asked for again: a caller whose connection broke repeats its request within seconds.
//!
//! What belongs here: a bounded memory of jobs that were accepted in this process under an idempotency key. What does not:
//! what a key means. The database's rows decide; a row for a key, once there, does not change for 30 days, so what is
//! remembered here for minutes cannot differ from it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::store::{IdempotencyKey, Job};

/// How many answers are remembered: some megabytes.
const MOST: usize = 1024;

/// For how long. Far below the 30 days after which a key is free again.
const KEPT: Duration = Duration::from_secs(600);

type Name = (String, String);

/// The memory. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Replays(Arc<Mutex<Kept>>);

impl std::fmt::Debug for Replays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replays").finish()
    }
}

#[derive(Default)]
struct Kept {
    jobs: HashMap<Name, ([u8; 32], Instant, Arc<Job>)>,
    order: VecDeque<Name>,
}

impl Replays {
    /// The job that this key and body brought, as it was accepted.
    pub(super) fn find(&self, key: &IdempotencyKey<'_>) -> Option<Arc<Job>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, since, job) = kept.jobs.get(&name(key))?;
        (*hash == key.request_hash && since.elapsed() < KEPT).then(|| Arc::clone(job))
    }

    /// Remembers a job as it was accepted; the oldest one makes room.
    pub(super) fn remember(&self, key: &IdempotencyKey<'_>, job: Job) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name(key);
        if kept.jobs.insert(name.clone(), (key.request_hash, Instant::now(), Arc::new(job))).is_none() {
            kept.order.push_back(name);
        }
        if kept.order.len() > MOST
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.jobs.remove(&oldest);
        }
    }
}

fn name(key: &IdempotencyKey<'_>) -> Name {
    (key.caller.to_owned(), key.key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::examples;

    fn key(key: &str, body: u8) -> IdempotencyKey<'_> {
        IdempotencyKey { caller: "c", key, request_hash: [body; 32] }
    }

    #[test]
    fn the_same_key_and_body_are_known_and_the_oldest_is_forgotten() {
        let (replays, job) = (Replays::default(), examples::job_in(crate::domain::job::JobState::Queued));
        replays.remember(&key("k", 1), job.clone());
        assert_eq!(replays.find(&key("k", 1)).as_deref(), Some(&job));
        assert_eq!(replays.find(&key("k", 2)), None, "another body");
        assert_eq!(replays.find(&IdempotencyKey { caller: "d", ..key("k", 1) }), None, "another caller");
        for n in 0..MOST {
            replays.remember(&key(&n.to_string(), 1), job.clone());
        }
        assert_eq!(replays.find(&key("k", 1)), None);
        assert!(replays.find(&key("0", 1)).is_some());
        assert_eq!(replays.0.lock().expect("nobody panicked").jobs.len(), MOST);
    }
}
