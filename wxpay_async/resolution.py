"""Finds out what became of an operation in doubt, by query (`money-safety.md` §3)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import attrs
from attrs import define

from wxpay_async.clock import Clock, PlatformTime
from wxpay_async.errors import RefusedError, WxPayError
from wxpay_async.idempotency.store import OPEN, Entry, IdempotencyStore
from wxpay_async.policy.resolving import Doubt, Finding, judge
from wxpay_async.policy.states import FINAL, SENDABLE, Event, State, next_state
from wxpay_async.protocol.builder import PAY, REFUND, TRADE
from wxpay_async.protocol.identity import derive_request_id
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.results import TradeState, TradeStatus
from wxpay_async.protocol.strict import strict_json

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
    closed: Callable[[Entry], None]
    refunds_queryable: bool = False

    async def look(self, entry: Entry, timeout: float) -> tuple[Entry, Finding]:
        """Make one query; return the operation as it stands then, and what the query said."""
        if entry.state not in OPEN:
            return entry, Finding.SILENT
        finding, status, said = await self._find(entry, timeout)
        # Judged by the platform's time, read after the query, which may just have taught it: a
        # wall clock that jumped ahead must not end the quarantine of a request that still lives.
        now, offset = self.clock.time(), self.time.offset
        doubt = Doubt(
            state=entry.state,
            since=(entry.doubt_since or entry.updated_at) + offset,
            signed_at=(entry.signed_at or 0) / 1000,
            absent_at=entry.absent_at,
            absence_proves=entry.operation != REFUND.name or self.refunds_queryable,
        )
        seen_at = None if said is None else said.timestamp()
        verdict = judge(doubt, finding, now + offset, seen_at=seen_at)
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
            **_reply(entry, verdict.event, status),
        )
        if not await self.store.record(changed):  # somebody claimed it meanwhile
            return await self.store.load(entry.key) or entry, finding
        if changed.state is not entry.state and entry.state is State.UNKNOWN:
            self.closed(entry)
        return changed, finding

    async def _find(
        self, entry: Entry, timeout: float
    ) -> tuple[Finding, TradeStatus | None, datetime | None]:
        if entry.out_trade_no is None:
            return Finding.SILENT, None, None
        try:
            status, said = await self.ask(entry.out_trade_no, timeout)
        except WxPayError as error:
            said = error.server_time if isinstance(error, RefusedError) else None
            return _finding_of_error(error), None, said
        return _finding_of_status(entry, status), status, said

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


def next_generation(app_key: str, entry: Entry, content: bytes) -> MiniProgramPay:
    """Return the payment that takes the place of one whose credential is lost."""
    known = dict(strict_json(content))
    known.pop("requestId")
    return MiniProgramPay(
        request_id=derive_request_id(app_key, PAY.name, entry.request_id, generation=1),
        pay_token=known.pop("payToken"),
        terminal_payer_id=known.pop("terminalPayerId"),
        app_id=known.pop("appId", None),
        target_organization=known.pop("targetOrganization"),
        out_trade_no=entry.out_trade_no,
        extra=known,
    )


def _finding_of_error(error: WxPayError) -> Finding:
    """Read a business refusal of a well-formed query as: the platform does not know the order."""
    if isinstance(error, RefusedError) and _BUSINESS_REFUSAL.fullmatch(error.code or ""):
        return Finding.ABSENT
    return Finding.SILENT


def _finding_of_status(entry: Entry, status: TradeStatus) -> Finding:
    if entry.operation == PAY.name:
        return _OF_PAYMENT.get(status.state, Finding.SILENT)
    if status.out_trade_no != entry.out_trade_no or not _same_amount(entry, status):
        return Finding.OTHER
    if entry.operation == TRADE.name:
        return Finding.DONE  # it exists, and that is all that a trade is meant to do
    return _OF_REFUND.get(status.state, Finding.SILENT)


def _same_amount(entry: Entry, status: TradeStatus) -> bool:
    if entry.content is None or status.total_amount is None:
        return True
    content = strict_json(entry.content)
    if entry.operation == TRADE.name:
        amount = content["tradeInfo"][0]["totalAmount"]
    else:
        amount = content["refundAmount"]
    return Decimal(amount) == status.total_amount


def _reply(entry: Entry, event: Event | None, status: TradeStatus | None) -> dict[str, Any]:
    """Write down the reply that got lost, as far as a query can tell it."""
    if event not in {Event.SUCCESS, Event.ACCEPTED} or status is None:
        return {}
    kept = "P" if event is Event.ACCEPTED else "S"
    row = {"outTradeNo": entry.out_trade_no, "tradeNo": status.trade_no or "", "status": kept}
    data: dict[str, object] = {"requestId": entry.request_id}
    if entry.operation == REFUND.name:
        data |= row
    elif entry.operation == TRADE.name:
        data["tradeResList"] = [row]
    else:
        return {}  # the credential of a payment is lost for good
    reply = json.dumps({"success": True, "data": data}, ensure_ascii=False).encode()
    return {"status": 200, "reply": reply}
