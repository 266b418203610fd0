"""The results: their checks, their repr, and the meaning of a status."""

import base64
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from wxpay_async.errors import Fate, MalformedResponseError, NotificationError
from wxpay_async.protocol.results import (
    TRADE_STATES,
    Merchant,
    MerchantPage,
    PayResult,
    RefundResult,
    RoyaltyShare,
    TradeRef,
    TradeResult,
    TradeState,
    TradeStatus,
)
from wxpay_async.protocol.signing import RsaVerifier

PREPAY = "wx061644162685653f3da37a5a1589465200"
NONCE = "19a855c337bd4c14978899a560372a97"
SIGNATURE = "dGhpcy1pcy1hLXBheVNpZ24="


def pay_result(**changes: object) -> PayResult:
    """Make a complete result, with changes."""
    content = {
        "app_id": "wx9236b1e84ffbf10a",
        "time_stamp": "1573029856",
        "nonce_str": NONCE,
        "prepay_id": PREPAY,
        "ext_package": f"prepay_id={PREPAY}",
        "sign_type": "RSA",
        "pay_sign": SIGNATURE,
    }
    return PayResult(**{**content, **changes})


def test_jsapi_params_are_what_wx_request_payment_takes() -> None:
    """They have exactly the five names of WeChat's interface, with extPackage as `package`."""
    expected = {
        "timeStamp": "1573029856",
        "nonceStr": NONCE,
        "package": f"prepay_id={PREPAY}",
        "signType": "RSA",
        "paySign": SIGNATURE,
    }

    assert expected == pay_result().jsapi_params()


@pytest.mark.parametrize(
    "name", ["app_id", "time_stamp", "nonce_str", "prepay_id", "sign_type", "pay_sign"]
)
def test_empty_jsapi_parameter_is_malformed(name: str) -> None:
    """The platform reads empty as absent, so an empty field is a missing one."""
    changes = {name: ""} | ({"ext_package": "prepay_id="} if name == "prepay_id" else {})
    with pytest.raises(MalformedResponseError, match="a JSAPI parameter is empty") as caught:
        pay_result(**changes)

    assert Fate.IN_DOUBT == caught.value.fate
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "package", ["", PREPAY, "prepay_id=", f"prepay_id={PREPAY} ", "prepay_id=x"]
)
def test_ext_package_of_another_prepay_is_refused(package: str) -> None:
    """The payer must confirm exactly the order of the reply."""
    with pytest.raises(MalformedResponseError, match="extPackage is not prepay_id= and"):
        pay_result(ext_package=package)


def test_prepay_expires_twenty_minutes_after_signing() -> None:
    """The signing time is before the platform's answer, so this errs on the early side."""
    signed_at = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    assert signed_at + timedelta(minutes=20) == pay_result(signed_at=signed_at).expires_at
    assert pay_result().expires_at is None


@pytest.fixture(scope="module")
def wechat_key() -> RSA.RsaKey:
    """A key that stands for WeChat's."""
    return RSA.generate(2048)


def _sign(key: RSA.RsaKey) -> PayResult:
    message = f"wx9236b1e84ffbf10a\n1573029856\n{NONCE}\nprepay_id={PREPAY}\n".encode()
    signature = pkcs1_15.new(key).sign(SHA256.new(message))
    return pay_result(pay_sign=base64.b64encode(signature).decode())


@pytest.mark.parametrize("form", ["str", "bytes", "verifier"])
def test_genuine_pay_sign_is_verified(wechat_key: RSA.RsaKey, form: str) -> None:
    """The four lines each end with a line feed; the key is a PEM or a verifier."""
    pem = wechat_key.public_key().export_key()
    public_key = {"str": pem.decode(), "bytes": pem, "verifier": RsaVerifier.from_pem(pem)}[form]

    _sign(wechat_key).verify_pay_sign(public_key)


@pytest.mark.parametrize("name", ["app_id", "time_stamp", "nonce_str"])
def test_pay_sign_over_other_fields_is_refused(wechat_key: RSA.RsaKey, name: str) -> None:
    """Each of the signed lines counts."""
    changed = attrs.evolve(_sign(wechat_key), **{name: "other"})

    with pytest.raises(NotificationError):
        changed.verify_pay_sign(wechat_key.public_key().export_key())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("待付款", TradeState.AWAITING),
        ("支付成功", TradeState.PAID),
        ("支付失败", TradeState.FAILED),
        ("已关闭", TradeState.CLOSED),
        ("TRADE_SUCCESS", TradeState.PAID),
        ("退款中", TradeState.REFUNDING),
        ("退款成功", TradeState.REFUNDED),
        ("退款失败", TradeState.REFUND_FAILED),
        ("退款", TradeState.UNKNOWN),
        ("支付成功 ", TradeState.UNKNOWN),
        ("未支付成功", TradeState.UNKNOWN),
        ("trade_success", TradeState.UNKNOWN),
        ("", TradeState.UNKNOWN),
    ],
)
def test_only_a_known_text_has_a_meaning(text: str, expected: TradeState) -> None:
    """A text that only resembles a payment is not one."""
    assert expected == TradeStatus(out_trade_no="1", status=text).state


def test_trade_state_says_whether_the_money_came() -> None:
    """A refund needs a payment; what is unknown is neither paid nor over."""
    states = list(TradeState)

    assert {"paid", "refunding", "refunded", "refund_failed"} == {s for s in states if s.was_paid}
    assert {"failed", "closed"} == {s for s in states if s.ended_unpaid}


def test_trade_states_cannot_be_changed() -> None:
    """A text that is added at run time would count as a payment everywhere."""
    with pytest.raises(TypeError):
        TRADE_STATES["退款"] = TradeState.PAID


@pytest.mark.parametrize("name", ["out_trade_no", "status"])
def test_refund_without_number_or_status_is_no_result(name: str) -> None:
    """An empty required field is a missing one."""
    with pytest.raises(ValueError, match=name):
        RefundResult(**{"out_trade_no": "1", "status": "S", name: ""})


def test_repr_of_a_result_shows_no_credentials() -> None:
    """A result in a log must not let anyone pay."""
    trade = TradeResult(
        pay_token="canary-token",
        return_url="https://qr.example/canary-url",
        prepay_id=PREPAY,
        ext_package=f"prepay_id={PREPAY}",
        pay_sign=SIGNATURE,
        raw={"payToken": "canary-token"},
    )
    shown = repr((pay_result(raw={"paySign": SIGNATURE}), trade))

    for secret in (PREPAY, SIGNATURE, "canary-token", "canary-url"):
        assert secret not in shown
    assert 2 == shown.count("pay_sign='***'")
    assert "pay_token='***'" in shown


@pytest.mark.parametrize(
    "make",
    [
        pay_result,
        lambda **changes: TradeResult(pay_token="t", **changes),
        lambda **changes: TradeStatus(out_trade_no="1", status="待付款", **changes),
        lambda **changes: RefundResult(out_trade_no="1", status="S", **changes),
        lambda **changes: MerchantPage(merchants=(Merchant(merchant_id="1"),), **changes),
    ],
    ids=["pay", "trade", "status", "refund", "merchants"],
)
def test_results_are_values(make: type[PayResult]) -> None:
    """Equal content is equal and has equal hashes; the defaults are one attempt, not replayed."""
    one, two = make(raw={"a": 1}), make(raw={"a": 1})

    assert one == two
    assert hash(one) == hash(two)
    assert (1, False, {}) == (make().attempts, make().replayed, make().raw)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.replayed = True


def test_rows_are_values() -> None:
    """They are hashable."""
    rows = {
        TradeRef(out_trade_no="1", trade_no="2", status="P"),
        TradeRef(out_trade_no="1", trade_no="2", status="P"),
        RoyaltyShare(payee_member_id="1"),
    }

    assert 2 == len(rows)


def test_trade_result_without_prepay_keeps_the_order() -> None:
    """What has expired is gone, in `raw` too; the payToken and the appid stay."""
    prepay = {"timeStamp": "1", "nonceStr": "n", "prepayId": "p", "signType": "RSA", "paySign": "s"}
    kept = {"appId": "wx1", "payToken": "token-1"}
    result = TradeResult(
        app_id="wx1",
        pay_token="token-1",
        time_stamp="1",
        nonce_str="n",
        prepay_id="p",
        ext_package="prepay_id=p",
        sign_type="RSA",
        pay_sign="s",
        attempts=2,
        raw={**prepay, "extPackage": "prepay_id=p", **kept},
    )
    without = result.without_prepay()

    assert TradeResult(app_id="wx1", pay_token="token-1", raw=kept) == without
    assert (kept, 2) == (without.raw, without.attempts)


def test_taught_text_has_the_state_that_was_taught() -> None:
    """It wins over the table."""
    status = TradeStatus(out_trade_no="O-1", status="处理中", taught=TradeState.PAID)

    assert TradeState.PAID is status.state
