"""A server that does each thing a platform must not, certificates, and the transports to try."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import ssl
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import trustme
from attrs import frozen

import wxpay_async.adapters.transports.httpx as over_httpx2
from tests.support.server import OK, Peer, Seen
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.protocol.wire import HttpRequest, Timeouts, Transport

GZIP_BOMB = gzip.compress(bytes(1 << 20)) * 306  # 306 members, a megabyte each when unpacked

QUICK = Timeouts(connect=0.5, read=0.5, attempt=1.0)
"""Short times: enough for loopback on a busy machine, little for a test that waits for them."""


def make_request(url: str, **headers: str) -> HttpRequest:
    """Make a request that carries what must not leak: `make_request(url, x_header="1")`."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest(url, b"bizContent=CANARY&sign=CANARY", names)


def show_error(error: BaseException) -> str:
    """Return all that a log would show of an error: its own text and that of its causes."""
    parts = []
    shown: BaseException | None = error
    while shown is not None:
        parts.append(f"{shown} {shown!r} {shown.args!r}")
        hidden = shown.__suppress_context__ or shown.__cause__
        shown = shown.__cause__ if hidden else shown.__context__
    return "\n".join(parts)


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TEN = HEAD + b"Content-Length: 10\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"

WHOLE: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "headers": (OK, ("Date: Sun, 22 Nov 2026 00:00:00 GMT", "X-Wxpay-Sandbox: 1", "X-Other: 2")),
    "odd-headers": (OK, ("Location: https://h\u00f6st/", "Date: ")),
    "cookies": (OK, ("Set-Cookie: a=1; Path=/", "Set-Cookie: b=2")),
    "gzip": (GZIP_BOMB, ("Content-Encoding: gzip",)),
}
"""path -> body and headers of a whole answer"""

BROKEN: dict[str, tuple[bytes, str]] = {
    "until-close": (b"HTTP/1.0 200 OK\r\n\r\n" + OK, "close"),
    "early-hints": (HINTS + HEAD + f"Content-Length: {len(OK)}\r\n\r\n".encode() + OK, "close"),
    "hang": (b"", "hang"),
    "hang-after-headers": (TEN, "hang"),
    "disconnect": (b"", "close"),
    "reset": (b"", "reset"),
    "reset-in-body": (TEN + b"123", "reset"),
    "cut": (TEN + b"123", "close"),
    "cut-chunked": (CHUNKED + _chunk(b"123"), "close"),
    "cut-headers": (HEAD, "close"),
    "bad-chunk": (CHUNKED + b"zz\r\n123\r\n", "hang"),
    "bad-length": (HEAD + b"Content-Length: ten\r\n\r\n", "hang"),
    "garbage": (b"\x15\x03\x01\x00\x02\x02\x16 sign=CANARY\r\n\r\n", "close"),
    "ten-gigabytes": (HEAD + b"Content-Length: 10000000000\r\n\r\n", "hang"),
    "long-header": (HEAD + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\n", "hang"),
    "many-headers": (HEAD + b"X-Many: 0123456789\r\n" * 20_000 + b"\r\n", "hang"),
}
"""path -> raw bytes, and what follows them"""

ENDLESS: dict[str, tuple[bytes, bytes, float]] = {
    "drip": (HEAD + b"Content-Length: 100000\r\n\r\n", b"x", 0.05),
    "endless": (CHUNKED, _chunk(b"x" * 65536), 0.0),
    "endless-hints": (HINTS, HINTS, 0.05),
}
"""path -> raw bytes, then what comes again and again, and the pause between in seconds"""


async def behave(peer: Peer, seen: Seen) -> bool:
    """Do what the path says."""
    name, _, argument = seen.target.partition("?")[0][1:].partition("/")
    if name in BROKEN:
        return await _break(peer, *BROKEN[name])
    if name in ENDLESS:
        await peer.send(ENDLESS[name][0])
        return await peer.forever(ENDLESS[name][1], pause=ENDLESS[name][2])
    if name in WHOLE:
        return await peer.answer(WHOLE[name][0], headers=WHOLE[name][1])
    if name == "chunked":
        await peer.send(CHUNKED + _chunk(b"x" * int(argument)) + b"0\r\n\r\n")
        return True
    if name == "slow":
        await asyncio.sleep(0.01)
    if name == "second-time-dead" and seen.header("x-second"):
        return False
    body = b"x" * int(argument) if name == "body" else OK
    return await peer.answer(body, status=f"{argument if name == 'status' else 200} Whatever")


async def _break(peer: Peer, data: bytes, then: str) -> bool:
    await peer.send(data)
    if then == "hang":
        await peer.wait_gone()
    if then == "reset":
        peer.reset()
    return False


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


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and what it and others signed."""
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
    "reqwest": ReqwestTransport,
}
