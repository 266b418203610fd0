"""The check of a file: all of its faults, and requestIds that stand in it twice."""

import os
import sqlite3
from pathlib import Path

import pytest

from tests.batch.lines_files import APP_KEY, HEADER, refund_fields, write, write_json
from wxpay_async.batch.lines import Checked, Fault, read_lines
from wxpay_async.errors import InvalidRequestError

AMOUNTS = "yuan from 0.01 to 100000000000.00 with at most two decimal places"


def check(path: Path, **options: int) -> Checked:
    """Check a file of refunds."""
    return read_lines(path, "refund").check(APP_KEY, **options)


def test_file_without_faults_is_counted(tmp_path: Path) -> None:
    """Blank lines and the header are no requests."""
    path = write(tmp_path, f"\n{HEADER}\n\nr-1,R1,O1,1\n,,,\nr-2,R2,O2,1\n")
    assert Checked(lines=2, faults=(), more=0) == check(path)


def test_all_faults_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    """A merchant corrects them all at once."""
    path = write_json(
        tmp_path,
        refund_fields(1, refundAmount="1e2"),
        refund_fields(2),
        "[]",
        refund_fields(2),
        "",
        refund_fields(6, refundAmount="0"),
    )
    checked = check(path)
    assert (5, 0) == (checked.lines, checked.more)
    assert [1, 3, 4, 6] == [fault.line for fault in checked.faults]
    assert Fault(1, f"refundAmount: '1e2' is no amount; allowed: {AMOUNTS}") == checked.faults[0]


def test_each_duplicate_is_named_with_both_lines(tmp_path: Path) -> None:
    """The first line with the requestId, and each later one."""
    numbers = [1, 2, 1, 3, 2, 1]
    path = write_json(tmp_path, *(refund_fields(number) for number in numbers))
    checked = check(path)
    reasons = {fault.line: fault.reason for fault in checked.faults}
    assert {3, 5, 6} == reasons.keys()
    for line, first in ((3, 1), (5, 2), (6, 1)):
        assert reasons[line].startswith(f"requestId: the same as in line {first}")
    assert checked.faults[:1] == check(path, most=1).faults


def test_derived_request_ids_are_compared_too(tmp_path: Path) -> None:
    """Also with one that was written out."""
    derived = refund_fields(1, requestId=...)
    (line,) = read_lines(write_json(tmp_path, derived), "refund").read(APP_KEY)
    written = refund_fields(2, requestId=line.request_id)
    checked = check(write_json(tmp_path, derived, written, derived))
    assert [2, 3] == [fault.line for fault in checked.faults]


def test_request_ids_that_differ_by_the_case_of_a_letter_are_two(tmp_path: Path) -> None:
    """As they are for the platform."""
    rows = refund_fields(1, requestId="a"), refund_fields(2, requestId="A")
    assert () == check(write_json(tmp_path, *rows)).faults


def test_queries_may_stand_twice(tmp_path: Path) -> None:
    """They have no requestId and change nothing."""
    path = write_json(tmp_path, {"outTradeNo": "T1"}, {"outTradeNo": "T1"})
    assert Checked(lines=2, faults=(), more=0) == read_lines(path, "query").check(APP_KEY)


@pytest.mark.parametrize("most", [0, 1, 3, 8, 100])
def test_only_the_first_faults_are_kept_and_the_others_counted(tmp_path: Path, most: int) -> None:
    """Whatever kind they are of: here four duplicates and four bad amounts by turns."""
    rows = [refund_fields(0)]
    for number in range(4):
        rows += [refund_fields(number + 1, refundAmount="x"), refund_fields(0)]
    checked = check(write_json(tmp_path, *rows), most=most)
    assert list(range(2, 10))[:most] == [fault.line for fault in checked.faults]
    assert 8 == len(checked.faults) + checked.more


def test_duplicates_are_found_among_many_lines(tmp_path: Path) -> None:
    """More lines than are handed to the table at once, in both of its groups."""
    lines = [f"r-{n},R{n},O{n},1" for n in range(2500)]
    lines[500] = lines[2400] = lines[5]
    lines[999] = lines[1000]
    checked = check(write(tmp_path, "\n".join([HEADER, *lines])))
    assert 2500 == checked.lines
    assert [502, 1002, 2402] == [fault.line for fault in checked.faults]
    for fault, first in zip(checked.faults, (7, 1001, 7), strict=True):
        assert fault.reason.startswith(f"requestId: the same as in line {first};")


def test_file_is_the_same_after_its_check_or_is_refused(tmp_path: Path) -> None:
    """What nobody checked is not read; a further check makes it good."""
    path = write_json(tmp_path, refund_fields(1))
    lines = read_lines(path, "refund")
    lines.check(APP_KEY)
    assert 1 == len(list(lines.read(APP_KEY)))
    write_json(tmp_path, refund_fields(1), refund_fields(2))
    with pytest.raises(InvalidRequestError, match="changed after it was checked") as caught:
        next(lines.read(APP_KEY))
    assert str(path) in str(caught.value)
    assert 2 == lines.check(APP_KEY).lines
    assert 2 == len(list(lines.read(APP_KEY)))


def test_file_that_was_written_anew_in_the_same_length_is_noticed(tmp_path: Path) -> None:
    """Even with the same time."""
    path = write_json(tmp_path, refund_fields(1))
    lines = read_lines(path, "refund")
    lines.check(APP_KEY)
    status = path.stat()
    new = write_json(tmp_path, refund_fields(2), name="new")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    with pytest.raises(InvalidRequestError, match="changed after it was checked"):
        next(lines.read(APP_KEY))


def test_trouble_with_the_temporary_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no traceback of SQLite."""

    class FullDisk(sqlite3.Connection):
        def executemany(self, *_: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("database or disk is full")

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **options: connect(*a, factory=FullDisk, **options)
    )
    with pytest.raises(InvalidRequestError, match=r"disk is full.*SQLITE_TMPDIR"):
        check(write_json(tmp_path, refund_fields()))
