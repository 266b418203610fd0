"""One operation on its way: reserve, wait for quota, claim, sign, send, record.

The order is `money-safety.md` §3, and every arrow in it is a commit: a row exists before a byte
is sent, no lease is held while waiting for quota, the attempt is recorded before it is on the
wire, and what it led to is recorded under the epoch of its claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar, cast

import attrs
from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.engine.wiring import Wiring
from wxpay_async.errors import (
    AlreadyPaidError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    InvalidRequestError,
    NotExecutedError,
    NotSentError,
    PrepayExpiredError,
    RateLimitedError,
    WxPayError,
)
from wxpay_async.policy.record import LEASE, OPEN, IdempotencyRecord, evolve
from wxpay_async.policy.resolution import SCHEDULE
from wxpay_async.policy.states import (
    SENDABLE,
    State,
    Transition as Step,
    next_state,
    transition_for,
)
from wxpay_async.protocol.builder import PAY, REFUND, Operation
from wxpay_async.protocol.codec import decode, server_time
from wxpay_async.protocol.results import PREPAY_LIFE, PayResult, RefundResult, TradeResult
from wxpay_async.protocol.secrets import without_credentials
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

T = TypeVar("T")

_LOG: Final = logging.getLogger("wxpay_async")

STALE_AFTER: Final = 2.0
"""Seconds from claim to sending; a process that was paused for longer must not send any more."""

SLACK: Final = 0.5
"""Seconds that a call may have spent on itself without having waited for anything."""

_ANSWERED: Final = frozenset({Step.SUCCESS, Step.ACCEPTED})

PREPAY_MARGIN: Final = timedelta(seconds=60)
"""A prepay that dies while the person reads the dialogue is no use."""


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def checked_timeouts(timeouts: Timeouts) -> Timeouts:
    """Refuse an attempt that could outlast its claim: somebody else would send beside it."""
    longest = LEASE - STALE_AFTER
    if timeouts.attempt > longest:
        raise InvalidRequestError(
            f"{timeouts.attempt:g} s", field="timeouts.attempt", allowed=f"at most {longest:g} s"
        )
    return timeouts


@define(eq=False, kw_only=True)
class Execution(Generic[T]):
    """The attempts of one operation, as `RetryingTransport.deliver` drives them.

    Attributes:
        wiring: what is shared.
        operation: which endpoint.
        params: the business parameters; the same bytes go out with every attempt. Empty where
            nothing is sent and nobody knows them any more.
        result_type: what a success is read into.
        check: raises when a success does not echo what was asked.
        min_left: seconds of the call that must be left for an attempt to start.
        patience: seconds for which a slot may be held while no connection is free. A batch has a
            day, and a slot that is held for longer than its lease would free by itself.
        lane: whose turn it is when the quota is short.
        deadline: by the clock's `monotonic`.
        entry: the operation's row; None for what only reads.
    """

    wiring: Wiring
    operation: Operation
    params: Mapping[str, str] = field(repr=False)
    result_type: type[T]
    deadline: float
    min_left: float = 0.0
    patience: float = math.inf
    lane: Lane = Lane.PEOPLE
    check: Callable[[T], None] = lambda _: None
    entry: IdempotencyRecord | None = None
    _slot: Slot | None = field(default=None, init=False)
    _response: HttpResponse | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _signed_at: int = field(default=0, init=False)
    _started: float = field(default=0.0, init=False)
    _result: T | None = field(default=None, init=False)

    async def prepare(self, number: int) -> HttpRequest:
        """Make attempt n: wait for quota and a connection, claim, sign.

        Raises:
            NotSentError: no quota before the deadline, or this process was paused.
            InProgressError: somebody else is sending the requestId.
        """
        self._number, self._response = number, None
        await self._wait_for_turn()
        claimed: IdempotencyRecord | None = None
        try:
            if self.entry is not None:
                claimed = await self._claim(self.entry)
            request = await self._signed()
        except BaseException:
            await run_to_completion(self._abandon(claimed))
            raise
        self._tell(EventKind.ATTEMPT_STARTED)
        return request

    async def _wait_for_turn(self) -> None:
        clock, wiring = self.wiring.clock, self.wiring
        began = clock.monotonic()
        try:
            self._slot = await wiring.limiter.acquire(self.lane, timeout=self.deadline - began)
        finally:  # who waited in vain has waited longest
            waited_until = clock.monotonic()
            if waited_until > began:
                self._tell(EventKind.WAITED_FOR_QUOTA, seconds=waited_until - began)
        try:
            await wiring.turns.take(min(self.deadline - waited_until, self.patience))
        except TimeoutError as error:
            await run_to_completion(self._slot.unsent())
            raise NotSentError("no connection came free in time") from error
        except BaseException:
            await run_to_completion(self._slot.unsent())
            raise
        self._started = clock.monotonic()
        if self.deadline - self._started < self.min_left:
            await run_to_completion(self._abandon(None))
            raise NotSentError("too little time was left for an attempt to be answered in")
        self._signed_at = wiring.time.milliseconds()

    async def _claim(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        claiming = self.wiring.store.claim(
            entry.key, now=self.wiring.clock.time(), signed_at=self._signed_at
        )
        claimed = await (claiming if self.wiring.in_process else self._shielded(claiming))
        if claimed is None:
            raise InProgressError("somebody else is sending this requestId")
        self.entry = claimed
        return claimed

    async def _shielded(
        self, claiming: Coroutine[Any, Any, IdempotencyRecord | None]
    ) -> IdempotencyRecord | None:
        claim = asyncio.ensure_future(claiming)
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # It may be committed all the same: nothing was sent under it, so it is given back.
            await run_to_completion(self._given_back(claim))
            raise

    async def _given_back(self, claim: asyncio.Future[IdempotencyRecord | None]) -> None:
        with contextlib.suppress(NotSentError):  # no claim, nothing to give back
            claimed = await claim
            if claimed is not None:
                await self._unclaim(claimed)

    async def _signed(self) -> HttpRequest:
        wiring = self.wiring
        draft = wiring.builder.draft(
            self.operation, self.params, now_ms=self._signed_at, nonce=wiring.nonce()
        )
        try:
            signature = await wiring.signatures.of(draft.message)
        except WxPayError:
            raise
        except Exception as error:
            # A stranger's code, which may raise anything: a key service that is busy must fail one
            # call, not end the batch that it is part of. Its text may hold what it was given.
            raise NotSentError(f"the signer raised {type(error).__name__}") from error
        request = draft.signed(signature)
        claimed_at, self._started = self._started, wiring.clock.monotonic()
        if self._started - claimed_at > STALE_AFTER:
            raise NotSentError("the process was paused between claiming and sending")
        return request

    async def _abandon(self, claimed: IdempotencyRecord | None) -> None:
        """Undo a claim under which nothing was sent."""
        self.wiring.turns.end()
        if self._slot is not None:
            await self._slot.unsent()
        if claimed is not None:
            await self._unclaim(claimed)

    async def _unclaim(self, claimed: IdempotencyRecord) -> None:
        # If the store is down the lease ends by itself; why nothing was sent matters more.
        with contextlib.suppress(InDoubtError):
            await self._record(claimed, Step.UNSENT)

    def read(self, response: HttpResponse, *, replayed: bool = False) -> T:
        """Return the result that the response holds, or raise what it means."""
        self._response = response
        try:
            result = decode(
                response,
                self.result_type,
                url=self.wiring.builder.base_url,
                moves_money=self.operation.moves_money,
                signed_at=_moment(self._signed_at),
                attempts=self._number,
                replayed=replayed,
            )
        except WxPayError as error:
            error.message = without_credentials(error.message, self.params)
            raise
        self.check(result)
        self._result = result
        return result

    def settle(self, error: WxPayError | None) -> Coroutine[Any, Any, None]:
        """Record what the attempt led to, and free what it held; a cancellation has to wait.

        Raises:
            InDoubtError: the outcome is known but could not be written down; it is in `outcome`.
        """
        settling = self._settle(error)
        # In process there is nothing to wait for, so nothing can be cut short.
        return settling if self.wiring.in_process else run_to_completion(settling)

    async def _settle(self, error: WxPayError | None) -> None:
        self.wiring.turns.end()
        if error is not None:
            await self._learn(error)
        if self.wiring.hooks:
            seconds = self.wiring.clock.monotonic() - self._started
            self._tell(EventKind.ATTEMPT_ENDED, error=error, seconds=seconds)
        await self._free_slot(error)
        if self.entry is None:
            return
        try:
            await self._record(self.entry, self._step(error), error)
        except InDoubtError as unwritten:
            unwritten.retryable = False
            unwritten.outcome = self._result if error is None else error
            raise

    async def _learn(self, error: WxPayError) -> None:
        if isinstance(error, ClockSkewError) and error.server_time is not None:
            self.wiring.time.learn(error.server_time)
        if isinstance(error, RateLimitedError):
            await self.wiring.limiter.throttled()

    def _step(self, error: WxPayError | None) -> Step:
        if error is not None:
            return transition_for(error)
        pending = isinstance(self._result, RefundResult) and self._result.status == "P"
        return Step.ACCEPTED if pending else Step.SUCCESS

    async def _free_slot(self, error: WxPayError | None) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        if error is None or self._response is not None:
            await slot.answered()
        elif error.fate is Fate.NOT_SENT:
            await slot.unsent()
        else:
            await slot.doubtful()

    async def _record(
        self, entry: IdempotencyRecord, step: Step, error: WxPayError | None = None
    ) -> None:
        state = next_state(State.SENDING, step, in_doubt=entry.in_doubt)
        status, reply = self._kept(entry, state, error)
        now = self.wiring.clock.time()
        since = entry.doubt_since or (now if state in OPEN else None)
        written = evolve(
            entry,
            state=state,
            in_doubt=entry.in_doubt or step is Step.DOUBT,
            signed_at=self._signed_at if step in _ANSWERED else entry.signed_at,
            lease_until=0.0,
            content=entry.content if state in SENDABLE else None,
            status=status,
            reply=reply,
            doubt_since=since,
            next_check_at=now + SCHEDULE[0] if state in OPEN else None,
            updated_at=now,
        )
        if not await self.wiring.store.record(written):
            # Our lease ran out and somebody claimed since. The later claim decides, and may have
            # been executed: a refusal of this attempt settles nothing any more.
            written = attrs.evolve(written, in_doubt=True)
        self.entry = written  # not before: what could not be written down settles nothing
        if state is State.UNKNOWN and not entry.in_doubt:
            self._tell(EventKind.DOUBT_OPENED)
        elif state is not State.UNKNOWN and entry.in_doubt:
            self._tell(EventKind.DOUBT_CLOSED)

    def _kept(
        self, entry: IdempotencyRecord, state: State, error: WxPayError | None
    ) -> tuple[int | None, bytes | None]:
        """Return what is kept of the reply; see `IdempotencyRecord.duplicate_at_first`."""
        settled = state not in {State.RESERVED, State.UNKNOWN}
        duplicate = self.operation is REFUND and isinstance(error, DuplicateRequestError)
        if not settled and not (duplicate and not entry.in_doubt):
            return entry.status, entry.reply
        return (self._response.status, self._response.body) if self._response else (None, None)

    def is_in_doubt(self) -> bool:
        """Tell whether some attempt, of this call or an earlier one, may have been executed."""
        return self.entry is not None and self.entry.in_doubt

    @property
    def server_time(self) -> datetime | None:
        """The platform's time from the `Date` of the last answer, None where there was none."""
        return None if self._response is None else server_time(self._response)

    def replayed(self, entry: IdempotencyRecord) -> T:
        """Return what a settled operation's reply holds, or raise what it means, once more."""
        self.entry, self._number, self._signed_at = entry, entry.attempts, entry.signed_at or 0
        try:
            if entry.reply is None:
                raise _without_reply(entry)
            result = self.read(HttpResponse(entry.status or 0, entry.reply), replayed=True)
            if not self._is_alive():
                result = _without_prepay(result)
        except WxPayError as error:
            error.attempts, error.replayed = entry.attempts, True
            raise
        return result

    def _is_alive(self) -> bool:
        dead_at = _moment(self._signed_at) + PREPAY_LIFE - PREPAY_MARGIN
        return _moment(self.wiring.time.milliseconds()) < dead_at

    def _tell(
        self, kind: EventKind, *, error: WxPayError | None = None, seconds: float = 0.0
    ) -> None:
        wiring = self.wiring
        if not wiring.hooks:
            return
        ended = kind is EventKind.ATTEMPT_ENDED
        wiring.tell(
            Event(
                kind=kind,
                operation=self.operation.name,
                app_key=wiring.builder.app_key,
                request_id=self.entry.request_id if self.entry else None,
                attempt=self._number,
                fate=(error.fate if error else "ok") if ended else "",
                code=error.code if error else None,
                seconds=seconds,
                url=wiring.builder.base_url + self.operation.path,
                status=self._response.status if ended and self._response else None,
                quota_in_use=getattr(wiring.limiter, "in_use", None),
            )
        )


def _without_prepay(result: T) -> T:
    """Hand out no prepay that is dead, or dies while the person reads the dialogue."""
    if isinstance(result, PayResult):
        raise PrepayExpiredError("the prepay is older than WeChat accepts")
    return cast("T", result.without_prepay()) if isinstance(result, TradeResult) else result


def _without_reply(entry: IdempotencyRecord) -> WxPayError:
    """Return what a settled operation means whose reply nobody has."""
    if entry.state is State.CONFLICT:
        return _held_with_other_content()
    if entry.state is State.NOT_EXECUTED:
        return NotExecutedError("proven never executed; use the next generation of the requestId")
    if entry.state is State.FAILED:
        return FailedError("the platform reports failure")
    if entry.state is State.SUCCEEDED and entry.operation == PAY.name:
        return AlreadyPaidError("the order is paid; the answer with its credential got lost")
    return InDoubtError(f"{entry.state}, without a reply to show for it", retryable=False)


def _held_with_other_content() -> IdempotencyConflictError:
    error = IdempotencyConflictError(
        "the platform holds this requestId with other content; a person must look"
    )
    error.fate = Fate.IN_DOUBT  # unlike our own store's conflict it was found out by sending
    return error
