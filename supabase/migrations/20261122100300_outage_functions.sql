-- Purpose: the one way a line goes down and the one way it comes back: status, outage, audit event and bells together.
-- Touches: wapi_instances, instance_outages, instance_events, notifications. Called by: the sweep's and the webhook's functions.
--
-- Callers hold the instance's row lock (select … for no key update: a message being stored holds a key share on its line, and
-- neither shall wait for the other or be skipped by a claim) before they call in; locks are taken in the order
-- inbox, instance, outage, notifications.

set local lock_timeout = '5s';

create or replace function public.record_event(
  p_instance public.wapi_instances,
  p_kind text,
  p_source text,
  p_to_status text default null,
  p_reason text default null,
  p_outage uuid default null,
  p_run uuid default null,
  p_details jsonb default '{}',
  p_now timestamptz default now()
)
returns void
language sql volatile security invoker set search_path = ''
as $$
  insert into public.instance_events
    (at, instance_id, external_id, company_id, unit, kind, source, from_status, to_status, reason, outage_id, run_id, details)
  values
    (p_now, p_instance.id, p_instance.instance_id, p_instance.company_id, p_instance.unit, p_kind, p_source,
     p_instance.status, coalesce(p_to_status, p_instance.status), p_reason, p_outage, p_run, p_details);
$$;
comment on function public.record_event is 'Writes one line of the audit.';

create or replace function public.knows_life_since(p_instance public.wapi_instances, p_looked_at timestamptz)
returns boolean
language sql stable security invoker set search_path = ''
as $$
  -- An event's moment is a whole second of another clock: within five seconds it may have come after the look began.
  select coalesce(greatest(p_instance.last_alive_at, p_instance.connected_at) > p_looked_at, false)
    or coalesce(p_instance.last_event_at >= p_looked_at - interval '5 seconds', false);
$$;
comment on function public.knows_life_since is 'Whether a sign of life is stored that a look begun then has not seen.';

create or replace function public.open_outage(
  p_instance public.wapi_instances,
  p_started_at timestamptz,
  p_life_counts_from timestamptz,
  p_reason text,
  p_source text,
  p_run uuid default null,
  p_now timestamptz default now()
)
returns public.instance_outages
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_outage public.instance_outages;
begin
  select * into v_outage from public.instance_outages where instance_id = p_instance.id and closed_at is null for update;
  if found then
    return v_outage;
  end if;

  -- Dead again within 30 minutes of a cure that nobody heard of: the same outage, not a new one.
  update public.instance_outages o
  set closed_at = null, closed_as = null, life_counts_from = p_life_counts_from
  where o.id = (
      select l.id from public.instance_outages l where l.instance_id = p_instance.id order by l.closed_at desc limit 1
    )
    and o.closed_as = 'recovered' and o.told_at is null and o.closed_at > p_now - interval '30 minutes'
  returning * into v_outage;
  if found then
    perform public.record_event(p_instance, 'outage_reopened', p_source, null, p_reason, v_outage.id, p_run, '{}', p_now);
    return v_outage;
  end if;

  insert into public.instance_outages
    (instance_id, external_id, company_id, unit, started_at, opened_at, life_counts_from, opened_by, reason)
  values
    (p_instance.id, p_instance.instance_id, p_instance.company_id, p_instance.unit, p_started_at, p_now,
     p_life_counts_from, p_source, p_reason)
  returning * into v_outage;
  perform public.record_event(p_instance, 'outage_opened', p_source, null, p_reason, v_outage.id, p_run, '{}', p_now);
  return v_outage;
end
$$;
comment on function public.open_outage is 'The open outage of a line: the one there is, a silent cure of the last 30 min reopened, or a new one.';

create or replace function public.render_downtime(p_down interval, p_words jsonb)
returns text
language sql immutable security invoker set search_path = ''
as $$
  with parts as (
    select floor(extract(epoch from p_down) / 60)::bigint as minutes
  )
  select case
    when minutes < 1 then p_words ->> 'under_a_minute'
    when minutes < 60 then replace(p_words ->> 'minutes', '{minutes}', minutes::text)
    when minutes < 1440 and minutes % 60 = 0 then replace(p_words ->> 'hours', '{hours}', (minutes / 60)::text)
    when minutes < 1440 then
      replace(replace(p_words ->> 'hours_and_minutes', '{hours}', (minutes / 60)::text), '{minutes}', (minutes % 60)::text)
    when minutes < 2880 then p_words ->> 'one_day'
    else replace(p_words ->> 'days', '{days}', (minutes / 1440)::text)
  end
  from parts;
$$;
comment on function public.render_downtime is 'How long a line was down, in the words that the caller brings.';

-- The texts live in one Python module and arrive in p_texts; here they are only filled in.
create or replace function public.notify_users(
  p_outage public.instance_outages,
  p_text text,
  p_texts jsonb,
  p_reason text,
  p_now timestamptz default now()
)
returns integer
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_text jsonb := p_texts -> p_text;
  v_type text := v_text ->> 'type';
  v_back constant boolean := v_type = 'instance_reconnected';
  v_name text := coalesce(nullif(btrim(p_outage.unit), ''), p_outage.external_id, '');
  v_down interval := p_now - p_outage.started_at;
  v_told integer;
begin
  if v_type is null or v_text ->> 'message' is null then
    raise exception 'notify_users: no text for %', p_text using errcode = 'invalid_parameter_value';
  end if;
  insert into public.notifications (user_id, company_id, type, title, message, data, outage_id, created_at)
  select distinct m.user_id, p_outage.company_id, v_type, v_text ->> 'title',
    -- The unit's name last: nothing inside it is a placeholder.
    replace(
      replace(v_text ->> 'message', '{downtime}', public.render_downtime(v_down, p_texts -> 'downtime')),
      '{unit}', v_name
    ),
    jsonb_build_object(
      'instance_id', p_outage.instance_id, 'instance_name', v_name, 'outage_id', p_outage.id,
      'reason', p_reason, 'action', v_text -> 'action', 'down_since', p_outage.started_at
    ) || case when v_back
      then jsonb_build_object('down_seconds', greatest(0, floor(extract(epoch from v_down)))::bigint)
      else '{}'::jsonb end,
    p_outage.id, p_now
  from public.user_companies m
  where m.company_id = p_outage.company_id and m.user_id is not null
    and (not v_back or exists (
      select from public.notifications n
      where n.outage_id = p_outage.id and n.user_id = m.user_id and n.type = 'instance_disconnected'
    ))
  on conflict (outage_id, user_id, type) where outage_id is not null do nothing;
  get diagnostics v_told = row_count;
  return v_told;
end
$$;
comment on function public.notify_users is
  'Rings the bell of every direct user of the outage''s company (back again: of those who were told and still belong). Returns how many.';

create or replace function public.take_instance_down(
  p_instance public.wapi_instances,
  p_to text,
  p_started_at timestamptz,
  p_life_counts_from timestamptz,
  p_reason text,
  p_source text,
  p_text text,
  p_texts jsonb,
  p_run uuid default null,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_outage public.instance_outages;
  v_told integer;
begin
  v_outage := public.open_outage(p_instance, p_started_at, p_life_counts_from, p_reason, p_source, p_run, p_now);
  if p_text is not null and v_outage.told_at is null then
    -- The line may have moved since the outage opened in silence: who is told are its people of today.
    update public.instance_outages
    set company_id = p_instance.company_id, unit = p_instance.unit, external_id = p_instance.instance_id
    where id = v_outage.id
    returning * into v_outage;
    v_told := public.notify_users(v_outage, p_text, p_texts, p_reason, p_now);
    update public.instance_outages set told_at = p_now where id = v_outage.id;
  end if;
  update public.wapi_instances
  set status = p_to,
      status_reason = p_reason,
      degraded_since = case when p_to = 'degraded' then coalesce(degraded_since, p_now) end,
      bad_since = coalesce(bad_since, p_started_at)
  where id = p_instance.id;
  if p_instance.status is distinct from p_to or v_told is not null then
    perform public.record_event(
      p_instance, case when p_instance.status is distinct from p_to then 'status_changed' else 'users_told' end,
      p_source, p_to, p_reason, v_outage.id, p_run, jsonb_build_object('told', v_told), p_now
    );
  end if;
  return jsonb_build_object('outage_id', v_outage.id, 'told', v_told, 'from', p_instance.status, 'to', p_to);
end
$$;
comment on function public.take_instance_down is
  'Degraded or disconnected: status, outage, audit and (p_text not null, not told yet) bells. told is null when no bell was due.';

create or replace function public.bring_instance_back(
  p_instance public.wapi_instances,
  p_alive_at timestamptz,
  p_closed_as text,
  p_source text,
  p_texts jsonb,
  p_run uuid default null,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_outage public.instance_outages;
  v_told integer;
begin
  update public.instance_outages
  set closed_at = greatest(p_now, started_at), closed_as = p_closed_as
  where instance_id = p_instance.id and closed_at is null
  returning * into v_outage;
  if v_outage.told_at is not null then
    v_told := public.notify_users(v_outage, 'reconnected', p_texts, p_closed_as, p_now);
  end if;
  update public.wapi_instances
  set status = 'connected',
      status_reason = null,
      connected_at = case
        when status is distinct from 'connected' then greatest(connected_at, least(p_alive_at, p_now)) else connected_at end,
      degraded_since = null,
      bad_since = null,
      unknown_looks = 0
  where id = p_instance.id;
  if p_instance.status is distinct from 'connected' or v_outage.id is not null then
    perform public.record_event(
      p_instance, case when p_instance.status is distinct from 'connected' then 'status_changed' else 'outage_closed' end,
      p_source, 'connected', p_closed_as, v_outage.id, p_run,
      jsonb_build_object('told', v_told), p_now
    );
  end if;
  return jsonb_build_object(
    'outage_id', v_outage.id, 'told', v_told, 'from', p_instance.status, 'to', 'connected',
    'down_seconds', floor(extract(epoch from p_now - v_outage.started_at))
  );
end
$$;
comment on function public.bring_instance_back is
  'Connected again: closes the open outage and tells those who had been told. told is null when nobody had been.';

-- security definer, because the platform's own screens pause and delete lines as their users, who may not write outages.
-- It can touch nothing but the outage of the very row that the platform let them change.
create or replace function public.close_outage_of_gone_instance()
returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.instance_outages
  set closed_at = greatest(now(), started_at), closed_as = case tg_op when 'DELETE' then 'deleted' else 'paused' end
  where instance_id = old.id and closed_at is null;
  if tg_op = 'DELETE' then
    return old;
  end if;
  new.health_lease_until := null;
  new.degraded_since := null;
  new.bad_since := null;
  new.unknown_looks := 0;
  return new;
end
$$;
comment on function public.close_outage_of_gone_instance is
  'Pausing or deleting a line closes its outage at once. security definer: users of the platform may pause, not write outages.';

create or replace trigger close_outage_when_paused
  before update of is_active on public.wapi_instances
  for each row when (old.is_active is not false and new.is_active is false)
  execute function public.close_outage_of_gone_instance();

create or replace trigger close_outage_when_deleted
  before delete on public.wapi_instances
  for each row execute function public.close_outage_of_gone_instance();

revoke execute on function public.record_event(public.wapi_instances, text, text, text, text, uuid, uuid, jsonb, timestamptz) from public, anon, authenticated;
revoke execute on function public.knows_life_since(public.wapi_instances, timestamptz) from public, anon, authenticated;
revoke execute on function public.open_outage(public.wapi_instances, timestamptz, timestamptz, text, text, uuid, timestamptz) from public, anon, authenticated;
revoke execute on function public.render_downtime(interval, jsonb) from public, anon, authenticated;
revoke execute on function public.notify_users(public.instance_outages, text, jsonb, text, timestamptz) from public, anon, authenticated;
revoke execute on function public.take_instance_down(public.wapi_instances, text, timestamptz, timestamptz, text, text, text, jsonb, uuid, timestamptz) from public, anon, authenticated;
revoke execute on function public.bring_instance_back(public.wapi_instances, timestamptz, text, text, jsonb, uuid, timestamptz) from public, anon, authenticated;
revoke execute on function public.close_outage_of_gone_instance() from public, anon, authenticated;
grant execute on function public.record_event(public.wapi_instances, text, text, text, text, uuid, uuid, jsonb, timestamptz) to service_role;
grant execute on function public.knows_life_since(public.wapi_instances, timestamptz) to service_role;
grant execute on function public.open_outage(public.wapi_instances, timestamptz, timestamptz, text, text, uuid, timestamptz) to service_role;
grant execute on function public.render_downtime(interval, jsonb) to service_role;
grant execute on function public.notify_users(public.instance_outages, text, jsonb, text, timestamptz) to service_role;
grant execute on function public.take_instance_down(public.wapi_instances, text, timestamptz, timestamptz, text, text, text, jsonb, uuid, timestamptz) to service_role;
grant execute on function public.bring_instance_back(public.wapi_instances, timestamptz, text, text, jsonb, uuid, timestamptz) to service_role;
