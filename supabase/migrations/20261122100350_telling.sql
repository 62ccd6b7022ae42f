-- Purpose: not too often, not too seldom. What a fall of a line is told as, when "voltou" may be told, who is reminded, and
-- who is told later what could not be told at once.
-- Touches: instance_outages (told_at, told_as, answered_at), instance_health (tell_at), instance_events, notices,
-- notifications. Called by: the functions that take a line down and bring it back; shared/database/store.py
--
-- A fall is an outage with told_at. Falls of a line that are not answered are its episode: from the first bad notice to its
-- "voltou". What waits has no row: it is found from outages and notices, of lines whose tell_at has come.

set local lock_timeout = '5s';

create or replace function public.kind_of_fall(
  p_outage public.instance_outages, p_policy public.recovery_policy, p_now timestamptz
)
returns text
language sql stable security invoker set search_path = ''
as $$
  select case
    when bool_or(o.answered_at is null and o.told_as <> 'down') then 'damped'
    -- It fell while its "voltou" waited, or too often today.
    when bool_or(o.answered_at is null)
      or count(*) filter (where o.told_at > p_now - p_policy.counted_within) >= p_policy.falls_told then 'unstable'
    else 'down' end
  from public.instance_outages o
  where o.instance_id = p_outage.instance_id and o.id <> p_outage.id and o.told_at is not null
    and o.company_id is not distinct from p_outage.company_id
    and (o.answered_at is null or o.closed_at > p_now - p_policy.counted_within);
$$;
comment on function public.kind_of_fall is
  'What a fall is told as: down, unstable, or damped, which is not at all. Other companies'' falls of the line do not count.';

create or replace function public.back_waits(p_outage public.instance_outages, p_policy public.recovery_policy)
returns interval
language sql stable security invoker set search_path = ''
as $$
  select case
    when p_outage.told_as <> 'down' then p_policy.stable_after
    when exists (
      select from public.instance_outages o
      where o.instance_id = p_outage.instance_id and o.id <> p_outage.id
        and o.company_id is not distinct from p_outage.company_id
        and o.told_at > p_outage.told_at - p_policy.counted_within and o.told_at <= p_outage.told_at)
      then p_policy.back_after
    else interval '0' end;
$$;
comment on function public.back_waits is 'How long a line must hold after this fall before its users hear that it is back.';

create or replace function public.user_words(p_instance uuid, p_company uuid)
returns table (user_id uuid, word text, heard_at timestamptz, since timestamptz, rung_at timestamptz)
language sql stable security invoker set search_path = ''
as $$
  select m.user_id,
    case
      -- Who paused a line knew.
      when n.kind is null or n.kind = 'back' or o.closed_as in ('paused', 'deleted') then 'up'
      when n.kind in ('unstable', 'unverified') then n.kind
      else 'down' end,
    n.told_at, n.since, r.told_at
  from (select distinct c.user_id from public.user_companies c where c.company_id = p_company and c.user_id is not null) m
  left join lateral (
    select * from public.notices l
    where l.instance_id = p_instance and l.user_id = m.user_id and l.state = 'sent'
      and (l.outage_id is not null or l.kind = 'unverified' or l.occasion like 'unverified:%')
    order by l.told_at desc, l.id desc limit 1
  ) n on true
  left join public.instance_outages o on o.id = n.outage_id
  left join lateral (
    select l.told_at from public.notices l
    where l.instance_id = p_instance and l.user_id = m.user_id and l.state = 'sent'
    order by l.told_at desc limit 1
  ) r on true;
$$;
comment on function public.user_words is
  'What each direct user of a company has heard last of a line: up (also who has heard nothing), down, unstable, unverified. rung_at: when they heard anything of it.';

create or replace function public.reminder_at(p_began timestamptz, p_number integer, p_policy public.recovery_policy)
returns timestamptz
language sql immutable security invoker set search_path = ''
as $$
  select p_began + p_policy.reminder_waits[least(p_number, cardinality(p_policy.reminder_waits))]
    + greatest(0, p_number - cardinality(p_policy.reminder_waits)) * p_policy.reminder_each;
$$;
comment on function public.reminder_at is 'When the n-th reminder of an episode is due.';

create or replace function public.reminders_passed(p_began timestamptz, p_policy public.recovery_policy, p_now timestamptz)
returns integer
language sql immutable security invoker set search_path = ''
as $$
  select count(*) filter (where w <= p_now - p_began)::integer
    + greatest(0, floor(
      extract(epoch from p_now - p_began - max(w)) / extract(epoch from p_policy.reminder_each)))::integer
  from unnest(p_policy.reminder_waits) w;
$$;
comment on function public.reminders_passed is 'How many reminders of an episode have been due.';

-- p_notified gathers what becomes of a line's users: told, refused, held_back, and next, when the line is to be seen again.
create or replace function public.tell_later(
  p_instance public.wapi_instances,
  p_occasion public.occasion,
  p_text text,
  p_kind text,
  p_users uuid[],
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_now timestamptz,
  p_notified jsonb,
  p_is_news boolean default false  -- contacts are to hear of it, whoever has a place
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_users uuid[];
  v_free uuid[];
  v_held_back integer;
  v_place_at timestamptz;
  v_found public.instance_events;
  v_event bigint;
  v_told jsonb;
begin
  -- What was refused has a clock of its own.
  select array_agg(u.id) into v_users
  from unnest(p_users) as u (id)
  where not exists (
    select from public.notices n
    where n.occasion = p_occasion.key and n.user_id = u.id and n.kind = p_kind
      and (n.state = 'sent' or n.next_try_at is not null));
  if v_users is null then
    if p_is_news then
      perform public.notify_users(p_occasion, p_text, p_texts, null, null, p_policy, '{}', p_now, p_kind);
    end if;
    return p_notified;
  end if;
  select * into v_free, v_held_back, v_place_at
  from public.free_places(p_instance.id, v_users, p_kind, p_policy, p_now);
  p_notified := p_notified || jsonb_build_object(
    'held_back', (p_notified ->> 'held_back')::integer + v_held_back,
    'next', least((p_notified ->> 'next')::timestamptz, v_place_at));
  if v_free = '{}' then
    if p_is_news then
      perform public.notify_users(p_occasion, p_text, p_texts, null, null, p_policy, '{}', p_now, p_kind);
    end if;
    return p_notified;
  end if;
  -- The finding that is told now: of its outage, or of the line.
  select e.* into v_found
  from public.instance_events e
  where e.instance_id = p_instance.id and e.outage_id is not distinct from p_occasion.outage_id
    and e.kind in ('outage_opened', 'outage_reopened', 'outage_closed', 'status_changed', 'users_told')
  order by e.at desc, e.id desc limit 1;
  v_event := public.record_event(
    p_instance, 'users_told',
    row(coalesce(v_found.source, 'sweep'), v_found.reason, v_found.details ->> 'observation', v_found.details ->> 'cause',
      (v_found.details ->> 'event_id')::bigint, v_found.run_id)::public.evidence,
    null, p_occasion.outage_id, jsonb_build_object('told', null, 'later', p_kind), p_now);
  v_told := public.notify_users(
    p_occasion, p_text, p_texts, v_found.reason, v_event, p_policy, v_free, p_now, p_kind);
  update public.instance_events set details = details || v_told where id = v_event;
  return p_notified || jsonb_build_object(
    'told', (p_notified ->> 'told')::integer + (v_told ->> 'told')::integer,
    'refused', (p_notified ->> 'refused')::integer + (v_told ->> 'refused')::integer,
    'sqlstate', coalesce(v_told ->> 'sqlstate', p_notified ->> 'sqlstate'),
    'refusal_begins', (p_notified ->> 'refusal_begins')::boolean or coalesce((v_told ->> 'refusal_begins')::boolean, false));
end
$$;
comment on function public.tell_later is 'Tells what waited to those of these users who have not heard it and have a place.';

create or replace function public.tell_line(
  p_instance public.wapi_instances,
  p_health public.instance_health,
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_now timestamptz
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_open public.instance_outages;
  v_fall public.instance_outages;
  v_occasion public.occasion;
  v_holds_since timestamptz;
  v_is_well constant boolean := p_instance.status = 'connected' and p_health.bad_since is null;
  v_state text;
  v_is_answered boolean := false;
  v_next timestamptz;
  v_began timestamptz;
  v_number integer;
  v_silence record;
  v_notified jsonb := jsonb_build_object('told', 0, 'refused', 0, 'held_back', 0, 'refusal_begins', false);
begin
  if p_instance.is_active is false or public.is_asleep(p_instance.company_id) then
    update public.instance_outages set answered_at = p_now
    where instance_id = p_instance.id and told_at is not null and answered_at is null;
    return v_notified;
  end if;
  -- What another company has heard of the line is over with it.
  update public.instance_outages set answered_at = p_now
  where instance_id = p_instance.id and told_at is not null and answered_at is null and closed_at is not null
    and company_id is distinct from p_instance.company_id;
  select * into v_open from public.instance_outages where instance_id = p_instance.id and closed_at is null;
  select * into v_fall from public.instance_outages
  where instance_id = p_instance.id and told_at is not null and answered_at is null
    and company_id is not distinct from p_instance.company_id
  order by coalesce(closed_at, 'infinity') desc limit 1;

  -- What is so, as far as it is to be told; null: nothing new is, yet.
  if v_open.id is not null and v_open.id = v_fall.id then
    v_occasion := public.outage_occasion(v_fall);
    if v_fall.told_as in ('unstable', 'damped') then
      v_state := 'unstable';
      v_next := p_policy.lasting_after
        + case v_fall.told_as when 'unstable' then greatest(v_fall.told_at, v_fall.started_at) else v_fall.started_at end;
    else
      v_state := 'down';
    end if;
    if public.is_left_alone(p_instance, p_health, p_policy, p_now) then
      v_state := null;
      v_next := p_now + p_policy.tell_again_after;
    elsif v_next <= p_now then
      update public.instance_outages
      set told_at = case told_as when 'damped' then p_now else told_at end, told_as = 'down_lasting'
      where id = v_fall.id
      returning * into v_fall;
      v_state := 'down';
      v_next := null;
      v_notified := public.tell_later(
        p_instance, v_occasion, v_fall.told_text, 'down_lasting',
        public.recipients(v_occasion, 'down_lasting', p_now), p_texts, p_policy, p_now, v_notified, true);
    end if;
  elsif v_open.id is not null then
    v_next := null;  -- nobody is to know of it, or its line's new people hear of it first from whoever finds it so
  elsif v_fall.id is not null then
    select max(o.closed_at) into v_holds_since from public.instance_outages o
    where o.instance_id = p_instance.id and o.closed_at >= v_fall.closed_at;
    v_next := v_holds_since + public.back_waits(v_fall, p_policy);
    if v_next > p_now then
      v_state := case when v_fall.told_as <> 'down' then 'unstable' end;
    -- That nobody could find out is no proof that it has held.
    elsif v_is_well and (p_health.unknown_since is null or greatest(p_health.unknown_since, p_health.last_event_at) >= v_next)
    then
      update public.instance_outages set answered_at = p_now
      where instance_id = p_instance.id and told_at is not null and answered_at is null;
      v_is_answered := true;
      v_state := 'up';
      v_next := null;
    else
      v_next := p_now + p_policy.tell_again_after;
    end if;
  elsif v_is_well then
    v_state := 'up';
  elsif p_health.unverified_since is not null then
    v_state := 'unverified';
  elsif exists (select from public.user_words(p_instance.id, p_instance.company_id) w where w.word <> 'up') then
    v_next := p_now + p_policy.tell_again_after;
  end if;

  -- Who heard something else last, because they had heard too much that day, hears it now. Who has not heard of the line
  -- lately has joined since, and is reminded.
  case v_state
  when 'up' then
    if v_fall.id is null then
      select * into v_fall from public.instance_outages
      where instance_id = p_instance.id and told_at is not null and closed_as not in ('paused', 'deleted')
      order by closed_at desc limit 1;
    end if;
    if v_fall.id is not null then
      -- It answers both, where nobody had been able to find out before.
      v_occasion := public.outage_occasion(v_fall);
      v_occasion.company_id := p_instance.company_id;
      v_notified := public.tell_later(
        p_instance, v_occasion, 'reconnected', 'back',
        array(
          select w.user_id from public.user_words(p_instance.id, p_instance.company_id) w
          where w.word in ('down', 'unstable') or w.word = 'unverified' and w.heard_at < v_fall.closed_at),
        p_texts, p_policy, p_now, v_notified, v_is_answered);
    end if;
    for v_silence in
      select w.since, array_agg(w.user_id) as users
      from public.user_words(p_instance.id, p_instance.company_id) w where w.word = 'unverified' group by w.since
    loop
      v_notified := public.tell_later(
        p_instance, public.unverified_occasion(p_instance, v_silence.since), 'verified', 'back', v_silence.users,
        p_texts, p_policy, p_now, v_notified);
    end loop;
  when 'down' then
    v_notified := public.tell_later(
      p_instance, v_occasion, v_fall.told_text, v_fall.told_as,
      array(
        select w.user_id from public.user_words(p_instance.id, p_instance.company_id) w
        where w.word <> 'down' and w.rung_at > p_now - p_policy.counted_within),
      p_texts, p_policy, p_now, v_notified);
    select min(o.told_at) into v_began from public.instance_outages o
    where o.instance_id = p_instance.id and o.told_at is not null and o.answered_at is null
      and o.company_id is not distinct from p_instance.company_id;
    v_number := public.reminders_passed(v_began, p_policy, p_now);
    v_next := public.reminder_at(v_began, v_number + 1, p_policy);
    if v_number > 0 then
      v_next := least(v_next, p_now + p_policy.joined_seen_each);
      v_occasion.key := 'reminder:' || v_fall.id || ':' || v_number;
      v_notified := public.tell_later(
        p_instance, v_occasion, p_texts -> v_fall.told_text ->> 'still', 'still_down',
        array(
          select w.user_id from public.user_words(p_instance.id, p_instance.company_id) w
          where w.word <> 'down' or w.heard_at < public.reminder_at(v_began, v_number, p_policy)),
        p_texts, p_policy, p_now, v_notified, true);
    end if;
  when 'unstable' then
    v_occasion := public.outage_occasion(v_fall);
    v_notified := public.tell_later(
      p_instance, v_occasion, 'unstable', 'unstable',
      array(
        select w.user_id from public.user_words(p_instance.id, p_instance.company_id) w
        where w.word = 'up' and w.rung_at > p_now - p_policy.counted_within),
      p_texts, p_policy, p_now, v_notified);
  when 'unverified' then
    v_notified := public.tell_later(
      p_instance, public.unverified_occasion(p_instance, p_health.unverified_since), 'unverified', 'unverified',
      array(
        select w.user_id from public.user_words(p_instance.id, p_instance.company_id) w
        where w.word = 'up' and w.rung_at > p_now - p_policy.counted_within),
      p_texts, p_policy, p_now, v_notified);
  else
  end case;
  return v_notified || jsonb_build_object('next', least(v_next, (v_notified ->> 'next')::timestamptz));
end
$$;
comment on function public.tell_line is
  'Tells what waits about one line, which the caller holds. next: when the line is to be seen again; null = nothing can be due.';

create or replace function public.tell_what_is_due(
  p_texts jsonb,
  p_limit integer,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_due uuid;
  v_instance public.wapi_instances;
  v_health public.instance_health;
  v_notified jsonb;
  v_lines jsonb := '[]';
  v_seen integer := 0;
begin
  for v_due in
    select h.instance_id from public.instance_health h where h.tell_at <= p_now order by h.tell_at limit p_limit
  loop
    select * into v_instance from public.wapi_instances where id = v_due for no key update skip locked;
    continue when not found;  -- somebody holds it: next time
    v_health := public.lock_health(v_due);
    continue when v_health.tell_at is null or v_health.tell_at > p_now;  -- another sweep has told it
    v_seen := v_seen + 1;
    begin
      v_notified := public.tell_line(v_instance, v_health, p_texts, p_policy, p_now);
    exception when others then
      if not public.is_refusal(sqlstate) then
        raise;
      end if;
      -- One line that cannot be told costs the others nothing.
      v_notified := jsonb_build_object('failed', sqlstate, 'next', p_now + p_policy.notice_waits[1]);
    end;
    update public.instance_health set tell_at = (v_notified ->> 'next')::timestamptz where instance_id = v_due;
    if v_notified ? 'failed' or (v_notified ->> 'told')::integer > 0 or (v_notified ->> 'refused')::integer > 0 then
      v_lines := v_lines || (v_notified - 'next' || jsonb_build_object('instance_id', v_due));
    end if;
  end loop;
  return jsonb_build_object('seen', v_seen, 'lines', v_lines);
end
$$;
comment on function public.tell_what_is_due is
  'Tells what waited: "voltou" of lines that have held, falls that last, reminders, and what the bound held back. Returns the lines of which somebody was told.';

do $$
begin
  perform public.keep_for_service(
    'kind_of_fall', 'back_waits', 'user_words', 'reminder_at', 'reminders_passed', 'tell_later', 'tell_line', 'tell_what_is_due');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100350') on conflict do nothing;
