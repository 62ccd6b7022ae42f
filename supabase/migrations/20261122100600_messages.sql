-- Purpose: messages become rows, once, whatever their order: unread counts, acks, edits, deletions, reactions, marks.
-- Touches: wapi_messages (metadata, where a platform has none; two indexes while it is empty), wapi_conversations,
-- message_reactions, wapi_webhook_events (what waits for its message). Called by: receive_event.
--
-- Nothing here relies on a unique index on wapi_messages: older platforms have none. Our writers take turns on the
-- conversation's row; a platform's own writer that is faster is met as a unique violation.
-- Locks: the message's id, the person's names, conversations by id, and then the line's row (receive_event).

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
language plpgsql immutable security invoker set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(p_metadata) = 'object' then p_metadata
    when p_metadata is null or p_metadata = 'null' then '{}'
    else jsonb_build_object('original', p_metadata)
  end;
end
$$;
comment on function public.metadata_object is 'A message''s metadata as an object that facts can be added to; what is none (a list, a word) is kept in it as original.';

create or replace function public.message_rank(p_status text)
returns integer
language plpgsql immutable security invoker set search_path = ''
as $$
begin
  return case p_status when 'sent' then 1 when 'delivered' then 2 when 'read' then 3 else 0 end;
end
$$;
comment on function public.message_rank is 'How far an outgoing message has come: pending, sent, delivered, read.';

create or replace function public.refresh_last_message(p_conversation uuid)
returns void
language sql volatile security invoker set search_path = public, extensions, pg_temp
as $$
  -- By moment; within one second the greater id is the later one: the same end for every order of arrival.
  update public.wapi_conversations c
  set last_message_at = m."timestamp", last_message_from_me = m.from_me,
      last_message_content = coalesce(nullif(m.content, ''), m.metadata ->> 'preview', '')
  from (
    select "timestamp", from_me, content, metadata from public.wapi_messages
    where conversation_id = p_conversation and "timestamp" is not null  -- older platforms hold some without a moment
      and coalesce(metadata ->> 'type', message_type::text, '') <> 'reaction'  -- a reaction is no message
    order by "timestamp" desc, message_id collate "C" desc nulls last limit 1
  ) m
  where c.id = p_conversation;
$$;
comment on function public.refresh_last_message is 'What a list of conversations shows: the last message, by its moment.';

create or replace function public.change_message(p_message public.wapi_messages, p_change jsonb, p_moment timestamptz)
returns text
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  c_versions constant integer := 21;
  v_acks jsonb := coalesce(p_message.metadata -> 'acks', '{}');
  v_best text;
  v_row public.wapi_messages;  -- by a record: the platform's column may be an enum
  v_error_at timestamptz;
  v_delivered_at timestamptz;
  v_versions jsonb;
  v_mark text;
begin
  if p_change ->> 'do' = 'ack' then
    -- What came in has no ack.
    if not p_message.from_me then
      return 'not_newer';
    end if;
    -- Forward only. ERROR is an end of its own: it counts unless a delivery came before it, by their moments.
    v_best := coalesce(v_acks ->> 'best', nullif(p_message.status::text, 'error'), 'pending');
    if public.message_rank(p_change ->> 'status') > public.message_rank(v_best) then
      v_best := p_change ->> 'status';
    end if;
    v_error_at := least((v_acks ->> 'error_at')::timestamptz, case p_change ->> 'status' when 'error' then p_moment end);
    v_delivered_at := least((v_acks ->> 'delivered_at')::timestamptz,
      case when p_change ->> 'status' in ('delivered', 'read') then p_moment end);
    v_row.status := case when v_error_at is not null and (v_delivered_at is null or v_error_at <= v_delivered_at)
      then 'error' else v_best end;
    update public.wapi_messages
    set status = v_row.status,
        metadata = public.metadata_object(metadata) || jsonb_build_object('acks',
          jsonb_strip_nulls(jsonb_build_object('best', v_best, 'error_at', v_error_at, 'delivered_at', v_delivered_at)))
    where id = p_message.id
      and (status::text is distinct from v_best or v_error_at is not null
        or v_delivered_at is distinct from (v_acks ->> 'delivered_at')::timestamptz);
    return case when found then 'applied' else 'not_newer' end;
  elsif p_change ->> 'do' = 'delete' then
    update public.wapi_messages
    set metadata = public.metadata_object(metadata)
      || jsonb_build_object('deleted', true, 'deleted_at', least((metadata ->> 'deleted_at')::timestamptz, p_moment))
    where id = p_message.id;
    return 'applied';
  elsif p_change ->> 'do' = 'mark' then
    v_mark := p_change ->> 'mark';
    update public.wapi_messages
    set metadata = public.metadata_object(metadata) || jsonb_build_object(
      v_mark, (p_change ->> 'is_on')::boolean or (v_mark = 'edited' and metadata ? 'versions'), v_mark || '_at', p_moment)
    where id = p_message.id
      and coalesce((metadata ->> (v_mark || '_at'))::timestamptz <= p_moment, true);
    return case when found then 'applied' else 'not_newer' end;
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
  if jsonb_array_length(v_versions) > c_versions then
    -- The message's own text and the newest ones: a row that grew with every edit would make each slower than the last.
    select jsonb_build_array(v_versions -> 0) || jsonb_agg(v order by n) into v_versions
    from jsonb_array_elements(v_versions) with ordinality as e (v, n)
    where n > jsonb_array_length(v_versions) - (c_versions - 1);
  end if;
  update public.wapi_messages
  set content = v_versions -> -1 ->> 'content',
      metadata = public.metadata_object(metadata) || jsonb_build_object('edited', true, 'versions', v_versions)
  where id = p_message.id;
  perform public.refresh_last_message(p_message.conversation_id);
  return 'applied';
end
$$;
comment on function public.change_message is 'An ack (forward only), an edit (the old texts stay in metadata.versions), a deletion or another mark.';

create or replace function public.is_sender(
  p_instance uuid, p_phone text, p_lid text, p_other_phone text, p_other_lid text
)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_phones text[] := public.phone_forms(p_phone);
  v_others text[] := public.phone_forms(p_other_phone);
  v_lids text[];
  v_other_lids text[];
begin
  if coalesce(p_lid = p_other_lid, false) or v_phones && v_others then
    return true;
  end if;
  select array_agg(l.lid), v_phones || array_agg(f) into v_lids, v_phones
  from public.wapi_contact_lids l, unnest(public.phone_forms(l.phone)) f
  where l.instance_id = p_instance and (l.lid = p_lid or l.phone = any (v_phones));
  select array_agg(l.lid), v_others || array_agg(f) into v_other_lids, v_others
  from public.wapi_contact_lids l, unnest(public.phone_forms(l.phone)) f
  where l.instance_id = p_instance and (l.lid = p_other_lid or l.phone = any (v_others));
  v_lids := array_remove(v_lids || p_lid, null);
  v_other_lids := array_remove(v_other_lids || p_other_lid, null);
  if v_lids && v_other_lids or v_phones && v_others then
    return true;
  end if;
  -- Of one only a phone is known, of the other only a LID: whose they are may come to light.
  return case when cardinality(v_lids) = 0 and cardinality(v_others) = 0
      or cardinality(v_other_lids) = 0 and cardinality(v_phones) = 0 then null else false end;
end
$$;
comment on function public.is_sender is 'Whether two senders in a group, each by phone, LID or both, are one person. Null: nobody can tell yet.';

create or replace function public.may_change(p_instance uuid, p_message public.wapi_messages, p_change jsonb)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_who constant jsonb := p_change -> 'who';
  v_is_anybodys constant boolean := coalesce(p_change ->> 'mark' in ('pinned', 'kept'), false);
begin
  if p_change ->> 'do' = 'ack' then
    return true;
  end if;
  if v_who ->> 'group' is not null then
    -- In a group its administrators may delete; nobody else may edit.
    return exists (
        select from public.wapi_conversations c
        where c.id = p_message.conversation_id and c.remote_jid = v_who ->> 'group')
      and (v_is_anybodys or p_change ->> 'do' = 'delete' or (
        p_message.from_me = (v_who ->> 'from_me')::boolean and (
          p_message.from_me
          or public.is_sender(
            p_instance, p_message.metadata ->> 'sender_phone', p_message.metadata ->> 'sender_lid',
            v_who ->> 'sender_phone', v_who ->> 'sender_lid'))));
  end if;
  if not v_is_anybodys and p_message.from_me is distinct from (v_who ->> 'from_me')::boolean then
    return false;
  elsif p_message.conversation_id = any (public.person_conversations(p_instance, v_who ->> 'phone', v_who ->> 'lid')) then
    return true;
  elsif v_who ->> 'phone' is not null and v_who ->> 'lid' is not null then
    return false;
  end if;
  -- One address of two, and the message lies under the other kind: whose they are may come to light.
  return case when exists (
    select from public.wapi_conversations c
    where c.id = p_message.conversation_id
      and c.remote_jid like case when v_who ->> 'lid' is null then '%@lid' else '%@s.whatsapp.net' end
      and not exists (
        select from public.wapi_contact_lids l
        where l.instance_id = p_instance and (
          l.conversation_id = c.id or l.lid in (v_who ->> 'lid', c.remote_jid)
          or l.phone = any (public.phone_forms(v_who ->> 'phone'))
          or l.phone = any (public.phone_forms(split_part(c.remote_jid, '@', 1)))))
  ) then null else false end;
end
$$;
comment on function public.may_change is
  'Whether who sent an edit or deletion is the message''s own side, in its own conversation. Null: nobody can tell yet.';

create or replace function public.apply_waiting(p_instance uuid, p_message_id text, p_ahead interval)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_waiting record;
  v_message public.wapi_messages;
  v_may boolean;
begin
  if not exists (
    select from public.wapi_webhook_events
    where instance_id = p_instance and message_id = p_message_id and change is not null)
  then
    return false;
  end if;
  for v_waiting in
    select id, change, public.moment_of_event(
      (change ->> 'at')::timestamptz, public.moment_of_event(moment, received_at, p_ahead), p_ahead) as moment
    from public.wapi_webhook_events
    where instance_id = p_instance and message_id = p_message_id and change is not null
    order by id
    for update
  loop
    select * into v_message from public.find_message(p_instance, p_message_id) order by from_me desc limit 1;
    v_may := public.may_change(p_instance, v_message, v_waiting.change);
    continue when v_may is null;
    update public.wapi_webhook_events
    set outcome = case when v_may then public.change_message(v_message, v_waiting.change, v_waiting.moment) else 'not_theirs' end,
        change = null
    where id = v_waiting.id;
  end loop;
  return true;
end
$$;
comment on function public.apply_waiting is 'What waited for a message that is there now; says whether anything did.';

create or replace function public.apply_waiting_of(p_instance uuid, p_phone text, p_lid text, p_ahead interval)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_id text;
begin
  if p_phone is null or p_lid is null then
    return;
  end if;
  for v_id in
    select distinct e.message_id from public.wapi_webhook_events e
    where e.instance_id = p_instance and e.change is not null and e.change ->> 'do' <> 'ack'
      and (coalesce(e.change #>> '{who,sender_lid}', e.change #>> '{who,lid}') = p_lid
        or coalesce(e.change #>> '{who,sender_phone}', e.change #>> '{who,phone}') = any (public.phone_forms(p_phone)))
      and exists (select from public.find_message(p_instance, e.message_id))  -- each takes a lock
    order by e.message_id
  loop
    perform public.lock_name(p_instance, v_id);
    perform public.apply_waiting(p_instance, v_id, p_ahead);
  end loop;
end
$$;
comment on function public.apply_waiting_of is
  'What waited for somebody to say that a phone and a LID are one person: edits and deletions that named the one of a message under the other.';

create or replace function public.show_reactions(p_instance public.wapi_instances, p_target_id text)
returns void
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_target public.wapi_messages;
  v_reaction public.message_reactions;
  v_conversation uuid;
  v_row uuid;
  v_sender jsonb;
begin
  select * into v_target from public.find_message(p_instance.id, p_target_id) order by from_me desc limit 1;
  for v_reaction in
    select * from public.message_reactions
    where instance_id = p_instance.id and target_id = p_target_id
    order by emoji <> '', reactor  -- a name that goes makes room for the one that stays
    for update
  loop
    if v_reaction.emoji = '' then
      delete from public.wapi_messages where id = v_reaction.row_id;
      continue when v_reaction.row_id is null;
      v_row := null;
    else
      -- Where the message is; until it is known, with the person.
      v_conversation := coalesce(v_target.conversation_id,
        (public.open_conversation(p_instance, v_reaction.who, v_reaction.at)).id);
      v_sender := jsonb_strip_nulls(v_reaction.who - array['from_me', 'group', 'phone', 'lid', 'is_dialled']);
      update public.wapi_messages
      set content = v_reaction.emoji, "timestamp" = v_reaction.at, message_id = v_reaction.message_id,
          conversation_id = v_conversation,
          metadata = (public.metadata_object(metadata) - array['sender_phone', 'sender_lid', 'sender_name']) || v_sender
      where id = v_reaction.row_id
        and (content, "timestamp", conversation_id) is distinct from (v_reaction.emoji, v_reaction.at, v_conversation);
      continue when exists (select from public.wapi_messages where id = v_reaction.row_id);
      v_row := nullif(public.insert_message(p_instance, v_conversation, jsonb_build_object(
        'message_id', v_reaction.message_id, 'from_me', v_reaction.who -> 'from_me', 'type', 'reaction',
        'content', v_reaction.emoji, 'quoted_message_id', p_target_id, 'metadata', v_sender), v_reaction.at),
        '00000000-0000-0000-0000-000000000000');
    end if;
    update public.message_reactions set row_id = v_row
    where instance_id = p_instance.id and target_id = p_target_id and reactor = v_reaction.reactor;
  end loop;
  update public.wapi_messages m
  set metadata = public.metadata_object(m.metadata) || jsonb_build_object('reactions', coalesce((
    select jsonb_agg(jsonb_build_object('emoji', r.emoji, 'at', r.at) || (r.who - array['group', 'phone', 'lid', 'is_dialled'])
      order by r.at, r.reactor)
    from public.message_reactions r
    where r.instance_id = p_instance.id and r.target_id = p_target_id and r.emoji <> ''), '[]'))
  where m.id = v_target.id;
end
$$;
comment on function public.show_reactions is 'What message_reactions knows of one message, as platforms'' screens read it: a row for each, and a list in the message.';

create or replace function public.keep_reaction(
  p_instance uuid, p_target_id text, p_reactor text, p_emoji text, p_at timestamptz, p_message_id text, p_who jsonb
)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  insert into public.message_reactions as r (instance_id, target_id, reactor, emoji, at, message_id, who)
  values (p_instance, p_target_id, p_reactor, p_emoji, p_at, p_message_id, p_who)
  on conflict (instance_id, target_id, reactor) do update
  set emoji = excluded.emoji, at = excluded.at, message_id = excluded.message_id, who = excluded.who
  where (r.at, coalesce(r.message_id, '') collate "C") < (excluded.at, coalesce(excluded.message_id, '') collate "C");
  return found;
end
$$;
comment on function public.keep_reaction is 'A person''s reaction, if it is newer than the one that is known; says whether it is.';

create or replace function public.store_reaction(
  p_instance public.wapi_instances, p_change jsonb, p_moment timestamptz, p_ahead interval
)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_target_id constant text := p_change ->> 'message_id';
  v_who constant jsonb := p_change -> 'who';
  v_at constant timestamptz := public.moment_of_event((p_change ->> 'at')::timestamptz, p_moment, p_ahead);
  v_names text[];
  v_other public.message_reactions;
  v_reactor text;
  v_is_news boolean := false;
begin
  perform public.lock_name(p_instance.id, v_target_id);
  if (v_who ->> 'from_me')::boolean then
    v_reactor := 'me';
  elsif v_who ->> 'group' is null then
    v_reactor := 'them';
    perform public.learn_sender(p_instance, v_who, p_moment, p_ahead);
  else
    -- One person may react by phone today and by LID tomorrow: the LID is the name, once it is known.
    perform public.learn_sender(p_instance, v_who, p_moment, p_ahead);
    select coalesce(array_agg(l.lid order by l.lid), '{}') into v_names from public.wapi_contact_lids l
    where l.instance_id = p_instance.id
      and (l.lid = v_who ->> 'sender_lid' or l.phone = any (public.phone_forms(v_who ->> 'sender_phone')));
    v_names := v_names || (v_who ->> 'sender_lid') || array(
      select f from public.wapi_contact_lids l, unnest(public.phone_forms(l.phone)) f
      where l.instance_id = p_instance.id and l.lid = v_who ->> 'sender_lid') || public.phone_forms(v_who ->> 'sender_phone');
    v_names := array_remove(v_names, null);
    v_reactor := coalesce(v_names[1], 'somebody');
    for v_other in
      select * from public.message_reactions
      where instance_id = p_instance.id and target_id = v_target_id and reactor = any (v_names) and reactor <> v_reactor
      order by reactor for update
    loop
      perform public.keep_reaction(
        p_instance.id, v_target_id, v_reactor, v_other.emoji, v_other.at, v_other.message_id, v_other.who);
      v_is_news := v_is_news or v_other.emoji <> '';
      update public.message_reactions set emoji = ''
      where instance_id = p_instance.id and target_id = v_target_id and reactor = v_other.reactor;
    end loop;
  end if;
  v_is_news := public.keep_reaction(
    p_instance.id, v_target_id, v_reactor, p_change ->> 'content', v_at, p_change ->> 'event_message_id',
    v_who || jsonb_strip_nulls(jsonb_build_object('sender_name', p_change ->> 'sender_name'))) or v_is_news;
  if not v_is_news then
    return 'not_newer';
  end if;
  perform public.show_reactions(p_instance, v_target_id);
  return 'applied';
end
$$;
comment on function public.store_reaction is 'One reaction per person and message: changed in place, gone when it is taken back, never unread, never the last message.';

create or replace function public.insert_message(
  p_instance public.wapi_instances, p_conversation uuid, p_message jsonb, p_moment timestamptz
)
returns uuid
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  uuid_nil constant uuid := '00000000-0000-0000-0000-000000000000';
  v_row public.wapi_messages;
  v_message jsonb := p_message;
  v_id uuid;
begin
  for v_try in 1..3 loop
    begin
      -- By a record: a column of the platform's may be an enum.
      v_row.message_type := v_message ->> 'type';
      v_row.status := case when (v_message ->> 'from_me')::boolean then 'sent' else 'received' end;
      insert into public.wapi_messages
        (conversation_id, message_id, from_me, message_type, content, media_url, media_key, media_direct_path, status,
         "timestamp", company_id, metadata, quoted_message_id)
      values
        (p_conversation, v_message ->> 'message_id', (v_message ->> 'from_me')::boolean, v_row.message_type,
         v_message ->> 'content', v_message ->> 'media_url', v_message ->> 'media_key', v_message ->> 'media_direct_path',
         v_row.status, p_moment, p_instance.company_id, v_message -> 'metadata', v_message ->> 'quoted_message_id')
      returning id into v_id;
      return coalesce(v_id, uuid_nil);
    exception
      when unique_violation then
        if exists (
          select from public.wapi_messages
          where conversation_id = p_conversation and message_id = v_message ->> 'message_id')
        then
          return null;  -- the platform's own writer was faster
        end if;
        raise;  -- another message, by a unique index of theirs
      when not_null_violation or check_violation or invalid_text_representation then
        -- The platform's table wants a text beside a picture, or knows an older list of types: then a text it is, and
        -- the word is kept.
        if v_try = 3 then
          raise;
        end if;
        v_message := case when sqlstate = '23502' and v_try = 1
          then public.with_text(v_message) else public.as_text(v_message) end;
    end;
  end loop;
  return null;
end
$$;
comment on function public.insert_message is 'A message''s row; where the platform refuses its type it is a text with the word in metadata.type. Null: somebody else has stored it; the nil id: a trigger of the platform''s keeps it out.';

create or replace function public.with_text(p_message jsonb)
returns jsonb
language sql immutable security invoker set search_path = ''
as $$
  select p_message || jsonb_build_object(
    'content', coalesce(nullif(p_message ->> 'content', ''), p_message #>> '{metadata,preview}', ''));
$$;
comment on function public.with_text is 'A message for a platform whose table wants a text in each.';

create or replace function public.as_text(p_message jsonb)
returns jsonb
language sql immutable security invoker set search_path = ''
as $$
  select public.with_text(p_message) || jsonb_build_object(
    'type', 'text',
    'metadata', public.metadata_object(p_message -> 'metadata') || jsonb_build_object('type', p_message -> 'type'));
$$;
comment on function public.as_text is 'A message for a platform whose table does not know its type.';

create or replace function public.replace_stub(p_stub public.wapi_messages, p_message jsonb)
returns void
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_row public.wapi_messages;
  v_message jsonb := p_message;
  v_versions jsonb := p_stub.metadata -> 'versions';
begin
  for v_try in 1..3 loop
    begin
      v_row.message_type := v_message ->> 'type';
      -- What was edited before it could be read: its own text is the first version.
      v_versions := jsonb_set(v_versions, '{0,content}', coalesce(v_message -> 'content', 'null'));
      update public.wapi_messages
      set message_type = v_row.message_type,
          content = case when v_versions is null then v_message ->> 'content' else v_versions -> -1 ->> 'content' end,
          media_url = v_message ->> 'media_url', media_key = v_message ->> 'media_key',
          media_direct_path = v_message ->> 'media_direct_path',
          quoted_message_id = v_message ->> 'quoted_message_id',
          metadata = (public.metadata_object(metadata) - array['stub', 'reason', 'preview', 'type'])
            || public.metadata_object(v_message -> 'metadata')
            || case when v_versions is null then '{}' else jsonb_build_object('versions', v_versions) end
      where id = p_stub.id;
      return;
    exception when not_null_violation or check_violation or invalid_text_representation then
      if v_try = 3 then
        raise;
      end if;
      v_message := case when sqlstate = '23502' and v_try = 1
        then public.with_text(v_message) else public.as_text(v_message) end;
    end;
  end loop;
end
$$;
comment on function public.replace_stub is 'A message that could not be read has come after all: it fills the same row, unread once as before.';

create or replace function public.store_message(
  p_instance public.wapi_instances,
  p_message jsonb,
  p_moment timestamptz,
  p_ahead interval  -- a moment further ahead of us is not believed: of what waits for this message
)
returns text
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_id constant text := p_message ->> 'message_id';
  v_from_me constant boolean := (p_message ->> 'from_me')::boolean;
  v_who jsonb := p_message;
  v_twin public.wapi_messages;
  v_twin_jid text;
  v_conversation public.wapi_conversations;
  v_existing public.wapi_messages;
  v_new uuid;
  v_is_last boolean;
  v_has_reactions boolean;
  v_is_awaited boolean;
  v_tells_who boolean;
  -- An ack of this very message, or its twin under the other address, waits or is waited for.
  v_is_locked constant boolean not null := public.lock_name(p_instance.id, v_id);
begin
  if p_message ->> 'group' is not null then
    perform public.learn_sender(p_instance, p_message, p_moment, p_ahead);
  else
    -- The same message by phone and by LID is one, and tells whose LID it is.
    select m.* into v_twin
    from public.wapi_conversations c
    join public.wapi_messages m on m.conversation_id = c.id
    where c.instance_id = p_instance.id and m.message_id = v_id
    order by m.from_me is not distinct from v_from_me desc limit 1;
    if v_twin.from_me = v_from_me then
      select remote_jid into v_twin_jid from public.wapi_conversations where id = v_twin.conversation_id;
      if v_who ->> 'phone' is null and v_twin_jid like '%@s.whatsapp.net' then
        v_who := v_who || jsonb_build_object('phone', split_part(v_twin_jid, '@', 1));
      elsif v_who ->> 'lid' is null and v_twin_jid like '%@lid' then
        v_who := v_who || jsonb_build_object('lid', v_twin_jid);
      end if;
    end if;
  end if;

  if v_who ->> 'phone' is not null and v_who ->> 'lid' is not null and v_who ->> 'group' is null then
    v_tells_who := not exists (
      select from public.wapi_contact_lids
      where instance_id = p_instance.id and lid = v_who ->> 'lid' and phone = v_who ->> 'phone');
  end if;

  -- Its lock first, and one new version of the row for each message, not three: a busy chat is written often.
  v_conversation := public.open_conversation(p_instance, v_who, p_moment);
  if v_tells_who then
    perform public.apply_waiting_of(p_instance.id, v_who ->> 'phone', v_who ->> 'lid', p_ahead);
  end if;
  if p_message ->> 'group' is not null or v_twin.id is not null then  -- else no conversation of the line has it
    select * into v_existing from public.wapi_messages where conversation_id = v_conversation.id and message_id = v_id;
  end if;
  if v_existing.id is null and v_twin_jid is not null and (
    -- Two conversations with one person that could not become one.
    v_twin_jid = v_who ->> 'lid' or split_part(v_twin_jid, '@', 1) = any (public.phone_forms(v_who ->> 'phone'))) then
    v_existing := v_twin;
  end if;

  if v_existing.id is not null then
    if v_existing.metadata ? 'stub' and not p_message -> 'metadata' ? 'stub' then
      perform public.replace_stub(v_existing, p_message);
      perform public.refresh_last_message(v_existing.conversation_id);
      perform public.apply_waiting(p_instance.id, v_id, p_ahead);
      return 'stored';
    end if;
    update public.wapi_messages set status = 'sent'
    where id = v_existing.id and v_from_me and coalesce(status::text, 'pending') = 'pending';
    perform public.apply_waiting(p_instance.id, v_id, p_ahead);
    return 'already_stored';
  end if;

  v_new := public.insert_message(p_instance, v_conversation.id, p_message, p_moment);
  if v_new = '00000000-0000-0000-0000-000000000000' then
    return 'kept';  -- a filter of the platform's does not want it
  elsif v_new is null then
    update public.wapi_messages set status = 'sent'
    where conversation_id = v_conversation.id and message_id = v_id and v_from_me and coalesce(status::text, 'pending') = 'pending';
    perform public.apply_waiting(p_instance.id, v_id, p_ahead);
    return 'already_stored';
  end if;
  v_is_last := v_conversation.last_message_at < p_moment;
  update public.wapi_conversations c
  set unread_count = coalesce(c.unread_count, 0) + case when v_from_me then 0 else 1 end,
      contact_name = case
        when coalesce(c.contact_name, '') = '' and p_message ->> 'group' is null
        then p_message ->> 'contact_name' else c.contact_name end,
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
  if p_message ->> 'group' is not null then
    perform public.name_group(v_conversation, p_message ->> 'contact_name', p_moment);
  end if;
  -- What waited for it is seldom: one statement tells.
  select exists (select from public.message_reactions where instance_id = p_instance.id and target_id = v_id),
    exists (
      select from public.wapi_webhook_events
      where instance_id = p_instance.id and message_id = v_id and change is not null)
  into v_has_reactions, v_is_awaited;
  if v_has_reactions then
    perform public.show_reactions(p_instance, v_id);
  end if;
  if v_is_awaited then
    perform public.apply_waiting(p_instance.id, v_id, p_ahead);
  end if;
  return 'stored';
end
$$;
comment on function public.store_message is
  'A message, once per person or group and provider''s id, with its conversation, unread count, order and what waited for it.';

create or replace function public.gather_reactions(p_instance public.wapi_instances, p_phone text, p_lid text)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_other public.message_reactions;
begin
  for v_other in
    select * from public.message_reactions
    where instance_id = p_instance.id and reactor = any (public.phone_forms(p_phone)) and emoji <> ''
    order by target_id, reactor
  loop
    perform public.lock_name(p_instance.id, v_other.target_id);
    perform public.keep_reaction(
      p_instance.id, v_other.target_id, p_lid, v_other.emoji, v_other.at, v_other.message_id, v_other.who);
    update public.message_reactions set emoji = ''
    where instance_id = p_instance.id and target_id = v_other.target_id and reactor = v_other.reactor;
    perform public.show_reactions(p_instance, v_other.target_id);
  end loop;
end
$$;
comment on function public.gather_reactions is 'What somebody reacted to in groups under their phone stands under their LID, once that is known.';

create or replace function public.learn_sender(
  p_instance public.wapi_instances, p_who jsonb, p_moment timestamptz, p_ahead interval
)
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_lid constant text := coalesce(p_who ->> 'sender_lid', p_who ->> 'lid');
  v_phone constant text := coalesce(p_who ->> 'sender_phone', p_who ->> 'phone');
begin
  if v_lid is null or v_phone is null or exists (
    select from public.wapi_contact_lids where instance_id = p_instance.id and lid = v_lid and phone = v_phone
  ) then
    return;
  end if;
  perform public.settle_person(p_instance, v_phone, v_lid, false, p_moment, false);
  perform public.apply_waiting_of(p_instance.id, v_phone, v_lid, p_ahead);
  perform public.gather_reactions(p_instance, v_phone, v_lid);
end
$$;
comment on function public.learn_sender is 'Who names both a LID and a phone tells whose LID it is.';

create or replace function public.change_or_wait(
  p_event bigint, p_instance public.wapi_instances, p_change jsonb, p_moment timestamptz, p_ahead interval
)
returns text
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_id constant text := p_change ->> 'message_id';
  v_is_locked boolean;
  v_message public.wapi_messages;
  v_may boolean;
begin
  if p_change ->> 'do' = 'react' then
    return public.store_reaction(p_instance, p_change, p_moment, p_ahead);
  elsif p_change ->> 'do' = 'learn' then
    perform public.learn_sender(p_instance, p_change -> 'who', p_moment, p_ahead);
    return 'applied';
  elsif p_change ->> 'do' = 'rename' then
    perform public.name_group(c, p_change ->> 'content', p_moment)
    from public.wapi_conversations c
    where c.instance_id = p_instance.id and c.remote_jid = p_change #>> '{who,group}';
    return case when found then 'applied' else 'not_newer' end;
  end if;
  v_is_locked := public.lock_name(p_instance.id, v_id);
  if p_change ->> 'do' <> 'ack' then
    perform public.learn_sender(p_instance, p_change -> 'who', p_moment, p_ahead);
  end if;
  select m.* into v_message
  from public.wapi_conversations c
  join public.wapi_messages m on m.conversation_id = c.id
  where c.instance_id = p_instance.id and m.message_id = v_id
  order by m.from_me desc limit 1
  for update of m;
  if not found then
    update public.wapi_webhook_events set message_id = v_id, change = p_change where id = p_event;
    return 'waiting';
  end if;
  if public.apply_waiting(p_instance.id, v_id, p_ahead) then
    select * into v_message from public.wapi_messages where id = v_message.id;
  end if;
  v_may := public.may_change(p_instance.id, v_message, p_change);
  if v_may is null then
    update public.wapi_webhook_events set message_id = v_id, change = p_change where id = p_event;
    return 'waiting';
  elsif not v_may then
    return 'not_theirs';
  end if;
  return public.change_message(
    v_message, p_change, public.moment_of_event((p_change ->> 'at')::timestamptz, p_moment, p_ahead));
end
$$;
comment on function public.change_or_wait is 'An ack, edit, deletion or mark: done now, or when its message comes. A reaction, whose LID it is, a group''s name: done now.';

do $$
begin
  perform public.keep_for_service(
    'find_message', 'metadata_object', 'message_rank', 'refresh_last_message', 'change_message', 'is_sender', 'may_change',
    'apply_waiting', 'apply_waiting_of', 'show_reactions', 'keep_reaction', 'store_reaction', 'insert_message', 'with_text', 'as_text', 'replace_stub', 'store_message',
    'gather_reactions', 'learn_sender', 'change_or_wait');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100600') on conflict do nothing;
