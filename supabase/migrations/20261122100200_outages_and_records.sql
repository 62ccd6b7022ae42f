-- Purpose: what happened to a line, who was told, which sweeps ran, which events came.
-- Touches: new tables instance_outages, instance_events, health_check_runs, wapi_webhook_events; notifications (outage_id).
--
-- None of them has a foreign key to wapi_instances: deleting a line is blocked by nothing here, and history keeps
-- its copy of unit and company.

set local lock_timeout = '5s';

create table if not exists public.instance_outages (
  id uuid primary key default gen_random_uuid(),
  instance_id uuid not null,
  external_id text,
  company_id uuid,
  unit text,
  started_at timestamptz not null,
  opened_at timestamptz not null default now(),
  life_counts_from timestamptz not null,
  opened_by text not null,
  reason text not null,
  restarts integer not null default 0,
  told_at timestamptz,
  closed_at timestamptz,
  closed_as text,
  constraint closed_outage_says_how check ((closed_at is null) = (closed_as is null))
);
comment on table public.instance_outages is 'From the first sign of death of a line until life is proven. At most one open per line.';
comment on column public.instance_outages.instance_id is 'wapi_instances.id; no foreign key, the outage outlives the line.';
comment on column public.instance_outages.opened_by is
  'sweep | webhook | adoption (the very first look at a line that was down already: nobody is told).';
comment on column public.instance_outages.started_at is 'First sign of death.';
comment on column public.instance_outages.opened_at is 'When this row was written.';
comment on column public.instance_outages.life_counts_from is 'Webhook moments before this do not prove life.';
comment on column public.instance_outages.reason is 'The observation or event that opened it.';
comment on column public.instance_outages.restarts is 'Restarts requested in this outage.';
comment on column public.instance_outages.told_at is 'When the company''s users were told; null = a silent outage.';
comment on column public.instance_outages.closed_as is 'recovered (restart) | alive (look) | event | paused | deleted.';

create unique index if not exists one_open_outage_per_instance on public.instance_outages (instance_id) where closed_at is null;
-- Readers: open_outage (the last closed one), reports.
create index if not exists outages_by_instance on public.instance_outages (instance_id, closed_at desc);
create index if not exists outages_by_company on public.instance_outages (company_id, started_at desc);

create table if not exists public.instance_events (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  instance_id uuid not null,
  external_id text,
  company_id uuid,
  unit text,
  kind text not null,
  source text not null,
  from_status text,
  to_status text,
  reason text,
  outage_id uuid,
  run_id uuid,
  details jsonb not null default '{}'
);
comment on table public.instance_events is 'Audit: what happened to a line, when, who saw it, from -> to, why. Kept 90 days.';
create index if not exists events_by_instance on public.instance_events (instance_id, at desc);
create index if not exists events_by_company on public.instance_events (company_id, at desc);
create index if not exists events_by_age on public.instance_events (at);

create table if not exists public.health_check_runs (
  id uuid primary key default gen_random_uuid(),
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  checked integer not null default 0,
  observations jsonb not null default '{}',
  outcomes jsonb not null default '{}',
  braked boolean not null default false,
  left_due integer not null default 0,
  took_ms integer
);
comment on table public.health_check_runs is 'One row a sweep: the heartbeat. finished_at null = cut off or still running. Kept 30 days.';
create index if not exists runs_by_start on public.health_check_runs (started_at desc);

create table if not exists public.wapi_webhook_events (
  id bigint generated always as identity primary key,
  event_key text not null,
  received_at timestamptz not null default now(),
  external_id text,
  instance_id uuid,
  event text,
  kind text not null,
  moment timestamptz,
  body text,
  outcome text,
  processed_at timestamptz,
  constraint one_row_per_event unique (event_key)
);
comment on table public.wapi_webhook_events is 'Inbox: every event as it came, once. Bodies kept 48 h (14 days if not processed), keys and outcomes 14 days.';
comment on column public.wapi_webhook_events.body is 'The event as it came (JSON text); null after its retention.';
comment on column public.wapi_webhook_events.outcome is 'What became of it.';
create index if not exists webhook_events_by_age on public.wapi_webhook_events (received_at);
create index if not exists webhook_bodies_by_age on public.wapi_webhook_events (received_at) where body is not null;
-- Reader: settle_disconnection (did other lines also lose their session just now?).
create index if not exists recent_disconnections on public.wapi_webhook_events (received_at, instance_id)
  where kind = 'disconnection';

-- Rights: members read the outages and events of their companies; the run log and the inbox are the service's alone.
do $$
declare
  v_name text;
begin
  foreach v_name in array array['instance_outages', 'instance_events', 'health_check_runs', 'wapi_webhook_events'] loop
    execute format('alter table public.%I enable row level security', v_name);
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant all on public.%I to service_role', v_name);
  end loop;
end
$$;
grant select on public.instance_outages, public.instance_events to authenticated;
-- Their default privileges go to everybody as well.
revoke all on sequence public.instance_events_id_seq, public.wapi_webhook_events_id_seq from public, anon, authenticated;

drop policy if exists members_read_their_outages on public.instance_outages;
create policy members_read_their_outages on public.instance_outages for select to authenticated
  using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));

drop policy if exists members_read_their_events on public.instance_events;
create policy members_read_their_events on public.instance_events for select to authenticated
  using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));

-- Not together with wapi_instances: no transaction keeps readers from two of the platform's tables.
alter table public.notifications add column if not exists outage_id uuid;
comment on column public.notifications.outage_id is 'The outage this notice is about; null on everybody else''s rows.';
