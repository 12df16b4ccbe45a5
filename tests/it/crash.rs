//! The crash matrix: every step kind is cut off before its change, after it, and before its outcome is recorded, once
//! and twice. Another worker takes over, and in the end the simulator holds what an undisturbed run leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use azure_sim::Filter;
use cmk::domain::job::JobState;
use cmk::engine::crash::{CrashPoint, CrashPoints};
use serde_json::Value;

use crate::support::world::World;

/// What an undisturbed run leaves.
struct Undisturbed {
    state: Value,
    changes: Vec<String>,
    steps: Vec<String>,
}

/// A request and how its world is arranged first.
#[derive(Clone, Copy)]
enum Case {
    New,
    Existing,
}

impl Case {
    async fn arrange(self, world: &World) -> Value {
        world.forget_azure();
        match self {
            Self::New => world.seed(),
            Self::Existing => {
                world.make_existing_account().await;
                world.sim.journal().clear();
                world.seed_for_existing()
            }
        }
    }

    async fn undisturbed(self, world: &World) -> Undisturbed {
        let body = self.arrange(world).await;
        let job = world.succeed(&body).await;
        let steps = job.steps.iter().map(|s| s.planned.name.clone()).collect();
        Undisturbed { state: world.state_after(job.id), changes: sorted(world.changes()), steps }
    }
}

/// Paths with everything that differs from run to run taken out.
fn sorted(mut changes: Vec<String>) -> Vec<String> {
    for change in &mut changes {
        if let Some(at) = change.find("/roleAssignments/") {
            change.truncate(at + "/roleAssignments".len());
        }
    }
    changes.sort();
    changes
}

/// Ends a turn at `point` of `step`, at most `times` times, and counts how often it did.
fn crash_at(step: &str, point: CrashPoint, times: u32) -> (CrashPoints, Arc<AtomicU32>) {
    let (step, crashed) = (step.to_owned(), Arc::new(AtomicU32::new(0)));
    let counter = Arc::clone(&crashed);
    let points: CrashPoints = Arc::new(move |at, p| {
        at == step
            && p == point
            && counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < times).then_some(n + 1)).is_ok()
    });
    (points, crashed)
}

async fn check(case: Case, point: CrashPoint, times: u32) {
    let world = World::instant().await;
    let want = case.undisturbed(&world).await;
    let mut cut_off = 0;
    for step in &want.steps {
        let body = case.arrange(&world).await;
        let (points, crashed) = crash_at(step, point, times);
        let worker = world.worker().with_crash_points(points);
        let id = world.submit(&body).await;
        let job = world.run_to_end(&worker, id).await;
        let what = format!("{step} cut off {times} times at {point:?}");
        assert_eq!(job.state, JobState::Succeeded, "{what}: {:?}", job.failure);
        assert_eq!(world.state_after(id), want.state, "{what}");
        assert_eq!(sorted(world.changes()), want.changes, "{what}");
        let keys = world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on("POST", "/keys/*/create") });
        assert_eq!(keys, 1, "{what}: one version of one key");
        cut_off += crashed.load(Ordering::SeqCst);
    }
    // A point that no step passes would make this test say nothing.
    let least = if point == CrashPoint::BeforeRecord { want.steps.len() } else { want.changes.len().min(6) };
    assert!(cut_off >= u32::try_from(least).expect("a small number"), "only {cut_off} turns were cut off");
    println!("{cut_off} turns cut off at {point:?}");
}

macro_rules! matrix {
    ($( $name:ident: $case:ident $point:ident $times:literal; )*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check(Case::$case, CrashPoint::$point, $times).await;
        }
    )* };
}

matrix! {
    new_before_act_once: New BeforeAct 1;
    new_before_act_twice: New BeforeAct 2;
    new_after_act_once: New AfterAct 1;
    new_after_act_twice: New AfterAct 2;
    new_before_record_once: New BeforeRecord 1;
    new_before_record_twice: New BeforeRecord 2;
    existing_before_act_once: Existing BeforeAct 1;
    existing_before_act_twice: Existing BeforeAct 2;
    existing_after_act_once: Existing AfterAct 1;
    existing_after_act_twice: Existing AfterAct 2;
    existing_before_record_once: Existing BeforeRecord 1;
    existing_before_record_twice: Existing BeforeRecord 2;
}
