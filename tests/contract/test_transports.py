"""The contract of every transport, over a real server: responses, and the fate of each failure."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.transports import QUICK, Certificates, Make, make_request, show_error
from tests.support.server import CALM, Listen, Listener, Peer, Seen
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.errors import InDoubtError, MalformedResponseError, NotSentError, WxPayError
from wxpay_async.hints import find_hint
from wxpay_async.protocol.wire import MAX_BODY, HttpRequest, HttpResponse, Timeouts, Transport

IN_DOUBT = [
    "hang",
    "hang-after-headers",
    "disconnect",
    "reset",
    "reset-in-body",
    "cut",
    "cut-chunked",
    "cut-headers",
    "bad-chunk",
    "bad-length",
    "garbage",
    "drip",
    "endless-hints",
    "long-header",
    "many-headers",
]


BrokenTls = Callable[[str], Awaitable[int]]


@pytest.fixture
async def broken_tls() -> AsyncIterator[BrokenTls]:
    """Open ports that take a TLS hello and then hang, disconnect, reset or answer in plain."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(deed: str) -> int:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(ConnectionError):
                    await reader.read(1)
                    if deed == "plain":
                        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    if deed == "hang":
                        await reader.read()
                if deed == "reset":
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        yield start


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


# Answers


async def test_each_driver_sends_its_own_user_agent(
    transport: Transport, driver: str, server: Listener
) -> None:
    """Otherwise the fallback to httpx could go untested without notice."""
    await transport.send(make_request(server.url), timeout=CALM)

    (agent,) = server.requests[0].header("user-agent")
    assert f"{driver}/" in agent.replace("python-", "")


@pytest.mark.parametrize("status", [200, 201, 301, 400, 404, 407, 429, 500, 502, 599])
async def test_any_status_is_a_response(
    transport: Transport, server: Listener, status: int
) -> None:
    """A transport judges no status; the codec does."""
    response = await transport.send(make_request(f"{server.url}/status/{status}"), timeout=CALM)

    assert status == response.status
    assert b'{"success":true,"data":{}}' == response.body


async def test_target_headers_and_body_are_sent_byte_for_byte(
    transport: Transport, server: Listener
) -> None:
    """They arrive exactly as they were given."""
    query = "bizContent=%7B%22a%22%3A+%22%27~%2F%2B%3D%22%7D&sign=a%2Bb%2F%3D%3d&x=%e4%BD%a0"
    request = make_request(f"{server.url}/api/x?{query}", content_type="text/odd", x_own="1")

    await transport.send(request, timeout=CALM)

    (seen,) = server.requests
    assert b"POST" == seen.head.split(b" ")[0]
    assert f"/api/x?{query}" == seen.target
    assert request.body == seen.body
    assert ["text/odd"] == seen.header("content-type")
    assert ["1"] == seen.header("x-own")


async def test_empty_body_is_sent_with_its_length(transport: Transport, server: Listener) -> None:
    """Parameters in the query leave the body empty, and the length says so."""
    await transport.send(HttpRequest(f"{server.url}/?a=1", b""), timeout=CALM)

    assert ["0"] == server.requests[0].header("content-length")


async def test_only_the_kept_headers_are_returned(transport: Transport, server: Listener) -> None:
    """Date, Location and the sandbox's marker are handed on, under lower-case names."""
    response = await transport.send(make_request(f"{server.url}/headers"), timeout=CALM)

    expected = {"date": "Sun, 22 Nov 2026 00:00:00 GMT", "x-wxpay-sandbox": "1"}
    assert expected == response.headers


async def test_header_that_is_not_ascii_is_dropped(transport: Transport, server: Listener) -> None:
    """A header cannot bring broken text into errors and stores."""
    response = await transport.send(make_request(f"{server.url}/odd-headers"), timeout=CALM)

    assert {} == response.headers


@pytest.mark.parametrize("path", ["until-close", "early-hints"])
async def test_unusual_but_complete_answers_are_read(
    transport: Transport, server: Listener, path: str
) -> None:
    """An HTTP/1.0 answer ends with the connection; a 1xx is not the answer."""
    response = await transport.send(make_request(f"{server.url}/{path}"), timeout=CALM)

    assert HttpResponse(200, b'{"success":true,"data":{}}') == response


@pytest.mark.parametrize("form", ["body", "chunked"])
async def test_body_of_the_cap_is_read(transport: Transport, server: Listener, form: str) -> None:
    """MAX_BODY bytes are not too many."""
    response = await transport.send(make_request(f"{server.url}/{form}/{MAX_BODY}"), timeout=CALM)

    assert MAX_BODY == len(response.body)


@pytest.mark.parametrize("path", [f"body/{MAX_BODY + 1}", f"chunked/{MAX_BODY + 1}", "endless"])
async def test_body_over_the_cap_is_malformed(
    transport: Transport, server: Listener, path: str
) -> None:
    """One byte over the cap is too many, for any framing; so is a body without end."""
    with pytest.raises(MalformedResponseError, match="HTTP 200 with a body of over 1048576 bytes"):
        await transport.send(make_request(f"{server.url}/{path}"), timeout=CALM)


async def test_giant_content_length_is_refused_at_once(
    transport: Transport, server: Listener
) -> None:
    """A Content-Length of 10 GB is refused by the header alone, and no byte is read."""
    with pytest.raises(MalformedResponseError):
        await transport.send(make_request(f"{server.url}/ten-gigabytes"), timeout=CALM)


async def test_compressed_body_is_returned_as_it_is(transport: Transport, server: Listener) -> None:
    """A body of 306 MB unpacked stays compressed, and compression is not requested."""
    response = await transport.send(make_request(f"{server.url}/gzip"), timeout=CALM)

    assert (b"\x1f\x8b", True) == (response.body[:2], len(response.body) < 400_000)
    assert ["identity"] == server.requests[0].header("accept-encoding")


# In doubt


@pytest.mark.parametrize("path", IN_DOUBT)
async def test_failure_after_sending_is_in_doubt(
    transport: Transport, server: Listener, path: str
) -> None:
    """After the request arrived, no failure proves that it was not executed.

    The next request takes a new connection.
    """
    with pytest.raises(InDoubtError) as caught:
        await transport.send(make_request(f"{server.url}/{path}?sign=CANARY"), timeout=QUICK)

    assert caught.value.retryable
    assert 1 == len(server.requests)
    assert "CANARY" not in show_error(caught.value)
    assert 200 == (await transport.send(make_request(server.url), timeout=QUICK)).status
    assert 2 == server.connections


@pytest.mark.parametrize("path", ["hang", "hang-after-headers"])
async def test_read_timeout_works_alone(transport: Transport, server: Listener, path: str) -> None:
    """The attempt's time is not the only limit."""
    timeouts = Timeouts(connect=20, read=0.1, attempt=20)

    with pytest.raises(InDoubtError, match=r"TimeoutError|ReadTimeout"):
        await transport.send(make_request(f"{server.url}/{path}"), timeout=timeouts)


@pytest.mark.parametrize("split", [False, True])
async def test_answer_that_came_during_a_pause_is_read(
    transport: Transport, driver: str, listen: Listen, *, split: bool
) -> None:
    """The loop sleeps beyond every time limit, and the answer lies in the socket when it wakes."""
    size = 10_000 if driver == "reqwest" else 100_000  # Rust reads only the beginning ahead
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()

    async def act(peer: Peer, _: Seen) -> bool:
        await peer.send(head if split else b"")
        if split:
            await asyncio.sleep(0.05)  # the client reads so far
        peer.writer.write(b"x" * size if split else head + b"x" * size)
        time.sleep(0.8)  # noqa: ASYNC251 - holds the loop, as a paused process does
        return True

    server = await listen(act)

    response = await transport.send(
        make_request(server.url), timeout=Timeouts(connect=0.5, read=0.5, attempt=0.7)
    )

    assert (200, size) == (response.status, len(response.body))


async def test_dead_kept_alive_connection_is_in_doubt(
    transport: Transport, server: Listener
) -> None:
    """A server that closes an idle connection while we write may have read the request."""
    await transport.send(make_request(f"{server.url}/second-time-dead"), timeout=CALM)

    with pytest.raises(InDoubtError):
        await transport.send(
            make_request(f"{server.url}/second-time-dead", x_second="1"), timeout=CALM
        )

    assert 1 == server.connections


# Not sent


async def test_refused_connection_is_not_sent(transport: Transport, closed_port: int) -> None:
    """No server listens: nothing arrived, and the call may be retried."""
    with pytest.raises(NotSentError) as caught:
        await transport.send(
            make_request(f"http://127.0.0.1:{closed_port}/?sign=CANARY"), timeout=CALM
        )

    assert caught.value.retryable
    assert "CANARY" not in show_error(caught.value)
    assert f"(ECONNREFUSED), to 127.0.0.1:{closed_port}" in str(caught.value)
    assert "host and port" in find_hint(["NotSentError"], code=None, reason=caught.value.reason).en


async def test_connection_that_takes_too_long_is_not_sent(
    transport: Transport, full_port: int
) -> None:
    """The SYN is dropped: the connect timeout ends the call, long before the attempt's."""
    timeouts = Timeouts(connect=0.1, read=20, attempt=20)

    with pytest.raises(NotSentError, match=r"ConnectionTimeoutError|ConnectTimeout") as caught:
        await transport.send(make_request(f"http://127.0.0.1:{full_port}/"), timeout=timeouts)

    assert caught.value.retryable


async def test_host_without_an_address_is_not_sent(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver knows no such name."""

    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request("http://platform.invalid/?sign=CANARY"), timeout=CALM)

    assert caught.value.retryable
    assert "CANARY" not in show_error(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no-scheme",
        "ftp://127.0.0.1/?sign=CANARY",
        "http:///?sign=CANARY",
        "http://[::1/?sign=CANARY",
        "http://127.0.0.1:port/?sign=CANARY",
        "http://127.0.0.1:99999/?sign=CANARY",
    ],
)
async def test_malformed_address_is_not_sent_and_not_retried(
    transport: Transport, url: str
) -> None:
    """A retry does not help."""
    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request(url), timeout=CALM)

    assert not caught.value.retryable
    assert "CANARY" not in show_error(caught.value)


# TLS


async def test_certificate_of_the_own_authority_is_accepted(
    make: Make, listen: Listen, certificates: Certificates
) -> None:
    """`ca_file` adds an authority."""

    async def act(peer: Peer, _: Seen) -> bool:
        return await peer.answer()

    server = await listen(act, tls=certificates.good)
    transport = make(ca_file=certificates.ca_file)

    assert 200 == (await transport.send(make_request(server.url), timeout=CALM)).status

    await transport.aclose()


@pytest.mark.parametrize(
    "flaw", ["good", "expired", "wrong_host", "unknown_authority", "self_signed"]
)
async def test_bad_certificate_is_not_sent_and_not_retried(
    make: Make, listen: Listen, certificates: Certificates, flaw: str
) -> None:
    """Nothing is sent to a server that cannot prove its identity."""

    async def act(peer: Peer, _: Seen) -> bool:
        return await peer.answer()

    server = await listen(act, tls=getattr(certificates, flaw))
    # A good certificate is bad for a client that does not know its authority.
    transport = make() if flaw == "good" else make(ca_file=certificates.ca_file)

    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request(f"{server.url}/?sign=CANARY"), timeout=CALM)

    assert not caught.value.retryable
    assert [] == server.requests
    assert "CANARY" not in show_error(caught.value)
    await transport.aclose()


async def test_tls_to_a_plain_server_is_not_sent_and_not_retried(
    transport: Transport, broken_tls: BrokenTls
) -> None:
    """The answer is not TLS."""
    port = await broken_tls("plain")

    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request(f"https://127.0.0.1:{port}/"), timeout=CALM)

    assert not caught.value.retryable


@pytest.mark.parametrize("deed", ["hang", "disconnect", "reset"])
async def test_handshake_that_breaks_off_is_not_sent(
    transport: Transport, deed: str, broken_tls: BrokenTls
) -> None:
    """The connection was made, but nothing of the request was sent; the call may be retried."""
    port = await broken_tls(deed)

    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request(f"https://127.0.0.1:{port}/"), timeout=QUICK)

    assert caught.value.retryable


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_ca_file_without_a_certificate_is_not_sent(
    make: Make, tmp_path: Path, content: str | None
) -> None:
    """The first request fails, since making a transport does no I/O."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    transport = make(ca_file=str(path))

    with pytest.raises(NotSentError, match=r"ca\.pem") as caught:
        await transport.send(make_request("https://127.0.0.1:1/"), timeout=CALM)

    assert not caught.value.retryable
    await transport.aclose()


# The transport of tests


@pytest.mark.parametrize("error", [NotSentError("x"), InDoubtError("y")])
async def test_memory_transport_raises_the_scripted_error(error: WxPayError) -> None:
    """A scripted failure is raised as it is."""
    with pytest.raises(type(error)) as caught:
        await MemoryTransport([error]).send(make_request("https://x"), timeout=CALM)

    assert error is caught.value
