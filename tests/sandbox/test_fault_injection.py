"""Faults of replies, as a raw HTTP client sees them."""

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.sandbox.raw_merchant import QUERY, TRADE, Merchant, make_trade_body
from tests.support.tasks import wait_until
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.faults import ReplyFaultKind


@contextlib.asynccontextmanager
async def post_trade(merchant: Merchant) -> AsyncIterator[aiohttp.ClientResponse]:
    """Post a signed trade; yield the response as it comes."""
    params = merchant.sign(bizContent=json.dumps(make_trade_body("A1")))
    url = merchant.sandbox.url + TRADE
    timeout = aiohttp.ClientTimeout(total=30)
    async with merchant.session.post(url, data=params, timeout=timeout) as response:
        yield response


def list_executed(sandbox: Sandbox) -> list[str]:
    """Return the requestId of everything that was executed."""
    return [entry.request_id for entry in sandbox.platform.ledger]


executed_or_not = pytest.mark.parametrize("done", [True, False], ids=["executed", "not-executed"])


@executed_or_not
@pytest.mark.parametrize(
    ("kind", "error"),
    [("drop", aiohttp.ServerDisconnectedError), ("reset", aiohttp.ClientOSError)],
)
async def test_drop_or_reset_ends_the_connection_without_a_reply(
    merchant: Merchant,
    sandbox: Sandbox,
    kind: ReplyFaultKind,
    error: type[Exception],
    *,
    done: bool,
) -> None:
    """The call is executed before the fault, or not at all."""
    sandbox.faults.inject(kind, executed=done)
    with pytest.raises(error):
        async with post_trade(merchant):
            pytest.fail("there was a reply")
    assert list_executed(sandbox) == ["r-A1"] * done


async def test_reset_is_econnreset_to_the_caller(merchant: Merchant, sandbox: Sandbox) -> None:
    """The caller sees ECONNRESET, not the end of the stream."""
    sandbox.faults.inject("reset")
    with pytest.raises(aiohttp.ClientOSError) as raised:
        async with post_trade(merchant):
            pytest.fail("there was a reply")
    assert raised.value.errno == errno.ECONNRESET


@executed_or_not
async def test_truncated_reply_ends_too_early(
    merchant: Merchant, sandbox: Sandbox, *, done: bool
) -> None:
    """The status arrives, and less of the body than its length says."""
    sandbox.faults.inject("truncated", executed=done)
    async with post_trade(merchant) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert list_executed(sandbox) == ["r-A1"] * done


@executed_or_not
async def test_html_502_is_an_unmarked_page(
    merchant: Merchant, sandbox: Sandbox, *, done: bool
) -> None:
    """A proxy's page arrives, which is not an envelope and has no marker."""
    sandbox.faults.inject("html-502", executed=done)
    async with post_trade(merchant) as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert (await response.read()).startswith(b"<html>")
        assert "x-wxpay-sandbox" not in response.headers
    assert list_executed(sandbox) == ["r-A1"] * done


@executed_or_not
async def test_delay_waits_before_the_reply(
    merchant: Merchant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, *, done: bool
) -> None:
    """The reply waits; the call is executed before the wait, or only after it."""
    waits: list[tuple[float, list[str]]] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            waits.append((seconds, list_executed(sandbox)))
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    sandbox.faults.inject("delay", executed=done, seconds=7)
    async with post_trade(merchant) as response:
        reply = json.loads(await response.read())
    assert reply["success"] is True
    assert waits == [(7, ["r-A1"] * done)]
    assert list_executed(sandbox) == ["r-A1"]


async def test_delay_of_a_caller_that_left_still_executes(
    merchant: Merchant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose caller left is executed after its delay."""
    delay_over = asyncio.Event()
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        await (delay_over.wait() if seconds else real_sleep(0))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    sandbox.faults.inject("delay", executed=False, seconds=7)
    asking = asyncio.create_task(post_trade(merchant).__aenter__())
    await wait_until(lambda: sandbox.faults.injected)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    before = list_executed(sandbox)
    delay_over.set()
    await wait_until(lambda: list_executed(sandbox))
    assert (before, list_executed(sandbox)) == ([], ["r-A1"])


@pytest.mark.parametrize("kind", list(ReplyFaultKind))
async def test_fault_of_a_caller_that_left_is_no_error(
    merchant: Merchant, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, kind: ReplyFaultKind
) -> None:
    """A fault of a connection that is closed is not an error, and the sandbox goes on."""
    sandbox.faults.inject(kind, seconds=0.02)
    asking = asyncio.create_task(post_trade(merchant).__aenter__())
    await wait_until(lambda: list_executed(sandbox))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.05)
    assert await merchant.status("A1") == "待付款"
    assert caplog.records == []


async def test_fault_applies_to_one_call_only(merchant: Merchant, sandbox: Sandbox) -> None:
    """The next call is answered, and finds what was executed."""
    sandbox.faults.inject("drop")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.trade("A1")
    again = await merchant.trade("A1")
    assert again["errorCode"] == "GM_API_BUS_0000015"


async def test_fault_before_execution_uses_no_quota_and_no_nonce(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A call that is lost on its way has no effect on the platform."""
    sandbox.faults.inject("drop", executed=False)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.trade("A1")
    assert sandbox.platform.calls.total() == 0


async def test_fault_of_one_path_skips_other_paths(merchant: Merchant, sandbox: Sandbox) -> None:
    """A fault of one path lets other calls pass."""
    sandbox.faults.inject("drop", path=QUERY)
    reply = await merchant.trade("A1")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.query("A1")
    assert reply["success"] is True
    assert await merchant.status("A1") == "待付款"


async def test_close_does_not_wait_for_a_delay(merchant: Merchant, sandbox: Sandbox) -> None:
    """A reply that is hours late does not hold the sandbox open."""
    sandbox.faults.inject("delay", seconds=7200)
    asking = asyncio.create_task(post_trade(merchant).__aenter__())
    await wait_until(lambda: list_executed(sandbox))
    await sandbox.aclose()
    with pytest.raises(aiohttp.ClientError):
        await asking
