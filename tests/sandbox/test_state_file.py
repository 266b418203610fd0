"""State on disk: orders outlive the sandbox, and a file that is wrong is left alone."""

import itertools
import json
import stat
from pathlib import Path

import aiohttp
import pytest

from tests.sandbox.callback_shop import Settings
from tests.sandbox.raw_merchant import Merchant
from tests.support.tasks import wait_until
from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.error_codes import Code

SECRET = "fixed-secret"
OF_ANOTHER_MERCHANT = json.dumps(
    {
        "version": 1,
        "advance_by": 0.0,
        "last_number": 0,
        "purchases": [],
        "refunds": [],
        "ledger": [
            {
                "kind": "pay",
                "app_key": "other",
                "request_id": "",
                "out_trade_nos": [],
                "amount": "1.00",
                "at": 0.0,
            }
        ],
    }
).encode()


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Settings:
    """The arguments of a sandbox that keeps its state, and the merchant's secret."""
    return {**settings, "app_secret": SECRET, "state_file": tmp_path / "state.json"}


def check_private(path: Path) -> None:
    """Check that only its owner can read a file, and that nothing is left beside it."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_orders_outlive_the_sandbox(kept: Settings, session: aiohttp.ClientSession) -> None:
    """Statuses, refunds, payTokens, prepays, the ledger and the time that was advanced."""
    async with Sandbox(**kept) as first:
        merchant = Merchant(session, first)
        token = await merchant.trade_token("A1")
        paid_token = await merchant.trade_token("A2")
        await merchant.pay("p2", paid_token)
        first.confirm("A2")
        await merchant.refund("B1", "A2", "3.00")
        await merchant.trade("A3")
        first.cancel("A3")
        first.advance(60)
        ledger, prepays = first.platform.ledger, first.platform.prepays

    async with Sandbox(**kept) as second:
        merchant = Merchant(session, second)
        merchant._count = itertools.count(1000)
        statuses = [await merchant.status(number) for number in ("A1", "A2", "A3", "B1")]
        assert statuses == ["待付款", "支付成功", "支付失败", "退款成功"]
        assert second.platform.ledger == ledger
        assert second.platform.prepays == prepays
        assert second.platform.advance_by == 60
        repeated = await merchant.pay("p2", token)
        too_much = await merchant.refund("B2", "A2", "31.00")
        new = await merchant.pay("p1", token)
        other = await merchant.trade("A4")
        second.confirm("A1")

    assert repeated["errorCode"] == Code.REQUEST_ID_REPEATED
    assert too_much["errorCode"] == Code.REFUND_TOO_HIGH
    assert new["success"] is True
    numbers = [trade.trade_no for trade in second.platform.trades.values()]
    assert len(set(numbers)) == 4
    assert other["success"] is True


async def test_order_closes_by_the_time_in_which_the_sandbox_was_away(
    kept: Settings, session: aiohttp.ClientSession
) -> None:
    """Its limit is a time of the day, not of the process."""
    async with Sandbox(**kept) as first:
        await Merchant(session, first).trade("A1")
        first.advance(29 * 60)
    async with Sandbox(**kept) as second:
        assert second.platform.trades["A1"].status == "待付款"
        second.advance(60)
        assert second.platform.trades["A1"].status == "已关闭"


async def test_file_is_for_its_owner_only(kept: Settings, session: aiohttp.ClientSession) -> None:
    """It holds payTokens. Nothing is left beside it."""
    async with Sandbox(**kept) as sandbox:
        await Merchant(session, sandbox).trade("A1")
    check_private(kept["state_file"])


async def test_sandbox_without_a_change_writes_nothing(kept: Settings) -> None:
    """A look at the console is no change."""
    async with Sandbox(**kept):
        pass
    assert not kept["state_file"].exists()


async def test_change_is_written_while_the_sandbox_runs(
    kept: Settings, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a killed process loses a second at most."""
    monkeypatch.setattr("wxpay_async.sandbox.state_file._PERIOD", 0.01)
    async with Sandbox(**kept) as sandbox:
        await Merchant(session, sandbox).trade("A1")
        await wait_until(kept["state_file"].exists)
        content = json.loads(kept["state_file"].read_bytes())
    assert content["purchases"][0]["trades"][0]["item"]["out_trade_no"] == "A1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"notes",
        b"[]",
        b"{}",
        b'{"version": 2}',
        b'{"version": 1, "purchases": 7}',
        b"\xff",
        OF_ANOTHER_MERCHANT,
    ],
)
def test_file_of_something_else_is_refused_and_left_alone(kept: Settings, content: bytes) -> None:
    """Also a state of another merchant, whose orders would be lost."""
    path: Path = kept["state_file"]
    path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match="is no state of a sandbox"):
        Sandbox(**kept)
    assert path.read_bytes() == content


async def test_file_that_cannot_be_written_is_told_at_the_end(
    kept: Settings, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """There is no such folder."""
    sandbox = Sandbox(**{**kept, "state_file": tmp_path / "nowhere" / "state.json"})
    await sandbox.start()
    await Merchant(session, sandbox).trade("A1")
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        await sandbox.aclose()


def test_file_that_is_a_folder_is_refused(kept: Settings) -> None:
    """By the reason that the system gives."""
    kept["state_file"].mkdir()
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        Sandbox(**kept)
