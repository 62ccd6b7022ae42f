-- Purpose: what the plan adds to a line's row, and rows that are unambiguous.
-- Touches: wapi_instances (five columns, three indexes, status words, duplicates).
--
-- Everything else that the two functions must know of a line is in tables of our own (records): a member of a platform
-- who may write this whole row can neither reset a restart's clock nor stop a sweep with it.
--
-- A row is ours when lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi', and its external id is
-- btrim(instance_id): the same expressions here and in every query, or no query finds its index. A platform that keeps the
-- provider in another column adds `provider` as a generated column from it before it applies this file.
--
-- Changes to existing rows, of our provider alone:
--   * a status that is neither connected, degraded, disconnected nor a word of pairing becomes disconnected; the old word
--     (or "null") goes to status_reason;
--   * of several active rows with one external id the connected, then the newest, stays active; the others are paused
--     (is_active = false, status_reason = 'duplicate_external_id', which an old word gives way to) and named in a NOTICE,
--     with that word. Triggers of the platform on wapi_instances (updated_at) fire for these rows.

set local lock_timeout = '5s';

alter table public.wapi_instances
  add column if not exists last_health_check timestamptz,
  add column if not exists auto_recovery_attempts integer default 0,
  add column if not exists is_active boolean default true,
  add column if not exists status_reason text,
  add column if not exists provider text default 'wapi';

-- What a platform has written about a column of its own stays.
do $$
declare
  v_comment record;
begin
  for v_comment in
    select * from (values
      ('last_health_check', 'When the last finished look at the line ended, whatever it found. Lines are looked at in this order.'),
      ('auto_recovery_attempts', 'Restarts since the last failed one; at 3 the line is flapping.'),
      ('is_active', 'false = paused: no looks, restarts or bells. null counts as true.'),
      ('status_reason', 'Why the status is what it is.'),
      ('provider', 'Whose line it is. Only wapi (or W-API, or null) is watched.')
    ) as c (name, words)
  loop
    if pg_catalog.col_description('public.wapi_instances'::regclass, (
      select attnum from pg_catalog.pg_attribute
      where attrelid = 'public.wapi_instances'::regclass and attname = v_comment.name)) is null
    then
      execute format('comment on column public.wapi_instances.%I is %L', v_comment.name, v_comment.words);
    end if;
  end loop;
end
$$;

create or replace function public.is_pairing_word(p_status text)
returns boolean
language sql immutable security invoker set search_path = ''
as $$
  select p_status in (
    'connecting', 'qr', 'qr_code', 'qr_pending', 'pairing', 'scan_qr', 'awaiting_qr', 'starting', 'initializing');
$$;
comment on function public.is_pairing_word is 'Whether a status says that somebody is pairing the phone now. Words of platforms and gateways.';

update public.wapi_instances
set status_reason = coalesce(status, 'null'), status = 'disconnected'
where lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi'
  and (status is null or status not in ('connected', 'degraded', 'disconnected') and not public.is_pairing_word(status));

do $$
declare
  v_paused record;
begin
  for v_paused in
    with ranked as (
      select id, instance_id, status_reason,
        row_number() over (
          partition by btrim(instance_id)
          order by (status = 'connected') desc, created_at desc nulls last, id
        ) as place
      from public.wapi_instances
      where is_active is not false and btrim(instance_id) <> ''
        and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi'
    )
    update public.wapi_instances i
    set is_active = false, status_reason = 'duplicate_external_id'
    from ranked r
    where r.id = i.id and r.place > 1
    returning i.id, i.instance_id, coalesce(r.status_reason, i.status) as word
  loop
    raise notice 'instance % (%) paused: another row has its external id %', v_paused.id, v_paused.word, v_paused.instance_id;
  end loop;
end
$$;

create unique index if not exists one_active_instance_per_external_id
  on public.wapi_instances (btrim(instance_id))
  where is_active is not false and btrim(instance_id) <> '' and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';

-- Reader: find_instance, for a line that has no active row.
create index if not exists paused_instances_by_external_id
  on public.wapi_instances (btrim(instance_id))
  where is_active is false and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';

-- Reader: claim_instances. Oldest look first, never looked at before all.
create index if not exists active_instances_by_last_health_check
  on public.wapi_instances ((coalesce(last_health_check, timestamptz '-infinity')), id)
  where is_active is not false and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi';

-- Reader: note_unwatched. Lines of ours that nobody can ask about.
create index if not exists unwatched_instances
  on public.wapi_instances (id)
  where is_active is not false and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi'
    and (coalesce(btrim(instance_id), '') = '' or coalesce(btrim(instance_token), '') = '');

-- On a fresh project (known by our own policy) members hold column grants: the new columns are readable, tokens are not.
-- An adopted platform keeps its own grants.
do $$
begin
  if exists (
    select from pg_catalog.pg_policies
    where schemaname = 'public' and tablename = 'wapi_instances' and policyname = 'members_read_their_instances'
  ) then
    grant select (last_health_check, auto_recovery_attempts, is_active, status_reason, provider)
      on public.wapi_instances to authenticated;
  end if;
end
$$;

insert into public.recovery_migrations (version) values ('20261122100100') on conflict do nothing;
