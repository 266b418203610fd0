"""Texts and numbers of requests: what identifies an order, a person or a credential shows."""

import attrs
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.protocol.samples import Make, item, pay, pay_method, refund, royalty, trade
from tests.support.examples import count_examples
from wxpay_async.errors import Fate, InvalidRequestError
from wxpay_async.protocol import validators
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Royalty,
    TradeItem,
    TradeQuery,
)

ALPHABET = "1 to 32 characters of A-Z a-z 0-9 _ -"
NUMBER = "printable characters without white space"
TEXTS: list[tuple[Make, str, str]] = [
    (royalty, "payee_member_id", "payeeMemberId"),
    (royalty, "payee_identity_type", "payeeIdentityType"),
    (item, "out_trade_no", "outTradeNo"),
    (item, "subject", "subject"),
    (item, "payee_identity", "payeeIdentity"),
    (pay_method, "app_id", "appId"),
    (pay_method, "open_id", "openId"),
    (pay_method, "buyer_id", "buyerId"),
    (pay, "request_id", "requestId"),
    (pay, "pay_token", "payToken"),
    (pay, "terminal_payer_id", "terminalPayerId"),
    (pay, "app_id", "appId"),
    (pay, "out_trade_no", "outTradeNo"),
    (trade, "request_id", "requestId"),
    (trade, "payer_ip", "payerIp"),
    (trade, "timeout_express", "timeoutExpress"),
    (refund, "request_id", "requestId"),
    (refund, "out_trade_no", "outTradeNo"),
    (refund, "orig_out_trade_no", "origOutTradeNo"),
    (refund, "currency", "currency"),
    (TradeQuery, "out_trade_no", "outTradeNo"),
    (TradeQuery, "trade_no", "tradeNo"),
]


NUMBERS = [
    one
    for one in TEXTS
    if one[2] not in {"payeeIdentityType", "subject", "currency", "payerIp", "timeoutExpress"}
]
"""What identifies something: an order, a person, a credential."""
BLANKS = " \t\n\r\x1c\x85\xa0\u1680\u2003\u2028\u3000"
INVISIBLE = (
    *("\x00", "\x7f", "\xad", "\u200b", "\u200d", "\u200e", "\u202e", "\u2060", "\ufeff", "\ud800"),
    *("\u034f", "\u115f", "\u17b4", "\u180b", "\u180e", "\u2800", "\u3164", "\ufe0f", "\uffa0"),
    *("\U000e0001", "\U000e0100", "\ue000"),
)


@pytest.mark.parametrize(("make", "name", "wire"), TEXTS)
@pytest.mark.parametrize(
    "value", ["", " ", "   ", "\u3000", "a\x00", "a\nb", "a\x7f", "a\ud800", "\udfff"]
)
def test_texts_are_not_blank_and_hold_no_control_characters(
    make: Make, name: str, wire: str, value: str
) -> None:
    """This holds for every text of every request; the error does not repeat the value."""
    with pytest.raises(InvalidRequestError) as caught:
        make(**{name: value})

    assert wire == caught.value.field
    assert caught.value.allowed
    assert Fate.NOT_SENT == caught.value.fate
    if value.strip():
        assert value not in str(caught.value)


@pytest.mark.parametrize(("make", "name", "wire"), NUMBERS)
@settings(max_examples=count_examples(quick=60, full=1000), deadline=None)
@given(
    st.text("aB7-._%订", max_size=4),
    st.sampled_from([*BLANKS, *INVISIBLE]),
    st.text("aB7-._%订", max_size=4),
)
@example("O-1", " ", "")
@example("", "\ufeff", "O-1")
@example("O", "\u200b", "-1")
def test_number_that_is_padded_is_refused(
    make: Make, name: str, wire: str, before: str, padding: str, after: str
) -> None:
    """The platform may read it as the number without: a refund would be paid twice."""
    with pytest.raises(InvalidRequestError) as caught:
        make(**{name: before + padding + after})

    assert wire == caught.value.field
    assert caught.value.allowed in {ALPHABET, NUMBER, f"{NUMBER}, & and ="}
    assert Fate.NOT_SENT == caught.value.fate


@pytest.mark.parametrize(("make", "name", "wire"), NUMBERS)
@pytest.mark.parametrize("value", ["O-1", "订单-1", "a.b:c/d+e", "0", "Ünïcode", "e\u0301", "😀"])
def test_number_that_shows_passes(make: Make, name: str, wire: str, value: str) -> None:
    """Any character that shows, except where there are narrower rules."""
    value = "O-1" if wire == "requestId" else value

    assert value == getattr(make(**{name: value}), name)


def test_texts_for_people_keep_their_blanks() -> None:
    """A subject is read by the payer, and identifies nothing."""
    assert " 一杯 tea\u3000\u200b" == item(subject=" 一杯 tea\u3000\u200b").subject


def test_request_that_is_sent_has_only_numbers_that_show() -> None:
    """A field that is new is checked as a number, unless it is known to be none."""
    kinds = (Royalty, TradeItem, PayMethod, InstantTrade, MiniProgramPay, Refund, TradeQuery)
    checked = {
        (kind, validators.wire_name(attribute))
        for kind in kinds
        for attribute in attrs.fields(kind)
        if str(attribute.type) in {"str", "str | None", "<class 'str'>"}
    }
    known = {"targetOrganization", "payProductCode", "bizProductCode", "cashierType"}
    texts = {"payeeIdentityType", "subject", "currency", "payerIp", "timeoutExpress"}

    assert {wire for _, wire in checked} - known - texts == {wire for *_, wire in NUMBERS}


@pytest.mark.parametrize(("make", "name", "wire"), TEXTS)
def test_texts_of_another_type_are_a_type_error(make: Make, name: str, wire: str) -> None:
    """A number is not silently converted to text."""
    with pytest.raises(TypeError, match=f"{wire}: a str, not int"):
        make(**{name: 7})
