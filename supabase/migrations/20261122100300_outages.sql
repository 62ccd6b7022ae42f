-- Purpose: the one way a line goes down and the one way it comes back: status, outage, audit event and notices together.
-- Touches: wapi_instances (status; a trigger on pausing), instance_health, instance_outages, instance_events, notices,
-- notifications. Called by: the sweep's and the webhook's functions.
--
-- Callers hold the line before they call in: its row in wapi_instances (for no key update: a message being stored holds a
-- key share on its line, and neither shall wait for the other or be skipped by a claim), then its row in instance_health.
-- Locks are taken in the order inbox, instance, health, restart claim, outage, notices.

set local lock_timeout = '5s';

create or replace function public.lock_health(p_instance uuid)
returns public.instance_health
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_health public.instance_health;
begin
  select * into v_health from public.instance_health where instance_id = p_instance for no key update;
  if not found then
    insert into public.instance_health (instance_id) values (p_instance) on conflict do nothing;
    select * into v_health from public.instance_health where instance_id = p_instance for no key update;
  end if;
  return v_health;
end
$$;
comment on function public.lock_health is 'Our bookkeeping of a line, locked; made with its defaults if there was none.';

create or replace function public.record_event(
  p_instance public.wapi_instances,
  p_kind text,
  p_why public.evidence,
  p_to_status text default null,
  p_outage uuid default null,
  p_details jsonb default '{}',
  p_now timestamptz default now()
)
returns bigint
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_id bigint;
begin
  insert into public.instance_events
    (at, instance_id, external_id, company_id, unit, kind, source, from_status, to_status, reason, outage_id, run_id, details)
  values
    (p_now, p_instance.id, btrim(p_instance.instance_id), p_instance.company_id, p_instance.unit, p_kind, p_why.source,
     p_instance.status, coalesce(p_to_status, p_instance.status), p_why.reason, p_outage, p_why.run_id,
     p_details || jsonb_strip_nulls(jsonb_build_object(
       'observation', p_why.observation, 'cause', p_why.cause, 'event_id', p_why.event_id)))
  returning id into v_id;
  return v_id;
end
$$;
comment on function public.record_event is 'Writes one line of the audit, with its why; returns its id.';

create or replace function public.believed(p_at timestamptz, p_now timestamptz, p_ahead interval)
returns timestamptz
language plpgsql immutable security invoker set search_path = ''
as $$
begin
  -- Screens write a browser's clock: a little ahead of ours is now, further ahead (also infinity) is nothing, and so is a
  -- moment before our era.
  return case
    when p_at < timestamptz '0001-01-02' then null when p_at <= p_now then p_at when p_at <= p_now + p_ahead then p_now end;
end
$$;
comment on function public.believed is 'A moment that somebody else wrote, as far as it can be believed.';

create or replace function public.last_life(
  p_instance public.wapi_instances, p_health public.instance_health, p_now timestamptz, p_policy public.recovery_policy
)
returns timestamptz
language plpgsql stable security invoker set search_path = ''
as $$
begin
  -- Never created_at, updated_at or last_health_check: they prove no life.
  return greatest(
    public.believed(p_instance.connected_at, p_now, p_policy.event_ahead),
    public.believed(p_health.last_event_at, p_now, p_policy.event_ahead),
    public.believed(p_health.last_alive_at, p_now, p_policy.event_ahead));
end
$$;
comment on function public.last_life is 'The last sign of life of a line that is stored.';

create or replace function public.knows_life_since(
  p_instance public.wapi_instances, p_health public.instance_health, p_looked_at timestamptz, p_policy public.recovery_policy,
  p_now timestamptz
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  -- An event's moment is a whole second of another clock: within the slack it may have come after the look began.
  return coalesce(public.last_life(p_instance, p_health, p_now, p_policy) > p_looked_at, false)
    or coalesce(
      public.believed(p_health.last_event_at, p_now, p_policy.event_ahead) >= p_looked_at - p_policy.event_slack, false);
end
$$;
comment on function public.knows_life_since is 'Whether a sign of life is stored that a look begun then has not seen.';

create or replace function public.is_refusal(p_sqlstate text)
returns boolean
language sql immutable security invoker set search_path = ''
as $$
  -- Rolled back, out of resources, locked, in use, ended by an operator, a broken system: the whole call is to be made
  -- again. Not all of class 55: a trigger that raises 55000 raises it next time, too.
  select left(p_sqlstate, 2) not in ('40', '53', '57', '58') and p_sqlstate not in ('55P03', '55006');
$$;
comment on function public.is_refusal is 'Whether an error is a rule''s, and not a moment''s.';

create or replace function public.write_phone(
  p_instance public.wapi_instances, p_phone text, p_why public.evidence, p_now timestamptz
)
returns void
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
begin
  if p_instance.phone_number <> '' then
    perform public.record_event(
      p_instance, 'phone_changed', p_why, null, null,
      jsonb_build_object('from_last4', right(p_instance.phone_number, 4), 'to_last4', right(p_phone, 4)), p_now);
  end if;
  update public.wapi_instances set phone_number = p_phone where id = p_instance.id;
  set constraints all immediate;  -- a rule that is deferred objects here, where somebody listens
exception when others then
  -- Another row has the number, or a rule of the platform's does not like it: no line stays down for that.
  if not public.is_refusal(sqlstate) then
    raise;
  end if;
end
$$;
comment on function public.write_phone is
  'Writes a line''s number, if the platform''s table takes it; the audit says when it was another. Callers hold the line.';

create or replace function public.open_outage(
  p_instance public.wapi_instances,
  p_started_at timestamptz,
  p_life_counts_from timestamptz,
  p_opened_by text,
  p_why public.evidence,
  p_policy public.recovery_policy,
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

  -- Dead again soon after a cure that nobody heard of: the same outage, not a new one.
  update public.instance_outages o
  set closed_at = null, closed_as = null, life_counts_from = p_life_counts_from,
      lived = o.lived + greatest(interval '0', p_started_at - o.closed_at)
  where o.id = (
      select l.id from public.instance_outages l where l.instance_id = p_instance.id order by l.closed_at desc limit 1
    )
    and o.closed_as = 'recovered' and o.told_at is null and o.closed_at > p_now - p_policy.reopen_within
  returning * into v_outage;
  if found then
    perform public.record_event(
      p_instance, 'outage_reopened', p_why, null, v_outage.id,
      jsonb_build_object('dead_for_seconds', extract(epoch from p_now - p_started_at)), p_now);
    return v_outage;
  end if;

  insert into public.instance_outages
    (instance_id, external_id, company_id, unit, started_at, opened_at, life_counts_from, opened_by, reason)
  values
    (p_instance.id, btrim(p_instance.instance_id), p_instance.company_id, p_instance.unit, p_started_at, p_now,
     p_life_counts_from, p_opened_by, p_why.reason)
  returning * into v_outage;
  perform public.record_event(p_instance, 'outage_opened', p_why, null, v_outage.id, '{}', p_now);
  return v_outage;
end
$$;
comment on function public.open_outage is 'The open outage of a line: the one there is, a silent cure of lately reopened, or a new one.';

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

create or replace function public.render_moment(p_at timestamptz, p_now timestamptz, p_words jsonb)
returns text
language sql stable security invoker set search_path = ''
as $$
  -- In the zone of the caller's words: an hour of today, else with its day.
  select to_char(
    p_at at time zone (p_words ->> 'zone'),
    case when (p_at at time zone (p_words ->> 'zone'))::date = (p_now at time zone (p_words ->> 'zone'))::date
      then p_words ->> 'today' else p_words ->> 'before' end);
$$;
comment on function public.render_moment is 'A moment for people, in the pattern and zone that the caller brings.';

create or replace function public.outage_occasion(p_outage public.instance_outages)
returns public.occasion
language sql immutable security invoker set search_path = ''
as $$
  select row('outage:' || p_outage.id, p_outage.instance_id, p_outage.external_id, p_outage.unit, p_outage.company_id,
    p_outage.id, p_outage.started_at)::public.occasion;
$$;
comment on function public.outage_occasion is 'An outage as what a notice is about.';

create or replace function public.unverified_occasion(p_instance public.wapi_instances, p_since timestamptz)
returns public.occasion
language sql immutable security invoker set search_path = ''
as $$
  select row('unverified:' || p_instance.id || ':' || floor(extract(epoch from p_since)), p_instance.id,
    btrim(p_instance.instance_id), p_instance.unit, p_instance.company_id, null, p_since)::public.occasion;
$$;
comment on function public.unverified_occasion is 'A line''s silence since then as what a notice is about.';

create or replace function public.recipients(
  p_occasion public.occasion, p_kind text, p_now timestamptz
)
returns uuid[]
language sql stable security invoker set search_path = ''
as $$
  select array(
    select distinct m.user_id
    from public.user_companies m
    where m.company_id = p_occasion.company_id and m.user_id is not null
      and (p_kind <> 'back' or exists (
        select from public.notices n
        where n.occasion = p_occasion.key and n.user_id = m.user_id and n.kind <> 'back' and n.state = 'sent'))
      and not exists (
        select from public.notices n
        where n.occasion = p_occasion.key and n.user_id = m.user_id and n.kind = p_kind
          and (n.state = 'sent' or n.next_try_at > p_now)));
$$;
comment on function public.recipients is
  'Who is to be told now: the direct users of the occasion''s company (back again: those who were told), but for who has it and who was refused lately.';

create or replace function public.plain_name(p_name text)
returns text
language sql immutable security invoker set search_path = ''
as $$
  -- Line breaks, controls and signs that turn the direction of writing would let a name speak for the rest of a message.
  select case when length(n.name) > 100 then left(n.name, 99) || '…' else n.name end
  from (select btrim(regexp_replace(
    coalesce(p_name, ''), '[\u0001-\u001f\u007f-\u00a0\u00ad\u115f\u1160\u200b\u200e\u200f\u2028-\u202f\u2060-\u206f\u3000\u3164\ufeff\U000e0000-\U000e007f]+', ' ', 'g')) as name) n;
$$;
comment on function public.plain_name is 'A name that somebody wrote, as one line of at most 100 characters.';

create or replace function public.name_of_line(p_occasion public.occasion)
returns text
language sql stable security invoker set search_path = ''
as $$
  select coalesce(
    nullif(public.plain_name(p_occasion.unit), ''),
    (select public.plain_name(c.name) || case when i.digits <> '' then ' (final ' || right(i.digits, 4) || ')' else '' end
     from public.companies c
     left join lateral (
       select regexp_replace(coalesce(l.phone_number, ''), '[^0-9]', '', 'g') as digits
       from public.wapi_instances l where l.id = p_occasion.instance_id) i on true
     where c.id = p_occasion.company_id and public.plain_name(c.name) <> ''),
    public.plain_name(p_occasion.external_id));
$$;
comment on function public.name_of_line is 'How people know a line: its unit, else its company and the last four digits of its number, else the external id.';

create or replace function public.free_places(
  p_instance uuid,
  p_users uuid[],
  p_kind text,
  p_policy public.recovery_policy,
  p_now timestamptz,
  out free uuid[],           -- who may be told now
  out held_back integer,     -- how many others may not …
  out place_at timestamptz   -- … and when the first of them may
)
language sql stable security invoker set search_path = ''
as $$
  -- The notice that is as many back as there are places says when the next one is free.
  select coalesce(array_agg(u.id) filter (where l.told_at is null), '{}'), count(l.told_at)::integer,
    min(l.told_at) + p_policy.counted_within
  from unnest(p_users) as u (id)
  left join lateral (
    select n.told_at from public.notices n
    where n.instance_id = p_instance and n.user_id = u.id and n.state = 'sent'
      and n.told_at > p_now - p_policy.counted_within
      and n.kind <> 'subscription' and p_kind <> 'subscription'
    order by n.told_at desc
    offset p_policy.notices_most - 1 - (p_kind = 'back')::integer limit 1
  ) l on true;
$$;
comment on function public.free_places is
  'Nobody hears too often of one line: who of these users may be told now. The last place of a day is for bad news only.';

create or replace function public.lasted(p_occasion public.occasion, p_now timestamptz)
returns interval
language sql stable security invoker set search_path = ''
as $$
  select greatest(interval '0', coalesce(o.closed_at, p_now) - p_occasion.since - coalesce(o.lived, '0'))
  from (select p_occasion.outage_id) q (id)
  left join public.instance_outages o on o.id = q.id;
$$;
comment on function public.lasted is
  'How long what a notice is about has been so: an outage until its end, without what silent cures held in between, all else until now.';

-- The texts live in one Python module and arrive in p_texts; here they are only filled in.
create or replace function public.render_notice(
  p_occasion public.occasion, p_text text, p_texts jsonb, p_now timestamptz
)
returns text
language sql stable security invoker set search_path = ''
as $$
  -- The unit's name last: nothing inside it is a placeholder.
  select replace(
    replace(
      replace(p_texts -> p_text ->> 'message', '{downtime}',
        -- "Voltou" may come late: it tells how long the line was down, not for how long nobody said so.
        public.render_downtime(public.lasted(p_occasion, p_now), p_texts -> 'downtime')),
      '{since}', public.render_moment(p_occasion.since, p_now, p_texts -> 'moment')),
    '{unit}', public.name_of_line(p_occasion));
$$;
comment on function public.render_notice is 'A notice as people read it, on the bell and on further channels.';

create or replace function public.write_notices(
  p_occasion public.occasion,
  p_users uuid[],
  p_text text,
  p_kind text,
  p_texts jsonb,
  p_reason text,
  p_event bigint,
  p_now timestamptz
)
returns integer
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_text constant jsonb := p_texts -> p_text;
  v_name constant text := public.name_of_line(p_occasion);
  v_is_outage constant boolean := p_occasion.outage_id is not null;
  v_message constant text := public.render_notice(p_occasion, p_text, p_texts, p_now);
  v_duration constant interval := public.lasted(p_occasion, p_now);
  v_meant integer;
  v_written integer;
begin
  -- What may not be told twice is decided here, by the unique key, before the platform's table hears of it.
  with told as (
    insert into public.notices as n
      (occasion, kind, user_id, company_id, instance_id, external_id, unit, text, outage_id, since, state, told_at,
       notification_id, event_id)
    select
      p_occasion.key, p_kind, u.id, p_occasion.company_id, p_occasion.instance_id, p_occasion.external_id,
      p_occasion.unit, p_text, p_occasion.outage_id, p_occasion.since, 'sent', p_now, gen_random_uuid(), p_event
    from unnest(p_users) as u (id)
    on conflict (occasion, user_id, kind) do update
      set state = 'sent', told_at = p_now, notification_id = excluded.notification_id, sqlstate = null, next_try_at = null
      where n.state = 'refused'
    returning n.user_id, n.notification_id
  ),
  written as (
    insert into public.notifications (id, user_id, company_id, type, title, message, data, created_at)
    select told.notification_id, told.user_id, p_occasion.company_id, v_text ->> 'type', v_text ->> 'title',
      v_message,
      jsonb_build_object(
        'instance_id', p_occasion.instance_id, 'instance_name', v_name, 'reason', p_reason, 'action', v_text -> 'action'
      ) || case when v_is_outage
        then jsonb_build_object('outage_id', p_occasion.outage_id, 'down_since', p_occasion.since)
        else jsonb_build_object(
          case p_kind when 'mute' then 'mute_since' when 'subscription' then 'ends_at' else 'unverified_since' end,
          p_occasion.since) end
        || case when v_is_outage and p_kind = 'back'
        then jsonb_build_object('down_seconds', floor(extract(epoch from v_duration))::bigint)
        else '{}'::jsonb end,
      p_now
    from told
    returning id
  )
  select (select count(*) from told), (select count(*) from written) into v_meant, v_written;
  if v_written < v_meant then
    -- A trigger of theirs may have put them into a partition of its own.
    select count(*) into v_written from public.notices n
    join public.notifications b on b.id = n.notification_id
    where n.occasion = p_occasion.key and n.kind = p_kind and n.user_id = any (p_users) and n.told_at = p_now;
  end if;
  if v_written < v_meant then
    -- A trigger of the platform's that answers null is no error to the database: whom it left out was not told.
    raise exception '% of % notices were written', v_written, v_meant using errcode = 'WR001';
  end if;
  -- What the platform defers to the end of the transaction must object here, where somebody listens.
  set constraints all immediate;
  return v_written;
end
$$;
comment on function public.write_notices is 'Writes notices and the platform''s rows for these users; raises what the platform''s table raises.';

create or replace function public.notify_users(
  p_occasion public.occasion,
  p_text text,
  p_texts jsonb,
  p_reason text,
  p_event bigint,
  p_policy public.recovery_policy,
  p_users uuid[] default null,  -- null: everybody who is to be told now
  p_now timestamptz default now(),
  p_kind text default null      -- null: the text's own
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_kind constant text := coalesce(p_kind, p_texts -> p_text ->> 'kind');
  v_users uuid[] := coalesce(p_users, public.recipients(p_occasion, v_kind, p_now));
  v_held_back integer;
  v_place_at timestamptz;
  v_user uuid;
  v_told integer := 0;
  v_refused integer := 0;
  v_sqlstate text;
  v_begins boolean := false;
begin
  if v_kind is null or p_texts -> p_text ->> 'message' is null then
    raise exception 'notify_users: no text for %', p_text using errcode = 'invalid_parameter_value';
  end if;
  if p_texts -> p_text ->> 'message' like '%{falls}%' then
    select jsonb_set(p_texts, array[p_text, 'message'], to_jsonb(replace(
      p_texts -> p_text ->> 'message', '{falls}',
      greatest(2, count(*) filter (where o.id = p_occasion.outage_id or o.told_at > p_now - p_policy.counted_within))::text)))
    into p_texts
    from public.instance_outages o
    where o.instance_id = p_occasion.instance_id and o.company_id = p_occasion.company_id
      and (o.closed_at is null or o.closed_at > p_now - p_policy.counted_within);
  end if;
  perform public.write_deliveries(p_occasion, p_text, p_texts, p_now, v_kind);
  select * into v_users, v_held_back, v_place_at
  from public.free_places(p_occasion.instance_id, v_users, v_kind, p_policy, p_now);
  if cardinality(v_users) = 0 then
    return jsonb_strip_nulls(jsonb_build_object(
      'told', 0, 'refused', 0, 'held_back', nullif(v_held_back, 0), 'place_at', v_place_at));
  end if;
  begin
    v_told := public.write_notices(
      p_occasion, v_users, p_text, v_kind, p_texts, p_reason, p_event, p_now);
  exception when others then
    if not public.is_refusal(sqlstate) then
      raise;
    end if;
    -- Somebody's row is refused: a check on the type, a column of theirs, a trigger, a user who is gone. One by one, then.
    foreach v_user in array v_users loop
      begin
        v_told := v_told + public.write_notices(
          p_occasion, array[v_user], p_text, v_kind, p_texts, p_reason, p_event, p_now);
      exception when others then
        if not public.is_refusal(sqlstate) then
          raise;
        end if;
        v_sqlstate := sqlstate;
        v_refused := v_refused + 1;
        v_begins := v_begins or not exists (
          select from public.notices n where n.state = 'refused' and n.sqlstate = v_sqlstate);
        insert into public.notices as n
          (occasion, kind, user_id, company_id, instance_id, external_id, unit, text, outage_id, since, state, told_at,
           sqlstate, next_try_at, event_id)
        values
          (p_occasion.key, v_kind, v_user, p_occasion.company_id, p_occasion.instance_id, p_occasion.external_id,
           p_occasion.unit, p_text, p_occasion.outage_id, p_occasion.since, 'refused', p_now, v_sqlstate,
           p_now + p_policy.notice_waits[1], p_event)
        on conflict (occasion, user_id, kind) do update
          set told_at = p_now, sqlstate = excluded.sqlstate, tries = n.tries + 1,
              next_try_at = p_now + p_policy.notice_waits[least(n.tries + 1, cardinality(p_policy.notice_waits))]
          where n.state = 'refused';
      end;
    end loop;
  end;
  return jsonb_build_object('told', v_told, 'refused', v_refused, 'sqlstate', v_sqlstate, 'refusal_begins', v_begins)
    || jsonb_strip_nulls(jsonb_build_object('held_back', nullif(v_held_back, 0), 'place_at', v_place_at));
end
$$;
comment on function public.notify_users is
  'The one way to tell users something, once; it writes what contacts are to hear by other channels, too. Who has heard too much of the line today is held back; what the platform''s table refuses costs nobody else anything: it is kept as refused and tried again. Returns how many were told, refused and held back. Callers hold the line.';

create or replace function public.retry_notices(
  p_texts jsonb,
  p_limit integer,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_notice public.notices;
  v_occasion public.occasion;
  v_is_over boolean;
  v_reason text;
  v_result jsonb;
  v_tried integer := 0;
  v_told integer := 0;
begin
  for v_notice in
    select * from public.notices
    where state = 'refused' and next_try_at <= p_now
    order by next_try_at limit p_limit
    for update skip locked
  loop
    -- Who tells holds the line. Somebody else has it now: next time.
    perform from public.wapi_instances i where i.id = v_notice.instance_id for no key update skip locked;
    continue when not found and exists (select from public.wapi_instances i where i.id = v_notice.instance_id);
    -- What is told today is the outage as it stands: it may have been told to another company since.
    v_occasion := row(v_notice.occasion, v_notice.instance_id, v_notice.external_id, v_notice.unit, v_notice.company_id,
      v_notice.outage_id, v_notice.since);
    if v_notice.outage_id is not null then
      select o.external_id, o.unit, o.company_id, o.closed_at is not null
      into v_occasion.external_id, v_occasion.unit, v_occasion.company_id, v_is_over
      from public.instance_outages o where o.id = v_notice.outage_id;
    elsif v_notice.kind = 'subscription' then
      v_is_over := not exists (
        select from public.instance_registrations r
        where r.instance_id = v_notice.instance_id and v_notice.occasion like '%:' || r.ending_days);
    elsif v_notice.kind = 'mute' then
      v_is_over := not exists (
        select from public.instance_mutes m
        where m.id = split_part(v_notice.occasion, ':', 2)::uuid and m.closed_at is null);
    else
      v_is_over := not exists (
        select from public.instance_health h
        where h.instance_id = v_notice.instance_id and h.unverified_since = v_notice.since);
    end if;
    if (v_notice.kind = 'back') is distinct from v_is_over
      or not exists (
        select from public.user_companies m
        where m.company_id = v_occasion.company_id and m.user_id = v_notice.user_id)
      or v_notice.kind <> 'subscription' and exists (
        select from public.notices n
        where n.instance_id = v_notice.instance_id and n.user_id = v_notice.user_id and n.id > v_notice.id
          and n.kind not in ('mute', 'subscription'))
      or v_notice.kind = 'back' and exists (
        select from public.instance_outages o
        where o.instance_id = v_notice.instance_id and o.closed_at is null and o.told_at is not null)
    then
      -- It is no news any more, or no business of theirs.
      update public.notices set next_try_at = null where id = v_notice.id;
      continue;
    end if;
    select reason into v_reason from public.instance_events where id = v_notice.event_id;
    v_result := public.notify_users(
      v_occasion, v_notice.text, p_texts, v_reason, v_notice.event_id, p_policy, array[v_notice.user_id], p_now,
      v_notice.kind);
    v_tried := v_tried + 1;
    v_told := v_told + (v_result ->> 'told')::integer;
    if v_result ? 'place_at' then
      update public.notices set next_try_at = (v_result ->> 'place_at')::timestamptz where id = v_notice.id;
    end if;
    if (v_result ->> 'told')::integer > 0 and v_notice.kind in ('down', 'unstable') then
      update public.instance_outages
      set told_at = coalesce(told_at, p_now), told_as = coalesce(told_as, v_notice.kind)
      where id = v_occasion.outage_id;
      update public.instance_health set tell_at = p_now where instance_id = v_notice.instance_id;
    elsif (v_result ->> 'told')::integer > 0 and v_notice.kind = 'mute' then
      update public.instance_mutes set told_at = coalesce(told_at, p_now)
      where id = split_part(v_notice.occasion, ':', 2)::uuid;
    end if;
  end loop;
  return jsonb_build_object(
    'tried', v_tried, 'told', v_told,
    'refused_left', (select count(*) from public.notices where state = 'refused' and next_try_at is not null));
end
$$;
comment on function public.retry_notices is 'Tries again what the platform''s table refused, where it still is news.';

create or replace function public.take_instance_down(
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_to text,
  p_started_at timestamptz,
  p_life_counts_from timestamptz,
  p_opened_by text,
  p_text text,
  p_texts jsonb,
  p_why public.evidence,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_outage public.instance_outages;
  v_fall text;
  v_users uuid[];
  v_event bigint;
  v_notified jsonb := '{}';
begin
  v_outage := public.open_outage(p_instance, p_started_at, p_life_counts_from, p_opened_by, p_why, p_policy, p_now);
  if p_text is not null
    and (v_outage.told_at is null or v_outage.company_id is distinct from p_instance.company_id) then
    -- The line may have moved since: who is told are its people of today.
    update public.instance_outages
    set company_id = p_instance.company_id, unit = p_instance.unit, external_id = btrim(p_instance.instance_id),
        told_at = null, told_as = null, told_text = p_text
    where id = v_outage.id
    returning * into v_outage;
    v_fall := public.kind_of_fall(v_outage, p_policy, p_now);
    if v_fall = 'damped' then
      v_notified := jsonb_build_object('damped', true);
    else
      v_users := public.recipients(public.outage_occasion(v_outage), v_fall, p_now);
      v_notified := jsonb_build_object('told', 0);
    end if;
  end if;
  if p_instance.status is distinct from p_to or cardinality(v_users) > 0 then
    v_event := public.record_event(
      p_instance, case when p_instance.status is distinct from p_to then 'status_changed' else 'users_told' end,
      p_why, p_to, v_outage.id, jsonb_build_object('told', null), p_now
    );
  end if;
  if v_users is not null then  -- also where nobody is there to be told: further channels hear of it
    v_notified := public.notify_users(
      public.outage_occasion(v_outage), case v_fall when 'unstable' then 'unstable' else p_text end, p_texts, p_why.reason,
      v_event, p_policy, v_users, p_now, v_fall);
  end if;
  -- Told is who got a row, now or when the line was another company's, or gets it as soon as the bound allows. A company
  -- where nobody did hears as soon as somebody is there.
  update public.instance_outages o
  set told_at = p_now, told_as = v_fall
  where o.id = v_outage.id and o.told_at is null and (
    v_fall = 'damped' or v_notified ? 'held_back' or exists (
      select from public.notices n
      join public.user_companies m on m.user_id = n.user_id and m.company_id = o.company_id
      where n.occasion = 'outage:' || o.id and n.kind = v_fall and n.state = 'sent'));
  v_notified := v_notified - 'place_at';
  update public.instance_events set details = details || v_notified where id = v_event and v_notified <> '{}';
  update public.wapi_instances set status = p_to, status_reason = p_why.reason
  where id = p_instance.id and (status is distinct from p_to or status_reason is distinct from p_why.reason);
  update public.instance_health
  set degraded_since = case when p_to = 'degraded' then coalesce(degraded_since, p_now) end,
      bad_since = coalesce(bad_since, p_started_at),
      tell_at = case when v_fall is not null then p_now else tell_at end
  where instance_id = p_instance.id;
  return jsonb_build_object('outage_id', v_outage.id, 'told', null, 'from', p_instance.status, 'to', p_to) || v_notified;
end
$$;
comment on function public.take_instance_down is
  'Degraded or disconnected: status, outage, audit and (p_text not null, not told yet) notices. told is null when none was due, or damping keeps it back.';

create or replace function public.bring_instance_back(
  p_instance public.wapi_instances,
  p_alive_at timestamptz,
  p_closed_as text,
  p_texts jsonb,
  p_why public.evidence,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_outage public.instance_outages;
  v_occasion public.occasion;
  v_unverified_since timestamptz;
  v_event bigint;
  v_notified jsonb := '{}';
begin
  select unverified_since into v_unverified_since from public.instance_health where instance_id = p_instance.id;
  update public.instance_outages
  set closed_at = greatest(p_now, started_at), closed_as = p_closed_as
  where instance_id = p_instance.id and closed_at is null
  returning * into v_outage;
  if p_instance.status is distinct from 'connected' or v_outage.id is not null or v_unverified_since is not null then
    v_event := public.record_event(
      p_instance, case when p_instance.status is distinct from 'connected' then 'status_changed'
        when v_outage.id is not null then 'outage_closed' else 'users_told' end,
      p_why, 'connected', v_outage.id, jsonb_build_object('told', null), p_now
    );
  end if;
  if v_outage.told_at is not null then
    if public.back_waits(v_outage, p_policy) = interval '0' then
      -- It answers both, where nobody had been able to find out before. The line's people of today are told.
      v_occasion := public.outage_occasion(v_outage);
      v_occasion.company_id := p_instance.company_id;
      v_notified := public.notify_users(
        v_occasion, 'reconnected', p_texts, p_closed_as, v_event, p_policy,
        array(select w.user_id from public.user_words(p_instance.id, p_instance.company_id) w where w.word <> 'up'), p_now);
      update public.instance_outages set answered_at = p_now
      where instance_id = p_instance.id and told_at is not null and answered_at is null;
    end if;
  elsif v_unverified_since is not null and not exists (
    -- A "voltou" that waits answers both.
    select from public.instance_outages o
    where o.instance_id = p_instance.id and o.told_at is not null and o.answered_at is null)
  then
    v_notified := public.notify_users(
      public.unverified_occasion(p_instance, v_unverified_since), 'verified', p_texts, p_closed_as, v_event, p_policy, null,
      p_now);
  end if;
  if v_outage.told_at is null and v_outage.id is not null and not exists (
    select from public.instance_outages o
    where o.instance_id = p_instance.id and o.told_at is not null and o.answered_at is null)
  then
    -- Where nobody could be told, contacts may have been; no "voltou" waits that would answer them.
    perform public.write_deliveries(public.outage_occasion(v_outage), 'reconnected', p_texts, p_now, 'back');
  end if;
  v_notified := v_notified - 'place_at';
  update public.instance_events set details = details || v_notified where id = v_event and v_notified <> '{}';
  update public.wapi_instances
  set status = 'connected',
      status_reason = null,
      connected_at = case
        when status is distinct from 'connected'
          then greatest(public.believed(connected_at, p_now, p_policy.event_ahead), least(p_alive_at, p_now))
        else connected_at end
  where id = p_instance.id and (status is distinct from 'connected' or status_reason is not null);
  update public.instance_health
  set degraded_since = null, bad_since = null, unknown_since = null, unknown_looks = 0, unverified_since = null,
      tell_at = case when v_outage.told_at is not null or v_unverified_since is not null or exists (
          select from public.instance_outages o
          where o.instance_id = p_instance.id and o.told_at is not null and o.answered_at is null)
        then p_now else tell_at end
  where instance_id = p_instance.id;
  return jsonb_build_object(
    'outage_id', v_outage.id, 'told', null, 'from', p_instance.status, 'to', 'connected',
    'down_seconds', floor(extract(epoch from p_now - v_outage.started_at - v_outage.lived))
  ) || v_notified;
end
$$;
comment on function public.bring_instance_back is
  'Connected again: closes the open outage and tells those who had been told, unless the line has to hold first. told is null when nobody had been, or it waits.';

-- security definer, because the platform's own screens pause lines as their users, who may not write our tables.
-- It can touch nothing but what we keep of the very row that the platform let them change.
create or replace function public.close_outage_of_paused_instance()
returns trigger
language plpgsql volatile security definer set search_path = ''
as $$
begin
  update public.instance_health
  set health_lease_until = null, degraded_since = null, bad_since = null, unknown_since = null, unknown_looks = 0,
      unverified_since = null, tell_at = null
  where instance_id = new.id;
  update public.instance_outages
  set closed_at = greatest(now(), started_at), closed_as = 'paused'
  where instance_id = new.id and closed_at is null;
  -- Who pauses a line knows: nothing waits to be told.
  update public.instance_outages set answered_at = now()
  where instance_id = new.id and told_at is not null and answered_at is null;
  return null;
end
$$;
comment on function public.close_outage_of_paused_instance is
  'Pausing a line closes its outage at once. security definer: users of the platform may pause, not write our tables.';

create or replace trigger close_outage_when_paused
  after update of is_active on public.wapi_instances
  for each row when (old.is_active is not false and new.is_active is false)
  execute function public.close_outage_of_paused_instance();

do $$
begin
  perform public.keep_for_service(
    'lock_health', 'record_event', 'believed', 'last_life', 'knows_life_since', 'write_phone', 'open_outage', 'render_downtime', 'render_moment', 'outage_occasion',
    'unverified_occasion', 'plain_name', 'name_of_line', 'recipients',
    'free_places', 'lasted', 'render_notice', 'write_notices', 'is_refusal', 'notify_users', 'retry_notices',
    'take_instance_down', 'bring_instance_back', 'close_outage_of_paused_instance');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100300') on conflict do nothing;
