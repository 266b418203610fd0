"""Callbacks above the gateway: confirmed, in order, and each with one effect.

What happens to a notification once its bytes are read (`money-safety.md` §7):

1. The inbox: one key for endpoint, order, platform number and status. Handled before: acknowledged.
   Being handled right now: not acknowledged, it comes again.
2. One notification of an order at a time, by a second key, so that "how far is this order" has an
   answer that stays true while the handler runs.
3. Believed if it is authentic and fresh, or if a query says the same about number, status and
   amount. A query tells of refunds only where the platform finds them by their own number; where
   it does not know one, an RSA signature is enough even when it is old, since a refund's status is
   final and the inbox stops a replay. A refund that is a mere hint is then never handed on.
   The query of a callback that nobody signed waits behind everybody else's calls: whoever knows the
   address can send one, and must not eat the quota of people who pay.
4. Forward only: closed is further than failed, paid is further than closed. What the order has
   reached already, by the query or by an earlier callback, is acknowledged and reported, and
   changes nothing. That includes a second payment under another platform number: look at it.
5. The handler runs. If it raises, nothing is noted, and the callback comes again.

The answer is given after 4 s at the latest, and the handler goes on behind it: cutting it off
would leave half an effect. The next delivery finds the effect noted and is acknowledged. A handler
that takes longer than `limit` is cancelled, before its lease ends and another one starts beside it.

The effect happens once as long as the process lives to note it, and for the 30 days that the inbox
remembers. A process that is killed between the two makes the handler run again: let its effect be
conditional on your own order ("pending" to "paid").
"""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import json
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from attrs import define, evolve, field, frozen

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.stores.inbox import Inbox, Receipt
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InvalidRequestError, NotificationError, RefusedError, WxPayError
from wxpay_async.policy.quota import Lane
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    Notification,
    Notifications,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.protocol.results import TradeState, TradeStatus

TradeHandler: TypeAlias = Callable[[TradeNotification], Awaitable[None] | None]
RefundHandler: TypeAlias = Callable[[RefundNotification], Awaitable[None] | None]
"""A plain function will do where it is quick: the event loop waits for it, and nothing ends it."""

ANSWER_WITHIN: Final = 4.0
"""Seconds after which the platform gets an answer, whatever the handler does."""

LIMIT: Final = 15.0
"""Seconds that a confirmation and its handler may take together."""

MAX_UNDER_WAY: Final = 1_000
"""Callbacks that one receiver looks into at once; the platform sends the others again."""

_MARGIN: Final = 5.0  # seconds that a lease outlasts the handler's cancellation
_LOG: Final = logging.getLogger("wxpay_async.engine.callbacks")
_BUSINESS_REFUSAL: Final = re.compile(r"GM_API_BUS_[0-9]+", re.ASCII)

_TRADE_ORDER: Final = (TradeState.FAILED, TradeState.CLOSED, TradeState.PAID)
_REFUND_ORDER: Final = (TradeState.REFUND_FAILED, TradeState.REFUNDED)
_OF_PAYMENT: Final[Mapping[TradeState, TradeState]] = MappingProxyType(
    dict.fromkeys(
        # Money can only go back after it came.
        (
            TradeState.PAID,
            TradeState.REFUNDING,
            TradeState.REFUNDED,
            TradeState.REFUND_FAILED,
        ),
        TradeState.PAID,
    )
    | {TradeState.FAILED: TradeState.FAILED, TradeState.CLOSED: TradeState.CLOSED}
)


class Verdict(enum.StrEnum):
    """What became of one delivery of a callback."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    LATE = "late"
    REFUSED = "refused"
    BUSY = "busy"
    UNCONFIRMED = "unconfirmed"
    UNWANTED = "unwanted"
    FAILED = "failed"
    SLOW = "slow"


ACKNOWLEDGED: Final = frozenset({Verdict.HANDLED, Verdict.DUPLICATE, Verdict.LATE})
"""What is answered as handled; everything else comes again."""

_QUIET: Final = frozenset({Verdict.HANDLED, Verdict.DUPLICATE, Verdict.BUSY})


@frozen(kw_only=True)
class CallbackEvent:
    """One delivery, for those who watch. SLOW is followed by a second event once it has ended.

    Attributes:
        verdict: what became of it.
        notification: what it said; None for one that was refused.
        reason: why, in words that repeat no field's value.
    """

    verdict: Verdict
    notification: Notification | None = None
    reason: str = ""


CallbackHook: TypeAlias = Callable[[CallbackEvent], None]


class _Finding(enum.Enum):
    """What a query says about a notification."""

    SAME = enum.auto()
    FURTHER = enum.auto()
    OTHER = enum.auto()
    ABSENT = enum.auto()
    SILENT = enum.auto()


@define(eq=False)
class CallbackReceiver:
    """Receives the callbacks of one address. Works under any framework, and under none.

    Args:
        gateway: confirms by query; its store holds the inbox.
        notifications: reads and verifies.
        on_trade: called once for each status that an order reaches.
        on_refund: called once for each status that a refund reaches. A callback without a handler
            of its kind is not acknowledged.
        endpoint: part of the inbox's keys; another name for each address with effects of its own.
        hooks: called with every `CallbackEvent`, in the event loop: quick, and without raising.
        answer_within: seconds, 4 at most.
        limit: seconds that a confirmation and its handler may take together; at least the gateway's
            `min_left`, or no query could ever confirm anything.
        clock: the machine's, unless a test moves it.

    Raises:
        InvalidRequestError: one of the two times cannot be used.
    """

    gateway: PayGateway
    notifications: Notifications
    on_trade: TradeHandler | None = field(default=None, kw_only=True)
    on_refund: RefundHandler | None = field(default=None, kw_only=True)
    endpoint: str = field(default="default", kw_only=True)
    hooks: Sequence[CallbackHook] = field(default=(), kw_only=True)
    answer_within: float = field(default=ANSWER_WITHIN, kw_only=True)
    limit: float = field(default=LIMIT, kw_only=True)
    clock: Clock = field(factory=Clock, kw_only=True)
    _under_way: set[asyncio.Task[Verdict]] = field(factory=set[asyncio.Task[Verdict]], init=False)

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.answer_within <= ANSWER_WITHIN:
            raise InvalidRequestError(
                f"{self.answer_within:g} s",
                field="answer_within",
                allowed=f"0 to {ANSWER_WITHIN:g} s, for which the platform waits",
            )
        least = self.gateway.min_left
        if not least <= self.limit < math.inf:
            raise InvalidRequestError(
                f"{self.limit:g} s",
                field="limit",
                allowed=f"at least {least:g} s, which the confirming query may need",
            )

    async def receive(
        self, headers: Mapping[str, str], body: bytes, *, began: float | None = None
    ) -> bytes:
        """Take one delivery.

        Whoever stops waiting for the answer does not stop the handler.

        Args:
            headers: of the HTTP request.
            body: its raw bytes.
            began: when it began to arrive, by the event loop's `time()`; now if absent. From there
                the platform counts.

        Returns:
            The exact body to answer with, as `application/json` under status 200.

        Raises:
            TypeError: the body is not raw bytes. Nothing that is sent can cause this.
        """
        try:
            notification = self.notifications.parse(headers, body)
        except NotificationError as error:
            self._tell(CallbackEvent(verdict=Verdict.REFUSED, reason=error.reason))
            return ACK_NOT_HANDLED
        if len(self._under_way) >= MAX_UNDER_WAY:
            reason = "too many callbacks are being looked into"
            self._tell(
                CallbackEvent(verdict=Verdict.BUSY, notification=notification, reason=reason)
            )
            return ACK_NOT_HANDLED
        task = asyncio.create_task(self._settle(notification))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        now = asyncio.get_running_loop().time()
        spent = 0.0 if began is None else now - began
        await asyncio.wait([task], timeout=max(0.0, self.answer_within - spent))
        if not task.done():
            self._tell(CallbackEvent(verdict=Verdict.SLOW, notification=notification))
            return ACK_NOT_HANDLED
        well = not task.cancelled() and task.exception() is None
        return ACK_HANDLED if well and task.result() in ACKNOWLEDGED else ACK_NOT_HANDLED

    async def aclose(self) -> None:
        """Wait for the handlers that are still running, `limit` seconds at most."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _ended(self, task: asyncio.Task[Verdict]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a callback ended in an unexpected error", exc_info=error)

    async def _settle(self, notification: Notification) -> Verdict:
        try:
            async with asyncio.timeout(self.limit):
                verdict, reason = await self._once(notification)
        except TimeoutError:
            verdict, reason = Verdict.FAILED, f"it took over {self.limit:g} s"
        except WxPayError as error:
            verdict, reason = Verdict.FAILED, error.reason
        self._tell(CallbackEvent(verdict=verdict, notification=notification, reason=reason))
        return verdict

    async def _once(self, notification: Notification) -> tuple[Verdict, str]:
        """Go on unless this very callback is handled, or being handled."""
        if self._handler(notification) is None:
            return Verdict.UNWANTED, "there is no handler for it"
        status = _status(notification)
        key = self._key(notification, "callback", notification.inner_trade_no, status)
        receipt = await self._claim(key)
        if receipt is not Receipt.ACQUIRED:
            return (Verdict.DUPLICATE if receipt is Receipt.DONE else Verdict.BUSY), ""
        verdict = Verdict.FAILED
        try:
            verdict, reason = await self._alone(notification)
        finally:
            await run_to_completion(self._close(key, noted=verdict in ACKNOWLEDGED))
        return verdict, reason

    async def _alone(self, notification: Notification) -> tuple[Verdict, str]:
        """Go on unless another callback of the same order is being handled."""
        key = self._key(notification, "order")
        if await self._claim(key) is not Receipt.ACQUIRED:
            return Verdict.BUSY, "another callback of the order is being handled"
        try:
            return await self._advance(notification)
        finally:
            await run_to_completion(self._close(key, noted=False))

    async def _advance(self, notification: Notification) -> tuple[Verdict, str]:
        """Hand the notification on if it is believed and says something new."""
        confirmed, status = False, None
        if not (notification.authentic and notification.fresh):
            finding, status = await self._ask(notification)
            confirmed = finding is _Finding.SAME
            if finding is _Finding.FURTHER:
                return Verdict.LATE, "a query says that it has gone further"
            proven = notification.authentic and isinstance(notification, RefundNotification)
            if not confirmed and not (proven and finding is _Finding.ABSENT):
                return Verdict.UNCONFIRMED, f"a query: {finding.name.lower()}"
        if await self._reached(notification):
            return Verdict.LATE, "it has come so far already, or further"
        return await self._hand_on(evolve(notification, confirmed=confirmed, queried=status))

    async def _hand_on(self, notification: Notification) -> tuple[Verdict, str]:
        handler = self._handler(notification)
        if handler is None:  # pragma: no cover - looked at before the callback was claimed
            return Verdict.UNWANTED, ""
        try:
            effect = handler()
            if inspect.isawaitable(effect):  # a plain function has had its effect by now
                await effect
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task: what the handler waited for was cancelled.
            _LOG.warning("the handler of a callback failed", exc_info=error)
            return Verdict.FAILED, "what the handler waited for was cancelled"
        except Exception as error:  # noqa: BLE001 - whatever it raises, the callback comes again
            _LOG.warning("the handler of a callback failed", exc_info=error)
            return Verdict.FAILED, f"the handler raised {type(error).__name__}"
        if notification.state is not TradeState.UNKNOWN:
            key = self._key(notification, "reached", notification.state)
            await run_to_completion(self._close(key, noted=True))
        return Verdict.HANDLED, ""

    def _handler(self, notification: Notification) -> Callable[[], Awaitable[None] | None] | None:
        if isinstance(notification, TradeNotification):
            return functools.partial(self.on_trade, notification) if self.on_trade else None
        return functools.partial(self.on_refund, notification) if self.on_refund else None

    async def _ask(self, notification: Notification) -> tuple[_Finding, TradeStatus | None]:
        """Compare with the truth behind every callback."""
        number = notification.out_trade_no
        # What nobody signed may be anybody's: people who pay must not queue behind it.
        lane = Lane.RESOLVING if notification.verified else Lane.BATCH
        try:
            status = await self.gateway.query(out_trade_no=number, timeout=self.limit, lane=lane)
        except WxPayError as error:
            refused = isinstance(error, RefusedError) and error.code is not None
            absent = refused and _BUSINESS_REFUSAL.fullmatch(error.code or "")
            return (_Finding.ABSENT if absent else _Finding.SILENT), None
        return _compared(notification, status), status

    # The inbox

    def _key(self, notification: Notification, kind: str, *more: str) -> str:
        what = "trade" if isinstance(notification, TradeNotification) else "refund"
        of = (self.gateway.app_key, self.endpoint, what, notification.out_trade_no)
        # JSON, because no separator is safe between texts that strangers choose.
        return json.dumps([kind, *of, *more], ensure_ascii=False)

    async def _claim(self, key: str) -> Receipt:
        lease = self.limit + _MARGIN
        inbox: Inbox = self.gateway.store
        return await inbox.begin(key, now=self.clock.time(), lease=lease)

    async def _close(self, key: str, *, noted: bool) -> None:
        """Note the key as handled for good, or give it back."""
        inbox: Inbox = self.gateway.store
        try:
            if noted:
                await inbox.complete(key, now=self.clock.time())
            else:
                await inbox.release(key)
        except WxPayError as error:
            # What has happened has happened, and is answered so. The lease keeps others away for
            # a while, and then it is as if the process had died here.
            _LOG.error("the inbox cannot be written: %s", error)

    async def _reached(self, notification: Notification) -> bool:
        """Tell whether an earlier callback brought the order to this status, or further."""
        states = _order(notification)
        here = states.index(notification.state) if notification.state in states else len(states)
        for state in states[here:]:
            key = self._key(notification, "reached", state)
            receipt = await self._claim(key)
            if receipt is Receipt.DONE:
                return True
            if receipt is Receipt.ACQUIRED:  # else a process died while it was asking this
                await self._close(key, noted=False)
        return False

    def _tell(self, event: CallbackEvent) -> None:
        level = logging.INFO if event.verdict in _QUIET else logging.WARNING
        number = event.notification.out_trade_no if event.notification else "-"
        _LOG.log(level, "callback %s: %s %s", number, event.verdict, event.reason)
        for hook in self.hooks:
            try:
                hook(event)
            except Exception as error:  # noqa: BLE001 - the answer must not depend on a watcher
                _LOG.error("a hook of the callbacks failed", exc_info=error)


def _status(notification: Notification) -> str:
    if isinstance(notification, TradeNotification):
        return notification.trade_status
    return notification.refund_status


def _order(notification: Notification) -> tuple[TradeState, ...]:
    return _TRADE_ORDER if isinstance(notification, TradeNotification) else _REFUND_ORDER


def _compared(notification: Notification, status: TradeStatus) -> _Finding:
    states, state = _order(notification), status.state
    if isinstance(notification, TradeNotification):
        amount, state = notification.trade_amount, _OF_PAYMENT.get(state, state)
    else:
        amount = notification.refund_amount
    if status.out_trade_no != notification.out_trade_no:
        return _Finding.OTHER
    if state not in states or notification.state not in states:
        return _Finding.OTHER
    if states.index(state) > states.index(notification.state):
        return _Finding.FURTHER
    same = state is notification.state and amount == status.total_amount
    return _Finding.SAME if same else _Finding.OTHER
