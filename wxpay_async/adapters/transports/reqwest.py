"""The fastest transport, over pyreqwest (Rust's reqwest): the extra `reqwest`."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from attrs import define, field, validators

from wxpay_async.adapters.event_loop import LoopLocal
from wxpay_async.adapters.transports.connection import KEEP_ALIVE, checked_proxy, tls_context
from wxpay_async.errors import InDoubtError, MalformedResponseError, NotSentError, WxPayError
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
    raise ImportError(
        "this transport needs pyreqwest: pip install 'wxpay-async[reqwest]'"
    ) from error

_LONGEST: Final = 86_400.0  # seconds; Rust's clocks end before a float does
_KINDS: Final = 8  # pairs of connect and read timeouts; all but a few are the same

# What Rust says of an error, outermost first. The second is the step of hyper in which it
# happened, and the only proof of the phase: pyreqwest's classes are guessed from the texts (a
# reset of a request that was sent is a ConnectError), and the first text repeats the address.
_CONNECTING: Final = "client error (Connect)"
_UNBUILT: Final = "builder error"
_TIMED_OUT: Final = ("operation timed out", "deadline has elapsed")

_NO_PLACE: Final = "reqwest: no connection was free in time"
_AS_IT_IS: Final = "reqwest: an address or a header that cannot be sent as it is"

_OS_ERROR: Final = re.compile(r"\(os error ([0-9]+)\)$")
_WORDS: Final = re.compile(r"[A-Za-z :]*")
_HOPELESS: Final = re.compile(r"invalid peer certificate|received (corrupt|fatal|un)|peer (is|mis)")
_ORIGIN: Final = re.compile(r"[a-z]+://[^/?#\\]*", re.IGNORECASE)


@define(eq=False)
class _Pool:
    """The clients of one event loop, and the places that all their requests share.

    reqwest takes its timeouts per client, so there is one for each pair that is asked for.
    """

    build: Callable[[float, float], Client]
    places: asyncio.Semaphore
    clients: dict[tuple[float, float], Client] = field(factory=dict[tuple[float, float], Client])
    closed: bool = False

    def client(self, timeout: Timeouts) -> Client:
        kind = timeout.connect, timeout.read
        found = self.clients.get(kind)
        if found is None:
            if len(self.clients) == _KINDS:
                del self.clients[next(iter(self.clients))]  # what it is sending ends by itself
            found = self.clients[kind] = self.build(*kind)
        return found

    async def enter(self, attempt: float) -> float:
        """Take a place, and return what is left of the attempt's time."""
        if not self.places.locked():
            await self.places.acquire()
            return attempt
        clock = asyncio.get_running_loop().time
        end = clock() + attempt
        try:
            async with asyncio.timeout(attempt):
                await self.places.acquire()
        except TimeoutError:
            raise NotSentError(_NO_PLACE) from None
        left = end - clock()
        if self.closed or left <= 0.0:
            self.places.release()
            raise NotSentError("the transport was closed" if self.closed else _NO_PLACE)
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
    `aclose`, and opens anew in the next loop.

    pyreqwest cannot take back a request whose answer has not begun: when the caller is cancelled,
    or `aclose` is called, it goes on unheard, keeps its place among the connections, and ends
    with the answer, the read timeout or the attempt's time. A connection has to stand within half
    the read timeout, whatever the connect timeout says, since reqwest's clock of the first read
    starts with the request. An attempt whose whole time ends while it connects is in doubt, since
    reqwest does not tell how far it got. None of this survives a fork: a process that forks after
    its first request gets `NotSentError` in the child.

    Args:
        proxy: `http://host:port` of a proxy with a fixed address; the environment is not read.
        ca_file: PEM certificates to trust beside the system's.
        max_connections: requests at once.

    Raises:
        InvalidRequestError: the proxy is none.
    """

    proxy: str | None = field(default=None, converter=checked_proxy, repr=False)
    ca_file: str | None = None
    max_connections: int = field(default=64, validator=validators.ge(1))
    _pools: LoopLocal[_Pool] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pools = LoopLocal(self._lifetime)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send` for the contract."""
        pool = await self._pools.get()
        left = await pool.enter(timeout.attempt)
        try:
            return await _post(_written(pool.client(timeout), request, left), _heeding())
        except (DetailedPyreqwestError, RuntimeError) as error:
            failure: BaseException = _meaning(error)
        except (WxPayError, asyncio.CancelledError) as error:
            failure = error.with_traceback(None)
        finally:
            pool.places.release()
        # Raised out here, without a cause: reqwest's texts repeat the address, whose query may be
        # signed, and frames below hold parts of the answer.
        raise failure

    async def _lifetime(self) -> AsyncGenerator[_Pool]:
        pool = _Pool(self._build, asyncio.Semaphore(self.max_connections))
        try:
            yield pool
        finally:
            await pool.close()

    def _build(self, connect: float, read: float) -> Client:
        # Nothing is ever sent twice: hyper repeats by itself only a request of which it had not
        # begun to write anything when a kept-alive connection turned out to be closed, and
        # reqwest repeats what HTTP/2 servers refuse, which HTTP/1 has no way to say.
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
            # Besides our own places, for those that were cancelled and still go on.
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
        """Close the pool of this loop; what was sent and has no answer yet is in doubt."""
        await self._pools.aclose()


def _span(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, _LONGEST))


def _proxy(address: str) -> ProxyBuilder:
    try:
        return ProxyBuilder.all(address)
    except ValueError:
        raise NotSentError("reqwest: not the address of a proxy", retryable=False) from None


def _written(client: Client, request: HttpRequest, left: float) -> StreamRequest:
    """Return what reqwest will send, if that is what was signed."""
    # Of an empty body hyper does not tell the length, and some servers wait for it.
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
        raise NotSentError(_AS_IT_IS, retryable=False) from None


def _address(request: HttpRequest) -> Url:
    """Return the address as it is: a target that reqwest would write anew was not signed."""
    url = Url(request.url)
    if str(url) != request.url or "#" in request.url:  # the usual address is not taken apart
        sent = url.path if url.query_string is None else f"{url.path}?{url.query_string}"
        if _ORIGIN.sub("", request.url, count=1) not in {sent, sent.removeprefix("/")}:
            raise ValueError
    return url


def _heeding() -> Callable[[], None]:
    """Return what raises a cancellation of the caller that pyreqwest lost.

    When an answer has come too as the caller is cancelled, it tosses a coin.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0

    def heed() -> None:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError

    return heed


async def _post(request: StreamRequest, heed: Callable[[], None]) -> HttpResponse:
    async with request as response:
        heed()
        status = response.status
        found = ((name, _header(response, name)) for name in KEPT_HEADERS)
        kept = {name: value for name, value in found if value}
        body = await _whole(response, heed)
        if body is None:
            raise MalformedResponseError(f"HTTP {status} with a body of over {MAX_BODY} bytes")
    heed()
    return HttpResponse(status, body, kept)


async def _whole(response: Response, heed: Callable[[], None]) -> bytes | None:
    """Return the body, None if it is too large; raised above, where no local holds any of it."""
    length = _header(response, "content-length")
    if length.isdecimal():
        if int(length) > MAX_BODY:
            return None
        if not _header(response, "transfer-encoding"):  # which would overrule the length
            return SecretBytes(await response.bytes())
    body = bytearray()
    while (chunk := await response.body_reader.read_chunk()) is not None:
        heed()
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return SecretBytes(body)


def _header(response: Response, name: str) -> str:
    try:
        return response.get_header(name) or ""
    except ValueError:  # not ASCII
        return ""


def _meaning(error: DetailedPyreqwestError | RuntimeError) -> NotSentError | InDoubtError:
    """Say what a failure means: not sent only where reqwest was still making a connection."""
    if isinstance(error, PoolTimeoutError):
        return NotSentError(_NO_PLACE)
    if isinstance(error, RuntimeError | ClientClosedError | RequestPanicError):
        return InDoubtError(f"reqwest: {type(error).__name__}")
    causes = [cause["message"] for cause in error.details["causes"] or ()]
    last = causes[-1] if causes else ""
    connecting = causes[1:2] == [_CONNECTING]
    step = "Connect" if connecting else "Read"
    reason = f"reqwest: {step}{'Timeout' if last in _TIMED_OUT else 'Error'}{_told(last)}"
    if connecting:
        return NotSentError(reason, retryable=not any(map(_HOPELESS.match, causes[2:])))
    if causes and causes[0].startswith(_UNBUILT):
        return NotSentError(_AS_IT_IS, retryable=False)
    return InDoubtError(reason)


def _told(cause: str) -> str:
    """Return what the system says, or the words at the start: the rest may be anybody's text."""
    code = _OS_ERROR.search(cause)
    words = _WORDS.match(cause)
    said = errno.errorcode.get(int(code[1])) if code else words and words[0].strip()
    return f" ({said})" if said else ""
