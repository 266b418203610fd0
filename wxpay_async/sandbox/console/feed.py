"""Tell readers what changed, as fast as each of them reads.

A reader does not get a copy of each change. It has a set of what is new for it, and renders that
when it can write. So a burst costs it one rendering for each order. A reader whose set is full
does not keep up: it is told to reload, and takes no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from attrs import define, field

from wxpay_async.sandbox.console.journal import OrderKey, SeenCall

News = OrderKey | SeenCall

MAX_NEWS: Final = 500
"""Orders and calls that one reader may be behind."""

MAX_READERS: Final = 32


@define(eq=False)
class Reader:
    """One open page.

    Attributes:
        orders: the orders that changed since it last took them, without repetition.
        calls: the calls since then.
        behind: whether it did not keep up.
        closed: whether the sandbox closes, or the page was left.
    """

    orders: dict[OrderKey, None] = field(factory=dict[OrderKey, None])
    calls: list[SeenCall] = field(factory=list[SeenCall])
    behind: bool = False
    closed: bool = False
    _is_gone: Callable[[], bool] = field(default=lambda: False, repr=False, alias="is_gone")
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, repr=False)
    _news: asyncio.Event = field(factory=asyncio.Event, repr=False)

    def add(self, news: News) -> None:
        """Add a change; the payer may act in another thread."""
        if self.behind:
            return
        if len(self.orders) + len(self.calls) >= MAX_NEWS:
            self.behind = True
            self.orders.clear()
            self.calls.clear()
        elif isinstance(news, SeenCall):
            self.calls.append(news)
        else:
            self.orders[news] = None
        self.wake()

    def is_gone(self) -> bool:
        """Return whether its page was left; what waits for news does not notice that by itself."""
        return self._is_gone()

    def wake(self) -> None:
        """End its waiting."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, seconds: float) -> None:
        """Wait until there is something new, or for some seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    def take(self) -> tuple[list[OrderKey], list[SeenCall]]:
        """Take what is new."""
        orders, self.orders = list(self.orders), {}
        calls, self.calls = self.calls, []
        return orders, calls


@define(eq=False)
class Feed:
    """All open pages.

    Attributes:
        readers: one for each.
        count: the changes so far. A page is rendered with it, and reads on from there.
    """

    readers: set[Reader] = field(init=False, factory=set[Reader])
    count: int = field(init=False, default=0)
    _last: deque[News] = field(init=False, factory=lambda: deque[News](maxlen=MAX_NEWS), repr=False)

    def open(
        self, is_gone: Callable[[], bool] = lambda: False, *, since: int | None = None
    ) -> Reader | None:
        """Return a new reader; None if there are 32 already whose pages are open.

        Args:
            is_gone: whether the page of this reader was left.
            since: the count with which the page was rendered; None to begin with what comes.
        """
        if len(self.readers) >= MAX_READERS:
            self._end(reader for reader in self.readers if reader.is_gone())
        if len(self.readers) >= MAX_READERS:
            return None
        reader = Reader(is_gone=is_gone)
        missed = 0 if since is None else max(0, self.count - since)
        reader.behind = missed > len(self._last)
        for news in islice(self._last, max(0, len(self._last) - missed), None):
            reader.add(news)
        self.readers.add(reader)
        return reader

    def add(self, news: News) -> None:
        """Tell every reader."""
        self._last.append(news)
        self.count += 1
        for reader in tuple(self.readers):
            reader.add(news)

    def close(self) -> None:
        """End every reader."""
        self._end(self.readers)

    def _end(self, readers: Iterable[Reader]) -> None:
        for reader in tuple(readers):
            reader.closed = True
            reader.wake()
            self.readers.discard(reader)
