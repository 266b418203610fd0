"""Files that nobody should have handed in: each is named, and memory stays bounded."""

import contextlib
import io
import json
import os
import tracemalloc
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from tests.batch.lines_files import APP_KEY, HEADER, read, read_fault, refund_fields, write
from tests.protocol.samples import OPENID, TOKEN
from wxpay_async.batch.line import OPERATION_NAMES, OperationName
from wxpay_async.batch.lines import read_lines
from wxpay_async.errors import InvalidRequestError

ROW = "r-1,R1,O1,12.50"


def refuse(path: Path) -> str:
    """Return what both reading and checking raise."""
    texts: set[str] = set()
    begins: tuple[Callable[[], object], ...] = (
        lambda: read(path),
        lambda: read_lines(path, "refund").check(APP_KEY),
    )
    for begin in begins:
        with pytest.raises(InvalidRequestError) as caught:
            begin()
        texts.add(str(caught.value))
    (text,) = texts
    assert str(path) in text
    return text


def test_absent_file_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    assert "cannot be read (No such file" in refuse(tmp_path / "absent.csv")


def test_directory_is_named(tmp_path: Path) -> None:
    """A path that is one name too short."""
    assert "a directory" in refuse(tmp_path)


def test_path_through_a_file_and_path_too_long_are_named(tmp_path: Path) -> None:
    """Whatever the system says."""
    assert "cannot be read (" in refuse(write(tmp_path, ROW) / "refunds.csv")
    assert "cannot be read (" in refuse(tmp_path / ("x" * 5000))


def test_name_with_a_nul_is_no_name(tmp_path: Path) -> None:
    """Python raises something of its own for it."""
    with pytest.raises(InvalidRequestError, match="no name of a file"):
        read(tmp_path / "a\0b.csv")


@pytest.mark.skipif(os.name != "posix", reason="there are no pipes with names")
def test_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """A batch is read more than once."""
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    assert "no regular file" in refuse(path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_file_without_permission_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    path = write(tmp_path, f"{HEADER}\n{ROW}\n")
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refuse(path)


def test_failing_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the file was opened already."""
    path = write(tmp_path, f"{HEADER}\n{ROW}\n")

    class FailingFile(io.FileIO):
        def read(self, _: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", lambda self, *_, **__: FailingFile(self))
    assert "cannot be read (Input/output error)" in refuse(path)


@pytest.mark.parametrize(
    "content", ["", "\n\n", "\ufeff", " \r\n", f"{HEADER}\n", f"{HEADER}\n,,,\n"]
)
def test_file_without_a_request_is_named(tmp_path: Path, content: str) -> None:
    """An export that found nothing may have failed."""
    text = refuse(write(tmp_path, content))
    assert "the file is empty" in text or "no request stands in the file" in text


def test_gbk_is_named_with_its_line(tmp_path: Path) -> None:
    """As a Chinese spreadsheet writes CSV by default."""
    content = f"{HEADER}\n{ROW}\nr-2,退款2,O2,1\n".encode("gbk")
    text = read_fault(write(tmp_path, content))
    assert "line 3: byte 5 is no UTF-8; allowed: UTF-8" in text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["refunds.csv", "refunds.jsonl"])
def test_utf_16_is_named(tmp_path: Path, encoding: str, name: str) -> None:
    """As some editors write by default."""
    content = f"{HEADER}\n{ROW}\n".encode(encoding)
    assert "line 1: a NUL byte; allowed: UTF-8" in read_fault(write(tmp_path, content, name=name))


def test_nul_byte_is_named(tmp_path: Path) -> None:
    """It ends the text for some programs, and not for others."""
    text = read_fault(write(tmp_path, f"{HEADER}\n{ROW}\nr-2,R2\0,O2,1\n"))
    assert "line 3: a NUL byte" in text


def test_line_that_ends_with_cr_alone_is_named(tmp_path: Path) -> None:
    """To another reader these are two lines."""
    text = read_fault(write(tmp_path, f"{HEADER}\n{ROW}\rr-2,R2,O2,1\n"))
    assert "line 2: a CR within the line; allowed: lines that end with LF or CRLF" in text


@pytest.mark.parametrize("end", ["\n" + ROW, ""])
def test_line_of_10_mb_is_passed_over_and_named(tmp_path: Path, end: str) -> None:
    """It is not kept in memory, and what follows is read."""
    path = write(tmp_path, f"{HEADER}\n" + "1" * 10_000_000 + end)
    tracemalloc.start()
    try:
        text = read_fault(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "line 2: the line is too long; allowed: at most 1048576 bytes" in text
    assert peak < 4_000_000
    assert (2 if end else 1) == read_lines(path, "refund").check(APP_KEY).lines


@pytest.mark.parametrize("size", [2**16, 2**20 - 1, 2**20, 2**20 + 1, 2**20 + 2**16])
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_length_of_a_line_is_counted_to_its_end(tmp_path: Path, size: int, end: str) -> None:
    """A line of exactly the limit is read; the CR of its end may be over it."""
    row = json.dumps(refund_fields())
    text = row + " " * (size - len(row)) + end + row + "\n"
    checked = read_lines(write(tmp_path, text, name="a.jsonl"), "refund").check(APP_KEY)
    too_long = any("the line is too long" in fault.reason for fault in checked.faults)
    if end:
        assert too_long == (size + len(end) - 1 > 2**20)
        assert 2 == checked.lines
    else:
        assert 1 == checked.lines  # two objects on one line


def test_growing_file_is_read_to_where_it_ended_and_named(tmp_path: Path) -> None:
    """Its new lines were not there when it was begun, and may be half written."""
    rows = [f"r-{n},R{n},O{n},1\n" for n in range(20_000)]
    path = write(tmp_path, f"{HEADER}\n" + "".join(rows))
    lines = read_lines(path, "refund").read(APP_KEY)
    seen = [next(lines).number]
    with path.open("a") as file:
        file.write("r-new,R-new,O-new,1\n")
    with pytest.raises(InvalidRequestError, match="changed while it was read") as caught:
        seen.extend(line.number for line in lines)
    assert f"{path}, after line {seen[-1]}: " in str(caught.value)
    assert len(seen) < 20_000


def test_file_that_grows_behind_its_last_line_is_named_at_the_end(tmp_path: Path) -> None:
    """Else its new lines would look as if they were done."""
    path = write(tmp_path, f"{HEADER}\n{ROW}\n")
    lines = read_lines(path, "refund").read(APP_KEY)
    next(lines)
    with path.open("a") as file:
        file.write("r-2,R2,O2,1\n")
    with pytest.raises(InvalidRequestError, match="after line 2: the file changed while"):
        next(lines)


def test_file_that_is_cut_or_touched_while_it_is_read_is_named(tmp_path: Path) -> None:
    """Its length or its time is another one."""
    changes: tuple[Callable[[Path], object], ...] = (
        lambda path: os.truncate(path, 10),
        lambda path: os.utime(path, ns=(0, 0)),
    )
    for change in changes:
        path = write(tmp_path, f"{HEADER}\n" + "".join(f"r-{n},R{n},O{n},1\n" for n in range(9000)))
        lines = read_lines(path, "refund").read(APP_KEY)
        next(lines)
        change(path)
        with pytest.raises(InvalidRequestError, match="changed while it was read"):
            list(lines)


def count_open_files() -> int:
    """Return how many files this process has open; 0 where the system does not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_file_is_closed_when_its_reader_stops(tmp_path: Path) -> None:
    """A batch that was interrupted holds nothing open."""
    path = write(tmp_path, f"{HEADER}\n{ROW}\nr-2,R2,O2,1\n")
    opened = count_open_files()
    lines = read_lines(path, "refund").read(APP_KEY)
    next(lines)
    assert isinstance(lines, Generator)
    lines.close()
    assert opened == count_open_files()


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("1.00")
)
NAMES = st.sampled_from(
    [
        *HEADER.split(","),
        "refund_amount",
        "royaltyInfo",
        "payToken",
        "terminalPayerId",
        "tradeInfo",
        "payMethod",
        "payerIp",
        "amount",
        "quantity",
        "extra",
        "tradeNo",
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=12,
)


@given(
    st.binary(max_size=200),
    st.sampled_from(OPERATION_NAMES),
    st.sampled_from(["csv", "jsonl", "x"]),
)
@example(b"\xef\xbb\xbf{", "refund", "x")
@example(b"\xef\xbb", "refund", "csv")
def test_no_bytes_raise_anything_else(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, operation: OperationName, ending: str
) -> None:
    """Whatever stands in the file, the error is ours."""
    path = write(tmp_path_factory.getbasetemp(), content, name=f"bytes.{ending}")
    for begin in (read, lambda p, o: read_lines(p, o).check(APP_KEY)):
        with contextlib.suppress(InvalidRequestError):
            begin(path, operation)


@given(st.dictionaries(NAMES, JSON, max_size=8), st.sampled_from(OPERATION_NAMES))
def test_no_json_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, object], operation: OperationName
) -> None:
    """Values of every kind in every place."""
    content = json.dumps(row) + "\n" + json.dumps(row, ensure_ascii=True)
    path = write(tmp_path_factory.getbasetemp(), content, name="json.jsonl")
    assert 2 == read_lines(path, operation).check(APP_KEY).lines


COLUMNS = ("requestId", "outTradeNo", "payToken", "terminalPayerId", "appId", "targetOrganization")


@given(
    columns=st.permutations(COLUMNS),
    headless=st.booleans(),
    spoiling=st.sampled_from(["", " ", "\0", "\r", '"', ",", "&"]),
)
@example(
    columns=[*COLUMNS[:2], "targetOrganization", *COLUMNS[3:5], "payToken"],
    headless=False,
    spoiling="",
)
@pytest.mark.parametrize("secrets", [(TOKEN, OPENID), ("1234567890" * 3, "ABCDEF/+" * 4)])
def test_no_secret_is_repeated_by_an_error(
    tmp_path_factory: pytest.TempPathFactory,
    secrets: tuple[str, str],
    *,
    columns: list[str],
    headless: bool,
    spoiling: str,
) -> None:
    """Columns may be mixed up, the header may be missing, and anything may follow a cell."""
    token, openid = secrets
    cells = ["r-1", "T1", token, openid, "wx1", "WECHAT"]
    header = "" if headless else ",".join(columns) + "\n"
    table = write(
        tmp_path_factory.getbasetemp(),
        header + ",".join(cell + spoiling for cell in cells) + "\n",
        name="pay.csv",
    )
    row = dict(zip(columns, [cell + spoiling for cell in cells], strict=True))
    rows = write(
        tmp_path_factory.getbasetemp(),
        json.dumps(row) + "\n" + json.dumps(dict(zip(row.values(), row, strict=True))),
        name="pay.jsonl",
    )
    for path in (table, rows):
        checked = read_lines(path, "pay").check(APP_KEY)
        for fault in checked.faults:
            assert token[:8] not in fault.reason
            assert openid[:8] not in fault.reason
        try:
            read(path, "pay")
        except InvalidRequestError as error:
            said = f"{error} {error.__cause__} {error.field} {error.allowed}"
            assert token[:8] not in said
            assert openid[:8] not in said
