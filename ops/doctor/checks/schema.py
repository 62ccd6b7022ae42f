"""Findings about the database itself: migrations, indexes, rights. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ops.common.postgres import SESSION_POOLER
from ops.common.shown import counted, shown
from ops.doctor.findings import Finding, Severity, Subject, unless_empty

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ops.doctor.checks.rivals import CronJob
    from ops.doctor.moments import OddMoments, UnreadMoments

HISTORY: Final = "recovery_migrations"
OUR_TABLES: Final = (
    HISTORY,
    "instance_health",
    "restart_claims",
    "provider_state",
    "instance_registrations",
    "instance_outages",
    "instance_events",
    "notices",
    "health_check_runs",
    "wapi_webhook_events",
    "relay_turns",
    "wapi_contact_lids",
    "conversation_bookkeeping",
    "message_reactions",
)
PLATFORM_TABLES: Final = (
    "companies",
    "user_companies",
    "wapi_instances",
    "notifications",
    "wapi_conversations",
    "wapi_messages",
)
COLUMNS: Final = {
    "wapi_instances": (
        "last_health_check",
        "auto_recovery_attempts",
        "is_active",
        "status_reason",
        "provider",
    ),
    "instance_health": (
        "instance_id",
        "last_alive_at",
        "last_event_at",
        "degraded_since",
        "bad_since",
        "unknown_since",
        "unknown_looks",
        "health_lease_until",
        "last_restart_at",
        "tell_at",
    ),
    "restart_claims": ("provider", "external_id", "last_restart_at"),
    "provider_state": ("provider", "server", "braked_since"),
    "notices": ("occasion", "kind", "user_id", "state", "told_at", "notification_id", "event_id"),
    "instance_outages": ("told_as", "told_text", "answered_at"),
    "instance_events": ("run_id", "details"),
    "wapi_webhook_events": ("relay", "relayed_at", "relay_attempts"),
}
"""Of ours; a platform's table is asked for nothing that the migrations do not add."""
CALLED_FUNCTIONS: Final = (
    "begin_sweep",
    "claim_instances",
    "record_looks",
    "claim_restart",
    "apply_verdict",
    "tell_unverified",
    "draw_witnesses",
    "count_up",
    "claim_canary",
    "end_canary",
    "enter_brake",
    "find_late_clock",
    "finish_sweep",
    "purge_history",
    "retry_notices",
    "tell_what_is_due",
    "review_silence",
    "note_silences",
    "find_heard",
    "open_mutes",
    "prove_mutes",
    "repair_mutes",
    "close_mutes",
    "tell_mute",
    "claim_registrations",
    "record_registrations",
    "request_registration",
    "receive_events",
    "keep_rejected",
    "settle_events",
    "claim_relay",
    "finish_relay",
    "list_relay_backlog",
    "claim_deliveries",
    "finish_delivery",
    "raise_alert",
    "alert_line",
    "resolve_alert",
)
UNIQUE_INDEXES: Final = (
    "one_active_instance_per_external_id",
    "one_open_outage_per_instance",
    "one_notice_per_occasion_user_kind",
    "one_row_per_event",
)
_MIGRATE: Final = "apply them: deploy/migrate --dry-run, then deploy/migrate (or paste the files into the SQL editor)"


def missing_of(
    interface: Mapping[str, Any], tables: Mapping[str, tuple[str, ...]], functions: tuple[str, ...]
) -> set[str]:
    """What PostgREST's description does not show of tables with their columns, and of functions."""
    definitions, paths = interface.get("definitions") or {}, interface.get("paths") or {}
    missing = {f"{name}()" for name in functions if f"/rpc/{name}" not in paths}
    for table, columns in tables.items():
        if table not in definitions:
            missing.add(table)
            continue
        there = definitions[table].get("properties") or {}
        missing |= {f"{table}.{column}" for column in columns if column not in there}
    return missing


def check_interface(missing: Collection[str]) -> list[Finding]:
    """Whether PostgREST shows what the migrations make.

    Args:
        missing: Tables, ``table.column`` and ``function()`` that are not there.
    """
    return unless_empty(
        (Subject(name) for name in sorted(missing)),
        check="migrations.missing",
        severity=Severity.PROBLEM,
        what="migrations are missing: the database lacks what the functions need",
        do=f"{_MIGRATE}. Just applied? notify pgrst, 'reload schema'",
    ) or [Finding("migrations.there", Severity.OK, "tables, columns and functions are there")]


def check_address(*, is_direct: bool) -> list[Finding]:
    """Whether DATABASE_URL works from anywhere."""
    if not is_direct:
        return []
    what = "DATABASE_URL is Supabase's direct address, which has no IPv4: Cloud Build and many networks cannot reach it"
    return [Finding("database.direct_address", Severity.NOTE, what, SESSION_POOLER)]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What only Postgres itself can tell.

    Attributes:
        cli_versions: Of the Supabase CLI's own history; empty when there is none that can be read.
        valid_indexes: Names of usable indexes on tables of schema public.
        messages_by_id: Whether ``wapi_messages`` has a usable index that begins with ``message_id``.
        broken_indexes: What a ``create index concurrently`` left behind when it failed.
        token_readers: Roles of the browser that can read ``instance_token``.
        instance_columns: All columns of ``wapi_instances``.
        open_tables: Tables of the browser's roles without row level security.
        exposed_functions: Of ours, executable by them.
        realtime: Whether Realtime publishes ``notifications``.
        cron_jobs: That look like a checker; None = pg_cron is there, but its jobs cannot be read.
        odd_moments: Columns of the platform's tables with moments that cannot be.
        unread_moments: Those that were not looked into.
    """

    cli_versions: frozenset[str]
    valid_indexes: frozenset[str]
    messages_by_id: bool
    broken_indexes: tuple[str, ...]
    token_readers: tuple[str, ...]
    instance_columns: tuple[str, ...]
    open_tables: tuple[str, ...]
    exposed_functions: tuple[str, ...]
    realtime: bool
    cron_jobs: tuple[CronJob, ...] | None
    odd_moments: tuple[OddMoments, ...] = ()
    unread_moments: tuple[UnreadMoments, ...] = ()


def check_catalog(catalog: Catalog, migrations: Mapping[str, str]) -> list[Finding]:
    """What an operator has to do by hand in the database.

    Args:
        catalog: As read.
        migrations: This version's files: name by version.
    """
    if not catalog.instance_columns:
        return []  # an empty project: the missing migrations are said elsewhere
    findings = [*_cli_history(catalog, migrations), *_indexes(catalog), *_rights(catalog), *_moments(catalog)]
    if not catalog.realtime:
        findings.append(
            Finding(
                "realtime.off",
                Severity.WARNING,
                "Realtime does not publish notifications: bells ring only when a page is loaded",
                "alter publication supabase_realtime add table public.notifications;",
            )
        )
    if not findings:
        findings.append(Finding("database.fine", Severity.OK, "indexes, rights and Realtime are as they should"))
    return findings


def check_history(applied: Collection[str], migrations: Mapping[str, str]) -> list[Finding]:
    """Whether every file is in our own history.

    Args:
        applied: Versions in ``recovery_migrations``.
        migrations: This version's files: name by version.
    """
    return unless_empty(
        (Subject(name) for version, name in sorted(migrations.items()) if version not in applied),
        check="migrations.not_recorded",
        severity=Severity.PROBLEM,
        what="migrations of this version were never applied (recovery_migrations has no row of them)",
        do=_MIGRATE,
    )


def _cli_history(catalog: Catalog, migrations: Mapping[str, str]) -> list[Finding]:
    """A former push of ours among a platform's own versions stops the platform's next push."""
    ours = sorted(catalog.cli_versions & migrations.keys())
    if not ours or not catalog.cli_versions - migrations.keys():
        return []
    versions = ", ".join(f"'{version}'" for version in ours)
    return [
        Finding(
            "migrations.in_cli_history",
            Severity.WARNING,
            "the Supabase CLI's history holds versions of ours among the platform's, whose `supabase db push` refuses",
            f"delete from supabase_migrations.schema_migrations where version in ({versions});"  # noqa: S608 - words
            " and never `supabase migration repair` for versions of the platform",
        )
    ]


def _indexes(catalog: Catalog) -> list[Finding]:
    findings = unless_empty(
        (Subject(shown(name)) for name in catalog.broken_indexes),
        check="index.broken",
        severity=Severity.WARNING,
        what="indexes are unusable: their building was cut off",
        do="drop index concurrently public.<name>; and build it again",
    )
    findings += unless_empty(
        (Subject(name) for name in UNIQUE_INDEXES if name not in catalog.valid_indexes),
        check="index.unique_missing",
        severity=Severity.PROBLEM,
        what="unique indexes are missing: without them a line can be told twice",
        do=_MIGRATE,
    )
    if not catalog.messages_by_id:
        findings.append(
            Finding(
                "index.messages_by_id",
                Severity.WARNING,
                "wapi_messages has no index on message_id: every ack and edit reads the whole table",
                "outside of a transaction: create index concurrently messages_by_message_id"
                " on public.wapi_messages (message_id);",
            )
        )
    return findings


def _rights(catalog: Catalog) -> list[Finding]:
    findings = []
    if catalog.token_readers:
        columns = ", ".join(_identifier(name) for name in catalog.instance_columns if name != "instance_token")
        roles = ", ".join(catalog.token_readers)
        statements = (
            f"revoke select on public.wapi_instances from public, {roles};",  # noqa: S608 - words for a person
            f"grant select ({columns}) on public.wapi_instances to {roles};",
            "(first look for `select *` on it in the front end: it stops working)",
        )
        what = f"{roles} can read wapi_instances.instance_token: a member's browser can take the line's key"
        findings.append(Finding("rights.token_readable", Severity.PROBLEM, what, " ".join(statements)))
    findings += unless_empty(
        (
            Subject(name, detail=f"alter table public.{_identifier(name)} enable row level security;")
            for name in catalog.open_tables
        ),
        check="rights.rls_off",
        severity=Severity.PROBLEM,
        what="tables have no row level security: whoever holds the anon key reads other companies' rows",
        do="write the policies that the front end needs, then enable it",
    )
    findings += unless_empty(
        (Subject(name) for name in catalog.exposed_functions),
        check="rights.function_exposed",
        severity=Severity.PROBLEM,
        what="functions of ours can be called from a browser",
        do="revoke execute on function public.<name> from public, anon, authenticated;",
    )
    return findings


def _moments(catalog: Catalog) -> list[Finding]:
    return unless_empty(
        (
            Subject(f"{each.table}.{each.column}", detail=f"{counted(each.rows, 'row')}: {each.shown_by}")
            for each in catalog.odd_moments
        ),
        check="database.odd_moments",
        severity=Severity.WARNING,
        what="the platform's tables hold moments that cannot be (infinity, before Christ, after 9999, the future)",
        do="write null or the right moment there, and mend what writes them: often a screen with a browser's clock",
    )


def _identifier(name: str) -> str:
    if name.isascii() and name.islower() and name.replace("_", "").isalnum():
        return name
    return '"' + (name if name.isprintable() else shown(name)).replace('"', '""') + '"'
