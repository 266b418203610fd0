"""The content and the signature of callbacks, genuine and forged, without HTTP and over HTTP."""

from pathlib import Path

import aiohttp
import pytest
from Crypto.PublicKey import RSA

from tests.sandbox.callback_shop import (
    REFUSED,
    CallbackShop,
    Settings,
    business_fields,
    is_genuine,
    is_signed_by_md5,
    is_signed_by_rsa,
)
from tests.sandbox.raw_merchant import Merchant, make_trade_item
from tests.support.clock import MovedClock
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.auth import Scheme
from wxpay_async.sandbox.callback_payloads import (
    Callback,
    CallbackSigner,
    Nonce,
    Pairs,
    forge_callback,
    format_time,
)
from wxpay_async.sandbox.fault_kinds import Forgery

NONCE = Nonce(value="n1", timestamp=1_763_870_400_000)
TRADE = Callback(
    app_key="app",
    kind="trade",
    out_trade_no="A1",
    fields={"out_trade_no": "A1", "trade_status": "TRADE_SUCCESS", "trade_amount": "33.69"},
)
REFUND = Callback(
    app_key="app",
    kind="refund",
    out_trade_no="B1",
    fields={"out_trade_no": "B1", "refund_status": "REFUND_SUCCESS", "refund_amount": "1.05"},
)


@pytest.fixture
def settings(callback_settings: Settings) -> dict[str, object]:
    """Let the sandbox send callbacks to the shop."""
    return callback_settings


def sign_md5_visibly(message: bytes) -> str:
    """Return a signature that shows what was signed, and that it was MD5."""
    return f"A{message.decode()}"


def sign_rsa_visibly(message: bytes) -> str:
    """Return a signature that shows what was signed, and that it was RSA."""
    return f"R{message.decode()}"


SIGNER = CallbackSigner(scheme="md5", signers={"md5": sign_md5_visibly, "rsa": sign_rsa_visibly})
GENUINE = SIGNER.sign(TRADE, NONCE)


def forge(kind: Forgery, callback: Callback = TRADE) -> Pairs:
    """Forge by the MD5 scheme."""
    return forge_callback(kind, callback, signer=SIGNER, nonce=NONCE)


def test_signature_of_a_genuine_callback_covers_all_parameters() -> None:
    """The signature is over every parameter but itself, sorted by name."""
    signed = (
        "appKey=app&nonce=n1&out_trade_no=A1&timestamp=1763870400000"
        "&trade_amount=33.69&trade_status=TRADE_SUCCESS"
    )
    assert GENUINE["sign"] == f"A{signed}"
    assert set(GENUINE) == {*TRADE.fields, "appKey", "nonce", "timestamp", "sign"}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Forgery.SIGNATURE, {"sign": f"B{GENUINE['sign'][1:]}"}),
        (Forgery.EMPTY_SIGN, {"sign": ""}),
        (Forgery.STATUS, {"trade_status": "TRADE_CLOSED"}),
        (Forgery.AMOUNT, {"trade_amount": "3369.00"}),
        (Forgery.ORDER, {"out_trade_no": "A10"}),
        (Forgery.EXTRA, {"remark": "unsigned"}),
    ],
)
def test_forgery_of_one_parameter_keeps_the_others(kind: Forgery, change: dict[str, str]) -> None:
    """The other parameters stay as they were signed."""
    assert dict(forge(kind)) == {**GENUINE, **change}


def test_forgery_of_an_rsa_signature_changes_its_beginning() -> None:
    """A signature that does not begin with A is changed too."""
    signer = CallbackSigner(scheme="rsa", signers=SIGNER.signers)
    genuine = signer.sign(TRADE, NONCE)["sign"]
    sign = dict(forge_callback(Forgery.SIGNATURE, TRADE, signer=signer, nonce=NONCE))["sign"]
    assert (genuine[0], sign[0], sign[1:]) == ("R", "A", genuine[1:])


def test_forgery_unsigned_lacks_only_the_signature() -> None:
    """Only the signature is missing."""
    assert dict(forge(Forgery.UNSIGNED)) == {k: v for k, v in GENUINE.items() if k != "sign"}


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
def test_forgery_bare_has_only_the_business_fields(scheme: Scheme) -> None:
    """Only the fields of the platform's page are left, by either scheme."""
    signer = CallbackSigner(scheme=scheme, signers=SIGNER.signers)
    assert dict(forge_callback(Forgery.BARE, TRADE, signer=signer, nonce=NONCE)) == dict(
        TRADE.fields
    )


def test_forgery_twice_repeats_the_amount() -> None:
    """The amount is there twice, the signed one first."""
    pairs = forge(Forgery.TWICE)
    assert [v for k, v in pairs if k == "trade_amount"] == ["33.69", "3369.00"]
    assert dict(pairs[:-1]) == GENUINE


def test_forgery_by_the_other_scheme_is_signed_correctly() -> None:
    """The signature is right, by the other scheme."""
    pairs = dict(forge(Forgery.SCHEME))
    assert pairs["signType"] == "RSA"
    assert pairs["sign"].startswith("RappKey=app&")
    assert SIGNER.use_other_scheme().use_other_scheme() == SIGNER


def test_forgery_for_another_merchant_is_signed_correctly() -> None:
    """The signature is right, and the appKey is another merchant's."""
    pairs = dict(forge(Forgery.APP_KEY))
    assert pairs["appKey"] == "app-other"
    assert pairs["sign"].startswith("AappKey=app-other&")


def test_forgery_of_the_future_is_signed_correctly() -> None:
    """The signature is right, and the time is an hour ahead."""
    pairs = dict(forge(Forgery.FUTURE))
    assert pairs["timestamp"] == "1763874000000"
    assert "timestamp=1763874000000" in pairs["sign"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Forgery.STATUS, {"refund_status": "REFUND_FAIL"}),
        (Forgery.AMOUNT, {"refund_amount": "105.00"}),
    ],
)
def test_forgery_of_a_refund_changes_its_own_fields(kind: Forgery, change: dict[str, str]) -> None:
    """A refund's forgery changes the fields of a refund."""
    assert dict(forge(kind, REFUND)) == {**SIGNER.sign(REFUND, NONCE), **change}


@pytest.mark.parametrize("kind", list(Forgery))
@pytest.mark.parametrize("callback", [TRADE, REFUND], ids=["trade", "refund"])
def test_forgery_of_any_kind_differs_from_the_genuine_callback(
    kind: Forgery, callback: Callback
) -> None:
    """No forgery is the genuine callback."""
    assert forge(kind, callback) != list(SIGNER.sign(callback, NONCE).items())


def test_forgery_of_a_failed_status_says_paid() -> None:
    """Any status but the paid one is forged into it."""
    fields = {**TRADE.fields, "trade_status": "TRANSFER_FAIL"}
    closed = Callback(app_key="app", kind="trade", out_trade_no="A1", fields=fields)
    assert dict(forge(Forgery.STATUS, closed))["trade_status"] == "TRADE_SUCCESS"


def test_time_is_china_standard_time() -> None:
    """Times are China Standard Time in every time zone of the machine."""
    assert format_time(1_763_870_400.9) == "2025-11-23 12:00:00"


# Genuine callbacks, over HTTP


async def test_callback_of_a_paid_order_has_the_platforms_fields(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """A second confirmation sends nothing; the envelope is that of a request."""
    await merchant.trade("A1")
    clock.move(90)
    sandbox.confirm("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    (form,) = shop.forms
    params = dict(form)
    assert business_fields(form) == {
        "out_trade_no": "A1",
        "inner_trade_no": sandbox.platform.trades["A1"].trade_no,
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "33.69",
        "gmt_payment": "2025-11-23 12:01:30",
        "gmt_close": "",
        "failReason": "",
    }
    assert (params["appKey"], params["timestamp"]) == (
        sandbox.app_key,
        str(round(clock.time() * 1000)),
    )
    assert len(params["nonce"]) == 32
    assert is_signed_by_md5(form, sandbox.app_secret)
    assert "signType" not in params


@pytest.mark.parametrize(
    ("act", "status", "filled"),
    [
        ("cancel", "TRANSFER_FAIL", {"failReason": "付款人取消支付"}),
        ("expire", "TRADE_CLOSED", {"gmt_close": "2025-11-23 12:00:00"}),
    ],
)
async def test_callback_of_an_unpaid_end_says_why(
    merchant: Merchant,
    sandbox: Sandbox,
    shop: CallbackShop,
    act: str,
    status: str,
    filled: dict[str, str],
) -> None:
    """A cancelled order failed, with a reason; an expired order is closed."""
    await merchant.trade("A1")
    getattr(sandbox, act)("A1")
    await sandbox.callbacks_idle()
    params = business_fields(shop.forms[0])
    optional = {k: v for k, v in params.items() if k in {"gmt_payment", "gmt_close", "failReason"}}
    assert shop.outcomes == [("A1", status)]
    assert {k: v for k, v in optional.items() if v} == filled


async def test_callback_of_a_refund_has_both_numbers(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """A refund's callback has its own number and that of the order."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    clock.move(60)
    await merchant.refund("B1", "A1", "3.60")
    await sandbox.callbacks_idle()
    refund = next(form for form in shop.forms if ("out_trade_no", "B1") in form)
    assert business_fields(refund) == {
        "orig_outer_trade_no": "A1",
        "out_trade_no": "B1",
        "inner_trade_no": sandbox.platform.refunds["B1"].trade_no,
        "refund_status": "REFUND_SUCCESS",
        "refund_amount": "3.60",
        "gmt_refund": "2025-11-23 12:01:00",
    }
    assert is_signed_by_md5(refund, sandbox.app_secret)


async def test_callback_is_sent_for_each_order_of_a_purchase(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Orders that are paid together have a callback each."""
    await merchant.trade("A1", tradeInfo=[make_trade_item("A1"), make_trade_item("A2", "3.00")])
    sandbox.confirm("A2")
    await sandbox.callbacks_idle()
    sent = [(dict(form)["out_trade_no"], dict(form)["trade_amount"]) for form in shop.forms]
    assert sorted(sent) == [("A1", "33.69"), ("A2", "3.00")]


async def test_callback_by_rsa_verifies_by_openssl(
    clock: MovedClock,
    shop: CallbackShop,
    pay_key: RSA.RsaKey,
    merchant_key: RSA.RsaKey,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """A merchant with a public key gets RSA, which the openssl program verifies."""
    public = merchant_key.public_key().export_key()
    async with Sandbox(
        pay_key=pay_key, clock=clock.time, merchant_public_key=public, notify_url=shop.url
    ) as sandbox:
        await Merchant(session, sandbox).complete("A1")
        (form,) = shop.forms
        assert ("signType", "RSA") in form
        assert is_signed_by_rsa(form, sandbox.callback_public_key, tmp_path)
        form[0] = (form[0][0], f"{form[0][1]}0")
        assert not is_signed_by_rsa(form, sandbox.callback_public_key, tmp_path)


async def test_callback_scheme_can_be_chosen_without_a_public_key(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, tmp_path: Path
) -> None:
    """The scheme can be set, with any registered keys."""
    app = sandbox.platform.apps[sandbox.app_key]
    app.callback_scheme = "rsa"
    await merchant.complete("A1")
    assert is_signed_by_rsa(shop.forms[0], sandbox.pay_public_key, tmp_path)


# Forged callbacks, over HTTP


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
@pytest.mark.parametrize("kind", list(Forgery))
async def test_forgery_of_any_kind_does_not_verify(
    merchant: Merchant,
    sandbox: Sandbox,
    shop: CallbackShop,
    tmp_path: Path,
    kind: Forgery,
    scheme: Scheme,
) -> None:
    """A careful merchant accepts no forgery, and accepts the genuine callback."""
    sandbox.platform.apps[sandbox.app_key].callback_scheme = scheme
    await merchant.trade("A1")
    shop.answers.append(REFUSED)
    delivery = await sandbox.send_forged(kind, "A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    fake, genuine = (
        is_genuine(form, sandbox, tmp_path, rsa=scheme == "rsa") for form in shop.forms
    )
    assert (fake, genuine) == (False, True)
    assert (delivery.forgery, delivery.acknowledged, delivery.answer) == (kind, False, REFUSED[1])
    assert delivery.pairs == tuple(shop.forms[0])


async def test_forgery_about_an_open_order_pays_nothing(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, clock: MovedClock
) -> None:
    """The forgery says "paid", and the order still awaits payment."""
    await merchant.trade("A1")
    clock.move(1)
    delivery = await sandbox.send_forged("signature", "A1")
    assert shop.outcomes == [("A1", "TRADE_SUCCESS")]
    assert dict(shop.forms[0])["gmt_payment"] == "2025-11-23 12:00:01"
    assert delivery.acknowledged
    assert await merchant.status("A1") == "待付款"


async def test_forgery_about_a_refund_has_the_refunds_fields(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A forgery about a refund has the fields of a refund."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "1.00")
    await sandbox.callbacks_idle()
    await sandbox.send_forged("status", "B1")
    assert shop.outcomes[-1] == ("B1", "REFUND_FAIL")
