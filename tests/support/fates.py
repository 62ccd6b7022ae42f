"""What can happen in a random history: fates of lines, events, meddling, places in a sweep. Only words and strategies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from wire import When

DEAD = ("disconnected", "ghost", "ghost_401", "not_found")
REFUSED = ("token_refused", "token_refused_403")
# Answers that say nothing about a line. 429 is missing: it leaves a line to the next sweep, which has its own tests. So is
# a hang, which our code tells from an error by the clock alone: looks would have to be too short for a busy machine.
BLIND = (
    "500", "502_html", "503", "504_html", "400", "408", "404_html_cannot_get", "401_html", "200_html", "200_empty",
    "200_error_true", "connected_string", "connected_null", "truncated_json", "json_array", "redirect", "reset",
)  # fmt: skip
RESTARTS = (
    {"restart": "works"}, {"restart": "works"}, {"restart": "refused"}, {"restart": "refused_400"},
    {"restart": "accepted_no_effect"}, {"restart": "accepted_no_effect"},
    {"restart": "comes_back_after_seconds", "comes_back_after_seconds": 0.01},
    {"restart": "comes_back_after_seconds", "comes_back_after_seconds": 5},
    {"restart": "empty_200"}, {"restart": "non_json_200", "restart_takes_effect": False},
    {"restart": "http_500"}, {"restart": "http_500", "restart_takes_effect": True},
)  # fmt: skip
RAW_STATUSES = ("connected", "disconnected", "unauthorized", "instance_not_found", None, "qr", "pairing")
ODD_MOMENTS = ("infinity", "-infinity", "0044-03-15 BC", "12026-01-01", "2999-01-01")

which = st.integers(0, 8)
some = st.one_of(which.map(lambda one: {one}), st.sets(which, max_size=8), st.just(set(range(9))))
minutes = st.sampled_from([1, 5, 5, 5, 11, 31, 31, 61, 121, 1500])
sides = st.sampled_from(When)
steps = st.tuples(st.integers(0, 24), st.just(""))
risky = st.tuples(
    st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([
        "rpc/claim_restart", "/restart", "/restart", "rpc/apply_verdict", "rpc/apply_verdict", "rpc/claim_instances",
        "rpc/record_looks", "status-instance",
    ]),
)  # fmt: skip
places = st.one_of(risky, risky, steps)


@dataclass(frozen=True)
class Fate:
    """What befalls lines at the provider; None leaves as it was."""

    who: set[int]
    session: str | None
    restart: dict[str, Any] | None
    fault: str | None
    device: str | None


fates = st.lists(
    st.builds(
        Fate,
        who=some,
        session=st.sampled_from([None, "alive", "alive", "disconnected", "disconnected", *DEAD, *REFUSED]),
        restart=st.sampled_from([None, *RESTARTS]),
        fault=st.one_of(st.sampled_from([None, "", ""]), st.sampled_from(BLIND)),
        device=st.sampled_from(["", "", "", "500", "404_html_cannot_get"]),
    ),
    max_size=2,
)


@dataclass(frozen=True)
class Said:
    """An event to be posted: about the ``line``-th line, its moment ``ago`` seconds back, None without one."""

    kind: str
    line: int
    ago: int | None
    phone: str
    message: int

    @property
    def is_fresh_life(self) -> bool:
        return self.kind in ("connected", "received", "read") and self.ago == 0 and self.phone != "none"


said = st.builds(
    Said,
    kind=st.sampled_from(
        ["disconnected"] * 4 + ["connected"] * 3 + ["received", "read", "echo", "presence", "story", "nonsense"]
    ),
    line=which,
    ago=st.sampled_from([0, 0, 0, 0, 5, 30, 120, 600, 7200, -120, -900, None]),
    phone=st.sampled_from(["own", "own", "own", "own", "none", "other"]),
    message=st.integers(1, 4),
)

meddling = st.sampled_from(
    ["life"] * 3
    + ["disconnection", "scan", "pause", "delete", "status", "leave", "join", "move", "die", "sweep", "moment", "token"]
)
