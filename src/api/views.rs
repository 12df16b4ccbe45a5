//! Jobs as the API shows them, apart from how they are stored.
//!
//! What belongs here: wire types of jobs and how a stored job becomes one. What does not: the request, whose wire form
//! is that of `domain::request`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::problem::all_codes;
use crate::domain::facts::{Evidence, Facts};
use crate::domain::failure::{AzureDetail, Failure, FailureClass};
use crate::domain::job::{JobChange, JobKind, JobState, StepState};
use crate::domain::request::CmkRequest;
use crate::store::{Job, StepRow};

/// A job without its steps, as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobSummary {
    /// The job's id; ids sort by the time of acceptance.
    pub(super) id: Uuid,
    /// What it is for.
    pub(super) kind: JobKind,
    /// The service of the target; see `GET /v1/services`.
    #[schema(example = "storage-account")]
    pub(super) service: String,
    /// Where it is.
    pub(super) state: JobState,
    /// What is happening, for people: at most 280 characters of plain text.
    #[schema(max_length = 280)]
    pub(super) summary: String,
    /// The Azure resource, as the caller spelled its id.
    pub(super) target: String,
    /// The key store, as the caller spelled its id.
    pub(super) key_store: String,
    /// Who asked.
    pub(super) requested_by: String,
    /// The caller's own words.
    pub(super) labels: BTreeMap<String, String>,
    /// How far it is.
    pub(super) progress: JobProgress,
    /// When it is looked at again, while it is queued or waiting.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) next_look_at: Option<OffsetDateTime>,
    /// Why it waits, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wait_reason: Option<Reason>,
    /// When somebody asked to cancel it.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) cancel_requested_at: Option<OffsetDateTime>,
    /// Why it failed, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<FailureView>,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
    /// When anything about it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) updated_at: OffsetDateTime,
    /// When it ended.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) finished_at: Option<OffsetDateTime>,
    /// Where to go on. An action is listed only where the job's state allows it.
    pub(super) links: JobLinks,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Job)]
pub(super) struct JobView {
    #[serde(flatten)]
    pub(super) job: JobSummary,
    /// Its steps, in order.
    pub(super) steps: Vec<StepView>,
    /// What its steps learned: also what exists after a failure or a cancellation.
    pub(super) facts: FactsView,
    /// The proof, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<Evidence>,
    /// The request with every default filled in.
    pub(super) request: CmkRequest,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct JobProgress {
    /// Steps that are finished.
    #[schema(example = 4)]
    pub(super) done: u16,
    /// All steps.
    #[schema(example = 10)]
    pub(super) total: u16,
}

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(super) struct Reason {
    /// A stable code.
    #[schema(example = "access-propagation")]
    pub(super) code: String,
    /// One sentence.
    pub(super) text: String,
}

/// Where to go on from a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobLinks {
    /// The job.
    #[serde(rename = "self")]
    pub(super) own: String,
    /// What happened.
    pub(super) events: String,
    /// POST here to stop it; while it is unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cancel: Option<String>,
    /// POST here to try again; after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<String>,
    /// Every job of the same target.
    pub(super) target_jobs: String,
    /// What the target's service allows and needs.
    pub(super) service: String,
}

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Step)]
pub(super) struct StepView {
    /// Its name.
    #[schema(example = "ensure-key")]
    pub(super) name: String,
    /// What it makes true.
    pub(super) goal: String,
    /// Where it is.
    pub(super) state: StepState,
    /// Transient errors since the last success or retry.
    pub(super) attempts: u32,
    /// How often it was run, waits included.
    pub(super) looks: u32,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wait_reason: Option<Reason>,
    /// Since when.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) waiting_since: Option<OffsetDateTime>,
    /// When it was first run.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) finished_at: Option<OffsetDateTime>,
    /// Its last error, until it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<FailureView>,
}

/// Why a job or a step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Failure)]
pub(super) struct FailureView {
    /// The stable code; `GET /v1/errors/{code}` explains it.
    #[schema(schema_with = all_codes)]
    pub(super) code: String,
    /// What kind of trouble it is.
    pub(super) class: FailureClass,
    /// What was being done to what, and what happened.
    pub(super) message: String,
    /// What the reader can do.
    pub(super) remedy: String,
    /// Whether trying again later can help without anybody changing anything.
    pub(super) retryable: bool,
    /// What Azure said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) azure: Option<AzureDetail>,
}

/// What the steps of a job learned; what is missing has not been learned yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = Facts)]
pub(super) struct FactsView {
    /// The target as it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<TargetView>,
    /// The key store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_store: Option<KeyStoreView>,
    /// The identity that the target uses to reach its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<IdentityView>,
    /// The grant of the service itself on the key store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) own_grant: Option<GrantView>,
    /// The identity's grant on the key store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity_grant: Option<GrantView>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<KeyView>,
}

/// The target as it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = TargetFact)]
pub(super) struct TargetView {
    /// Whether it existed before the job.
    pub(super) existed: bool,
    /// Its region.
    pub(super) location: String,
}

/// The key store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyStoreFact)]
pub(super) struct KeyStoreView {
    /// Base URI of its data plane.
    pub(super) uri: String,
    /// Its region.
    pub(super) location: String,
    /// The tenant that it trusts.
    pub(super) tenant_id: Uuid,
    /// Whether the job created it.
    pub(super) created: bool,
}

/// The identity that the target uses to reach its key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = IdentityFact)]
pub(super) struct IdentityView {
    /// The user-assigned identity's id; absent for the target's own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resource_id: Option<String>,
    /// Object id of its service principal.
    pub(super) principal_id: Uuid,
    /// Its client id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<Uuid>,
}

/// A role assignment that the job made or found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GrantFact)]
pub(super) struct GrantView {
    /// The assignment's id.
    pub(super) assignment_id: String,
    /// The principal that holds the role.
    pub(super) principal_id: Uuid,
    /// When the job saw it in place.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) seen_at: OffsetDateTime,
}

/// The key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyFact)]
pub(super) struct KeyView {
    /// Its id in the store, with the version that was current when the job looked.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    /// The version that was current when the job looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// Whether the job created it.
    pub(super) created: bool,
}

/// The path of a job.
pub(super) fn job_path(id: impl std::fmt::Display) -> String {
    format!("/v1/jobs/{id}")
}

impl From<&Job> for JobSummary {
    fn from(job: &Job) -> Self {
        let looks_again = matches!(job.state, JobState::Queued | JobState::Waiting);
        Self {
            id: job.id.0,
            kind: job.kind,
            service: job.service.clone(),
            state: job.state,
            summary: super::summary::of(job),
            target: job.target.to_string(),
            key_store: job.request.key_store.resource_id.to_string(),
            requested_by: job.requested_by.clone(),
            labels: job.labels.clone(),
            progress: JobProgress { done: job.steps_done, total: job.steps_total },
            next_look_at: looks_again.then_some(job.run_after),
            wait_reason: job.wait_reason.as_ref().map(|r| Reason { code: r.code.clone(), text: r.text.clone() }),
            cancel_requested_at: job.cancel_requested_at,
            failure: job.failure.as_ref().map(FailureView::from),
            created_at: job.created_at,
            updated_at: job.updated_at,
            finished_at: job.finished_at,
            links: JobLinks::from(job),
        }
    }
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> Self {
        Self {
            job: job.into(),
            steps: job.steps.iter().map(StepView::from).collect(),
            facts: FactsView::from(&job.facts),
            evidence: job.facts.evidence.clone(),
            request: job.request.clone(),
        }
    }
}

impl From<&Job> for JobLinks {
    fn from(job: &Job) -> Self {
        let own = job_path(job.id);
        let action = |change: JobChange, name: &str| job.state.after(change).map(|_| format!("{own}/{name}"));
        let target: String = url::form_urlencoded::byte_serialize(job.target.as_str().as_bytes()).collect();
        Self {
            events: format!("{own}/events"),
            cancel: action(JobChange::Cancel, "cancel"),
            retry: action(JobChange::Retry, "retry"),
            target_jobs: format!("/v1/jobs?target={target}"),
            service: format!("/v1/services/{}", job.service),
            own,
        }
    }
}

impl From<&StepRow> for StepView {
    fn from(step: &StepRow) -> Self {
        Self {
            name: step.planned.name.clone(),
            goal: step.planned.summary().goal,
            state: step.state,
            attempts: step.attempts,
            looks: step.looks,
            wait_reason: step.wait_reason.as_ref().map(|r| Reason { code: r.code.clone(), text: r.text.clone() }),
            waiting_since: step.waiting_since,
            started_at: step.started_at,
            finished_at: step.finished_at,
            failure: step.failure.as_ref().map(FailureView::from),
        }
    }
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        Self {
            code: failure.code.as_str().to_owned(),
            class: failure.class,
            message: failure.message.clone(),
            remedy: failure.remedy().to_owned(),
            retryable: failure.class.is_retryable(),
            azure: failure.azure.clone(),
        }
    }
}

impl From<&Facts> for FactsView {
    fn from(facts: &Facts) -> Self {
        let grant = |g: &crate::domain::facts::GrantFact| GrantView {
            assignment_id: g.assignment_id.clone(),
            principal_id: g.principal_id.0,
            seen_at: g.seen_at,
        };
        Self {
            target: facts.target.as_ref().map(|t| TargetView { existed: t.existed, location: t.location.clone() }),
            key_store: facts.key_store.as_ref().map(|s| KeyStoreView {
                uri: s.uri.clone(),
                location: s.location.clone(),
                tenant_id: s.tenant_id,
                created: s.created,
            }),
            identity: facts.identity.as_ref().map(|i| IdentityView {
                resource_id: i.resource_id.as_ref().map(ToString::to_string),
                principal_id: i.principal_id.0,
                client_id: i.client_id.map(|c| c.0),
            }),
            own_grant: facts.own_grant.as_ref().map(grant),
            identity_grant: facts.identity_grant.as_ref().map(grant),
            key: facts.key.as_ref().map(|k| KeyView {
                id: k.id.to_string(),
                name: k.id.name.clone(),
                version: k.id.version.clone(),
                created: k.created,
            }),
        }
    }
}
