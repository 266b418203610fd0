"""The fixtures of the contracts: a server, certificates, transports to try, places for stores."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.stores import ALL, OTHER_WAYS, Databases, Place, Servers, open_place
from tests.contract.transports import (
    OVER_NETWORK,
    QUICK,
    Certificates,
    Make,
    behave,
    make_certificates,
)
from tests.support.server import CALM, Listen, Listener
from tests.support.tasks import wait_until
from wxpay_async.adapters.stores.store import Store
from wxpay_async.protocol.wire import Timeouts, Transport


@pytest.fixture
async def server(listen: Listen) -> Listener:
    """Behave by the path of the request."""
    return await listen(behave)


# Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority and what it and others signed."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


# The transports


@pytest.fixture(params=OVER_NETWORK)
def driver(request: pytest.FixtureRequest) -> str:
    """Name the library under the transport."""
    name: str = request.param
    return name


@pytest.fixture
def make(driver: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make a transport of any driver: `make(proxy=..., ca_file=..., max_connections=...)`."""
    for name in list(os.environ):  # the machine's own proxies
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    gc.freeze()  # to collect what this test leaves takes a millisecond, and all there is a second
    yield OVER_NETWORK[driver]
    gc.collect()  # what was left open complains now, in the test that left it
    gc.unfreeze()


@pytest.fixture
async def transport(make: Make, listen: Listen) -> AsyncIterator[Transport]:
    """Make a transport with defaults, and see that it leaves no task behind."""
    del listen  # named so that servers outlive the transport and can see its connections end
    before = asyncio.all_tasks()
    made = make()
    yield made
    await made.aclose()
    mine = asyncio.current_task()
    # The server's tasks end with their connections.
    await wait_until(lambda: not asyncio.all_tasks() - before - {mine}, pause=0.001)


@pytest.fixture
def parting(driver: str) -> Timeouts:
    """Times of a request that a test walks away from before its answer begins.

    pyreqwest cannot take such a request back, so there it must end with its time.
    """
    return QUICK if driver == "reqwest" else CALM


@pytest.fixture
def closed_port() -> int:
    """Find a port where no process listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


# The stores

BY_EVERY_WAY = ("test_stores.py", "test_store_life.py", "test_store_tending.py")
"""What is quick over every driver and by every way to a server; the rest is slow there."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the slow suite what one driver or way would hardly fail alone."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        by_other_way = callspec is not None and callspec.params.get("place") in OTHER_WAYS
        if by_other_way and item.path.name not in BY_EVERY_WAY:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Keep the databases of this process, and drop them at its end."""
    kept = Databases()
    yield kept
    asyncio.run(kept.drop())


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Keep the servers that this process has started, and stop them at its end."""
    started = Servers()
    yield started
    started.stop()


@pytest.fixture(params=ALL)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases, servers: Servers
) -> AsyncIterator[Place]:
    """Open an empty place for stores of one kind."""
    async with open_place(request.param, tmp_path, databases, servers) as opened:
        yield opened


@pytest.fixture(params=ALL)
async def fresh_place(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Servers
) -> AsyncIterator[Place]:
    """Open a place that no store has ever seen."""
    async with open_place(request.param, tmp_path, servers=servers) as opened:
        yield opened


@pytest.fixture
def store(place: Place) -> Store:
    """Make a store there."""
    return place.make_store()
