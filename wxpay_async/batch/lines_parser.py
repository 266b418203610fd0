"""Turn the rows of a file into the lines of a batch; a fault does not end the reading.

The format is what the file's ending says, else its first character.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from attrs import define

from wxpay_async.batch.line import Line, OperationName
from wxpay_async.batch.lines_csv import Table
from wxpay_async.batch.lines_fields import Members, shape_of
from wxpay_async.batch.lines_file import MAX_LINE, Row
from wxpay_async.batch.lines_json import read_json
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import TradeItem

FileFormat = Literal["json", "csv"]

_FORMATS: Final[dict[str, FileFormat]] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
}


def get_format(path: Path) -> FileFormat | None:
    """Return what the ending of a file says about its format; None if it says nothing."""
    return _FORMATS.get(path.suffix.lower())


def refuse_trades(operation: OperationName) -> None:
    """Refuse CSV for trades, which have objects within objects.

    Raises:
        InvalidRequestError: the operation is `trade`.
    """
    if operation == "trade":
        raise InvalidRequestError(
            "CSV has no place for the orders of a trade",
            field="operation",
            allowed="JSON Lines for trade; CSV for pay, refund, query",
        )


@define
class LineParser:
    """Makes the lines of one file; each reading of the file needs a new parser.

    Attributes:
        operation: what each line asks for.
        app_key: the merchant's appKey, for requestIds that are derived.
        format: of the file, where it is known.
        lines: how many rows stood for a request until now, those with faults included.
    """

    operation: OperationName
    app_key: str
    format: FileFormat | None
    lines: int = 0

    def parse(self, rows: Iterable[Row]) -> Iterator[tuple[int, Line | InvalidRequestError]]:
        """Parse the rows of a file.

        Yields:
            The number of a row, and its line or what is wrong with it. After a header with a fault
            there is nothing more.
        """
        read: Callable[[str], Members | None] | None = None
        for number, raw in rows:
            line: Line | InvalidRequestError
            try:
                if read is None:
                    read = self._read_beginning(raw)
                    if self.format == "csv":
                        continue
                members = read(_decode(raw))
                if members is None:
                    continue
                line = _make_line(number, self.operation, members, self.app_key)
            except InvalidRequestError as error:
                line = error
            self.lines += read is not None
            yield number, line
            if read is None:
                return

    def _read_beginning(self, raw: bytes | None) -> Callable[[str], Members | None]:
        """Return the function that reads a row; the first row decides."""
        if self.format is None:
            self.format = "json" if raw and raw.lstrip()[:1] in b"{[" else "csv"
        shape = shape_of(self.operation)
        if self.format == "json":
            return functools.partial(read_json, shape=shape)
        refuse_trades(self.operation)
        return Table.from_header(_decode(raw), shape).read


def _make_line(number: int, operation: OperationName, members: Members, app_key: str) -> Line:
    """Make a line of its request's values; an absent requestId is derived from the order's number.

    Raises:
        InvalidRequestError: a value is missing or does not fit, and which.
    """
    shape = shape_of(operation)
    if operation == "query" or members.get("request_id"):
        return Line(number=number, request=shape.construct(members))
    key = _get_order_number(members)
    try:
        members["request_id"] = derive_request_id(app_key, operation, key)
    except InvalidRequestError as error:
        refused = error.called("outTradeNo")
    else:
        return Line(number=number, request=shape.construct(members), key=key)
    raise refused


def _get_order_number(members: Members) -> str:
    items: tuple[TradeItem, ...] | None = members.get("trade_info")
    key = items[0].out_trade_no if items else members.get("out_trade_no")
    if not isinstance(key, str):
        raise InvalidRequestError(
            "missing, and so is the outTradeNo that it would be derived from",
            field="requestId",
            allowed="one of the two",
        )
    return key


def _decode(raw: bytes | None) -> str:
    """Return the text of a row.

    Raises:
        InvalidRequestError: it is too long, or no UTF-8, or no text.
    """
    if raw is None:
        raise InvalidRequestError("the line is too long", allowed=f"at most {MAX_LINE} bytes")
    if b"\0" in raw:
        raise InvalidRequestError("a NUL byte", allowed="UTF-8 text; UTF-16 must be converted")
    if b"\r" in raw:
        raise InvalidRequestError("a CR within the line", allowed="lines that end with LF or CRLF")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        place = error.start + 1
    raise InvalidRequestError(
        f"byte {place} is no UTF-8", allowed="UTF-8; a file in GBK or UTF-16 must be converted"
    )
