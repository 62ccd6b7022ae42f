"""What was asked of the simulator, when and how much at once; and the provider's rate limit."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from dev.simulator.faults import Answer, too_many_answer
from dev.simulator.provider import Provider

KEPT_RESTARTS = 10_000


@dataclass(slots=True)
class RestartCall:
    """One restart that was asked.

    Attributes:
        external_id: Of which line.
        via: ``provider`` or ``wapi-send``.
        started_at: Monotonic seconds of the machine, comparable between its processes.
        ended_at: The same, when it was answered or given up; None while it runs.
    """

    external_id: str
    via: str
    started_at: float
    ended_at: float | None = None


class Ledger:
    """Counts calls by (external id, call) and keeps the last restarts. Not thread-safe: one loop owns it."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._restarts: deque[RestartCall] = deque(maxlen=KEPT_RESTARTS)
        self._second: deque[float] = deque()
        self._restarts_in_flight = 0
        self._puts_in_flight = 0
        self._max_restarts_in_flight = 0
        self.in_flight = 0
        self._max_in_flight = 0
        self._rate_limited = 0
        self._come_back_at = 0.0
        self._hasty = 0

    def count(self, external_id: str, call: str) -> None:
        """Count one call."""
        self._counts[external_id, call] += 1

    def calls(self, external_id: str | None = None) -> dict[str, int]:
        """Counts by call, of one line or of all of them (also of ids that no line has)."""
        totals: Counter[str] = Counter()
        for (asked_id, call), count in self._counts.items():
            if external_id is None or asked_id == external_id:
                totals[call] += count
        return dict(totals)

    def forget_calls(self) -> None:
        """Start counting anew; what runs now is still known to run."""
        self._counts.clear()
        self._restarts.clear()
        self._max_in_flight = self.in_flight
        self._max_restarts_in_flight = self._restarts_in_flight
        self._rate_limited = 0
        self._come_back_at = 0.0
        self._hasty = 0

    def enter(self) -> None:
        """A call of the provider begins."""
        self.in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self.in_flight)

    def leave(self) -> None:
        """A call of the provider ended."""
        self.in_flight -= 1

    @contextmanager
    def put(self, provider: Provider) -> Iterator[Answer | None]:
        """Count one ``PUT`` while it runs; yields the refusal of one that comes beside too many others."""
        most = provider.max_concurrent_puts
        if most is not None and self._puts_in_flight >= most:
            self._rate_limited += 1
            yield too_many_answer(provider.retry_after_seconds if provider.tells_retry_after else None)
            return
        self._puts_in_flight += 1
        try:
            yield None
        finally:
            self._puts_in_flight -= 1

    @contextmanager
    def restart(self, external_id: str, via: str, clock: Callable[[], float]) -> Iterator[None]:
        """Record a restart from its beginning to its end."""
        record = RestartCall(external_id, via, started_at=clock())
        self._restarts.append(record)
        self._restarts_in_flight += 1
        self._max_restarts_in_flight = max(self._max_restarts_in_flight, self._restarts_in_flight)
        try:
            yield
        finally:
            record.ended_at = clock()
            self._restarts_in_flight -= 1

    def refusal(self, provider: Provider, now: float) -> Answer | None:
        """429 when this call is one too many for the provider's limits, else None and it is counted in.

        Args:
            provider: Whose limits.
            now: Monotonic seconds. The window is any one second that ends now.
        """
        self._hasty += now < self._come_back_at
        per_second = provider.max_requests_per_second
        too_many = provider.max_concurrent_requests is not None and self.in_flight > provider.max_concurrent_requests
        if per_second is not None and not too_many:
            while self._second and self._second[0] <= now - 1:
                self._second.popleft()
            too_many = len(self._second) >= per_second
            if not too_many:
                self._second.append(now)
        if not too_many:
            return None
        self._rate_limited += 1
        if not provider.tells_retry_after:
            return too_many_answer(None)
        self._come_back_at = max(self._come_back_at, now + provider.retry_after_seconds)
        return too_many_answer(provider.retry_after_seconds)

    def summary(self) -> dict[str, int]:
        """How much ran at once, how many calls the limits refused, how many came before a Retry-After had passed."""
        return {
            "in_flight": self.in_flight,
            "max_in_flight": self._max_in_flight,
            "rate_limited": self._rate_limited,
            "hasty": self._hasty,
        }

    def restarts(self) -> dict[str, object]:
        """The last restarts, oldest first, and the most that ran at once."""
        return {
            "restarts": [asdict(record) for record in self._restarts],
            "in_flight": self._restarts_in_flight,
            "max_in_flight": self._max_restarts_in_flight,
        }
