"""Prepays: what is issued is kept, signed, and bound to its order."""

from decimal import Decimal

from wxpay_async.sandbox.prepays import PLATFORM_APP_ID, PREPAY_LIFE, PrepayIssuer
from wxpay_async.sandbox.request_parsing import Item
from wxpay_async.sandbox.state import Prepay, Purchase, Trade


def _make_purchase() -> Purchase:
    purchase = Purchase(
        app_key="app",
        pay_token="token",
        amount=Decimal("1.00"),
        closes_at=None,
        scannable=False,
        clock=lambda: 100.5,
    )
    item = Item(
        out_trade_no="A1",
        subject="tea",
        price=Decimal("1.00"),
        quantity="1",
        total_amount=Decimal("1.00"),
        payee_identity="1000",
        royalties=(),
    )
    purchase.trades.append(Trade(item=item, trade_no="1", purchase=purchase))
    return purchase


def _make_issuer(issued: dict[str, Prepay], signed: list[bytes]) -> PrepayIssuer:
    tokens = iter("abcd")

    def sign(message: bytes) -> str:
        signed.append(message)
        return "SIGN"

    return PrepayIssuer(now=lambda: 100.5, token=lambda: next(tokens), sign=sign, issued=issued)


def test_prepay_is_signed_over_four_lines_and_kept_with_what_the_phone_gets() -> None:
    """The reply, the prepay that is kept, and the signed text say the same."""
    issued: dict[str, Prepay] = {}
    signed: list[bytes] = []
    purchase = _make_purchase()
    reply = _make_issuer(issued, signed).issue(purchase, "wx1")
    assert signed == [b"wx1\n100\nb\nprepay_id=wxa\n"]
    (prepay,) = purchase.prepays
    assert issued == {"wxa": prepay}
    assert (prepay.app_key, prepay.out_trade_no) == ("app", "A1")
    assert prepay.expires_at == 100.5 + PREPAY_LIFE
    names = ("appId", "timeStamp", "nonceStr", "signType", "paySign")
    assert {name: reply[name] for name in names} == {name: prepay.jsapi[name] for name in names}
    assert reply["extPackage"] == prepay.jsapi["package"] == "prepay_id=wxa"
    assert reply["prepayId"] == "wxa"


def test_prepay_without_an_app_id_is_the_platforms() -> None:
    """A request that names no mini program gets the platform's own."""
    issued: dict[str, Prepay] = {}
    reply = _make_issuer(issued, []).issue(_make_purchase(), "")
    assert reply["appId"] == PLATFORM_APP_ID
    assert "SIGN" not in repr(issued)
