"""Serve console, cashier and the stand-in for `wx.requestPayment`."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.extras import how_to_install
from wxpay_async.sandbox.answers import HTML, Answers
from wxpay_async.sandbox.auth import IncomingRequest, read_pairs
from wxpay_async.sandbox.callback_payloads import format_time
from wxpay_async.sandbox.callbacks import CallbackSender
from wxpay_async.sandbox.console.acts import Acts
from wxpay_async.sandbox.console.cashier import build_cashier
from wxpay_async.sandbox.console.faults import build_faults
from wxpay_async.sandbox.console.feed import Feed
from wxpay_async.sandbox.console.journal import Journal
from wxpay_async.sandbox.console.live import LivePage
from wxpay_async.sandbox.console.pages import Pages, read_static
from wxpay_async.sandbox.console.texts import TEXTS, Language, choose_language
from wxpay_async.sandbox.console.views import (
    STATES,
    Filter,
    build_order,
    count_states,
    explain_call,
    find_trade,
    list_calls,
    list_orders,
)
from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.guard import is_own_machine
from wxpay_async.sandbox.responses import encode_json

_SECURITY: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors "
)
_NOBODY: Final = "'none'"
_THIS_MACHINE: Final = (
    "'self' http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:*"
)
"""Who may show the cashier in a frame: web builds of mini programs that run on this machine."""

_STATIC: Final[Mapping[str, tuple[str, str]]] = {
    "/console/console.css": ("console.css", "text/css;charset=UTF-8"),
    "/console/console.js": ("console.js", "text/javascript;charset=UTF-8"),
    "/wx-pay.js": ("wx-pay.js", "text/javascript;charset=UTF-8"),
}
_MAX_TEXT: Final = 128


@frozen(kw_only=True)
class Visit:
    """A request for a page.

    Attributes:
        params: its parameters.
        language: of the answer.
        as_json: whether a script of the page asks.
    """

    params: Mapping[str, str]
    language: Language
    as_json: bool

    @property
    def filter(self) -> Filter:
        """Which rows the page shows."""
        return Filter(
            state=self.params.get("state", ""), text=self.params.get("q", "").strip()[:_MAX_TEXT]
        )

    @property
    def since(self) -> int | None:
        """How many changes the page has seen."""
        text = self.params.get("since", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_TEXT else None

    @property
    def key(self) -> tuple[str, str]:
        """The order that the page is about."""
        return self.params.get("app", ""), self.params.get("order", "")


@define(eq=False, kw_only=True)
class Console:
    """Serve the pages.

    Attributes:
        journal: what they show.
        feed: what is new.
        callbacks: sends callbacks again.
        answers: builds HTTP answers.
        public_key: returns the PEM that verifies paySign.
        token: what an action must repeat: only the sandbox's own pages know it.
    """

    journal: Journal
    feed: Feed
    callbacks: CallbackSender
    answers: Answers
    public_key: Callable[[], str] = field(repr=False)
    token: str = field(repr=False)
    pages: Pages = field(init=False, factory=Pages)

    async def serve(
        self, request: web.BaseRequest, incoming: IncomingRequest
    ) -> web.StreamResponse | None:
        """Answer a request; None if there is nothing here."""
        try:
            visit = _read_visit(request, incoming)
            match incoming.method, incoming.path:
                case "GET", "/console/events":
                    return await self._stream(request, visit)
                case "POST", "/console/act":
                    return await self._act(visit, address=incoming.address)
                case "GET", _:
                    return self._show(incoming.path, visit)
                case _:
                    return None
        except RefusalError as error:
            return self.answers.build_error(error.message, status=400)
        except InvalidRequestError as error:
            return self._respond_missing(error)

    def _show(self, path: str, visit: Visit) -> web.Response | None:
        if path in _STATIC:
            name, kind = _STATIC[path]
            return self.answers.build(read_static(name), content_type=kind, headers=_SECURITY)
        show = {
            "/": self._show_orders,
            "/console/requests": self._show_requests,
            "/console/order": self._show_order,
            "/console/diagnosis": self._show_diagnosis,
            "/console/faults": self._show_faults,
            "/cashier": self._show_cashier,
        }.get(path)
        return show(visit) if show else None

    def _show_orders(self, visit: Visit) -> web.Response:
        rows, counts = list_orders(self.journal, visit.filter), count_states(self.journal)
        return self._render(
            "orders.html",
            visit,
            rows=rows,
            counts=counts,
            states=list(STATES.values()),
            app_key=next(iter(self.journal.platform.apps)),
            url=self.journal.platform.url,
        )

    def _show_requests(self, visit: Visit) -> web.Response:
        return self._render("requests.html", visit, rows=list_calls(self.journal, visit.filter))

    def _show_order(self, visit: Visit) -> web.Response:
        trade = find_trade(self.journal, visit.key)
        if trade is None:
            return self._render("missing.html", visit, status=404)
        order = build_order(self.journal, trade)
        return self._render("order.html", visit, order=order)

    def _show_diagnosis(self, visit: Visit) -> web.Response | None:
        """Show why a call was refused: computed when a reader wants to know it."""
        number = visit.params.get("call", "")
        call = self.journal.find_call(int(number)) if number.isdecimal() else None
        if call is None:
            return None
        found = explain_call(self.journal, call)
        return self._render("diagnosis.html", visit, call=call, found=found)

    def _show_faults(self, visit: Visit) -> web.Response:
        platform = self.journal.platform
        view = build_faults(platform.faults, visit.language, magic=platform.magic)
        return self._render("faults.html", visit, faults=view)

    def _show_cashier(self, visit: Visit) -> web.Response:
        sheet = build_cashier(self.journal, visit.params, public_key=self.public_key())
        if sheet is None:
            return self._render("missing.html", visit, status=404)
        return self._render("cashier.html", visit, sheet=sheet, framed_by=_THIS_MACHINE)

    def _render(
        self,
        template: str,
        visit: Visit,
        *,
        status: int = 200,
        framed_by: str = _NOBODY,
        **values: object,
    ) -> web.Response:
        platform = self.journal.platform
        page = self.pages.render(
            template,
            visit.language,
            **values,
            token=self.token,
            since=self.feed.count,
            shown=visit.filter,
            params=visit.params,
            now=format_time(platform.now()),
            ahead=round(platform.advance_by / 60),
            refused_count=len(self.journal.refused),
            fault_count=len(platform.faults.list_ordered()),
            total=sum(len(account.trades) for account in platform.iter_accounts()),
            query=urlencode({n: t for n, t in visit.params.items() if n != "lang"}),
        )
        headers = {**_SECURITY, "Content-Security-Policy": _POLICY + framed_by}
        return self.answers.build(page.encode(), status=status, content_type=HTML, headers=headers)

    async def _stream(self, request: web.BaseRequest, visit: Visit) -> web.StreamResponse:
        reader = self.feed.open(lambda: request.transport is None, since=visit.since)
        if reader is None:
            return self.answers.build_error("too many pages are open", status=503)
        page = LivePage(
            journal=self.journal,
            pages=self.pages,
            reader=reader,
            language=visit.language,
            filter=visit.filter,
            kind=visit.params.get("page", "orders"),
            key=visit.key,
            token=self.token,
        )
        try:
            headers = {**self.answers.build_headers("text/event-stream;charset=UTF-8"), **_SECURITY}
            return await page.stream(request, headers)
        finally:
            self.feed.readers.discard(reader)

    async def _act(self, visit: Visit, *, address: str) -> web.Response:
        texts = TEXTS[visit.language]
        if "fault" in visit.params.get("act", "") and not is_own_machine(address):
            return self.answers.build_error(texts["fault_elsewhere"], status=403)
        acts = Acts(journal=self.journal, callbacks=self.callbacks, token=self.token)
        result = await acts.perform(visit.params, texts)
        back = visit.params.get("back", "")
        if visit.as_json or not (back.startswith("/") and not back.startswith("//")):
            return self.answers.build(encode_json(result.to_json()), status=result.status)
        return self.answers.build_redirect(back)

    def _respond_missing(self, error: InvalidRequestError) -> web.Response:
        text = TEXTS["en"]["needs_extra_title"]
        command = html.escape(how_to_install("sandbox"), quote=False)
        page = (
            f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{text}</title>'
            f"<h1>{text}</h1><p>The sandbox itself works without it. For the console:</p>"
            f'<pre>{command}</pre><p>Without it: <a href="/sandbox">the plain cashier</a>.'
        )
        del error  # it says the same, for a terminal
        headers = {**_SECURITY, "Content-Security-Policy": _POLICY + _NOBODY}
        return self.answers.build(page.encode(), status=501, content_type=HTML, headers=headers)


def _read_visit(request: web.BaseRequest, incoming: IncomingRequest) -> Visit:
    params = read_pairs(incoming)
    return Visit(
        params=params,
        language=choose_language(
            params.get("lang", ""), request.headers.get("Accept-Language", "")
        ),
        as_json="application/json" in request.headers.get("Accept", ""),
    )
