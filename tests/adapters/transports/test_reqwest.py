"""Every error class of pyreqwest, its limits, and what it must not do."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import AsyncIterator

import pytest
from pyreqwest import exceptions

from tests.support.processes import run_python
from tests.support.server import (
    CALM,
    QUICK,
    Act,
    Listen,
    Peer,
    Seen,
    answer,
    hang,
    server_in_a_thread,
)
from wxpay_async.adapters.transports import reqwest
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.errors import Fate, InDoubtError, MalformedResponseError, NotSentError, WxPayError
from wxpay_async.protocol.wire import MAX_BODY, HttpRequest, Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def transport(listen: Listen) -> AsyncIterator[ReqwestTransport]:
    """Make one with defaults, closed before the servers are."""
    del listen
    made = ReqwestTransport()
    yield made
    await made.aclose()


def says(*parts: bytes) -> Act:
    """Write something, and close."""

    async def act(peer: Peer, _: Seen) -> bool:
        await peer.send(b"".join(parts))
        return False

    return act


async def failure(transport: ReqwestTransport, url: str, timeout: Timeouts) -> WxPayError:
    """Return what a request raises."""
    with pytest.raises(WxPayError) as caught:
        await transport.send(HttpRequest(url, b"a=1"), timeout=timeout)
    return caught.value


# Every class of error

RAISED = sorted(
    name
    for name, kind in vars(exceptions).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not name.endswith("_")
)
NEVER = {"PyreqwestError"}  # the root, without details; nothing raises it
FOR_CERTAIN = {"PoolTimeoutError": Fate.NOT_SENT}
WITHOUT_CAUSES = {"ClientClosedError", "RequestPanicError"}
TOP = "error sending request for url (https://h/?sign=CANARY)"


def example(name: str, *causes: str) -> exceptions.DetailedPyreqwestError:
    """Make an error of a class, with what Rust would say of it."""
    details = {
        "causes": [{"message": cause} for cause in causes] or None,
        "status": 500,
        "doc": "CANARY",
        "pos": 0,
    }
    if name == "RequestPanicError":
        details["causes"] = ["CANARY"]  # a panic's causes are texts, against the annotation
    error: exceptions.DetailedPyreqwestError = getattr(exceptions, name)("CANARY", details)
    return error


@pytest.mark.parametrize("name", sorted(set(RAISED) - NEVER))
@pytest.mark.parametrize(
    ("causes", "fate"),
    [
        ((TOP, "client error (Connect)", "tcp connect error"), Fate.NOT_SENT),
        ((TOP, "client error (SendRequest)", "connection error"), Fate.IN_DOUBT),
        ((TOP, "client error (Canceled)", "connection closed"), Fate.IN_DOUBT),
        ((TOP, "operation timed out"), Fate.IN_DOUBT),
        ((TOP, "connection error", "client error (Connect)"), Fate.IN_DOUBT),
        (("client error (Connect)",), Fate.IN_DOUBT),
        ((), Fate.IN_DOUBT),
    ],
)
def test_error_is_judged_by_hyper_s_step_and_not_by_its_class(
    name: str, causes: tuple[str, ...], fate: Fate
) -> None:
    """The driver guesses its classes from texts; only hyper's name of the step is proof."""
    error = reqwest._map_error(example(name, *causes))

    expected = Fate.IN_DOUBT if name in WITHOUT_CAUSES else FOR_CERTAIN.get(name, fate)
    assert (expected, True) == (error.fate, error.retryable)
    assert "CANARY" not in str(error)


@pytest.mark.parametrize("proof", ["_CONNECTING", "_BUILDER_FAILED"])
async def test_refused_connection_is_in_doubt_when_rust_words_it_otherwise(
    transport: ReqwestTransport, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    """Without the words that prove it, nothing is taken for unsent; one proof is no other's."""
    monkeypatch.setattr(reqwest, proof, "words of another version")

    error = await failure(transport, "http://127.0.0.1:1/", CALM)

    expected = InDoubtError if proof == "_CONNECTING" else NotSentError
    assert (expected, "ECONNREFUSED" in str(error)) == (type(error), True)


def test_runtime_error_is_in_doubt() -> None:
    """The driver raises a RuntimeError for an inconsistent state of its own."""
    error = reqwest._map_error(RuntimeError("CANARY"))

    assert (Fate.IN_DOUBT, "reqwest: RuntimeError") == (error.fate, str(error))


def test_every_error_class_is_known() -> None:
    """A new error class of a new version fails here until it is classified."""
    known = {
        "BodyDecodeError",
        "BuilderError",
        "ClientClosedError",
        "ConnectError",
        "ConnectTimeoutError",
        "DecodeError",
        "DetailedPyreqwestError",
        "JSONDecodeError",
        "NetworkError",
        "PoolTimeoutError",
        "PyreqwestError",
        "ReadError",
        "ReadTimeoutError",
        "RedirectError",
        "RequestError",
        "RequestPanicError",
        "RequestTimeoutError",
        "StatusError",
        "TransportError",
        "WriteError",
        "WriteTimeoutError",
    }

    assert known == set(RAISED)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (says(), "ReadError (connection closed before message completed)"),
        (says(b"SIP/2.0 200 OK\r\n\r\n"), "ReadError (invalid HTTP version parsed)"),
        (says(OK[:-1]), "ReadError (end of file before message length reached)"),
        (says(CHUNKED, b"2\r\nab\r\n"), "ReadError (unexpected EOF during chunk size line)"),
        (says(CHUNKED, b"zz\r\n"), "ReadError (Invalid chunk size line: missing size digit)"),
        (hang, "ReadTimeout (operation timed out)"),
    ],
)
async def test_connect_error_of_a_sent_request_is_in_doubt(
    transport: ReqwestTransport, listen: Listen, act: Act, *, said: str
) -> None:
    """The driver calls most of these ConnectError or ConnectTimeoutError; the request arrived."""
    peer = await listen(act)

    error = await failure(transport, f"{peer.url}/?sign=CANARY", QUICK)

    assert (InDoubtError, f"reqwest: {said}") == (type(error), str(error))
    assert (["/?sign=CANARY"], None) == (peer.targets, error.__context__)


async def test_timeout_in_the_address_is_not_taken_for_a_timeout(
    transport: ReqwestTransport,
) -> None:
    """The driver finds the word in the address and calls a refused connection a timeout."""
    error = await failure(transport, "http://127.0.0.1:1/timeout", CALM)

    assert (Fate.NOT_SENT, "reqwest: ConnectError (ECONNREFUSED)") == (error.fate, str(error))


async def test_connection_that_is_too_slow_for_a_read_is_not_sent(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """The read timeout would hide the phase, so connecting must end before it."""
    peer = await listen(hang)
    times = Timeouts(connect=20, read=2, attempt=20)  # a second between the two, for a busy machine

    error = await failure(transport, peer.url.replace("http", "https"), times)

    assert (Fate.NOT_SENT, "ConnectTimeout" in str(error)) == (error.fate, True)


async def test_attempt_that_ends_while_connecting_is_in_doubt(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """Rust does not tell how far the attempt got."""
    peer = await listen(hang)
    times = Timeouts(connect=20, read=20, attempt=0.2)

    error = await failure(transport, peer.url.replace("http", "https"), times)

    assert Fate.IN_DOUBT == error.fate


# Addresses


@pytest.mark.parametrize(
    "tail",
    [
        "/a/../b?sign=CANARY",
        "/a?sign=CAN'ARY",
        "/a?sign=CANARY ",
        "/a?sign=CAN\tARY",
        '/a?sign="CANARY"',
        "/a?sign=\u4f60CANARY",
        "/a?sign=CANARY#part",
        "/a\\b?sign=CANARY",
        "\\a?sign=CANARY",
        "/?sign=CANARY" + "x" * 70_000,
        "/?sign=CANARY\ud800",
    ],
)
async def test_address_that_rust_would_rewrite_is_not_sent(
    transport: ReqwestTransport, listen: Listen, tail: str
) -> None:
    """Rust rewrites some addresses, and the platform would refuse the signature."""
    peer = await listen(answer)

    error = await failure(transport, peer.url + tail, CALM)

    assert (Fate.NOT_SENT, False, []) == (error.fate, error.retryable, peer.targets)
    assert "CANARY" not in str(error)


@pytest.mark.parametrize(
    ("tail", "target"),
    [
        ("", "/"),
        ("?a=1", "/?a=1"),
        ("/?", "/?"),
        ("/%7e%zz/;,:@!$&()*+=~?a=%7B{}|^`[]%e4%BD%A0&b=+/?:@!$()*,;~\\", None),
    ],
)
async def test_odd_address_is_sent_as_it_is(
    transport: ReqwestTransport, listen: Listen, tail: str, target: str | None
) -> None:
    """Only the slash of an empty path is added."""
    peer = await listen(answer)

    await transport.send(HttpRequest(peer.url.upper() + tail, b"a=1"), timeout=CALM)

    assert [target or tail] == peer.targets


@pytest.mark.parametrize("url", ["http:///a", "http:127.0.0.1:1/a", "http:\\\\127.0.0.1:1/a"])
async def test_malformed_address_is_not_repaired(transport: ReqwestTransport, url: str) -> None:
    """A browser would read a host from these."""
    error = await failure(transport, url, CALM)

    assert (Fate.NOT_SENT, False) == (error.fate, error.retryable)


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X Y": "a"}])
async def test_header_that_cannot_be_written_is_not_sent(
    transport: ReqwestTransport, listen: Listen, headers: dict[str, str]
) -> None:
    """A header cannot inject another one."""
    peer = await listen(answer)

    with pytest.raises(NotSentError, match="header") as caught:
        await transport.send(HttpRequest(peer.url, b"a=1", headers), timeout=CALM)

    assert (False, []) == (caught.value.retryable, peer.targets)


async def test_accept_encoding_of_the_request_replaces_the_default(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """The request's header replaces the default and does not stand beside it."""
    peer = await listen(answer)
    request = HttpRequest(peer.url, b"a=1", {"accept-encoding": "gzip"})

    await transport.send(request, timeout=CALM)

    assert (1, True) == (peer.heads[0].count(b"ncoding:"), b"Encoding: gzip\r\n" in peer.heads[0])


# Answers


@pytest.mark.parametrize("headers", [LIES, CHUNKED.replace(b"\r\n\r\n", b"\r\nX: \xe4\r\n\r\n")])
async def test_content_length_beside_chunks_does_not_lift_the_cap(
    transport: ReqwestTransport, listen: Listen, headers: bytes
) -> None:
    """A small Content-Length beside larger chunks does not lift the cap."""
    size = MAX_BODY + 1
    peer = await listen(says(headers, b"%x\r\n" % size, b"x" * size, b"\r\n0\r\n\r\n"))

    error = await failure(transport, peer.url, CALM)

    assert isinstance(error, MalformedResponseError)


async def test_content_length_that_stands_twice_is_read(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """HTTP allows "2, 2"."""
    peer = await listen(says(OK.replace(b": 2", b": 2, 2")))

    response = await transport.send(HttpRequest(peer.url, b"a=1"), timeout=CALM)

    assert b"ok" == response.body


async def test_no_frame_of_the_module_shows_the_answer_or_the_address(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """Error trackers record the locals of each frame."""
    peer = await listen(says(CHUNKED, b"6\r\nCANARY\r\n", b"zz\r\n"))
    shown = []

    for url in (peer.url, "http://127.0.0.1:1", f"{peer.url}/a/../b"):
        error = await failure(transport, f"{url}?sign=CANARY", QUICK)
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        shown += [str(frame.locals) for frame in frames if frame.filename == reqwest.__file__]

    assert (3, False) == (len(shown), "CANARY" in "".join(shown))


# Cancellation


async def test_cancelled_request_keeps_its_connection_until_it_ends(listen: Listen) -> None:
    """The driver cannot cancel it: the next request waits, and the bound on connections holds."""

    async def act(client: Peer, seen: Seen) -> bool:
        return await (hang if len(peer.targets) == 1 else answer)(client, seen)

    peer = await listen(act)
    times = Timeouts(connect=0.5, read=0.5, attempt=20)
    transport = ReqwestTransport(max_connections=1)
    first = asyncio.create_task(transport.send(HttpRequest(peer.url, b"a=1"), timeout=times))
    await peer.until(lambda: len(peer.targets) == 1)
    first.cancel()
    await asyncio.wait([first])

    second = await transport.send(HttpRequest(peer.url, b"a=1"), timeout=times)
    await transport.aclose()

    assert (True, 200, 1) == (first.cancelled(), second.status, peer.peak)


async def test_timeout_behind_a_cancelled_request_is_not_sent(listen: Listen) -> None:
    """A request that waits too long for a connection was not sent."""
    peer = await listen(hang)
    long, short = (Timeouts(connect=1, read=1, attempt=attempt) for attempt in (20, 0.1))
    transport = ReqwestTransport(max_connections=1)
    first = asyncio.create_task(transport.send(HttpRequest(peer.url, b"a=1"), timeout=long))
    await peer.until(lambda: len(peer.targets) == 1)
    first.cancel()
    await asyncio.wait([first])

    error = await failure(transport, peer.url, short)
    await transport.aclose()
    await peer.until(lambda: peer.open == 0)

    assert (Fate.NOT_SENT, True, ["/"]) == (error.fate, error.retryable, peer.targets)


@pytest.mark.parametrize(
    ("begin", "rest"),
    [(b"", OK), (b"", CHUNKED), (CHUNKED, b"1\r\nx\r\n"), (OK[:-1], OK[-1:])],
)
async def test_cancellation_that_meets_the_answer_is_not_lost(
    transport: ReqwestTransport, listen: Listen, begin: bytes, rest: bytes
) -> None:
    """Without the check of the transport half of these tasks would go on."""

    async def act(client: Peer, _: Seen) -> bool:
        await client.send(begin)
        await asyncio.sleep(0.01)  # the client reads so far
        client.writer.write(rest)
        time.sleep(0.01)  # noqa: ASYNC251 - both come before the client's loop can look
        task.cancel()
        return False

    peer = await listen(act)
    ended = []
    for _ in range(12):
        task = asyncio.create_task(transport.send(HttpRequest(peer.url, b"a=1"), timeout=CALM))
        await asyncio.wait([task])
        ended.append(task.cancelled())

    assert [True] * 12 == ended


async def test_earlier_cancellation_does_not_end_a_later_request(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """A task that was cancelled and cleans up may still send."""
    peer = await listen(answer)

    async def clean_up() -> int:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            request = HttpRequest(peer.url, b"a=1")
            return (await transport.send(request, timeout=CALM)).status
        return 0

    task = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    task.cancel()

    assert 200 == await task


# The clients


async def test_each_pair_of_timeouts_has_a_client_and_only_a_few_are_kept(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """Rust sets timeouts per client: nine pairs work, and the client of the first pair is gone."""
    peer = await listen(answer)
    request = HttpRequest(peer.url, b"a=1")

    for seconds in (*range(20, 29), 28):
        await transport.send(request, timeout=Timeouts(connect=20, read=seconds, attempt=20))

    await peer.until(lambda: peer.open == 8)
    assert (9, 10) == (peer.connections, len(peer.targets))


async def test_timeouts_beyond_rust_s_clock_are_accepted(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """A float holds more seconds than a timedelta does."""
    peer = await listen(answer)
    times = Timeouts(connect=1e300, read=1e300, attempt=1e300)

    response = await transport.send(HttpRequest(peer.url, b"a=1"), timeout=times)

    assert 200 == response.status


async def test_proxy_that_rust_cannot_parse_is_not_sent() -> None:
    """The first request fails, and the error does not show the password."""
    transport = ReqwestTransport(proxy="http://user:CANARY@a b:1")

    error = await failure(transport, "http://127.0.0.1:1/", CALM)

    assert (Fate.NOT_SENT, False) == (error.fate, error.retryable)
    assert "proxy" in str(error)
    assert "CANARY" not in f"{error} {error.__cause__}"


async def test_missing_system_certificates_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    """On a machine without certificates the error is not retryable."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}")

    error = await failure(ReqwestTransport(), "https://127.0.0.1:1/", CALM)

    assert (Fate.NOT_SENT, False) == (error.fate, error.retryable)
    assert "no client can be made" in str(error)


def test_connections_are_counted_per_loop() -> None:
    """Requests queue for one connection in one loop after another."""
    transport = ReqwestTransport(max_connections=1)

    async def three(origin: str) -> list[int]:
        request = HttpRequest(origin, b"a=1")
        replies = await asyncio.gather(*(transport.send(request, timeout=CALM) for _ in "123"))
        return [reply.status for reply in replies]

    with server_in_a_thread() as origin:
        statuses = asyncio.run(three(origin)) + asyncio.run(three(origin))

    assert [200] * 6 == statuses


FORK = """
import asyncio, os
from wxpay_async.errors import NotSentError
from wxpay_async.protocol.wire import HttpRequest, Timeouts
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
transport = ReqwestTransport()

async def main():
    try:
        await transport.send(HttpRequest("http://127.0.0.1:1/", b""), timeout=Timeouts())
    except NotSentError as error:
        print(error, error.retryable, flush=True)

asyncio.run(main())
if not os.fork():
    asyncio.run(main())
    os._exit(0)
os.wait()
os._exit(0)  # once in about seventy times the driver's thread aborts a process that winds down
"""


def test_forked_child_sends_nothing_and_does_not_hang() -> None:
    """The driver's thread stays with the parent; the child gets an error."""
    result = run_python(FORK)

    assert [
        "reqwest: ConnectError (ECONNREFUSED) True",
        "reqwest: no client can be made False",
    ] == result.stdout.splitlines()
    assert 0 == result.returncode


def test_only_its_own_module_imports_the_library() -> None:
    """Neither the package nor its default transport imports it."""
    script = (
        "import sys, wxpay_async, wxpay_async.adapters.transports.aiohttp\n"
        "import wxpay_async.engine.environment\n"
        "print('pyreqwest' in sys.modules)"
    )

    assert "False\n" == run_python(script).stdout
