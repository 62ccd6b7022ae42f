"""DATABASE_URL as people have it: what is taken, what is refused with the reason, and why a connection failed."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ops.common.postgres import AddressError, UnreachableError, connect, read_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.stack import Stack

POOLER = "aws-0-sa-east-1.pooler.supabase.com"


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        pytest.param(f"postgresql://postgres.ref:p@{POOLER}:5432/postgres", {"user": "postgres.ref", "password": "p", "host": POOLER, "port": "5432", "dbname": "postgres", "sslmode": "require"}, id="the session pooler"),
        pytest.param("postgres://u@h\n", {"user": "u", "host": "h", "port": "5432", "dbname": "postgres", "sslmode": "require"}, id="the least, with a line break"),
        pytest.param("postgresql://u:p%40s%25s@h/d", {"user": "u", "password": "p@s%s", "host": "h", "port": "5432", "dbname": "d", "sslmode": "require"}, id="an escaped password"),
        pytest.param("postgresql://u:p@s:/w?r#d%@h:5433/d", {"user": "u", "password": "p@s:/w?r#d%", "host": "h", "port": "5433", "dbname": "d", "sslmode": "require"}, id="a password as it was pasted"),
        pytest.param("postgresql://u:p@h/d?pgbouncer=true&connection_limit=1&sslmode=verify-full", {"user": "u", "password": "p", "host": "h", "port": "5432", "dbname": "d", "sslmode": "verify-full"}, id="parameters of another driver"),
        pytest.param("postgresql://u:p@h/d?sslmode=prefer", {"user": "u", "password": "p", "host": "h", "port": "5432", "dbname": "d", "sslmode": "require"}, id="TLS is demanded"),
        pytest.param("postgresql://u:p@[::1]:1/d", {"user": "u", "password": "p", "host": "::1", "port": "1", "dbname": "d", "sslmode": "prefer"}, id="this machine"),
    ],
)  # fmt: skip
def test_an_address_is_read_as_people_have_it(text: str, reads: dict[str, str]) -> None:
    address = read_address(text)
    assert conninfo_to_dict(address.conninfo) == reads
    assert reads.get("password", "none") not in f"{address!r} {address}".split()


def test_what_was_left_out_is_named() -> None:
    assert read_address("postgresql://u:p@h/d?schema=x&pgbouncer=true&sslmode=require").dropped == (
        "pgbouncer",
        "schema",
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "must look like", id="nothing"),
        pytest.param("mysql://u:hidden@h/d", "must look like", id="another database"),
        pytest.param("postgresql://h/d", "must look like", id="no user"),
        pytest.param("postgresql://:hidden@h/d", "names no user", id="an empty user"),
        pytest.param("postgresql://u:hidden@h:many/d", "no number for a port", id="a port that is none"),
        pytest.param(f"postgresql://postgres.ref:hidden@{POOLER}:6543/postgres", "port 6543 is the transaction pooler", id="the transaction pooler"),
        pytest.param(f"postgresql://postgres:hidden@{POOLER}:5432/postgres", "without its project", id="a user without its project"),
        pytest.param("postgresql://postgres:[YOUR-PASSWORD]@h/d", "still holds the placeholder", id="the placeholder"),
        pytest.param("postgresql://postgres:hidden@abcdefghijklmnopqrst.supabase.co/postgres", "names the project's API", id="the API's host"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_work_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as refused:
        read_address(text)
    assert "hidden" not in str(refused.value)


def why_not(url: str) -> str:
    with pytest.raises(UnreachableError) as failed:
        connect(read_address(url))
    assert "hidden" not in str(failed.value)
    return str(failed.value)


@pytest.fixture
def not_postgres() -> Iterator[int]:
    """A server that answers everything with an N, as PostgreSQL does that has no TLS, or with its own greeting."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def test_a_failed_connection_says_which_part_of_the_address_it_was(stack: Stack, not_postgres: int) -> None:
    with psycopg.connect(stack.database_url) as reached:
        host, port = reached.info.host, reached.info.port
    assert why_not("postgresql://u:hidden@nobody.invalid/d").startswith("the name: nobody.invalid is not known")
    assert why_not(f"postgresql://u:hidden@{host}:1/d").startswith(f"the port: nobody answers at {host}:1")
    assert "is not PostgreSQL" in why_not(f"postgresql://u:hidden@{host}:{not_postgres}/d")
    assert why_not(f"postgresql://postgres:hidden@{host}:{port}/postgres?sslmode=require").startswith("TLS: ")
    assert why_not(f"postgresql://postgres:hidden@{host}:{port}/postgres").startswith("the password: ")
    assert why_not(f"{stack.database_url}_of_nobody") == "the name: the server has no database postgres_of_nobody"


def test_a_direct_address_that_fails_names_the_pooler() -> None:
    why = why_not("postgresql://postgres:hidden@db.abcdefghijklmnopqrst.supabase.red:5432/postgres")
    assert "have no IPv4" in why
    assert "pooler.supabase.com:5432" in why
