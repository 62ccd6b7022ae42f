"""Our errors, as a tree by what the caller does next.

LineRecoveryError
├── SettingsError        a human must correct the environment; the function does not start
├── StoreError
│   ├── StoreUnavailable try again: answer 503 and let the caller come back
│   └── StoreRefused     a bug or a wrong key: log it, answer 500
├── EventRejected        the sender's fault: answer ``status`` (400 or 413)
└── UndeliveredUnreadable  an operator's file or key is not what a replay needs

A provider that does not answer is no error: it is the observation UNKNOWN.
"""

from __future__ import annotations


class LineRecoveryError(Exception):
    """Base of everything raised on purpose. Its text never holds a secret, a phone number or a message."""


class SettingsError(LineRecoveryError):
    """The environment lacks something or holds something unusable; the text names each variable."""


class StoreError(LineRecoveryError):
    """The database did not do what was asked.

    Args:
        operation: The SQL function that was called.
        code: SQLSTATE, PostgREST code, HTTP status or the name of the transport's error.
    """

    def __init__(self, operation: str, code: str) -> None:
        self.operation = operation
        self.code = code
        super().__init__(f"{operation}: {code}")


class StoreUnavailable(StoreError):  # noqa: N818 - named after what it tells the caller
    """Nobody answered, or the database is not ready: the same call may work later."""


class StoreRefused(StoreError):  # noqa: N818 - see above
    """The database answered and refused: a missing migration, a wrong key, a bug."""


class EventRejected(LineRecoveryError):  # noqa: N818 - see above
    """The body is not an event.

    Args:
        status: The HTTP status to answer with.
        reason: What is wrong with it, without quoting it.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


class UndeliveredUnreadable(LineRecoveryError):  # noqa: N818 - see above
    """A replay cannot begin."""
