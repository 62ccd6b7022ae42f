-- Purpose: what the provider keeps of a line beside its session: where it posts the line's events, and until when it is paid.
-- Touches: instance_registrations (new), provider_state (two new columns); through notify_users notices and notifications,
-- through raise_alert the operator's alerts.
-- Called by: shared/database/registrations.py; request_registration also by whoever suspects a line.

set local lock_timeout = '5s';

create table if not exists public.instance_registrations (
  instance_id uuid primary key,
  external_id text not null,
  read_at timestamptz,
  found text,
  cause text,
  tries integer not null default 0,
  next_try_at timestamptz not null,
  tried_at timestamptz,
  set_at timestamptz,
  failing_since timestamptz,
  requested_at timestamptz,
  claimed_at timestamptz,
  lease_until timestamptz,
  subscription_read_at timestamptz,
  payment text,
  payment_word text,
  ends_at timestamptz,
  ending_at timestamptz,
  ending_days integer,
  constraint known_registration check (
    found in ('good', 'missing', 'elsewhere', 'foreign', 'wrong_key', 'old_key', 'plain_key', 'untold')),
  constraint known_payment check (payment in ('paid', 'lapsed', 'unclear'))
);
comment on table public.instance_registrations is
  'What the provider keeps of a line: where it posts its events, until when it is paid. Read once in 6 h and after every restart. A missing row means: never read.';
comment on column public.instance_registrations.instance_id is
  'wapi_instances.id; no foreign key, which would keep writers out while it is made: the next claim deletes what is left of a line.';
comment on column public.instance_registrations.external_id is 'Of which all this was read; another one in the line''s row makes it due at once.';
comment on column public.instance_registrations.read_at is 'When the reading began that last told where events go.';
comment on column public.instance_registrations.found is 'The worst of what was found then, of the kinds that count.';
comment on column public.instance_registrations.cause is 'Why it could last not be read or set.';
comment on column public.instance_registrations.tries is 'In vain, in a row: the waits between them grow.';
comment on column public.instance_registrations.tried_at is 'When it was last set, or tried to.';
comment on column public.instance_registrations.set_at is 'When it was last set and read back equal.';
comment on column public.instance_registrations.failing_since is 'First of the tries in a row to set it that were not read back equal.';
comment on column public.instance_registrations.requested_at is 'Somebody suspects the line: it is set again whatever is found, and this is cleared when that is read back.';
comment on column public.instance_registrations.lease_until is 'A sweep''s housekeeping is at this line until then; the value is also its token.';
comment on column public.instance_registrations.payment_word is 'What the provider says of payment, as told.';
comment on column public.instance_registrations.ending_at is 'The end of which was told last …';
comment on column public.instance_registrations.ending_days is '… and how near it was then: 7, 3 or 1 days, 0 on lapse.';

-- Reader: claim_registrations. A line's turn; those that somebody suspects.
create index if not exists registrations_by_turn on public.instance_registrations (next_try_at, instance_id);
create index if not exists requested_registrations on public.instance_registrations (next_try_at) where requested_at is not null;
-- Reader: record_registrations, whether none can be set.
create index if not exists failing_registrations on public.instance_registrations (failing_since) where failing_since is not null;
create index if not exists registrations_by_setting on public.instance_registrations (set_at) where set_at is not null;

alter table public.instance_registrations enable row level security;
revoke all on public.instance_registrations from public, anon, authenticated;
grant all on public.instance_registrations to service_role;

alter table public.provider_state add column if not exists registrations_failing_since timestamptz;
alter table public.provider_state add column if not exists own_address_failing_since timestamptz;
alter table public.provider_state add column if not exists registrations_walked_to uuid;
comment on column public.provider_state.registrations_failing_since is
  'Since when it is known that for a day registrations were tried to be set, and none was.';
comment on column public.provider_state.own_address_failing_since is
  'Since when our own address has not taken the key that was to be set: nothing is set.';
comment on column public.provider_state.registrations_walked_to is
  'In a fleet of several pages: how far lines were held against their registrations; the next claim goes on behind it.';

do $$
begin
  if to_regtype('public.registration_visit') is null then
    create type public.registration_visit as (
      instance_id uuid,
      lease timestamptz,              -- as claimed: its end is the holder's token
      requested_at timestamptz,       -- as claimed
      outcome text,                   -- kept | set | not_set | unread | left
      found text,                     -- null: nothing was read
      cause text,
      payment text,                   -- with payment_word and ends_at: what is told of the subscription …
      payment_word text,
      ends_at timestamptz,
      asked_payment boolean,          -- … if it was asked and answered
      ending_at timestamptz,          -- the stage of its end, null: none is near
      ending_days integer,
      ending_is_news boolean,         -- it was not told yet
      ending_text text                -- which text tells users of it; null: nobody is to be told
    );
    comment on type public.registration_visit is 'A line of claim_registrations, and what was found and done.';
  end if;
end
$$;

create or replace function public.request_registration(
  p_instance uuid,
  p_pause interval,                   -- so long after it was set nobody sets it again on suspicion
  p_now timestamptz default now()
)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  insert into public.instance_registrations as r (instance_id, external_id, next_try_at, requested_at)
  select i.id, btrim(i.instance_id), p_now, p_now
  from public.wapi_instances i
  where i.id = p_instance and btrim(i.instance_id) <> ''
  on conflict (instance_id) do update
    set requested_at = p_now,
        -- After a try in vain it waits its time, and is then set all the same.
        next_try_at = case when r.tries = 0 then least(r.next_try_at, p_now) else r.next_try_at end
    where r.requested_at is null and (r.set_at is null or r.set_at <= p_now - p_pause);
  return found;
end
$$;
comment on function public.request_registration is
  'Asks the next housekeeping to set a line''s registration again, whatever it finds, or after the wait of a try in vain. False: it was set or asked for lately. Whoever asks for several lines goes in the order of their ids.';

create or replace function public.has_registration(p_instance public.wapi_instances)
returns boolean
language sql stable security invoker set search_path = ''
as $$
  select p_instance.is_active is not false and lower(replace(coalesce(p_instance.provider, 'wapi'), '-', '')) = 'wapi'
    and btrim(p_instance.instance_id) <> '' and btrim(p_instance.instance_token) <> '';
$$;
comment on function public.has_registration is 'Whether a line is one of ours that can be asked about.';

create or replace function public.follow_lines(p_page integer, p_now timestamptz)
returns void
language plpgsql volatile security invoker set search_path = '' set plan_cache_mode = force_custom_plan
as $$
declare
  v_none constant uuid := '00000000-0000-0000-0000-000000000000';
  v_after constant uuid := coalesce((
    select s.registrations_walked_to from public.provider_state s where s.provider = 'wapi' and s.server = ''), v_none);
  v_until uuid;
  v_count integer;
  v_odd uuid[];
begin
  select max(p.id::text)::uuid, count(*) into v_until, v_count
  from (select i.id from public.wapi_instances i where i.id > v_after order by i.id limit p_page) p;
  if v_count < p_page then
    v_until := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
  end if;

  -- Nobody reads what the provider keeps of a line that is paused: what was said of it is over.
  perform public.resolve_alert(a.cause, a.subject, p_now)
  from public.operator_alerts a
  join public.wapi_instances i on i.id = case when a.subject ~ '^[0-9a-f]{8}-' then split_part(a.subject, ':', 1)::uuid end
  where a.resolved_at is null and a.cause in ('registration_failed', 'subscription_ending', 'subscription_unreadable')
    and not public.has_registration(i);

  -- Lines that came, went or became another one at the provider: few, found in one walk.
  select array_agg(coalesce(i.id, r.instance_id)) into v_odd
  from (
    select g.instance_id, g.external_id from public.instance_registrations g
    where g.instance_id > v_after and g.instance_id <= v_until
  ) r
  full join (
    select w.id, w.instance_id, public.has_registration(w) as is_kept
    from public.wapi_instances w where w.id > v_after and w.id <= v_until
  ) i on i.id = r.instance_id
  where i.id is null or r.external_id <> btrim(i.instance_id) and btrim(i.instance_id) <> ''
    or r.instance_id is null and i.is_kept;
  if v_odd is not null then
    perform public.resolve_alert(a.cause, a.subject, p_now)
    from public.operator_alerts a
    where a.resolved_at is null and a.cause in ('registration_failed', 'subscription_ending', 'subscription_unreadable')
      and split_part(a.subject, ':', 1) = any (v_odd::text[]);
    delete from public.instance_registrations r
    where r.instance_id = any (v_odd) and not exists (select from public.wapi_instances i where i.id = r.instance_id);
    insert into public.instance_registrations (instance_id, external_id, next_try_at)
    select n.id, n.external_id, p_now
    from (
      select i.id, btrim(i.instance_id) as external_id
      from public.wapi_instances i
      where i.id = any (v_odd) and public.has_registration(i)
        and not exists (select from public.instance_registrations r where r.instance_id = i.id)
      for key share of i skip locked
    ) n
    on conflict (instance_id) do nothing;
    -- Another line at the provider; who is at the old one records nothing.
    update public.instance_registrations r
    set external_id = c.external_id, found = null, cause = null, tries = 0, failing_since = null, requested_at = null,
        next_try_at = p_now, lease_until = null, subscription_read_at = null
    from (
      select g.instance_id, btrim(i.instance_id) as external_id
      from public.instance_registrations g
      join public.wapi_instances i on i.id = g.instance_id
      where g.instance_id = any (v_odd) and g.external_id <> btrim(i.instance_id) and btrim(i.instance_id) <> ''
      for no key update of g skip locked
    ) c
    where r.instance_id = c.instance_id;
  end if;

  if v_after <> v_none or v_count = p_page then  -- a fleet of one page leaves no trace
    insert into public.provider_state as s (provider, registrations_walked_to)
    values ('wapi', case when v_count = p_page then v_until end)
    on conflict (provider, server) do update set registrations_walked_to = excluded.registrations_walked_to;
  end if;
end
$$;
comment on function public.follow_lines is
  'Holds a page of the fleet against its registrations: a line that came gets a row, one that went loses it, one that is another at the provider begins anew.';

-- An audit event carries the beginning of its transaction: it may become visible that much later than the claim it precedes.
-- Planned anew each time: what it costs does not grow with the fleet, if its limits are known.
create or replace function public.claim_registrations(
  p_run uuid,                         -- the sweep: a share of its looks is the most that is claimed
  p_registers boolean,                -- false: only subscriptions are asked about
  p_every interval,
  p_payment_every interval,
  p_lease interval,
  p_share double precision,
  p_at_least integer,
  p_most integer,
  p_page integer,                     -- so many lines are held against their registrations; the next claim goes on
  p_slack interval,                   -- the longest transaction
  p_now timestamptz default null      -- tests bring a clock; null = the clock
)
returns jsonb
language plpgsql volatile security invoker set search_path = '' set plan_cache_mode = force_custom_plan
as $$
declare
  v_now constant timestamptz := coalesce(p_now, clock_timestamp());
  v_asleep constant uuid[] := public.inactive_companies();
  v_limit integer;
  v_lines jsonb;
begin
  select least(p_most, greatest(p_at_least, floor(p_share * coalesce(sum(h.checked), 0))))::integer into v_limit
  from public.health_check_runs h
  where h.started_at >= (select b.started_at from public.health_check_runs b where b.id = p_run);
  perform public.follow_lines(p_page, v_now);

  -- Each reason has its own index, and gives no more than is claimed at all. The line's row is looked up, not joined: the
  -- estimates of these conditions are far off, and a join begins with the fleet.
  with requested as (
    select r.instance_id
    from public.instance_registrations r
    where r.requested_at is not null and r.next_try_at <= v_now and (r.lease_until is null or r.lease_until <= v_now)
      and (select public.has_registration(i) and (i.company_id is null or i.company_id <> all (v_asleep))
        from public.wapi_instances i where i.id = r.instance_id)
    order by r.next_try_at
    limit v_limit
    for no key update of r skip locked
  ),
  changed as (
    select r.instance_id
    from public.instance_registrations r
    where p_registers and r.instance_id in (
        select e.instance_id from public.instance_events e
        join public.instance_registrations g on g.instance_id = e.instance_id
        where e.at > v_now - p_every and (g.claimed_at is null or e.at > g.claimed_at - p_slack)
          and (e.kind = 'restart_requested' or e.kind in ('status_changed', 'outage_closed') and e.to_status = 'connected'))
      and (r.lease_until is null or r.lease_until <= v_now)
      and (select public.has_registration(i) and (i.company_id is null or i.company_id <> all (v_asleep))
        from public.wapi_instances i where i.id = r.instance_id)
    order by r.next_try_at, r.instance_id
    limit v_limit
    for no key update of r skip locked
  ),
  turned as (
    select r.instance_id
    from public.instance_registrations r
    where r.next_try_at <= v_now and (r.lease_until is null or r.lease_until <= v_now)
      and (select public.has_registration(i) and (i.company_id is null or i.company_id <> all (v_asleep))
        from public.wapi_instances i where i.id = r.instance_id)
    order by r.next_try_at, r.instance_id
    limit v_limit
    for no key update of r skip locked
  ),
  due as (
    select r.instance_id, r.requested_at is not null as is_requested, d.is_changed, r.next_try_at as was_due_at
    from (
      select f.instance_id, bool_or(f.is_changed) as is_changed
      from (
        select instance_id, false as is_changed from requested
        union all select instance_id, true from changed
        union all select instance_id, false from turned
      ) f
      group by f.instance_id
    ) d
    join public.instance_registrations r on r.instance_id = d.instance_id
    order by is_requested desc, d.is_changed desc, r.next_try_at, r.instance_id
    limit v_limit
  ),
  claimed as (
    -- It stays due until what came of it is recorded: a process that is killed loses nothing.
    update public.instance_registrations r
    set claimed_at = v_now, lease_until = v_now + p_lease, next_try_at = least(r.next_try_at, v_now)
    from due where r.instance_id = due.instance_id and (r.lease_until is null or r.lease_until <= v_now)
    returning r.*, due.is_requested, due.is_changed, due.was_due_at
  )
  select coalesce(jsonb_agg(
    jsonb_build_object(
      'id', c.instance_id, 'external_id', c.external_id, 'token', i.instance_token, 'unit', i.unit,
      'lease', c.lease_until, 'requested_at', c.requested_at, 'found', c.found, 'tries', c.tries,
      'asks_payment', c.subscription_read_at is null or c.subscription_read_at <= v_now - p_payment_every,
      'payment_word', c.payment_word, 'ending_at', c.ending_at, 'ending_days', c.ending_days)
    order by c.is_requested desc, c.is_changed desc, c.was_due_at, c.instance_id), '[]')
  into v_lines
  from claimed c join public.wapi_instances i on i.id = c.instance_id;
  return jsonb_build_object('now', v_now, 'lines', v_lines);
end
$$;
comment on function public.claim_registrations is
  'Leases lines whose registration is to be read: suspected ones, those restarted or restored since, then whose turn it is.';

create or replace function public.alert_of_registration(
  p_line public.wapi_instances,
  p_before public.instance_registrations,
  p_visit public.registration_visit,
  p_cannot_be_set boolean,            -- after all the waits
  p_now timestamptz
)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_of_line constant jsonb := jsonb_build_object(
    'unit', coalesce(nullif(btrim(p_line.unit), ''), btrim(p_line.instance_id)),
    'company', (select c.name from public.companies c where c.id = p_line.company_id));
  v_endings constant text := p_line.id || ':%';
begin
  if p_cannot_be_set then
    perform public.raise_alert(
      'registration_failed', p_line.id::text, v_of_line || jsonb_build_object('why', p_visit.cause), p_now);
  elsif p_visit.outcome in ('set', 'kept') and p_before.tries > 0 then
    perform public.resolve_alert('registration_failed', p_line.id::text, p_now);
  end if;
  if p_visit.ending_is_news then
    -- One alert for each stage; the one before is over without a word.
    update public.operator_alerts set resolved_at = p_now
    where cause = 'subscription_ending' and subject like v_endings and resolved_at is null;
    perform public.raise_alert(
      'subscription_ending',
      p_line.id || ':' || to_char(p_visit.ending_at at time zone 'UTC', 'YYYY-MM-DD') || ':' || p_visit.ending_days,
      v_of_line || jsonb_build_object('ends', case when p_visit.ending_days = 0 then 'it has lapsed'
        else 'it ends on ' || to_char(p_visit.ending_at at time zone 'UTC', 'YYYY-MM-DD') end), p_now);
  elsif p_visit.asked_payment and p_visit.ending_days is null and p_before.ending_days is not null then
    perform public.resolve_alert(a.cause, a.subject, p_now)
    from public.operator_alerts a
    where a.cause = 'subscription_ending' and a.subject like v_endings and a.resolved_at is null;
  end if;
  if p_visit.payment = 'unclear' then
    perform public.raise_alert(
      'subscription_unreadable', p_line.id::text, v_of_line || jsonb_build_object('word', p_visit.payment_word), p_now);
  elsif p_visit.asked_payment and p_before.payment = 'unclear' then
    perform public.resolve_alert('subscription_unreadable', p_line.id::text, p_now);
  end if;
end
$$;
comment on function public.alert_of_registration is
  'What the operator hears of one line''s registration and subscription, in the transaction that records it.';

create or replace function public.record_registrations(
  p_visits public.registration_visit[],
  p_own_address boolean,              -- whether our own address took the key; null: it was not asked
  p_refusal text,                     -- why not
  p_every interval,
  p_waits interval[],                 -- after the first, second … try in vain; the last one for ever
  p_failing_after interval,
  p_texts jsonb,
  p_policy public.recovery_policy,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_visit public.registration_visit;
  v_before public.instance_registrations;
  v_line public.wapi_instances;
  v_recorded integer := 0;
  v_told integer := 0;
  v_fails boolean;
  v_state public.provider_state;
  v_answer jsonb := '{}';
begin
  for v_visit in select v.* from unnest(p_visits) v order by v.instance_id loop
    select * into v_before from public.instance_registrations r
    where r.instance_id = v_visit.instance_id and r.lease_until = v_visit.lease
    for no key update;
    if not found then
      continue;                       -- its lease is over, or it is another line by now: nothing is known of that one
    end if;
    update public.instance_registrations r
    set lease_until = null,
        read_at = case when v_visit.found is not null then r.claimed_at else r.read_at end,
        found = coalesce(v_visit.found, r.found),
        cause = v_visit.cause,
        tries = case when v_visit.outcome = 'left' then r.tries
          when v_visit.outcome in ('unread', 'not_set') then r.tries + 1 else 0 end,
        next_try_at = case when v_visit.outcome = 'left' then r.next_try_at
          when v_visit.outcome in ('unread', 'not_set') then p_now + p_waits[least(r.tries + 1, cardinality(p_waits))]
          -- Never all at once: whatever made them come together wears off.
          else p_now + p_every * (0.75 + 0.25 * random()) end,
        tried_at = case when v_visit.outcome in ('set', 'not_set') then p_now else r.tried_at end,
        set_at = case when v_visit.outcome = 'set' then p_now else r.set_at end,
        failing_since = case when v_visit.outcome = 'not_set' then coalesce(r.failing_since, p_now)
          when v_visit.outcome in ('set', 'kept') then null else r.failing_since end,
        requested_at = case when v_visit.outcome in ('set', 'kept') and r.requested_at is not distinct from v_visit.requested_at
          then null else r.requested_at end,
        subscription_read_at = case when v_visit.asked_payment then p_now else r.subscription_read_at end,
        payment = case when v_visit.asked_payment then v_visit.payment else r.payment end,
        payment_word = case when v_visit.asked_payment then v_visit.payment_word else r.payment_word end,
        ends_at = case when v_visit.asked_payment then v_visit.ends_at else r.ends_at end,
        ending_at = case when v_visit.asked_payment then v_visit.ending_at else r.ending_at end,
        ending_days = case when v_visit.asked_payment then v_visit.ending_days else r.ending_days end
    where r.instance_id = v_visit.instance_id;
    v_recorded := v_recorded + 1;
    select * into v_line from public.wapi_instances where id = v_visit.instance_id;
    continue when not found;  -- it has just gone
    perform public.alert_of_registration(
      v_line, v_before, v_visit, v_visit.outcome = 'not_set' and v_before.tries + 1 >= cardinality(p_waits), p_now);
    if v_visit.ending_text is not null then
      v_told := v_told + (public.notify_users(
        row('subscription:' || v_line.id || ':' || to_char(v_visit.ending_at at time zone 'UTC', 'YYYY-MM-DD') || ':'
            || v_visit.ending_days,
          v_line.id, btrim(v_line.instance_id), v_line.unit, v_line.company_id, null, v_visit.ending_at)::public.occasion,
        v_visit.ending_text, p_texts, 'subscription', null, p_policy, null, p_now) ->> 'told')::integer;
    end if;
  end loop;

  v_fails := exists (
      select from public.instance_registrations
      where failing_since <= p_now - p_failing_after and tried_at > p_now - p_failing_after)
    and not exists (select from public.instance_registrations where set_at > p_now - p_failing_after);
  select * into v_state from public.provider_state where provider = 'wapi' and server = '';
  if v_fails <> (v_state.registrations_failing_since is not null)
    or p_own_address = (v_state.own_address_failing_since is not null)
  then
    insert into public.provider_state (provider) values ('wapi') on conflict do nothing;
    select * into v_state from public.provider_state where provider = 'wapi' and server = '' for no key update;
    v_answer := jsonb_strip_nulls(jsonb_build_object(
      'failing', case when v_fails <> (v_state.registrations_failing_since is not null) then v_fails end,
      'own_address_failing',
      case when p_own_address = (v_state.own_address_failing_since is not null) then not p_own_address end));
    update public.provider_state
    set registrations_failing_since = case when v_fails then coalesce(registrations_failing_since, p_now) end,
        own_address_failing_since = case
          when p_own_address then null
          when p_own_address is null then own_address_failing_since
          else coalesce(own_address_failing_since, p_now) end
    where provider = 'wapi' and server = '';
    if (v_answer -> 'failing')::boolean then
      perform public.raise_alert('registration_failed', '', jsonb_build_object(
        'unit', 'All lines', 'why', 'none could be set for ' || p_failing_after), p_now);
    else
      perform public.resolve_alert('registration_failed', '', p_now) where v_answer ? 'failing';
    end if;
    if (v_answer -> 'own_address_failing')::boolean then
      perform public.raise_alert('own_address', '', jsonb_build_object('why', p_refusal), p_now);
    else
      perform public.resolve_alert('own_address', '', p_now) where v_answer ? 'own_address_failing';
    end if;
  end if;
  return jsonb_build_object('recorded', v_recorded, 'told', v_told) || v_answer;
end
$$;
comment on function public.record_registrations is
  'Writes what came of visits whose lease holds, and gives the leases back; says what began or ended for the fleet with it.';

do $$
begin
  perform public.keep_for_service(
    'request_registration', 'has_registration', 'follow_lines', 'claim_registrations', 'alert_of_registration', 'record_registrations');
end
$$;

insert into public.recovery_migrations (version) values ('20261122101100') on conflict do nothing;
