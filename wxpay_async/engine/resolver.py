"""Find out by query what became of an operation in doubt (`money-safety.md` §3)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import attrs
from attrs import define

from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.engine.clock import Clock, PlatformTime
from wxpay_async.errors import (
    InProgressError,
    InvalidRequestError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.confirmation import read_as_status
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import OPEN, IdempotencyRecord
from wxpay_async.policy.resolution import (
    Decision,
    Finding,
    InDoubtCall,
    combine,
    decide,
    says_absent,
)
from wxpay_async.policy.review import ReviewVerdict
from wxpay_async.policy.states import (
    ANSWERED,
    REVIEW,
    SENDABLE,
    State,
    Transition,
    next_state,
)
from wxpay_async.protocol.builder import PAY, REFUND, TRADE
from wxpay_async.protocol.echo import digest_order, is_same_order
from wxpay_async.protocol.notify import Notification, TradeNotification
from wxpay_async.protocol.results import TradeState, TradeStatus
from wxpay_async.protocol.strict_json import strict_json

Query = Callable[[str, Deadline], Awaitable[tuple[TradeStatus, datetime | None]]]
"""Query an order by its outTradeNo; return the answer, and its `Date` where it has one."""

_OF_REFUND: Final = {
    TradeState.REFUNDED: Finding.EXECUTED,
    TradeState.REFUNDING: Finding.PENDING,
    TradeState.REFUND_FAILED: Finding.FAILED,
}
_DISPROVED: Final = frozenset({Transition.FAILURE, Transition.ABSENT, Transition.MISMATCH})


@define(eq=False, kw_only=True)
class Resolver:
    """Asks the platform about operations in doubt and records what its answers prove.

    Attributes:
        store: where the operations are.
        clock: for the schedule.
        time: the platform's, in which requests are signed and expire.
        query: makes one query.
        on_changed: told of an operation that moved to another state: as it was, and as it is.
        refunds_queryable: whether a query by a refund's own number finds it. That is not
            documented, so a refund that is not found counts as not executed only when this is set.
        absent_codes: codes of a query that say, whatever their text, that an order does not exist.
    """

    store: IdempotencyStore
    clock: Clock
    time: PlatformTime
    query: Query
    on_changed: Callable[[IdempotencyRecord, IdempotencyRecord], None]
    refunds_queryable: bool = False
    absent_codes: frozenset[str] = frozenset()

    async def check(
        self, record: IdempotencyRecord, deadline: Deadline
    ) -> tuple[IdempotencyRecord, Finding]:
        """Query once for each order of an operation.

        Returns:
            The operation as it stands then, and what was found.
        """
        if record.state not in OPEN | REVIEW:
            return record, Finding.NO_ANSWER
        finding, found, date = await self._find(record, deadline)
        # Decided by the platform's time, read after the query, which may just have corrected it: a
        # wall clock that jumped ahead must not end the quarantine of a request that still lives.
        now, offset = self.clock.time(), self.time.offset
        deviation = digest_order(found[-1]) if finding is Finding.MISMATCH else record.deviation
        decision = self._decide(record, finding, now + offset, date, deviation)
        checked = _apply(record, decision, found, now=now, offset=offset, deviation=deviation)
        if not await self._write(record, checked):  # another claim came meanwhile
            return await self.store.load(record.key) or record, finding
        return checked, finding

    async def settle_by_verdict(
        self, record: IdempotencyRecord, verdict: ReviewVerdict
    ) -> IdempotencyRecord:
        """Settle what waits for a person by the person's word; return it as it stands then."""
        now = self.clock.time()
        transition = Transition.CONFIRMED if verdict.executed else Transition.DENIED
        state = next_state(record.state, transition)
        settled = attrs.evolve(
            record,
            state=state,
            verdict=verdict.to_text(now),
            absent_at=None,
            content=record.content if state in SENDABLE else None,
            updated_at=now,
            **_write_reply(record, verdict),
        )
        if not await self._write(record, settled):  # the platform's word came meanwhile
            return await self.store.load(record.key) or record
        return settled

    async def settle(self, app_key: str, notification: Notification) -> int:
        """Record what a genuine notification proves of the open operations of its number.

        What it does not prove is asked about with the next recovery.

        Returns:
            How many operations it settled.

        Raises:
            InvalidRequestError: it is neither authentic nor confirmed.
            InProgressError: it tells of a refund that is being sent. If its answer gets lost, the
                notification is all that may ever settle it, so it has to come again.
        """
        if not (notification.authentic or notification.confirmed):
            raise InvalidRequestError(
                "anyone can have written it",
                field="notification",
                allowed="one that is authentic, or confirmed by a query",
            )
        is_trade = isinstance(notification, TradeNotification)
        settled, under_way = 0, False
        for record in await self.store.find_open(app_key, notification.out_trade_no):
            if (record.operation != REFUND.name) is not is_trade:
                continue
            if record.state is State.SENDING:
                under_way = True
                continue
            told = self._apply_notification(record, notification)
            settled += await self._write(record, told) and told.state is not record.state
        if under_way and not is_trade:  # a query finds what became of an order
            raise InProgressError("the refund is being sent; the notification must come again")
        return settled

    def _apply_notification(
        self, record: IdempotencyRecord, notification: Notification
    ) -> IdempotencyRecord:
        now, offset = self.clock.time(), self.time.offset
        status = read_as_status(notification)
        finding = _read_notification(record, notification, status)
        if status is None or finding not in {Finding.EXECUTED, Finding.FAILED}:
            return attrs.evolve(record, next_check_at=now)
        decision = self._decide(record, finding, now + offset, None)
        return _apply(record, decision, [status], now=now, offset=offset)

    async def _write(self, record: IdempotencyRecord, later: IdempotencyRecord) -> bool:
        """Write what became of it, unless another claim came meanwhile; tell who waits for it."""
        written = await self.store.record(later)
        if written and later.state is not record.state:
            self.on_changed(record, later)
        return written

    def _decide(
        self,
        record: IdempotencyRecord,
        finding: Finding,
        now: float,
        date: datetime | None,
        deviation: str | None = None,
    ) -> Decision:
        call = InDoubtCall(
            state=record.state,
            since=(record.doubt_since or record.updated_at) + self.time.offset,
            signed_at=(record.signed_at or 0) / 1000,
            absent_at=record.absent_at,
            deviates_at=record.deviates_at if record.deviation == deviation else None,
            absence_proves=self._absence_proves(record),
        )
        return decide(call, finding, now, seen_at=None if date is None else date.timestamp())

    def _absence_proves(self, record: IdempotencyRecord) -> bool:
        # What waits for a person and has a reply was accepted, or was a duplicate at first: no
        # machine tells which of them a query does not find any more.
        if record.state is State.NEEDS_REVIEW and record.status is not None:
            return False
        return record.operation != REFUND.name or self.refunds_queryable

    async def _find(
        self, record: IdempotencyRecord, deadline: Deadline
    ) -> tuple[Finding, Sequence[TradeStatus], datetime | None]:
        findings, found, dates = set[Finding](), list[TradeStatus](), list[datetime]()
        for number, item in _order_numbers(record):
            try:
                # With too little time left it raises: nothing is found out, as in any outage.
                status, date = await self.query(number, deadline)
            except WxPayError as error:
                findings.add(_read_error(error, self.absent_codes))
                date = error.server_time if isinstance(error, RefusedError) else None
            else:
                found.append(status)
                findings.add(_read_status(record, item, status))
            if date is not None:
                dates.append(date)
            if findings & {Finding.NO_ANSWER, Finding.MISMATCH}:
                break
        return combine(findings), found, min(dates, default=None)


def _apply(
    record: IdempotencyRecord,
    decision: Decision,
    found: Sequence[TradeStatus],
    *,
    now: float,
    offset: float,
    deviation: str | None = None,
) -> IdempotencyRecord:
    """Return the record after a decision, whose times are the platform's."""
    state, at = record.state, decision.next_check_at
    if decision.transition is not None:
        state = next_state(state, decision.transition)
    return attrs.evolve(
        record,
        state=state,
        checks=record.checks + 1,
        absent_at=decision.absent_at,
        deviates_at=decision.deviates_at,
        deviation=None if decision.deviates_at is None else deviation,
        next_check_at=None if at is None else at - offset,
        content=record.content if state in SENDABLE else None,
        updated_at=now,
        **_restore_reply(record, decision.transition, found),
    )


def _order_numbers(record: IdempotencyRecord) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the numbers to ask for, each with the content that must stand under it."""
    # The content of a payment is a credential, and no query echoes anything of it.
    readable = record.content is not None and record.operation != PAY.name
    content: dict[str, Any] = strict_json(record.content or b"") if readable else {}
    if record.operation == TRADE.name:
        # A content that cannot be read any more (its seal) cannot be compared either: no question.
        return [(item["outTradeNo"], item) for item in content.get("tradeInfo", ())]
    return [] if record.out_trade_no is None else [(record.out_trade_no, content)]


def _read_notification(
    record: IdempotencyRecord, notification: Notification, status: TradeStatus | None
) -> Finding:
    numbers = _order_numbers(record)
    if status is None or [number for number, _ in numbers] != [status.out_trade_no]:
        return Finding.NO_ANSWER  # one order of several does not speak for the others
    [(_, sent)] = numbers
    finding = _read_status(record, sent, status)
    if notification.confirmed:
        return finding
    if not isinstance(notification, TradeNotification):
        same = sent.get("origOutTradeNo") in {None, notification.orig_outer_trade_no}
        finding = finding if same else Finding.NO_ANSWER
    # A failure that was told before our latest attempt was signed may be an earlier attempt's.
    before = int(notification.raw.get("timestamp", "0")) < (record.signed_at or 0)
    return Finding.NO_ANSWER if finding is Finding.FAILED and before else finding


def _read_error(error: WxPayError, absent_codes: frozenset[str]) -> Finding:
    absent = isinstance(error, RefusedError) and says_absent(error, absent_codes)
    return Finding.NOT_FOUND if absent else Finding.NO_ANSWER


def _read_status(
    record: IdempotencyRecord, sent: Mapping[str, Any], status: TradeStatus
) -> Finding:
    if record.operation == PAY.name:
        return _read_payment(status.state)
    if record.operation == TRADE.name:
        if not is_same_order(sent, status):
            return Finding.MISMATCH
        # It exists, and that is all that a trade is meant to do, unless it is over already.
        return Finding.FAILED if status.state.ended_unpaid else Finding.EXECUTED
    if not _same_amount(sent, status):
        return Finding.MISMATCH
    finding = _OF_REFUND.get(status.state, Finding.NO_ANSWER)
    # The query does not echo which order the money went back to. What an earlier request of others
    # made is not taken for ours (decision 7); that it failed, or is not there, leaves ours
    # unexecuted.
    theirs = _may_be_of_others(record) and finding in {Finding.EXECUTED, Finding.PENDING}
    return Finding.NO_ANSWER if theirs else finding


def _may_be_of_others(record: IdempotencyRecord) -> bool:
    """Tell whether what stands under a refund's number may come from another request."""
    if record.state is State.NEEDS_REVIEW and record.status is not None:
        return not strict_json(record.reply or b"{}").get("success")
    # A record in CONFLICT keeps no reply that could tell.
    return record.duplicate_at_first or record.state is State.CONFLICT


def _read_payment(state: TradeState) -> Finding:
    if state.was_paid:
        return Finding.EXECUTED
    if state.ended_unpaid:
        return Finding.FAILED
    return Finding.UNPAID if state is TradeState.AWAITING else Finding.NO_ANSWER


def _same_amount(sent: Mapping[str, Any], status: TradeStatus) -> bool:
    if not sent or status.total_amount is None:
        return True
    return Decimal(sent["refundAmount"]) == status.total_amount


def _restore_reply(
    record: IdempotencyRecord, transition: Transition | None, found: Sequence[TradeStatus]
) -> dict[str, Any]:
    """Write the reply that was lost, as far as queries can tell it."""
    if transition in _DISPROVED:
        return {"status": None, "reply": None}  # what was kept says something else
    if transition not in ANSWERED or record.operation == PAY.name:
        return {}  # the credential of a payment is lost for good
    data: dict[str, object] = {"requestId": record.request_id}
    if record.operation == REFUND.name:
        data |= _make_row(found[0], "P" if transition is Transition.ACCEPTED else "S")
    else:
        data["tradeResList"] = [_make_row(one, _row_status(one.state)) for one in found]
    return _make_reply(data)


def _write_reply(record: IdempotencyRecord, verdict: ReviewVerdict) -> dict[str, Any]:
    """Write the reply that a person's word stands for."""
    if not verdict.executed or record.operation == PAY.name:
        return {"status": None, "reply": None}
    status = "S" if record.operation == REFUND.name else "P"
    rows = [
        {"outTradeNo": number, "tradeNo": "", "status": status}
        for number, _ in _order_numbers(record)
    ]
    data: dict[str, object] = {"requestId": record.request_id}
    data |= rows[0] if record.operation == REFUND.name else {"tradeResList": rows}
    return _make_reply(data)


def _make_reply(data: dict[str, object]) -> dict[str, Any]:
    reply = json.dumps({"success": True, "data": data}, ensure_ascii=False).encode()
    return {"status": 200, "reply": reply}


def _row_status(state: TradeState) -> str:
    """Return what `tradeResList` would say of an order."""
    if state.was_paid:
        return "S"
    return "F" if state.ended_unpaid else "P"


def _make_row(found: TradeStatus, status: str) -> dict[str, str]:
    return {
        "outTradeNo": found.out_trade_no,
        "tradeNo": found.trade_no or "",
        "status": status,
    }
