"""The fixtures of the fault table: servers of one's own, and a till over a store on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.rigs import SERVERS, Rig, Rigs


@pytest.fixture(scope="session")
def rigs() -> Iterator[Rigs]:
    """Keep the servers that this process has started, and stop them at its end."""
    started = Rigs()
    yield started
    started.stop()


@pytest.fixture(params=SERVERS)
async def rig(request: pytest.FixtureRequest, rigs: Rigs) -> AsyncIterator[Rig]:
    """Open an empty place on a server that runs."""
    opened = await rigs.open(request.param)
    yield opened
    if not opened.server.is_running():  # a test that failed may have left it so
        opened.server.start()
