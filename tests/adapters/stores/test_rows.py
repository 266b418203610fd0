"""Check that a record survives its row, also as the texts that Redis keeps."""

from __future__ import annotations

import attrs
import pytest

from tests.support.records import EVERY_FIELD, make_fingerprint, make_record
from wxpay_async.adapters.stores.rows import find_tend_time, from_row, to_row
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import FINISHED, State

FULL = EVERY_FIELD | {"reply": b""}


@pytest.mark.parametrize("changes", [{}, FULL], ids=["reserved", "full"])
def test_record_comes_back_from_its_row(changes: dict[str, object]) -> None:
    """Every field has its value and its type again; names of a database's own are passed over."""
    record = make_record(fingerprint=make_fingerprint(主题="ü", a="1"), **changes)

    found = from_row({**to_row(record), "tend_at": 1.0})

    assert record == found
    assert dict(record.fingerprint.fields) == dict(found.fingerprint.fields)
    assert _types(record) == _types(found)


def test_record_comes_back_from_texts() -> None:
    """Redis keeps the bytes of a text for each value, and nothing for None."""
    record = make_record(**FULL)
    kept = {name: value for name, value in to_row(record).items() if value is not None}
    texts = {
        name: value if isinstance(value, bytes) else _write_text(value)
        for name, value in kept.items()
    }

    found = from_row(texts)

    assert record == found
    assert _types(record) == _types(found)
    assert attrs.evolve(record, status=None) == from_row(
        {name: text for name, text in texts.items() if name != "status"}
    )


def test_row_of_record_has_plain_values() -> None:
    """Two of its columns are the fingerprint's; an enumeration would not be every driver's."""
    row = to_row(make_record(**FULL))
    names = {field.name for field in attrs.fields(IdempotencyRecord)} - {"fingerprint"}

    assert names | {"digest", "fields"} == set(row)
    assert {str, bytes, int, float, bool} == {type(value) for value in row.values()}


@pytest.mark.parametrize("state", State)
def test_tend_time_of_record_is_that_of_its_state(state: State) -> None:
    """A lease's end, a query's time, or the last write; none for what waits for a person."""
    record = make_record(state=state, lease_until=1.0, next_check_at=2.0, updated_at=3.0)
    times = {State.SENDING: 1.0, State.UNKNOWN: 2.0, State.PENDING: 2.0, State.RESERVED: 3.0}
    times |= dict.fromkeys(FINISHED, 3.0)

    assert times.get(state) == find_tend_time(record)


def test_record_that_is_never_due_has_no_tend_time() -> None:
    """An open operation without a query's time, and a reservation that is in doubt."""
    assert find_tend_time(make_record(state=State.UNKNOWN)) is None
    assert find_tend_time(make_record(in_doubt=True)) is None


def _types(record: IdempotencyRecord) -> list[type]:
    return [type(value) for value in attrs.asdict(record, recurse=False).values()]


def _write_text(value: str | float) -> bytes:
    if isinstance(value, bool):
        return b"1" if value else b"0"
    return (value if isinstance(value, str) else repr(value)).encode()
