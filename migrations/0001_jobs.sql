-- Jobs, their steps, what happened to them, and the idempotency keys they were accepted under.
-- The states and their rules are those of src/domain/job.rs; the CHECKs below keep them true whoever writes.

create table jobs (
    id                  uuid primary key,               -- UUIDv7: sorts by the time of acceptance
    kind                text not null check (kind in ('provision')),
    service             text not null,                  -- slug of the service descriptor
    target              text not null,                  -- ARM id as the caller spelled it
    target_key          text not null,                  -- the same in lower case, for equality
    requested_by        text not null,
    labels              jsonb not null default '{}',
    request             jsonb not null,                 -- normal form, defaults filled in
    plan_version        smallint not null,
    state               text not null
        check (state in ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    created_at          timestamptz not null,
    updated_at          timestamptz not null,
    finished_at         timestamptz,
    run_after           timestamptz not null,           -- the next look
    wait_reason         jsonb,                          -- {code, text} while waiting
    cancel_requested_at timestamptz,
    claim_no            bigint not null default 0,      -- the fence: every write of a worker names it
    lease_until         timestamptz,
    claimed_by          text,
    facts               jsonb not null default '{}',
    failure             jsonb,
    steps_total         smallint not null,
    steps_done          smallint not null default 0,
    event_seq           bigint not null default 0,      -- number of the last event
    version             bigint not null default 1,      -- grows with every visible change: the ETag
    traceparent         text,                           -- W3C trace context of the accepting request
    constraint jobs_finished check ((finished_at is not null) = (state in ('succeeded', 'failed', 'cancelled'))),
    constraint jobs_leased check ((lease_until is not null) = (state = 'running')),
    constraint jobs_waits check ((wait_reason is not null) = (state = 'waiting')),
    constraint jobs_failed check ((failure is not null) = (state = 'failed')),
    constraint jobs_steps check (steps_done between 0 and steps_total)
);

create unique index jobs_one_unfinished_per_target on jobs (target_key) where finished_at is null;
create index jobs_due on jobs (run_after) where state in ('queued', 'waiting');
create index jobs_leases on jobs (lease_until) where state = 'running';
create index jobs_by_target on jobs (target_key, id desc);
create index jobs_by_requester on jobs (requested_by, id desc);
create index jobs_by_state on jobs (state, id desc);
create index jobs_by_created on jobs (created_at);
create index jobs_by_label on jobs using gin (labels jsonb_path_ops);

create table job_steps (
    job_id        uuid not null references jobs (id) on delete cascade,
    ordinal       smallint not null,
    name          text not null,
    spec          jsonb not null,                       -- immutable
    state         text not null default 'pending'
        check (state in ('pending', 'running', 'waiting', 'done', 'satisfied', 'failed')),
    attempts      integer not null default 0,           -- transient errors since the last success or retry
    looks         integer not null default 0,           -- runs of the step, waits included
    wait_reason   jsonb,
    waiting_since timestamptz,                          -- for this reason
    failure       jsonb,                                -- the last error, kept until the step is done
    progress      jsonb,                                -- an accepted, unfinished change
    started_at    timestamptz,
    finished_at   timestamptz,
    primary key (job_id, ordinal),
    unique (job_id, name),
    constraint job_steps_finished check ((finished_at is not null) = (state in ('done', 'satisfied', 'failed')))
);

create table job_events (
    job_id uuid not null references jobs (id) on delete cascade,
    seq    bigint not null,
    at     timestamptz not null,
    kind   text not null,
    step   text,
    data   jsonb not null default '{}',
    primary key (job_id, seq)
);

create table idempotency_keys (
    caller       text not null,
    key          text not null,
    request_hash bytea not null,
    job_id       uuid not null references jobs (id) on delete cascade,
    created_at   timestamptz not null,
    primary key (caller, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
create index idempotency_keys_by_job on idempotency_keys (job_id);

-- One row per worker process: when it last asked for work and got an answer.
create table workers (
    name          text primary key,
    started_at    timestamptz not null,
    last_claim_at timestamptz not null
);
