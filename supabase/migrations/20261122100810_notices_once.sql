-- Purpose: at most one notice per outage, user and type. Everybody else's rows have no outage and are not in the index.
-- Touches: notifications.
--
-- The one index on a platform's table that may be big. It is empty, but the table is read once to know that (0.2 s a
-- million notices in memory), in a transaction of its own: meanwhile the bell can be read and nobody can ring it. If that
-- takes longer than 10 s nothing is done; then build this very index by hand, concurrently, and apply the file again.

set local lock_timeout = '5s';
set local statement_timeout = '10s';

create unique index if not exists one_notice_per_outage_user_type
  on public.notifications (outage_id, user_id, type)
  where outage_id is not null;
