"""A server and a proxy that can do each thing a platform must not, on real loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import importlib.util
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import trustme
from attrs import define, field, frozen

import wxpay_async.transports.httpx as over_httpx2
from wxpay_async.protocol.wire import HttpRequest, Timeouts, Transport
from wxpay_async.transports.aiohttp import AiohttpTransport

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it
OK = b'{"success":true,"data":{}}'
GZIP_BOMB = gzip.compress(bytes(1 << 20)) * 306  # 306 members, a megabyte each when unpacked


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

    async def request(self) -> Seen | None:
        """Read one request, None at the end of the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
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

    async def gone(self) -> bool:
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
    """A port that counts who comes, and answers by a script.

    Attributes:
        act: answers one request; returns whether the connection is kept.
        connections: how many were ever accepted.
        open: how many are open now.
        peak: the most that were open at once.
    """

    act: Act
    host: str = "127.0.0.1"
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    open: int = 0
    peak: int = 0
    requests: list[Seen] = field(factory=list)
    arrived: asyncio.Event = field(factory=asyncio.Event)
    changed: asyncio.Condition = field(factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """The origin."""
        return f"{self.scheme}://{self.host}:{self.port}"

    async def closed(self) -> None:
        """Wait until every connection has ended."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: self.open == 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until either side ends it."""
        self.connections += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        peer = Peer(reader, writer)
        try:
            while (seen := await peer.request()) is not None:
                self.requests.append(seen)
                self.arrived.set()
                if not await self.act(peer, seen):
                    break
        except (ConnectionError, ssl.SSLError):
            pass  # the client's right; a test sees it by what the client raised
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            async with self.changed:
                self.changed.notify_all()


Listen = Callable[..., Awaitable[Listener]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Open scripted ports: `await listen(act, tls=context, host="127.0.0.2")`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            act: Act, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
        ) -> Listener:
            listener = Listener(act, host=host, scheme="https" if tls else "http")
            server = await asyncio.start_server(listener.serve, host, 0, ssl=tls)
            listener.port = server.sockets[0].getsockname()[1]
            stack.push_async_callback(listener.closed)
            stack.callback(server.close)
            return listener

        yield start


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def behave(peer: Peer, seen: Seen) -> bool:  # noqa: C901, PLR0911, PLR0912 - a plain table
    """Do what the path says."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    match seen.target.partition("?")[0].split("/")[1:]:
        case ["status", status]:
            return await peer.answer(status=f"{status} Whatever")
        case ["body", size]:
            return await peer.answer(b"x" * int(size))
        case ["chunked", size]:
            whole = _chunk(b"x" * int(size)) + b"0\r\n\r\n"
            await peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + whole)
            return True
        case ["headers"]:
            pairs = ("Date: Sun, 22 Nov 2026 00:00:00 GMT", "X-Wxpay-Sandbox: 1", "X-Other: 2")
            return await peer.answer(headers=pairs)
        case ["odd-headers"]:
            return await peer.answer(headers=("Location: https://h\u00f6st/", "Date: "))
        case ["cookies"]:
            return await peer.answer(headers=("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2"))
        case ["gzip"]:
            return await peer.answer(GZIP_BOMB, headers=("Content-Encoding: gzip",))
        case ["until-close"]:
            await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + OK)
            return False
        case ["early-hints"]:
            await peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            return await peer.answer()
        case ["slow"]:
            await asyncio.sleep(0.01)
            return await peer.answer()
        case ["hang"]:
            return await peer.gone()
        case ["hang-after-headers"]:
            await peer.send(head + b"Content-Length: 10\r\n\r\n")
            return await peer.gone()
        case ["disconnect"]:
            return False
        case ["reset"]:
            return peer.reset()
        case ["reset-in-body"]:
            await peer.send(head + b"Content-Length: 10\r\n\r\n123")
            return peer.reset()
        case ["cut"]:
            await peer.send(head + b"Content-Length: 10\r\n\r\n123")
            return False
        case ["cut-chunked"]:
            await peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(b"123"))
            return False
        case ["cut-headers"]:
            await peer.send(head)
            return False
        case ["bad-chunk"]:
            await peer.send(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n123\r\n")
            return await peer.gone()
        case ["bad-length"]:
            await peer.send(head + b"Content-Length: ten\r\n\r\n")
            return await peer.gone()
        case ["garbage"]:
            await peer.send(b"\x15\x03\x01\x00\x02\x02\x16 sign=CANARY\r\n\r\n")
            return False
        case ["drip"]:
            await peer.send(head + b"Content-Length: 100000\r\n\r\n")
            return await peer.forever(b"x", pause=0.05)
        case ["endless-hints"]:
            return await peer.forever(b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.05)
        case ["ten-gigabytes"]:
            await peer.send(head + b"Content-Length: 10000000000\r\n\r\n")
            return await peer.gone()
        case ["endless"]:
            await peer.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            return await peer.forever(_chunk(b"x" * 65536))
        case ["long-header"]:
            await peer.send(head + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n")
            return await peer.gone()
        case ["many-headers"]:
            await peer.send(head + b"X-Many: 0123456789\r\n" * 20_000 + b"\r\n")
            return await peer.gone()
        case ["second-time-dead"]:
            head_line = seen.header("x-second")
            return False if head_line else await peer.answer()
    return await peer.answer()


@pytest.fixture
async def server(listen: Listen) -> Listener:
    """Behave by the path of the request."""
    return await listen(behave)


# Certificates


@frozen
class Certificates:
    """Server contexts, good and bad, and the file that a client trusts."""

    ca_file: str
    good: ssl.SSLContext
    expired: ssl.SSLContext
    wrong_host: ssl.SSLContext
    unknown_authority: ssl.SSLContext
    self_signed: ssl.SSLContext


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    leaf.configure_cert(context)
    return context


def _self_signed(folder: Path) -> ssl.SSLContext:
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    order = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*order.split(), *extension, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority and what it and others signed."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    past = datetime.now(UTC) - timedelta(days=1)
    return Certificates(
        ca_file=str(folder / "ca.pem"),
        good=_context(authority.issue_cert("127.0.0.1", "localhost")),
        expired=_context(authority.issue_cert("127.0.0.1", not_after=past)),
        wrong_host=_context(authority.issue_cert("other.example")),
        unknown_authority=_context(trustme.CA().issue_cert("127.0.0.1")),
        self_signed=_self_signed(folder),
    )


@pytest.fixture
async def broken_tls() -> AsyncIterator[Callable[[str], Awaitable[int]]]:
    """Open ports that take a TLS hello and then hang, disconnect, reset or answer in plain."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(deed: str) -> int:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                peer = Peer(reader, writer)
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)
                    if deed == "plain":
                        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    if deed == "hang":
                        await peer.gone()
                    if deed == "reset":
                        peer.reset()
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        yield start


# A proxy


@define(eq=False)
class Proxy:
    """A forward proxy: absolute targets and CONNECT.

    Attributes:
        refusal: a status line to answer instead of forwarding; "hang" or "disconnect" to do that.
        heads: the heads of all requests to the proxy itself.
    """

    refusal: str = ""
    heads: list[Seen] = field(factory=list)
    listener: Listener | None = None

    @property
    def address(self) -> str:
        """host:port."""
        assert self.listener is not None
        return f"{self.listener.host}:{self.listener.port}"

    async def act(self, peer: Peer, seen: Seen) -> bool:
        """Forward one request, or open one tunnel."""
        self.heads.append(seen)
        if self.refusal == "hang":
            return await peer.gone()
        if self.refusal == "disconnect":
            return False
        if self.refusal:
            return await peer.answer(b"", status=self.refusal)
        tunnel = seen.head.startswith(b"CONNECT ")
        host, _, port = seen.target.removeprefix("http://").partition("/")[0].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        if tunnel:
            await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            writer.write(seen.head + seen.body)
        await asyncio.gather(_pump(reader, peer.writer), _pump(peer.reader, writer))
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.fixture
async def proxy(listen: Listen) -> Proxy:
    """Run a forward proxy."""
    proxy = Proxy()
    proxy.listener = await listen(proxy.act)
    return proxy


# The transports


def _over_httpx() -> ModuleType:
    """Load the transport a second time, as on a machine that has httpx but not httpx2."""
    spec = importlib.util.spec_from_file_location("over_httpx", over_httpx2.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    real = sys.modules.pop("httpx2", None)
    sys.modules["httpx2"] = None  # type: ignore[assignment] # how Python spells "not installed"
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["httpx2"]
        if real is not None:
            sys.modules["httpx2"] = real
    return module


Make = Callable[..., Transport]

OVER_HTTPX = _over_httpx()
OVER_NETWORK: dict[str, Make] = {
    "aiohttp": AiohttpTransport,
    "httpx2": over_httpx2.HttpxTransport,
    "httpx": OVER_HTTPX.HttpxTransport,
}


@pytest.fixture(params=OVER_NETWORK)
def driver(request: pytest.FixtureRequest) -> str:
    """Name the library under the transport."""
    name: str = request.param
    return name


@pytest.fixture
def make(driver: str) -> Make:
    """Make a transport of any driver: `make(proxy=..., ca_file=..., max_connections=...)`."""
    return OVER_NETWORK[driver]


@pytest.fixture
async def transport(make: Make, listen: Listen) -> AsyncIterator[Transport]:
    """Make a transport with defaults, and see that it leaves no task behind."""
    del listen  # named so that servers outlive the transport and can see its connections end
    before = asyncio.all_tasks()
    made = make()
    yield made
    await made.aclose()
    async with asyncio.timeout(PATIENCE):  # the server's tasks end with their connections
        while asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.sleep(0.001)
    gc.collect()  # what was left open complains now, in the test that left it


@pytest.fixture
def quick() -> Timeouts:
    """Short times: long enough for loopback, short enough for a test that waits for them."""
    return Timeouts(connect=0.3, read=0.3, attempt=1.0)


@pytest.fixture
def calm() -> Timeouts:
    """Long times, for tests in which nothing should run into them."""
    return Timeouts(connect=PATIENCE, read=PATIENCE, attempt=PATIENCE)


@pytest.fixture
def closed_port() -> int:
    """Find a port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@pytest.fixture
def full_port() -> Iterator[int]:
    """Find a port that neither accepts nor refuses: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the name of the parameter says it
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own proxies out of the way, so that tests mean the same everywhere."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


Ask = Callable[..., HttpRequest]


@pytest.fixture
def ask() -> Ask:
    """Make a request that carries what must not leak: `ask(url, x_header="1")`."""

    def request(url: str, **headers: str) -> HttpRequest:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return HttpRequest(url, b"bizContent=CANARY&sign=CANARY", names)

    return request


Said = Callable[[BaseException], str]


@pytest.fixture
def said() -> Said:
    """Return all that a log would show of an error: its own text and that of its causes."""

    def text(error: BaseException) -> str:
        parts = []
        shown: BaseException | None = error
        while shown is not None:
            parts.append(f"{shown} {shown!r} {shown.args!r}")
            hidden = shown.__suppress_context__ or shown.__cause__
            shown = shown.__cause__ if hidden else shown.__context__
        return "\n".join(parts)

    return text
