"""Turn an operation's record into a flat row and back, for every store that writes it down.

A row has one value for each field: a text, bytes, a number, a boolean or None. Of the fingerprint
it keeps the digest and, as JSON, the digests of the fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from wxpay_async.policy.record import OPEN, IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import Fingerprint

Value: TypeAlias = str | bytes | float | None


def to_row(record: IdempotencyRecord) -> dict[str, Value]:
    """Return the record as a row."""
    row = _WRITE(record)
    row["digest"] = record.fingerprint.digest
    row["fields"] = json.dumps(dict(record.fingerprint.fields))
    return row


def from_row(row: Mapping[str, Value]) -> IdempotencyRecord:
    """Return the record of a row.

    Args:
        row: what `to_row` made. A number, a boolean or a text may have become the bytes of its
            text, and None may be absent: that is how Redis keeps them. Other names are passed over.
    """
    digest, fields = _read_text(row["digest"]), _read_text(row["fields"])
    return _READ({**row, "fingerprint": Fingerprint(digest, json.loads(fields))}, IdempotencyRecord)


def find_tend_time(record: IdempotencyRecord) -> float | None:
    """Return when a sweep must look at the record.

    That is at the end of a lease, at the time of a query, or counted from the last write of what
    may be forgotten. None if it must be left alone.
    """
    if record.state is State.SENDING:
        return record.lease_until
    if record.state in OPEN:
        return record.next_check_at
    return record.updated_at if record.evictable() else None


def _read_text(value: Value, _: object = None) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# A value of each type is read from itself, or from the bytes of its text.
_READERS: Final[Mapping[type, Callable[[str | bytes | float, object], object]]] = {
    str: _read_text,
    State: lambda value, _: State(_read_text(value)),
    int: lambda value, _: int(value),
    float: lambda value, _: float(value),
    bool: lambda value, _: value in {True, b"1"},
    bytes: lambda value, _: value,
    Fingerprint: lambda value, _: value,
}


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=False)
    for kind, read in _READERS.items():
        converter.register_structure_hook(kind, read)
    return converter


_CONVERTER: Final = _make_converter()
_WRITE: Final = make_dict_unstructure_fn(
    IdempotencyRecord,
    _CONVERTER,
    state=override(unstruct_hook=lambda state: state.value),
    fingerprint=override(omit=True),
)
_READ: Final = make_dict_structure_fn(
    IdempotencyRecord, _CONVERTER, _cattrs_detailed_validation=False
)
