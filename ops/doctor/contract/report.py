"""The walk as text and as JSON. Only names, kinds, numbers and moments to the minute are in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ops.common.shown import counted
from ops.doctor.contract.beliefs import NEVER_ASKED
from ops.doctor.contract.compare import Weight

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID

    from ops.doctor.contract.deliveries import LogFound
    from ops.doctor.contract.sending import PathFound, RefusedFound
    from ops.doctor.contract.walk import Answered, Walked

_VERSION: Final = 1
_MOST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Told:
    """Everything that is told.

    Attributes:
        line: Our id.
        walked: The read-only walk.
        sent: Answers to what was sent.
        path: How far the first message came; None = nothing was sent.
        refused: What became of the second.
        not_sent: Why nothing was sent, although it was asked for.
        done: What was done, and how the addresses are left.
    """

    line: UUID
    walked: Walked
    sent: tuple[Answered, ...] = ()
    path: PathFound | None = None
    refused: RefusedFound | None = None
    not_sent: str | None = None
    done: str = ""

    @property
    def answers(self) -> tuple[Answered, ...]:
        """Of both parts."""
        return (*self.walked.answers, *self.sent)

    @property
    def breaks(self) -> int:
        """How many differences touch what our code relies on."""
        return sum(each.weight is Weight.RELIED for answered in self.answers for each in answered.differences)

    @property
    def news(self) -> int:
        """How many differences are new, and no more."""
        return sum(each.weight is Weight.NEW for answered in self.answers for each in answered.differences)

    @property
    def silent(self) -> int:
        """How many calls had no answer."""
        return sum(answered.status is None for answered in self.answers)


def as_json(told: Told) -> str:
    """Everything, in ASCII."""
    walked = told.walked
    return json.dumps(
        {
            "format": _VERSION,
            "line": str(told.line),
            "plan": walked.plan,
            "at": _minute(walked.at),
            "relied_differences": told.breaks,
            "new_differences": told.news,
            "calls_without_answer": told.silent,
            "calls": [_call(answered) for answered in told.answers],
            "never_asked": NEVER_ASKED,
            "log": _log(walked.log),
            "path": None if told.path is None else _path(told.path),
            "undelivered": None if told.refused is None else asdict(told.refused),
            "not_sent": told.not_sent,
            "done": told.done or None,
        },
        indent=2,
    )


def _call(answered: Answered) -> dict[str, Any]:
    belief = answered.belief
    return {
        "call": belief.name,
        "route": f"{belief.method} {belief.path}",
        "source": belief.source,
        "status": answered.status,
        "no_answer": answered.cause,
        "media": answered.media,
        "form": answered.form,
        "took_ms": answered.took_ms,
        "asked_to_wait": answered.waited,
        "read_as": answered.read_as,
        "shape": {path: dict(kinds) for path, kinds in answered.shape.kinds.items()},
        "beyond": answered.shape.cut,
        "differences": [asdict(each) for each in answered.differences],
    }


def _path(path: PathFound) -> dict[str, Any]:
    shown = asdict(path) | {"is_proven": path.is_proven}
    del shown["message_id"]
    return shown


def _log(log: LogFound | None) -> dict[str, Any] | None:
    if log is None:
        return None
    return asdict(log) | {"oldest": _minute(log.oldest), "newest": _minute(log.newest)}


def as_text(told: Told) -> str:
    """The same for a person."""
    return "\n".join(_lines(told)) + "\n"


def _lines(told: Told) -> Iterator[str]:
    walked = told.walked
    yield f"W-API's answers for the line {told.line} (plan: {walked.plan}), {_minute(walked.at)}"
    yield "Names of keys, kinds of values, numbers: no value, token, address or phone. Read it before you share it."
    for _, alike in groupby(told.answers, key=lambda answered: answered.belief.name):
        answers = list(alike)
        fullest = max(answers, key=lambda answered: len(answered.shape.kinds))
        yield ""
        yield from (_head(answered) for answered in answers)
        yield from _of_call(fullest)
        yield from sorted({f"    {each.what} ({each.weight})" for answered in answers for each in answered.differences})
    yield ""
    yield "never asked here:"
    yield from (f"  {route}: {why}" for route, why in NEVER_ASKED.items())
    if walked.log is not None:
        yield ""
        yield from _of_log(walked.log)
    yield from _of_sending(told)
    yield ""
    yield verdict(told)


def _head(answered: Answered) -> str:
    belief = answered.belief
    what = f"{belief.name}: {belief.method} {belief.path}"
    if answered.status is None:
        return f"? {what}: no answer ({answered.cause})"
    worst = {each.weight for each in answered.differences}
    mark = "✗" if Weight.RELIED in worst else "!" if worst else "✓"
    waited = f", asked to wait {answered.waited} times" if answered.waited else ""
    return f"{mark} {what}: HTTP {answered.status}, {answered.form}, {answered.took_ms} ms{waited}"


def _of_call(answered: Answered) -> Iterator[str]:
    yield f"    for: {answered.belief.use}"
    yield f"    believed after: {answered.belief.source}"
    if answered.read_as:
        yield f"    we read: {answered.read_as}"
    shown = list(answered.shape.kinds.items())
    for path, kinds in shown[:_MOST_SHOWN]:
        times = (kind if number == 1 else f"{kind} x {number}" for kind, number in kinds.items())
        yield f"      {path}: {', '.join(times)}"
    if more := len(shown[_MOST_SHOWN:]):
        yield f"      … and {more} more paths (the JSON has them)"
    if answered.shape.cut:
        yield f"      {answered.shape.cut} values beyond what was looked at"


def _of_log(log: LogFound) -> Iterator[str]:
    yield "the provider's log of deliveries:"
    pages = ", ".join(str(number) for number in log.per_page)
    yield f"  list: {log.at or 'none'}; entries of each page: {pages} ({log.asked_per_page} asked for)"
    yield f"  page 2 {log.second_page}; order: {log.order}; totals: {_counts(log.totals)}"
    oldest, newest = (_minute(moment) or "not told" for moment in (log.oldest, log.newest))
    yield f"  of these {log.entries} entries the oldest: {oldest}, the newest: {newest}"
    yield f"  all keys in lower case: {log.lower_case}; without objects in them: {log.simple}; body: {log.body_at}"
    yield f"  events: {_counts(log.events)}; statuses: {_counts(log.statuses)}"


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in numbers.items()) or "none"


def _of_sending(told: Told) -> Iterator[str]:
    if told.not_sent:
        yield ""
        yield f"nothing was sent: {told.not_sent}"
    if told.path is not None:
        yield ""
        yield from _of_path(told.path)
    if told.refused is not None:
        yield ""
        yield from _of_refused(told.refused)
    if told.done:
        yield f"  {told.done}"


def _of_path(path: PathFound) -> Iterator[str]:
    yield f"{'✓' if path.is_proven else '✗'} a message to the line's own number:"
    if not path.sent:
        yield f"  {path.cause}"
        return
    yield f"  echo in the inbox after {_seconds(path.echo)}; ack after {_seconds(path.ack)}"
    yield f"  events: {', '.join(path.events) or 'none'}"
    yield f"  its id in them is send-text's {path.named_by or '(neither of its ids)'}"
    yield f"  wapi_messages: {path.stored or 'no row'}" + (f"; {path.cause}" if path.cause else "")


def _of_refused(refused: RefusedFound) -> Iterator[str]:
    yield "a message whose events our address refused:"
    if refused.cause:
        yield f"  nothing was learnt: {refused.cause}"
    if refused.in_log is not None:
        yield (
            "  the provider's log HOLDS what was not delivered: a replay from it can be built"
            if refused.in_log
            else "  the provider's log does not hold it: what is not delivered is lost there"
        )
    if refused.came_late:
        yield "  it was sent again by itself once the address was right"


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds} s"


def verdict(told: Told) -> str:
    """One line of it all."""
    parts = [f"{counted(told.breaks, 'difference')} in what we rely on, {counted(told.news, 'thing')} new to us"]
    if told.silent:
        parts.append(f"{counted(told.silent, 'call')} without an answer")
    if told.path is not None:
        parts.append("the whole path is proven" if told.path.is_proven else "the path is NOT proven")
    return "; ".join(parts)


def _minute(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
