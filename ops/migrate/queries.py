"""What the dry run asks. Columns that a platform may lack are read through ``to_jsonb``: there they are null."""

from __future__ import annotations

from typing import Final

TABLES: Final = """
    select c.relname as name, c.relkind in ('r', 'p') as is_table,
      pg_has_role(current_user, c.relowner, 'usage') as is_mine,
      array(select a.attname::text from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname = any (%s)
"""
UNIQUE_CHAT: Final = """
    select from pg_catalog.pg_index i
    where i.indrelid = 'public.wapi_conversations'::regclass and i.indisunique and i.indisvalid and i.indpred is null
      and i.indexprs is null and (
        select array_agg(a.attname::text order by a.attname)
        from unnest(i.indkey) with ordinality as k (attnum, place)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.place <= i.indnkeyatts) = array['instance_id', 'remote_jid']
"""
FOREIGN_RELATIONS: Final = """
    select c.relname as name from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname = any (%s)
      and obj_description(c.oid, 'pg_class') is null
    order by 1
"""
# `place` is that of the migration: among active rows of one external id the connected, then the newest, is the first.
LINES: Final = """
    with lines as (
      select i.id, btrim(i.instance_id) as external_id, i.status, i.unit, i.company_id, i.created_at,
        to_jsonb(i) ->> 'provider' as provider,
        lower(replace(coalesce(to_jsonb(i) ->> 'provider', 'wapi'), '-', '')) = 'wapi' as ours,
        (to_jsonb(i) ->> 'is_active')::boolean is not false as active,
        array(
          select moment.name || ' = ' || moment.told
          from (values
            ('connected_at', to_jsonb(i) ->> 'connected_at', i.connected_at > now() + interval '5 minutes'),
            ('created_at', to_jsonb(i) ->> 'created_at', i.created_at > now() + interval '5 minutes'),
            ('last_health_check', to_jsonb(i) ->> 'last_health_check', false)
          ) as moment (name, told, ahead)
          where moment.told !~ '^(19|20)[0-9][0-9]-' or moment.ahead
        ) as odd_moments
      from public.wapi_instances i
    )
    select l.id, l.external_id, l.status, l.unit, l.company_id, l.provider, l.ours, l.active, l.odd_moments,
      {company} as company,
      case when l.ours and l.active and l.external_id <> '' then row_number() over (
        partition by l.ours, l.active, l.external_id
        order by (coalesce(l.status, '') = 'connected') desc, l.created_at desc nulls last, l.id
      ) end as place
    from lines l
    order by company, l.unit, l.id
"""
COMPANY: Final = "(select c.name from public.companies c where c.id = l.company_id)"
NO_COMPANY: Final = "null::text"
COPIES: Final = """
    select coalesce(sum(number - 1), 0)::bigint as copies from (
      select count(*) as number from public.wapi_messages
      where conversation_id is not null and message_id <> ''
      group by conversation_id, message_id having count(*) > 1
    ) as same
"""
REALTIME: Final = """
    select puballtables as everything, pubinsert as inserts from pg_catalog.pg_publication
    where pubname = 'supabase_realtime'
"""
REALTIME_TABLES: Final = """
    select p.tablename as name, p.rowfilter is not null as filtered,
      cardinality(p.attnames) < (
        select count(*) from pg_catalog.pg_attribute a
        where a.attrelid = format('%I.%I', p.schemaname, p.tablename)::regclass and a.attnum > 0 and not a.attisdropped
      ) as columns_left_out
    from pg_catalog.pg_publication_tables p
    where p.pubname = 'supabase_realtime' and p.schemaname = 'public'
"""
COLUMNS_THAT_MUST_BE_FILLED: Final = """
    select a.attname as name from pg_catalog.pg_attribute a
    where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
      and a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attname <> all (%s)
    order by a.attnum
"""
CHECKS: Final = """
    select conname as name, pg_get_expr(conbin, conrelid) as expression from pg_catalog.pg_constraint
    where conrelid = %s::regclass and contype = 'c' order by 1
"""
UNIQUE_INDEXES: Final = """
    select c.relname as name from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indrelid = 'public.notifications'::regclass and i.indisunique and not i.indisprimary order by 1
"""
INSERT_TRIGGERS: Final = """
    select t.tgname as name, t.tgfoid::regproc::text as function from pg_catalog.pg_trigger t
    where t.tgrelid = 'public.notifications'::regclass and not t.tgisinternal and t.tgenabled <> 'D'
      and t.tgtype & 4 = 4
    order by 1
"""
USERS_ARE_REFERENCED: Final = """
    select from pg_catalog.pg_constraint
    where conrelid = 'public.notifications'::regclass and contype = 'f' and confrelid = to_regclass('auth.users')
      and has_schema_privilege('auth', 'usage') and has_table_privilege('auth.users', 'select')
"""
USERS_THAT_ARE_GONE: Final = """
    select count(distinct m.user_id) as users, count(distinct m.company_id) as companies
    from public.user_companies m
    where exists (select from public.wapi_instances i where i.company_id = m.company_id)
      and not exists (select from auth.users u where u.id = m.user_id)
"""
