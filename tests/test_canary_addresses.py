"""An address whose query is signed is no part of a failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.canaries import (
    PLANTED,
    PLANTED_SIGN,
    PLANTED_TOKEN,
    catch_failure,
    find_leaks,
    render_error,
)
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.httpx import HttpxTransport
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.protocol.wire import HttpRequest, Timeouts

SIGNED_QUERY = urlencode(
    {"bizContent": json.dumps({"payToken": PLANTED_TOKEN}), "sign": PLANTED_SIGN}
)
CLOSED = "http://127.0.0.1:9/"
FAULTS = {
    "hang": b"",
    "drop": b"",
    "garbage": b"\x15\x03\x01\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
}


@pytest.fixture
async def faulty_server() -> AsyncIterator[str]:
    """Serve what each path is named after; return the origin."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
            name = target[1:].partition("?")[0]
            writer.write(FAULTS[name])
            if name == "hang":
                await reader.read()
        except asyncio.IncompleteReadError:  # a client that connected once more, and sent nothing
            pass
        finally:  # also where the test is over while it waits
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "http://{}:{}".format(*server.sockets[0].getsockname())


@pytest.mark.parametrize(
    "address", [*FAULTS, CLOSED, "http://127.0.0.1:999999/", "http://[::1/", "ftp://127.0.0.1/"]
)
@pytest.mark.parametrize("transport", [AiohttpTransport, HttpxTransport, ReqwestTransport])
async def test_signed_address_is_no_part_of_a_failure(
    transport: Callable[[], Any], address: str, faulty_server: str
) -> None:
    """With the parameters in the query, no frame of ours or of a library's shows the address."""
    url = address if ":" in address else f"{faulty_server}/{address}"
    request = HttpRequest(f"{url}?{SIGNED_QUERY}", b"")
    carrier = transport()
    error = await catch_failure(lambda: carrier.send(request, timeout=Timeouts(read=0.2)))
    await carrier.aclose()

    assert [] == find_leaks(render_error(error), PLANTED)


@pytest.mark.parametrize(
    ("transport", "said"),
    [
        (AiohttpTransport, "by the caller"),
        (HttpxTransport, "by the caller"),
        (ReqwestTransport, "Request was cancelled"),  # pyreqwest's own words for it
    ],
)
async def test_signed_address_is_no_part_of_a_cancellation(
    transport: Callable[[], Any], said: str, faulty_server: str
) -> None:
    """It is the caller's own cancellation that comes through, without the frames below."""
    request = HttpRequest(f"{faulty_server}/hang?{SIGNED_QUERY}", b"")
    carrier = transport()
    timeouts = Timeouts(connect=1, read=1, attempt=2)
    task = asyncio.ensure_future(carrier.send(request, timeout=timeouts))
    await asyncio.sleep(0.1)  # let it get beyond the headers
    task.cancel("by the caller")
    error = await catch_failure(lambda: task)
    await carrier.aclose()
    if transport is ReqwestTransport:
        await asyncio.sleep(1.5)  # it goes on until its read timeout

    assert isinstance(error, asyncio.CancelledError)
    assert (said,) == error.args
    assert [] == find_leaks(render_error(error), PLANTED)
