"""One local stack, one simulator and the served functions for the whole run; every test gets an empty world."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest
from cloud import FakeCloud
from psycopg.rows import dict_row
from served import NO_AUTHORITIES, FunctionServer
from world import World, check_environment, empty, webhook_environment

from dev.simulator import Simulator
from dev.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from wire import OnTheWire

os.environ["ENV_FILE"] = os.devnull  # whatever a developer's .env says
os.environ.pop("SSL_CERT_FILE", None)
os.environ.update(NO_AUTHORITIES)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(50_000, 20, 50)


def pytest_collection_finish() -> None:
    """Modules and tests stay for the whole run: the collector would walk over them a thousand times, for a seventh of the CPU."""
    gc.freeze()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with Stack.start(seed=False) as running:
        yield running


@pytest.fixture(scope="session")
def simulator(stack: Stack) -> Iterator[Simulator]:
    with Simulator.start(wapi_send_key=stack.service_role_key) as running:
        yield running


@pytest.fixture(scope="session")
def follow_up_check(stack: Stack, simulator: Simulator) -> Iterator[FunctionServer]:
    with FunctionServer("follow_up_check", check_environment(stack, simulator)) as server:
        yield server


@pytest.fixture(scope="session")
def follow_up_check_through_wapi_send(stack: Stack, simulator: Simulator) -> Iterator[FunctionServer]:
    environment = check_environment(stack, simulator) | {"WAPI_SEND_URL": simulator.wapi_send_url}
    with FunctionServer("follow_up_check", environment) as server:
        yield server


@pytest.fixture(scope="session")
def wapi_webhook(stack: Stack, simulator: Simulator) -> Iterator[FunctionServer]:
    with FunctionServer("wapi_webhook", webhook_environment(stack, simulator)) as server:
        yield server


class KeptConnection:
    """One connection for all tests: to open one, and to have the server learn all tables anew, takes 40 ms.

    A test that breaks it, or its server, leaves the next one a new one.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept = self._connect()

    def _connect(self) -> psycopg.Connection[dict[str, object]]:
        # Nothing is prepared: a test may change a table that an earlier one has asked.
        return psycopg.connect(self._url, autocommit=True, row_factory=dict_row, prepare_threshold=None)

    def emptied(self) -> psycopg.Connection[dict[str, object]]:
        """The connection as a new one would be, to an empty database."""
        try:
            self._kept.execute("commit; reset session authorization; reset role; reset all; unlisten *; discard temp")
        except psycopg.OperationalError:
            self._kept.close()
            self._kept = self._connect()
        empty(self._kept)
        return self._kept

    def close(self) -> None:
        self._kept.close()


@pytest.fixture(scope="session")
def kept_connection(stack: Stack) -> Iterator[KeptConnection]:
    kept = KeptConnection(stack.database_url)
    yield kept
    kept.close()


@pytest.fixture
def database(kept_connection: KeptConnection) -> psycopg.Connection[dict[str, object]]:
    return kept_connection.emptied()


@pytest.fixture
def world(
    stack: Stack,
    simulator: Simulator,
    database: psycopg.Connection[dict[str, object]],
    request: pytest.FixtureRequest,
) -> World:
    """Companies, users and lines on the real stack; the functions start when a test first calls them."""
    simulator.reset()
    stack.postgrest_requests.reset()
    return World(stack, simulator, database, request.getfixturevalue)


@pytest.fixture
async def ours(world: World) -> AsyncIterator[OnTheWire]:
    """Our code in this process, on a wire that a test can hold."""
    from wire import OnTheWire  # noqa: PLC0415 - half a second of imports, which the tests of `make unit` do without

    made = OnTheWire(world)
    yield made
    await made.aclose()


@pytest.fixture
def cloud(tmp_path: Path) -> FakeCloud:
    return FakeCloud(tmp_path)


@pytest.fixture(scope="session")
def bootstrapped_once(tmp_path_factory: pytest.TempPathFactory) -> FakeCloud:
    return FakeCloud.bootstrapped(tmp_path_factory.mktemp("bootstrapped"))


@pytest.fixture
def ready(cloud: FakeCloud, bootstrapped_once: FakeCloud) -> FakeCloud:
    """A project that the bootstrap has been through."""
    cloud.begin_as(bootstrapped_once)
    return cloud
