//! Real worker processes that are killed, or asked to stop, in the middle of a job.

use std::time::{Duration, Instant};

use azure_sim::{Filter, Lag, Propagation, Rule, faults};
use cmk::domain::ids::JobId;
use cmk::domain::job::{JobState, StepState};
use cmk::store::Job;

use crate::support::process::{Folder, Program, eventually};
use crate::support::world::World;

/// Grants that arrive after some seconds, so that a job also waits.
fn some_lag() -> Propagation {
    Propagation { grant: Lag::seconds(4.0), ..Propagation::instant() }
}

fn worker(world: &World, folder: &Folder, arguments: &[&str]) -> Program {
    Program::start(world, folder, &[&["work"], arguments].concat(), &[])
}

async fn ended(world: &World, id: JobId) -> Job {
    eventually("the job ends", async || world.job(id).await.state.is_final()).await;
    world.job(id).await
}

/// Requests of jobs, which signing in is not.
fn requests(world: &World) -> usize {
    let journal = world.sim.journal();
    journal.count(&Filter::default()) - journal.count(&Filter { surface: Some("login".into()), ..Filter::default() })
}

/// One of everything, and a history without a gap.
async fn assert_done_once(world: &World, id: JobId) {
    let job = world.job(id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let made = |method, path| world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on(method, path) });
    assert_eq!(made("POST", "/keys/*/create"), 1, "one version of one key");
    assert_eq!(made("PUT", "*/roleAssignments/*"), 2, "one role assignment for each grant");
    let now = world.sim.snapshot();
    let all = now["roleAssignments"].as_array().cloned().unwrap_or_default();
    let on_vault = |a: &&serde_json::Value| a["properties"]["scope"].as_str().is_some_and(|s| s.contains("/vaults/"));
    assert_eq!(all.iter().filter(on_vault).count(), 2, "{all:?}");
    assert_eq!(now["storageAccounts"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(now["vaults"]["kvcmkdemo1"]["keys"]["sa-cmk-key"].as_array().map(Vec::len), Some(1));
    let events = world.events(id).await;
    let seqs: Vec<i64> = events.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=job.event_seq).collect::<Vec<_>>(), "numbers without a gap");
    assert_eq!(events.iter().filter(|e| e.kind == "job-succeeded").count(), 1);
    assert_eq!(events.last().map(|e| e.kind.as_str()), Some("job-succeeded"));
    for step in &job.steps {
        let of_step = |kind: &str| {
            events.iter().filter(|e| e.kind == kind && e.step.as_ref() == Some(&step.planned.name)).count()
        };
        assert_eq!(of_step("step-done") + of_step("step-satisfied"), 1, "{}", step.planned.name);
        assert_eq!((of_step("step-failed"), step.attempts), (0, 0), "{}", step.planned.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_workers_are_killed_ten_times_ends_once() {
    let (world, folder) = (World::live(some_lag()).await, Folder::new());
    // Slow enough that a kill hits the request it is meant for.
    world.sim.faults().add(Rule::always("*", "*", faults::Action::Delay { millis: 30 }));
    let id = world.submit(&world.seed()).await;
    let mut killed_in = Vec::new();
    for kill in 0..10 {
        let before = requests(&world);
        let program = worker(&world, &folder, &["--lease-seconds", "3"]);
        // Each one gets a little further than the last one did, or not as far.
        let most = before + [3, 1, 5, 2, 4, 6, 3, 5, 2, 4][kill];
        eventually("the worker sends requests", async || requests(&world) >= most).await;
        program.kill().await;
        let job = world.job(id).await;
        assert!(!job.state.is_final(), "kill {kill} came too late: {:?}", job.state);
        let at = job.steps.iter().find(|s| !s.state.is_finished()).map(|s| s.planned.name.clone());
        killed_in.push((job.state.as_str(), at.unwrap_or_default()));
    }
    println!("killed in {killed_in:?}");
    let _last = worker(&world, &folder, &["--lease-seconds", "3"]);
    ended(&world, id).await;
    assert_done_once(&world, id).await;
    let taken_over = world.events(id).await.iter().filter(|e| e.kind == "job-taken-over").count();
    let while_running = killed_in.iter().filter(|(state, _)| *state == "running").count();
    assert_eq!(taken_over, while_running, "one take-over for each kill that hit a turn: {killed_in:?}");
    assert!(while_running >= 5, "{killed_in:?}");
}

/// Starts a worker and waits until it stands in the middle of one slow request to create the vault.
async fn standing_in_a_slow_call(world: &World, folder: &Folder, millis: u64) -> (JobId, Program) {
    let rule = Rule::once("PUT", "*/vaults/kvcmkdemo1", faults::Action::Delay { millis });
    let rule = world.sim.faults().add(rule).expect("there is room");
    let id = world.submit(&world.seed()).await;
    let program = worker(world, folder, &[]);
    eventually("the slow call began", async || world.sim.faults().fired(&rule) == 1).await;
    (id, program)
}

/// Kills a worker in the middle of a call, some time after it began it; returns how long the take-over took.
async fn take_over(after: Duration) -> Duration {
    let (world, folder) = (World::live(Propagation::instant()).await, Folder::new());
    let (id, first) = standing_in_a_slow_call(&world, &folder, 10_000).await;
    let standing = Instant::now();
    let _second = worker(&world, &folder, &[]);
    let workers = async || sqlx::query_scalar("select count(*) from workers").fetch_one(&world.database.pool).await;
    eventually("both work", async || matches!(workers().await, Ok(2i64))).await;
    eventually("its time has come", async || standing.elapsed() >= after).await;
    let killed = Instant::now();
    first.kill().await;
    let taken_over = async || world.events(id).await.iter().any(|e| e.kind == "job-taken-over");
    eventually("the job is taken over", taken_over).await;
    let took = killed.elapsed();
    ended(&world, id).await;
    assert_done_once(&world, id).await;
    took
}

/// The kills are spread over the time between two signs of life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_default_settings_a_killed_workers_job_is_taken_over_within_15_seconds() {
    let mut took = futures::future::join_all((0..8).map(|kill| take_over(Duration::from_millis(400 * kill)))).await;
    took.sort();
    println!("{} kills, taken over after {:?} to {:?}", took.len(), took[0], took[took.len() - 1]);
    assert!(took.iter().all(|took| *took <= Duration::from_secs(15)), "{took:?}");
}

/// What a worker that was asked to stop leaves: nobody holds the job, and nothing counts against it.
async fn assert_given_back(world: &World, id: JobId) {
    let job = world.job(id).await;
    assert!(matches!(job.state, JobState::Queued | JobState::Waiting), "{:?}", job.state);
    assert_eq!((job.lease_until, job.steps.iter().map(|s| s.attempts).sum::<u32>()), (None, 0));
    assert!(job.steps.iter().all(|s| s.state != StepState::Running), "{:?}", job.steps);
    let workers: i64 = sqlx::query_scalar("select count(*) from workers")
        .fetch_one(&world.database.pool)
        .await
        .expect("the database answers");
    assert_eq!(workers, 0, "the worker took its leave");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_asked_to_stop_finishes_its_call_and_gives_the_job_back() {
    let (world, folder) = (World::live(Propagation::instant()).await, Folder::new());
    let (id, mut program) = standing_in_a_slow_call(&world, &folder, 3_000).await;
    let asked = Instant::now();
    program.terminate().await;
    let (status, said) = program.end().await;
    assert!(status.success(), "{status}: {said}");
    assert!(asked.elapsed() < Duration::from_secs(15), "within the grace: {:?}", asked.elapsed());
    assert_given_back(&world, id).await;
    let job = world.job(id).await;
    let vault = job.steps.iter().find(|s| s.planned.name == "ensure-key-store").expect("it is in the plan");
    assert_eq!(vault.state, StepState::Done, "the call was not wasted");
    assert_eq!(job.steps.iter().filter(|s| s.state.is_finished()).count(), usize::from(job.steps_done));
    assert!(job.steps_done < job.steps_total && job.facts.own_grant.is_none(), "nothing more was begun");

    let _next = worker(&world, &folder, &[]);
    ended(&world, id).await;
    assert_done_once(&world, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_call_does_not_end_stops_within_20_seconds() {
    let (world, folder) = (World::live(Propagation::instant()).await, Folder::new());
    let (id, mut program) = standing_in_a_slow_call(&world, &folder, 28_000).await;
    let asked = Instant::now();
    program.terminate().await;
    let (status, said) = program.end().await;
    let took = asked.elapsed();
    println!("stopped after {took:?}, in the middle of a call");
    assert!(status.success(), "{status}: {said}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_given_back(&world, id).await;

    let _next = worker(&world, &folder, &[]);
    ended(&world, id).await;
    assert_done_once(&world, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_asked_twice_stops_at_once() {
    let (world, folder) = (World::live(Propagation::instant()).await, Folder::new());
    let (id, mut program) = standing_in_a_slow_call(&world, &folder, 12_000).await;
    let asked = Instant::now();
    program.terminate().await;
    program.says("worker drains").await;
    program.terminate().await;
    let (status, said) = program.end().await;
    assert!(status.success(), "{status}: {said}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_given_back(&world, id).await;

    let _next = worker(&world, &folder, &[]);
    ended(&world, id).await;
    assert_done_once(&world, id).await;
}
