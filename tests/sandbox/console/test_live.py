"""Server-sent events: rows that change, counts, the end of a page that does not keep up."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.sandbox.raw_merchant import QUERY, Merchant, make_trade_item
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.console.feed import MAX_NEWS, MAX_READERS

Event = tuple[str, dict[str, str]]


class Events:
    """The events of one open page."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> Event:
        """Return the next event that is not a sign of life."""
        while True:
            name = (await self._answer.content.readline()).decode()
            if name.startswith("event: "):
                data = (await self._answer.content.readline()).decode()
                return name[7:].strip(), json.loads(data[6:])
            assert name, "the stream has ended"

    async def until(self, kind: str) -> dict[str, str]:
        """Return the data of the next event of a kind."""
        while True:
            name, data = await self.next()
            if name == kind:
                return data


@asynccontextmanager
async def _open(
    session: aiohttp.ClientSession, sandbox: Sandbox, query: str
) -> AsyncIterator[Events]:
    async with session.get(f"{sandbox.url}/console/events?{query}") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert await answer.content.readline() == b": open\n"
        yield Events(answer)


async def test_order_and_its_changes_arrive(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """A new order is a row; when it is paid, the row comes again, with new counts."""
    async with _open(session, sandbox, "page=orders&lang=en") as events:
        await merchant.trade("A1")
        row = await events.until("row")
        assert row["key"] == f"{sandbox.app_key}/A1"
        assert "awaits payment" in row["html"]
        assert await events.until("counts") == {"awaiting": 1, "refused": 0}
        sandbox.confirm("A1")
        row = await events.until("row")
        assert ">paid<" in row["html"]
        assert await events.until("counts") == {"paid": 1, "refused": 0}


async def test_row_that_the_filter_hides_is_taken_away(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """A page of open orders loses one when it is paid."""
    async with _open(session, sandbox, "page=orders&state=awaiting") as events:
        await merchant.trade("A1")
        assert (await events.until("row"))["html"]
        sandbox.cancel("A1")
        assert (await events.until("row"))["html"] == ""


async def test_markup_in_events_is_escaped(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """What arrives live is escaped like the page."""
    async with _open(session, sandbox, "page=orders") as events:
        await merchant.trade(
            "A1", tradeInfo=[make_trade_item("A1", subject="<img src=x>\n\ndata:")]
        )
        html = (await events.until("row"))["html"]
        assert "&lt;img src=x&gt;" in html
        assert "<img" not in html


async def test_request_log_is_live_and_filtered(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """A page of refusals gets refusals only."""
    async with _open(session, sandbox, "page=requests&state=refused") as events:
        await merchant.trade("A1")
        await merchant.send(QUERY, {**merchant.envelope({"outTradeNo": "A1"}), "sign": "0"})
        row = await events.until("row")
        assert row["key"] == "call-2"
        assert "CO_MSG_000006" in row["html"]


async def test_order_page_is_live(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """The page of an order hears of its own order, refunds included, and of no other."""
    await merchant.trade("A1")
    async with _open(session, sandbox, f"page=order&app={sandbox.app_key}&order=A1") as events:
        await merchant.trade("A2")
        sandbox.confirm("A1")
        assert 'data-state="paid"' in (await events.until("detail"))["html"]
        await merchant.refund("R1", "A1", "3.00")
        assert "R1" in (await events.until("detail"))["html"]


async def test_page_that_does_not_keep_up_is_told_to_reload(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """Beyond the bound the page is told to reload, and its stream ends."""
    await merchant.trade("A1")
    async with _open(session, sandbox, "page=orders") as events:
        (reader,) = sandbox._console.feed.readers
        for number in range(MAX_NEWS + 1):
            reader.add(("app", f"N{number}"))
        assert await events.next() == ("reload", {})
        assert await events._answer.content.read() == b"\n"
    assert not sandbox._console.feed.readers


async def test_too_many_pages_are_refused_and_left_ones_are_forgotten(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """The number of open pages is bounded."""
    feed = sandbox._console.feed
    readers = [feed.open() for _ in range(MAX_READERS)]
    async with session.get(sandbox.url + "/console/events?page=orders") as answer:
        assert answer.status == 503
    assert readers[0]
    feed.readers.discard(readers[0])
    async with _open(session, sandbox, "page=orders"):
        pass


async def test_order_that_comes_before_the_page_is_connected_arrives(
    session: aiohttp.ClientSession, sandbox: Sandbox, merchant: Merchant
) -> None:
    """Between the page and its events there may be a moment; the page says what it has seen."""
    async with session.get(sandbox.url) as page:
        found = re.search(r'data-since="(\d+)"', await page.text())
    assert found
    await merchant.trade("A1")
    async with _open(session, sandbox, f"page=orders&since={found[1]}") as events:
        assert (await events.until("row"))["key"] == f"{sandbox.app_key}/A1"


async def test_pages_that_are_left_at_once_use_up_no_place(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A person clicks through more orders than there may be pages, within one sign of life."""
    for _ in range(MAX_READERS + 8):
        async with _open(session, sandbox, "page=order&app=a&order=A1"):
            pass


async def test_open_page_does_not_hold_up_the_end_of_the_sandbox(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A sandbox that closes ends its pages' streams by itself."""
    async with _open(session, sandbox, "page=orders") as events:
        await sandbox.aclose()
        rest = await events._answer.content.read()
        assert b"event" not in rest
    assert not sandbox._console.feed.readers
