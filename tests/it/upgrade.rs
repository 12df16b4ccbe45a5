//! Databases that an earlier version of the program filled.

use cmk::clock::Clock;
use cmk::domain::ids::JobId;
use cmk::domain::job::{JobState, StepState};
use cmk::store::{JobFilter, MIGRATIONS, MigrationState, Store};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::migrate::Migrate;
use uuid::Uuid;

use crate::support::database::TestDatabase;
use crate::support::world::{World, migrate, parse};

/// Brings a database back to the schema of the first migration.
async fn first_schema(pool: &PgPool) {
    sqlx::raw_sql("drop schema public cascade; create schema public").execute(pool).await.expect("it is emptied");
    let mut connection = pool.acquire().await.expect("there is a connection");
    connection.ensure_migrations_table("_sqlx_migrations").await.expect("the list can be made");
    let first = MIGRATIONS.iter().next().expect("there is a first one");
    connection.apply("_sqlx_migrations", first).await.expect("the first migration applies");
}

fn request() -> Value {
    let group = "/subscriptions/22222222-2222-4222-8222-222222222222/resourceGroups/rg/providers";
    json!({
        "target": { "resourceId": format!("{group}/Microsoft.Storage/storageAccounts/st1") },
        "keyStore": { "resourceId": format!("{group}/Microsoft.KeyVault/vaults/kv1") },
    })
}

/// A job as the first schema kept it.
async fn old_job(pool: &PgPool, state: &str) -> JobId {
    let id = Uuid::now_v7();
    let stored = json!(parse(&request()));
    let ended = matches!(state, "failed" | "succeeded");
    sqlx::query(
        "insert into jobs (id, kind, service, target, target_key, requested_by, request, plan_version, state, created_at,
                           updated_at, finished_at, run_after, wait_reason, claim_no, failure, steps_total, steps_done,
                           event_seq, version)
         values ($1, 'provision', 'storage-account', $2, lower($2) || $1, 'old', $3, 1, $4, now(), now(),
                 case when $5 then now() end, now(),
                 case when $4 = 'waiting' then '{\"code\":\"retry\",\"text\":\"x\"}'::jsonb end, 3,
                 case when $4 = 'failed' then '{\"code\":\"azure-rejected\",\"class\":\"invalid\",\"message\":\"x\"}'::jsonb end,
                 2, 1, 2, 7)",
    )
    .bind(id)
    .bind(request()["target"]["resourceId"].as_str())
    .bind(&stored)
    .bind(state)
    .bind(ended)
    .execute(pool)
    .await
    .expect("the job is taken");
    let check = json!({ "kind": "check-target", "service": "storage-account",
        "target": request()["target"]["resourceId"], "store": request()["keyStore"]["resourceId"], "keyName": "k" });
    for (ordinal, (name, step)) in [("check-target", "done"), ("second", "pending")].into_iter().enumerate() {
        sqlx::query(
            "insert into job_steps (job_id, ordinal, name, spec, state, looks, started_at, finished_at)
             values ($1, $2, $3, $4, $5, 2, now(), case when $5 = 'done' then now() end)",
        )
        .bind(id)
        .bind(i16::try_from(ordinal).expect("two"))
        .bind(name)
        .bind(&check)
        .bind(step)
        .execute(pool)
        .await
        .expect("the step is taken");
    }
    JobId(id)
}

#[tokio::test]
async fn jobs_of_the_first_schema_go_on_where_they_were() {
    let database = TestDatabase::new(migrate).await;
    first_schema(&database.pool).await;
    let mut old = Vec::new();
    for state in ["queued", "waiting", "failed", "succeeded"] {
        old.push((old_job(&database.pool, state).await, JobState::find(state).expect("a state")));
    }
    let store = Store::new(database.pool.clone(), Clock::System);
    store.migrate().await.expect("the other migrations apply");
    for (id, state) in &old {
        let job = store.get_job(*id).await.expect("it answers").expect("it is still there");
        assert_eq!((job.state, job.claim_no, job.event_seq, job.version, job.steps_done), (*state, 3, 2, 7, 1));
        let steps: Vec<_> = job.steps.iter().map(|s| (s.planned.name.as_str(), s.state, s.looks)).collect();
        assert_eq!(steps, [("check-target", StepState::Done, 2), ("second", StepState::Pending, 2)]);
        assert_eq!((job.finished_at.is_some(), job.failure.is_some()), (state.is_final(), *state == JobState::Failed));
    }
    let due = store.claim_due_jobs("w", 10, std::time::Duration::from_secs(10)).await.expect("it answers");
    assert_eq!(due.len(), 2, "those that had not ended");
    assert!(due.iter().all(|c| c.job.claim_no == 4 && c.job.steps[1].planned.after.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_version_works_over_the_schema_of_the_next_one() {
    // What a later version may do to a schema while this one runs on: add.
    let world = World::instant().await;
    for statement in [
        "alter table jobs add column later text default 'x'",
        "alter table job_runs add column later jsonb",
        "alter table job_events add column later int not null default 1",
        "create index later on jobs (later)",
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'later', true, '', 0)",
    ] {
        sqlx::query(statement).execute(&world.database.pool).await.expect("the schema can grow");
    }
    assert_eq!(world.store.check_health().await.expect("it answers").migrations, MigrationState::Ahead);
    let job = world.succeed(&world.seed()).await;
    assert_eq!(world.store.list_jobs(&JobFilter::default(), 10).await.expect("it answers").len(), 1);
    assert!(!world.store.list_events(job.id, 0, 100).await.expect("it answers").is_empty());
}
