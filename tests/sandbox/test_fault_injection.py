"""Faults of replies, as a raw HTTP client sees them."""

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from tests.sandbox.raw_merchant import TRADE, Merchant, make_trade_body
from tests.support.tasks import wait_until
from wxpay_async.sandbox import Fault, FaultKind, RateLimit, Sandbox
from wxpay_async.sandbox.fault_kinds import Place, find_place


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


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        (Fault.drop_before_commit(), aiohttp.ServerDisconnectedError, False),
        (Fault.drop_after_commit(), aiohttp.ServerDisconnectedError, True),
        (Fault.reset(executed=False), aiohttp.ClientOSError, False),
        (Fault.reset(), aiohttp.ClientOSError, True),
    ],
)
async def test_drop_or_reset_ends_the_connection_without_a_reply(
    merchant: Merchant, sandbox: Sandbox, fault: Fault, error: type[Exception], *, done: bool
) -> None:
    """The call is executed before the fault, or not at all."""
    sandbox.faults.inject(fault)
    with pytest.raises(error):
        async with post_trade(merchant):
            pytest.fail("there was a reply")
    assert list_executed(sandbox) == ["r-A1"] * done


async def test_reset_is_econnreset_to_the_caller(merchant: Merchant, sandbox: Sandbox) -> None:
    """The caller sees ECONNRESET, not the end of the stream."""
    sandbox.faults.inject(Fault.reset())
    with pytest.raises(aiohttp.ClientOSError) as raised:
        async with post_trade(merchant):
            pytest.fail("there was a reply")
    assert raised.value.errno == errno.ECONNRESET


@executed_or_not
async def test_cut_body_ends_too_early(merchant: Merchant, sandbox: Sandbox, *, done: bool) -> None:
    """The status arrives, and less of the body than its length says."""
    sandbox.faults.inject(Fault.cut_body(executed=done))
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
    sandbox.faults.inject(Fault.html_502(executed=done))
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
    sandbox.faults.inject(Fault.delay(executed=done, seconds=7))
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
    sandbox.faults.inject(Fault.delay(executed=False, seconds=7))
    asking = asyncio.create_task(post_trade(merchant).__aenter__())
    await wait_until(lambda: sandbox.faults.injected)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    before = list_executed(sandbox)
    delay_over.set()
    await wait_until(lambda: list_executed(sandbox))
    assert (before, list_executed(sandbox)) == ([], ["r-A1"])


WITH_A_WAIT = [
    *(FaultKind.DELAY, FaultKind.DROP_AFTER_COMMIT, FaultKind.RESET, FaultKind.CUT_BODY),
    *(FaultKind.DRIP, FaultKind.HTML_502, FaultKind.PROXY_408, FaultKind.HTTP_500),
]


@pytest.mark.parametrize("kind", WITH_A_WAIT)
async def test_fault_of_a_caller_that_left_is_no_error(
    merchant: Merchant, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, kind: FaultKind
) -> None:
    """A fault of a connection that is closed is not an error, and the sandbox goes on."""
    sandbox.faults.inject(getattr(Fault, kind)(seconds=0.02))
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
    sandbox.faults.inject(Fault.drop_after_commit())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.trade("A1")
    again = await merchant.trade("A1")
    assert again["errorCode"] == "GM_API_BUS_0000015"


async def test_fault_before_execution_uses_no_quota_and_no_nonce(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A call that is lost on its way has no effect on the platform."""
    sandbox.faults.inject(Fault.drop_before_commit())
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.trade("A1")
    assert sandbox.platform.calls.total() == 0


async def test_fault_of_one_path_skips_other_paths(merchant: Merchant, sandbox: Sandbox) -> None:
    """A fault of one path lets other calls pass."""
    sandbox.faults.inject(Fault.drop_after_commit(operation="query"))
    reply = await merchant.trade("A1")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.query("A1")
    assert reply["success"] is True
    assert await merchant.status("A1") == "待付款"


async def test_close_does_not_wait_for_a_delay(merchant: Merchant, sandbox: Sandbox) -> None:
    """A reply that is hours late does not hold the sandbox open."""
    sandbox.faults.inject(Fault.delay(seconds=7200))
    asking = asyncio.create_task(post_trade(merchant).__aenter__())
    await wait_until(lambda: list_executed(sandbox))
    await sandbox.aclose()
    with pytest.raises(aiohttp.ClientError):
        await asking


# What arrives instead


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault.proxy_408(), 408, "text/html"),
        (Fault.http_500(), 500, "application/json"),
        (Fault.rate_limited(variant="page_429"), 429, "text/html"),
    ],
)
async def test_answer_of_something_else_is_no_envelope(
    merchant: Merchant, sandbox: Sandbox, fault: Fault, status: int, kind: str
) -> None:
    """A proxy's or a framework's answer has neither envelope nor marker."""
    sandbox.faults.inject(fault)
    async with post_trade(merchant) as response:
        assert (response.status, response.content_type) == (status, kind)
        assert b'"success"' not in await response.read()
        assert "x-wxpay-sandbox" not in response.headers


@pytest.mark.parametrize("variant", list(RateLimit))
async def test_rate_limit_is_told_in_four_ways(
    merchant: Merchant, sandbox: Sandbox, variant: RateLimit
) -> None:
    """None of them executes the call; the next one is executed."""
    sandbox.faults.inject(Fault.rate_limited(variant=variant))
    async with post_trade(merchant) as response:
        body = await response.read()
    expected = {
        RateLimit.ENVELOPE: (200, True, None),
        RateLimit.ENVELOPE_429: (429, True, None),
        RateLimit.PAGE_429: (429, False, None),
        RateLimit.RETRY_AFTER_429: (429, False, "1"),
    }[variant]
    told = (response.status, b"CO_MSG_000007" in body, response.headers.get("Retry-After"))
    assert told == expected
    assert list_executed(sandbox) == []
    assert (await merchant.trade("A1"))["success"] is True


async def test_gzip_comes_unasked(merchant: Merchant, sandbox: Sandbox) -> None:
    """The header says so, and the body is the reply."""
    sandbox.faults.inject(Fault.gzip())
    async with post_trade(merchant) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert json.loads(await response.read())["success"] is True


async def test_byte_order_mark_comes_first(merchant: Merchant, sandbox: Sandbox) -> None:
    """It is before an ordinary reply."""
    sandbox.faults.inject(Fault.bom())
    async with post_trade(merchant) as response:
        body = await response.read()
    assert body.startswith(b"\xef\xbb\xbf{")
    assert json.loads(body.decode("utf-8-sig"))["success"] is True


async def test_drip_sends_pieces_with_pauses(
    merchant: Merchant, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten pauses make up its seconds, and the whole reply arrives."""
    pauses: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.extend([seconds] if seconds else [])
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    sandbox.faults.inject(Fault.drip(seconds=20))
    async with post_trade(merchant) as response:
        assert json.loads(await response.read())["success"] is True
    assert pauses == [2.0] * 10


async def test_clock_off_refuses_and_shows_its_own_time(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """The request is old by the platform's clock, and `Date` tells why."""
    sandbox.faults.inject(Fault.clock_off(seconds=600))
    async with post_trade(merchant) as response:
        reply = json.loads(await response.read())
    ahead = parsedate_to_datetime(response.headers["Date"]).timestamp() - merchant.clock()
    assert reply["errorCode"] == "CO_MSG_000005"
    assert abs(ahead - 600) < 1
    sandbox.faults.clear()
    assert (await merchant.trade("A1"))["success"] is True


def test_each_fault_on_the_way_is_tested_here() -> None:
    """A new kind must be added to this file."""
    others = {"rate_limited", "gzip", "bom", "clock_off", "drop_before_commit"}
    on_the_way = {kind for kind in FaultKind if find_place(kind) is Place.ARRIVAL}
    assert on_the_way == {*WITH_A_WAIT, *others}
