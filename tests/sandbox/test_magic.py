"""Magic values: each leads to the same end, and to no other order's."""

from decimal import Decimal

import aiohttp
import pytest

from tests.sandbox.callback_shop import CallbackShop, Settings
from tests.sandbox.raw_merchant import Merchant, make_trade_item
from wxpay_async.sandbox import FaultKind, Sandbox
from wxpay_async.sandbox.magic import MAGIC_VALUES, MagicValue, MetOrders, PayerEnd, find_magic

STATUS = {
    PayerEnd.CONFIRM: "支付成功",
    PayerEnd.CANCEL: "支付失败",
    PayerEnd.INSUFFICIENT: "支付失败",
    PayerEnd.EXPIRE: "已关闭",
    None: "待付款",
}


@pytest.fixture
def settings(callback_settings: Settings) -> Settings:
    """Let the sandbox send callbacks to the shop."""
    return callback_settings


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for a reply or a callback that is 5 seconds late."""
    import asyncio  # noqa: PLC0415 - only to change it

    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: real_sleep(min(seconds, 0.01)))


async def order(merchant: Merchant, number: str, amount: str = "30.00") -> str:
    """Create an order of an amount; return its payToken."""
    item = make_trade_item(number, amount, price=amount, quantity="1")
    return await merchant.trade_token(number, tradeInfo=[item], payMethod={"amount": amount})


async def pay(merchant: Merchant, request_id: str, token: str, openid: str) -> str:
    """Ask for a prepay; return the errorCode, or the name of what happened to the reply."""
    try:
        reply = await merchant.pay(request_id, token, terminalPayerId=openid)
    except aiohttp.ServerDisconnectedError:
        return "lost"
    except AssertionError:  # the status is not 200
        return "status"
    if reply["success"] and reply["data"]["requestId"] != request_id:
        return "other"
    return str(reply["errorCode"])


ENDS = {
    "o_timeout_after_commit": ("lost", 1),
    "o_timeout_before_commit": ("lost", 0),
    "o_bad_gateway": ("status", 1),
    "o_interrupted": ("CO_MSG_000003", 1),
    "o_refused": ("GM_API_BUS_0000099", 0),
    "o_duplicate": ("GM_API_BUS_0000015", 0),
    "o_rate_limited": ("CO_MSG_000007", 0),
    "o_wrong_echo": ("other", 1),
}


@pytest.mark.parametrize("by", ["openid", "amount"])
@pytest.mark.parametrize("value", MAGIC_VALUES, ids=lambda value: value.openid)
async def test_value_leads_to_its_end(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop, value: MagicValue, by: str
) -> None:
    """By the openid of the pay or by the amount of the order: for each order anew."""
    ends: list[tuple[str, int, str]] = []
    for number in ("A1", "A2"):
        amount = str(value.amount) if by == "amount" else "30.00"
        token = await order(merchant, number, amount)
        openid = value.openid if by == "openid" else "oPayer-1"
        told = await pay(merchant, f"p-{number}", token, openid)
        executed = len(sandbox.platform.find_entries(f"p-{number}"))
        ends.append((told, executed, await merchant.status(number)))
    await sandbox.callbacks_idle()

    told, executed = ENDS.get(value.openid, ("", 1))
    assert ends == [(told, executed, STATUS[value.payer])] * 2
    kind = value.callback.kind if value.callback else None
    copies = {FaultKind.CALLBACK_LOST: 0, FaultKind.CALLBACK_DOUBLED: 2}.get(kind, 1)
    copies = {FaultKind.CALLBACK_FORGED: 2}.get(kind, copies) if value.payer else 0
    assert len(shop.forms) == 2 * copies


async def test_resend_of_a_magic_pay_finds_what_the_first_left(merchant: Merchant) -> None:
    """The fault meets the first request for an order: what follows is answered as ever."""
    lost = await order(merchant, "A1"), await order(merchant, "A2")
    after = [await pay(merchant, "p1", lost[0], "o_timeout_after_commit") for _ in range(2)]
    before = [await pay(merchant, "p2", lost[1], "o_timeout_before_commit") for _ in range(2)]
    again = await pay(merchant, "p3", lost[0], "o_timeout_after_commit")
    assert after == ["lost", "GM_API_BUS_0000015"]
    assert before == ["lost", ""]
    assert again == ""


async def test_insufficient_funds_are_the_reason_of_the_callback(
    merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """As on the cashier."""
    await pay(merchant, "p1", await order(merchant, "A1"), "o_insufficient")
    await sandbox.callbacks_idle()
    assert dict(shop.forms[0])["failReason"] == "付款人余额不足"


async def test_refund_of_a_magic_amount_meets_its_fault(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """Each refund by its own number; the payer has no part in it."""
    token = await order(merchant, "A1", "50000.00")
    await merchant.pay("p1", token)
    sandbox.confirm("A1")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await merchant.refund("B1", "A1", "9999.04")
    again = await merchant.refund("B1", "A1", "9999.04")
    paid = await merchant.refund("B2", "A1", "9999.01")
    assert again["errorCode"] == "GM_API_BUS_0000015"
    assert paid["data"]["status"] == "S"


async def test_openid_wins_over_the_amount(merchant: Merchant) -> None:
    """Where both are magic."""
    token = await order(merchant, "A1", "9999.04")
    assert await pay(merchant, "p1", token, "o_cancelled") == ""
    assert await merchant.status("A1") == "支付失败"


async def test_magic_can_be_switched_off(
    callback_settings: Settings, session: aiohttp.ClientSession
) -> None:
    """Then every value is an ordinary one."""
    async with Sandbox(**callback_settings, magic=False) as sandbox:
        merchant = Merchant(session, sandbox)
        token = await order(merchant, "A1", "9999.01")
        assert await pay(merchant, "p1", token, "o_timeout_after_commit") == ""
        assert await merchant.status("A1") == "待付款"


def test_table_has_each_value_once() -> None:
    """Amounts count up from 9999.00, and openids look like no other."""
    assert [value.cents for value in MAGIC_VALUES] == list(range(len(MAGIC_VALUES)))
    assert len({value.openid for value in MAGIC_VALUES}) == len(MAGIC_VALUES)
    assert all(value.openid.startswith("o_") for value in MAGIC_VALUES)


@pytest.mark.parametrize("amount", ["0.01", "1.00", "33.69", "9998.01", "19999.01", "9999.99"])
def test_ordinary_amount_is_not_magic(amount: str) -> None:
    """Above all the cent that everybody tests with."""
    assert find_magic(openid="oPayer-0123456789", amount=Decimal(amount)) is None


def test_orders_that_were_met_are_bounded() -> None:
    """What a caller can make grow is forgotten, the oldest first."""
    met = MetOrders()
    assert [met.meet("app", "A"), met.meet("app", "A"), met.meet("other", "A")] == [
        True,
        False,
        True,
    ]
    for number in range(100_000):
        met.meet("app", str(number))
    assert met.meet("app", "A")
