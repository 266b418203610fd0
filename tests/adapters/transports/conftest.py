"""A tiny keep-alive server, and the times and requests of these tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from attrs import define, field

from wxpay_async.protocol.wire import HttpRequest, Timeouts


@define(eq=False)
class Till:
    """A server that answers every POST with two bytes.

    Attributes:
        url: where it listens.
        heads: the heads of the requests that arrived.
        connections: how many were accepted.
        mute: read the request, then say nothing until the client goes.
    """

    url: str = ""
    heads: list[bytes] = field(factory=list)
    connections: int = 0
    mute: bool = False
    arrived: asyncio.Event = field(factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(3)
                self.heads.append(head)
                self.arrived.set()
                if self.mute:
                    await reader.read()
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\n\r\nok")
                await writer.drain()
        writer.close()


@pytest.fixture
async def till() -> AsyncIterator[Till]:
    """Open the server."""
    till = Till()
    server = await asyncio.start_server(till.serve, "127.0.0.1", 0)
    till.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    yield till
    server.close()


@pytest.fixture
def calm() -> Timeouts:
    """Long times, for tests in which nothing should run into them."""
    return Timeouts(connect=20, read=20, attempt=20)


@pytest.fixture
def quick() -> Timeouts:
    """Short times for tests that wait for them; enough for an answer from a busy machine."""
    return Timeouts(connect=1, read=1, attempt=2)


@pytest.fixture
def request_to(till: Till) -> HttpRequest:
    """Make a request with a body of three bytes, which is what the server reads."""
    return HttpRequest(till.url, b"a=1")
