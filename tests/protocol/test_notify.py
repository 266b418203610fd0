"""Callbacks as raw bytes: which are read, which are refused, and which are authentic."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.protocol.callbacks import (
    JSON,
    REFUND,
    TRADE,
    get_refusal,
    make_endpoint,
    parse_signed,
    refuse_signed,
)
from tests.support.clock import NOON
from tests.support.platform import (
    APP_KEY,
    FORM,
    SECRET,
    SIGNER,
    VERIFIER,
    encode_callback,
    sign_callback,
)
from tests.support.vectors import KEYS
from wxpay_async.errors import Fate, InvalidRequestError, NotificationError
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    CHINA,
    Notifications,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import (
    Md5Signer,
    Md5Verifier,
    RsaSigner,
    RsaVerifier,
    Signer,
    Verifier,
)


def test_acknowledgements_are_exact_bytes() -> None:
    """The platform compares them byte by byte."""
    assert (b'{"status": 1}', b'{"status": 0}') == (ACK_HANDLED, ACK_NOT_HANDLED)


def test_signed_trade_is_read() -> None:
    """Every field has its type; RSA makes it authentic, its age fresh, and nothing confirmed."""
    notification = parse_signed(TRADE)

    assert isinstance(notification, TradeNotification)
    assert "201910170001" == notification.out_trade_no
    assert "2019101700000001" == notification.inner_trade_no
    assert (TradeState.PAID, Decimal("33.69")) == (notification.state, notification.trade_amount)
    assert datetime(2019, 10, 17, 4, 30, tzinfo=UTC) == notification.gmt_payment
    assert (None, None) == (notification.gmt_close, notification.fail_reason)
    assert (True, True, False) == (
        notification.authentic,
        notification.fresh,
        notification.confirmed,
    )
    assert "商品的标题 + 1/3" == notification.raw["memo"]
    assert "sign" not in notification.raw


def test_signed_refund_is_read() -> None:
    """A refund has its own number and that of the order."""
    notification = parse_signed(REFUND)

    assert isinstance(notification, RefundNotification)
    assert ("R-201910170001", "201910170001") == (
        notification.out_trade_no,
        notification.orig_outer_trade_no,
    )
    assert (TradeState.REFUNDED, Decimal("3.69")) == (
        notification.state,
        notification.refund_amount,
    )
    assert datetime(2019, 10, 18, 4, 30, tzinfo=UTC) == notification.gmt_refund


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("TRADE_SUCCESS", TradeState.PAID),
        ("TRANSFER_FAIL", TradeState.FAILED),
        ("TRADE_CLOSED", TradeState.CLOSED),
        ("REFUND_SUCCESS", TradeState.UNKNOWN),
        ("支付成功", TradeState.UNKNOWN),
        ("trade_success", TradeState.UNKNOWN),
    ],
)
def test_trade_status_outside_its_three_is_unknown(status: str, state: TradeState) -> None:
    """Any other text is kept and never taken for a payment."""
    notification = parse_signed({**TRADE, "trade_status": status})

    assert isinstance(notification, TradeNotification)
    assert (status, state) == (notification.trade_status, notification.state)


@pytest.mark.parametrize("status", ["REFUND_FAIL", "TRADE_SUCCESS"])
def test_refund_status_outside_its_two_is_unknown(status: str) -> None:
    """A status of a trade has no meaning for a refund."""
    notification = parse_signed({**REFUND, "refund_status": status})

    expected = TradeState.REFUND_FAILED if status == "REFUND_FAIL" else TradeState.UNKNOWN
    assert expected == notification.state


def test_md5_signature_is_never_authentic() -> None:
    """A callback with a valid MD5 signature is a hint; one with a wrong signature is refused."""
    fields = sign_callback(TRADE, signer=Md5Signer(SECRET))
    notification = make_endpoint(Md5Verifier(SECRET)).parse(FORM, encode_callback(fields))

    assert (False, True) == (notification.authentic, notification.fresh)
    body = encode_callback({**fields, "trade_amount": "33.70"})
    assert "does not fit" in get_refusal(body, verifier=Md5Verifier(SECRET))


@pytest.mark.parametrize("signer", [SIGNER, Md5Signer(SECRET)])
def test_signature_of_the_other_scheme_is_refused(signer: Signer) -> None:
    """The endpoint chooses the scheme; signType does not."""
    other: Verifier = Md5Verifier(SECRET) if signer.sign_type else VERIFIER
    for sign_type in ("RSA", "MD5", ""):
        fields = sign_callback({**TRADE, "signType": sign_type}, signer=signer)
        assert "signature" in get_refusal(encode_callback(fields), verifier=other)


def test_each_of_several_keys_makes_it_authentic() -> None:
    """While the platform renews its key, callbacks are signed with the old or the new one."""
    other = RsaSigner.from_pem((KEYS / "rsa3072.pem").read_bytes())
    verifiers = [VERIFIER, RsaVerifier.from_pem((KEYS / "rsa3072-public.pem").read_bytes())]
    renewing = Notifications(verifiers, app_key=APP_KEY, clock=lambda: NOON)
    verifiers.clear()

    for signer in (SIGNER, other):
        notification = renewing.parse(FORM, encode_callback(sign_callback(TRADE, signer=signer)))
        assert (True, True, True) == (
            notification.authentic,
            notification.verified,
            notification.fresh,
        )
    with pytest.raises(NotificationError, match="does not fit"):
        renewing.parse(
            FORM, encode_callback({**sign_callback(TRADE), "trade_amount": "1", "memo": ""})
        )


@pytest.mark.parametrize("secret", [SECRET, "o" * 32])
def test_each_of_several_secrets_verifies(secret: str) -> None:
    """A secret can be renewed too; MD5 still proves no origin."""
    verifiers = (Md5Verifier("o" * 32), Md5Verifier(SECRET))
    renewing = Notifications(verifiers, app_key=APP_KEY, clock=lambda: NOON)

    notification = renewing.parse(
        FORM, encode_callback(sign_callback(TRADE, signer=Md5Signer(secret)))
    )

    assert (True, False) == (notification.verified, notification.authentic)


class OwnVerifier:
    """A merchant's own, which takes every signature."""

    def verify(self, message: bytes, signature: str) -> None:
        """Take it."""


def test_own_verifier_is_not_called_authentic() -> None:
    """Only the schemes that are known here can prove the origin."""
    for verifier in (OwnVerifier(), [OwnVerifier(), OwnVerifier()]):
        notification = Notifications(verifier, app_key=APP_KEY, clock=lambda: NOON).parse(
            FORM, encode_callback(sign_callback(TRADE))
        )
        assert (True, False) == (notification.verified, notification.authentic)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([VERIFIER, Md5Verifier(SECRET)], "several schemes"),
        ((OwnVerifier(), VERIFIER), "several schemes"),
        ([], "empty"),
        ([VERIFIER, None], "cannot verify"),
        (["-----BEGIN PUBLIC KEY-----"], "cannot verify"),
        ("-----BEGIN PUBLIC KEY-----", "cannot verify"),
        ({VERIFIER}, "cannot verify"),
        (SIGNER, "cannot verify"),
    ],
)
def test_verifiers_of_one_scheme_are_needed(given: Any, reason: str) -> None:  # noqa: ANN401 - wrong on purpose
    """Of two schemes the message would choose one, and the weaker one would count."""
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        Notifications(given, app_key=APP_KEY)

    assert ("verifier", True) == (caught.value.field, "one scheme" in str(caught.value.allowed))


def test_signature_by_another_key_is_refused() -> None:
    """A signature by a key of another party proves nothing."""
    other = RsaVerifier.from_pem((KEYS / "rsa3072-public.pem").read_bytes())

    assert "does not fit" in get_refusal(encode_callback(sign_callback(TRADE)), verifier=other)


@pytest.mark.parametrize(
    ("age", "fresh"), [(-300, True), (0, True), (300, True), (300.5, False), (90_000, False)]
)
def test_old_callback_is_genuine_but_not_fresh(age: float, *, fresh: bool) -> None:
    """A delivery may be late: it is kept, and a query can confirm it."""
    notification = parse_signed(TRADE, at=NOON - age)

    assert (True, fresh) == (notification.authentic, notification.fresh)


def test_callback_from_the_future_is_refused() -> None:
    """No wrong clock explains over 300 s."""
    assert "future" in refuse_signed(TRADE, at=NOON + 300.5)


@pytest.mark.parametrize("timestamp", ["-1", "1.5", "1e3", "now", "1" * 16, "１７６３", " 1"])
def test_timestamp_that_is_not_in_milliseconds_is_refused(timestamp: str) -> None:
    """Anything but ASCII digits is refused, even if signed."""
    assert "milliseconds" in refuse_signed({**TRADE, "timestamp": timestamp})


def test_clock_that_is_not_given_is_the_one_of_the_machine() -> None:
    """A callback signed now is fresh, one signed in 2025 is not."""
    notifications = Notifications(VERIFIER, app_key=APP_KEY)
    just_now = str(round(datetime.now(UTC).timestamp() * 1000))

    assert notifications.parse(
        FORM, encode_callback(sign_callback({**TRADE, "timestamp": just_now}))
    ).fresh
    assert not notifications.parse(FORM, encode_callback(sign_callback(TRADE))).fresh


def test_unsigned_callback_is_a_hint() -> None:
    """Without any of the four fields it is read and not believed."""
    notification = make_endpoint().parse(FORM, encode_callback(TRADE))

    assert (False, False) == (notification.authentic, notification.fresh)


def test_endpoint_that_demands_signatures_refuses_unsigned_callbacks() -> None:
    """With `allow_unsigned=False` unsigned callbacks are refused."""
    with pytest.raises(NotificationError, match="not signed"):
        make_endpoint(allow_unsigned=False).parse(FORM, encode_callback(TRADE))


def test_endpoint_without_a_verifier_believes_nothing() -> None:
    """Signed callbacks stay hints, like unsigned ones."""
    for fields in (sign_callback(TRADE), {**sign_callback(TRADE), "sign": "x"}, TRADE):
        notification = make_endpoint(None).parse(FORM, encode_callback(fields))
        assert (False, False) == (notification.authentic, notification.fresh)


@pytest.mark.parametrize("name", ["appKey", "nonce", "timestamp", "sign"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_missing_signature_field_is_refused(name: str, how: str) -> None:
    """Removing one field does not turn a signed message into a hint."""
    fields = sign_callback(TRADE)
    fields = {**fields, name: ""} if how == "empty" else fields
    if how == "missing":
        del fields[name]

    assert "missing" in get_refusal(encode_callback(fields))


def test_sign_type_without_a_signature_is_refused() -> None:
    """A message that names a scheme needs a signature."""
    assert "missing" in get_refusal(encode_callback({**TRADE, "signType": "RSA"}))


def test_another_app_key_is_refused() -> None:
    """The callback belongs to another merchant, even if the platform signed it."""
    assert "another appKey" in refuse_signed({**TRADE, "appKey": "other"})
    assert "another appKey" in get_refusal(
        encode_callback({**TRADE, "appKey": "other"}), verifier=None
    )


# What the fields may be


@pytest.mark.parametrize(
    "change",
    [
        {"out_trade_no": ""},
        {"inner_trade_no": ""},
        {"out_trade_no": "1\n2"},
        {"out_trade_no": "1\u2028"},
        {"out_trade_no": "x" * 129},
        {"trade_status": ""},
        {"trade_status": "TRADE_SUCCESS", "refund_status": "REFUND_SUCCESS"},
        {"trade_amount": ""},
        {"trade_amount": "0"},
        {"trade_amount": "-1"},
        {"trade_amount": "1e2"},
        {"trade_amount": "1.001"},
        {"trade_amount": "NaN"},
        {"trade_amount": "１"},
        {"trade_amount": " 1"},
        {"trade_amount": "100000000000.01"},
    ],
)
@pytest.mark.parametrize("kind", ["signed", "hint"])
def test_required_field_that_is_impossible_is_refused(change: dict[str, str], kind: str) -> None:
    """An impossible order number, status or amount is refused, signed or not."""
    fields = {**TRADE, **change}

    reason = get_refusal(encode_callback(sign_callback(fields) if kind == "signed" else fields))

    assert not any(value in reason for value in change.values() if len(value) > 3)


def test_refund_without_its_order_is_refused() -> None:
    """A refund without the number of its order is refused."""
    assert "orig_outer_trade_no" in refuse_signed({**REFUND, "orig_outer_trade_no": ""})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019-10-17 12:30:00", datetime(2019, 10, 17, 12, 30, tzinfo=CHINA)),
        ("2019-10-17T12:30:00", datetime(2019, 10, 17, 12, 30, tzinfo=CHINA)),
        ("2019-10-17T04:30:00Z", datetime(2019, 10, 17, 12, 30, tzinfo=CHINA)),
        ("2019-10-17 05:30:00+01:00", datetime(2019, 10, 17, 12, 30, tzinfo=CHINA)),
        ("20191017123000", datetime(2019, 10, 17, 12, 30, tzinfo=CHINA)),
        ("1571286600000", datetime(2019, 10, 17, 12, 30, tzinfo=CHINA)),
        ("2019年10月17日", None),
        ("17/10/2019 12:30", None),
        ("20191399999999", None),
        ("yesterday", None),
    ],
)
def test_known_time_formats_are_read(text: str, expected: datetime | None) -> None:
    """A time without a zone is China Standard Time; any other text stays in `raw`."""
    notification = parse_signed({**TRADE, "gmt_payment": text})

    assert isinstance(notification, TradeNotification)
    assert expected == notification.gmt_payment
    assert text == notification.raw["gmt_payment"]
    if notification.gmt_payment is not None:
        assert notification.gmt_payment.tzinfo is not None


# What a signature cannot tell apart


@pytest.mark.parametrize("name", ["memo", "gmt_payment", "trade_status", "out_trade_no"])
@pytest.mark.parametrize("text", ["a=b", "a&b", "1&trade_amount=0.01"])
def test_ambiguous_value_is_refused(name: str, text: str) -> None:
    """The signed string does not quote `&` and `=`."""
    assert "ambiguous" in refuse_signed({**TRADE, name: text})


@pytest.mark.parametrize(
    "text", ["a=b", "a&b", "=", "&", "50% & more = less", "余额&不足=否", "&="]
)
def test_fail_reason_with_ambiguous_characters_is_read(text: str) -> None:
    """If it does not look like a further field, only one message has this signature."""
    fields = {**TRADE, "trade_status": "TRANSFER_FAIL", "failReason": text}

    notification = parse_signed(fields)

    assert isinstance(notification, TradeNotification)
    assert (True, text) == (notification.authentic, notification.fail_reason)


def test_field_that_hides_in_the_fail_reason_is_refused() -> None:
    """Moving a field into the free text keeps the signed bytes, and is refused."""
    honest = sign_callback({**TRADE, "failReason": "x"})
    hidden = {**honest, "failReason": f"x&gmt_payment={honest['gmt_payment']}"}
    del hidden["gmt_payment"]

    assert honest["sign"] == sign_callback(hidden)["sign"]
    assert make_endpoint().parse(FORM, encode_callback(honest)).authentic
    assert "failReason is ambiguous" in get_refusal(encode_callback(hidden))


@pytest.mark.parametrize("name", ["a b", "é", "a&b", "a\n"])
def test_odd_name_is_refused(name: str) -> None:
    """A name that no parameter can have was not signed."""
    assert "ambiguous" in refuse_signed({**TRADE, name: "1"})


def test_errors_repeat_nothing_of_the_message() -> None:
    """Errors go to logs: they repeat no value, and have no cause that does."""
    canary = "canary-5a1e"
    for fields in (
        {**sign_callback(TRADE), "memo": canary},
        {**TRADE, "trade_amount": canary},
        sign_callback({**TRADE, "memo": f"{canary}&x=1"}),
        {**sign_callback(TRADE), "timestamp": canary},
    ):
        with pytest.raises(NotificationError) as caught:
            make_endpoint().parse(FORM, encode_callback(fields))
        assert canary not in f"{caught.value!r} {caught.value}"
        assert caught.value.__cause__ is None
        assert Fate.NOT_SENT is caught.value.fate


def test_notification_is_a_value() -> None:
    """It is frozen, hashable, survives pickling, and shows neither raw fields nor a signature."""
    fields = sign_callback(TRADE)
    notification = make_endpoint().parse(FORM, encode_callback(fields))

    assert hash(notification) == hash(make_endpoint().parse(FORM, encode_callback(fields)))
    assert notification.out_trade_no == pickle.loads(pickle.dumps(notification)).out_trade_no
    assert fields["sign"] not in repr(notification)
    assert "memo" not in repr(notification)
    with pytest.raises(AttributeError):
        notification.confirmed = True  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=400), kind=st.sampled_from([FORM, JSON]))
def test_random_bytes_raise_only_notification_errors(body: bytes, kind: dict[str, str]) -> None:
    """Any bytes give a notification or a `NotificationError`."""
    try:
        notification = make_endpoint().parse(kind, body)
    except NotificationError:
        return
    assert not notification.authentic
