-- Purpose: messages and acks become rows, once, whatever their order: conversations, LIDs, unread counts, edits.
-- Touches: wapi_conversations, wapi_messages, wapi_webhook_events (what waits for its message), new table
-- wapi_contact_lids. Called by: receive_event.
--
-- Nothing here relies on a unique index on wapi_messages: older platforms have none. Our writers take turns on the
-- conversation's row; a platform's own writer that is faster is met as a unique violation.
-- Locks: the line's row before all (receive_event), then the contact's LID, the message's id, conversations by id.

set local lock_timeout = '5s';

create table if not exists public.wapi_contact_lids (
  instance_id uuid not null references public.wapi_instances (id) on delete cascade,
  lid text not null,
  phone text not null,
  learned_at timestamptz not null default now(),
  primary key (instance_id, lid)
);
comment on table public.wapi_contact_lids is 'Which phone a hidden identity (LID) belongs to, as far as an event has told.';
alter table public.wapi_contact_lids enable row level security;
revoke all on public.wapi_contact_lids from public, anon, authenticated;
grant all on public.wapi_contact_lids to service_role;

alter table public.wapi_webhook_events
  add column if not exists message_id text,
  add column if not exists change jsonb;
comment on column public.wapi_webhook_events.message_id is 'The message that an event waits for.';
comment on column public.wapi_webhook_events.change is 'What is to be done once that message is there (outcome waiting).';
-- Reader: store_message.
create index if not exists changes_waiting_for_their_message
  on public.wapi_webhook_events (instance_id, message_id)
  where outcome = 'waiting';

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
language sql stable security invoker set search_path = ''
as $$
  select m.*
  from public.wapi_conversations c
  join public.wapi_messages m on m.conversation_id = c.id
  where c.instance_id = p_instance and m.message_id = p_message_id and (p_from_me is null or m.from_me = p_from_me);
$$;
comment on function public.find_message is 'The message with a provider''s id, within one line.';

create or replace function public.change_message(p_message uuid, p_change jsonb, p_moment timestamptz)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_message public.wapi_messages;
  v_versions jsonb;
  v_content text;
begin
  select * into v_message from public.wapi_messages where id = p_message for update;
  if p_change ->> 'do' = 'ack' then
    -- Forward only; error is an end of its own, reached before delivery. What came in has no ack.
    update public.wapi_messages m
    set status = p_change ->> 'status'
    where m.id = p_message and m.from_me
      and case p_change ->> 'status'
        when 'sent' then coalesce(m.status, 'pending') = 'pending'
        when 'delivered' then coalesce(m.status, 'pending') in ('pending', 'sent')
        when 'read' then coalesce(m.status, 'pending') in ('pending', 'sent', 'delivered')
        when 'error' then coalesce(m.status, 'pending') in ('pending', 'sent')
        else false end;
    return case when found then 'applied' else 'not_newer' end;
  elsif p_change ->> 'do' = 'delete' then
    update public.wapi_messages
    set metadata = coalesce(metadata, '{}') || jsonb_build_object('deleted', true, 'deleted_at', p_moment)
    where id = p_message and coalesce(metadata ->> 'deleted', '') <> 'true';
    return case when found then 'applied' else 'not_newer' end;
  end if;

  -- An edit: every version once, by its moment; the newest is the text.
  select jsonb_agg(v order by (v ->> 'at')::timestamptz, v ->> 'content') into v_versions
  from (
    select jsonb_array_elements(coalesce(
      v_message.metadata -> 'versions',
      jsonb_build_array(jsonb_build_object('at', v_message."timestamp", 'content', v_message.content)))) as v
    union
    select jsonb_build_object('at', p_moment, 'content', p_change -> 'content')
  ) as versions;
  v_content := v_versions -> -1 ->> 'content';
  update public.wapi_messages
  set content = v_content, metadata = coalesce(metadata, '{}') || jsonb_build_object('edited', true, 'versions', v_versions)
  where id = p_message;
  update public.wapi_conversations c
  set last_message_content = v_content
  where c.id = v_message.conversation_id and c.last_message_at = v_message."timestamp"
    and c.last_message_content is not distinct from v_message.content;
  return 'applied';
end
$$;
comment on function public.change_message is 'An ack (forward only), an edit (the old texts stay in metadata.versions) or a deletion (a mark).';

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

  -- What both have is one message; it was counted twice.
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
      last_message_at = greatest(i.last_message_at, v_from.last_message_at),
      last_message_content = case when v_from.last_message_at > i.last_message_at or i.last_message_at is null
        then v_from.last_message_content else i.last_message_content end,
      last_message_from_me = case when v_from.last_message_at > i.last_message_at or i.last_message_at is null
        then v_from.last_message_from_me else i.last_message_from_me end
  where i.id = p_into;
  delete from public.wapi_conversations where id = p_from;
end
$$;
comment on function public.merge_conversations is 'Two conversations with one person become one: no message lost, none twice, unread counts added.';

create or replace function public.learn_lid(p_instance uuid, p_lid text, p_phone text)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_known text;
  v_by_lid uuid;
  v_by_phone uuid;
begin
  perform public.lock_name(p_instance, p_lid);
  select phone into v_known from public.wapi_contact_lids where instance_id = p_instance and lid = p_lid;
  if v_known is distinct from p_phone then
    insert into public.wapi_contact_lids (instance_id, lid, phone) values (p_instance, p_lid, p_phone)
    on conflict (instance_id, lid) do update set phone = excluded.phone, learned_at = now();
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
  v_twin record;
  v_conversation public.wapi_conversations;
  v_stored uuid;
  v_waiting record;
begin
  if v_lid is not null then
    if v_phone is not null then
      perform public.learn_lid(p_instance.id, v_lid, v_phone);
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
      v_phone := split_part(v_twin.remote_jid, '@', 1);
      perform public.learn_lid(p_instance.id, v_lid, v_phone);
    elsif found and v_phone is not null then
      perform public.learn_lid(p_instance.id, v_twin.remote_jid, v_phone);
    end if;
  end if;

  v_jid := coalesce(v_group, v_phone || '@s.whatsapp.net', v_lid);
  insert into public.wapi_conversations as c (instance_id, remote_jid, contact_name, contact_phone, company_id, unread_count)
  values (p_instance.id, v_jid, p_message ->> 'contact_name', coalesce(v_phone, ''), p_instance.company_id, 0)
  on conflict (instance_id, remote_jid) do update set remote_jid = excluded.remote_jid  -- takes the row's lock
  returning * into v_conversation;

  if exists (select from public.wapi_messages where conversation_id = v_conversation.id and message_id = v_id) then
    update public.wapi_messages set status = 'sent'
    where conversation_id = v_conversation.id and message_id = v_id and v_from_me and status = 'pending';
    return 'already_stored';
  end if;
  begin
    insert into public.wapi_messages
      (conversation_id, message_id, from_me, message_type, content, media_url, media_key, media_direct_path, status,
       "timestamp", company_id, metadata, quoted_message_id)
    values
      (v_conversation.id, v_id, v_from_me, p_message ->> 'type', p_message ->> 'content', p_message ->> 'media_url',
       p_message ->> 'media_key', p_message ->> 'media_direct_path', case when v_from_me then 'sent' else 'received' end,
       p_moment, p_instance.company_id, p_message -> 'metadata', p_message ->> 'quoted_message_id')
    returning id into v_stored;
  exception when unique_violation then
    return 'already_stored';  -- the platform's own writer was faster
  end;

  -- Order is by moment, never by arrival; within one second the greater id is the later one, for every order of arrival.
  update public.wapi_conversations c
  set unread_count = coalesce(c.unread_count, 0) + case when v_from_me then 0 else 1 end,
      contact_name = case
        when coalesce(c.contact_name, '') = '' then p_message ->> 'contact_name' else c.contact_name end,
      contact_picture = coalesce(c.contact_picture, p_message ->> 'contact_picture'),
      company_id = coalesce(c.company_id, p_instance.company_id)
  where c.id = v_conversation.id;
  update public.wapi_conversations c
  set last_message_at = p_moment, last_message_content = p_message ->> 'preview', last_message_from_me = v_from_me,
      contact_picture = coalesce(p_message ->> 'contact_picture', c.contact_picture)
  where c.id = v_conversation.id
    and (c.last_message_at is null or c.last_message_at < p_moment
      or (c.last_message_at = p_moment and not exists (
        select from public.wapi_messages m
        where m.conversation_id = c.id and m."timestamp" = p_moment and m.message_id > v_id collate "C")));

  for v_waiting in
    select id, change, public.moment_of_event(moment, received_at) as moment
    from public.wapi_webhook_events
    where instance_id = p_instance.id and message_id = v_id and outcome = 'waiting'
    order by id
    for update
  loop
    update public.wapi_webhook_events
    set outcome = public.change_message(v_stored, v_waiting.change, v_waiting.moment), change = null
    where id = v_waiting.id;
  end loop;
  return 'stored';
end
$$;
comment on function public.store_message is
  'A message, once per conversation and provider''s id, with its conversation, unread count, order and what waited for it.';

create or replace function public.change_or_wait(p_event bigint, p_instance uuid, p_change jsonb, p_moment timestamptz)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_message uuid;
begin
  perform public.lock_name(p_instance, p_change ->> 'message_id');
  select id into v_message from public.find_message(p_instance, p_change ->> 'message_id') order by from_me desc limit 1;
  if found then
    return public.change_message(v_message, p_change, p_moment);
  end if;
  update public.wapi_webhook_events set message_id = p_change ->> 'message_id', change = p_change where id = p_event;
  return 'waiting';
end
$$;
comment on function public.change_or_wait is 'An ack, edit or deletion: done now, or when its message comes.';

revoke execute on function public.lock_name(uuid, text) from public, anon, authenticated;
revoke execute on function public.find_message(uuid, text, boolean) from public, anon, authenticated;
revoke execute on function public.change_message(uuid, jsonb, timestamptz) from public, anon, authenticated;
revoke execute on function public.merge_conversations(uuid, uuid) from public, anon, authenticated;
revoke execute on function public.learn_lid(uuid, text, text) from public, anon, authenticated;
revoke execute on function public.store_message(public.wapi_instances, jsonb, timestamptz, timestamptz) from public, anon, authenticated;
revoke execute on function public.change_or_wait(bigint, uuid, jsonb, timestamptz) from public, anon, authenticated;
grant execute on function public.lock_name(uuid, text) to service_role;
grant execute on function public.find_message(uuid, text, boolean) to service_role;
grant execute on function public.change_message(uuid, jsonb, timestamptz) to service_role;
grant execute on function public.merge_conversations(uuid, uuid) to service_role;
grant execute on function public.learn_lid(uuid, text, text) to service_role;
grant execute on function public.store_message(public.wapi_instances, jsonb, timestamptz, timestamptz) to service_role;
grant execute on function public.change_or_wait(bigint, uuid, jsonb, timestamptz) to service_role;
