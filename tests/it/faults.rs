//! The fault matrix: each request of a job, reading or changing, goes wrong once in each of six ways. The requests are
//! those of an undisturbed run; none is picked by hand. Whatever went wrong, the
//! simulator ends as an undisturbed run leaves it, and no more is written than the one request that had failed.

use std::collections::BTreeMap;
use std::time::Duration;

use azure_sim::{Entry, Filter, Rule, faults};
use cmk::domain::codes::Code;
use cmk::domain::ids::JobId;
use cmk::domain::job::JobState;
use cmk::store::{Event, Job, RetryOutcome};
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

/// One request of an undisturbed run. Steps that run at the same time send theirs in any order, so a request is known by
/// what it asks, and which one of those that ask the same it is.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    surface: &'static str,
    method: String,
    host: String,
    path: String,
    nth: u32,
    request: String,
    mutating: bool,
}

/// What an undisturbed run does and leaves.
struct Undisturbed {
    points: Vec<Point>,
    state: Value,
    writes: Vec<String>,
    changes: Vec<String>,
    /// How often a step told that it waits.
    waits: usize,
}

/// A request without what differs from run to run: names made of random ids.
fn told(entry: &Entry) -> String {
    format!("{} {}{}", entry.method, entry.host, path_of(entry))
}

fn path_of(entry: &Entry) -> String {
    let word = |part: &str| match Uuid::try_parse(part) {
        Ok(_) if !entry.path.starts_with(&format!("/subscriptions/{part}")) => "*".to_owned(),
        _ => part.to_owned(),
    };
    entry.path.split('/').map(word).collect::<Vec<_>>().join("/")
}

fn sorted(entries: &[Entry], which: impl Fn(&Entry) -> bool) -> Vec<String> {
    let mut told: Vec<String> = entries.iter().filter(|e| which(e)).map(told).collect();
    told.sort();
    told
}

/// Runs a job as a process does that has just started: not signed in, no challenge of the vault answered.
async fn run(world: &mut World, body: &Value) -> Job {
    world.connect_again();
    let id = world.submit(body).await;
    world.run_to_end(&world.worker(), id).await
}

/// The events that tell of waits.
async fn waits(world: &World, id: JobId) -> Vec<Event> {
    let mut events = world.events(id).await;
    events.retain(|e| matches!(e.kind.as_str(), "step-waiting" | "step-retrying"));
    events
}

async fn undisturbed(world: &mut World, way: Way) -> Undisturbed {
    let body = way.arrange(world).await;
    let job = run(world, &body).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
    let entries = world.sim.journal().entries();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let points = entries
        .iter()
        .map(|entry| {
            let (request, path) = (told(entry), path_of(entry));
            let count = seen.entry(request.clone()).or_default();
            *count += 1;
            let (method, host) = (entry.method.clone(), entry.host.clone());
            Point { surface: entry.surface, method, host, path, nth: *count - 1, request, mutating: entry.mutating }
        })
        .collect();
    let (writes, changes) = (sorted(&entries, |e| e.mutating), sorted(&entries, |e| e.changed));
    let waits = waits(world, job.id).await.len();
    Undisturbed { points, state: world.state_after(job.id), writes, changes, waits }
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

async fn check_point(world: &mut World, way: Way, want: &Undisturbed, fault: Fault, nth: usize) {
    let at = &want.points[nth];
    let what = format!("{fault:?} at request {nth}: {} ({})", at.request, at.nth);
    let body = way.arrange(world).await;
    let rule = Rule::once(&at.method, &at.path, fault.on(at)).host(&at.host).skip(at.nth);
    let rule = world.sim.faults().add(rule).expect("there is room");
    let job = run(world, &body).await;

    assert_eq!(world.sim.faults().fired(&rule), 1, "{what}");
    let entries = world.sim.journal().entries();
    let hit = entries.iter().find(|e| e.fault.as_ref() == Some(&rule)).expect("it fired");
    assert_eq!((told(hit), hit.mutating), (at.request.clone(), at.mutating), "{what}: the same request");

    let waits = waits(world, job.id).await;
    // The look for a deleted vault may be refused: the answer to the creation tells the same.
    let needless = fault == Fault::Forbidden && at.request.contains("/deletedVaults/");
    assert!(waits.len() > want.waits || needless, "{what}: the wait is told");
    if fault == Fault::Forbidden && !needless {
        let refused = waits.iter().any(|e| e.data["reason"]["code"] == "access-propagation");
        assert!(refused && waits.iter().all(|e| e.kind == "step-waiting"), "{what}: no attempt is used: {waits:?}");
    }
    assert_eq!(job.state, JobState::Succeeded, "{what}: {:?}", job.failure);
    if fault == Fault::Throttled {
        // A step that runs at the same time goes on with other requests.
        let mut after = entries.iter().filter(|e| {
            e.seq > hit.seq
                && (&e.method, &e.host, &e.path, &e.query) == (&hit.method, &hit.host, &hit.path, &hit.query)
        });
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
        *points.entry(at.surface).or_default() += 1;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_stays_missing_fails_the_job_and_a_retry_goes_on() {
    let world = World::instant().await;
    let rule = Rule::always("PUT", "*/vaults/*", faults::status(403, "AuthorizationFailed"));
    let rule = world.sim.faults().add(rule).expect("there is room");
    let body = world.seed();
    let job = world.provision(&body).await;
    let failure = job.failure.clone().expect("it cannot go on");
    assert_eq!(failure.code, Code::AzureForbidden, "{failure:?}");
    let azure = failure.azure.expect("Azure said why");
    assert_eq!((azure.status, azure.code.as_deref()), (Some(403), Some("AuthorizationFailed")));
    let took = (job.finished_at.expect("it ended") - job.created_at).as_seconds_f64();
    assert!((60.0..65.0).contains(&took), "a minute of patience, not {took} s");
    // Somebody grants what was missing.
    assert!(world.sim.faults().remove(&rule));
    assert_eq!(world.store.retry_job(job.id, "test").await.expect("it answers"), RetryOutcome::Queued);
    let job = world.run_to_end(&world.worker(), job.id).await;
    assert_eq!(job.state, JobState::Succeeded, "{:?}", job.failure);
}
