"""Write how the lines of a batch ended: as JSON Lines, as CSV, and credentials by themselves.

`FILE.outcomes.jsonl` is derived from the store. A run writes it in one piece at its end, so a run
that is killed leaves the former file. It holds no credential: no payToken, no openid and no JSAPI
parameter. JSAPI parameters go into a file of their own (`Credentials`).
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import stat
from collections.abc import AsyncIterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Self

from attrs import define, field

from wxpay_async.batch.private_files import (
    Replacement,
    make_write_error,
    report_write_error,
    write_all,
)
from wxpay_async.batch.stamp import Stamp, begin_outcomes, identify_store, to_text
from wxpay_async.batch.tally import (
    LineOutcome,
    Tally,
    clean,
    code_of,
    is_replayed,
    label_of,
    order_of,
    text_of,
)
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.results import PayResult

__all__ = [
    "Credentials",
    "OutcomeWriter",
    "Stamp",
    "begin_outcomes",
    "identify_store",
    "make_row",
    "outcomes_path",
    "write_outcomes",
]

Form = Literal["jsonl", "csv"]

COLUMNS: Final[tuple[str, ...]] = (
    "line",
    "requestId",
    "outTradeNo",
    "tradeNo",
    "outcome",
    "status",
    "code",
    "message",
    "attempts",
    "generation",
    "replayed",
    "settledAt",
)

_BYTE_ORDER_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
"""Without it Excel takes the Chinese of a CSV file for another encoding."""

# What makes a spreadsheet take a cell for a formula; the wide ones do so in East Asian locales.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_NO_LINK_NO_TRANSLATION: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def outcomes_path(path: Path, form: Form = "jsonl") -> Path:
    """Return where the outcomes of a file are written: beside it."""
    return path.with_name(f"{path.name}.outcomes.{form}")


async def write_outcomes(
    path: Path,
    outcomes: AsyncIterable[LineOutcome],
    *,
    stamp: Stamp,
    begun_at: datetime | None = None,
    csv_path: Path | None = None,
) -> Tally:
    """Write outcomes in the order in which they come, and replace the former file at the end.

    Args:
        path: the file of outcomes, as JSON Lines.
        outcomes: of every line, in the order of the input (`Batch.recall`).
        stamp: of the first run.
        begun_at: when this run began, by the clock of the store; with the first one when absent.
        csv_path: where they are written as CSV, too; it has no stamp.

    Returns:
        How the lines ended.

    Raises:
        InDoubtError: a file cannot be written; what was done is done.
    """
    tally = Tally()
    writers: list[OutcomeWriter] = []
    try:
        writers.append(OutcomeWriter.open(path, stamp))
        if csv_path is not None:
            writers.append(OutcomeWriter.open(csv_path, None))
        async for outcome in outcomes:
            row = make_row(outcome, begun_at=begun_at or stamp.begun_at)
            for writer in writers:
                writer.write(row)
            tally.add(outcome)
        for writer in writers:
            await asyncio.to_thread(writer.commit)  # a disk may take seconds
    finally:
        for writer in writers:
            writer.discard()
    return tally


@define(eq=False)
class OutcomeWriter:
    """Writes a file of outcomes, which is there when it is complete.

    Everything raises `InDoubtError` where the file cannot be written; what was done is done.
    """

    _replacement: Replacement
    _table: csv.DictWriter[str] | None

    @classmethod
    def open(cls, path: Path, stamp: Stamp | None) -> Self:
        """Begin a file: JSON Lines with a stamp, or CSV without one."""
        with report_write_error(path):
            replacement = Replacement.open(path)
        # What is written here stays in the buffer, and fails with the rest.
        if stamp is not None:
            replacement.file.write(f"{stamp.to_json()}\n")
            return cls(replacement, None)
        replacement.file.write(_BYTE_ORDER_MARK)
        table: csv.DictWriter[str] = csv.DictWriter(replacement.file, COLUMNS)
        table.writeheader()
        return cls(replacement, table)

    def write(self, row: Mapping[str, object]) -> None:
        """Write what `make_row` made."""
        try:  # without a context manager: this is done a million times
            if self._table is None:
                self._replacement.file.write(f"{_to_json(row)}\n")
            else:
                self._table.writerow({name: to_cell(value) for name, value in row.items()})
        except OSError as error:
            raise make_write_error(self._replacement.path, error) from error

    def commit(self) -> None:
        """Replace the former file."""
        with report_write_error(self._replacement.path):
            self._replacement.commit()

    def discard(self) -> None:
        """Drop what was not committed."""
        self._replacement.discard()


def make_row(outcome: LineOutcome, *, begun_at: datetime) -> dict[str, object]:
    """Return what a file of outcomes says of a line. It names each field: no result is dumped.

    Args:
        outcome: of the line.
        begun_at: when the run began, by the clock of the store: `replayed` says that the line had
            ended before.
    """
    line, result, error = outcome.request, outcome.result, outcome.error
    ended = error or result
    return {
        "line": line.number,
        "requestId": line.request_id,
        "outTradeNo": order_of(line.request) or _clean(getattr(result, "out_trade_no", None)),
        "tradeNo": _find_trade_no(result),
        "outcome": label_of(outcome),
        "status": _clean(getattr(result, "status", None)),
        "code": code_of(error) if error else None,
        "message": text_of(error, line.request) if error else None,
        "attempts": getattr(ended, "attempts", 0),
        "generation": line.generation,
        "replayed": is_replayed(outcome, begun_at=begun_at),
        "settledAt": to_text(outcome.settled_at) if outcome.settled_at else None,
    }


def to_cell(value: object) -> str:
    """Return a cell of CSV, which no spreadsheet takes for a formula."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


@define(eq=False)
class Credentials:
    """Writes the JSAPI parameters of payments as they come: a prepay lives 20 minutes only.

    New lines are appended. Where a requestId stands twice, the later line counts.

    Raises:
        InvalidRequestError: the file cannot be opened.
        InDoubtError: a line cannot be written; the prepay can be had again by the same request.
    """

    path: Path
    _descriptor: int = field(init=False, default=-1)

    def __enter__(self) -> Self:
        """Open the file, for its owner only."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK_NO_TRANSLATION
        try:
            self._descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise self._make_error(f"cannot be opened ({error.strerror})") from error
        try:
            self._prepare()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def add(self, outcome: LineOutcome) -> None:
        """Write the JSAPI parameters of a payment that succeeded; ignore any other outcome."""
        result = outcome.result
        if not isinstance(result, PayResult):
            return
        row = {
            "line": outcome.request.number,
            "requestId": outcome.request.request_id,
            "outTradeNo": order_of(outcome.request.request),
            "jsapi": result.jsapi_params(),
            "expiresAt": to_text(result.expires_at) if result.expires_at else None,
        }
        with report_write_error(self.path):
            write_all(self._descriptor, f"{_to_json(row)}\n".encode())

    def _prepare(self) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise self._make_error("is no file")
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(self._descriptor, 0o600)  # it may have been there before
            self._end_last_line()
        except OSError as error:
            raise self._make_error(f"cannot be written ({error.strerror})") from error

    def _make_error(self, reason: str) -> InvalidRequestError:
        return InvalidRequestError(f"{self.path}: {reason}", allowed="a new file, or one of ours")

    def _end_last_line(self) -> None:
        """End a line that a killed run left half-written."""
        size = os.lseek(self._descriptor, 0, os.SEEK_END)
        if size:
            os.lseek(self._descriptor, size - 1, os.SEEK_SET)
            if os.read(self._descriptor, 1) != b"\n":
                write_all(self._descriptor, b"\n")


def _find_trade_no(result: object) -> str | None:
    """Return the platform's number; of several orders, the first one's."""
    orders = getattr(result, "trade_res_list", ())
    return _clean(getattr(orders[0] if orders else result, "trade_no", None))


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text)


def _to_json(members: Mapping[str, object]) -> str:
    return _ENCODER.encode(members)
