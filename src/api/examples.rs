//! Examples for the contract, built from the same types as real answers, so that they cannot go stale.
//!
//! What belongs here: one plausible answer per operation and status. What does not: examples of problems, which follow
//! from the catalogue (`openapi`).

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::{Uuid, uuid};

use super::events::{EventPage, EventView};
use super::health::{Check, Liveness, Readiness};
use super::intake::{self, Intake};
use super::jobs::JobPage;
use super::plans::PlanView;
use super::views::{JobSummary, JobView};
use super::{errors, services};
use crate::domain::codes::Code;
use crate::domain::facts::{Evidence, Facts, GrantFact, IdentityFact, KeyFact, KeyStoreFact, TargetFact};
use crate::domain::failure::{AzureDetail, Failure};
use crate::domain::ids::{ClientId, JobId, KeyId, PrincipalId};
use crate::domain::job::{JobState, StepState};
use crate::store::{Event, EventKind, Job, StepRow};

/// The id of the job in all examples.
pub(super) const JOB: Uuid = uuid!("0197c3a2-5b1e-7c40-9d52-6f1f3f0a7b11");

const ACCEPTED_AT: OffsetDateTime = datetime!(2026-07-01 12:00:00 UTC);
const TENANT: Uuid = uuid!("11111111-1111-4111-8111-111111111111");
const OWN_PRINCIPAL: PrincipalId = PrincipalId(uuid!("44444444-4444-4444-8444-444444444444"));
const PRINCIPAL: PrincipalId = PrincipalId(uuid!("8c1f7d3a-2c0e-4f0b-9b7e-5d2a1e6c4f90"));
const CLIENT: ClientId = ClientId(uuid!("b7a4c2d1-6e5f-4a3b-8c9d-0e1f2a3b4c5d"));
const VERSION: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The request examples: file name, what it is, and the body.
pub(super) fn requests() -> [(&'static str, &'static str, Value); 4] {
    let read = |text: &str| serde_json::from_str(text).expect("an example is JSON; a test reads each");
    [
        (
            "provision-storage-account",
            "A new account with a new vault, key and identity",
            read(include_str!("../../openapi/examples/provision-storage-account.json")),
        ),
        (
            "provision-existing-storage-account",
            "An account, vault and identity that exist",
            read(include_str!("../../openapi/examples/provision-existing-storage-account.json")),
        ),
        (
            "provision-exact-key-version",
            "An account that exists under one exact version of a key",
            read(include_str!("../../openapi/examples/provision-exact-key-version.json")),
        ),
        (
            "provision-minimal",
            "Only what is required; everything else is the default",
            read(include_str!("../../openapi/examples/provision-minimal.json")),
        ),
    ]
}

fn intake() -> Intake {
    let [(_, _, body), ..] = requests();
    intake::read(&body).expect("the first example is a valid request; a test reads it")
}

/// The answer of an operation, if that status has a body.
pub(super) fn answer(operation: &str, status: &str) -> Option<Value> {
    let job = |state| json!(JobView::from(&job_in(state)));
    Some(match (operation, status) {
        ("create_job", "202") | ("retry_job", _) => job(JobState::Queued),
        ("create_job", _) => job(JobState::Succeeded),
        ("get_job", _) => job(JobState::Waiting),
        ("cancel_job", _) => job(JobState::Cancelled),
        ("list_jobs", _) => {
            let items = vec![JobSummary::from(&job_in(JobState::Failed))];
            json!(JobPage { items, next: Some("/v1/jobs?limit=1&cursor=AQGXw6JbHnxAnVJvHz8KexE".to_owned()) })
        }
        ("list_job_events", _) => json!(EventPage { items: events(), next: None }),
        ("create_plan", _) => json!(PlanView::from(intake())),
        ("list_services", _) => json!(services::list()),
        ("get_service", _) => json!(services::list().items.into_iter().next()),
        ("list_errors", _) => {
            json!(errors::ErrorList { items: vec![Code::TargetBusy.into(), Code::AccessTimeout.into()] })
        }
        ("get_error", _) => json!(errors::ErrorView::from(Code::TargetBusy)),
        ("check_liveness", _) => json!(Liveness { status: "ok".to_owned() }),
        ("check_readiness", status) => readiness(status == "200"),
        ("get_openapi", _) => json!({ "openapi": "3.1.0", "info": { "title": "cmk" }, "paths": {} }),
        _ => return None,
    })
}

/// A stream of events as it is on the wire.
pub(super) fn stream() -> String {
    let mut text = String::new();
    for event in events() {
        text.push_str(&format!("id: {}\nevent: {}\ndata: {}\n\n", event.seq, event.kind, json!(event)));
    }
    text.push_str("event: end\ndata: {\"state\":\"succeeded\"}\n\n");
    text
}

fn events() -> Vec<EventView> {
    let event = |seq, seconds, kind: EventKind, step: Option<&str>, data| {
        let (at, kind) = (after(seconds), kind.as_str().to_owned());
        EventView::from(Event { seq, at, kind, step: step.map(str::to_owned), data })
    };
    vec![
        event(1, 0, EventKind::JobAccepted, None, json!({ "requestedBy": "anonymous" })),
        event(2, 1, EventKind::StepStarted, Some("check-target"), json!({})),
        event(3, 2, EventKind::StepDone, Some("check-target"), json!({})),
    ]
}

fn readiness(ready: bool) -> Value {
    let check = |name: &str, ok, detail: &str| Check { name: name.to_owned(), ok, detail: detail.to_owned() };
    let worker = if ready { "asked for work 1 s ago" } else { "no worker has asked for work yet" };
    let checks =
        vec![check("database", true, "answers"), check("migrations", true, "current"), check("worker", ready, worker)];
    json!(Readiness { ready, checks })
}

fn after(seconds: i64) -> OffsetDateTime {
    ACCEPTED_AT + time::Duration::seconds(seconds)
}

/// The job of the first request example, in a state.
pub(super) fn job_in(state: JobState) -> Job {
    let Intake { request, descriptor, plan } = intake();
    let total = plan.steps.len();
    let done = match state {
        JobState::Queued => 0,
        JobState::Running | JobState::Cancelled => 4,
        JobState::Waiting | JobState::Failed => 6,
        JobState::Succeeded => total,
    };
    let moved = if state == JobState::Queued { 0 } else { 45 };
    let is_final = state.is_final();
    let mut steps: Vec<StepRow> = Vec::with_capacity(total);
    for (index, planned) in (0_i16..).zip(plan.steps) {
        let finished = usize::from(index.unsigned_abs()) < done;
        steps.push(StepRow {
            ordinal: index,
            planned: std::sync::Arc::new(planned),
            state: if finished { StepState::Done } else { StepState::Pending },
            attempts: 0,
            looks: u32::from(finished),
            wait_reason: None,
            waiting_since: None,
            failure: None,
            progress: None,
            next_look_at: None,
            started_at: finished.then(|| after(i64::from(index) + 1)),
            finished_at: finished.then(|| after(i64::from(index) + 2)),
        });
    }
    let mut job = Job {
        id: JobId(JOB),
        kind: request.kind,
        service: descriptor.slug.clone(),
        target: request.target.resource_id.clone(),
        requested_by: super::caller::ANONYMOUS.to_owned(),
        labels: request.labels.clone(),
        facts: facts(&request, done, total),
        request,
        state,
        created_at: ACCEPTED_AT,
        updated_at: after(moved),
        finished_at: is_final.then(|| after(moved)),
        run_after: after(if state == JobState::Waiting { moved + 2 } else { 0 }),
        wait_reason: None,
        cancel_requested_at: (state == JobState::Cancelled).then(|| after(moved)),
        claim_no: 1,
        lease_until: None,
        failure: None,
        steps_total: u16::try_from(total).unwrap_or(u16::MAX),
        steps_done: u16::try_from(done).unwrap_or(u16::MAX),
        event_seq: 14,
        version: 20,
        traceparent: None,
        steps,
    };
    mark_current(&mut job, done, after(8));
    job
}

/// Gives the step that is being worked at its state.
fn mark_current(job: &mut Job, current: usize, since: OffsetDateTime) {
    let state = job.state;
    let ended_at = job.finished_at;
    let Some(step) = job.steps.get_mut(current) else { return };
    match state {
        JobState::Running => step.state = StepState::Running,
        JobState::Waiting => {
            step.state = StepState::Waiting;
            let text = "the role assignment has not reached the key store yet";
            step.wait_reason = serde_json::from_value(json!({ "code": "access-propagation", "text": text })).ok();
            step.waiting_since = Some(since);
            job.wait_reason.clone_from(&step.wait_reason);
        }
        JobState::Failed => {
            step.state = StepState::Failed;
            step.finished_at = ended_at;
            step.failure = Some(access_timeout());
            job.failure.clone_from(&step.failure);
        }
        JobState::Queued | JobState::Succeeded | JobState::Cancelled => return,
    }
    step.started_at = Some(since);
    step.looks = 12;
}

fn access_timeout() -> Failure {
    let message = "kvcmkdemo1 went on refusing access for 20 minutes after the role was assigned";
    Failure::new(Code::AccessTimeout, message).with_azure(AzureDetail {
        code: Some("Forbidden".to_owned()),
        status: Some(403),
        request_id: Some("5e0e7b9c-1f0a-4a53-8a55-0b6f6c3f2a10".to_owned()),
        message: Some("Caller is not authorized to perform action on resource.".to_owned()),
    })
}

fn facts(request: &crate::domain::request::CmkRequest, done: usize, total: usize) -> Facts {
    let scope = request.key_store.resource_id.as_str();
    let grant = |name: &str, principal_id, seconds| GrantFact {
        assignment_id: format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"),
        principal_id,
        seen_at: after(seconds),
    };
    let uri = "https://kvcmkdemo1.vault.azure.net".to_owned();
    let key = KeyId { store_uri: uri.clone(), name: request.key.name.clone(), version: Some(VERSION.to_owned()) };
    let location = "uksouth".to_owned();
    Facts {
        target: (done >= 1).then(|| TargetFact { existed: false, location: location.clone() }),
        key_store: (done >= 3).then_some(KeyStoreFact { uri, location, tenant_id: TENANT, created: true }),
        identity: (done >= 4).then(|| IdentityFact {
            resource_id: request.identity.resource_id.clone(),
            principal_id: PRINCIPAL,
            client_id: Some(CLIENT),
        }),
        own_grant: (done >= 5).then(|| grant("0d9c1f6e-7a1b-5c2d-8e3f-4a5b6c7d8e9f", OWN_PRINCIPAL, 6)),
        identity_grant: (done >= 6).then(|| grant("1e8d2c7b-6f5a-5b4c-9d3e-2f1a0b9c8d7e", PRINCIPAL, 7)),
        key: (done >= 8).then(|| KeyFact { id: key.clone(), created: true }),
        evidence: (done == total).then(|| Evidence {
            target: request.target.resource_id.to_string(),
            key_id: key.to_string(),
            follows_rotation: true,
            identity: request.identity.resource_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            verified_at: after(44),
            azure_request_ids: vec!["c0a8012e-3f4d-4e5a-9b6c-7d8e9f0a1b2c".to_owned()],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_example_is_a_valid_request() {
        for (name, _, body) in requests() {
            assert!(intake::read(&body).is_ok(), "{name}");
        }
    }

    #[test]
    fn answers_read_back_as_what_they_are() {
        for state in JobState::ALL {
            let view = JobView::from(&job_in(*state));
            let json = serde_json::to_string(&view).expect("JSON");
            assert_eq!(serde_json::from_str::<JobView>(&json).expect("the same shape"), view);
            let links = &view.job.links;
            assert_eq!(links.cancel.is_some(), !state.is_final(), "{state:?}");
            assert_eq!(links.retry.is_some(), *state == JobState::Failed, "{state:?}");
            assert_eq!(view.evidence.is_some(), *state == JobState::Succeeded, "{state:?}");
        }
    }
}
