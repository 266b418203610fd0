"""Send requests over aiohttp: the default transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any, Final, cast

import aiohttp
from aiohttp.connector import Connection
from attrs import define, field, frozen
from yarl import URL

from wxpay_async.adapters.event_loop import LoopLocal
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
from wxpay_async.protocol.secrets import SecretBytes
from wxpay_async.protocol.wire import KEPT_HEADERS, MAX_BODY, HttpRequest, HttpResponse, Timeouts

# Besides its own errors aiohttp lets ValueError (an address or a header that cannot be written) and
# RuntimeError (a session of another loop) through.
_FAILURES: Final = (aiohttp.ClientError, OSError, ValueError, RuntimeError)
_BEFORE_SENDING: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerFingerprintMismatch,
)
_NOT_RETRYABLE: Final = (
    aiohttp.ClientSSLError,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerFingerprintMismatch,
    RuntimeError,
    ValueError,
)


@define(eq=False)
class _Phase:
    """How far one request got, as far as aiohttp tells.

    Attributes:
        headers_sent: None while nothing is known: the kind of error must be the proof then. False
            while the request looks for a connection and has none, which proves that nothing of it
            is out. True for good once it was given one.
    """

    timer: Timer
    read_timeout: float
    headers_sent: bool | None = None

    def note_connecting(self) -> None:
        """Note that the request has no connection, unless it had one before."""
        if self.headers_sent is None:
            self.headers_sent = False

    def note_connected(self) -> bool:
        """Note that the connection stands; the headers go out now if there is time for it."""
        in_time = self.timer.extend(self.read_timeout)
        self.headers_sent = self.headers_sent or in_time
        return in_time


_PHASE: Final = ContextVar[_Phase]("_PHASE")


@frozen(eq=False)
class _Connector:
    """Notes when a request gets its connection; the rest is done by the connector itself.

    The proof of "not sent" is that `connect` was called and has returned nothing. An aiohttp that
    calls another method gets the connector's own, and nothing is proven. aiohttp makes a tunnel
    through a proxy within `connect`. Its own tracing tells the same at a fifth of a call's cost.
    """

    connector: aiohttp.BaseConnector

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever aiohttp asks for
        return getattr(self.connector, name)

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:  # noqa: ANN401 - aiohttp's
        phase = _PHASE.get()
        phase.note_connecting()
        connection = await self.connector.connect(*args, **kwargs)
        if not phase.note_connected():
            connection.close()
            raise TimeoutError  # for aiohttp, which makes it a ConnectionTimeoutError
        return connection


@define(eq=False)
class _Pool:
    """What belongs to one event loop."""

    session: aiohttp.ClientSession
    watchdog: Watchdog


@define(eq=False, kw_only=True)
class AiohttpTransport:
    """Sends over one pool of connections, which belongs to the running event loop.

    Making one is pure: the pool opens with the first request, closes with the loop or by
    `aclose`, and opens again in the next loop.

    Args:
        session: use this session and never close it. Its own settings apply for cookies,
            environment proxies and tracing; since its phases cannot be traced, every failure
            after connecting counts as in doubt.
        connector: use this connector and never close it.
        proxy: `http://host:port` of a proxy with a fixed address; the environment is not read.
        ca_file: PEM certificates to trust beside the system's.
        max_connections: connections at once.

    Raises:
        InvalidRequestError: the proxy is none, or `session`, `connector` and `ca_file` exclude
            each other.
    """

    session: aiohttp.ClientSession | None = None
    connector: aiohttp.BaseConnector | None = None
    proxy: str | None = field(default=None, converter=check_proxy, repr=False)
    ca_file: str | None = None
    max_connections: int = field(default=64, validator=CONNECTIONS)
    _pools: LoopLocal[_Pool] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pools = LoopLocal(self._lifetime)
        given = [
            name for name in ("session", "connector", "ca_file") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise InvalidRequestError(
                f"{' and '.join(given)} exclude each other", field=given[-1], allowed="one of them"
            )

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send` for the contract."""
        self._check_what_was_handed_in()
        pool = await self._pools.get()
        timer = pool.watchdog.watch(timeout.attempt)
        phase = _Phase(timer, timeout.read)
        try:
            return await self._post(pool.session, request, timeout, phase)
        except _FAILURES as error:
            failure: BaseException = _map_error(error, self._name(request), sent=phase.headers_sent)
        except asyncio.CancelledError as error:
            if timer.is_cancelled_by_others():
                failure = error.with_traceback(None)
            else:
                # When it is not late either, a pool was closed, which cancels those that wait.
                cause = TimeoutError() if timer.late else error
                failure = _map_error(cause, self._name(request), sent=phase.headers_sent)
        except WxPayError as error:
            failure = error.with_traceback(None)
        finally:
            timer.stop()
        # Raised out here, without a cause: texts and frames below hold the address, whose query
        # may be signed.
        raise failure from None

    def _name(self, request: HttpRequest) -> str:
        return name_place(request.url, self.proxy)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        timeout: Timeouts,
        phase: _Phase,
    ) -> HttpResponse:
        _PHASE.set(phase)
        address = _address(request.url)
        if address is None:
            raise NotSentError("a malformed address", retryable=False)
        async with session.post(
            address,
            data=aiohttp.BytesPayload(request.body),
            headers={"Accept-Encoding": "identity", **request.headers},
            allow_redirects=False,
            auto_decompress=False,
            raise_for_status=False,
            middlewares=(),  # a session's own may send again, which only one layer may
            proxy=self.proxy,
            timeout=aiohttp.ClientTimeout(
                sock_connect=timeout.connect,
                # Of a session of our own, a sign of life moves the timer on.
                sock_read=None if self.session is None else timeout.read,
            ),
        ) as response:
            headers = response.headers
            kept = {
                name: value
                for name in KEPT_HEADERS
                if (value := headers.get(name)) and value.isascii()
            }
            return HttpResponse(response.status, await _read(response, phase), kept)

    def _check_what_was_handed_in(self) -> None:
        given = self.session or self.connector
        if given is None:
            return
        loop = asyncio.get_running_loop()
        if given.closed or getattr(given, "_loop", loop) is not loop:
            raise NotSentError(
                f"the {type(given).__name__} that was handed in is closed or of another event loop",
                retryable=False,
            )

    async def _lifetime(self) -> AsyncGenerator[_Pool]:
        watchdog = Watchdog(asyncio.get_running_loop())
        session = self.session or self._make_session()
        try:
            yield _Pool(session, watchdog)
        finally:
            watchdog.close()
            if session is not self.session:
                await session.close()

    def _make_session(self) -> aiohttp.ClientSession:
        connector = _Connector(self.connector or self._make_connector())
        session = aiohttp.ClientSession(
            connector=cast(aiohttp.BaseConnector, connector),
            connector_owner=self.connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        # Instrumentation of the whole process hangs itself in here. It would send the merchant's
        # trace context and baggage to the platform, and keep an address that may be signed.
        session.trace_configs.clear()
        return session

    def _make_connector(self) -> aiohttp.TCPConnector:
        # Without a file of one's own, aiohttp shares one context among all connectors.
        context = True if self.ca_file is None else tls_context(self.ca_file)
        return aiohttp.TCPConnector(
            limit=self.max_connections, keepalive_timeout=KEEP_ALIVE, ssl=context
        )

    async def aclose(self) -> None:
        """Close the own pool of this loop; a session or connector that was handed in stays open."""
        await self._pools.aclose()


def _address(url: str) -> URL | None:
    """Return the address as it is, if it is one: what was signed must not be quoted again."""
    try:
        address = URL(url, encoded=True)
        address.port  # noqa: B018 - reading it checks it
    except ValueError:
        return None
    return address


async def _read(response: aiohttp.ClientResponse, phase: _Phase) -> bytes:
    """Read at most `MAX_BODY` bytes, and close the connection on an answer that has more."""
    body = await _read_capped(response, phase)
    if body is not None:
        return body
    response.close()
    raise MalformedResponseError(f"HTTP {response.status} with a body of over {MAX_BODY} bytes")


async def _read_capped(response: aiohttp.ClientResponse, phase: _Phase) -> bytes | None:
    """Return the body, None if it is too large; raised above, where no local holds any of it."""
    if (response.content_length or 0) > MAX_BODY:
        return None
    body = bytearray()
    while not response.content.at_eof():
        phase.timer.extend(phase.read_timeout)
        body += await response.content.readany()
        if len(body) > MAX_BODY:
            return None
    return SecretBytes(body)


def _map_error(
    error: BaseException, place: str, *, sent: bool | None
) -> NotSentError | InDoubtError:
    """Say what a failure means: by the phase, or by the error's class where no phase is known.

    Without the one proof or the other, the request may have been sent.
    """
    if sent is None:
        sent = not isinstance(error, _BEFORE_SENDING) or isinstance(
            error, aiohttp.RedirectClientError
        )
    reason = f"aiohttp: {type(error).__name__}{os_reason(_cause(error))}{place}"
    if sent:
        return InDoubtError(reason)
    return NotSentError(reason, retryable=not isinstance(error, _NOT_RETRYABLE))


def _cause(error: BaseException) -> BaseException:
    """Return the error of the system or of OpenSSL, if it is below."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error  # aiohttp 3.13.0 gives it no os_error
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
