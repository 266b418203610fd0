"""Readers of the live pages: merged news, a bound, and an end."""

import asyncio

import pytest

from tests.support.clock import NOON
from wxpay_async.sandbox.console.feed import MAX_NEWS, MAX_READERS, Feed
from wxpay_async.sandbox.console.journal import SeenCall


def _call(number: int) -> SeenCall:
    return SeenCall(number=number, at=NOON, path="/api", address="127.0.0.1")


async def test_changes_of_one_order_are_merged() -> None:
    """However often an order changes, a reader renders it once."""
    feed = Feed()
    reader = feed.open()
    assert reader
    for _ in range(10 * MAX_NEWS):
        feed.add(("app", "A1"))
    feed.add(("app", "A2"))
    assert reader.take() == ([("app", "A1"), ("app", "A2")], [])
    assert reader.take() == ([], [])
    assert not reader.behind


async def test_reader_that_does_not_keep_up_is_told_so_and_grows_no_more() -> None:
    """Beyond the bound nothing is kept for a reader, and others are not touched."""
    feed = Feed()
    slow, quick = feed.open(), feed.open()
    assert slow
    assert quick
    for number in range(10 * MAX_NEWS):
        feed.add(("app", f"A{number}") if number % 2 else _call(number))
        if number % 100 == 0:
            quick.take()
    assert slow.behind
    assert slow.take() == ([], [])
    assert not quick.behind
    orders, calls = quick.take()
    assert len(orders) + len(calls) == 99


async def test_reader_waits_for_news_or_for_its_time() -> None:
    """News end the waiting of a reader, and so does the sandbox's end."""
    feed = Feed()
    reader = feed.open()
    assert reader
    waiting = asyncio.create_task(reader.wait(60))
    await asyncio.sleep(0)
    feed.add(("app", "A1"))
    await waiting
    await reader.wait(0)  # nothing new: the time is over
    feed.close()
    await reader.wait(60)
    assert reader.closed


async def test_news_from_another_thread_arrive() -> None:
    """The payer may act in another thread."""
    feed = Feed()
    reader = feed.open()
    assert reader
    waiting = asyncio.create_task(reader.wait(60))
    await asyncio.to_thread(feed.add, ("app", "A1"))
    await waiting
    assert reader.take() == ([("app", "A1")], [])


async def test_readers_are_bounded() -> None:
    """So many pages and no more; a place that is left is free again."""
    feed = Feed()
    opened = [feed.open() for _ in range(MAX_READERS)]
    assert all(opened)
    assert feed.open() is None
    assert opened[0]
    feed.readers.discard(opened[0])
    assert feed.open()


async def test_reader_begins_where_its_page_was_rendered() -> None:
    """What changed before the page was connected is not lost; too much of it is told as such."""
    feed = Feed()
    feed.add(("app", "A1"))
    since = feed.count
    feed.add(("app", "A2"))
    feed.add(_call(1))
    late, new = feed.open(since=since), feed.open()
    assert late
    assert new
    assert late.take() == ([("app", "A2")], [_call(1)])
    assert new.take() == ([], [])
    for number in range(MAX_NEWS):
        feed.add(("app", f"B{number}"))
    far, there = feed.open(since=since), feed.open(since=feed.count)
    assert far
    assert there
    assert (far.behind, there.behind) == (True, False)


async def test_page_that_was_left_gives_its_place_free() -> None:
    """Before the next sign of life tells: who clicks through many orders is never refused."""
    feed, left = Feed(), set[int]()
    opened = [feed.open(lambda number=number: number in left) for number in range(MAX_READERS)]
    assert feed.open() is None
    left.update((3, 4))
    assert [True, True, False] == [feed.open() is not None for _ in range(3)]
    assert [3, 4] == [number for number, each in enumerate(opened) if each and each.closed]


def test_news_after_the_loop_has_ended_are_no_error() -> None:
    """A sandbox that was stopped in a hurry leaves readers behind."""
    feed = Feed()

    async def open_one() -> None:
        feed.open()

    asyncio.run(open_one())
    feed.add(("app", "A1"))
    assert len(feed.readers) == 1


@pytest.mark.parametrize("size", [MAX_NEWS, MAX_NEWS + 1])
async def test_bound_is_exact(size: int) -> None:
    """A reader may be behind by so many, and not by one more."""
    feed = Feed()
    reader = feed.open()
    assert reader
    for number in range(size):
        feed.add(("app", f"A{number}"))
    assert reader.behind == (size > MAX_NEWS)
