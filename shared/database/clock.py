"""The database's clock, followed without asking it each time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class DatabaseClock:
    """The database's last answer plus the time that the loop's clock has counted since.

    It runs late by the way its answer took, never early: a look is never dated after a fact that it did not see.
    """

    said: datetime
    loop_time: float

    @classmethod
    def heard(cls, said: datetime) -> DatabaseClock:
        """Start from an answer of the database that has just arrived."""
        return cls(said, asyncio.get_running_loop().time())

    def now(self) -> datetime:
        """The database's now."""
        return self.said + timedelta(seconds=asyncio.get_running_loop().time() - self.loop_time)
