"""Carry one call out: wait for quota, claim, sign, and record what it led to.

`RetryingTransport.deliver` drives a call. The order is `money-safety.md` §3: a record exists before
a byte is sent, no lease is held while waiting for quota, the attempt is committed before it is on
the wire, and its outcome is written under the epoch of its claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from attrs import define, evolve, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.engine.replay import SettledMeanwhileError, moment_of
from wxpay_async.engine.services import Services
from wxpay_async.engine.telemetry import Event, EventKind, needs_person, read_held
from wxpay_async.engine.turn import TOO_LATE, Turn
from wxpay_async.engine.unsent import explain_refused_claim, load_or_doubt
from wxpay_async.engine.waiting import measure, wait_for
from wxpay_async.errors import (
    ClockSkewError,
    DuplicateRequestError,
    InDoubtError,
    NotSentError,
    NotSentTimeoutError,
    RateLimitedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import LEASE, OPEN, IdempotencyRecord
from wxpay_async.policy.states import CLAIMABLE, State, Transition, transition_for
from wxpay_async.protocol.builder import PAY, REFUND, Operation, Template
from wxpay_async.protocol.codec import decode, server_time
from wxpay_async.protocol.results import RefundResult
from wxpay_async.protocol.secrets import without_credentials
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

T = TypeVar("T")
T2 = TypeVar("T2")
R = TypeVar("R", bound=IdempotencyRecord | None)

_PAUSED: Final = (
    "the process was paused before it could send, or its store or signer took too long: another "
    "process may claim the operation before the attempt is over"
)


@define(eq=False, kw_only=True)
class Call(Generic[T]):
    """One call, from the wait for its first slot to the record of its last attempt.

    Attributes:
        operation: which endpoint.
        template: what all attempts share.
        result_type: what a success is read into.
        asked: the request or query, and `check`, which raises when a success does not echo it.
        deadline: by when the call must be over.
        services: what all calls share.
        turn: the slot of the quota and the place that each attempt needs.
        record: the operation's record; None for a call that only reads.
        content: its `bizContent`; the same bytes go out with every attempt.
        ask: finds out what became of the record, see `check_outcome`; None where nothing can.
    """

    operation: Operation
    template: Template
    result_type: type[T]
    asked: Any = field(repr=False)
    check: Callable[[Any, T], None] | None
    deadline: Deadline
    services: Services
    turn: Turn
    record: IdempotencyRecord | None = None
    content: bytes = field(default=b"", repr=False)
    ask: Callable[[Call[T]], Coroutine[Any, Any, T | None]] | None = None

    _response: HttpResponse | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _claimed: bool = field(default=False, init=False)
    _token: str | None = field(default=None, init=False, repr=False)
    _signed_at: int = field(default=0, init=False)
    _started: float = field(default=0.0, init=False)
    _result: T | None = field(default=None, init=False)

    # Before sending

    async def reserve(self, fresh: IdempotencyRecord) -> IdempotencyRecord:
        """Reserve the operation, and claim it with the same commit if its turn has come.

        A lease must not run while a call waits. So reservation and claim stay two commits where no
        slot of the quota or no connection is free now, and for machines, whose pace lets them wait.

        Returns:
            What is stored now: `fresh`, that under the claim of the first attempt, or another.

        Raises:
            NotSentError: the store failed.
        """
        store, clock = self.services.store, self.services.clock
        if store.ahead is None:
            await self._store(store.open())
            now = clock.time()
            fresh = evolve(fresh, created_at=now, updated_at=now)
        self.record = fresh
        if not await self.turn.take_now():
            return await self._store(store.reserve(fresh))
        self._started, self._signed_at = self.turn.began, self.services.time.milliseconds()
        token = self._token = secrets.token_hex(16)
        now = clock.time()
        claimed = fresh.with_claim(now=now, signed_at=self._signed_at, lease=LEASE, token=token)
        try:
            stored = await self._store(store.reserve(claimed), claims=True)
        except BaseException:
            await run_to_completion(self._undo(None))
            raise
        self._token = None
        self._claimed = stored.claim_token == token
        if self._claimed:
            self.record = stored
        else:  # it is known already: perhaps nothing needs to be sent
            await run_to_completion(self._undo(None))
        return stored

    @property
    def claimed(self) -> bool:
        """Whether the operation was claimed as it was reserved."""
        return self._claimed

    async def prepare(self, number: int) -> HttpRequest:
        """Make attempt `number`: wait for quota and a connection, claim, sign.

        Raises:
            NotSentError: no quota before the deadline, or this process was paused.
            InProgressError: another process is sending the requestId.
            SettledMeanwhileError: another process has its answer by now.
        """
        self._number, self._response = number, None
        claimed: IdempotencyRecord | None = None
        if self._claimed:
            self._claimed, claimed = False, self.record
        else:
            await self.turn.wait(self._emit_wait if self.services.telemetry.hooks else None)
            self._started, self._signed_at = self.turn.began, self.services.time.milliseconds()
        try:
            if claimed is None and self.record is not None:
                claimed = await self._claim(self.record)
            request = await self._sign()
        except BaseException:
            await run_to_completion(self._undo(claimed))
            raise
        if self.services.telemetry.hooks:
            self._emit(EventKind.ATTEMPT_STARTED)
        return request

    async def _claim(self, record: IdempotencyRecord) -> IdempotencyRecord:
        # Kept until the store answers: the next attempt finds a claim whose answer got lost by it.
        self._token = self._token or secrets.token_hex(16)
        claiming = self.services.store.claim(
            record.key, now=self.services.clock.time(), signed_at=self._signed_at, token=self._token
        )
        claimed = await self._store(claiming, claims=True)
        self._token = None
        if claimed is None:
            seconds = self.deadline.until_start()
            raise await explain_refused_claim(self.services.store, record.key, seconds=seconds)
        self.record = claimed
        return claimed

    def _store(self, answer: Coroutine[Any, Any, R], *, claims: bool = False) -> Awaitable[R]:
        """Wait for the store's answer; what claims is released where it comes too late."""
        if self.services.in_process:
            return answer
        if claims:
            return self._time("store", self._shield(answer))
        return self._time("store", wait_for("store", answer, self.deadline.until_start()))

    async def _shield(self, claiming: Coroutine[Any, Any, R]) -> R:
        claim = asyncio.ensure_future(claiming)
        waiting = wait_for("store", asyncio.shield(claim), self.deadline.until_start())
        try:
            return await waiting
        except NotSentTimeoutError:  # nor must the call wait until it can be released
            self.services.background.start(self._release_late_claim(claim))
            raise
        except (asyncio.CancelledError, NotSentError):
            # It may be committed all the same: nothing was sent under it, so it is released.
            await run_to_completion(self._release_late_claim(claim))
            raise

    async def _release_late_claim(self, claim: asyncio.Future[R]) -> None:
        # No claim, nothing to release; or the store is still out of reach.
        with contextlib.suppress(NotSentError):
            try:
                found: IdempotencyRecord | None = await claim
            except NotSentError:
                found = (
                    None if self.record is None else await self.services.store.load(self.record.key)
                )
            # Only what is being sent has a token, and no other process has ours.
            if found is not None and found.claim_token == self._token:
                await self._release_claim(found)

    async def _sign(self) -> HttpRequest:
        draft = self.template.draft(now_ms=self._signed_at, nonce=secrets.token_hex(16))
        try:
            signature = self.services.signing.sign(draft.message)
            if not isinstance(signature, str):
                waiting = wait_for("signer", signature, self.deadline.until_start())
                signature = await self._time("signer", waiting)
        except WxPayError:
            raise
        except Exception as error:
            # Code of others, which may raise anything: a key service that is busy must fail one
            # call, not end the batch that it is part of. Its text may hold what it was given.
            raise NotSentError(f"the signer raised {type(error).__name__}") from error
        ready_at, self._started = self._started, self.services.clock.monotonic()
        if self._started - ready_at > LEASE - self.services.timeouts.attempt:
            raise NotSentError(_PAUSED)
        if self.deadline.at - self._started < self.deadline.attempt:
            raise NotSentTimeoutError(TOO_LATE)
        return draft.signed(signature)

    async def _undo(self, claimed: IdempotencyRecord | None) -> None:
        """Give back what an attempt held that was not sent."""
        await self.turn.give_back()
        if claimed is not None:
            await self._release_claim(claimed)

    async def _release_claim(self, claimed: IdempotencyRecord) -> None:
        # If the store is down the lease ends by itself; why nothing was sent matters more.
        with contextlib.suppress(InDoubtError):
            await self._write(claimed, Transition.UNSENT)

    # After sending

    def read(self, response: HttpResponse) -> T:
        """Return the result that the response holds, or raise what it means."""
        self._response = response
        try:
            result = decode(
                response,
                self.result_type,
                url=self.template.url,
                moves_money=self.operation.moves_money,
                signed_at=moment_of(self._signed_at),
                attempts=self._number,
            )
        except WxPayError as error:
            error.message = without_credentials(error.message, self.content)
            raise
        if self.check is not None:
            self.check(self.asked, result)
        self._result = result
        return result

    def complete(self, error: WxPayError | None) -> Awaitable[None]:
        """Record what the attempt led to, and free what it held; a cancellation has to wait.

        Raises:
            InDoubtError: the outcome is known but could not be written down; it is in `outcome`.
        """
        completing = self._complete(error)
        # In process there is nothing to wait for, so nothing can be cut short.
        return completing if self.services.in_process else run_to_completion(completing)

    async def _complete(self, error: WxPayError | None) -> None:
        self.turn.free_place()
        if error is not None:
            await self._apply_feedback(error)
        if self.services.telemetry.hooks:
            seconds = self.services.clock.monotonic() - self._started
            self._emit(EventKind.ATTEMPT_ENDED, error=error, seconds=seconds)
        await self.turn.free_slot(error, answered=self._response is not None)
        if self.record is None:
            return
        try:
            await self._write(self.record, self._transition(error), error)
        except InDoubtError as unwritten:
            unwritten.retryable = False
            unwritten.outcome = self._result if error is None else error
            raise

    async def _apply_feedback(self, error: WxPayError) -> None:
        if isinstance(error, ClockSkewError) and error.server_time is not None:
            self.services.time.learn(error.server_time)
        if isinstance(error, RateLimitedError):
            await self.services.limiter.throttled()

    def _transition(self, error: WxPayError | None) -> Transition:
        if error is not None:
            return transition_for(error)
        pending = isinstance(self._result, RefundResult) and self._result.status != "S"
        return Transition.ACCEPTED if pending else Transition.SUCCESS

    async def _write(
        self, record: IdempotencyRecord, transition: Transition, error: WxPayError | None = None
    ) -> None:
        """Record where the operation stands now, and say when it got into doubt, or out of it."""
        services = self.services
        written = record.after_attempt(
            transition,
            now=services.clock.time(),
            signed_at=self._signed_at,
            reply=self._reply_to_store(record, transition, error),
        )
        recording = services.store.record(written)
        if not await (recording if services.in_process else self._time("store", recording)):
            # Our lease ran out, and another claim came since. The later claim decides, and may have
            # been executed: a refusal of this attempt settles nothing any more.
            if self.operation is PAY and transition is Transition.SUCCESS:
                await self._check_reissued(record)
            written = evolve(written, in_doubt=True)
        self.record = written  # only after the write: an unrecorded outcome is not final
        if services.telemetry.hooks:
            if written.state is State.UNKNOWN and not record.in_doubt:
                self._emit(EventKind.DOUBT_OPENED)
            elif written.state is not State.UNKNOWN and record.in_doubt:
                self._emit(EventKind.DOUBT_CLOSED)

    async def _check_reissued(self, record: IdempotencyRecord) -> None:
        """Withhold a credential that came so late that another was issued in its place.

        Raises:
            SettledMeanwhileError: so it was; its answer is in the record.
            InDoubtError: the store cannot tell.
        """
        stored = await load_or_doubt(self.services.store, record.key)
        if stored is not None and stored.state is State.REISSUED:
            raise SettledMeanwhileError(stored)

    def _reply_to_store(
        self, record: IdempotencyRecord, transition: Transition, error: WxPayError | None
    ) -> tuple[int | None, bytes | None]:
        """Return what is kept of the reply: of the one that settles it, and of a duplicate.

        See `IdempotencyRecord.duplicate_at_first`.
        """
        settles = record.leads_to(transition) not in CLAIMABLE
        duplicate = self.operation is REFUND and isinstance(error, DuplicateRequestError)
        if not settles and not (duplicate and not record.in_doubt):
            return record.status, record.reply
        return (self._response.status, self._response.body) if self._response else (None, None)

    # In between

    @property
    def in_doubt(self) -> bool:
        """Whether an attempt, of this call or an earlier one, may have been executed."""
        return self.record is not None and self.record.in_doubt

    @property
    def can_check_outcome(self) -> bool:
        """Whether a query can tell what became of the operation."""
        return self.ask is not None and self.record is not None and self.record.state in OPEN

    async def check_outcome(self) -> T | None:
        """Ask what became of an attempt in doubt, before it is sent again or given up."""
        return None if self.ask is None else await self.ask(self)

    @property
    def server_time(self) -> datetime | None:
        """The platform's time from the `Date` of the last answer, None where there was none."""
        return None if self._response is None else server_time(self._response)

    def _time(self, part: str, answer: Coroutine[Any, Any, T2]) -> Coroutine[Any, Any, T2]:
        """Tell the hooks, where there are any, for how long a part was waited for."""
        if not self.services.telemetry.hooks:
            return answer
        return measure(part, answer, self.services.clock.monotonic, self._emit_wait)

    def _emit_wait(self, part: str, seconds: float) -> None:
        self.services.telemetry.waited(
            self.operation.name, self.record or self.asked, part, seconds, attempt=self._number
        )

    def _emit(
        self, kind: EventKind, *, error: WxPayError | None = None, seconds: float = 0.0
    ) -> None:
        ended, asked = kind is EventKind.ATTEMPT_ENDED, self.record or self.asked
        self.services.telemetry.emit(
            Event(
                kind=kind,
                operation=self.operation.name,
                app_key=self.services.telemetry.app_key,
                request_id=getattr(asked, "request_id", None),
                out_trade_no=getattr(asked, "out_trade_no", None),
                attempt=self._number,
                fate=(error.fate if error else "ok") if ended else "",
                code=error.code if error else None,
                needs_person=needs_person(error),
                seconds=seconds,
                url=self.template.url,
                status=self._response.status if ended and self._response else None,
                quota_in_use=getattr(self.services.limiter, "in_use", None),
                quota_held=read_held(self.services.limiter),
            )
        )
