"""What is written to a file comes back from it, for every request that can be made."""

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.batch.lines_files import APP_KEY, read, write
from wxpay_async.batch.line import BatchRequest, OperationName
from wxpay_async.batch.lines import read_lines
from wxpay_async.protocol.idempotency_key import derive_request_id

NUMBERS = frozenset({"amount", "price", "totalAmount", "refundAmount", "quantity"})
OPTIONAL = frozenset({"requestId", "currency", "appId", "royaltyInfo"})

identifiers = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&="), min_size=4
).map(lambda text: text + "号")
texts = st.text(st.characters(categories=("L", "P", "S")), min_size=1, max_size=20).map(
    lambda text: f"商{text}品"
)
request_ids = st.text("abcXYZ019_-", min_size=1, max_size=32)
amounts = st.decimals("0.01", "9999999.99", places=2).map(str)
royalties = st.lists(
    st.fixed_dictionaries({"payeeMemberId": identifiers, "amount": st.just("0.01")}), max_size=1
)
refunds = st.fixed_dictionaries(
    {"outTradeNo": identifiers, "origOutTradeNo": identifiers, "refundAmount": amounts},
    optional={"requestId": request_ids, "currency": st.just("CNY"), "royaltyInfo": royalties},
)
pays = st.fixed_dictionaries(
    {"outTradeNo": identifiers, "payToken": identifiers, "terminalPayerId": identifiers},
    optional={"requestId": request_ids, "appId": identifiers},
)
queries = st.one_of(
    st.fixed_dictionaries({"outTradeNo": identifiers}),
    st.fixed_dictionaries({"tradeNo": identifiers}),
)


@st.composite
def trades(draw: st.DrawFn) -> dict[str, object]:
    """Draw the fields of a trade."""
    items: list[dict[str, object]] = []
    for number in draw(st.lists(identifiers, min_size=1, max_size=3, unique=True)):
        price, quantity = Decimal(draw(amounts)), draw(st.integers(1, 999))
        item = {"outTradeNo": number, "subject": draw(texts), "price": str(price)}
        item |= {"quantity": str(quantity), "totalAmount": str(price * quantity)}
        items.append({**item, "payeeIdentity": "100", "royaltyInfo": draw(royalties)})
    method = {"payProductCode": "66", "amount": draw(amounts), "openId": draw(identifiers)}
    row = {"tradeInfo": items, "payerIp": "11.22.33.44", "payMethod": method}
    return row if draw(st.booleans()) else {**row, "requestId": draw(request_ids)}


ROWS: dict[OperationName, st.SearchStrategy[dict[str, Any]]] = {
    "refund": refunds,
    "pay": pays,
    "query": queries,
    "trade": trades(),
}


def to_snake(name: str) -> str:
    """Return our name of a field."""
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


def rename(value: object, choose: Callable[[], bool]) -> object:
    """Return JSON of which some names are ours."""
    if isinstance(value, list):
        return [rename(item, choose) for item in value]
    if not isinstance(value, dict):
        return value
    return {to_snake(n) if choose() else n: rename(v, choose) for n, v in value.items()}


def write_numbers(value: object, choose: Callable[[], bool], name: str = "") -> str:
    """Write JSON of which some amounts are numbers, with the digits that they have."""
    if isinstance(value, dict):
        members = [f"{json.dumps(n)}:{write_numbers(v, choose, n)}" for n, v in value.items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(write_numbers(item, choose) for item in value) + "]"
    plain = name in NUMBERS and choose()
    return value if plain else json.dumps(value, ensure_ascii=choose())


def check_fields(request: BatchRequest, row: dict[str, Any], operation: OperationName) -> None:
    """Compare a request with the fields that it was written from."""
    for name, value in row.items():
        check_value(getattr(request, to_snake(name)), value)
    if "requestId" not in row and operation != "query":
        first = row["tradeInfo"][0] if operation == "trade" else row
        expected = derive_request_id(APP_KEY, operation, first["outTradeNo"])
        assert expected == getattr(request, "request_id", None)


def check_value(got: object, written: object) -> None:
    """Compare a value, and whatever is within it."""
    if isinstance(written, list):
        for item, fields in zip(got, written, strict=True):
            check_value(item, fields)
    elif isinstance(written, dict):
        for name, value in written.items():
            check_value(getattr(got, to_snake(name)), value)
    else:
        assert written == str(got)


@pytest.mark.parametrize("operation", ROWS)
@given(st.data())
def test_json_lines_come_back(
    tmp_path_factory: pytest.TempPathFactory, operation: OperationName, data: st.DataObject
) -> None:
    """By any mixture of names, with amounts as texts or as numbers, escaped or not."""
    rows = data.draw(st.lists(ROWS[operation], min_size=1, max_size=4))
    random = data.draw(st.randoms())

    def choose() -> bool:
        return random.random() < 0.5

    written = [write_numbers(rename(row, choose), choose) for row in rows]
    end = "\r\n" if choose() else "\n"
    path = write(tmp_path_factory.getbasetemp(), end.join(written), name="trip.jsonl")
    lines = read(path, operation)
    assert list(range(1, len(rows) + 1)) == [line.number for line in lines]
    for line, row in zip(lines, rows, strict=True):
        check_fields(line.request, row, operation)


@pytest.mark.parametrize("operation", ["refund", "pay", "query"])
@given(st.data())
def test_csv_comes_back(
    tmp_path_factory: pytest.TempPathFactory, operation: OperationName, data: st.DataObject
) -> None:
    """With any order of columns and any quoting, and empty cells for what a row lacks."""
    rows = data.draw(st.lists(ROWS[operation], min_size=1, max_size=4))
    for row in rows:
        row.pop("royaltyInfo", None)
    columns = data.draw(st.permutations(sorted({name for row in rows for name in row})))
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    buffer = io.StringIO(newline="")
    table = csv.writer(buffer, quoting=quoting, lineterminator="\r\n")
    ours = data.draw(st.booleans())
    table.writerow([to_snake(name) if ours else name for name in columns])
    table.writerows([[row.get(name, "") for name in columns] for row in rows])
    path = write(tmp_path_factory.getbasetemp(), buffer.getvalue(), name="trip.csv")
    lines = read(path, operation)
    assert list(range(2, len(rows) + 2)) == [line.number for line in lines]
    for line, row in zip(lines, rows, strict=True):
        check_fields(line.request, row, operation)


@given(st.lists(request_ids, min_size=1, max_size=30), st.integers(0, 30))
def test_check_finds_what_a_comparison_of_all_lines_finds(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], most: int
) -> None:
    """The duplicates, in the order of the file."""
    rows = [f"{one},R{n},O{n},1" for n, one in enumerate(ids)]
    header = "requestId,outTradeNo,origOutTradeNo,refundAmount"
    path = write(tmp_path_factory.getbasetemp(), "\n".join([header, *rows]), name="ids.csv")
    checked = read_lines(path, "refund").check(APP_KEY, most=most)
    again = [n + 2 for n, one in enumerate(ids) if one in ids[:n]]
    assert again[:most] == [fault.line for fault in checked.faults]
    assert len(again[most:]) == checked.more
    assert len(ids) == checked.lines
