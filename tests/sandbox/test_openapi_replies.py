"""What the sandbox answers has the fields that its description lists, no more and no less."""

from tests.sandbox.raw_merchant import MERCHANTS, PAY, QUERY, REFUND, TRADE, Merchant
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.openapi_replies import DATA, LEDGER_ENTRY
from wxpay_async.sandbox.payer_pages import describe_entry


async def test_each_reply_has_the_fields_of_its_description(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A trade to be scanned has no prepay, every other field is always there."""
    found = {TRADE: [(await merchant.trade("A0", product="65"))["data"]]}
    token = await merchant.trade_token("A1")
    found[TRADE].append((await merchant.trade("A2"))["data"])
    found[PAY] = [(await merchant.pay("p1", token))["data"]]
    sandbox.confirm("A1")
    found[REFUND] = [(await merchant.refund("B1", "A1", "1.00"))["data"]]
    found[QUERY] = [(await merchant.query(number))["data"] for number in ("A1", "A2", "B1")]
    found[MERCHANTS] = [(await merchant.call(MERCHANTS))["data"]]
    assert set(found) == set(DATA)
    for path, replies in found.items():
        for data in replies:
            assert set(DATA[path]["required"]) <= set(data) <= set(DATA[path]["properties"]), path


async def test_ledger_has_the_fields_of_its_description(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """Of a request and of a charge."""
    await merchant.complete("A1")
    for entry in sandbox.platform.ledger:
        described = describe_entry(entry)
        assert set(described) == set(LEDGER_ENTRY["properties"])
        assert described["kind"] in LEDGER_ENTRY["properties"]["kind"]["enum"]
