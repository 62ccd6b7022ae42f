-- Purpose: messages and acks become rows, once, whatever their order: conversations, LIDs, unread counts, edits.
-- Touches: wapi_conversations, wapi_messages (metadata, where a platform has none; two indexes while it is empty),
-- wapi_webhook_events (what waits for its message), wapi_contact_lids. Called by: receive_event.
--
-- Nothing here relies on a unique index on wapi_messages: older platforms have none. Our writers take turns on the
-- conversation's row; a platform's own writer that is faster is met as a unique violation.
-- Locks: the line's row before all (receive_event), then the contact's LID, the message's id, conversations by id.

set local lock_timeout = '5s';

-- Only where it is missing: an alter table that changes nothing would still wait for every reader of the table.
do $$
begin
  if not exists (
    select from pg_catalog.pg_attribute
    where attrelid = 'public.wapi_messages'::regclass and attname = 'metadata' and not attisdropped
  ) then
    alter table public.wapi_messages add column metadata jsonb;
  end if;
end
$$;

-- Readers: acks, edits and twins find a message by its id within a line. On a platform with a big table an operator
-- builds it concurrently; until then they go through the line's conversations.
do $$
begin
  if not exists (select from public.wapi_messages limit 1) then
    create index if not exists messages_by_message_id on public.wapi_messages (message_id);
    create index if not exists messages_by_conversation on public.wapi_messages (conversation_id, "timestamp");
  end if;
end
$$;

create or replace function public.lock_name(p_instance uuid, p_name text)
returns void
language sql volatile security invoker set search_path = ''
as $$
  select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(p_instance::text || p_name, 0));
$$;
comment on function public.lock_name is 'Takes turns, until the transaction ends, on something of a line that may have no row yet.';

create or replace function public.find_message(p_instance uuid, p_message_id text, p_from_me boolean default null)
returns setof public.wapi_messages
language sql stable security invoker rows 2 set search_path = ''
as $$
  select m.*
  from public.wapi_conversations c
  join public.wapi_messages m on m.conversation_id = c.id
  where c.instance_id = p_instance and m.message_id = p_message_id and (p_from_me is null or m.from_me = p_from_me);
$$;
comment on function public.find_message is 'The message with a provider''s id, within one line.';

create or replace function public.metadata_object(p_metadata jsonb)
returns jsonb
language sql immutable security invoker set search_path = ''
as $$
  select case
    when jsonb_typeof(p_metadata) = 'object' then p_metadata
    when p_metadata is null or p_metadata = 'null' then '{}'
    else jsonb_build_object('original', p_metadata)
  end;
$$;
comment on function public.metadata_object is 'A message''s metadata as an object that facts can be added to; what is none (a list, a word) is kept in it as original.';

create or replace function public.message_rank(p_status text)
returns integer
language sql immutable security invoker set search_path = ''
as $$
  select case p_status when 'sent' then 1 when 'delivered' then 2 when 'read' then 3 else 0 end;
$$;
comment on function public.message_rank is 'How far an outgoing message has come: pending, sent, delivered, read.';

create or replace function public.refresh_last_message(p_conversation uuid)
returns void
language sql volatile security invoker set search_path = ''
as $$
  -- By moment; within one second the greater id is the later one: the same end for every order of arrival.
  update public.wapi_conversations c
  set last_message_at = m."timestamp", last_message_from_me = m.from_me,
      last_message_content = coalesce(nullif(m.content, ''), m.metadata ->> 'preview', '')
  from (
    select "timestamp", from_me, content, metadata from public.wapi_messages
    where conversation_id = p_conversation and "timestamp" is not null  -- older platforms hold some without a moment
    order by "timestamp" desc, message_id collate "C" desc nulls last limit 1
  ) m
  where c.id = p_conversation;
$$;
comment on function public.refresh_last_message is 'What a list of conversations shows: the last message, by its moment.';

create or replace function public.change_message(p_message public.wapi_messages, p_change jsonb, p_moment timestamptz)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_acks jsonb := coalesce(p_message.metadata -> 'acks', '{}');
  v_best text;
  v_error_at timestamptz;
  v_delivered_at timestamptz;
  v_versions jsonb;
begin
  if p_change ->> 'do' = 'ack' then
    -- What came in has no ack.
    if not p_message.from_me then
      return 'not_newer';
    end if;
    -- Forward only. ERROR is an end of its own: it counts unless a delivery came before it, by their moments.
    v_best := coalesce(v_acks ->> 'best', nullif(p_message.status, 'error'), 'pending');
    if public.message_rank(p_change ->> 'status') > public.message_rank(v_best) then
      v_best := p_change ->> 'status';
    end if;
    v_error_at := least((v_acks ->> 'error_at')::timestamptz, case p_change ->> 'status' when 'error' then p_moment end);
    v_delivered_at := least((v_acks ->> 'delivered_at')::timestamptz,
      case when p_change ->> 'status' in ('delivered', 'read') then p_moment end);
    update public.wapi_messages
    set status = case when v_error_at is not null and (v_delivered_at is null or v_error_at <= v_delivered_at)
          then 'error' else v_best end,
        metadata = public.metadata_object(metadata) || jsonb_build_object('acks',
          jsonb_strip_nulls(jsonb_build_object('best', v_best, 'error_at', v_error_at, 'delivered_at', v_delivered_at)))
    where id = p_message.id
      and (status is distinct from v_best or v_error_at is not null
        or v_delivered_at is distinct from (v_acks ->> 'delivered_at')::timestamptz);
    return case when found then 'applied' else 'not_newer' end;
  elsif p_change ->> 'do' = 'delete' then
    update public.wapi_messages
    set metadata = public.metadata_object(metadata)
      || jsonb_build_object('deleted', true, 'deleted_at', least((metadata ->> 'deleted_at')::timestamptz, p_moment))
    where id = p_message.id;
    return 'applied';
  end if;

  -- An edit: the message's own text first, then every version by its moment; the last one is the text.
  select jsonb_agg(v order by (v ->> 'at')::timestamptz nulls first, v ->> 'content') into v_versions
  from (
    select jsonb_array_elements(coalesce(
      p_message.metadata -> 'versions',
      jsonb_build_array(jsonb_build_object('at', null, 'content', p_message.content)))) as v
    union
    select jsonb_build_object('at', p_moment, 'content', p_change -> 'content')
  ) as versions;
  update public.wapi_messages
  set content = v_versions -> -1 ->> 'content',
      metadata = public.metadata_object(metadata) || jsonb_build_object('edited', true, 'versions', v_versions)
  where id = p_message.id;
  perform public.refresh_last_message(p_message.conversation_id);
  return 'applied';
end
$$;
comment on function public.change_message is 'An ack (forward only), an edit (the old texts stay in metadata.versions) or a deletion (a mark).';

create or replace function public.may_change(p_instance uuid, p_message public.wapi_messages, p_change jsonb)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_who constant jsonb := p_change -> 'who';
  v_jid text;
  v_phone text := v_who ->> 'phone';
begin
  if p_change ->> 'do' = 'ack' then
    return true;
  end if;
  select remote_jid into v_jid from public.wapi_conversations where id = p_message.conversation_id;
  if v_who ->> 'group' is not null then
    -- In a group its administrators may delete; nobody else may edit.
    return v_jid = v_who ->> 'group' and (p_change ->> 'do' = 'delete' or (
      p_message.from_me = (v_who ->> 'from_me')::boolean and (
        p_message.from_me
        or coalesce(p_message.metadata ->> 'sender_phone' = v_who ->> 'sender_phone', false)
        or coalesce(p_message.metadata ->> 'sender_lid' = v_who ->> 'sender_lid', false))));
  end if;
  if v_phone is null then
    select phone into v_phone from public.wapi_contact_lids where instance_id = p_instance and lid = v_who ->> 'lid';
  end if;
  return p_message.from_me = (v_who ->> 'from_me')::boolean
    and (coalesce(v_jid = v_phone || '@s.whatsapp.net', false) or coalesce(v_jid = v_who ->> 'lid', false));
end
$$;
comment on function public.may_change is 'Whether who sent an edit or deletion is the message''s own side, in its own conversation.';

create or replace function public.apply_waiting(p_instance uuid, p_message_id text, p_ahead interval)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_waiting record;
  v_message public.wapi_messages;
begin
  for v_waiting in
    select id, change, public.moment_of_event(moment, received_at, p_ahead) as moment
    from public.wapi_webhook_events
    where instance_id = p_instance and message_id = p_message_id and change is not null
    order by id
    for update
  loop
    select * into v_message from public.find_message(p_instance, p_message_id) order by from_me desc limit 1;
    update public.wapi_webhook_events
    set outcome = case when public.may_change(p_instance, v_message, v_waiting.change)
          then public.change_message(v_message, v_waiting.change, v_waiting.moment) else 'not_theirs' end,
        change = null
    where id = v_waiting.id;
  end loop;
end
$$;
comment on function public.apply_waiting is 'What waited for a message that is there now.';

create or replace function public.merge_conversations(p_from uuid, p_into uuid)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_from public.wapi_conversations;
  v_twins integer;
begin
  perform 1 from public.wapi_conversations where id in (p_from, p_into) order by id for update;
  select * into v_from from public.wapi_conversations where id = p_from;

  -- What both have is one message, with what either knows of it; it was counted twice.
  update public.wapi_messages i
  set status = case when public.message_rank(f.status) > public.message_rank(i.status) or i.status is null
        then f.status else i.status end,
      content = case when f.metadata ? 'versions' and not coalesce(i.metadata ? 'versions', false)
        then f.content else i.content end,
      metadata = public.metadata_object(f.metadata) || public.metadata_object(i.metadata)
  from public.wapi_messages f
  where f.conversation_id = p_from and i.conversation_id = p_into and f.message_id = i.message_id;
  with twins as (
    delete from public.wapi_messages f
    using public.wapi_messages i
    where f.conversation_id = p_from and i.conversation_id = p_into and f.message_id = i.message_id
    returning f.from_me
  )
  select count(*) filter (where not from_me) into v_twins from twins;
  update public.wapi_messages set conversation_id = p_into where conversation_id = p_from;

  update public.wapi_conversations i
  set unread_count = greatest(0, coalesce(i.unread_count, 0) + coalesce(v_from.unread_count, 0) - v_twins),
      contact_name = coalesce(nullif(i.contact_name, ''), v_from.contact_name),
      contact_picture = coalesce(i.contact_picture, v_from.contact_picture),
      lead_id = coalesce(i.lead_id, v_from.lead_id),
      bot_enabled = coalesce(i.bot_enabled, true) and coalesce(v_from.bot_enabled, true)
  where i.id = p_into;
  perform public.refresh_last_message(p_into);
  delete from public.wapi_conversations where id = p_from;
end
$$;
comment on function public.merge_conversations is 'Two conversations with one person become one: no message lost, none twice, unread counts added.';

create or replace function public.learn_lid(p_instance uuid, p_lid text, p_phone text, p_moment timestamptz)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_known public.wapi_contact_lids;
  v_by_lid uuid;
  v_by_phone uuid;
begin
  perform public.lock_name(p_instance, p_lid);
  select * into v_known from public.wapi_contact_lids where instance_id = p_instance and lid = p_lid;
  if v_known.phone is distinct from p_phone then
    if v_known.learned_at > p_moment then
      return;  -- an old event does not undo a newer one
    end if;
    insert into public.wapi_contact_lids (instance_id, lid, phone, learned_at) values (p_instance, p_lid, p_phone, p_moment)
    on conflict (instance_id, lid) do update set phone = excluded.phone, learned_at = excluded.learned_at;
  end if;
  select id into v_by_lid from public.wapi_conversations where instance_id = p_instance and remote_jid = p_lid;
  if not found then
    return;
  end if;
  select id into v_by_phone from public.wapi_conversations
  where instance_id = p_instance and remote_jid = p_phone || '@s.whatsapp.net';
  if not found then
    begin
      update public.wapi_conversations
      set remote_jid = p_phone || '@s.whatsapp.net', contact_phone = p_phone
      where id = v_by_lid;
      return;
    exception when unique_violation then  -- somebody has just opened it
      select id into v_by_phone from public.wapi_conversations
      where instance_id = p_instance and remote_jid = p_phone || '@s.whatsapp.net';
    end;
  end if;
  perform public.merge_conversations(v_by_lid, v_by_phone);
end
$$;
comment on function public.learn_lid is 'Remembers whose LID it is; a conversation that was known by the LID alone becomes the phone''s.';

create or replace function public.store_message(
  p_instance public.wapi_instances,
  p_message jsonb,
  p_moment timestamptz,
  p_ahead interval,  -- a moment further ahead of us is not believed: of what waits for this message
  p_now timestamptz default now()
)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_id constant text := p_message ->> 'message_id';
  v_from_me constant boolean := (p_message ->> 'from_me')::boolean;
  v_lid constant text := p_message ->> 'lid';
  v_group constant text := p_message ->> 'group';
  v_phone text := p_message ->> 'phone';
  v_jid text;
  v_twin text;
  v_conversation public.wapi_conversations;
  v_outcome text := 'already_stored';
  v_is_last boolean;
begin
  if p_message ->> 'sender_lid' is not null and p_message ->> 'sender_phone' is not null then
    perform public.learn_lid(p_instance.id, p_message ->> 'sender_lid', p_message ->> 'sender_phone', p_moment);
  end if;
  if v_lid is not null then
    if v_phone is not null then
      perform public.learn_lid(p_instance.id, v_lid, v_phone, p_moment);
    else
      perform public.lock_name(p_instance.id, v_lid);
      select phone into v_phone from public.wapi_contact_lids where instance_id = p_instance.id and lid = v_lid;
    end if;
  end if;
  -- An ack of this very message, or its twin under the other address, waits or is waited for.
  perform public.lock_name(p_instance.id, v_id);

  if v_group is null then
    -- The same message by phone and by LID is one, and tells whose LID it is.
    select c.remote_jid into v_twin
    from public.find_message(p_instance.id, v_id, v_from_me) m
    join public.wapi_conversations c on c.id = m.conversation_id
    where case when v_phone is null then c.remote_jid like '%@s.whatsapp.net' else c.remote_jid like '%@lid' end
    limit 1;
    if found and v_phone is null and v_lid is not null then
      v_phone := split_part(v_twin, '@', 1);
      perform public.learn_lid(p_instance.id, v_lid, v_phone, p_moment);
    elsif found and v_phone is not null then
      perform public.learn_lid(p_instance.id, v_twin, v_phone, p_moment);
    end if;
  end if;

  v_jid := coalesce(v_group, v_phone || '@s.whatsapp.net', v_lid);
  -- Its lock first, and one new version of the row for each message, not three: a busy chat is written often.
  select * into v_conversation from public.wapi_conversations
  where instance_id = p_instance.id and remote_jid = v_jid for no key update;
  if not found then
    insert into public.wapi_conversations (instance_id, remote_jid, contact_name, contact_phone, company_id, unread_count)
    values (p_instance.id, v_jid, p_message ->> 'contact_name', coalesce(v_phone, ''), p_instance.company_id, 0)
    on conflict (instance_id, remote_jid) do update set remote_jid = excluded.remote_jid  -- somebody has just opened it
    returning * into v_conversation;
  end if;

  if not exists (select from public.wapi_messages where conversation_id = v_conversation.id and message_id = v_id) then
    begin
      insert into public.wapi_messages
        (conversation_id, message_id, from_me, message_type, content, media_url, media_key, media_direct_path, status,
         "timestamp", company_id, metadata, quoted_message_id)
      values
        (v_conversation.id, v_id, v_from_me, p_message ->> 'type', p_message ->> 'content', p_message ->> 'media_url',
         p_message ->> 'media_key', p_message ->> 'media_direct_path', case when v_from_me then 'sent' else 'received' end,
         p_moment, p_instance.company_id, p_message -> 'metadata', p_message ->> 'quoted_message_id');
      v_outcome := 'stored';
    exception when unique_violation then
      null;  -- the platform's own writer was faster
    end;
  end if;

  if v_outcome = 'stored' then
    v_is_last := v_conversation.last_message_at < p_moment;
    update public.wapi_conversations c
    set unread_count = coalesce(c.unread_count, 0) + case when v_from_me then 0 else 1 end,
        contact_name = case
          when coalesce(c.contact_name, '') = '' then p_message ->> 'contact_name' else c.contact_name end,
        contact_picture = case
          when c.last_message_at > p_moment then coalesce(c.contact_picture, p_message ->> 'contact_picture')
          else coalesce(p_message ->> 'contact_picture', c.contact_picture) end,
        company_id = coalesce(c.company_id, p_instance.company_id),
        last_message_at = case when v_is_last then p_moment else c.last_message_at end,
        last_message_from_me = case when v_is_last then v_from_me else c.last_message_from_me end,
        last_message_content = case when v_is_last
          then coalesce(nullif(p_message ->> 'content', ''), p_message #>> '{metadata,preview}', '')
          else c.last_message_content end
    where c.id = v_conversation.id;
    if v_conversation.last_message_at is null or v_conversation.last_message_at = p_moment then
      perform public.refresh_last_message(v_conversation.id);  -- which of them is the last is not plain
    end if;
  else
    update public.wapi_messages set status = 'sent'
    where conversation_id = v_conversation.id and message_id = v_id and v_from_me and coalesce(status, 'pending') = 'pending';
  end if;
  perform public.apply_waiting(p_instance.id, v_id, p_ahead);
  return v_outcome;
end
$$;
comment on function public.store_message is
  'A message, once per conversation and provider''s id, with its conversation, unread count, order and what waited for it.';

create or replace function public.change_or_wait(
  p_event bigint, p_instance uuid, p_change jsonb, p_moment timestamptz, p_ahead interval
)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_message public.wapi_messages;
begin
  perform public.lock_name(p_instance, p_change ->> 'message_id');
  select * into v_message from public.find_message(p_instance, p_change ->> 'message_id') order by from_me desc limit 1;
  if not found then
    update public.wapi_webhook_events set message_id = p_change ->> 'message_id', change = p_change where id = p_event;
    return 'waiting';
  end if;
  perform public.apply_waiting(p_instance, p_change ->> 'message_id', p_ahead);
  select * into v_message from public.wapi_messages where id = v_message.id for update;
  if not public.may_change(p_instance, v_message, p_change) then
    return 'not_theirs';
  end if;
  return public.change_message(v_message, p_change, p_moment);
end
$$;
comment on function public.change_or_wait is 'An ack, edit or deletion: done now, or when its message comes.';

do $$
begin
  perform public.keep_for_service(
    'lock_name', 'find_message', 'metadata_object', 'message_rank', 'refresh_last_message', 'change_message', 'may_change',
    'apply_waiting', 'merge_conversations', 'learn_lid', 'store_message', 'change_or_wait');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100600') on conflict do nothing;
