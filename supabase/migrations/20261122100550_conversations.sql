-- Purpose: one person is one conversation: phones with and without their ninth digit, hidden identities (LIDs), merges.
-- Touches: conversation_bookkeeping, wapi_contact_lids, wapi_conversations; in a merge whatever the platform's
-- catalogue ties to the conversation that goes. Called by: store_message and its kin.
--
-- Only a conversation that we made is ever merged away. Rows are locked in the order of their ids; a person's names (LID,
-- phone) are advisory locks, taken in their order, and only when something about the person is new.

set local lock_timeout = '5s';

create or replace function public.lock_name(p_instance uuid, p_name text)
returns boolean
language plpgsql volatile security invoker set search_path = ''
as $$
begin
  return pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(p_instance::text || p_name, 0)) is not null;
end
$$;
comment on function public.lock_name is
  'Takes turns, until the transaction ends, on something of a line that may have no row yet. True, so that plpgsql can assign it: that costs less than a perform.';

-- 67 area codes (Anatel). 2 to 5 are landlines; a nine before 1 to 5 is a mobile that never had another form.
create or replace function public.phone_forms(p_phone text)
returns text[]
language plpgsql immutable security invoker set search_path = ''
as $$
begin
  return case
    when p_phone ~ '^55(1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[134579]|8[1-9]|9[1-9])9?[6-9][0-9]{7}$'
    then array[substr(p_phone, 1, 4) || '9' || right(p_phone, 8), substr(p_phone, 1, 4) || right(p_phone, 8)]
    when p_phone is not null then array[p_phone]
    else '{}' end;
end
$$;
comment on function public.phone_forms is 'The ways to write one phone: a Brazilian mobile with its ninth digit and without; the first is the canonical one.';

create or replace function public.move_references(p_table regclass, p_from uuid, p_into uuid)
returns void
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_key record;
  v_left boolean;
begin
  for v_key in
    select k.conrelid::regclass as child,
      string_agg(format('%I', a.attname), ', ' order by n.place) as columns,
      string_agg(format('t.%I', r.attname), ', ' order by n.place) as referenced,
      string_agg(format('c.%I = f.%I', a.attname, r.attname), ' and ' order by n.place) as is_same
    from pg_catalog.pg_constraint k
    cross join lateral unnest(k.conkey, k.confkey) with ordinality as n (child_column, parent_column, place)
    join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = n.child_column
    join pg_catalog.pg_attribute r on r.attrelid = k.confrelid and r.attnum = n.parent_column
    where k.contype = 'f' and k.confrelid = p_table and k.conparentid = 0
    group by k.oid, k.conrelid
    order by k.conrelid::regclass::text, k.oid
  loop
    execute format(
      'update %1$s c set (%2$s) = (select %3$s from %4$s t where t.id = $2) from %4$s f where f.id = $1 and %5$s',
      v_key.child, v_key.columns, v_key.referenced, p_table, v_key.is_same) using p_from, p_into;
    -- A trigger or a policy of the platform may have held rows back: they would go with the row that goes.
    execute format('select exists (select from %s c, %s f where f.id = $1 and %s)', v_key.child, p_table, v_key.is_same)
      into v_left using p_from;
    if v_left then
      raise exception 'rows of % cannot be moved', v_key.child using errcode = '23001';
    end if;
  end loop;
end
$$;
comment on function public.move_references is 'Every foreign key of the catalogue that points to one row points to another of its table, or an error.';

create or replace function public.merge_messages(p_from uuid, p_into uuid)
returns integer
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_twin record;
  v_unread integer := 0;
begin
  -- What both conversations have is one message, with what either knows of it; it was counted twice.
  for v_twin in
    select f.id as from_id, i.id as into_id, f.from_me,
      i.metadata ? 'stub' and not coalesce(f.metadata ? 'stub', false) as is_better
    from public.wapi_messages f
    join public.wapi_messages i on i.conversation_id = p_into and i.message_id = f.message_id
    where f.conversation_id = p_from
  loop
    update public.wapi_messages i
    set status = case when public.message_rank(f.status::text) > public.message_rank(i.status::text) or i.status is null
          then f.status else i.status end,
        message_type = case when v_twin.is_better then f.message_type else i.message_type end,
        media_url = coalesce(i.media_url, f.media_url),
        media_key = coalesce(i.media_key, f.media_key),
        media_direct_path = coalesce(i.media_direct_path, f.media_direct_path),
        content = case when v_twin.is_better or (f.metadata ? 'versions' and not coalesce(i.metadata ? 'versions', false))
          then f.content else i.content end,
        metadata = public.metadata_object(f.metadata)
          || (public.metadata_object(i.metadata) - case when v_twin.is_better then array['stub', 'reason', 'preview'] else '{}' end)
    from public.wapi_messages f
    where i.id = v_twin.into_id and f.id = v_twin.from_id;
    perform public.move_references('public.wapi_messages', v_twin.from_id, v_twin.into_id);
    delete from public.wapi_messages where id = v_twin.from_id;
    v_unread := v_unread + case when v_twin.from_me then 0 else 1 end;
  end loop;
  update public.wapi_messages set conversation_id = p_into where conversation_id = p_from;
  return v_unread;
end
$$;
comment on function public.merge_messages is 'Moves messages into another conversation; answers how many incoming ones both had.';

create or replace function public.merge_conversations(p_from uuid, p_into uuid)
returns text
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_from public.wapi_conversations;
  v_into public.wapi_conversations;
  v_book public.conversation_bookkeeping;
  v_others text;
  v_twins integer;
  v_has_address boolean;
begin
  -- For update: whoever ties a row to one of them now waits, and finds the one that is left.
  perform 1 from public.wapi_conversations where id in (p_from, p_into) order by id for update;
  select * into v_from from public.wapi_conversations where id = p_from;
  select * into v_into from public.wapi_conversations where id = p_into;
  select * into v_book from public.conversation_bookkeeping where conversation_id = p_from;
  if v_from.id is null or v_into.id is null then
    return 'gone';
  elsif v_book.is_ours is not true then
    return 'both_of_the_platform';
  elsif v_from.lead_id <> v_into.lead_id then
    return 'two_leads';
  end if;
  begin
    v_twins := public.merge_messages(p_from, p_into);
    perform public.move_references('public.wapi_conversations', p_from, p_into);
    update public.wapi_contact_lids set conversation_id = p_into
    where instance_id = v_into.instance_id and conversation_id = p_from;
    -- Of two of ours the address that WhatsApp wrote last; the platform's own stays as it is.
    select v_book.address_at is not null and b.is_ours
      and coalesce((b.address_at, v_into.remote_jid collate "C") < (v_book.address_at, v_from.remote_jid), true)
    into v_has_address from public.conversation_bookkeeping b where b.conversation_id = p_into;
    update public.conversation_bookkeeping
    set address_at = greatest(address_at, v_book.address_at), given_name = coalesce(given_name, v_book.given_name),
        named_at = coalesce(named_at, v_book.named_at)
    where conversation_id = p_into;
    delete from public.wapi_conversations where id = p_from;
    delete from public.conversation_bookkeeping where conversation_id = p_from;

    -- Columns of the platform's own, too: what only the one that went had.
    select string_agg(format('%1$I = coalesce(%1$I, ($1).%1$I)', attname), ', ') into v_others
    from pg_catalog.pg_attribute
    where attrelid = 'public.wapi_conversations'::regclass and attnum > 0 and not attisdropped
      and attgenerated = '' and attidentity = ''
      and attname not in ('id', 'instance_id', 'remote_jid', 'contact_name', 'contact_phone', 'unread_count', 'bot_enabled',
        'last_message_at', 'last_message_content', 'last_message_from_me', 'created_at', 'updated_at');
    execute 'update public.wapi_conversations set ' || v_others || ' where id = $2' using v_from, p_into;
    update public.wapi_conversations
    set unread_count = greatest(0, coalesce(unread_count, 0) + coalesce(v_from.unread_count, 0) - v_twins),
        remote_jid = case when v_has_address then v_from.remote_jid else remote_jid end,
        contact_name = coalesce(nullif(contact_name, ''), v_from.contact_name),
        contact_phone = coalesce(
          case when v_has_address then nullif(v_from.contact_phone, '') end, nullif(contact_phone, ''), v_from.contact_phone),
        bot_enabled = coalesce(bot_enabled, true) and coalesce(v_from.bot_enabled, true)
    where id = p_into;
    perform public.refresh_last_message(p_into);
  exception when others then
    if not public.is_refusal(sqlstate) then
      raise;  -- it passes by itself
    end if;
    return sqlstate;
  end;
  return null;
end
$$;
comment on function public.merge_conversations is
  'Two conversations with one person become one, if we made the one that goes: no message, count, lead or tie of the platform is lost. Null, or why not.';

create or replace function public.person_conversations(p_instance uuid, p_phone text, p_lid text)
returns uuid[]
language plpgsql stable security invoker set search_path = ''
as $$
declare
  v_forms constant text[] := public.phone_forms(p_phone);
  v_lid constant text := coalesce(p_lid, p_phone || '@lid');  -- digits alone may be a LID that looks like a phone
  v_lids text[];
  v_phones text[];
  v_linked uuid[];
  v_jids text[] := array[v_forms[1] || '@s.whatsapp.net', v_forms[2] || '@s.whatsapp.net'];  -- a null is nobody's
  v_ids uuid[];
begin
  select array_agg(l.lid), array_agg(l.conversation_id) filter (where l.conversation_id is not null),
    array_agg(l.phone) filter (where l.lid = v_lid and l.phone <> all (v_forms))
  into v_lids, v_linked, v_phones
  from public.wapi_contact_lids l
  where l.instance_id = p_instance and (l.lid = v_lid or l.phone = any (v_forms));
  if v_phones is not null then
    v_jids := v_jids || array(select f || '@s.whatsapp.net' from unnest(v_phones) p, unnest(public.phone_forms(p)) f);
  end if;
  v_jids := v_jids || v_lids || v_lid;
  v_ids := array(
    select c.id from public.wapi_conversations c where c.instance_id = p_instance and c.remote_jid = any (v_jids));
  if v_linked <@ v_ids or v_linked is null then
    return v_ids;
  end if;
  return array(
    select unnest(v_ids)
    union
    select c.id from public.wapi_conversations c where c.id = any (v_linked) and c.instance_id = p_instance);
end
$$;
comment on function public.person_conversations is 'Every conversation of a line with one person, as far as we know who is who.';

create or replace function public.conversation_age(p_conversation public.wapi_conversations)
returns timestamptz
language sql stable security invoker set search_path = ''
as $$
  -- Not every platform has created_at: asked for like this it is null there.
  select coalesce(
    (to_jsonb(p_conversation) ->> 'created_at')::timestamptz,
    (select min("timestamp") from public.wapi_messages where conversation_id = p_conversation.id),
    timestamptz '-infinity');
$$;
comment on function public.conversation_age is 'Since when there is a conversation.';

create or replace function public.settle_person(
  p_instance public.wapi_instances, p_phone text, p_lid text, p_is_dialled boolean, p_moment timestamptz, p_make boolean
)
returns uuid
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_phone text := p_phone;
  v_name text;
  v_ids uuid[];
  v_strangers uuid[];
  v_into uuid;
  v_other record;
  v_refusal text;
  v_is_ours boolean;
begin
  for v_name in
    select n from (
      select p_lid as n
      union select (public.phone_forms(p_phone))[1]
      union select (public.phone_forms(l.phone))[1] from public.wapi_contact_lids l
      where l.instance_id = p_instance.id and l.lid = p_lid
    ) names
    where n is not null order by n
  loop
    perform public.lock_name(p_instance.id, v_name);
  end loop;

  v_ids := public.person_conversations(p_instance.id, p_phone, p_lid);
  if p_lid is not null and p_phone is not null then
    -- An old event does not undo a newer one.
    insert into public.wapi_contact_lids as l (instance_id, lid, phone, learned_at)
    values (p_instance.id, p_lid, p_phone, p_moment)
    on conflict (instance_id, lid) do update set phone = excluded.phone, learned_at = excluded.learned_at
    where (l.learned_at, l.phone collate "C") < (excluded.learned_at, excluded.phone collate "C");
  end if;
  if p_lid is not null then
    select coalesce(l.phone, p_phone) into v_phone from public.wapi_contact_lids l
    where l.instance_id = p_instance.id and l.lid = p_lid;
    v_phone := coalesce(v_phone, p_phone);
    -- A phone that passed to somebody else: the conversation under it belongs to a LID that is elsewhere by now.
    v_strangers := array(
      select l.conversation_id from public.wapi_contact_lids l
      where l.instance_id = p_instance.id and l.conversation_id = any (v_ids) and l.lid <> p_lid
        and l.phone <> all (public.phone_forms(v_phone)));
    v_ids := array(
      select i from unnest(v_ids) i
      where i <> all (v_strangers) or exists (
        select from public.wapi_contact_lids l
        where l.instance_id = p_instance.id and l.lid = p_lid and l.conversation_id = i));
  end if;

  if cardinality(v_ids) = 0 then
    if not p_make then
      return null;
    end if;
    insert into public.wapi_conversations (instance_id, remote_jid, contact_phone, company_id, unread_count)
    select p_instance.id, jid, coalesce(v_phone, ''), p_instance.company_id, 0
    from unnest(array[v_phone || '@s.whatsapp.net', p_lid]) with ordinality as address (jid, place)
    where jid is not null and not exists (
      select from public.wapi_conversations c where c.instance_id = p_instance.id and c.remote_jid = jid)
    order by place limit 1
    on conflict (instance_id, remote_jid) do nothing
    returning id into v_into;
    if v_into is null then  -- the platform has just opened it, or a stranger has the only address
      select id into v_into from public.wapi_conversations
      where instance_id = p_instance.id and remote_jid = coalesce(v_phone || '@s.whatsapp.net', p_lid);
    else
      insert into public.conversation_bookkeeping (conversation_id, instance_id, is_ours, address_at)
      values (v_into, p_instance.id, true, case when v_phone is not null and not p_is_dialled then p_moment end);
    end if;
  else
    for v_other in
      select c.id, coalesce(b.is_ours, false) as is_ours, b.same_person_as, b.tried_at, b.refusal
      from public.wapi_conversations c
      left join public.conversation_bookkeeping b on b.conversation_id = c.id
      where c.id = any (v_ids)
      order by coalesce(b.is_ours, false), public.conversation_age(c), c.id
    loop
      if v_into is null then
        v_into := v_other.id;
        continue;
      end if;
      -- What could not be done is not tried with every message.
      if v_other.same_person_as = v_into and v_other.tried_at > p_moment - interval '1 hour' and v_other.refusal is not null then
        continue;
      end if;
      v_refusal := public.merge_conversations(v_other.id, v_into);
      if v_refusal is not null and v_refusal <> 'gone' then
        insert into public.conversation_bookkeeping (conversation_id, instance_id, same_person_as, refusal, tried_at)
        values (v_other.id, p_instance.id, v_into, v_refusal, p_moment)
        on conflict (conversation_id) do update
        set same_person_as = excluded.same_person_as, refusal = excluded.refusal, tried_at = excluded.tried_at;
      end if;
    end loop;
    -- Where more than one is left the older receives.
    select c.id into v_into from public.wapi_conversations c where c.id = any (v_ids)
    order by public.conversation_age(c), c.id limit 1;
  end if;

  select b.is_ours into v_is_ours from public.conversation_bookkeeping b where b.conversation_id = v_into;
  if v_phone is not null then
    -- Of ours the address is what WhatsApp itself wrote last: that is what one sends to. The platform's stay as they are.
    begin
      update public.wapi_conversations c set remote_jid = v_phone || '@s.whatsapp.net', contact_phone = v_phone
      from public.conversation_bookkeeping b
      where c.id = v_into and b.conversation_id = c.id and b.is_ours and c.remote_jid <> v_phone || '@s.whatsapp.net'
        and (c.remote_jid like '%@lid' or (not p_is_dialled and coalesce(
          (b.address_at, c.remote_jid collate "C") < (p_moment, v_phone || '@s.whatsapp.net'), true)));
    exception when unique_violation then
      null;  -- a conversation of the platform has that address
    end;
    update public.wapi_conversations set contact_phone = v_phone where id = v_into and contact_phone = '';
    if not p_is_dialled then
      update public.conversation_bookkeeping set address_at = p_moment
      where conversation_id = v_into and is_ours and coalesce(address_at < p_moment, true);
    end if;
  end if;
  if p_lid is not null then
    update public.wapi_contact_lids set conversation_id = v_into
    where instance_id = p_instance.id and lid = p_lid and conversation_id is distinct from v_into;
  end if;
  return v_into;
end
$$;
comment on function public.settle_person is
  'The one conversation with a person: learns whose LID it is, merges what may be merged, makes one where there is none (and p_make).';

create or replace function public.is_settled(p_conversation uuid, p_instance uuid, p_phone text, p_lid text, p_is_dialled boolean)
returns boolean
language plpgsql stable security invoker set search_path = ''
as $$
begin
  if p_lid is not null and p_phone is not null then
    if not exists (
      select from public.wapi_contact_lids l
      where l.instance_id = p_instance and l.lid = p_lid and l.phone = p_phone and l.conversation_id = p_conversation) then
      return false;
    end if;
  end if;
  return p_phone is null or p_is_dialled or exists (
    select from public.wapi_conversations c
    where c.id = p_conversation and (
      c.remote_jid = p_phone || '@s.whatsapp.net'
      or not exists (select from public.conversation_bookkeeping b where b.conversation_id = c.id and b.is_ours)));
end
$$;
comment on function public.is_settled is 'Whether a message tells nothing new about the person whose only conversation this is.';

create or replace function public.open_conversation(
  p_instance public.wapi_instances, p_who jsonb, p_moment timestamptz
)
returns public.wapi_conversations
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_group constant text := p_who ->> 'group';
  v_phone text := p_who ->> 'phone';
  v_lid text := p_who ->> 'lid';
  v_is_dialled constant boolean := coalesce((p_who ->> 'is_dialled')::boolean, false);
  v_forms text[];
  v_conversation public.wapi_conversations;
  v_ids uuid[];
  v_id uuid;
begin
  if v_group is null and v_lid is null then
    -- Most messages: one conversation under this very address, no other form of it, no LID. Found and locked in one step.
    v_forms := public.phone_forms(v_phone);
    select c.* into v_conversation from public.wapi_conversations c
    where c.instance_id = p_instance.id and c.remote_jid = v_phone || '@s.whatsapp.net'
      and not exists (
        select from public.wapi_conversations o
        where o.instance_id = p_instance.id and o.id <> c.id
          and o.remote_jid in (v_forms[1] || '@s.whatsapp.net', v_forms[2] || '@s.whatsapp.net', v_phone || '@lid'))
      and not exists (
        select from public.wapi_contact_lids l
        where l.instance_id = p_instance.id and (l.lid = v_phone || '@lid' or l.phone = any (v_forms)))
    for no key update of c;
    if found then
      return v_conversation;
    end if;
  end if;
  -- A merge may take one away between the look and the lock; then the other is there.
  for v_try in 1..5 loop
    if v_group is not null then
      insert into public.wapi_conversations (instance_id, remote_jid, contact_phone, company_id, unread_count)
      select p_instance.id, v_group, '', p_instance.company_id, 0
      where not exists (select from public.wapi_conversations where instance_id = p_instance.id and remote_jid = v_group)
      on conflict (instance_id, remote_jid) do nothing
      returning id into v_id;
      if v_id is not null then
        insert into public.conversation_bookkeeping (conversation_id, instance_id, is_ours) values (v_id, p_instance.id, true);
      else
        select id into v_id from public.wapi_conversations where instance_id = p_instance.id and remote_jid = v_group;
      end if;
    else
      -- What an earlier message has settled holds for the next one that says the same.
      v_id := null;
      if v_lid is not null and v_try = 1 then
        select l.conversation_id into v_id from public.wapi_contact_lids l
        where l.instance_id = p_instance.id and l.lid = v_lid and (v_phone is null or l.phone = v_phone);
      end if;
      v_ids := case when v_id is null then public.person_conversations(p_instance.id, v_phone, v_lid) end;
      if v_id is not null then
        null;
      elsif cardinality(v_ids) = 1 and public.is_settled(v_ids[1], p_instance.id, v_phone, v_lid, v_is_dialled) then
        v_id := v_ids[1];
      else
        if v_lid is null and (
          exists (select from public.wapi_contact_lids where instance_id = p_instance.id and lid = v_phone || '@lid')
          or exists (select from public.wapi_conversations where instance_id = p_instance.id and remote_jid = v_phone || '@lid')
        ) then
          v_lid := v_phone || '@lid';
          v_phone := null;
        end if;
        v_id := public.settle_person(p_instance, v_phone, v_lid, v_is_dialled, p_moment, true);
      end if;
    end if;
    select * into v_conversation from public.wapi_conversations where id = v_id for no key update;
    exit when found;
  end loop;
  return v_conversation;
end
$$;
comment on function public.open_conversation is 'The conversation of a message, locked: the group''s, or the one with its person.';

create or replace function public.name_group(p_conversation public.wapi_conversations, p_name text, p_moment timestamptz)
returns void
language plpgsql volatile security invoker set search_path = public, extensions, pg_temp
as $$
declare
  v_book public.conversation_bookkeeping;
begin
  if coalesce(p_name, '') = '' then
    return;
  end if;
  select * into v_book from public.conversation_bookkeeping where conversation_id = p_conversation.id;
  if coalesce(p_conversation.contact_name, '') <> '' and p_conversation.contact_name is distinct from v_book.given_name
    or (v_book.named_at, v_book.given_name collate "C") >= (p_moment, p_name collate "C") then
    return;
  end if;
  if p_conversation.contact_name is distinct from p_name then
    update public.wapi_conversations set contact_name = p_name where id = p_conversation.id;
  end if;
  insert into public.conversation_bookkeeping (conversation_id, instance_id, given_name, named_at)
  values (p_conversation.id, p_conversation.instance_id, p_name, p_moment)
  on conflict (conversation_id) do update set given_name = excluded.given_name, named_at = excluded.named_at;
end
$$;
comment on function public.name_group is 'A group''s name follows the group, unless a person gave it another one.';

do $$
begin
  perform public.keep_for_service(
    'lock_name', 'phone_forms', 'move_references', 'merge_messages', 'merge_conversations', 'person_conversations',
    'conversation_age', 'settle_person', 'is_settled', 'open_conversation', 'name_group');
end
$$;

insert into public.recovery_migrations (version) values ('20261122100550') on conflict do nothing;
