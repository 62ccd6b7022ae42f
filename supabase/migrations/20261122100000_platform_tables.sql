-- Purpose: the platform's own tables, for a project that does not have them yet.
-- Touches: companies, user_companies, wapi_instances, notifications, wapi_conversations, wapi_messages; and our own
-- history, recovery_migrations, in which each file records itself, whoever applies it: deploy/migrate, supabase db push
-- or the SQL editor.
--
-- On a platform that has these tables this file changes nothing: what exists keeps its columns, policies and grants.
-- Row level security, policies and grants are set only on the tables that this very file creates.

set local lock_timeout = '5s';

create table if not exists public.recovery_migrations (
  version text primary key,
  applied_at timestamptz not null default now(),
  checksum text
);
comment on table public.recovery_migrations is
  'Which migrations of the line recovery this database has had. The Supabase CLI''s own history belongs to the platform''s repository.';
comment on column public.recovery_migrations.checksum is 'sha256 of the file, where deploy/migrate applied it.';
alter table public.recovery_migrations enable row level security;
revoke all on public.recovery_migrations from public, anon, authenticated;
grant select on public.recovery_migrations to service_role;

create temp table fresh_tables on commit drop as
select name
from unnest(array['companies', 'user_companies', 'wapi_instances', 'notifications', 'wapi_conversations', 'wapi_messages']) as name
where to_regclass('public.' || name) is null;

create table if not exists public.companies (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  slug text unique,
  parent_id uuid references public.companies (id) on delete set null,
  is_active boolean not null default true,
  settings jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table if not exists public.user_companies (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  company_id uuid not null references public.companies (id) on delete cascade,
  role text not null default 'member',
  is_default boolean not null default false,
  created_at timestamptz not null default now(),
  unique (user_id, company_id)
);

-- instance_id is the provider's id ("LITE-…"), never our uuid.
create table if not exists public.wapi_instances (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  instance_id text,
  instance_token text,
  status text default 'disconnected',
  phone_number text,
  connected_at timestamptz,
  unit text,
  company_id uuid not null references public.companies (id) on delete cascade,
  messages_count integer default 0,
  credits_available integer default 0,
  addon_valid_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table if not exists public.notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  company_id uuid references public.companies (id) on delete cascade,
  type text not null,
  title text not null,
  message text,
  data jsonb default '{}',
  read boolean default false,
  created_at timestamptz not null default now()
);

create table if not exists public.wapi_conversations (
  id uuid primary key default gen_random_uuid(),
  instance_id uuid not null references public.wapi_instances (id) on delete cascade,
  remote_jid text not null,
  contact_name text,
  contact_phone text not null,
  contact_picture text,
  last_message_at timestamptz,
  last_message_content text,
  last_message_from_me boolean,
  unread_count integer not null default 0,
  lead_id uuid,
  company_id uuid references public.companies (id) on delete cascade,
  bot_enabled boolean default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (instance_id, remote_jid)
);

create table if not exists public.wapi_messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid not null references public.wapi_conversations (id) on delete cascade,
  message_id text,
  from_me boolean not null default false,
  message_type text not null default 'text',
  content text,
  media_url text,
  media_key text,
  media_direct_path text,
  status text default 'pending',
  "timestamp" timestamptz not null default now(),
  company_id uuid references public.companies (id) on delete cascade,
  metadata jsonb default '{}',
  quoted_message_id text,
  created_at timestamptz not null default now(),
  unique (conversation_id, message_id)
);

do $$
declare
  v_name text;
  v_fresh text[] := array(select name from fresh_tables);
begin
  foreach v_name in array v_fresh loop
    execute format('alter table public.%I enable row level security', v_name);
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant all on public.%I to service_role', v_name);
  end loop;

  if 'user_companies' = any (v_fresh) then
    create index user_companies_by_company on public.user_companies (company_id);
    grant select on public.user_companies to authenticated;
    create policy members_read_own_memberships on public.user_companies for select to authenticated
      using (user_id = (select auth.uid()));
  end if;

  if 'companies' = any (v_fresh) then
    create index companies_by_parent on public.companies (parent_id);
    grant select on public.companies to authenticated;
    create policy members_read_their_companies on public.companies for select to authenticated
      using (id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));
  end if;

  if 'wapi_instances' = any (v_fresh) then
    comment on column public.wapi_instances.instance_id is 'The provider''s id of the line (external id), not our uuid.';
    create index wapi_instances_by_company on public.wapi_instances (company_id);
    -- Not instance_token: members see the line, never its key.
    grant select (
      id, user_id, instance_id, status, phone_number, connected_at, unit, company_id,
      messages_count, credits_available, addon_valid_until, created_at, updated_at
    ) on public.wapi_instances to authenticated;
    create policy members_read_their_instances on public.wapi_instances for select to authenticated
      using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));
  end if;

  if 'notifications' = any (v_fresh) then
    create index notifications_by_user on public.notifications (user_id, created_at desc);
    create index notifications_by_company on public.notifications (company_id);
    grant select, delete, update (read) on public.notifications to authenticated;
    create policy users_read_own_notifications on public.notifications for select to authenticated
      using (user_id = (select auth.uid()));
    create policy users_mark_own_notifications on public.notifications for update to authenticated
      using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
    create policy users_delete_own_notifications on public.notifications for delete to authenticated
      using (user_id = (select auth.uid()));
  end if;

  if 'wapi_conversations' = any (v_fresh) then
    create index conversations_by_company on public.wapi_conversations (company_id);
    grant select, update (unread_count, bot_enabled, lead_id) on public.wapi_conversations to authenticated;
    create policy members_read_their_conversations on public.wapi_conversations for select to authenticated
      using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));
    create policy members_update_their_conversations on public.wapi_conversations for update to authenticated
      using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())))
      with check (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));
  end if;

  if 'wapi_messages' = any (v_fresh) then
    create index messages_by_company on public.wapi_messages (company_id);
    grant select on public.wapi_messages to authenticated;
    create policy members_read_their_messages on public.wapi_messages for select to authenticated
      using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));
  end if;

  -- The bell rings at once: Realtime publishes inserts into notifications.
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    raise notice 'publication supabase_realtime does not exist: the bell will not ring by itself';
  elsif not exists (
    select from pg_catalog.pg_publication_tables
    where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'notifications'
  ) then
    alter publication supabase_realtime add table public.notifications;
  end if;
end
$$;

insert into public.recovery_migrations (version) values ('20261122100000') on conflict do nothing;
