//! Writes of many turns in few statements.
//!
//! What belongs here: collecting what is to be recorded while a statement is under way and sending it with the next one.
//! What does not: what a write is (`progress`).
//!
//! A write that finds nothing under way is sent at once, alone: batching costs no time, and begins by itself when writes
//! come faster than the database takes them. Each write is durable before its sender goes on.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::{LeaseLost, Recorded, RunWrite, Store, StoreError};

/// How many statements may be under way at the same time: while one commits, the next is executed.
const LANES: usize = 2;

/// How many writes may wait to be sent; more senders than this wait to be taken in.
const QUEUE: usize = 1024;

struct Item {
    write: Arc<RunWrite>,
    answer: oneshot::Sender<Result<Result<(), LeaseLost>, Arc<StoreError>>>,
}

/// Records writes in batches. Cheap to clone; its tasks end when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Recorder {
    store: Store,
    /// None: each write is a statement of its own.
    queue: Option<mpsc::Sender<Item>>,
}

impl Recorder {
    /// The most writes in one statement: what a statement costs the others that wait.
    pub const BATCH: usize = 128;

    /// Starts the tasks that send, with at most `batch` writes in a statement; 1 sends each alone and at once.
    pub fn start(store: &Store, batch: usize) -> Self {
        let store = store.clone();
        if batch <= 1 {
            return Self { store, queue: None };
        }
        let (queue, items) = mpsc::channel(QUEUE);
        let items = Arc::new(Mutex::new(items));
        for _ in 0..LANES {
            tokio::spawn(send(store.clone(), Arc::clone(&items), batch.min(Self::BATCH)));
        }
        Self { store, queue: Some(queue) }
    }

    /// Records a write with the next statement.
    pub async fn record(&self, write: Arc<RunWrite>) -> Recorded {
        let Some(queue) = &self.queue else { return self.store.record(&write).await };
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        queue.send(Item { write, answer }).await.map_err(|_| gone())?;
        match answered.await {
            Ok(Ok(recorded)) => Ok(recorded),
            // Each sender decides for itself what to do; the statement's error is the same for all.
            Ok(Err(error)) => Err(shared(&error)),
            Err(_) => Err(gone()),
        }
    }
}

async fn send(store: Store, items: Arc<Mutex<mpsc::Receiver<Item>>>, batch: usize) {
    let mut taken = Vec::with_capacity(batch);
    loop {
        if items.lock().await.recv_many(&mut taken, batch).await == 0 {
            return;
        }
        let writes: Vec<&RunWrite> = taken.iter().map(|item| &*item.write).collect();
        let recorded = match writes[..] {
            [alone] => store.record(alone).await.map(|outcome| vec![outcome]),
            _ => store.record_all(&writes).await,
        };
        match recorded {
            Ok(outcomes) => {
                for (item, outcome) in taken.drain(..).zip(outcomes) {
                    let _ = item.answer.send(Ok(outcome));
                }
            }
            // One write that the database refuses must not take the others of its batch with it.
            Err(error) if taken.len() > 1 && !matches!(error, StoreError::Unavailable(_)) => {
                for item in taken.drain(..) {
                    let alone = store.record(&item.write).await.map_err(Arc::new);
                    let _ = item.answer.send(alone);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for item in taken.drain(..) {
                    let _ = item.answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

/// The same error for another sender: its class decides what follows, its text stands in the log.
pub(super) fn shared(error: &StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(cause) => StoreError::Unavailable(sqlx::Error::Protocol(cause.to_string())),
        other => StoreError::Database(sqlx::Error::Protocol(other.to_string())),
    }
}
