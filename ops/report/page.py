"""The figures as one HTML file: nothing from anywhere else, every name escaped, and whole without its small script."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ops.report import bars, logbook, views, words
from ops.report.incidents import RestartResult
from ops.report.timeline import Hour, Window

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from jinja2 import Template

    from ops.report.figures import Figures

FIRST_OUTAGES: Final = 4
LATEST_BRAKES: Final = 20
_HERE: Final = Path(__file__).parent

_LEGEND: Final = (
    (Hour.UP.value, "no ar"),
    (Hour.PARTLY.value, "fora do ar por menos de meia hora"),
    (Hour.DOWN.value, "fora do ar"),
    (Hour.UNKNOWN.value, words.NOTHING_KNOWN),
)
_TONES: Final = {
    RestartResult.RECOVERED: "good",
    RestartResult.FAILED: "bad",
    RestartResult.UNVERIFIED: "so-so",
    RestartResult.UNTOLD: "mute",
}


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "duration": words.duration,
        "percent": words.percent,
        "rounded": words.rounded,
        "unknown": words.unknown,
        "number": words.number,
        "counted": words.counted,
        "reason": words.reason,
        "channel": words.channel,
        "end": words.end,
        "bar": words.bar,
        "shapes": bars.shapes,
        "ticks": bars.ticks,
        "one": bars.one,
    }
    return environment.get_template("page.html.j2")


def _hash_of(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def render(figures: Figures, *, zone: tzinfo, scope: str | None = None, reload_seconds: int | None = None) -> str:
    """Write the page.

    Args:
        figures: What it shows.
        zone: Whose clock it shows.
        scope: The company that it is about; None = all.
        reload_seconds: After so long a browser loads it anew, because somebody writes it anew; None = never.
    """

    def short(at: datetime) -> str:
        return words.short_instant(at, zone, figures.now)

    def instant(at: datetime) -> str:
        return words.instant(at, zone)

    style = (_HERE / "page.css").read_text("utf-8")
    script = (_HERE / "page.js").read_text("utf-8")
    return _template().render(
        figures=figures,
        short=short,
        instant=instant,
        scope=words.name(scope) if scope is not None else None,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=_hash_of(style),
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=_hash_of(script),
        reload_seconds=reload_seconds,
        anchors={f"l{line.id.hex}" for line in figures.history.lines},
        flapping=views.flapping(figures),
        windows=words.WINDOWS,
        conditions=words.CONDITIONS,
        results=words.RESULTS,
        result=RestartResult,
        tones=_TONES,
        legend=_LEGEND,
        verdict=views.verdict(figures),
        banners=views.banners(figures, instant=instant),
        tiles=views.tiles(figures, short=short),
        outages=views.outages(figures, short=short),
        companies=views.companies(figures),
        most_restarted=views.most_restarted(figures),
        spreads={
            measure: {window: getattr(figures.periods[window], measure) for window in Window}
            for measure in ("detect", "tell", "repair")
        },
        run_tables=logbook.run_tables(figures, short=short),
        not_read=views.not_read(figures, instant=instant),
        first_outages=FIRST_OUTAGES,
        latest_brakes=LATEST_BRAKES,
    )
