//! The model: jobs as the database keeps them, workers as they remember them, and messages that may be lost or late.
//!
//! What belongs here: what each action does. What does not: when it may happen (`explore`), and time, which is two flags
//! here: a lease has ended or not, a job is due or not.

use cmk::domain::job::{JobState, StepState};
use cmk::store::EventKind;

/// Steps of each job, one after the other.
pub const STEPS: usize = 2;

/// What is remembered of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub state: StepState,
    /// Whether its beginning was told.
    pub started: bool,
    /// Whether its reason to wait is known: it is told once.
    pub waits: bool,
}

const NEW: Step = Step { state: StepState::Pending, started: false, waits: false };

/// A job in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub accepted: bool,
    pub state: JobState,
    /// The fence: the claim, and the number of its next write.
    pub claim: i64,
    pub write: i32,
    /// Whether its lease has ended by the database's clock.
    pub lapsed: bool,
    /// Whether its next look is due.
    pub due: bool,
    pub marked: bool,
    pub steps: [Step; STEPS],
    pub seq: i64,
    pub version: i64,
    /// Its history.
    pub told: Vec<EventKind>,
}

/// Where a write leaves the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    Running,
    Waiting,
    Queued,
    Succeeded,
    Failed,
    Cancelled,
}

impl Next {
    /// The job's state afterwards.
    pub const fn state(self) -> JobState {
        match self {
            Self::Running => JobState::Running,
            Self::Waiting => JobState::Waiting,
            Self::Queued => JobState::Queued,
            Self::Succeeded => JobState::Succeeded,
            Self::Failed => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
        }
    }
}

/// A write on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    pub job: usize,
    pub claim: i64,
    pub number: i32,
    pub next: Next,
    pub steps: [Step; STEPS],
    pub told: Vec<EventKind>,
    /// Whether the database has taken it: known to the model, not to the worker.
    pub taken: bool,
}

/// A job in a worker's hands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    pub job: usize,
    pub claim: i64,
    pub number: i32,
    /// Whether its lease lasts by its own clock.
    pub good: bool,
    /// Whether it has heard of the mark.
    pub heard: bool,
    /// Whether the job was marked when it was claimed.
    pub claimed_marked: bool,
    /// The gate's question was answered: whether the job was marked when it was asked.
    pub gate: Option<bool>,
    pub steps: [Step; STEPS],
    /// Sent, and the answer is not there.
    pub sent: Option<Write>,
}

/// A worker: its turn, and a copy of a write that is still under way somewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Worker {
    pub turn: Option<Turn>,
    pub copy: Option<Write>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub jobs: Vec<Job>,
    pub workers: Vec<Worker>,
}

/// What a worker makes of its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Start,
    Finish,
    Wait,
    Fail,
    Release,
    Cancel,
}

/// What may happen. Jobs and workers are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Accept(usize),
    Claim(usize, usize),
    Renew(usize),
    /// The lease ends by the worker's own clock; it drops the turn, and what it sent may still arrive.
    OwnEnd(usize),
    /// The lease ends by the database's clock.
    Lapse(usize),
    Due(usize),
    /// The turn goes on, and what it came to is sent.
    Work(usize, Work),
    /// What was sent arrives, and its answer too.
    Deliver(usize),
    /// What was sent arrives; its answer is lost, and it will be sent again.
    DeliverUnheard(usize),
    /// What was sent is held up on its way and will be sent again; both may arrive.
    HoldUp(usize),
    /// What was held up arrives.
    CopyArrives(usize),
    Crash(usize),
    /// The gate asks, before a change to Azure.
    Ask(usize),
    /// The change begins.
    Act(usize),
    Cancel(usize),
    Retry(usize),
}

/// What the database answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Nothing,
    Taken,
    Refused,
    /// The lease is held; whether the job is marked.
    Held(bool),
    /// Cancelled at once.
    Cancelled,
    /// Marked for its worker.
    Requested,
    Busy(usize),
    /// Not possible in this state.
    Is(JobState),
}

impl World {
    /// Jobs that nobody has asked for yet, all for one target.
    pub fn new(jobs: usize, workers: usize) -> Self {
        let job = Job {
            accepted: false,
            state: JobState::Queued,
            claim: 0,
            write: 0,
            lapsed: false,
            due: true,
            marked: false,
            steps: [NEW; STEPS],
            seq: 1,
            version: 1,
            told: vec![EventKind::JobAccepted],
        };
        Self { jobs: vec![job; jobs], workers: vec![Worker::default(); workers] }
    }

    /// The unfinished job of the one target.
    pub fn unfinished(&self) -> Option<usize> {
        self.jobs.iter().position(|j| j.accepted && !j.state.is_final())
    }

    /// Whether a worker may claim it.
    pub fn is_claimable(&self, job: usize) -> bool {
        let job = &self.jobs[job];
        let due = match job.state {
            JobState::Queued | JobState::Waiting => job.due,
            JobState::Running => job.lapsed,
            _ => false,
        };
        job.accepted && due
    }

    /// Does it. The caller has looked that it may happen.
    pub fn apply(&mut self, action: Action) -> Answer {
        match action {
            Action::Accept(job) => match self.unfinished() {
                Some(busy) => return Answer::Busy(busy),
                None => self.jobs[job].accepted = true,
            },
            Action::Claim(worker, job) => self.claim(worker, job),
            Action::Renew(worker) => return self.renew(worker),
            Action::OwnEnd(worker) | Action::Crash(worker) => self.workers[worker].drop_turn(),
            Action::Lapse(job) => self.jobs[job].lapsed = true,
            Action::Due(job) => self.jobs[job].due = true,
            Action::Work(worker, work) => {
                if let Some(turn) = &mut self.workers[worker].turn {
                    turn.work(work);
                }
            }
            Action::Deliver(worker) => return self.deliver(worker),
            Action::DeliverUnheard(worker) => {
                if let Some(write) = self.workers[worker].turn.as_mut().and_then(|t| t.sent.as_mut()) {
                    let _ = self.jobs[write.job].record(write);
                }
            }
            Action::HoldUp(worker) => {
                let sent = self.workers[worker].turn.as_ref().and_then(|t| t.sent.clone());
                self.workers[worker].copy = sent;
            }
            Action::CopyArrives(worker) => return self.copy_arrives(worker),
            Action::Ask(worker) => {
                let answer = self.renew(worker);
                if let (Answer::Held(marked), Some(turn)) = (answer, &mut self.workers[worker].turn) {
                    turn.gate = Some(marked);
                }
                return answer;
            }
            Action::Act(worker) => {
                if let Some(turn) = &mut self.workers[worker].turn {
                    turn.gate = None;
                }
            }
            Action::Cancel(job) => return self.jobs[job].cancel(),
            Action::Retry(job) => return self.retry(job),
        }
        Answer::Nothing
    }

    fn claim(&mut self, worker: usize, job: usize) {
        let row = &mut self.jobs[job];
        let taken_over = row.state == JobState::Running;
        (row.state, row.lapsed, row.due) = (JobState::Running, false, false);
        (row.claim, row.write, row.version) = (row.claim + 1, 0, row.version + 1);
        if taken_over {
            row.tell(&[EventKind::JobTakenOver]);
        }
        let mut steps = row.steps;
        for step in steps.iter_mut().filter(|s| s.state == StepState::Running) {
            step.state = StepState::Pending;
        }
        let (claim, marked) = (row.claim, row.marked);
        self.workers[worker].turn = Some(Turn {
            job,
            claim,
            number: 0,
            good: true,
            heard: marked,
            claimed_marked: marked,
            gate: None,
            steps,
            sent: None,
        });
    }

    fn renew(&mut self, worker: usize) -> Answer {
        let Some(turn) = &mut self.workers[worker].turn else { return Answer::Nothing };
        let job = &self.jobs[turn.job];
        if job.claim == turn.claim && job.state == JobState::Running && !job.lapsed {
            turn.heard |= job.marked;
            return Answer::Held(job.marked);
        }
        self.workers[worker].drop_turn();
        Answer::Refused
    }

    fn deliver(&mut self, worker: usize) -> Answer {
        let Some(mut write) = self.workers[worker].turn.as_mut().and_then(|t| t.sent.take()) else {
            return Answer::Nothing;
        };
        let answer = self.jobs[write.job].record(&mut write);
        if answer == Answer::Refused || write.next != Next::Running {
            self.workers[worker].turn = None;
        }
        answer
    }

    fn copy_arrives(&mut self, worker: usize) -> Answer {
        let Some(mut write) = self.workers[worker].copy.take() else { return Answer::Nothing };
        let taken_before = write.taken;
        let answer = self.jobs[write.job].record(&mut write);
        let sent = self.workers[worker].turn.as_mut().and_then(|t| t.sent.as_mut());
        if let Some(sent) = sent.filter(|s| (s.job, s.claim, s.number) == (write.job, write.claim, write.number)) {
            sent.taken |= write.taken && !taken_before;
        }
        answer
    }

    fn retry(&mut self, job: usize) -> Answer {
        if self.jobs[job].state != JobState::Failed {
            return Answer::Is(self.jobs[job].state);
        }
        if let Some(busy) = self.unfinished() {
            return Answer::Busy(busy);
        }
        let row = &mut self.jobs[job];
        (row.state, row.due, row.lapsed, row.marked) = (JobState::Queued, true, false, false);
        (row.write, row.steps, row.version) = (0, [NEW; STEPS], row.version + 1);
        row.tell(&[EventKind::JobRetried]);
        Answer::Taken
    }
}

impl Worker {
    fn drop_turn(&mut self) {
        let sent = self.turn.take().and_then(|t| t.sent);
        self.copy = self.copy.take().or(sent);
    }
}

impl Turn {
    /// The step that is at work, or would be.
    pub fn step(&self) -> Option<usize> {
        self.steps.iter().position(|s| !s.state.is_finished())
    }

    /// Whether its step is at work.
    pub fn is_at_work(&self) -> bool {
        self.step().is_some_and(|s| self.steps[s].state == StepState::Running)
    }

    fn work(&mut self, work: Work) {
        self.gate = None;
        let (mut told, index) = (Vec::new(), self.step());
        let (next, state, kind) = match work {
            Work::Start => (Next::Running, StepState::Running, None),
            Work::Finish => (Next::Running, StepState::Done, Some(EventKind::StepDone)),
            Work::Wait => (Next::Waiting, StepState::Waiting, None),
            Work::Fail => (Next::Failed, StepState::Failed, Some(EventKind::StepFailed)),
            Work::Release => (Next::Queued, StepState::Pending, None),
            Work::Cancel => (Next::Cancelled, StepState::Pending, None),
        };
        if let Some(step) = index.map(|i| &mut self.steps[i]) {
            if matches!(work, Work::Start) && !step.started {
                told.push(EventKind::StepStarted);
                step.started = true;
            }
            if work == Work::Wait && !step.waits {
                told.push(EventKind::StepWaiting);
            }
            // A step that waits and was not looked at goes on waiting when its job is given back.
            if !(work == Work::Release && step.state == StepState::Waiting) {
                step.state = state;
            }
            step.waits =
                matches!(work, Work::Wait) || (step.waits && !matches!(work, Work::Finish | Work::Fail | Work::Cancel));
        }
        told.extend(kind);
        let next = if next == Next::Running && self.step().is_none() { Next::Succeeded } else { next };
        told.extend(match next {
            Next::Succeeded => Some(EventKind::JobSucceeded),
            Next::Failed => Some(EventKind::JobFailed),
            Next::Cancelled => Some(EventKind::JobCancelled),
            _ => None,
        });
        let (job, claim, number, steps) = (self.job, self.claim, self.number, self.steps);
        self.number += 1;
        self.sent = Some(Write { job, claim, number, next, steps, told, taken: false });
    }
}

impl Job {
    fn tell(&mut self, kinds: &[EventKind]) {
        self.seq += i64::try_from(kinds.len()).expect("few");
        self.told.extend_from_slice(kinds);
    }

    /// A fenced write, as the store takes it.
    fn record(&mut self, write: &mut Write) -> Answer {
        let state = write.next.state();
        if self.claim == write.claim && self.write == write.number && self.state == JobState::Running {
            (self.state, self.write, self.version) = (state, self.write + 1, self.version + 1);
            self.steps = write.steps;
            for step in &mut self.steps {
                // Only a step that waits has a reason to; its worker remembers it while it looks.
                step.waits &= step.state == StepState::Waiting;
            }
            self.due = state == JobState::Queued || (state == JobState::Waiting && self.marked);
            self.lapsed &= state == JobState::Running;
            self.tell(&write.told);
            write.taken = true;
            return Answer::Taken;
        }
        let again = if self.state.is_final() {
            self.claim == write.claim && self.state == state
        } else {
            self.claim == write.claim && self.write == write.number + 1 && self.state == state
        };
        if again { Answer::Taken } else { Answer::Refused }
    }

    fn cancel(&mut self) -> Answer {
        if self.state.is_final() {
            return Answer::Is(self.state);
        }
        let first = (!self.marked).then_some(EventKind::JobCancelRequested);
        if self.state == JobState::Running {
            if let Some(kind) = first {
                (self.marked, self.version) = (true, self.version + 1);
                self.tell(&[kind]);
            }
            return Answer::Requested;
        }
        (self.state, self.marked, self.due, self.version) = (JobState::Cancelled, true, false, self.version + 1);
        for step in self.steps.iter_mut().filter(|s| matches!(s.state, StepState::Running | StepState::Waiting)) {
            (step.state, step.waits) = (StepState::Pending, false);
        }
        let kinds: Vec<EventKind> = first.into_iter().chain([EventKind::JobCancelled]).collect();
        self.tell(&kinds);
        Answer::Cancelled
    }
}
