//! A look at everything that a plan is about, before anything is changed: what is in place, what would be changed, and
//! everything that would stop the job, told at once.
//!
//! What belongs here: running the looks of a plan's steps, and the looks that no step makes (locks, registrations, policies,
//! gates of the network). What does not: changing anything. There is no way from here to a change: the steps are only asked to
//! look and to decide, and the gate that they would ask before a change always refuses.

mod gates;
mod report;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, info_span};
use uuid::Uuid;

use crate::azure::{
    Azure, AzureError, AzureErrorKind, AzureSettings, AzureSetupError, CallContext, locks, managed_hsms, policies,
    registrations, vaults,
};
use crate::clock::Clock;
use crate::domain::codes::Code;
use crate::domain::facts::Facts;
use crate::domain::failure::Failure;
use crate::domain::ids::{ArmId, JobId};
use crate::domain::request::CmkRequest;
use crate::plan::{Plan, PlannedStep};
use crate::steps::{self, ActGate, Preview, Proposed, StepContext, StepError, StepSpec, Stop};

pub use report::{Finding, FindingState, Gate, GateKind, Survey};

/// Surveys at the same time; each makes some twenty calls, one after the other.
const AT_ONCE: usize = 4;

/// How long a survey may take; what it has not looked at by then is unknown.
const DEADLINE: Duration = Duration::from_secs(20);

/// Looks at Azure for callers who have not decided yet. Cheap to clone.
#[derive(Clone)]
pub struct Surveyor {
    azure: Arc<Azure>,
    clock: Clock,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for Surveyor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Surveyor").finish()
    }
}

/// As many surveys as may be are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Surveyor {
    /// Looks with the credentials of these settings; reading is all it needs.
    pub fn connect(settings: AzureSettings) -> Result<Self, AzureSetupError> {
        Ok(Self::new(Arc::new(Azure::connect(settings)?), Clock::System))
    }

    /// Looks through these clients.
    pub fn new(azure: Arc<Azure>, clock: Clock) -> Self {
        Self { azure, clock, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Looks at all that the plan is about. Nothing is changed, and an error of Azure is a part of the answer.
    pub async fn survey(&self, request: &CmkRequest, plan: &Plan) -> Result<Survey, Busy> {
        let _slot = self.slots.try_acquire().map_err(|_| Busy)?;
        let job_id = JobId::generate();
        let subscription = request.target.resource_id.subscription();
        let look = Look {
            azure: &self.azure,
            clock: &self.clock,
            job_id,
            call: CallContext::new(job_id.0).of_subscription(subscription).looking(true),
            until: Instant::now() + DEADLINE,
            survey: Survey::default(),
        };
        Ok(look.all(request, plan).instrument(info_span!("survey", cmk.survey_id = %job_id)).await)
    }
}

/// Nothing is ever changed here.
struct Never;

impl ActGate for Never {
    fn may_act<'a>(&'a self) -> Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>> {
        Box::pin(async { Err(Stop::Cancelled) })
    }

    fn acted<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async {})
    }
}

/// One survey under way.
struct Look<'a> {
    azure: &'a Azure,
    clock: &'a Clock,
    job_id: JobId,
    call: CallContext,
    until: Instant,
    survey: Survey,
}

impl Look<'_> {
    async fn all(mut self, request: &CmkRequest, plan: &Plan) -> Survey {
        let facts = self.steps(plan).await;
        self.policies(plan, &facts).await;
        let changed = self.changed(request, plan);
        self.locks(&changed).await;
        self.registrations(request).await;
        self.gates(&request.key_store.resource_id, request.uses_managed_hsm()).await;
        self.survey
    }

    /// The steps' own looks, in their order. What one learns, the next ones know.
    async fn steps(&mut self, plan: &Plan) -> Facts {
        let mut facts = Facts::default();
        // Of each step that is not in place, or comes after such a one: the first of them.
        let mut open: HashMap<&str, &str> = HashMap::new();
        for step in &plan.steps {
            let before = step.after.iter().flatten().find_map(|name| open.get(name.as_str()).copied());
            let finding = self.step(step, before, &mut facts).await;
            if before.is_some() || finding.state != FindingState::InPlace {
                open.insert(&step.name, before.unwrap_or(&step.name));
            }
            self.survey.steps.push(finding);
        }
        facts
    }

    fn context<'f>(&'f self, facts: &'f Facts, gate: &'f Never) -> StepContext<'f> {
        StepContext {
            azure: self.azure,
            call: self.call,
            clock: self.clock,
            job_id: self.job_id,
            facts,
            waiting_since: None,
            progress: None,
            gate,
        }
    }

    async fn step(&mut self, step: &PlannedStep, before: Option<&str>, facts: &mut Facts) -> Finding {
        let later = |before: &str| Finding {
            state: FindingState::Later,
            detail: Some(format!("it can be looked at once {before} is done")),
        };
        // These two only look at what the steps before them change.
        if let (Some(before), StepSpec::Verify(_) | StepSpec::AwaitKeyStoreAccess(_)) = (before, &step.spec) {
            return later(before);
        }
        let known = facts.clone();
        let gate = Never;
        let cx = self.context(&known, &gate);
        let Ok(preview) = timeout_at(self.until, steps::preview(&step.spec, &cx, facts)).await else {
            return Finding { state: FindingState::Unknown, detail: Some("Azure took too long to answer".to_owned()) };
        };
        let found = |state, detail: Option<String>| Finding { state, detail };
        match (preview, before) {
            (Preview::InPlace, _) => found(FindingState::InPlace, None),
            (Preview::WouldChange, _) => found(FindingState::WouldChange, None),
            (Preview::Refused(failure), _) | (Preview::NotAllowed(failure), None) => {
                let detail = failure.message.clone();
                self.block(failure);
                found(FindingState::Blocked, Some(detail))
            }
            // What is refused, or missing, before an earlier change may be different after it.
            (Preview::NotAllowed(_) | Preview::WouldWait(_) | Preview::NeedsEarlier, Some(before)) => later(before),
            (Preview::WouldWait(reason), None) => found(FindingState::WouldWait, Some(reason.text)),
            (Preview::NotSeen(failure), _) => found(FindingState::Unknown, Some(failure.message)),
            (Preview::NeedsEarlier, None) => found(FindingState::Unknown, None),
        }
    }

    fn block(&mut self, failure: Failure) {
        if !self.survey.blockers.contains(&failure) {
            self.survey.blockers.push(failure);
        }
    }

    /// The resources that the job would write: the target and the key store, where a step would change them.
    fn changed(&self, request: &CmkRequest, plan: &Plan) -> Vec<ArmId> {
        let changes = |names: &[&str]| {
            plan.steps.iter().zip(&self.survey.steps).any(|(step, finding)| {
                let open = [FindingState::WouldChange, FindingState::Later];
                names.contains(&step.name.as_str()) && open.contains(&finding.state)
            })
        };
        let store = changes(&["ensure-key-store", "grant-own-access", "grant-identity-access"]);
        let target = changes(&["attach-identity", "configure-service"]);
        let ids = [(target, &request.target.resource_id), (store, &request.key_store.resource_id)];
        ids.into_iter().filter(|(changed, _)| *changed).map(|(_, id)| id.clone()).collect()
    }

    /// Policies that would deny what the job would leave a vault or the target as. Keys are not looked at: their policies are
    /// the data plane's.
    async fn policies(&mut self, plan: &Plan, facts: &Facts) {
        let gate = Never;
        let specs = || plan.steps.iter().map(|step| &step.spec);
        let facts = steps::foreseen(specs(), &self.context(facts, &gate));
        let open = |state: FindingState| [FindingState::WouldChange, FindingState::Later].contains(&state);
        let writes: Vec<bool> = self.survey.steps.iter().map(|finding| open(finding.state)).collect();
        for (step, _) in plan.steps.iter().zip(&writes).filter(|(_, open)| **open) {
            let cx = self.context(&facts, &gate);
            let proposed = timeout_at(self.until, steps::proposed(&step.spec, &cx)).await;
            let Proposed { id, api_version, content } = match proposed {
                Ok(Ok(Some(proposed))) => proposed,
                // The step's own look has told what it could not read.
                Ok(Ok(None) | Err(StepError::Failed(_) | StepError::Azure(_))) | Err(_) => continue,
            };
            match self.within(policies::denials(&self.azure.arm, &self.call, &id, &api_version, &content)).await {
                Ok(denials) => {
                    for denial in denials {
                        let (policy, definition, what) = (denial.assignment, denial.definition, id.name());
                        let message = format!("{policy} (of {definition}) denies {what} as the job would leave it");
                        self.block(Failure::new(Code::PolicyDenied, message));
                    }
                }
                Err(error) => self.unread(&format!("the policies on {}", id.name()), &error),
            }
        }
    }

    /// Locks against writing what would be written. A role assignment is a write at the key store.
    async fn locks(&mut self, changed: &[ArmId]) {
        for id in changed {
            // A resource that does not exist inherits its group's locks once it does.
            let group = format!("/subscriptions/{}/resourceGroups/{}", id.subscription(), id.resource_group());
            let mut found = self.within(locks::read_only(&self.azure.arm, &self.call, id.as_str())).await;
            if found.as_ref().is_ok_and(Vec::is_empty) {
                found = self.within(locks::read_only(&self.azure.arm, &self.call, &group)).await;
            }
            match found {
                Ok(locks) => {
                    for lock in locks {
                        let (name, at, what) = (lock.name, lock.scope, id.name());
                        let message = format!("the lock {name} at {at} does not let {what} be written");
                        self.block(Failure::new(Code::ScopeLocked, message));
                    }
                }
                Err(error) => self.unread(&format!("the locks of {}", id.name()), &error),
            }
        }
    }

    /// The namespaces of everything that the request names. What exists shows that its own is registered.
    async fn registrations(&mut self, request: &CmkRequest) {
        let mut ids = vec![request.target.resource_id.clone(), request.key_store.resource_id.clone()];
        ids.extend(request.identity.resource_id.clone());
        let mut asked: Vec<(Uuid, String)> = Vec::new();
        for id in ids {
            let namespace = id.resource_type().split('/').next().unwrap_or_default().to_owned();
            let pair = (id.subscription(), namespace);
            let known = |p: &(Uuid, String)| p.0 == pair.0 && p.1.eq_ignore_ascii_case(&pair.1);
            if asked.iter().any(known) {
                continue;
            }
            match self.within(registrations::is_registered(&self.azure.arm, &self.call, pair.0, &pair.1)).await {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!("the subscription {} is not registered for {}", pair.0, pair.1);
                    self.block(Failure::new(Code::ProviderNotRegistered, message));
                }
                Err(error) => self.unread(&format!("whether {} is registered", pair.1), &error),
            }
            asked.push(pair);
        }
    }

    /// The gates of a key store that exists.
    async fn gates(&mut self, store: &ArmId, is_hsm: bool) {
        let (arm, call) = (&self.azure.arm, &self.call);
        let found = match is_hsm {
            true => self.within(managed_hsms::get(arm, call, store)).await,
            false => self.within(vaults::get(arm, call, store)).await,
        };
        match found {
            Ok(vault) => self.survey.gates = vault.as_ref().map(gates::of).unwrap_or_default(),
            Err(error) => self.unread(&format!("the network of {}", store.name()), &error),
        }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, AzureError>>) -> Result<T, AzureError> {
        let late = || AzureError::new(AzureErrorKind::Transient, "no answer in the time of a plan".to_owned());
        timeout_at(self.until, call).await.unwrap_or_else(|_| Err(late()))
    }

    fn unread(&mut self, what: &str, error: &AzureError) {
        self.survey.unread.push(error.to_failure(&format!("reading {what}")).message);
    }
}
