"""Create an order and its prepay in one call, and heal what went wrong in calls before it.

For as long as an order can be paid, `checkout` returns the one live credential that it has. What
the payments of an order do about a dead or lost credential is in `reissue`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import attrs
from attrs import define

from wxpay_async.engine.dispatcher import Dispatcher
from wxpay_async.engine.reissue import pay_once_live
from wxpay_async.engine.replay import moment_of
from wxpay_async.engine.unsent import LAST_WORD, load_or_doubt
from wxpay_async.engine.waiting import as_timeout, wait_for
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    InDoubtTimeoutError,
    InvalidRequestError,
    NotExecutedError,
    NotPaidError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.protocol.builder import PAY, TRADE
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay
from wxpay_async.protocol.results import PayResult, TradeResult

Reorder = Callable[[str], str]
"""Return the number of the order that follows one that ended unpaid."""

ARRIVES_WITHIN: Final = timedelta(minutes=5)
"""How long after its timestamp the platform takes a request (`docs/money-safety.md` §1)."""

_OF_THE_PAYER: Final = frozenset({"payMethod", "payerIp", "terminalInfo"})
"""What differs when the same order is paid from another phone, network or account."""


def prepare_payment(
    trade: InstantTrade, *, app_key: str, openid: str, app_id: str
) -> MiniProgramPay:
    """Return the payment of an order, checked before the order is made; its payToken is to come."""
    return MiniProgramPay(
        request_id=derive_request_id(app_key, PAY.name, trade.request_id),
        pay_token="not-known-yet",  # noqa: S106 - no password
        terminal_payer_id=openid,
        app_id=app_id,
        out_trade_no=trade.trade_info[0].out_trade_no,
    )


@define(eq=False)
class Checkout:
    """One call of `PayGateway.checkout`.

    Attributes:
        dispatcher: carries the calls out.
        trade: the order; the next one, once it has ended unpaid.
        request: its payment, see `prepare_payment`.
        deadline: by when all of it must be over.
        reorder: makes the number of the next order; None where no next one is wanted.
    """

    dispatcher: Dispatcher
    trade: InstantTrade
    request: MiniProgramPay
    deadline: Deadline
    reorder: Reorder | None

    async def run(self) -> PayResult:
        """Return the live credential of the order, or of one that follows it."""
        # What is sent keeps the deadline by itself and has its last word first; a store that hangs
        # in between does not.
        seconds = self.deadline.remaining() + 2 * LAST_WORD
        try:
            return await wait_for(
                "store", self._follow_orders(), seconds, error_type=InDoubtTimeoutError
            )
        except InDoubtTimeoutError as error:
            raise self._mark(error) from error.__cause__

    async def _follow_orders(self) -> PayResult:
        while True:
            try:
                return await self._pay(await self._find_or_create_order())
            except (NotPaidError, FailedError):
                if self.reorder is None:
                    raise
            except InDoubtError:
                # A next order is there only if this one was proven to have ended.
                if self.reorder is None or await self._load(self._next_trade_id()) is None:
                    raise
            await self._go_on_to_next_order(self.reorder)

    async def _find_or_create_order(self) -> TradeResult:
        while True:
            try:
                return await self._create_order()
            except NotExecutedError:  # proven: the same order may be asked for again
                self._replace_trade(self.trade)

    async def _create_order(self) -> TradeResult:
        seconds = self.dispatcher.times.seconds_left(self.deadline)
        try:
            return await self.dispatcher.executor.execute(self.trade, TradeResult, timeout=seconds)
        except IdempotencyConflictError as error:
            if not error.fields or not _OF_THE_PAYER.issuperset(error.fields):
                raise
            return await self._find_order(error)

    async def _find_order(self, conflict: IdempotencyConflictError) -> TradeResult:
        """Return the order as it was created for another payer, if it costs the same."""
        outcome = await self.dispatcher.resolve(self.trade.request_id)
        created: TradeResult = outcome.unwrap()
        if created.inst_amount not in {None, self.trade.pay_method.amount}:
            raise conflict
        return created

    async def _pay(self, created: TradeResult) -> PayResult:
        if created.pay_token is None:
            raise await self._explain_lost_token()
        try:
            request = attrs.evolve(self.request, pay_token=created.pay_token)
            return await pay_once_live(self.dispatcher, request, self.deadline)
        except WxPayError as error:
            if error.fate is not Fate.NOT_SENT:
                raise
            raise self._mark(_make_half_done_error(self._number, error)) from error

    async def _explain_lost_token(self) -> WxPayError:
        """Make the error for an order whose payToken is lost: it is paid, has ended, or is open."""
        try:
            status, _ = await self.dispatcher.reader.query_order(self._number, self.deadline)
        except WxPayError:  # nothing was learnt: the order can still be open
            return self._mark(self._make_lost_token_error(await self._read_closing_time()))
        if status.state.was_paid:
            return self._mark(AlreadyPaidError(f"order {self._number} is paid"))
        if status.state.ended_unpaid:
            return NotPaidError(f"order {self._number} ended unpaid: {status.state}")
        return self._mark(self._make_lost_token_error(await self._read_closing_time()))

    async def _read_closing_time(self) -> datetime | None:
        """Return when the order will be closed, None where its `timeoutExpress` does not say."""
        record = await self._load(self.trade.request_id)
        if record is None or record.signed_at is None or self.trade.lifetime is None:
            return None
        return moment_of(record.signed_at) + ARRIVES_WITHIN + self.trade.lifetime

    def _make_lost_token_error(self, retry_at: datetime | None) -> TradeUnusableError:
        until = "a query says that it is closed"
        if retry_at is not None:
            until = f"{retry_at:%Y-%m-%d %H:%M:%S} UTC, when it is closed"
        return TradeUnusableError(
            f"order {self._number} exists, but its payToken is lost and cannot be asked for; wait "
            f"until {until}, then make another order with a new outTradeNo and requestId",
            retry_at=retry_at,
        )

    async def _go_on_to_next_order(self, reorder: Reorder) -> None:
        """Take the next order in place of one that has ended.

        The store knows its number if an earlier call has made it already.
        """
        record = await self._load(self._next_trade_id())
        known = None if record is None else record.out_trade_no  # of its first item
        first, *others = self.trade.trade_info
        items = [
            attrs.evolve(first, out_trade_no=known or _make_number(reorder, first.out_trade_no)),
            *(
                attrs.evolve(item, out_trade_no=_make_number(reorder, item.out_trade_no))
                for item in others
            ),
        ]
        self._replace_trade(attrs.evolve(self.trade, trade_info=items))

    async def _load(self, request_id: str) -> IdempotencyRecord | None:
        return await load_or_doubt(self.dispatcher.store, (self.dispatcher.app_key, request_id))

    def _replace_trade(self, trade: InstantTrade) -> None:
        self.trade = attrs.evolve(trade, request_id=self._next_trade_id())
        payment_id = derive_request_id(self.dispatcher.app_key, PAY.name, self.trade.request_id)
        self.request = attrs.evolve(self.request, request_id=payment_id, out_trade_no=self._number)

    def _next_trade_id(self) -> str:
        key, request_id = self.dispatcher.app_key, self.trade.request_id
        return derive_request_id(key, TRADE.name, request_id, generation=1)

    @property
    def _number(self) -> str:
        return self.trade.trade_info[0].out_trade_no

    def _mark(self, error: InDoubtError) -> InDoubtError:
        error.request_id = self.trade.request_id
        error.resolver = functools.partial(self.dispatcher.resolve, self.trade.request_id)
        return error


def _make_number(reorder: Reorder, ended: str) -> str:
    number = reorder(ended)
    if number == ended:
        raise InvalidRequestError(
            "it returned the number of the order that ended", field="reorder", allowed="another one"
        )
    return number


def _make_half_done_error(number: str, error: WxPayError) -> InDoubtError:
    # True of the second call alone, "not sent" would deny the order that the first one made.
    doubt = InDoubtError(
        f"order {number} is made, its prepay was not asked for: {error.reason}; call again with "
        "the same trade",
        retryable=error.retryable,
    )
    doubt.attempts = error.attempts
    return as_timeout(doubt) if isinstance(error, TimeoutError) else doubt
