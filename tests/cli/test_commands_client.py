"""The commands that call a platform, against a sandbox."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.harness import ORDER, PAY, SALE, TRADE, Run, create_trade
from wxpay_async import derive_request_id
from wxpay_async.sandbox import Sandbox


def test_commands_lead_from_the_order_to_the_refund(run: Run, sandbox: Sandbox) -> None:
    """The five client commands lead through one payment."""
    order = ("--out-trade-no", "201910170001")
    trade = run(*TRADE, *order, "--amount", "9.99", "--json").fields()
    prepay = run(*PAY, *order, "--pay-token", trade["payToken"], "--json").fields()
    assert {"timeStamp", "nonceStr", "package", "signType", "paySign"} == set(
        prepay["requestPayment"]
    )
    assert "awaiting" == run("query", *order, "--json").fields()["state"]
    sandbox.confirm("201910170001")
    status = run("query", "--trade-no", trade["tradeResList"][0]["tradeNo"], "--json").fields()
    assert ("paid", "9.99") == (status["state"], status["totalAmount"])
    refund = ("refund", "--out-trade-no", "R1", "--orig-out-trade-no", "201910170001")
    assert "S" == run(*refund, "--amount", "1.00", "--json").fields()["status"]
    kinds = [entry.kind for entry in sandbox.platform.ledger]
    assert ["trade", "pay", "charge", "refund"] == kinds


def test_trade_of_several_pieces_shares_the_amount(run: Run, sandbox: Sandbox) -> None:
    """The amount is what the payer pays, and the price its exact share."""
    run(*TRADE, *ORDER, "--amount", "9.99", "--quantity", "3", "--json").fields()
    item = sandbox.platform.trades["1"].item
    assert ("3.33", "3", "9.99") == (str(item.price), item.quantity, str(item.total_amount))


def test_request_ids_without_the_option_are_derived(run: Run, sandbox: Sandbox) -> None:
    """The same purchase has the same requestId in every process."""
    run(*PAY, *ORDER, "--pay-token", create_trade(run))
    sandbox.confirm("1")
    run("refund", "--out-trade-no", "R", "--orig-out-trade-no", "1", "--amount", "1")
    purchases = (("trade", "1"), ("pay", "1"), ("refund", "R"))
    sent = [entry.request_id for entry in sandbox.platform.ledger if entry.request_id]
    assert [derive_request_id(sandbox.app_key, *purchase) for purchase in purchases] == sent


def test_commands_without_an_app_id_send_none(run: Run, sandbox: Sandbox) -> None:
    """The platform's own is used."""
    payer = ("--openid", "openid-of-payer")
    trade = run("trade", *SALE, *ORDER, *payer, "--amount", "1", "--json").fields()
    prepay = run("pay", *ORDER, *payer, "--pay-token", trade["payToken"], "--json").fields()
    assert "requestPayment" in prepay
    assert not [call for call in sandbox.platform.recent if b"appId" in call.body]


def test_repeated_trade_makes_no_second_order(run: Run, sandbox: Sandbox) -> None:
    """The platform recognises the purchase, even from another process."""
    command = (*TRADE, *ORDER, "--amount", "1.00", "--json")
    run(*command).fields()
    assert run(*command).code in {0, 4}
    assert 1 == len(sandbox.platform.ledger)


def test_repeated_trade_with_another_payee_is_no_success(run: Run, sandbox: Sandbox) -> None:
    """The first order stands, for the first payee; also where no store remembers it."""
    command = (*TRADE, *ORDER, "--amount", "1.00", "--json")
    run(*command).fields()
    found = run(*command, "--payee", "999")
    assert 4 == found.code
    assert "in doubt: the requestId was used before" in found.error()
    assert 1 == len(sandbox.platform.ledger)


def test_request_id_of_the_option_is_sent_as_it_is(run: Run, sandbox: Sandbox) -> None:
    """It is not derived."""
    run(*TRADE, *ORDER, "--amount", "1.00", "--request-id", "mine-1")
    assert ["mine-1"] == [entry.request_id for entry in sandbox.platform.ledger]


def test_repeated_pay_needs_the_next_generation(run: Run, sandbox: Sandbox) -> None:
    """A payment that is repeated ends in doubt; under the next generation it is a new one."""
    again = (*PAY, *ORDER, "--pay-token", create_trade(run), "--json")
    assert [0, 4] == [run(*again).code for _ in range(2)]
    prepay = run(*again, "--generation", "1").fields()
    assert derive_request_id(sandbox.app_key, "pay", "1", 1) == prepay["requestId"]


def test_generations_of_trade_and_refund_are_derived(run: Run, sandbox: Sandbox) -> None:
    """The requestIds of trade and refund have generations too."""
    run(*PAY, *ORDER, "--pay-token", create_trade(run, "--generation", "2"))
    sandbox.confirm("1")
    refund = ("refund", "--out-trade-no", "R", "--orig-out-trade-no", "1", "--amount", "1")
    assert 0 == run(*refund, "--generation", "3").code
    sent = {entry.kind: entry.request_id for entry in sandbox.platform.ledger}
    assert derive_request_id(sandbox.app_key, "trade", "1", 2) == sent["trade"]
    assert derive_request_id(sandbox.app_key, "refund", "R", 3) == sent["refund"]


def test_generation_beside_a_request_id_is_refused(run: Run, sandbox: Sandbox) -> None:
    """Which of the two would count is not guessed, and nothing is sent."""
    own = ("--request-id", "mine-1", "--generation", "1")
    found = run(*TRADE, *ORDER, "--amount", "1", *own)
    assert 2 == found.code
    assert "error: --generation: " in found.error()
    assert not sandbox.platform.calls


@pytest.mark.usefixtures("sandbox")
def test_pay_token_from_a_file_is_read_without_its_line_break(run: Run, tmp_path: Path) -> None:
    """The payment succeeds."""
    path = tmp_path / "token"
    path.write_text(f"{create_trade(run)}\n")
    prepay = run(*PAY, *ORDER, "--pay-token-file", str(path), "--json").fields()
    assert "1.00" == prepay["instAmount"]


@pytest.mark.usefixtures("sandbox")
def test_pay_token_file_of_a_dash_is_stdin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The payment succeeds."""
    stdin = io.TextIOWrapper(io.BytesIO(f"{create_trade(run)}\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    prepay = run(*PAY, *ORDER, "--pay-token-file", "-", "--json").fields()
    assert "1.00" == prepay["instAmount"]


def test_merchants_as_json_are_one_object_a_line(run: Run, sandbox: Sandbox) -> None:
    """They come from as many pages as it takes, and no more than asked for."""
    found = run("merchants", "--page-size", "10", "--limit", "25", "--json")
    ids = [json.loads(line)["merchantId"] for line in found.out.splitlines()]
    assert [merchant for merchant, _ in sandbox.platform.merchants[:25]] == ids
    assert 3 == sandbox.platform.calls["/api/company/merchants"]


def test_merchants_without_a_limit_are_all_in_the_table(run: Run, sandbox: Sandbox) -> None:
    """The table has their names."""
    shown = run("merchants")
    assert (0, "") == (shown.code, shown.err)
    assert all(name in shown.out for _, name in sandbox.platform.merchants)


@pytest.mark.usefixtures("sandbox")
def test_pay_prints_an_object_that_can_be_copied(run: Run) -> None:
    """It prints the object for wx.requestPayment in one piece; trade prints the payToken."""
    lines = run(*TRADE, *ORDER, "--amount", "1.00").out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    shown = run(*PAY, *ORDER, "--pay-token", rows["payToken"].strip())
    above, brace, below = shown.out.partition("{")
    assert json.loads(brace + below)["package"].startswith("prepay_id=")
    assert "paySign" not in above


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--amount", "1.005"], "amount"),
        (["--amount", "10", "--quantity", "3"], "price"),
        (["--amount", "1", "--payer-ip", "here"], "payerIp"),
        (["--amount", "1", "--timeout-express", "5m"], "timeoutExpress"),
        (["--amount", "1", "--request-id", "x" * 33], "requestId"),
        (["--amount", "1", "--timeout", "1"], "timeout"),
    ],
)
def test_trade_with_a_bad_field_sends_nothing(
    run: Run, sandbox: Sandbox, arguments: Sequence[str], named: str
) -> None:
    """The platform's name of the field is in the error."""
    found = run(*TRADE, *ORDER, *arguments)
    assert 2 == found.code
    assert f"error: {named}: " in found.error()
    assert not sandbox.platform.calls


@pytest.mark.usefixtures("sandbox")
def test_trade_without_an_openid_needs_a_scanned_product(run: Run) -> None:
    """In a mini program the openid is required."""
    trade = ("trade", *SALE, *ORDER, "--amount", "1")
    assert "error: openId: " in run(*trade).error()
    assert 0 == run(*trade, "--pay-product-code", "65").code
