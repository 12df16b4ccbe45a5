//! A real worker process is killed at every statement it ends and at every call it makes, before and after each, by
//! enumeration. A second process takes over, and what is left is what an undisturbed run leaves.
//!
//! The points are counted in an undisturbed run of the same job. Where there are more than [`MOST`], the everyday run takes
//! each second, third, … so that no more are left; `CMK_CRASH_POINTS=all` (`just crash-points`) takes all, in minutes.

use std::collections::VecDeque;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_sim::{Exchange, Filter, Observer, Rule, faults};
use cmk::domain::ids::JobId;
use cmk::domain::job::JobState;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::process::{Folder, command, eventually};
use crate::support::proxy::{Proxy, Side};
use crate::support::world::World;

/// How many points of a case the everyday run takes.
const MOST: usize = 60;

/// Worlds that work at the same time.
const LANES: usize = 6;

/// What a worker finds when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Nothing: account, vault, identity, grants and key are to be made.
    New,
    /// Everything but the account's key: the account is there, and vault, identity, grants and key from another account.
    Existing,
}

/// Where a worker is killed; counted from 1.
#[derive(Clone, Copy, Debug)]
enum Point {
    Statement(u64, Side),
    Call(u64, Side),
}

/// The worker that is going to die, and what kills it.
#[derive(Default)]
struct Victim {
    child: Mutex<Option<Child>>,
    dead: Notify,
    calls: AtomicU64,
    /// Dies once this call was carried out; 0 for none.
    dies_after_call: AtomicU64,
}

impl Victim {
    /// Kills it as the kernel does that is out of memory, and waits for its end, so that it cannot go on a little.
    fn die(&self) {
        if let Some(child) = self.child.lock().expect("nobody panics with it").as_mut() {
            tokio::task::block_in_place(|| {
                child.kill().expect("it can be killed");
                child.wait().expect("it ends");
            });
        }
        self.dead.notify_one();
    }

    fn observer(self: &Arc<Self>) -> Observer {
        let victim = Arc::clone(self);
        Arc::new(move |_: &Exchange<'_>| {
            let call = victim.calls.fetch_add(1, Ordering::SeqCst) + 1;
            if call == victim.dies_after_call.load(Ordering::SeqCst) {
                victim.die();
            }
        })
    }
}

/// A world with a victim, for one point after the other.
struct Lane {
    world: World,
    folder: Folder,
    proxy: Proxy,
    victim: Arc<Victim>,
}

/// What a run left.
#[derive(Debug, PartialEq)]
struct Left {
    state: Value,
    changes: Vec<String>,
    key_versions: usize,
}

/// What an undisturbed run left, and how many points it has.
struct Undisturbed {
    left: Left,
    statements: u64,
    calls: u64,
}

impl Lane {
    async fn new() -> Self {
        let victim = Arc::<Victim>::default();
        let world = World::live_watched(victim.observer()).await;
        let proxy = Proxy::start(&world.database.url).await;
        Self { world, folder: Folder::new(), proxy, victim }
    }

    /// The cloud as the case wants it, the request, and the job that made it so.
    async fn arrange(&self, case: Case) -> (Value, Option<JobId>) {
        self.world.forget_azure();
        if case == Case::New {
            return (self.world.seed(), None);
        }
        let account = self.world.make_live_account().await;
        let body = self.world.seed_for_existing();
        let mut other = body.clone();
        other["target"] = json!({ "resourceId": account.replace("stcmkdemo1", "stcmkdemo0"),
                                  "create": { "location": "uksouth" } });
        let first = self.world.submit(&other).await;
        let worker = self.world.worker();
        eventually("the first account has its key", async || {
            worker.tick().await.expect("the database answers");
            self.world.job(first).await.state.is_final()
        })
        .await;
        assert_eq!(self.world.job(first).await.state, JobState::Succeeded);
        self.world.sim.journal().clear();
        (body, Some(first))
    }

    fn worker(&self, url: &str) -> Child {
        let mut command = command(&self.world.sim, url, &self.folder, &["work", "--lease-seconds", "3"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the program was built")
    }

    fn left(&self, id: JobId, first: Option<JobId>) -> Left {
        let text = self.world.state_after(id).to_string();
        let text = first.map_or(text.clone(), |first| text.replace(&first.to_string(), "<first>"));
        let journal = self.world.sim.journal();
        let made = Filter { changed: Some(true), ..Filter::on("POST", "/keys/*/create") };
        let mut changes = self.world.changes();
        for change in &mut changes {
            if let Some(at) = change.find("/roleAssignments/") {
                change.truncate(at + "/roleAssignments".len());
            }
        }
        changes.sort();
        let state = serde_json::from_str(&text).expect("replacing an id keeps it JSON");
        Left { state, changes, key_versions: journal.count(&made) }
    }

    async fn undisturbed(&self, case: Case) -> Undisturbed {
        let (body, first) = self.arrange(case).await;
        let (statements, calls) = (self.proxy.statements(), self.victim.calls.load(Ordering::SeqCst));
        let id = self.world.submit(&body).await;
        let mut worker = self.worker(&self.proxy.url(&self.world.database.url));
        eventually("the job ends", async || self.world.job(id).await.state.is_final()).await;
        let counted = Undisturbed {
            left: self.left(id, first),
            statements: self.proxy.statements() - statements,
            calls: self.victim.calls.load(Ordering::SeqCst) - calls,
        };
        worker.kill().and_then(|()| worker.wait()).expect("it can be killed");
        self.check_history(id).await;
        counted
    }

    /// Kills a worker at the point, lets another one take over, and compares. False: the job ended before the point.
    async fn check(&self, case: Case, point: Point, want: &Left) -> bool {
        let (body, first) = self.arrange(case).await;
        let id = self.world.submit(&body).await;
        let victim = &self.victim;
        victim.calls.store(0, Ordering::SeqCst);
        let mut rule = None;
        match point {
            Point::Statement(at, side) => {
                let victim = Arc::clone(victim);
                self.proxy.trip(at, side, move || victim.die());
            }
            Point::Call(at, Side::After) => victim.dies_after_call.store(at, Ordering::SeqCst),
            Point::Call(at, Side::Before) => {
                let skip = u32::try_from(at - 1).expect("few calls");
                let stands = Rule::once("*", "*", faults::Action::Delay { millis: 600_000 }).skip(skip);
                rule = self.world.sim.faults().add(stands);
            }
        }
        *victim.child.lock().expect("nobody panics with it") =
            Some(self.worker(&self.proxy.url(&self.world.database.url)));
        let mut reached = false;
        eventually("the point is reached, or the job ends", async || {
            reached |= tokio::time::timeout(Duration::from_millis(1), victim.dead.notified()).await.is_ok();
            reached |= rule.as_ref().is_some_and(|rule| self.world.sim.faults().fired(rule) == 1);
            reached || self.world.job(id).await.state.is_final()
        })
        .await;
        victim.dies_after_call.store(0, Ordering::SeqCst);
        self.proxy.disarm();
        victim.die();
        victim.dead.notified().await;
        self.world.sim.faults().clear();
        self.world.end_leases().await;
        let mut second = self.worker(&self.world.database.url);
        eventually(&format!("{case:?} {point:?}: the job ends"), async || self.world.job(id).await.state.is_final())
            .await;
        second.kill().and_then(|()| second.wait()).expect("it can be killed");
        let job = self.world.job(id).await;
        assert_eq!(job.state, JobState::Succeeded, "{case:?} {point:?}: {:?}", job.failure);
        assert_eq!(&self.left(id, first), want, "{case:?} {point:?}");
        self.check_history(id).await;
        reached
    }

    /// Numbers without a gap, one beginning, one end, each step done once.
    async fn check_history(&self, id: JobId) {
        let (job, events) = (self.world.job(id).await, self.world.events(id).await);
        let seqs: Vec<i64> = events.iter().map(|e| e.seq).collect();
        assert_eq!(seqs, (1..=job.event_seq).collect::<Vec<_>>(), "numbers without a gap");
        let count = |kind: &str| events.iter().filter(|e| e.kind == kind).count();
        assert_eq!((count("job-accepted"), count("job-succeeded")), (1, 1));
        assert_eq!(events.last().map(|e| e.kind.as_str()), Some("job-succeeded"));
        assert_eq!(count("step-done") + count("step-satisfied"), job.steps.len());
        assert_eq!(job.steps.iter().map(|s| s.attempts).sum::<u32>(), 0, "a kill is no attempt");
    }
}

fn points(counted: &Undisturbed) -> Vec<Point> {
    let sides = [Side::Before, Side::After];
    let statements = (1..=counted.statements).flat_map(|at| sides.map(|side| Point::Statement(at, side)));
    let calls = (1..=counted.calls).flat_map(|at| sides.map(|side| Point::Call(at, side)));
    statements.chain(calls).collect()
}

async fn enumerate(case: Case) {
    let began = Instant::now();
    let all_of_them = std::env::var("CMK_CRASH_POINTS").is_ok_and(|which| which == "all");
    let lanes = futures::future::join_all((0..LANES).map(|_| Lane::new())).await;
    let (counted, again) = tokio::join!(lanes[0].undisturbed(case), lanes[1].undisturbed(case));
    assert_eq!(counted.left, again.left, "two undisturbed runs leave the same");
    // Renewals and looks for work fall where the clock puts them, so a slow run has more points than others reach.
    let statements = counted.statements.min(again.statements);
    let counted = Undisturbed { statements, calls: counted.calls.min(again.calls), left: counted.left };
    let all = points(&counted);
    assert!(counted.statements >= 10 && counted.calls >= 10, "{} {}", counted.statements, counted.calls);
    // An odd one, so that both sides have their turn.
    let stride = if all_of_them { 1 } else { all.len().div_ceil(MOST) | 1 };
    let chosen: VecDeque<Point> = all.iter().copied().step_by(stride).collect();
    let (tried, queue) = (chosen.len(), Mutex::new(chosen));
    let missed = Mutex::new(Vec::new());
    let next = || queue.lock().expect("nobody panics with it").pop_front();
    futures::future::join_all(lanes.iter().map(async |lane| {
        while let Some(point) = next() {
            if !lane.check(case, point, &counted.left).await {
                missed.lock().expect("nobody panics with it").push(point);
            }
        }
    }))
    .await;
    let missed = missed.into_inner().expect("nobody panics with it");
    println!(
        "{case:?}: {} statements and {} calls, {} points; killed at {} of {tried} tried, in {:?}",
        counted.statements,
        counted.calls,
        all.len(),
        tried - missed.len(),
        began.elapsed()
    );
    assert!(missed.len() * 5 <= tried, "too many points were not reached: {missed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_anywhere_while_everything_is_made_leaves_what_an_undisturbed_one_does() {
    enumerate(Case::New).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_anywhere_while_most_is_there_leaves_what_an_undisturbed_one_does() {
    enumerate(Case::Existing).await;
}
