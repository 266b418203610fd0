"""A server, and a request to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.server import Listen, Listener, answer
from wxpay_async.protocol.wire import HttpRequest, Transport


@pytest.fixture
async def till(listen: Listen) -> Listener:
    """Open a server that answers."""
    return await listen(answer)


@pytest.fixture
def request_to(till: Listener) -> HttpRequest:
    """Make a request to the server."""
    return HttpRequest(till.url, b"a=1")


@pytest.fixture(name="transport")
async def reqwest_transport(listen: Listen) -> AsyncIterator[Transport]:
    """Make a transport over pyreqwest with defaults, closed before the servers are."""
    from wxpay_async.adapters.transports.reqwest import (  # noqa: PLC0415 - pyreqwest is optional
        ReqwestTransport,
    )

    del listen
    made = ReqwestTransport()
    yield made
    await made.aclose()
