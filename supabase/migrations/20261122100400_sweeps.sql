-- Purpose: what follow_up_check asks of the database: hand out lines, record looks, claim restarts, apply verdicts.
-- Touches: wapi_instances (one update a healthy line and sweep), instance_health (two, HOT), restart_claims, provider_state,
-- health_check_runs and, through the outage functions, outages, audit and notices. Called by: shared/database/store.py

set local lock_timeout = '5s';

create or replace function public.inactive_companies()
returns uuid[]
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_companies uuid[];
begin
  -- Not every platform has the column, and one may add it tomorrow.
  if exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'public.companies'::regclass and attname = 'is_active' and atttypid = 'boolean'::regtype
      and not attisdropped)
  then
    execute 'select array_agg(id) from public.companies where is_active is false' into v_companies;
  end if;
  return coalesce(v_companies, '{}');
end
$$;
comment on function public.inactive_companies is 'Companies whose lines are left alone, as if they were paused.';

create or replace function public.is_asleep(p_company uuid)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  -- As JSON, because not every platform has the column: a name that is not there would be an error.
  return exists (
    select from public.companies c where c.id = p_company and to_jsonb(c) -> 'is_active' = 'false');
end
$$;
comment on function public.is_asleep is 'Whether one company is not active: inactive_companies for an event.';

create or replace function public.begin_sweep(p_now timestamptz default now())
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_inactive constant uuid[] := public.inactive_companies();
  v_run public.health_check_runs;
begin
  if v_inactive <> '{}' then
    update public.instance_outages o
    set closed_at = greatest(p_now, o.started_at), closed_as = 'paused'
    from public.wapi_instances i
    where i.id = o.instance_id and o.closed_at is null and i.company_id = any (v_inactive);
    -- As a pause does it: what was known of its lines then says nothing of the day on which it is active again.
    with forgotten as (
      update public.instance_health h
      set degraded_since = null, bad_since = null, unknown_since = null, unknown_looks = 0, unverified_since = null,
          tell_at = null
      from public.wapi_instances i
      where i.id = h.instance_id and i.company_id = any (v_inactive)
        and (h.degraded_since is not null or h.bad_since is not null or h.unknown_since is not null
          or h.unverified_since is not null or h.tell_at is not null)
      returning h.instance_id
    )
    update public.instance_outages o set answered_at = p_now
    from forgotten f
    where o.instance_id = f.instance_id and o.told_at is not null and o.answered_at is null;
  end if;
  insert into public.health_check_runs (started_at) values (p_now) returning * into v_run;
  return jsonb_build_object(
    'run_id', v_run.id, 'started_at', v_run.started_at, 'asleep', v_inactive,
    'device_silent_since', (
      select device_silent_since from public.provider_state where provider = 'wapi' and server = ''));
end
$$;
comment on function public.begin_sweep is
  'Writes the heartbeat row of a sweep, whose clock is the database''s; closes outages of companies that are not active, and forgets what it knew of their lines.';

create or replace function public.odd_moments(p_instance public.wapi_instances, p_now timestamptz)
returns text
language sql immutable security invoker set search_path = ''
as $$
  -- Screens write a browser's clock: a little ahead of ours is no wonder.
  select nullif(concat_ws(',',
    case when p_instance.connected_at not between timestamptz '0001-01-01' and p_now + interval '5 minutes' then 'connected_at' end,
    case when p_instance.last_health_check not between timestamptz '0001-01-01' and p_now + interval '5 minutes'
      then 'last_health_check' end), '');
$$;
comment on function public.odd_moments is 'Columns of a line''s row with a moment that cannot be (infinity, before Christ, the future); it counts as none.';

-- Pages by (last look, id): with p_after_* from the last batch a sweep meets each line once, also one whose last look
-- stays as it was because its restart did not fit the budget. Last looks in the future (somebody else's clock wrote them)
-- are due at once and come with a sweep's first batches.
--
-- While somebody's snapshot is open (a backup, a report) no dead version of a row can go, and whatever looks a row up by its
-- key walks over all of them. So rows are found once and then taken by their place (ctid), which a lock keeps; and a row of
-- instance_health is found from the newest version on: by a range of one key, because a scan for equality has no order.
-- Several statements, because only one that begins after the locks sees what they protect; arrays side by side between
-- them, because a join of two lists of unknown length is planned for short ones.
create or replace function public.claim_instances(
  p_due_before timestamptz,
  p_lease interval,
  p_limit integer,
  p_after_check timestamptz default null,
  p_after_id uuid default null,
  p_asleep uuid[] default '{}',   -- companies whose lines are left alone
  p_now timestamptz default null  -- tests bring a clock; null = the clock, later than any look that is stored
)
returns jsonb
-- By an index even where a table has no statistics yet: a scan of instance_health made each claim of a new fleet longer than the last.
language plpgsql volatile security invoker set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
declare
  v_now constant timestamptz := coalesce(p_now, clock_timestamp());
  v_after_check constant timestamptz := coalesce(p_after_check, timestamptz '-infinity');
  v_after_id constant uuid := coalesce(p_after_id, '00000000-0000-0000-0000-000000000000');
  v_ids uuid[] := '{}';
  v_lines tid[] := '{}';
  v_checks timestamptz[] := '{}';
  v_new uuid[];
  v_ahead integer := 0;
  v_healths tid[];
  v_odd text[];
  v_batch jsonb;
begin
  if p_after_check is null then
    select coalesce(array_agg(a.id), '{}'), coalesce(array_agg(a.line), '{}'), coalesce(array_agg(a.last_check), '{}'),
      array_agg(a.id) filter (where a.is_new)
    into v_ids, v_lines, v_checks, v_new
    from (
      select i.id, i.ctid as line, timestamptz '-infinity' as last_check, h.instance_id is null as is_new
      from public.wapi_instances i
      left join lateral (
        select h.instance_id, h.health_lease_until from public.instance_health h
        where h.instance_id >= i.id and h.instance_id <= i.id
        order by h.instance_id desc limit 1
      ) h on true
      where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
        and coalesce(i.last_health_check, timestamptz '-infinity') > v_now
        and btrim(i.instance_id) <> '' and btrim(i.instance_token) <> ''
        and (i.company_id is null or i.company_id <> all (p_asleep))
        and (h.health_lease_until is null or h.health_lease_until <= v_now)
      limit p_limit
      for no key update of i skip locked
    ) a;
    v_ahead := cardinality(v_ids);
  end if;
  select v_ids || array_agg(d.id), v_lines || array_agg(d.line), v_checks || array_agg(d.last_check),
    v_new || array_agg(d.id) filter (where d.is_new)
  into v_ids, v_lines, v_checks, v_new
  from (
    select i.id, i.ctid as line, coalesce(i.last_health_check, timestamptz '-infinity') as last_check,
      h.instance_id is null as is_new
    from public.wapi_instances i
    left join lateral (
      select h.instance_id, h.health_lease_until from public.instance_health h
      where h.instance_id >= i.id and h.instance_id <= i.id
      order by h.instance_id desc limit 1
    ) h on true
    where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
      and coalesce(i.last_health_check, timestamptz '-infinity') <= p_due_before
      and (coalesce(i.last_health_check, timestamptz '-infinity'), i.id) > (v_after_check, v_after_id)
      and btrim(i.instance_id) <> '' and btrim(i.instance_token) <> ''
      and (i.company_id is null or i.company_id <> all (p_asleep))
      and (h.health_lease_until is null or h.health_lease_until <= v_now)
    order by coalesce(i.last_health_check, timestamptz '-infinity'), i.id
    limit p_limit - v_ahead
    for no key update of i skip locked
  ) d;

  if v_new is not null then
    insert into public.instance_health (instance_id) select unnest(v_new) on conflict (instance_id) do nothing;
  end if;
  -- The line's lock keeps others from claiming it now; who claimed it since our snapshot of above has left a lease.
  select array_agg(h.place order by t.nr), array_agg(coalesce(h.odd_moments, '') order by t.nr)
  into v_healths, v_odd
  from unnest(v_ids) with ordinality t (id, nr)
  cross join lateral (
    select h.ctid as place, h.odd_moments from public.instance_health h
    where h.instance_id >= t.id and h.instance_id <= t.id
    order by h.instance_id desc limit 1
    for no key update of h
  ) h;
  with leased as (
    update public.instance_health h
    set health_lease_until = v_now + p_lease,
        pairing_since = case when public.is_pairing_word(i.status) then coalesce(h.pairing_since, v_now) end,
        odd_moments = public.odd_moments(i, v_now)
    from unnest(v_healths, v_lines, v_checks, v_odd) t (place, line, last_check, odd_before)
    join public.wapi_instances i on i.ctid = t.line
    where h.ctid = t.place and (h.health_lease_until is null or h.health_lease_until <= v_now)
    returning h.*, i as line, t.last_check, t.odd_before
  )
  select jsonb_build_object(
    'now', v_now,
    'instances', coalesce(jsonb_agg(
      jsonb_build_object(
        'id', (h.line).id, 'external_id', btrim((h.line).instance_id), 'token', (h.line).instance_token,
        'token_hash', encode(sha256(convert_to((h.line).instance_token, 'UTF8')), 'hex'),
        'raw_status', (h.line).status, 'unit', (h.line).unit, 'phone_number', (h.line).phone_number,
        'company_id', (h.line).company_id, 'lease', h.health_lease_until,
        -- Whatever others have written there: a moment that a calendar has.
        'last_health_check', case when (h.line).last_health_check is not null
          then least(greatest((h.line).last_health_check, timestamptz '1970-01-02'), v_now) end,
        'auto_recovery_attempts', coalesce((h.line).auto_recovery_attempts, 0), 'last_restart_at', h.last_restart_at,
        'degraded_since', h.degraded_since, 'bad_since', h.bad_since,
        'unknown_since', h.unknown_since, 'unknown_looks', h.unknown_looks, 'unverified_since', h.unverified_since,
        'pairing_since', h.pairing_since,
        'was_ever_connected', (h.line).connected_at is not null or nullif(btrim((h.line).phone_number), '') is not null
          or h.last_alive_at is not null,
        'last_event_at', h.last_event_at,
        'outage', case when o.id is not null then jsonb_build_object(
          'id', o.id, 'started_at', o.started_at, 'opened_at', o.opened_at, 'restarts', o.restarts, 'told_at', o.told_at,
          'opened_by', o.opened_by, 'company_id', o.company_id) end
      ) || case when h.odd_moments <> h.odd_before
        then jsonb_build_object('newly_odd', h.odd_moments) else '{}' end
      order by h.last_check, (h.line).id), '[]'),
    'after_check', case when cardinality(v_ids) > v_ahead then v_checks[cardinality(v_checks)] end,
    'after_id', case when cardinality(v_ids) > v_ahead then v_ids[cardinality(v_ids)] end
  )
  into v_batch
  from leased h
  left join public.instance_outages o on o.instance_id = h.instance_id and o.closed_at is null;
  return v_batch;
end
$$;
comment on function public.claim_instances is
  'Leases up to p_limit due lines to one sweep, oldest look first; parallel sweeps never meet. The lease''s end is its token.';

create or replace function public.preconditions_hold(
  p_instance public.wapi_instances, p_health public.instance_health, p_sighting public.sighting
)
returns boolean
language sql stable security invoker set search_path = ''
as $$
  select p_instance.is_active is not false
    and lower(replace(coalesce(p_instance.provider, 'wapi'), '-', '')) = 'wapi'
    and p_health.health_lease_until = p_sighting.lease
    and btrim(p_instance.instance_id) = p_sighting.external_id
    and encode(sha256(convert_to(p_instance.instance_token, 'UTF8')), 'hex') = p_sighting.token_hash;
$$;
comment on function public.preconditions_hold is
  'Whether a sighting is still its sweep''s to record: the line is active and ours, the lease, the external id and the token are the claimed ones.';

-- Finds a row by what the claim saw of it, which no dead version has, and only then by its id: see claim_instances.
create or replace function public.record_looks(
  p_sightings public.sighting[],
  p_policy public.recovery_policy,
  p_gives_back boolean default true,  -- false: the caller comes again for the lines that somebody holds; they stay leased
  p_now timestamptz default now()
)
returns integer
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp set plan_cache_mode = force_generic_plan
as $$
declare
  v_sightings public.sighting[];
  v_lines tid[];
  v_ids uuid[];
  v_healths tid[];
begin
  -- Rows are locked in one order, whoever comes: two sweeps cannot deadlock.
  select coalesce(array_agg(s::public.sighting), '{}'), coalesce(array_agg(l.line), '{}'), coalesce(array_agg(l.id), '{}')
  into v_sightings, v_lines, v_ids
  from (select * from unnest(p_sightings) order by instance_id) s
  cross join lateral (
    select i.id, i.ctid as line from public.wapi_instances i
    where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
      and coalesce(i.last_health_check, timestamptz '-infinity') = coalesce(s.last_health_check, timestamptz '-infinity')
      and i.id >= s.instance_id and i.id <= s.instance_id
    limit 1
    for no key update of i skip locked
  ) l;
  if cardinality(v_ids) < cardinality(p_sightings) then
    -- Somebody wrote their last look meanwhile, or the caller does not say it.
    select v_sightings || array_agg(s::public.sighting), v_lines || array_agg(l.line), v_ids || array_agg(l.id)
    into v_sightings, v_lines, v_ids
    from (select * from unnest(p_sightings) where instance_id <> all (v_ids) order by instance_id) s
    cross join lateral (
      select i.id, i.ctid as line from public.wapi_instances i where i.id = s.instance_id
      limit 1 for no key update of i skip locked
    ) l;
  end if;
  if p_gives_back and cardinality(v_ids) < cardinality(p_sightings) then
    -- Somebody holds the line (a screen, a job): nobody waits for that. It is free again, and the next sweep looks anew.
    update public.instance_health h
    set health_lease_until = null
    from (
      select g.instance_id from public.instance_health g
      join unnest(p_sightings) s on s.instance_id = g.instance_id and s.lease = g.health_lease_until
      where g.instance_id <> all (v_ids)
      for no key update of g skip locked
    ) skipped
    where h.instance_id = skipped.instance_id;
  end if;
  select array_agg(h.place order by t.nr)
  into v_healths
  from unnest(v_ids) with ordinality t (id, nr)
  left join lateral (
    select h.ctid as place from public.instance_health h
    where h.instance_id >= t.id and h.instance_id <= t.id
    order by h.instance_id desc limit 1
    for no key update of h
  ) h on true;

  with held as (
    select s.line, s.health, s.looked_at, s.observation, s.unknown_looks, s.is_finished,
      -- As alive_as() makes it, of what still holds.
      case when s.observation = 'ALIVE'
        then substr(sha256(convert_to(s.external_id || ' ' || s.token_hash, 'UTF8')), 1, 16) end as alive_as,
      i.status is not distinct from s.raw_status as status_stands,
      case when s.observation not in ('ALIVE', 'CLAIMED', 'UNKNOWN')
        then public.knows_life_since(i, h, s.looked_at, p_policy, p_now) end as has_lived,
      h.last_restart_at < p_now - p_policy.attempts_reset as restart_is_long_ago
    from (
      select (t.s).*, t.line, t.health
      from (select unnest(v_sightings) as s, unnest(v_lines) as line, unnest(v_healths) as health) t
    ) s
    join public.wapi_instances i on i.ctid = s.line
    join public.instance_health h on h.ctid = s.health
    -- As preconditions_hold says it; written out, because a function for each of five hundred lines takes as long as all the rest.
    where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
      and h.health_lease_until = s.lease
      and btrim(i.instance_id) = s.external_id
      and encode(sha256(convert_to(i.instance_token, 'UTF8')), 'hex') = s.token_hash
  ),
  rows_written as (
    update public.wapi_instances i
    set last_health_check = p_now,
        auto_recovery_attempts = case
          when held.observation = 'ALIVE' and held.restart_is_long_ago then 0 else i.auto_recovery_attempts end
    from held
    where i.ctid = held.line and held.is_finished
  ),
  recorded as (
    update public.instance_health h
    set health_lease_until = null,
        unknown_looks = case when held.observation is null then h.unknown_looks else held.unknown_looks end,
        unknown_since = case
          when held.observation is null then h.unknown_since
          when held.observation in ('UNKNOWN', 'CLAIMED') then coalesce(h.unknown_since, held.looked_at) end,
        last_alive_at = case
          when held.observation = 'ALIVE' and held.status_stands then greatest(h.last_alive_at, held.looked_at)
          else h.last_alive_at end,
        alive_as = case when held.observation = 'ALIVE' and held.status_stands then held.alive_as else h.alive_as end,
        bad_since = case
          when not held.status_stands or held.observation is null or held.observation in ('UNKNOWN', 'CLAIMED')
            then h.bad_since
          when held.observation = 'ALIVE' then null
          -- Somebody wrote or answered since the look began: it proves nothing any more.
          when held.has_lived then h.bad_since
          else coalesce(h.bad_since, held.looked_at) end
    from held
    where h.ctid = held.health
    returning h.instance_id
  )
  select coalesce(array_agg(instance_id), '{}') into v_ids from recorded;
  perform public.write_phone(
    (select i from public.wapi_instances i where i.id = s.instance_id), s.phone,
    row('sweep', 'look', s.observation, s.cause, null, null), p_now)
  from unnest(v_sightings) s
  where s.phone is not null and s.observation = 'ALIVE' and s.instance_id = any (v_ids);
  return cardinality(v_ids);
end
$$;
comment on function public.record_looks is
  'Writes looks that change no status and gives the leases back. is_finished = false keeps last_health_check: the line is owed a restart or was not looked at.';

create or replace function public.claim_restart(
  p_sighting public.sighting,
  p_lease interval,
  p_why public.evidence,
  p_policy public.recovery_policy,
  p_now timestamptz default null  -- tests bring a clock; null = the clock once the rows are locked
)
returns jsonb
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_instance public.wapi_instances;
  v_health public.instance_health;
  v_outage public.instance_outages;
  v_restarted_at timestamptz;
  v_now timestamptz;
begin
  select * into v_instance from public.wapi_instances where id = p_sighting.instance_id for no key update;
  if not found then
    return jsonb_build_object('claimed', false);
  end if;
  v_health := public.lock_health(v_instance.id);
  if not coalesce(public.preconditions_hold(v_instance, v_health, p_sighting), false)
    or v_instance.status is distinct from p_sighting.raw_status
    or public.knows_life_since(v_instance, v_health, p_sighting.looked_at, p_policy, coalesce(p_now, clock_timestamp()))
  then
    return jsonb_build_object('claimed', false);
  end if;

  -- The one clock of an external id, whatever row it is in. Read once the claim's row is ours alone.
  insert into public.restart_claims as c (provider, external_id, last_restart_at)
  values ('wapi', p_sighting.external_id, coalesce(p_now, clock_timestamp()))
  on conflict (provider, external_id) do update
    set last_restart_at = coalesce(p_now, clock_timestamp())
    where c.last_restart_at <= coalesce(p_now, clock_timestamp()) - p_policy.restart_cooldown
  returning c.last_restart_at into v_restarted_at;
  if not found then
    -- Our copy may not know: the row was made anew.
    update public.instance_health h
    set last_restart_at = c.last_restart_at
    from public.restart_claims c
    where h.instance_id = v_instance.id and c.provider = 'wapi' and c.external_id = p_sighting.external_id;
    return jsonb_build_object('claimed', false);
  end if;

  v_now := coalesce(p_now, v_restarted_at);
  -- Others may write it too. Not read back: a trigger of the platform's may leave the row as it is, and the restart is due.
  v_instance.auto_recovery_attempts := least(coalesce(v_instance.auto_recovery_attempts, 0), 1000000) + 1;
  update public.wapi_instances set auto_recovery_attempts = v_instance.auto_recovery_attempts where id = v_instance.id;
  update public.instance_health
  set last_restart_at = v_restarted_at,
      bad_since = coalesce(bad_since, p_sighting.looked_at),
      health_lease_until = v_now + p_lease
  where instance_id = v_instance.id
  returning * into v_health;
  v_outage := public.open_outage(
    v_instance, v_health.bad_since, v_now - p_policy.event_slack, 'sweep', p_why, p_policy, v_now);
  update public.instance_outages set restarts = restarts + 1 where id = v_outage.id returning * into v_outage;
  perform public.record_event(
    v_instance, 'restart_requested', p_why, null, v_outage.id,
    jsonb_build_object('attempt', v_instance.auto_recovery_attempts, 'restarts_in_outage', v_outage.restarts), v_now);
  return jsonb_build_object(
    'claimed', true, 'lease', v_health.health_lease_until, 'outage_id', v_outage.id, 'restarts', v_outage.restarts);
end
$$;
comment on function public.claim_restart is
  'The right to send one restart: at most one per external id in the cool-down, on the database''s clock, before the request is sent.';

create or replace function public.apply_verdict(
  p_sighting public.sighting,
  p_to text,
  p_text text,
  p_texts jsonb,
  p_release boolean,
  p_why public.evidence,
  p_policy public.recovery_policy,
  p_restart text default null,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_instance public.wapi_instances;
  v_health public.instance_health;
  v_alive constant boolean := p_sighting.observation = 'ALIVE';
  v_closed_as constant text := case when p_restart = 'recovered' then 'recovered' else 'alive' end;
  v_why public.evidence := p_why;
  v_overtaken boolean;
  v_result jsonb := jsonb_build_object('from', p_sighting.raw_status, 'to', p_to);
  v_outage uuid;
begin
  select * into v_instance from public.wapi_instances where id = p_sighting.instance_id for no key update;
  if not found then
    return jsonb_build_object('applied', false);
  end if;
  v_health := public.lock_health(v_instance.id);
  if not coalesce(public.preconditions_hold(v_instance, v_health, p_sighting), false) then
    return jsonb_build_object('applied', false);
  end if;

  v_overtaken := v_instance.status is distinct from p_sighting.raw_status or case
    when v_alive then exists (
      select from public.instance_outages o
      where o.instance_id = v_instance.id and o.closed_at is null and o.life_counts_from > p_sighting.looked_at)
    else public.knows_life_since(v_instance, v_health, p_sighting.looked_at, p_policy, p_now)
  end;

  if not v_overtaken then
    if v_alive then
      v_why.reason := v_closed_as;
      v_result := public.bring_instance_back(v_instance, p_sighting.looked_at, v_closed_as, p_texts, v_why, p_policy, p_now);
    elsif p_to is not null then
      v_result := public.take_instance_down(
        v_instance, v_health, p_to, coalesce(v_health.bad_since, p_sighting.looked_at), p_now - p_policy.event_slack,
        case
          when p_to = 'disconnected' and p_text is null then 'adoption'
          when coalesce(p_sighting.raw_status, '') not in ('connected', 'degraded') then 'screen'
          else 'sweep' end,
        p_text, p_texts, p_why, p_policy, p_now
      );
    end if;
    if v_alive and p_sighting.phone is not null then
      perform public.write_phone(
        v_instance, p_sighting.phone, row('sweep', 'look', p_sighting.observation, p_sighting.cause, null, null), p_now);
    end if;
  end if;

  update public.wapi_instances i
  set last_health_check = case
        when v_overtaken or p_release and p_sighting.is_finished then p_now else i.last_health_check end,
      auto_recovery_attempts = case
        when p_restart = 'failed' then 0
        when v_alive and p_restart is null and v_health.last_restart_at < p_now - p_policy.attempts_reset then 0
        else i.auto_recovery_attempts end
  where i.id = v_instance.id;
  update public.instance_health h
  set health_lease_until = case when p_release or v_overtaken then null else h.health_lease_until end,
      unknown_looks = case when v_overtaken then h.unknown_looks else p_sighting.unknown_looks end,
      unknown_since = case
        when v_overtaken or p_sighting.observation is null then h.unknown_since
        when p_sighting.observation in ('UNKNOWN', 'CLAIMED') then coalesce(h.unknown_since, p_sighting.looked_at) end,
      last_alive_at = case
        when v_alive and not v_overtaken then greatest(h.last_alive_at, p_sighting.looked_at) else h.last_alive_at end,
      alive_as = case when v_alive and not v_overtaken then public.alive_as(v_instance) else h.alive_as end
  where h.instance_id = v_instance.id;

  if p_restart = 'recovered' and v_alive and not v_overtaken then
    -- The restart's own connection event may have been faster than our look: it is a recovery all the same.
    update public.instance_outages set closed_as = 'recovered'
    where instance_id = v_instance.id and closed_as = 'event' and restarts > 0 and closed_at >= v_health.last_restart_at;
  end if;
  if p_restart is not null then
    select o.id into v_outage from public.instance_outages o
    where o.instance_id = v_instance.id order by (o.closed_at is null) desc, o.closed_at desc limit 1;
    perform public.record_event(
      v_instance, 'restart_' || p_restart, p_why, case when not v_overtaken then v_result ->> 'to' end, v_outage,
      jsonb_build_object('overtaken', v_overtaken), p_now);
  end if;
  return v_result || jsonb_build_object('applied', not v_overtaken);
end
$$;
comment on function public.apply_verdict is
  'Moves a leased line to what its look or restart showed, in one transaction. Applies only if status, lease, external id, token and look still hold; p_to null = the row stays.';

-- Nothing proves a death: no outage. Lines that fell silent together have one cause, which is no venue's business.
create or replace function public.tell_unverified(
  p_sightings public.sighting[],
  p_texts jsonb,
  p_run uuid,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_sighting public.sighting;
  v_instance public.wapi_instances;
  v_health public.instance_health;
  v_together integer;
  v_newly integer := 0;
  v_event bigint;
  v_notified jsonb;
  v_told jsonb := '[]';
begin
  for v_sighting in select * from unnest(p_sightings) order by instance_id loop
    select * into v_instance from public.wapi_instances where id = v_sighting.instance_id for no key update skip locked;
    continue when not found;
    v_health := public.lock_health(v_instance.id);
    continue when not coalesce(public.preconditions_hold(v_instance, v_health, v_sighting), false)
      or v_instance.status is distinct from v_sighting.raw_status
      or public.knows_life_since(v_instance, v_health, v_sighting.looked_at, p_policy, p_now)
      or v_health.unverified_since is not null
      or coalesce(v_health.unknown_since > p_now - p_policy.silent_after, true)
      or coalesce(v_health.last_event_at >= v_health.unknown_since, false);

    select count(*) into v_together
    from public.instance_health h
    join public.wapi_instances i on i.id = h.instance_id
    where h.unknown_since between v_health.unknown_since - p_policy.silent_together
        and v_health.unknown_since + p_policy.silent_together
      and i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi';
    -- The fleet is counted no further than the answer needs.
    if v_together > 1 and v_together > p_policy.silent_share * (
      select count(*) from (
        select from public.wapi_instances i
        where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
        limit ceil(v_together / p_policy.silent_share)::integer) fleet)
    then
      if v_health.silence_said is distinct from v_health.unknown_since then
        -- Not by how long it has been silent: while the brake was on nobody asked.
        v_newly := v_newly + 1;
        update public.instance_health set silence_said = v_health.unknown_since where instance_id = v_instance.id;
      end if;
      continue;
    end if;

    v_event := public.record_event(
      v_instance, case when v_instance.status = 'degraded' then 'users_told' else 'status_changed' end,
      row('sweep', 'unverified', v_sighting.observation, v_sighting.cause, null, p_run), 'degraded', null,
      jsonb_build_object('told', null), p_now);
    v_notified := public.notify_users(
      public.unverified_occasion(v_instance, v_health.unknown_since), 'unverified', p_texts, 'unverified', v_event, p_policy,
      null, p_now);
    update public.instance_events set details = details || v_notified where id = v_event;
    update public.wapi_instances
    set status = 'degraded', status_reason = 'unverified', last_health_check = p_now
    where id = v_instance.id;
    update public.instance_health h
    set health_lease_until = null, degraded_since = coalesce(h.degraded_since, p_now), unverified_since = h.unknown_since,
        unknown_looks = v_sighting.unknown_looks, tell_at = p_now
    where h.instance_id = v_instance.id;
    v_told := v_told || (v_notified || jsonb_build_object('instance_id', v_instance.id));
  end loop;
  return jsonb_build_object('told', v_told, 'newly_together', v_newly);
end
$$;
comment on function public.tell_unverified is
  'Tells users once that nobody can find out whether their line works, and degrades it; not of lines that fell silent with many others.';

-- Random blocks and in each of them eight random places, of which some hold a row of today: the same price for any fleet, and
-- every row has the same chance. More and more of them until enough rows are found; at last, and in a small table, all of it.
create or replace function public.draw_witnesses(
  p_limit integer,
  p_degraded_since timestamptz,
  p_but_not uuid[] default '{}',
  p_asleep uuid[] default '{}'
)
returns jsonb
language plpgsql volatile security invoker set search_path = '' set plan_cache_mode = force_generic_plan
as $$
declare
  v_rows_a_block constant integer := 64;  -- at most, or nearly: a row has a hundred bytes and more
  v_blocks constant bigint := pg_relation_size('public.wapi_instances') / current_setting('block_size')::integer;
  v_places integer := 8 * p_limit;  -- every block is a page that nobody has read lately
  v_drawn tid[];
begin
  loop
    if v_places < v_blocks * 4 then
      select array_agg(d.place) into v_drawn
      from (
        select i.ctid as place
        from public.wapi_instances i
        where i.ctid = any (array(
            select format('(%s,%s)', b.block, 1 + floor(random() * v_rows_a_block))::tid
            from (select floor(random() * v_blocks) as block from generate_series(1, v_places / 8)) b,
              generate_series(1, 8)))
          and i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
          and btrim(i.instance_id) <> '' and btrim(i.instance_token) <> ''
          and (i.status = 'connected' or i.status = 'degraded' and exists (
            select from public.instance_health h where h.instance_id = i.id and h.degraded_since > p_degraded_since))
          and i.id <> all (p_but_not) and (i.company_id is null or i.company_id <> all (p_asleep))
        order by random()
        limit p_limit
      ) d;
      exit when cardinality(v_drawn) >= p_limit;
      v_places := 8 * v_places;
    else
      select array_agg(d.place) into v_drawn
      from (
        select i.ctid as place
        from public.wapi_instances i tablesample system (100)
        where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
          and btrim(i.instance_id) <> '' and btrim(i.instance_token) <> ''
          and (i.status = 'connected' or i.status = 'degraded' and exists (
            select from public.instance_health h where h.instance_id = i.id and h.degraded_since > p_degraded_since))
          and i.id <> all (p_but_not) and (i.company_id is null or i.company_id <> all (p_asleep))
        order by random()
        limit p_limit
      ) d;
      exit;
    end if;
  end loop;
  return coalesce((
    select jsonb_agg(jsonb_build_object(
      'id', i.id, 'external_id', btrim(i.instance_id), 'token', i.instance_token, 'last_event_at', h.last_event_at))
    from unnest(v_drawn) d (place)
    join public.wapi_instances i on i.ctid = d.place
    left join public.instance_health h on h.instance_id = i.id), '[]');
end
$$;
comment on function public.draw_witnesses is
  'Up to p_limit lines that are up (connected, or degraded since p_degraded_since), at random, whoever leases them.';

create or replace function public.count_up(p_most integer, p_degraded_since timestamptz, p_asleep uuid[] default '{}')
returns integer
language sql stable security invoker set search_path = ''
as $$
  select count(*)::integer from (
    select from public.wapi_instances i
    where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
      and btrim(i.instance_id) <> '' and btrim(i.instance_token) <> ''
      and (i.status = 'connected' or i.status = 'degraded' and exists (
        select from public.instance_health h where h.instance_id = i.id and h.degraded_since > p_degraded_since))
      and (i.company_id is null or i.company_id <> all (p_asleep))
    limit p_most) up;
$$;
comment on function public.count_up is 'How many lines are up (connected, or degraded since p_degraded_since), counted no further than p_most.';

create or replace function public.claim_canary(
  p_instance uuid,        -- null: only ask
  p_began timestamptz,
  p_lease interval,
  p_now timestamptz default null
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_state public.provider_state;
  v_now timestamptz;
  v_recovered boolean;
  v_under_way boolean;
begin
  insert into public.provider_state (provider) values ('wapi') on conflict do nothing;
  select * into v_state from public.provider_state where provider = 'wapi' and server = '' for update;
  v_now := coalesce(p_now, clock_timestamp());
  v_recovered := coalesce(v_state.canary_recovered and v_state.canary_ended_at > p_began, false);
  v_under_way := coalesce(v_state.canary_recovered is null and v_state.canary_sent_at > v_now - p_lease, false);
  if p_instance is not null and not v_recovered and not v_under_way then
    update public.provider_state
    set canary_instance_id = p_instance, canary_sent_at = v_now, canary_ended_at = null, canary_recovered = null
    where provider = 'wapi' and server = '';
    return jsonb_build_object('claimed', true, 'under_way', false, 'recovered', false);
  end if;
  return jsonb_build_object('claimed', false, 'under_way', v_under_way, 'recovered', v_recovered);
end
$$;
comment on function public.claim_canary is
  'The right to send the one canary of the fleet; or whether another sweep''s is under way, or has recovered since this sweep began.';

create or replace function public.end_canary(p_instance uuid, p_recovered boolean, p_now timestamptz default now())
returns void
language sql volatile security invoker set search_path = ''
as $$
  update public.provider_state set canary_ended_at = p_now, canary_recovered = p_recovered
  where provider = 'wapi' and server = '' and canary_instance_id = p_instance and canary_recovered is null;
$$;
comment on function public.end_canary is 'How the canary ended: it stands for every sweep that began before.';

create or replace function public.note_unwatched(p_now timestamptz)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_unwatched uuid[];
  v_new uuid[];
begin
  select coalesce(array_agg(i.id), '{}') into v_unwatched
  from public.wapi_instances i
  where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
    and (coalesce(btrim(i.instance_id), '') = '' or coalesce(btrim(i.instance_token), '') = '');
  if v_unwatched <> '{}' then
    with marked as (
      insert into public.instance_health as h (instance_id, unwatched_since)
      select unnest(v_unwatched), p_now
      on conflict (instance_id) do update set unwatched_since = p_now where h.unwatched_since is null
      returning h.instance_id
    )
    select array_agg(instance_id) into v_new from marked;
  end if;
  return jsonb_build_object('unwatched', cardinality(v_unwatched), 'newly_unwatched', coalesce(to_jsonb(v_new), '[]'));
end
$$;
comment on function public.note_unwatched is 'Counts lines that nobody can ask about, and says which of them are so since now.';

create or replace function public.enter_brake(p_now timestamptz default now())
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  insert into public.provider_state as s (provider, braked_since) values ('wapi', p_now)
  on conflict (provider, server) do update set braked_since = p_now where s.braked_since is null;
  return found;
end
$$;
comment on function public.enter_brake is 'Notes that the brake is on; true for the one batch that notes it first.';

-- p_after_*: where the sweep's last batch ended. Before it lies a dead version of each line that the sweep has looked at, and
-- nothing that it has not met: what it gave back unfinished it has counted itself (p_given_back). null = count all.
create or replace function public.finish_sweep(
  p_run uuid,
  p_due_before timestamptz,
  p_checked integer,
  p_observations jsonb,
  p_outcomes jsonb,
  p_braked boolean,
  p_looked_at_up integer,
  p_given_back integer,
  p_device_answered boolean,
  p_is_helper boolean,
  p_took_ms integer,
  p_after_check timestamptz default null,
  p_after_id uuid default null,
  p_asleep uuid[] default '{}',
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = '' set plan_cache_mode = force_generic_plan set enable_bitmapscan = off
as $$
declare
  v_left integer;
  v_braked_since timestamptz;
  v_is_blind constant boolean := p_checked > 0 and coalesce((p_observations ->> 'UNKNOWN')::integer, 0) >= p_checked;
  v_blind_before integer;
  v_blind_sweeps integer;
  v_unwatched constant jsonb := public.note_unwatched(p_now);
begin
  select count(*) into v_left
  from public.wapi_instances i
  left join lateral (
    select h.health_lease_until from public.instance_health h
    where h.instance_id >= i.id and h.instance_id <= i.id
    order by h.instance_id desc limit 1
  ) h on true
  where i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
    and coalesce(i.last_health_check, timestamptz '-infinity') <= p_due_before
    and (coalesce(i.last_health_check, timestamptz '-infinity'), i.id) > (
      coalesce(p_after_check, timestamptz '-infinity'), coalesce(p_after_id, '00000000-0000-0000-0000-000000000000'))
    and btrim(i.instance_id) <> '' and btrim(i.instance_token) <> ''
    and (i.company_id is null or i.company_id <> all (p_asleep))
    and (h.health_lease_until is null or h.health_lease_until <= p_now);
  update public.health_check_runs
  set finished_at = p_now, checked = p_checked, observations = p_observations, outcomes = p_outcomes, braked = p_braked,
      took_ms = p_took_ms, left_due = v_left + p_given_back, looked_at_up = p_looked_at_up,
      unwatched = (v_unwatched ->> 'unwatched')::integer
  where id = p_run;
  -- The clock begins with the first sweep that asked in vain: an hour without sweeps proves nothing.
  insert into public.provider_state (provider) values ('wapi') on conflict (provider, server) do nothing;
  if p_device_answered then
    update public.provider_state set device_silent_since = null
    where provider = 'wapi' and server = '' and device_silent_since is not null;
  elsif (p_observations ->> 'CLAIMED')::integer > 0 then
    update public.provider_state set device_silent_since = p_now
    where provider = 'wapi' and server = '' and device_silent_since is null;
  end if;
  -- Who shared another sweep's work may see what that did not, but being blind counts once. Without a look nothing is said.
  select blind_sweeps into v_blind_before from public.provider_state where provider = 'wapi' and server = '';
  v_blind_sweeps := case
    when p_checked = 0 or v_is_blind and p_is_helper then v_blind_before
    when v_is_blind then v_blind_before + 1
    else 0 end;
  update public.provider_state set blind_sweeps = v_blind_sweeps
  where provider = 'wapi' and server = '' and blind_sweeps is distinct from v_blind_sweeps;
  -- A sweep that looked at lines that are up, and had no brake, ends it.
  update public.provider_state s
  set braked_since = null
  from (
    select braked_since from public.provider_state
    where provider = 'wapi' and server = '' and braked_since is not null and not p_braked and p_looked_at_up > 0
    for update
  ) was
  where s.provider = 'wapi' and s.server = ''
  returning was.braked_since into v_braked_since;
  return jsonb_build_object(
    'left', v_left + p_given_back, 'brake_released', v_braked_since, 'blind_before', v_blind_before,
    'blind_sweeps', v_blind_sweeps) || v_unwatched;
end
$$;
comment on function public.finish_sweep is
  'Completes the run row; returns how many due lines are left and, if this sweep ends the brake, since when that was on.';

do $$
begin
  perform public.keep_for_service(
    'inactive_companies', 'is_asleep', 'begin_sweep', 'odd_moments', 'claim_instances', 'preconditions_hold', 'record_looks',
    'claim_restart', 'apply_verdict', 'tell_unverified', 'draw_witnesses', 'count_up', 'claim_canary', 'end_canary', 'note_unwatched',
    'enter_brake', 'finish_sweep');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100400') on conflict do nothing;
