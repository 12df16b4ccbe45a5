//! First answers that may be asked for again: a caller whose connection broke repeats its request within seconds.
//!
//! What belongs here: a bounded memory of jobs that were accepted in this process under an idempotency key. What does not:
//! what a key means. The database's rows decide; a row for a key, once there, does not change for 30 days, so what is
//! remembered here for minutes cannot differ from it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::jobs::FirstAnswer;
use crate::store::IdempotencyKey;

/// How many answers are remembered.
const MOST: usize = 1024;

/// How many bytes they may have together. Most have some kilobytes, but a request may be long.
const MOST_BYTES: usize = 8 * 1024 * 1024;

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
    answers: HashMap<Name, ([u8; 32], Instant, FirstAnswer)>,
    order: VecDeque<Name>,
    bytes: usize,
}

impl Replays {
    /// The first answer to this key and body.
    pub(super) fn find(&self, key: &IdempotencyKey<'_>) -> Option<FirstAnswer> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, since, answer) = kept.answers.get(&name(key))?;
        (*hash == key.request_hash && since.elapsed() < KEPT).then(|| answer.clone())
    }

    /// Remembers a first answer; the oldest one makes room.
    pub(super) fn remember(&self, key: &IdempotencyKey<'_>, answer: FirstAnswer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name(key);
        kept.bytes += answer.size();
        match kept.answers.insert(name.clone(), (key.request_hash, Instant::now(), answer)) {
            Some((_, _, before)) => kept.bytes -= before.size(),
            None => kept.order.push_back(name),
        }
        while kept.order.len() > MOST || kept.bytes > MOST_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some((_, _, gone)) = kept.answers.remove(&oldest) {
                kept.bytes -= gone.size();
            }
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
        let job = examples::job_in(crate::domain::job::JobState::Queued);
        let (replays, answer) = (Replays::default(), FirstAnswer::of(&job).expect("JSON"));
        replays.remember(&key("k", 1), answer.clone());
        assert_eq!(replays.find(&key("k", 1)), Some(answer.clone()));
        assert_eq!(replays.find(&key("k", 2)), None, "another body");
        assert_eq!(replays.find(&IdempotencyKey { caller: "d", ..key("k", 1) }), None, "another caller");
        for n in 0..MOST {
            replays.remember(&key(&n.to_string(), 1), answer.clone());
        }
        assert_eq!(replays.find(&key("k", 1)), None);
        assert!(replays.find(&key("0", 1)).is_some());
        let kept = replays.0.lock().expect("nobody panicked");
        assert_eq!((kept.answers.len(), kept.bytes), (MOST, MOST * answer.size()));
    }

    #[test]
    fn long_answers_are_remembered_as_long_as_they_fit_together() {
        let mut job = examples::job_in(crate::domain::job::JobState::Queued);
        job.requested_by = "x".repeat(1024 * 1024);
        let (replays, answer) = (Replays::default(), FirstAnswer::of(&job).expect("JSON"));
        for n in 0..10 {
            replays.remember(&key(&n.to_string(), 1), answer.clone());
        }
        let found = |n: u8| replays.find(&key(&n.to_string(), 1)).is_some();
        assert_eq!([0, 1, 2, 3, 9].map(found), [false, false, false, true, true]);
    }
}
