"""Which answers belong to a request, and which order is the one that was asked for."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any, TypeVar

import attrs
import pytest

from tests.support import asking, replies
from tests.support.replies import Json
from wxpay_async.errors import Fate, MalformedResponseError
from wxpay_async.protocol.codec import decode, serialize
from wxpay_async.protocol.echo import check_echo, check_order, digest_order, is_same_order
from wxpay_async.protocol.requests import InstantTrade, Royalty, TradeItem, TradeQuery
from wxpay_async.protocol.results import (
    PayResult,
    RefundResult,
    RoyaltyShare,
    TradeResult,
    TradeStatus,
)
from wxpay_async.protocol.wire import PRODUCTION, HttpResponse

T = TypeVar("T")

RESULTS = {"pay": PayResult, "trade": TradeResult, "refund": RefundResult}
REPLIES = {"pay": "prepay", "trade": "created", "refund": "refunded"}
APP_ID = "wx9236b1e84ffbf10a"
"""The mini program of the page's sample."""


def read(reply: Json, into: type[T]) -> T:
    """Read a reply."""
    response = HttpResponse(200, json.dumps(reply).encode())
    return decode(response, into, url=PRODUCTION, moves_money=False)


def expect_withheld(field: str | None) -> contextlib.AbstractContextManager[Any]:
    """Expect that an answer is withheld because of this field; None for an answer that is not."""
    if field is None:
        return contextlib.nullcontext()
    return pytest.raises(MalformedResponseError, match=f"{field} is not the request's")


# The echo of an operation


@pytest.mark.parametrize(
    ("operation", "changes", "field"),
    [
        ("pay", {}, None),
        ("pay", {"requestId": "pay-1"}, None),
        ("pay", {"requestId": "another"}, "requestId"),
        ("pay", {"appId": "wx-another"}, "appId"),
        ("trade", {}, None),
        ("trade", {"requestId": "another"}, "requestId"),
        ("refund", {}, None),
        ("refund", {"requestId": None}, None),
        ("refund", {"requestId": "another"}, "requestId"),
        ("refund", {"outTradeNo": "another"}, "outTradeNo"),
    ],
)
def test_echo_that_differs_is_withheld(
    operation: str, changes: dict[str, str], field: str | None
) -> None:
    """What the answer repeats must be the request's; what it leaves out is not missed."""
    more = {"app_id": APP_ID} if operation == "pay" else {}
    request = getattr(asking, operation)(**more)
    result = read(getattr(replies, REPLIES[operation])(**changes), RESULTS[operation])
    with expect_withheld(field):
        check_echo(request, result)


def test_echo_that_differs_is_in_doubt_and_not_retryable() -> None:
    """The answer proves nothing about the request, and sending again would not help."""
    with pytest.raises(MalformedResponseError) as caught:
        check_echo(asking.refund(), read(replies.refunded(outTradeNo="x"), RefundResult))

    assert (Fate.IN_DOUBT, False) == (caught.value.fate, caught.value.retryable)


@pytest.mark.parametrize("number", ["O-1", None])
@pytest.mark.parametrize(
    ("rows", "withheld"),
    [(["O-2"], True), (["O-2", "O-3"], True), (["O-2", "O-1"], False), ([], False)],
)
def test_prepay_of_another_order_is_withheld(
    rows: list[str], number: str | None, *, withheld: bool
) -> None:
    """A payer would pay another order with it; without an order number nothing is compared."""
    listed = [{"outTradeNo": row, "tradeNo": "T", "status": "P"} for row in rows]
    result = read(replies.prepay(tradeResList=listed), PayResult)
    with expect_withheld("outTradeNo" if withheld and number else None):
        check_echo(asking.pay(out_trade_no=number), result)


@pytest.mark.parametrize("rows", [["O-2"], ["O-1", "O-2"]])
def test_trade_that_lists_another_order_is_withheld(rows: list[str]) -> None:
    """Each row of tradeResList must be one of the orders that were asked for."""
    listed = [{"outTradeNo": row, "tradeNo": "T", "status": "P"} for row in rows]
    with expect_withheld("outTradeNo"):
        check_echo(asking.trade(), read(replies.created(tradeResList=listed), TradeResult))


@pytest.mark.parametrize("amount", ["9999.00", "1.01"])
def test_trade_of_another_amount_is_withheld(amount: str) -> None:
    """What the payer would pay is what was asked for."""
    with expect_withheld("instAmount"):
        check_echo(asking.trade(), read(replies.created(instAmount=amount), TradeResult))


@pytest.mark.parametrize("amount", ["1.00", "1.50"])
def test_trade_may_repeat_either_of_its_amounts(amount: str) -> None:
    """The sum of the items and `payMethod.amount` may differ; no page says which is repeated."""
    method = attrs.evolve(asking.trade().pay_method, amount=Decimal("1.50"))

    check_echo(
        asking.trade(pay_method=method), read(replies.created(instAmount=amount), TradeResult)
    )


@pytest.mark.parametrize(
    ("left_out", "field"),
    [
        ({"requestId"}, None),
        ({"tradeResList"}, None),
        ({"requestId", "tradeResList"}, "requestId"),
    ],
)
def test_trade_that_echoes_nothing_is_withheld(left_out: set[str], field: str | None) -> None:
    """The requestId or the orders must say to which request the payToken belongs."""
    result = read(replies.created(**dict.fromkeys(left_out)), TradeResult)
    with expect_withheld(field):
        check_echo(asking.trade(), result)


# The echo of a query


@pytest.mark.parametrize(
    ("asked", "echoed", "field"),
    [
        ({"out_trade_no": "O-1"}, {}, None),
        ({"out_trade_no": "O-1"}, {"outTradeNo": "O-2"}, "outTradeNo"),
        ({"out_trade_no": "O-1"}, {"outTradeNo": ""}, "outTradeNo"),
        ({"trade_no": "T-1"}, {}, None),
        ({"trade_no": "T-1"}, {"tradeNo": "T-1"}, None),
        ({"trade_no": "T-1"}, {"tradeNo": "T-2"}, "tradeNo"),
    ],
)
def test_query_answered_about_another_order_is_withheld(
    asked: dict[str, str], echoed: dict[str, str], field: str | None
) -> None:
    """The number that was asked for must be the answer's; the other one is not compared."""
    reply = replies.order("已付款")
    reply["data"].update(echoed)
    with expect_withheld(field):
        check_order(TradeQuery(**asked), read(reply, TradeStatus))


# Numbers that differ only in what cannot be seen

PADDED = ["{} ", " {}", "{}\u3000", "{}\u200b", "\ufeff{}", "{}\ufe0f", "{}\t"]


@pytest.mark.parametrize("padded", PADDED)
@pytest.mark.parametrize(
    ("operation", "name"),
    [
        *(("pay", "requestId"), ("pay", "appId"), ("pay", "row"), ("trade", "requestId")),
        *(("trade", "row"), ("refund", "requestId"), ("refund", "outTradeNo")),
    ],
)
def test_echo_of_a_padded_number_is_withheld_and_says_why(
    operation: str, name: str, padded: str
) -> None:
    """It is not ours, which has no padding, and the eye would not find the difference."""
    more = {"app_id": APP_ID, "out_trade_no": "O-1"} if operation == "pay" else {}
    request = getattr(asking, operation)(**more)
    ours = {"requestId": request.request_id, "appId": APP_ID, "outTradeNo": "R-1"}
    changes: Json = {name: padded.format(ours.get(name))}
    if name == "row":
        row = {"outTradeNo": padded.format("O-1"), "tradeNo": "T", "status": "P"}
        changes = {"tradeResList": [row]}
    result = read(getattr(replies, REPLIES[operation])(**changes), RESULTS[operation])
    with pytest.raises(MalformedResponseError, match="only in characters that do not show"):
        check_echo(request, result)


@pytest.mark.parametrize("padded", PADDED)
@pytest.mark.parametrize("name", ["outTradeNo", "tradeNo"])
def test_query_answered_about_a_padded_number_is_withheld_and_says_why(
    name: str, padded: str
) -> None:
    """The platform may have read two numbers as one, and tells of the other order."""
    reply = replies.order("已付款")
    reply["data"][name] = padded.format("N-1")
    asked = {"outTradeNo": "out_trade_no", "tradeNo": "trade_no"}[name]
    with pytest.raises(MalformedResponseError, match=f"{name} differs .* do not show"):
        check_order(TradeQuery(**{asked: "N-1"}), read(reply, TradeStatus))


# Whether an order is the one that was asked for

SHARES = [Royalty(payee_member_id="1", amount="0.20"), Royalty(payee_member_id="2", amount="0.30")]


def make_item(trade: InstantTrade, **changes: object) -> Json:
    """Return the only item of a trade as it is sent."""
    item: TradeItem = attrs.evolve(trade.trade_info[0], **changes)
    sent: Json = json.loads(serialize(attrs.evolve(trade, trade_info=[item])))
    return sent["tradeInfo"][0]


@pytest.mark.parametrize(
    ("echo", "same"),
    [
        ({}, True),
        ({"subject": "", "price": None, "quantity": None}, True),
        ({"quantity": "1.00", "royaltyInfo": []}, True),
        ({"subject": "商品的标题\u3000\n"}, True),
        ({"payeeIdentity": "100" + " " * 29}, True),
        ({"subject": "   "}, True),
        ({"subject": "商品的 标题"}, False),
        ({"subject": "another"}, False),
        ({"price": "2.00"}, False),
        ({"quantity": "2"}, False),
        ({"quantity": "1.5"}, False),
        ({"totalAmount": "2.00"}, False),
        ({"payeeIdentity": "999"}, False),
        ({"royaltyInfo": [{"payeeMemberId": "1", "amount": "0.50"}]}, False),
    ],
)
def test_order_is_compared_in_all_that_is_echoed(echo: dict[str, object], *, same: bool) -> None:
    """What a query leaves out is not compared, nor white space at the ends; 1.00 pieces are 1."""
    reply = replies.order("待付款")
    reply["data"] |= {**replies.ECHO, **echo}

    assert same is is_same_order(make_item(asking.trade()), read(reply, TradeStatus))


@pytest.mark.parametrize(
    ("echoed", "same"),
    [
        ([("2", "0.30"), ("1", "0.20")], True),
        ([("1 ", "0.20"), (" 2", "0.30")], True),
        ([("1", None), (None, "0.30")], True),
        ([("1", "0.20")], False),
        ([("1", None)], False),
        ([("1", "0.20"), ("2", "0.31")], False),
        ([("1", "0.20"), ("3", "0.30")], False),
    ],
)
def test_royalties_are_compared_where_they_are_echoed(
    echoed: list[tuple[str | None, str | None]], *, same: bool
) -> None:
    """In any order; where a share is told in part, only their number counts."""
    reply = replies.order("待付款")
    rows = [{"payeeMemberId": member, "amount": amount} for member, amount in echoed]
    reply["data"] |= {**replies.ECHO, "royaltyInfo": rows}
    item = make_item(asking.trade(), royalty_info=SHARES)

    assert same is is_same_order(item, read(reply, TradeStatus))


def test_padding_of_a_subject_that_was_sent_is_no_difference() -> None:
    """A text for people goes out as it is, and the platform may trim it."""
    reply = replies.order("待付款")
    reply["data"] |= {**replies.ECHO, "subject": "商品的标题"}

    item = make_item(asking.trade(), subject=" 商品的标题 ")
    assert is_same_order(item, read(reply, TradeStatus))


SEEN: dict[str, Any] = {
    "out_trade_no": "O-1",
    "status": "待付款",
    "subject": "茶",
    "price": Decimal("1.00"),
    "quantity": "1",
    "total_amount": Decimal("1.00"),
    "payee_identity": "100",
    "royalty_info": (
        RoyaltyShare(payee_member_id="a", amount=Decimal("0.10")),
        RoyaltyShare(payee_name="a person"),
    ),
}


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"status": "已付款", "payee_name": "someone"}, True),
        ({"subject": " 茶\u3000"}, True),
        ({"price": Decimal("1.0"), "quantity": "1.00"}, True),
        ({"royalty_info": SEEN["royalty_info"][::-1]}, True),
        ({"total_amount": Decimal("1.01")}, False),
        ({"price": None, "quantity": None}, False),
        ({"subject": "茶叶"}, False),
        ({"royalty_info": ()}, False),
        ({"out_trade_no": "O-2"}, False),
    ],
)
def test_digest_of_an_order_is_that_of_its_content(changes: dict[str, Any], *, same: bool) -> None:
    """What a query is compared by, and nothing that may change while the content stays."""
    first, second = TradeStatus(**SEEN), TradeStatus(**(SEEN | changes))

    assert same is (digest_order(first) == digest_order(second))
