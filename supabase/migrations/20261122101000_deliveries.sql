-- Purpose: further channels: who else is told, what waits for whom, and the operator's alerts. At least once, and never twice
-- for a yes that was heard.
-- Touches: new tables only; new types. Called by: notify_users (write_deliveries, in the transaction that tells), the
-- housekeeping (claim_deliveries, finish_deliveries), whoever raises an alert.
--
-- A contact's row is the turn for its messages: claims lock it first, then its deliveries. Addresses are secrets.

set local lock_timeout = '5s';

create or replace function public.is_zone(p_zone text)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return now() at time zone p_zone is not null;
exception when invalid_parameter_value then
  return false;
end
$$;
comment on function public.is_zone is 'Whether the database knows a time zone.';

create table if not exists public.alert_contacts (
  id uuid primary key default gen_random_uuid(),
  company_id uuid,
  channel text not null,
  address text not null,
  position integer not null default 1,
  after_minutes integer not null default 15,
  quiet_from time default '22:00',
  quiet_until time default '08:00',
  zone text not null default 'America/Sao_Paulo',
  starts_at timestamptz not null default now(),
  is_active boolean not null default true,
  created_at timestamptz not null default now(),
  constraint one_contact_per_address unique nulls not distinct (company_id, channel, address),
  constraint known_channel check (channel in ('email', 'whatsapp', 'operator')),
  constraint operators_channel_is_no_companys check (channel <> 'operator' or company_id is null),
  -- An address is no way into a network: one mailbox, or one number. Of an operator's channel only a fingerprint stands here.
  constraint plain_address check (case channel
    when 'email' then address ~ '^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$' and length(address) <= 254
    when 'whatsapp' then address ~ '^[0-9]{10,15}$'
    else address ~ '^[0-9a-f]{32}$' end),
  constraint known_zone check (public.is_zone(zone)),
  constraint sane_waits check (after_minutes between 0 and 1440 and position between 1 and 100),
  constraint quiet_from_and_until check ((quiet_from is null) = (quiet_until is null))
);
comment on table public.alert_contacts is
  'Who is told by a further channel. Written by the platform''s backend with the service key; addresses are secrets, shown by their last four characters only.';
comment on column public.alert_contacts.company_id is 'Whose lines; null: the operator''s, for alerts about all.';
comment on column public.alert_contacts.channel is 'email | whatsapp | operator (an address of OPERATOR_ALERT_URLS: kept here by the housekeeping).';
comment on column public.alert_contacts.position is 'The next position is due when nobody of this one was surely reached.';
comment on column public.alert_contacts.after_minutes is 'How long the bell may stay unread; 0 = at once.';
comment on column public.alert_contacts.quiet_from is 'In zone. null: never quiet. An operator''s contact is never quiet.';
comment on column public.alert_contacts.starts_at is 'Hears what is told from then on.';
create index if not exists contacts_by_company_and_position on public.alert_contacts (company_id, position);

create table if not exists public.notice_deliveries (
  id bigint generated always as identity primary key,
  occasion text not null,
  contact_id uuid not null,
  kind text not null,
  company_id uuid,
  instance_id uuid,
  outage_id uuid,
  unit text,
  channel text not null,
  title text,
  message text,
  cause text,
  details jsonb not null default '{}',
  state text not null default 'waiting',
  note text,
  created_at timestamptz not null,
  due_at timestamptz not null,
  give_up_at timestamptz,
  lease_until timestamptz,
  tries integer not null default 0,
  unheard integer not null default 0,
  first_tried_at timestamptz,
  batch bigint,
  sent_at timestamptz,
  message_id text,
  sent_by uuid,
  acked_at timestamptz,
  constraint one_delivery_per_occasion_contact_kind unique (occasion, contact_id, kind),
  constraint known_delivery_kind check (kind in ('down', 'unstable', 'down_lasting', 'still_down', 'back', 'alert', 'resolved')),
  constraint known_delivery_state check (state in ('waiting', 'sent', 'cancelled', 'given_up'))
);
comment on table public.notice_deliveries is
  'Outbox: what a contact is to hear, once per occasion, contact and kind. Written in the transaction that tells. Kept 90 days.';
comment on column public.notice_deliveries.occasion is 'As in notices; alert:<id> for an operator''s alert.';
comment on column public.notice_deliveries.title is 'Of a notice, with message; an alert has a cause instead, whose words are Python''s.';
comment on column public.notice_deliveries.state is 'waiting -> sent (the channel said yes) | cancelled (note says why) | given_up (after 24 h).';
comment on column public.notice_deliveries.note is 'Why it waits, was cancelled or failed last: a word, never an address.';
comment on column public.notice_deliveries.lease_until is 'Somebody is sending it until then; the value is also their token.';
comment on column public.notice_deliveries.unheard is 'Tries whose answer nobody heard: the contact may have been reached.';
comment on column public.notice_deliveries.batch is 'What was tried as one message is tried again as that message: the least of its ids, which the channel gets as its id.';
comment on column public.notice_deliveries.sent_by is 'wapi_instances.id of the line that sent it, with its message_id.';
comment on column public.notice_deliveries.acked_at is 'WhatsApp only: a "queued" is not delivered before the phone has said so.';
-- Readers: claim_deliveries; write_deliveries; note_acks.
create index if not exists waiting_deliveries_by_contact on public.notice_deliveries (contact_id, due_at) where state = 'waiting';
create index if not exists deliveries_by_line_and_contact on public.notice_deliveries (instance_id, contact_id, id);
create index if not exists unacked_deliveries on public.notice_deliveries (sent_at)
  where state = 'sent' and channel = 'whatsapp' and acked_at is null;
create index if not exists deliveries_by_age on public.notice_deliveries (created_at);

create table if not exists public.operator_alerts (
  id bigint generated always as identity primary key,
  cause text not null,
  subject text not null default '',
  details jsonb not null default '{}',
  raised_at timestamptz not null,
  resolved_at timestamptz
);
comment on table public.operator_alerts is 'What the operator is told: one row per cause and subject, from when it is raised until it is over. Kept 90 days.';
comment on column public.operator_alerts.cause is 'AlertCause in shared/core/alerts.py, which has its words.';
comment on column public.operator_alerts.subject is 'Which of them: a line, a channel. Empty where there is one alone.';
create unique index if not exists one_open_alert_per_cause_and_subject on public.operator_alerts (cause, subject)
  where resolved_at is null;
create index if not exists alerts_by_cause_and_subject on public.operator_alerts (cause, subject, id);
create index if not exists alerts_by_age on public.operator_alerts (raised_at);

create table if not exists public.alert_channels (
  channel text primary key,
  failing_since timestamptz,
  cause text,
  last_yes_at timestamptz
);
comment on table public.alert_channels is 'How each channel fares: email, whatsapp, operator:<fingerprint>.';
comment on column public.alert_channels.failing_since is 'First failure since its last yes; null: none.';

do $$
declare
  v_name text;
begin
  foreach v_name in array array['alert_contacts', 'notice_deliveries', 'operator_alerts', 'alert_channels'] loop
    execute format('alter table public.%I enable row level security', v_name);
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant all on public.%I to service_role', v_name);
  end loop;
  if to_regtype('public.delivery_policy') is null then
    create type public.delivery_policy as (
      ack_within interval,        -- a contact that was not surely reached by then lets the next position be due
      together interval,          -- what is due so close to each other is one message
      line_proven interval,       -- a line that is back for less sends nobody else's alerts
      keep_trying interval,       -- after this a delivery is given up
      waits interval[],           -- before a delivery that failed is tried again; the last one for ever
      dead_after interval,        -- a channel that fails for so long is told to the operator
      settled_after interval,     -- that an alert is over is told when it has been so for so long
      counted_within interval,    -- in this time a contact hears of one line so often at most,
      notices_most integer,       -- the last of them bad news only
      silent_after interval,      -- lines that answer nothing for so long, and whose users were not told, have one cause
      down_after interval,        -- a line that is down for so long is told to the operator, too …
      device_gone_after interval, -- … the deep probe that answers for none …
      blind_sweeps integer        -- … and so many sweeps in a row that found nothing out
    );
    comment on type public.delivery_policy is 'The numbers of the outbox, from the policy in Python.';
  end if;
end
$$;
revoke all on sequence public.notice_deliveries_id_seq, public.operator_alerts_id_seq from public, anon, authenticated;

create or replace function public.is_bad_news(p_kind text)
returns boolean
language sql immutable security invoker set search_path = ''
as $$ select p_kind in ('down', 'unstable', 'down_lasting', 'still_down') $$;
comment on function public.is_bad_news is 'Whether a kind of notice tells contacts that a line is down.';

create or replace function public.was_reached(p_delivery public.notice_deliveries)
returns boolean
language sql immutable security invoker set search_path = ''
as $$ select p_delivery.state = 'sent' or p_delivery.unheard > 0 $$;
comment on function public.was_reached is 'Whether a contact has heard it, or may have: an answer that nobody heard may have been a yes.';

create or replace function public.write_deliveries(
  p_occasion public.occasion, p_text text, p_texts jsonb, p_now timestamptz, p_kind text
)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_kind constant text := p_kind;  -- the text's own, or that the fall lasts
begin
  if v_kind <> 'back' and not public.is_bad_news(v_kind) then
    return;
  end if;
  -- What says the opposite and is not on its way is no news any more.
  update public.notice_deliveries set state = 'cancelled', note = case v_kind when 'back' then 'back' else 'down_again' end
  where instance_id = p_occasion.instance_id and state = 'waiting' and (kind = 'back') <> (v_kind = 'back')
    and (lease_until is null or lease_until <= p_now);
  insert into public.notice_deliveries
    (occasion, contact_id, kind, company_id, instance_id, outage_id, unit, channel, title, message, created_at, due_at)
  select p_occasion.key, c.id, v_kind, c.company_id, p_occasion.instance_id, p_occasion.outage_id, p_occasion.unit, c.channel,
    p_texts -> p_text ->> 'title', public.render_notice(p_occasion, p_text, p_texts, p_now), p_now,
    p_now + case v_kind when 'back' then interval '0' else c.after_minutes * interval '1 minute' end
  from public.alert_contacts c
  where c.company_id = p_occasion.company_id and c.is_active and c.starts_at <= p_now
    -- That it is back hear those who were reached and have not heard it since.
    and (v_kind <> 'back' or exists (
      select from public.notice_deliveries d
      where d.instance_id = p_occasion.instance_id and d.contact_id = c.id and d.kind <> 'back' and public.was_reached(d)
        and not exists (
          select from public.notice_deliveries b
          where b.instance_id = d.instance_id and b.contact_id = c.id and b.kind = 'back' and b.id > d.id
            and b.state <> 'cancelled')))
  on conflict (occasion, contact_id, kind) do nothing;
end
$$;
comment on function public.write_deliveries is
  'What a company''s contacts are to hear of a notice, told or not: when it is due and still so. Again is no second one.';

-- The operator's alerts

create or replace function public.raise_alert(
  p_cause text, p_subject text default '', p_details jsonb default '{}', p_now timestamptz default now()
)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_alert bigint;
begin
  -- What is so again before anybody has heard that it was over goes on, and nobody hears anything.
  update public.operator_alerts o set resolved_at = null
  where o.id = (
      select a.id from public.operator_alerts a where a.cause = p_cause and a.subject = p_subject order by a.id desc limit 1)
    and o.resolved_at is not null
    and exists (select from public.notice_deliveries d where d.occasion = 'alert:' || o.id and d.kind = 'resolved')
    and not exists (
      select from public.notice_deliveries d
      where d.occasion = 'alert:' || o.id and d.kind = 'resolved' and (d.state <> 'waiting' or d.unheard > 0))
  returning o.id into v_alert;
  if v_alert is not null then
    delete from public.notice_deliveries
    where occasion = 'alert:' || v_alert and kind = 'resolved' and state = 'waiting' and unheard = 0;
    return false;
  end if;
  insert into public.operator_alerts (cause, subject, details, raised_at) values (p_cause, p_subject, p_details, p_now)
  on conflict (cause, subject) where resolved_at is null do nothing
  returning id into v_alert;
  if v_alert is null then
    return false;
  end if;
  insert into public.notice_deliveries (occasion, contact_id, kind, channel, cause, details, created_at, due_at)
  select 'alert:' || v_alert, c.id, 'alert', c.channel, p_cause, p_details, p_now, p_now
  from public.alert_contacts c
  where c.company_id is null and c.is_active and c.starts_at <= p_now
    and (p_cause <> 'channel_dead' or p_subject <> public.channel_key(c.channel, c.address))
  on conflict (occasion, contact_id, kind) do nothing;
  return true;
end
$$;
comment on function public.raise_alert is
  'Tells the operator of a cause, once until it is resolved and told so; true when it begins now. Within any transaction: what is rolled back was not told. Raise it as often as it is so.';

create or replace function public.resolve_alert(
  p_cause text, p_subject text default '', p_now timestamptz default now()
)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_alert public.operator_alerts;
begin
  update public.operator_alerts set resolved_at = p_now
  where cause = p_cause and subject = p_subject and resolved_at is null
  returning * into v_alert;
  if v_alert.id is null then
    return false;
  end if;
  update public.notice_deliveries set state = 'cancelled', note = 'resolved'
  where occasion = 'alert:' || v_alert.id and kind = 'alert' and state = 'waiting' and unheard = 0;
  insert into public.notice_deliveries (occasion, contact_id, kind, channel, cause, details, created_at, due_at)
  select d.occasion, d.contact_id, 'resolved', d.channel, d.cause, d.details, p_now, p_now
  from public.notice_deliveries d
  where d.occasion = 'alert:' || v_alert.id and d.kind = 'alert' and public.was_reached(d)
  on conflict (occasion, contact_id, kind) do nothing;
  return true;
end
$$;
comment on function public.resolve_alert is
  'A cause is over: who was told of it is told so, who was not hears nothing. True when it ends now; call it as often as it is not so.';

create or replace function public.channel_key(p_channel text, p_address text)
returns text
language sql immutable security invoker set search_path = ''
as $$ select case p_channel when 'operator' then 'operator:' || p_address else p_channel end $$;
comment on function public.channel_key is 'What fails together: a company''s channel as a whole, each of the operator''s alone.';

create or replace function public.note_channel(p_key text, p_is_well boolean, p_cause text, p_now timestamptz)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  insert into public.alert_channels as c (channel, failing_since, cause, last_yes_at)
  values (p_key, case when not p_is_well then p_now end, p_cause, case when p_is_well then p_now end)
  on conflict (channel) do update
  set failing_since = case when not p_is_well then coalesce(c.failing_since, p_now) end, cause = excluded.cause,
      last_yes_at = coalesce(excluded.last_yes_at, c.last_yes_at);
  if p_is_well then
    perform public.resolve_alert('channel_dead', p_key, p_now);
  end if;
end
$$;
comment on function public.note_channel is 'A channel said yes, or failed.';

create or replace function public.note_dead_channels(p_policy public.delivery_policy, p_now timestamptz)
returns text[]
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_channel public.alert_channels;
  v_dead text[] := '{}';
begin
  for v_channel in
    select a.* from public.alert_channels a
    where a.failing_since <= p_now - p_policy.dead_after and exists (
      select from public.notice_deliveries d
      join public.alert_contacts c on c.id = d.contact_id and public.channel_key(c.channel, c.address) = a.channel
      where d.state = 'waiting' and (d.tries > 0 or d.note in ('no_line', 'not_configured')))
  loop
    if public.raise_alert('channel_dead', v_channel.channel, jsonb_build_object(
      'channel', split_part(v_channel.channel, ':', 1), 'which', right(v_channel.channel, 4), 'cause', v_channel.cause,
      'since', v_channel.failing_since), p_now) then
      v_dead := v_dead || split_part(v_channel.channel, ':', 1);
    end if;
  end loop;
  return v_dead;
end
$$;
comment on function public.note_dead_channels is
  'Raises an alert for each channel that has failed for long and has something to send; returns those of now.';

create or replace function public.note_operators(p_fingerprints text[], p_now timestamptz)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_gone text[];
begin
  if (select coalesce(array_agg(address order by address), '{}') from public.alert_contacts
      where channel = 'operator' and is_active)
    = (select coalesce(array_agg(distinct f order by f), '{}') from unnest(p_fingerprints) f) then
    return;
  end if;
  with gone as (
    update public.alert_contacts set is_active = false
    where channel = 'operator' and is_active and address <> all (p_fingerprints)
    returning address
  )
  select array_agg('operator:' || address) into v_gone from gone;
  perform public.resolve_alert('channel_dead', g, p_now) from unnest(v_gone) g;
  with joined as (
    insert into public.alert_contacts as c (channel, address, after_minutes, quiet_from, quiet_until, starts_at)
    select distinct 'operator', f, 0, null::time, null::time, p_now from unnest(p_fingerprints) f
    on conflict on constraint one_contact_per_address do update set is_active = true, starts_at = p_now where not c.is_active
    returning c.id, c.channel, c.address
  )
  -- Who is new hears what is so.
  insert into public.notice_deliveries (occasion, contact_id, kind, channel, cause, details, created_at, due_at)
  select 'alert:' || a.id, j.id, 'alert', j.channel, a.cause, a.details, p_now, p_now
  from joined j
  join public.operator_alerts a on a.resolved_at is null and (a.cause, a.subject) <> (
    'channel_dead', public.channel_key(j.channel, j.address))
  on conflict (occasion, contact_id, kind) do nothing;
end
$$;
comment on function public.note_operators is 'Keeps the operator''s contacts what OPERATOR_ALERT_URLS says, by fingerprints.';

create or replace function public.set_alert(
  p_is_on boolean, p_cause text, p_subject text, p_details jsonb, p_now timestamptz
)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  if p_is_on then
    perform public.raise_alert(p_cause, p_subject, p_details, p_now);
  else
    perform public.resolve_alert(p_cause, p_subject, p_now);
  end if;
end
$$;
comment on function public.set_alert is 'Raises or resolves an alert by whether its cause is so.';

create or replace function public.note_causes(p_policy public.delivery_policy, p_now timestamptz)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_state public.provider_state;
  v_refused integer;
  v_sqlstates text;
  v_down record;
  v_silent integer;
  v_silent_since timestamptz;
  v_drifted integer;
begin
  select * into v_state from public.provider_state where provider = 'wapi' and server = '';
  perform public.set_alert(v_state.braked_since is not null, 'brake', '', jsonb_build_object('since', v_state.braked_since), p_now);
  perform public.set_alert(coalesce(v_state.blind_sweeps >= p_policy.blind_sweeps, false), 'sweep_blind', '',
    jsonb_build_object('count', v_state.blind_sweeps), p_now);
  perform public.set_alert(coalesce(v_state.device_silent_since <= p_now - p_policy.device_gone_after, false),
    'contract_drifted', 'device', jsonb_build_object('what', 'device', 'since', v_state.device_silent_since), p_now);
  select (r.outcomes ->> 'drifted')::integer into v_drifted
  from public.health_check_runs r
  where r.finished_at is not null and r.checked > 0 order by r.started_at desc limit 1;
  perform public.set_alert(coalesce(v_drifted > 0, false), 'contract_drifted', 'route',
    jsonb_build_object('what', 'A route (' || v_drifted || ' looks)'), p_now);
  -- Lines that fell silent with others are told to no venue. Where hardly anybody answers other alerts say so, and no more
  -- are counted than anybody wants to know.
  if coalesce(v_state.blind_sweeps, 0) < p_policy.blind_sweeps and v_state.braked_since is null
    and coalesce(v_state.device_silent_since > p_now - p_policy.device_gone_after, true)
  then
    select count(*), min(s.unknown_since) into v_silent, v_silent_since
    from (
      select h.unknown_since
      from public.instance_health h
      join public.wapi_instances i on i.id = h.instance_id
      where h.unknown_since <= p_now - p_policy.silent_after and h.unverified_since is null
        and (h.last_event_at is null or h.last_event_at < h.unknown_since)
        and i.status in ('connected', 'degraded') and i.is_active is not false
        and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi' and not public.is_asleep(i.company_id)
      order by h.unknown_since limit 1000
    ) s;
    if v_silent <> 1 then  -- the last one is its venue's business in the next sweep, or heard by then
      perform public.set_alert(v_silent > 1, 'lines_silent', '',
        jsonb_build_object('count', v_silent, 'since', v_silent_since), p_now);
    end if;
  end if;
  select count(*), string_agg(distinct sqlstate, ', ') into v_refused, v_sqlstates
  from public.notices where state = 'refused' and next_try_at is not null;
  perform public.set_alert(v_refused > 0, 'notices_refused', '',
    jsonb_build_object('count', v_refused, 'sqlstate', v_sqlstates), p_now);

  for v_down in
    select o.id, o.instance_id, o.unit, o.started_at, o.external_id, c.name as company
    from public.instance_outages o
    join public.wapi_instances i on i.id = o.instance_id and i.is_active is not false
    left join public.companies c on c.id = o.company_id
    where o.closed_at is null and o.opened_by <> 'adoption' and o.started_at <= p_now - p_policy.down_after
      and not exists (
        select from public.operator_alerts a
        where a.cause = 'line_down' and a.subject = o.id::text and a.resolved_at is null)
  loop
    perform public.raise_alert('line_down', v_down.id::text, jsonb_build_object(
      'instance', v_down.instance_id, 'unit', coalesce(nullif(public.plain_name(v_down.unit), ''), v_down.external_id),
      'company', public.plain_name(v_down.company), 'since', v_down.started_at), p_now);
  end loop;
  perform public.resolve_alert(a.cause, a.subject, p_now)
  from public.operator_alerts a
  where a.cause = 'line_down' and a.resolved_at is null and not exists (
    select from public.instance_outages o
    where o.id::text = a.subject and o.closed_at is null);
end
$$;
comment on function public.note_causes is 'Raises and resolves what our tables say of themselves: brake, blind sweeps, drift, lines silent together, refused notices, lines down for long.';

-- Sending

create or replace function public.quiet_until(p_contact public.alert_contacts, p_now timestamptz)
returns timestamptz
language sql stable security invoker set search_path = ''
as $$
  select case
    when p_contact.company_id is null or p_contact.quiet_from is null or p_contact.quiet_from = p_contact.quiet_until then null
    when p_contact.quiet_from < p_contact.quiet_until and l.t >= p_contact.quiet_from and l.t < p_contact.quiet_until
      then (l.day + p_contact.quiet_until) at time zone p_contact.zone
    when p_contact.quiet_from > p_contact.quiet_until and l.t >= p_contact.quiet_from
      then (l.day + 1 + p_contact.quiet_until) at time zone p_contact.zone
    when p_contact.quiet_from > p_contact.quiet_until and l.t < p_contact.quiet_until
      then (l.day + p_contact.quiet_until) at time zone p_contact.zone end
  from (select (p_now at time zone p_contact.zone)::date as day, (p_now at time zone p_contact.zone)::time as t) l;
$$;
comment on function public.quiet_until is 'Until when a contact is to be left in peace; null: not now.';

create or replace function public.alert_line(
  p_line text, p_policy public.delivery_policy, p_now timestamptz default now()
)
returns public.wapi_instances
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_line public.wapi_instances;
  v_is_mute boolean := false;
begin
  select i.* into v_line
  from public.wapi_instances i
  where (btrim(i.instance_id) = p_line or i.id::text = lower(p_line))
    and i.is_active is not false and lower(replace(coalesce(i.provider, 'wapi'), '-', '')) = 'wapi'
    and i.status = 'connected' and btrim(i.instance_token) <> '' and not public.is_asleep(i.company_id)
    and (i.connected_at is null or i.connected_at <= p_now - p_policy.line_proven)
    and not exists (
      select from public.instance_outages o
      where o.instance_id = i.id and (o.closed_at is null or o.closed_at > p_now - p_policy.line_proven))
    and not exists (
      select from public.instance_health h
      where h.instance_id = i.id and (h.unverified_since is not null or h.bad_since is not null))
  limit 1;
  if v_line.id is not null and to_regclass('public.instance_mutes') is not null then
    execute 'select exists (select from public.instance_mutes where instance_id = $1 and closed_at is null)'
    into v_is_mute using v_line.id;
  end if;
  return case when v_is_mute then null else v_line end;
end
$$;
comment on function public.alert_line is
  'The platform''s line that sends alerts, if it may: not one that is down, mute, in doubt or back since a short time. No other line ever takes its place.';

create or replace function public.note_acks(p_policy public.delivery_policy, p_now timestamptz)
returns void
language sql volatile security invoker set search_path = ''
as $$
  update public.notice_deliveries d set acked_at = p_now
  where d.state = 'sent' and d.channel = 'whatsapp' and d.acked_at is null and d.sent_at > p_now - p_policy.keep_trying
    and exists (
      select from public.find_message(d.sent_by, d.message_id, true) m where m.status in ('delivered', 'read'));
$$;
comment on function public.note_acks is 'Notes which of the messages that the provider queued have arrived on a phone.';

-- What is asked for each of thousands of contacts is PL/pgSQL, which keeps its plans: SQL would plan at each call.
create or replace function public.is_over(
  p_delivery public.notice_deliveries, p_contact public.alert_contacts
)
returns text
language plpgsql stable security invoker set search_path = ''
as $$
begin
  return (
    select case
      when p_delivery.kind = 'alert' then (
        select 'resolved' from public.operator_alerts a
        where a.id = split_part(p_delivery.occasion, ':', 2)::bigint and a.resolved_at is not null)
      when p_delivery.kind = 'resolved' then
        case when not exists (
          select from public.notice_deliveries d
          where d.occasion = p_delivery.occasion and d.contact_id = p_contact.id and d.kind = 'alert' and public.was_reached(d))
        then 'not_reached' end
      when p_delivery.company_id is distinct from p_contact.company_id or not exists (
        select from public.wapi_instances i
        where i.id = p_delivery.instance_id and i.company_id = p_delivery.company_id) then 'moved'
      when p_delivery.kind = 'back' then
        -- Who after all was not reached has nothing to hear; who is down again hears that.
        case
          when not exists (
            select from public.notice_deliveries d
            where d.instance_id = p_delivery.instance_id and d.contact_id = p_contact.id and d.kind <> 'back'
              and d.id < p_delivery.id and public.was_reached(d)) then 'not_reached' end
      when p_delivery.outage_id is not null and not exists (
        select from public.instance_outages o
        join public.wapi_instances i on i.id = o.instance_id and i.is_active is not false
        where o.id = p_delivery.outage_id and o.closed_at is null) then 'back'
      -- A row that is gone counts as unread: a job may have deleted it.
      when exists (
        select from public.notices n
        join public.notifications f on f.id = n.notification_id
        where n.occasion = p_delivery.occasion and n.kind = p_delivery.kind and n.state = 'sent'
          and to_jsonb(f) ->> 'read' = 'true') then 'read' end);
end
$$;
comment on function public.is_over is 'Why a delivery is no news any more; null: it is.';

create or replace function public.waits_for_others(
  p_delivery public.notice_deliveries, p_contact public.alert_contacts, p_policy public.delivery_policy, p_now timestamptz
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  -- Of those before it, one by one: a company may have thousands beside and behind it.
  return (
    select public.is_bad_news(p_delivery.kind) and exists (
      select from public.alert_contacts c
      cross join lateral (
        select d.* from public.notice_deliveries d
        where d.occasion = p_delivery.occasion and d.contact_id = c.id and d.kind = p_delivery.kind
        offset 0
      ) l
      where c.company_id = p_delivery.company_id and c.is_active and c.position < p_contact.position
        and l.company_id = p_delivery.company_id
        and not case l.state
          when 'waiting' then coalesce(l.note in ('no_line', 'not_configured') or l.note = 'quiet' and l.due_at > p_now, false)
            -- Tried, or due so long ago and not tried because its channel is left alone.
            or coalesce(least(l.first_tried_at, l.give_up_at - p_policy.keep_trying) <= p_now - p_policy.ack_within, false)
          when 'sent' then l.channel = 'whatsapp' and l.acked_at is null and l.sent_at <= p_now - p_policy.ack_within
          else true end));
end
$$;
comment on function public.waits_for_others is
  'Whether a contact of an earlier position may still be reached, or was: the next one is due when that is not so.';

create or replace function public.place_at(
  p_delivery public.notice_deliveries, p_policy public.delivery_policy, p_now timestamptz
)
returns timestamptz
language plpgsql stable security invoker set search_path = ''
as $$
begin
  -- As free_places has it for the bell. An alert is no line's.
  return (
    select coalesce(d.sent_at, d.first_tried_at) + p_policy.counted_within
    from public.notice_deliveries d
    where d.instance_id = p_delivery.instance_id and d.contact_id = p_delivery.contact_id and d.id <> p_delivery.id
      and public.was_reached(d) and coalesce(d.sent_at, d.first_tried_at) > p_now - p_policy.counted_within
    order by coalesce(d.sent_at, d.first_tried_at) desc
    offset p_policy.notices_most - 1 - (p_delivery.kind = 'back')::integer limit 1);
end
$$;
comment on function public.place_at is
  'When a contact that has heard too often of a line today may hear of it again; null: now. The last place of a day is for bad news only.';

create or replace function public.claim_deliveries(
  p_channels text[],          -- of companies' contacts, as far as they are configured
  p_operator text[],          -- fingerprints of the operator's channels
  p_alert_line text,
  p_lease interval,
  p_limit integer,            -- messages
  p_policy public.delivery_policy,
  p_skip text[] default '{}', -- channels that are left alone for now
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_contact public.alert_contacts;
  v_delivery public.notice_deliveries;
  v_line public.wapi_instances;
  v_over text;
  v_quiet timestamptz;
  v_ids bigint[];
  v_batch bigint;
  v_is_good boolean;
  v_cause text;
  v_messages jsonb := '[]';
  v_dead text[];
  v_given_up integer := 0;
  v_cancelled integer := 0;
  v_why text;
  v_place_at timestamptz;
  v_seen integer := 0;
  v_more boolean := false;
begin
  perform public.note_operators(p_operator, p_now);
  perform public.note_causes(p_policy, p_now);
  v_dead := public.note_dead_channels(p_policy, p_now);
  perform public.note_acks(p_policy, p_now);
  if not exists (
    select from public.notice_deliveries
    where state = 'waiting' and due_at <= p_now and (lease_until is null or lease_until <= p_now)) then
    return jsonb_build_object('messages', v_messages, 'dead', v_dead, 'given_up', 0, 'cancelled', 0);
  end if;
  v_line := public.alert_line(p_alert_line, p_policy, p_now);

  update public.notice_deliveries d set state = 'cancelled', note = 'no_contact'
  where d.state = 'waiting' and d.due_at <= p_now and (d.lease_until is null or d.lease_until <= p_now)
    and not exists (select from public.alert_contacts c where c.id = d.contact_id and c.is_active);
  get diagnostics v_cancelled = row_count;

  for v_contact in
    -- Each company's first contact before anybody's second: thousands of one company keep no other waiting.
    select c.* from public.alert_contacts c
    join (
      select w.id, row_number() over (partition by w.company_id order by w.position, w.id) as turn
      from public.alert_contacts w
      where w.is_active and exists (
        select from public.notice_deliveries d
        where d.contact_id = w.id and d.state = 'waiting' and d.due_at <= p_now
          and (d.lease_until is null or d.lease_until <= p_now))
    ) t on t.id = c.id
    where c.is_active
    order by t.turn, c.id
    for no key update of c skip locked
  loop
    continue when public.channel_key(v_contact.channel, v_contact.address) = any (p_skip);
    v_more := jsonb_array_length(v_messages) >= p_limit or v_seen >= 25 * p_limit;
    exit when v_more;
    v_seen := v_seen + 1;
    v_ids := '{}';
    v_batch := null;
    v_is_good := null;
    v_quiet := public.quiet_until(v_contact, p_now);
    v_why := case
      when v_contact.channel = 'operator' then null
      when v_contact.channel <> all (p_channels) then 'not_configured'
      when v_contact.channel = 'whatsapp' and v_line.id is null then 'no_line' end;
    for v_delivery in
      select d.* from public.notice_deliveries d
      where d.contact_id = v_contact.id and d.state = 'waiting' and d.due_at <= p_now
        and (d.lease_until is null or d.lease_until <= p_now)
      order by d.batch nulls last, d.id
      for update skip locked
    loop
      v_over := public.is_over(v_delivery, v_contact);
      if v_over is not null then
        update public.notice_deliveries set state = 'cancelled', note = v_over, lease_until = null where id = v_delivery.id;
        v_cancelled := v_cancelled + 1;
        continue;
      elsif v_delivery.give_up_at <= v_delivery.due_at then  -- what was due within its day is tried, whenever somebody sweeps
        update public.notice_deliveries
        set state = case when tries = 0 and coalesce(note, 'others') = 'others' then 'cancelled' else 'given_up' end,
            note = coalesce(nullif(note, 'others'), 'not_needed'), lease_until = null
        where id = v_delivery.id;
        v_given_up := v_given_up + (v_delivery.tries > 0 or coalesce(v_delivery.note, 'others') <> 'others')::integer;
        continue;
      elsif v_quiet is not null then  -- a night does not begin its day, and does not make a day that has begun longer
        update public.notice_deliveries set due_at = v_quiet, note = 'quiet', lease_until = null where id = v_delivery.id;
        continue;
      elsif v_delivery.give_up_at is null then  -- its day begins when somebody first looks
        update public.notice_deliveries set give_up_at = p_now + p_policy.keep_trying where id = v_delivery.id;
      end if;
      if v_why is not null then
        update public.notice_deliveries set due_at = p_now + p_policy.waits[1], note = v_why, lease_until = null
        where id = v_delivery.id;
        perform public.note_channel(public.channel_key(v_contact.channel, v_contact.address), false, v_why, p_now);
        continue;
      end if;
      -- That it is over is told when it has settled; until then it may begin again, and nobody hears either.
      if v_delivery.kind = 'resolved' and v_delivery.created_at > p_now - p_policy.settled_after then
        update public.notice_deliveries set due_at = created_at + p_policy.settled_after where id = v_delivery.id;
        continue;
      end if;
      v_place_at := case when v_delivery.tries = 0 then public.place_at(v_delivery, p_policy, p_now) end;
      if v_place_at is not null then
        update public.notice_deliveries
        set due_at = v_place_at, note = 'enough', give_up_at = null
        where id = v_delivery.id;
        continue;
      end if;
      if public.waits_for_others(v_delivery, v_contact, p_policy, p_now) then
        -- Not again in this round: thousands may wait.
        update public.notice_deliveries set due_at = p_now + p_policy.together / 2, note = case when tries = 0 then 'others' else note end
        where id = v_delivery.id;
        continue;
      end if;
      continue when
        -- That it is over comes after what is on its way.
        v_delivery.kind in ('back', 'resolved') and exists (
          select from public.notice_deliveries d
          where d.contact_id = v_contact.id and d.state = 'waiting' and d.lease_until > p_now)
        -- One message at a time for a contact: what was tried together, or all that is due now, of one kind and cause.
        or cardinality(v_ids) > 0 and (
          v_delivery.batch is distinct from v_batch or v_delivery.cause is distinct from v_cause
          or (v_delivery.kind in ('back', 'resolved')) <> v_is_good)
        or v_delivery.batch is null and exists (
          select from public.notice_deliveries d
          where d.contact_id = v_contact.id and d.state = 'waiting' and d.batch is null
            and (d.kind in ('back', 'resolved')) = (v_delivery.kind in ('back', 'resolved'))
            and d.due_at > p_now and d.due_at <= v_delivery.due_at + p_policy.together
            and d.note is distinct from 'others' and d.note is distinct from 'enough');
      v_ids := v_ids || v_delivery.id;
      v_batch := v_delivery.batch;
      v_is_good := v_delivery.kind in ('back', 'resolved');
      v_cause := v_delivery.cause;
    end loop;
    continue when cardinality(v_ids) = 0;
    v_batch := coalesce(v_batch, v_ids[1]);
    update public.notice_deliveries
    -- Due as of now: whoever dies with it leaves it due, and a day of dying is enough.
    set lease_until = p_now + p_lease, tries = tries + 1, unheard = unheard + 1, note = null, due_at = p_now,
        first_tried_at = coalesce(first_tried_at, p_now), batch = v_batch, channel = v_contact.channel
    where id = any (v_ids);
    v_messages := v_messages || jsonb_build_array((
      select jsonb_build_object(
        'batch', v_batch, 'ids', v_ids, 'lease', p_now + p_lease, 'contact_id', v_contact.id, 'channel', v_contact.channel,
        'address', v_contact.address, 'is_good', v_is_good, 'items', jsonb_agg(jsonb_build_object(
          'occasion', d.occasion, 'kind', d.kind, 'title', d.title, 'message', d.message, 'cause', d.cause,
          'details', d.details) order by d.id))
      from public.notice_deliveries d where d.id = any (v_ids)));
  end loop;
  return jsonb_build_object(
    'messages', v_messages, 'more', v_more, 'dead', v_dead, 'given_up', v_given_up, 'cancelled', v_cancelled,
    'line', case when v_line.id is not null then jsonb_build_object(
      'id', v_line.id, 'external_id', btrim(v_line.instance_id), 'token', v_line.instance_token, 'last_event_at', null) end);
end
$$;
comment on function public.claim_deliveries is
  'The messages that are due, leased to the caller: one per contact. Also notes what the operator is to hear, and what is no news any more.';

create or replace function public.finish_delivery(
  p_ids bigint[],
  p_lease timestamptz,     -- as claimed
  p_result text,           -- sent | refused (a no that was heard) | unclear | not_tried
  p_cause text,            -- a word, when it was not sent
  p_channel text,          -- what fails together, as channel_key has it
  p_message_id text,       -- the channel's
  p_phone text,            -- to whom a line sent it, and …
  p_text text,             -- … what, for its own conversation
  p_policy public.delivery_policy,
  p_event_ahead interval,
  p_line uuid default null,  -- that sent it
  p_now timestamptz default now()
)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  if p_result = 'sent' then
    -- Late or not, a yes is a yes.
    update public.notice_deliveries
    set state = 'sent', sent_at = p_now, message_id = p_message_id, sent_by = p_line, lease_until = null, note = null
    where id = any (p_ids) and state in ('waiting', 'cancelled');
  elsif p_result = 'not_tried' then
    update public.notice_deliveries
    set lease_until = null, tries = tries - 1, unheard = unheard - 1,
        first_tried_at = case when tries > 1 then first_tried_at end, batch = case when tries > 1 then batch end
    where id = any (p_ids) and state = 'waiting' and lease_until = p_lease;
  else
    update public.notice_deliveries
    set lease_until = null, note = p_cause, unheard = unheard - (p_result = 'refused')::integer,
        due_at = p_now + p_policy.waits[least(tries, cardinality(p_policy.waits))]
    where id = any (p_ids) and state = 'waiting' and lease_until = p_lease;
  end if;
  if p_result = 'not_tried' then
    return;
  end if;
  -- Whoever the contact is by now: this is what was done.
  perform public.note_channel(p_channel, p_result = 'sent', p_cause, p_now);
  if p_result = 'sent' and p_line is not null and p_message_id is not null then
    perform public.keep_alert_message(p_line, p_message_id, p_phone, p_text, p_event_ahead, p_now);
  end if;
end
$$;
comment on function public.finish_delivery is
  'What became of a message that was claimed.';

create or replace function public.keep_alert_message(
  p_line uuid, p_message_id text, p_phone text, p_text text, p_event_ahead interval, p_now timestamptz
)
returns void
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_line public.wapi_instances;
  v_source constant jsonb := '{"source": "system_alert"}';
begin
  select * into v_line from public.wapi_instances where id = p_line for key share;
  if not found then
    return;
  end if;
  -- Whoever is first, the echo or we: one row, and it says that no member of the staff has written it.
  perform public.store_message(v_line, jsonb_build_object(
    'message_id', p_message_id, 'from_me', true, 'phone', p_phone, 'is_dialled', true, 'type', 'text', 'content', p_text,
    'metadata', v_source), p_now, p_event_ahead);
  update public.wapi_messages m set metadata = public.metadata_object(m.metadata) || v_source
  where m.id in (select f.id from public.find_message(p_line, p_message_id, true) f)
    and m.metadata ->> 'source' is distinct from 'system_alert';
exception when others then
  -- The platform's tables refuse a message of ours: it was sent all the same, and that must be kept.
  if not public.is_refusal(sqlstate) then
    raise;
  end if;
  raise warning 'keep_alert_message: % ', sqlstate;
end
$$;
comment on function public.keep_alert_message is
  'An alert in the conversation of the line that sent it, marked as none of the staff''s; its echo finds it there.';

create or replace function public.purge_deliveries(p_limit integer, p_age interval, p_now timestamptz default now())
returns integer
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_deleted integer;
begin
  delete from public.operator_alerts where id = any (array(
    select id from public.operator_alerts
    where raised_at < p_now - p_age and resolved_at is not null order by raised_at limit p_limit for update skip locked));
  -- The last that a contact heard of a line that is down decides who hears that it is back.
  delete from public.notice_deliveries where id = any (array(
    select d.id from public.notice_deliveries d
    where d.created_at < p_now - p_age and d.state <> 'waiting' and not exists (
      select from public.instance_outages o where o.instance_id = d.instance_id and o.closed_at is null)
    order by d.created_at limit p_limit for update skip locked));
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;
comment on function public.purge_deliveries is 'Deliveries and alerts that are past their time; called by purge_history.';

do $$
begin
  perform public.keep_for_service(
    'is_zone', 'is_bad_news', 'was_reached', 'write_deliveries', 'raise_alert', 'resolve_alert', 'channel_key', 'note_channel', 'note_dead_channels',
    'note_operators', 'set_alert', 'note_causes', 'quiet_until', 'alert_line', 'note_acks', 'is_over', 'waits_for_others',
    'place_at', 'claim_deliveries', 'finish_delivery', 'keep_alert_message', 'purge_deliveries');
end
$$;

insert into public.recovery_migrations (version) values ('20261122101000') on conflict do nothing;
