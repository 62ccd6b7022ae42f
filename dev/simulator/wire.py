"""What goes over the connection: whole answers, and the faults that are not an answer."""

import asyncio
import socket
import struct

from starlette.types import Receive, Scope, Send

from dev.simulator.faults import JSON_TYPE, Answer, Asked, Fault, answer_of

DRIP_SECONDS = 0.05
HUGE_BYTES = 10_000_000
_CHUNK = b" " * 65_536

# SO_LINGER on, zero seconds: closing sends RST instead of FIN, so that the client meets a reset
# connection and not an orderly end.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer with its true length."""
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def client_left(receive: Receive, seconds: float | None = None) -> bool:
    """Wait until the client goes, or for so many seconds; say whether it went.

    A hang that watches its client costs nothing once the client gave up.
    """

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(leave(), seconds)
    except TimeoutError:
        return False
    return True


async def play_fault(fault: Fault, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
    """Play a fault to its end. ``timeout`` is not played here: after its wait comes the right answer."""
    match fault:
        case Fault.HANG:
            await client_left(receive)
        case Fault.RESET:
            await _reset(scope, receive)
        case Fault.DRIP:
            await _drip(receive, send)
        case Fault.HUGE:
            await _send_huge(asked.external_id, send)
        case _:
            await send_answer(send, answer_of(fault, asked))


async def _reset(scope: Scope, receive: Receive) -> None:
    transport = scope.get("state", {}).get("transport")
    if transport is None:
        # Another server than ours: the client at least sees a connection without an answer.
        raise ConnectionResetError("the fault 'reset' was asked for")
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
    await client_left(receive)


async def _drip(receive: Receive, send: Send) -> None:
    """Drip white space, which is the beginning of any JSON; no length is announced."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", JSON_TYPE)]})
    while True:
        await send({"type": "http.response.body", "body": b" ", "more_body": True})
        if await client_left(receive, DRIP_SECONDS):
            return


async def _send_huge(external_id: str, send: Send) -> None:
    """10 MB of white space, then JSON that says connected; no length is announced to be warned by."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", JSON_TYPE)]})
    for _ in range(HUGE_BYTES // len(_CHUNK) + 1):
        await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
    end = b'{"instanceId":"' + external_id.encode() + b'","connected":true}'
    await send({"type": "http.response.body", "body": end})
