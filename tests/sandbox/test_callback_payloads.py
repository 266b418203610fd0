"""What each forgery changes, and nothing else; without any HTTP."""

import pytest

from wxpay_async.sandbox.callback_payloads import Notice, Pairs, Seal, Stamp, forged, local_time
from wxpay_async.sandbox.faults import Forgery

STAMP = Stamp(nonce="n1", timestamp=1_763_870_400_000)
TRADE = Notice(
    app_key="app",
    kind="trade",
    out_trade_no="A1",
    fields={"out_trade_no": "A1", "trade_status": "TRADE_SUCCESS", "trade_amount": "33.69"},
)
REFUND = Notice(
    app_key="app",
    kind="refund",
    out_trade_no="B1",
    fields={"out_trade_no": "B1", "refund_status": "REFUND_SUCCESS", "refund_amount": "1.05"},
)


def echo(message: bytes) -> str:
    """Sign so that the signature shows what was signed, by MD5."""
    return f"A{message.decode()}"


def echo_rsa(message: bytes) -> str:
    """Sign likewise, by RSA."""
    return f"R{message.decode()}"


SEAL = Seal(scheme="md5", signs={"md5": echo, "rsa": echo_rsa})
GENUINE = SEAL.close(TRADE, STAMP)


def forge(kind: Forgery, notice: Notice = TRADE) -> Pairs:
    """Forge by the MD5 scheme."""
    return forged(kind, notice, seal=SEAL, stamp=STAMP)


def test_genuine() -> None:
    """The signature is over every parameter but itself, by name."""
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
def test_tampered(kind, change) -> None:  # noqa: ANN001 - parameters of the test
    """The rest stays as it was signed."""
    assert dict(forge(kind)) == {**GENUINE, **change}


def test_other_signature_of_any_beginning() -> None:
    """A signature that does not begin with A is another one afterwards too."""
    seal = Seal(scheme="rsa", signs=SEAL.signs)
    genuine = seal.close(TRADE, STAMP)["sign"]
    sign = dict(forged(Forgery.SIGNATURE, TRADE, seal=seal, stamp=STAMP))["sign"]
    assert (genuine[0], sign[0], sign[1:]) == ("R", "A", genuine[1:])


def test_unsigned() -> None:
    """Only the signature is missing."""
    assert dict(forge(Forgery.UNSIGNED)) == {k: v for k, v in GENUINE.items() if k != "sign"}


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
def test_bare(scheme) -> None:  # noqa: ANN001 - a parameter of the test
    """Nothing but the fields of the platform's page is left, by either scheme."""
    seal = Seal(scheme=scheme, signs=SEAL.signs)
    assert dict(forged(Forgery.BARE, TRADE, seal=seal, stamp=STAMP)) == dict(TRADE.fields)


def test_twice() -> None:
    """The amount stands twice, the signed one first."""
    pairs = forge(Forgery.TWICE)
    assert [v for k, v in pairs if k == "trade_amount"] == ["33.69", "3369.00"]
    assert dict(pairs[:-1]) == GENUINE


def test_other_scheme() -> None:
    """The signature fits, by the other scheme."""
    pairs = dict(forge(Forgery.SCHEME))
    assert pairs["signType"] == "RSA"
    assert pairs["sign"].startswith("RappKey=app&")
    assert SEAL.swapped().swapped() == SEAL


def test_other_merchant() -> None:
    """The signature fits, and the appKey is another's."""
    pairs = dict(forge(Forgery.APP_KEY))
    assert pairs["appKey"] == "app-other"
    assert pairs["sign"].startswith("AappKey=app-other&")


def test_future() -> None:
    """The signature fits, and the time is an hour ahead."""
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
def test_refund(kind, change) -> None:  # noqa: ANN001 - parameters of the test
    """A refund is forged by its own names."""
    assert dict(forge(kind, REFUND)) == {**SEAL.close(REFUND, STAMP), **change}


@pytest.mark.parametrize("kind", list(Forgery))
@pytest.mark.parametrize("notice", [TRADE, REFUND], ids=["trade", "refund"])
def test_every_forgery_differs(kind, notice) -> None:  # noqa: ANN001 - parameters of the test
    """No forgery is the genuine callback."""
    assert forge(kind, notice) != list(SEAL.close(notice, STAMP).items())


def test_closed_becomes_paid() -> None:
    """A status that is not the paid one is forged into it."""
    fields = {**TRADE.fields, "trade_status": "TRANSFER_FAIL"}
    closed = Notice(app_key="app", kind="trade", out_trade_no="A1", fields=fields)
    assert dict(forge(Forgery.STATUS, closed))["trade_status"] == "TRADE_SUCCESS"


def test_local_time() -> None:
    """Times are China Standard Time, whatever the machine's zone."""
    assert local_time(1_763_870_400.9) == "2025-11-23 12:00:00"
