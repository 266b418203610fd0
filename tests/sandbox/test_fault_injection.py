"""Replies that go wrong on request, as a raw HTTP client sees them."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

import asyncio
import contextlib
import errno
import json
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from wxpay_async.sandbox.faults import ReplyFaultKind

TRADE = "/api/instant/trade"


@contextlib.asynccontextmanager
async def posted(merchant, make_body, number: str = "A1") -> AsyncIterator[aiohttp.ClientResponse]:
    """Post a signed trade; yield the response as it comes."""
    params = merchant.signed(bizContent=json.dumps(make_body(number)))
    url = merchant.sandbox.url + TRADE
    async with merchant.session.post(url, data=params, timeout=_timeout()) as response:
        yield response


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=30)


def executed(sandbox) -> list[str]:
    """Return what was executed."""
    return [entry.request_id for entry in sandbox.platform.ledger]


async def until(holds: Callable[[], object]) -> None:
    """Wait until the server got that far."""
    while not holds():  # noqa: ASYNC110 - it has no event to wait for
        await asyncio.sleep(0)


both = pytest.mark.parametrize("done", [True, False], ids=["executed", "not-executed"])


@both
@pytest.mark.parametrize(
    ("mishap", "error"),
    [("drop", aiohttp.ServerDisconnectedError), ("reset", aiohttp.ClientOSError)],
)
async def test_no_reply(merchant, sandbox, make_body, mishap, error, done) -> None:
    """The connection ends without a byte; what was to be executed before is executed."""
    sandbox.faults.spoil(mishap, executed=done)
    with pytest.raises(error):
        async with posted(merchant, make_body):
            pytest.fail("there was a reply")
    assert executed(sandbox) == ["r-A1"] * done


async def test_reset_is_a_reset(merchant, sandbox, make_body) -> None:
    """The caller sees ECONNRESET, not the end of the stream."""
    sandbox.faults.spoil("reset")
    with pytest.raises(aiohttp.ClientOSError) as raised:
        async with posted(merchant, make_body):
            pytest.fail("there was a reply")
    assert raised.value.errno == errno.ECONNRESET


@both
async def test_truncated(merchant, sandbox, make_body, done) -> None:
    """The status arrives, and less of the body than its length says."""
    sandbox.faults.spoil("truncated", executed=done)
    async with posted(merchant, make_body) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert executed(sandbox) == ["r-A1"] * done


@both
async def test_html(merchant, sandbox, make_body, done) -> None:
    """A proxy's page arrives, which is no envelope and bears no marker."""
    sandbox.faults.spoil("html-502", executed=done)
    async with posted(merchant, make_body) as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert (await response.read()).startswith(b"<html>")
        assert "x-wxpay-sandbox" not in response.headers
    assert executed(sandbox) == ["r-A1"] * done


@both
async def test_delay(merchant, sandbox, make_body, monkeypatch, done) -> None:
    """The reply waits; the call is executed before the wait, or only after it."""
    waits: list[tuple[float, list[str]]] = []
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            waits.append((seconds, executed(sandbox)))
        await real_sleep(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    sandbox.faults.spoil("delay", executed=done, seconds=7)
    async with posted(merchant, make_body) as response:
        reply = json.loads(await response.read())
    assert reply["success"] is True
    assert waits == [(7, ["r-A1"] * done)]
    assert executed(sandbox) == ["r-A1"]


async def test_caller_that_does_not_wait(merchant, sandbox, make_body) -> None:
    """A call whose caller has gone is executed all the same, once its delay is over."""
    sandbox.faults.spoil("delay", executed=False, seconds=0.05)
    asking = asyncio.create_task(posted(merchant, make_body).__aenter__())
    await until(lambda: sandbox.faults.struck)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    before = executed(sandbox)
    await until(lambda: executed(sandbox))
    assert (before, executed(sandbox)) == ([], ["r-A1"])


@pytest.mark.parametrize("mishap", list(ReplyFaultKind))
async def test_nobody_left_to_annoy(merchant, sandbox, make_body, caplog, mishap) -> None:
    """A mishap to a caller that has gone is no error, and the sandbox goes on."""
    sandbox.faults.spoil(mishap, seconds=0.02)
    asking = asyncio.create_task(posted(merchant, make_body).__aenter__())
    await until(lambda: executed(sandbox))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.05)
    assert await merchant.status("A1") == "待付款"
    assert caplog.records == []


async def test_one_call_only(merchant, sandbox) -> None:
    """One mishap strikes one call; the next one is answered, and finds what was executed."""
    sandbox.faults.spoil("drop")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.trade("A1")
    again = await merchant.trade("A1")
    assert again["errorCode"] == "GM_API_BUS_0000015"


async def test_unexecuted_call_was_never_seen(merchant, sandbox) -> None:
    """A call that is lost on its way takes no slot of the quota and spoils no nonce."""
    sandbox.faults.spoil("drop", executed=False)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.trade("A1")
    assert sandbox.platform.calls.total() == 0


async def test_only_the_named_path(merchant, sandbox) -> None:
    """A mishap for one path lets the others pass."""
    sandbox.faults.spoil("drop", path="/api/instant/query")
    reply = await merchant.trade("A1")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.query("A1")
    assert reply["success"] is True
    assert await merchant.status("A1") == "待付款"


async def test_closing_does_not_wait_for_a_delay(merchant, sandbox, make_body) -> None:
    """A reply that is hours late does not hold the sandbox open."""
    sandbox.faults.spoil("delay", seconds=7200)
    asking = asyncio.create_task(posted(merchant, make_body).__aenter__())
    await until(lambda: executed(sandbox))
    await sandbox.aclose()
    with pytest.raises(aiohttp.ClientError):
        await asking
