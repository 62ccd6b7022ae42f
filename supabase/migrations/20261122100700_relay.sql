-- Purpose: events are forwarded to the platform's own handler, at least once, in order per line, backlog first.
-- Touches: wapi_webhook_events (relay), relay_turns. Called by: receive_event, shared/database/store.py
--
-- One forwarder a line at a time: whoever holds the line's turn. A turn's row is locked to the end of the transaction
-- that keeps an event, so a forwarder that ends its turn either sees that event or leaves the turn to its sender.

set local lock_timeout = '5s';

create or replace function public.take_relay_turn(p_external_id text, p_token uuid, p_limit integer, p_turn interval, p_now timestamptz)
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
      where coalesce(external_id, '') = p_external_id and relay = 'pending' and body is not null
      order by id limit p_limit
    ) as waiting
  ) e
  where e.so_far <= greatest(65536, octet_length(e.body));
  update public.relay_turns
  set token = case when v_events is not null then p_token end,
      until = case when v_events is not null then p_now + p_turn end,
      taken_at = p_now
  where external_id = p_external_id;
  return case when v_events is not null then jsonb_build_object('external_id', p_external_id, 'token', p_token, 'events', v_events) end;
end
$$;
comment on function public.take_relay_turn is 'The next events of a line for the holder of its turn; with none left the turn is free.';

create or replace function public.claim_relay(
  p_external_id text, p_limit integer, p_turn interval, p_now timestamptz default now()
)
returns jsonb
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_turn public.relay_turns;
begin
  insert into public.relay_turns (external_id) values (p_external_id) on conflict (external_id) do nothing;
  select * into v_turn from public.relay_turns where external_id = p_external_id for update;
  if v_turn.until > p_now then
    return null;  -- its holder sees this event when it ends its turn
  end if;
  return public.take_relay_turn(p_external_id, gen_random_uuid(), p_limit, p_turn, p_now);
end
$$;
comment on function public.claim_relay is 'A line''s turn to forward, with its oldest waiting events; null when somebody has it or nothing waits.';

create or replace function public.finish_relay(
  p_external_id text,
  p_token uuid,
  p_done bigint[],
  p_refused bigint,
  p_give_up_refusals integer,
  p_give_up_after interval,
  p_more boolean,
  p_limit integer,
  p_turn interval,
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
      -- Not wanted again and again: the line's other events wait no longer behind it.
      relay = case
        when coalesce(relay_attempts, 0) + 1 >= p_give_up_refusals and received_at < p_now - p_give_up_after then 'refused'
        else relay end
  where id = p_refused and relay = 'pending';
  select token = p_token into v_ours from public.relay_turns where external_id = p_external_id for update;
  if not coalesce(v_ours, false) then
    return null;  -- it took too long and somebody else has gone on
  elsif p_more then
    return public.take_relay_turn(p_external_id, p_token, p_limit, p_turn, p_now);
  end if;
  update public.relay_turns set token = null, until = null where external_id = p_external_id;
  return null;
end
$$;
comment on function public.finish_relay is
  'Marks what was forwarded, counts what was refused, and gives the turn back or takes the next events (p_more).';

create or replace function public.list_relay_backlog(p_limit integer, p_now timestamptz default now())
returns jsonb
language sql stable security invoker set search_path = ''
as $$
  select coalesce(jsonb_agg(waiting.external_id), '[]')
  from (
    select coalesce(e.external_id, '') as external_id
    from public.wapi_webhook_events e
    where e.relay = 'pending'
      and not exists (
        select from public.relay_turns t where t.external_id = coalesce(e.external_id, '') and t.until > p_now)
    group by 1
    order by min(e.id)
    limit p_limit
  ) waiting;
$$;
comment on function public.list_relay_backlog is 'Lines with events that nobody is forwarding, longest waiting first.';

do $$
begin
  perform public.keep_for_service('take_relay_turn', 'claim_relay', 'finish_relay', 'list_relay_backlog');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100700') on conflict do nothing;
