-- Purpose: what follow_up_check asks of the database: hand out lines, record looks, claim restarts, apply verdicts.
-- Touches: wapi_instances, health_check_runs and, through the outage functions, outages, audit and bells.
-- Called by: shared/store.py

set local lock_timeout = '5s';

create or replace function public.begin_sweep(p_now timestamptz default now())
returns jsonb
language sql volatile security invoker set search_path = ''
as $$
  insert into public.health_check_runs (started_at) values (p_now)
  returning jsonb_build_object('run_id', id, 'started_at', started_at);
$$;
comment on function public.begin_sweep is 'Writes the heartbeat row of a sweep; the sweep''s clock is the database''s.';

-- Pages by (last look, id): with p_after_* from the last batch a sweep meets each line once, also one whose last look
-- stays as it was because its restart did not fit the budget.
create or replace function public.claim_instances(
  p_due_before timestamptz,
  p_lease_seconds double precision,
  p_limit integer,
  p_after_check timestamptz default null,
  p_after_id uuid default null,
  p_now timestamptz default now()
)
returns jsonb
language sql volatile security invoker set search_path = ''
as $$
  with due as (
    select i.id, coalesce(i.last_health_check, timestamptz '-infinity') as last_check
    from public.wapi_instances i
    where i.is_active is not false
      and i.instance_id <> '' and i.instance_token <> ''
      and coalesce(i.last_health_check, timestamptz '-infinity') <= p_due_before
      and (p_after_check is null or (coalesce(i.last_health_check, timestamptz '-infinity'), i.id) > (p_after_check, p_after_id))
      and (i.health_lease_until is null or i.health_lease_until <= p_now)
    order by coalesce(i.last_health_check, timestamptz '-infinity'), i.id
    limit p_limit
    for no key update of i skip locked
  ),
  claimed as (
    update public.wapi_instances i
    set health_lease_until = p_now + make_interval(secs => p_lease_seconds)
    from due
    where i.id = due.id
    returning i.*, due.last_check
  )
  select jsonb_build_object(
    'now', p_now,
    'instances', coalesce(jsonb_agg(
      jsonb_build_object(
        'id', c.id, 'external_id', c.instance_id, 'token', c.instance_token, 'raw_status', c.status, 'unit', c.unit,
        'company_id', c.company_id, 'lease', c.health_lease_until, 'last_health_check', c.last_health_check,
        'auto_recovery_attempts', coalesce(c.auto_recovery_attempts, 0), 'last_restart_at', c.last_restart_at,
        'degraded_since', c.degraded_since, 'bad_since', c.bad_since, 'unknown_looks', coalesce(c.unknown_looks, 0),
        'last_event_at', c.last_event_at,
        'outage', case when o.id is not null then jsonb_build_object(
          'id', o.id, 'started_at', o.started_at, 'restarts', o.restarts, 'told_at', o.told_at,
          'opened_by', o.opened_by) end
      ) order by c.last_check, c.id), '[]'),
    'after_check', (array_agg(c.last_check order by c.last_check desc, c.id desc))[1],
    'after_id', (array_agg(c.id order by c.last_check desc, c.id desc))[1]
  )
  from claimed c
  left join public.instance_outages o on o.instance_id = c.id and o.closed_at is null;
$$;
comment on function public.claim_instances is
  'Leases up to p_limit due lines to one sweep, oldest look first; parallel sweeps never meet. The lease''s end is its token.';

-- p_looks: [{id, lease, raw_status, observation, looked_at, unknown_looks, finished}]
create or replace function public.record_looks(p_looks jsonb, p_now timestamptz default now())
returns integer
language sql volatile security invoker set search_path = ''
as $$
  with looks as (
    select * from jsonb_to_recordset(p_looks) as l(
      id uuid, lease timestamptz, raw_status text, observation text, looked_at timestamptz, unknown_looks integer,
      finished boolean)
  ),
  ours as (
    -- Rows are locked in one order, whoever comes: two sweeps cannot deadlock.
    select i.id from public.wapi_instances i join looks l on l.id = i.id
    where i.health_lease_until = l.lease and i.is_active is not false
    order by i.id
    for no key update of i
  ),
  recorded as (
    update public.wapi_instances i
    set health_lease_until = null,
        last_health_check = case when l.finished then p_now else i.last_health_check end,
        unknown_looks = case when l.observation is null then i.unknown_looks else l.unknown_looks end,
        last_alive_at = case
          when l.observation = 'ALIVE' and i.status is not distinct from l.raw_status
          then greatest(i.last_alive_at, l.looked_at) else i.last_alive_at end,
        bad_since = case
          when i.status is distinct from l.raw_status or l.observation is null or l.observation = 'UNKNOWN' then i.bad_since
          when l.observation = 'ALIVE' then null
          -- Somebody wrote or answered since the look began: it proves nothing any more.
          when public.knows_life_since(i, l.looked_at) then i.bad_since
          else coalesce(i.bad_since, l.looked_at) end,
        auto_recovery_attempts = case
          when l.observation = 'ALIVE' and i.last_restart_at < p_now - interval '24 hours' then 0
          else i.auto_recovery_attempts end
    from looks l join ours on ours.id = l.id
    where i.id = l.id
    returning 1
  )
  select count(*)::integer from recorded;
$$;
comment on function public.record_looks is
  'Writes looks that change no status and gives the leases back. finished = false keeps last_health_check: the line is owed a restart or was not looked at.';

create or replace function public.claim_restart(
  p_instance uuid,
  p_raw_status text,
  p_lease timestamptz,
  p_looked_at timestamptz,
  p_cooldown_seconds double precision,
  p_lease_seconds double precision,
  p_reason text,
  p_run uuid default null,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_instance public.wapi_instances;
  v_outage public.instance_outages;
  v_lease timestamptz := p_now + make_interval(secs => p_lease_seconds);
begin
  update public.wapi_instances i
  set last_restart_at = p_now,
      auto_recovery_attempts = coalesce(i.auto_recovery_attempts, 0) + 1,
      bad_since = coalesce(i.bad_since, p_looked_at),
      health_lease_until = v_lease
  where i.id = p_instance and i.is_active is not false
    and i.health_lease_until = p_lease
    and i.status is not distinct from p_raw_status
    and (i.last_restart_at is null or i.last_restart_at <= p_now - make_interval(secs => p_cooldown_seconds))
    and not public.knows_life_since(i, p_looked_at)
  returning * into v_instance;
  if not found then
    return jsonb_build_object('claimed', false);
  end if;
  v_outage := public.open_outage(
    v_instance, v_instance.bad_since, p_now - interval '5 seconds', p_reason, 'sweep', p_run, p_now
  );
  update public.instance_outages set restarts = restarts + 1 where id = v_outage.id returning * into v_outage;
  perform public.record_event(
    v_instance, 'restart_requested', 'sweep', null, p_reason, v_outage.id, p_run,
    jsonb_build_object('attempt', v_instance.auto_recovery_attempts, 'restarts_in_outage', v_outage.restarts), p_now
  );
  return jsonb_build_object('claimed', true, 'lease', v_lease, 'outage_id', v_outage.id, 'restarts', v_outage.restarts);
end
$$;
comment on function public.claim_restart is
  'The right to send one restart: at most one per line in the cool-down, on the database''s clock, before the request is sent.';

create or replace function public.apply_verdict(
  p_instance uuid,
  p_raw_status text,
  p_lease timestamptz,
  p_looked_at timestamptz,
  p_observation text,
  p_unknown_looks integer,
  p_to text,
  p_reason text,
  p_text text,
  p_texts jsonb,
  p_release boolean,
  p_restart text default null,
  p_run uuid default null,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_instance public.wapi_instances;
  v_alive constant boolean := p_observation = 'ALIVE';
  v_overtaken boolean;
  v_result jsonb := jsonb_build_object('from', p_raw_status, 'to', p_to);
  v_outage uuid;
begin
  select * into v_instance from public.wapi_instances
  where id = p_instance and is_active is not false and health_lease_until = p_lease
  for no key update;
  if not found then
    return jsonb_build_object('applied', false);
  end if;

  v_overtaken := v_instance.status is distinct from p_raw_status or case
    when v_alive then exists (
      select from public.instance_outages o
      where o.instance_id = p_instance and o.closed_at is null and o.life_counts_from > p_looked_at)
    else public.knows_life_since(v_instance, p_looked_at)
  end;

  if not v_overtaken then
    if v_alive then
      v_result := public.bring_instance_back(
        v_instance, p_looked_at, case when p_restart = 'recovered' then 'recovered' else 'alive' end, 'sweep', p_texts, p_run, p_now
      );
    elsif p_to is not null then
      v_result := public.take_instance_down(
        v_instance, p_to, coalesce(v_instance.bad_since, p_looked_at), p_now - interval '5 seconds', p_reason,
        case when p_to = 'disconnected' and p_text is null then 'adoption' else 'sweep' end,
        p_text, p_texts, p_run, p_now
      );
    end if;
  end if;

  update public.wapi_instances i
  set health_lease_until = case when p_release or v_overtaken then null else i.health_lease_until end,
      last_health_check = case when p_release or v_overtaken then p_now else i.last_health_check end,
      unknown_looks = case when v_overtaken then i.unknown_looks else p_unknown_looks end,
      last_alive_at = case when v_alive and not v_overtaken then greatest(i.last_alive_at, p_looked_at) else i.last_alive_at end,
      auto_recovery_attempts = case
        when p_restart = 'failed' then 0
        when v_alive and p_restart is null and i.last_restart_at < p_now - interval '24 hours' then 0
        else i.auto_recovery_attempts end
  where i.id = p_instance;

  if p_restart = 'recovered' and v_alive and not v_overtaken then
    -- The restart's own connection event may have been faster than our look: it is a recovery all the same.
    update public.instance_outages set closed_as = 'recovered'
    where instance_id = p_instance and closed_as = 'event' and restarts > 0 and closed_at >= v_instance.last_restart_at;
  end if;
  if p_restart is not null then
    select o.id into v_outage from public.instance_outages o
    where o.instance_id = p_instance order by (o.closed_at is null) desc, o.closed_at desc limit 1;
    perform public.record_event(
      v_instance, 'restart_' || p_restart, 'sweep', case when not v_overtaken then v_result ->> 'to' end, p_reason, v_outage, p_run,
      jsonb_build_object('overtaken', v_overtaken), p_now
    );
  end if;
  return v_result || jsonb_build_object('applied', not v_overtaken);
end
$$;
comment on function public.apply_verdict is
  'Moves a leased line to what its look or restart showed, in one transaction. Applies only if status, lease and look still hold; p_to null = the row stays.';

create or replace function public.finish_sweep(
  p_run uuid,
  p_due_before timestamptz,
  p_checked integer,
  p_observations jsonb,
  p_outcomes jsonb,
  p_braked boolean,
  p_took_ms integer,
  p_now timestamptz default now()
)
returns integer
language sql volatile security invoker set search_path = ''
as $$
  update public.health_check_runs
  set finished_at = p_now, checked = p_checked, observations = p_observations, outcomes = p_outcomes, braked = p_braked,
      took_ms = p_took_ms,
      left_due = (
        select count(*) from public.wapi_instances i
        where i.is_active is not false and i.instance_id <> '' and i.instance_token <> ''
          and coalesce(i.last_health_check, timestamptz '-infinity') <= p_due_before
          and (i.health_lease_until is null or i.health_lease_until <= p_now)
      )
  where id = p_run
  returning left_due;
$$;
comment on function public.finish_sweep is 'Completes the run row; returns how many due lines nobody has looked at or holds.';

-- The batch follows the inflow, so that one purge a sweep keeps up with any volume.
create or replace function public.purge_history(p_now timestamptz default now())
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_batch integer;
  v_bodies integer;
  v_inbox integer;
  v_events integer;
  v_runs integer;
begin
  select greatest(1000, 2 * count(*)) into v_batch
  from public.wapi_webhook_events where received_at > p_now - interval '10 minutes';

  update public.wapi_webhook_events set body = null where id in (
    select id from public.wapi_webhook_events
    where body is not null and received_at < p_now - interval '48 hours' and processed_at is not null
      and coalesce(relay, 'done') = 'done'
    order by received_at limit v_batch for update skip locked);
  get diagnostics v_bodies = row_count;
  delete from public.wapi_webhook_events where id in (
    select id from public.wapi_webhook_events
    where received_at < p_now - interval '14 days' order by received_at limit v_batch for update skip locked);
  get diagnostics v_inbox = row_count;
  delete from public.instance_events where id in (
    select id from public.instance_events
    where at < p_now - interval '90 days' order by at limit v_batch for update skip locked);
  get diagnostics v_events = row_count;
  delete from public.health_check_runs where id in (
    select id from public.health_check_runs
    where started_at < p_now - interval '30 days' order by started_at limit v_batch for update skip locked);
  get diagnostics v_runs = row_count;
  return jsonb_build_object('bodies', v_bodies, 'inbox', v_inbox, 'events', v_events, 'runs', v_runs);
end
$$;
comment on function public.purge_history is
  'Retention: bodies 48 h (14 days if not processed or not relayed), inbox 14 days, audit 90 days, runs 30 days; outages for ever.';

revoke execute on function public.begin_sweep(timestamptz) from public, anon, authenticated;
revoke execute on function public.claim_instances(timestamptz, double precision, integer, timestamptz, uuid, timestamptz) from public, anon, authenticated;
revoke execute on function public.record_looks(jsonb, timestamptz) from public, anon, authenticated;
revoke execute on function public.claim_restart(uuid, text, timestamptz, timestamptz, double precision, double precision, text, uuid, timestamptz) from public, anon, authenticated;
revoke execute on function public.apply_verdict(uuid, text, timestamptz, timestamptz, text, integer, text, text, text, jsonb, boolean, text, uuid, timestamptz) from public, anon, authenticated;
revoke execute on function public.finish_sweep(uuid, timestamptz, integer, jsonb, jsonb, boolean, integer, timestamptz) from public, anon, authenticated;
revoke execute on function public.purge_history(timestamptz) from public, anon, authenticated;
grant execute on function public.begin_sweep(timestamptz) to service_role;
grant execute on function public.claim_instances(timestamptz, double precision, integer, timestamptz, uuid, timestamptz) to service_role;
grant execute on function public.record_looks(jsonb, timestamptz) to service_role;
grant execute on function public.claim_restart(uuid, text, timestamptz, timestamptz, double precision, double precision, text, uuid, timestamptz) to service_role;
grant execute on function public.apply_verdict(uuid, text, timestamptz, timestamptz, text, integer, text, text, text, jsonb, boolean, text, uuid, timestamptz) to service_role;
grant execute on function public.finish_sweep(uuid, timestamptz, integer, jsonb, jsonb, boolean, integer, timestamptz) to service_role;
grant execute on function public.purge_history(timestamptz) to service_role;
