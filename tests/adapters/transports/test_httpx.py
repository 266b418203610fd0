"""Every error class of httpx2 and httpx, and clients that users pass in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

import httpx
import httpx2
import pytest

import wxpay_async.adapters.transports.httpx as over_httpx
from tests.adapters.transports.failures import expect_doubt, fail_in_handshake
from tests.support.server import CALM, QUICK, Act, Listen, Listener, hang, lose_answer
from wxpay_async.adapters.transports.httpx import HttpxTransport
from wxpay_async.errors import (
    Fate,
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    WxPayError,
)
from wxpay_async.protocol.wire import HttpRequest, Timeouts

NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"}
NOT_RETRYABLE = {"InvalidURL", "UnsupportedProtocol"}
DOUBT = {
    "CloseError",
    "DecodingError",
    "HTTPError",
    "HTTPStatusError",
    "LocalProtocolError",
    "NetworkError",
    "ProtocolError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestError",
    "RequestNotRead",
    "ResponseNotRead",
    "StreamClosed",
    "StreamConsumed",
    "StreamError",
    "TimeoutException",
    "TooManyRedirects",
    "TransportError",
    "WriteError",
    "WriteTimeout",
}
NOT_OF_REQUESTS = {"CookieConflict", "HTTPXDeprecationWarning"}
NEEDS_NOTHING = {"StreamConsumed", "StreamClosed", "ResponseNotRead", "RequestNotRead"}
CLASSES = sorted(NOT_SENT | NOT_RETRYABLE | DOUBT)
REQUEST = HttpRequest("https://platform.example/api?sign=CANARY", b"a=1")


@pytest.fixture(params=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    """Take one of the two libraries."""
    return {"httpx2": httpx2, "httpx": httpx}[request.param]


def example(library: ModuleType, name: str) -> Exception:
    """Make an error of a class."""
    kind = getattr(library, name)
    if name in NEEDS_NOTHING:
        error: Exception = kind()
    elif name == "HTTPStatusError":
        request = library.Request("POST", REQUEST.url)
        error = kind("CANARY", request=request, response=library.Response(500))
    else:
        error = kind("CANARY")
    return error


def client_that_raises(library: ModuleType, error: Exception, *events: str) -> httpx.AsyncClient:
    """Make a client whose network reports some events and then fails."""

    async def handle(request: httpx.Request) -> httpx.Response:
        for event in events:
            await request.extensions["trace"](event, {"request": request})
        raise error

    client: httpx.AsyncClient = library.AsyncClient(transport=library.MockTransport(handle))
    return client


# Every class of error


def test_every_error_class_is_classified(library: ModuleType) -> None:
    """A new error class of a new version fails here until it is classified."""
    errors = {
        name
        for name in library.__all__
        if isinstance(kind := getattr(library, name), type) and issubclass(kind, Exception)
    }
    known = set(CLASSES) | NOT_OF_REQUESTS
    websocket = {name for name in errors if name.startswith(("WebSocket", "SSE"))}

    assert set() == errors - known - websocket


@pytest.mark.parametrize("name", CLASSES)
async def test_error_without_a_phase_is_judged_by_its_class(library: ModuleType, name: str) -> None:
    """A client that reports no step leaves only the class of its error."""
    async with client_that_raises(library, example(library, name)) as client:
        with pytest.raises((NotSentError, InDoubtError)) as caught:
            await HttpxTransport(client=client).send(REQUEST, timeout=CALM)

    expected = Fate.IN_DOUBT if name in DOUBT else Fate.NOT_SENT
    assert (expected, name not in NOT_RETRYABLE) == (caught.value.fate, caught.value.retryable)
    said = f"httpx: {name}, to platform.example:443"
    assert (said, True) == (str(caught.value), caught.value.__suppress_context__)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("events", "fate"),
    [
        (["connection.connect_tcp.started"], Fate.NOT_SENT),
        (["connection.start_tls.started", "connection.start_tls.failed"], Fate.NOT_SENT),
        (["http11.send_request_headers.started"], Fate.IN_DOUBT),
        (["http2.send_request_headers.started", "connection.connect_tcp.started"], Fate.IN_DOUBT),
    ],
)
async def test_error_with_a_phase_is_judged_by_the_phase(
    library: ModuleType, name: str, events: list[str], *, fate: Fate
) -> None:
    """After the headers were sent every error is in doubt; none is while it connects."""
    async with client_that_raises(library, example(library, name), *events) as client:
        with pytest.raises((NotSentError, InDoubtError)) as caught:
            await HttpxTransport(client=client).send(REQUEST, timeout=CALM)

    assert fate == caught.value.fate


# The proof of "not sent"


class Renamed(over_httpx._Phase):
    """What a library that reports other steps amounts to."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Report steps that the transport does not know."""
        await super().trace(event.replace("_", "-"), info)


class Deaf(over_httpx._Phase):
    """What a library that reports no step amounts to."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of nothing."""


class Half(over_httpx._Phase):
    """What a library that only calls the sending of a request otherwise amounts to."""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of every step but that one."""
        if ".send_request" not in event:
            await super().trace(event, info)


class Blind(over_httpx._Phase):
    """Cleans up after the library, and does not know its steps."""

    def _note_start(self, step: str, info: Mapping[str, Any]) -> None:
        """See no step begin."""


@pytest.mark.parametrize("phase", [Renamed, Deaf, Half, Blind])
@pytest.mark.parametrize("act", [lose_answer, hang])
async def test_lost_answer_is_in_doubt_under_a_library_that_reports_other_steps(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, phase: type[over_httpx._Phase], act: Act
) -> None:
    """Whatever is not proven to be unsent may have arrived."""
    monkeypatch.setattr(over_httpx, "_Phase", phase)
    await expect_doubt(HttpxTransport(), listen, act)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [(over_httpx._Phase, NotSentError), (Half, NotSentError), (Blind, InDoubtError)],
)
async def test_attempt_that_ends_in_the_handshake_is_not_sent_if_that_is_proven(
    listen: Listen,
    monkeypatch: pytest.MonkeyPatch,
    phase: type[over_httpx._Phase],
    expected: type[WxPayError],
) -> None:
    """A timeout is of no class that proves anything; only the reported step does."""
    monkeypatch.setattr(over_httpx, "_Phase", phase)
    await fail_in_handshake(HttpxTransport(), listen, expected)


async def test_connection_that_comes_after_the_attempt_is_not_used(
    till: Listener, request_to: HttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause of the process while it connects, nothing is sent: the time is over."""

    class Paused(over_httpx._Phase):
        async def trace(self, event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                time.sleep(0.2)  # noqa: ASYNC251 - holds the loop, as a paused process does
            await super().trace(event, info)

    monkeypatch.setattr(over_httpx, "_Phase", Paused)
    transport = HttpxTransport()

    with pytest.raises(NotSentError, match="too late"):
        await transport.send(request_to, timeout=Timeouts(connect=1, read=1, attempt=0.2))
    await transport.aclose()
    await till.wait_closed()

    assert (1, []) == (till.connections, till.requests)


# Clients that users pass in


async def test_client_is_used_and_never_closed(
    library: ModuleType, till: Listener, request_to: HttpRequest
) -> None:
    """A client of either library works, and stays open after `aclose`."""
    async with library.AsyncClient(trust_env=False) as client:
        transport = HttpxTransport(client=client)
        await transport.send(request_to, timeout=CALM)
        await transport.aclose()
        await transport.send(request_to, timeout=CALM)

        assert (False, 1) == (client.is_closed, till.connections)


async def test_client_of_the_other_library_has_its_errors_mapped(
    library: ModuleType, till: Listener, request_to: HttpRequest
) -> None:
    """Both may be installed; the client's own library raises the errors."""
    till.act = lose_answer

    # A subclass, as observability tools make them.
    own = type("Own", (library.AsyncClient,), {})

    async with own(trust_env=False) as client:
        with pytest.raises(InDoubtError, match="RemoteProtocolError"):
            await HttpxTransport(client=client).send(request_to, timeout=QUICK)


async def test_closed_client_means_not_sent(library: ModuleType, request_to: HttpRequest) -> None:
    """A retry cannot help."""
    client = library.AsyncClient()
    await client.aclose()

    with pytest.raises(NotSentError, match="closed") as caught:
        await HttpxTransport(client=client).send(request_to, timeout=CALM)

    assert not caught.value.retryable


async def test_object_that_is_no_client_is_refused() -> None:
    """Its errors could not be mapped."""
    with pytest.raises(InvalidRequestError, match="client"):
        HttpxTransport(client=cast("httpx.AsyncClient", object()))


@pytest.mark.parametrize("options", [{"proxy": "http://127.0.0.1:1"}, {"ca_file": "ca.pem"}])
async def test_client_excludes_proxy_and_ca_file(options: dict[str, str]) -> None:
    """Settings that cannot be applied are refused, not ignored."""
    async with httpx2.AsyncClient() as client:
        with pytest.raises(InvalidRequestError, match="brings its own"):
            HttpxTransport(client=client, **options)


# The library


async def test_cancellation_while_closing_a_reply_that_is_not_read_closes_the_connection(
    library: ModuleType, request_to: HttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library leaves a connection open whose closing is cancelled."""

    async def give_up(*_: object) -> bytes:
        asyncio.current_task().cancel()
        raise MalformedResponseError("too long")

    monkeypatch.setattr(over_httpx, "_read", give_up)
    async with library.AsyncClient(trust_env=False) as client:
        with pytest.raises(asyncio.CancelledError):
            await HttpxTransport(client=client).send(request_to, timeout=CALM)

        assert [] == client._transport._pool.connections
