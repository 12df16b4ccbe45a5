-- What changes while a job runs moves from `jobs` and `job_steps` into one small row of `job_runs`, which exists exactly
-- while the job is unfinished. `jobs` keeps what was accepted and, once the job has ended, how it ended.
--
-- Why: claims and progress write a narrow, hot table with three indexes, none of which names a column that heartbeats or
-- steps change; millions of ended jobs weigh nothing on it. Workers of the schema before must have stopped.

create table job_runs (
    job_id              uuid primary key,               -- a job is never deleted while it runs
    target_key          text not null,
    state               text not null check (state in ('queued', 'running', 'waiting')),
    run_after           timestamptz not null,           -- the next look
    lease_until         timestamptz,
    claimed_by          text,
    claim_no            bigint not null default 0,      -- the fence: every write of a worker names it
    write_no            integer not null default 0,     -- writes under this claim: one that is repeated is known
    wait_reason         jsonb,                          -- {code, text} while waiting
    cancel_requested_at timestamptz,
    updated_at          timestamptz not null,
    facts               jsonb not null default '{}',
    steps               jsonb not null,                 -- in the plan's order: what changes about each step
    steps_total         smallint not null,
    steps_done          smallint not null default 0,
    event_seq           bigint not null,                -- number of the last event
    version             bigint not null,                -- grows with every visible change: the ETag
    constraint job_runs_leased check ((lease_until is not null) = (state = 'running')),
    constraint job_runs_waits check ((wait_reason is not null) = (state = 'waiting')),
    constraint job_runs_steps check (steps_done between 0 and steps_total and jsonb_array_length(steps) = steps_total)
) with (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0
);

alter table jobs
    add column plan jsonb,                              -- [{name, spec, after?}], immutable
    add column steps jsonb;                             -- as in job_runs, once the job has ended

update jobs set
    plan = (select jsonb_agg(jsonb_build_object('name', s.name, 'spec', s.spec) order by s.ordinal)
            from job_steps s where s.job_id = jobs.id),
    steps = (select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                 'state', s.state, 'attempts', s.attempts, 'looks', s.looks, 'waitReason', s.wait_reason,
                 'waitingSince', s.waiting_since, 'failure', s.failure, 'progress', s.progress,
                 'startedAt', s.started_at, 'finishedAt', s.finished_at)) order by s.ordinal)
             from job_steps s where s.job_id = jobs.id);

insert into job_runs (job_id, target_key, state, run_after, lease_until, claimed_by, claim_no, wait_reason,
                      cancel_requested_at, updated_at, facts, steps, steps_total, steps_done, event_seq, version)
select id, target_key, state, run_after, lease_until, claimed_by, claim_no, wait_reason,
       cancel_requested_at, updated_at, facts, steps, steps_total, steps_done, event_seq, version
from jobs where finished_at is null;

drop index jobs_one_unfinished_per_target, jobs_due, jobs_leases, jobs_by_state, jobs_by_created, jobs_by_label;
drop table job_steps;
alter table jobs
    drop constraint jobs_finished, drop constraint jobs_leased, drop constraint jobs_waits,
    drop constraint jobs_failed, drop constraint jobs_steps,
    drop column run_after, drop column lease_until, drop column claimed_by, drop column wait_reason,
    alter column plan set not null,
    alter column state drop not null,
    alter column facts drop not null, alter column facts drop default,
    alter column updated_at drop not null,
    alter column steps_done drop not null, alter column steps_done drop default,
    alter column claim_no drop not null, alter column claim_no drop default,
    alter column event_seq drop not null, alter column event_seq drop default,
    alter column version drop not null, alter column version drop default;
update jobs set state = null, facts = null, steps = null, updated_at = null, steps_done = null, claim_no = null,
                event_seq = null, version = null, cancel_requested_at = null
where finished_at is null;
-- How a job ended stands in its row, all of it or none.
alter table jobs
    drop constraint jobs_state_check,
    add constraint jobs_state_check check (state in ('succeeded', 'failed', 'cancelled')),
    add constraint jobs_ended check (num_nulls(state, finished_at, updated_at, facts, steps, steps_done, claim_no,
                                               event_seq, version) in (0, 9)),
    add constraint jobs_failed check ((failure is not null) = coalesce(state = 'failed', false)),
    add constraint jobs_steps check (steps_done between 0 and steps_total
                                     and jsonb_array_length(steps) = steps_total
                                     and jsonb_array_length(plan) = steps_total);

-- Every event took a lock on its job's row through this key; events and idempotency keys are only ever written in the
-- statement that writes their job, and jobs are not deleted.
alter table job_events drop constraint job_events_job_id_fkey;
alter table idempotency_keys drop constraint idempotency_keys_job_id_fkey;
drop index idempotency_keys_by_job, idempotency_keys_by_age;
create index idempotency_keys_by_age on idempotency_keys using brin (created_at);

create unique index jobs_one_unfinished_per_target on job_runs (target_key);
create index job_runs_due on job_runs (run_after, job_id) where state in ('queued', 'waiting');
-- Not by the end of the lease, which every heartbeat moves: those that run are few, and all of them are looked at.
create index job_runs_running on job_runs (job_id) where state = 'running';

create index jobs_by_state on jobs (state, id desc) where state is not null;
create index jobs_by_service on jobs (service, id desc);
create index jobs_by_created on jobs using brin (created_at);
create index jobs_by_label on jobs using gin (labels jsonb_path_ops) where labels <> '{}';
