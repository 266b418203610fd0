"""The logging hook: one line an attempt, at the right level, with fields for machines."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import pytest

from wxpay_async.engine.telemetry import Event, EventKind, logging_hook
from wxpay_async.errors import Fate, InDoubtError, NotSentError, RefusedError
from wxpay_async.policy.retry import RetryPolicy

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

NAME = "wxpay_async"
DOUBT_LINES = ["doubt_opened pay requestId=pay-1 attempt=1", "doubt_closed pay requestId=pay-1"]


def _event(kind: EventKind = EventKind.ATTEMPT_ENDED, **changes: Any) -> Event:  # noqa: ANN401
    given = {"operation": "pay", "request_id": "pay-1", "attempt": 1, "fate": "ok"}
    return Event(kind=kind, **(given | changes))


LEVELS = [
    (_event(), logging.INFO),
    (_event(fate=Fate.REFUSED), logging.WARNING),
    (_event(fate=Fate.NOT_SENT), logging.WARNING),
    (_event(fate=Fate.IN_DOUBT), logging.WARNING),
    (_event(EventKind.DOUBT_OPENED), logging.WARNING),
    (_event(EventKind.DOUBT_CLOSED), logging.INFO),
    (_event(EventKind.SLOWED_DOWN, operation=""), logging.WARNING),
    (_event(EventKind.CALL_STARTED, attempt=0, fate=""), logging.DEBUG),
    (_event(EventKind.ATTEMPT_STARTED, fate=""), logging.DEBUG),
    (_event(EventKind.WAITED_FOR_QUOTA, fate=""), logging.DEBUG),
    (_event(EventKind.OUTCOME), logging.DEBUG),
    (_event(EventKind.OUTCOME, fate=Fate.REFUSED), logging.DEBUG),
]


@pytest.mark.parametrize(("event", "level"), LEVELS)
def test_the_level_says_whether_to_look(
    event: Event, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What went well is INFO, what did not WARNING, and what only repeats it DEBUG."""
    caplog.set_level(logging.DEBUG, logger=NAME)
    logging_hook()(event)

    assert [(NAME, level)] == [(record.name, record.levelno) for record in caplog.records]


def test_every_kind_has_a_level() -> None:
    """A new kind of event must not slip through this table."""
    assert set(EventKind) == {event.kind for event, _ in LEVELS}


def test_the_line_reads_well(caplog: pytest.LogCaptureFixture) -> None:
    """What happened, to what, how it ended and how long it took."""
    logging_hook()(
        _event(attempt=2, fate=Fate.REFUSED, code="CO_MSG_000006", status=200, seconds=0.1234)
    )

    assert [
        "attempt_ended pay requestId=pay-1 attempt=2 fate=refused code=CO_MSG_000006 123.4 ms"
    ] == caplog.messages


def test_the_fields_stand_in_extra(caplog: pytest.LogCaptureFixture) -> None:
    """A structured handler needs no parsing."""
    logging_hook()(
        _event(attempt=2, fate=Fate.REFUSED, code="CO_MSG_000006", status=200, seconds=0.1234567)
    )
    fields = vars(caplog.records[0])

    assert {
        "wxpay_event": "attempt_ended",
        "wxpay_operation": "pay",
        "wxpay_request_id": "pay-1",
        "wxpay_attempt": 2,
        "wxpay_fate": "refused",
        "wxpay_code": "CO_MSG_000006",
        "wxpay_status": 200,
        "wxpay_seconds": 0.123457,
    } == {name: value for name, value in fields.items() if name.startswith("wxpay_")}


def test_a_code_cannot_write_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """An errorCode is what the other side wrote; only the shape of a code is repeated."""
    logging_hook()(_event(fate=Fate.REFUSED, code="X\nCRITICAL all is lost"))

    assert "code=other" in caplog.text
    assert "CRITICAL" not in caplog.text
    assert "CRITICAL" not in repr(vars(caplog.records[0]))


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
def test_a_known_code_has_the_platform_s_shape(code: str | None, known: str | None) -> None:
    """Anything else could be anything, as often as the other side likes."""
    assert known == _event(code=code).known_code


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://openapi.gongmall.com/api/x", "openapi.gongmall.com", 443),
        ("http://127.0.0.1/api/x", "127.0.0.1", 80),
        ("https://[::1]:8443/api/x", "::1", 8443),
        ("", "", 0),
    ],
)
def test_host_and_port_are_those_of_the_address(url: str, host: str, port: int) -> None:
    """A port that the address leaves out is its scheme's; where nothing was sent, there is none."""
    event = _event(url=url)

    assert (host, port) == (event.host, event.port)


async def test_an_attempt_s_address_has_no_query(
    asking: Fixture, open_shop: Fixture, replies: Fixture
) -> None:
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


def test_a_logger_of_one_s_own(caplog: pytest.LogCaptureFixture) -> None:
    """The lines go where they are asked to go, and nothing is configured by the way."""
    mine = logging.getLogger("shop.payments")
    before = (list(mine.handlers), mine.level, list(logging.getLogger(NAME).handlers))
    caplog.set_level(logging.INFO, logger="shop")
    logging_hook(mine)(_event())

    assert ["shop.payments"] == [record.name for record in caplog.records]
    assert before == (list(mine.handlers), mine.level, list(logging.getLogger(NAME).handlers))


def test_nothing_is_formatted_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A level that is switched off costs one look."""
    caplog.set_level(logging.ERROR, logger=NAME)
    logging_hook()(_event(fate=Fate.REFUSED))

    assert [] == caplog.records


async def test_one_line_an_attempt(
    asking: Fixture, open_shop: Fixture, replies: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    """At INFO a call that took three attempts takes three lines."""
    caplog.set_level(logging.INFO, logger=NAME)
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


async def test_a_refusal_is_one_warning(
    asking: Fixture, open_shop: Fixture, replies: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    """The platform's code and the HTTP status are in it, its message is not."""
    caplog.set_level(logging.INFO, logger=NAME)
    shop = open_shop([replies.no("CO_MSG_000006", "said by the platform")], hooks=[logging_hook()])
    with pytest.raises(RefusedError):
        await shop.gateway.refund(asking.refund())
    [record] = caplog.records

    assert (logging.WARNING, "CO_MSG_000006", 200) == (
        record.levelno,
        getattr(record, "wxpay_code", None),
        getattr(record, "wxpay_status", None),
    )
    assert "said by the platform" not in repr(vars(record))


async def test_a_doubt_is_heard_of_when_it_comes_and_when_it_goes(
    asking: Fixture,
    open_shop: Fixture,
    replies: Fixture,
    script: Fixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever is on duty sees it open, and sees it settled."""
    caplog.set_level(logging.INFO, logger=NAME)
    answers = script(InDoubtError("timeout"), query=replies.order("已付款"))
    shop = open_shop(answers, hooks=[logging_hook()], retry=RetryPolicy(attempts=1))
    answers.query = InDoubtError("timeout")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    answers.query = replies.order("已付款")
    await shop.gateway.resolve("pay-1")

    assert DOUBT_LINES == [line for line in caplog.messages if line.startswith("doubt_")]
