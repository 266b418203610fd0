"""What the SDK makes of each fault: `money-safety.md` §4 over HTTP, row by row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final

import pytest
from attrs import frozen

from tests.sandbox.callback_shop import Settings
from tests.support import asking
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    ClockSkewError,
    DuplicateRequestError,
    Fate,
    InDoubtError,
    MalformedResponseError as Garbled,
    RateLimitedError,
    RefusedError,
    WxPayError,
)
from wxpay_async.integrations.testing import make_gateway
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import Timeouts
from wxpay_async.sandbox import Fault, FaultKind, Sandbox
from wxpay_async.sandbox.fault_kinds import Operation, Place, find_place

SHORT: Final = Timeouts(connect=10.0, read=0.5, attempt=10.0)
SLOW: Final = 30.0
"""Seconds of a fault that no attempt waits for."""

UNKNOWN, RESERVED, REJECTED = State.UNKNOWN, State.RESERVED, State.REJECTED
DONE, PENDING = State.SUCCEEDED, State.PENDING


@frozen
class Row:
    """A fault of one operation, and what follows.

    Attributes:
        fault: what happens; `every=1` makes it happen to each attempt.
        operation: of the call.
        error: its class, None for a result.
        state: that the store holds afterwards; a query has none.
        executed: how often the platform executed it: never twice.
    """

    fault: Fault
    operation: Operation
    error: type[WxPayError] | None
    state: State | None = None
    executed: int = 0


def _list_lost() -> list[Row]:
    """Return the rows of replies that do not arrive: executed, and nobody knows.

    A payment without a number cannot be asked about. A resend is told that the requestId is
    repeated, and the doubt stays. A refund is asked about by its number, and the query tells.
    """
    rows: list[Row] = []
    for name, last in (
        ("drop_after_commit", InDoubtError),
        ("reset", InDoubtError),
        ("cut_body", InDoubtError),
        ("html_502", Garbled),
        ("proxy_408", Garbled),
        ("http_500", Garbled),
        ("gzip", Garbled),
        ("delay", InDoubtError),
        ("drip", InDoubtError),
    ):
        make: Any = getattr(Fault, name)
        more = {"seconds": SLOW} if name in ("delay", "drip") else {}
        rows += [
            Row(make(**more, operation="pay"), "pay", InDoubtError, UNKNOWN, 1),
            Row(make(**more, operation="pay", every=1), "pay", last, UNKNOWN, 1),
            Row(make(**more, operation="refund"), "refund", None, DONE, 1),
            Row(make(**more, operation="refund", every=1), "refund", None, DONE, 1),
            Row(make(**more, operation="query"), "query", None),
            Row(make(**more, operation="query", every=1), "query", last),
        ]
    return rows


ROWS: Final = [
    *_list_lost(),
    # Lost before it was executed: a resend is the first that arrives.
    Row(Fault.drop_before_commit(operation="pay"), "pay", None, DONE, 1),
    Row(Fault.drop_before_commit(operation="pay", every=1), "pay", InDoubtError, UNKNOWN),
    Row(Fault.drop_before_commit(operation="refund"), "refund", None, DONE, 1),
    Row(Fault.drop_before_commit(operation="refund", every=1), "refund", InDoubtError, UNKNOWN),
    Row(Fault.reset(operation="refund", executed=False), "refund", None, DONE, 1),
    Row(Fault.html_502(operation="pay", executed=False), "pay", None, DONE, 1),
    Row(Fault.proxy_408(operation="pay", executed=False), "pay", None, DONE, 1),
    # Changed without a change of meaning.
    Row(Fault.bom(), "pay", None, DONE, 1),
    Row(Fault.bom(), "refund", None, DONE, 1),
    Row(Fault.unknown_fields(), "pay", None, DONE, 1),
    Row(Fault.unknown_fields(), "refund", None, DONE, 1),
    Row(Fault.unknown_fields(), "query", None),
    # Refused before it was executed.
    *(
        Row(Fault.rate_limited(variant=variant), operation, RateLimitedError, state)
        for variant in ("envelope", "envelope_429", "page_429", "retry_after_429")
        for operation, state in (("pay", RESERVED), ("refund", RESERVED), ("query", None))
    ),
    Row(Fault.expired(), "pay", None, DONE, 1),
    Row(Fault.expired(every=1), "pay", ClockSkewError, RESERVED),
    Row(Fault.clock_off(seconds=600), "pay", None, DONE, 1),
    Row(Fault.clock_off(seconds=86_400), "refund", None, DONE, 1),
    Row(Fault.pay_token_refused(), "pay", RefusedError, REJECTED),
    Row(Fault.error(code="CO_MSG_000001"), "pay", RefusedError, REJECTED),
    Row(Fault.error(code="GM_API_BUS_0000099"), "refund", RefusedError, REJECTED),
    # In doubt by its code.
    Row(Fault.error(code="CO_MSG_000002"), "pay", None, DONE, 1),
    Row(Fault.error(code="CO_MSG_000002", every=1), "pay", InDoubtError, UNKNOWN),
    Row(Fault.error(code="CO_MSG_000003", executed=True), "pay", InDoubtError, UNKNOWN, 1),
    Row(Fault.error(code="CO_MSG_000003", executed=True), "refund", None, DONE, 1),
    Row(Fault.unknown_code(), "pay", RefusedError, REJECTED),
    Row(Fault.unknown_code(), "refund", InDoubtError, UNKNOWN),
    Row(Fault.unknown_code(executed=True), "refund", None, DONE, 1),
    Row(Fault.duplicate_request_id(), "pay", DuplicateRequestError, UNKNOWN),
    Row(Fault.duplicate_request_id(), "refund", DuplicateRequestError, UNKNOWN),
    Row(Fault.duplicate_request_id(executed=True), "refund", DuplicateRequestError, UNKNOWN, 1),
    # Somebody else's answer: the credential is withheld, and a query tells of the refund.
    Row(Fault.wrong_echo(operation="pay"), "pay", Garbled, UNKNOWN, 1),
    Row(Fault.wrong_echo(operation="refund"), "refund", None, DONE, 1),
    Row(Fault.wrong_echo(operation="query"), "query", Garbled),
    Row(Fault.other_reply(operation="pay"), "pay", Garbled, UNKNOWN, 1),
    Row(Fault.other_reply(operation="refund"), "refund", None, DONE, 1),
    Row(Fault.other_reply(operation="query"), "query", Garbled),
    # Texts that no page lists are no success and no failure.
    Row(Fault.unknown_status(), "pay", None, DONE, 1),
    Row(Fault.unknown_status(operation="refund"), "refund", None, PENDING, 1),
    Row(Fault.unknown_status(operation="query"), "query", None),
    # What a query says is told as it is; what it proves is another matter, see below.
    Row(Fault.query_lags(), "query", RefusedError),
    Row(Fault.query_lies(says="absent"), "query", RefusedError),
    Row(Fault.query_lies(says="paid"), "query", None),
]


def _name(row: Row) -> str:
    often = "each" if row.fault.times is None and row.fault.every == 1 else "once"
    what = row.fault.variant if row.fault.kind is FaultKind.RATE_LIMITED else ""
    code = row.fault.code if row.fault.kind is FaultKind.ERROR else ""
    executed = "" if row.fault.executed else "unexecuted"
    return "-".join(filter(None, (row.operation, row.fault.kind, what, code, executed, often)))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A sandbox by the real time, without a quota."""
    return {"pay_key": settings["pay_key"], "quota": None}


@pytest.fixture
async def pay_token(sandbox: Sandbox) -> str:
    """Two orders of a merchant, one of them paid and one to be paid, and others' replies."""
    async with make_gateway(sandbox) as gateway:
        await gateway.trade(asking.trade("t-1"))
        sandbox.confirm("O-1")
        created = await gateway.trade(asking.trade("t-2", trade_info=[asking.item("O-2")]))
        await gateway.query(out_trade_no="O-1")
    assert created.pay_token is not None
    return created.pay_token


@pytest.fixture
def store() -> MemoryStore:
    """Where the gateway keeps what it knows."""
    return MemoryStore()


@pytest.fixture
async def gateway(sandbox: Sandbox, store: MemoryStore) -> AsyncIterator[PayGateway]:
    """A gateway that does not wait for what is slow."""
    async with make_gateway(sandbox, store=store, timeouts=SHORT) as opened:
        yield opened


@pytest.mark.parametrize("row", ROWS, ids=_name)
async def test_fault_is_what_the_table_says(
    row: Row, sandbox: Sandbox, pay_token: str, gateway: PayGateway, store: MemoryStore
) -> None:
    """The error's class and fate, the state in the store, and how often it was executed."""
    before = len(sandbox.platform.ledger)
    sandbox.faults.inject(row.fault)
    error: WxPayError | None = None
    try:
        match row.operation:
            case "pay":
                await gateway.pay(asking.pay("call", pay_token=pay_token))
            case "refund":
                await gateway.refund(asking.refund("call", refund_amount=Decimal("0.50")))
            case _:
                await gateway.query(out_trade_no="O-2")
    except WxPayError as raised:
        error = raised

    assert row.error is (None if error is None else type(error))
    assert row.executed == len(sandbox.platform.ledger) - before
    record = await store.load((sandbox.app_key, "call"))
    assert row.state is (record.state if record else None)
    if error is not None and row.state is not None:
        assert (error.fate is Fate.IN_DOUBT) is (row.state is UNKNOWN)


def test_each_fault_of_a_call_has_a_row() -> None:
    """A new kind needs one."""
    found = {row.fault.kind for row in ROWS}
    assert found == {kind for kind in FaultKind if find_place(kind) is not Place.CALLBACK}


@pytest.mark.parametrize("lie", [Fault.query_lags(every=1), Fault.query_lies(every=1)])
async def test_query_that_knows_nothing_yet_does_not_free_a_refund(
    lie: Fault, sandbox: Sandbox, pay_token: str, gateway: PayGateway, store: MemoryStore
) -> None:
    """A lost refund that a replica does not show stays in doubt; later the query tells."""
    del pay_token
    sandbox.faults.inject_all([Fault.drop_after_commit(operation="refund", every=1), lie])
    with pytest.raises(InDoubtError):
        await gateway.refund(asking.refund("call", refund_amount=Decimal("0.50")))
    record = await store.load((sandbox.app_key, "call"))
    assert record is not None
    assert record.state is UNKNOWN

    sandbox.faults.clear()
    result = await gateway.refund(asking.refund("call", refund_amount=Decimal("0.50")))
    assert result.replayed
    assert [entry.kind for entry in sandbox.platform.ledger].count("refund") == 1
