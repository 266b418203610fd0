"""Keep what the console shows: calls, refusals, and what belongs to each order. No I/O.

Orders, refunds and the ledger stay where they are. The journal adds what the platform forgets: how
often a requestId was seen, why calls were refused, and how merchants answered callbacks. Everything
that a caller can make grow is bounded.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from attrs import define, evolve, field, frozen

from wxpay_async.sandbox.auth import IncomingRequest
from wxpay_async.sandbox.callback_payloads import Callback
from wxpay_async.sandbox.callbacks import Delivery
from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.fault_kinds import FaultKind
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.platform import Platform
from wxpay_async.sandbox.state import LedgerEntry

OrderKey = tuple[str, str]
"""appKey and outTradeNo of an order."""

MAX_CALLS: Final = 2_000
MAX_REFUSED: Final = 500
MAX_REQUEST_IDS: Final = 50_000
MAX_KEPT: Final = 32_768
"""Characters of a refused request's parameters; of a longer one only the names are kept."""

_MAX_DELIVERIES: Final = 50
_MAX_ACTS: Final = 20
_MAX_TEXT: Final = 64
_REQUEST_ID: Final = re.compile(r'"requestId"\s*:\s*"([^"\\]*)"')
_ORDER: Final = re.compile(r'"outTradeNo"\s*:\s*"([^"\\]*)"')
_NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})


@frozen(kw_only=True)
class SeenCall:
    """A call that arrived, and what became of it.

    Attributes:
        number: counts from 1; a later call has a greater one.
        at: seconds since the epoch.
        method: of HTTP.
        path: where it went.
        address: the caller's.
        app_key: as the request says, empty when it says nothing.
        request_id: of its bizContent, empty when there is none.
        order: the first outTradeNo in it, empty when there is none.
        code: the errorCode, empty for success.
        message: why it was refused, empty for success.
        fault: what was injected into its reply, empty for none.
        params: the parameters of a refused call.
    """

    number: int
    at: float
    method: str = "POST"
    path: str
    address: str
    app_key: str = ""
    request_id: str = ""
    order: str = ""
    code: str = ""
    message: str = ""
    fault: str = ""
    params: Mapping[str, str] = field(default=_NO_PARAMS, repr=False)


@frozen(kw_only=True)
class PayerAct:
    """Something that the payer did on the cashier without changing the order.

    Attributes:
        at: seconds since the epoch.
        what: which act, such as `wrong_password`.
    """

    at: float
    what: str


@define(eq=False)
class OrderLog:
    """What happened to one order or refund.

    Attributes:
        entries: what was executed, in order.
        deliveries: the callbacks about it, with their answers.
        acts: what the payer tried in vain.
    """

    entries: list[LedgerEntry] = field(factory=list[LedgerEntry])
    deliveries: deque[Delivery] = field(factory=lambda: deque[Delivery](maxlen=_MAX_DELIVERIES))
    acts: deque[PayerAct] = field(factory=lambda: deque[PayerAct](maxlen=_MAX_ACTS))


def _ignore_order(key: OrderKey) -> None:
    """Do nothing: no page watches the orders."""


def _ignore_call(call: SeenCall) -> None:
    """Do nothing: no page watches the requests."""


@define(eq=False, kw_only=True)
class Journal:
    """Collect what the console shows.

    Attributes:
        platform: whose calls and orders these are.
        on_order: called with each order that changed.
        on_call: called with each call.
        calls: the last 2,000 calls.
        refused: the last 500 refused calls, however many others came after them.
    """

    platform: Platform = field(repr=False)
    on_order: Callable[[OrderKey], None] = field(default=_ignore_order, repr=False)
    on_call: Callable[[SeenCall], None] = field(default=_ignore_call, repr=False)
    calls: deque[SeenCall] = field(
        init=False, factory=lambda: deque[SeenCall](maxlen=MAX_CALLS), repr=False
    )
    refused: deque[SeenCall] = field(
        init=False, factory=lambda: deque[SeenCall](maxlen=MAX_REFUSED), repr=False
    )
    _logs: dict[OrderKey, OrderLog] = field(init=False, factory=dict[OrderKey, OrderLog])
    _seen: OrderedDict[tuple[str, str], int] = field(
        init=False, factory=OrderedDict[tuple[str, str], int], repr=False
    )
    _read: int = field(init=False, default=0)
    _count: int = field(init=False, default=0)

    def find_log(self, key: OrderKey) -> OrderLog:
        """Return what happened to an order or a refund; an empty log if nothing did."""
        return self._logs.get(key) or OrderLog()

    def count_attempts(self, app_key: str, request_id: str) -> int:
        """Return how often a requestId was seen, refused calls included."""
        return self._seen.get((app_key, request_id), 0)

    def find_call(self, number: int) -> SeenCall | None:
        """Return a call by its number; None if it is forgotten."""
        return next((c for c in (*self.refused, *self.calls) if c.number == number), None)

    def note_call(
        self, request: IncomingRequest, params: Mapping[str, str], error: RefusalError | None
    ) -> None:
        """Keep a call that the platform has answered."""
        call = self._describe(request, params)
        if error is not None:
            call = evolve(call, code=error.code, message=error.message, params=_cut(params))
        if call.request_id:
            self._count_attempt((call.app_key, call.request_id))
        self.read_ledger()
        self._keep(call)
        if call.request_id:
            self._tell_orders(call)

    def note_fault(self, request: IncomingRequest, fault: Fault) -> None:
        """Keep that something goes wrong with a call on purpose."""
        message = "executed" if fault.executed or fault.kind is FaultKind.DELAY else "not executed"
        call = self._describe(request, _NO_PARAMS)
        self._keep(evolve(call, fault=str(fault.kind), message=message))

    def note_stray(self, request: IncomingRequest, message: str) -> None:
        """Keep a call to a path that does not exist, or that could not be read."""
        self._keep(evolve(self._describe(request, _NO_PARAMS), code="404", message=message))

    def note_callback(self, callback: Callback) -> None:
        """Tell that the status of an order changed."""
        self.read_ledger()
        self._tell(callback.app_key, callback.out_trade_no)

    def note_delivery(self, delivery: Delivery) -> None:
        """Keep a callback with its answer."""
        callback = delivery.callback
        self._open_log((callback.app_key, callback.out_trade_no)).deliveries.append(delivery)
        self._tell(callback.app_key, callback.out_trade_no)

    def note_act(self, key: OrderKey, what: str) -> None:
        """Keep something that the payer tried in vain."""
        self._open_log(key).acts.append(PayerAct(at=self.platform.now(), what=what))
        self.on_order(key)

    def read_ledger(self) -> None:
        """Sort what was executed since the last time by its orders."""
        new = self.platform.ledger[self._read :]
        self._read += len(new)
        for entry in new:
            for number in entry.out_trade_nos:
                self._open_log((entry.app_key, number)).entries.append(entry)
                self._tell(entry.app_key, number)

    def _describe(self, request: IncomingRequest, params: Mapping[str, str]) -> SeenCall:
        self._count += 1
        content = params.get("bizContent", "")
        return SeenCall(
            number=self._count,
            at=self.platform.clock(),
            method=request.method,
            path=request.path,
            address=request.address,
            app_key=params.get("appKey", "")[:_MAX_TEXT],
            request_id=_find_text(_REQUEST_ID, content),
            order=params.get("outTradeNo", "")[:_MAX_TEXT] or _find_text(_ORDER, content),
        )

    def _keep(self, call: SeenCall) -> None:
        self.calls.append(call)
        if call.code:
            self.refused.append(call)
        self.on_call(call)

    def _count_attempt(self, key: tuple[str, str]) -> None:
        self._seen[key] = self._seen.pop(key, 0) + 1
        if len(self._seen) > MAX_REQUEST_IDS:
            self._seen.popitem(last=False)

    def _tell_orders(self, call: SeenCall) -> None:
        """Tell that another attempt was seen: the call itself may have been refused."""
        entry = self.platform.find_account(call.app_key).entries.get(call.request_id)
        for number in entry.out_trade_nos if entry else ():
            self._tell(call.app_key, number)

    def _tell(self, app_key: str, number: str) -> None:
        account = self.platform.find_account(app_key)
        refund = account.refunds.get(number)
        if refund is not None and number not in account.trades:
            number = refund.trade.out_trade_no
        self.on_order((app_key, number))

    def _open_log(self, key: OrderKey) -> OrderLog:
        return self._logs.setdefault(key, OrderLog())


def _find_text(pattern: re.Pattern[str], content: str) -> str:
    found = pattern.search(content)
    return found[1][:_MAX_TEXT] if found else ""


def _cut(params: Mapping[str, str]) -> Mapping[str, str]:
    if sum(len(name) + len(text) for name, text in params.items()) <= MAX_KEPT:
        return params
    return {name[:_MAX_TEXT]: "…" for name in params}
