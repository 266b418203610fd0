"""A server, and the times and requests of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.server import Listen, Listener, answer, open_listeners
from wxpay_async.protocol.wire import HttpRequest, Timeouts


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Open servers that treat each request as a test says."""
    async with open_listeners() as opened:
        yield opened


@pytest.fixture
async def till(listen: Listen) -> Listener:
    """Open a server that answers."""
    return await listen(answer)


@pytest.fixture
def calm() -> Timeouts:
    """Long times, for tests in which nothing should run into them."""
    return Timeouts(connect=20, read=20, attempt=20)


@pytest.fixture
def quick() -> Timeouts:
    """Short times for tests that wait for them; enough for an answer from a busy machine."""
    return Timeouts(connect=1, read=1, attempt=2)


@pytest.fixture
def request_to(till: Listener) -> HttpRequest:
    """Make a request to the server."""
    return HttpRequest(till.url, b"a=1")
