"""The sandbox in a thread: payers, outages and callbacks, from synchronous and other tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support.purchases import KEY, buy
from wxpay_async import NotSentError, PayGateway, RetryPolicy, Unlimited
from wxpay_async.integrations.settable_clock import SettableClock
from wxpay_async.integrations.testing import make_gateway
from wxpay_async.integrations.threaded_sandbox import ThreadedSandbox


@pytest.fixture(name="moved")
def settable_clock() -> SettableClock:
    """Return a clock that runs, and that a test moves."""
    return SettableClock()


@pytest.fixture
def sandbox(moved: SettableClock) -> Iterator[ThreadedSandbox]:
    """Run a sandbox in a thread."""
    with ThreadedSandbox(
        pay_key=KEY, quota=None, clock=moved.time, callback_scheme="rsa"
    ) as running:
        yield running


@pytest.fixture
def gateway(sandbox: ThreadedSandbox, moved: SettableClock) -> Iterator[PayGateway]:
    """Make a gateway to the sandbox, which is closed afterwards."""
    made = make_gateway(sandbox, clock=moved)
    yield made
    sandbox.run(made.aclose())


def test_payment_in_several_loops(gateway: PayGateway, sandbox: ThreadedSandbox) -> None:
    """A synchronous test runs one after another."""
    asyncio.run(buy(gateway))
    sandbox.confirm("O-1")

    assert "paid" == asyncio.run(gateway.query(out_trade_no="O-1")).state


def test_payer_acts_in_the_loop_of_the_sandbox(
    gateway: PayGateway, sandbox: ThreadedSandbox
) -> None:
    """A whole purchase may be handed to `run`; `run` itself would wait for its own loop."""

    async def purchase() -> str:
        await buy(gateway)
        sandbox.confirm("O-1")
        waiting = sandbox.callbacks_idle()
        with pytest.raises(RuntimeError, match="own event loop"):
            sandbox.run(waiting)
        return (await gateway.query(out_trade_no="O-1")).state

    assert "paid" == sandbox.run(purchase())


async def test_payment_in_the_loop_of_the_test(
    gateway: PayGateway, sandbox: ThreadedSandbox
) -> None:
    """Without waiting for the sandbox's own loop."""
    await buy(gateway)
    sandbox.confirm("O-1")

    assert "paid" == (await gateway.query(out_trade_no="O-1")).state


@pytest.mark.parametrize(
    ("action", "argument", "state"),
    [
        ("confirm", "O-1", "paid"),
        ("cancel", "O-1", "failed"),
        ("expire", "O-1", "closed"),
        ("advance", 1800.0, "closed"),
    ],
)
async def test_payer_acts_in_the_sandbox_s_thread(
    action: str, argument: object, state: str, gateway: PayGateway, sandbox: ThreadedSandbox
) -> None:
    """Where the platform answers, too: nothing happens at the same time."""
    threads: list[str] = []
    sandbox.platform.notify = lambda _: threads.append(threading.current_thread().name)
    await buy(gateway)

    getattr(sandbox, action)(argument)

    assert state == (await gateway.query(out_trade_no="O-1")).state
    assert ["wxpay-sandbox"] == threads


async def test_platform_is_away_and_comes_back(
    sandbox: ThreadedSandbox, moved: SettableClock
) -> None:
    """It keeps its orders."""
    first = make_gateway(sandbox, clock=moved)
    await buy(first)
    await sandbox.aclose()
    with pytest.raises(NotSentError):
        await first.query(out_trade_no="O-1")
    await first.aclose()

    await sandbox.start()

    async with make_gateway(sandbox, clock=moved) as second:
        assert "awaiting" == (await second.query(out_trade_no="O-1")).state


async def test_callbacks_are_awaited_in_the_loop_of_the_test(
    gateway: PayGateway, sandbox: ThreadedSandbox
) -> None:
    """Those that the sandbox sends over HTTP, too."""
    got: list[bytes] = []
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def take(request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        got.append(await request.read())
        arrived.set()
        await gate.wait()
        return aiohttp.web.json_response({"status": 1})

    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(take))
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sandbox.notify_url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await buy(gateway)
    sandbox.confirm("O-1")

    idle = asyncio.create_task(sandbox.callbacks_idle())
    await arrived.wait()
    gate.set()
    await idle
    forged = await sandbox.send_forged("unsigned", "O-1")
    await runner.cleanup()

    assert (200, 2) == (forged.status, len(got))


def test_sandbox_serves_within_with_only() -> None:
    """Outside it has no thread."""
    with pytest.raises(RuntimeError, match="within `with`"):
        ThreadedSandbox(pay_key=KEY).confirm("O-1")


def test_sandbox_ends_with_its_thread() -> None:
    """Also when it cannot start."""
    with ThreadedSandbox(pay_key=KEY) as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with (
            pytest.raises(OSError, match="address"),
            ThreadedSandbox(pay_key=KEY, port=port),
        ):
            raise AssertionError

    assert [] == [each for each in threading.enumerate() if each.name == "wxpay-sandbox"]


def test_gateway_options_win(sandbox: ThreadedSandbox) -> None:
    """Whatever the gateway takes."""
    retry = RetryPolicy(attempts=7)

    gateway = make_gateway(sandbox, retry=retry)

    assert retry is gateway._dispatcher.retry


def test_quota_is_lifted(gateway: PayGateway) -> None:
    """A suite makes more than 400 calls a minute."""
    assert isinstance(gateway._dispatcher.limiter, Unlimited)
