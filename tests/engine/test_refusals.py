"""Refusals: final ones, and those that pass with a wrong configuration (`money-safety.md` §4).

The tests act like a merchant: they catch an error, correct something, and call again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.contract.stores import MEMORY, SQLITE, Place, open_place
from tests.support import asking, replies
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import APP_KEY, Script
from wxpay_async import derive_request_id
from wxpay_async.errors import (
    ConfigurationRefusedError,
    DuplicateRequestError,
    InDoubtError,
    MalformedResponseError,
    NotExecutedError,
    PrepayExpiredError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.states import State
from wxpay_async.protocol.results import RefundResult
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

LOST = InDoubtError("read timeout")
PASSING_CODES = (
    *("CO_MSG_000004", "CO_MSG_000005", "CO_MSG_000006", "CO_MSG_000007", "CO_MSG_000008"),
    *("CO_MSG_0000011", "CO_MSG_0000015", "CO_MSG_0000016", "CO_MSG_0000017"),
)
PASSING_STATUSES = (400, 401, 403, 404, 405, 411, 413, 414, 415, 417, 421, 425, 429, 431)
FINAL_CODES = ("CO_MSG_000001", "GM_API_BUS_000005", "GM_API_BUS_000007", "GM_API_BUS_000099")
DUPLICATE = "GM_API_BUS_0000015"


def refuse(code: str) -> HttpResponse:
    """Make a refusal with this code."""
    envelope = {"success": False, "errorCode": code, "errorMsg": "because"}
    return HttpResponse(200, json.dumps(envelope).encode())


PASSING = [
    *(pytest.param(refuse(code), id=code) for code in PASSING_CODES),
    *(
        pytest.param(HttpResponse(status, b"no"), id=f"HTTP {status}")
        for status in PASSING_STATUSES
    ),
]


@pytest.fixture(params=[MEMORY, SQLITE])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Open a fresh place for stores."""
    async with open_place(request.param, tmp_path) as opened:
        yield opened


async def refund(shop: Shop) -> RefundResult | WxPayError:
    """Call once; return what comes of it."""
    try:
        return await shop.gateway.refund(asking.refund())
    except WxPayError as error:
        return error


# Refusals that pass


@pytest.mark.parametrize("answer", PASSING)
async def test_refusal_of_the_configuration_does_not_stick(
    answer: HttpResponse, place: Place, open_shop: OpenShop
) -> None:
    """The same request goes, with the same requestId, once the configuration is right."""
    wrong = open_shop([answer], store=place.make_store())
    error = await refund(wrong)
    assert isinstance(error, RefusedError)
    assert (1, State.RESERVED) == (error.attempts, await wrong.state("refund-1"))

    right = open_shop([replies.refunded()], store=place.make_store())
    result = await refund(right)

    assert isinstance(result, RefundResult)
    assert (1, False) == (result.attempts, result.replayed)
    assert State.SUCCEEDED is await right.state("refund-1")


@pytest.mark.parametrize("answer", PASSING)
async def test_refusal_of_the_configuration_leaves_an_earlier_doubt_as_it_is(
    answer: HttpResponse, place: Place, open_shop: OpenShop
) -> None:
    """The attempt before it may have been executed; the same requestId can still go."""
    wrong = open_shop(Script([LOST, answer]), store=place.make_store())
    assert isinstance(await refund(wrong), InDoubtError)
    assert State.UNKNOWN is await wrong.state("refund-1")

    right = open_shop(Script([replies.refunded()]), store=place.make_store())

    assert isinstance(await refund(right), RefundResult)
    assert State.SUCCEEDED is await right.state("refund-1")


# Refusals for good


@pytest.mark.parametrize("code", FINAL_CODES)
async def test_business_refusal_is_replayed_and_says_since_when_and_how_to_ask_anew(
    code: str, place: Place, open_shop: OpenShop
) -> None:
    """The next generation of the requestId is another operation."""
    shop = open_shop([refuse(code), replies.refunded()], store=place.make_store())
    first = await refund(shop)
    shop.clock.move(600)
    again = await refund(shop)

    assert isinstance(first, RefusedError)
    assert isinstance(again, RefusedError)
    assert "replayed" not in str(first)
    assert (code, True) == (again.code, again.replayed)
    assert (
        "replayed from the store, where it is final since 2025-11-23T04:00:00+00:00; "
        "derive_request_id(..., generation=1) makes the id for another try"
    ) in str(again)
    assert (1, State.REJECTED) == (shop.transport.calls, await shop.state("refund-1"))


async def test_failure_is_replayed_and_says_since_when_and_how_to_ask_anew(
    place: Place, open_shop: OpenShop
) -> None:
    """Status F is as final as a refusal."""
    shop = open_shop([replies.refunded("F")], store=place.make_store())
    first = await refund(shop)
    again = await refund(open_shop(store=place.make_store()))

    assert "final since" not in str(first)
    assert "final since 2025-11-23T04:00:00+00:00; derive_request_id" in str(again)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("pay", "the order is not paid, and no prepay of this id can be paid any more"),
        ("refund", "proven never executed"),
    ],
)
async def test_proof_says_what_was_proven(
    operation: str, expected: str, open_shop: OpenShop
) -> None:
    """A prepay that was made and not paid was executed all the same."""
    unpaid, gone = replies.order("待付款"), replies.no("GM_API_BUS_000099", "订单不存在")
    answers = Script([LOST], query=unpaid if operation == "pay" else gone)
    shop = open_shop(answers, refunds_queryable=True)
    request = getattr(asking, operation)(out_trade_no="O-1")
    with pytest.raises(InDoubtError):
        await getattr(shop.gateway, operation)(request)
    for _ in range(2):
        shop.clock.move(2_000)
        await shop.gateway.resolve(request.request_id)

    with pytest.raises(NotExecutedError, match=expected):
        await getattr(shop.gateway, operation)(request)


# What a merchant believes


async def test_merchant_who_asks_anew_after_a_refusal_refunds_once(open_shop: OpenShop) -> None:
    """Over a restart that lost the store; the platform remembers the requestId."""
    executed = list[str]()

    def platform(request: HttpRequest) -> object:
        (content,) = parse_qs(request.body.decode("ascii"))["bizContent"]
        request_id = json.loads(content)["requestId"]
        if request_id in executed:
            return replies.no(DUPLICATE, "requestId重复")
        executed.append(request_id)
        return replies.refunded(requestId=request_id)

    for _ in range(2):
        shop = open_shop(Script([platform], query=replies.no("CO_MSG_000003")))
        try:
            await shop.gateway.refund(asking.refund(derive_request_id(APP_KEY, "refund", "O-1")))
        except RefusedError:
            anew = derive_request_id(APP_KEY, "refund", "O-1", generation=1)
            await shop.gateway.refund(asking.refund(anew))
        except DuplicateRequestError as error:
            doubt = error

    assert 1 == len(executed)
    assert "in_doubt" == doubt.fate


@pytest.mark.parametrize("status", [408, 409, 499])
async def test_proxy_that_gives_up_after_the_execution_leaves_a_doubt(
    status: int, open_shop: OpenShop
) -> None:
    """The next call finds out that the refund was executed."""
    gone = HttpResponse(status, b"stream timeout")
    shop = open_shop(Script([gone], query=replies.no("CO_MSG_000003")))
    error = await refund(shop)

    assert MalformedResponseError is type(error)
    assert State.UNKNOWN is await shop.state("refund-1")


async def test_person_who_paid_with_an_old_prepay_is_not_told_that_nothing_was_executed(
    open_shop: OpenShop,
) -> None:
    """Whether the prepay was paid before it expired, only a query can tell."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())
    shop.clock.move(3_600)
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())

    assert PrepayExpiredError is type(caught.value)


# Queries: nothing can be executed, so all that is not known is the answer


async def test_query_that_a_proxy_gave_up_is_asked_again(open_shop: OpenShop) -> None:
    """As after any answer that got lost."""
    shop = open_shop([HttpResponse(408, b"stream timeout"), replies.order("支付成功")])
    status = await shop.gateway.query(out_trade_no="O-1")

    assert (2, True) == (status.attempts, status.state.was_paid)


async def test_query_at_a_wrong_address_says_so_and_nothing_of_the_order(
    open_shop: OpenShop,
) -> None:
    """A 404 of a proxy is no word about an order."""
    shop = open_shop([HttpResponse(404, b"<html>")])
    with pytest.raises(ConfigurationRefusedError, match=r"HTTP 404 .* from .*/api/instant/query"):
        await shop.gateway.query(out_trade_no="O-1")


# The status of a refund


@pytest.mark.parametrize("status", ["W", "PROCESSING", "INIT", "FAIL", "f", "s", "退款处理中", "P"])
async def test_refund_of_any_other_status_is_under_way(
    status: str, place: Place, open_shop: OpenShop
) -> None:
    """It is never final: a query is due, and says how it ended."""
    shop = open_shop([replies.refunded(status)], store=place.make_store())
    result = await refund(shop)
    record = await shop.get_record("refund-1")

    assert isinstance(result, RefundResult)
    assert (status, State.PENDING) == (result.status, record.state)
    assert record.next_check_at is not None
