-- Purpose: what wapi_webhook asks of the database: keep an event once, and let connection events have their effect.
-- Touches: wapi_webhook_events, wapi_instances, instance_health and, through the outage functions, outages, audit and
-- notices. Called by: shared/database/store.py

set local lock_timeout = '5s';

create or replace function public.moment_of_event(
  p_moment timestamptz, p_received_at timestamptz, p_ahead interval
)
returns timestamptz
language plpgsql immutable security invoker set search_path = ''
as $$
begin
  -- None, or a clock too far ahead: the time of arrival is the better guess.
  return case when p_moment is null or p_moment > p_received_at + p_ahead then p_received_at else p_moment end;
end
$$;
comment on function public.moment_of_event is 'When an event happened, as far as its moment can be believed.';

create or replace function public.is_clock_late(p_event public.wapi_webhook_events, p_policy public.recovery_policy)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  if coalesce(p_event.received_at - p_event.moment <= p_policy.stale_after, true) then
    return false;
  end if;
  -- Of many lines, because one event may simply have been long on its way. The newest 200 are enough to tell.
  return p_policy.clock_late_lines <= (
    select count(distinct e.instance_id)
    from (
      select d.instance_id, d.received_at - d.moment as late_by
      from public.wapi_webhook_events d
      where d.kind = 'disconnection' and d.instance_id is not null and d.moment is not null
        and d.received_at between p_event.received_at - p_policy.clock_late_within and p_event.received_at
      order by d.received_at desc limit 200
    ) e
    where e.late_by between p_event.received_at - p_event.moment - p_policy.clock_late_slack
      and p_event.received_at - p_event.moment + p_policy.clock_late_slack);
end
$$;
comment on function public.is_clock_late is
  'Whether disconnections of many lines, this one among them, were stale by the same amount: then it is the provider''s clock.';

create or replace function public.moment_of_disconnection(
  p_event public.wapi_webhook_events, p_policy public.recovery_policy
)
returns timestamptz
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return case
    when public.is_clock_late(p_event, p_policy) then p_event.received_at
    else public.moment_of_event(p_event.moment, p_event.received_at, p_policy.event_ahead) end;
end
$$;
comment on function public.moment_of_disconnection is
  'When a line was disconnected, as far as the moment, and the provider''s clock, can be believed.';

create or replace function public.find_late_clock(p_policy public.recovery_policy, p_now timestamptz default now())
returns jsonb
language sql stable security invoker set search_path = ''
as $$
  select jsonb_build_object('late_seconds', round(extract(epoch from e.received_at - e.moment)))
  from (
    select * from public.wapi_webhook_events d
    where d.kind = 'disconnection' and d.instance_id is not null and d.moment is not null
      and d.received_at > p_now - p_policy.clock_late_within
    order by d.received_at desc limit 1
  ) e
  where public.is_clock_late(e::public.wapi_webhook_events, p_policy);
$$;
comment on function public.find_late_clock is 'By how much the provider''s clock is late, as the last disconnection has shown; null = it is not.';

create or replace function public.alive_as(p_instance public.wapi_instances)
returns bytea
language plpgsql immutable security invoker set search_path = ''
as $$
begin
  return substr(sha256(convert_to(
    btrim(p_instance.instance_id) || ' ' || encode(sha256(convert_to(p_instance.instance_token, 'UTF8')), 'hex'), 'UTF8')), 1, 16);
end
$$;
comment on function public.alive_as is 'The fingerprint of a line''s external id and token: instance_health.alive_as.';

create or replace function public.find_instance(p_external_id text)
returns public.wapi_instances
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_instance public.wapi_instances;
  v_paused integer;
  v_companies integer;
begin
  if coalesce(btrim(p_external_id), '') = '' then
    return null;
  end if;
  -- Every event comes by here: one statement, where no other company has the id as well.
  select i.* into v_instance from public.wapi_instances i
  where btrim(i.instance_id) = btrim(p_external_id) and btrim(i.instance_id) <> '' and i.is_active is not false
    and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
    and not exists (
      select from public.wapi_instances t
      where btrim(t.instance_id) = btrim(p_external_id) and t.is_active is false
        and lower(replace(coalesce(t.provider, 'wapi'), '-', '')) = 'wapi' and t.company_id is distinct from i.company_id);
  if found then
    return v_instance;
  end if;
  if not exists (
    select from public.wapi_instances
    where btrim(instance_id) = btrim(p_external_id) and btrim(instance_id) <> '' and is_active is not false
      and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi')
  then
    select count(*), count(distinct company_id) into v_paused, v_companies from public.wapi_instances
    where btrim(instance_id) = btrim(p_external_id) and is_active is false
      and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';
    if v_paused = 1 then
      select * into v_instance from public.wapi_instances
      where btrim(instance_id) = btrim(p_external_id) and is_active is false
        and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';
    end if;
    if v_companies < 2 then
      return v_instance;
    end if;
  end if;
  -- Rows of two companies: anybody can write an id into a row of theirs, but only its owner has the token that it lives with.
  select i.* into v_instance
  from (
    select * from public.wapi_instances
    where btrim(instance_id) = btrim(p_external_id) and btrim(instance_id) <> '' and is_active is not false
      and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi'
    union all
    select * from public.wapi_instances
    where btrim(instance_id) = btrim(p_external_id) and is_active is false
      and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi'
  ) i
  join public.instance_health h on h.instance_id = i.id
  where h.last_alive_at is not null and h.alive_as = public.alive_as(i::public.wapi_instances)
  order by h.last_alive_at desc limit 1;
  return v_instance;
end
$$;
comment on function public.find_instance is
  'The row of an external id: the active one (one by unique index), else a paused one if it is the only one. Of rows of two companies the one whose own token last looked ALIVE; none before one has.';

create or replace function public.has_open_outage(p_instance uuid)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return exists (select from public.instance_outages o where o.instance_id = p_instance and o.closed_at is null);
end
$$;
comment on function public.has_open_outage is 'Whether an outage of a line is open.';

create or replace function public.is_down(p_instance public.wapi_instances)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return p_instance.status is distinct from 'connected' or public.has_open_outage(p_instance.id);
end
$$;
comment on function public.is_down is 'Whether there is anything to restore about a line.';

create or replace function public.is_left_alone(
  p_instance public.wapi_instances, p_health public.instance_health, p_policy public.recovery_policy, p_now timestamptz
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  if p_instance.status in ('connected', 'degraded') then
    return false;
  end if;
  -- As the sweep decides it; a word of pairing that no sweep has seen yet was written a moment ago.
  return coalesce(public.is_pairing_word(p_instance.status), false)
      and coalesce(p_health.pairing_since > p_now - p_policy.pairing, true)
    or p_instance.connected_at is null and nullif(btrim(p_instance.phone_number), '') is null
      and p_health.last_alive_at is null and not public.has_open_outage(p_instance.id);
end
$$;
comment on function public.is_left_alone is 'Whether somebody is pairing the line or nobody ever has: bad news has no effect.';

create or replace function public.judge_disconnection(
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_moment timestamptz,
  p_received_at timestamptz,
  p_policy public.recovery_policy,
  p_now timestamptz
)
returns text
language plpgsql stable security invoker set search_path = ''
as $$
begin
  if p_moment < public.last_life(p_instance, p_health, p_now, p_policy) - p_policy.stale_after then
    return 'stale';
  -- Our own restart may send it; whoever restarted decides. Moments are whole seconds of another clock.
  elsif p_received_at between p_health.last_restart_at and p_health.last_restart_at + p_policy.restart_quiet
    or p_moment between p_health.last_restart_at - interval '1 second' and p_health.last_restart_at + p_policy.restart_quiet
  then
    return 'own_restart';
  elsif p_instance.status in ('connected', 'degraded') then
    return null;
  elsif public.is_left_alone(p_instance, p_health, p_policy, p_now) then
    return 'left_alone';
  elsif exists (
    select from public.instance_outages o
    where o.instance_id = p_instance.id and o.closed_at is null and (o.told_at is not null or o.opened_by = 'adoption'))
  then
    return 'already_disconnected';
  end if;
  return null;
end
$$;
comment on function public.judge_disconnection is 'Why a disconnection has no effect; null = it has to be looked into.';

create or replace function public.is_old_life(
  p_instance public.wapi_instances, p_health public.instance_health, p_moment timestamptz, p_policy public.recovery_policy,
  p_now timestamptz
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return coalesce(
      p_moment < coalesce(
        (select o.life_counts_from from public.instance_outages o where o.instance_id = p_instance.id and o.closed_at is null),
        p_health.bad_since), false)
    or coalesce(p_moment < public.last_life(p_instance, p_health, p_now, p_policy) - p_policy.stale_after, false);
end
$$;
comment on function public.is_old_life is 'Whether a sign of life of then is older than the death, or than later life, that the row knows.';

create or replace function public.restore_by_event(
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_moment timestamptz,
  p_phone text,
  p_texts jsonb,
  p_why public.evidence,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_at constant timestamptz := least(p_moment, p_now);
  v_known_at constant timestamptz := public.believed(p_health.last_event_at, p_now, p_policy.event_ahead);
  v_result jsonb := jsonb_build_object('outcome', 'alive');
begin
  if p_phone is null then
    return jsonb_build_object('outcome', 'no_phone');
  end if;
  if public.is_old_life(p_instance, p_health, p_moment, p_policy, p_now) then
    return jsonb_build_object('outcome', 'stale');
  end if;

  if public.is_down(p_instance) then
    v_result := public.bring_instance_back(p_instance, v_at, 'event', p_texts, p_why, p_policy, p_now)
      || jsonb_build_object('outcome', 'restored');
  end if;
  if p_instance.phone_number is distinct from p_phone and coalesce(p_moment >= v_known_at, true) then
    perform public.write_phone(p_instance, p_phone, p_why, p_now);
  end if;
  -- Once in a while: a busy line is not a hot row. But a restored line always knows since when, and a sweep that is at this
  -- line must learn of the life that its look has not seen.
  update public.instance_health
  set last_event_at = greatest(v_known_at, v_at), bad_since = null, unknown_since = null
  where instance_id = p_instance.id
    and (v_known_at is null or v_known_at <= v_at - p_policy.life_kept_each or bad_since is not null
         or v_result ->> 'outcome' = 'restored' or health_lease_until > p_now
         or p_instance.phone_number is distinct from p_phone);
  return v_result;
end
$$;
comment on function public.restore_by_event is 'A sign of life of a line: restores it when it was down, stores phone and moment.';

create or replace function public.is_news(
  p_instance public.wapi_instances, p_health public.instance_health, p_at timestamptz, p_phone text,
  p_policy public.recovery_policy, p_now timestamptz
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return p_phone is not null and (
    p_instance.status is distinct from 'connected'
    or p_instance.phone_number is distinct from p_phone
    or p_health.bad_since is not null
    or p_health.last_event_at is null
    or p_health.last_event_at <= p_at - p_policy.life_kept_each
    or p_health.last_event_at > p_now  -- no moment that can be believed as it is
    or p_health.health_lease_until is not null and p_health.last_event_at < p_at
    or public.has_open_outage(p_instance.id));
end
$$;
comment on function public.is_news is 'Whether a sign of life changes anything that is stored of the line.';

create or replace function public.is_fact_again(
  p_event public.wapi_webhook_events,
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_policy public.recovery_policy,
  p_now timestamptz
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  -- Moments are whole seconds: down, back and down again within one is the same body twice. Without a moment two are two
  -- anyway, and one that comes again is a retry of ours.
  return p_event.moment is not null and p_instance.id is not null and p_instance.is_active is not false and case p_event.kind
    when 'disconnection' then
      not public.has_open_outage(p_instance.id) and public.judge_disconnection(
        p_instance, p_health, public.moment_of_disconnection(p_event, p_policy), p_now, p_policy, p_now) is null
    when 'connection' then
      public.is_down(p_instance) and not public.is_old_life(p_instance, p_health, p_event.moment, p_policy, p_now)
    else false end;
end
$$;
comment on function public.is_fact_again is
  'Whether an event that came before is news once more, because its effect no longer stands. It is looked into.';

create or replace function public.receive_event(
  p_event public.webhook_event,
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_texts jsonb,
  p_relay_turn interval,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_event public.wapi_webhook_events;
  v_instance public.wapi_instances := p_instance;
  v_health public.instance_health := p_health;
  v_moment timestamptz;
  v_phone text := p_event.phone;
  v_again boolean := false;
  v_locked public.wapi_instances;
  v_is_free boolean;
  v_why public.evidence;
  v_outcome text := case  -- what it is if it changes nothing: then its row is written once
    when v_instance.id is null then 'unknown_instance'
    when p_event.kind in ('disconnection', 'connection') then case
      when v_instance.is_active is false then 'paused'
      when p_event.kind = 'connection' and v_phone is not null then 'alive'
      else 'look' end
    when p_event.change is null then coalesce(p_event.noise, 'kept') end;
  v_code text;
  v_result jsonb := '{}';
begin
  insert into public.wapi_webhook_events
    (event_key, received_at, external_id, instance_id, event, kind, moment, body, relay, outcome, processed_at)
  values (
    p_event.event_key, p_now, p_event.external_id, v_instance.id, p_event.event, p_event.kind, p_event.moment, p_event.body,
    case when p_event.relay then 'pending' end, v_outcome, case when v_outcome <> 'look' then p_now end)
  on conflict (event_key) do nothing
  returning * into v_event;
  if not found then
    -- Came before. Done then? Nothing more to do. Cut off then? Go on where it stopped.
    select * into v_event from public.wapi_webhook_events where event_key = p_event.event_key for update;
    if v_event.processed_at is not null then
      if not public.is_fact_again(v_event, v_instance, v_health, p_policy, p_now) then
        return jsonb_build_object('outcome', 'duplicate', 'event_id', v_event.id, 'instance_id', v_event.instance_id);
      end if;
      update public.wapi_webhook_events
      set received_at = p_now, processed_at = null, outcome = null,
          relay = case when p_event.relay then 'pending' else relay end
      where id = v_event.id
      returning * into v_event;
      v_again := true;
    else
      v_again := coalesce(v_event.outcome = 'look_again', false);
    end if;
    if v_again then
      v_phone := null;  -- it may be the same event once more: nothing but a look restores
    end if;
  end if;
  v_moment := case p_event.kind
    when 'disconnection' then public.moment_of_disconnection(v_event, p_policy)
    else public.moment_of_event(v_event.moment, v_event.received_at, p_policy.event_ahead) end;
  v_why := row('webhook', 'event', null, p_event.kind, v_event.id, null);

  -- A message waits for its conversation where somebody holds that, so it comes before the line's rows: every other event of
  -- the line would wait with it for those.
  if v_instance.id is not null and p_event.change is not null then
    begin
      v_outcome := case p_event.change ->> 'do'
        when 'store' then public.store_message(v_instance, p_event.change, v_moment, p_policy.event_ahead)
        else public.change_or_wait(v_event.id, v_instance, p_event.change, v_moment, p_policy.event_ahead) end;
      set constraints all immediate;  -- a rule that is deferred objects here, where somebody listens
    exception when others then
      -- The platform's tables refuse this message (a rule of theirs, a row that has just gone). The event is kept, not
      -- processed: the same event again tries again. What passes by itself is tried again by the caller.
      if not public.is_refusal(sqlstate) then
        raise;
      end if;
      v_outcome := 'failed';
      v_code := sqlstate;
    end;
  end if;

  -- The line's rows only when something in them is to change: a busy line is not a hot row. A disconnection that is looked
  -- into is judged again after the look.
  if v_instance.id is not null and v_instance.is_active is not false
    and (p_event.is_life and public.is_news(v_instance, v_health, least(v_moment, p_now), v_phone, p_policy, p_now)
        -- What is older than later life changes nothing, however often it comes. Of a connection it is told.
        and (p_event.kind = 'connection' or coalesce(
          v_moment >= public.last_life(v_instance, v_health, p_now, p_policy) - p_policy.stale_after, true))
      or p_event.kind = 'disconnection' and public.judge_disconnection(
        v_instance, v_health, v_moment, v_event.received_at, p_policy, p_now) is not null) then
    if p_event.change is not null and v_instance.status = 'connected' and v_health.bad_since is null
      and v_health.health_lease_until is null and v_instance.phone_number is not distinct from v_phone
      and not public.has_open_outage(v_instance.id)
    then
      -- That it still lives, once a minute. Whoever holds the line's row now may want this message's chat next: nobody
      -- waits for that, and the next event brings it.
      select * into v_locked from public.wapi_instances where id = v_instance.id for no key update skip locked;
      v_is_free := found;
    else
      select * into v_locked from public.wapi_instances where id = v_instance.id for no key update;
      v_is_free := true;
    end if;
    if v_is_free then
      v_instance := v_locked;
    end if;
    if v_is_free and v_instance.id is not null then
      v_health := public.lock_health(v_instance.id);
      if p_event.is_life and v_instance.is_active is not false then
        begin
          v_result := public.restore_by_event(v_instance, v_health, v_moment, v_phone, p_texts, v_why, p_policy, p_now);
        exception when others then
          -- A rule of the platform's about the line's row. The message is theirs to read all the same; the next sign of
          -- life, and every sweep, tries again.
          if not public.is_refusal(sqlstate) then
            raise;
          end if;
          v_result := jsonb_build_object('outcome', 'failed');
          v_code := coalesce(v_code, sqlstate);
        end;
      end if;
    end if;
  end if;

  if v_instance.id is null then
    v_outcome := 'unknown_instance';
  elsif p_event.kind in ('disconnection', 'connection') and v_instance.is_active is false then
    v_outcome := 'paused';
  elsif p_event.kind = 'connection' then
    v_outcome := coalesce(v_result ->> 'outcome', case
      when v_phone is not null then 'alive'
      when not public.is_down(v_instance) then 'no_phone'
      when public.is_old_life(v_instance, v_health, v_moment, p_policy, p_now) then 'stale'
      when public.is_asleep(v_instance.company_id) then 'left_alone'
      else 'look' end);
  elsif p_event.kind = 'disconnection' then
    v_outcome := coalesce(
      public.judge_disconnection(v_instance, v_health, v_moment, v_event.received_at, p_policy, p_now),
      case when public.is_asleep(v_instance.company_id) then 'left_alone' end, 'look');
    if v_outcome <> 'look' then
      v_why.reason := v_outcome;
      perform public.record_event(v_instance, 'disconnection_ignored', v_why, p_now => p_now);
    end if;
  elsif p_event.change is null then
    v_outcome := coalesce(p_event.noise, 'kept');
  end if;

  v_result := v_result || jsonb_build_object(
    'outcome', v_outcome, 'code', v_code, 'life', case when p_event.kind <> 'connection' then v_result ->> 'outcome' end,
    'event_id', v_event.id, 'instance_id', v_instance.id, 'unit', v_instance.unit);
  if v_outcome = 'look' then
    v_result := v_result || jsonb_build_object('instance', jsonb_build_object(
      'id', v_instance.id, 'external_id', btrim(v_instance.instance_id), 'token', v_instance.instance_token,
      'token_hash', encode(sha256(convert_to(v_instance.instance_token, 'UTF8')), 'hex'),
      'last_event_at', public.believed(v_health.last_event_at, p_now, p_policy.event_ahead)), 'now', p_now);
  end if;
  if (v_outcome, v_outcome in ('look', 'failed'), v_instance.id)
    is distinct from (v_event.outcome, v_event.processed_at is null, v_event.instance_id)
  then
    update public.wapi_webhook_events
    set instance_id = v_instance.id,  -- what came before may not have known it
        outcome = case when v_again and v_outcome = 'look' then 'look_again' else v_outcome end,
        processed_at = case when v_outcome not in ('look', 'failed') then p_now end
    where id = v_event.id;
  end if;
  if p_event.relay and p_event.relay_limit > 0 then
    v_result := v_result || jsonb_build_object(
      'relay', public.claim_relay(coalesce(p_event.external_id, ''), p_event.relay_limit, p_relay_turn, p_now));
  end if;
  return v_result;
end
$$;
comment on function public.receive_event is
  'Keeps an event once and gives it its effect. What has to be looked into comes back as outcome look, with the line; settle_events ends it.';

create or replace function public.be_patient_until(p_ends timestamptz)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  return pg_catalog.set_config(
    'lock_timeout', ceil(greatest(1, 1000 * extract(epoch from p_ends - clock_timestamp())))::text, true);
end
$$;
comment on function public.be_patient_until is 'Whoever waits for a lock in this transaction gives up (55P03) then; answers the time-out in milliseconds.';

create or replace function public.receive_events(
  p_events public.webhook_event[],
  p_texts jsonb,
  p_relay_turn interval,
  p_policy public.recovery_policy,
  p_patience interval default null,  -- for locks, of all together; null = as long as it takes
  p_now timestamptz default now()
)
returns jsonb
-- By an index even where a table has no statistics yet, as in claim_instances; all that it calls finds one line's rows.
language plpgsql volatile security invoker set search_path = '' set enable_seqscan = off
as $$
declare
  v_patience_ends constant timestamptz := clock_timestamp() + p_patience;
  v_next record;
  v_lock_timeout text;
  v_answers jsonb[];
begin
  for v_next in
    select e.place, e.instance, h as health
    from (
      select e.place, e.external_id, public.find_instance(e.external_id) as instance
      from unnest(p_events) with ordinality as e(
        event_key, external_id, event, kind, moment, phone, is_life, change, noise, body, relay, relay_limit, place)
      offset 0  -- found once, not once for the order and once for the row
    ) e
    left join public.instance_health h on h.instance_id = (e.instance).id
    order by (e.instance).id, e.external_id, e.place  -- lines in the order in which record_looks locks them
  loop
    if p_patience is not null then
      -- Whoever holds one line must not hold up the others; and this gives way before anybody looks for a deadlock.
      v_lock_timeout := public.be_patient_until(v_patience_ends);
    end if;
    v_answers[v_next.place] := public.receive_event(
      p_events[v_next.place], v_next.instance, v_next.health, p_texts, p_relay_turn, p_policy, p_now);
  end loop;
  return to_jsonb(v_answers);
end
$$;
comment on function public.receive_events is
  'receive_event for each, all or none, answered in their order. With p_patience they give up (55P03) when locks have taken so long.';

create or replace function public.keep_rejected(
  p_event_key text,
  p_external_id text,
  p_body text,
  p_reason text,
  p_per_hour integer,
  p_now timestamptz default now()
)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('keep_rejected', 0));
  insert into public.wapi_webhook_events (event_key, received_at, external_id, kind, body, outcome, processed_at)
  select p_event_key, p_now, p_external_id, 'rejected', p_body, p_reason, p_now
  where (
    select count(*) from public.wapi_webhook_events
    where kind = 'rejected' and received_at > p_now - interval '1 hour') < p_per_hour
  on conflict (event_key) do nothing;
  return found;
end
$$;
comment on function public.keep_rejected is 'A body that is no event, for an operator to see: once, and at most so many in an hour.';

create or replace function public.mass_begins_at(p_policy public.recovery_policy)
returns integer
language sql stable security invoker set search_path = ''
as $$
  -- The connected lines as the last run counted them: a sweep and the helpers that began with it share the fleet.
  select greatest(p_policy.mass_lines, ceil(p_policy.mass_share * coalesce(sum(r.looked_at_up), 0))::integer)
  from (
    select started_at from public.health_check_runs
    where finished_at is not null and looked_at_up > 0 order by started_at desc limit 1
  ) l
  join public.health_check_runs r on r.finished_at is not null
    and r.started_at > l.started_at - p_policy.runs_together and r.started_at <= l.started_at;
$$;
comment on function public.mass_begins_at is 'Disconnections of so many other lines at once are a mass.';

create or replace function public.settle_disconnection(
  p_event_id bigint,
  p_token_hash text,  -- of the token that was looked with; null = nobody looked
  p_observation text,
  p_cause text,
  p_looked_at timestamptz,
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_event public.wapi_webhook_events;
  v_instance public.wapi_instances;
  v_health public.instance_health;
  v_observation text := p_observation;
  v_moment timestamptz;
  v_why public.evidence;
  v_outcome text;
  v_others integer;
  v_down_from timestamptz;
  v_result jsonb := '{}';
begin
  select * into v_event from public.wapi_webhook_events where id = p_event_id for update;
  if v_event.processed_at is not null then
    return jsonb_build_object('outcome', 'duplicate', 'event_id', v_event.id, 'instance_id', v_event.instance_id);
  end if;
  v_moment := public.moment_of_disconnection(v_event, p_policy);
  -- A moment of long ago opens no outage of long ago.
  v_down_from := greatest(least(v_moment, v_event.received_at), v_event.received_at - p_policy.event_reach);
  select * into v_instance from public.wapi_instances where id = v_event.instance_id for no key update;

  -- Everything is judged again under the lock: the look took time.
  if v_instance.id is null then
    v_outcome := 'unknown_instance';
  else
    v_health := public.lock_health(v_instance.id);
    v_outcome := case
      when v_instance.is_active is false then 'paused'
      when btrim(v_instance.instance_id) is distinct from btrim(v_event.external_id) then 'overtaken'
      else public.judge_disconnection(v_instance, v_health, v_moment, v_event.received_at, p_policy, p_now)
    end;
  end if;
  if p_token_hash <> encode(sha256(convert_to(v_instance.instance_token, 'UTF8')), 'hex') then
    v_observation := 'UNKNOWN';  -- another token's answer says nothing
  end if;
  v_why := row('webhook', 'disconnect_event', v_observation, p_cause, v_event.id, null);
  if v_outcome is null and v_event.outcome = 'look_again' and v_observation in ('UNKNOWN', 'CLAIMED') then
    v_outcome := 'duplicate';  -- nothing shows that it is more than a late copy
  elsif v_outcome is null and v_observation = 'ALIVE' then
    v_outcome := 'denied';
    update public.instance_health
    set last_alive_at = greatest(public.believed(last_alive_at, p_now, p_policy.event_ahead), p_looked_at),
        alive_as = public.alive_as(v_instance)
    where instance_id = v_instance.id;
  elsif v_outcome is null and greatest(
      -- Facts that came while we looked; what a clock ahead of ours has written is none yet.
      public.believed(v_instance.connected_at, p_now, interval '0'), public.believed(v_health.last_event_at, p_now, interval '0'),
      public.believed(v_health.last_alive_at, p_now, interval '0')) > p_looked_at then
    v_outcome := 'overtaken';
  end if;

  if v_outcome is not null then
    if v_instance.id is not null and v_outcome <> 'duplicate' then
      v_why.reason := v_outcome;
      perform public.record_event(
        v_instance, case v_outcome when 'denied' then 'disconnection_denied' else 'disconnection_ignored' end, v_why,
        p_now => p_now);
    end if;
  else
    -- Many lines at once, whatever the look says: that is the provider. The sweep, with its brake, decides.
    select count(distinct e.instance_id) into v_others
    from public.wapi_webhook_events e
    where e.kind = 'disconnection' and e.instance_id is not null and e.instance_id <> v_instance.id
      and e.received_at between v_event.received_at - p_policy.mass_within and v_event.received_at + p_policy.mass_within;
    if v_others >= p_policy.mass_lines and v_others >= public.mass_begins_at(p_policy) then
      if coalesce(v_instance.status, '') in ('connected', 'degraded') then
        v_outcome := 'degraded';
        v_result := public.take_instance_down(
          v_instance, v_health, 'degraded', v_down_from, v_down_from, 'webhook', null, p_texts, v_why, p_policy, p_now);
      else
        v_outcome := 'left_to_sweep';
      end if;
    else
      v_outcome := 'disconnected';
      v_result := public.take_instance_down(
        v_instance, v_health, 'disconnected', v_down_from, v_down_from, 'webhook', 'disconnected', p_texts, v_why, p_policy,
        p_now);
    end if;
  end if;

  update public.wapi_webhook_events set outcome = v_outcome, processed_at = p_now where id = v_event.id;
  return v_result || jsonb_build_object('outcome', v_outcome, 'event_id', v_event.id, 'instance_id', v_event.instance_id);
end
$$;
comment on function public.settle_disconnection is
  'Ends a disconnection with what one look showed: ALIVE denies it, anything else believes it, in a mass of them any other look only degrades.';

create or replace function public.settle_connection(
  p_event_id bigint,
  p_token_hash text,
  p_observation text,
  p_cause text,
  p_looked_at timestamptz,
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_event public.wapi_webhook_events;
  v_instance public.wapi_instances;
  v_why public.evidence;
  v_outcome text;
  v_result jsonb := '{}';
begin
  select * into v_event from public.wapi_webhook_events where id = p_event_id for update;
  if v_event.processed_at is not null then
    return jsonb_build_object('outcome', 'duplicate', 'event_id', v_event.id, 'instance_id', v_event.instance_id);
  end if;
  select * into v_instance from public.wapi_instances where id = v_event.instance_id for no key update;
  v_outcome := case
    when v_instance.id is null then 'unknown_instance'
    when v_instance.is_active is false then 'paused'
    when btrim(v_instance.instance_id) is distinct from btrim(v_event.external_id) then 'overtaken'
    when p_observation <> 'ALIVE'
      or p_token_hash is distinct from encode(sha256(convert_to(v_instance.instance_token, 'UTF8')), 'hex') then 'no_phone'
  end;
  if v_outcome is null then
    perform public.lock_health(v_instance.id);
    v_outcome := case
      when not public.is_down(v_instance) then 'alive'
      when exists (
        select from public.instance_outages o
        where o.instance_id = v_instance.id and o.closed_at is null and o.life_counts_from > p_looked_at) then 'overtaken'
      else 'restored' end;
    if v_outcome <> 'overtaken' then
      update public.instance_health
      set last_alive_at = greatest(public.believed(last_alive_at, p_now, p_policy.event_ahead), p_looked_at),
          alive_as = public.alive_as(v_instance)
      where instance_id = v_instance.id;
    end if;
    if v_outcome = 'restored' then
      v_why := row('webhook', 'alive', p_observation, p_cause, v_event.id, null);
      v_result := public.bring_instance_back(v_instance, p_looked_at, 'alive', p_texts, v_why, p_policy, p_now);
    end if;
  end if;
  update public.wapi_webhook_events set outcome = v_outcome, processed_at = p_now where id = v_event.id;
  return v_result || jsonb_build_object('outcome', v_outcome, 'event_id', v_event.id, 'instance_id', v_event.instance_id);
end
$$;
comment on function public.settle_connection is
  'Ends a connection that does not say whose, or that came before, with what one look showed: only ALIVE restores.';

create or replace function public.settle_events(
  p_settlements public.settlement[],
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_patience interval default null,  -- for locks, of all together; null = as long as it takes
  p_now timestamptz default now()
)
returns jsonb
-- By an index even where a table has no statistics yet, as in claim_instances; all that it calls finds one line's rows.
language plpgsql volatile security invoker set search_path = '' set enable_seqscan = off
as $$
declare
  v_patience_ends constant timestamptz := clock_timestamp() + p_patience;
  v_next record;
  v_lock_timeout text;
  v_answers jsonb[];
begin
  for v_next in
    select s.place, s.event_id, s.token_hash, s.observation, s.cause, s.looked_at, e.kind
    from unnest(p_settlements) with ordinality as s(event_id, token_hash, observation, cause, looked_at, place)
    left join public.wapi_webhook_events e on e.id = s.event_id
    order by e.instance_id, s.place  -- lines in the order in which record_looks locks them
  loop
    if p_patience is not null then
      v_lock_timeout := public.be_patient_until(v_patience_ends);
    end if;
    v_answers[v_next.place] := case v_next.kind
      when 'connection' then public.settle_connection(
        v_next.event_id, v_next.token_hash, v_next.observation, v_next.cause, v_next.looked_at, p_texts, p_policy, p_now)
      else public.settle_disconnection(
        v_next.event_id, v_next.token_hash, v_next.observation, v_next.cause, v_next.looked_at, p_texts, p_policy, p_now)
    end;
  end loop;
  return to_jsonb(v_answers);
end
$$;
comment on function public.settle_events is
  'settle_connection or settle_disconnection for each, all or none, answered in their order. With p_patience they give up (55P03) when locks have taken so long.';

do $$
begin
  perform public.keep_for_service(
    'moment_of_event', 'is_clock_late', 'moment_of_disconnection', 'find_late_clock', 'alive_as', 'find_instance', 'has_open_outage', 'is_down',
    'is_left_alone', 'judge_disconnection', 'is_old_life', 'restore_by_event', 'is_news', 'is_fact_again', 'receive_event', 'be_patient_until', 'receive_events', 'keep_rejected',
    'mass_begins_at', 'settle_disconnection', 'settle_connection', 'settle_events');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100500') on conflict do nothing;
