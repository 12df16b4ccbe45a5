//! The loop with a scripted step: what it makes of looks, changes and errors, without any Azure.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::drive::drive;
use super::{
    ActGate, Acted, Decision, NotYet, Progress, RATE_LIMIT, Step, StepContext, StepError, StepOutcome, Stop,
    WaitReason, testing,
};
use crate::azure::{
    Azure, AzureError, AzureErrorKind, AzureSettings, CallContext, Cloud, CredentialSettings, Timeouts,
};
use crate::clock::Clock;
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::ids::JobId;
use crate::domain::retry::OPERATION_TIMEOUT;

type Looks = VecDeque<Result<Decision<()>, StepError>>;
type Acts = VecDeque<Result<Acted<Decision<()>>, StepError>>;

/// A step whose looks say what they decide. The last look is repeated.
struct Script {
    looks: Mutex<Looks>,
    acts: Mutex<Acts>,
    /// The window for refusals of access, if the step waits for them.
    until: Option<OffsetDateTime>,
}

impl Step for Script {
    type Seen = Decision<()>;
    type Action = ();

    fn doing(&self) -> String {
        "testing kv-1".to_owned()
    }

    async fn observe(&self, _cx: &StepContext<'_>) -> Result<Self::Seen, StepError> {
        let mut looks = self.looks.lock().expect("no test panics while it holds the lock");
        let next = if looks.len() > 1 { looks.pop_front() } else { looks.front().cloned() };
        next.expect("a script has at least one look")
    }

    fn decide(&self, seen: &Self::Seen, _facts: &Facts) -> Decision<()> {
        seen.clone()
    }

    async fn act(&self, (): (), _cx: &StepContext<'_>) -> Result<Acted<Self::Seen>, StepError> {
        self.acts.lock().expect("no test panics while it holds the lock").pop_front().unwrap_or(Ok(Acted::Done))
    }

    fn learn(&self, _seen: &Self::Seen, facts: &mut Facts, _cx: &StepContext<'_>) {
        facts.key = testing::facts().key;
    }

    fn not_yet(&self, error: &AzureError, _cx: &StepContext<'_>) -> Option<NotYet> {
        let reason = WaitReason::new("access-propagation", "kv-1 does not honour the role assignment yet");
        let until = self.until.filter(|_| error.kind == AzureErrorKind::Forbidden)?;
        Some(NotYet { reason, since: testing::NOW, until, code: Code::KeyStoreUnreachable })
    }
}

struct Gate(Option<Stop>);

impl ActGate for Gate {
    fn may_act<'a>(&'a self) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>> {
        Box::pin(async { self.0.map_or(Ok(()), Err) })
    }

    fn acted<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {})
    }
}

#[derive(Default)]
struct Given {
    looks: Vec<Result<Decision<()>, StepError>>,
    acts: Vec<Result<Acted<Decision<()>>, StepError>>,
    until: Option<OffsetDateTime>,
    stop: Option<Stop>,
    progress: Option<Progress>,
    waiting_since: Option<OffsetDateTime>,
    /// The time since `testing::NOW`.
    later: Duration,
}

/// Runs the script once: the outcome, whether it learned something, and how many of the acts were left.
async fn run(given: Given) -> (StepOutcome, bool, usize) {
    let settings = AzureSettings {
        cloud: Cloud::public(),
        credential: CredentialSettings::AzureCli,
        timeouts: Timeouts::default(),
    };
    let azure = Azure::connect(settings).expect("the settings are valid");
    let clock = Clock::manual(testing::NOW + given.later);
    let before = Facts::default();
    let cx = StepContext {
        azure: &azure,
        call: CallContext::new(Uuid::nil()),
        clock: &clock,
        job_id: JobId(Uuid::nil()),
        facts: &before,
        waiting_since: given.waiting_since,
        progress: given.progress.as_ref(),
        gate: &Gate(given.stop),
    };
    let script =
        Script { looks: Mutex::new(given.looks.into()), acts: Mutex::new(given.acts.into()), until: given.until };
    let mut facts = Facts::default();
    let outcome = drive(&script, &cx, &mut facts).await;
    let left = script.acts.lock().expect("no test panics while it holds the lock").len();
    (outcome, facts.key.is_some(), left)
}

fn progress(changes: u32) -> Progress {
    Progress { operation: None, accepted_at: testing::NOW, changes }
}

fn refused(kind: AzureErrorKind) -> StepError {
    testing::error(kind).into()
}

#[tokio::test]
async fn a_satisfied_look_learns_and_says_whether_this_step_changed_anything() {
    let satisfied = || vec![Ok(Decision::Satisfied)];
    let (outcome, learned, _) = run(Given { looks: satisfied(), ..Given::default() }).await;
    assert_eq!((outcome, learned), (StepOutcome::Done { changed: false }, true));
    let earlier = Given { looks: satisfied(), progress: Some(progress(1)), ..Given::default() };
    assert_eq!(run(earlier).await.0, StepOutcome::Done { changed: true });
    let looks = vec![Ok(Decision::Act(())), Ok(Decision::Satisfied)];
    assert_eq!(run(Given { looks, ..Given::default() }).await.0, StepOutcome::Done { changed: true });
    let seen = vec![Ok(Acted::Seen(Decision::Satisfied))];
    let acting = Given { looks: vec![Ok(Decision::Act(()))], acts: seen, ..Given::default() };
    assert_eq!(run(acting).await.0, StepOutcome::Done { changed: true });
}

#[tokio::test]
async fn a_closed_gate_stops_before_the_change() {
    let acts = vec![Ok(Acted::Done)];
    let given = Given { looks: vec![Ok(Decision::Act(()))], acts, stop: Some(Stop::LeaseLost), ..Given::default() };
    assert_eq!(run(given).await, (StepOutcome::Stopped(Stop::LeaseLost), false, 1));
}

#[tokio::test]
async fn a_wait_after_a_change_remembers_the_change() {
    let reason = WaitReason::new("dns-propagation", "x");
    let waiting = || Ok(Decision::Wait(reason.clone()));
    let (outcome, learned, _) = run(Given { looks: vec![waiting()], ..Given::default() }).await;
    let StepOutcome::Wait { progress: None, after, .. } = outcome else { panic!("{outcome:?}") };
    assert!(!learned && after == Duration::from_millis(500));
    let looks = vec![Ok(Decision::Act(())), waiting()];
    let (outcome, ..) = run(Given { looks, ..Given::default() }).await;
    assert!(matches!(&outcome, StepOutcome::Wait { progress: Some(p), .. } if *p == progress(1)), "{outcome:?}");
}

#[tokio::test]
async fn a_wait_ends_when_azure_took_too_long() {
    let looks = vec![Ok(Decision::Wait(WaitReason::new("resource-busy", "x")))];
    let given = Given { looks, waiting_since: Some(testing::NOW), later: OPERATION_TIMEOUT, ..Given::default() };
    let (outcome, ..) = run(given).await;
    assert!(matches!(&outcome, StepOutcome::Failed(f) if f.code == Code::OperationTimeout), "{outcome:?}");
}

#[tokio::test]
async fn not_yet_waits_forgets_the_change_and_ends_with_its_own_code_at_its_own_time() {
    let given = |later| Given {
        looks: vec![Err(refused(AzureErrorKind::Forbidden))],
        until: Some(testing::NOW + Duration::from_secs(100)),
        progress: Some(progress(1)),
        later: Duration::from_secs_f64(later),
        ..Given::default()
    };
    for (later, want) in [(0.0, 0.5), (50.0, 2.0), (99.75, 0.25)] {
        let (outcome, ..) = run(given(later)).await;
        let StepOutcome::Wait { after, progress: None, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(after, Duration::from_secs_f64(want), "{later}");
    }
    let (outcome, ..) = run(given(100.0)).await;
    let StepOutcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.code, Code::KeyStoreUnreachable);
    assert!(failure.message.starts_with("testing kv-1: ") && failure.message.contains("100 s"), "{failure}");
    assert!(failure.azure.is_some());
}

#[tokio::test]
async fn errors_are_retried_or_final_by_their_kind() {
    for (kind, retried) in [
        (AzureErrorKind::Throttled, true),
        (AzureErrorKind::Transient, true),
        (AzureErrorKind::NotSent, true),
        (AzureErrorKind::UnknownOutcome, true),
        (AzureErrorKind::Busy, true),
        (AzureErrorKind::Authentication, false),
        (AzureErrorKind::PolicyDenied, false),
        (AzureErrorKind::Rejected, false),
    ] {
        let (outcome, ..) = run(Given { looks: vec![Err(refused(kind))], ..Given::default() }).await;
        assert_eq!(matches!(outcome, StepOutcome::Retry { progress: None, .. }), retried, "{kind:?} {outcome:?}");
        assert_eq!(matches!(outcome, StepOutcome::Failed(_)), !retried, "{kind:?} {outcome:?}");
    }
    let failure = Failure::new(Code::KeyMismatch, "x");
    let (outcome, ..) = run(Given { looks: vec![Ok(Decision::Refuse(failure.clone()))], ..Given::default() }).await;
    assert_eq!(outcome, StepOutcome::Failed(failure));
}

#[tokio::test]
async fn a_limit_puts_off_the_step_without_an_attempt_and_keeps_what_was_accepted() {
    let limited = || {
        let error = testing::error(AzureErrorKind::RateLimited);
        StepError::from(AzureError { status: None, retry_after: Some(Duration::from_secs(3)), ..error })
    };
    let waits = |outcome| {
        let StepOutcome::Wait { after, reason, progress } = outcome else { panic!("{outcome:?}") };
        assert_eq!((after, reason.code.as_str()), (Duration::from_secs(3), RATE_LIMIT));
        progress
    };
    let (outcome, ..) =
        run(Given { looks: vec![Err(limited())], progress: Some(progress(1)), ..Given::default() }).await;
    assert_eq!(waits(outcome), Some(progress(1)));
    let acting = |acts| Given { looks: vec![Ok(Decision::Act(()))], acts, ..Given::default() };
    assert_eq!(waits(run(acting(vec![Err(limited())])).await.0), None, "nothing was sent");
    assert_eq!(waits(run(acting(vec![Ok(Acted::Done), Err(limited())])).await.0), Some(progress(1)));
}

#[test]
fn a_limit_only_puts_off_what_a_step_waits_for() {
    let (limit, grant, retry) =
        (WaitReason::new(RATE_LIMIT, "l"), WaitReason::new("access-propagation", "g"), WaitReason::new("retry", "r"));
    assert_eq!(limit.clone().after(None), limit);
    assert_eq!(limit.clone().after(Some(&grant)), grant, "the window that ends the wait goes on");
    assert_eq!(grant.clone().after(Some(&limit)), grant);
    assert_eq!([&limit, &grant, &retry].map(WaitReason::is_for_an_arrival), [false, true, false]);
}

#[tokio::test]
async fn a_right_of_our_own_is_waited_for_and_keeps_what_was_accepted() {
    let looks = vec![Err(refused(AzureErrorKind::Forbidden))];
    let (outcome, ..) = run(Given { looks, progress: Some(progress(1)), ..Given::default() }).await;
    let StepOutcome::Wait { reason, progress: Some(kept), .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((reason.code.as_str(), kept), ("access-propagation", progress(1)));
}

#[tokio::test]
async fn a_change_whose_outcome_is_unknown_is_not_counted_and_one_before_it_is() {
    let looks = || vec![Ok(Decision::Act(()))];
    let unknown = || Err(refused(AzureErrorKind::UnknownOutcome));
    let (outcome, ..) = run(Given { looks: looks(), acts: vec![unknown()], ..Given::default() }).await;
    assert!(matches!(outcome, StepOutcome::Retry { progress: None, .. }), "{outcome:?}");
    let (outcome, ..) = run(Given { looks: looks(), acts: vec![Ok(Acted::Done), unknown()], ..Given::default() }).await;
    assert!(matches!(&outcome, StepOutcome::Retry { progress: Some(p), .. } if *p == progress(1)), "{outcome:?}");
}

#[tokio::test]
async fn an_accepted_change_is_remembered_and_counted() {
    let acts = vec![Ok(Acted::Accepted { operation: None, retry_after: Some(Duration::from_secs(7)) })];
    let given = Given { looks: vec![Ok(Decision::Act(()))], acts, progress: Some(progress(2)), ..Given::default() };
    let (outcome, ..) = run(given).await;
    let StepOutcome::Wait { after, reason, progress: Some(found) } = outcome else { panic!("{outcome:?}") };
    assert_eq!((after, reason.code.as_str(), found), (Duration::from_secs(7), "azure-operation", progress(3)));
}

#[tokio::test]
async fn a_step_that_does_not_converge_stops_changing_then_looks_then_fails() {
    let given = |progress, later| Given {
        looks: vec![Ok(Decision::Act(()))],
        acts: (0..20).map(|_| Ok(Acted::Done)).collect(),
        progress,
        later,
        ..Given::default()
    };
    let (outcome, _, left) = run(given(None, Duration::ZERO)).await;
    assert_eq!(left, 12, "eight changes and no more");
    assert!(matches!(&outcome, StepOutcome::Wait { reason, .. } if reason.code == "read-lag"), "{outcome:?}");
    let (outcome, _, left) = run(given(Some(progress(8)), Duration::from_secs(599))).await;
    assert!(left == 20 && matches!(outcome, StepOutcome::Wait { .. }), "{outcome:?}");
    let (outcome, _, left) = run(given(Some(progress(8)), Duration::from_secs(600))).await;
    assert_eq!(left, 20);
    assert!(matches!(&outcome, StepOutcome::Failed(f) if f.code == Code::AzureConflict), "{outcome:?}");
}
