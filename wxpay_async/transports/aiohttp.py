"""The default transport, over aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from attrs import define, field

from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
)
from wxpay_async.protocol.wire import KEPT_HEADERS, MAX_BODY, HttpRequest, HttpResponse, Timeouts

KEEP_ALIVE: Final = 15.0
"""Seconds; below any server's, so that a connection is rarely found dead when it is used again."""

_HOPELESS: Final = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, aiohttp.InvalidURL)
_UNSENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)


@define(eq=False)
class _Phase:
    """How far one request got. The headers not being out is the proof that nothing is."""

    headers_sent: bool = False


def _tracer() -> aiohttp.TraceConfig:
    async def note(_: Any, context: Any, __: Any) -> None:  # noqa: ANN401 - aiohttp's signature
        context.trace_request_ctx.headers_sent = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    return trace


def _checked_proxy(proxy: str | None) -> str | None:
    if proxy is not None and urlsplit(proxy).scheme not in {"http", "https"}:
        raise InvalidRequestError("no HTTP proxy", field="proxy", allowed="http://host:port")
    return proxy


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
    """

    session: aiohttp.ClientSession | None = None
    connector: aiohttp.BaseConnector | None = None
    proxy: str | None = field(default=None, converter=_checked_proxy, repr=False)
    ca_file: str | None = None
    max_connections: int = 64
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False, repr=False)
    _pool: AsyncGenerator[aiohttp.ClientSession] | None = field(
        default=None, init=False, repr=False
    )
    _own: aiohttp.ClientSession | None = field(default=None, init=False, repr=False)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Post the request once; see `Transport.send` for the contract."""
        session = await self._session()
        phase = _Phase(headers_sent=session is self.session)
        try:
            return await self._post(session, request, timeout, phase)
        except _HOPELESS as error:
            raise NotSentError(_said(error), retryable=False) from error
        except _UNSENT as error:
            raise NotSentError(_said(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not phase.headers_sent:
                raise NotSentError(_said(error)) from error
            raise InDoubtError(_said(error)) from error

    async def _post(
        self,
        session: aiohttp.ClientSession,
        request: HttpRequest,
        timeout: Timeouts,  # noqa: ASYNC109 - handed on to aiohttp
        phase: _Phase,
    ) -> HttpResponse:
        async with session.post(
            request.url,
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            auto_decompress=False,
            raise_for_status=False,
            proxy=self.proxy,
            timeout=aiohttp.ClientTimeout(
                total=timeout.attempt, sock_connect=timeout.connect, sock_read=timeout.read
            ),
            trace_request_ctx=phase,
        ) as response:
            headers = response.headers
            kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
            return HttpResponse(response.status, await _read(response), kept)

    async def _session(self) -> aiohttp.ClientSession:
        if self.session is not None:
            if self.session.closed:
                raise NotSentError("the session that was handed in is closed", retryable=False)
            return self.session
        loop = asyncio.get_running_loop()
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
        context: ssl.SSLContext | bool = True
        if self.ca_file is not None:
            context = ssl.create_default_context()
            try:
                context.load_verify_locations(cafile=self.ca_file)
            except OSError as error:  # ssl.SSLError is one
                raise NotSentError(
                    f"ca_file: {self.ca_file!r}: {error}", retryable=False
                ) from error
        return aiohttp.TCPConnector(
            limit=self.max_connections, keepalive_timeout=KEEP_ALIVE, ssl=context
        )

    async def aclose(self) -> None:
        """Close the own pool of this loop; a session or connector that was handed in stays open."""
        pool, self._pool, self._own = self._pool, None, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            await pool.aclose()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read at most `MAX_BODY` bytes, and close the connection on an answer that has more."""
    body = bytearray()
    if (response.content_length or 0) <= MAX_BODY:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY:
                break
        else:
            return bytes(body)
    response.close()
    raise MalformedResponseError(f"HTTP {response.status} with a body of over {MAX_BODY} bytes")


def _said(error: BaseException) -> str:
    """Name the failure. The driver's text is left out: it may repeat the address with its query."""
    return f"aiohttp: {type(error).__name__}"
