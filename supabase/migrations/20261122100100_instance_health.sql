-- Purpose: what the two functions must know of a line; rows that are unambiguous.
-- Touches: wapi_instances (new columns, status words, duplicates).
--
-- Changes to existing rows, and no others:
--   * a status outside connected/degraded/disconnected (or null) becomes disconnected; the old word goes to status_reason;
--   * of several active rows with one external id the connected, then the newest, stays active; the others are paused
--     (is_active = false, status_reason = 'duplicate_external_id', which an old word gives way to) and named in a NOTICE,
--     with that word. Triggers of the platform on wapi_instances (updated_at) fire for these rows.

set local lock_timeout = '5s';

alter table public.wapi_instances
  add column if not exists last_health_check timestamptz,
  add column if not exists auto_recovery_attempts integer default 0,
  add column if not exists last_restart_at timestamptz,
  add column if not exists last_alive_at timestamptz,
  add column if not exists is_active boolean default true,
  add column if not exists status_reason text,
  add column if not exists degraded_since timestamptz,
  add column if not exists bad_since timestamptz,
  add column if not exists unknown_looks integer default 0,
  add column if not exists health_lease_until timestamptz,
  add column if not exists last_event_at timestamptz;

comment on column public.wapi_instances.last_health_check is 'When the last finished look at the line ended, whatever it found.';
comment on column public.wapi_instances.auto_recovery_attempts is 'Restarts since the last failed one; at 3 the line is flapping.';
comment on column public.wapi_instances.last_restart_at is 'When the last restart was claimed: the 30 minutes count from here.';
comment on column public.wapi_instances.last_alive_at is 'Start of the last look that said ALIVE.';
comment on column public.wapi_instances.is_active is 'false = paused: no looks, restarts or bells. null counts as true.';
comment on column public.wapi_instances.status_reason is 'Why the status is what it is.';
comment on column public.wapi_instances.degraded_since is 'Since when the status is degraded.';
comment on column public.wapi_instances.bad_since is 'First conclusive sign of death since the last sign of life.';
comment on column public.wapi_instances.unknown_looks is 'Sweeps in a row whose look could not find out.';
comment on column public.wapi_instances.health_lease_until is 'A sweep is at this line until then; the value is also its token.';
comment on column public.wapi_instances.last_event_at is 'Moment of the last webhook sign of life (kept to the minute).';

update public.wapi_instances
set status_reason = coalesce(status, 'null'), status = 'disconnected'
where status is null or status not in ('connected', 'degraded', 'disconnected');

do $$
declare
  v_paused record;
begin
  for v_paused in
    with ranked as (
      select id, instance_id, status_reason,
        row_number() over (
          partition by instance_id
          order by (status = 'connected') desc, created_at desc nulls last, id
        ) as place
      from public.wapi_instances
      where is_active is not false and instance_id <> ''
    )
    update public.wapi_instances i
    set is_active = false, status_reason = 'duplicate_external_id'
    from ranked r
    where r.id = i.id and r.place > 1
    returning i.id, i.instance_id, coalesce(r.status_reason, i.status) as word
  loop
    raise notice 'instance % (%) paused: another row has its external id %', v_paused.id, v_paused.word, v_paused.instance_id;
  end loop;
end
$$;

create unique index if not exists one_active_instance_per_external_id
  on public.wapi_instances (instance_id)
  where is_active is not false and instance_id <> '';

-- Reader: receive_event, for a line that has no active row.
create index if not exists paused_instances_by_external_id
  on public.wapi_instances (instance_id)
  where is_active is false;

-- Reader: claim_instances. Oldest look first, never looked at before all.
create index if not exists active_instances_by_last_health_check
  on public.wapi_instances ((coalesce(last_health_check, timestamptz '-infinity')), id)
  where is_active is not false;

-- On a fresh project (known by our own policy) members hold column grants: the new columns are readable, tokens are not.
-- An adopted platform keeps its own grants.
do $$
begin
  if exists (
    select from pg_catalog.pg_policies
    where schemaname = 'public' and tablename = 'wapi_instances' and policyname = 'members_read_their_instances'
  ) then
    grant select (
      last_health_check, auto_recovery_attempts, last_restart_at, last_alive_at, is_active, status_reason,
      degraded_since, bad_since, last_event_at
    ) on public.wapi_instances to authenticated;
  end if;
end
$$;
