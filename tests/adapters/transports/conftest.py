"""A server, and a request to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.server import Listen, Listener, answer, open_listeners
from wxpay_async.protocol.wire import HttpRequest


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
def request_to(till: Listener) -> HttpRequest:
    """Make a request to the server."""
    return HttpRequest(till.url, b"a=1")
