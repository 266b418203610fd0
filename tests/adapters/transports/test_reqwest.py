"""Every error class of pyreqwest, and what it must not do to addresses and answers."""

from __future__ import annotations

import traceback

import pytest
from pyreqwest import exceptions

from tests.adapters.transports.failures import catch_failure
from tests.support.server import CALM, QUICK, Act, Listen, Peer, Seen, answer, hang
from wxpay_async.adapters.transports import reqwest
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.errors import Fate, InDoubtError, MalformedResponseError, NotSentError
from wxpay_async.protocol.wire import MAX_BODY, HttpRequest, Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LIES = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def say(*parts: bytes) -> Act:
    """Write something, and close."""

    async def act(peer: Peer, _: Seen) -> bool:
        await peer.send(b"".join(parts))
        return False

    return act


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


def make_error(name: str, *causes: str) -> exceptions.DetailedPyreqwestError:
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
    error = reqwest._map_error(make_error(name, *causes), "")

    expected = Fate.IN_DOUBT if name in WITHOUT_CAUSES else FOR_CERTAIN.get(name, fate)
    assert (expected, True) == (error.fate, error.retryable)
    assert "CANARY" not in str(error)


@pytest.mark.parametrize("proof", ["_CONNECTING", "_BUILDER_FAILED"])
async def test_refused_connection_is_in_doubt_when_rust_words_it_otherwise(
    transport: ReqwestTransport, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    """Without the words that prove it, nothing is taken for unsent; one proof is no other's."""
    monkeypatch.setattr(reqwest, proof, "words of another version")

    error = await catch_failure(transport, "http://127.0.0.1:1/", CALM)

    expected = InDoubtError if proof == "_CONNECTING" else NotSentError
    assert (expected, "ECONNREFUSED" in str(error)) == (type(error), True)


def test_runtime_error_is_in_doubt() -> None:
    """The driver raises a RuntimeError for an inconsistent state of its own."""
    error = reqwest._map_error(RuntimeError("CANARY"), "")

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
        (say(), "ReadError (connection closed before message completed)"),
        (say(b"SIP/2.0 200 OK\r\n\r\n"), "ReadError (invalid HTTP version parsed)"),
        (say(OK[:-1]), "ReadError (end of file before message length reached)"),
        (say(CHUNKED, b"2\r\nab\r\n"), "ReadError (unexpected EOF during chunk size line)"),
        (say(CHUNKED, b"zz\r\n"), "ReadError (Invalid chunk size line: missing size digit)"),
        (hang, "ReadTimeout (operation timed out)"),
    ],
)
async def test_connect_error_of_a_sent_request_is_in_doubt(
    transport: ReqwestTransport, listen: Listen, act: Act, *, said: str
) -> None:
    """The driver calls most of these ConnectError or ConnectTimeoutError; the request arrived."""
    peer = await listen(act)

    error = await catch_failure(transport, f"{peer.url}/?sign=CANARY", QUICK)

    assert (InDoubtError, f"reqwest: {said}, to {peer.url.removeprefix('http://')}") == (
        type(error),
        str(error),
    )
    assert (["/?sign=CANARY"], None) == (peer.targets, error.__context__)


async def test_timeout_in_the_address_is_not_taken_for_a_timeout(
    transport: ReqwestTransport,
) -> None:
    """The driver finds the word in the address and calls a refused connection a timeout."""
    error = await catch_failure(transport, "http://127.0.0.1:1/timeout", CALM)

    assert (Fate.NOT_SENT, "reqwest: ConnectError (ECONNREFUSED), to 127.0.0.1:1") == (
        error.fate,
        str(error),
    )


async def test_connection_that_is_too_slow_for_a_read_is_not_sent(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """The read timeout would hide the phase, so connecting must end before it."""
    peer = await listen(hang)
    times = Timeouts(connect=20, read=2, attempt=20)  # a second between the two, for a busy machine

    error = await catch_failure(transport, peer.url.replace("http", "https"), times)

    assert (Fate.NOT_SENT, "ConnectTimeout" in str(error)) == (error.fate, True)


async def test_attempt_that_ends_while_connecting_is_in_doubt(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """Rust does not tell how far the attempt got."""
    peer = await listen(hang)
    times = Timeouts(connect=20, read=20, attempt=0.2)

    error = await catch_failure(transport, peer.url.replace("http", "https"), times)

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

    error = await catch_failure(transport, peer.url + tail, CALM)

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
    error = await catch_failure(transport, url, CALM)

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
    peer = await listen(say(headers, b"%x\r\n" % size, b"x" * size, b"\r\n0\r\n\r\n"))

    error = await catch_failure(transport, peer.url, CALM)

    assert isinstance(error, MalformedResponseError)


async def test_content_length_that_stands_twice_is_read(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """HTTP allows "2, 2"."""
    peer = await listen(say(OK.replace(b": 2", b": 2, 2")))

    response = await transport.send(HttpRequest(peer.url, b"a=1"), timeout=CALM)

    assert b"ok" == response.body


async def test_no_frame_of_the_module_shows_the_answer_or_the_address(
    transport: ReqwestTransport, listen: Listen
) -> None:
    """Error trackers record the locals of each frame."""
    peer = await listen(say(CHUNKED, b"6\r\nCANARY\r\n", b"zz\r\n"))
    shown = []

    for url in (peer.url, "http://127.0.0.1:1", f"{peer.url}/a/../b"):
        error = await catch_failure(transport, f"{url}?sign=CANARY", QUICK)
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        shown += [str(frame.locals) for frame in frames if frame.filename == reqwest.__file__]

    assert (3, False) == (len(shown), "CANARY" in "".join(shown))
