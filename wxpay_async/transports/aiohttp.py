"""The default transport, over aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Final

import aiohttp
from attrs import define, field, validators
from yarl import URL

from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
)
from wxpay_async.protocol.fields import SecretBytes
from wxpay_async.protocol.wire import KEPT_HEADERS, MAX_BODY, HttpRequest, HttpResponse, Timeouts
from wxpay_async.transports.connection import KEEP_ALIVE, checked_proxy, tls_context, told

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
_HOPELESS: Final = (
    aiohttp.ClientSSLError,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerFingerprintMismatch,
    RuntimeError,
    ValueError,
)


@define(eq=False)
class _Phase:
    """How far one request got; None until aiohttp reports anything.

    aiohttp reports the headers just before it writes them, and does not report those of its own
    CONNECT to a proxy: "not sent" is proof that nothing of the request is out.
    """

    headers_sent: bool | None = None


def _tracer() -> aiohttp.TraceConfig:
    async def started(
        _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestStartParams
    ) -> None:
        context.trace_request_ctx.headers_sent = False

    async def sent(
        _: aiohttp.ClientSession,
        context: SimpleNamespace,
        __: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        context.trace_request_ctx.headers_sent = True

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    trace.on_request_headers_sent.append(sent)
    return trace


@define(eq=False, kw_only=True)
class AiohttpTransport:
    """Sends over one pool of connections, which belongs to the running event loop.

    Making one is pure: the pool opens with the first request, closes with the loop or by
    `aclose`, and opens anew in the next loop.

    Args:
        session: use this session and never close it. Its own settings apply for cookies and
            environment proxies; since its phases cannot be traced, every failure after
            connecting counts as in doubt.
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
    proxy: str | None = field(default=None, converter=checked_proxy, repr=False)
    ca_file: str | None = None
    max_connections: int = field(default=64, validator=validators.ge(1))
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False, repr=False)
    _pool: AsyncGenerator[aiohttp.ClientSession] | None = field(
        default=None, init=False, repr=False
    )
    _own: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        given = [
            name for name in ("session", "connector", "ca_file") if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise InvalidRequestError(
                f"{' and '.join(given)} exclude each other", field=given[-1], allowed="one of them"
            )

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send` for the contract."""
        session, phase = await self._session(), _Phase()
        try:
            return await self._post(session, request, timeout, phase)
        except _FAILURES as error:
            # Without its cause: aiohttp's texts repeat the address, whose query may be signed.
            raise _meaning(error, sent=phase.headers_sent) from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task: a pool that closes cancels those who wait for it.
            raise _meaning(error, sent=phase.headers_sent) from None

    async def _post(
        self,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        timeout: Timeouts,
        phase: _Phase,
    ) -> HttpResponse:
        async with session.post(
            _address(request.url),
            data=request.body,
            headers={"Accept-Encoding": "identity", **request.headers},
            allow_redirects=False,
            auto_decompress=False,
            raise_for_status=False,
            middlewares=(),  # a session's own may send again, which only one layer may
            proxy=self.proxy,
            timeout=aiohttp.ClientTimeout(
                total=timeout.attempt, sock_connect=timeout.connect, sock_read=timeout.read
            ),
            trace_request_ctx=phase,
        ) as response:
            found = ((name, response.headers.get(name, "")) for name in KEPT_HEADERS)
            kept = {name: value for name, value in found if value and value.isascii()}
            return HttpResponse(response.status, await _read(response), kept)

    async def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        given = self.session or self.connector
        if given is not None and (given.closed or getattr(given, "_loop", loop) is not loop):
            raise NotSentError(
                f"the {type(given).__name__} that was handed in is closed or of another event loop",
                retryable=False,
            )
        if self.session is not None:
            return self.session
        if self._own is None or self._loop is not loop or self._own.closed:
            self._loop = loop
            # A generator, because the loop closes those that are open when it shuts down: a
            # gateway that nobody closes then still leaves no connection behind.
            self._pool = self._lifetime()
            self._own = await anext(self._pool)
        return self._own

    async def _lifetime(self) -> AsyncGenerator[aiohttp.ClientSession]:
        session = aiohttp.ClientSession(
            connector=self.connector or self._make_connector(),
            connector_owner=self.connector is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_tracer()],
            trust_env=False,
        )
        try:
            yield session
        finally:
            await session.close()

    def _make_connector(self) -> aiohttp.TCPConnector:
        # Without a file of one's own, aiohttp shares one context among all connectors.
        context = True if self.ca_file is None else tls_context(self.ca_file)
        return aiohttp.TCPConnector(
            limit=self.max_connections, keepalive_timeout=KEEP_ALIVE, ssl=context
        )

    async def aclose(self) -> None:
        """Close the own pool of this loop; a session or connector that was handed in stays open."""
        pool, self._pool, self._own = self._pool, None, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.aclose()


def _address(url: str) -> URL:
    """Return the address as it is: what was signed must not be quoted anew."""
    try:
        return URL(url, encoded=True)
    except ValueError:
        raise NotSentError("a malformed address", retryable=False) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read at most `MAX_BODY` bytes, and close the connection on an answer that has more."""
    body = await _whole(response)
    if body is not None:
        return body
    response.close()
    raise MalformedResponseError(f"HTTP {response.status} with a body of over {MAX_BODY} bytes")


async def _whole(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body, None if it is too large; raised above, where no local holds any of it."""
    if (response.content_length or 0) > MAX_BODY:
        return None
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return SecretBytes(body)


def _meaning(error: BaseException, *, sent: bool | None) -> NotSentError | InDoubtError:
    """Say what a failure means: by the phase, or by the error's class where no phase is known."""
    if sent is None:
        sent = not isinstance(error, _BEFORE_SENDING) or isinstance(
            error, aiohttp.RedirectClientError
        )
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    reason = f"aiohttp: {type(error).__name__}{told(cause)}"
    if sent:
        return InDoubtError(reason)
    return NotSentError(reason, retryable=not isinstance(error, _HOPELESS))
