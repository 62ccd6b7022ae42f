"""A running simulator, in a thread of this process, and what can be told and asked of it."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
from pydantic import JsonValue

from dev.processes import LOOPBACK
from dev.serving import AbortableProtocol, ThreadServer, config_of
from dev.simulator.app import WAPI_SEND_PATH, SimulatorApp
from dev.simulator.provider import DEFAULT_WAPI_SEND_KEY, Provider

CONTROL_TIMEOUT_SECONDS = 30


class Addresses:
    """Where a simulator answers.

    Attributes:
        url: Its base.
        wapi_url: The base of the provider's calls.
        wapi_send_url: The edge function.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.wapi_url = f"{self.url}/v1"
        self.wapi_send_url = f"{self.url}{WAPI_SEND_PATH}"


class Simulator(Addresses):
    """A running simulator in a thread of this process. Its methods are safe from any thread.

    They ask the control side over HTTP and wait for it; from a coroutine whose loop also serves the
    webhook receiver, call ``emit`` and ``scan_qr`` in a thread.

    Raises:
        ValueError: From every method that tells something: what is wrong with what was told.
    """

    def __init__(self, app: SimulatorApp, port: int) -> None:
        self._server = ThreadServer(config_of(app, http=AbortableProtocol), "the simulator", port)
        super().__init__(self._server.port)
        self._server.start()
        self._client = httpx.Client(base_url=f"{self.url}/_sim", timeout=CONTROL_TIMEOUT_SECONDS, trust_env=False)

    @classmethod
    def start(
        cls,
        *,
        latency_ms: float = 0,
        wapi_send_key: str = DEFAULT_WAPI_SEND_KEY,
        webhook_url: str | None = None,
        port: int = 0,
    ) -> Self:
        """Serve in a thread until :meth:`stop` or the end of the ``with`` block.

        Args:
            latency_ms: Milliseconds before any answer.
            wapi_send_key: The key that callers of ``wapi-send`` must bear.
            webhook_url: Where events go for a line without URLs of its own.
            port: 0 takes a free one.
        """
        provider = Provider(latency_ms=latency_ms, wapi_send_key=wapi_send_key, webhook_url=webhook_url)
        return cls(SimulatorApp(provider), port)

    def stop(self) -> None:
        """Stop serving; what hangs is cut off. Once more is no harm."""
        self._client.close()
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_lines(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Create lines from the fields of :class:`~dev.simulator.lines.Line`; the same id replaces."""
        self._ask("POST", "/lines", [dict(line) for line in lines])

    def line(self, external_id: str) -> dict[str, JsonValue]:
        """A line as it is now, with the counts of its calls."""
        return self._ask_object("GET", self._path(external_id))

    def lines(self) -> list[JsonValue]:
        """All lines, as ``line`` shows one."""
        kept = self._ask("GET", "/lines")
        return kept if isinstance(kept, list) else []

    def set_line(self, external_id: str, **behaviour: object) -> dict[str, JsonValue]:
        """Tell some fields of a line anew; answer the line."""
        return self._ask_object("PATCH", self._path(external_id), behaviour)

    def set_lines(self, external_ids: Iterable[str], **behaviour: object) -> None:
        """Tell some fields of many lines anew, all of them or none."""
        self._ask("PATCH", "/lines", {"external_ids": list(external_ids), "behaviour": behaviour})

    def set_provider(self, **behaviour: object) -> dict[str, JsonValue]:
        """Tell some fields of :class:`~dev.simulator.provider.Provider` anew; answer all of them."""
        return self._ask_object("PATCH", "/provider", behaviour)

    def scan_qr(self, external_id: str) -> dict[str, JsonValue]:
        """A person reconnects the line; answer what became of its webhookConnected."""
        return self._ask_object("POST", f"{self._path(external_id)}/scan-qr")

    def emit(self, external_id: str, kind: str | None = None, **order: object) -> dict[str, JsonValue]:
        """Post an event to the line's webhook, without a change of the line.

        Args:
            external_id: Whose event.
            kind: One of :class:`~dev.simulator.events.EventKind`, or None when ``order`` tells the event.
            order: ``fields`` told otherwise for a ``kind``; or ``event`` (any JSON); or ``raw`` (any
                text); with any of them ``url``.

        Returns:
            The :class:`~dev.simulator.webhooks.Delivery`: ``status`` and ``body`` of the receiver, or ``error``.
        """
        told = order if kind is None else {"kind": kind, **order}
        return self._ask_object("POST", f"{self._path(external_id)}/emit", told)

    def calls(self, external_id: str | None = None) -> dict[str, int]:
        """Counts by call name, of one line or of all; ``wapi-send`` as ``wapi-send:<action>``."""
        query = "" if external_id is None else f"?externalId={quote(external_id, safe='')}"
        counts = self._ask_object("GET", f"/calls{query}")
        return {call: count for call, count in counts.items() if isinstance(count, int)}

    def forget_calls(self) -> None:
        """Count anew from zero."""
        self._ask("DELETE", "/calls")

    def restarts(self) -> dict[str, JsonValue]:
        """The last ``restarts`` (monotonic seconds), and ``max_in_flight`` of them at once."""
        return self._ask_object("GET", "/restarts")

    def deliveries(self, external_id: str | None = None) -> list[JsonValue]:
        """The last webhook deliveries, oldest first, of one line or of all."""
        query = "" if external_id is None else f"?externalId={quote(external_id, safe='')}"
        kept = self._ask("GET", f"/deliveries{query}")
        return kept if isinstance(kept, list) else []

    def summary(self) -> dict[str, JsonValue]:
        """How many ``lines``; calls ``in_flight``, ``max_in_flight``, ``rate_limited`` and ``hasty``."""
        return self._ask_object("GET", "/summary")

    def redirects_followed(self) -> dict[str, JsonValue]:
        """How many ``hits`` the target of the fault ``redirect`` had, and how many ``with_authorization``."""
        return self._ask_object("GET", "/elsewhere?count=no")

    def reset(self) -> None:
        """Back to how it was started: no lines, first settings, nothing counted."""
        self._ask("POST", "/reset")

    @staticmethod
    def _path(external_id: str) -> str:
        return f"/lines/{quote(external_id, safe='')}"

    def _ask(self, method: str, path: str, content: object = None) -> JsonValue:
        answer = self._client.request(method, path, json=content)
        told: JsonValue = answer.json()
        if answer.is_error:
            raise ValueError(told["error"] if isinstance(told, dict) else told)
        return told

    def _ask_object(self, method: str, path: str, content: object = None) -> dict[str, JsonValue]:
        told = self._ask(method, path, content)
        return told if isinstance(told, dict) else {}
