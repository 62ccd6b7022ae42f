"""A POST that its receiver can verify: HMAC-SHA256 over ``timestamp.body``, an id, and five minutes to be believed.

The receiver takes ``X-Alert-Timestamp`` and the raw body, joins them with a dot, and compares ``v1=<hex>`` with
``X-Alert-Signature`` (``is_genuine`` does). ``X-Alert-Id`` is the same for every try of one message.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import httpx

from shared.core.delivery import SendAnswer, SendResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import SecretStr

    from shared.core.delivery import Post

ID: Final = "X-Alert-Id"
TIMESTAMP: Final = "X-Alert-Timestamp"
SIGNATURE: Final = "X-Alert-Signature"
WINDOW: Final = timedelta(minutes=5)
_YES: Final = range(200, 300)
_MOST_DIGITS: Final = 12


def sign(secret: SecretStr, timestamp: str, body: bytes) -> str:
    """The value of ``X-Alert-Signature``."""
    signed = timestamp.encode() + b"." + body
    return f"v1={hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()}"


def is_genuine(secret: SecretStr, headers: Mapping[str, str], body: bytes, *, now: float) -> bool:
    """Whether we have sent this, lately.

    Args:
        secret: ``OPERATOR_WEBHOOK_SECRET``.
        headers: Of the request, their names in any case that the mapping takes.
        body: As it came.
        now: Seconds since 1970.
    """
    timestamp, signature = headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, "")
    if (
        not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= _MOST_DIGITS)
        or abs(now - int(timestamp)) > WINDOW.total_seconds()
    ):
        return False
    return hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode())


class SignedWebhook:
    """An operator's own receiver.

    Args:
        http: Follows no redirects and keeps no time-outs of its own.
        url: May hold a key in its query.
        secret: Signs.
        clock: Seconds since 1970.
    """

    def __init__(
        self, http: httpx.AsyncClient, url: SecretStr, secret: SecretStr, clock: Callable[[], float] = time.time
    ) -> None:
        self._http = http
        self._url = url
        self._secret = secret
        self._clock = clock

    async def send(self, _address: SecretStr, post: Post, *, within: timedelta) -> SendAnswer:
        """Post and take any 2xx for a yes; see ``Channel``."""
        timestamp = str(int(self._clock()))
        body = json.dumps(
            {"id": post.id, "title": post.title, "text": post.text, "alerts": list(post.facts)}, ensure_ascii=False
        ).encode()
        headers = {
            "Content-Type": "application/json",
            ID: post.id,
            TIMESTAMP: timestamp,
            SIGNATURE: sign(self._secret, timestamp, body),
        }
        try:
            async with asyncio.timeout(within.total_seconds()):
                request = self._http.build_request("POST", self._url.get_secret_value(), content=body, headers=headers)
                response = await self._http.send(request, stream=True, follow_redirects=False)
                await response.aclose()  # the status is the answer; its body may have no end
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL):
            return SendAnswer(SendResult.REFUSED, "not_reached")
        except (TimeoutError, httpx.TimeoutException):
            return SendAnswer(SendResult.UNCLEAR, "timeout")
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            return SendAnswer(SendResult.UNCLEAR, type(error).__name__)
        if response.status_code in _YES:
            return SendAnswer(SendResult.SENT)
        return SendAnswer(SendResult.REFUSED, f"http_{response.status_code}")
