//! The fault matrix: each request of a job, reading or changing, goes wrong once in each of six ways. The requests are
//! those of an undisturbed run, told apart by the step that sends them; none is picked by hand. Whatever went wrong, the
//! simulator ends as an undisturbed run leaves it, and no more is written than the one request that had failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_sim::{Entry, Filter, Rule, faults};
use cmk::domain::codes::Code;
use cmk::domain::ids::JobId;
use cmk::domain::job::JobState;
use cmk::engine::crash::{CrashPoint, CrashPoints};
use cmk::store::{Job, RetryOutcome};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::world::World;

/// Longer than any delay the engine would choose for a first attempt.
const RETRY_AFTER: u64 = 7;

/// The pattern's ways.
#[derive(Clone, Copy)]
enum Way {
    /// The account is created with its key.
    New,
    /// The account exists; a user-assigned identity is created and attached.
    Existing,
    /// The account exists and uses its own identity: another order of the steps.
    OwnIdentity,
}

impl Way {
    async fn arrange(self, world: &World) -> Value {
        world.forget_azure();
        if let Self::New = self {
            return world.seed();
        }
        world.make_existing_account().await;
        world.sim.journal().clear();
        let mut body = world.seed_for_existing();
        if let Self::OwnIdentity = self {
            body["identity"] = json!({ "kind": "systemAssigned" });
            body["key"]["rotation"] = json!({ "every": "P1Y" });
        }
        body
    }
}

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Throttled,
    ServerError,
    Unavailable,
    Busy,
    Forbidden,
    CutAfter,
}

impl Fault {
    fn on(self, point: &Point) -> faults::Action {
        match self {
            Self::Throttled => faults::throttled(RETRY_AFTER),
            Self::ServerError => faults::status(500, "InternalServerError"),
            Self::Unavailable => faults::status(503, "ServiceUnavailable"),
            Self::Busy => faults::status(409, "AnotherOperationInProgress"),
            Self::CutAfter => faults::Action::CutAfter,
            Self::Forbidden if point.surface == "vault" => key_vault_refusal(),
            Self::Forbidden => faults::status(403, "AuthorizationFailed"),
        }
    }

    /// Entra knows neither: it answers 400 and 401 to those it does not sign in, and has no operations in progress.
    fn happens_on(self, surface: &str) -> bool {
        surface != "login" || !matches!(self, Self::Busy | Self::Forbidden)
    }
}

/// What Key Vault answers to one whose grant has not arrived; the precise code stands below the outer one.
fn key_vault_refusal() -> faults::Action {
    let inner = r#"Caller is not authorized. {"error":{"code":"ForbiddenByRbac","message":"No assignment."}}"#;
    match faults::status(403, "Forbidden") {
        faults::Action::Status { status, code, retry_after, headers, after_effect, .. } => {
            faults::Action::Status { status, code, message: inner.to_owned(), retry_after, headers, after_effect }
        }
        other => other,
    }
}

/// One request of an undisturbed run.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    step: String,
    surface: &'static str,
    request: String,
    mutating: bool,
}

/// What an undisturbed run does and leaves.
struct Undisturbed {
    points: Vec<Point>,
    state: Value,
    writes: Vec<String>,
    changes: Vec<String>,
}

/// A request without what differs from run to run: names made of random ids.
fn told(entry: &Entry) -> String {
    let word = |part: &str| match Uuid::try_parse(part) {
        Ok(_) if !entry.path.starts_with(&format!("/subscriptions/{part}")) => "*".to_owned(),
        _ => part.to_owned(),
    };
    let path: Vec<String> = entry.path.split('/').map(word).collect();
    format!("{} {}{}", entry.method, entry.host, path.join("/"))
}

fn sorted(entries: &[Entry], which: impl Fn(&Entry) -> bool) -> Vec<String> {
    let mut told: Vec<String> = entries.iter().filter(|e| which(e)).map(told).collect();
    told.sort();
    told
}

/// Runs a job as a process does that has just started: not signed in, no challenge of the vault answered.
async fn run(world: &mut World, body: &Value, watch: Option<CrashPoints>) -> Job {
    world.connect_again();
    let worker = world.worker();
    let worker = match watch {
        Some(watch) => worker.with_crash_points(watch),
        None => worker,
    };
    let id = world.submit(body).await;
    world.run_to_end(&worker, id).await
}

async fn undisturbed(world: &mut World, way: Way) -> Undisturbed {
    let body = way.arrange(world).await;
    // The end of each run of a step, as a position of the journal.
    let marks: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let (seen, journal) = (Arc::clone(&marks), world.sim.journal());
    let watch: CrashPoints = Arc::new(move |step, point| {
        if point == CrashPoint::BeforeRecord {
            seen.lock().expect("no test panicked").push((step.to_owned(), journal.last_seq()));
        }
        false
    });
    let job = run(world, &body, Some(watch)).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let marks = marks.lock().expect("no test panicked").clone();
    let entries = world.sim.journal().entries();
    let points: Vec<Point> = entries
        .iter()
        .map(|entry| {
            let (step, _) = marks.iter().find(|(_, end)| entry.seq <= *end).expect("a step was at work");
            Point { step: step.clone(), surface: entry.surface, request: told(entry), mutating: entry.mutating }
        })
        .collect();
    let with_requests: BTreeSet<&str> = points.iter().map(|p| p.step.as_str()).collect();
    let planned: BTreeSet<&str> = job.steps.iter().map(|s| s.planned.name.as_str()).collect();
    assert_eq!(with_requests, planned, "each step sends something");
    let (writes, changes) = (sorted(&entries, |e| e.mutating), sorted(&entries, |e| e.changed));
    Undisturbed { points, state: world.state_after(job.id), writes, changes }
}

/// What must be true after every job of the matrix.
fn compare(world: &World, id: JobId, want: &Undisturbed, fault: Fault, at: &Point, what: &str) {
    let entries = world.sim.journal().entries();
    assert_eq!(world.state_after(id), want.state, "{what}");
    assert_eq!(sorted(&entries, |e| e.changed), want.changes, "{what}");
    let written = sorted(&entries, |e| e.mutating);
    let repeats = written.len().saturating_sub(want.writes.len());
    let mut writes = want.writes.clone();
    writes.extend(std::iter::repeat_n(at.request.clone(), repeats));
    writes.sort();
    assert_eq!(written, writes, "{what}: nothing is written again but the request that failed");
    let most = match (at.mutating, fault) {
        (false, _) => 0,
        // While Azure creates an account it does not show it. The creation is asked for again, and refused, until it does.
        (true, Fault::CutAfter) if at.request.ends_with("/storageAccounts/stcmkdemo1") => 2,
        (true, Fault::CutAfter) => 0,
        (true, _) => 1,
    };
    assert!(repeats <= most && (repeats == most || fault == Fault::CutAfter), "{what}: written {repeats} times again");
    let made = |method, path| world.sim.journal().count(&Filter { changed: Some(true), ..Filter::on(method, path) });
    assert_eq!(made("POST", "/keys/*/create"), 1, "{what}: one version of one key");
    assert_eq!(made("PUT", "*/roleAssignments/*"), 2, "{what}: one role assignment for each grant");
    let accounts = world.sim.snapshot()["storageAccounts"].as_object().map(serde_json::Map::len);
    assert_eq!(accounts, Some(1), "{what}: one account");
}

/// A refusal of the management plane is final: no step changes what the service itself may do there. Only the look for a
/// deleted vault may be refused, because the answer to the creation tells the same.
fn ends_the_job(fault: Fault, at: &Point) -> bool {
    fault == Fault::Forbidden && at.surface == "arm" && !at.request.contains("/deletedVaults/")
}

async fn check_point(world: &mut World, way: Way, want: &Undisturbed, fault: Fault, nth: usize) {
    let at = &want.points[nth];
    let what = format!("{fault:?} at request {nth} of {}: {}", at.step, at.request);
    let body = way.arrange(world).await;
    let rule = Rule::once("*", "*", fault.on(at)).skip(u32::try_from(nth).expect("few requests"));
    let rule = world.sim.faults().add(rule).expect("there is room");
    let mut job = run(world, &body, None).await;

    assert_eq!(world.sim.faults().fired(&rule), 1, "{what}");
    let entries = world.sim.journal().entries();
    let hit = entries.iter().find(|e| e.fault.as_ref() == Some(&rule)).expect("it fired");
    assert_eq!((told(hit), hit.mutating), (at.request.clone(), at.mutating), "{what}: the same request");

    if ends_the_job(fault, at) {
        let failure = job.failure.clone().unwrap_or_else(|| panic!("{what}: {:?}", job.state));
        assert_eq!(failure.code, Code::AzureForbidden, "{what}: {failure:?}");
        let azure = failure.azure.expect("Azure said why");
        assert_eq!((azure.status, azure.code.as_deref()), (Some(403), Some("AuthorizationFailed")), "{what}");
        let failed = job.steps.iter().find(|s| s.failure.is_some()).map(|s| s.planned.name.clone());
        assert_eq!(failed.as_ref(), Some(&at.step), "{what}");
        assert_eq!(entries.last().map(|e| e.seq), Some(hit.seq), "{what}: nothing is sent after it");
        // Somebody grants what was missing.
        world.advance(Duration::from_secs(60));
        assert_eq!(world.store.retry_job(job.id, "test").await.expect("it answers"), RetryOutcome::Queued);
        job = world.run_to_end(&world.worker(), job.id).await;
    } else {
        let waited = world.events(job.id).await.into_iter().find(|e| {
            e.kind.starts_with("step-")
                && matches!(e.kind.as_str(), "step-waiting" | "step-retrying")
                && e.step.as_ref() == Some(&at.step)
        });
        let deleted_vault = fault == Fault::Forbidden && at.surface == "arm";
        assert!(waited.is_some() || deleted_vault, "{what}: the wait is told");
        if fault == Fault::Forbidden && at.surface == "vault" {
            let reason = waited.expect("told").data["reason"]["code"].clone();
            assert_eq!(reason, "access-propagation", "{what}: no attempt is used");
        }
    }
    assert_eq!(job.state, JobState::Succeeded, "{what}: {:?}", job.failure);
    if fault == Fault::Throttled {
        let mut after = entries.iter().filter(|e| e.seq > hit.seq);
        let early = after.find(|e| e.time < hit.time + Duration::from_secs(RETRY_AFTER));
        assert_eq!(early.map(told), None, "{what}: asked before Retry-After was over");
    }
    compare(world, job.id, want, fault, at, &what);
}

async fn check(way: Way, fault: Fault) {
    let mut world = World::instant().await;
    let want = undisturbed(&mut world, way).await;
    let mut points: BTreeMap<&str, usize> = BTreeMap::new();
    for (nth, at) in want.points.iter().enumerate().filter(|(_, p)| fault.happens_on(p.surface)) {
        check_point(&mut world, way, &want, fault, nth).await;
        *points.entry(&at.step).or_default() += 1;
    }
    let total: usize = points.values().sum();
    println!("{fault:?}: {total} points {points:?}");
    let writes = want.points.iter().filter(|p| p.mutating).count();
    assert!(total > 25 && writes >= 6, "{total} points, {writes} of them writes");
}

macro_rules! matrix {
    ($( $name:ident: $way:ident $fault:ident; )*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            check(Way::$way, Fault::$fault).await;
        }
    )* };
}

matrix! {
    new_429_with_retry_after: New Throttled;
    new_500: New ServerError;
    new_503: New Unavailable;
    new_409_another_operation: New Busy;
    new_403_then_ok: New Forbidden;
    new_cut_after_success: New CutAfter;
    existing_429_with_retry_after: Existing Throttled;
    existing_500: Existing ServerError;
    existing_503: Existing Unavailable;
    existing_409_another_operation: Existing Busy;
    existing_403_then_ok: Existing Forbidden;
    existing_cut_after_success: Existing CutAfter;
    own_identity_429_with_retry_after: OwnIdentity Throttled;
    own_identity_500: OwnIdentity ServerError;
    own_identity_503: OwnIdentity Unavailable;
    own_identity_409_another_operation: OwnIdentity Busy;
    own_identity_403_then_ok: OwnIdentity Forbidden;
    own_identity_cut_after_success: OwnIdentity CutAfter;
}
