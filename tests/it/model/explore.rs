//! Every state that can be reached, and what is true of each state and each step between two.
//!
//! What must be so, in words; the numbers stand beside the code that looks:
//!
//! 1. One holder: never do two workers hold the newest claim of a job.
//! 2. A write under an old claim changes nothing.
//! 3. A write that is sent again is taken once, and its sender is told that it was taken while the job stands where the
//!    write left it.
//! 4. The number of the last event is the number of events.
//! 5. An ended job is nobody's: it has no lease, no next look, and no step at work or waiting.
//! 6. A job that has succeeded or was cancelled stays so, and nothing is told of it any more.
//! 7. A failed job changes only by a retry, which takes its mark away.
//! 8. Each end is told once, as the last event, and only an end is.
//! 9. A job's mark is told once, and stays until the job has ended.
//! 10. No step is begun under a claim that was made after the mark.
//! 11. A change to Azure begins only under the newest claim of a running job whose lease lasts, and never if the job
//!     was marked when the gate asked.
//! 12. A target has at most one unfinished job.
//! 13. From every state an end can be reached by what workers and clocks do, without a caller.
//!
//! About clocks one thing is assumed, as the engine does: a worker's own clock ends a lease before the database does.
//! About the network nothing: what was sent may be lost, late, doubled, and arrive after its sender died.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use cmk::domain::job::{JobState, StepState};
use cmk::store::EventKind;

use super::machine::{Action, Answer, Turn, Work, World, Write};

/// What is left out to keep an exploration small.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    pub jobs: usize,
    pub workers: usize,
    /// Whether answers can be lost, and messages held up and doubled.
    pub copies: bool,
    /// Whether the gate is asked.
    pub gate: bool,
}

/// Whether it happens by itself: by a worker's going on or by time, without luck or a caller.
fn is_progress(action: Action) -> bool {
    match action {
        Action::Claim(..) | Action::Renew(_) | Action::OwnEnd(_) | Action::Lapse(_) | Action::Due(_) => true,
        Action::Work(_, work) => matches!(work, Work::Start | Work::Finish | Work::Cancel),
        Action::Deliver(_) | Action::CopyArrives(_) => true,
        _ => false,
    }
}

fn of_turn(w: usize, turn: &Turn, scope: Scope, may: &mut Vec<Action>) {
    may.push(Action::Crash(w));
    if turn.good {
        may.push(Action::OwnEnd(w));
    }
    if turn.sent.is_some() {
        may.push(Action::Deliver(w));
        if scope.copies {
            may.extend([Action::DeliverUnheard(w), Action::HoldUp(w)]);
        }
        return;
    }
    may.push(Action::Renew(w));
    if turn.claimed_marked {
        may.push(Action::Work(w, Work::Cancel));
        return;
    }
    if turn.is_at_work() {
        may.extend([Work::Finish, Work::Wait, Work::Fail, Work::Release].map(|work| Action::Work(w, work)));
        if scope.gate {
            may.push(Action::Ask(w));
            if turn.good && turn.gate == Some(false) {
                may.push(Action::Act(w));
            }
        }
    } else {
        may.push(Action::Work(w, Work::Release));
        if !turn.heard {
            may.push(Action::Work(w, Work::Start));
        }
    }
    if turn.heard {
        may.push(Action::Work(w, Work::Cancel));
    }
}

/// What may happen next.
pub fn enabled(world: &World, scope: Scope) -> Vec<Action> {
    let mut may = Vec::new();
    for (j, job) in world.jobs.iter().enumerate() {
        if !job.accepted {
            may.push(Action::Accept(j));
            continue;
        }
        may.extend([Action::Cancel(j), Action::Retry(j)]);
        let believed = world.workers.iter().flat_map(|w| &w.turn).any(|t| (t.job, t.claim) == (j, job.claim) && t.good);
        if job.state == JobState::Running && !job.lapsed && !believed {
            may.push(Action::Lapse(j));
        }
        if job.state == JobState::Waiting && !job.due {
            may.push(Action::Due(j));
        }
        if world.is_claimable(j) {
            let idle = world.workers.iter().enumerate().filter(|(_, w)| w.turn.is_none());
            may.extend(idle.map(|(w, _)| Action::Claim(w, j)));
        }
    }
    for (w, worker) in world.workers.iter().enumerate() {
        if let Some(turn) = &worker.turn {
            of_turn(w, turn, scope, &mut may);
        }
        if worker.copy.is_some() {
            may.push(Action::CopyArrives(w));
        }
    }
    may
}

/// The same world with the smallest numbers that cannot be told from it: claims are only compared with the newest one,
/// numbers of writes with that of the next, and history has been looked at.
fn normal(mut world: World) -> World {
    let World { jobs, workers } = &mut world;
    let rows: Vec<(i64, i32)> = jobs.iter().map(|j| (j.claim, j.write)).collect();
    let fit = |job: usize, claim: &mut i64, number: &mut i32| {
        let (newest, next) = rows[job];
        (*claim, *number) = if *claim == newest { (1, (*number - next + 2).max(0)) } else { (0, 0) };
    };
    let fit_write = |write: &mut Write| fit(write.job, &mut write.claim, &mut write.number);
    for worker in workers.iter_mut() {
        worker.copy.iter_mut().for_each(&fit_write);
        // A copy that can change nothing any more might as well be lost.
        worker.copy = worker.copy.take().filter(|c| c.claim == 1 && c.number >= 2);
        if let Some(turn) = &mut worker.turn {
            fit(turn.job, &mut turn.claim, &mut turn.number);
            turn.sent.iter_mut().for_each(&fit_write);
        }
    }
    for job in jobs.iter_mut() {
        (job.claim, job.write, job.version) = (1, 2, 0);
        job.seq -= i64::try_from(job.told.len()).expect("few");
        job.told.clear();
    }
    // Workers are alike: which one does what makes no difference.
    workers.sort_by_cached_key(|worker| {
        let mut hasher = DefaultHasher::new();
        worker.hash(&mut hasher);
        hasher.finish()
    });
    world
}

fn is_end(kind: EventKind) -> bool {
    matches!(kind, EventKind::JobSucceeded | EventKind::JobFailed | EventKind::JobCancelled)
}

/// The write that the action delivers.
fn delivered(world: &World, action: Action) -> Option<&Write> {
    match action {
        Action::Deliver(w) | Action::DeliverUnheard(w) => world.workers[w].turn.as_ref()?.sent.as_ref(),
        Action::CopyArrives(w) => world.workers[w].copy.as_ref(),
        _ => None,
    }
}

/// What is wrong with a state, if anything is.
fn wrong_state(world: &World) -> Option<&'static str> {
    let unfinished = world.jobs.iter().filter(|j| j.accepted && !j.state.is_final()).count();
    if unfinished > 1 {
        return Some("12: two unfinished jobs of one target");
    }
    for (j, job) in world.jobs.iter().enumerate() {
        let holders = world.workers.iter().flat_map(|w| &w.turn).filter(|t| (t.job, t.claim) == (j, job.claim));
        if job.state == JobState::Running && holders.count() > 1 {
            return Some("1: two holders");
        }
        if job.seq != i64::try_from(job.told.len()).expect("few") {
            return Some("4: events and their number differ");
        }
        let busy = job.steps.iter().any(|s| matches!(s.state, StepState::Running | StepState::Waiting));
        if job.state.is_final() && (job.lapsed || job.due || busy) {
            return Some("5: an ended job has something to do");
        }
    }
    None
}

/// What is wrong with a step from one state to another.
fn wrong_step(before: &World, action: Action, answer: Answer, after: &World) -> Option<&'static str> {
    if let Some(write) = delivered(before, action) {
        let (old, new) = (&before.jobs[write.job], &after.jobs[write.job]);
        if write.claim != old.claim && (old != new || answer == Answer::Taken) {
            return Some("2: a write under an old claim was taken");
        }
        if write.taken && old != new {
            return Some("3: a write was taken twice");
        }
        let stands = (write.claim, write.number + 1, write.next.state()) == (old.claim, old.write, old.state);
        if stands && write.taken && answer == Answer::Refused {
            return Some("3: the sender of a taken write was told that its lease is lost");
        }
    }
    if let Action::Act(w) = action {
        let turn = before.workers[w].turn.as_ref()?;
        let job = &before.jobs[turn.job];
        if job.claim != turn.claim || job.state != JobState::Running || job.lapsed {
            return Some("11: a change began without a lease");
        }
        if turn.gate != Some(false) {
            return Some("11: a change began after the mark was seen");
        }
    }
    for (j, (old, new)) in before.jobs.iter().zip(&after.jobs).enumerate() {
        let told = &new.told[old.told.len().min(new.told.len())..];
        if matches!(old.state, JobState::Succeeded | JobState::Cancelled) && old != new {
            return Some("6: an ended job changed");
        }
        if old.state == JobState::Failed && old != new && (action != Action::Retry(j) || new.marked) {
            return Some("7: a failed job changed without a retry");
        }
        let ended = old.accepted && !old.state.is_final() && new.state.is_final();
        let ends = told.iter().filter(|k| is_end(**k)).count();
        if ends != usize::from(ended) || (ended && !told.last().is_some_and(|k| is_end(*k))) {
            return Some("8: an end was not told once, at last");
        }
        let marks = told.iter().filter(|k| **k == EventKind::JobCancelRequested).count();
        if marks != usize::from(!old.marked && new.marked) || (old.marked && !new.marked && !old.state.is_final()) {
            return Some("9: the mark was told twice, not at all, or taken away");
        }
        let begun_by_marked = delivered(before, action).is_some_and(|w| {
            let by = before.workers.iter().flat_map(|w| &w.turn).find(|t| (t.job, t.claim) == (w.job, w.claim));
            w.job == j && by.is_some_and(|t| t.claimed_marked)
        });
        if begun_by_marked && told.contains(&EventKind::StepStarted) {
            return Some("10: a step was begun after the mark");
        }
    }
    None
}

struct Explored {
    states: usize,
    steps: usize,
    ends: usize,
    depth: usize,
}

fn explore(scope: Scope) -> Explored {
    let start = normal(World::new(scope.jobs, scope.workers));
    let mut number: HashMap<World, u32> = HashMap::from([(start.clone(), 0)]);
    let mut queue = VecDeque::from([(start, 0, 0)]);
    // By state: from which ones progress leads to it; how it was found first; whether all has ended in it.
    let (mut from, mut found) = (vec![Vec::new()], vec![None]);
    let (mut ends, mut steps, mut deepest) = (Vec::new(), 0, 0);
    let path = |found: &[Option<(u32, Action)>], mut at: u32| {
        let mut path = Vec::new();
        while let Some((before, action)) = found[at as usize] {
            path.insert(0, action);
            at = before;
        }
        path
    };
    while let Some((world, at, depth)) = queue.pop_front() {
        deepest = deepest.max(depth);
        if world.unfinished().is_none() {
            ends.push(at);
        }
        for action in enabled(&world, scope) {
            let mut after = world.clone();
            let answer = after.apply(action);
            let wrong = wrong_step(&world, action, answer, &after).or_else(|| wrong_state(&after));
            assert!(wrong.is_none(), "{wrong:?} after {:?} then {action:?}\n{world:#?}\n{after:#?}", path(&found, at));
            steps += 1;
            let after = normal(after);
            let next = u32::try_from(number.len()).expect("far fewer");
            let to = *number.entry(after.clone()).or_insert(next);
            if to == next {
                from.push(Vec::new());
                found.push(Some((at, action)));
                queue.push_back((after, to, depth + 1));
            }
            if is_progress(action) && to != at {
                from[to as usize].push(at);
            }
        }
    }
    let (states, how_many) = (number.len(), ends.len());
    let mut reaches = vec![false; states];
    while let Some(at) = ends.pop() {
        if !std::mem::replace(&mut reaches[at as usize], true) {
            ends.append(&mut from[at as usize]);
        }
    }
    let stuck = reaches.iter().position(|r| !r);
    assert!(
        stuck.is_none(),
        "13: no end can be reached after {:?}",
        path(&found, u32::try_from(stuck.unwrap_or_default()).expect("far fewer"))
    );
    Explored { states, steps, ends: how_many, depth: deepest }
}

#[test]
fn every_state_of_job_lease_cancel_and_retry_keeps_the_rules() {
    let scopes = [
        Scope { jobs: 1, workers: 2, copies: true, gate: true },
        Scope { jobs: 2, workers: 2, copies: false, gate: false },
    ];
    for scope in scopes {
        let Explored { states, steps, ends, depth } = explore(scope);
        println!(
            "model: jobs={} workers={} copies={} gate={} states={states} transitions={steps} ends={ends} depth={depth}",
            scope.jobs, scope.workers, scope.copies, scope.gate
        );
        assert!(states > 1_000 && ends > 1 && depth > 10, "{scope:?}: nothing was explored");
    }
}
