"""A transport over httpx2, or over httpx if only that is installed (extra `httpx`)."""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from attrs import define, field, frozen

from wxpay_async.adapters.event_loop import LoopLocalValue, run_to_completion
from wxpay_async.adapters.transports.connection import (
    CONNECTIONS,
    KEEP_ALIVE,
    check_proxy,
    name_place,
    os_reason,
    tls_context,
)
from wxpay_async.adapters.transports.watchdog import Timer, Watchdog
from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    WxPayError,
)
from wxpay_async.extras import how_to_install
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.wire import KEPT_HEADERS, MAX_BODY, HttpRequest, HttpResponse, Timeouts

_LIBRARIES: Final = ("httpx2", "httpx")

# What httpcore calls its steps before a request, and those that clean up when a step has failed.
_CONNECTING: Final = frozenset(
    {"connect_tcp", "connect_unix_socket", "setup_socks5_connection", "start_tls"}
)
_CLOSING: Final = frozenset({"close", "response_closed"})
_POOL_SHARE: Final = 0.9
"""Of the attempt's time, for waiting for a connection.

PoolTimeout proves that nothing was sent, so it has to come before the end of the attempt, which
proves nothing.
"""


def _import_library() -> ModuleType:
    for name in _LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(f"this transport needs httpx2 or httpx: {how_to_install('httpx')}")


if TYPE_CHECKING:
    import httpx
    import httpx2

    Client = httpx.AsyncClient | httpx2.AsyncClient
    Response = httpx.Response | httpx2.Response
else:
    httpx = _import_library()


@frozen
class _ErrorClasses:
    """The error classes of httpx2 or of httpx: the same names, but not the same classes."""

    failures: tuple[type[Exception], ...]
    before_sending: tuple[type[Exception], ...]
    not_retryable: tuple[type[Exception], ...]

    @classmethod
    def of(cls, library: ModuleType) -> _ErrorClasses:
        malformed = (library.InvalidURL, library.UnsupportedProtocol)
        connecting = (
            library.ConnectError,
            library.ConnectTimeout,
            library.PoolTimeout,
            library.ProxyError,
        )
        # ValueError: a header or host name that cannot be written; RuntimeError: a closed client.
        return cls(
            failures=(library.HTTPError, library.InvalidURL, OSError, RuntimeError, ValueError),
            before_sending=(*connecting, *malformed),
            not_retryable=(*malformed, library.LocalProtocolError, RuntimeError, ValueError),
        )


def _library_of(client: Client | None) -> ModuleType:
    """Return the library of a client: it may be of httpx while httpx2 is installed too."""
    if client is None:
        return httpx
    for kind in type(client).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in _LIBRARIES:
            return sys.modules[name]
    raise InvalidRequestError("no client of httpx", field="client", allowed="an AsyncClient")


class _Stream(Protocol):
    async def aclose(self) -> None: ...


@define(eq=False)
class _Pool:
    """A client of our own, and the generator that closes it."""

    client: Client
    lifetime: AsyncGenerator[Client]
    users: int = 0
    retired: bool = False
    closed: bool = False

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.lifetime.aclose()


@define(eq=False)
class _Phase:
    """How far one request got, as far as a client tells.

    httpcore reports each step just before it takes it, and when it is done.

    Attributes:
        headers_sent: False while a step is under way, or has failed, that is known to come before
            the request: this proves that nothing of it is out. True for good once its headers are
            written. None otherwise: then the kind of error must be the proof.
    """

    timer: Timer
    read_timeout: float
    pool: _Pool | None = None
    headers_sent: bool | None = None
    tunnel_broke: bool = False
    _stream: _Stream | None = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Record a step, and close what httpcore leaves open."""
        step, _, moment = event.rpartition(".")
        step = step.rpartition(".")[2]
        if step in _CLOSING:
            return
        if moment == "started":
            self._note_start(step, info)
        elif moment == "complete":
            self._note_end(step, info)
        elif step == "start_tls":
            self.tunnel_broke = not event.startswith("connection.")
            if self._stream is not None:  # httpcore leaves it open when the task is cancelled
                await self._stream.aclose()

    def _note_start(self, step: str, info: Mapping[str, Any]) -> None:
        if step == "connect_tcp" and self.pool and self.pool.closed:
            # httpcore opens connections for requests that wait in a pool even after it was closed.
            raise NotSentError("the transport was closed")
        # Through a tunnel, the CONNECT to the proxy is reported like a request.
        tunnel = "request" in info and info["request"].method == b"CONNECT"
        if step == "send_request_headers" and not tunnel:
            if not self.timer.extend(self.read_timeout):
                raise NotSentError("the connection came too late")
            self.headers_sent = True
        elif not self.headers_sent:
            self.headers_sent = False if tunnel or step in _CONNECTING else None

    def _note_end(self, step: str, info: Mapping[str, Any]) -> None:
        if not self.headers_sent:
            self.headers_sent = None
        if step == "connect_tcp":
            self._stream = info["return_value"]


@define(eq=False, kw_only=True)
class HttpxTransport:
    """Sends over one pool of connections, which belongs to the running event loop.

    Making one is pure: the pool opens with the first request, closes with the loop or by
    `aclose`, and opens again in the next loop.

    Args:
        client: use this `AsyncClient`, of httpx2 or httpx, and never close it. Its own settings
            apply for cookies, proxies and certificates.
        proxy: `http://host:port` of a proxy with a fixed address; the environment is not read.
        ca_file: PEM certificates to trust beside the system's.
        max_connections: connections at once.

    Raises:
        InvalidRequestError: the proxy is none, or `client` comes with `proxy` or `ca_file`.
    """

    client: Client | None = None
    proxy: str | None = field(default=None, converter=check_proxy, repr=False)
    ca_file: str | None = None
    max_connections: int = field(default=64, validator=CONNECTIONS)
    _errors: _ErrorClasses = field(init=False, repr=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False, repr=False)
    _pool: _Pool | None = field(default=None, init=False, repr=False)
    _watchdog: LoopLocalValue[Watchdog] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.client is not None and (self.proxy or self.ca_file):
            raise InvalidRequestError(
                "the client that was handed in brings its own", field="proxy, ca_file"
            )
        self._errors = _ErrorClasses.of(_library_of(self.client))
        self._watchdog = LoopLocalValue(lambda: Watchdog(asyncio.get_running_loop()))

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send` for the contract."""
        if not _is_address(request.url):
            raise NotSentError("a malformed address", retryable=False)
        if self.client is None:
            return await self._send_over_own(request, timeout)
        if self.client.is_closed:
            raise NotSentError("the client that was handed in is closed", retryable=False)
        timer = self._watchdog.get().watch(timeout.attempt)
        return await self._post(self.client, request, timeout, _Phase(timer, timeout.read))

    async def _send_over_own(self, request: HttpRequest, timeout: Timeouts) -> HttpResponse:
        pool = await self._pool_of_this_loop()
        timer = self._watchdog.get().watch(timeout.attempt)
        phase = _Phase(timer, timeout.read, pool)
        pool.users += 1
        try:
            return await self._post(pool.client, request, timeout, phase)
        finally:
            pool.users -= 1
            if phase.tunnel_broke:
                # httpcore never gives such a connection's place in its pool back.
                pool.retired = True
            if pool.retired and not pool.users:
                await pool.close()

    async def _post(
        self, client: Client, request: HttpRequest, timeout: Timeouts, phase: _Phase
    ) -> HttpResponse:
        try:
            async with client.stream(
                "POST",
                request.url,
                content=request.body,
                headers={"Accept-Encoding": "identity", **request.headers},
                # The timer limits reading and writing: httpcore's own would throw away an answer
                # that arrived while the process was paused.
                timeout=(timeout.connect, None, None, timeout.attempt * _POOL_SHARE),
                follow_redirects=False,
                extensions={"trace": phase.trace},
            ) as response:
                found = ((name, response.headers.get(name, "")) for name in KEPT_HEADERS)
                kept = {name: value for name, value in found if value and value.isascii()}
                try:
                    return HttpResponse(response.status_code, await _read(response, phase), kept)
                except (Exception, asyncio.CancelledError):
                    # httpcore leaves a connection open whose closing is cancelled.
                    await run_to_completion(response.aclose())
                    raise
        except self._errors.failures as error:
            failure: BaseException = self._map_error(error, request, sent=phase.headers_sent)
        except asyncio.CancelledError as error:
            if phase.timer.is_cancelled_by_others():
                failure = error.with_traceback(None)
            else:
                cause = TimeoutError() if phase.timer.late else error
                failure = self._map_error(cause, request, sent=phase.headers_sent)
        except WxPayError as error:
            failure = error.with_traceback(None)
        finally:
            phase.timer.stop()
        # Raise here and without a cause: texts and frames below hold the address, whose query may
        # be signed.
        raise failure from None

    def _map_error(
        self, error: BaseException, request: HttpRequest, *, sent: bool | None
    ) -> NotSentError | InDoubtError:
        place = name_place(request.url, self.proxy)
        return _map_error(error, self._errors, place, sent=sent)

    async def _pool_of_this_loop(self) -> _Pool:
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop or self._pool.retired:
            self._loop = loop
            # The loop closes open generators when it shuts down, so a gateway that is never closed
            # leaves no connection behind. LoopLocal does not fit: a retired pool lives on until
            # its last request ends.
            lifetime = self._lifetime()
            self._pool = _Pool(await anext(lifetime), lifetime)
        return self._pool

    async def _lifetime(self) -> AsyncGenerator[Client]:
        context = tls_context(self.ca_file)
        client = httpx.AsyncClient(
            verify=context,
            proxy=self._proxy(context),
            limits=httpx.Limits(max_connections=self.max_connections, keepalive_expiry=KEEP_ALIVE),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
        )
        try:
            yield client
        finally:
            await client.aclose()

    def _proxy(self, context: ssl.SSLContext) -> httpx.Proxy | None:
        if self.proxy is None:
            return None
        secure = urlsplit(self.proxy).scheme == "https"
        return httpx.Proxy(self.proxy, ssl_context=context if secure else None)

    async def aclose(self) -> None:
        """Close this loop's own pool; a client that was handed in stays open."""
        pool, self._pool = self._pool, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.close()
        self._watchdog.get().close()


def _is_address(url: str) -> bool:
    """Refuse what httpx would take: a port out of range ends in an exception group below it."""
    try:
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return True


async def _read(response: Response, phase: _Phase) -> bytes:
    """Read at most `MAX_BODY` bytes; what is left unread closes with the connection."""
    body = await _read_capped(response, phase)
    if body is not None:
        return body
    raise MalformedResponseError(
        f"HTTP {response.status_code} with a body of over {MAX_BODY} bytes"
    )


async def _read_capped(response: Response, phase: _Phase) -> bytes | None:
    """Return the body, None if it is too large: the caller raises, and its frame holds no body."""
    if int(response.headers.get("content-length", 0)) > MAX_BODY:
        return None
    body = bytearray()
    phase.timer.extend(phase.read_timeout)
    async for chunk in response.aiter_raw():
        phase.timer.extend(phase.read_timeout)
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return SecretBytes(body)


def _map_error(
    error: BaseException, classes: _ErrorClasses, place: str, *, sent: bool | None
) -> NotSentError | InDoubtError:
    """Map a failure by its phase, or by the error's class where no phase is known.

    Without the one proof or the other, the request may have been sent.
    """
    if sent is None:
        sent = not isinstance(error, classes.before_sending)
    root = _root(error)
    reason = f"httpx: {type(error).__name__}{os_reason(root)}{place}"
    if sent:
        return InDoubtError(reason)
    broke_off = isinstance(root, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    untrusted = isinstance(root, ssl.SSLError) and not broke_off
    return NotSentError(
        reason, retryable=not (untrusted or isinstance(error, classes.not_retryable))
    )


def _root(error: BaseException) -> BaseException | None:
    """Return the error of the system or of OpenSSL, some levels below."""
    below: BaseException | None = error
    while below is not None and not isinstance(below, OSError):
        below = below.__cause__ or below.__context__
    return below and (below.__cause__ or below)
