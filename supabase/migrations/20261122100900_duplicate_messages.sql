-- Purpose: within a conversation one provider's id is one message, so that acks, edits and quotes find the right row.
-- Touches: wapi_messages.
--
-- Changes to existing rows, and no others: of messages that share conversation_id and message_id the oldest (by
-- "timestamp", then by created_at where there is one, nulls last, then by id) keeps its message_id; in every copy
-- message_id becomes null and metadata gains duplicate_of, the id of the row that kept it. Metadata that is no object is
-- kept as metadata.original. No row goes; messages without an id (null, empty) or a conversation are left alone.
-- Triggers of the platform on wapi_messages fire for the copies, and Realtime tells of each if the table is published.
--
-- Price: two reads of the table and one hash aggregate (3 s and 80 MB of temporary files a million messages). Only the
-- copies are locked, and only at the end; readers and writers go on. Nothing is read where a unique index on these
-- columns already forbids copies.

set local lock_timeout = '5s';
set local statement_timeout = 0;  -- long on a big table, and in nobody's way

do $$
declare
  v_copies bigint;
begin
  if exists (
    select from pg_catalog.pg_index i
    where i.indrelid = 'public.wapi_messages'::regclass and i.indisunique and i.indisvalid and i.indexprs is null
      and coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), '') in ('', '(message_id IS NOT NULL)', '(message_id <> ''''::text)')
      and array['conversation_id', 'message_id'] @> (
        select array_agg(a.attname::text)
        from pg_catalog.unnest(i.indkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.place <= i.indnkeyatts)
  ) then
    return;
  end if;

  with repeated as (
    select m.conversation_id, m.message_id
    from public.wapi_messages m
    where m.conversation_id is not null and m.message_id <> ''
    group by m.conversation_id, m.message_id
    having count(*) > 1
  ),
  ranked as (
    select m.id, m.conversation_id, m.message_id, first_value(m.id) over oldest_first as kept
    from public.wapi_messages m
    join repeated r on r.conversation_id = m.conversation_id and r.message_id = m.message_id
    window oldest_first as (
      partition by m.conversation_id, m.message_id
      -- Not every platform has created_at: asked for like this it is null there.
      order by m."timestamp" nulls last, (to_jsonb(m) ->> 'created_at')::timestamptz nulls last, m.id
    )
  )
  update public.wapi_messages m
  set message_id = null,
      metadata = public.metadata_object(m.metadata) || jsonb_build_object('duplicate_of', r.kept)
  from ranked r
  where m.id = r.id and r.id <> r.kept
    -- Still the same message, whatever somebody did to it in the meantime.
    and m.conversation_id = r.conversation_id and m.message_id = r.message_id;
  get diagnostics v_copies = row_count;
  if v_copies > 0 then
    raise notice '% copies of messages gave up their message_id; metadata.duplicate_of names the row that kept it', v_copies;
  end if;
end
$$;

insert into public.recovery_migrations (version) values ('20261122100900') on conflict do nothing;
