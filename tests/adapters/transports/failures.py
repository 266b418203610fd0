"""Send requests that fail, and see what is raised."""

from __future__ import annotations

import pytest

from tests.support.server import Act, Listen, hang
from wxpay_async.errors import InDoubtError, WxPayError
from wxpay_async.protocol.wire import HttpRequest, Timeouts, Transport


async def catch_failure(transport: Transport, url: str, timeout: Timeouts) -> WxPayError:
    """Return what a request raises."""
    with pytest.raises(WxPayError) as caught:
        await transport.send(HttpRequest(url, b"a=1"), timeout=timeout)
    return caught.value


async def expect_doubt(transport: Transport, listen: Listen, act: Act) -> None:
    """Send a request whose answer does not come: it arrived once, and may have been executed."""
    server = await listen(act)
    request = HttpRequest(server.url, b"a=1")
    with pytest.raises(InDoubtError):
        await transport.send(request, timeout=Timeouts(connect=1, read=1, attempt=0.2))
    await transport.aclose()

    assert 1 == len(server.requests)


async def fail_in_handshake(transport: Transport, listen: Listen, kind: type[WxPayError]) -> None:
    """Send a request to a server that says nothing of TLS, and expect such an error."""
    server = await listen(hang)
    request = HttpRequest(server.url.replace("http", "https"), b"a=1")
    with pytest.raises(kind, match="TimeoutError"):
        await transport.send(request, timeout=Timeouts(connect=20, read=20, attempt=0.1))
    await transport.aclose()
