"""Receive callbacks: confirm them, keep them in order, and let each have one effect.

After the bytes of a notification are read, it takes these steps (`docs/money-safety.md` §7):

1. One read of the inbox tells how far the order has come. If the callback is done, it is
   acknowledged. If another one of the order is being handled, it is not acknowledged, and the
   platform repeats it.
2. The notification is believed if it is authentic and fresh, or if a query says the same about
   number, status and amount. Then the handler gets what the query said, in place of what only the
   callback says (`policy/confirmation.py`). A query finds refunds only if the platform knows them
   by their own number. If it does not, an RSA signature is enough, even an old one: a refund's
   status is final, and the inbox stops a replay. A refund that is only a hint then never reaches
   the handler.
   Nothing is held meanwhile: anyone who knows the address can send an unsigned callback, and must
   keep neither the order's other callbacks waiting nor people who pay. Its query waits behind
   all other calls.
3. What is believed settles the operations in doubt of its number: it is the platform's word. What
   it does not prove of them is asked about soon.
4. One write claims the order, so that its state stays the same while the handler runs. States only
   move forward: closed is further than failed, paid is further than closed. If the query or an
   earlier callback shows that the order is already there or further, the callback is acknowledged,
   reported, and changes nothing. A second payment of the order under another platform number ends
   so too: look at it. `policy/progress.py` has these rules.
5. The handler runs, and a second write notes its end. If it raises, the claim is given back, and
   the platform repeats the callback.

The answer is given after 4 s at the latest. The handler goes on after it, since to stop it would
leave half an effect. The next delivery finds the effect recorded, and is acknowledged. A handler
that takes longer than `limit` is cancelled before its claim runs out and another one could start.

What is verified and what is not have bounds of their own, so that neither is refused for want of
the other's place.

The effect happens once if the process lives to record it, for the 30 days that the inbox remembers.
If the process is killed between the effect and the record, the handler runs again: let its effect
depend on the state of your own order ("pending" to "paid").
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.engine.callback_events import (
    ACKNOWLEDGED,
    CallbackEvent,
    CallbackHook,
    CallbackReports,
    Verdict,
)
from wxpay_async.engine.clock import Clock, StoreClock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.inbox import OrderInbox, Stored
from wxpay_async.errors import (
    InProgressError,
    InvalidRequestError,
    NotificationError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.confirmation import Comparison, compare, confirm
from wxpay_async.policy.lanes import Lane
from wxpay_async.policy.progress import (
    Claim,
    Message,
    Obstacle,
    Progress,
    key_of,
    message_of,
)
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    Notification,
    Notifications,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.protocol.results import TradeStatus

TradeHandler: TypeAlias = Callable[[TradeNotification], Awaitable[None] | None]
RefundHandler: TypeAlias = Callable[[RefundNotification], Awaitable[None] | None]
"""A handler may be a quick plain function: the event loop waits for it, without a limit."""

ANSWER_WITHIN: Final = 4.0
"""Seconds after which the platform gets an answer, even if the handler still runs."""

LIMIT: Final = 15.0
"""Seconds that a confirmation and its handler may take together."""

MAX_VERIFIED: Final = 1_000
"""Signed callbacks that one receiver processes at once; the platform repeats the others."""

MAX_UNVERIFIED: Final = 100
"""The same for unsigned ones. Their lane of the quota has 20 queries a minute, so this is more
than can be confirmed in the time that one has, and little to keep and to look up in a flood.
"""

_MARGIN: Final = 5.0  # seconds that a claim outlasts the handler's cancellation
_LOG: Final = logging.getLogger("wxpay_async.engine.callbacks")


_VERDICTS: Final = {
    Obstacle.DONE: (Verdict.DUPLICATE, ""),
    Obstacle.LATE: (Verdict.LATE, "it has come so far already, or further"),
    Obstacle.BUSY: (Verdict.BUSY, "another callback of the order is being handled"),
}

_Tasks: TypeAlias = set[asyncio.Task[Verdict]]


@define(eq=False)
class CallbackReceiver:
    """Receives the callbacks of one address. It works with any web framework, and without one.

    Args:
        gateway: confirms by query; its store holds the inbox.
        notifications: reads and verifies.
        on_trade: called once for each status that an order reaches.
        on_refund: called once for each status that a refund reaches. A callback without a handler
            of its kind is not acknowledged.
        endpoint: the address's name in the inbox; one for each address with effects of its own.
        hooks: called with every `CallbackEvent`, in the event loop; must be quick and not raise.
        answer_within: seconds, 4 at most.
        limit: seconds that a confirmation and its handler may take together; at least the gateway's
            `min_left`, or no query could ever confirm anything.
        clock: the machine's; tests may move it.

    Raises:
        InvalidRequestError: `answer_within` or `limit` is out of range.
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
    _clock: StoreClock = field(init=False)
    _orders: OrderInbox = field(init=False)
    _reports: CallbackReports = field(init=False)
    _verified: _Tasks = field(factory=set[asyncio.Task[Verdict]], init=False)
    _unverified: _Tasks = field(factory=set[asyncio.Task[Verdict]], init=False)
    _looked_into: set[Hashable] = field(factory=set[Hashable], init=False)

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
        self._clock = StoreClock(self.clock, self.gateway.store)
        self._orders = OrderInbox(self.gateway.store, self._clock)
        self._reports = CallbackReports(self.gateway.telemetry, self.hooks)

    async def receive(
        self, headers: Mapping[str, str], body: bytes, *, began: float | None = None
    ) -> bytes:
        """Process one delivery.

        Cancelling this call does not stop the handler.

        Args:
            headers: of the HTTP request.
            body: its raw bytes.
            began: when the request began to arrive, by the event loop's `time()`, since the
                platform waits from then on; now by default.

        Returns:
            The exact body of the answer, to be sent as `application/json` with status 200.

        Raises:
            TypeError: the body is not raw bytes. No sender can cause this.
        """
        try:
            notification = self.notifications.parse(headers, body)
        except NotificationError as error:
            return self.refuse(error.reason)
        task = self._start(notification)
        if task is None:
            reason = "too many callbacks are being looked into"
            return self._turn_away(Verdict.BUSY, reason, notification)
        now = asyncio.get_running_loop().time()
        spent = 0.0 if began is None else now - began
        await asyncio.wait([task], timeout=max(0.0, self.answer_within - spent))
        if not task.done():
            self._reports.emit(CallbackEvent(verdict=Verdict.SLOW, notification=notification))
            return ACK_NOT_HANDLED
        ended_well = not task.cancelled() and task.exception() is None
        return ACK_HANDLED if ended_well and task.result() in ACKNOWLEDGED else ACK_NOT_HANDLED

    def refuse(self, reason: str) -> bytes:
        """Refuse a delivery that cannot even be read; log and hooks are told.

        Args:
            reason: the cause, without the value of any field.

        Returns:
            The exact body of the answer.
        """
        return self._turn_away(Verdict.REFUSED, reason, None)

    def _turn_away(self, verdict: Verdict, reason: str, notification: Notification | None) -> bytes:
        event = CallbackEvent(verdict=verdict, notification=notification, reason=reason)
        self._reports.emit(event)
        self._reports.ended(notification, verdict)
        return ACK_NOT_HANDLED

    async def aclose(self) -> None:
        """Wait for the handlers that are still running, `limit` seconds at most."""
        while tasks := self._verified | self._unverified:
            await asyncio.wait(tasks)

    def _start(self, notification: Notification) -> asyncio.Task[Verdict] | None:
        """Begin to process it, if there is a place for it."""
        verified = notification.verified
        tasks, most = (
            (self._verified, MAX_VERIFIED) if verified else (self._unverified, MAX_UNVERIFIED)
        )
        if len(tasks) >= most:
            return None
        task = asyncio.create_task(self._process(notification))
        tasks.add(task)
        task.add_done_callback(functools.partial(_forget, tasks))
        return task

    async def _process(self, notification: Notification) -> Verdict:
        verdict, began = Verdict.FAILED, self.clock.monotonic()
        self._reports.started(notification)
        try:
            verdict = await self._process_in_time(notification)
        finally:
            self._reports.ended(notification, verdict, self.clock.monotonic() - began)
        return verdict

    async def _process_in_time(self, notification: Notification) -> Verdict:
        try:
            async with asyncio.timeout(self.limit):
                verdict, reason = await self._process_once(notification)
        except WxPayError as error:  # some are TimeoutErrors, too
            verdict, reason = Verdict.FAILED, error.reason
        except TimeoutError:
            verdict, reason = Verdict.FAILED, f"it took over {self.limit:g} s"
        event = CallbackEvent(verdict=verdict, notification=notification, reason=reason)
        self._reports.emit(event)
        return verdict

    async def _process_once(self, notification: Notification) -> tuple[Verdict, str]:
        """Go on unless the inbox says that there is nothing to do, or not now."""
        if self._handler(notification) is None:
            return Verdict.UNWANTED, "there is no handler for it"
        key = key_of(self.gateway.app_key, notification)
        message = message_of(notification, self.endpoint)
        stored = await self._orders.load(key)
        obstacle = stored.progress.obstacle(message, now=self._clock.time())
        # What is late needs no query; yet what is believed all the same may settle a doubt.
        if obstacle is not None and not (obstacle is Obstacle.LATE and _is_proof(notification)):
            return _VERDICTS[obstacle]
        # A copy that proves less must not keep away one that proves more.
        which = (key, message, notification.verified, _is_proof(notification))
        if which in self._looked_into:
            return Verdict.BUSY, "a copy of it is being looked into"
        self._looked_into.add(which)
        try:
            return await self._look_into(notification, message, stored)
        finally:
            self._looked_into.discard(which)

    async def _look_into(
        self, notification: Notification, message: Message, stored: Stored
    ) -> tuple[Verdict, str]:
        """Find out whether it is true; then let it have its effect."""
        believed = await self._believe(notification)
        if not isinstance(believed, Notification):
            return believed
        if not await self._settle(believed):
            return Verdict.BUSY, "the refund that it tells of is being sent"
        if believed.inner_trade_no:  # its true number, which an unsigned callback may not know
            message = message_of(believed, self.endpoint)
        return await self._handle(believed, message, stored)

    async def _believe(self, notification: Notification) -> Notification | tuple[Verdict, str]:
        """Return what may be believed of a notification, or the verdict on it."""
        if _is_proof(notification):
            return notification
        comparison, status = await self._query(notification)
        if comparison is Comparison.FURTHER:
            return Verdict.LATE, "a query says that it has gone further"
        if comparison is Comparison.SAME and status is not None:
            return confirm(notification, status)
        signed_refund = notification.authentic and isinstance(notification, RefundNotification)
        if signed_refund and comparison is Comparison.NOT_FOUND:
            return notification
        return Verdict.UNCONFIRMED, f"a query: {comparison}"

    async def _settle(self, notification: Notification) -> bool:
        """Settle what is in doubt of this number: the platform has just told how it ended.

        Returns:
            Whether the callback may be acknowledged; if not, it is still needed.
        """
        try:
            await self.gateway.apply_notification(notification)
        except InProgressError:
            return False
        except WxPayError as error:
            # The effect must not wait for it: recovery asks about what stays open.
            number = notification.out_trade_no
            _LOG.warning("what is in doubt of %s stays open: %s", number, error.reason)
        return True

    async def _handle(
        self, believed: Notification, message: Message, stored: Stored
    ) -> tuple[Verdict, str]:
        """Claim the order, run the handler and note how it ended."""
        now = self._clock.time()
        claim = Claim(secrets.token_hex(16), until=now + self.limit + _MARGIN)
        begun = await self._orders.change(stored, lambda it: it.begin(message, claim, now=now))
        if isinstance(begun, Obstacle):
            return _VERDICTS[begun]
        verdict = Verdict.FAILED
        try:
            verdict, reason = await self._run_handler(believed)
        finally:
            handled = verdict is Verdict.HANDLED
            end = Progress.complete if handled else Progress.release
            step = self._end(begun, lambda it: end(it, message, claim.token), believed)
            await run_to_completion(step)
        return verdict, reason

    async def _end(
        self, begun: Stored, step: Callable[[Progress], Progress], believed: Notification
    ) -> None:
        try:
            await self._orders.change(begun, step)
        except WxPayError as error:
            # The effect has happened, so the answer stays the same. The claim keeps other workers
            # away for a while; then it is as if the process had died here.
            number = believed.out_trade_no
            _LOG.error("the inbox cannot be written for callback %s: %s", number, error)

    async def _run_handler(self, notification: Notification) -> tuple[Verdict, str]:
        handler, number = self._handler(notification), notification.out_trade_no
        if handler is None:  # pragma: no cover - checked before the inbox was read
            return Verdict.UNWANTED, ""
        try:
            effect = handler()
            if inspect.isawaitable(effect):  # a plain function has had its effect by now
                await effect
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # This task was not cancelled: what the handler waited for was.
            _LOG.warning("the handler of callback %s failed", number, exc_info=error)
            return Verdict.FAILED, "what the handler waited for was cancelled"
        except Exception as error:  # noqa: BLE001 - after any error the callback comes again
            _LOG.warning("the handler of callback %s failed", number, exc_info=error)
            return Verdict.FAILED, f"the handler raised {type(error).__name__}"
        return Verdict.HANDLED, ""

    def _handler(self, notification: Notification) -> Callable[[], Awaitable[None] | None] | None:
        if isinstance(notification, TradeNotification):
            return functools.partial(self.on_trade, notification) if self.on_trade else None
        return functools.partial(self.on_refund, notification) if self.on_refund else None

    async def _query(self, notification: Notification) -> tuple[Comparison, TradeStatus | None]:
        """Query the order and compare."""
        number = notification.out_trade_no
        # An unsigned callback may come from anyone: people who pay must not wait behind it.
        lane = Lane.RESOLVING if notification.verified else Lane.UNVERIFIED
        try:
            status = await self.gateway.query(out_trade_no=number, timeout=self.limit, lane=lane)
        except WxPayError as error:
            unknown = isinstance(error, RefusedError) and self.gateway.says_absent(error)
            return (Comparison.NOT_FOUND if unknown else Comparison.NO_ANSWER), None
        return compare(notification, status), status


def _is_proof(notification: Notification) -> bool:
    """Tell whether it needs no query."""
    return notification.authentic and notification.fresh


def _forget(tasks: _Tasks, task: asyncio.Task[Verdict]) -> None:
    tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("a callback ended in an unexpected error", exc_info=error)
