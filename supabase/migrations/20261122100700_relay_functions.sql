-- Purpose: events are forwarded to the platform's own handler, at least once, in order per line, backlog first.
-- Touches: wapi_webhook_events (relay), new table relay_turns. Called by: receive_event, shared/store.py
--
-- One forwarder a line at a time: whoever holds the line's turn. A turn's row is locked to the end of the transaction
-- that keeps an event, so a forwarder that ends its turn either sees that event or leaves the turn to its sender.

set local lock_timeout = '5s';

alter table public.wapi_webhook_events
  add column if not exists relay text,
  add column if not exists relayed_at timestamptz,
  add column if not exists relay_attempts integer;
comment on column public.wapi_webhook_events.relay is 'null: not to be forwarded; pending; done; refused (by the handler, again and again; set it to pending to try once more).';
comment on column public.wapi_webhook_events.relay_attempts is 'How often the handler has refused it with a 4xx.';
-- Readers: claim_relay, list_relay_backlog.
create index if not exists events_to_relay on public.wapi_webhook_events ((coalesce(external_id, '')), id) where relay = 'pending';

create table if not exists public.relay_turns (
  line text primary key,
  token uuid,
  until timestamptz
);
comment on table public.relay_turns is 'Who forwards a line''s events now. line is the external id, '''' for events without one.';
alter table public.relay_turns enable row level security;
revoke all on public.relay_turns from public, anon, authenticated;
grant all on public.relay_turns to service_role;

create or replace function public.take_relay_turn(p_line text, p_token uuid, p_limit integer, p_seconds double precision, p_now timestamptz)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_events jsonb;
begin
  -- At least one, but no more than fit into an answer of 64 KiB: others may wait for the same answer.
  select jsonb_agg(jsonb_build_object('id', e.id, 'body', e.body, 'attempts', coalesce(e.relay_attempts, 0)) order by e.id) into v_events
  from (
    select *, sum(octet_length(body)) over (order by id) as so_far from (
      select id, body, relay_attempts from public.wapi_webhook_events
      where coalesce(external_id, '') = p_line and relay = 'pending' and body is not null
      order by id limit p_limit
    ) as waiting
  ) e
  where e.so_far <= greatest(65536, octet_length(e.body));
  update public.relay_turns
  set token = case when v_events is not null then p_token end,
      until = case when v_events is not null then p_now + make_interval(secs => p_seconds) end
  where line = p_line;
  return case when v_events is not null then jsonb_build_object('line', p_line, 'token', p_token, 'events', v_events) end;
end
$$;
comment on function public.take_relay_turn is 'The next events of a line for the holder of its turn; with none left the turn is free.';

create or replace function public.claim_relay(
  p_line text, p_limit integer, p_seconds double precision, p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_turn public.relay_turns;
begin
  insert into public.relay_turns (line) values (p_line) on conflict (line) do nothing;
  select * into v_turn from public.relay_turns where line = p_line for update;
  if v_turn.until > p_now then
    return null;  -- its holder sees this event when it ends its turn
  end if;
  return public.take_relay_turn(p_line, gen_random_uuid(), p_limit, p_seconds, p_now);
end
$$;
comment on function public.claim_relay is 'A line''s turn to forward, with its oldest waiting events; null when somebody has it or nothing waits.';

create or replace function public.finish_relay(
  p_line text,
  p_token uuid,
  p_done bigint[],
  p_refused bigint,
  p_more boolean,
  p_limit integer,
  p_seconds double precision,
  p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_ours boolean;
begin
  -- Events before the turn: a message being stored holds them in that order.
  update public.wapi_webhook_events set relay = 'done', relayed_at = p_now where id = any (p_done) and relay = 'pending';
  update public.wapi_webhook_events
  set relay_attempts = coalesce(relay_attempts, 0) + 1,
      -- Not wanted five times and for ten minutes: the line's other events wait no longer behind it.
      relay = case when relay_attempts >= 4 and received_at < p_now - interval '10 minutes' then 'refused' else relay end
  where id = p_refused and relay = 'pending';
  select token = p_token into v_ours from public.relay_turns where line = p_line for update;
  if not coalesce(v_ours, false) then
    return null;  -- it took too long and somebody else has gone on
  elsif p_more then
    return public.take_relay_turn(p_line, p_token, p_limit, p_seconds, p_now);
  end if;
  update public.relay_turns set token = null, until = null where line = p_line;
  return null;
end
$$;
comment on function public.finish_relay is
  'Marks what was forwarded, counts what was refused, and gives the turn back or takes the next events (p_more).';

create or replace function public.list_relay_backlog(p_limit integer, p_now timestamptz default now())
returns jsonb
language sql stable security invoker set search_path = ''
as $$
  select coalesce(jsonb_agg(line), '[]')
  from (
    select coalesce(e.external_id, '') as line
    from public.wapi_webhook_events e
    where e.relay = 'pending'
      and not exists (
        select from public.relay_turns t where t.line = coalesce(e.external_id, '') and t.until > p_now)
    group by 1
    order by min(e.id)
    limit p_limit
  ) waiting;
$$;
comment on function public.list_relay_backlog is 'Lines with events that nobody is forwarding, longest waiting first.';

revoke execute on function public.take_relay_turn(text, uuid, integer, double precision, timestamptz) from public, anon, authenticated;
revoke execute on function public.claim_relay(text, integer, double precision, timestamptz) from public, anon, authenticated;
revoke execute on function public.finish_relay(text, uuid, bigint[], bigint, boolean, integer, double precision, timestamptz) from public, anon, authenticated;
revoke execute on function public.list_relay_backlog(integer, timestamptz) from public, anon, authenticated;
grant execute on function public.take_relay_turn(text, uuid, integer, double precision, timestamptz) to service_role;
grant execute on function public.claim_relay(text, integer, double precision, timestamptz) to service_role;
grant execute on function public.finish_relay(text, uuid, bigint[], bigint, boolean, integer, double precision, timestamptz) to service_role;
grant execute on function public.list_relay_backlog(integer, timestamptz) to service_role;
