"""Which events hooks get, what no event holds, and how the logging hook writes them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import attrs
import pytest

from tests.support import asking, replies
from tests.support.claims import both_ways
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import SECRET, Script
from wxpay_async.adapters.limiters.limiter import Limiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.telemetry import Event, EventKind, logging_hook
from wxpay_async.errors import (
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    NotSentError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State

LOGGER = "wxpay_async"
DOUBT_LINES = [
    "doubt_opened pay requestId=pay-1 order=O-1 attempt=1",
    "doubt_closed pay requestId=pay-1 order=O-1 attempt=1 state=succeeded",
]
CANARIES = {
    "the secret": SECRET,
    "the payToken": "token-canary-7731",
    "the openid": "openid-canary-7731",
    "the prepay": "wx061644162685653f3da37a5a1589465200",
    "the paySign": "tEwMVv5wrcgvrMG4U5kF",
}


# The events of a gateway


def list_events(shop: Shop) -> list[tuple[str, int, str, str | None]]:
    """Return kind, attempt, fate and code of each event."""
    return [(e.kind.value, e.attempt, str(e.fate), e.code) for e in shop.events]


async def test_events_of_a_success_in_two_attempts(open_shop: OpenShop) -> None:
    """The start, both ends of each attempt, then the outcome."""
    shop = open_shop([NotSentError("refused"), replies.prepay()])
    await shop.gateway.pay(asking.pay())

    assert [
        ("call_started", 0, "", None),
        ("attempt_started", 1, "", None),
        ("attempt_ended", 1, "not_sent", None),
        ("attempt_started", 2, "", None),
        ("attempt_ended", 2, "ok", None),
        ("outcome", 2, "ok", None),
    ] == list_events(shop)
    assert {("pay", "pay-1")} == {(event.operation, event.request_id) for event in shop.events}


async def test_events_of_a_refusal_hold_its_code(open_shop: OpenShop) -> None:
    """Attempt and outcome name the platform's code."""
    shop = open_shop([replies.no("CO_MSG_000006", "x")])
    with pytest.raises(RefusedError):
        await shop.gateway.refund(asking.refund())

    assert [
        ("call_started", 0, "", None),
        ("attempt_started", 1, "", None),
        ("attempt_ended", 1, "refused", "CO_MSG_000006"),
        ("outcome", 1, "refused", "CO_MSG_000006"),
    ] == list_events(shop)


async def test_events_of_a_replay_hold_no_attempt(open_shop: OpenShop) -> None:
    """Only a start and an outcome, and the outcome says that it is a replay."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())
    shop.events.clear()
    await shop.gateway.pay(asking.pay())

    assert [(EventKind.CALL_STARTED, "", False), (EventKind.OUTCOME, "ok", True)] == [
        (e.kind, e.fate, e.replayed) for e in shop.events
    ]


@pytest.mark.parametrize("refused", [False, True], ids=["a success", "a refusal"])
async def test_events_of_concurrent_callers_say_who_shared(
    refused: bool,  # noqa: FBT001 - a parameter
    open_shop: OpenShop,
) -> None:
    """All but the first caller shared its outcome, be it a result or an error."""

    async def answer(_: object) -> object:
        await asyncio.sleep(0)
        return replies.no("CO_MSG_000006") if refused else replies.prepay()

    shop = open_shop(answer)
    calls = (shop.gateway.pay(asking.pay()) for _ in range(3))
    await asyncio.gather(*calls, return_exceptions=True)
    outcomes = [event for event in shop.events if event.kind is EventKind.OUTCOME]

    assert [False, True, True] == sorted(event.shared for event in outcomes)
    assert {"refused" if refused else "ok"} == {event.fate for event in outcomes}


@pytest.mark.parametrize("operation", ["pay", "query"])
async def test_events_of_a_cancelled_call_end_with_its_outcome(
    operation: str, open_shop: OpenShop
) -> None:
    """Every call that started has one outcome, also when its caller was cancelled."""
    arrived = asyncio.Event()

    async def never(_: object) -> object:
        arrived.set()
        await asyncio.sleep(3600)

    shop = open_shop(never)
    call = {
        "pay": lambda: shop.gateway.pay(asking.pay()),
        "query": lambda: shop.gateway.query(out_trade_no="O-1"),
    }[operation]
    task = asyncio.create_task(call())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    events = [(kind, fate) for kind, _, fate, _ in list_events(shop)]
    assert [("call_started", ""), ("outcome", "cancelled")] == [events[0], events[-1]]
    assert 1 == [kind for kind, _ in events].count("outcome")


async def test_events_of_a_foreign_error_end_with_its_outcome(open_shop: OpenShop) -> None:
    """An error that is none of the SDK's is raised as it is, and the call has an outcome."""

    def broken(_: object) -> object:
        raise ZeroDivisionError

    shop = open_shop(broken)
    with pytest.raises(ZeroDivisionError):
        await shop.gateway.pay(asking.pay())

    assert ("outcome", 0, "broken", None) == list_events(shop)[-1]


@both_ways
async def test_event_seconds_are_the_clocks(limit: type[Limiter], open_shop: OpenShop) -> None:
    """How long an attempt took, the wait for the store that claims, and the whole call."""

    async def slow(_: object) -> object:
        shop.clock.move(1.5)
        return replies.prepay()

    class SlowStore(MemoryStore):
        async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
            shop.clock.move(0.5 if record.claim_token else 0.0)
            return await super().reserve(record)

        async def claim(self, *key: tuple[str, str], **more: float) -> IdempotencyRecord | None:
            shop.clock.move(0.5)
            return await super().claim(*key, **more)

    shop = open_shop(slow, store=SlowStore(), limiter=limit())
    await shop.gateway.pay(asking.pay())

    assert [0.0, 0.5, 0.0, 1.5, 2.0] == [event.seconds for event in shop.events]
    assert [(EventKind.WAITED, "store")] == [
        (event.kind, event.waited_for) for event in shop.events if event.waited_for
    ]


async def test_events_without_a_wait_for_quota_hold_none(open_shop: OpenShop) -> None:
    """An event for each call that did not wait would hide the one that did."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())

    assert EventKind.WAITED not in {event.kind for event in shop.events}


async def test_events_of_a_query_hold_no_request_id(open_shop: OpenShop) -> None:
    """A call that only reads has events, too."""
    shop = open_shop([replies.order("待付款")])
    await shop.gateway.query(out_trade_no="O-1")

    assert {("query", None)} == {(event.operation, event.request_id) for event in shop.events}


async def test_event_url_holds_no_query(open_shop: OpenShop) -> None:
    """Wherever the parameters travel, the events name the endpoint and nothing else."""
    shop = open_shop([replies.prepay()], base_url="https://platform.example:8443")
    dispatcher = shop.gateway._dispatcher
    dispatcher.builder = attrs.evolve(dispatcher.builder, placement="query")
    await shop.gateway.pay(asking.pay())
    (request,) = shop.transport.requests

    assert "sign=" in request.url
    assert {"https://platform.example:8443/api/instant/pay/wxminiprogram", ""} == {
        event.url for event in shop.events
    }


async def test_secret_is_in_no_event_error_result_or_log(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """Secrets are planted everywhere and found in no repr, str, event, record or log line."""
    caplog.set_level(logging.DEBUG)
    pay = asking.pay(
        "canary",
        pay_token=CANARIES["the payToken"],
        terminal_payer_id=CANARIES["the openid"],
    )
    answers = Script([InDoubtError("timeout"), replies.prepay(), replies.prepay(requestId="other")])
    shop = open_shop(answers)
    shown: list[object] = [pay, shop.gateway._dispatcher.signing]
    shown.append(await shop.gateway.pay(pay))
    shown.extend([await shop.get_record("canary"), *shop.transport.requests])
    with pytest.raises(WxPayError) as caught:
        await shop.gateway.pay(attrs.evolve(pay, request_id="second"))
    shown.extend([caught.value, caught.value.__cause__, shop.transport, shop.gateway])
    shown.extend(attrs.astuple(event) for event in shop.events)
    text = "\n".join([*map(repr, shown), *map(str, shown), caplog.text])

    assert [] == [name for name, canary in CANARIES.items() if canary in text]
    assert [] == [sent["sign"] for sent in shop.sent() if sent["sign"] in text]


class FailingHook:
    """A hook that breaks its promise not to raise, on one kind of event."""

    def __init__(self, kind: EventKind) -> None:
        self.kind = kind

    def __call__(self, event: Event) -> None:
        """Raise."""
        if event.kind is self.kind:
            raise ZeroDivisionError


@pytest.mark.parametrize("kind", [*list(EventKind)[:3], EventKind.OUTCOME])
async def test_hook_that_raises_changes_no_call(kind: EventKind, open_shop: OpenShop) -> None:
    """A defect in metrics must not lose the answer, the claim or the connection."""
    shop = open_shop(
        [replies.prepay(), replies.prepay()], hooks=[FailingHook(kind)], max_in_flight=1
    )
    for request_id in ("a", "b"):
        result = await shop.gateway.pay(asking.pay(request_id), timeout=3.0)
        assert "wx061644162685653f3da37a5a1589465200" == result.prepay_id

    assert State.SUCCEEDED is await shop.state("a")


# Single events


def make_event(kind: EventKind = EventKind.ATTEMPT_ENDED, **changes: Any) -> Event:  # noqa: ANN401
    """Make the end of a successful attempt, with changes."""
    given = {"operation": "pay", "request_id": "pay-1", "out_trade_no": "O-1"}
    given |= {"attempt": 1, "fate": "ok"}
    return Event(kind=kind, **(given | changes))


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("CO_MSG_000006", "CO_MSG_000006"),
        ("CO_MSG_0000011", "CO_MSG_0000011"),
        ("GM_API_BUS_0000015", "GM_API_BUS_0000015"),
        ("", None),
        (None, None),
        ("openid-0123456789", "other"),
        ("CO_MSG_1 ", "other"),
        ("CO_MSG_000000000000000000006", "other"),
    ],
)
def test_known_code_has_the_shape_of_the_platforms(code: str | None, known: str | None) -> None:
    """Anything else could be any text, and as many of them as the other side likes."""
    assert known == make_event(code=code).known_code


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://openapi.gongmall.com/api/x", "openapi.gongmall.com", 443),
        ("http://127.0.0.1/api/x", "127.0.0.1", 80),
        ("https://[::1]:8443/api/x", "::1", 8443),
        ("", "", 0),
    ],
)
def test_event_host_and_port_are_those_of_its_url(url: str, host: str, port: int) -> None:
    """A port that the address leaves out is its scheme's; where nothing was sent, there is none."""
    event = make_event(url=url)

    assert (host, port) == (event.host, event.port)


# The logging hook

LEVELS = [
    (make_event(), logging.INFO),
    (make_event(fate=Fate.REFUSED), logging.INFO),
    (make_event(fate=Fate.REFUSED, needs_person=True), logging.WARNING),
    (make_event(fate=Fate.NOT_SENT), logging.WARNING),
    (make_event(fate=Fate.IN_DOUBT), logging.WARNING),
    (make_event(EventKind.DOUBT_OPENED), logging.WARNING),
    (make_event(EventKind.DOUBT_CLOSED), logging.INFO),
    (make_event(EventKind.SETTLED), logging.INFO),
    (make_event(EventKind.REVIEW_NEEDED), logging.WARNING),
    (make_event(EventKind.SLOWED_DOWN, operation=""), logging.WARNING),
    (make_event(EventKind.PAUSED, attempt=0, fate=""), logging.WARNING),
    (make_event(EventKind.RESUMED, attempt=0, fate=""), logging.INFO),
    (make_event(EventKind.CALL_STARTED, attempt=0, fate=""), logging.DEBUG),
    (make_event(EventKind.ATTEMPT_STARTED, fate=""), logging.DEBUG),
    (make_event(EventKind.WAITED, fate=""), logging.DEBUG),
    (make_event(EventKind.OUTCOME), logging.DEBUG),
    (make_event(EventKind.OUTCOME, fate=Fate.REFUSED), logging.DEBUG),
    (make_event(EventKind.OUTCOME, fate=Fate.REFUSED, needs_person=True), logging.DEBUG),
    (
        make_event(EventKind.OUTCOME, fate=Fate.NOT_SENT, needs_person=True, attempt=0),
        logging.WARNING,
    ),
    (make_event(EventKind.CALLBACK_STARTED, attempt=0, fate=""), logging.DEBUG),
    (make_event(EventKind.CALLBACK_ENDED, attempt=0, fate="", verdict="failed"), logging.DEBUG),
]


@pytest.mark.parametrize(("event", "level"), LEVELS)
def test_log_level_follows_the_fate(
    event: Event, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What is ordinary is INFO, what needs a person or got no answer WARNING.

    What only repeats another line is DEBUG.
    """
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    logging_hook()(event)

    assert [(LOGGER, level)] == [(record.name, record.levelno) for record in caplog.records]


def test_log_levels_are_tested_for_every_kind() -> None:
    """A new kind of event must be added to the table above."""
    assert set(EventKind) == {event.kind for event, _ in LEVELS}


def test_log_line_of_an_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """What happened, to which call, how it ended and how long it took."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    logging_hook()(make_event(attempt=2, fate=Fate.REFUSED, code="E_1", status=200, seconds=0.1234))

    assert [
        "attempt_ended pay requestId=pay-1 order=O-1 attempt=2 fate=refused code=other 123.4 ms"
    ] == caplog.messages


def test_log_record_holds_the_fields_as_extra(caplog: pytest.LogCaptureFixture) -> None:
    """A structured handler needs no parsing."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    logging_hook()(
        make_event(
            attempt=2, fate=Fate.REFUSED, code="CO_MSG_000006", status=200, seconds=0.1234567
        )
    )
    fields = vars(caplog.records[0])

    assert {
        "wxpay_event": "attempt_ended",
        "wxpay_operation": "pay",
        "wxpay_request_id": "pay-1",
        "wxpay_out_trade_no": "O-1",
        "wxpay_attempt": 2,
        "wxpay_fate": "refused",
        "wxpay_code": "CO_MSG_000006",
        "wxpay_status": 200,
        "wxpay_state": "",
        "wxpay_waited_for": "",
        "wxpay_verdict": "",
        "wxpay_seconds": 0.123457,
    } == {name: value for name, value in fields.items() if name.startswith("wxpay_")}


def test_log_line_with_a_hostile_code_holds_no_line_break(caplog: pytest.LogCaptureFixture) -> None:
    """An errorCode is what the other side wrote; only the shape of a code is repeated."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    logging_hook()(make_event(fate=Fate.REFUSED, code="X\nCRITICAL all is lost"))

    assert "code=other" in caplog.text
    assert "CRITICAL" not in caplog.text
    assert "CRITICAL" not in repr(vars(caplog.records[0]))


def test_logging_hook_with_a_logger_uses_only_that(caplog: pytest.LogCaptureFixture) -> None:
    """The lines go to the given logger, and no logger is configured."""
    mine = logging.getLogger("shop.payments")
    before = (list(mine.handlers), mine.level, list(logging.getLogger(LOGGER).handlers))
    caplog.set_level(logging.INFO, logger="shop")
    logging_hook(mine)(make_event())

    assert ["shop.payments"] == [record.name for record in caplog.records]
    assert before == (list(mine.handlers), mine.level, list(logging.getLogger(LOGGER).handlers))


def test_logging_hook_below_the_level_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A level that is switched off costs one look."""
    caplog.set_level(logging.ERROR, logger=LOGGER)
    logging_hook()(make_event(fate=Fate.REFUSED))

    assert [] == caplog.records


async def test_log_has_one_line_for_each_attempt(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO a call that took three attempts takes three lines."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    shop = open_shop(
        [NotSentError("refused"), NotSentError("refused"), replies.prepay()],
        hooks=[logging_hook()],
    )
    await shop.gateway.pay(asking.pay())

    assert [
        (logging.WARNING, 1, "not_sent"),
        (logging.WARNING, 2, "not_sent"),
        (logging.INFO, 3, "ok"),
    ] == [
        (r.levelno, getattr(r, "wxpay_attempt", 0), getattr(r, "wxpay_fate", ""))
        for r in caplog.records
    ]


@pytest.mark.parametrize(
    ("code", "level"),
    [
        ("GM_API_BUS_000099", logging.INFO),
        ("CO_MSG_000001", logging.INFO),
        ("CO_MSG_000006", logging.WARNING),
        ("CO_MSG_000004", logging.WARNING),
        ("CO_MSG_0000015", logging.WARNING),
    ],
    ids=["business", "parameters", "signature", "appKey", "configuration"],
)
async def test_log_of_a_refusal_warns_of_what_needs_a_person(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture, code: str, level: int
) -> None:
    """One line with the platform's code and the HTTP status, and not its message."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    shop = open_shop([replies.no(code, "said by the platform")], hooks=[logging_hook()])
    with pytest.raises(RefusedError):
        await shop.gateway.refund(asking.refund())
    [record] = caplog.records

    assert (level, code, 200) == (
        record.levelno,
        getattr(record, "wxpay_code", None),
        getattr(record, "wxpay_status", None),
    )
    assert "said by the platform" not in repr(vars(record))


async def test_log_of_a_doubt_has_its_start_and_its_end(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """The people on duty see it open, and see it settled."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    answers = Script([InDoubtError("timeout")], query=replies.order("已付款"))
    shop = open_shop(answers, hooks=[logging_hook()], retry=RetryPolicy(attempts=1))
    answers.query = InDoubtError("timeout")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    answers.query = replies.order("已付款")
    await shop.gateway.resolve("pay-1")

    assert DOUBT_LINES == [line for line in caplog.messages if line.startswith("doubt_")]


async def test_log_warns_of_a_request_id_that_is_used_twice(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """No attempt is made of it, so no other line tells of it."""
    caplog.set_level(logging.INFO, logger=LOGGER)
    shop = open_shop([replies.refunded()], hooks=[logging_hook()])
    await shop.gateway.refund(asking.refund())
    caplog.clear()
    with pytest.raises(IdempotencyConflictError):
        await shop.gateway.refund(asking.refund(refund_amount="0.50"))

    assert [(logging.WARNING, True)] == [
        (record.levelno, "requestId=refund-1 order=R-1" in record.getMessage())
        for record in caplog.records
    ]


@both_ways
async def test_log_line_of_every_kind_names_request_order_and_attempt(
    limit: type[Limiter], open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """From the first wait to the end of the doubt; before the first attempt its number is 0."""
    caplog.set_level(logging.DEBUG, logger=LOGGER)
    answers = Script([InDoubtError("timeout")], query=InDoubtError("timeout"))
    shop = open_shop(
        answers, hooks=[logging_hook()], retry=RetryPolicy(attempts=1), limiter=limit()
    )
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    answers.query = replies.order("已付款")
    await shop.gateway.resolve("pay-1")

    told = {
        (getattr(r, "wxpay_request_id", ""), getattr(r, "wxpay_out_trade_no", ""))
        for r in caplog.records
        if getattr(r, "wxpay_operation", "") == "pay"
    }
    assert {("pay-1", "O-1")} == told
    assert {"O-1"} == {getattr(r, "wxpay_out_trade_no", "") for r in caplog.records}
    assert {0, 1} == {getattr(r, "wxpay_attempt", None) for r in caplog.records}
    assert "O-1" == caught.value.out_trade_no


async def test_error_of_a_query_names_its_order(open_shop: OpenShop) -> None:
    """A call that only reads has no requestId; its order is what a log can be searched for."""
    shop = open_shop([replies.no("GM_API_BUS_000099", "x")])
    with pytest.raises(RefusedError) as caught:
        await shop.gateway.query(out_trade_no="O-1")

    assert "O-1" == caught.value.out_trade_no
    assert {"O-1"} == {event.out_trade_no for event in shop.events}
