"""The figures in the page's order and words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from ops.common.restarts import FREQUENT, next_restart_at
from ops.report import words
from ops.report.figures import CompanyFigures, Condition, Figures, LineFigures, OpenOutage, condition_of
from ops.report.logbook import Said, Told
from ops.report.timeline import LOOK_GAP, Window

if TYPE_CHECKING:
    from collections import Counter
    from datetime import datetime
    from uuid import UUID

    from ops.report.incidents import Restart
    from ops.report.rows import Delivery, Outage

OPEN_COMPANIES_UP_TO: Final = 60
"""With more lines than this every company begins folded; with fewer, those in which nothing is wrong."""
_FEW: Final = 3
"""So many lines in good order are not worth a fold of their own."""
MOST_RESTARTED: Final = 5
_LONGEST_ID: Final = 40
"""Twice the provider's own."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the summary."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class OutageView:
    """An open outage as a card."""

    outage: Outage
    name: str
    company: str
    identity: tuple[str, ...]
    condition: Condition
    lasted: timedelta
    tried: tuple[Restart, ...]
    told: int | None
    to_do: str
    deliveries: tuple[tuple[Delivery, str], ...]

    @property
    def anchor(self) -> str:
        """Where its line stands on the page."""
        return _anchor(self.outage.instance_id)

    @property
    def is_unstable(self) -> bool:
        """Not given up yet."""
        return self.condition is Condition.UNSTABLE


@dataclass(frozen=True, slots=True)
class LineView:
    """A line of a company."""

    figures: LineFigures
    name: str
    company: str
    identity: tuple[str, ...]
    life: datetime | None

    @property
    def anchor(self) -> str:
        """Its place on the page, for links."""
        return _anchor(self.figures.line.id)


@dataclass(frozen=True, slots=True)
class CompanyView:
    """A company with its lines."""

    name: str
    shown: tuple[LineView, ...]
    folded: tuple[LineView, ...]
    uptimes: str
    conditions: Counter[Condition]
    is_open: bool

    @property
    def number(self) -> int:
        """Of its lines."""
        return len(self.shown) + len(self.folded)


def verdict(figures: Figures) -> Said:
    """The page in one sentence."""
    have = figures.conditions
    watched = have.total() - have[Condition.PAUSED]
    if have[Condition.DOWN]:
        return Said(words.counted(have[Condition.DOWN], "linha fora do ar", "linhas fora do ar"), "is-down")
    if have[Condition.UNSTABLE]:
        return Said(words.counted(have[Condition.UNSTABLE], "linha instável", "linhas instáveis"), "is-warn")
    if figures.mute:
        return Said(
            words.counted(figures.mute, "linha sem receber mensagens", "linhas sem receber mensagens"), "is-warn"
        )
    unsure = have[Condition.UNCONFIRMED] + have[Condition.UNSEEN]
    if unsure:
        return Said(words.counted(unsure, "linha sem confirmação", "linhas sem confirmação"), "is-warn")
    return Said("Todas as linhas no ar", "is-up") if watched else Said("Nenhuma linha em vigilância", "is-warn")


def banners(figures: Figures, *, instant: Told) -> list[Said]:
    """What must be known before anything else is read: nobody looks, or the brake is on."""
    said = []
    finished = [run for run in figures.history.runs if run.finished_at]
    last = finished[-1].started_at if finished else None
    if last is None:
        said.append(Said("Ninguém está olhando as linhas: nenhuma verificação terminou em 30 dias.", "is-down"))
    elif figures.now - last > LOOK_GAP:
        since = f"a última verificação que terminou começou em {instant(last)}, há {words.duration(figures.now - last)}"
        said.append(Said(f"Ninguém está olhando as linhas: {since}.", "is-down"))
    if figures.brakes and figures.brakes[0].is_on:
        since = instant(figures.brakes[0].span.start)
        said.append(
            Said(f"O freio está ligado desde {since}: muitas linhas parecem fora do ar ao mesmo tempo.", "is-warn")
        )
    return said


def tiles(figures: Figures, *, short: Told) -> list[Tile]:
    """The summary."""
    day, month = figures.periods[Window.DAY], figures.periods[Window.MONTH]
    shares = [
        Tile(
            f"No ar, {words.WINDOWS[window]}",
            words.percent(period.uptime.share),
            words.unknown(period.uptime) or words.counted(period.outages, "queda", "quedas"),
        )
        for window, period in figures.periods.items()
    ]
    last = figures.latest_runs[0] if figures.latest_runs else None
    detect, repair = month.detect, month.repair
    helped = f"{words.rounded(month.helped / month.requested)} resolveram" if month.requested else ""
    mute = [line.mute for company in figures.companies for line in company.lines if line.mute[1]]
    without = sum((length for length, _ in mute), timedelta(0))
    return [
        *shares,
        *(
            [Tile("Sem receber, 30 dias", words.duration(without), words.counted(len(mute), "linha", "linhas"))]
            if mute
            else []
        ),
        Tile("Até perceber, no máximo", words.duration(detect.mean) if detect else "-", "média, 30 dias"),
        Tile("Até voltar", words.duration(repair.mean) if repair else "-", "média, 30 dias"),
        Tile("Reinícios, 30 dias", words.number(month.requested), helped),
        Tile("Quedas, 24 h", words.number(day.outages), f"{words.number(month.outages)} em 30 dias"),
        Tile(
            "Última verificação",
            short(last.started_at) if last else "-",
            f"há {words.duration(figures.now - last.started_at)}" if last else "nenhuma em 30 dias",
        ),
    ]


def flapping(figures: Figures) -> list[LineView]:
    """The lines that go down and come back, those that did so most often first."""
    lines = [(line, company) for company in figures.companies for line in company.lines if line.is_flapping]
    lines.sort(key=lambda pair: -pair[0].lately)
    return [_line(line, words.name(company.name, otherwise="(empresa sem nome)")) for line, company in lines]


def outages(figures: Figures, *, short: Told) -> list[OutageView]:
    """The open ones, newest first."""
    return [_outage(each, figures.now, short) for each in figures.open_outages]


def what_to_do(each: OpenOutage, now: datetime, *, short: Told) -> str:
    """What the reader of an open outage should do."""
    line, outage = each.line, each.outage
    if outage.is_refusal:
        return "Fale com o suporte: o token da instância precisa ser conferido. Reiniciar não resolve."
    if outage.is_unknown_there:
        return "Fale com o suporte: a instância não existe mais no provedor. Reiniciar não resolve."
    at = next_restart_at(outage.restarts, line.last_restart_at if line else None)
    when = "vem na próxima verificação" if at is None or at <= now else f"vem a partir de {short(at)}"
    if outage.restarts >= FREQUENT:
        return f"Escaneie o QR Code em Configurações. Os {FREQUENT} reinícios seguidos se esgotaram; o próximo {when}."
    if line is not None and condition_of(line, outage, now=now) is Condition.UNSTABLE:
        return f"Aguarde alguns minutos: o próximo reinício {when}."
    return f"Escaneie o QR Code em Configurações. O próximo reinício automático {when}."


def _anchor(line: UUID) -> str:
    return f"l{line.hex}"


def _outage(each: OpenOutage, now: datetime, short: Told) -> OutageView:
    line, outage = each.line, each.outage
    return OutageView(
        outage=outage,
        name=words.name(line.unit if line else None, outage.unit, outage.external_id),
        company=words.name(each.company, otherwise="(empresa sem nome)"),
        identity=_identity(line.external_id if line else outage.external_id, line.phone_number if line else None),
        condition=condition_of(line, outage, now=now) if line else Condition.DOWN,
        lasted=each.lasted,
        tried=each.tried,
        told=each.told,
        to_do=what_to_do(each, now, short=short),
        deliveries=each.deliveries,
    )


def _identity(external_id: str | None, last_four: str | None) -> tuple[str, ...]:
    name = words.name(external_id, otherwise="sem identificador", longest=_LONGEST_ID)
    return (name, f"tel. final {last_four}") if last_four else (name,)


def companies(figures: Figures) -> list[CompanyView]:
    """Every company with its lines, in the order of the figures."""
    unfold = figures.conditions.total() <= OPEN_COMPANIES_UP_TO
    return [_company(each, unfold) for each in figures.companies]


def _company(each: CompanyFigures, unfold: bool) -> CompanyView:
    name = words.name(each.name, otherwise="(empresa sem nome)")
    shares = (f"{words.percent(time.share)} em {words.WINDOWS[window]}" for window, time in each.uptimes.items())
    needy = [line for line in each.lines if line.needs_a_look]
    well = [line for line in each.lines if not line.needs_a_look]
    if not needy or len(well) <= _FEW:
        needy, well = list(each.lines), []
    return CompanyView(
        name=name,
        shown=tuple(_line(line, name) for line in needy),
        folded=tuple(_line(line, name) for line in well),
        uptimes=" · ".join(shares),
        conditions=each.conditions,
        is_open=unfold and any(line.needs_a_look for line in each.lines),
    )


def _line(each: LineFigures, company: str) -> LineView:
    return LineView(
        figures=each,
        name=words.name(each.line.unit, each.line.external_id),
        company=company,
        identity=_identity(each.line.external_id, each.line.phone_number),
        life=each.line.proven_until,
    )


def most_restarted(figures: Figures) -> list[LineView]:
    """The lines with the most restarts, at least two each."""
    lines = [(line, company) for company in figures.companies for line in company.lines if line.restarts > 1]
    worst = nlargest(MOST_RESTARTED, lines, key=lambda each: each[0].restarts)
    return [_line(line, words.name(company.name, otherwise="(empresa sem nome)")) for line, company in worst]


def not_read(figures: Figures, *, instant: Told) -> list[str]:
    """What the bounds of the reading left out."""
    history, begin = figures.history, figures.now - Window.MONTH.length
    said = []
    if history.lines_left:
        said.append(f"Há mais linhas; {words.counted(len(history.lines), 'foi lida', 'foram lidas')}.")
    if history.outages_since > begin:
        said.append(f"Quedas encerradas só desde {instant(history.outages_since)}; o tempo antes é “sem dados”.")
    if history.events_since > begin:
        said.append(f"Reinícios só desde {instant(history.events_since)}.")
    if history.runs_since > begin:
        said.append(f"Verificações só desde {instant(history.runs_since)}; o tempo antes é “sem dados”.")
    return said
