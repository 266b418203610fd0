"""Find the inputs of a batch before anything is sent: its operation, its store and its files."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from pathlib import Path
from typing import Final, cast

from attrs import frozen

from wxpay_async import InvalidRequestError
from wxpay_async.adapters.redis_url import REDIS_SCHEMES
from wxpay_async.batch.line import OPERATION_NAMES, OperationName
from wxpay_async.batch.lines_file import read_rows
from wxpay_async.batch.lines_parser import get_format
from wxpay_async.batch.outcome_file import outcomes_path

STORE: Final = "WXPAY_STORE_URL"
QUOTA: Final = "WXPAY_QUOTA_URL"
SHARE: Final = "WXPAY_BATCH_SHARE"

_SHARED: Final = ("postgresql", "postgres", "mysql", "mariadb", *REDIS_SCHEMES)
_COLUMNS: Final[dict[str, OperationName]] = {
    "refundAmount": "refund",
    "refund_amount": "refund",
    "payToken": "pay",
    "pay_token": "pay",
    "tradeInfo": "trade",
    "trade_info": "trade",
}
"""Names that a line of one operation must have, and a line of another must not."""


def name_settings(*, store: str | None, quota: str | None, share: int | None) -> dict[str, str]:
    """Return the options that are given, under the names of the variables that they replace."""
    named = {STORE: store, QUOTA: quota, SHARE: str(share or "")}
    return {name: value for name, value in named.items() if value}


def find_operation(path: Path) -> OperationName:
    """Return what the lines of a file ask for, by the names in its first one.

    `query` is never found: a file of order numbers without amounts may be meant for anything.

    Raises:
        InvalidRequestError: the names do not decide it, or the file cannot be read.
    """
    _, first = next(read_rows(path))
    text = (first or b"").decode("utf-8", "replace")
    kind = get_format(path) or ("json" if text.lstrip()[:1] in {"{", "["} else "csv")
    names = _read_names(text, kind)
    found: list[OperationName] = [each for name, each in _COLUMNS.items() if name in names]
    if found and len(set(found)) == 1:
        return found[0]
    raise InvalidRequestError(
        f"the first line of {path} does not say what its lines ask for",
        field="--operation",
        allowed=", ".join(OPERATION_NAMES),
    )


def _read_names(text: str, kind: str) -> list[str]:
    with contextlib.suppress(ValueError, RecursionError, csv.Error, StopIteration):
        if kind == "csv":
            return next(csv.reader([text]))
        members: object = json.loads(text)
        if isinstance(members, dict):
            return list(cast("dict[str, object]", members))
    return []


def choose_store(given: str | None, path: Path) -> str:
    """Return the address of the store: the option's, the environment's, or a file beside the file.

    Raises:
        InvalidRequestError: the folder's name cannot stand in an address.
    """
    named = given or os.environ.get(STORE, "").strip()
    if named:
        return named
    database = path.absolute().with_name("wxpay.db")
    if "?" in str(database) or "%" in str(database):
        raise InvalidRequestError(
            f"{database} cannot stand in an address", field="--store", allowed="another place"
        )
    return f"sqlite:///{database}"


def find_sqlite_file(url: str) -> Path | None:
    """Return the file of a store of SQLite; None for any other store.

    Raises:
        InvalidRequestError: it is no address, or needs an extra.
    """
    if url.partition(":")[0].partition("+")[0].lower() != "sqlite":
        return None
    try:
        from wxpay_async.adapters.stores.sql_engines import (  # noqa: PLC0415 - an extra
            is_in_memory,
            parse_url,
        )
    except ImportError as error:
        raise InvalidRequestError(str(error)) from error
    address = parse_url(url)
    return None if is_in_memory(address) else Path(address.database or "")


def create_privately(path: Path) -> None:
    """Create the file of a store, for its owner only, unless it is there.

    Raises:
        InvalidRequestError: it cannot be created.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise InvalidRequestError(
            f"{path}: cannot be opened ({error.strerror})", field="--store", allowed="another place"
        ) from None


def check_shared(store: str, quota: str | None) -> None:
    """Check that workers on other machines can share the store and the quota.

    Raises:
        InvalidRequestError: they cannot.
    """
    if store.partition(":")[0].partition("+")[0].lower() not in _SHARED:
        raise InvalidRequestError(
            "workers cannot share this store",
            field=f"--store, {STORE}",
            allowed="postgresql://, mysql://, mariadb:// or redis://",
        )
    if not (quota or os.environ.get(QUOTA, "").strip()):
        raise InvalidRequestError(
            "not set: workers would each use the whole quota",
            field=f"--quota, {QUOTA}",
            allowed="redis://",
        )


@frozen
class Places:
    """Where the outcomes of a batch are written.

    Attributes:
        outcomes: as JSON Lines.
        table: as CSV; None without `--csv`.
    """

    outcomes: Path
    table: Path | None

    @classmethod
    def choose(cls, path: Path, out: Path | None, *, as_csv: bool) -> Places:
        """Choose them.

        Raises:
            InvalidRequestError: there is no such folder, or one file would be written over another.
        """
        outcomes = out or outcomes_path(path)
        table = None
        if as_csv:
            table = outcomes_path(path, "csv") if out is None else out.with_suffix(".csv")
        if outcomes.resolve() in {path.resolve(), table and table.resolve()} or table == path:
            raise InvalidRequestError(
                f"{outcomes} would be written twice", field="--out", allowed="another place"
            )
        if not outcomes.parent.is_dir():
            raise InvalidRequestError(
                f"{outcomes.parent} is no folder", field="--out", allowed="a file in a folder"
            )
        return cls(outcomes, table)
