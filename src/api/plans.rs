//! What a request would do, without doing it.
//!
//! What belongs here: `POST /v1/plans`. What does not: looking at Azure; a plan says what a job would look at.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::JsonBody;
use super::intake::{self, Intake};
use super::openapi::problems;
use super::problem::Problem;
use crate::domain::request::{Acknowledgement, CmkRequest};
use crate::plan::{PlannedStep, StepSummary};

problems!(CreatePlanProblems: MalformedBody, InvalidParameter, PayloadTooLarge, UnsupportedMediaType, InvalidRequest);

/// What a request would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Plan)]
pub(super) struct PlanView {
    /// The service of the target.
    #[schema(example = "storage-account")]
    pub(super) service: String,
    /// The steps, in order: what each makes true, and what it would change where that is missing.
    pub(super) steps: Vec<StepSummary>,
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
/// The same body and the same checks as `POST /v1/jobs`, but nothing is stored and Azure is not asked.
#[utoipa::path(
    post, path = "/v1/plans", tag = "plans",
    request_body(content = CmkRequest, description = "What is to be put under which key."),
    responses(
        (status = 200, description = "The plan.", body = PlanView),
        CreatePlanProblems,
    ),
)]
pub(super) async fn create_plan(JsonBody(body): JsonBody) -> Result<Json<PlanView>, Problem> {
    intake::read(&body).map(|intake| Json(intake.into()))
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
            steps,
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
