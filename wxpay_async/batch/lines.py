"""Read the requests of a batch from a file: JSON Lines, or CSV with a header.

Every fault is named with its line, its field and what is allowed. Unknown names, names that stand
twice, rounded amounts and lines in another encoding are faults, so that no value is misread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from wxpay_async.batch.checking import Checked, Fault, FaultList, open_request_ids
from wxpay_async.batch.line import OPERATION_NAMES, Line, OperationName
from wxpay_async.batch.lines_file import FileState, get_state, read_rows
from wxpay_async.batch.lines_parser import LineParser, get_format, refuse_trades
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.validators import check_identifier

__all__ = ["Checked", "Fault", "Lines", "read_lines"]

_MOST: Final = 100


def read_lines(path: str | os.PathLike[str], operation: OperationName) -> Lines:
    """Name a file of requests; it is read when its lines are asked for.

    The file is UTF-8 and holds, by its ending (`.jsonl`, `.ndjson`, `.json` or `.csv`, else by its
    first character), JSON Lines, an object a line; or CSV with a header, for every operation but
    `trade`. Names are the platform's (`outTradeNo`) or in snake case. Blank lines are skipped.
    Amounts are texts, or JSON numbers without an exponent. A line without `requestId` gets the one
    that `derive_request_id` makes of the operation and its `outTradeNo`.

    Args:
        path: the file. It must not change while it is worked on.
        operation: what each of its lines asks for.

    Raises:
        InvalidRequestError: there is no such operation, or the file's ending says CSV for trades.
    """
    lines = Lines(path=path, operation=operation)
    if get_format(lines.path) == "csv":
        refuse_trades(operation)
    return lines


def _check_operation(_: object, attribute: object, value: object) -> None:
    del attribute
    if value not in OPERATION_NAMES:
        raise InvalidRequestError(
            f"{value!r:.40} is unknown", field="operation", allowed=", ".join(OPERATION_NAMES)
        )


@define
class _Memory:
    """What `Lines` remembers of its file.

    Attributes:
        checked: the state in which it was checked.
    """

    checked: FileState | None = None


@frozen(kw_only=True)
class Lines:
    """The requests of a file, which can be read as often as needed; see `read_lines`.

    Attributes:
        path: the file.
        operation: what each of its lines asks for.
    """

    path: Path = field(converter=Path)
    operation: OperationName = field(validator=_check_operation)
    _memory: _Memory = field(factory=_Memory, init=False, repr=False, eq=False)

    def read(self, app_key: str) -> Iterator[Line]:
        """Read the lines one by one, with a block of the file in memory.

        Only `check` compares the lines with each other.

        Args:
            app_key: the merchant's appKey, for requestIds that are derived.

        Yields:
            Each line, in the order of the file.

        Raises:
            InvalidRequestError: at the first fault, with the file, the line, the field and what is
                allowed; or the file cannot be read, is empty, or has changed since it was checked
                or while it is read.
        """
        parser = self._make_parser(app_key)
        for number, line in parser.parse(read_rows(self.path, self._memory.checked)):
            if not isinstance(line, Line):
                raise self._locate(number, line)
            yield line
        self._refuse_empty(parser.lines)

    def check(self, app_key: str, *, most: int = _MOST) -> Checked:
        """Read the whole file and list what is wrong, also requestIds that stand in it twice.

        It takes the same memory for any number of lines: the requestIds are compared in a temporary
        table on the disk, of some 50 bytes a line. Afterwards `read` refuses the file if it has
        changed.

        Args:
            app_key: the merchant's appKey, for requestIds that are derived.
            most: how many faults to keep; the others are counted.

        Raises:
            InvalidRequestError: the file cannot be read, is empty, or changes while it is read; or
                there is no room for the temporary table.
        """
        parser = self._make_parser(app_key)
        state = get_state(self.path)
        faults, duplicates = FaultList(most), FaultList(most)
        with open_request_ids() as ids:
            for number, line in parser.parse(read_rows(self.path, state)):
                if not isinstance(line, Line):
                    faults.add(number, line.reason)
                elif line.request_id is not None:
                    ids.add(line.request_id, number)
            for number, first in ids.find_duplicates():
                duplicates.add(number, _describe_duplicate(first))
        found = faults.merge(duplicates)
        self._refuse_empty(parser.lines or found.total)
        self._memory.checked = state
        kept = tuple(found.kept)
        return Checked(lines=parser.lines, faults=kept, more=found.total - len(kept))

    def _make_parser(self, app_key: str) -> LineParser:
        check_identifier(app_key, "app_key")
        return LineParser(self.operation, app_key, get_format(self.path))

    def _locate(self, number: int, error: InvalidRequestError) -> InvalidRequestError:
        located = InvalidRequestError(f"{self.path}, line {number}: {error.reason}")
        located.field, located.allowed = error.field, error.allowed
        return located

    def _refuse_empty(self, lines: int) -> None:
        if not lines:
            raise InvalidRequestError(f"{self.path}: no request stands in the file")


def _describe_duplicate(first: int) -> str:
    return InvalidRequestError(
        f"the same as in line {first}; where it is absent, it is derived from outTradeNo",
        field="requestId",
        allowed="one line for each",
    ).reason
