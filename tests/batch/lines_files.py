"""Files of requests for the tests, and what reading them says."""

import json
from pathlib import Path

import pytest

from wxpay_async.batch.line import Line, OperationName
from wxpay_async.batch.lines import read_lines
from wxpay_async.errors import InvalidRequestError

APP_KEY = "app-1"
HEADER = "requestId,outTradeNo,origOutTradeNo,refundAmount"


def refund_fields(number: int = 1, **changes: object) -> dict[str, object]:
    """Return the fields of a refund, with changes; `...` takes one away."""
    fields = {
        "requestId": f"r-{number}",
        "outTradeNo": f"R{number}",
        "origOutTradeNo": f"O{number}",
        "refundAmount": "12.50",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def write_json(folder: Path, *rows: object, name: str = "refunds.jsonl") -> Path:
    """Write JSON Lines; a row that is a text is written as it is."""
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return write(folder, "".join(text + "\n" for text in texts), name=name)


def write(folder: Path, content: str | bytes, *, name: str = "refunds.csv") -> Path:
    """Write a file as it is."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, operation: OperationName = "refund") -> list[Line]:
    """Read all lines of a file."""
    return list(read_lines(path, operation).read(APP_KEY))


def read_fault(path: Path, operation: OperationName = "refund") -> str:
    """Return what reading a file raises; its check must say the same of the same line."""
    with pytest.raises(InvalidRequestError) as caught:
        read(path, operation)
    checked = read_lines(path, operation).check(APP_KEY)
    first = checked.faults[0]
    assert f"{path}, line {first.line}: {first.reason}" == str(caught.value)
    return str(caught.value)
