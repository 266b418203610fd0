"""The clients under the transport over pyreqwest: cancellation, timeouts, loops and forks."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.adapters.transports.failures import catch_failure
from tests.support.processes import run_python
from tests.support.server import CALM, Listen, Peer, Seen, answer, hang, server_in_a_thread
from wxpay_async.adapters.transports.reqwest import ReqwestTransport
from wxpay_async.errors import Fate
from wxpay_async.protocol.wire import HttpRequest, Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


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

    error = await catch_failure(transport, peer.url, short)
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

    error = await catch_failure(transport, "http://127.0.0.1:1/", CALM)

    assert (Fate.NOT_SENT, False) == (error.fate, error.retryable)
    assert "proxy" in str(error)
    assert "CANARY" not in f"{error} {error.__cause__}"


async def test_missing_system_certificates_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    """On a machine without certificates the error is not retryable."""
    monkeypatch.setenv("SSL_CERT_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path}")

    error = await catch_failure(ReqwestTransport(), "https://127.0.0.1:1/", CALM)

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
        "reqwest: ConnectError (ECONNREFUSED), to 127.0.0.1:1 True",
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
