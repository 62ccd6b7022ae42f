-- Purpose: what wapi_webhook asks of the database: keep an event once, and let connection events have their effect.
-- Touches: wapi_webhook_events, wapi_instances, instance_health and, through the outage functions, outages, audit and
-- notices. Called by: shared/database/store.py

set local lock_timeout = '5s';

create or replace function public.moment_of_event(
  p_moment timestamptz, p_received_at timestamptz, p_ahead interval
)
returns timestamptz
language sql immutable security invoker set search_path = ''
as $$
  -- None, or a clock too far ahead: the time of arrival is the better guess.
  select case when p_moment is null or p_moment > p_received_at + p_ahead then p_received_at else p_moment end;
$$;
comment on function public.moment_of_event is 'When an event happened, as far as its moment can be believed.';

create or replace function public.find_instance(p_external_id text)
returns public.wapi_instances
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_instance public.wapi_instances;
begin
  if coalesce(btrim(p_external_id), '') = '' then
    return null;
  end if;
  select * into v_instance from public.wapi_instances
  where btrim(instance_id) = btrim(p_external_id) and btrim(instance_id) <> '' and is_active is not false
    and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';
  if found then
    return v_instance;
  end if;
  select (array_agg(i))[1].* into v_instance from public.wapi_instances i
  where btrim(i.instance_id) = btrim(p_external_id) and i.is_active is false
    and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
  having count(*) = 1;
  return v_instance;
end
$$;
comment on function public.find_instance is
  'The row of an external id: the active one (one by unique index), else a paused one if it is the only one.';

create or replace function public.judge_disconnection(
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_moment timestamptz,
  p_received_at timestamptz,
  p_policy public.recovery_policy,
  p_now timestamptz
)
returns text
language sql stable security invoker set search_path = ''
as $$
  select case
    when p_moment < public.last_life(p_instance, p_health, p_now, p_policy) - p_policy.stale_after then 'stale'
    -- Our own restart may send it; whoever restarted decides. Moments are whole seconds of another clock.
    when p_received_at between p_health.last_restart_at and p_health.last_restart_at + p_policy.restart_quiet
      or p_moment between p_health.last_restart_at - interval '1 second' and p_health.last_restart_at + p_policy.restart_quiet
      then 'own_restart'
    when coalesce(p_instance.status, '') not in ('connected', 'degraded') and exists (
        select from public.instance_outages o
        where o.instance_id = p_instance.id and o.closed_at is null and (o.told_at is not null or o.opened_by = 'adoption'))
      then 'already_disconnected'
  end;
$$;
comment on function public.judge_disconnection is 'Why a disconnection has no effect; null = it has to be looked into.';

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
  v_dead_from timestamptz;
  v_result jsonb := jsonb_build_object('outcome', 'alive');
begin
  if p_phone is null then
    return jsonb_build_object('outcome', 'no_phone');
  end if;
  select o.life_counts_from into v_dead_from from public.instance_outages o
  where o.instance_id = p_instance.id and o.closed_at is null;
  if p_moment < coalesce(v_dead_from, p_health.bad_since)
    or p_moment < public.last_life(p_instance, p_health, p_now, p_policy) - p_policy.stale_after
  then
    return jsonb_build_object('outcome', 'stale');
  end if;

  if p_instance.status is distinct from 'connected' or v_dead_from is not null then
    v_result := public.bring_instance_back(p_instance, v_at, 'event', p_texts, p_why, p_policy, p_now)
      || jsonb_build_object('outcome', 'restored');
  end if;
  if p_instance.phone_number is distinct from p_phone and coalesce(p_moment >= p_health.last_event_at, true) then
    if p_instance.phone_number <> '' then
      perform public.record_event(
        p_instance, 'phone_changed', p_why, null, null,
        jsonb_build_object('from_last4', right(p_instance.phone_number, 4), 'to_last4', right(p_phone, 4)), p_now
      );
    end if;
    update public.wapi_instances set phone_number = p_phone where id = p_instance.id;
  end if;
  -- Once in a while: a busy line is not a hot row. But a restored line always knows since when, and a sweep that is at this
  -- line must learn of the life that its look has not seen.
  update public.instance_health
  set last_event_at = greatest(last_event_at, v_at), bad_since = null, unknown_since = null
  where instance_id = p_instance.id
    and (last_event_at is null or last_event_at <= v_at - p_policy.life_kept_each or bad_since is not null
         or v_result ->> 'outcome' = 'restored' or health_lease_until > p_now
         or p_instance.phone_number is distinct from p_phone);
  return v_result;
end
$$;
comment on function public.restore_by_event is 'A sign of life of a line: restores it when it was down, stores phone and moment.';

create or replace function public.is_news(
  p_instance public.wapi_instances, p_health public.instance_health, p_at timestamptz, p_phone text,
  p_policy public.recovery_policy
)
returns boolean
language sql stable security invoker set search_path = ''
as $$
  select p_phone is not null and (
    p_instance.status is distinct from 'connected'
    or p_instance.phone_number is distinct from p_phone
    or p_health.bad_since is not null
    or p_health.last_event_at is null
    or p_health.last_event_at <= p_at - p_policy.life_kept_each
    or p_health.health_lease_until is not null and p_health.last_event_at < p_at
    or exists (select from public.instance_outages o where o.instance_id = p_instance.id and o.closed_at is null));
$$;
comment on function public.is_news is 'Whether a sign of life changes anything that is stored of the line.';

create or replace function public.receive_event(
  p_event public.webhook_event,
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
  v_instance public.wapi_instances := public.find_instance(p_event.external_id);
  v_health public.instance_health;
  v_moment timestamptz;
  v_why public.evidence;
  v_result jsonb := '{}';
begin
  insert into public.wapi_webhook_events (event_key, received_at, external_id, instance_id, event, kind, moment, body, relay)
  values (
    p_event.event_key, p_now, p_event.external_id, v_instance.id, p_event.event, p_event.kind, p_event.moment, p_event.body,
    case when p_event.relay then 'pending' end)
  on conflict (event_key) do nothing
  returning * into v_event;
  if not found then
    -- Came before. Done then? Nothing more to do. Cut off then? Go on where it stopped.
    select * into v_event from public.wapi_webhook_events where event_key = p_event.event_key for update;
    if v_event.processed_at is not null then
      return jsonb_build_object('outcome', 'duplicate', 'event_id', v_event.id, 'instance_id', v_event.instance_id);
    end if;
  end if;
  v_moment := public.moment_of_event(v_event.moment, v_event.received_at, p_policy.event_ahead);
  v_why := row('webhook', 'event', null, p_event.kind, v_event.id, null);

  if v_instance.id is not null then
    select * into v_health from public.instance_health where instance_id = v_instance.id;
  end if;
  -- The line's rows first, and only when something in them is to change: a busy line is not a hot row.
  if v_instance.id is not null and v_instance.is_active is not false
    and (p_event.kind = 'disconnection'
      or p_event.is_life and public.is_news(v_instance, v_health, least(v_moment, p_now), p_event.phone, p_policy)) then
    select * into v_instance from public.wapi_instances where id = v_instance.id for no key update;
    if v_instance.id is not null then
      v_health := public.lock_health(v_instance.id);
      if p_event.is_life and v_instance.is_active is not false then
        v_result := public.restore_by_event(v_instance, v_health, v_moment, p_event.phone, p_texts, v_why, p_policy, p_now);
      end if;
    end if;
  end if;

  if v_instance.id is null then
    v_result := jsonb_build_object('outcome', 'unknown_instance');
  elsif p_event.kind in ('disconnection', 'connection') and v_instance.is_active is false then
    v_result := jsonb_build_object('outcome', 'paused');
  elsif p_event.kind = 'connection' then
    v_result := jsonb_build_object('outcome', case when p_event.phone is null then 'no_phone' else 'alive' end) || v_result;
  elsif p_event.kind = 'disconnection' then
    v_result := jsonb_build_object('outcome', coalesce(
      public.judge_disconnection(v_instance, v_health, v_moment, v_event.received_at, p_policy, p_now), 'look'));
    if v_result ->> 'outcome' = 'look' then
      v_result := v_result || jsonb_build_object('instance', jsonb_build_object(
        'id', v_instance.id, 'external_id', btrim(v_instance.instance_id), 'token', v_instance.instance_token,
        'last_event_at', v_health.last_event_at), 'now', p_now);
    else
      v_why.reason := v_result ->> 'outcome';
      perform public.record_event(v_instance, 'disconnection_ignored', v_why, p_now => p_now);
    end if;
  else
    v_result := v_result || jsonb_build_object('life', v_result ->> 'outcome');
    begin
      v_result := v_result || jsonb_build_object('outcome', case
        when p_event.change is null then coalesce(p_event.noise, 'kept')
        when p_event.change ->> 'do' = 'store' then public.store_message(v_instance, p_event.change, v_moment, p_policy.event_ahead)
        else public.change_or_wait(v_event.id, v_instance, p_event.change, v_moment, p_policy.event_ahead) end);
    exception when others then
      -- The platform's tables refuse this message (a rule of theirs, a row that has just gone). The event is kept, not
      -- processed: the same event again tries again. What passes by itself is tried again by the caller.
      if sqlstate in ('40001', '40P01', '55P03') or left(sqlstate, 2) in ('53', '57', '58') then
        raise;
      end if;
      v_result := v_result || jsonb_build_object('outcome', 'failed', 'code', sqlstate);
    end;
  end if;

  update public.wapi_webhook_events
  set instance_id = v_instance.id,  -- what came before may not have known it
      outcome = v_result ->> 'outcome',
      processed_at = case when v_result ->> 'outcome' not in ('look', 'failed') then p_now end
  where id = v_event.id;
  if p_event.relay and p_event.relay_limit > 0 then
    v_result := v_result || jsonb_build_object(
      'relay', public.claim_relay(coalesce(p_event.external_id, ''), p_event.relay_limit, p_relay_turn, p_now));
  end if;
  return v_result || jsonb_build_object('event_id', v_event.id, 'instance_id', v_instance.id);
end
$$;
comment on function public.receive_event is
  'Keeps an event once and gives it its effect. A disconnection that has to be looked into comes back as outcome look, with the line; settle_disconnection ends it.';

create or replace function public.receive_events(
  p_events public.webhook_event[],
  p_texts jsonb,
  p_relay_turn interval,
  p_policy public.recovery_policy,
  p_patience interval default null,  -- for locks, of all together; null = as long as it takes
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_patience_ends constant timestamptz := clock_timestamp() + p_patience;
  v_place bigint;
  v_answers jsonb[];
begin
  for v_place in
    select e.place
    from unnest(p_events) with ordinality as e(
      event_key, external_id, event, kind, moment, phone, is_life, change, noise, body, relay, relay_limit, place)
    order by (  -- lines in the order in which record_looks locks them
      select i.id from public.wapi_instances i
      where btrim(i.instance_id) = btrim(e.external_id) and btrim(i.instance_id) <> '' and i.is_active is not false
        and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'), e.external_id, e.place
  loop
    if p_patience is not null then
      -- Whoever holds one line must not hold up the others; and this gives way before anybody looks for a deadlock.
      perform pg_catalog.set_config(
        'lock_timeout', ceil(greatest(1, 1000 * extract(epoch from v_patience_ends - clock_timestamp())))::text, true);
    end if;
    v_answers[v_place] := public.receive_event(p_events[v_place], p_texts, p_relay_turn, p_policy, p_now);
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

create or replace function public.settle_disconnection(
  p_event_id bigint,
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
  v_why := row('webhook', 'disconnect_event', p_observation, p_cause, v_event.id, null);
  v_moment := public.moment_of_event(v_event.moment, v_event.received_at, p_policy.event_ahead);
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
      else public.judge_disconnection(v_instance, v_health, v_moment, v_event.received_at, p_policy, p_now)
    end;
  end if;
  if v_outcome is null and p_observation = 'ALIVE' then
    v_outcome := 'denied';
    update public.instance_health set last_alive_at = greatest(last_alive_at, p_looked_at) where instance_id = v_instance.id;
  elsif v_outcome is null
    and public.last_life(v_instance, v_health, p_now, p_policy) > p_looked_at then
    v_outcome := 'overtaken';
  end if;

  if v_outcome is not null then
    if v_instance.id is not null then
      v_why.reason := v_outcome;
      perform public.record_event(
        v_instance, case v_outcome when 'denied' then 'disconnection_denied' else 'disconnection_ignored' end, v_why,
        p_now => p_now);
    end if;
  else
    -- Many lines at once and a look that says nothing for certain (no answer, or a verdict that needs a second look):
    -- that is the provider. The sweep decides.
    select count(distinct e.instance_id) into v_others
    from public.wapi_webhook_events e
    where e.kind = 'disconnection' and e.instance_id is not null and e.instance_id <> v_instance.id
      and e.received_at between v_event.received_at - p_policy.mass_within and v_event.received_at + p_policy.mass_within;
    if p_observation <> 'DISCONNECTED' and v_others >= p_policy.mass_lines then
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
  'Ends a disconnection with what one look showed: ALIVE denies it, anything else believes it, a blind look in a mass of them only degrades.';

do $$
begin
  perform public.keep_for_service(
    'moment_of_event', 'find_instance', 'judge_disconnection', 'restore_by_event', 'is_news', 'receive_event',
    'receive_events', 'keep_rejected', 'settle_disconnection');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100500') on conflict do nothing;
