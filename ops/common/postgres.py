"""The address of Postgres itself: read, refused where it cannot work, connected to, and why it failed.

Stages of a connection are tried one after another (name, port, TLS, login), so that what failed is known by its class
and not by the words of an error. No secret is in any word of this module.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from ops.common.shown import shown
from shared.errors import LineRecoveryError

LOOKS_LIKE: Final = "postgresql://user:password@host:5432/postgres"
SESSION_POOLER: Final = (
    "take the session pooler's address, which has IPv4: "
    "postgresql://postgres.<ref>:<password>@aws-<n>-<region>.pooler.supabase.com:5432/postgres "
    "(in Supabase: Connect, Session pooler)"
)
CONNECT_SECONDS: Final = 10
_STAGE_SECONDS: Final = 5
_DEFAULT_PORT: Final = 5432
_TRANSACTION_POOLER_PORT: Final = 6543
# The last @ ends the password, whatever it holds: people paste it as it is.
_ADDRESS: Final = re.compile(
    r"postgres(?:ql)?://(?P<login>.*)@(?P<host>\[[0-9A-Fa-f:.]+\]|[^@/?#:,\s\[\]]+)(?::(?P<port>[^@/?#]*))?"
    r"(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?",
    re.DOTALL,
)
_PLACEHOLDER: Final = re.compile(r"\[[\w-]*PASSWORD\]|<password>", re.IGNORECASE)
_DIRECT: Final = re.compile(r"db\.[a-z0-9]+\.supabase\.(co|red)")
_API: Final = re.compile(r"[a-z0-9]{20}\.supabase\.(co|red)")
_POOLER: Final = re.compile(r".+\.pooler\.supabase\.(com|green)")
_SSL_REQUEST: Final = struct.pack("!II", 8, 80_877_103)
_BUSY: Final = re.compile(r"too many|remaining connection slots|max ?clients|pool.*full", re.IGNORECASE)


class AddressError(LineRecoveryError):
    """The address cannot work; the text says why and shows no part that may be secret."""


class UnreachableError(LineRecoveryError):
    """Nobody answered at the address, or not to this login; the text says which of name, port, TLS or password."""


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """An address that was read.

    Attributes:
        user: The role.
        host: Name or address.
        port: TCP port.
        database: Its name.
        sslmode: As libpq has it.
        conninfo: For psycopg; holds the password.
        dropped: Parameters of other drivers, which libpq would refuse: ``pgbouncer``.
    """

    user: str
    host: str
    port: int
    database: str
    sslmode: str
    conninfo: str = field(repr=False)
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{shown(self.database)} at {shown(self.host)}:{self.port}, as {shown(self.user)}"

    @property
    def is_direct(self) -> bool:
        """Supabase's direct address, which has no IPv4."""
        return _DIRECT.fullmatch(self.host) is not None


def read_address(text: str) -> DatabaseAddress:
    """Read an address as people have it, with parameters of other drivers and unescaped passwords.

    Raises:
        AddressError: It is none, or one that cannot work.
    """
    text = text.strip()  # secret managers and editors like to end a value with a line break
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise AddressError(f"must look like {LOOKS_LIKE}")
    if _PLACEHOLDER.search(found["login"]):
        raise AddressError("still holds the placeholder instead of the password")
    login_user, _, login_password = found["login"].partition(":")
    user, password = unquote(login_user), unquote(login_password)
    host = found["host"].strip("[]").lower()
    port = _read_port(found["port"])
    if not user:
        raise AddressError(f"names no user: it must look like {LOOKS_LIKE}")
    if _API.fullmatch(host):
        raise AddressError(f"names the project's API, which is no database: {SESSION_POOLER}")
    if _POOLER.fullmatch(host) and "." not in user:
        raise AddressError(f"the pooler does not know the user {shown(user)} without its project: {SESSION_POOLER}")
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    parameters = dict(parse_qsl(found["query"] or ""))
    kept = {name: told for name, told in parameters.items() if name in known}
    sslmode = kept.get("sslmode") or ("prefer" if is_loopback(host) else "require")
    if sslmode in ("allow", "prefer") and not is_loopback(host):
        sslmode = "require"  # both take a refused TLS for a reason to go on without
    database = unquote(found["database"] or "") or "postgres"
    given = kept | {"host": host, "port": str(port), "user": user, "dbname": database, "sslmode": sslmode}
    if password:
        given["password"] = password
    try:
        conninfo = make_conninfo(**given)
    except psycopg.Error:
        raise AddressError(f"must look like {LOOKS_LIKE}") from None  # its text may quote the address
    return DatabaseAddress(user, host, port, database, sslmode, conninfo, tuple(sorted(parameters.keys() - known)))


def _read_port(told: str | None) -> int:
    if not told:
        return _DEFAULT_PORT
    if not told.isdecimal() or not 0 < int(told) < 2**16:
        raise AddressError("has no number for a port")
    if int(told) == _TRANSACTION_POOLER_PORT:
        raise AddressError(
            "port 6543 is the transaction pooler: it keeps no session settings and no prepared statements, and a "
            "migration may not be whole there; the same host on port 5432 is the session pooler"
        )
    return int(told)


def is_loopback(host: str) -> bool:
    """Whether a host is the machine that asks."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connect(address: DatabaseAddress, **settings: Any) -> psycopg.Connection[Any]:  # noqa: ANN401 - psycopg's own
    """Connect, each statement its own transaction.

    Args:
        address: Where to.
        settings: Further ones of ``psycopg.connect``.

    Raises:
        UnreachableError: Saying which of name, port, TLS or password it was.
    """
    try:
        return psycopg.connect(
            address.conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS, prepare_threshold=None, **settings
        )
    except psycopg.OperationalError as error:
        raise UnreachableError(why_unreachable(address, error)) from None  # its text names users


def why_unreachable(address: DatabaseAddress, error: psycopg.Error) -> str:
    """Say which stage of a connection fails, by trying each.

    Args:
        address: Where somebody could not connect to.
        error: What came of it.
    """
    where = f"{shown(address.host)}:{address.port}"
    beside = f"; {SESSION_POOLER}" if address.is_direct else ""
    if beside:
        beside = f"; Supabase's direct addresses have no IPv4, and many networks have nothing else{beside}"
    try:
        socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return f"the name: {shown(address.host)} is not known{beside}"
    try:
        with socket.create_connection((address.host, address.port), timeout=_STAGE_SECONDS) as connection:
            wrong = _why_no_tls(address, connection)
    except OSError as failure:
        return f"the port: nobody answers at {where} ({type(failure).__name__}){beside}"
    return wrong or _why_no_login(address, error)


def _why_no_tls(address: DatabaseAddress, connection: socket.socket) -> str | None:
    if address.sslmode == "disable":
        return None
    where = f"{shown(address.host)}:{address.port}"
    try:
        connection.sendall(_SSL_REQUEST)
        answer = connection.recv(1)
    except OSError:
        answer = b""
    if answer not in (b"S", b"N"):
        return f"the port: what answers at {where} is not PostgreSQL"
    if answer == b"N":
        refused = address.sslmode not in ("allow", "prefer")
        return f"TLS: the server at {where} takes no TLS, and it is demanded" if refused else None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # whether there is TLS at all
    try:
        with suppress(ssl.SSLEOFError), context.wrap_socket(connection, server_hostname=address.host):
            return None
    except OSError as failure:
        return f"TLS: it fails with {where} ({type(failure).__name__})"
    return None


def _why_no_login(address: DatabaseAddress, error: psycopg.Error) -> str:
    text = str(error)
    if "certificate" in text:
        return f"TLS: the certificate is not the one that sslmode={shown(address.sslmode)} wants"
    if _BUSY.search(text):
        return "the server takes no more connections now; try again"
    if "database" in text and "does not exist" in text:
        return f"the name: the server has no database {shown(address.database)}"
    return (
        f"the password: the server refuses the user {shown(address.user)} or its password "
        "(in Supabase: Project Settings, Database; a new password takes a minute to be known)"
    )
