"""Callbacks as bytes: what is read, what is refused, and how much is believed."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings, strategies as st

from wxpay_async.errors import Fate, NotificationError
from wxpay_async.protocol.notify import (
    ACK_HANDLED,
    ACK_NOT_HANDLED,
    CHINA,
    MAX_BODY,
    MAX_FIELDS,
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

KEYS = Path(__file__).parents[1] / "vectors" / "keys"
SIGNER = RsaSigner.from_pem((KEYS / "pkcs8.pem").read_bytes())
VERIFIER = RsaVerifier.from_pem((KEYS / "public.pem").read_bytes())
SECRET = "192006250b4c09247ec02edce69f6a2d"
APP_KEY = "gmd930ea5d5a258f4f"
NOW = 1_763_870_400.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json; charset=UTF-8"}

TRADE = {
    "out_trade_no": "201910170001",
    "inner_trade_no": "2019101700000001",
    "trade_status": "TRADE_SUCCESS",
    "trade_amount": "33.69",
    "gmt_payment": "2019-10-17 12:30:00",
    "memo": "商品的标题 + 1/3",
}
REFUND = {
    "orig_outer_trade_no": "201910170001",
    "out_trade_no": "R-201910170001",
    "inner_trade_no": "2019101800000002",
    "refund_status": "REFUND_SUCCESS",
    "refund_amount": "3.69",
    "gmt_refund": "2019-10-18 12:30:00",
}


def by_hand(fields: dict[str, str]) -> bytes:
    """Write out what is signed, by the published rule and without the package's help."""
    names = sorted(name for name, value in fields.items() if value and name != "sign")
    return "&".join(f"{name}={fields[name]}" for name in names).encode()


def signed(fields: dict[str, str], *, signer: Signer = SIGNER, age: float = 0) -> dict[str, str]:
    """Add the four fields of the envelope; given ones win."""
    full = {
        "appKey": APP_KEY,
        "nonce": "76e71d31590d44f2aaa55fed6b3e267c",
        "timestamp": str(round((NOW - age) * 1000)),
        **({"signType": "RSA"} if signer.sign_type else {}),
        **fields,
    }
    return {**full, "sign": str(signer.sign(by_hand(full)))}


def endpoint(verifier: Verifier | None = VERIFIER, **changes: bool) -> Notifications:
    """Configure an endpoint, by RSA unless told otherwise."""
    return Notifications(verifier, app_key=APP_KEY, clock=lambda: NOW, **changes)


def form(fields: dict[str, str]) -> bytes:
    """Encode as a form."""
    return urlencode(fields).encode()


def refused(
    body: bytes, headers: dict[str, str] = FORM, verifier: Verifier | None = VERIFIER
) -> str:
    """Return why a body is refused; it must be."""
    with pytest.raises(NotificationError) as caught:
        endpoint(verifier).parse(headers, body)
    assert caught.value.__cause__ is None
    return caught.value.reason


def test_the_acknowledgements_are_exact_bytes() -> None:
    """These bytes and no others."""
    assert (b'{"status": 1}', b'{"status": 0}') == (ACK_HANDLED, ACK_NOT_HANDLED)


def test_a_signed_trade_is_read() -> None:
    """Every field has its type; RSA makes it authentic, its age fresh, and nothing confirmed."""
    notification = endpoint().parse(FORM, form(signed(TRADE)))

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


def test_a_signed_refund_is_read() -> None:
    """A refund has its own number and the order's."""
    notification = endpoint().parse(FORM, form(signed(REFUND)))

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
def test_a_trade_has_three_states(status: str, state: TradeState) -> None:
    """Any other text is kept and never taken for a payment."""
    notification = endpoint().parse(FORM, form(signed({**TRADE, "trade_status": status})))

    assert isinstance(notification, TradeNotification)
    assert (status, state) == (notification.trade_status, notification.state)


@pytest.mark.parametrize("status", ["REFUND_FAIL", "TRADE_SUCCESS"])
def test_a_refund_has_two_states(status: str) -> None:
    """A trade's status means nothing for a refund."""
    notification = endpoint().parse(FORM, form(signed({**REFUND, "refund_status": status})))

    expected = TradeState.REFUND_FAILED if status == "REFUND_FAIL" else TradeState.UNKNOWN
    assert expected == notification.state


def test_md5_is_never_authentic() -> None:
    """A verified MD5 signature leaves a hint, and a wrong one is refused all the same."""
    fields = signed(TRADE, signer=Md5Signer(SECRET))
    notification = endpoint(Md5Verifier(SECRET)).parse(FORM, form(fields))

    assert (False, True) == (notification.authentic, notification.fresh)
    body = form({**fields, "trade_amount": "33.70"})
    assert "does not fit" in refused(body, verifier=Md5Verifier(SECRET))


@pytest.mark.parametrize("signer", [SIGNER, Md5Signer(SECRET)])
def test_the_message_does_not_choose_the_algorithm(signer: Signer) -> None:
    """What fits the other scheme is refused, whatever signType says."""
    other: Verifier = Md5Verifier(SECRET) if signer.sign_type else VERIFIER
    for sign_type in ("RSA", "MD5", ""):
        fields = signed({**TRADE, "signType": sign_type}, signer=signer)
        assert "signature" in refused(form(fields), verifier=other)


def test_another_key_is_refused() -> None:
    """A signature by anybody else proves nothing."""
    other = RsaVerifier.from_pem((KEYS / "rsa3072-public.pem").read_bytes())

    assert "does not fit" in refused(form(signed(TRADE)), verifier=other)


@pytest.mark.parametrize(
    ("age", "fresh"), [(-300, True), (0, True), (300, True), (300.5, False), (90_000, False)]
)
def test_an_old_callback_is_genuine_but_not_fresh(age: float, fresh: bool) -> None:  # noqa: FBT001
    """Redelivery may be late: it is kept, for a query to confirm."""
    notification = endpoint().parse(FORM, form(signed(TRADE, age=age)))

    assert (True, fresh) == (notification.authentic, notification.fresh)


def test_a_callback_from_the_future_is_refused() -> None:
    """Over 300 s ahead is no clock's error."""
    assert "future" in refused(form(signed(TRADE, age=-300.5)))


@pytest.mark.parametrize("timestamp", ["-1", "1.5", "1e3", "now", "1" * 16, "１７６３", " 1"])
def test_a_timestamp_is_milliseconds(timestamp: str) -> None:
    """Anything but ASCII digits is refused, signed or not."""
    assert "milliseconds" in refused(form(signed({**TRADE, "timestamp": timestamp})))


def test_the_clock_is_the_machine_s_unless_given() -> None:
    """What is signed now is fresh, what was signed in 2025 is not."""
    notifications = Notifications(VERIFIER, app_key=APP_KEY)
    just_now = str(round(datetime.now(UTC).timestamp() * 1000))

    assert notifications.parse(FORM, form(signed({**TRADE, "timestamp": just_now}))).fresh
    assert not notifications.parse(FORM, form(signed(TRADE))).fresh


def test_an_unsigned_callback_is_a_hint() -> None:
    """Without any of the four fields it is read and not believed."""
    notification = endpoint().parse(FORM, form(TRADE))

    assert (False, False) == (notification.authentic, notification.fresh)


def test_an_endpoint_may_demand_signatures() -> None:
    """Where unsigned callbacks are not allowed, they are refused."""
    with pytest.raises(NotificationError, match="not signed"):
        endpoint(allow_unsigned=False).parse(FORM, form(TRADE))


def test_without_a_verifier_nothing_is_believed() -> None:
    """What is signed by whomever stays a hint, and so does what is not."""
    for fields in (signed(TRADE), {**signed(TRADE), "sign": "x"}, TRADE):
        notification = endpoint(None).parse(FORM, form(fields))
        assert (False, False) == (notification.authentic, notification.fresh)


@pytest.mark.parametrize("name", ["appKey", "nonce", "timestamp", "sign"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_half_an_envelope_is_refused(name: str, how: str) -> None:
    """A message that was signed cannot be turned into a hint by taking one field away."""
    fields = signed(TRADE)
    fields = {**fields, name: ""} if how == "empty" else fields
    if how == "missing":
        del fields[name]

    assert "missing" in refused(form(fields))


def test_sign_type_alone_is_half_an_envelope() -> None:
    """Whoever announces a signature must give one."""
    assert "missing" in refused(form({**TRADE, "signType": "RSA"}))


def test_another_app_key_is_refused() -> None:
    """Even when the platform signed it: it is another merchant's."""
    assert "another appKey" in refused(form(signed({**TRADE, "appKey": "other"})))
    assert "another appKey" in refused(form({**TRADE, "appKey": "other"}), verifier=None)


# What the bytes may be


@pytest.mark.parametrize("body", ["a=1", {"out_trade_no": "1"}, bytearray(b"a=1"), None])
def test_only_raw_bytes_are_taken(body: object) -> None:
    """A parsed or decoded body is a mistake of the program, and the error says why."""
    with pytest.raises(TypeError, match="raw bytes"):
        endpoint().parse(FORM, body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded",
        "application/x-www-form-urlencoded; charset=utf-8",
        'application/x-www-form-urlencoded;charset="UTF-8"',
        "application/x-www-form-urlencoded; charset=UTF8",
    ],
)
@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_the_type_is_read_in_any_spelling(kind: str, name: str) -> None:
    """Case and quotes do not matter, in names and values."""
    assert endpoint().parse({name: kind, "X-Other": "1"}, form(signed(TRADE))).authentic


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=gbk"},
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8; x=1"},
        {"Content-Type": "application/x-www-form-urlencoded", "content-type": "application/json"},
        {**FORM, "Content-Encoding": "gzip"},
    ],
)
def test_another_type_is_refused(headers: dict[str, str]) -> None:
    """What is no form and no JSON in UTF-8 is not guessed at."""
    assert refused(form(signed(TRADE)), headers)


def test_json_says_the_same_as_a_form() -> None:
    """Numbers are read digit by digit, null is absent, and the signature is the form's."""
    fields = signed({**TRADE, "trade_amount": "33.60", "count": "3"})
    text = json.dumps({**fields, "gmt_close": None}, ensure_ascii=False)
    body = text.replace('"33.60"', "33.60").replace('"3"', "3").encode()

    notification = endpoint().parse(JSON, body)

    assert b'"trade_amount": 33.60' in body
    assert notification == endpoint().parse(FORM, form(fields))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b'"text"',
        b"{",
        b"{}{}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1}}',
        b'{"a": [1]}',
        b'{"a": true}',
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": ' + b"1" * 30 + b"}",
        b"[" * 60_000,
        '{"a": "1"}'.encode("utf-16"),
    ],
)
def test_only_flat_json_is_read(body: bytes) -> None:
    """Nothing that a form could not have said, and nothing that two readers read differently."""
    assert "content type" in refused(body, JSON)


@pytest.mark.parametrize(
    "body",
    [b"a", b"a=1&&b=2", b"a=1&", b"a=%ff", b"a=\xff", b"%ff=1", b"a=%ed%a0%80"],
)
def test_a_broken_form_is_refused(body: bytes) -> None:
    """Lone names, empty pairs and bytes that are no UTF-8."""
    assert "content type" in refused(body)


@pytest.mark.parametrize("name", ["trade_amount", "sign", "memo"])
def test_a_field_twice_is_refused(name: str) -> None:
    """Even with the same value, and even when one of the two is empty."""
    fields = signed(TRADE)
    for again in (fields[name], "", "0.01"):
        body = form(fields) + b"&" + form({name: again})
        assert "twice" in refused(body)


def test_the_size_is_limited() -> None:
    """64 KB and 64 fields are read, one more of either is not."""
    fields = {**TRADE, **{f"f{n}": "1" for n in range(MAX_FIELDS - len(TRADE) - 5)}}
    body = form(signed(fields))
    assert MAX_FIELDS == len(body.split(b"&"))
    assert endpoint().parse(FORM, body).authentic
    assert refused(body + b"&x=")
    assert "fields" in refused(json.dumps({f"f{n}": "" for n in range(65)}).encode(), JSON)

    room = MAX_BODY - len(form(signed(TRADE))) - len("&note=")
    full = form(signed({**TRADE, "note": "x" * room}))
    # A signature is Base64, and percent-encoding makes its length vary: fill up with an empty name.
    assert abs(len(full) - MAX_BODY) < 64
    assert "over 65536 bytes" in refused(b"x" * (MAX_BODY + 1))
    assert "over" not in refused(b"x" * MAX_BODY)


def test_a_field_without_a_value_is_absent() -> None:
    """It is not signed, so it must not be told from a field that is not there."""
    body = form({**signed(TRADE), "failReason": "", "gmt_close": "", "new": ""})

    assert endpoint().parse(FORM, form(signed(TRADE))) == endpoint().parse(FORM, body)


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
def test_a_required_field_is_checked(change: dict[str, str], kind: str) -> None:
    """Signed or not, what cannot be an order, a status or an amount is refused."""
    fields = {**TRADE, **change}

    reason = refused(form(signed(fields) if kind == "signed" else fields))

    assert not any(value in reason for value in change.values() if len(value) > 3)


def test_a_refund_needs_its_order() -> None:
    """A refund without the order that it belongs to is refused."""
    assert "orig_outer_trade_no" in refused(form(signed({**REFUND, "orig_outer_trade_no": ""})))


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
def test_times_are_read_where_they_can_be(text: str, expected: datetime | None) -> None:
    """China Standard Time without a zone; a text that is no time stays in raw."""
    notification = endpoint().parse(FORM, form(signed({**TRADE, "gmt_payment": text})))

    assert isinstance(notification, TradeNotification)
    assert expected == notification.gmt_payment
    assert text == notification.raw["gmt_payment"]
    if expected is not None and notification.gmt_payment is not None:
        assert timedelta() is not notification.gmt_payment.utcoffset()
        assert notification.gmt_payment.tzinfo is not None


# What a signature cannot tell apart


@pytest.mark.parametrize("name", ["memo", "gmt_payment", "trade_status", "out_trade_no"])
@pytest.mark.parametrize("text", ["a=b", "a&b", "1&trade_amount=0.01"])
def test_an_ambiguous_value_is_refused(name: str, text: str) -> None:
    """Nothing quotes `&` and `=` in what is signed."""
    assert "ambiguous" in refused(form(signed({**TRADE, name: text})))


@pytest.mark.parametrize(
    "text", ["a=b", "a&b", "=", "&", "50% & more = less", "余额&不足=否", "&="]
)
def test_the_fail_reason_may_hold_them(text: str) -> None:
    """As long as it does not read like a further field, only one message has this signature."""
    fields = {**TRADE, "trade_status": "TRANSFER_FAIL", "failReason": text}

    notification = endpoint().parse(FORM, form(signed(fields)))

    assert isinstance(notification, TradeNotification)
    assert (True, text) == (notification.authentic, notification.fail_reason)


def test_a_field_cannot_hide_in_the_fail_reason() -> None:
    """The same signed bytes with a field moved into the free text are refused."""
    honest = signed({**TRADE, "failReason": "x"})
    hidden = {**honest, "failReason": f"x&gmt_payment={honest['gmt_payment']}"}
    del hidden["gmt_payment"]

    assert by_hand(honest) == by_hand(hidden)
    assert endpoint().parse(FORM, form(honest)).authentic
    assert "failReason is ambiguous" in refused(form(hidden))


@pytest.mark.parametrize("name", ["a b", "é", "a&b", "a\n"])
def test_an_odd_name_is_refused(name: str) -> None:
    """A name that cannot be a parameter's cannot have been signed."""
    assert "ambiguous" in refused(form(signed({**TRADE, name: "1"})))


def test_nothing_of_the_message_is_in_an_error() -> None:
    """An error goes to a log: it repeats no value, and no cause carries one."""
    canary = "canary-5a1e"
    for fields in (
        {**signed(TRADE), "memo": canary},
        {**TRADE, "trade_amount": canary},
        signed({**TRADE, "memo": f"{canary}&x=1"}),
        {**signed(TRADE), "timestamp": canary},
    ):
        with pytest.raises(NotificationError) as caught:
            endpoint().parse(FORM, form(fields))
        assert canary not in f"{caught.value!r} {caught.value}"
        assert caught.value.__cause__ is None
        assert Fate.NOT_SENT is caught.value.fate


def test_a_notification_is_a_value() -> None:
    """It is frozen, hashable, survives pickling, and shows neither raw fields nor a signature."""
    fields = signed(TRADE)
    notification = endpoint().parse(FORM, form(fields))

    assert hash(notification) == hash(endpoint().parse(FORM, form(fields)))
    assert notification.out_trade_no == pickle.loads(pickle.dumps(notification)).out_trade_no
    assert fields["sign"] not in repr(notification)
    assert "memo" not in repr(notification)
    with pytest.raises(AttributeError):
        notification.confirmed = True  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=400), kind=st.sampled_from([FORM, JSON]))
def test_no_other_exception_comes_out(body: bytes, kind: dict[str, str]) -> None:
    """Whatever bytes arrive: a notification, or a `NotificationError`."""
    try:
        notification = endpoint().parse(kind, body)
    except NotificationError:
        return
    assert not notification.authentic
