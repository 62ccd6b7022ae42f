"""The examination: gather, check, and repair if asked to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import httpx

from ops.common.rest import KeyRefused, Rest
from ops.common.shown import counted, shown
from ops.doctor.catalog import read_catalog
from ops.doctor.checks import rivals, schema
from ops.doctor.checks.all import judge
from ops.doctor.checks.wapi_send import check_wapi_send
from ops.doctor.cloud import check_exclusions, check_services, read_exclusions, read_services
from ops.doctor.facts import Fleet
from ops.doctor.findings import Change, Finding, Report, Severity, Unchecked, unless_empty
from ops.doctor.function import FunctionView, check_function, probe
from ops.doctor.gathering import Gathering, Tables, read_tables
from ops.doctor.provider import AT_ONCE, Registry
from ops.doctor.repair import plan, planned, repair
from ops.doctor.settings import role_of
from shared.errors import LineRecoveryError
from shared.providers.exchange import pooled_http
from shared.providers.limiter import Limiter
from shared.providers.wapi.client import WapiClient
from shared.providers.wapi.send import WapiSendClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ops.doctor.facts import LineRow
    from ops.doctor.settings import DoctorSettings
    from shared.core.registration import Target

MIGRATIONS: Final = Path(__file__).resolve().parents[2] / "supabase" / "migrations"
_SERVICE_ROLE: Final = "service_role"
_NO_DATABASE_URL: Final = (
    "set DATABASE_URL to have it checked "
    "(for Supabase the session pooler's address: Connect, Session pooler, port 5432)"
)
_LOOKS_THROUGH_WAPI_SEND: Final = 3
_ONLY_IN_POSTGRES: Final = (
    "indexes (messages by message_id, the unique ones)",
    "who may read instance_token, row level security, exposed functions",
    "that Realtime publishes notifications",
    "cron jobs of a second checker",
    "moments that cannot be, in companies, members, conversations and messages",
)


class NoSuchLineError(LineRecoveryError):
    """``--company`` or ``--line`` fit nothing."""


class Bar(Protocol):
    """Shows how far a long step is."""

    def __call__(self, title: str, total: int | None) -> AbstractContextManager[Callable[[], None]]:
        """Begin a step; what it yields is called once for each line. None = nobody knows how long it takes."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator asked for.

    Attributes:
        companies: Ids or names; none = all.
        lines: Our ids, external ids or units; none = all.
        fix_webhooks: Set the URLs that are wrong.
        dry_run: Only say which.
    """

    companies: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    fix_webhooks: bool = False
    dry_run: bool = False


async def examine(
    settings: DoctorSettings, target: Target | None, wishes: Wishes, *, bar: Bar, changes: list[Change]
) -> Report:
    """Examine a project.

    Args:
        settings: Which one.
        target: Where webhooks must point to; None = nobody said, and it is not checked.
        wishes: What to look at, and whether to set webhooks.
        bar: Shows the long steps.
        changes: Where each line goes whose webhooks were set, at once: the rest may be cut off.

    Raises:
        StoreUnavailable: Supabase does not answer.
        NoSuchLineError: See there.
    """
    examination = _Examination(settings, target, wishes, bar, changes)
    await examination.run()
    changes.sort(key=lambda change: (change.line.company.casefold(), change.line.name.casefold(), change.line.id or ""))
    return Report(tuple(examination.findings), tuple(examination.unchecked), tuple(changes), dry_run=wishes.dry_run)


@dataclass(slots=True)
class _Examination:
    settings: DoctorSettings
    target: Target | None
    wishes: Wishes
    bar: Bar
    changes: list[Change]
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)

    async def run(self) -> None:
        settings = self.settings
        async with pooled_http(httpx.Timeout(None)) as http:
            rest = Rest(http, settings.supabase_url, settings.supabase_service_role_key)
            with self.bar("reading the project", None):
                if not await self._key_is_good(rest):
                    return
                await self._look_into_postgres()
                if not await self._is_migrated(rest):
                    self.unchecked.append(Unchecked("lines, sweeps and events", "apply the migrations first"))
                    return
                tables = await read_tables(rest)
                self.unchecked += tables.unchecked
                chosen = self._chosen(tables)
                view = await self._look_at_function(http, chosen)
                await self._look_at_cloud()
            fleet = await self._ask_provider(http, chosen, view, tables.names)
            await self._look_through_wapi_send(http, fleet)
        self.findings += judge(tables, fleet, self.target)

    async def _key_is_good(self, rest: Rest) -> bool:
        role = role_of(self.settings.supabase_service_role_key)
        do = "copy the service role's key (or an sb_secret_ key) from the project's API settings"
        wrong = None
        try:
            await rest.reach()
        except KeyRefused as error:
            wrong = f"Supabase answers, but refuses SUPABASE_SERVICE_ROLE_KEY ({error.code})"
        if role not in (None, _SERVICE_ROLE):
            wrong = f"SUPABASE_SERVICE_ROLE_KEY is not the service role's: its role is {shown(role, longest=20)}"
        if wrong:
            self.findings.append(Finding("key.wrong", Severity.PROBLEM, wrong, do))
            self.unchecked.append(Unchecked("everything else", "the key comes first"))
            return False
        self.findings.append(Finding("key.good", Severity.OK, "Supabase answers, and takes the key"))
        return True

    async def _look_into_postgres(self) -> None:
        address = self.settings.database_address
        if address is None:
            self.unchecked += [Unchecked(what, _NO_DATABASE_URL) for what in _ONLY_IN_POSTGRES]
            return
        self.findings += schema.check_address(is_direct=address.is_direct)
        gathering = Gathering()
        catalog = await gathering.attempt("the database itself", read_catalog(address))
        self.unchecked += gathering.unchecked
        if catalog is None:
            return
        self.findings += schema.check_catalog(catalog, _files())
        if catalog.cron_jobs is None:
            why = "the user of DATABASE_URL may not read cron.job"
            self.unchecked.append(Unchecked("cron jobs of a second checker", why))
        self.findings += rivals.check_cron_jobs(catalog.cron_jobs or ())
        self.unchecked += [
            Unchecked(f"moments in {each.table}.{each.column}", f"{each.why}; at a quiet hour: {each.shown_by}")
            for each in catalog.unread_moments
        ]

    async def _is_migrated(self, rest: Rest) -> bool:
        none: tuple[str, ...] = ()
        tables = dict.fromkeys((*schema.PLATFORM_TABLES, *schema.OUR_TABLES), none) | schema.COLUMNS
        interface = await rest.interface()
        if interface is not None:
            missing = schema.missing_of(interface, tables, schema.CALLED_FUNCTIONS)
        else:
            missing = {name for name, columns in tables.items() if await rest.lacks(name, columns)}
            self.unchecked.append(
                Unchecked("that the SQL functions are there", "the project hides its OpenAPI description")
            )
        self.findings += schema.check_interface(missing)
        if schema.HISTORY not in missing:
            self.findings += schema.check_history(await rest.words(schema.HISTORY, "version"), _files())
        return not missing

    def _chosen(self, tables: Tables) -> tuple[LineRow, ...]:
        companies, wanted = _words(self.wishes.companies), _words(self.wishes.lines)

        def names_company(line: LineRow) -> bool:
            company = tables.companies.get(line.company_id) if line.company_id else None
            return bool(companies & _words((str(line.company_id), (company and company.name) or "")))

        chosen = tuple(
            line
            for line in tables.lines
            if (not companies or names_company(line))
            and (not wanted or wanted & _words((str(line.id), line.external_id, line.unit or "")))
        )
        if not chosen and (companies or wanted):
            raise NoSuchLineError("no line fits --company and --line")
        return chosen

    async def _look_at_function(self, http: httpx.AsyncClient, chosen: Sequence[LineRow]) -> FunctionView | None:
        if self.target is None:
            return None
        # Any line's key: the function keeps no list of them.
        external_id = next((line.external_id for line in chosen if line.can_be_asked), "doctor")
        view = await probe(http, self.target, external_id)
        self.findings += check_function(view)
        return view

    async def _look_at_cloud(self) -> None:
        services = await read_services(self.settings.google_cloud_project)
        if isinstance(services, Unchecked):
            self.unchecked.append(services)
        else:
            self.findings += check_services(services, supabase_url=self.settings.supabase_url)
        filters = await read_exclusions(self.settings.google_cloud_project)
        if isinstance(filters, Unchecked):
            self.unchecked.append(filters)
        else:
            self.findings += check_exclusions(filters)

    async def _ask_provider(
        self,
        http: httpx.AsyncClient,
        chosen: Sequence[LineRow],
        view: FunctionView | None,
        companies: Mapping[str, str],
    ) -> Fleet:
        client = WapiClient(http, self.settings.wapi_base_url)
        registry = Registry(client, Limiter(AT_ONCE), self.settings.look_timeout)
        ours = tuple(line for line in chosen if line.is_ours)
        others = tuple(line for line in chosen if not line.is_ours)
        with self.bar("asking the provider", sum(line.can_be_asked for line in ours)) as step:
            fleet = Fleet(ours, await registry.ask_all(ours, asked=step), others)
        silent = sum(asked.look is None for asked in fleet.asked.values())
        if silent:
            why = "the provider answers nobody"
            self.unchecked.append(Unchecked(f"tokens and webhooks of {counted(silent, 'line')}", why, failed=True))
        if self.target is None or not self.wishes.fix_webhooks:
            return fleet
        orders = plan(fleet, self.target)
        if self.wishes.dry_run:
            self.changes += [change.of(companies) for change in planned(orders)]
            return fleet
        if orders and (view is None or not view.takes_the_first):
            what = "no webhook was set: wapi_webhook does not take the first secret of WAPI_WEBHOOK_SECRETS"
            self.findings.append(Finding("fix.refused", Severity.PROBLEM, what, "deploy it with this secret first"))
            return fleet
        with self.bar("setting webhooks", len(orders)) as step:

            def done(change: Change) -> None:
                self.changes.append(change.of(companies))
                step()

            after = await repair(orders, self.target, registry, done=done)
        self.findings += unless_empty(
            (replace(each.line, detail=each.failed) for each in self.changes if each.failed),
            check="fix.failed",
            severity=Severity.PROBLEM,
            what="webhooks could not be set at the provider",
            do="run it again; what was set stays set",
        )
        return fleet.registered(after)

    async def _look_through_wapi_send(self, http: httpx.AsyncClient, fleet: Fleet) -> None:
        url = self.settings.wapi_send_url
        if url is None:
            return
        client = WapiSendClient(http, url, self.settings.supabase_service_role_key)
        lines = [line for line in fleet.active if line.can_be_asked][:_LOOKS_THROUGH_WAPI_SEND]
        looks = [await client.look(line, within=self.settings.look_timeout) for line in lines]
        is_jwt = role_of(self.settings.supabase_service_role_key) is not None
        self.findings += check_wapi_send(looks, key_is_jwt=is_jwt)


def _files() -> dict[str, str]:
    """The migrations of this version: name by version."""
    return {file.name.partition("_")[0]: file.name for file in MIGRATIONS.glob("*.sql")}


def _words(texts: Iterable[str]) -> set[str]:
    return {text.strip().casefold() for text in texts} - {""}
