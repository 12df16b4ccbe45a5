//! What a request would do, without doing it.
//!
//! What belongs here: `POST /v1/plans`. What does not: looking at Azure, which `survey` does.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::Api;
use super::extract::JsonBody;
use super::intake::{self, Intake};
use super::openapi::problems;
use super::problem::Problem;
use super::views::FailureView;
use crate::domain::request::{Acknowledgement, CmkRequest};
use crate::plan::{PlannedStep, StepSummary};
use crate::survey::{FindingState, Gate, GateKind, Survey};

problems!(CreatePlanProblems: MalformedBody, InvalidParameter, PayloadTooLarge, UnsupportedMediaType, InvalidRequest);

/// What a request would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Plan)]
pub(super) struct PlanView {
    /// The service of the target.
    #[schema(example = "storage-account")]
    pub(super) service: String,
    /// The steps, in order: what each makes true, and what it would change where that is missing.
    pub(super) steps: Vec<PlannedStepView>,
    /// Whether Azure was looked at. If not, nothing below says what exists.
    pub(super) looked: bool,
    /// Everything that would make the job fail as things are, all at once.
    pub(super) blockers: Vec<FailureView>,
    /// What lies in the network before a key store that exists: each gate by name.
    pub(super) gates: Vec<GateView>,
    /// What was not looked at or could not be read, and why.
    pub(super) unread: Vec<String>,
    /// What cannot be undone.
    pub(super) irreversible: Vec<IrreversibleView>,
    /// What the request does not accept and may have to, depending on what exists.
    pub(super) missing: Vec<MissingView>,
    /// What a caller should know about the service.
    pub(super) notes: Vec<String>,
    /// What Azure's documentation leaves open about the service.
    pub(super) unverified: Vec<String>,
    /// The request with every default filled in.
    pub(super) request: CmkRequest,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StepSummary)]
pub(super) struct PlannedStepView {
    /// The step's name.
    #[schema(example = "ensure-key")]
    pub(super) name: String,
    /// What it makes true.
    pub(super) goal: String,
    /// What it would change where that is missing; absent for steps that only look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<String>,
    /// What cannot be undone about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) irreversible: Option<String>,
    /// What a look at Azure found; absent where it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<FoundView>,
}

/// What a look found for a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Found)]
pub(super) struct FoundView {
    /// `in-place`: nothing would be changed. `would-change`: it would be. `would-wait`: it is on its way. `blocked`: the
    /// step would fail, see `blockers`. `later`: only to be looked at once an earlier step has changed something.
    /// `unknown`: it could not be looked at.
    #[schema(example = "would-change", schema_with = finding_states)]
    pub(super) state: String,
    /// What was found, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

/// Something in the network that has to let somebody through to the key store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Gate)]
pub(super) struct GateView {
    /// Which.
    #[schema(example = "trusted-services", schema_with = gate_kinds)]
    pub(super) gate: String,
    /// Who has to pass: `worker-and-key-store` or `service-and-key-store`.
    #[schema(example = "service-and-key-store")]
    pub(super) between: String,
    /// Whether it lets them through. Absent: it depends on where they come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<bool>,
    /// What it is set to.
    pub(super) detail: String,
}

fn finding_states() -> Object {
    text_of(FindingState::ALL.map(FindingState::as_str))
}

fn gate_kinds() -> Object {
    text_of(GateKind::ALL.map(GateKind::as_str))
}

fn text_of<const N: usize>(words: [&'static str; N]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// Something that cannot be undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Irreversible)]
pub(super) struct IrreversibleView {
    /// The step that would do it.
    #[schema(example = "ensure-key-store")]
    pub(super) step: String,
    /// What it is.
    pub(super) what: String,
}

/// Something that the request may have to accept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MissingAcknowledgement)]
pub(super) struct MissingView {
    /// The word to add to `acknowledge`.
    pub(super) acknowledge: Acknowledgement,
    /// When it is needed.
    pub(super) when: String,
}

/// Show what a request would do
///
/// The same body and the same checks as `POST /v1/jobs`, but nothing is stored. Where the service was started with
/// `CMK_LOOK_AT_AZURE`, Azure is looked at and never changed: what is in place, what would be changed, and everything that
/// would stop the job, told at once. A look takes some seconds; what takes longer than 20 is told as unknown.
#[utoipa::path(
    post, path = "/v1/plans", tag = "plans",
    request_body(content = CmkRequest, description = "What is to be put under which key."),
    responses(
        (status = 200, description = "The plan.", body = PlanView),
        CreatePlanProblems,
    ),
)]
pub(super) async fn create_plan(State(api): State<Api>, JsonBody(body): JsonBody) -> Result<Json<PlanView>, Problem> {
    let intake = intake::read(&body)?;
    let survey = match &api.surveyor {
        Some(surveyor) => surveyor.survey(&intake.request, &intake.plan).await.map_err(|_| BUSY),
        None => Err(NOT_CONFIGURED),
    };
    let mut view = PlanView::from(intake);
    match survey {
        Ok(survey) => view.found(survey),
        Err(why) => view.unread.push(why.to_owned()),
    }
    Ok(Json(view))
}

const BUSY: &str = "Azure was not looked at: as many plans as may be are looked at now; ask again in a moment";
const NOT_CONFIGURED: &str = "Azure was not looked at: the service was started without CMK_LOOK_AT_AZURE";

impl PlanView {
    fn found(&mut self, survey: Survey) {
        self.looked = true;
        for (step, finding) in self.steps.iter_mut().zip(survey.steps) {
            step.found = Some(FoundView { state: finding.state.as_str().to_owned(), detail: finding.detail });
        }
        self.blockers = survey.blockers.iter().map(FailureView::from).collect();
        self.gates = survey.gates.into_iter().map(GateView::from).collect();
        self.unread = survey.unread;
    }
}

impl From<Gate> for GateView {
    fn from(Gate { kind, open, detail }: Gate) -> Self {
        Self { gate: kind.as_str().to_owned(), between: kind.between().to_owned(), open, detail }
    }
}

impl From<StepSummary> for PlannedStepView {
    fn from(StepSummary { name, goal, change, irreversible }: StepSummary) -> Self {
        Self { name, goal, change, irreversible, found: None }
    }
}

impl From<Intake> for PlanView {
    fn from(Intake { request, descriptor, plan }: Intake) -> Self {
        let steps: Vec<StepSummary> = plan.steps.iter().map(PlannedStep::summary).collect();
        Self {
            service: descriptor.slug.clone(),
            irreversible: steps
                .iter()
                .filter_map(|s| Some(IrreversibleView { step: s.name.clone(), what: s.irreversible.clone()? }))
                .collect(),
            missing: missing(&request),
            steps: steps.into_iter().map(PlannedStepView::from).collect(),
            looked: false,
            blockers: Vec::new(),
            gates: Vec::new(),
            unread: Vec::new(),
            notes: descriptor.notes.clone(),
            unverified: descriptor.unverified.clone(),
            request,
        }
    }
}

fn missing(request: &CmkRequest) -> Vec<MissingView> {
    let existing_vault = request.key_store.create.is_none() && !request.uses_managed_hsm();
    if !existing_vault || request.acknowledges(Acknowledgement::EnablePurgeProtection) {
        return Vec::new();
    }
    let when = "if the vault has no purge protection; without it the job fails before it changes anything".to_owned();
    vec![MissingView { acknowledge: Acknowledgement::EnablePurgeProtection, when }]
}
