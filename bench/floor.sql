-- The rows of an event, inserted without a question asked: what the webhook's database work costs at the least.
create or replace function public.bench_insert_event(jsonb) returns void language plpgsql set search_path = '' as $$
declare
  v_line public.wapi_instances;
  v_conversation uuid;
  v_at timestamptz := to_timestamp(($1 ->> 'moment')::double precision);
begin
  select * into v_line from public.wapi_instances where btrim(instance_id) = $1 ->> 'instanceId'
    and btrim(instance_id) <> '' and is_active is not false and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';
  insert into public.wapi_webhook_events (event_key, external_id, instance_id, event, kind, moment, body, outcome, processed_at)
  values (md5($1::text), v_line.instance_id, v_line.id, $1 ->> 'event', $1 ->> 'event', v_at, $1::text, 'floor', now());
  if $1 ->> 'event' in ('webhookReceived', 'webhookDelivery') then
    insert into public.wapi_conversations
      (instance_id, remote_jid, contact_phone, contact_name, company_id, last_message_at, last_message_content, unread_count)
    values (v_line.id, ($1 #>> '{chat,id}') || '@s.whatsapp.net', $1 #>> '{chat,id}', 'Ana', v_line.company_id, v_at,
      $1 #>> '{msgContent,conversation}', 1)
    on conflict (instance_id, remote_jid) do update
      set last_message_at = excluded.last_message_at, last_message_content = excluded.last_message_content,
          unread_count = public.wapi_conversations.unread_count + 1
    returning id into v_conversation;
    insert into public.wapi_messages
      (conversation_id, message_id, from_me, message_type, content, status, "timestamp", company_id, metadata)
    values (v_conversation, $1 ->> 'messageId', ($1 ->> 'fromMe')::boolean, 'text', $1 #>> '{msgContent,conversation}',
      'received', v_at, v_line.company_id, '{}');
  elsif $1 ->> 'event' = 'webhookStatus' then
    update public.wapi_messages m set status = 'read', metadata = coalesce(m.metadata, '{}') || '{"acks": {"best": "read"}}'
    from public.wapi_conversations c
    where c.id = m.conversation_id and c.instance_id = v_line.id and m.message_id = $1 ->> 'messageId';
  end if;
end
$$;

-- What a denied disconnection writes beyond that: its outcome and a line of the audit.
create or replace function public.bench_settle_event(jsonb) returns void language plpgsql set search_path = '' as $$
declare
  v_line public.wapi_instances;
begin
  update public.wapi_webhook_events set outcome = 'floor', processed_at = now() where event_key = md5($1::text);
  select * into v_line from public.wapi_instances where btrim(instance_id) = $1 ->> 'instanceId'
    and btrim(instance_id) <> '' and is_active is not false and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';
  insert into public.instance_events (instance_id, external_id, company_id, unit, kind, source)
  values (v_line.id, v_line.instance_id, v_line.company_id, v_line.unit, 'disconnection_denied', 'webhook');
end
$$;
