//! Jobs by the thousand, copied from one that the store accepted.
//!
//! What belongs here: the statements that copy. What does not: measuring.

use cmk::domain::ids::JobId;
use cmk::domain::job::JobKind;
use cmk::domain::request::CmkRequest;
use cmk::plan::{Plan, plan};
use cmk::services::{ServiceDescriptor, rules};
use cmk::store::{Accepted, NewJob, Store};
use serde_json::{Value, json};

use crate::cluster::statements;

/// The subscription of every request.
pub const SUBSCRIPTION: &str = "8c1f0d3e-5b7a-4c2d-9e10-3f4a5b6c7d8e";

/// A request of about one kilobyte for a storage account.
pub fn request(account: &str) -> Value {
    let id = |kind: &str, name: &str| {
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-payments-prod-weu/providers/{kind}/{name}")
    };
    json!({
        "target": {
            "resourceId": id("Microsoft.Storage/storageAccounts", account),
            "create": { "location": "westeurope" },
        },
        "keyStore": {
            "resourceId": id("Microsoft.KeyVault/vaults", "kv-payments-prod-01"),
            "create": { "location": "westeurope", "network": { "allowedIps": ["203.0.113.0/24"] } },
        },
        "key": { "name": "cmk-stpaymentsprod01" },
        "createResourceGroups": true,
        "labels": {
            "cost-centre": "4711", "owner": "team-payments", "environment": "production", "data-class": "confidential",
            "ticket": "Customer-managed key for the payments ledger storage account, asked for by the portal.",
        },
    })
}

/// What is accepted for a body without faults.
pub fn parsed(body: &Value) -> anyhow::Result<(CmkRequest, &'static ServiceDescriptor, Plan)> {
    let (request, faults) = cmk::domain::request_parse::parse(body);
    anyhow::ensure!(faults.is_empty(), "{faults:?}");
    let request = request.ok_or_else(|| anyhow::anyhow!("the request is not complete"))?;
    let (descriptor, faults) = rules::check(&request);
    anyhow::ensure!(faults.is_empty(), "{faults:?}");
    let descriptor = descriptor.ok_or_else(|| anyhow::anyhow!("no service takes the target"))?;
    let plan = plan(&request, descriptor);
    Ok((request, descriptor, plan))
}

/// Accepts a job for a storage account of this name; its id and how many steps it has.
pub async fn accept(store: &Store, account: &str, in_turn: bool) -> anyhow::Result<(JobId, usize)> {
    accept_request(store, &request(account), in_turn).await
}

/// The same for this body.
pub async fn accept_request(store: &Store, body: &Value, in_turn: bool) -> anyhow::Result<(JobId, usize)> {
    let (request, descriptor, mut plan) = parsed(body)?;
    if in_turn {
        // Each step after all earlier ones, so that no two of a job share a write.
        for step in &mut plan.steps {
            step.after = None;
        }
    }
    let id = JobId::generate();
    let job = NewJob {
        id,
        kind: JobKind::Provision,
        service: &descriptor.slug,
        requested_by: "bench",
        request: &request,
        plan: &plan,
        traceparent: None,
    };
    match store.insert_job(&job, None).await? {
        Accepted::New(_) => Ok((id, plan.steps.len())),
        other => anyhow::bail!("not accepted: {other:?}"),
    }
}

/// Copies jobs that are due, with their first event.
pub async fn copy_due(url: &str, template: JobId, jobs: usize) -> anyhow::Result<()> {
    copy_runs(url, template, jobs, "now() - n * interval '1 ms'").await?;
    let events = "insert into job_events (job_id, seq, at, kind, data)
        select job_id, 1, now(), 'job-accepted', '{\"requestedBy\": \"bench\"}' from job_runs
        on conflict do nothing";
    statements(url, &[events]).await
}

/// Copies jobs that are looked at at this time, an SQL expression over `n`, from 1.
pub async fn copy_runs(url: &str, template: JobId, jobs: usize, at: &str) -> anyhow::Result<()> {
    // Every copy has an id that sorts by its number, as ids of version 7 do, and a target of its own.
    let copies = format!(
        "with base as (select max(id::text) as last, count(*) as c from jobs),
         new as (
             insert into jobs (id, kind, service, target, target_key, requested_by, labels, request, plan_version, plan,
                               created_at, steps_total)
             select {ID}, j.kind, j.service, j.target || base.c + n, j.target_key || base.c + n, j.requested_by, j.labels,
                    j.request, j.plan_version, j.plan, j.created_at, j.steps_total
             from jobs j, base, generate_series(1, {jobs}) n where j.id = '{template}'
             returning id, target_key, created_at
         ),
         numbered as (select new.*, row_number() over (order by id) as n from new)
         insert into job_runs (job_id, target_key, state, run_after, updated_at, steps, steps_total, event_seq, version)
         select new.id, new.target_key, 'queued', {at}, new.created_at, r.steps, r.steps_total, 1, 1
         from numbered new, job_runs r where r.job_id = '{template}'"
    );
    statements(url, &[&copies]).await
}

/// Copies jobs that have ended. `short`: with one step of their plan, which no list reads.
pub async fn copy_ended(url: &str, template: JobId, jobs: usize, short: bool) -> anyhow::Result<()> {
    let (plan, done, total) = match short {
        false => ("j.plan", "r.steps", "j.steps_total"),
        true => ("jsonb_build_array(j.plan->0)", "jsonb_build_array(r.steps->0)", "1"),
    };
    let copies = format!(
        "with base as (select max(id::text) as last, count(*) as c from jobs)
         insert into jobs (id, kind, service, target, target_key, requested_by, labels, request, plan_version, plan,
                           created_at, steps_total, state, finished_at, updated_at, facts, steps, steps_done, claim_no,
                           event_seq, version)
         select {ID}, j.kind, j.service, j.target || base.c + n, j.target_key || base.c + n, j.requested_by, j.labels,
                j.request, j.plan_version, {plan}, j.created_at, {total}, 'succeeded', j.created_at, j.created_at,
                '{{}}', {done}, {total}, 1, 24, 24
         from jobs j join job_runs r on r.job_id = j.id, base, generate_series(1, {jobs}) n where j.id = '{template}'"
    );
    statements(url, &[&copies]).await
}

/// The next ids after the last one: the time of version 7 in its first 48 bits, counted on.
const ID: &str =
    "(lpad(to_hex(('x' || left(replace(base.last::text, '-', ''), 12))::bit(48)::bigint + n), 12, '0') || '7'
    || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid";
