"""What each error of aiohttp means, and how sessions and connectors of others are used."""

from __future__ import annotations

import asyncio
import inspect
import re
import ssl
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aioresponses import aioresponses
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tests.adapters.transports.failures import expect_doubt, fail_in_handshake
from tests.support.server import CALM, QUICK, Act, Listen, Listener, hang, lose_answer
from wxpay_async.adapters.transports import aiohttp as aiohttp_transport
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.errors import Fate, InDoubtError, InvalidRequestError, NotSentError, WxPayError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

ADDRESS = "https://platform.example/api"
REQUEST = HttpRequest(f"{ADDRESS}?sign=CANARY", b"a=1")
ENDPOINT = f"{ADDRESS}?sign=CANARY"

_KEY = ConnectionKey(
    host="platform.example",
    port=443,
    is_ssl=True,
    ssl=True,
    proxy=None,
    proxy_auth=None,
    proxy_headers_hash=None,
)
_INFO = aiohttp.RequestInfo(URL(ENDPOINT), "POST", CIMultiDictProxy(CIMultiDict()), URL(ENDPOINT))
_REFUSED = ConnectionRefusedError(111, "CANARY")
_UNTRUSTED = ssl.SSLCertVerificationError(1, "CANARY")

# Younger than the oldest aiohttp that is supported.
UploadAborted = getattr(client_exceptions, "UploadAbortedError", aiohttp.ClientError)

NOT_SENT, NEVER, DOUBT = "not sent", "not sent, hopeless", "in doubt"

# What each class of aiohttp means where no phase is known, and one error of it.
CLASSES: dict[str, tuple[str, Exception]] = {
    "ClientError": (DOUBT, aiohttp.ClientError("CANARY")),
    "ClientConnectionError": (DOUBT, aiohttp.ClientConnectionError("CANARY")),
    "ClientConnectionResetError": (DOUBT, aiohttp.ClientConnectionResetError("CANARY")),
    "ClientOSError": (DOUBT, aiohttp.ClientOSError(104, "CANARY")),
    "ClientConnectorError": (NOT_SENT, aiohttp.ClientConnectorError(_KEY, _REFUSED)),
    "ClientProxyConnectionError": (NOT_SENT, aiohttp.ClientProxyConnectionError(_KEY, _REFUSED)),
    "ClientSSLError": (NEVER, aiohttp.ClientSSLError(_KEY, _REFUSED)),
    "ClientConnectorDNSError": (NOT_SENT, aiohttp.ClientConnectorDNSError(_KEY, _REFUSED)),
    "ClientConnectorSSLError": (NEVER, aiohttp.ClientConnectorSSLError(_KEY, ssl.SSLError(1, "x"))),
    "ClientConnectorCertificateError": (
        NEVER,
        aiohttp.ClientConnectorCertificateError(_KEY, _UNTRUSTED),
    ),
    "ConnectionTimeoutError": (NOT_SENT, aiohttp.ConnectionTimeoutError("CANARY")),
    "SocketTimeoutError": (DOUBT, aiohttp.SocketTimeoutError("CANARY")),
    "ServerConnectionError": (DOUBT, aiohttp.ServerConnectionError("CANARY")),
    "ServerTimeoutError": (DOUBT, aiohttp.ServerTimeoutError("CANARY")),
    "ServerDisconnectedError": (DOUBT, aiohttp.ServerDisconnectedError("CANARY")),
    "ServerFingerprintMismatch": (
        NEVER,
        aiohttp.ServerFingerprintMismatch(b"a", b"b", "platform.example", 443),
    ),
    "ClientResponseError": (DOUBT, aiohttp.ClientResponseError(_INFO, ())),
    "ClientHttpProxyError": (NOT_SENT, aiohttp.ClientHttpProxyError(_INFO, (), status=407)),
    "WSServerHandshakeError": (DOUBT, aiohttp.WSServerHandshakeError(_INFO, ())),
    "ContentTypeError": (DOUBT, aiohttp.ContentTypeError(_INFO, ())),
    "ClientPayloadError": (DOUBT, aiohttp.ClientPayloadError("CANARY")),
    "UploadAbortedError": (DOUBT, UploadAborted("CANARY")),
    "InvalidURL": (NEVER, aiohttp.InvalidURL(ENDPOINT)),
    "InvalidUrlClientError": (NEVER, aiohttp.InvalidUrlClientError(ENDPOINT)),
    "RedirectClientError": (DOUBT, aiohttp.RedirectClientError("CANARY")),
    "NonHttpUrlClientError": (NEVER, aiohttp.NonHttpUrlClientError(ENDPOINT)),
    "InvalidUrlRedirectClientError": (DOUBT, aiohttp.InvalidUrlRedirectClientError(ENDPOINT)),
    "NonHttpUrlRedirectClientError": (DOUBT, aiohttp.NonHttpUrlRedirectClientError(ENDPOINT)),
}
NOT_OF_HTTP = {"WSMessageTypeError"}  # a TypeError about the messages of a WebSocket

OTHERS: dict[str, tuple[str, Exception]] = {
    "TimeoutError": (DOUBT, TimeoutError("CANARY")),
    "OSError": (DOUBT, OSError(5, "CANARY")),
    "ConnectionResetError": (DOUBT, ConnectionResetError(104, "CANARY")),
    "BrokenPipeError": (DOUBT, BrokenPipeError(32, "CANARY")),
    "SSLError": (DOUBT, ssl.SSLError(1, "CANARY")),
    "RuntimeError": (DOUBT, RuntimeError("CANARY")),
    "ValueError": (DOUBT, ValueError("CANARY")),
}
ALL = {**CLASSES, **OTHERS}


class Response(aiohttp.ClientResponse):
    """What aioresponses builds, with the `stream_writer` that aiohttp asks for since 3.14."""

    def __init__(self, method: str, url: URL, **kwargs: object) -> None:
        if "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters:
            kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        make: Callable[..., None] = super().__init__  # aioresponses knows what it takes
        make(method, url, **kwargs)


class Scripted(aioresponses):
    """aioresponses whose answers are built by `Response`."""

    def post(self, url: str, **kwargs: object) -> None:
        """Answer one POST."""
        kwargs.setdefault("response_class", Response)
        super().post(url, **kwargs)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """Put scripted answers in the place of aiohttp's network."""
    with Scripted() as answers:
        yield answers


def describe(error: WxPayError) -> str:
    """Describe an error in the words of the tables above."""
    if error.fate is Fate.IN_DOUBT:
        return DOUBT
    return NOT_SENT if error.retryable else NEVER


async def catch_failure(transport: AiohttpTransport, timeouts: Timeouts) -> WxPayError:
    """Send, and return what is raised."""
    with pytest.raises(WxPayError) as caught:
        await transport.send(REQUEST, timeout=timeouts)
    await transport.aclose()
    return caught.value


# Every class of error


def test_table_has_every_class_of_aiohttp() -> None:
    """A new aiohttp with a new error fails here until the table has it."""
    assert set() == set(client_exceptions.__all__) - set(CLASSES) - NOT_OF_HTTP


@pytest.mark.parametrize("name", CLASSES)
def test_table_has_an_error_of_each_class(name: str) -> None:
    """As far as this aiohttp has the class."""
    expected = getattr(client_exceptions, name, aiohttp.ClientError)

    assert expected is type(CLASSES[name][1])


@pytest.mark.parametrize("name", ALL)
async def test_error_without_a_phase_is_judged_by_its_class(name: str, scripted: Scripted) -> None:
    """Scripted answers and sessions of others report no phase: only what is sure is not sent."""
    expected, error = ALL[name]
    scripted.post(ENDPOINT, exception=error)
    scripted.post(ENDPOINT, exception=error)

    async with aiohttp.ClientSession() as session:
        theirs = await catch_failure(AiohttpTransport(session=session), CALM)
    ours = await catch_failure(AiohttpTransport(), CALM)

    assert (expected, expected) == (describe(theirs), describe(ours))
    assert "CANARY" not in f"{theirs} {theirs!r} {ours} {ours!r}"
    assert theirs.__suppress_context__
    assert f"aiohttp: {type(error).__name__}" == re.split(r" \(|, to ", str(theirs))[0]


@pytest.mark.parametrize("headers_sent", [False, True])
@pytest.mark.parametrize("name", ALL)
async def test_error_with_a_phase_is_judged_by_the_phase(
    name: str, scripted: Scripted, *, headers_sent: bool
) -> None:
    """The steps of our own session's requests, taken by hand: once the headers are out, doubt."""
    transport = AiohttpTransport()
    error = ALL[name][1]

    async def steps(_: URL, **__: object) -> None:
        phase = aiohttp_transport._PHASE.get()
        phase.note_connecting()
        if headers_sent:
            phase.note_connected()
            phase.note_connecting()  # for another attempt: that takes nothing back

    scripted.post(ENDPOINT, exception=error, callback=steps)

    raised = await catch_failure(transport, CALM)

    assert (Fate.IN_DOUBT if headers_sent else Fate.NOT_SENT) == raised.fate
    kinds = (RuntimeError, ValueError, aiohttp.NonHttpUrlClientError)
    hopeless = ALL[name][0] == NEVER or isinstance(error, kinds)
    assert headers_sent or hopeless is not raised.retryable


async def test_scripted_answer_is_read(scripted: Scripted) -> None:
    """Users may test with aioresponses."""
    scripted.post(ENDPOINT, status=502, body=b"<html>", headers={"Date": "now", "X-Other": "1"})
    transport = AiohttpTransport()

    response = await transport.send(REQUEST, timeout=CALM)
    await transport.aclose()

    assert HttpResponse(502, b"<html>", {"date": "now"}) == response


async def test_type_error_is_raised_as_it_is(scripted: Scripted) -> None:
    """A defect is no failure of the network."""
    scripted.post(ENDPOINT, exception=TypeError("bug"))
    transport = AiohttpTransport()

    with pytest.raises(TypeError, match="bug"):
        await transport.send(REQUEST, timeout=CALM)
    await transport.aclose()


# When the headers count as sent


async def test_connection_is_reported_before_a_byte_is_written(
    till: Listener, request_to: HttpRequest
) -> None:
    """The proof of "not sent" rests on aiohttp's order: first `connect` returns, then it writes."""
    order: list[str] = []

    class Slow(aiohttp.TCPConnector):
        async def connect(self, *args: Any, **kwargs: Any) -> Connection:  # noqa: ANN401 - aiohttp's own signature
            connection = await super().connect(*args, **kwargs)
            await asyncio.sleep(0.01)  # whatever was written before would arrive by now
            phase = aiohttp_transport._PHASE.get()
            order.append(f"{phase.headers_sent}, {len(till.heads)} arrived")
            return connection

    async with Slow() as connector:
        transport = AiohttpTransport(connector=connector)
        await transport.send(request_to, timeout=CALM)
        await transport.aclose()

    assert (["False, 0 arrived"], 1) == (order, len(till.heads))


@pytest.mark.parametrize("act", [lose_answer, hang])
async def test_lost_answer_is_in_doubt_under_an_aiohttp_that_calls_other_methods(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    """Whatever is not proven to be unsent may have arrived."""
    monkeypatch.delattr(aiohttp_transport._Connector, "connect")
    await expect_doubt(AiohttpTransport(), listen, act)


@pytest.mark.parametrize(("removed", "expected"), [(False, NotSentError), (True, InDoubtError)])
async def test_attempt_that_ends_in_the_handshake_is_not_sent_if_that_is_proven(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, expected: type[WxPayError], *, removed: bool
) -> None:
    """A timeout is of no class that proves anything; only `connect` knows the phase."""
    if removed:
        monkeypatch.delattr(aiohttp_transport._Connector, "connect")
    await fail_in_handshake(AiohttpTransport(), listen, expected)


async def test_connection_that_comes_after_the_attempt_is_not_used(
    till: Listener, request_to: HttpRequest
) -> None:
    """After a pause of the process while it connects, nothing is sent: the time is over."""

    class Paused(aiohttp.TCPConnector):
        async def connect(self, *args: Any, **kwargs: Any) -> Connection:  # noqa: ANN401 - aiohttp's own signature
            connection = await super().connect(*args, **kwargs)
            time.sleep(0.2)  # noqa: ASYNC251 - holds the loop, as a paused process does
            return connection

    async with Paused() as connector:
        transport = AiohttpTransport(connector=connector)
        with pytest.raises(NotSentError, match="TimeoutError"):
            await transport.send(request_to, timeout=Timeouts(connect=1, read=1, attempt=0.2))
        await transport.aclose()
        await till.wait_closed()

    assert (1, []) == (till.connections, till.requests)


async def test_header_that_cannot_be_written_is_in_doubt(till: Listener) -> None:
    """A line break in a header is refused by aiohttp after its report; no other error is raised."""
    transport = AiohttpTransport()
    request = HttpRequest(till.url, b"a=1", {"X-Odd": "a\r\nb: c"})

    with pytest.raises(InDoubtError, match="aiohttp: ValueError"):
        await transport.send(request, timeout=CALM)
    await transport.aclose()

    assert [] == till.heads


# Instrumentation of the whole process


async def test_instrumentation_sends_nothing_to_the_platform(
    till: Listener, request_to: HttpRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What adds itself to every new session, as OpenTelemetry does, stays out of ours."""
    plain = aiohttp.ClientSession.__init__

    async def inject(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        params.headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        params.headers["baggage"] = "user=openid-0123456789"

    def instrument(self: aiohttp.ClientSession, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's own signature
        config = aiohttp.TraceConfig()
        config.on_request_start.append(inject)
        plain(self, **kwargs, trace_configs=[config])

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrument)
    async with aiohttp.ClientSession() as session, session.post(request_to.url, data=b"a=1"):
        pass
    transport = AiohttpTransport()
    await transport.send(request_to, timeout=CALM)
    await transport.aclose()

    assert [True, False] == [b"baggage" in head or b"traceparent" in head for head in till.heads]


# Sessions and connectors of others


async def test_session_is_used_and_never_closed(till: Listener, request_to: HttpRequest) -> None:
    """What was handed in stays open after `aclose`, and can be used on."""
    async with aiohttp.ClientSession() as session:
        transport = AiohttpTransport(session=session)
        await transport.send(request_to, timeout=CALM)
        await transport.aclose()
        await transport.send(request_to, timeout=CALM)

        assert (False, 1) == (session.closed, till.connections)


async def test_connector_is_used_and_never_closed(till: Listener, request_to: HttpRequest) -> None:
    """The session around it is ours, without cookies; the connector is not."""
    async with aiohttp.TCPConnector() as connector:
        transport = AiohttpTransport(connector=connector)
        await transport.send(request_to, timeout=CALM)
        await transport.aclose()
        await transport.send(request_to, timeout=CALM)
        await transport.aclose()

        assert (False, 1) == (connector.closed, till.connections)
        assert all(b"Cookie" not in head for head in till.heads)


async def test_session_does_not_bring_its_settings(till: Listener) -> None:
    """Raising for a status, unpacking and sending again are off for our requests."""
    sent: list[str] = []

    async def twice(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        sent.append("again")
        await handler(request)
        return await handler(request)

    async with aiohttp.ClientSession(raise_for_status=True, middlewares=[twice]) as session:
        transport = AiohttpTransport(session=session)
        await transport.send(HttpRequest(till.url, b"a=1"), timeout=CALM)

    assert ([], 1) == (sent, len(till.heads))
    assert b"Accept-Encoding: identity" in till.heads[0]


async def test_closed_session_means_not_sent(request_to: HttpRequest) -> None:
    """Sending over it cannot help, now or later."""
    session = aiohttp.ClientSession()
    await session.close()

    with pytest.raises(NotSentError, match="closed") as caught:
        await AiohttpTransport(session=session).send(request_to, timeout=CALM)

    assert not caught.value.retryable


async def test_session_under_a_dead_server_is_in_doubt(
    till: Listener, request_to: HttpRequest
) -> None:
    """Without our traces a read timeout is a doubt like any other."""
    till.act = hang

    async with aiohttp.ClientSession() as session:
        with pytest.raises(InDoubtError):
            await AiohttpTransport(session=session).send(request_to, timeout=QUICK)


def test_connector_of_another_loop_means_not_sent() -> None:
    """The error says so at the first request."""
    made: list[aiohttp.TCPConnector] = []

    async def make() -> None:
        made.append(aiohttp.TCPConnector())

    async def use() -> None:
        with pytest.raises(NotSentError, match="event loop") as caught:
            await AiohttpTransport(connector=made[0]).send(REQUEST, timeout=CALM)
        assert not caught.value.retryable

    asyncio.run(make())
    asyncio.run(use())


async def test_close_of_their_connector_is_no_cancellation(
    till: Listener, request_to: HttpRequest
) -> None:
    """Aiohttp cancels those that wait for a connection; they get an error all the same."""
    till.act = hang
    connector = aiohttp.TCPConnector(limit=1)
    transport = AiohttpTransport(connector=connector)
    first = asyncio.create_task(transport.send(request_to, timeout=CALM))
    await till.arrived.wait()
    second = asyncio.create_task(transport.send(request_to, timeout=CALM))
    await asyncio.sleep(0.01)

    await connector.close()

    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [InDoubtError, NotSentError] == [type(result) for result in results]
    await transport.aclose()


async def test_options_that_exclude_each_other_are_refused() -> None:
    """A session brings its connector, and a connector its certificates: no silent choice."""
    async with aiohttp.ClientSession() as session, aiohttp.TCPConnector() as connector:
        for options in (
            {"session": session, "connector": connector},
            {"session": session, "ca_file": "ca.pem"},
            {"connector": connector, "ca_file": "ca.pem"},
        ):
            with pytest.raises(InvalidRequestError, match="exclude each other"):
                AiohttpTransport(**options)
