"""What is redacted, and what a placeholder stands for."""

from __future__ import annotations

from decimal import Decimal

import pytest

from wxpay_async.adapters.transports.redaction import PLACEHOLDER, Json, Redactor

OPENID = "oCanary-77_openid+31/xyz="


def redact(value: Json, *keep: str) -> Json:
    """Redact one value."""
    (copy,) = Redactor(frozenset(keep)).redact(value)
    return copy


def test_field_that_is_not_known_is_redacted() -> None:
    """Be it a text, a number, or a list of them; what tells nothing stays."""
    given: Json = {
        "idCard": "110101",
        "phone": 13800138000,
        "tags": ["a", ""],
        "on": True,
        "no": None,
    }

    expected = {
        "idCard": "redacted-idCard-1",
        "phone": "redacted-phone-1",
        "tags": ["redacted-tags-1", ""],
        "on": True,
        "no": None,
    }
    assert expected == redact(given)


def test_business_fields_are_written_as_they_are() -> None:
    """Numbers keep their places."""
    given: Json = {"tradeInfo": [{"outTradeNo": "O-1", "price": Decimal("1.10"), "quantity": 2}]}

    assert given == redact(given)


def test_field_of_one_s_own_can_be_kept() -> None:
    """The caller knows that it tells nothing."""
    assert {"storeId": "7", "clerk": "redacted-clerk-1"} == redact(
        {"storeId": "7", "clerk": "Li"}, "storeId"
    )


def test_same_value_has_the_same_placeholder() -> None:
    """Under another name and in a later exchange too; another value has another one."""
    redactor = Redactor()

    first = redactor.redact({"openId": OPENID, "buyerId": "2088000001"})
    later = redactor.redact({"terminalPayerId": OPENID}, {"openId": "oAnother-openid"})

    assert [{"openId": "redacted-openId-1", "buyerId": "redacted-buyerId-1"}] == first
    assert [{"terminalPayerId": "redacted-openId-1"}, {"openId": "redacted-openId-2"}] == later


@pytest.mark.parametrize(
    "form",
    [OPENID, OPENID.upper(), "oCanary-77_openid%2B31%2Fxyz%3D"],
    ids=["as is", "upper", "form"],
)
def test_secret_is_redacted_inside_other_texts(form: str) -> None:
    """The request's openid in the subject of its order, however it is spelled."""
    redactor = Redactor()

    _, reply = redactor.redact({"openId": OPENID}, {"subject": f"tea for {form}!"})

    assert {"subject": "tea for redacted-openId-1!"} == reply


def test_secret_of_the_reply_is_redacted_in_the_request() -> None:
    """All of an exchange is read before any of it is written."""
    request, _ = Redactor().redact({"subject": "for Li Ming"}, {"payeeName": "Li Ming"})

    assert {"subject": "for redacted-payeeName-1"} == request


def test_short_secret_is_redacted_at_its_place_only() -> None:
    """It may stand in another text by chance."""
    redactor = Redactor()

    copy = redactor.redact({"buyerId": "12", "outTradeNo": "O-12"})

    assert [{"buyerId": "redacted-buyerId-1", "outTradeNo": "O-12"}] == copy


def test_package_stays_the_package_of_its_prepay() -> None:
    """`PayResult` checks that both belong together; a package of another form is redacted whole."""
    given: Json = {"extPackage": "prepay_id=wx1", "prepayId": "wx1"}

    assert {
        "extPackage": "prepay_id=redacted-prepayId-1",
        "prepayId": "redacted-prepayId-1",
    } == redact(given)
    assert {"extPackage": "redacted-extPackage-1"} == redact({"extPackage": "wx1"})


def test_name_that_may_be_a_value_is_redacted() -> None:
    """A map by openid would else show them."""
    assert {"redacted-name-1": "redacted-value-1"} == redact({OPENID: "1"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("订单不存在", "订单不存在"),
        ("expected sign 3f2a9c0d1e4b5a697887a6b5c4d3e2f1", "expected sign ***"),
        ("a=1&appSecret=192006250b4c09247ec02edce69f6a2d", "a=1&appSecret=***"),
        ("10.20.30.40 is not in the list", "*** is not in the list"),
        ("2001:db8::7 is not in the list", "*** is not in the list"),
        ("at 12:00:00", "at 12:00:00"),
    ],
)
def test_words_of_the_platform_lose_what_looks_like_a_secret(words: str, expected: str) -> None:
    """What they mean is needed: a doubt ends by them."""
    assert {"errorMsg": expected} == redact({"errorMsg": words})


def test_placeholder_is_no_secret() -> None:
    """What was replayed can be recorded; and words keep placeholders, however long."""
    given: Json = {"payToken": "redacted-payToken-7", "errorMsg": "redacted-terminalPayerId-12345"}

    assert given == redact(given)


def test_numbers_go_on_after_those_of_another_process() -> None:
    """A cassette that is continued has no placeholder for two values."""
    redactor = Redactor()

    redactor.skip_numbers('{"payToken":"redacted-payToken-41","openId":"redacted-openId-2"}')

    assert ["redacted-payToken-42", "redacted-openId-3", "redacted-sign-1"] == [
        redactor.add(f"value of {name}", name) for name in ("payToken", "openId", "sign")
    ]


def test_placeholder_is_recognised() -> None:
    """A cassette is compared by this pattern."""
    assert PLACEHOLDER.fullmatch(Redactor().add("x", "payToken"))
    assert not PLACEHOLDER.search("redacted-1")
    assert OPENID not in repr(Redactor().redact({"openId": OPENID}))
