"""The sweeps as rows of the page's tables, in its words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ops.report import words
from ops.report.sweeps import is_cut_off
from shared.core.model import Observation
from shared.sweep.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.report.figures import Figures
    from ops.report.rows import Run
    from ops.report.sweeps import Day

Told = Callable[[datetime], str]

FIRST_DAYS: Final = 7

_SEEN: Final[Mapping[str, tuple[str, str]]] = {
    Observation.ALIVE: ("funcionando", "funcionando"),
    Observation.CLAIMED: ("conectada, sem confirmação", "conectadas, sem confirmação"),
    Observation.DISCONNECTED: ("desconectada", "desconectadas"),
    Observation.GHOST: ("conectada só no painel", "conectadas só no painel"),
    Observation.NOT_FOUND: ("não encontrada", "não encontradas"),
    Observation.REFUSED: ("com token recusado", "com token recusado"),
    Observation.UNKNOWN: ("sem resposta", "sem resposta"),
}
_DONE: Final[Mapping[str, tuple[str, str]]] = {
    Outcome.RESTARTED: ("reinício", "reinícios"),
    Outcome.RECOVERED: ("resolveu", "resolveram"),
    Outcome.FAILED: ("não resolveu", "não resolveram"),
    Outcome.UNVERIFIED: ("inconclusivo", "inconclusivos"),
    Outcome.SKIPPED: ("reinício adiado", "reinícios adiados"),
    Outcome.RESTORED: ("voltou sozinha", "voltaram sozinhas"),
    Outcome.DISCONNECTED: ("marcada fora do ar", "marcadas fora do ar"),
    Outcome.HELD: ("retida pelo freio", "retidas pelo freio"),
    Outcome.NOTIFIED: ("notificação", "notificações"),
    Outcome.ERRORS: ("erro", "erros"),
}


@dataclass(frozen=True, slots=True)
class Said:
    """A text and the tone it is said in (a class of the page)."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """A sweep, or a day of them."""

    when: str
    notes: tuple[Said, ...]
    seen: str
    done: str
    took: str
    left: int


def run_tables(figures: Figures, *, short: Told) -> list[tuple[str, list[RunRow]]]:
    """The last sweeps, and the sweeps by day; what is beyond the first two tables is folded."""
    return [
        ("Últimas verificações", [_run(each, figures.now, short) for each in figures.latest_runs]),
        ("Por dia", [_day(each) for each in figures.days[:FIRST_DAYS]]),
        ("Dias anteriores", [_day(each) for each in figures.days[FIRST_DAYS:]]),
    ]


def _run(run: Run, now: datetime, short: Told) -> RunRow:
    notes = [Said("freio", "down")] if run.braked else []
    if is_cut_off(run, now=now):
        notes.append(Said("interrompida", "down"))
    elif not run.finished_at:
        notes.append(Said("em andamento", "paused"))
    return RunRow(
        when=short(run.started_at),
        notes=tuple(notes),
        seen=_seen(run.observations) if run.checked else "nada na vez" if run.finished_at else "-",
        done=_done(run.outcomes),
        took=words.took(run.took),
        left=run.left_due,
    )


def _day(day: Day) -> RunRow:
    notes = [Said(f"{words.number(day.braked)} com freio", "down")] if day.braked else []
    if day.cut_off:
        notes.append(Said(words.counted(day.cut_off, "interrompida", "interrompidas"), "down"))
    sweeps = words.counted(day.sweeps, "verificação", "verificações")
    seen = _seen(day.observations)
    took = f"média {words.took(day.mean_took)}, máx. {words.took(day.longest_took)}" if day.mean_took else "-"
    return RunRow(
        when=words.day(day.date),
        notes=tuple(notes),
        seen=f"{sweeps}: {seen}" if seen else sweeps,
        done=_done(day.outcomes),
        took=took,
        left=day.most_left,
    )


def _seen(observations: Mapping[str, int]) -> str:
    return _sentence(observations, _SEEN)


def _done(outcomes: Mapping[str, int]) -> str:
    return _sentence(outcomes, _DONE)


def _sentence(counts: Mapping[str, int], texts: Mapping[str, tuple[str, str]]) -> str:
    """What there was of each, in our order; a word of another version is shown as it is."""
    known = [words.counted(counts[word], *text) for word, text in texts.items() if counts.get(word)]
    other = [f"{words.number(many)} {words.name(word)}" for word, many in counts.items() if many and word not in texts]
    return ", ".join(known + other)
