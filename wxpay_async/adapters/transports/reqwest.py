"""A transport over pyreqwest, Rust's reqwest: the fastest one (extra `reqwest`)."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from attrs import define, field

from wxpay_async.adapters.event_loop import LoopLocal
from wxpay_async.adapters.transports.connection import (
    CONNECTIONS,
    KEEP_ALIVE,
    check_proxy,
    name_place,
    tls_context,
)
from wxpay_async.errors import InDoubtError, MalformedResponseError, NotSentError, WxPayError
from wxpay_async.extras import how_to_install
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.wire import KEPT_HEADERS, MAX_BODY, HttpRequest, HttpResponse, Timeouts

try:
    from pyreqwest.client import Client, ClientBuilder
    from pyreqwest.exceptions import (
        ClientClosedError,
        DetailedPyreqwestError,
        PoolTimeoutError,
        RequestPanicError,
    )
    from pyreqwest.http import Url
    from pyreqwest.proxy import ProxyBuilder
    from pyreqwest.request import StreamRequest
    from pyreqwest.response import Response
except ImportError as error:
    raise ImportError(f"this transport needs pyreqwest: {how_to_install('reqwest')}") from error

_LONGEST: Final = 86_400.0  # seconds; Rust's durations end before a float does
_MAX_CLIENTS: Final = 8  # pairs of connect and read timeouts; hardly any program uses more

# Rust names the causes of an error, outermost first. The second is the step of hyper in which it
# happened, and the only proof of the phase: pyreqwest guesses its classes from the texts (a reset
# of a request that was sent is a ConnectError), and the first text repeats the address.
_CONNECTING: Final = "client error (Connect)"
_BUILDER_FAILED: Final = "builder error"
_TIMED_OUT: Final = ("operation timed out", "deadline has elapsed")

_NO_CONNECTION: Final = "reqwest: no connection was free in time"
_NOT_SENDABLE: Final = "reqwest: an address or a header that cannot be sent as it is"

_OS_ERROR: Final = re.compile(r"\(os error ([0-9]+)\)$")
_WORDS: Final = re.compile(r"[A-Za-z :]*")
_NOT_RETRYABLE: Final = re.compile(
    r"invalid peer certificate|received (corrupt|fatal|un)|peer (is|mis)"
)
_ORIGIN: Final = re.compile(r"[a-z]+://[^/?#\\]*", re.IGNORECASE)


@define(eq=False)
class _Pool:
    """The clients of one event loop, and the connections that all their requests share.

    reqwest takes its timeouts per client, so there is one for each pair of timeouts.
    """

    build: Callable[[float, float], Client]
    permits: asyncio.Semaphore
    clients: dict[tuple[float, float], Client] = field(factory=dict[tuple[float, float], Client])
    closed: bool = False

    def client(self, timeout: Timeouts) -> Client:
        pair = timeout.connect, timeout.read
        client = self.clients.get(pair)
        if client is None:
            if len(self.clients) == _MAX_CLIENTS:
                del self.clients[next(iter(self.clients))]  # its requests end by themselves
            client = self.clients[pair] = self.build(*pair)
        return client

    async def acquire(self, attempt: float) -> float:
        """Wait for a free connection, and return what is left of the attempt's time."""
        if not self.permits.locked():
            await self.permits.acquire()
            return attempt
        clock = asyncio.get_running_loop().time
        end = clock() + attempt
        try:
            async with asyncio.timeout(attempt):
                await self.permits.acquire()
        except TimeoutError:
            raise NotSentError(_NO_CONNECTION) from None
        left = end - clock()
        if self.closed or left <= 0.0:
            self.permits.release()
            raise NotSentError("the transport was closed" if self.closed else _NO_CONNECTION)
        return left

    async def close(self) -> None:
        self.closed = True
        clients = list(self.clients.values())
        self.clients.clear()  # idle connections close with the last reference
        for client in clients:
            await client.close()


@define(eq=False, kw_only=True)
class ReqwestTransport:
    """Sends over one pool of connections, which belongs to the running event loop.

    Making one is pure: the pool opens with the first request, closes with the loop or by
    `aclose`, and opens again in the next loop.

    pyreqwest cannot cancel a request whose answer has not begun. When the caller is cancelled, or
    `aclose` is called, the request goes on in the background, keeps its connection, and ends with
    the answer, the read timeout or the attempt's time. A connection must be made within half the
    read timeout, whatever the connect timeout says, since reqwest counts the first read from the
    start of the request. An attempt whose whole time ends while it connects is in doubt, since
    reqwest does not tell how far it got. While the event loop is blocked, Rust goes on reading, but
    only the beginning of a long answer; when the whole process is paused for longer than the time
    limits, the answer is lost, and the request in doubt. The transport does not survive a fork:
    after the first request of the parent, a child process gets `NotSentError`.

    Args:
        proxy: `http://host:port` of a proxy with a fixed address; the environment is not read.
        ca_file: PEM certificates to trust beside the system's.
        max_connections: requests at once.

    Raises:
        InvalidRequestError: the proxy is none.
    """

    proxy: str | None = field(default=None, converter=check_proxy, repr=False)
    ca_file: str | None = None
    max_connections: int = field(default=64, validator=CONNECTIONS)
    _pools: LoopLocal[_Pool] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pools = LoopLocal(self._lifetime)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send` for the contract."""
        pool = await self._pools.get()
        left = await pool.acquire(timeout.attempt)
        try:
            return await _post(
                _build_request(pool.client(timeout), request, left), _cancellation_check()
            )
        except (DetailedPyreqwestError, RuntimeError) as error:
            failure: BaseException = _map_error(error, name_place(request.url, self.proxy))
        except (WxPayError, asyncio.CancelledError) as error:
            failure = error.with_traceback(None)
        finally:
            pool.permits.release()
        # Raise here and without a cause: reqwest's texts repeat the address, whose query may be
        # signed, and frames below hold parts of the answer.
        raise failure

    async def _lifetime(self) -> AsyncGenerator[_Pool]:
        pool = _Pool(self._build_client, asyncio.Semaphore(self.max_connections))
        try:
            yield pool
        finally:
            await pool.close()

    def _build_client(self, connect: float, read: float) -> Client:
        # Nothing is ever sent twice. By itself hyper repeats only a request of which it had not
        # written anything when a kept-alive connection turned out to be closed; reqwest repeats
        # only what an HTTP/2 server refuses, and HTTP/1 has no such refusal.
        builder = (
            ClientBuilder()
            .http1_only()
            .runtime_multithreaded(enable=False)
            .no_proxy()
            .follow_redirects(enable=False)
            .referer(enable=False)
            .gzip(enable=False)
            .brotli(enable=False)
            .zstd(enable=False)
            .deflate(enable=False)
            .default_headers({"Accept-Encoding": "identity"})
            # Besides our own permits, for requests that were cancelled and still go on.
            .max_connections(self.max_connections)
            .pool_idle_timeout(_span(KEEP_ALIVE))
            .connect_timeout(_span(min(connect, read / 2)))
            .read_timeout(_span(read))
        )
        if self.ca_file is not None:
            tls_context(self.ca_file)  # reqwest takes a file without any certificate
            builder.add_root_certificate_pem(Path(self.ca_file).read_bytes())
        if self.proxy is not None:
            builder.proxy(_proxy(self.proxy))
        try:
            return builder.build()
        except (DetailedPyreqwestError, RuntimeError) as error:
            raise NotSentError("reqwest: no client can be made", retryable=False) from error

    async def aclose(self) -> None:
        """Close this loop's pool; a request that was sent and has no answer yet is in doubt."""
        await self._pools.aclose()


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, _LONGEST))


def _proxy(address: str) -> ProxyBuilder:
    try:
        return ProxyBuilder.all(address)
    except ValueError:
        raise NotSentError("reqwest: not the address of a proxy", retryable=False) from None


def _build_request(client: Client, request: HttpRequest, left: float) -> StreamRequest:
    """Build a request of reqwest, if that sends what was signed."""
    # hyper announces no length of an empty body, and some servers wait for one.
    empty = {} if request.body else {"Content-Length": "0"}
    try:
        return (
            client.post(_address(request))
            .headers({**request.headers, **empty})
            .body_bytes(request.body)
            .timeout(_span(left))
            .streamed_read_buffer_limit(0)  # so that the headers are seen before the body is read
            .build_streamed()
        )
    except ValueError:
        raise NotSentError(_NOT_SENDABLE, retryable=False) from None


def _address(request: HttpRequest) -> Url:
    """Return the address as it is: a target that reqwest would rewrite is not the one signed."""
    url = Url(request.url)
    if str(url) != request.url or "#" in request.url:  # the usual address is not taken apart
        sent = url.path if url.query_string is None else f"{url.path}?{url.query_string}"
        if _ORIGIN.sub("", request.url, count=1) not in {sent, sent.removeprefix("/")}:
            raise ValueError
    return url


def _cancellation_check() -> Callable[[], None]:
    """Return a function that raises a cancellation of the caller which pyreqwest lost.

    When an answer arrives as the caller is cancelled, pyreqwest may drop the cancellation.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0

    def check() -> None:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError

    return check


async def _post(request: StreamRequest, check: Callable[[], None]) -> HttpResponse:
    async with request as response:
        check()
        status = response.status
        found = ((name, _header(response, name)) for name in KEPT_HEADERS)
        kept = {name: value for name, value in found if value}
        body = await _read_capped(response, check)
        if body is None:
            raise MalformedResponseError(f"HTTP {status} with a body of over {MAX_BODY} bytes")
    check()
    return HttpResponse(status, body, kept)


async def _read_capped(response: Response, check: Callable[[], None]) -> bytes | None:
    """Return the body, None if it is too large: the caller raises, and its frame holds no body."""
    length = _header(response, "content-length")
    if length.isdecimal():
        if int(length) > MAX_BODY:
            return None
        if not _header(response, "transfer-encoding"):  # which would overrule the length
            return SecretBytes(await response.bytes())
    body = bytearray()
    while (chunk := await response.body_reader.read_chunk()) is not None:
        check()
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return SecretBytes(body)


def _header(response: Response, name: str) -> str:
    try:
        return response.get_header(name) or ""
    except ValueError:  # not ASCII
        return ""


def _map_error(
    error: DetailedPyreqwestError | RuntimeError, place: str
) -> NotSentError | InDoubtError:
    """Map a failure: not sent only while reqwest was still making a connection."""
    if isinstance(error, PoolTimeoutError):
        return NotSentError(_NO_CONNECTION)
    if isinstance(error, RuntimeError | ClientClosedError | RequestPanicError):
        return InDoubtError(f"reqwest: {type(error).__name__}{place}")
    causes = [cause["message"] for cause in error.details["causes"] or ()]
    last = causes[-1] if causes else ""
    connecting = causes[1:2] == [_CONNECTING]
    step = "Connect" if connecting else "Read"
    reason = f"reqwest: {step}{'Timeout' if last in _TIMED_OUT else 'Error'}{_reason(last)}{place}"
    if connecting:
        return NotSentError(reason, retryable=not any(map(_NOT_RETRYABLE.match, causes[2:])))
    if causes and causes[0].startswith(_BUILDER_FAILED):
        return NotSentError(_NOT_SENDABLE, retryable=False)
    return InDoubtError(reason)


def _reason(cause: str) -> str:
    """Return the system's error name, or the first words: the rest may be the server's text."""
    code = _OS_ERROR.search(cause)
    words = _WORDS.match(cause)
    reason = errno.errorcode.get(int(code[1])) if code else words and words[0].strip()
    return f" ({reason})" if reason else ""
