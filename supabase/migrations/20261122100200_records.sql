-- Purpose: what the two functions keep for themselves: the health of each line, the clock of its restarts, what sweeps must
-- know of each other, outages, who was told, the audit, the run log, the inbox, who is who, the relay's turns.
-- Touches: new tables only (a foreign key takes a moment's lock on wapi_instances); new types; keep_for_service().
--
-- Outages, notices, audit and inbox have no foreign key to wapi_instances: deleting a line is blocked by nothing here, and
-- history keeps its copy of unit and company. Members read the outages and events of their companies; all the rest is the
-- service role's alone.

set local lock_timeout = '5s';

-- Nothing that a healthy sweep writes is indexed, and every page keeps room: its updates are HOT.
create table if not exists public.instance_health (
  instance_id uuid not null references public.wapi_instances (id) on delete cascade,
  last_alive_at timestamptz,
  alive_as bytea,
  last_event_at timestamptz,
  degraded_since timestamptz,
  bad_since timestamptz,
  unknown_since timestamptz,
  unknown_looks integer not null default 0,
  unverified_since timestamptz,
  silence_said timestamptz,
  pairing_since timestamptz,
  unwatched_since timestamptz,
  odd_moments text,
  health_lease_until timestamptz,
  last_restart_at timestamptz,
  tell_at timestamptz,
  -- Entries of one row stay in the order of its versions: claim_instances begins at the newest.
  primary key (instance_id) with (deduplicate_items = off)
) with (fillfactor = 20);
comment on table public.instance_health is 'Our bookkeeping of a line. A missing row means defaults; whoever writes makes it.';
comment on column public.instance_health.last_alive_at is 'Start of the last look that said ALIVE.';
comment on column public.instance_health.alive_as is
  'Fingerprint of the external id and token that looked ALIVE then: anybody may write an id into a row of theirs.';
comment on column public.instance_health.last_event_at is 'Moment of the last webhook sign of life (kept to the minute).';
comment on column public.instance_health.degraded_since is 'Since when the status is degraded.';
comment on column public.instance_health.bad_since is 'First conclusive sign of death since the last sign of life.';
comment on column public.instance_health.unknown_since is 'First of the looks in a row that could not find out.';
comment on column public.instance_health.unknown_looks is 'Looks in a row that could not find out.';
comment on column public.instance_health.silence_said is
  'The unknown_since of which the operator was told that the line fell silent together with others.';
comment on column public.instance_health.unverified_since is
  'Since when the line''s users have been told that nobody can find out; null: they have not, or it is over.';
comment on column public.instance_health.pairing_since is 'When a word of pairing was first seen in the row; null while another stands there.';
comment on column public.instance_health.unwatched_since is 'Since when the line cannot be asked about: no external id, or no token.';
comment on column public.instance_health.odd_moments is 'Columns of the platform''s row that hold a moment that cannot be; named once in the log.';
comment on column public.instance_health.health_lease_until is 'A sweep is at this line until then; the value is also its token.';
comment on column public.instance_health.last_restart_at is 'A copy of restart_claims, for reading.';

comment on column public.instance_health.tell_at is
  'When it has to be seen whether something about the line is to be told (a "voltou" that waits, a reminder, what the bound held back); null = nothing can be.';

-- Reader: tell_what_is_due. A line of which nobody waits to hear is not in it.
create index if not exists lines_by_tell_at on public.instance_health (tell_at) where tell_at is not null;
-- Reader: tell_unverified. A healthy line is not in it.
create index if not exists silent_lines_by_unknown_since on public.instance_health (unknown_since) where unknown_since is not null;

create table if not exists public.restart_claims (
  provider text not null,
  external_id text not null,
  last_restart_at timestamptz not null,
  primary key (provider, external_id)
);
comment on table public.restart_claims is
  'When a restart of a line was last claimed. By the provider''s id and without foreign key: the 30 minutes outlive a row that is deleted and made anew.';

create table if not exists public.provider_state (
  provider text not null,
  server text not null default '',
  braked_since timestamptz,
  canary_instance_id uuid,
  canary_sent_at timestamptz,
  canary_ended_at timestamptz,
  canary_recovered boolean,
  device_silent_since timestamptz,
  blind_sweeps integer not null default 0,
  primary key (provider, server)
);
comment on table public.provider_state is 'What sweeps must know of each other: one row per provider and server ('''' = its one public address).';
comment on column public.provider_state.braked_since is 'Set by the first batch that brakes, cleared by the first sweep without a brake. No decision reads it.';
comment on column public.provider_state.canary_recovered is
  'How the last canary ended; null = it is under way, or was cut off. Stands for every sweep that began before canary_ended_at.';
comment on column public.provider_state.device_silent_since is
  'Since the end of which sweep lines claim to be connected and no line''s device answers; null: one does.';
comment on column public.provider_state.blind_sweeps is 'Finished sweeps in a row in which no look found anything out.';

create table if not exists public.instance_outages (
  id uuid primary key default gen_random_uuid(),
  instance_id uuid not null,
  external_id text,
  company_id uuid,
  unit text,
  started_at timestamptz not null,
  opened_at timestamptz not null default now(),
  life_counts_from timestamptz not null,
  opened_by text not null,
  reason text not null,
  restarts integer not null default 0,
  lived interval not null default '0',
  told_at timestamptz,
  told_as text,
  told_text text,
  answered_at timestamptz,
  closed_at timestamptz,
  closed_as text,
  constraint closed_outage_says_how check ((closed_at is null) = (closed_as is null)),
  constraint known_opener check (opened_by in ('sweep', 'webhook', 'screen', 'adoption')),
  constraint known_closing check (closed_as in ('recovered', 'alive', 'event', 'paused', 'deleted')),
  constraint known_telling check (told_as in ('down', 'unstable', 'damped', 'down_lasting')),
  constraint told_outage_says_as_what check ((told_at is null) = (told_as is null))
);
comment on table public.instance_outages is 'From the first sign of death of a line until life is proven. At most one open per line. Kept for ever.';
comment on column public.instance_outages.instance_id is 'wapi_instances.id; no foreign key, the outage outlives the line.';
comment on column public.instance_outages.opened_by is
  'sweep | webhook | screen (the platform''s screen wrote the status) | adoption (the very first look at a line that was down already: nobody is told).';
comment on column public.instance_outages.started_at is 'First sign of death.';
comment on column public.instance_outages.opened_at is 'When this row was written.';
comment on column public.instance_outages.life_counts_from is 'Webhook moments before this do not prove life.';
comment on column public.instance_outages.reason is 'The observation or event that opened it, in lower case.';
comment on column public.instance_outages.restarts is 'Restarts requested in this outage.';
comment on column public.instance_outages.lived is 'How long silent cures held before it was opened again: no part of the time it was down.';
comment on column public.instance_outages.told_at is
  'When the company''s users were told, or damping kept it from them; null = a silent outage. One with it is a fall of its line.';
comment on column public.instance_outages.told_as is
  'down | unstable | damped (nobody was told: the line is known to be unstable) | down_lasting (one of the two before, told because it lasted).';
comment on column public.instance_outages.told_text is 'Which of the texts tells it.';
comment on column public.instance_outages.answered_at is
  'When "voltou" was due and told: the episode of this fall is over. The falls without it, and the notices of them, are the episode.';
comment on column public.instance_outages.closed_as is 'recovered (restart) | alive (look) | event | paused | deleted.';
create unique index if not exists one_open_outage_per_instance on public.instance_outages (instance_id) where closed_at is null;
-- Readers: open_outage (the last closed one), reports.
create index if not exists outages_by_instance on public.instance_outages (instance_id, closed_at desc);
-- Reader: whoever asks whether a line is in an episode. Few lines are.
create index if not exists unanswered_falls on public.instance_outages (instance_id)
  where told_at is not null and answered_at is null;
create index if not exists outages_by_company on public.instance_outages (company_id, started_at desc);

create table if not exists public.instance_events (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  instance_id uuid not null,
  external_id text,
  company_id uuid,
  unit text,
  kind text not null,
  source text not null,
  from_status text,
  to_status text,
  reason text,
  outage_id uuid,
  run_id uuid,
  details jsonb not null default '{}',
  constraint known_audit_kind check (kind in (
    'outage_opened', 'outage_reopened', 'outage_closed', 'status_changed', 'users_told',
    'restart_requested', 'restart_recovered', 'restart_failed', 'restart_unverified',
    'disconnection_denied', 'disconnection_ignored', 'phone_changed')),
  constraint known_source check (source in ('sweep', 'webhook'))
);
comment on table public.instance_events is 'Audit: what happened to a line, when, who saw it, from -> to, why. Kept 90 days.';
comment on column public.instance_events.details is
  'Why: observation and cause of the look, event_id of the inbox; and what belongs to the kind (told, attempt, …).';
create index if not exists events_by_instance on public.instance_events (instance_id, at desc);
create index if not exists events_by_company on public.instance_events (company_id, at desc);
create index if not exists events_by_age on public.instance_events (at);

create table if not exists public.notices (
  id bigint generated always as identity primary key,
  occasion text not null,
  kind text not null,
  user_id uuid not null,
  company_id uuid,
  instance_id uuid not null,
  external_id text,
  unit text,
  text text not null,
  outage_id uuid,
  since timestamptz not null,
  state text not null,
  told_at timestamptz not null,
  tries integer not null default 1,
  sqlstate text,
  next_try_at timestamptz,
  notification_id uuid,
  event_id bigint,
  constraint one_notice_per_occasion_user_kind unique (occasion, user_id, kind),
  constraint known_notice_kind check (kind in (
    'down', 'unstable', 'down_lasting', 'back', 'still_down', 'unverified', 'mute', 'subscription')),
  constraint known_notice_state check (state in ('sent', 'refused'))
);
comment on table public.notices is
  'One telling to one user: who was told and what may not be told twice. The platform''s notifications are deleted by people and jobs; these are not.';
comment on column public.notices.occasion is 'What it is about: outage:<id>, reminder:<outage>:<n>, unverified:<instance>:<since>.';
comment on column public.notices.since is 'Since when what it tells has been so: the outage''s start, the first look that could not find out.';
comment on column public.notices.text is 'Which of the texts.';
comment on column public.notices.told_at is 'When the user was told, or when the platform''s table last refused it.';
comment on column public.notices.sqlstate is 'With which the platform''s table refused it.';
comment on column public.notices.notification_id is 'The platform''s row, as long as nobody deletes it.';
comment on column public.notices.event_id is 'instance_events.id: the finding that rang it.';
-- Reader: whoever asks why a bell rang.
create index if not exists notices_by_notification on public.notices (notification_id);
-- Readers: user_words, free_places.
create index if not exists notices_by_instance_and_user on public.notices (instance_id, user_id, told_at desc);
-- Reader: retry_notices.
create index if not exists refused_notices_by_next_try on public.notices (next_try_at) where state = 'refused';

create table if not exists public.health_check_runs (
  id uuid primary key default gen_random_uuid(),
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  checked integer not null default 0,
  observations jsonb not null default '{}',
  outcomes jsonb not null default '{}',
  braked boolean not null default false,
  left_due integer not null default 0,
  unwatched integer not null default 0,
  looked_at_up integer not null default 0,
  took_ms integer
);
comment on table public.health_check_runs is 'One row a sweep: the heartbeat. finished_at null = cut off or still running. Kept 30 days.';
comment on column public.health_check_runs.looked_at_up is 'Lines that were up when this run looked at them: a mass of disconnections is a share of these.';
create index if not exists runs_by_start on public.health_check_runs (started_at desc);

create table if not exists public.wapi_webhook_events (
  id bigint generated always as identity primary key,
  event_key text not null,
  received_at timestamptz not null default now(),
  external_id text,
  instance_id uuid,
  event text,
  kind text not null,
  moment timestamptz,
  body text,
  outcome text,
  processed_at timestamptz,
  message_id text,
  change jsonb,
  relay text,
  relayed_at timestamptz,
  relay_attempts integer,
  constraint one_row_per_event unique (event_key),
  constraint known_relay_state check (relay in ('pending', 'done', 'refused'))
);
comment on table public.wapi_webhook_events is 'Inbox: every event as it came, once. Bodies kept 48 h (14 days if not processed), keys and outcomes 14 days.';
comment on column public.wapi_webhook_events.body is 'The event as it came (JSON text); null after its retention.';
comment on column public.wapi_webhook_events.outcome is 'What became of it.';
comment on column public.wapi_webhook_events.message_id is 'The message that an event waits for.';
comment on column public.wapi_webhook_events.change is 'What is to be done once that message is there (outcome waiting).';
comment on column public.wapi_webhook_events.relay is 'null: not to be forwarded; pending; done; refused (by the handler, again and again; set it to pending to try once more).';
comment on column public.wapi_webhook_events.relay_attempts is 'How often the handler has refused it with a 4xx.';
create index if not exists webhook_events_by_age on public.wapi_webhook_events (received_at);
create index if not exists webhook_bodies_by_age on public.wapi_webhook_events (received_at) where body is not null;
-- Reader: settle_disconnection (did other lines also lose their session just now?).
create index if not exists recent_disconnections on public.wapi_webhook_events (received_at, instance_id)
  where kind = 'disconnection';
-- Reader: keep_rejected.
create index if not exists recent_rejections on public.wapi_webhook_events (received_at) where kind = 'rejected';
-- Reader: store_message. Not by outcome: what an index names makes every update of it write every index.
create index if not exists changes_waiting_for_their_message
  on public.wapi_webhook_events (instance_id, message_id)
  where change is not null;
-- Reader: apply_waiting_of.
create index if not exists waiting_changes_by_line on public.wapi_webhook_events (instance_id)
  where change is not null and change ->> 'do' <> 'ack';
-- Readers: claim_relay, list_relay_backlog.
create index if not exists events_to_relay on public.wapi_webhook_events ((coalesce(external_id, '')), id) where relay = 'pending';

create table if not exists public.wapi_contact_lids (
  instance_id uuid not null references public.wapi_instances (id) on delete cascade,
  lid text not null,
  phone text not null,
  learned_at timestamptz not null default now(),
  conversation_id uuid,
  primary key (instance_id, lid)
);
comment on table public.wapi_contact_lids is 'Which phone a hidden identity (LID) belongs to, as far as an event has told.';
comment on column public.wapi_contact_lids.conversation_id is 'The conversation with that person; no foreign key: a stale one is found out.';
-- Reader: person_conversations.
create index if not exists lids_by_phone on public.wapi_contact_lids (instance_id, phone);

create table if not exists public.conversation_bookkeeping (
  conversation_id uuid primary key,
  instance_id uuid not null references public.wapi_instances (id) on delete cascade,
  is_ours boolean not null default false,
  address_at timestamptz,
  given_name text,
  named_at timestamptz,
  same_person_as uuid,
  refusal text,
  tried_at timestamptz
);
comment on table public.conversation_bookkeeping is
  'What we remember of a conversation. A missing row, or is_ours = false: the platform made it, and it is never merged away.';
comment on column public.conversation_bookkeeping.conversation_id is 'No foreign key: nothing of ours hangs on the platform''s table.';
comment on column public.conversation_bookkeeping.address_at is 'Moment of the message whose address, as WhatsApp wrote it, is the conversation''s.';
comment on column public.conversation_bookkeeping.given_name is 'The group name that we last wrote; another one in the row was given by a person and stays.';
comment on column public.conversation_bookkeeping.same_person_as is 'A conversation with the same person that this one could not become one with.';
comment on column public.conversation_bookkeeping.refusal is 'Why not: both_of_the_platform, two_leads, or the SQLSTATE with which the platform''s tables refused.';

-- Who reacted how, also before the message is there and after a reaction was taken back. Kept as long as the line.
create table if not exists public.message_reactions (
  instance_id uuid not null references public.wapi_instances (id) on delete cascade,
  target_id text not null,
  reactor text not null,
  emoji text not null,
  at timestamptz not null,
  message_id text,
  who jsonb not null,
  row_id uuid,
  primary key (instance_id, target_id, reactor)
);
-- Reader: gather_reactions.
create index if not exists reactions_in_groups_by_reactor on public.message_reactions (instance_id, reactor)
  where reactor not in ('me', 'them');
comment on table public.message_reactions is 'The last reaction of each person to each message; screens read its row of type reaction, or metadata.reactions of the message.';
comment on column public.message_reactions.target_id is 'The provider''s id of the message.';
comment on column public.message_reactions.reactor is 'me, them (the other side of a direct chat), or who it was in a group.';
comment on column public.message_reactions.emoji is 'Empty = taken back: an older event does not bring it back.';
comment on column public.message_reactions.row_id is 'wapi_messages.id of its row.';

create table if not exists public.relay_turns (
  external_id text primary key,
  token uuid,
  until timestamptz,
  taken_at timestamptz not null default now()
);
comment on table public.relay_turns is 'Who forwards a line''s events now. external_id is '''' for events without one.';
comment on column public.relay_turns.taken_at is 'When the turn was last taken; kept as long as the inbox.';

-- Rights

do $$
declare
  v_name text;
begin
  foreach v_name in array array[
    'instance_health', 'restart_claims', 'provider_state', 'instance_outages', 'instance_events', 'notices',
    'health_check_runs', 'wapi_webhook_events', 'wapi_contact_lids', 'conversation_bookkeeping', 'message_reactions', 'relay_turns'
  ] loop
    execute format('alter table public.%I enable row level security', v_name);
    execute format('revoke all on public.%I from public, anon, authenticated', v_name);
    execute format('grant all on public.%I to service_role', v_name);
  end loop;
end
$$;
grant select on public.instance_outages, public.instance_events to authenticated;
-- Their default privileges go to everybody as well.
revoke all on sequence public.instance_events_id_seq, public.wapi_webhook_events_id_seq, public.notices_id_seq
  from public, anon, authenticated;

drop policy if exists members_read_their_outages on public.instance_outages;
create policy members_read_their_outages on public.instance_outages for select to authenticated
  using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));

drop policy if exists members_read_their_events on public.instance_events;
create policy members_read_their_events on public.instance_events for select to authenticated
  using (company_id in (select m.company_id from public.user_companies m where m.user_id = (select auth.uid())));

-- Every name in our functions is qualified, and their search_path is empty, but for those that write the platform's tables:
-- what a function sets holds for the triggers that its writing fires, and the platform's own name their tables as they
-- find them in their sessions.
create or replace function public.keep_for_service(variadic p_functions text[])
returns void
language plpgsql volatile security invoker set search_path = ''
as $$
declare
  v_function regprocedure;
begin
  for v_function in
    select oid from pg_catalog.pg_proc where pronamespace = 'public'::regnamespace and proname = any (p_functions)
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;
comment on function public.keep_for_service is 'The rights of every function of ours: executable by the service role alone. Each migration ends with it.';
do $$ begin perform public.keep_for_service('keep_for_service', 'is_pairing_word'); end $$;

-- What Python hands over in one piece. Its fields are the policy's in Python, the one home of these numbers.
do $$
begin
  if to_regtype('public.recovery_policy') is null then
    create type public.recovery_policy as (
      restart_cooldown interval,      -- at most one restart per external id in this time
      attempts_reset interval,        -- a line alive so long after its last restart begins to count anew
      reopen_within interval,         -- a death so soon after a silent cure is the same outage
      event_slack interval,           -- moments are whole seconds of another clock
      event_ahead interval,           -- a moment further ahead of us is not believed
      event_reach interval,           -- a moment of longer ago opens no outage of longer ago
      stale_after interval,           -- a disconnection so much older than the last sign of life has no effect
      restart_quiet interval,         -- a disconnection so soon after a restart is the restart's own
      life_kept_each interval,        -- how often a busy line's sign of life is written
      notice_waits interval[],        -- before a notice that was refused is tried again; the last one for ever
      counted_within interval,        -- falls of a line, and notices of it to one user, are counted over this time
      falls_told integer,             -- so many falls are each told; one more, and the line is unstable
      back_after interval,            -- a line that fell a second time is told to be back when it has held so long …
      stable_after interval,          -- … and an unstable one when it has held so long; until then its falls are silent …
      lasting_after interval,         -- … but for one that lasts so long
      notices_most integer,           -- notices of a line to one user, the last of them for bad news only
      reminder_waits interval[],      -- after the first notice of a line that is still down …
      reminder_each interval,         -- … and from the last of these on
      joined_seen_each interval,      -- how often such a line is looked at for users who joined since
      tell_again_after interval,      -- what cannot be told yet is asked about again after this
      pairing interval,               -- a word of pairing in the row is believed for so long
      silent_after interval,          -- a line about which nobody finds out anything for so long is told as unverified
      silent_together interval,       -- lines that fell silent within this time of each other have one cause …
      silent_share double precision,  -- … if they are more than one, and than this share of the fleet
      mass_within interval,           -- disconnections of several lines within this time …
      mass_lines integer,             -- … and of so many others …
      mass_share double precision,    -- … and of this share of the lines that the last run saw up are the provider's
      runs_together interval,         -- runs that began so close to the last one are its helpers
      clock_late_within interval,     -- within this time disconnections …
      clock_late_lines integer,       -- … of so many lines …
      clock_late_slack interval       -- … stale by the same amount, give or take this, show that the provider's clock is late
    );
    create type public.sighting as (
      instance_id uuid,
      external_id text,               -- as claimed, trimmed
      token_hash text,                -- as claimed
      raw_status text,                -- as claimed
      lease timestamptz,              -- as claimed: its end is the holder's token
      last_health_check timestamptz,  -- as claimed: the row is found by it
      looked_at timestamptz,          -- when the look began
      observation text,               -- null: not found out for a reason of our own
      cause text,                     -- why the look says so
      phone text,                     -- the number that the look has shown, if it is not the row's
      unknown_looks integer,
      is_finished boolean             -- false: the line is owed something and comes first next time
    );
    create type public.evidence as (
      source text,                    -- sweep | webhook
      reason text,                    -- observation or event, in lower case
      observation text,
      cause text,
      event_id bigint,                -- wapi_webhook_events.id
      run_id uuid                     -- health_check_runs.id
    );
    create type public.occasion as (
      key text,                       -- notices.occasion
      instance_id uuid,
      external_id text,
      unit text,
      company_id uuid,                -- whose users hear of it
      outage_id uuid,                 -- null: nothing proves an outage
      since timestamptz               -- since when it has been so
    );
    create type public.webhook_event as (
      event_key text,
      external_id text,
      event text,                     -- the provider's name of it
      kind text,                      -- disconnection | connection | message | ack | other
      moment timestamptz,
      phone text,
      is_life boolean,
      change jsonb,                   -- the message it brings or changes
      noise text,                     -- why a message event brings none
      body text,
      relay boolean,                  -- to be forwarded
      relay_limit integer             -- > 0: take the line's turn to forward, with so many events
    );
    create type public.settlement as (
      event_id bigint,
      token_hash text,                -- of the token that was looked with; null: nobody looked
      observation text,
      cause text,
      looked_at timestamptz
    );
    comment on type public.recovery_policy is 'The numbers of the design, from the policy in Python.';
    comment on type public.sighting is 'A claimed line and what one look found, with the preconditions of what is decided on it.';
    comment on type public.evidence is 'Why something is marked, restarted or told: it goes into the audit.';
    comment on type public.occasion is 'What a notice is about.';
    comment on type public.webhook_event is 'An event as Python has read it.';
    comment on type public.settlement is 'What one look showed about the line of an event that had to be looked into.';
  end if;
end
$$;

insert into public.recovery_migrations (version) values ('20261122100200') on conflict do nothing;
