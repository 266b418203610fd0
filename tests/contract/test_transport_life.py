"""The life of a transport: pools, cancellation, closing, event loops."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.contract.transports import QUICK, Certificates, Make, make_request
from tests.support.server import CALM, Listen, Listener, Peer, Seen, server_in_a_thread
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.protocol.wire import Timeouts, Transport

TWO_LOOPS = """
import asyncio, sys
from wxpay_async.protocol.wire import HttpRequest, Timeouts
{load}
transport = T(ca_file=sys.argv[2] or None)

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a slow machine is no fault
    requests = [HttpRequest(sys.argv[1], b"a=1") for _ in range(3)]
    answers = await asyncio.gather(*(transport.send(r, timeout=Timeouts()) for r in requests))
    assert [200] * 3 == [answer.status for answer in answers]

asyncio.run(main())
asyncio.run(main())
print("done")
"""

LOAD = {
    "aiohttp": "from wxpay_async.adapters.transports.aiohttp import AiohttpTransport as T",
    "httpx2": "from wxpay_async.adapters.transports.httpx import HttpxTransport as T",
    "httpx": "sys.modules['httpx2'] = None\n"
    "from wxpay_async.adapters.transports.httpx import HttpxTransport as T",
    "reqwest": "from wxpay_async.adapters.transports.reqwest import ReqwestTransport as T",
}


async def serve(peer: Peer, _: Seen) -> bool:
    """Answer any request."""
    return await peer.answer()


# Pools


async def test_hundred_requests_take_one_connection(transport: Transport, server: Listener) -> None:
    """There is one pool, and it keeps connections alive."""
    for _ in range(100):
        await transport.send(make_request(server.url), timeout=CALM)

    assert (1, 100) == (server.connections, len(server.requests))


async def test_max_connections_is_a_bound(make: Make, server: Listener) -> None:
    """Fifty at once share four connections, and all are answered."""
    transport = make(max_connections=4)

    answers = await asyncio.gather(
        *(transport.send(make_request(f"{server.url}/slow"), timeout=CALM) for _ in range(50))
    )
    await transport.aclose()

    assert [200] * 50 == [answer.status for answer in answers]
    assert 4 == server.peak


async def test_waiting_for_a_connection_too_long_is_not_sent(make: Make, server: Listener) -> None:
    """The attempt's time ends in the queue: nothing was sent, and the call may be retried."""
    transport = make(max_connections=1)
    first = asyncio.create_task(
        transport.send(make_request(f"{server.url}/drip"), timeout=Timeouts())
    )
    await server.arrived.wait()

    with pytest.raises(NotSentError) as caught:
        await transport.send(make_request(server.url), timeout=QUICK)

    assert caught.value.retryable
    assert 1 == len(server.requests)
    first.cancel()
    await asyncio.wait([first])
    await transport.aclose()


def test_pool_without_connections_is_refused(make: Make) -> None:
    """For one driver zero means "no bound", for another "no connection"."""
    with pytest.raises(ValueError, match="max_connections"):
        make(max_connections=0)


# Cancellation


@pytest.mark.parametrize("path", ["hang", "hang-after-headers", "drip", "endless"])
async def test_cancelling_ends_the_connection(
    transport: Transport, server: Listener, parting: Timeouts, *, path: str
) -> None:
    """The server sees the connection end, and the transport still works."""
    timeouts = parting if path == "hang" else CALM
    task = asyncio.create_task(
        transport.send(make_request(f"{server.url}/{path}"), timeout=timeouts)
    )
    await server.arrived.wait()
    if path != "hang":
        # Into the body. A response that reaches pyreqwest in the very turn of the cancellation is
        # lost in it, with its connection: that is not ours to mend.
        await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.wait([task])

    assert path == "endless" or task.cancelled()
    await server.wait_closed()
    assert 200 == (await transport.send(make_request(server.url), timeout=CALM)).status


async def test_cancelling_in_the_queue_lets_the_next_request_go(
    make: Make, server: Listener, parting: Timeouts
) -> None:
    """A request that waits for a connection can be cancelled; the next one gets the connection."""
    transport = make(max_connections=1)
    first = asyncio.create_task(transport.send(make_request(f"{server.url}/hang"), timeout=parting))
    await server.arrived.wait()
    second = asyncio.create_task(transport.send(make_request(server.url), timeout=CALM))
    third = asyncio.create_task(transport.send(make_request(f"{server.url}/third"), timeout=CALM))
    await asyncio.sleep(0.01)

    second.cancel()
    first.cancel()

    assert 200 == (await third).status
    assert ["/hang", "/third"] == [seen.target for seen in server.requests]
    await transport.aclose()


# Closing


async def test_closing_twice_or_before_use_does_no_harm(
    transport: Transport, server: Listener
) -> None:
    """`aclose` releases the pool; the next request opens another."""
    await transport.aclose()
    await transport.send(make_request(server.url), timeout=CALM)
    await transport.aclose()
    await transport.aclose()
    await transport.send(make_request(server.url), timeout=CALM)

    assert 2 == server.connections


async def test_closing_under_way_is_in_doubt_for_what_was_sent(
    make: Make, server: Listener, parting: Timeouts
) -> None:
    """A waiting request is not sent; no caller gets a cancellation that it did not ask for."""
    transport = make(max_connections=1)
    sent = asyncio.create_task(transport.send(make_request(f"{server.url}/hang"), timeout=parting))
    await server.arrived.wait()
    waiting = asyncio.create_task(
        transport.send(make_request(f"{server.url}/never"), timeout=QUICK)
    )
    await asyncio.sleep(0.01)

    await transport.aclose()

    with pytest.raises(InDoubtError):
        await sent
    with pytest.raises(NotSentError):
        await waiting
    assert ["/hang"] == [seen.target for seen in server.requests]


# Event loops


def test_making_a_transport_needs_no_loop_and_reads_no_file(make: Make) -> None:
    """The file of certificates is not read either."""
    transport = make(ca_file="/nowhere", max_connections=3)

    assert "/nowhere" == transport.ca_file


def test_two_open_loops_have_a_pool_each(make: Make) -> None:
    """A pool belongs to its loop, even if the earlier loop was never closed."""
    transport = make()
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]

    with server_in_a_thread() as origin:
        try:
            for loop in (*loops, *loops):
                answer = loop.run_until_complete(transport.send(make_request(origin), timeout=CALM))
                assert 200 == answer.status
        finally:
            for loop in loops:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_two_loops_in_a_row_leave_no_warning(
    listen: Listen, certificates: Certificates, driver: str, *, tls: bool
) -> None:
    """One transport serves two `asyncio.run`, unclosed, and neither loop nor exit complains."""
    server = await listen(serve, tls=certificates.good if tls else None)
    script = TWO_LOOPS.format(load=LOAD[driver])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", script),
        *(server.url, certificates.ca_file if tls else ""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    output, complaints = await process.communicate()

    # A thread of pyreqwest's, which we cannot end, may crash the interpreter as it exits.
    crashed = driver == "reqwest" and b"PyGILState_Release" in complaints
    assert crashed or (b"", 0) == (complaints, process.returncode)
    assert b"done\n" == output
    assert 6 == len(server.requests)
