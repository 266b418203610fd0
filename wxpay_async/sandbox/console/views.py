"""Gather what the pages show: rows of orders and calls, and one order with its callbacks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from attrs import frozen

from wxpay_async.sandbox.callback_payloads import format_time, to_china_time
from wxpay_async.sandbox.callbacks import Delivery
from wxpay_async.sandbox.console.diagnosis import Diagnosis, diagnose
from wxpay_async.sandbox.console.journal import Journal, OrderKey, PayerAct, SeenCall
from wxpay_async.sandbox.error_codes import Code
from wxpay_async.sandbox.state import Prepay, Refund, Status, Trade

MAX_ROWS: Final = 200
"""Rows of a page. Older ones are found by the search."""

STATES: Final[Mapping[Status, str]] = MappingProxyType(
    {
        Status.AWAITING: "awaiting",
        Status.PAID: "paid",
        Status.FAILED: "failed",
        Status.CLOSED: "closed",
    }
)
"""The name of each status in texts and styles."""


@frozen(kw_only=True)
class Filter:
    """Which rows a page shows.

    Attributes:
        state: one of `STATES`, `refused` for calls; all when empty.
        text: must occur in the row, in any case; all when empty.
    """

    state: str = ""
    text: str = ""

    def to_query(self, **more: str) -> str:
        """Return the query string of a page with this filter."""
        pairs = {"state": self.state, "q": self.text, **more}
        return urlencode({name: text for name, text in pairs.items() if text})


@frozen(kw_only=True)
class OrderRow:
    """One order in the list."""

    app_key: str
    number: str
    subject: str
    amount: str
    state: str
    at: str
    request_id: str
    attempts: int
    refunded: str
    callbacks: int
    acknowledged: bool

    @property
    def key(self) -> str:
        """What no other row has."""
        return f"{self.app_key}/{self.number}"

    @property
    def link(self) -> str:
        """The query string of its page."""
        return urlencode({"app": self.app_key, "order": self.number})


@frozen(kw_only=True)
class RequestView:
    """A request that was executed for an order."""

    kind: str
    request_id: str
    amount: str
    at: str
    attempts: int


@frozen(kw_only=True)
class PrepayView:
    """A prepay of an order."""

    prepay_id: str
    until: str
    expired: bool


@frozen(kw_only=True)
class RefundView:
    """A refund of an order, with its callbacks."""

    number: str
    amount: str
    at: str
    deliveries: Sequence[DeliveryView]


@frozen(kw_only=True)
class DeliveryView:
    """A callback with its answer."""

    at: str
    attempt: int
    forgery: str
    result: str
    status: str
    answer: str
    pairs: Sequence[tuple[str, str]]


@frozen(kw_only=True)
class OrderView:
    """One order with all that belongs to it."""

    row: OrderRow
    trade_no: str
    created: str
    closes: str
    ended: str
    open: bool
    has_address: bool
    requests: Sequence[RequestView]
    prepays: Sequence[PrepayView]
    refunds: Sequence[RefundView]
    deliveries: Sequence[DeliveryView]
    acts: Sequence[tuple[str, str]]
    refusals: Sequence[CallRow]


@frozen(kw_only=True)
class CallRow:
    """One call in the request log."""

    call: SeenCall
    at: str

    @property
    def refused(self) -> bool:
        """Whether the platform refused it."""
        return bool(self.call.code)

    @property
    def signature_wrong(self) -> bool:
        """Whether there is a diagnosis."""
        return self.call.code == Code.BAD_SIGNATURE and "sign" in self.call.params


def list_orders(journal: Journal, shown: Filter) -> list[OrderRow]:
    """Return the newest 200 orders that a filter lets through."""
    orders = journal.platform.iter_orders()
    found = (trade for trade in orders if matches(journal, trade, shown))
    return [build_row(journal, trade) for trade in islice(found, MAX_ROWS)]


def matches(journal: Journal, trade: Trade, shown: Filter) -> bool:
    """Tell whether a filter lets an order through; its row need not be built for that."""
    if shown.state and STATES[trade.status] != shown.state:
        return False
    text = shown.text.lower()
    return not text or any(text in each.lower() for each in _list_texts(journal, trade))


def _list_texts(journal: Journal, trade: Trade) -> Iterator[str]:
    """Yield what the search looks through."""
    app_key = trade.purchase.app_key
    yield from (trade.out_trade_no, trade.item.subject, app_key, str(trade.amount))
    for entry in journal.find_log((app_key, trade.out_trade_no)).entries:
        yield entry.request_id


def count_states(journal: Journal) -> Counter[str]:
    """Return how many orders there are in each state."""
    return Counter(STATES[trade.status] for trade in journal.platform.iter_orders())


def find_trade(journal: Journal, key: OrderKey) -> Trade | None:
    """Return an order; None if there is none."""
    return journal.platform.find_account(key[0]).trades.get(key[1])


def build_row(journal: Journal, trade: Trade) -> OrderRow:
    """Return an order as a row."""
    app_key = trade.purchase.app_key
    log = journal.find_log((app_key, trade.out_trade_no))
    ids = [entry.request_id for entry in log.entries if entry.request_id]
    genuine = [each for each in log.deliveries if each.forgery is None]
    return OrderRow(
        app_key=app_key,
        number=trade.out_trade_no,
        subject=trade.item.subject,
        amount=str(trade.amount),
        state=STATES[trade.status],
        at=_to_clock_time(trade.purchase.created_at),
        request_id=ids[-1] if ids else "",
        attempts=sum(journal.count_attempts(app_key, each) for each in ids),
        refunded=str(trade.refunded) if trade.refunded else "",
        callbacks=len(log.deliveries),
        acknowledged=any(each.acknowledged for each in genuine),
    )


def build_order(journal: Journal, trade: Trade) -> OrderView:
    """Return an order with all that belongs to it."""
    purchase = trade.purchase
    key = (purchase.app_key, trade.out_trade_no)
    log = journal.find_log(key)
    account = journal.platform.find_account(purchase.app_key)
    refunds = [refund for refund in account.refunds.values() if refund.trade is trade]
    now = journal.platform.now()
    return OrderView(
        row=build_row(journal, trade),
        trade_no=trade.trade_no,
        created=format_time(purchase.created_at),
        closes="" if purchase.closes_at is None else format_time(purchase.closes_at),
        ended="" if purchase.ended_at is None else format_time(purchase.ended_at),
        open=trade.status is Status.AWAITING,
        has_address=journal.platform.apps[purchase.app_key].notify_url is not None,
        requests=_list_requests(journal, key),
        prepays=[_view_prepay(prepay, now) for prepay in reversed(purchase.prepays)],
        refunds=[_view_refund(journal, refund) for refund in refunds],
        deliveries=[view_delivery(each) for each in reversed(log.deliveries)],
        acts=[_view_act(act) for act in reversed(log.acts)],
        refusals=_list_refusals(journal, key),
    )


def list_calls(journal: Journal, shown: Filter) -> list[CallRow]:
    """Return the newest 200 calls that a filter lets through."""
    calls = journal.refused if shown.state == "refused" else journal.calls
    found = (view_call(call) for call in reversed(calls) if matches_call(call, shown))
    return list(islice(found, MAX_ROWS))


def matches_call(call: SeenCall, shown: Filter) -> bool:
    """Tell whether a filter lets a call through."""
    if shown.state == "refused" and not call.code:
        return False
    texts = (call.path, call.order, call.request_id, call.code, call.app_key, call.message)
    return not shown.text or any(shown.text.lower() in text.lower() for text in texts)


def view_call(call: SeenCall) -> CallRow:
    """Return a call as a row."""
    return CallRow(call=call, at=_to_clock_time(call.at))


def explain_call(journal: Journal, call: SeenCall) -> Diagnosis | None:
    """Return why the signature of a call was refused; None for another refusal."""
    app = journal.platform.apps.get(call.app_key)
    if app is None or not view_call(call).signature_wrong:
        return None
    return diagnose(app, call.params)


def view_delivery(delivery: Delivery) -> DeliveryView:
    """Return a callback with its answer."""
    result = "acknowledged" if delivery.acknowledged else "not_acknowledged"
    return DeliveryView(
        at=_to_clock_time(delivery.at),
        attempt=delivery.attempt,
        forgery=str(delivery.forgery or ""),
        result=result if delivery.status is not None else "no_answer",
        status=delivery.problem if delivery.status is None else f"HTTP {delivery.status}",
        answer=delivery.answer[:500].decode("utf-8", "replace"),
        pairs=delivery.pairs,
    )


def link_cashier(prepay: Prepay | None, key: OrderKey, language: str) -> str:
    """Return the address of an order's cashier page."""
    if prepay is None:
        return "/cashier?" + urlencode({"app": key[0], "order": key[1], "lang": language})
    return "/cashier?" + urlencode({"prepay": prepay.prepay_id, "lang": language})


def write_json(value: object) -> str:
    """Return a value as JSON for an attribute of a page."""
    return json.dumps(value, ensure_ascii=False)


def _list_requests(journal: Journal, key: OrderKey) -> list[RequestView]:
    return [
        RequestView(
            kind=entry.kind,
            request_id=entry.request_id,
            amount=str(entry.amount),
            at=_to_clock_time(entry.at),
            attempts=journal.count_attempts(key[0], entry.request_id),
        )
        for entry in journal.find_log(key).entries
    ]


def _list_refusals(journal: Journal, key: OrderKey) -> list[CallRow]:
    ids = {entry.request_id for entry in journal.find_log(key).entries} - {""}
    return [
        view_call(call)
        for call in reversed(journal.refused)
        if call.app_key == key[0] and (call.order == key[1] or call.request_id in ids)
    ]


def _view_prepay(prepay: Prepay, now: float) -> PrepayView:
    return PrepayView(
        prepay_id=prepay.prepay_id,
        until=_to_clock_time(prepay.expires_at),
        expired=now >= prepay.expires_at,
    )


def _view_refund(journal: Journal, refund: Refund) -> RefundView:
    log = journal.find_log((refund.trade.purchase.app_key, refund.out_trade_no))
    return RefundView(
        number=refund.out_trade_no,
        amount=str(refund.amount),
        at=_to_clock_time(refund.at),
        deliveries=[view_delivery(each) for each in reversed(log.deliveries)],
    )


def _view_act(act: PayerAct) -> tuple[str, str]:
    return _to_clock_time(act.at), act.what


def _to_clock_time(seconds: float) -> str:
    return f"{to_china_time(seconds):%H:%M:%S}"
