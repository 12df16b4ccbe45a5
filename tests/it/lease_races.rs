//! Races for jobs whose leases are far too short: three workers, each a runtime and a pool of its own as processes have,
//! that are frozen and cut from the database at random, and whose steps take longer than they may.
//!
//! What belongs here: the test and its oracle. What runs: `lease_races::race`. Every number is drawn from one seed, which
//! is printed; `CMK_TEST_SEED` sets it. How the machine schedules the workers is not in the seed's hand.
//!
//! A step draws a time, asks the gate and begins a pretended change to Azure, several times. What is held: no change
//! begins after the lease's end by the worker's own clock less half of the margin, and none after another worker's claim
//! by the database's clock. The other half of the margin is the scheduler's: a thread may stand still between the
//! gate's answer and the first byte of a request, which is what the margin is for.

mod race;

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cmk::engine::{TurnEnd, Worker, WorkerSettings};
use cmk::steps::{StepOutcome, Stop};
use cmk::store::notify::NewsHub;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::world::World;
use race::Race;

/// Jobs that are fought for.
const RACES: usize = 10_000;

/// Much longer than it takes on two cores that others use too.
const DEADLINE: Duration = Duration::from_secs(1500);

/// Writes down, in the database and beside the code under test, who claimed and who wrote. The writer is the connection's
/// name, the holder is the name in the claim.
const LOG: &str = "
    create table race_log (
        job_id uuid, claim_no bigint, write_no int, kind text, writer text, holder text,
        at timestamptz not null default clock_timestamp()
    );
    create function race_log() returns trigger language plpgsql as $$
    begin
        if tg_op = 'DELETE' then
            if old.state = 'running' then
                insert into race_log values (old.job_id, old.claim_no, old.write_no + 1, 'end',
                                             current_setting('application_name'), old.claimed_by);
            end if;
        elsif new.claim_no <> old.claim_no then
            insert into race_log values (new.job_id, new.claim_no, 0, 'claim',
                                         current_setting('application_name'), new.claimed_by);
        elsif new.write_no <> old.write_no then
            insert into race_log values (new.job_id, new.claim_no, new.write_no, 'write',
                                         current_setting('application_name'), old.claimed_by);
        end if;
        return null;
    end $$;
    create trigger race_log after update or delete on job_runs for each row execute function race_log();
";

/// What must not be found afterwards, each with a query that counts it.
const ORACLE: &[(&str, &str)] = &[
    ("a job without an end", "select count(*) from jobs where finished_at is null"),
    ("a run of a job that has ended", "select count(*) from job_runs"),
    ("a write by another than the holder", "select count(*) from race_log where writer <> holder"),
    (
        "a claim whose number was given before",
        "select count(*) from (select 1 from race_log where kind = 'claim' group by job_id, claim_no having count(*) > 1) x",
    ),
    (
        "a write after a later claim",
        "select count(*) from (
             select claim_no, max(claim_no) over (partition by job_id order by at) as newest from race_log) x
         where claim_no < newest",
    ),
    (
        "writes of a claim with a gap or a repetition",
        "select count(*) from (
             select 1 from race_log where kind <> 'claim' group by job_id, claim_no
             having count(*) <> max(write_no) or count(distinct write_no) <> count(*)) x",
    ),
    (
        "events with a gap or a repetition",
        "select count(*) from (
             select 1 from jobs j left join job_events e on e.job_id = j.id group by j.id, j.event_seq
             having count(e.seq) <> j.event_seq or max(e.seq) <> j.event_seq or count(distinct e.seq) <> j.event_seq) x",
    ),
    (
        "a job with no end or two in its history",
        "select count(*) from (
             select 1 from jobs j
             left join job_events e on e.job_id = j.id and e.kind in ('job-succeeded', 'job-failed', 'job-cancelled')
             group by j.id, j.state having count(e.seq) <> 1 or max(e.kind) <> 'job-' || j.state) x",
    ),
    (
        "a step that was done twice",
        "select count(*) from (
             select 1 from job_events where kind in ('step-done', 'step-satisfied')
             group by job_id, step having count(*) > 1) x",
    ),
    (
        "a success with a step that was not done",
        "select count(*) from jobs where state = 'succeeded' and steps_done <> steps_total",
    ),
];

async fn number(pool: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(pool).await.expect("the database answers")
}

/// Changes that began at or after the next claim of their job, by the clock of the machine that both share.
async fn begun_after_the_next_claim(pool: &PgPool, race: &Race) -> usize {
    let claims: Vec<(Uuid, i64, OffsetDateTime)> =
        sqlx::query_as("select job_id, claim_no, at from race_log where kind = 'claim'")
            .fetch_all(pool)
            .await
            .expect("the database answers");
    let claims: HashMap<(Uuid, i64), OffsetDateTime> = claims.into_iter().map(|(j, c, at)| ((j, c), at)).collect();
    let begun = race.begun();
    let late =
        begun.iter().filter(|(lease, at)| claims.get(&(lease.job.0, lease.claim_no + 1)).is_some_and(|c| c <= at));
    assert!(begun.iter().all(|(lease, _)| claims.contains_key(&(lease.job.0, lease.claim_no))), "the log is whole");
    late.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_races_with_leases_too_short_lose_and_double_nothing() {
    let seed = std::env::var("CMK_TEST_SEED").ok().map_or_else(rand::random, |s| s.parse().expect("a number"));
    println!("lease races: CMK_TEST_SEED={seed}");
    let world = World::live(azure_sim::Propagation::instant()).await;
    sqlx::raw_sql(LOG).execute(&world.database.pool).await.expect("the log is set up");
    let (race, began) = (Race::new(&world, seed), Instant::now());
    race.accept(RACES).await;
    let accepted = began.elapsed();
    race.run(DEADLINE).await;

    let pool = &world.database.pool;
    let mut wrong = Vec::new();
    for (what, query) in ORACLE {
        let found = number(pool, query).await;
        if found != 0 {
            wrong.push(format!("{found} times {what}"));
        }
    }
    let late = begun_after_the_next_claim(pool, &race).await;
    let take_overs = number(pool, "select count(*) from job_events where kind = 'job-taken-over'").await;
    let writes = number(pool, "select count(*) from race_log where kind <> 'claim'").await;
    let cancelled = number(pool, "select count(*) from jobs where state = 'cancelled'").await;
    let tally = &race.tally;
    println!(
        "lease races: races={RACES} take-overs={take_overs} writes={writes} late-writes-refused={} \
         late-renewals-refused={} steps-given-up={} changes={} changes-stopped-lease={} changes-stopped-otherwise={} late-writes-taken={} \
         changes-past-own-clock={} changes-after-next-claim={late} cancelled={cancelled} accept={accepted:.1?} all={:.1?}",
        tally.refused.load(SeqCst),
        tally.renewals_refused.load(SeqCst),
        tally.given_up.load(SeqCst),
        race.begun().len(),
        tally.stopped_by_lease.load(SeqCst),
        tally.stopped_otherwise.load(SeqCst),
        tally.taken.load(SeqCst),
        tally.past_own_clock.load(SeqCst),
        began.elapsed(),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(tally.taken.load(SeqCst), 0, "writes under an old claim were taken");
    assert_eq!(tally.past_own_clock.load(SeqCst), 0, "changes began after the lease's end by the worker's own clock");
    assert_eq!(late, 0, "changes began after another worker's claim");
    let races = i64::try_from(RACES).expect("a small number");
    assert!(take_overs >= races / 2, "the leases were not short enough: {take_overs} take-overs");
    assert!(tally.refused.load(SeqCst) > RACES / 10, "too few late writes to tell anything");
    let cut = tally.given_up.load(SeqCst) + tally.stopped_by_lease.load(SeqCst);
    assert!(cut > RACES / 10, "too few steps ended with their lease: {cut}");
    assert!(cancelled > 0 && race.begun().len() > RACES, "the races were empty");
}

/// Whether a race leads to this moment is chance, so it is made here: the lease is taken while the step is at work, and
/// the worker has not heard of it when the step asks.
#[tokio::test]
async fn the_gate_stops_a_change_whose_lease_another_worker_took() {
    let world = World::live(azure_sim::Propagation::instant()).await;
    let race = Race::new(&world, 0);
    race.accept(1).await;
    let store = race.store("racer");
    let answers: Arc<Mutex<Vec<Result<(), Stop>>>> = Arc::default();
    let stand_in = {
        let (answers, pool) = (Arc::clone(&answers), world.database.pool.clone());
        race::boxed(move |step| {
            let (answers, pool) = (Arc::clone(&answers), pool.clone());
            Box::pin(async move {
                let taken = sqlx::query("update job_runs set claim_no = claim_no + 1").execute(&pool).await;
                assert_eq!(taken.expect("the database answers").rows_affected(), 1);
                let answer = step.gate.may_act().await;
                answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                StepOutcome::Stopped(Stop::LeaseLost)
            })
        })
    };
    let settings = WorkerSettings::named("racer");
    let worker = Worker::new(store, Arc::clone(&world.azure), NewsHub::new(), settings).with_stand_in(stand_in);
    assert_eq!(worker.tick().await.expect("the database answers"), [TurnEnd::LeaseLost]);
    assert_eq!(*answers.lock().unwrap_or_else(PoisonError::into_inner), [Err(Stop::LeaseLost)]);
}
