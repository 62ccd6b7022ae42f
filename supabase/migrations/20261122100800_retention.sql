-- Purpose: what is past its time goes, in transactions so small that nobody waits for one.
-- Touches: wapi_webhook_events, instance_events, health_check_runs, relay_turns, instance_outages (of lines that are gone), and by
-- purge_deliveries what the outbox keeps.
-- Called by: shared/database/store.py, again and again until nothing is left or its time is up.

set local lock_timeout = '5s';

-- Reads all turns, a row a line that relays: an index by age would be written with every turn.
create or replace function public.purge_relay_turns(p_limit integer, p_age interval, p_now timestamptz default now())
returns integer
language plpgsql volatile security invoker set search_path = '' set enable_seqscan = on
as $$
declare
  v_deleted integer;
begin
  delete from public.relay_turns where external_id = any (array(
    select external_id from public.relay_turns
    where taken_at < p_now - p_age and token is null limit p_limit for update skip locked));
  get diagnostics v_deleted = row_count;
  return v_deleted;
end
$$;
comment on function public.purge_relay_turns is 'Turns of lines that have relayed nothing for so long; called by purge_history.';

-- Outages, notices and restart claims stay for ever.
create or replace function public.purge_history(
  p_limit integer,
  p_bodies interval,    -- of events that are done
  p_inbox interval,
  p_audit interval,
  p_runs interval,
  p_bodies_from timestamptz default null,  -- where the last step ended: events that wait for their relay keep their bodies
  p_now timestamptz default now()
)
returns jsonb
-- Always along the index by age, which ends with the step: by its estimates the planner may rather read and sort all that is
-- due, or the whole inbox, where rows that came together do not lie together.
language plpgsql volatile security invoker set search_path = '' set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
  v_bodies integer;
  v_inbox integer;
  v_audit integer;
  v_runs integer;
  v_turns integer;
  v_deliveries integer;
  v_deleted integer;
  v_bodies_until timestamptz;
  v_from constant uuid := gen_random_uuid();
begin
  -- One at a time: whoever comes second would only meet locked rows.
  if not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('purge_history', 0)) then
    return null;
  end if;
  -- By an array: a join with a list is planned as a walk through the whole table as long as that is small. Of places: a row
  -- that is locked stays in its own, and no index is walked again, the larger the table the longer.
  with emptied as (
    update public.wapi_webhook_events set body = null where ctid = any (array(
      select ctid from public.wapi_webhook_events
      where body is not null and received_at < p_now - p_bodies
        and received_at >= coalesce(p_bodies_from, timestamptz '-infinity')
        and processed_at is not null and coalesce(relay, 'done') = 'done'
      order by received_at limit p_limit for update skip locked))
    returning received_at
  )
  select count(*), max(received_at) into v_bodies, v_bodies_until from emptied;
  delete from public.wapi_webhook_events where ctid = any (array(
    select ctid from public.wapi_webhook_events
    where received_at < p_now - p_inbox order by received_at limit p_limit for update skip locked));
  get diagnostics v_inbox = row_count;
  delete from public.instance_events where ctid = any (array(
    select ctid from public.instance_events
    where at < p_now - p_audit order by at limit p_limit for update skip locked));
  get diagnostics v_audit = row_count;
  delete from public.health_check_runs where ctid = any (array(
    select ctid from public.health_check_runs
    where started_at < p_now - p_runs order by started_at limit p_limit for update skip locked));
  get diagnostics v_runs = row_count;
  v_turns := public.purge_relay_turns(p_limit, p_inbox, p_now);
  v_deliveries := public.purge_deliveries(p_limit, p_audit, p_now);
  -- Deleting a line is blocked by nothing of ours, not even by a trigger: its outage closes here. All open outages while they
  -- are few, else some from a random one on: a step has the same price for any fleet.
  update public.instance_outages o set closed_at = greatest(p_now, o.started_at), closed_as = 'deleted'
  where o.closed_at is null and o.id = any (array(
    select w.id
    from (
      (select id, instance_id from public.instance_outages
       where closed_at is null and instance_id >= v_from order by instance_id limit 50)
      union all
      (select id, instance_id from public.instance_outages
       where closed_at is null and instance_id < v_from order by instance_id limit 50)
    ) w
    where not exists (select from public.wapi_instances i where i.id = w.instance_id)));
  get diagnostics v_deleted = row_count;
  return jsonb_build_object(
    'rows', jsonb_build_object(
      'bodies', v_bodies, 'inbox', v_inbox, 'audit', v_audit, 'runs', v_runs, 'turns', v_turns, 'outages', v_deleted,
      'deliveries', v_deliveries),
    'bodies_until', v_bodies_until);
end
$$;
comment on function public.purge_history is
  'One small step of the retention: at most p_limit rows of each kind; null when somebody else is at it. Also closes the outages of lines that are gone.';

do $$ begin perform public.keep_for_service('purge_relay_turns', 'purge_history'); end $$;

insert into public.recovery_migrations (version) values ('20261122100800') on conflict do nothing;
