"""Read CSV: a header, and a line for each request.

No field of a request may hold the end of a line, so a record is one line: a quote that is not
closed is a fault of its line, and does not swallow the file.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Container, Set as AbstractSet
from typing import Final

from attrs import frozen

from wxpay_async.batch.lines_fields import Members, Shape
from wxpay_async.errors import InvalidRequestError

_SHORTENED: Final = re.compile(r"[0-9](?:\.[0-9]+)?E\+[0-9]{1,3}", re.ASCII)
"""What a spreadsheet makes of a long number when it saves it: the last digits are lost."""


@frozen
class Table:
    """The columns of a CSV file, and how its lines are read.

    Attributes:
        shape: what a line may hold.
        columns: the attribute in each column.
    """

    shape: Shape
    columns: tuple[str, ...]

    @classmethod
    def from_header(cls, text: str, shape: Shape) -> Table:
        """Read the header.

        Raises:
            InvalidRequestError: a column is unknown, stands twice or is missing, and which.
        """
        names, allowed = _split(text), shape.allowed(shape.plain)
        if len(names) == 1 and (";" in text or "\t" in text):
            raise InvalidRequestError("the columns are not separated by commas", allowed=allowed)
        columns = [shape.names[name] for name in names if name in shape.names]
        if len(set(columns)) != len(names):
            raise shape.refuse_names(names, shape.plain)
        for name, wire in shape.wire_names.items():
            if name in columns and name not in shape.plain:
                problem = "no cell can hold it; write JSON Lines"
                raise InvalidRequestError(problem, field=wire, allowed=allowed)
            if name in _get_needed(shape, columns) and name not in columns:
                raise InvalidRequestError("the column is missing", field=wire, allowed=allowed)
        return cls(shape, tuple(columns))

    def read(self, text: str) -> Members | None:
        """Read the values of a line; an empty cell is an absent value.

        Returns:
            The values; None for a line of empty cells, as a spreadsheet writes below the last row.

        Raises:
            InvalidRequestError: it is no CSV, or has more or fewer cells than the header.
        """
        cells = _split(text)
        if len(cells) != len(self.columns):
            raise InvalidRequestError(
                f"{len(cells)} cells", allowed=f"{len(self.columns)}, as in the header"
            )
        members = {name: cell for name, cell in zip(self.columns, cells, strict=True) if cell}
        if "E+" in text:
            self._refuse_shortened(members)
        return members or None

    def _refuse_shortened(self, members: Members) -> None:
        for name, cell in members.items():
            if name not in self.shape.numbers and _SHORTENED.fullmatch(cell):
                raise InvalidRequestError(
                    "a spreadsheet has shortened this number, and its last digits are lost",
                    field=self.shape.wire_names[name],
                    allowed="all of its digits; format the column as text",
                )


def _get_needed(shape: Shape, columns: Container[str]) -> AbstractSet[str]:
    """Return the attributes that need a column.

    The requestId needs none where the order's number is there, which it is derived from.
    """
    if "request_id" in shape.required and "request_id" not in columns:
        return shape.required - {"request_id"} | {"out_trade_no"}
    return shape.required


def _split(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")  # nearly always, and several times as fast
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        problem = str(error)  # which repeats nothing of the line
    if problem == "unexpected end of data":
        problem = "a quote is not closed before the line ends"
    raise InvalidRequestError(f"no CSV ({problem})", allowed="cells separated by commas")
