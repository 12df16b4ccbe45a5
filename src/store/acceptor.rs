//! Accepting jobs that come at the same time in one statement.
//!
//! What belongs here: collecting jobs, the statement for many, and handing on what it cannot take. What does not: what a
//! job in the way means, which `accept` finds out for each alone.
//!
//! The statement takes what nothing stands in the way of: no unfinished job of the target, no use of the idempotency key. A
//! job that it leaves out goes alone, and so does every job of a statement that the database refused, for instance because
//! another process accepted one of the targets between the look and the insert. So an answer never depends on what else
//! came at the same time; a burst only costs less.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::sync::{Mutex, mpsc, oneshot};
use uuid::Uuid;

use super::accept::pending;
use super::recorder::shared;
use super::rows::stored_steps;
use super::{Accepted, EventKind, IdempotencyKey, NewJob, Store, StoreError};
use crate::plan::PLAN_VERSION;

/// How many statements may be under way at the same time: while one commits, the next is executed.
const LANES: usize = 2;

/// How many jobs may wait to be sent; more callers than this wait to be taken in, within their request's time.
const QUEUE: usize = 1024;

/// The most jobs in one statement: some hundred kilobytes.
const BATCH: usize = 64;

/// What became of a job: when it was accepted, or that it has to go alone.
type Sent = Result<Option<OffsetDateTime>, Arc<StoreError>>;

struct Item {
    row: Row,
    answer: oneshot::Sender<Sent>,
}

/// Accepts jobs in batches. Cheap to clone; its tasks end when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Acceptor {
    store: Store,
    queue: mpsc::Sender<Item>,
}

impl Acceptor {
    /// Starts the tasks that send.
    pub fn start(store: &Store) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let items = Arc::new(Mutex::new(items));
        for _ in 0..LANES {
            tokio::spawn(send(store.clone(), Arc::clone(&items)));
        }
        Self { store: store.clone(), queue }
    }

    /// As [`Store::insert_job`].
    pub async fn insert_job(&self, job: &NewJob<'_>, key: Option<&IdempotencyKey<'_>>) -> Result<Accepted, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Unavailable(sqlx::Error::PoolClosed);
        self.queue.send(Item { row: Row::of(job, key)?, answer }).await.map_err(|_| gone())?;
        match answered.await {
            Ok(Ok(Some(created_at))) => Ok(Accepted::New(Box::new(job.stored(created_at)))),
            Ok(Ok(None)) => self.store.insert_job(job, key).await,
            Ok(Err(error)) => Err(shared(&error)),
            Err(_) => Err(gone()),
        }
    }
}

async fn send(store: Store, items: Arc<Mutex<mpsc::Receiver<Item>>>) {
    let mut taken = Vec::with_capacity(BATCH);
    loop {
        if items.lock().await.recv_many(&mut taken, BATCH).await == 0 {
            return;
        }
        let mut columns = Columns::default();
        let mut waiting = Vec::with_capacity(taken.len());
        for Item { row, answer } in taken.drain(..) {
            match columns.push(row) {
                Some(id) => waiting.push((id, answer)),
                // The same target or key as another one's in this statement.
                None => drop(answer.send(Ok(None))),
            }
        }
        match store.insert_jobs(&columns).await {
            Ok(accepted) => {
                for (id, answer) in waiting {
                    let at = accepted.iter().find(|(job, _)| *job == id).map(|(_, at)| *at);
                    let _ = answer.send(Ok(at));
                }
            }
            // Nobody knows whether they were stored: told to all, as to a caller who came alone.
            Err(error @ StoreError::Unavailable(_)) => {
                let error = Arc::new(error);
                for (_, answer) in waiting {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
            }
            // The statement was refused whole, so nothing is stored, and whose fault it was comes out alone.
            Err(error) => {
                tracing::debug!(error = %error, jobs = waiting.len(), "jobs that came together are accepted one by one");
                for (_, answer) in waiting {
                    let _ = answer.send(Ok(None));
                }
            }
        }
    }
}

impl Store {
    /// Accepts the jobs that nothing stands in the way of, all in one statement. Answers which, and when.
    async fn insert_jobs(&self, rows: &Columns) -> Result<Vec<(Uuid, OffsetDateTime)>, StoreError> {
        let accepted = sqlx::query_as(
            // Two statements that want the same key or target wait for each other in one direction only: all keys first,
            // in order, then all targets, in order, as the statement for one job does. That `run` counts `key` is what
            // makes it come after; on their own such parts run in any order.
            "with t as (select coalesce($1::timestamptz, now()) as now),
             new as (
                 select w.*, t.now
                 from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                             $9::text[], $10::text[], $11::text[], $12::smallint[], $13::text[], $14::text[],
                             $15::text[], $16::bytea[], $17::text[])
                     as w (id, kind, service, target, target_key, requested_by, labels, request, plan, steps, steps_total,
                           traceparent, caller, key, request_hash, event), t
                 -- Each looked up by its key: as anti-joins, planned over empty tables, these would read all of them.
                 where (select true from job_runs r where r.target_key = w.target_key limit 1) is null
                   and (w.key is null
                        or (select true from idempotency_keys k where k.caller = w.caller and k.key = w.key limit 1)
                           is null)
             ),
             key as (
                 insert into idempotency_keys (caller, key, request_hash, job_id, created_at)
                 select caller, key, request_hash, id, now from new where key is not null order by caller, key
                 returning job_id
             ),
             job as (
                 insert into jobs (id, kind, service, target, target_key, requested_by, labels, request, plan_version,
                                   plan, created_at, steps_total, traceparent)
                 select id, kind, service, target, target_key, requested_by, labels::jsonb, request::jsonb, $18,
                        plan::jsonb, now, steps_total, traceparent
                 from new
             ),
             run as (
                 insert into job_runs (job_id, target_key, state, run_after, updated_at, steps, steps_total, event_seq,
                                       version)
                 select id, target_key, 'queued', now, now, steps::jsonb, steps_total, 1, 1 from new
                 where (select count(*) from key) >= 0 order by target_key
             ),
             event as (
                 insert into job_events (job_id, seq, at, kind, data) select id, 1, now, $19, event::jsonb from new
             )
             select id, now from new",
        )
        .bind(self.now())
        .bind(&rows.ids)
        .bind(&rows.kinds)
        .bind(&rows.services)
        .bind(&rows.targets)
        .bind(&rows.target_keys)
        .bind(&rows.requested_by)
        .bind(&rows.labels)
        .bind(&rows.requests)
        .bind(&rows.plans)
        .bind(&rows.steps)
        .bind(&rows.steps_total)
        .bind(&rows.traceparents)
        .bind(&rows.callers)
        .bind(&rows.keys)
        .bind(&rows.hashes)
        .bind(&rows.events)
        .bind(PLAN_VERSION)
        .bind(EventKind::JobAccepted.as_str())
        .fetch_all(&self.pool)
        .await?;
        Ok(accepted)
    }
}

/// A job as it is stored.
struct Row {
    id: Uuid,
    kind: &'static str,
    service: String,
    target: String,
    target_key: String,
    requested_by: String,
    labels: String,
    request: String,
    plan: String,
    steps: String,
    steps_total: i16,
    traceparent: Option<String>,
    key: Option<(String, String, [u8; 32])>,
    event: String,
}

impl Row {
    fn of(job: &NewJob<'_>, key: Option<&IdempotencyKey<'_>>) -> Result<Self, StoreError> {
        Ok(Self {
            id: job.id.0,
            kind: job.kind.as_str(),
            service: job.service.to_owned(),
            target: job.request.target.resource_id.as_str().to_owned(),
            target_key: job.request.target.resource_id.normal(),
            requested_by: job.requested_by.to_owned(),
            labels: text(&job.request.labels)?,
            request: text(job.request)?,
            plan: text(&job.plan.steps)?,
            steps: text(&stored_steps(&pending(job.plan)).0)?,
            steps_total: i16::try_from(job.plan.steps.len()).unwrap_or(i16::MAX),
            traceparent: job.traceparent.map(str::to_owned),
            key: key.map(|k| (k.caller.to_owned(), k.key.to_owned(), k.request_hash)),
            event: text(&json!({ "requestedBy": job.requested_by }))?,
        })
    }
}

fn text<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(format!("a job that cannot be written: {e}")))
}

/// Jobs as the columns that `unnest` takes.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    kinds: Vec<&'static str>,
    services: Vec<String>,
    targets: Vec<String>,
    target_keys: Vec<String>,
    requested_by: Vec<String>,
    labels: Vec<String>,
    requests: Vec<String>,
    plans: Vec<String>,
    steps: Vec<String>,
    steps_total: Vec<i16>,
    traceparents: Vec<Option<String>>,
    callers: Vec<Option<String>>,
    keys: Vec<Option<String>>,
    hashes: Vec<Option<Vec<u8>>>,
    events: Vec<String>,
    taken_targets: HashSet<String>,
    taken_keys: HashSet<(String, String)>,
}

impl Columns {
    /// Adds a job and answers its id; `None`: its target or key is that of a job that was added before.
    fn push(&mut self, row: Row) -> Option<Uuid> {
        let key = row.key.as_ref().map(|(caller, key, _)| (caller.clone(), key.clone()));
        let known_key = key.as_ref().is_some_and(|key| self.taken_keys.contains(key));
        if known_key || !self.taken_targets.insert(row.target_key.clone()) {
            return None;
        }
        self.taken_keys.extend(key);
        let (caller, key, hash) = row.key.map_or((None, None, None), |(c, k, h)| (Some(c), Some(k), Some(h.to_vec())));
        self.ids.push(row.id);
        self.kinds.push(row.kind);
        self.services.push(row.service);
        self.targets.push(row.target);
        self.target_keys.push(row.target_key);
        self.requested_by.push(row.requested_by);
        self.labels.push(row.labels);
        self.requests.push(row.request);
        self.plans.push(row.plan);
        self.steps.push(row.steps);
        self.steps_total.push(row.steps_total);
        self.traceparents.push(row.traceparent);
        self.callers.push(caller);
        self.keys.push(key);
        self.hashes.push(hash);
        self.events.push(row.event);
        Some(row.id)
    }
}
