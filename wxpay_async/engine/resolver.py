"""Finds out what became of an operation in doubt, by query (`money-safety.md` §3)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import attrs
from attrs import define

from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.engine.clock import Clock, PlatformTime
from wxpay_async.errors import RefusedError, WxPayError
from wxpay_async.policy.record import OPEN, IdempotencyRecord
from wxpay_async.policy.resolution import Finding, InDoubtCall, decide
from wxpay_async.policy.states import FINAL, SENDABLE, State, Transition, next_state
from wxpay_async.protocol.builder import PAY, REFUND, TRADE
from wxpay_async.protocol.echo import same_order
from wxpay_async.protocol.results import TradeState, TradeStatus
from wxpay_async.protocol.strict_json import strict_json

Ask = Callable[[str, float], Awaitable[tuple[TradeStatus, datetime | None]]]
"""Query an order by its outTradeNo, within so many seconds; tell the answer's `Date` besides."""

_SWEPT_AT_ONCE: Final = 100

_BUSINESS_REFUSAL: Final = re.compile(r"GM_API_BUS_[0-9]+", re.ASCII)

_OF_PAYMENT: Final = {
    TradeState.PAID: Finding.DONE,
    TradeState.REFUNDING: Finding.DONE,
    TradeState.REFUNDED: Finding.DONE,
    TradeState.REFUND_FAILED: Finding.DONE,  # only what was paid can fail to be refunded
    TradeState.AWAITING: Finding.UNPAID,
    TradeState.FAILED: Finding.FAILED,
    TradeState.CLOSED: Finding.FAILED,
}
_OF_REFUND: Final = {
    TradeState.REFUNDED: Finding.DONE,
    TradeState.REFUNDING: Finding.UNDERWAY,
    TradeState.REFUND_FAILED: Finding.FAILED,
}
_ROW_STATUS: Final = {
    **dict.fromkeys(
        (TradeState.PAID, TradeState.REFUNDING, TradeState.REFUNDED, TradeState.REFUND_FAILED), "S"
    ),
    **dict.fromkeys((TradeState.FAILED, TradeState.CLOSED), "F"),
}
"""What `tradeResList` would say of an order; P for all others."""

_REPLIED: Final = frozenset({Transition.SUCCESS, Transition.ACCEPTED})
_DISPROVED: Final = frozenset({Transition.FAILURE, Transition.ABSENT, Transition.MISMATCH})


@define(eq=False, kw_only=True)
class Resolver:
    """Asks the platform about operations in doubt and records what its answers prove.

    Attributes:
        store: where the operations are.
        clock: for the schedule.
        time: the platform's, in which requests are signed and expire.
        ask: makes one query.
        closed: told of an operation that is in doubt no more.
        refunds_queryable: whether a query by a refund's own number finds it. Nothing documents
            that, so a refund that is not found counts as not executed only when this is set.
    """

    store: IdempotencyStore
    clock: Clock
    time: PlatformTime
    ask: Ask
    closed: Callable[[IdempotencyRecord], None]
    refunds_queryable: bool = False

    async def look(
        self, entry: IdempotencyRecord, timeout: float
    ) -> tuple[IdempotencyRecord, Finding]:
        """Make one query; return the operation as it stands then, and what the query said.

        Of a trade, one for each of its orders.
        """
        if entry.state not in OPEN:
            return entry, Finding.SILENT
        finding, found, said = await self._find(entry, timeout)
        # Judged by the platform's time, read after the query, which may just have taught it: a
        # wall clock that jumped ahead must not end the quarantine of a request that still lives.
        now, offset = self.clock.time(), self.time.offset
        doubt = InDoubtCall(
            state=entry.state,
            since=(entry.doubt_since or entry.updated_at) + offset,
            signed_at=(entry.signed_at or 0) / 1000,
            absent_at=entry.absent_at,
            absence_proves=entry.operation != REFUND.name or self.refunds_queryable,
        )
        seen_at = None if said is None else said.timestamp()
        verdict = decide(doubt, finding, now + offset, seen_at=seen_at)
        check_at = verdict.next_check_at
        state = entry.state
        if verdict.event is not None:
            state = next_state(state, verdict.event)
        changed = attrs.evolve(
            entry,
            state=state,
            checks=entry.checks + 1,
            absent_at=verdict.absent_at,
            next_check_at=None if check_at is None else check_at - offset,
            content=entry.content if state in SENDABLE else None,
            updated_at=now,
            **_reply(entry, verdict.event, found),
        )
        if not await self.store.record(changed):  # somebody claimed it meanwhile
            return await self.store.load(entry.key) or entry, finding
        if changed.state is not entry.state and entry.state is State.UNKNOWN:
            self.closed(entry)
        return changed, finding

    async def _find(
        self, entry: IdempotencyRecord, timeout: float
    ) -> tuple[Finding, Sequence[TradeStatus], datetime | None]:
        deadline = self.clock.monotonic() + timeout
        findings, found, dates = set[Finding](), list[TradeStatus](), list[datetime]()
        for number, item in _asked(entry):
            try:
                # With too little time left it raises: nothing is found out, as in any outage.
                status, date = await self.ask(number, deadline - self.clock.monotonic())
            except WxPayError as error:
                findings.add(_finding_of_error(error))
                date = error.server_time if isinstance(error, RefusedError) else None
            else:
                found.append(status)
                findings.add(_finding_of_status(entry, item, status))
            if date is not None:
                dates.append(date)
            if findings & {Finding.SILENT, Finding.OTHER}:
                break
        return _together(findings), found, min(dates, default=None)

    async def recover(self, app_key: str, timeout: float) -> int:
        """Look after everything that is open and due; return how many operations were settled.

        One look that fails keeps no other from its end: none may go on behind a gateway that is
        closed, and a thousand others are due. What it raised is raised in the end.
        """
        settled, failures = 0, list[BaseException]()
        while True:
            due = await self.store.sweep(app_key, self.clock.time(), limit=_SWEPT_AT_ONCE)
            looks = (self.look(entry, timeout) for entry in due)
            for found in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(found, BaseException):
                    failures.append(found)
                else:
                    settled += found[0].state in FINAL
            if len(due) < _SWEPT_AT_ONCE:
                break
        if failures:
            raise failures[0]
        return settled


def _asked(entry: IdempotencyRecord) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the numbers to ask for, each with the content that must stand under it."""
    # The content of a payment is a credential, and no query echoes anything of it.
    readable = entry.content is not None and entry.operation != PAY.name
    content: dict[str, Any] = strict_json(entry.content or b"") if readable else {}
    if entry.operation == TRADE.name:
        # A content that cannot be read any more (its seal) cannot be compared either: no question.
        return [(item["outTradeNo"], item) for item in content.get("tradeInfo", ())]
    return [] if entry.out_trade_no is None else [(entry.out_trade_no, content)]


def _together(findings: set[Finding]) -> Finding:
    """Return what is found of an operation by what is found of its orders."""
    for alone in (Finding.OTHER, Finding.SILENT):
        if alone in findings:
            return alone
    if len(findings) == 1:
        return findings.pop()
    # Some orders are there and some are not: nothing documented says what that means.
    return Finding.DONE if findings == {Finding.DONE, Finding.FAILED} else Finding.SILENT


def _finding_of_error(error: WxPayError) -> Finding:
    """Read a business refusal of a well-formed query as: the platform does not know the order."""
    if isinstance(error, RefusedError) and _BUSINESS_REFUSAL.fullmatch(error.code or ""):
        return Finding.ABSENT
    return Finding.SILENT


def _finding_of_status(
    entry: IdempotencyRecord, asked: Mapping[str, Any], status: TradeStatus
) -> Finding:
    if entry.operation == PAY.name:
        return _OF_PAYMENT.get(status.state, Finding.SILENT)
    if entry.operation == TRADE.name:
        if not same_order(asked, status):
            return Finding.OTHER
        # It exists, and that is all that a trade is meant to do, unless it is over already.
        return Finding.FAILED if _ROW_STATUS.get(status.state) == "F" else Finding.DONE
    if not _same_amount(asked, status):
        return Finding.OTHER
    finding = _OF_REFUND.get(status.state, Finding.SILENT)
    # Nothing echoes which order the money went back to. What an earlier request of somebody's made
    # is not taken for ours (decision 7); that it failed, or is not there, leaves ours unexecuted.
    theirs = entry.duplicate_at_first and finding in {Finding.DONE, Finding.UNDERWAY}
    return Finding.SILENT if theirs else finding


def _same_amount(asked: Mapping[str, Any], status: TradeStatus) -> bool:
    if not asked or status.total_amount is None:
        return True
    return Decimal(asked["refundAmount"]) == status.total_amount


def _reply(
    entry: IdempotencyRecord, event: Transition | None, found: Sequence[TradeStatus]
) -> dict[str, Any]:
    """Write down the reply that got lost, as far as queries can tell it."""
    if event in _DISPROVED:
        return {"status": None, "reply": None}  # what was kept says something else
    if event not in _REPLIED or entry.operation == PAY.name:
        return {}  # the credential of a payment is lost for good
    data: dict[str, object] = {"requestId": entry.request_id}
    if entry.operation == REFUND.name:
        data |= _row(found[0], "P" if event is Transition.ACCEPTED else "S")
    else:
        data["tradeResList"] = [_row(one, _ROW_STATUS.get(one.state, "P")) for one in found]
    reply = json.dumps({"success": True, "data": data}, ensure_ascii=False).encode()
    return {"status": 200, "reply": reply}


def _row(found: TradeStatus, status: str) -> dict[str, str]:
    return {
        "outTradeNo": found.out_trade_no,
        "tradeNo": found.trade_no or "",
        "status": status,
    }
