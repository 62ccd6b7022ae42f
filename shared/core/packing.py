"""Packed bodies: gzip and deflate, as they come over HTTP, unpacked within a bound. Pure."""

from __future__ import annotations

import zlib
from typing import Final

GZIP: Final = b"\x1f\x8b"
"""What a gzip body begins with."""
_MOST_PARTS: Final = 100
"""A megabyte may be half a million empty ones, each of which takes a few microseconds."""


class PackingError(Exception):
    """A body that is not unpacked.

    Args:
        reason: Why, without quoting it.
        is_too_long: It is longer than the limit.
    """

    def __init__(self, reason: str, *, is_too_long: bool = False) -> None:
        self.reason = reason
        self.is_too_long = is_too_long
        super().__init__(reason)


def unpack(packed: bytes, limit: int, *, may_be_bare: bool) -> bytes:
    """A body of gzip or deflate, one part or several, as it was before.

    Args:
        packed: As it came.
        limit: In bytes, of what it was.
        may_be_bare: It is called deflate, which some send without a head.

    Raises:
        PackingError: It cannot be unpacked, or is longer than ``limit``.
    """
    found = bytearray()
    parts = 0
    try:
        while packed:
            parts += 1
            if parts > _MOST_PARTS:
                raise PackingError("the packed body has too many parts")
            # 47: gzip and zlib by their heads; -15: deflate as some send it, without one.
            is_bare = may_be_bare and packed[0] & 15 != zlib.DEFLATED and not packed.startswith(GZIP)
            unpacker = zlib.decompressobj(-15 if is_bare else 47)
            found += unpacker.decompress(packed, limit + 1 - len(found))
            if len(found) > limit:
                raise PackingError(f"the body is longer than {limit} bytes", is_too_long=True)
            if not unpacker.eof:
                raise PackingError("the packed body is cut off")
            packed = unpacker.unused_data
    except zlib.error:
        raise PackingError("the body cannot be unpacked") from None
    return bytes(found)
