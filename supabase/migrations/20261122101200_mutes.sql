-- Purpose: lines that live and whose events do not reach us: when each line is usually heard, which silences are suspected,
-- and what their repairs showed. What is improbable is decided in Python (shared/core/mute.py); here it is counted and kept.
-- Touches: new tables; notices, notifications and audit through notify_users, alerts of the operator, and request_registration; reads instance_health, wapi_instances, wapi_conversations, wapi_messages and the inbox.
-- Called by: shared/database/mutes.py

set local lock_timeout = '5s';

-- Some 300 bytes a line; nothing that a sweep writes is indexed, and every page keeps room: its updates are HOT.
create table if not exists public.instance_habits (
  instance_id uuid not null,
  counted_from timestamptz not null,
  heard bytea not null,
  heard_quarter timestamptz not null,
  look_at timestamptz,
  probe_at timestamptz,
  primary key (instance_id),
  constraint one_count_per_hour_of_the_week check (length(heard) = 168)
) with (fillfactor = 60);
comment on table public.instance_habits is 'When a line is usually heard: of each hour of the week, how many quarter hours had an event.';
comment on column public.instance_habits.instance_id is 'wapi_instances.id; without foreign key, which would lock that table; rows of deleted lines go in the next walk.';
comment on column public.instance_habits.counted_from is 'When the counting began; moved on when the counts are halved.';
comment on column public.instance_habits.heard is 'One byte for each hour of the week, Monday''s first hour first, in the venues'' zone.';
comment on column public.instance_habits.heard_quarter is 'The last quarter hour that was counted.';
comment on column public.instance_habits.look_at is 'Before this the line''s silence cannot be improbable.';
comment on column public.instance_habits.probe_at is 'Before this its sends are not read again.';

create table if not exists public.instance_mutes (
  id uuid primary key default gen_random_uuid(),
  instance_id uuid not null,
  external_id text,
  company_id uuid,
  unit text,
  proof text not null,
  silent_since timestamptz not null,
  since timestamptz not null,
  suspected_at timestamptz not null default now(),
  improbable_at timestamptz[] not null default '{}',
  repairs integer not null default 0,
  first_repaired_at timestamptz,
  repaired_at timestamptz,
  canary_at timestamptz,
  told_at timestamptz,
  heard_at timestamptz,
  closed_at timestamptz,
  closed_as text,
  constraint closed_mute_says_how check ((closed_at is null) = (closed_as is null)),
  constraint known_mute_proof check (proof in ('sends', 'habit', 'registration')),
  constraint known_mute_closing check (closed_as in ('registration_lost', 'provider_delivery', 'inconclusive'))
);
comment on table public.instance_mutes is
  'Suspicions that a line lives and its events do not reach us, and what became of them. At most one open per line. Kept for ever.';
comment on column public.instance_mutes.instance_id is 'wapi_instances.id; no foreign key, the suspicion outlives the line.';
comment on column public.instance_mutes.proof is
  'sends (without ack, echo or any other event) | habit (an improbable silence: it never rings) | registration (known to be wrong, and could not be set).';
comment on column public.instance_mutes.silent_since is 'The last event before it, as instance_health knew it.';
comment on column public.instance_mutes.since is 'Since when events are missing, as far as is known: the first send without an answer, else silent_since.';
comment on column public.instance_mutes.improbable_at is 'When the silence was improbable, twice improbable, …, as its habit said when it was suspected.';
comment on column public.instance_mutes.repairs is 'How often its registration was asked to be set again: at first_repaired_at, and last at repaired_at.';
comment on column public.instance_mutes.canary_at is 'Many lines were silent at once, and this one was repaired first.';
comment on column public.instance_mutes.heard_at is 'Arrival of the first event after the suspicion.';
comment on column public.instance_mutes.closed_as is
  'registration_lost (an event within five minutes of a repair) | provider_delivery (later, and against the habit) | inconclusive.';
create unique index if not exists one_open_mute_per_instance on public.instance_mutes (instance_id) where closed_at is null;
-- Readers: review_silence (one suspicion per silence, how many of lately), reports.
create index if not exists mutes_by_instance on public.instance_mutes (instance_id, suspected_at desc);
create index if not exists mutes_by_company on public.instance_mutes (company_id, suspected_at desc);
-- Reader: list_open_mutes.
create index if not exists canary_mutes on public.instance_mutes (canary_at) where canary_at is not null;

do $$
declare
  v_name text;
begin
  foreach v_name in array array['instance_habits', 'instance_mutes'] loop
    execute format('alter table public.%I enable row level security', v_name);
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant all on public.%I to service_role', v_name);
  end loop;
  if to_regtype('public.mute_policy') is null then
    create type public.mute_policy as (
      sends_after interval,         -- messages older than this …
      sends_within interval,        -- … and not older than this have an answer, or are a proof
      sends integer,                -- so many of them …
      chats integer,                -- … to so many chats
      habit_after interval,         -- a habit says something when it was counted for so long
      shortest interval,            -- no silence under this is improbable
      memory interval,              -- counts that reach back further are halved
      told_after interval,          -- a registration that could not be set for so long is a proof
      suspicions_within interval,   -- suspicions by habit of so lately are counted
      alive_within interval,        -- only a line that a look has found alive so lately is mute
      event_ahead interval          -- a moment further ahead of us is not believed
    );
    comment on type public.mute_policy is 'The numbers of mute lines that SQL needs, from the policy in Python.';
  end if;
end
$$;

create or replace function public.halve_counts(p_counts bytea)
returns bytea
language sql immutable security invoker set search_path = ''
as $$
  select string_agg(set_byte('\x00'::bytea, 0, get_byte(p_counts, n) / 2), ''::bytea order by n)
  from generate_series(0, length(p_counts) - 1) n;
$$;
comment on function public.halve_counts is 'Every count by two.';

create or replace function public.hour_of_week(p_at timestamptz, p_zone text)
returns integer
language sql stable security invoker set search_path = ''
as $$
  select (extract(isodow from p_at at time zone p_zone)::integer - 1) * 24 + extract(hour from p_at at time zone p_zone)::integer;
$$;
comment on function public.hour_of_week is 'Which of the 168 hours, from Monday''s first on, by the wall clock of the zone.';

create or replace function public.mark_quarters(
  p_after uuid, p_until uuid, p_zone text, p_policy public.mute_policy, p_now timestamptz
)
returns integer
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_marked integer;
begin
  -- One statement, and nothing to write where the quarter is counted already.
  insert into public.instance_habits as b (instance_id, counted_from, heard, heard_quarter)
  select q.instance_id, date_trunc('hour', greatest(q.quarter, p_now - interval '1 hour')),
    set_byte(decode(repeat('00', 168), 'hex'), public.hour_of_week(q.quarter, p_zone), 1), q.quarter
  from (
    select h.instance_id,
      date_bin('15 minutes', public.believed(h.last_event_at, p_now, p_policy.event_ahead), timestamptz '2000-01-01 00:00+00')
        as quarter
    from public.instance_health h
    where h.instance_id > p_after and h.instance_id <= p_until and h.last_event_at is not null
  ) q
  left join public.instance_habits k on k.instance_id = q.instance_id
  where q.quarter is not null and (k.instance_id is null or k.heard_quarter < q.quarter)
  on conflict (instance_id) do update
  set counted_from = case when b.counted_from <= p_now - p_policy.memory
        then b.counted_from + p_policy.memory / 2 else b.counted_from end,
      heard = (
        select set_byte(c.counts, c.hour, least(255, get_byte(c.counts, c.hour) + 1))
        from (
          select case when b.counted_from <= p_now - p_policy.memory then public.halve_counts(b.heard) else b.heard end as counts,
            public.hour_of_week(excluded.heard_quarter, p_zone) as hour
        ) c),
      heard_quarter = excluded.heard_quarter
  where b.heard_quarter < excluded.heard_quarter;
  get diagnostics v_marked = row_count;
  return v_marked;
end
$$;
comment on function public.mark_quarters is 'Counts, of some lines, the quarter hour in which the last event lies, once.';

create or replace function public.habit_of(p_habit public.instance_habits, p_policy public.mute_policy, p_now timestamptz)
returns jsonb
language sql stable security invoker set search_path = ''
as $$
  select case when p_habit.instance_id is not null then jsonb_build_object(
    'heard', encode(p_habit.heard, 'hex'), 'counted_from', p_habit.counted_from,
    'suspicions', (
      select count(*) from public.instance_mutes m
      where m.instance_id = p_habit.instance_id and m.suspected_at > p_now - p_policy.suspicions_within
        and m.proof = 'habit' and m.repairs > 0)) end;
$$;
comment on function public.habit_of is 'A habit as Python reads it.';

create or replace function public.unanswered_sends(
  p_instance uuid, p_from timestamptz, p_policy public.mute_policy, p_now timestamptz
)
returns jsonb
language sql stable security invoker set search_path = ''
as $$
  -- A chat in which somebody wrote is found by its last message, which screens keep; a row of ours came with an event.
  select jsonb_build_object('count', count(*), 'chats', count(distinct s.conversation_id), 'first_at', min(s."timestamp"))
  from public.wapi_conversations c
  cross join lateral (
    select m.conversation_id, m."timestamp" from public.wapi_messages m
    where m.conversation_id = c.id and m.from_me and m.message_id is not null
      and coalesce(m.status::text, 'pending') in ('pending', 'sent')
      and m."timestamp" > greatest(p_from, p_now - p_policy.sends_within) and m."timestamp" <= p_now - p_policy.sends_after
  ) s
  where c.instance_id = p_instance and c.last_message_from_me
    and c.last_message_at > greatest(p_from, p_now - p_policy.sends_within)
  having count(*) >= p_policy.sends and count(distinct s.conversation_id) >= p_policy.chats;
$$;
comment on function public.unanswered_sends is
  'What the platform has sent from a line since then, without ack or echo; null when it is too little to prove anything.';

create or replace function public.is_mute_possible(
  p_instance public.wapi_instances, p_health public.instance_health, p_policy public.mute_policy, p_now timestamptz
)
returns boolean
language sql stable security invoker set search_path = ''
as $$
  select p_instance.is_active is not false and lower(replace(coalesce(p_instance.provider, 'wapi'), '-', '')) = 'wapi'
    and p_instance.status = 'connected' and btrim(p_instance.instance_id) <> '' and btrim(p_instance.instance_token) <> ''
    and p_health.bad_since is null and coalesce(p_health.last_alive_at > p_now - p_policy.alive_within, false)
    and not exists (
      select from public.instance_outages o where o.instance_id = p_instance.id and o.closed_at is null)
    -- Whose events somebody sends elsewhere on purpose is not mute.
    and not exists (
      select from public.instance_registrations r where r.instance_id = p_instance.id and r.found = 'foreign');
$$;
comment on function public.is_mute_possible is 'Whether a line lives and its events are ours: what is down has trouble of another kind.';

create or replace function public.heard_since(p_instances uuid[], p_since timestamptz[], p_from timestamptz)
returns table (instance_id uuid, first_at timestamptz)
language sql stable security invoker set search_path = ''
as $$
  -- One walk through what arrived lately, whatever its kind, for all of these lines together: the inbox has no index by line.
  with arrived as materialized (
    select e.instance_id, e.received_at from public.wapi_webhook_events e
    where e.received_at > p_from and e.instance_id = any (p_instances)
  )
  select a.instance_id, min(a.received_at)
  from unnest(p_instances, p_since) t (instance_id, since)
  join arrived a on a.instance_id = t.instance_id and a.received_at > t.since
  group by a.instance_id;
$$;
comment on function public.heard_since is 'Of these lines, those from which an event of any kind arrived after then, and when the first did.';

create or replace function public.find_heard(p_instances uuid[], p_since timestamptz[])
returns jsonb
language sql stable security invoker set search_path = ''
as $$
  select coalesce(jsonb_agg(h.instance_id), '[]')
  from public.heard_since(p_instances, p_since, (select min(t.at) from unnest(p_since) t (at))) h;
$$;
comment on function public.find_heard is 'Of these lines, those from which an event of any kind arrived after then.';

create or replace function public.list_open_mutes(
  p_limit integer, p_policy public.mute_policy, p_now timestamptz default now()
)
returns jsonb
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_instances uuid[];
  v_since timestamptz[];
  v_mutes jsonb;
  v_from timestamptz;
begin
  select array_agg(m.instance_id), array_agg(m.suspected_at) into v_instances, v_since
  from (
    select instance_id, suspected_at from public.instance_mutes
    where closed_at is null order by instance_id limit p_limit
  ) m;
  if v_instances is not null then
    -- What arrived since a sweep that has surely listened: no sweep may have run for an hour.
    select greatest(coalesce(max(h.started_at), p_now - p_policy.sends_within), p_now - interval '6 hours') into v_from
    from (
      select started_at from public.health_check_runs
      where started_at < p_now - interval '15 minutes' and finished_at is not null order by started_at desc limit 1
    ) h;
    select jsonb_agg(jsonb_build_object(
      'id', m.id, 'instance_id', m.instance_id, 'proof', m.proof, 'since', m.since, 'silent_since', m.silent_since,
      'suspected_at', m.suspected_at, 'improbable_at', to_jsonb(m.improbable_at), 'repairs', m.repairs,
      'first_repaired_at', m.first_repaired_at, 'repaired_at', m.repaired_at, 'told_at', m.told_at,
      'set_at', case when r.set_at > m.suspected_at then r.set_at end,
      'is_possible', coalesce(public.is_mute_possible(i, h, p_policy, p_now), false),
      -- As it arrived; without that, as the line's bookkeeping knows it.
      'heard_at', coalesce(a.first_at, case when h.last_event_at > m.silent_since
        then greatest(public.believed(h.last_event_at, p_now, p_policy.event_ahead), m.suspected_at) end),
      'habit', case when a.first_at is not null or h.last_event_at > m.silent_since
        then public.habit_of(b, p_policy, p_now) end,
      'sends', case when m.proof = 'habit'
        then public.unanswered_sends(m.instance_id, m.silent_since, p_policy, p_now) end) order by m.suspected_at, m.id)
    into v_mutes
    from public.instance_mutes m
    left join public.wapi_instances i on i.id = m.instance_id
    left join public.instance_health h on h.instance_id = m.instance_id
    left join public.instance_habits b on b.instance_id = m.instance_id
    left join public.instance_registrations r on r.instance_id = m.instance_id
    left join public.heard_since(v_instances, v_since, v_from) a on a.instance_id = m.instance_id
    where m.closed_at is null and m.instance_id = any (v_instances);
  end if;
  return jsonb_build_object(
    'now', p_now, 'mutes', coalesce(v_mutes, '[]'),
    'canary', (
      select jsonb_build_object('at', m.canary_at, 'closed_as', m.closed_as) from public.instance_mutes m
      where m.canary_at is not null order by m.canary_at desc limit 1));
end
$$;
comment on function public.list_open_mutes is 'Open suspicions, whether their line was heard since, and the last canary.';

-- A page of the fleet by its key. In a large fleet a sweep begins anywhere, so that time that is up is up for others next time.
create or replace function public.review_silence(
  p_after uuid,              -- where the last page ended; null: the first one
  p_to uuid,                 -- no further than this line; null: to the last one
  p_limit integer,
  p_open integer,            -- with the first page come so many open suspicions
  p_zone text,
  p_policy public.mute_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = '' set plan_cache_mode = force_generic_plan
as $$
declare
  v_none constant uuid := '00000000-0000-0000-0000-000000000000';
  v_after constant uuid := coalesce(p_after, case
    when (select c.reltuples from pg_catalog.pg_class c where c.oid = 'public.instance_health'::regclass) > p_limit
    then gen_random_uuid() else v_none end);
  v_until uuid;
  v_count integer;
  v_marked integer;
  v_lines jsonb;
  v_heard integer;
begin
  select max(p.instance_id::text)::uuid, count(*) into v_until, v_count
  from (
    select h.instance_id from public.instance_health h
    where h.instance_id > v_after and h.instance_id <= coalesce(p_to, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by h.instance_id limit p_limit
  ) p;
  delete from public.instance_habits b
  where b.instance_id > v_after
    and b.instance_id <= case when v_count < p_limit
      then coalesce(p_to, 'ffffffff-ffff-ffff-ffff-ffffffffffff') else v_until end
    and not exists (select from public.instance_health h where h.instance_id = b.instance_id);
  if v_count > 0 then
    v_marked := public.mark_quarters(v_after, v_until, p_zone, p_policy, p_now);
    select count(*) into v_heard
    from public.instance_health h
    join public.instance_habits b on b.instance_id = h.instance_id
    where h.instance_id > v_after and h.instance_id <= v_until
      and h.last_event_at > p_now - p_policy.shortest and b.counted_from <= p_now - p_policy.habit_after;
    select jsonb_agg(jsonb_build_object(
      'instance_id', s.instance_id, 'last_event_at', s.last_event_at, 'was_suspected', s.was_suspected,
      'is_probed', s.is_probed, 'failing_since', s.failing_since, 'habit', public.habit_of(s.habit, p_policy, p_now),
      'sends', case when s.is_probed
        then public.unanswered_sends(s.instance_id, greatest(s.last_event_at, s.closed_at), p_policy, p_now) end))
    into v_lines
    from (
      select h.instance_id, h.last_event_at, b as habit, m.closed_at, m.id is not null as was_suspected,
        coalesce(b.probe_at <= p_now, true) and h.last_event_at <= p_now - p_policy.sends_after as is_probed,
        f.failing_since
      from public.instance_health h
      join public.wapi_instances i on i.id = h.instance_id
      left join public.instance_habits b on b.instance_id = h.instance_id
      left join lateral (
        select m.id, m.closed_at from public.instance_mutes m
        where m.instance_id = h.instance_id and m.silent_since = h.last_event_at
        order by m.suspected_at desc limit 1
      ) m on true
      -- What is known not to be set as it should, could not be set, and is silent since.
      left join public.instance_registrations f on f.instance_id = h.instance_id
        and f.found in ('missing', 'elsewhere', 'wrong_key') and f.failing_since <= p_now - p_policy.told_after
        and f.failing_since > h.last_event_at and (m.closed_at is null or f.failing_since > m.closed_at)
      where h.instance_id > v_after and h.instance_id <= v_until
        and h.last_event_at <= p_now - p_policy.shortest
        and (f.failing_since is not null or b.look_at is null or b.look_at <= p_now or b.probe_at is null or b.probe_at <= p_now)
        and public.is_mute_possible(i, h, p_policy, p_now)
        and not exists (
          select from public.instance_mutes o where o.instance_id = h.instance_id and o.closed_at is null)
    ) s;
  end if;
  return jsonb_build_object(
    'now', p_now, 'began_after', v_after, 'until', v_until, 'is_last', v_count < p_limit, 'marked', coalesce(v_marked, 0),
    'heard', coalesce(v_heard, 0), 'lines', coalesce(v_lines, '[]'),
    'opened', case when p_after is null then public.list_open_mutes(p_open, p_policy, p_now) end);
end
$$;
comment on function public.review_silence is
  'Counts the quarter hours of a page of lines, and returns those whose silence is to be judged, with their habit and their sends.';

create or replace function public.note_silences(
  p_instances uuid[], p_look_at timestamptz[], p_probe_at timestamptz[]   -- a null leaves what is there
)
returns void
language sql volatile security invoker set search_path = '' set enable_seqscan = off
as $$
  update public.instance_habits b
  set look_at = coalesce(t.look_at, b.look_at), probe_at = coalesce(t.probe_at, b.probe_at)
  from unnest(p_instances, p_look_at, p_probe_at) t (instance_id, look_at, probe_at)
  where b.instance_id = t.instance_id;
$$;
comment on function public.note_silences is 'When these lines'' silence, and their sends, are looked at again.';

create or replace function public.open_mutes(
  p_suspects jsonb,  -- instance_id, proof, last_event_at, since, improbable_at
  p_policy public.mute_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = '' set enable_seqscan = off
as $$
declare
  v_opened jsonb;
begin
  with opened as (
    insert into public.instance_mutes
      (instance_id, external_id, company_id, unit, proof, silent_since, since, suspected_at, improbable_at)
    select i.id, btrim(i.instance_id), i.company_id, i.unit, s.proof, s.last_event_at, s.since, p_now,
      coalesce(s.improbable_at, '{}')
    from jsonb_to_recordset(p_suspects) as s(
      instance_id uuid, proof text, last_event_at timestamptz, since timestamptz, improbable_at timestamptz[])
    join public.wapi_instances i on i.id = s.instance_id
    join public.instance_health h on h.instance_id = s.instance_id
    -- Nothing came in while Python thought about it.
    where h.last_event_at = s.last_event_at and public.is_mute_possible(i, h, p_policy, p_now)
    on conflict (instance_id) where closed_at is null do nothing
    returning *
  )
  select jsonb_agg(jsonb_build_object('id', o.id, 'instance_id', o.instance_id, 'proof', o.proof) order by o.instance_id)
  into v_opened from opened o;
  return coalesce(v_opened, '[]');
end
$$;
comment on function public.open_mutes is 'Writes suspicions down, one per line; returns those that are new.';

create or replace function public.prove_mutes(p_ids uuid[], p_since timestamptz[])
returns void
language sql volatile security invoker set search_path = ''
as $$
  update public.instance_mutes m
  set proof = 'sends', since = t.since
  from unnest(p_ids, p_since) t (id, since)
  where m.id = t.id and m.closed_at is null and m.proof = 'habit';
$$;
comment on function public.prove_mutes is 'A suspicion by habit alone that unanswered sends prove now.';

create or replace function public.repair_mutes(
  p_ids uuid[],
  p_is_canary boolean,
  p_pause interval,  -- a registration that was set so lately is not set again
  p_now timestamptz default now()
)
returns integer
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_mute public.instance_mutes;
  v_repaired integer := 0;
begin
  -- In the order of the lines, as request_registration wants it.
  for v_mute in
    select m.* from public.instance_mutes m
    where m.id = any (p_ids) and m.closed_at is null
      and (m.repaired_at is null or m.repaired_at <= p_now - p_pause)  -- two sweeps at once repair once
    order by m.instance_id for update
  loop
    perform public.request_registration(v_mute.instance_id, p_pause, p_now);
    update public.instance_mutes
    set repairs = repairs + 1, first_repaired_at = coalesce(first_repaired_at, p_now), repaired_at = p_now,
        canary_at = case when p_is_canary then p_now else canary_at end
    where id = v_mute.id;
    v_repaired := v_repaired + 1;
  end loop;
  return v_repaired;
end
$$;
comment on function public.repair_mutes is 'Asks the housekeeping to set the registration of these lines again, whatever it finds, and notes it.';

create or replace function public.close_mutes(
  p_ids uuid[], p_as text[], p_heard_at timestamptz[], p_now timestamptz default now()
)
returns integer
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_closed integer := 0;
  v_instance uuid;
begin
  for v_instance in
    update public.instance_mutes m
    set closed_at = p_now, closed_as = t.closed_as, heard_at = t.heard_at
    from unnest(p_ids, p_as, p_heard_at) t (id, closed_as, heard_at)
    where m.id = t.id and m.closed_at is null
    returning m.instance_id
  loop
    perform public.resolve_alert('line_mute', v_instance::text, p_now);
    v_closed := v_closed + 1;
  end loop;
  return v_closed;
end
$$;
comment on function public.close_mutes is 'Ends suspicions, with what the first event showed; the operator hears that it is over.';

create or replace function public.mute_occasion(p_mute public.instance_mutes)
returns public.occasion
language sql immutable security invoker set search_path = ''
as $$
  select row('mute:' || p_mute.id, p_mute.instance_id, p_mute.external_id, p_mute.unit, p_mute.company_id, null,
    p_mute.since)::public.occasion;
$$;
comment on function public.mute_occasion is 'A suspicion as what a notice is about.';

create or replace function public.tell_mute(
  p_id uuid,
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_mute public.instance_mutes;
  v_instance public.wapi_instances;
  v_users uuid[];
  v_event bigint;
  v_begins boolean;
  v_notified jsonb := jsonb_build_object('told', 0);
begin
  select i.* into v_instance
  from public.instance_mutes m join public.wapi_instances i on i.id = m.instance_id
  where m.id = p_id for no key update of i;
  select * into v_mute from public.instance_mutes where id = p_id for update;
  if v_instance.id is null or v_mute.closed_at is not null or v_mute.told_at is not null or v_mute.proof = 'habit'
    or v_instance.status is distinct from 'connected' or v_instance.is_active is false
    or exists (select from public.instance_outages o where o.instance_id = v_instance.id and o.closed_at is null)
  then
    return jsonb_build_object('told', null);
  end if;
  -- The line may have moved since: who is told are its people of today.
  v_mute.company_id := v_instance.company_id;
  v_mute.unit := v_instance.unit;
  v_begins := public.raise_alert('line_mute', v_instance.id::text, jsonb_build_object(
    'unit', public.name_of_line(public.mute_occasion(v_mute)), 'since', to_char(v_mute.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
    'company', (select c.name from public.companies c where c.id = v_mute.company_id)), p_now);
  v_users := public.recipients(public.mute_occasion(v_mute), 'mute', p_now);
  if cardinality(v_users) > 0 then
    v_event := public.record_event(
      v_instance, 'users_told', row('sweep', 'mute', null, v_mute.proof, null, null), null, null,
      jsonb_build_object('told', null, 'mute_id', v_mute.id), p_now);
    v_notified := public.notify_users(
      public.mute_occasion(v_mute), 'mute', p_texts, 'mute', v_event, p_policy, v_users, p_now);
    if (v_notified ->> 'told')::integer = 0 and (v_notified ->> 'refused')::integer = 0 then
      delete from public.instance_events where id = v_event;  -- held back: a later sweep tells it
    else
      update public.instance_events set details = details || v_notified where id = v_event;
    end if;
  end if;
  update public.instance_mutes
  set company_id = v_mute.company_id, unit = v_mute.unit,
      -- Who has heard too much today hears it as soon as there is a place.
      told_at = case when (v_notified ->> 'told')::integer > 0 and not v_notified ? 'held_back' then p_now end
  where id = p_id;
  return v_notified || jsonb_build_object('instance_id', v_instance.id, 'begins', v_begins);
end
$$;
comment on function public.tell_mute is 'Tells the operator, and the line''s users once, that messages do not reach the platform. No outage, no change of status.';

do $$
begin
  perform public.keep_for_service(
    'halve_counts', 'hour_of_week', 'mark_quarters', 'habit_of', 'unanswered_sends', 'is_mute_possible', 'review_silence',
    'heard_since', 'find_heard', 'list_open_mutes', 'note_silences', 'open_mutes', 'prove_mutes', 'repair_mutes', 'close_mutes',
    'mute_occasion', 'tell_mute');
end
$$;

insert into public.recovery_migrations (version) values ('20261122101200') on conflict do nothing;
