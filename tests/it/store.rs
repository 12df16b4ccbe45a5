//! The store on real PostgreSQL: claims are exclusive, fences hold, rules stand in the database too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use cmk::clock::Clock;
use cmk::domain::ids::JobId;
use cmk::domain::job::{JobKind, JobState, StepState};
use cmk::engine::Ledger;
use cmk::plan::plan;
use cmk::services::rules;
use cmk::steps::WaitReason;
use cmk::store::notify::{News, NewsHub};
use cmk::store::{
    Accepted, Acceptor, CancelOutcome, ClaimedJob, HeldLease, IdempotencyKey, JobFilter, LeaseLost, MigrationState,
    NewJob, Next, Store,
};
use serde_json::json;
use time::macros::datetime;
use tokio_util::sync::CancellationToken;

use crate::support::database::TestDatabase;
use crate::support::late::every_write;
use crate::support::process::eventually;
use crate::support::world::{migrate, parse};

const LEASE: Duration = Duration::from_secs(10);

/// A store on a database of its own.
pub struct Jobs {
    store: Store,
    /// The database.
    pub database: TestDatabase,
}

impl Jobs {
    /// An empty one.
    pub async fn start() -> Self {
        let database = TestDatabase::new(migrate).await;
        let clock = Clock::manual(datetime!(2026-01-01 00:00 UTC));
        Self { store: Store::new(database.pool.clone(), clock), database }
    }

    /// Accepts a job for an account that exists, under a key of a vault that exists.
    pub async fn accept(&self, account: &str, key: Option<(&str, u8)>) -> Accepted {
        self.accept_through(None, account, key).await
    }

    async fn accept_through(&self, through: Option<&Acceptor>, account: &str, key: Option<(&str, u8)>) -> Accepted {
        let group = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";
        let request = parse(&json!({
            "target": { "resourceId": format!("{group}/Microsoft.Storage/storageAccounts/{account}") },
            "keyStore": { "resourceId": format!("{group}/Microsoft.KeyVault/vaults/kv1") },
            "labels": { "account": account },
        }));
        let descriptor = rules::check(&request).0.expect("a known service");
        let plan = plan(&request, descriptor);
        let job = NewJob {
            id: JobId::generate(),
            kind: JobKind::Provision,
            service: &descriptor.slug,
            requested_by: "test",
            request: &request,
            plan: &plan,
            traceparent: None,
        };
        let key = key.map(|(key, body)| IdempotencyKey { caller: "test", key, request_hash: [body; 32] });
        match through {
            Some(acceptor) => acceptor.insert_job(&job, key.as_ref()).await.expect("the database answers"),
            None => self.store.insert_job(&job, key.as_ref()).await.expect("the database answers"),
        }
    }

    /// The same, of which only the id counts.
    pub async fn insert(&self, account: &str) -> JobId {
        match self.accept(account, None).await {
            Accepted::New(job) => job.id,
            other => panic!("not accepted: {other:?}"),
        }
    }

    async fn claim(&self, limit: u16) -> Vec<HeldLease> {
        let claims = self.store.claim_due_jobs("w", limit, LEASE).await.expect("the database answers");
        claims.iter().map(|c| HeldLease { job: c.job.id, claim_no: c.job.claim_no }).collect()
    }

    /// Lets the first step of a claimed job wait.
    async fn wait(&self, lease: HeldLease, after: Duration, reason: WaitReason) {
        let job = self.store.get_job(lease.job).await.expect("it answers").expect("it exists");
        let (mut ledger, now) = (Ledger::open(&job.claimed()), self.store.clock().now());
        ledger.start(0, now);
        ledger.wait_for(0, after, reason.clone(), None, None, now);
        let recorded = self.store.record(&ledger.write(Next::Waiting { after, reason })).await;
        assert_eq!(recorded.expect("it answers"), Ok(()));
    }

    /// Everything stored about a job, as text.
    async fn all_of(&self, id: JobId) -> String {
        let job = self.store.get_job(id).await.expect("it answers").expect("it exists");
        let events = self.store.list_events(id, 0, 1000).await.expect("it answers");
        format!("{job:?} {events:?}")
    }

    /// Whether the database takes a statement.
    async fn takes(&self, statement: &'static str, id: JobId) -> bool {
        sqlx::query(statement).bind(id.0).execute(&self.database.pool).await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_come_together_are_answered_as_if_each_came_alone() {
    let jobs = Jobs::start().await;
    let (here, there) = (Acceptor::start(&jobs.store), Acceptor::start(&jobs.store));
    let (key, other) = (("k1", 1), ("k1", 2));
    // Two processes; targets of their own, targets that several want, one key with two bodies, and keys that repeat.
    let mut calls: Vec<(String, Option<(&str, u8)>)> = Vec::new();
    for n in 0..60 {
        calls.push((format!("own{n}"), None));
        calls.push((format!("shared{}", n % 5), None));
        calls.push(("keyed".to_owned(), Some(if n % 10 == 9 { other } else { key })));
    }
    let sent = calls.iter().enumerate().map(|(n, (account, key))| {
        let through = if n % 2 == 0 { &here } else { &there };
        jobs.accept_through(Some(through), account, *key)
    });
    let answers = futures::future::join_all(sent).await;
    let mut accepted: BTreeMap<String, Vec<JobId>> = BTreeMap::new();
    for ((account, _), answer) in calls.iter().zip(&answers) {
        if let Accepted::New(job) = answer {
            accepted.entry(account.clone()).or_default().push(job.id);
        }
    }
    assert_eq!(accepted.len(), 60 + 5 + 1, "every target is taken");
    assert!(accepted.values().all(|ids| ids.len() == 1), "and each once: {accepted:?}");
    for ((account, key), answer) in calls.iter().zip(&answers) {
        let first = accepted[account][0];
        match answer {
            Accepted::New(job) => assert_eq!(job.id, first),
            Accepted::Replayed(job) => assert_eq!((job.id, key.is_some()), (first, true)),
            Accepted::TargetBusy(id) => assert_eq!((*id, key.is_none()), (first, true)),
            Accepted::KeyReused => assert!(key.is_some()),
        }
    }
    let bodies: BTreeSet<bool> = calls
        .iter()
        .zip(&answers)
        .filter(|((_, key), answer)| key.is_some() && matches!(answer, Accepted::KeyReused))
        .map(|((_, key), _)| *key == Some(other))
        .collect();
    assert_eq!(bodies.len(), 1, "one body came first, and only the other one is refused");
    // The stored rows are whole: what is claimed has its plan, its steps and its first event.
    let claims = jobs.store.claim_due_jobs("w", 100, LEASE).await.expect("the database answers");
    assert_eq!(claims.len(), 66);
    for claim in claims {
        assert!(!claim.job.steps.is_empty());
        let events = jobs.store.list_events(claim.job.id, 0, 10).await.expect("it answers");
        assert_eq!(events.first().map(|e| e.kind.as_str()), Some("job-accepted"));
    }
    // A job that was accepted alone and one that came with others are stored alike.
    let alone = jobs.insert("alone").await;
    let Accepted::New(together) = jobs.accept_through(Some(&here), "alsoo", None).await else { panic!("accepted") };
    let told = |text: String, id: JobId, account: &str| text.replace(&id.to_string(), "ID").replace(account, "ACCOUNT");
    let (a, b) = (jobs.all_of(alone).await, jobs.all_of(together.id).await);
    assert_eq!(told(a, alone, "alone"), told(b, together.id, "alsoo"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_many_times_at_once_waits_for_itself_in_one_direction_only() {
    let jobs = Jobs::start().await;
    let (here, there) = (Acceptor::start(&jobs.store), Acceptor::start(&jobs.store));
    for round in 0..40 {
        let (account, key) = (format!("st{round}"), format!("k{round}"));
        let calls = (0..20).map(|n| {
            let through = [Some(&here), Some(&there), None][n % 3];
            jobs.accept_through(through, &account, Some((&key, 1)))
        });
        let answers = futures::future::join_all(calls).await;
        let new = answers.iter().filter(|answer| matches!(answer, Accepted::New(_))).count();
        let replayed = answers.iter().filter(|answer| matches!(answer, Accepted::Replayed(_))).count();
        assert_eq!((new, replayed), (1, 19), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_is_claimed_once_by_many_claimers() {
    let jobs = Jobs::start().await;
    let mut inserted = BTreeSet::new();
    for n in 0..100 {
        inserted.insert(jobs.insert(&format!("st{n}")).await);
    }
    let claimers = (0..20).map(|_| async {
        let mut mine = Vec::new();
        loop {
            let claimed = jobs.claim(3).await;
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed);
        }
    });
    let claimed: Vec<HeldLease> = futures::future::join_all(claimers).await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 100, "no job twice");
    assert_eq!(claimed.iter().map(|l| l.job).collect::<BTreeSet<_>>(), inserted, "every job");
}

#[tokio::test]
async fn those_due_longest_come_first_and_a_lapsed_lease_is_due() {
    let jobs = Jobs::start().await;
    let mut order = Vec::new();
    for n in 0..4 {
        order.push(jobs.insert(&format!("st{n}")).await);
        jobs.store.clock().advance(Duration::from_secs(1));
    }
    let first = jobs.claim(3).await;
    assert_eq!(first.iter().map(|l| l.job).collect::<Vec<_>>(), order[..3]);
    assert_eq!(jobs.claim(3).await.iter().map(|l| l.job).collect::<Vec<_>>(), order[3..]);
    assert!(jobs.claim(10).await.is_empty());
    jobs.store.clock().advance(LEASE + Duration::from_millis(1));
    let again = jobs.store.claim_due_jobs("w2", 10, LEASE).await.expect("it answers");
    assert_eq!(again.len(), 4);
    for claim in &again {
        assert!(claim.taken_over && claim.job.claim_no == 2);
        let events = jobs.store.list_events(claim.job.id, 0, 10).await.expect("it answers");
        assert_eq!(events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["job-accepted", "job-taken-over"]);
    }
}

#[tokio::test]
async fn a_late_writer_writes_nothing() {
    let jobs = Jobs::start().await;
    let id = jobs.insert("st1").await;
    let old = jobs.claim(1).await[0];
    jobs.store.clock().advance(LEASE + Duration::from_millis(1));
    let new = jobs.claim(1).await[0];
    assert_eq!((new.job, new.claim_no), (id, old.claim_no + 1));
    let before = jobs.all_of(id).await;
    let store = &jobs.store;
    let job = store.get_job(id).await.expect("it answers").expect("it exists");
    for write in every_write(&job, old) {
        assert_eq!(store.record(&write).await.expect("it answers"), Err(LeaseLost), "{write:?}");
    }
    assert!(store.renew_leases(&[old], LEASE).await.expect("it answers").is_empty());
    assert_eq!(jobs.all_of(id).await, before, "nothing was written");
    assert_eq!(store.renew_leases(&[old, new], LEASE).await.expect("it answers"), HashMap::from([(new, false)]));
}

#[tokio::test]
async fn a_write_that_is_sent_again_is_written_once() {
    let jobs = Jobs::start().await;
    // The running one last: it stays claimed.
    for next in [Next::Queued, Next::Succeeded, Next::Cancelled, Next::Running] {
        let id = jobs.insert("st1").await;
        let lease = jobs.claim(1).await[0];
        let job = jobs.store.get_job(id).await.expect("it answers").expect("it exists");
        let (mut ledger, now) = (Ledger::open(&job.claimed()), jobs.store.clock().now());
        ledger.start(0, now);
        let write = ledger.write(next);
        for _ in 0..3 {
            assert_eq!(jobs.store.record(&write).await.expect("it answers"), Ok(()), "{:?}", write.next);
        }
        let told = jobs.store.list_events(id, 0, 100).await.expect("it answers");
        assert_eq!(told.len(), 1 + write.events.len(), "{told:?}");
        let job = jobs.store.get_job(id).await.expect("it answers").expect("it exists");
        assert_eq!((job.state, job.event_seq), (write.next.state(), i64::try_from(told.len()).expect("few")));
        // Under the number that follows the worker goes on, and only it.
        assert_eq!(
            jobs.store.record(&ledger.write(Next::Running)).await.is_ok_and(|r| r.is_ok()),
            job.state == JobState::Running
        );
        jobs.store.request_cancel(lease.job, "test").await.expect("it answers");
    }
}

#[tokio::test]
async fn writes_of_many_jobs_are_one_batch_and_a_late_one_spoils_no_other() {
    let jobs = Jobs::start().await;
    for n in 0..10 {
        jobs.insert(&format!("st{n}")).await;
    }
    let late = jobs.claim(3).await;
    jobs.store.clock().advance(LEASE + Duration::from_millis(1));
    let mut writes = Vec::new();
    for lease in jobs.claim(10).await {
        let job = jobs.store.get_job(lease.job).await.expect("it answers").expect("it exists");
        let late = late.iter().any(|l| l.job == lease.job);
        let mut ledger = Ledger::open(&ClaimedJob { claim_no: if late { 1 } else { job.claim_no }, ..job.claimed() });
        ledger.start(0, jobs.store.clock().now());
        let next = if writes.len() % 2 == 0 { Next::Running } else { Next::Succeeded };
        writes.push((ledger.write(next), late));
    }
    let recorded = jobs.store.record_all(&writes.iter().map(|w| &w.0).collect::<Vec<_>>()).await.expect("it answers");
    let want: Vec<_> = writes.iter().map(|w| if w.1 { Err(LeaseLost) } else { Ok(()) }).collect();
    assert_eq!((recorded, writes.len()), (want, 10));
}

#[tokio::test]
async fn a_job_to_be_cancelled_does_not_wait_first() {
    let jobs = Jobs::start().await;
    let id = jobs.insert("st1").await;
    let lease = jobs.claim(1).await[0];
    assert_eq!(jobs.store.request_cancel(id, "test").await.expect("it answers"), CancelOutcome::Requested);
    let reason = WaitReason::new("access-propagation", "x");
    let hour = Duration::from_secs(3600);
    jobs.wait(lease, hour, reason).await;
    let again = jobs.store.claim_due_jobs("w", 1, LEASE).await.expect("it answers");
    assert!(again.first().is_some_and(|c| c.job.cancel_requested_at.is_some()), "it is due at once");
}

#[tokio::test]
async fn a_new_reason_to_wait_begins_a_new_wait() {
    let jobs = Jobs::start().await;
    jobs.insert("st1").await;
    let mut since = Vec::new();
    for code in ["retry", "retry", "read-lag"] {
        let lease = jobs.claim(1).await[0];
        let reason = WaitReason { code: code.into(), text: "x".into() };
        let second = Duration::from_secs(1);
        jobs.wait(lease, second, reason).await;
        let job = jobs.store.get_job(lease.job).await.expect("it answers").expect("it exists");
        assert_eq!((job.state, job.steps[0].state), (JobState::Waiting, StepState::Waiting));
        since.push(job.steps[0].waiting_since.expect("it waits"));
        jobs.store.clock().advance(second);
    }
    assert_eq!(since[0], since[1]);
    assert_eq!(since[2] - since[0], Duration::from_secs(2));
}

#[tokio::test]
async fn the_database_itself_refuses_rows_that_make_no_sense() {
    let jobs = Jobs::start().await;
    let id = jobs.insert("st1").await;
    for statement in [
        "update job_runs set state = 'gone' where job_id = $1",
        "update job_runs set state = 'succeeded' where job_id = $1",
        "update job_runs set state = 'running' where job_id = $1",
        "update job_runs set lease_until = now() where job_id = $1",
        "update job_runs set state = 'waiting' where job_id = $1",
        "update job_runs set steps_done = 100 where job_id = $1",
        "update job_runs set steps = '[]' where job_id = $1",
        "update jobs set plan = '[]' where id = $1",
        "update jobs set state = 'succeeded' where id = $1",
        "update jobs set finished_at = now() where id = $1",
        "update jobs set state = 'succeeded', finished_at = now() where id = $1",
        "update jobs set failure = '{}' where id = $1",
        "insert into job_runs select * from job_runs where job_id = $1",
        "insert into job_events (job_id, seq, at, kind) values ($1, 1, now(), 'x')",
    ] {
        assert!(!jobs.takes(statement, id).await, "{statement}");
    }
    let end =
        "update jobs set state = 'cancelled', finished_at = now(), updated_at = now(), facts = '{}', claim_no = 0,
                               steps = (select steps from job_runs where job_id = $1), steps_done = 0, event_seq = 1,
                               version = 1 where id = $1";
    assert!(jobs.takes(end, id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_target_has_one_unfinished_job_and_one_key_brings_one_job() {
    let jobs = Jobs::start().await;
    let ends = futures::future::join_all((0..20).map(|_| jobs.accept("st1", None))).await;
    assert_eq!(ends.iter().filter(|e| matches!(e, Accepted::New(_))).count(), 1);
    let winner = ends.iter().find_map(|e| if let Accepted::New(job) = e { Some(job.id) } else { None });
    let busy = |e: &&Accepted| matches!(e, Accepted::TargetBusy(id) if Some(*id) == winner);
    assert_eq!(ends.iter().filter(busy).count(), 19, "each loser is told of the winner");

    let ends = futures::future::join_all((0..20).map(|_| jobs.accept("st2", Some(("k", 1))))).await;
    assert_eq!(ends.iter().filter(|e| matches!(e, Accepted::New(_))).count(), 1);
    assert_eq!(ends.iter().filter(|e| matches!(e, Accepted::Replayed(_))).count(), 19);
    assert_eq!(jobs.accept("st3", Some(("k", 2))).await, Accepted::KeyReused);
    // After its time the key is free, and housekeeping forgets it.
    jobs.store.clock().advance(Duration::from_secs(31 * 86_400));
    assert_eq!(jobs.store.delete_expired_keys().await.expect("it answers"), 1);
    assert!(matches!(jobs.accept("st3", Some(("k", 2))).await, Accepted::New(_)));
}

#[tokio::test]
async fn pages_follow_each_other_while_new_jobs_come_in() {
    let jobs = Jobs::start().await;
    let mut expected = Vec::new();
    for n in 0..25 {
        expected.insert(0, jobs.insert(&format!("st{n}")).await);
    }
    let (mut seen, mut filter) = (Vec::new(), JobFilter::default());
    for round in 0.. {
        let page = jobs.store.list_jobs(&filter, 10).await.expect("it answers");
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.iter().map(|j| j.id));
        jobs.insert(&format!("new{round}")).await;
    }
    assert_eq!(seen, expected, "no job twice, none left out");
    let label = JobFilter { label: Some(("account".into(), "st7".into())), ..JobFilter::default() };
    assert_eq!(jobs.store.list_jobs(&label, 10).await.expect("it answers").len(), 1);
}

#[tokio::test]
async fn health_tells_what_is_missing() {
    let jobs = Jobs::start().await;
    let health = jobs.store.check_health().await.expect("it answers");
    assert_eq!((health.migrations, health.last_claim_age), (MigrationState::Current, None));
    jobs.store.record_worker("w").await.expect("it answers");
    jobs.store.clock().advance(Duration::from_secs(40));
    assert_eq!(jobs.store.check_health().await.expect("it answers").last_claim_age, Some(40.0));
    for (statement, want) in [
        ("update _sqlx_migrations set version = version + 9999", MigrationState::Ahead),
        ("delete from _sqlx_migrations", MigrationState::Behind),
        ("drop table _sqlx_migrations", MigrationState::Behind),
    ] {
        sqlx::query(statement).execute(&jobs.database.pool).await.expect("the table is there");
        assert_eq!(jobs.store.check_health().await.expect("it answers").migrations, want, "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_are_heard_also_after_the_connection_was_cut() {
    let jobs = Jobs::start().await;
    let id = jobs.insert("st1").await;
    let (hub, teller, stop) = (NewsHub::new(), NewsHub::new(), CancellationToken::new());
    let mut news = hub.subscribe();
    let feed = |hub: &NewsHub| {
        let (hub, store, stop) = (hub.clone(), jobs.store.clone(), stop.clone());
        tokio::spawn(async move { hub.run(store, stop).await })
    };
    let (hearing, telling) = (feed(&hub), feed(&teller));
    for round in 0..2 {
        // Sent until heard: what is sent before the hub listens is lost, and may be.
        eventually("news of the job", async || {
            teller.announce(id, true);
            let heard = tokio::time::timeout(Duration::from_millis(200), news.recv()).await;
            matches!(heard, Ok(Ok(News::Job { id: job, due: true })) if job == id)
        })
        .await;
        if round == 0 {
            let listening = "from pg_stat_activity
                where datname = current_database() and query ilike 'listen%' and pid <> pg_backend_pid()";
            let each = |what: &str| sqlx::query(sqlx::AssertSqlSafe(format!("select {what} {listening}")));
            eventually("both hubs listen", async || {
                each("pid").fetch_all(&jobs.database.pool).await.expect("it answers").len() == 2
            })
            .await;
            let cut = each("pg_terminate_backend(pid)").execute(&jobs.database.pool).await.expect("it answers");
            assert_eq!(cut.rows_affected(), 2, "the hubs' connections are found and cut");
        }
    }
    stop.cancel();
    hearing.await.expect("it ends without a panic");
    telling.await.expect("it ends without a panic");
}
