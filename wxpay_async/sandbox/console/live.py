"""Keep an open page up to date by server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Final

from aiohttp import web
from attrs import define, field

from wxpay_async.sandbox.console.feed import Reader
from wxpay_async.sandbox.console.journal import Journal, OrderKey, SeenCall
from wxpay_async.sandbox.console.pages import Pages
from wxpay_async.sandbox.console.texts import Language
from wxpay_async.sandbox.console.views import (
    Filter,
    build_order,
    build_row,
    count_states,
    find_trade,
    matches,
    matches_call,
    view_call,
)

_PAUSE: Final = 0.1  # seconds between two writes: a burst becomes one
_HEARTBEAT: Final = 10.0  # seconds after which a silent page is written to, and found to be gone
_PATIENCE: Final = 30.0  # seconds for which a reader may not read at all


@define(eq=False, kw_only=True)
class LivePage:
    """One open page and its connection.

    Attributes:
        journal: what it shows.
        pages: renders its rows.
        reader: what is new for it.
        language: of its words.
        filter: which rows it shows.
        kind: `orders`, `requests`, `faults` or `order`.
        key: the order that it is about.
        token: for the forms in what is rendered.
    """

    journal: Journal
    pages: Pages
    reader: Reader
    language: Language
    filter: Filter
    kind: str
    key: OrderKey
    token: str = field(repr=False)

    async def stream(
        self, request: web.BaseRequest, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Write what is new until the page is left, the sandbox closes or the page is behind."""
        response = web.StreamResponse(headers=dict(headers))
        response.force_close()  # it never ends by itself
        try:
            await response.prepare(request)
            await self._write(response, ": open\n\n")
            while not (self.reader.closed or self.reader.behind):
                await self.reader.wait(_HEARTBEAT)
                self.journal.platform.close_due_orders()
                await self._write(response, "".join(self.write_news()) or ": alive\n\n")
                await asyncio.sleep(_PAUSE)
            if self.reader.behind:
                await self._write(response, _format("reload", {}))
        except (ConnectionError, TimeoutError):
            self._cut_off(request)
        return response

    def write_news(self) -> Iterator[str]:
        """Yield the events for what is new."""
        orders, calls = self.reader.take()
        if self.kind == "faults":
            pass  # the page shows no rows that come in
        elif self.kind == "requests":
            yield from (self._write_call(c) for c in calls if matches_call(c, self.filter))
        elif self.kind == "order":
            if self.key in orders:
                yield self._write_order()
        else:
            yield from filter(None, (self._write_row(key) for key in orders))
        if orders or calls:
            counts = {**count_states(self.journal), "refused": len(self.journal.refused)}
            yield _format("counts", counts)

    def _write_row(self, key: OrderKey) -> str:
        """Write an order's row; without its HTML if the filter hides it now."""
        trade = find_trade(self.journal, key)
        if trade is None:
            return ""
        row = build_row(self.journal, trade)
        shown = matches(self.journal, trade, self.filter)
        html = self._render("order_row.html", row=row) if shown else ""
        return _format("row", {"key": row.key, "html": html})

    def _write_order(self) -> str:
        trade = find_trade(self.journal, self.key)
        if trade is None:
            return ""
        order = build_order(self.journal, trade)
        return _format("detail", {"html": self._render("order_detail.html", order=order)})

    def _write_call(self, call: SeenCall) -> str:
        html = self._render("request_row.html", row=view_call(call))
        return _format("row", {"key": f"call-{call.number}", "html": html})

    def _render(self, template: str, **values: object) -> str:
        return self.pages.render(template, self.language, token=self.token, **values)

    @staticmethod
    async def _write(response: web.StreamResponse, text: str) -> None:
        async with asyncio.timeout(_PATIENCE):
            await response.write(text.encode())

    @staticmethod
    def _cut_off(request: web.BaseRequest) -> None:
        """Close the connection of a reader that has gone or does not read."""
        if request.transport is not None:
            request.transport.abort()


def _format(event: str, data: Mapping[str, object]) -> str:
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
