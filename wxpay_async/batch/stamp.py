"""Write and check the stamp: the first line of a file of outcomes.

It names the store and the time of the first run. With another store, or after the retention of the
same store, lines would be sent a second time. So a run checks the stamp of an earlier run before it
sends anything.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlsplit

from attrs import frozen

from wxpay_async.adapters.redis_url import read_redis_url
from wxpay_async.batch.line import OPERATION_NAMES, OperationName
from wxpay_async.batch.private_files import remove_leftovers, write_in_one_piece
from wxpay_async.errors import InvalidRequestError

_VERSION: Final = 1
_DAY: Final = 24 * 3600.0
_LONGEST_STAMP: Final = 10_000


def identify_store(url: str) -> str:
    """Return what identifies a store: its address without login and options.

    Args:
        url: the address, as `SqlStore` or `RedisStore` takes it.

    Raises:
        InvalidRequestError: it is no address. The error does not repeat it: it may hold a password.
    """
    if url.lower().startswith(("redis", "unix:")):
        return _identify_redis(url)
    from wxpay_async.adapters.stores.sql_engines import parse_url  # noqa: PLC0415 - an extra

    address = parse_url(url)
    backend, database = address.get_backend_name(), address.database or ""
    if backend == "sqlite":
        return f"sqlite:///{Path(database).absolute()}"
    return f"{backend}://{(address.host or '').lower()}:{address.port or ''}/{database}"


def _identify_redis(url: str) -> str:
    address = read_redis_url(url)
    parts = urlsplit(address.single)
    chosen = dict(parse_qsl(parts.query)).get("db")
    if address.scheme == "unix":
        return f"unix://{parts.path}?db={chosen or 0}"
    hosts = ",".join(f"{host}:{port}" for host, port in address.hosts)
    service = f"/{address.service}" if address.service else ""
    return f"{address.scheme}://{hosts}{service}/{chosen or parts.path.strip('/') or 0}"


@frozen(kw_only=True)
class Stamp:
    """The first line of a file of outcomes: the batch that they belong to.

    Attributes:
        store: which store knows them (`identify_store`); no password.
        app_key: the merchant's developer id.
        operation: what the lines ask for.
        input: the name of the file with the lines.
        begun_at: when the first run began.
        version: of the file's format.
    """

    store: str
    app_key: str
    operation: OperationName
    input: str
    begun_at: datetime
    version: int = _VERSION

    def to_json(self) -> str:
        """Return the line, without its end."""
        members = {
            "version": self.version,
            "store": self.store,
            "appKey": self.app_key,
            "operation": self.operation,
            "input": self.input,
            "begunAt": to_text(self.begun_at),
        }
        return json.dumps(members)

    @classmethod
    def read(cls, path: Path) -> Stamp:
        """Read the stamp of a file of outcomes.

        Raises:
            InvalidRequestError: the file cannot be read, or begins with no stamp.
        """
        try:
            with path.open("rb") as file:
                first = file.readline(_LONGEST_STAMP)
        except OSError as error:
            raise _make_error(path, f"cannot be read ({error.strerror})") from error
        try:
            return cls._parse(cast("dict[str, Any]", json.loads(first)))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _make_error(
                path,
                "its first line is not the stamp of a batch",
                "the outcomes that an earlier run wrote; name another place (--out) if this file "
                "is something else",
            ) from None

    @classmethod
    def _parse(cls, members: dict[str, Any]) -> Stamp:
        texts = [members[name] for name in ("store", "appKey", "operation", "input")]
        store, app_key, operation, name = texts
        begun_at = datetime.fromisoformat(members["begunAt"])
        if not all(isinstance(text, str) for text in texts) or members["version"] != _VERSION:
            raise ValueError
        if operation not in OPERATION_NAMES or begun_at.tzinfo is None:
            raise ValueError
        return cls(store=store, app_key=app_key, operation=operation, input=name, begun_at=begun_at)

    def check(self, path: Path, this: Stamp, *, retention: float) -> None:
        """Check that a run may continue what this stamp of an earlier run began.

        Args:
            path: the file of outcomes that begins with it, for the error.
            this: the stamp of the run that is about to begin.
            retention: seconds for which the store remembers a finished operation.

        Raises:
            InvalidRequestError: the lines could be sent a second time.
        """
        self._check_same(path, "store", self.store, this.store)
        self._check_same(path, "appKey", self.app_key, this.app_key)
        self._check_same(path, "operation", self.operation, this.operation)
        age = (this.begun_at - self.begun_at) / timedelta(seconds=1)
        if age > retention - _DAY:
            raise _make_error(
                path,
                f"the batch began {age / _DAY:.0f} days ago, at {to_text(self.begun_at)}, and "
                f"the store forgets finished operations after {retention / _DAY:.0f} days: lines "
                "that were executed would be sent again",
                "a new file with the lines that did not end well by these outcomes, after a query "
                "of each order",
            )

    def _check_same(self, path: Path, name: str, mine: str, other: str) -> None:
        if mine != other:
            raise _make_error(
                path,
                f"the batch began with the {name} {mine}, and this run has {other}: it does not "
                "know what was executed",
                f"the {name} of the first run; or, if nothing of this file was ever sent, move "
                f"{path.name} away",
            )


def begin_outcomes(path: Path, stamp: Stamp, *, retention: float) -> Stamp:
    """Stamp the file of outcomes before anything is sent, or check the stamp that it has.

    Args:
        path: the file of outcomes.
        stamp: of the run that is about to begin.
        retention: seconds for which the store remembers a finished operation.

    Returns:
        The stamp of the first run, which all later ones keep.

    Raises:
        InvalidRequestError: the run may not begin; nothing was sent.
    """
    if os.path.lexists(path):
        first = Stamp.read(path)
        first.check(path, stamp, retention=retention)
        remove_leftovers(path)
        return first
    try:
        write_in_one_piece(path, f"{stamp.to_json()}\n")
    except OSError as error:
        raise _make_error(path, f"cannot be written ({error.strerror})") from error
    return stamp


def to_text(moment: datetime) -> str:
    """Write a moment, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _make_error(path: Path, reason: str, allowed: str = "") -> InvalidRequestError:
    return InvalidRequestError(f"{path}: {reason}", allowed=allowed)
