"""A server on real loopback sockets that treats each request as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

from attrs import define, field, frozen

from tests.support.tasks import run_loop
from wxpay_async.protocol.wire import Timeouts

PATIENCE: Final = 10.0
"""Seconds until a stuck test fails; fewer than those after which an idle connection ends."""
CALM: Final = Timeouts(connect=20, read=20, attempt=20)
"""Long times, for tests in which nothing should run into them."""
QUICK: Final = Timeouts(connect=1, read=1, attempt=2)
"""Short times for tests that wait for them; enough for an answer from a busy machine."""
OK: Final = b'{"success":true,"data":{}}'


@frozen
class Seen:
    """One request as it arrived."""

    head: bytes
    body: bytes

    @property
    def target(self) -> str:
        """The request target, exactly as sent."""
        return self.head.split(b" ")[1].decode()

    def header(self, name: str) -> list[str]:
        """Every value of a header."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = [line.split(":", 1) for line in lines if ":" in line]
        return [value.strip() for key, value in pairs if key.lower() == name.lower()]


Act = Callable[["Peer", Seen], Awaitable[bool]]


@define(eq=False)
class Peer:
    """One connection, seen from the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    early: bytes = b""

    async def request(self) -> Seen | None:
        """Read one request, None at the end of the connection."""
        try:
            head = self.early + await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        self.early = b""
        length = Seen(head, b"").header("content-length")
        return Seen(head, await self.reader.readexactly(int(length[0]) if length else 0))

    async def send(self, data: bytes) -> None:
        """Write and flush."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(
        self, body: bytes = OK, *, status: str = "200 OK", headers: tuple[str, ...] = ()
    ) -> bool:
        """Write a whole answer and keep the connection."""
        lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return True

    async def wait_gone(self) -> bool:
        """Wait, silent, until the client gives up."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()
        return False

    def reset(self) -> bool:
        """End the connection by RST, not by FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        return False

    async def forever(self, chunk: bytes, *, pause: float = 0.0) -> bool:
        """Write until the client gives up."""
        with contextlib.suppress(ConnectionError):
            while not self.writer.is_closing():
                await self.send(chunk)
                await asyncio.sleep(pause)
        return False


@define(eq=False)
class Listener:
    """A port that counts its connections, and answers by a script.

    Attributes:
        act: answers one request; returns whether the connection is kept.
        connections: how many were ever accepted.
        talked: how many of them ever said something.
        open: how many are open now.
        peak: the most that were open at once.
    """

    act: Act
    host: str = "127.0.0.1"
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    talked: int = 0
    open: int = 0
    peak: int = 0
    requests: list[Seen] = field(factory=list)
    arrived: asyncio.Event = field(factory=asyncio.Event)
    changed: asyncio.Condition = field(factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """The origin."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def targets(self) -> list[str]:
        """The targets of the requests that arrived."""
        return [seen.target for seen in self.requests]

    @property
    def heads(self) -> list[bytes]:
        """The heads of the requests that arrived."""
        return [seen.head for seen in self.requests]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something to become true, as requests arrive and connections end."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(holds)

    async def wait_closed(self) -> None:
        """Wait until every connection has ended."""
        await self.until(lambda: self.open == 0)

    async def wait_heard(self, count: int) -> None:
        """Wait until that many connections have said something, be it only a TLS hello."""
        await self.until(lambda: self.talked >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until either side ends it."""
        self.connections += 1
        self.open += 1
        await run_loop()  # those that ended at the same moment are no longer open
        self.peak = max(self.peak, self.open)
        try:
            peer = Peer(reader, writer, early=await reader.read(1))
            self.talked += bool(peer.early)
            await self._notify()
            while (seen := await peer.request()) is not None:
                self.requests.append(seen)
                self.arrived.set()
                await self._notify()
                if not await self.act(peer, seen):
                    break
        except (ConnectionError, ssl.SSLError):
            pass  # the client's right; a test sees it by what the client raised
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            await self._notify()

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


Listen = Callable[..., Awaitable[Listener]]


@contextlib.asynccontextmanager
async def open_listeners() -> AsyncIterator[Listen]:
    """Yield a function that opens such servers, plain or with TLS.

    At the end it waits until no connection to them is open.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            act: Act, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
        ) -> Listener:
            listener = Listener(act, host=host, scheme="https" if tls else "http")
            server = await asyncio.start_server(listener.serve, host, 0, ssl=tls)
            listener.port = server.sockets[0].getsockname()[1]
            stack.push_async_callback(listener.wait_closed)
            stack.callback(server.close)
            return listener

        yield start


async def hang(peer: Peer, _: Seen) -> bool:
    """Say nothing until the client goes."""
    return await peer.wait_gone()


async def lose_answer(_: Peer, __: Seen) -> bool:
    """Read the request, and close without an answer."""
    return False


async def answer(peer: Peer, _: Seen) -> bool:
    """Answer with two bytes and a cookie, and keep the connection."""
    return await peer.answer(b"ok", headers=("Set-Cookie: a=1",))


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Answer any request, and close."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def server_in_a_thread() -> Iterator[str]:
    """Yield the origin of a server that belongs to no event loop, for tests that have several."""
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
