-- Purpose: a platform of today with years of live rows, as the migrations find it, with all its dirt: lines of several
-- providers, rules of its own on notifications, members who write whole rows, users that are gone, publications of every
-- kind. Its history of migrations is the folder's that the tests apply it from.
-- Called by: tests/database/test_adoption.py. No identifier is random: md5('line jardins')::uuid is that line in every run.

create table public.companies (
  id uuid primary key,
  name text not null,
  slug text unique not null,
  parent_id uuid references public.companies (id),
  is_active boolean default true,
  settings jsonb,
  tax_id text
);

-- No foreign key on the user: memberships outlive people here.
create table public.user_companies (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  company_id uuid not null references public.companies (id) on delete cascade,
  role text,
  is_default boolean,
  unique (user_id, company_id)
);

create table public.wapi_instances (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  instance_id text,
  instance_token text,
  status text default 'disconnected',
  phone_number text,
  connected_at timestamptz,
  unit text constraint known_unit check (unit in ('Jardins', 'Moema', 'Pinheiros', 'Santana', 'Tatuapé', 'Vila Mariana')),
  company_id uuid not null references public.companies (id),
  messages_count int,
  credits_available int,
  addon_valid_until timestamptz,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  bot_prompt text,
  provider text not null default 'wapi' check (provider in ('wapi', 'zapi', 'evolution', 'W-API')),
  client_token text,
  unique (user_id, unit)
);
comment on column public.wapi_instances.provider is 'O gateway da linha.';

create table public.notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  company_id uuid,
  type text constraint known_type check (type in ('new_lead', 'task', 'instance_disconnected', 'instance_reconnected')),
  title text not null,
  message text,
  data jsonb,
  read boolean default false,
  created_at timestamptz default now()
);

create table public.wapi_conversations (
  id uuid primary key default gen_random_uuid(),
  instance_id uuid references public.wapi_instances (id) on delete cascade,
  remote_jid text,
  contact_name text,
  contact_phone text not null,
  contact_picture text,
  last_message_at timestamptz,
  last_message_content text,
  last_message_from_me boolean,
  unread_count int,
  lead_id uuid,
  company_id uuid,
  bot_enabled boolean,
  funnel_stage text,
  unique (instance_id, remote_jid)
);

-- No unique (conversation_id, message_id): an older platform.
create table public.wapi_messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid references public.wapi_conversations (id) on delete cascade,
  message_id text,
  from_me boolean,
  message_type text,
  content text,
  media_url text,
  media_key text,
  media_direct_path text,
  status text,
  "timestamp" timestamptz,
  company_id uuid,
  metadata jsonb,
  quoted_message_id text,
  reply_to uuid references public.wapi_messages (id),
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create index messages_of_a_conversation on public.wapi_messages (conversation_id);

create view public.inbox as
  select c.contact_name, m.* from public.wapi_messages m join public.wapi_conversations c on c.id = m.conversation_id;

-- Its own functions, triggers, policies, grants and publication.

create function public.touch_updated_at() returns trigger language plpgsql
as $$ begin new.updated_at := clock_timestamp(); return new; end $$;
create trigger set_updated_at before update on public.wapi_instances
  for each row execute function public.touch_updated_at();
create trigger set_updated_at before update on public.wapi_messages
  for each row execute function public.touch_updated_at();

-- A trigger of somebody's on the bell, and a publication of every kind there is.
create function public.count_notification() returns trigger language plpgsql
as $$ begin perform pg_catalog.set_config('platform.notified', new.id::text, true); return new; end $$;
create trigger count_notifications before insert on public.notifications
  for each row execute function public.count_notification();
create publication everything for all tables;
create publication one_schema for tables in schema public;
create publication new_connected_lines for table public.wapi_instances (id, unit, status) where (status = 'connected')
  with (publish = 'insert');

create function public.is_member(p_company uuid) returns boolean language sql stable security definer set search_path = public
as $$ select exists (select from user_companies where user_id = auth.uid() and company_id = p_company) $$;

alter table public.wapi_instances enable row level security;
alter table public.notifications enable row level security;
alter table public.wapi_conversations enable row level security;
alter table public.wapi_messages enable row level security;
create policy "Members can manage instances" on public.wapi_instances using (public.is_member(company_id));
create policy "Users can view own notifications" on public.notifications for select using (auth.uid() = user_id);
create policy "Users can update own notifications" on public.notifications for update using (auth.uid() = user_id);
create policy "Members can manage conversations" on public.wapi_conversations using (public.is_member(company_id));
create policy "Members can manage messages" on public.wapi_messages using (public.is_member(company_id));
revoke all on public.wapi_instances, public.wapi_messages, public.notifications from anon;

alter publication supabase_realtime add table public.notifications, public.wapi_messages, public.wapi_instances;

-- People

insert into public.companies (id, name, slug, is_active, tax_id)
select md5('company ' || name)::uuid, name, name, null, '00.000.000/0001-00'
from unnest(array['alegria', 'bela', 'vazia']) as name;

insert into auth.users (id, email)
select md5('user ' || name)::uuid, name || '@example.com' from unnest(array['ana', 'bia', 'caio']) as name;

insert into public.user_companies (user_id, company_id, role)
select md5('user ' || name)::uuid, md5('company ' || company)::uuid, 'owner'
from (values ('ana', 'alegria'), ('bia', 'alegria'), ('caio', 'bela'), ('ana', 'bela'), ('gone', 'alegria'), ('long gone', 'bela'))
  as member (name, company);

-- Lines

insert into public.wapi_instances
  (id, user_id, instance_id, instance_token, status, phone_number, connected_at, unit, company_id, created_at, updated_at, bot_prompt)
select md5('line ' || name)::uuid, md5('owner ' || name)::uuid, external_id, 'token-of-' || external_id, status, '5511900000001',
  '2026-01-01', unit, md5('company ' || company)::uuid, created_at::timestamptz, '2026-02-01', 'Você é a atendente.'
from (values
  ('jardins',      'LITE-AB12CD-000001', 'connected',          'Jardins',   'alegria', '2026-01-01'),
  ('moema',        'LITE-AB12CD-000002', 'connected',          'Moema',     'alegria', '2026-01-01'),
  ('pinheiros',    'LITE-AB12CD-000003', 'degraded',           'Pinheiros', 'bela',    '2026-01-01'),
  ('santana',      'LITE-AB12CD-000004', 'disconnected',       'Santana',   'vazia',   '2026-01-01'),
  ('refused',      'LITE-AB12CD-000005', 'unauthorized',       'Jardins',   'alegria', '2026-01-01'),
  ('not found',    'LITE-AB12CD-000006', 'instance_not_found', null,        'alegria', '2026-01-01'),
  ('without word', 'LITE-AB12CD-000007', null,                 'Moema',     'alegria', '2026-01-01'),
  ('shouting',     'LITE-AB12CD-000008', 'CONNECTED',          null,        'bela',    '2026-01-01'),
  ('new',          null,                 null,                 null,        'alegria', '2026-01-01'),
  ('also new',     null,                 'disconnected',       null,        'alegria', '2026-01-01'),
  ('empty',        '',                   'connected',          null,        'alegria', '2026-01-01'),
  ('also empty',   '',                   'connecting',         null,        'alegria', '2026-01-01'),
  -- The connected one stays, although the other is newer.
  ('twin',         'LITE-AB12CD-000009', 'connected',          'Tatuapé',   'alegria', '2026-01-01'),
  ('newer twin',   'LITE-AB12CD-000009', 'unauthorized',       'Tatuapé',   'alegria', '2026-01-02'),
  -- None is connected: the newest stays, and an unknown age is no age.
  ('old copy',     'LITE-AB12CD-000010', 'disconnected',       null,        'bela',    '2026-01-01'),
  ('newest copy',  'LITE-AB12CD-000010', null,                 null,        'bela',    '2026-01-03'),
  ('ageless copy', 'LITE-AB12CD-000010', 'degraded',           null,        'bela',    null),
  -- Of another company than its twin.
  ('stranger',     'LITE-AB12CD-000003', 'disconnected',       'Santana',   'vazia',   '2025-01-01')
) as line (name, external_id, status, unit, company, created_at);

-- A browser's clock that was wrong by centuries.
update public.wapi_instances set connected_at = '2999-01-01' where id = md5('line shouting')::uuid;

-- Other providers' lines, with ids and words of their own; and one of ours under the vendor's own spelling.
insert into public.wapi_instances
  (id, user_id, instance_id, instance_token, client_token, status, company_id, provider, created_at, updated_at)
select md5('line ' || name)::uuid, md5('owner ' || name)::uuid, external_id, token, 'c', status, md5('company alegria')::uuid, provider,
  '2026-01-01', '2026-02-01'
from (values
  ('z 1', 'SAME',   't',  'open',       'zapi'),
  ('z 2', 'SAME',   't',  null,         'zapi'),
  ('e 1', 'SAME',   't',  'close',      'evolution'),
  ('w 1', 'SAME',   null, 'connected',  'W-API'),
  ('w 2', ' SAME ', null, 'qr_pending', 'wapi')
) as line (name, external_id, token, status, provider);

-- Notices: some without company, type, data or read mark; some of a type that we use too.

insert into public.notifications (id, user_id, company_id, type, title, message, data, read, created_at)
select md5('notice ' || n)::uuid, md5('user ' || (array['ana', 'bia', 'caio'])[1 + n % 3])::uuid,
  case when n % 4 > 0 then md5('company alegria')::uuid end,
  case n % 5 when 0 then null when 1 then 'instance_disconnected' else 'new_lead' end, 'Aviso', 'Olá',
  case when n % 2 = 0 then jsonb_build_object('n', n) end, nullif(n % 7, 0) > 3, timestamptz '2026-01-01' + n * interval '1 minute'
from generate_series(1, 5000) as n;

-- 4,000 conversations, 100,000 messages

insert into public.wapi_conversations
  (id, instance_id, remote_jid, contact_name, contact_phone, last_message_at, last_message_content, unread_count, company_id, bot_enabled)
select md5('conversation ' || n)::uuid, md5('line ' || (array['jardins', 'moema', 'twin', 'newer twin'])[1 + n % 4])::uuid,
  case n % 10 when 0 then '1203630000' || n || '@g.us' when 1 then '1000000000' || n || '@lid' else 5511900000000 + n || '@s.whatsapp.net' end,
  nullif('Cliente ' || n % 50, 'Cliente 7'), 5511900000000 + n, timestamptz '2026-01-01' + n * interval '1 hour', 'Oi', n % 3,
  case when n % 9 > 0 then md5('company alegria')::uuid end, nullif(n % 2, 0) = 1
from generate_series(0, 3999) as n;

-- Messages 0 to 3,999 have two copies each, 92,000 + n and 96,000 + n; of 17 ids one is missing and one is empty. Some
-- messages quote one of these, by the provider's id or by the copy's row.
insert into public.wapi_messages
  (id, conversation_id, message_id, from_me, message_type, content, status, "timestamp", company_id, metadata, quoted_message_id,
   reply_to, created_at, updated_at)
select md5('message ' || n)::uuid,
  case when of % 501 > 0 then md5('conversation ' || of % 4000)::uuid end,
  case of % 17 when 0 then null when 1 then '' else '3EB0' || upper(substr(md5('id ' || of / 2), 1, 16)) end,
  of % 2 = 0, 'text', 'Mensagem ' || of, (array['pending', 'sent', 'delivered', 'read', 'received', 'error'])[1 + n % 6],
  -- A copy came later, came at the same instant, or nobody knows; or nobody knows of either.
  case
    when of % 7 = 0 or n <> of and of % 7 = 1 then null
    when n <> of and of % 7 in (2, 3) then timestamptz '2026-01-01' + (n + 100000) * interval '1 second'
    else timestamptz '2026-01-01' + of * interval '1 second'
  end,
  md5('company alegria')::uuid,
  (array[null, '{}', '{"bot": {"step": 3}}', '[1, {"a": null}]', '"ok"', 'null', '7', 'true'])[1 + n % 8]::jsonb,
  case when of % 5 = 0 then '3EB0' || upper(substr(md5('id ' || of % 4000 / 2), 1, 16)) end,
  case when n between 4000 and 8000 then md5('message ' || 92000 + of % 4000)::uuid end,
  case when of % 11 > 0 then timestamptz '2026-02-01' - n * interval '1 second' end, '2026-02-01'
from (
  select n, case when n < 92000 then n when n < 96000 then n - 92000 else n - 96000 end as of
  from generate_series(0, 99999) as n
) as message;

analyze;
