"""Simulate the platform: answer calls with its envelope, and act as the payer. No I/O.

Time, chance and the signature of prepays are passed in, so that tests control each second. The
ledger lists in order what was executed. Each action of the payer is a method.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, cast

from attrs import define, field, frozen

from wxpay_async.sandbox.auth import App, IncomingRequest, read_params
from wxpay_async.sandbox.error_codes import Code, RefusalError, ReplayedError
from wxpay_async.sandbox.fault_answers import REFUSALS, change_data, change_envelope
from wxpay_async.sandbox.fault_kinds import FaultKind, Operation, Place
from wxpay_async.sandbox.fault_queue import Faults
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.magic import MagicValue, MetOrders, find_magic
from wxpay_async.sandbox.operations import Operations, Params
from wxpay_async.sandbox.payer import (
    cancel_purchase,
    confirm_purchase,
    end_purchase,
    expire_purchase,
)
from wxpay_async.sandbox.platform_state import PlatformState
from wxpay_async.sandbox.prepays import PrepayIssuer
from wxpay_async.sandbox.request_parsing import read_biz_content, read_pay, read_refund
from wxpay_async.sandbox.responses import Reply, build_failure, build_success
from wxpay_async.sandbox.state import Purchase, Status

Observer = Callable[[IncomingRequest, Params, RefusalError | None], None]
FaultObserver = Callable[[IncomingRequest, Fault], None]

PATHS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "/api/instant/trade": "trade",
        "/api/instant/pay/wxminiprogram": "pay",
        "/api/instant/query": "query",
        "/api/instant/refund": "refund",
        "/api/company/merchants": "merchants",
    }
)
"""The endpoints of the platform."""

_RECENT: Final = 256


def _ignore_call(request: IncomingRequest, params: Params, error: RefusalError | None) -> None:
    """Keep nothing."""


def _ignore_fault(request: IncomingRequest, fault: Fault) -> None:
    """Keep nothing."""


@frozen
class Served:
    """A reply, and what still happens to it on its way.

    Attributes:
        reply: the envelope.
        fault: what happens to it, None for nothing.
    """

    reply: Reply
    fault: Fault | None = None


@frozen
class _Magic:
    """A magic value in a request: the order or refund by which it counts, and what is paid."""

    value: MagicValue
    key: str
    purchase: Purchase | None = None


@define(kw_only=True, eq=False)
class Platform(PlatformState):
    """A platform with its merchants, orders and ledger; see `PlatformState` for what it keeps.

    Attributes:
        sign_pay: signs a prepay, in Base64.
        observe: told of each call after it was answered: the request, its parameters as far as
            they could be read, and why it was refused.
        observe_fault: told of each fault of a call.
        faults: the faults that are ordered.
        magic: whether magic values act.
        calls: how many calls arrived, by path.
        replies: how many replies were sent, by errorCode; the empty code is success.
        recent: the last 256 calls as they arrived, including refused ones.
        paths: the operations, by path.
        operations: executes the calls.
    """

    sign_pay: Callable[[bytes], str] = field(repr=False)
    observe: Observer = field(default=_ignore_call, repr=False)
    observe_fault: FaultObserver = field(default=_ignore_fault, repr=False)
    faults: Faults = field(factory=Faults, repr=False)
    magic: bool = True
    calls: Counter[str] = field(init=False, factory=Counter[str])
    replies: Counter[str] = field(init=False, factory=Counter[str])
    recent: deque[IncomingRequest] = field(
        init=False, factory=lambda: deque[IncomingRequest](maxlen=_RECENT), repr=False
    )
    operations: Operations = field(init=False, repr=False)
    _met: MetOrders = field(init=False, factory=MetOrders, repr=False)
    _former: dict[str, Reply] = field(init=False, factory=dict[str, Reply], repr=False)

    def __attrs_post_init__(self) -> None:
        prepays = PrepayIssuer(
            now=self.now, token=self.token, sign=self.sign_pay, issued=self.prepays
        )
        self.operations = Operations(state=self, prepays=prepays)

    def fail_next(self, code: str, *, executed: bool = False) -> None:
        """Answer the next call with an error: `Fault.error` in short.

        A call that fails a check of the envelope does not use up an error.

        Args:
            code: the errorCode; CO_MSG_000002 and CO_MSG_000003 are those that leave doubt.
            executed: whether the call is executed nevertheless.

        Raises:
            InvalidRequestError: this is no errorCode.
        """
        self.faults.inject(Fault.error(code=code, executed=executed))

    # The payer

    def confirm(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the payer confirm: every trade of the purchase is paid, once.

        Args:
            out_trade_no: the order's number.
            app_key: the merchant's; None for the first one that used the number.

        Returns:
            The status afterwards. A purchase that has ended stays as it is.

        Raises:
            InvalidRequestError: there is no such order.
            PrepayExpiredError: every prepay is over 20 minutes old, and there is no code to scan.
        """
        return confirm_purchase(self, self.find_purchase(out_trade_no, app_key))

    def cancel(self, out_trade_no: str, *, app_key: str | None = None, reason: str = "") -> Status:
        """Let the payer decline: an order that awaits payment fails. Raises as `confirm` does.

        Args:
            out_trade_no: the order's number.
            app_key: the merchant's; None for the first one that used the number.
            reason: the failReason of its callback; that the payer cancelled when empty.
        """
        return cancel_purchase(self.find_purchase(out_trade_no, app_key), reason=reason)

    def expire(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the time run out: an order that awaits payment closes. Raises as `confirm` does."""
        return expire_purchase(self.find_purchase(out_trade_no, app_key))

    # The calls

    def take_fault(self, request: IncomingRequest) -> Fault | None:
        """Return the fault that a call meets on its arrival, None if it meets none."""
        fault = self.faults.take(Place.ARRIVAL, PATHS[request.path])
        if fault is not None:
            self.observe_fault(request, fault)
        return fault

    def answer(self, request: IncomingRequest) -> Reply:
        """Answer a call to one of `PATHS` with the platform's envelope."""
        return self.serve(request).reply

    def serve(self, request: IncomingRequest, *, ahead: float = 0.0) -> Served:
        """Answer a call; tell also what happens to the reply on its way.

        Args:
            request: the call.
            ahead: seconds by which the platform's clock is wrong.
        """
        self._count(request)
        params: Params = {}
        fault: Fault | None = None
        try:
            params = read_params(request)
            app = self._admit(request, params, ahead)
            magic = self._find_magic(request, app.app_key, params)
            fault = self._choose_fault(request, app.app_key, magic)
            data = self._execute(request, app.app_key, params, fault)
        except RefusalError as error:
            return Served(self._refuse(request, params, error), fault)
        if magic and magic.purchase and magic.value.payer:
            magic.purchase.callback_fault = magic.value.callback
            end_purchase(self, magic.purchase, magic.value.payer)
        self.replies[""] += 1
        self.observe(request, params, None)
        reply = build_success(data)
        return Served(change_envelope(fault, reply) if fault else reply, fault)

    def refuse(self, request: IncomingRequest, error: RefusalError) -> Reply:
        """Answer a call with a refusal that has nothing to do with its content."""
        self._count(request)
        return self._refuse(request, {}, error)

    def _count(self, request: IncomingRequest) -> None:
        self.calls[request.path] += 1
        self.recent.append(request)

    def _refuse(self, request: IncomingRequest, params: Params, error: RefusalError) -> Reply:
        self.replies[error.code] += 1
        self.observe(request, params, error)
        return build_failure(error)

    def _admit(self, request: IncomingRequest, params: Params, ahead: float) -> App:
        app = self.apps.get(params["appKey"])
        if app is None:
            raise RefusalError(Code.APP_UNKNOWN)
        try:
            app.admit(params, address=request.address, now=self.clock() + ahead)
        except ReplayedError:
            # A copy of an executed request is refused as a repeated requestId: the code of a
            # malformed request means "not executed". No page documents a code for a used nonce.
            if self._was_executed(app.app_key, params):
                raise RefusalError(Code.REQUEST_ID_REPEATED) from None
            raise
        return app

    def _was_executed(self, app_key: str, params: Params) -> bool:
        try:
            content = json.loads(params.get("bizContent", ""))
        except ValueError:
            return False
        fields = cast("dict[str, object]", content) if isinstance(content, dict) else {}
        request_id = fields.get("requestId")
        return isinstance(request_id, str) and request_id in self.find_account(app_key).entries

    def _find_magic(self, request: IncomingRequest, app_key: str, params: Params) -> _Magic | None:
        """Return the magic value of a pay or a refund; None for an ordinary request."""
        operation = PATHS[request.path]
        if not self.magic or operation not in ("pay", "refund"):
            return None
        if operation == "refund":
            refund = read_refund(read_biz_content(params))
            value = find_magic(amount=refund.amount)
            return _Magic(value, refund.out_trade_no) if value else None
        content = read_pay(read_biz_content(params))
        purchase = self.find_account(app_key).purchases.get(content.pay_token)
        if purchase is None:
            return None
        value = find_magic(openid=content.openid, amount=purchase.amount)
        return _Magic(value, purchase.pay_token, purchase) if value else None

    def _choose_fault(
        self, request: IncomingRequest, app_key: str, magic: _Magic | None
    ) -> Fault | None:
        """Return the fault of an admitted call: one that was ordered, else a magic one."""
        fault = self.faults.take(Place.ADMITTED, PATHS[request.path])
        if fault is None and magic and magic.value.fault and self._met.meet(app_key, magic.key):
            fault = magic.value.fault
        if fault is not None:
            self.observe_fault(request, fault)
        return fault

    def _execute(
        self, request: IncomingRequest, app_key: str, params: Params, fault: Fault | None
    ) -> Reply:
        if fault is not None and not fault.executed:
            raise RefusalError(_find_code(fault))
        data = self.operations.execute(PATHS[request.path], app_key, params)
        if fault is not None:
            if fault.kind in REFUSALS:
                raise RefusalError(_find_code(fault))
            changed = change_data(fault, data, self._former.get(request.path))
        else:
            changed = data
        self._former[request.path] = data
        return changed


def _find_code(fault: Fault) -> str:
    """Return the errorCode of a fault."""
    if fault.kind is FaultKind.RATE_LIMITED:
        return Code.RATE_EXCEEDED
    return fault.code if fault.kind in REFUSALS else Code.INTERRUPTED
