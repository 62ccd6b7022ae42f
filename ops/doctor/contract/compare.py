"""What differs between an answer's shape and what is believed of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ops.doctor.contract.shape import ROOT, Shape

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from ops.doctor.contract.beliefs import Belief, Form, Kinds


class Weight(StrEnum):
    """How much a difference matters."""

    RELIED = "we rely on it"
    NEW = "new to us"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise.

    Attributes:
        weight: Whether our code reads what differs.
        what: In words that hold no value.
    """

    weight: Weight
    what: str


def differences(
    belief: Belief, *, status: int | None, form: Form | None, says_error: bool, shape: Shape, connected: bool | None
) -> list[Difference]:
    """Say what an answer has otherwise.

    Args:
        belief: Of the call.
        status: HTTP's; None = no answer, of which nothing can be said.
        form: Of the body.
        says_error: A status of success with ``"error": true``.
        shape: Of the body, empty where it is no JSON.
        connected: Whether ``status-instance`` called the line connected; None = not known.
    """
    if status is None or form is None:
        return []
    broken = Weight.NEW if belief.spared else Weight.RELIED
    if status not in belief.statuses:
        believed = " or ".join(str(int(each)) for each in belief.statuses)
        # Of another answer than the one that is believed in the keys are nobody's belief.
        return [Difference(broken, f"HTTP {status}, and not {believed}")]
    found = []
    if says_error:
        found.append(Difference(broken, 'HTTP 200 with "error": true'))
    if belief.form is not None and form is not belief.form:
        return [*found, Difference(broken, f"{form}, and not {belief.form}")]
    if says_error:
        return found
    relied = {**belief.relied, **(belief.relied_if_connected if connected else {})}
    within = belief.wrapper
    if within is not None and not relied.keys() & shape.kinds.keys() and "object" in shape.kinds.get(within, ()):
        found.append(Difference(Weight.NEW, f"it is wrapped in {within}, as we can read it"))
        shape = Shape({path.removeprefix(f"{within}."): kinds for path, kinds in shape.kinds.items() if path != within})
    found += (Difference(Weight.RELIED, what) for what in _relied(relied, shape))
    found += (Difference(Weight.NEW, what) for what in _new(relied, belief, shape))
    return found


def _relied(relied: dict[str, Kinds], shape: Shape) -> Iterator[str]:
    for name, kinds in relied.items():
        there = shape.kinds.get(name)
        if there is None:
            elsewhere = sorted(path for path in shape.kinds if path.endswith(f".{name}"))
            yield f"no {name}" + (f" where we read it; it stands at {elsewhere[0]}" if elsewhere else "")
        elif wrong := _unbelieved(there, kinds):
            yield f"{name} is {', '.join(wrong)}, and not {' or '.join(kinds)}"


def _new(relied: dict[str, Kinds], belief: Belief, shape: Shape) -> Iterator[str]:
    for path, there in shape.kinds.items():
        if path == ROOT or path in relied:
            continue
        if path not in belief.known:
            if "." not in path and "[" not in path:
                yield f"a key that nobody has told of: {path} ({', '.join(there)})"
        elif wrong := _unbelieved(there, belief.known[path]):
            yield f"{path} is {', '.join(wrong)}, and was seen as {' or '.join(belief.known[path])}"


def _unbelieved(there: Counter[str], kinds: Kinds) -> list[str]:
    return [kind for kind in there if kind not in kinds and kind.partition(":")[0] not in kinds]
