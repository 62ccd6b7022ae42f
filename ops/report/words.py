"""The page's Portuguese: durations, shares, instants, names, and what our words are called there. Pure."""

from __future__ import annotations

import math
import unicodedata
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ops.common.shown import one_line, shortened
from ops.report.figures import Condition
from ops.report.incidents import RestartResult
from ops.report.timeline import Window
from shared.core.model import Observation, OutageClosing

if TYPE_CHECKING:
    from datetime import date, datetime, tzinfo

    from ops.report.timeline import Uptime

NBSP: Final = "\u00a0"
"""A number and its unit stay on one line."""
NOTHING_KNOWN: Final = "sem dados"
_LONGEST_NAME: Final = 120
_JOINERS: Final = "\u200c\u200d"
"""Inside emoji and some scripts."""
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_SHOWS_SECONDS: Final = 10 * _MINUTE
_WORTH_SAYING: Final = 0.005

WINDOWS: Final = {Window.DAY: "24 h", Window.WEEK: "7 dias", Window.MONTH: "30 dias"}

CONDITIONS: Final = {
    Condition.DOWN: "fora do ar",
    Condition.UNSTABLE: "instável",
    Condition.UNCONFIRMED: "sem confirmação",
    Condition.UNSEEN: "ainda não verificada",
    Condition.UP: "no ar",
    Condition.PAUSED: "pausada",
}

RESULTS: Final = {
    RestartResult.RECOVERED: "resolveu",
    RestartResult.FAILED: "não resolveu",
    RestartResult.UNVERIFIED: "sem resposta conclusiva",
    RestartResult.UNTOLD: "sem resultado registrado",
}

_REASONS: Final = {
    Observation.DISCONNECTED.lower(): "o provedor diz que a linha está desconectada",
    Observation.GHOST.lower(): "o provedor diz que está conectada, mas não há celular pareado",
    Observation.NOT_FOUND.lower(): "o provedor não conhece a instância",
    Observation.REFUSED.lower(): "o provedor recusou o token da instância",
    Observation.CLAIMED.lower(): "o provedor diz que está conectada, mas nada o confirma",
    Observation.UNKNOWN.lower(): "não houve resposta do provedor",
    "disconnect_event": "o provedor avisou que a linha desconectou",
}

_ENDS: Final = {
    OutageClosing.RECOVERED: "o reinício resolveu",
    OutageClosing.ALIVE: "vista funcionando numa verificação",
    OutageClosing.EVENT: "voltou a dar sinal (evento do provedor)",
    OutageClosing.PAUSED: "linha pausada",
    OutageClosing.DELETED: "linha excluída",
}


def channel(word: str) -> str:
    """By what a contact was told."""
    return {"whatsapp": "WhatsApp", "email": "e-mail"}.get(word, "outro canal")


def reason(word: str) -> str:
    """Why an outage opened."""
    return _REASONS.get(word, "outro motivo")


def end(word: OutageClosing) -> str:
    """How an outage closed."""
    return _ENDS[word]


def name(*candidates: str | None, otherwise: str = "(sem nome)", longest: int = _LONGEST_NAME) -> str:
    """The first name that shows something, cut where it is longer than ``longest`` characters.

    Control characters, line breaks and marks that turn the direction of what follows are blanks: a name is one line
    of text and reaches no further than itself.
    """
    for candidate in candidates:
        plain = one_line(candidate or "", instead=" ", keep=_JOINERS)
        if any(unicodedata.category(character)[0] in "LNPS" for character in plain):
            return shortened(plain, longest)
    return otherwise


def duration(length: timedelta) -> str:
    """Like ``42 min``, ``2 h 5 min``, ``3 dias 4 h``; seconds only below ten minutes."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < _MINUTE:
        return f"{seconds}{NBSP}s" if seconds else f"menos de 1{NBSP}s"
    if seconds < _SHOWS_SECONDS:
        return _two(seconds, _MINUTE, "min", 1, "s")
    if seconds < _HOUR:
        return f"{seconds // _MINUTE}{NBSP}min"
    if seconds < _DAY:
        return _two(seconds, _HOUR, "h", _MINUTE, "min")
    return _two(seconds, _DAY, "dia" if seconds < 2 * _DAY else "dias", _HOUR, "h")


def _two(seconds: int, big: int, big_word: str, small: int, small_word: str) -> str:
    rest = seconds % big // small
    return f"{seconds // big}{NBSP}{big_word}" + (f"{NBSP}{rest}{NBSP}{small_word}" if rest else "")


def took(length: timedelta | None) -> str:
    """How long a sweep lasted, with tenths of a second."""
    if length is None:
        return "-"
    seconds = length.total_seconds()
    return f"{seconds:.1f}{NBSP}s".replace(".", ",") if seconds < _MINUTE else duration(length)


def number(count: int) -> str:
    """With a point between thousands."""
    return f"{count:,}".replace(",", ".")


def counted(amount: int, one: str, many: str) -> str:
    """``1 linha``, ``2.000 linhas``."""
    return f"{number(amount)} {one if amount == 1 else many}"


def percent(share: float | None) -> str:
    """Rounded down to hundredths: 100 % is said of nothing less."""
    if share is None:
        return NOTHING_KNOWN
    hundredths = math.floor(share * 10_000 + 1e-9)
    text = f"{hundredths / 100:.2f}".rstrip("0").rstrip(".") if hundredths else "0"
    return f"{text}{NBSP}%".replace(".", ",")


def rounded(share: float) -> str:
    """To whole percents; 0 % and 100 % are said of nothing else."""
    whole = round(share * 100)
    return f"{min(max(whole, 1), 99) if 0 < share < 1 else whole}{NBSP}%"


def uptime(time: Uptime) -> str:
    """The share of the known time, and how much is not known if that is worth saying."""
    if time.share is None:
        return NOTHING_KNOWN
    return percent(time.share) + (f" ({unknown(time)})" if unknown(time) else "")


def unknown(time: Uptime) -> str:
    """How much of the window nobody saw; empty below half a percent of it."""
    hidden = time.unknown_share if time.share is not None else 0
    return f"{rounded(hidden)} {NOTHING_KNOWN}" if hidden >= _WORTH_SAYING else ""


def bar(window: Window, time: Uptime) -> str:
    """A bar of hours for who does not see it."""
    parts = [f"{duration(time.up)} no ar"] if time.up else []
    parts += [f"{duration(time.down)} fora do ar"] if time.down else []
    parts += [f"{duration(time.unknown)} {NOTHING_KNOWN}"] if time.unknown else []
    return f"Últimas {WINDOWS[window]}: {', '.join(parts)}".replace("Últimas 7", "Últimos 7").replace(
        "Últimas 30", "Últimos 30"
    )


def instant(at: datetime, zone: tzinfo) -> str:
    """Day, year and minute in a zone."""
    return f"{at.astimezone(zone):%d/%m/%Y %H:%M}"


def short_instant(at: datetime, zone: tzinfo, now: datetime) -> str:
    """The same without what is obvious: the year within ten months, the day today."""
    local, today = at.astimezone(zone), now.astimezone(zone)
    if local.date() == today.date():
        return f"{local:%H:%M}"
    return f"{local:%d/%m %H:%M}" if abs(now - at) < timedelta(days=300) else f"{local:%d/%m/%Y %H:%M}"


def day(date: date) -> str:
    """Like ``qua 26/11``."""
    return f"{('seg', 'ter', 'qua', 'qui', 'sex', 'sáb', 'dom')[date.weekday()]} {date:%d/%m}"
